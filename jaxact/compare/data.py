"""The data of a comparison: a table or arrays, prepared by scikit-learn, and split.

What is learned of the data (means, medians, categories) is learned of the training part alone.
"""

import dataclasses
import difflib
import hashlib
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxact._errors import CompareError
from jaxact.compare import columns as columns_module, files
from jaxact.compare.columns import Column, Feature
from jaxact.compare.files import Problems, Table

#: Every class needs this many samples, so that all three parts of the split have some.
SAMPLES_PER_CLASS = 5
#: A regression needs this many.
SAMPLES = 10
#: Whole numbers with more different values than this, and than 5% of the samples, are a quantity.
MOST_CLASSES = 20
MOST_CLASSES_SHARE = 0.05
#: Of a column with more values, the rarest share one.
MOST_CATEGORIES = 32
MAX_MEMORY = 4 << 30

_GIVEN = ("x_train", "y_train", "x_test", "y_test")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A problem: features, and a target that is to be predicted.

    Args:
      features: the columns of a table that are used; or float64 arrays of shape ``(samples, ...)``:
        images ``(samples, height, width, channels)``, else ``(samples, features)``.
      targets: int32 indices into ``classes``, or float64 numbers, ``(samples,)``.
      classes: the classes' names; none for a regression.
      task: ``"classification"`` or ``"regression"``.
      task_reason: what of the target says so.
      source: ``"digits"`` or the file's name.
      sha256: of the file's bytes; None for digits.
      target: the name of the target in the file; None for digits.
      columns: what is made of each column, those that are left out too.
      test: the samples of the test part, where the file says it; else it is drawn.
    """

    features: tuple[Feature, ...] | np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]
    task: str
    task_reason: str
    source: str
    sha256: str | None = None
    target: str | None = None
    columns: tuple[Column, ...] = ()
    test: np.ndarray | None = None

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(self.targets)

    @property
    def inputs(self) -> int:
        """How many features there are, before categories become columns."""
        if isinstance(self.features, np.ndarray):
            return int(np.prod(self.features.shape[1:]))
        return len(self.features)


@dataclasses.dataclass(frozen=True)
class Split:
    """The samples in the order training, validation, test, ready for a network.

    Args:
      features: float32, standardised, ``(samples, features)``, of images ``(samples, height, width,
        channels)``.
      targets: int32 classes, or float32 standardised numbers, ``(samples,)``.
      classes: the number of classes; 0 for a regression.
      sizes: the number of samples of the three parts.
      target_mean: what a standardised target of 0 means.
      target_scale: the standard deviation of the training targets; 1 for a classification.
      baseline: the test scores of the training samples' majority class, or of their mean.
    """

    features: np.ndarray
    targets: np.ndarray
    classes: int
    sizes: tuple[int, int, int]
    target_mean: float
    target_scale: float
    baseline: dict[str, float]

    @property
    def training(self) -> slice:
        return slice(0, self.sizes[0])

    @property
    def validation(self) -> slice:
        return slice(self.sizes[0], self.sizes[0] + self.sizes[1])

    @property
    def test(self) -> slice:
        return slice(self.sizes[0] + self.sizes[1], sum(self.sizes))


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
    if path is None:
        for name, value in (("target", target), ("drop", drop), ("features", features)):
            if value:
                shown = value if isinstance(value, str) else ",".join(value)
                raise CompareError(
                    f"--{name} {shown} has no file to look in: give one with --data, or leave "
                    f"--{name} out (digits has its own)."
                )
        return _digits(task)
    if not isinstance(path, str | Path):
        return _of_table(
            "table", None, files.of_frame(path), target, task, drop, features, missing or ()
        )
    path = Path(path)
    raw = files.content(path, max_memory)
    digest = hashlib.sha256(raw).hexdigest()
    kind = files.ending(path)
    if kind == ".npz":
        arrays = files.read_arrays(path, raw, max_memory)
        return _of_arrays(path.name, digest, arrays, target, task, drop, features)
    if kind == ".parquet":
        table = files.read_parquet(path, raw, max_memory)
    else:
        table = files.read_text(path, raw, target, max_memory)
    return _of_table(path.name, digest, table, target, task, drop, features, missing or ())


def columns_table(dataset: Dataset) -> str:
    """What was made of the target and of each column, as text of at most 80 columns."""
    name = dataset.target or "target"
    if dataset.classes:
        what = f"{len(dataset.classes)} classes"
    else:
        what = f"{dataset.targets.min():g} to {dataset.targets.max():g}"
    title = (
        f"{dataset.source}: {dataset.samples} samples; {name} is a {dataset.task} target "
        f"({dataset.task_reason}): {what}."
    )
    return columns_module.as_table(dataset.columns, title)


# ------------------------------------------------------------------------------------------------
# Splits


def split(dataset: Dataset, index: int = 0, samples: int | None = None) -> Split:
    """60% training, 20% validation and 20% test samples; the same in every call.

    Classes have the same shares in each part. A test part that the file gives is the test part of
    every split. Numbers are shifted and scaled to mean 0 and standard deviation 1, missing ones
    become the median, and each category becomes a column of zeros and ones.

    Args:
      dataset: the samples.
      index: which split; each is another random one.
      samples: how many training samples are used; the first of more are those of fewer. None: all.

    Raises:
      CompareError: there are not that many, or a feature is too large for float32.
    """
    from sklearn.model_selection import train_test_split

    labels = dataset.targets if dataset.classes else None

    def parts(indices: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        stratify = None if labels is None else labels[indices]
        return train_test_split(indices, test_size=share, stratify=stratify, random_state=index)

    if dataset.test is None:
        rest, test = parts(np.arange(dataset.samples), 0.2)
    else:
        test = dataset.test
        rest = np.setdiff1d(np.arange(dataset.samples), test)
    training, validation = parts(rest, 0.25)
    if samples is not None:
        if not 2 <= samples <= len(training):
            raise CompareError(
                f"samples={samples}: there are {len(training)} training samples; take from 2 to as "
                "many."
            )
        training = training[:samples]
    order = np.concatenate([training, validation, test])
    features = _prepared(dataset, training, order)
    sizes = (len(training), len(validation), len(test))
    if dataset.classes:
        return _classes_split(dataset, features, order, sizes)
    return _numbers_split(dataset, features, order, sizes)


def splits(dataset: Dataset, count: int, samples: int | None = None) -> list[Split]:
    """The first splits, all of the same shapes: where a category is in some training parts only,
    the others have a column of zeros."""
    found = [split(dataset, index, samples) for index in range(count)]
    width = max(one.features.shape[-1] for one in found)

    def padded(one: Split) -> Split:
        more = width - one.features.shape[-1]
        pad = [(0, 0)] * (one.features.ndim - 1) + [(0, more)]
        return dataclasses.replace(one, features=np.pad(one.features, pad))

    return [padded(one) for one in found]


def _classes_split(
    dataset: Dataset, features: np.ndarray, order: np.ndarray, sizes: tuple[int, int, int]
) -> Split:
    targets = dataset.targets[order]
    test = targets[sizes[0] + sizes[1] :]
    majority = int(np.bincount(targets[: sizes[0]]).argmax())
    baseline = {
        "accuracy": float((test == majority).mean()),
        "balanced_accuracy": float((np.unique(test) == majority).mean()),
    }
    return Split(features, targets, len(dataset.classes), sizes, 0.0, 1.0, baseline)


def _numbers_split(
    dataset: Dataset, features: np.ndarray, order: np.ndarray, sizes: tuple[int, int, int]
) -> Split:
    targets = dataset.targets[order]
    training, test = targets[: sizes[0]], targets[sizes[0] + sizes[1] :]
    # Of numbers whose squares neither overflow nor vanish.
    unit = float(np.abs(training).max()) or 1.0
    mean, scale = float((training / unit).mean()), float((training / unit).std())
    if scale == 0:
        raise CompareError(
            f"{dataset.source}: the target {dataset.target!r} is the same in all training samples."
        )
    standardised = ((targets / unit - mean) / scale).astype(np.float32)
    of_test = (test / unit - mean) / scale
    spread = float(((of_test - of_test.mean()) ** 2).mean())
    baseline = {
        "r2": 1 - float((of_test**2).mean()) / spread if spread else 0.0,
        "rmse": float((of_test**2).mean()) ** 0.5 * scale * unit,
    }
    return Split(features, standardised, 0, sizes, mean * unit, scale * unit, baseline)


def _prepared(dataset: Dataset, training: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The features as a network takes them, in an order of the samples."""
    if isinstance(dataset.features, np.ndarray):
        return _prepared_array(dataset, training, order)
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
    )
    categories = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=MOST_CATEGORIES, sparse_output=False
    )
    names = [str(i) for i in range(len(dataset.features))]
    frame = pd.DataFrame(
        {
            n: f.values if f.is_category else _near_one(dataset, f.values, training)
            for n, f in zip(names, dataset.features, strict=True)
        },
        copy=False,
    )
    of = {n: f.is_category for n, f in zip(names, dataset.features, strict=True)}
    transformer = ColumnTransformer(
        [
            ("numbers", numbers, [n for n in names if not of[n]]),
            ("categories", categories, [n for n in names if of[n]]),
        ]
    )
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        # A category that no training sample has is a row of zeros, as it should be.
        warnings.filterwarnings("ignore", "Found unknown categories", UserWarning)
        transformer.fit(frame.iloc[training])
        values = transformer.transform(frame.iloc[order])
    return _as_float32(dataset, values)


