"""Arithmetic for formulas, in lax's operations: they trace in a third of the time of jax.numpy's.

A first call traces a value and its slope, a hundred operations, before anything is compiled.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxact._core import subnormals


class Real:
    """A real (or boolean) array with operators; the other operand is a Real or a Python number."""

    __slots__ = ("array",)

    def __init__(self, array: jax.Array):
        self.array = array

    def _operand(self, other: Any) -> Any:
        # lax does not promote: a Python number has the dtype that jax_enable_x64 says.
        return other.array if isinstance(other, Real) else self.array.dtype.type(other)

    def __add__(self, other: Any) -> "Real":
        return Real(lax.add(self.array, self._operand(other)))

    def __radd__(self, other: Any) -> "Real":
        return Real(lax.add(self._operand(other), self.array))

    def __sub__(self, other: Any) -> "Real":
        return Real(lax.sub(self.array, self._operand(other)))

    def __rsub__(self, other: Any) -> "Real":
        return Real(lax.sub(self._operand(other), self.array))

    def __mul__(self, other: Any) -> "Real":
        return Real(lax.mul(self.array, self._operand(other)))

    def __rmul__(self, other: Any) -> "Real":
        return Real(lax.mul(self._operand(other), self.array))

    def __truediv__(self, other: Any) -> "Real":
        return Real(lax.div(self.array, self._operand(other)))

    def __rtruediv__(self, other: Any) -> "Real":
        return Real(lax.div(self._operand(other), self.array))

    def __neg__(self) -> "Real":
        return Real(lax.neg(self.array))

    def __abs__(self) -> "Real":
        return Real(lax.abs(self.array))

    def __and__(self, other: "Real") -> "Real":
        return Real(lax.bitwise_and(self.array, other.array))

    def __or__(self, other: "Real") -> "Real":
        return Real(lax.bitwise_or(self.array, other.array))

    def __lt__(self, other: Any) -> "Real":
        return Real(lax.lt(self.array, self._operand(other)))

    def __le__(self, other: Any) -> "Real":
        return Real(lax.le(self.array, self._operand(other)))

    def __gt__(self, other: Any) -> "Real":
        return Real(lax.gt(self.array, self._operand(other)))

    def __ge__(self, other: Any) -> "Real":
        return Real(lax.ge(self.array, self._operand(other)))


def where(condition: Real, x: Any, y: Any) -> Real:
    """x where the condition holds, y elsewhere."""
    arrays = [v.array for v in (x, y, condition) if isinstance(v, Real)]
    shaped = max(arrays, key=np.ndim)
    return Real(lax.select(condition.array, *(_full(v, shaped, arrays[0].dtype) for v in (x, y))))


def _full(value: Any, shaped: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """The value as an array of the shape of ``shaped``."""
    if not isinstance(value, Real):
        return lax.full_like(shaped, value, dtype)
    if value.array.shape == shaped.shape:
        return value.array
    axes = range(shaped.ndim - value.array.ndim, shaped.ndim)
    sharding = jax.typeof(shaped).sharding
    return lax.broadcast_in_dim(value.array, shaped.shape, axes, out_sharding=sharding)


def maximum(x: Real, y: Any) -> Real:
    return Real(lax.max(x.array, x._operand(y)))


def minimum(x: Real, y: Any) -> Real:
    return Real(lax.min(x.array, x._operand(y)))


def clip(x: Real, low: Any, high: Any) -> Real:
    if isinstance(low, Real) or isinstance(high, Real):
        # With x first: where a program takes a call apart, the probe knows it by that.
        return minimum(maximum(x, low), high)
    return Real(lax.clamp(x._operand(low), x.array, x._operand(high)))


def equals(x: Real, number: float) -> Real:
    return Real(lax.eq(x.array, x._operand(number)))


def is_nan(x: Real) -> Real:
    return Real(lax.ne(x.array, x.array))


def has_sign(x: Real) -> Real:
    """Whether the sign bit is set: of -0.0 too."""
    return Real(subnormals.has_sign(x.array))


def is_positive(x: Real) -> Real:
    """x > 0, for subnormals too; not for NaN."""
    return Real(subnormals.is_positive(x.array))


def is_negative(x: Real) -> Real:
    """x < 0, for subnormals too, and some NaNs; not for -0.0."""
    return Real(subnormals.is_negative(x.array))


def is_greater(x: Real, threshold: Real) -> Real:
    """x > threshold, exact for subnormals where the threshold is 0."""
    return Real(subnormals.is_greater(x.array, threshold.array))


def is_less(x: Real, threshold: Real) -> Real:
    """x < threshold, exact for subnormals where the threshold is 0."""
    return Real(subnormals.is_less(x.array, threshold.array))


def pieces(x: Real, *cases: tuple[Real, Any], otherwise: Any) -> Real:
    """The value of the first case that holds, else ``otherwise``; NaN where ``x`` is NaN."""
    result = otherwise
    for holds, value in reversed(cases):
        result = where(holds, value, result)
    # The NaN is the input's: a literal one would trip jax_debug_nans.
    return where(is_nan(x), x, result)


def on_arrays(formula: Callable[..., Real]) -> Callable[..., jax.Array]:
    """The formula as a function of arrays; what is not real, a key's words, it gets as it is."""

    def operand(x: Any) -> Any:
        # Without a jit around it, a number is still one.
        array = x if isinstance(x, jax.Array) else jnp.asarray(x)
        return array if jnp.issubdtype(array.dtype, jnp.integer) else Real(array)

    return lambda *inputs: formula(*map(operand, inputs)).array
