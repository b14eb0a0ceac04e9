"""What feeds an activation's units, and what reads them: the parameters for `jaxact.revive`.

The jaxpr is read as one flat graph. From the layer before an activation, each unit is followed to
the pre-activation, and from the activation to the layers that read it. A unit can be given other
weights if nothing but these layers depends on it, and if 0 is all that they read of it.
"""

import dataclasses
import functools
import heapq
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxact._jaxprs import calls
from jaxact._jaxprs.structure import (
    is_literal,
    jaxpr_of,
    name_of,
    open_jaxpr,
    parameters_of,
    subjaxprs,
)
from jaxact._probe.sites import Found, Level, Nested
from jaxact._report.site import Place


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A parameter, and where the units are in it.

    Along the axis, the unit of index i is ``i // inner % units``.

    Attributes:
      path: the names of its path in the arguments of the traced function.
      shape: its shape.
      axis: the axis of the units.
      inner: how many neighbours along it are of one unit.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    axis: int
    inner: int = 1


@dataclasses.dataclass(frozen=True)
class Wiring:
    """The parameters around an activation.

    Attributes:
      incoming: the weights of the layer before it.
      shifts: the vectors that are added on the way, such as biases.
      scales: the vectors that are multiplied.
      outgoing: the weights of the layers that read it.
    """

    incoming: Leaf
    shifts: tuple[Leaf, ...]
    scales: tuple[Leaf, ...]
    outgoing: tuple[Leaf, ...]


class Wirings:
    """The wiring of each activation of a model, or why it has none: computed when it is asked for.

    Args:
      level: the model's jaxpr. What it closes over is not kept.
      labels: where each of its arguments is in the arguments of the model.
      places: of the activations.
    """

    def __init__(self, level: Level, labels: Sequence[str], places: Sequence[Place]):
        jaxpr = open_jaxpr(level.jaxpr)
        # From JAX 0.12 a jaxpr has the values that it closes over. As arguments they have none.
        inputs = [*jaxpr.constvars, *jaxpr.invars]
        without = Level(jaxpr_of(jaxpr.eqns, inputs, jaxpr.outvars), level.events)
        self._model = without, [*[""] * len(jaxpr.constvars), *labels], places

    def __getitem__(self, index: int) -> Wiring | str:
        return self._of_all[index]

    @functools.cached_property
    def _of_all(self) -> list[Wiring | str]:
        level, labels, places = self._model
        sites = _Flat(level, labels).sites
        return [
            place.fixed or _wiring(site, place.axis)
            for site, place in zip(sites, places, strict=True)
        ]

    def __getstate__(self) -> Any:
        """What copies and pickles are made from: the wirings, without the jaxpr."""
        return {"_of_all": self._of_all}


class _Unwired(Exception):  # noqa: N818
    """Why an activation has no wiring."""


# ------------------------------------------------------------------------------------------------
# The graph.


@dataclasses.dataclass(eq=False)
class _Value:
    """An array. Without a producer it is an argument, with a path, or a constant."""

    shape: tuple[int, ...]
    producer: "_Op | None" = None
    path: tuple[str, ...] | None = None
    literal: Any = None
    is_output: bool = False
    consumers: list["_Op"] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False)
class _Op:
    """An equation, or an activation, whose first result is its output."""

    number: int
    name: str
    params: Mapping[str, Any]
    inputs: list[_Value]
    outputs: list[_Value]
    lives: bool = False

    def __lt__(self, other: "_Op") -> bool:
        return self.number < other.number


@dataclasses.dataclass(eq=False)
class _Site:
    op: _Op
    x: _Value

    @property
    def y(self) -> _Value:
        return self.op.outputs[0]


_ACTIVATION = "an activation"


