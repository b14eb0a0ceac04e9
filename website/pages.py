"""Draws the figures of pages with the pages' own code.

After ``<!-- figure NAME: EXPRESSION -->`` a page has the two images of `website.figures.markdown`,
of ``figures/NAME``. They are drawn here: the expression's matplotlib figure, after the doctests
above it. The tests check what these return; here they are only run.
"""

import contextlib
import doctest
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.style

from website import figures

FIGURE = re.compile(r"^<!-- figure (?P<name>[\w-]+): (?P<expression>.+?) -->\n", re.MULTILINE)
IMAGES = (
    r"!\[(?P<alt>[^\]\n]+)\]\({stem}-light\.svg#only-light\)\n"
    r"!\[(?P=alt)\]\({stem}-dark\.svg#only-dark\)\n"
)


def find(page: str) -> Iterator[re.Match[str]]:
    """The comments of a page.

    Raises:
      ValueError: if a comment is not followed by its images.
    """
    for comment in FIGURE.finditer(page):
        stem = f"figures/{comment['name']}"
        if not re.compile(IMAGES.format(stem=re.escape(stem))).match(page, comment.end()):
            raise ValueError(
                f"after {comment[0].strip()!r} there must be\n"
                + figures.markdown("what it shows", stem)
            )
        yield comment


def draw(page: str) -> dict[str, str]:
    """The figures of a page as SVG, by name.

    Args:
      page: its Markdown.

    Raises:
      ValueError: if a comment is not followed by its images.
    """
    drawings: dict[str, str] = {}
    names: dict[str, Any] = {}
    done = 0
    for comment in find(page):
        examples = doctest.DocTestParser().get_examples(page[: comment.start()])
        with matplotlib.style.context(figures.STYLE), contextlib.redirect_stdout(io.StringIO()):
            for example in examples[done:]:
                exec(example.source, names)
            drawings[comment["name"]] = figures.svg(eval(comment["expression"], names))
        done = len(examples)
    return drawings


def write(docs: Path) -> None:
    """Draw the figures of all pages in a folder, into ``figures`` in it.

    Raises:
      ValueError: if two figures have one name.
    """
    written: set[str] = set()
    for path in sorted(docs.glob("*.md")):
        for name, drawing in draw(path.read_text(encoding="utf-8")).items():
            if name in written:
                raise ValueError(f"{path.name}: another figure has the name {name}")
            written.add(name)
            figures.write(drawing, docs / "figures" / name)
