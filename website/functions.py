"""Writes the page of each activation, and the gallery: docs/functions/.

Nothing on a page is typed: it is the function's docstring, what the function gives when it is
called, and the figures that benchmarks have written into docs/ and accuracy.json.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

import jaxact
from benchmarks import names as other_names
from benchmarks.pages import markdown_table
from benchmarks.peers import PEERS
from jaxact import linen, nnx
from jaxact._core.context import Residual
from jaxact._names import LIBRARIES
from jaxact._report import remedies
from jaxact.initializers import gain
from website import figures, gallery, plots, tables
from website.shown import Shown, first_name, kinks, shown

ROOT = Path(__file__).parent.parent
SPEED = ROOT / "docs" / "speed.md"


def write(folder: Path, names: Iterable[str] = (), *, draw: bool = True) -> None:
    """Write NAME.md for each activation, index.md, and the figures of both.

    Args:
      folder: docs/functions.
      names: those to write; all if empty, with the gallery.
      draw: whether to draw the figures.

    Raises:
      ValueError: an activation is in no group of the gallery, or a table of docs/ is missing.
    """
    if not names:
        gallery.write(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or jaxact.ACTIVATIONS:
        (folder / f"{name}.md").write_text(page(name), encoding="utf-8")
        if draw:
            stem = folder / "figures" / name
            figures.write(figures.svg(plots.figure(shown(name))), stem)
            small = figures.svg(plots.thumbnail(shown(name)))
            figures.write(small, stem.with_name(f"{name}-small"))


def page(name: str) -> str:
    """The page of an activation, in Markdown."""
    if name != first_name(name):
        return alias_page(name)
    activation = shown(name)
    sections = [
        picture(activation),
        definition(name),
        limits(activation),
        kept(activation),
        accuracy(name),
        speed(name),
        other_libraries(name),
        related(name),
    ]
    summary = (jaxact.ACTIVATIONS[name].__doc__ or "").partition("\n")[0].replace('"', "'")
    front = f'---\ndescription: "jaxact.{name}: {summary}"\n---\n\n'
    return f"{front}# {name}\n\n" + "\n".join(section for section in sections if section)


def alias_page(name: str) -> str:
    """The page of a second name."""
    first = first_name(name)
    drawing = figures.markdown(f"Value and slope of {name}", f"figures/{name}")
    return (
        f"# {name}\n\n{drawing}\n\n"
        f"`jaxact.{name}` is another name of [`jaxact.{first}`]({first}.md): the same function.\n\n"
        f"{other_libraries(name)}"
    )


# ------------------------------------------------------------------------------------------------
# What the function says of itself

#: Where the slope vanishes, of the kinds of `jaxact._core.elementwise.Kind`.
KINDS = (
    (remedies.RECTIFIERS, "is exactly 0 below a point"),
    (remedies.CLIPS, "is exactly 0 on both sides"),
    (remedies.SHRINKS, "is exactly 0 in the middle"),
    (remedies.SATURATING, "is small on one side or on both, by design"),
    (remedies.SMOOTH, "is small on one side, or in the middle"),
    (remedies.OPEN, "vanishes nowhere, or at a point, or never for all outputs at once"),
)


def picture(activation: Shown) -> str:
    name = activation.name
    alt = plots.caption(activation).replace("`", "")
    drawing = figures.markdown(alt, f"figures/{name}")
    # On a phone the site shows figures in their own size, but for those in a box: this one fits.
    boxed = f'<div class="function" markdown>\n\n{drawing}\n\n</div>'
    return f"{boxed}\n\n{plots.caption(activation)}\n"


def definition(name: str) -> str:
    """The docstring, and what initializers and layers know."""
    parameters = shown(name).parameters
    given = ", ".join(f"`{parameter}={value}`" for parameter, value in parameters.items())
    lines = [
        f"::: jaxact.{name}",
        "    options:",
        "      heading: Definition",
        "      toc_label: Definition",
        "      heading_level: 2",
        "",
        f"Its [gain][jaxact.initializers.gain] is {gain(name, **parameters):.4f}"
        f"{f' with {given}' if given else ''}.",
    ]
    layers = [
        f"[`jaxact.{module}.{layer}`][jaxact.{module}.{layer}]"
        for module, home in (("nnx", nnx), ("linen", linen))
        for layer in dir(home)
        if layer[0].isupper() and layer.lower() in layer_names(name)
    ]
    if layers:
        learned = " with a learned parameter" if name == "silu" else ""
        lines[-1] += f" As a layer{learned}: {' and '.join(layers)}."
    return "\n".join(lines) + "\n"


def layer_names(name: str) -> set[str]:
    """The function's names without underscores: silu and swish."""
    function = jaxact.ACTIVATIONS[name]
    return {n.replace("_", "") for n, other in jaxact.ACTIVATIONS.items() if other is function}


