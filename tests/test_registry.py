import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxact
from jaxact import registry

X = jnp.array([-2.0, 0.5, 3.0])


def test_names_are_those_of_the_package():
    for name, function in jaxact.ACTIVATIONS.items():
        assert getattr(jaxact, name) is function
    with pytest.raises(TypeError):
        jaxact.ACTIVATIONS["mine"] = jaxact.relu  # type: ignore[index]


@pytest.mark.parametrize(
    ("spec", "parameters", "expected"),
    [
        ("relu", {}, jaxact.relu(X)),
        ("leaky_relu:0.2", {}, jaxact.leaky_relu(X, 0.2)),
        ("leaky_relu:negative_slope=0.2", {}, jaxact.leaky_relu(X, 0.2)),
        ("leaky_relu", {"negative_slope": 0.3}, jaxact.leaky_relu(X, 0.3)),
        ("elu: 2", {}, jaxact.elu(X, 2)),
        ("prelu:0.25", {}, jaxact.prelu(X, 0.25)),
        ("hard_tanh:-2,2", {}, jaxact.hard_tanh(X, min_val=-2, max_val=2)),
        ("rrelu:0.1,0.3", {"deterministic": True}, jaxact.leaky_relu(X, 0.2)),
        ("rrelu:upper=0.3,lower=0.1,deterministic=True", {}, jaxact.leaky_relu(X, 0.2)),
        ("gelu:approximate=false", {}, jaxact.gelu(X, approximate=False)),
        ("gelu", {"approximate": False}, jaxact.gelu(X, approximate=False)),
        (jax.nn.relu, {}, jaxact.relu(X)),
        (jaxact.leaky_relu, {"negative_slope": 0.3}, jaxact.leaky_relu(X, 0.3)),
    ],
)
def test_get(spec, parameters, expected):
    np.testing.assert_allclose(jaxact.get(spec, **parameters)(X), expected, rtol=1e-6)


def test_a_name_alone_gives_the_function_itself():
    assert jaxact.get("relu") is jaxact.relu
    assert isinstance(jaxact.get("leaky_relu:0.2"), functools.partial)


@pytest.mark.parametrize(
    ("spec", "parameters", "message"),
    [
        ("leaky_rely", {}, "get: unknown activation 'leaky_rely'. Did you mean 'leaky_relu'"),
        ("zzz", {}, "get: unknown activation 'zzz'. The names are: identity, relu"),
        ("", {}, "get: unknown activation ''"),
        ("LeakyRelu", {}, "get: unknown activation 'LeakyRelu'. Did you mean 'leaky_relu'"),
        ("GELU", {}, "get: unknown activation 'GELU'. Did you mean 'gelu'"),
        ("leaky_relu:steep", {}, "get: 'steep' in 'leaky_relu:steep' is not a number; write for"),
        ("leaky_relu:", {}, "get: '' in 'leaky_relu:' is not a number"),
        ("leaky_relu:1,2", {}, r"get: 'leaky_relu:1,2' has more values than parameters \(neg"),
        ("relu:1", {}, r"get: 'relu:1' has more values than parameters \(none\)"),
        ("elu:slope=2", {}, "get: elu has no parameter 'slope'; it has alpha"),
        ("relu", {"slope": 2}, "get: relu has no parameter 'slope'; it has none"),
        ("elu:2", {"alpha": 1}, "get: alpha is given twice for 'elu:2'"),
    ],
)
def test_errors(spec, parameters, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        jaxact.get(spec, **parameters)


@pytest.mark.parametrize("activation", [None, 3])
def test_what_is_no_activation(activation):
    with pytest.raises(TypeError, match=f"^get: pass a name such as .*, not {activation}"):
        jaxact.get(activation)


def test_a_key_is_given_by_keyword():
    key = jax.random.key(0)
    np.testing.assert_array_equal(jaxact.get("rrelu", key=key)(X), jaxact.rrelu(X, key))


def test_every_name_can_be_got():
    for name in registry.ACTIVATIONS:
        assert jaxact.get(name) is jaxact.ACTIVATIONS[name]
