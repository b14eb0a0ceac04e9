"""Training, validation and test samples, prepared for networks by scikit-learn.

What is learned of the data (means, medians, categories) is learned of the training part alone.
"""

import dataclasses
import warnings

import numpy as np

from jaxact._errors import CompareError
from jaxact.compare.columns import MOST_CATEGORIES, Feature
from jaxact.compare.dataset import Dataset

#: How the columns of a table are prepared.
KINDS = ("number", "boolean", "category")
OUTLIERS = (
    "The data have values outside of the training samples that are too large to standardise in "
    "float32, compared with those in them; look for outliers."
)


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


def split(dataset: Dataset, index: int = 0, samples: int | None = None) -> Split:
    """60% training, 20% validation and 20% test samples; the same in every call.

    Classes have the same shares in each part. A test part that the file gives is the test part of
    every split. Numbers are shifted and scaled to mean 0 and standard deviation 1, missing ones
    become the median, and each category becomes a column of zeros and ones. A feature that is the
    same in all training samples is 0 there, and at most 1 away from it elsewhere.

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
    if isinstance(dataset.features, np.ndarray):
        values = _prepared_array(dataset.features, len(training), order)
    else:
        values = _prepared_table(dataset.features, len(training), order)
    features = _as_float32(_bounded(values, len(training)))
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


# ------------------------------------------------------------------------------------------------
# Targets


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
    exponent = int(np.frexp(np.abs(targets[: sizes[0]]).max())[1])
    near = np.ldexp(targets, -exponent)
    training, test = near[: sizes[0]], near[sizes[0] + sizes[1] :]
    mean, scale = float(training.mean()), float(training.std())
    if np.ptp(training) == 0:
        raise CompareError(
            f"{dataset.source}: the target {dataset.target!r} is the same in all training samples."
        )
    standardised = ((near - mean) / scale).astype(np.float32)
    errors = float(((test - mean) ** 2).mean())
    spread = float(test.var())
    baseline = {
        "r2": 1 - errors / spread if spread else 0.0,
        "rmse": float(np.ldexp(errors**0.5, exponent)),
    }
    mean, scale = (float(np.ldexp(value, exponent)) for value in (mean, scale))
    return Split(features, standardised, 0, sizes, mean, scale, baseline)


# ------------------------------------------------------------------------------------------------
# Features


def _prepared_table(features: tuple[Feature, ...], training: int, order: np.ndarray) -> np.ndarray:
    """The columns of a table as a network takes them; the first samples are for training."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    def standardised(missing: str) -> object:
        return make_pipeline(
            SimpleImputer(strategy=missing, keep_empty_features=True), StandardScaler()
        )

    categories = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=MOST_CATEGORIES, sparse_output=False
    )
    of = {kind: [one for one in features if one.kind == kind] for kind in KINDS}
    measured = [one.values[order] for kind in ("number", "boolean") for one in of[kind]]
    numbers = _near_one(np.array(measured, np.float64).reshape(-1, len(order)).T, training)
    texts = {len(measured) + i: one.values[order] for i, one in enumerate(of["category"])}
    frame = pd.concat([pd.DataFrame(numbers), pd.DataFrame(texts)], axis=1)
    first_boolean, first_category = len(of["number"]), len(measured)
    transformer = ColumnTransformer(
        [
            ("numbers", standardised("median"), list(range(first_boolean))),
            ("booleans", standardised("most_frequent"), list(range(first_boolean, first_category))),
            ("categories", categories, list(range(first_category, len(features)))),
        ]
    )
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        # A category that no training sample has is a row of zeros, as it should be.
        warnings.filterwarnings("ignore", "Found unknown categories", UserWarning)
        transformer.fit(frame.iloc[:training])
        return np.asarray(transformer.transform(frame), np.float64)


def _prepared_array(features: np.ndarray, training: int, order: np.ndarray) -> np.ndarray:
    """Each feature, of images each channel, with mean 0 and standard deviation 1."""
    values = features[order]
    axes = tuple(range(values.ndim - 1)) if values.ndim > 2 else (0,)
    near = _near_one(values, training)
    mean, scale = near[:training].mean(axes), near[:training].std(axes)
    # Where all are equal, the mean is so but for rounding.
    scale = np.where(scale > 1e-12, scale, 1)
    with np.errstate(over="ignore"):
        prepared: np.ndarray = (near - mean) / scale
    return prepared


def _near_one(values: np.ndarray, training: int) -> np.ndarray:
    """Each feature times a power of two, which is exact, so that the training samples are below 1:
    squares of huge numbers overflow, those of tiny ones vanish."""
    known = np.abs(values[:training])
    largest = np.where(np.isnan(known), 0, known).max(tuple(range(values.ndim - 1)))
    with np.errstate(over="ignore"):
        found: np.ndarray = np.ldexp(values, -np.frexp(largest)[1])
    if np.isinf(found).any():
        raise CompareError(OUTLIERS)
    return found


def _bounded(values: np.ndarray, training: int) -> np.ndarray:
    """Features that are the same in all training samples, within 1 of it everywhere: there is no
    scale for them."""
    axes = tuple(range(values.ndim - 1))
    same = np.ptp(values[:training], axis=axes) < 1e-6
    return np.where(same, np.clip(values, -1, 1), values) if same.any() else values


def _as_float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        found = np.asarray(values, np.float32)
    if not np.isfinite(found).all():
        raise CompareError(OUTLIERS)
    return found
