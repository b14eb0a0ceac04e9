"""``results.json``: what it holds, and how it survives an interruption.

The file is rewritten whenever a program has finished, through a temporary file in the same folder,
so that it is complete at any moment. It holds the configuration that all figures follow from;
figures of another configuration are never mixed in.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import optax

from jaxact._errors import CompareError
from jaxact._files import read_json
from jaxact.compare.conclusions import conclude
from jaxact.compare.data import Dataset, Split
from jaxact.compare.settings import Settings
from jaxact.compare.statistics import Interval, Row, summarize
from jaxact.compare.study import Cell, Cost, Figures, Study

FORMAT = "jaxact-compare/2"
_REMEDY = "start over with --restart, or choose another folder with --out"


@dataclasses.dataclass
class Results:
    """What a command has compared: one study, or several on the same data.

    Args:
      studies: finished or not.
      request: the options of the command, for ``jaxact compare --from``.
    """

    studies: list[Study]
    request: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether everything is trained and measured."""
        return all(not study.missing and study.costs for study in self.studies)

    def conclusion(self) -> list[str]:
        """What follows from the figures, in sentences; the first one is the headline."""
        return [sentence for study in self.studies for sentence in conclude(study)]

    def to_json(self) -> str:
        """The text of ``results.json``. What is not finite is null."""
        first, *others = (_study_to_json(study, self.finished) for study in self.studies)
        content = {
            "format": FORMAT,
            "conclusion": self.conclusion() if self.finished else [],
            "finished": self.finished,
            **first,
            "also": others,
            "request": self.request,
        }
        text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
        # A list of numbers in one line.
        return re.sub(r"\[[\d\s.,eE+\-nul]*\]", lambda m: " ".join(m[0].split()), text) + "\n"


def configuration(
    settings: Settings, dataset: Dataset, data: Split, time_budget: float | None = None
) -> dict[str, Any]:
    """Everything that the figures follow from.

    Args:
      settings: of the study.
      dataset: the samples.
      data: their first split.
      time_budget: the seconds that decided the number of seeds, if they did.
    """
    device = jax.devices()[0]
    training, validation, test = data.sizes
    return {
        **dataclasses.asdict(settings),
        "activations": list(settings.activations),
        "widths": list(settings.hidden),
        "sweeps": [{"name": s.name, "values": list(s.values)} for s in settings.sweeps],
        "tune": list(settings.tune),
        "margin": settings.margin_of(dataset.task),
        "task": dataset.task,
        "time_budget": time_budget,
        "optimizer": "adam",
        "initializer": "he_normal",
        "data": {
            "source": dataset.source,
            "sha256": dataset.sha256,
            "target": dataset.target,
            "samples": dataset.samples,
            "features": dataset.inputs,
            "classes": len(dataset.classes),
            "training_samples": training,
            "validation_samples": validation,
            "test_samples": test,
            "baseline": dict(data.baseline),
            "columns": [dataclasses.asdict(column) for column in dataset.columns],
        },
        "versions": {
            "jaxact": version("jaxact"),
            "jax": jax.__version__,
            "flax": flax.__version__,
            "optax": optax.__version__,
        },
        "device": {"platform": device.platform, "kind": device.device_kind},
    }


def read(path: Path) -> dict[str, Any] | None:
    """What a file holds, its format checked; None if there is no file.

    Raises:
      CompareError: the file is not one of `jaxact compare`.
    """
    if not path.exists():
        return None
    try:
        content = read_json(path, CompareError)
    except CompareError as error:
        raise CompareError(f"{str(error).rstrip('.')}: {_REMEDY}.") from error
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {FORMAT!r}")
        for study in (content, *content["also"]):
            if not isinstance(study["configuration"], dict):
                raise ValueError("its configuration is not a table")
    except (ValueError, TypeError, KeyError) as error:
        raise CompareError(
            f"{path} is damaged or not from jaxact compare ({_reason(error)}): {_REMEDY}."
        ) from error
    return content


def restore(path: Path, content: Mapping[str, Any] | None, studies: Sequence[Study]) -> None:
    """Fill studies with the figures of a file.

    Raises:
      CompareError: the file is of another configuration (the message shows each difference), or is
        damaged.
    """
    if content is None:
        return
    stored = [content, *content["also"]]
    if len(stored) != len(studies):
        raise CompareError(
            f"{path} has {len(stored)} studies, this command {len(studies)}: {_REMEDY}."
        )
    for study, other in zip(studies, stored, strict=True):
        if different := differences(other["configuration"], study.configuration, "there", "here"):
            raise CompareError(
                f"{path} is of another configuration: {different}. To compare with this one, "
                f"{_REMEDY}."
            )
        try:
            _fill(study, other)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise CompareError(f"{path} is damaged ({_reason(error)}): {_REMEDY}.") from error


