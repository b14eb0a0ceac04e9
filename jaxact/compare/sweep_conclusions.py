"""What each sweep answers, in sentences made from its figures.

A sweep is read at the best setting: the other axes have the values at which the first activation's
validation score is best, and of an activation whose parameters are swept, the best arm is read.
"""

import math
from collections.abc import Iterable

import numpy as np

from jaxact.compare import wording
from jaxact.compare.statistics import (
    Comparison,
    Row,
    all_finite,
    best_value,
    difference_interval,
    not_told_from,
)
from jaxact.compare.study import SETTINGS_AXES, Cell, Study, Sweep, Value, Verdict

#: Units die at a value where so many are dead on average, and the interval of the mean excludes 0.
DYING_PERCENT = 5
#: A learning rate is good where a network has so much of the best gain over the baseline.
GOOD_SHARE = 0.95

Setting = tuple[tuple[str, Value], ...]
#: By activation, the cells of its best arm along an axis, in the order of the values.
Lines = dict[str, dict[Value, Cell]]


def sweep_conclusions(study: Study, rows: dict[Cell, Row]) -> list[str]:
    """The sentences of all axes that change the training."""
    said = []
    for sweep in study.sweeps:
        lines = _lines(study, rows, sweep)
        if sweep.name not in SETTINGS_AXES or max(map(len, lines.values()), default=0) < 2:
            continue
        said += _elsewhere(study, rows, sweep, lines)
        if sweep.name in ("width", "depth", "samples"):
            said += _fewer(study, sweep, lines)
        if sweep.name in ("lr", "width", "depth"):
            said += _dying(study, rows, sweep, lines)
        if sweep.name == "lr":
            said += _good_rates(study, rows, sweep, lines)
        if sweep.name == "dtype":
            said += _dtypes(study, sweep, lines)
    return said


def best_setting(study: Study, rows: dict[Cell, Row]) -> Setting:
    """Where the first activation's score on the validation samples is best; the first of equals."""
    references = [cell for cell, row in rows.items() if row.comparison is None]
    return max(references, key=lambda cell: validation_score(study, cell)).setting


def at_best_setting(study: Study, rows: dict[Cell, Row]) -> dict[Cell, Row]:
    setting = best_setting(study, rows)
    return {cell: row for cell, row in rows.items() if cell.setting == setting}


def validation_score(study: Study, cell: Cell) -> float:
    """The mean over the runs, larger where better; -inf where a run's is not finite."""
    score, figures = study.scores[0], study.figures[cell]
    curve = figures.curves[f"validation_{score.name}"]
    found = curve[np.arange(len(curve)), np.asarray(figures.best_epoch, int) - 1]
    if not np.isfinite(found).all():
        return -math.inf
    return float(np.mean(found if score.larger_is_better else -found))


def point(setting: Iterable[tuple[str, Value]]) -> str:
    """``"lr 0.01 and width 64"``."""
    return wording.these([f"{name} {wording.value(value)}" for name, value in setting])


# ------------------------------------------------------------------------------------------------
# Parameters of activations


def best_parameters(study: Study, rows: dict[Cell, Row]) -> list[str]:
    """The best value of each swept parameter, its interval, and what cannot be told from it."""
    here = at_best_setting(study, rows)
    said = []
    for sweep in study.sweeps:
        for activation in dict.fromkeys(cell.activation for cell in here):
            own = [c for c in here if c.activation == activation and sweep.name in dict(c.point)]
            if sweep.name in SETTINGS_AXES or not own:
                continue
            best = _best(study, rows, own)
            line = {
                dict(c.point)[sweep.name]: c for c in own if _but(c, sweep) == _but(best, sweep)
            }
            if len(line) > 1 and not any(isinstance(value, str) for value in line):
                said.append(_best_parameter(study, activation, sweep, line))
    return said


def _best_parameter(study: Study, activation: str, sweep: Sweep, line: dict[Value, Cell]) -> str:
    values = sorted(float(value) for value in line)
    cells = [line[value] for value in values]
    best, low, high = best_value(study, cells, values)
    others = [cell for value, cell in zip(values, cells, strict=True) if value != best]
    not_told = not_told_from(study, line[best], others)
    alike = {value for value, cell in zip(values, cells, strict=True) if cell in not_told}
    said = f"{activation}'s best {sweep.name} is {best:g} (95% interval {low:g} to {high:g})"
    if not alike:
        return f"{said}; every other one is detectably worse."
    if len(alike) == len(others):
        return f"{said}; none from {values[0]:g} to {values[-1]:g} can be told from it."
    first, last = min(alike | {best}), max(alike | {best})
    if len(alike) > 1 and {v for v in values if first <= v <= last} == alike | {best}:
        return f"{said}; {first:g} to {last:g} cannot be told from it."
    return f"{said}; {wording.these([f'{v:g}' for v in sorted(alike)])} cannot be told from it."


# ------------------------------------------------------------------------------------------------
# Settings


