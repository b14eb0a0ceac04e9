"""What becomes of the values of a program: a jaxpr as one graph, and what reaches what in it.

Calls that compute what their jaxpr does, once (``jit``, ``remat``), are looked through; others
(loops, branches, functions with derivatives of their own) are operations with `Body`s of their own.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxact._jaxprs import calls
from jaxact._jaxprs.structure import (
    is_literal,
    jaxpr_of,
    name_of,
    nested_equations,
    open_jaxpr,
    parameters_of,
)
from jaxact._probe.sites import Found, Level, Nested, is_backward, takes_derivative


class Reach(NamedTuple):
    """What a value depends on. Sets are bits of an integer.

    Attributes:
      data: whether on data.
      parameters: whether on parameters.
      random: whether on keys among the data. What is drawn is data, but a weight with noise is a
        parameter that differs from step to step.
      gradient: whether on a gradient that is taken inside of the function.
      varies: the loops around it in which it may differ from step to step.
      apart: the loops in which a value that did so, and came from parameters alone, reached it.
      sites: the activations, by number.
      origin: for a value that is carried through a loop, and what is nothing but that: which.
    """

    data: bool = False
    parameters: bool = False
    random: bool = False
    gradient: bool = False
    varies: int = 0
    apart: int = 0
    sites: int = 0
    origin: Any = None

    @property
    def has_data(self) -> bool:
        """Whether on data, drawn ones included."""
        return self.data or self.random


DATA = Reach(data=True)
PARAMETERS = Reach(parameters=True)
RANDOM = Reach(random=True)
NEITHER = Reach()


@dataclasses.dataclass(eq=False)
class Value:
    """An array. Without a producer it is an argument, with a path, or a constant.

    Attributes:
      consumers: the operations that read it, if a result of the function depends on them.
    """

    shape: tuple[int, ...]
    dtype: Any = None
    producer: "Op | None" = None
    path: tuple[str, ...] | None = None
    literal: Any = None
    is_output: bool = False
    consumers: list["Op"] = dataclasses.field(default_factory=list)
    reach: Reach = NEITHER


@dataclasses.dataclass(eq=False)
class Op:
    """An equation, or an activation, whose first result is its output.

    Attributes:
      number: its place in the order of execution.
      lives: whether a result of the function depends on it, or it has effects.
      bodies: the jaxprs that it calls, if it is not looked through.
      loop: for a scan, its number, and for a ``while`` too, among all loops; -1 for no loop.
      has_steps: for a loop, whether its steps are apart whatever reaches them.
    """

    number: int
    name: str
    params: Mapping[str, Any]
    inputs: list[Value]
    outputs: list[Value]
    equation: Any
    lives: bool = False
    bodies: list["Body"] = dataclasses.field(default_factory=list)
    loop: int = -1
    has_steps: bool = False

    def __lt__(self, other: "Op") -> bool:
        return self.number < other.number


@dataclasses.dataclass(eq=False)
class Body:
    """The operations of a jaxpr.

    Attributes:
      operands: for each argument, which of the calling operation's inputs it is.
    """

    arguments: list[Value]
    operands: Sequence[int] = ()
    constants: list[Value] = dataclasses.field(default_factory=list)
    results: list[Value] = dataclasses.field(default_factory=list)
    ops: list[Op] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False)
class Node:
    """An activation in the graph.

    Attributes:
      number: among all activations, in order of execution.
      name: in `jaxact.ACTIVATIONS`.
      op: the operation that it is.
      inputs: its arguments, x first.
      inside: the operation around it that is not looked through, as people write it, or "".
      loops: the loops around it, the outermost first.
    """

    number: int
    name: str
    op: Op
    inputs: list[Value]
    inside: str
    loops: tuple[Op, ...]

    @property
    def x(self) -> Value:
        """The pre-activation."""
        return self.inputs[0]

    @property
    def y(self) -> Value:
        """The activation's result."""
        return self.op.outputs[0]


def words(text: str) -> frozenset[str]:
    """The names in a text."""
    return frozenset(text.split())


