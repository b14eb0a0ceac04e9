"""Uniform random numbers that are a function of (key, index) alone.

Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
written as elementwise integer operations: XLA fuses it into the loop that uses the numbers, so
they are never stored, and every shard of an array computes its own without communication.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA
_WORD = 1 << 32


def threefry2x32(
    key: tuple[jax.Array, jax.Array], counter: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Two random 32-bit words for a two-word key and a two-word counter."""
    schedule = (*key, key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    x, y = counter[0] + schedule[0], counter[1] + schedule[1]
    for i in range(20):
        r = _ROTATIONS[i % 8]
        x = x + y
        y = ((y << jnp.uint32(r)) | (y >> jnp.uint32(32 - r))) ^ x
        if i % 4 == 3:
            injection = i // 4 + 1
            x = x + schedule[injection % 3]
            y = y + schedule[(injection + 1) % 3] + jnp.uint32(injection)
    return x, y


def key_words(key: jax.Array) -> jax.Array:
    """The two words of a JAX key, typed or raw; a key of another generator is folded to two."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape == (2,):
            return key
        key = jax.random.wrap_key_data(key, impl="rbg")
    data = jax.random.key_data(key)
    return data if data.shape == (2,) else jax.random.bits(key, (2,), jnp.uint32)


def uniform(words: jax.Array, like: jax.Array) -> jax.Array:
    """Uniform numbers in [0, 1) in the shape, sharding and dtype (float32 or float64) of ``like``.

    Element i is made of Threefry's output for the counter i, its first 24 bits (float32) or 53.
    """
    index = _indices(like)
    first, second = threefry2x32((words[0], words[1]), index)
    if like.dtype.itemsize == 4:
        return _to_float(first >> jnp.uint32(8), like) * 2.0**-24
    high, low = first >> jnp.uint32(5), second >> jnp.uint32(6)
    return (_to_float(high, like) * 2.0**26 + _to_float(low, like)) * 2.0**-53


def _to_float(x: jax.Array, like: jax.Array) -> jax.Array:
    # Below 2^31, and conversions from signed integers are the faster ones on every backend.
    return x.astype(jnp.int32).astype(like.dtype)


def _indices(like: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each element's row-major index in the (global) array, as a high and a low 32-bit word.

    It is a sum over the axes rather than a reshaped range, so that it is sharded as ``like`` is.
    """
    coordinates = [_iota(jnp.uint32, like, axis) for axis in range(like.ndim)]
    zero = jnp.uint32(0)
    index = (zero, zero)
    stride = _words(1)
    # The size of a symbolic shape is not known.
    small = isinstance(like.size, int) and like.size <= _WORD
    for axis in reversed(range(like.ndim)):
        size = _words(like.shape[axis])
        if small:
            index = (zero, index[1] + coordinates[axis] * stride[1])
            stride = (zero, stride[1] * size[1])
        else:
            coordinate = (_overflow(like, axis, coordinates[axis]), coordinates[axis])
            index = _add_wide(index, multiply_wide(coordinate, stride))
            stride = multiply_wide(stride, size)
    return index


Words = tuple[jax.Array, jax.Array]


def _words(n: Any) -> Words:
    """A size as (high, low) words; a symbolic size, which JAX computes, has just a low word."""
    if isinstance(n, int):
        return jnp.uint32(n // _WORD), jnp.uint32(n % _WORD)
    return jnp.uint32(0), jnp.asarray(n).astype(jnp.uint32)


def _add_wide(x: Words, y: Words) -> Words:
    low = x[1] + y[1]
    # A sum that is smaller than a term has wrapped round.
    return x[0] + y[0] + (low < y[1]).astype(jnp.uint32), low


def multiply_wide(x: Words, y: Words) -> Words:
    """x * y modulo 2^64, in (high, low) words."""
    half, sixteen = jnp.uint32(0xFFFF), jnp.uint32(16)
    a, b = x[1] >> sixteen, x[1] & half
    c, d = y[1] >> sixteen, y[1] & half
    middle = a * d + ((b * d) >> sixteen)
    carried = b * c + (middle & half)
    high = a * c + (middle >> sixteen) + (carried >> sixteen)
    return high + x[0] * y[1] + x[1] * y[0], x[1] * y[1]


def _overflow(like: jax.Array, axis: int, low: jax.Array) -> jax.Array:
    """How often the 32-bit coordinate along an axis has wrapped round.

    A float32 coordinate is exact to 2^-24 of its value: enough to count the wraps.
    """
    size = like.shape[axis]
    if not isinstance(size, int) or size <= _WORD:
        return jnp.uint32(0)
    approximate = _iota(jnp.float32, like, axis) - low.astype(jnp.float32)
    return jnp.round(approximate * 2.0**-32).astype(jnp.uint32)


def _iota(dtype: jnp.dtype, like: jax.Array, axis: int) -> jax.Array:
    sharding = jax.typeof(like).sharding
    explicit = sharding if any(p is not None for p in sharding.spec) else None
    return lax.broadcasted_iota(dtype, like.shape, axis, out_sharding=explicit)
