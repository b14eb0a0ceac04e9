"""What a comparison holds: what is asked, and the figures that came out.

A study trains every activation at every point of its sweeps, from every seed, on every split of the
data. One network of it is a run. Arrays lead with the runs of a cell, split by split: those of
split 0 first, in the order of seeds.
"""

import dataclasses
import inspect
from typing import Any, Literal

import numpy as np

from jaxact.registry import ACTIVATIONS

#: Axes of a sweep that change the training; every other axis is a parameter of activations.
SETTINGS_AXES = ("lr", "width", "depth", "samples", "dtype")

Value = float | int | str


@dataclasses.dataclass(frozen=True)
class Score:
    """How good a network is on the test samples.

    Args:
      name: in results.json, where ``test_`` or ``validation_`` stand before it: ``"accuracy"``.
      label: for readers: ``"accuracy"``, ``"R²"``.
      unit: of a difference, for sentences: ``"points"`` (percentage points).
      factor: what a stored figure is multiplied by to be shown: 100 for shares.
      larger_is_better: whether it is.
      digits: behind the decimal point, in tables.
    """

    name: str
    label: str
    unit: str
    factor: float = 1.0
    larger_is_better: bool = True
    digits: int = 2


ACCURACY = Score("accuracy", "accuracy %", "points", 100.0)
BALANCED_ACCURACY = Score("balanced_accuracy", "balanced accuracy %", "points", 100.0)
R2 = Score("r2", "R²", "of R²", digits=3)
RMSE = Score("rmse", "RMSE", "of RMSE", larger_is_better=False, digits=3)
LOSS = Score("loss", "loss", "of the loss", larger_is_better=False, digits=4)

#: The scores of each task. The first decides.
SCORES: dict[str, tuple[Score, ...]] = {
    "classification": (ACCURACY, BALANCED_ACCURACY),
    "regression": (R2, RMSE),
    "loss": (LOSS,),
}


@dataclasses.dataclass(frozen=True)
class Sweep:
    """An axis of a study: ``lr``, ``width``, …, or a parameter of activations; and its values."""

    name: str
    values: tuple[Value, ...]


@dataclasses.dataclass(frozen=True)
class Cell:
    """An activation at a point of the sweeps.

    Args:
      activation: its name as it was given; without the parameters that are swept.
      point: the swept axes that the cell has, with their values, in the order of the sweeps. An
        activation that does not have a swept parameter has no such axis.
    """

    activation: str
    point: tuple[tuple[str, Value], ...] = ()

    @property
    def arm(self) -> str:
        """The activation with all its parameters, as for `jaxact.get`: ``"leaky_relu:0.1"``."""
        parameters = [f"{n}={v:g}" for n, v in self.point if n not in SETTINGS_AXES]
        if not parameters:
            return self.activation
        if len(parameters) == 1 and ":" not in self.activation:
            name, _, value = parameters[0].partition("=")
            _, first, *_ = [*inspect.signature(ACTIVATIONS[self.activation]).parameters, None, None]
            if name == first:
                return f"{self.activation}:{value}"
        return self.activation + ("," if ":" in self.activation else ":") + ",".join(parameters)

    @property
    def setting(self) -> tuple[tuple[str, Value], ...]:
        """The point without the activation's parameters: cells of one setting are compared."""
        return tuple((n, v) for n, v in self.point if n in SETTINGS_AXES)

    @property
    def label(self) -> str:
        """The cell's name in tables and in results.json: ``"relu, lr=0.01"``."""
        return ", ".join([self.arm, *(f"{n}={_shown(v)}" for n, v in self.setting)])


