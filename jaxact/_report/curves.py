"""The shares of a history, drawn over the steps of training."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxact._report.history import SHARES, History

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

#: How many sites have a colour and a name; the others are grey.
MAX_NAMES = 12


def draw(figure: "FigureBase", history: History) -> None:
    """A panel for each share that the history has, a line for each site.

    Where there are many sites, those whose shares are the highest have names.

    Args:
      figure: the figure, or the part of one, that is drawn into.
      history: of two or more steps.
    """
    from matplotlib import colormaps

    shares = {name: getattr(history, name) for name in SHARES}
    shares = {name: values for name, values in shares.items() if not np.isnan(values).all()}
    shares = shares or {"dead": history.dead}
    named = _highest(list(shares.values()))
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(named)))
    others = len(history.sites) - len(named)
    panels = np.ravel(figure.subplots(1, len(shares), sharey=True))
    for panel, (name, values) in zip(panels, shares.items(), strict=True):
        # A gap of NaN hides the single steps within it, which markers show.
        style: dict[str, Any] = {"marker": ".", "ms": 3, "lw": 1.2}
        for site in set(range(len(history.sites))) - set(named):
            panel.plot(history.steps, 100 * values[:, site], color="lightgray", **style)
        for site, colour in zip(named, colours, strict=True):
            panel.plot(
                history.steps,
                100 * values[:, site],
                color=colour,
                label=history.sites[site],
                **style,
            )
        panel.set(
            title=f"{'samples' if name == 'saturated' else 'units'} that are {name}",
            xlabel="report",
            ylim=(-2, 102),
        )
        panel.set_axisbelow(True)
        panel.grid(alpha=0.3, lw=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("%")
    handles, labels = panels[0].get_legend_handles_labels()
    if others:
        handles.append(panels[0].lines[0])
        labels.append(f"{others} more, with lower shares")
    figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False, fontsize=8)


def rows(history: History) -> int:
    """How many lines the names take."""
    return -(-(min(len(history.sites), MAX_NAMES) + 1) // 3)


def _highest(shares: list[np.ndarray]) -> list[int]:
    """The sites with names: those with the highest mean of any share, in order of execution."""
    means = [np.nansum(values, 0) / np.maximum((~np.isnan(values)).sum(0), 1) for values in shares]
    return sorted(np.argsort(-np.max(means, 0), kind="stable")[:MAX_NAMES].tolist())
