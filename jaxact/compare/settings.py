"""What a study is asked to train."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Sequence

from jaxact._errors import CompareError
from jaxact.compare.activations import check_activation, check_names, identity_of, swept_parameters
from jaxact.compare.study import SETTINGS_AXES, Cell, Sweep, Value

DEFAULT_ACTIVATIONS = ("relu", "leaky_relu:0.01", "leaky_relu:0.2", "prelu", "rrelu", "elu", "gelu")
DTYPES = ("float32", "bfloat16", "float16")
#: The grid of ``--tune lr``: the given rate, and a half order of magnitude to either side.
TUNE_FACTORS = (1 / 3, 1.0, 3.0)
#: The hidden layers where no widths are given.
WIDTHS = {"mlp": (128, 128), "cnn": (16, 32)}
#: What counts as practically equal, in stored units, where no margin is given.
MARGINS = {"classification": 0.005, "regression": 0.01, "loss": 0.0}

_RANGE = re.compile(r"(?P<low>[^.]*(?:\.\d[^.]*)?)\.\.(?P<high>[^:]+):(?P<count>.+)")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained, and how.

    Args:
      activations: the arms, by names as for `jaxact.get`; the others are compared with the first.
      seeds: how many networks are trained for each arm, on each split.
      splits: how many random splits of the data into training, validation and test samples.
      epochs: passes over the training samples.
      widths: the sizes of the hidden layers (of a CNN: channels); by default those of the model.
      learning_rate: Adam's learning rate.
      batch_size: the samples of a batch; all training samples where there are fewer.
      dtype: the dtype in which the network computes; its parameters are float32.
      model: ``"mlp"``, ``"cnn"``, or ``"module:factory"`` of a Flax model.
      replace: which activations of a model of yours the arms replace, as for `jaxact.swap`: a name,
        or a pattern of the path. By default its only kind of activation.
      sweeps: axes along which everything is trained again.
      tune: learning rates; each arm takes the best one by its validation loss. None: no tuning.
      margin: a difference of the first score up to which arms are practically equal, in stored
        units (shares); None for half a percentage point, or 0.01 of R².

    Raises:
      CompareError: a value cannot be used.
    """

    activations: tuple[str, ...] = DEFAULT_ACTIVATIONS
    seeds: int = 16
    splits: int = 1
    epochs: int = 25
    widths: tuple[int, ...] | None = None
    learning_rate: float = 1e-3
    batch_size: int = 64
    dtype: str = "float32"
    model: str = "mlp"
    replace: str | None = None
    sweeps: tuple[Sweep, ...] = ()
    tune: tuple[float, ...] = ()
    margin: float | None = None

    def __post_init__(self) -> None:
        for name in ("seeds", "splits", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise CompareError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.widths is not None and (not self.widths or min(self.widths) < 1):
            raise CompareError(
                "widths must be at least 1, for one or more hidden layers; got "
                f"{','.join(map(str, self.widths)) or 'none'}."
            )
        for rate in (self.learning_rate, *self.tune):
            _check_rate(rate)
        if len(set(self.tune)) < len(self.tune):
            raise CompareError(f"tune has a learning rate twice: {_listed(self.tune)}.")
        if self.dtype not in DTYPES:
            raise CompareError(f"dtype must be one of {', '.join(DTYPES)}; got {self.dtype!r}.")
        if self.margin is not None and not 0 <= self.margin < math.inf:
            raise CompareError(f"margin must not be negative, got {self.margin:g}.")
        if self.model not in WIDTHS and ":" not in self.model:
            raise CompareError(
                f"model must be {', '.join(WIDTHS)} or module:factory; got {self.model!r}."
            )
        if self.replace is not None and self.model in WIDTHS:
            raise CompareError(
                f"replace is for models of yours, module:factory; {self.model} has nothing else."
            )
        check_names(self.activations)
        _check_sweeps(self)
        # Each once: a check computes the activation.
        for arm in dict.fromkeys(cell.arm for cell in self.cells):
            check_activation(arm)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All that is trained: at each point of the settings' axes, every activation."""
        return tuple(_cells(self))

    @property
    def hidden(self) -> tuple[int, ...]:
        """The sizes of the hidden layers; none for a model whose code says them."""
        return WIDTHS.get(self.model, ()) if self.widths is None else self.widths

    def of(self, cell: Cell) -> "CellSettings":
        """What a cell trains with."""
        point = dict(cell.point)
        widths = self.hidden
        if "width" in point:
            widths = (int(point["width"]),) * len(widths)
        if "depth" in point:
            widths = widths[:1] * int(point["depth"])
        samples = point.get("samples")
        rate = float(point.get("lr", self.learning_rate))
        return CellSettings(
            widths=widths,
            dtype=str(point.get("dtype", self.dtype)),
            samples=None if samples is None else int(samples),
            rates=self.tune or (rate,),
            values={n: float(v) for n, v in cell.point if n not in SETTINGS_AXES},
        )

    def margin_of(self, task: str) -> float:
        """The margin, or the task's."""
        return MARGINS[task] if self.margin is None else self.margin


@dataclasses.dataclass(frozen=True)
class CellSettings:
    """What one cell trains with.

    Args:
      widths: of the hidden layers.
      dtype: of the computation.
      samples: how many training samples; None for all.
      rates: the learning rates; the best one is taken.
      values: the activation's swept parameters.
    """

    widths: tuple[int, ...]
    dtype: str
    samples: int | None
    rates: tuple[float, ...]
    values: dict[str, float]


def read_sweep(text: str) -> Sweep:
    """A sweep from ``NAME=VALUES``: numbers with commas, or ``low..high:count``.

    A range is geometric where both ends are positive and a factor of ten apart or more, else even.

    Raises:
      CompareError: it is written otherwise.

    Examples:
      >>> read_sweep("lr=1e-4..1e-1:4").values
      (0.0001, 0.001, 0.01, 0.1)
      >>> read_sweep("width=8,16").values
      (8, 16)
    """
    name, equals, values = (part.strip() for part in text.partition("="))
    example = "write for example --sweep lr=1e-4..1e-1:7 or --sweep width=8,16,32"
    if not equals or not name or not values:
        raise CompareError(f"--sweep {text}: must be NAME=VALUES; {example}.")
    if name == "dtype":
        return Sweep(name, tuple(v.strip() for v in values.split(",")))
    return Sweep(name, read_values(f"--sweep {text}", values, whole=name in _WHOLE))


def read_values(where: str, text: str, *, whole: bool = False) -> tuple[Value, ...]:
    """Numbers with commas, or ``low..high:count``, which `read_sweep` explains."""
    found = _RANGE.fullmatch(text)
    try:
        if not found:
            return tuple(_number(item, whole) for item in text.split(","))
        low, high = float(found["low"]), float(found["high"])
        count = int(found["count"])
    except ValueError as error:
        raise CompareError(
            f"{where}: {error}; write numbers as 0.1,0.2 or as 1e-4..1e-1:7."
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or not 2 <= count <= 1000:
        raise CompareError(
            f"{where}: a range goes from a smaller to a larger number in 2 to 1000 values."
        )
    geometric = low > 0 and high / low >= 10
    steps = [i / (count - 1) for i in range(count)]
    values = [
        low * (high / low) ** step if geometric else low + (high - low) * step for step in steps
    ]
    # As people would write them.
    rounded = [float(f"{value:.3g}") for value in values]
    if whole:
        return tuple(dict.fromkeys(round(value) for value in rounded))
    return tuple(rounded)


_WHOLE = ("width", "depth", "samples")


def _number(text: str, whole: bool) -> Value:
    text = text.strip()
    if not whole:
        return float(text)
    if not re.fullmatch(r"\d{1,12}", text):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _listed(values: Sequence[Value]) -> str:
    return ",".join(v if isinstance(v, str) else f"{v:g}" for v in values)


def _check_rate(rate: float) -> None:
    if not 0 < rate < math.inf:
        raise CompareError(f"the learning rate must be positive and finite, got {rate:g}.")


def _check_sweeps(settings: Settings) -> None:
    names = [sweep.name for sweep in settings.sweeps]
    parameters = {a: swept_parameters(a) for a in settings.activations}
    known = sorted({p for each in parameters.values() for p in each})
    for sweep in settings.sweeps:
        text = f"sweep {sweep.name}={_listed(sweep.values)}"
        if names.count(sweep.name) > 1:
            raise CompareError(f"{sweep.name} is swept twice; give all its values in one sweep.")
        if sweep.name not in SETTINGS_AXES and sweep.name not in known:
            raise CompareError(
                f"{text}: there is no such axis. There are {', '.join(SETTINGS_AXES)}, and of the "
                f"activations that are compared {', '.join(known) or 'no parameter'}."
            )
        if not sweep.values or len(set(sweep.values)) < len(sweep.values):
            raise CompareError(f"{text}: must be one or more values, each once.")
        for value in sweep.values:
            if sweep.name == "dtype":
                if value not in DTYPES:
                    raise CompareError(f"{text}: must be of {', '.join(DTYPES)}.")
            elif isinstance(value, str) or not math.isfinite(value):
                raise CompareError(f"{text}: must be finite numbers.")
            elif sweep.name in _WHOLE and (value < 1 or value != int(value)):
                raise CompareError(f"{text}: must be whole numbers, at least 1.")
            elif sweep.name == "lr":
                _check_rate(value)
    if "lr" in names and settings.tune:
        raise CompareError("lr is swept and tuned at once; do one of them.")
    if ":" in settings.model and {"width", "depth", "dtype"} & set(names):
        raise CompareError(
            f"{settings.model} has the widths, depth and dtype that its code says; sweep lr, "
            "samples or a parameter of the activations."
        )
    cells = settings.cells
    seen: dict[object, Cell] = {}
    for cell in cells:
        identity = (identity_of(cell.arm), cell.setting)
        if identity in seen:
            raise CompareError(f"{cell.arm!r} and {seen[identity].arm!r} are the same activation.")
        seen[identity] = cell


def _cells(settings: Settings) -> Iterator[Cell]:
    order = [sweep.name for sweep in settings.sweeps]
    axes = [sweep for sweep in settings.sweeps if sweep.name in SETTINGS_AXES]
    for setting in itertools.product(*(axis.values for axis in axes)):
        chosen = dict(zip((axis.name for axis in axes), setting, strict=True))
        for activation in settings.activations:
            has = swept_parameters(activation)
            own = [s for s in settings.sweeps if s.name not in SETTINGS_AXES and s.name in has]
            for values in itertools.product(*(axis.values for axis in own)):
                point = chosen | dict(zip((axis.name for axis in own), values, strict=True))
                yield Cell(activation, tuple((n, point[n]) for n in order if n in point))
