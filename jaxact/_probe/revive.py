"""`jaxact.revive`: new weights for units that are dead."""

import dataclasses
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxact import initializers
from jaxact._probe.flow import names
from jaxact._probe.wiring import Leaf, Wiring
from jaxact._report.remedies import why_not_revived
from jaxact._report.report import Report
from jaxact._report.site import OF_PARAMETERS, UNUSED, Place


def revive(params: Any, report: Report, *, key: jax.Array | None = None) -> Any:
    """Give dead units new weights, without a change of what the model computes.

    A unit that is dead in the report gets new incoming weights, drawn as by
    `jaxact.initializers.he_normal`; what is added to it (a bias) becomes 0, what it is multiplied
    by (the scale of a batch normalization) 1. The weights with which other layers read it become 0,
    so that on the data of the report the model computes what it did, number for number. (On other
    data a dead unit may have been active.) From there gradients are not 0: the outgoing weights
    learn first, then the incoming ones. Of two dead units in a row the weight between is new, too.
    Where all inputs of a unit have one sign (pixels, what was pooled), its new weights may leave it
    dead, about one in two: probe again, and revive again.

    It is for dense and convolution layers of Flax or written with ``jax.lax``, for ``relu``,
    ``relu_squared``, ``sparse_plus``, ``hard_shrink`` and ``soft_shrink``, whose dead units are
    exactly 0, and for what keeps a unit by itself: batch normalization, dropout, pooling,
    flattening. It is not for units that are also read as they are (in a residual connection), are
    normalized over the units, have weights that are used twice, or are inside ``scan``, ``vmap`` or
    other control flow.

    The running statistics of a batch normalization stay as they are; they follow in training. So do
    an optimizer's moments, which belong to the old weights: start the optimizer again, or set the
    moments of these weights to 0.

    Args:
      params: the parameters that the probed function was called with, at least these of the layers
        concerned: an NNX module, which is changed in place, or its ``nnx.State``; Linen's
        ``variables`` or ``variables["params"]``; any tree of arrays.
      report: what `jaxact.probe` has returned, of as much data as there is (`Report.merge`).
      key: a PRNG key for the new weights; by default ``jax.random.key(0)``.

    Returns:
      The parameters, in the same structure, of the same dtypes and shardings; ``params`` itself
      where no unit is dead.

    Raises:
      TypeError: ``report`` is none, or is traced: return it from ``jit`` first.
      ValueError: there are dead units, but none that can be revived; the message says why. Or
        ``params`` has not the parameters that the probed function had.

    Warns:
      UserWarning: dead units of some activations cannot be revived, and why.

    Reference: Sokar et al., "The dormant neuron phenomenon in deep reinforcement learning", 2023
    (arXiv 2302.12902).

    Examples:
      >>> import jax, jax.numpy as jnp, jaxact
      >>> def model(params, x):
      ...     return jax.nn.relu(x @ params["w"] + params["b"]) @ params["v"]
      >>> params = {"w": jnp.ones((2, 2)), "b": jnp.array([0.0, -9.0]), "v": jnp.ones((2, 1))}
      >>> _, report = jaxact.probe(model)(params, jnp.eye(2))
      >>> report.sites[0].dead
      array([False,  True])
      >>> new = jaxact.revive(params, report)
      >>> new["b"]
      Array([0., 0.], dtype=float32)
      >>> new["v"]
      Array([[1.],
             [0.]], dtype=float32)
      >>> new["w"][:, 0]
      Array([1., 1.], dtype=float32)
    """
    if not isinstance(report, Report):
        raise TypeError(f"revive: report must be a Report of jaxact.probe, got {report!r}.")
    revivable, others = _dead(report)
    if others:
        listed = "\n".join(f"  {reason}" for reason in others)
        if not revivable:
            raise ValueError(f"revive: none of the dead units can be revived:\n{listed}")
        warnings.warn(
            f"revive: these dead units cannot be revived:\n{listed}", UserWarning, stacklevel=2
        )
    if not revivable:
        return params
    key = jax.random.key(0) if key is None else key
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(params, nnx.Module):
        nnx.update(params, _revived(nnx.state(params), revivable, key))
        return params
    return _revived(params, revivable, key)


@dataclasses.dataclass(frozen=True)
class _Dead:
    """The dead units of one activation."""

    place: Place
    wiring: Wiring
    mask: np.ndarray


def _dead(report: Report) -> tuple[list[_Dead], list[str]]:
    """The dead units that can be revived; for others, where they are and why not."""
    revivable, others = [], []
    for site in report.records:
        place, mask = site.place, site.dead
        if isinstance(mask, jax.core.Tracer):
            raise TypeError("revive: the report is traced: return it from jit first.")
        if not mask.any():
            continue
        if place.role in (OF_PARAMETERS, UNUSED):
            continue
        why = why_not_revived(place, mask.ndim)
        if not why:
            revivable.append(_Dead(place, place.wiring[place.index], mask))
            continue
        count = f"{mask.sum()} of {mask.size} units"
        others.append(f"{place.index}: {place.function} in {place.path} ({count} dead): {why}.")
    return revivable, others


