"""What brings a dying network back, and how many dead units do harm.

    python -m benchmarks.dying            # minutes; writes benchmarks/results/dying.json
    python -m benchmarks.dying --quick    # seconds: it runs, its figures say nothing

Perceptrons of three layers of 64 ReLUs (He's initializer, zero biases) on scikit-learn's digits, 15
epochs of Adam with batches of 50, at several learning rates. Then 30 epochs at 0.01, which is the
best of them or near it, in four ways: with ReLU as it is, with leaky ReLU, with ReLU after
`jaxact.revive`, and afresh, with the initial weights. All four see the same batches.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence
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

    seeds: int = 16
    width: int = 64
    depth: int = 3
    epochs: int = 15
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1)
    more_epochs: int = 30
    smaller_rate: float = 0.01


QUICK = Problem(seeds=2, width=8, depth=1, epochs=1, rates=(0.01, 0.1), more_epochs=1)


WAYS = ("relu", "leaky_relu", "revive", "afresh")


def relu(x: jax.Array, layer: digits.Layer, key: jax.Array | None) -> jax.Array:
    return jaxact.relu(x)


def leaky_relu(x: jax.Array, layer: digits.Layer, key: jax.Array | None) -> jax.Array:
    return jaxact.leaky_relu(x)


def model(params: digits.Params, x: jax.Array) -> jax.Array:
    """The logits."""
    return digits.pre_activations(relu, params, x)[-1]


def _look(params: digits.Params, activation: digits.Activation) -> dict[str, jax.Array]:
    return {
        "dead": digits.off(activation, params),
        "accuracy": digits.accuracy(activation, params),
    }


def measure(
    problem: Problem, seeds: Sequence[int], ways: Sequence[str] = WAYS
) -> dict[str, dict[str, np.ndarray]]:
    """What is seen after the first epochs, and after each way to go on.

    Args:
      problem: the sizes, and the learning rates.
      seeds: of the weights and the batches.
      ways: of `WAYS`.

    Returns:
      By name, "accuracy" on the test images, in percent, (rates, seeds), and "dead", (rates, seeds,
      depth): the percentage of each layer's units that are positive on no training image, which
      with ReLU are the dead ones.

    Raises:
      RuntimeError: reviving has changed what a network computes on the training images.
    """
    x = jnp.asarray(digits.digits().train_x)

    def keys(seed: jax.Array) -> jax.Array:
        return jax.random.split(jax.random.key(seed), 3)

    def first(seed: jax.Array, rate: jax.Array) -> Any:
        of_params, of_training, _ = keys(seed)
        start = digits.perceptron(of_params, problem.depth, problem.width)
        params, *_ = digits.train(relu, start, of_training, rate, problem.epochs)
        _, report = jaxact.probe(model)(params, x)
        return start, params, report

    def on(activation: digits.Activation, params: digits.Params, seed: jax.Array) -> digits.Params:
        _, _, of_training = keys(seed)
        return digits.train(
            activation, params, of_training, problem.smaller_rate, problem.more_epochs
        )[0]

    def over_all(function: Any) -> Any:
        """Of two arguments, of which the second is the seed."""
        return jax.jit(jax.vmap(jax.vmap(function), in_axes=(0, None)))

    numbers, rates = jnp.asarray(seeds), jnp.asarray(problem.rates)
    over_rates = jax.vmap(jax.vmap(first, in_axes=(0, None)), in_axes=(None, 0))
    start, trained, reports = jax.jit(over_rates)(numbers, rates)
    train_relu = over_all(lambda params, seed: on(relu, params, seed))
    train_leaky = over_all(lambda params, seed: on(leaky_relu, params, seed))
    with_relu = jax.jit(jax.vmap(jax.vmap(lambda params: _look(params, relu))))
    with_leaky = jax.jit(jax.vmap(jax.vmap(lambda params: _look(params, leaky_relu))))
    found = {"at first": with_relu(trained)}
    if "relu" in ways:
        found["relu"] = with_relu(train_relu(trained, numbers))
    if "leaky_relu" in ways:
        leaky = train_leaky(trained, numbers)
        found["leaky_relu"] = with_leaky(leaky)
        found["leaky_relu, then ReLU again"] = with_relu(leaky)
    if "revive" in ways:
        revived = _revived(trained, reports, seeds)
        same = jax.jit(jax.vmap(jax.vmap(lambda a, b: (model(a, x) == model(b, x)).all())))
        if not same(trained, revived).all():
            raise RuntimeError(
                "reviving has changed what a network computes on the training images"
            )
        found["just revived"] = with_relu(revived)
        found["revive"] = with_relu(train_relu(revived, numbers))
    if "afresh" in ways:  # Initial weights do not depend on the rate.
        found["afresh"] = with_relu(train_relu(jax.tree.map(lambda p: p[:1], start), numbers))
    return {
        name: {what: np.asarray(value) for what, value in figures.items()}
        for name, figures in found.items()
    }


def _revived(trained: Any, reports: Any, seeds: Sequence[int]) -> Any:
    """All networks with their dead units revived: on the host, where `jaxact.revive` works."""
    trained, reports = jax.device_get((trained, reports))
    rates = len(jax.tree.leaves(trained)[0])
    rows = []
    for rate in range(rates):
        row = [
            jaxact.revive(
                *jax.tree.map(lambda a, rate=rate, at=at: a[rate, at], (trained, reports)),
                key=jax.random.key(seed),
            )
            for at, seed in enumerate(seeds)
        ]
        rows.append(jax.tree.map(lambda *a: np.stack(a), *row))
    return jax.tree.map(lambda *a: jnp.stack(a), *rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, nothing is saved")
    options = parser.parse_args(arguments)
    problem = QUICK if options.quick else Problem()
    start = time.perf_counter()
    found = measure(problem, range(problem.seeds))
    table = Table("rate", "then", "dead, %", "in the worst layer", "accuracy, %")
    for name, figures in found.items():
        for at, (dead, right) in enumerate(zip(figures["dead"], figures["accuracy"], strict=True)):
            rate = problem.smaller_rate if name == "afresh" else problem.rates[at]
            values = (dead.mean(axis=1), dead.max(axis=1), right)
            table.add_row(str(rate), name, *(str(results.interval(value)) for value in values))
    Console(width=140).print(table)
    if not options.quick:
        seconds = time.perf_counter() - start
        saved = {**dataclasses.asdict(problem), "found": found}
        results.save("dying", saved, command="python -m benchmarks.dying", seconds=seconds)


if __name__ == "__main__":
    main()
