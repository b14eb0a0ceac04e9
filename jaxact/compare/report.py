"""How results are shown: a table in the terminal and in Markdown, and a picture of the curves."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from jaxact.compare.results import Results
from jaxact.compare.statistics import (
    LEVEL,
    Interval,
    Summary,
    mean_interval,
    simultaneous_level,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table


class Row(NamedTuple):
    """What a row of the table is about."""

    activation: str
    seeds: int
    summary: Summary


class Column(NamedTuple):
    """A column of the table.

    Args:
      heading: its text, with the first activation in the place of ``{first}``.
      cell: the text of a row.
      justify: the side on which the cells are aligned, ``"left"`` or ``"right"``.
      no_wrap: whether a narrow terminal leaves the cells in one line.
    """

    heading: str
    cell: Callable[[Row], str]
    justify: Literal["left", "right"] = "right"
    no_wrap: bool = False


#: The table's columns; the figures of `statistics.Summary` are those of ``row.summary``.
COLUMNS = [
    Column("activation", lambda row: row.activation, "left", no_wrap=True),
    Column("test accuracy %", lambda row: _percent(row.summary.test_accuracy, "z.2f")),
    Column("difference to {first}, pp", lambda row: _percent(row.summary.difference, "+z.2f")),
    Column("verdict", lambda row: row.summary.verdict or "-", "left"),
    Column("final training loss", lambda row: _loss(row)),
    Column("dead units %", lambda row: _number(row.summary.dead_units_percent, ".1f")),
    Column("ms/step", lambda row: _number(row.summary.ms_per_step, ".2f"), no_wrap=True),
]


def headings(results: Results) -> list[str]:
    """The headings of the table's columns."""
    first = results.configuration["activations"][0]
    return [column.heading.format(first=first) for column in COLUMNS]


def rows(results: Results) -> list[list[str]]:
    """The table's cells."""
    seeds = results.configuration["seeds"]
    table = [Row(activation, seeds, summary) for activation, summary in results.summary().items()]
    return [[column.cell(row) for column in COLUMNS] for row in table]


def title(results: Results) -> str:
    """What was trained, in one line."""
    c = results.configuration
    widths = ", ".join(map(str, c["widths"]))
    count = f"{c['seeds']} {'seeds' if c['seeds'] > 1 else 'seed'}"
    source = c["data"]["source"]
    return f"{source}: MLP of widths {widths}; {count}, {c['epochs']} epochs, {c['dtype']}"


def caption(results: Results) -> str:
    """What the table's figures are, and what its intervals cover."""
    c = results.configuration
    data, seeds, comparisons = c["data"], c["seeds"], len(c["activations"]) - 1
    sizes = [data[f"{part}_samples"] for part in ("training", "validation", "test")]
    accuracy = "Test accuracy: in the epoch of lowest validation loss"
    parts = []
    if seeds == 1:
        parts.append(f"{accuracy}, of one seed: there is no interval, so nothing can be concluded.")
    else:
        parts.append(
            f"{accuracy}, mean ± {LEVEL:.0%} t interval over {seeds} seeds. A seed is the initial "
            "weights and the order of the batches, on one fixed split "
            f"({'/'.join(map(str, sizes))} samples): the intervals cover those, not the choice of "
            "the samples."
        )
    if seeds > 1 and comparisons:
        level = simultaneous_level(comparisons)
        joint = (
            f"all {comparisons} intervals hold together with {LEVEL:.0%} confidence (Bonferroni: "
            f"each has {100 * level:.4g}%)"
            if comparisons > 1
            else f"its interval has {LEVEL:.0%} confidence"
        )
        parts.append(
            f"Difference: in percentage points, paired by seed; {joint}. No detectable difference: "
            "the interval contains 0."
        )
    parts.append(
        "Training loss and dead units (slope exactly 0 on every training sample): after the last "
        f"epoch, mean over seeds. ms/step: one step of all {seeds} seeds together, without "
        "compilation and the first epoch."
    )
    return " ".join(parts)


