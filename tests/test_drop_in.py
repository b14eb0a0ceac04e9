"""``import jaxact as nn``: names, signatures and results of jax.nn."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxact

NAMES = [name for name in jaxact.ACTIVATIONS if hasattr(jax.nn, name)]
NOT_ACTIVATIONS = {
    "dot_product_attention", "get_scaled_dot_general_config", "initializers", "log1mexp",
    "log_softmax", "logmeanexp", "logsumexp", "one_hot", "scaled_dot_general", "scaled_matmul",
    "softmax", "standardize",
}  # fmt: skip


def test_has_every_activation_of_jax_nn():
    names = {name for name in dir(jax.nn) if name[0] != "_"}
    assert names - NOT_ACTIVATIONS == set(NAMES)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "tanh"])
def test_same_parameters(name):
    theirs = inspect.signature(getattr(jax.nn, name)).parameters
    ours = inspect.signature(getattr(jaxact, name)).parameters
    positional = [p for p in ours.values() if p.kind is not p.KEYWORD_ONLY]
    assert [p.name for p in positional] == list(theirs)
    assert [p.default for p in positional] == [p.default for p in theirs.values()]


@pytest.mark.parametrize("name", NAMES)
def test_same_results(name):
    x = jnp.concatenate([jnp.linspace(-5, 5, 1001), jnp.array([3.0, 6.0, -3.0])])
    theirs, ours = getattr(jax.nn, name), getattr(jaxact, name)

    @jax.jit
    def values_and_gradients(x):
        return [(f(x), jax.grad(lambda x, f=f: f(x).sum())(x)) for f in (ours, theirs)]

    (y, gradient), (expected, expected_gradient) = values_and_gradients(x)
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=1e-6)
    # jax.nn's gelu has lost its tail below -5, by up to 4e-6.
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=5e-6)
    if name != "glu":
        # A Python scalar does not widen what its result meets later.
        assert ours(1.5).weak_type
        assert ours(3).weak_type


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("glu", "identity")])
def test_same_branch_conventions(name):
    @jax.jit
    def slopes(points):
        return [jax.vmap(jax.grad(getattr(library, name)))(points) for library in (jaxact, jax.nn)]

    np.testing.assert_allclose(
        *slopes(jnp.array([0.0, 1.0, -1.0, 3.0, -3.0, 6.0])), rtol=1e-4, atol=1e-6
    )


def test_gradients_that_are_nan_in_jax_nn():
    assert jax.grad(jaxact.gelu)(jnp.float16(200.0)) == 1
    assert jax.grad(jaxact.gelu)(jnp.float32(1e20)) == 1
    assert jax.grad(jaxact.gelu)(jnp.bfloat16(-1e20)) == 0


@pytest.mark.parametrize("name", ["elu", "celu", "selu"])
def test_units_that_die_in_low_precision_stay_alive(name):
    assert jax.grad(getattr(jaxact, name))(jnp.bfloat16(-20)) > 0
    assert jax.grad(getattr(jaxact, name))(jnp.float32(-80)) > 0


def test_leaks_no_tracers():
    @jax.jit
    def scanned():
        a = jnp.array(1.0)
        return jax.lax.scan(
            lambda x, _: (jaxact.sigmoid(jaxact.leaky_relu(x + a)), None), jnp.array(0.0), length=2
        )

    with jax.checking_leaks():
        scanned()


def test_huge_arrays_are_not_made_while_tracing():
    for call in (jaxact.elu, jaxact.hard_tanh, lambda x: jaxact.rrelu(x, jax.random.key(0))):
        jax.make_jaxpr(call)(jax.ShapeDtypeStruct((10**12,), jnp.float32))
