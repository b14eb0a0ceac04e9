"""Draws value and slope of the activations: the figures of their pages, and the thumbnails."""

import itertools

import jax
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jaxact
from website import figures
from website.shown import FAR, Shown, kinks

#: Of the asymptotes: to be seen on both themes, and less than the curves.
FAINT = "#8c8c8c"
#: The other factor in pictures of gated functions; the slope is drawn for the last.
UPS = (-1.0, 2.0, 1.0)


def figure(activation: Shown) -> Figure:
    """Value and slope, with the asymptotes dashed and the slope at each kink a dot."""
    with matplotlib.style.context(figures.STYLE):
        drawing = Figure(figsize=(5.4, 3.3))
        axes = drawing.subplots()
        _draw(axes, activation, width=1.8)
        axes.set_xlabel(activation.inputs[0])
        axes.legend(fontsize=9)
        return drawing


def thumbnail(activation: Shown) -> Figure:
    """The same without words."""
    with matplotlib.style.context(figures.STYLE):
        drawing = Figure(figsize=(1.9, 1.3))
        drawing.set_layout_engine("none")
        axes = drawing.add_axes((0.02, 0.03, 0.96, 0.94))
        _draw(axes, activation, width=1.5)
        axes.grid(False)
        axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
        axes.axvline(0, color="#cccccc", linewidth=0.8, zorder=0)
        axes.set_axis_off()
        return drawing


def caption(activation: Shown) -> str:
    """What the figure shows, in a sentence or two."""
    if activation.name == "rrelu":
        lines = "Values and slopes of 200 elements, each with its own random slope; lines: the mean"
        lines += " slope, `deterministic=True`."
    elif activation.name == "crelu":
        lines = "The values of `crelu(x)`, of which there are two for each input, and their slopes."
    elif len(activation.inputs) > 1:
        lines = f"Value of `{activation.call}` over the gate, for three values of the other factor,"
        lines += " `up`, and its slope."
    elif activation.name == "surrogate_relu":
        lines = "Value of `surrogate_relu(x)`, and the slope that its backward pass gives."
    else:
        lines = f"Value and slope of `{activation.call}`."
    if _asymptotes(activation):
        lines += " Dashed: asymptotes."
    if kinks(activation):
        lines += " Dots: where the slope jumps, and what it is there."
    return lines


def _draw(axes: Axes, activation: Shown, width: float) -> None:
    breaks = kinks(activation)
    low, high = min([-4.0, *(k - 2 for k in breaks)]), max([4.0, *(k + 2 for k in breaks)])
    for slope, offset, sign in _asymptotes(activation):
        x = np.array([0, FAR]) * sign
        axes.plot(x, slope * x + offset, "--", color=FAINT, linewidth=0.9, zorder=1.5)
    lowest, highest = 0.0, 0.0
    for label, color, of_values, ups in _curves(activation):
        result = 0 if of_values else 1
        for index, (start, end) in enumerate(itertools.pairwise([low, *breaks, high])):
            # A piece ends before the next begins: a jump is no ramp.
            x = np.linspace(start + 1e-3, end - 1e-3, 200)
            y = _column(activation.evaluate(x, *ups)[result], label)
            axes.plot(x, y, color=color, linewidth=width, label="" if index else label)
            lowest, highest = min(lowest, y.min()), max(highest, y.max())
        if breaks and not of_values:
            y = _column(activation.evaluate(np.array(breaks), *ups)[result], label)
            axes.plot(breaks, y, ".", color=color, markersize=4 * width)
    if activation.name == "rrelu":
        _draw_random(axes, low, high, width)
    margin = 0.05 * (min(highest, high) - max(lowest, low))
    axes.set_xlim(low, high)
    axes.set_ylim(max(lowest, low) - margin, min(highest, high) + margin)


def _column(y: np.ndarray, label: str) -> np.ndarray:
    """Of the two results of crelu, that of the label."""
    return y if y.ndim == 1 else y[:, 1 if "second" in label else 0]


def _curves(activation: Shown) -> list[tuple[str, str, bool, tuple[float, ...]]]:
    """The label and colour of each curve, whether it is of values, and the other factor."""
    if activation.name == "crelu":
        return [
            ("first value", "C0", True, ()),
            ("second value", "C2", True, ()),
            ("slope of the first", "C1", False, ()),
            ("slope of the second", "C3", False, ()),
        ]
    if len(activation.inputs) == 1:
        return [("value", "C0", True, ()), ("slope", "C1", False, ())]
    values = [
        (f"value, up = {up:.0f}".replace("-", "−"), color, True, (up,))
        for up, color in zip(UPS, ("C2", "C4", "C0"), strict=True)
    ]
    return [*values, (f"slope by the gate, up = {UPS[-1]:.0f}", "C1", False, (UPS[-1],))]


def _draw_random(axes: Axes, low: float, high: float, width: float) -> None:
    """Values and slopes of rrelu, each element with its own slope."""
    x = np.linspace(low, high, 200, dtype=np.float32)
    y, pullback = jax.vjp(lambda x: jaxact.rrelu(x, jax.random.key(0)), x)
    (slopes,) = pullback(np.ones_like(x))
    for points, color in ((y, "C0"), (slopes, "C1")):
        axes.plot(x, points, ".", color=color, markersize=1.5 * width, alpha=0.6)


def _asymptotes(activation: Shown) -> list[tuple[float, float, int]]:
    """Slope and offset of the lines that a function of a number approaches, and at which end.

    Those that it does not lie on from its outermost kink on.
    """
    if len(activation.inputs) > 1:
        return []
    found = []
    outer = 1 + max(map(abs, kinks(activation)), default=0)
    for sign in (-1, 1):
        at = sign * np.array([np.inf, 2000.0, 1000.0])
        values, slopes = (_column(y, "") for y in activation.evaluate(at))
        slope, offset = float(slopes[0]), float(values[0])
        if np.isinf(offset) and np.isfinite(slope):
            _, far, near = values - slope * np.array([0, *at[1:]])
            offset = round(float(far), 2) if abs(far - near) < 0.01 else np.inf  # So for snake.
        on_line = _column(activation.evaluate(np.array([sign * outer]))[0], "")
        if np.isfinite(offset) and abs(on_line[0] - (slope * sign * outer + offset)) > 1e-6:
            found.append((slope, offset, sign))
    return found
