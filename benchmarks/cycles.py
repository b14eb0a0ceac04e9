"""The cycles of jaxact's functions on TPUs, beside jax.nn's, as the TPU compiler estimates them.

    python -m benchmarks.cycles                 # half an hour; all functions on all chips
    python -m benchmarks.cycles --targets v6e --functions silu,gelu --dtypes bfloat16
    python -m benchmarks.cycles --docs          # also writes its tables into docs/speed.md

Compiled are the forward pass, x -> f(x), and the pullback as a network has it: from the residuals
that the forward pass leaves, and a cotangent. Nothing runs, and no TPU is needed, but the compiler
is: ``pip install -e ".[test,targets]"``. What jax.nn lacks is compared with the line of JAX that a
user would write. The exit status is 1 if jaxact takes more than 1.03 of the other's cycles.

Functions of two slopes (relu, hard_tanh) keep an array of x's dtype, jax.nn's keep a mask of a byte
an element. Their pullback alone reads more for it, and that much more it may take. relu's array is
its output, which the next layer's matrix product keeps in any case; and it tells a NaN.
"""

import argparse
import dataclasses
import datetime
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.progress import track
from rich.table import Table

import jaxact
from benchmarks.pages import DOCS, write_section
from benchmarks.peers import PEERS, Peers
from jaxact._core.elementwise import DECLARED
from jaxact._memory.targets import TPUS

SHAPE = (4096, 8192)
PASSES = ("forward", "pullback")
DTYPES = ("bfloat16", "float32")
#: jaxact's cycles over the other's are at most this.
LIMIT = 1.03
#: Functions whose pullbacks may take the more cycles for the more bytes that they read.
TWO_SLOPES = {mark for mark, declared in DECLARED.items() if declared.two_slopes}
#: The functions that have something to be compared with, by name.
FUNCTIONS = {p.name: p for p in PEERS if p.jax_nn or p.written_out}


@dataclasses.dataclass(frozen=True)
class Case:
    """A function to compile, of jaxact and of the peer."""

    function: str
    passes: str
    dtype: str
    target: str

    def __str__(self) -> str:
        return f"{self.target} {self.function} {self.passes} {self.dtype}"


@dataclasses.dataclass(frozen=True)
class Result(Case):
    """The cycles of both."""

    jaxact: int
    peer: int

    @property
    def ratio(self) -> float:
        return self.jaxact / self.peer

    @property
    def reads_more(self) -> bool:
        """Whether it is a pullback from an array where the peer's is from a mask."""
        return self.passes == "pullback" and self.function in TWO_SLOPES

    @property
    def limit(self) -> float:
        """What the ratio may be."""
        size = jnp.dtype(self.dtype).itemsize
        # The residual, the cotangent, and the result.
        return LIMIT * (3 * size / (2 * size + 1) if self.reads_more else 1)


def cycles(function: Callable[..., Any], case: Case) -> int:
    """The compiler's estimate for one pass of one function.

    Raises:
      ValueError: it has none.
    """
    x = jax.ShapeDtypeStruct(SHAPE, jnp.dtype(case.dtype))
    if case.passes == "forward":
        program = jaxact.memory.compiled(function, x, target=case.target)
    else:
        # A pullback is a tree whose leaves are its residuals.
        y, pullback = jax.eval_shape(lambda x: jax.vjp(function, x), x)
        program = jaxact.memory.compiled(lambda p, t: p(t), pullback, y, target=case.target)
    if program.cycles is None:
        raise ValueError(f"{case}: the compiler gives no estimate")
    return program.cycles


def other(peers: Peers) -> Callable[..., Any]:
    """The function of jax.nn, or the line that takes its place."""
    function = peers.jax_nn or peers.written_out
    assert function is not None
    return function


def measure(case: Case) -> Result:
    """Compile a case, with both libraries."""
    peers = FUNCTIONS[case.function]
    ours, theirs = (cycles(function, case) for function in (peers.jaxact, other(peers)))
    return Result(**dataclasses.asdict(case), jaxact=ours, peer=theirs)


