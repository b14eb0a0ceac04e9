"""The bytes of a file, and what is read of them: tables, and what is wrong with them."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxact._errors import CompareError
from jaxact._text import size

#: The endings of files that can be read.
ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".txt", ".parquet", ".npz")
#: So many problems are listed.
_LISTED = 10


@dataclasses.dataclass
class Table:
    """A table, column by column; no meaning is given to a value yet.

    Args:
      columns: by name: texts (an object array of str), or float64 numbers, booleans or datetime64
        where the file has types. A missing text is "", a missing number NaN, a missing date NaT.
      lines: the line of the file on which each row starts; row numbers where there are no lines.
      commas_in_numbers: whether commas can only be parts of numbers, as another character is
        between the columns.
      decimal_comma: whether some columns have numbers with decimal commas.
    """

    columns: dict[str, np.ndarray]
    lines: Sequence[int]
    commas_in_numbers: bool = False
    decimal_comma: bool = False

    def where(self, rows: Sequence[int] | np.ndarray) -> str:
        """``"line 5"``, ``"lines 5, 7, 8 and 3 more"``."""
        noun = "row" if isinstance(self.lines, range) else "line"
        return places(noun, [self.lines[int(row)] for row in rows])


class Problems:
    """What is wrong with a file, all of which is told at once."""

    def __init__(self, name: str):
        self.name = name
        self._found: list[str] = []

    def add(self, problem: str) -> None:
        """One more; the same one twice is one."""
        if problem not in self._found:
            self._found.append(problem)

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_if_any(self) -> None:
        """Raise a `CompareError` that lists all of them."""
        if not self._found:
            return
        if len(self._found) == 1:
            raise CompareError(f"{self.name}: {self._found[0]}.")
        listed = "; ".join(f"({i}) {p}" for i, p in enumerate(self._found[:_LISTED], 1))
        more = len(self._found) - _LISTED
        end = f"; and {more} more" if more > 0 else ""
        raise CompareError(f"{self.name} has {len(self._found)} problems: {listed}{end}.")


def content(path: Path, max_memory: int) -> bytes:
    """The bytes of a file that is not too large.

    Raises:
      CompareError: there is no such file, its name ends in nothing that can be read, or it is
        larger than ``max_memory``.
    """
    if ending(path) is None:
        raise CompareError(f"--data {path}: the name must end in {', '.join(ENDINGS)}.")
    if not path.exists():
        raise CompareError(f"--data {path}: there is no such file.")
    try:
        check_size(path.name, path.stat().st_size, max_memory)
        return path.read_bytes()
    except OSError as error:
        raise CompareError(f"--data {path}: cannot be read ({error.strerror}).") from error


def ending(path: Path) -> str | None:
    """Which of `ENDINGS` a name has; the longest one."""
    found = [e for e in ENDINGS if path.name.lower().endswith(e)]
    return max(found, key=len, default=None)


def check_size(name: str, needed: float, max_memory: int) -> None:
    """Raise a `CompareError` where more bytes are needed than may be."""
    if needed > max_memory:
        raise CompareError(
            f"{name} takes {size(needed)} of memory, more than {size(max_memory)}; allow more with "
            "--max-memory, or take fewer samples."
        )


def check_names(names: Sequence[str], problems: Problems) -> None:
    """Add the names that several columns have."""
    for name, times in collections.Counter(names).items():
        if name and times > 1:
            problems.add(f"column {plain(name)!r} is there {times} times; rename all but one")


def places(noun: str, numbers: Sequence[int]) -> str:
    """``"line 5"``, ``"lines 5, 7, 8 and 3 more"``."""
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    more = f" and {len(numbers) - 3} more" if len(numbers) > 3 else ""
    return f"{noun}s {', '.join(map(str, numbers[:3]))}{more}"


def plain(text: str, most: int = 24) -> str:
    """A text of a file, in one line and not long.

    >>> plain("two\\nlines, and more than a table can show")
    'two lines, and more tha…'
    """
    shown = "".join(c if c.isprintable() else " " for c in text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def first_line(error: BaseException) -> str:
    """What an error says, without what follows below it."""
    lines = str(error).strip().splitlines()
    return plain(lines[0] if lines else type(error).__name__, 120).rstrip(".")
