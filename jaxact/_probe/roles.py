"""What an activation is there for, by what is around it: a gate, a soft-cap, attention."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jaxact._jaxprs.structure import open_jaxpr
from jaxact._probe.flow import LAYERS, SAME, SHAPES, SLICES, Flow, Node, Op, Reach, Value, kind_of
from jaxact._probe.sites import Level
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
    level: Level, labels: Sequence[str], arguments: Sequence[Reach]
) -> list[Surroundings]:
    """What is around each activation of a model.

    Args:
      level: the model's jaxpr.
      labels: of its arguments; those of what it closes over come first, and are "".
      arguments: what the other arguments are: data, parameters or neither.
    """
    flow = Flow(level, labels)
    closed_over = open_jaxpr(level.jaxpr).invars[: len(labels) - len(arguments)]
    given = [kind_of(getattr(v.aval, "dtype", None)) for v in closed_over]
    reached = flow.reach([*given, *arguments])
    return [
        Surroundings(
            _role(node, reach.data, bool(reached.used >> node.number & 1)),
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
            if node.name in _OPEN_OR_SHUT and other.reach.data and not _is_mask(other):
                return SQUEEZE_EXCITE if enlarged and node.x.shape[-1:] != (1,) else GATE
            if _is_branch(other) and not _is_own(other, node):
                return SQUEEZE_EXCITE if enlarged and node.x.shape[-1:] != (1,) else GATE
    if _is_attention(node):
        return ATTENTION
    return ""


def _through(value: Value, names: tuple[str, ...] | frozenset[str]) -> Value:
    """What a value is made of, behind operations of these names."""
    while value.producer is not None and value.producer.name in names:
        value = value.producer.inputs[0]
    return value


def _products(node: Node) -> Iterator[tuple[Value, bool]]:
    """What an activation's result is multiplied by.

    Yields:
      The other factor; whether the result was spread over more elements before.
    """
    waiting = [(node.y, False)]
    seen = {node.y}
    while waiting:
        value, enlarged = waiting.pop()
        for op in value.consumers:
            others = [v for v in op.inputs if v is not value]
            if op.name == "mul" and others and not _is_number(others[0]):
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


def _grows(value: Value, op: Op) -> bool:
    """Whether a value is spread over more elements: of a channel, over its positions."""
    return math.prod(op.outputs[0].shape) > math.prod(value.shape)


def _is_number(value: Value) -> bool:
    """Whether it is a scalar that does not depend on data."""
    value = _through(value, SAME | {"broadcast_in_dim"})
    return value.shape == () and not value.reach.data


def _is_mask(value: Value) -> bool:
    """Whether it is made of bools, as a dropout's mask is, which a key (data) decides."""
    for _ in range(16):
        if value.dtype == jnp.bool_:
            return True
        op = value.producer
        if op is None or op.name not in (*SAME, *SHAPES, *SLICES, "div", "mul"):
            return False
        value = op.inputs[0]
    return False


def _is_branch(value: Value) -> bool:
    """Whether layers have made a value of data."""
    return value.reach.data and value.reach.parameters and not _is_mask(value)


def _is_own(value: Value, node: Node) -> bool:
    """Whether it is the activation's own argument: ``x * f(x)`` is an activation too."""
    return _through(value, SAME | SHAPES) is _through(node.x, SAME | SHAPES)


def _is_soft_cap(node: Node) -> bool:
    """Whether it is the tanh of ``cap * tanh(x / cap)``."""
    before = _through(node.x, SAME | SHAPES).producer
    if before is None or before.name not in ("div", "mul"):
        return False
    inner = [v for v in before.inputs if _is_number(v)]
    for op in _readers(node.y):
        outer = [v for v in op.inputs if _is_number(v)]
        if op.name == "mul" and len(inner) == len(outer) == 1:
            return _are_inverse(inner[0], outer[0], before.name == "div")
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
    a, b = float(inner.literal), float(outer.literal)
    return math.isclose(a, b, rel_tol=1e-2) if divides else math.isclose(a * b, 1, rel_tol=1e-2)


def _is_attention(node: Node) -> bool:
    """Whether it is of scores: of products of data and data, which weigh other data."""
    value, steps = node.x, 0
    while value.producer is not None and value.producer.name in SAME | SHAPES | set(_SCALED):
        op = value.producer
        value = next((v for v in op.inputs if v.reach.data and v.dtype != jnp.bool_), op.inputs[0])
        steps += 1
        if steps > 32:
            return False
    scores = value.producer
    if scores is None or scores.name not in LAYERS:
        return False
    if not all(map(_is_made, scores.inputs)):
        return False
    waiting, seen = [node.y], {node.y}
    while waiting:
        value = waiting.pop()
        for op in value.consumers:
            if op.name in LAYERS:
                return all(map(_is_made, op.inputs))
            if op.name in SAME | SHAPES | set(_SCALED) and op.outputs[0] not in seen:
                seen.add(op.outputs[0])
                waiting.append(op.outputs[0])
    return False


def _is_made(value: Value) -> bool:
    """Whether a value is computed from data, and no argument: weights may be among the data."""
    return value.reach.data and _through(value, SAME | SHAPES | SLICES).producer is not None
