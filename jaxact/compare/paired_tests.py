"""Tests of paired differences: p-values, Holm's adjustment, power.

All random numbers come from a fixed seed: the same differences give the same p-value.
"""

import functools
import math

import numpy as np
from scipy import optimize, stats

from jaxact.compare.intervals import inflation, standard_error

#: The probability with which the smallest detectable difference is found.
POWER = 0.8


def paired_p(differences: np.ndarray, overlap: float | None, resamples: int) -> float | None:
    """The two-sided p-value of no difference; None for fewer than two.

    Independent differences have their signs flipped, in all ways where these are no more than
    ``resamples``. Those of overlapping splits, see `mean_interval`, have the corrected resampled t
    test, or sign flips where all are the same.
    """
    return _paired_p(tuple(differences.tolist()), overlap, resamples)


# As intervals are: a table, a page and results.json ask for the same ones.
@functools.lru_cache(maxsize=4096)
def _paired_p(values: tuple[float, ...], overlap: float | None, resamples: int) -> float | None:
    differences = np.array(values)
    count = len(differences)
    if count < 2:
        return None
    if overlap is not None and np.ptp(differences):
        t = float(differences.mean()) / standard_error(differences, overlap)
        return 2 * float(stats.t.sf(abs(t), count - 1))
    test = stats.permutation_test(
        (differences,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        random_state=np.random.default_rng(0),
    )
    return float(test.pvalue)


def holm(values: list[float | None], count: int) -> list[float | None]:
    """Holm's adjusted p-values of ``count`` comparisons; those not given, and None, count as
    p = 1."""
    if not values:
        return []
    known = [1.0 if p is None else p for p in values] + [1.0] * (count - len(values))
    adjusted = _holm(tuple(known))[: len(values)]
    return [None if p is None else a for p, a in zip(values, adjusted, strict=True)]


@functools.lru_cache(maxsize=4096)  # statsmodels collects garbage in each call, of all of JAX
def _holm(values: tuple[float, ...]) -> tuple[float, ...]:
    # statsmodels takes long to import, and help does not need it.
    from statsmodels.stats.multitest import multipletests

    return tuple(map(float, multipletests(values, method="holm")[1]))


def power(effect: float, count: int, alpha: float, overlap: float | None = None) -> float:
    """Of the paired t test for a difference of ``effect`` standard deviations, two-sided."""
    from statsmodels.stats.power import TTestPower

    if math.isinf(effect):
        return 1.0
    effect /= inflation(count, overlap)
    found = float(TTestPower().power(effect, count, alpha))
    if math.isfinite(found):
        return found
    # SciPy's noncentral t is NaN at some large noncentralities, where only s still varies.
    needed = effect * count**0.5 / float(stats.t.isf(alpha / 2, count - 1))
    return float(stats.chi2.cdf((count - 1) * needed**2, count - 1))


def detectable_effect(count: int, alpha: float, overlap: float | None = None) -> float:
    """The smallest difference that shows with `POWER`, in standard deviations."""

    def lack(effect: float) -> float:
        return POWER - power(effect, count, alpha, overlap)

    high = 1.0
    while lack(high) > 0:
        high *= 2
    return float(optimize.brentq(lack, 0, high, xtol=1e-6))


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    return np.mean(values, axis=axis)
