"""Evaluating a jaxpr with something else at its activations: looking at them, or another function.

Equations without activations are bound as they are, so that custom derivatives, names and whatever
else they carry stay. Those with activations inside are built again with JAX's public functions.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from jaxact._core.elementwise import varying_axes
from jaxact._jaxprs import provenance
from jaxact._probe.graph import as_varying, is_literal, open_jaxpr, scan_operands
from jaxact._probe.sites import Found, Level, Nested


class Visitor(Protocol):
    """What happens at activations. They are known by their numbers, in order of execution.

    Attributes:
      cached: whether a visitor equal to this one does the same, so that compiled functions can be
        used again.
    """

    @property
    def cached(self) -> bool: ...

    def concerns(self, indices: range) -> bool:
        """Whether any of these activations is of interest."""

    def replaces(self, indices: range) -> bool:
        """Whether another function is called instead of any of these."""

    def replace(self, index: int, found: Found) -> Callable[..., jax.Array] | None:
        """The function to call instead, if any."""

    def replacement(self, index: int) -> Callable[..., Any] | None:
        """The same, as it was given."""

    def observe(self, index: int, found: Found, inputs: Sequence[Any]) -> Any:
        """What to record of an activation's arguments: a pytree of arrays, or None."""

    def merge(self, a: Any, b: Any) -> Any:
        """Two records of one activation as one; records of zeros add nothing."""

    def across(self, record: Any, axes: tuple[str, ...]) -> Any:
        """The record of all devices along these mesh axes."""


#: The records of the activations of a level, in order.
Records = list[Any]


def evaluate(
    level: Level,
    consts: Sequence[Any],
    args: Sequence[Any],
    visitor: Visitor,
    first: int = 0,
    *,
    only_records: bool = False,
) -> tuple[list[Any], Records]:
    """The results of a jaxpr, and the records of its activations, the first of number ``first``.

    With ``only_records`` nothing else is computed, and there are no results.
    """
    jaxpr = open_jaxpr(level.jaxpr)
    events: dict[int, tuple[Found | Nested, range]] = {}
    replaced: dict[int, Callable[..., jax.Array]] = {}
    without: list[Found] = []
    for event in level.events:
        events[event.position] = event, range(first, first := first + event.count)
        if isinstance(event, Found):
            function = visitor.replace(first - 1, event)
            if function is not None:
                replaced[event.position] = function
                without.append(event)
    skipped = _unneeded(jaxpr, without)
    if only_records:
        skipped = _not_for_records(jaxpr, level.events)
    last_read = _last_read(jaxpr, level.events)

    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    records: Records = []
    waiting: list[Any] = []
    for position, equation in enumerate(jaxpr.eqns):
        here, numbers = events.get(position, (None, range(0)))
        rebuilt = isinstance(here, Nested) and visitor.concerns(numbers)
        if not rebuilt and position not in skipped:
            waiting.append(equation)
        if isinstance(here, Nested) and not rebuilt:
            records.extend([None] * len(numbers))
        elif here is not None:
            _run(waiting, values, last_read, position)
            waiting = []
            if isinstance(here, Nested):
                inputs = [_read(values, v) for v in equation.invars]
                with _scope(equation):
                    results, nested = _REBUILD[here.kind](
                        equation, here.levels, inputs, visitor, numbers.start
                    )
                values.update(zip(equation.outvars, results, strict=True))
                records.extend(nested)
            else:
                inputs = [_read(values, v) for v in here.inputs]
                if here.order:
                    inputs[0] = lax.transpose(inputs[0], here.order)
                with _mesh_of(inputs[0]):
                    record = visitor.observe(numbers.start, here, inputs)
                if record is not None and here.output in values:
                    values[here.output], record = _in_order(values[here.output], record)
                records.append(record)
                if position in replaced:
                    with _scope(equation), _mesh_of(inputs[0]):
                        value = replaced[position](*inputs)
                    values[here.output] = as_varying(value, varying_axes(here.output.aval))
    _run(waiting, values, last_read, len(jaxpr.eqns))
    if only_records:
        return [], records
    return [_read(values, v) for v in jaxpr.outvars], records


@jax.custom_jvp
def _in_order(y: jax.Array, record: Any) -> tuple[jax.Array, Any]:
    """Both as they are; what is computed from y waits for the record.

    GPU compilers would put off all records to the end, and keep what they are of. On CPUs it is
    not needed, and would change how values are fused. Not inside ``shard_map``, whose types the
    branches would not keep in all versions of JAX.
    """
    if jax.typeof(y).sharding.mesh.manual_axes:
        return y, record
    return lax.platform_dependent(
        *(y, record),
        cpu=lambda *pair: pair,
        default=lambda *pair: lax.optimization_barrier(pair),
    )


