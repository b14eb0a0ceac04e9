"""The activations in a jaxpr, and in the jaxprs nested in it."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxact._core.elementwise import marked
from jaxact._jaxprs import provenance
from jaxact._probe import patterns
from jaxact._probe.graph import (
    CUSTOM,
    Graph,
    Match,
    Node,
    Scalar,
    ancestors,
    is_literal,
    match,
    numbers_of_loop,
    open_jaxpr,
    subjaxprs,
)
from jaxact.registry import ACTIVATIONS


@dataclasses.dataclass(eq=False)
class Found:
    """An activation at the level of a jaxpr.

    Attributes:
      function: which one.
      position: that of the equation that has its result.
      inputs: its arguments, x first: variables of the level, or numbers.
      output: the variable of its result.
      covered: the positions of all equations that belong to it.
      equation: the one that says where it comes from.
      order: the axes of the result, as axes of the first argument, where ``vmap`` moves them.
      defined_by: what defines its derivative, if the function that is probed does: "custom_jvp".
    """

    function: patterns.Function
    position: int
    inputs: tuple[Any, ...]
    output: Any
    covered: tuple[int, ...]
    equation: Any
    order: tuple[int, ...] | None = None
    defined_by: str = ""

    count = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the pre-activation, its axes as those of the result."""
        shape = self.inputs[0].aval.shape
        return tuple(shape[i] for i in self.order) if self.order else tuple(shape)

    @property
    def dtype(self) -> Any:
        """The dtype of the pre-activation."""
        return self.inputs[0].aval.dtype


