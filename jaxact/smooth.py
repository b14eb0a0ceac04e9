"""Smooth and piecewise smooth activations: each a value and its slope, side by side.

Formulas take an `Elementary` m, which computes exponentials as accurately as the dtype of the
result needs. Those of the gates x S(x) hold on both sides of 0 up to a cap where S is 1.

The slope of such a gate has a zero z < 0, around which terms of opposite sign cancel. Written in
the distance x - z and the change of the exponential from z to x, which both have the sign of the
result, nothing cancels.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

import jaxact._native as native
import jaxact._plain as plain
from jaxact._core import coefficients
from jaxact._core.arithmetic import Real, clip, is_positive, maximum, minimum, where
from jaxact._core.elementary import Elementary, Exponential, Sum, horner, minus_abs
from jaxact._core.smooth import smooth
from jaxact._native import SELU_ALPHA, SELU_SCALE

#: The public functions, in the order of `jaxact.ACTIVATIONS`.
__all__ = [  # noqa: RUF022
    "elu",
    "celu",
    "selu",
    "silu",
    "swish",
    "quick_gelu",
    "gelu",
    "mish",
    "sigmoid",
    "softplus",
    "log_sigmoid",
    "tanh",
    "tanh_shrink",
    "soft_sign",
    "squareplus",
    "relu_squared",
    "hard_silu",
    "hard_swish",
    "sparse_plus",
]

#: The power of two that exponentials carry where they are multiplied by what may be large.
_SCALE = 8


def _gated_value(x: Real, bounded: Real, e: Exponential, cap: float) -> Real:
    """x e / (1 + e), which is x beyond the cap.

    The exponential is of a number not far beyond it: even the derivative of what is not selected
    must be finite.
    """
    return where(x > cap, x, bounded * e.value / (e.value + 2**e.scale))


def _gated_slope(
    m: Elementary,
    x: Real,
    e: Exponential,
    distance: Sum,
    bracket: Sequence[str],
    e_at_anchor: str,
) -> Real:
    """The slope of x sigmoid(v(x)), from what it is at -|x|: e (1 + e + x v') / (1 + e)^2.

    There e = exp(v), and the argument is that over its value e0 at an anchor next to the slope's
    zero. ``bracket`` has the coefficients of 1 + e0 + x v' in powers of the distance of -|x| from
    the anchor. With scaled exponentials, numerator and denominator are scale^2 / e0 times those.
    """
    e0, scale = float(e_at_anchor), 2.0**e.scale
    total = horner(distance.hi, [float(coefficient) * scale for coefficient in reversed(bracket)])
    change = e0 * e.minus_one
    if distance.lo is not None:
        change = change + scale * distance.lo
    denominator = e.value * (e0 * e.value + 2 * scale) + scale**2 / e0
    lower = e.times_sum(total, change) / denominator
    return where(x > 0, 1 - lower, lower)


# ------------------------------------------------------------------------------------------------
# Exponential linear units


def _exponential_part(m: Elementary, x: Real, scale: int = 0) -> Real:
    """x where it is at most 0, else 0, cut off; its derivative at 0 is 1."""
    return where(is_positive(x), 0, maximum(x, m.lowest(scale)))


def _at_most_0(x: Real, lowest: float | Real) -> Real:
    """x where it is at most 0, else 0, cut off: for values, which are not differentiated.

    The minimum needs no array of zeros, which a scan would keep throughout. It is with the smallest
    normal number: at a tie, 0, its derivative would be a half.
    """
    return minimum(maximum(x, lowest), float(jnp.finfo(x.array.dtype).tiny))


#: What an exponential carries where a factor may be large.
_LARGE = 32


def _elu_value(m: Elementary, x: Real, alpha: Real) -> Real:
    return where(is_positive(x), x, alpha * m.exp(_at_most_0(x, m.lowest())).minus_one)


def _elu_slope(m: Elementary, x: Real, alpha: Real) -> Real:
    e = m.exp(_exponential_part(m, x, _LARGE), _LARGE)
    # What enters the product is neither subnormal nor infinite.
    small = abs(alpha) < 2.0**-60
    one = Real(lax.full_like(alpha.array, 1))
    product = e.times(where(small, alpha * 2.0**_LARGE, alpha * 2.0**-_LARGE))
    return where(is_positive(x), 1, product * where(small, 2.0 ** (-2 * _LARGE), one))


_elu = smooth(
    "elu",
    _elu_value,
    _elu_slope,
    lambda m, x, alpha: where(is_positive(x), 0, m.exp(_exponential_part(m, x)).minus_one),
    kind="smooth",
    parameters={"alpha": {}},
    native=[native.elu, native.elu_slope, native.elu_alpha_slope],
    plain=plain.elu,
)


def elu(x: ArrayLike, alpha: ArrayLike = 1.0) -> jax.Array:
    r"""Exponential linear unit.

    $$
    \mathrm{elu}(x) = \begin{cases} x & x > 0 \\ \alpha (e^x - 1) & x \le 0 \end{cases}
    $$

    $$
    \mathrm{elu}'(x) = \begin{cases}
    1 & x > 0 \\
    \alpha e^x & x \le 0
    \end{cases}
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

    Examples:
      >>> elu([-1.0, 0.0, 2.0]).round(4)
      Array([-0.6321,  0.    ,  2.    ], dtype=float32)
    """
    return _elu(x, alpha)


# The quotient x / alpha is bounded, not x: a bound times alpha may be infinite.


def _celu_value(m: Elementary, x: Real, alpha: Real) -> Real:
    numerator, divisor = native.celu_fraction(minimum(x, 0), alpha)
    z = numerator / divisor
    e = m.exp(clip(z, m.lowest(), m.highest))
    negative = alpha * where(z > 80, e.value, e.minus_one)
    return where(abs(z) >= m.choose(2.0**-25, 2.0**-54), negative, x)


def _celu_slope(m: Elementary, x: Real, alpha: Real) -> Real:
    hi, lo = m.quotient(*native.celu_fraction(minimum(x, 0), alpha))
    lowest = m.lowest()
    z = Sum(clip(hi, lowest, m.highest), None if lo is None else where(abs(hi) < -lowest, lo, 0))
    return where(x >= 0, 1, m.exp(z).value)


def _celu_alpha_slope(m: Elementary, x: Real, alpha: Real) -> Real:
    """d/dalpha of alpha expm1(x / alpha) is expm1(z) - z exp(z), z = x / alpha."""
    numerator, divisor = native.celu_fraction(minimum(x, 0), alpha)
    z = clip(numerator / divisor, m.lowest(), m.highest - 1)
    near = clip(z, -0.34, 0.34)
    # expm1(z) = z + z^2 p(z), and the terms of order z cancel.
    p = m.polynomial(near, coefficients.EXP)
    e = m.exp(z)
    slope = where(abs(z) < 0.34, near * near * (p * (1 - near) - 1), e.minus_one - e.times(z))
    return where(x >= 0, 0, slope)


_celu = smooth(
    "celu",
    _celu_value,
    _celu_slope,
    _celu_alpha_slope,
    kind="smooth",
    parameters={"alpha": {"exclude_zero": True}},
    native=[native.celu, native.celu_slope, None],
    natural=[native.celu_slope, native.celu_alpha_slope],
    plain=plain.celu,
)


def celu(x: ArrayLike, alpha: ArrayLike = 1.0) -> jax.Array:
    r"""Continuously differentiable exponential linear unit.

    $$
    \mathrm{celu}(x) = \begin{cases} x & x > 0 \\ \alpha (e^{x / \alpha} - 1) & x \le 0
    \end{cases}
    $$

    $$
    \mathrm{celu}'(x) = \begin{cases}
    1 & x > 0 \\
    e^{x / \alpha} & x \le 0
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

    Examples:
      >>> celu([-1.0, 0.0, 2.0], 0.5).round(4)
      Array([-0.4323,  0.    ,  2.    ], dtype=float32)
    """
    return _celu(x, alpha)


_SELU_ALPHA_SCALE = SELU_ALPHA * SELU_SCALE


def _selu_value(m: Elementary, x: Real) -> Real:
    negative = _SELU_ALPHA_SCALE * m.exp(_at_most_0(x, m.lowest())).minus_one
    return where(is_positive(x), SELU_SCALE * x, negative)


def _selu_slope(m: Elementary, x: Real) -> Real:
    e = m.exp(_exponential_part(m, x, _SCALE), _SCALE)
    return where(is_positive(x), SELU_SCALE, e.value * (_SELU_ALPHA_SCALE / 2**_SCALE))


_selu = smooth(
    "selu",
    _selu_value,
    _selu_slope,
    kind="smooth",
    native=[native.selu, native.selu_slope],
    plain=plain.selu,
)


def selu(x: ArrayLike) -> jax.Array:
    r"""Scaled exponential linear unit.

    $$
    \mathrm{selu}(x) = \lambda \begin{cases} x & x > 0 \\ \alpha (e^x - 1) & x \le 0
    \end{cases}
    $$

    $$
    \mathrm{selu}'(x) = \begin{cases}
    \lambda & x > 0 \\
    \lambda \alpha e^x & x \le 0
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

    Examples:
      >>> selu([-1.0, 0.0, 2.0]).round(4)
      Array([-1.1113,  0.    ,  2.1014], dtype=float32)
    """
    return _selu(x)


# ------------------------------------------------------------------------------------------------
# Gates: x times a sigmoid


def _silu_value(m: Elementary, x: Real) -> Real:
    bounded = clip(x, m.lowest(_SCALE), 60)
    return _gated_value(x, bounded, m.exp(bounded, _SCALE), cap=40)


def _sigmoid_gate_slope(m: Elementary, x: Real, v: Sum) -> Real:
    """The slope of v sigmoid(v), from v at -|x|."""
    distance = v._replace(hi=v.hi - float(coefficients.SILU_ANCHOR))
    bracket = (coefficients.SILU_BRACKET, "1")
    return _gated_slope(m, x, m.exp(distance, _SCALE), distance, bracket, coefficients.SILU_EXP)


def _silu_slope(m: Elementary, x: Real) -> Real:
    lowest = m.lowest(_SCALE) + float(coefficients.SILU_ANCHOR)
    return _sigmoid_gate_slope(m, x, Sum(maximum(-abs(x), lowest)))


_silu = smooth(
    "silu",
    _silu_value,
    _silu_slope,
    kind="smooth",
    native=[native.silu, native.silu_slope],
    plain=plain.silu,
)


def _swish_argument(
    m: Elementary, x: Real, beta: Real, lowest: float, highest: float
) -> tuple[Real, Sum]:
    """x without infinities, and beta x cut off at two limits."""
    largest = float(jnp.finfo(x.array.dtype).max)
    finite = clip(x, -largest, largest)
    # The parts of the product are not subnormal: what is huge or tiny lends to the other.
    factor = clip(beta, -largest, largest)
    large, small = abs(factor) > 2.0**60, abs(factor) < 2.0**-60
    factor = where(large, factor * 2.0**-60, where(small, factor * 2.0**60, factor))
    other = where(large, finite * 2.0**60, where(small, finite * 2.0**-60, finite))
    hi, lo = m.product(factor, other)
    bounded = clip(hi, lowest, highest)
    return finite, Sum(bounded, None if lo is None else where(abs(hi) > abs(bounded), 0, lo))


def _minus_abs(v: Sum) -> Sum:
    """-|v|."""
    positive = v.hi > 0
    lo = None if v.lo is None else where(positive, -v.lo, v.lo)
    return Sum(where(positive, -v.hi, v.hi), lo)


def _times_power(e: Exponential, x: Real, power: int) -> Real:
    """e x or e x^2 without the scale of e, in an order in which only the result may underflow."""
    large, small = e.value, e.value * 2.0**-e.scale
    for _ in range(power):
        large, small = large * (x * 2.0 ** (-e.scale // power)), small * x
    return where(abs(x) > 1, large, small)


def _swish_value(m: Elementary, x: Real, beta: Real) -> Real:
    lowest = m.lowest(_LARGE)
    finite, v = _swish_argument(m, x, beta, lowest, -lowest)
    e = m.exp(_minus_abs(v), _LARGE)
    bounded = where(v.hi > lowest, x, finite)
    numerator = where(v.hi < 0, _times_power(e, bounded, 1), x)
    return numerator / (1 + e.value * 2.0**-_LARGE)


def _swish_slope(m: Elementary, x: Real, beta: Real) -> Real:
    lowest = m.lowest(_SCALE) + float(coefficients.SILU_ANCHOR)
    _, v = _swish_argument(m, x, beta, lowest, -lowest)
    return _sigmoid_gate_slope(m, v.hi, _minus_abs(v))


def _swish_beta_slope(m: Elementary, x: Real, beta: Real) -> Real:
    lowest = m.lowest(_LARGE)
    finite, v = _swish_argument(m, x, beta, lowest, -lowest)
    e = m.exp(_minus_abs(v), _LARGE)
    one_more = 1 + e.value * 2.0**-_LARGE
    return _times_power(e, finite, 2) / (one_more * one_more)


_swish = smooth(
    "silu",
    _swish_value,
    _swish_slope,
    _swish_beta_slope,
    kind="smooth",
    cells="",
    parameters={"beta": {}},
    mark="swish",
    native=[native.swish, native.swish_slope, native.swish_beta_slope],
    plain=plain.swish,
)


def silu(x: ArrayLike, *, beta: ArrayLike = 1.0) -> jax.Array:
    r"""Sigmoid linear unit, also called Swish.

    $$
    \mathrm{silu}(x) = x \, \sigma(\beta x) = \frac{x}{1 + e^{-\beta x}}
    $$

    $$
    \mathrm{silu}'(x) = \sigma(\beta x) \, (1 + \beta x \, \sigma(-\beta x))
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.
      beta: β, a number or an array that broadcasts against ``x`` (differentiable): 0 makes half of
        the identity, large values approach `relu`.

    Returns:
      An array of the dtype of ``x``; 0 at -inf, for positive β.

    Raises:
      TypeError: complex input.
      ValueError: β is NaN.

    Reference: Elfwing et al., "Sigmoid-weighted linear units", 2017 (arXiv 1702.03118);
    Ramachandran et al., "Searching for activation functions", 2017 (arXiv 1710.05941), who learn β.

    Examples:
      >>> silu([-2.0, 0.0, 1.0]).round(3)
      Array([-0.238,  0.   ,  0.731], dtype=float32)
      >>> silu([-1.0, 0.0, 2.0], beta=2.0).round(4)
      Array([-0.1192,  0.    ,  1.964 ], dtype=float32)
    """
    if isinstance(beta, int | float) and beta == 1:
        return _silu(x)
    return _swish(x, beta)


swish = silu


def _quick_gelu_value(m: Elementary, x: Real) -> Real:
    bounded = clip(x, m.lowest(_SCALE) / 1.702, 40)
    return _gated_value(x, bounded, m.exp(m.times("1.702", bounded), _SCALE), cap=25)


def _quick_gelu_slope(m: Elementary, x: Real) -> Real:
    lowest = (m.lowest(_SCALE) + float(coefficients.SILU_ANCHOR)) / 1.702
    return _sigmoid_gate_slope(m, x, m.times("1.702", maximum(-abs(x), lowest)))


_quick_gelu = smooth(
    "quick_gelu",
    _quick_gelu_value,
    _quick_gelu_slope,
    kind="smooth",
    native=[native.quick_gelu, native.quick_gelu_slope],
    plain=plain.quick_gelu,
)


def quick_gelu(x: ArrayLike) -> jax.Array:
    r"""Sigmoid approximation of the Gaussian error linear unit.

    $$
    \mathrm{quick\_gelu}(x) = x \, \sigma(1.702 x)
    $$

    $$
    \mathrm{quick\_gelu}'(x) = \sigma(1.702 x) \, (1 + 1.702 x \, \sigma(-1.702 x))
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``; 0 at -inf.

    Raises:
      TypeError: complex input.

    Reference: Hendrycks and Gimpel, "Gaussian error linear units", 2016 (arXiv 1606.08415).

    Examples:
      >>> quick_gelu([-2.0, 0.0, 1.0]).round(3)
      Array([-0.064,  0.   ,  0.846], dtype=float32)
    """
    return _quick_gelu(x)


# The tanh form is x sigmoid(u(x)), with u(x) = 2 sqrt(2 / pi) (x + 0.044715 x^3). Its exponential
# is a power of 2, whose argument in coefficients has the factor 1 / ln 2.


def _gelu_tanh_value(m: Elementary, x: Real) -> Real:
    bounded = clip(x, m.choose(*coefficients.GELU_TANH_LOWEST), 12)
    e = m.exp2(m.cubic(coefficients.GELU_TANH_ARGUMENT, bounded, middle=9.2), _SCALE)
    return _gated_value(x, bounded, e, cap=8)


def _gelu_tanh_slope(m: Elementary, x: Real) -> Real:
    anchor = float(coefficients.GELU_TANH_ANCHOR)
    lowest = m.choose(*coefficients.GELU_TANH_CHANGE_LOWEST) + anchor
    distance = maximum(-abs(x), lowest) - anchor
    e = m.exp2(m.cubic(coefficients.GELU_TANH_CHANGE, distance, middle=7.6), _SCALE)
    bracket = coefficients.GELU_TANH_BRACKET
    return _gated_slope(m, x, e, Sum(distance), bracket, coefficients.GELU_TANH_EXP)


# The exact form, x Phi(x), and its slope follow from the lower tail of the normal distribution:
# exp(-t^2 / 2) times a fraction of polynomials in t = |x|. Around 0, and around the slope's zero,
# they have polynomials of their own.


def _normal_tail(m: Elementary, x: Real) -> tuple[Real, Exponential]:
    """t as far as the exponential has not vanished, and that."""
    t = minimum(abs(x), math.sqrt(-2 * m.lowest(_SCALE)))
    return t, m.exp(m.square(t, -0.5), _SCALE)


def _gelu_erf_value(m: Elementary, x: Real) -> Real:
    t, e = _normal_tail(m, x)
    _, numerator, denominator = m.rational(t, coefficients.NORMAL_TAIL)
    # x Phi(x) is x - t Phi(-t) for x > 0, and -t Phi(-t) for x < 0.
    outer = maximum(x, 0) - e.times(numerator) / (denominator * 2.0**_SCALE)
    near = clip(x, -1, 1)
    center = x * (0.5 + near * m.polynomial(near * near, coefficients.NORMAL_CENTER))
    return where(abs(x - 0.25) < 0.75, center, outer)


def _gelu_erf_slope(m: Elementary, x: Real) -> Real:
    t, e = _normal_tail(m, x)
    numerator, _, denominator = m.rational(t, coefficients.NORMAL_TAIL)
    outer = e.times(numerator / denominator - t * (1 / math.sqrt(2 * math.pi)))
    # Of -t from the zero.
    distance = 0.5 * clip(native.twice_gelu_zero_minus(t), -1.52, 1.52)
    center = distance * m.polynomial(distance, coefficients.GELU_SLOPE)
    lower = where(abs(distance) < 0.76, center, outer * 2.0**-_SCALE)
    # x Phi(x) is x - (-x) Phi(-x).
    return where(x > 0, 1 - lower, lower)


_gelu_tanh = smooth(
    "gelu",
    _gelu_tanh_value,
    _gelu_tanh_slope,
    kind="smooth",
    native=[native.gelu_tanh, native.gelu_tanh_slope],
    plain=plain.gelu_tanh,
)
_gelu_erf = smooth(
    "gelu",
    _gelu_erf_value,
    _gelu_erf_slope,
    kind="smooth",
    cells="gelu_erf",
    mark="gelu_erf",
    native=[native.gelu_erf, native.gelu_erf_slope],
    natural=[native.gelu_erf_natural_slope],
    plain=plain.gelu_erf,
)


def gelu(x: ArrayLike, approximate: bool = True) -> jax.Array:
    r"""Gaussian error linear unit.

    $$
    \mathrm{gelu}(x) = x \, \Phi(x) = \frac{x}{2} \left(1 + \mathrm{erf}
    \frac{x}{\sqrt 2}\right) \approx \frac{x}{2} \left(1 + \tanh\left(\sqrt{\frac{2}{\pi}}
    \left(x + 0.044715 x^3\right)\right)\right)
    $$

    $$
    \mathrm{gelu}'(x) = \Phi(x) + x \, \Phi'(x), \quad \Phi'(x) = \frac{e^{-x^2 / 2}}{\sqrt{2 \pi}}
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

    Examples:
      >>> gelu([-2.0, 0.0, 2.0]).round(3)
      Array([-0.045,  0.   ,  1.955], dtype=float32)
      >>> gelu([-2.0, 0.0, 2.0], approximate=False).round(4)
      Array([-0.0455,  0.    ,  1.9545], dtype=float32)
    """
    return (_gelu_tanh if approximate else _gelu_erf)(x)


def _mish_value(m: Elementary, x: Real) -> Real:
    bounded = clip(x, m.lowest(_SCALE), 25)
    e = m.exp(bounded, _SCALE)
    n = e.value * 2.0**-_SCALE
    # tanh(log(1 + n)), n = exp(x), is n (n + 2) / (n (n + 2) + 2).
    xe = e.times(bounded)
    value = (xe * n + 2 * xe) / ((n * (n + 2) + 2) * 2.0**_SCALE)
    return where(x > m.choose(12, 22), x, value)


def _mish_slope(m: Elementary, x: Real) -> Real:
    # The slope is n G / D, with n = exp(x), D = (n (n + 2) + 2)^2 and
    # G = n^3 + 4 n^2 + 6 n + 4 + 4 x (n + 1),
    # written as its change from an anchor next to its zero; x = -0.5 to 0 has a polynomial.
    # For x > 0 it is 1 - (4 + n (4 - 4 x + n (2 - 4 x))) / D.
    a, n0 = float(coefficients.MISH_ANCHOR), float(coefficients.MISH_EXP)
    bounded = clip(x, m.lowest(_SCALE), m.choose(12, 22))
    y = 4 * bounded
    distance = bounded - a
    # Of the change from the anchor.
    e = m.exp(distance, _SCALE)
    n = e.value * (n0 * 2.0**-_SCALE)
    n_change = e.minus_one * (n0 * 2.0**-_SCALE)
    constant, linear = (6 + 4 * a) + 8 * n0 + 3 * n0**2, 4 + 3 * n0
    change = n_change * (n_change * (n_change + linear) + constant)
    left = e.times_sum(4 * distance, 4 * distance * n + (change + float(coefficients.MISH_BRACKET)))
    right = n * (n * (2 - y) + (4 - y)) + 4
    d = n * (n * (n * (n + 4) + 8) + 8) + 4
    slope = where(x > 0, right, left * (n0 * 2.0**-_SCALE)) / d
    near = clip(x, -0.5, 0)
    middle = 0.6 + near * m.polynomial(near, coefficients.MISH_SLOPE)
    return where(x > 0, 1 - slope, where(x > -0.5, middle, slope))


_mish = smooth(
    "mish",
    _mish_value,
    _mish_slope,
    kind="smooth",
    native=[native.mish, native.mish_slope],
    plain=plain.mish,
)


def mish(x: ArrayLike) -> jax.Array:
    r"""Mish.

    $$
    \mathrm{mish}(x) = x \tanh(\log(1 + e^x))
    $$

    $$
    \mathrm{mish}'(x) = \tanh(s) + x \, \sigma(x) \, (1 - \tanh^2(s)), \quad s = \log(1 + e^x)
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

    Examples:
      >>> mish([-2.0, 0.0, 2.0]).round(4)
      Array([-0.2525,  0.    ,  1.944 ], dtype=float32)
    """
    return _mish(x)


# ------------------------------------------------------------------------------------------------
# Sigmoids and softplus


def _sigmoid_value(m: Elementary, x: Real) -> Real:
    e = m.exp(clip(x, m.lowest(_SCALE), 40), _SCALE).value
    return e / (e + 2**_SCALE)


def _sigmoid_slope(m: Elementary, x: Real) -> Real:
    e = m.exp(maximum(-abs(x), m.lowest())).value
    return e / (1 + e * (2 + e))


def _softplus_value(m: Elementary, x: Real) -> Real:
    # The minimum is -|x|, with the derivative 0 at 0.
    return maximum(x, 0) + m.log1p(m.exp(maximum(minimum(x, -x), m.lowest())).value)


_sigmoid = smooth(
    "sigmoid",
    _sigmoid_value,
    _sigmoid_slope,
    kind="saturating",
    native=[native.sigmoid, native.sigmoid_slope],
    plain=plain.sigmoid,
)
_softplus = smooth(
    "softplus",
    _softplus_value,
    _sigmoid_value,
    kind="saturating",
    native=[native.softplus, native.sigmoid],
    plain=plain.softplus,
)
_log_sigmoid = smooth(
    "log_sigmoid",
    lambda m, x: -_softplus_value(m, -x),
    lambda m, x: _sigmoid_value(m, -x),
    kind="saturating",
    native=[native.log_sigmoid, native.log_sigmoid_slope],
    plain=plain.log_sigmoid,
)


def sigmoid(x: ArrayLike) -> jax.Array:
    r"""Logistic sigmoid.

    $$
    \mathrm{sigmoid}(x) = \sigma(x) = \frac{1}{1 + e^{-x}}
    $$

    $$
    \mathrm{sigmoid}'(x) = \sigma(x) \, \sigma(-x)
    $$

    Residual: the input (the output loses the slope's tail).

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Examples:
      >>> sigmoid([-2.0, 0.0, 1.0]).round(3)
      Array([0.119, 0.5  , 0.731], dtype=float32)
    """
    return _sigmoid(x)


def softplus(x: ArrayLike) -> jax.Array:
    r"""Softplus.

    $$
    \mathrm{softplus}(x) = \log(1 + e^x)
    $$

    $$
    \mathrm{softplus}'(x) = \sigma(x)
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

    Examples:
      >>> softplus([-2.0, 0.0, 2.0]).round(3)
      Array([0.127, 0.693, 2.127], dtype=float32)
    """
    return _softplus(x)


def log_sigmoid(x: ArrayLike) -> jax.Array:
    r"""Logarithm of the logistic sigmoid.

    $$
    \mathrm{log\_sigmoid}(x) = \log \sigma(x) = -\log(1 + e^{-x})
    $$

    $$
    \mathrm{log\_sigmoid}'(x) = \sigma(-x)
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Examples:
      >>> log_sigmoid([-1.0, 0.0, 2.0]).round(4)
      Array([-1.3133, -0.6931, -0.1269], dtype=float32)
    """
    return _log_sigmoid(x)


def _tanh_value(m: Elementary, x: Real) -> Real:
    cap = m.choose(10, 20)
    expm1 = m.exp(2 * clip(x, -cap, cap)).minus_one
    return expm1 / (expm1 + 2)


def _tanh_slope(m: Elementary, x: Real) -> Real:
    e = m.exp(maximum(-2 * abs(x), m.lowest(2)), 2).value
    return e / (1 + e * (0.5 + e * 0.0625))


_tanh = smooth(
    "tanh",
    _tanh_value,
    _tanh_slope,
    kind="saturating",
    native=[native.tanh, native.tanh_slope],
    plain=plain.tanh,
)


def tanh(x: ArrayLike) -> jax.Array:
    r"""Hyperbolic tangent.

    $$
    \tanh(x) = \frac{e^x - e^{-x}}{e^x + e^{-x}}
    $$

    $$
    \mathrm{tanh}'(x) = 1 - \tanh^2(x)
    $$

    Residual: the input (the output loses the slope's tail).

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Examples:
      >>> tanh([-2.0, 0.0, 2.0]).round(4)
      Array([-0.964,  0.   ,  0.964], dtype=float32)
    """
    return _tanh(x)


def _tanh_shrink_value(m: Elementary, x: Real) -> Real:
    near = clip(x, -1.5, 1.5)
    square = near * near
    return where(
        abs(x) < 1.5,
        near * square * m.polynomial(square, coefficients.TANH_SHRINK),
        x - _tanh_value(m, x),
    )


def _tanh_shrink_slope(m: Elementary, x: Real) -> Real:
    """tanh(x)^2, where it is large 1 - 1 / cosh(x)^2."""
    near = clip(x, -1, 1)
    tanh = near - _tanh_shrink_value(m, near)
    return where(abs(x) < 1, tanh * tanh, 1 - _tanh_slope(m, x))


_tanh_shrink = smooth(
    "tanh_shrink",
    _tanh_shrink_value,
    _tanh_shrink_slope,
    kind="smooth",
    native=[native.tanh_shrink, native.tanh_shrink_slope],
    plain=plain.tanh_shrink,
)


def tanh_shrink(x: ArrayLike) -> jax.Array:
    r"""Tanh shrinkage.

    $$
    \mathrm{tanh\_shrink}(x) = x - \tanh(x)
    $$

    $$
    \mathrm{tanh\_shrink}'(x) = \tanh^2(x)
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Examples:
      >>> tanh_shrink([-1.0, 0.0, 2.0]).round(4)
      Array([-0.2384,  0.    ,  1.036 ], dtype=float32)
    """
    return _tanh_shrink(x)


def _finite(x: Real) -> Real:
    """x, with the largest finite number for infinity."""
    largest = float(jnp.finfo(x.array.dtype).max)
    return clip(x, -largest, largest)


def _soft_sign_slope(m: Elementary, x: Real) -> Real:
    root = 1 / (1 - minus_abs(_finite(x)))
    return root * root


_soft_sign = smooth(
    "soft_sign",
    lambda m, x: _finite(x) / (1 + abs(_finite(x))),
    _soft_sign_slope,
    kind="saturating",
    plain=plain.soft_sign,
)


def soft_sign(x: ArrayLike) -> jax.Array:
    r"""Soft sign.

    $$
    \mathrm{soft\_sign}(x) = \frac{x}{1 + |x|}
    $$

    $$
    \mathrm{soft\_sign}'(x) = \frac{1}{(1 + |x|)^2}
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``; ±1 at ±inf.

    Raises:
      TypeError: complex input.

    Reference: Turian et al., "Quadratic features and deep architectures for chunking", 2009.

    Examples:
      >>> soft_sign([-1.0, 0.0, 3.0])
      Array([-0.5 ,  0.  ,  0.75], dtype=float32)
    """
    return _soft_sign(x)


def _squareplus_scaled(m: Elementary, x: Real, b: Real) -> tuple[Real, Real, Real, Real]:
    """1 / s, s |x|, s^2 b, and s^2 (x^2 + b), for a power of two s; x cut off before an overflow.

    squareplus(x, b) is squareplus(s x, s^2 b) / s, and there b is neither huge nor tiny.
    """
    large, small = m.choose(2.0**30, 2.0**500), m.choose(2.0**-60, 2.0**-500)
    shrink, grow = m.choose(2.0**-40, 2.0**-300), m.choose(2.0**40, 2.0**300)
    one = Real(lax.full_like(b.array, 1))
    s = where(b > large, shrink, where(b < small, grow, one))
    inverse = where(b > large, 1 / shrink, where(b < small, 1 / grow, one))
    y, c = maximum(x, -x) * s, b * s * s
    bounded = minimum(y, m.choose(1e19, 1e154))
    return inverse, y, c, maximum(bounded * bounded + c, float(jnp.finfo(x.array.dtype).tiny))


def _root(square: Real) -> Real:
    return Real(lax.sqrt(square.array))


def _squareplus_value(m: Elementary, x: Real, b: Real) -> Real:
    inverse, y, c, square = _squareplus_scaled(m, x, b)
    # (x + r) / 2, which cancels for x < 0 and overflows for large x.
    return maximum(x, 0) + 0.5 * c / (y + maximum(_root(square), y)) * inverse


def _squareplus_slope(m: Elementary, x: Real, b: Real) -> Real:
    _, y, c, square = _squareplus_scaled(m, x, b)
    lower = 0.5 * c / (square + _finite(y) * _root(square))
    return where(x > 0, 1 - lower, lower)


def _squareplus_b_slope(m: Elementary, x: Real, b: Real) -> Real:
    inverse, _, _, square = _squareplus_scaled(m, x, b)
    return 0.25 / maximum(_root(square) * inverse, abs(x))


_squareplus = smooth(
    "squareplus",
    _squareplus_value,
    _squareplus_slope,
    _squareplus_b_slope,
    kind="saturating",
    parameters={"b": {"minimum": 0}},
    plain=plain.squareplus,
)


def squareplus(x: ArrayLike, b: ArrayLike = 4) -> jax.Array:
    r"""Squareplus.

    $$
    \mathrm{squareplus}(x) = \frac{x + \sqrt{x^2 + b}}{2}
    $$

    $$
    \mathrm{squareplus}'(x) = \frac{1}{2} \left(1 + \frac{x}{\sqrt{x^2 + b}}\right)
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

    Examples:
      >>> squareplus([-1.5, 0.0, 1.5])
      Array([0.5, 1. , 2. ], dtype=float32)
    """
    return _squareplus(x, b)


# ------------------------------------------------------------------------------------------------
# Piecewise quadratic functions


def _relu_squared_from_output(size: int, t: jax.Array, y: jax.Array) -> jax.Array:
    square = Real(y)
    # Not sqrt(0), which has no second derivative.
    root = _root(where(square <= 0, 1, square)).array
    if size == 2:  # In bfloat16, as in a wider dtype, the root of the rounded square is x.
        root = lax.reduce_precision(root, 8, 7)
    return (Real(t) * where(square <= 0, 0, 2 * Real(root))).array


_relu_squared = smooth(
    "relu_squared",
    lambda m, x: maximum(x, 0) * maximum(x, 0),
    lambda m, x: 2 * maximum(x, 0),
    kind="rectifier",
    close_from_output=_relu_squared_from_output,
    plain=plain.relu_squared,
)


def relu_squared(x: ArrayLike) -> jax.Array:
    r"""Squared rectified linear unit.

    $$
    \mathrm{relu\_squared}(x) = \max(x, 0)^2
    $$

    $$
    \mathrm{relu\_squared}'(x) = 2 \max(x, 0)
    $$

    The derivative at 0 is 0. Residual: the input. Under ``autodiff(residual="output")`` the output,
    but for float16 and less: its root is the input exactly, unless the square has under- or
    overflown (0 < x < 1.1e-19, whose gradient is then 0, and x > 1.8e19).

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Reference: So et al., "Primer: searching for efficient transformers", 2021 (arXiv 2109.08668).

    Examples:
      >>> relu_squared([-1.0, 0.0, 3.0])
      Array([0., 0., 9.], dtype=float32)
    """
    return _relu_squared(x)


def _hard_silu_value(m: Elementary, x: Real) -> Real:
    bounded = maximum(x, -3)
    return bounded * ((minimum(bounded, 3) + 3) * (1 / 6))


_hard_silu = smooth(
    "hard_silu",
    _hard_silu_value,
    lambda m, x: where(x <= -3, 0, where(x >= 3, 1, (2 * x + 3) * (1 / 6))),
    kind="rectifier",
    plain=plain.hard_silu,
)


def hard_silu(x: ArrayLike) -> jax.Array:
    r"""Hard SiLU, also called hard Swish.

    $$
    \mathrm{hard\_silu}(x) = x \, \mathrm{hard\_sigmoid}(x)
    $$

    $$
    \mathrm{hard\_silu}'(x) = \begin{cases}
    0 & x \le -3 \\
    (2 x + 3) / 6 & -3 < x < 3 \\
    1 & x \ge 3
    \end{cases}
    $$

    The derivative is 0 at -3 and 1 at 3. Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``; 0 at -inf.

    Raises:
      TypeError: complex input.

    Reference: Howard et al., "Searching for MobileNetV3", 2019 (arXiv 1905.02244).

    Examples:
      >>> hard_silu([-4.0, 1.5, 4.0])
      Array([-0.   ,  1.125,  4.   ], dtype=float32)
    """
    return _hard_silu(x)


hard_swish = hard_silu


def _sparse_plus_value(m: Elementary, x: Real) -> Real:
    root = (maximum(x, -1) + 1) * 0.5
    return where(x >= 1, x, root * root)


_sparse_plus = smooth(
    "sparse_plus",
    _sparse_plus_value,
    lambda m, x: (clip(x, -1, 1) + 1) * 0.5,
    kind="rectifier",
    plain=plain.sparse_plus,
)


def sparse_plus(x: ArrayLike) -> jax.Array:
    r"""Sparse softplus.

    $$
    \mathrm{sparse\_plus}(x) = \begin{cases} 0 & x \le -1 \\ (x + 1)^2 / 4 & -1 < x < 1 \\
    x & x \ge 1 \end{cases}
    $$

    $$
    \mathrm{sparse\_plus}'(x) = \begin{cases}
    0 & x \le -1 \\
    (x + 1) / 2 & -1 < x < 1 \\
    1 & x \ge 1
    \end{cases}
    $$

    Its derivative is `sparse_sigmoid`. Residual: the input.

    Args:
      x: any real array-like, of any shape.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      TypeError: complex input.

    Reference: Martins and Astudillo, "From softmax to sparsemax", 2016 (arXiv 1602.02068).

    Examples:
      >>> sparse_plus([-2.0, 0.0, 2.0])
      Array([0.  , 0.25, 2.  ], dtype=float32)
    """
    return _sparse_plus(x)
