"""The report of a probe: what every activation of a model has seen."""

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxact._report import statistics
from jaxact._report.statistics import Statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

    from jaxact._report.advice import Advice

#: The confidence of `Site.active_upper`.
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an activation is in a model: what is known of a site before anything runs.

    Attributes:
      index: its number, which `jaxact.swap` takes.
      path: the module's path (Flax) or the name stack; without either, the line of code.
      function: the activation's name in `jaxact.ACTIVATIONS`.
      shape: of the pre-activation (of the gate, for a gated function).
      dtype: likewise.
      source: the line of code that calls it, ``file:line``.
      axis: the axis of the units.
      saturation: the threshold of |f'(x)|.
      loops: for each ``lax.scan`` around it, the outermost first, its number and its length.
      wiring: what `jaxact.revive` needs to know.
    """

    index: int
    path: str
    function: str
    shape: tuple[int, ...]
    dtype: Any
    source: str
    axis: int
    loops: tuple[tuple[int, int], ...] = ()
    saturation: float = 1e-3
    wiring: Any = None

    @property
    def units(self) -> int:
        """How many units there are along the axis."""
        return self.shape[self.axis] if self.shape else 1


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """What one activation has seen: an entry of `Report.sites`.

    Its arrays have an element for each unit, on the host; inside ``jit`` they are traced, and
    counts are floats there.

    Attributes:
      place: where it is.
      iteration: in ``lax.scan``, the step: () outside, (2,) for the third, (2, 0) in nested ones.
      statistics: the sums.
    """

    place: Place
    iteration: tuple[int, ...]
    statistics: Statistics = dataclasses.field(repr=False)

    @property
    def index(self) -> int:
        """The number of the site; all steps of a scan have the same."""
        return self.place.index

    @property
    def path(self) -> str:
        """The module's path (Flax) or the name stack; without either, the line of code."""
        return self.place.path

    @property
    def function(self) -> str:
        """The activation's name in `jaxact.ACTIVATIONS`."""
        return self.place.function

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the pre-activation."""
        return self.place.shape

    @property
    def source(self) -> str:
        """The line of code, ``file:line``."""
        return self.place.source

    @property
    def count(self) -> Any:
        """How many samples each unit has had."""
        samples = _count(self.statistics.samples)
        return _broadcast(samples[..., None], self.statistics.mean.shape[:-1])

    @property
    def active(self) -> Any:
        """The fraction of the samples with f'(x) other than 0: where a gradient passes."""
        return _count(self.statistics.active) / _at_least_one(self.count)

    @property
    def saturated(self) -> Any:
        """The fraction of the samples with |f'(x)| below the probe's threshold."""
        return _count(self.statistics.saturated) / _at_least_one(self.count)

    @property
    def dead(self) -> Any:
        """Whether f'(x) was 0 on every sample (and there was one)."""
        return (_count(self.statistics.active) == 0) & (self.count > 0)

    @property
    def active_upper(self) -> np.ndarray:
        """The upper limit of the activity: one-sided 95% Clopper-Pearson bound.

        A unit that was never active in n samples is active on at most 1 - 0.05^(1/n) of all data,
        about 3/n, with 95% confidence. This takes the samples as independent: those of one
        sequence or of one image are not, and the bound is too low for them.
        """
        from scipy.special import betaincinv

        if isinstance(self.statistics.active, jax.core.Tracer):
            raise TypeError(
                "Site.active_upper is computed on the host: return the report from jit first."
            )
        active = statistics.exact(self.statistics.active)
        count = np.broadcast_to(self.count, active.shape)
        some = np.maximum(count - active, 1)
        bound = betaincinv(active + 1.0, some.astype(float), CONFIDENCE)
        return np.where(active < count, bound, 1.0)

    @property
    def mean(self) -> Any:
        """The mean of the pre-activation."""
        return _sum_of_two(self.statistics.mean)

    @property
    def second_moment(self) -> Any:
        """The mean of the pre-activation's square."""
        return _sum_of_two(self.statistics.second_moment)

    @property
    def histogram(self) -> Any:
        """Counts of a sample of the pre-activations of all units, in bins of equal asinh width."""
        return _count(self.statistics.histogram)


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """The statistics of one place, for all steps of the scans around it at once."""

    place: Place
    statistics: Statistics = dataclasses.field(repr=False)


