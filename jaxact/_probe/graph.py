"""A jaxpr as a graph of operations, in a normal form that activations are recognised in.

``jit`` boundaries are looked through; scalars are the same before and after a change of dtype, a
broadcast or a copy; shapes and shardings play no part. So the graph of a function at one shape is
its graph at every shape, on every mesh and in every version of JAX that computes it the same way.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from jaxact._core.elementwise import marked, varying_axes
from jaxact._jaxprs.calls import CALLS, Nested, constants_of_loop
from jaxact._jaxprs.structure import (
    as_function,
    as_varying,
    is_literal,
    jaxpr_of,
    name_of,
    open_jaxpr,
    parameters_of,
)


class Scalar:
    """A number that is part of the program."""

    def __init__(self, value: Any):
        self.value = value


@dataclasses.dataclass(eq=False)
class Node:
    """An operation.

    Attributes:
      operation: the primitive's name; ``"jaxact"`` for a call of one of the declared activations,
        ``"custom_jvp"`` or ``"custom_vjp"`` for one of another function with a derivative of its
        own, whatever its primitive.
      key: its parameters, as far as they matter.
      inputs: what it reads.
      equation: the equation.
      position: the equation's at the level of the jaxpr, for one inside ``jit`` that of the call.
      variable: the variable of that level that holds its result, if there is one.
    """

    operation: str
    key: Any
    inputs: tuple["Reference", ...]
    equation: Any
    position: int
    variable: Any = None

    @property
    def aval(self) -> Any:
        """Shape and dtype of the result."""
        return self.equation.outvars[0].aval


#: A variable of the level (an argument, or a result of what is no single operation), a number, or
#: the operation that computes it.
Reference = Any

_SAME_VALUE = ("copy", "copy_p", "pvary", "pcast", "reshard", "sharding_constraint")
_SAME_SCALAR = (*_SAME_VALUE, "convert_element_type", "broadcast_in_dim")
_IRRELEVANT = {
    "sharding",
    "out_sharding",
    "weak_type",
    "shape",
    "broadcast_dimensions",
    "dimension",
}


class Graph:
    """The operations of a jaxpr's level.

    Args:
      jaxpr: the jaxpr.
      numbers: what is known of its arguments.

    Attributes:
      nodes: the operations of each equation, those inside ``jit`` included.
      references: what each variable of the level refers to.
    """

    def __init__(self, jaxpr: Any, numbers: Mapping[Any, Scalar] | None = None):
        self.nodes: list[list[Node]] = [[] for _ in jaxpr.eqns]
        self.references: dict[Any, Reference] = {v: v for v in (*jaxpr.invars, *jaxpr.constvars)}
        self.references.update(numbers or {})
        self._read(jaxpr, self.references, None)
        self.outputs = [self.of(v, self.references) for v in jaxpr.outvars]

    @functools.cached_property
    def operations(self) -> frozenset[str]:
        """The operations that occur, those inside functions with derivatives of their own too."""
        found: set[str] = set()
        for node in (node for of_equation in self.nodes for node in of_equation):
            found.add(node.operation)
            if node.operation in ("custom_jvp", "custom_vjp"):
                found.update(_operations(node.key))
        return frozenset(found)

    @staticmethod
    def of(atom: Any, references: dict[Any, Reference]) -> Reference:
        """What an operand refers to."""
        return Scalar(atom.val) if is_literal(atom) else references[atom]

    @staticmethod
    def arguments(result: Reference) -> set[Any]:
        """The variables that a result is computed from."""
        seen: set[int] = set()
        found = set()
        waiting = [result]
        while waiting:
            reference = waiting.pop()
            if id(reference) in seen or isinstance(reference, Scalar):
                continue
            seen.add(id(reference))
            if isinstance(reference, Node):
                waiting.extend(reference.inputs)
            else:
                found.add(reference)
        return found

    def _read(self, jaxpr: Any, references: dict[Any, Reference], position: int | None) -> None:
        for i, equation in enumerate(jaxpr.eqns):
            at = i if position is None else position
            inputs = tuple(self.of(v, references) for v in equation.invars)
            for variable, reference in zip(
                equation.outvars, self._results(equation, inputs, at), strict=True
            ):
                references[variable] = reference
                if position is None and isinstance(reference, Node) and reference.variable is None:
                    reference.variable = variable

    def _results(
        self, equation: Any, inputs: tuple[Reference, ...], position: int
    ) -> list[Reference]:
        name = name_of(equation)
        call = CALLS.get(name)
        if call and call.is_jit:
            inner = open_jaxpr(call.nested(equation)[0].jaxpr)
            references = {
                **dict(zip(inner.invars, inputs, strict=True)),
                **{v: v for v in inner.constvars},
            }
            self._read(inner, references, position)
            return [self.of(v, references) for v in inner.outvars]
        if len(equation.outvars) != 1:
            return list(equation.outvars)
        if name in _SAME_SCALAR and _keeps_value(equation, inputs[0]):
            return [inputs[0]]
        if name == "sqrt" and isinstance(inputs[0], Scalar):  # That of 2 / pi, in a GELU.
            return [Scalar(np.sqrt(inputs[0].value))]
        if call is None or not call.derivative:
            node = Node(name, _key(equation), inputs, equation, position)
        else:
            nested = call.nested(equation)[0]
            inputs = tuple(inputs[i] for i in nested.operands)
            declaration = marked(str(equation.source_info.name_stack))
            if declaration is not None:
                inputs = inputs[_constants_of_loops(equation, nested) :]
                node = Node("jaxact", declaration.mark, inputs, equation, position)
            else:
                key = canonical(open_jaxpr(nested.jaxpr))
                node = Node(call.derivative, key, inputs, equation, position)
        self.nodes[position].append(node)
        return [node]


def _constants_of_loops(equation: Any, nested: Nested) -> int:
    """How many arguments come before x: numbers that JAX 0.12 has taken out of a loop."""
    shape = equation.outvars[0].aval.shape
    arguments = (equation.invars[i] for i in nested.operands)
    return next((i for i, v in enumerate(arguments) if v.aval.shape == shape), 0)


def _keeps_value(equation: Any, operand: Reference) -> bool:
    before, after = equation.invars[0].aval, equation.outvars[0].aval
    if name_of(equation) in _SAME_VALUE or isinstance(operand, Scalar) or before.shape == ():
        return True
    return name_of(equation) == "convert_element_type" and bool(before.dtype == after.dtype)


def _key(equation: Any) -> Any:
    """The parameters of an equation, as far as they matter, in a form that compares."""
    parameters = {}
    for name, value in parameters_of(equation).items():
        if name in _IRRELEVANT:
            continue
        parameters[name] = value if _hashable(value) else None
    return tuple(sorted(parameters.items()))


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def canonical(jaxpr: Any) -> Any:
    """A form of a jaxpr that is equal for two that compute the same way."""
    graph = Graph(jaxpr)
    numbers: dict[int, int] = {}
    lines: list[Any] = []

    def line(reference: Reference) -> Any:
        if isinstance(reference, Scalar):
            return ("number", _number(reference))
        if not isinstance(reference, Node):
            return ("input", jaxpr.invars.index(reference) if reference in jaxpr.invars else None)
        if reference.operation == "transpose":  # vmap's.
            return line(reference.inputs[0])
        if id(reference) not in numbers:
            inputs = tuple(map(line, reference.inputs))
            lines.append((reference.operation, reference.key, inputs))
            numbers[id(reference)] = len(lines)
        return numbers[id(reference)]

    outputs = tuple(map(line, graph.outputs))
    return (tuple(lines), outputs)


def _operations(key: Any) -> Iterator[str]:
    """The operations of a canonical form."""
    for operation, inner, _ in key[0]:
        yield operation
        if operation in ("custom_jvp", "custom_vjp"):
            yield from _operations(inner)


def _number(scalar: Scalar, dtype: Any = np.float32) -> Any:
    """The number as a float of that dtype: before or after its conversion, it is the same."""
    value = np.asarray(scalar.value)
    if value.shape != ():
        return None
    with np.errstate(over="ignore"):
        return float(value.astype(dtype)) if jnp.issubdtype(value.dtype, jnp.number) else str(value)


@dataclasses.dataclass(frozen=True)
class _Same:
    """An equation by its identity: jitted functions are the same object in all their calls."""

    equation: Any

    def __hash__(self) -> int:
        return id(self.equation)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.equation is other.equation


@functools.lru_cache(maxsize=256)
def _derivative_of(same: _Same) -> Any:
    return derivative(same.equation)


def derivative(equation: Any) -> Any:
    """The canonical form of the forward-mode derivative of a ``custom_jvp``'s call."""
    inputs = [v for v in equation.invars if not is_literal(v)]
    function = as_function(jaxpr_of([equation], inputs, equation.outvars))
    traced = []

    def differentiate(*x: Any) -> None:
        x = tuple(
            as_varying(value, varying_axes(v.aval)) for value, v in zip(x, inputs, strict=True)
        )
        traced.append(
            jax.make_jaxpr(lambda *t: jax.jvp(function, t[::2], t[1::2]))(
                *(value for value in x for _ in range(2))
            )
        )

    # The mesh and its axes are part of the types.
    mesh = equation.outvars[0].aval.sharding.mesh
    manual = set(mesh.manual_axes)
    here = jax.sharding.get_abstract_mesh()
    around: Any = mesh if mesh.axis_names and not manual else None
    if manual - set(here.manual_axes):
        around = mesh.update_axis_types(dict.fromkeys(manual, AxisType.Auto))
        differentiate = jax.shard_map(
            differentiate,
            mesh=around,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(),
            axis_names=manual,
        )
    placed = around is mesh
    avals = [
        jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding if placed else None)
        for a in (v.aval for v in inputs)
    ]
    with jax.sharding.use_abstract_mesh(around) if around else contextlib.nullcontext():
        jax.eval_shape(differentiate, *avals)
    return canonical(traced[0].jaxpr)


