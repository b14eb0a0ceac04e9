"""A problem that networks are trained on: features, and a target that is to be predicted."""

import dataclasses

import numpy as np

from jaxact.compare.columns import Column, Feature


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
      sha256: of the file's bytes, or of a DataFrame's values; None for digits.
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
