"""The figures of studies as a table, for a terminal and as Markdown.

Where the settings are swept (lr, width, depth, samples, dtype), a row is a point of them, and the
activations stand side by side (`swept`). Else a row is an activation, with all of its figures.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from jaxact.compare import formats, grid, labels
from jaxact.compare.grid import Field, Grid
from jaxact.compare.statistics import Row, summarize
from jaxact.compare.study import Cell, Score, Study
from jaxact.compare.swept import fields as swept_fields, is_swept


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the table.

    Args:
      heading: a newline is where a terminal breaks it.
      cell: the text of a row.
      importance: which columns a narrow terminal keeps: those of the smallest numbers.
      present: whether it has something to say.
      justify: the side on which its texts are aligned.
      short: the text of a row in a narrow terminal; by default the same.
      baseline: the text in the row of the baseline.
      coloured: whether a row's verdict gives the text its colour.
      notes: sentences that explain the figures.
    """

    heading: Callable[[Study], str]
    cell: Callable[[Study, Row], str]
    importance: int
    present: Callable[[Study, Sequence[Row]], bool] = lambda study, rows: True
    justify: Literal["left", "right"] = "right"
    short: Callable[[Study, Row], str] | None = None
    baseline: Callable[[Study], str] = lambda study: ""
    coloured: bool = False
    notes: Callable[[Study, Sequence[Row]], Sequence[str]] = lambda study, rows: ()


def _first(study: Study) -> Score:
    return study.scores[0]


def _heading(text: str) -> Callable[[Study], str]:
    return lambda study: text


def _any(figure: Callable[[Row], object]) -> Callable[[Study, Sequence[Row]], bool]:
    return lambda study, rows: any(figure(row) for row in rows)


def _comparison(row: Row, text: Callable[[float | None], str], figure: str) -> str:
    return formats.MISSING if row.comparison is None else text(getattr(row.comparison, figure))


def _difference(study: Study, row: Row) -> str:
    found = None if row.comparison is None else row.comparison.difference
    return formats.difference(found, _first(study))


def _detectable(study: Study, row: Row) -> str:
    of = _first(study)
    return _comparison(
        row,
        lambda d: formats.fixed(None if d is None else d * of.factor, of.digits),
        "smallest_detectable",
    )


def _slowest(study: Study) -> float:
    return max(float(np.median(cost.ms_per_step)) for cost in study.costs.values())


def _second(study: Study, row: Row) -> str:
    of = study.scores[1]
    return formats.score(row.scores.get(of.name), of)


_compared = _any(lambda row: row.comparison)

#: The table's columns from left to right. In a narrow terminal they go in the order of their
#: importance, the largest number first.
COLUMNS = [
    Column(
        _heading("activation"),
        lambda s, row: row.cell.arm,
        0,
        justify="left",
        baseline=labels.baseline,
    ),
    Column(
        lambda s: labels.lines(_first(s).label),
        lambda s, row: formats.score(row.scores.get(_first(s).name), _first(s)),
        0,
        baseline=lambda s: labels.baseline_score(s, _first(s)),
        notes=labels.about_scores,
    ),
    Column(
        lambda s: labels.lines(s.scores[1].label),
        _second,
        9,
        present=lambda s, rows: len(s.scores) > 1,
        baseline=lambda s: labels.baseline_score(s, s.scores[1]),
    ),
    Column(
        lambda s: f"difference to\n{labels.reference(s)}, {labels.unit(_first(s))}",
        _difference,
        1,
        present=_compared,
    ),
    Column(
        _heading("verdict"),
        lambda s, row: row.comparison.verdict if row.comparison else formats.MISSING,
        1,
        present=_compared,
        justify="left",
        short=lambda s, row: (
            labels.short(row.comparison.verdict) if row.comparison else formats.MISSING
        ),
        coloured=True,
        notes=labels.about_verdicts,
    ),
    Column(
        _heading("runs\ndiverged"),
        lambda s, row: f"{row.diverged} of {labels.runs(s)}",
        2,
        present=_any(lambda row: row.diverged),
    ),
    Column(
        _heading("dead\nunits %"),
        lambda s, row: formats.mean(row.dead_units_percent, 1),
        3,
        notes=lambda s, rows: [labels.DEAD_UNITS],
    ),
    Column(
        _heading("learning\nrate"),
        lambda s, row: formats.value(row.learning_rate),
        4,
        present=lambda s, rows: bool(s.configuration["tune"]),
    ),
    Column(
        _heading("ms/step"),
        lambda s, row: formats.milliseconds(row.ms_per_step, _slowest(s)),
        5,
        present=_any(lambda row: row.ms_per_step),
        short=lambda s, row: formats.milliseconds(row.ms_per_step, _slowest(s)).split(" ±")[0],
        notes=lambda s, rows: [labels.about_steps(s)],
    ),
    Column(
        _heading("kept\nmemory"),
        lambda s, row: formats.memory(row.kept_bytes),
        7,
        present=_any(lambda row: row.kept_bytes),
        notes=lambda s, rows: [labels.KEPT_MEMORY],
    ),
    Column(_heading("final\ntraining loss"), lambda s, row: formats.loss(row.final_train_loss), 8),
    Column(
        _heading("effect\nsize"),
        lambda s, row: _comparison(row, lambda d: formats.fixed(d, 2, "+"), "effect_size"),
        10,
        present=_compared,
    ),
    Column(
        _heading("p\n(Holm)"),
        lambda s, row: _comparison(row, labels.p_value, "p"),
        11,
        present=_compared,
    ),
    Column(
        lambda s: f"smallest detectable\ndifference, {labels.unit(_first(s))}",
        _detectable,
        12,
        present=_compared,
    ),
]


def render(studies: Sequence[Study], width: int, colour: bool) -> str:
    """The tables for a terminal. In a narrow one the least important columns are left out.

    Args:
      width: of the terminal, in characters.
      colour: whether it shows colours.
    """
    return grid.terminal(grids(studies), width, colour)


def markdown(studies: Sequence[Study]) -> str:
    """The tables as Markdown, with all columns."""
    parts = [grid.markdown(each) for each in grids(studies)]
    return "\n\n".join([*parts, *dict.fromkeys(map(labels.origin, studies))]) + "\n"


def grids(studies: Sequence[Study]) -> list[Grid]:
    """Each study's table."""
    return [grid_of(study, summarize(study)) for study in studies]


def grid_of(study: Study, rows: Mapping[Cell, Row]) -> Grid:
    """A study's table, from what `summarize` says."""
    fields = swept_fields(study, rows) if is_swept(study) else _fields(study, list(rows.values()))
    return Grid(labels.title(study), tuple(fields))


def _fields(study: Study, rows: Sequence[Row]) -> list[Field]:
    verdicts = [row.comparison.verdict if row.comparison else "" for row in rows]
    foot = bool(study.configuration["data"]["baseline"])
    fields = []
    for column in COLUMNS:
        if not column.present(study, rows):
            continue
        cells = [column.cell(study, row) for row in rows]
        short = [column.short(study, row) for row in rows] if column.short else cells
        last = [column.baseline(study)] * foot
        fields.append(
            Field(
                column.heading(study),
                cells + last,
                column.justify,
                column.importance,
                short + last,
                verdicts=verdicts + [""] * foot if column.coloured else (),
                notes=column.notes(study, rows),
            )
        )
    return fields
