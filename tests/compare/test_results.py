import copy
import dataclasses
import json
import math
from importlib.metadata import version

import jax
import numpy as np
import pytest

from jaxact._errors import CompareError
from jaxact.compare import results as stored
from jaxact.compare.data import load, split
from jaxact.compare.results import Results, configuration, differences
from jaxact.compare.settings import Settings
from jaxact.compare.study import Cell, Study, Sweep
from tests.support.studies import study as made_up

CELLS = {
    Cell("relu"): 0.9,
    Cell("prelu"): 0.92,
    Cell("leaky_relu", (("negative_slope", 0.1),)): 0.9,
}


def finished(**changes):
    return made_up(CELLS, seeds=8, **changes)


def saved(path, *studies, **options):
    path.write_text(Results(list(studies), **options).to_json())
    return stored.read(path)


def fresh(study):
    """The same study before anything is trained."""
    return Study(copy.deepcopy(study.configuration), study.cells)


def test_configuration():
    dataset = load()
    settings = Settings(
        activations=("relu", "elu"),
        seeds=3,
        epochs=2,
        sweeps=(Sweep("lr", (0.1, 0.2)),),
    )
    c = configuration(settings, dataset, split(dataset), 300.0)
    assert {name: c[name] for name in ("activations", "seeds", "splits", "epochs", "widths")} == {
        "activations": ["relu", "elu"],
        "seeds": 3,
        "splits": 1,
        "epochs": 2,
        "widths": [128, 128],
    }
    assert c["sweeps"] == [{"name": "lr", "values": [0.1, 0.2]}]
    assert (c["margin"], c["task"], c["time_budget"]) == (0.005, "classification", 300.0)
    data = c["data"]
    expected = {
        "source": "digits",
        "sha256": None,
        "target": None,
        "samples": 1797,
        "features": 64,
        "classes": 10,
        "training_samples": 1077,
        "validation_samples": 360,
        "test_samples": 360,
    }
    assert {name: data[name] for name in expected} == expected
    assert data["baseline"]["balanced_accuracy"] == pytest.approx(0.1)
    assert c["versions"]["jaxact"] == version("jaxact")
    assert c["versions"]["jax"] == jax.__version__
    assert c["device"]["platform"] == jax.default_backend()


def assert_same(one, other):
    assert one.figures.keys() == other.figures.keys()
    for cell, figures in one.figures.items():
        for field in dataclasses.fields(figures):
            a, b = getattr(figures, field.name), getattr(other.figures[cell], field.name)
            if isinstance(a, dict):
                assert a.keys() == b.keys()
                for name in a:
                    np.testing.assert_array_equal(a[name], b[name])
            else:
                np.testing.assert_array_equal(a, b)
    assert one.costs.keys() == other.costs.keys()
    for arm, cost in one.costs.items():
        np.testing.assert_array_equal(cost.ms_per_step, other.costs[arm].ms_per_step)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_what_is_written_is_read(tmp_path, task):
    """Bit for bit, and written again it is the same text."""
    study = finished(task=task, splits=2)
    path = tmp_path / "results.json"
    content = saved(path, study)
    again = fresh(study)
    stored.restore(path, content, [again])
    assert_same(study, again)
    assert Results([again]).to_json() == path.read_text()


def test_names_in_the_file(tmp_path):
    content = saved(tmp_path / "results.json", finished(), request={"seeds": 8})
    assert content["finished"]
    assert content["request"] == {"seeds": 8}
    assert content["conclusion"] == Results([finished()]).conclusion()
    assert content["configuration"]["data"]["classes"] == 3
    relu = content["arms"]["relu"]
    assert len(relu["per_seed"]["test_accuracy"]) == 8
    assert set(relu["curves"]) == {
        *("train_loss", "validation_loss", "validation_accuracy", "test_accuracy")
    }
    leaky = content["arms"]["leaky_relu:0.1"]
    assert (leaky["activation"], leaky["point"]) == ("leaky_relu", {"negative_slope": 0.1})
    summary = content["summary"]["leaky_relu:0.1"]
    assert summary["test_accuracy"]["mean"] == pytest.approx(
        np.mean(leaky["per_seed"]["test_accuracy"])
    )
    assert summary["comparison"]["verdict"] in (
        *("better", "worse", "practically equal", "no detectable difference"),
    )
    assert summary["comparison"]["difference"]["half_width"] > 0
    assert content["cost"]["relu"]["kept_bytes"] == 4096


def test_an_unfinished_study(tmp_path):
    study = finished()
    del study.figures[Cell("prelu")]
    content = saved(tmp_path / "results.json", study)
    assert not content["finished"]
    assert content["conclusion"] == []
    again = fresh(study)
    stored.restore(tmp_path / "results.json", content, [again])
    assert again.missing == [Cell("prelu")]


