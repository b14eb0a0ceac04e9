"""The primitives that call jaxprs: how each is stepped into, built again, and differentiated.

`CALLS` is the one place that knows them. An equation of a primitive that is not in it is stepped
into if its parameters leave no doubt (`call_of`), and is `unknown` otherwise. What is said of
primitives holds for the classes of JAX's newer operations too (`structure.operation`).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from jaxact._core.elementwise import varying_axes
from jaxact._jaxprs.structure import (
    as_varying,
    name_of,
    open_jaxpr,
    operation,
    parameters_of,
    subjaxprs,
)

#: What bodies return beside their results: a pytree of arrays, or None, for each of some places.
Records = list[Any]


class Body(Protocol):
    """A nested jaxpr, as a function that does something else in places.

    Attributes:
      consts: the constants of the jaxpr.
      taps: arrays that it reads beside its arguments, an entry or None for each place; the first
        axis is that of the steps, if the jaxpr is that of a loop.
      cached: whether a body that is equal to this one does the same at any time, so that what was
        compiled for one serves the other. The taps are of no account to that.
      pooled: for each record, whether those of all steps of a loop are to be one.
    """

    @property
    def consts(self) -> Sequence[Any]: ...

    @property
    def taps(self) -> Sequence[Any]: ...

    @property
    def cached(self) -> bool: ...

    @property
    def pooled(self) -> Sequence[bool]: ...

    def __call__(self, *args: Any) -> tuple[list[Any], Records]:
        """The jaxpr's results for these arguments, and the records."""

    def with_consts(self, consts: Sequence[Any], *args: Any) -> tuple[list[Any], Records]:
        """The results and the records for these constants and arguments."""

    def with_taps(self, taps: Sequence[Any]) -> "Body":
        """The same body with other taps: those of one step, in a loop."""

    def records(self, *args: Any) -> Records:
        """The records alone."""


class Merger(Protocol):
    """How several records of one place become one. Records of zeros add nothing."""

    def merge(self, a: Any, b: Any) -> Any:
        """Two records as one."""

    def across(self, statistics: Any, axes: Sequence[str]) -> Any:
        """The records of all devices along these mesh axes as one."""


Rebuild = Callable[[Any, Sequence[Any], Sequence[Any], Merger], tuple[list[Any], Records]]


class Nested(NamedTuple):
    """A jaxpr in an equation.

    Attributes:
      jaxpr: the jaxpr, as it is in the equation: open or closed.
      operands: for each of its arguments, which of the equation's operands it is.
    """

    jaxpr: Any
    operands: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Call:
    """How a primitive calls jaxprs.

    Attributes:
      jaxprs: the parameters that hold them, in order of execution; one may hold several.
      operands: stepping in: ``(equation, number of the jaxpr)`` to the positions of the jaxpr's
        arguments among the equation's operands.
      rebuild: building again: ``(equation, bodies, inputs, merger)`` to what the equation returns
        with these bodies in place of its jaxprs, and the records. None where JAX has no public
        function that makes such an equation.
      derivative: differentiating: what defines the derivative (``"custom_vjp"``), or "" where it
        is that of the jaxpr.
      is_jit: whether the call is ``jax.jit``, a boundary that means nothing.
      transparent: whether the results are those of the jaxpr, computed once.
      steps: the parameter with the number of steps, of each of which there is a record.
      reverses: whether JAX has a gradient of it.
      label: the call as people write it, where that is not the primitive's name.
    """

    jaxprs: tuple[str, ...]
    operands: Callable[[Any, int], Sequence[int]]
    rebuild: Rebuild | None
    derivative: str = ""
    is_jit: bool = False
    transparent: bool = False
    steps: str = ""
    reverses: bool = True
    label: str = ""

    def written(self, equation: Any) -> str:
        """The call as people write it."""
        return self.label or name_of(equation)

    def nested(self, equation: Any) -> list[Nested]:
        """The jaxprs of an equation, in order of execution."""
        found = list(subjaxprs(parameters_of(equation)))
        jaxprs = [value for wanted in self.jaxprs for name, value in found if name == wanted]
        return [Nested(jaxpr, self.operands(equation, i)) for i, jaxpr in enumerate(jaxprs)]