#: What leaves values as they are, what moves them, what takes some of them.
SAME = words(
    "convert_element_type reduce_precision copy copy_p pvary pcast reshard sharding_constraint "
    "name stop_gradient"
)
SHAPES = words("reshape squeeze expand_dims broadcast_in_dim transpose")
SLICES = words("slice dynamic_slice gather split rev")
LAYERS = ("dot_general", "conv_general_dilated")
ACTIVATION = "an activation"


class Flow:
    """The operations of a model.

    Args:
      level: the model's jaxpr.
      labels: where each of its arguments is in those of the model; "" for what is closed over.

    Attributes:
      body: the operations at the top.
      nodes: the activations in order.
    """

    def __init__(self, level: Level, labels: Sequence[str]):
        self.nodes: list[Node] = []
        self._ops: list[Op] = []
        self._loops = 0
        jaxpr = open_jaxpr(level.jaxpr)
        arguments = [
            Value(_shape(v), _dtype(v), path=names(label) if label else None)
            for v, label in zip(jaxpr.invars, labels, strict=True)
        ]
        self.body = self._body(jaxpr, level, arguments, (), "", ())
        for op in reversed(self._ops):
            op.lives |= any(v.is_output or v.consumers for v in op.outputs)
            if op.lives:
                for value in op.inputs:
                    value.consumers.append(op)

    def _body(
        self,
        jaxpr: Any,
        level: Level | None,
        arguments: list[Value],
        operands: Sequence[int],
        inside: str,
        loops: tuple[Op, ...],
    ) -> Body:
        body = Body(arguments, operands)
        body.results = self._read(jaxpr, level, arguments, body, inside, loops)
        for value in body.results:
            value.is_output = True
        return body

    def _read(
        self,
        jaxpr: Any,
        level: Level | None,
        arguments: list[Value],
        body: Body,
        inside: str,
        loops: tuple[Op, ...],
    ) -> list[Value]:
        """The values of the results of a jaxpr; its operations and activations are appended."""
        env = dict(zip(jaxpr.invars, arguments, strict=True))
        for v in jaxpr.constvars:
            env[v] = Value(_shape(v), _dtype(v))
            body.constants.append(env[v])

        def get(atom: Any) -> Value:
            if is_literal(atom):
                return Value(_shape(atom), _dtype(atom), literal=atom.val)
            return env[atom]

        events: dict[int, Found | Nested] = {}
        for each in level.events if level is not None else ():
            covered = each.covered if isinstance(each, Found) else (each.position,)
            events.update((position, each) for position in covered)
        for position, equation in enumerate(jaxpr.eqns):
            event: Any = events.get(position)
            if isinstance(event, Found):
                # What it is made of is one operation, in the place of the last.
                env.update((v, Value(_shape(v), _dtype(v))) for v in equation.outvars)
                if position == event.position:
                    self._activation(jaxpr, event, env, get, body, inside, loops)
                continue
            inputs = [get(v) for v in equation.invars]
            call = calls.call_of(equation)
            nested = call.nested(equation) if call is not None else []
            levels = event.levels if event is not None else [None] * len(nested)
            if call is not None and (call.transparent or (event is not None and event.is_block)):
                given = [inputs[i] for i in nested[0].operands]
                results = self._read(
                    open_jaxpr(nested[0].jaxpr), levels[0], given, body, inside, loops
                )
                env.update(zip(equation.outvars, results, strict=True))
                continue
            outputs = [Value(_shape(v), _dtype(v)) for v in equation.outvars]
            env.update(zip(equation.outvars, outputs, strict=True))
            op = Op(0, name_of(equation), parameters_of(equation), inputs, outputs, equation)
            within = loops
            if call is not None and (call.steps or op.name == "while"):
                op.loop, self._loops = self._loops, self._loops + 1
                op.has_steps = _trains(nested)
                within = (*loops, op)
            for inner, of_inner in zip(nested, levels, strict=True):
                opened = open_jaxpr(inner.jaxpr)
                given = [Value(_shape(v), _dtype(v)) for v in opened.invars]
                around = inside or (call.written(equation) if call is not None else "")
                op.bodies.append(
                    self._body(opened, of_inner, given, inner.operands, around, within)
                )
            op.lives = bool(equation.effects)
            self._append(op, body)
        return [get(v) for v in jaxpr.outvars]

    def _activation(
        self,
        jaxpr: Any,
        found: Found,
        env: dict[Any, Value],
        get: Callable[[Any], Value],
        body: Body,
        inside: str,
        loops: tuple[Op, ...],
    ) -> None:
        equations = [jaxpr.eqns[position] for position in found.covered]
        made = [v for e in equations for v in e.outvars if v is not found.output]
        own = {found.output, *made}
        read = [get(v) for e in equations for v in e.invars if is_literal(v) or v not in own]
        outputs = [env[v] for v in (found.output, *made)]
        inputs = list(dict.fromkeys(read))
        op = Op(0, ACTIVATION, {}, inputs, outputs, found.equation, lives=True)
        self._append(op, body)
        given = [get(v) for v in found.inputs if hasattr(v, "aval")]
        self.nodes.append(Node(len(self.nodes), found.function.name, op, given, inside, loops))

    def _append(self, op: Op, body: Body) -> None:
        op.number = len(self._ops)
        for value in op.outputs:
            value.producer = op
        self._ops.append(op)
        body.ops.append(op)

    def reach(self, arguments: Sequence[Reach]) -> "Reached":
        """What reaches each activation.

        Args:
          arguments: of the model, in order: what each is.
        """
        spread = _Spread({id(node.op): node for node in self.nodes})
        results = spread.through(self.body, arguments)
        used = spread.used | _join(results).sites
        return Reached(spread.nodes, used)