def test_what_is_not_finite_is_null(tmp_path):
    study = finished()
    cell = Cell("prelu")
    old = study.figures[cell]
    loss = old.final_train_loss.copy()
    loss[:2] = math.nan, math.inf
    dead = np.where(np.isfinite(loss), 1.0, math.nan)
    study.figures[cell] = dataclasses.replace(
        old, final_train_loss=loss, dead_units_percent=dead, tuned={0.1: math.inf, 0.2: 1.0}
    )
    path = tmp_path / "results.json"
    content = saved(path, study)
    prelu = content["arms"]["prelu"]
    assert prelu["per_seed"]["final_train_loss"][:3] == [None, None, 0.01]
    assert content["summary"]["prelu"]["diverged_seeds"] == 2
    again = fresh(study)
    stored.restore(path, content, [again])
    assert again.figures[cell].tuned == {0.1: math.inf, 0.2: 1.0}
    assert np.isnan(again.figures[cell].dead_units_percent[:2]).all()
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))


def test_no_file(tmp_path):
    assert stored.read(tmp_path / "results.json") is None
    study = fresh(finished())
    stored.restore(tmp_path / "results.json", None, [study])
    assert study.figures == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not ours", r"is damaged"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": ' + "9" * 401 + "}", "an integer of 401 digits"),
        ("null", "is damaged or not from jaxact compare"),
        ("[]", "is damaged or not from jaxact compare"),
        ("{}", "'format' is missing"),
        ('{"format": "jaxact-compare/1"}', "its format is 'jaxact-compare/1'"),
        ('{"format": "jaxact-compare/2"}', "'also' is missing"),
        ('{"format": "jaxact-compare/2", "also": null}', "is damaged or not from"),
        ('{"format": "jaxact-compare/2", "also": [], "configuration": 3}', "is not a table"),
    ],
)
def test_files_of_others(tmp_path, text, message):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(CompareError, match=message) as caught:
        stored.read(path)
    assert "start over with --restart" in str(caught.value)
    assert "\n" not in str(caught.value)


def edited(tmp_path, edit):
    study = finished()
    path = tmp_path / "results.json"
    content = saved(path, study)
    edit(content)
    stored.restore(path, content, [fresh(study)])


def per_seed(name, value):
    def edit(content):
        content["arms"]["relu"]["per_seed"][name][0] = value

    return edit


def at(*path, value):
    def edit(content):
        *parents, last = path
        for name in parents:
            content = content[name]
        content[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (per_seed("test_accuracy", 2.0), "test_accuracy has 2, which is not from 0 to 1"),
        (per_seed("test_accuracy", None), "test_accuracy has nan"),
        (per_seed("best_epoch", 0), "best_epoch is not from 1 to 3"),
        (per_seed("best_epoch", 1.5), "best_epoch is not from 1 to 3"),
        (per_seed("dead_units_percent", -1), "dead_units_percent has -1"),
        (per_seed("test_accuracy", "high"), "could not convert string to float"),
        (per_seed("test_accuracy", []), "inhomogeneous"),
        (lambda c: c["arms"]["relu"]["per_seed"]["best_epoch"].pop(), r"has the shape \(7,\)"),
        (lambda c: c["arms"]["relu"].pop("curves"), "'curves' is missing"),
        (at("arms", "relu", "dead_by_layer", value=[]), "dead_by_layer has the shape"),
        (at("arms", "relu", "learning_rate", value=None), "damaged"),
        (at("arms", value=None), "damaged"),
        (at("arms", value={"gelu": 1}), "arms that its configuration has not: gelu"),
        (at("cost", "relu", "ms_per_step", value=[0.0]), "is not a list of times"),
        (at("cost", "relu", value=None), "damaged"),
    ],
)
def test_damage(tmp_path, edit, message):
    with pytest.raises(CompareError, match=message) as caught:
        edited(tmp_path, edit)
    assert "is damaged" in str(caught.value) and "--restart" in str(caught.value)


def test_another_configuration(tmp_path):
    with pytest.raises(CompareError, match="epochs is 9 there and 3 here. To compare with this"):
        edited(tmp_path, at("configuration", "epochs", value=9))


def test_differences():
    one, other = {"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3, "d": [4]}}
    assert differences(one, other, "there", "here") == (
        "b.c is 2 there and 3 here; b.d is null there and [4] here"
    )
    assert differences(one, copy.deepcopy(one), "there", "here") == ""
    many = {str(i): i for i in range(9)}
    assert differences({}, many, "there", "here").endswith("; and 4 more")
