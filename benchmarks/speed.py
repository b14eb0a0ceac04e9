"""How fast jaxact's functions are, beside jax.nn's and PyTorch's.

    python -m benchmarks.speed            # five to fifteen minutes; writes speed.json, speed.png
    python -m benchmarks.speed --docs     # also writes the section of this JAX in docs/speed.md

Measured are the forward pass, x -> f(x), and the pullback, (x, t) -> t f'(x), each one compiled
program. All candidates of a function run in turn, in one process, for many rounds, and the fastest
round counts: other work on the machine only ever adds to a time. The plain copy of an array is the
floor for what reads and writes memory.

On CPU there are two settings: arrays that stay in the cache, on one thread, repeated inside the
program so that the call itself does not count; and arrays of 64 MB on all threads. On a GPU or TPU
the arrays have 1 GiB, and the table says how much of a copy's bandwidth each function reaches.
PyTorch's pullback is its own backward pass from what its forward pass kept. What jax.nn lacks is
compared with the line of JAX that a user would write (a star in the tables); the means do without.
The last line says what is below its target.
"""

import argparse
import dataclasses
import functools
import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import jaxact
from benchmarks.pages import DOCS, write_section
from benchmarks.peers import PEERS, Peers

DTYPES = ("float32", "bfloat16")
PASSES = ("forward", "pullback")
#: The repeats of a program start at different places, or XLA would move the work out of the loop:
#: so many bytes apart, all over a page, since loads wait for stores at the same place in a page.
SHIFT, SHIFTS = 512, 8
#: jax.nn's time over jaxact's: the geometric mean, in cache.
TARGETS = {"float32": 1.5, "bfloat16": 2.5}
#: The same of each function: in cache, of those in cache that cost little, and in memory.
LEAST, LEAST_OF_SIMPLE, LEAST_IN_MEMORY = 0.90, 0.95, 0.95
SIMPLE = ("relu", "leaky_relu", "prelu", "relu6", "elu", "selu")
#: jaxact's time over jax.nn's, at most: to trace and compile a first call, and higher derivatives.
FIRST_CALL, HIGHER_DERIVATIVES = 1.3, 2.0


@dataclasses.dataclass(frozen=True)
class Setting:
    """Arrays of a size, and how often a program passes over them."""

    name: str
    bytes: int
    repeats: int
    one_thread: bool
    #: All functions are measured in turn, this often, for so many rounds each.
    sweeps: int
    rounds: int


