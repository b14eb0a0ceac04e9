"""Bits packed into bytes: eight adjacent elements of the last axis share one.

Adjacent elements are on the same device wherever the last axis is sharded in multiples of eight, so
packing moves nothing. A last axis of another length is padded; its last byte is part empty.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax


def pack(bits: jax.Array) -> jax.Array:
    """Booleans (..., n) as bytes (..., ceil(n / 8)); a scalar as one byte."""
    bits = bits.reshape(1) if bits.ndim == 0 else bits
    padding = -bits.shape[-1] % 8
    if padding:
        bits = jnp.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, padding)])
    groups = _reshape(bits, (*bits.shape[:-1], bits.shape[-1] // 8, 8), bits, (None,))
    return jnp.sum(groups.astype(jnp.uint8) << _positions(bits.ndim), -1, dtype=jnp.uint8)


def unpack(packed: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The booleans of an array of that shape."""
    groups = (packed[..., None] >> _positions(packed.ndim)) & jnp.uint8(1)
    length = packed.shape[-1] * 8
    bits = _reshape(groups, (*packed.shape[:-1], length), packed, ()) != 0
    if not shape:
        return bits[0]
    return bits if length == shape[-1] else lax.slice_in_dim(bits, 0, shape[-1], axis=-1)


def packs_locally(x: jax.Array) -> bool:
    """Whether no byte is shared by two devices, as far as the array's type tells.

    It tells on Explicit meshes, where packing across devices is an error.
    """
    if x.ndim == 0:
        return True
    if not isinstance(x.shape[-1], int):
        return False  # A symbolic length.
    sharding = jax.typeof(x).sharding
    axes = sharding.spec[-1]
    if axes is None:
        return True
    names = axes if isinstance(axes, tuple) else (axes,)
    shards = math.prod(sharding.mesh.shape[name] for name in names)
    return x.shape[-1] % (8 * shards) == 0


def _positions(axis: int) -> jax.Array:
    return lax.broadcasted_iota(jnp.uint8, (1,) * axis + (8,), axis)


def _reshape(
    x: jax.Array, shape: tuple[int, ...], like: jax.Array, extra: tuple[None, ...]
) -> jax.Array:
    """``x`` in another shape, sharded as ``like`` is and not along the ``extra`` axes."""
    sharding = jax.typeof(like).sharding
    if all(axes is None for axes in sharding.spec):
        return lax.reshape(x, shape)
    spec = jax.sharding.PartitionSpec(*sharding.spec, *extra)
    return lax.reshape(x, shape, out_sharding=jax.sharding.NamedSharding(sharding.mesh, spec))
