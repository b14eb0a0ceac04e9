"""Values in standard operations whose derivatives JAX gets right by itself: mode ``"plain"``.

What looks into programs (exporters, kernel languages, ``jax.experimental.jet``) knows no rules and
no bit patterns; many have exp, tanh and sqrt, and nothing as accurate as log1p or expm1. So here
are

- selections between pieces that are computed from cut-off inputs: a piece that is not selected must
  not be infinite, or 0 times it would be NaN;
- comparisons in place of abs, max and min, whose derivatives at a tie are others;
- exponentials of negative numbers only, in forms whose derivatives do not cancel.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
from jax import lax

from jaxact._core import coefficients
from jaxact._core.arithmetic import Real, equals, where
from jaxact._core.elementary import horner
from jaxact._native import BSILU_ALPHA, FAR, SELU_ALPHA, SELU_SCALE, exp, sin, tanh as tanh

#: Taylor series, the highest power first; a polynomial fitted to a value is less close to its
#: derivative. By bytes of the dtype, of (exp(x) - 1 - x) / x^2 and, in s^2, of
#: (2 artanh(s / 2) / s - 1) / s^2; of (Phi(x) - 1/2) / x in x^2.
_EXP = {size: [1 / math.factorial(k) for k in range(n, 1, -1)] for size, n in ((4, 9), (8, 16))}
_ARTANH = {size: [0.25**k / (2 * k + 1) for k in range(n, 0, -1)] for size, n in ((4, 8), (8, 18))}
_NORMAL = [
    (-0.5) ** k / (math.factorial(k) * (2 * k + 1) * math.sqrt(2 * math.pi))
    for k in range(8, -1, -1)
]
#: Of (sin(z) / z - 1) / z^2, in z^2.
_SINC = [(-1) ** k / math.factorial(2 * k + 1) for k in range(8, 0, -1)]


def _polynomial(x: Real, table: Mapping[int, Sequence[float]]) -> Real:
    return horner(x, table[x.array.dtype.itemsize])


def clip(x: Real, low: float | Real, high: float | Real) -> Real:
    """x between the ends, where its derivative is 1."""
    return where(x < low, low, where(x > high, high, x))


def _negative(x: Real) -> Real:
    return where(x > 0, 0, x)


def _positive(x: Real) -> Real:
    return where(x > 0, x, 0)


def _magnitude(x: Real) -> Real:
    """abs, with the derivative 1 at 0."""
    return where(x >= 0, x, -x)


def _expm1(x: Real) -> Real:
    """exp(x) - 1, for x that is not positive."""
    near = where(x < -0.34, -0.34, x)
    # x itself: to its derivative, 1, that of the rest is added once.
    return where(x < -0.34, exp(x) - 1, x + near * near * _polynomial(near, _EXP))


def _log1p(x: Real) -> Real:
    """log(1 + x) = 2 artanh(x / (2 + x)), for x in [0, 1]."""
    s = x / (1 + 0.5 * x)
    square = s * s
    return s + s * (square * _polynomial(square, _ARTANH))


# ------------------------------------------------------------------------------------------------
# Straight pieces


def relu(x: Real) -> Real:
    return where(x <= 0, 0, x)


def relu6(x: Real) -> Real:
    return where(x <= 0, 0, where(x >= 6, 6, x))


def leaky_relu(x: Real, slope: Real) -> Real:
    largest = float(jnp.finfo(x.array.dtype).max)
    # The slope 0 at -inf.
    bounded = where(equals(slope, 0), where(x < -largest, -largest, x), x)
    return where(x < 0, slope * bounded, x)


def negative_part(x: Real) -> Real:
    return where(x >= 0, 0, -x)


def threshold(x: Real, threshold: Real, value: Real) -> Real:
    return where(x <= threshold, value, x)


def hard_shrink(x: Real, lambd: Real) -> Real:
    return where((x <= lambd) & (-x <= lambd), 0, x)


def soft_shrink(x: Real, lambd: Real) -> Real:
    outside = where(x > 0, x - lambd, x + lambd)
    return where((x <= lambd) & (-x <= lambd), 0, outside)


def hard_sigmoid(x: Real) -> Real:
    return (where(x <= -3, -3, where(x >= 3, 3, x)) + 3) * (1 / 6)


def hard_sigmoid_of_bound(x: Real, bound: Real) -> Real:
    # Of x's shape: Triton selects between arrays.
    bound = bound + Real(lax.full_like(x.array, 0))
    largest = float(jnp.finfo(x.array.dtype).max)
    bound = where(bound > largest, largest, bound)
    inside = where(x <= -bound, -bound, where(x >= bound, bound, x))
    return (0.5 * inside + 0.5 * bound) / bound


def hard_silu(x: Real) -> Real:
    inside = where(x <= -3, -3, where(x >= 3, 3, x))
    return where(x >= 3, x, inside * ((inside + 3) * (1 / 6)))


def relu_squared(x: Real) -> Real:
    return relu(x) * relu(x)


def sparse_plus(x: Real) -> Real:
    root = (clip(x, -1, 1) + 1) * 0.5
    return where(x >= 1, x, root * root)


def leaky_relu_squared(x: Real, slope: Real) -> Real:
    return leaky_relu(x, slope) * leaky_relu(x, slope)


def surrogate(smooth: Callable[..., Real], top: float = 1) -> Callable[..., Real]:
    """relu's value with the derivative of a smooth function, which is ``top`` at infinity."""

    def function(x: Real, *parameters: Real) -> Real:
        largest = float(jnp.finfo(x.array.dtype).max)
        near, far = clip(x, -FAR, FAR), clip(x, FAR, largest)
        zero = _with_derivative_of(smooth(near, *parameters)) + top * _with_derivative_of(far)
        finite = relu(constant(clip(x, -largest, largest)))
        return where(x > largest, top * x, finite + zero)

    return function


