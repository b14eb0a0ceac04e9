"""What is made of each column of a table: numbers, categories, dates; or why it is left out."""

import dataclasses
import re
from collections.abc import Collection, Sequence

import numpy as np

from jaxact.compare.files import Problems, Table

#: Texts that mean a missing value, beside an empty cell; capital letters or not.
MISSING = ("nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "null", "none")
#: A column where this share of the values are numbers is one of numbers, in which the others are
#: mistakes.
MOSTLY_NUMBERS = 0.8
#: A column of texts is left out where more than this share of its values are different.
MOSTLY_DIFFERENT = 0.5
#: So many consecutive integers, all different, are row numbers.
ROW_NUMBERS = 10

_IDENTIFIER = re.compile(
    r"id|ids|uuid|guid|index|idx|rowid|row_?(number|num|nr|no|id)|unnamed: ?\d+"
    r"|.*[ _.-](id|uuid|guid|idx)"
)
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}( .*)?"
    r"|\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{2,4}( .*)?|[A-Za-z]{3,9} \d{1,2},? \d{4}( .*)?"
)
_DECIMAL_COMMA = re.compile(
    r"[-+]?(\d+|\d{1,3}(\.\d{3})+)?,\d+([eE][-+]?\d+)?|[-+]?\d{1,3}(\.\d{3})+"
)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
_BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})


@dataclasses.dataclass(frozen=True)
class Column:
    """What a column is, and what is made of it.

    Args:
      name: in the header.
      kind: what it is.
      made: what is made of it: ``"standardised"``, ``"3 columns, one for each value"``.
      note: why, and what else there is to know.
    """

    name: str
    kind: str
    made: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Feature:
    """A column that is used: float64 numbers with NaN where there are none, or texts, "" there."""

    column: Column
    values: np.ndarray

    @property
    def is_category(self) -> bool:
        return self.values.dtype == object


def features(
    table: Table,
    names: Sequence[str],
    wanted: Collection[str],
    missing: Collection[str],
    problems: Problems,
) -> tuple[list[Feature], list[Column]]:
    """The columns that are used, and what is made of every column.

    Args:
      table: the table.
      names: the columns to look at.
      wanted: those that were asked for by name: an identifier among them is used.
      missing: further texts that mean a missing value.
      problems: what cannot be used is added here.
    """
    used, columns = [], []
    for name in names:
        found = _feature(table, name, name in wanted, missing, problems)
        if isinstance(found, Feature):
            used.append(found)
            columns.append(found.column)
        elif found is not None:
            columns.append(found)
    return used, columns


def is_missing(texts: np.ndarray, further: Collection[str]) -> np.ndarray:
    """Which texts mean a missing value."""
    spelled = {"", *MISSING, *(text.strip().lower() for text in further)}
    return np.array([text.lower() in spelled for text in texts], bool)


def to_numbers(texts: np.ndarray, *, decimal_comma: bool) -> tuple[np.ndarray, np.ndarray, str]:
    """Texts as numbers.

    Returns:
      The numbers, NaN where there is none; which texts are numbers; and a note on how they are
      written.
    """
    found: dict[str, float] = {}
    notes: dict[str, None] = {}
    for text in dict.fromkeys(texts):
        plain, note = text, ""
        if decimal_comma and _DECIMAL_COMMA.fullmatch(text):
            plain, note = text.replace(".", "").replace(",", "."), "decimal comma"
        elif not decimal_comma and _THOUSANDS.fullmatch(text):
            plain, note = text.replace(",", ""), "commas between thousands"
        try:
            if "_" not in plain:  # which Python allows in numbers
                found[text] = float(plain)
                notes |= {note: None} if note else {}
        except ValueError:
            continue
    numbers = np.array([found.get(text, np.nan) for text in texts], np.float64)
    right = np.array([text in found for text in texts], bool)
    return numbers, right, ", ".join(notes)


def _feature(
    table: Table, name: str, wanted: bool, further: Collection[str], problems: Problems
) -> Feature | Column | None:
    values = table.columns[name]
    if values.dtype == bool:
        return _numbers(name, values.astype(np.float64), table, wanted, problems, boolean=True)
    if values.dtype.kind == "M":
        return _dates(name, values, wanted)
    if values.dtype != object:
        return _numbers(name, values, table, wanted, problems)
    missing = is_missing(values, further)
    there = values[~missing]
    if not len(there):
        return Column(name, "empty", "left out", "every value is missing")
    kinds = {text.lower() for text in set(there)}
    if any(kinds <= both for both in _BOOLEANS) and len(kinds) == 2:
        numbers = np.full(len(values), np.nan)
        numbers[~missing] = [text.lower() in ("true", "yes", "t", "y") for text in there]
        return _numbers(name, numbers, table, wanted, problems, boolean=True)
    numbers, right, note = to_numbers(there, decimal_comma=table.decimal_comma)
    if right.all():
        whole = np.full(len(values), np.nan)
        whole[~missing] = numbers
        return _numbers(name, whole, table, wanted, problems, note=note)
    if right.mean() >= MOSTLY_NUMBERS:
        rows = np.flatnonzero(~missing)[~right]
        shown = dict.fromkeys(repr(_short(values[row])) for row in rows)
        mistakes = ", ".join(list(shown)[:3]) + (", …" if len(shown) > 3 else "")
        problems.add(
            f"column {name!r} has numbers, but not in {where(table, rows)}: {mistakes}; mend them, "
            "name them with --missing, or leave the column out with --drop"
        )
        return None
    if all(_DATE.fullmatch(text) for text in set(there)):
        dates = _parsed_dates(values, missing)
        if dates is not None:
            return _dates(name, dates, wanted)
    return _categories(name, np.where(missing, "", values), wanted)


