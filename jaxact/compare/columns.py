"""What is made of each column of a table: numbers, categories, dates; or why it is left out."""

import collections
import dataclasses
import re
import textwrap
from collections.abc import Collection, Sequence

import numpy as np

from jaxact.compare import dates as dates_module, notation
from jaxact.compare.files import Problems, Table, plain

#: Texts that mean a missing value, beside an empty cell; capital letters or not.
MISSING = ("nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "null", "none")
#: Where this share of the values are numbers or dates, more than `FEW` of them different, the other
#: values are mistakes.
MOSTLY = 0.8
#: They are so from this share on where they are one or a few texts, as "?" for missing values.
MOSTLY_BUT_FOR_SOME_TEXTS = 0.5
SOME_TEXTS = 3
#: A column with as few different numbers, and texts, is one of categories.
FEW = 10
#: A column of texts is left out where more than this share of its values are different.
MOSTLY_DIFFERENT = 0.5
#: Of a column with more values, the rarest share one.
MOST_CATEGORIES = 32
#: So many consecutive integers, all different, are row numbers.
ROW_NUMBERS = 10

_IDENTIFIER = re.compile(
    r"id|ids|uuid|guid|index|idx|rowid|row_?(number|num|nr|no|id)|unnamed: ?\d+"
    r"|.*[ _.-](id|uuid|guid|idx)"
)
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
    def kind(self) -> str:
        """How it is prepared: ``"category"``, ``"boolean"`` or ``"number"``, as dates are."""
        if self.values.dtype == object:
            return "category"
        return "boolean" if self.column.kind == "boolean" else "number"


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


def to_numbers(table: Table, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """As `notation.to_numbers`, with what the rest of the table says of commas."""
    return notation.to_numbers(
        texts, commas_in_numbers=table.commas_in_numbers, decimal_comma=table.decimal_comma
    )


def _feature(
    table: Table, name: str, wanted: bool, further: Collection[str], problems: Problems
) -> Feature | Column | None:
    values = table.columns[name]
    if values.dtype == bool:
        return _numbers(name, values.astype(np.float64), table, wanted, problems, boolean=True)
    if values.dtype.kind == "M":
        return _dates(name, values, wanted, "")
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
    numbers, right, note = to_numbers(table, there)
    if right.all():
        whole = np.full(len(values), np.nan)
        whole[~missing] = numbers
        return _numbers(name, whole, table, wanted, problems, note=note)
    rows = np.flatnonzero(~missing)
    if _has_mistakes(there, right):
        problems.add(_mistakes(name, "numbers", table, rows[~right]))
        return None
    dates = dates_module.looks_like_one(there)
    if _has_mistakes(there, dates):
        problems.add(_mistakes(name, "dates", table, rows[~dates]))
        return None
    if dates.all():
        parsed, note = dates_module.parsed(there)
        if np.isnat(parsed).any():
            problems.add(_mistakes(name, "dates", table, rows[np.isnat(parsed)]))
            return None
        whole = np.full(len(values), np.datetime64("NaT", "us"), "datetime64[us]")
        whole[~missing] = parsed
        return _dates(name, whole, wanted, note)
    note = f"numbers, and texts such as {plain(there[~right][0], 12)!r}" if right.any() else ""
    return _categories(name, np.where(missing, "", values), wanted, note)


def _has_mistakes(texts: np.ndarray, right: np.ndarray) -> bool:
    """Whether a column is so much one of numbers, or dates, that the other texts are mistakes."""
    share = right.mean()
    if share == 1 or len(set(texts[right])) <= FEW:
        return False
    some = len(set(texts[~right])) <= SOME_TEXTS
    return bool(share >= (MOSTLY_BUT_FOR_SOME_TEXTS if some else MOSTLY))


def _mistakes(name: str, kind: str, table: Table, rows: np.ndarray) -> str:
    shown = dict.fromkeys(repr(plain(table.columns[name][row])) for row in rows)
    examples = ", ".join(list(shown)[:3]) + (", …" if len(shown) > 3 else "")
    return (
        f"column {plain(name)!r} has {kind}, but not in {table.where(rows)}: {examples}; mend "
        "them, name them with --missing, or leave the column out with --drop"
    )


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
        shown = [plain(str(table.columns[name][row])) for row in infinite[:3]]
        problems.add(
            f"column {plain(name)!r} is not finite in {table.where(infinite)}: "
            f"{', '.join(dict.fromkeys(shown))}"
        )
        return None
    there = numbers[~np.isnan(numbers)]
    if not len(there):
        return Column(name, "empty", "left out", "every value is missing")
    gaps = len(numbers) - len(there)
    if there.min() == there.max():
        return Column(name, "constant", "left out", f"always {there[0]:g}{_or_missing(gaps)}")
    reason = _identifier(name, there, wanted)
    if reason:
        return Column(name, "identifier", "left out", reason)
    notes = [note] if note else []
    if gaps:
        notes.append(f"{gaps} missing: {'most frequent' if boolean else 'median'}")
    kind, made = ("boolean", "0 or 1, standardised") if boolean else ("number", "standardised")
    return Feature(Column(name, kind, made, "; ".join(notes)), numbers)


def _or_missing(gaps: int) -> str:
    return f", or missing ({gaps})" if gaps else ""


def _categories(name: str, texts: np.ndarray, wanted: bool, note: str) -> Feature | Column:
    there = texts[texts != ""]
    different = len(set(there))
    gaps = len(texts) - len(there)
    if different == 1 and not gaps:
        return Column(name, "constant", "left out", f"always {plain(there[0])!r}")
    if not wanted and (_named_so(name) or (different == len(there) and different > 2)):
        why = "all values are different" if different == len(there) else "by its name"
        return Column(name, "identifier", "left out", why)
    if not wanted and different > 2 and different > MOSTLY_DIFFERENT * len(there):
        return Column(name, "text", "left out", f"{different} values in {len(there)} rows")
    notes = [note] if note else []
    if gaps:
        notes.append(f"{gaps} missing: own column")
    made = f"{different} values, a column each" if different > 1 else "there or missing"
    if different + (gaps > 0) > MOST_CATEGORIES:
        made = f"{MOST_CATEGORIES} columns"
        notes.append(f"of {different} values the rarest share one")
    return Feature(Column(name, "category", made, "; ".join(notes)), texts)


def _dates(name: str, dates: np.ndarray, wanted: bool, note: str) -> Feature | Column:
    there = dates[~np.isnat(dates)]
    if not len(there):
        return Column(name, "empty", "left out", "every value is missing")
    gaps = len(dates) - len(there)
    first, last = (str(date)[:10] for date in (there.min(), there.max()))
    if there.min() == there.max():
        return Column(name, "constant", "left out", f"always {first}{_or_missing(gaps)}")
    notes = [f"{first} to {last}", *([note] if note else [])]
    if gaps:
        notes.append(f"{gaps} missing: median")
    made = Column(name, "date", "days, standardised", "; ".join(notes))
    return Feature(made, dates_module.to_days(dates))


def _identifier(name: str, numbers: np.ndarray, wanted: bool) -> str:
    """Why a column of numbers is an identifier; empty if it is none."""
    if wanted:
        return ""
    whole = bool((numbers == np.round(numbers)).all()) and np.abs(numbers).max() < 2**53
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


def as_table(columns: Sequence[Column], title: str, rows: int = 40) -> str:
    """What is made of each column, in at most 80 characters a line."""
    listed = list(columns[:rows])
    cells = [("column", "is", "made", "note")]
    cells += [(plain(c.name), c.kind, plain(c.made), c.note) for c in listed]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    lines = textwrap.wrap(title, 80, subsequent_indent="  ")
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        lines.append(f"{line}  {plain(row[3], 78 - len(line))}".rstrip())
    if len(columns) > rows:
        counts = collections.Counter(column.kind for column in columns[rows:])
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        lines.append(f"… and {len(columns) - rows} more columns: {kinds}")
    return "\n".join(lines)