def rich_table(results: Results) -> "Table":
    """The table for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title(results),
        caption=caption(results),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading, column in zip(headings(results), COLUMNS, strict=True):
        # Narrow enough for 80 columns: long cells wrap, and nothing is cut off.
        table.add_column(
            heading.replace(" ", "\n", 1),
            justify=column.justify,
            no_wrap=column.no_wrap,
            overflow="fold",
        )
    styles = {"better": "green", "worse": "red"}
    for row in rows(results):
        table.add_row(*(Text(cell, styles.get(cell, "")) for cell in row))
    return table


def markdown(results: Results) -> str:
    """The table as ``table.md``."""
    names = headings(results)
    rule = [{"left": "---", "right": "---:"}[column.justify] for column in COLUMNS]
    lines = ["| " + " | ".join(cells) + " |" for cells in [names, rule, *rows(results)]]
    versions = ", ".join(f"{k} {v}" for k, v in results.configuration["versions"].items())
    device = results.configuration["device"]
    foot = f"{versions}; {device['platform']} ({device['kind']})."
    return "\n".join([f"## {title(results)}", "", *lines, "", caption(results), "", foot, ""])


def curves(results: Results) -> "Figure":
    """Accuracies and training loss after each epoch: mean and interval over seeds."""
    import matplotlib
    from matplotlib.figure import Figure

    panels = {
        "validation_accuracy": "validation accuracy, %",
        "test_accuracy": "test accuracy, %",
        "train_loss": "training loss",
    }
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    axes = figure.subplots(1, len(panels))
    colours = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    epochs = np.arange(1, results.configuration["epochs"] + 1)
    alone = len(epochs) == 1
    for axis, (name, label) in zip(axes, panels.items(), strict=True):
        bands = []
        for i, (activation, arm) in enumerate(results.arms.items()):
            style: dict[str, Any] = {"color": colours[i % 10], "marker": "o" if alone else None}
            mean, low, high = _band(getattr(arm.curves, name))
            if name != "train_loss":
                mean, low, high = 100 * mean, 100 * low, 100 * high
            dashes = ["-", "--", ":", "-."][i // 10 % 4]
            axis.plot(epochs, mean, lw=1.6, ls=dashes, label=activation, **style)
            axis.fill_between(epochs, low, high, color=style["color"], alpha=0.15, lw=0)
            bands.append((low, high))
        axis.set(title=label, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3, lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        if name == "train_loss":
            if np.isfinite(bands).any():  # else every network diverged
                axis.set_yscale("log")
        else:
            _show_the_end(axis, np.array(bands))
    seeds = results.configuration["seeds"]
    band = f"; bands: {LEVEL:.0%} interval of the mean" if seeds > 1 else ""
    figure.suptitle(f"{title(results)}{band}", fontsize=11)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(7, len(labels)), frameon=False
    )
    return figure


def png(figure: "Figure") -> bytes:
    """A figure as PNG, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _number(figure: float | None, form: str) -> str:
    return "-" if figure is None else format(figure, form)


def _loss(row: Row) -> str:
    loss, diverged = row.summary.final_train_loss, row.summary.diverged
    text = "" if loss is None else f"{loss:#.3g}".rstrip(".")
    return f"{text} ({diverged} of {row.seeds} seeds diverged)".strip() if diverged else text


def _percent(interval: Interval | None, form: str) -> str:
    if interval is None:
        return "-"
    mean = format(100 * interval.mean, form)
    return mean if interval.half_width is None else f"{mean} ± {100 * interval.half_width:.2f}"


def _band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over seeds and its interval, for each epoch."""
    intervals = [mean_interval(v) for v in values.T]
    mean = np.array([i.mean for i in intervals])
    half = np.array([i.half_width or 0.0 for i in intervals])
    return mean, mean - half, mean + half


def _show_the_end(axis: Any, bands: np.ndarray) -> None:
    """Leave out the steep first epochs, beside which the arms' differences would not be seen.

    ``bands`` has the shape ``(arms, 2, epochs)``.
    """
    late = bands[:, :, bands.shape[-1] // 4 :]
    margin = 0.05 * (late.max() - late.min()) or 0.5
    axis.set_ylim(max(late.min() - margin, 0), min(late.max() + margin, 100.5))