def call_of(equation: Any) -> Call | None:
    """How an equation calls jaxprs, or None if it does not, or is `unknown`.

    One that is not in `CALLS` has to have a single jaxpr, whose arguments and results are of the
    types of its own. It cannot be built again.
    """
    name = name_of(equation)
    if name in CALLS:
        return CALLS[name]
    found = list(subjaxprs(parameters_of(equation)))
    if len(found) != 1 or _combines(equation):
        return None
    ((parameter, value),) = found
    jaxpr = open_jaxpr(value)
    for own, inner in ((equation.invars, jaxpr.invars), (equation.outvars, jaxpr.outvars)):
        if list(map(_type, own)) != list(map(_type, inner)):
            return None
    return Call((parameter,), _all, None)


def unknown(equation: Any) -> bool:
    """Whether an equation computes what others have written, in a way that is not known.

    That is so where it holds jaxprs and there is no way to tell how it calls them, and where it
    has rules of its own and no jaxpr at all.
    """
    if call_of(equation) is not None:
        return False
    parameters = parameters_of(equation)
    if next(subjaxprs(parameters), None) is not None:
        return not _combines(equation)
    made = operation(equation)
    if made is None:
        return name_of(equation).startswith("custom_")
    # Of JAX's and Flax's own, those that call no function are operations as any other.
    of_others = type(made).__module__.partition(".")[0] not in ("jax", "flax")
    return of_others or any(map(_is_function, parameters.values()))


def constants_of_loop(equation: Any) -> list[int]:
    """The operands of a scan that are the same in all steps, by position.

    In the body, which has one argument for each operand, they have the same positions.
    """
    parameters = parameters_of(equation)
    if "extensives" in parameters:
        return [i for i, scanned in enumerate(parameters["extensives"]) if not scanned]
    constants, _, _ = scan_operands(parameters, equation.invars)
    return list(range(len(constants)))


def scan_operands(parameters: Any, operands: Sequence[Any]) -> list[list[Any]]:
    """The operands of a scan: constants, carried values, what is scanned."""
    if "ft_in" in parameters:  # From JAX 0.12.
        return [list(part) for part in parameters["ft_in"].update(list(operands)).unpack()]
    ends = parameters["num_consts"], parameters["num_consts"] + parameters["num_carry"]
    return [list(operands[: ends[0]]), list(operands[ends[0] : ends[1]]), list(operands[ends[1] :])]


def _combines(equation: Any) -> bool:
    """Whether the jaxprs are of single elements, as those of reductions and scatters are."""
    inner = (open_jaxpr(value) for _, value in subjaxprs(parameters_of(equation)))
    arguments = [v for jaxpr in inner for v in jaxpr.invars]
    of_elements = all(getattr(v.aval, "shape", None) == () for v in arguments)
    return of_elements and any(getattr(v.aval, "shape", ()) for v in equation.invars)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)  # A dtype is a class.


def _type(variable: Any) -> Any:
    aval = variable.aval
    # A reference to memory, a kernel's argument, has the shape and dtype of an array.
    return type(aval), getattr(aval, "shape", None), getattr(aval, "dtype", None)


# ------------------------------------------------------------------------------------------------
# Stepping in.


def _all(equation: Any, number: int) -> Sequence[int]:
    return range(len(equation.invars))


def _without_residuals(equation: Any, number: int) -> Sequence[int]:
    """Behind the constants, the third version of custom_vjp has operands for its rules alone."""
    (jaxpr,) = (value for _, value in subjaxprs(parameters_of(equation)))
    count = len(equation.invars)
    left_out = count - len(open_jaxpr(jaxpr).invars)
    if not left_out:
        return range(count)
    constants = len(jax.tree.leaves(operation(equation).in_avals[0]))
    return [*range(constants), *range(constants + left_out, count)]


def _all_but_index(equation: Any, number: int) -> Sequence[int]:
    return range(1, len(equation.invars))


