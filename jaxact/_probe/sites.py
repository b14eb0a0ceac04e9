"""The activations in a jaxpr, and in the jaxprs nested in it."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxact._core.elementwise import Elementwise, marked
from jaxact._jaxprs import provenance
from jaxact._jaxprs.calls import Call, call_of, unknown
from jaxact._jaxprs.structure import (
    ancestors,
    as_function,
    is_literal,
    jaxpr_of,
    name_of,
    open_jaxpr,
    parameters_of,
)
from jaxact._probe import forms, patterns
from jaxact._probe.graph import Graph, Match, Node, Order, Scalar, match, numbers_of_loop
from jaxact._report.site import Place
from jaxact.feedforward import BLOCK
from jaxact.registry import ACTIVATIONS


@dataclasses.dataclass(eq=False)
class Found:
    """An activation in a jaxpr.

    Attributes:
      function: the activation.
      position: of the equation that has the activation's result.
      inputs: its arguments, x first: variables of the level, or numbers.
      output: the variable of its result.
      covered: the positions of all equations that belong to it.
      equation: the equation that says where the activation comes from.
      orders: for each of the inputs, the axes of the result as axes of that, or None where they are
        the same: ``vmap`` may move them. Empty where none is moved.
      defined_by: what defines its derivative, if the function that is probed does: "custom_jvp".
      own: whether it is jaxact's own function already.
    """

    function: patterns.Function
    position: int
    inputs: tuple[Any, ...]
    output: Any
    covered: tuple[int, ...]
    equation: Any
    orders: tuple[Order, ...] = ()
    defined_by: str = ""
    own: bool = False

    count = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the pre-activation, its axes as those of the result."""
        shape = self.inputs[0].aval.shape
        order = self.orders[0] if self.orders else None
        return tuple(shape[i] for i in order) if order else tuple(shape)

    @property
    def dtype(self) -> Any:
        """The dtype of the pre-activation."""
        return self.inputs[0].aval.dtype


@dataclasses.dataclass(eq=False)
class Nested:
    """An equation with activations inside.

    Attributes:
      position: the equation's.
      call: how it calls its jaxprs.
      levels: these, in order of execution.
      is_block: whether it is one of jaxact's feed-forward blocks.
    """

    position: int
    call: Call
    levels: tuple["Level", ...]
    is_block: bool = False

    @property
    def count(self) -> int:
        """How many activations there are inside."""
        return sum(level.count for level in self.levels)


