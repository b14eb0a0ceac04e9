"""`jaxact.probe`: a function with a report on its activations."""

import dataclasses
import functools
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, get_args

import jax
import jax.numpy as jnp
from jax import lax

from jaxact._jaxprs.calls import Records
from jaxact._jaxprs.structure import name_of, nested_equations, open_jaxpr
from jaxact._probe.accepted import check
from jaxact._probe.data import Data, checked_data
from jaxact._probe.evaluate import Visitor, evaluate
from jaxact._probe.patterns import Function
from jaxact._probe.roles import Surroundings
from jaxact._probe.sites import Found, Level
from jaxact._probe.trace import Traced, Wrapped, trace
from jaxact._probe.wiring import Wirings
from jaxact._report import statistics
from jaxact._report.render import not_looked_into
from jaxact._report.report import Report
from jaxact._report.site import Place, Site

#: What becomes of the steps of a loop.
Scan = Literal["auto", "steps", "pool"]
#: The axis of the units: one for all sites, or for each of them.
Axis = int | Callable[[Place], int]


def probe(
    fn: Callable[..., Any],
    *,
    axis: Axis = -1,
    saturation: float = 1e-3,
    rank: bool = False,
    scan: Scan = "auto",
    data: Data = None,
) -> Callable[..., tuple[Any, Report]]:
    r"""A function like ``fn`` that also reports what each of its activations has seen.

    It works on what JAX traces: on functions, Flax NNX modules (their state moves on as in a plain
    call), Linen's ``model.apply``, Equinox and Haiku, unedited. It finds jaxact's activations,
    those of ``jax.nn`` and those written out, such as ``jnp.maximum(x, 0)``, by what they compute
    and never by name; inside ``jit``, ``scan``, ``while``, ``cond``, ``remat``, ``vmap``,
    ``shard_map`` and functions with derivatives of their own. Values and gradients stay what they
    are; the statistics have no gradient. The result can be jitted, differentiated and vmapped, and
    is best put inside the step that is jitted anyway.

    Args:
      fn: any JAX function or callable model.
      axis: the axis of the units in the pre-activations: the last, where Flax has features and
        channels. Or a function of a site (with its path, function and shape) that returns one. A
        ``vmap`` inside ``fn`` may put its own axis last, as in ``vmap(lambda x: w @ x)``.
      saturation: a unit counts as saturated where |f'(x)| is below this.
      rank: whether to collect what `Site.effective_rank` and `Site.stable_rank` need: a matrix of
        units by units for each site, which costs a matrix product.
      scan: what becomes of the steps of ``lax.scan``. ``"auto"``: one site for each step where
        steps have parameters of their own, as layers do that are scanned over, and where each step
        trains; one site for all of them where they share their parameters, as in a recurrent
        network (`Site.steps` says how many they are). ``"steps"``: a site for each step always;
        ``"pool"``: one site for all. Steps of ``lax.while_loop`` are always pooled.
      data: which arguments are data, by position or by name, such as ``1`` or ``(1, "mask")``. By
        default every argument but the first; the only one, if there is but one; with NNX modules
        everything but their `Param`. ``()``: no argument, but what the function closes over, as in
        ``lambda params: loss(params, batch)``. Activations of what does not depend on data, as of a
        weight that is to be positive, are marked, and get no advice.

    Returns:
      A function with fn's arguments that returns ``(out, report)``. See `jaxact.Report`.

    Warns:
      UserWarning: at the call, if it finds no activation although there are matrix products: an
        empty report does not say that all is well.

    Raises:
      TypeError: ``fn`` is not callable, a generator or ``async``, or a Linen module without
        variables (probe its ``apply``); ``axis`` is neither an integer nor a function, ``data``
        names no arguments.
      ValueError: ``saturation`` is not between 0 and 1, ``scan`` is none of the three; at the call,
        an axis that a pre-activation does not have, data that are no argument.

    Examples:
      >>> import jax, jax.numpy as jnp, jaxact
      >>> def model(w, x):
      ...     return jax.nn.relu(x @ w)
      >>> out, report = jaxact.probe(model)(jnp.array([[1.0, -2.0]]), jnp.array([[1.0], [3.0]]))
      >>> [site] = report.sites
      >>> site.function, site.shape
      ('relu', (2, 2))
      >>> site.active
      array([1., 0.])
      >>> site.dead
      array([False,  True])
      >>> site.mean
      array([ 2., -4.], dtype=float32)
    """
    return Probed(fn, checked("probe", fn, axis, saturation, rank, scan, data))


