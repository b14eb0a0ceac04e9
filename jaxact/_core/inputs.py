"""What the public functions accept: checks and conversions that run before any tracing."""

import dataclasses
import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Constant:
    """A parameter given as a Python or NumPy number.

    The value is an operand of the jitted function, so a new value does not compile again; that it
    is a constant (it has no gradient) and its sign are part of the function's signature.
    """

    value: Any
    #: And finite, both.
    nonnegative: bool = dataclasses.field(metadata={"static": True})
    positive: bool = dataclasses.field(metadata={"static": True})


def real_array(function: str, x: ArrayLike, name: str = "x") -> jax.Array:
    """``x`` as a real floating-point array; integers and bools become the default float."""
    array = jnp.asarray(x)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    if jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == jnp.bool_:
        return weakly_typed(lax.convert_element_type(array, jnp.result_type(float)))
    raise TypeError(
        f"{function}: {name} must be real, got dtype {array.dtype}. "
        "Apply the function to the real and imaginary parts separately, or convert first."
    )


def weakly_typed(x: jax.Array) -> jax.Array:
    """``x`` with the weak type of a Python scalar, which does not widen what it meets."""
    # Importing it costs more than the rest of the package.
    from jax.extend.core import primitives

    return primitives.convert_element_type_p.bind(
        x, new_dtype=x.dtype, weak_type=True, sharding=None
    )


def parameter(
    function: str,
    name: str,
    value: ArrayLike,
    *,
    minimum: float = -math.inf,
    exclude_zero: bool = False,
) -> Constant | jax.Array:
    """A slope, scale or threshold: a number becomes a checked `Constant`, an array stays one.

    A traced value cannot be looked at, and a concrete array is not: reading it would wait for the
    device.
    """
    if isinstance(value, np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    if isinstance(value, numbers.Real):
        number = float(value) + 0.0  # -0.0 becomes 0.0.
        if math.isnan(number):
            raise ValueError(f"{function}: {name} is NaN; pass a number.")
        if number < minimum:
            raise ValueError(f"{function}: {name} must be at least {minimum:g}, got {value!r}.")
        if exclude_zero and number == 0:
            raise ValueError(f"{function}: {name} must not be 0.")
        return Constant(number, nonnegative=0 <= number < math.inf, positive=0 < number < math.inf)
    return real_array(function, value, name)


def axis_index(function: str, axis: int, ndim: int) -> int:
    """``axis`` as an index from the front."""
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"{function}: axis {axis} is out of range for an array of {ndim} dimensions; "
            f"choose one from {-ndim} to {ndim - 1}."
            if ndim
            else f"{function}: axis {axis} is out of range: the array is a scalar and has no axes."
        )
    return axis % ndim
