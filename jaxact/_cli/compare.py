"""The command line of ``jaxact compare``."""

import contextlib
import hashlib
import json as json_format
import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from jaxact._errors import CompareError
from jaxact.compare import data, own, processes as others, results as stored, run, table
from jaxact.compare.activations import split_names, swept_parameters
from jaxact.compare.settings import (
    DEFAULT_ACTIVATIONS,
    DTYPES,
    TUNE_FACTORS,
    Settings,
    read_sweep,
    read_values,
)
from jaxact.compare.study import SCORES, SETTINGS_AXES, Sweep
from jaxact.registry import ACTIVATIONS

#: Without --activations: what is swept along an axis of the settings.
SWEPT_ACTIVATIONS = ("relu", "leaky_relu", "elu")

#: The panels of the help.
DATA, MODEL, QUESTION, OUTPUT, HOSTS = (
    "Data",
    "Model and training",
    "Question",
    "Output",
    "Several processes",
)
#: Options that say what is compared, and so go into results.json and into the folder's name.
_REQUEST = (
    *("data", "target", "task", "drop", "features", "missing", "activations", "sweep", "tune"),
    *("splits", "margin", "model", "replace", "seeds", "time_budget", "epochs", "widths", "lr"),
    *("batch_size", "dtype"),
)


def option(panel: str, *names: str, **settings: Any) -> Any:
    """An option under a heading of the help."""
    return typer.Option(*names, rich_help_panel=panel, **settings)