@dataclasses.dataclass(frozen=True)
class Options:
    """The arguments of `probe`, which says what each is."""

    axis: Axis = -1
    saturation: float = 1e-3
    rank: bool = False
    scan: Scan = "auto"
    data: Data = None


def checked(
    name: str,
    fn: Callable[..., Any],
    axis: Axis,
    saturation: float,
    rank: bool,
    scan: Scan,
    data: Data,
) -> Options:
    """The options, or an error of the function ``name`` that got them."""
    check(name, fn)
    if not callable(axis) and not isinstance(axis, Integral):
        raise TypeError(f"{name}: axis must be an integer or a function of a site, got {axis!r}.")
    if not isinstance(saturation, Real) or not 0 < saturation < 1:
        raise ValueError(
            f"{name}: saturation must be a number above 0 and below 1, got {saturation!r}."
        )
    if scan not in get_args(Scan):
        raise ValueError(f'{name}: scan must be "auto", "steps" or "pool", got {scan!r}.')
    return Options(axis, float(saturation), bool(rank), scan, checked_data(name, data))


class Probed(Wrapped):
    """What `probe` returns."""

    def __init__(self, fn: Callable[..., Any], options: Options = Options()):
        super().__init__(fn)
        self._options = options

    def with_fn(self, fn: Callable[..., Any]) -> "Probed":
        return Probed(fn, self._options)

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, Report]:
        """Call the function, and report."""
        out, report, level = self._observed(args, kwargs)
        warn_of_an_empty_report("probe", report, level, stacklevel=3)
        return out, report

    def quietly(self, *args: Any, **kwargs: Any) -> tuple[Any, Report]:
        """As a call, but an empty report is none to warn of."""
        return self._observed(args, kwargs)[:2]

    def _observed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Report, Level]:
        traced = trace(self._fn, args, kwargs)
        found, observer = looked_at(traced, self._options, Observer)
        values, records = evaluate(traced.level, traced.consts, traced.args, observer)
        return traced.finish(values), report_of(traced, found, records), traced.level


_Observer = TypeVar("_Observer", bound="Observer")


def looked_at(
    traced: Traced, options: Options, kind: type[_Observer]
) -> tuple[list[Place], _Observer]:
    """Where the activations of a call are, with all that a report says, and their observer."""
    around = traced.surroundings(options.data)
    pooled = [_are_pooled(s, options.scan) for s in around]
    found = [
        _with_axis(_with_surroundings(place, s, each), options)
        for place, s, each in zip(traced.places, around, pooled, strict=True)
    ]
    wiring = Wirings(traced.level, traced.labels, found)
    found = [dataclasses.replace(place, wiring=wiring) for place in found]
    scans = tuple(
        tuple(p for p, length in zip(each, s.steps, strict=True) if length is not None)
        for each, s in zip(pooled, around, strict=True)
    )
    axes = tuple(place.axis for place in found)
    return found, kind(axes, options.saturation, options.rank, scans)


def report_of(
    traced: Traced,
    found: Sequence[Place],
    records: Records,
    no_gradient: tuple[tuple[str, int], ...] = (),
) -> Report:
    """The report on the activations of a call."""
    sites = tuple(Site(place, (), r) for place, r in zip(found, records, strict=True))
    unknown = Counter(traced.level.unknown)
    return Report(sites, tuple(sorted(unknown.items())), no_gradient)


