"""What the runs say: means with intervals, paired differences, verdicts, costs.

Runs from several seeds on one split of the data are independent: their intervals are bootstrapped,
and differences, paired by seed, are tested by flipping their signs. Repeated random splits share
samples, so the means of the splits are not independent: intervals and tests are the corrected
resampled t test's (Nadeau and Bengio, *Inference for the generalization error*, Machine Learning
52, 2003). All random numbers come from a fixed seed: the same figures give the same answers.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from jaxact.compare.study import Cell, Cost, Study, Verdict

#: The confidence level of every interval; tests are at 1 - LEVEL.
LEVEL = 0.95
#: The probability with which the smallest detectable difference is found.
POWER = 0.8
#: Fewer values than these have Student's t interval: of fewer than 6, not even the range from the
#: smallest to the largest covers the median with a probability of 95%.
FEWEST_TO_BOOTSTRAP = 6

_RESAMPLES = 2**14  # sign flips of up to 14 differences are counted exactly

CostVerdict = Literal["equal", "cheaper", "dearer"]


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean (of times and their ratios, a median) and its confidence interval.

    ``low`` and ``high`` are None for one value. Without any, the mean is NaN.
    """

    mean: float
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float | None:
        """The larger of the two sides."""
        if self.low is None or self.high is None:
            return None
        return max(self.high - self.mean, self.mean - self.low)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A cell against its reference, `Study.reference_of`, by the first score.

    A run whose score is not finite counts as the worst finite score of the two cells, so that a
    cell gains nothing where its network diverged.

    Args:
      difference: in the score's stored unit, positive where the cell's score is the larger one.
      p: of no difference, adjusted for all comparisons of the study (Holm); None for one run.
      effect_size: the mean of the paired differences by their standard deviation; None without one.
      smallest_detectable: the difference that as many runs show with a probability of 80%, by the
        paired t test's power; None where no difference would show.
      verdict: ``"practically equal"`` where the interval lies within the margin, detectable or not;
        ``"better"`` or ``"worse"`` where p < 0.05 and the interval excludes 0.
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
    differences = {c: _differences(study, c) for c in _compared(study)}
    adjusted = _holm([_p(study, d) for d in differences.values()], comparisons(study))
    compared = {
        c: _comparison(study, d, p) for (c, d), p in zip(differences.items(), adjusted, strict=True)
    }
    return {c: _row(study, c, compared.get(c)) for c in cells}


def comparisons(study: Study) -> int:
    """How many cells are compared with another, finished or not."""
    return sum(study.reference_of(cell) is not None for cell in study.cells)


def mean_interval(values: ArrayLike, overlap: float | None = None) -> Interval:
    r"""The mean and its 95% confidence interval.

    For independent values a bootstrap interval, bias-corrected and accelerated (BCa; percentile
    where that is not defined), with the tails that make it as wide as Student's t for normal values
    (Hesterberg, *What Teachers Should Know About the Bootstrap*, 2015, section 4.2: expanded
    percentiles); of fewer than 6 values, Student's t. For repeated splits, Nadeau and Bengio's:

    $$
    \bar v \pm t_{0.975,\, n - 1} \; s \sqrt{1/n + n_{test}/n_{train}}
    $$

    Args:
      values: one-dimensional. Those that are not finite are left out.
      overlap: the ratio of test to training samples, where the values are the means of splits that
        share samples; None for independent values.

    >>> mean_interval([1.0, 2.0, 3.0], overlap=0.25)
    Interval(mean=2.0, low=-1.286..., high=5.286...)
    """
    values, scale = _scaled(values)
    count = len(values)
    if not count:
        return Interval(math.nan, None, None)
    mean = float(values.mean())
    if count == 1:
        return Interval(mean * scale, None, None)
    if np.ptp(values) == 0:
        low = high = mean
    elif overlap is None and count >= FEWEST_TO_BOOTSTRAP:
        # Resamples have a standard deviation that is sqrt((n - 1) / n) of s, and normal tails.
        z = stats.t.ppf((1 - LEVEL) / 2, count - 1) * (count / (count - 1)) ** 0.5
        low, high = _bootstrap(values, _mean, "BCa", 1 - 2 * float(stats.norm.cdf(z)))
    else:
        half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * _standard_error(values, overlap)
        low, high = mean - half, mean + half
    return Interval(mean * scale, low * scale, high * scale)