CACHE = Setting("in cache, one thread", 2**17, 40, True, 12, 10)
MEMORY = Setting("64 MB, all threads", 2**26, 1, False, 2, 3)
DEVICE = Setting("1 GiB", 2**30, 20, False, 2, 5)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Seconds of the fastest round, and of the median round over it."""

    seconds: float
    spread: float


def pullback(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, t: jax.vjp(function, x)[1](t)[0]


@functools.cache
def arrays(size: int, dtype: str) -> tuple[jax.Array, jax.Array]:
    """Inputs and cotangents."""
    rng = np.random.default_rng(0)
    x, t = (rng.standard_normal(size, np.float32) for _ in range(2))
    return jnp.asarray(2 * x, dtype), jnp.asarray(t, dtype)


def compiled(function: Callable[..., Any], passes: str, setting: Setting, dtype: str) -> Any:
    """A call of no arguments that runs the compiled program and waits for it."""
    size = setting.bytes // jnp.dtype(dtype).itemsize
    shift = SHIFT // jnp.dtype(dtype).itemsize
    x, t = arrays(size + shift * SHIFTS, dtype)
    operation = pullback(function) if passes == "pullback" else lambda x, t: function(x)

    def program(x: jax.Array, t: jax.Array) -> jax.Array:
        def body(i: jax.Array, _: jax.Array) -> jax.Array:
            start = (i % SHIFTS) * shift
            return operation(*(lax.dynamic_slice(a, (start,), (size,)) for a in (x, t)))

        return lax.fori_loop(0, setting.repeats, body, jnp.zeros((size,), dtype))

    if jax.default_backend() != "cpu":
        executable = jax.jit(operation).lower(x, t).compile()

        def queue() -> None:
            # The device works through a queue: the time of a call does not count.
            for _ in range(setting.repeats):
                y = executable(x, t)
            y.block_until_ready()

        return queue
    options: dict[str, str | bool] = {}
    if setting.one_thread:
        options["xla_cpu_multi_thread_eigen"] = False
    executable = jax.jit(program).lower(x, t).compile(compiler_options=options)
    return lambda: executable(x, t).block_until_ready()


@functools.cache
def torch_arrays(size: int, dtype: str) -> tuple[Any, Any]:
    import torch

    x, t = (torch.randn(size) for _ in range(2))
    kind = getattr(torch, dtype)
    return (2 * x).to(kind).requires_grad_(), t.to(kind)


def torch_call(peers: Peers, passes: str, setting: Setting, dtype: str) -> Any:
    """The same with PyTorch, or None."""
    function = peers.torch_function()
    if function is None or jax.default_backend() != "cpu":
        return None
    import torch

    x, t = torch_arrays(setting.bytes // jnp.dtype(dtype).itemsize, dtype)
    threads = 1 if setting.one_thread else torch.get_num_threads()
    y = function(x)

    def call() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        for _ in range(setting.repeats):
            if passes == "pullback":
                torch.autograd.grad(y, x, t, retain_graph=True)
            else:
                with torch.no_grad():
                    function(x)
        torch.set_num_threads(before)

    return call


def interleaved(calls: Sequence[Callable[[], Any]], rounds: int) -> np.ndarray:
    """Seconds of each call in each round; the calls take turns in a new order each round.

    What ran before, and the memory that it returned, counts for as much as a third.
    """
    for call in calls:
        call()
    times = np.empty((rounds, len(calls)))
    order = np.random.default_rng(0)
    for row in times:
        for i in order.permutation(len(calls)):
            start = time.perf_counter()
            calls[i]()
            row[i] = time.perf_counter() - start
    return times


def candidates(peers: Peers, passes: str, setting: Setting, dtype: str) -> dict[str, Any]:
    """Calls by library; "copy" is the floor."""
    calls = {
        "copy": compiled(jnp.copy, "forward", setting, dtype),
        "jaxact": compiled(peers.jaxact, passes, setting, dtype),
    }
    if (other := peers.jax_nn or peers.written_out) is not None:
        calls["jax.nn"] = compiled(other, passes, setting, dtype)
    if (torch := torch_call(peers, passes, setting, dtype)) is not None:
        calls["PyTorch"] = torch
    return calls


def measure(
    functions: Sequence[Peers],
    passes: str,
    setting: Setting,
    dtype: str,
    advance: Callable[[], None] = lambda: None,
) -> list[dict[str, Measurement]]:
    """Times by library, of each function."""
    calls = []
    for peers in functions:
        calls.append(candidates(peers, passes, setting, dtype))
        advance()
    times: list[list[np.ndarray]] = [[] for _ in functions]
    # A machine is busy for seconds at a time: each function's rounds are spread over the whole.
    for _ in range(setting.sweeps):
        for mine, found in zip(calls, times, strict=True):
            found.append(interleaved(list(mine.values()), setting.rounds))
            advance()
    result = []
    for mine, found in zip(calls, times, strict=True):
        rounds = np.concatenate(found)
        best = rounds.min(0)
        spread = np.median(rounds, 0) / best
        result.append(
            {
                name: Measurement(float(b), float(s))
                for name, b, s in zip(mine, best, spread, strict=True)
            }
        )
    return result


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


# ------------------------------------------------------------------------------------------------
# RReLU, and the first call


def rrelu_ratios(size: int, rounds: int) -> dict[str, float]:
    """Training-mode rrelu against leaky_relu, and against slopes from jax.random.uniform."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal(size, np.float32))
    key = jax.random.key(0)

    def naive(x: jax.Array) -> jax.Array:
        return jnp.where(x >= 0, x, x * jax.random.uniform(key, x.shape, x.dtype, 1 / 8, 1 / 3))

    functions = (lambda x: jaxact.rrelu(x, key), jaxact.leaky_relu, naive)
    ratios = {}
    for passes in PASSES:
        operations = [
            pullback(f) if passes == "pullback" else (lambda x, t, f=f: f(x)) for f in functions
        ]
        programs = [jax.jit(operation) for operation in operations]
        calls = [lambda p=p: p(x, x).block_until_ready() for p in programs]
        ours, leaky, plain = interleaved(calls, rounds).min(0).tolist()
        ratios[f"{passes}: rrelu / leaky_relu"] = ours / leaky
        ratios[f"{passes}: rrelu / where with jax.random.uniform"] = ours / plain
    return ratios


