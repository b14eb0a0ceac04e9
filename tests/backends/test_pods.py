"""On meshes of 256 and 1,024 chips, elementwise functions do not communicate."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

import jaxact
from jaxact import memory
from tests.support.catalogue import FUNCTIONS, PACKED, arguments, value_and_gradient

POD = ("v5e:16x16", "v5p:8x8x16")
COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|ragged-all-to-all)"
    r"(?:-start)?\("
)
SPECS = {"batch": P(("x", "y")), "feature": P(None, ("x", "y"))}
#: Large enough that a shard is larger than the kernels' fixed scratch memory.
SHAPE = (32768, 32768)


@functools.cache
def mesh(target: str) -> Mesh:
    devices = np.array(memory.devices(target))
    return Mesh(devices.reshape(16, -1), ("x", "y"))


def collectives(program: memory.Compiled) -> list[str]:
    return COLLECTIVE.findall(program.text)


def on_each_pod():
    """Cases: each function on each pod; on one of them, in turn, it is not slow."""
    return [
        pytest.param(name, target, marks=pytest.mark.slow if (i // 2 + j) % 2 else ())
        for i, name in enumerate(FUNCTIONS)
        for j, target in enumerate(POD)
    ]


@pytest.mark.parametrize(("name", "target"), on_each_pod())
def test_no_collectives(name, target):
    """Sharded over the batch on one pod, and over the features on the other, in turns."""
    turn = list(FUNCTIONS).index(name) + POD.index(target)
    # crelu and glu join or split the first axis, which is not sharded then.
    spec = "feature" if turn % 2 or name in ("crelu", "glu") else "batch"
    sharding = NamedSharding(mesh(target), SPECS[spec])
    call = value_and_gradient(FUNCTIONS[name])
    args = arguments(name, SHAPE, jnp.bfloat16, sharding)
    program = memory.compiled(call, *args, target=target)
    assert collectives(program) == []
    shard = SHAPE[0] * SHAPE[1] * 2 // len(memory.devices(target))
    assert program.arguments < (len(args) + 0.5) * shard
    if not (target.startswith("v5p") and name in PACKED):
        assert program.temporaries < shard / 4


@pytest.mark.parametrize("target", POD)
def test_learned_slopes_cost_one_all_reduce(target):
    """Their gradient is summed over the batch, and nothing else moves."""
    x = jax.ShapeDtypeStruct(
        (8192, 1024), jnp.bfloat16, sharding=NamedSharding(mesh(target), SPECS["batch"])
    )
    slopes = jax.ShapeDtypeStruct((1024,), jnp.float32, sharding=NamedSharding(mesh(target), P()))
    program = memory.compiled(value_and_gradient(jaxact.prelu), x, slopes, target=target)
    assert collectives(program) == ["all-reduce"]


@pytest.mark.parametrize("gated", [False, True])
def test_tensor_parallel_blocks(gated):
    """One all-reduce forward."""

    def described(shape, spec):
        sharding = NamedSharding(mesh("v5e:16x16"), spec)
        return jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding)

    wide = described((1024, 4096), P(None, "y"))
    args = [described((4096, 1024), P("x")), wide, described((4096, 1024), P("y"))]
    if gated:
        args.insert(1, wide)
    block = jaxact.gated_mlp if gated else jaxact.mlp
    assert collectives(memory.compiled(block, *args, target="v5e:16x16")) == ["all-reduce"]
