"""The reports of jaxact.probe, made by hand: their figures, merging, and how they are shown."""

import copy
import functools
import io
import pickle
import re
import struct
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import tensorboardX
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec as P
from matplotlib.colors import to_rgba
from matplotlib.image import imread
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event

import jaxact
import jaxact.initializers
from jaxact._report import advice, remedies, render, statistics
from jaxact._report.report import Place, Record, Report
from jaxact._report.statistics import Statistics
from jaxact._report.summary import needed, never_active


def words(counts):
    counts = np.asarray(counts, np.int64)
    return np.stack([counts >> 32, counts & 0xFFFFFFFF], axis=-1).astype(np.uint32)


def pair(values):
    values = np.asarray(values, np.float32)
    return np.stack([values, np.zeros_like(values)], axis=-1)


def figures(samples=1000, units=100, dead=0, always=0, saturated=None, silent=0, mean=0.0, std=1.0):
    """Statistics of so many units that are dead, always active, or else active on every other.

    Args: ``saturated`` is the share of all units' samples, ``silent`` a number of units.
    """
    active = np.full(units, samples // 2)
    active[:dead] = 0
    active[units - always :] = samples
    low = samples - active if saturated is None else np.full(units, round(saturated * samples))
    low[:silent] = samples
    histogram = np.zeros(statistics.HISTOGRAM_BINS, int)
    histogram[20:30] = np.arange(10)
    return Statistics(
        samples=words(samples),
        active=words(active),
        saturated=words(low),
        mean=pair(np.full(units, mean)),
        second_moment=pair(np.full(units, mean**2 + std**2)),
        histogram=words(histogram if samples else 0 * histogram),
    )


def place(function="relu", index=0, path="", units=100, loops=()):
    path = path or f"layer{index}"
    return Place(index, path, function, (7, units), np.dtype(np.float32), "model.py:12", -1, loops)


def record(function="relu", index=0, path="", **kwargs):
    return Record(place(function, index, path, kwargs.get("units", 100)), figures(**kwargs))


def report(*records):
    return Report(records)


def stacked(*of_steps):
    return jax.tree.map(lambda *arrays: np.stack(arrays), *of_steps)


@functools.partial(jax.jit, static_argnames=("axis", "binary"))
def collected(x, axis=-1, binary=True):
    slope = (x > 0).astype(x.dtype)
    return statistics.collect(x, slope, axis=axis, threshold=1e-3, binary=binary)


def of_relu(x, axis=-1):
    where = Place(0, "net", "relu", x.shape, x.dtype, "model.py:12", axis)
    return report(Record(where, collected(x, axis)))


def normal(*shape, seed=0, loc=0.0):
    return np.random.default_rng(seed).normal(loc, size=shape).astype(np.float32)


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------
# Figures


def check(site, x, axis):
    """A report's figures against NumPy's, in float64."""
    x = np.asarray(x, np.float64)
    x = x.reshape(x.shape or (1,))
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    units = x.shape[axis % x.ndim]
    count = x.size // units if x.size else 0
    assert site.count.shape == (units,) and (site.count == count).all()
    np.testing.assert_array_equal(site.active, (x > 0).sum(others) / max(count, 1))
    np.testing.assert_array_equal(site.saturated, (x <= 0).sum(others) / max(count, 1))
    np.testing.assert_array_equal(site.dead, (x <= 0).all(others) & (count > 0))
    if count:
        np.testing.assert_allclose(site.mean, x.mean(others), atol=1e-5)
        np.testing.assert_allclose(site.second_moment, (x**2).mean(others), rtol=1e-5)


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
    check(report(Record(place(), s)).sites[0], x, axis)


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
        r = report(Record(place(), collected(sharded)))
        check(r.merge(r).sites[0], [x, x], -1)


def test_figures_across_devices():
    x = normal(16, 8, loc=3)
    mesh = jax.make_mesh((8,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    # What each of the devices has on top, so that half words and words carry.
    more = np.array([3, 0xF000F000], np.uint32)

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=P("a"), out_specs=P())
    def run(x):
        own = collected(x)
        large = jax.tree.map(
            lambda w: w | more.reshape([1] * (w.ndim - 1) + [2]) if w.dtype == jnp.uint32 else w,
            own,
        )
        return statistics.across(own, ["a"]), statistics.across(large, ["a"])

    own, large = run(x)
    check(report(Record(place(), own)).sites[0], x, -1)
    top = 8 * (3 * 2**32 + 0xF000F000)
    assert statistics.exact(large.samples) == top + 16
    for name in ("active", "saturated", "histogram"):
        a, b = (statistics.exact(getattr(s, name)) for s in (own, large))
        np.testing.assert_array_equal(b, top + a)


# ------------------------------------------------------------------------------------------------
# The bound


@pytest.mark.parametrize("n", [1, 7, 59, 1000, 10**7])
def test_upper_limit_of_the_activity(n):
    k = np.unique(np.minimum([0, 1, 5, n // 2, n - 1, n], n))
    s = figures(n, units=len(k))
    (site,) = report(Record(place(units=len(k)), _replaced(s, active=words(k)))).sites
    bound = site.active_upper
    expected = np.where(k < n, scipy.stats.beta.ppf(0.95, k + 1, np.maximum(n - k, 1)), 1)
    np.testing.assert_allclose(bound, expected, rtol=1e-9)
    # What it means: that many or fewer are seen with a probability of 5%.
    np.testing.assert_allclose(scipy.stats.binom.cdf(k[:-1], n, bound[:-1]), 0.05, rtol=1e-6)
    two_sided = scipy.stats.binomtest(int(k[0]), n).proportion_ci(0.9, "exact")
    assert bound[0] == pytest.approx(two_sided.high)
    assert bound[0] == pytest.approx(never_active(n)) == pytest.approx(1 - 0.05 ** (1 / n))


def _replaced(s, **arrays):
    return Statistics(**{**{k: getattr(s, k) for k in s.__dataclass_fields__}, **arrays})


def test_samples_that_are_needed():
    for share, samples in ((0.05, 59), (0.01, 299)):
        assert needed(share) == samples
        assert never_active(samples) <= share < never_active(samples - 1)


def test_without_samples():
    (site,) = report(Record(place(), statistics.empty(100, jnp.float32))).sites
    assert (site.count == 0).all() and not site.dead.any() and not site.active.any()
    assert (site.active_upper == 1).all()


# ------------------------------------------------------------------------------------------------
# Merging


def test_counts_merge_exactly_beyond_32_bits():
    rng = np.random.default_rng(0)
    large = rng.integers(0, 2**55, (20, 8))
    large[:6, 0] = 2**32 - 1, 1, 2**32, 2**31, 2**31, 3 * 2**31
    total = None
    for counts in large:
        s = figures(units=8)
        s = _replaced(s, samples=words(counts[0]), active=words(counts), saturated=words(counts))
        s = _replaced(s, histogram=words(np.resize(counts, statistics.HISTOGRAM_BINS)))
        one = report(Record(place(units=8), s))
        total = one if total is None else total.merge(one)
    s = total.records[0].statistics
    exact = large.sum(0)
    assert statistics.exact(s.samples) == exact[0]
    np.testing.assert_array_equal(statistics.exact(s.active), exact)
    np.testing.assert_array_equal(statistics.exact(s.saturated), exact)
    np.testing.assert_array_equal(
        statistics.exact(s.histogram), np.resize(exact, s.histogram.size // 2)
    )


def pieces(x, cuts):
    """The statistics of unequal parts, stacked: their means in float32, as devices have them."""
    parts = np.split(x.astype(np.float64), cuts)
    return stacked(
        *(
            _replaced(
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
        start = report(Record(place(units=4), statistics.empty(4, jnp.float32)))

        def step(total, i):
            s = jax.tree.map(lambda a: jnp.asarray(a)[i], all_of_them)
            return total.merge(report(Record(place(units=4), s))), None

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
        report(Record(place(units=4), jax.tree.map(lambda a, i=i: a[i], all_of_them)))
        for i in range(1000)
    ]
    while len(heap) > 1:
        heap = [a.merge(b) for a, b in zip(heap[::2], heap[1::2], strict=False)] + heap[
            len(heap) // 2 * 2 :
        ]
    assert (abs(heap[0].sites[0].mean - means[0]) < 1e-6 * scale).all()


def test_merging_inside_jit_and_scan_and_vmap():
    x = normal(5, 12, 3)
    first = of_relu(jnp.asarray(x[0]))
    together = jax.jit(lambda a, b: a.merge(of_relu(b)))(first, x[1])
    check(together.sites[0], x[:2].reshape(-1, 3), -1)

    def step(total, x):
        return total.merge(of_relu(x)), total.sites[0].count[0]

    total, counts = jax.jit(lambda r, x: lax.scan(step, r, x))(first, x[1:])
    check(total.sites[0], x.reshape(-1, 3), -1)
    np.testing.assert_array_equal(counts, [12, 24, 36, 48])
    (site,) = jax.vmap(lambda a, b: of_relu(a).merge(of_relu(b)))(x[:2], x[2:4]).sites
    np.testing.assert_allclose(site.mean, x[:4].reshape(2, 2, 12, 3).mean((0, 2)), atol=1e-6)


def test_merging_with_no_samples_changes_nothing():
    one = of_relu(jnp.asarray(normal(9, 3, loc=1e3)))
    none = report(Record(one.records[0].place, statistics.empty(3, jnp.float32)))
    for merged in (one.merge(none), none.merge(one), none.merge(one).merge(none)):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(merged), strict=True):
            np.testing.assert_array_equal(a, b)
    assert (none.merge(none).sites[0].count == 0).all()


def test_batches_of_other_sizes_merge():
    a, b = normal(9, 3), normal(2, 4, 3)
    merged = of_relu(jnp.asarray(a)).merge(of_relu(jnp.asarray(b)))
    check(merged.sites[0], np.concatenate([a, b.reshape(-1, 3)]), -1)


def test_reports_that_do_not_merge():
    one = report(record("relu", path="net"), record("gelu", 1))
    with pytest.raises(TypeError, match=r"Report.merge: other must be a Report, got None"):
        one.merge(None)
    with pytest.raises(ValueError, match="different models: 2 sites here, 1 there"):
        one.merge(report(record("relu", path="net")))
    with pytest.raises(
        ValueError, match=r"'net', 'relu', 100.* here is .*'net', 'elu', 100.* there"
    ):
        one.merge(report(record("elu", path="net"), record("gelu", 1)))
    with pytest.raises(ValueError, match="different models"):
        one.merge(report(record("relu", path="net"), record("gelu", 1, units=7)))


# ------------------------------------------------------------------------------------------------
# Scans and vmap


def numbered(lengths, start):
    """Statistics with a mean of its own at each step."""
    steps = np.arange(start, start + np.prod(lengths, dtype=int)).reshape(lengths)
    s = jax.tree.map(lambda a: np.broadcast_to(a, (*lengths, *a.shape)), figures(units=2))
    return _replaced(s, mean=pair(np.stack([steps, steps], -1)))


def test_sites_of_scans_are_in_the_order_of_execution():
    # Site 0; a scan of 2 steps with sites 1, 2 and 4, and an inner scan with 3; one more scan.
    outer, inner, other = (0, 2), (1, 3), (2, 1)
    loops = [(), (outer,), (outer,), (outer, inner), (outer,), (other,)]
    starts = [0, 10, 20, 30, 40, 50]
    r = report(
        *(
            Record(place(index=i, units=2, loops=loop), numbered([n for _, n in loop], start))
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


def test_the_axes_of_vmap_are_before_those_of_scans():
    s = stacked(numbered([3], 0), numbered([3], 10))
    r = report(Record(place(units=2, loops=((0, 3),)), s))
    assert [s.mean.tolist() for s in r.sites] == [[[i, i], [10 + i, 10 + i]] for i in range(3)]


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
    (row,) = render.rows(r)
    assert row[3:6] == ["3 x 5", "80", "3 (20.0%)"]
    (suggestion,) = r.advice()
    assert "3 of 15 units dead" in suggestion.reason
    assert png(r.plot()).startswith(b"\x89PNG")


def test_vmapped_branches_that_were_not_taken():
    taken = figures(100, units=4, dead=1, mean=2.0)
    s = stacked(taken, jax.tree.map(np.zeros_like, taken))
    r = report(Record(place(units=4), s))
    assert r.scalars() == {**report(Record(place(units=4), taken)).scalars()}
    assert render.rows(r)[0][3:6] == ["2 x 4", "100", "1 (25.0%)"]


@pytest.mark.parametrize("method", ["scalars", "plot", "advice", "__str__"])
@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, functools.partial(jax.jit, inline=True)])
def test_a_traced_report_has_no_figures(method, transform):
    def run(x):
        r = of_relu(x)
        assert repr(r) == "Report(1 site)"
        getattr(r, method)()

    with pytest.raises(
        TypeError, match="is computed on the host: return the report from jit first"
    ):
        transform(run)(jnp.ones((2, 8, 3)))


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


def test_shapes_have_no_figures():
    shapes = jax.eval_shape(of_relu, jax.ShapeDtypeStruct((8, 3), jnp.float32))
    with pytest.raises(TypeError, match=r"Report.scalars is computed on the host"):
        shapes.scalars()


# ------------------------------------------------------------------------------------------------
# The table


def three():
    return report(
        record("relu", 0, "encoder/relu", dead=60),
        record("gelu", 3, "encoder/mlp", samples=59, mean=-0.25, std=0.5),
        record("relu", 7, "head", samples=0),
    )


def test_rows():
    first, second, third = render.rows(three())
    assert first == [
        *("0", "encoder/relu", "relu", "100", "1000", "60 (60.0%)", "0.3", "20.0", "80.0"),
        *("0", "1", "model.py:12"),
    ]
    assert second[4:] == ["59", "0", "-", "49.2", "50.8", "-0.25", "0.5", "model.py:12"]
    assert third == ["7", "head", "relu", "100", "0", *["-"] * 6, "model.py:12"]
    assert len(render.HEADINGS) == len(first)


def test_str_is_a_table_with_a_caption():
    text = str(three())
    lines = text.splitlines()
    assert lines[0].split() == " ".join(render.HEADINGS).split()
    for row in render.rows(three()):
        assert any(all(cell in line for cell in row) for line in lines)
    assert max(map(len, lines)) <= 160
    flat = " ".join(text.split())
    assert "f'(x) = 0 on every sample" in flat
    assert "one-sided 95% Clopper-Pearson, takes samples as independent" in flat
    assert repr(three()) == "Report(3 sites)" and repr(report()) == "Report(0 sites)"
    assert "statistics" not in repr(three().sites[0]) + repr(three().records[0])


def test_the_table_has_no_escapes(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in str(three())


def test_a_terminal_has_its_own_width(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "110")
    narrow = str(three())
    assert max(map(len, narrow.splitlines())) <= 110
    assert {word for row in render.rows(three()) for word in row} - set(narrow.split()) == {
        "60 (60.0%)"
    }


def test_rich_prints_the_table():
    console = Console(file=io.StringIO(), width=160)
    console.print(three())
    assert "60 (60.0%)" in console.file.getvalue()


@pytest.mark.parametrize("width", [70, 80, 100, 130, 160])
def test_a_narrow_table_does_without_some_columns(width):
    path = "TransformerEncoder/feed_forward_blocks/0/activation"
    r = report(record("leaky_relu", 12, path, units=4096, dead=60))
    console = Console(file=io.StringIO(), width=width)
    console.print(r)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    headings = lines[0].split()
    assert {"#", "path", "function", "dead", "bound", "active"} <= set(headings)
    assert ("mean" in headings) == (width > 100)
    assert lines[2].startswith(f"12  {path[:20]}") and "60 (1.5%)" in lines[2]


def test_many_sites_are_counted():
    r = report(*(record(index=i, units=4, dead=i % 2) for i in range(render.MAX_ROWS + 4)))
    rows = render.rows(r)
    assert len(rows) == render.MAX_ROWS + 1
    assert rows[-1][1] == "and 4 more, 2 of them with dead units"
    assert "and 4 more" in str(r)
    exactly = report(*r.records[: render.MAX_ROWS])
    assert len(render.rows(exactly)) == render.MAX_ROWS
    alive = report(*(record(index=i, units=4) for i in range(render.MAX_ROWS + 1)))
    assert render.rows(alive)[-1][1] == "and 1 more, none of them with dead units"
    assert "64 sites" in render.plot(r).get_suptitle()


def test_plain_text_without_rich(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.setitem(sys.modules, name, None)
    lines = str(three()).splitlines()
    assert set(lines[1]) == {"-", " "}
    assert lines[2].split()[:6] == ["0", "encoder/relu", "relu", "100", "1000", "60"]
    assert lines[-1] == render.CAPTION
    with pytest.raises(ImportError):
        render.rich_table(three(), 80)


def test_a_report_of_no_sites():
    assert render.rows(report()) == []
    assert "Clopper-Pearson" in str(report())
    assert png(report().plot()).startswith(b"\x89PNG")
    assert report().scalars() == {}


# ------------------------------------------------------------------------------------------------
# Scalars


def test_names_of_scalars():
    def names(*records):
        return {
            name.removesuffix("/dead") for name in report(*records).scalars() if "/dead" in name
        }

    assert names(record(path="encoder")) == {"encoder/relu"}
    assert names(record(path="encoder/relu")) == {"encoder/relu"}
    assert names(record(path="relu")) == {"relu"}
    assert names(record(path="model.py:12")) == {"model.py:12/relu"}
    assert names(record(path="a"), record("gelu", 1, "a")) == {"a/relu", "a/gelu"}
    assert names(record(path="a"), record("relu", 4, "a/relu")) == {"a/relu_0", "a/relu_4"}
    nested = Record(place(index=2, path="a", units=2, loops=((0, 2), (1, 2))), numbered([2, 2], 0))
    steps = {f"a/relu/{i}/{j}" for i in range(2) for j in range(2)}
    assert names(nested) == steps
    numbers = {step.replace("relu", "relu_2") for step in steps}
    assert names(nested, record(index=3, path="a")) == {*numbers, "a/relu_3"}
    nameless = Record(Place(0, "", "relu", (7, 100), np.dtype(np.float32), "", -1), figures())
    assert names(nameless) == {"relu"}


def test_scalars():
    found = three().scalars()
    assert len(found) == 3 * 6
    assert all(type(figure) is float and np.isfinite(figure) for figure in found.values())
    assert found["encoder/relu/dead"] == 0.6
    assert found["encoder/relu/active"] == 0.2
    assert found["encoder/relu/saturated"] == 0.8
    assert found["encoder/relu/samples"] == 1000
    assert found["encoder/mlp/gelu/mean"] == -0.25
    assert found["encoder/mlp/gelu/std"] == 0.5
    assert {figure for name, figure in found.items() if name.startswith("head/")} == {0.0}


def test_scalars_over_units_and_samples():
    x = normal(50, 4, loc=2) * np.float32([1, 2, 3, 4])
    found = of_relu(jnp.asarray(x)).scalars()
    assert found["net/relu/mean"] == pytest.approx(x.mean(), rel=1e-6)
    assert found["net/relu/std"] == pytest.approx(x.std(), rel=1e-5)
    assert found["net/relu/active"] == pytest.approx((x > 0).mean())
    x[3, 1] = np.nan
    broken = of_relu(jnp.asarray(x)).scalars()
    assert np.isnan(broken["net/relu/mean"]) and np.isnan(broken["net/relu/std"])


def read_events(path):
    """TensorBoard's file: length, check sum, event, check sum."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def test_scalars_in_tensorboard(tmp_path):
    written = {3: three().scalars(), 4: report(record(path="blocks/mlp", dead=7)).scalars()}
    with tensorboardX.SummaryWriter(str(tmp_path)) as writer:
        for step, found in written.items():
            for name, figure in found.items():
                writer.add_scalar(name, figure, step)
    (file,) = tmp_path.iterdir()
    read = {}
    for event in read_events(file):
        for value in event.summary.value:
            read.setdefault(event.step, {})[value.tag] = value.simple_value
    assert read.keys() == written.keys()
    for step, found in written.items():
        assert read[step] == pytest.approx(found, rel=1e-6)


def test_scalars_of_steps_stay_apart_in_tensorboard(tmp_path):
    nested = Record(place(index=2, units=2, loops=((0, 2), (1, 3))), numbered([2, 3], 0))
    found = report(nested, record(index=3, path="layer2")).scalars()
    with tensorboardX.SummaryWriter(str(tmp_path)) as writer:
        for name, figure in found.items():
            writer.add_scalar(name, figure, 0)
    (file,) = tmp_path.iterdir()
    tags = [value.tag for event in read_events(file) for value in event.summary.value]
    assert len(set(tags)) == len(tags) == len(found) == 7 * 6
    assert set(tags) == set(found)


# ------------------------------------------------------------------------------------------------
# The picture


def test_a_saturated_log_sigmoid_is_that_of_a_loss_which_is_small():
    assert list(report(record("sigmoid", saturated=1.0)).advice())
    assert not list(report(record("log_sigmoid", saturated=1.0)).advice())


def test_plot():
    r = report(record("relu", 0, "a", dead=60), record("tanh", 1, "b", saturated=0.25))
    figure = r.plot()
    shares, densities = figure.axes
    bars = [[bar.get_width() for bar in of_one] for of_one in shares.containers]
    np.testing.assert_allclose(bars, [[60, 0], [80, 25]])
    assert [c.get_label() for c in shares.containers] == ["dead", "saturated"]
    assert shares.get_xlim() == (0, 100)
    assert [label.get_text() for label in shares.get_yticklabels()] == [
        "0: a (relu)",
        "1: b (tanh)",
    ]
    assert shares.yaxis_inverted()
    assert densities.get_xscale() == "asinh"
    curves = [patch.get_data() for patch in densities.patches]
    for row, (values, edges, baseline) in enumerate(curves):
        counts = r.sites[row].histogram
        np.testing.assert_allclose(edges, statistics.histogram_edges())
        np.testing.assert_allclose((baseline - values) / 0.8, counts / counts.max())
        assert (abs(values - row) <= 0.41).all()
    assert len(curves) == 2
    image = imread(io.BytesIO(png(figure)))
    assert image.shape[0] > 200 and image.shape[1] > 900
    red = (abs(image - to_rgba("tab:red")) < 0.01).all(-1)
    assert red.any()


def test_plot_of_what_is_not_finite_or_empty():
    broken = figures(mean=np.nan)
    zeros = np.zeros_like(broken.histogram)
    r = report(Record(place(), _replaced(broken, histogram=zeros)), record(index=1, samples=0))
    assert png(r.plot()).startswith(b"\x89PNG")


def test_plot_leaves_pyplot_alone():
    before = set(sys.modules)
    three().plot()
    assert "matplotlib.pyplot" not in set(sys.modules) - before


# ------------------------------------------------------------------------------------------------
# Advice


def test_every_activation_is_of_one_kind():
    for name in jaxact.ACTIVATIONS:
        assert sum(name in kind for kind in remedies.KINDS) == 1, name
    named = frozenset().union(*remedies.KINDS, remedies.LINEAR_PIECE, remedies.HALF_OFF)
    others = {*remedies._INSTEAD, *remedies._INSTEAD.values(), *remedies._NOTHING_INSTEAD}
    assert named | others <= jaxact.ACTIVATIONS.keys()


@pytest.mark.parametrize("name", jaxact.ACTIVATIONS)
def test_the_code_in_the_advice_runs(name):
    """Every remedy of every function: its replacement takes as many arrays."""
    r = report(*(record(name, i, dead=100, silent=100, std=100.0) for i in (2, 5)))
    swapped = []
    fake = types.SimpleNamespace(
        initializers=jaxact.initializers,
        swap=lambda model, sites: swapped.append(sites),
        revive=lambda params, report: None,
        **{known: jaxact.ACTIVATIONS[known] for known in jaxact.ACTIVATIONS},
    )
    words = {"jaxact": fake, "model": None, "params": None, "report": r, "jax": jax}
    for suggestion in r.advice():
        for code in re.findall("`([^`]+)`", suggestion.text):
            if code.startswith("jaxact."):
                eval(code, words)
    for sites in swapped:
        assert list(sites) == [2, 5]
        gated = name in ("reglu",)
        for function in sites.values():
            x = jnp.ones((4, 4))
            assert function(*([x, x] if gated else [x])).shape == (4, 4)


def only(**kwargs):
    """The suggestions for one site, by severity."""
    function = kwargs.pop("function", "relu")
    return [(s.severity, s) for s in report(record(function, 4, "net", **kwargs)).advice()]


@pytest.mark.parametrize("function", ["relu", "hard_silu", "reglu", "hard_tanh", "soft_shrink"])
@pytest.mark.parametrize(
    ("dead", "severity"),
    [(1, None), (2, "note"), (19, "note"), (20, "consider"), (49, "consider"), (50, "act")],
)
def test_dead_units(function, dead, severity):
    found = only(function=function, dead=dead, saturated=0.1)
    assert [s for s, _ in found] == ([severity] if severity else [])
    for _, suggestion in found:
        assert suggestion.sites == (f"net ({function}, #4)",)
        assert f"net: {dead} of 100 units dead ({dead}%)" in suggestion.reason
        assert "at most 0.299% of all data" in suggestion.reason  # 1 - 0.05^(1/1000)
        assert "independent" in suggestion.reason
        assert ("In notebooks/dying.ipynb" in suggestion.reason) == (severity != "note")
        assert ("jaxact.swap(model, {4: jaxact." in suggestion.text) == (severity != "note")


def test_what_dead_relus_need():
    ((_, found),) = only(dead=50)
    assert "jaxact.swap(model, {4: jaxact.leaky_relu})" in found.text
    assert "learning rate" in found.text
    assert "jaxact.revive(params, report)" in found.text
    assert "1903.06733" in found.reference and "1502.01852" in found.reference
    ((_, gate),) = only(function="reglu", dead=50)
    assert "jaxact.swiglu" in gate.text and "revive" not in gate.text


def test_a_layer_of_dead_units_comes_first():
    r = report(
        record("relu", 0, "first", dead=99),
        record("tanh", 1, "second", dead=100, silent=100),
        record("relu", 2, "third", dead=100),
    )
    found = r.advice()
    assert [s.sites for s in found] == [
        ("second (tanh, #1)",),
        ("third (relu, #2)",),
        ("first (relu, #0)",),
    ]
    assert {s.severity for s in found} == {"act"}
    for suggestion in found[:2]:
        assert suggestion.text.startswith("This comes first.")
        assert "no gradient passes the layer" in suggestion.reason
    assert "This comes first" not in found[2].text


@pytest.mark.parametrize("function", ["leaky_relu", "prelu"])
def test_a_negative_slope_of_zero(function):
    ((severity, found),) = only(function=function, dead=20)
    assert severity == "consider"
    assert "give it another, as in leaky_relu" in found.text


@pytest.mark.parametrize(
    ("function", "figures"),
    [
        ("relu", {"dead": 60}),
        ("relu", {"dead": 100}),
        ("hard_tanh", {"dead": 20}),
        ("gelu", {"silent": 20}),
        ("tanh", {"dead": 100}),
    ],
)
def test_too_few_samples_to_call_units_dead(function, figures):
    ((severity, found),) = only(function=function, samples=58, **figures)
    assert severity == "note"
    assert "on 58 samples" in found.reason and "up to 5.03% of all data" in found.reason
    assert "59 samples give a bound of 5%, 299 one of 1%" in found.text
    assert "Change nothing yet" in found.text and "swap" not in found.text
    ((severity, found),) = only(function=function, samples=59, **figures)
    assert severity in ("act", "consider")
    # A hundredth of the units is not worth a word.
    assert only(function="relu", samples=58, dead=1) == []


def test_narrow_layers_may_be_born_dead():
    def reason(units, dead, function="relu"):
        (found,) = report(
            record(function, 0, dead=dead, units=units), record(function, 1, units=4)
        ).advice()
        return found.reason

    assert "dead from the start" not in reason(32, 16)
    assert "dead from the start" in reason(31, 16)
    probability = 1 - (1 - 2**-8) * (1 - 2**-4)
    assert f"a probability of {100 * probability:.3g}% at most" in reason(8, 4)
    assert "dead from the start" not in reason(8, 4, "hard_tanh")
    same = report(*(record(index=i, units=5, dead=1) for i in range(20))).advice()
    assert f"{100 * (1 - (1 - 2**-5) ** 20):.3g}%" in same[0].reason


@pytest.mark.parametrize(
    "function", ["sigmoid", "tanh", "soft_sign", "softplus", "hard_tanh", "hard_sigmoid"]
)
def test_saturation(function):
    assert only(function=function, saturated=0.5) == []
    ((severity, found),) = only(function=function, saturated=0.501)
    assert severity == "consider"
    assert "50.1% of the samples saturated" in found.reason and "more than 50%" in found.reason
    assert "In a gate, which is to be open or shut, this is fine." in found.reason
    assert "ormalise the pre-activations" in found.text and "smaller weights" in found.text
    assert "Glorot" in found.reference
    assert only(function="relu", saturated=0.9) == only(function="gelu", saturated=0.9) == []


def test_saturated_gates_are_fine():
    ((severity, found),) = only(function="glu", saturated=0.9, dead=100)
    assert severity == "note"
    assert "Nothing to change" in found.text and "this is fine" in found.reason
    assert only(function="glu", saturated=0.5) == []


@pytest.mark.parametrize("function", ["gelu", "silu", "elu", "swiglu", "tanh_shrink"])
@pytest.mark.parametrize("how", [{"dead": 1}, {"silent": 1}])
def test_smooth_rectifiers_that_are_as_good_as_dead(function, how):
    ((key, _),) = how.items()
    assert only(function=function, saturated=0.1, **{key: 19}) == []
    ((severity, found),) = only(function=function, saturated=0.1, **{key: 20})
    assert severity == "consider"
    assert "20 of 100 units as good as dead (20%)" in found.reason
    assert "learning rate" in found.text
    instead = function not in ("swiglu", "tanh_shrink")
    assert ("jaxact.swap(model, {4: jaxact.leaky_relu})" in found.text) == instead


@pytest.mark.parametrize("function", ["relu", "relu6", "reglu", "threshold"])
def test_units_that_are_always_on(function):
    assert only(function=function, always=50) == []
    ((severity, found),) = only(function=function, always=51)
    assert severity == "note"
    linear = "bilinear" if function == "reglu" else "linear"
    assert found.text.startswith(f"The layer is close to {linear}:")
    assert "51 of 100 units always active (51%)" in found.reason
    assert only(function=function, always=51, samples=58) == []


def test_always_on_says_nothing_of_other_functions():
    for function in ("relu_squared", "leaky_relu", "gelu", "identity", "hard_silu"):
        assert only(function=function, always=100) == []


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ({"std": 30.0}, {"std": 30.1}),
        ({"std": 0.0101}, {"std": 0.0099}),
        ({"mean": 30.0}, {"mean": 30.1}),
        ({"mean": -30.0}, {"mean": -30.1}),
    ],
)
def test_pre_activations_of_odd_size(inside, outside):
    assert only(function="silu", **inside) == []
    ((severity, found),) = only(function="silu", **outside)
    assert severity == "consider"
    assert "Normalise" in found.text
    assert 'jaxact.initializers.he_normal(activation="silu")' in found.text
    assert f"{next(iter(outside.values())):.3g}" in found.reason
    assert "above 30" in found.reason and "below 0.01" in found.reason


def test_one_value_has_no_spread():
    assert only(samples=1, units=1, std=0.0, always=1) == []
    assert [s for s, _ in only(samples=2, units=1, std=0.0, always=1)] == ["consider"]


@pytest.mark.parametrize("broken", [{"mean": np.nan}, {"mean": np.inf}, {"std": np.inf}])
def test_pre_activations_that_are_not_finite(broken):
    ((severity, found),) = only(dead=100, **broken)
    assert severity == "act"
    assert "not finite" in found.reason and "jax_debug_nans" in found.text
    assert "Dead" not in found.reason


def test_one_unit_that_is_not_finite():
    x = normal(50, 4)
    x[7, 3] = np.inf
    (found,) = of_relu(jnp.asarray(x)).advice()
    assert "not finite" in found.reason


def test_sites_of_a_function_share_a_suggestion():
    r = report(
        record("relu", 0, "a", dead=20),
        record("gelu", 1, "b"),
        record("relu", 5, "c", dead=30, samples=100),
        record("relu6", 7, "d", dead=30),
    )
    first, second = r.advice()
    assert first.sites == ("a (relu, #0)", "c (relu, #5)")
    assert "jaxact.swap(model, dict.fromkeys([0, 5], jaxact.leaky_relu))" in first.text
    assert "a: 20 of 100 units dead (20%); c: 30 of 100 units dead (30%)." in first.reason
    assert "at most 2.95% of all data" in first.reason  # That of the fewer samples.
    assert second.sites == ("d (relu6, #7)",)
    assert str(r.advice()).endswith("pre-activations of a usual size.")
    assert "Nothing to change elsewhere: 1 site, 100 units" in r.advice().summary


def test_steps_of_a_scan_are_swapped_together():
    s = stacked(figures(dead=20), figures(), figures(dead=30))
    (found,) = report(Record(place(index=3, path="blocks", loops=((0, 3),)), s)).advice()
    assert found.sites == ("blocks[0] (relu, #3)", "blocks[2] (relu, #3)")
    assert "{3: jaxact.leaky_relu}" in found.text
    assert found.text.endswith("All steps of a scan change with one.")


def test_many_sites_are_named_in_part():
    r = report(*(record(index=i, dead=20) for i in range(20)))
    (found,) = r.advice()
    assert len(found.sites) == 20
    assert found.reason.count("units dead") == 8 and "; and 12 more." in found.reason
    assert "and 12 more" in str(found)


def test_nothing_to_change():
    found = report(
        record("relu", 0), record("leaky_relu", 1, samples=500), record("gelu", 2)
    ).advice()
    assert found == () and isinstance(found, tuple)
    text = " ".join(str(found).split())
    assert text == (
        "Nothing to change: 3 sites, 300 units, at least 500 samples each; no dead units; "
        "pre-activations of a usual size. Without dead units there is no need of a leaky slope "
        "(relu). A slope on both sides keeps units alive (leaky_relu)."
    )
    few = str(report(record(dead=1, units=200)).advice())
    assert few.startswith("Nothing to change: 1 site, 200 units")
    assert "1 unit of slope 0 on every sample" in few and "leaky" not in few


@pytest.mark.parametrize("name", jaxact.ACTIVATIONS)
def test_a_healthy_function_needs_nothing(name):
    assert only(function=name, saturated=0.3) == []


@pytest.mark.parametrize("name", jaxact.ACTIVATIONS)
def test_no_samples_no_advice(name):
    found = report(record(name, samples=0), record(name, 1, samples=0)).advice()
    assert found == ()
    assert str(found) == "No advice: 2 sites, and no samples."
    empty = statistics.empty(100, jnp.float32)
    assert report(Record(place(name), empty)).advice() == ()


def test_sites_without_samples_are_counted():
    assert str(report().advice()) == "No advice: the report has no sites."
    one = report(record("gelu"), record("gelu", 1, samples=0)).advice()
    assert one == () and str(one).endswith("1 site without samples.")
    two = report(record("relu", dead=60), record("relu", 1, samples=0)).advice()
    assert len(two) == 1 and two.summary == "1 site without samples."
    assert report(record("relu", dead=60)).advice().summary == ""


def test_advice_prints_as_text():
    found = report(record("relu", dead=60, path="encoder/relu"), record("gelu", 1)).advice()
    lines = str(found).splitlines()
    assert lines[0] == "act: encoder/relu (relu, #0)"
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("  Why: encoder/relu: 60 of 100") for line in lines)
    assert any(line.startswith("  See: Lu et al. 2019") for line in lines)
    assert "jaxact.swap(model, {0: jaxact.leaky_relu})" in " ".join(str(found).split())
    for copied in (copy.copy(found), pickle.loads(pickle.dumps(found))):
        assert copied == found and copied.summary == found.summary


def test_reference_of_every_rule():
    for rule in advice._RULES:
        assert re.search(r"\d{4}|https://", rule.reference)
    assert [advice.DEAD_ACT, advice.DEAD_CONSIDER, advice.DEAD_NOTE] == [0.5, 0.2, 0.01]
