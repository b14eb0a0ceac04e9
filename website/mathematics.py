"""Formulas as MathML, which browsers draw themselves: a Markdown extension, for mkdocs.yml.

pymdownx.arithmatex finds ``$...$``, ``\\(...\\)``, ``$$...$$`` and ``\\[...\\]``, in pages and in the
docstrings on them; latex2mathml converts them when the site is built.
"""

import html
import xml.etree.ElementTree as etree
from typing import Any

import latex2mathml.converter
from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor
from pymdownx.arithmatex import ArithmatexExtension

CLASS = "arithmatex"


def mathml(formula: str, *, display: bool = False) -> etree.Element:
    """The formula as an element ``math``.

    Args:
      formula: LaTeX, without the signs around it.
      display: whether it stands on lines of its own.

    Raises:
      ValueError: if latex2mathml cannot convert all of it.
    """
    try:
        text = latex2mathml.converter.convert(formula, display="block" if display else "inline")
    except Exception as error:
        raise ValueError(f"no formula: {formula!r}: {error!r}") from error
    math = etree.fromstring(text.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', ""))
    # What it does not know, it takes for a name.
    unknown = [part for part in math.itertext() if "\\" in part]
    if unknown:
        raise ValueError(f"no formula: {formula!r}: latex2mathml does not know {unknown[0]!r}")
    return math


class _Conversion(Treeprocessor):
    """Puts MathML in the place of what arithmatex has found."""

    def run(self, root: etree.Element) -> None:
        for element in root.iter():
            if element.get("class") != CLASS or not element.text:
                continue
            display = element.tag == "div"
            formula = element.text.strip()[2:-2].strip()
            math = mathml(html.unescape(formula) if display else formula, display=display)
            element.text = None
            element.append(math)


class Mathematics(Extension):
    """Registers both steps."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        ArithmatexExtension(generic=True).extendMarkdown(md)
        # After what reads text (20) and breaks lines (10), before the table of contents (5).
        md.treeprocessors.register(_Conversion(md), "mathematics", 9)


def makeExtension(**options: Any) -> Mathematics:  # noqa: N802
    """Markdown looks for this name."""
    return Mathematics(**options)
