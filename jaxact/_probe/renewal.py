"""New weights for chosen units, and an optimizer's moments that begin again with them.

Which units is a mask that may be traced: `jaxact.revive` knows it, `jaxact.plasticity` computes it
inside ``jit``.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxact import initializers
from jaxact._probe.flow import names
from jaxact._probe.wiring import Leaf, Wiring
from jaxact._report.site import Place

#: What optimizers call their copies of the parameters, which start as these (optax: schedule_free,
#: prodigy, dog, mechanize, cocob, lbfgs). All else that has a parameter's shape starts at 0, but
_COPIES = ("z", "params0", "init_params", "x0", "init_particles")
#: what goes on as it is: 0 would be no step size (rprop), and no scale to divide by (cocob).
_KEPT = ("step_sizes", "scale")


@dataclasses.dataclass(frozen=True)
class Units:
    """Units of one activation that get new weights.

    Attributes:
      place: where the activation is.
      wiring: the parameters around it.
      mask: which units, an array of booleans, traced or not.
    """

    place: Place
    wiring: Wiring
    mask: Any


def opened(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The arrays of an NNX object, or the tree as it is; and how to give new ones back.

    An object is changed in place.
    """
    nnx = sys.modules.get("flax.nnx")
    if nnx is None or not isinstance(tree, nnx.Module | nnx.Optimizer):
        return tree, lambda new: new

    def close(new: Any) -> Any:
        nnx.update(tree, new)
        return tree

    return nnx.state(tree), close


class Parameters:
    """The parameters of a probed function, by the paths that its wirings have.

    Args:
      params: a tree of arrays.
      wirings: of the activations concerned.
      caller: whose name errors have.

    Raises:
      ValueError: ``params`` has not the parameters of the wirings.
    """

    def __init__(self, params: Any, wirings: Sequence[Wiring], caller: str):
        leaves, self._structure = jax.tree_util.tree_flatten_with_path(params)
        self.paths = [names(jax.tree_util.keystr(path)) for path, _ in leaves]
        self.values = [leaf for _, leaf in leaves]
        self._positions = {path: i for i, path in enumerate(self.paths)}
        self._shapes = {path: np.shape(self.values[i]) for path, i in self._positions.items()}
        self._caller = caller
        weights = [leaf for w in wirings for leaf in (w.incoming, *w.outgoing)]
        self._start = _start(weights, self._shapes, caller) if weights else ()

    def position(self, leaf: Leaf) -> int | None:
        """Where a parameter is in `values`; None for one of another argument."""
        # A vector that is no parameter, such as a running sum, may be another argument.
        if leaf.path[: len(self._start)] != self._start:
            return None
        return self._positions[_checked(leaf, self._start, self._shapes, self._caller)]

    def weights(self, leaf: Leaf) -> int:
        """Where the weights of a layer are in `values`."""
        position = self.position(leaf)
        assert position is not None
        return position

    def around(self, wiring: Wiring) -> set[int]:
        """Where all the parameters around an activation are."""
        leaves = (wiring.incoming, *wiring.shifts, *wiring.scales, *wiring.outgoing)
        positions = map(self.position, leaves)
        return {position for position in positions if position is not None}

    def tree(self, values: Sequence[Any]) -> Any:
        """New values in the structure of ``params``."""
        return jax.tree.unflatten(self._structure, values)


@dataclasses.dataclass(frozen=True)
class Renewed:
    """Parameters some of which are new.

    Attributes:
      values: all of them, in the order of `Parameters.values`.
      changed: for the position of each parameter concerned, where it has new values.
    """

    values: list[Any]
    changed: dict[int, Any]


