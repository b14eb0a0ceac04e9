"""Activations made of straight pieces: the rectifier family, the shrinkages, the hard functions.

Each is declared by its value and by a rule that passes on the tangent ``t`` of the piece that the
input lies in. Selecting ``t``, rather than multiplying it by a slope, keeps 0 * inf out.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

import jaxact._plain as plain
from jaxact._core import context, threefry
from jaxact._core.arithmetic import (
    Real,
    clip,
    equals,
    has_sign,
    is_greater,
    is_less,
    is_negative,
    is_positive,
    maximum,
    minimum,
    on_arrays,
    pieces,
    where,
)
from jaxact._core.elementwise import Elementwise, named_jit
from jaxact._core.inputs import Constant, axis_index, real_array

#: The public functions, in the order of `jaxact.ACTIVATIONS`.
__all__ = [  # noqa: RUF022
    "identity",
    "relu",
    "relu6",
    "leaky_relu",
    "prelu",
    "rrelu",
    "crelu",
    "threshold",
    "hard_shrink",
    "soft_shrink",
    "hard_tanh",
    "hard_sigmoid",
    "sparse_sigmoid",
]

# ------------------------------------------------------------------------------------------------
# ReLU, ReLU6


def _declared(name: str, value: Any, partials: Sequence[Any], **options: Any) -> Elementwise:
    """An `Elementwise` whose formulas are of `Real`."""
    return Elementwise(name, **_formulas(value=value, partials=partials, **options))


def _formulas(**fields: Any) -> dict[str, Any]:
    """Fields of an `Elementwise`, the formulas among them as functions of arrays."""
    for name in ("value", "from_output", "plain"):
        if name in fields:
            fields[name] = on_arrays(fields[name])
    for name in ("partials", "two_slopes"):
        if name in fields:
            fields[name] = tuple(formula and on_arrays(formula) for formula in fields[name])
    return fields


def _zero(x: Real) -> Real:
    """0, and NaN where x is NaN.

    In a value it is made from x also because a scan would keep an array of zeros throughout.
    """
    return plain.constant(minimum(abs(x), 0))


# The hardware's comparisons, which may take a subnormal input for zero, as its maximum does.

_RELU: dict[str, Any] = {
    "value": lambda x: maximum(x, 0),
    "partials": [lambda t, x: where(x > 0, t, _zero(x))],
    "plain": plain.relu,
    "kind": "rectifier",
    "two_slopes": (lambda x: x > 0, lambda t, piece: where(piece, t, 0)),
}
_relu = _declared(
    "relu",
    **_RELU,
    # The output elsewhere is 0 or NaN.
    from_output=lambda t, y: where(y > 0, t, plain.constant(y)),
    binary=True,
)


def relu(x: ArrayLike) -> jax.Array:
    r"""Rectified linear unit.

    $$
    \mathrm{relu}(x) = \max(x, 0)
    $$

    $$
    \mathrm{relu}'(x) = \begin{cases}
    1 & x > 0 \\
    0 & x \le 0
    \end{cases}
    $$

    The derivative at 0 is 0. Residual: the output.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Reference: Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines",
    2010.

    Examples:
      >>> relu([-1.0, 0.0, 2.0])
      Array([0., 0., 2.], dtype=float32)
    """
    return _relu(x)


def _relu6_slope_from_output(t: Real, y: Real) -> Real:
    # Positive between 0 and 6, else 0 or NaN.
    inside = y * (6 - y)
    return where(inside > 0, t, plain.constant(inside))


def _in_relu6(x: Real) -> Real:
    return (x > 0) & (x < 6)


_relu6 = _declared(
    "relu6",
    lambda x: clip(x, 0, 6),
    [lambda t, x: where(_in_relu6(x), t, _zero(x))],
    kind="rectifier",
    plain=plain.relu6,
    from_output=_relu6_slope_from_output,
    two_slopes=(_in_relu6, lambda t, piece: where(piece, t, 0)),
    binary=True,
)


def relu6(x: ArrayLike) -> jax.Array:
    r"""Rectified linear unit, capped at 6.

    $$
    \mathrm{relu6}(x) = \min(\max(x, 0), 6)
    $$

    $$
    \mathrm{relu6}'(x) = \begin{cases}
    1 & 0 < x < 6 \\
    0 & \text{else}
    \end{cases}
    $$

    The derivative at 0 and at 6 is 0. Residual: the output.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Reference: Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010.

    Examples:
      >>> relu6([-1.0, 3.0, 7.0])
      Array([0., 3., 6.], dtype=float32)
    """
    return _relu6(x)


# ------------------------------------------------------------------------------------------------
# Leaky ReLU and its learned and random relatives


def _leaky(x: Real, slope: Real) -> Real:
    # Slope 0 at -inf is the limit 0. The result has the sign bit of x < 0 even where it
    # underflows, and +0 at -0 (hence abs): the pullback may judge the piece by that bit.
    bounded = where(equals(slope, 0), maximum(x, -1), x)
    return where(is_negative(x), slope * bounded, abs(x))


def _scaled(t: Real, slope: Real) -> Real:
    """slope * t, and 0 for slope 0 and infinite t."""
    return where(equals(slope, 0), 0, slope * t)


def _leaky_slope(t: Real, x: Real, slope: Real) -> Real:
    return pieces(x, (is_negative(x), _scaled(t, slope)), otherwise=t)


def _leaky_slope_from_output(t: Real, y: Real, slope: Real) -> Real:
    return pieces(y, (has_sign(y), _scaled(t, slope)), otherwise=t)


def _leaky_parameter_slope(t: Real, x: Real, slope: Real) -> Real:
    return pieces(x, (is_negative(x), t * x), otherwise=0)


def _nonnegative(*parameters: Constant) -> bool:
    return all(p.nonnegative for p in parameters)


def _is_leaking(x: Real, *parameters: Real) -> Real:
    return is_negative(x)


def _leaky_slope_of(t: Real, leaking: Real, slope: Real) -> Real:
    return where(leaking, _scaled(t, slope), t)


_LEAKY: dict[str, Any] = {
    "kind": "open",
    "value": _leaky,
    "partials": [_leaky_slope, _leaky_parameter_slope],
    "plain": plain.leaky_relu,
    "from_output": _leaky_slope_from_output,
    "output_determines": _nonnegative,
    "two_slopes": (_is_leaking, _leaky_slope_of),
    "if_positive": _formulas(
        value=lambda x, slope: where(is_negative(x), slope * x, abs(x)),
        partials=[
            lambda t, x, slope: pieces(x, (is_negative(x), slope * t), otherwise=t),
            _leaky_parameter_slope,
        ],
        from_output=lambda t, y, slope: pieces(y, (has_sign(y), slope * t), otherwise=t),
    ),
}
_leaky_relu = _declared("leaky_relu", **_LEAKY, parameters={"negative_slope": {}})
_prelu = _declared("prelu", **_LEAKY, parameters={"alpha": {}})


def leaky_relu(x: ArrayLike, negative_slope: ArrayLike = 0.01) -> jax.Array:
    r"""Leaky rectified linear unit.

    $$
    \mathrm{leaky\_relu}(x) = \begin{cases} x & x \ge 0 \\ a x & x < 0 \end{cases}
    $$

    $$
    \mathrm{leaky\_relu}'(x) = \begin{cases}
    1 & x \ge 0 \\
    a & x < 0
    \end{cases}
    $$

    A unit that is negative on every sample still gets a gradient. The derivative at 0 is 1.
    Residual: the output, when the slope is a number that is not negative; else the input.

    Args:
      x: any real array-like, of any shape.
      negative_slope: a, a number or an array that broadcasts against ``x`` (differentiable).

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: the slope is NaN.

    Reference: Maas et al., "Rectifier nonlinearities improve neural network acoustic models", 2013.

    Examples:
      >>> leaky_relu([-1.0, 0.0, 2.0], 0.2)
      Array([-0.2,  0. ,  2. ], dtype=float32)
    """
    return _leaky_relu(x, negative_slope)


def prelu(x: ArrayLike, alpha: ArrayLike, *, axis: int = -1) -> jax.Array:
    r"""Parametric rectified linear unit: a leaky ReLU whose slope is learned.

    $$
    \mathrm{prelu}(x) = \begin{cases} x & x \ge 0 \\ \alpha x & x < 0 \end{cases}
    $$

    $$
    \frac{\partial}{\partial x} \mathrm{prelu} = \begin{cases}
    1 & x \ge 0 \\
    \alpha & x < 0
    \end{cases},
    \qquad
    \frac{\partial}{\partial \alpha} \mathrm{prelu} = \begin{cases}
    0 & x \ge 0 \\
    x & x < 0
    \end{cases}
    $$

    The gradient for ``alpha`` is summed in float32 (float64 for float64). The derivative at 0 is 1.
    Residual: the input; the output, when ``alpha`` is a number that is not negative.

    Args:
      x: any real array-like, of any shape.
      alpha: the slope: a scalar, a vector along ``axis``, or any shape that broadcasts against
        ``x``. It does not widen the dtype of the result.
      axis: the axis of ``x`` that a vector ``alpha`` belongs to (the channels).

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: ``axis`` out of range, ``alpha`` of the wrong length, a NaN slope.

    Reference: He et al., "Delving deep into rectifiers", 2015 (arXiv 1502.01852).

    Examples:
      >>> prelu([[-1.0, -2.0], [3.0, -4.0]], [0.25, 0.5])
      Array([[-0.25, -1.  ],
             [ 3.  , -2.  ]], dtype=float32)
    """
    x = real_array("prelu", x)
    (slope,) = _prelu.check_parameters(alpha)
    if x.ndim or np.ndim(alpha) == 1:
        axis = axis_index("prelu", axis, x.ndim)
    if not isinstance(slope, Constant):
        _check_slopes(slope.shape, x.shape, axis)
    return _prelu_along(x, slope, axis)


def _check_slopes(slopes: tuple[int, ...], x: tuple[int, ...], axis: int) -> None:
    """Raise ValueError unless slopes of that shape fit."""
    if len(slopes) == 1 and slopes[0] not in (1, x[axis]):
        raise ValueError(
            f"prelu: alpha has {slopes[0]} slopes, but axis {axis} of x {x} has length {x[axis]}. "
            "Pass one slope per channel, or name the channels' axis."
        )
    if len(slopes) > 1:
        try:
            jnp.broadcast_shapes(x, slopes)
        except ValueError:
            raise ValueError(
                f"prelu: alpha of shape {slopes} does not broadcast against x of shape {x}."
            ) from None


def _align(x: jax.Array, alpha: jax.Array | Constant, axis: int) -> jax.Array:
    if not isinstance(alpha, Constant) and alpha.ndim == 1:
        alpha = lax.expand_dims(alpha, [i for i in range(x.ndim) if i != axis])
    return _prelu.apply(x, alpha)


_prelu_along = named_jit("prelu", _align, static_argnums=2)


def _random(low: Real, high: Real, words: jax.Array, x: Real) -> Real:
    """Uniform numbers from low to below high, an element of x each."""
    if context.current().mode == "plain":
        return low + (high - low) * _uniform(words, x)
    # Rounding can carry low + (high - low) u up to high itself.
    next_lower = Real(lax.nextafter(*jnp.broadcast_arrays(high.array, low.array)))
    last = where(low < high, next_lower, high)
    drawn = minimum(low + (high - low) * _uniform(words, x), last)
    return plain.constant(drawn)


def _uniform(words: jax.Array, x: Real) -> Real:
    return Real(threefry.uniform(words, x.array))


def _random_slopes(x: Real, words: jax.Array, lower: Real, upper: Real) -> Real:
    return _random(lower, upper, words, x)


def _random_divisor_slopes(x: Real, words: jax.Array, lower: Real, upper: Real) -> Real:
    return 1 / _random(1 / upper, 1 / lower, words, x)


def _mean_slope(x: Real, lower: Real, upper: Real) -> Real:
    return lower / 2 + upper / 2


def _mean_divisor_slope(x: Real, lower: Real, upper: Real) -> Real:
    return 2 / (1 / lower + 1 / upper)


def _randomized(mark: str, slope: Any, *slope_partials: Any, words: int = 0) -> Elementwise:
    """A leaky ReLU whose slope follows from ``words`` key words and the bounds.

    ``slope(x, *draw)`` is that slope, each of ``slope_partials`` its derivative by a bound.
    """

    def bound_partial(slope_partial: Any) -> Any:
        return lambda t, x, *draw: _leaky_parameter_slope(t * slope_partial(x, *draw), x, x)

    return _declared(
        "rrelu",
        lambda x, *draw: _leaky(x, slope(x, *draw)),
        [
            lambda t, x, *draw: _leaky_slope(t, x, slope(x, *draw)),
            *[None] * words,
            *map(bound_partial, slope_partials),
        ],
        kind="open",
        plain=lambda x, *draw: plain.leaky_relu(x, slope(x, *draw)),
        from_output=lambda t, y, *draw: _leaky_slope_from_output(t, y, slope(y, *draw)),
        output_determines=_nonnegative,
        two_slopes=(
            _is_leaking,
            lambda t, leaking, *draw: _leaky_slope_of(t, leaking, slope(t, *draw)),
        ),
        parameters={"lower": {}, "upper": {}},
        mark=mark,
    )


def _squared(x: Real) -> Real:
    return x * x


#: By ``divisor``: with random slopes, and with the mean slope.
_rrelu = {
    False: _randomized(
        "rrelu",
        _random_slopes,
        lambda x, words, *_: 1 - _uniform(words, x),
        lambda x, words, *_: _uniform(words, x),
        words=1,
    ),
    True: _randomized(
        "rrelu_divisor",
        _random_divisor_slopes,
        lambda x, words, lower, upper: (
            _uniform(words, x) * _squared(_random_divisor_slopes(x, words, lower, upper) / lower)
        ),
        lambda x, words, lower, upper: (
            (1 - _uniform(words, x))
            * _squared(_random_divisor_slopes(x, words, lower, upper) / upper)
        ),
        words=1,
    ),
}
_rrelu_mean = {
    False: _randomized("rrelu_mean", _mean_slope, lambda *_: 0.5, lambda *_: 0.5),
    True: _randomized(
        "rrelu_mean_divisor",
        _mean_divisor_slope,
        lambda x, lower, upper: 2 * _squared(upper / (lower + upper)),
        lambda x, lower, upper: 2 * _squared(lower / (lower + upper)),
    ),
}
_rrelu_random = named_jit(
    "rrelu",
    lambda divisor, x, key, *bounds: _rrelu[divisor].apply(x, threefry.key_words(key), *bounds),
    static_argnums=0,
)


def rrelu(
    x: ArrayLike,
    key: jax.Array | None = None,
    lower: ArrayLike = 1 / 8,
    upper: ArrayLike = 1 / 3,
    *,
    deterministic: bool = False,
    divisor: bool = False,
) -> jax.Array:
    r"""Randomized leaky rectified linear unit.

    $$
    \mathrm{rrelu}(x_i) = \begin{cases} x_i & x_i \ge 0 \\ a_i x_i & x_i < 0 \end{cases},
    \qquad a_i \sim U[\mathrm{lower}, \mathrm{upper})
    $$

    $$
    \mathrm{rrelu}'(x_i) = \begin{cases}
    1 & x_i \ge 0 \\
    a_i & x_i < 0
    \end{cases}
    $$

    The slope of element i (its row-major index in the global array) is a function of the key and i
    alone: the same on every platform and under every sharding. Inside ``shard_map`` the index is
    the local one, so fold ``jax.lax.axis_index`` into the key there. The slopes are never stored:
    the backward pass draws them again. Residual: the key, and the output as in `leaky_relu`.

    Args:
      x: any real array-like, of any shape.
      key: a JAX PRNG key, typed or raw; not needed when ``deterministic``.
      lower: the smallest slope, a number or an array that broadcasts against ``x``.
      upper: the slopes are below this, or equal to it where ``lower == upper``.
      deterministic: use the slope (lower + upper) / 2, for evaluation.
      divisor: as in the paper, divide by a random number, uniform between 1/upper and 1/lower
        (3 and 8), or by the mean of these if ``deterministic`` (slope 2/11).

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: no key and not deterministic, ``lower > upper``, a bound that is not finite, or
        not positive where ``divisor``.

    Reference: Xu et al., "Empirical evaluation of rectified activations in convolutional network",
    2015 (arXiv 1505.00853). The paper divides by a ~ U(3, 8); without ``divisor``, the slope itself
    is uniform, as in PyTorch.

    Examples:
      >>> import jax
      >>> rrelu([-1.0, -1.0, 2.0], jax.random.key(0)).round(2)
      Array([-0.21, -0.17,  2.  ], dtype=float32)
      >>> rrelu([-1.0, 2.0], lower=0.1, upper=0.3, deterministic=True)
      Array([-0.2,  2. ], dtype=float32)
    """
    x = real_array("rrelu", x)
    if not isinstance(divisor, bool | np.bool_):
        raise TypeError(f"rrelu: divisor must be True or False, got {divisor!r}.")
    divisor = bool(divisor)
    low, high = _rrelu[divisor].check_parameters(lower, upper)
    if isinstance(low, Constant) and isinstance(high, Constant) and low.value > high.value:
        raise ValueError(
            f"rrelu: lower must not exceed upper, got lower={lower!r} and upper={upper!r}."
        )
    for name, bound in (("lower", low), ("upper", high)):
        if not isinstance(bound, Constant):
            continue
        if math.isinf(bound.value):
            raise ValueError(f"rrelu: {name} must be finite, got {bound.value:g}.")
        # The inverse of a subnormal number may be infinite.
        if divisor and bound.value < jnp.finfo(jnp.float32).tiny:
            raise ValueError(
                f"rrelu: {name} must be positive to divide by its inverse, got {bound.value:g}."
            )
    if deterministic:
        return _rrelu_mean[divisor].jitted(x, low, high)
    return _rrelu_random(divisor, x, _checked_key(key), low, high)


def _checked_key(key: Any) -> jax.Array:
    if key is None:
        raise ValueError(
            "rrelu: no key. Pass one for random slopes, rrelu(x, jax.random.key(0)), "
            "or the mean slope's flag, rrelu(x, deterministic=True)."
        )
    if isinstance(key, jax.Array | np.ndarray):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if (typed and key.shape == ()) or (key.dtype == jnp.uint32 and key.shape in ((2,), (4,))):
            return key  # type: ignore[return-value]
        what = f"an array of shape {key.shape} and dtype {key.dtype}"
    else:
        what = repr(key)
    raise ValueError(
        f"rrelu: key must be one PRNG key such as jax.random.key(0), got {what}. "
        "Pass slopes by name, rrelu(x, key, lower=..., upper=...); use jax.vmap for several keys."
    )


def crelu(x: ArrayLike, axis: int = -1) -> jax.Array:
    r"""Concatenated rectified linear unit.

    $$
    \mathrm{crelu}(x) = [\max(x, 0), \max(-x, 0)]
    $$

    $$
    \mathrm{relu}'(x) = \begin{cases}
    1 & x > 0 \\
    0 & x \le 0
    \end{cases},
    \qquad
    \mathrm{relu}'(-x) = \begin{cases}
    -1 & x < 0 \\
    0 & x \ge 0
    \end{cases}
    $$

    The derivative at 0 is 0. Residual: the input.

    Args:
      x: any real array-like of at least one dimension.
      axis: the axis to concatenate along; the result is twice as long there.

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: ``axis`` out of range.

    Reference: Shang et al., "Understanding and improving convolutional neural networks via
    concatenated rectified linear units", 2016 (arXiv 1603.05201).

    Examples:
      >>> crelu([-1.0, 2.0])
      Array([0., 2., 1., 0.], dtype=float32)
    """
    x = real_array("crelu", x)
    return _crelu(x, axis_index("crelu", axis, x.ndim))


# Both halves keep the input, so that it is stored once: each output would be an array of its own.
_positive_part = _declared("relu", **_RELU, mark="positive_part")
_negative_part = _declared(
    "relu_of_negative",
    lambda x: where(is_negative(x), -x, _zero(x)),
    [lambda t, x: pieces(x, (is_negative(x), -t), otherwise=0)],
    kind="rectifier",
    plain=plain.negative_part,
    two_slopes=(is_negative, lambda t, piece: where(piece, -t, 0)),
)
_crelu = named_jit(
    "crelu",
    lambda x, axis: lax.concatenate([_positive_part.apply(x), _negative_part.apply(x)], axis),
    static_argnums=1,
)

# ------------------------------------------------------------------------------------------------
# Threshold and shrinkages


_threshold = _declared(
    "threshold",
    lambda x, threshold, value: where(is_greater(x, threshold), x, _zero(x) + value),
    [
        lambda t, x, threshold, value: pieces(x, (is_greater(x, threshold), t), otherwise=0),
        lambda t, x, threshold, value: _zero(x),
        lambda t, x, threshold, value: pieces(x, (is_greater(x, threshold), 0), otherwise=t),
    ],
    kind="rectifier",
    plain=plain.threshold,
    two_slopes=(
        lambda x, threshold, value: is_greater(x, threshold),
        lambda t, above, threshold, value: where(above, t, 0),
    ),
    parameters={"threshold": {}, "value": {}},
    binary=True,
)


def threshold(x: ArrayLike, threshold: ArrayLike, value: ArrayLike) -> jax.Array:
    r"""The input where it exceeds a threshold, a fixed value elsewhere.

    $$
    \mathrm{threshold}(x) = \begin{cases} x & x > \theta \\ v & x \le \theta \end{cases}
    $$

    $$
    \mathrm{threshold}'(x) = \begin{cases}
    1 & x > \theta \\
    0 & x \le \theta
    \end{cases}
    $$

    The derivative at the threshold is 0. Residual: the input.

    Args:
      x: any real array-like, of any shape.
      threshold: :math:`\theta`, a number or an array that broadcasts against ``x``.
      value: v, likewise.

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: a parameter is NaN.

    Examples:
      >>> threshold([-1.0, 0.5, 2.0], 1.0, 20.0)
      Array([20., 20.,  2.], dtype=float32)
    """
    return _threshold(x, threshold, value)


def _above(x: Real, lambd: Real) -> Real:
    return is_greater(x, lambd)


def _below(x: Real, lambd: Real) -> Real:
    return is_less(x, -lambd)


_SHRINK_SLOPES = (
    lambda x, lambd: _above(x, lambd) | _below(x, lambd),
    lambda t, outside, lambd: where(outside, t, 0),
)
_hard_shrink = _declared(
    "hard_shrink",
    lambda x, lambd: where(_above(x, lambd) | _below(x, lambd), x, _zero(x)),
    [
        lambda t, x, lambd: pieces(x, (_above(x, lambd) | _below(x, lambd), t), otherwise=0),
        lambda t, x, lambd: _zero(x),
    ],
    kind="shrink",
    plain=plain.hard_shrink,
    from_output=lambda t, y, lambd: pieces(y, (is_positive(y) | is_negative(y), t), otherwise=0),
    # A negative λ lets 0 itself through.
    output_determines=_nonnegative,
    two_slopes=_SHRINK_SLOPES,
    parameters={"lambd": {}},
    binary=True,
)


def hard_shrink(x: ArrayLike, lambd: ArrayLike = 0.5) -> jax.Array:
    r"""Hard shrinkage.

    $$
    \mathrm{hard\_shrink}(x) = \begin{cases} x & |x| > \lambda \\ 0 & |x| \le \lambda
    \end{cases}
    $$

    $$
    \mathrm{hard\_shrink}'(x) = \begin{cases}
    1 & |x| > \lambda \\
    0 & \text{else}
    \end{cases}
    $$

    The derivative at ±λ is 0. A negative λ makes the identity, as in PyTorch. Residual: the output,
    when λ is a number that is not negative; else the input.

    Args:
      x: any real array-like, of any shape.
      lambd: λ, a number or an array that broadcasts against ``x``.

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: λ is NaN.

    Reference: Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994.

    Examples:
      >>> hard_shrink([-1.0, 0.5, 2.0])
      Array([-1.,  0.,  2.], dtype=float32)
    """
    return _hard_shrink(x, lambd)


_soft_shrink = _declared(
    "soft_shrink",
    lambda x, lambd: where(
        _above(x, lambd), x - lambd, where(_below(x, lambd), x + lambd, _zero(x))
    ),
    [
        lambda t, x, lambd: pieces(x, (_above(x, lambd) | _below(x, lambd), t), otherwise=0),
        lambda t, x, lambd: pieces(x, (_above(x, lambd), -t), (_below(x, lambd), t), otherwise=0),
    ],
    kind="shrink",
    plain=plain.soft_shrink,
    two_slopes=_SHRINK_SLOPES,
    parameters={"lambd": {"minimum": 0}},
    binary=True,
)


def soft_shrink(x: ArrayLike, lambd: ArrayLike = 0.5) -> jax.Array:
    r"""Soft shrinkage.

    $$
    \mathrm{soft\_shrink}(x) = \mathrm{sign}(x) \max(|x| - \lambda, 0)
    $$

    $$
    \mathrm{soft\_shrink}'(x) = \begin{cases}
    1 & |x| > \lambda \\
    0 & \text{else}
    \end{cases}
    $$

    The derivative at ±λ is 0. Residual: the input.

    Args:
      x: any real array-like, of any shape.
      lambd: λ ≥ 0, a number or an array that broadcasts against ``x``.

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: λ is NaN or negative.

    Reference: Donoho, "De-noising by soft-thresholding", 1995.

    Examples:
      >>> soft_shrink([-1.0, 0.5, 2.0])
      Array([-0.5,  0. ,  1.5], dtype=float32)
    """
    return _soft_shrink(x, lambd)


# ------------------------------------------------------------------------------------------------
# Hard (piecewise linear) versions of smooth functions, and the identity

# The slope at the ends is 1, as in jax.nn, so an output of exactly ±1 does not tell the piece.
_hard_tanh = _declared(
    "hard_tanh",
    lambda x, low, high: clip(x, low, high),
    [
        lambda t, x, low, high: pieces(x, (is_less(x, low) | is_greater(x, high), 0), otherwise=t),
        lambda t, x, low, high: pieces(x, (is_less(x, low), t), otherwise=0),
        lambda t, x, low, high: pieces(x, (is_greater(x, high), t), otherwise=0),
    ],
    kind="clip",
    plain=plain.clip,
    two_slopes=(
        lambda x, low, high: is_less(x, low) | is_greater(x, high),
        lambda t, outside, low, high: where(outside, 0, t),
    ),
    parameters={"min_val": {}, "max_val": {}},
    binary=True,
)


def hard_tanh(x: ArrayLike, *, min_val: ArrayLike = -1, max_val: ArrayLike = 1) -> jax.Array:
    r"""Hard hyperbolic tangent: the input, clipped.

    $$
    \mathrm{hard\_tanh}(x) = \min(\max(x, \mathrm{min}), \mathrm{max})
    $$

    $$
    \mathrm{hard\_tanh}'(x) = \begin{cases}
    1 & \mathrm{min} \le x \le \mathrm{max} \\
    0 & \text{else}
    \end{cases}
    $$

    The derivative at both ends is 1. Residual: the input.

    Args:
      x: any real array-like, of any shape.
      min_val: the lower end, a number or an array that broadcasts against ``x``.
      max_val: the upper end, likewise.

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: an end is NaN, or ``min_val > max_val``.

    Reference: Collobert, "Large scale machine learning", 2004 (thesis).

    Examples:
      >>> hard_tanh([-2.0, 0.5, 3.0])
      Array([-1. ,  0.5,  1. ], dtype=float32)
    """
    x = real_array("hard_tanh", x)
    low, high = _hard_tanh.check_parameters(min_val, max_val)
    if isinstance(low, Constant) and isinstance(high, Constant) and low.value > high.value:
        raise ValueError(
            f"hard_tanh: min_val must not exceed max_val, got min_val={min_val!r} and "
            f"max_val={max_val!r}."
        )
    return _hard_tanh.jitted(x, low, high)


_hard_sigmoid = _declared(
    "hard_sigmoid",
    lambda x: (clip(x, -3, 3) + 3) * (1 / 6),
    [lambda t, x: where(abs(x) < 3, t * (1 / 6), _zero(x))],
    kind="clip",
    plain=plain.hard_sigmoid,
    two_slopes=(lambda x: abs(x) < 3, lambda t, inside: where(inside, t * (1 / 6), 0)),
)


def _hard_sigmoid_value(x: Real, bound: Real) -> Real:
    # Halves first: twice a large bound would be infinite.
    bound = minimum(bound, float(jnp.finfo(x.array.dtype).max))
    return (0.5 * clip(x, -bound, bound) + 0.5 * bound) / bound


_hard_sigmoid_of_bound = _declared(
    "hard_sigmoid",
    _hard_sigmoid_value,
    [
        lambda t, x, bound: pieces(x, (abs(x) < bound, t * (0.5 / bound)), otherwise=0),
        lambda t, x, bound: pieces(
            x, (abs(x) < bound, t * (0.5 / bound) * -(x / bound)), otherwise=0
        ),
    ],
    kind="clip",
    plain=plain.hard_sigmoid_of_bound,
    two_slopes=(
        lambda x, bound: abs(x) < bound,
        lambda t, inside, bound: where(inside, t * (0.5 / bound), 0),
    ),
    parameters={"bound": {"minimum": 0, "exclude_zero": True}},
    mark="hard_sigmoid_of_bound",
)


def hard_sigmoid(x: ArrayLike, *, bound: ArrayLike = 3.0) -> jax.Array:
    r"""Hard sigmoid.

    $$
    \mathrm{hard\_sigmoid}(x) = \min\left(\max\left(\frac{x + b}{2 b}, 0\right), 1\right)
    $$

    $$
    \mathrm{hard\_sigmoid}'(x) = \begin{cases}
    1 / (2 b) & |x| < b \\
    0 & \text{else}
    \end{cases}
    $$

    The derivative at ±b is 0. Residual: the input.

    Args:
      x: any real array-like, of any shape.
      bound: b > 0, a number or an array that broadcasts against ``x`` (differentiable). With 3 it
        is the function of ``jax.nn``, PyTorch and Keras 3; with 2.5 that of ONNX and Keras 2,
        ``clip(0.2 x + 0.5, 0, 1)``.

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: b is NaN, negative or 0.

    Reference: Courbariaux et al., "BinaryConnect: training deep neural networks with binary weights
    during propagations", 2015 (arXiv 1511.00363), with b = 1; Howard et al., "Searching for
    MobileNetV3", 2019 (arXiv 1905.02244), with b = 3.

    Examples:
      >>> hard_sigmoid([-4.0, 0.0, 1.5])
      Array([0.  , 0.5 , 0.75], dtype=float32)
      >>> hard_sigmoid([-4.0, 0.0, 1.5], bound=2.5)
      Array([0. , 0.5, 0.8], dtype=float32)
    """
    if isinstance(bound, int | float) and bound == 3:
        return _hard_sigmoid(x)
    return _hard_sigmoid_of_bound(x, bound)


_sparse_sigmoid = _declared(
    "sparse_sigmoid",
    lambda x: (clip(x, -1, 1) + 1) * 0.5,
    [lambda t, x: pieces(x, (abs(x) > 1, 0), (equals(abs(x), 1), t / 4), otherwise=t / 2)],
    kind="clip",
    # Of maximum and minimum, the derivative at a tie is a half.
    plain=lambda x: (minimum(maximum(x, -1), 1) + 1) * 0.5,
)


def sparse_sigmoid(x: ArrayLike) -> jax.Array:
    r"""Sparse sigmoid: the derivative of `sparse_plus`.

    $$
    \mathrm{sparse\_sigmoid}(x) = \min(\max((x + 1) / 2, 0), 1)
    $$

    $$
    \mathrm{sparse\_sigmoid}'(x) = \begin{cases}
    1 / 2 & |x| < 1 \\
    0 & \text{else}
    \end{cases}
    $$

    The derivative at ±1 is 1/4, as in ``jax.nn``. Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Reference: Martins and Astudillo, "From softmax to sparsemax", 2016 (arXiv 1602.02068).

    Examples:
      >>> sparse_sigmoid([-2.0, 0.0, 0.5])
      Array([0.  , 0.5 , 0.75], dtype=float32)
    """
    return _sparse_sigmoid(x)


_identity = named_jit("identity", lambda x: x)


def identity(x: ArrayLike) -> jax.Array:
    r"""The input itself, integers and bools included.

    $$
    \mathrm{identity}(x) = x
    $$

    $$
    \mathrm{identity}'(x) = 1
    $$

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Examples:
      >>> identity([1, 2])
      Array([1, 2], dtype=int32)
    """
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        real_array("identity", x)
    return _identity(x)
