"""How far a result may be from its reference, and where it is looked at."""

import ml_dtypes
import numpy as np

from tests.support import ulp
from tests.support.table import Row

SIXTEEN_BITS = (ml_dtypes.bfloat16, np.float16)


def reference(f, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(f(x.astype(np.float64)), np.float64)


def near_zero_of_slope(row: Row, x: np.ndarray, distance: float = 1e-3) -> np.ndarray:
    near = np.zeros(x.shape, bool)
    for zero in row.slope_zeros:
        near |= abs(x.astype(np.float64) - zero) < distance
    return near


def near_zero_of_value(row: Row, x: np.ndarray, distance: float = 1e-3) -> np.ndarray:
    near = np.zeros(x.shape, bool)
    for zero in row.value_zeros:
        near |= abs(x.astype(np.float64) - zero) < distance
    return near


def report(x: np.ndarray, error: np.ndarray, result: np.ndarray, expected: np.ndarray) -> str:
    i = int(error.argmax())
    return f"{error[i]:.4g} ULP at x={x[i]!r}: got {result[i]!r}, expected {expected[i]!r}"


def assert_within(x, result, expected, bound: float | np.ndarray, compared=False) -> None:
    flushed = ulp.flushed(x, result, expected, compared=compared)
    error = np.where(flushed, 0, ulp.error(result, expected))
    excess = error - bound
    assert excess.max() <= 0, report(x, np.where(excess > 0, error, 0), result, expected)


def float32_sample(row: Row, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    points = (0.0, *row.kinks, *row.slope_zeros, *row.value_zeros)
    sign = rng.choice([-1.0, 1.0], count)
    return np.concatenate(
        [
            rng.uniform(-110, 110, count),
            rng.uniform(-15, 15, count),
            *(p + sign * 10.0 ** rng.uniform(-7, 0, count) for p in points),
            sign * np.exp2(rng.uniform(-126, 127.9, count)),
            points,
        ]
    ).astype(np.float32)
