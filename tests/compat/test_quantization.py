"""qwix: models of Flax whose products are quantised around the activation."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import pytest
import qwix
from flax import nnx

from tests.support.programs import WIDTH, activation, check, normal


class Linen(linen.Module):
    act: object

    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(self.act(linen.Dense(WIDTH)(x)))


class Nnx(nnx.Module):
    def __init__(self, act):
        rngs = nnx.Rngs(0)
        self.hidden = nnx.Linear(2, WIDTH, rngs=rngs)
        self.out = nnx.Linear(WIDTH, 1, rngs=rngs)
        self.act = act

    def __call__(self, x):
        return self.out(self.act(self.hidden(x)))


RULE = {"module_path": ".*", "weight_qtype": jnp.int8, "act_qtype": jnp.int8}


@pytest.mark.parametrize("name", ["gelu", "relu", "prelu"])
def test_quantisation_aware_training(name):
    """Values and gradients of the model with 8 bits."""

    def program(nn):
        provider = qwix.QtProvider([qwix.QtRule(**RULE)])
        model = qwix.quantize_model(Linen(activation(nn, name)), provider)
        x = normal(16, 2)
        variables = model.init(jax.random.key(0), x)
        loss = lambda v: (model.apply(v, x) ** 2).mean()  # noqa: E731
        return jax.jit(jax.value_and_grad(loss))(variables)

    # What rounds differently is a step of 8 bits off.
    check(program, x64=True)


@pytest.mark.parametrize("name", ["silu", "leaky_relu"])
def test_post_training_quantisation(name):
    def program(nn):
        x = normal(16, 2)
        provider = qwix.PtqProvider([qwix.QuantizationRule(**RULE)])
        model = qwix.quantize_model(Nnx(activation(nn, name)), provider, x)
        weights = [leaf for leaf in jax.tree.leaves(nnx.state(model)) if leaf.dtype == jnp.int8]
        assert len(weights) == 2
        return nnx.jit(lambda m, x: m(x))(model, x), weights

    check(program, x64=True)


def test_lora():
    """Of a model with 8 bits, the adapters' gradients."""

    def program(nn):
        x = normal(16, 2)
        provider = qwix.LoraProvider([qwix.LoraRule(module_path=".*", rank=2, alpha=1.0)])
        model = qwix.apply_lora_to_model(Nnx(nn.softplus), provider, x, rngs=nnx.Rngs(1))
        adapters = nnx.state(model, nnx.LoRAParam)
        assert len(jax.tree.leaves(adapters)) == 4
        loss = lambda model: (model(x) ** 2).mean()  # noqa: E731
        wrt = nnx.DiffState(0, nnx.LoRAParam)
        value, gradient = nnx.jit(nnx.value_and_grad(loss, argnums=wrt))(model)
        return value, nnx.to_pure_dict(gradient)

    check(program)
