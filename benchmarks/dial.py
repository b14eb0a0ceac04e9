"""The choice between memory and time in feed-forward blocks, beside that of ``jax.checkpoint``.

``python -m benchmarks.memory --dial`` compiles a training step of layers ``x + block(x)`` with each
of the `LINES` that one may write for the block, and prints what it keeps and, for TPUs, the cycles
of the bodies of its loops. Nothing runs.
"""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

import jaxact
from benchmarks.pages import DOCS, write_section
from jaxact._memory.cycles import _parsed, _total
from jaxact.feedforward import Save

LAYERS, BATCH, WIDTH, HIDDEN = 16, 8192, 512, 2048
#: Layers that are written out, one after the other, and not scanned: more take minutes to compile.
WRITTEN_OUT = 8

Block = Callable[..., jax.Array]

_DOTS = jax.checkpoint_policies.dots_saveable
_CHECKPOINTS: dict[str, dict[str, Any]] = {
    "jax.checkpoint(policy=dots_saveable)": {"policy": _DOTS},
    "jax.checkpoint(policy=dots_saveable, prevent_cse=False)": {
        "policy": _DOTS,
        "prevent_cse": False,
    },
    "jax.checkpoint": {},
    "jax.checkpoint(prevent_cse=False)": {"prevent_cse": False},
}
PRE, INPUT = 'jaxact, save="pre"', 'jaxact, save="input"'
#: What one may write, from what keeps most to what keeps least.
LINES = ("jax.nn", *list(_CHECKPOINTS)[:2], PRE, *list(_CHECKPOINTS)[2:], INPUT)
#: The line of ``jax.checkpoint`` that keeps as much.
PEERS = {PRE: "jax.checkpoint(policy=dots_saveable)", INPUT: "jax.checkpoint"}
#: And the one that its documentation allows inside a scan only.
IN_A_SCAN = {
    PRE: "jax.checkpoint(policy=dots_saveable, prevent_cse=False)",
    INPUT: "jax.checkpoint(prevent_cse=False)",
}
BLOCKS = {"plain": "gelu(x @ w1) @ w2", "gated": "(silu(x @ w1) * (x @ w2)) @ w3"}


@dataclasses.dataclass(frozen=True)
class Point:
    """A step to compile: of which block, how written, in which loop, for which target."""

    block: str
    line: str
    loop: str
    target: str

    @property
    def dtype(self) -> Any:
        return jnp.float32 if self.target == "cpu" else jnp.bfloat16

    @property
    def layers(self) -> int:
        return LAYERS if self.loop == "scan" else WRITTEN_OUT


@dataclasses.dataclass(frozen=True)
class Measured(Point):
    """A compiled step: temporaries in hidden arrays a layer, cycles of the bodies of its loops."""

    arrays: float
    cycles: int | None = None


def points() -> list[Point]:
    """All that is measured, in the order of the tables."""
    scanned = itertools.product(BLOCKS, LINES, ("v5e", "v6e"))
    lines = [line for line in LINES if line not in IN_A_SCAN.values()]
    return [
        *(Point(block, line, "scan", target) for block, line, target in scanned),
        *(
            Point("plain", line, "written out", target)
            for line, target in itertools.product(lines, ("h200", "cpu"))
        ),
    ]


def block(point: Point) -> Block:
    """The block of a point, ``(x, *weights) -> y``."""
    if point.line in (PRE, INPUT):
        ours = jaxact.mlp if point.block == "plain" else jaxact.gated_mlp
        activation = "gelu" if point.block == "plain" else "silu"
        save: Save = "pre" if point.line == PRE else "input"
        return functools.partial(ours, activation=activation, save=save)
    written = _plain if point.block == "plain" else _gated
    return (
        jax.checkpoint(written, **_CHECKPOINTS[point.line]) if point.line != "jax.nn" else written
    )


def _plain(x: jax.Array, w1: jax.Array, w2: jax.Array) -> jax.Array:
    return jax.nn.gelu(x @ w1) @ w2


def _gated(x: jax.Array, w1: jax.Array, w2: jax.Array, w3: jax.Array) -> jax.Array:
    return (jax.nn.silu(x @ w1) * (x @ w2)) @ w3


