"""Fits the polynomials of ``jaxact/_core/coefficients.py`` and writes that file.

Each is a Chebyshev fit in 40-digit arithmetic, within a small factor of the minimax polynomial, of
the degree that brings its relative error, weighted by its share of the result, under 2^-19 (results
of 2 bytes), 2^-26 (4 bytes) or 2^-55 (8 bytes).

    python -m benchmarks.coefficients           # writes the file
    python -m benchmarks.coefficients --check   # fails if the file differs
"""

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mpmath as mp
import numpy as np

TARGET = Path(__file__).parent.parent / "jaxact" / "_core" / "coefficients.py"


class Fit(NamedTuple):
    name: str
    meaning: str
    function: Callable[[mp.mpf], mp.mpf]
    # (degree, interval) by bytes of the result's dtype
    by_size: dict[int, tuple[int, tuple[str, str]]]


def expm1_remainder(x: mp.mpf) -> mp.mpf:
    return (mp.expm1(x) - x) / x**2 if abs(x) > mp.mpf(10) ** -12 else mp.mpf(1) / 2 + x / 6


def exp2_remainder(x: mp.mpf) -> mp.mpf:
    return (mp.power(2, x) - 1) / x if abs(x) > mp.mpf(10) ** -20 else mp.log(2)


def tanh_remainder(u: mp.mpf) -> mp.mpf:
    x = mp.sqrt(u)
    return (x - mp.tanh(x)) / x**3 if u > mp.mpf(10) ** -12 else mp.mpf(1) / 3 - 2 * u / 15


def artanh_remainder(u: mp.mpf) -> mp.mpf:
    s = mp.sqrt(u) / 2
    if s < mp.mpf(10) ** -12:
        return mp.mpf(1) / 12 + u / 80
    return (mp.atanh(s) / s - 1) / u


def gelu_slope_zero() -> mp.mpf:
    return mp.findroot(lambda x: mp.ncdf(x) + x * mp.npdf(x), -0.75)


def mish_slope(x: mp.mpf) -> mp.mpf:
    softplus = mp.log1p(mp.exp(x))
    return mp.tanh(softplus) + x / (1 + mp.exp(-x)) / mp.cosh(softplus) ** 2


def mish_slope_remainder(x: mp.mpf) -> mp.mpf:
    if abs(x) < mp.mpf(10) ** -12:
        return mp.mpf(16) / 25
    return (mish_slope(x) - mp.mpf(3) / 5) / x


def normal_tail(t: mp.mpf) -> mp.mpf:
    return mp.erfc(t / mp.sqrt(2)) / 2 * mp.exp(t * t / 2)


#: The argument of the polynomials TAIL and TAIL_SLOPE is 1 / (1 + TAIL_SCALE t).
TAIL_SCALE = 0.25


def distance_of(s: mp.mpf) -> mp.mpf:
    return (1 / s - 1) / mp.mpf(repr(TAIL_SCALE))


def density_tail(s: mp.mpf) -> mp.mpf:
    return normal_tail(distance_of(s)) / s


def normal_tail_slope(t: mp.mpf) -> mp.mpf:
    zero = -gelu_slope_zero()
    if abs(zero - t) < mp.mpf(10) ** -12:
        t += mp.mpf(10) ** -12
    return (normal_tail(t) - t / mp.sqrt(2 * mp.pi)) / (zero - t)


def density_tail_slope(s: mp.mpf) -> mp.mpf:
    return normal_tail_slope(distance_of(s))


def normal_remainder(square: mp.mpf) -> mp.mpf:
    x = mp.sqrt(square)
    return (mp.ncdf(x) - mp.mpf(1) / 2) / x if x > mp.mpf(10) ** -12 else 1 / mp.sqrt(2 * mp.pi)


def gelu_slope(d: mp.mpf) -> mp.mpf:
    zero = gelu_slope_zero()
    x = zero + d
    if abs(d) < mp.mpf(10) ** -12:
        return mp.npdf(zero) * (2 - zero**2)
    return (mp.ncdf(x) + x * mp.npdf(x)) / d