def limits(activation: Shown) -> str:
    """Value and slope at the ends, where the slope jumps, and at NaN."""
    points: dict[str, float] = {"−∞": -math.inf}
    breaks = kinks(activation)
    for kink in breaks:
        below, above = (np.nextafter(np.float32(kink), end) for end in (-np.inf, np.inf))
        if kink == 0:  # The neighbours of 0 are subnormal, and count as 0 on some machines.
            below, above = -(2.0**-100), 2.0**-100
        text = f"{kink:g}".replace("-", "−")
        points |= {f"just below {text}": below, text: kink, f"just above {text}": above}
    if not breaks:
        points["0"] = 0.0
    points |= {"+∞": math.inf, "NaN": math.nan}
    ups = [1.0] * (len(activation.inputs) - 1)
    values, *slopes = activation.evaluate(np.array([*points.values()]), *ups)
    header = [activation.inputs[0], "value", "slope"]
    if ups:
        header = ["gate", "value", "slope by gate", "slope by up"]
    rows = [
        [point, *(number(column[i]) for column in (values, *slopes))]
        for i, point in enumerate(points)
    ]
    if not ups and np.ptp(activation.evaluate(np.arange(50.0, 60.0))[1]) > 0.1:  # It is periodic.
        for row in rows:
            row[-1] += " (returned; there is no limit)" if "∞" in row[0] else ""
    calls = f"Of `{activation.call}` in float32"
    calls += ", with an `up` of 1." if ups else "."
    return section("Limits", calls, "", *markdown_table(header, rows))


def number(value: Any) -> str:
    """A number, or the numbers of an array, in four digits."""
    if np.ndim(value):
        return ", ".join(map(number, value))
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return "0" if abs(value) < 2.0**-90 else f"{value:.4g}".replace("-", "−")


def related(name: str) -> str:
    """The functions that a reader may look for beside it."""
    group = gallery.group_of(name)
    others = ", ".join(f"[{n}]({n}.md)" for n in gallery.GROUPS[group] if n != name)
    where = next(words for kind, words in KINDS if name in kind)
    lines = [
        f"[The probe's advice](../probe.md) takes it for one of the functions whose slope {where}.",
        "",
        f"{group}: {others}. [All functions](index.md)."
        if others
        else "[All functions](index.md).",
    ]
    return section("Related", *lines)


def section(heading: str, *lines: str) -> str:
    return "\n".join([f"## {heading}", "", *lines, ""])


# ------------------------------------------------------------------------------------------------
# What the backward pass keeps

_SHAPE = (64, 128)


def kept(activation: Shown) -> str:
    """The arrays from the forward to the backward pass, by setting, and jax.nn's."""
    inputs = 1 if activation.name == "glu" else len(activation.inputs)
    found: dict[tuple[str, ...], list[str]] = {}
    for setting in get_args(Residual):
        with jaxact.autodiff(residual=setting):
            row = residuals(activation.function, inputs)
        found.setdefault(row, []).append(f'`"{setting}"`')
    rows = [[", ".join(settings), *row] for row, settings in found.items()]
    label, peer = peer_of(activation.name)
    if peer is not None:
        rows.append([label, *residuals(peer, inputs)])
    header = ["`residual=`", "keeps", "float32", "bfloat16"]
    lines = [
        f"What JAX hands from the forward pass of `{activation.call}` to the backward pass, in"
        f" bytes for each element of the {'gate' if inputs > 1 else 'input'}; compilers may compute"
        " some of it again. [Gradients and residuals](../gradients.md#what-the-backward-pass-keeps)"
        " has the settings.",
        "",
        *markdown_table(header, rows),
    ]
    return section("What the backward pass keeps", *lines)


