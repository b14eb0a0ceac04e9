"""docs/testing.md names files, modules and sessions that exist."""

import ast
import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "testing.md").read_text()


def test_files():
    named = set(re.findall(r"(?:tests|benchmarks)/[\w/]*\w(?:\.py)?", PAGE))
    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_modules():
    named = set(re.findall(r"python -m ([\w.]+)", PAGE))
    assert named
    assert [name for name in sorted(named) if importlib.util.find_spec(name) is None] == []


def test_sessions():
    functions = {
        node.name
        for node in ast.parse((ROOT / "noxfile.py").read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    (line,) = re.findall(r"^nox --session (.*)$", PAGE, re.MULTILINE)
    named = {name.partition("(")[0].strip('"') for name in line.split()}
    assert named == {"tests", "flags"}
    assert named | set(re.findall(r"`nox --session (\w+)`", PAGE)) <= functions


def test_libraries():
    """Each that the page names is part of an extra, and imported."""
    extra = (ROOT / "pyproject.toml").read_text()
    (names,) = re.findall(r"\*\*Programs\*\* of (.*?) and others", PAGE, re.DOTALL)
    programs = "".join(path.read_text() for path in (ROOT / "tests" / "compat").glob("*.py"))
    for name in re.split(r",\s+", names):
        assert re.search(rf'"(dm-)?{name.lower()}[>=]', extra), name
        assert re.search(rf"(import|from) {name.lower().replace('-', '_')}\b", programs), name
