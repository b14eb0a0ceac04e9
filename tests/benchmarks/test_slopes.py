"""The benchmark of learned and random slopes: what its arms share and what they differ in."""

import dataclasses

import numpy as np
import pytest

from benchmarks import results, slopes

SMALL = dataclasses.replace(slopes.QUICK[0], steps=20, rate=0.01)


@pytest.mark.slow
def test_prelu_learns_its_slopes_and_decay_is_for_the_named_ones():
    decayed = slopes.by_decay(SMALL, decays=(0.0, 50.0))
    weights, both = decayed["weights"], decayed["weights and slopes"]
    assert weights["0.0"]["slopes"].shape == (2, 3, 2)
    np.testing.assert_array_equal(weights["0.0"]["slopes"][:, 0], 0.25)
    assert (weights["0.0"]["slopes"][:, -1] != 0.25).all()
    np.testing.assert_allclose(weights["0.0"]["slopes"], both["0.0"]["slopes"], atol=1e-5)
    # 20 steps of a rate that is 0.005 in the mean, times 50: e^-5 of what it was.
    assert (np.abs(both["50.0"]["slopes"][:, -1]) < 0.1).all()
    assert (weights["50.0"]["slopes"][:, -1] > 0.15).all()


@pytest.mark.slow
def test_runs_of_one_seed_share_images_and_weights():
    problem = dataclasses.replace(SMALL, steps=2, rate=0.0)
    found = {
        name: slopes.by_size(activation, problem, sizes=(50, 1200))
        for name, activation in slopes.ACTIVATIONS.items()
        if name in ("leaky ReLU, 11/48", "leaky ReLU, 2/11", "RReLU", "RReLU, divisor")
    }
    small, large = (found["RReLU"][size] for size in ("50", "1200"))
    # Without training, nothing but the training images' own accuracy knows of their number.
    np.testing.assert_array_equal(small["test"], large["test"])
    assert (small["train"] != large["train"]).any()
    # In evaluation RReLU is leaky ReLU.
    for random, constant in (("RReLU", "11/48"), ("RReLU, divisor", "2/11")):
        one, other = found[random]["50"], found[f"leaky ReLU, {constant}"]["50"]
        np.testing.assert_allclose(one["test loss"], other["test loss"], rtol=1e-5)
    assert (found["RReLU"]["50"]["test loss"] != found["RReLU, divisor"]["50"]["test loss"]).all()


@pytest.mark.slow
def test_it_runs_and_saves_nothing_when_quick(monkeypatch, capsys):
    some = ("ReLU", "RReLU, divisor")
    monkeypatch.setattr(slopes, "ACTIVATIONS", {name: slopes.ACTIVATIONS[name] for name in some})
    monkeypatch.setattr(results, "save", None)
    slopes.main(["--quick"])
    out = capsys.readouterr().out
    assert "weights and slopes" in out and "RReLU, divisor" in out