def compare(
    context: typer.Context,
    data_file: Annotated[
        Path | None,
        option(
            DATA,
            "--data",
            metavar="FILE",
            help="A table with a header (.csv, .tsv, .csv.gz, .parquet), or arrays (.npz); "
            "scikit-learn's digits without it.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        option(DATA, metavar="COLUMN", help="The column, or array, that is to be predicted."),
    ] = None,
    task: Annotated[
        str | None,
        option(
            DATA,
            metavar="classification|regression",
            help="What the target is; by default it is inferred, and said.",
        ),
    ] = None,
    drop: Annotated[
        list[str] | None, option(DATA, metavar="COLUMNS", help="Leave these out (commas).")
    ] = None,
    features: Annotated[
        list[str] | None, option(DATA, metavar="COLUMNS", help="Use these alone (commas).")
    ] = None,
    missing: Annotated[
        list[str] | None,
        option(DATA, metavar="TEXTS", help="Further texts that mean a missing value: ?,unknown."),
    ] = None,
    max_memory: Annotated[
        str, option(DATA, metavar="SIZE", help="The largest size of the data when unpacked.")
    ] = "4GiB",
    activations: Annotated[
        str | None,
        option(
            QUESTION,
            metavar="NAMES",
            help="Names of jaxact.ACTIVATIONS, separated by commas; parameters follow a colon, as "
            "in relu,leaky_relu:0.2. A number or name=value behind a comma belongs to the "
            "activation before it: rrelu:lower=0.1,upper=0.3 is one. All are "
            f"compared with the first. By default {','.join(DEFAULT_ACTIVATIONS)}; with a sweep "
            f"{','.join(SWEPT_ACTIVATIONS)}, or relu and what has the parameter.",
        ),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        option(
            QUESTION,
            metavar="NAME=VALUES",
            help=f"Train at each value of {', '.join(SETTINGS_AXES)} or a parameter of the "
            "activations: lr=1e-4..1e-1:7, width=8,16,32, negative_slope=0,0.1,0.3. May be given "
            "several times.",
        ),
    ] = None,
    tune: Annotated[
        str | None,
        option(
            QUESTION,
            metavar="lr[=VALUES]",
            help="Give each activation its own learning rate: the best of a grid by validation "
            "loss.",
        ),
    ] = None,
    splits: Annotated[
        int, option(QUESTION, help="Random splits of the data: intervals then cover them too.")
    ] = Settings.splits,
    margin: Annotated[
        float | None,
        option(
            QUESTION,
            help="Differences up to this are practically equal: percentage points of accuracy "
            "(0.5), or R² (0.01).",
        ),
    ] = None,
    model: Annotated[
        str,
        option(
            MODEL,
            metavar="mlp|cnn|MODULE:FACTORY",
            help="What is trained: a CNN for images, or a Flax model of yours, unedited.",
        ),
    ] = Settings.model,
    replace: Annotated[
        str | None,
        option(
            MODEL,
            metavar="NAME|PATTERN",
            help="Which activations of your model are replaced; by default its only kind.",
        ),
    ] = None,
    seeds: Annotated[
        int, option(MODEL, help="Networks trained for each activation (and split).")
    ] = Settings.seeds,
    time_budget: Annotated[
        str | None,
        option(MODEL, metavar="TIME", help="As many seeds as fit: 90s, 5m, 1h."),
    ] = None,
    epochs: Annotated[
        int, option(MODEL, help="Passes over the training samples.")
    ] = Settings.epochs,
    widths: Annotated[
        str | None,
        option(
            MODEL,
            metavar="SIZES",
            help="Sizes of the hidden layers, with commas: 128,128 (cnn: channels, 16,32).",
        ),
    ] = None,
    lr: Annotated[float, option(MODEL, help="Adam's learning rate.")] = Settings.learning_rate,
    batch_size: Annotated[int, option(MODEL, help="The samples of a batch.")] = Settings.batch_size,
    dtype: Annotated[
        str,
        option(
            MODEL,
            metavar="|".join(DTYPES),
            help="In which the network computes. The parameters are float32.",
        ),
    ] = Settings.dtype,
    out: Annotated[
        Path | None,
        option(
            OUTPUT,
            metavar="DIR",
            help="Where results.json, report.html, table.md and curves.png are written; by default "
            "a folder in jaxact-compare/, named after the data and the question.",
        ),
    ] = None,
    json: Annotated[bool, option(OUTPUT, "--json", help="Print results.json, no table.")] = False,
    restart: Annotated[
        bool, option(OUTPUT, "--restart", help="Start over: forget the results in --out.")
    ] = False,
    repeat: Annotated[
        Path | None,
        option(
            OUTPUT,
            "--from",
            metavar="RESULTS.JSON",
            help="Ask again what that file answers; options that are given go before its own.",
        ),
    ] = None,
    distributed: Annotated[
        bool,
        option(
            HOSTS,
            "--distributed",
            help="Share the work with the other processes that run this command, found as JAX does "
            "on TPU pods, under Slurm and under Open MPI. Process 0 alone writes and prints.",
        ),
    ] = False,
    coordinator: Annotated[
        str | None,
        option(
            HOSTS,
            metavar="HOST:PORT",
            help="The same where JAX finds nothing: an address and a free port of process 0. "
            "Needs --processes and --process.",
        ),
    ] = None,
    processes: Annotated[
        int | None, option(HOSTS, metavar="N", help="How many processes run this command.")
    ] = None,
    process: Annotated[
        int | None, option(HOSTS, metavar="I", help="Which of them this one is: 0, 1, ..., N-1.")
    ] = None,
) -> None:
    """Which activation does my problem want, and is the difference real?

    Trains a small network, or yours, with each activation, from many seeds, and says in a sentence
    what follows, with its uncertainty. The same command after an interruption goes on where it
    stopped.
    """
    values = locals()
    if distributed or (coordinator, processes, process) != (None, None, None):
        others.join(coordinator, processes, process)
    request = _request(context, values)

    def read() -> tuple[dict[str, Any], list[Settings], data.Dataset]:
        asked = _stored_request(repeat) | request if repeat is not None else request
        dataset = data.load(
            asked.get("data"),
            asked.get("target"),
            task=asked.get("task"),
            drop=_items(asked.get("drop")),
            features=_items(asked.get("features")) or None,
            missing=_items(asked.get("missing")) or None,
            max_memory=_size(max_memory),
        )
        return asked, _studies(asked, dataset), dataset

    asked, studies, dataset = others.agree(read)
    folder = out or default_folder(asked)
    with contextlib.ExitStack() as stack:
        results = run.compare(
            studies,
            dataset,
            folder,
            restart=restart,
            time_budget=_seconds(asked["time_budget"]) if "time_budget" in asked else None,
            request=asked,
            progress=_progress(stack, data.columns_table(dataset) if "data" in asked else ""),
        )
    if not others.is_first():
        return
    if json:
        sys.stdout.write(results.to_json())
    else:
        _print(results)
    sys.stdout.flush()
    # Last: a drawing that fails must not cost the answer.
    for failure in run.write_reports(results, folder, _command(asked)):
        print("warning:", failure, file=sys.stderr)
    if not json:
        there = [name for name in (run.RESULTS, *run.REPORTS) if (folder / name).exists()]
        print(f"Written to {folder}: {', '.join(there)}")


def _print(results: stored.Results) -> None:
    console = Console()
    width = console.width if console.is_terminal else 80
    for sentence in results.conclusion():
        console.print(sentence, markup=False, highlight=False, soft_wrap=not console.is_terminal)
    print()
    print(table.render(results.studies, width, colour=console.is_terminal))


def _progress(stack: contextlib.ExitStack, columns: str) -> run.Progress:
    """What was made of the columns, and a bar, on stderr: shown once there is something to train.
    An error before that is the only output."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )

    def show(doing: Sequence[str], share: float) -> None:
        if not others.is_first():
            return
        if not bar.tasks:
            if columns:
                print(columns, file=sys.stderr)
            bar.add_task("", total=1.0)
            stack.enter_context(bar)
        more = f" and {len(doing) - 1} more" if len(doing) > 1 else ""
        text = f"{doing[0]}{more}" if doing else "done"
        bar.update(bar.task_ids[0], description=text, completed=share)

    return show


# ------------------------------------------------------------------------------------------------
# From options to studies


def _request(context: typer.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, of those that say what is compared."""
    request = {}
    for parameter in context.command.params:
        name = "data" if parameter.name == "data_file" else str(parameter.name)
        source = context.get_parameter_source(str(parameter.name))
        if name in _REQUEST and source is not None and source.name == "COMMANDLINE":
            value = values[str(parameter.name)]
            request[name] = str(value) if isinstance(value, Path) else value
    return request


def _stored_request(path: Path) -> dict[str, Any]:
    content = stored.read(path)
    if content is None:
        raise CompareError(f"--from {path}: there is no such file.")
    request = content.get("request")
    if not isinstance(request, dict) or set(request) - set(_REQUEST):
        raise CompareError(f"--from {path}: holds no request of jaxact compare.")
    file = request.get("data")
    if isinstance(file, str) and not Path(file).exists() and (path.parent / file).exists():
        request["data"] = str(path.parent / file)
    return request


def _studies(asked: Mapping[str, Any], dataset: data.Dataset) -> list[Settings]:
    """What is asked, and beside the default comparison its second half."""
    sweeps = tuple(read_sweep(text) for text in asked.get("sweep", ()))
    rate = asked.get("lr", Settings.learning_rate)
    settings = Settings(
        activations=_activations(asked, sweeps, dataset),
        seeds=asked.get("seeds", Settings.seeds),
        splits=asked.get("splits", Settings.splits),
        epochs=asked.get("epochs", Settings.epochs),
        widths=_sizes(asked["widths"]) if "widths" in asked else None,
        learning_rate=rate,
        batch_size=asked.get("batch_size", Settings.batch_size),
        dtype=asked.get("dtype", Settings.dtype),
        model=asked.get("model", Settings.model),
        replace=asked.get("replace"),
        sweeps=sweeps,
        tune=_grid(asked["tune"], rate) if "tune" in asked else (),
        margin=_margin(asked.get("margin"), dataset.task),
    )
    if "seeds" in asked and "time_budget" in asked:
        raise CompareError("--seeds and --time-budget say the same thing; give one of them.")
    return [settings] if asked else [settings, _rates()]


def _rates() -> Settings:
    """Where the choice of the activation matters: at learning rates that kill units."""
    return Settings(
        activations=SWEPT_ACTIVATIONS,
        seeds=8,
        epochs=15,
        widths=(64, 64, 64),
        sweeps=(Sweep("lr", (0.001, 0.003, 0.01, 0.03, 0.1)),),
    )


def _activations(
    asked: Mapping[str, Any], sweeps: Sequence[Sweep], dataset: data.Dataset
) -> tuple[str, ...]:
    if "activations" in asked:
        return split_names(asked["activations"])
    parameters = [sweep.name for sweep in sweeps if sweep.name not in SETTINGS_AXES]
    first: tuple[str, ...] = ("relu",)
    if ":" in (model := asked.get("model", "")):
        split = data.split(dataset)
        outputs = split.classes or 1
        first = own.activations_of(model, asked.get("replace"), split.features.shape[1:], outputs)
    if parameters:
        having = [
            name
            for name in ACTIVATIONS
            if name not in first and set(parameters) & set(swept_parameters(name))
        ]
        return (*first, *having)
    rest = SWEPT_ACTIVATIONS if sweeps else DEFAULT_ACTIVATIONS
    return (*first, *(name for name in rest if name not in first))


def _grid(text: str, rate: float) -> tuple[float, ...]:
    """The learning rates of ``lr`` or ``lr=VALUES``."""
    name, equals, values = text.partition("=")
    if name.strip() != "lr":
        raise CompareError(f"--tune {text}: only lr can be tuned; write lr or lr=1e-4..1e-2:5.")
    if not equals:
        return tuple(float(f"{factor * rate:.3g}") for factor in TUNE_FACTORS)
    return tuple(float(value) for value in read_values(f"--tune {text}", values))


def _margin(margin: float | None, task: str) -> float | None:
    return None if margin is None else margin / SCORES[task][0].factor


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError:
        raise CompareError(
            f"--widths {text}: must be whole numbers separated by commas, such as 128,128."
        ) from None


def _items(texts: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(item.strip() for text in texts or () for item in text.split(","))


_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}
_SIZES = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def _seconds(text: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|)\s*", text.lower())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds < math.inf:
        raise CompareError(f"--time-budget {text}: write a time such as 90s, 5m or 1h.")
    return seconds


def _size(text: str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    if not found or not (size := int(float(found[1]) * 2 ** _SIZES[found[2]])):
        raise CompareError(f"--max-memory {text}: write a size such as 500MiB or 8GiB.")
    return size


# ------------------------------------------------------------------------------------------------
# What the run is called


def default_folder(asked: Mapping[str, Any]) -> Path:
    """``jaxact-compare/`` and a name: the data and the question; the same for the same request.

    >>> default_folder({"data": "pets.csv", "target": "kind"}).as_posix()
    'jaxact-compare/pets-kind'
    """
    source = asked.get("data", "digits")
    parts = [Path(source).name.partition(".")[0] or "data"]
    parts += [asked[name] for name in ("target", "model") if name in asked]
    parts += [text.partition("=")[0] for text in asked.get("sweep", ())]
    parts += ["tuned"] if "tune" in asked else []
    # Requests that differ in anything have folders of their own.
    if further := {n: v for n, v in asked.items() if n not in ("target", "model")}:
        if set(further) == {"data"} and source == Path(source).name:
            further = {}
        if further:
            text = json_format.dumps(further, sort_keys=True)
            parts.append(hashlib.sha256(text.encode()).hexdigest()[:6])
    name = "-".join(re.sub(r"[^\w.]+", "-", str(part)).strip("-.") or "x" for part in parts)
    return Path("jaxact-compare") / name[:120]


def _command(asked: Mapping[str, Any]) -> str:
    """The command with its options."""
    words = ["jaxact", "compare"]
    for name, value in asked.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", str(one)]
    return shlex.join(words)
