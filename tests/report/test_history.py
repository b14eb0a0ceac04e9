"""Reports that forget, and what they note of each step."""

import copy
import math
import pickle
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxact._report import curves, history, moving, statistics
from jaxact._report.report import Report
from jaxact._report.site import Site
from tests.support.reports import (
    figures,
    normal,
    of_relu,
    place,
    png,
    record,
    replaced,
    report,
    stacked,
)


def value(words):
    """The count of words, exactly."""
    high, low, fraction = (int(word) for word in words)
    return (high << 32) + low + Fraction(fraction, 2**32)


def over(reports, decay):
    total, *rest = reports
    for r in rest:
        total = total.ema(r, decay)
    return total


# ------------------------------------------------------------------------------------------------
# The counts and the moments


@pytest.mark.parametrize("decay", [0.0, 1e-3, 0.5, 0.9, 0.99999999])
def test_counts_are_scaled_exactly(decay):
    words = np.random.default_rng(0).integers(0, 2**32, (50, 3)).astype(np.uint32)
    words[:3] = [[0, 0, 1], [0, 1, 0], [2**32 - 1] * 3]
    s = replaced(figures(units=50), active=words)
    found = jax.jit(moving.scaled)(s, decay).active
    factor = min(Fraction(float(np.float32(decay))), 1 - Fraction(1, 2**24))
    factor = Fraction(math.floor(factor * 2**32), 2**32)
    for before, after in zip(words, np.asarray(found), strict=True):
        assert value(after) == Fraction(math.floor(value(before) * factor * 2**32), 2**32)


def test_fractions_carry():
    words = np.array([[0, 0, 2**32 - 1], [0, 2**32 - 1, 2**32 - 1], [7, 2**32 - 1, 1]], np.uint32)
    for a in words:
        for b in words:
            found = statistics.add_words(jnp.asarray(a), jnp.asarray(b))
            assert value(np.asarray(found)) == value(a) + value(b)


def test_figures_are_those_of_weighted_samples():
    x = [normal(5 + 3 * (i % 2), 3, seed=i, loc=i / 4) for i in range(6)]
    (site,) = over([of_relu(jnp.asarray(a)) for a in x], 0.75).sites
    weights = np.concatenate([np.full(len(a), 0.75 ** (5 - i)) for i, a in enumerate(x)])
    x = np.concatenate(x).astype(float)
    assert site.count.tolist() == [round(weights.sum())] * 3
    active = np.floor(weights @ (x > 0) + 0.5)
    np.testing.assert_array_equal(site.active, active / site.count)
    np.testing.assert_allclose(site.mean, weights @ x / weights.sum(), rtol=1e-5)
    np.testing.assert_allclose(site.second_moment, weights @ x**2 / weights.sum(), rtol=1e-5)
    np.testing.assert_allclose(site.peak, (weights[:, None] * abs(x)).max(0), rtol=1e-5)


@pytest.mark.parametrize(("decay", "active"), [(0.9, 8), (0.98, 3), (0.5, 1)])
def test_a_unit_that_falls_silent_is_dead_after_some_time(decay, active):
    r = report(record(samples=16, units=2))
    first = replaced(figures(16, 2), active=statistics_words([active, 16]))
    r = report(Site(place(units=2), (), first))
    silent = report(Site(place(units=2), (), replaced(first, active=statistics_words([0, 16]))))

    def step(r, _):
        r = r.ema(silent, decay)
        return r, (r.sites[0].dead[0], r.sites[0].active[1])

    _, (dead, active_of_other) = jax.jit(lambda r: lax.scan(step, r, length=400))(r)
    assert dead.sum() == 400 - math.floor(math.log(2 * active) / -math.log(np.float32(decay)))
    assert (np.diff(dead.astype(int)) >= 0).all()
    np.testing.assert_allclose(active_of_other, 1, rtol=1e-6)


def statistics_words(counts):
    return np.stack([0 * np.array(counts), counts, 0 * np.array(counts)], -1).astype(np.uint32)


