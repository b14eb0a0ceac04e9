"""What the layers of Flax NNX and Linen share: everything but how Flax keeps their parameters."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxact import feedforward
from jaxact._core.inputs import axis_index, parameter, real_array
from jaxact.piecewise_linear import prelu, rrelu
from jaxact.recent import xielu
from jaxact.registry import ACTIVATIONS, Activation, get, takes_gate_and_up
from jaxact.smooth import silu, softplus

#: An initializer as in ``jax.nn.initializers``, also one wrapped in Flax's ``with_partitioning``.
Initializer = Callable[..., Any]

KERNEL_INIT: Initializer = jax.nn.initializers.lecun_normal()
BIAS_INIT: Initializer = jax.nn.initializers.zeros


def constant(value: ArrayLike | Initializer) -> Initializer:
    """The initializer of a learned parameter that starts at a number, or at an array's entries."""
    if callable(value):
        return value
    return lambda key, shape, dtype: jnp.broadcast_to(jnp.asarray(value, dtype), shape)


def channels(layer: str, features: int | None, partitioning: Any) -> tuple[int, ...]:
    """The shape of a parameter for each of the features, or of one parameter that they share."""
    if features is None:
        if partitioning is not None:
            raise ValueError(
                f"{layer}: one shared parameter cannot lie on the mesh axis {partitioning!r}; "
                "give features, for one per channel, or leave partitioning out."
            )
        return ()
    if isinstance(features, bool) or not hasattr(features, "__index__") or features < 1:
        raise ValueError(
            f"{layer}: features must be the number of channels, or None for one parameter that "
            f"they share; got {features!r}."
        )
    return (features,)


def cast(x: ArrayLike, dtype: Any) -> ArrayLike:
    """``x`` in the dtype to compute in; None leaves it."""
    return x if dtype is None else jnp.asarray(x, dtype)


def prelu_of(x: ArrayLike, *, alpha: jax.Array, axis: int, dtype: Any) -> jax.Array:
    """`jaxact.prelu` in the dtype to compute in."""
    return prelu(cast(x, dtype), alpha, axis=axis)


def swish(x: ArrayLike, *, beta: jax.Array, axis: int, dtype: Any) -> jax.Array:
    """`jaxact.silu` with a scalar ``beta``, or one for each channel along ``axis``."""
    x = real_array("Swish", cast(x, dtype))
    return silu(x, beta=_along("Swish", beta, axis, x.shape))


def xielu_of(
    x: ArrayLike,
    *,
    alpha_p: jax.Array,
    alpha_n: jax.Array,
    beta: float,
    axis: int,
    dtype: Any,
) -> jax.Array:
    """`jaxact.xielu` of what a layer learns, of which softplus makes α_p and α_n - β."""
    x = real_array("XIELU", cast(x, dtype))
    wide = jnp.promote_types(alpha_p.dtype, jnp.float32)
    positive, negative = (
        softplus(_along("XIELU", raw, axis, x.shape).astype(wide)) for raw in (alpha_p, alpha_n)
    )
    return xielu(x, positive, beta + negative, beta=beta)


