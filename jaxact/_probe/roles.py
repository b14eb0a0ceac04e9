"""What an activation is there for, by what is around it: a gate, a soft-cap, attention."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jaxact._jaxprs.structure import open_jaxpr
from jaxact._probe.flow import (
    SAME,
    SHAPES,
    SLICES,
    Flow,
    Node,
    Op,
    Reach,
    Value,
    kind_of,
    kind_of_data,
)
from jaxact._probe.sites import Level, is_backward
from jaxact._report.site import (
    ATTENTION,
    GATE,
    OF_PARAMETERS,
    SOFT_CAP,
    SQUEEZE_EXCITE,
    UNUSED,
)

#: Between 0 and 1: times something else, they are gates whatever that is.
_OPEN_OR_SHUT = ("sigmoid", "hard_sigmoid", "sparse_sigmoid")
#: As gates, they are multiplied by another branch: by what layers have made.
_OF_GATED_UNITS = ("silu", "swish", "hard_silu", "hard_swish", "gelu", "quick_gelu", "mish", "relu")
_REDUCTIONS = frozenset(
    ("reduce_sum", "reduce_max", "reduce_min", "reduce_window_sum", "reduce_window_max")
)
_SCALED = ("mul", "div", "add", "add_any", "sub", "max", "neg", "select_n", "integer_pow", "square")


class Surroundings(NamedTuple):
    """What is around an activation.

    Attributes:
      role: what it is there for, or "".
      apart: for each loop around it, whether its steps are apart.
      steps: for each loop around it, how many steps it has; None for a ``while``.
    """

    role: str
    apart: tuple[bool, ...]
    steps: tuple[int | None, ...]


def surroundings(
    level: Level,
    labels: Sequence[str],
    arguments: Sequence[Reach],
    *,
    is_closed_over_data: bool = False,
) -> list[Surroundings]:
    """What is around each activation of a model.

    Args:
      level: the model's jaxpr.
      labels: of its arguments; those of what it closes over come first, and are "".
      arguments: what the other arguments are: data, parameters or neither.
      is_closed_over_data: whether what is closed over is data, and not parameters.
    """
    flow = Flow(level, labels)
    closed_over = open_jaxpr(level.jaxpr).invars[: len(labels) - len(arguments)]
    given = [
        kind_of_data(v.aval.dtype, v.aval.shape) if is_closed_over_data else kind_of(v.aval.dtype)
        for v in closed_over
    ]
    reached = flow.reach([*given, *arguments])
    return [
        Surroundings(
            _role(node, reach.has_data, bool(reached.used >> node.number & 1)),
            tuple(
                op.name != "while" and (op.has_steps or bool(reach.apart >> op.loop & 1))
                for op in node.loops
            ),
            tuple(op.params.get("length") for op in node.loops),
        )
        for node, reach in zip(flow.nodes, reached.nodes, strict=True)
    ]


def _role(node: Node, has_data: bool, is_used: bool) -> str:
    """The role of an activation, or "" where it is a hidden layer's.

    Args:
      node: the activation. What reaches the values around it has been spread.
      has_data: whether it depends on data.
      is_used: whether anything that is returned depends on it.
    """
    if not has_data:
        return OF_PARAMETERS
    if not is_used:
        return UNUSED
    if node.name == "softcap" or (node.name == "tanh" and _is_soft_cap(node)):
        return SOFT_CAP
    if node.name in (*_OPEN_OR_SHUT, *_OF_GATED_UNITS):
        for other, enlarged in _products(node):
            is_gate = _is_other_value if node.name in _OPEN_OR_SHUT else _is_branch
            if is_gate(other, node):
                return SQUEEZE_EXCITE if enlarged and _is_of_means(node, other) else GATE
    if _is_attention(node):
        return ATTENTION
    return ""


def _through(value: Value, names: tuple[str, ...] | frozenset[str]) -> Value:
    """What a value is made of, behind operations of these names."""
    while value.producer is not None and value.producer.name in names:
        value = value.producer.inputs[0]
    return value


def _products(node: Node) -> Iterator[tuple[Value, bool]]:
    """What an activation's result is multiplied by, if that is not made of the result itself.

    Yields:
      The other factor; whether the result was spread over more elements before.
    """
    waiting = [(node.y, False)]
    seen = {node.y}
    while waiting:
        value, enlarged = waiting.pop()
        for op in value.consumers:
            if is_backward(op.equation):
                continue
            others = [v for v in op.inputs if v is not value]
            if op.name == "mul" and others and not _is_number(others[0]):
                # s (1 - s) is a derivative, h / |h| a normalisation.
                if node.op not in _makers(others[0], node.op.number):
                    yield others[0], enlarged or _grows(value, op)
                continue
            passes = op.name in SAME | SHAPES | SLICES or (
                op.name in ("mul", "sub", "add", "div") and all(map(_is_number, others))
            )
            for result in op.outputs if passes else ():
                if result not in seen:
                    seen.add(result)
                    grows = op.name == "broadcast_in_dim" and _grows(value, op)
                    waiting.append((result, enlarged or grows))


def _makers(value: Value, first: int = 0, without: frozenset[str] = frozenset()) -> set[Op]:
    """The operations that a value is made by, from the one of number ``first`` on."""
    found: set[Op] = set()
    waiting = [value]
    while waiting:
        op = waiting.pop().producer
        if op is None or op in found or op.number < first or op.name in without:
            continue
        found.add(op)
        waiting.extend(op.inputs)
    return found


def _grows(value: Value, op: Op) -> bool:
    """Whether a value is spread over more elements: of a channel, over its positions."""
    return math.prod(op.outputs[0].shape) > math.prod(value.shape)


def _is_number(value: Value) -> bool:
    """Whether it is a scalar that does not depend on data."""
    value = _through(value, SAME | {"broadcast_in_dim"})
    return value.shape == () and not value.reach.has_data


def _is_mask(value: Value) -> bool:
    """Whether it is made of bools, as a dropout's mask is."""
    for _ in range(16):
        if value.dtype == jnp.bool_:
            return True
        op = value.producer
        if op is None or op.name not in (*SAME, *SHAPES, *SLICES, "div", "mul"):
            return False
        value = op.inputs[0]
    return False