def _of_while(equation: Any, number: int) -> Sequence[int]:
    """Condition and body have constants of their own, and the same state."""
    of_condition = equation.params["cond_nconsts"]
    state = of_condition + equation.params["body_nconsts"]
    constants = range(of_condition, state) if number else range(of_condition)
    return [*constants, *range(state, len(equation.invars))]


# ------------------------------------------------------------------------------------------------
# Building again.


def _jit(
    equation: Any, bodies: Sequence[Body], inputs: Sequence[Any], merger: Merger
) -> tuple[list[Any], Records]:
    (body,) = bodies
    p = equation.params
    ins, outs = p.get("in_shardings", ()), p.get("out_shardings", ())
    options = {
        "inline": p.get("inline", False),
        "compiler_options": p.get("compiler_options_kvs", ()),
    }
    if any(isinstance(s, jax.sharding.Sharding) for s in (*ins, *outs)):
        options["in_shardings"] = (None, None, *map(_sharding, ins))
        options["out_shardings"] = (tuple(map(_sharding, outs)), None)
    jitted: Callable[..., Any] = _jitted_again if body.cached else _jitted
    function = jitted(p.get("name", "jit"), tuple(options.items()), body.with_taps(()))
    results, records = function(body.taps, body.consts, *inputs)
    return list(results), records


def _jitted(name: str, options: Any, body: Body) -> Callable[..., Any]:
    def function(taps: Sequence[Any], consts: Sequence[Any], *args: Any) -> Any:
        results, records = body.with_taps(taps).with_consts(consts, *args)
        return tuple(results), records

    function.__name__ = function.__qualname__ = name
    options = dict(options)
    options["compiler_options"] = dict(options["compiler_options"]) or None
    return jax.jit(function, **options)


#: Kept, so that a jitted function inside one that is not compiles once.
_jitted_again = functools.lru_cache(maxsize=256)(_jitted)


def _sharding(sharding: Any) -> Any:
    return sharding if isinstance(sharding, jax.sharding.Sharding) else None


def _call(
    equation: Any, bodies: Sequence[Body], inputs: Sequence[Any], merger: Merger
) -> tuple[list[Any], Records]:
    (body,) = bodies
    return body(*inputs)


def _scan(
    equation: Any, bodies: Sequence[Body], inputs: Sequence[Any], merger: Merger
) -> tuple[list[Any], Records]:
    (body,) = bodies
    p = equation.params
    consts, carry, xs = scan_operands(p, inputs)
    carried = len(carry)

    def step(body: Body, carry: Any, xs: Any) -> Any:
        results, records = body(*consts, *carry, *xs)
        return results[:carried], results[carried:], records

    carry, ys, records = _scanned(step, body, carry, xs, p, merger)
    return [*carry, *ys], records


def _scanned(
    step: Callable[[Body, Any, Any], tuple[Any, Any, Records]],
    body: Body,
    carry: Any,
    xs: Sequence[Any],
    parameters: Mapping[str, Any],
    merger: Merger,
) -> tuple[Any, Any, Records]:
    """A scan with records: one for all steps where they are pooled, elsewhere one for each.

    Of pooled places, the tap is the same in all steps too. Records and taps of steps are in order
    of execution.
    """
    length, reverse = parameters["length"], parameters["reverse"]
    pooled = list(body.pooled)
    apart = [not p for p in pooled]
    of_steps = _in_order(_pick(body.taps, apart), reverse)

    def tapped(of_step: Sequence[Any]) -> Body:
        own = iter(of_step)
        return body.with_taps(
            [tap if p else next(own) for tap, p in zip(body.taps, pooled, strict=True)]
        )

    def of_first_step(xs: Any, taps: Any) -> Records:
        return _pick(step(tapped(taps), carry, xs)[2], pooled)

    # Without steps, types are all that there is to take it from.
    first = jax.tree.map(
        lambda x: (
            lax.index_in_dim(x, 0, keepdims=False)
            if length
            else jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
        ),
        (xs, of_steps),
    )

    def with_records(state: Any, scanned: Any) -> Any:
        (carry, sums), (xs, taps) = state, scanned
        carry, ys, records = step(tapped(taps), carry, xs)
        return (carry, _merged(merger, sums, _pick(records, pooled))), (ys, _pick(records, apart))

    (carry, sums), (ys, steps) = lax.scan(
        with_records,
        (carry, _zeros(of_first_step, *first) if any(pooled) else []),
        (xs, of_steps),
        length=length,
        reverse=reverse,
        unroll=parameters["unroll"],
    )
    of_all, of_each = iter(sums), iter(_in_order(steps, reverse))
    return carry, ys, [next(of_all if p else of_each) for p in pooled]