def renew(parameters: Parameters, chosen: Sequence[Units], key: jax.Array) -> Renewed:
    """Units' incoming weights drawn anew, their outgoing ones 0, biases 0, and scales 1."""
    values = list(parameters.values)
    changed: dict[int, Any] = {}

    def change(leaf: Leaf, mask: Any, new: Any) -> None:
        i = parameters.position(leaf)
        if i is None:
            return
        units = np.arange(leaf.shape[leaf.axis]) // leaf.inner % mask.size
        others = [axis for axis in range(len(leaf.shape)) if axis != leaf.axis]
        entries = _xp(mask).expand_dims(mask[units], others)
        values[i] = _where(entries, new, values[i])
        changed[i] = entries if i not in changed else changed[i] | entries

    # Incoming weights last: they may come from units whose outgoing weights are now 0.
    for units in chosen:
        for leaf in units.wiring.outgoing:
            change(leaf, units.mask, 0)
    for units in chosen:
        leaf = units.wiring.incoming
        dtype = values[parameters.weights(leaf)].dtype
        place = units.place
        new = _draw(place.function, leaf, dtype, jax.random.fold_in(key, place.index))
        change(leaf, units.mask, new)
        for leaf in units.wiring.shifts:
            change(leaf, units.mask, 0)
        for leaf in units.wiring.scales:
            change(leaf, units.mask, 1)
    return Renewed(values, changed)


def _draw(function: str, leaf: Leaf, dtype: Any, key: jax.Array) -> jax.Array:
    """New incoming weights for all units."""
    inputs = [axis for axis in range(len(leaf.shape)) if axis != leaf.axis]
    try:
        return initializers.he_normal(inputs, leaf.axis, activation=function)(
            key, leaf.shape, dtype
        )
    except ValueError:  # It has no gain without its parameters.
        return initializers.lecun_normal(inputs, leaf.axis)(key, leaf.shape, dtype)


def _where(mask: Any, new: Any, old: Any) -> jax.Array:
    """``new`` where the mask is, of the dtype and the sharding of ``old``."""
    result = jnp.where(mask, jnp.asarray(new, old.dtype), old)
    # Not committed to a device where it was not: jitted functions would compile again.
    placed = isinstance(old, jax.Array) and not isinstance(result, jax.core.Tracer)
    if placed and result.sharding != old.sharding:
        result = jax.device_put(result, old.sharding)
    return result


def _xp(array: Any) -> Any:
    return jnp if isinstance(array, jax.Array) else np


# ------------------------------------------------------------------------------------------------
# The moments.


class Moments:
    """The arrays in an optimizer's state that belong to parameters.

    They are found by path and shape: the path ends as that of their parameter.

    Args:
      opt_state: the state of an optax optimizer.
      parameters: its parameters, or a tree with them.
      caller: whose name errors have.

    Attributes:
      values: the leaves of the state.
      owners: for the position of each such array in `values`, that of its parameter.

    Raises:
      ValueError: there are arrays in the state, but none by the path of a parameter.
    """

    def __init__(self, opt_state: Any, parameters: Parameters, caller: str):
        leaves, self._structure = jax.tree_util.tree_flatten_with_path(opt_state)
        self.values = [leaf for _, leaf in leaves]
        self.owners: dict[int, int] = {}
        self._copies: set[int] = set()
        paths = [names(jax.tree_util.keystr(path)) for path, _ in leaves]
        # lbfgs's copy is called as Linen's dict is, but is an attribute.
        fields = [{_field(key) for key in path} for path, _ in leaves]
        arrays = [i for i, value in enumerate(self.values) if np.ndim(value)]
        named = False
        for shortened in _shortened(parameters.paths):
            by_path = {path: i for i, path in enumerate(shortened)}
            for i in arrays:
                path = paths[i]
                start = next((k for k in range(len(path) + 1) if path[k:] in by_path), None)
                if start is None:
                    continue
                named = True
                owner = by_path[path[start:]]
                if np.shape(self.values[i]) == np.shape(parameters.values[owner]):
                    if start and path[start - 1] in _KEPT:
                        continue
                    self.owners[i] = owner
                    if (start and path[start - 1] in _COPIES) or "params" in fields[i]:
                        self._copies.add(i)
            if named and not (self.owners or any(map(_is_factored, fields))):
                raise ValueError(
                    f"{caller}: opt_state has moments by the paths of params, but none of their "
                    "shapes. Pass the state of the optimizer of these params."
                )
            if named:
                return
        if arrays:
            known = ", ".join(_shown(paths[i]) for i in arrays[:20])
            raise ValueError(
                f"{caller}: opt_state has no moments of params by their paths. It has {known}"
                f"{', ...' if len(arrays) > 20 else ''}. Pass the state of the optimizer of these "
                "params."
            )

    def restarted(self, renewed: Renewed) -> list[Any]:
        """The leaves of the state; where parameters are new, as the optimizer would start."""
        values = list(self.values)
        for i, owner in self.owners.items():
            if owner in renewed.changed:
                new = renewed.values[owner] if i in self._copies else 0
                values[i] = _where(renewed.changed[owner], new, values[i])
        return values

    def tree(self, values: Sequence[Any]) -> Any:
        """New leaves in the structure of the state."""
        return jax.tree.unflatten(self._structure, values)


