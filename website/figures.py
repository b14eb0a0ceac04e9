"""Figures in two themes: drawn once, as SVG, with the colours of figures.mplstyle."""

import io
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure

STYLE = Path(__file__).parent / "figures.mplstyle"

#: What is drawn in the first colour is in the second on a dark page.
DARK = {"#222222": "#e2e2e2", "#cccccc": "#4a4d55"}


def svg(figure: Figure) -> str:
    """The figure as SVG, without a date: the same drawing is the same text."""
    text = io.StringIO()
    with matplotlib.style.context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def dark(drawing: str) -> str:
    """The drawing for a dark page."""
    for light, replacement in DARK.items():
        drawing = drawing.replace(light, replacement)
    return drawing


def write(drawing: str, stem: Path) -> None:
    """Write STEM-light.svg and STEM-dark.svg."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    for theme, text in (("light", drawing), ("dark", dark(drawing))):
        stem.with_name(f"{stem.name}-{theme}.svg").write_text(text, encoding="utf-8")


def markdown(alt: str, stem: str) -> str:
    """Markdown of the figure in the theme of the page.

    Args:
      alt: what one who does not see it should know.
      stem: the path of the files as the page refers to them, without "-light.svg".
    """
    return f"![{alt}]({stem}-light.svg#only-light)\n![{alt}]({stem}-dark.svg#only-dark)"
