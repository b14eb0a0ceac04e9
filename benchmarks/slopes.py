"""Learned and random slopes: PReLU's by depth, and what RReLU's do for a small training set.

    python -m benchmarks.slopes          # minutes on two cores; saves results/slopes.json
    python -m benchmarks.slopes --quick  # seconds: it runs, its figures say nothing

Multilayer perceptrons on scikit-learn's digits, all seeds of an arm in one vmap:

- PReLU (He et al., arXiv 1502.01852), a slope for each layer that starts at 0.25, with weight decay
  on the weights alone, as in the paper, and on the slopes too.
- ReLU, leaky ReLU, PReLU and RReLU (Xu et al., arXiv 1505.00853) on training sets of 50 to 1,200
  images. Runs of one seed share the
  images, their order and the initial weights; a smaller training set is part of a larger one.
"""

import argparse
import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

import jaxact
from benchmarks import results
from jaxact.optim import decay_mask

Figures = dict[str, np.ndarray]
#: The 1,797 images: of those for training a run may take fewer.
TRAINING, TEST = 1200, 597


@dataclasses.dataclass(frozen=True)
class Activation:
    """What a layer does with its pre-activations.

    Attributes:
      training: takes the pre-activations, the layer's slope and a key.
      evaluation: takes the pre-activations and the slope.
      slope: that of the layer at the start, a parameter if ``learned``.
      learned: False keeps the slope as it is.
    """

    training: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    evaluation: Callable[[jax.Array, jax.Array], jax.Array]
    slope: float = 0.0
    learned: bool = False


def constant(slope: float) -> Activation:
    """Leaky ReLU; ReLU, with slope 0."""
    function = jaxact.leaky_relu if slope else lambda x, _: jaxact.relu(x)
    return Activation(lambda x, slope, key: function(x, slope), function, slope)


def random(*, divisor: bool) -> Activation:
    """RReLU, as in PyTorch, or with the paper's divisor."""
    return Activation(
        lambda x, slope, key: jaxact.rrelu(x, key, divisor=divisor),
        lambda x, slope: jaxact.rrelu(x, deterministic=True, divisor=divisor),
    )


PRELU = Activation(lambda x, slope, key: jaxact.prelu(x, slope), jaxact.prelu, 0.25, learned=True)

#: The constant slopes are what RReLU has in evaluation, and 0.2 between them.
ACTIVATIONS = {
    "ReLU": constant(0.0),
    "leaky ReLU, 0.2": constant(0.2),
    "leaky ReLU, 11/48": constant(11 / 48),
    "leaky ReLU, 2/11": constant(2 / 11),
    "PReLU": PRELU,
    "RReLU": random(divisor=False),
    "RReLU, divisor": random(divisor=True),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """Sizes of one of the two experiments.

    Attributes:
      seeds: of each arm.
      layers: hidden ones.
      width: of each.
      steps: of AdamW, whose rate falls to 0 along a cosine.
      batch: images a step.
      rate: the first one.
      looks: how often the slopes are noted, the first time before training.
    """

    seeds: int
    layers: int
    width: int = 64
    steps: int = 600
    batch: int = 32
    rate: float = 2e-3
    looks: int = 10


DEPTH = Problem(seeds=16, layers=6, steps=1500)
SMALL = Problem(seeds=20, layers=3, steps=500)
#: The sizes of training sets.
SIZES = (50, 100, 200, 500, 1200)
#: AdamW's weight decay.
DECAYS = (0.0, 0.1, 1.0)


def digits() -> tuple[jax.Array, jax.Array]:
    """The images, with mean 0 and variance 1, and their labels."""
    images, labels = load_digits(return_X_y=True)
    images = (images - images.mean()) / images.std()
    return jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32)


