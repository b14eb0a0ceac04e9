"""Where an activation is in a model, and what it has seen there."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxact._report import statistics
from jaxact._report.statistics import Statistics

#: The confidence of `Site.active_upper`.
CONFIDENCE = 0.95
#: A unit is dormant where its `Site.dormancy` is no more than this (as in Sokar et al. 2023).
DORMANT = 0.025

# What an activation is there for, where it is not a hidden layer's.
#: Times another branch: it is to be open or shut.
GATE = "gate"
#: A gate of channels, from a mean over all positions.
SQUEEZE_EXCITE = "squeeze-excite"
#: ``cap * tanh(x / cap)``.
SOFT_CAP = "soft-cap"
#: Of products of data and data, which weigh other data.
ATTENTION = "attention"
#: What it is of does not depend on the data.
OF_PARAMETERS = "of parameters"
#: Nothing that is returned depends on it.
UNUSED = "unused"


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
      loops: for each ``lax.scan`` around it whose steps are apart, the outermost first, its number
        and its length.
      saturation: the threshold of |f'(x)|.
      fixed: why it cannot be replaced by another function, or empty.
      role: what it is there for: "gate", "squeeze-excite", "soft-cap" or "attention"; "of
        parameters" if it does not depend on data, "unused" if nothing that is returned depends on
        it; empty for hidden layers, and where nothing is known.
      pooled: for each loop around it whose steps are pooled, the least and the largest number of
        steps; (-1, -1) for ``lax.while_loop``, which does not say.
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
    role: str = ""
    pooled: tuple[tuple[int, int], ...] = ()
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
    def role(self) -> str:
        """What the activation is there for, as `Place` lists it: ``"gate"``, ``"unused"``."""
        return self.place.role

    @property
    def steps(self) -> int | tuple[int, int] | None:
        """How many steps of loops are pooled in the site: 1 outside of such loops.

        After a merge of reports of several lengths, the shortest and the longest; None for
        ``lax.while_loop``, which does not say.
        """
        if any(most < 0 for _, most in self.place.pooled):
            return None
        least, most = map(math.prod, zip((1, 1), *self.place.pooled, strict=True))
        return most if least == most else (least, most)

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
    def fourth_moment(self) -> Any:
        """The mean of the pre-activation's fourth power."""
        return _sum_of_two(self.statistics.fourth_moment)

    @property
    def peak(self) -> Any:
        """The largest |pre-activation| of a unit."""
        return _on_host(self.statistics.peak)

    @property
    def kurtosis(self) -> Any:
        r"""How heavy the tails of the pre-activations are, over all units: one number.

        $$E[x^4] / E[x^2]^2$$

        about zero, over units and samples: 3 for a normal distribution around 0, more where a few
        values are much larger than the others, as massive activations are. 0 where all are 0.

        See Sun et al. 2024, [Massive activations](https://arxiv.org/abs/2402.17762), and He et al.
        2024, [Outlier features](https://arxiv.org/abs/2405.19279).
        """
        fourth, squares = self.fourth_moment, self.second_moment
        if not isinstance(squares, jax.core.Tracer):  # Squares of float32 may overflow it.
            fourth, squares = fourth.astype(float), squares.astype(float)
        squares = squares.mean(-1)
        return _ratio(fourth.mean(-1), squares * squares)

    @property
    def magnitude(self) -> Any:
        """The mean of |activation|: of what a unit puts out."""
        return _sum_of_two(self.statistics.magnitude)

    @property
    def dormancy(self) -> Any:
        r"""ReDo's score: the mean of a unit's |activation| over the mean of those of all units.

        $$s_i = E|h_i| \Big/ \tfrac{1}{n} \sum_k E|h_k|$$

        1 on average; a unit is called dormant where it is no more than a threshold, such as 0.025
        (``dormant`` of `Report.scalars`). 0 where all units of the layer put out 0.

        See Sokar et al. 2023, [The dormant neuron phenomenon in deep reinforcement
        learning](https://arxiv.org/abs/2302.12902).
        """
        magnitude = self.magnitude
        return _ratio(magnitude, magnitude.mean(-1, keepdims=True))

    @property
    def gradient(self) -> Any:
        r"""The mean of $|\partial\, \text{loss} / \partial\, \text{activation}|$ over the samples.

        A unit may be active and learn nothing, or hardly be active and learn. The gradient is that
        of the loss as it is: of a mean over a batch, it gets smaller with the batch's size. NaN
        where the gradient cannot be seen, which the table names.

        See Liu et al. 2025, [GraMa](https://arxiv.org/abs/2505.24061).

        Raises:
          ValueError: the report is not of `jaxact.probe_and_grad`.
        """
        if self.statistics.gradient is None:
            raise ValueError(
                "Site.gradient: the report has no gradients. Make it with jaxact.probe_and_grad."
            )
        return _sum_of_two(self.statistics.gradient)

    @property
    def effective_rank(self) -> Any:
        r"""How many directions the activations use: one number, between 1 and the units.

        (crelu has twice as many activations as units.)

        $$\exp\Big(-\sum_k p_k \log p_k\Big), \qquad p_k = \sigma_k \Big/ \sum_j \sigma_j$$

        for the singular values of the matrix of samples by units. Those that float32 cannot tell
        from 0 count as 0: below about a thousandth of the largest. 0 where all activations are 0.

        See Roy & Vetterli 2007, The effective rank.

        Raises:
          ValueError: the report is not of ``probe(fn, rank=True)``.
        """
        squared, xp = self._spectrum("effective_rank")
        values = xp.sqrt(squared)
        share = _ratio(values, values.sum(-1, keepdims=True))
        entropy = -(share * xp.log(xp.where(share > 0, share, 1))).sum(-1)
        return xp.where(values.sum(-1) == 0, 0, xp.exp(entropy))

    @property
    def stable_rank(self) -> Any:
        r"""The stable rank of the activations: one number, between 1 and the units.

        $$\|A\|_F^2 / \|A\|_2^2 = \sum_k \sigma_k^2 \Big/ \max_k \sigma_k^2$$

        for the matrix A of samples by units; small singular values hardly count. 0 where all
        activations are 0.

        See Rudelson & Vershynin 2007, [Sampling from large
        matrices](https://arxiv.org/abs/math/0503442).

        Raises:
          ValueError: the report is not of ``probe(fn, rank=True)``.
        """
        squared, _ = self._spectrum("stable_rank")
        return _ratio(squared.sum(-1), squared.max(-1))

    def _spectrum(self, what: str) -> tuple[Any, Any]:
        """The squared singular values of the activations; NumPy, or JAX's for what is traced."""
        if self.statistics.features is None:
            raise ValueError(
                f"Site.{what}: the report has no products of units: probe with rank=True."
            )
        products: Any = _on_host(self.statistics.features)
        xp = _numpy_of(products)
        rounding = jnp.finfo(products.dtype).eps
        if xp is np:
            products = products.astype(np.float64)
        finite = xp.isfinite(products).all((-1, -2))[..., None]
        values = xp.linalg.eigvalsh(xp.where(finite[..., None], products, 0))
        values = xp.where(finite, values, xp.nan)
        # The errors of the products' sums, of all units together.
        noise = 4 * rounding * values.sum(-1, keepdims=True)
        return xp.where(values <= noise, 0, values), xp

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
    done = set()
    for site in sites:
        if len(site.place.loops) == depth:
            yield Site(site.place, iteration, _step(site.statistics, iteration))
            continue
        loop, length = site.place.loops[depth]
        if loop in done:
            continue
        done.add(loop)
        # Between them may be others in the same loop, of which the steps are pooled.
        together = [
            s for s in sites if len(s.place.loops) > depth and s.place.loops[depth][0] == loop
        ]
        for i in range(length):
            yield from _steps(together, (*iteration, i))