@dataclasses.dataclass(eq=False)
class Nested:
    """An equation with activations inside.

    Attributes:
      position: the equation's.
      kind: its primitive's name; ``"custom"`` for a function with a derivative of its own;
        ``"block"`` for one of jaxact's feed-forward blocks.
      levels: the nested jaxprs that can have activations, in order.
    """

    position: int
    kind: str
    levels: tuple["Level", ...]

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
      count: how many activations there are, nested ones included.
    """

    jaxpr: Any
    events: list[Found | Nested]

    @property
    def count(self) -> int:
        return sum(event.count for event in self.events)


#: By primitive, the parameters with the jaxprs that are looked into, in order of execution.
_LOOKED_INTO = {
    "jit": ("jaxpr",),
    "pjit": ("jaxpr",),
    "closed_call": ("call_jaxpr",),
    "eval_jaxpr": ("call_jaxpr",),
    "core_call": ("call_jaxpr",),
    "scan": ("jaxpr",),
    "while": ("cond_jaxpr", "body_jaxpr"),
    "cond": ("branches",),
    "checkpoint": ("jaxpr",),
    "remat": ("jaxpr",),
    "remat2": ("jaxpr",),
    "shard_map": ("jaxpr",),
    "custom_vmap_call": ("call",),
    "custom_jvp_call": ("call_jaxpr",),
    "custom_vjp_call": ("call_jaxpr",),
    "custom_vjp_call_jaxpr": ("fun_jaxpr",),
}
_BLOCK = re.compile(r"\bjaxact\.(mlp|gated_mlp)\b")


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
    # The last first: what an activation is made of comes before its result.
    for position in reversed(range(len(opened.eqns))):
        equation = opened.eqns[position]
        if position in consumed or _is_backward(equation):
            continue
        within = differentiated or _takes_derivative(equation)
        found = _activation(opened, graph, position, within)
        if found is None and within:
            found = _left_of_marked(equation, position)
        if found is not None:
            consumed.update(found.covered)
            events.append(found)
            continue
        nested = _nested(equation, position, within, graph)
        if nested is not None:
            events.append(nested)
    return Level(jaxpr, events[::-1])


@functools.lru_cache(maxsize=256)
def _find_again(jaxpr: Any, differentiated: bool) -> Level:
    return find(jaxpr, differentiated)


def _takes_derivative(equation: Any) -> bool:
    """Whether it belongs to a function that the program differentiates."""
    return "jvp(" in str(equation.source_info.name_stack)


def _is_backward(equation: Any) -> bool:
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
        for function, inputs, result in _candidates(root, differentiated):
            covered = _covered(graph, result)
            if covered is None and differentiated:  # A jit with the tangent's operations too.
                covered = (position,)
            values = [_value(reference) for reference in inputs]
            if covered is None or None in values:
                continue
            x, *parameters = values
            if is_literal(x) or isinstance(x, float) or x.aval.dtype != root.aval.dtype:
                continue
            # A "slope" that is computed from x is none.
            variables = [p for p in parameters if hasattr(p, "aval")]
            if function.arrays == 1 and x in ancestors(jaxpr, variables):
                continue
            return Found(
                function, position, tuple(values), variable, covered, root.equation, result.order
            )
    return None


def _candidates(
    root: Node, differentiated: bool
) -> Iterator[tuple[patterns.Function, list[Any], Match]]:
    """Each activation that ``root`` may be the result of, with its arguments."""
    if root.operation == "jaxact":
        yield patterns.function(root.key), list(root.inputs), Match(root.aval.dtype, {}, [root])
        return
    last = root
    while last.operation == "transpose" and _is_inside(last.inputs[0]):  # vmap's, in a jit
        last = last.inputs[0]
    of_dtype = patterns.patterns(root.aval.dtype, len(root.aval.shape), differentiated)
    for pattern in of_dtype.get(last.operation, ()):
        result = match(pattern.root, pattern.x, root)
        if result is None:
            continue
        parameters = [result.inputs[p] for p in pattern.parameters]
        numbers = [float(p.value) if isinstance(p, Scalar) else None for p in parameters]
        if pattern.known.holds and not pattern.known.holds(*numbers):
            continue
        fixed = [Scalar(value) for value in pattern.known.fixed]
        yield (
            patterns.function(pattern.known.mark),
            [result.inputs[pattern.x], *parameters, *fixed],
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


def _value(reference: Any) -> Any:
    """A variable of the level or a number; None for what is out of reach inside ``jit``."""
    if isinstance(reference, Scalar):
        return float(reference.value)
    return reference.variable if isinstance(reference, Node) else reference


#: Functions with parameters of which JAX's derivative of the value's formula is the slope.
_DIFFERENTIABLE = ("leaky_relu", "prelu", "hard_tanh", "silu", "squareplus")


def _left_of_marked(equation: Any, position: int) -> Found | None:
    """One of jaxact's activations of which a derivative has been taken.

    In a loop, the operations of its value may be all that is left of the call.
    """
    name = equation.params.get("name")
    if equation.primitive.name not in ("jit", "pjit") or name not in ACTIVATIONS:
        return None
    jaxpr = open_jaxpr(equation.params["jaxpr"])
    marks = {marked(str(inner.source_info.name_stack)) for inner in jaxpr.eqns}
    declared = marks.pop() if len(marks) == 1 else None
    if declared is None:
        return None
    output = jaxpr.outvars[0]
    needed = ancestors(jaxpr, [output])
    arrays = [v for v in jaxpr.invars if v in needed and v.aval.shape == output.aval.shape]
    # A tangent depends on what it is multiplied by, too.
    if declared.name != name or len(arrays) != len(declared.arrays):
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
    return Found(function, position, tuple(inputs), equation.outvars[0], (position,), equation)


def _nested(
    equation: Any, position: int, differentiated: bool, graph: Graph
) -> Nested | Found | None:
    name = equation.primitive.name
    if name not in _LOOKED_INTO:
        return None
    if name in CUSTOM and all(
        isinstance(graph.of(v, graph.references), Scalar) for v in equation.invars
    ):
        return None  # A constant.
    # The jaxpr of a jitted function is the same object in all its calls.
    look: Callable[..., Level] = _find_again if name in ("jit", "pjit") else find
    if name == "scan" and differentiated:
        look = functools.partial(find, numbers=numbers_of_loop(graph, equation))
    levels = tuple(
        look(value, differentiated)
        for wanted in _LOOKED_INTO[name]
        for parameter, value in subjaxprs(equation)
        if parameter == wanted
    )
    if not any(level.count for level in levels):
        return None
    kind = name
    if name.startswith("custom_"):
        kind = "block" if _BLOCK.search(str(equation.source_info.name_stack)) else "custom"
        if kind == "custom" and name != "custom_vmap_call":
            whole = _with_own_derivative(equation, position, levels[0])
            if whole is not None:
                return whole
    return Nested(position, kind, levels)


def _with_own_derivative(equation: Any, position: int, level: Level) -> Found | None:
    """An activation that is all that a function with a derivative of its own computes."""
    jaxpr = open_jaxpr(level.jaxpr)
    found = level.events[0]
    if len(level.events) != 1 or not isinstance(found, Found):
        return None
    x = found.inputs[0]
    if x not in jaxpr.invars or jaxpr.outvars != [found.output] or found.function.arrays > 1:
        return None
    operand = equation.invars[jaxpr.invars.index(x)]
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
        defined_by=equation.primitive.name.removesuffix("_call"),
    )


def _by_derivative(name: str, equation: Any, x: Any, others: Sequence[Any]) -> patterns.Function:
    """An activation whose slope is what JAX says that the derivative of an equation is."""

    def slope(*inputs: jax.Array) -> jax.Array:
        from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

        call = provenance.jaxpr_of([equation], [x, *others], equation.outvars[:1])
        (y,), pullback = jax.vjp(
            lambda x: jaxpr_as_fun(ClosedJaxpr(call, ()))(x, *inputs[1:]), inputs[0]
        )
        return pullback([jnp.ones_like(y)])[0]

    return patterns.Function(name, slope, False, 1)


@dataclasses.dataclass(frozen=True)
class Spot:
    """An activation, with what is around it.

    Attributes:
      found: the activation.
      around: the equations around it, the outermost first, and its own.
      loops: for each scan around it, its number and its length.
      differentiated: why its derivative cannot be changed any more, or "".
    """

    found: Found
    around: tuple[Any, ...]
    loops: tuple[tuple[int, int], ...]
    differentiated: str

    @property
    def name_stack(self) -> str:
        return provenance.name_stack(self.around)

    @property
    def source(self) -> str:
        around = list(self.around)
        # What is inside a jitted function knows the line of its first call only (jnp.where).
        while self.found.output not in around[-1].outvars:
            around.pop()
        for i, equation in enumerate(around):
            if equation.params.get("name") in ACTIVATIONS:
                return provenance.source(around[i::-1])
        return provenance.source(around[::-1])


def spots(level: Level) -> list[Spot]:
    """All activations, in order of execution."""
    scans = iter(range(10**9))
    return list(_spots(level, (), (), "", scans))


def _spots(
    level: Level,
    around: tuple[Any, ...],
    loops: tuple[tuple[int, int], ...],
    differentiated: str,
    scans: Iterator[int],
) -> Iterator[Spot]:
    for event in level.events:
        equation = open_jaxpr(level.jaxpr).eqns[event.position]
        why = differentiated
        if not why and _takes_derivative(equation):
            why = "the function takes its derivative itself"
        if not why and _defined_by(event, equation):
            why = f"its derivative is defined by a {_defined_by(event, equation)}"
        if isinstance(event, Found):
            own = () if event.equation is equation else (event.equation,)
            yield Spot(event, (*around, equation, *own), loops, why)
            continue
        inner = loops
        if event.kind == "scan":
            inner = (*loops, (next(scans), equation.params["length"]))
        for nested in event.levels:
            yield from _spots(nested, (*around, equation), inner, why, scans)


def _defined_by(event: Found | Nested, equation: Any) -> str:
    if isinstance(event, Found):
        return event.defined_by
    return equation.primitive.name.removesuffix("_call") if event.kind == "custom" else ""
