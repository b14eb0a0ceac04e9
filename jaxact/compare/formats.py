"""Figures as they are written in tables, drawings and the page."""

import math

from jaxact._text import size
from jaxact.compare.statistics import Interval
from jaxact.compare.study import Score, Value

#: Where a figure does not exist: no run ended, or it was not measured.
MISSING = "-"
#: From here on numbers are written with an exponent.
_LARGE = 1e5


def fixed(number: float | None, digits: int, sign: str = "") -> str:
    """A number with some digits behind the decimal point.

    >>> fixed(-0.001, 2), fixed(1.234, 2, "+"), fixed(1e12, 2), fixed(float("nan"), 2)
    ('0.00', '+1.23', '1e+12', '-')
    """
    if number is None or not math.isfinite(number):
        return MISSING
    return format(number, f"{sign}.3g" if abs(number) >= _LARGE else f"{sign}z.{digits}f")


def interval(values: Interval | None, digits: int, factor: float = 1.0, sign: str = "") -> str:
    """A mean and the larger half of its interval: ``"93.21 ± 0.40"``.

    Args:
      factor: what both are multiplied by.
      sign: ``"+"`` for differences.
    """
    mean = MISSING if values is None else fixed(factor * values.mean, digits, sign)
    if values is None or values.half_width is None or mean == MISSING:
        return mean
    return f"{mean} ± {fixed(factor * values.half_width, digits)}"


def mean(values: Interval | None, digits: int) -> str:
    """A mean without its interval."""
    return MISSING if values is None else fixed(values.mean, digits)


def score(values: Interval | None, of: Score) -> str:
    """A score, in its unit."""
    return interval(values, of.digits, of.factor)


def difference(values: Interval | None, of: Score) -> str:
    """A difference of a score, with its sign."""
    return interval(values, of.digits, of.factor, "+")


def milliseconds(values: Interval | None, largest: float) -> str:
    """A time, with as many digits as give the largest of its column three.

    >>> milliseconds(Interval(0.9, 0.89, 0.92), largest=1.0)
    '0.90 ± 0.02'
    """
    if not 0 < largest < math.inf:
        return MISSING
    return interval(values, max(2 - math.floor(math.log10(largest)), 0))


def loss(number: float | None) -> str:
    """A loss with three digits.

    >>> loss(0.5), loss(123.4), loss(None)
    ('0.500', '123', '-')
    """
    return MISSING if number is None else f"{number:#.3g}".rstrip(".")


def memory(count: int | None) -> str:
    """A number of bytes, in their unit."""
    return MISSING if count is None else size(count)


def value(number: Value) -> str:
    """A value of a swept axis.

    >>> value(0.000316228), value(1024), value("bfloat16")
    ('0.000316', '1024', 'bfloat16')
    """
    if isinstance(number, str):
        return number
    return f"{number:.0f}" if number == int(number) and abs(number) < _LARGE else f"{number:.3g}"
