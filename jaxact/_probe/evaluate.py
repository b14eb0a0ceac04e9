"""Evaluating a jaxpr with something else at its activations: looking at them, or another function.

Equations without activations are bound as they are, so that custom derivatives, names and whatever
else they carry stay. Those with activations inside are built again with JAX's public functions.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol, final

import jax
from jax import lax

from jaxact import feedforward
from jaxact._core.elementwise import varying_axes
from jaxact._jaxprs import provenance
from jaxact._jaxprs.calls import Records
from jaxact._jaxprs.structure import as_varying, bind, consts_of, is_literal, open_jaxpr
from jaxact._probe.sites import Found, Level, Nested
from jaxact._report import statistics


class Visitor:
    """What happens at activations: nothing, where a subclass does not say otherwise.

    Activations are known by their numbers, in order of execution.
    """

    def replacement(self, index: int) -> "Replacement | None":
        """What is called instead of an activation, if anything."""
        return None

    def observe(
        self, index: int, found: Found, inputs: Sequence[Any], output: Any
    ) -> statistics.Statistics | None:
        """What to record of an activation's arguments and result, if anything.

        Where the activation is replaced there is no result: None.
        """
        return None

    def tap(self, index: int, output: Any, tap: Any) -> Any:
        """An activation's result, which is read through the activation's tap."""
        return output

    def concerns(self, indices: range) -> bool:
        """Whether anything happens at one of these activations."""
        return self.replaces(indices)

    @final
    def replaces(self, indices: range) -> bool:
        """Whether something else is called instead of one of these activations."""
        return any(self.replacement(index) for index in indices)


class Replacement(Protocol):
    """What is called instead of an activation.

    Attributes:
      function: the function as it was given.
    """

    @property
    def function(self) -> Callable[..., Any]: ...

    def __call__(self, found: Found, *inputs: Any) -> jax.Array:
        """The result for the arguments of that activation, which has the type of its own."""


def evaluate(
    level: Level,
    consts: Sequence[Any],
    args: Sequence[Any],
    visitor: Visitor,
    first: int = 0,
    *,
    taps: Sequence[Any] = (),
    only_records: bool = False,
) -> tuple[list[Any], Records]:
    """The results of a jaxpr, and the records of its activations, the first of number ``first``.

    Args:
      level: the jaxpr.
      consts: its constants.
      args: its arguments.
      visitor: what happens at the activations.
      first: the number of the first of them.
      taps: for each activation, what `Visitor.tap` gets, or None; the steps of scans are in front.
        Empty for none at all.
      only_records: whether to compute nothing else; there are no results then.
    """
    taps = taps or [None] * level.count
    start = first
    jaxpr = open_jaxpr(level.jaxpr)
    events: dict[int, tuple[Found | Nested, range]] = {}
    replaced: dict[int, Replacement] = {}
    without: list[Found] = []
    for event in level.events:
        events[event.position] = event, range(first, first := first + event.count)
        if isinstance(event, Found):
            replacement = visitor.replacement(first - 1)
            if replacement is not None:
                replaced[event.position] = replacement
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
                    inside = taps[numbers.start - start : numbers.stop - start]
                    results, nested = _rebuild(
                        equation, here, inputs, visitor, numbers.start, inside
                    )
                values.update(zip(equation.outvars, results, strict=True))
                records.extend(nested)
            else:
                inputs = [_read(values, v) for v in here.inputs]
                if here.order:
                    inputs[0] = lax.transpose(inputs[0], here.order)
                with _mesh_of(inputs[0]):
                    output = values.get(here.output)
                    record = visitor.observe(numbers.start, here, inputs, output)
                if record is not None and here.output in values:
                    values[here.output], record = in_order(values[here.output], record)
                records.append(record)
                tap = taps[numbers.start - start]
                if tap is not None:
                    with _mesh_of(values[here.output]):
                        values[here.output] = visitor.tap(numbers.start, values[here.output], tap)
                if position in replaced:
                    with _scope(equation), _mesh_of(inputs[0]):
                        value = replaced[position](here, *inputs)
                    values[here.output] = as_varying(value, varying_axes(here.output.aval))
    _run(waiting, values, last_read, len(jaxpr.eqns))
    if only_records:
        return [], records
    return [_read(values, v) for v in jaxpr.outvars], records


@jax.custom_jvp
def in_order(y: jax.Array, record: Any) -> tuple[jax.Array, Any]:
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


in_order.defjvp(lambda primals, tangents: (in_order(*primals), tangents))


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
    """The equations that no activation depends on, side effects among them."""
    inside = {event.position for event in events if isinstance(event, Nested)}
    found = [event for event in events if isinstance(event, Found)]
    needed = {v for event in found for v in (*event.inputs, event.output)}
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
            for v in (*event.inputs, event.output):
                last[v] = max(last.get(v, -1), event.position)
    last.update((v, len(jaxpr.eqns)) for v in jaxpr.outvars if not is_literal(v))
    return last


def _run(
    sequence: Sequence[Any], values: dict[Any, Any], last_read: dict[Any, int], position: int
) -> None:
    """Bind equations as they are, and forget what is read before ``position`` only."""
    if sequence:
        made = [v for e in sequence for v in e.outvars if last_read.get(v, -1) >= position]
        values.update(zip(made, bind(sequence, made, values), strict=True))
    for v in [v for v in values if last_read.get(v, -1) < position]:
        del values[v]


# ------------------------------------------------------------------------------------------------
# Equations with activations inside.


@dataclasses.dataclass(frozen=True)
class _Visited:
    """A nested jaxpr with a visitor at its activations, the first of number ``first``."""

    level: Level
    visitor: Visitor
    first: int
    taps: Sequence[Any] = dataclasses.field(default=(), compare=False)

    @property
    def consts(self) -> Sequence[Any]:
        return consts_of(self.level.jaxpr)

    @property
    def cached(self) -> bool:
        # What replacements close over may belong to a trace.
        return not self.visitor.replaces(range(self.first, self.first + self.level.count))

    def __call__(self, *args: Any) -> tuple[list[Any], Records]:
        return self.with_consts(self.consts, *args)

    def with_consts(self, consts: Sequence[Any], *args: Any) -> tuple[list[Any], Records]:
        return evaluate(self.level, consts, args, self.visitor, self.first, taps=self.taps)

    def with_taps(self, taps: Sequence[Any]) -> "_Visited":
        return dataclasses.replace(self, taps=taps)

    def records(self, *args: Any) -> Records:
        return evaluate(self.level, self.consts, args, self.visitor, self.first, only_records=True)[
            1
        ]


def _rebuild(
    equation: Any,
    nested: Nested,
    inputs: Sequence[Any],
    visitor: Visitor,
    first: int,
    taps: Sequence[Any],
) -> tuple[list[Any], Records]:
    """What an equation returns with a visitor at the activations inside, and their records."""
    bodies = []
    for level in nested.levels:
        bodies.append(_Visited(level, visitor, first, taps[: level.count]))
        taps = taps[level.count :]
        first += level.count
    if nested.call.rebuild is not None:
        return nested.call.rebuild(equation, bodies, inputs, statistics)
    arguments = [inputs[i] for i in nested.call.nested(equation)[0].operands]
    if nested.is_block and visitor.replaces(range(bodies[0].first, first)):
        return _other_block(equation, bodies[0], arguments)
    # The call as it is, with its derivative; its activations are looked at in a copy.
    values = {v: x for v, x in zip(equation.invars, inputs, strict=True) if not is_literal(v)}
    (body,) = bodies
    copies = [lax.stop_gradient(x) for x in arguments]
    return bind([equation], equation.outvars, values), body.records(*copies)


def _other_block(equation: Any, body: _Visited, inputs: Sequence[Any]) -> tuple[list[Any], Records]:
    """One of jaxact's feed-forward blocks, made again with another activation."""
    level = body.level
    jaxpr = feedforward.hidden_part(open_jaxpr(level.jaxpr))
    is_gated, count, save = feedforward.form_of(str(equation.source_info.name_stack))
    part = dataclasses.replace(body, level=Level(jaxpr, level.events))

    def hidden(*pre: jax.Array) -> jax.Array:
        return part.with_consts(body.consts, *pre, *inputs[count:])[0][0]

    replacement = body.visitor.replacement(body.first)
    if is_gated and save == "pre" and replacement and _is_gate(jaxpr, level.events):
        hidden = feedforward.gated_by(replacement.function)  # Some have one rounding less.
    y = feedforward.project(hidden, tuple(inputs[:count]), inputs[count], save)
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
