"""Quantisation and LoRA by qwix, which intercepts products while a model is called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn, nnx

import jaxact
import jaxact.linen
import jaxact.nnx
from tests.support.samples import normal

#: The warnings are qwix's own.
pytestmark = [pytest.mark.compat, pytest.mark.filterwarnings("ignore")]

KEY = jax.random.key(3)
WIDTH, HIDDEN = 16, 32
X = normal(1, (4, WIDTH))
LAYERS = {"MLP": ("linear_in", "linear_out"), "GatedMLP": ("gate", "up", "down")}
CASES = pytest.mark.parametrize(
    ("block", "activation"),
    [
        ("MLP", "gelu"),
        ("MLP", "prelu"),
        ("MLP", jax.nn.gelu),
        ("GatedMLP", "silu"),
        ("GatedMLP", "leaky_relu:0.2"),
    ],
)


@pytest.fixture
def qwix():
    import qwix

    return qwix


@pytest.fixture
def rules(qwix):
    return [qwix.QuantizationRule(weight_qtype=jnp.int8, act_qtype=jnp.int8)]


@pytest.fixture(autouse=True)
def strict_promotion():
    """qwix promotes dtypes and ranks implicitly."""


class InNnx(nnx.Module):
    """A model with the block, or with the same written out with Flax's layers."""

    def __init__(self, block, activation, *, written_out=False, rngs):
        self.block = getattr(jaxact.nnx, block)(WIDTH, HIDDEN, activation=activation, rngs=rngs)
        self.written_out = written_out

    def __call__(self, x):
        if not self.written_out:
            return x + self.block(x)
        return x + self.by_hand(x)

    def by_hand(self, x):
        layer = self.block.hidden_activation
        act = jaxact.get(layer.activation) if layer.layer is None else layer
        if hasattr(self.block, "linear_in"):
            return self.block.linear_out(act(self.block.linear_in(x)))
        return self.block.down(act(self.block.gate(x)) * self.block.up(x))


class WrittenOut(nn.Module):
    """The block of Linen, with the same names."""

    block: str
    activation: object

    @nn.compact
    def __call__(self, x):
        learned = jaxact.linen.Activation(self.activation, HIDDEN, name="hidden_activation")
        act = learned if self.activation == "prelu" else jaxact.get(self.activation)
        if self.block == "MLP":
            return nn.Dense(WIDTH, name="linear_out")(act(nn.Dense(HIDDEN, name="linear_in")(x)))
        gate, up = (nn.Dense(HIDDEN, use_bias=False, name=name)(x) for name in ("gate", "up"))
        return nn.Dense(WIDTH, use_bias=False, name="down")(act(gate) * up)


def of_type(tree, dtype):
    """The modules that hold arrays of a dtype."""
    return {
        name
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        for name in LAYERS["MLP"] + LAYERS["GatedMLP"]
        if f"'{name}'" in jax.tree_util.keystr(path) and leaf.dtype == dtype
    }


def models(block, activation):
    """The block after calls in float, and the same written out."""
    model, other = (
        InNnx(block, activation, written_out=w, rngs=nnx.Rngs(0)) for w in (False, True)
    )
    model(X)
    nnx.jit(lambda model, x: model(x))(model, X)
    return model, other


def distance(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


@CASES
def test_post_training_quantization_of_nnx(qwix, rules, block, activation):
    model, other = models(block, activation)
    quantized, expected = (
        qwix.quantize_model(m, qwix.PtqProvider(rules), X) for m in (model, other)
    )
    assert of_type(nnx.state(quantized), jnp.int8) == set(LAYERS[block])
    np.testing.assert_allclose(quantized(X), expected(X), rtol=1e-5, atol=1e-6)
    jitted = nnx.jit(lambda model, x: model(x))
    np.testing.assert_allclose(jitted(quantized, X), expected(X), rtol=1e-5, atol=1e-6)
    assert 0 < distance(quantized(X), model(X)) < 0.05
    # The model itself is as it was, and is not quantised by its later calls.
    assert not of_type(nnx.state(model), jnp.int8)
    np.testing.assert_allclose(model(X), other(X), rtol=1e-5, atol=1e-6)


@CASES
def test_quantized_training_of_nnx(qwix, rules, block, activation):
    model, other = models(block, activation)
    trained, expected = (qwix.quantize_model(m, qwix.QtProvider(rules), X) for m in (model, other))
    np.testing.assert_allclose(trained(X), expected(X), rtol=1e-5, atol=1e-6)
    assert distance(trained(X), model(X)) > 0

    def loss(model):
        return (model(X) ** 2).mean()

    for take in (nnx.grad(loss), nnx.jit(nnx.grad(loss))):
        pairs = zip(*(jax.tree.leaves(take(m)) for m in (trained, expected)), strict=True)
        for a, e in pairs:
            np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-5)


@CASES
def test_lora_of_nnx(qwix, block, activation):
    model, other = models(block, activation)

    def adapted(model):
        provider = qwix.LoraProvider(module_path=".*", rank=2, alpha=4.0)
        return qwix.apply_lora_to_model(model, provider, X, rngs=nnx.Rngs(5))

    lora, expected = adapted(model), adapted(other)
    np.testing.assert_allclose(lora(X), model(X), rtol=1e-5, atol=1e-6)
    for m in (lora, expected):
        parameters = nnx.state(m, nnx.LoRAParam)
        names = {path[-2] for path, _ in nnx.to_flat_state(parameters)}
        assert names == set(LAYERS[block])
        nnx.update(m, jax.tree.map(lambda p: p + 0.1, parameters))
    np.testing.assert_allclose(lora(X), expected(X), rtol=1e-4, atol=1e-5)
    assert distance(lora(X), model(X)) > 0.01

    def gradient(model):
        of = nnx.DiffState(0, nnx.LoRAParam)
        return nnx.grad(lambda m: (m(X) ** 2).mean(), argnums=of)(model)

    pairs = zip(*(jax.tree.leaves(gradient(m)) for m in (lora, expected)), strict=True)
    for a, e in pairs:
        np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-4)
        assert (a != 0).any()


@CASES
def test_linen(qwix, rules, block, activation):
    model = getattr(jaxact.linen, block)(WIDTH, HIDDEN, activation=activation)
    other = WrittenOut(block, activation)
    params = model.init(KEY, X)["params"]
    plain = model.apply({"params": params}, X)
    jax.jit(model.apply)({"params": params}, X)

    def quantized(model):
        quantizer = qwix.quantize_model(model, qwix.PtqProvider(rules))
        abstract = jax.eval_shape(quantizer.init, KEY, X)["params"]
        return quantizer, qwix.quantize_params(params, abstract)

    results = []
    for m in (model, other):
        quantizer, new = quantized(m)
        assert of_type(new, jnp.int8) == set(LAYERS[block])
        results.append(quantizer.apply({"params": new}, X))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)
    assert 0 < distance(results[0], plain) < 0.05

    training = [qwix.quantize_model(m, qwix.QtProvider(rules)) for m in (model, other)]
    gradients = [
        jax.grad(lambda p, m=m: (m.apply({"params": p}, X) ** 2).mean())(params) for m in training
    ]
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-5), *gradients)

    provider = qwix.LoraProvider(module_path=".*", rank=2, alpha=4.0)
    variables = qwix.apply_lora_to_model(model, provider).init(KEY, X)
    for name in LAYERS[block]:
        assert {"kernel_lora_a", "kernel_lora_b"} <= set(variables["params"][name])
