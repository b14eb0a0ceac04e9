"""The memory of models before and after ``jaxact.swap(fn, "jaxact")``, unedited.

    python -m benchmarks.swapped_memory           # minutes, with the extra targets
    python -m benchmarks.swapped_memory --save    # also saves it, for the notebook
    python -m benchmarks.swapped_memory --quick   # one small model, on the CPU's compiler alone

Five models in Flax NNX, of jax.nn's functions, and the loss of a training step: what JAX hands
from the forward to the backward pass (`jaxact.memory.residuals`), and the temporaries that
compilers plan for the loss and all gradients (`jaxact.memory.compiled`), as the model is and after
the swap; the transformers also with their feed-forward block in one call, `jaxact.mlp` or
`jaxact.gated_mlp`, and those of ReLUs also with a packed mask as what is kept. Nothing runs, and no
accelerator is needed.
"""

import argparse
import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console
from rich.progress import track
from rich.table import Table

import jaxact
from benchmarks.results import save

#: Compilers, and the dtype of the model there.
TARGETS = {"cpu": jnp.float32, "v5e": jnp.bfloat16, "h200": jnp.bfloat16}
WRITTEN, SWAPPED = "as written", "swapped"
BLOCK, MASK = "swapped, block in one call", 'swapped, residual="mask"'


