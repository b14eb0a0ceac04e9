"""Activations of the models of recent years: each a value and its slope, side by side.

`jaxact.smooth` explains the formulas' form. What is new here: where terms of opposite sign cancel
at a point that depends on parameters, sums carry a second word (`Elementary.expm1_sum`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

import jaxact._native as native
import jaxact._plain as plain
from jaxact._core import coefficients
from jaxact._core.arithmetic import (
    Real,
    clip,
    equals,
    is_negative,
    is_positive,
    maximum,
    minimum,
    on_arrays,
    where,
)
from jaxact._core.elementary import Elementary, Sum, two_sum
from jaxact._core.elementwise import Elementwise
from jaxact._core.smooth import smooth
from jaxact._native import SELU_SCALE
from jaxact.smooth import _gelu_tanh, _mish, _selu, _silu

#: The public functions, in the order of `jaxact.ACTIVATIONS`.
__all__ = [  # noqa: RUF022
    "leaky_relu_squared",
    "xielu",
    "softcap",
    "snake",
    "surrogate_relu",
]

# ------------------------------------------------------------------------------------------------
# Squares


def _leaky(x: Real, slope: Real) -> Real:
    """leaky_relu, which is 0 at -inf where the slope is 0."""
    return where(is_negative(x), _times(slope, x), x)


def _times(factor: Real, x: Real) -> Real:
    """factor * x for x that is not positive, and 0 where the factor is 0 and x infinite."""
    # Not 0 in place of the product: a scan would keep an array of zeros throughout.
    return factor * where(equals(factor, 0), maximum(x, -float(jnp.finfo(x.array.dtype).max)), x)


def _leaky_relu_squared_value(m: Elementary, x: Real, slope: Real) -> Real:
    root = _leaky(x, slope)
    return root * root


def _leaky_relu_squared_slope(m: Elementary, x: Real, slope: Real) -> Real:
    # In this order, what is small or large is so because the result is.
    below = where(equals(slope, 0), 0, (slope * x) * (2 * slope))
    return where(is_negative(x), below, 2 * x)


def _leaky_relu_squared_parameter_slope(m: Elementary, x: Real, slope: Real) -> Real:
    negative = minimum(x, 0)
    return 2 * _times(slope, negative) * negative


_leaky_relu_squared = smooth(
    "leaky_relu_squared",
    _leaky_relu_squared_value,
    _leaky_relu_squared_slope,
    _leaky_relu_squared_parameter_slope,
    kind="open",
    parameters={"negative_slope": {}},
    plain=plain.leaky_relu_squared,
)


def leaky_relu_squared(x: ArrayLike, negative_slope: ArrayLike = 0.5) -> jax.Array:
    r"""Squared leaky rectified linear unit.

    $$
    \mathrm{leaky\_relu\_squared}(x) = \mathrm{leaky\_relu}(x)^2 = \begin{cases} x^2 & x \ge 0 \\
    a^2 x^2 & x < 0 \end{cases}
    $$

    $$
    \mathrm{leaky\_relu\_squared}'(x) = \begin{cases}
    2 x & x \ge 0 \\
    2 a^2 x & x < 0
    \end{cases}
    $$

    It is `relu_squared` whose negative half has a gradient: 2a²x. Residual: the input (the output,
    positive on both sides, does not tell the side).

    Args:
      x: any real array-like, of any shape.
      negative_slope: a, a number or an array that broadcasts against ``x`` (differentiable).

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: the slope is NaN.

    Reference: no paper; it follows So et al., "Primer: searching for efficient transformers", 2021
    (arXiv 2109.08668). In use since 2026 in the records of ``github.com/openai/parameter-golf``, as
    ``F.leaky_relu(x, negative_slope=0.5).square()``.

    Examples:
      >>> leaky_relu_squared([-2.0, 0.0, 3.0])
      Array([1., 0., 9.], dtype=float32)
    """
    return _leaky_relu_squared(x, negative_slope)


# ------------------------------------------------------------------------------------------------
# xIELU


def _product(m: Elementary, x: Real, y: Real) -> tuple[Real, Real]:
    hi, lower = m.product(x, y)
    assert lower is not None
    return hi, lower


def _xielu_excess(m: Elementary, negative: Real) -> tuple[Real, Real]:
    """exp(x) - 1 - x, in two words."""
    hi, lower = m.expm1_sum(maximum(negative, m.lowest()))
    hi, more = two_sum(hi, -negative)
    return hi, lower + more


def _at_most_0(x: Real, lowest: float) -> Real:
    """The negative part, whose derivative at 0 is 1."""
    return minimum(maximum(x, lowest), float(jnp.finfo(x.array.dtype).tiny))


#: Below this, exp(x) counts for nothing beside x.
_FAR = -1e4
#: Next to 0, three terms of exp(x) are enough.
_NEAR = 2.0**-17


def _xielu_value(m: Elementary, x: Real, alpha_p: Real, alpha_n: Real, beta: Real) -> Real:
    # Next to the zeros of value and slope, 16 bits too need more than float32 has.
    m = Elementary(max(m.size, 4))
    negative = _at_most_0(x, _FAR)
    excess, excess_lower = _xielu_excess(m, negative)
    one, one_lower = _product(m, alpha_n, excess)
    other, other_lower = _product(m, beta, negative)
    hi, lower = two_sum(one, other)
    below = hi + (lower + (one_lower + other_lower + alpha_n * excess_lower))
    # The second words of tiny numbers are subnormal.
    near = maximum(negative, -_NEAR)
    below = where(negative > -_NEAR, near * (beta + alpha_n * (near * (0.5 + near / 6))), below)
    difference = beta - alpha_n
    far = _times(difference, minimum(x, float(jnp.finfo(x.array.dtype).tiny))) - alpha_n
    below = where(x < _FAR, far, below)
    return where(is_positive(x), x * (alpha_p * _finite(x) + beta), below)


def _xielu_slope(m: Elementary, x: Real, alpha_p: Real, alpha_n: Real, beta: Real) -> Real:
    m = Elementary(max(m.size, 4))
    expm1, expm1_lower = m.expm1_sum(clip(x, m.lowest(), 0))
    one, one_lower = _product(m, alpha_n, expm1)
    hi, lower = two_sum(one, beta)
    below = hi + (lower + (one_lower + alpha_n * expm1_lower))
    twice = 2 * where(equals(alpha_p, 0), 0, alpha_p * maximum(x, 0))
    return where(is_positive(x), twice + beta, below)


def _xielu_alpha_p_slope(m: Elementary, x: Real, *_: Real) -> Real:
    return maximum(x, 0) * maximum(x, 0)


def _xielu_alpha_n_slope(m: Elementary, x: Real, *_: Real) -> Real:
    negative = minimum(x, 0)
    near = maximum(negative, -0.34)
    series = near * near * m.polynomial(near, coefficients.EXP)
    excess, lower = _xielu_excess(Elementary(max(m.size, 4)), maximum(negative, _FAR))
    outer = where(negative < _FAR, -1 - negative, excess + lower)
    return where(negative < -0.34, outer, series)


_xielu = smooth(
    "xielu",
    _xielu_value,
    _xielu_slope,
    _xielu_alpha_p_slope,
    _xielu_alpha_n_slope,
    lambda m, x, *_: x,
    kind="open",
    parameters={"alpha_p": {}, "alpha_n": {}, "beta": {}},
    native=[native.xielu, native.xielu_slope, None, native.xielu_alpha_n_slope, None],
    plain=plain.xielu,
)


def xielu(
    x: ArrayLike, alpha_p: ArrayLike, alpha_n: ArrayLike, *, beta: ArrayLike = 0.5
) -> jax.Array:
    r"""Expanded integral of the exponential linear unit.

    $$
    \mathrm{xielu}(x) = \begin{cases} \alpha_p x^2 + \beta x & x > 0 \\
    \alpha_n (e^x - 1 - x) + \beta x & x \le 0 \end{cases}
    $$

    $$
    \mathrm{xielu}'(x) = \begin{cases}
    2 \alpha_p x + \beta & x > 0 \\
    \alpha_n (e^x - 1) + \beta & x \le 0
    \end{cases}
    $$

    The derivative at 0 is β on both sides. (Published implementations bound the exponential's
    argument by -10⁻⁶ and not by 0; between the two their derivative is β - α_n.) Residual: the
    input.

    Args:
      x: any real array-like, of any shape.
      alpha_p: α_p, a number or an array that broadcasts against ``x`` (differentiable, as the
        next two). The layers `jaxact.nnx.XIELU` and `jaxact.linen.XIELU` learn both α > 0.
      alpha_n: α_n, in the paper larger than β.
      beta: β.

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: a parameter is NaN.

    Reference: Huang and Schlag, "Deriving activation functions using integration", 2024 (arXiv
    2411.13010); ``XIELUActivation`` of Hugging Face's transformers, in Apertus.

    Examples:
      >>> xielu([-2.0, 0.0, 1.0], 0.8, 0.8).round(4)
      Array([-0.0917,  0.    ,  1.3   ], dtype=float32)
    """
    return _xielu(x, alpha_p, alpha_n, beta)


# ------------------------------------------------------------------------------------------------
# Soft-caps


def _finite(x: Real) -> Real:
    """x, with the largest finite number for infinity."""
    largest = float(jnp.finfo(x.array.dtype).max)
    return clip(x, -largest, largest)


def _softcap_value(m: Elementary, x: Real, cap: Real) -> Real:
    numerator, divisor = native.celu_fraction(x, cap)
    z = numerator / divisor
    near, end = clip(z, -1.5, 1.5), m.choose(10, 20)
    square = near * near
    expm1 = m.exp(2 * clip(z, -end, end)).minus_one
    # Next to 0, in powers of z^2: z itself may have underflowed, and its rounding matters less.
    center = x - x * (square * m.polynomial(square, coefficients.TANH_SHRINK))
    return where(abs(z) < 1.5, center, cap * (expm1 / (expm1 + 2)))


def _softcap_slope(m: Elementary, x: Real, cap: Real) -> Real:
    hi, lo = m.quotient(*native.celu_fraction(_finite(-abs(x)), cap))
    lowest = 0.5 * m.lowest(2)
    if lo is not None:
        lo = 2 * where(hi > lowest, lo, 0)
    e = m.exp(Sum(2 * maximum(hi, lowest), lo), 2).value
    is_infinite = abs(x) > float(jnp.finfo(x.array.dtype).max)
    return where(is_infinite, 0, e / (1 + e * (0.5 + e * 0.0625)))


def _softcap_cap_slope(m: Elementary, x: Real, cap: Real) -> Real:
    numerator, divisor = native.celu_fraction(x, cap)
    end = m.choose(40, 300)
    z = clip(numerator / divisor, -end, end)
    e = m.exp(-2 * abs(z)).value
    # With e = exp(-2 |z|), tanh is (1 - e) / (1 + e) and 1 / cosh^2 is 4 e / (1 + e)^2.
    root = 1 / (1 + e)
    outer = (1 - e) * root - 4 * abs(z) * (e * (root * root))
    signed = where(z > 0, outer, -outer)
    return where(abs(z) < 1, native.tanh_excess(m.size, z), signed)


_softcap = smooth(
    "softcap",
    _softcap_value,
    _softcap_slope,
    _softcap_cap_slope,
    kind="saturating",
    parameters={"cap": {"minimum": 0, "exclude_zero": True}},
    native=[native.softcap, native.softcap_slope, native.softcap_cap_slope],
    plain=plain.softcap,
)


def softcap(x: ArrayLike, cap: ArrayLike) -> jax.Array:
    r"""Soft cap of logits.

    $$
    \mathrm{softcap}(x) = c \tanh(x / c)
    $$

    $$
    \frac{\partial}{\partial x} \mathrm{softcap} = 1 - \tanh^2(x / c),
    \qquad
    \frac{\partial}{\partial c} \mathrm{softcap} = \tanh(x / c) - \frac{x}{c} (1 - \tanh^2(x / c))
    $$

    The derivative at 0 is 1, for every cap. Residual: the input.

    Args:
      x: any real array-like, of any shape.
      cap: c > 0, the limit of the result's size, a number or an array that broadcasts against ``x``
        (differentiable).

    Returns:
      An array of the dtype of ``x``; ±c at ±inf.

    Raises:
      TypeError: complex input.
      ValueError: the cap is NaN, 0 or negative.

    Reference: Gemma Team, "Gemma 2: improving open language models at a practical size", 2024
    (arXiv 2408.00118), with caps of 50 for attention and 30 for the logits;
    ``final_logit_softcapping`` of Hugging Face's transformers.

    Examples:
      >>> softcap([-100.0, 0.0, 15.0], 30.0).round(2)
      Array([-29.92,   0.  ,  13.86], dtype=float32)
    """
    return _softcap(x, cap)


# ------------------------------------------------------------------------------------------------
# Snake


def _snake_slope(m: Elementary, x: Real, alpha: Real) -> Real:
    """1 + sin(2 z), with z = alpha x in two words: where z is rounded, the phase is off."""
    m = Elementary(max(m.size, 4))
    far = abs(native.snake_angle(x, alpha)) >= native.SNAKE_FAR
    hi, lower = two_sum(*_product(m, alpha, where(far, 0, _finite(x))))
    angle, rest = 2 * hi, 2 * lower
    s, c = native.sin(angle), native.cos(angle)
    s, c = s + rest * (c - 0.5 * (rest * s)), c - rest * (s + 0.5 * (rest * c))
    # Where the sum would cancel, its square over the difference.
    return where(far, 1, where(s < 0, c * c / (1 + abs(s)), 1 + s))


_snake = smooth(
    "snake",
    lambda m, x, alpha: native.snake(x, alpha),
    _snake_slope,
    lambda m, x, alpha: native.snake_alpha_slope(x, alpha),
    kind="open",
    parameters={"alpha": {}},
    native=[native.snake, native.snake_slope, native.snake_alpha_slope],
    natural=[native.snake_natural_slope, native.snake_alpha_slope],
    plain=plain.snake,
)


def snake(x: ArrayLike, alpha: ArrayLike = 1.0) -> jax.Array:
    r"""Snake, a periodic activation.

    $$
    \mathrm{snake}(x) = x + \frac{\sin^2(\alpha x)}{\alpha}, \quad \mathrm{snake}(x) = x
    \text{ for } \alpha = 0
    $$

    $$
    \mathrm{snake}'(x) = 1 + \sin(2 \alpha x)
    $$

    The derivative is 1 + sin(2αx); from |αx| = 2¹⁶ on, and at ±inf, 1, its mean. Residual: the
    input.

    Args:
      x: any real array-like, of any shape.
      alpha: α, half of the frequency, a number or an array that broadcasts against ``x``
        (differentiable, also at 0).

    Returns:
      An array of the dtype of ``x``; ±inf at ±inf.

    Raises:
      TypeError: complex input.
      ValueError: α is NaN.

    Reference: Liu et al., "Neural networks fail to learn periodic functions and how to fix it",
    2020 (arXiv 2006.08195); Lee et al., "BigVGAN: a universal neural vocoder with large-scale
    training", 2022 (arXiv 2206.04658), ``Snake`` of ``github.com/NVIDIA/BigVGAN``, whose learned α
    for each channel is an array here. (It divides by α + 10⁻⁹.)

    Examples:
      >>> snake([-1.0, 0.0, 2.0]).round(2)
      Array([-0.29,  0.  ,  2.83], dtype=float32)
    """
    return _snake(x, alpha)


# ------------------------------------------------------------------------------------------------
# ReLU with the derivative of another function


def _bsilu_slope(m: Elementary, x: Real) -> Real:
    """The slope of (x + a) sigmoid(x): p (1 + (x + a) q), p = sigmoid(x), q = sigmoid(-x).

    For x < -1 it is e (1 + a + x + e) / (1 + e)^2, e = exp(x), from an anchor next to its zero.
    """
    anchor, e0 = float(coefficients.BSILU_ANCHOR), float(coefficients.BSILU_EXP)
    distance = maximum(-abs(x), m.lowest(8) + anchor) - anchor
    e = m.exp(distance, 8)
    # As of the gates in `jaxact.smooth`: numerator and denominator times scale^2 / e0.
    scale = 2.0**8
    change = e0 * e.minus_one + scale * float(coefficients.BSILU_BRACKET)
    denominator = e.value * (e0 * e.value + 2 * scale) + scale**2 / e0
    below = e.times_sum(scale * distance, change) / denominator
    n = e.value * (e0 / scale)
    one_more = 1 + n
    p, q = where(x > 0, 1, n) / one_more, where(x > 0, n, 1) / one_more
    above = p * (1 + (clip(x, -1, 1e3) + native.BSILU_ALPHA) * q)
    return where(x > -1, above, below)


def _nelu_slope(m: Elementary, x: Real, alpha: Real) -> Real:
    # Beyond the limit the slope is 0, and the square is finite within; the fourth power is not, and
    # derivatives of a quotient by that would be worse still.
    negative = clip(x, m.choose(-1e14, -1e110), 0)
    root = 1 + negative * negative
    return where(is_positive(x), 1, (2 * alpha) * (negative / root) / root)


def _elu_slope(m: Elementary, x: Real) -> Real:
    return where(is_positive(x), 1, m.exp(clip(x, m.lowest(), 0)).value)


def _relu(m: Elementary, x: Real, *_: Real) -> Real:
    return maximum(x, 0)


def _surrogate(name: str, slope: Any, **options: Any) -> Elementwise:
    mark = f"surrogate_relu_{name}"
    return smooth("surrogate_relu", _relu, *slope, kind="smooth", mark=mark, **options)


def _of(other: Elementwise, value: Callable[..., Real], top: float = 1) -> Elementwise:
    """With the slope of another function, which is ``top`` at infinity."""
    relu = on_arrays(lambda x: maximum(x, 0))
    return Elementwise(
        "surrogate_relu",
        lambda size, x: relu(x),
        other.partials,
        kind="smooth",
        mark=f"surrogate_relu_{other.name}",
        sized=True,
        plain=on_arrays(plain.surrogate(value, top)),
    )


_NELU = _surrogate(
    "nelu", [_nelu_slope, None], parameters={"alpha": {}}, plain=plain.surrogate(plain.nelu)
)
#: By the name of the function whose derivative they have.
_SURROGATES: Mapping[str, Elementwise] = {
    "bsilu": _surrogate(
        "bsilu",
        [_bsilu_slope],
        native=[None, native.bsilu_slope],
        plain=plain.surrogate(plain.bsilu),
    ),
    "nelu": _NELU,
    "silu": _of(_silu, plain.silu),
    "gelu": _of(_gelu_tanh, plain.gelu_tanh),
    "mish": _of(_mish, plain.mish),
    "elu": _surrogate("elu", [_elu_slope], plain=plain.surrogate(plain.elu_of_1)),
    "selu": _of(_selu, plain.selu, SELU_SCALE),
}


def surrogate_relu(
    x: ArrayLike, surrogate: str = "bsilu", *, alpha: ArrayLike | None = None
) -> jax.Array:
    r"""ReLU with the derivative of a smooth function, by which no unit is dead.

    Its gradient is not its derivative. The value is `relu`'s, so a network's outputs stay as they
    are; the gradient is that of the surrogate, and a unit that is negative on every sample gets
    one (of the other sign where the surrogate falls: B-SiLU below -2.73, NeLU below 0). For B-SiLU,
    the default, it is the derivative of

    $$
    \mathrm{bsilu}(x) = (x + 1.67) \, \sigma(x) - 0.835
    $$

    $$
    \mathrm{bsilu}'(x) = \sigma(x) + (x + 1.67) \, \sigma(x) \, \sigma(-x)
    $$

    and for NeLU 1 where x > 0, else

    $$
    \frac{2 \alpha x}{(1 + x^2)^2}
    $$

    Residual: the input.

    Args:
      x: any real array-like, of any shape.
      surrogate: ``"bsilu"``, ``"nelu"``, or one of ``"silu"``, ``"gelu"``, ``"mish"``, ``"elu"``
        and ``"selu"``, which are this package's with their default parameters.
      alpha: α of NeLU, a number or an array that broadcasts against ``x``; None for 0.05.

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: an unknown surrogate; an α for another one than NeLU; α is NaN.

    Reference: Horuz et al., "The resurrection of the ReLU", 2025 (arXiv 2505.22074), SUGAR there;
    ``Sugar`` of ``github.com/lucidrains/x-mlps-pytorch``, whose α is the default here.

    Examples:
      >>> surrogate_relu([-1.0, 2.0])
      Array([0., 2.], dtype=float32)
      >>> jax.grad(surrogate_relu)(-1.0).round(4)
      Array(0.4007, dtype=float32)
    """
    declared = _SURROGATES.get(surrogate)
    if declared is None:
        raise ValueError(
            f"surrogate_relu: there is no surrogate {surrogate!r}; "
            f"choose one of {', '.join(map(repr, _SURROGATES))}."
        )
    if declared is _NELU:
        return declared(x, 0.05 if alpha is None else alpha)
    if alpha is not None:
        raise ValueError(
            f"surrogate_relu: {surrogate!r} has no alpha, got {alpha!r}; leave it out, or take "
            "'nelu', which has one."
        )
    return declared(x)