def test_a_batch_that_is_not_finite_is_forgotten():
    x = normal(20, 4)
    total = over([of_relu(x * np.nan), of_relu(x), of_relu(x)], 0.5)
    (site,), (alone,) = total.sites, of_relu(x).sites
    for name in ("mean", "second_moment", "fourth_moment", "magnitude", "peak"):
        found, expected = getattr(site, name), getattr(alone, name)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_unit_that_is_active_now_and_then_is_not_dead():
    """Counts rounded to whole samples would have it dead at the very next step."""
    silent, once = (
        report(Site(place(units=1), (), replaced(figures(4, 1), active=statistics_words([n]))))
        for n in (0, 1)
    )
    total = once
    for step in range(1, 60):
        total = total.ema(silent if step % 20 else once, 0.98)
        assert not total.sites[0].dead[0]


def test_a_report_keeps_its_type_in_jit_and_scan():
    x = normal(4, 6, 3)
    expected = over([of_relu(jnp.asarray(a)) for a in x], 0.9)

    def step(total, x):
        return total.ema(of_relu(x), jnp.float32(0.9)), None

    found, _ = jax.jit(lambda r, x: lax.scan(step, r, x))(of_relu(jnp.asarray(x[0])), x[1:])
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert len(found.history) == 0 and len(expected.history) == 4
    assert jax.tree.structure(found) == jax.tree.structure(expected)


def test_what_ema_refuses():
    r = of_relu(jnp.ones((2, 3)))
    for decay in (1, 1.0, -0.1, math.nan, np.float32(2), jnp.float32(1.5)):
        with pytest.raises(
            ValueError, match=r"Report.ema: decay must be at least 0 and below 1, got"
        ):
            r.ema(r, decay)
    for decay in ("0.9", None, True, np.ones(2)):
        with pytest.raises(TypeError, match=r"Report.ema: decay must be a number, got"):
            r.ema(r, decay)
    with pytest.raises(TypeError, match=r"Report.ema: new must be a Report, got None"):
        r.ema(None, 0.9)
    with pytest.raises(ValueError, match=r"Report.ema: the reports are of different models: "):
        r.ema(of_relu(jnp.ones((2, 4))), 0.9)
    again = r.ema(of_relu(jnp.ones((2, 3))), 0)
    assert again.sites[0].count.tolist() == [2, 2, 2]


# ------------------------------------------------------------------------------------------------
# The history


def test_the_history_has_the_shares_of_each_step():
    r = over([report(record(dead=n, saturated=n / 100)) for n in (10, 20, 40)], 0.5)
    found = r.history
    assert repr(found) == "History(3 steps of 1 sites)" and len(found) == 3
    assert found.steps.tolist() == [0, 1, 2] and found.sites == ("layer0 (relu, #0)",)
    np.testing.assert_allclose(found.dead, [[0.1], [0.2], [0.4]])
    np.testing.assert_allclose(found.saturated, [[0.1], [0.2], [0.4]], rtol=1e-6)
    assert len(report(record()).history) == 0
    assert report().ema(report(), 0.5).history.dead.shape == (2, 0)


def test_sites_of_a_history_are_in_the_order_of_the_reports():
    """Two activations in a scan of three, after one outside, of a vmap of two."""

    def of_step(dead):
        def all_steps(*numbers):
            one = stacked(*(figures(dead=n) for n in numbers))
            return jax.tree.map(lambda a: np.stack([a, a]), one)

        outside = jax.tree.map(lambda a: np.stack([a, a]), figures(dead=dead))
        return report(
            Site(place(index=0), (), outside),
            Site(place(index=1, loops=((0, 3),)), (), all_steps(10, 20, 30)),
            Site(place("elu", 2, loops=((0, 3),)), (), all_steps(0, 40, 50)),
            Site(place(index=3), (), figures(samples=0)),
        )

    r = over([of_step(60), of_step(70)], 0.9)
    assert r.history.sites == tuple(
        f"layer{site.index}{list(site.iteration) or ''} ({site.function}, #{site.index})"
        for site in r.sites
    )
    expected = [0, 0.1, 0, 0.2, 0.4, 0.3, 0.5, math.nan]
    np.testing.assert_allclose(r.history.dead, [[0.6, *expected[1:]], [0.7, *expected[1:]]])


