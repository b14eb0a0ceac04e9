"""A comparison from beginning to end: what is trained, what is written, and which errors it ends
with. No test of this file trains: what comes out of a program is made up."""

import dataclasses
import errno
import json
import os
import pathlib

import numpy as np
import pytest

from jaxact._errors import CompareError
from jaxact.compare import results as stored, run
from jaxact.compare.data import load
from jaxact.compare.settings import Settings
from jaxact.compare.study import Cost, Sweep
from jaxact.compare.training import Trained

SETTINGS = Settings(activations=("relu", "elu", "gelu"), seeds=8, epochs=2, widths=(3,))
FILES = ["curves.png", "report.html", "results.json", "table.md"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "two.csv"
    random = np.random.default_rng(0)
    rows = [
        f"{a:.3f},{b:.3f},{'xy'[i % 2]}" for i, (a, b) in enumerate(random.normal(size=(60, 2)))
    ]
    path.write_text("\n".join(["a,b,kind", *rows]))
    return load(path, "kind")


@pytest.fixture
def trained(monkeypatch):
    """What has been trained, in order; the cost is made up too."""
    labels = []

    def train(program, data, on_epoch, positions, devices, keep):
        labels.append(program.label)
        for epoch in range(program.settings.epochs):
            on_epoch(epoch + 1)
        count, epochs = len(positions), program.settings.epochs
        shape = (len(data), count, epochs)
        names = ("train_loss", "validation_loss", "validation_accuracy")
        scores = ("test_accuracy", "test_balanced_accuracy")
        seeds = np.broadcast_to(np.linspace(0.5, 0.9, count)[:, None], shape)
        return Trained(
            history={n: np.full(shape, 0.5) for n in names} | dict.fromkeys(scores, seeds),
            dead_by_layer=np.zeros((*shape, 1)),
            dead=np.zeros(shape[:2]),
            slopes=np.zeros((*shape[:2], 0)),
            seconds=2.0,
        )

    def measure(settings, data, kept):
        first = settings.cells[0].setting
        arms = [c.arm for c in settings.cells if c.setting == first]
        return {arm: Cost(np.linspace(1, 1.1, 5), 8, 64) for arm in arms}

    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(run.cost, "measure", measure)
    return labels


def compare(settings, dataset, out, **options):
    """Everything, reports included."""
    found = run.compare(settings, dataset, out, **options)
    assert run.write_reports(found, out) == []
    return found


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def full_disk(monkeypatch, name, after=0):
    """The disk has no space for a file of that name, once it has been written ``after`` times."""
    replace, count = os.replace, 0

    def fail(source, destination):
        nonlocal count
        if pathlib.Path(destination).name == name:
            count += 1
            if count > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, destination)

    monkeypatch.setattr(os, "replace", fail)


def test_everything_is_trained_once_and_written(tmp_path, trained, dataset):
    out = tmp_path / "new" / "folder"
    found = compare(SETTINGS, dataset, out)
    assert sorted(trained) == sorted(SETTINGS.activations)
    assert [cell.label for cell in found.studies[0].figures] == list(SETTINGS.activations)
    assert names(out) == FILES
    before = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    again = compare(SETTINGS, dataset, out)
    assert len(trained) == 3
    assert {p: p.stat().st_mtime_ns for p in out.iterdir()} == before
    assert again.to_json() == found.to_json() == (out / "results.json").read_text()


