"""Formulas as MathML, which browsers draw themselves: a Markdown extension, for mkdocs.yml.

pymdownx.arithmatex finds ``$...$``, ``\\(...\\)``, ``$$...$$`` and ``\\[...\\]`` in pages and in
the docstrings on them; latex2mathml converts them when the site is built.
"""

import html
import re
from typing import Any
from xml.etree import ElementTree

import latex2mathml.converter
from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor
from pymdownx.arithmatex import ArithmatexExtension

CLASS = "arithmatex"
NAMESPACE = "http://www.w3.org/1998/Math/MathML"
#: How many elements are in these.
ARGUMENTS = {
    **dict.fromkeys(("mfrac", "mroot", "msub", "msup", "munder", "mover"), 2),
    **dict.fromkeys(("msubsup", "munderover"), 3),
}
#: Operators that latex2mathml takes for names.
SIGNS = {"~": "\u223c", "±": "±"}
#: Names that stand apart from what is beside them, and that latex2mathml puts close to it.
FUNCTIONS = {"exp", "log", "ln", "max", "min", "sin", "cos", "tanh", "erf", "det"}


def mathml(formula: str, *, display: bool = False) -> ElementTree.Element:
    """The formula as an element ``math``.

    Args:
      formula: LaTeX, without the signs around it.
      display: whether it stands on lines of its own.

    Raises:
      ValueError: if latex2mathml cannot convert all of it.
    """

    def failed(why: str) -> ValueError:
        return ValueError(f"no formula: {formula!r}: {why}")

    braces = re.sub(r"\\\\|\\[{}]", "", formula)
    if braces.count("{") != braces.count("}"):
        raise failed("a brace is missing")
    try:
        text = latex2mathml.converter.convert(formula, display="block" if display else "inline")
    except Exception as error:
        raise failed(repr(error)) from error
    try:
        math = ElementTree.fromstring(text.replace(f' xmlns="{NAMESPACE}"', ""))
    except ElementTree.ParseError as error:  # "&" where there are no columns.
        raise failed(f"latex2mathml writes {text}") from error
    for element in math.iter():
        # What it does not know, it takes for a name.
        if "\\" in (element.text or ""):
            raise failed(f"latex2mathml does not know {element.text!r}")
        if len(element) != ARGUMENTS.get(element.tag, len(element)):
            raise failed(f"an argument is missing ({element.tag})")
    _mend(math)
    return math


def _mend(math: ElementTree.Element) -> None:
    """What latex2mathml could do better: signs, words in one piece, and the space around them."""
    for row in list(math.iter()):
        letters = [(child.tag, child.get("mathvariant")) for child in row]
        if len(letters) > 1 and set(letters) == {("mi", "normal")}:
            # The letters of \mathrm{relu}, as they are read aloud and searched for.
            row[:] = [_element("mi", "".join(row.itertext()))]
        in_a_row = row.tag in ("mrow", "mtd")
        for child in list(row):
            if child.tag == "mi" and child.text in SIGNS:
                child.tag, child.text = "mo", SIGNS[child.text]
            elif in_a_row and child.tag == "mi" and child.text in FUNCTIONS:
                place = list(row).index(child)
                after = row[place + 1 : place + 2]
                if after and after[0].tag != "mo":
                    row.insert(place + 1, ElementTree.Element("mspace", width="0.17em"))
                if place and row[place - 1].tag not in ("mo", "mspace"):
                    row.insert(place, ElementTree.Element("mspace", width="0.17em"))


def _element(tag: str, text: str) -> ElementTree.Element:
    element = ElementTree.Element(tag)
    element.text = text
    return element


class _Conversion(Treeprocessor):
    """Puts MathML in the place of what arithmatex has found."""

    def run(self, root: ElementTree.Element) -> None:
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
