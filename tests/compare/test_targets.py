"""What is predicted: classes, numbers, and what cannot be."""

import pytest

from jaxact._errors import CompareError
from jaxact.compare.data import columns_table, load
from tests.support.tables import ROWS, numbers, table


def target(tmp_path, values, **options):
    path = table(tmp_path, {"a": numbers(), "t": values}, target=False)
    return load(path, "t", **options)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["b", "a"] * 20, ("a", "b")),
        (["NA", "None", "nan", "x"] * 10, ("NA", "None", "nan", "x")),  # names, among names
        (["1", "0"] * 20, ("0", "1")),
        (["1.0", "0.0"] * 20, ("0", "1")),
        (["1", "1e19", "2e19", "1"] * 10, ("1", "1e+19", "2e+19")),
        (["True", "False"] * 20, ("False", "True")),
        ([str(10**30), str(10**30 + 1)] * 20, (str(10**30), str(10**30 + 1))),
    ],
)
def test_classes(tmp_path, values, classes):
    dataset = target(tmp_path, values)
    assert (dataset.task, dataset.classes) == ("classification", classes)
    found = [dataset.classes[i] for i in dataset.targets]
    assert len({(a, str(b)) for a, b in zip(found, values, strict=True)}) == len(classes)


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (numbers(), "regression"),
        ([i * i for i in range(ROWS)], "regression"),  # 40 different whole numbers
        ([0.5, 1.5] * 20, "regression"),
        ([1, 2, 3, 4] * 10, "classification"),
        (range(ROWS), "regression"),
    ],
)
def test_the_task_is_inferred_and_said(tmp_path, values, task):
    dataset = target(tmp_path, values)
    assert dataset.task == task
    assert f"t is a {task} target ({dataset.task_reason})" in columns_table(dataset)


def test_the_task_can_be_said(tmp_path):
    assert target(tmp_path, [1, 2, 3, 4] * 10, task="regression").classes == ()
    assert target(tmp_path, [0.5, 1.5] * 20, task="classification").classes == ("0.5", "1.5")
    with pytest.raises(CompareError, match="has texts: a regression needs numbers"):
        target(tmp_path, ["a", "b"] * 20, task="regression")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([*["x", "y"] * 19, "", "x"], "target 't' is empty in line 40; remove these rows"),
        ([*[1, 2] * 19, "NA", ""], "target 't' is empty in lines 40, 41"),
        ([*numbers()[:-1], "inf"], "target 't' is not finite in line 41"),
        (["x"] * ROWS, "has only one class, 'x'"),
        (
            [f"c{i}" for i in range(ROWS)],
            "40 classes in 40 samples.*; if it is an identifier, take another",
        ),
        (
            [*["x", "y"] * 18, "z", "z", "z", "w"],
            "classes 'w' with 1, 'z' with 3, of 5 samples that",
        ),
        ([*[2.5] * ROWS], "is always 2.5: nothing to predict"),
        ([*[1, 2] * 18, 3, 3, 3, 3], "class '3' with 4, .*; if it is a quantity, say --task regr"),
        ([*["1", "2"] * 19, "9" * 401, "2"], "class '9{23}…' with 1, of 5"),
    ],
)
def test_targets_that_cannot_be_used(tmp_path, values, message):
    with pytest.raises(CompareError, match=message):
        target(tmp_path, values)


def test_missing_among_classes_of_numbers(tmp_path):
    """A text such as "?" is a class, unless it is said to mean a missing value."""
    values = [*[1, 2] * 17, *["?"] * 6]
    assert target(tmp_path, values).classes == ("1", "2", "?")
    with pytest.raises(CompareError, match="is empty in lines 36, 37, 38 and 3 more"):
        target(tmp_path, values, missing=["?"])


@pytest.mark.parametrize(
    ("low", "high", "task"),
    [(0, 25, "classification"), (1, 26, "classification"), (18, 90, "regression")],
)
def test_whole_numbers_that_count_classes(tmp_path, low, high, task):
    """26 letters are classes; ages are not, however many samples there are."""
    values = [low + i % (high - low + 1) for i in range(2000)]
    path = table(tmp_path, {"a": numbers(2000), "t": values}, target=False)
    assert load(path, "t").task == task
