"""What is predicted: classes or numbers, which task that is, and whether it can be split."""

import dataclasses
from collections.abc import Collection

import numpy as np

from jaxact.compare import columns, dates
from jaxact.compare.files import Problems, Table, plain

#: Every class needs this many samples, so that all three parts of the split have some.
SAMPLES_PER_CLASS = 5
#: Where the file gives the test part, this many of the others.
SAMPLES_PER_CLASS_BESIDE_TEST = 4
#: A regression needs this many.
SAMPLES = 10
#: More different whole numbers than this are a quantity, unless they count classes.
MOST_CLASSES = 20
#: Which they do if they go from 0 or 1 without a gap, and are at most this share of the samples.
MOST_CLASSES_SHARE = 0.05
#: From here on float64 does not hold every whole number.
_INEXACT = 2**53


@dataclasses.dataclass(frozen=True)
class Target:
    """What is predicted.

    Args:
      values: int32 indices into ``classes``, or float64 numbers, ``(samples,)``.
      classes: the classes' names; none for a regression.
      task: ``"classification"`` or ``"regression"``.
      reason: what says so.
    """

    values: np.ndarray
    classes: tuple[str, ...]
    task: str
    reason: str


def target(
    table: Table,
    name: str,
    task: str | None,
    missing: Collection[str],
    test: np.ndarray | None,
    problems: Problems,
) -> Target | None:
    """The target, or None where it has problems.

    Args:
      table: the table.
      name: the target's.
      task: the one that was asked for; None: what the target looks like.
      missing: further texts that mean a missing value.
      test: the samples of the test part, where the file says it.
      problems: what cannot be used is added here.
    """
    values = table.columns[name]
    label = f"the target {plain(name)!r}"
    numbers, empty = _numbers(table, values, missing)
    if empty.any():
        what = "empty" if values.dtype == object else "missing"
        problems.add(
            f"{label} is {what} in {table.where(np.flatnonzero(empty))}; remove these rows"
        )
        return None
    if numbers is not None and np.isinf(numbers).any():
        problems.add(f"{label} is not finite in {table.where(np.flatnonzero(np.isinf(numbers)))}")
        return None
    inferred, reason = _inferred(values, numbers)
    task, reason = (task, "as asked") if task else (inferred, reason)
    if task == "regression":
        if numbers is None:
            problems.add(f"{label} has texts: a regression needs numbers")
            return None
        found = Target(numbers, (), task, reason)
        _check_numbers(label, numbers, test, problems)
    else:
        # A bool is named as it is written, not 0 or 1.
        of = values.astype(str) if numbers is None else numbers
        distinct, indices = np.unique(of, return_inverse=True)
        names = tuple(_class_name(value) for value in distinct)
        found = Target(indices.astype(np.int32), names, task, reason)
        _check_classes(label, found, numbers is not None, test, problems)
    return found


def _numbers(
    table: Table, values: np.ndarray, missing: Collection[str]
) -> tuple[np.ndarray | None, np.ndarray]:
    """The target as numbers, if it has numbers alone, and where it is missing.

    A text such as "NA" is a class like any other, among texts; among numbers it is none.
    """
    if values.dtype == bool:
        return None, np.zeros(len(values), bool)
    if values.dtype.kind == "M":
        return dates.to_days(values), np.isnat(values)
    if values.dtype != object:
        return values, np.isnan(values)
    spelled = {text.strip().lower() for text in missing}
    empty = np.array([not text or text.lower() in spelled for text in values], bool)
    absent = columns.is_missing(values, missing)
    there = values[~absent]
    numbers, right, _ = columns.to_numbers(table, there)
    whole = np.array([text.lstrip("+-").isdigit() for text in there], bool)
    # Whole numbers that float64 cannot hold are names.
    if not right.all() or not len(there) or (whole & (np.abs(numbers) >= _INEXACT)).any():
        return None, empty
    found = np.full(len(values), np.nan)
    found[~absent] = numbers
    return found, absent


def _inferred(values: np.ndarray, numbers: np.ndarray | None) -> tuple[str, str]:
    """The task that a target looks like, and why."""
    if numbers is None:
        return "classification", "true or false" if values.dtype == bool else "names"
    if (numbers != np.round(numbers)).any():
        return "regression", "numbers with fractions"
    distinct = np.unique(numbers)
    reason = f"{len(distinct)} different whole numbers"
    counted = distinct[0] in (0, 1) and distinct[-1] - distinct[0] == len(distinct) - 1
    few = len(distinct) <= MOST_CLASSES_SHARE * len(numbers)
    if len(distinct) <= MOST_CLASSES or (counted and few):
        return "classification", reason
    return "regression", reason


def _class_name(value: str | float) -> str:
    if isinstance(value, str):
        return str(value)
    if value == round(value) and abs(value) < _INEXACT:
        return str(int(value))
    return repr(float(value))


def _check_numbers(
    label: str, numbers: np.ndarray, test: np.ndarray | None, problems: Problems
) -> None:
    if len(numbers) < SAMPLES:
        problems.add(f"there are {len(numbers)} samples; a regression needs {SAMPLES}")
    elif numbers.min() == numbers.max():
        problems.add(f"{label} is always {numbers[0]:g}: nothing to predict")
    elif test is not None and (len(test) < 2 or len(numbers) - len(test) < SAMPLES - 2):
        problems.add(
            f"there are {len(numbers) - len(test)} training and {len(test)} test samples; a "
            f"regression needs {SAMPLES - 2} and 2"
        )


def _check_classes(
    label: str, found: Target, numeric: bool, test: np.ndarray | None, problems: Problems
) -> None:
    samples, classes = len(found.values), len(found.classes)
    quantity = "; if it is a quantity, say --task regression" if numeric else ""
    counts = np.bincount(found.values, minlength=classes)
    least, part = SAMPLES_PER_CLASS, ""
    if classes < 2:
        problems.add(
            f"{label} has only one class, {plain(found.classes[0])!r}; at least two are needed"
        )
        return
    if samples < SAMPLES_PER_CLASS * classes:
        problems.add(
            f"{label} has {classes} classes in {samples} samples, fewer than the "
            f"{SAMPLES_PER_CLASS} samples a class that a split into training, validation and test "
            f"needs{quantity}; if it is an identifier, take another column"
        )
        return
    if test is not None:
        if not len(test):
            problems.add("there are no test samples")
            return
        least, part = SAMPLES_PER_CLASS_BESIDE_TEST, " in the training part"
        counts = counts - np.bincount(found.values[test], minlength=classes)
    rare = [i for i in np.argsort(counts, kind="stable") if counts[i] < least]
    if rare:
        shown = ", ".join(f"{plain(found.classes[i])!r} with {counts[i]}" for i in rare[:3])
        more = f" and {len(rare) - 3} more" if len(rare) > 3 else ""
        problems.add(
            f"{label} has {'class' if len(rare) == 1 else 'classes'} {shown}{more}, of {least} "
            f"samples that a split needs of each class{part}: merge them with others, or remove "
            f"their samples{quantity}"
        )