def differences(one: Mapping[str, Any], other: Mapping[str, Any], *where: str) -> str:
    """How two configurations differ, in words; nothing if they are the same."""
    found = [
        f"{key} is {_short(a)} {where[0]} and {_short(b)} {where[1]}"
        for key, a, b in _differences(one, _finite(other))
    ]
    more = [f"and {len(found) - 5} more"] if len(found) > 5 else []
    return "; ".join(found[:5] + more)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _reason(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def _differences(stored: Any, given: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The dotted name and both values of each entry that differs between two nested tables."""
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        for key in dict.fromkeys([*given, *stored]):
            yield from _differences(stored.get(key), given.get(key), f"{prefix}.{key}".strip("."))
    elif stored != given:
        yield prefix, stored, given


def _finite(value: Any) -> Any:
    """JSON's types, with None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ------------------------------------------------------------------------------------------------
# One study


def _study_to_json(study: Study, finished: bool) -> dict[str, Any]:
    # Nobody reads what follows from half of the figures, and it takes a second to compute.
    rows = summarize(study) if finished else {}
    return {
        "configuration": study.configuration,
        "arms": {c.label: _figures_to_json(c, f) for c, f in study.figures.items()},
        "summary": {c.label: _row_to_json(row) for c, row in rows.items()},
        "cost": {
            arm: dataclasses.asdict(c) | {"ms_per_step": c.ms_per_step.tolist()}
            for arm, c in study.costs.items()
        },
    }


#: The fields of `Figures` with a number for each run.
_PER_RUN = ("best_epoch", "final_train_loss", "dead_units_percent")


def _figures_to_json(cell: Cell, figures: Figures) -> dict[str, Any]:
    per_seed = {f"test_{name}": score.tolist() for name, score in figures.scores.items()}
    return {
        "activation": cell.activation,
        "point": dict(cell.point),
        "learning_rate": figures.learning_rate,
        "tuned": [[rate, loss] for rate, loss in figures.tuned.items()],
        "per_seed": per_seed | {n: getattr(figures, n).tolist() for n in _PER_RUN},
        "learned_slopes": figures.learned_slopes.tolist(),
        "curves": {name: curve.tolist() for name, curve in figures.curves.items()},
        "dead_by_layer": figures.dead_by_layer.tolist(),
        "timing": {"seconds": figures.seconds},
    }


def _fill(study: Study, content: Mapping[str, Any]) -> None:
    c = study.configuration
    runs = c["splits"] * c["seeds"]
    cells = {cell.label: cell for cell in study.cells}
    if unknown := set(content["arms"]) - set(cells):
        raise ValueError(f"it has arms that its configuration has not: {sorted(unknown)[0]}")
    for label, cell in cells.items():
        if label in content["arms"]:
            figures = _figures_from_json(study, content["arms"][label], runs, c["epochs"])
            study.figures[cell] = figures
    for arm, cost in content["cost"].items():
        times = _array(cost["ms_per_step"], "ms_per_step", None)
        if times.ndim != 1 or not len(times) or not (times > 0).all():
            raise ValueError(f"ms_per_step of {arm} is not a list of times")
        study.costs[arm] = Cost(times, int(cost["networks"]), int(cost["kept_bytes"]))


def _figures_from_json(study: Study, content: Mapping[str, Any], runs: int, epochs: int) -> Figures:
    per_seed, curves = content["per_seed"], content["curves"]
    first = study.scores[0].name
    names = ("train_loss", "validation_loss", f"validation_{first}", f"test_{first}")
    scores = {
        score.name: _array(per_seed[f"test_{score.name}"], f"test_{score.name}", (runs,))
        for score in study.scores
    }
    figures = Figures(
        scores=scores,
        **{name: _array(per_seed[name], name, (runs,)) for name in _PER_RUN},
        curves={name: _array(curves[name], name, (runs, epochs)) for name in names},
        dead_by_layer=_array(content["dead_by_layer"], "dead_by_layer", (runs, epochs, None)),
        learned_slopes=_array(content["learned_slopes"], "learned_slopes", (runs, None)),
        learning_rate=float(content["learning_rate"]),
        tuned={
            float(rate): math.inf if loss is None else float(loss)
            for rate, loss in content["tuned"]
        },
        seconds=float(content["timing"]["seconds"]),
    )
    best = figures.best_epoch
    if not ((best >= 1) & (best <= epochs) & (best == np.round(best))).all():
        raise ValueError(f"best_epoch is not from 1 to {epochs}")
    for name, low, high in (
        ("accuracy", 0, 1),
        ("balanced_accuracy", 0, 1),
        ("r2", -math.inf, 1),
        ("rmse", 0, math.inf),
    ):
        if name in scores:
            _check_range(f"test_{name}", scores[name], low, high, missing=low == -math.inf)
    _check_range("dead_units_percent", figures.dead_units_percent, 0, 100, missing=True)
    return dataclasses.replace(figures, best_epoch=best.astype(int))


def _array(values: Any, name: str, shape: tuple[int | None, ...] | None) -> np.ndarray:
    array = np.array(values, np.float64)  # null becomes NaN
    if shape is not None:
        # A list of empty lists has lost nothing: no layers.
        fits = array.ndim == len(shape) and all(
            expected in (None, size) for expected, size in zip(shape, array.shape, strict=True)
        )
        if not fits:
            wanted = tuple("any" if size is None else size for size in shape)
            raise ValueError(f"{name} has the shape {array.shape}, not {wanted}")
    return array


def _check_range(name: str, values: np.ndarray, low: float, high: float, *, missing: bool) -> None:
    wrong = ~((values >= low) & (values <= high)) & ~(np.isnan(values) & missing)
    if wrong.any():
        raise ValueError(f"{name} has {values[wrong][0]:g}, which is not from {low:g} to {high:g}")


def _row_to_json(row: Row) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Interval):
            return dataclasses.asdict(value) | {"half_width": value.half_width}
        if isinstance(value, Mapping):
            return {name: plain(one) for name, one in value.items()}
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return value

    content = {f.name: plain(getattr(row, f.name)) for f in dataclasses.fields(row)}
    del content["cell"]
    scores = {f"test_{name}": score for name, score in content.pop("scores").items()}
    return scores | {"diverged_seeds": content.pop("diverged")} | content
