"""How a report is shown: a table, scalars for a logger, and a picture."""

import importlib.util
import io
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxact._report import curves
from jaxact._report.history import History
from jaxact._report.site import CONFIDENCE, OF_PARAMETERS, UNUSED, Site
from jaxact._report.statistics import histogram_edges
from jaxact._report.summary import Summary, pooled
from jaxact._text import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure, FigureBase
    from rich.table import Table

#: How many sites have a row of their own in the table and in the picture.
MAX_ROWS = 60
#: The table's width where there is no terminal to fit into: wide enough for all columns.
WIDTH = 160

HEADINGS = (
    "#",
    "path",
    "function",
    "units",
    "samples",
    "dead",
    "bound %",
    "active %",
    "saturated %",
    "mean",
    "std",
    "source",
)
CAPTION = (
    "dead: units with f'(x) = 0 on every sample; bound: of all data, a dead unit is active on at "
    f"most this share (one-sided {CONFIDENCE:.0%} Clopper-Pearson, takes samples as independent). "
    "active, saturated: samples with f'(x) other than 0, with |f'(x)| below the probe's threshold; "
    "mean over units. mean, std: of the pre-activation, over units and samples."
)

POOLED = (
    "[steps]: the steps of a loop that share their parameters, as one site. They are no "
    "independent samples: the bound is too low for them."
)
ROLES = {
    OF_PARAMETERS: "of parameters: what it is of does not depend on the data.",
    UNUSED: "unused: no result depends on it.",
}


def rows(summaries: Sequence[Summary]) -> list[list[str]]:
    """The table's cells: a row for each of the first sites, and one that counts the others."""
    cells = [_row(summary) for summary in summaries[:MAX_ROWS]]
    rest = summaries[MAX_ROWS:]
    if rest:
        dead = sum(summary.dead > 0 for summary in rest)
        text = f"and {len(rest)} more, {dead or 'none'} of them with dead units"
        cells.append(["…", text, *[""] * (len(HEADINGS) - 2)])
    return cells


def not_looked_into(counts: Sequence[tuple[str, int]]) -> str:
    """What a report is not about, as a sentence, or nothing."""
    return _counted("Not looked into", counts)


def no_gradient(counts: Sequence[tuple[str, int]]) -> str:
    """Where a report has no gradients, as a sentence, or nothing."""
    return _counted("No gradient from", counts)


def _counted(what: str, counts: Sequence[tuple[str, int]]) -> str:
    if not counts:
        return ""
    return f"{what}: {', '.join(f'{name} ({count})' for name, count in counts)}."


def caption(summaries: Sequence[Summary], note: str = "") -> str:
    """The text under the table, which a note ends."""
    roles = {summary.site.role for summary in summaries}
    pools = any(summary.site.place.pooled for summary in summaries)
    sentences = [CAPTION, POOLED if pools else ""]
    sentences += [sentence for role, sentence in ROLES.items() if role in roles]
    return " ".join(filter(None, [*sentences, note]))


#: The columns whose cells wrap in a narrow terminal.
WRAPPED = ("path", "source")
#: The columns that a narrow terminal does without; the first name goes first.
DROPPED = ("source", "std", "mean", "samples", "saturated %", "units")


def rich_table(summaries: Sequence[Summary], width: int, note: str = "") -> "Table":
    """The table for a terminal: with all columns, or with those for which it is wide enough.

    Args:
      summaries: the sites, one for each row.
      width: the terminal's, in characters.
      note: a last sentence of the caption.
    """
    cells = rows(summaries)
    for count in range(len(DROPPED) + 1):
        headings = [name for name in HEADINGS if name not in DROPPED[:count]]
        drawn = _rich_table(cells, headings, caption(summaries, note))
        # Two spaces between columns. (What rich measures has no column wrapped.)
        if sum((column.min_width or 0) + 2 for column in drawn.columns) - 2 <= width:
            break
    return drawn


