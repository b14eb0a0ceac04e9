"""Numbers as people write them: 1234.5, 1,234.5, 1.234,5."""

import re
from collections.abc import Iterable

import numpy as np

_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")
#: A point is between thousands where a comma is the decimal one.
_DECIMAL_COMMA = re.compile(
    r"[-+]?(\d+|[1-9]\d{0,2}(\.\d{3})+)?,\d+([eE][-+]?\d+)?|[-+]?\d+,?|[-+]?[1-9]\d{0,2}(\.\d{3})+"
)
#: What cannot be thousands: groups of other than three digits, or that start with 0.
_CERTAIN = re.compile(r"[-+]?(\d*,(\d{1,2}|\d{4,})|(0?|\d{4,}),\d+)")

PLAIN, COMMAS, DECIMAL_COMMA = "", "commas between thousands", "decimal comma"


def has_decimal_comma(texts: Iterable[str]) -> bool:
    """Whether a column has numbers whose comma can only be the decimal one."""
    found = {text for text in texts if "," in text}
    certain = sum(bool(_CERTAIN.fullmatch(text)) for text in found)
    return bool(certain) and all(_DECIMAL_COMMA.fullmatch(text) for text in found)


def to_numbers(
    texts: np.ndarray, *, commas_in_numbers: bool = False, decimal_comma: bool = False
) -> tuple[np.ndarray, np.ndarray, str]:
    """The texts of a column as numbers, all in the notation that makes most of them numbers.

    Args:
      texts: object array of str.
      commas_in_numbers: whether ``1,234`` is more likely 1.234 than 1234, where both are possible.
      decimal_comma: whether other columns have decimal commas, so that ``1.234`` is 1234.

    Returns:
      The numbers, NaN where there is none; which texts are numbers; and the notation, if it is not
      the plain one.
    """
    different = dict.fromkeys(texts)
    if decimal_comma:
        notations = (DECIMAL_COMMA, PLAIN, COMMAS)
    elif commas_in_numbers:
        notations = (PLAIN, DECIMAL_COMMA, COMMAS)
    else:
        notations = (PLAIN, COMMAS, DECIMAL_COMMA)
    found: dict[str, float] = {}
    notation = PLAIN
    for candidate in notations:
        read = {
            text: number for text in different if (number := _read(text, candidate)) is not None
        }
        if len(read) > len(found):
            found, notation = read, candidate
        if len(found) == len(different):
            break
    numbers = np.array([found.get(text, np.nan) for text in texts], np.float64)
    right = np.array([text in found for text in texts], bool)
    if notation == DECIMAL_COMMA and not any("," in text for text in found):
        points = any("." in text for text in found)
        notation = "points between thousands" if points else PLAIN
    return numbers, right, notation


def _read(text: str, notation: str) -> float | None:
    text = text.replace("\N{MINUS SIGN}", "-")
    if notation == DECIMAL_COMMA:
        if not _DECIMAL_COMMA.fullmatch(text):
            return None
        text = text.replace(".", "").replace(",", ".")
    elif notation == COMMAS and _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    try:
        return None if "_" in text else float(text)  # Python allows 1_000
    except ValueError:
        return None
