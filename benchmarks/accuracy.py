"""How accurate jaxact's functions are, beside jax.nn's.

    python -m benchmarks.accuracy            # about ten minutes; writes accuracy.json
    python -m benchmarks.accuracy --docs     # also writes docs/accuracy.md
    python -m benchmarks.accuracy --all      # every float32 input: hours, resumes where it stopped

The error of a result is its distance from a reference, in units in the last place (ULP) of the
correctly rounded result. The references are the tests' formulas in float64 (for float64 results,
mpmath with 50 digits). bfloat16 and float16 take every one of their 65,536 inputs; float32 takes 20
million: log-uniform, and dense at branch points, at zeros of slopes and in the tails.

Where the reference is subnormal in float32, a result of 0 counts as right; so does one as small as
a subnormal input, and the slopes of relu, relu6 and crelu there, which follow the hardware's
comparison. Within 10^-3 of a zero of the derivative a float32 gradient has no relative accuracy:
its column there is the absolute error in units of 2^-23.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import mpmath as mp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

import jaxact
from benchmarks.pages import DOCS
from benchmarks.peers import PEERS
from tests.support import ulp
from tests.support.table import GATED, TABLE, GatedRow, Row

DTYPES: tuple[Any, ...] = (ml_dtypes.bfloat16, np.float16, np.float32)
#: By dtype: the bound on values and gradients, and on gradients near a zero of the slope.
BOUNDS = {"bfloat16": (0.51, 0.6), "float16": (0.51, 0.6), "float32": (4.0, 1.0), "float64": (4, 1)}
#: Of gated functions by dtype, and of the gradients of parameters.
GATED_BOUNDS = {"bfloat16": 0.51, "float16": 0.51, "float32": 6.0}
PARAMETER_BOUND = 8.0
CHUNK = 1 << 22
#: The functions of one array, each under the name that it is defined by.
ROWS = [row for row in TABLE if row.name == jaxact.ACTIVATIONS[row.name].__name__]


@dataclasses.dataclass
class Worst:
    """The worst errors of values, gradients, and gradients near a zero of the slope."""

    value: float = 0.0
    gradient: float = 0.0
    near_zero: float = 0.0
    #: Where the first two are.
    value_at: float = 0.0
    gradient_at: float = 0.0

    def __post_init__(self) -> None:
        # No comparison with NaN is true, not that with a bound either.
        for name in ("value", "gradient", "near_zero"):
            if math.isnan(getattr(self, name)):
                setattr(self, name, math.inf)

    def include(self, other: "Worst") -> None:
        if other.value > self.value:
            self.value, self.value_at = other.value, other.value_at
        if other.gradient > self.gradient:
            self.gradient, self.gradient_at = other.gradient, other.gradient_at
        self.near_zero = max(self.near_zero, other.near_zero)


def value_and_slope(call: Callable[..., Any]) -> Callable[[np.ndarray], tuple[Any, Any]]:
    @jax.jit
    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, pullback = jax.vjp(call, x)
        return y, pullback(jnp.ones_like(y))[0]

    return both


def errors(both: Callable[..., Any], row: Row, x: np.ndarray) -> Worst:
    """The worst errors over ``x``, of 2 or 4 bytes."""
    y, slope = (np.asarray(result) for result in both(x))
    exact = x.astype(np.float64)
    with np.errstate(all="ignore"):
        references = [np.asarray(f(exact), np.float64) for f in (row.value, row.slope)]
    near = np.zeros(x.shape, bool)
    for zero in row.slope_zeros:
        near |= abs(exact - zero) < 1e-3
    value, gradient = (
        np.where(
            ulp.flushed(x, result, reference, compared=compared), 0, ulp.error(result, reference)
        )
        for result, reference, compared in zip(
            (y, slope), references, (False, row.compared), strict=True
        )
    )
    near_zero = 0.0
    if near.any():
        absolute = abs(slope[near].astype(np.float64) - references[1][near]) * 2.0**23
        near_zero = float((absolute if x.dtype == np.float32 else gradient[near]).max())
        gradient = np.where(near, 0, gradient)
    i, j = int(value.argmax()), int(gradient.argmax())
    return Worst(float(value[i]), float(gradient[j]), near_zero, float(exact[i]), float(exact[j]))


def float32_sample(row: Row, count: int) -> Iterator[np.ndarray]:
    """Chunks of a sample: a third log-uniform, the rest dense where accuracy is hard."""
    rng = np.random.default_rng(0)
    points = np.array((0.0, *row.kinks, *row.slope_zeros))
    done = 0
    while done < count:
        n = -(-min(CHUNK, count - done) // 6)
        sign = rng.choice([-1.0, 1.0], (3, n))
        near = rng.choice(points, n) + sign[0] * 10.0 ** rng.uniform(-7, 0, n)
        parts = (
            sign[1] * np.exp2(rng.uniform(-126, 127.999, n)),
            sign[2] * np.exp2(rng.uniform(-20, 7, n)),
            near,
            rng.uniform(-2, 2, n),
            rng.uniform(-15, 15, n),
            rng.uniform(-110, 110, n),
        )
        yield np.concatenate([*parts, points]).astype(np.float32)
        done += 6 * n


def sampled(call: Callable[..., Any], row: Row, dtype: Any, count: int) -> Worst:
    both, worst = value_and_slope(call), Worst()
    if dtype == np.float32:
        chunks: Iterator[np.ndarray] = float32_sample(row, count)
    else:
        patterns = ulp.bit_patterns(np.dtype(dtype))
        chunks = iter([patterns[np.isfinite(patterns.astype(np.float32))]])
    for x in chunks:
        worst.include(errors(both, row, x))
    return worst


# ------------------------------------------------------------------------------------------------
# float64, against mpmath


def _mp_gelu(x: mp.mpf) -> mp.mpf:
    u = mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)
    return x / (1 + mp.exp(-2 * u))


def _mp_expm1(x: mp.mpf) -> mp.mpf:
    return x if x > 0 else mp.expm1(x)


#: Values with as many digits as asked for; slopes follow by numerical differentiation.
MPMATH: dict[str, Callable[[mp.mpf], mp.mpf]] = {
    "elu": _mp_expm1,
    "celu": _mp_expm1,
    "selu": lambda x: (
        mp.mpf("1.0507009873554804934193349852946")
        * (x if x > 0 else mp.mpf("1.6732632423543772848170429916717") * mp.expm1(x))
    ),
    "silu": lambda x: x / (1 + mp.exp(-x)),
    "quick_gelu": lambda x: x / (1 + mp.exp(-mp.mpf("1.702") * x)),
    "gelu": _mp_gelu,
    "gelu:approximate=False": lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
    "mish": lambda x: x * mp.tanh(mp.log1p(mp.exp(x))),
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "log_sigmoid": lambda x: -mp.log1p(mp.exp(-x)),
    "tanh": mp.tanh,
    "tanh_shrink": lambda x: x - mp.tanh(x),
    "soft_sign": lambda x: x / (1 + abs(x)),
    "squareplus": lambda x: (x + mp.sqrt(x * x + 4)) / 2,
}


def float64_errors(calls: dict[str, Callable[..., Any]], row: Row) -> dict[str, Worst]:
    """The worst errors of each library's function."""
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.uniform(-30, 30, 200), rng.normal(size=200) * 2])
    function = MPMATH[row.id]
    # More than 50 digits for what numerical differentiation loses.
    with mp.workdps(100):
        points = [mp.mpf(float(point)) for point in x]
        references = [(function(point), mp.diff(function, point)) for point in points]
    result = {}
    for library, call in calls.items():
        with jax.enable_x64(True):
            y, slope = (np.asarray(found) for found in value_and_slope(call)(x))
        worst = result[library] = Worst()
        for point, *found, exact in zip(x, y, slope, references, strict=True):
            distances = [
                float(abs(mp.mpf(float(f)) - e)) for f, e in zip(found, exact, strict=True)
            ]
            value, gradient = (
                d / float(np.spacing(abs(float(e)))) if abs(float(e)) > 1e-300 else 0.0
                for d, e in zip(distances, exact, strict=True)
            )
            near = any(abs(point - zero) < 1e-3 for zero in row.slope_zeros)
            worst.include(
                Worst(
                    value,
                    0.0 if near else gradient,
                    distances[1] * 2.0**52 if near else 0.0,
                    float(point),
                    float(point),
                )
            )
    return result