FITS = (
    Fit(
        "EXP",
        "(exp(r) - 1 - r) / r^2 for |r| <= 0.35",
        expm1_remainder,
        {2: (3, ("-0.35", "0.35")), 4: (4, ("-0.35", "0.35")), 8: (11, ("-0.35", "0.35"))},
    ),
    Fit(
        "EXP2",
        "(2^r - 1) / r for |r| <= 0.5",
        exp2_remainder,
        {2: (4, ("-0.5", "0.5")), 4: (5, ("-0.5", "0.5")), 8: (12, ("-0.5", "0.5"))},
    ),
    Fit(
        "ARTANH",
        "(2 artanh(s / 2) / s - 1) / s^2 in s^2, for s <= 2/3",
        artanh_remainder,
        {2: (2, ("0", "4/9")), 4: (3, ("0", "4/9")), 8: (11, ("0", "4/9"))},
    ),
    Fit(
        "MISH_SLOPE",
        "(mish'(x) - 3/5) / x for x in [-0.5, 0]",
        mish_slope_remainder,
        {2: (4, ("-0.5", "0")), 4: (7, ("-0.5", "0")), 8: (13, ("-0.5", "0"))},
    ),
    Fit(
        "NORMAL_CENTER",
        "(Phi(x) - 1/2) / x in x^2, for |x| <= 1",
        normal_remainder,
        {2: (3, ("0", "1")), 4: (5, ("0", "1")), 8: (10, ("0", "1"))},
    ),
    Fit(
        "GELU_SLOPE",
        "gelu'(x) / (x - z) in x - z, for |x - z| <= 0.76, z = GELU_ZERO",
        gelu_slope,
        {2: (7, ("-0.76", "0.76")), 4: (10, ("-0.76", "0.76")), 8: (19, ("-0.76", "0.76"))},
    ),
    Fit(
        "TAIL",
        "Phi(-t) exp(t^2 / 2) / s in s = 1 / (1 + TAIL_SCALE t), for t <= 14",
        density_tail,
        {4: (9, ("1/4.5", "1"))},
    ),
    Fit(
        "TAIL_SLOPE",
        "-gelu'(-t) exp(t^2 / 2) / (t + GELU_ZERO) in the same s",
        density_tail_slope,
        {4: (8, ("1/4.5", "1"))},
    ),
    Fit(
        "TANH_SHRINK",
        "(x - tanh(x)) / x^3 in x^2, for |x| <= 1.5",
        tanh_remainder,
        {2: (7, ("0", "2.25")), 4: (11, ("0", "2.25")), 8: (22, ("0", "2.25"))},
    ),
)


class RationalFit(NamedTuple):
    name: str
    meaning: str
    function: Callable[[mp.mpf], mp.mpf]
    #: Numerator and denominator at 0.
    at_zero: Callable[[], tuple[mp.mpf, mp.mpf]]
    # (degree of the numerator, of the denominator, end of the interval) by bytes
    by_size: dict[int, tuple[int, int, int]]


#: The coefficients come out positive, so that nothing cancels.
RATIONAL_FITS = (
    RationalFit(
        "NORMAL_TAIL",
        "Phi(-t) exp(t^2/2) for t in [0, 14] or [0, 39]",
        normal_tail,
        lambda: (mp.mpf(1), mp.mpf(2)),
        {2: (3, 4, 14), 4: (4, 5, 14), 8: (10, 11, 39)},
    ),
)


class Gate(NamedTuple):
    """x sigmoid(v(x)), v = a x + c x^3. Its slope is e (1 + e + x v') / (1 + e)^2, e = exp(v)."""

    a: mp.mpf
    c: mp.mpf

    def argument(self, x: mp.mpf) -> mp.mpf:
        return self.a * x + self.c * x**3

    def bracket(self, x: mp.mpf) -> mp.mpf:
        return 1 + mp.exp(self.argument(x)) + self.a * x + 3 * self.c * x**3


def around(x: mp.mpf, a: mp.mpf, c: mp.mpf) -> tuple[mp.mpf, ...]:
    """The coefficients of a x + c x^3 in powers 1 to 3 of the distance from ``x``."""
    return a + 3 * c * x**2, 3 * c * x, c


def anchor(zero: mp.mpf, factors: Callable[[mp.mpf], tuple[mp.mpf, ...]], bits: int = 17) -> mp.mpf:
    """A number next to a slope's zero with so few ``bits`` after the point that the distance of a
    float32 number from it is exact.

    Of those, the one that makes factors of the results nearly float32 numbers.
    """

    def rounding(x: mp.mpf) -> mp.mpf:
        return max(abs(mp.mpf(float(np.float32(float(f)))) / f - 1) for f in factors(x))

    nearest, reach = int(mp.nint(zero * 2**bits)), 2 ** (bits - 14)
    return min((mp.mpf(k) / 2**bits for k in range(nearest - reach, nearest + reach)), key=rounding)


