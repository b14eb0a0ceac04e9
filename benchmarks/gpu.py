"""What jaxact reaches on one GPU: bandwidth, training steps, accuracy, random slopes.

    python benchmarks/gpu.py            # at most eight minutes on an H100 or H200; writes gpu.json
    python benchmarks/gpu.py --quick    # small arrays, on any backend: whether all of it runs
    python -m benchmarks.gpu --docs     # in a checkout: also writes its part of docs/speed.md

This file needs JAX for CUDA and jaxact, and no other file; PyTorch is measured where it is there.

- speed: every function of one array, forward and pullback, on arrays of 1 GiB: which share of the
  bandwidth of a copy it reaches (bytes read and written, a pullback's residuals included), and
  the times of jax.nn and PyTorch over its own. PyTorch's pullback is its own backward pass.
- blocks: `jaxact.mlp` and `jaxact.gated_mlp` beside the expression with jax.nn, as it is, under
  ``jax.checkpoint`` and under its policy ``dots_saveable``: loss and gradients of 16 layers.
- accuracy: values and gradients at every bfloat16 and float16 number, and at a million of float32,
  against float64 formulas, in units in the last place (ULP).
- rrelu: the random slopes of the GPU beside those of the CPU.

The candidates of a function run in turn in one process, a call is a queue of several, and the
fastest round counts. Each section is a process of its own, so that one which fails or hangs costs
no other its results, and none inherits another's memory. A section gets a share of the minutes;
what it has no time for is named. Peaks are what the device's allocator reports, steps that are
planned to need less first, because its mark never falls; where a step did not raise the mark, the
compiler's plan stands alone.
"""

import argparse
import contextlib
import dataclasses
import functools
import inspect
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxact
from jaxact._files import write_atomically

Row = dict[str, Any]
Event = dict[str, Any]
Array = Any

#: The least share of a copy's bandwidth.
SHARE, RRELU_SHARE = 0.90, 0.80
#: The most ULP of a 16-bit result, and of a gradient near a zero of the slope.
ULP, NEAR_ZERO_ULP = 0.51, 0.6
#: jax.nn's step time over a block's.
STEP_RATIO = 0.95
#: Seconds that a section may take beyond its share before it is stopped.
GRACE = 15.0
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is measured."""

    bytes: int
    #: Calls that are queued before one waits for them, and how often.
    repeats: int
    rounds: int
    tokens: int
    width: int
    hidden: int
    #: A gated block has three weights for the two of a plain one.
    gated_hidden: int
    layers: int
    samples: int
    slopes: int


#: A step of 16 layers needs at most 40 GiB.
FULL = Scale(GIB, 16, 6, 8192, 4096, 16384, 10752, 16, 10**6, 1 << 24)
QUICK = Scale(1 << 20, 2, 2, 256, 64, 256, 128, 2, 10**4, 1 << 12)


def each(items: Mapping[str, Callable[[], list[Row]]], until: float) -> Iterator[Event]:
    """The rows of each item by name, or why there are none.

    An item is left out when the time that is left is less than the longest so far took.
    """
    yield {"planned": list(items)}
    longest = 0.0
    for name, measure in items.items():
        start = time.time()
        if until - start < longest:
            yield {"item": name, "left out": "no time was left"}
            continue
        try:
            yield {"item": name, "rows": measure()}
        except Exception as error:  # One that fails must not cost the others' figures.
            reason = str(error).partition("\n")[0][:200]
            yield {"item": name, "failed": f"{type(error).__name__}: {reason}"}
        longest = max(longest, time.time() - start)


def fastest(queues: Mapping[str, Callable[[int], Any]], scale: Scale) -> dict[str, float]:
    """Seconds of one call of each candidate, from its fastest round; they take turns."""
    for queue in queues.values():
        queue(1)
    best = dict.fromkeys(queues, math.inf)
    order = np.random.default_rng(0)
    names = list(queues)
    for _ in range(scale.rounds):
        for i in order.permutation(len(names)):
            start = time.perf_counter()
            queues[names[i]](scale.repeats)
            best[names[i]] = min(best[names[i]], time.perf_counter() - start)
    return {name: seconds / scale.repeats for name, seconds in best.items()}


def queue_of(executable: Callable[..., Any], *arguments: Any) -> Callable[[int], None]:
    """A function that queues so many calls and waits for the last."""

    def queue(count: int) -> None:
        for _ in range(count):
            result = executable(*arguments)
        jax.block_until_ready(result)

    return queue


# ------------------------------------------------------------------------------------------------
# The functions


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of one array, and its peers where there are any."""

    name: str
    call: Callable[[jax.Array], jax.Array]
    jax_nn: Callable[[jax.Array], jax.Array] | None = None

    @property
    def torch(self) -> Callable[..., Any] | None:
        """PyTorch's function, where PyTorch is installed and has it."""
        if self.name not in TORCH:
            return None
        try:
            from torch.nn import functional
        except ImportError:
            return None
        name, options = TORCH[self.name]
        return functools.partial(getattr(functional, name), **options)


