"""What is measured at an activation: sums over samples, exact where they are counts, that merge.

A count is three 32-bit words (the last axis: high, low, fraction), so that it stays exact beyond
2^32 without 64-bit types. The fraction, in 2^-32, is 0 but in reports that forget
(`jaxact.Report.ema`), whose old samples weigh less than one; readers round. A moment is a sum of
two floats (large, small), so that the order in which thousands of batches are merged does not show.
The last axis but one of such an array is the axis of the units (of the bins, for a histogram);
axes before it come from ``vmap`` and ``scan``. `TRAILING` says how many axes each array has without
these.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

#: The pre-activation histogram has bins of equal width in asinh(x): even near 0, logarithmic far
#: out. Values beyond the limits count in the outermost bins.
HISTOGRAM_LIMIT = 7.0
HISTOGRAM_BINS = 56
#: The histogram is of a sample of about this many values of an array; of an eighth of a small one,
#: but of these at least, for it costs as much as all the rest.
_HISTOGRAM_SAMPLE = 2**13
_SMALLEST_SAMPLE = 2**10
#: How many rows are summed at a time: few enough for the summands to stay in cache on CPUs, whose
#: compiler would otherwise write each of them to memory.
_ROWS = 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Statistics:
    """The sums over the samples of one site.

    Attributes:
      samples: how many samples each unit has had, (3,).
      active: how many samples of a unit had f'(x) other than 0, (units, 3).
      saturated: how many samples of a unit had |f'(x)| below the threshold, (units, 3).
      mean: the mean of the pre-activation, (units, 2).
      second_moment: the mean of the pre-activation's square, (units, 2).
      histogram: counts of a sample of all units' pre-activations, (bins, 3).
      fourth_moment: the mean of the pre-activation's fourth power, (units, 2).
      peak: the largest |pre-activation|, (units,).
      magnitude: the mean of the activation's absolute value, (units, 2).
      features: the mean of the products of two units' activations, (units, units), or None where
        it was not asked for.
      gradient: the mean of |d loss / d activation|, (units, 2): NaN where it cannot be seen, None
        where it was not asked for.
    """

    samples: jax.Array
    active: jax.Array
    saturated: jax.Array
    mean: jax.Array
    second_moment: jax.Array
    histogram: jax.Array
    fourth_moment: jax.Array
    peak: jax.Array
    magnitude: jax.Array
    features: jax.Array | None = None
    gradient: jax.Array | None = None


#: For each array, how many axes it has without those of ``vmap`` and ``scan``.
TRAILING: Mapping[str, int] = {
    **dict.fromkeys(("samples", "peak"), 1),
    **dict.fromkeys(("active", "saturated", "histogram", "features"), 2),
    **dict.fromkeys(("mean", "second_moment", "fourth_moment", "magnitude", "gradient"), 2),
}


def collect(
    x: jax.Array,
    slope: jax.Array,
    y: jax.Array,
    *,
    axis: int,
    threshold: float,
    binary: bool,
    rank: bool = False,
) -> Statistics:
    """The statistics of one array of pre-activations.

    Args:
      x: the pre-activations.
      slope: f'(x), of the shape of x.
      y: the activations: of the shape of x, or with several values for each, as of crelu.
      axis: the axis of the units.
      threshold: a unit is saturated where |f'(x)| is below this.
      binary: whether the slope is always 0 or 1.
      rank: whether to collect the products of two units' activations.
    """
    if x.ndim == 0:
        x, slope, y = x[None], slope[None], y[None]
    dtype = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
    x, y = x.astype(dtype), y.astype(dtype)
    axis %= x.ndim
    units = x.shape[axis]
    count = x.size // units if x.size else 0
    active_ones = (slope != 0).astype(jnp.uint32)
    squared = x * x
    powers = [x, squared, squared * squared]
    if binary:
        (total, squares, fourths, active), (peak,) = _totals([*powers, active_ones], [abs(x)], axis)
        saturated = np.uint32(count) - active
    else:
        # In one reduction of all, XLA's CPU compiler does not vectorise a long slope.
        saturated_ones = (abs(slope) < threshold).astype(jnp.uint32)
        (total, squares, fourths), (peak,) = _totals(powers, [abs(x)], axis)
        (active, saturated), _ = _totals([active_ones, saturated_ones], [], axis)
    return Statistics(
        samples=jnp.array([count >> 32, count & 0xFFFFFFFF, 0], jnp.uint32),
        active=_words(active),
        saturated=_words(saturated),
        mean=_pair(total / max(count, 1)),
        second_moment=_pair(squares / max(count, 1)),
        histogram=_words(_histogram(x, axis)),
        fourth_moment=_pair(fourths / max(count, 1)),
        peak=peak,
        magnitude=_pair(sizes(y, axis, units) / max(count, 1)),
        features=_products(y, axis) / max(count, 1) if rank else None,
    )


def sizes(y: jax.Array, axis: int, units: int) -> jax.Array:
    """The sum of |y| for each unit, which may have several entries of the axis, as with crelu."""
    if y.ndim == 0:
        y = y[None]
    (total,), _ = _totals([abs(y)], [], axis % y.ndim)
    return _sum(total.reshape(-1, units), (0,)) if total.size != units else total


def _products(y: jax.Array, axis: int) -> jax.Array:
    """The sum over the samples of the products of two units' values."""
    others = tuple(i for i in range(y.ndim) if i != axis)
    mesh = jax.typeof(y).sharding.mesh
    whole = NamedSharding(mesh, PartitionSpec()) if AxisType.Explicit in mesh.axis_types else None
    return lax.dot_general(
        *(y, y, ((others, others), ((), ()))),
        precision=lax.Precision.HIGHEST,
        out_sharding=whole,
    )