def measure(point: Point) -> Measured:
    """Compile the loss and the gradients of everything."""
    one = block(point)

    def loss(x: jax.Array, *weights: jax.Array) -> jax.Array:
        if point.loop == "scan":
            x, _ = lax.scan(lambda x, w: (x + one(x, *w), None), x, weights)
        else:
            for i in range(point.layers):
                x = x + one(x, *(w[i] for w in weights))
        return jnp.sum(x.astype(jnp.float32))

    wide = [(WIDTH, HIDDEN)] * (1 if point.block == "plain" else 2)
    weights = [(point.layers, *shape) for shape in [*wide, (HIDDEN, WIDTH)]]
    args = [jax.ShapeDtypeStruct(shape, point.dtype) for shape in [(BATCH, WIDTH), *weights]]
    step = jax.value_and_grad(loss, argnums=tuple(range(len(args))))
    program = jaxact.memory.compiled(step, *args, target=point.target)
    hidden = point.layers * BATCH * HIDDEN * jnp.dtype(point.dtype).itemsize
    return Measured(
        **dataclasses.asdict(point),
        arrays=program.temporaries / hidden,
        cycles=loop_bodies(program.text) if point.loop == "scan" else None,
    )


def loop_bodies(text: str) -> int:
    """The cycles that a TPU's compiler estimates for the bodies of a program's loops, once each.

    Of scanned layers these are one layer forward and one backward, which leaves out what happens
    before, between and after the loops.

    Raises:
      ValueError: there are none, or nothing is estimated.
    """
    program, entry = _parsed(text)
    total = sum(
        _total(program, instruction.attribute("body"))
        for instruction in program[entry].values()
        if instruction.opcode == "while"
    )
    if not total:
        raise ValueError("The program has no loop with estimated cycles; compile it for a TPU.")
    return total


# The verdict


@dataclasses.dataclass(frozen=True)
class Excess:
    """Where a block of ours needs more than the line of ``jax.checkpoint`` that keeps as much."""

    ours: Measured
    peer: Measured
    #: "arrays" or "cycles".
    of: str

    @property
    def ratio(self) -> float:
        return getattr(self.ours, self.of) / getattr(self.peer, self.of)

    @property
    def name(self) -> tuple[str, str, str, str, str]:
        """As in `KNOWN`."""
        return (*place(self.ours), self.ours.line, self.of)

    def __str__(self) -> str:
        if self.of == "arrays":
            figures = f"{self.ours.arrays:.2f} arrays against {self.peer.arrays:.2f}"
        else:
            figures = f"{_thousands(self.ours)} thousand cycles against {_thousands(self.peer)}"
        where = ", ".join(place(self.ours))
        return f"{where}: {self.ours.line} needs {figures} ({self.ratio:.3f})"


#: What is above ``jax.checkpoint`` on JAX 0.10.2, and how far. The memory is what one layer works
#: with, not what is kept: of 32 scanned layers v6e needs 0.31 arrays in place of 0.53.
KNOWN: dict[tuple[str, ...], float] = {
    ("v5e", "plain", "scan", INPUT, "arrays"): 1.125,
    ("v6e", "plain", "scan", INPUT, "arrays"): 2.124,
    ("v5e", "gated", "scan", INPUT, "arrays"): 1.413,
    ("v5e", "gated", "scan", INPUT, "cycles"): 1.038,
    ("h200", "plain", "written out", INPUT, "arrays"): 1.011,
}


def place(point: Point) -> tuple[str, str, str]:
    return point.target, point.block, point.loop


def excesses(measured: Iterable[Measured]) -> list[Excess]:
    """Each point where ours needs more memory or more cycles, from a thousandth on."""
    measured = list(measured)
    by_name = {(place(m), m.line): m for m in measured}
    found = []
    for ours in measured:
        if ours.line in PEERS:
            peer = by_name[place(ours), PEERS[ours.line]]
            what = ("arrays", "cycles") if ours.cycles and peer.cycles else ("arrays",)
            found += [Excess(ours, peer, of) for of in what]
    return [excess for excess in found if round(excess.ratio, 3) > 1]


def unexpected(measured: Iterable[Measured]) -> list[Excess]:
    """Those that are not known, or larger than known."""
    return [e for e in excesses(measured) if round(e.ratio, 3) > KNOWN.get(e.name, 1)]


def as_good_in_a_scan(measured: Iterable[Measured]) -> list[str]:
    """Where the line for scans needs no more of either than ours does."""
    measured = list(measured)
    by_name = {(place(m), m.line): m for m in measured}
    found = []
    for ours in measured:
        peer = by_name.get((place(ours), IN_A_SCAN.get(ours.line, "")))
        if peer and peer.arrays <= ours.arrays and (peer.cycles or 0) <= (ours.cycles or 0):
            found.append(
                f"{ours.line.removeprefix('jaxact, ')} of the {ours.block} block on {ours.target}"
            )
    return found


