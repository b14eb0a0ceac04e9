"""``results.json``: what it holds, and how it survives an interruption.

The file is rewritten whenever an arm has finished, through a temporary file in the same folder, so
that it is complete at any moment. It holds the configuration that all figures follow from; figures
of another configuration are never mixed in.
"""

import dataclasses
import importlib.metadata
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import optax

from jaxact._errors import CompareError
from jaxact.compare.data import SPLIT_SEED, Dataset, Split
from jaxact.compare.statistics import Interval, Summary, summarize
from jaxact.compare.training import Arm, Curves, Settings

FORMAT = "jaxact-compare/1"
_REMEDY = "start over with --restart, or choose another folder with --out"


@dataclasses.dataclass
class Results:
    """A comparison, finished or not.

    Args:
      configuration: everything that the figures follow from, as in the JSON file.
      arms: the finished ones, by activation, in the configuration's order.
    """

    configuration: dict[str, Any]
    arms: dict[str, Arm]

    @property
    def missing(self) -> list[str]:
        return [a for a in self.configuration["activations"] if a not in self.arms]

    def summary(self) -> dict[str, Summary]:
        """The table's rows; empty until the first arm, which the others are compared with, is
        there."""
        first, *others = self.configuration["activations"]
        if first not in self.arms:
            return {}
        return summarize(self.arms, len(others), self.configuration["data"]["test_samples"])

    def to_json(self) -> str:
        """The text of ``results.json``. What is not finite is null."""
        content = {
            "format": FORMAT,
            "configuration": self.configuration,
            "finished": not self.missing,
            "arms": {name: _arm_to_json(arm) for name, arm in self.arms.items()},
            "summary": {name: _row_to_json(row) for name, row in self.summary().items()},
        }
        text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
        # A list of numbers in one line.
        return re.sub(r"\[[\d\s.,eE+\-nul]*\]", lambda m: " ".join(m[0].split()), text) + "\n"


def configuration(settings: Settings, dataset: Dataset, data: Split) -> dict[str, Any]:
    """Everything that the figures follow from."""
    device = jax.devices()[0]
    training, validation, test = data.sizes
    return {
        **dataclasses.asdict(settings),
        "activations": list(settings.activations),
        "widths": list(settings.widths),
        "optimizer": "adam",
        "initializer": "he_normal",
        "data": {
            "source": dataset.source,
            "sha256": dataset.sha256,
            "target": dataset.target,
            "samples": len(dataset.labels),
            "features": dataset.features.shape[1],
            "classes": len(dataset.classes),
            "training_samples": training,
            "validation_samples": validation,
            "test_samples": test,
            "split": f"stratified, seed {SPLIT_SEED}",
        },
        "versions": {
            "jaxact": importlib.metadata.version("jaxact"),
            "jax": jax.__version__,
            "flax": flax.__version__,
            "optax": optax.__version__,
        },
        "device": {"platform": device.platform, "kind": device.device_kind},
    }


def load(path: Path, expected: Mapping[str, Any]) -> Results:
    """The stored results; without any arm if there is no file.

    Raises:
      CompareError: the file is of another configuration (the message shows each difference), or
        not one of `jaxact compare`.
    """
    empty = Results(dict(expected), {})
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return empty
    except OSError as error:
        raise CompareError(f"{path} cannot be read ({error.strerror}): {_REMEDY}.") from error
    except UnicodeDecodeError as error:
        raise CompareError(f"{path} is damaged or not from jaxact compare: {_REMEDY}.") from error
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {FORMAT!r}")
        stored = content["configuration"]
        if not isinstance(stored, dict):
            raise ValueError("its configuration is not a table")
    except (ValueError, TypeError, KeyError) as error:
        raise CompareError(
            f"{path} is damaged or not from jaxact compare ({_reason(error)}): {_REMEDY}."
        ) from error
    if different := differences(stored, expected, "there", "here"):
        raise CompareError(
            f"{path} is of another configuration: {different}. To compare with this one, {_REMEDY}."
        )
    shape = (expected["seeds"], expected["epochs"])
    try:
        arms = content["arms"]
        if set(arms) - set(expected["activations"]):
            raise ValueError("it has arms that its configuration has not")
        return Results(
            dict(expected),
            {a: _arm_from_json(arms[a], shape) for a in expected["activations"] if a in arms},
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CompareError(f"{path} is damaged ({_reason(error)}): {_REMEDY}.") from error


def differences(one: Mapping[str, Any], other: Mapping[str, Any], *where: str) -> str:
    """How two configurations differ, in words; nothing if they are the same."""
    return "; ".join(
        f"{key} is {json.dumps(a)} {where[0]} and {json.dumps(b)} {where[1]}"
        for key, a, b in _differences(one, other)
    )


def _reason(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def _differences(stored: Any, given: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every entry that differs between two nested tables: its dotted name and both values."""
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        for key in dict.fromkeys([*given, *stored]):
            yield from _differences(stored.get(key), given.get(key), f"{prefix}.{key}".strip("."))
    elif stored != given:
        yield prefix, stored, given


def _finite(value: Any) -> Any:
    """JSON's types, with None for what is not finite."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _arm_to_json(arm: Arm) -> dict[str, Any]:
    return {
        "per_seed": {
            "test_accuracy": arm.test_accuracy.tolist(),
            "best_epoch": arm.best_epoch.tolist(),
            "final_train_loss": arm.final_train_loss.tolist(),
            "dead_units_percent": arm.dead_units_percent.tolist(),
        },
        "curves": {name: values.tolist() for name, values in arm.curves._asdict().items()},
        "timing": {"ms_per_step": arm.ms_per_step, "seconds": arm.seconds},
    }


def _arm_from_json(content: Mapping[str, Any], shape: tuple[int, int]) -> Arm:
    def array(part: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
        values = np.array(content[part][name], np.float64)  # null becomes NaN
        if values.shape != shape:
            raise ValueError(f"{name} has the shape {values.shape}, not {shape}")
        return values

    timing = content["timing"]
    ms_per_step, seconds = timing["ms_per_step"], float(timing["seconds"])
    return Arm(
        best_epoch=array("per_seed", "best_epoch", shape[:1]).astype(int),
        test_accuracy=array("per_seed", "test_accuracy", shape[:1]),
        final_train_loss=array("per_seed", "final_train_loss", shape[:1]),
        dead_units_percent=array("per_seed", "dead_units_percent", shape[:1]),
        curves=Curves(*(array("curves", name, shape) for name in Curves._fields)),
        ms_per_step=None if ms_per_step is None else float(ms_per_step),
        seconds=seconds,
    )


def _row_to_json(row: Summary) -> dict[str, Any]:
    def interval(value: Interval | None) -> dict[str, Any] | None:
        if value is None:
            return None
        return {**dataclasses.asdict(value), "low": value.low, "high": value.high}

    return {
        "test_accuracy": interval(row.test_accuracy),
        "difference": interval(row.difference),
        "verdict": row.verdict,
        "final_train_loss": row.final_train_loss,
        "diverged_seeds": row.diverged,
        "dead_units_percent": row.dead_units_percent,
        "ms_per_step": row.ms_per_step,
    }
