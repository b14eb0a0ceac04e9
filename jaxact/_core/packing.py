"""Numbers of 1, 2 or 4 bits packed into bytes: 8, 4 or 2 adjacent ones of the last axis share one.

Adjacent elements are on the same device wherever the last axis is sharded in multiples of eight, so
packing moves nothing. A last axis of another length is padded; its last byte is part empty.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def pack(numbers: jax.Array, width: int = 1) -> jax.Array:
    """Numbers (..., n) of ``width`` bits as bytes (..., ceil(n width / 8)); a scalar has one."""
    numbers = numbers.reshape(1) if numbers.ndim == 0 else numbers
    per_byte = 8 // width
    padding = -numbers.shape[-1] % per_byte
    if padding:
        numbers = jnp.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, padding)])
    shape = (*numbers.shape[:-1], numbers.shape[-1] // per_byte, per_byte)
    groups = _reshape(numbers, shape, numbers, (None,)).astype(jnp.uint8)
    return jnp.sum(groups << _shifts(width, numbers.ndim), -1, dtype=jnp.uint8)


def unpack(packed: jax.Array, shape: tuple[int, ...], width: int = 1) -> jax.Array:
    """The packed numbers of an array of that shape, a byte each."""
    groups = (packed[..., None] >> _shifts(width, packed.ndim)) & np.uint8(2**width - 1)
    length = packed.shape[-1] * (8 // width)
    numbers = _reshape(groups, (*packed.shape[:-1], length), packed, ())
    if not shape:
        return numbers[0]
    return numbers if length == shape[-1] else lax.slice_in_dim(numbers, 0, shape[-1], axis=-1)


def packs_locally(x: jax.Array) -> bool:
    """Whether no byte is shared by two devices, as far as the array's type tells.

    It tells on Explicit meshes, where packing across devices is an error.
    """
    if x.ndim == 0:
        return True
    if not isinstance(x.shape[-1], int):
        return False  # A symbolic length.
    sharding = jax.typeof(x).sharding
    names = axis_names(sharding.spec[-1])
    shards = math.prod(sharding.mesh.shape[name] for name in names)
    return not names or x.shape[-1] % (8 * shards) == 0


def axis_names(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The mesh axes of one entry of a partition spec."""
    return () if axes is None else axes if isinstance(axes, tuple) else (axes,)


def _shifts(width: int, axis: int) -> jax.Array:
    return lax.broadcasted_iota(jnp.uint8, (1,) * axis + (8 // width,), axis) * np.uint8(width)


def _reshape(
    x: jax.Array, shape: tuple[int, ...], like: jax.Array, extra: tuple[None, ...]
) -> jax.Array:
    """``x`` in another shape, sharded as ``like`` is and not along the ``extra`` axes."""
    sharding = jax.typeof(like).sharding
    if all(axes is None for axes in sharding.spec):
        return lax.reshape(x, shape)
    spec = jax.sharding.PartitionSpec(*sharding.spec, *extra)
    return lax.reshape(x, shape, out_sharding=jax.sharding.NamedSharding(sharding.mesh, spec))
