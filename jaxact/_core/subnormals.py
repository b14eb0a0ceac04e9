"""Comparisons that see subnormal numbers, where the hardware's treat them as zeros.

XLA's CPU backend and TPUs flush subnormal operands: there ``-1e-40 >= 0`` is true, and a slope
chosen with it is wrong. Comparing the bits as integers is exact, and as fast.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def _bits(x: jax.Array, kind: str) -> jax.Array:
    return lax.bitcast_convert_type(x, np.dtype(f"{kind}{x.dtype.itemsize}"))


def has_sign(x: jax.Array) -> jax.Array:
    """Whether the sign bit is set: of -0.0 too."""
    bits = _bits(x, "i")
    return lax.lt(bits, bits.dtype.type(0))


def is_positive(x: jax.Array) -> jax.Array:
    """x > 0, for subnormals too; not for NaN."""
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    infinity = int(np.asarray(math.inf, x.dtype).view(unsigned))
    # What is below 1 wraps around.
    distance = lax.sub(_bits(x, "u"), unsigned.type(1))
    return lax.lt(distance, unsigned.type(infinity))


def is_negative(x: jax.Array) -> jax.Array:
    """x < 0, for subnormals too, and some NaNs; not for -0.0."""
    bits = _bits(lax.neg(x), "i")
    return lax.gt(bits, bits.dtype.type(0))


def is_greater(x: jax.Array, threshold: jax.Array) -> jax.Array:
    """x > threshold, exact for subnormals where the threshold is 0."""
    return jnp.where(threshold == 0, is_positive(x), x > threshold)


def is_less(x: jax.Array, threshold: jax.Array) -> jax.Array:
    """x < threshold, exact for subnormals where the threshold is 0."""
    return jnp.where(threshold == 0, is_negative(x) & (x == x), x < threshold)
