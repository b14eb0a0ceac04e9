"""The memory of a training step stays within its limits, on the compilers' own account."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxact
from benchmarks import dial, memory
from jaxact._memory.targets import TPUS
from jaxact.memory import compiled

CASES = memory.cases()
measure = functools.cache(memory.measure)
GROUPS = {}
for case in CASES:
    GROUPS.setdefault((case.block, case.function, case.loop, case.target), []).append(case)
#: A function of each kind, in each block. The others are slow.
FAST = {("mlp", "relu"), ("mlp", "gelu"), ("gated", "silu"), ("carry", "leaky_relu")}


@pytest.mark.parametrize(
    "group",
    [pytest.param(group, marks=() if group[:2] in FAST else pytest.mark.slow) for group in GROUPS],
    ids="-".join,
)
def test_within_its_limits(group):
    """Of jaxact's own, or jax.nn's figure; times are the TPU compiler's estimates."""
    results = [measure(case) for case in GROUPS[group]]
    assert memory.unexpected(results) == []


def test_the_docs_and_the_compilers_agree_on_the_carry():
    """Where the output is the carry, the default loses to jax.nn, and the docs say so."""
    results = {
        case.library: measure(case).arrays
        for case in CASES
        if (case.block, case.function, case.target) == ("carry", "leaky_relu", "v5e")
    }
    assert results["jaxact, mask"] <= results["jax.nn"] + 0.05 < results["jaxact"]


def test_what_is_above_its_limit_is_a_failure():
    case = memory.Case("mlp", "relu", "jaxact", "scan", "v5e", 1.5)
    peer = memory.Result("mlp", "relu", "jax.nn", "scan", "v5e", arrays=1.0, seconds=1.0)
    assert memory.unexpected([peer]) == []
    for arrays, seconds, count in ((1.5, 1.0, 0), (1.51, 1.0, 1), (1.5, 1.01, 1), (1.6, 2.0, 2)):
        result = memory.Result(**dataclasses.asdict(case), arrays=arrays, seconds=seconds)
        assert len(memory.unexpected([peer, result])) == count


@pytest.mark.parametrize("line", [dial.PRE, pytest.param(dial.INPUT, marks=pytest.mark.slow)])
def test_no_more_than_the_checkpoint_that_keeps_as_much(line):
    """Memory and cycles, of the plain block on v6e; `benchmarks.memory --dial` has the rest."""
    lines = (line, dial.PEERS[line])
    measured = [dial.measure(dial.Point("plain", each, "scan", "v6e")) for each in lines]
    assert dial.unexpected(measured) == []


def test_a_real_compiler_answers():
    x = jax.ShapeDtypeStruct((1024, 1024), jnp.bfloat16)
    tpu = compiled(jaxact.gelu, x, target="v5e")
    assert tpu.seconds > 0 and tpu.code > 0 and tpu.outputs == 2 << 20
    assert f'"estimated_cycles":"{tpu.cycles}"' in tpu.text  # It is one fusion.
    assert f"{tpu.cycles:,}" in str(tpu)
    assert "T(8,128)" in tpu.text  # A TPU's tiled layout.
    gpu = compiled(jaxact.gelu, x, target="h200")
    assert gpu.seconds is None and gpu.cycles is None and gpu.arguments == 2 << 20
    eight = jaxact.memory.devices("h200:8")
    assert len(eight) == 8 and eight[0].platform == "gpu"


@pytest.mark.parametrize("target", TPUS)
def test_cycles_of_loops_in_real_programs(target):
    """They grow by the body's for each step, of the outer loop and of the inner one."""
    x = jax.ShapeDtypeStruct((1024, 1024), jnp.bfloat16)

    def steps(outer, inner):
        def body(_, x):
            return lax.fori_loop(0, inner, lambda _, x: jnp.tanh(x), jnp.exp(x).T)

        return compiled(lambda x: lax.fori_loop(0, outer, body, x), x, target=target).cycles

    base, more, most = (steps(outer, 10) for outer in (10, 20, 30))
    assert most - more == more - base > 0
    assert steps(10, 30) - steps(10, 20) == steps(10, 20) - base > 0


def test_cycles_that_the_compiler_leaves_open():
    x = jax.ShapeDtypeStruct((1024, 1024), jnp.bfloat16)

    def until_small(x):
        return lax.while_loop(lambda x: x.sum() > 1, jnp.tanh, x)

    assert compiled(until_small, x, target="v6e").cycles is None
    assert compiled(jnp.tanh, x, target="v6e").cycles > 0
