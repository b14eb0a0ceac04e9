"""Checkpoints in which the blocks' weights have the names from before they were Flax's layers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

#: Of each block, the names of its weights and biases, and of the layers and their parameters.
_BLOCKS: tuple[dict[str, tuple[str, str]], ...] = (
    {
        "w_in": ("linear_in", "kernel"),
        "w_out": ("linear_out", "kernel"),
        "b_in": ("linear_in", "bias"),
        "b_out": ("linear_out", "bias"),
    },
    {"w_gate": ("gate", "kernel"), "w_up": ("up", "kernel"), "w_down": ("down", "kernel")},
)


def renamed(tree: Any) -> Any:
    """A checkpoint's tree with the names that the parameters of `MLP` and `GatedMLP` have now.

    They hold Flax's layers: what was ``w_in``, ``b_in``, ``w_out`` and ``b_out`` is ``kernel`` and
    ``bias`` of ``linear_in`` and ``linear_out``; ``w_gate``, ``w_up`` and ``w_down`` are the
    ``kernel`` of ``gate``, ``up`` and ``down``. The arrays are those of the tree, stacked layers
    and what optimisers keep of each parameter included.

    Args:
      tree: mappings (``dict``, ``FrozenDict``, ``nnx.State``), lists, tuples and dataclasses
        (optax's states, ``TrainState``), nested in any way. Any mapping with ``w_in`` and
        ``w_out``, or ``w_gate``, ``w_up`` and ``w_down``, is taken for a block; where a module of
        your own has such names, pass the parts of the tree that are jaxact's.

    Returns:
      A tree of the same types. What has today's names already is left as it is.

    Examples:
      >>> import numpy as np
      >>> saved = {"ffn": {"w_in": np.ones((4, 16)), "w_out": np.ones((16, 4))}}
      >>> now = renamed(saved)
      >>> now["ffn"]["linear_in"]["kernel"].shape, now["ffn"]["linear_out"]["kernel"].shape
      ((4, 16), (16, 4))
    """
    make: Any = type(tree)
    if isinstance(tree, Mapping):
        old = dict(tree)
        new = _with_layers({name: renamed(value) for name, value in old.items()})
        unchanged = new.keys() == old.keys() and all(new[name] is old[name] for name in old)
        return tree if unchanged else make(new)
    if isinstance(tree, list | tuple):
        values = [renamed(value) for value in tree]
        if all(a is b for a, b in zip(values, tree, strict=True)):
            return tree
        return make(*values) if hasattr(tree, "_fields") else make(values)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {f.name: getattr(tree, f.name) for f in dataclasses.fields(tree) if f.init}
        changes = {name: renamed(value) for name, value in fields.items()}
        changes = {name: value for name, value in changes.items() if value is not fields[name]}
        return dataclasses.replace(tree, **changes) if changes else tree
    return tree


def _with_layers(parameters: dict[Any, Any]) -> dict[Any, Any]:
    for names in _BLOCKS:
        if not all(name in parameters for name in names if name.startswith("w_")):
            continue
        for name, (layer, parameter) in names.items():
            value = parameters.pop(name, None)
            if value is not None:
                parameters[layer] = {**parameters.get(layer, {}), parameter: value}
    return parameters
