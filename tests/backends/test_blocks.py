"""Feed-forward layers take no more cycles than with jax.nn, on the TPU compilers' own account."""

import itertools

import pytest

from benchmarks import blocks
from benchmarks.blocks import CHIPS, LIMIT, OURS, Case

LAYERS = [
    *(("mlp", name) for name in ("relu", "leaky_relu", "gelu", "silu")),
    *(("gated_mlp", name) for name in ("silu", "gelu", "relu")),
]


@pytest.mark.parametrize(
    ("chip", "layer", "library"),
    itertools.product(CHIPS, LAYERS, OURS),
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_cycles(chip, layer, library):
    assert blocks.ratio(Case(chip, *layer, library)) <= LIMIT