def _elsewhere(study: Study, rows: dict[Cell, Row], sweep: Sweep, lines: Lines) -> list[str]:
    """What is better or worse than the first activation at the axis's other values."""
    here = dict(best_setting(study, rows))[sweep.name]
    reference, *others = lines.values()
    values = [value for value in _values(lines) if value != here and value in reference]
    said, undecided = [], False
    for value in values:
        compared = {
            line[value].arm: comparison
            for line in others
            if value in line and (comparison := rows[line[value]].comparison) is not None
        }
        undecided |= any(c.verdict == "too few runs" for c in compared.values())
        named = [
            f"{verdict} than {reference[value].arm}: {_listed(study, compared, verdict)}"
            for verdict in ("better", "worse")
            if any(c.verdict == verdict for c in compared.values())
        ]
        if named:
            said.append(f"At {sweep.name} {wording.value(value)}, {'; '.join(named)}.")
    if said or undecided or not others or not values:
        return said
    at = (
        f"{sweep.name} {wording.value(values[0])}"
        if len(values) == 1
        else f"every other {sweep.name}"
    )
    who = f"{next(iter(others[0].values())).arm} is" if len(others) == 1 else "the others are"
    return [f"At {at} {who} practically equal to {study.reference}, or cannot be told from it."]


def _listed(study: Study, compared: dict[str, Comparison], verdict: Verdict, most: int = 3) -> str:
    """The arms with a verdict, the largest differences first."""
    found = {arm: c.difference for arm, c in compared.items() if c.verdict == verdict}
    arms = sorted(found, key=lambda arm: -abs(found[arm].mean))
    named = [
        f"{arm} by {wording.amount_with_interval(study.scores[0], found[arm])}"
        for arm in arms[:most]
    ]
    return ", ".join(named + [f"{len(arms) - most} more"] * (len(arms) > most))


def _fewer(study: Study, sweep: Sweep, lines: Lines) -> list[str]:
    """Whether an activation with less does as well as the first one with more, where the first one
    with as little does not."""
    noun = {"width": "unit", "depth": "layer", "samples": "sample"}[sweep.name]
    reference, *others = lines.values()
    values = sorted(float(value) for value in reference)
    if difference_interval(study, reference[values[0]], reference[values[-1]]).low is None:
        return []
    said = []
    for line in others:
        arm, first = next(iter(line.values())).arm, next(iter(reference.values())).arm
        pairs = [
            (more, less)
            for more in values
            for less in sorted(float(value) for value in line)
            if less < more
            and less in reference
            and _as_good(study, line[less], reference[more])
            and not _as_good(study, reference[less], reference[more])
        ]
        if not pairs:
            said.append(f"{arm} saves no {noun}s over {first}.")
            continue
        more = max(pair[0] for pair in pairs)
        less = min(pair[1] for pair in pairs if pair[0] == more)
        size = wording.amount_with_interval(
            study.scores[0], difference_interval(study, line[less], reference[more]), signed=True
        )
        said.append(
            f"{arm} with {wording.count(int(less), noun)} "
            f"does as well as {first} with {more:g} ({size}); {first} "
            f"with {less:g} does not."
        )
    enough = next(v for v in values if _as_good(study, reference[v], reference[values[-1]]))
    arm = reference[enough].arm
    if enough < values[-1]:
        said.append(
            f"{arm} with {wording.count(int(enough), noun)} does as well as with {values[-1]:g}."
        )
    else:
        said.append(f"{arm} with fewer {noun}s does not do as well as with {values[-1]:g}.")
    return said


def _as_good(study: Study, cell: Cell, other: Cell) -> bool:
    """Not worse by more than the margin, with 97.5% confidence; without one: not detectably worse.
    A cell is as good as itself; otherwise it has no run whose score is not finite."""
    if cell == other:
        return True
    difference = difference_interval(study, cell, other)
    margin = study.configuration["margin"]
    low, high = difference.low, difference.high
    if low is None or high is None or not all_finite(study, cell):
        return False
    if not study.scores[0].larger_is_better:
        low, high = -high, -low
    return low > -margin if margin else high >= 0


