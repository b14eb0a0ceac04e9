"""What the runs say: means with intervals, paired differences, verdicts, costs.

Runs from several seeds on one split of the data are independent: their intervals are bootstrapped,
and differences, paired by seed, are tested by flipping their signs. Repeated random splits share
samples, so the means of the splits are not independent: intervals and tests are the corrected
resampled t test's (Nadeau and Bengio, *Inference for the generalization error*, Machine Learning
52, 2003). All random numbers come from a fixed seed: the same figures give the same answers.

Intervals are of one comparison, at 95%; p-values and verdicts cover all of them at a setting of the
sweeps (Holm). So an interval may exclude 0 where nothing is detectable.
"""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
from scipy import stats

from jaxact.compare.intervals import (
    FEWEST_TO_BOOTSTRAP as FEWEST_TO_BOOTSTRAP,
    LEVEL as LEVEL,
    Interval as Interval,
    deviation,
    mean_interval as mean_interval,
    median_interval as median_interval,
    median_ratio_interval as median_ratio_interval,
    scaled,
)
from jaxact.compare.paired_tests import POWER, detectable_effect, holm, paired_p, power
from jaxact.compare.study import Cell, Cost, Study, Verdict

#: Sign flips of up to 14 differences are counted exactly.
_RESAMPLES = 2**14