# ------------------------------------------------------------------------------------------------
# Gated functions and parameters


def gated_errors(row: GatedRow, dtype: Any, pairs: int) -> dict[str, float]:
    """Worst errors of the value and of both gradients over random pairs."""
    rng = np.random.default_rng(5)
    gate = (rng.normal(size=pairs) * np.exp2(rng.uniform(-10, 5, pairs))).astype(dtype)
    up = (rng.normal(size=pairs) * np.exp2(rng.uniform(-10, 10, pairs))).astype(dtype)
    y, pullback = jax.vjp(row.call, jnp.asarray(gate), jnp.asarray(up))
    results = (y, *pullback(jnp.ones_like(y)))
    gate64 = gate.astype(np.float64)
    references = row.references(gate, up)
    keep = row.is_normal(gate, up) & row.far_from_zeros(gate64)
    return {
        name: float(ulp.error(np.asarray(result)[keep], reference[keep]).max())
        for name, result, reference in zip(
            ("value", "gate", "up"), results, references, strict=True
        )
    }


def parameter_errors(dtype: Any, size: int = 10**6) -> dict[str, float]:
    """ULP of the gradients of parameters, sums over ``size`` elements, against float64 sums."""
    x = (np.random.default_rng(6).normal(size=size) * 3).astype(dtype)
    x64 = x.astype(np.float64)
    negative = np.minimum(x64, 0)
    cases: dict[str, tuple[Callable[..., Any], float, np.ndarray]] = {
        "leaky_relu negative_slope": (jaxact.leaky_relu, 0.25, negative),
        "prelu alpha": (jaxact.prelu, 0.25, negative),
        "elu alpha": (jaxact.elu, 1.5, np.expm1(negative)),
        "celu alpha": (
            jaxact.celu,
            1.5,
            np.expm1(negative / 1.5) - negative / 1.5 * np.exp(negative / 1.5),
        ),
        "squareplus b": (jaxact.squareplus, 2.0, 0.25 / np.sqrt(x64 * x64 + 2)),
    }
    result = {}
    for name, (function, parameter, terms) in cases.items():
        gradient = jax.jit(
            jax.grad(lambda p, f=function: f(jnp.asarray(x), p).sum(dtype=np.float32))
        )
        # The parameter has the dtype in which sums are formed: the error is that of the sum.
        got = np.asarray(gradient(jnp.float32(parameter)))
        result[name] = float(ulp.error(got, np.asarray(terms.sum())))
    return result


