"""The report of a probe: what every activation of a model has seen."""

import dataclasses
import functools
import math
from collections.abc import Hashable, Iterator, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import jax
from jax import lax

from jaxact._core.elementwise import varying_axes
from jaxact._report import history, moving, render, statistics
from jaxact._report.advice import Advice, advise
from jaxact._report.history import History, Snapshots
from jaxact._report.risk import DRIFT, Risk, at_risk
from jaxact._report.site import Place, Site, every_step
from jaxact._report.statistics import Statistics
from jaxact._report.summary import Summary, summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console, ConsoleOptions
    from rich.table import Table


# The snapshots are left out: as leaves or as a part of the type, they would have every function
# that takes a report compile anew at each step.
@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["records"],
    meta_fields=["not_looked_into", "no_gradient"],
)
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
      snapshots: what `history` is made of; it is no part of the pytree.
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
    not_looked_into: tuple[tuple[str, int], ...] = ()
    no_gradient: tuple[tuple[str, int], ...] = ()
    snapshots: Snapshots = dataclasses.field(default=Snapshots(), init=False)

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
        self._compare(other, "Report.merge: other")
        return self._with(
            [_merge(a.statistics, b.statistics) for a, b in self._pairs(other)],
            other,
            max(self.snapshots, other.snapshots, key=lambda snapshots: snapshots.seen),
        )

    def ema(self, new: "Report", decay: float) -> "Report":
        """The report of a training that forgets: of the new samples, and of the old ones less.

        All counts are multiplied by ``decay``, then ``new`` is merged: a sample of t steps ago
        weighs decay^t, all together weigh as much as those of the last 1 / (1 - decay) steps. Means
        follow by weight; a `Site.peak` is the highest of all, each times decay^t.

        So a unit that was active once counts as dead again when it is silent for long enough: when
        what is left of the samples that it was active on is less than half of one, ln(2 n) /
        (1 - decay) steps after n of them. Counts are kept to 2^-32 of a sample, and read as whole
        ones.

        Outside ``jit`` the result's `history` has the shares of ``new``; call it there, on the
        reports that a jitted step returns. Nothing waits for the device. Inside ``jit`` and
        ``scan`` a report keeps its type, and has no history.

        Args:
          new: the report of the new samples, of the same model; the batch may have another size.
          decay: at least 0, which forgets all, and below 1. It may be traced.

        Raises:
          TypeError: ``new`` is not a report, ``decay`` not a number.
          ValueError: ``decay`` is below 0, or 1 or more; ``new`` is of other activations, or of
            other numbers of units.

        Examples:
          >>> import jax, jax.numpy as jnp, jaxact
          >>> probed = jaxact.probe(jax.nn.relu)
          >>> _, report = probed(jnp.array([[1.0], [1.0], [-1.0], [-1.0]]))
          >>> _, silent = probed(-jnp.ones((4, 1)))
          >>> for _ in range(3):
          ...     report = report.ema(silent, decay=0.5)
          ...     print(report.sites[0].count, report.sites[0].active, report.sites[0].dead)
          [6] [0.16666667] [False]
          [7] [0.14285714] [False]
          [8] [0.] [ True]
          >>> report.history.dead[:, 0]
          array([0., 1., 1., 1.])
        """
        self._compare(new, "Report.ema: new")
        decay = moving.checked(decay)
        pairs = self._pairs(new)
        moved = _moved([(a.statistics, b.statistics) for a, b in pairs], decay)
        snapshots = self.snapshots
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(moved)):
            for report in (new,) if snapshots.seen else (self, new):
                places = tuple(site.place for site in report.records)
                of_sites = _shares([site.statistics for site in report.records], places)
                snapshots = snapshots.followed_by(of_sites)
        return self._with(moved, new, snapshots)

    def psum(self, axis_name: Hashable | Sequence[Hashable]) -> "Report":
        """The report of all devices' samples, where each has the report of its own.

        For a `jaxact.probe` that is called in the body of ``shard_map``, of ``pmap``, or of a
        ``vmap`` with an ``axis_name``: its counts are those of one shard, until they are summed
        over the axis. (The report of a probe *around* ``shard_map`` is that of all devices.)
        Counts add up exactly, and means, and bounds with them, are those of the whole batch. The
        gradients of `jaxact.probe_and_grad` are means too, of the loss that each shard computes: of
        a mean over the shard, they are as many times larger as there are shards.

        Where ``shard_map`` knows that a pre-activation is the same on all devices (``check_vma``),
        its samples count once.

        Args:
          axis_name: the name of the axis, or a tuple of names.

        Raises:
          NameError: there is no axis of that name here.

        Examples:
          >>> import jax, jax.numpy as jnp, jaxact
          >>> def step(shard):
          ...     out, report = jaxact.probe(jax.nn.relu)(shard)
          ...     return report.psum("data")
          >>> shards = jnp.array([[[1.0, -1.0]], [[-1.0, -1.0]]])
          >>> report = jax.vmap(step, axis_name="data", out_axes=None)(shards)
          >>> report.sites[0].count, report.sites[0].dead
          (array([2, 2]), array([False,  True]))
        """
        names = tuple(axis_name) if isinstance(axis_name, tuple | list) else (axis_name,)
        checked = {name for name in names if _is_checked(name)}
        summed = []
        for site in self.records:
            leaves = jax.tree.leaves(site.statistics)
            varying = {name for leaf in leaves for name in varying_axes(jax.typeof(leaf))}
            axes = [name for name in names if name in varying or name not in checked]
            summed.append(statistics.across(site.statistics, axes) if axes else site.statistics)
        return self._with(summed, self, self.snapshots)

    @property
    def history(self) -> History:
        """The shares of dead, dormant and saturated units at each step, which `ema` has noted.

        It is on the host, and no part of the pytree: what ``jit``, ``jax.tree.map`` or
        ``jax.device_get`` return has none. `merge` keeps the longer one.

        Raises:
          TypeError: the report is traced: return it from ``jit`` first.
        """
        return self._history(self._summaries("Report.history"))

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

        With a `history` of two steps and more, also a panel for each of its shares: over the steps,
        a line for each site.

        It needs matplotlib, and neither a display nor ``pyplot``: notebooks show the figure that is
        returned (after ``%matplotlib inline``), ``report.plot().savefig("report.png")`` writes it.

        Raises:
          TypeError: the report is traced: return it from ``jit`` first.
        """
        summaries = self._summaries("Report.plot")
        return render.plot(summaries, self._history(summaries))

    def at_risk(self, *, drift: float = DRIFT) -> Risk:
        r"""How probable it is that a unit dies in training, from a report made before it.

        $$P = \Phi\left(-\frac{\mu / \sigma + q_n}{\delta}\right), \qquad
        \Phi(q_n)^n = \tfrac{1}{2}$$

        with the mean μ and the standard deviation σ of a unit's pre-activation, and the number n of
        samples, all of the report. For a negative mean and γ = |μ| / σ, it is Φ((γ - q) / δ): it
        rises with γ.

        The formula is this package's own. It takes the pre-activation over the data as normal: the
        largest of n samples is at μ + q σ (its median), so that a unit without a positive one has
        μ / σ below -q; q is 3.2 for 1,000 samples. Training moves μ / σ by a normal amount of
        standard deviation δ, the ``drift``. See docs/probe.md for what comes of it: it ranks units
        well where the learning rate is usual; a rate that is far too high kills units whatever γ
        is, more than the sum says. γ as the predictor: arXiv 2605.31518.

        The edge is at 0 for ReLU and its square, at -3 for hard SiLU, at -1 for ``sparse_plus``;
        a ReLU6 may also die above 6. Units of functions without a side on which the slope is
        exactly 0 cannot die, and are left out; so is ``threshold``, whose edge is its parameter.

        Args:
          drift: how far training moves μ / σ; higher for higher learning rates.

        Returns:
          An object that prints as a table; ``sites`` has the probabilities of each.

        Raises:
          TypeError: the report is traced: return it from ``jit`` first.
          ValueError: ``drift`` is not a positive number.

        Examples:
          >>> import jax, jax.numpy as jnp, jaxact
          >>> x = jax.random.normal(jax.random.key(0), (1000, 3)) + jnp.array([-4.0, -2.0, 0.0])
          >>> _, report = jaxact.probe(jax.nn.relu)(x)
          >>> report.at_risk().sites[0].probability.round(2)
          array([0.71, 0.22, 0.02])
        """
        if isinstance(drift, bool) or not isinstance(drift, Real) or not 0 < drift < math.inf:
            raise ValueError(f"Report.at_risk: drift must be a positive number, got {drift!r}.")
        sites = [summary.site for summary in self._summaries("Report.at_risk")]
        return at_risk(sites, float(drift))

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

    def _compare(self, other: Any, what: str) -> None:
        """Raises an error where another report is of other activations."""
        if not isinstance(other, Report):
            raise TypeError(f"{what} must be a Report, got {other!r}.")
        mine, others = [[_identity(s.place) for s in report.records] for report in (self, other)]
        if mine != others:
            different = [pair for pair in zip(mine, others, strict=False) if pair[0] != pair[1]]
            difference = (
                f"{different[0][0]} here is {different[0][1]} there"
                if different
                else f"{len(mine)} sites here, {len(others)} there"
            )
            raise ValueError(
                f"{what.partition(':')[0]}: the reports are of different models: {difference}."
            )

    def _pairs(self, other: "Report") -> list[tuple[Site, Site]]:
        return list(zip(self.records, other.records, strict=True))

    def _with(
        self, of_records: Sequence[Statistics], other: "Report", snapshots: Snapshots
    ) -> "Report":
        """A report of this one's places that has seen other things, together with another."""
        records = [
            dataclasses.replace(site, place=_longest(site.place, o.place), statistics=seen)
            for (site, o), seen in zip(self._pairs(other), of_records, strict=True)
        ]
        # In the order of this report, so that one which is carried through a scan keeps its type.
        notes = (
            _either(self.not_looked_into, other.not_looked_into),
            _either(self.no_gradient, other.no_gradient),
        )
        report = Report(tuple(records), *notes)
        object.__setattr__(report, "snapshots", snapshots)
        return report

    def _summaries(self, what: str) -> list[Summary]:
        return summarise(self.sites, what)

    def _history(self, summaries: Sequence[Summary]) -> History:
        return self.snapshots.history(self.records, [summary.site for summary in summaries])

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
_shares = jax.jit(history.shares, static_argnums=1)


