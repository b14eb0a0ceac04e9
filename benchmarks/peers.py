"""The same function in jaxact, jax.nn and PyTorch, with their default parameters."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

import jaxact

Function = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Peers:
    """One function and its peers, None where a library lacks it."""

    name: str
    jaxact: Function
    jax_nn: Function | None
    #: The name in torch.nn.functional, and keyword arguments.
    torch: tuple[str, dict[str, Any]] | None = None

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


def _same(name: str, torch: str | None = None, **options: Any) -> Peers:
    return Peers(
        name,
        getattr(jaxact, name),
        getattr(jax.nn, name, None),
        None if torch is None else (torch, options),
    )


PEERS: tuple[Peers, ...] = (
    _same("identity"),
    _same("relu", "relu"),
    _same("relu6", "relu6"),
    _same("leaky_relu", "leaky_relu"),
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
    _same("squareplus"),
    _same("hard_tanh", "hardtanh"),
    _same("hard_sigmoid", "hardsigmoid"),
    _same("hard_silu", "hardswish"),
    _same("sparse_plus"),
    _same("sparse_sigmoid"),
    _same("relu_squared"),
    _same("quick_gelu"),
    _same("hard_shrink", "hardshrink"),
    _same("soft_shrink", "softshrink"),
    _same("tanh_shrink", "tanhshrink"),
)
