"""Gated and ungated feed-forward blocks in a small language model, at equal parameters.

    python -m benchmarks.gates                 # eleven minutes on two cores
    python -m benchmarks.gates --only seeds    # with the rates of results/gates-rates.json
    python -m benchmarks.gates --quick         # seconds: it runs, its figures say nothing

A transformer with two blocks of width 64 predicts the characters of Python's documentation
(``pydoc_data.topics``). The arms differ in their feed-forward blocks alone: those with a gate have
three matrices, and two thirds of the hidden size. All arms with the same seed have the same other
weights at the start, and the same batches. All seeds of an arm train in one vmap.

The text has many passages more than once. Each paragraph is taken once; of ten one is for
validation and one for the test, so that what is tested was not seen.

Each arm trains at three learning rates first, with a seed of its own. The rate whose loss on the
validation text is the lowest is the one that the arm gets. Then six other seeds train at it, and
the losses on the test text are theirs.
"""

import argparse
import dataclasses
import functools
import platform
import time
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from rich.console import Console

import jaxact
from benchmarks import results


class Arm(NamedTuple):
    """What a feed-forward block computes between its matrices.

    Attributes:
      name: as tables have it.
      activation: of the block, or of its gate.
      gated: whether it has a gate.
    """

    name: str
    activation: str
    gated: bool = False


