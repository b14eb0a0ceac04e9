"""How many units die in training, with ReLU and leaky ReLU, by learning rate and by depth.

    python -m benchmarks.born_dead            # minutes; writes benchmarks/results/born_dead.json
    python -m benchmarks.born_dead --quick    # seconds: it runs, its figures say nothing

Perceptrons of layers of 32 units (He's initializer, zero biases) on scikit-learn's digits, 15
epochs of Adam with batches of 50. With ReLU and with leaky ReLU (slope 0.01) the same seeds have
the same weights and the same batches. At first four layers at several learning rates, then several
depths at one rate. `jaxact.probe` looks at all training images, before training and after each
epoch. The units that are "off" are positive on no training image: with ReLU these are the dead
ones, with leaky ReLU they have a slope nevertheless.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxact
from benchmarks import digits, results

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jaxact.relu,
    "leaky_relu": jaxact.leaky_relu,
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """The sizes, and what is varied."""

    seeds: int = 32
    width: int = 32
    epochs: int = 15
    depth: int = 4
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)
    depths: tuple[int, ...] = (2, 4, 8, 16)
    rate: float = 0.003


QUICK = Problem(seeds=2, width=8, epochs=1, depth=1, rates=(0.1,), depths=())


def measure(
    name: str, problem: Problem, depth: int, rates: Sequence[float], seeds: Sequence[int]
) -> dict[str, np.ndarray]:
    """Percentages of each rate and seed.

    Args:
      name: of the activation.
      problem: the sizes.
      depth: the number of hidden layers.
      rates: of Adam.
      seeds: of the weights and the batches.

    Returns:
      "dead": the share of dead units before training and after each epoch, (rates, seeds, 1 +
      epochs); "dead by layer" after the last, (rates, seeds, depth); "off" of units that are
      positive on no training image and "accuracy" on the test images, (rates, seeds).
    """
    function = ACTIVATIONS[name]

    def activation(x: jax.Array, layer: digits.Layer, key: jax.Array | None) -> jax.Array:
        return function(x)

    def look(params: digits.Params) -> jax.Array:
        return digits.dead(activation, params)

    def run(key: jax.Array, rate: jax.Array) -> dict[str, jax.Array]:
        of_params, of_training = jax.random.split(key)
        start = digits.perceptron(of_params, depth, problem.width)
        params, _, dead = digits.train(activation, start, of_training, rate, problem.epochs, look)
        return {
            "dead": jnp.concatenate([look(start)[None], dead]).mean(axis=1),
            "dead by layer": dead[-1],
            "off": digits.off(activation, params).mean(),
            "accuracy": digits.accuracy(activation, params),
        }

    return digits.of_all(run, seeds, rates)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, nothing is saved")
    options = parser.parse_args(arguments)
    problem = QUICK if options.quick else Problem()
    seeds = range(problem.seeds)
    start = time.perf_counter()
    figures: dict[str, Any] = {**dataclasses.asdict(problem), "by rate": {}, "by depth": {}}
    table = Table("", "activation", "dead at first, %", "dead, %", "off, %", "accuracy, %")

    def add(what: str, name: str, found: dict[str, np.ndarray], at: int) -> None:
        shares = found["dead"][at, :, 0], found["dead"][at, :, -1], found["off"][at]
        values = (*shares, found["accuracy"][at])
        table.add_row(what, name, *(str(results.interval(value)) for value in values))

    for name in ACTIVATIONS:
        found = measure(name, problem, problem.depth, problem.rates, seeds)
        figures["by rate"][name] = found
        for at, rate in enumerate(problem.rates):
            add(f"rate {rate}", name, found, at)
        figures["by depth"][name] = {}
        for depth in problem.depths:
            found = measure(name, problem, depth, [problem.rate], seeds)
            figures["by depth"][name][depth] = found
            add(f"{depth} layers", name, found, 0)
    Console(width=140).print(table)
    if not options.quick:
        seconds = time.perf_counter() - start
        results.save(
            "born_dead", figures, command="python -m benchmarks.born_dead", seconds=seconds
        )


if __name__ == "__main__":
    main()