def _near_one(dataset: Dataset, values: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Numbers of which the largest training one is 1: squares of huge numbers overflow, those of
    tiny ones vanish."""
    known = np.abs(values[training])
    unit = known[~np.isnan(known)].max(initial=0) or 1.0
    with np.errstate(over="ignore"):
        found = values / unit
    _check_finite(dataset, found[~np.isnan(values)])
    return found


def _prepared_array(dataset: Dataset, training: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Each feature, of images each channel, with mean 0 and standard deviation 1."""
    array = np.asarray(dataset.features)
    axes = tuple(range(array.ndim - 1)) if array.ndim > 2 else (0,)
    known = array[training]
    unit = np.abs(known).max(axes)
    unit = np.where(unit > 0, unit, 1)
    mean = (known / unit).mean(axes)
    scale = (known / unit).std(axes)
    # Where all are equal, the mean is so but for rounding.
    scale = np.where(scale > 1e-12, scale, 1)
    with np.errstate(over="ignore"):
        return _as_float32(dataset, (array[order] / unit - mean) / scale)


def _as_float32(dataset: Dataset, values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        found = np.asarray(values, np.float32)
    _check_finite(dataset, found)
    return found


def _check_finite(dataset: Dataset, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise CompareError(
            f"{dataset.source} has values outside of the training samples that are too large to "
            "standardise in float32, compared with those in them; look for outliers."
        )


# ------------------------------------------------------------------------------------------------
# From files


def _digits(task: str | None) -> Dataset:
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    if task == "regression":
        reason = "as asked"
        return Dataset(features, labels.astype(np.float64), (), task, reason, "digits")
    classes = tuple(map(str, range(10)))
    targets = labels.astype(np.int32)
    return Dataset(features, targets, classes, "classification", "ten digits", "digits")


def _of_table(
    name: str,
    digest: str | None,
    table: Table,
    target: str | None,
    task: str | None,
    drop: Collection[str],
    wanted: Collection[str] | None,
    missing: Collection[str],
) -> Dataset:
    target = _named(name, "column", target, list(table.columns))
    problems = Problems(name)
    chosen = _chosen(list(table.columns), target, drop, wanted, problems)
    targets, classes, found, reason = _target(table, target, task, missing, problems)
    used, columns = columns_module.features(table, chosen, wanted or (), missing, problems)
    if not used and not problems:
        why = "; ".join(f"{c.name!r} is left out ({c.kind}: {c.note})" for c in columns[:5])
        problems.add(f"there is no feature besides the target {target!r}{': ' if why else ''}{why}")
    problems.raise_if_any()
    return _checked(
        Dataset(tuple(used), targets, classes, found, reason, name, digest, target, tuple(columns))
    )


def _chosen(
    names: Sequence[str],
    target: str,
    drop: Collection[str],
    wanted: Collection[str] | None,
    problems: Problems,
) -> list[str]:
    """The names of the features, in the order of the file."""
    for option, given in (("--drop", drop), ("--features", wanted or ())):
        for one in given:
            if one not in names:
                problems.add(f"{option} {one}: there is no such column{_close(one, names)}")
    if wanted and target in wanted:
        problems.add(f"--features {target}: is the target")
    if target in drop:
        problems.add(f"--drop {target}: is the target")
    return [n for n in names if n != target and n not in drop and (not wanted or n in wanted)]


def _of_arrays(
    name: str,
    digest: str,
    arrays: dict[str, np.ndarray],
    target: str | None,
    task: str | None,
    drop: Collection[str],
    wanted: Collection[str] | None,
) -> Dataset:
    test = None
    lowered = {key.lower(): key for key in arrays}
    if target is None and set(_GIVEN) <= set(lowered):
        x_train, y_train, x_test, y_test = (arrays[lowered[key]] for key in _GIVEN)
        problems = Problems(name)
        for key, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
            if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
                problems.add(f"x_{key} has the shape {x.shape}, y_{key} {y.shape}")
        if x_train.shape[1:] != x_test.shape[1:]:
            problems.add(
                f"samples of x_train have the shape {x_train.shape[1:]}, of x_test "
                f"{x_test.shape[1:]}"
            )
        problems.raise_if_any()
        test = np.arange(len(x_train), len(x_train) + len(x_test))
        arrays = {
            "x": np.concatenate([x_train, x_test]),
            "y": np.concatenate(
                [y_train.reshape(len(y_train), -1)[:, 0], y_test.reshape(len(y_test), -1)[:, 0]]
            ),
        }
        target, drop, wanted = "y", (), None
    target = _named(name, "array", target, list(arrays))
    problems = Problems(name)
    chosen = sorted(_chosen(list(arrays), target, drop, wanted, problems))
    labels = arrays[target]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise CompareError(
            f"{name}: the target {target!r} must have one dimension, a value for each sample; its "
            f"shape is {labels.shape}."
        )
    table = Table({target: _plain_labels(name, target, labels)}, range(1, len(labels) + 1))
    targets, classes, found, reason = _target(table, target, task, (), problems)
    if not chosen:
        problems.add(f"there is no array besides the target {target!r}")
    blocks, columns = [], []
    for key in chosen:
        block = _block(key, arrays[key], target, len(labels), problems)
        if block is not None:
            blocks.append(block)
            shape = "x".join(map(str, block.shape[1:])) or "1"
            what = "images" if block.ndim == 4 else "numbers"
            columns.append(Column(key, what, "standardised", f"{shape} of each sample"))
    problems.raise_if_any()
    if len(blocks) == 1 and blocks[0].ndim == 4:
        features = blocks[0]
    else:
        flat = [block.reshape(len(labels), -1) for block in blocks]
        features = np.concatenate(flat, 1)
    if not features[0].size:
        raise CompareError(f"{name} has no features.")
    return _checked(
        Dataset(
            features, targets, classes, found, reason, name, digest, target, tuple(columns), test
        )
    )


def _block(
    key: str, values: np.ndarray, target: str, samples: int, problems: Problems
) -> np.ndarray | None:
    if values.ndim == 0 or len(values) != samples:
        rows = f"{len(values)} rows" if values.ndim else "no rows"
        problems.add(f"array {key!r} has {rows}, the target {target!r} has {samples}")
        return None
    if not (np.issubdtype(values.dtype, np.number) or values.dtype == bool) or (
        np.iscomplexobj(values)
    ):
        problems.add(
            f"array {key!r} is not numeric (its dtype is {values.dtype}); features must be real "
            "numbers"
        )
        return None
    block = values.astype(np.float64)
    wrong = np.argwhere(~np.isfinite(block.reshape(samples, -1)))
    if len(wrong):
        row, column = wrong[0]
        value = block.reshape(samples, -1)[row, column]
        problems.add(
            f"array {key!r} is {value} in row {row + 1}, column {column + 1} (in {len(wrong)} "
            "places in all); features must be finite numbers"
        )
        return None
    if block.ndim == 3:
        block = block[..., None]  # one channel
    return block if block.ndim == 4 else block.reshape(samples, -1)


def _plain_labels(name: str, target: str, labels: np.ndarray) -> np.ndarray:
    """As a `Table` holds a column."""
    if labels.dtype.kind == "c":
        raise CompareError(f"{name}: the target {target!r} is complex; give each class a number.")
    if labels.dtype.kind in "iuf":
        exact = labels.dtype.kind == "f" or (np.abs(labels.astype(np.float64)) < 2**53).all()
        return labels.astype(np.float64) if exact else labels.astype(str).astype(object)
    if labels.dtype.kind == "b":
        return labels
    if labels.dtype.kind == "S":
        return np.array([label.decode("utf-8", "replace") for label in labels], object)
    return labels.astype(str).astype(object)


# ------------------------------------------------------------------------------------------------
# Targets


def _target(
    table: Table, target: str, task: str | None, missing: Collection[str], problems: Problems
) -> tuple[np.ndarray, tuple[str, ...], str, str]:
    """The targets, the classes' names, the task, and what says that it is this one."""
    values = table.columns[target]
    numbers, empty = _target_numbers(table, values, missing)
    rows = np.flatnonzero(empty)
    if len(rows):
        is_nan = values.dtype != object
        problems.add(
            f"the target {target!r} is {'missing' if is_nan else 'empty'} in "
            f"{columns_module.where(table, rows)}; remove these samples"
        )
        return np.zeros(len(values), np.int32), ("", ""), "classification", ""
    if numbers is not None and np.isinf(numbers).any():
        rows = np.flatnonzero(np.isinf(numbers))
        problems.add(f"the target {target!r} is not finite in {columns_module.where(table, rows)}")
        return np.zeros(len(values), np.int32), ("", ""), "classification", ""
    inferred, reason = _inferred(values, numbers)
    if task == "regression" and numbers is None:
        problems.add(f"the target {target!r} has texts: a regression needs numbers")
    if (task or inferred) == "regression":
        found = np.zeros(len(values)) if numbers is None else numbers
        return found, (), "regression", "as asked" if task else reason
    if numbers is not None and values.dtype != bool:
        distinct, indices = np.unique(numbers, return_inverse=True)
        names = tuple(_class_name(value) for value in distinct)
    else:
        texts = values.astype(str)
        distinct, indices = np.unique(texts, return_inverse=True)
        names = tuple(str(value) for value in distinct)
    return indices.astype(np.int32), names, "classification", "as asked" if task else reason


def _target_numbers(
    table: Table, values: np.ndarray, missing: Collection[str]
) -> tuple[np.ndarray | None, np.ndarray]:
    """The target as numbers, if it has numbers alone, and where it is missing.

    A text such as "NA" is a class like any other, among texts; among numbers it is none.
    """
    if values.dtype == bool:
        return None, np.zeros(len(values), bool)
    if values.dtype.kind == "M":
        return values.astype("datetime64[s]").astype(np.float64) / 86400, np.isnat(values)
    if values.dtype != object:
        return values, np.isnan(values)
    spelled = {text.strip().lower() for text in missing}
    empty = np.array([not text or text.lower() in spelled for text in values], bool)
    absent = columns_module.is_missing(values, missing)
    numbers, right, _ = columns_module.to_numbers(
        values[~absent], decimal_comma=table.decimal_comma
    )
    # Whole numbers that float64 cannot hold are names.
    exact = not len(numbers) or not np.any(
        (np.abs(numbers) >= 2**53)
        & np.array([text.lstrip("+-").isdigit() for text in values[~absent]], bool)
    )
    if not len(numbers) or not right.all() or not exact:
        return None, empty
    found = np.full(len(values), np.nan)
    found[~absent] = numbers
    return found, absent


def _inferred(values: np.ndarray, numbers: np.ndarray | None) -> tuple[str, str]:
    if numbers is None:
        what = "true or false" if values.dtype == bool else "names"
        return "classification", what
    different = len(np.unique(numbers))
    if (numbers != np.round(numbers)).any():
        return "regression", "numbers with fractions"
    if different > max(MOST_CLASSES, MOST_CLASSES_SHARE * len(numbers)):
        return "regression", f"{different} different whole numbers"
    return "classification", f"{different} different whole numbers"


def _class_name(value: float) -> str:
    if value == round(value) and abs(value) < 2**53:
        return str(int(value))
    return repr(float(value))


def _named(name: str, kind: str, target: str | None, names: Sequence[str]) -> str:
    """The target, if it is one of the names."""
    listed = ", ".join(names[:30]) + (f", … ({len(names)} in all)" if len(names) > 30 else "")
    if target is None:
        raise CompareError(f"--data {name} needs --target, the {kind} that is predicted: {listed}.")
    if target not in names:
        raise CompareError(
            f"{name} has no {kind} {target!r}{_close(target, names)}. It has: {listed}."
        )
    return target


def _close(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _checked(dataset: Dataset) -> Dataset:
    """The data set, if it can be split."""
    prefix = f"{dataset.source}: the target {dataset.target!r}"
    if not dataset.classes and dataset.task == "regression":
        if dataset.samples < SAMPLES:
            raise CompareError(
                f"{dataset.source} has {dataset.samples} samples; a regression needs {SAMPLES}."
            )
        if dataset.targets.min() == dataset.targets.max():
            raise CompareError(f"{prefix} is always {dataset.targets[0]:g}: nothing to predict.")
        return dataset
    counts = np.bincount(dataset.targets, minlength=len(dataset.classes))
    samples, classes = dataset.samples, len(counts)
    if classes < 2:
        only = f"only one class, {dataset.classes[0]!r}" if classes else "no samples"
        raise CompareError(f"{prefix} has {only}; at least two classes are needed.")
    if samples < SAMPLES_PER_CLASS * classes:
        raise CompareError(
            f"{prefix} has {classes} classes in {samples} samples, fewer than the "
            f"{SAMPLES_PER_CLASS} samples a class that a split into training, validation and test "
            "needs. If it is a quantity, say --task regression; if it is an identifier, take "
            "another column."
        )
    if counts.min() < SAMPLES_PER_CLASS:
        rare = [i for i in np.argsort(counts, kind="stable") if counts[i] < SAMPLES_PER_CLASS]
        shown = ", ".join(f"{dataset.classes[i]!r} with {counts[i]} samples" for i in rare[:3])
        more = f" and {len(rare) - 3} more" if len(rare) > 3 else ""
        raise CompareError(
            f"{prefix} has class {shown}{more}; a split into training, validation and test needs "
            f"{SAMPLES_PER_CLASS} of each class: merge it with another, or remove its samples."
        )
    return dataset