def initial(seed: int, activation: Activation, problem: Problem) -> tuple[Any, np.ndarray]:
    """A seed's parameters, and the order of all images: the first ones are the training set.

    By NumPy: JAX takes longer to compile so many draws than to train a short run.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(TRAINING + TEST)
    sizes = [64, *[problem.width] * problem.layers, 10]
    params = []
    for before, after in itertools.pairwise(sizes):
        kernel = rng.standard_normal((before, after)) * (2 / before) ** 0.5
        params.append({"kernel": np.float32(kernel), "bias": np.zeros(after, np.float32)})
    if activation.learned:
        for layer in params[:-1]:
            layer["alpha"] = np.float32(activation.slope)
    return params, order


def train(
    activation: Activation,
    problem: Problem,
    runs: Sequence[tuple[int, int, float]],
    *,
    decay_slopes: bool = False,
) -> Figures:
    """Train a network for each of the runs, all at once.

    Args:
      activation: of the hidden layers.
      problem: the sizes.
      runs: seed, size of the training set, and weight decay of each.
      decay_slopes: decay the slopes too.

    Returns:
      Of each run, in evaluation: ``train`` and ``test``, the accuracies in percent, and
      ``train loss`` and ``test loss``, the mean cross entropies; ``slopes``, by look and layer.
    """
    images, labels = digits()

    def hidden(function: Any, params: Any, x: jax.Array) -> jax.Array:
        *layers, last = params
        for number, layer in enumerate(layers):
            slope = layer["alpha"] if activation.learned else activation.slope
            x = function(x @ layer["kernel"] + layer["bias"][None], slope, number)
        return x @ last["kernel"] + last["bias"][None]

    def losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    def run(
        seed: jax.Array, size: jax.Array, decay: jax.Array, initial: tuple[Any, jax.Array]
    ) -> dict[str, jax.Array]:
        params, order = initial
        optimizer = optax.adamw(
            optax.cosine_decay_schedule(problem.rate, problem.steps),
            weight_decay=decay,
            mask=None if decay_slopes else decay_mask,
        )

        def step(number: jax.Array, carry: Any) -> Any:
            params, state = carry
            of_batch, of_slopes = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
            chosen = order[jax.random.randint(of_batch, (problem.batch,), 0, size)]

            def loss(params: Any) -> jax.Array:
                def function(x: jax.Array, slope: jax.Array, layer: int) -> jax.Array:
                    return activation.training(x, slope, jax.random.fold_in(of_slopes, layer))

                return losses(hidden(function, params, images[chosen]), labels[chosen]).mean()

            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        def slopes(params: Any) -> jax.Array:
            return jnp.stack([layer.get("alpha", jnp.zeros(())) for layer in params[:-1]])

        def until_a_look(carry: Any, look: jax.Array) -> tuple[Any, jax.Array]:
            steps = problem.steps // problem.looks
            carry = lax.fori_loop(look * steps, (look + 1) * steps, step, carry)
            return carry, slopes(carry[0])

        start = params, optimizer.init(params)
        (after, _), looks = lax.scan(until_a_look, start, jnp.arange(problem.looks))
        logits = hidden(lambda x, slope, _: activation.evaluation(x, slope), after, images[order])
        right = logits.argmax(-1) == labels[order]
        loss = losses(logits, labels[order])
        place = jnp.arange(len(images))
        parts = {"train": place < size, "test": place >= TRAINING}
        return {
            **{name: 100 * right.mean(where=part) for name, part in parts.items()},
            **{f"{name} loss": loss.mean(where=part) for name, part in parts.items()},
            "slopes": jnp.concatenate([slopes(params)[None], looks]),
        }

    with jax.numpy_dtype_promotion("standard"):  # optax's Adam wants it.
        seeds, counts, decays = map(jnp.asarray, zip(*runs, strict=True))
        initials = [initial(seed, activation, problem) for seed, _, _ in runs]
        of_runs = jax.tree.map(lambda *leaves: jnp.stack(leaves), *initials)
        found = jax.jit(jax.vmap(run))(seeds, counts, decays.astype(jnp.float32), of_runs)
    return {name: np.asarray(values) for name, values in found.items()}


def by_decay(problem: Problem, decays: Sequence[float] = DECAYS) -> dict[str, dict[str, Figures]]:
    """PReLU's figures by what decays ("weights", or "weights and slopes") and by how much."""
    runs = [(seed, TRAINING, decay) for decay in decays for seed in range(problem.seeds)]
    found = {}
    for name, decay_slopes in (("weights", False), ("weights and slopes", True)):
        figures = train(PRELU, problem, runs, decay_slopes=decay_slopes)
        found[name] = dict(zip(map(str, decays), _parts(figures, problem.seeds), strict=True))
    return found


def by_size(
    activation: Activation, problem: Problem, sizes: Sequence[int] = SIZES
) -> dict[str, Figures]:
    """An activation's figures by the size of the training set, with a weight decay of 0.01."""
    runs = [(seed, size, 0.01) for size in sizes for seed in range(problem.seeds)]
    figures = train(activation, problem, runs)
    del figures["slopes"]
    return dict(zip(map(str, sizes), _parts(figures, problem.seeds), strict=True))


def _parts(figures: Figures, seeds: int) -> list[Figures]:
    """Each of so many runs."""
    count = len(figures["test"]) // seeds
    return [
        {name: values[i * seeds : (i + 1) * seeds] for name, values in figures.items()}
        for i in range(count)
    ]


QUICK = (
    Problem(seeds=2, layers=2, width=4, steps=4, batch=8, looks=2),
    Problem(seeds=2, layers=1, width=4, steps=4, batch=8, looks=2),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args(arguments)
    depth, small = QUICK if options.quick else (DEPTH, SMALL)
    console = Console()
    if not console.is_terminal:
        console.width = 160
    start = time.perf_counter()
    with console.status("PReLU by depth"):
        decayed = by_decay(depth)
    table = Table("decay of", "by", "test", *(f"slope {i + 1}" for i in range(depth.layers)))
    for what, arms in decayed.items():
        for decay, figures in arms.items():
            last = figures["slopes"][:, -1].mean(0)
            table.add_row(
                what, decay, str(results.interval(figures["test"])), *(f"{a:.3f}" for a in last)
            )
    console.print(table)
    sized = {}
    for name, activation in ACTIVATIONS.items():
        with console.status(name):
            sized[name] = by_size(activation, small)
    table = Table("test accuracy", *map(str, SIZES))
    for name, arms in sized.items():
        table.add_row(name, *(str(results.interval(figures["test"])) for figures in arms.values()))
    console.print(table)
    seconds = time.perf_counter() - start
    console.print(f"{seconds:.0f} s")
    if not options.quick:
        results.save(
            "slopes",
            {
                "depth": dataclasses.asdict(depth),
                "small": dataclasses.asdict(small),
                "decay": decayed,
                "sizes": sized,
            },
            command="python -m benchmarks.slopes",
            seconds=seconds,
        )


if __name__ == "__main__":
    main()