def empty(units: int, dtype: Any) -> Statistics:
    """The statistics of no samples: adding them changes nothing."""
    dtype = jnp.float64 if dtype == jnp.float64 else jnp.float32
    words = jnp.zeros((units, 3), jnp.uint32)
    pair = jnp.zeros((units, 2), dtype)
    return Statistics(
        samples=jnp.zeros((3,), jnp.uint32),
        active=words,
        saturated=words,
        mean=pair,
        second_moment=pair,
        histogram=jnp.zeros((HISTOGRAM_BINS, 3), jnp.uint32),
        fourth_moment=pair,
        peak=jnp.zeros((units,), dtype),
        magnitude=pair,
    )


def merge(a: Statistics, b: Statistics) -> Statistics:
    """The statistics of the samples of two statistics together."""
    samples = add_words(a.samples, b.samples)
    total = approximate(samples, a.mean.dtype)
    weight = approximate(b.samples, a.mean.dtype) / jnp.where(total > 0, total, 1)
    features, gradient = _both(a, b, "features"), _both(a, b, "gradient")
    return Statistics(
        samples=samples,
        active=add_words(a.active, b.active),
        saturated=add_words(a.saturated, b.saturated),
        mean=_average(a.mean, b.mean, weight),
        second_moment=_average(a.second_moment, b.second_moment, weight),
        histogram=add_words(a.histogram, b.histogram),
        fourth_moment=_average(a.fourth_moment, b.fourth_moment, weight),
        peak=jnp.maximum(a.peak, b.peak),
        magnitude=_average(a.magnitude, b.magnitude, weight),
        features=features and _average_of_singles(*features, weight[..., None]),
        gradient=gradient and _average(*gradient, weight),
    )


def with_gradient(statistics: Statistics, total: jax.Array | None) -> Statistics:
    """The statistics with the mean of |gradient|.

    Args:
      statistics: of the samples.
      total: the sum of |gradient| over the samples, for each unit; None where it is not known.
    """
    mean = statistics.mean[..., 0]
    if total is None:
        return dataclasses.replace(statistics, gradient=_pair(jnp.full_like(mean, jnp.nan)))
    count = approximate(statistics.samples, mean.dtype)[..., None]
    return dataclasses.replace(statistics, gradient=_pair(total / jnp.maximum(count, 1)))


def _both(a: Statistics, b: Statistics, name: str) -> tuple[jax.Array, jax.Array] | None:
    """What both have, or None where neither has it."""
    mine, other = getattr(a, name), getattr(b, name)
    if (mine is None) != (other is None):
        raise ValueError(
            f"Report.merge: only one of the reports has {_ASKED_FOR[name]}: make both alike."
        )
    return None if mine is None else (mine, other)


#: What reports have that were asked for it.
_ASKED_FOR = {"features": "the features' products (rank=True)", "gradient": "gradients"}


