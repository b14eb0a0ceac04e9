"""What the seeds say: means with intervals, paired differences, verdicts."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from jaxact.compare.training import Arm

#: The probability with which all intervals of one kind hold.
LEVEL = 0.95

Verdict = Literal["better", "worse", "no detectable difference", "one seed: no interval"]


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; one value has a mean, and None for the half-width."""

    mean: float
    half_width: float | None
    level: float

    @property
    def low(self) -> float | None:
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        return None if self.half_width is None else self.mean + self.half_width


def mean_interval(values: ArrayLike, level: float = LEVEL, resolution: float = 0.0) -> Interval:
    r"""Student's t interval for the mean of independent values.

    $$
    \bar v \pm t_{(1 + level) / 2,\, n - 1} \; s / \sqrt n
    $$

    Args:
      values: one-dimensional.
      level: the interval's confidence level.
      resolution: the number of which the values are multiples. Where all values are the same and
        not 0, their spread is below what the multiples can show, and ``resolution / sqrt(12)``, the
        standard deviation of rounding, stands in for s.

    >>> interval = mean_interval([1.0, 2.0, 3.0])
    >>> interval.mean, round(interval.half_width, 3)
    (2.0, 2.484)
    """
    values = np.asarray(values, np.float64)
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Interval(mean, None, level)
    deviation = float(values.std(ddof=1))
    # Differences of shares that are equal as fractions may differ by a rounding error.
    if deviation < 1e-12:
        deviation = resolution / 12**0.5 if abs(mean) > 1e-12 else 0.0
    quantile = float(stats.t.ppf((1 + level) / 2, count - 1))
    return Interval(mean, quantile * deviation / count**0.5, level)


def simultaneous_level(comparisons: int) -> float:
    """The level of each interval so that all hold together with `LEVEL` (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(comparisons, 1)


def verdict(difference: Interval) -> Verdict:
    """Whether a difference, of something that should be large, is real: its interval excludes 0."""
    if difference.low is None or difference.high is None:
        return "one seed: no interval"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no detectable difference"


@dataclasses.dataclass(frozen=True)
class Summary:
    """One row of the table. Accuracies are shares, not percentages.

    Args:
      test_accuracy: the test accuracy's mean over the seeds.
      difference: of the test accuracy to the first arm's, paired by seed; None for the first arm.
      verdict: what the difference's interval says; None for the first arm.
      final_train_loss: the mean over the seeds whose loss is finite; None if there is none.
      diverged: how many seeds' final training loss is not finite.
      means: every other figure of the arm that has a mean over its seeds, by its name in `Arm`.
        Each is an attribute too: ``dead_units_percent``, ``ms_per_step``.
    """

    test_accuracy: Interval
    difference: Interval | None
    verdict: Verdict | None
    final_train_loss: float | None
    diverged: int
    means: dict[str, float | None]

    def __getattr__(self, name: str) -> float | None:
        # Not self.means: copies and pickles ask for attributes before there is any.
        means = vars(self).get("means", {})
        if name not in means:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return means[name]


def summarize(arms: Mapping[str, Arm], comparisons: int, test_samples: int) -> dict[str, Summary]:
    """The table's rows: every arm against the first.

    Args:
      arms: the finished arms, by activation.
      comparisons: how many arms are to be compared with the first, finished or not.
      test_samples: how many samples the test accuracy is a share of.
    """
    first = next(iter(arms.values()))
    level = simultaneous_level(comparisons)
    rows = {}
    for activation, arm in arms.items():
        difference = None
        if arm is not first:
            difference = mean_interval(
                arm.test_accuracy - first.test_accuracy, level, 1 / test_samples
            )
        finite = arm.final_train_loss[np.isfinite(arm.final_train_loss)]
        rows[activation] = Summary(
            test_accuracy=mean_interval(arm.test_accuracy),
            difference=difference,
            verdict=None if difference is None else verdict(difference),
            final_train_loss=float(finite.mean()) if len(finite) else None,
            diverged=len(arm.final_train_loss) - len(finite),
            means={
                field.name: _mean(getattr(arm, field.name))
                for field in dataclasses.fields(Arm)
                if field.metadata.get("mean")
            },
        )
    return rows


def _mean(figure: np.ndarray | float | None) -> float | None:
    return float(figure.mean()) if isinstance(figure, np.ndarray) else figure