@dataclasses.dataclass(eq=False)
class Level:
    """A jaxpr with what was found in it.

    Attributes:
      jaxpr: the jaxpr, as it is in the equation (open or closed).
      events: what was found, in order of execution.
      unknown: the primitives, here and inside, that hold jaxprs in a way that is not known: what is
        in those was not looked for.
    """

    jaxpr: Any
    events: list[Found | Nested]
    unknown: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many activations there are, those inside included."""
        return sum(event.count for event in self.events)


def find(
    jaxpr: Any, differentiated: bool = False, numbers: Mapping[Any, Scalar] | None = None
) -> Level:
    """The activations of a jaxpr.

    Args:
      jaxpr: the jaxpr.
      differentiated: whether it belongs to a function that the program differentiates.
      numbers: what is known of its arguments.
    """
    opened = open_jaxpr(jaxpr)
    graph = Graph(opened, numbers)
    consumed: set[int] = set()
    events: list[Found | Nested] = []
    not_entered: list[str] = []
    # The last first: what an activation is made of comes before its result.
    for position in reversed(range(len(opened.eqns))):
        equation = opened.eqns[position]
        if position in consumed or is_backward(equation):
            continue
        within = differentiated or takes_derivative(equation)
        found = None if within else _without_rules(equation, position)
        found = found or _activation(opened, graph, position, within)
        if found is None and within:
            found = _left_of_marked(equation, position)
        if found is not None:
            consumed.update(found.covered)
            events.append(found)
            continue
        if marked(str(equation.source_info.name_stack)) is not None:
            continue  # A part of one of jaxact's activations: of its value, or of its tangent.
        call = call_of(equation)
        if call is None:
            if unknown(equation):
                not_entered.append(name_of(equation))
            continue
        if call.derivative and _of_numbers(equation, graph):
            continue
        levels = _levels(equation, call, within, graph)
        not_entered.extend(name for level in levels for name in level.unknown)
        if any(level.count for level in levels):
            events.append(_event(equation, position, call, levels))
    return Level(jaxpr, events[::-1], tuple(not_entered))


@functools.lru_cache(maxsize=256)
def _find_again(jaxpr: Any, differentiated: bool) -> Level:
    return find(jaxpr, differentiated)


def takes_derivative(equation: Any) -> bool:
    """Whether it belongs to a function that the program differentiates."""
    return "jvp(" in str(equation.source_info.name_stack)


def blind_spots(level: Level, around: str = "") -> Iterator[str]:
    """For each activation, in what the gradient of its result cannot be seen; "" where it can.

    Args:
      level: the jaxpr.
      around: what is around it.
    """
    for event in level.events:
        equation = open_jaxpr(level.jaxpr).eqns[event.position]
        what = around
        if not what and takes_derivative(equation):
            what = "a derivative that the function takes itself"
        if isinstance(event, Found):
            yield what
            continue
        if not what and event.is_block:
            what = "a feed-forward block of jaxact"
        elif not what and (event.call.rebuild is None or not event.call.reverses):
            what = event.call.written(equation)
        for nested in event.levels:
            yield from blind_spots(nested, what)


def results(level: Level) -> Iterator[Any]:
    """The types of the activations' results."""
    for event in level.events:
        if isinstance(event, Found):
            yield event.output.aval
        else:
            for nested in event.levels:
                yield from results(nested)


def is_backward(equation: Any) -> bool:
    """Whether it belongs to a backward pass (what that computes again included)."""
    return "transpose(" in str(equation.source_info.name_stack) or equation.params.get(
        "differentiated", False
    )


def _activation(jaxpr: Any, graph: Graph, position: int, differentiated: bool) -> Found | None:
    for variable in jaxpr.eqns[position].outvars:
        root = graph.references.get(variable)
        if not isinstance(root, Node) or root.variable is not variable:
            continue
        if not jnp.issubdtype(getattr(root.aval, "dtype", jnp.int32), jnp.floating):
            continue
        for function, inputs, orders, result in _candidates(root, graph, differentiated):
            covered = _covered(graph, result)
            if covered is None and differentiated:  # A jit with the tangent's operations too.
                covered = (position,)
            values = [_value(reference, root.aval.dtype) for reference in inputs]
            if covered is None or None in values:
                continue
            x, *parameters = values
            if is_literal(x) or isinstance(x, float) or x.aval.dtype != root.aval.dtype:
                continue
            # A "slope" that is computed from x is none.
            variables = [p for p in parameters if hasattr(p, "aval")]
            if function.arrays == 1 and x in ancestors(jaxpr, variables):
                continue
            last, output = _behind_copy(jaxpr, position, variable)
            return Found(
                function=function,
                position=last,
                inputs=tuple(values),
                output=output,
                covered=tuple(sorted({*covered, last})),
                equation=root.equation,
                orders=orders,
                own=root.operation == "jaxact" or function.mark == "crelu",
            )
    return None


def _behind_copy(jaxpr: Any, position: int, variable: Any) -> tuple[int, Any]:
    """The position and the variable of a result; of its copy, where nothing else is read.

    ``jax.nn.gelu(approximate=False)`` returns a copy. Behind another function it would be kept
    beside what that keeps.
    """
    after = jaxpr.eqns[position + 1 :]
    if not after or name_of(after[0]) not in ("copy", "copy_p") or variable in jaxpr.outvars:
        return position, variable
    if after[0].invars != [variable] or any(variable in e.invars for e in after[1:]):
        return position, variable
    return position + 1, after[0].outvars[0]


