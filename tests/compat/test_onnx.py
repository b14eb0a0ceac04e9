"""Export to ONNX by jax2onnx, in mode "plain", and the same values by onnxruntime."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxact
import jaxact.linen
import jaxact.nnx
from tests.support.table import GATED, KEY, TABLE

#: The warnings are the exporter's own.
pytestmark = [pytest.mark.compat, pytest.mark.filterwarnings("ignore")]

X = np.array([*np.linspace(-12, 12, 1001), -1e4, -50, 50, 1e4], np.float32)
ROWS = np.linspace(-4, 4, 64, dtype=np.float32).reshape(16, 4)
SLOPES = np.linspace(0.1, 0.9, 4, dtype=np.float32)


def assert_exports(call, *args, rtol=2e-6, atol=2.0**-126):
    """Export, then call: what the exporter replaced while it traced must not be left behind."""
    import jax2onnx
    import onnxruntime

    with jaxact.autodiff(mode="plain"):
        model = jax2onnx.to_onnx(call, [x.shape for x in args])
        expected = jax.jit(lambda *args: call(*args))(*args)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, args, strict=True)))
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("row", [row for row in TABLE if row.id != "rrelu:key"], ids=repr)
def test_functions_of_one_array(row):
    # Next to a zero of the value, terms of size 1 cancel.
    atol = 2.0**-22 if row.value_zeros else 2.0**-126
    assert_exports(row.call, X, atol=atol)


@pytest.mark.parametrize("row", GATED, ids=repr)
def test_gated_functions(row):
    # XLA takes a subnormal activation for 0.
    assert_exports(row.call, X, 0.5 * X[::-1], atol=8 * 2.0**-126)


@pytest.mark.parametrize("divisor", [False, True])
def test_rrelu_with_the_words_of_a_key(divisor):
    """ONNX has no typed keys."""
    words = np.asarray(jax.random.key_data(KEY))
    assert_exports(lambda x: jaxact.rrelu(x, words, divisor=divisor), X)


@pytest.mark.parametrize("axis", [0, -1])
def test_prelu_with_a_slope_for_each_channel(axis):
    slopes = np.resize(SLOPES, ROWS.shape[axis])
    assert_exports(lambda x: jaxact.prelu(x, slopes, axis=axis), ROWS)


def test_every_function_is_exported():
    aliases = {"swish", "hard_swish"}
    assert {row.name for row in (*TABLE, *GATED)} == set(jaxact.ACTIVATIONS) - aliases


@pytest.mark.parametrize("activation", ["gelu", "silu", "leaky_relu:0.2", "prelu", "rrelu"])
@pytest.mark.parametrize("block", ["MLP", "GatedMLP"])
@pytest.mark.parametrize("library", ["nnx", "linen"])
def test_blocks(library, block, activation):
    make = getattr(getattr(jaxact, library), block)
    if library == "nnx":
        layer = make(4, 8, activation=activation, rngs=nnx.Rngs(0))
        layer.eval()
    else:
        options = {"deterministic": True} if activation == "rrelu" else {}
        module = make(4, 8, activation=activation)
        layer = functools.partial(
            module.apply, module.init(KEY, jnp.asarray(ROWS), **options), **options
        )
    # Products sum in another order: relative to the largest.
    assert_exports(layer, ROWS, atol=2e-6 * float(abs(layer(ROWS)).max()))


@pytest.mark.parametrize("library", ["nnx", "linen"])
def test_prelu_layers(library):
    if library == "nnx":
        layer = jaxact.nnx.PReLU(4)
        layer.alpha[...] = jnp.asarray(SLOPES)
        layer.eval()
        assert_exports(layer, ROWS)
    else:
        module = jaxact.linen.PReLU(4)
        variables = {"params": {"alpha": jnp.asarray(SLOPES)}}
        assert_exports(functools.partial(module.apply, variables), ROWS)
