"""Tables that benchmarks write into pages of the documentation, each between its own two marks."""

from collections.abc import Iterable, Sequence
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def read_tables(text: str) -> dict[str, list[dict[str, str]]]:
    """The tables of a page in Markdown, by the heading that each is under.

    Of several under one heading, the last one. A row has its cells by their column's name, without
    backticks.
    """
    tables: dict[str, list[dict[str, str]]] = {}
    heading = ""
    header: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            header = []
        elif not header:
            header = cells
            tables[heading] = []
        elif set(line) - set("|-: "):
            tables[heading].append(dict(zip(header, cells, strict=True)))
    return tables


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
