"""What a study answers, in sentences made from its figures.

The first sentence is the headline: which activation to take, at the point of the sweeps at which
the first activation is best by validation. Then what each sweep answers, and what to be careful of.
"""

import math

from jaxact.compare import wording
from jaxact.compare.statistics import (
    Comparison,
    Interval,
    Row,
    comparisons,
    cost_ratio,
    cost_verdict,
    difference_interval,
    fewest_runs,
    not_told_from,
    ratio_verdict,
    runs,
    runs_needed,
    summarize,
)
from jaxact.compare.study import Cell, Study
from jaxact.compare.sweep_conclusions import (
    at_best_setting,
    best_parameters,
    best_setting,
    point,
    sweep_conclusions,
)

#: Fewer runs than these get a warning: their intervals are several times as wide.
FEW_RUNS = 5
#: From this share of dead units on they are looked for: as in the probe's advice.
MANY_DEAD_PERCENT = 20
#: Numbers of runs that nobody trains are not named.
_MOST_RUNS = 10_000


def conclude(study: Study) -> list[str]:
    """The study's conclusions, the most important first: whole sentences, at least one.

    They say what the figures of the finished cells say by the rules of this module and of
    `sweep_conclusions`, each of which names its threshold.
    """
    rows = summarize(study)
    if not rows:
        return [f"Nothing to compare yet: {study.reference} is not finished."]
    said = _nothing_learned(study, rows)
    if not said:
        parameters = best_parameters(study, rows)
        choice = _choice(study, rows)
        # One activation of several slopes: which slope is the question, and not whether to keep it.
        several = len({cell.activation for cell in rows}) > 1
        said = choice + parameters if several or not parameters else parameters
        said += sweep_conclusions(study, rows)
    return said + _cautions(study, rows)


# ------------------------------------------------------------------------------------------------
# Which activation


def _choice(study: Study, rows: dict[Cell, Row]) -> list[str]:
    """Keep the first activation, or replace it, at the best point of the sweeps."""
    here = at_best_setting(study, rows)
    reference = next(cell for cell, row in here.items() if row.comparison is None)
    others = {cell: row.comparison for cell, row in here.items() if row.comparison is not None}
    if not others:
        return [_alone(study, here[reference])]
    better = {cell: c for cell, c in others.items() if c.verdict == "better"}
    if better:
        return _replace(study, here, reference, better)
    if all(c.verdict == "worse" for c in others.values()):
        return [f"Keep {reference.arm}: {_where(study, rows)} {_all_worse(study, here)}."]
    if any(c.verdict == "too few runs" for c in others.values()):
        return [_too_few(study)]
    equal = [cell.arm for cell, c in others.items() if c.verdict == "practically equal"]
    margin = wording.amount(study.scores[0], study.configuration["margin"])
    keep = f"Keep {reference.arm}: {_where(study, rows)}"
    if len(equal) == len(others):
        who = f"{equal[0]} is" if len(equal) == 1 else "the others are"
        said = [f"{keep} {who} practically equal (within {margin})."]
    else:
        who = f"{next(iter(others)).arm} is not" if len(others) == 1 else "no activation is"
        # What is practically equal may be detectably better, by less.
        by = f" by more than {margin}" if equal else ""
        said = [f"{keep} {who} detectably better{by}{_power(study, others)}."]
        if equal:
            verb = "is" if len(equal) == 1 else "are"
            said.append(f"{wording.these(equal)} {verb} practically equal to it (within {margin}).")
        said += [
            f"{cell.arm} is worse{_by(study, here, cell, reference)}."
            for cell, c in others.items()
            if c.verdict == "worse"
        ]
    kept = [c for c in others if others[c].verdict != "worse"]
    return said + _cheapest(study, reference, kept)


def _replace(
    study: Study, here: dict[Cell, Row], reference: Cell, better: dict[Cell, Comparison]
) -> list[str]:
    # All of them differ in one direction.
    best = max(better, key=lambda cell: abs(better[cell].difference.mean))
    by = _by(study, here, best, reference)
    where = _where(study, here)
    where = f"{where[0].upper()}{where[1:]}"
    cost = _at_cost(here[best])
    said = [f"{where} {best.arm} is better than {reference.arm}{by}{cost}."]
    rest = [cell for cell in here if cell not in (best, reference)]
    alike = not_told_from(study, best, rest)
    # Of its own parameter's values another sentence says it.
    names = [cell.arm for cell in alike if cell.activation != best.activation]
    if names:
        said.append(f"{wording.these(names)} cannot be told from {best.arm}.")
    return said + _cheapest(study, best, alike)


