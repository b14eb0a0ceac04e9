"""A table of texts, and how it is written in a terminal and in Markdown.

What does not fit into a terminal goes: columns in the order of their importance, or, where all are
as important, to a further table below. A word may break a heading into lines; no number is broken.
"""

import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

#: Between the columns in a terminal.
_GAP = 2
#: The colours of cells that a verdict is about.
_STYLES = {"better": "green", "worse": "red"}
#: A text of a terminal's table is broken behind these where it is longer than that.
_LONG_NAME = 16


@dataclasses.dataclass(frozen=True)
class Field:
    """A column with its texts.

    Args:
      heading: lines, with a newline between them.
      cells: a text for each row.
      justify: the side that the texts are aligned on.
      importance: columns of a larger number go first where the terminal is narrow. Those of 0 stay.
      short: cells in the words of a narrow terminal; the same by default.
      group: columns of one group stay side by side. Those of group 0 are the rows' names.
      verdicts: the verdict on each cell, which gives it a colour.
      notes: sentences about the column, below the table.
    """

    heading: str
    cells: Sequence[str]
    justify: Literal["left", "right"] = "right"
    importance: int = 0
    short: Sequence[str] = ()
    group: int = 0
    verdicts: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def words(self) -> str:
        """The heading in one line."""
        return " ".join(self.heading.split())


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table.

    Args:
      title: what was trained, in one line.
      fields: the columns.
    """

    title: str
    fields: tuple[Field, ...]

    @property
    def notes(self) -> list[str]:
        """What is said below the table, each thing once."""
        return _sentences(self.fields)

    @property
    def rows(self) -> Iterator[tuple[str, ...]]:
        """The texts, row by row."""
        return zip(*(field.cells for field in self.fields), strict=True)


def terminal(grids: Sequence[Grid], width: int, colour: bool) -> str:
    """The tables for a terminal, each with its title and with the notes that no other had.

    Args:
      width: in characters.
      colour: whether to use a terminal's colours.
    """
    from rich.text import Text

    parts = []
    said: list[str] = []
    for grid in grids:
        parts.append(_printed(Text(grid.title, "bold"), width, colour))
        shown: list[Field] = []
        for fields in _fitting(grid.fields, width):
            parts.append(_printed(_rich(fields), max(width, _needed(fields)), colour))
            shown += fields
        new = [note for note in _sentences(shown) if note not in said]
        said += new
        if new:
            parts.append(_printed(Text(" ".join(new), "dim"), width, colour))
    return "\n".join(parts)


def markdown(grid: Grid) -> str:
    """A table in GitHub's Markdown, under a heading with its title."""
    rule = [{"left": "---", "right": "---:"}[field.justify] for field in grid.fields]
    head = [field.words for field in grid.fields]
    cells = [[_escaped(text) for text in row] for row in (head, *grid.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in (cells[0], rule, *cells[1:])]
    paragraphs = [f"## {_escaped(grid.title)}", "\n".join(lines)]
    if grid.notes:
        paragraphs.append(_escaped(" ".join(grid.notes)))
    return "\n\n".join(paragraphs)


def _sentences(fields: Sequence[Field]) -> list[str]:
    return list(dict.fromkeys(note for field in fields for note in field.notes if note))


def _printed(part: "Text | Table", width: int, colour: bool) -> str:
    from rich.console import Console

    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
        _environ={},
    )
    with console.capture() as capture:
        console.print(part)
    # What ends a line is a table's padding.
    return "".join(line.rstrip() + "\n" for line in capture.get().splitlines())


def _escaped(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([\\`*\[\]<|]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _fitting(fields: Sequence[Field], width: int) -> Iterator[list[Field]]:
    """The columns of each table that is printed: one, or several below each other."""
    if any(field.group for field in fields):
        yield from _blocks(fields, width)
        return
    order = sorted({field.importance for field in fields}, reverse=True)
    for last in order:
        left = [field for field in fields if field.importance <= last]
        for shown in (left, [_shortened(field) for field in left]):
            if _needed(shown) <= width or (last == order[-1] and shown is not left):
                yield shown
                return


def _blocks(fields: Sequence[Field], width: int) -> Iterator[list[Field]]:
    names = [field for field in fields if not field.group]
    block = list(names)
    for group in sorted({field.group for field in fields} - {0}):
        first, *others = [field for field in fields if field.group == group]
        # What they have in common is said once.
        common = first.heading.partition("\n")[0] + "\n"
        more = [
            first,
            *(
                dataclasses.replace(f, heading="\n" + f.heading.removeprefix(common))
                for f in others
            ),
        ]
        if len(block) > len(names) and _needed([*block, *more]) > width:
            yield block
            block = list(names)
        block += more
    yield block


def _shortened(field: Field) -> Field:
    return dataclasses.replace(field, cells=field.short or field.cells)


def _lines(text: str) -> str:
    """A long name in lines, broken where a parameter begins."""
    if len(text) <= _LONG_NAME:
        return text
    return re.sub(r"(?<=[:,])(?=\S)", "\n  ", text)


def _column_width(field: Field) -> int:
    texts = [field.heading, *(_lines(cell) for cell in field.cells)]
    return max(len(line) for text in texts for line in text.split("\n"))


def _needed(fields: Sequence[Field]) -> int:
    return sum(_column_width(field) + _GAP for field in fields) - _GAP


def _rich(fields: Sequence[Field]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    for field in fields:
        table.add_column(Text(field.heading), justify=field.justify)
    for i in range(len(fields[0].cells)):
        table.add_row(*(_cell(field, i) for field in fields))
    return table


def _cell(field: Field, row: int) -> "Text":
    from rich.text import Text

    style = _STYLES.get(field.verdicts[row], "") if field.verdicts else ""
    return Text(_lines(field.cells[row]), style)
