r"""What brings units back during training: one line in the step.

A network that learns one task after another loses units: their gradients vanish, and what is left
fits new data worse and worse. These methods choose such units from the report of a probe, draw
their incoming weights anew, set the outgoing ones to 0, and let the optimizer's moments of these
weights begin again. Each is an object with the manners of an optax optimizer:

    method = jaxact.plasticity.redo()
    state = method.init(params)

    @jax.jit
    def step(params, opt_state, state, key, x, y):
        ...  # gradients, and the report of jaxact.probe
        params, opt_state, state = method.update(report, params, opt_state, state, key)
        return params, opt_state, state

They are for the layers that `jaxact.revive` can handle, whatever the activation is; other
activations are left alone, and named by a warning when the step is traced.
"""

import math
import numbers
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from jaxact._probe.renewal import Moments, Parameters, Units, opened, renew
from jaxact._report.remedies import unwired
from jaxact._report.report import Report
from jaxact._report.site import Site
from jaxact._report.statistics import approximate


class Method(NamedTuple):
    """A method that renews units: two functions, as of ``optax.GradientTransformation``.

    Attributes:
      init: ``init(params) -> state``. What is known of the units, at the start. The state is a tree
        of arrays with a few numbers for each unit.
      update: ``update(report, params, opt_state, state, key) -> (params, opt_state, state)``. To be
        called at every step, inside ``jit`` or not: it counts its calls. ``report`` is that of a
        `jaxact.probe` of the function that reads ``params``, ``opt_state`` the optimizer's state of
        these, or None. An NNX module and an ``nnx.Optimizer`` are changed in place. The key may be
        the same in each call.
    """

    init: Callable[[Any], "State"]
    update: Callable[[Report, Any, Any, "State", jax.Array], tuple[Any, Any, "State"]]


class State(NamedTuple):
    """What a method knows of the units.

    Attributes:
      step: how many updates there have been.
      units: for each array of weights by its path, for each of its axes, what a method keeps: it is
        used for the axis of the units of a layer.
    """

    step: jax.Array
    units: dict[str, tuple[Any, ...]]


def redo(*, tau: float = 0.025, every: int = 1000) -> Method:
    r"""ReDo: every so often, units that are dormant get new weights.

    The score of unit i of a layer of H units is

    $$
    s_i = \frac{\mathrm{E}|h_i|}{\frac{1}{H} \sum_k \mathrm{E}|h_k|}
    $$

    over the samples of the report; units with $s_i \le \tau$ are dormant. Incoming weights are
    drawn as by `jaxact.initializers.he_normal`, biases become 0, and outgoing weights 0.

    Args:
      tau: the threshold; at 0, units that are 0 on all of the report.
      every: in each update whose number it divides, dormant units get new weights. The others do
        nothing.

    Returns:
      A `Method`.

    Raises:
      ValueError: ``tau`` is negative, or ``every`` no positive integer.

    Reference: Sokar et al., "The dormant neuron phenomenon in deep reinforcement learning", 2023
    (arXiv 2302.12902).

    Examples:
      >>> import jax, jax.numpy as jnp, jaxact, optax
      >>> def model(params, x):
      ...     return jax.nn.relu(x @ params["w"]) @ params["v"]
      >>> params = {"w": jnp.array([[1.0, -9.0], [1.0, -9.0]]), "v": jnp.ones((2, 1))}
      >>> opt_state = optax.adam(1e-3).init(params)
      >>> method = jaxact.plasticity.redo(every=1)
      >>> state = method.init(params)
      >>> _, report = jaxact.probe(model)(params, jnp.eye(2))
      >>> key = jax.random.key(0)
      >>> params, opt_state, state = method.update(report, params, opt_state, state, key)
      >>> params["v"]
      Array([[1.],
             [0.]], dtype=float32)
    """
    is_right = isinstance(tau, numbers.Real) and not isinstance(tau, bool) and tau >= 0
    _checked("redo", "tau", tau, is_right, "a number of at least 0")
    _whole("redo", "every", every)

    def choose(layer: "_Layer", units: Any) -> tuple[jax.Array, Any]:
        return layer.dormancy <= tau, units

    return _method("redo", lambda units: (), choose, lambda step: step % every == 0)