def inverse_softplus(name: str, init: ArrayLike | Initializer, least: float) -> Initializer:
    """The initializer of a parameter that softplus, plus ``least``, makes of what ``init`` says."""
    if isinstance(init, int | float) and not init > least:
        raise ValueError(f"XIELU: {name} must be larger than {least:g}, got {init!r}.")

    def initializer(key: jax.Array | None, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        wide = jnp.promote_types(dtype, jnp.float32)
        return jnp.log(jnp.expm1(constant(init)(key, shape, wide) - least)).astype(dtype)

    return initializer


def _along(layer: str, parameter: jax.Array, axis: int, shape: tuple[int, ...]) -> jax.Array:
    """A parameter with an entry for each channel, such that it broadcasts against x."""
    if not parameter.ndim:
        return parameter
    axis = axis_index(layer, axis, len(shape))
    if parameter.size not in (1, shape[axis]):
        raise ValueError(
            f"{layer}: features is {parameter.size}, but axis {axis} of x {shape} has length "
            f"{shape[axis]}. Set features to that, or axis to the channels' axis."
        )
    return lax.expand_dims(parameter, [i for i in range(len(shape)) if i != axis])


def block_input(layer: str, x: ArrayLike, in_features: int) -> jax.Array:
    """A block's input, checked."""
    x = real_array(layer, x)
    if x.shape[-1:] != (in_features,):
        raise ValueError(
            f"{layer}: the last dimension of x must be in_features, {in_features}; "
            f"got x of shape {x.shape}."
        )
    return x


def block_output(
    block: str,
    activation: str | Activation,
    pre: tuple[jax.Array, ...],
    promoted: tuple[Any, Any, Any],
) -> jax.Array | None:
    """What a block returns that keeps its pre-activations, from a last layer like ``nnx.Linear``.

    Args:
      block: `jaxact.mlp` or `jaxact.gated_mlp`.
      activation: as these take it.
      pre: the pre-activations.
      promoted: of these the first, the kernel and the bias, in the last layer's dtype.

    Returns:
      The result; None where the kernel is no array, or of another dtype than what it multiplies.
    """
    h, kernel, bias = promoted
    if not isinstance(kernel, jax.Array) or h.dtype != pre[0].dtype:
        return None
    return feedforward.under_name(block, feedforward.output, activation, pre, kernel, bias)


def block_from_input(
    block: str,
    activation: str | Activation,
    first: Sequence[tuple[Any, Any, Any] | None],
    last: Callable[[jax.Array], tuple[Any, Any, Any] | None],
) -> jax.Array | None:
    """What a block returns that keeps its input alone.

    Args:
      block: `jaxact.mlp` or `jaxact.gated_mlp`.
      activation: as these take it.
      first: of each of the first layers the input, kernel and bias, in the layer's dtype; None if
        it does more than a product.
      last: the same of the last layer, from an array of the hidden activation's dtype.

    Returns:
      The result; None where a layer does more, or they differ in dtype.
    """
    known = [of for of in first if of is not None]
    if len(known) < len(first):
        return None
    x = known[0][0]
    of_last = last(jnp.zeros((), x.dtype))
    kernels = [kernel for _, kernel, _ in known]
    if (
        of_last is None
        or of_last[0].dtype != x.dtype
        or not all(isinstance(k, jax.Array) and k.dtype == x.dtype for k in (*kernels, of_last[1]))
    ):
        return None
    biases = [bias for *_, bias in known]
    return feedforward.call(
        block, activation, x, kernels, of_last[1], biases, of_last[2], save="input"
    )


def learned_or_random(activation: str | Activation) -> tuple[str | None, dict[str, Any]]:
    """``("PReLU" | "XIELU" | "RReLU" | None, arguments)``: the layer that an activation needs.

    Raises:
      TypeError, ValueError: not an activation (as `jaxact.get`), or a parameter is missing.
    """
    function: Any = get(activation)
    arguments = {}
    if isinstance(function, functools.partial):
        function, arguments = function.func, dict(function.keywords)
    if function is prelu:
        if "alpha" in arguments:
            parameter("prelu", "alpha", arguments["alpha"])
            arguments["slope_init"] = arguments.pop("alpha")
        return "PReLU", arguments
    if function is xielu:
        for name in ("alpha_p", "alpha_n"):
            if name in arguments:
                arguments[f"{name}_init"] = arguments.pop(name)
        return "XIELU", arguments
    if function is rrelu and "key" not in arguments:
        if not arguments.pop("deterministic", False):
            return "RReLU", arguments
    elif name := next((name for name, own in ACTIVATIONS.items() if own is function), ""):
        needed = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.default is p.empty and p.name not in {"x", "gate", "up", *arguments}
        ]
        if needed:
            raise ValueError(
                f"Activation: {name} needs values for {' and '.join(needed)}: "
                f"'{name}:{','.join(f'{parameter}=0.1' for parameter in needed)}'."
            )
    return None, {}


def applied(activation: Activation, x: ArrayLike, up: ArrayLike | None) -> jax.Array:
    """What an `Activation` returns: of one array, or of gate and up."""
    gated = takes_gate_and_up(activation)
    if gated and up is None:
        raise ValueError(
            f"Activation: {_name(activation)} takes two inputs; use GatedMLP, or call the layer "
            "with gate and up."
        )
    if not gated and up is not None:
        raise ValueError(f"Activation: {_name(activation)} takes one input; leave up out.")
    return activation(x, up) if gated else activation(x)


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or str(function)


def check_one_input(layer: str, activation: Any) -> None:
    """Raise ValueError for a function of gate and up."""
    function = get(activation) if isinstance(activation, str) else activation
    if takes_gate_and_up(function):
        raise ValueError(f"{layer}: {_name(function)} takes two inputs, gate and up; use GatedMLP.")


def no_key(fixes: str) -> str:
    """The message of an `RReLU` that has no key."""
    return (
        "RReLU: no key for its random slopes. Give it one, or use the mean slope; any of:\n" + fixes
    )