# ------------------------------------------------------------------------------------------------
# All float32 inputs


def save(path: Path, state: dict[str, Any]) -> None:
    """Never half written: a new file takes the old one's place."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(state, indent=1) + "\n")
    new.replace(path)


def all_float32(path: Path, names: list[str], console: Console) -> dict[str, Worst]:
    """Every finite float32 input of every function; ``path`` keeps how far it got."""
    state: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    rows = [row for row in TABLE if not names or row.id in names]
    chunks = (1 << 32) // CHUNK
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.1f}%"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    try:
        with Progress(*columns, console=console) as progress:
            for row in rows:
                done = state.get(row.id, {"chunks": 0, "worst": dataclasses.asdict(Worst())})
                worst, both = Worst(**done["worst"]), value_and_slope(row.call)
                task = progress.add_task(row.id, total=chunks, completed=done["chunks"])
                for chunk in range(done["chunks"], chunks):
                    start = chunk * CHUNK
                    x = np.arange(start, start + CHUNK, dtype=np.uint32).view(np.float32)
                    x = x[np.isfinite(x)]
                    if x.size:
                        worst.include(errors(both, row, x))
                    state[row.id] = {"chunks": chunk + 1, "worst": dataclasses.asdict(worst)}
                    if chunk % 16 == 15:
                        save(path, state)
                    progress.advance(task)
    finally:
        save(path, state)
    return {row.id: Worst(**state[row.id]["worst"]) for row in rows}


# ------------------------------------------------------------------------------------------------
# The command


def peer_of(row: Row) -> Callable[..., Any] | None:
    """jax.nn's function of a row with default parameters."""
    name = row.id.replace(":approximate=False", "(approximate=False)")
    name = name.removesuffix(":0.01") if row.name == "leaky_relu" else name
    return next((peers.jax_nn for peers in PEERS if peers.name == name), None)