# Output


def run(console: Console) -> list[Measured]:
    return [measure(point) for point in track(points(), "compiling the dial", console=console)]


def _thousands(m: Measured) -> str:
    return "" if m.cycles is None else f"{m.cycles / 1000:.0f}"


def tables(measured: Sequence[Measured]) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """Title, header and rows of each table."""
    for (name, loop), group in itertools.groupby(measured, key=lambda m: (m.block, m.loop)):
        of_block = list(group)
        targets = list(dict.fromkeys(m.target for m in of_block))
        timed = any(m.cycles is not None for m in of_block)
        header = ["block"]
        for target in targets:
            dtype = jnp.dtype(next(m.dtype for m in of_block if m.target == target)).name
            header.append(f"{target} {dtype}, arrays")
            header += [f"{target}, thousand cycles"] * timed
        rows = []
        for line, of_line in itertools.groupby(of_block, key=lambda m: m.line):
            row = [line]
            for m in of_line:
                row.append(f"{m.arrays:.2f}")
                row += [_thousands(m)] * timed
            rows.append(row)
        layers = f"{of_block[0].layers} layers of x + {BLOCKS[name]}"
        yield f"{layers}, {loop}", header, rows


def verdict(measured: Sequence[Measured]) -> list[str]:
    """What one reads first: how many points are no worse, and which are."""
    ours = sum(m.line in PEERS for m in measured)
    found = excesses(measured)
    behind = {(*place(excess.ours), excess.ours.line) for excess in found}
    return [
        f"{ours - len(behind)} of {ours} blocks of jaxact's need no more memory and no more cycles "
        "than the jax.checkpoint that keeps as much.",
        *map(str, found),
    ]


_WORKING_MEMORY = (
    "In scans, that memory is what one layer works with: of more layers, it is less each."
)
_SCANNED = ("scan", INPUT, "arrays")


def document(measured: Sequence[Measured], versions: str) -> str:
    """The section of docs/memory.md."""
    summary, *above = verdict(measured)
    as_good = as_good_in_a_scan(measured)
    lines = [
        "## Memory or time: the dial",
        "",
        f"Written by `python -m benchmarks.memory --dial --docs`. {versions}",
        "",
        "What `mlp` and `gated_mlp` keep is one argument: their pre-activations "
        '(`save="pre"`, the default) or their input (`save="input"`). What one may write instead '
        "is `jax.checkpoint` of the block, with the policy `dots_saveable` or none. The tables "
        "have the hidden arrays a layer that each keeps and, for TPUs, thousands of cycles: their "
        "compiler's estimate for the bodies of the loops, one layer forward and one backward.",
        "",
        summary + (" These do:" if above else ""),
        *([""] if above else []),
        *(f"- {line}" for line in above),
        "",
        *([_WORKING_MEMORY, ""] if any(e.name[2:] == _SCANNED for e in excesses(measured)) else []),
        "Inside a scan one may also write `prevent_cse=False`, as the documentation of "
        "`jax.checkpoint` says. "
        + (
            f"That is as good or better than ours, in both, at {'; '.join(as_good)}."
            if as_good
            else "That is nowhere as good as ours in both."
        )
        + " Layers that are written out need the default: before JAX 0.12, XLA's CPU compiler "
        "merges what even that computes again with the forward pass, and keeps it all.",
    ]
    for name, header, rows in tables(measured):
        lines += ["", f"### {name}", "", "| " + " | ".join(header) + " |"]
        lines.append("|---" * len(header) + "|")
        lines += ["| " + " | ".join([f"`{row[0]}`", *row[1:]]) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def show(measured: Sequence[Measured], console: Console) -> None:
    for name, header, rows in tables(measured):
        first = Column(header[0], no_wrap=True)
        table = Table(first, *header[1:], title=name, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in verdict(measured):
        console.print(line, highlight=False, soft_wrap=True)


def write(measured: Sequence[Measured], versions: str, folder: Path, docs: bool) -> None:
    """dial.json, and the section of the page."""
    data = {"versions": versions, "dial": [dataclasses.asdict(m) for m in measured]}
    (folder / "dial.json").write_text(json.dumps(data, indent=1) + "\n")
    if docs:
        write_section(DOCS / "memory.md", "dial", document(measured, versions))
