"""What a training step keeps, as the compilers of TPUs, GPUs and CPUs plan it.

``python -m benchmarks.memory`` compiles the loss and all gradients of 16 layers
``x + act(x @ w1) @ w2`` with batch 8192, width 512 and hidden size 2048, as a scan and unrolled,
with jax.nn's functions, jaxact's, and `jaxact.mlp`; the same for gated blocks; and layers
``act(x @ w)``, whose output is all that the next one reads; each of jaxact's also in the mode
"both" of `jaxact.autodiff`. It prints the temporaries that the compilers report, in arrays of the
hidden activation (x, for the last) per layer. ``--dial`` is `benchmarks.dial` alone, the blocks
beside ``jax.checkpoint``. Nothing runs, and no accelerator is needed, but their
compilers are: ``pip install -e ".[test,targets]"``. On a machine with an accelerator it also runs
the unrolled step, and prints its peak memory and time.
"""

import argparse
import dataclasses
import datetime
import functools
import itertools
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from rich.console import Console
from rich.progress import track
from rich.table import Table

import jaxact
from benchmarks import dial
from benchmarks.dial import BATCH, HIDDEN, LAYERS, WIDTH
from benchmarks.pages import DOCS
from jaxact._core.cells import CELLS

TARGETS = {"v5e": jnp.bfloat16, "h200": jnp.bfloat16, "cpu": jnp.float32}
ONE_ARRAY = ("relu", "leaky_relu")
SMOOTH = ("gelu", "silu", "mish", "elu", "softplus")
GATED = ("silu", "gelu", "relu")

#: After a library: in the mode of that name, of `jaxact.autodiff`.
BOTH = ", both"

Layer = Callable[..., jax.Array]


@dataclasses.dataclass(frozen=True)
class Case:
    """A step to compile: which layer, of which library, in which loop, for which target."""

    block: str
    function: str
    library: str
    loop: str
    target: str
    #: What the temporaries may be at most; None for peers and where the peer is the limit.
    limit: float | None = None


@dataclasses.dataclass(frozen=True)
class Result(Case):
    """A compiled step: temporaries in arrays per layer, and the compiler's estimate of the time."""

    arrays: float = 0
    seconds: float | None = None


def jax_nn(name: str) -> Layer:
    return getattr(jax.nn, name)


def _with_residual(policy: str, act: Layer) -> Layer:
    def function(x: jax.Array) -> jax.Array:
        with jaxact.autodiff(residual=policy):  # type: ignore[arg-type]
            return act(x)

    return function


def layer(case: Case) -> Layer:
    """One layer of a case, ``(x, *weights) -> x``."""
    act = jax_nn(case.function) if case.library == "jax.nn" else jaxact.get(case.function)
    match case.block, case.library:
        case "mlp", "jaxact.mlp":
            return lambda x, w1, w2: x + jaxact.mlp(x, w1, w2, activation=case.function)
        case "mlp", "jax.checkpoint":
            policy = jax.checkpoint_policies.dots_saveable
            return jax.checkpoint(lambda x, w1, w2: x + act(x @ w1) @ w2, policy=policy)
        case "mlp", _:
            return lambda x, w1, w2: x + act(x @ w1) @ w2
        case "gated", "jaxact.gated_mlp":
            block = functools.partial(jaxact.gated_mlp, activation=case.function)
            return lambda x, gate, up, down: x + block(x, gate, up, down)
        case "gated", _:
            return lambda x, gate, up, down: x + (act(x @ gate) * (x @ up)) @ down
        case "carry", "jaxact, mask":
            masked = _with_residual("mask", act)
            return lambda x, w: masked(x @ w)
    return lambda x, w: act(x @ w)


def shapes(case: Case) -> tuple[int, list[tuple[int, int]]]:
    """The size of the array to count in, and the weights of one layer."""
    wide, back = (WIDTH, HIDDEN), (HIDDEN, WIDTH)
    if case.block == "carry":
        return WIDTH, [(WIDTH, WIDTH)]
    return HIDDEN, [wide, back] if case.block == "mlp" else [wide, wide, back]


def step(case: Case) -> Callable[..., Any]:
    """The loss and the gradients of everything."""
    one = layer(case)

    def loss(x: jax.Array, *weights: jax.Array) -> jax.Array:
        if case.loop == "scan":
            x, _ = lax.scan(lambda x, w: (one(x, *w), None), x, weights)
        else:
            for i in range(LAYERS):
                x = one(x, *(w[i] for w in weights))
        return jnp.sum(x.astype(jnp.float32))

    return jax.value_and_grad(loss, argnums=tuple(range(1 + len(shapes(case)[1]))))