def _alone(study: Study, row: Row) -> str:
    score = study.scores[0]
    found = row.scores[score.name]
    if math.isnan(found.mean):
        return f"Every run of {row.cell.label} diverged."
    size = "" if found.half_width is None else f" (± {_half(study, found)})"
    at = f", best at {point(row.cell.setting)} by validation" if row.cell.setting else ""
    return (
        f"Only {row.cell.arm} was trained: {wording.labelled_score(score, found.mean)}{size}{at}. "
        "Name a second activation to compare it with."
    )


def _all_worse(study: Study, here: dict[Cell, Row]) -> str:
    reference, *others = here
    gaps = {
        cell: abs(difference.mean)
        for cell in others
        if math.isfinite((difference := difference_interval(study, cell, reference)).mean)
    }
    closest, furthest = min(gaps, key=gaps.__getitem__), max(gaps, key=gaps.__getitem__)
    size = _by(study, here, closest, reference)
    if len(others) == 1:
        return f"{closest.arm} is worse{size}"
    return (
        f"all others are worse, from {closest.arm}{size} to "
        f"{furthest.arm}{_by(study, here, furthest, reference)}"
    )


def _by(study: Study, here: dict[Cell, Row], cell: Cell, reference: Cell) -> str:
    """The difference between two cells, one of which is better."""
    score = study.scores[0]
    for one in (cell, reference):
        if math.isnan(here[one].scores[score.name].mean):
            return f" ({one.arm} has no finite score)"
    size = wording.amount_with_interval(score, difference_interval(study, cell, reference))
    return f" by {size}"


def _too_few(study: Study) -> str:
    needed, here = fewest_runs(study), runs(study)
    if here >= needed:
        return f"No choice can be made: no score of {study.reference} or of the others is finite."
    return (
        f"Too few runs to choose: in {wording.count(comparisons(study), 'comparison')} no "
        f"difference can show with fewer than {needed} {_noun(study)}s; here "
        f"{'is' if here == 1 else 'are'} {here}."
    )


def _power(study: Study, others: dict[Cell, Comparison]) -> str:
    """What would have shown, and how many runs a smaller difference takes."""
    score = study.scores[0]
    detectable = [c.smallest_detectable for c in others.values()]
    known = [d for d in detectable if d]
    if not known or None in detectable:
        return ""
    text, least = wording.amount_at_least(score, max(known))
    said = (
        f"; with {wording.count(runs(study), _noun(study))} a difference of {text} would have shown"
    )
    margin = study.configuration["margin"]
    smaller = wording.amount(score, margin if 0 < margin < least else least / 2)
    number = float(smaller.split()[0])
    needed = runs_needed(study, number / score.factor, others)
    if needed is None or not runs(study) < needed <= _MOST_RUNS:
        return said
    return f"{said} ({number:g} would take {needed})"


def _cheapest(study: Study, kept: Cell, alike: list[Cell]) -> list[str]:
    """Which of those that are as good as the choice takes detectably less time than it."""
    ratios = {cell: cost_ratio(study, cell, kept) for cell in alike}
    cheaper = {c: r.mean for c, r in ratios.items() if r and ratio_verdict(r) == "cheaper"}
    if not cheaper:
        return []
    cell = min(cheaper, key=cheaper.__getitem__)
    time = wording.time(cheaper[cell])
    return [f"The fastest of those that are not worse is {cell.arm}: {time} than {kept.arm}."]


def _nothing_learned(study: Study, rows: dict[Cell, Row]) -> list[str]:
    """The headline where no network is detectably better than a constant answer."""
    score = study.scores[0]
    found = [row.scores[score.name] for row in rows.values()]
    if all(math.isnan(interval.mean) for interval in found):
        return ["No score is finite: every run diverged. Lower the learning rate."]
    baseline = study.configuration["data"]["baseline"].get(score.name)
    if baseline is None:
        return []
    sign = 1 if score.larger_is_better else -1
    for interval in found:
        closest = interval.low if score.larger_is_better else interval.high
        if sign * (interval.mean if closest is None else closest) > sign * baseline:
            return []
    constant = (
        "the majority class" if study.configuration["task"] == "classification" else "the mean"
    )
    reached = wording.labelled_score(score, baseline)
    return [
        f"No network detectably beats predicting {constant} ({reached}): look at the data, the "
        "epochs and the learning rate before activations."
    ]


# ------------------------------------------------------------------------------------------------
# What to be careful of


