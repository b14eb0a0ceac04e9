import dataclasses
import re

import numpy as np
import pytest

from jaxact.compare import table
from jaxact.compare.statistics import summarize
from jaxact.compare.study import Cell
from jaxact.compare.table import COLUMNS, Column
from tests.support import studies

RELU, ELU, GELU = Cell("relu"), Cell("elu"), Cell("gelu")
MEANS = {RELU: 0.95, ELU: 0.90, GELU: 0.951}


def columns(study):
    """The texts of each column, by its heading."""
    return {field.words: list(field.cells) for field in table.grids([study])[0].fields}


def changed(study, cell, **changes):
    """The study with other figures of a cell."""
    study.figures[cell] = dataclasses.replace(study.figures[cell], **changes)
    return study


def test_the_figures_of_a_classification():
    study = studies.study(MEANS, dead={RELU: (10.0, 20.0)}, ms={"elu": 2.0})
    found = columns(study)
    assert list(found) == [
        "activation",
        "accuracy %",
        "balanced accuracy %",
        "difference to relu, points",
        "verdict",
        "dead units %",
        "ms/step",
        "kept memory",
        "final training loss",
        "effect size",
        "p (Holm)",
        "smallest detectable difference, points",
    ]
    accuracies = {cell: 100 * f.scores["accuracy"] for cell, f in study.figures.items()}
    means = [text.split(" ± ")[0] for text in found["accuracy %"]]
    assert means == [*(f"{a.mean():.2f}" for a in accuracies.values()), "40.00"]
    half = float(found["accuracy %"][0].split(" ± ")[1])
    expected = 2.13 * accuracies[RELU].std(ddof=1) / 4  # Student's t of 15 degrees
    assert half == pytest.approx(expected, rel=0.15)
    difference = (accuracies[ELU] - accuracies[RELU]).mean()
    assert found["difference to relu, points"][0] == "-"
    assert found["difference to relu, points"][1].startswith(f"{difference:+.2f} ± ")
    assert found["verdict"] == ["-", "worse", "practically equal", ""]
    assert found["dead units %"] == ["15.0", "0.0", "0.0", ""]
    assert found["activation"] == ["relu", "elu", "gelu", "majority class"]
    assert found["kept memory"][:3] == ["4.0 KiB"] * 3
    assert found["final training loss"][0] == "0.0100"
    assert float(found["ms/step"][1].split(" ± ")[0]) == pytest.approx(2.0, rel=0.05)
    assert found["p (Holm)"][1] == "<0.001"
    compared = summarize(study)[ELU].comparison
    assert found["effect size"] == ["-", f"{compared.effect_size:+.2f}", *found["effect size"][2:]]
    smallest = found["smallest detectable difference, points"]
    assert smallest[:2] == ["-", f"{100 * compared.smallest_detectable:.2f}"]


def test_the_figures_of_a_regression():
    found = columns(studies.study({RELU: 0.8, ELU: 0.7}, task="regression", margin=0.0))
    assert {"R²", "RMSE", "difference to relu, R²"} <= set(found)
    assert re.fullmatch(r"-0\.\d{3} ± 0\.\d{3}", found["difference to relu, R²"][1])
    assert found["activation"][-1] == "mean"
    assert found["R²"][-1] == found["RMSE"][-1] == "0.400"


def test_a_loss_has_one_score_and_no_baseline():
    study = studies.study({RELU: 0.8, ELU: 0.7}, task="loss")
    study.configuration["data"]["baseline"] = {}
    found = columns(study)
    assert found["activation"] == ["relu", "elu"]
    assert "loss" in found
    assert not [name for name in found if "balanced" in name]


def test_networks_that_diverged():
    study = studies.study(MEANS)
    loss = np.full(16, 0.01)
    loss[:3] = np.nan
    changed(study, ELU, final_train_loss=loss)
    lost = np.full(16, np.nan)
    changed(study, GELU, final_train_loss=lost, dead_units_percent=lost)
    found = columns(study)
    assert found["runs diverged"] == ["0 of 16", "3 of 16", "16 of 16", ""]
    assert found["dead units %"][:3] == ["0.0", "0.0", "-"]
    assert found["final training loss"][:3] == ["0.0100", "0.0100", "-"]
    assert "16 of 16" in table.render([study], 80, False)
    assert "runs diverged" not in columns(studies.study(MEANS))


def test_the_rate_that_tuning_took():
    study = studies.study(MEANS, tune=[1e-3, 3e-3])
    changed(study, ELU, learning_rate=3e-3)
    assert columns(study)["learning rate"] == ["0.001", "0.003", "0.001", ""]
    assert "learning rate" not in columns(studies.study(MEANS))


def test_one_run_of_one_activation():
    study = studies.study({RELU: 0.9}, seeds=1)
    study.costs.clear()
    found = columns(study)
    assert re.fullmatch(r"\d\d\.\d\d", found["accuracy %"][0])
    assert not {"verdict", "ms/step", "kept memory", "effect size"} & set(found)
    text = " ".join(table.render([study], 80, False).split())
    assert "One run of each: without an interval, nothing can be concluded." in text