#: What has no default.
#: A number of float32: where terms cancel, its last bit counts.
_EIGHT_TENTHS = float(np.float32(0.8))
PARAMETERS: dict[str, dict[str, Any]] = {
    "prelu": {"alpha": 0.25},
    "threshold": {"threshold": 0.5, "value": 0.0},
    "softcap": {"cap": 30.0},
    "xielu": dict.fromkeys(("alpha_p", "alpha_n"), _EIGHT_TENTHS),
}
#: Names in torch.nn.functional, and parameters.
TORCH: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("relu", {}),
    "relu6": ("relu6", {}),
    "leaky_relu": ("leaky_relu", {}),
    "rrelu": ("rrelu", {"training": True}),
    "elu": ("elu", {}),
    "celu": ("celu", {}),
    "selu": ("selu", {}),
    "gelu": ("gelu", {"approximate": "tanh"}),
    "gelu(approximate=False)": ("gelu", {}),
    "silu": ("silu", {}),
    "mish": ("mish", {}),
    "softplus": ("softplus", {}),
    "sigmoid": ("sigmoid", {}),
    "log_sigmoid": ("logsigmoid", {}),
    "tanh": ("tanh", {}),
    "tanh_shrink": ("tanhshrink", {}),
    "soft_sign": ("softsign", {}),
    "hard_tanh": ("hardtanh", {}),
    "hard_sigmoid": ("hardsigmoid", {}),
    "hard_silu": ("hardswish", {}),
    "hard_shrink": ("hardshrink", {}),
    "soft_shrink": ("softshrink", {}),
    "threshold": ("threshold", {"threshold": 0.5, "value": 0.0}),
    "glu": ("glu", {}),
}


def functions() -> tuple[list[Function], list[str]]:
    """The package's functions of one array, and those that need more."""
    found, others = [], []
    for name, function in jaxact.ACTIVATIONS.items():
        if name != function.__name__:  # Another name of the same function.
            continue
        given = PARAMETERS.get(name, {})
        parameters = inspect.signature(function).parameters.values()
        needed = [p.name for p in parameters if p.default is p.empty and p.name not in given]
        if len(needed) != 1:
            others.append(name)
            continue
        call = _with_key(function) if name == "rrelu" else functools.partial(function, **given)
        found.append(Function(name, call, getattr(jax.nn, name, None)))
        if name == "gelu":
            exact = [functools.partial(f, approximate=False) for f in (function, jax.nn.gelu)]
            found.append(Function("gelu(approximate=False)", *exact))
    return found, others


def _with_key(function: Callable[..., jax.Array]) -> Callable[[jax.Array], jax.Array]:
    return lambda x: function(x, jax.random.key(0))


def named(dtype: Any) -> str:
    return jnp.dtype(dtype).name


# ------------------------------------------------------------------------------------------------
# speed


def _pullback(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], Any]:
    """What the forward pass hands to the backward pass: its residuals are the leaves."""
    return lambda x: jax.vjp(function, x)[1]


def _apply(pullback: Any, cotangent: jax.Array) -> jax.Array:
    return pullback(cotangent)[0]


