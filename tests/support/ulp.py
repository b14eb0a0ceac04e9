"""Errors in units in the last place (ULP)."""

import ml_dtypes
import numpy as np

#: Of inputs and results in float32 and bfloat16: XLA's CPU backend flushes those below.
SMALLEST_NORMAL = 2.0**-126


def bit_patterns(dtype: np.dtype) -> np.ndarray:
    """Every value of a 16-bit dtype."""
    return np.arange(1 << 16, dtype=np.uint16).view(dtype)


def error(result: np.ndarray, reference: np.ndarray):
    """|result - reference| in ULP of ``result``'s dtype at the float64 reference.

    0 where both are the same infinity, or the reference is subnormal and the result flushed to 0;
    inf where just one of them is finite or either is NaN.
    """
    info = ml_dtypes.finfo(result.dtype)
    tiny, largest = float(info.smallest_normal), float(info.max)
    exponent = np.frexp(np.maximum(abs(reference), tiny))[1] - 1
    ulp = np.ldexp(1.0, exponent - info.nmant)
    # Beyond the midpoint between the largest number and the next power of two is infinity.
    overflow = abs(reference) >= largest + np.ldexp(1.0, int(info.maxexp) - 2 - info.nmant)
    expected = np.where(overflow, np.copysign(np.inf, reference), reference)
    got = result.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = abs(got - expected) / ulp
    distance = np.where(got == expected, 0, distance)
    # float16 is computed in float32, where its subnormal numbers are normal: nothing flushes them.
    if result.dtype != np.float16:
        distance = np.where((abs(expected) < tiny) & (got == 0), 0, distance)
    return np.where(np.isnan(distance), np.inf, distance)


def flushed(
    x: np.ndarray, result: np.ndarray, reference: np.ndarray, *, compared: bool = False
) -> np.ndarray:
    """Where a subnormal input gave the 0 of the zero that the hardware sees in it.

    That is right of results that are as small as the input, and of slopes whose piece is chosen
    with the hardware's comparison, which are ``compared``.
    """
    size = abs(x.astype(np.float64))
    small = (size > 0) & (size < SMALLEST_NORMAL)
    if not compared:
        small &= abs(reference) < 4 * SMALLEST_NORMAL
    return small & (result.astype(np.float64) == 0)
