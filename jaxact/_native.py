"""The formulas of `jaxact.smooth` in the compiler's own elementary functions.

TPUs and GPUs have instructions for them, where a polynomial of ours would cost several times the
multiplication that a gradient needs anyway. So accelerators compute values and slopes of 32 bits
and fewer with these. They are also what second and higher derivatives are taken of, everywhere.

Nothing here is NaN or 0 where the truth is not, but for the far tails: where an exponential
vanishes, so does its product with a large factor.
"""

import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxact._core import coefficients
from jaxact._core.arithmetic import Real, clip, equals, is_positive, maximum, minimum, where
from jaxact._core.elementary import Elementary, horner

#: Beyond plus and minus this, an exponential is 0 or its sigmoid 1, in every dtype.
FAR = 1e3


def exp(x: Real) -> Real:
    return Real(lax.exp(x.array))


def _expm1(x: Real) -> Real:
    return Real(lax.expm1(x.array))


def tanh(x: Real) -> Real:
    return Real(lax.tanh(x.array))


@jax.custom_jvp
def _logistic(x: jax.Array) -> jax.Array:
    return lax.logistic(x)


@_logistic.defjvp
def _logistic_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> Any:
    # JAX's rule, p (1 - p), is 0 where p rounds to 1.
    ((x,), (t,)) = primals, tangents
    p = _logistic(x)
    return p, lax.mul(t, lax.mul(p, _logistic(lax.neg(x))))


def sigmoid(x: Real) -> Real:
    return Real(_logistic(x.array))


def sigmoid_slope(x: Real) -> Real:
    return sigmoid(x) * sigmoid(-x)


def tanh_slope(x: Real) -> Real:
    """1 / cosh(x)^2."""
    return 4 * sigmoid_slope(2 * x)


def softplus(x: Real) -> Real:
    return maximum(x, 0) + Real(lax.log1p(exp(-abs(x)).array))


def log_sigmoid(x: Real) -> Real:
    return -softplus(-x)


def log_sigmoid_slope(x: Real) -> Real:
    return sigmoid(-x)


# Exponential linear units. The argument of an exponential is where(), not minimum(): at 0 the
# derivative of minimum() is a half.


def _negative_part(x: Real) -> Real:
    return where(is_positive(x), 0, x)


def elu(x: Real, alpha: Real) -> Real:
    return where(is_positive(x), x, alpha * _expm1(minimum(x, 0)))


def elu_slope(x: Real, alpha: Real) -> Real:
    return where(is_positive(x), 1, alpha * exp(_negative_part(x)))


def elu_alpha_slope(x: Real, alpha: Real) -> Real:
    return _expm1(_negative_part(x))


def celu_fraction(negative: Real, alpha: Real) -> tuple[Real, Real]:
    """Numerator and divisor of negative / alpha, which compilers take as a product with 1 / alpha.

    So both are scaled until that is neither infinite nor subnormal; nor is it NaN at 0 and -inf.
    """
    info = jnp.finfo(alpha.array.dtype)
    normal = where(abs(alpha) < float(info.tiny), float(info.tiny), alpha)
    divisor = clip(normal, -float(info.max), float(info.max))
    one = Real(lax.full_like(alpha.array, 1))
    small, large = abs(divisor) < 2.0**-60, abs(divisor) > 2.0**60
    scale = where(small, 2.0**40, where(large, 2.0**-40, one))
    return negative * scale, divisor * scale


def celu(x: Real, alpha: Real) -> Real:
    numerator, divisor = celu_fraction(minimum(x, 0), alpha)
    z = numerator / divisor
    # Next to 0 it is x, in float32; z itself may have underflowed.
    return where(abs(z) >= 2.0**-25, alpha * _expm1(z), x)


def celu_slope(x: Real, alpha: Real) -> Real:
    numerator, divisor = celu_fraction(_negative_part(x), alpha)
    return exp(numerator / divisor)


def celu_alpha_slope(x: Real, alpha: Real) -> Real:
    numerator, divisor = celu_fraction(_negative_part(x), alpha)
    z = numerator / divisor
    finite = maximum(z, -FAR)
    return _expm1(z) - finite * exp(z)


SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def selu(x: Real) -> Real:
    negative = (SELU_ALPHA * SELU_SCALE) * _expm1(minimum(x, 0))
    return where(is_positive(x), SELU_SCALE * x, negative)


def selu_slope(x: Real) -> Real:
    negative = (SELU_ALPHA * SELU_SCALE) * exp(_negative_part(x))
    return where(is_positive(x), SELU_SCALE, negative)


# x times a sigmoid of v(x): the slope is p (1 + x v' q), p = sigmoid(v) and q = sigmoid(-v).


def silu(x: Real) -> Real:
    return maximum(x, -FAR) * sigmoid(x)


def silu_slope(x: Real) -> Real:
    return _sigmoid_gate_slope(clip(x, -FAR, FAR))


def _sigmoid_gate_slope(v: Real) -> Real:
    return sigmoid(v) * (1 + v * sigmoid(-v))


BSILU_ALPHA = 1.67


