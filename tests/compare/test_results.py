import dataclasses
import json
from importlib.metadata import version

import jax
import numpy as np
import pytest

from jaxact._files import write_atomically
from jaxact.compare import CompareError, Results, Settings, load, results as results_module
from jaxact.compare.data import split
from jaxact.compare.results import configuration
from jaxact.compare.training import Arm, Curves

SETTINGS = Settings(activations=("relu", "elu"), seeds=3, epochs=2)


def config(settings=SETTINGS):
    dataset = load()
    return configuration(settings, dataset, split(dataset))


def arm(seed=0, seeds=3, epochs=2):
    rng = np.random.default_rng(seed)
    curves = Curves(*(rng.uniform(size=(seeds, epochs)) for _ in Curves._fields))
    return Arm(
        best_epoch=np.arange(seeds) % epochs + 1,
        test_accuracy=rng.uniform(size=seeds),
        final_train_loss=rng.uniform(size=seeds),
        dead_units_percent=100 * rng.integers(7, size=seeds) / 7,
        curves=curves,
        ms_per_step=1.25,
        seconds=3.0,
    )


def save(path, results):
    write_atomically(path, results.to_json().encode())


def test_configuration():
    c = config()
    assert set(c) == {
        *("activations", "seeds", "epochs", "widths", "learning_rate", "batch_size", "dtype"),
        *("optimizer", "initializer", "data", "versions", "device"),
    }
    assert c["activations"] == ["relu", "elu"]
    assert c["data"] == {
        "source": "digits",
        "sha256": None,
        "target": None,
        "samples": 1797,
        "features": 64,
        "classes": 10,
        "training_samples": 1077,
        "validation_samples": 360,
        "test_samples": 360,
        "split": "stratified, seed 0",
    }
    settings = dataclasses.asdict(SETTINGS) | {"activations": ["relu", "elu"], "widths": [128, 128]}
    assert {name: c[name] for name in settings} == settings
    assert c["versions"] == {n: version(n) for n in ("jaxact", "jax", "flax", "optax")}
    device = jax.devices()[0]
    assert c["device"] == {"platform": device.platform, "kind": device.device_kind}
    assert json.loads(json.dumps(c)) == c


def test_round_trip_is_exact(tmp_path):
    first = Results(config(), {"relu": arm(0), "elu": arm(1)})
    save(tmp_path / "results.json", first)
    second = results_module.load(tmp_path / "results.json", config())
    assert list(second.arms) == ["relu", "elu"]
    assert second.missing == []
    for name in first.arms:
        a, b = (dataclasses.asdict(r.arms[name]) for r in (first, second))
        for field in a:
            np.testing.assert_array_equal(a[field], b[field], err_msg=field)
    assert second.to_json() == first.to_json()
    # In the order of the configuration, not of the file.
    save(tmp_path / "results.json", Results(config(), dict(reversed(first.arms.items()))))
    assert results_module.load(tmp_path / "results.json", config()).to_json() == first.to_json()


def test_schema():
    text = Results(config(), {"relu": arm(0), "elu": arm(1)}).to_json()
    assert '        "best_epoch": [ 1, 2, 1 ],\n' in text  # numbers side by side
    content = json.loads(text)
    assert list(content) == ["format", "configuration", "finished", "arms", "summary"]
    assert content["format"] == "jaxact-compare/1"
    assert content["finished"] is True
    assert list(content["arms"]) == list(content["summary"]) == ["relu", "elu"]
    for one in content["arms"].values():
        assert list(one) == ["per_seed", "curves", "timing"]
        assert [(name, len(v)) for name, v in one["per_seed"].items()] == [
            ("test_accuracy", 3),
            ("best_epoch", 3),
            ("final_train_loss", 3),
            ("dead_units_percent", 3),
        ]
        assert [(name, np.shape(v)) for name, v in one["curves"].items()] == [
            ("train_loss", (3, 2)),
            ("validation_loss", (3, 2)),
            ("validation_accuracy", (3, 2)),
            ("test_accuracy", (3, 2)),
        ]
        assert list(one["timing"]) == ["ms_per_step", "seconds"]
    row = content["summary"]["elu"]
    assert list(row) == [
        *("test_accuracy", "difference", "verdict", "final_train_loss", "diverged_seeds"),
        *("dead_units_percent", "ms_per_step"),
    ]
    assert list(row["difference"]) == ["mean", "half_width", "level", "low", "high"]
    assert row["difference"]["level"] == pytest.approx(0.95)
    assert content["summary"]["relu"]["difference"] is None


