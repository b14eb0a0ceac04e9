"""The same function in jaxact, jax.nn and PyTorch, with their default parameters."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

import jaxact
from jaxact import gated

Function = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Peers:
    """One function and its peers, None where a library lacks it."""

    name: str
    jaxact: Function
    jax_nn: Function | None
    #: The name in torch.nn.functional, and keyword arguments.
    torch: tuple[str, dict[str, Any]] | None = None
    #: What a user of JAX writes in place of a function that jax.nn lacks.
    written_out: Function | None = None

    def torch_function(self) -> Function | None:
        """PyTorch's function, or None where PyTorch is not installed or lacks it."""
        try:
            from torch.nn import functional
        except ImportError:
            return None
        if self.torch is None:
            return None
        name, options = self.torch
        return functools.partial(getattr(functional, name), **options)


def _same(
    name: str, torch: str | None = None, written_out: Function | None = None, **options: Any
) -> Peers:
    return Peers(
        name,
        getattr(jaxact, name),
        getattr(jax.nn, name, None),
        None if torch is None else (torch, options),
        written_out,
    )


def _xielu(x: jax.Array) -> jax.Array:
    negative = jnp.minimum(x, 0)
    below = 0.8 * (jnp.expm1(negative) - negative) + 0.5 * x
    return jnp.where(x > 0, x * (0.8 * x + 0.5), below)


_WITH_PEERS: tuple[Peers, ...] = (
    _same("identity"),
    _same("relu", "relu"),
    _same("relu6", "relu6"),
    _same("leaky_relu", "leaky_relu"),
    Peers(
        "prelu",
        functools.partial(jaxact.prelu, alpha=0.25),
        None,
        written_out=lambda x: jnp.where(x >= 0, x, 0.25 * x),
    ),
    Peers(
        "rrelu",
        lambda x: jaxact.rrelu(x, jax.random.key(0)),
        None,
        ("rrelu", {"training": True}),
    ),
    _same("elu", "elu"),
    _same("celu", "celu"),
    _same("selu", "selu"),
    _same("gelu", "gelu", approximate="tanh"),
    Peers(
        "gelu(approximate=False)",
        functools.partial(jaxact.gelu, approximate=False),
        functools.partial(jax.nn.gelu, approximate=False),
        ("gelu", {}),
    ),
    _same("silu", "silu"),
    _same("mish", "mish"),
    _same("softplus", "softplus"),
    _same("sigmoid", "sigmoid"),
    _same("log_sigmoid", "logsigmoid"),
    _same("tanh", "tanh"),
    _same("soft_sign", "softsign"),
    _same("hard_tanh", "hardtanh"),
    _same("hard_sigmoid", "hardsigmoid"),
    _same("hard_silu", "hardswish"),
    _same("quick_gelu", written_out=lambda x: x * jax.nn.sigmoid(1.702 * x)),
    _same("leaky_relu_squared", written_out=lambda x: jnp.square(jax.nn.leaky_relu(x, 0.5))),
    Peers(
        "softcap",
        functools.partial(jaxact.softcap, cap=30.0),
        None,
        written_out=lambda x: 30.0 * jnp.tanh(x / 30.0),
    ),
    Peers(
        "xielu",
        functools.partial(jaxact.xielu, alpha_p=0.8, alpha_n=0.8),
        None,
        written_out=_xielu,
    ),
    _same("snake", written_out=lambda x: x + jnp.square(jnp.sin(x))),
    _same("relu_squared", written_out=lambda x: jnp.square(jax.nn.relu(x))),
    _same("hard_shrink", "hardshrink", lambda x: jnp.where(abs(x) > 0.5, x, 0)),
    _same("soft_shrink", "softshrink", lambda x: jnp.sign(x) * jnp.maximum(abs(x) - 0.5, 0)),
    _same("tanh_shrink", "tanhshrink", lambda x: x - jnp.tanh(x)),
    Peers(
        "threshold",
        functools.partial(jaxact.threshold, threshold=0.5, value=0.0),
        None,
        ("threshold", {"threshold": 0.5, "value": 0.0}),
        lambda x: jnp.where(x > 0.5, x, 0),
    ),
)
#: What takes two arrays, or returns more than it takes.
NOT_MEASURED = {*gated.__all__, "crelu"}


def _others() -> Iterator[Peers]:
    """The package's other functions, under their first names."""
    known = {peers.name for peers in _WITH_PEERS} | NOT_MEASURED
    for name, function in jaxact.ACTIVATIONS.items():
        if name == function.__name__ and name not in known:
            yield _same(name)


PEERS: tuple[Peers, ...] = (*_WITH_PEERS, *_others())