def bsilu_slope(x: Real) -> Real:
    """Of (x + a) sigmoid(x)."""
    bounded = clip(x, -FAR, FAR)
    return sigmoid(bounded) * (1 + (bounded + BSILU_ALPHA) * sigmoid(-bounded))


def quick_gelu(x: Real) -> Real:
    return maximum(x, -FAR) * sigmoid(1.702 * x)


def quick_gelu_slope(x: Real) -> Real:
    return _sigmoid_gate_slope(1.702 * clip(x, -FAR, FAR))


def swish(x: Real, beta: Real) -> Real:
    finite, v = _swish_argument(x, beta)
    return where(v > -FAR, x, finite) * sigmoid(v)


def swish_slope(x: Real, beta: Real) -> Real:
    return _sigmoid_gate_slope(_swish_argument(x, beta)[1])


def swish_beta_slope(x: Real, beta: Real) -> Real:
    finite, v = _swish_argument(x, beta)
    return (finite * sigmoid(v)) * (finite * sigmoid(-v))


def _swish_argument(x: Real, beta: Real) -> tuple[Real, Real]:
    """x without infinities, and beta x between two limits."""
    largest = float(jnp.finfo(x.array.dtype).max)
    finite = clip(x, -largest, largest)
    return finite, clip(clip(beta, -largest, largest) * finite, -FAR, FAR)


# The tanh form of gelu is x sigmoid(x (a + c x^2)); at 20 that is 1, or 0.
_A = 2 * math.sqrt(2 / math.pi)
_C = 0.044715 * _A


def gelu_tanh(x: Real) -> Real:
    bounded = clip(x, -20, 20)
    return maximum(x, -20) * sigmoid(bounded * (_A + _C * (bounded * bounded)))


def gelu_tanh_slope(x: Real) -> Real:
    bounded = clip(x, -20, 20)
    square = bounded * bounded
    v = bounded * (_A + _C * square)
    return sigmoid(v) * (1 + bounded * (_A + (3 * _C) * square) * sigmoid(-v))


# The exact form: the lower tail of the normal distribution is exp(-t^2 / 2) times a polynomial in
# 1 / (1 + a t), and so is the slope, over its distance from the slope's zero.


def _tail(x: Real) -> tuple[Real, Real, Real]:
    """|x| as far as the tail is not 0, the exponential there, and the polynomials' argument."""
    t = minimum(abs(x), 39)
    return t, exp(-0.5 * (t * t)), 1 / (1 + coefficients.TAIL_SCALE * t)


def gelu_erf(x: Real) -> Real:
    t, e, s = _tail(x)
    return maximum(x, 0) - t * (e * (s * Elementary(4).polynomial(s, coefficients.TAIL)))


#: The distance comes twice.
_HALF_OF_TAIL_SLOPE = {4: tuple(0.5 * c for c in coefficients.TAIL_SLOPE[4])}


def gelu_erf_slope(x: Real) -> Real:
    t, e, s = _tail(x)
    distance = twice_gelu_zero_minus(t)
    lower = e * (distance * Elementary(4).polynomial(s, _HALF_OF_TAIL_SLOPE))
    return where(x > 0, 1 - lower, lower)


def twice_gelu_zero_minus(t: Real) -> Real:
    """Twice the distance of the slope's zero from t, exact next to it.

    XLA would fold (a - t) + b for constants, which is not.
    """
    zero = -Fraction(coefficients.GELU_ZERO)
    upper = Fraction(round(zero * 2**16), 2**16)
    return (float(upper) - t) * 2 + float(2 * (zero - upper))


def gelu_erf_natural_slope(x: Real) -> Real:
    bounded = clip(x, -39, 39)
    density = exp(-0.5 * (bounded * bounded)) * (1 / math.sqrt(2 * math.pi))
    return 0.5 * Real(lax.erfc((-math.sqrt(0.5) * bounded).array)) + bounded * density


# With n = exp(x) (exp(x) + 2), mish is x n / (n + 2); at 20 that is x.


def mish(x: Real) -> Real:
    e = exp(minimum(x, 20))
    n = e * (e + 2)
    return maximum(x, -FAR) * (n / (n + 2))


def mish_slope(x: Real) -> Real:
    # From there on it is 1. Powers of 1 / d stay finite until then, also those of the second and
    # the third derivative; 1 / (d d) and its derivative would not.
    one = 20 if x.array.dtype.itemsize > 4 else 12
    bounded = clip(x, -FAR, one)
    e = exp(bounded)
    d = e * (e + 2) + 2
    r = 1 / d
    slope = e * (((e + 2) * d + 4 * bounded * (1 + e)) * r) * r
    return where(x > one, 1, slope)


# Soft-caps: with z = x / cap, the slope by the cap is tanh(z) - z / cosh(z)^2.


def _capped(x: Real, cap: Real) -> Real:
    """x / cap, between two limits."""
    numerator, divisor = celu_fraction(x, cap)
    return clip(numerator / divisor, -FAR, FAR)