def constant(x: Real) -> Real:
    """x, without a derivative."""
    return Real(lax.stop_gradient(x.array))


def _with_derivative_of(x: Real) -> Real:
    """0, with the derivative of x."""
    return x - constant(x)


def bsilu(x: Real) -> Real:
    return (x + BSILU_ALPHA) * sigmoid(x)


def nelu(x: Real, alpha: Real) -> Real:
    negative = _negative(x)
    # The quotient is negated: Triton negates no number.
    return where(x > 0, x, -(alpha / (1 + negative * negative)))


def elu_of_1(x: Real) -> Real:
    return where(x > 0, x, _expm1(_negative(x)))


# ------------------------------------------------------------------------------------------------
# Soft-caps and Snake


def softcap(x: Real, cap: Real) -> Real:
    largest = float(jnp.finfo(x.array.dtype).max)
    return cap * tanh(clip(x, -largest, largest) / cap)


def snake(x: Real, alpha: Real) -> Real:
    largest = float(jnp.finfo(x.array.dtype).max)
    finite = where(x > largest, 0, where(x < -largest, 0, x))
    z = alpha * finite
    near = clip(z, -0.25, 0.25)
    square = near * near
    # sin(z) / z; a division by alpha would leave no derivative at 0.
    ratio = 1 + square * horner(square, _SINC)
    is_near = (z <= 0.25) & (z >= -0.25)
    s = sin(where(is_near, 0.25, z))
    wave = where(is_near, finite * near * (ratio * ratio), s * s / where(is_near, 1, alpha))
    return x + wave


# ------------------------------------------------------------------------------------------------
# Exponential linear units


def elu(x: Real, alpha: Real) -> Real:
    return where(x > 0, x, alpha * _expm1(_negative(x)))


def celu(x: Real, alpha: Real) -> Real:
    largest = float(jnp.finfo(x.array.dtype).max)
    z = where(x < -largest, -largest, _negative(x)) / alpha
    e = where(z > 0, exp(_positive(z)) - 1, _expm1(_negative(z)))
    return where(x > 0, x, alpha * e)


def xielu(x: Real, alpha_p: Real, alpha_n: Real, beta: Real) -> Real:
    positive, negative = _positive(x), _negative(x)
    near, far = clip(negative, -0.34, 0), clip(negative, -FAR, -0.34)
    # exp(x) - 1 - x cancels near 0; far off, what is infinite at -inf comes once.
    center = alpha_n * (near * near * _polynomial(near, _EXP)) + beta * near
    outer = alpha_n * (exp(far) - 1) + (beta - alpha_n) * negative
    below = where(negative < -0.34, outer, center)
    return where(x > 0, positive * (alpha_p * positive + beta), below)


def selu(x: Real) -> Real:
    return SELU_SCALE * elu(x, Real(lax.full_like(x.array, SELU_ALPHA)))


# ------------------------------------------------------------------------------------------------
# Sigmoids and gates


def sigmoid(x: Real) -> Real:
    # Below far, the exponential itself; above, its square in the derivative is finite.
    far = -20 if x.array.dtype.itemsize == 4 else -40
    near = 1 / (1 + exp(-where(x < far, far, x)))
    return where(x < far, exp(where(x < far, x, far)), near)