def warm(x: jax.Array) -> jax.Array:
    """What jax.numpy traces once, for whichever function uses it first."""
    for a in (x, 2.0):
        x = jnp.maximum(x + a * x - a, a) * jnp.minimum(x, a) / a
        x = jnp.where(x > a, x, jnp.where(x < a, a, x * abs(-x)))
    return x


def compile_seconds(function: Callable[..., Any], rounds: int = 3) -> float:
    """Of value and gradient, from tracing to machine code."""
    x = jax.ShapeDtypeStruct((1024,), jnp.float32)

    def both(x: jax.Array) -> Any:
        y, back = jax.vjp(function, x)
        return y, back(y)

    return min(seconds_to_compile(both, x) for _ in range(rounds))


def seconds_to_compile(function: Callable[..., Any], x: jax.ShapeDtypeStruct) -> float:
    jax.clear_caches()
    jax.jit(warm).lower(x)
    start = time.perf_counter()
    jax.jit(lambda x: function(x)).lower(x).compile()
    return time.perf_counter() - start


def third_derivative(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.vmap(jax.grad(jax.grad(jax.grad(function))))


def laplacian(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of a network of three layers, by a point of three coordinates."""
    rng = np.random.default_rng(0)
    *hidden, last = [rng.standard_normal(s, np.float32) for s in ((3, 32), (32, 32), (32, 1))]

    def network(x: jax.Array) -> jax.Array:
        for w in hidden:
            x = function(x @ w)
        return (x @ last)[0]

    return jax.vmap(lambda x: jnp.trace(jax.hessian(network)(x)))


def higher_derivatives(rounds: int = 2) -> dict[str, float]:
    """Of gelu: jaxact's seconds to trace and compile over jax.nn's."""
    ratios = {}
    for name, derivative, shape in (
        ("third derivative", third_derivative, (64,)),
        ("Laplacian", laplacian, (64, 3)),
    ):
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        ours, theirs = (
            min(seconds_to_compile(derivative(f), x) for _ in range(rounds))
            for f in (jaxact.gelu, jax.nn.gelu)
        )
        ratios[name] = ours / theirs
    return ratios


# ------------------------------------------------------------------------------------------------
# The command


def machine() -> str:
    device = jax.devices()[0]
    kind = "CPU" if device.platform == "cpu" else device.device_kind
    return f"{kind}, {platform.machine()}, JAX {jax.__version__}"


def run(settings: Sequence[Setting], console: Console) -> dict[str, Any]:
    rows = []
    groups = [(s, dtype, passes) for s in settings for dtype in DTYPES for passes in PASSES]
    with Progress(console=console, transient=True) as progress:
        steps = sum(len(PEERS) * (1 + setting.sweeps) for setting, _, _ in groups)
        task = progress.add_task("speed", total=steps + len(PEERS))
        for setting, dtype, passes in groups:
            progress.update(task, description=f"{setting.name}, {dtype}, {passes}")
            found = measure(PEERS, passes, setting, dtype, lambda: progress.advance(task))
            for peers, times in zip(PEERS, found, strict=True):
                rows.append(
                    {
                        "setting": setting.name,
                        "dtype": dtype,
                        "pass": passes,
                        "function": peers.name,
                        "elements": setting.bytes // jnp.dtype(dtype).itemsize * setting.repeats,
                        "seconds": {k: m.seconds for k, m in times.items()},
                        "median over fastest round": {k: m.spread for k, m in times.items()},
                    }
                )
        first = {}
        for peers in PEERS:
            progress.update(task, description=f"first call: {peers.name}")
            if peers.jax_nn is not None:
                first[peers.name] = compile_seconds(peers.jaxact) / compile_seconds(peers.jax_nn)
            progress.advance(task)
    cpu = jax.default_backend() == "cpu"
    return {
        "machine": machine(),
        "date": date.today().isoformat(),
        "rows": rows,
        "rrelu": rrelu_ratios(2**24 if cpu else 2**28, 20),
        "first call": first,
        "higher derivatives": higher_derivatives(),
    }


def ratio(row: dict[str, Any], library: str) -> float | None:
    """Time of a library over jaxact's."""
    seconds = row["seconds"]
    return seconds[library] / seconds["jaxact"] if library in seconds else None


def bandwidth(row: dict[str, Any]) -> float:
    """Of that of a copy: a pullback reads two arrays and writes one."""
    arrays = 1.5 if row["pass"] == "pullback" else 1.0
    return float(arrays * row["seconds"]["copy"] / row["seconds"]["jaxact"])


#: The functions of jax.nn.
WITH_JAX_NN = {peers.name for peers in PEERS if peers.jax_nn is not None}


def of_jax_nn(rows: Sequence[dict[str, Any]]) -> list[float]:
    """Times of jax.nn's functions over jaxact's."""
    return [r for row in rows if row["function"] in WITH_JAX_NN and (r := ratio(row, "jax.nn"))]


def least(row: dict[str, Any]) -> float:
    """The target of a row."""
    if row["setting"] != CACHE.name:
        return LEAST_IN_MEMORY
    return LEAST_OF_SIMPLE if row["function"] in SIMPLE else LEAST


def below(results: dict[str, Any]) -> list[str]:
    """What misses its target, the furthest first, and then the means, first calls and the like."""
    missed = []
    for row in results["rows"]:
        found = ratio(row, "jax.nn")
        if found is not None and found < least(row):
            missed.append((found / least(row), row, found))
    lines = [
        f"{row['function']} {row['pass']} {row['dtype']} ({row['setting']}) {found:.2f}"
        for _, row, found in sorted(missed, key=lambda miss: miss[0])
    ]
    for dtype, target in TARGETS.items():
        rows = select(results["rows"], setting=CACHE.name, dtype=dtype)
        if rows and (mean := geometric_mean(of_jax_nn(rows))) < target:
            lines.append(f"geometric mean {dtype} {mean:.2f}")
    for what, limit in (("first call", FIRST_CALL), ("higher derivatives", HIGHER_DERIVATIVES)):
        lines += [f"{what}: {k} {v:.2f}" for k, v in results[what].items() if v > limit]
    return lines


def select(rows: Sequence[dict[str, Any]], **wanted: str) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[k] == v for k, v in wanted.items())]