def arguments(case: Case, dtype: Any) -> list[jax.ShapeDtypeStruct]:
    weights = [(LAYERS, *shape) for shape in shapes(case)[1]]
    return [jax.ShapeDtypeStruct(shape, dtype) for shape in [(BATCH, WIDTH), *weights]]


def measure(case: Case) -> Result:
    """Compile a case."""
    dtype = TARGETS[case.target]
    unit = LAYERS * BATCH * shapes(case)[0] * jnp.dtype(dtype).itemsize
    of_library = dataclasses.replace(case, library=case.library.removesuffix(BOTH))
    with jaxact.autodiff(mode="both" if case.library.endswith(BOTH) else "reverse"):
        program = jaxact.memory.compiled(
            step(of_library), *arguments(case, dtype), target=case.target
        )
    return Result(
        **dataclasses.asdict(case), arrays=program.temporaries / unit, seconds=program.seconds
    )


def cases(functions: Iterable[str] = (*ONE_ARRAY, *SMOOTH)) -> list[Case]:
    """All cases of some functions, with the limits that jaxact sets itself."""
    functions = tuple(functions)
    found = []
    for target, name in itertools.product(TARGETS, functions):
        smooth = name in SMOOTH
        plain = (2.55 if smooth else 1.50) if target == "cpu" else (2.45 if smooth else 1.46)
        found += [
            Case("mlp", name, "jax.nn", "scan", target),
            Case("mlp", name, "jaxact", "scan", target, plain),
            Case("mlp", name, "jaxact.mlp", "scan", target, 1.55 if target == "cpu" else 1.46),
        ]
        if target != "v5e":  # That takes minutes to compile.
            found += [
                Case("mlp", name, "jax.nn", "unrolled", target),
                Case("mlp", name, "jaxact", "unrolled", target),
                Case(
                    "mlp", name, "jaxact.mlp", "unrolled", target, 1.3 if target == "h200" else None
                ),
            ]
        if name in GATED:
            found += [
                Case("gated", name, "jax.nn", "scan", target),
                Case("gated", name, "jaxact", "scan", target),
                Case(
                    "gated",
                    name,
                    "jaxact.gated_mlp",
                    "scan",
                    target,
                    2.6 if target == "h200" else 2.5,
                ),
            ]
        if name in ONE_ARRAY:
            found += [
                Case("carry", name, "jax.nn", "scan", target),
                Case("carry", name, "jaxact", "scan", target),
                Case(
                    "carry", name, "jaxact, mask", "scan", target, 1.1 if target == "v5e" else 1.26
                ),
            ]
    both = [
        dataclasses.replace(case, library=case.library + BOTH, limit=None)
        for case in found
        if case.library != "jax.nn"
    ]
    return found + both


def failures(results: Iterable[Result]) -> list[str]:
    """The results above their limit; without a limit of its own, jaxact's is jax.nn's result.

    Of layers whose output is the carry, only the mask has a limit. The mode "both" may need 2% more
    than the default does.
    """
    results = list(results)
    reverse = {(title(r), r.function, r.library): r for r in results}
    peers = {(r.block, r.function, r.loop, r.target): r for r in results if r.library == "jax.nn"}
    found = []
    for r in results:
        if r.library.endswith(BOTH):
            default = reverse[title(r), r.function, r.library.removesuffix(BOTH)]
            if r.arrays > 1.02 * default.arrays:
                found.append(
                    f"{title(r)}, {r.library} {r.function}: {r.arrays:.2f} > {default.arrays:.2f}"
                )
            if r.seconds and default.seconds and r.seconds > 1.02 * default.seconds:
                found.append(f"{title(r)}, {r.library} {r.function}: slower than the default")
            continue
        peer = peers[r.block, r.function, r.loop, r.target]
        if r is peer or (r.block == "carry" and r.limit is None):
            continue
        limit = peer.arrays if r.limit is None else r.limit
        if r.arrays > limit + 0.005:
            found.append(f"{title(r)}, {r.library} {r.function}: {r.arrays:.2f} > {limit:.2f}")
        if r.seconds and peer.seconds and r.seconds > 1.005 * peer.seconds:
            found.append(f"{title(r)}, {r.library} {r.function}: slower than jax.nn's")
    return found


