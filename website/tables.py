"""Reads the tables that benchmarks have written into pages of the documentation."""

import re
from pathlib import Path
from typing import NamedTuple


class Table(NamedTuple):
    """A table of a page.

    Attributes:
      heading: the last heading above it, within the marks; or nothing.
      rows: the cells below the header.
    """

    heading: str
    rows: list[list[str]]


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
    tables: list[Table] = []
    heading, in_table = "", False
    for line in section.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("|---"):  # The header is above it.
            tables.append(Table(heading, []))
            in_table = True
        elif in_table and line.startswith("|"):
            tables[-1].rows.append([cell.strip() for cell in line.strip("|").split("|")])
        else:
            in_table = False
    if not tables:
        raise ValueError(f"{page} has no table between the marks of {name!r}")
    return tables
