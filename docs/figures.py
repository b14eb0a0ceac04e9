"""Draws the figures of a page with the page's own code, when mkdocs builds it.

``<!-- figure: report.plot() -->`` becomes that expression's matplotlib figure, after the doctests
above it. The tests check what these return; here they are only run.
"""

import base64
import doctest
import io
import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs calls this for each page."""

    def draw(figure: re.Match[str]) -> str:
        names: dict[str, Any] = {}
        for example in doctest.DocTestParser().get_examples(markdown[: figure.start()]):
            exec(example.source, names)
        picture = io.BytesIO()
        eval(figure[1], names).savefig(picture, format="png", dpi=150)
        data = base64.b64encode(picture.getvalue()).decode()
        return f"![{figure[1]}](data:image/png;base64,{data})"

    return re.sub("<!-- figure: (.+?) -->", draw, markdown)
