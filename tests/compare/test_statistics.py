import math

import numpy as np
import pytest
from scipy import stats

from jaxact.compare.statistics import (
    Interval,
    Row,
    best_value,
    comparisons,
    cost_ratio,
    cost_verdict,
    difference_interval,
    fewest_runs,
    mean_interval,
    median_ratio_interval,
    not_told_from,
    runs,
    runs_needed,
    summarize,
)
from jaxact.compare.study import Cell
from tests.support.studies import cells, study

RELU, ELU, TANH, SILU = (Cell(a) for a in ("relu", "elu", "tanh", "silu"))


def scored(scores, **changes):
    """A study of given scores, one array for each cell."""
    first = next(iter(scores.values()))
    made = study(dict.fromkeys(scores, 0.9), seeds=len(first), **changes)
    name = made.scores[0].name
    for cell, values in scores.items():
        made.figures[cell].scores[name][:] = values
    return made


def compared(made, cell=ELU):
    return summarize(made)[cell].comparison


def noisy(shift, seeds=16, noise=0.005):
    """Two cells' scores: seeds have much in common, and differ by ``shift`` on average."""
    random = np.random.default_rng(0)
    common = 0.9 + random.normal(0, 0.05, seeds)
    own = random.normal(0, noise, seeds)
    return {RELU: common, ELU: common + shift + own - own.mean()}


# ------------------------------------------------------------------------------------------------
# Verdicts


@pytest.mark.parametrize(
    ("shift", "margin", "verdict"),
    [
        (0.02, 0.005, "better"),
        (-0.02, 0.005, "worse"),
        (0.0, 0.005, "practically equal"),
        # Detectable, and within the margin: too small to matter.
        (0.02, 0.05, "practically equal"),
        (0.0, 0.0, "no detectable difference"),
        (0.0, 0.001, "no detectable difference"),
        (0.02, 0.0, "better"),
    ],
)
def test_verdicts(shift, margin, verdict):
    assert compared(scored(noisy(shift), margin=margin)).verdict == verdict


def test_a_smaller_loss_is_better():
    made = scored(noisy(-0.02), task="loss", margin=0.0)
    found = compared(made)
    assert (found.verdict, found.difference.mean) == ("better", pytest.approx(-0.02))
    assert compared(scored(noisy(0.02), task="loss", margin=0.0)).verdict == "worse"


def test_a_comparison_by_hand():
    made = scored({RELU: [0.5] * 6, ELU: [0.51, 0.52, 0.53, 0.51, 0.52, 0.53]})
    found = compared(made)
    assert found.difference.mean == pytest.approx(0.02)
    assert found.p == pytest.approx(2 / 2**6)
    s = (4 * 0.01**2 / 5) ** 0.5
    assert found.effect_size == pytest.approx(0.02 / s)
    assert found.verdict == "better"
    # What six runs show with 80% probability, in standard deviations: a printed table has 1.435.
    assert found.smallest_detectable == pytest.approx(1.435 * s, rel=2e-3)


def test_pairing_removes_what_the_seeds_have_in_common():
    row = summarize(scored(noisy(0.02)))[ELU]
    assert row.comparison.difference.half_width < 0.2 * row.scores["accuracy"].half_width


def test_every_comparison_counts():
    """p is multiplied by the number of comparisons, finished or not."""
    scores = {RELU: np.zeros(8), ELU: np.arange(1.0, 9), TANH: -np.arange(1.0, 9)}
    made = scored(scores, margin=0.0)
    assert (comparisons(made), compared(made).p) == (2, pytest.approx(4 / 2**8))
    made.cells = (*made.cells, SILU)
    assert (comparisons(made), compared(made).p) == (3, pytest.approx(6 / 2**8))
    assert list(summarize(made)) == [RELU, ELU, TANH]


@pytest.mark.parametrize(("seeds", "verdict"), [(6, "too few runs"), (7, "better")])
def test_too_few_runs_for_so_many_comparisons(seeds, verdict):
    scores = {RELU: np.zeros(seeds), ELU: np.arange(1.0, seeds + 1), TANH: np.zeros(seeds)}
    made = scored(scores)
    assert compared(made).verdict == verdict
    assert (compared(made).smallest_detectable is None) == (verdict == "too few runs")
    # What is equal needs no test of many.
    assert compared(made, TANH).verdict == "practically equal"
    assert fewest_runs(made) == 7


