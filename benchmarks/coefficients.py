"""Fits the polynomials of ``jaxact/_core/coefficients.py`` and writes that file.

Each is a Chebyshev fit in 40-digit arithmetic, within a small factor of the minimax polynomial, of
the degree that brings its relative error under 2^-26 (float32) or 2^-55 (float64).

    python -m benchmarks.coefficients           # writes the file
    python -m benchmarks.coefficients --check   # fails if the file differs
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mpmath as mp

TARGET = Path(__file__).parent.parent / "jaxact" / "_core" / "coefficients.py"


class Fit(NamedTuple):
    name: str
    meaning: str
    function: Callable[[mp.mpf], mp.mpf]
    # (degree, interval) by bytes of the dtype
    float32: tuple[int, tuple[str, str]]
    float64: tuple[int, tuple[str, str]]


def expm1_remainder(x: mp.mpf) -> mp.mpf:
    return (mp.expm1(x) - x) / x**2 if abs(x) > mp.mpf(10) ** -12 else mp.mpf(1) / 2 + x / 6


def normal_tail(s: mp.mpf) -> mp.mpf:
    t = 4 * (1 + s) / (1 - s)
    return mp.erfc(t / mp.sqrt(2)) / 2 * mp.exp(t * t / 2) * (t + 4)


def tanh_remainder(u: mp.mpf) -> mp.mpf:
    x = mp.sqrt(u)
    return (x - mp.tanh(x)) / x**3 if u > mp.mpf(10) ** -12 else mp.mpf(1) / 3 - 2 * u / 15


def gelu_slope_zero() -> mp.mpf:
    return mp.findroot(lambda x: mp.ncdf(x) + x * mp.npdf(x), -0.75)


def gelu_slope(d: mp.mpf) -> mp.mpf:
    zero = gelu_slope_zero()
    x = zero + d
    if abs(d) < mp.mpf(10) ** -12:
        return mp.npdf(zero) * (2 - zero**2)
    return (mp.ncdf(x) + x * mp.npdf(x)) / d


FITS = (
    Fit(
        "EXPM1",
        "(expm1(x) - x) / x^2 for |x| <= 0.7",
        expm1_remainder,
        (8, ("-0.7", "0.7")),
        (14, ("-0.7", "0.7")),
    ),
    Fit(
        "NORMAL_TAIL",
        "Phi(-t) exp(t^2/2) (t + 4) in s = (t - 4) / (t + 4), for t in [0, 15] or [0, 40]",
        normal_tail,
        (11, ("-1", "11/19")),
        (26, ("-1", "36/44")),
    ),
    Fit(
        "TANH_SHRINK",
        "(x - tanh(x)) / x^3 in x^2, for |x| <= 1.5",
        tanh_remainder,
        (11, ("0", "2.25")),
        (22, ("0", "2.25")),
    ),
    Fit(
        "GELU_SLOPE",
        "gelu'(x) / (x - z) in x - z, for |x - z| <= 0.76, z = GELU_ZERO",
        gelu_slope,
        (12, ("-0.76", "0.76")),
        (22, ("-0.76", "0.76")),
    ),
)


def constants() -> dict[str, mp.mpf]:
    """Where the slopes of the gated functions vanish, and what their formulas need there."""
    silu = mp.findroot(lambda x: 1 + mp.exp(x) + x, -1.28)
    linear = 2 * mp.sqrt(2 / mp.pi)
    cubic = linear * mp.mpf("0.044715")

    def argument(x: mp.mpf) -> mp.mpf:
        return linear * x + cubic * x**3

    tanh_gelu = mp.findroot(
        lambda x: 1 + mp.exp(argument(x)) + linear * x + 3 * cubic * x**3, -0.75
    )
    mish = mp.findroot(
        lambda x: 4 * (x + 1) + mp.exp(x) * (4 * x + 6) + 4 * mp.exp(2 * x) + mp.exp(3 * x), -1.19
    )
    return {
        "SILU_ZERO": silu,
        "SILU_ZERO_EXP": mp.exp(silu),
        "MISH_ZERO": mish,
        "MISH_ZERO_EXP": mp.exp(mish),
        "GELU_ZERO": gelu_slope_zero(),
        "GELU_TANH_LINEAR": linear,
        "GELU_TANH_CUBIC": cubic,
        "GELU_TANH_ZERO": tanh_gelu,
        "GELU_TANH_ZERO_EXP": mp.exp(argument(tanh_gelu)),
    }


def number(text: str) -> mp.mpf:
    numerator, _, denominator = text.partition("/")
    return mp.mpf(numerator) / mp.mpf(denominator or 1)


def fit(function: Callable[[mp.mpf], mp.mpf], degree: int, interval: tuple[str, str]) -> list[str]:
    coefficients, error = mp.chebyfit(function, [number(end) for end in interval], degree + 1, True)
    bits = -mp.log(error / min(abs(function(number(end))) for end in interval), 2)
    print(f"degree {degree}: relative error 2^-{float(bits):.1f}")
    return [repr(float(c)) for c in coefficients]


def source() -> str:
    lines = [
        '"""Constants of the formulas; polynomials, highest power first, by bytes of the dtype.',
        "",
        "Written by ``python -m benchmarks.coefficients``; do not edit.",
        '"""',
        "",
        "# The zeros of slopes, exponentials there, and the argument of gelu's tanh form, doubled.",
        *(f'{name} = "{mp.nstr(value, 36)}"' for name, value in constants().items()),
    ]
    for f in FITS:
        print(f.name)
        lines += ["", f"# {f.meaning}", f"{f.name} = {{"]
        for size, (degree, interval) in ((4, f.float32), (8, f.float64)):
            lines.append(f"    {size}: (")
            lines += [f"        {c}," for c in fit(f.function, degree, interval)]
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
