"""What drawings are made of: figures, small panels, lines and intervals in one style."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from jaxact.compare import formats, labels
from jaxact.compare.statistics import Interval
from jaxact.compare.study import Value
from jaxact.compare.svg import ARMS, LIGHT, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

#: In inches: about the width of a phone.
WIDTH = 4.2
MARKERS = "osD^vPX*"
_DASHES = ("-", "--", ":", "-.")
#: So many values of an axis are named, at most.
_TICKS = 8
#: From this ratio on, values in equal ratios are spread geometrically.
_GEOMETRIC = 5

_P = ParamSpec("_P")
_T = TypeVar("_T")


def styled(draw: Callable[_P, _T]) -> Callable[_P, _T]:
    """A function that draws in the drawings' style, and leaves the user's settings alone."""

    @functools.wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def figure(height: float, width: float = WIDTH) -> "Figure":
    """A figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def small_panels(part: "FigureBase", count: int, columns: int) -> "list[Axes]":
    """Panels with the same axes, row by row."""
    rows = math.ceil(count / columns)
    axes = part.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for i, unused in enumerate(axes[count:], count):
        unused.set_visible(False)
        # The one above it is the last of its column.
        axes[i - columns].tick_params(labelbottom=True)
    return list(axes[:count])


def label_edges(panels: "Sequence[Axes]", columns: int, below: str, left: str) -> None:
    """Name the axes where a panel is at the edge."""
    for i, panel in enumerate(panels):
        if i + columns >= len(panels):
            panel.set_xlabel(below)
        if i % columns == 0:
            panel.set_ylabel(left)


def line_style(i: int, points: int) -> dict[str, Any]:
    """The look of the i-th line; of one point, a marker."""
    style: dict[str, Any] = {"color": ARMS[i % len(ARMS)]}
    style["ls"] = _DASHES[i // len(ARMS) % len(_DASHES)]
    style["marker"] = MARKERS[i % len(MARKERS)] if points == 1 else None
    return style


def interval(
    axes: "Axes",
    values: Interval,
    at: float,
    colour: str,
    *,
    horizontal: bool = False,
    marker: str = "o",
    hollow: bool = False,
) -> None:
    """A mean with its interval, at a place of the other axis; nothing where it is not finite."""
    if not math.isfinite(values.mean):
        return
    low, high = values.low, values.high
    if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
        ends = [low, high], [at, at]
        axes.plot(*(ends if horizontal else ends[::-1]), color=colour, lw=1.6, ls="-")
    dot = [values.mean], [at]
    axes.plot(
        *(dot if horizontal else dot[::-1]),
        marker,
        ms=5,
        color=colour,
        mfc=LIGHT["ground"] if hollow else colour,
        mew=1.2,
        zorder=3,
    )


def scaled(values: Interval, factor: float) -> Interval:
    """An interval in another unit."""
    low, high = values.low, values.high
    return Interval(
        values.mean * factor,
        None if low is None else low * factor,
        None if high is None else high * factor,
    )


def name_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Rows with names, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def swept_axis(axes: "Axes", name: str, values: Sequence[Value]) -> Callable[[float, Value], float]:
    """The x axis of a sweep, geometric where its values are.

    Returns:
      The place of a value, which stands behind the part of a step to move aside.
    """
    axes.set_xlabel(labels.axis(name))
    numbers = [float(v) for v in values if not isinstance(v, str)]
    if len(numbers) < len(values):
        axes.set_xticks(range(len(values)), [str(v) for v in values])
        axes.set_xlim(-0.5, len(values) - 0.5)
        order = list(values)
        return lambda aside, value: order.index(value) + aside
    geometric = min(numbers) > 0 and max(numbers) / min(numbers) >= _GEOMETRIC
    step = abs(np.ptp(np.log(numbers) if geometric else numbers)) / max(len(numbers) - 1, 1)
    every = math.ceil(len(numbers) / _TICKS)
    if geometric:
        axes.set_xscale("log")
    axes.set_xticks(numbers[::every], [formats.value(v) for v in numbers[::every]])
    axes.set_xticks([], minor=True)
    if geometric:
        return lambda aside, value: float(value) * math.exp(aside * step)
    return lambda aside, value: float(value) + aside * step


def from_zero(axes: "Axes", least: float = 1.0) -> None:
    """A y axis from 0, so that next to nothing does not look like much."""
    _, high = axes.get_ylim()
    axes.set_ylim(-0.03 * max(high, least), max(high, least))


def whole_numbers(axes: "Axes") -> None:
    """Ticks of the x axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def legend(part: "FigureBase", axes: "Axes", count: int, columns: int = 3) -> None:
    """Names of the lines, below."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        part.legend(
            handles, labels, loc="outside lower center", ncols=min(columns, count), handlelength=1.6
        )


def mean(values: np.ndarray) -> np.ndarray:
    """The mean over the runs that have a figure; NaN where none has. ``(runs, ...)``"""
    finite = np.isfinite(values)
    count = finite.sum(0)
    total = np.where(finite, values, 0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def middle(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Between which the middle 80% of the runs are that have a figure. ``(runs, epochs)``"""
    ends = np.full((2, values.shape[1]), np.nan)
    for epoch, column in enumerate(values.T):
        finite = column[np.isfinite(column)]
        if len(finite):
            ends[:, epoch] = np.quantile(finite, (0.1, 0.9))
    return ends[0], ends[1]
