"""The number of a paper becomes a link to it."""

import pytest

pytest.importorskip("mkdocs", reason='pip install -e ".[docs]"')

import markdown

PAPER = '<a href="https://arxiv.org/abs/1502.01852">arXiv 1502.01852</a>'


def page(text):
    return markdown.markdown(text, extensions=["website.arxiv"])


@pytest.mark.parametrize(
    "text", ["(arXiv 1502.01852), who", "(arXiv\n    1502.01852), who", "arXiv 1502.01852."]
)
def test_a_number_is_a_link(text):
    assert page(text) == f"<p>{' '.join(text.split())}</p>".replace("arXiv 1502.01852", PAPER)


@pytest.mark.parametrize(
    "text",
    [
        "`arXiv 1502.01852`",
        "[arXiv 1502.01852](https://example.org)",
        "arXiv 12",
        "xarXiv 1502.01852",
    ],
)
def test_what_stays_as_it_is(text):
    assert "arxiv.org" not in page(text)
