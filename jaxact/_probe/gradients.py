"""`jaxact.probe_and_grad`: a loss with its gradient, and a report that has each unit's gradient.

Behind each activation stands an identity, a *tap*, with a second argument of zeros, one for each
unit. Its backward pass hands the sum of the units' |cotangents| over the samples out as the
cotangent of that argument. So the figures come out of the same backward pass as the gradient, and
nothing is kept for them. (Zeros that are added to the activation would get the signed sum.)
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxact._core.elementwise import varying_axes
from jaxact._jaxprs.structure import as_varying
from jaxact._probe.data import Data
from jaxact._probe.evaluate import evaluate, in_order
from jaxact._probe.probe import (
    Axis,
    Observer,
    Options,
    Scan,
    checked,
    looked_at,
    report_of,
    warn_of_an_empty_report,
)
from jaxact._probe.sites import blind_spots, results
from jaxact._probe.trace import Wrapped, differentiated_by, is_module, trace
from jaxact._report import statistics
from jaxact._report.report import Report
from jaxact._report.site import Place


def probe_and_grad(
    loss: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    axis: Axis = -1,
    saturation: float = 1e-3,
    rank: bool = False,
    scan: Scan = "auto",
    data: Data = None,
) -> Callable[..., tuple[tuple[Any, Report], Any]]:
    r"""A loss with its gradient and a report, in which each unit has a gradient too.

    It is used as ``jax.value_and_grad`` is, and returns the same values and gradients, with the
    report of `jaxact.probe` beside what the loss returns. In it, `Site.gradient` is for each unit
    the mean over the samples of

    $$\left|\frac{\partial\, \text{loss}}{\partial\, \text{activation}}\right|$$

    which GraMa takes to find units that do not learn, in functions without dead units as well.
    Nothing of the size of an activation is kept for it.

    The gradient is not seen, and is NaN, at activations inside functions with a derivative of their
    own (a user's ``custom_vjp``, `jaxact.mlp`), inside ``lax.while_loop``, and where the loss takes
    a derivative itself; the table says so.

    Args:
      loss: a function that returns a scalar, or ``(scalar, aux)``.
      argnums: the number of the positional argument to differentiate by, or a sequence of them. An
        NNX module is differentiated by its ``Param``, as by ``nnx.value_and_grad``.
      has_aux: whether the loss returns ``(scalar, aux)``.
      axis: as of `jaxact.probe`, as the following.
      saturation: a unit counts as saturated where |f'(x)| is below this.
      rank: whether to collect what `Site.effective_rank` needs.
      scan: what becomes of the steps of ``lax.scan``.
      data: which arguments are data: by default those that are not differentiated by.

    Returns:
      A function with the arguments of ``loss`` that returns ``((value, report), gradient)``, or,
      with ``has_aux``, ``(((value, aux), report), gradient)``. The gradient is a tuple if
      ``argnums`` is a sequence.

    Warns:
      UserWarning: at the call, if it finds no activation although there are matrix products.

    Raises:
      TypeError: ``loss`` is not callable, ``argnums`` is not of integers; at the call, the loss is
        not a scalar, or there is an aux and no ``has_aux``, or the other way round.
      ValueError: ``saturation`` is not between 0 and 1; at the call, there is no such argument.

    See Liu et al. 2025, [GraMa](https://arxiv.org/abs/2505.24061).

    Examples:
      >>> import jax, jax.numpy as jnp, jaxact
      >>> def loss(w, x):
      ...     return (jax.nn.relu(x @ w) * jnp.array([1.0, -4.0])).mean()
      >>> w, x = jnp.array([[1.0, 2.0]]), jnp.array([[1.0], [3.0]])
      >>> (value, report), gradient = jaxact.probe_and_grad(loss)(w, x)
      >>> print(value, gradient)
      -7.0 [[ 1. -4.]]
      >>> report.sites[0].gradient
      array([0.25, 1.  ], dtype=float32)
    """
    options = checked("probe_and_grad", loss, axis, saturation, rank, scan, data)
    several = isinstance(argnums, Sequence)
    numbers: Any = tuple(argnums) if isinstance(argnums, Sequence) else (argnums,)
    if not all(isinstance(n, Integral) for n in numbers):
        raise TypeError(
            f"probe_and_grad: argnums must be an integer or a sequence of them, got {argnums!r}."
        )
    return ProbedGradient(loss, numbers, several, has_aux, options)


class ProbedGradient(Wrapped):
    """What `probe_and_grad` returns."""

    def __init__(
        self,
        fn: Callable[..., Any],
        argnums: tuple[int, ...],
        several: bool,
        has_aux: bool,
        options: Options,
    ):
        super().__init__(fn)
        self._argnums = argnums
        self._several = several
        self._has_aux = has_aux
        self._options = options

    def with_fn(self, fn: Callable[..., Any]) -> "ProbedGradient":
        return ProbedGradient(fn, self._argnums, self._several, self._has_aux, self._options)

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[tuple[Any, Report], Any]:
        """Call the loss, and report."""
        numbers = [_number(n, len(args)) for n in self._argnums]
        parameters = {n: differentiated_by(args[n]) for n in numbers}
        traced = trace(
            self._fn,
            tuple(arg if is_module(arg) else parameters.get(i, arg) for i, arg in enumerate(args)),
            kwargs,
        )
        _check_loss(traced.out, self._has_aux)
        options = self._options
        if options.data is None and not any(o.in_module for o in traced.origins):
            arguments = [o.argument for o in traced.origins if o.argument is not None]
            others = tuple(dict.fromkeys(a for a in arguments if a not in numbers))
            options = dataclasses.replace(options, data=others)
        found, tapper = looked_at(traced, options, Tapper)
        blind = list(blind_spots(traced.level))
        taps = [
            None if why else _zeros(place, aval)
            for place, why, aval in zip(found, blind, results(traced.level), strict=True)
        ]
        owners = [origin.differentiated for origin in traced.origins]
        chosen = [i for i, owner in enumerate(owners) if owner in numbers]

        def value(differentiated: Sequence[Any], taps: Sequence[Any]) -> Any:
            arguments = list(traced.args)
            for i, x in zip(chosen, differentiated, strict=True):
                arguments[i] = x
            values, records = evaluate(traced.level, traced.consts, arguments, tapper, taps=taps)
            return jnp.asarray(values[0]), (values, records)

        # The loss is the first of the jaxpr's results.
        (_, (values, records)), (gradient, totals) = jax.value_and_grad(
            value, argnums=(0, 1), has_aux=True
        )([traced.args[i] for i in chosen], taps)
        records = [
            statistics.with_gradient(record, total)
            for record, total in zip(records, totals, strict=True)
        ]
        unseen = tuple(sorted(Counter(filter(None, blind)).items()))
        report = report_of(traced, found, records, unseen)
        warn_of_an_empty_report("probe_and_grad", report, traced.level, stacklevel=3)
        owned = [(owners[i], g) for i, g in zip(chosen, gradient, strict=True)]
        gradients = tuple(
            jax.tree.unflatten(
                jax.tree.structure(parameters[n]), [g for owner, g in owned if owner == n]
            )
            for n in numbers
        )
        return (traced.finish(values), report), gradients if self._several else gradients[0]


def _number(n: int, count: int) -> int:
    """The number of one of so many positional arguments."""
    if not -count <= n < count:
        raise ValueError(
            f"probe_and_grad: argnums has {n}, but the call has {count} positional arguments."
        )
    return int(n) % count


def _check_loss(out: Any, has_aux: bool) -> None:
    """Raise an error where a loss does not return what it has to, in types."""
    if has_aux and not (isinstance(out, tuple | list) and len(out) == 2):
        raise TypeError(
            "probe_and_grad: with has_aux=True the loss must return (value, aux), got "
            f"{type(out).__name__}."
        )
    value = out[0] if has_aux else out
    if getattr(value, "shape", None) == () and jnp.issubdtype(value.dtype, jnp.floating):
        return
    got = value.str_short() if hasattr(value, "str_short") else type(value).__name__
    hint = " If it returns (value, aux), pass has_aux=True." if isinstance(value, tuple) else ""
    raise TypeError(f"probe_and_grad: the loss must be one floating number, got {got}.{hint}")


# ------------------------------------------------------------------------------------------------
# Taps


class Tapper(Observer):
    """Records statistics, and has the gradients at the activations come out at their taps."""

    def tap(self, index: int, output: Any, tap: Any) -> Any:
        """The activation's result; the tap gets the sum of |gradient| for each unit."""
        axis = self.axes[index]
        return _tap(axis, tap.size, output, _with_sharding_of(output, axis, tap))


def _zeros(place: Place, result: Any) -> jax.Array:
    """What is fed into a tap: zeros for each step and unit.

    In the body of ``shard_map`` each device has its own, if it has an activation of its own: the
    cotangents of what all devices share would be summed over them.
    """
    dtype = jnp.float64 if place.dtype == jnp.float64 else jnp.float32
    zeros = jnp.zeros((*(length for _, length in place.loops), place.units), dtype)
    here = set(jax.sharding.get_abstract_mesh().manual_axes)
    return as_varying(zeros, varying_axes(result) & here)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _tap(axis: int, units: int, y: jax.Array, zeros: jax.Array) -> jax.Array:
    return y


def _tap_forward(
    axis: int, units: int, y: jax.Array, zeros: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return y, zeros


def _tap_backward(
    axis: int, units: int, zeros: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    with jax.named_scope("jaxact.probe"):
        total = statistics.sizes(cotangent.astype(zeros.dtype), axis, units)
    # Else GPU compilers would keep the cotangents of all layers, and sum them up in the end.
    return in_order(cotangent, total)


_tap.defvjp(_tap_forward, _tap_backward)


def _with_sharding_of(y: jax.Array, axis: int, zeros: jax.Array) -> jax.Array:
    """The zeros, of the type that y's sum over all but the units has."""
    zeros = as_varying(zeros, varying_axes(jax.typeof(y)))
    sharding = jax.typeof(y).sharding
    if AxisType.Explicit in (
        *sharding.mesh.axis_types,
        *jax.typeof(zeros).sharding.mesh.axis_types,
    ):
        spec = sharding.spec[axis] if y.ndim else None
        zeros = jax.sharding.reshard(zeros, NamedSharding(sharding.mesh, PartitionSpec(spec)))
    return zeros
