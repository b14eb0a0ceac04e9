"""Gated linear units: an activation of one half, times the other."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxact._core.elementwise import Elementwise, named_jit
from jaxact._core.inputs import axis_index, real_array
from jaxact.piecewise_linear import _relu
from jaxact.smooth import _gelu_erf, _gelu_tanh, _sigmoid, _silu

#: The public functions, in the order of `jaxact.ACTIVATIONS`.
__all__ = [  # noqa: RUF022
    "glu",
    "swiglu",
    "geglu",
    "reglu",
    "bilinear_glu",
]


def _product_with(name: str, activation: Elementwise, mark: str = "") -> Elementwise:
    """act(gate) * up, from an activation's declaration."""
    (partial,) = activation.partials
    assert partial is not None

    def value(size: int, gate: jax.Array, up: jax.Array) -> jax.Array:
        return activation.formula(activation.value, size)(gate) * up

    def gate_partial(size: int, t: jax.Array, gate: jax.Array, up: jax.Array) -> jax.Array:
        return activation.formula(partial, size)(t * up, gate)

    def up_partial(size: int, t: jax.Array, gate: jax.Array, up: jax.Array) -> jax.Array:
        return t * activation.differentiable(size, gate)

    def plain(gate: jax.Array, up: jax.Array) -> jax.Array:
        return activation.plain(gate) * up

    return Elementwise(
        name,
        value,
        [gate_partial, up_partial],
        plain=plain,
        arrays=("gate", "up"),
        sized=True,
        mark=mark,
        kind=activation.kind,
        binary=activation.binary,
        gate=activation,
    )


_swiglu = _product_with("swiglu", _silu)
_geglu_tanh = _product_with("geglu", _gelu_tanh)
_geglu_erf = _product_with("geglu", _gelu_erf, mark="geglu_erf")
_reglu = _product_with("reglu", _relu)
_sigmoid_gate = _product_with("glu", _sigmoid)
_bilinear_glu = Elementwise(
    "bilinear_glu",
    lambda gate, up: gate * up,
    [lambda t, gate, up: t * up, lambda t, gate, up: t * gate],
    plain=lambda gate, up: gate * up,
    kind="open",
    arrays=("gate", "up"),
)


def takes_gate_and_up(function: Any) -> bool:
    """Whether it is one of this module's functions of two arrays, its parameters set or not."""
    function = function.func if isinstance(function, functools.partial) else function
    return any(function is globals()[name] for name in __all__ if name != "glu")


def _apply(function: Elementwise, gate: ArrayLike, up: ArrayLike) -> jax.Array:
    gate = real_array(function.name, gate, "gate")
    up = real_array(function.name, up, "up")
    try:
        jnp.broadcast_shapes(gate.shape, up.shape)
    except ValueError:
        raise ValueError(
            f"{function.name}: gate {gate.shape} and up {up.shape} do not broadcast; "
            "give both the same shape."
        ) from None
    if gate.dtype != up.dtype:
        dtype = jnp.result_type(gate, up)
        gate, up = gate.astype(dtype), up.astype(dtype)
    return function.jitted(gate, up)


def glu(x: ArrayLike, axis: int = -1) -> jax.Array:
    r"""Gated linear unit.

    $$
    \mathrm{glu}(x) = a \, \sigma(b)
    $$

    with a and b the first and the second half of x. Residual: the input.

    Args:
      x: any real array-like of at least one dimension.
      axis: the axis to split, of even length; the result is half as long there.

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: ``axis`` out of range, or of odd length.

    Reference: Dauphin et al., "Language modeling with gated convolutional networks", 2016 (arXiv
    1612.08083).

    Examples:
      >>> glu([1.0, 2.0, 0.0, 0.0])
      Array([0.5, 1. ], dtype=float32)
    """
    x = real_array("glu", x)
    axis = axis_index("glu", axis, x.ndim)
    if x.shape[axis] % 2:
        raise ValueError(
            f"glu: axis {axis} of x {x.shape} has odd length {x.shape[axis]}; it must be even, to "
            "split into two halves."
        )
    return _glu(x, axis)


