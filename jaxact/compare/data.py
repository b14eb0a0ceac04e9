"""The data of a comparison: a file, a DataFrame, or scikit-learn's digits."""

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from jaxact._errors import CompareError
from jaxact.compare import columns as columns_module, files, names, targets
from jaxact.compare.archives import read_arrays
from jaxact.compare.arrays import of_arrays
from jaxact.compare.columns import Column as Column
from jaxact.compare.dataset import Dataset as Dataset
from jaxact.compare.files import Problems, Table
from jaxact.compare.splitting import Split as Split, split as split, splits as splits
from jaxact.compare.text_tables import read_text
from jaxact.compare.typed_tables import of_frame, read_parquet

MAX_MEMORY = 4 << 30


def load(
    path: Any = None,
    target: str | None = None,
    *,
    task: str | None = None,
    drop: Collection[str] = (),
    features: Collection[str] | None = None,
    missing: Collection[str] | None = None,
    max_memory: int = MAX_MEMORY,
) -> Dataset:
    """The data of a file, or of a pandas DataFrame; scikit-learn's digits without one.

    Args:
      path: a table with a header (.csv, .tsv, .csv.gz, .parquet), a NumPy archive (.npz), or a
        DataFrame. An archive has an array that is the target, and arrays with as many rows; or
        ``x_train``, ``y_train``, ``x_test`` and ``y_test``.
      target: the column, or the array, that is to be predicted.
      task: ``"classification"`` or ``"regression"``; by default what the target looks like.
      drop: columns that are left out.
      features: the only columns that are used, identifiers too.
      missing: further texts that mean a missing value.
      max_memory: the largest size of the file and of what is in it, in bytes.

    Raises:
      CompareError: the file, or something in it, cannot be used; the message lists all of it, with
        columns and lines.
    """
    if task not in (None, "classification", "regression"):
        raise CompareError(f"task must be classification or regression, got {task!r}.")
    drop, wanted, missing = _listed(drop), _listed(features), _listed(missing)
    if path is None:
        for option, value in (("target", target), ("drop", drop), ("features", wanted)):
            if value:
                shown = value if isinstance(value, str) else ",".join(value)
                raise CompareError(
                    f"--{option} {shown} has no file to look in: give one with --data, or leave "
                    f"--{option} out (digits has its own)."
                )
        return _digits(task)
    if not isinstance(path, str | Path):
        problems = Problems("the table")
        table = of_frame(path, problems)
        target = None if target is None else str(target)
        return _of_table(table, target, task, drop, wanted, missing, _digest(table), problems)
    path = Path(path)
    problems = Problems(path.name)
    raw = files.content(path, max_memory)
    digest = hashlib.sha256(raw).hexdigest()
    kind = files.ending(path)
    if kind == ".npz":
        arrays = read_arrays(path, raw, max_memory, problems)
        return of_arrays(arrays, target, task, drop, wanted, max_memory, digest, problems)
    if kind == ".parquet":
        table = read_parquet(path, raw, max_memory, problems)
    else:
        table = read_text(path, raw, target, max_memory, problems)
    return _of_table(table, target, task, drop, wanted, missing, digest, problems)


def columns_table(dataset: Dataset) -> str:
    """What was made of the target and of each column, as text of at most 80 columns."""
    name = files.plain(dataset.target or "target")
    if dataset.classes:
        what = f"{len(dataset.classes)} classes"
    else:
        what = f"{dataset.targets.min():g} to {dataset.targets.max():g}"
    title = (
        f"{files.plain(dataset.source, 60)}: {dataset.samples} samples; {name} is a {dataset.task} "
        f"target ({dataset.task_reason}): {what}."
    )
    return columns_module.as_table(dataset.columns, title)


def _listed(given: Collection[str] | None) -> tuple[str, ...]:
    """Names, where a single one may be given as it is; a DataFrame's may be numbers."""
    return (given,) if isinstance(given, str) else tuple(map(str, given or ()))


def _digits(task: str | None) -> Dataset:
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    if task == "regression":
        return Dataset(features, labels.astype(np.float64), (), task, "as asked", "digits")
    classes = tuple(map(str, range(10)))
    indices = labels.astype(np.int32)
    return Dataset(features, indices, classes, "classification", "ten digits", "digits")


def _of_table(
    table: Table,
    target: str | None,
    task: str | None,
    drop: Collection[str],
    wanted: Collection[str],
    missing: Collection[str],
    digest: str,
    problems: Problems,
) -> Dataset:
    target = names.target("column", target, list(table.columns), problems)
    chosen = names.chosen(list(table.columns), target, drop, wanted, "column", problems)
    found = targets.target(table, target, task, missing, None, problems)
    used, columns = columns_module.features(table, chosen, wanted, missing, problems)
    if not used and len(columns) == len(chosen):
        left_out = [f"{files.plain(c.name)!r} is left out ({c.kind}: {c.note})" for c in columns]
        why = f": {'; '.join(left_out[:5])}" if left_out else ""
        problems.add(f"there is no feature besides the target {target!r}{why}")
    problems.raise_if_any()
    assert found is not None  # else there are problems
    return Dataset(
        tuple(used),
        found.values,
        found.classes,
        found.task,
        found.reason,
        "table" if problems.name == "the table" else problems.name,
        digest,
        target,
        tuple(columns),
    )


def _digest(table: Table) -> str:
    """Of the values of a table, as files have one of their bytes."""
    found = hashlib.sha256()
    for name, values in table.columns.items():
        texts = values.dtype == object
        found.update(f"{name}\0".encode())
        found.update("\0".join(values).encode() if texts else values.tobytes())
    return found.hexdigest()
