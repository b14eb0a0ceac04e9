"""The README leads somewhere, and nothing says what cannot be done. Its examples are doctests."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: An index has no jaxact: what it would install is somebody else's.
FROM_AN_INDEX = re.compile(
    r"""pip\ install (?:\ (?!-e\b|&&|in\b)\S+)*? \ ["']?jaxact(?:\[\w+\])?["'`]*(?=\s)""",
    re.VERBOSE,
)
FOLDERS = ("jaxact", "docs", "notebooks", "examples", "benchmarks", "website", "tests")


def targets():
    """Paths to which README.md links or of which it shows the picture."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    return [*links, *re.findall(r'(?:src|srcset|href)="([^"]+)"', README)]


def test_links_are_relative_and_lead_to_files_of_the_repository():
    assert len(targets()) > 10
    elsewhere = [target for target in targets() if "://" in target]
    assert not elsewhere, f"there is no public address yet: {elsewhere}"
    missing = [target for target in targets() if not (ROOT / target).exists()]
    assert not missing


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pip install jaxact", True),
        ('pip install "jaxact[cli]"', True),
        ("`pip install -U jaxact`", True),
        ('pip install "jax[tpu]" "jaxact[examples]" &&', True),
        ('pip install -e ".[cli]" in a clone of jaxact', False),
        ('pip install "jax[tpu]" -e "./jaxact[examples]"', False),
    ],
)
def test_an_installation_from_an_index_is_told_from_one_of_a_clone(line, found):
    assert bool(FROM_AN_INDEX.search(line + "\n")) == found


def test_nothing_installs_jaxact_from_an_index():
    files = [*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*"))]
    files = [path for path in files if path.suffix in {".md", ".py", ".ipynb"}]
    assert len(files) > 200
    said = [
        f"{path.relative_to(ROOT)}: {match[0].strip()}"
        for path in files
        if path != Path(__file__)
        for match in FROM_AN_INDEX.finditer(path.read_text(encoding="utf-8").replace('\\"', '"'))
    ]
    assert not said
