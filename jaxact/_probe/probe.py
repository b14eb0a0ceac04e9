"""`jaxact.probe`: a function with a report on its activations."""

import dataclasses
import functools
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxact._jaxprs.structure import name_of, nested_equations, open_jaxpr
from jaxact._probe.accepted import check
from jaxact._probe.evaluate import Visitor, evaluate
from jaxact._probe.patterns import Function
from jaxact._probe.sites import Found, Level
from jaxact._probe.trace import Wrapped, trace
from jaxact._probe.wiring import Wirings
from jaxact._report import statistics
from jaxact._report.render import not_looked_into
from jaxact._report.report import Report
from jaxact._report.site import Place, Site

#: The axis of the units: one for all sites, or for each of them.
Axis = int | Callable[[Place], int]


def probe(
    fn: Callable[..., Any], *, axis: Axis = -1, saturation: float = 1e-3
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

    Returns:
      A function with fn's arguments that returns ``(out, report)``. See `jaxact.Report`.

    Warns:
      UserWarning: at the call, if it finds no activation although there are matrix products: an
        empty report does not say that all is well.

    Raises:
      TypeError: ``fn`` is not callable, a generator or ``async``, or a Linen module without
        variables (probe its ``apply``); ``axis`` is neither an integer nor a function.
      ValueError: ``saturation`` is not between 0 and 1; at the call, an axis that a pre-activation
        does not have.

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
    check("probe", fn)
    if not callable(axis) and not isinstance(axis, Integral):
        raise TypeError(f"probe: axis must be an integer or a function of a site, got {axis!r}.")
    if not isinstance(saturation, Real) or not 0 < saturation < 1:
        raise ValueError(
            f"probe: saturation must be a number above 0 and below 1, got {saturation!r}."
        )
    return Probed(fn, Options(axis, float(saturation)))


@dataclasses.dataclass(frozen=True)
class Options:
    """The arguments of `probe`, which says what each is."""

    axis: Axis = -1
    saturation: float = 1e-3


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
        if not report.records and _has_products(level.jaxpr):
            unseen = not_looked_into(report.not_looked_into)
            warnings.warn(
                "probe: no activation was found in a function with matrix products. Its report is "
                "empty, which does not say that no unit is dead. "
                f"{unseen + ' ' if unseen else ''}Found are jaxact's activations, those of jax.nn, "
                "and those written as docs/probe.md lists: call one of these, or probe a part of "
                "the function that does. For a function that is linear, ignore this warning "
                "(warnings.filterwarnings).",
                stacklevel=2,
            )
        return out, report

    def quietly(self, *args: Any, **kwargs: Any) -> tuple[Any, Report]:
        """As a call, but an empty report is none to warn of."""
        return self._observed(args, kwargs)[:2]

    def _observed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Report, Level]:
        options = self._options
        traced = trace(self._fn, args, kwargs)
        found = [_with_axis(place, options) for place in traced.places]
        wiring = Wirings(traced.level, traced.labels, found)
        found = [dataclasses.replace(place, wiring=wiring) for place in found]
        observer = Observer(tuple(place.axis for place in found), options.saturation)
        values, records = evaluate(traced.level, traced.consts, traced.args, observer)
        sites = tuple(Site(place, (), r) for place, r in zip(found, records, strict=True))
        unknown = Counter(traced.level.unknown)
        report = Report(sites, tuple(sorted(unknown.items())))
        return traced.finish(values), report, traced.level


_PRODUCTS = ("dot_general", "ragged_dot_general", "conv_general_dilated", "Einsum")


def _has_products(jaxpr: Any) -> bool:
    """Whether there is a matrix product or a convolution, at any depth."""
    return any(name_of(e) in _PRODUCTS for e in nested_equations(open_jaxpr(jaxpr)))


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
    """

    axes: tuple[int, ...]
    saturation: float

    def concerns(self, indices: range) -> bool:
        """Whether there are any."""
        return bool(indices)

    def observe(self, index: int, found: Found, inputs: Sequence[Any]) -> statistics.Statistics:
        """The statistics of an activation's arguments."""
        # A probe has no part in derivatives.
        arrays = [lax.stop_gradient(jnp.asarray(value)) for value in inputs]
        return _observe(found.function, self.axes[index], self.saturation, *arrays)


# One computation outside jit as well; inside, no boundary.
@functools.partial(jax.jit, static_argnums=(0, 1, 2), inline=True)
def _observe(
    function: Function, axis: int, saturation: float, x: jax.Array, *parameters: jax.Array
) -> statistics.Statistics:
    with jax.named_scope("jaxact.probe"):
        return statistics.collect(
            x,
            function.slope(x, *parameters),
            axis=axis,
            threshold=saturation,
            binary=function.binary,
        )