CostVerdict = Literal["equal", "cheaper", "dearer"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A cell against its reference, `Study.reference_of`, by the first score.

    A run whose score is not finite counts as the worst finite score of the two cells, so that a
    cell gains nothing where its network diverged.

    Args:
      difference: in the score's stored unit, positive where the cell's score is the larger one.
      p: of no difference, adjusted for all comparisons at its setting (Holm); None for one run.
      effect_size: the mean of the paired differences by their standard deviation; None without one.
      smallest_detectable: the difference that as many runs show with a probability of 80%, by the
        paired t test's power; None where no difference would show.
      verdict: ``"practically equal"`` where all scores are finite and the interval lies within the
        margin, detectable or not; ``"better"`` or ``"worse"`` where p < 0.05 and the interval
        excludes 0; ``"too few runs"`` where even differences of one sign would not give p < 0.05.
    """

    difference: Interval
    p: float | None
    effect_size: float | None
    smallest_detectable: float | None
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Row:
    """What the runs of a cell say.

    Args:
      scores: by `Score.name`, over the runs whose score is finite.
      comparison: with the reference; None for the reference itself.
      final_train_loss: the mean over the runs that did not diverge; None if all did.
      diverged: how many runs did.
      dead_units_percent: over the runs that did not diverge; None if all did.
      ms_per_step: the median over the rounds; None where it was not measured.
      relative_cost: the median ratio to the reference's time in the same round; None for the
        reference's activation, and where it was not measured.
      kept_bytes: see `Cost`.
      learning_rate: see `Figures`.
    """

    cell: Cell
    scores: dict[str, Interval]
    comparison: Comparison | None
    final_train_loss: float | None
    diverged: int
    dead_units_percent: Interval | None
    ms_per_step: Interval | None
    relative_cost: Interval | None
    kept_bytes: int | None
    learning_rate: float


def summarize(study: Study) -> dict[Cell, Row]:
    """The table's rows: the finished cells whose reference is finished, in the study's order."""
    cells = [c for c in study.cells if {c, _reference(study, c)} <= study.figures.keys()]
    compared: dict[Cell, Comparison] = {}
    # Each setting is a question of its own: what is chosen is chosen at one of them.
    for _, group in itertools.groupby(_compared(study), lambda cell: cell.setting):
        differences = {c: _differences(study, c, _reference(study, c)) for c in group}
        adjusted = holm([_p(study, d) for d in differences.values()], comparisons(study))
        for (cell, difference), p in zip(differences.items(), adjusted, strict=True):
            compared[cell] = _comparison(study, cell, difference, p)
    return {c: _row(study, c, compared.get(c)) for c in cells}


def comparisons(study: Study) -> int:
    """How many cells are compared with another one at a setting, finished or not."""
    settings = Counter(c.setting for c in study.cells if study.reference_of(c) is not None)
    return max(settings.values(), default=0)


def cost_verdict(row: Row) -> CostVerdict:
    """Whether a step takes longer than the reference's; see `ratio_verdict`."""
    return ratio_verdict(row.relative_cost)


def ratio_verdict(ratio: Interval | None) -> CostVerdict:
    """``"equal"`` where the interval of a ratio of times contains 1, and where there is none."""
    if ratio is None or ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return "equal"
    return "cheaper" if ratio.high < 1 else "dearer"


def runs_needed(
    study: Study, difference: float, cells: Collection[Cell] | None = None
) -> int | None:
    """How many seeds (splits, where there are several) would show a difference of that size, with a
    probability of 80% in the noisiest comparison.

    Args:
      difference: in the first score's stored unit.
      cells: whose comparisons; all by default.

    Returns:
      None where it is unknown (one run, nothing finished), and where no number would do: the same
      samples in several splits leave an uncertainty that more splits do not remove.
    """
    spreads = [
        deviation(values) * scale
        for values, scale in (
            _differences(study, c, _reference(study, c))
            for c in _compared(study)
            if cells is None or c in cells
        )
        if len(values) > 1
    ]
    if not spreads or not difference:
        return None
    overlap = _overlap(study)
    spread = max(spreads)

    def enough(count: int) -> bool:
        effect = abs(difference) / spread if spread else math.inf
        return _smallest_p(study, count) < _strictest(study) and (
            power(effect, count, _strictest(study), overlap) >= POWER
        )

    high = 2
    while not enough(high):
        high *= 2
        if high > 2**20:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def difference_interval(study: Study, cell: Cell, other: Cell) -> Interval:
    """Of the first score to that of any other cell, as in `Comparison.difference`."""
    values, scale = _differences(study, cell, other)
    return mean_interval(values * scale, _overlap(study))


def all_finite(study: Study, cell: Cell) -> bool:
    """Whether every run of a cell has a first score that is finite."""
    return bool(np.isfinite(study.figures[cell].scores[study.scores[0].name]).all())


def not_told_from(study: Study, cell: Cell, others: Sequence[Cell]) -> list[Cell]:
    """Those of the others whose first score does not differ detectably from a cell's: the adjusted
    p (Holm, over these) is not below 0.05."""
    p = holm([_p(study, _differences(study, other, cell)) for other in others], len(others))
    return [o for o, value in zip(others, p, strict=True) if value is None or value >= 1 - LEVEL]


def best_value(
    study: Study, cells: Sequence[Cell], values: Sequence[float]
) -> tuple[float, float, float]:
    """The swept value with the best mean score, and its 95% interval: what is best in resamples of
    the runs (a percentile bootstrap).

    Args:
      cells: those of the sweep, finished.
      values: of each cell.

    Returns:
      The best value, and the interval's ends; those of all values for a single run.
    """
    score = study.scores[0]
    sign = 1.0 if score.larger_is_better else -1.0
    by_run = sign * np.stack([study.figures[c].scores[score.name] for c in cells])
    # A value that diverges from some seed is not the best one.
    by_run = np.where(np.isfinite(by_run), by_run / scaled(by_run)[1], -np.inf)
    if study.configuration["splits"] > 1:
        by_run = np.stack([study.by_split(v).mean(1) for v in by_run])
    known = np.asarray(values, float)

    def best(*samples: np.ndarray, axis: int) -> np.ndarray:
        return known[np.argmax([np.mean(s, axis=axis) for s in samples], axis=0)]

    middle = float(best(*by_run, axis=-1))
    if by_run.shape[1] < 2:
        return middle, float(known.min()), float(known.max())
    found = stats.bootstrap(
        tuple(by_run),
        best,
        paired=True,
        vectorized=True,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).bootstrap_distribution
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(found, [tail, 1 - tail], method="inverted_cdf")
    return middle, min(float(low), middle), max(float(high), middle)


def cost_ratio(study: Study, cell: Cell, other: Cell) -> Interval | None:
    """Of a step's time to another activation's; None where it was not measured, and of one with
    itself."""
    ours, theirs = _cost(study, cell), _cost(study, other)
    if ours is None or theirs is None or ours is theirs:
        return None
    return median_ratio_interval(ours.ms_per_step, theirs.ms_per_step)


def fewest_runs(study: Study) -> int:
    """How many seeds (splits, where there are several) it takes for any difference to show."""
    return next(n for n in range(2, 64) if _smallest_p(study, n) < _strictest(study))


def runs(study: Study) -> int:
    """How many values an interval is made of: the splits, or the seeds of the only one."""
    splits = study.configuration["splits"]
    return splits if splits > 1 else study.configuration["seeds"]


def _row(study: Study, cell: Cell, comparison: Comparison | None) -> Row:
    figures = study.figures[cell]
    ended = np.isfinite(figures.final_train_loss)
    dead = _interval(study, np.where(ended, figures.dead_units_percent, np.nan))
    cost = _cost(study, cell)
    return Row(
        cell=cell,
        scores={name: _interval(study, values) for name, values in figures.scores.items()},
        comparison=comparison,
        final_train_loss=float(figures.final_train_loss[ended].mean()) if ended.any() else None,
        diverged=int((~ended).sum()),
        dead_units_percent=None if math.isnan(dead.mean) else dead,
        ms_per_step=None if cost is None else median_interval(cost.ms_per_step),
        relative_cost=cost_ratio(study, cell, _reference(study, cell)),
        kept_bytes=None if cost is None else cost.kept_bytes,
        learning_rate=figures.learning_rate,
    )


def _comparison(
    study: Study, cell: Cell, differences: tuple[np.ndarray, float], p: float | None
) -> Comparison:
    values, scale = differences
    difference = mean_interval(values * scale, _overlap(study))
    count = len(values)
    spread = deviation(values) if count else 0.0
    smallest = None
    if count > 1 and _smallest_p(study, count) < _strictest(study):
        effect = detectable_effect(count, _strictest(study), _overlap(study))
        smallest = effect * spread * scale
    return Comparison(
        difference=difference,
        p=p,
        effect_size=float(values.mean()) / spread if spread else None,
        smallest_detectable=smallest,
        verdict=_verdict(study, cell, difference, p, count),
    )


def _verdict(
    study: Study, cell: Cell, difference: Interval, p: float | None, count: int
) -> Verdict:
    low, high = difference.low, difference.high
    if low is None or high is None or p is None:
        return "too few runs"
    margin = study.configuration["margin"]
    # A few differences may be the same by chance, where scores are shares of a few samples. And
    # what counts as the worst score may be much worse.
    sure = (low < high or count >= FEWEST_TO_BOOTSTRAP) and (
        all_finite(study, cell) and all_finite(study, _reference(study, cell))
    )
    if margin and -margin <= low <= high <= margin and sure:
        return "practically equal"
    if _smallest_p(study, count) >= _strictest(study):
        return "too few runs"
    if p >= 1 - LEVEL or low <= 0 <= high:
        return "no detectable difference"
    return "better" if (low > 0) == study.scores[0].larger_is_better else "worse"


def _differences(study: Study, cell: Cell, other: Cell) -> tuple[np.ndarray, float]:
    """Of the first score to another cell's, one for each seed (split), divided by a scale; and the
    scale."""
    score = study.scores[0]
    ours = np.asarray(study.figures[cell].scores[score.name], float)
    theirs = np.asarray(study.figures[other].scores[score.name], float)
    finite = np.concatenate([ours, theirs])
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return finite, 1.0
    worst = finite.min() if score.larger_is_better else finite.max()
    ours, theirs = (np.where(np.isfinite(v), v, worst) for v in (ours, theirs))
    with np.errstate(over="ignore"):
        values = ours - theirs
    if study.configuration["splits"] > 1:
        values = study.by_split(values).mean(1)
    values, scale = scaled(values)
    # Differences of shares that are equal as fractions may differ by a rounding error.
    return values.round(12), scale


def _p(study: Study, differences: tuple[np.ndarray, float]) -> float | None:
    """Of no difference, not adjusted."""
    return paired_p(differences[0], _overlap(study), _resamples(study))


def _smallest_p(study: Study, count: int) -> float:
    """The p-value of ``count`` differences that all have one sign."""
    if _overlap(study) is not None:
        return 0.0
    return max(2 * 0.5**count, 2 / (_resamples(study) + 1))


def _resamples(study: Study) -> int:
    """So many that the smallest p-value passes Holm's test of all comparisons."""
    return max(_RESAMPLES, 200 * comparisons(study))


def _strictest(study: Study) -> float:
    """What the smallest of all p-values must stay below."""
    return (1 - LEVEL) / max(1, comparisons(study))


def _overlap(study: Study) -> float | None:
    """The ratio of test to training samples; None for a single split."""
    if study.configuration["splits"] == 1:
        return None
    data = study.configuration["data"]
    return data["test_samples"] / data["training_samples"]


def _interval(study: Study, values: np.ndarray) -> Interval:
    """Of a figure of each run."""
    values = np.where(np.isfinite(values), values, np.nan)
    if study.configuration["splits"] == 1:
        return mean_interval(values)
    splits = study.by_split(values)
    known = splits[np.isfinite(splits).any(1)]
    return mean_interval(np.nanmean(known, 1) if len(known) else known, _overlap(study))


def _reference(study: Study, cell: Cell) -> Cell:
    return study.reference_of(cell) or cell


def _compared(study: Study) -> list[Cell]:
    """The finished cells whose reference is another one, and finished."""
    return [
        cell
        for cell in study.cells
        if study.reference_of(cell) and {cell, _reference(study, cell)} <= study.figures.keys()
    ]


def _cost(study: Study, cell: Cell) -> Cost | None:
    """The activation's; that of a swept parameter's first value stands for all."""
    same = [c.arm for c in study.cells if c.activation == cell.activation]
    return next((study.costs[arm] for arm in (cell.arm, *same) if arm in study.costs), None)