class _Flat:
    """The operations of a model.

    Args:
      level: the model's jaxpr.
      labels: where each of its arguments is in those of the model; "" for what is closed over.

    Attributes:
      sites: the activations in order, each of them or why it is out of reach.
    """

    def __init__(self, level: Level, labels: Sequence[str]):
        self.ops: list[_Op] = []
        self.sites: list[_Site | str] = []
        jaxpr = open_jaxpr(level.jaxpr)
        arguments = [
            _Value(v.aval.shape, path=names(label) if label else None)
            for v, label in zip(jaxpr.invars, labels, strict=True)
        ]
        for value in self._read(jaxpr, level, arguments):
            value.is_output = True
        for op in reversed(self.ops):
            op.lives |= any(v.is_output or v.consumers for v in op.outputs)
            if op.lives:
                for value in op.inputs:
                    value.consumers.append(op)

    def _read(self, jaxpr: Any, level: Level | None, arguments: list[_Value]) -> list[_Value]:
        """The values of the results of a jaxpr; its operations and activations are appended."""
        env = dict(zip(jaxpr.invars, arguments, strict=True))
        env.update((v, _Value(v.aval.shape)) for v in jaxpr.constvars)

        def get(atom: Any) -> _Value:
            return _Value(atom.aval.shape, literal=atom.val) if is_literal(atom) else env[atom]

        events: dict[int, Found | Nested] = {}
        for each in level.events if level is not None else ():
            covered = each.covered if isinstance(each, Found) else (each.position,)
            events.update((position, each) for position in covered)
        for position, equation in enumerate(jaxpr.eqns):
            event: Any = events.get(position)
            if isinstance(event, Found):
                # What it is made of is one operation, in the place of the last.
                env.update((v, _Value(v.aval.shape)) for v in equation.outvars)
                if position == event.position:
                    self._activation(jaxpr, event, env, get)
                continue
            inputs = [get(v) for v in equation.invars]
            inner = _called(equation, event)
            if inner is not None:
                nested = event.levels[0] if event is not None else None
                given = [inputs[i] for i in inner.operands]
                results = self._read(open_jaxpr(inner.jaxpr), nested, given)
                env.update(zip(equation.outvars, results, strict=True))
                continue
            if event is not None:
                self.sites += [f"it is inside {event.call.written(equation)}"] * event.count
            outputs = [_Value(v.aval.shape) for v in equation.outvars]
            op = self._append(name_of(equation), parameters_of(equation), inputs, outputs)
            op.lives = bool(equation.effects)
            env.update(zip(equation.outvars, outputs, strict=True))
        return [get(v) for v in jaxpr.outvars]

    def _activation(
        self, jaxpr: Any, found: Found, env: dict[Any, _Value], get: Callable[[Any], _Value]
    ) -> None:
        equations = [jaxpr.eqns[position] for position in found.covered]
        made = [v for e in equations for v in e.outvars if v is not found.output]
        own = {found.output, *made}
        read = [get(v) for e in equations for v in e.invars if is_literal(v) or v not in own]
        outputs = [env[v] for v in (found.output, *made)]
        op = self._append(_ACTIVATION, {}, list(dict.fromkeys(read)), outputs)
        op.lives = True
        self.sites.append(_Site(op, get(found.inputs[0])))

    def _append(
        self, name: str, params: Mapping[str, Any], inputs: list[_Value], outputs: list[_Value]
    ) -> _Op:
        op = _Op(len(self.ops), name, params, inputs, outputs)
        for value in outputs:
            value.producer = op
        self.ops.append(op)
        return op


def _called(equation: Any, event: Nested | None) -> calls.Nested | None:
    """The jaxpr of an equation that is looked through."""
    call = calls.call_of(equation)
    if call is None or not (call.transparent or (event is not None and event.is_block)):
        return None
    return call.nested(equation)[0]


_KEY = re.compile(r"\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]|\[([^\]]*)\]|\.(\w+)")


def names(label: str) -> tuple[str, ...]:
    """The names in a path (``jax.tree_util.keystr``), without the ``.value`` of Flax's boxes."""
    found = tuple("".join(groups) for groups in _KEY.findall(label))
    return found[:-1] if label.endswith(".value") else found


