"""A comparison from beginning to end: what is trained, what is written, and which errors it ends
with. No test of this file trains: an arm is made up."""

import dataclasses
import errno
import os
import pathlib

import numpy as np
import pytest

from jaxact.compare import CompareError, Settings, compare, run
from jaxact.compare.data import Dataset
from jaxact.compare.training import Arm, Curves

SETTINGS = Settings(activations=("relu", "elu", "gelu"), seeds=2, epochs=2, widths=(3,))
FILES = ["curves.png", "results.json", "table.md"]


def dataset():
    labels = np.arange(50, dtype=np.int32) % 2
    return Dataset(np.stack([labels, 1 - labels], 1).astype(float), labels, ("a", "b"), "test")


@pytest.fixture
def trained(monkeypatch):
    """The activations that have been trained, in order."""
    activations = []

    def train(activation, settings, data, on_epoch, seeds, devices):
        activations.append(activation)
        for epoch in range(settings.epochs):
            on_epoch(epoch + 1)
        count = len(seeds)
        return Arm(
            test_accuracy=np.linspace(0.5, 0.9, count),
            best_epoch=np.ones(count, int),
            final_train_loss=np.ones(count),
            dead_units_percent=np.zeros(count),
            curves=Curves(*np.full((len(Curves._fields), count, settings.epochs), 0.5)),
            ms_per_step=1.0,
            seconds=2.0,
        )

    monkeypatch.setattr(run, "train", train)
    return activations


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


def test_everything_is_trained_once_and_written(tmp_path, trained):
    results = compare(SETTINGS, dataset(), tmp_path / "new" / "folder")
    assert sorted(trained) == sorted(SETTINGS.activations)
    assert list(results.arms) == list(SETTINGS.activations)
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == FILES
    compare(SETTINGS, dataset(), tmp_path / "new" / "folder")
    assert len(trained) == 3


@pytest.mark.parametrize("name", FILES)
def test_a_full_disk(tmp_path, trained, monkeypatch, name):
    """No file is there by half; the same call with space trains nothing that is stored."""
    with monkeypatch.context() as patch:
        full_disk(patch, name)
        with pytest.raises(CompareError, match=rf"{name} cannot be written \(No space left on"):
            compare(SETTINGS, dataset(), tmp_path)
    stored = {"results.json": 0, "curves.png": 3, "table.md": 3}[name]
    written = {"results.json": [], "curves.png": FILES[1:2], "table.md": FILES[:2]}[name]
    assert sorted(p.name for p in tmp_path.iterdir()) == written
    trained.clear()
    results = compare(SETTINGS, dataset(), tmp_path)
    assert len(trained) == 3 - stored
    assert results.missing == []
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES


def test_a_disk_that_fills_up_keeps_the_arms_before(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(run.devices, "plan", one_at_a_time(run.devices.plan))
    with monkeypatch.context() as patch:
        full_disk(patch, "results.json", after=2)
        with pytest.raises(CompareError, match="No space left"):
            compare(SETTINGS, dataset(), tmp_path)
    assert trained == ["relu", "elu", "gelu"]
    trained.clear()
    compare(SETTINGS, dataset(), tmp_path)
    assert trained == ["gelu"]


def one_at_a_time(plan):
    return lambda activations, seeds: plan(activations[:1], seeds)


def test_another_configuration(tmp_path, trained):
    compare(SETTINGS, dataset(), tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    other = dataclasses.replace(SETTINGS, epochs=3)
    with pytest.raises(CompareError, match="epochs is 2 there and 3 here"):
        compare(other, dataset(), tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    trained.clear()
    assert compare(other, dataset(), tmp_path, restart=True).configuration["epochs"] == 3
    assert sorted(trained) == sorted(SETTINGS.activations)
    assert all(p.read_bytes() != before[p] for p in before)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_removed(tmp_path, trained, name):
    (tmp_path / name).mkdir()
    with pytest.raises(CompareError, match=rf"{name} cannot be removed \("):
        compare(SETTINGS, dataset(), tmp_path, restart=True)
    assert trained == []


def test_a_folder_that_cannot_be_written(tmp_path, trained):
    (tmp_path / ".results.json.tmp").mkdir()  # as a folder of another user's would
    with pytest.raises(CompareError, match=rf"--out {tmp_path}: cannot be written \("):
        compare(SETTINGS, dataset(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CompareError, match=r"file: cannot be made \(File exists"):
        compare(SETTINGS, dataset(), tmp_path / "file")
    assert trained == []