def _numbers(
    name: str,
    numbers: np.ndarray,
    table: Table,
    wanted: bool,
    problems: Problems,
    *,
    boolean: bool = False,
    note: str = "",
) -> Feature | Column | None:
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):
        shown = [_short(str(table.columns[name][row])) for row in infinite[:3]]
        problems.add(
            f"column {name!r} is not finite in {where(table, infinite)}: "
            f"{', '.join(dict.fromkeys(shown))}"
        )
        return None
    there = numbers[~np.isnan(numbers)]
    if not len(there):
        return Column(name, "empty", "left out", "every value is missing")
    gaps = len(numbers) - len(there)
    if not gaps and there.min() == there.max():
        return Column(name, "constant", "left out", f"always {there[0]:g}")
    reason = _identifier(name, there, wanted)
    if reason:
        return Column(name, "identifier", "left out", reason)
    notes = [note] if note else []
    if gaps:
        notes.append(f"{gaps} missing: {'most frequent' if boolean else 'median'}")
    kind, made = ("boolean", "0 or 1, standardised") if boolean else ("number", "standardised")
    return Feature(Column(name, kind, made, "; ".join(notes)), numbers)


def _categories(name: str, texts: np.ndarray, wanted: bool) -> Feature | Column:
    there = texts[texts != ""]
    values = set(there)
    different = len(values)
    gaps = len(texts) - len(there)
    if different == 1 and not gaps:
        return Column(name, "constant", "left out", f"always {_short(there[0])!r}")
    if not wanted and (_named_so(name) or (different == len(there) and different > 2)):
        why = "all values are different" if different == len(there) else "by its name"
        return Column(name, "identifier", "left out", why)
    if not wanted and different > 2 and different > MOSTLY_DIFFERENT * len(there):
        note = f"{different} values in {len(there)} rows"
        return Column(name, "text", "left out", note)
    made = f"{different} values, a column each" if different > 1 else "there or missing"
    note = f"{gaps} missing: a value of their own" if gaps else ""
    return Feature(Column(name, "category", made, note), texts)


def _dates(name: str, dates: np.ndarray, wanted: bool) -> Feature | Column:
    there = dates[~np.isnat(dates)]
    if not len(there):
        return Column(name, "empty", "left out", "every value is missing")
    if len(there) == len(dates) and there.min() == there.max():
        return Column(name, "constant", "left out", f"always {str(there[0])[:10]}")
    days = dates.astype("datetime64[s]").astype(np.float64) / 86400
    days[np.isnat(dates)] = np.nan
    gaps = len(dates) - len(there)
    note = (
        f"{gaps} missing: median" if gaps else f"{str(there.min())[:10]} to {str(there.max())[:10]}"
    )
    return Feature(Column(name, "date", "days, standardised", note), days)


def _parsed_dates(texts: np.ndarray, missing: np.ndarray) -> np.ndarray | None:
    """Dates of any common form, the day first where the first numbers cannot all be months."""
    import pandas as pd

    there = texts[~missing]
    leading = [re.match(r"(\d{1,2})[-/.]", text) for text in there]
    day_first = any(int(found[1]) > 12 for found in leading if found)
    day_first = day_first or any("." in text[:3] for text in there)  # 3.12.2024
    try:
        parsed = pd.to_datetime(pd.Series(there), format="mixed", dayfirst=day_first, utc=True)
    except (ValueError, OverflowError):
        return None
    dates = np.full(len(texts), np.datetime64("NaT"), "datetime64[ns]")
    dates[~missing] = parsed.dt.tz_convert(None).to_numpy("datetime64[ns]")
    return dates


def _identifier(name: str, numbers: np.ndarray, wanted: bool) -> str:
    """Why a column of numbers is an identifier; empty if it is none."""
    if wanted:
        return ""
    whole = bool((numbers == np.round(numbers)).all())
    if whole and _named_so(name):
        return "by its name"
    if whole and len(numbers) >= ROW_NUMBERS:
        ordered = np.sort(numbers)
        if (np.diff(ordered) == 1).all():
            return f"consecutive integers, {ordered[0]:g} to {ordered[-1]:g}"
    return ""


def _named_so(name: str) -> bool:
    lowered = name.strip().lower()
    return bool(_IDENTIFIER.fullmatch(lowered) or re.fullmatch(r".*[a-z]I[Dd]", name.strip()))


def where(table: Table, rows: Sequence[int] | np.ndarray) -> str:
    """``"line 5"``, ``"lines 5, 7 and 3 more"``."""
    lines = [table.lines[int(row)] for row in rows]
    noun = "row" if isinstance(table.lines, range) else "line"
    if len(lines) == 1:
        return f"{noun} {lines[0]}"
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    return f"{noun}s {', '.join(map(str, lines[:3]))}{more}"


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def as_table(columns: Sequence[Column], title: str, rows: int = 40) -> str:
    """What is made of each column, in at most 80 characters a line."""
    listed = list(columns[:rows])
    heads = ("column", "is", "made", "note")
    cells = [heads, *((c.name, c.kind, c.made, c.note) for c in listed)]
    limits = (24, 10, 24)
    widths = [min(limit, max(len(row[i]) for row in cells)) for i, limit in enumerate(limits)]
    lines = []
    for row in cells:
        fixed = [_short(row[i], width).ljust(width) for i, width in enumerate(widths)]
        line = "  ".join(fixed)
        lines.append(f"{line}  {_short(row[3], max(8, 78 - len(line)))}".rstrip())
    more = len(columns) - rows
    if more > 0:
        counts: dict[str, int] = {}
        for column in columns[rows:]:
            counts[column.kind] = counts.get(column.kind, 0) + 1
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        lines.append(f"… and {more} more columns: {kinds}")
    return "\n".join([title, *lines])