def median_ratio_interval(times: ArrayLike, reference: ArrayLike) -> Interval:
    """The median of the ratios of two activations' times, round by round, and its 95% confidence
    interval, by a percentile bootstrap over the rounds.

    Args:
      times, reference: one-dimensional, in the order of the rounds; what has no partner is left
        out.
    """
    ours, theirs = np.asarray(times, float), np.asarray(reference, float)
    rounds = min(len(ours), len(theirs))
    with np.errstate(all="ignore"):
        return _median_interval(ours[:rounds] / theirs[:rounds])


def cost_verdict(row: Row) -> CostVerdict:
    """Whether a step takes longer than the reference's: ``"equal"`` where the interval of the ratio
    contains 1, and where there is none."""
    ratio = row.relative_cost
    if ratio is None or ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return "equal"
    return "cheaper" if ratio.high < 1 else "dearer"


def runs_needed(study: Study, difference: float) -> int | None:
    """How many seeds (splits, where there are several) would show a difference of that size in
    every comparison, with a probability of 80%.

    Args:
      difference: in the first score's stored unit.

    Returns:
      None where it is unknown (one run, nothing finished), and where no number would do: the same
      samples in several splits leave an uncertainty that more splits do not remove.
    """
    deviations = [
        values.std(ddof=1) * scale
        for values, scale in (_differences(study, c) for c in _compared(study))
        if len(values) > 1
    ]
    if not deviations or not difference:
        return None
    overlap = _overlap(study)
    deviation = float(max(deviations))

    def enough(count: int) -> bool:
        effect = abs(difference) / deviation if deviation else math.inf
        return _smallest_p(study, count) < _strictest(study) and (
            _power(effect, count, _strictest(study), overlap) >= POWER
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
    cost, reference = _cost(study, cell), _cost(study, _reference(study, cell))
    return Row(
        cell=cell,
        scores={name: _interval(study, values) for name, values in figures.scores.items()},
        comparison=comparison,
        final_train_loss=float(figures.final_train_loss[ended].mean()) if ended.any() else None,
        diverged=int((~ended).sum()),
        dead_units_percent=None if math.isnan(dead.mean) else dead,
        ms_per_step=None if cost is None else _median_interval(cost.ms_per_step),
        relative_cost=(
            None
            if cost is None or reference is None or cost is reference
            else median_ratio_interval(cost.ms_per_step, reference.ms_per_step)
        ),
        kept_bytes=None if cost is None else cost.kept_bytes,
        learning_rate=figures.learning_rate,
    )


def _comparison(study: Study, differences: tuple[np.ndarray, float], p: float | None) -> Comparison:
    values, scale = differences
    difference = mean_interval(values * scale, _overlap(study))
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    count = len(values)
    smallest = None
    if count > 1 and _smallest_p(study, count) < _strictest(study):
        effect = _detectable_effect(count, _strictest(study), _overlap(study))
        smallest = effect * deviation * scale
    return Comparison(
        difference=difference,
        p=p,
        effect_size=float(values.mean()) / deviation if deviation else None,
        smallest_detectable=smallest,
        verdict=_verdict(study, difference, p, count),
    )


def _verdict(study: Study, difference: Interval, p: float | None, count: int) -> Verdict:
    low, high = difference.low, difference.high
    if low is None or high is None or p is None:
        return "too few runs"
    margin = study.configuration["margin"]
    # A few differences may be the same by chance, where scores are shares of a few samples.
    if -margin <= low <= high <= margin and margin and (low < high or count >= FEWEST_TO_BOOTSTRAP):
        return "practically equal"
    if _smallest_p(study, count) >= _strictest(study):
        return "too few runs"
    if p >= 1 - LEVEL or low <= 0 <= high:
        return "no detectable difference"
    return "better" if (low > 0) == study.scores[0].larger_is_better else "worse"


def _differences(study: Study, cell: Cell) -> tuple[np.ndarray, float]:
    """Of the first score to the reference's, one for each seed (split), divided by a scale; and
    the scale."""
    score = study.scores[0]
    ours = np.asarray(study.figures[cell].scores[score.name], float)
    theirs = np.asarray(study.figures[_reference(study, cell)].scores[score.name], float)
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
    values, scale = _scaled(values)
    # Differences of shares that are equal as fractions may differ by a rounding error.
    return values.round(12), scale


def _p(study: Study, differences: tuple[np.ndarray, float]) -> float | None:
    """Of no difference, two-sided, not adjusted; None for fewer than two values."""
    values, _ = differences
    count = len(values)
    if count < 2:
        return None
    overlap = _overlap(study)
    if overlap is None or np.ptp(values) == 0:
        test = stats.permutation_test(
            (values,),
            _mean,
            permutation_type="samples",
            vectorized=True,
            n_resamples=_resamples(study),
            random_state=np.random.default_rng(0),
        )
        return float(test.pvalue)
    t = float(values.mean()) / _standard_error(values, overlap)
    return 2 * float(stats.t.sf(abs(t), count - 1))


def _holm(values: list[float | None], count: int) -> list[float | None]:
    """Holm's adjusted p-values; comparisons that are not finished yet count as p = 1."""
    # statsmodels takes long to import, and help does not need it.
    from statsmodels.stats.multitest import multipletests

    if not values:
        return []
    known = [1.0 if p is None else p for p in values] + [1.0] * (count - len(values))
    adjusted = multipletests(known, method="holm")[1]
    return [
        None if p is None else float(a)
        for p, a in zip(values, adjusted[: len(values)], strict=True)
    ]


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


def _power(effect: float, count: int, alpha: float, overlap: float | None) -> float:
    """Of the paired t test for a difference of ``effect`` standard deviations."""
    from statsmodels.stats.power import TTestPower

    effect /= _inflation(count, overlap)
    # The noncentral t distribution is NaN at some single points, and for large effects.
    for nudge in (1, 1.001, 0.999):
        if effect * nudge * count**0.5 < 1e3:
            power = float(TTestPower().power(effect * nudge, count, alpha))
            if math.isfinite(power):
                return power
    return 1.0


def _detectable_effect(count: int, alpha: float, overlap: float | None) -> float:
    """The smallest difference that shows with `POWER`, in standard deviations."""

    def lack(effect: float) -> float:
        return POWER - _power(effect, count, alpha, overlap)

    high = 1.0
    while lack(high) > 0:
        high *= 2
    return float(optimize.brentq(lack, 0, high, xtol=1e-6))


def _inflation(count: int, overlap: float | None) -> float:
    """How many times the standard error of independent values that of overlapping splits is."""
    return (1 + count * (overlap or 0)) ** 0.5


def _standard_error(values: np.ndarray, overlap: float | None) -> float:
    count = len(values)
    return float(values.std(ddof=1)) / count**0.5 * _inflation(count, overlap)


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


def _median_interval(values: ArrayLike) -> Interval:
    values, scale = _scaled(values)
    if not len(values):
        return Interval(math.nan, None, None)
    median = float(np.median(values)) * scale
    if len(values) == 1:
        return Interval(median, None, None)
    low, high = _bootstrap(values, _median, "percentile", LEVEL)
    return Interval(median, low * scale, high * scale)


def _bootstrap(
    values: np.ndarray, statistic: Callable[..., np.ndarray], method: str, level: float
) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            (values,),
            statistic,
            vectorized=True,
            confidence_level=level,
            method=method,
            random_state=np.random.default_rng(0),
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    return _bootstrap(values, statistic, "percentile", level)


def _scaled(values: ArrayLike) -> tuple[np.ndarray, float]:
    """The finite values, divided by a power of two that makes them at most 1, so that squares and
    cubes neither overflow nor vanish; and the power."""
    values = np.asarray(values, float).ravel()
    values = values[np.isfinite(values)]
    largest = float(np.abs(values).max(initial=0.0))
    scale = math.ldexp(1.0, min(math.frexp(largest)[1], 1023))
    return values / scale, scale


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    return np.mean(values, axis=axis)


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    return np.median(values, axis=axis)


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
