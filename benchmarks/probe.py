"""What a probe costs: the forward pass with it, beside the same without; a training step too.

    python -m benchmarks.probe            # about three minutes

An MLP of width 1024, four layers, a batch of 4096. Both run in turn, in one process; the fastest
round counts, and the median is shown beside it. The training step is the gradient by the weights:
`jaxact.probe_and_grad` beside ``jax.value_and_grad``.
"""

import argparse
from collections.abc import Callable

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxact
from benchmarks.speed import interleaved

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "gelu, exact": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "tanh": jax.numpy.tanh,
    "mish": jax.nn.mish,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "jaxact.gelu": jaxact.gelu,
    "jaxact.silu": jaxact.silu,
}


def ratios(
    activation: Callable[[jax.Array], jax.Array], rounds: int, training: bool
) -> tuple[float, float]:
    """Of the fastest times, and of the medians."""
    keys = jax.random.split(jax.random.key(0), 5)
    weights = [jax.random.normal(key, (1024, 1024)) / 32 for key in keys[1:]]
    x = jax.random.normal(keys[0], (4096, 1024))

    def model(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for w in weights:
            x = activation(x @ w)
        return x

    def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        return (model(weights, x) ** 2).mean()

    plain, probed = jax.jit(model), jax.jit(jaxact.probe(model))
    if training:
        plain, probed = jax.jit(jax.value_and_grad(loss)), jax.jit(jaxact.probe_and_grad(loss))
    times = interleaved(
        [
            lambda: jax.block_until_ready(plain(weights, x)),
            lambda: jax.block_until_ready(probed(weights, x)),
        ],
        rounds,
    )
    fastest, median = times.min(0), np.median(times, 0)
    return float(fastest[1] / fastest[0]), float(median[1] / median[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    for training in (False, True):
        title = "a training step" if training else "the forward pass"
        table = Table("activation", "fastest, probed / plain", "median", title=title)
        for name, activation in ACTIVATIONS.items():
            found = ratios(activation, rounds, training)
            table.add_row(name, *(f"{ratio:.2f}" for ratio in found))
        Console().print(table)


if __name__ == "__main__":
    main()
