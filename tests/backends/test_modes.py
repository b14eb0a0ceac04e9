"""Mode "both" at nearly the memory of the default, by the compilers' own figures.

What needs no more than the default does is in test_targets.py.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

import jaxact
from benchmarks import memory


def test_gated_blocks_in_scans_on_gpus():
    """They need a copy for all layers together."""
    case = memory.Case("gated", "silu", "jaxact.gated_mlp", "scan", "h200")
    both = dataclasses.replace(case, library=case.library + memory.BOTH)
    more = memory.measure(both).arrays - memory.measure(case).arrays
    assert more * memory.LAYERS < 1.3


@pytest.mark.parametrize("target", [pytest.param("v5e", marks=pytest.mark.slow), "h200"])
def test_both_inside_a_users_checkpoint(target):
    """What jax.checkpoint keeps there is the product alone."""
    case = memory.Case("mlp", "silu", "jaxact", "scan", target)

    @functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_saveable)
    def layer(x, w1, w2):
        return x + jaxact.silu(x @ w1) @ w2

    def loss(x, *weights):
        x, _ = jax.lax.scan(lambda x, w: (layer(x, *w), None), x, weights)
        return jnp.sum(x.astype(jnp.float32))

    def temporaries(mode):
        args = memory.arguments(case, memory.TARGETS[target])
        with jaxact.autodiff(mode=mode):
            step = jax.value_and_grad(loss, argnums=(0, 1, 2))
            return jaxact.memory.compiled(step, *args, target=target).temporaries

    assert temporaries("both") <= 1.02 * temporaries("reverse")
