"""Any JAX model, with its own loss and data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxact
from jaxact._errors import CompareError
from jaxact.compare import conclude, render
from jaxact.compare.model import BATCHES, key
from jaxact.compare.models import models
from jaxact.compare.study import Cell


def loss(params, batch):
    x, y = batch
    return jnp.mean((jax.nn.relu(x @ params["a"]) @ params["b"] - y) ** 2)


def params(key):
    return {"a": jax.random.normal(key, (3, 8)), "b": jnp.full((8, 1), 0.1)}


@functools.cache
def batches():
    x = jax.random.normal(jax.random.key(0), (10, 16, 3))
    return [(one, one[:, :1] ** 2) for one in x]


@functools.cache
def study():
    return models(
        loss,
        params,
        batches(),
        activations=["relu", "gelu", "prelu", "rrelu"],
        seeds=8,
        epochs=3,
        optimizer=optax.sgd(0.01),
    )


def test_figures():
    made = study()
    assert made.missing == []
    for cell, figures in made.figures.items():
        assert list(figures.scores) == ["loss"]
        assert figures.curves["train_loss"].shape == (8, 3)
        assert (figures.final_train_loss < figures.curves["train_loss"][:, 0]).all(), cell
        assert figures.dead_by_layer.shape == (8, 3, 1)
    slopes = made.figures[Cell("prelu")].learned_slopes
    assert slopes.shape == (8, 1) and (slopes != 0.25).all()
    losses = {tuple(f.final_train_loss) for f in made.figures.values()}
    assert len(losses) == 4
    assert len(set(made.figures[Cell("relu")].final_train_loss.tolist())) == 8


def test_it_is_the_same_training_written_out():
    """Stochastic gradient descent on the batches in their shuffled order, with plain JAX."""
    one = models(
        loss, params(jax.random.key(3)), batches(), activations=["relu"], seeds=1, epochs=1,
        optimizer=optax.sgd(0.05),
    )  # fmt: skip
    order = jax.random.permutation(jax.random.fold_in(key(jnp.uint32(0), BATCHES), 0), 8)
    p = params(jax.random.key(3))
    for i in order:
        gradient = jax.grad(loss)(p, batches()[int(i)])
        p = jax.tree.map(lambda a, g: a - 0.05 * g, p, gradient)
    expected = np.mean([loss(p, batch) for batch in batches()[:8]])
    figures = one.figures[Cell("relu")]
    np.testing.assert_allclose(figures.final_train_loss, expected, rtol=1e-5)
    np.testing.assert_allclose(figures.scores["loss"], loss(p, batches()[9]), rtol=1e-5)


def test_it_is_said_and_shown():
    sentences = conclude(study())
    assert sentences[0].startswith(("Keep relu", "On this data "))
    text = render([study()], 80, colour=False)
    assert "loss" in text and "gelu" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_test_of_its_own():
    """Other batches for the test; the last fifth then only chooses the epoch."""
    test = [(x + 1, y) for x, y in batches()[:3]]
    one = models(loss, params, batches(), activations=["relu"], test=test, seeds=2, epochs=1)
    data = one.configuration["data"]
    assert [data[f"{p}_samples"] for p in ("training", "validation", "test")] == [8, 2, 3]
    own = study().figures[Cell("relu")].scores["loss"][:2]
    assert (one.figures[Cell("relu")].scores["loss"] != own).all()


def test_the_activation_is_replaced():
    """In a model whose activation is another one of several."""

    def two(params, batch):
        x, y = batch
        h = jnp.tanh(x @ params["a"])
        return jnp.mean((jaxact.silu(h) @ params["b"] - y) ** 2)

    made = models(
        two, params, batches(), activations=["tanh", "identity"], replace="tanh", seeds=2, epochs=1
    )
    first, second = made.figures.values()
    assert (first.final_train_loss != second.final_train_loss).all()
    # silu is still there, and one site in the model without tanh.
    assert [f.dead_by_layer.shape[2] for f in (first, second)] == [2, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batches": []}, "0 batches are too few; give four or more"),
        ({"batches": 3}, "3 batches are too few"),
        ({"loss": lambda p, b: jax.nn.relu(b[0] @ p["a"])}, r"its shape is \(16, 8\)"),
        ({"replace": "silu"}, "models: .*silu"),
        ({"activations": ["relu", "lealy"]}, "unknown activation 'lealy'"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"test": []}, "10 batches are too few|give four"),
    ],
)
def test_what_cannot_be_compared(changes, message):
    arguments = {"loss": loss, "params": params, "batches": batches(), "activations": ["relu"]}
    arguments |= changes
    if isinstance(arguments["batches"], int):
        arguments["batches"] = batches()[:3]
    with pytest.raises(CompareError, match=message):
        models(**arguments)


def test_batches_of_other_shapes():
    x, y = batches()[0]
    with pytest.raises(CompareError, match="batches must have the same shapes"):
        models(loss, params, [*batches(), (x[:5], y[:5])], activations=["relu"])