#: XLA's CPU compiler keeps half an array too many of these.
KNOWN = (
    "16 layers of x + (act(x @ w1) * (x @ w2)) @ w3, scan, cpu float32, jaxact.gated_mlp silu: 2.5",
    "16 layers of x + (act(x @ w1) * (x @ w2)) @ w3, scan, cpu float32, jaxact.gated_mlp gelu: 2.5",
    "16 layers of x + act(x @ w1) @ w2, unrolled, cpu float32, jaxact.mlp softplus: 2.5",
    # It merges what a transposed program computes again with the forward pass: no cotangent can
    # hold that back there.
    "16 layers of x + act(x @ w1) @ w2, unrolled, cpu float32, jaxact.mlp, both",
    # A copy of one layer's array, whatever the number of layers is.
    *(
        f"16 layers of x + act(x @ w1) @ w2, scan, h200 bfloat16, jaxact.mlp, both {name}: 1.45"
        for name in (*ONE_ARRAY, *SMOOTH)
    ),
    *(
        "16 layers of x + (act(x @ w1) * (x @ w2)) @ w3, scan, h200 bfloat16, "
        f"jaxact.gated_mlp, both {name}: 2.58"
        for name in GATED
    ),
)


def unexpected(results: Iterable[Result]) -> list[str]:
    """The failures that are not known."""
    return [failure for failure in failures(results) if not failure.startswith(KNOWN)]


BLOCKS = {
    "mlp": "16 layers of x + act(x @ w1) @ w2",
    "gated": "16 layers of x + (act(x @ w1) * (x @ w2)) @ w3",
    "carry": "16 layers of act(x @ w)",
}


def title(case: Case) -> str:
    dtype = jnp.dtype(TARGETS[case.target]).name
    return f"{BLOCKS[case.block]}, {case.loop}, {case.target} {dtype}"


def tables(results: Iterable[Result]) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """Title, header and rows of each table."""
    ordered = sorted(results, key=lambda r: (list(BLOCKS).index(r.block), r.loop))
    for name, group in itertools.groupby(sorted(ordered, key=title), key=title):
        rows = list(group)
        libraries = list(dict.fromkeys(r.library for r in rows))
        lines = []
        for function in dict.fromkeys(r.function for r in rows):
            by_library = {r.library: r for r in rows if r.function == function}
            cells = [f"{by_library[library].arrays:.2f}" for library in libraries]
            times = [by_library[library].seconds for library in libraries]
            if rows[0].target == "v5e":
                cells += [f"{1e6 * t:.0f}" if t else "" for t in times]
            lines.append([function, *cells])
        header = ["function", *libraries]
        if rows[0].target == "v5e":
            header += [f"{library}, µs" for library in libraries]
        yield name, header, lines


# What an accelerator at hand really does


def on_device() -> list[dict[str, Any]]:
    """Peak memory and time of the unrolled step, on the first device."""
    device = jax.devices()[0]
    found = []
    for name, library in itertools.product(
        ("relu", "gelu"), ("jax.nn", "jaxact", "jaxact.mlp", "jax.checkpoint")
    ):
        case = Case("mlp", name, library, "unrolled", "h200")
        args = [jnp.zeros(a.shape, a.dtype) for a in arguments(case, jnp.bfloat16)]
        before = (device.memory_stats() or {}).get("bytes_in_use", 0)
        run = jax.jit(step(case)).lower(*args).compile()
        jax.block_until_ready(run(*args))
        peak = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
        seconds = []
        for _ in range(20):
            start = time.perf_counter()
            jax.block_until_ready(run(*args))
            seconds.append(time.perf_counter() - start)
        planned = run.memory_analysis()
        found.append(
            {
                "function": name,
                "library": library,
                "seconds": min(seconds),
                "temporaries": planned.temp_size_in_bytes if planned else None,
                # The high-water mark never falls: the first one to raise it shows it.
                "peak above arguments": max(peak - before, 0),
            }
        )
    return found


# Output


