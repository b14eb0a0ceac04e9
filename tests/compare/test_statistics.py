import pickle

import numpy as np
import pytest
from scipy import stats

from jaxact.compare.statistics import (
    Interval,
    mean_interval,
    simultaneous_level,
    summarize,
    verdict,
)
from jaxact.compare.training import Arm, Curves


def arm(accuracy, loss=None, dead=None):
    accuracy = np.asarray(accuracy, float)
    loss = np.ones(len(accuracy)) if loss is None else np.asarray(loss, float)
    dead = np.zeros(len(accuracy)) if dead is None else np.asarray(dead, float)
    curves = Curves(*(accuracy[:, None] for _ in Curves._fields))
    return Arm(
        test_accuracy=accuracy,
        best_epoch=np.ones(len(accuracy), int),
        final_train_loss=loss,
        dead_units_percent=dead,
        curves=curves,
        ms_per_step=1.5,
        seconds=2.0,
    )


@pytest.mark.parametrize("level", [0.95, 0.9917])
def test_interval_is_scipys(level):
    values = np.random.default_rng(0).normal(size=7)
    ours = mean_interval(values, level)
    low, high = stats.t.interval(level, 6, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([ours.low, ours.mean, ours.high], [low, values.mean(), high])
    assert ours.level == level


def test_interval_by_hand():
    # s = 1, n = 4, and t(0.975, 3) = 3.18245 from a printed table.
    ours = mean_interval(np.array([-1.5, -0.5, 0.5, 1.5]) / 1.2909944487358056 + 10)
    assert ours.mean == pytest.approx(10)
    assert ours.half_width == pytest.approx(3.18245 / 2, rel=1e-5)


def test_verdict_agrees_with_the_paired_t_test():
    rng = np.random.default_rng(1)
    verdicts = set()
    for shift in np.linspace(-0.02, 0.02, 41):
        first = rng.normal(0.9, 0.02, 10)
        second = first + rng.normal(shift, 0.01, 10)
        p = stats.ttest_rel(second, first).pvalue
        says = verdict(mean_interval(second - first, 0.95))
        assert (says != "no detectable difference") == (p < 0.05)
        if p < 0.05:
            assert says == ("better" if second.mean() > first.mean() else "worse")
        verdicts.add(says)
    assert verdicts == {"better", "worse", "no detectable difference"}


def test_one_value_has_no_interval():
    ours = mean_interval([0.9])
    assert (ours.mean, ours.half_width, ours.low, ours.high) == (0.9, None, None, None)
    assert verdict(ours) == "one seed: no interval"


def test_no_spread():
    assert mean_interval([0.9, 0.9, 0.9]).half_width == 0
    same = mean_interval([0.0, 0.0, 0.0], resolution=0.01)
    assert (same.mean, same.half_width) == (0, 0)
    assert verdict(same) == "no detectable difference"


def test_the_same_difference_in_all_seeds_is_judged_by_the_resolution():
    """Two seeds that happen to gain one sample each prove nothing; sixteen do."""
    gain = 1 / 360
    few, many = (mean_interval([gain] * n, resolution=1 / 360) for n in (2, 16))
    assert verdict(few) == "no detectable difference"
    assert verdict(many) == "better"
    expected = stats.t.ppf(0.975, 1) * gain / 12**0.5 / 2**0.5
    assert few.half_width == pytest.approx(expected)
    # The same in floating point, where the differences are not quite equal.
    counts = np.array([11, 170, 349])
    noisy = (counts + 1) / 360 - counts / 360
    assert len(set(noisy)) > 1
    assert mean_interval(noisy, resolution=1 / 360).half_width == pytest.approx(
        stats.t.ppf(0.975, 2) * gain / 12**0.5 / 3**0.5
    )


@pytest.mark.parametrize(
    ("interval", "says"),
    [
        (Interval(0.02, 0.01, 0.95), "better"),
        (Interval(-0.02, 0.01, 0.95), "worse"),
        (Interval(0.01, 0.01, 0.95), "no detectable difference"),
        (Interval(-0.01, 0.02, 0.95), "no detectable difference"),
    ],
)
def test_verdict(interval, says):
    assert verdict(interval) == says


def test_simultaneous_level():
    assert simultaneous_level(1) == pytest.approx(0.95)
    assert simultaneous_level(6) == pytest.approx(1 - 0.05 / 6)
    assert simultaneous_level(0) == pytest.approx(0.95)


def test_equal_arms_are_rarely_called_different():
    """Of 300 comparisons of equal arms with 6 others, at most 5% (and some) find a difference."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        seeds = rng.normal(0, 0.01, 16)  # what a seed does to every arm
        accuracy = 0.95 + seeds[:, None] + rng.normal(0, 0.005, (16, 7))
        rows = summarize({str(i): arm(a) for i, a in enumerate(accuracy.T)}, 6, 10**6)
        wrong += any(r.verdict in ("better", "worse") for r in rows.values())
    assert 2 <= wrong <= 26  # 5%, and three standard deviations of the count above


def test_a_real_difference_is_found():
    rng = np.random.default_rng(0)
    first = rng.normal(0.9, 0.01, 16)
    rows = summarize(
        {
            "relu": arm(first),
            "up": arm(first + rng.normal(0.01, 0.005, 16)),
            "down": arm(first + rng.normal(-0.01, 0.005, 16)),
            "same": arm(first),
        },
        3,
        360,
    )
    assert [r.verdict for r in rows.values()] == [
        None,
        "better",
        "worse",
        "no detectable difference",
    ]
    assert rows["same"].difference == Interval(0, 0, simultaneous_level(3))


def test_pairing_removes_what_the_seeds_have_in_common():
    seeds = np.random.default_rng(0).normal(0, 0.05, 16)
    small = 0.002 + np.random.default_rng(1).normal(0, 0.001, 16)
    rows = summarize({"relu": arm(0.8 + seeds), "elu": arm(0.8 + seeds + small)}, 1, 360)
    assert rows["elu"].verdict == "better"
    assert rows["elu"].difference.half_width < 0.1 * rows["elu"].test_accuracy.half_width


def test_summary():
    first = arm([0.5, 0.7], loss=[1.0, np.nan], dead=[10.0, 30.0])
    rows = summarize({"relu": first, "elu": arm([0.5, 0.7], loss=[np.nan, np.inf])}, 4, 10)
    assert rows["relu"].difference is None
    assert rows["relu"].verdict is None
    assert rows["relu"].test_accuracy == mean_interval([0.5, 0.7])
    assert (rows["relu"].final_train_loss, rows["relu"].diverged) == (1.0, 1)
    assert (rows["elu"].final_train_loss, rows["elu"].diverged) == (None, 2)
    assert rows["relu"].dead_units_percent == 20
    assert rows["relu"].ms_per_step == 1.5
    assert rows["elu"].difference.level == simultaneous_level(4)
    # One more of 10 samples in both seeds: judged by what 10 samples can show.
    (_, row) = summarize({"relu": first, "elu": arm([0.6, 0.8])}, 1, 10).values()
    assert row.difference == mean_interval([0.6 - 0.5, 0.8 - 0.7], resolution=0.1)
    assert row.verdict == "no detectable difference"


def test_the_means_are_attributes_of_a_summary():
    (row,) = summarize({"relu": arm([0.5, 0.7], dead=[10.0, 30.0])}, 0, 10).values()
    assert row.means == {"dead_units_percent": 20, "ms_per_step": 1.5}
    assert pickle.loads(pickle.dumps(row)) == row
    with pytest.raises(AttributeError, match="Summary has no attribute 'seconds'"):
        _ = row.seconds