def peer_of(name: str) -> tuple[str, Callable[..., Any] | None]:
    """What jax.nn has in its place, or one writes with it."""
    if hasattr(jax.nn, name):
        return f"`jax.nn.{name}`", getattr(jax.nn, name)
    written = next((peers.written_out for peers in PEERS if peers.name == name), None)
    return "written out with `jax.numpy`", written


def residuals(function: Callable[..., Any], inputs: int) -> tuple[str, str, str]:
    """What is kept, and its bytes for each element in float32 and bfloat16."""
    words, sizes = "", []
    for dtype in (jnp.float32, jnp.bfloat16):
        arrays = [jax.ShapeDtypeStruct(_SHAPE, dtype)] * inputs
        # A key or a parameter is no array of the input's size.
        found = [
            r
            for r in jaxact.memory.residuals(function, *arrays)
            if r.bytes >= math.prod(_SHAPE) // 8
        ]
        words = words or ", ".join(dict.fromkeys(described(r, found, inputs) for r in found))
        sizes.append(f"{sum(r.bytes for r in found) / math.prod(_SHAPE):.4g}")
    return words or "nothing", sizes[0], sizes[1]


def described(residual: Any, found: list[Any], inputs: int) -> str:
    """A kept array in words, all of the same sort together."""
    if residual.origin == "argument":
        both = sum(r.origin == "argument" for r in found) > 1
        return "both inputs" if both else "one of the inputs" if inputs > 1 else "the input"
    if residual.origin == "output":
        return "the output"
    count = sum(r.origin == residual.origin and r.dtype == residual.dtype for r in found)
    bits = 8 * residual.bytes * count / math.prod(_SHAPE)
    if residual.dtype == jnp.uint8 and residual.bytes < math.prod(_SHAPE):
        return f"{bits:g} bit{'s' if bits > 1 else ''} an element"
    if residual.dtype == jnp.bool:
        return f"{count} masks of booleans" if count > 1 else "a mask of booleans"
    return f"{count} array{'s' if count > 1 else ''} computed for it"


# ------------------------------------------------------------------------------------------------
# What benchmarks have found

ACCURACY = ROOT / "accuracy.json"
DTYPES = ("bfloat16", "float16", "float32", "float64")


def accuracy(name: str) -> str:
    """The worst errors, of all parameters that were tried, beside jax.nn's."""
    results = json.loads(ACCURACY.read_text(encoding="utf-8"))
    link = "[Accuracy](../accuracy.md) says how they are measured."
    gated = [row for row in results["gated"] if is_of(row["function"], name)]
    rows = [row for row in results["rows"] if is_of(row["function"], name)]
    intro = f"The worst errors in units in the last place; 0.5 is perfect. {link}"
    if gated:
        header = ["", "value", "slope by gate", "slope by up"]
        body = [
            [dtype, *(ulp(worst(gated, dtype, key)) for key in ("value", "gate", "up"))]
            for dtype in DTYPES
            if any(row["dtype"] == dtype for row in gated)
        ]
        return section("Accuracy", intro, "", *markdown_table(header, body))
    if not rows:
        return section("Accuracy", f"Not in the table yet. {link}")
    libraries = [
        library
        for library in ("jaxact", "jax.nn")
        if any(row["library"] == library for row in rows)
    ]
    header = ["", *(f"{library}: {what}" for library in libraries for what in ("value", "slope"))]
    body = []
    for dtype in DTYPES:
        line = [
            ulp(worst([row for row in rows if row["library"] == library], dtype, key))
            for library in libraries
            for key in ("value", "gradient")
        ]
        if any(line):
            body.append([dtype, *line])
    forms = {row["function"] for row in rows}
    if len(forms) > 1:
        intro += f" Here, of {len(forms)} choices of its parameters"
        intro += "; of `jax.nn`'s, with its defaults." if "jax.nn" in libraries else "."
    return section("Accuracy", intro, "", *markdown_table(header, body))


def is_of(function: str, name: str) -> bool:
    """Whether a row of a benchmark is of the function, with whatever parameters."""
    return function.partition(":")[0].partition("(")[0].rstrip(" *†") == name


def worst(rows: Iterable[dict[str, Any]], dtype: str, key: str) -> float | None:
    found = [row[key] for row in rows if row["dtype"] == dtype and row[key] is not None]
    return max(found, key=lambda error: math.inf if math.isnan(error) else error, default=None)


