"""A few bits an element in place of the input: which of 2, 4, 8 or 16 pieces it lies in.

For a function that has two slopes, a bit tells which: the gradient is exact. For a smooth one, each
piece has a representative, an input whose slope stands for the slopes of the piece.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxact._core.cells import CELLS
from jaxact._core.packing import pack, unpack
from jaxact._core.subnormals import is_positive

Formula = Callable[..., jax.Array]


class TwoSlopes(NamedTuple):
    """A function whose slope takes two values.

    Attributes:
      piece: ``(x, *parameters)`` -> whether x is where the second slope holds.
      pullback: ``(t, piece, *parameters)`` -> t * df/dx.
    """

    piece: Formula
    pullback: Formula

    def encode(self, x: jax.Array, *parameters: Any) -> tuple[jax.Array, ...]:
        """The piece of each element, packed."""
        return (pack(self.piece(x, *parameters)),)

    def decode(
        self, rule: Formula, packed: tuple[jax.Array, ...], t: jax.Array, *parameters: Any
    ) -> jax.Array:
        """t * df/dx."""
        return self.pullback(t, unpack(packed[0], t.shape) != 0, *parameters)


class Quantized(NamedTuple):
    """A smooth function on 2^bits cells: the names of `CELLS` and the bits."""

    name: str
    bits: int

    @property
    def widths(self) -> tuple[int, ...]:
        """The bits in the parts that are packed one by one: a byte holds 1, 2 or 4 only."""
        return (2, 1) if self.bits == 3 else (self.bits,)

    def encode(self, x: jax.Array, *parameters: Any) -> tuple[jax.Array, ...]:
        """The cell of each element, packed."""
        cell = functools.reduce(
            jnp.add,
            [
                (x > boundary if boundary else is_positive(x)).astype(jnp.uint8)
                for boundary in CELLS[self.name][self.bits].boundaries
            ],
        )
        if len(self.widths) == 1:
            return (pack(cell, self.bits),)
        low, high = self.widths
        return pack(cell & np.uint8(2**low - 1), low), pack(cell >> np.uint8(low), high)

    def decode(
        self, rule: Formula, packed: tuple[jax.Array, ...], t: jax.Array, *parameters: Any
    ) -> jax.Array:
        """t * df/dx, from the function's own ``rule(t, x, *parameters)``."""
        # Slopes of the cells, not of the elements: nothing is computed more than 16 times.
        x = jnp.asarray(CELLS[self.name][self.bits].representatives, t.dtype)
        slopes = list(rule(jnp.ones_like(x), x, *parameters))
        for part, width in zip(packed, self.widths, strict=True):
            number = unpack(part, t.shape, width)
            for bit in range(width):
                is_set = (number & np.uint8(1 << bit)) != 0
                pairs = zip(slopes[::2], slopes[1::2], strict=True)
                slopes = [jnp.where(is_set, high, low) for low, high in pairs]
        return t * slopes[0]


Code = TwoSlopes | Quantized
