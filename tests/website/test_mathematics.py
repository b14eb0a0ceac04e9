"""Formulas become MathML, or an error."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("latex2mathml", reason='pip install -e ".[docs]"')

import markdown

from website import notebooks
from website.mathematics import mathml

ROOT = Path(__file__).parent.parent.parent


def page(text):
    return markdown.markdown(text, extensions=["website.mathematics"])


def words(formula):
    return " ".join(mathml(formula).itertext())


@pytest.mark.parametrize(
    ("text", "display"),
    [
        ("It is $x_1$.", False),
        (r"It is \(x_1\).", False),
        ("$$\nx_1\n$$", True),
        (r"\[ x_1 \]", True),
    ],
)
def test_each_way_to_write_a_formula(text, display):
    html = page(text)
    assert f'<math display="{"block" if display else "inline"}"' in html
    assert "<msub><mi>x</mi><mn>1</mn></msub>" in html
    assert not set("$\\") & set(html)


def test_code_is_left_alone():
    assert page("`$x$`") == "<p><code>$x$</code></p>"


def test_what_is_special_in_html_stays_what_it_is():
    for text in (r"$a < b$", "$$a < b$$"):
        math = ElementTree.fromstring(f"<r>{page(text)}</r>").find(".//math")
        assert "".join(math.itertext()) == "a<b"


@pytest.mark.parametrize(
    "formula", ["{x", r"\frac{1}", "x_", r"\nosuchcommand x", r"\begin{cases} x", "a & b"]
)
def test_a_formula_that_cannot_be_converted_is_an_error(formula):
    with pytest.raises(ValueError, match="no formula"):
        mathml(formula)
    with pytest.raises(ValueError, match="no formula"):
        page(f"$${formula}$$")


def test_names_are_words_with_space_around_them():
    assert words(r"\mathrm{leaky\_relu}(x)") == "leaky_relu ( x )"
    row = mathml(r"x \log y + \log(z)").find("mrow")
    assert [e.tag for e in row][:5] == ["mi", "mspace", "mi", "mspace", "mi"]
    assert [e.tag for e in row][5:8] == ["mo", "mi", "mo"]
    assert [e.tag for e in mathml(r"a \log^2 b").find(".//msup")] == ["mi", "mn"]


def test_a_relation_has_the_sign_of_one():
    assert words(r"z \sim N") == "z \u223c N"


PAGES = [*(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_each_formula_of_a_page_can_be_converted(path):
    notebook = path.suffix == ".ipynb"
    page = notebooks.convert(path, ROOT / "docs")[0] if notebook else path.read_text("utf-8")
    assert markdown.markdown(page, extensions=["pymdownx.superfences", "website.mathematics"])
