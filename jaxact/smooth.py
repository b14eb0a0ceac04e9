"""Smooth and piecewise smooth activations: each a value and its slope, side by side.

Many of them are ``x * S(x)`` with ``S(x) + S(-x) = 1`` (silu, gelu). Then ``f'(x) + f'(-x) = 1``,
so the slope is written for x <= 0, where it needs care, and mirrored (`_mirrored`). There it has a
zero z, and terms of opposite sign that cancel around it. Written in d = x - z and the change of the
exponential from z to x, both of which have the sign of the result, nothing cancels.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxact._core import coefficients
from jaxact._core.compare import is_positive
from jaxact._core.elementary import (
    NEAR,
    Factors,
    Sum,
    distance,
    exp_factors,
    expm1,
    expm1_near,
    minus_abs,
    normal_tail,
    odd_cubic,
    polynomial,
    quotient,
    times_constant,
    two_product,
)
from jaxact._core.elementwise import pieces, smooth


def _limit(x: jax.Array, float32: float, float64: float) -> float:
    """A bound beyond which a tail is zero in the dtype of ``x``."""
    return float32 if x.dtype.itemsize == 4 else float64


def _negative_part(x: jax.Array, float32: float = 110, float64: float = 800) -> jax.Array:
    """-|x|, cut off where tails have vanished; its derivative there is zero."""
    return jnp.maximum(minus_abs(x), -_limit(x, float32, float64))


def _mirrored(x: jax.Array, slope_of_negative: jax.Array) -> jax.Array:
    """The slope of x S(x), S(x) + S(-x) = 1, from its value at -|x|."""
    return jnp.where(x > 0, 1 - slope_of_negative, slope_of_negative)


def _gated_value(x: jax.Array, negative: jax.Array, e: Factors) -> jax.Array:
    """x times a sigmoid, with -|x| (cut off) and e = exp(-|argument of the sigmoid|)."""
    return jnp.where(x > 0, x, e.times(negative)) / (1 + e.value)


def _gated_slope(
    e: Factors, e_at_zero: str, argument_change: jax.Array, gate_change: jax.Array
) -> jax.Array:
    """The slope of x sigmoid(v(x)) where v <= 0: e (1 + e + x v') / (1 + e)^2, e = exp(v).

    The bracket vanishes at the slope's zero, so it is the sum of the changes from there of e, which
    follows from that of v, and of x v'.
    """
    total = e.value
    e0 = float(e_at_zero)
    e_change = jnp.where(abs(argument_change) < NEAR, e0 * expm1_near(argument_change), total - e0)
    return e.times(gate_change + e_change) / (1 + total) ** 2


# ------------------------------------------------------------------------------------------------
# Exponential linear units


def _exponential_part(x: jax.Array) -> jax.Array:
    """x where it is at most 0, else 0; its derivative at 0 is 1."""
    return jnp.where(is_positive(x), 0, x)


def _clipped(x: jax.Array) -> jax.Array:
    """x, cut off where exp(x) and x exp(x) have vanished."""
    return jnp.maximum(x, -_limit(x, 110, 800))


_elu = smooth(
    "elu",
    lambda x, alpha: pieces(x, (is_positive(x), x), otherwise=alpha * expm1(_exponential_part(x))),
    lambda x, alpha: pieces(
        x, (is_positive(x), 1), otherwise=exp_factors(_clipped(_exponential_part(x))).times(alpha)
    ),
    lambda x, alpha: pieces(x, (is_positive(x), 0), otherwise=expm1(_exponential_part(x))),
    parameters={"alpha": {}},
)


def elu(x: ArrayLike, alpha: ArrayLike = 1.0) -> jax.Array:
    r"""Exponential linear unit.

    $$
    \mathrm{elu}(x) = \begin{cases} x & x > 0 \\ \alpha (e^x - 1) & x \le 0 \end{cases}
    $$

    The derivative at 0 is α. Residual: the input.

    Args:
      x: any real array-like, of any shape.
      alpha: α, a number or an array that broadcasts against ``x`` (differentiable).

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: α is NaN.

    Reference: Clevert et al., "Fast and accurate deep network learning by exponential linear
    units", 2015 (arXiv 1511.07289).

    >>> elu([-1.0, 0.0, 2.0]).tolist()
    [-0.6321, 0.0, 2.0]
    """
    return _elu(x, alpha)


def _celu_argument(x: jax.Array, alpha: jax.Array) -> Sum:
    """x / alpha for x <= 0, cut off where its exponential has vanished."""
    return quotient(jnp.maximum(_exponential_part(x), -_limit(x, 110, 800) * abs(alpha)), alpha)


def _celu_alpha_slope(x: jax.Array, alpha: jax.Array) -> jax.Array:
    """d/dalpha of alpha expm1(x / alpha) is expm1(z) - z exp(z), z = x / alpha."""
    z = _clipped(_exponential_part(x) / alpha)
    near = jnp.clip(z, -NEAR, NEAR)
    # expm1(z) = z + z^2 p(z), and the terms of order z cancel.
    p = polynomial(near, coefficients.EXPM1)
    slope = jnp.where(abs(z) < NEAR, near * near * (p * (1 - near) - 1), expm1(z) - z * jnp.exp(z))
    return pieces(x, (is_positive(x), 0), otherwise=slope)


_celu = smooth(
    "celu",
    lambda x, alpha: pieces(
        x, (is_positive(x), x), otherwise=alpha * expm1(_exponential_part(x) / alpha)
    ),
    lambda x, alpha: pieces(
        x,
        (is_positive(x), 1),
        otherwise=exp_factors(_celu_argument(x, alpha)).value,
    ),
    _celu_alpha_slope,
    parameters={"alpha": {"exclude_zero": True}},
)


def celu(x: ArrayLike, alpha: ArrayLike = 1.0) -> jax.Array:
    r"""Continuously differentiable exponential linear unit.

    $$
    \mathrm{celu}(x) = \begin{cases} x & x > 0 \\ \alpha (e^{x / \alpha} - 1) & x \le 0
    \end{cases}
    $$

    The derivative at 0 is 1. Residual: the input.

    Args:
      x: any real array-like, of any shape.
      alpha: α, a number or an array that broadcasts against ``x`` (differentiable).

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: α is NaN or 0.

    Reference: Barron, "Continuously differentiable exponential linear units", 2017 (arXiv
    1704.07483).

    >>> celu([-1.0, 0.0, 2.0], 0.5).tolist()
    [-0.4323, 0.0, 2.0]
    """
    return _celu(x, alpha)


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946

_selu = smooth(
    "selu",
    lambda x: pieces(
        x,
        (is_positive(x), _SELU_SCALE * x),
        otherwise=_SELU_SCALE * _SELU_ALPHA * expm1(_exponential_part(x)),
    ),
    lambda x: pieces(
        x,
        (is_positive(x), _SELU_SCALE),
        otherwise=exp_factors(_clipped(_exponential_part(x))).times(
            jnp.asarray(_SELU_SCALE * _SELU_ALPHA, x.dtype)
        ),
    ),
)


def selu(x: ArrayLike) -> jax.Array:
    r"""Scaled exponential linear unit.

    $$
    \mathrm{selu}(x) = \lambda \begin{cases} x & x > 0 \\ \alpha (e^x - 1) & x \le 0
    \end{cases}
    $$

    with λ = 1.0507… and α = 1.6733…, for which mean 0 and variance 1 are a fixed point. The
    derivative at 0 is λα. Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Reference: Klambauer et al., "Self-normalizing neural networks", 2017 (arXiv 1706.02515).

    >>> selu([-1.0, 0.0, 2.0]).tolist()
    [-1.1113, 0.0, 2.1014]
    """
    return _selu(x)


# ------------------------------------------------------------------------------------------------
# Gates: x times a sigmoid


def _silu_value(x: jax.Array) -> jax.Array:
    negative = _negative_part(x)
    return _gated_value(x, negative, exp_factors(negative))


def _silu_slope(x: jax.Array) -> jax.Array:
    v = _negative_part(x)
    change = distance(v, coefficients.SILU_ZERO)
    return _mirrored(x, _gated_slope(exp_factors(v), coefficients.SILU_ZERO_EXP, change, change))


_silu = smooth("silu", _silu_value, _silu_slope)


def silu(x: ArrayLike) -> jax.Array:
    r"""Sigmoid linear unit, also called Swish.

    $$
    \mathrm{silu}(x) = x \, \sigma(x) = \frac{x}{1 + e^{-x}}
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``; 0 at -inf.

    Raises:
      TypeError: complex input.

    Reference: Elfwing et al., "Sigmoid-weighted linear units", 2017 (arXiv 1702.03118);
    Ramachandran et al., "Searching for activation functions", 2017 (arXiv 1710.05941).

    >>> silu([-1.0, 0.0, 2.0]).tolist()
    [-0.2689, 0.0, 1.7616]
    """
    return _silu(x)


swish = silu


def _quick_gelu_argument(negative: jax.Array) -> Sum:
    return times_constant("1.702", negative)


def _quick_gelu_value(x: jax.Array) -> jax.Array:
    negative = _negative_part(x, 65, 470)
    return _gated_value(x, negative, exp_factors(_quick_gelu_argument(negative)))


def _quick_gelu_slope(x: jax.Array) -> jax.Array:
    v = _quick_gelu_argument(_negative_part(x, 65, 470))
    change = distance(v, coefficients.SILU_ZERO)
    return _mirrored(x, _gated_slope(exp_factors(v), coefficients.SILU_ZERO_EXP, change, change))


_quick_gelu = smooth("quick_gelu", _quick_gelu_value, _quick_gelu_slope)


def quick_gelu(x: ArrayLike) -> jax.Array:
    r"""Sigmoid approximation of the Gaussian error linear unit.

    $$
    \mathrm{quick\_gelu}(x) = x \, \sigma(1.702 x)
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``; 0 at -inf.

    Raises:
      TypeError: complex input.

    Reference: Hendrycks and Gimpel, "Gaussian error linear units", 2016 (arXiv 1606.08415).

    >>> quick_gelu([-1.0, 0.0, 2.0]).tolist()
    [-0.1542, 0.0, 1.9357]
    """
    return _quick_gelu(x)


def _gelu_tanh_argument(x: jax.Array) -> Sum:
    """2 sqrt(2 / pi) (x + 0.044715 x^3): 1 + tanh(u) is 2 sigmoid(2 u)."""
    return odd_cubic(coefficients.GELU_TANH_LINEAR, coefficients.GELU_TANH_CUBIC, x)


def _gelu_tanh_value(x: jax.Array) -> jax.Array:
    negative = _negative_part(x, 11.5, 23)
    return _gated_value(x, negative, exp_factors(_gelu_tanh_argument(negative)))


def _gelu_tanh_slope(x: jax.Array) -> jax.Array:
    negative = _negative_part(x, 11.5, 23)
    d = distance(negative, coefficients.GELU_TANH_ZERO)
    zero = float(coefficients.GELU_TANH_ZERO)
    linear, cubic = float(coefficients.GELU_TANH_LINEAR), float(coefficients.GELU_TANH_CUBIC)
    # (x^3 - z^3) / (x - z)
    cubes = cubic * (negative * (negative + zero) + zero**2)
    e = exp_factors(_gelu_tanh_argument(negative))
    lower = _gated_slope(
        e, coefficients.GELU_TANH_ZERO_EXP, d * (linear + cubes), d * (linear + 3 * cubes)
    )
    return _mirrored(x, lower)


def _gaussian(t: jax.Array) -> Factors:
    """exp(-t^2 / 2)."""
    square = two_product(t, t)
    return exp_factors(Sum(square.hi * -0.5, square.lo * -0.5))


def _gelu_erf_value(x: jax.Array) -> jax.Array:
    t = -_negative_part(x, 15, 40)
    tail, e = normal_tail(t), _gaussian(t)
    return jnp.where(x > 0, x * (1 - e.times(tail)), -e.times(t * tail))


def _gelu_erf_slope(x: jax.Array) -> jax.Array:
    negative = _negative_part(x, 15, 40)
    lower = _gaussian(negative).times(
        normal_tail(-negative) + negative * (1 / math.sqrt(2 * math.pi))
    )
    d = distance(negative, coefficients.GELU_ZERO)
    near = jnp.clip(d, -0.76, 0.76)
    lower = jnp.where(abs(d) < 0.76, near * polynomial(near, coefficients.GELU_SLOPE), lower)
    return _mirrored(x, lower)


_gelu_tanh = smooth("gelu", _gelu_tanh_value, _gelu_tanh_slope)
_gelu_erf = smooth("gelu", _gelu_erf_value, _gelu_erf_slope)


def gelu(x: ArrayLike, approximate: bool = True) -> jax.Array:
    r"""Gaussian error linear unit.

    $$
    \mathrm{gelu}(x) = x \, \Phi(x) = \frac{x}{2} \left(1 + \mathrm{erf}
    \frac{x}{\sqrt 2}\right) \approx \frac{x}{2} \left(1 + \tanh\left(\sqrt{\frac{2}{\pi}}
    \left(x + 0.044715 x^3\right)\right)\right)
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.
      approximate: the tanh form (the default, as in ``jax.nn``), or the exact one.

    Returns:
      An array of the shape and dtype of ``x``; 0 at -inf.

    Raises:
      TypeError: complex input.

    Reference: Hendrycks and Gimpel, "Gaussian error linear units", 2016 (arXiv 1606.08415).

    >>> gelu([-1.0, 0.0, 2.0]).tolist()
    [-0.1588, 0.0, 1.9546]
    >>> gelu([-1.0, 0.0, 2.0], approximate=False).tolist()
    [-0.1587, 0.0, 1.9545]
    """
    return (_gelu_tanh if approximate else _gelu_erf)(x)


def _mish_value(x: jax.Array) -> jax.Array:
    e = exp_factors(_negative_part(x))
    n = e.value
    # tanh(log(1 + exp(x))), in n = exp(-|x|).
    negative = e.times(jnp.where(x > 0, 0, _negative_part(x))) * (n + 2) / (n * (n + 2) + 2)
    return jnp.where(x > 0, x * ((1 + 2 * n) / (1 + 2 * n * (1 + n))), negative)


def _mish_slope(x: jax.Array) -> jax.Array:
    negative = _negative_part(x)
    e = exp_factors(negative)
    n = e.value
    z, n0 = float(coefficients.MISH_ZERO), float(coefficients.MISH_ZERO_EXP)
    # For x <= 0 the slope is n G / (n (n + 2) + 2)^2, with n = exp(x) and
    # G = n^3 + 4 n^2 + 6 n + 4 + 4 x (n + 1), written as its change from the zero z.
    d = distance(negative, coefficients.MISH_ZERO)
    m = jnp.where(abs(d) < NEAR, expm1_near(d), n / n0 - 1)
    g = 4 * d * (1 + n) + m * n0 * ((6 + 4 * z) + 4 * n0 * (2 + m) + n0**2 * (3 + m * (3 + m)))
    lower = e.times(g) / (n * (n + 2) + 2) ** 2
    # For x > 0 the same, numerator and denominator divided by exp(4 x); nothing cancels.
    upper = (1 + n * (4 + n * (6 - 4 * negative + n * (4 - 4 * negative)))) / (
        1 + 2 * n * (1 + n)
    ) ** 2
    return jnp.where(x > 0, upper, lower)


_mish = smooth("mish", _mish_value, _mish_slope)


def mish(x: ArrayLike) -> jax.Array:
    r"""Mish.

    $$
    \mathrm{mish}(x) = x \tanh(\log(1 + e^x))
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``; 0 at -inf.

    Raises:
      TypeError: complex input.

    Reference: Misra, "Mish: a self regularized non-monotonic activation function", 2019 (arXiv
    1908.08681).

    >>> mish([-1.0, 0.0, 2.0]).tolist()
    [-0.3034, 0.0, 1.944]
    """
    return _mish(x)


# ------------------------------------------------------------------------------------------------
# Sigmoids and softplus


def _sigmoid_value(x: jax.Array) -> jax.Array:
    e = jnp.exp(minus_abs(x))
    return jnp.where(x > 0, 1, e) / (1 + e)


def _softplus_value(x: jax.Array) -> jax.Array:
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(minus_abs(x)))


def _sigmoid_slope(x: jax.Array) -> jax.Array:
    e = jnp.exp(_negative_part(x))
    return e / (1 + e * (2 + e))


_sigmoid = smooth("sigmoid", _sigmoid_value, _sigmoid_slope)
_softplus = smooth("softplus", _softplus_value, _sigmoid.differentiable)
_log_sigmoid = smooth(
    "log_sigmoid", lambda x: -_softplus_value(-x), lambda x: _sigmoid.differentiable(-x)
)


def sigmoid(x: ArrayLike) -> jax.Array:
    r"""Logistic sigmoid.

    $$
    \mathrm{sigmoid}(x) = \sigma(x) = \frac{1}{1 + e^{-x}}
    $$

    Residual: the input (the output loses the slope's tail).

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    >>> sigmoid([-1.0, 0.0, 2.0]).tolist()
    [0.2689, 0.5, 0.8808]
    """
    return _sigmoid(x)


def softplus(x: ArrayLike) -> jax.Array:
    r"""Softplus.

    $$
    \mathrm{softplus}(x) = \log(1 + e^x)
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Reference: Dugas et al., "Incorporating second-order functional knowledge for better option
    pricing", 2000.

    >>> softplus([-1.0, 0.0, 2.0]).tolist()
    [0.3133, 0.6931, 2.1269]
    """
    return _softplus(x)


def log_sigmoid(x: ArrayLike) -> jax.Array:
    r"""Logarithm of the logistic sigmoid.

    $$
    \mathrm{log\_sigmoid}(x) = \log \sigma(x) = -\log(1 + e^{-x})
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    >>> log_sigmoid([-1.0, 0.0, 2.0]).tolist()
    [-1.3133, -0.6931, -0.1269]
    """
    return _log_sigmoid(x)


def _tanh_value(x: jax.Array) -> jax.Array:
    m = expm1(2 * minus_abs(x))
    return jnp.where(x > 0, -m, m) / (2 + m)


def _tanh_slope(x: jax.Array) -> jax.Array:
    e = exp_factors(2 * _negative_part(x, 55, 400))
    return e.times(jnp.full_like(x, 4)) / (1 + e.value * (2 + e.value))


_tanh = smooth("tanh", _tanh_value, _tanh_slope)


def tanh(x: ArrayLike) -> jax.Array:
    r"""Hyperbolic tangent.

    $$
    \tanh(x) = \frac{e^x - e^{-x}}{e^x + e^{-x}}
    $$

    Residual: the input (the output loses the slope's tail).

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    >>> tanh([-1.0, 0.0, 2.0]).tolist()
    [-0.7616, 0.0, 0.964]
    """
    return _tanh(x)


def _tanh_shrink_value(x: jax.Array) -> jax.Array:
    near = jnp.clip(x, -1.5, 1.5)
    square = near * near
    return jnp.where(
        abs(x) < 1.5,
        near * square * polynomial(square, coefficients.TANH_SHRINK),
        x - _tanh_value(x),
    )


_tanh_shrink = smooth("tanh_shrink", _tanh_shrink_value, lambda x: _tanh.differentiable(x) ** 2)


def tanh_shrink(x: ArrayLike) -> jax.Array:
    r"""Tanh shrinkage.

    $$
    \mathrm{tanh\_shrink}(x) = x - \tanh(x)
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    >>> tanh_shrink([-1.0, 0.0, 2.0]).tolist()
    [-0.2384, 0.0, 1.036]
    """
    return _tanh_shrink(x)


def _finite(x: jax.Array) -> jax.Array:
    """x, with the largest finite number for infinity."""
    largest = jnp.finfo(x.dtype).max
    return jnp.clip(x, -largest, largest)


_soft_sign = smooth(
    "soft_sign",
    lambda x: _finite(x) / (1 + abs(_finite(x))),
    lambda x: (1 / (1 - minus_abs(_finite(x)))) ** 2,
)


def soft_sign(x: ArrayLike) -> jax.Array:
    r"""Soft sign.

    $$
    \mathrm{soft\_sign}(x) = \frac{x}{1 + |x|}
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``; ±1 at ±inf.

    Raises:
      TypeError: complex input.

    Reference: Turian et al., "Quadratic features and deep architectures for chunking", 2009.

    >>> soft_sign([-1.0, 0.0, 3.0]).tolist()
    [-0.5, 0.0, 0.75]
    """
    return _soft_sign(x)


def _root(x: jax.Array, b: jax.Array) -> jax.Array:
    """sqrt(x^2 + b), without overflow."""
    bounded = jnp.clip(x, -_limit(x, 1e19, 1e154), _limit(x, 1e19, 1e154))
    return jnp.maximum(jnp.sqrt(bounded * bounded + b), abs(x))


def _squareplus_value(x: jax.Array, b: jax.Array) -> jax.Array:
    r = _root(x, b)
    # For x < 0 the sum x + r cancels.
    return jnp.where(x > 0, x / 2 + r / 2, b / 2 / jnp.where(r == x, 1, r - x))


def _squareplus_slope(x: jax.Array, b: jax.Array) -> jax.Array:
    x = _finite(x)
    r = _root(x, b)
    return _squareplus_value(x, b) / jnp.where(r == 0, 1, r)


_squareplus = smooth(
    "squareplus",
    _squareplus_value,
    _squareplus_slope,
    lambda x, b: 0.25 / _root(x, b),
    parameters={"b": {"minimum": 0}},
)


def squareplus(x: ArrayLike, b: ArrayLike = 4) -> jax.Array:
    r"""Squareplus.

    $$
    \mathrm{squareplus}(x) = \frac{x + \sqrt{x^2 + b}}{2}
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.
      b: the smoothness, b ≥ 0, a number or an array that broadcasts against ``x``
        (differentiable).

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: b is NaN or negative.

    Reference: Barron, "Squareplus: a softplus-like algebraic rectifier", 2021 (arXiv 2112.11687).

    >>> squareplus([-1.5, 0.0, 1.5]).tolist()
    [0.5, 1.0, 2.0]
    """
    return _squareplus(x, b)


# ------------------------------------------------------------------------------------------------
# Piecewise quadratic functions


_relu_squared = smooth(
    "relu_squared",
    lambda x: pieces(x, (is_positive(x), x * x), otherwise=0),
    lambda x: pieces(x, (is_positive(x), 2 * x), otherwise=0),
)


def relu_squared(x: ArrayLike) -> jax.Array:
    r"""Squared rectified linear unit.

    $$
    \mathrm{relu\_squared}(x) = \max(x, 0)^2
    $$

    The derivative at 0 is 0. Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Reference: So et al., "Primer: searching for efficient transformers", 2021 (arXiv 2109.08668).

    >>> relu_squared([-1.0, 0.0, 3.0]).tolist()
    [0.0, 0.0, 9.0]
    """
    return _relu_squared(x)


_hard_silu = smooth(
    "hard_silu",
    lambda x: pieces(x, (x <= -3, 0), (x >= 3, x), otherwise=x * ((x + 3) / 6)),
    lambda x: pieces(x, (x <= -3, 0), (x >= 3, 1), otherwise=(2 * x + 3) / 6),
)


def hard_silu(x: ArrayLike) -> jax.Array:
    r"""Hard SiLU, also called hard Swish.

    $$
    \mathrm{hard\_silu}(x) = x \, \mathrm{hard\_sigmoid}(x)
    $$

    The derivative is 0 at -3 and 1 at 3. Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``; 0 at -inf.

    Raises:
      TypeError: complex input.

    Reference: Howard et al., "Searching for MobileNetV3", 2019 (arXiv 1905.02244).

    >>> hard_silu([-4.0, 1.5, 4.0]).tolist()
    [0.0, 1.125, 4.0]
    """
    return _hard_silu(x)


hard_swish = hard_silu


_sparse_plus = smooth(
    "sparse_plus",
    lambda x: pieces(x, (x <= -1, 0), (x >= 1, x), otherwise=(x + 1) ** 2 / 4),
    lambda x: pieces(x, (x <= -1, 0), (x >= 1, 1), otherwise=(x + 1) / 2),
)


def sparse_plus(x: ArrayLike) -> jax.Array:
    r"""Sparse softplus.

    $$
    \mathrm{sparse\_plus}(x) = \begin{cases} 0 & x \le -1 \\ (x + 1)^2 / 4 & -1 < x < 1 \\
    x & x \ge 1 \end{cases}
    $$

    Its derivative is `sparse_sigmoid`. Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Reference: Martins and Astudillo, "From softmax to sparsemax", 2016 (arXiv 1602.02068).

    >>> sparse_plus([-2.0, 0.0, 2.0]).tolist()
    [0.0, 0.25, 2.0]
    """
    return _sparse_plus(x)