def in_plain_mode(call: Callable[..., Any]) -> Callable[..., Any]:
    def plain(x: jax.Array) -> jax.Array:
        with jaxact.autodiff(mode="plain"):
            return call(x)

    return plain


def run(count: int, console: Console) -> dict[str, Any]:
    results: dict[str, Any] = {"rows": [], "gated": [], "parameters": {}}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("accuracy", total=len(ROWS) * (len(DTYPES) + 1) + len(GATED))
        for row in ROWS:
            peer = peer_of(row)
            calls = {"jaxact": row.call}
            if peer is not None:
                calls |= {"jax.nn": peer, "plain": in_plain_mode(row.call)}
            for dtype in (*DTYPES, np.float64):
                name = np.dtype(dtype).name
                progress.update(task, description=f"{row.id}, {name}")
                if dtype != np.float64:
                    found = {k: sampled(call, row, dtype, count) for k, call in calls.items()}
                else:
                    found = float64_errors(calls, row) if row.id in MPMATH else {}
                for library, worst in found.items():
                    head = {"function": row.id, "dtype": name, "library": library}
                    results["rows"].append(head | dataclasses.asdict(worst))
                progress.advance(task)
        for gated in GATED:
            progress.update(task, description=gated.id)
            for dtype in DTYPES:
                head = {"function": gated.id, "dtype": np.dtype(dtype).name}
                results["gated"].append(head | gated_errors(gated, dtype, 10**6))
            progress.advance(task)
    for dtype in (np.float32, ml_dtypes.bfloat16):
        results["parameters"][np.dtype(dtype).name] = parameter_errors(dtype)
    device = jax.devices()[0]
    kind = "CPU" if device.platform == "cpu" else device.device_kind
    results["machine"] = f"{kind}, JAX {jax.__version__}"
    results["date"] = date.today().isoformat()
    results["count"] = count
    return results


def number(error: float) -> str:
    """An error in few digits."""
    if error < 1000:
        return f"{error:.3f}" if error < 1 else f"{error:.2f}"
    return f"{error:.0e}" if np.isfinite(error) else "NaN or inf"


def table_rows(results: dict[str, Any], dtype: str) -> list[list[str]]:
    chosen = [row for row in results["rows"] if row["dtype"] == dtype]
    functions = dict.fromkeys(row["function"] for row in chosen)
    lines = []
    for function in functions:
        line = [function]
        for library in ("jaxact", "jax.nn"):
            found = [r for r in chosen if (r["function"], r["library"]) == (function, library)]
            line += [number(found[0][k]) for k in ("value", "gradient")] if found else ["", ""]
        near = next(r["near_zero"] for r in chosen if r["function"] == function)
        lines.append([*line, number(near) if near else ""])
    return lines


HEADER = ("function", "value", "gradient", "jax.nn: value", "jax.nn: gradient", "near a zero")