def test_unfinished():
    results = Results(config(), {"relu": arm()})
    assert results.missing == ["elu"]
    content = json.loads(results.to_json())
    assert content["finished"] is False
    assert list(content["summary"]) == ["relu"]
    assert Results(config(), {}).summary() == {}


def test_what_is_not_finite_is_null(tmp_path):
    diverged = dataclasses.replace(arm(), final_train_loss=np.array([np.nan, np.inf, 1.0]))
    results = Results(config(), {"relu": diverged})
    text = results.to_json()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["arms"]["relu"]["per_seed"]["final_train_loss"] == [None, None, 1.0]
    save(tmp_path / "results.json", results)
    again = results_module.load(tmp_path / "results.json", config())
    np.testing.assert_array_equal(again.arms["relu"].final_train_loss, [np.nan, np.nan, 1.0])
    assert again.to_json() == text


def test_no_file_is_no_arm(tmp_path):
    assert results_module.load(tmp_path / "results.json", config()).missing == ["relu", "elu"]


def test_another_configuration_shows_each_difference(tmp_path):
    path = tmp_path / "results.json"
    save(path, Results(config(), {"relu": arm()}))
    other = config(dataclasses.replace(SETTINGS, epochs=5, activations=("relu", "gelu")))
    other["versions"]["jax"] = "9.9"
    with pytest.raises(CompareError) as caught:
        results_module.load(path, other)
    message = str(caught.value)
    assert 'activations is ["relu", "elu"] there and ["relu", "gelu"] here' in message
    assert "epochs is 2 there and 5 here" in message
    assert f'versions.jax is "{config()["versions"]["jax"]}" there and "9.9" here' in message
    assert "--restart" in message and "--out" in message
    assert message.count(" there and ") == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "damaged or not from jaxact compare"),
        ('{"format": "jaxact-comp', "damaged or not from jaxact compare"),
        ("[1, 2]", "damaged or not from jaxact compare"),
        ('{"accuracy": 3}', r"not from jaxact compare \('format' is missing\)"),
        ('{"format": "else/2"}', r"its format is 'else/2', not 'jaxact-compare/1'"),
        ('{"format": "jaxact-compare/1"}', r"\('configuration' is missing\)"),
        ('{"format": "jaxact-compare/1", "configuration": 3}', "configuration is not a table"),
    ],
)
def test_foreign_or_damaged_files(tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(CompareError, match=message) as caught:
        results_module.load(path, config())
    assert "--restart" in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(CompareError, match="damaged or not from jaxact compare"):
        results_module.load(path, config())
    path.unlink()
    path.mkdir()
    with pytest.raises(CompareError, match=r"cannot be read \(Is a directory\)"):
        results_module.load(path, config())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["arms"]["relu"]["per_seed"].pop("best_epoch"), "'best_epoch' is missing"),
        (lambda c: c["arms"]["relu"]["per_seed"]["test_accuracy"].pop(), r"shape \(2,\), not \(3,"),
        (lambda c: c["arms"]["relu"].pop("timing"), "'timing' is missing"),
        (lambda c: c["arms"]["relu"]["timing"].pop("ms_per_step"), "'ms_per_step' is missing"),
        (lambda c: c["arms"]["relu"]["timing"].update(seconds=None), "must be a string or a real"),
        (lambda c: c["arms"]["relu"]["curves"].update(train_loss=["x"]), "could not convert"),
        (lambda c: c["arms"].update(mish={}), "arms that its configuration has not"),
        (lambda c: c.pop("arms"), "'arms' is missing"),
    ],
)
def test_damaged_arms(tmp_path, change, message):
    path = tmp_path / "results.json"
    content = json.loads(Results(config(), {"relu": arm()}).to_json())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CompareError, match=message):
        results_module.load(path, config())