def test_a_long_history_is_thinned_out(monkeypatch):
    monkeypatch.setattr(history, "MAX_SNAPSHOTS", 8)
    r = over([report(record(dead=n)) for n in range(50)], 0.5)
    assert r.history.steps.tolist() == [0, 8, 16, 24, 32, 40, 48]
    np.testing.assert_allclose(r.history.dead[:, 0], r.history.steps / 100)
    assert over([report(record())] * 8, 0.5).history.steps.tolist() == list(range(8))
    assert over([report(record())] * 9, 0.5).history.steps.tolist() == [0, 2, 4, 6, 8]


def test_who_keeps_the_history_and_who_does_not():
    long, short = (over([report(record())] * n, 0.5) for n in (4, 2))
    for merged in (long.merge(short), short.merge(long), long.merge(report(record()))):
        assert len(merged.history) == 4
    for copied in (copy.copy(long), copy.deepcopy(long), pickle.loads(pickle.dumps(long))):
        assert len(copied.history) == 4
        np.testing.assert_array_equal(copied.history.dead, long.history.dead)
    for other in (jax.tree.map(np.asarray, long), jax.device_get(long), jax.jit(lambda r: r)(long)):
        assert len(other.history) == 0
    assert jax.tree.structure(long) == jax.tree.structure(short)
    assert len(short.ema(report(record()), 0.5).history) == 3 and len(short.history) == 2


def test_a_longer_history_compiles_nothing_anew():
    traced = []

    @jax.jit
    def step(total):
        traced.append(1)
        return total.sites[0].mean

    total = of_relu(jnp.ones((2, 3)))
    for _ in range(3):
        step(total)
        total = total.ema(of_relu(jnp.ones((2, 3))), 0.5)
    assert len(traced) == 1

    @jax.jit
    def inside(r):
        with pytest.raises(TypeError, match=r"Report.history is computed on the host"):
            _ = r.history
        assert len(Report(r.records).ema(r, 0.5).snapshots.kept) == 0

    inside(total)


# ------------------------------------------------------------------------------------------------
# The picture


def test_plot_of_a_history():
    reports = [report(record(dead=n), record("gelu", 1, saturated=n / 100)) for n in (10, 20, 40)]
    first = over(reports[:1], 0.5).plot()
    assert len(first.axes) == 2
    figure = over(reports, 0.5).plot()
    _, _, dead, _, saturated = figure.axes
    assert [panel.get_title() for panel in (dead, saturated)] == [
        "units that are dead",
        "samples that are saturated",
    ]
    for panel, expected in ((dead, [[10, 20, 40], [0, 0, 0]]), (saturated, [None, [10, 20, 40]])):
        for line, of_site in zip(panel.lines, expected, strict=True):
            assert line.get_xdata().tolist() == [0, 1, 2]
            if of_site:
                np.testing.assert_allclose(line.get_ydata(), of_site, rtol=1e-6)
    (legend,) = figure.subfigs[1].legends
    assert [text.get_text() for text in legend.texts] == ["layer0 (relu, #0)", "layer1 (gelu, #1)"]
    assert png(figure).startswith(b"\x89PNG")


def test_plot_names_the_highest_of_many_sites(monkeypatch):
    monkeypatch.setattr(curves, "MAX_NAMES", 2)
    r = report(*(record(index=i, units=4, saturated=share) for i, share in enumerate([0.3, 0, 1])))
    figure = r.ema(r, 0.5).plot()
    (legend,) = figure.subfigs[1].legends
    names = [text.get_text() for text in legend.texts]
    assert names == ["layer0 (relu, #0)", "layer2 (relu, #2)", "1 more, with lower shares"]
    assert all(len(panel.lines) == 3 for panel in figure.axes[2:])
    assert legend.get_lines()[2].get_color() == "lightgray"


def test_plot_of_a_history_without_samples_or_sites():
    for r in (report(record(samples=0)), report()):
        assert png(r.ema(r, 0.5).plot()).startswith(b"\x89PNG")
