"""Feed-forward layers on the accelerators' compilers' own account: cycles, and what is kept."""

import jax
import jax.numpy as jnp
import pytest

import jaxact
from benchmarks import blocks
from benchmarks.blocks import LIMIT, Case

#: One layer of each kind, because each takes the compiler a minute. Plain gated layers on v6e are
#: not here: the slope, computed where a matrix product ends, takes longer than reading what jax.nn
#: keeps; `jaxact.gated_mlp` is the way.
CASES = (
    Case("v5e", "mlp", "relu", "block"),
    Case("v5e", "gated_mlp", "silu", "jaxact"),
    Case("v6e", "mlp", "gelu", "block"),
)
SLOW_CASES = (
    Case("v6e", "mlp", "gelu", "jaxact"),
    Case("v6e", "gated_mlp", "silu", "block"),
)


@pytest.mark.parametrize(
    "case",
    [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_CASES)],
    ids=lambda case: case.name,
)
def test_cycles(case):
    assert blocks.ratio(case) <= LIMIT


def exact_gelu(h):
    return jaxact.gelu(h, approximate=False)


LAYERS = {
    "jaxact": lambda x, w_in, w_out: exact_gelu(x @ w_in) @ w_out,
    "jaxact.mlp": lambda x, w_in, w_out: jaxact.mlp(x, w_in, w_out, activation=exact_gelu),
}


def arrays_of_unrolled_layers(layer, target):
    """What their gradient keeps of each, in arrays of the hidden size.

    Those are larger than a TPU's fast memory, and an erf is more than its compiler computes twice
    of its own accord.
    """
    count, tokens, width, hidden = 4, 65536, 256, 1024

    def loss(x, *weights):
        for w_in, w_out in zip(weights[:count], weights[count:], strict=True):
            x = x + layer(x, w_in, w_out)
        return x.astype(jnp.float32).sum()

    shapes = [(tokens, width), *[(width, hidden)] * count, *[(hidden, width)] * count]
    args = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    step = jax.value_and_grad(loss, tuple(range(len(args))))
    program = jaxact.memory.compiled(step, *args, target=target)
    return program.temporaries / (count * tokens * hidden * 2)


# Merged with the forward pass, what the backward pass computes again would be kept: 2.4 to 3.9
# arrays. The plain function has no case on TPUs: their compiler keeps two either way.
@pytest.mark.parametrize(
    ("layer", "target", "limit"),
    [
        ("jaxact.mlp", "v6e", 1.5),
        ("jaxact.mlp", "h200", 1.6),
        ("jaxact", "h200", 2.5),
    ],
)
def test_nothing_more_is_kept(layer, target, limit):
    assert arrays_of_unrolled_layers(LAYERS[layer], target) <= limit