def without_constants(level: Level, labels: Sequence[str]) -> tuple[Level, list[str]]:
    """A model's level with what it closes over as first arguments, whose labels are ""."""
    jaxpr = open_jaxpr(level.jaxpr)
    # From JAX 0.12 a jaxpr has the values that it closes over. As arguments they have none.
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    without = Level(jaxpr_of(jaxpr.eqns, inputs, jaxpr.outvars), level.events)
    return without, [*[""] * len(jaxpr.constvars), *labels]


def _trains(nested: Sequence[calls.Nested]) -> bool:
    """Whether a gradient is taken inside: each step may have parameters of its own then."""
    return any(is_backward(e) for n in nested for e in nested_equations(open_jaxpr(n.jaxpr)))


def _shape(v: Any) -> tuple[int, ...]:
    return tuple(getattr(v.aval, "shape", ()))


def _dtype(v: Any) -> Any:
    return getattr(v.aval, "dtype", None)


_KEY = re.compile(r"\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]|\[([^\]]*)\]|\.(\w+)")


def names(label: str) -> tuple[str, ...]:
    """The names in a path (``jax.tree_util.keystr``), without the ``.value`` of Flax's boxes."""
    found = tuple("".join(groups) for groups in _KEY.findall(label))
    return found[:-1] if label.endswith(".value") else found


# ------------------------------------------------------------------------------------------------
# What reaches what.


class Reached(NamedTuple):
    """What reaches the activations, and what they reach.

    Attributes:
      nodes: for each activation, what its arguments depend on.
      used: the activations that a result of the function, or an effect, depends on; bits.
    """

    nodes: list[Reach]
    used: int


def kind_of(dtype: Any) -> Reach:
    """What an array is that is no data: parameters, unless it is a mask or a key."""
    if dtype is None or dtype == jnp.bool_ or dtype == jnp.uint32:
        return NEITHER
    return NEITHER if jnp.issubdtype(dtype, jax.dtypes.extended) else PARAMETERS


def kind_of_data(dtype: Any, shape: Sequence[int]) -> Reach:
    """What an array is that is data: a key is what random numbers come from."""
    is_raw_key = dtype == jnp.uint32 and tuple(shape[-1:]) == (2,)
    is_key = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.extended)
    return RANDOM if is_raw_key or is_key else DATA


def _join(reaches: Sequence[Reach]) -> Reach:
    """What depends on all of these values."""
    data = parameters = random = gradient = False
    varies = apart = sites = 0
    for r in reaches:
        data |= r.data
        parameters |= r.parameters
        random |= r.random
        gradient |= r.gradient
        varies |= r.varies
        apart |= r.apart
        sites |= r.sites
    if parameters and not data:
        apart |= varies
    return Reach(data, parameters, random, gradient, varies, apart, sites)


