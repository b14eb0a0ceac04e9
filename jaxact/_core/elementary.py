"""The elementary functions that the formulas are made of, as accurate as the result's dtype needs.

XLA's own cost more and promise less: on CPU in float32 its exp is off by 1 unit in the last place
(ULP), expm1 by 5, tanh by 4.5, erfc by 66. Here one range reduction and one polynomial give exp(x)
and exp(x) - 1 together, for results of 2, 4 or 8 bytes; results of 2 bytes or fewer are computed in
float32 with shorter polynomials.

An exponential turns the absolute rounding error of its argument into a relative error of the
result: exp(-80) of a rounded float32 product is off by up to 40 ULP. So arguments that are not
exact come as a `Sum` ``hi + lo``.

Two things that compilers do break textbook error-free arithmetic: XLA folds (x + c) - d for
constants c and d, and LLVM contracts a * b + c into one rounding in one use of a * b and not in
another. So constants are kept apart by a multiplication, and products that enter a difference whose
rounding matters are exact.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jax import lax

from jaxact._core import coefficients
from jaxact._core.arithmetic import Real, where

Table = Mapping[int, tuple[float, ...]]


class Sum(NamedTuple):
    """The unevaluated sum of an exact number and a correction, at most 2 where it is far from 0."""

    hi: Real
    lo: Real | None = None

    @property
    def value(self) -> Real:
        return self.hi if self.lo is None else self.hi + self.lo


class Exponential(NamedTuple):
    """2^scale exp(x), as power (1 + w) with a power of two and |w| < 0.5."""

    power: Real
    w: Real
    scale: int

    @property
    def value(self) -> Real:
        return self.power * (1 + self.w)

    def times(self, factor: Real) -> Real:
        """value * factor, with one rounding."""
        return self.power * (factor + factor * self.w)

    def times_sum(self, a: Real, b: Real) -> Real:
        """value * (a + b) without the roundings of both steps where one of them is exact."""
        return self.power * (a + (a * self.w + (b + b * self.w)))

    @property
    def minus_one(self) -> Real:
        """2^scale (exp(x) - 1)."""
        return self.power * self.w + (self.power - 2.0**self.scale)


class Format(NamedTuple):
    """The floating-point format of a computation."""

    significand: int
    bias: int
    integer: Any
    #: ln 2 in two parts; products of the first with integers below 2^12 are exact.
    ln2: tuple[float, float]
    #: ln 2 in three parts; so are products of the first two.
    ln2_thrice: tuple[float, float, float]


_LN2 = Fraction("0.693147180559945309417232121458176568075500134360255")


def _format(significand: int, bias: int, integer: Any) -> Format:
    bits = significand - 12
    upper = Fraction(math.floor(_LN2 * 2**bits), 2**bits)
    middle = Fraction(math.floor((_LN2 - upper) * 4**bits), 4**bits)
    parts = float(upper), float(middle), float(_LN2 - upper - middle)
    return Format(significand, bias, integer, (float(upper), float(_LN2 - upper)), parts)


_FORMATS = {4: _format(24, 127, np.int32), 8: _format(53, 1023, np.int64)}


class Elementary:
    """The functions for results of ``size`` bytes; they take and return the compute dtype."""

    def __init__(self, size: int):
        self.size = max(size, 2)
        self.format = _FORMATS[max(size, 4)]

    def choose(self, float32: float, float64: float) -> float:
        """The constant for the compute dtype."""
        return float64 if self.size == 8 else float32

    def polynomial(self, x: Real, table: Table) -> Real:
        """The polynomial with the table's coefficients, by Horner's rule."""
        return horner(x, table[self.size])

    def rational(
        self, x: Real, table: dict[int, tuple[tuple[float, ...], tuple[float, ...]]]
    ) -> tuple[Real, Real, Real]:
        """The numerator of the table's fraction, x times the numerator, and the denominator.

        All coefficients are positive.

        By Estrin's scheme: where high powers are large, fewer roundings follow each other than in
        Horner's rule.
        """
        numerator, denominator = table[self.size]
        return _estrin(x, numerator), _estrin(x, (*numerator, 0.0)), _estrin(x, denominator)

    # Exponentials, for arguments from `lowest` to `highest`. A scale keeps the exponential of a
    # very negative argument from being subnormal before it is multiplied by something large.

    def lowest(self, scale: int = 0) -> float:
        """The argument at which 2^scale exp(x) is 0; the caller cuts off there.

        It may be off by up to 0.3.
        """
        return -(self.format.bias + scale) * math.log(2)

    @property
    def highest(self) -> float:
        """The argument at which exp(x) is infinite, and exp(x) - 1 NaN."""
        return (self.format.bias + 1) * math.log(2)

    def exp(self, x: Real | Sum, scale: int = 0) -> Exponential:
        """2^scale exp(x)."""
        hi, lo = x if isinstance(x, Sum) else Sum(x)
        half_n, power = self._power((hi if lo is None else hi + lo) * (1 / math.log(2)), scale)
        if self.size == 2:
            r = hi - half_n * (2 * math.log(2))
        else:
            # What is left of the first term may be as large as the second, and is exact.
            r = hi - half_n * (2 * self.format.ln2[0])
            r = (r if lo is None else r + lo) - half_n * (2 * self.format.ln2[1])
        return Exponential(power, r + r * r * self.polynomial(r, coefficients.EXP), scale)

    def exp2(self, x: Sum, scale: int = 0) -> Exponential:
        """2^(scale + x)."""
        hi, lo = x
        half_n, power = self._power(hi if lo is None else hi + lo, scale)
        r = hi - half_n * 2
        r = r if lo is None else r + lo
        return Exponential(power, r * self.polynomial(r, coefficients.EXP2), scale)

    def _power(self, x: Real, scale: int) -> tuple[Real, Real]:
        """n / 2 and 2^(n + scale), for the integer n next to x."""
        significand, bias, integer, *_ = self.format
        # The last bits of this sum are n and, shifted, the exponent of 2^(n + scale), or 0.
        magic = 1.5 * 2.0 ** (significand - 1) + bias + scale
        # Constant between jumps: JAX before 0.12 takes second derivatives in a scan of formulas
        # themselves, whatever rule they have.
        shifted = Real(lax.stop_gradient(x.array)) + magic
        bits = lax.bitcast_convert_type(shifted.array, integer)
        bits = lax.shift_left(bits, np.asarray(significand - 1, integer))
        power = Real(lax.bitcast_convert_type(bits, shifted.array.dtype))
        return shifted * 0.5 - magic / 2, power

    def expm1_sum(self, x: Real) -> tuple[Real, Real]:
        """exp(x) - 1 with about half as many digits again, where what follows cancels.

        For results of at least 4 bytes, and x from `lowest` to 0.
        """
        half_n, power = self._power(x * (1 / math.log(2)), 0)
        first, second, third = self.format.ln2_thrice
        r, r_lower = two_sum(x - half_n * (2 * first), -(half_n * (2 * second)))
        r_lower = r_lower - half_n * (2 * third)
        # exp(r) - 1 is r + r^2 / 2 + r^3 / 6 + r^4 / 24 + r^5 q; of the powers, products of upper
        # parts are exact.
        top = self._upper(r)
        rest = r - top
        square = top * top
        square_top, square_rest = self._upper(square), rest * (2 * top + rest)
        over = (square - square_top) + square_rest
        cube = self.times("0.166666666666666666666667", square_top * top)
        fourth = self.times("0.0416666666666666666666667", square_top * square_top)
        w, lower = two_sum(r, 0.5 * square)
        for term in (cube, fourth):
            w, more = two_sum(w, term.hi)
            lower = lower + (more if term.lo is None else more + term.lo)
        lower = lower + (1 / 6) * (over * top + rest * (square_top + over))
        lower = lower + (1 / 24) * (over * (2 * square_top + over))
        lower = lower + r * (r * r) * (r * r) * horner(r, _EXP_FIFTH[self.size])
        lower = lower + 0.5 * square_rest + (r_lower + w * r_lower)
        less, power_lower = two_sum(power, -1.0)
        hi, sum_lower = two_sum(less, power * w)
        return hi, sum_lower + (power_lower + power * lower)

    def log1p(self, x: Real) -> Real:
        """log(1 + x) = 2 artanh(x / (2 + x)) for x in [0, 1]."""
        s = x / (1 + 0.5 * x)
        square = s * s
        return s * (1 + square * self.polynomial(square, coefficients.ARTANH))

    # Exact arithmetic, where the accuracy calls for it.

    def times(self, constant: str, x: Real) -> Sum:
        """constant * x, for a decimal constant."""
        if self.size == 2:
            return Sum(float(constant) * x)
        exponent = math.frexp(float(constant))[1]
        c, rest = _quantized(constant, 2.0 ** (exponent - self.format.significand // 2))
        top = self._upper(x)
        return Sum(c * top, (x - top) * c + x * rest)

    def product(self, x: Real, y: Real) -> Sum:
        """x * y."""
        if self.size == 2:
            return Sum(x * y)
        xu, yu = self._upper(x), self._upper(y)
        return Sum(xu * yu, (x - xu) * yu + x * (y - yu))

    def square(self, x: Real, factor: float) -> Sum:
        """factor * x^2 for |x| < 64 and a power of two as factor."""
        if self.size == 2:
            return Sum(factor * (x * x))
        step = self._rounded(x)
        return Sum(factor * (step * step), factor * ((x - step) * (x + step)))

    def cubic(self, coefficients: tuple[str, str, str], x: Real, middle: float) -> Sum:
        """a x + b x^2 + c x^3 for |x| < 16 (float32) or 64 (float64), most accurate at ``middle``.

        Around s, the multiple of 1/8 next to x, where the leading parts of the coefficients give
        the exact value and slope.
        """
        a, b, c = (float(number) for number in coefficients)
        if self.size == 2:
            return Sum(x * (a + x * (b + x * c)) if b else x * (a + x * x * c))
        # |s| < 16 (64) has 7 (9) bits, and leaves 17 (44) for the factor a + b s + c s^2.
        quantum = 2.0**-7 if self.size == 4 else 2.0**-32
        c0, c1 = _quantized(coefficients[2], quantum)
        b0, b1 = _quantized(coefficients[1], quantum / 8)
        a0, a1 = _quantized(coefficients[0], quantum / 64, excess=c1 * middle**2)
        s = self._rounded(x)
        d = x - s
        if b:
            value, slope = s * ((s * c0 + b0) * s + a0), s * (s * (3 * c0) + 2 * b0) + a0
            rest = x * ((x * c1 + b1) * x + a1)
            bend = (s * 2 + x) * c0 + b0
        else:
            square = s * s
            value, slope = s * (square * c0 + a0), square * (3 * c0) + a0
            rest = x * (x * x * c1 + a1)
            bend = (s * 2 + x) * c0
        return Sum(value, d * slope + (d * d * bend + rest))

    def quotient(self, x: Real, y: Real) -> Sum:
        """x / y."""
        q = x / y
        if self.size == 2:
            return Sum(q)
        qu, yu = self._upper(q), self._upper(y)
        # q y - x, of exact products but for the last.
        excess = ((qu * yu - x) + (qu * (y - yu) + (q - qu) * yu)) + (q - qu) * (y - yu)
        return Sum(q, -excess / y)

    def _rounded(self, x: Real) -> Real:
        """The multiple of 1/8 next to x."""
        magic = 1.5 * 2.0 ** (self.format.significand - 1)
        return (x * 8 + magic) * 0.125 - magic / 8

    def _upper(self, x: Real) -> Real:
        """``x`` with half of its significand's bits."""
        cleared = self.format.significand - self.format.significand // 2
        integer = self.format.integer
        bits = lax.bitcast_convert_type(x.array, integer)
        upper = lax.bitwise_and(bits, np.asarray(-(1 << cleared), integer))
        return Real(lax.bitcast_convert_type(upper, x.array.dtype))


