"""Statistics, sites and reports made by hand."""

import functools
import io

import jax
import numpy as np

from jaxact._report import render, statistics
from jaxact._report.report import Report
from jaxact._report.site import Place, Site
from jaxact._report.statistics import Statistics
from jaxact._report.summary import summarise


def words(counts):
    counts = np.asarray(counts, np.int64)
    return np.stack([counts >> 32, counts & 0xFFFFFFFF, 0 * counts], axis=-1).astype(np.uint32)


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
        fourth_moment=pair(np.full(units, mean**4 + 6 * mean**2 * std**2 + 3 * std**4)),
        peak=np.full(units, abs(mean) + 3 * std, np.float32),
        magnitude=pair(np.where(active > 0, abs(mean) + std, 0)),
    )


def replaced(s, **arrays):
    return Statistics(**{**{k: getattr(s, k) for k in s.__dataclass_fields__}, **arrays})


def stacked(*of_steps):
    return jax.tree.map(lambda *arrays: np.stack(arrays), *of_steps)


def numbered(lengths, start):
    """Statistics with a mean of its own at each step."""
    steps = np.arange(start, start + np.prod(lengths, dtype=int)).reshape(lengths)
    s = jax.tree.map(lambda a: np.broadcast_to(a, (*lengths, *a.shape)), figures(units=2))
    return replaced(s, mean=pair(np.stack([steps, steps], -1)))


def place(function="relu", index=0, path="", units=100, loops=()):
    path = path or f"layer{index}"
    return Place(index, path, function, (7, units), np.dtype(np.float32), "model.py:12", -1, loops)


def record(function="relu", index=0, path="", **kwargs):
    return Site(place(function, index, path, kwargs.get("units", 100)), (), figures(**kwargs))


def report(*records):
    return Report(records)


def normal(*shape, seed=0, loc=0.0):
    return np.random.default_rng(seed).normal(loc, size=shape).astype(np.float32)


@functools.partial(jax.jit, static_argnames=("axis", "binary", "rank"))
def collected(x, axis=-1, binary=True, rank=False):
    slope = (x > 0).astype(x.dtype)
    y = jax.nn.relu(x)
    return statistics.collect(x, slope, y, axis=axis, threshold=1e-3, binary=binary, rank=rank)


def of_relu(x, axis=-1):
    where = Place(0, "net", "relu", x.shape, x.dtype, "model.py:12", axis)
    return report(Site(where, (), collected(x, axis)))


def check(site, x, axis, peak=1e-7):
    """A report's figures against NumPy's, in float64.

    A product that NumPy and the probed function round each in its own way has peaks that differ by
    a rounding, which depends on the processor: 1e-6.
    """
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
        np.testing.assert_allclose(site.fourth_moment, (x**4).mean(others), rtol=1e-5)
        np.testing.assert_allclose(site.peak, abs(x).max(others), rtol=peak)
        np.testing.assert_allclose(site.magnitude, np.maximum(x, 0).mean(others), rtol=1e-5)


def three():
    return report(
        record("relu", 0, "encoder/relu", dead=60),
        record("gelu", 3, "encoder/mlp", samples=59, mean=-0.25, std=0.5),
        record("relu", 7, "head", samples=0),
    )


def rows(r):
    """The cells of a report's table."""
    return render.rows(summarise(r.sites, "The table"))


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
