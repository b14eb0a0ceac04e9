"""Tables that benchmarks write into pages of the documentation, each between its own two marks."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent.parent / "docs"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


class Table(NamedTuple):
    """A table of a page.

    Attributes:
      heading: the last heading above it, or nothing.
      header: the columns' names, which may repeat.
      rows: the cells of each line below, as they are written.
    """

    heading: str
    header: list[str]
    rows: list[list[str]]


def tables(text: str) -> list[Table]:
    """The tables of a page in Markdown, in its order."""
    found: list[Table] = []
    heading, in_table = "", False
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            in_table = False
        elif not in_table:
            found.append(Table(heading, cells, []))
            in_table = True
        elif set(line) - set("|-: "):  # Not the line below the header.
            found[-1].rows.append(cells)
    return found


def read_tables(text: str) -> dict[str, list[dict[str, str]]]:
    """The tables of a page by the heading that each is under, and the cells by their column.

    Of several under one heading, the last one. Cells are without backticks.
    """
    return {
        table.heading: [
            {
                column.strip("`"): cell.strip("`")
                for column, cell in zip(table.header, row, strict=True)
            }
            for row in table.rows
        ]
        for table in tables(text)
    }


def write_section(page: Path, name: str, text: str) -> None:
    """Replace what is between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

    Raises:
      ValueError: the page has no such marks.
    """
    before, begin, rest = page.read_text().partition(f"<!-- begin {name} -->\n")
    _, end, after = rest.partition(f"<!-- end {name} -->")
    if not begin or not end:
        raise ValueError(f"{page} has no marks for {name!r}: <!-- begin {name} -->, <!-- end ...")
    page.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}")
