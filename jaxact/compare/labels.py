"""What tables, drawings and the page say about a study: its title, its notes, its terms."""

from collections.abc import Sequence

from jaxact.compare import formats
from jaxact.compare.statistics import LEVEL, Row, comparisons
from jaxact.compare.study import Score, Study, Verdict
from jaxact.compare.wording import count

#: What a verdict is called in a narrow terminal.
_SHORT = {"no detectable difference": "not detectable", "practically equal": "equal"}
#: The axes of a sweep, for readers; a parameter of activations has its own name.
_AXES = {
    "lr": "learning rate",
    "width": "units in a hidden layer",
    "depth": "hidden layers",
    "samples": "training samples",
    "dtype": "dtype",
}
_MODELS = {"mlp": "MLP", "cnn": "CNN"}
DEAD_UNITS = "Dead units: their slope is 0 on every training sample after the last epoch."
KEPT_MEMORY = "Kept memory: one network's for the backward pass of one batch."
TOO_FEW = "Too few runs: whatever they show, it could be chance."
#: So many rows are named in a note.
_LISTED = 4
_BASELINES = {"classification": "majority class", "regression": "mean"}


def title(study: Study) -> str:
    """What was trained, in one line."""
    c = study.configuration
    swept = [sweep.name for sweep in study.sweeps]
    model = _MODELS.get(c["model"], c["model"])
    if c["widths"] and "width" not in swept and "depth" not in swept:
        model += f" of widths {', '.join(map(str, c['widths']))}"
    seeds = count(c["seeds"], "seed")
    runs = seeds if c["splits"] == 1 else f"{count(c['splits'], 'split')} x {seeds}"
    parts = [runs, count(c["epochs"], "epoch")]
    if "dtype" not in swept:
        parts.append(c["dtype"])
    over = f", {c['data']['target']}" if c["data"]["target"] else ""
    along = f", over {' and '.join(swept)}" if swept else ""
    return f"{c['data']['source']}{over}: {model}{along}; {', '.join(parts)}"


def origin(study: Study) -> str:
    """What the figures were computed with."""
    c = study.configuration
    versions = ", ".join(f"{name} {version}" for name, version in c["versions"].items())
    return f"{versions}; {c['device']['platform']} ({c['device']['kind']})."


def about_scores(study: Study, rows: Sequence[Row] = ()) -> list[str]:
    """Which score it is, and what its interval covers."""
    name = study.scores[0].label.removesuffix(" %")
    which = f"{name[0].upper()}{name[1:]}: of the test samples, at the lowest validation loss."
    return [which, _intervals(study)]


def about_divergence(study: Study, rows: Sequence[Row]) -> list[str]:
    """How many networks of which rows diverged."""
    lost = [f"{row.diverged} of {row.cell.label}" for row in rows if row.diverged]
    if not lost:
        return []
    more = f"; and of {count(len(lost) - _LISTED, 'other')}" if len(lost) > _LISTED else ""
    return [f"Diverged, of {runs(study)} networks each: {'; '.join(lost[:_LISTED])}{more}."]


def about_verdicts(study: Study, rows: Sequence[Row]) -> list[str]:
    """What the verdicts in a table mean."""
    found = _verdicts(rows)
    said = []
    if found & {"better", "worse"}:
        said.append(f"Better, worse: {_test(study)}.")
    if "practically equal" in found:
        of = study.scores[0]
        margin = f"{study.configuration['margin'] * of.factor:.3g}"
        said.append(
            f"Practically equal: the interval is within ±{margin} {of.unit} of 0 (--margin)."
        )
    if "no detectable difference" in found:
        said.append("No detectable difference: if there is one, these runs cannot show it.")
    if "too few runs" in found:
        said.append(TOO_FEW)
    return said


def about_marks(study: Study, rows: Sequence[Row]) -> list[str]:
    """What the mark behind a score means, in a table of settings."""
    found = _verdicts(rows)
    said = []
    if found & {"better", "worse"}:
        said.append(f"*: other than {reference(study)} at the same setting, {_test(study)}.")
    if "too few runs" in found:
        said.append(TOO_FEW)
    return said


def _verdicts(rows: Sequence[Row]) -> set[Verdict]:
    return {row.comparison.verdict for row in rows if row.comparison}


def about_steps(study: Study) -> str:
    """What a step is."""
    networks = next(iter(study.costs.values())).networks
    of = f"all {networks} networks together" if networks > 1 else "one network"
    return f"ms/step: of training {of}; rounds are interleaved."


def _test(study: Study) -> str:
    several = comparisons(study)
    where = " at each setting" if study.cells[0].setting else ""
    adjusted = f", adjusted for {several} comparisons{where} (Holm)" if several > 1 else ""
    return f"p < {1 - LEVEL:.2g} in a paired test{adjusted}"


def reference(study: Study) -> str:
    """What the others are compared with: an activation, with the first of its swept values."""
    return study.cells[0].arm


def runs(study: Study) -> int:
    """How many networks were trained for each cell."""
    return study.configuration["seeds"] * study.configuration["splits"]


def baseline(study: Study) -> str:
    """What predicts without looking at the features."""
    return _BASELINES.get(study.configuration["task"], "baseline")


def baseline_score(study: Study, of: Score) -> str:
    """Its score."""
    found = study.configuration["data"]["baseline"].get(of.name)
    return formats.fixed(None if found is None else found * of.factor, of.digits)


def unit(of: Score) -> str:
    """The unit of a score's differences: ``"points"``, ``"R²"``."""
    return of.unit.removeprefix("of ").removeprefix("the ")


def axis(name: str) -> str:
    """A swept axis, for readers."""
    return _AXES.get(name, name)


def short(verdict: str) -> str:
    """A verdict in at most 14 characters."""
    return _SHORT.get(verdict, verdict)


def lines(label: str) -> str:
    """A label, its first word in a line of its own where it has more than two."""
    first, _, rest = label.partition(" ")
    return f"{first}\n{rest}" if " " in rest else label


def p_value(p: float | None) -> str:
    """A probability.

    >>> p_value(0.0001), p_value(0.25), p_value(None)
    ('<0.001', '0.250', '-')
    """
    if p is not None and p < 0.001:
        return "<0.001"
    return formats.fixed(p, 3)


def _intervals(study: Study) -> str:
    c = study.configuration
    if runs(study) == 1:
        return "One run of each: without an interval, nothing can be concluded."
    seeds = count(c["seeds"], "seed")
    parts = "/".join(str(c["data"][f"{p}_samples"]) for p in ("training", "validation", "test"))
    if c["splits"] == 1:
        return (
            f"±: {LEVEL:.0%} interval over {seeds} (initial weights, order of batches) on one "
            f"split of the samples ({parts}); it does not cover the choice of the samples."
        )
    return (
        f"±: {LEVEL:.0%} interval over {c['splits']} random splits of the samples ({parts}) with "
        f"{seeds} each; it covers the choice of the samples too."
    )
