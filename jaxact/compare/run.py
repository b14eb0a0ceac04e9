"""A comparison from beginning to end: train what is missing, store it, write the report.

Every process runs a comparison as a whole; files are read and written by process 0 alone.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxact._errors import CompareError
from jaxact._files import write_atomically
from jaxact.compare import devices, processes, report, results
from jaxact.compare.data import Dataset, Split, split
from jaxact.compare.results import Results
from jaxact.compare.training import Settings, train

Progress = Callable[[Sequence[str], int], None]


def compare(
    settings: Settings,
    dataset: Dataset,
    out: str | Path,
    *,
    restart: bool = False,
    progress: Progress = lambda activations, done: None,
) -> Results:
    """Train every arm that ``out`` does not have yet, and write ``results.json``, ``curves.png``
    and ``table.md`` there.

    Arms and seeds spread over all devices, and over all processes where `jax.distributed` is
    initialized: each process calls this with the same arguments, and ``out`` is process 0's.

    Args:
      settings: what is trained, and how.
      dataset: the samples.
      out: the folder; made if it is not there.
      restart: forget the results that ``out`` has.
      progress: called with the activations that this process is training, and the number of
        finished epochs, summed over the arms; other processes' epochs count once their arms are
        trained.

    Returns:
      The results, in every process.

    Raises:
      CompareError: ``out`` cannot be written, or has results of another configuration; another
        process failed, or has other settings or data.
    """
    folder = Path(out)
    data = split(dataset)
    configuration = results.configuration(settings, dataset, data)
    _check_same(configuration)
    found = processes.first(lambda: _open(folder, configuration, restart))
    untouched = not found.missing
    while found.missing:
        _train_some(found, settings, data, progress)
        processes.first(lambda: _write(folder / "results.json", found.to_json().encode()))
    processes.first(lambda: _write_reports(folder, found, untouched))
    return found


def _train_some(found: Results, settings: Settings, data: Split, progress: Progress) -> None:
    """Train as many of the missing arms as train at the same time."""
    parts = devices.plan(found.missing, settings.seeds)
    mine = [part for part in parts if part.process == jax.process_index()]
    done = settings.epochs * len(found.arms)
    epochs = dict.fromkeys((part.activation for part in mine), 0)
    progress(tuple(epochs), done)

    def on_epoch(activation: str, epoch: int) -> None:
        epochs[activation] = epoch
        progress(tuple(epochs), done + sum(epochs.values()))

    trained = processes.agree(lambda: devices.train_parts(mine, settings, data, on_epoch, train))
    # Parts are in the order of processes.
    every = zip(parts, itertools.chain(*processes.share(trained)), strict=True)
    for activation, members in itertools.groupby(every, lambda member: member[0].activation):
        found.arms[activation] = devices.join([arm for _, arm in members], settings.seeds)
    found.arms = {a: found.arms[a] for a in settings.activations if a in found.arms}
    progress(tuple(epochs), settings.epochs * len(found.arms))


def _check_same(configuration: dict[str, Any]) -> None:
    """Raise a `CompareError` in all processes if one has been given other settings or data."""
    expected, *others = processes.share(configuration)
    for process, other in enumerate(others, 1):
        if different := results.differences(
            expected, other, "in process 0", f"in process {process}"
        ):
            raise CompareError(f"the processes are not given the same: {different}.")


def _open(folder: Path, configuration: dict[str, Any], restart: bool) -> Results:
    """The results that the folder has."""
    _make_folder(folder)
    if restart:
        for name in ("results.json", "curves.png", "table.md"):
            _remove(folder / name)
    return results.load(folder / "results.json", configuration)


def _write_reports(folder: Path, found: Results, untouched: bool) -> None:
    if not untouched or not (folder / "curves.png").exists():
        _write(folder / "curves.png", report.png(report.curves(found)))
    if not untouched or not (folder / "table.md").exists():
        _write(folder / "table.md", report.markdown(found).encode())


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, content, CompareError)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompareError(f"--out {folder}: cannot be made ({error.strerror}).") from error
    trial = folder / ".results.json.tmp"
    try:
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        raise CompareError(f"--out {folder}: cannot be written ({error.strerror}).") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CompareError(f"{path} cannot be removed ({error.strerror}).") from error
