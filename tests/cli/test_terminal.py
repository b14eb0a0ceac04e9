"""Texts for terminals that show ASCII alone."""

import ast
import re
from pathlib import Path

import jaxact
from jaxact._cli.terminal import in_ascii


def test_in_ascii():
    assert in_ascii("R² ≥ 0.8 ± 0.1; 3 × 2 µs … “naïve” −1") == (
        'R^2 >= 0.8 +/- 0.1; 3 x 2 us ... "naive" -1'
    )
    assert in_ascii("╭──┬──╮ │ █▏ ┃ ━ ┡") == "+--+--+ | ## | - +"
    assert in_ascii("λ = Δη") == "lambda = deltaeta"
    assert in_ascii("日 \udcff") == "? ?"


def test_all_that_the_command_says_has_a_substitute():
    """Nothing of its own becomes a question mark."""
    package = Path(jaxact.__file__).parent
    rooms = ("_cli", "compare", "_report", "_text.py", "_user_code.py")
    files = [f for room in rooms for f in (*package.glob(room), *(package / room).rglob("*.py"))]
    texts = {
        node.value
        for file in files
        if file.is_file() and file.name not in ("terminal.py", "page.py", "drawings.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    characters = set(re.findall(r"[^\x00-\x7f]", "".join(texts)))
    assert "±" in characters
    assert {c for c in characters if "?" in in_ascii(c)} == set()
