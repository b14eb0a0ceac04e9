"""The memory of models before and after a swap."""

import json

import jax.numpy as jnp
import pytest

from benchmarks import results, swapped_memory
from benchmarks.swapped_memory import BLOCK, MASK, SWAPPED, WRITTEN

LAYERS, WIDTH, ROWS = 8, 512, 16384
ARRAY = 4 * ROWS * WIDTH


def test_what_a_sum_reads():
    """jax.nn's relu keeps a byte an element, ours the output, and under "mask" a bit."""
    plain, swapped, mask = (
        swapped_memory.residuals("x + relu(dense(x))", variant)
        for variant in (WRITTEN, SWAPPED, MASK)
    )
    assert swapped - plain == LAYERS * (ARRAY - ARRAY // 4)
    assert plain - mask == LAYERS * (ARRAY // 4 - ARRAY // 32)


@pytest.mark.slow
def test_a_block_in_one_call_keeps_less():
    kept = {
        variant: swapped_memory.residuals("transformer, gelu", variant)
        for variant in (WRITTEN, SWAPPED, BLOCK)
    }
    hidden = 4 * 8 * 8192 * 2048
    assert kept[WRITTEN] - kept[SWAPPED] == 4 * hidden
    assert kept[SWAPPED] - kept[BLOCK] == hidden


def test_each_model_has_its_variants():
    for name, model in swapped_memory.MODELS.items():
        assert (BLOCK in swapped_memory.variants(name)) == (model.block is not None)
    with pytest.raises(ValueError, match="no block"):
        swapped_memory.loss_of("convolutions, relu", BLOCK, jnp.float32)


@pytest.mark.slow
def test_quick(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    swapped_memory.main(["--quick", "--save"])
    assert "x + relu(dense(x))" in capsys.readouterr().out
    figures = json.loads((tmp_path / "swapped_memory.json").read_text())["figures"]
    ((name, of_name),) = figures.items()
    assert list(of_name) == swapped_memory.variants(name)
    assert all(set(found) == {"residuals", "cpu"} for found in of_name.values())
    assert of_name[MASK]["cpu"] < of_name[WRITTEN]["cpu"]
