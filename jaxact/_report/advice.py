"""What a report suggests to change in a model, and why."""

import dataclasses
import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from jaxact._gain import missing
from jaxact._report import remedies
from jaxact._report.site import (
    ATTENTION,
    CONFIDENCE,
    GATE,
    OF_PARAMETERS,
    SOFT_CAP,
    SQUEEZE_EXCITE,
    UNUSED,
)
from jaxact._report.summary import Summary, needed, never_active

# ------------------------------------------------------------------------------------------------
# Thresholds

#: The share of a layer's units that are dead, for each severity. Dead units are lost capacity, and
#: get no gradient to recover by (Maas et al. 2013). No paper has figures; notebooks/dying.ipynb
#: has, for one small MLP (3 x 64 ReLUs, digits, Adam at 8 learning rates, 16 seeds), and other
#: models may differ. With half of the units dead (64 to 86% of the worst layer), a smaller learning
#: rate alone left the accuracy 1.7 points below that of the best one; with 30% (38 to 53%), 0.7;
#: with 19% (19 to 36%), not measurably. From two thirds on, reviving gained 2.2 points and more.
DEAD_ACT = 0.5
#: In the same networks: with 19% dead (worst layer: 27%) the accuracy was 1.8 points below that of
#: the best rate. Of the 48 networks at the three lowest rates, 12 have a layer with 10% or more,
#: none has a layer with 20%; of the 32 at the next two, 31 have.
DEAD_CONSIDER = 0.2
#: From this share on the advice mentions dead units at all. No paper: the choice is ours.
DEAD_NOTE = 0.01
#: A unit is called dead when, with 95% confidence, it is active on no more than this share of all
#: data: from 59 samples on (Clopper & Pearson 1934: 1 - 0.05^(1/n)). The share is our choice.
ACTIVITY = 0.05
#: The share for readers who want a closer bound: it takes 299 samples.
CLOSER_ACTIVITY = 0.01
#: A layer of fewer units than this may be off as a whole when initialised: one of N units is with
#: the probability 2^-N (Lu et al. 2019).
NARROW = 32
#: The share of a layer's samples that are saturated. Training stalls when layers are driven into
#: saturation (Glorot & Bengio 2010); the share is our choice.
SATURATED = 0.5
#: The share of a smooth rectifier's units that are saturated on every sample, and as good as dead.
SILENT = DEAD_CONSIDER
#: The share of a layer's units that are active on every sample, hence linear; our choice.
ALWAYS = 0.5
#: Initializers make pre-activations of standard deviation 1 or so (He et al. 2015). With 30 times
#: as much, a bounded function is a step; with a hundredth, a smooth function is a line. Both
#: factors are our choice.
LARGE = 30.0
SMALL = 0.01

_MAAS = "Maas et al. 2013, Rectifier nonlinearities improve neural network acoustic models"
_LU = "Lu et al. 2019, Dying ReLU and initialization (arXiv 1903.06733)"
_HE = "He et al. 2015, Delving deep into rectifiers (arXiv 1502.01852)"
_GLOROT = "Glorot & Bengio 2010, Understanding the difficulty of training deep networks"
_CLOPPER = "Clopper & Pearson 1934, The use of confidence or fiducial limits"
_MONTUFAR = "Montúfar et al. 2014, On the number of linear regions (arXiv 1402.1869)"
_GEMMA = "Gemma Team 2024, Gemma 2 (arXiv 2408.00118), section 2"
_DEBUGGING = "https://docs.jax.dev/en/latest/debugging/flags.html"

# ------------------------------------------------------------------------------------------------
# Results

