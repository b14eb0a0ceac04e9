"""Everything compiles for TPUs and GPUs, and the compilers plan no memory for it."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxact.nnx
from jaxact import memory
from tests.support.catalogue import BLOCKS, FUNCTIONS, LAYERS, PACKED, arguments, value_and_gradient

TARGETS = ("v5e", "v5p", "v6e", "tpu7x", "h200")
DTYPES = (jnp.bfloat16, jnp.float32)
SHAPE = (2048, 1024)


def in_pairs(names):
    """Cases: each name for each target, in each dtype, and each target with each dtype.

    Of each name, two targets in turn are not slow.
    """
    return [
        pytest.param(
            name,
            target,
            dtype,
            id=f"{name}-{target}-{jnp.dtype(dtype).name}",
            marks=() if (j - i) % len(TARGETS) < 2 else pytest.mark.slow,
        )
        for i, name in enumerate(names)
        for j, target in enumerate(TARGETS)
        for dtype in [DTYPES[(i + j) % 2]]
    ]


@pytest.mark.parametrize(("name", "target", "dtype"), in_pairs(FUNCTIONS))
def test_no_temporaries_of_the_inputs_size(name, target, dtype):
    """No slopes of rrelu, no intermediate results; packed residuals are a quarter at most."""
    args = arguments(name, SHAPE, dtype)
    program = memory.compiled(value_and_gradient(FUNCTIONS[name]), *args, target=target)
    one_array = SHAPE[0] * SHAPE[1] * jnp.dtype(dtype).itemsize
    # v5p's compiler gives bytes in groups of eight a padded layout, and memory.
    padded = target == "v5p" and name in PACKED
    assert program.temporaries < (one_array if padded else one_array / 3.9)
    assert program.arguments < (len(args) + 0.1) * one_array


@pytest.mark.parametrize("target", TARGETS)
def test_temporaries_of_the_inputs_size_are_seen(target):
    """Of a program that needs them, by what the bounds here are about."""

    def above_the_mean(x):
        h = x @ x.T
        return h > h.mean()

    # Too large for a TPU's fast memory.
    x = jax.ShapeDtypeStruct((1 << 14, 256), jnp.bfloat16)
    assert memory.compiled(above_the_mean, x, target=target).temporaries >= (1 << 28) * 2


@pytest.mark.parametrize(("name", "target", "dtype"), in_pairs(BLOCKS))
def test_blocks(name, target, dtype):
    """Value and gradients of a block of 1024 rows: a few arrays of hidden size at a time."""
    weights = 3 if name == "gated_mlp" else 2
    shapes = [(1024, 256)] + [(256, 1024)] * (weights - 1) + [(1024, 256)]
    args = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    program = memory.compiled(value_and_gradient(BLOCKS[name]), *args, target=target)
    hidden = 1024 * 1024 * jnp.dtype(dtype).itemsize
    assert program.temporaries < (weights + 4.1) * hidden


def test_the_layers_of_the_package_are_in_the_catalogue():
    layers = {
        name
        for name, value in vars(jaxact.nnx).items()
        if isinstance(value, type) and issubclass(value, nnx.Module)
    }
    # The others are the functions and the blocks, with weights of their own.
    assert layers == {*LAYERS, "LeakyReLU", "ELU", "Activation", "MLP", "GatedMLP"}
