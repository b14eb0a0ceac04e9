"""The data of a comparison: read, checked, split, standardised.

Data that cannot be used is a `CompareError` that names the column and the row. Rows count from 1
and leave out the header of a CSV file.
"""

import csv
import dataclasses
import difflib
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxact._errors import CompareError

#: Every class needs this many samples, so that all three parts of the split have some.
SAMPLES_PER_CLASS = 5
SPLIT_SEED = 0


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A classification problem.

    Args:
      features: float64 of shape ``(samples, features)``, finite.
      labels: the index of each sample's class, int32 of shape ``(samples,)``.
      classes: the classes' names.
      source: ``"digits"`` or the file's name.
      sha256: of the file's bytes; None for digits.
      target: the name of the labels in the file; None for digits.
    """

    features: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    source: str
    sha256: str | None = None
    target: str | None = None


@dataclasses.dataclass(frozen=True)
class Split:
    """The samples in the order training, validation, test, standardised.

    Args:
      features: float32 of shape ``(samples, features)``.
      labels: int32 of shape ``(samples,)``.
      classes: the number of classes.
      sizes: the number of samples of the three parts.
    """

    features: np.ndarray
    labels: np.ndarray
    classes: int
    sizes: tuple[int, int, int]

    @property
    def training(self) -> slice:
        return slice(0, self.sizes[0])

    @property
    def validation(self) -> slice:
        return slice(self.sizes[0], self.sizes[0] + self.sizes[1])

    @property
    def test(self) -> slice:
        return slice(self.sizes[0] + self.sizes[1], sum(self.sizes))


def load(path: str | Path | None = None, target: str | None = None) -> Dataset:
    """The data of a ``.csv`` or ``.npz`` file; scikit-learn's digits without a file.

    Args:
      path: a CSV file with a header, or a NumPy archive.
      target: the column, or the array, that holds the classes. All other columns are features. In
        an archive, so are all other arrays, flattened to ``(samples, -1)``, in the order of names.

    Raises:
      CompareError: the file, or something in it, cannot be used; the message names the column and
        the row.
    """
    if path is None:
        if target is not None:
            raise CompareError(
                f"--target {target} has no file to look in: give one with --data, or leave "
                "--target out (digits has its own)."
            )
        return _digits()
    path = Path(path)
    readers = {".csv": _csv, ".npz": _npz}
    if path.suffix.lower() not in readers:
        raise CompareError(f"--data {path}: the name must end in .csv or .npz.")
    if not path.exists():
        raise CompareError(f"--data {path}: there is no such file.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CompareError(f"--data {path}: cannot be read ({error.strerror}).") from error
    features, labels, target = readers[path.suffix.lower()](path.name, content, target)
    classes, indices = np.unique(labels, return_inverse=True)
    names = tuple(str(c) for c in classes)
    digest = hashlib.sha256(content).hexdigest()
    return _checked(Dataset(features, indices.astype(np.int32), names, path.name, digest, target))


def split(dataset: Dataset) -> Split:
    """60% training, 20% validation and 20% test samples, stratified; the same in every call.

    Each feature is shifted and scaled to mean 0 and standard deviation 1 on the training samples;
    a feature that is constant there is only shifted.
    """
    from sklearn.model_selection import train_test_split

    def parts(indices: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        return train_test_split(
            indices, test_size=share, stratify=dataset.labels[indices], random_state=SPLIT_SEED
        )

    rest, test = parts(np.arange(len(dataset.labels)), 0.2)
    training, validation = parts(rest, 0.25)
    order = np.concatenate([training, validation, test])
    mean = dataset.features[training].mean(0)
    scale = dataset.features[training].std(0)
    features = (dataset.features - mean) / np.where(scale > 0, scale, 1)
    with np.errstate(over="ignore"):
        features = features.astype(np.float32)[order]
    if not np.isfinite(features).all():
        column = int(np.argwhere(~np.isfinite(features))[0, 1]) + 1
        raise CompareError(
            f"feature {column} has values too large to standardise in float32; rescale it."
        )
    sizes = (len(training), len(validation), len(test))
    return Split(features, dataset.labels[order], len(dataset.classes), sizes)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    classes = tuple(map(str, range(10)))
    return Dataset(features.astype(np.float64), labels.astype(np.int32), classes, "digits")


# ------------------------------------------------------------------------------------------------
# CSV


def _csv(name: str, content: bytes, target: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    import pandas as pd

    try:
        table = pd.read_csv(io.BytesIO(content), low_memory=False)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' own errors are ValueErrors
        reason = " ".join(str(error).split())
        raise CompareError(f"{name} is not a CSV file that can be read: {reason}.") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise CompareError(f"{name}: the rows have more values than the header has names.")
    columns = [str(c) for c in table.columns]
    table.columns = pd.Index(columns)
    target = _named(name, "column", target, columns)
    if not len(table):
        raise CompareError(f"{name} has no rows below the header.")
    if len(columns) < 2:
        raise CompareError(f"{name} has no column besides the target {target!r}.")

    def where(row: int) -> str:
        return f"data row {row + 1} (line {_line(content, row)} of the file)"

    labels = table[target]
    for row in np.flatnonzero(labels.isna().to_numpy())[:1]:
        raise CompareError(f"{name}: the target {target!r} is empty or NaN in {where(row)}.")
    classes = _classes(name, target, labels.to_numpy())
    blocks = []
    for position, column in enumerate(columns):
        if column == target:
            continue
        if column.startswith("Unnamed: "):
            raise CompareError(
                f"{name}: column {position + 1} has no name (an exported row number?); name it in "
                "the header, or remove it."
            )
        values = table[column]
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        for row in np.flatnonzero(~np.isfinite(numbers))[:1]:
            value = values.iloc[row]
            if pd.isna(value):
                kind, text = "incomplete", "is empty or NaN"
            else:
                numeric = pd.api.types.is_numeric_dtype(values.dtype)
                kind, text = "not finite" if numeric else "not numeric", f"is {str(value)!r}"
            raise CompareError(
                f"{name}: column {column!r} is {kind}: {where(row)} {text}; features must be "
                "finite numbers."
            )
        blocks.append(numbers)
    return np.stack(blocks, 1), classes, target


def _line(content: bytes, row: int) -> int:
    """The line of the file on which a data row starts (records may span lines, lines be blank)."""
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    start, position = 1, -1  # -1 is the header
    limit = csv.field_size_limit(len(content))  # a text may be longer than csv reads by default
    try:
        for record in reader:
            if record:
                if position == row:
                    break
                position += 1
            start = reader.line_num + 1
    finally:
        csv.field_size_limit(limit)
    return start


# ------------------------------------------------------------------------------------------------
# NumPy archives


def _npz(name: str, content: bytes, target: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    try:
        archive = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # NumPy, zipfile and zlib have errors of many types
        raise CompareError(f"{name} is not a NumPy archive (numpy.savez writes them).") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise CompareError(f"{name} holds a single array, not an archive: use numpy.savez.")
    arrays = {}
    for key in archive.files:
        try:
            arrays[key] = archive[key]
        except Exception as error:
            reason = "has Python objects" if "pickle" in str(error) else "cannot be read"
            raise CompareError(f"{name}: array {key!r} {reason}; save numbers.") from error
    target = _named(name, "array", target, list(arrays))
    labels = arrays.pop(target)
    if labels.ndim != 1:
        raise CompareError(
            f"{name}: the target {target!r} must have one dimension, a class for each sample; its "
            f"shape is {labels.shape}."
        )
    if not arrays:
        raise CompareError(f"{name} has no array besides the target {target!r}.")
    classes = _classes(name, target, labels)
    blocks = []
    for key, values in sorted(arrays.items()):
        if values.ndim == 0 or len(values) != len(labels):
            rows = f"{len(values)} rows" if values.ndim else "no rows"
            raise CompareError(
                f"{name}: array {key!r} has {rows}, the target {target!r} has {len(labels)}; all "
                "arrays must have a row for each sample."
            )
        if not (np.issubdtype(values.dtype, np.number) or values.dtype == bool) or (
            np.iscomplexobj(values)
        ):
            raise CompareError(
                f"{name}: array {key!r} is not numeric (its dtype is {values.dtype}); features "
                "must be real numbers."
            )
        values = values.reshape(len(labels), math.prod(values.shape[1:])).astype(np.float64)
        for row, column in np.argwhere(~np.isfinite(values))[:1]:
            raise CompareError(
                f"{name}: array {key!r} is {values[row, column]} in row {row + 1}, column "
                f"{column + 1}; features must be finite numbers."
            )
        blocks.append(values)
    return np.concatenate(blocks, 1), classes, target


# ------------------------------------------------------------------------------------------------
# Checks


def _named(name: str, kind: str, target: str | None, names: Sequence[str]) -> str:
    """The target, if it is one of the names."""
    listed = ", ".join(names[:30]) + (f", … ({len(names)} in all)" if len(names) > 30 else "")
    if target is None:
        raise CompareError(f"--data {name} needs --target, the {kind} of the classes: {listed}.")
    if target not in names:
        close = difflib.get_close_matches(target, names, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise CompareError(f"{name} has no {kind} {target!r}. {hint}It has: {listed}.")
    return target


def _classes(name: str, target: str, labels: np.ndarray) -> np.ndarray:
    """The labels as integers, bools or strings."""
    if labels.dtype.kind == "c":
        raise CompareError(f"{name}: the target {target!r} is complex; give each class a number.")
    if labels.dtype.kind == "f":
        for row in np.flatnonzero(~np.isfinite(labels))[:1]:
            raise CompareError(
                f"{name}: the target {target!r} is {labels[row]} in row {row + 1}; each sample "
                "needs a class."
            )
        if (labels != np.round(labels)).any():
            value = labels[labels != np.round(labels)][0]
            raise CompareError(
                f"{name}: the target {target!r} is continuous (for example {value:g}); only "
                "classification is compared, so it must have classes."
            )
        return labels.astype(np.int64)
    return labels if labels.dtype.kind in "iub" else labels.astype(str)


def _checked(dataset: Dataset) -> Dataset:
    """The data set, if it can be split."""
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    samples, classes = len(dataset.labels), len(counts)
    prefix = f"{dataset.source}: the target {dataset.target!r}"
    if not dataset.features.shape[1]:
        raise CompareError(f"{dataset.source} has no features.")
    if classes < 2:
        only = f"only one class, {dataset.classes[0]!r}" if classes else "no samples"
        raise CompareError(f"{prefix} has {only}; at least two classes are needed.")
    if samples < SAMPLES_PER_CLASS * classes:
        raise CompareError(
            f"{prefix} has {classes} classes in {samples} samples, fewer than the "
            f"{SAMPLES_PER_CLASS} samples a class that a split into training, validation and test "
            "needs; is it a quantity or an identifier instead of a class?"
        )
    if counts.min() < SAMPLES_PER_CLASS:
        rare = int(counts.argmin())
        raise CompareError(
            f"{prefix} has class {dataset.classes[rare]!r} with {counts[rare]} samples; a split "
            f"into training, validation and test needs {SAMPLES_PER_CLASS} of each class: merge it "
            "with another, or remove its samples."
        )
    return dataset