def _split_and_gate(x: jax.Array, axis: int) -> jax.Array:
    half = x.shape[axis] // 2
    a = lax.slice_in_dim(x, 0, half, axis=axis)
    b = lax.slice_in_dim(x, half, None, axis=axis)
    return _sigmoid_gate.apply(b, a)


_glu = named_jit("glu", _split_and_gate, static_argnums=1)


def swiglu(gate: ArrayLike, up: ArrayLike) -> jax.Array:
    r"""Gated linear unit with a SiLU gate.

    $$
    \mathrm{swiglu}(g, u) = \mathrm{silu}(g) \, u
    $$

    Residual: both inputs.

    Args:
      gate: any real array-like.
      up: likewise, of a shape that broadcasts against that of ``gate``.

    Returns:
      An array of the promoted dtype of both.

    Raises:
      TypeError: complex input.
      ValueError: the shapes do not broadcast.

    Reference: Shazeer, "GLU variants improve transformer", 2020 (arXiv 2002.05202).

    Examples:
      >>> swiglu([0.0, 2.0], [3.0, 3.0]).round(4)
      Array([0.    , 5.2848], dtype=float32)
    """
    return _apply(_swiglu, gate, up)


def geglu(gate: ArrayLike, up: ArrayLike, *, approximate: bool = True) -> jax.Array:
    r"""Gated linear unit with a GELU gate.

    $$
    \mathrm{geglu}(g, u) = \mathrm{gelu}(g) \, u
    $$

    Residual: both inputs.

    Args:
      gate: any real array-like.
      up: likewise, of a shape that broadcasts against that of ``gate``.
      approximate: the tanh form of `gelu`, or the exact one.

    Returns:
      An array of the promoted dtype of both.

    Raises:
      TypeError: complex input.
      ValueError: the shapes do not broadcast.

    Reference: Shazeer, "GLU variants improve transformer", 2020 (arXiv 2002.05202).

    Examples:
      >>> geglu([0.0, 2.0], [3.0, 3.0]).round(4)
      Array([0.    , 5.8638], dtype=float32)
    """
    return _apply(_geglu_tanh if approximate else _geglu_erf, gate, up)


def reglu(gate: ArrayLike, up: ArrayLike) -> jax.Array:
    r"""Gated linear unit with a ReLU gate.

    $$
    \mathrm{reglu}(g, u) = \max(g, 0) \, u
    $$

    The derivative for g at 0 is 0. Residual: both inputs.

    Args:
      gate: any real array-like.
      up: likewise, of a shape that broadcasts against that of ``gate``.

    Returns:
      An array of the promoted dtype of both.

    Raises:
      TypeError: complex input.
      ValueError: the shapes do not broadcast.

    Reference: Shazeer, "GLU variants improve transformer", 2020 (arXiv 2002.05202).

    Examples:
      >>> reglu([-1.0, 2.0], [3.0, 3.0])
      Array([0., 6.], dtype=float32)
    """
    return _apply(_reglu, gate, up)


def bilinear_glu(gate: ArrayLike, up: ArrayLike) -> jax.Array:
    r"""Gated linear unit without an activation: the product of both.

    $$
    \mathrm{bilinear\_glu}(g, u) = g u
    $$

    Residual: both inputs.

    Args:
      gate: any real array-like.
      up: likewise, of a shape that broadcasts against that of ``gate``.

    Returns:
      An array of the promoted dtype of both.

    Raises:
      TypeError: complex input.
      ValueError: the shapes do not broadcast.

    Reference: Shazeer, "GLU variants improve transformer", 2020 (arXiv 2002.05202).

    Examples:
      >>> bilinear_glu([-1.0, 2.0], [3.0, 3.0])
      Array([-3.,  6.], dtype=float32)
    """
    return _apply(_bilinear_glu, gate, up)
