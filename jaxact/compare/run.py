"""A comparison from beginning to end: train what is missing, store it, write the report."""

from collections.abc import Callable
from pathlib import Path

from jaxact.compare import report, results
from jaxact.compare.data import Dataset, split
from jaxact.compare.errors import CompareError
from jaxact.compare.results import Results
from jaxact.compare.training import Settings, train

Progress = Callable[[str, int], None]


def compare(
    settings: Settings,
    dataset: Dataset,
    out: str | Path,
    *,
    restart: bool = False,
    progress: Progress = lambda activation, done: None,
) -> Results:
    """Train every arm that ``out`` does not have yet, and write ``results.json``, ``curves.png``
    and ``table.md`` there.

    Args:
      settings: what is trained, and how.
      dataset: the samples.
      out: the folder; made if it is not there.
      restart: forget what ``out`` has.
      progress: called with the current activation and the number of finished epochs, summed over
        the arms.

    Raises:
      CompareError: ``out`` cannot be written, or has results of another configuration.
    """
    folder = Path(out)
    data = split(dataset)
    _make_folder(folder)
    path = folder / "results.json"
    if restart:
        for name in ("results.json", "curves.png", "table.md"):
            _remove(folder / name)
    found = results.load(path, results.configuration(settings, dataset, data))
    done = settings.epochs * len(found.arms)
    untouched = not found.missing
    for activation in found.missing:
        progress(activation, done)

        def on_epoch(epoch: int, activation: str = activation, done: int = done) -> None:
            progress(activation, done + epoch)

        found.arms[activation] = train(activation, settings, data, on_epoch)
        done += settings.epochs
        found.arms = {a: found.arms[a] for a in settings.activations if a in found.arms}
        results.write_atomically(path, found.to_json().encode())
    if not untouched or not (folder / "curves.png").exists():
        results.write_atomically(folder / "curves.png", report.png(report.curves(found)))
    if not untouched or not (folder / "table.md").exists():
        results.write_atomically(folder / "table.md", report.markdown(found).encode())
    return found


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
