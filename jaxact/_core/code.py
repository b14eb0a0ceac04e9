"""A few bits an element in place of the input: which of 2, 4, 8 or 16 pieces it lies in.

Each piece has a representative, an input whose slope stands for those of the piece: exactly for a
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

    @property
    def widths(self) -> tuple[int, ...]:
        """The bits in the parts that are packed one by one: a byte holds 1, 2 or 4 only."""
        return (2, 1) if self.bits == 3 else (self.bits,)

    def encode(self, x: jax.Array, *parameters: Any) -> tuple[jax.Array, ...]:
        """The pieces, packed."""
        piece = self.piece(x, *parameters)
        if len(self.widths) == 1:
            return (pack(piece, self.bits),)
        low, high = self.widths
        return pack(piece & np.uint8(2**low - 1), low), pack(piece >> np.uint8(low), high)

    def pullback(
        self,
        rule: Callable[..., jax.Array],
        packed: tuple[jax.Array, ...],
        g: jax.Array,
        *parameters: Any,
    ) -> jax.Array:
        """``rule(g, x, *parameters)``, with the representatives for x."""
        inputs = [jnp.asarray(x, g.dtype) for x in self.representatives(*parameters)]
        if self.bits == 1:
            # The rule selects what becomes of g, and may not be a multiplication.
            return rule(g, self._choose(inputs, packed, g), *parameters)
        # Slopes of the pieces, not of the elements: nothing is computed more than 16 times.
        x = jnp.stack(inputs)
        slopes = rule(jnp.ones_like(x), x, *parameters)
        return g * self._choose(list(slopes), packed, g)

    def _choose(
        self, options: list[jax.Array], packed: tuple[jax.Array, ...], like: jax.Array
    ) -> jax.Array:
        """The option of each element's piece, in the shape of ``like``."""
        for part, width in zip(packed, self.widths, strict=True):
            number = unpack(part, like.shape, width)
            for bit in range(width):
                is_set = (number & np.uint8(1 << bit)) != 0
                pairs = zip(options[::2], options[1::2], strict=True)
                options = [jnp.where(is_set, high, low) for low, high in pairs]
        return options[0]


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
