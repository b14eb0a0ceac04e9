"""A few bits an element in place of the input: which of 2, 4, 8 or 16 pieces it lies in.

Decoding gives an input of that piece, whose slope stands for those of the piece: exactly for a
function that has two slopes, else approximately.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxact._core.cells import CELLS
from jaxact._core.compare import is_positive
from jaxact._core.packing import pack, unpack


class Code(NamedTuple):
    """How an input is coded.

    Attributes:
      bits: the number of bits.
      piece: ``(x, *parameters)`` -> the piece that x lies in, an integer or boolean.
      representatives: ``(*parameters)`` -> an input of each piece.
    """

    bits: int
    piece: Callable[..., jax.Array]
    representatives: Callable[..., tuple[Any, ...]]

    def encode(self, x: jax.Array, *parameters: Any) -> tuple[jax.Array, ...]:
        """Each bit of the pieces, packed."""
        piece = self.piece(x, *parameters)
        if self.bits == 1:
            return (pack(piece),)
        return tuple(pack((piece & np.uint8(1 << bit)) != 0) for bit in range(self.bits))

    def decode(self, packed: tuple[jax.Array, ...], like: jax.Array, *parameters: Any) -> jax.Array:
        """An input of each element's piece, in the shape and dtype of ``like``."""
        inputs = [jnp.asarray(x, like.dtype) for x in self.representatives(*parameters)]
        for bits in packed:
            bit = unpack(bits, like.shape)
            pairs = zip(inputs[::2], inputs[1::2], strict=True)
            inputs = [jnp.where(bit, high, low) for low, high in pairs]
        return inputs[0]


@functools.cache
def cell_code(function: str, bits: int) -> Code:
    """The code of a smooth function's cells: the same for all of its parameters."""
    cells = CELLS[function][bits]

    def piece(x: jax.Array, *parameters: Any) -> jax.Array:
        above = [
            (x > boundary if boundary else is_positive(x)).astype(jnp.uint8)
            for boundary in cells.boundaries
        ]
        return sum(above[1:], start=above[0])

    return Code(bits, piece, lambda *parameters: cells.representatives)