def test_the_same_score_in_a_few_runs_may_be_chance():
    assert compared(scored({RELU: [0.9, 0.8], ELU: [0.9, 0.8]})).verdict == "too few runs"


def test_one_run():
    found = compared(scored({RELU: [0.9], ELU: [0.95]}))
    assert found.difference == Interval(pytest.approx(0.05), None, None)
    assert (found.p, found.effect_size, found.smallest_detectable) == (None, None, None)
    assert found.verdict == "too few runs"


def test_equal_scores():
    values = np.linspace(0.8, 0.9, 16)
    found = compared(scored({RELU: values, ELU: values}, margin=0.0))
    assert found.difference == Interval(0, 0, 0)
    assert (found.p, found.effect_size) == (1, None)
    assert found.verdict == "no detectable difference"


def test_rounding_is_no_spread():
    """One more of 360 samples from every seed, as fractions that are not quite equal."""
    right = np.array([11, 170, 349, 40, 333, 200])
    assert len(set((right + 1) / 360 - right / 360)) > 1
    found = compared(scored({RELU: right / 360, ELU: (right + 1) / 360}))
    assert found.difference.half_width == pytest.approx(0, abs=1e-15)
    assert found.effect_size is None


@pytest.mark.slow
def test_equal_activations_are_rarely_called_different():
    """Of 100 studies of 3 equal comparisons, 5% or less, and three standard deviations."""
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(100):
        common = random.normal(0.9, 0.01, 8)
        scores = {c: common + random.normal(0, 0.005, 8) for c in (RELU, ELU, TANH, SILU)}
        rows = summarize(scored(scores, margin=0.0, epochs=1)).values()
        wrong += any(r.comparison and r.comparison.verdict in ("better", "worse") for r in rows)
    assert wrong <= 11


# ------------------------------------------------------------------------------------------------
# Scores that are not finite


def test_a_diverged_run_counts_as_the_worst_of_the_two():
    first, second = np.full(8, 0.5), np.linspace(0.6, 0.67, 8)
    broken = second.copy()
    broken[:3] = [np.nan, -np.inf, np.inf]
    found = compared(scored({RELU: first, ELU: broken}, task="regression"))
    broken[:3] = 0.5
    assert found == compared(scored({RELU: first, ELU: broken}, task="regression"))
    row = summarize(scored({RELU: first, ELU: [np.nan, *second[1:]]}, task="regression"))[ELU]
    assert row.scores["r2"] == mean_interval(second[1:])


def test_a_network_that_always_diverges_is_worse():
    first = np.linspace(0.6, 0.67, 8)
    row = summarize(scored({RELU: first, ELU: [np.nan] * 8}, task="regression"))[ELU]
    assert math.isnan(row.scores["r2"].mean)
    assert row.comparison.verdict == "worse"
    row = summarize(scored({RELU: first, ELU: [np.inf] * 8}, task="loss"))[ELU]
    assert row.comparison.verdict == "worse"


def test_a_cell_that_diverges_is_not_practically_equal():
    """How much worse it would have been is not known."""
    first = np.linspace(0.6, 0.601, 16)
    second = first[::-1].copy()
    assert compared(scored({RELU: first, ELU: second}, task="regression")).verdict == (
        "practically equal"
    )
    second[3] = np.nan
    assert compared(scored({RELU: first, ELU: second}, task="regression")).verdict == (
        "no detectable difference"
    )


def test_no_finite_score():
    found = compared(scored({RELU: [np.nan] * 8, ELU: [np.inf] * 8}, task="regression"))
    assert math.isnan(found.difference.mean)
    assert (found.p, found.verdict) == (None, "too few runs")


@pytest.mark.parametrize("factor", [1e300, 1e-300])
def test_huge_and_tiny_scores(factor):
    found = compared(scored(noisy(0.02), task="regression", margin=0.0))
    extreme = scored({c: v * factor for c, v in noisy(0.02).items()}, task="regression", margin=0.0)
    assert compared(extreme).verdict == found.verdict == "better"
    assert compared(extreme).difference.mean == pytest.approx(0.02 * factor)
    assert compared(scored({RELU: [1.7e308] * 8, ELU: [-1.7e308] * 8}, task="regression"))


# ------------------------------------------------------------------------------------------------
# Splits


