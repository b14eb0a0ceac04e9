"""Many perceptrons on scikit-learn's digits at once: what several benchmarks train."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxact

BATCH = 50

#: Of a layer: "w", "b", and what its activation learns.
Layer = dict[str, jax.Array]
Params = list[Layer]
#: What follows a hidden layer: of the pre-activation, the layer, and a key for each batch (none
#: where the model is only looked at).
Activation = Callable[[jax.Array, Layer, jax.Array | None], jax.Array]


class Digits(NamedTuple):
    """The images, standardised, and their labels."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


@functools.cache
def digits() -> Digits:
    """1,257 images of 8 × 8 pixels for training, 540 for testing."""
    images, labels = load_digits(return_X_y=True)
    images = ((images - images.mean()) / images.std()).astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels.astype(np.int32), test_size=0.3, random_state=0, stratify=labels
    )
    return Digits(train_x, train_y, test_x, test_y)


def perceptron(key: jax.Array, depth: int, width: int) -> Params:
    """Weights by He's initializer, biases of zero."""
    of_first, of_others = jax.random.split(key)
    he_normal = jaxact.initializers.he_normal()
    # The others have the same fan-in: one draw for all of them compiles in a fraction of the time.
    first = he_normal(of_first, (64, width))
    others = he_normal(of_others, (width, (depth - 1) * width + 10))
    cuts = [width * number for number in range(1, depth)]
    return [{"w": w, "b": jnp.zeros(w.shape[1])} for w in [first, *jnp.split(others, cuts, axis=1)]]


def pre_activations(
    activation: Activation, params: Params, x: jax.Array, key: jax.Array | None = None
) -> list[jax.Array]:
    """Those of each hidden layer, and the logits."""
    found: list[jax.Array] = []
    for number, layer in enumerate(params):
        if found:
            of_layer = None if key is None else jax.random.fold_in(key, number)
            x = activation(found[-1], params[number - 1], of_layer)
        found.append(x @ layer["w"] + layer["b"][None])
    return found


def train(
    activation: Activation,
    params: Params,
    key: jax.Array,
    rate: ArrayLike,
    epochs: int,
    look: Callable[[Params], Any] = lambda params: (),
) -> tuple[Params, jax.Array, Any]:
    """The parameters after that many epochs of Adam, and the mean loss and a look at each epoch.

    Args:
      activation: of the hidden layers.
      params: initial parameters.
      key: of the order of the images, and of what is random in the activation.
      rate: the learning rate; it may be traced, so that a vmap can have many.
      epochs: how often each image is seen, less the few that fill no batch.
      look: what is to be known of the parameters at the end of each epoch.
    """
    images, labels, *_ = map(jnp.asarray, digits())
    steps = len(images) // BATCH
    adam = optax.scale_by_adam()

    def loss(params: Params, x: jax.Array, y: jax.Array, key: jax.Array) -> jax.Array:
        logits = pre_activations(activation, params, x, key)[-1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(carry: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        params, state = carry
        chosen, key = batch
        x, y = images[chosen], labels[chosen]
        value, gradient = jax.value_and_grad(loss)(params, x, y, key)
        updates, state = adam.update(gradient, state)
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        return (params, state), value

    def epoch(carry: Any, key: jax.Array) -> tuple[Any, tuple[jax.Array, Any]]:
        of_order, of_steps = jax.random.split(key)
        order = jax.random.permutation(of_order, len(images))[: steps * BATCH]
        batches = order.reshape(steps, BATCH), jax.random.split(of_steps, steps)
        carry, losses = lax.scan(step, carry, batches)
        return carry, (losses.mean(), look(carry[0]))

    with jax.numpy_dtype_promotion("standard"):  # optax's Adam wants it.
        start = params, adam.init(params)
        (params, _), (losses, looks) = lax.scan(epoch, start, jax.random.split(key, epochs))
    return params, losses, looks


def accuracy(activation: Activation, params: Params) -> jax.Array:
    """The percentage of the test images that are recognised."""
    data = digits()
    logits = pre_activations(activation, params, jnp.asarray(data.test_x))[-1]
    return 100 * (logits.argmax(-1) == data.test_y).astype(jnp.float32).mean()


def dead(activation: Activation, params: Params) -> jax.Array:
    """The percentage of each layer's units whose slope is 0 on all training images."""

    def logits(params: Params, x: jax.Array) -> jax.Array:
        return pre_activations(activation, params, x)[-1]

    _, report = jaxact.probe(logits)(params, jnp.asarray(digits().train_x))
    return jnp.stack([100 * site.dead.astype(jnp.float32).mean() for site in report.records])


def off(activation: Activation, params: Params) -> jax.Array:
    """The percentage of each layer's units that are positive on no training image.

    With ReLU these are the dead ones.
    """
    hidden = pre_activations(activation, params, jnp.asarray(digits().train_x))[:-1]
    return jnp.stack([100 * (h <= 0).all(0).astype(jnp.float32).mean() for h in hidden])


def of_all(
    run: Callable[[jax.Array, jax.Array], dict[str, jax.Array]],
    seeds: Sequence[int],
    rates: Sequence[float],
) -> dict[str, np.ndarray]:
    """The figures of a run with each seed's key at each rate, (rates, seeds, ...), all at once."""
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    over_seeds = jax.vmap(run, in_axes=(0, None))
    figures = jax.jit(jax.vmap(over_seeds, in_axes=(None, 0)))(keys, jnp.asarray(rates))
    return {name: np.asarray(values) for name, values in figures.items()}
