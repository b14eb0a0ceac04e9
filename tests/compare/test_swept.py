import dataclasses

import numpy as np
import pytest

from jaxact.compare import swept, table
from jaxact.compare.study import Cell
from tests.support import studies

RATES = [1e-4, 1e-2, 1e-1]
ARMS = ["relu", "leaky_relu", "elu"]


def over_rates(seeds=16, **changes):
    """At the last rate leaky_relu is better and elu worse, and units of relu die."""
    cells = studies.cells(ARMS, "lr", RATES)
    means = dict.fromkeys(cells, 0.9)
    means |= {Cell("leaky_relu", (("lr", 0.1),)): 0.95, Cell("elu", (("lr", 0.1),)): 0.85}
    dead = {Cell("relu", (("lr", 0.1),)): (40.0, 60.0)}
    sweep = {"name": "lr", "values": RATES}
    return studies.study(means, seeds=seeds, dead=dead, sweeps=[sweep], **changes)


def columns(study):
    return {field.words: list(field.cells) for field in table.grids([study])[0].fields}


def test_rows_are_settings_and_columns_activations():
    study = over_rates()
    found = columns(study)
    assert list(found) == [
        "lr",
        "relu accuracy %",
        "relu dead %",
        "leaky_relu accuracy %",
        "leaky_relu dead %",
        "elu accuracy %",
        "elu dead %",
    ]
    assert found["lr"] == ["0.0001", "0.01", "0.1"]
    assert found["relu dead %"] == ["0.0", "0.0", "50.0"]
    for arm in ARMS:
        for text, rate in zip(found[f"{arm} accuracy %"], RATES, strict=True):
            accuracy = study.figures[Cell(arm, (("lr", rate),))].scores["accuracy"].mean()
            assert text.removeprefix("* ").startswith(f"{100 * accuracy:.2f} ± ")


def test_a_mark_is_on_what_is_other_than_the_reference():
    found = columns(over_rates())
    for arm in ("leaky_relu", "elu"):
        assert [text.startswith("* ") for text in found[f"{arm} accuracy %"]] == [
            False,
            False,
            True,
        ]
    assert not any("*" in text for text in found["relu accuracy %"])
    said = " ".join(table.grids([over_rates()])[0].notes)
    assert "*: other than relu at the same setting, p < 0.05 in a paired test, adjusted" in said
    assert "The majority class alone: 40.00." in said
    assert "*:" not in " ".join(table.grids([over_rates(seeds=3)])[0].notes)


def test_it_fits_80_columns_and_keeps_numbers_whole():
    for width in (60, 80):
        text = table.render([over_rates()], width, False)
        assert max(map(len, text.splitlines())) <= width
        for texts in columns(over_rates()).values():
            for cell in texts:
                assert cell in text
        tables = [line for line in text.splitlines() if line.lstrip().startswith("lr ")]
        assert len(tables) == {60: 2, 80: 1}[width]


def test_networks_that_diverged_are_counted():
    study = over_rates()
    cell = Cell("elu", (("lr", 0.1),))
    lost = np.full(16, np.nan)
    study.figures[cell] = dataclasses.replace(
        study.figures[cell], final_train_loss=lost, dead_units_percent=lost
    )
    assert columns(study)["elu dead %"] == ["0.0", "0.0", "-"]
    said = table.grids([study])[0].notes
    assert "Diverged, of 16 networks each: 16 of elu, lr=0.1." in said


def test_two_axes_and_a_parameter():
    point = [(("lr", r), ("width", w)) for r in (0.1, 0.2) for w in (8, 16)]
    cells = [Cell("leaky_relu", (*p, ("negative_slope", v))) for p in point for v in (0.1, 0.2)]
    sweeps = [
        {"name": n, "values": list(v)}
        for n, v in (("lr", (0.1, 0.2)), ("width", (8, 16)), ("negative_slope", (0.1, 0.2)))
    ]
    study = studies.study(dict.fromkeys(cells, 0.9), sweeps=sweeps)
    found = columns(study)
    assert list(found)[:3] == ["lr", "width", "leaky_relu:0.1 accuracy %"]
    assert found["width"] == ["8", "16", "8", "16"]
    assert "leaky_relu:0.2 dead %" in found


def test_what_is_not_finished_is_missing():
    study = over_rates()
    del study.figures[Cell("elu", (("lr", 0.01),))]
    assert columns(study)["elu accuracy %"][1] == "-"
    assert columns(study)["relu accuracy %"][1] != "-"


@pytest.mark.parametrize(("name", "expected"), [("lr", True), ("negative_slope", False)])
def test_which_studies_have_this_table(name, expected):
    sweep = {"name": name, "values": [0.1]}
    cell = Cell("leaky_relu", ((name, 0.1),))
    assert swept.is_swept(studies.study({cell: 0.9}, sweeps=[sweep])) == expected