def test_splits_have_the_corrected_resampled_interval():
    random = np.random.default_rng(0)
    first, second = random.normal(0.9, 0.01, (2, 12))
    made = scored({RELU: first, ELU: second}, margin=0.0)
    made.configuration |= {"splits": 4, "seeds": 3}
    found = compared(made)
    # Split by split: the mean over the seeds of each, with 200 test and 600 training samples.
    means = (second - first).reshape(4, 3).mean(1)
    error = means.std(ddof=1) * (1 / 4 + 200 / 600) ** 0.5
    assert found.difference.half_width == pytest.approx(stats.t.ppf(0.975, 3) * error)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(means.mean()) / error, 3))
    row = summarize(made)[RELU]
    assert row.scores["accuracy"] == mean_interval(first.reshape(4, 3).mean(1), 200 / 600)
    assert runs(made) == 4


def test_splits_leave_what_more_of_them_do_not_remove():
    made = scored(noisy(0.0, seeds=12))
    made.configuration |= {"splits": 6, "seeds": 2}
    spread = compared(made).smallest_detectable
    assert runs_needed(made, spread * 1.01) == 6
    assert runs_needed(made, spread / 100) is None


# ------------------------------------------------------------------------------------------------
# Rows


def test_diverged_runs_have_no_dead_units():
    made = study({RELU: 0.9, ELU: 0.9}, seeds=4, dead={RELU: (10, 30)})
    made.figures[RELU].final_train_loss[:] = [1.0, np.nan, 3.0, np.inf]
    made.figures[RELU].dead_units_percent[1] = np.nan
    made.figures[RELU].dead_units_percent[3] = 100
    made.figures[ELU].final_train_loss[:] = np.inf
    rows = summarize(made)
    assert (rows[RELU].final_train_loss, rows[RELU].diverged) == (2.0, 2)
    assert rows[RELU].dead_units_percent == Interval(20, 20, 20)
    assert (rows[ELU].final_train_loss, rows[ELU].diverged) == (None, 4)
    assert rows[ELU].dead_units_percent is None


def test_rows_of_an_unfinished_sweep():
    """Cells wait for their reference, and keep the study's order."""
    made = study(dict.fromkeys(cells(["relu", "elu"], "lr", [0.1, 0.01]), 0.9))
    relu_1, elu_1, relu_01, _ = made.cells
    del made.figures[relu_01], made.figures[elu_1]
    assert list(summarize(made)) == [relu_1]
    del made.figures[relu_1]
    assert summarize(made) == {}
    assert comparisons(made) == 1


def test_cells_are_compared_at_their_own_setting():
    made = study(
        dict(zip(cells(["relu", "elu"], "lr", [0.1, 0.01]), [0.5, 0.6, 0.8, 0.9], strict=True))
    )
    found = [
        r.comparison and round(r.comparison.difference.mean, 1) for r in summarize(made).values()
    ]
    assert found == [None, 0.1, None, 0.1]


def test_costs():
    made = study(
        dict.fromkeys((RELU, ELU, TANH, SILU), 0.9), ms={"elu": 1.2, "tanh": 0.8, "silu": 1.0}
    )
    rows = summarize(made)
    assert rows[RELU].relative_cost is None
    assert [cost_verdict(rows[c]) for c in (RELU, ELU, TANH, SILU)] == [
        "equal",
        "dearer",
        "cheaper",
        "equal",
    ]
    assert rows[ELU].relative_cost == median_ratio_interval(
        made.costs["elu"].ms_per_step, made.costs["relu"].ms_per_step
    )
    assert rows[ELU].ms_per_step.mean == np.median(made.costs["elu"].ms_per_step)
    assert rows[ELU].kept_bytes == 4096
    assert cost_ratio(made, TANH, ELU).mean == pytest.approx(0.8 / 1.2, rel=0.03)
    made.costs.clear()
    row = summarize(made)[ELU]
    assert (row.ms_per_step, row.relative_cost, row.kept_bytes) == (None, None, None)
    assert cost_verdict(row) == "equal"


def test_one_cost_stands_for_all_values_of_a_parameter():
    slopes = [Cell("leaky_relu", (("negative_slope", v),)) for v in (0.1, 0.2)]
    made = study({RELU: 0.9, **dict.fromkeys(slopes, 0.9)}, ms={"leaky_relu:0.1": 1.5})
    del made.costs["leaky_relu:0.2"]
    rows = summarize(made)
    assert rows[slopes[0]].relative_cost == rows[slopes[1]].relative_cost
    assert cost_ratio(made, *slopes) is None


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (Interval(1.02, 1.0, 1.04), "equal"),
        (Interval(1.02, 1.01, 1.04), "dearer"),
        (Interval(0.9, 0.8, 0.99), "cheaper"),
        (Interval(2.0, None, None), "equal"),
        (None, "equal"),
    ],
)
def test_cost_verdict(ratio, verdict):
    row = Row(RELU, {}, None, None, 0, None, None, ratio, None, 1e-3)
    assert cost_verdict(row) == verdict