def cases(
    targets: Sequence[str] = tuple(TPUS),
    functions: Sequence[str] = tuple(FUNCTIONS),
    dtypes: Sequence[str] = DTYPES,
) -> list[Case]:
    return [Case(*case) for case in itertools.product(functions, PASSES, dtypes, targets)]


def above(results: Sequence[Result]) -> list[Result]:
    """The results above the limit, the worst first."""
    return sorted((r for r in results if r.ratio > r.limit), key=lambda r: -r.ratio)


def summary(results: Sequence[Result]) -> str:
    """The results above the limit, and the worst of all, in one line."""
    found = above(results)
    named = "".join(f" {r} {r.ratio:.3f}," for r in found).rstrip(",")
    line = f"{len(found) or 'none'} of {len(results)} above {LIMIT}{':' if found else ''}{named}"
    reading_more = {r for r in results if r.reads_more}
    for what, group in (
        ("worst", set(results) - reading_more),
        ("pullbacks that read an array for a mask, worst", reading_more),
    ):
        if group:
            worst = max(group, key=lambda r: r.ratio)
            line += f"; {what}: {worst} {worst.ratio:.3f}"
    return f"{line}."


def tables(results: Sequence[Result]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Target, header and rows of each table, in thousands of cycles."""
    for target in dict.fromkeys(r.target for r in results):
        of_target = [r for r in results if r.target == target]
        dtypes = list(dict.fromkeys(r.dtype for r in of_target))
        header = ["function", "pass"]
        for dtype in dtypes:
            header += [f"{dtype}: jaxact", "jax.nn", "ratio"]
        rows = []
        for function, passes in dict.fromkeys((r.function, r.passes) for r in of_target):
            mark = "" if FUNCTIONS[function].jax_nn else " *"
            if passes == "pullback" and function in TWO_SLOPES:
                mark += " †"
            row = [function + mark, passes]
            for dtype in dtypes:
                (r,) = (
                    r
                    for r in of_target
                    if (r.function, r.passes, r.dtype) == (function, passes, dtype)
                )
                row += [f"{r.jaxact / 1000:.0f}", f"{r.peer / 1000:.0f}", f"{r.ratio:.3f}"]
            rows.append(row)
        yield target, header, rows


def document(results: Sequence[Result]) -> str:
    """The section of the documentation."""
    lines = [
        "Written by `python -m benchmarks.cycles --docs`, which also says how it measures. "
        f"JAX {jax.__version__}, {datetime.date.today()}. Thousands of cycles for "
        f"{SHAPE[0]} × {SHAPE[1]} elements, as the TPU compiler estimates them, and jaxact's over "
        "jax.nn's. Functions with a star are not in jax.nn: they are compared with the line of JAX "
        "that one would write. Pullbacks start from their residuals; those with a dagger read one "
        "array (relu's output, which the next matrix product keeps in any case) where jax.nn's "
        "read a mask that the forward pass has written besides.",
        "",
        summary(results),
    ]
    for target, header, rows in tables(results):
        lines += ["", f"### {target}", ""]
        lines += ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def chosen(parser: argparse.ArgumentParser, text: str, known: Sequence[str]) -> list[str]:
    """The names in a list with commas, or the command's error."""
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options = {"targets": tuple(TPUS), "functions": tuple(FUNCTIONS), "dtypes": DTYPES}
    for name, known in options.items():
        parser.add_argument(f"--{name}", default=",".join(known), metavar="NAME,NAME")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/speed.md")
    arguments = parser.parse_args()
    chosen_cases = cases(
        *(chosen(parser, getattr(arguments, name), known) for name, known in options.items())
    )
    console = Console()
    if not console.is_terminal:
        console.width = 120
    results = [measure(case) for case in track(chosen_cases, "compiling", console=console)]
    if arguments.docs:
        write_section(DOCS / "speed.md", "cycles", document(results))
    for target, header, rows in tables(results):
        table = Table(*header, title=f"{target}, thousands of cycles", title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print("* the line of JAX that one would write", highlight=False)
    console.print(summary(results), highlight=False, soft_wrap=True)
    sys.exit(1 if above(results) else 0)


if __name__ == "__main__":
    main()
