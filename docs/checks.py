"""Warns of examples that a page shows as text, not as code; a strict build fails then."""

import logging
from html.parser import HTMLParser
from typing import Any

log = logging.getLogger("mkdocs.hooks.checks")


class Examples(HTMLParser):
    """Collects the examples that are not in ``<pre>`` or ``<code>``.

    Markdown reads a ``>>>`` at the start of a paragraph as three nested quotes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.depth = {"pre": 0, "code": 0, "blockquote": 0}
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.depth:
            self.depth[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in self.depth:
            self.depth[tag] -= 1

    def handle_data(self, data: str) -> None:
        if self.depth["pre"] or self.depth["code"]:
            return
        if ">>>" in data or (self.depth["blockquote"] >= 3 and data.strip()):
            self.outside.append(" ".join(data.split()))


def on_post_page(output: str, page: Any, **_: Any) -> None:
    """mkdocs calls this for each page's HTML."""
    examples = Examples()
    examples.feed(output)
    for text in examples.outside:
        log.warning("%s: an example outside of a code block: %s", page.file.src_uri, text[:80])