def _revived(params: Any, dead: Sequence[_Dead], key: jax.Array) -> Any:
    """The parameters with new weights."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    positions = {names(jax.tree_util.keystr(path)): i for i, (path, _) in enumerate(leaves)}
    values = [leaf for _, leaf in leaves]
    shapes = {path: np.shape(values[i]) for path, i in positions.items()}
    start = _start([leaf for d in dead for leaf in (d.wiring.incoming, *d.wiring.outgoing)], shapes)

    def change(leaf: Leaf, mask: np.ndarray, new: Any) -> None:
        # A vector that is no parameter, such as a running sum, may be another argument.
        if leaf.path[: len(start)] != start:
            return
        i = positions[_checked(leaf, start, shapes)]
        units = np.arange(leaf.shape[leaf.axis]) // leaf.inner % mask.size
        others = [axis for axis in range(len(leaf.shape)) if axis != leaf.axis]
        values[i] = _where(np.expand_dims(mask[units], others), new, values[i])

    # Incoming weights last: they may come from units whose outgoing weights are now 0.
    for d in dead:
        for leaf in d.wiring.outgoing:
            change(leaf, d.mask, 0)
    for d in dead:
        leaf = d.wiring.incoming
        inputs = [axis for axis in range(len(leaf.shape)) if axis != leaf.axis]
        draw = initializers.he_normal(inputs, leaf.axis, activation=d.place.function)
        dtype = values[positions[_checked(leaf, start, shapes)]].dtype
        change(leaf, d.mask, draw(jax.random.fold_in(key, d.place.index), leaf.shape, dtype))
        for leaf in d.wiring.shifts:
            change(leaf, d.mask, 0)
        for leaf in d.wiring.scales:
            change(leaf, d.mask, 1)
    return jax.tree.unflatten(structure, values)


def _where(mask: np.ndarray, new: Any, old: Any) -> jax.Array:
    """``new`` where the mask is, of the dtype and the sharding of ``old``."""
    result = jnp.where(mask, jnp.asarray(new, old.dtype), old)
    # Not committed to a device where it was not: jitted functions would compile again.
    placed = isinstance(old, jax.Array) and not isinstance(old, jax.core.Tracer)
    if placed and result.sharding != old.sharding:
        result = jax.device_put(result, old.sharding)
    return result


# ------------------------------------------------------------------------------------------------
# Which parameters: the arguments of the probed function have paths, of which those in ``params``
# are the ends.


_Shapes = Mapping[tuple[str, ...], tuple[int, ...]]


def _start(leaves: Sequence[Leaf], shapes: _Shapes) -> tuple[str, ...]:
    """The part of the paths before that of ``params``."""
    first = leaves[0].path
    starts = [first[:length] for length in range(len(first) + 1)]
    fitting = [s for s in starts if all(_fits(leaf, s, shapes) for leaf in leaves)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        ends = " or ".join(_shown(first[len(s) :]) for s in fitting)
        raise ValueError(
            f"revive: it is ambiguous which of params is {_shown(first)} of the probed function: "
            f"{ends}. Pass all that the function was called with."
        )
    # The best guess, for the message.
    start = max(starts, key=lambda s: sum(_after(leaf, s) in shapes for leaf in leaves))
    for leaf in leaves:
        _checked(leaf, start, shapes)
    raise AssertionError


def _after(leaf: Leaf, start: tuple[str, ...]) -> tuple[str, ...] | None:
    return leaf.path[len(start) :] if leaf.path[: len(start)] == start else None


def _fits(leaf: Leaf, start: tuple[str, ...], shapes: _Shapes) -> bool:
    path = _after(leaf, start)
    return path is not None and shapes.get(path) == leaf.shape


def _checked(leaf: Leaf, start: tuple[str, ...], shapes: _Shapes) -> tuple[str, ...]:
    """The path of a parameter in ``params``."""
    path = leaf.path[len(start) :]
    if path not in shapes or leaf.path[: len(start)] != start:
        known = ", ".join(map(_shown, list(shapes)[:20])) or "nothing"
        more = ", ..." if len(shapes) > 20 else ""
        raise ValueError(
            f"revive: params has no {_shown(leaf.path)}, an argument of the probed function by its "
            f"path. It has {known}{more}."
        )
    if shapes[path] != leaf.shape:
        raise ValueError(
            f"revive: {_shown(path)} of params has shape {shapes[path]}, and {leaf.shape} in the "
            "probed function."
        )
    return path


def _shown(path: tuple[str, ...]) -> str:
    return "/".join(path) or "(itself)"
