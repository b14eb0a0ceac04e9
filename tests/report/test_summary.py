"""A site in a few figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxact._report.site import Site
from jaxact._report.summary import needed, never_active
from tests.support.reports import figures, normal, of_relu, place, png, report, rows, stacked


def test_samples_that_are_needed():
    for share, samples in ((0.05, 59), (0.01, 299)):
        assert needed(share) == samples
        assert never_active(samples) <= share < never_active(samples - 1)


def test_vmapped_reports_are_summed_up():
    x = normal(3, 80, 5) - [[[0, 9, 0, 0, 0]]]
    r = jax.vmap(of_relu)(jnp.asarray(x, jnp.float32))
    (site,) = r.sites
    assert site.active.shape == site.active_upper.shape == (3, 5)
    figures = r.scalars()
    assert figures["net/relu/samples"] == 80
    assert figures["net/relu/dead"] == 3 / 15
    assert figures["net/relu/std"] == pytest.approx(x.std(), rel=1e-5)
    assert figures["net/relu/mean"] == pytest.approx(x.mean(), abs=1e-5)
    (row,) = rows(r)
    assert row[3:6] == ["3 x 5", "80", "3 (20.0%)"]
    (suggestion,) = r.advice()
    assert "3 of 15 units dead" in suggestion.reason
    assert png(r.plot()).startswith(b"\x89PNG")


def test_vmapped_branches_that_were_not_taken():
    taken = figures(100, units=4, dead=1, mean=2.0)
    s = stacked(taken, jax.tree.map(np.zeros_like, taken))
    r = report(Site(place(units=4), (), s))
    assert r.scalars() == {**report(Site(place(units=4), (), taken)).scalars()}
    assert rows(r)[0][3:6] == ["2 x 4", "100", "1 (25.0%)"]


def test_scalars_over_units_and_samples():
    x = normal(50, 4, loc=2) * np.float32([1, 2, 3, 4])
    found = of_relu(jnp.asarray(x)).scalars()
    assert found["net/relu/mean"] == pytest.approx(x.mean(), rel=1e-6)
    assert found["net/relu/std"] == pytest.approx(x.std(), rel=1e-5)
    assert found["net/relu/active"] == pytest.approx((x > 0).mean())
    x[3, 1] = np.nan
    broken = of_relu(jnp.asarray(x)).scalars()
    assert np.isnan(broken["net/relu/mean"]) and np.isnan(broken["net/relu/std"])