def _is_other_value(value: Value, node: Node) -> bool:
    """Whether it is a value that a gate lets through: no mask, no weight of an example."""
    if not value.reach.has_data or _is_mask(value) or _is_own(value, node):
        return False
    if value.reach.parameters:
        return True
    source = _through(value, SAME | SHAPES | SLICES)
    return source.producer is not None or source in _sources(node.x)


def _is_branch(value: Value, node: Node) -> bool:
    """Whether layers have made a value of data, with a number of its own for each unit."""
    if not (value.reach.has_data and value.reach.parameters) or _is_mask(value):
        return False
    units = node.y.shape[-1:]
    spread = _through(value, SAME | {"broadcast_in_dim", "reshape", "expand_dims"})
    of_rows = any(v.shape[-1:] in ((), (1,)) for v in (value, spread))
    return not _is_own(value, node) and (units == (1,) or not of_rows)


def _is_own(value: Value, node: Node) -> bool:
    """Whether it is the activation's own argument: ``x * f(b * x)`` is an activation too."""
    argument = _through(node.x, SAME | SHAPES)
    while (op := argument.producer) is not None and op.name in ("mul", "div"):
        of_data = [v for v in op.inputs if v.reach.has_data]
        if len(of_data) != 1:
            break
        argument = _through(of_data[0], SAME | SHAPES)
    return _through(value, SAME | SHAPES) in (argument, _through(node.x, SAME | SHAPES))


def _sources(value: Value) -> set[Value]:
    """The arguments that a value is made of."""
    inputs = {v for op in _makers(value) for v in op.inputs}
    return {v for v in (value, *inputs) if v.producer is None and v.literal is None}


