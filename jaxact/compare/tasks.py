"""How good predictions are: the scores of a classification and of a regression."""

from collections.abc import Sequence

import numpy as np

from jaxact.compare.data import Split


def scores(data: Sequence[Split], predictions: np.ndarray, part: slice) -> dict[str, np.ndarray]:
    """The scores of one part of the samples, by `Score.name`, each ``(splits, members)``.

    Args:
      data: the splits.
      predictions: classes, or standardised targets, ``(splits, members, samples)``.
      part: which samples.
    """
    score = _classification if data[0].classes else _regression
    each = [score(s, p[:, part], s.targets[part]) for s, p in zip(data, predictions, strict=True)]
    return {name: np.stack([one[name] for one in each]) for name in each[0]}


def _classification(
    split: Split, predictions: np.ndarray, targets: np.ndarray
) -> dict[str, np.ndarray]:
    right = predictions == targets
    present = np.unique(targets)
    recalls = [right[:, targets == label].mean(-1) for label in present]
    return {"accuracy": right.mean(-1), "balanced_accuracy": np.mean(recalls, 0)}


def _regression(
    split: Split, predictions: np.ndarray, targets: np.ndarray
) -> dict[str, np.ndarray]:
    targets = targets.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # networks that diverged
        error = np.square(predictions.astype(np.float64) - targets).mean(-1)
        return {
            "r2": 1 - error / np.square(targets - targets.mean()).mean(),
            "rmse": np.sqrt(error) * split.target_scale,
        }
