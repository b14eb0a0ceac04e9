import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxact
from jaxact._errors import CompareError
from jaxact.compare.activations import (
    as_function,
    check_activation,
    identity_of,
    is_learned,
    make_activation,
    split_names,
    swept_parameters,
)
from jaxact.nnx import PReLU, RReLU


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
    unusable |= {"clamped_swiglu", "situ_glu"}
    unusable |= {"softcap"}
    for name in set(jaxact.ACTIVATIONS) - unusable:
        check_activation(name)
    check_activation("threshold:0.1,0")
    check_activation("softcap:30")


def test_xielu_is_learned():
    layer = make_activation("xielu:alpha_p=1.5", 3, jax.random.key(0)).layer
    swept = make_activation(
        "xielu:beta=0.25", 3, jax.random.key(0), {"alpha_p": 1.5, "alpha_n": 0.55}
    ).layer
    for each in (layer, swept):
        np.testing.assert_allclose(jax.nn.softplus(each.alpha_p[...]), np.full(3, 1.5), rtol=1e-6)
        np.testing.assert_allclose(jax.nn.softplus(each.alpha_n[...]), np.full(3, 0.3), rtol=1e-5)
    assert (layer.beta, swept.beta) == (0.5, 0.25)
    assert identity_of("xielu") == identity_of("xielu:0.8,0.8")
    assert is_learned("xielu:0.8,0.8")


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


def test_layers_with_values():
    """Parameters that are operands: the same layers as with the numbers in their names."""
    x = jnp.array([[-1.0, 2.0, -3.0]])
    for name, values, same in (
        ("leaky_relu", {"negative_slope": 0.1}, "leaky_relu:0.1"),
        ("prelu", {"alpha": 0.1}, "prelu:0.1"),
        ("rrelu", {"lower": 0.1, "upper": 0.3}, "rrelu:0.1,0.3"),
        ("elu:alpha=2", {}, "elu:2"),
    ):
        key = jax.random.key(0)
        plain = make_activation(same, 3, key)
        layer = jax.jit(
            lambda values, x, name=name, key=key: make_activation(name, 3, key, values)(
                x, deterministic=True
            )
        )
        np.testing.assert_allclose(layer(values, x), plain(x, deterministic=True), rtol=1e-6)
    drawn = make_activation("rrelu", 3, jax.random.key(0), {"lower": 0.1, "upper": 0.3})
    first, second = (np.asarray(drawn(x, deterministic=False)) for _ in range(2))
    assert (first != second).any()
    slopes = np.concatenate([y[x < 0] / np.asarray(x)[x < 0] for y in (first, second)])
    assert (slopes >= 0.1).all() and (slopes < 0.3).all()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("relu", ()),
        ("leaky_relu", ("negative_slope",)),
        ("leaky_relu:0.1", ()),
        ("prelu", ("alpha",)),
        ("rrelu", ("lower", "upper")),
        ("rrelu:upper=0.3", ("lower",)),
        ("gelu", ()),  # a flag is no number
        ("elu", ("alpha",)),
    ],
)
def test_what_can_be_swept(name, parameters):
    assert swept_parameters(name) == parameters


def test_functions():
    x = jnp.array([-1.0, 2.0])
    np.testing.assert_allclose(
        as_function("leaky_relu", {"negative_slope": 0.3}, None)(x), [-0.3, 2]
    )
    np.testing.assert_allclose(as_function("rrelu:0.1,0.3", {}, None)(x), [-0.2, 2.0])
    drawn = as_function("rrelu:0.1,0.3", {}, jax.random.key(0))(x)
    assert -0.3 < drawn[0] <= -0.1 and drawn[0] != -0.2
