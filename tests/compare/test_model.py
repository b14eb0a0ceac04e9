import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxact
from jaxact.compare import CompareError
from jaxact.compare.model import MLP, check_activation, make_activation, split_names
from jaxact.nnx import PReLU, RReLU
from tests.support.samples import normal


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("relu", ["relu"]),
        ("relu, elu", ["relu", "elu"]),
        ("rrelu:lower=0.1,upper=0.3,relu", ["rrelu:lower=0.1,upper=0.3", "relu"]),
        ("rrelu:0.1,.3,leaky_relu:-1e-2", ["rrelu:0.1,.3", "leaky_relu:-1e-2"]),
        ("gelu:true,elu", ["gelu:true", "elu"]),
        ("relu,0.2", ["relu", "0.2"]),
        ("elu:2,nonsense", ["elu:2", "nonsense"]),
        ("elu:2,celu:3", ["elu:2", "celu:3"]),
    ],
)
def test_split_names(text, names):
    assert split_names(text) == tuple(names)


def test_every_name_splits_from_parameters():
    assert split_names(",".join(f"{name}:1" for name in jaxact.ACTIVATIONS)) == tuple(
        f"{name}:1" for name in jaxact.ACTIVATIONS
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lealy_relu", r"unknown activation 'lealy_relu'\. Did you mean 'leaky_relu'"),
        ("leaky_relu:x", r"'x' in 'leaky_relu:x' is not a number"),
        ("relu:3", r"'relu:3' has more values than parameters"),
        ("swiglu", r"swiglu combines two inputs \(gate, up\); only activations of one input"),
        ("bilinear_glu", r"bilinear_glu combines two inputs"),
        ("glu", r"glu changes the shape, from \(2, 4\) to \(2, 2\)"),
        ("crelu", r"crelu changes the shape, from \(2, 4\) to \(2, 8\)"),
        ("threshold", r"needs values for threshold, value: write for example 'threshold:thresh"),
        ("rrelu:0.5,0.1", r"lower must not exceed upper"),
        ("celu:0", r"alpha must not be 0"),
        ("leaky_relu:nan", r"negative_slope is NaN"),
        ("leaky_relu:inf", r"is not finite at x = -2"),
        ("prelu:axis=0", r"the slopes lie along the features; leave axis out"),
    ],
)
def test_unusable_activations(name, message):
    with pytest.raises(CompareError, match=message):
        check_activation(name)


def test_every_elementwise_activation_is_usable():
    unusable = {"glu", "crelu", "threshold", "swiglu", "geglu", "reglu", "bilinear_glu"}
    for name in set(jaxact.ACTIVATIONS) - unusable:
        check_activation(name)
    check_activation("threshold:0.1,0")


def test_layers():
    x = jnp.array([[-1.0, 2.0, -3.0]])
    prelu = make_activation("prelu:0.1", 3, jax.random.key(0)).layer
    assert isinstance(prelu, PReLU)
    np.testing.assert_array_equal(prelu.alpha[...], np.full(3, 0.1, np.float32))
    default = make_activation("prelu", 3, jax.random.key(0)).layer
    np.testing.assert_array_equal(default.alpha[...], np.full(3, 0.25, np.float32))
    rrelu = make_activation("rrelu:lower=0.1,upper=0.3", 3, jax.random.key(0))
    assert isinstance(rrelu.layer, RReLU)
    assert (rrelu.layer.lower, rrelu.layer.upper) == (0.1, 0.3)
    first, second = (rrelu(x, deterministic=False) for _ in range(2))
    assert (first != second).any()
    np.testing.assert_allclose(rrelu(x, deterministic=True), [[-0.2, 2.0, -0.6]], rtol=1e-6)
    fixed = make_activation("rrelu:deterministic=true", 3, jax.random.key(0))
    np.testing.assert_array_equal(fixed(x, deterministic=False), fixed(x, deterministic=True))


def network(activation, sizes=(5, 8, 4, 3), **options):
    keys = {"weights_key": jax.random.key(1), "activation_key": jax.random.key(2)}
    return MLP(activation, sizes, **keys, **options)


def test_network_is_the_plain_formula():
    model = network("leaky_relu:0.2")
    x = normal(0, (6, 5))
    h = np.asarray(x)
    for linear in model.hidden:
        h = h @ np.asarray(linear.kernel[...]) + np.asarray(linear.bias[...])
        h = np.where(h >= 0, h, 0.2 * h)
    expected = h @ np.asarray(model.last.kernel[...]) + np.asarray(model.last.bias[...])
    np.testing.assert_allclose(model(x, deterministic=False), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_compute_dtype(dtype):
    model = network("prelu", dtype=jnp.dtype(dtype))
    assert {p.dtype for p in jax.tree.leaves(nnx.state(model, nnx.Param))} == {jnp.dtype("float32")}
    x = jnp.ones((2, 5))
    assert model(x, deterministic=False).dtype == dtype
    assert {s.dtype for s in model.slopes(x)} == {jnp.dtype(dtype)}


def test_slopes():
    model = network("elu", sizes=(5, 8, 3))
    x = normal(0, (6, 5))
    z = np.asarray(model.hidden[0](x), np.float64)
    (slopes,) = model.slopes(x)
    np.testing.assert_allclose(slopes, np.where(z > 0, 1, np.exp(z)), rtol=1e-5)


def test_slopes_of_random_activations_are_the_mean_slope():
    model = network("rrelu:0.1,0.3")
    for slopes in model.slopes(normal(0, (6, 5))):
        assert set(np.unique(slopes).round(6)) == {np.float32(0.2), np.float32(1)}