def _candidates(
    root: Node, graph: Graph, differentiated: bool
) -> Iterator[tuple[patterns.Function, list[Any], tuple[Order, ...], Match]]:
    """Each activation that ``root`` may be the result of, with its arguments and their axes."""
    if root.operation == "jaxact":
        match_ = Match(root.aval.dtype, {}, [root])
        yield patterns.function(root.key), list(root.inputs), (), match_
        return
    last = root
    while last.operation == "transpose" and _is_inside(last.inputs[0]):  # vmap's, in a jit
        last = last.inputs[0]
    possible = patterns.patterns(root.aval.dtype, graph.operations, differentiated)
    for pattern in possible.get(last.operation, ()):
        result = match(pattern.root, pattern.x, root)
        if result is None:
            continue
        parameters = [result.inputs[p] for p in pattern.parameters]
        numbers = [float(p.value) if isinstance(p, Scalar) else None for p in parameters]
        if pattern.known.holds and not pattern.known.holds(*numbers):
            continue
        fixed = [Scalar(value) for value in pattern.known.fixed]
        orders = (result.orders[p] for p in (pattern.x, *pattern.parameters))
        yield (
            patterns.function(pattern.known.mark),
            [result.inputs[pattern.x], *parameters, *fixed],
            (*orders, *[None] * len(fixed)),
            result,
        )


def _is_inside(reference: Any) -> bool:
    """Whether it is an operation inside ``jit``, out of reach at this level."""
    return isinstance(reference, Node) and reference.variable is None


def _covered(graph: Graph, result: Match) -> tuple[int, ...] | None:
    """The equations of a match, unless one of them (a ``jit``) has other operations too."""
    nodes = set(map(id, result.nodes))
    positions = sorted({node.position for node in result.nodes})
    for position in positions:
        if any(id(node) not in nodes for node in graph.nodes[position]):
            return None
    return tuple(positions)


def _value(reference: Any, dtype: Any) -> Any:
    """A variable of the level or a number; None for what is out of reach inside ``jit``."""
    if isinstance(reference, Scalar):
        return forms.number(reference.value, dtype)
    return reference.variable if isinstance(reference, Node) else reference


#: Functions with parameters of which JAX's derivative of the value's formula is the slope.
_DIFFERENTIABLE = (
    *("leaky_relu", "prelu", "hard_tanh", "silu", "squareplus", "leaky_relu_squared", "snake"),
)


def _declaration(equation: Any) -> tuple[Elementwise, Any] | None:
    """Which of jaxact's activations a jitted call is, by the marks in it, and its jaxpr."""
    name = equation.params.get("name")
    call = call_of(equation)
    # Of a call whose result is a constant, JAX 0.12 leaves one without results.
    if call is None or not call.is_jit or name not in ACTIVATIONS or not equation.outvars:
        return None
    jaxpr = open_jaxpr(call.nested(equation)[0].jaxpr)
    marks = {marked(str(inner.source_info.name_stack)) for inner in jaxpr.eqns}
    declared = marks.pop() if len(marks) == 1 else None
    if declared is None or declared.name != name:
        return None
    return declared, jaxpr


def _without_rules(equation: Any, position: int) -> Found | None:
    """One of jaxact's activations in mode "plain": operations, and nothing that defines a slope."""
    declaration = _declaration(equation)
    if declaration is None:
        return None
    declared, jaxpr = declaration
    if any(call.derivative for call in filter(None, map(call_of, jaxpr.eqns))):
        return None
    dtype = equation.outvars[0].aval.dtype
    inputs = [forms.number(v.val, dtype) if is_literal(v) else v for v in equation.invars]
    count = len(declared.arrays) + len(declared.parameters)
    if len(inputs) != count or isinstance(inputs[0], float):
        return None
    function = patterns.function(declared.mark)
    output = equation.outvars[0]
    return Found(function, position, tuple(inputs), output, (position,), equation, own=True)