def _dying(study: Study, rows: dict[Cell, Row], sweep: Sweep, lines: Lines) -> list[str]:
    """From which value on units die, and how many at the first where they do."""
    score = study.scores[0]
    values = _values(lines)
    first = {
        activation: next((v for v in values if v in line and _die(rows[line[v]])), None)
        for activation, line in lines.items()
    }
    dying = [value for value in values if value in first.values()]
    if not dying:
        # The number of units is not what kills them.
        none = f"At no {sweep.name} do {DYING_PERCENT}% of the units die."
        return [] if sweep.name == "width" else [none]
    value = dying[0]
    there = {line[value].arm: rows[line[value]] for line in lines.values() if value in line}
    order = sorted(there, key=lambda arm: not _die(there[arm]))
    shares = [f"of {arm}'s {_share(there[arm])}" for arm in order[1:]]
    lead = there[order[0]].dead_units_percent
    assert lead is not None  # units of the first one die
    said = [
        f"At {sweep.name} {wording.value(value)} {wording.percent_with_interval(lead)} of "
        + ", ".join([f"{order[0]}'s units are dead", *shares])
        + "."
    ]
    scores = {arm: there[arm].scores[score.name].mean for arm in order}
    known = [f"{a} {wording.score_value(score, s)}" for a, s in scores.items() if math.isfinite(s)]
    if known:
        label = wording.score_label(score)
        said.append(f"{label[0].upper()}{label[1:]} there: {', '.join(known)}.")
    if len(lines) > 1:
        by_arm = {next(iter(lines[activation].values())).arm: v for activation, v in first.items()}
        said.append(
            f"{DYING_PERCENT}% or more of the units die first at {sweep.name} "
            + ", ".join(f"{wording.value(v)} ({arm})" for arm, v in by_arm.items() if v is not None)
            + "".join(f"; at none with {arm}" for arm, v in by_arm.items() if v is None)
            + "."
        )
    if sweep.name == "depth":
        arm = order[0]
        line = next(line for line in lines.values() if line[value].arm == arm)
        series = [f"{wording.value(v)}: {_share(rows[line[v]])}" for v in values if v in line]
        said.append(f"{arm}'s dead units by depth: {', '.join(series)}.")
    return said


def _die(row: Row) -> bool:
    share = row.dead_units_percent
    return (
        share is not None and share.mean >= DYING_PERCENT and (share.low is None or share.low > 0)
    )


def _share(row: Row) -> str:
    share = row.dead_units_percent
    return "unknown (every run diverged)" if share is None else wording.percent_with_interval(share)


def _good_rates(study: Study, rows: dict[Cell, Row], sweep: Sweep, lines: Lines) -> list[str]:
    """The learning rates at which each activation has most of the best gain over the baseline."""
    score = study.scores[0]
    baseline = study.configuration["data"]["baseline"].get(score.name)
    if baseline is None:
        return []
    sign = 1 if score.larger_is_better else -1
    gains = {
        arm: {v: sign * (rows[c].scores[score.name].mean - baseline) for v, c in line.items()}
        for arm, line in ((next(iter(line.values())).arm, line) for line in lines.values())
    }
    best = max((g for line in gains.values() for g in line.values() if g == g), default=0)
    if best <= 0:
        return []
    good = {
        arm: [v for v in _values(lines) if line.get(v, -math.inf) >= GOOD_SHARE * best]
        for arm, line in gains.items()
    }
    said = ", ".join(
        f"{arm} {wording.these([wording.value(v) for v in rates]) if rates else 'none'}"
        for arm, rates in good.items()
    )
    widest = [arm for arm in good if len(good[arm]) == max(map(len, good.values()))]
    most = f"; most: {widest[0]}" if len(widest) == 1 < len(good) else ""
    return [
        f"Rates with at least {GOOD_SHARE:.0%} of the best gain over the baseline: {said}{most}."
    ]


def _dtypes(study: Study, sweep: Sweep, lines: Lines) -> list[str]:
    """How the score changes with the dtype."""
    score = study.scores[0]
    said = []
    first, *others = _values(lines)
    for value in others:
        changes = []
        for line in lines.values():
            if first not in line or value not in line:
                continue
            change = difference_interval(study, line[value], line[first])
            size = wording.amount_with_interval(score, change, signed=True)
            sure = "" if not_told_from(study, line[first], [line[value]]) else ", detectable"
            changes.append(f"{line[value].arm} {size}{sure}")
        if changes:
            pair = f"{wording.value(value)} instead of {wording.value(first)}"
            said.append(f"With {pair}: {'; '.join(changes)}.")
    return said


# ------------------------------------------------------------------------------------------------


def _lines(study: Study, rows: dict[Cell, Row], sweep: Sweep) -> Lines:
    """The cells along an axis, the first activation first."""
    if sweep.name not in SETTINGS_AXES:
        return {}
    here = at_best_setting(study, rows)
    best = {
        activation: _best(study, rows, [c for c in here if c.activation == activation])
        for activation in dict.fromkeys(cell.activation for cell in here)
    }
    return {
        activation: {
            dict(cell.setting)[sweep.name]: cell
            for cell in rows
            if cell.activation == activation and _but(cell, sweep) == _but(kept, sweep)
        }
        for activation, kept in best.items()
    }


def _best(study: Study, rows: dict[Cell, Row], cells: list[Cell]) -> Cell:
    """The one with the best mean score; the first of equals."""
    score = study.scores[0]
    sign = 1 if score.larger_is_better else -1

    def goodness(cell: Cell) -> float:
        mean = sign * rows[cell].scores[score.name].mean
        return -math.inf if math.isnan(mean) or rows[cell].diverged else mean

    return max(cells, key=goodness)


def _but(cell: Cell, sweep: Sweep) -> Setting:
    """A cell's point without an axis."""
    return tuple((name, value) for name, value in cell.point if name != sweep.name)


def _values(lines: Lines) -> list[Value]:
    """Of an axis, from the smallest to the largest; names in the sweep's order."""
    values = list(dict.fromkeys(value for line in lines.values() for value in line))
    if any(isinstance(value, str) for value in values):
        return values
    return sorted(values, key=float)
