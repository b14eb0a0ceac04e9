"""What a study's figures look like: small drawings, each of one question.

All are narrow enough for a phone. A drawing that has nothing to show is None. Who has summarized a
study already gives the rows, which take a moment.
"""

import functools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxact.compare import formats, labels, panels
from jaxact.compare.panels import styled
from jaxact.compare.statistics import Interval, Row, mean_interval, summarize
from jaxact.compare.study import SETTINGS_AXES, Cell, Figures, Score, Study, Value
from jaxact.compare.svg import ARMS, LIGHT, png as png, svg as svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Point = tuple[tuple[str, Value], ...]
Rows = Mapping[Cell, Row]

#: So many small panels in a picture, at most.
_PANELS = 24
#: So many activations' slopes in a drawing, at most.
_SLOPES = 8
_LETTERS_AN_INCH = 13
_DEAD = "dead units %"


@styled
def differences(study: Study, rows: Rows | None = None) -> "Figure | None":
    """The differences to the reference with their intervals; the margin is shaded.

    None where settings are swept (which `against` draws), and where nothing is compared.
    """
    if _settings(study):
        return None
    found = {
        cell.arm: row.comparison
        for cell, row in (rows or summarize(study)).items()
        if row.comparison and math.isfinite(row.comparison.difference.mean)
    }
    if not found:
        return None
    of = study.scores[0]
    figure = panels.figure(0.85 + 0.27 * len(found))
    axes = figure.subplots()
    margin = study.configuration["margin"] * of.factor
    axes.axvspan(-margin, margin, color=LIGHT["band"], lw=0)
    axes.axvline(0, color=LIGHT["muted"], lw=1)
    for y, comparison in enumerate(found.values()):
        colour = LIGHT.get(comparison.verdict, LIGHT["text"])
        values = panels.scaled(comparison.difference, of.factor)
        panels.interval(axes, values, y, colour, horizontal=True)
    panels.name_rows(axes, list(found))
    axes.set_xlabel(f"difference to {labels.reference(study)}, {labels.unit(of)}")
    axes.margins(x=0.08)
    return figure