def test_two_studies(tmp_path, trained, dataset):
    other = dataclasses.replace(SETTINGS, sweeps=(Sweep("lr", (0.1, 0.2)), Sweep("width", (2, 3))))
    found = compare([SETTINGS, other], dataset, tmp_path)
    assert len(trained) == 3 + 3 * 2  # the rates of a width train together
    content = json.loads((tmp_path / "results.json").read_text())
    assert list(content["arms"]) == ["relu", "elu", "gelu"]
    (second,) = content["also"]
    assert list(second["arms"])[:2] == ["relu, lr=0.1, width=2", "elu, lr=0.1, width=2"]
    assert len(second["arms"]) == 12
    assert compare([SETTINGS, other], dataset, tmp_path).to_json() == found.to_json()
    assert len(trained) == 9
    with pytest.raises(CompareError, match="has 2 studies, this command 1"):
        run.compare(SETTINGS, dataset, tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_full_disk(tmp_path, trained, monkeypatch, name, dataset):
    """No file is there by half; the same call with space trains nothing that is stored. What cannot
    be drawn costs nothing else."""
    with monkeypatch.context() as patch:
        full_disk(patch, name)
        if name == "results.json":
            with pytest.raises(CompareError, match=rf"{name} cannot be written \(No space left on"):
                run.compare(SETTINGS, dataset, tmp_path)
        else:
            found = run.compare(SETTINGS, dataset, tmp_path)
            (failure,) = run.write_reports(found, tmp_path)
            assert failure.startswith(f"{name} is not written: {tmp_path / name} cannot be written")
    assert names(tmp_path) == ([] if name == "results.json" else sorted({*FILES} - {name}))
    trained.clear()
    found = compare(SETTINGS, dataset, tmp_path)
    assert len(trained) == (3 if name == "results.json" else 0)
    assert found.finished
    assert names(tmp_path) == FILES


def test_a_drawing_that_fails_costs_itself(tmp_path, trained, monkeypatch, dataset):
    def fail(*arguments):
        raise ZeroDivisionError("no axis")

    monkeypatch.setattr(run.drawings, "curves", fail)
    found = run.compare(SETTINGS, dataset, tmp_path)
    assert run.write_reports(found, tmp_path) == ["curves.png is not written: no axis"]
    assert names(tmp_path) == ["report.html", "results.json", "table.md"]


def test_a_disk_that_fills_up_keeps_the_arms_before(tmp_path, trained, monkeypatch, dataset):
    plan = run.devices.plan
    monkeypatch.setattr(run.devices, "plan", lambda programs: plan(programs[:1]))
    with monkeypatch.context() as patch:
        full_disk(patch, "results.json", after=2)
        with pytest.raises(CompareError, match="No space left"):
            run.compare(SETTINGS, dataset, tmp_path)
    assert trained == ["relu", "elu", "gelu"]
    trained.clear()
    compare(SETTINGS, dataset, tmp_path)
    assert trained == ["gelu"]


def test_costs_that_are_missing_are_measured_without_training(
    tmp_path, trained, monkeypatch, dataset
):
    measure = run.cost.measure

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run.cost, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.compare(SETTINGS, dataset, tmp_path)
    assert not json.loads((tmp_path / "results.json").read_text())["finished"]
    monkeypatch.setattr(run.cost, "measure", measure)
    trained.clear()
    assert compare(SETTINGS, dataset, tmp_path).finished
    assert trained == []


def test_another_configuration(tmp_path, trained, dataset):
    compare(SETTINGS, dataset, tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    other = dataclasses.replace(SETTINGS, epochs=3)
    with pytest.raises(CompareError, match="epochs is 2 there and 3 here"):
        run.compare(other, dataset, tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    trained.clear()
    found = compare(other, dataset, tmp_path, restart=True)
    assert found.studies[0].configuration["epochs"] == 3
    assert sorted(trained) == sorted(SETTINGS.activations)
    assert all(p.read_bytes() != before[p] for p in before)


def test_a_time_budget_decides_once(tmp_path, trained, monkeypatch, dataset):
    """The number of seeds is stored, and kept by a run that goes on on a slower machine."""
    asked = []

    def seeds(studies, data, seconds):
        asked.append(seconds)
        return {1: 12, 2: 3}[len(asked)]

    monkeypatch.setattr(run.budget, "seeds", seeds)
    found = compare(SETTINGS, dataset, tmp_path, time_budget=300.0)
    assert found.studies[0].configuration["seeds"] == 12
    again = compare(SETTINGS, dataset, tmp_path, time_budget=300.0)
    assert again.to_json() == found.to_json()
    assert asked == [300.0]
    with pytest.raises(CompareError, match="time_budget is 300.0 there and 60.0 here"):
        run.compare(SETTINGS, dataset, tmp_path, time_budget=60.0)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_removed(tmp_path, trained, name, dataset):
    (tmp_path / name).mkdir()
    with pytest.raises(CompareError, match=rf"{name} cannot be removed \("):
        run.compare(SETTINGS, dataset, tmp_path, restart=True)
    assert trained == []


def test_a_folder_that_cannot_be_made(tmp_path, trained, dataset):
    (tmp_path / "file").write_text("")
    with pytest.raises(CompareError, match=r"file: cannot be made \(File exists"):
        run.compare(SETTINGS, dataset, tmp_path / "file")
    assert trained == []


def test_a_folder_that_cannot_be_written(tmp_path, trained, monkeypatch, dataset):
    """It shows the results that it has, and refuses to go on without them."""
    complete, empty = tmp_path / "complete", tmp_path / "empty"
    found = compare(SETTINGS, dataset, complete)
    empty.mkdir()
    trained.clear()
    open_file = os.open

    def read_only(path, flags, *rest, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(tmp_path) in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return open_file(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", read_only)
    assert compare(SETTINGS, dataset, complete).to_json() == found.to_json()
    with pytest.raises(CompareError, match=f"--out {empty}: cannot be written"):
        run.compare(SETTINGS, dataset, empty)
    assert trained == []


def test_two_runs_in_one_folder(tmp_path, trained, dataset):
    """The second is refused at once; after the first has ended it may go on."""

    def second(doing, share):
        with pytest.raises(CompareError, match="in use by another run"):
            run.compare(SETTINGS, dataset, tmp_path)

    run.compare(SETTINGS, dataset, tmp_path, progress=second)
    assert len(trained) == 3
    assert stored.read(tmp_path / "results.json")["finished"]
    compare(SETTINGS, dataset, tmp_path)