def _in_order(steps: Records, reverse: bool) -> Records:
    """What is scanned, or made by a scan, in order of execution, or back from it."""
    return jax.tree.map(lambda a: jnp.flip(a, 0), steps) if reverse else steps


def _pick(records: Sequence[Any], wanted: Sequence[bool]) -> Records:
    return [r for r, w in zip(records, wanted, strict=True) if w]


def _merged(merger: Merger, sums: Records, records: Records) -> Records:
    """The records, each added to the sum of those before; None is none."""
    pairs = zip(sums, records, strict=True)
    return [None if new is None else merger.merge(total, new) for total, new in pairs]


def _scan_of_references(
    equation: Any, bodies: Sequence[Body], inputs: Sequence[Any], merger: Merger
) -> tuple[list[Any], Records]:
    """The third version of scan carries values in references, which are constants of its body."""
    (body,) = bodies
    p = parameters_of(equation)
    scanned = [x for x, each in zip(inputs, p["extensives"], strict=True) if each]

    def step(body: Body, carry: Any, xs: Any) -> Any:
        new = iter(xs)
        args = [next(new) if e else x for x, e in zip(inputs, p["extensives"], strict=True)]
        return carry, *body(*args)

    _, ys, records = _scanned(step, body, (), scanned, p, merger)
    return list(ys), records


def _while(
    equation: Any, bodies: Sequence[Body], inputs: Sequence[Any], merger: Merger
) -> tuple[list[Any], Records]:
    condition, body = bodies
    constants = equation.params["cond_nconsts"], equation.params["body_nconsts"]
    of_condition, of_body = inputs[: constants[0]], inputs[constants[0] : sum(constants)]
    start = inputs[sum(constants) :]

    def step(state: Sequence[Any]) -> tuple[list[Any], Records]:
        # A condition has no results but one: what it records is computed here.
        before = condition.records(*of_condition, *state)
        new, records = body(*of_body, *state)
        return new, [*before, *records]

    def merged(carry: Any) -> Any:
        state, records = carry
        state, new = step(state)
        return state, _merged(merger, records, new)

    def unfinished(carry: Any) -> Any:
        return condition(*of_condition, *carry[0])[0][0]

    return lax.while_loop(unfinished, merged, (list(start), _zeros(lambda: step(start)[1])))


def _cond(
    equation: Any, bodies: Sequence[Body], inputs: Sequence[Any], merger: Merger
) -> tuple[list[Any], Records]:
    index, *operands = inputs

    def records_of(i: int) -> Records:
        return bodies[i](*operands)[1]

    nothing = [_zeros(functools.partial(records_of, i)) for i in range(len(bodies))]

    def branch(i: int, *operands: Any) -> tuple[list[Any], Records]:
        results, records = bodies[i](*operands)
        of_all = [*nothing[:i], records, *nothing[i + 1 :]]
        return results, [record for of_branch in of_all for record in of_branch]

    branches = [functools.partial(branch, i) for i in range(len(bodies))]
    results, records = lax.switch(index, branches, *operands)
    return results, records


def _remat(
    equation: Any, bodies: Sequence[Body], inputs: Sequence[Any], merger: Merger
) -> tuple[list[Any], Records]:
    (body,) = bodies
    p = parameters_of(equation)

    def function(*args: Any) -> Any:
        return body(*args)

    # The third version of remat has no prevent_cse until JAX 0.11.
    prevent_cse = p.get("prevent_cse", True)
    return jax.checkpoint(function, prevent_cse=prevent_cse, policy=p["policy"])(*inputs)


