"""Dates as people write them, and the numbers that are made of them."""

import re

import numpy as np

_TIME = r"([T ].*)?"
_DATE = re.compile(
    rf"\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}{_TIME}"
    rf"|\d{{1,2}}[-/.]\d{{1,2}}[-/.](\d{{4}}|\d{{2}}){_TIME}"
    rf"|\d{{1,2}}[ -][A-Za-z]{{3,9}}\.?[ -](\d{{4}}|\d{{2}}){_TIME}"
    rf"|[A-Za-z]{{3,9}}\.? \d{{1,2}},? \d{{4}}{_TIME}"
)
_LEADING = re.compile(r"(\d{1,2})([-/.])\d{1,2}\2\d{2,4}\b")


def looks_like_one(texts: np.ndarray) -> np.ndarray:
    """Which texts are written as dates are."""
    known = {text: _DATE.fullmatch(text) is not None for text in set(texts)}
    return np.array([known[text] for text in texts], bool)


def parsed(texts: np.ndarray) -> tuple[np.ndarray, str]:
    """Dates as datetime64 in UTC, NaT for what is none, such as 2024-02-31; and how they are read.

    Where the day or the month could stand first, it is the month, as pandas reads them, unless the
    numbers are too large for months or points are between them.
    """
    import pandas as pd

    leading = [found for text in texts if (found := _LEADING.match(text))]
    day_first = any(int(found[1]) > 12 or found[2] == "." for found in leading)
    times = pd.to_datetime(
        pd.Series(texts), format="mixed", dayfirst=day_first, utc=True, errors="coerce"
    )
    dates: np.ndarray = times.dt.tz_convert(None).to_numpy("datetime64[us]")
    return dates, ("day first" if day_first else "month first") if leading else ""


def to_days(dates: np.ndarray) -> np.ndarray:
    """Days since 1970, with the time of the day as a fraction; NaN for NaT."""
    days = dates.astype("datetime64[us]").astype(np.int64) / (86_400 * 1e6)
    days[np.isnat(dates)] = np.nan
    return days
