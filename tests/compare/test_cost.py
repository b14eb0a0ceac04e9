import dataclasses

import numpy as np
import pytest

from jaxact._errors import CompareError
from jaxact.compare import budget, cost
from jaxact.compare.settings import Settings
from jaxact.compare.study import Sweep
from jaxact.compare.training import Program, programs, train
from tests.support.training import blobs

TINY = Settings(activations=("relu", "gelu"), seeds=2, epochs=2, widths=(6,), batch_size=16)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(cost, "SECONDS", 0.001)
    monkeypatch.setattr(cost, "ROUNDS", 3)


def test_costs(short):
    """A figure for each round; relu keeps its output, gelu its pre-activation too."""
    found = cost.measure(TINY, [blobs()])
    assert list(found) == ["relu", "gelu"]
    for one in found.values():
        assert one.ms_per_step.shape == (3,)
        assert (one.ms_per_step > 0).all()
        assert one.networks == 2
    hidden = 16 * 6 * 4  # batch, width, bytes
    assert found["gelu"].kept_bytes - found["relu"].kept_bytes == hidden


def test_rounds_are_interleaved(short, monkeypatch):
    order = []

    class Stepper:
        networks = 2

        def __init__(self, trainer):
            self.activation = trainer.program.activation

        def round(self):
            order.append(self.activation)
            return 1.0

        def kept_bytes(self):
            return 8

    monkeypatch.setattr(cost, "Stepper", Stepper)
    cost.measure(dataclasses.replace(TINY, activations=("relu", "gelu", "elu")), [blobs()])
    assert order == [
        *("relu", "gelu", "elu"),
        *("gelu", "elu", "relu"),
        *("elu", "relu", "gelu"),
    ]


def test_arms_of_a_sweep(short):
    """The first setting alone; a slope's value costs nothing, so its arms share their figures."""
    settings = dataclasses.replace(
        TINY,
        activations=("relu", "leaky_relu"),
        sweeps=(Sweep("lr", (0.1, 0.2)), Sweep("negative_slope", (0.0, 0.1))),
    )
    found = cost.measure(settings, [blobs()])
    assert list(found) == ["relu", "leaky_relu:0", "leaky_relu:0.1"]
    assert found["leaky_relu:0"] is found["leaky_relu:0.1"]


def test_the_steps_that_trained_are_measured(short, monkeypatch):
    """If they train as many networks each; nothing compiles again."""
    swept = dataclasses.replace(TINY, sweeps=(Sweep("lr", (0.1, 0.2)),), epochs=1)
    kept = {}

    def keep(trainer, step, state):
        kept[trainer.program] = cost.Stepper(trainer, step, state)

    for program in programs(swept, swept.cells):
        train(program, [blobs()], keep=keep)
    compiled = []
    original = cost.Trainer.compiled
    monkeypatch.setattr(
        cost.Trainer, "compiled", lambda self, state: compiled.append(1) or original(self, state)
    )
    found = cost.measure(swept, [blobs()], kept)
    assert {arm: one.networks for arm, one in found.items()} == {"relu": 4, "gelu": 4}
    assert compiled == []
    del kept[next(iter(kept))]
    found = cost.measure(swept, [blobs()], kept)
    assert {arm: one.networks for arm, one in found.items()} == {"relu": 2, "gelu": 2}
    assert len(compiled) == 2


# ------------------------------------------------------------------------------------------------
# The number of seeds


def timed(monkeypatch, compilation, base, each):
    monkeypatch.setattr(budget, "_timed", lambda program, data: (compilation, base, each))
    monkeypatch.setattr(budget, "SHARE", 1.0)
    monkeypatch.setattr(budget, "OTHERS", 0.0)
    monkeypatch.setattr(budget.jax, "device_count", lambda: 1)


def seeds(seconds, *studies):
    return budget.seeds(studies or [TINY], lambda samples: [blobs()], seconds)


def test_as_many_seeds_as_fit(monkeypatch):
    timed(monkeypatch, compilation=1.0, base=0.5, each=0.25)
    # Two programs, two epochs: 2 + 2 * 2 * 0.5 seconds, and 2 * 2 * 0.25 for a seed.
    assert seeds(14.0) == 10
    assert seeds(14.9) == 10
    assert seeds(15.0) == 11
    assert seeds(1e9) == budget.MAX_SEEDS
    # Twice the studies, half of the rest.
    assert seeds(28.0, TINY, TINY) == 10
    # Four rates are four networks for each seed, in programs that compile as often.
    swept = dataclasses.replace(TINY, sweeps=(Sweep("lr", (0.1, 0.2, 0.3, 0.4)),))
    assert seeds(44.0, swept) == 10
    # Three splits, three networks.
    assert seeds(34.0, dataclasses.replace(TINY, splits=3)) == 10


def test_too_little_time(monkeypatch):
    timed(monkeypatch, compilation=1.0, base=0.5, each=0.25)
    assert seeds(6.0) == 2
    with pytest.raises(CompareError, match="5.9 seconds are too short; two seeds take about 6"):
        seeds(5.9)


def test_what_is_left_for_everything_else(monkeypatch):
    monkeypatch.setattr(budget, "_timed", lambda program, data: (0.0, 0.0, 0.25))
    monkeypatch.setattr(budget.jax, "device_count", lambda: 1)
    # Two programs, two epochs: a second for a seed.
    assert seeds(115.0) == 75
    with pytest.raises(CompareError, match="two seeds take about 18"):
        seeds(15.0)


def test_a_step_is_timed():
    compilation, base, each = budget._timed(Program(TINY, TINY.cells[:1]), [blobs()])
    assert compilation > 0 and base >= 0 and each > 0
    assert np.isfinite([compilation, base, each]).all()
