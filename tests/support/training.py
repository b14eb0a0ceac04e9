"""Small data for tests that train."""

import functools

import numpy as np

from jaxact.compare.data import Split

SIZES = (90, 30, 30)


@functools.cache
def blobs(index: int = 0) -> Split:
    """150 samples of three classes, four features; another draw for each index."""
    rng = np.random.default_rng(index)
    labels = np.arange(150, dtype=np.int32) % 3
    features = rng.normal(size=(150, 4)) + 1.5 * np.eye(4)[labels]
    return Split(
        features=features.astype(np.float32),
        targets=labels,
        classes=3,
        sizes=SIZES,
        target_mean=0.0,
        target_scale=1.0,
        baseline={"accuracy": 1 / 3, "balanced_accuracy": 1 / 3},
    )


@functools.cache
def numbers() -> Split:
    """150 samples of a regression on two features, whose target is standardised by 2 z + 10."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(150, 2)).astype(np.float32)
    return Split(
        features=features,
        targets=np.abs(features[:, 0]) + 0.1 * features[:, 1],
        classes=0,
        sizes=SIZES,
        target_mean=10.0,
        target_scale=2.0,
        baseline={"r2": 0.0, "rmse": 1.0},
    )


@functools.cache
def images() -> Split:
    """150 images of 6 x 5 pixels in two classes: a bright column, or a bright row."""
    rng = np.random.default_rng(0)
    labels = np.arange(150, dtype=np.int32) % 2
    pixels = 0.1 * rng.normal(size=(150, 6, 5, 1))
    for sample, label in enumerate(labels):
        if label:
            pixels[sample, rng.integers(6)] += 1
        else:
            pixels[sample, :, rng.integers(5)] += 1
    return Split(
        features=pixels.astype(np.float32),
        targets=labels,
        classes=2,
        sizes=SIZES,
        target_mean=0.0,
        target_scale=1.0,
        baseline={"accuracy": 0.5, "balanced_accuracy": 0.5},
    )