def softcap(x: Real, cap: Real) -> Real:
    z = _capped(x, cap)
    # Next to 0 it is x, in float32; z itself may have underflowed.
    return where(abs(z) < 2.0**-13, x, cap * tanh(z))


def softcap_slope(x: Real, cap: Real) -> Real:
    return tanh_slope(_capped(x, cap))


def softcap_cap_slope(x: Real, cap: Real) -> Real:
    z = _capped(x, cap)
    return where(abs(z) < 1, tanh_excess(4, z), tanh(z) - z * tanh_slope(z))


def tanh_excess(size: int, z: Real) -> Real:
    """tanh(z) - z / cosh(z)^2 for |z| < 1, where its terms of order z cancel."""
    near = clip(z, -1, 1)
    square = near * near
    # (z - tanh(z)) / z^3
    shrink = Elementary(size).polynomial(square, coefficients.TANH_SHRINK)
    ratio = 1 - square * shrink
    return near * square * (ratio * ratio - shrink)


def xielu(x: Real, alpha_p: Real, alpha_n: Real, beta: Real) -> Real:
    negative = minimum(x, 0)
    # The terms of x are one, for they are infinite at -inf.
    below = alpha_n * _expm1(negative) + (beta - alpha_n) * negative
    return where(is_positive(x), x * (alpha_p * x + beta), below)


def xielu_slope(x: Real, alpha_p: Real, alpha_n: Real, beta: Real) -> Real:
    below = alpha_n * _expm1(_negative_part(x)) + beta
    return where(is_positive(x), 2 * (alpha_p * x) + beta, below)


def xielu_alpha_n_slope(x: Real, *_: Real) -> Real:
    """exp(x) - 1 - x for x < 0: near 0 a series, for its terms cancel."""
    negative = _negative_part(x)
    near = maximum(negative, -0.35)
    series = near * near * Elementary(4).polynomial(near, coefficients.EXP)
    return where(negative > -0.35, series, _expm1(negative) - negative)


# Snake: with z = alpha x, x + sin(z)^2 / alpha. Its slopes are 1 + sin(2 z), and by alpha
# x^2 q (2 cos(z) - q) with q = sin(z) / z.


def sin(x: Real) -> Real:
    return Real(lax.sin(x.array))


def cos(x: Real) -> Real:
    return Real(lax.cos(x.array))


def not_0(x: Real) -> Real:
    """x, with 1 for 0: by a sum, for a scan would keep an array of ones throughout."""
    return x + Real(lax.convert_element_type(equals(x, 0).array, x.array.dtype))


def snake_phase(x: Real, alpha: Real) -> Real:
    """alpha x, but 0 where a sine has no limit, or twice that would be infinite."""
    largest = float(jnp.finfo(x.array.dtype).max)
    z = alpha * where(abs(x) > largest, 0, x)
    return where(abs(z) > largest / 4, 0, z)


def snake_angle(x: Real, alpha: Real) -> Real:
    """alpha x, and not NaN for 0 times infinity."""
    largest = float(jnp.finfo(x.array.dtype).max)
    return alpha * clip(x, -largest, largest)


def snake(x: Real, alpha: Real) -> Real:
    largest = float(jnp.finfo(x.array.dtype).max)
    s = sin(clip(snake_angle(x, alpha), -largest, largest))
    return x + s * (s / not_0(alpha))


#: From here on a slope is taken for its mean.
SNAKE_FAR = 2.0**16
#: pi in three parts; products of the first two with quarters of integers below 2^15 are exact.
_PI = (3.15625, -0.0146484375, math.pi - 3.15625 + 0.0146484375)
_SINE = [(-1) ** k / math.factorial(2 * k + 1) for k in range(5, -1, -1)]


def snake_slope(x: Real, alpha: Real) -> Real:
    """1 + sin(2 z) is 2 sin(z + pi / 4)^2, reduced to half a turn: the targets' sines are slow."""
    z = snake_angle(x, alpha)
    turns = Real(lax.round((z * (1 / math.pi) + 0.25).array, lax.RoundingMethod.TO_NEAREST_EVEN))
    r = z
    for part in _PI:
        r = r - (turns - 0.25) * part
    s = r * horner(r * r, _SINE)
    return where(abs(z) >= SNAKE_FAR, 1, 2 * (s * s))


def snake_natural_slope(x: Real, alpha: Real) -> Real:
    return 1 + sin(2 * snake_phase(x, alpha))


def snake_alpha_slope(x: Real, alpha: Real) -> Real:
    largest = float(jnp.finfo(x.array.dtype).max)
    z = snake_phase(x, alpha)
    q = where(equals(z, 0), 1, sin(z) / not_0(z))
    finite = where(abs(x) > largest, 0, x)
    return (finite * q) * (finite * (2 * cos(z) - q))


def tanh_shrink(x: Real) -> Real:
    near = clip(x, -1.5, 1.5)
    square = near * near
    cube = near * square * Elementary(4).polynomial(square, coefficients.TANH_SHRINK)
    return where(abs(x) < 1.5, cube, x - tanh(x))


def tanh_shrink_slope(x: Real) -> Real:
    return tanh(x) * tanh(x)