def ulp(error: float | None) -> str:
    """An error in few digits."""
    if error is None:
        return ""
    if not math.isfinite(error):
        return "NaN or ∞"
    return f"{error:.2f}" if error < 1000 else f"{error:.0e}"


def speed(name: str) -> str:
    """Times on CPUs and cycles on TPUs, beside jax.nn's."""
    parts = [*cpu(name), *tpu(name)]
    if not parts:
        parts = ["Not in the tables of [Speed](../speed.md)."]
    return section("Speed", *parts).rstrip() + "\n"


def cpu(name: str) -> Iterator[str]:
    found: dict[tuple[str, str, str], dict[str, tuple[str, str]]] = {}
    starred = False
    for mark in tables.sections(SPEED, r"cpu [\d.]+"):
        for table in tables.read(SPEED, mark):
            for function, direction, _, ours, theirs, _, ratio, *_ in table.rows:
                if is_of(function, name):
                    starred |= "*" in function
                    row = found.setdefault((mark[4:], function.rstrip(" *"), direction), {})
                    row[table.heading] = (ours, ratio) if theirs else (ours, "")
    if not found:
        return
    headings = list(dict.fromkeys(heading for row in found.values() for heading in row))
    body = []
    ratios: list[tuple[float, str]] = []
    for (version, function, direction), row in found.items():
        label = f"JAX {version}, {direction}"
        label += f", `{function[len(name) + 1 : -1]}`" if function != name else ""
        cells = []
        for heading in headings:
            ours, ratio = row.get(heading, ("", ""))
            cells.append(f"{ours} ({ratio})" if ratio else ours)
            if ratio:
                ratios.append((float(ratio), f"{label}, {heading}"))
        body.append([label, *cells])
    other = "the line of JAX that one would write" if starred else "`jax.nn`"
    text = "On CPU: nanoseconds an element"
    if ratios:
        least, where = min(ratios)
        text += f", and in brackets the time of {other} over jaxact's; worst {least} ({where})"
    yield f"{text}. [Speed](../speed.md#cpu) says how they are measured."
    yield ""
    yield from markdown_table(["", *headings], body)
    yield ""


def tpu(name: str) -> Iterator[str]:
    body, starred = [], False
    for table in tables.read(SPEED, "cycles"):
        for function, direction, *cells in table.rows:
            if is_of(function, name):
                starred |= "*" in function
                form = function.rstrip(" *†")
                label = f"{table.heading}, {direction}"
                label += f", `{form[len(name) + 1 : -1]}`" if form != name else ""
                label += " †" if "†" in function else ""
                body.append([label, *cells])
    if not body:
        return
    other = "written out" if starred else "jax.nn"
    text = "On TPU: thousands of cycles for 4096 × 8192 elements, as the compilers estimate them"
    dagger = " (†: jaxact's pullback reads an array, the other a mask)"
    text += dagger if any("†" in row[0] for row in body) else ""
    yield f"{text}. [Speed](../speed.md#tpu-cycles) says how."
    yield ""
    columns = [f"{dtype}: jaxact" for dtype in ("bfloat16", "float32")]
    yield from markdown_table(["", columns[0], other, "ratio", columns[1], other, "ratio"], body)
    yield ""


# ------------------------------------------------------------------------------------------------
# Other libraries


def other_libraries(name: str) -> str:
    """What they call it, and the defaults that differ."""
    rows = []
    for library in LIBRARIES.values():
        for meaning, theirs in other_names.grouped(library, name).items():
            texts = ", ".join(f"`{n}`" for n in theirs)
            given = meaning.partition(":")[2].replace(",", ", ")
            differs = f"`{given}`" if given else ""
            renamed = other_names.renamed(library, theirs)
            rows.append([library.title, texts, ", ".join(filter(None, [differs, renamed]))])
    if not rows:
        return section("Names in other libraries", "None of those in [the table](../names.md).")
    header = ["", "names", "defaults and names of parameters that differ"]
    return section(
        "Names in other libraries",
        "`jaxact.get` takes them with the library's prefix, as `torch:relu`: "
        "[all names](../names.md).",
        "",
        *markdown_table(header, rows),
    )