def _is_of_means(node: Node, other: Value) -> bool:
    """Whether a gate knows of what it gates nothing but sums, as of a channel's positions."""
    without = _makers(node.x, without=_REDUCTIONS)
    made = {v for op in without for v in op.outputs} | {
        v for op in without for v in op.inputs if v.producer is None
    }
    reduced = any(op.name in _REDUCTIONS for op in _makers(node.x))
    gated = {v for op in _makers(other) for v in (*op.inputs, *op.outputs)} | {other}
    return reduced and not any(v in gated and v.reach.has_data for v in made)


def _is_soft_cap(node: Node) -> bool:
    """Whether it is the tanh of ``cap * tanh(x / cap)``."""
    before = _through(node.x, SAME | SHAPES).producer
    if before is None or before.name not in ("div", "mul"):
        return False
    inner = before.inputs[1:] if before.name == "div" else before.inputs
    for op in _readers(node.y):
        if op.name == "mul" and any(
            _are_inverse(a, b, before.name == "div") for a in inner for b in op.inputs
        ):
            return True
    return False


def _readers(value: Value) -> Iterator[Op]:
    """The operations that read a value, behind changes of type and shape."""
    for op in value.consumers:
        if op.name in SAME | SHAPES:
            yield from _readers(op.outputs[0])
        else:
            yield op


def _are_inverse(inner: Value, outer: Value, divides: bool) -> bool:
    """Whether what x is divided by is what the result is multiplied by."""
    inner, outer = (_through(v, SAME | {"broadcast_in_dim"}) for v in (inner, outer))
    if inner.literal is None or outer.literal is None:
        return inner is outer and divides
    if inner.shape or outer.shape:
        return False
    a, b = float(inner.literal), float(outer.literal)
    if a == 1:  # There is no cap.
        return False
    return math.isclose(a, b, rel_tol=1e-2) if divides else math.isclose(a * b, 1, rel_tol=1e-2)


def _is_attention(node: Node) -> bool:
    """Whether it is of scores: of products of data and data, which weigh other data."""
    scores = _score_product(node.x)
    if scores is None or not all(map(_is_made, scores.inputs)):
        return False
    # The positions, along the last axis, are what the second product sums over.
    waiting: list[tuple[Value, int | None]] = [(node.y, len(node.y.shape) - 1)]
    seen = {node.y}
    while waiting:
        value, axis = waiting.pop()
        for op in value.consumers:
            if is_backward(op.equation):
                continue
            if op.name == "dot_general":
                operand = op.inputs.index(value)
                contracted = op.params["dimension_numbers"][0][operand]
                return all(map(_is_made, op.inputs)) and (axis is None or axis in contracted)
            if op.name in SAME | SHAPES | set(_SCALED) and op.outputs[0] not in seen:
                seen.add(op.outputs[0])
                waiting.append((op.outputs[0], None if op.name in SHAPES else axis))
    return False


def _score_product(value: Value) -> Op | None:
    """The product of matrices that a value is, but for scales and masks."""
    for _ in range(32):
        op = value.producer
        if op is None or op.name not in SAME | SHAPES | set(_SCALED):
            return op if op is not None and op.name == "dot_general" else None
        of_data = (v for v in op.inputs if v.reach.has_data and v.dtype != jnp.bool_)
        value = next(of_data, op.inputs[0])
    return None


def _is_made(value: Value) -> bool:
    """Whether a value is computed from data, and is no argument, whatever is added to that.

    Weights may be among the data, or have noise of a key that is, or a scale.
    """
    if not value.reach.has_data:
        return False
    waiting, seen = [value], {value}
    while waiting:
        value = waiting.pop()
        op = value.producer
        if op is None:
            return False
        if op.name in SAME | SHAPES | SLICES:
            following = op.inputs[:1]
        elif op.name in ("mul", "div", "add", "add_any", "sub"):
            size = math.prod(value.shape)
            following = [v for v in op.inputs if v.literal is None and math.prod(v.shape) == size]
            # A sum with something that is spread, as of a bias, is made as the rest of it is.
            following = [v for v in following if not _is_spread(v)]
        else:
            continue
        waiting.extend(v for v in following if v not in seen)
        seen.update(following)
    return True


def _is_spread(value: Value) -> bool:
    op = value.producer
    return op is not None and op.name == "broadcast_in_dim" and _grows(op.inputs[0], op)