def _field(key: Any) -> str | None:
    """The name of a field of a state, by the key in a path."""
    return key.name if isinstance(key, jax.tree_util.GetAttrKey) else None


def _is_factored(fields: set[str | None]) -> bool:
    """Whether moments are those of rows and columns, as adafactor's."""
    return not fields.isdisjoint(("v_row", "v_col"))


def _shortened(paths: Sequence[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """The paths, and those of an optimizer that has the ``params`` of Linen's variables alone."""
    yield list(paths)
    if any(path[:1] == ("params",) for path in paths):
        # What is not among them keeps its path, so that positions stay.
        yield [path[1:] if path[:1] == ("params",) else path for path in paths]


# ------------------------------------------------------------------------------------------------
# Which parameters: the arguments of the probed function have paths, of which those in ``params``
# are the ends.


_Shapes = Mapping[tuple[str, ...], tuple[int, ...]]


def _start(leaves: Sequence[Leaf], shapes: _Shapes, caller: str) -> tuple[str, ...]:
    """The part of the paths before that of ``params``."""
    first = leaves[0].path
    starts = [first[:length] for length in range(len(first) + 1)]
    fitting = [s for s in starts if all(_fits(leaf, s, shapes) for leaf in leaves)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        ends = " or ".join(_shown(first[len(s) :]) for s in fitting)
        raise ValueError(
            f"{caller}: it is ambiguous which of params is {_shown(first)} of the probed function: "
            f"{ends}. Pass all that the function was called with."
        )
    # The best guess, for the message.
    start = max(starts, key=lambda s: sum(_after(leaf, s) in shapes for leaf in leaves))
    for leaf in leaves:
        _checked(leaf, start, shapes, caller)
    raise AssertionError


def _after(leaf: Leaf, start: tuple[str, ...]) -> tuple[str, ...] | None:
    return leaf.path[len(start) :] if leaf.path[: len(start)] == start else None


def _fits(leaf: Leaf, start: tuple[str, ...], shapes: _Shapes) -> bool:
    path = _after(leaf, start)
    return path is not None and shapes.get(path) == leaf.shape


def _checked(leaf: Leaf, start: tuple[str, ...], shapes: _Shapes, caller: str) -> tuple[str, ...]:
    """The path of a parameter in ``params``."""
    path = leaf.path[len(start) :]
    if path not in shapes or leaf.path[: len(start)] != start:
        known = ", ".join(map(_shown, list(shapes)[:20])) or "nothing"
        more = ", ..." if len(shapes) > 20 else ""
        raise ValueError(
            f"{caller}: params has no {_shown(leaf.path)}, an argument of the probed function by "
            f"its path. It has {known}{more}."
        )
    if shapes[path] != leaf.shape:
        raise ValueError(
            f"{caller}: {_shown(path)} of params has shape {shapes[path]}, and {leaf.shape} in the "
            "probed function."
        )
    return path


def _shown(path: tuple[str, ...]) -> str:
    return "/".join(path) or "(itself)"