class _Spread:
    """Spreads what a value depends on, in the order of execution; in loops, until it is stable."""

    def __init__(self, nodes: Mapping[int, Node]):
        self._nodes = nodes
        self.nodes = [Reach()] * len(nodes)
        self.used = 0
        #: The activations of which a value is the pre-activation, where derivatives read it too.
        self._before: dict[int, int] = {}
        for node in nodes.values():
            if _is_differentiated(node.op.equation):
                bits = self._before.get(id(node.x), 0)
                self._before[id(node.x)] = bits | 1 << node.number

    def through(self, body: Body, arguments: Sequence[Reach]) -> list[Reach]:
        """The reaches of a body's results."""
        for value, reach in zip(body.arguments, arguments, strict=True):
            value.reach = reach
        for value in body.constants:
            value.reach = kind_of(value.dtype)
        for op in body.ops:
            inputs = [v.reach for v in op.inputs]
            if op.loop >= 0 and op.name == "while":
                results = self._while(op, inputs)
            elif op.loop >= 0:
                results = self._scan(op, inputs)
            elif op.bodies:
                results = self._called(op, inputs)
            else:
                results = [self._at(op, _join(inputs))] * len(op.outputs)
            for value, reach in zip(op.outputs, results, strict=True):
                value.reach = reach
        return [v.reach for v in body.results]

    def _at(self, op: Op, joined: Reach) -> Reach:
        node = self._nodes.get(id(op))
        if node is not None:
            self.nodes[node.number] = _join([v.reach for v in node.inputs])
            joined = joined._replace(sites=joined.sites | 1 << node.number)
        elif _is_differentiated(op.equation):
            # What is returned may be a gradient alone: it depends on where the slope is 0.
            for value in op.inputs:
                sites = self._before.get(id(value), 0)
                joined = joined._replace(sites=joined.sites | sites)
        if is_backward(op.equation):
            joined = joined._replace(gradient=True)
        elif op.name in ("add", "add_any", "sub") and (trained := _trained(op)) is not None:
            joined = trained._replace(sites=joined.sites, gradient=True)
        if any(map(_is_seen, op.equation.effects)):
            self.used |= joined.sites
        if op.name in ("swap", "addupdate"):  # Into a reference.
            op.inputs[0].reach = joined
        return joined

    def _called(self, op: Op, inputs: list[Reach]) -> list[Reach]:
        """Of branches, and of functions with a derivative of their own."""
        read = {i for body in op.bodies for i in body.operands}
        others = _join([r for i, r in enumerate(inputs) if i not in read])
        of_all = [self.through(b, [inputs[i] for i in b.operands]) for b in op.bodies]
        if any(len(results) != len(op.outputs) for results in of_all):
            return [_join([*inputs, *(r for results in of_all for r in results)])] * len(op.outputs)
        joined = []
        for results in zip(*of_all, strict=True):
            origins = {r.origin for r in results}
            origin = origins.pop() if len(origins) == 1 else None
            joined.append(_join([*results, others])._replace(origin=origin))
        return joined

    def _scan(self, op: Op, inputs: list[Reach]) -> list[Reach]:
        (body,) = op.bodies
        bit = 1 << op.loop
        if "extensives" in op.params:
            return self._scan_of_references(op, body, inputs, bit)
        _, carried, scanned = calls.scan_operands(op.params, list(range(len(inputs))))
        given = list(inputs)
        for i in scanned:
            given[i] = _entering(inputs[i], bit)
        results = self._carried(op, body, given, carried, bit)
        ended = [
            _join([inputs[i], r])._replace(origin=inputs[i].origin if r.origin == (op, k) else None)
            for k, (i, r) in enumerate(zip(carried, results, strict=False))
        ]
        return [_leaving(r, bit) for r in (*ended, *results[len(carried) :])]

    def _carried(
        self, op: Op, body: Body, given: list[Reach], carried: Sequence[int], bit: int
    ) -> list[Reach]:
        """The results of a loop's body once what is carried does not change any more."""
        start = [given[i] for i in carried]
        # The reach of data first: an initial state of zeros, or one that is learned, is data from
        # the first step on. What is carried as it is does not vary.
        for k, i in enumerate(carried):
            given[i] = start[k]._replace(origin=(op, k))
        # Where a gradient is taken inside, weights that are carried stay weights.
        growing = [
            (k, i) for k, i in enumerate(carried) if not (op.has_steps and _is_weight(start[k]))
        ]
        while True:
            results = self.through(body, given)
            grown = [i for k, i in growing if results[k].has_data and not given[i].data]
            if not grown:
                break
            for i in grown:
                given[i] = given[i]._replace(data=True)
        changing = [(k, i) for k, i in enumerate(carried) if results[k].origin != (op, k)]
        for _, i in changing:
            given[i] = _entering(given[i], bit)
        while True:
            results = self.through(body, given)
            before = list(given)
            for k, i in changing:
                after = _join([given[i], results[k]])
                if not given[i].data and (k, i) not in growing:
                    after = after._replace(data=False)
                given[i] = _entering(after, bit)
            if given == before:
                break
        for k, i in changing:
            weights = _is_weight(start[k]) and given[i].data
            op.has_steps |= weights and _multiplies_data(body.arguments[i])
        return results

    def _scan_of_references(self, op: Op, body: Body, inputs: list[Reach], bit: int) -> list[Reach]:
        """The third version of scan carries values in references, which are constants."""
        constants = calls.constants_of_loop(op.equation)
        given = [r if i in constants else _entering(r, bit) for i, r in enumerate(inputs)]
        while True:
            results = self.through(body, given)
            after = [_join([g, v.reach]) for g, v in zip(given, body.arguments, strict=True)]
            if after == [_join([g]) for g in given]:
                break
            given = after
        for value, reach in zip(op.inputs, given, strict=True):
            value.reach = _leaving(reach, bit)
        return [_leaving(r, bit) for r in results]

    def _while(self, op: Op, inputs: list[Reach]) -> list[Reach]:
        condition, body = op.bodies
        given = [inputs[i] for i in body.operands]
        first = len(given) - len(op.outputs)
        carried = list(range(first, len(given)))
        results = self._carried(op, body, given, carried, 1 << op.loop)
        # How many steps there are depends on the condition.
        state = [_join([r, inputs[len(inputs) - len(results) + k]]) for k, r in enumerate(results)]
        constants = [inputs[i] for i in condition.operands[: len(condition.operands) - len(state)]]
        (goes_on,) = self.through(condition, [*constants, *state])
        return [_leaving(_join([r, goes_on]), 1 << op.loop) for r in state]