jax.tree_util.register_dataclass(Record, data_fields=["statistics"], meta_fields=["place"])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """What `jaxact.probe` has seen: a pytree, which can leave ``jit``, ``scan`` and ``grad``.

    It prints as a table, one row for each site (``print``, ``rich.print``). The figures of a report
    that is traced are not known yet: `sites` and `merge` work inside ``jit``, the table, `scalars`,
    `plot`, `advice` and a site's `active_upper` want the report that ``jit`` returns, and raise
    ``TypeError``.

    Attributes:
      records: the statistics by place; `sites` is their readable form.
    """

    records: tuple[Record, ...]

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites in order of execution, one for each step of a scan."""
        # Many small slices, which are quick in NumPy.
        return tuple(_entries(jax.tree.map(_on_host, self.records), 0, ()))

    def merge(self, other: "Report") -> "Report":
        """The report of both sets of samples: of two batches, of two devices.

        Counts add up exactly, moments to a part in a million, in any order and inside ``jit`` too.

        Args:
          other: a report of the same model; the batch may have another size.

        Raises:
          TypeError: not a report.
          ValueError: it is of other activations, or of other numbers of units.
        """
        if not isinstance(other, Report):
            raise TypeError(f"Report.merge: other must be a Report, got {other!r}.")
        mine, others = [[_identity(r.place) for r in report.records] for report in (self, other)]
        if mine != others:
            different = [pair for pair in zip(mine, others, strict=False) if pair[0] != pair[1]]
            what = (
                f"{different[0][0]} here is {different[0][1]} there"
                if different
                else f"{len(mine)} sites here, {len(others)} there"
            )
            raise ValueError(f"Report.merge: the reports are of different models: {what}.")
        pairs = zip(self.records, other.records, strict=True)
        return Report(tuple(Record(a.place, _merge(a.statistics, b.statistics)) for a, b in pairs))

    def scalars(self) -> dict[str, float]:
        """The figures of every site by name, for TensorBoard or any other logger.

        Six for each site, under its path and function (once, if the path ends in it), the number
        ``_3`` of the site where another has the same name, and the step of a scan:
        ``encoder/relu/dead``, ``blocks/relu_3/2/dead``.

        - ``dead``: the share of units with f'(x) = 0 on every sample;
        - ``active``, ``saturated``: see `Site`; means over the units;
        - ``mean``, ``std``: of the pre-activation, over units and samples;
        - ``samples``: how many each unit has had; without any, the others are 0.

        >>> Report(()).scalars()
        {}

        Raises:
          TypeError: the report is traced: return it from ``jit`` first.
        """
        from jaxact._report import render

        return render.scalars(self)

    def plot(self) -> "Figure":
        """A picture of the first 60 sites: dead units, saturation, and pre-activations.

        It needs matplotlib, and neither a display nor ``pyplot``: notebooks show the figure that is
        returned (after ``%matplotlib inline``), ``report.plot().savefig("report.png")`` writes it.

        Raises:
          TypeError: the report is traced: return it from ``jit`` first.
        """
        from jaxact._report import render

        return render.plot(self)

    def advice(self) -> "Advice":
        """What to change in the model, and why: a tuple of suggestions, which prints as text.

        It is empty where nothing needs to be changed, and says so when printed.

        >>> print(Report(()).advice())
        No advice: the report has no sites.

        Raises:
          TypeError: the report is traced: return it from ``jit`` first.
        """
        from jaxact._report.advice import advise

        return advise(self)

    def __repr__(self) -> str:
        count = sum(math.prod(n for _, n in record.place.loops) for record in self.records)
        return f"Report({count} {'site' if count == 1 else 'sites'})"

    def __str__(self) -> str:
        from jaxact._report import render

        return render.text(self)

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> Iterator["Table"]:
        from jaxact._report import render

        yield render.rich_table(self, options.max_width)


_merge = jax.jit(statistics.merge)


def _identity(place: Place) -> tuple[Any, ...]:
    axis = place.axis % max(len(place.shape), 1) - len(place.shape)
    return (
        *(place.index, place.path, place.function, place.units, place.loops),
        *(f"axis {axis}", f"saturation {place.saturation}"),
    )


def _entries(records: Any, depth: int, iteration: tuple[int, ...]) -> Any:
    """The sites of records that share their first ``depth`` loops, a step at a time."""
    position = 0
    while position < len(records):
        place = records[position].place
        if len(place.loops) == depth:
            yield Site(place, iteration, _step(records[position].statistics, iteration))
            position += 1
            continue
        loop, length = place.loops[depth]
        together = [
            r
            for r in records[position:]
            if len(r.place.loops) > depth and r.place.loops[depth][0] == loop
        ]
        for i in range(length):
            yield from _entries(together, depth + 1, (*iteration, i))
        position += len(together)


def _on_host(array: Any) -> Any:
    # Of jax.eval_shape, the sites have no figures.
    abstract = isinstance(array, jax.core.Tracer | jax.ShapeDtypeStruct)
    return array if abstract else np.asarray(array)


def _step(values: Statistics, iteration: tuple[int, ...]) -> Statistics:
    """One step's statistics: the axes of the loops are those before the own ones of each array."""
    own = Statistics(samples=1, active=2, saturated=2, mean=2, second_moment=2, histogram=2)  # type: ignore[arg-type]

    def step(array: Any, trailing: int) -> Any:
        # The axes of vmap are in front of those of the loops.
        index = (..., *iteration, *[slice(None)] * trailing)
        if isinstance(array, jax.ShapeDtypeStruct):
            return jax.eval_shape(lambda a: a[index], array)
        return array[index]

    return jax.tree.map(step, values, own)


def _count(words: Any) -> Any:
    if isinstance(words, jax.core.Tracer):
        return statistics.approximate(words)
    return statistics.exact(words)


def _sum_of_two(pair: Any) -> Any:
    pair = _on_host(pair)
    return pair[..., 0] + pair[..., 1]


def _at_least_one(count: Any) -> Any:
    return jnp.maximum(count, 1) if isinstance(count, jax.core.Tracer) else np.maximum(count, 1)


def _broadcast(x: Any, shape: tuple[int, ...]) -> Any:
    return (jnp if isinstance(x, jax.core.Tracer) else np).broadcast_to(x, shape)
