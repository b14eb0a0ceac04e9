"""What is measured at an activation: the sums against NumPy's, and their merging."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec as P

from jaxact._report import statistics
from jaxact._report.site import Site
from tests.support.reports import (
    check,
    collected,
    figures,
    normal,
    of_relu,
    pair,
    place,
    replaced,
    report,
    stacked,
    words,
)


@pytest.mark.parametrize(
    ("shape", "axis", "dtype", "binary"),
    [
        ((), -1, jnp.bfloat16, False),
        ((0, 3), -1, jnp.float32, True),
        ((3, 0), -1, jnp.float32, False),
        ((7, 3), 0, jnp.bfloat16, True),
        ((4, 16, 3), -1, jnp.float16, False),
        ((4, 16, 3), 1, jnp.float32, True),
    ],
)
def test_figures_of_an_array(shape, axis, dtype, binary):
    x = jnp.asarray(normal(*shape), dtype)
    s = collected(x, axis, binary)
    check(report(Site(place(), (), s)).sites[0], x, axis)


def test_figures_in_float64():
    with jax.enable_x64(True):
        (site,) = of_relu(jnp.asarray(normal(16, 4), jnp.float64) + 1e9).sites
        assert site.mean.dtype == np.float64 and site.statistics.active.dtype == np.uint32
        np.testing.assert_allclose(site.mean - 1e9, normal(16, 4).mean(0), atol=1e-6)


def test_histogram():
    # Its counts are of a sample: here, of every other row and of all.
    x = np.array([[-1e9, -1.0, 0.1, 3.0, 1e30, np.inf, -np.inf, np.nan]], np.float32)
    (site,) = of_relu(jnp.asarray(np.repeat(x, 4, 0))).sites
    edges = statistics.histogram_edges()
    assert edges.shape == (statistics.HISTOGRAM_BINS + 1,)
    inside = np.clip(x[0, :-1], edges[0], edges[-1] * 0.999)
    np.testing.assert_array_equal(site.histogram, 4 * np.histogram(inside, edges)[0])
    big = normal(2**18, 2)
    (site,) = of_relu(jnp.asarray(big)).sites
    assert 2**13 <= site.histogram.sum() <= 2**15
    share = np.histogram(big, edges)[0] / big.size
    np.testing.assert_allclose(site.histogram / site.histogram.sum(), share, atol=0.01)


@pytest.mark.parametrize(
    ("spec", "kind"), [("a", "Explicit"), ("a", "Auto"), ((None, None, "a"), "Explicit")]
)
def test_figures_of_a_sharded_array(spec, kind):
    x = normal(16, 8, 8)
    mesh = jax.make_mesh((4,), ("a",), axis_types=(jax.sharding.AxisType[kind],))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, P(*spec)))
        r = report(Site(place(), (), collected(sharded)))
        check(r.merge(r).sites[0], [x, x], -1)


def test_figures_across_devices():
    x = normal(16, 8, loc=3)
    mesh = jax.make_mesh((8,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    # What each of the devices has on top, so that half words and words carry.
    more = np.array([3, 0xF000F000, 0xF000F000], np.uint32)

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=P("a"), out_specs=P())
    def run(x):
        own = collected(x, rank=True)
        large = jax.tree.map(
            lambda w: w | more.reshape([1] * (w.ndim - 1) + [3]) if w.dtype == jnp.uint32 else w,
            own,
        )
        return statistics.across(own, ["a"]), statistics.across(large, ["a"])

    own, large = run(x)
    check(report(Site(place(), (), own)).sites[0], x, -1)
    h = np.maximum(x, 0).reshape(-1, 8)
    np.testing.assert_allclose(own.features, h.T @ h / len(h), rtol=1e-5)
    top = 8 * (3 * 2**32 + 0xF000F000)
    top = 8 * (3 * 2**32 + 0xF000F000) + 8 * 0xF000F000 // 2**32 + 1  # rounded up
    assert statistics.exact(large.samples) == top + 16
    for name in ("active", "saturated", "histogram"):
        a, b = (statistics.exact(getattr(s, name)) for s in (own, large))
        np.testing.assert_array_equal(b, top + a)


# ------------------------------------------------------------------------------------------------
# Merging


def test_counts_merge_exactly_beyond_32_bits():
    rng = np.random.default_rng(0)
    large = rng.integers(0, 2**55, (20, 8))
    large[:6, 0] = 2**32 - 1, 1, 2**32, 2**31, 2**31, 3 * 2**31
    total = None
    for counts in large:
        s = figures(units=8)
        s = replaced(s, samples=words(counts[0]), active=words(counts), saturated=words(counts))
        s = replaced(s, histogram=words(np.resize(counts, statistics.HISTOGRAM_BINS)))
        one = report(Site(place(units=8), (), s))
        total = one if total is None else total.merge(one)
    s = total.records[0].statistics
    exact = large.sum(0)
    assert statistics.exact(s.samples) == exact[0]
    np.testing.assert_array_equal(statistics.exact(s.active), exact)
    np.testing.assert_array_equal(statistics.exact(s.saturated), exact)
    np.testing.assert_array_equal(
        statistics.exact(s.histogram), np.resize(exact, s.histogram.size // 3)
    )


def pieces(x, cuts):
    """The statistics of unequal parts, stacked: their means in float32, as devices have them."""
    parts = np.split(x.astype(np.float64), cuts)
    return stacked(
        *(
            replaced(
                figures(len(part), units=x.shape[1]),
                active=words((part > 0).sum(0)),
                mean=pair(part.mean(0)),
                second_moment=pair((part**2).mean(0)),
            )
            for part in parts
        )
    )


def test_moments_merge_in_any_order():
    x = normal(2**16, 4, loc=[0, 0.1, 5, -100])
    rng = np.random.default_rng(1)
    all_of_them = pieces(x, np.sort(rng.choice(np.arange(1, len(x)), 999, replace=False)))

    @jax.jit
    def in_order(order):
        start = report(Site(place(units=4), (), statistics.empty(4, jnp.float32)))

        def step(total, i):
            s = jax.tree.map(lambda a: jnp.asarray(a)[i], all_of_them)
            return total.merge(report(Site(place(units=4), (), s))), None

        return lax.scan(step, start, order)[0]

    means = []
    for _ in range(3):
        (site,) = in_order(rng.permutation(1000)).sites
        exact = x.astype(np.float64)
        assert (site.count == len(x)).all()
        np.testing.assert_array_equal(site.active, (exact > 0).mean(0))
        scale = np.sqrt((exact**2).mean(0))
        assert (abs(site.mean - exact.mean(0)) < 1e-6 * scale).all()
        np.testing.assert_allclose(site.second_moment, (exact**2).mean(0), rtol=1e-6)
        means.append(site.mean)
    # On the host, and pairwise: as a tree of devices does.
    heap = [
        report(Site(place(units=4), (), jax.tree.map(lambda a, i=i: a[i], all_of_them)))
        for i in range(1000)
    ]
    while len(heap) > 1:
        heap = [a.merge(b) for a, b in zip(heap[::2], heap[1::2], strict=False)] + heap[
            len(heap) // 2 * 2 :
        ]
    assert (abs(heap[0].sites[0].mean - means[0]) < 1e-6 * scale).all()


def test_merging_with_no_samples_changes_nothing():
    one = of_relu(jnp.asarray(normal(9, 3, loc=1e3)))
    none = report(Site(one.records[0].place, (), statistics.empty(3, jnp.float32)))
    for merged in (one.merge(none), none.merge(one), none.merge(one).merge(none)):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(merged), strict=True):
            np.testing.assert_array_equal(a, b)
    assert (none.merge(none).sites[0].count == 0).all()