def _left_of_marked(equation: Any, position: int) -> Found | None:
    """One of jaxact's activations of which a derivative has been taken.

    In a loop, the operations of its value may be all that is left of the call.
    """
    declaration = _declaration(equation)
    if declaration is None:
        return None
    declared, jaxpr = declaration
    name = declared.name
    output = jaxpr.outvars[0]
    needed = ancestors(jaxpr, [output])
    arrays = [v for v in jaxpr.invars if v in needed and v.aval.shape == output.aval.shape]
    # A tangent depends on what it is multiplied by, too.
    if len(arrays) != len(declared.arrays):
        return None
    inputs = [equation.invars[jaxpr.invars.index(v)] for v in arrays]
    if any(map(is_literal, inputs)):
        return None
    function = patterns.function(declared.mark)
    if declared.has_parameters:
        if name not in _DIFFERENTIABLE:
            raise ValueError(
                f"The function differentiates a loop with {name} in it itself, of which JAX "
                f"{jax.__version__} leaves no parameters. Probe or swap inside of what is "
                "differentiated, or use JAX 0.12."
            )
        inputs += [v for v in equation.invars if v not in inputs and not is_literal(v)]
        function = _by_derivative(name, equation, inputs[0], inputs[1:])
    output = equation.outvars[0]
    return Found(function, position, tuple(inputs), output, (position,), equation, own=True)


def _of_numbers(equation: Any, graph: Graph) -> bool:
    """Whether all operands are numbers, so that the result is a constant."""
    return all(isinstance(graph.of(v, graph.references), Scalar) for v in equation.invars)


def _levels(equation: Any, call: Call, differentiated: bool, graph: Graph) -> tuple[Level, ...]:
    """The nested jaxprs of an equation, with what is in them."""
    # The jaxpr of a jitted function is the same object in all its calls.
    look: Callable[..., Level] = _find_again if call.is_jit else find
    if call.steps and differentiated:
        look = functools.partial(find, numbers=numbers_of_loop(graph, equation))
    return tuple(look(nested.jaxpr, differentiated) for nested in call.nested(equation))


def _event(equation: Any, position: int, call: Call, levels: tuple[Level, ...]) -> Found | Nested:
    """An equation with activations inside: one of them itself, or what they are nested in."""
    if call.derivative:
        if BLOCK.search(str(equation.source_info.name_stack)):
            return Nested(position, call, levels, is_block=True)
        whole = _with_own_derivative(equation, position, call, levels[0])
        if whole is not None:
            return whole
    return Nested(position, call, levels)


def _with_own_derivative(equation: Any, position: int, call: Call, level: Level) -> Found | None:
    """An activation that is all that a function with a derivative of its own computes."""
    jaxpr = open_jaxpr(level.jaxpr)
    found = level.events[0]
    if len(level.events) != 1 or not isinstance(found, Found):
        return None
    x = found.inputs[0]
    if x not in jaxpr.invars or jaxpr.outvars != [found.output] or found.function.arrays > 1:
        return None
    operand = equation.invars[call.nested(equation)[0].operands[jaxpr.invars.index(x)]]
    if is_literal(operand):
        return None
    others = [v for v in equation.invars if not is_literal(v) and v is not operand]
    return Found(
        function=_by_derivative(found.function.name, equation, operand, others),
        position=position,
        inputs=(operand, *others),
        output=equation.outvars[0],
        covered=(position,),
        equation=equation,
        defined_by=call.derivative,
    )


def _by_derivative(name: str, equation: Any, x: Any, others: Sequence[Any]) -> patterns.Function:
    """An activation whose slope is what JAX says that the derivative of an equation is."""

    def slope(*inputs: jax.Array) -> jax.Array:
        call = as_function(jaxpr_of([equation], [x, *others], equation.outvars[:1]))
        (y,), pullback = jax.vjp(lambda x: call(x, *inputs[1:]), inputs[0])
        return pullback([jnp.ones_like(y)])[0]

    return patterns.Function(name, slope, False, 1)


