"""The figures of a site, and the sites of scans."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxact._report import statistics
from jaxact._report.site import Site
from jaxact._report.statistics import Statistics
from jaxact._report.summary import never_active
from tests.support.reports import (
    collected,
    figures,
    normal,
    numbered,
    of_relu,
    pair,
    place,
    replaced,
    report,
    stacked,
    words,
)


@pytest.mark.parametrize("n", [1, 7, 59, 1000, 10**7])
def test_upper_limit_of_the_activity(n):
    k = np.unique(np.minimum([0, 1, 5, n // 2, n - 1, n], n))
    s = figures(n, units=len(k))
    (site,) = report(Site(place(units=len(k)), (), replaced(s, active=words(k)))).sites
    bound = site.active_upper
    expected = np.where(k < n, scipy.stats.beta.ppf(0.95, k + 1, np.maximum(n - k, 1)), 1)
    np.testing.assert_allclose(bound, expected, rtol=1e-9)
    # What it means: that many or fewer are seen with a probability of 5%.
    np.testing.assert_allclose(scipy.stats.binom.cdf(k[:-1], n, bound[:-1]), 0.05, rtol=1e-6)
    two_sided = scipy.stats.binomtest(int(k[0]), n).proportion_ci(0.9, "exact")
    assert bound[0] == pytest.approx(two_sided.high)
    assert bound[0] == pytest.approx(never_active(n)) == pytest.approx(1 - 0.05 ** (1 / n))


def test_without_samples():
    (site,) = report(Site(place(), (), statistics.empty(100, jnp.float32))).sites
    assert (site.count == 0).all() and not site.dead.any() and not site.active.any()
    assert (site.active_upper == 1).all()


def test_places_are_compared_without_their_wiring():
    one, other = (dataclasses.replace(place(), wiring=wiring) for wiring in ({}, {"w": 0}))
    assert one == other and hash(one) == hash(other) and repr(one) == repr(other)
    assert dataclasses.replace(one, fixed="in a custom_vjp") != one


def test_a_site_is_a_pytree():
    """All that is static is in its structure: sites of other places or steps are of other types."""
    site = Site(place(), (1,), figures())
    passed = jax.jit(lambda site: site)(site)
    assert (passed.place, passed.iteration) == (site.place, site.iteration)
    np.testing.assert_array_equal(passed.active, site.active)
    assert len(jax.tree.leaves(site)) == len(dataclasses.fields(Statistics)) - 2
    asked = replaced(figures(), features=np.eye(100), gradient=pair(np.ones(100)))
    assert len(jax.tree.leaves(asked)) == len(dataclasses.fields(Statistics))
    for other in (Site(place("elu"), (1,), figures()), Site(place(), (2,), figures())):
        assert jax.tree.structure(other) != jax.tree.structure(site)


def test_a_traced_site():
    @jax.jit
    def run(x):
        (site,) = of_relu(x).sites
        with pytest.raises(TypeError, match="active_upper is computed on the host"):
            _ = site.active_upper
        return site.count, site.active, site.dead, site.mean, site.histogram

    x = normal(8, 3)
    (site,) = of_relu(jnp.asarray(x)).sites
    own = (site.count, site.active, site.dead, site.mean, site.histogram)
    for a, b in zip(run(x), own, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


# ------------------------------------------------------------------------------------------------
# Dormant units, massive activations, rank


def test_dormancy_is_the_share_of_the_mean_of_the_layer():
    x = jnp.asarray([[1.0, -2.0, 8.0], [3.0, -1.0, 2.0]])
    r = of_relu(x)
    (site,) = r.sites
    np.testing.assert_array_equal(site.magnitude, [2, 0, 5])
    np.testing.assert_allclose(site.dormancy, [6 / 7, 0, 15 / 7], rtol=1e-6)
    np.testing.assert_array_equal(site.peak, [3, 2, 8])
    assert r.scalars()["net/relu/dormant"] == 1 / 3
    (site,) = of_relu(-x * x).sites
    np.testing.assert_array_equal(site.dormancy, [0, 0, 0])
    # The layers of a vmap have a mean each.
    (site,) = jax.vmap(of_relu)(jnp.stack([x, 1000 * x])).sites
    np.testing.assert_allclose(site.dormancy[0], site.dormancy[1], rtol=1e-6)


def test_kurtosis_tells_massive_activations():
    x = normal(4096, 8)
    (site,) = of_relu(jnp.asarray(x)).sites
    assert site.kurtosis == pytest.approx((x**4).mean() / (x**2).mean() ** 2, rel=1e-5)
    assert site.kurtosis == pytest.approx(3, abs=0.1)
    x[7, 3] = 1000
    r = of_relu(jnp.asarray(x))
    assert r.sites[0].kurtosis > 20_000
    assert r.scalars()["net/relu/kurtosis"] == pytest.approx(r.sites[0].kurtosis)
    huge = of_relu(x * 1e10)
    assert huge.sites[0].kurtosis == pytest.approx(huge.scalars()["net/relu/kurtosis"])
    assert r.scalars()["net/relu/peak"] == 1000


def ranks(site):
    return site.effective_rank, site.stable_rank


@pytest.mark.parametrize("rank", [1, 3, 20])
def test_ranks(rank):
    """Those of the matrix of activations, of two batches together; also traced."""
    h = abs(normal(600, rank)) @ abs(normal(rank, 20, seed=1))
    records = [Site(place(units=20), (), collected(part, rank=True)) for part in (h[:90], h[90:])]
    (site,) = report(records[0]).merge(report(records[1])).sites
    values = np.linalg.svd(h.astype(float), compute_uv=False)
    values = values[:rank]
    share = values / values.sum()
    expected = np.exp(-(share * np.log(share)).sum()), (values**2).sum() / values[0] ** 2
    np.testing.assert_allclose(ranks(site), expected, rtol=1e-2 if rank == 20 else 1e-4)
    np.testing.assert_allclose(jax.jit(ranks)(site), ranks(site), rtol=1e-2)


def test_ranks_of_nothing_and_of_nan():
    for value, expected in ((-1.0, 0), (np.nan, np.nan)):
        (site,) = report(
            Site(place(units=3), (), collected(jnp.full((4, 3), value), rank=True))
        ).sites
        np.testing.assert_array_equal(ranks(site), [expected, expected])


def test_what_was_not_asked_for():
    one = of_relu(jnp.asarray(normal(4, 3)))
    for name, remedy in (
        ("effective_rank", "probe with rank=True"),
        ("stable_rank", "probe with rank=True"),
        ("gradient", "jaxact.probe_and_grad"),
    ):
        with pytest.raises(ValueError, match=f"Site.{name}: .*{remedy}"):
            getattr(one.sites[0], name)
    (site,) = one.records
    asked = report(Site(site.place, (), collected(normal(4, 3), rank=True)))
    with pytest.raises(ValueError, match="only one of the reports has .*rank=True"):
        one.merge(asked)


# ------------------------------------------------------------------------------------------------
# Scans and vmap


def test_sites_of_scans_are_in_the_order_of_execution():
    # Site 0; a scan of 2 steps with sites 1, 2 and 4, and an inner scan with 3; one more scan.
    outer, inner, other = (0, 2), (1, 3), (2, 1)
    loops = [(), (outer,), (outer,), (outer, inner), (outer,), (other,)]
    starts = [0, 10, 20, 30, 40, 50]
    r = report(
        *(
            Site(place(index=i, units=2, loops=loop), (), numbered([n for _, n in loop], start))
            for i, (loop, start) in enumerate(zip(loops, starts, strict=True))
        )
    )
    assert [(s.index, s.iteration, int(s.mean[0])) for s in r.sites] == [
        (0, (), 0),
        (1, (0,), 10),
        (2, (0,), 20),
        (3, (0, 0), 30),
        (3, (0, 1), 31),
        (3, (0, 2), 32),
        (4, (0,), 40),
        (1, (1,), 11),
        (2, (1,), 21),
        (3, (1, 0), 33),
        (3, (1, 1), 34),
        (3, (1, 2), 35),
        (4, (1,), 41),
        (5, (0,), 50),
    ]
    assert repr(r) == "Report(14 sites)"
    np.testing.assert_array_equal([s.count for s in r.sites], 1000)
    assert "layer3[1, 2]" in str(r)
    assert [int(s.count[0]) for s in r.merge(r).sites] == [2000] * 14


def test_a_record_has_all_steps():
    (site,) = report(Site(place(units=2, loops=((0, 3),)), (), numbered([3], 5))).records
    assert site.iteration == () and site.dead.shape == site.count.shape == (3, 2)
    np.testing.assert_array_equal(site.mean, [[5, 5], [6, 6], [7, 7]])


def test_the_axes_of_vmap_are_before_those_of_scans():
    s = stacked(numbered([3], 0), numbered([3], 10))
    r = report(Site(place(units=2, loops=((0, 3),)), (), s))
    assert [s.mean.tolist() for s in r.sites] == [[[i, i], [10 + i, 10 + i]] for i in range(3)]