def test_a_study_that_is_not_finished():
    study = studies.study(MEANS)
    del study.figures[ELU]
    assert columns(study)["activation"] == ["relu", "gelu", "majority class"]
    study.figures.clear()
    assert columns(study)["activation"] == ["majority class"]
    assert table.render([study], 80, False)
    assert table.markdown([study])


DEFAULT = ("relu", "leaky_relu:0.01", "leaky_relu:0.2", "prelu", "rrelu", "elu", "gelu")


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_terminal_keeps_what_matters(width):
    study = studies.study({Cell(a): 0.97 - 0.002 * i for i, a in enumerate(DEFAULT)})
    text = table.render([study], width, False)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    for name, texts in columns(study).items():
        for cell in texts:
            # A row of each activation, its score and its difference in one piece.
            if name in ("activation", "accuracy %", "difference to relu, points"):
                assert any(cell in line for line in lines)
    assert "verdict" in text
    assert ("ms/step" in lines[3]) == (width >= 80)
    # Their intervals where there is room.
    assert ("1.00 ± 0" in text) == (width >= 160)
    assert ("effect" in text) == (width >= 160)


def test_columns_have_an_order_of_importance():
    """Those that never go are first, and each of the others goes alone."""
    ranks = [column.importance for column in COLUMNS]
    assert ranks.count(0) == 2
    assert sorted(set(ranks)) == sorted({0, 1, *(r for r in ranks if ranks.count(r) == 1)})


def test_a_column_is_a_row_of_the_list(monkeypatch):
    column = Column(lambda s: "seconds", lambda s, row: f"{s.figures[row.cell].seconds:.0f} s", 99)
    monkeypatch.setattr(table, "COLUMNS", [*COLUMNS, column])
    study = studies.study(MEANS)
    assert columns(study)["seconds"] == ["1 s", "1 s", "1 s", ""]
    assert "seconds" in table.markdown([study])


def notes(**changes):
    study = studies.study(MEANS, **changes)
    return " ".join(table.grids([study])[0].notes)


def test_what_intervals_cover():
    one = notes()
    assert "95% interval over 16 seeds" in one
    assert "on one split of the samples (600/200/200); it does not cover the choice" in one
    several = notes(seeds=3, splits=5)
    assert "95% interval over 5 random splits of the samples (600/200/200) with 3 seeds" in several
    assert "it covers the choice of the samples too" in several


def test_verdicts_are_explained_where_they_occur():
    said = notes()
    assert "Better, worse: p < 0.05 in a paired test, adjusted for 2 comparisons (Holm)." in said
    assert "Practically equal: the interval is within ±0.5 points of 0 (--margin)." in said
    assert "No detectable difference" not in said
    assert "Too few runs" not in said
    assert "No detectable difference" in notes(margin=0.0)
    assert "Too few runs" in notes(seeds=3, margin=0.0)
    alone = studies.study({RELU: 0.9, ELU: 0.8})
    assert "Holm)." not in " ".join(table.grids([alone])[0].notes)


def test_titles():
    def title(means=MEANS, **changes):
        return table.grids([studies.study(means, **changes)])[0].title

    assert title() == ("made-up.csv, label: MLP of widths 128, 128; 16 seeds, 3 epochs, float32")
    assert "; 2 splits x 1 seed, 1 epoch, float32" in title(seeds=1, splits=2, epochs=1)
    assert "my:net; 16 seeds" in title(model="my:net", widths=[])
    axis = {"name": "width", "values": [8]}
    cells = studies.cells(["relu"], "width", [8])
    assert "MLP, over width; 16 seeds" in title(dict.fromkeys(cells, 0.9), sweeps=[axis])


def test_a_swept_parameter_has_a_row_for_each_value():
    cells = [RELU, *(Cell("leaky_relu", (("negative_slope", v),)) for v in (0.01, 0.1))]
    sweep = {"name": "negative_slope", "values": [0.01, 0.1]}
    study = studies.study(dict.fromkeys(cells, 0.9), sweeps=[sweep])
    assert columns(study)["activation"][:3] == ["relu", "leaky_relu:0.01", "leaky_relu:0.1"]


def test_markdown_has_each_study_and_what_it_was_computed_with():
    study = studies.study(MEANS)
    text = table.markdown([study, study])
    lines = text.splitlines()
    assert lines[0] == (
        "## made-up.csv, label: MLP of widths 128, 128; 16 seeds, 3 epochs, float32"
    )
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 * (2 + 3 + 1)
    assert len({line.count("|") for line in rows}) == 1
    assert rows[2].startswith("| relu | ")
    assert lines[-1] == "jaxact 0.1.0, jax 0.10.2; cpu (cpu)."
    assert text.count("jax 0.10.2") == 1


def test_rows_are_computed_once(monkeypatch):
    calls = []
    monkeypatch.setattr(table, "summarize", lambda study: calls.append(1) or summarize(study))
    table.render([studies.study(MEANS)], 80, False)
    assert len(calls) == 1