def places(level: Level, path_of: Callable[[str], str]) -> list[Place]:
    """Where the activations of a jaxpr are, in order of execution; the units along the last axis.

    Args:
      level: the jaxpr.
      path_of: from an activation's name stack to its path; "" where the line of code has to do.
    """
    loops = iter(range(10**9))
    found = list(_walk(level, (), (), "", loops))
    made = [_place(i, *event, path_of) for i, event in enumerate(found)]
    # Gates of a cell have one path, and one line of the user's code: the library's tells them
    # apart.
    alike = Counter((place.path, place.form, place.source) for place in made)
    return [
        dataclasses.replace(place, source=_with_line_of_library(place.source, *event[:2]))
        if alike[place.path, place.form, place.source] > 1
        else place
        for place, event in zip(made, found, strict=True)
    ]


def _walk(
    level: Level,
    around: tuple[Any, ...],
    loops: tuple[tuple[int, int], ...],
    fixed: str,
    numbers: Iterator[int],
) -> Iterator[tuple[Found, tuple[Any, ...], tuple[tuple[int, int], ...], str]]:
    """Each activation, with what a place says of it.

    Yields:
      The activation; the equations around it, the outermost first, and its own; for each scan
      around it, its number and its length; why it cannot be replaced, or "".
    """
    for event in level.events:
        equation = open_jaxpr(level.jaxpr).eqns[event.position]
        why = fixed or _fixed(event, equation)
        if isinstance(event, Found):
            own = () if event.equation is equation else (event.equation,)
            yield event, (*around, equation, *own), loops, why
            continue
        inner = loops
        if event.call.steps:
            inner = (*loops, (next(numbers), parameters_of(equation)[event.call.steps]))
        for nested in event.levels:
            yield from _walk(nested, (*around, equation), inner, why, numbers)


def _fixed(event: Found | Nested, equation: Any) -> str:
    """Why an activation that an equation has, or has inside, cannot be replaced, or ""."""
    if takes_derivative(equation):
        return "the function takes its derivative itself"
    if isinstance(event, Found):
        definition = event.defined_by
    elif event.is_block:
        return ""
    else:
        definition = event.call.derivative
        if not definition and event.call.rebuild is None:
            return f"it is inside {event.call.written(equation)}"
    if not definition:
        return ""
    return f"its derivative is defined by a {definition}"


def _place(
    index: int,
    found: Found,
    around: tuple[Any, ...],
    loops: tuple[tuple[int, int], ...],
    fixed: str,
    path_of: Callable[[str], str],
) -> Place:
    source = _source(found, around)
    function = found.function
    return Place(
        index=index,
        path=path_of(provenance.name_stack(around)) or source or "(model)",
        function=function.name,
        shape=found.shape,
        dtype=found.dtype,
        source=source,
        axis=-1,
        loops=loops,
        fixed=fixed,
        form=forms.written(function.name, function.mark, found.inputs, found.dtype),
        own=found.own,
    )


def _source(found: Found, around: Sequence[Any]) -> str:
    """The line of the user's code that calls an activation."""
    return provenance.source(_calls(found, around))


def _with_line_of_library(source: str, found: Found, around: Sequence[Any]) -> str:
    """A source with the line of the library that calls the activation, if a library does."""
    line = provenance.library_line(_calls(found, around))
    if not line or line == source:
        return source
    return f"{source} ({line})" if source else line


def _calls(found: Found, around: Sequence[Any]) -> Sequence[Any]:
    """The equations around an activation, the innermost first, as far as their lines are right."""
    around = list(around)
    # What is inside a jitted function knows the line of its first call only (jnp.where).
    while found.output not in around[-1].outvars:
        around.pop()
    for i, equation in enumerate(around):
        if equation.params.get("name") in ACTIVATIONS:
            return around[i::-1]
    return around[::-1]
