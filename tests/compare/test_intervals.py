import math

import numpy as np
import pytest
from scipy import stats

from jaxact.compare.intervals import (
    FEWEST_TO_BOOTSTRAP,
    Interval,
    mean_interval,
    median_interval,
    median_ratio_interval,
    scaled,
)


def test_half_width_is_the_larger_side():
    assert Interval(1.0, 0.5, 2.0).half_width == 1.0
    assert Interval(1.0, -1.0, 2.0).half_width == 2.0
    assert Interval(1.0, None, None).half_width is None


@pytest.mark.parametrize("count", [2, FEWEST_TO_BOOTSTRAP - 1])
def test_few_values_have_students_interval(count):
    values = np.random.default_rng(0).normal(size=count)
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([found.low, found.mean, found.high], [low, values.mean(), high])


@pytest.mark.parametrize("count", [8, 16, 30])
def test_the_bootstrap_is_as_wide_as_students_for_normal_values(count):
    # Quantiles of a normal distribution: no luck of a draw.
    values = stats.norm.ppf((np.arange(count) + 0.5) / count)
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert found.mean == pytest.approx(values.mean())
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=0.06)
    # Without the wider tails it would be narrower by sqrt((n - 1) / n) and t's factor.
    narrow = stats.bootstrap((values,), np.mean, random_state=np.random.default_rng(0))
    assert found.high - found.low > 1.03 * np.ptp(narrow.confidence_interval)


def test_the_bootstrap_follows_skew():
    values = np.array([0.0, 0.0, 0.1, 0.1, 0.2, 0.3, 0.5, 3.0])
    found = mean_interval(values)
    assert found.high - found.mean > 1.5 * (found.mean - found.low)
    mirrored = mean_interval(-values)
    np.testing.assert_allclose([-mirrored.high, -mirrored.low], [found.low, found.high], rtol=0.05)


@pytest.mark.parametrize("count", [8, 16])
def test_the_interval_covers_the_mean(count):
    """Of 200 intervals 95% do, less three standard deviations of the count and 1.5%."""
    random = np.random.default_rng(0)
    intervals = [mean_interval(random.normal(0.9, 0.01, count)) for _ in range(200)]
    covered = sum(i.low <= 0.9 <= i.high for i in intervals)
    assert 178 <= covered <= 199


def test_overlapping_splits_by_hand():
    # s = 1, K = 3 and t(0.975, 2) = 4.30265 from a printed table.
    found = mean_interval([1.0, 2.0, 3.0], overlap=0.25)
    half = 4.30265 * (1 / 3 + 0.25) ** 0.5
    assert (found.mean, found.half_width) == (2.0, pytest.approx(half, rel=1e-5))


def test_overlapping_splits_are_covered():
    """Splits that share samples are correlated, by r / (1 + r) in Nadeau and Bengio's model."""
    random, overlap = np.random.default_rng(0), 0.25
    share = overlap / (1 + overlap)
    common = share**0.5 * random.normal(size=(1000, 1))
    splits = common + (1 - share) ** 0.5 * random.normal(size=(1000, 5))
    corrected = [mean_interval(v, overlap) for v in splits]
    assert 925 <= sum(i.low <= 0 <= i.high for i in corrected) <= 975
    # As if they were independent they are not.
    naive = [mean_interval(v) for v in splits]
    assert sum(i.low <= 0 <= i.high for i in naive) < 900


def test_one_value_and_none():
    assert mean_interval([0.9]) == median_interval([0.9]) == Interval(0.9, None, None)
    for empty in ([], [np.nan, np.inf, -np.inf]):
        found = mean_interval(empty)
        assert math.isnan(found.mean) and found.low is None and found.high is None
        assert math.isnan(median_interval(empty).mean)


def test_values_that_are_not_finite_are_left_out():
    values = [0.1, 0.2, 0.25, 0.3, 0.35, 0.5]
    assert mean_interval([*values, np.nan, -np.inf]) == mean_interval(values)


@pytest.mark.parametrize("count", [2, 3, 16])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e300])
def test_no_spread(count, value):
    found = mean_interval([value] * count)
    assert found == Interval(value, value, value)
    assert mean_interval([value] * count, overlap=0.2) == found


@pytest.mark.parametrize("factor", [2.0**1000, 2.0**-1000])
def test_huge_and_tiny_values(factor):
    values = np.random.default_rng(0).normal(size=8)
    found, expected = mean_interval(values * factor), mean_interval(values)
    assert found == Interval(*(x * factor for x in (expected.mean, expected.low, expected.high)))
    assert mean_interval([1.7e308, -1.7e308, 1e308]).mean == pytest.approx(1e308 / 3)


def test_one_outlier_does_not_break_it():
    for values in ([0] * 7 + [1], [1e-300] * 7 + [1.0], [1.0] * 15 + [1.0 + 1e-15]):
        found = mean_interval(values)
        assert found.low <= found.mean <= found.high


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(0).normal(size=16)
    assert mean_interval(values) == mean_interval(values)


def test_scaled_is_exact():
    values, scale = scaled([3.0, np.nan, -5.0])
    assert (list(values), scale) == ([0.375, -0.625], 8.0)


def test_ratio_of_interleaved_rounds():
    random = np.random.default_rng(0)
    # What slows a round down slows both, and cancels.
    load = random.uniform(1, 3, 20)
    found = median_ratio_interval(1.03 * load * random.normal(1, 0.002, 20), load)
    assert found.mean == pytest.approx(1.03, abs=0.003)
    assert found.low <= 1.03 <= found.high
    assert found.high - found.low < 0.01
    # One round that was interrupted does not move the median.
    slow = np.ones(20)
    slow[3] = 50
    assert median_ratio_interval(slow, np.ones(20)).mean == 1


def test_ratio_of_rounds_without_a_partner():
    assert median_ratio_interval([2.0, 4.0, 6.0], [1.0]) == Interval(2.0, None, None)
    assert median_ratio_interval([2.0, 2.0], [0.0, 1.0]) == Interval(2.0, None, None)
    assert math.isnan(median_ratio_interval([], [1.0]).mean)
