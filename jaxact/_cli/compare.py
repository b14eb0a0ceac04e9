"""The command line of ``jaxact compare``."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jaxact._errors import CompareError
from jaxact.compare import data, processes as others, report, run
from jaxact.compare.model import split_names
from jaxact.compare.training import DTYPES, Settings


def compare(
    data_file: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="A .csv file with a header, or a .npz archive; scikit-learn's digits without it.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The column (.csv) or array (.npz) of the classes. All others are features.",
        ),
    ] = None,
    activations: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Names of jaxact.ACTIVATIONS, separated by commas; parameters follow a colon, as "
            "in relu,leaky_relu:0.2. A number or name=value behind a comma belongs to the "
            "activation before it: rrelu:lower=0.1,upper=0.3 is one. All are "
            "compared with the first.",
        ),
    ] = ",".join(Settings.activations),
    seeds: Annotated[
        int, typer.Option(help="Networks trained for each activation.")
    ] = Settings.seeds,
    epochs: Annotated[
        int, typer.Option(help="Passes over the training samples.")
    ] = Settings.epochs,
    widths: Annotated[
        str, typer.Option(metavar="SIZES", help="Sizes of the hidden layers, with commas.")
    ] = ",".join(map(str, Settings.widths)),
    lr: Annotated[float, typer.Option(help="Adam's learning rate.")] = Settings.learning_rate,
    dtype: Annotated[
        str,
        typer.Option(
            metavar="|".join(DTYPES),
            help="In which the network computes. The parameters are float32.",
        ),
    ] = Settings.dtype,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Where results.json, curves.png and table.md are written."
        ),
    ] = Path("jaxact-compare"),
    json: Annotated[bool, typer.Option("--json", help="Print results.json, no table.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start over: forget the results in --out.")
    ] = False,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="Share the work with the other processes that run this command, found as JAX does "
            "on TPU pods, under Slurm and under Open MPI. Process 0 alone writes and prints.",
        ),
    ] = False,
    coordinator: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The same where JAX finds nothing: an address and a free port of process 0. "
            "Needs --processes and --process.",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", help="How many processes run this command.")
    ] = None,
    process: Annotated[
        int | None, typer.Option(metavar="I", help="Which of them this one is: 0, 1, ..., N-1.")
    ] = None,
) -> None:
    """Which activation does my problem want, and is the difference real?

    Trains a small network with each activation, from many seeds, and compares the test accuracies
    with confidence intervals, on all devices. The same command after an interruption goes on where
    it stopped.
    """
    if distributed or (coordinator, processes, process) != (None, None, None):
        others.join(coordinator, processes, process)

    def read() -> tuple[Settings, data.Dataset]:
        settings = Settings(
            activations=split_names(activations),
            seeds=seeds,
            epochs=epochs,
            widths=_sizes(widths),
            learning_rate=lr,
            dtype=dtype,
        )
        return settings, data.load(data_file, target)

    settings, dataset = others.agree(read)
    total = settings.epochs * len(settings.activations)
    with contextlib.ExitStack() as stack:
        # Shown only once there is something to train: an error before that is the only output.
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )

        def show(arms: Sequence[str], done: int) -> None:
            if not others.is_first():
                return
            if not bar.tasks:
                bar.add_task("", total=total)
                stack.enter_context(bar)
            more = f" and {len(arms) - 1} more" if len(arms) > 1 else ""
            text = "done" if done == total else f"{arms[0]}{more}"
            bar.update(bar.task_ids[0], description=text, completed=done)

        results = run.compare(settings, dataset, out, restart=restart, progress=show)
    if not others.is_first():
        return
    if json:
        sys.stdout.write(results.to_json())
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(report.rich_table(results))
    console.print(f"Written to {out}: results.json, curves.png, table.md", highlight=False)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError:
        raise CompareError(
            f"--widths {text}: must be whole numbers separated by commas, such as 128,128."
        ) from None
