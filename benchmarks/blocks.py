"""What a feed-forward layer costs on TPUs, on their compilers' own account: cycles and memory.

``python -m benchmarks.blocks`` compiles the value and all gradients of one layer in bfloat16 (8,192
tokens, 4,096 -> 16,384 -> 4,096) and prints the cycles that the compiler estimates; and what 16
scanned layers keep, as ``benchmarks/memory.py`` counts it. Plain functions of jaxact and its blocks
may take 1.02 times jax.nn's cycles; what takes more is in the last line, and the exit status is 1.
Nothing runs, and no TPU is needed, but its compiler is: ``pip install -e ".[test,targets]"``.
"""

import argparse
import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
from jax import lax
from rich.console import Console
from rich.progress import track
from rich.table import Table

import jaxact
from benchmarks.pages import DOCS, markdown_table, write_section

CHIPS = ("v5e", "v6e")
TOKENS, WIDTH, HIDDEN = 8192, 4096, 16384
#: Of the scanned layers, in which the hidden arrays outweigh the weights.
LAYERS, NARROW, NARROW_HIDDEN = 16, 512, 2048
DTYPE = jnp.dtype(jnp.bfloat16)
#: What jaxact may take, in jax.nn's cycles.
LIMIT = 1.02
LIBRARIES = (
    "jax.nn",
    "jaxact",
    "block",
    "jax.checkpoint of jax.nn",
    "jax.checkpoint of jax.nn, dots_saveable",
)
OURS = LIBRARIES[1:3]