def continual_backprop(
    *, replacement_rate: float = 1e-4, decay: float = 0.99, maturity: int = 100
) -> Method:
    r"""Continual backpropagation: in each step a few of the least useful units are replaced.

    The utility of unit i is a running average of its contribution to what reads it,

    $$
    u_i \leftarrow \eta u_i + (1 - \eta)\, \mathrm{E}|h_i| \sum_k |w_{ik}|
    $$

    divided by $1 - \eta^{a_i}$, since it starts at 0: $a_i$ is the age, the number of updates since
    the unit was new. In every update the number of units older than the maturity, times the
    replacement rate, is added to what a layer owes; of that, whole units are replaced, those of the
    least utility among the mature.

    Args:
      replacement_rate: the share of the mature units of a layer that is replaced in an update.
      decay: η of the running average.
      maturity: the age below which a unit is let alone.

    Returns:
      A `Method`.

    Raises:
      ValueError: ``replacement_rate`` or ``decay`` is not between 0 and 1, or ``maturity`` no
        positive integer.

    Reference: Dohare et al., "Loss of plasticity in deep continual learning", Nature 632, 2024
    (arXiv 2306.13812).

    Examples:
      >>> import jax, jax.numpy as jnp, jaxact
      >>> def model(params, x):
      ...     return jax.nn.relu(x @ params["w"]) @ params["v"]
      >>> params = {"w": jnp.array([[1.0, 2.0], [1.0, 2.0]]), "v": jnp.ones((2, 1))}
      >>> method = jaxact.plasticity.continual_backprop(replacement_rate=0.5, maturity=1)
      >>> state, key = method.init(params), jax.random.key(0)
      >>> for _ in range(2):
      ...     _, report = jaxact.probe(model)(params, jnp.eye(2))
      ...     params, _, state = method.update(report, params, None, state, key)
      >>> params["v"]
      Array([[0.],
             [1.]], dtype=float32)
    """
    _share("continual_backprop", "replacement_rate", replacement_rate)
    _share("continual_backprop", "decay", decay)
    _whole("continual_backprop", "maturity", maturity)

    def start(units: int) -> Any:
        return {
            "age": jnp.zeros((units,), jnp.int32),
            "utility": jnp.zeros((units,), jnp.float32),
            "owed": jnp.zeros((), jnp.float32),
        }

    def choose(layer: "_Layer", units: Any) -> tuple[jax.Array, Any]:
        age = units["age"] + 1
        contribution = layer.magnitude * layer.outgoing()
        utility = units["utility"] * decay + contribution * (1 - decay)
        mature = age > maturity
        owed = units["owed"] + replacement_rate * mature.sum().astype(jnp.float32)
        # By rank, so that of equal ones no more than are owed are replaced.
        unbiased = utility / (1 - decay ** age.astype(jnp.float32))
        rank = jnp.argsort(jnp.argsort(jnp.where(mature, unbiased, jnp.inf)))
        chosen = mature & (rank < jnp.floor(owed).astype(rank.dtype))
        owed = owed - chosen.sum().astype(jnp.float32)
        return chosen, {"age": age, "utility": utility, "owed": owed}

    return _method("continual_backprop", start, choose)


def self_normalized_resets(*, rejection: float = 0.02, decay: float = 0.99) -> Method:
    r"""Self-normalized resets: a unit is reset when it has been silent for longer than it ever is.

    A unit fires on a sample where f'(x) is not 0, as `Site.active` counts. While A is the number of
    samples between two firings, a unit that has been silent for a samples is reset if

    $$
    P(A \ge a) \le \mathrm{rejection}
    $$

    The paper takes the distribution of A from a histogram for each unit. Here it is that of a unit
    which fires with one probability, known from F firings in T samples, with a uniform prior:

    $$
    P(A \ge a) = \frac{B(F + 1, T - F + 1 + a)}{B(F + 1, T - F + 1)}
    $$

    the expectation of (1 - p)^a. It needs two numbers a unit, knows of silences longer than any
    before, and is sure of little where little was seen: a new unit that has never fired is reset
    after 1 / rejection samples. F and T are counted up to the last firing, with a decay for each
    report in which the unit fires; within a report, the order of samples is not known.

    Units that are silent by chance are reset as well: about this share of silences ends so, where a
    report is of one sample. With a hundred samples a report hardly any unit is silent by chance.

    Args:
      rejection: the probability below which a silence is taken for the unit's end.
      decay: of F and T.

    Returns:
      A `Method`.

    Raises:
      ValueError: ``rejection`` or ``decay`` is not between 0 and 1.

    Reference: Farias and Jozefiak, "Self-normalized resets for plasticity in continual learning",
    2025 (arXiv 2410.20098).

    Examples:
      >>> import jax, jax.numpy as jnp, jaxact
      >>> def model(params, x):
      ...     return jax.nn.relu(x @ params["w"]) @ params["v"]
      >>> params = {"w": jnp.array([[1.0, 1.0]]), "v": jnp.ones((2, 1))}
      >>> method = jaxact.plasticity.self_normalized_resets()
      >>> state, key = method.init(params), jax.random.key(0)
      >>> for sign in (1.0, -1.0):  # Of 20 samples each: the first unit stops after the first.
      ...     params["w"] = jnp.array([[sign, 1.0]])
      ...     _, report = jaxact.probe(model)(params, jnp.ones((20, 1)))
      ...     params, _, state = method.update(report, params, None, state, key)
      >>> params["v"]
      Array([[0.],
             [1.]], dtype=float32)
    """
    _share("self_normalized_resets", "rejection", rejection)
    _share("self_normalized_resets", "decay", decay)
    limit = math.log(rejection)

    def start(units: int) -> Any:
        return {name: jnp.zeros((units,), jnp.float32) for name in ("silent", "firings", "samples")}

    def choose(layer: "_Layer", units: Any) -> tuple[jax.Array, Any]:
        fired = layer.firings > 0
        silent = units["silent"] + layer.samples
        firings = jnp.where(fired, units["firings"] * decay + layer.firings, units["firings"])
        samples = jnp.where(fired, units["samples"] * decay + silent, units["samples"])
        silent = jnp.where(fired, 0, silent)
        chosen = _log_of_longer(silent, firings, samples) <= limit
        return chosen, {"silent": silent, "firings": firings, "samples": samples}

    return _method("self_normalized_resets", start, choose)