def across(statistics: Statistics, axes: Sequence[str]) -> Statistics:
    """The statistics of the samples of all devices along mesh axes (inside ``shard_map``)."""
    axes = tuple(axes)

    def total(words: jax.Array) -> jax.Array:
        # Half words, so that up to 2^16 devices add up without overflow.
        lower, upper = lax.psum((words & 0xFFFF, words >> 16), axes)
        summed: list[jax.Array] = []
        carry = jnp.zeros((), jnp.uint32)
        for i in reversed(range(words.shape[-1])):
            low = lower[..., i] + carry
            high = upper[..., i] + (low >> 16)
            summed.insert(0, (high << 16) | (low & 0xFFFF))
            carry = high >> 16
        return jnp.stack(summed, axis=-1)

    samples = total(statistics.samples)
    of_all = approximate(samples, statistics.mean.dtype)
    share = approximate(statistics.samples, statistics.mean.dtype)
    share = (share / jnp.where(of_all > 0, of_all, 1))[..., None, None]

    def mean(moment: jax.Array | None) -> Any:
        return None if moment is None else lax.psum(moment * share, axes)

    return Statistics(
        samples=samples,
        active=total(statistics.active),
        saturated=total(statistics.saturated),
        mean=mean(statistics.mean),
        second_moment=mean(statistics.second_moment),
        histogram=total(statistics.histogram),
        fourth_moment=mean(statistics.fourth_moment),
        peak=lax.pmax(statistics.peak, axes),
        magnitude=mean(statistics.magnitude),
        features=mean(statistics.features),
        gradient=mean(statistics.gradient),
    )


def exact(words: Any) -> np.ndarray:
    """The counts, rounded to 64-bit integers, on the host."""
    words = np.asarray(words).astype(np.int64)
    return words[..., 0] * 2**32 + words[..., 1] + (words[..., 2] >> 31)


