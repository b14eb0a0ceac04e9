import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from jaxact.compare.paired_tests import detectable_effect, holm, paired_p, power

RESAMPLES = 2**14


@pytest.mark.parametrize("count", [2, 5, 8])
def test_differences_of_one_sign_have_the_smallest_p(count):
    values = np.arange(1.0, count + 1)
    assert paired_p(values, None, RESAMPLES) == pytest.approx(2 / 2**count)
    assert paired_p(-values, None, RESAMPLES) == pytest.approx(2 / 2**count)


def test_signs_by_hand():
    # Of the 8 sums of ±1 ±2 ±4, those as far from 0 as -1 + 2 + 4 = 5: 5, 7, -5, -7.
    assert paired_p(np.array([-1.0, 2.0, 4.0]), None, RESAMPLES) == pytest.approx(4 / 8)


def test_zeros_prove_nothing():
    assert paired_p(np.zeros(8), None, RESAMPLES) == 1
    assert paired_p(np.zeros(3), 0.25, RESAMPLES) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_values(count):
    assert paired_p(np.ones(count), None, RESAMPLES) is None
    assert paired_p(np.ones(count), 0.25, RESAMPLES) is None


def test_equal_networks_rarely_differ():
    """Of 300 null comparisons 5% or less do, more or less three standard deviations."""
    random = np.random.default_rng(0)
    wrong = sum(paired_p(v, None, RESAMPLES) < 0.05 for v in random.normal(size=(300, 8)))
    assert 3 <= wrong <= 26


def test_many_differences_are_sampled_and_agree_with_the_t_test():
    values = np.random.default_rng(1).normal(0.5, 1, 40)
    assert paired_p(values, None, RESAMPLES) == pytest.approx(
        stats.ttest_1samp(values, 0).pvalue, abs=0.005
    )
    assert paired_p(values, None, RESAMPLES) == paired_p(values, None, RESAMPLES)


def test_overlapping_splits_by_hand():
    values = np.array([1.0, 2.0, 3.0])
    t = 2 / (1 / 3 + 0.25) ** 0.5
    assert paired_p(values, 0.25, RESAMPLES) == pytest.approx(2 * stats.t.sf(t, 2))
    # Nothing shared: the usual test.
    assert paired_p(values, 0.0, RESAMPLES) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_the_same_difference_in_two_splits_proves_nothing():
    assert paired_p(np.full(2, 0.01), 0.25, RESAMPLES) == pytest.approx(0.5)


def test_holm_by_hand():
    # 0.01 x 3, 0.02 x 2, and 0.03 is not smaller than the one before it.
    assert holm([0.02, 0.01, 0.03], 3) == pytest.approx([0.04, 0.03, 0.04])


def test_holm_counts_what_is_not_finished():
    assert holm([0.01, None], 4) == [pytest.approx(0.04), None]
    assert holm([], 3) == []


def test_power_is_statsmodels():
    assert power(0.75, 16, 0.05) == pytest.approx(TTestPower().power(0.75, 16, 0.05))
    # More overlap, less power.
    assert power(0.75, 16, 0.05, 0.25) == pytest.approx(TTestPower().power(0.75 / 5**0.5, 16, 0.05))
    assert power(np.inf, 2, 0.05) == 1


@pytest.mark.parametrize("count", [2, 3, 5, 16, 1000])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 40])
def test_the_detectable_effect_has_the_power(count, alpha):
    effect = detectable_effect(count, alpha)
    assert power(effect, count, alpha) == pytest.approx(0.8, abs=0.01)
    assert power(effect * 0.9, count, alpha) < 0.8 < power(effect * 1.1, count, alpha)


@pytest.mark.parametrize(("effect", "count", "alpha"), [(50, 2, 0.005), (10, 3, 0.05)])
def test_power_where_scipy_has_none(monkeypatch, effect, count, alpha):
    """Its noncentral t is NaN at some points, which depend on the version. Simulated instead."""
    monkeypatch.setattr(TTestPower, "power", lambda *_: np.nan)
    draws = np.random.default_rng(0).normal(effect, 1, (20_000, count))
    share = np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < alpha)
    assert power(effect, count, alpha) == pytest.approx(share, abs=0.01)
