"""Training, validation and test samples, and what is learned of the training part alone."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes

from jaxact._errors import CompareError
from jaxact.compare.data import load, split, splits
from tests.support.tables import ROWS, numbers, save, table


def test_digits():
    dataset = load()
    one = split(dataset)
    assert one.sizes == (1077, 360, 360)
    assert one.features.dtype == np.float32
    training = one.features[one.training].astype(np.float64)
    np.testing.assert_allclose(training.mean(0), 0, atol=1e-6)
    spread = training.std(0)
    assert (np.isclose(spread, 1, atol=1e-5) | (spread < 1e-6)).all()
    assert one.baseline["accuracy"] == pytest.approx(0.1, abs=0.01)
    assert one.baseline["balanced_accuracy"] == pytest.approx(0.1)
    for part in (one.training, one.validation, one.test):
        counts = np.bincount(one.targets[part], minlength=10)
        assert counts.max() - counts.min() <= len(one.targets[part]) * 0.02
    again = split(load())
    np.testing.assert_array_equal(one.features, again.features)


def test_splits_differ_and_their_training_parts_are_nested(tmp_path):
    dataset = load()
    first, second = splits(dataset, 2)
    assert (first.targets != second.targets).any()
    few, more = split(dataset, samples=50), split(dataset, samples=100)
    assert few.sizes == (50, 360, 360)
    np.testing.assert_array_equal(few.targets[:50], more.targets[:50])
    np.testing.assert_array_equal(few.targets[50:], more.targets[100:])
    for samples in (1, 1078):
        with pytest.raises(CompareError, match=f"samples={samples}: there are 1077 training"):
            split(dataset, samples=samples)


def test_only_the_training_part_is_learned_from(tmp_path):
    """Means, medians and categories of other samples do not matter."""
    values, colours = numbers(), ["red", "green"] * 20
    path = table(tmp_path, {"a": values, "c": colours})
    before = split(load(path, "kind"))
    # Other values in what is not a training sample.
    order = np.argsort(before.features[:, 0])
    known = {round(float(v), 3) for v in before.features[before.training][:, 0]}
    z = (np.array(values) - np.mean(values)) / np.std(values)
    assert len(order) == len(z)
    changed, shades = list(values), list(colours)
    features = load(path, "kind").features[0].values
    training = np.isin(features, _training_values(before, features))
    for i in np.flatnonzero(~training):
        changed[i], shades[i] = 50.0 + i, "violet"
    after = split(load(table(tmp_path, {"a": changed, "c": shades}), "kind"))
    np.testing.assert_array_equal(before.features[before.training], after.features[after.training])
    assert (after.features[after.test][:, 0] > 10).all()
    assert (after.features[after.test][:, 1:] == 0).all()  # a category that nobody has seen
    assert known


def _training_values(found, values):
    """The values of the training samples, by their standardised ones."""
    standardised = found.features[:, 0].astype(np.float64)
    slope, offset = np.polyfit(np.sort(standardised), np.sort(values), 1)
    near = standardised[found.training] * slope + offset
    return [values[np.abs(values - v).argmin()] for v in near]


@pytest.mark.parametrize("factor", [1e300, 1e-200, 5e-324 * 2**20, 1.0])
def test_numbers_of_any_size(tmp_path, factor):
    """Standard deviations neither overflow nor vanish."""
    values = [repr(factor * v) for v in [3, 1, 4, 1, 5, 9, 2, 6] * 5]
    found = split(load(table(tmp_path, {"a": values}), "kind"))
    plain = split(load(table(tmp_path, {"a": [3, 1, 4, 1, 5, 9, 2, 6] * 5}), "kind"))
    np.testing.assert_allclose(found.features, plain.features, atol=1e-5)


def test_a_column_that_is_constant_in_the_training_part(tmp_path):
    """0.1, but for one sample of the test part: not divided by a rounding error."""
    path = table(tmp_path, {"a": ["0.1"] * ROWS, "z": numbers()})
    rows = path.read_text().splitlines()
    order = split(load(table(tmp_path, {"z": numbers()}), "kind"))
    values = np.array(numbers())
    last = int(
        np.abs(values - _training_values(order, values)[0]).argmin()
    )  # any sample will do: all places are tried
    for row in (last, 3, 17, 30):
        changed = list(rows)
        changed[row + 1] = changed[row + 1].replace("0.1,", "0.2,", 1)
        path.write_text("\n".join(changed))
        found = split(load(path, "kind")).features
        assert np.abs(found).max() < 10


def test_outliers_that_float32_cannot_hold(tmp_path):
    x = np.full((40, 1), 1e-30) * np.random.default_rng(0).normal(size=(40, 1))
    y = np.arange(40) % 2
    arrays = {"x_train": x, "y_train": y, "x_test": x[:10] + 1e300, "y_test": y[:10]}
    with pytest.raises(CompareError, match="too large to standardise in float32"):
        split(load(save(tmp_path / "a.npz", **arrays)))
    values = [*(1e-200 * x[:38, 0]), 1e300, 1e300]
    frame = pd.DataFrame({"a": values, "kind": ["x", "y"] * 20})
    with pytest.raises(CompareError, match="too large to standardise in float32"):
        # Until all of them are outside of the training part.
        splits(load(frame, "kind"), 30)


def test_categories_of_some_splits_only(tmp_path):
    """All splits have the same width."""
    colours = ["red"] * 36 + ["green", "blue", "violet", "pink"]
    dataset = load(table(tmp_path, {"a": numbers(), "c": colours}), "kind")
    widths = {split(dataset, i).features.shape[1] for i in range(6)}
    assert len(widths) > 1
    assert {one.features.shape[1] for one in splits(dataset, 6)} == {max(widths)}


def test_a_regression(tmp_path):
    frame = load_diabetes(as_frame=True).frame
    dataset = load(frame, "target")
    assert (dataset.task, dataset.classes, dataset.inputs) == ("regression", (), 10)
    found = split(dataset)
    assert found.classes == 0 and found.targets.dtype == np.float32
    training = found.targets[found.training].astype(np.float64)
    assert abs(training.mean()) < 1e-6 and abs(training.std() - 1) < 1e-6
    own_units = found.targets * found.target_scale + found.target_mean
    np.testing.assert_allclose(np.sort(own_units), np.sort(frame["target"]), rtol=1e-4)
    test = own_units[found.test]
    errors = (test - own_units[found.training].mean()) ** 2
    assert found.baseline["rmse"] == pytest.approx(errors.mean() ** 0.5, rel=1e-4)
    assert found.baseline["r2"] == pytest.approx(1 - errors.mean() / test.var(), abs=1e-4)


def test_a_target_of_huge_numbers(tmp_path):
    found = split(load(pd.DataFrame({"a": numbers(), "t": np.array(numbers()) * 1e300}), "t"))
    assert np.isfinite(found.targets).all()
    assert found.target_scale > 1e299


def test_constant_in_the_training_part_and_far_off_elsewhere(tmp_path):
    """A feature that is always 0 in the training part has no scale: 5000 is not 5000 deviations."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 2)), np.arange(50) % 2
    x[:, 0] = 0
    x[45:, 0] = [5000, -5000, 0, 0.25, -0.5]
    given = {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
    found = split(load(save(tmp_path / "a.npz", **given)))
    np.testing.assert_array_equal(found.features[45:, 0], [1, -1, 0, 0.25, -0.5])
    assert (found.features[:45, 0] == 0).all()


def test_rounding_errors_are_no_deviations():
    """0.1 and 0.1 plus one bit."""
    values = [0.1, np.nextafter(0.1, 1)] * (ROWS // 2)
    frame = pd.DataFrame({"a": values, "z": numbers(), "kind": ["x", "x", "y", "y"] * 10})
    found = split(load(frame, "kind")).features
    assert found.shape == (ROWS, 2)
    assert np.abs(found[:, 0]).max() < 1e-6


def test_missing_booleans_are_the_most_frequent():
    """Not something between true and false."""
    answers = [*["yes", "no"] * 14, *[""] * 12]
    frame = pd.DataFrame({"a": answers, "kind": ["x", "y", "y", "x"] * 10})
    for one in splits(load(frame, "kind"), 5):  # two of them have as many of both
        assert len(set(one.features[:, 0].tolist())) == 2


def test_splits_of_every_size_can_be_drawn():
    """As few samples of a class as are let through are in every part."""
    for classes, each in ((2, 5), (3, 5), (7, 5), (3, 6), (2, 7)):
        labels = [f"c{i % classes}" for i in range(classes * each)]
        frame = pd.DataFrame({"a": numbers(len(labels)), "t": labels})
        for one in splits(load(frame, "t"), 3):
            for part in (one.training, one.validation, one.test):
                assert len(set(one.targets[part].tolist())) == classes