def approximate(words: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    """The counts as floats, their fractions too: on the host or traced."""
    high, low, fraction = (words[..., i].astype(dtype) for i in range(3))
    return high * 2.0**32 + (low + fraction * 2.0**-32)


def histogram_edges() -> np.ndarray:
    """The edges of the bins, as pre-activations."""
    return np.sinh(np.linspace(-HISTOGRAM_LIMIT, HISTOGRAM_LIMIT, HISTOGRAM_BINS + 1))


def _words(count: jax.Array) -> jax.Array:
    """A count below 2^32 as words."""
    zeros = jnp.zeros_like(count)
    return jnp.stack([zeros, count, zeros], axis=-1)


def _pair(x: jax.Array) -> jax.Array:
    """A moment as a sum of two floats."""
    return jnp.stack([x, jnp.zeros_like(x)], axis=-1)


def add_words(a: jax.Array, b: jax.Array) -> jax.Array:
    """The sum of two counts."""
    summed: list[jax.Array] = []
    carry = jnp.zeros((), jnp.uint32)
    for i in reversed(range(a.shape[-1])):
        word = a[..., i] + b[..., i]
        summed.insert(0, word + carry)
        # One of the two sums at most overflows.
        carry = ((word < a[..., i]) | (summed[0] < word)).astype(jnp.uint32)
    return jnp.stack(summed, axis=-1)


def _average(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """a + (b - a) weight, where a and b are moments, each a sum of two floats."""
    weight = weight[..., None]
    step = ((b[..., 0] - a[..., 0]) + (b[..., 1] - a[..., 1])) * weight
    # Knuth's sum: what rounding large + step loses goes into the small part.
    large, small = a[..., 0], a[..., 1]
    total = large + step
    part = total - large
    small = small + ((large - (total - part)) + (step - part))
    # Where the weight is 1, b as it is: the mean of no samples (a) is nothing to start from.
    none, all_ = weight == 0, weight == 1
    return jnp.stack(
        [
            jnp.where(all_, b[..., 0], jnp.where(none, a[..., 0], total)),
            jnp.where(all_, b[..., 1], jnp.where(none, a[..., 1], small)),
        ],
        axis=-1,
    )


def _average_of_singles(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """The same of moments that are one float each."""
    return _average(_pair(a), _pair(b), weight)[..., 0]


def _totals(
    summed: Sequence[jax.Array], largest: Sequence[jax.Array], axis: int
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Of each unit, the sums of some arrays and the maxima of others, in one pass over memory.

    Args:
      summed: the arrays to be summed over all axes but one.
      largest: the arrays of numbers of 0 and more of which to take the maximum over these axes.
      axis: the axis that is left.
    """
    arrays = [*summed, *largest]
    reducers = [_sum] * len(summed) + [_maximum] * len(largest)
    combine = [lax.add] * len(summed) + [lax.max] * len(largest)
    others = tuple(i for i in range(arrays[0].ndim) if i != axis)
    split = _split(arrays[0], others, _ROWS)
    if split is None:
        found = [reduce(a, others) for reduce, a in zip(reducers, arrays, strict=True)]
        return found[: len(summed)], found[len(summed) :]
    i, length = split
    found = lax.reduce(
        [_blocks(a, i, length, _ROWS) for a in arrays],
        [np.zeros((), a.dtype) for a in arrays],
        lambda a, b: [both(p, q) for both, p, q in zip(combine, a, b, strict=True)],
        (i + 1,),
    )
    found = [reduce(a, others) for reduce, a in zip(reducers, found, strict=True)]
    if length < arrays[0].shape[i]:
        rest = [lax.slice_in_dim(a, length, None, axis=i) for a in arrays]
        rest = [reduce(a, others) for reduce, a in zip(reducers, rest, strict=True)]
        found = [both(a, b) for both, a, b in zip(combine, found, rest, strict=True)]
    return found[: len(summed)], found[len(summed) :]


def _sum(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return x.sum(axes, dtype=x.dtype)


def _maximum(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return x.max(axes, initial=0)


def _split(x: jax.Array, axes: Sequence[int], rows: int) -> tuple[int, int] | None:
    """The axis of an array to cut into blocks, and the length of its whole blocks together.

    Args:
      x: the array.
      axes: the axes to choose from: one that blocks divide, if there is one, else the longest.
      rows: the length of a block.

    Returns:
      None where every axis is shorter than a block, or has a sharding that is part of the type.
    """
    spec = jax.typeof(x).sharding.spec
    options = [
        i
        for i in reversed(axes)
        if x.shape[i] >= rows and x.size and (i >= len(spec) or spec[i] is None)
    ]
    if not options:
        return None
    chosen = next((i for i in options if x.shape[i] % rows == 0), None)
    if chosen is None:
        chosen = max(options, key=lambda i: x.shape[i])
    return chosen, x.shape[chosen] // rows * rows


def _blocks(x: jax.Array, i: int, length: int, rows: int) -> jax.Array:
    """The first ``length`` entries of axis i as blocks of rows: one axis more."""
    if length < x.shape[i]:
        x = lax.slice_in_dim(x, 0, length, axis=i)
    return x.reshape(*x.shape[:i], length // rows, rows, *x.shape[i + 1 :])


def _histogram(x: jax.Array, axis: int) -> jax.Array:
    """The counts of a sample of an array's values, by bin."""
    others = [i for i in range(x.ndim) if i != axis]
    wanted = min(max(x.size / 8, _SMALLEST_SAMPLE), _HISTOGRAM_SAMPLE)
    # The sample: the first row of each block, for a block is on one device. Rows are left out
    # first, then units.
    for axes in (others, range(x.ndim)):
        for _ in range(x.ndim):
            rows = max((2**k for k in range(1, 31) if 2**k <= x.size / wanted), default=1)
            while rows > 1 and _split(x, axes, rows) is None:
                rows //= 2
            if rows > 1:
                i, length = _split(x, axes, rows) or (0, 0)
                x = lax.index_in_dim(_blocks(x, i, length, rows), 0, i + 1, keepdims=False)
    if x.size > 8 * _HISTOGRAM_SAMPLE:  # Every axis is sharded: to gather the array costs too much.
        x = jnp.full((1,), jnp.nan, x.dtype)
    scale = HISTOGRAM_BINS / (2 * HISTOGRAM_LIMIT)
    position = jnp.floor((jnp.arcsinh(x) + HISTOGRAM_LIMIT) * scale)
    position = jnp.clip(position, 0, HISTOGRAM_BINS - 1)
    bins = np.arange(HISTOGRAM_BINS, dtype=position.dtype)
    hits = position[..., None] == bins.reshape(*[1] * x.ndim, -1)
    return hits.sum(tuple(range(x.ndim)), dtype=jnp.uint32)
