import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxact._errors import CompareError
from jaxact.compare.model import CNN, MLP, BuiltIn, patches
from tests.support.samples import normal


def network(activation, sizes=(5, 8, 4, 3), kind=MLP, **options):
    keys = {"weights_key": jax.random.key(1), "activation_key": jax.random.key(2)}
    return kind(activation, sizes, **keys, **options)


def test_network_is_the_plain_formula():
    model = network("leaky_relu:0.2")
    x = normal(0, (6, 5))
    h = np.asarray(x)
    for linear in model.hidden:
        h = h @ np.asarray(linear.kernel[...]) + np.asarray(linear.bias[...])
        h = np.where(h >= 0, h, 0.2 * h)
    expected = h @ np.asarray(model.last.kernel[...]) + np.asarray(model.last.bias[...])
    np.testing.assert_allclose(model(x, deterministic=False), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_patches_make_a_convolution(stride):
    x = jnp.asarray(normal(0, (2, 7, 6, 3)))
    kernel = jnp.asarray(normal(1, (3, 3, 3, 5)))
    expected = lax.conv_general_dilated(
        x, kernel, (stride, stride), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    got = patches(x, stride) @ kernel.reshape(27, 5)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_network_for_images():
    model = network("relu", sizes=(3, 8, 4, 2), kind=CNN)
    assert [layer.kernel.shape for layer in model.hidden] == [(27, 8), (72, 4)]
    assert model.last.kernel.shape == (4, 2)
    assert model(jnp.ones((6, 9, 8, 3)), deterministic=True).shape == (6, 2)


def test_images_that_are_none():
    with pytest.raises(CompareError, match=r"cnn needs images, .* samples have the shape \(5,\)"):
        BuiltIn("cnn", "relu", (5,), (8,), 2, "float32")


def test_images_in_an_mlp_are_flattened():
    model = BuiltIn("mlp", "relu", (4, 3, 1), (8,), 2, "float32")
    built = model.init(jnp.uint32(0), {})
    assert built.parameters["hidden"][0]["kernel"].shape == (12, 8)
    outputs, _ = model.apply(built, jnp.ones((5, 4, 3, 1)), train=False)
    assert outputs.shape == (5, 2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_compute_dtype(dtype):
    model = network("prelu", dtype=jnp.dtype(dtype))
    assert {p.dtype for p in jax.tree.leaves(nnx.state(model, nnx.Param))} == {jnp.dtype("float32")}
    assert model(jnp.ones((2, 5)), deterministic=False).dtype == dtype


def test_learned_slopes():
    model = BuiltIn("mlp", "prelu", (5,), (8, 4), 3, "float32", ("alpha",))
    built = model.init(jnp.uint32(0), {"alpha": jnp.float32(0.1)})
    np.testing.assert_allclose(model.learned_slopes(built), [0.1, 0.1], rtol=1e-6)
    plain = BuiltIn("mlp", "leaky_relu", (5,), (8, 4), 3, "float32", ("negative_slope",))
    assert plain.learned_slopes(plain.init(jnp.uint32(0), {"negative_slope": 0.1})) == []
