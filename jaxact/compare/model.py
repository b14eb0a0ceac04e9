"""The networks of a comparison, as functions of arrays.

An activation is in each hidden layer. The weights of all arms start alike.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from jaxact._errors import CompareError
from jaxact.compare.activations import Values, make_activation

#: The streams of random numbers that follow from a seed.
WEIGHTS, BATCHES, SLOPES = range(3)


class Network(NamedTuple):
    """The variables of one network: what is learned, and the rest (keys, statistics, values)."""

    parameters: Any
    rest: Any


class Model(Protocol):
    """A network with one activation, without its variables."""

    def init(self, seed: jax.Array, values: Values) -> Network:
        """The variables before training.

        Args:
          seed: what the initial weights and random slopes follow from.
          values: the activation's swept parameters.
        """

    def apply(self, network: Network, x: jax.Array, *, train: bool) -> tuple[jax.Array, Any]:
        """The outputs ``(samples, outputs)`` of a batch, and the rest as it is afterwards."""

    def learned_slopes(self, network: Network) -> list[jax.Array]:
        """The mean of each layer's learned slopes; empty where there are none."""


def key(seed: jax.Array, stream: int) -> jax.Array:
    """The key of one of the streams of a seed."""
    return jax.random.fold_in(jax.random.key(seed), stream)


class BuiltIn:
    """The networks that a comparison has of its own.

    Args:
      model: ``"mlp"`` or ``"cnn"``.
      activation: the activation's name.
      inputs: the shape of a sample: ``(features,)``, or ``(height, width, channels)``.
      widths: of the hidden layers.
      outputs: how many outputs there are.
      dtype: the dtype in which the layers compute.
      parameters: the names of the activation's swept parameters.
    """

    def __init__(
        self,
        model: str,
        activation: str,
        inputs: tuple[int, ...],
        widths: Sequence[int],
        outputs: int,
        dtype: Any,
        parameters: Sequence[str] = (),
    ):
        if model == "cnn" and len(inputs) != 3:
            raise CompareError(
                f"model cnn needs images, an array of shape (samples, height, width) or (samples, "
                f"height, width, channels); the samples have the shape {inputs}. Use model mlp."
            )
        kind = {"mlp": MLP, "cnn": CNN}[model]
        sizes = (math.prod(inputs) if model == "mlp" else inputs[-1], *widths, outputs)
        self._make = functools.partial(kind, activation, sizes, dtype=jnp.dtype(dtype))
        example = dict.fromkeys(parameters, jnp.float32(0.5))
        self._graph = nnx.graphdef(
            jax.eval_shape(lambda seed: self._network(seed, example), jnp.uint32(0))
        )

    def init(self, seed: jax.Array, values: Values) -> Network:
        """As `Model.init`."""
        return Network(*nnx.state(self._network(seed, values), nnx.Param, ...))

    def apply(self, network: Network, x: jax.Array, *, train: bool) -> tuple[jax.Array, Any]:
        """As `Model.apply`."""
        model = nnx.merge(self._graph, network.parameters, network.rest, copy=True)
        outputs = model(x, deterministic=not train)
        return outputs, nnx.state(model, nnx.Param, ...)[1]

    def learned_slopes(self, network: Network) -> list[jax.Array]:
        """As `Model.learned_slopes`."""
        paths = jax.tree_util.tree_leaves_with_path(network.parameters)
        return [leaf.mean() for path, leaf in paths if "alpha" in jax.tree_util.keystr(path)]

    def _network(self, seed: jax.Array, values: Values) -> nnx.Module:
        return self._make(
            weights_key=key(seed, WEIGHTS), activation_key=key(seed, SLOPES), values=values
        )


def he_normal(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    """Normal weights of variance 2 / fan-in (He et al. 2015)."""
    # Drawn as a vector, for which XLA compiles the generator several times faster.
    weights = jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)
    return weights * (2 / shape[0]) ** 0.5


class MLP(nnx.Module):
    """Linear layers with an activation after each but the last.

    The weights are He-normal (the activations of one comparison all start from the same ones), the
    biases 0, all float32.

    Args:
      activation: the activation's name, as for `jaxact.get`.
      sizes: the numbers of features: of the input, of the hidden layers, of the output.
      dtype: the dtype in which the layers compute.
      weights_key: what the initial weights follow from.
      activation_key: what random slopes follow from.
      values: the activation's swept parameters.
    """

    def __init__(
        self,
        activation: str,
        sizes: Sequence[int],
        *,
        dtype: Any = jnp.float32,
        weights_key: jax.Array,
        activation_key: jax.Array,
        values: Values | None = None,
    ):
        rngs = nnx.Rngs(params=weights_key)
        linear = functools.partial(nnx.Linear, dtype=dtype, kernel_init=he_normal, rngs=rngs)
        layers = itertools.pairwise(sizes)
        *hidden, last = [linear(self.fan_in(i, a), b) for i, (a, b) in enumerate(layers)]
        self.hidden = nnx.List(hidden)
        self.activations = nnx.List(
            make_activation(activation, width, jax.random.fold_in(activation_key, layer), values)
            for layer, width in enumerate(sizes[1:-1])
        )
        self.last = last

    def fan_in(self, layer: int, features: int) -> int:
        """How many features a layer sees, of that many before it."""
        return features

    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        x = x.reshape(len(x), -1)
        for linear, activation in zip(self.hidden, self.activations, strict=True):
            x = activation(linear(x), deterministic=deterministic)
        return self.last(x)


class CNN(MLP):
    """3x3 convolutions with an activation after each, the mean over the image, a linear layer.

    Every convolution but the first halves height and width. Arguments are as those of `MLP`, with
    numbers of channels for the numbers of features.
    """

    def fan_in(self, layer: int, features: int) -> int:
        """As in `MLP`: 3x3 pixels, but for the linear layer at the end."""
        return features if layer == self.convolutions else 9 * features

    def __init__(self, activation: str, sizes: Sequence[int], **options: Any):
        self.convolutions = len(sizes) - 2
        super().__init__(activation, sizes, **options)

    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        for i, (linear, activation) in enumerate(zip(self.hidden, self.activations, strict=True)):
            x = activation(
                linear(patches(x, stride=1 if i == 0 else 2)), deterministic=deterministic
            )
        return self.last(x.mean((1, 2)))


def patches(x: jax.Array, stride: int) -> jax.Array:
    """The 3x3 pixels around each pixel as channels: a convolution is then a matrix product.

    ``vmap`` over the weights of a convolution makes a grouped one, which XLA's CPU compiler runs
    many times slower than the batched matrix product that it makes of this.
    """
    _, height, width, _ = x.shape
    padded = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    shifted = [
        padded[:, i : i + height : stride, j : j + width : stride]
        for i in range(3)
        for j in range(3)
    ]
    return jnp.concatenate(shifted, -1)
