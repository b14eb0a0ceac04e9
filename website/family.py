"""The picture of the family on the front page and in README.md: docs/family-light.svg, -dark.svg.

    python -m website.family

It lies in the repository, for the README is read without a build; a test says when it is stale.
"""

import re
from pathlib import Path

import jax
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

import jaxact
from website import figures

STEM = Path(__file__).parent.parent / "docs" / "family"
#: What is drawn together, from left to right; their text is what `jaxact.get` takes.
PANELS = (
    ("relu", "leaky_relu:0.2", "rrelu"),
    ("elu", "selu"),
    ("gelu", "silu", "mish"),
)
LOW, HIGH = -3.5, 1.8


def picture() -> Figure:
    """The values, where the functions differ: mostly of negative inputs."""
    x = np.linspace(LOW, HIGH, 400, dtype=np.float32)
    with matplotlib.style.context(figures.STYLE):
        drawing = Figure(figsize=(9, 3.2))
        drawing.set_layout_engine("none")  # The same on each machine, whatever its fonts.
        colors = iter(f"C{i}" for i in (8, 1, 0, 2, 3, 0, 1, 4))
        for i, names in enumerate(PANELS):
            axes = drawing.add_axes((i / 3 + 0.005, 0.01, 0.323, 0.98))
            axes.set_axis_off()
            axes.set_xlim(LOW, HIGH)
            axes.set_ylim(-1.9, 1.9)
            axes.axhline(0, color="#cccccc", linewidth=1.2, zorder=0)
            axes.axvline(0, color="#cccccc", linewidth=1.2, zorder=0)
            for row, name in enumerate(names):
                color = next(colors)
                if name == "rrelu":
                    low, high = (np.asarray(jaxact.leaky_relu(x, s)) for s in (1 / 8, 1 / 3))
                    axes.fill_between(x, low, high, color=color, alpha=0.25, linewidth=0)
                    y = jaxact.rrelu(x, jax.random.key(0))
                    shown = np.flatnonzero(x < 0)[::4]
                    axes.plot(x[shown], y[shown], ".", color=color, markersize=3)
                else:
                    axes.plot(x, jaxact.get(name)(x), color=color, linewidth=3)
                label = name.replace(":", " ")
                place = (0.02, 0.96 - 0.125 * row)
                axes.text(
                    *place, label, color=color, fontsize=19, va="top", transform=axes.transAxes
                )
        return drawing


def same(drawing: str, other: str) -> bool:
    """Whether two drawings show the same, to a tenth of a point: versions of Matplotlib differ."""
    number = r"-?\d+\.?\d*(?:e-?\d+)?"
    texts = [re.sub(number, "0", text) for text in (drawing, other)]
    one, two = (np.array(re.findall(number, text), float) for text in (drawing, other))
    return texts[0] == texts[1] and np.allclose(one, two, rtol=0, atol=0.1)


def main() -> None:
    """Write the picture."""
    figures.write(figures.svg(picture()), STEM)


if __name__ == "__main__":
    main()