def _step(values: Statistics, iteration: tuple[int, ...]) -> Statistics:
    """The statistics of one step, out of those of all steps.

    In every array, the axes of the loops are right before the axes that the array has anyway; the
    axes of ``vmap`` are in front.
    """

    def step(array: Any, trailing: int) -> Any:
        if array is None:
            return None
        index = (..., *iteration, *[slice(None)] * trailing)
        if isinstance(array, jax.ShapeDtypeStruct):
            return jax.eval_shape(lambda a: a[index], array)
        return array[index]

    return Statistics(**{n: step(getattr(values, n), k) for n, k in statistics.TRAILING.items()})


def _on_host(array: Any) -> Any:
    """An array as NumPy's; what is traced, or known by shape only, stays as it is."""
    abstract = isinstance(array, jax.core.Tracer | jax.ShapeDtypeStruct)
    return array if abstract else np.asarray(array)


def _count(words: Any) -> Any:
    """A count as an integer, or, traced, as a float without decimals."""
    if isinstance(words, jax.core.Tracer):
        return jnp.floor(statistics.approximate(words) + 0.5)
    return statistics.exact(words)


def _sum_of_two(pair: Any) -> Any:
    """A moment of two floats as one float."""
    pair = _on_host(pair)
    return pair[..., 0] + pair[..., 1]


def _numpy_of(x: Any) -> Any:
    """What computes with an array: NumPy on the host, JAX's for what is traced."""
    return jnp if isinstance(x, jax.core.Tracer) else np


def _at_least_one(count: Any) -> Any:
    """A count to divide by: 1 where there are no samples."""
    return _numpy_of(count).maximum(count, 1)


def _broadcast(x: Any, shape: tuple[int, ...]) -> Any:
    """An array broadcast to a shape, by NumPy on the host, traced by JAX."""
    return _numpy_of(x).broadcast_to(x, shape)


def _ratio(a: Any, b: Any) -> Any:
    """a / b, and 0 where b is 0."""
    xp = _numpy_of(b)
    return xp.where(b != 0, a / xp.where(b != 0, b, 1), 0)