def softplus(x: Real) -> Real:
    return where(x >= 0, x, 0) + _log1p(exp(-_magnitude(x)))


def log_sigmoid(x: Real) -> Real:
    return -softplus(-x)


def tanh_shrink(x: Real) -> Real:
    near = clip(x, -1.5, 1.5)
    square = near * near
    cube = near * square * _polynomial(square, coefficients.TANH_SHRINK)
    return where((x > -1.5) & (x < 1.5), cube, x - tanh(x))


def _sigmoid_gate(x: Real, v: Real) -> Real:
    """x sigmoid(v), v being beyond plus or minus FAR where x is infinite."""
    largest = float(jnp.finfo(x.array.dtype).max)
    finite = where(v > FAR, 0, where(v < -FAR, 0, clip(x, -largest, largest)))
    return where(v > FAR, x, finite * sigmoid(clip(v, -FAR, FAR)))


def silu(x: Real) -> Real:
    return _sigmoid_gate(x, x)


def swish(x: Real, beta: Real) -> Real:
    largest = float(jnp.finfo(x.array.dtype).max)
    finite = clip(x, -largest, largest)
    # Of x's shape: Triton selects between arrays.
    beta = beta * Real(lax.full_like(x.array, 1))
    v = clip(beta, -largest, largest) * finite
    return _sigmoid_gate(x, v)


def quick_gelu(x: Real) -> Real:
    return _sigmoid_gate(x, 1.702 * clip(x, -2 * FAR, 2 * FAR))


def gelu_tanh(x: Real) -> Real:
    """x sigmoid(a x + b x^3), whose exponential is a product.

    The rounding error of a sum of that size would show, and compilers round it differently.
    """
    a = 2 * math.sqrt(2 / math.pi)
    finite = clip(x, -100, 100)
    t = _magnitude(finite)
    linear, cubic = exp(-a * t), exp(-0.044715 * a * (t * t * t))
    numerator = where(x >= 0, finite, finite * linear * cubic)
    return where(x > 100, x, numerator / (1 + linear * cubic))


def gelu_erf(x: Real) -> Real:
    """x - |x| Phi(-|x|), or for x < 0 its last part; near 0, x Phi(x)."""
    t = where(_magnitude(x) > 39, 39, _magnitude(x))
    if x.array.dtype.itemsize > 4:
        lower = 0.5 * Real(lax.erfc((math.sqrt(0.5) * t).array))
        return where(x >= 0, x, 0) - t * lower
    near = clip(x, -0.5, 0.5)
    square = near * near
    center = 0.5 * x + square * horner(square, _NORMAL)
    s = 1 / (1 + coefficients.TAIL_SCALE * t)
    tail = exp(-0.5 * (t * t)) * (t * (s * horner(s, coefficients.TAIL[4])))
    return where(t < 0.5, center, where(x >= 0, x, 0) - tail)


def mish(x: Real) -> Real:
    """x n / (n + 2) with n = e^x (e^x + 2); for x > 0, x (1 - 2 / (n + 2)): its slope nears 1."""
    e = exp(clip(x, -FAR, 20))
    n = e * (e + 2)
    finite = clip(x, -FAR, 20)
    ratio = where(x > 0, 1 - 2 / (n + 2), n / (n + 2))
    return where(x > 20, x, finite * ratio)


def soft_sign(x: Real) -> Real:
    magnitude = _magnitude(x)
    near = clip(x, -1, 1)
    far = 1 - 1 / (1 + magnitude)
    return where(magnitude <= 1, near / (1 + _magnitude(near)), where(x > 0, far, -far))


def squareplus(x: Real, b: Real) -> Real:
    """(x + r) / 2 with r = sqrt(x^2 + b); far from 0, max(x, 0) + b / 2 / (|x| + r)."""
    largest = float(jnp.finfo(x.array.dtype).max)
    far = largest**0.5 / 4
    y = clip(x, -far, far)
    square = y * y + b
    square = where(square > 0, square, float(jnp.finfo(x.array.dtype).tiny))
    # Some kernel languages have no sqrt, and rsqrt is not as accurate: a step of Newton's method.
    r = square * Real(lax.rsqrt(square.array))
    r = 0.5 * (r + square / r)
    is_near = 2 * (y * y) < b
    rest = 0.5 * b / (where(is_near, 1, _magnitude(y)) + r)
    is_far = _magnitude(x) > far
    rest = where(is_far, 0.25 * b / where(is_far, _magnitude(x), 1), rest)
    return where(is_near, 0.5 * (y + r), where(x >= 0, x, 0) + rest)