#: The Taylor series of (exp(r) - 1) / r^5 without its first terms, highest power first, by bytes.
_EXP_FIFTH = {
    size: [1 / math.factorial(k) for k in range(n, 4, -1)] for size, n in ((4, 11), (8, 17))
}


def two_sum(x: Real, y: Real | float) -> tuple[Real, Real]:
    """x + y, and what its rounding left out. Neither is a product, unless it is exact."""
    hi = x + y
    of_y = hi - x
    return hi, (x - (hi - of_y)) + (y - of_y)


def _quantized(constant: str, quantum: float, excess: float = 0) -> tuple[float, float]:
    """A decimal constant plus ``excess`` as a multiple of ``quantum``, and what that leaves."""
    part = round((Fraction(constant) + Fraction(excess)) / Fraction(quantum)) * quantum
    return part, float(Fraction(constant) - Fraction(part))


def horner(x: Real, coefficients: Sequence[float]) -> Real:
    """The polynomial with these coefficients, two at least, the highest power first."""
    first, second, *rest = coefficients
    # An array of the first would depend on no input, and a scan would keep it throughout.
    result = x * first + second
    for coefficient in rest:
        result = result * x + coefficient
    return result


def _estrin(x: Real, coefficients: tuple[float, ...]) -> Real:
    terms: list[Any] = list(reversed(coefficients))
    while len(terms) > 1:
        last = terms[-1:] if len(terms) % 2 else []
        terms = [a + b * x for a, b in zip(terms[::2], terms[1::2], strict=False)] + last
        x = x * x
    return terms[0]


def minus_abs(x: Real) -> Real:
    """-|x|, with derivative 1 at 0 (what is differentiated and uses it is written for x <= 0)."""
    return where(x > 0, -x, x)