def _cautions(study: Study, rows: dict[Cell, Row]) -> list[str]:
    return [
        sentence
        for sentence in (
            _few_runs(study, rows),
            *_tuned(study, rows),
            *_edges(study, rows),
            _diverged(study, rows),
            _dead(rows),
            _unfinished(study),
        )
        if sentence
    ]


def _few_runs(study: Study, rows: dict[Cell, Row]) -> str:
    number = runs(study)
    if number >= FEW_RUNS:
        return ""
    if number == 1:
        return f"1 {_noun(study)} gives no interval: what differs may be chance."
    widths = [row.scores[study.scores[0].name] for row in rows.values()]
    known = [w for w in widths if w.half_width is not None]
    if not known:
        return ""
    widest = max(known, key=lambda w: w.half_width or 0)
    return (
        f"Only {number} {_noun(study)}s: intervals are as wide as ± {_half(study, widest)}; more "
        f"{_noun(study)}s narrow them."
    )


def _tuned(study: Study, rows: dict[Cell, Row]) -> list[str]:
    """The rate that each activation took, and whether a wider grid might have a better one."""
    grid = study.configuration["tune"]
    if not grid:
        return []
    rates = {cell.arm: row.learning_rate for cell, row in at_best_setting(study, rows).items()}
    taken = ", ".join(f"{arm} {wording.value(rate)}" for arm, rate in rates.items())
    said = [f"Each at its own best learning rate, by validation: {taken}."]
    ends = {min(grid), max(grid)}
    edge = [arm for arm, rate in rates.items() if rate in ends]
    if len(grid) > 1 and edge:
        said.append(
            f"The best rate of {wording.these(edge)} is at an edge of the grid "
            f"({wording.value(min(grid))} to {wording.value(max(grid))}): a wider one may have a "
            "better."
        )
    return said


def _edges(study: Study, rows: dict[Cell, Row]) -> list[str]:
    """Whether a wider sweep of the learning rate might have a better one."""
    setting = best_setting(study, rows)
    rate = dict(setting).get("lr")
    rates = sorted(v for s in study.sweeps for v in s.values if s.name == "lr")
    if len(rates) < 3 or rate not in (rates[0], rates[-1]):
        return []
    which = "smallest" if rate == rates[0] else "largest"
    return [
        f"{study.reference}'s best lr by validation, {wording.value(rate)}, is the {which} of the "
        "sweep: a wider one may have a better."
    ]


def _diverged(study: Study, rows: dict[Cell, Row]) -> str:
    found = [
        f"{cell.label} ({row.diverged} of {len(study.figures[cell].final_train_loss)})"
        for cell, row in rows.items()
        if row.diverged
    ]
    return f"Runs diverged: {_first_few(found)}." if found else ""


def _dead(rows: dict[Cell, Row]) -> str:
    shares = {c: r.dead_units_percent for c, r in rows.items() if r.dead_units_percent}
    many = {c: s for c, s in shares.items() if s.mean > MANY_DEAD_PERCENT}
    if not many:
        return ""
    worst = sorted(many, key=lambda cell: -many[cell].mean)
    found = [f"{cell.label} ({wording.percent(many[cell].mean)})" for cell in worst]
    return (
        f"Over {MANY_DEAD_PERCENT}% of the units are dead: {_first_few(found)}. `jaxact probe` "
        "shows which layers, `jaxact.swap` replaces their activation."
    )


def _unfinished(study: Study) -> str:
    number = len(study.missing)
    if not number:
        return ""
    return f"{number} of {wording.count(len(study.cells), 'training')} not finished yet."


# ------------------------------------------------------------------------------------------------


def _where(study: Study, rows: dict[Cell, Row]) -> str:
    setting = best_setting(study, rows)
    if not setting:
        return "on this data"
    return f"at {point(setting)} ({study.reference}'s best by validation)"


def _at_cost(row: Row) -> str:
    if row.relative_cost is None:
        return ""
    if cost_verdict(row) == "equal":
        return ", at an equal time a step"
    return f", at {wording.time(row.relative_cost.mean)}"


def _half(study: Study, found: Interval) -> str:
    return wording.amount(study.scores[0], found.half_width or 0)


def _noun(study: Study) -> str:
    """What an interval's values are; see `runs`."""
    return "split" if study.configuration["splits"] > 1 else "seed"


def _first_few(found: list[str], most: int = 3) -> str:
    more = len(found) - most
    return wording.these(found if more <= 0 else [*found[:most], f"{more} more"])