_in_order.defjvp(lambda primals, tangents: (_in_order(*primals), tangents))


def consts_of(jaxpr: Any) -> Sequence[Any]:
    """The constants of a closed jaxpr."""
    return getattr(jaxpr, "consts", ())


def _read(values: dict[Any, Any], atom: Any) -> Any:
    if is_literal(atom):
        return atom.val
    return values[atom] if hasattr(atom, "aval") else atom


def _scope(equation: Any) -> Any:
    return jax.named_scope(provenance.name_stack([equation]))


def _mesh_of(x: Any) -> contextlib.AbstractContextManager[Any]:
    """The mesh that an array's type names: inside ``auto_axes`` another one than outside."""
    mesh = jax.typeof(x).sharding.mesh
    if mesh.axis_names and mesh != jax.sharding.get_abstract_mesh():
        return jax.sharding.use_abstract_mesh(mesh)
    return contextlib.nullcontext()


def _unneeded(jaxpr: Any, replaced: Sequence[Found]) -> set[int]:
    """The equations of replaced activations that nothing else reads."""
    skipped: set[int] = set()
    outputs = {found.output for found in replaced}
    candidates = {i for found in replaced for i in found.covered}
    needed = {v for v in jaxpr.outvars if not is_literal(v)}
    for position in reversed(range(len(jaxpr.eqns))):
        equation = jaxpr.eqns[position]
        if position in candidates and not any(
            v in needed and v not in outputs for v in equation.outvars
        ):
            skipped.add(position)
        else:
            needed.update(v for v in equation.invars if not is_literal(v))
    return skipped


def _not_for_records(jaxpr: Any, events: Sequence[Found | Nested]) -> set[int]:
    """The equations that no activation's argument depends on, side effects among them."""
    inside = {event.position for event in events if isinstance(event, Nested)}
    needed = {v for event in events if isinstance(event, Found) for v in event.inputs}
    skipped = set()
    for position in reversed(range(len(jaxpr.eqns))):
        equation = jaxpr.eqns[position]
        if position in inside or any(v in needed for v in equation.outvars):
            needed.update(v for v in equation.invars if not is_literal(v))
        else:
            skipped.add(position)
    return skipped


def _last_read(jaxpr: Any, events: Sequence[Found | Nested]) -> dict[Any, int]:
    """The position of the equation, or of the activation, that reads a variable last."""
    last: dict[Any, int] = {}
    for position, equation in enumerate(jaxpr.eqns):
        last.update((v, position) for v in equation.invars if not is_literal(v))
    for event in events:
        if isinstance(event, Found):
            for v in event.inputs:
                last[v] = max(last.get(v, -1), event.position)
    last.update((v, len(jaxpr.eqns)) for v in jaxpr.outvars if not is_literal(v))
    return last


def _run(
    sequence: Sequence[Any], values: dict[Any, Any], last_read: dict[Any, int], position: int
) -> None:
    """Bind equations as they are, and forget what is read before ``position`` only."""
    if sequence:
        made = [v for e in sequence for v in e.outvars if last_read.get(v, -1) >= position]
        values.update(zip(made, _bind(sequence, made, values), strict=True))
    for v in [v for v in values if last_read.get(v, -1) < position]:
        del values[v]


def _bind(sequence: Sequence[Any], outputs: Sequence[Any], values: dict[Any, Any]) -> list[Any]:
    from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

    made = {v for equation in sequence for v in equation.outvars}
    read = (v for e in sequence for v in e.invars if not is_literal(v) and v not in made)
    inputs = list(dict.fromkeys(read))
    jaxpr = provenance.jaxpr_of(sequence, inputs, outputs)
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, ()))(*[values[v] for v in inputs])


# ------------------------------------------------------------------------------------------------
# Equations with activations inside. Each: (equation, levels, inputs, visitor, first number) to the
# equation's results and the records.


def _jit(
    equation: Any, levels: Any, inputs: Sequence[Any], visitor: Visitor, first: int
) -> tuple[list[Any], Records]:
    (level,) = levels
    p = equation.params
    ins, outs = p.get("in_shardings", ()), p.get("out_shardings", ())
    options = {
        "inline": p.get("inline", False),
        "compiler_options": p.get("compiler_options_kvs", ()),
    }
    if any(isinstance(s, jax.sharding.Sharding) for s in (*ins, *outs)):
        options["in_shardings"] = (None, *map(_sharding, ins))
        options["out_shardings"] = (tuple(map(_sharding, outs)), None)
    jitted: Callable[..., Any] = _jitted_again if visitor.cached else _jitted
    function = jitted(p.get("name", "jit"), tuple(options.items()), level, visitor, first)
    results, records = function(consts_of(level.jaxpr), *inputs)
    return list(results), records