class FeedForward(nnx.Module):
    """The usual block."""

    def __init__(self, width: int, hidden: int, *, param_dtype: Any, rngs: nnx.Rngs):
        self.wide = nnx.Linear(width, hidden, param_dtype=param_dtype, rngs=rngs)
        self.narrow = nnx.Linear(hidden, width, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.narrow(jax.nn.gelu(self.wide(x)))


class SwiGLU(nnx.Module):
    """The gated block of most language models."""

    def __init__(self, width: int, hidden: int, *, param_dtype: Any, rngs: nnx.Rngs):
        options: Any = {"use_bias": False, "param_dtype": param_dtype, "rngs": rngs}
        self.gate = nnx.Linear(width, hidden, **options)
        self.up = nnx.Linear(width, hidden, **options)
        self.down = nnx.Linear(hidden, width, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


class Layer(nnx.Module):
    """Attention and a feed-forward block, each behind a norm and beside a skip."""

    def __init__(
        self, feed_forward: Callable[..., nnx.Module], width: int, *, dtype: Any, rngs: nnx.Rngs
    ):
        options: Any = {"param_dtype": dtype, "rngs": rngs}
        self.norms = nnx.List(nnx.LayerNorm(width, **options) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, **options)
        self.block = feed_forward(width, 4 * width, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norms[0](x))
        return x + self.block(self.norms[1](x))


class Transformer(nnx.Module):
    """Layers in a scan, as large models have them."""

    def __init__(
        self,
        feed_forward: Callable[..., nnx.Module],
        *,
        layers: int = 8,
        width: int = 512,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        @nnx.vmap
        def stacked(rngs: nnx.Rngs) -> Layer:
            return Layer(feed_forward, width, dtype=dtype, rngs=rngs)

        self.layers = stacked(rngs.split(layers))

    def __call__(self, x: jax.Array) -> jax.Array:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def all_layers(x: jax.Array, layer: Layer) -> jax.Array:
            return layer(x)

        return all_layers(x, self.layers)


class ConvNet(nnx.Module):
    """Convolutions, each with an activation; the last one meets a mean over the image."""

    def __init__(self, activation: Callable[[jax.Array], jax.Array], *, dtype: Any, rngs: nnx.Rngs):
        sizes = (3, 32, 64, 64, 64)
        self.activation = activation
        self.layers = nnx.List(
            nnx.Conv(before, after, (3, 3), param_dtype=dtype, rngs=rngs)
            for before, after in itertools.pairwise(sizes)
        )
        self.last = nnx.Linear(sizes[-1], 10, param_dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.last(x.mean((1, 2)))


class ReluThenSum(nnx.Module):
    """Layers of which nothing but a sum reads the activation."""

    def __init__(self, *, layers: int = 8, width: int = 512, dtype: Any, rngs: nnx.Rngs):
        self.layers = nnx.List(
            nnx.Linear(width, width, param_dtype=dtype, rngs=rngs) for _ in range(layers)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = x + jax.nn.relu(layer(x))
        return x


@dataclasses.dataclass(frozen=True)
class Model:
    """A model to measure.

    Attributes:
      make: the module, of a dtype.
      inputs: their shape.
      block: the module with its feed-forward block in one call, if it has such a block.
      mask: whether its activation is one of straight pieces, for which a mask is enough.
    """

    make: Callable[[Any], nnx.Module]
    inputs: tuple[int, ...]
    block: Callable[[Any], nnx.Module] | None = None
    mask: bool = False


def _transformer(feed_forward: Callable[..., nnx.Module]) -> Callable[[Any], nnx.Module]:
    return lambda dtype: Transformer(feed_forward, dtype=dtype, rngs=nnx.Rngs(0))


def _mlp(width: int, hidden: int, *, param_dtype: Any, rngs: nnx.Rngs) -> nnx.Module:
    return jaxact.nnx.MLP(width, hidden, activation="gelu", param_dtype=param_dtype, rngs=rngs)


def _gated(width: int, hidden: int, *, param_dtype: Any, rngs: nnx.Rngs) -> nnx.Module:
    return jaxact.nnx.GatedMLP(width, hidden, activation="silu", param_dtype=param_dtype, rngs=rngs)


TOKENS = (32, 256, 512)
IMAGES = (256, 32, 32, 3)
MODELS = {
    "transformer, gelu": Model(_transformer(FeedForward), TOKENS, _transformer(_mlp)),
    "transformer, swiglu": Model(_transformer(SwiGLU), TOKENS, _transformer(_gated)),
    "convolutions, silu": Model(
        lambda dtype: ConvNet(jax.nn.silu, dtype=dtype, rngs=nnx.Rngs(0)), IMAGES
    ),
    "convolutions, relu": Model(
        lambda dtype: ConvNet(jax.nn.relu, dtype=dtype, rngs=nnx.Rngs(0)), IMAGES, mask=True
    ),
    "x + relu(dense(x))": Model(
        lambda dtype: ReluThenSum(dtype=dtype, rngs=nnx.Rngs(0)), (16384, 512), mask=True
    ),
}


def loss_of(name: str, variant: str, dtype: Any) -> tuple[Callable[..., jax.Array], Any, Any]:
    """A model's loss of its parameters and inputs, and their shapes.

    Raises:
      ValueError: the model has no such variant.
    """
    model = MODELS[name]
    make = model.block if variant == BLOCK else model.make
    if make is None:
        raise ValueError(f"{name} has no block to call at once.")
    made = nnx.eval_shape(lambda: make(dtype))
    graph, params = nnx.split(made)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return (nnx.merge(graph, params)(x).astype(jnp.float32) ** 2).mean()

    call = loss if variant == WRITTEN else jaxact.swap(loss, "jaxact")
    return call, params, jax.ShapeDtypeStruct(model.inputs, dtype)


def variants(name: str) -> list[str]:
    model = MODELS[name]
    return [WRITTEN, SWAPPED, *[BLOCK] * (model.block is not None), *[MASK] * model.mask]


def kept(variant: str) -> contextlib.AbstractContextManager[None]:
    """What jaxact's functions keep in a variant."""
    return jaxact.autodiff(residual="mask" if variant == MASK else "auto")


def residuals(name: str, variant: str, dtype: Any = jnp.float32) -> int:
    """Bytes that the forward pass hands to the backward pass."""
    loss, params, x = loss_of(name, variant, dtype)
    with kept(variant):
        return jaxact.memory.residuals(loss, params, x).total


def temporaries(name: str, variant: str, target: str) -> int:
    """Bytes that a compiler plans beside the arguments and results of loss and gradients."""
    loss, params, x = loss_of(name, variant, TARGETS[target])
    step = jax.value_and_grad(loss)
    with kept(variant):
        return jaxact.memory.compiled(step, params, x, target=target).temporaries


def measure(
    names: Sequence[str], targets: Sequence[str], console: Console
) -> dict[str, dict[str, dict[str, int]]]:
    """Bytes by model, variant, and what was asked: "residuals" and the targets."""
    found: dict[str, dict[str, dict[str, int]]] = {name: {} for name in names}
    pairs = [(name, variant) for name in names for variant in variants(name)]
    for name, variant in track(pairs, "compiling", console=console):
        found[name][variant] = {"residuals": residuals(name, variant)} | {
            target: temporaries(name, variant, target) for target in targets
        }
    return found


def mebibytes(count: float) -> str:
    return f"{count / 2**20:.1f}"


def rows(
    found: dict[str, dict[str, dict[str, int]]],
) -> tuple[list[str], list[list[str]]]:
    """Header and rows, in MiB."""
    first = next(iter(next(iter(found.values())).values()))
    header = ["model", "", *(f"{what}, MiB" for what in first)]
    return header, [
        [name, variant, *map(mebibytes, figures.values())]
        for name, of_name in found.items()
        for variant, figures in of_name.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one model, on the CPU's compiler")
    parser.add_argument("--save", action="store_true", help="save what was found")
    options = parser.parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = 120
    start = time.perf_counter()
    names = ["x + relu(dense(x))"] if options.quick else list(MODELS)
    found = measure(names, ["cpu"] if options.quick else list(TARGETS), console)
    header, body = rows(found)
    table = Table(*header)
    for row in body:
        table.add_row(*row)
    console.print(table)
    if options.save:
        command = "python -m benchmarks.swapped_memory --save"
        save("swapped_memory", found, command=command, seconds=time.perf_counter() - start)


if __name__ == "__main__":
    main()
