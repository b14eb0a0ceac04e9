"""The elementary functions that the formulas are made of, accurate to a few ULP in every tail.

All take and return float32 or float64 and can be differentiated to any order.

An exponential turns the absolute rounding error of its argument into a relative error of the
result: exp(-80) of a rounded float32 product is off by up to 40 ULP. So arguments that are not
exact come as a `Sum` ``hi + lo``. Its derivative is that of ``hi``.

Two things that compilers do break textbook error-free arithmetic: XLA folds (x + c) - d for
constants c and d, and LLVM contracts a * b + c into one rounding in one use of a * b and not in
another. So constants enter through products, and products that are subtracted are exact.

exp(x) is subnormal, and flushed to zero, long before ``x * exp(x)`` or ``alpha * exp(x)`` is:
`exp_factors` returns two factors instead.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxact._core import coefficients

#: Where exp(x) - 1 needs a polynomial of its own; beyond, the subtraction is accurate.
NEAR = 0.7


class Sum(NamedTuple):
    """The unevaluated sum of a number and a correction that is much smaller."""

    hi: jax.Array
    lo: jax.Array | float = 0.0


class Factors(NamedTuple):
    """A product kept as two factors, neither of which underflows."""

    first: jax.Array
    second: jax.Array

    def times(self, x: jax.Array) -> jax.Array:
        return (x * self.first) * self.second

    @property
    def value(self) -> jax.Array:
        return self.first * self.second


def minus_abs(x: jax.Array) -> jax.Array:
    """-|x|, with derivative 1 at 0 (the formulas that use it are written for x <= 0)."""
    return jnp.where(x > 0, -x, x)


def polynomial(x: jax.Array, table: dict[int, tuple[float, ...]]) -> jax.Array:
    """The polynomial with the table's coefficients for the dtype of ``x``, by Horner's rule."""
    first, *rest = table[x.dtype.itemsize]
    result = jnp.full_like(x, first)
    for coefficient in rest:
        result = result * x + coefficient
    return result


def _significand(x: jax.Array) -> int:
    """The bits of a significand of the dtype of ``x``."""
    return 24 if x.dtype.itemsize == 4 else 53


def upper(x: jax.Array, share: float = 0.5) -> jax.Array:
    """``x`` with just that share of its significand's bits; the derivative is 0.

    Products of numbers whose shares add up to 1 are exact.
    """
    integer = np.dtype(f"i{x.dtype.itemsize}")
    cleared = _significand(x) - int(_significand(x) * share)
    bits = lax.bitcast_convert_type(lax.stop_gradient(x), integer)
    return lax.bitcast_convert_type(bits & jnp.asarray(-(1 << cleared), integer), x.dtype)


def split_constant(value: str, x: jax.Array, share: float) -> tuple[float, float]:
    """`upper` of a decimal constant, for the dtype of ``x``, and the rest of it."""
    mantissa, exponent = math.frexp(float(value))
    bits = int(_significand(x) * share)
    part = math.ldexp(math.floor(math.ldexp(mantissa, bits)), exponent - bits)
    return part, float(Fraction(value) - Fraction(part))


def exact_sum(hi: jax.Array, lo: jax.Array) -> Sum:
    """hi + lo for an exact ``hi`` that is larger, with the correction small."""
    s = hi + lo
    return Sum(s, lax.stop_gradient(lo - (s - hi)))


def two_product(a: jax.Array, b: jax.Array) -> Sum:
    """a * b as a sum, accurate to one and a half significands.

    The textbook form, p = a * b and its error from p, fails where a compiler contracts p with the
    subtraction into one multiply-add. Here every product that enters a difference is exact, so
    contraction changes nothing.
    """
    au, bu = upper(a), upper(b)
    return exact_sum(au * bu, au * (b - bu) + (a - au) * b)


def constant_sum(value: str, x: jax.Array) -> Sum:
    """A decimal constant as a sum of two numbers of the dtype of ``x``."""
    number = Fraction(value)
    hi = np.asarray(float(number)).astype(x.dtype)
    lo = np.asarray(float(number - Fraction(float(hi)))).astype(x.dtype)
    return Sum(jnp.asarray(hi), jnp.asarray(lo))


def times_constant(constant: str, x: jax.Array) -> Sum:
    """constant * x."""
    cu, cl = split_constant(constant, x, 1 / 2)
    xu = upper(x)
    return exact_sum(cu * xu, (x - xu) * cu + x * cl)


def odd_cubic(linear: str, cubic: str, x: jax.Array) -> Sum:
    """linear * x + cubic * x^3, for positive coefficients.

    It is xu * fu plus corrections, with xu and fu the upper parts of x and of the factor
    f = linear + cubic x^2, whose own correction ``rest`` needs an exact leading term too.
    """
    linear_upper, linear_rest = split_constant(linear, x, 2 / 3)
    cubic_upper, cubic_rest = split_constant(cubic, x, 1 / 3)
    f = float(linear) + float(cubic) * (x * x)
    xu, fu = upper(x, 1 / 3), upper(f, 2 / 3)
    xl = x - xu
    small = (xu * xu) * cubic_rest + linear_rest + float(cubic) * (xl * (x + xu))
    rest = ((linear_upper - fu) + (xu * xu) * cubic_upper) + small
    return exact_sum(xu * fu, xl * f + xu * rest)


def distance(x: jax.Array | Sum, constant: str) -> jax.Array:
    """x - constant, to full relative accuracy near the constant too."""
    hi, lo = x if isinstance(x, Sum) else (x, 0.0)
    c = constant_sum(constant, hi)
    # XLA folds the two constants of (hi - c.hi) - c.lo into one, and their point is lost. It does
    # not across a multiplication, which by a power of two is exact.
    return ((hi - c.hi) * 2 + (lo - c.lo) * 2) * 0.5


def quotient(x: jax.Array, y: jax.Array) -> Sum:
    """x / y."""
    q = x / y
    p = two_product(q, y)
    return Sum(q, lax.stop_gradient(((x - p.hi) - p.lo) / y))


def exp_factors(x: jax.Array | Sum) -> Factors:
    """exp(x) for x <= 0, as two factors."""
    hi, lo = x if isinstance(x, Sum) else (x, 0.0)
    # exp(-87.3) and exp(-708) are the last normal numbers.
    far = hi < (-86 if hi.dtype.itemsize == 4 else -700)
    first = jnp.exp(jnp.where(far, hi / 2, hi))
    return Factors(first + first * lo, jnp.where(far, first, 1))


def expm1_near(x: jax.Array) -> jax.Array:
    """exp(x) - 1 for |x| <= NEAR; anything finite elsewhere."""
    x = jnp.clip(x, -NEAR, NEAR)
    return x + x * x * polynomial(x, coefficients.EXPM1)


def expm1(x: jax.Array) -> jax.Array:
    """exp(x) - 1."""
    return jnp.where(abs(x) < NEAR, expm1_near(x), jnp.exp(x) - 1)


def normal_tail(t: jax.Array) -> jax.Array:
    """Phi(-t) exp(t^2 / 2) for t in [0, 15] (float32) or [0, 40] (float64)."""
    inverse = 1 / (t + 4)
    return polynomial((t - 4) * inverse, coefficients.NORMAL_TAIL) * inverse
