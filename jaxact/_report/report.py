"""The report of a probe: what every activation of a model has seen."""

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax

from jaxact._report import render, statistics
from jaxact._report.advice import Advice, advise
from jaxact._report.site import Place, Site, every_step
from jaxact._report.summary import Summary, summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console, ConsoleOptions
    from rich.table import Table


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """What `jaxact.probe` has seen: a pytree, which can leave ``jit``, ``scan`` and ``grad``.

    It prints as a table, one row for each site (``print``, ``rich.print``). The figures of a report
    that is traced are not known yet: `sites` and `merge` work inside ``jit``, the table, `scalars`,
    `plot`, `advice` and a site's `active_upper` want the report that ``jit`` returns, and raise
    ``TypeError``.

    Attributes:
      records: what each activation has seen, all steps of the scans around it in one `Site`;
        `sites` has a site for each step.
      not_looked_into: the JAX primitives that hold programs which the probe cannot enter, each
        with how often it occurs: activations in there have no site.
      no_gradient: where `jaxact.probe_and_grad` cannot see the gradient of an activation, each with
        the number of activations there: `Site.gradient` is NaN.

    Examples:
      >>> import jax, jax.numpy as jnp, jaxact
      >>> def model(x):
      ...     with jax.named_scope("encoder"):
      ...         return jax.nn.relu(x)
      >>> probed = jax.jit(jaxact.probe(model))
      >>> _, report = probed(jnp.array([[1.0, -2.0], [3.0, -4.0]]))
      >>> report
      Report(1 site)
      >>> report.sites[0].dead
      array([False,  True])
    """

    records: tuple[Site, ...]
    not_looked_into: tuple[tuple[str, int], ...] = dataclasses.field(
        default=(), metadata={"static": True}
    )
    no_gradient: tuple[tuple[str, int], ...] = dataclasses.field(
        default=(), metadata={"static": True}
    )

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites in order of execution, one for each step of a scan."""
        return every_step(self.records)

    def merge(self, other: "Report") -> "Report":
        """The report of both sets of samples: of two batches, of two devices.

        Counts add up exactly, moments to a part in a million, in any order and inside ``jit`` too.

        Args:
          other: a report of the same model; the batch may have another size.

        Raises:
          TypeError: ``other`` is not a report.
          ValueError: ``other`` is of other activations, or of other numbers of units.

        Examples:
          >>> import jax, jax.numpy as jnp, jaxact
          >>> probed = jaxact.probe(jax.nn.relu)
          >>> _, first = probed(jnp.array([[1.0, -2.0]]))
          >>> _, second = probed(jnp.array([[-3.0, -4.0]]))
          >>> site = first.merge(second).sites[0]
          >>> site.count
          array([2, 2])
          >>> site.active
          array([0.5, 0. ])
        """
        if not isinstance(other, Report):
            raise TypeError(f"Report.merge: other must be a Report, got {other!r}.")
        mine, others = [[_identity(s.place) for s in report.records] for report in (self, other)]
        if mine != others:
            different = [pair for pair in zip(mine, others, strict=False) if pair[0] != pair[1]]
            what = (
                f"{different[0][0]} here is {different[0][1]} there"
                if different
                else f"{len(mine)} sites here, {len(others)} there"
            )
            raise ValueError(f"Report.merge: the reports are of different models: {what}.")
        merged = [
            dataclasses.replace(a, statistics=_merge(a.statistics, b.statistics))
            for a, b in zip(self.records, other.records, strict=True)
        ]
        # In the order of this report, so that one which is carried through a scan keeps its type.
        notes = (
            _either(self.not_looked_into, other.not_looked_into),
            _either(self.no_gradient, other.no_gradient),
        )
        return Report(tuple(merged), *notes)

    def scalars(self) -> dict[str, float]:
        """The figures of every site by name, for TensorBoard or any other logger.

        Nine for each site, under its path and function (once, if the path ends in it), the number
        ``_3`` of the site where another has the same name, and the step of a scan:
        ``encoder/relu/dead``, ``blocks/relu_3/2/dead``.

        - ``dead``: the share of units with f'(x) = 0 on every sample;
        - ``active``, ``saturated``: the means over the units of a `Site`'s figures;
        - ``mean``, ``std``: of the pre-activation, over units and samples;
        - ``dormant``: the share of units with a `Site.dormancy` of 0.025 or less;
        - ``peak``, ``kurtosis``: the largest |pre-activation|, and the tails (`Site.kurtosis`);
        - ``gradient``: the mean over the units of `Site.gradient`, in reports that have it;
        - ``samples``: how many each unit has had; without any, the others are 0.

        Raises:
          TypeError: the report is traced: return it from ``jit`` first.

        Examples:
          >>> import jax, jax.numpy as jnp, jaxact
          >>> def model(x):
          ...     with jax.named_scope("encoder"):
          ...         return jax.nn.relu(x)
          >>> _, report = jaxact.probe(model)(jnp.array([[1.0, -2.0], [3.0, -4.0]]))
          >>> for name, figure in report.scalars().items():
          ...     print(f"{name}: {figure:.3f}")
          encoder/relu/dead: 0.500
          encoder/relu/active: 0.500
          encoder/relu/saturated: 0.500
          encoder/relu/mean: -0.500
          encoder/relu/std: 2.693
          encoder/relu/dormant: 0.500
          encoder/relu/peak: 4.000
          encoder/relu/kurtosis: 1.573
          encoder/relu/samples: 2.000
        """
        return render.scalars(self._summaries("Report.scalars"))

    def plot(self) -> "Figure":
        """A picture of the first 60 sites: dead units, saturation, and pre-activations.

        It needs matplotlib, and neither a display nor ``pyplot``: notebooks show the figure that is
        returned (after ``%matplotlib inline``), ``report.plot().savefig("report.png")`` writes it.

        Raises:
          TypeError: the report is traced: return it from ``jit`` first.
        """
        return render.plot(self._summaries("Report.plot"))

    def advice(self) -> Advice:
        """What to change in the model, and why: a tuple of suggestions, which prints as text.

        It is empty where nothing needs to be changed, and says so when printed.

        Raises:
          TypeError: the report is traced: return it from ``jit`` first.

        Examples:
          >>> import jax, jax.numpy as jnp, jaxact
          >>> def model(x):
          ...     with jax.named_scope("encoder"):
          ...         return jax.nn.relu(x)
          >>> x = -abs(jax.random.normal(jax.random.key(0), (1000, 64)))
          >>> _, report = jaxact.probe(model)(x)
          >>> for suggestion in report.advice():
          ...     print(suggestion.severity, suggestion.sites)
          act ('encoder (relu, #0)',)
        """
        return advise(self._summaries("Report.advice"), self._note())

    def __repr__(self) -> str:
        count = sum(math.prod(n for _, n in site.place.loops) for site in self.records)
        return f"Report({count} {'site' if count == 1 else 'sites'})"

    def __str__(self) -> str:
        return render.text(self._summaries("The table of a Report"), self._note())

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> Iterator["Table"]:
        summaries = self._summaries("The table of a Report")
        yield render.rich_table(summaries, options.max_width, self._note())

    def _summaries(self, what: str) -> list[Summary]:
        return summarise(self.sites, what)

    def _note(self) -> str:
        notes = (
            render.not_looked_into(self.not_looked_into),
            render.no_gradient(self.no_gradient),
        )
        return " ".join(filter(None, notes))


def _either(
    mine: tuple[tuple[str, int], ...], others: tuple[tuple[str, int], ...]
) -> tuple[tuple[str, int], ...]:
    """The larger of two counts of each name; the first ones' order."""
    counts = dict(mine)
    for name, count in others:
        counts[name] = max(count, counts.get(name, 0))
    return tuple(counts.items())


_merge = jax.jit(statistics.merge)


def _identity(place: Place) -> tuple[Any, ...]:
    """What two places have in common if their reports may be merged, as the error shows it."""
    axis = place.axis % max(len(place.shape), 1) - len(place.shape)
    return (
        *(place.index, place.path, place.function, place.units, place.loops),
        *(f"axis {axis}", f"saturation {place.saturation}"),
    )