def summary(results: dict[str, Any]) -> list[str]:
    lines = []
    for dtype, (bound, near) in BOUNDS.items():
        rows = [r for r in results["rows"] if (r["dtype"], r["library"]) == (dtype, "jaxact")]
        worst = max(rows, key=lambda r: max(r["value"], r["gradient"]))
        over = [
            f"{r['function']} {kind} {number(r[kind])}"
            for r in rows
            for kind in ("value", "gradient")
            if r[kind] > bound
        ]
        others = [r for r in results["rows"] if (r["dtype"], r["library"]) == (dtype, "jax.nn")]
        faulty = sum((r["value"] > bound) + (r["gradient"] > bound) for r in others)
        lines.append(
            f"{dtype}: worst {number(max(worst['value'], worst['gradient']))} ULP "
            f"({worst['function']}), near a zero {number(max(r['near_zero'] for r in rows))} "
            f"(bounds {bound}, {near}); above: {', '.join(over) or 'none'}; "
            f"jax.nn: {faulty} of {2 * len(others)} above {bound}."
        )
    gated: dict[str, float] = {}
    for row in results["gated"]:
        gated[row["dtype"]] = max(gated.get(row["dtype"], 0), row["value"], row["gate"], row["up"])
    lines.append(
        "A million pairs of gated functions: "
        + ", ".join(f"{dtype} {number(error)} ULP" for dtype, error in gated.items())
        + "."
    )
    parameters = {k: max(v.values()) for k, v in results["parameters"].items()}
    lines.append(
        "Gradients of parameters, sums over 10^6 elements: "
        + ", ".join(f"{dtype} {number(error)} ULP" for dtype, error in parameters.items())
        + f" (bound {PARAMETER_BOUND:g})."
    )
    return lines


def failures(results: dict[str, Any]) -> list[str]:
    """What is above its bound, which is the tests' for functions that they allow more."""
    table = {row.id: row for row in TABLE}
    figures: list[tuple[str, str, dict[str, float], dict[str, float]]] = []
    for row in results["rows"]:
        if row["library"] == "jaxact":
            bound, near = BOUNDS[row["dtype"]]
            bounds = {"value": bound, "gradient": bound, "near_zero": near}
            if row["dtype"] == "float32":
                of_tests = table[row["function"]]
                bounds["value"] = of_tests.float32_value_ulp
                bounds["gradient"] = of_tests.float32_ulp
            figures.append((row["function"], row["dtype"], row, bounds))
    for row in results["gated"]:
        bounds = dict.fromkeys(("value", "gate", "up"), GATED_BOUNDS[row["dtype"]])
        figures.append((row["function"], row["dtype"], row, bounds))
    for dtype, errors in results["parameters"].items():
        figures.append(("parameters", dtype, errors, dict.fromkeys(errors, PARAMETER_BOUND)))
    return [
        f"{function}, {dtype}: {kind} {number(found[kind])} is above {bound:g}"
        for function, dtype, found, bounds in figures
        for kind, bound in bounds.items()
        if not found[kind] <= bound
    ]


def headline(results: dict[str, Any]) -> str:
    """The worst errors in one line."""
    parts = []
    for dtype in BOUNDS:
        rows = [r for r in results["rows"] if (r["dtype"], r["library"]) == (dtype, "jaxact")]
        value, gradient = (max(r[kind] for r in rows) for kind in ("value", "gradient"))
        parts.append(f"{dtype} value {number(value)}, gradient {number(gradient)}")
    return f"Worst errors in ULP: {'; '.join(parts)}."


def document(results: dict[str, Any]) -> str:
    lines = [
        "# Accuracy",
        "",
        "Written by `python -m benchmarks.accuracy --docs`. "
        f"{results['machine']}, {results['date']}; {results['count']:,} float32 inputs a function, "
        "every bfloat16 and float16 input, 400 float64 inputs.",
        "",
        "Errors are in units in the last place (ULP) of the correctly rounded result; 0.5 is "
        "perfect. The last column is jaxact's gradient within 10⁻³ of a zero of the derivative: "
        "in ULP for 16 bits, in units of 2⁻²³ for float32 and 2⁻⁵² for float64. Where the right "
        "result is subnormal, 0 counts as right.",
        "",
        *(f"- {line}" for line in summary(results)),
    ]
    for dtype in BOUNDS:
        lines += ["", f"## {dtype}", "", "| " + " | ".join(HEADER) + " |"]
        lines += ["|---" * len(HEADER) + "|"]
        lines += ["| " + " | ".join(cells) + " |" for cells in table_rows(results, dtype)]
    lines += plain_section(results)
    return "\n".join(lines) + "\n"


