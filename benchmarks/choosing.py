"""Ten activations in a narrow deep perceptron, at a moderate and at a high learning rate.

    python -m benchmarks.choosing            # minutes; writes benchmarks/results/choosing.json
    python -m benchmarks.choosing --quick    # seconds: it runs, its figures say nothing

Perceptrons of four layers of 64 units (He's initializer, zero biases) on scikit-learn's digits, 30
epochs of Adam with batches of 50. The same seeds have the same weights and the same batches with
each activation, so that differences can be paired. At the high rate units of ReLU die.
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


@dataclasses.dataclass(frozen=True)
class Problem:
    """The sizes, and the learning rates."""

    seeds: int = 32
    width: int = 64
    depth: int = 4
    epochs: int = 30
    rates: tuple[float, ...] = (0.002, 0.02)


QUICK = Problem(seeds=2, width=8, depth=1, epochs=1)


def _plain(name: str) -> digits.Activation:
    function: Callable[[jax.Array], jax.Array] = jaxact.get(name)
    return lambda x, layer, key: function(x)


def _prelu(x: jax.Array, layer: digits.Layer, key: jax.Array | None) -> jax.Array:
    return jaxact.prelu(x, layer["alpha"][None])


def _rrelu(x: jax.Array, layer: digits.Layer, key: jax.Array | None) -> jax.Array:
    return jaxact.rrelu(x, key=key, deterministic=key is None)


_NAMES = ("relu", "leaky_relu:0.01", "leaky_relu:0.2", "elu", "selu", "gelu", "silu", "mish")
ACTIVATIONS: dict[str, digits.Activation] = {
    **{name: _plain(name) for name in _NAMES},
    "prelu": _prelu,
    "rrelu": _rrelu,
}


def measure(name: str, problem: Problem, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """What comes of training with an activation, for each rate and seed.

    Args:
      name: of `ACTIVATIONS`.
      problem: the sizes.
      seeds: of the weights and the batches.

    Returns:
      "accuracy" on the test images, in percent, and the training "loss" of the last epoch, (rates,
      seeds); "dead", the percentage of each layer's units, (rates, seeds, depth). Of ``prelu`` also
      the mean, the least and the largest of each layer's slopes, (rates, seeds, depth, 3).
    """
    activation = ACTIVATIONS[name]

    def run(key: jax.Array, rate: jax.Array) -> dict[str, jax.Array]:
        of_params, of_training = jax.random.split(key)
        params = digits.perceptron(of_params, problem.depth, problem.width)
        if name == "prelu":
            slopes = jnp.full(problem.width, 0.25)  # He's start, and that of the layers.
            params = [*({**layer, "alpha": slopes} for layer in params[:-1]), params[-1]]
        params, losses, _ = digits.train(activation, params, of_training, rate, problem.epochs)
        found = {
            "accuracy": digits.accuracy(activation, params),
            "loss": losses[-1],
            "dead": digits.dead(activation, params),
        }
        if name == "prelu":
            alpha = jnp.stack([layer["alpha"] for layer in params[:-1]])
            found["slopes"] = jnp.stack([alpha.mean(1), alpha.min(1), alpha.max(1)], axis=1)
        return found

    return digits.of_all(run, seeds, problem.rates)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, nothing is saved")
    parser.add_argument("--only", nargs="+", choices=list(ACTIVATIONS), help="nothing is saved")
    options = parser.parse_args(arguments)
    problem = QUICK if options.quick else Problem()
    start = time.perf_counter()
    of_names: dict[str, Any] = {}
    table = Table("rate", "activation", "accuracy, %", "less relu's", "loss", "dead, %")
    for name in options.only or ACTIVATIONS:
        of_names[name] = measure(name, problem, range(problem.seeds))
    first = next(iter(of_names))
    for at, rate in enumerate(problem.rates):
        for name, found in of_names.items():
            right = found["accuracy"][at]
            values = right, right - of_names[first]["accuracy"][at], found["loss"][at]
            shares = (*values, found["dead"][at].mean(axis=1))
            table.add_row(str(rate), name, *(str(results.interval(value)) for value in shares))
    Console(width=140).print(table)
    if not options.quick and not options.only:
        seconds = time.perf_counter() - start
        figures = {**dataclasses.asdict(problem), "activations": of_names}
        results.save("choosing", figures, command="python -m benchmarks.choosing", seconds=seconds)


if __name__ == "__main__":
    main()