# ------------------------------------------------------------------------------------------------
# Where the units of an array are.


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Along the axis, the unit of index i is ``i // inner % units``."""

    axis: int
    inner: int = 1


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SAME = _words(
    "convert_element_type reduce_precision copy copy_p pvary pcast reshard sharding_constraint "
    "name stop_gradient"
)
_SHAPES = _words("reshape squeeze expand_dims broadcast_in_dim transpose")
_ELEMENTWISE = _words(
    "add add_any sub mul div rem max min neg sign abs square integer_pow pow sqrt rsqrt cbrt exp "
    "exp2 expm1 log log1p logistic tanh sinh cosh sin cos tan atan2 erf erfc floor ceil round "
    "clamp select_n lt le gt ge eq ne and or xor not is_finite"
)
_REDUCTIONS = _words("reduce_sum reduce_max reduce_min reduce_prod")
_WINDOWS = _words("reduce_window_sum reduce_window_max reduce_window_min")
_SCATTER = "scatter-add"
#: Of one argument, 0 at 0.
_ZERO_AT_ZERO = _words(
    "neg sign abs square sqrt cbrt expm1 log1p tanh sinh sin tan erf floor ceil round"
)


def _moved(op: _Op, layout: _Layout, units: int) -> _Layout:
    """Where the units are after a change of shape."""
    before, after = op.inputs[0].shape, op.outputs[0].shape
    if op.name == "broadcast_in_dim":
        return _Layout(op.params["broadcast_dimensions"][layout.axis], layout.inner)
    if op.name == "transpose":
        return _Layout(tuple(op.params["permutation"]).index(layout.axis), layout.inner)
    if op.name not in _SHAPES:
        return layout
    # In memory, the unit is (position // stride) % units, before and after.
    stride = layout.inner * math.prod(before[layout.axis + 1 :])
    for axis in reversed(range(len(after))):
        below = math.prod(after[axis + 1 :])
        if below and stride % below == 0 and after[axis] % (stride // below * units) == 0:
            return _Layout(axis, stride // below)
    raise _Unwired("is reshaped such that a unit is no longer at one place of an axis")


def _passed(op: _Op, cone: dict[_Value, _Layout], units: int) -> _Layout:
    """Where the units are in the result of an operation that does not mix them."""
    if op.name == _SCATTER:
        return _scattered(op, cone)
    layouts = {cone[v] for v in op.inputs if v in cone}
    if len(layouts) == 1:
        (layout,) = layouts
        axis = layout.axis
        first = op.inputs[0] in cone
        before, after = op.inputs[0].shape, op.outputs[0].shape
        if op.name in _SAME or (op.name in _SHAPES and first):
            return _moved(op, layout, units)
        if op.name in _ELEMENTWISE:
            return layout
        if op.name in _REDUCTIONS:
            if axis in op.params["axes"]:
                raise _Unwired("is reduced over the units, as in a layer normalization")
            return _Layout(axis - sum(a < axis for a in op.params["axes"]), layout.inner)
        windows = op.params["window_dimensions"] if op.name in _WINDOWS else ()
        if windows and windows[axis] == 1 and before[axis] == after[axis]:
            return layout
        if op.name in ("slice", "dynamic_slice") and first and before[axis] == after[axis]:
            return layout
        if op.name == "gather" and first and op.params["slice_sizes"][axis] == before[axis]:
            return _gathered(op, layout)
        if op.name == "concatenate" and op.params["dimension"] != axis:
            return layout
        if op.name == "pad" and first and tuple(op.params["padding_config"][axis]) == (0, 0, 0):
            return layout
    raise _Unwired(f"goes into {op.name}")


def _gathered(op: _Op, layout: _Layout) -> _Layout:
    """Where the units are in slices that have all of them, as of ``x[:, 0]``."""
    numbers = op.params["dimension_numbers"]
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    if layout.axis in gone:
        raise _Unwired("goes into gather")
    kept = [axis for axis in range(len(op.inputs[0].shape)) if axis not in gone]
    return _Layout(numbers.offset_dims[kept.index(layout.axis)], layout.inner)


def _scattered(op: _Op, cone: dict[_Value, _Layout]) -> _Layout:
    """Where the units are in a sum of rows that have all of them, as of ``segment_sum``."""
    operand, where, rows = op.inputs
    numbers = op.params["dimension_numbers"]
    gone = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    kept = [axis for axis in range(len(operand.shape)) if axis not in gone]
    layouts = {cone[operand]} if operand in cone else set()
    if rows in cone and cone[rows].axis in numbers.update_window_dims:
        layout = cone[rows]
        axis = kept[numbers.update_window_dims.index(layout.axis)]
        layouts.add(_Layout(axis, layout.inner))
    elif rows in cone:
        layouts.clear()
    if len(layouts) == 1 and where not in cone:
        (layout,) = layouts
        # Whole, and not put anywhere but where it is.
        in_window = layout.axis in kept and layout.axis not in numbers.scatter_dims_to_operand_dims
        if in_window:
            window = numbers.update_window_dims[kept.index(layout.axis)]
            if rows.shape[window] == operand.shape[layout.axis]:
                return layout
    raise _Unwired(f"goes into {op.name}")


def _keeps_zero(op: _Op, cone: dict[_Value, _Layout]) -> bool:
    """Whether what is 0 in the arguments is 0 in the result of an operation that `_passed`."""
    if op.name in ("add", "add_any", "sub", "max", "min", "concatenate"):
        return all(v in cone or _is_zero(v) for v in op.inputs)
    if op.name == "div":
        return op.inputs[1] not in cone
    if op.name == "select_n":
        which, *cases = op.inputs
        return which not in cone and all(v in cone or _is_zero(v) for v in cases)
    if op.name == "integer_pow":
        return bool(op.params["y"] > 0)
    if op.name == "pad":
        return _is_zero(op.inputs[1])
    if op.name == _SCATTER:
        return all(v in cone or _is_zero(v) for v in (op.inputs[0], op.inputs[2]))
    return op.name == "mul" or op.name in _ZERO_AT_ZERO or op.name not in _ELEMENTWISE


def _is_zero(value: _Value) -> bool:
    while value.producer is not None and value.producer.name in _SAME | _SHAPES:
        value = value.producer.inputs[0]
    return value.literal is not None and value.shape == () and bool(value.literal == 0)


# ------------------------------------------------------------------------------------------------
# From layer to activation to layer.


def _wiring(site: _Site | str, axis: int) -> Wiring | str:
    if isinstance(site, str):
        return site
    if not site.x.shape:
        return "it is a scalar"
    layout = _Layout(axis % len(site.x.shape))
    try:
        if any(v.consumers or v.is_output for v in site.op.outputs[1:]):
            raise _Unwired("a part of its computation is used elsewhere too")
        incoming, shifts, scales = _incoming(site, layout)
        return Wiring(incoming, shifts, scales, _outgoing(site, layout))
    except _Unwired as why:
        return str(why)


_LAYERS = ("dot_general", "conv_general_dilated")
_CLOSED_OVER = (
    "the weights of the layer {} are no argument of the probed function: pass them to it instead "
    "of closing over them"
)


def _incoming(site: _Site, layout: _Layout) -> tuple[Leaf, tuple[Leaf, ...], tuple[Leaf, ...]]:
    layer = _layer_before(site.x)
    failure = _Unwired("the weights of the layer before it are computed")
    for operand in (1, 0):
        try:
            weights = _parameter(layer.inputs[operand], "before it")
            axis, start = _output_axis(layer, operand)
            leaf = weights.leaf(axis)
            return leaf, *_to_activation(site, layer.outputs[0], start, layout)
        except _Unwired as why:
            if operand == 1:
                failure = why
    raise failure


def _layer_before(x: _Value) -> _Op:
    """The one layer that a pre-activation comes from."""
    layers: list[_Op] = []
    seen = {x}
    waiting = [x]
    while waiting and len(layers) < 2:
        op = waiting.pop().producer
        if op is None or op in layers:
            continue
        # A scatter-add has a jaxpr too: of its addition.
        calls_others = any(subjaxprs(op.params)) and op.name != _SCATTER
        if op.name in _LAYERS or op.name == _ACTIVATION or calls_others:
            layers.append(op)
            continue
        waiting.extend(v for v in op.inputs if v not in seen)
        seen.update(op.inputs)
    if len(layers) > 1:
        raise _Unwired("its pre-activation comes from several layers, as in a residual connection")
    if not layers:
        raise _Unwired("there is no layer before it")
    if layers[0].name not in _LAYERS:
        raise _Unwired(f"its pre-activation comes from {layers[0].name}, not from a layer")
    return layers[0]


@dataclasses.dataclass(frozen=True)
class _Parameter:
    """An argument that a layer reads, and the argument's axis for each that the layer sees."""

    value: _Value
    axes: tuple[int, ...]

    def leaf(self, axis: int, inner: int = 1) -> Leaf:
        assert self.value.path is not None
        return Leaf(self.value.path, tuple(self.value.shape), self.axes[axis], inner)


def _parameter(value: _Value, which: str) -> _Parameter:
    axes = tuple(range(len(value.shape)))
    shared = False
    while value.producer is not None and value.producer.name in _SAME | {"transpose"}:
        shared |= len(value.consumers) > 1 or value.is_output
        op = value.producer
        if op.name == "transpose":
            axes = tuple(op.params["permutation"][axis] for axis in axes)
        value = op.inputs[0]
    if value.producer is not None:
        raise _Unwired(f"the weights of the layer {which} are computed")
    if value.path is None:
        raise _Unwired(_CLOSED_OVER.format(which))
    if shared or len(value.consumers) > 1:
        raise _Unwired(f"the weights of the layer {which} are used elsewhere too")
    return _Parameter(value, axes)


def _output_axis(layer: _Op, operand: int) -> tuple[int, _Layout]:
    """The axis of a layer's units in its weights, and in its result."""
    if layer.name == "conv_general_dilated":
        numbers = layer.params["dimension_numbers"]
        if operand == 0 or layer.params["batch_group_count"] != 1:
            raise _Unwired("its pre-activation comes from an unusual convolution")
        return numbers.rhs_spec[0], _Layout(numbers.out_spec[1])
    contracted, batch = layer.params["dimension_numbers"]
    free = _free(layer, operand)
    if batch[0] or len(free) != 1 or not contracted[0]:
        raise _Unwired("the weights of the layer before it are not of one model and one axis")
    return free[0], _Layout(len(_free(layer, 0)) if operand == 1 else 0)


def _free(dot: _Op, operand: int) -> list[int]:
    """The axes of an operand that the result of a dot_general has, batch axes apart."""
    contracted, batch = dot.params["dimension_numbers"]
    taken = (*contracted[operand], *batch[operand])
    return [axis for axis in range(len(dot.inputs[operand].shape)) if axis not in taken]


def _to_activation(
    site: _Site, z: _Value, start: _Layout, end: _Layout
) -> tuple[tuple[Leaf, ...], tuple[Leaf, ...]]:
    """Follow units from a layer to the activation: what is added to them, and multiplied."""
    units = site.x.shape[end.axis]
    if z.shape[start.axis] != units:
        raise _Unwired("its units are not those of the layer before it")
    shifts: list[Leaf] = []
    scales: list[Leaf] = []
    kinds = {"add": (shifts, ()), "add_any": (shifts, ()), "mul": (scales, ("mul",))}

    def visit(op: _Op, cone: dict[_Value, _Layout]) -> _Layout | None:
        if op is site.op:
            return None
        try:
            layout = _passed(op, cone, units)
        except _Unwired as why:
            raise _Unwired(f"the output of the layer before it {why}") from None
        if op.name in kinds:
            leaves, through = kinds[op.name]
            for value in (v for v in op.inputs if v not in cone):
                vectors = _vectors(value, units, through)
                leaves.extend(leaf for leaf, where in vectors if where == layout)
        if op.outputs[0].is_output and not _is_running_average(op, cone, units):
            raise _Unwired("the output of the layer before it is also a result of the function")
        return layout

    if z.is_output:
        raise _Unwired("the output of the layer before it is also a result of the function")
    cone = _follow(z, start, visit)
    if cone.get(site.x) != end:
        raise _Unwired("its units are not those of the layer before it")
    return tuple(dict.fromkeys(shifts)), tuple(dict.fromkeys(scales))


def _follow(
    value: _Value,
    layout: _Layout,
    visit: Callable[[_Op, dict[_Value, _Layout]], _Layout | None],
) -> dict[_Value, _Layout]:
    """Visit all that depends on a value, in order; where the units are in each array.

    ``visit`` returns where they are in an operation's result, or None where that is not followed.
    """
    cone = {value: layout}
    waiting = list(dict.fromkeys(value.consumers))
    heapq.heapify(waiting)
    seen = set(waiting)
    while waiting:
        op = heapq.heappop(waiting)
        after = visit(op, cone)
        if after is None:
            continue
        cone[op.outputs[0]] = after
        for consumer in op.outputs[0].consumers:
            if consumer not in seen:
                seen.add(consumer)
                heapq.heappush(waiting, consumer)
    return cone


def _vectors(
    value: _Value, units: int, through: tuple[str, ...] = ()
) -> Iterator[tuple[Leaf, _Layout]]:
    """The arguments with a number for each unit that a value is, or is the product of."""
    op = value.producer
    if len(value.consumers) != 1:
        return
    if op is None:
        if value.path is not None and value.shape and math.prod(value.shape) == units:
            axis = value.shape.index(units)
            yield Leaf(value.path, tuple(value.shape), axis), _Layout(axis)
    elif op.name in through:
        for factor in op.inputs:
            yield from _vectors(factor, units, through)
    elif op.name in _SAME | _SHAPES:
        for leaf, layout in _vectors(op.inputs[0], units, through):
            try:
                yield leaf, _moved(op, layout, units)
            except _Unwired:
                continue


def _is_running_average(op: _Op, cone: dict[_Value, _Layout], units: int) -> bool:
    """Whether it is a statistic of each unit, averaged with an argument: batch normalization's."""
    while op.name in _SAME and op.inputs[0].producer is not None:
        op = op.inputs[0].producer
    if op.name not in ("add", "add_any") or math.prod(op.outputs[0].shape) != units:
        return False
    for value in op.inputs:
        while value not in cone and value.producer is not None:
            terms = [v for v in value.producer.inputs if v.literal is None]
            if value.producer.name not in _SAME | {"mul"} or len(terms) != 1:
                break
            (value,) = terms
        if value not in cone and value.path is not None:
            return True
    return False


def _outgoing(site: _Site, layout: _Layout) -> tuple[Leaf, ...]:
    """The weights of all that reads an activation."""
    units = site.y.shape[layout.axis]
    leaves: list[Leaf] = []

    def visit(op: _Op, cone: dict[_Value, _Layout]) -> _Layout | None:
        if op.name in _LAYERS:
            found = _read_by(op, cone)
            if isinstance(found, Leaf):
                leaves.append(found)
                return None
            after = found
        else:
            try:
                after = _passed(op, cone, units)
            except _Unwired as why:
                raise _Unwired(f"its output {why}") from None
            if not _keeps_zero(op, cone):
                if op.name in ("add", "add_any") and all(v.literal is None for v in op.inputs):
                    raise _Unwired(
                        "its output is added to something else, as in a residual connection"
                    )
                raise _Unwired(
                    f"its output goes into {op.name}, which does not keep zeros as they are"
                )
        if op.outputs[0].is_output:
            raise _Unwired("its output is a result of the function")
        return after

    if site.y.is_output:
        raise _Unwired("its output is a result of the function")
    _follow(site.y, layout, visit)
    if not leaves:
        raise _Unwired("no layer reads its output")
    return tuple(leaves)


def _read_by(layer: _Op, cone: dict[_Value, _Layout]) -> Leaf | _Layout:
    """The weights that a layer reads units with; where they are in its result if it keeps them."""
    tracked = [i for i in (0, 1) if layer.inputs[i] in cone]
    if len(tracked) != 1:
        raise _Unwired("its output is multiplied by itself")
    (operand,) = tracked
    layout = cone[layer.inputs[operand]]
    if layer.name == "conv_general_dilated":
        numbers = layer.params["dimension_numbers"]
        if operand != 0 or layout.axis != numbers.lhs_spec[1]:
            raise _Unwired("its output goes into an unusual convolution")
        if layer.params["feature_group_count"] != 1 or layer.params["batch_group_count"] != 1:
            raise _Unwired("its output goes into a grouped convolution")
        return _parameter(layer.inputs[1], "behind it").leaf(numbers.rhs_spec[1], layout.inner)
    contracted, batch = layer.params["dimension_numbers"]
    if layout.axis in contracted[operand]:
        if batch[0]:
            raise _Unwired("the weights of the layer behind it are not of one model")
        axis = contracted[1 - operand][contracted[operand].index(layout.axis)]
        return _parameter(layer.inputs[1 - operand], "behind it").leaf(axis, layout.inner)
    if layout.axis in batch[operand]:
        raise _Unwired("its output goes into a product for each unit")
    before = len(batch[0]) + (len(_free(layer, 0)) if operand == 1 else 0)
    return _Layout(before + _free(layer, operand).index(layout.axis), layout.inner)
