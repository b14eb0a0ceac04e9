import concurrent.futures
import copy
import functools
import gc
import json
import math
import pickle
import sys
import types

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


def one():
    return jaxact.get("leaky_relu:0.2")


def test_the_same_parameters_make_the_same_object():
    kept = one()
    assert one() is one()
    for same in (
        jaxact.get("leaky_relu", negative_slope=0.2),
        jaxact.get("leaky_relu", negative_slope=np.float64(0.2)),
        jaxact.get("leaky_relu:negative_slope=0.2"),
        jaxact.get(jaxact.leaky_relu, negative_slope=0.2),
        jaxact.get(kept),
        jaxact.get(jaxact.get("leaky_relu:0.1"), negative_slope=0.2),
    ):
        assert same is kept
    assert jaxact.get("rrelu:lower=0.1,upper=0.2") is jaxact.get("rrelu", upper=0.2, lower=0.1)
    assert jaxact.get("swish:beta=2") is jaxact.get("silu:beta=2")
    elsewhere = jaxact.get(jax.nn.leaky_relu, negative_slope=0.2)
    assert jaxact.get(jax.nn.leaky_relu, negative_slope=0.2) is elsewhere is not kept
    assert (kept.func, kept.keywords) == (jaxact.leaky_relu, {"negative_slope": 0.2})


def test_other_parameters_make_another():
    kept = [
        jaxact.get("rrelu", deterministic=True, **{name: value})
        for name, value in (("divisor", True), ("divisor", 1), ("divisor", 1.0), ("lower", 0.1))
    ]
    assert len(set(kept)) == 4
    with pytest.raises(TypeError, match="divisor must be True or False"):
        kept[1](X)


def test_arrays_and_traced_parameters_are_not_kept():
    slope = jnp.float32(0.2)
    assert jaxact.get("prelu", alpha=slope) is not jaxact.get("prelu", alpha=slope)
    seen = []

    @jax.jit
    def traced(slope):
        seen.append(jaxact.get("prelu", alpha=slope))
        return seen[-1](X)

    before = len(registry._LIVING)
    np.testing.assert_array_equal(traced(slope), jaxact.prelu(X, 0.2))
    assert len(registry._LIVING) == before
    assert jaxact.get("prelu", alpha=np.array(0.25)) is jaxact.get("prelu:0.25")


def test_what_is_not_used_is_not_kept():
    before = len(registry._LIVING)
    for i in range(100):
        jaxact.get("leaky_relu", negative_slope=1e-6 * i)
    gc.collect()
    assert len(registry._LIVING) <= before


def test_threads_get_one_object():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: jaxact.get("elu", alpha=0.5 + i // 8), range(400)))
    assert len(set(map(id, made))) == 50


@pytest.mark.parametrize(
    "name", [*registry.ACTIVATIONS, "leaky_relu:0.2", "gelu:approximate=False"]
)
def test_pickles_and_copies_are_the_object_itself(name):
    activation = jaxact.get(name)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(activation, protocol)) is activation
    assert copy.copy(activation) is copy.deepcopy(activation) is activation


def test_pickles_of_other_partials():
    key = np.array([0, 1], np.uint32)
    again = pickle.loads(pickle.dumps(jaxact.get("rrelu", key=key)))
    np.testing.assert_array_equal(again(X), jaxact.rrelu(X, key))
    assert repr(again) == "jaxact.get('rrelu', key=array([0, 1], dtype=uint32))" == str(again)
    elsewhere = jaxact.get(jax.nn.leaky_relu, negative_slope=0.2)
    assert copy.copy(elsewhere) is elsewhere


def test_static_arguments_of_jit():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def apply(activation, x):
        traces.append(activation)
        return activation(x)

    for activation in ("leaky_relu:0.2", "relu", "elu:2", "leaky_relu:0.2", "relu"):
        np.testing.assert_allclose(
            apply(jaxact.get(activation), X), jaxact.get(activation)(X), rtol=1e-6
        )
        gc.collect()
    assert len(traces) == 3


@pytest.mark.parametrize(
    "parameters",
    [
        {"negative_slope": value}
        for value in (0.2, 1e-30, 1 / 3, -0.5, 2, math.inf, np.float32(0.1))
    ],
)
def test_texts_lead_back(parameters):
    activation = jaxact.get("leaky_relu", **parameters)
    assert jaxact.get(str(activation)) is activation
    names = {"jaxact": jaxact, "inf": math.inf}
    assert eval(repr(activation), names) is activation
    config = json.loads(json.dumps(activation.get_config()))
    assert config == {"activation": str(activation)}
    assert type(activation).from_config(config) is activation


def test_texts():
    assert str(one()) == "leaky_relu:negative_slope=0.2"
    assert repr(one()) == "jaxact.get('leaky_relu', negative_slope=0.2)"
    rrelu = jaxact.get("rrelu:0.1,0.3,deterministic=true")
    assert str(rrelu) == "rrelu:deterministic=True,lower=0.1,upper=0.3"
    assert jaxact.get(str(rrelu)) is rrelu


@pytest.mark.parametrize(
    "activation",
    [
        jaxact.get("prelu", alpha=np.ones(3)),
        jaxact.get(jax.nn.leaky_relu, negative_slope=0.2),
    ],
)
def test_what_has_no_text_has_no_configuration(activation):
    with pytest.raises(TypeError, match=r"^get: jaxact.get\(.*cannot be saved: the function must"):
        activation.get_config()


def test_registration_with_keras(monkeypatch):
    """All activations, and before the name of a partial's class is looked up."""
    registered = {}

    def register_keras_serializable(package):
        return lambda made: registered.update({f"{package}>{made.__name__}": made})

    keras = types.ModuleType("keras")
    keras.saving = types.SimpleNamespace(register_keras_serializable=register_keras_serializable)
    monkeypatch.setitem(sys.modules, "keras", keras)
    assert one().get_config() == {"activation": "leaky_relu:negative_slope=0.2"}
    assert registered.pop("jaxact>Parameterized") is type(one())
    assert set(registered.values()) == set(jaxact.ACTIVATIONS.values())
    assert registered["jaxact>gelu"] is jaxact.gelu