def cells(row: dict[str, Any]) -> list[str]:
    seconds = row["seconds"]
    per_element = [
        f"{seconds[k] / row['elements'] * 1e9:.3f}" if k in seconds else ""
        for k in ("copy", "jaxact", "jax.nn", "PyTorch")
    ]
    ratios = [ratio(row, k) for k in ("jax.nn", "PyTorch")]
    return [
        row["function"] + ("" if row["function"] in WITH_JAX_NN else " *"),
        row["pass"],
        *per_element,
        *(f"{r:.2f}" if r is not None else "" for r in ratios),
        f"{bandwidth(row):.2f}",
        f"{row['median over fastest round']['jaxact']:.2f}",
    ]


HEADER = (
    "function", "pass", "copy", "jaxact", "jax.nn", "PyTorch", "jax.nn ÷ jaxact",
    "PyTorch ÷ jaxact", "bandwidth ÷ copy's", "median ÷ fastest",
)  # fmt: skip


def summary(results: dict[str, Any]) -> list[str]:
    """The figures, a line each."""
    lines = []
    for setting in dict.fromkeys(row["setting"] for row in results["rows"]):
        for dtype in DTYPES:
            rows = select(results["rows"], setting=setting, dtype=dtype)
            known = of_jax_nn(rows)
            worst = min(known)
            line = f"{setting}, {dtype}: jax.nn / jaxact {geometric_mean(known):.2f}"
            if setting == CACHE.name:
                line += f" (target {TARGETS[dtype]:.1f})"
            line += f", worst {worst:.2f}"
            peers = [r for row in rows if (r := ratio(row, "PyTorch")) is not None]
            if peers:
                line += f"; PyTorch / jaxact {geometric_mean(peers):.2f}"
            line += f"; least bandwidth of a copy's {min(map(bandwidth, rows)):.2f}"
            lines.append(f"{line}.")
    lines.append("; ".join(f"{k} {v:.2f}" for k, v in results["rrelu"].items()) + ".")
    first = results["first call"]
    name = max(first, key=first.get)
    lines.append(
        f"First call, jaxact / jax.nn: geometric mean {geometric_mean(list(first.values())):.2f}, "
        f"worst {name} {first[name]:.2f}."
    )
    higher = results["higher derivatives"]
    lines.append(
        "To trace and compile for gelu, jaxact / jax.nn: "
        + ", ".join(f"{k} {v:.2f}" for k, v in higher.items())
        + "."
    )
    lines.append(f"Below the targets: {'; '.join(below(results)) or 'none'}.")
    return lines