def with_inverse(e: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
    return e, 1 / e


def lowest(polynomial: tuple[mp.mpf, ...], scale: int) -> tuple[float, float]:
    """Where 2^scale times the exponential of the polynomial underflows, in float32 and float64."""
    a, b, c = polynomial

    def root(bias: int) -> float:
        limit = (bias + scale) * mp.log(2)
        return float(mp.findroot(lambda x: x * (a + x * (b + x * c)) + limit, -limit / 10))

    return round(root(127), 4), round(root(1023), 4)


SCALE = 8


def constants() -> dict[str, object]:
    """Where the slopes of the gated functions vanish, and what their formulas need there."""
    silu = Gate(mp.mpf(1), mp.mpf(0))
    linear = 2 * mp.sqrt(2 / mp.pi)
    gelu = Gate(linear, linear * mp.mpf("0.044715"))
    silu_anchor = anchor(mp.findroot(silu.bracket, -1.28), lambda x: with_inverse(mp.exp(x)))
    gelu_anchor = anchor(
        mp.findroot(gelu.bracket, -0.75),
        lambda x: (
            *with_inverse(mp.exp(gelu.argument(x))),
            around(x, gelu.a, 3 * gelu.c)[0],
        ),
        bits=20,
    )
    gelu_e = mp.exp(gelu.argument(gelu_anchor))

    def mish_bracket(x: mp.mpf) -> mp.mpf:
        return 4 * (x + 1) + mp.exp(x) * (4 * x + 6) + 4 * mp.exp(2 * x) + mp.exp(3 * x)

    mish_anchor = anchor(mp.findroot(mish_bracket, -1.19), lambda x: with_inverse(mp.exp(x)))

    def bsilu_bracket(x: mp.mpf) -> mp.mpf:
        return 1 + mp.mpf("1.67") + x + mp.exp(x)

    bsilu_anchor = anchor(mp.findroot(bsilu_bracket, -2.73), lambda x: with_inverse(mp.exp(x)))
    change = around(gelu_anchor, gelu.a, gelu.c)
    gate_change = (gelu.bracket(gelu_anchor), *around(gelu_anchor, gelu.a, 3 * gelu.c))
    return {
        "TAIL_SCALE": TAIL_SCALE,
        "SILU_ANCHOR": silu_anchor,
        "SILU_EXP": mp.exp(silu_anchor),
        "SILU_BRACKET": silu.bracket(silu_anchor),
        "MISH_ANCHOR": mish_anchor,
        "MISH_EXP": mp.exp(mish_anchor),
        "MISH_BRACKET": mish_bracket(mish_anchor),
        "BSILU_ANCHOR": bsilu_anchor,
        "BSILU_EXP": mp.exp(bsilu_anchor),
        "BSILU_BRACKET": bsilu_bracket(bsilu_anchor),
        "GELU_ZERO": gelu_slope_zero(),
        "GELU_TANH_ANCHOR": gelu_anchor,
        "GELU_TANH_EXP": gelu_e,
        "GELU_TANH_ARGUMENT": tuple(c / mp.log(2) for c in (gelu.a, mp.mpf(0), gelu.c)),
        "GELU_TANH_CHANGE": tuple(c / mp.log(2) for c in change),
        "GELU_TANH_BRACKET": gate_change,
        "GELU_TANH_LOWEST": lowest((gelu.a, mp.mpf(0), gelu.c), SCALE),
        "GELU_TANH_CHANGE_LOWEST": lowest(change, SCALE),
    }


def number(text: str) -> mp.mpf:
    numerator, _, denominator = text.partition("/")
    return mp.mpf(numerator) / mp.mpf(denominator or 1)


def fit(function: Callable[[mp.mpf], mp.mpf], degree: int, interval: tuple[str, str]) -> list[str]:
    ends = [number(end) for end in interval]
    if "asc" in inspect.signature(mp.chebyfit).parameters:  # mpmath 1.4 wants the order named
        coefficients, error = mp.chebyfit(function, ends, degree + 1, True, asc=True)
        coefficients = coefficients[::-1]
    else:
        coefficients, error = mp.chebyfit(function, ends, degree + 1, True)
    bits = -mp.log(error / min(abs(function(number(end))) for end in interval), 2)
    print(f"degree {degree}: relative error 2^-{float(bits):.1f}")
    return [repr(float(c)) for c in coefficients]


def polynomial(coefficients: list[mp.mpf], x: mp.mpf) -> mp.mpf:
    """The lowest power comes first."""
    return functools.reduce(lambda value, c: value * x + c, reversed(coefficients), mp.mpf(0))


def rational_fit(f: RationalFit, p: int, q: int, end: int) -> tuple[list[str], list[str]]:
    """Weighted least squares with the weights of the last errors (Lawson) near the minimax."""
    first, second = f.at_zero()
    count = 4 * (p + q)
    # Denser towards 0, where the function bends.
    nodes = [
        end * ((1 - mp.cos(mp.pi * (i + mp.mpf(1) / 2) / count)) / 2) ** 2 for i in range(count)
    ]
    values = [f.function(t) for t in nodes]
    weights, scales = [mp.mpf(1) / count] * count, [mp.mpf(1)] * count
    best: tuple[mp.mpf, list[mp.mpf], list[mp.mpf]] = (mp.inf, [], [])
    for _ in range(12):
        matrix, right = mp.matrix(count, p + q), mp.matrix(count, 1)
        for i, (t, y) in enumerate(zip(nodes, values, strict=True)):
            w = mp.sqrt(weights[i]) / (y * scales[i])
            for k in range(p):
                matrix[i, k] = w * t ** (k + 1)
            for k in range(q):
                matrix[i, p + k] = -w * y * t ** (k + 1)
            right[i] = w * (y * second - first)
        solution, _ = mp.qr_solve(matrix, right)
        numerator = [first, *solution[:p]]
        denominator = [second, *solution[p:]]
        scales = [polynomial(denominator, t) for t in nodes]
        errors = [
            abs(polynomial(numerator, t) / (scale * y) - 1)
            for t, y, scale in zip(nodes, values, scales, strict=True)
        ]
        best = min(best, (max(errors), numerator, denominator), key=lambda found: found[0])
        weights = [
            w * (e / max(errors) + mp.mpf("0.02")) for w, e in zip(weights, errors, strict=True)
        ]
        weights = [w / sum(weights) for w in weights]
    error, numerator, denominator = best
    print(f"degrees {p}, {q}: relative error 2^{float(mp.log(error, 2)):.1f}")
    return [repr(float(c)) for c in numerator[::-1]], [repr(float(c)) for c in denominator[::-1]]


def literal(value: object) -> str:
    if isinstance(value, tuple):
        return "\n".join(["(", *(f"    {literal(v)}," for v in value), ")"])
    return repr(value) if isinstance(value, float) else f'"{mp.nstr(value, 36)}"'


def source() -> str:
    lines = [
        '"""Constants of the formulas; polynomials, highest power first, by bytes of the dtype.',
        "",
        "Written by ``python -m benchmarks.coefficients``; do not edit.",
        '"""',
        "",
        "# Anchors are next to the zeros of slopes. There: the exponential in the slope, and its",
        "# bracket, which vanishes at the zero. Of gelu's tanh form, x sigmoid(u(x)): the",
        "# coefficients of u / ln 2 in powers 1 to 3 of x, and of its change from the anchor in",
        "# powers of the distance; those of the bracket without the change of the exponential,",
        "# powers 0 to 3; and where exp(u) vanishes.",
        *(f"{name} = {literal(value)}" for name, value in constants().items()),
    ]
    for f in FITS:
        print(f.name)
        lines += ["", f"# {f.meaning}", f"{f.name} = {{"]
        for size, (degree, interval) in f.by_size.items():
            lines.append(f"    {size}: (")
            lines += [f"        {c}," for c in fit(f.function, degree, interval)]
            lines.append("    ),")
        lines.append("}")
    for r in RATIONAL_FITS:
        print(r.name)
        lines += ["", f"# {r.meaning}: numerator and denominator", f"{r.name} = {{"]
        for size, degrees in r.by_size.items():
            lines.append(f"    {size}: (")
            for part in rational_fit(r, *degrees):
                lines += ["        (", *(f"            {c}," for c in part), "        ),"]
            lines.append("    ),")
        lines.append("}")
    return "\n".join(lines) + "\n"


def main() -> int:
    mp.mp.dps = 40
    text = source()
    if "--check" in sys.argv[1:]:
        if TARGET.read_text() != text:
            print(f"{TARGET} is not what this script writes; run it without --check.")
            return 1
        return 0
    TARGET.write_text(text)
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
