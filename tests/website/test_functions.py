"""The pages of the activations: none is missing, and what they say is so."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import jaxact
from tests.support.table import TABLE
from website import family, figures, functions, gallery, plots
from website.shown import PARAMETERS, kinks, shown

ROOT = Path(__file__).parent.parent.parent
SECTIONS = [
    "Limits",
    "What the backward pass keeps",
    "Accuracy",
    "Speed",
    "Names in other libraries",
    "Related",
]


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading."""
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+) \|$", section, re.MULTILINE)
    return [row.split(" | ") for row in rows[1:]]


def test_the_gallery_has_every_activation():
    gallery.check()
    page = gallery.page()
    for name in jaxact.ACTIVATIONS:
        assert f"<br>{name}]({name}.md)" in page


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({}, "identity is in no group"),
        (gallery.GROUPS | {"More": ("relu",)}, "relu is in Rectifiers and More"),
        (gallery.GROUPS | {"More": ("no_such",)}, "no_such"),
    ],
)
def test_a_gallery_that_is_not_complete_is_an_error(monkeypatch, tmp_path, groups, message):
    monkeypatch.setattr(gallery, "GROUPS", groups)
    with pytest.raises(ValueError, match=message):
        functions.write(tmp_path, draw=False)


def test_every_activation_has_a_page(monkeypatch, tmp_path):
    monkeypatch.setattr(functions, "page", lambda name: f"# {name}\n")
    functions.write(tmp_path, draw=False)
    assert {path.stem for path in tmp_path.glob("*.md")} == {*jaxact.ACTIVATIONS, "index"}


@pytest.mark.parametrize("name", ["relu", "prelu", "crelu", "clamped_swiglu"])
def test_a_page_has_its_sections_in_order(name, tmp_path):
    functions.write(tmp_path, [name])
    page = (tmp_path / f"{name}.md").read_text()
    assert f"\n---\n\n# {name}\n" in page
    assert f"::: jaxact.{name}\n" in page
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == SECTIONS
    linked = set(re.findall(r"\((figures/[\w-]+\.svg)#only", page))
    assert linked == {f"figures/{name}-{theme}.svg" for theme in ("light", "dark")}
    for path in (*linked, f"figures/{name}-small-light.svg", f"figures/{name}-small-dark.svg"):
        assert (tmp_path / path).read_text().startswith("<?xml")


@pytest.mark.parametrize(("name", "first"), [("swish", "silu"), ("hard_swish", "hard_silu")])
def test_a_second_name_has_a_page_that_says_so(name, first):
    page = functions.page(name)
    assert f"is another name of [`jaxact.{first}`]({first}.md)" in page
    assert "## Limits" not in page


def test_limits_are_those_of_the_function():
    rows = {row[0]: row[1:] for row in table(functions.limits(shown("relu6")), "Limits")}
    assert rows["just below 6"] == ["6", "1"]
    assert rows["6"] == rows["+∞"] == ["6", "0"]
    assert rows["NaN"] == ["NaN", "NaN"]
    rows = {row[0]: row[1:] for row in table(functions.limits(shown("leaky_relu")), "Limits")}
    assert rows["−∞"] == ["−∞", "0.01"]
    assert (rows["just below 0"], rows["0"]) == (["0", "0.01"], ["0", "1"])


def test_a_periodic_slope_has_no_limit():
    rows = {row[0]: row[1:] for row in table(functions.limits(shown("snake")), "Limits")}
    assert rows["+∞"] == ["∞", "1 (returned; there is no limit)"]


def test_what_is_kept():
    rows = {row[0]: row[1:] for row in table(functions.kept(shown("relu")), SECTIONS[1])}
    assert rows['`"mask"`'] == ["1 bit an element", "0.125", "0.125"]
    assert rows['`"input"`'] == ["the input", "4", "2"]
    assert rows["`jax.nn.relu`"] == ["a mask of booleans", "1", "1"]
    rows = {row[0]: row[1:] for row in table(functions.kept(shown("crelu")), SECTIONS[1])}
    assert rows['`"mask"`'] == ["2 bits an element", "0.25", "0.25"]
    ((_, *row),) = table(functions.kept(shown("swiglu")), SECTIONS[1])
    assert row == ["both inputs", "8", "4"]


def test_accuracy_is_that_of_the_benchmark():
    rows = json.loads((ROOT / "accuracy.json").read_text())["rows"]
    found = {
        key: max(
            row[key]
            for row in rows
            if row["function"].split(":")[0] == "elu"
            and (row["dtype"], row["library"]) == ("float32", "jaxact")
        )
        for key in ("value", "gradient")
    }
    line = next(row for row in table(functions.accuracy("elu"), "Accuracy") if row[0] == "float32")
    assert line[1:3] == [f"{found['value']:.2f}", f"{found['gradient']:.2f}"]


def test_speed_is_that_of_the_page():
    page = functions.speed("gelu")
    lines = (ROOT / "docs" / "speed.md").read_text().splitlines()
    ratios = {}
    for line in lines:
        cells = line.strip("| ").split(" | ")
        if len(cells) == 10 and cells[0].startswith("gelu"):
            ratios[cells[6]] = cells[3]
    assert len(ratios) > 8
    for ratio, time in ratios.items():
        assert f" {time} ({ratio}) " in page
    assert f"worst {min(map(float, ratios))} " in page
    assert "| v6e, forward, `approximate=False` | " in page


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in TABLE
        if row.id == row.name and row.name not in {*PARAMETERS, "crelu", "surrogate_relu"}
    ],
    ids=repr,
)
def test_kinks_are_where_the_slope_jumps(row):
    jumps = [
        kink
        for kink in row.kinks
        if not math.isclose(
            *map(float, row.slope(np.array([kink - 1e-9, kink + 1e-9]))), abs_tol=1e-6
        )
    ]
    assert kinks(shown(row.name)) == jumps


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("elu", [(0, -1, -1)]),
        ("tanh_shrink", [(1, 1, -1), (1, -1, 1)]),
        ("softplus", [(0, 0, -1), (1, 0, 1)]),
        ("relu6", []),
        ("snake", []),
    ],
)
def test_asymptotes(name, lines):
    assert plots._asymptotes(shown(name)) == lines


def test_the_picture_of_the_family_is_of_this_version():
    drawing = figures.svg(family.picture())
    for theme, text in (("light", drawing), ("dark", figures.dark(drawing))):
        path = ROOT / "docs" / f"family-{theme}.svg"
        assert family.same(path.read_text(), text), f"{path.name}: run python -m website.family"
    assert not family.same(drawing, drawing.replace("selu", "sole"))
    assert not family.same(drawing, figures.dark(drawing))