def _log_of_longer(silent: jax.Array, firings: jax.Array, samples: jax.Array) -> jax.Array:
    """log B(F + 1, T - F + 1 + a) / B(F + 1, T - F + 1).

    By Stirling's series, whose large terms are taken together: differences of ``gammaln`` at 1e6
    would be off by more than 1.
    """
    below, above = jnp.maximum(samples - firings, 0) + 1, jnp.maximum(samples, firings) + 2

    def rest(z: jax.Array) -> jax.Array:
        # log gamma(z + a) - log gamma(z) without a log(z + a) - a.
        series = 1 / (12 * (z + silent)) - 1 / (12 * z)
        return (z - 0.5) * jnp.log1p(silent / z) + series

    return rest(below) - rest(above) + silent * jnp.log((below + silent) / (above + silent))


# ------------------------------------------------------------------------------------------------
# What the methods have in common.


class _Layer:
    """What a report says of the units of a layer, in float32."""

    def __init__(self, site: Site, parameters: Parameters, wiring: Any):
        self._site = site
        self._parameters = parameters
        self._wiring = wiring
        self.units = site.place.units

    @property
    def samples(self) -> jax.Array:
        return approximate(self._site.statistics.samples)

    @property
    def firings(self) -> jax.Array:
        """How many samples of each unit had f'(x) other than 0."""
        return approximate(self._site.statistics.active)

    @property
    def magnitude(self) -> jax.Array:
        """The mean of |h| for each unit."""
        return jnp.asarray(self._site.magnitude, jnp.float32)

    @property
    def dormancy(self) -> jax.Array:
        return jnp.asarray(self._site.dormancy, jnp.float32)

    def outgoing(self) -> jax.Array:
        """The sum of the absolute values of the weights that read each unit."""
        total = jnp.zeros((self.units,), jnp.float32)
        for leaf in self._wiring.outgoing:
            weights = jnp.asarray(self._parameters.values[self._parameters.weights(leaf)])
            others = tuple(axis for axis in range(weights.ndim) if axis != leaf.axis)
            sums = abs(weights).astype(jnp.float32).sum(others)
            total = total + sums.reshape(-1, self.units, leaf.inner).sum((0, 2))
        return total


class _Choose(Protocol):
    """Which units of a layer get new weights, and what is known of all of them then."""

    def __call__(self, layer: _Layer, units: Any, /) -> tuple[jax.Array, Any]: ...