def print_tables(results: dict[str, Any], console: Console) -> None:
    for setting in dict.fromkeys(row["setting"] for row in results["rows"]):
        for dtype in DTYPES:
            table = Table(*HEADER, title=f"{setting}, {dtype}: ns per element, and ratios")
            for row in select(results["rows"], setting=setting, dtype=dtype):
                table.add_row(*cells(row))
            console.print(table)
    lines = f"{results['machine']}, {results['date']}.", *summary(results)
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def plot(results: dict[str, Any], path: Path) -> None:
    """jax.nn's time over jaxact's, first setting."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    setting = results["rows"][0]["setting"]
    names = [p.name for p in PEERS if p.jax_nn is not None]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 6), sharey=True, layout="constrained")
    for axis, dtype in zip(axes, DTYPES, strict=True):
        for offset, passes in ((-0.2, "forward"), (0.2, "pullback")):
            rows = select(results["rows"], setting=setting, dtype=dtype, **{"pass": passes})
            values = {row["function"]: ratio(row, "jax.nn") for row in rows}
            axis.barh(
                [i + offset for i in range(len(names))],
                [values[n] for n in names],
                0.4,
                label=passes,
            )
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set(xscale="log", title=dtype, xlabel="time of jax.nn / time of jaxact")
        axis.set_xticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    axes[0].legend()
    figure.suptitle(f"{setting}; {results['machine']}")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def section() -> str:
    """Of docs/speed.md, for this JAX: two of them are kept, the oldest and the newest."""
    major, minor, *_ = jax.__version__.split(".")
    return f"cpu {major}.{minor}"


def document(results: dict[str, Any], figure: str) -> str:
    """The section of the documentation."""
    lines = [
        "Written by `python -m benchmarks.speed --docs`, which also says how it measures. "
        f"{results['machine']}, {results['date']}. Times are nanoseconds per element of the "
        "fastest round; on a shared machine trust the ratios. Functions with a star are not in "
        "jax.nn: they are compared with the line of JAX that one would write.",
        "",
        *(f"- {line}" for line in summary(results)),
        "",
        f"![Time of jax.nn over time of jaxact]({figure})",
    ]
    for setting in dict.fromkeys(row["setting"] for row in results["rows"]):
        for dtype in DTYPES:
            lines += ["", f"#### {setting}, {dtype}", ""]
            lines += ["| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|"]
            for row in select(results["rows"], setting=setting, dtype=dtype):
                lines.append("| " + " | ".join(cells(row)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, and no large arrays")
    parser.add_argument("--docs", action="store_true", help="write the section of docs/speed.md")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of speed.json, speed.png")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    if not console.is_terminal:
        console.width = 140
    settings: list[Setting] = [CACHE, MEMORY] if jax.default_backend() == "cpu" else [DEVICE]
    if arguments.quick:
        settings = [dataclasses.replace(settings[0], sweeps=1, rounds=5)]
    results = run(settings, console)
    (arguments.out / "speed.json").write_text(json.dumps(results, indent=1) + "\n")
    plot(results, arguments.out / "speed.png")
    if arguments.docs:
        figure = f"speed-{section().split()[-1]}.png"
        write_section(DOCS / "speed.md", section(), document(results, figure))
        plot(results, DOCS / figure)
    print_tables(results, console)


if __name__ == "__main__":
    main()
