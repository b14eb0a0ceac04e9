"""A comparison from beginning to end: train what is missing, store it, write the report.

Every process runs a comparison as a whole; files are read and written by process 0 alone.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxact._errors import CompareError
from jaxact._files import locked, write_atomically
from jaxact.compare import budget, cost, devices, drawings, page, processes, results, table
from jaxact.compare.data import Dataset, Split, splits
from jaxact.compare.results import Results
from jaxact.compare.settings import Settings
from jaxact.compare.study import Cost, Study
from jaxact.compare.training import Program, Trainer, check, figures, programs, train

#: What is called with what this process is doing, and the share of all epochs that are done.
Progress = Callable[[Sequence[str], float], None]
Data = Callable[[int | None], Sequence[Split]]

#: The files that a comparison writes.
RESULTS = "results.json"
REPORTS = ("table.md", "report.html", "curves.png")


def compare(
    settings: Settings | Sequence[Settings],
    dataset: Dataset,
    out: str | Path,
    *,
    restart: bool = False,
    time_budget: float | None = None,
    request: Mapping[str, Any] | None = None,
    progress: Progress = lambda doing, share: None,
) -> Results:
    """Train what ``out`` does not have yet, and write ``results.json`` there; then `write_reports`.

    The networks spread over all devices, and over all processes where `jax.distributed` is
    initialized: each process calls this with the same arguments, and ``out`` is process 0's.

    Args:
      settings: what is trained, and how; several for several studies on the same data.
      dataset: the samples.
      out: the folder; made if it is not there.
      restart: forget the results that ``out`` has.
      time_budget: seconds; as many seeds as fit are trained, instead of the settings'. They are
        decided by timing a step before the first training, and kept when the run is resumed.
      request: the options of the command, stored for ``jaxact compare --from``.
      progress: called with what this process is training, and the share of the epochs that are
        done; other processes' epochs count once their networks are trained.

    Returns:
      The results, in every process.

    Raises:
      CompareError: ``out`` cannot be written, is in use by another run, or has results of another
        configuration; another process failed, or has other settings or data.
    """
    folder = Path(out)
    studies = [settings] if isinstance(settings, Settings) else list(settings)

    @functools.cache
    def data(samples: int | None) -> Sequence[Split]:
        return splits(dataset, studies[0].splits, samples)

    for one in studies:
        check(one, data)
    with _opened(folder, restart) as writable:
        stored = processes.first(lambda: results.read(folder / RESULTS))
        if time_budget is not None:
            count = processes.first(lambda: _seeds(studies, data, time_budget, stored))
            studies = [dataclasses.replace(one, seeds=count) for one in studies]
        found = Results(
            [
                Study(results.configuration(one, dataset, data(None)[0], time_budget), one.cells)
                for one in studies
            ],
            dict(request or {}),
        )
        _check_same([study.configuration for study in found.studies])
        processes.first(lambda: results.restore(folder / RESULTS, stored, found.studies))
        # Process 0 has read the file; all go on from what it found.
        found.studies = processes.first(lambda: found.studies)
        if found.finished:
            return found
        if not writable:
            raise CompareError(
                f"--out {folder}: cannot be written, and its results are incomplete."
            )

        def store() -> None:
            processes.first(
                lambda: write_atomically(folder / RESULTS, found.to_json().encode(), CompareError)
            )

        done = _Progress(studies, found, progress)
        for one, study in zip(studies, found.studies, strict=True):
            kept = _Kept()
            while study.missing:
                _train_some(one, study, data, done, kept)
                store()
            if not study.costs:
                progress(("the cost of a step",), done.share)
                study.costs = processes.first(functools.partial(_costs, one, data, kept))
                store()
        progress((), 1.0)
    return found


def write_reports(found: Results, out: str | Path, command: str = "jaxact compare") -> list[str]:
    """Write those of ``table.md``, ``report.html`` and ``curves.png`` that are not there yet, or
    older than the results.

    Args:
      found: finished results.
      out: their folder.
      command: how the command was called, for the report.

    Returns:
      What could not be written, a line for each; the others are there.
    """
    folder = Path(out)
    contents: dict[str, Callable[[], bytes]] = {
        "table.md": lambda: table.markdown(found.studies).encode(),
        "report.html": lambda: page.html(found.studies, command=command).encode(),
        "curves.png": lambda: drawings.png(drawings.curves(found.studies)),
    }
    failed = []
    for name, content in contents.items():
        if _is_newer(folder / name, folder / RESULTS):
            continue
        try:
            write_atomically(folder / name, content(), CompareError)
        except Exception as error:  # a drawing must not cost the figures
            failed.append(f"{name} is not written: {error}")
    return failed


def _is_newer(path: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns >= other.stat().st_mtime_ns
    return False


class _Progress:
    """Epochs of all programs, counted as they are done."""

    def __init__(self, settings: Sequence[Settings], found: Results, report: Progress):
        self._report = report
        self._total = sum(one.epochs * len(programs(one, one.cells)) for one in settings)
        self._left = {
            id(study): one.epochs * len(programs(one, study.missing))
            for one, study in zip(settings, found.studies, strict=True)
        }
        self._current: dict[str, int] = {}

    @property
    def share(self) -> float:
        done = self._total - sum(self._left.values()) + sum(self._current.values())
        return done / self._total

    def start(self, mine: Sequence[Program]) -> None:
        self._current = {program.label: 0 for program in mine}
        self._report(tuple(self._current), self.share)

    def epoch(self, program: Program, epochs: int) -> None:
        self._current[program.label] = epochs
        self._report(tuple(self._current), self.share)

    def finish(self, settings: Settings, study: Study) -> None:
        self._left[id(study)] = settings.epochs * len(programs(settings, study.missing))
        doing, self._current = tuple(self._current), {}
        self._report(doing, self.share)


class _Kept:
    """The steps that trained: their cost is measured without compiling them again."""

    def __init__(self) -> None:
        self.steppers: dict[Program, cost.Stepper] = {}

    def __call__(self, trainer: Trainer, step: Any, state: Any) -> None:
        whole = len(trainer.members.seeds) == trainer.program.networks
        if whole and trainer.mesh.size == 1 and len(trainer.data) == 1:
            self.steppers[trainer.program] = cost.Stepper(trainer, step, state)


def _costs(settings: Settings, data: Data, kept: _Kept) -> dict[str, Cost]:
    return cost.measure(settings, data(settings.of(settings.cells[0]).samples), kept.steppers)


def _train_some(
    settings: Settings, study: Study, data: Data, progress: _Progress, kept: _Kept
) -> None:
    """Train as many of the missing programs as train at the same time."""
    training = functools.partial(train, keep=kept)
    parts = devices.plan(programs(settings, study.missing))
    mine = [part for part in parts if part.process == jax.process_index()]
    progress.start([part.program for part in mine])
    trained = processes.agree(lambda: devices.train_parts(mine, data, progress.epoch, training))
    # Parts are in the order of processes.
    every = zip(parts, itertools.chain(*processes.share(trained)), strict=True)
    for program, members in itertools.groupby(every, lambda member: member[0].program):
        joined = devices.join(program, [one for _, one in members])
        study.figures.update(figures(program, joined))
    study.figures = {cell: study.figures[cell] for cell in study.cells if cell in study.figures}
    progress.finish(settings, study)


def _seeds(
    studies: Sequence[Settings], data: Data, seconds: float, stored: Mapping[str, Any] | None
) -> int:
    """The stored run's number of seeds, if the same time decided it; else as many as fit."""
    if stored is not None:
        configuration = stored["configuration"]
        count = configuration.get("seeds")
        if configuration.get("time_budget") == seconds and isinstance(count, int) and count > 0:
            return count
    return budget.seeds(studies, data, seconds)


def _check_same(configurations: Sequence[Mapping[str, Any]]) -> None:
    """Raise a `CompareError` in all processes if one has been given other settings or data."""
    expected, *others = processes.share(configurations)
    for process, other in enumerate(others, 1):
        if len(other) != len(expected):
            raise CompareError("the processes are not given the same numbers of studies.")
        for one, two in zip(expected, other, strict=True):
            if different := results.differences(one, two, "in process 0", f"in process {process}"):
                raise CompareError(f"the processes are not given the same: {different}.")


@contextlib.contextmanager
def _opened(folder: Path, restart: bool) -> Iterator[bool]:
    """The folder, for this run alone; whether it can be written."""
    with contextlib.ExitStack() as stack:

        def enter() -> bool:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CompareError(f"--out {folder}: cannot be made ({error.strerror}).") from error
            writable = stack.enter_context(locked(folder, CompareError))
            if restart:
                for name in (RESULTS, *REPORTS):
                    _remove(folder / name)
            return writable

        yield processes.first(enter)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CompareError(f"{path} cannot be removed ({error.strerror}).") from error
