"""`jaxact.probe_and_grad`: the gradients against those of functions that have the activations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec as P

import jaxact
from tests.support.reports import normal

W = normal(5, 5, seed=1)
X = normal(6, 5)
STACK = normal(3, 5, 5, seed=2) / 2


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def mean_gradients(outputs_to_loss, outputs):
    """By hand: the mean |gradient| of each unit, of a loss as a function of the activations."""
    gradients = jax.grad(outputs_to_loss)(outputs)
    return [abs(g).reshape(-1, g.shape[-1]).mean(0) for g in gradients]


def gradients(report):
    return [site.gradient for site in report.sites]


def assert_gradients(report, expected):
    found = gradients(report)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


# ------------------------------------------------------------------------------------------------
# A chain of layers, written in many ways: the first layer's activation, then the others'.


def layer(w, x):
    return jax.nn.gelu(x @ w)


def head(x):
    return (jnp.sin(x) @ jnp.arange(5.0)).mean()


def chain(ws, x):
    for w in ws:
        x = layer(w, x)
    return head(x)


def from_activations(ws, x):
    """The mean |gradient| at each layer, by zeros that are added to the activations."""

    def loss(zeros):
        h = x
        for w, z in zip(ws, zeros, strict=True):
            h = layer(w, h) + z
        return head(h)

    return mean_gradients(loss, [jnp.zeros(x.shape)] * len(ws))


def scanned(ws, x, **options):
    return head(lax.scan(lambda h, w: (layer(w, h), None), x, ws, **options)[0])


def scanned_backwards(ws, x):
    return scanned(ws[::-1], x, reverse=True)


def nested(ws, x):
    def outer(h, w):
        return lax.scan(lambda h, w: (jax.jit(layer)(w, h), None), h, w)[0], None

    return head(lax.scan(outer, x, ws[:, None])[0])


def in_shard_map(ws, x, check_vma=True):
    mesh = jax.make_mesh((2,), ("a",), axis_types=(AxisType.Auto,))

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(P(), P("a")), out_specs=P(), check_vma=check_vma
    )
    def run(ws, x):
        return lax.pmean(scanned(ws, x), "a")

    return run(ws, x)


CHAINS = {
    "plain": chain,
    "jit": jax.jit(chain),
    "jit inside": lambda ws, x: head(functools.reduce(lambda h, w: jax.jit(layer)(w, h), ws, x)),
    "remat": jax.checkpoint(chain),
    "scan": scanned,
    "scan, unrolled": functools.partial(scanned, unroll=2),
    "reverse scan": scanned_backwards,
    "scan of remat": lambda ws, x: head(
        lax.scan(jax.checkpoint(lambda h, w: (layer(w, h), None)), x, ws)[0]
    ),
    "nested scans": nested,
    "cond": lambda ws, x: lax.cond(x[0, 0] < 9, chain, lambda ws, x: 0.0 * x.sum(), ws, x),
    "vmap": lambda ws, x: jax.vmap(functools.partial(chain, ws))(x).mean(),
    "shard_map": in_shard_map,
    "shard_map, unchecked": functools.partial(in_shard_map, check_vma=False),
}


@pytest.mark.parametrize("way", CHAINS)
def test_gradients(way):
    loss = CHAINS[way]
    (value, report), gradient = jax.jit(jaxact.probe_and_grad(loss))(STACK, X)
    assert_gradients(report, from_activations(STACK, X))
    if "shard_map" not in way:
        assert_equal((value, gradient), jax.jit(jax.value_and_grad(loss))(STACK, X))
