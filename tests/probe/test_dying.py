"""A ReLU network whose units have died of a high learning rate: found, named, brought back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.datasets import load_digits

import jaxact


class MLP(nnx.Module):
    """As a Flax user writes it; jaxact is not in it."""

    def __init__(self, rngs):
        he = nnx.initializers.he_normal()
        self.hidden = nnx.List(nnx.Linear(64, 64, kernel_init=he, rngs=rngs) for _ in range(3))
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.head(x)


def plain(model, x):
    return model(x)


def leaky(model, x):
    return jaxact.swap(model, {"relu": jaxact.leaky_relu})(x)


def train(model, forward, learning_rate, epochs, x, y):
    optimizer = nnx.Optimizer(model, optax.adam(learning_rate), wrt=nnx.Param)

    @nnx.jit
    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    def steps(state, batch):
        model, optimizer = state

        def loss(model):
            logits = forward(model, x[batch])
            return optax.softmax_cross_entropy_with_integer_labels(logits, y[batch]).mean()

        optimizer.update(model, nnx.grad(loss)(model))
        return model, optimizer

    rng = np.random.default_rng(0)
    batches = [rng.permutation(len(x))[:1750].reshape(35, 50) for _ in range(epochs)]
    steps((model, optimizer), jnp.asarray(np.concatenate(batches)))
    return model


@pytest.mark.slow
def test_found_named_and_brought_back():
    # A user's code, and optax's, may promote.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        images, labels = load_digits(return_X_y=True)
        x = jnp.asarray((images - images.mean()) / images.std(), jnp.float32)
        y = jnp.asarray(labels)
        broken = train(MLP(nnx.Rngs(0)), plain, 0.1, 10, x, y)

        # Those that the report calls dead are those that are.
        _, report = jaxact.probe(broken)(x)
        hidden = x
        for layer, site in zip(broken.hidden, report.sites, strict=True):
            pre_activation = layer(hidden)
            np.testing.assert_array_equal(site.dead, (pre_activation <= 0).all(0))
            hidden = nnx.relu(pre_activation)
        assert np.mean([site.dead for site in report.sites]) > 0.2

        # The advice names the layers, and what to put there.
        advice = report.advice()
        affected = {f"MLP (relu, #{site.index})" for site in report.sites if site.dead.mean() > 0.1}
        assert affected and affected <= {name for suggestion in advice for name in suggestion.sites}
        assert "leaky_relu" in str(advice)

        def dead(model):
            """The share of dead units with ReLU, whatever the model is trained with."""
            return np.mean([site.dead for site in jaxact.probe(plain)(model, x)[1].sites])

        def accuracy(forward, model):
            return float((forward(model, x).argmax(-1) == y).mean())

        # Another function, the same weights: no unit is without a gradient, many come back.
        _, swapped = jaxact.probe(leaky)(broken, x)
        assert [site.function for site in swapped.sites] == ["leaky_relu"] * 3
        assert not any(site.dead.any() for site in swapped.sites)
        with_relu = train(nnx.clone(broken), plain, 0.01, 15, x, y)
        with_leaky = train(nnx.clone(broken), leaky, 0.01, 15, x, y)
        assert dead(with_relu) > dead(broken) - 0.1
        assert dead(with_leaky) < dead(broken) - 0.1
        assert accuracy(leaky, with_leaky) > accuracy(plain, with_relu)

        # New weights, the same outputs.
        revived = jaxact.revive(nnx.clone(broken), report)
        np.testing.assert_array_equal(revived(x), broken(x))
        assert dead(revived) < 0.1
        train(revived, plain, 0.01, 15, x, y)
        assert dead(revived) < 0.3
        assert accuracy(plain, revived) > max(0.9, accuracy(plain, with_relu))
