"""Where an activation is in a model, and what it has seen there."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxact._report import statistics
from jaxact._report.statistics import Statistics

#: The confidence of `Site.active_upper`.
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an activation is in a model: what is known of a site before anything runs.

    Attributes:
      index: its number, which `jaxact.swap` takes.
      path: the module's path (Flax) or the name stack; without either, the line of code.
      function: the activation's name in `jaxact.ACTIVATIONS`.
      shape: the shape of the pre-activation (of the gate, for a gated function).
      dtype: the dtype of the pre-activation.
      source: the line of code that calls it, ``file:line``.
      axis: the axis of the units.
      loops: for each ``lax.scan`` around it, the outermost first, its number and its length.
      saturation: the threshold of |f'(x)|.
      fixed: why it cannot be replaced by another function, or empty.
      form: the call as people write it, with the parameters that are not the defaults of jaxact's
        function: ``gelu(approximate=False)``, ``leaky_relu(0.2)``, ``relu``. A parameter that is an
        array is ``...``, or left out where the function has no default for it.
      own: whether it is jaxact's own function already.
      wiring: what `jaxact.revive` asks for the parameters around the activation; of no account
        when two places are compared.
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
    fixed: str = ""
    form: str = ""
    own: bool = False
    wiring: Any = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.form:
            object.__setattr__(self, "form", self.function)

    @property
    def units(self) -> int:
        """How many units there are along the axis."""
        return self.shape[self.axis] if self.shape else 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """What one activation has seen: an entry of `Report.sites`.

    Its arrays have an element for each unit, on the host; inside ``jit`` they are traced, and
    counts are floats there.

    Attributes:
      place: where the activation is.
      iteration: in ``lax.scan``, the step: () outside, (2,) for the third, (2, 0) in nested ones.
        An entry of `Report.records` has (), and all the steps: in its arrays, the axes of the
        scans are before that of the units.
      statistics: the sums over the samples.

    Examples:
      >>> import jax, jax.numpy as jnp, jaxact
      >>> x = jnp.array([[1.0, -2.0], [3.0, -4.0]])
      >>> _, report = jaxact.probe(jax.nn.relu)(x)
      >>> site = report.sites[0]
      >>> site.function, site.shape
      ('relu', (2, 2))
      >>> site.count
      array([2, 2])
      >>> site.active
      array([1., 0.])
      >>> site.dead
      array([False,  True])
      >>> site.mean
      array([ 2., -3.], dtype=float32)
    """

    place: Place = dataclasses.field(metadata={"static": True})
    iteration: tuple[int, ...] = dataclasses.field(metadata={"static": True})
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
    def form(self) -> str:
        """The call that it is: ``gelu(approximate=False)``, ``leaky_relu(0.2)``, ``relu``.

        It has the parameters that are not the defaults of jaxact's function of that name; one that
        is an array is ``...``, or left out where the function has no default for it.
        """
        return self.place.form

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the pre-activation."""
        return self.place.shape

    @property
    def source(self) -> str:
        """The line of code that calls the activation, ``file:line``."""
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
        """Whether f'(x) was 0 on every sample of a unit (and the unit had one)."""
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


def every_step(sites: Sequence[Site]) -> tuple[Site, ...]:
    """The sites in order of execution, one for each step of the scans around an activation.

    Args:
      sites: those with all steps in one, in the order of the program.
    """
    # Many small slices, which are quick in NumPy.
    return tuple(_steps(jax.tree.map(_on_host, sites), ()))


def _steps(sites: Sequence[Site], iteration: tuple[int, ...]) -> Iterator[Site]:
    """The steps of sites that share the loops of an iteration, from this iteration on."""
    depth = len(iteration)
    position = 0
    while position < len(sites):
        site = sites[position]
        if len(site.place.loops) == depth:
            yield Site(site.place, iteration, _step(site.statistics, iteration))
            position += 1
            continue
        loop, length = site.place.loops[depth]
        together = [
            s
            for s in sites[position:]
            if len(s.place.loops) > depth and s.place.loops[depth][0] == loop
        ]
        for i in range(length):
            yield from _steps(together, (*iteration, i))
        position += len(together)


def _step(values: Statistics, iteration: tuple[int, ...]) -> Statistics:
    """The statistics of one step, out of those of all steps.

    In every array, the axes of the loops are right before the axes that the array has anyway; the
    axes of ``vmap`` are in front.
    """
    own = Statistics(samples=1, active=2, saturated=2, mean=2, second_moment=2, histogram=2)  # type: ignore[arg-type]

    def step(array: Any, trailing: int) -> Any:
        index = (..., *iteration, *[slice(None)] * trailing)
        if isinstance(array, jax.ShapeDtypeStruct):
            return jax.eval_shape(lambda a: a[index], array)
        return array[index]

    return jax.tree.map(step, values, own)


def _on_host(array: Any) -> Any:
    """An array as NumPy's; what is traced, or known by shape only, stays as it is."""
    abstract = isinstance(array, jax.core.Tracer | jax.ShapeDtypeStruct)
    return array if abstract else np.asarray(array)


def _count(words: Any) -> Any:
    """A count of two words as an integer, or, traced, as a float."""
    if isinstance(words, jax.core.Tracer):
        return statistics.approximate(words)
    return statistics.exact(words)


def _sum_of_two(pair: Any) -> Any:
    """A moment of two floats as one float."""
    pair = _on_host(pair)
    return pair[..., 0] + pair[..., 1]


def _at_least_one(count: Any) -> Any:
    """A count to divide by: 1 where there are no samples."""
    return jnp.maximum(count, 1) if isinstance(count, jax.core.Tracer) else np.maximum(count, 1)


def _broadcast(x: Any, shape: tuple[int, ...]) -> Any:
    """An array broadcast to a shape, by NumPy on the host, traced by JAX."""
    return (jnp if isinstance(x, jax.core.Tracer) else np).broadcast_to(x, shape)
