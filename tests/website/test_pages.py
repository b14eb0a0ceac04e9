"""Figures that pages draw with their own code."""

from pathlib import Path

import pytest

from website import figures, pages

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = """
```python
>>> from matplotlib.figure import Figure
>>> figure = Figure()
>>> print("drawn")
drawn
>>> _ = figure.add_subplot().plot([1, 2], label="a")

```

<!-- figure line: figure -->
![A line](figures/line-light.svg#only-light)
![A line](figures/line-dark.svg#only-dark)

>>> figure.axes[0].set_title("later")

<!-- figure second: figure -->
![Two](figures/second-light.svg#only-light)
![Two](figures/second-dark.svg#only-dark)
"""


def test_the_doctests_above_draw_it(capsys):
    drawings = pages.draw(PAGE)
    assert list(drawings) == ["line", "second"]
    assert "later" not in drawings["line"] and "later" in drawings["second"]
    assert "#222222" in drawings["line"]
    # Each example has run once, and what it prints is not shown.
    assert capsys.readouterr().out == ""


def test_both_themes_are_written(tmp_path):
    (tmp_path / "page.md").write_text(PAGE)
    pages.write(tmp_path)
    light, dark = [
        (tmp_path / "figures" / f"line-{theme}.svg").read_text() for theme in ("light", "dark")
    ]
    assert light != dark == figures.dark(light)
    assert not any(colour in dark for colour in figures.DARK)


def test_the_same_drawing_is_the_same_file():
    assert pages.draw(PAGE) == pages.draw(PAGE)


@pytest.mark.parametrize(
    "change",
    [
        ("line-dark.svg#only-dark", "line-dark.svg"),
        ("figures/line-light.svg", "figures/lime-light.svg"),
        ("![A line](figures/line-dark", "![Another](figures/line-dark"),
        ("figure line: figure -->\n", "figure line: figure -->\n\n"),
    ],
)
def test_a_comment_without_its_images_is_an_error(change):
    assert change[0] in PAGE
    with pytest.raises(ValueError, match=r"after '<!-- figure line: figure -->' there must be"):
        list(pages.find(PAGE.replace(*change)))


def test_two_figures_of_one_name_are_an_error(tmp_path):
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text(PAGE)
    with pytest.raises(ValueError, match="b.md: another figure has the name line"):
        pages.write(tmp_path)


def test_pages_have_the_images_of_their_figures():
    found = []
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        of_page = list(pages.find(text))
        assert len(of_page) == text.count("<!-- figure"), path
        found += of_page
    assert len(found) >= 2
