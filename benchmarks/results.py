"""What long benchmarks have found, saved for the notebooks: benchmarks/results/NAME.json.

A file says which command wrote it, when, and with which JAX, so that a reader can do it again.
"""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

RESULTS = Path(__file__).parent / "results"


def save(name: str, figures: Mapping[str, Any], *, command: str, seconds: float) -> Path:
    """Write NAME.json.

    Args:
      name: of the benchmark.
      figures: numbers, texts, arrays, and lists and dictionaries of them. Numbers are rounded to
        five digits.
      command: what wrote them.
      seconds: how long it took.
    """
    document = {
        "command": command,
        "jax": jax.__version__,
        "date": str(datetime.date.today()),
        "minutes": round(seconds / 60, 1),
        "figures": _plain(figures),
    }
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def load(name: str) -> dict[str, Any]:
    """What `save` wrote: ``command``, ``jax``, ``date``, ``minutes`` and ``figures``."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(of_name) for name, of_name in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _plain(np.asarray(value).tolist())
    return float(f"{value:.5g}") if isinstance(value, float) else value


class Interval(NamedTuple):
    """A mean and its 95% interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's interval of the mean of runs that differ in their seed alone.

    Of a difference, give the differences of runs with the same seed. Where several comparisons are
    drawn from one table, a level of ``1 - 0.05 / comparisons`` (Bonferroni) covers all of them.
    """
    values = np.asarray(values, np.float64)
    half = stats.sem(values) * stats.t.ppf((1 + level) / 2, len(values) - 1)
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half))
