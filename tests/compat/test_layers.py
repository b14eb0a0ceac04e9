"""Neural-network libraries, each trained for a few steps with an activation given."""

import os

# Before keras is imported: its default is TensorFlow.
os.environ["KERAS_BACKEND"] = "jax"

import chex
import equinox as eqx
import flax.linen as nn_linen
import haiku as hk
import jax
import jax.export
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
from flax import nnx

from tests.support.programs import REFERENCE, WIDTH, activation, apply, check, network, normal


def data():
    return normal(16, 2), normal(16, 1, seed=1)


# Equinox


@pytest.mark.parametrize("name", ["relu", "gelu", "softplus"])
def test_equinox_mlp(name):
    def program(nn):
        model = eqx.nn.MLP(2, 1, WIDTH, 2, activation(nn, name), key=jax.random.key(0))
        optimizer = optax.adam(1e-2)
        x, y = data()

        @eqx.filter_jit
        def step(model, state):
            loss = lambda model: ((jax.vmap(model)(x) - y) ** 2).mean()  # noqa: E731
            value, gradient = eqx.filter_value_and_grad(loss)(model)
            updates, state = optimizer.update(gradient, state)
            return eqx.apply_updates(model, updates), state, value

        state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
        for _ in range(3):
            model, state, value = step(model, state)
        return jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)), value

    check(program, x64=True)


class WithPReLU(eqx.Module):
    hidden: eqx.nn.Linear
    activation: eqx.nn.PReLU
    out: eqx.nn.Linear


def test_equinox_prelu():
    """Its layer's slopes, given to the function."""

    def program(nn):
        keys = jax.random.split(jax.random.key(0))
        model = WithPReLU(
            eqx.nn.Linear(2, WIDTH, key=keys[0]), eqx.nn.PReLU(0.25),
            eqx.nn.Linear(WIDTH, 1, key=keys[1]),
        )  # fmt: skip
        x, y = data()

        @eqx.filter_jit
        @eqx.filter_value_and_grad
        def loss(model):
            hidden = jax.vmap(model.hidden)(x)
            hidden = nn.prelu(hidden, model.activation.negative_slope)
            return ((jax.vmap(model.out)(hidden) - y) ** 2).mean()

        value, gradient = loss(model)
        return value, jax.tree.leaves(gradient)

    check(program)


@pytest.mark.parametrize("name", ["silu", "selu"])
def test_equinox_in_forward_mode(name):
    def program(nn):
        model = eqx.nn.MLP(2, 1, WIDTH, 1, activation(nn, name), key=jax.random.key(0))
        params, static = eqx.partition(model, eqx.is_inexact_array)
        x, _ = data()
        call = lambda params: jax.vmap(eqx.combine(params, static))(x)  # noqa: E731

        @eqx.filter_jit
        def derivatives(params):
            return (
                eqx.filter_jvp(call, (params,), (params,)),
                eqx.filter_jacfwd(lambda x: model(x))(x[0]),
            )

        return derivatives(params)

    check(program, forward=True)


def test_equinox_checkpoint_and_closure():
    def program(nn):
        model = eqx.nn.MLP(2, 2, WIDTH, 1, nn.mish, key=jax.random.key(0))
        x, _ = data()

        @eqx.filter_jit
        @eqx.filter_grad
        def loss(model):
            block = eqx.filter_checkpoint(lambda x: x + model(x))
            closed = eqx.filter_closure_convert(block, x[0])
            return (jax.vmap(lambda x: closed(closed(x)))(x) ** 2).sum()

        return jax.tree.leaves(loss(model))

    check(program)


# Flax


class Perceptron(nnx.Module):
    def __init__(self, act, width=2):
        rngs = nnx.Rngs(0)
        self.hidden = nnx.Linear(2, WIDTH, rngs=rngs)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.out = nnx.Linear(WIDTH, width, rngs=rngs)
        self.act = act

    def __call__(self, x):
        return self.out(self.act(self.norm(self.hidden(x))))


@pytest.mark.parametrize("name", ["gelu", "leaky_relu", "swiglu"])
def test_nnx(name):
    def program(nn):
        model = Perceptron(activation(nn, name), 1)
        optimizer = nnx.Optimizer(model, optax.sgd(1e-2), wrt=nnx.Param)
        x, y = data()

        @nnx.jit
        def step(model, optimizer):
            loss = lambda model: ((model(x) - y) ** 2).mean()  # noqa: E731
            value, gradient = nnx.value_and_grad(loss)(model)
            optimizer.update(model, gradient)
            return value

        values = jnp.stack([step(model, optimizer) for _ in range(3)])
        return values, nnx.to_pure_dict(nnx.state(model, nnx.Param))

    check(program)


def test_nnx_scan_and_remat():
    def program(nn):
        @nnx.vmap(in_axes=0, out_axes=0)
        def create(rngs):
            return nnx.Linear(2, 2, rngs=rngs)

        layers = create(nnx.Rngs(0).fork(split=3))
        x, _ = data()

        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        @nnx.remat
        def forward(x, layer):
            return x + nn.elu(layer(x))

        @nnx.jit
        @nnx.grad
        def loss(layers):
            return (forward(x, layers) ** 2).mean()

        return nnx.to_pure_dict(loss(layers))

    check(program)