def _jitted(
    name: str, options: Any, level: Level, visitor: Visitor, first: int
) -> Callable[..., Any]:
    def function(consts: Sequence[Any], *args: Any) -> Any:
        results, records = evaluate(level, consts, args, visitor, first)
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
    equation: Any, levels: Any, inputs: Sequence[Any], visitor: Visitor, first: int
) -> tuple[list[Any], Records]:
    (level,) = levels
    return evaluate(level, consts_of(level.jaxpr), inputs, visitor, first)


def _scan(
    equation: Any, levels: Any, inputs: Sequence[Any], visitor: Visitor, first: int
) -> tuple[list[Any], Records]:
    (level,) = levels
    p = equation.params
    consts, carry, xs = scan_operands(p, inputs)
    carried = len(carry)

    def body(carry: Any, xs: Any) -> Any:
        results, records = evaluate(
            level, consts_of(level.jaxpr), [*consts, *carry, *xs], visitor, first
        )
        return results[:carried], (results[carried:], records)

    carry, (ys, records) = lax.scan(
        body,
        carry,
        xs,
        length=p["length"],
        reverse=p["reverse"],
        unroll=p["unroll"],
    )
    if p["reverse"]:  # in order of execution
        records = jax.tree.map(lambda a: jnp.flip(a, 0), records)
    return [*carry, *ys], records


def _while(
    equation: Any, levels: Any, inputs: Sequence[Any], visitor: Visitor, first: int
) -> tuple[list[Any], Records]:
    conditional, level = levels
    p = equation.params
    split = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    cond_consts, body_consts = inputs[: split[0]], inputs[split[0] : split[1]]
    start = inputs[split[1] :]

    def condition(state: Sequence[Any], only_records: bool) -> tuple[list[Any], Records]:
        return evaluate(
            conditional,
            consts_of(conditional.jaxpr),
            [*cond_consts, *state],
            visitor,
            first,
            only_records=only_records,
        )

    def step(state: Sequence[Any]) -> tuple[list[Any], Records]:
        # A condition has no results but one: what it records is computed here.
        _, before = condition(state, only_records=True)
        new, records = evaluate(
            level,
            consts_of(level.jaxpr),
            [*body_consts, *state],
            visitor,
            first + conditional.count,
        )
        return new, [*before, *records]

    def body(carry: Any) -> Any:
        state, records = carry
        state, new = step(state)
        merged = [
            None if n is None else visitor.merge(r, n) for r, n in zip(records, new, strict=True)
        ]
        return state, merged

    def unfinished(carry: Any) -> Any:
        return condition(carry[0], only_records=False)[0][0]

    return lax.while_loop(unfinished, body, (list(start), _zeros(lambda: step(start)[1])))


def _cond(
    equation: Any, levels: Any, inputs: Sequence[Any], visitor: Visitor, first: int
) -> tuple[list[Any], Records]:
    index, *operands = inputs
    starts = [first + sum(level.count for level in levels[:i]) for i in range(len(levels))]

    def run(i: int, operands: Sequence[Any]) -> tuple[list[Any], Records]:
        level = levels[i]
        return evaluate(level, consts_of(level.jaxpr), operands, visitor, starts[i])

    def records_of(i: int) -> Records:
        return run(i, operands)[1]

    nothing = [_zeros(functools.partial(records_of, i)) for i in range(len(levels))]

    def branch(i: int, *operands: Any) -> tuple[list[Any], Records]:
        results, records = run(i, operands)
        of_all = [*nothing[:i], records, *nothing[i + 1 :]]
        return results, [record for of_branch in of_all for record in of_branch]

    branches = [functools.partial(branch, i) for i in range(len(levels))]
    results, records = lax.switch(index, branches, *operands)
    return results, records


def _remat(
    equation: Any, levels: Any, inputs: Sequence[Any], visitor: Visitor, first: int
) -> tuple[list[Any], Records]:
    (level,) = levels
    p = equation.params

    def function(*args: Any) -> Any:
        return evaluate(level, consts_of(level.jaxpr), args, visitor, first)

    return jax.checkpoint(function, prevent_cse=p["prevent_cse"], policy=p["policy"])(*inputs)