@dataclasses.dataclass(frozen=True)
class Figures:
    """What came out of a cell. ``runs = splits x seeds``.

    Args:
      scores: the test scores in the best epoch, by `Score.name`, each ``(runs,)``.
      best_epoch: the epoch of the lowest validation loss, counted from 1, ``(runs,)``.
      final_train_loss: after the last epoch, ``(runs,)``; not finite where a run diverged.
      dead_units_percent: of the hidden units, those whose slope is exactly 0 on every training
        sample, after the last epoch, ``(runs,)``; NaN where a run diverged.
      curves: figures after each epoch, ``(runs, epochs)``: ``train_loss``, ``validation_loss``, and
        ``validation_`` and ``test_`` with the first score's name.
      dead_by_layer: the dead units in percent, by layer, ``(runs, epochs, layers)``.
      learned_slopes: the mean of each layer's learned slopes after the last epoch,
        ``(runs, layers)``; no layers where the activation learns none.
      learning_rate: the one that was trained with (the best of the grid under ``tune``).
      tuned: the mean validation loss for each rate of the grid; empty without ``tune``.
      seconds: the training's time, compilation included.
    """

    scores: dict[str, np.ndarray]
    best_epoch: np.ndarray
    final_train_loss: np.ndarray
    dead_units_percent: np.ndarray
    curves: dict[str, np.ndarray]
    dead_by_layer: np.ndarray
    learned_slopes: np.ndarray
    learning_rate: float
    tuned: dict[float, float]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Cost:
    """What an activation costs, at the first point of the sweeps.

    Args:
      ms_per_step: the time of one training step of the first networks together, one figure for each
        round. Rounds are interleaved: round k of every activation, then round k + 1.
      networks: how many networks that step trains.
      kept_bytes: what the backward pass of one network keeps of one batch, weights left out.
    """

    ms_per_step: np.ndarray
    networks: int
    kept_bytes: int


@dataclasses.dataclass
class Study:
    """A comparison, finished or not.

    Args:
      configuration: everything that the figures follow from, as in results.json. Of it, this
        module's readers use ``activations`` (names; the others are compared with the first),
        ``seeds``, ``splits``, ``epochs``, ``widths``, ``learning_rate``, ``dtype``, ``model``,
        ``task``, ``margin`` (in the units of the first score, as stored: 0.005 for half a
        percentage point), ``sweeps`` (``[{"name", "values"}]``), ``tune`` (a list of rates, empty
        without) and ``data``: ``source``, ``target``, ``samples``, ``features``, ``classes`` (0 for
        a regression), ``training_samples``, ``validation_samples``, ``test_samples``; ``baseline``,
        the test scores of the majority class or of the mean, by `Score.name`; and ``columns``, what
        was made of each column, ``[{"name", "kind", "made", "note"}]``.
      cells: every cell that is to be trained, in the order of the table.
      figures: of the finished cells.
      costs: by activation (`Cell.arm` of the first setting); empty until they are measured.
    """

    configuration: dict[str, Any]
    cells: tuple[Cell, ...]
    figures: dict[Cell, Figures] = dataclasses.field(default_factory=dict)
    costs: dict[str, Cost] = dataclasses.field(default_factory=dict)

    @property
    def missing(self) -> list[Cell]:
        """The cells that are not finished."""
        return [cell for cell in self.cells if cell not in self.figures]

    @property
    def sweeps(self) -> tuple[Sweep, ...]:
        return tuple(Sweep(s["name"], tuple(s["values"])) for s in self.configuration["sweeps"])

    @property
    def scores(self) -> tuple[Score, ...]:
        return SCORES[self.configuration["task"]]

    @property
    def reference(self) -> str:
        """The activation that the others are compared with: the first."""
        return self.configuration["activations"][0]

    def reference_of(self, cell: Cell) -> Cell | None:
        """What a cell is compared with: the first activation's first cell at the same setting;
        None for that cell itself."""
        first = next(c for c in self.cells if c.setting == cell.setting)
        return None if cell == first else first

    def by_split(self, values: np.ndarray) -> np.ndarray:
        """``(runs, ...)`` as ``(splits, seeds, ...)``."""
        return values.reshape(self.configuration["splits"], -1, *values.shape[1:])


def best_epochs(validation_loss: np.ndarray) -> np.ndarray:
    """The epoch of the lowest loss of each run, counted from 0.

    A network that diverged has no loss to choose by: its first epoch is as good as any.

    Args:
      validation_loss: ``(runs, epochs)``.
    """
    return np.where(np.isnan(validation_loss), np.inf, validation_loss).argmin(1)


Verdict = Literal[
    "better", "worse", "practically equal", "no detectable difference", "too few runs"
]


def _shown(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"