#: What mode "plain" has a table of.
PLAIN = ("float32", "bfloat16")


def plain_rows(results: dict[str, Any]) -> list[list[str]]:
    """For each function that jax.nn has: the worst errors in mode "plain" and of jax.nn."""
    figures = {(r["function"], r["dtype"], r["library"]): r for r in results["rows"]}
    functions = dict.fromkeys(r["function"] for r in results["rows"] if r["library"] == "plain")
    return [
        [
            function,
            *(
                number(figures[function, dtype, library][kind])
                for dtype in PLAIN
                for library in ("plain", "jax.nn")
                for kind in ("value", "gradient")
            ),
        ]
        for function in functions
    ]


def plain_section(results: dict[str, Any]) -> list[str]:
    header = [f"{dtype}: {of}" for dtype in PLAIN for of in ("value", "gradient")]
    header = [h for i in (0, 2) for h in (*header[i : i + 2], "jax.nn: value", "jax.nn: gradient")]
    return [
        "",
        '## Mode "plain"',
        "",
        'The formulas of `jaxact.autodiff(mode="plain")`, differentiated by JAX, in the same '
        "units. They do not keep every tail to its last place, as the default's do: where a "
        "result is tiny, an error of many units is one of a tiny number.",
        "",
        "| function | " + " | ".join(header) + " |",
        "|---" * (len(header) + 1) + "|",
        *("| " + " | ".join(cells) + " |" for cells in plain_rows(results)),
    ]


def print_tables(results: dict[str, Any], console: Console) -> None:
    for dtype in BOUNDS:
        table = Table(*HEADER, title=f"{dtype}: worst error in ULP")
        for cells in table_rows(results, dtype):
            table.add_row(*cells)
        console.print(table)
    for line in (*summary(results), headline(results)):
        console.print(line, highlight=False, soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--all", action="store_true", help="every float32 input instead")
    parser.add_argument(
        "--functions", nargs="*", default=[], help="with --all: just these, as in the table"
    )
    parser.add_argument("--count", type=int, default=20_000_000, help="float32 inputs a function")
    parser.add_argument("--docs", action="store_true", help="write docs/accuracy.md")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the JSON files")
    arguments = parser.parse_args()
    known = [row.id for row in TABLE]
    if unknown := [name for name in arguments.functions if name not in known]:
        parser.error(f"no function {', '.join(unknown)}; there are {', '.join(known)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    if not console.is_terminal:
        console.width = 110
    if arguments.all:
        found = all_float32(arguments.out / "accuracy-all.json", arguments.functions, console)
        table = Table("function", "value", "at", "gradient", "at", "near a zero")
        for name, worst in found.items():
            places = f"{worst.value_at:.9g}", f"{worst.gradient_at:.9g}"
            table.add_row(
                name, number(worst.value), places[0], number(worst.gradient), places[1],
                number(worst.near_zero),
            )  # fmt: skip
        console.print(table)
        top = max(max(w.value, w.gradient) for w in found.values())
        console.print(f"All float32 inputs of {len(found)} functions: worst {number(top)} ULP.")
        return
    results = run(arguments.count, console)
    (arguments.out / "accuracy.json").write_text(json.dumps(results, indent=1) + "\n")
    if arguments.docs:
        (DOCS / "accuracy.md").write_text(document(results))
    print_tables(results, console)
    for failure in (above := failures(results)):
        console.print(failure, highlight=False, soft_wrap=True)
    sys.exit(1 if above else 0)


if __name__ == "__main__":
    main()