def test_nnx_in_forward_mode():
    def program(nn):
        graph, params, rest = nnx.split(Perceptron(nn.silu), nnx.Param, ...)
        x, _ = data()

        def call(params):
            return nnx.merge(graph, params, rest)(x)

        out, tangent = jax.jit(lambda p: jax.jvp(call, (p,), (p,)))(params)
        return out, tangent

    check(program, forward=True)


class Block(nn_linen.Module):
    act: object

    @nn_linen.compact
    def __call__(self, x, _=None):
        return x + nn_linen.Dense(2)(self.act(nn_linen.Dense(WIDTH)(x))), None


@pytest.mark.parametrize("name", ["relu6", "geglu"])
def test_linen_scan_and_remat(name):
    def program(nn):
        blocks = nn_linen.scan(
            nn_linen.remat(Block),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )(activation(nn, name))
        x, _ = data()
        variables = blocks.init(jax.random.key(0), x)
        loss = lambda v: (blocks.apply(v, x)[0] ** 2).mean()  # noqa: E731
        return jax.jit(jax.value_and_grad(loss))(variables)

    check(program)


class WithDerivative(nn_linen.Module):
    act: object
    forward: bool

    @nn_linen.compact
    def __call__(self, x):
        block, call = Block(self.act), lambda block, x: block(x)[0]
        if self.forward:
            out, tangent = nn_linen.jvp(call, block, (x,), (x,), variable_tangents={})
            return out + tangent
        out, pull = nn_linen.vjp(call, block, x)
        return out + pull(out)[1]


@pytest.mark.parametrize("forward", [True, False])
def test_linen_lifted_derivatives(forward):
    def program(nn):
        model = WithDerivative(nn.gelu, forward)
        x, _ = data()
        variables = model.init(jax.random.key(0), x)
        loss = lambda v: (model.apply(v, x) ** 2).mean()  # noqa: E731
        return jax.jit(jax.value_and_grad(loss))(variables)

    check(program, forward=forward)


# Haiku


@pytest.mark.parametrize("name", ["squareplus", "rrelu"])
def test_haiku(name):
    def program(nn):
        act = activation(nn, name)
        x, y = data()

        @hk.without_apply_rng
        @hk.transform
        def loss(x, y):
            stack = hk.experimental.layer_stack(2)(
                lambda x: x + hk.nets.MLP([4, 2], activation=act)(x)
            )
            out = hk.remat(hk.nets.MLP([WIDTH, 1], activation=act))(stack(x))
            return ((out - y) ** 2).mean()

        params = loss.init(jax.random.key(0), x, y)
        return jax.jit(jax.value_and_grad(loss.apply))(params, x, y)

    check(program)


# Keras


@pytest.mark.parametrize("name", ["relu", "gelu", "hard_silu"])
def test_keras(name, tmp_path):
    """Trained, saved, loaded."""

    def program(nn):
        keras.utils.set_random_seed(0)
        keras.utils.clear_session()
        act = getattr(nn, name)
        if nn is REFERENCE:  # Some of jax.nn's are no functions, which Keras cannot save.
            act = lambda x: getattr(REFERENCE, name)(x)  # noqa: E731
            act.__name__ = name
        model = keras.Sequential(
            [keras.Input((2,)), keras.layers.Dense(WIDTH, activation=act), keras.layers.Dense(1)]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse")
        x, y = (np.asarray(a) for a in data())
        losses = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history["loss"]
        model.save(tmp_path / "model.keras")
        # The file has the function's name.
        loaded = keras.models.load_model(
            tmp_path / "model.keras", custom_objects={act.__name__: act}
        )
        return jnp.asarray(losses), [jnp.asarray(w) for w in loaded.get_weights()], loaded(x)

    check(program)


# JAX's own


@pytest.mark.parametrize("name", ["leaky_relu", "prelu"])
def test_exported(name):
    """A gradient and a step in forward mode, as bytes and back, for a batch of any size."""

    def program(nn):
        act = activation(nn, name)
        loss = lambda p, x: (apply(p, x, act) ** 2).mean()  # noqa: E731
        params, (x, _) = network(), data()

        def round_trip(f, vjp_order=0):
            (batch,) = jax.export.symbolic_shape("batch")
            shapes = jax.eval_shape(lambda: params), jax.ShapeDtypeStruct((batch, 2), x.dtype)
            exported = jax.export.export(jax.jit(f))(*shapes)
            return jax.export.deserialize(exported.serialize(vjp_order)).call

        along = lambda p, x: jax.jvp(lambda x: loss(p, x), (x,), (x,))[1]  # noqa: E731
        return (
            jax.jit(jax.grad(round_trip(loss, vjp_order=1)))(params, x),
            round_trip(along)(params, x),
        )

    check(program, forward=True)


class TestVariants(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_device=True)
    def test_chex(self):
        def program(nn):
            both = lambda x: (nn.sigmoid(x), jax.grad(lambda x: nn.mish(x).sum())(x))  # noqa: E731
            return self.variant(both)(normal(5))

        check(program)
