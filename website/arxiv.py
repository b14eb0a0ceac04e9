"""Links of "arXiv 1502.01852" to the paper: a Markdown extension, for mkdocs.yml.

In docstrings a paper is its number alone, which a reader of the source can read.
"""

import re
from typing import Any
from xml.etree import ElementTree

from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor
from markdown.util import AtomicString


class _Paper(InlineProcessor):
    #: No link in a link.
    ANCESTOR_EXCLUDES = ("a",)

    def handleMatch(  # noqa: N802
        self, m: re.Match[str], data: str
    ) -> tuple[ElementTree.Element, int, int]:
        link = ElementTree.Element("a", href=f"https://arxiv.org/abs/{m[1]}")
        link.text = AtomicString(f"arXiv {m[1]}")
        return link, m.start(0), m.end(0)


class Papers(Extension):
    """Registers the pattern."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        # After code (190), which stays as it is.
        md.inlinePatterns.register(_Paper(r"\barXiv\s+(\d{4}\.\d{4,5})\b", md), "arxiv", 50)


def makeExtension(**options: Any) -> Papers:  # noqa: N802
    """Markdown looks for this name."""
    return Papers(**options)
