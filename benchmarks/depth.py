"""How deep a plain network can be, by activation and initial gain: no normalisation, no skips.

    python -m benchmarks.depth            # five minutes on two cores; writes results/depth.json
    python -m benchmarks.depth --quick    # seconds: it runs, its figures say nothing

Two parts:

- `signals`: what 100 layers of width 64 make of two inputs and of a gradient, before any training.
- `train`: accuracy on scikit-learn's digits after the same number of SGD steps with momentum, as in
  the papers, at each of three learning rates. A cell, an activation at a depth, is judged at the
  rate with the best mean accuracy on 300 images for validation; its accuracy on 300 others counts.

All runs of a cell, rates times seeds, train in one vmap.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from rich.console import Console
from sklearn.datasets import load_digits

import jaxact
from benchmarks import results


class Arm(NamedTuple):
    """An activation, and the initial gain.

    Attributes:
      activation: a name.
      fits: the activation that the gain is of: the same one, or "identity" for LeCun's weights of
        variance 1 / fan_in, which are Glorot's where a layer's input and output have one size.
    """

    activation: str
    fits: str

    @property
    def name(self) -> str:
        """As tables have it."""
        label = self.activation.replace("leaky_relu:", "leaky ")
        return f"{label}, {'LeCun' if self.fits == 'identity' else 'He'}"


ARMS = (
    Arm("relu", "relu"),
    Arm("relu", "identity"),
    Arm("leaky_relu:0.2", "leaky_relu:0.2"),
    Arm("elu", "elu"),
    # Its gain is 1, so that LeCun's weights are those that fit.
    Arm("selu", "identity"),
    Arm("gelu", "gelu"),
    Arm("tanh", "tanh"),
    Arm("tanh", "identity"),
)


def kernel_init(arm: Arm) -> Any:
    """Of the layers behind an activation; the first axis counts layers."""
    return jaxact.initializers.he_normal(activation=arm.fits, batch_axis=0)


# ------------------------------------------------------------------------------------------------
# Before training.


def signals(arm: Arm, *, layers: int = 100, width: int = 64, seeds: int = 100) -> Any:
    """What layers make of two independent, standard normal inputs, and of a random gradient.

    Args:
      arm: activation and initial gain.
      layers: how many.
      width: of each.
      seeds: networks, each with inputs of its own.

    Returns:
      ``"mean"`` and ``"square"``: of the activations of the first input; ``"cosine"``: of both
      inputs' activations; ``"gradient"``: the mean square of the gradient by the activations, whose
      value behind the last layer is 1. Arrays (seeds, layers).
    """
    function = jaxact.get(arm.activation)
    init = kernel_init(arm)

    def run(key: jax.Array) -> dict[str, jax.Array]:
        of_weights, of_inputs, of_gradient = jax.random.split(key, 3)
        weights = init(of_weights, (layers, width, width))

        def layer(x: jax.Array, w: jax.Array) -> jax.Array:
            return function(x @ w)

        def forward(x: jax.Array, w: jax.Array) -> tuple[jax.Array, Any]:
            y = layer(x, w)
            lengths = jnp.linalg.norm(y, axis=1)
            cosine = (y[0] / lengths[0]) @ (y[1] / lengths[1])
            return y, (x, y[0].mean(), (y[0] ** 2).mean(), cosine)

        # As if behind an activation: of second moment gain^-2, so that z has second moment 1.
        x = jax.random.normal(of_inputs, (2, width)) / jaxact.initializers.gain(arm.fits)
        _, (inputs, mean, square, cosine) = lax.scan(forward, x, weights)

        def backward(g: jax.Array, of_layer: Any) -> tuple[jax.Array, jax.Array]:
            x, w = of_layer
            return jax.vjp(lambda x: layer(x, w), x)[1](g)[0], (g[0] ** 2).mean()

        g = jax.random.normal(of_gradient, (2, width))
        g = g / jnp.sqrt((g**2).mean(1, keepdims=True))
        _, gradient = lax.scan(backward, g, (inputs, weights), reverse=True)
        return {"mean": mean, "square": square, "cosine": cosine, "gradient": gradient}

    keys = jax.random.split(jax.random.key(0), seeds)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(keys))


def slope(arm: Arm) -> float:
    r"""By what a layer multiplies the mean square of gradients, where z is standard normal.

    $g^2 \, \mathrm{E}[f'(z)^2]$ with the initial gain g, for a wide layer.
    """
    function = jaxact.get(arm.activation)

    def derivative(x: jax.Array) -> jax.Array:
        return jax.vjp(function, x)[1](jnp.ones_like(x))[0]

    return (jaxact.initializers.gain(arm.fits) / jaxact.initializers.gain(derivative)) ** 2


# ------------------------------------------------------------------------------------------------
# Training.


@dataclasses.dataclass(frozen=True)
class Setting:
    """The sizes of the experiment; ``depths`` count hidden layers."""

    depths: tuple[int, ...] = (5, 15, 30, 60)
    rates: tuple[float, ...] = (0.001, 0.004, 0.016)
    seeds: int = 5
    steps: int = 200
    batch: int = 32
    width: int = 64
    momentum: float = 0.9


QUICK = Setting(depths=(3,), rates=(0.004, 0.016), seeds=2, steps=4, batch=4, width=8)


class Digits(NamedTuple):
    """Images (n, 64) of mean 0 and variance 1 over all pixels, and their labels."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def digits() -> Digits:
    """scikit-learn's 1,797 images, of which 300 are for validation and 300 for the test."""
    images, labels = load_digits(return_X_y=True)
    images = ((images - images.mean()) / images.std()).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    parts = np.split(order, [len(order) - 600, len(order) - 300])
    return Digits(*((images[part], labels[part].astype(np.int32)) for part in parts))


def train(arm: Arm, depth: int, setting: Setting, data: Digits) -> dict[str, np.ndarray]:
    """Train a cell, all learning rates and seeds at once. Seeds have the same batches in all cells.

    Returns:
      Arrays (rates, seeds): the mean training loss over the last tenth of the steps, NaN where it
      has diverged, and the accuracies ``"validation"`` and ``"test"``.
    """
    function = jaxact.get(arm.activation)
    images, labels = map(jnp.asarray, data.train)

    def logits(weights: Any, x: jax.Array) -> jax.Array:
        def layer(x: jax.Array, of_layer: Any) -> tuple[jax.Array, None]:
            w, b = of_layer
            return function(x @ w + b[None]), None

        x = function(x @ weights["first"] + weights["first_bias"][None])
        x, _ = lax.scan(layer, x, (weights["hidden"], weights["biases"]))
        return x @ weights["last"] + weights["last_bias"][None]

    def loss(weights: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits(weights, x), y).mean()

    def accuracy(weights: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        values = logits(weights, x)
        return jnp.where(jnp.isnan(values).any(), 0.1, (values.argmax(1) == y).mean())

    def run(rate: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
        of_first, of_hidden, of_last, of_batches = jax.random.split(jax.random.key(seed), 4)
        lecun = jax.nn.initializers.lecun_normal()
        weights = {
            "first": lecun(of_first, (images.shape[1], setting.width)),
            "hidden": kernel_init(arm)(of_hidden, (depth - 1, setting.width, setting.width)),
            "last": lecun(of_last, (setting.width, 10)),
            "first_bias": jnp.zeros(setting.width),
            "biases": jnp.zeros((depth - 1, setting.width)),
            "last_bias": jnp.zeros(10),
        }

        def step(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            weights, momenta = carry
            chosen = jax.random.randint(key, (setting.batch,), 0, len(images))
            value, gradient = jax.value_and_grad(loss)(weights, images[chosen], labels[chosen])
            momenta = jax.tree.map(lambda m, g: setting.momentum * m + g, momenta, gradient)
            weights = jax.tree.map(lambda w, m: w - rate * m, weights, momenta)
            return (weights, momenta), value

        start = weights, jax.tree.map(jnp.zeros_like, weights)
        keys = jax.random.split(of_batches, setting.steps)
        (weights, _), losses = lax.scan(step, start, keys)
        return {
            "loss": losses[-max(1, setting.steps // 10) :].mean(),
            "validation": accuracy(weights, *map(jnp.asarray, data.validation)),
            "test": accuracy(weights, *map(jnp.asarray, data.test)),
        }

    over_seeds = jax.vmap(run, in_axes=(None, 0))
    over_rates = jax.vmap(over_seeds, in_axes=(0, None))
    found = jax.jit(over_rates)(jnp.asarray(setting.rates), jnp.arange(setting.seeds))
    return {name: np.asarray(value) for name, value in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args(arguments)
    setting = QUICK if options.quick else Setting()
    compared = ARMS[1:2] if options.quick else ARMS
    data = digits()
    console = Console()
    start = time.perf_counter()
    cells: dict[str, dict[str, Any]] = {}
    for arm in compared:
        cells[arm.name] = {}
        for depth in setting.depths:
            with console.status(f"{arm.name}, {depth} layers"):
                cell = train(arm, depth, setting, data)
            best = cell["validation"].mean(1).argmax()
            # JSON has no NaN.
            cell["loss"] = np.where(np.isfinite(cell["loss"]), cell["loss"], 1e9)
            cells[arm.name][str(depth)] = cell | {"rate": setting.rates[best]}
            console.print(
                f"{arm.name}, {depth} layers, rate {setting.rates[best]}: "
                f"{100 * cell['test'][best].mean():.1f}%, {time.perf_counter() - start:.0f} s"
            )
    seconds = time.perf_counter() - start
    console.print(f"depth: {seconds:.0f} s")
    if not options.quick:
        figures = {"setting": dataclasses.asdict(setting), "cells": cells}
        path = results.save("depth", figures, command="python -m benchmarks.depth", seconds=seconds)
        console.print(f"Written to {path}.")


if __name__ == "__main__":
    main()
