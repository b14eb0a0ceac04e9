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


def _in_bits(x: jax.Array, low: float, high: float) -> jax.Array:
    """low < x <= high, of one sign and low nearer to 0: the order of their bits."""
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    first, last = (int(np.asarray(end, x.dtype).view(unsigned)) for end in (low, high))
    # What is below the first wraps around.
    distance = lax.sub(_bits(x, "u"), np.asarray(first + 1, unsigned))
    return lax.lt(distance, np.asarray(last - first, unsigned))


def is_positive(x: jax.Array) -> jax.Array:
    """x > 0, for subnormals too; not for NaN."""
    return _in_bits(x, 0.0, math.inf)


def is_negative(x: jax.Array) -> jax.Array:
    """x < 0, for subnormals too; not for -0.0 and NaN."""
    return _in_bits(x, -0.0, -math.inf)


def is_greater(x: jax.Array, threshold: jax.Array) -> jax.Array:
    """x > threshold, exact for subnormals where the threshold is 0."""
    return jnp.where(threshold == 0, is_positive(x), x > threshold)


def is_less(x: jax.Array, threshold: jax.Array) -> jax.Array:
    """x < threshold, exact for subnormals where the threshold is 0."""
    return jnp.where(threshold == 0, is_negative(x), x < threshold)
