"""Numbers, names and lists, as sentences have them."""

import math
from collections.abc import Sequence

from jaxact.compare.intervals import Interval
from jaxact.compare.study import Score, Value


def amount(score: Score, difference: float, digits: int | None = None) -> str:
    """A difference's size, without its sign: ``"1.2 points"``."""
    size = abs(difference) * score.factor
    return f"{size:.{_digits(score, size) if digits is None else digits}f} {score.unit}"


def amount_at_least(score: Score, difference: float) -> tuple[str, float]:
    """A size rounded up, so that what is said of it is true; and the rounded size, as stored."""
    size = abs(difference) * score.factor
    digits = _digits(score, size)
    rounded = math.ceil(round(size * 10**digits, 6)) / 10**digits
    return amount(score, rounded / score.factor, digits), rounded / score.factor


def amount_with_interval(score: Score, difference: Interval, *, signed: bool = False) -> str:
    """A difference with its interval: ``"1.2 ± 0.4 points"``; with its sign: ``"-1.2 ± 0.4"``."""
    mean = difference.mean * score.factor
    half = None if difference.half_width is None else difference.half_width * score.factor
    digits = max(_digits(score, abs(mean)), 0 if half is None else _digits(score, half))
    size = f"{mean:+.{digits}f}" if signed else f"{abs(mean):.{digits}f}"
    return f"{size}{'' if half is None else f' ± {half:.{digits}f}'} {score.unit}"


def score_label(score: Score) -> str:
    """``"accuracy"``, ``"R²"``."""
    return score.label.removesuffix(" %")


def score_value(score: Score, value: float) -> str:
    """A score itself: ``"97.1%"``, ``"0.512"``."""
    if score.factor == 100:
        return f"{value * 100:.1f}%"
    return f"{value * score.factor:.{score.digits}f}"


def labelled_score(score: Score, value: float) -> str:
    """``"accuracy 97.1%"``, ``"R² 0.512"``."""
    return f"{score_label(score)} {score_value(score, value)}"


def percent(value: float) -> str:
    """Of a percentage: ``"41%"``, ``"0.3%"``, ``"none"``."""
    if value == 0:
        return "none"
    if value < 0.05:
        return "under 0.1%"
    return f"{value:.0f}%" if value >= 1 else f"{value:.1f}%"


def percent_with_interval(share: Interval) -> str:
    """``"41 ± 5%"``; ``"none"`` where all are exactly 0."""
    half = share.half_width
    if not half or share.mean < 0.05:
        return percent(share.mean)
    digits = 0 if share.mean >= 1 and half >= 1 else 1
    return f"{share.mean:.{digits}f} ± {half:.{digits}f}%"


def time(ratio: float) -> str:
    """A ratio of times: ``"3% more time a step"``."""
    if ratio >= 2:
        return f"{ratio:.1f} times the time a step"
    return f"{percent(abs(ratio - 1) * 100)} {'more' if ratio > 1 else 'less'} time a step"


def count(number: int, noun: str) -> str:
    """``"1 seed"``, ``"2 seeds"``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def value(of: Value) -> str:
    return of if isinstance(of, str) else f"{of:g}"


def these(names: Sequence[str]) -> str:
    """``"a"``, ``"a and b"``, ``"a, b and c"``."""
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def _digits(score: Score, size: float) -> int:
    """Behind the point: of percentage points 1, or 2 below 0.1; of others what tables have."""
    return (2 if size < 0.1 else 1) if score.factor == 100 else score.digits
