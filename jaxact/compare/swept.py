"""The table of a study over settings: a row for each point, the activations side by side."""

from collections.abc import Mapping, Sequence

from jaxact.compare import formats, labels
from jaxact.compare.grid import Field
from jaxact.compare.statistics import Row
from jaxact.compare.study import SETTINGS_AXES, Cell, Study

#: Before a score that is detectably other than the reference's. (Behind it, numbers would not be
#: below each other.)
_MARK = "* "


def is_swept(study: Study) -> bool:
    """Whether a setting of the training is swept: lr, width, …"""
    return any(sweep.name in SETTINGS_AXES for sweep in study.sweeps)


def fields(study: Study, rows: Mapping[Cell, Row]) -> list[Field]:
    """The columns: the swept settings, then each activation's score and dead units.

    Args:
      rows: of the finished cells.
    """
    points = list(dict.fromkeys(cell.setting for cell in rows))
    found = {(cell.setting, cell.arm): row for cell, row in rows.items()}
    names = [sweep.name for sweep in study.sweeps if sweep.name in SETTINGS_AXES]
    columns = [Field(name, [formats.value(dict(p)[name]) for p in points]) for name in names]
    every = list(rows.values())
    notes = [*labels.about_marks(study, every), *labels.about_divergence(study, every)]
    for group, arm in enumerate(dict.fromkeys(cell.arm for cell in study.cells), 1):
        of = [found.get((point, arm)) for point in points]
        columns += [_score(study, arm, of, group), _dead(arm, of, group, notes)]
    return columns


def _score(study: Study, arm: str, rows: Sequence[Row | None], group: int) -> Field:
    of = study.scores[0]
    verdicts = [row.comparison.verdict if row and row.comparison else "" for row in rows]
    cells = []
    for row, verdict in zip(rows, verdicts, strict=True):
        text = formats.score(row.scores.get(of.name), of) if row else formats.MISSING
        cells.append((_MARK if verdict in ("better", "worse") else "") + text)
    return Field(
        f"{arm}\n{of.label}",
        cells,
        group=group,
        verdicts=verdicts,
        notes=[*labels.about_scores(study), *_baseline(study)],
    )


def _dead(arm: str, rows: Sequence[Row | None], group: int, notes: Sequence[str]) -> Field:
    cells = [formats.mean(row.dead_units_percent if row else None, 1) for row in rows]
    return Field(f"{arm}\ndead %", cells, group=group, notes=[labels.DEAD_UNITS, *notes])


def _baseline(study: Study) -> list[str]:
    if not study.configuration["data"]["baseline"]:
        return []
    return [f"The {labels.baseline(study)} alone: {labels.baseline_score(study, study.scores[0])}."]