def slices(study: Study, axis: str) -> list[Point]:
    """At which values of the other swept settings `against` is to draw an axis: the first, the
    middle and the last point."""
    others = [tuple(p for p in cell.setting if p[0] != axis) for cell in study.cells]
    points = list(dict.fromkeys(others))
    return [points[i] for i in sorted({0, len(points) // 2, len(points) - 1})]


@styled
def against(study: Study, axis: str, at: Point = (), rows: Rows | None = None) -> "Figure | None":
    """The first score and the dead units against a swept axis, a line for each activation.

    An activation that lacks the axis, a parameter of others, is a line across. Hollow markers: some
    of the networks diverged.

    Args:
      axis: the name of a sweep.
      at: the values of the other swept settings, one of `slices`.
    """
    of = study.scores[0]
    values = next(sweep.values for sweep in study.sweeps if sweep.name == axis)
    lines = _lines(rows or summarize(study), axis, at)
    if not lines:
        return None
    shown: list[tuple[str, Callable[[Row], Interval | None]]] = [
        (of.label, lambda row: _score(row, of))
    ]
    if any(row.dead_units_percent for line in lines.values() for row in line.values()):
        shown.append((_DEAD, lambda row: row.dead_units_percent))
    figure = panels.figure(1.3 + 1.5 * len(shown) + 0.2 * (len(lines) > 3))
    axes = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    place = panels.swept_axis(axes[-1], axis, values)
    step = 0.5 / max(len(lines), 4)
    for panel, (label, figure_of) in zip(axes, shown, strict=True):
        for i, (name, line) in enumerate(lines.items()):
            aside = (i - (len(lines) - 1) / 2) * step * 0.5
            _line(panel, name, line, figure_of, functools.partial(place, aside), i)
        panel.set_ylabel(label)
    if len(shown) > 1:
        panels.from_zero(axes[1])
    if at:
        axes[0].set_title(", ".join(f"{labels.axis(n)} {formats.value(v)}" for n, v in at))
    panels.legend(figure, axes[0], len(lines))
    return figure


@styled
def dead_by_layer(study: Study) -> "Figure | None":
    """Dead units over the training, a line for each layer, a panel for each activation with any.

    Where settings are swept, a panel is of the point at which the activation has the most.
    """
    found = _most_dead(study)
    if not found:
        return None
    columns = min(2, len(found))
    rows = math.ceil(len(found) / columns)
    figure = panels.figure(0.85 + (1.35 if rows > 1 else 1.6) * rows)
    axes = panels.small_panels(figure, len(found), columns)
    for panel, (cell, figures) in zip(axes, found.items(), strict=True):
        over_epochs = panels.mean(figures.dead_by_layer)
        epochs = np.arange(1, len(over_epochs) + 1)
        for layer, dead in enumerate(over_epochs.T):
            style = panels.line_style(layer, len(epochs))
            panel.plot(epochs, dead, label=f"layer {layer + 1}", **style)
        panel.set_title(cell.label)
        panels.whole_numbers(panel)
    panels.label_edges(axes, columns, "epoch", _DEAD)
    panels.from_zero(axes[0])
    most = max(axes, key=lambda panel: len(panel.lines))
    panels.legend(figure, most, len(most.lines), 4)
    return figure


@styled
def slopes(study: Study) -> "Figure | None":
    """The slopes that activations learned, by layer: the mean with its interval, each run a dot."""
    learned = {
        cell: figures.learned_slopes
        for cell, figures in _finished(study).items()
        if figures.learned_slopes.shape[1] and np.isfinite(figures.learned_slopes).any()
    }
    if not learned:
        return None
    shown = list(learned.items())[:_SLOPES]
    figure = panels.figure(2.5 + 0.2 * math.ceil(len(shown) / 3))
    axes = figure.subplots()
    axes.axhline(0, color=LIGHT["muted"], lw=0.8)
    for i, (cell, by_layer) in enumerate(shown):
        colour, marker = ARMS[i % len(ARMS)], panels.MARKERS[i % len(panels.MARKERS)]
        aside = (i - (len(shown) - 1) / 2) * 0.7 / max(len(shown), 4)
        for layer, values in enumerate(by_layer.T, 1):
            finite = values[np.isfinite(values)]
            axes.plot(
                np.full(len(finite), layer + aside + 0.06),
                finite,
                "o",
                ms=2.2,
                mew=0,
                alpha=0.4,
                color=colour,
            )
            mean = mean_interval(finite)
            panels.interval(axes, mean, layer + aside, colour, marker=marker)
        axes.plot([], [], marker, color=colour, label=cell.label)
    layers = max(by_layer.shape[1] for _, by_layer in shown)
    axes.set(xlabel="layer", ylabel="learned slope", xlim=(0.5, layers + 0.5))
    axes.set_xticks(range(1, layers + 1))
    axes.grid(axis="x", visible=False)
    panels.legend(figure, axes, len(shown))
    return figure


@styled
def cost(study: Study, rows: Rows | None = None) -> "Figure | None":
    """The time of a training step with its interval, and what a backward pass keeps."""
    arms: dict[str, Row] = {}
    for cell, row in (rows or summarize(study)).items():
        if row.ms_per_step:
            arms.setdefault(cell.arm, row)
    if not arms:
        return None
    figure = panels.figure(0.85 + 0.27 * len(arms))
    time, memory = figure.subplots(1, 2, sharey=True)
    for y, row in enumerate(arms.values()):
        if row.ms_per_step:
            panels.interval(time, row.ms_per_step, y, LIGHT["arm-0"], horizontal=True)
    kept = np.array([row.kept_bytes or 0 for row in arms.values()])
    power = 0 if kept.max() < 1024 else 1 if kept.max() < 1024**2 else 2
    memory.barh(range(len(arms)), kept / 1024**power, height=0.45, color=LIGHT["arm-5"])
    panels.name_rows(time, list(arms))
    memory.grid(axis="y", visible=False)
    memory.tick_params(axis="y", length=0)
    # Room for the whole of a dot, which intervals may be smaller than.
    time.set(xlabel="ms/step", xlim=(0, 1.06 * time.get_xlim()[1]))
    memory.set_xlabel(f"kept memory, {('bytes', 'KiB', 'MiB')[power]}")
    return figure


@styled
def curves(studies: Sequence[Study]) -> "Figure":
    """The first score and the training loss over the epochs, in small panels with the same axes.

    A panel for each activation, with the others in grey; where settings are swept, a panel for each
    point, with the activations in colours. Lines are means over the runs, bands have the middle 80%
    of them.
    """
    blocks = [(study, name) for study in studies if study.figures for name in _over_epochs(study)]
    counts = [len(_groups(study)) for study, _ in blocks]
    # Rows as even as they get, of four at most.
    columns = [math.ceil(count / math.ceil(count / 4)) for count in counts]
    heights = [0.75 + 1.55 * math.ceil(n / c) for n, c in zip(counts, columns, strict=True)]
    figure = panels.figure(sum(heights) or 1.0, max(2.4 * max(columns, default=1) + 0.6, 6.0))
    if blocks:
        parts = figure.subfigures(len(blocks), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, (study, name), wide in zip(parts, blocks, columns, strict=True):
            _block(part, study, name, wide)
    return figure


def _over_epochs(study: Study) -> dict[str, str]:
    """The figures that `curves` draws, with their labels."""
    of = study.scores[0]
    return {f"test_{of.name}": f"test {of.label}", "train_loss": "training loss"}


def _groups(study: Study) -> dict[str, list[Cell]]:
    """The panels of `curves` by their titles, with the cells that have colours in each."""
    groups: dict[str, list[Cell]] = {}
    for cell in _finished(study):
        setting = ", ".join(f"{n}={formats.value(v)}" for n, v in cell.setting)
        groups.setdefault(setting or cell.arm, []).append(cell)
    return dict(list(groups.items())[:_PANELS])


def _block(part: "SubFigure", study: Study, name: str, columns: int) -> None:
    of = study.scores[0]
    factor = 1.0 if name == "train_loss" else of.factor
    groups = _groups(study)
    cells = [cell for group in groups.values() for cell in group]
    swept = bool(_settings(study))
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    values = {cell: factor * study.figures[cell].curves[name] for cell in cells}
    means = {cell: panels.mean(each) for cell, each in values.items()}
    title = f"{labels.title(study)}: {_over_epochs(study)[name]}"
    if labels.runs(study) > 1:
        title += "; bands: the middle 80% of the networks"
    # A file may be called anything: it is no formula, and it may be long.
    width = part.figure.get_size_inches()[0]
    lines = textwrap.fill(title, int(_LETTERS_AN_INCH * width))
    part.suptitle(lines, fontsize=10, parse_math=False)
    axes = panels.small_panels(part, len(groups), columns)
    for panel, (title, group) in zip(axes, groups.items(), strict=True):
        for cell in [] if swept else cells:
            panel.plot(_epochs(means[cell]), means[cell], color=LIGHT["other"], lw=0.8)
        for cell in group:
            epochs = _epochs(means[cell])
            style = panels.line_style(arms.index(cell.arm) if swept else 0, len(epochs))
            ends = panels.middle(values[cell])
            panel.fill_between(epochs, *ends, color=style["color"], alpha=0.2, lw=0)
            panel.plot(epochs, means[cell], label=cell.arm, zorder=3, **style)
        panel.set_title(title)
        panels.whole_numbers(panel)
    panels.label_edges(axes, columns, "epoch", "")
    _limits(axes[0], list(means.values()), log=name == "train_loss")
    if swept:
        panels.legend(part, axes[0], len(arms), 6)


def _epochs(values: np.ndarray) -> np.ndarray:
    return np.arange(1, len(values) + 1)


def _limits(axes: "Axes", means: Sequence[np.ndarray], *, log: bool) -> None:
    """Logarithmic, or without the steep first epochs, beside which no difference could be seen."""
    every, late = (
        np.concatenate(list(part)) for part in (means, [m[len(m) // 4 :] for m in means])
    )
    late = late[np.isfinite(late)]
    if log:
        if (every > 0).any():
            axes.set_yscale("log")
    elif len(late):
        room = 0.08 * float(np.ptp(late)) or 1.0
        axes.set_ylim(late.min() - room, late.max() + room)


def _settings(study: Study) -> list[str]:
    return [sweep.name for sweep in study.sweeps if sweep.name in SETTINGS_AXES]


def _finished(study: Study) -> dict[Cell, Figures]:
    return {cell: study.figures[cell] for cell in study.cells if cell in study.figures}


def _score(row: Row, of: Score) -> Interval | None:
    return panels.scaled(row.scores[of.name], of.factor) if of.name in row.scores else None


def _lines(rows: Rows, axis: str, at: Point) -> dict[str, dict[Value | None, Row]]:
    """The rows along an axis, by activation; the row of an activation without it has no value."""
    lines: dict[str, dict[Value | None, Row]] = {}
    for cell, row in rows.items():
        if tuple(p for p in cell.setting if p[0] != axis) == at:
            rest = tuple(p for p in cell.point if p[0] != axis)
            name = Cell(cell.activation, rest).arm
            lines.setdefault(name, {})[dict(cell.point).get(axis)] = row
    return lines


def _line(
    axes: "Axes",
    name: str,
    line: Mapping[Value | None, Row],
    figure_of: Callable[[Row], Interval | None],
    place: Callable[[Value], float],
    i: int,
) -> None:
    style = panels.line_style(i, 2)
    if None in line:
        whole = figure_of(line[None])
        if whole and math.isfinite(whole.mean):
            axes.axhline(whole.mean, label=name, **style | {"ls": "--"})
            if whole.low is not None and whole.high is not None:
                axes.axhspan(whole.low, whole.high, color=style["color"], alpha=0.12, lw=0)
        return
    marker = panels.MARKERS[i % len(panels.MARKERS)]
    xs, ys = [], []
    for value, row in line.items():
        figure = figure_of(row)
        if value is None or figure is None or not math.isfinite(figure.mean):
            continue
        hollow = row.diverged > 0
        panels.interval(axes, figure, place(value), style["color"], marker=marker, hollow=hollow)
        xs.append(place(value))
        ys.append(figure.mean)
    axes.plot(xs, ys, **style | {"lw": 1.1})
    axes.plot([], [], label=name, **style | {"marker": marker, "ms": 5})


def _most_dead(study: Study) -> dict[Cell, Figures]:
    """For each activation with dead units, the cell in which it has the most."""
    found: dict[str, tuple[float, Cell]] = {}
    for cell, figures in _finished(study).items():
        dead = panels.mean(figures.dead_by_layer)
        most = float(np.nanmax(dead)) if np.isfinite(dead).any() else 0.0
        if most > found.get(cell.arm, (0.0, cell))[0]:
            found[cell.arm] = most, cell
    return {cell: study.figures[cell] for _, cell in list(found.values())[:_PANELS]}
