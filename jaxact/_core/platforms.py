"""Operations that a platform or a version has a better way for, or none."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@jax.custom_jvp
def kept(x: jax.Array) -> jax.Array:
    """``x``, in a form that XLA does not merge with what else is computed from it.

    The CPU compiler merges all the same: there the barrier only makes two loops of one.
    """
    return lax.platform_dependent(x, cpu=lambda x: x, default=lax.optimization_barrier)


kept.defjvp(lambda x, t: (kept(*x), t[0]))


def recomputed(
    function: Callable[..., jax.Array], *, barrier: bool = False
) -> Callable[..., jax.Array]:
    """The function under ``jax.checkpoint``; it sees itself that XLA merges nothing.

    The ``barrier`` of ``jax.checkpoint`` would take in the cotangents too, and cost GPUs and
    scanned layers copies.
    """
    if getattr(jax.config, "jax_remat3", False):
        # What JAX's next version makes of it has no transpose yet: JAX keeps what it chooses to.
        return function
    return jax.checkpoint(function, prevent_cse=barrier)


def rounded(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """``x`` in ``dtype``, rounded to nearest even."""
    if x.dtype == jnp.float32 and dtype == jnp.bfloat16:
        return _rounded_to_bfloat16(x)
    return x if x.dtype == dtype else lax.convert_element_type(x, dtype)


@jax.custom_jvp
def _rounded_to_bfloat16(x: jax.Array) -> jax.Array:
    return lax.platform_dependent(
        x, cpu=_upper_half, default=lambda x: lax.convert_element_type(x, jnp.bfloat16)
    )


@_rounded_to_bfloat16.defjvp
def _rounded_jvp(x: tuple[jax.Array], t: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    return _rounded_to_bfloat16(*x), lax.convert_element_type(t[0], jnp.bfloat16)


def _upper_half(x: jax.Array) -> jax.Array:
    """The upper 16 bits, rounded: bfloat16.

    XLA's own conversion costs up to as much as the function before it; some versions on some CPUs
    convert one element at a time. The carry of a rounded NaN would reach its sign; but those here
    were made by the hardware, or from a bfloat16, and their lower bits are 0.
    """
    bits = lax.bitcast_convert_type(x, np.uint32)
    half = np.uint32(16)
    last = lax.bitwise_and(lax.shift_right_logical(bits, half), np.uint32(1))
    upper = lax.shift_right_logical(lax.add(bits, lax.add(last, np.uint32(0x7FFF))), half)
    return lax.bitcast_convert_type(lax.convert_element_type(upper, np.uint16), jnp.bfloat16)