# ------------------------------------------------------------------------------------------------
# What other figures would say


def test_runs_needed_agrees_with_what_is_detectable():
    made = scored(noisy(0.0, noise=0.01))
    smallest = compared(made).smallest_detectable
    assert runs_needed(made, smallest * 1.001) == 16
    assert runs_needed(made, -smallest * 1.001) == 16
    # A quarter of the difference takes about 16 times as many.
    assert runs_needed(made, smallest / 4) == pytest.approx(16**2, rel=0.15)
    # However large it is, fewer show nothing.
    assert runs_needed(made, 100.0) == fewest_runs(made) == 6


def test_runs_needed_of_the_noisiest_of_some_cells():
    random = np.random.default_rng(0)
    scores = {RELU: np.full(16, 0.9), ELU: random.normal(0.9, 0.001, 16)}
    made = scored(scores | {TANH: random.normal(0.9, 0.1, 16)})
    assert runs_needed(made, 0.01) == runs_needed(made, 0.01, [TANH]) > 100
    assert runs_needed(made, 0.01, [ELU]) < 10


def test_runs_needed_is_unknown():
    assert runs_needed(scored({RELU: [0.9], ELU: [0.8]}), 0.01) is None
    assert runs_needed(scored({RELU: [0.9] * 8}), 0.01) is None
    assert runs_needed(scored(noisy(0.0)), 0.0) is None


def test_what_cannot_be_told_from_the_best():
    random = np.random.default_rng(0)
    common = random.normal(0.9, 0.01, 16)
    scores = {
        c: common + shift + random.normal(0, 0.002, 16)
        for c, shift in ((RELU, 0), (ELU, 0.02), (TANH, 0.0205), (SILU, 0.01))
    }
    made = scored(scores)
    assert not_told_from(made, TANH, [RELU, ELU, SILU]) == [ELU]
    assert not_told_from(made, TANH, []) == []
    found = difference_interval(made, TANH, SILU)
    assert found.low < 0.0105 < found.high


def swept(peak, seeds=16, spread=0.01):
    """Scores of slopes 0, 0.1, 0.2 with a mean, and noise of each run."""
    random = np.random.default_rng(0)
    line = [Cell("leaky_relu", (("negative_slope", v),)) for v in (0.0, 0.1, 0.2)]
    noise = random.normal(0, spread, (3, seeds))
    noise -= noise.mean(1, keepdims=True)
    return line, {c: m + n for c, m, n in zip(line, peak, noise, strict=True)}


@pytest.mark.parametrize(
    ("peak", "expected"),
    [
        ((0.8, 0.9, 0.8), (0.1, 0.1, 0.1)),
        ((0.9, 0.901, 0.8), (0.1, 0.0, 0.1)),
        ((0.9, 0.9005, 0.901), (0.2, 0.0, 0.2)),
    ],
)
def test_the_best_value(peak, expected):
    line, scores = swept(peak)
    assert best_value(scored(scores), line, (0.0, 0.1, 0.2)) == expected


def test_the_best_value_of_a_loss():
    line, scores = swept((0.8, 0.9, 0.8001))
    assert best_value(scored(scores, task="loss"), line, (0.0, 0.1, 0.2)) == (0.0, 0.0, 0.2)


def test_a_value_that_diverges_is_not_the_best():
    line, scores = swept((0.8, 0.9, 0.7))
    scores[line[1]][3] = np.nan
    made = scored(scores, task="regression")
    assert best_value(made, line, (0.0, 0.1, 0.2))[0] == 0.0


def test_the_best_value_of_one_run():
    line, scores = swept((0.8, 0.9, 0.7), seeds=1)
    assert best_value(scored(scores), line, (0.0, 0.1, 0.2)) == (0.1, 0.0, 0.2)


def test_the_same_study_gives_the_same_rows():
    made = study({RELU: 0.9, ELU: 0.91, TANH: 0.9}, ms={"elu": 1.1})
    assert summarize(made) == summarize(made)
