"""The problem that the arrays of an archive are."""

from collections.abc import Collection

import numpy as np

from jaxact._errors import CompareError
from jaxact.compare import names, targets
from jaxact.compare.columns import Column
from jaxact.compare.dataset import Dataset
from jaxact.compare.files import Problems, Table, check_size, plain

#: An archive of these says what its test part is.
GIVEN = ("x_train", "y_train", "x_test", "y_test")
_INEXACT = 2**53


def of_arrays(
    arrays: dict[str, np.ndarray],
    target: str | None,
    task: str | None,
    drop: Collection[str],
    wanted: Collection[str],
    max_memory: int,
    digest: str,
    problems: Problems,
) -> Dataset:
    """The problem that arrays of one length are; or x_train, y_train, x_test and y_test.

    Args:
      arrays: by name.
      target: the name of the one that is predicted.
      task: the one that was asked for; None: what the target looks like.
      drop: arrays that are left out.
      wanted: the only ones that are used; none: all.
      max_memory: of all features as float64, in bytes.
      digest: of the file.
      problems: what was found so far.

    Raises:
      CompareError: the arrays cannot be used.
    """
    name, test, unused = problems.name, None, []
    given = {key.lower(): key for key in arrays if key.lower() in GIVEN}
    if set(given) == set(GIVEN) and target in (None, given["y_train"]):
        if drop or wanted:
            problems.add("--drop and --features name columns; x_train has none")
        unused = [key for key in arrays if key not in given.values()]
        arrays, test = _joined({key: arrays[given[key]] for key in GIVEN}, problems)
        target, drop, wanted = "y", (), ()
    target = names.target("array", target, list(arrays), problems)
    labels = _flat(arrays[target])
    if labels.ndim != 1 or labels.dtype.kind in "cV":
        raise CompareError(
            f"{name}: the target {target!r} must have a value for each sample, its shape is "
            f"{labels.shape} and its dtype {labels.dtype}; of a column for each class, save "
            "numpy.argmax(y, 1)."
        )
    if not len(labels):
        raise CompareError(f"{name} has no samples.")
    table = Table({target: _as_column(labels)}, range(1, len(labels) + 1))
    found = targets.target(table, target, task, (), test, problems)
    chosen = sorted(names.chosen(list(arrays), target, drop, wanted, "array", problems))
    check_size(name, 8 * sum(arrays[key].size for key in chosen), max_memory)
    if not chosen:
        problems.add(f"there is no array besides the target {target!r}")
    blocks = {}
    for key in chosen:
        block = _features(key, arrays[key], target, len(labels), problems)
        if block is not None:
            blocks[key] = block
    problems.raise_if_any()
    assert found is not None
    columns = [_column(key, block) for key, block in blocks.items()]
    columns += [
        Column(key, "array", "left out", f"not one of {', '.join(GIVEN)}") for key in unused
    ]
    first = next(iter(blocks.values()))
    if len(blocks) > 1 or first.ndim != 4:
        first = np.concatenate([block.reshape(len(labels), -1) for block in blocks.values()], 1)
    return Dataset(
        first,
        found.values,
        found.classes,
        found.task,
        found.reason,
        name,
        digest,
        target,
        tuple(columns),
        test,
    )


def _joined(
    given: dict[str, np.ndarray], problems: Problems
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays ``x`` and ``y``, and which of their rows are test samples."""
    x_train, y_train, x_test, y_test = given.values()
    y_train, y_test = _flat(y_train), _flat(y_test)
    for key, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if not x.ndim or not y.ndim or len(x) != len(y):
            problems.add(f"x_{key} has the shape {x.shape}, y_{key} {y.shape}")
        elif not len(x):
            problems.add(f"x_{key} has no samples")
    for key, train, test in (("x", x_train, x_test), ("y", y_train, y_test)):
        if train.shape[1:] != test.shape[1:]:
            problems.add(
                f"samples of {key}_train have the shape {train.shape[1:]}, of {key}_test "
                f"{test.shape[1:]}"
            )
        elif (train.dtype.kind in "SU") != (test.dtype.kind in "SU"):
            problems.add(f"{key}_train is {train.dtype}, {key}_test {test.dtype}")
    problems.raise_if_any()
    joined = {
        "x": np.concatenate([x_train, x_test]),
        "y": np.concatenate([y_train, y_test]),
    }
    return joined, np.arange(len(x_train), len(x_train) + len(x_test))


def _flat(labels: np.ndarray) -> np.ndarray:
    """Labels without a second dimension of 1."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _features(
    key: str, values: np.ndarray, target: str, samples: int, problems: Problems
) -> np.ndarray | None:
    """An array as features: float64, ``(samples, features)`` or images; None if it cannot be."""
    if values.ndim == 0 or len(values) != samples:
        rows = f"{len(values)} rows" if values.ndim else "no rows"
        problems.add(f"array {plain(key)!r} has {rows}, the target {target!r} has {samples}")
        return None
    if values.dtype.kind not in "biuf":
        problems.add(
            f"array {plain(key)!r} is not numeric (its dtype is {values.dtype}); features must be "
            "real numbers"
        )
        return None
    if not values.size:
        problems.add(f"array {plain(key)!r} has no features: its shape is {values.shape}")
        return None
    block = values.astype(np.float64)
    flat = block.reshape(samples, -1)
    wrong = np.argwhere(~np.isfinite(flat))
    if len(wrong):
        row, column = wrong[0]
        problems.add(
            f"array {plain(key)!r} is {flat[row, column]} in row {row + 1}, column {column + 1} "
            f"(in {len(wrong)} places in all); features must be finite numbers"
        )
        return None
    if block.ndim == 3:
        return block[..., None]  # one channel
    return block if block.ndim == 4 else flat


def _column(key: str, block: np.ndarray) -> Column:
    shape = "x".join(map(str, block.shape[1:]))
    what = "images" if block.ndim == 4 else "numbers"
    return Column(key, what, "standardised", f"{shape} of each sample")


def _as_column(labels: np.ndarray) -> np.ndarray:
    """Labels as a `Table` holds a column."""
    if labels.dtype.kind == "b":
        return labels
    if labels.dtype.kind == "f":
        return labels.astype(np.float64)
    if labels.dtype.kind in "iu" and (np.abs(labels.astype(np.float64)) < _INEXACT).all():
        return labels.astype(np.float64)
    if labels.dtype.kind == "S":
        return np.array([label.decode("utf-8", "replace").strip() for label in labels], object)
    return np.array([str(label).strip() for label in labels.tolist()], object)
