"""The network that is trained, and the activations that fit into it."""

import functools
import inspect
import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxact import registry
from jaxact._errors import CompareError
from jaxact.nnx import Activation

_PARAMETER = re.compile(r"\s*(\w+\s*=.*|[-+.\d].*|true|false|inf|nan)\s*", re.IGNORECASE)


def split_names(text: str) -> tuple[str, ...]:
    """The activations of a comma-separated list, whose parameters may have commas too.

    What looks like a parameter, a number or ``name=value``, belongs to the activation before it.

    >>> split_names("relu, rrelu:lower=0.1,upper=0.3, elu")
    ('relu', 'rrelu:lower=0.1,upper=0.3', 'elu')
    """
    names: list[str] = []
    for item in text.split(","):
        if names and ":" in names[-1] and ":" not in item and _PARAMETER.fullmatch(item):
            names[-1] += "," + item.strip()
        else:
            names.append(item.strip())
    return tuple(names)


def check_activation(name: str) -> None:
    """Raise a `CompareError` unless the activation maps one array to another of its shape."""
    activation = _get(name)
    parameters = inspect.signature(activation).parameters.values()
    inputs = [p.name for p in parameters if p.name in ("gate", "up")]
    if inputs:
        raise CompareError(
            f"{name} combines two inputs ({', '.join(inputs)}); only activations of one input can "
            "be compared."
        )
    missing = [
        p.name
        for p in parameters
        if p.default is p.empty and p.name not in ("x", "key") and not _is_learned(name, p.name)
    ]
    if missing:
        raise CompareError(
            f"{name} needs values for {', '.join(missing)}: write for example "
            f"'{_base(name)}:{','.join(f'{p}=0.1' for p in missing)}'."
        )
    x = jnp.array([[-2.0, -0.5, 0.5, 2.0], [-1.0, -0.1, 0.1, 1.0]])
    try:
        y = make_activation(name, 4, jax.random.key(0))(x, deterministic=False)
    except CompareError:
        raise
    except (TypeError, ValueError) as error:
        raise CompareError(f"activation {name!r}: {error}") from error
    if y.shape != x.shape:
        raise CompareError(
            f"{name} changes the shape, from {x.shape} to {y.shape}; only elementwise activations "
            "can be compared."
        )
    if not jnp.isfinite(y).all():
        raise CompareError(f"{name} is not finite at x = {x.ravel()[~jnp.isfinite(y).ravel()][0]}.")


def _get(name: str) -> Callable[..., jax.Array]:
    try:
        return registry.get(name)
    except ValueError as error:
        raise CompareError(str(error).removeprefix("get: ")) from error


def _is_learned(name: str, parameter: str) -> bool:
    return _base(name) == "prelu" and parameter == "alpha"


def _base(name: str) -> str:
    return name.partition(":")[0]


def make_activation(name: str, features: int, key: jax.Array) -> Activation:
    """The layer of an activation's name, for inputs with that many features.

    PReLU learns a slope for each feature, starting at ``alpha`` if that is given. RReLU draws its
    slopes from the key, unless the name says ``deterministic=true``.
    """
    activation = _get(name)
    if _base(name) == "prelu" and "axis" in getattr(activation, "keywords", {}):
        raise CompareError(f"{name!r}: the slopes lie along the features; leave axis out.")
    return Activation(name, features, rngs=nnx.Rngs(rrelu=key))


def _he_normal(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    """Normal weights of variance 2 / fan-in (He et al. 2015)."""
    # Drawn as a vector, for which XLA compiles the generator several times faster.
    weights = jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)
    return weights * (2 / shape[0]) ** 0.5


class MLP(nnx.Module):
    """Linear layers with an activation after each but the last.

    The weights are He-normal (the activations of one comparison all start from the same ones), the
    biases 0, all float32.

    Args:
      activation: its name, as for `jaxact.get`.
      sizes: the numbers of features: of the input, of the hidden layers, of the output.
      dtype: in which the layers compute.
      weights_key: what the initial weights follow from.
      activation_key: what random slopes follow from.
    """

    def __init__(
        self,
        activation: str,
        sizes: Sequence[int],
        *,
        dtype: Any = jnp.float32,
        weights_key: jax.Array,
        activation_key: jax.Array,
    ):
        rngs = nnx.Rngs(params=weights_key)
        linear = functools.partial(nnx.Linear, dtype=dtype, kernel_init=_he_normal, rngs=rngs)
        *hidden, last = [linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.hidden = nnx.List(hidden)
        self.activations = nnx.List(
            make_activation(activation, width, jax.random.fold_in(activation_key, layer))
            for layer, width in enumerate(sizes[1:-1])
        )
        self.last = last

    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        for linear, activation in zip(self.hidden, self.activations, strict=True):
            x = activation(linear(x), deterministic=deterministic)
        return self.last(x)

    def slopes(self, x: jax.Array) -> list[jax.Array]:
        """The activations' derivatives at the pre-activations, ``(samples, width)`` a layer."""
        slopes = []
        for linear, activation in zip(self.hidden, self.activations, strict=True):
            x, pullback = jax.vjp(functools.partial(activation, deterministic=True), linear(x))
            slopes.append(pullback(jnp.ones_like(x))[0])
        return slopes
