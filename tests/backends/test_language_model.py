"""examples/train_lm.py on described TPU pods: it communicates as it would with jax.nn."""

import collections
import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec as P

from examples import train_lm
from jaxact import memory

CONFIG = train_lm.Config(batch=2048, context=512, layers=8, width=1024, heads=16, hidden=2816)
VOCABULARY = 128
#: (data, fsdp, model)
MESHES = {"v5e:16x16": (4, 16, 4), "v5p:8x8x16": (16, 8, 8)}


class WrittenOut(nnx.Module):
    """GatedMLP as it is written with jax.nn: same parameters, shardings and dtypes."""

    def __init__(self, features, hidden, *, activation, partitioning, dtype, rngs):
        outer, inner = partitioning
        init = jax.nn.initializers.lecun_normal()

        def weights(a, b, *axes):
            return nnx.Param(init(rngs.params(), (a, b), jnp.float32), out_sharding=axes)

        self.w_gate = weights(features, hidden, outer, inner)
        self.w_up = weights(features, hidden, outer, inner)
        self.w_down = weights(hidden, features, inner, outer)
        self.activation = getattr(jax.nn, activation)
        self.dtype = dtype

    def __call__(self, x):
        weights = (self.w_gate, self.w_up, self.w_down)
        w_gate, w_up, w_down = (w[...].astype(self.dtype) for w in weights)
        return (self.activation(x @ w_gate) * (x @ w_up)) @ w_down


@functools.cache
def compiled(target, feed_forward, accumulate=1, **options):
    config = dataclasses.replace(CONFIG, **options)
    mesh = train_lm.make_mesh(*MESHES[target], devices=memory.devices(target))
    # Flax's norms and optax promote dtypes implicitly.
    with jax.numpy_dtype_promotion("standard"):
        trainer = train_lm.Trainer(config, VOCABULARY, mesh, feed_forward)
    batch = jax.ShapeDtypeStruct(
        (accumulate, config.batch // accumulate, config.context + 1),
        jnp.int32,
        sharding=NamedSharding(mesh, P(None, train_lm.ROWS)),
    )
    with jax.set_mesh(mesh), jax.numpy_dtype_promotion("standard"):
        return memory.compiled(trainer.step, trainer.abstract, batch, target=target)


COLLECTIVE = re.compile(
    r"= (?P<result>.*?) (?P<kind>all-reduce|all-gather|all-to-all|collective-permute"
    r"|reduce-scatter|ragged-all-to-all|collective-broadcast)(?:-start)?\("
)
CHANNEL = re.compile(r"channel_id=(\d+)")
#: The ways to write groups: {{0,2},{1,3}}, [2,2]<=[2,2]T(1,0), and axes of a mesh.
LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})?\}")
IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
MESH = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?"
    r" \{('\w+'(?:,'\w+')*)\}"
)


def numbers(text):
    return [int(n) for n in re.findall(r"\d+", text or "")]


def iota(bounds, order):
    return np.arange(np.prod(bounds)).reshape(bounds).transpose(order or None)


def groups(line):
    """The devices that take part together: {(0, 2), (1, 3)}."""
    if match := IOTA.search(line):
        shape, *devices = map(numbers, match.groups())
        rows = iota(*devices).reshape(shape)
    elif match := MESH.search(line):
        axes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", match[1])}
        together = re.findall(r"\w+", match[4])
        apart = [name for name in axes if name not in together]
        devices = iota(numbers(match[2]) or list(axes.values()), numbers(match[3]))
        order = [list(axes).index(name) for name in apart + together]
        size = math.prod(axes[name] for name in together)
        rows = devices.reshape(list(axes.values())).transpose(order).reshape(-1, size)
    else:
        match = LISTED.search(line)
        assert match, line
        return frozenset(tuple(numbers(g)) for g in re.findall(r"\{([\d,]+)\}", match[1] or ""))
    return frozenset(map(tuple, rows.tolist()))


def collectives(text):
    """{(kind, shapes, groups): how many}.

    The compiler divides a collective into steps, between which it computes, and writes it down in
    each. They have the channel in common.
    """
    found = {}
    for line in text.splitlines():
        if match := COLLECTIVE.search(line):
            shapes = tuple(re.findall(r"[a-z]+\d*\[[\d,]*\]", match["result"]))
            (channel,) = CHANNEL.findall(line)
            collective = (match["kind"], shapes, groups(line))
            assert found.setdefault(channel, collective) == collective
    return collections.Counter(found.values())


@pytest.mark.parametrize(
    "target", ["v5e:16x16", pytest.param("v5p:8x8x16", marks=pytest.mark.slow)]
)
def test_as_with_jax_nn(target):
    ours, theirs = (compiled(target, block) for block in (train_lm.GatedMLP, WrittenOut))
    expected = collectives(theirs.text)
    assert collectives(ours.text) == expected
    assert expected.total() > 20
    assert ours.temporaries <= theirs.temporaries
    # Parameters and both moments, 103 million of each in float32, lie in as many parts.
    _, fsdp, model = MESHES[target]
    assert ours.arguments == theirs.arguments < 1.1 * 12 * 103e6 / (fsdp * model)


def test_tensor_parallel_blocks_reduce_once_each_way():
    """Of activations: attention and feed-forward, forward and backward, and the head's input."""
    found = collectives(compiled("v5e:16x16", train_lm.GatedMLP).text)
    activations = f"bf16[{CONFIG.batch // 64},{CONFIG.context},{CONFIG.width}]"
    whole = {kind: n for (kind, shapes, _), n in found.items() if activations in shapes}
    assert whole == {"all-reduce": 5}
