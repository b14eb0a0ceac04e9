"""Figures as files: PNG, and SVG that belongs to a page.

A drawing uses the colours of `LIGHT` and nothing else. In a page each becomes a variable of the
style sheet, which has another value for it in the dark.
"""

import html
import io
import re
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The colours of activations: safe for the colour-blind (after Okabe and Ito), and each with a
#: contrast of 3 to 1 or more.
ARMS = ("#0072b2", "#d55e00", "#008a63", "#b4508c", "#9a7400", "#2f93c4", "#6a51c7", "#8c564b")
#: What each colour is for, and the variable that it is in a page.
LIGHT = {
    "text": "#1b2027",
    "muted": "#5b6570",
    "grid": "#dde2e7",
    "other": "#b9c1c9",
    "band": "#e8edf1",
    "better": "#0a7d33",
    "worse": "#c2361b",
    "ground": "#fefefe",
    **{f"arm-{i}": colour for i, colour in enumerate(ARMS)},
}
#: The same in the dark.
DARK = {
    "text": "#e6e9ec",
    "muted": "#a0a9b2",
    "grid": "#333b44",
    "other": "#58636e",
    "band": "#28303a",
    "better": "#4cc77a",
    "worse": "#ff8a6c",
    "ground": "#171b20",
    **{
        f"arm-{i}": colour
        for i, colour in enumerate(
            ("#56b4e9", "#ff9248", "#3fcf9f", "#e58fc0", "#e6b93c", "#9fd6f5", "#b3a1ff", "#c99a8f")
        )
    },
}
#: How figures are drawn, on paper and in a page.
STYLE: dict[Any, Any] = {
    "figure.dpi": 150,
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "text.color": LIGHT["text"],
    "axes.labelcolor": LIGHT["text"],
    "axes.titlecolor": LIGHT["text"],
    "axes.edgecolor": LIGHT["muted"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["text"],
    "ytick.labelcolor": LIGHT["text"],
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "figure.facecolor": LIGHT["ground"],
    "axes.facecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxact",
}


def png(figure: "Figure") -> bytes:
    """A figure as PNG, drawn without a display."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A file may be named in a script that the font does not have.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def svg(figure: "Figure", *, name: str, title: str) -> str:
    """A figure as an ``<svg>`` element for a page: text stays text, and the colours are the page's.

    Args:
      name: what its ids begin with: letters, digits and hyphens, another one for each figure of the
        page.
      title: what a reader hears who does not see the figure.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure.patch.set_visible(False)
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(
            buffer, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    for variable, colour in LIGHT.items():
        text = re.sub(colour, f"var(--{variable})", text, flags=re.IGNORECASE)
    _, _, inside = text[text.index("<svg") :].partition(">")
    view = re.search(r'viewBox="[^"]+"', text)
    assert view
    return (
        f'<svg {view[0]} role="img" aria-labelledby="{name}-title" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{html.escape(title)}</title>{inside.strip()}'
    )