#: A permutation of axes, or None.
Order = tuple[int, ...] | None


@dataclasses.dataclass
class Match:
    """Where a pattern was found.

    Attributes:
      dtype: of the result, in which numbers are compared.
      inputs: what the pattern's arguments stand for.
      nodes: the operations that it covers.
      orders: for each of the pattern's arguments, the axes of the result as axes of what it stands
        for: ``vmap`` may move them.
    """

    dtype: Any
    inputs: dict[Any, Reference]
    nodes: list[Node]
    orders: dict[Any, Order] = dataclasses.field(default_factory=dict)


def match(pattern: Reference, x: Reference, found: Node) -> Match | None:
    """Whether ``found`` computes what the pattern does, and from what; ``x`` is its argument."""
    result = Match(found.aval.dtype, {}, [])
    return result if _unify(pattern, found, None, result, x) else None


def _unify(
    pattern: Reference,
    found: Reference,
    order: Order,
    result: Match,
    x: Reference,
) -> bool:
    if isinstance(pattern, Scalar):
        return isinstance(found, Scalar) and _same_number(pattern, found, result.dtype)
    while isinstance(found, Node) and found.operation == "transpose":
        if found.variable is not None and pattern is x and order is None:
            break  # The result of a transpose of the user's, as it is.
        permutation = found.equation.params["permutation"]
        order = tuple(permutation[i] for i in order) if order else tuple(permutation)
        result.nodes.append(found)
        found = found.inputs[0]
    if order == tuple(range(len(order or ()))):
        order = None
    if not isinstance(pattern, Node):
        if isinstance(found, Scalar) or found.aval.shape == ():
            order = None
        if result.orders.setdefault(pattern, order) != order:
            return False
        bound = result.inputs.setdefault(pattern, found)
        if isinstance(bound, Scalar) and isinstance(found, Scalar):
            return _same_number(bound, found, result.dtype)
        return bound is found
    if not (
        isinstance(found, Node)
        and found.operation == pattern.operation
        and found.key == pattern.key
        and len(found.inputs) == len(pattern.inputs)
        and all(
            _unify(p, f, order, result, x)
            for p, f in zip(pattern.inputs, found.inputs, strict=True)
        )
    ):
        return False
    # Two functions of the same values may have other derivatives.
    if pattern.operation == "custom_jvp":
        one, other = (_derivative_of(_Same(node.equation)) for node in (pattern, found))
        if one != other:
            return False
    result.nodes.append(found)
    return True


def _same_number(a: Scalar, b: Scalar, dtype: Any) -> bool:
    return bool(_number(a, dtype) == _number(b, dtype))


def numbers_of_loop(graph: Graph, equation: Any) -> dict[Any, Scalar]:
    """The arguments of a scan's body that are numbers: a derivative takes them out of the loop."""
    body = open_jaxpr(parameters_of(equation)["jaxpr"])
    found = {}
    for i in constants_of_loop(equation):
        known = graph.of(equation.invars[i], graph.references)
        if isinstance(known, Scalar):
            found[body.invars[i]] = known
    return found
