"""Optimizers for models with learned slopes: what decays, at which rate, and within which bounds.

Slopes are found by the names of their parameters, in any tree that Flax or JAX make of them.
"""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike

from jaxact._core.inputs import real_array

#: The last name in the path of a learned slope: of `jaxact.prelu`'s layers, of the Swish and the
#: XIELU layers, and of Flax's own PReLU.
SLOPE_NAMES = ("alpha", "beta", "alpha_p", "alpha_n", "negative_slope")
#: The names of slopes for negative inputs: a Swish layer's β starts at 1 and may grow, and what an
#: XIELU layer keeps is no slope but its softplus' argument.
NEGATIVE_SLOPE_NAMES = ("alpha", "negative_slope")


def decay_mask(params: Any, *, names: str | Iterable[str] = SLOPE_NAMES) -> Any:
    """Which parameters weight decay is for: all but learned slopes.

    Decay would pull a slope to 0, and make a ReLU of the PReLU.

    Args:
      params: an ``nnx.State``, the ``params`` of a linen model, or any other tree of parameters.
      names: the names of the slopes: the last ones of their paths. Any β counts as one by default,
        such as the offset of a normalization.

    Returns:
      A tree of the structure of ``params``, False for the slopes and True elsewhere: the ``mask``
      of ``optax.adamw`` and of ``optax.masked``, as it is or as a function.

    Reference: He et al., "Delving deep into rectifiers", 2015 (arXiv 1502.01852), section 2.2.

    Examples:
      >>> decay_mask({"kernel": 1.0, "PReLU_0": {"alpha": 0.25}})
      {'PReLU_0': {'alpha': False}, 'kernel': True}
      >>> optimizer = optax.adamw(1e-3, mask=decay_mask)

      optax would take the function for a schedule in ``inject_hyperparams``, unless it is told:

      >>> optimizer = optax.inject_hyperparams(optax.adamw, "mask")(1e-3, mask=decay_mask)
    """
    is_slope = _slope_test(names)
    return jax.tree_util.tree_map_with_path(lambda path, _: not is_slope(path), params)


def slope_labels(params: Any, *, names: str | Iterable[str] = SLOPE_NAMES) -> Any:
    """Labels by which learned slopes get an optimizer of their own.

    Args:
      params: as in `decay_mask`.
      names: the names of the slopes.

    Returns:
      A tree of the structure of ``params``, "slopes" for the slopes and "rest" elsewhere: the
      labels of ``optax.multi_transform``.

    Examples:
      >>> slope_labels({"kernel": 1.0, "PReLU_0": {"alpha": 0.25}})
      {'PReLU_0': {'alpha': 'slopes'}, 'kernel': 'rest'}
      >>> optimizer = optax.multi_transform(
      ...     {"slopes": optax.sgd(1e-2), "rest": optax.adamw(1e-3)}, slope_labels
      ... )
    """
    is_slope = _slope_test(names)
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "slopes" if is_slope(path) else "rest", params
    )


def clip_slopes(
    lower: ArrayLike, upper: ArrayLike, *, names: str | Iterable[str] = NEGATIVE_SLOPE_NAMES
) -> optax.GradientTransformation:
    """Keep learned slopes of negative inputs between two bounds.

    Put it last in an ``optax.chain``: it changes the updates such that slopes that lie within the
    bounds do so after ``optax.apply_updates`` too, in spite of rounding. (One that starts outside
    is led to the nearer bound, up to the rounding of its first update.) It keeps no state, and all
    other updates as they are.

    Args:
      lower: the smallest slope, a number or an array of no dimensions; -inf for none.
      upper: the largest slope, likewise. A bound that the slopes' dtype does not have is replaced
        by the next number inside. Arrays, which may be traced, are not checked: where ``lower``
        exceeds ``upper``, ``upper`` holds, and NaN makes NaN.
      names: the names of the slopes; a Swish layer's β is not one by default.

    Returns:
      An optax transformation. Its ``update`` needs the parameters.

    Raises:
      TypeError: a bound that is not a real number.
      ValueError: a bound is NaN, or ``lower > upper``; an array of several bounds; in ``update``,
        no parameters.

    Examples:
      >>> optimizer = optax.chain(optax.sgd(1.0), clip_slopes(0.0, 1.0))
      >>> params = {"kernel": jnp.array(0.25), "alpha": jnp.array(0.25)}
      >>> gradient = {"kernel": 2.0, "alpha": 2.0}
      >>> updates, _ = optimizer.update(gradient, optimizer.init(params), params)
      >>> {name: value.item() for name, value in optax.apply_updates(params, updates).items()}
      {'alpha': 0.0, 'kernel': -1.75}

      A bound that changes during training:

      >>> rising = optax.linear_schedule(0.25, 1.0, 1000)
      >>> clip = optax.inject_hyperparams(clip_slopes)(lower=0.0, upper=rising)
    """
    low, high = _bound("lower", lower), _bound("upper", upper)
    either_nan = any(isinstance(bound, float) and math.isnan(bound) for bound in (low, high))
    crossed = isinstance(low, float) and isinstance(high, float) and low > high
    if either_nan or crossed:
        raise ValueError(
            f"clip_slopes: lower must not exceed upper, and neither be NaN; got lower={low} and "
            f"upper={high}."
        )
    is_slope = _slope_test(names)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError(
                "clip_slopes: no parameters. Pass them: optimizer.update(grads, state, params)."
            )

        def clip(path: Any, update: Any, param: Any) -> Any:
            if update is None or not is_slope(path):
                return update
            return _clipped(update, param, low, high)

        # optax writes None for what is frozen.
        clipped = jax.tree_util.tree_map_with_path(
            clip, updates, params, is_leaf=lambda leaf: leaf is None
        )
        return clipped, state

    return optax.GradientTransformation(optax.init_empty_state, update)


