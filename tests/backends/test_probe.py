"""What a probe costs on accelerators, on their compilers' own account."""

import jax
import jax.numpy as jnp
import pytest

import jaxact
from jaxact.memory import compiled

#: An activation is of 32 MiB: of smaller ones, v5e keeps several in its on-chip memory, which no
#: figure counts.
WIDTH, BATCH = 1024, 16384
DEPTHS = (4, 8)


def model(weights, x):
    for w in weights:
        x = jax.nn.gelu(x @ w)
    return x


def scanned(weights, x):
    return jax.lax.scan(lambda x, w: (jax.nn.relu(x @ w), None), x, weights)[0]


def shapes(fn, depth):
    weights = jax.ShapeDtypeStruct((depth, WIDTH, WIDTH), jnp.bfloat16)
    if fn is model:
        weights = [jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.bfloat16)] * depth
    return weights, jax.ShapeDtypeStruct((BATCH, WIDTH), jnp.bfloat16)


def gradient(fn, report):
    def value(weights, x):
        out = fn(weights, x)
        return (out[0].sum(), out[1]) if report else out.sum()

    return jax.grad(value, has_aux=report)


@pytest.mark.parametrize(
    ("fn", "target"),
    [
        pytest.param(model, "v5e", id="model-v5e", marks=pytest.mark.slow),
        pytest.param(model, "h200", id="model-h200"),
        pytest.param(scanned, "v5e", id="scanned-v5e"),
        pytest.param(scanned, "h200", id="scanned-h200"),
    ],
)
def test_a_probe_keeps_nothing_of_activation_size(fn, target):
    args = shapes(fn, DEPTHS[1])
    plain, probed = (compiled(f, *args, target=target) for f in (fn, jaxact.probe(fn)))
    activation = BATCH * WIDTH * 2
    # Two of one layer in float32, but not of all layers.
    assert probed.temporaries - plain.temporaries <= 4 * activation
    assert probed.outputs - plain.outputs < activation / 8

    more = []
    for depth in DEPTHS:
        plain, probed = (
            compiled(step, *shapes(fn, depth), target=target).temporaries
            for step in (gradient(fn, False), gradient(jaxact.probe(fn), True))
        )
        more.append((probed - plain) / activation)
    # On v5e, 0.75 for each further layer: the slope is computed once for both.
    assert more[1] - more[0] < DEPTHS[1] - DEPTHS[0]