Severity = Literal["act", "consider", "note"]
_SEVERITIES: Sequence[Severity] = ("act", "consider", "note")
#: How many sites a text names, and how many characters wide it is printed.
_NAMED = 8
_WIDTH = 100


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Something to change in a model, or to know about it.

    Attributes:
      sites: the sites by path, step of a scan, form and number, ``blocks/mlp[2] (relu, #3)``.
      severity: ``"act"``, ``"consider"`` or ``"note"``.
      text: what to do.
      reason: the figures, the threshold, and why it matters.
      reference: the paper or the page to read about the reason.
    """

    sites: tuple[str, ...]
    severity: Severity
    text: str
    reason: str
    reference: str

    def __str__(self) -> str:
        lines = [
            (f"{self.severity}: ", _listed(self.sites, ", ")),
            ("  ", self.text),
            ("  Why: ", self.reason),
            ("  See: ", self.reference),
        ]
        return "\n".join(_wrapped(start, text) for start, text in lines)


class Advice(tuple[Suggestion, ...]):
    """Suggestions, the most urgent first; prints as text.

    Attributes:
      summary: why the sites without a suggestion need no change, and what the probe did not look
        into; empty where neither is to be said.
    """

    summary: str

    def __new__(cls, suggestions: Sequence[Suggestion] = (), summary: str = "") -> "Advice":
        """An advice of suggestions, and of what is to be said of the other sites."""
        self = super().__new__(cls, suggestions)
        self.summary = summary
        return self

    def __getnewargs__(self) -> Any:
        """The arguments of ``__new__`` from which copies and pickles are made."""
        return tuple(self), self.summary

    def __str__(self) -> str:
        parts = [str(suggestion) for suggestion in self]
        return "\n\n".join([*parts, _wrapped("", self.summary)] if self.summary else parts)


# ------------------------------------------------------------------------------------------------
# Rules


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is said about the sites of one function that a rule applies to.

    Attributes:
      severity: how urgent the suggestion is.
      text: what to do, a format string of ``remedy``, ``initializer`` and ``linear``.
      reason: why, to follow the sites' figures: a format string of ``bound`` and ``linear``.
      reference: the paper or the page to read about the reason.
    """

    severity: Severity
    text: str
    reason: str
    reference: str


_BOUND = f"(one-sided {CONFIDENCE:.0%} bound, which takes the samples as independent)"
_DEAD = (
    "Dead: the slope is exactly 0 on every sample, so the unit gets no gradient; it is active on "
    f"at most {{bound}} of all data {_BOUND}. "
)

_MEASURED = "In notebooks/dying.ipynb (one small ReLU MLP on digits; others may differ)"

NOT_FINITE = Rule(
    "act",
    "Find out where it comes from: `jax.config.update('jax_debug_nans', True)`, and "
    "'jax_debug_infs'. A smaller learning rate or gradient clipping "
    "(`optax.clip_by_global_norm`) often helps.",
    "The mean or the mean square of the pre-activation is not finite: it is NaN or infinite, or "
    "its square is, on some sample. The other figures of these sites say nothing then.",
    _DEBUGGING,
)
LAYER_DEAD = Rule(
    "act",
    "This comes first. {remedy}",
    f"{_DEAD}With every unit dead, no gradient passes the layer, and what is before it learns "
    "nothing through it.",
    f"{_LU}; {_MAAS}",
)
MANY_DEAD = Rule(
    "act",
    "{remedy}",
    f"{_DEAD}Threshold: {DEAD_ACT:.0%}. {_MEASURED} networks with 67% dead lost 10 points of test "
    "accuracy to the best learning rate, and 3.6 after more training at a smaller one; reviving "
    "gained 2.2 of these. With 19% dead the smaller rate was enough.",
    f"{_LU}; {_HE}",
)
SOME_DEAD = Rule(
    "consider",
    "{remedy}",
    f"{_DEAD}Threshold: {DEAD_CONSIDER:.0%}. {_MEASURED} networks with 19% dead, 27% in the worst "
    "layer, lost 1.8 points of test accuracy to the best learning rate, and nothing measurable "
    "after more training at a smaller one, without reviving.",
    f"{_LU}; {_MAAS}",
)
FEW_DEAD = Rule(
    "note",
    f"Watch it: from {DEAD_CONSIDER:.0%} of a layer on, a change is worth a try.",
    f"{_DEAD}Threshold: more than {DEAD_NOTE:.0%}.",
    _LU,
)
TOO_FEW_SAMPLES = Rule(
    "note",
    "Change nothing yet, but probe more batches and merge their reports (`report.merge`): "
    f"{needed(ACTIVITY)} samples give a bound of {ACTIVITY:.0%}, {needed(CLOSER_ACTIVITY)} one of "
    f"{CLOSER_ACTIVITY:.0%}.",
    "The sample is too small to call these units dead: each may be active on up to {bound} of all "
    f"data {_BOUND}. Threshold: {ACTIVITY:.0%}.",
    _CLOPPER,
)
SILENT_UNITS = Rule(
    "consider",
    "{remedy}",
    "The slope is 0, or below the probe's threshold, on every sample: such a unit is as good as "
    f"dead. Threshold: {SILENT:.0%}.",
    _MAAS,
)
SATURATED_LAYER = Rule(
    "consider",
    "{remedy}",
    "Where the slope is below the probe's threshold, little gradient passes. "
    f"Threshold: more than {SATURATED:.0%}. In a gate, which is to be open or shut, this is fine.",
    _GLOROT,
)
SATURATED_GATE = Rule(
    "note",
    "Nothing to change while training goes on well; else smaller initial weights for the gate.",
    "Where the slope is below the probe's threshold, little gradient reaches the gate. But a gate "
    f"is to be open or shut: this is fine. Threshold: more than {SATURATED:.0%}.",
    _GLOROT,
)
CAPPED = Rule(
    "note",
    "A larger cap, if these values are meant to differ.",
    "Where the slope is below the probe's threshold, the values are at the cap, and little "
    f"gradient passes. Threshold: more than {SATURATED:.0%}.",
    _GEMMA,
)
ALWAYS_ON = Rule(
    "note",
    "The layer is close to {linear}: fewer units may do, or none of it.",
    "A unit that is active on every sample is {linear} there, and linear layers in a row are one. "
    f"Threshold: more than {ALWAYS:.0%}.",
    _MONTUFAR,
)
ODD_SCALE = Rule(
    "consider",
    "Normalise the pre-activations (LayerNorm, BatchNorm), or start from "
    "`jaxact.initializers.he_normal({initializer})`, which keeps their mean square.",
    "Over all units and samples, pre-activations this large make a function a step or a line, and "
    "those that vary this little make it a line. Thresholds: |mean| or standard deviation above "
    f"{LARGE:g}, standard deviation below {SMALL:g}.",
    _HE,
)
#: All rules. Of two with the same severity, the more urgent stands first.
_RULES = (
    NOT_FINITE,
    LAYER_DEAD,
    MANY_DEAD,
    SOME_DEAD,
    SILENT_UNITS,
    SATURATED_LAYER,
    ODD_SCALE,
    TOO_FEW_SAMPLES,
    FEW_DEAD,
    SATURATED_GATE,
    CAPPED,
    ALWAYS_ON,
)

#: Roles of which nothing is said but that values are not finite: there are no units that learn, or
#: none that anything depends on.
_WITHOUT_ADVICE = (OF_PARAMETERS, UNUSED, ATTENTION)
_GATES = (GATE, SQUEEZE_EXCITE)


def advise(summaries: Sequence[Summary], note: str = "") -> Advice:
    """What to change in a model with these sites, as `jaxact.Report.advice` returns it.

    Args:
      summaries: the sites: of 59 samples or more, if dead units are to be told from rare ones.
      note: a last sentence of the advice's summary.

    Returns:
      A suggestion for each rule that applies and each function that it applies to.
    """
    found: dict[tuple[int, str], list[tuple[Summary, str]]] = {}
    for summary in summaries:
        for rule, figure in _findings(summary) if summary.samples else ():
            key = (_RULES.index(rule), summary.site.function)
            found.setdefault(key, []).append((summary, figure))
    # Groups of the same rule stay in the order of execution.
    order = sorted(found, key=lambda key: (_SEVERITIES.index(_RULES[key[0]].severity), key[0]))
    born_dead = _born_dead(summaries)
    suggestions = [_suggestion(_RULES[key[0]], key[1], found[key], born_dead) for key in order]
    affected = {summary.label for group in found.values() for summary, _ in group}
    left_out = [s for s in summaries if s.site.role in _WITHOUT_ADVICE and s.label not in affected]
    others = [s for s in summaries if s.label not in affected and s not in left_out]
    some = bool(suggestions) or bool(left_out and not others)
    sentences = [_of_the_others(others, some), _left_out(left_out), note]
    return Advice(suggestions, " ".join(filter(None, sentences)))


def _findings(summary: Summary) -> Iterator[tuple[Rule, str]]:
    """The rules that apply to a site, each with the site's figure in words."""
    role = summary.site.role
    if not summary.finite and role != UNUSED:
        yield NOT_FINITE, "not finite"
        return
    if role in _WITHOUT_ADVICE:
        return
    if role == SOFT_CAP:
        if summary.saturated > SATURATED:
            yield CAPPED, f"{_percent(summary.saturated)} of the samples at the cap"
        return
    yield from _lost_units(summary)
    if role in _GATES:
        return
    always = summary.always / summary.units
    if summary.site.function in remedies.LINEAR_PIECE and _enough(summary) and always > ALWAYS:
        yield ALWAYS_ON, _part(summary.always, summary.units, "always active")
    several = summary.samples * summary.units > 1
    if max(abs(summary.mean), summary.std) > LARGE or (several and summary.std < SMALL):
        yield ODD_SCALE, f"mean {summary.mean:.3g}, standard deviation {summary.std:.3g}"


def _lost_units(summary: Summary) -> Iterator[tuple[Rule, str]]:
    """The first of the rules about units or samples without a gradient that applies to a site."""
    function, units = summary.site.function, summary.units
    # A log_sigmoid is mostly part of a loss, and its slope vanishes where the model is right.
    if function == "log_sigmoid":
        return
    dead, silent = summary.dead / units, summary.silent / units
    # The slope of a smooth function is 0 by underflow only: what counts is that it is small.
    smooth = function in remedies.SMOOTH | remedies.SATURATING
    figure = _part(summary.dead, units, "dead")
    rule = None
    gate = function == "glu" or (smooth and summary.site.role in _GATES)
    if dead == 1 and not gate:
        rule = LAYER_DEAD
    elif dead >= DEAD_ACT and not smooth:
        rule = MANY_DEAD
    elif dead >= DEAD_CONSIDER and not smooth:
        rule = SOME_DEAD
    elif dead > DEAD_NOTE and not smooth:
        rule = FEW_DEAD
    elif silent >= SILENT and function in remedies.SMOOTH and not gate:
        rule, figure = SILENT_UNITS, _part(summary.silent, units, "as good as dead")
    if rule and not _enough(summary):
        yield TOO_FEW_SAMPLES, f"{figure} on {_count(summary.samples, 'sample')}"
    elif rule:
        yield rule, figure
    elif function in remedies.SATURATING | remedies.CLIPS and summary.saturated > SATURATED:
        figure = f"{_percent(summary.saturated)} of the samples saturated"
        gate |= summary.site.role in _GATES
        yield SATURATED_GATE if gate else SATURATED_LAYER, figure


def _enough(summary: Summary) -> bool:
    """Whether a site's samples are enough to take as a rule what happened on none or on all."""
    return never_active(summary.samples) <= ACTIVITY


def _suggestion(
    rule: Rule, function: str, group: Sequence[tuple[Summary, str]], born_dead: float
) -> Suggestion:
    """What a rule says of the sites of a function that it applies to.

    Args:
      rule: the rule.
      function: the function's name.
      group: the sites, each with its figure in words.
      born_dead: see `_born_dead`.
    """
    summaries = [summary for summary, _ in group]
    words = {
        "remedy": remedies.remedy(function, [summary.site for summary in summaries]),
        # Some functions have no gain without their parameters, which the site does not tell.
        "initializer": "" if missing(function, {}) else f'activation="{function}"',
        "bound": _percent(max(never_active(summary.samples) for summary in summaries)),
        # A reglu whose gate is always open is the product of two linear layers.
        "linear": "bilinear" if function == "reglu" else "linear",
    }
    names = Counter(summary.name for summary in summaries)
    figures = _listed(
        [
            f"{s.name}{f' #{s.site.index}' if names[s.name] > 1 else ''}: {figure}"
            for s, figure in group
        ],
        "; ",
    )
    reason = f"{figures}. {rule.reason.format(**words)}"
    if "{bound}" in rule.reason and any(summary.site.place.pooled for summary in summaries):
        reason += (
            " Steps of a loop are no independent samples: for the sites that have several, the "
            "bound is too low."
        )
    narrow = any(summary.site.place.units < NARROW for summary in summaries)
    if narrow and function in remedies.HALF_OFF and rule in (LAYER_DEAD, MANY_DEAD, SOME_DEAD):
        reason += (
            " Deep networks of narrow layers may be dead from the start: with symmetric weights "
            f"and no biases, these layers make it so with a probability of {_percent(born_dead)} "
            "at most (for N units in each of L - 1 layers, 1 - (1 - 2^-N)^(L - 1))."
        )
    text = rule.text.format(**words)
    if "jaxact.swap" in text and any(summary.site.iteration for summary in summaries):
        text += " All steps of a scan change with one."
    return Suggestion(
        sites=tuple(summary.label for summary in summaries),
        severity=rule.severity,
        text=text,
        reason=reason,
        reference=rule.reference,
    )


def _born_dead(summaries: Sequence[Summary]) -> float:
    """An upper limit of the probability that a net of these layers is constant when initialised.

    At any one input a layer of N units is off with the probability 2^-N, given that the layer
    before it is not; a net that is constant has a layer that is off at every input.
    """
    widths = [
        s.site.place.units
        for s in summaries
        if s.site.function in remedies.HALF_OFF and s.site.role not in _WITHOUT_ADVICE
    ]
    # By logarithms, for 1 - 2^-N rounds to 1.
    return -math.expm1(sum(math.log1p(-(2.0**-width)) for width in widths if width))


def _left_out(summaries: Sequence[Summary]) -> str:
    """Which sites get no advice because of what they are there for."""
    by_role: dict[str, list[str]] = {}
    for summary in summaries:
        by_role.setdefault(summary.site.role, []).append(f"#{summary.site.index}")
    listed = (
        f"{role} ({_listed(list(dict.fromkeys(sites)), ', ')})" for role, sites in by_role.items()
    )
    return f"Without advice: {'; '.join(listed)}." if by_role else ""


def _of_the_others(others: Sequence[Summary], some: bool) -> str:
    """Why the sites that no rule applies to need no change.

    Args:
      others: these sites.
      some: whether rules apply to other sites of the report.
    """
    seen = [summary for summary in others if summary.samples]
    unseen = len(others) - len(seen)
    if not others:
        return "" if some else "No advice: the report has no sites."
    if not seen:
        sites = _count(unseen, "site")
        return f"{sites} without samples." if some else f"No advice: {sites}, and no samples."
    dead, units = (sum(counts) for counts in zip(*((s.dead, s.units) for s in seen), strict=True))
    samples = _count(min(summary.samples for summary in seen), "sample")
    sentences = [
        f"Nothing to change{' elsewhere' if some else ''}: {_count(len(seen), 'site')}, "
        f"{_count(units, 'unit')}, at least {samples} each; "
        f"{_count(dead, 'unit') + ' of slope 0 on every sample' if dead else 'no dead units'}; "
        "pre-activations of a usual size."
    ]
    alive = {summary.site.function for summary in seen if not summary.dead}
    rectifiers, open_ = (", ".join(sorted(alive & k)) for k in (remedies.RECTIFIERS, remedies.OPEN))
    if rectifiers:
        sentences.append(f"Without dead units there is no need of a leaky slope ({rectifiers}).")
    if open_:
        sentences.append(f"A slope on both sides keeps units alive ({open_}).")
    if unseen:
        sentences.append(f"{_count(unseen, 'site')} without samples.")
    return " ".join(sentences)


# ------------------------------------------------------------------------------------------------
# Text


def _part(count: int, units: int, what: str) -> str:
    """How many units of all are something: ``3 of 100 units dead (3%)``."""
    return f"{count} of {_count(units, 'unit')} {what} ({_percent(count / units)})"


def _count(count: int, what: str) -> str:
    """A number with its noun: ``1 site``, ``2 sites``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _listed(items: Sequence[str], between: str) -> str:
    """The first items, and how many more there are."""
    more = [f"and {len(items) - _NAMED} more"] if len(items) > _NAMED else []
    return between.join([*items[:_NAMED], *more])


def _wrapped(start: str, text: str) -> str:
    """A paragraph of lines; after a ``start`` the lines that follow are indented."""
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent="    " if start else "",
        break_long_words=False,
        break_on_hyphens=False,
    )
