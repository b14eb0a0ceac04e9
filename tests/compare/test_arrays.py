"""The problems that arrays are."""

import numpy as np
import pytest

from jaxact._errors import CompareError
from jaxact.compare.data import load, split
from tests.support.tables import save


def test_arrays(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(30, 2, 3)), np.arange(30) % 3
    dataset = load(save(tmp_path / "a.npz", x=x, other=x[:, 0], y=y), "y")
    assert (dataset.inputs, dataset.classes) == (3 + 6, ("0", "1", "2"))
    assert split(dataset).features.shape == (30, 9)
    # A single array of images keeps its shape.
    images = load(save(tmp_path / "b.npz", x=x, y=y), "y")
    found = split(images).features
    assert found.shape == (30, 2, 3, 1)
    assert abs(found[:18].mean()) < 1e-6 and abs(found[:18].std() - 1) < 1e-6


def test_a_test_part_that_the_file_gives(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)), np.arange(50) % 2
    x[40:] += 100
    path = save(
        tmp_path / "a.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:, None]
    )
    dataset = load(path)
    for index in (0, 1):
        found = split(dataset, index)
        assert found.sizes == (30, 10, 10)
        assert (found.features[found.test] > 50).all()
        assert (found.features[:-10] < 50).all()


def test_what_a_given_test_part_needs(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)), np.arange(50) % 2

    def given(**changes):
        arrays = {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
        return save(tmp_path / "a.npz", **arrays | changes)

    assert load(given(), "y_train").classes == ("0", "1")
    more = load(given(x_val=x, y_val=y)).columns
    assert [(c.name, c.made) for c in more] == [
        *[("x", "standardised"), ("x_val", "left out"), ("y_val", "left out")]
    ]
    one_hot = {"y_train": np.eye(2)[y[:40]], "y_test": np.eye(2)[y[40:]]}
    for changes, message in (
        (one_hot, r"value for each sample, its shape is \(50, 2\).* save numpy.argmax\(y, 1\)"),
        ({"y_test": y[40:] + 2}, "classes '2' with 0, '3' with 0, of 4 .* in the training part"),
        ({"y_train": [5, *y[1:40]]}, "class '5' with 1, of 4 samples"),
        ({"x_test": x[:0], "y_test": y[:0]}, "x_test has no samples"),
        ({"x_test": x[40:, :2]}, r"x_train have the shape \(4,\), of x_test \(2,\)"),
        ({"y_test": y[40:45]}, r"x_test has the shape \(10, 4\), y_test \(5,\)"),
        ({"y_train": y[:40].astype(str)}, "y_train is <U21, y_test int64"),
        ({"y_train": x[:40, 0], "y_test": x[40:41, 0], "x_test": x[40:41]}, "regression needs 8"),
    ):
        with pytest.raises(CompareError, match=message):
            load(given(**changes))
    with pytest.raises(CompareError, match="--drop and --features name columns; x_train has none"):
        load(given(), drop=["a"])


def test_arrays_that_are_too_large_as_float64(tmp_path):
    path = save(tmp_path / "a.npz", x=np.zeros((30, 10_000), np.uint8), y=np.arange(30) % 3)
    with pytest.raises(CompareError, match="takes 2.3 MiB of memory, more than 1.0 MiB"):
        load(path, "y", max_memory=1 << 20)