ARMS = (
    Arm("relu", "relu"),
    Arm("relu²", "relu_squared"),
    Arm("leaky relu²", "leaky_relu_squared"),
    Arm("gelu", "gelu"),
    Arm("ReGLU", "relu", gated=True),
    Arm("GEGLU", "gelu", gated=True),
    Arm("SwiGLU", "silu", gated=True),
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """The sizes of the experiment.

    Attributes:
      hidden: without a gate; a multiple of 3.
      every: training losses are means over so many steps.
      rates: the learning rates to choose from.
      search_seeds: the seeds that choose among them; none of the first ``seeds``.
      stop: the step to stop at, of the schedule of ``steps``; None for the last one.
    """

    seeds: int = 6
    steps: int = 500
    batch: int = 8
    context: int = 64
    layers: int = 2
    width: int = 64
    heads: int = 4
    hidden: int = 264
    every: int = 20
    rates: tuple[float, ...] = (8e-3, 16e-3, 32e-3)
    search_seeds: tuple[int, ...] = (8,)
    stop: int | None = None


QUICK = Setting(
    seeds=2,
    steps=4,
    batch=2,
    context=8,
    width=8,
    heads=2,
    hidden=12,
    every=2,
    rates=(4e-3, 8e-3),
)

#: Printable ASCII and the line's end, and one number for all others: the same with any Python.
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
VOCABULARY = len(ALPHABET) + 1


class Text(NamedTuple):
    """Characters as numbers."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def checksum(self) -> int:
        """Python's versions have other texts."""
        return zlib.crc32(np.concatenate(self).tobytes())


@functools.cache
def documentation() -> Text:
    """Python's documentation, each paragraph once."""
    from pydoc_data.topics import topics

    paragraphs = dict.fromkeys(
        "\n\n".join(text for _, text in sorted(topics.items())).split("\n\n")
    )
    number = {character: i for i, character in enumerate(ALPHABET)}
    parts: tuple[list[int], ...] = [], [], []
    for i, paragraph in enumerate(paragraphs):
        part = parts[max(0, i % 10 - 7)]
        part += [number.get(character, len(ALPHABET)) for character in paragraph + "\n\n"]
    return Text(*(np.array(part, np.int32) for part in parts))


def initial(arm: Arm, setting: Setting, seed: int) -> dict[str, Any]:
    """The weights: LeCun's, and the embeddings standard normal. No biases."""
    random = np.random.default_rng(seed)
    width, layers = setting.width, setting.layers
    hidden = setting.hidden * 2 // 3 if arm.gated else setting.hidden

    def normal(*shape: int, fan_in: int = 1) -> np.ndarray:
        return random.standard_normal(shape, np.float32) / np.float32(fan_in**0.5)

    weights: dict[str, Any] = {
        "characters": normal(VOCABULARY, width),
        "places": normal(setting.context, width),
        "head_scale": np.ones(width, np.float32),
        "head": normal(width, VOCABULARY, fan_in=width),
        # Of all blocks, for one scan.
        "blocks": {
            "attention_scale": np.ones((layers, width), np.float32),
            "attention": normal(layers, width, 3 * width, fan_in=width),
            "out": normal(layers, width, width, fan_in=width),
            "scale": np.ones((layers, width), np.float32),
        },
    }
    # What differs is drawn last.
    weights["blocks"] |= {
        "in": normal(layers, width, hidden, fan_in=width),
        "down": normal(layers, hidden, width, fan_in=hidden),
    }
    if arm.gated:
        weights["blocks"]["up"] = normal(layers, width, hidden, fan_in=width)
    return weights


def parameters(arm: Arm, setting: Setting) -> int:
    """How many weights a model has."""
    return sum(leaf.size for leaf in jax.tree.leaves(initial(arm, setting, 0)))


def feed_forward(arm: Arm, weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """The block in which the arms differ."""
    if arm.gated:
        return jaxact.gated_mlp(
            x, weights["in"], weights["up"], weights["down"], activation=arm.activation
        )
    return jaxact.mlp(x, weights["in"], weights["down"], activation=arm.activation)


def logits(arm: Arm, setting: Setting, weights: dict[str, Any], tokens: jax.Array) -> jax.Array:
    """Of the next characters, (rows, context, vocabulary)."""

    def normal(x: jax.Array, scale: jax.Array) -> jax.Array:
        square = (x * x).mean(-1, keepdims=True)
        return x * lax.rsqrt(square + 1e-6) * scale[None, None]

    def attention(block: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        shape = (*x.shape[:-1], 3 * setting.heads, setting.width // setting.heads)
        query, key, value = jnp.split((x @ block["attention"]).reshape(shape), 3, axis=2)
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        return mixed.reshape(x.shape) @ block["out"]

    def through(x: jax.Array, block: dict[str, jax.Array]) -> tuple[jax.Array, None]:
        x = x + attention(block, normal(x, block["attention_scale"]))
        return x + feed_forward(arm, block, normal(x, block["scale"])), None

    # A product, because the gradient of a look-up is slow on a CPU.
    x = jax.nn.one_hot(tokens, VOCABULARY) @ weights["characters"] + weights["places"][None]
    x, _ = lax.scan(through, x, weights["blocks"])
    return normal(x, weights["head_scale"]) @ weights["head"]


def train(
    arm: Arm, setting: Setting, runs: Sequence[tuple[int, float]], text: Text
) -> dict[str, np.ndarray]:
    """Train an arm, all runs at once, with Adam.

    Args:
      arm: what to train.
      setting: its sizes.
      runs: the seed and the learning rate of each run.
      text: to train and test on.

    Returns:
      ``"train"``: (runs, steps / every) losses, and with the last step ``"validation"`` and
      ``"test"``: (runs,). In nats a character.
    """
    stop = setting.steps if setting.stop is None else setting.stop
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, setting.steps // 10, setting.steps)
    # Of the rate 1: a run multiplies the updates by its own.
    optimizer = optax.flatten(
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.99))
    )
    window = np.arange(setting.context + 1)

    def windows(of: np.ndarray) -> np.ndarray:
        """All of a text, (batches, rows, context + 1), but for what does not fill a batch."""
        batches = (len(of) - 1) // (setting.context * setting.batch)
        starts = np.arange(batches * setting.batch).reshape(batches, setting.batch, 1)
        return of[starts * setting.context + window]

    held_out = windows(text.validation), windows(text.test)

    def loss(weights: Any, tokens: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(
            logits(arm, setting, weights, tokens[:, :-1]), tokens[:, 1:]
        ).mean()

    def run(weights: Any, rate: jax.Array, starts: jax.Array) -> dict[str, jax.Array]:
        def step(carry: Any, start: jax.Array) -> tuple[Any, jax.Array]:
            weights, state = carry
            tokens = jnp.asarray(text.train)[start[:, None] + window[None]]
            value, gradient = jax.value_and_grad(loss)(weights, tokens)
            updates, state = optimizer.update(gradient, state)
            updates = jax.tree.map(lambda update: rate * update, updates)
            return (optax.apply_updates(weights, updates), state), value

        (weights, _), losses = lax.scan(step, (weights, optimizer.init(weights)), starts)
        figures = {"train": losses.reshape(-1, setting.every).mean(1)}
        if stop == setting.steps:
            each = lax.map(lambda tokens: loss(weights, tokens), np.concatenate(held_out))
            figures["validation"] = each[: len(held_out[0])].mean()
            figures["test"] = each[len(held_out[0]) :].mean()
        return figures

    weights = [initial(arm, setting, seed) for seed, _ in runs]
    starts = [
        np.random.default_rng((seed, 1)).integers(
            len(text.train) - setting.context, size=(setting.steps, setting.batch)
        )[:stop]
        for seed, _ in runs
    ]
    rates = np.array([rate for _, rate in runs], np.float32)
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam wants it.
        figures = jax.jit(jax.vmap(run))(
            jax.tree.map(lambda *of_runs: np.stack(of_runs), *weights),
            rates,
            np.stack(starts).astype(np.int32),
        )
    return {name: np.asarray(value) for name, value in figures.items()}


def search(arms: Sequence[Arm], setting: Setting, text: Text) -> dict[str, dict[str, Any]]:
    """The validation losses at each rate, (rates, seeds), and the rate that is the best."""
    seeds = setting.search_seeds
    runs = [(seed, rate) for rate in setting.rates for seed in seeds]
    found = {}
    for arm in arms:
        losses = train(arm, setting, runs, text)["validation"].reshape(len(setting.rates), -1)
        found[arm.name] = {"losses": losses, "rate": setting.rates[losses.mean(1).argmin()]}
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--only", choices=("rates", "seeds"), help="one of the two parts")
    options = parser.parse_args(arguments)
    setting = QUICK if options.quick else Setting()
    compared = ARMS[-1:] if options.quick else ARMS
    text = documentation()
    if options.quick:
        text = Text(*(part[:200] for part in text))
    about = {
        "setting": dataclasses.asdict(setting),
        "parameters": {arm.name: parameters(arm, setting) for arm in compared},
        "text": {"checksum": text.checksum, **{n: len(t) for n, t in text._asdict().items()}},
        "python": platform.python_version(),
    }
    console = Console()
    if options.only != "seeds":
        start = time.perf_counter()
        with console.status("learning rates"):
            found = search(compared, setting, text)
        _report(console, options.quick, "gates-rates", {**about, "arms": found}, start)
    else:
        found = results.load("gates-rates")["figures"]["arms"]
    if options.only != "rates":
        start = time.perf_counter()
        arms = {}
        for arm in compared:
            rate = found[arm.name]["rate"]
            with console.status(arm.name):
                runs = [(seed, rate) for seed in range(setting.seeds)]
                arms[arm.name] = {"rate": rate, **train(arm, setting, runs, text)}
            losses = results.interval(arms[arm.name]["test"])
            console.print(f"{arm.name}: {losses.mean:.4f} [{losses.low:.4f}, {losses.high:.4f}]")
        _report(console, options.quick, "gates", {**about, "arms": arms}, start)


def _report(
    console: Console, quick: bool, name: str, figures: dict[str, Any], start: float
) -> None:
    """Save, unless it is the quick form."""
    seconds = time.perf_counter() - start
    part = "" if name == "gates" else " --only rates"
    console.print(f"{name}: {seconds:.0f} s")
    if not quick:
        path = results.save(
            name, figures, command=f"python -m benchmarks.gates{part}", seconds=seconds
        )
        console.print(f"Written to {path}.")


if __name__ == "__main__":
    main()
