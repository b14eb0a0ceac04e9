"""The pages of the API, docs/api/: complete, and all in their index."""

import re
from pathlib import Path

import jaxact
from jaxact import linen, nnx

PAGES = Path(__file__).parent.parent.parent / "docs" / "api"


def documented() -> list[str]:
    return [
        path
        for page in sorted(PAGES.glob("*.md"))
        for path in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
    ]


def test_nothing_is_documented_twice():
    assert len(documented()) == len(set(documented())) > 60


def test_the_index_has_a_line_for_each_entry():
    lines = re.findall(
        r"^- \[`.+`\]\[([\w.]+)\]: \S", (PAGES / "index.md").read_text(), re.MULTILINE
    )
    assert sorted(lines) == sorted(documented())


def test_public_names_are_documented():
    public = {f"jaxact.{name}" for name in set(jaxact.__all__) - {*jaxact.ACTIVATIONS, "memory"}}
    for module in (nnx, linen):
        public |= {
            f"{module.__name__}.{name}"
            for name, value in vars(module).items()
            if name[0] != "_" and getattr(value, "__module__", "") == module.__name__
        }
    assert public - set(documented()) == set()
