"""Reads the tables that benchmarks have written into pages of the documentation."""

import re
from pathlib import Path

from benchmarks.pages import Table, tables


def sections(page: Path, pattern: str) -> list[str]:
    """The names between ``<!-- begin`` and ``-->`` that match, in the order of the page.

    Raises:
      ValueError: none does.
    """
    names = re.findall(rf"<!-- begin ({pattern}) -->", page.read_text(encoding="utf-8"))
    if not names:
        raise ValueError(f"{page} has no mark <!-- begin {pattern} -->")
    return names


def read(page: Path, name: str) -> list[Table]:
    """The tables between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

    Raises:
      ValueError: the page has no such marks, or no table between them.
    """
    text = page.read_text(encoding="utf-8")
    _, begin, rest = text.partition(f"<!-- begin {name} -->\n")
    section, end, _ = rest.partition(f"<!-- end {name} -->")
    if not begin or not end:
        raise ValueError(f"{page} has no marks <!-- begin {name} --> and <!-- end {name} -->")
    found = tables(section)
    if not found:
        raise ValueError(f"{page} has no table between the marks of {name!r}")
    return found