def warn_of_an_empty_report(name: str, report: Report, level: Level, stacklevel: int) -> None:
    """Warn where nothing was found although there is something to be found."""
    if report.records or not _has_products(level.jaxpr):
        return
    unseen = not_looked_into(report.not_looked_into)
    warnings.warn(
        f"{name}: no activation was found in a function with matrix products. Its report is "
        "empty, which does not say that no unit is dead. "
        f"{unseen + ' ' if unseen else ''}Found are jaxact's activations, those of jax.nn, "
        "and those written as docs/probe.md lists: call one of these, or probe a part of "
        "the function that does. For a function that is linear, ignore this warning "
        "(warnings.filterwarnings).",
        stacklevel=stacklevel,
    )


_PRODUCTS = ("dot_general", "ragged_dot_general", "conv_general_dilated", "Einsum")


def _has_products(jaxpr: Any) -> bool:
    """Whether there is a matrix product or a convolution, at any depth."""
    return any(name_of(e) in _PRODUCTS for e in nested_equations(open_jaxpr(jaxpr)))


def _are_pooled(around: Surroundings, scan: Scan) -> tuple[bool, ...]:
    """For each loop around an activation, whether its steps make one site."""
    return tuple(
        length is None or scan == "pool" or (scan == "auto" and not apart)
        for apart, length in zip(around.apart, around.steps, strict=True)
    )


def _with_surroundings(place: Place, around: Surroundings, pooled: Sequence[bool]) -> Place:
    """A place with its role, and with the loops around it."""
    lengths = zip(around.steps, pooled, strict=True)
    scans = [p for p, length in zip(pooled, around.steps, strict=True) if length is not None]
    return dataclasses.replace(
        place,
        role=around.role,
        loops=tuple(loop for loop, p in zip(place.loops, scans, strict=True) if not p),
        pooled=tuple((-1, -1) if n is None else (n, n) for n, p in lengths if p),
    )


def _with_axis(place: Place, options: Options) -> Place:
    """A place with the axis of its units."""
    chosen = options.axis(place) if callable(options.axis) else options.axis
    rank = max(len(place.shape), 1)
    if not isinstance(chosen, Integral):
        raise TypeError(
            f"probe: axis must return an integer, got {chosen!r} for site {place.index}."
        )
    if not -rank <= chosen < rank:
        raise ValueError(
            f"probe: axis {chosen} is none of the pre-activation {place.shape} of site "
            f"{place.index}, {place.function} in {place.path}."
        )
    return dataclasses.replace(place, axis=int(chosen), saturation=options.saturation)


@dataclasses.dataclass(frozen=True)
class Observer(Visitor):
    """Records the statistics of every activation; changes nothing.

    Attributes:
      axes: of the units, for each activation.
      saturation: a unit is saturated where |f'(x)| is below it.
      rank: whether to collect the products of two units' activations.
      pooled: for each activation and each loop with steps around it, whether they are pooled.
    """

    axes: tuple[int, ...]
    saturation: float
    rank: bool
    pooled: tuple[tuple[bool, ...], ...]

    def pools(self, index: int, depth: int) -> bool:
        """Whether that loop's steps make one record of that activation."""
        return self.pooled[index][depth]

    def concerns(self, indices: range) -> bool:
        """Whether there are any."""
        return bool(indices)

    def observe(
        self, index: int, found: Found, inputs: Sequence[Any], output: Any
    ) -> statistics.Statistics:
        """The statistics of an activation's arguments and of its result."""
        # Into `auto_axes`, x is what comes from outside, of another mesh.
        if (sharding := jax.typeof(inputs[0]).sharding).mesh != jax.typeof(output).sharding.mesh:
            output = jax.sharding.reshard(output, sharding)
        # A probe has no part in derivatives.
        arrays = [lax.stop_gradient(jnp.asarray(value)) for value in (output, *inputs)]
        return _observe(found.function, self.axes[index], self.saturation, self.rank, *arrays)


# One computation outside jit as well; inside, no boundary.
@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), inline=True)
def _observe(
    function: Function,
    axis: int,
    saturation: float,
    rank: bool,
    y: jax.Array,
    x: jax.Array,
    *parameters: jax.Array,
) -> statistics.Statistics:
    with jax.named_scope("jaxact.probe"):
        return statistics.collect(
            x,
            function.slope(x, *parameters),
            y,
            axis=axis,
            threshold=saturation,
            binary=function.binary,
            rank=rank,
        )
