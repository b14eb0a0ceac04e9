"""Studies whose figures are made up, for tests of what is said about them. Nothing is trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxact.compare.study import SCORES, SETTINGS_AXES, Cell, Cost, Figures, Study


def study(
    means: Mapping[Cell, float],
    *,
    activations: Sequence[str] = (),
    seeds: int = 16,
    splits: int = 1,
    epochs: int = 3,
    task: str = "classification",
    spread: float = 0.005,
    noise: float = 0.003,
    dead: Mapping[Cell, Sequence[float]] | None = None,
    ms: Mapping[str, float] | None = None,
    sweeps: Sequence[Mapping[str, Any]] = (),
    **changes: Any,
) -> Study:
    """A finished study.

    Args:
      means: each cell's mean of the first score.
      spread: of the seeds' scores, in common to all cells.
      noise: of each run, on top.
      dead: each cell's percentage of dead units, by layer; none by default.
      ms: each activation's time for a step.
      changes: entries of the configuration.
    """
    random = np.random.default_rng(0)
    runs = seeds * splits
    common = random.normal(0, spread, runs)
    first, *others = SCORES[task]
    figures = {}
    for cell, mean in means.items():
        score = mean + common + random.normal(0, noise, runs)
        layers = np.asarray((dead or {}).get(cell, (0.0, 0.0)), float)
        growth = np.linspace(1 / epochs, 1, epochs)
        curve = score[:, None] - np.linspace(0.1, 0, epochs)
        figures[cell] = Figures(
            scores={first.name: score, **{s.name: score - 0.01 for s in others}},
            best_epoch=np.full(runs, epochs),
            final_train_loss=np.full(runs, 0.01),
            dead_units_percent=np.full(runs, layers.mean()),
            curves={
                "train_loss": np.tile(1 / np.arange(1.0, epochs + 1), (runs, 1)),
                "validation_loss": np.tile(1.1 / np.arange(1.0, epochs + 1), (runs, 1)),
                f"validation_{first.name}": curve,
                f"test_{first.name}": curve,
            },
            dead_by_layer=np.tile(growth[:, None] * layers, (runs, 1, 1)),
            learned_slopes=np.full((runs, 2 if cell.activation == "prelu" else 0), 0.2),
            learning_rate=dict(cell.point).get("lr", 1e-3),
            tuned={},
            seconds=1.0,
        )
    configuration = {
        "activations": list(activations or dict.fromkeys(c.activation for c in means)),
        "seeds": seeds,
        "splits": splits,
        "epochs": epochs,
        "widths": [128, 128],
        "learning_rate": 1e-3,
        "batch_size": 64,
        "dtype": "float32",
        "model": "mlp",
        "task": task,
        "margin": 0.005,
        "sweeps": [dict(s) for s in sweeps],
        "tune": [],
        "data": {
            "source": "made-up.csv",
            "target": "label",
            "samples": 1000,
            "features": 4,
            "classes": 3 if task == "classification" else 0,
            "training_samples": 600,
            "validation_samples": 200,
            "test_samples": 200,
            "baseline": {s.name: 0.4 for s in SCORES[task]},
            "columns": [
                {"name": "a", "kind": "number", "made": "standardised", "note": ""},
                {"name": "id", "kind": "identifier", "made": "left out", "note": "all different"},
            ],
        },
        "versions": {"jaxact": "0.1.0", "jax": "0.10.2"},
        "device": {"platform": "cpu", "kind": "cpu"},
        **changes,
    }
    arms = dict.fromkeys(c.arm for c in means)
    costs = {
        arm: Cost((ms or {}).get(arm, 1.0) * random.normal(1, 0.02, 12), seeds, 4096)
        for arm in arms
    }
    return Study(configuration, tuple(means), figures, costs)


def cells(activations: Sequence[str], name: str, values: Sequence[Any]) -> list[Cell]:
    """The cells of one sweep, in the order of a study."""
    assert name in SETTINGS_AXES
    return [Cell(a, ((name, v),)) for v in values for a in activations]