def _entering(reach: Reach, bit: int) -> Reach:
    """Of a value that differs from step to step."""
    return _join([reach._replace(varies=reach.varies | bit)])


def _leaving(reach: Reach, bit: int) -> Reach:
    return reach._replace(varies=reach.varies & ~bit, apart=reach.apart & ~bit)


def _is_weight(reach: Reach) -> bool:
    return reach.parameters and not reach.data


def _trained(op: Op) -> Reach | None:
    """What a parameter is after a step by a gradient: a parameter."""
    for value in op.inputs:
        others = [v for v in op.inputs if v is not value]
        if (
            _is_weight(value.reach)
            and value.shape == op.outputs[0].shape
            and any(v.reach.gradient for v in others)
        ):
            return _join([value.reach, *(v.reach._replace(data=False) for v in others)])
    return None


def _is_differentiated(equation: Any) -> bool:
    """Whether it belongs to a derivative, forward or backward."""
    return takes_derivative(equation) or is_backward(equation)


def _is_seen(effect: Any) -> bool:
    """Whether an effect is one that somebody sees; that of a named axis is none."""
    return type(effect).__name__ != "NamedAxisEffect"


def _multiplies_data(value: Value) -> bool:
    """Whether something that depends on data is multiplied by a value, as by weights."""
    seen = {value}
    waiting = [value]
    while waiting:
        value = waiting.pop()
        for op in value.consumers:
            if op.name in LAYERS:
                if any(v.reach.data and v not in seen for v in op.inputs):
                    return True
                continue
            moves = op.name in SAME | SHAPES | SLICES
            # Weights with noise, a mask or a scale.
            changes = op.name in ("add", "sub", "mul", "div") and op.outputs[0].shape == value.shape
            following = op.outputs if moves or changes else []
            for body in op.bodies:
                given = zip(body.operands, body.arguments, strict=True)
                following = [*following, *(v for i, v in given if op.inputs[i] is value)]
            waiting.extend(v for v in following if v not in seen)
            seen.update(following)
    return False