def _method(
    name: str,
    start: Callable[[int], Any],
    choose: _Choose,
    due: Callable[[jax.Array], jax.Array] | None = None,
) -> Method:
    """A method.

    Args:
      name: its name.
      start: what is known of so many new units.
      choose: see there.
      due: in which updates units are renewed; by default in each.
    """

    def init(params: Any) -> State:
        parameters = Parameters(opened(params)[0], (), name)
        units = {
            "/".join(path): tuple(start(length) for length in jnp.shape(value))
            for path, value in zip(parameters.paths, parameters.values, strict=True)
            if jnp.ndim(value) > 1 and jnp.issubdtype(value.dtype, jnp.floating)
        }
        return State(jnp.zeros((), jnp.int32), units)

    def update(
        report: Report, params: Any, opt_state: Any, state: State, key: jax.Array
    ) -> tuple[Any, Any, State]:
        if not isinstance(report, Report):
            raise TypeError(f"{name}: report must be a Report of jaxact.probe, got {report!r}.")
        if not isinstance(state, State):
            raise TypeError(
                f"{name}: state must be what init returns, got {type(state).__name__}. The "
                "arguments are update(report, params, opt_state, state, key)."
            )
        _check_key(key, name)
        sites = _handled(report, name)
        tree, close = opened(params)
        optimizer, close_optimizer = opened(opt_state)
        wirings = [site.place.wiring[site.place.index] for site in sites]
        parameters = Parameters(tree, wirings, name)
        moments = Moments(optimizer, parameters, name)
        step = state.step + 1
        known = dict(state.units)
        chosen = []
        is_due = due(step) if due else True
        for site, wiring in zip(sites, wirings, strict=True):
            layer = _Layer(site, parameters, wiring)
            path = "/".join(parameters.paths[parameters.weights(wiring.incoming)])
            axes = known.get(path, ())
            axis = wiring.incoming.axis
            if len(axes) != len(wiring.incoming.shape):
                raise ValueError(
                    f"{name}: state knows nothing of {path}: make it by init from these params."
                )
            new = start(layer.units)
            if jax.tree.map(jnp.shape, axes[axis]) != jax.tree.map(jnp.shape, new):
                raise ValueError(
                    f"{name}: state is that of another method, or of layers of other sizes than "
                    f"{path}: make it by init of this method from these params."
                )
            mask, units = choose(layer, axes[axis])
            # Without samples, or with any that is not finite, nothing is known that was not before.
            seen = (layer.samples > 0) & jnp.isfinite(layer.magnitude).all()
            mask = mask & seen
            units = jax.tree.map(
                lambda after, before, new, mask=mask, seen=seen: jnp.where(
                    mask if after.ndim else False, new, jnp.where(seen, after, before)
                ),
                *(units, axes[axis], new),
            )
            known[path] = (*axes[:axis], units, *axes[axis + 1 :])
            chosen.append(Units(site.place, wiring, mask))
        changing = sorted(set().union(*map(parameters.around, wirings)))
        own = [i for i, owner in moments.owners.items() if owner in changing]

        def kept() -> tuple[list[Any], list[Any]]:
            return [parameters.values[i] for i in changing], [moments.values[i] for i in own]

        def renewed() -> tuple[list[Any], list[Any]]:
            new = renew(parameters, chosen, jax.random.fold_in(key, step))
            after = moments.restarted(new)
            return [new.values[i] for i in changing], [after[i] for i in own]

        def where_any() -> tuple[list[Any], list[Any]]:
            return _either(_any([units.mask for units in chosen]), renewed, kept)

        # Under vmap, which computes both sides, whether it is time is the same for all.
        values, own_values = _either(is_due, where_any, kept) if due else where_any()
        after, after_moments = list(parameters.values), list(moments.values)
        for i, value in zip(changing, values, strict=True):
            after[i] = value
        for i, value in zip(own, own_values, strict=True):
            after_moments[i] = value
        return (
            close(parameters.tree(after)),
            close_optimizer(moments.tree(after_moments)),
            State(step, known),
        )

    return Method(init, update)


def _any(masks: Sequence[jax.Array]) -> jax.Array:
    found = masks[0].any()
    for mask in masks[1:]:
        found = found | mask.any()
    return found


def _either(which: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """``lax.cond``; outside of ``jit`` what a Python program does, so that shardings stay."""
    if isinstance(which, jax.core.Tracer):
        return lax.cond(which, yes, no)
    return yes() if which else no()


def _handled(report: Report, name: str) -> list[Site]:
    """The sites whose units can get new weights; of the others, a warning."""
    sites, others = [], []
    for site in report.records:
        place = site.place
        why = unwired(place, site.statistics.active.ndim - 1)
        if why:
            others.append(f"  {place.index}: {place.function} in {place.path}: {why}.")
        else:
            sites.append(site)
    if not sites:
        listed = "\n".join(others) or "  the report is empty."
        raise ValueError(f"{name}: no activation has units that can get new weights:\n{listed}")
    if others:
        listed = "\n".join(others)
        warnings.warn(
            f"{name}: these activations are left alone:\n{listed}", UserWarning, stacklevel=3
        )
    return sites


def _check_key(key: Any, name: str) -> None:
    """Raise an error for what is no PRNG key, before anything is drawn from it."""
    try:
        jax.eval_shape(lambda: jax.random.fold_in(key, 0))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name}: key must be a PRNG key such as jax.random.key(0), got {key!r}."
        ) from error


def _share(method: str, name: str, value: Any) -> None:
    inside = isinstance(value, numbers.Real) and 0 < float(value) < 1
    _checked(method, name, value, inside, "a number above 0 and below 1")


def _whole(method: str, name: str, value: Any) -> None:
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    _checked(method, name, value, is_whole and value > 0, "a positive integer")


def _checked(method: str, name: str, value: Any, is_right: bool, what: str) -> None:
    if not is_right:
        raise ValueError(f"{method}: {name} must be {what}, got {value!r}.")