@jax.jit
def _moved(pairs: Sequence[tuple[Statistics, Statistics]], decay: Any) -> list[Statistics]:
    return [moving.moved(old, new, decay) for old, new in pairs]


def _is_checked(name: Hashable) -> bool:
    """Whether the types of arrays here say if they vary over an axis (``check_vma``)."""
    try:
        index = lax.axis_index(name)
    except NameError:
        raise NameError(
            f"Report.psum: there is no axis {name!r} here. Call it in the body of shard_map, of "
            "pmap, or of a vmap with this axis_name, on the report of a probe that is called there."
        ) from None
    return name in varying_axes(jax.typeof(index))


def _longest(place: Place, other: Place) -> Place:
    """The place with the least and the largest number of steps of both."""
    if place.pooled == other.pooled:
        return place
    pairs = zip(place.pooled, other.pooled, strict=True)
    pooled = tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs)
    return dataclasses.replace(place, pooled=pooled)


def _identity(place: Place) -> tuple[Any, ...]:
    """What two places have in common if their reports may be merged, as the error shows it."""
    axis = place.axis % max(len(place.shape), 1) - len(place.shape)
    return (
        *(
            place.index,
            place.path,
            place.function,
            place.units,
            place.loops,
            f"{len(place.pooled)} pooled loops",
        ),
        *(f"axis {axis}", f"saturation {place.saturation}"),
    )