def _shard_map(
    equation: Any, bodies: Sequence[Body], inputs: Sequence[Any], merger: Merger
) -> tuple[list[Any], Records]:
    (body,) = bodies
    p = equation.params
    # The first is the name until JAX 0.9.
    manual = set(p.get("manual_axes", ()) or p["newly_manual_axes"])
    spread = {name for spec in p["in_specs"] for axes in spec for name in _names(axes)}

    def function(taps: Sequence[Any], *args: Any) -> Any:
        results, records = body.with_taps(taps)(*args)
        of_all = []
        for record in records:
            leaves = jax.tree.leaves(record)
            axes = spread
            if p["check_vma"]:
                axes = {name for leaf in leaves for name in varying_axes(jax.typeof(leaf))}
            axes &= manual
            of_all.append(merger.across(record, tuple(sorted(axes))) if axes else record)
        return results, of_all

    return jax.shard_map(
        function,
        mesh=p["mesh"],
        in_specs=(PartitionSpec(), *p["in_specs"]),
        out_specs=(list(p["out_specs"]), PartitionSpec()),
        check_vma=p["check_vma"],
        axis_names=manual,
    )(body.taps, *inputs)


def _names(axes: Any) -> tuple[str, ...]:
    if axes is None:
        return ()
    return tuple(axes) if isinstance(axes, tuple) else (axes,)


def _zeros(function: Callable[..., Any], *args: Any) -> Any:
    """Zeros of the types that the function returns for arguments of these types."""
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*args)

    def zeros(variable: Any) -> jax.Array:
        aval = variable.aval
        placed = any(axes is not None for axes in aval.sharding.spec)
        array = jnp.zeros(aval.shape, aval.dtype, device=aval.sharding if placed else None)
        return as_varying(array, varying_axes(aval))

    return jax.tree.unflatten(jax.tree.structure(shapes), map(zeros, traced.jaxpr.outvars))


# ------------------------------------------------------------------------------------------------
# The table.

_JIT = Call(("jaxpr",), _all, _jit, is_jit=True, transparent=True, label="jax.jit")
_PLAIN = Call(("call_jaxpr",), _all, _call, transparent=True)
_REMAT = Call(("jaxpr",), _all, _remat, transparent=True, label="jax.checkpoint")
_OWN = "a function with a derivative of its own"

_WITH_JVP = Call(("traced",), _all, None, derivative="custom_jvp", label=_OWN)
_WITH_VJP = Call(("traced",), _without_residuals, None, derivative="custom_vjp", label=_OWN)
_SCAN = Call(("jaxpr",), _all, _scan, steps="length", label="lax.scan")

#: By primitive, or by class of operation. Of several names for one thing, all but the first are
#: those of other versions, and of the flags that choose them.
CALLS: Mapping[str, Call] = {
    "jit": _JIT,
    "pjit": _JIT,
    "closed_call": _PLAIN,
    "core_call": _PLAIN,
    "eval_jaxpr": _PLAIN,
    "checkpoint": _REMAT,
    "remat": _REMAT,
    "remat2": _REMAT,
    "RematTraced": _REMAT,
    "scan": _SCAN,
    "Scan3": dataclasses.replace(_SCAN, rebuild=_scan_of_references),
    "while": Call(
        ("cond_jaxpr", "body_jaxpr"), _of_while, _while, reverses=False, label="lax.while_loop"
    ),
    "cond": Call(("branches",), _all_but_index, _cond, label="lax.cond"),
    "shard_map": Call(("jaxpr",), _all, _shard_map),
    "custom_jvp_call": Call(("call_jaxpr",), _all, None, derivative="custom_jvp", label=_OWN),
    "custom_vjp_call": Call(("call_jaxpr",), _all, None, derivative="custom_vjp", label=_OWN),
    "custom_vjp_call_jaxpr": Call(("fun_jaxpr",), _all, None, derivative="custom_vjp", label=_OWN),
    "CustomJVPTraced": _WITH_JVP,
    "CustomVJPTraced": _WITH_VJP,
    "custom_vmap_call": Call(("call",), _all, None, label="a custom_vmap"),
}
