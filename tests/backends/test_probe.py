"""What a probe costs on accelerators, on their compilers' own account."""

import jax
import jax.numpy as jnp
import pytest

import jaxact
from jaxact.memory import compiled

DEPTH, WIDTH, BATCH = 8, 1024, 4096


def model(weights, x):
    for w in weights:
        x = jax.nn.gelu(x @ w)
    return x


def scanned(weights, x):
    return jax.lax.scan(lambda x, w: (jax.nn.relu(x @ w), None), x, weights)[0]


@pytest.mark.parametrize("target", ["v5e", "h200"])
@pytest.mark.parametrize("fn", [model, scanned], ids=lambda fn: fn.__name__)
def test_a_probe_keeps_nothing_of_activation_size(fn, target):
    weights = jax.ShapeDtypeStruct((DEPTH, WIDTH, WIDTH), jnp.bfloat16)
    if fn is model:
        weights = [jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.bfloat16)] * DEPTH
    x = jax.ShapeDtypeStruct((BATCH, WIDTH), jnp.bfloat16)
    plain, probed = (compiled(f, weights, x, target=target) for f in (fn, jaxact.probe(fn)))
    activation = BATCH * WIDTH * 2
    # Two of one layer in float32, but not of all layers.
    assert probed.temporaries - plain.temporaries <= 4 * activation
    assert probed.outputs - plain.outputs < activation / 8

    def loss(f, report):
        def value(weights, x):
            out = f(weights, x)
            return (out[0].sum(), out[1]) if report else out.sum()

        return jax.grad(value, has_aux=report)

    plain, probed = (
        compiled(step, weights, x, target=target)
        for step in (loss(fn, False), loss(jaxact.probe(fn), True))
    )
    # On v5e, whose compiler has none for the plain gradient, 4.4: still not one for each layer.
    assert probed.temporaries - plain.temporaries <= 5 * activation < DEPTH * activation