def _slope_test(names: str | Iterable[str]) -> Any:
    known = {names} if isinstance(names, str) else set(names)

    def is_slope(path: Any) -> bool:
        keys = [_name(key) for key in path]
        # Flax's boxes (nnx.Param, nn.Partitioned) have their array as an attribute.
        if path and isinstance(path[-1], jax.tree_util.GetAttrKey) and keys[-1] == "value":
            keys.pop()
        return bool(keys) and keys[-1] in known

    return is_slope


def _name(key: Any) -> Any:
    """The name in one key of a path: of an attribute, of a dictionary, of a position.

    In a flattened tree a key is a path itself: ("block", "alpha"), or "block/alpha".
    """
    name = getattr(key, "name", getattr(key, "key", None))
    if isinstance(name, tuple) and name:
        name = name[-1]
    return name.rpartition("/")[2] if isinstance(name, str) else name


def _bound(name: str, bound: ArrayLike) -> float | jax.Array:
    """The bound as a number, or as an array of no dimensions."""
    if isinstance(bound, np.ndarray) and bound.ndim == 0:
        bound = bound.item()
    if isinstance(bound, numbers.Real):
        return float(bound)
    if callable(bound):
        raise TypeError(
            f"clip_slopes: {name} must be a number, got {bound!r}. For a schedule, write "
            f"optax.inject_hyperparams(clip_slopes)({name}=schedule, ...)."
        )
    if not isinstance(bound, jax.Array | np.ndarray):
        raise TypeError(f"clip_slopes: {name} must be a number, got {bound!r}.")
    array = real_array("clip_slopes", bound, name)
    if array.ndim:
        raise ValueError(f"clip_slopes: {name} must be one number, got shape {array.shape}.")
    return array


def _clipped(
    update: Any, param: Any, lower: float | jax.Array, upper: float | jax.Array
) -> jax.Array:
    """The update, limited to the largest and the smallest that stay within the bounds.

    These depend on the parameter alone, so they hold however the compiler rounds the update.
    """
    update, param = jnp.asarray(update), jnp.asarray(param)
    low, high = _inside(lower, upper, param.dtype)
    least = _step_to(low, update, param, -1)
    most = _step_to(high, update, param, 1)
    return jnp.minimum(jnp.maximum(update, least), most)


def _inside(lower: float | jax.Array, upper: float | jax.Array, dtype: Any) -> tuple[Any, Any]:
    """The bounds, as the outermost numbers of the dtype between them; if none is, the nearest."""
    (nearest_low, low), (nearest_high, high) = _within(lower, dtype, 1), _within(upper, dtype, -1)
    exist = low <= high
    return jnp.where(exist, low, nearest_low), jnp.where(exist, high, nearest_high)


def _within(bound: float | jax.Array, dtype: Any, sign: int) -> tuple[Any, Any]:
    """The number of the dtype nearest to the bound, and the first one from there in direction sign.

    Both are the bound where the dtype has it.
    """
    if isinstance(bound, float):
        with np.errstate(over="ignore"):
            near = np.asarray(bound, dtype)
        if (float(near) < bound) if sign > 0 else (float(near) > bound):
            return near, np.nextafter(near, np.asarray(sign * math.inf, dtype))
        return near, near
    with jax.numpy_dtype_promotion("standard"):
        wide = jnp.result_type(bound.dtype, dtype, jnp.float32)
    exact = bound.astype(wide)
    rounded = _rounded(exact, dtype)
    outside = rounded < exact if sign > 0 else rounded > exact
    nearest = rounded.astype(dtype)
    inside = jnp.nextafter(nearest, jnp.asarray(sign * math.inf, dtype))
    return nearest, jnp.where(outside, inside, nearest)


def _step_to(bound: Any, update: jax.Array, param: jax.Array, sign: int) -> jax.Array:
    """The update that leads from the parameter to the bound, and not beyond in direction sign."""
    with jax.numpy_dtype_promotion("standard"):
        wide = jnp.result_type(update.dtype, param.dtype, jnp.float32)
    start, end = param.astype(wide), jnp.asarray(bound, wide)
    step = _rounded(end - start, update.dtype)
    # As in optax.apply_updates.
    reached = _rounded(start + step, param.dtype)
    beyond = reached > end if sign > 0 else reached < end
    step = step.astype(update.dtype)
    # A step goes beyond by rounding only, and then the number before it is on the near side.
    return jnp.where(beyond, jnp.nextafter(step, jnp.asarray(-sign * math.inf, step.dtype)), step)


def _rounded(x: jax.Array, dtype: Any) -> jax.Array:
    """x at the precision of a dtype: XLA may skip a conversion to and fro, but not this."""
    info = jnp.finfo(dtype)
    rounded = lax.reduce_precision(x, info.nexp, info.nmant)
    return jnp.where(rounded == 0, x, rounded)  # Subnormal numbers became 0.
