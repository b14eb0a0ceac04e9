"""Plain recurrent nets on pixels, one at a time, by activation and initial recurrent weights.

    python -m benchmarks.recurrent             # minutes; saves benchmarks/results/recurrent.json
    python -m benchmarks.recurrent --quick     # seconds: it runs, its figures say nothing

scikit-learn's digits, read as sequences of 64 pixels: h <- f(h W + x u + b), and the last h is
classified. W is at first orthogonal or the identity (Le, Jaitly and Hinton, arXiv 1504.00941, with
relu). Adam, gradients clipped to norm 1; each arm at the rate of the best validation accuracy. All
seeds and rates train in one vmap.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from rich.console import Console
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxact
from benchmarks import results

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jaxact.tanh,
    "relu": jaxact.relu,
    "leaky_relu 0.2": lambda x: jaxact.leaky_relu(x, 0.2),
}
STARTS = ("orthogonal", "identity")


@dataclasses.dataclass(frozen=True)
class Problem:
    """The sizes."""

    seeds: int = 8
    steps: int = 1000
    batch: int = 64
    width: int = 32
    rates: tuple[float, ...] = (1e-3, 3e-3)


def data() -> tuple[np.ndarray, ...]:
    """Images and labels to train, to choose the rate, and to test."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    x, test_x, y, test_y = train_test_split(
        images, labels, test_size=0.2, random_state=0, stratify=labels
    )
    x, valid_x, y, valid_y = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    return x, y, valid_x, valid_y, test_x, test_y


def train(
    activation: Callable[[jax.Array], jax.Array], start: str, problem: Problem
) -> dict[str, np.ndarray]:
    """By rate and seed: accuracies in percent, and the share of units dead in all steps."""
    x, y, valid_x, valid_y, test_x, test_y = map(jnp.asarray, data())
    width = problem.width

    def model(params: dict[str, Any], pixels: jax.Array) -> jax.Array:
        def cell(h: jax.Array, pixel: jax.Array) -> tuple[jax.Array, None]:
            z = h @ params["w"] + pixel[:, None] * params["u"][None] + params["b"][None]
            return activation(z), None

        h, _ = lax.scan(cell, jnp.zeros((len(pixels), width)), pixels.T)
        return h @ params["out"] + params["shift"][None]

    def run(rate: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        of_w, of_u, of_out, of_data = jax.random.split(key, 4)
        orthogonal = jax.nn.initializers.orthogonal()
        params = {
            "w": orthogonal(of_w, (width, width)) if start == "orthogonal" else jnp.eye(width),
            "u": jax.random.normal(of_u, (width,)) * 0.1,
            "b": jnp.zeros(width),
            "out": jaxact.initializers.lecun_normal()(of_out, (width, 10)),
            "shift": jnp.zeros(10),
        }
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())

        def loss(params: dict[str, Any], x: jax.Array, y: jax.Array) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(params, x), y).mean()

        def step(carry: tuple, number: jax.Array) -> tuple[tuple, None]:
            params, state = carry
            chosen = jax.random.randint(
                jax.random.fold_in(of_data, number), (problem.batch,), 0, len(x)
            )
            gradient = jax.grad(loss)(params, x[chosen], y[chosen])
            updates, state = optimizer.update(gradient, state)
            updates = jax.tree.map(lambda u: -rate * u, updates)
            return (optax.apply_updates(params, updates), state), None

        carry = params, optimizer.init(params)
        (params, _), _ = lax.scan(step, carry, jnp.arange(problem.steps))

        def accuracy(x: jax.Array, y: jax.Array) -> jax.Array:
            return 100 * (model(params, x).argmax(-1) == y).astype(jnp.float32).mean()

        _, report = jaxact.probe(model)(params, x)
        return {
            "validation": accuracy(valid_x, valid_y),
            "test": accuracy(test_x, test_y),
            "train": accuracy(x, y),
            "dead": 100 * report.records[0].dead.astype(jnp.float32).mean(),
        }

    keys = jax.random.split(jax.random.key(0), problem.seeds)
    over = jax.vmap(jax.vmap(run, (None, 0)), (0, None))
    with jax.numpy_dtype_promotion("standard"):
        found = jax.jit(over)(jnp.array(problem.rates), keys)
    return {name: np.asarray(values) for name, values in found.items()}


def at_the_best_rate(found: dict[str, np.ndarray], problem: Problem) -> dict[str, Any]:
    """The figures of the rate with the highest mean validation accuracy."""
    best = int(found["validation"].mean(1).argmax())
    return {"rate": problem.rates[best], **{name: values[best] for name, values in found.items()}}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, nothing is saved")
    options = parser.parse_args(arguments)
    problem = Problem(seeds=2, steps=4, batch=8, width=8) if options.quick else Problem()
    console = Console()
    start = time.perf_counter()
    figures: dict[str, dict[str, Any]] = {}
    for of_weights in STARTS:
        for name, activation in ACTIVATIONS.items():
            arm = f"{name}, {of_weights}"
            figures[arm] = at_the_best_rate(train(activation, of_weights, problem), problem)
            console.print(
                f"{arm}: test accuracy {results.interval(figures[arm]['test'])} at rate "
                f"{figures[arm]['rate']}, dead {figures[arm]['dead'].mean():.1f}%"
            )
    if not options.quick:
        seconds = time.perf_counter() - start
        command = "python -m benchmarks.recurrent"
        console.print(
            str(results.save("recurrent", figures, command=command, seconds=seconds).name)
        )


if __name__ == "__main__":
    main()
