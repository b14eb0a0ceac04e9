"""What a probe costs: time to run and time to trace, beside the same without.

    python -m benchmarks.probe            # about four minutes
    python -m benchmarks.probe --part trace

The time to run is the forward pass of an MLP of four layers: of width 1024 with a batch of 4096,
and of width 128 with a batch of 64; and of a training step of the first, `jaxact.probe_and_grad`
beside ``jax.value_and_grad``. Both run in turn, in one process; the fastest round counts, and the
median is shown beside it.

The time to trace is that of ``jax.make_jaxpr``, each row in a process of its own: of the function
as it is, of the first probe in the process, of a second one of the same shapes, and of the function
and a probe in another dtype. Processor time counts, for JAX traces in one thread.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
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

#: Batch and width.
SIZES = ((4096, 1024), (64, 128))

# ------------------------------------------------------------------------------------------------
# Time to run


def ratios(
    activation: Callable[[jax.Array], jax.Array],
    batch: int,
    width: int,
    rounds: int,
    training: bool = False,
) -> tuple[float, float]:
    """Of the fastest times, and of the medians."""
    keys = jax.random.split(jax.random.key(0), 5)
    weights = [jax.random.normal(key, (width, width)) / width**0.5 for key in keys[1:]]
    x = jax.random.normal(keys[0], (batch, width))

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


# ------------------------------------------------------------------------------------------------
# Time to trace


def training_step() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A step of Adam on a Flax network of three layers."""
    import flax.linen as nn
    import optax

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.relu(nn.Dense(128)(x))
            x = nn.gelu(nn.Dense(128)(x))
            return nn.Dense(10)(x)

    model, optimizer = Network(), optax.adam(1e-3)
    x, y = jnp.ones((64, 128)), jnp.zeros((64,), jnp.int32)
    parameters = _zeros(model.init, jax.random.key(0), x)

    def step(parameters: Any, state: Any, x: jax.Array, y: jax.Array) -> Any:
        def loss(parameters: Any) -> jax.Array:
            logits = model.apply(parameters, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        value, gradient = jax.value_and_grad(loss)(parameters)
        updates, state = optimizer.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, value

    return step, (parameters, _zeros(optimizer.init, parameters), x, y)


#: Of MobileNetV2: channels, repetitions and the first stride of each group of blocks.
_GROUPS = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


def mobile_net() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The forward pass of a MobileNetV2 in training: 53 layers with weights."""
    import flax.linen as nn

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            def layer(x: jax.Array, features: int, size: int = 1, **options: Any) -> jax.Array:
                x = nn.Conv(features, (size, size), use_bias=False, **options)(x)
                return nn.BatchNorm(use_running_average=False)(x)

            x = nn.relu6(layer(x, 32, 3, strides=2))
            for features, repetitions, first in _GROUPS:
                for i in range(repetitions):
                    width = 6 * x.shape[-1]
                    stride = first if i == 0 else 1
                    h = nn.relu6(layer(x, width))
                    h = nn.relu6(layer(h, width, 3, strides=stride, feature_group_count=width))
                    h = layer(h, features)
                    x = x + h if h.shape == x.shape else h
            x = nn.relu6(layer(x, 1280))
            return nn.Dense(10)(x.mean((1, 2)))

    model, x = Network(), jnp.ones((8, 64, 64, 3))
    variables = _zeros(model.init, jax.random.key(0), x)
    return lambda variables, x: model.apply(variables, x, mutable=["batch_stats"]), (variables, x)


def _zeros(function: Callable[..., Any], *args: Any) -> Any:
    """Zeros of the types that a function returns, without running it."""
    return jax.tree.map(
        lambda like: jnp.zeros(like.shape, like.dtype), jax.eval_shape(function, *args)
    )


MODELS = {"training step": training_step, "MobileNetV2": mobile_net}


def traces(name: str) -> dict[str, float]:
    """Seconds of processor time for the traces of a model, in this process."""
    function, args = MODELS[name]()

    def seconds(probed: bool, args: tuple[Any, ...]) -> float:
        def fresh(*args: Any) -> Any:  # JAX keeps the jaxprs of functions that it knows.
            return function(*args)

        def report(*args: Any) -> Any:
            return jaxact.probe(fresh)(*args)

        start = time.process_time()
        jax.make_jaxpr(report if probed else fresh)(*args)
        return time.process_time() - start

    seconds(False, args)  # What the first trace of a process costs is no matter of the probe.
    other = jax.tree.map(lambda a: a.astype(jnp.bfloat16) if a.dtype == jnp.float32 else a, args)
    return {
        "plain": seconds(False, args),
        "first probe": seconds(True, args),
        "second": seconds(True, args),
        "bfloat16, plain": seconds(False, other),
        "bfloat16, probe": seconds(True, other),
    }


# ------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--part", choices=("run", "trace"), help="one of the two tables alone")
    parser.add_argument("--traces-of", choices=MODELS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.traces_of:
        print(json.dumps(traces(options.traces_of)))
        return
    console = Console()
    if options.part != "trace":
        table = Table("activation", "batch", "width", "fastest, probed / plain", "median")
        for batch, width in SIZES:
            for name, activation in ACTIVATIONS.items():
                rounds = options.rounds * (1 if batch > 1000 else 30)
                fastest, median = ratios(activation, batch, width, rounds)
                table.add_row(name, str(batch), str(width), f"{fastest:.2f}", f"{median:.2f}")
        console.print(table)
        table = Table("training step", "fastest, probe_and_grad / value_and_grad", "median")
        for name, activation in ACTIVATIONS.items():
            fastest, median = ratios(activation, *SIZES[0], options.rounds, training=True)
            table.add_row(name, f"{fastest:.2f}", f"{median:.2f}")
        console.print(table)
    if options.part != "run":
        rows = {}
        for name in MODELS:
            command = [sys.executable, "-m", "benchmarks.probe", "--traces-of", name]
            rows[name] = json.loads(subprocess.check_output(command))
        table = Table("seconds to trace", *next(iter(rows.values())))
        for name, row in rows.items():
            table.add_row(name, *(f"{value:.2f}" for value in row.values()))
        console.print(table)


if __name__ == "__main__":
    main()