def _rich_table(cells: Sequence[Sequence[str]], headings: Sequence[str], caption: str) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(
        caption=Text(caption),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in headings:
        longest = max((len(row[HEADINGS.index(name)]) for row in cells), default=0)
        drawn.add_column(
            name,
            justify="left" if name in ("path", "function", "source") else "right",
            # In a narrow table long names wrap, and nothing is cut off.
            no_wrap=name not in WRAPPED,
            min_width=max(len(name), min(longest, 20) if name in WRAPPED else longest),
            overflow="fold",
        )
    for row in cells:
        shown = [cell for name, cell in zip(HEADINGS, row, strict=True) if name in headings]
        # A cell is a Text, for in a str [2] would be markup.
        drawn.add_row(*map(Text, shown))
    return drawn


def text(summaries: Sequence[Summary], note: str = "") -> str:
    """The table as plain text, of the terminal's width; without rich, as wide as it gets.

    Args:
      summaries: the sites, one for each row.
      note: a last sentence of the caption.
    """
    if importlib.util.find_spec("rich") is None:
        return f"{table(HEADINGS, rows(summaries))}\n{caption(summaries, note)}"
    from rich.console import Console

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    file = io.StringIO()
    # No colours and no HTML, whatever the environment says of colours and notebooks.
    console = Console(
        file=file, width=width, color_system=None, force_terminal=False, force_jupyter=False
    )
    console.print(rich_table(summaries, width, note))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def scalars(summaries: Sequence[Summary]) -> dict[str, float]:
    """The figures of sites by name, as `jaxact.Report.scalars` returns them."""
    places = defaultdict(set)
    for summary in summaries:
        places[_tag(summary.site)].add(summary.site.index)
    found = {}
    for summary in summaries:
        site = summary.site
        # Letters, digits, _ and / are characters of a tag that loggers leave as they are.
        number = f"_{site.index}" if len(places[_tag(site)]) > 1 else ""
        steps = "".join(f"/{i}" for i in site.iteration)
        figures = {
            "dead": summary.dead / max(summary.units, 1),
            "active": summary.active,
            "saturated": summary.saturated,
            "mean": summary.mean,
            "std": summary.std,
            "dormant": summary.dormant / max(summary.units, 1),
            "peak": summary.peak,
            "kurtosis": summary.kurtosis,
            "samples": float(summary.samples),
        }
        if summary.gradient is not None:
            figures["gradient"] = summary.gradient
        for name, figure in figures.items():
            found[f"{_tag(site)}{number}{steps}/{name}"] = figure
    return found


def plot(summaries: Sequence[Summary], history: History) -> "Figure":
    """The picture of the first sites, as `jaxact.Report.plot` returns it."""
    from matplotlib.figure import Figure

    height = 1.6 + 0.4 * max(min(len(summaries), MAX_ROWS), 1)
    if len(history) < 2:
        figure = Figure(figsize=(12, height), layout="constrained")
        _draw(figure, summaries)
        return figure
    below = 3 + 0.2 * curves.rows(history)
    figure = Figure(figsize=(12, height + below), layout="constrained")
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, below])
    _draw(parts[0, 0], summaries)
    curves.draw(parts[1, 0], history)
    return figure


def _draw(figure: "FigureBase", summaries: Sequence[Summary]) -> None:
    """The first sites: their shares, and densities of their pre-activations."""
    shown = summaries[:MAX_ROWS]
    count = len(shown)
    shares, densities = figure.subplots(1, 2, sharey=True)
    position = np.arange(count)
    for offset, colour, name in ((-0.19, "tab:red", "dead"), (0.19, "tab:gray", "saturated")):
        widths = [100 * _share(summary, name) for summary in shown]
        shares.barh(position + offset, widths, 0.36, color=colour, label=name)
    shares.set(
        title="units that are dead, samples that are saturated",
        xlabel="%",
        xlim=(0, 100),
        # The first site on top, and room for each site's curve above its line.
        ylim=(max(count, 1) - 0.4, -0.6),
    )
    names = [f"{s.site.index}: {s.name} ({s.site.form})" for s in shown]
    shares.set_yticks(position, names)
    if count:
        figure.legend(loc="outside lower left", ncols=2, frameon=False)

    edges = histogram_edges()
    for row, summary in enumerate(shown):
        counts = _histogram(summary.site)
        # The bins are of equal width in asinh(x), as the x axis is, so that counts are densities.
        height = 0.8 * counts / max(counts.max(initial=0), 1)
        base = row + 0.4
        densities.stairs(
            base - height, edges, baseline=base, fill=True, color="tab:blue", alpha=0.6
        )
    densities.axvline(0, color="tab:gray", lw=0.6)
    densities.set_xscale("asinh", linear_width=1)
    densities.set(
        title="pre-activations: density, each to its own peak",
        xlabel="x (asinh scale)",
        xlim=(edges[0], edges[-1]),
        xticks=[-100, -10, -1, 0, 1, 10, 100],
        xticklabels=["-100", "-10", "-1", "0", "1", "10", "100"],
    )
    densities.minorticks_off()
    for axis in (shares, densities):
        axis.set_axisbelow(True)
        axis.grid(axis="x", alpha=0.3, lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    if len(summaries) > count:
        figure.suptitle(f"the first {count} of {len(summaries)} sites", fontsize=11)


def _row(summary: Summary) -> list[str]:
    """The cells of one site's row, in the order of `HEADINGS`."""
    site = summary.site
    # The lengths of the axes of vmap, then the number of units.
    units = " x ".join(map(str, site.mean.shape))
    path = summary.name + pooled(site)
    start = [str(site.index), path, summary.function, units, str(summary.samples)]
    if not summary.samples:
        return [*start, *["-"] * 6, site.source]
    return [
        *start,
        f"{summary.dead} ({100 * summary.dead / summary.units:.1f}%)" if summary.dead else "0",
        f"{100 * summary.bound:.2g}" if summary.dead else "-",
        f"{100 * summary.active:.1f}",
        f"{100 * summary.saturated:.1f}",
        f"{summary.mean:.3g}",
        f"{summary.std:.3g}",
        site.source,
    ]


def _tag(site: Site) -> str:
    """A site's path and function, as a logger's tag; the function once if the path ends in it."""
    parts = site.path.split("/") if site.path else []
    if parts[-1:] != [site.function]:
        parts.append(site.function)
    return "/".join(parts)


def _share(summary: Summary, name: str) -> float:
    """The length of a site's bar: the share of its dead units, or of its saturated samples."""
    return summary.dead / max(summary.units, 1) if name == "dead" else summary.saturated


def _histogram(site: Site) -> np.ndarray:
    """A site's histogram, of all entries of a ``vmap`` together."""
    counts = np.asarray(site.histogram)
    return counts.reshape(-1, counts.shape[-1]).sum(0)
