"""The benchmark of depth measures what theory says where it says something."""

import math

import numpy as np
import pytest

from benchmarks import depth

ARMS = {arm.name: arm for arm in depth.ARMS}


def test_slopes_of_wide_layers():
    names = ("relu, He", "relu, LeCun", "leaky 0.2, He", "selu, LeCun")
    found = {name: depth.slope(ARMS[name]) for name in names}
    assert found["relu, He"] == pytest.approx(1, abs=1e-5)
    assert found["relu, LeCun"] == pytest.approx(0.5, abs=1e-5)
    assert found["leaky 0.2, He"] == pytest.approx(1, abs=1e-5)
    # scale^2 E[selu'^2] in closed form: 1 for z > 0, alpha^2 exp(2z) for z < 0.
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    closed = scale**2 * (1 + alpha**2 * math.exp(2) * math.erfc(2**0.5)) / 2
    assert found["selu, LeCun"] == pytest.approx(closed, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relu, LeCun", "selu, LeCun", "tanh, He"])
def test_signals_of_wide_layers(name):
    found = depth.signals(ARMS[name], layers=6, width=512, seeds=8)
    assert {figure.shape for figure in found.values()} == {(8, 6)}
    per_layer = (found["gradient"][:, 0] / found["gradient"][:, -1]) ** (1 / 5)
    assert np.exp(np.log(per_layer).mean()) == pytest.approx(depth.slope(ARMS[name]), rel=0.04)
    forward = (found["square"][:, -1] / found["square"][:, 0]) ** (1 / 5)
    expected = 0.5 if name == "relu, LeCun" else 1
    assert np.exp(np.log(forward).mean()) == pytest.approx(expected, rel=0.04)


@pytest.mark.slow
def test_relu_makes_inputs_alike_and_tanh_does_not():
    alike = depth.signals(ARMS["relu, He"], layers=30, width=256, seeds=4)["cosine"][:, -1]
    apart = depth.signals(ARMS["tanh, He"], layers=30, width=256, seeds=4)["cosine"][:, -1]
    assert (alike > 0.9).all()
    assert (apart < 0.5).all()


@pytest.mark.slow
def test_a_cell():
    data = depth.digits()
    assert [len(images) for images, _ in data] == [1197, 300, 300]
    setting = depth.Setting(rates=(0.0, 0.02, 1e9), seeds=2, steps=40)
    found = depth.train(ARMS["relu, He"], 3, setting, data)
    assert {figure.shape for figure in found.values()} == {(3, 2)}
    assert (found["validation"][0] < 0.4).all()  # It has learned nothing.
    assert (found["validation"][1] > 0.7).all()
    assert (found["test"][2] == np.float32(0.1)).all()  # It has diverged.


@pytest.mark.slow
def test_quick(capsys):
    depth.main(["--quick"])
    out = capsys.readouterr().out
    assert "relu, LeCun, 3 layers, rate 0.0" in out
    assert "Written" not in out