def document(results: list[Result], device: list[dict[str, Any]], versions: str) -> str:
    """The page of the documentation."""
    lines = [
        "# Memory",
        "",
        "Written by `python -m benchmarks.memory --docs`. " + versions,
        "",
        "Temporaries of a training step (loss and all gradients) as each target's own compiler "
        "reports them, in arrays of the hidden activation per layer (of x in the last tables): "
        f"batch {BATCH}, width {WIDTH}, hidden size {HIDDEN}. Nothing ran for these: "
        "`jaxact.memory.compiled` compiles for TPUs and GPUs on any machine. The times are the TPU "
        "compiler's own estimates.",
        "",
        "- `jaxact`: the plain function in place of `jax.nn`'s. `mlp` and `gated_mlp`: the blocks. "
        '`both`: the same under `autodiff(mode="both")`, which has forward mode too.',
        "- Unrolled on CPUs, the blocks need in that mode what the plain functions need: XLA's CPU "
        "compiler merges what the backward pass computes again with the forward pass. In scans on "
        "GPUs they need half an array (gated: one and a quarter) more for all layers together.",
        "- Unrolled on CPUs, XLA drops the barrier that keeps a plain function's recomputation "
        "apart from the forward pass, so it needs what `jax.nn`'s needs, or less.",
        "- Where the output is all that the next layer reads, the default keeps it twice, and "
        'needs more than `jax.nn`; `autodiff(residual="mask")` needs least.',
        "- Packing bits takes no memory beside the residual on these targets. TPU v5p's compiler "
        "pads the groups of eight: it needs up to four arrays of the input's size while it packs.",
        "",
        "<!-- begin dial -->",
        "<!-- end dial -->",
    ]
    for name, header, rows in tables(results):
        lines += [
            "",
            f"## {name}",
            "",
            "| " + " | ".join(header) + " |",
            "|---" * len(header) + "|",
        ]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    if device:
        lines += ["", f"## Measured on {jax.devices()[0].device_kind}", ""]
        lines += ["| " + " | ".join(device[0]) + " |", "|---" * len(device[0]) + "|"]
        lines += ["| " + " | ".join(map(str, values.values())) + " |" for values in device]
    lines += [
        "",
        "## Quantized derivatives",
        "",
        'The largest error of the derivative under `autodiff(residual="quantized", bits=...)`, '
        "over all inputs, with the default parameters. `benchmarks/quantization.py` computes it "
        "with the cells.",
        "",
        "| function | 2 bits | 3 bits | 4 bits |",
        "|---|---|---|---|",
    ]
    for function, by_bits in CELLS.items():
        errors = " | ".join(f"{cells.error:.3f}" for cells in by_bits.values())
        lines.append(f"| {function.replace('_erf', '(approximate=False)')} | {errors} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only relu and gelu, no dial")
    parser.add_argument("--dial", action="store_true", help="only the dial")
    parser.add_argument("--docs", action="store_true", help="write docs/memory.md")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of memory.json")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    if not console.is_terminal:
        console.width = 120
    versions = f"JAX {jax.__version__}, {platform.machine()}, {datetime.date.today()}."
    if options.dial:
        sys.exit(1 if _dial(console, versions, options) else 0)
    chosen = cases(("relu", "gelu")) if options.quick else cases()
    results = [measure(case) for case in track(chosen, "compiling", console=console)]
    device = on_device() if jax.default_backend() != "cpu" else []
    (options.out / "memory.json").write_text(
        json.dumps(
            {
                "versions": versions,
                "results": [dataclasses.asdict(r) for r in results],
                "device": device,
            },
            indent=1,
        )
        + "\n"
    )
    if options.docs:
        (DOCS / "memory.md").write_text(document(results, device, versions))
    for name, header, rows in tables(results):
        table = Table(*header, title=name, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for values in device:
        console.print(values)
    beyond = [] if options.quick else _dial(console, versions, options)
    for failure in failures(results):
        console.print(failure, highlight=False, soft_wrap=True)
    within = len(results) - len(failures(results))
    worst = {
        library: max(r.arrays for r in results if (r.block, r.library) == ("mlp", library))
        for library in ("jax.nn", "jaxact", "jaxact.mlp")
    }
    figures = ", ".join(f"{library} {arrays:.2f}" for library, arrays in worst.items())
    console.print(
        f"{within} of {len(results)} steps within their limits; most arrays per layer: {figures}.",
        highlight=False,
        soft_wrap=True,
    )
    sys.exit(1 if unexpected(results) or beyond else 0)


def _dial(console: Console, versions: str, options: argparse.Namespace) -> list[dial.Excess]:
    """Measure the dial, show and write it; what is to fail."""
    measured = dial.run(console)
    dial.show(measured, console)
    dial.write(measured, versions, options.out, options.docs)
    return dial.unexpected(measured)


if __name__ == "__main__":
    main()