Layer = Callable[..., jax.Array]


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer to compile: which one, by which library, for which chip."""

    chip: str
    block: str
    activation: str
    library: str

    @property
    def name(self) -> str:
        """What the layer is called in tables."""
        library = f"jaxact.{self.block}" if self.library == "block" else self.library
        return f"{self.chip} {self.block} {self.activation}, {library}"

    @property
    def reference(self) -> "Case":
        return dataclasses.replace(self, library="jax.nn")


@dataclasses.dataclass(frozen=True)
class Result(Case):
    """A compiled layer."""

    cycles: int
    ratio: float
    #: What a scanned layer keeps, in arrays of the hidden size.
    arrays: float


def layer(case: Case) -> Layer:
    """``(x, *weights) -> y``."""
    if case.library == "block":
        return functools.partial(getattr(jaxact, case.block), activation=case.activation)
    act = getattr(jaxact if case.library == "jaxact" else jax.nn, case.activation)

    def mlp(x: jax.Array, w_in: jax.Array, w_out: jax.Array) -> jax.Array:
        return act(x @ w_in) @ w_out

    def gated_mlp(x: jax.Array, w_gate: jax.Array, w_up: jax.Array, w_down: jax.Array) -> jax.Array:
        return (act(x @ w_gate) * (x @ w_up)) @ w_down

    written_out = mlp if case.block == "mlp" else gated_mlp
    match case.library.removeprefix("jax.checkpoint of jax.nn"):
        case "":
            return jax.checkpoint(written_out)
        case ", dots_saveable":
            policy = jax.checkpoint_policies.dots_saveable
            return jax.checkpoint(written_out, policy=policy)
    return written_out


def weights(case: Case, width: int, hidden: int, *leading: int) -> list[jax.ShapeDtypeStruct]:
    wide = jax.ShapeDtypeStruct((*leading, width, hidden), DTYPE)
    back = jax.ShapeDtypeStruct((*leading, hidden, width), DTYPE)
    return [wide, back] if case.block == "mlp" else [wide, wide, back]


@functools.cache
def cycles(case: Case) -> int:
    """Of one layer: its value, and the gradients of x and all weights for a given cotangent."""

    def value_and_gradients(g: jax.Array, *inputs: jax.Array) -> tuple[jax.Array, ...]:
        y, pullback = jax.vjp(layer(case), *inputs)
        return y, *pullback(g)

    x = jax.ShapeDtypeStruct((TOKENS, WIDTH), DTYPE)
    args = [x, x, *weights(case, WIDTH, HIDDEN)]
    found = jaxact.memory.compiled(value_and_gradients, *args, target=case.chip).cycles
    if found is None:
        raise RuntimeError(f"{case.chip}'s compiler has no estimate for {case.name}.")
    return found


def ratio(case: Case) -> float:
    """The cycles of a layer in those of the one that is written out with jax.nn."""
    return cycles(case) / cycles(case.reference)


def arrays(case: Case) -> float:
    """What the gradient of scanned layers keeps of each, in arrays of the hidden size."""
    one = layer(case)

    def loss(x: jax.Array, *weights: jax.Array) -> jax.Array:
        x, _ = lax.scan(lambda x, w: (x + one(x, *w), None), x, weights)
        return jnp.sum(x.astype(jnp.float32))

    args = [
        jax.ShapeDtypeStruct((TOKENS, NARROW), DTYPE),
        *weights(case, NARROW, NARROW_HIDDEN, LAYERS),
    ]
    step = jax.value_and_grad(loss, tuple(range(len(args))))
    program = jaxact.memory.compiled(step, *args, target=case.chip)
    return program.temporaries / (LAYERS * TOKENS * NARROW_HIDDEN * DTYPE.itemsize)


def cases() -> list[Case]:
    blocks = [("mlp", "relu"), ("mlp", "gelu"), ("mlp", "silu"), ("gated_mlp", "silu")]
    return [
        Case(chip, *block, library)
        for chip, block, library in itertools.product(CHIPS, blocks, LIBRARIES)
    ]


def measure(case: Case) -> Result:
    """Compile a case."""
    return Result(
        **dataclasses.asdict(case), cycles=cycles(case), ratio=ratio(case), arrays=arrays(case)
    )


def above(results: Iterable[Result]) -> list[Result]:
    """The layers of jaxact that take more cycles than they may."""
    return [r for r in results if r.library in OURS and r.ratio > LIMIT]


def verdict(results: Iterable[Result]) -> str:
    """The last line of the output."""
    found = ", ".join(f"{r.name} {r.ratio:.3f}" for r in above(results))
    return f"above {LIMIT}: {found}" if found else f"none above {LIMIT}"


HEADER = ("layer", "cycles, thousands", "÷ jax.nn's", "hidden arrays kept a layer")


def row(result: Result) -> tuple[str, ...]:
    thousands = f"{result.cycles / 1000:,.0f}"
    return result.name, thousands, f"{result.ratio:.3f}", f"{result.arrays:.2f}"


def document(results: list[Result]) -> str:
    """The section of the documentation."""
    return "\n".join(
        [
            f"Written by `python -m benchmarks.blocks --docs`. JAX {jax.__version__}. Value and "
            f"all gradients of one layer, {DTYPE.name}, {TOKENS:,} tokens, {WIDTH:,} → {HIDDEN:,} "
            f"→ {WIDTH:,}, in cycles as the TPU compilers estimate them; and what the gradient of "
            f"{LAYERS} scanned layers ({NARROW} → {NARROW_HIDDEN:,} → {NARROW}) keeps of each, in "
            "arrays of the hidden size.",
            "",
            *markdown_table(HEADER, map(row, results)),
            "",
            f"jaxact's functions and blocks in jax.nn's cycles: {verdict(results)}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--docs", action="store_true", help="write the table into docs/speed.md")
    options = parser.parse_args()
    console = Console()
    if not console.is_terminal:
        console.width = 120
    results = [measure(case) for case in track(cases(), "compiling", console=console)]
    if options.docs:
        write_section(DOCS / "speed.md", "blocks", document(results))
    table = Table(*HEADER)
    for result in results:
        table.add_row(*row(result))
    console.print(table)
    console.print(verdict(results), highlight=False, soft_wrap=True)
    sys.exit(1 if above(results) else 0)


if __name__ == "__main__":
    main()