def _compiled(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    return jax.jit(function).lower(*arguments).compile()


def _bytes(*trees: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(trees))


@functools.cache
def _copy(dtype: str, shape: tuple[int, ...]) -> Callable[..., Any]:
    return _compiled(jnp.copy, jax.ShapeDtypeStruct(shape, dtype))


@functools.lru_cache(maxsize=1)  # Of one dtype at a time: each is a gigabyte.
def _input(dtype: str, size: int) -> jax.Array:
    draw = jax.jit(lambda key: 2 * jax.random.normal(key, (size // 1024, 1024), dtype))
    return draw(jax.random.key(1))


@functools.lru_cache(maxsize=1)
def _torch_input(dtype: str, size: int) -> Any:
    import torch

    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    x = 2 * torch.randn(size // 1024, 1024, device=device, dtype=getattr(torch, dtype))
    return x.requires_grad_()


def _torch_queues(function: Callable[..., Any], dtype: str, size: int) -> dict[str, Any]:
    """PyTorch's passes, by name; none where it does not see the GPU that JAX sees."""
    import torch

    on_gpu = jax.default_backend() != "cpu"
    if on_gpu and not torch.cuda.is_available():
        return {}
    x = _torch_input(dtype, size)
    y = function(x)
    t = torch.ones_like(y)

    def queue_of_torch(call: Callable[[], Any]) -> Callable[[int], None]:
        def queue(count: int) -> None:
            for _ in range(count):
                call()
            if on_gpu:
                torch.cuda.synchronize()

        return queue

    def forward() -> None:
        with torch.no_grad():
            function(x)

    return {
        "forward": queue_of_torch(forward),
        "pullback": queue_of_torch(lambda: torch.autograd.grad(y, x, t, retain_graph=True)),
    }


def speed_of(one: Function, dtype: str, scale: Scale) -> list[Row]:
    """A function's two passes, beside a copy and its peers."""
    x = _input(dtype, scale.bytes // jnp.dtype(dtype).itemsize)
    copy = queue_of(_copy(dtype, x.shape), x)
    candidates: dict[str, dict[str, Any]] = {"forward": {}, "pullback": {}}
    moved = {}
    for library, function in (("jaxact", one.call), ("jax.nn", one.jax_nn)):
        if function is None:
            continue
        forward = _compiled(function, x)
        t = jnp.ones_like(y := forward(x))
        residuals = _compiled(_pullback(function), x)(x)
        back = _compiled(_apply, residuals, t)
        candidates["forward"][library] = queue_of(forward, x)
        candidates["pullback"][library] = queue_of(back, residuals, t)
        if library == "jaxact":
            moved = {"forward": _bytes(x, y), "pullback": _bytes(residuals, t, x)}
    if one.torch is not None:
        size = scale.bytes // jnp.dtype(dtype).itemsize
        for passes, queue in _torch_queues(one.torch, dtype, size).items():
            candidates[passes]["PyTorch"] = queue
    rows = []
    for passes, queues in candidates.items():
        seconds = fastest({"copy": copy, **queues}, scale)
        rows.append(
            {
                "function": one.name,
                "dtype": dtype,
                "pass": passes,
                "seconds": seconds,
                "bytes": moved[passes],
                "copied": _bytes(x, x),
                "share": moved[passes] / _bytes(x, x) * seconds["copy"] / seconds["jaxact"],
            }
        )
    return rows


def speed(scale: Scale, until: float) -> Iterator[Event]:
    found, others = functions()
    for name in others:
        yield {"item": name, "left out": "it takes more than one array"}
    yield from each(
        {
            f"{one.name}, {dtype}": functools.partial(speed_of, one, dtype, scale)
            for dtype in ("bfloat16", "float32")
            for one in found
        },
        until,
    )


def speed_shortfalls(rows: Sequence[Row]) -> list[str]:
    found = []
    for row in rows:
        target = RRELU_SHARE if row["function"] == "rrelu" else SHARE
        if row["share"] < target:
            which = f"{row['function']} {row['pass']}, {row['dtype']}"
            found.append(f"{which}: {row['share']:.2f} of a copy's bandwidth (target {target:.2f})")
    return found


def speed_tables(rows: Sequence[Row]) -> Iterator["Table"]:
    header = ["function"]
    for passes in ("forward", "pullback"):
        header += [f"{passes}, ms", "÷ copy's bandwidth", "jax.nn ÷ jaxact", "PyTorch ÷ jaxact"]
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        lines: dict[str, list[str]] = {}
        copy = 0.0
        for row in rows:
            if row["dtype"] == dtype:
                seconds = row["seconds"]
                copy = max(copy, row["copied"] / seconds["copy"] / 1e9)
                ratios = [
                    f"{seconds[peer] / seconds['jaxact']:.2f}" if peer in seconds else ""
                    for peer in ("jax.nn", "PyTorch")
                ]
                cells = [f"{seconds['jaxact'] * 1e3:.3f}", f"{row['share']:.2f}", *ratios]
                lines.setdefault(row["function"], [row["function"]]).extend(cells)
        yield Table(f"Speed, {dtype}; a copy: {copy:.0f} GB/s", header, list(lines.values()))


# ------------------------------------------------------------------------------------------------
# blocks

Layer = Callable[..., jax.Array]
DOTS = jax.checkpoint_policies.dots_saveable


def _plain_mlp(x: jax.Array, w_in: jax.Array, w_out: jax.Array) -> jax.Array:
    return x + jax.nn.gelu(x @ w_in) @ w_out


def _mlp(x: jax.Array, w_in: jax.Array, w_out: jax.Array) -> jax.Array:
    return x + jaxact.mlp(x, w_in, w_out, activation="gelu")


def _plain_gated(x: jax.Array, gate: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    return x + (jax.nn.silu(x @ gate) * (x @ up)) @ down


def _gated(x: jax.Array, gate: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    return x + jaxact.gated_mlp(x, gate, up, down, activation="silu")


#: By block and way; jax.nn and jaxact first, because they are compared.
LAYERS: dict[str, dict[str, Layer]] = {
    block: {
        "jax.nn": plain,
        "jaxact": ours,
        "jax.nn, checkpoint": jax.checkpoint(plain),
        "jax.nn, dots_saveable": jax.checkpoint(plain, policy=DOTS),
    }
    for block, plain, ours in (
        ("mlp", _plain_mlp, _mlp),
        ("gated_mlp", _plain_gated, _gated),
    )
}


def step(layer: Layer, loop: str) -> Callable[[jax.Array, Any], Any]:
    """Loss and all gradients of layers: the weights are stacked for a scan, else a list."""

    def loss(x: jax.Array, weights: Any) -> jax.Array:
        if loop == "scan":
            x, _ = lax.scan(lambda x, w: (layer(x, *w), None), x, weights)
        else:
            for w in weights:
                x = layer(x, *w)
        return jnp.sum(jnp.square(x.astype(jnp.float32)))

    return jax.value_and_grad(loss, argnums=(0, 1))


def shapes(block: str, loop: str, scale: Scale) -> tuple[Any, Any]:
    """Of the step's arguments."""
    hidden = scale.hidden if block == "mlp" else scale.gated_hidden
    wide, back = (scale.width, hidden), (hidden, scale.width)
    weights = (wide, back) if block == "mlp" else (wide, wide, back)

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.bfloat16)

    x = array(scale.tokens, scale.width)
    if loop == "scan":
        return x, tuple(array(scale.layers, *shape) for shape in weights)
    return x, [tuple(array(*shape) for shape in weights) for _ in range(scale.layers)]


def _drawn(tree: Any) -> Any:
    """Random arrays of some shapes; of weights, small ones."""

    def draw(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.normal(key, shape, jnp.bfloat16) / math.sqrt(shape[-2])

    drawn = jax.jit(draw, static_argnums=1)
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    arrays = [drawn(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, arrays)


def _peak() -> int:
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def _planned(program: Any) -> int:
    plan = program.memory_analysis()
    return plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes


def measured_steps(programs: Mapping[str, Any], arguments: Any, scale: Scale) -> list[Row]:
    """Peak and time of steps, in the order of their plans."""
    planned = {way: _planned(program) for way, program in programs.items()}
    ordered = sorted(programs, key=planned.__getitem__)
    peaks = {}
    for way in ordered:
        before = _peak()
        jax.block_until_ready(programs[way](*arguments))
        peaks[way] = _peak() if _peak() > before else None
    few = dataclasses.replace(scale, repeats=2, rounds=3)  # A step takes a fifth of a second.
    queues = {way: queue_of(programs[way], *arguments) for way in ordered}
    seconds = fastest(queues, few)
    return [
        {"way": way, "seconds": seconds[way], "planned": planned[way], "peak": peaks[way]}
        for way in programs
    ]


def blocks(block: str, loop: str, scale: Scale, until: float) -> Iterator[Event]:
    arguments = shapes(block, loop, scale)
    programs: dict[str, Any] = {}

    def compile_(way: str) -> list[Row]:
        programs[way] = _compiled(step(LAYERS[block][way], loop), *arguments)
        return []

    def measure() -> list[Row]:
        rows = measured_steps(programs, _drawn(arguments), scale)
        return [{"block": block, "loop": loop, **row} for row in rows]

    # A quarter of the time is for the steps of what was compiled.
    compiled = until - (until - time.time()) / 4
    yield from each({way: functools.partial(compile_, way) for way in LAYERS[block]}, compiled)
    if programs:
        yield from each({"steps": measure}, until)
    else:
        yield {"item": "steps", "left out": "no step was compiled"}


def blocks_shortfalls(rows: Sequence[Row]) -> list[str]:
    """Where jaxact's block is slower than jax.nn's expression, or needs more memory."""
    by_way = {row["way"]: row for row in rows}
    if not {"jax.nn", "jaxact"} <= set(by_way):
        return []
    plain, ours = by_way["jax.nn"], by_way["jaxact"]
    found = []
    if (ratio := plain["seconds"] / ours["seconds"]) < STEP_RATIO:
        found.append(f"step of jax.nn ÷ jaxact: {ratio:.2f} (target {STEP_RATIO:.2f})")
    for figure in ("planned", "peak"):
        if plain[figure] and ours[figure] and ours[figure] > plain[figure]:
            found.append(f"{figure} memory: {ours[figure] / plain[figure]:.2f} of jax.nn's")
    return [f"{ours['block']}, {ours['loop']}: {text}" for text in found]


def blocks_tables(rows: Sequence[Row]) -> Iterator["Table"]:
    header = ["step", "ms", "÷ jax.nn", "peak, GiB", "planned, GiB"]
    plain = next((row["seconds"] for row in rows if row["way"] == "jax.nn"), math.nan)
    lines = [
        [
            row["way"],
            f"{row['seconds'] * 1e3:.2f}",
            f"{row['seconds'] / plain:.2f}",
            f"{row['peak'] / GIB:.2f}" if row["peak"] else "",
            f"{row['planned'] / GIB:.2f}",
        ]
        for row in rows
    ]
    if rows:
        yield Table(f"{rows[0]['block']}, {rows[0]['loop']}, bfloat16", header, lines)


# ------------------------------------------------------------------------------------------------
# accuracy


@dataclasses.dataclass(frozen=True)
class Reference:
    """Value and slope in float64, and a zero of the slope that is no kink."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    slope_zero: float | None = None


def _sigmoid(x: Array) -> Array:
    e = np.exp(-abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


def _silu_slope(x: Array) -> Array:
    return _sigmoid(x) * (1 + x * _sigmoid(-x))


def _gelu_argument(x: Array) -> Array:
    return 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def _gelu_slope(x: Array) -> Array:
    x = np.clip(x, -1e3, 1e3)  # Or infinity times 0.
    v = _gelu_argument(x)
    du = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return _sigmoid(v) * (1 + x * du * _sigmoid(-v))


def _normal_cdf(x: Array) -> Array:
    erfc = np.frompyfunc(math.erfc, 1, 1)
    return np.asarray(erfc(-x / math.sqrt(2)), np.float64) / 2


def _normal_density(x: Array) -> Array:
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _mish_slope(x: Array) -> Array:
    s = _softplus(x)
    return np.tanh(s) + x * _sigmoid(x) / np.cosh(np.minimum(s, 300)) ** 2


def _tanh_shrink(x: Array) -> Array:
    # (x cosh(x) - sinh(x)) / cosh(x), its numerator as a series where it cancels.
    near = np.clip(x, -1, 1)
    series = sum(2 * k / math.factorial(2 * k + 1) * near ** (2 * k + 1) for k in range(1, 12))
    return np.where(abs(x) < 1, series / np.cosh(near), x - np.tanh(x))


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _xielu(x: Array) -> Array:
    negative = np.minimum(x, 0)
    below = _EIGHT_TENTHS * (np.expm1(negative) - negative) + 0.5 * negative
    return np.where(x > 0, x * (_EIGHT_TENTHS * x + 0.5), below)


def _xielu_slope(x: Array) -> Array:
    slope = np.where(x > 0, 2 * x, np.expm1(np.minimum(x, 0)))
    return _EIGHT_TENTHS * slope + 0.5


def _squareplus(x: Array) -> Array:
    r = np.hypot(x, 2)
    return np.where(x > 0, (x + r) / 2, 2 / np.where(x > 0, 1, r - x))


def _leaky(slope: float) -> Reference:
    return Reference(lambda x: np.where(x < 0, slope * x, x), lambda x: np.where(x < 0, slope, 1.0))


_LAMBDA, _ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
#: By function, with the parameters that it is measured with.
REFERENCES: dict[str, Reference] = {
    "identity": Reference(lambda x: x, np.ones_like),
    "relu": Reference(lambda x: np.maximum(x, 0), lambda x: x > 0),
    "relu6": Reference(lambda x: np.clip(x, 0, 6), lambda x: (x > 0) & (x < 6)),
    "leaky_relu": _leaky(0.01),
    "prelu": _leaky(0.25),
    "rrelu": _leaky(11 / 48),
    "threshold": Reference(lambda x: np.where(x > 0.5, x, 0), lambda x: x > 0.5),
    "hard_shrink": Reference(lambda x: np.where(abs(x) > 0.5, x, 0), lambda x: abs(x) > 0.5),
    "soft_shrink": Reference(
        lambda x: np.sign(x) * np.maximum(abs(x) - 0.5, 0), lambda x: abs(x) > 0.5
    ),
    "hard_tanh": Reference(lambda x: np.clip(x, -1, 1), lambda x: abs(x) <= 1),
    "hard_sigmoid": Reference(
        lambda x: np.clip(x + 3, 0, 6) / 6, lambda x: np.where(abs(x) < 3, 1 / 6, 0)
    ),
    "sparse_sigmoid": Reference(
        lambda x: np.clip((x + 1) / 2, 0, 1),
        lambda x: np.where(abs(x) < 1, 0.5, np.where(abs(x) == 1, 0.25, 0)),
    ),
    "elu": Reference(_elu, lambda x: np.exp(np.minimum(x, 0))),
    "celu": Reference(_elu, lambda x: np.exp(np.minimum(x, 0))),
    "selu": Reference(
        lambda x: _LAMBDA * np.where(x > 0, x, _ALPHA * _elu(x)),
        lambda x: _LAMBDA * np.where(x > 0, 1, _ALPHA * np.exp(np.minimum(x, 0))),
    ),
    "silu": Reference(lambda x: x * _sigmoid(x), _silu_slope, -1.278464542761074),
    "quick_gelu": Reference(
        lambda x: x * _sigmoid(1.702 * x),
        lambda x: _silu_slope(1.702 * x),
        -1.278464542761074 / 1.702,
    ),
    "gelu": Reference(lambda x: x * _sigmoid(_gelu_argument(x)), _gelu_slope, -0.752461422071016),
    "gelu(approximate=False)": Reference(
        lambda x: x * _normal_cdf(x),
        lambda x: _normal_cdf(x) + x * _normal_density(x),
        -0.751791524693564,
    ),
    "mish": Reference(lambda x: x * np.tanh(_softplus(x)), _mish_slope, -1.192431214515496),
    "sigmoid": Reference(_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "softplus": Reference(_softplus, _sigmoid),
    "log_sigmoid": Reference(lambda x: -_softplus(-x), lambda x: _sigmoid(-x)),
    # 1 - tanh^2 cancels.
    "tanh": Reference(np.tanh, lambda x: 4 * _sigmoid(2 * x) * _sigmoid(-2 * x)),
    "tanh_shrink": Reference(_tanh_shrink, lambda x: np.tanh(x) ** 2),
    "soft_sign": Reference(lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
    "squareplus": Reference(_squareplus, lambda x: _squareplus(x) / np.hypot(x, 2)),
    "relu_squared": Reference(lambda x: np.maximum(x, 0) ** 2, lambda x: 2 * np.maximum(x, 0)),
    "hard_silu": Reference(
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
        lambda x: np.where(x <= -3, 0, np.where(x >= 3, 1, (2 * x + 3) / 6)),
        -1.5,
    ),
    "leaky_relu_squared": Reference(
        lambda x: np.where(x < 0, 0.5 * x, x) ** 2, lambda x: np.where(x < 0, 0.5, 2) * x
    ),
    "surrogate_relu": Reference(
        lambda x: np.maximum(x, 0),
        lambda x: _sigmoid(x) * (1 + (x + 1.67) * _sigmoid(-x)),
        -2.734900466549757,
    ),
    "xielu": Reference(_xielu, _xielu_slope, math.log(1 - 0.5 / _EIGHT_TENTHS)),
    "softcap": Reference(
        lambda x: 30 * np.tanh(x / 30), lambda x: 4 * _sigmoid(x / 15) * _sigmoid(-x / 15)
    ),
    "snake": Reference(
        lambda x: x + np.sin(x) ** 2,
        lambda x: np.where(abs(x) < 2**16, (np.sin(x) + np.cos(x)) ** 2, 1),
    ),
    "sparse_plus": Reference(
        lambda x: np.where(x <= -1, 0, np.where(x >= 1, x, (x + 1) ** 2 / 4)),
        lambda x: np.clip((x + 1) / 2, 0, 1),
    ),
}
#: What stands for an error that is infinite: a NaN, or infinity in place of a number.
WRONG = 1e9


def ulp_errors(result: Array, reference: Array) -> Array:
    """|result - reference| in ULP of the result's dtype at the reference.

    0 in place of a subnormal number counts as right, except in float16, which is computed in
    float32, where that number is normal.
    """
    info = jnp.finfo(result.dtype)
    tiny, largest = float(info.smallest_normal), float(info.max)
    exponent = np.frexp(np.maximum(abs(reference), tiny))[1] - 1
    ulp = np.ldexp(1.0, exponent - info.nmant)
    # From halfway to the next power of two on, the correctly rounded result is infinite.
    overflow = abs(reference) >= largest + np.ldexp(1.0, int(info.maxexp) - 2 - info.nmant)
    expected: Array = np.where(overflow, np.copysign(np.inf, reference), reference)
    got = result.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.where(got == expected, 0, abs(got - expected) / ulp)
    if result.dtype != np.float16:
        distance = np.where((abs(expected) < tiny) & (got == 0), 0, distance)
    return np.where(distance < WRONG, distance, WRONG)  # No comparison with NaN is true.


def inputs(dtype: str, samples: int) -> Array:
    """All finite numbers of 16 bits, or float32 of all exponents, and dense around 0.

    Not subnormal numbers of float32 and bfloat16, which the hardware may take for 0.
    """
    kind = jnp.dtype(dtype)
    x: Array
    if kind.itemsize == 2:
        x = np.arange(1 << 16, dtype=np.uint16).view(kind)
    else:
        rng = np.random.default_rng(3)
        patterns = rng.integers(0, 1 << 32, samples // 2, np.uint32).view(np.float32)
        x = np.concatenate([patterns, rng.uniform(-20, 20, samples // 2).astype(np.float32)])
    with np.errstate(invalid="ignore"):  # signalling NaNs
        exact = abs(x.astype(np.float64))
    return x[np.isfinite(exact) & ((exact == 0) | (exact >= float(jnp.finfo(jnp.float32).tiny)))]


def accuracy_of(name: str, call: Callable[..., Any], scale: Scale) -> list[Row]:
    """The largest errors of values and gradients, by dtype."""

    @jax.jit
    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, pullback = jax.vjp(call, x)
        return y, pullback(jnp.ones_like(y))[0]

    reference, rows = REFERENCES[name], []
    for dtype in ("bfloat16", "float16", "float32"):
        x = inputs(dtype, scale.samples)
        exact = x.astype(np.float64)
        with np.errstate(all="ignore"):
            value, gradient = (
                ulp_errors(np.asarray(result), np.asarray(formula(exact), np.float64))
                for result, formula in zip(both(x), (reference.value, reference.slope), strict=True)
            )
        zero = reference.slope_zero
        near = np.zeros(x.shape, bool) if zero is None else abs(exact - zero) < 1e-3
        away = np.where(near, 0, gradient)
        rows.append(
            {
                "function": name,
                "dtype": dtype,
                "value": float(value.max()),
                "value at": float(exact[value.argmax()]),
                "gradient": float(away.max()),
                "gradient at": float(exact[away.argmax()]),
                "gradient near its zero": float(gradient[near].max()) if near.any() else 0.0,
            }
        )
    return rows


def accuracy(scale: Scale, until: float) -> Iterator[Event]:
    items = {}
    for one in functions()[0]:
        if one.name not in REFERENCES:
            yield {"item": one.name, "left out": "no float64 formula of it here"}
            continue
        call = one.call
        if one.name == "rrelu":
            call = functools.partial(jaxact.rrelu, deterministic=True)
        items[one.name] = functools.partial(accuracy_of, one.name, call, scale)
    yield from each(items, until)


def accuracy_shortfalls(rows: Sequence[Row]) -> list[str]:
    limits = {"value": ULP, "gradient": ULP, "gradient near its zero": NEAR_ZERO_ULP}
    return [
        f"{row['function']}, {row['dtype']}: {figure} {row[figure]:.3f} ULP (target {limit})"
        for row in rows
        for figure, limit in limits.items()
        if row["dtype"] != "float32" and row[figure] > limit
    ]


def accuracy_tables(rows: Sequence[Row]) -> Iterator["Table"]:
    figures = ("value", "gradient", "gradient near its zero")
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        lines = [
            [
                row["function"],
                *(f"{row[f]:.3f}" for f in figures),
                *(f"{row[f'{f} at']:g}" if row[f] else "" for f in ("value", "gradient")),
            ]
            for row in rows
            if row["dtype"] == dtype
        ]
        header = ["function", *figures, "worst value at", "worst gradient at"]
        yield Table(f"Largest errors, {dtype}, in ULP", header, lines)


# ------------------------------------------------------------------------------------------------
# rrelu


def slopes_on(device: jax.Device, impl: str, bounds: Sequence[float], size: int) -> list[Array]:
    """The slopes that the forward pass and the backward pass of rrelu draw on a device."""
    with jax.default_device(device):
        x = -jnp.ones(size, jnp.float32)
        words = jax.random.key_data(jax.random.key(11, impl=impl))

    @jax.jit
    def draw(x: jax.Array, words: jax.Array) -> tuple[jax.Array, jax.Array]:
        key = jax.random.wrap_key_data(words, impl=impl)
        y, pullback = jax.vjp(lambda x: jaxact.rrelu(x, key, *bounds), x)
        return -y, pullback(jnp.ones_like(y))[0]

    return [np.asarray(slopes) for slopes in draw(jax.device_put(x, device), words)]


def rrelu_of(impl: str, scale: Scale) -> list[Row]:
    """How far the slopes of this backend are from the CPU's.

    Of slopes between 0 and 1 no operation rounds: they are the random bits themselves.
    """
    devices = [jax.devices()[0], jax.devices("cpu")[0]]
    rows = []
    for name, bounds in (("random bits", (0.0, 1.0)), ("slopes", (1 / 8, 1 / 3))):
        here, cpu = (slopes_on(device, impl, bounds, scale.slopes) for device in devices)
        for passes, a, b in zip(("forward", "backward"), here, cpu, strict=True):
            rows.append(
                {
                    "key": impl,
                    "figure": name,
                    "pass": passes,
                    "different": int((a.view(np.uint32) != b.view(np.uint32)).sum()),
                    "of": a.size,
                    "ulp": float((abs(a - b) / np.spacing(b)).max()),
                    "distinct": int(np.unique(a).size),
                }
            )
    return rows


def rrelu(scale: Scale, until: float) -> Iterator[Event]:
    if jax.default_backend() == "cpu":
        yield {"item": "another backend", "left out": "the CPU is compared with itself"}
    kinds = ("threefry2x32", "rbg")
    yield from each({kind: functools.partial(rrelu_of, kind, scale) for kind in kinds}, until)


def rrelu_shortfalls(rows: Sequence[Row]) -> list[str]:
    found = []
    for row in rows:
        limit = 0 if row["figure"] == "random bits" else 1
        if not row["ulp"] <= limit or (limit == 0 and row["different"]):
            found.append(
                f"{row['key']}, {row['pass']}: {row['different']} of {row['of']} {row['figure']} "
                f"differ from the CPU's, by {row['ulp']:g} ULP (at most {limit})"
            )
        # Equal slopes on both would be equal if none were random.
        if row["distinct"] < row["of"] / 2:
            found.append(f"{row['key']}, {row['pass']}: only {row['distinct']} distinct slopes")
    return found


def rrelu_tables(rows: Sequence[Row]) -> Iterator["Table"]:
    header = ["key", "figure", "pass", "different", "of", "ULP"]
    lines = [[*(str(row[k]) for k in header[:5]), f"{row['ulp']:g}"] for row in rows]
    yield Table("rrelu, beside the CPU", header, lines)


# ------------------------------------------------------------------------------------------------
# The sections


@dataclasses.dataclass(frozen=True)
class Table:
    title: str
    header: list[str]
    rows: list[list[str]]

    def text(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = [
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([f"\n{self.title}", *body])

    def markdown(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join([f"### {self.title}\n", *(f"| {' | '.join(line)} |" for line in lines)])


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the benchmark, which runs in a process of its own."""

    #: Its part of the minutes; what it does not use, the next ones have.
    share: float
    measure: Callable[[Scale, float], Iterator[Event]]
    shortfalls: Callable[[Sequence[Row]], list[str]]
    tables: Callable[[Sequence[Row]], Iterator[Table]]
    #: Whether small arrays say something about its targets.
    timed: bool = False


#: By priority.
SECTIONS: dict[str, Section] = {
    "speed": Section(0.45, speed, speed_shortfalls, speed_tables, timed=True),
    **{
        f"{block} {loop}": Section(
            0.09, functools.partial(blocks, block, loop), blocks_shortfalls, blocks_tables, True
        )
        for loop in ("scan", "unrolled")
        for block in LAYERS
    },
    "accuracy": Section(0.14, accuracy, accuracy_shortfalls, accuracy_tables),
    "rrelu": Section(0.05, rrelu, rrelu_shortfalls, rrelu_tables),
}


def machine() -> dict[str, str]:
    found = {"card": jax.devices()[0].device_kind, "JAX": jax.__version__}
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # There may be no such program.
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        found["driver"] = answer.stdout.partition("\n")[0].strip()
    return found


def work(section: Section, scale: Scale, until: float) -> None:
    """Measure a section, and print each event as a line of JSON."""
    print(json.dumps({"machine": machine()}), flush=True)
    for event in section.measure(scale, until):
        print(json.dumps(event), flush=True)


class NoGpuError(Exception):
    """A section found no GPU."""


def watch(
    command: Sequence[str], seconds: float, advance: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Run a section's command for so long at most, and gather its events.

    ``advance`` gets what there is after each of them.
    """
    found: dict[str, Any] = {"rows": [], "left out": {}, "failed": {}}
    waiting: dict[str, None] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            for line in process.stdout:
                if not line.startswith("{"):
                    continue
                event = json.loads(line)
                waiting.update(dict.fromkeys(event.get("planned", ())))
                waiting.pop(event.get("item", ""), None)
                found["rows"] += event.get("rows", ())
                found.update({k: event[k] for k in ("machine",) if k in event})
                for kind in ("left out", "failed"):
                    if kind in event:
                        found[kind][event["item"]] = event[kind]
                advance(found)
        finally:
            timer.cancel()
            process.kill()  # If this one is interrupted; else it has ended.
    if process.returncode == 2:
        raise NoGpuError
    if late.is_set():
        found["left out"].update(dict.fromkeys(waiting, "its section was stopped: no time left"))
    elif process.returncode:
        found["failed"]["the section"] = f"its process ended with status {process.returncode}"
        found["left out"].update(dict.fromkeys(waiting, "its section failed"))
    return found


def shortfalls(results: dict[str, Any], name: str) -> list[str]:
    """What of a section is below its target, or raised an error; and that it has no figure."""
    section, found = SECTIONS[name], results["sections"][name]
    failed = [f"{item} failed: {reason}" for item, reason in found["failed"].items()]
    if not found["rows"]:
        failed.append("nothing was measured")
    if results["quick"] and section.timed:
        return failed
    return [*failed, *section.shortfalls(found["rows"])]


def summary(results: dict[str, Any], name: str) -> list[str]:
    """A line of what is below its target, and one of what was left out for each reason."""
    found = results["sections"][name]
    below = "; ".join(shortfalls(results, name)) or "nothing"
    if SECTIONS[name].timed and results["quick"]:
        below += " (speed and memory are not judged on small arrays)"
    lines = [f"Below target, {name}: {below}."]
    reasons: dict[str, list[str]] = {}
    for item, reason in found["left out"].items():
        reasons.setdefault(reason, []).append(item)
    for reason, items in reasons.items():
        lines.append(f"Left out, {name} ({reason}): {'; '.join(items)}.")
    return lines


def title(results: dict[str, Any]) -> str:
    return ", ".join([*(f"{k} {v}" for k, v in results["machine"].items()), results["date"]])


def document(results: dict[str, Any]) -> str:
    """The part of docs/speed.md."""
    parts = [
        f"Written by `python -m benchmarks.gpu --docs`, which also says how it measures: "
        f"{title(results)}.",
    ]
    for name, found in results["sections"].items():
        parts += [table.markdown() for table in SECTIONS[name].tables(found["rows"])]
        parts.append("\n".join(f"- {line}" for line in summary(results, name)))
    return "\n\n".join(parts)


def run(minutes: float, quick: bool, path: Path) -> dict[str, Any]:
    """All sections, one after the other; ``path`` has at any moment what was measured."""
    start = time.time()
    results: dict[str, Any] = {
        "date": date.today().isoformat(),
        "minutes": minutes,
        "quick": quick,
        "machine": {},
        "sections": {},
    }
    names = list(SECTIONS)
    for i, name in enumerate(names):
        shares = [SECTIONS[n].share for n in names[i:]]
        now = time.time()
        # A section may be stopped late: the last one must still end in time.
        left = start + minutes * 60 - GRACE - now
        until = now + max(left, 0) * shares[0] / sum(shares)
        command = [sys.executable, __file__, "--section", name, "--until", str(until)]

        def advance(found: dict[str, Any], name: str = name) -> None:
            results["machine"] = found.pop("machine", results["machine"])
            results["sections"][name] = found
            write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())

        quickly = ["--quick"] if quick else []
        advance(watch([*command, *quickly], until + GRACE - now, advance))
        found = results["sections"][name]
        for table in SECTIONS[name].tables(found["rows"]):
            print(table.text())
        print("", *summary(results, name), sep="\n", flush=True)
    return results


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, help="in all (default: 8; with --quick: 3)")
    parser.add_argument("--quick", action="store_true", help="small arrays, on any backend")
    parser.add_argument("--docs", action="store_true", help="write the GPU part of docs/speed.md")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of gpu.json")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, default=math.inf, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.section:
        if not options.quick and jax.default_backend() != "gpu":
            print(
                f"No GPU: JAX sees {jax.devices()[0].device_kind} only. On a machine with an "
                'NVIDIA GPU (nvidia-smi), install its JAX with pip install "jax[cuda13]", and '
                "unset JAX_PLATFORMS; or pass --quick, which runs anywhere.",
                file=sys.stderr,
            )
            return 2
        work(SECTIONS[options.section], QUICK if options.quick else FULL, options.until)
        return 0
    if options.docs and options.quick:
        parser.error("--docs: the figures of --quick say nothing about a GPU")
    if options.docs:
        try:
            from benchmarks import pages  # Now, and not after minutes.
        except ImportError:
            parser.error("--docs: run it in a checkout, as python -m benchmarks.gpu --docs")
    options.out.mkdir(parents=True, exist_ok=True)
    minutes = options.minutes or (3 if options.quick else 8)
    try:
        results = run(minutes, options.quick, options.out / "gpu.json")
    except NoGpuError:
        return 2
    if options.docs:
        pages.write_section(pages.DOCS / "speed.md", "gpu", document(results))
    print(f"\n{title(results)}: {options.out / 'gpu.json'}")
    return 1 if any(shortfalls(results, name) for name in SECTIONS) else 0


if __name__ == "__main__":
    sys.exit(main())
