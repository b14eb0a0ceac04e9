"""Mode "both" at the memory of the default, by the compilers' own figures."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

import jaxact
from benchmarks import memory

pytestmark = pytest.mark.backends

CASES = [
    memory.Case("mlp", "gelu", "jaxact", "scan", "v5e"),
    memory.Case("mlp", "relu", "jaxact", "unrolled", "h200"),
    memory.Case("mlp", "silu", "jaxact.mlp", "scan", "v5e"),
    memory.Case("mlp", "silu", "jaxact.mlp", "unrolled", "h200"),
    memory.Case("gated", "silu", "jaxact.gated_mlp", "scan", "v5e"),
    memory.Case("carry", "leaky_relu", "jaxact, mask", "scan", "v5e"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: memory.title(case) + " " + case.library)
def test_both_needs_what_the_default_needs(case):
    default = memory.measure(case)
    both = memory.measure(dataclasses.replace(case, library=case.library + memory.BOTH))
    assert both.arrays <= 1.02 * default.arrays
    if default.seconds and both.seconds:
        assert both.seconds <= 1.02 * default.seconds


def test_gated_blocks_in_scans_on_gpus():
    """They need a copy for all layers together."""
    case = memory.Case("gated", "silu", "jaxact.gated_mlp", "scan", "h200")
    both = dataclasses.replace(case, library=case.library + memory.BOTH)
    more = memory.measure(both).arrays - memory.measure(case).arrays
    assert more * memory.LAYERS < 1.3


@pytest.mark.parametrize("target", ["v5e", "h200"])
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
