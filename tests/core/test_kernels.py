"""Mode "plain" inside Pallas kernels, interpreted; tests/backends compiles them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

import jaxact
from tests.support.kernels import ROWS, elementwise_kernel
from tests.support.table import Row


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_interpreted_kernels(row: Row, dtype):
    x = jnp.asarray([*np.linspace(-12, 12, 119), *(1e4, -1e4, 3e38, -3e38), *[0.0] * 5], dtype)
    x = x.reshape(8, 16)
    with jaxact.autodiff(mode="plain"):
        expected = jax.jit(row.call)(x)
        found = elementwise_kernel(row.call, x, interpret=True)(x)
    np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))


def test_interpreted_crelu():
    x = jnp.linspace(-1, 1, 128).reshape(8, 16)
    with jaxact.autodiff(mode="plain"):
        found = elementwise_kernel(jaxact.crelu, x, interpret=True)(x)
    np.testing.assert_array_equal(found, jaxact.crelu(x))


def test_interpreted_rrelu_with_a_key():
    """Its slopes are those of the block, which is the whole array here."""

    def kernel(x, key, y):
        y[...] = jaxact.rrelu(x[...], key[...])

    x = jnp.linspace(-1, 1, 128).reshape(8, 16)
    key = jax.random.key(3)
    with jaxact.autodiff(mode="plain"):
        found = pl.pallas_call(kernel, out_shape=x, interpret=True)(x, jax.random.key_data(key))
    np.testing.assert_allclose(found, jaxact.rrelu(x, key), rtol=2e-7)