def _shard_map(
    equation: Any, levels: Any, inputs: Sequence[Any], visitor: Visitor, first: int
) -> tuple[list[Any], Records]:
    (level,) = levels
    p = equation.params
    # The first is the name until JAX 0.9.
    manual = set(p.get("manual_axes", ()) or p["newly_manual_axes"])
    spread = {name for spec in p["in_specs"] for axes in spec for name in _names(axes)}

    def function(*args: Any) -> Any:
        results, records = evaluate(level, consts_of(level.jaxpr), args, visitor, first)
        of_all = []
        for record in records:
            leaves = jax.tree.leaves(record)
            axes = spread
            if p["check_vma"]:
                axes = {name for leaf in leaves for name in varying_axes(jax.typeof(leaf))}
            axes &= manual
            of_all.append(visitor.across(record, tuple(sorted(axes))) if axes else record)
        return results, of_all

    return jax.shard_map(
        function,
        mesh=p["mesh"],
        in_specs=tuple(p["in_specs"]),
        out_specs=(list(p["out_specs"]), PartitionSpec()),
        check_vma=p["check_vma"],
        axis_names=manual,
    )(*inputs)


def _custom(
    equation: Any, levels: Any, inputs: Sequence[Any], visitor: Visitor, first: int
) -> tuple[list[Any], Records]:
    """The call as it is, with its derivative; its activations are looked at in a copy."""
    (level,) = levels
    values = {v: x for v, x in zip(equation.invars, inputs, strict=True) if not is_literal(v)}
    results = _bind([equation], equation.outvars, values)
    copies = [lax.stop_gradient(x) for x in inputs]
    _, records = evaluate(level, consts_of(level.jaxpr), copies, visitor, first, only_records=True)
    return results, records


def _block(
    equation: Any, levels: Any, inputs: Sequence[Any], visitor: Visitor, first: int
) -> tuple[list[Any], Records]:
    """One of jaxact's feed-forward blocks: made again where its activation is replaced."""
    from jaxact import feedforward

    (level,) = levels
    if not visitor.replaces(range(first, first + level.count)):
        return _custom(equation, levels, inputs, visitor, first)
    jaxpr = feedforward.hidden_part(open_jaxpr(level.jaxpr))
    count = 2 if "jaxact.gated_mlp" in str(equation.source_info.name_stack) else 1
    part = Level(jaxpr, level.events)

    def hidden(*pre: jax.Array) -> jax.Array:
        arguments = [*pre, *inputs[count:]]
        return evaluate(part, consts_of(level.jaxpr), arguments, visitor, first)[0][0]

    replacement = visitor.replacement(first)
    if count == 2 and replacement and _is_gate(jaxpr, level.events):
        hidden = feedforward.gated_by(replacement)  # Some have one rounding less.
    y = feedforward._project(hidden, tuple(inputs[:count]), inputs[count])
    return [y], [None] * level.count


def _is_gate(jaxpr: Any, events: Sequence[Found | Nested]) -> bool:
    """Whether all that is computed is the product of one activation and the second argument."""
    found, last = events[0], jaxpr.eqns[-1]
    return (
        isinstance(found, Found)
        and len(jaxpr.eqns) == len(found.covered) + 1
        and last.primitive.name == "mul"
        and found.inputs[0] is jaxpr.invars[0]
        and list(last.invars) == [found.output, jaxpr.invars[1]]
    )


_REBUILD: dict[str, Callable[..., tuple[list[Any], Records]]] = {
    "jit": _jit,
    "pjit": _jit,
    "closed_call": _call,
    "eval_jaxpr": _call,
    "core_call": _call,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "checkpoint": _remat,
    "remat": _remat,
    "remat2": _remat,
    "shard_map": _shard_map,
    "custom": _custom,
    "block": _block,
}


def _names(axes: Any) -> tuple[str, ...]:
    if axes is None:
        return ()
    return tuple(axes) if isinstance(axes, tuple) else (axes,)


def _zeros(function: Callable[[], Any]) -> Any:
    """Zeros of the types that the function returns."""
    traced, shapes = jax.make_jaxpr(function, return_shape=True)()

    def zeros(variable: Any) -> jax.Array:
        aval = variable.aval
        placed = any(axes is not None for axes in aval.sharding.spec)
        array = jnp.zeros(aval.shape, aval.dtype, device=aval.sharding if placed else None)
        return as_varying(array, varying_axes(aval))

    return jax.tree.unflatten(jax.tree.structure(shapes), map(zeros, traced.jaxpr.outvars))
