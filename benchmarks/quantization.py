"""The cells of `autodiff(residual="quantized")`: ``python -m benchmarks.quantization``.

A quantized derivative is constant on each of 2, 4 ... 2^bits cells of the input. The cells and the
constants are those of the least mean squared error under a standard normal input: dynamic
programming over all cell boundaries on a grid finds them. A constant is kept as an input whose
slope it is, so that decoding is evaluating the slope.

Writes jaxact/_core/cells.py; ``--check`` compares with it instead.
"""

import argparse
import itertools
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

import jaxact

OUTPUT = Path(__file__).parent.parent / "jaxact" / "_core" / "cells.py"
BITS = (2, 3, 4)
#: Cell boundaries are multiples of 1/64, up to 5 (of 6: what lies beyond decides nothing).
GRID = np.arange(-5 * 64, 5 * 64 + 1) / 64

#: The function of each name of a declaration, and whether 0 must be a boundary: where a parameter
#: scales one side only, or the slope jumps.
FUNCTIONS: dict[str, tuple[Callable[..., jax.Array], bool]] = {
    "elu": (jaxact.elu, True),
    "celu": (jaxact.celu, True),
    "selu": (jaxact.selu, True),
    "silu": (jaxact.silu, False),
    "quick_gelu": (jaxact.quick_gelu, False),
    "gelu": (jaxact.gelu, False),
    "gelu_erf": (lambda x: jaxact.gelu(x, approximate=False), False),
    "mish": (jaxact.mish, False),
    "sigmoid": (jaxact.sigmoid, False),
    "softplus": (jaxact.softplus, False),
    "log_sigmoid": (jaxact.log_sigmoid, False),
    "tanh": (jaxact.tanh, False),
    "tanh_shrink": (jaxact.tanh_shrink, False),
    "soft_sign": (jaxact.soft_sign, False),
    "squareplus": (jaxact.squareplus, False),
    "hard_silu": (jaxact.hard_silu, False),
    "sparse_plus": (jaxact.sparse_plus, False),
}

Slope = Callable[[np.ndarray], np.ndarray]


def slope_of(function: Callable[..., jax.Array]) -> Slope:
    """The derivative, in float64."""
    gradient = jax.jit(jax.vmap(jax.grad(function)))
    return lambda x: np.asarray(gradient(np.asarray(x, np.float64)))


def optimal_boundaries(slope: Slope, cells: int, zero_is_boundary: bool) -> list[float]:
    """The inner boundaries of the cells with the least mean squared error."""
    edges = np.concatenate([[-np.inf], GRID, [np.inf]])
    finite = np.clip(edges, -6, 6)
    weight = np.diff(norm.cdf(edges))
    f = slope((finite[1:] + finite[:-1]) / 2)
    total, first, second = (
        np.concatenate([[0], np.cumsum(weight * power)]) for power in (1, f, f * f)
    )
    n = len(weight)
    # cost[i, j] is the squared error of one constant between the edges i < j.
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (first[None] - first[:, None]) ** 2 / (total[None] - total[:, None])
    cost = second[None] - second[:, None] - mean
    cost[np.tril_indices(n + 1)] = np.inf
    if zero_is_boundary:
        zero = int(np.searchsorted(edges, 0))
        cost[:zero, zero + 1 :] = np.inf

    best = cost[0]
    choices = []
    for _ in range(cells - 1):
        candidates = best[:, None] + cost
        choices.append(candidates.argmin(0))
        best = candidates.min(0)
    boundaries, j = [], n
    for choice in reversed(choices):
        j = choice[j]
        boundaries.append(float(edges[j]))
    return boundaries[::-1]


def representative(slope: Slope, low: float, high: float) -> float:
    """The input in a cell whose slope is the mean slope under a standard normal input."""
    x = np.linspace(max(low, -40), min(high, 40), 80_001)
    f, weight = slope(x), norm.pdf(x)
    level = float((weight * f).sum() / weight.sum())
    error = np.abs(f - level)
    # Where the slope is constant, the middle.
    nearest = int(np.median(np.flatnonzero(error == error.min())))
    for i in (nearest - 1, nearest):
        if 0 <= i < len(x) - 1 and (f[i] - level) * (f[i + 1] - level) < 0:
            return float(
                brentq(lambda x: float(slope(np.array([x]))[0]) - level, x[i], x[i + 1], xtol=1e-9)
            )
    return float(x[nearest])


def cells(function: Callable[..., jax.Array], zero_is_boundary: bool, bits: int) -> str:
    """The entry of one function: boundaries, representatives, largest error."""
    slope = slope_of(function)
    boundaries = optimal_boundaries(slope, 2**bits, zero_is_boundary)
    ends = [-np.inf, *boundaries, np.inf]
    inputs = [round(representative(slope, *cell), 6) for cell in itertools.pairwise(ends)]
    x = np.concatenate([np.linspace(-50, 50, 400_001), [-1e6, 1e6]])
    levels = slope(np.array(inputs))[np.searchsorted(boundaries, x)]
    error = np.ceil(np.abs(slope(x) - levels).max() * 1e3) / 1e3
    entry = f"{bits}: Cells({tuple(boundaries)}, {tuple(inputs)}, {error:.3f}),"
    return textwrap.fill(entry, 100, initial_indent=" " * 8, subsequent_indent=" " * 12)


def module() -> str:
    """The text of the generated module."""
    lines = [
        '"""Where to cut the input of a smooth function for a piecewise constant derivative.',
        "",
        "Written by benchmarks/quantization.py, which says how; do not edit.",
        '"""',
        "",
        "from typing import NamedTuple",
        "",
        "",
        "class Cells(NamedTuple):",
        '    """Cell i is from boundary i - 1 to i; its derivative is that at representative i."""',
        "",
        "    boundaries: tuple[float, ...]",
        "    representatives: tuple[float, ...]",
        "    #: The largest error of the derivative, over all inputs.",
        "    error: float",
        "",
        "",
        "# fmt: off",
        "#: By function and bits.",
        "CELLS: dict[str, dict[int, Cells]] = {",
    ]
    for name, arguments in FUNCTIONS.items():
        lines.append(f'    "{name}": {{')
        lines += [cells(*arguments, bits) for bits in BITS]
        lines.append("    },")
    return "\n".join([*lines, "}"]) + "\n"


def main() -> None:
    """Write or check the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    with jax.enable_x64(True):
        text = module()
    if not check:
        OUTPUT.write_text(text)
    elif OUTPUT.read_text() != text:
        sys.exit(f"{OUTPUT} is not what this script writes; run it without --check.")


if __name__ == "__main__":
    main()
