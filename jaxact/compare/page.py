"""The report as one page: report.html, which needs no network and no other file."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from jaxact.compare import drawings, formats, labels
from jaxact.compare.conclusions import conclude
from jaxact.compare.grid import Field, Grid
from jaxact.compare.statistics import LEVEL, Row, summarize
from jaxact.compare.study import SETTINGS_AXES, Cell, Study
from jaxact.compare.svg import DARK, LIGHT
from jaxact.compare.table import grid_of
from jaxact.compare.wording import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure of the page.

    Args:
      heading: what it is about.
      svg: an ``<svg>`` element.
      caption: how to read it.
    """

    heading: str
    svg: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Section:
    """What the page says about a study."""

    heading: str
    conclusions: list[str]
    drawings: list[Drawing]
    grid: Grid


def html(studies: Sequence[Study], *, command: str) -> str:
    """The page: conclusions, drawings, tables, what was made of the data, how to repeat it.

    The same studies give the same bytes.

    Args:
      studies: at least one, each with finished cells.
      command: the command line that the studies came from.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxact.compare"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    first = studies[0].configuration
    sections = [_section(study, f"study-{i}") for i, study in enumerate(studies, 1)]
    return environment.get_template("report.html.jinja").render(
        source=first["data"]["source"],
        sections=sections,
        columns=first["data"]["columns"],
        facts=_facts(studies[0]),
        origins=list(dict.fromkeys(map(labels.origin, studies))),
        command=command,
        light=LIGHT,
        dark=DARK,
        cell_class=_cell_class,
        breakable=_breakable,
        sentence=_sentence,
    )


def _section(study: Study, name: str) -> Section:
    rows = summarize(study)
    return Section(
        _heading(study),
        conclude(study),
        list(_drawings(study, rows, name)),
        grid_of(study, rows),
    )


def _heading(study: Study) -> str:
    if not study.sweeps:
        return "The activations compared"
    return "Over the " + " and the ".join(labels.axis(sweep.name) for sweep in study.sweeps)


def _cell_class(field: Field, row: int) -> str:
    """The class of a cell: the side it is aligned on, and the colour of its verdict."""
    verdict = field.verdicts[row] if field.verdicts else ""
    classes = ["number"] * (field.justify == "right") + [verdict] * (verdict in ("better", "worse"))
    return " ".join(classes)


def _sentence(text: str) -> str:
    """A sentence, as HTML, with its `code` as such."""
    import markupsafe

    return markupsafe.Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def _breakable(text: str) -> str:
    """A long name, as HTML, that is broken where a parameter begins and not within a number."""
    import markupsafe

    return markupsafe.Markup(re.sub("([:,])", r"\1<wbr>", str(markupsafe.escape(text))))


def _facts(study: Study) -> dict[str, str]:
    """The data and the training, by what is said of them."""
    c, data = study.configuration, study.configuration["data"]
    parts = [f"{data[f'{part}_samples']} {part}" for part in ("training", "validation", "test")]
    of = count(data["features"], "feature")
    if data["classes"]:
        of += f", {data['classes']} classes"
    target = f", target {data['target']}" if data["target"] else ""
    rates = [formats.value(rate) for rate in c["tune"] or [c["learning_rate"]]]
    swept = next((s.values for s in study.sweeps if s.name == "lr"), None)
    return {
        "Data": f"{data['source']}{target}: {count(data['samples'], 'sample')}, {of}",
        "Samples": ", ".join(parts),
        "Training": labels.title(study),
        "Learning rate": ", ".join(map(formats.value, swept) if swept else rates)
        + (" (the best for each activation)" if c["tune"] else ""),
    }


def _drawings(study: Study, rows: Mapping[Cell, Row], name: str) -> Iterator[Drawing]:
    of = study.scores[0]
    score = of.label.removesuffix(" %")
    reference = labels.reference(study)
    lines = f"lines: {LEVEL:.0%} intervals"
    number = 0

    def drawn(heading: str, figure: "Figure | None", caption: str) -> Iterator[Drawing]:
        nonlocal number
        if figure is not None:
            number += 1
            element = drawings.svg(figure, name=f"{name}-{number}", title=f"{heading}. {caption}")
            yield Drawing(heading, element, caption)

    margin = study.configuration["margin"] * of.factor
    shaded = f" Shaded: what counts as equal, ±{margin:.3g} {of.unit}." if margin else ""
    smaller = "" if of.larger_is_better else " The smaller, the better."
    yield from drawn(
        f"Difference of {score} to {reference}",
        drawings.differences(study, rows),
        f"Dots: mean, {lines}.{shaded} Green: better, red: worse.{smaller}",
    )
    for sweep in study.sweeps:
        for at in drawings.slices(study, sweep.name):
            where = "".join(f", {labels.axis(n)} {formats.value(v)}" for n, v in at)
            yield from drawn(
                f"Against the {labels.axis(sweep.name)}{where}",
                drawings.against(study, sweep.name, at, rows),
                f"Dots: mean, {lines}. Hollow: some of the networks diverged.",
            )
    swept = any(sweep.name in SETTINGS_AXES for sweep in study.sweeps)
    yield from drawn(
        "Dead units over the training",
        drawings.dead_by_layer(study),
        "Of each layer's units, the share whose slope is 0 on every training sample; mean over the "
        "networks." + (" At the point of the sweep where most die." if swept else ""),
    )
    yield from drawn(
        "Slopes that were learned",
        drawings.slopes(study),
        f"After the last epoch, by layer. Large dots: mean, {lines}; small dots: the networks.",
    )
    yield from drawn(
        "What it costs",
        drawings.cost(study, rows),
        f"The time of a training step ({lines}), and what the backward pass of one network keeps "
        "of a batch.",
    )
