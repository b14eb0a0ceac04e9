"""The arms of the language model differ in their feed-forward blocks alone."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks import gates

SWIGLU = gates.ARMS[-1]
TEXT = gates.Text(*(part[:200] for part in gates.documentation()))


@pytest.mark.parametrize("arm", gates.ARMS, ids=lambda arm: arm.name)
def test_equal_parameters_and_equal_weights_outside_of_the_block(arm):
    setting, reference = gates.Setting(), gates.ARMS[0]
    assert gates.parameters(arm, setting) == gates.parameters(reference, setting)
    own, other = (gates.initial(a, gates.QUICK, 3) for a in (arm, reference))
    for weights in (own, other):
        for name in ("in", "up", "down"):
            weights["blocks"].pop(name, None)
    jax.tree.map(np.testing.assert_array_equal, own, other)


def test_no_paragraph_is_in_two_parts_of_the_text():
    text = gates.documentation()
    parts = [
        set("".join([*gates.ALPHABET, "?"][i] for i in part).split("\n\n")) - {""} for part in text
    ]
    assert [len(part) > 100 for part in parts] == [True] * 3
    # But for some that differ in characters outside of the alphabet, or in an empty line.
    for i, part in enumerate(parts):
        for other in parts[:i]:
            assert len(part & other) <= 2, part & other


def test_a_character_is_predicted_from_those_before_it():
    weights = gates.initial(SWIGLU, gates.QUICK, 0)
    tokens = TEXT.train[None, : gates.QUICK.context]
    changed = tokens.copy()
    changed[0, 5] += 1
    before, after = (
        np.asarray(gates.logits(SWIGLU, gates.QUICK, weights, t)) for t in (tokens, changed)
    )
    np.testing.assert_array_equal(before[0, :5], after[0, :5])
    assert (before[0, 5:] != after[0, 5:]).any(-1).all()


@pytest.mark.slow
def test_a_run_is_the_same_among_others_and_until_a_step():
    runs = [(0, 4e-3), (0, 8e-3), (1, 4e-3)]
    together = gates.train(SWIGLU, gates.QUICK, runs, TEXT)
    assert together["train"].shape == (3, 2)
    assert len(set(together["test"].tolist())) == 3
    half = dataclasses.replace(gates.QUICK, stop=2)
    alone = gates.train(SWIGLU, half, runs[2:], TEXT)
    assert set(alone) == {"train"}
    np.testing.assert_allclose(alone["train"][0], together["train"][2, :1], rtol=1e-5)


@pytest.mark.slow
def test_quick(capsys):
    gates.main(["--quick"])
    out = capsys.readouterr().out
    assert "gates-rates: " in out
    assert "SwiGLU: " in out
    assert "Written" not in out
