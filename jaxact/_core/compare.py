"""Comparisons that see subnormal numbers, where the hardware's treat them as zeros.

XLA's CPU backend and TPUs flush subnormal operands: there ``-1e-40 >= 0`` is true, and a slope
chosen with it is wrong. Comparing the bits as integers is exact, and as fast.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def _bits(x: jax.Array, kind: str) -> jax.Array:
    return lax.bitcast_convert_type(x, np.dtype(f"{kind}{x.dtype.itemsize}"))


def is_positive(x: jax.Array) -> jax.Array:
    """x > 0, for subnormals too. NaN may be on either side."""
    return _bits(x, "i") > 0


def is_negative(x: jax.Array) -> jax.Array:
    """x < 0, for subnormals too (-0.0 is not negative). NaN may be on either side."""
    bits = _bits(x, "u")
    return bits > jnp.asarray(1 << (8 * x.dtype.itemsize - 1), bits.dtype)


def is_greater(x: jax.Array, threshold: jax.Array) -> jax.Array:
    """x > threshold, exact for subnormals where the threshold is 0."""
    return jnp.where(threshold == 0, is_positive(x), x > threshold)


def is_less(x: jax.Array, threshold: jax.Array) -> jax.Array:
    """x < threshold, exact for subnormals where the threshold is 0."""
    return jnp.where(threshold == 0, is_negative(x), x < threshold)
