"""jaxact.memory: what a backward pass keeps, and what a compiler plans."""

import importlib.util

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec as P

import jaxact
from jaxact import memory

X = jax.ShapeDtypeStruct((16, 32), jnp.float32)
W = jax.ShapeDtypeStruct((32, 64), jnp.float32)


def kept(fn, *args):
    return [(r.activation, r.shape, r.origin) for r in memory.residuals(fn, *args)]


def computed(fn, *args):
    return [(name, shape) for name, shape, origin in kept(fn, *args) if origin == "computed"]


def test_who_asked_for_what():
    assert computed(lambda x, w: jaxact.gelu(x @ w), X, W) == [("gelu", (16, 64))]
    assert computed(lambda x, w: jaxact.mish(x @ w), X, W) == [("mish", (16, 64))]
    # jax.nn's: jitted, with rules of its own, and inlined.
    assert {name for name, _ in computed(lambda x, w: jax.nn.silu(x @ w), X, W)} == {"silu"}
    assert computed(lambda x, w: jax.nn.relu(x @ w), X, W) == [("relu", (16, 64))]
    assert {name for name, _ in computed(lambda x, w: jax.nn.gelu(x @ w), X, W)} == {"gelu"}
    # Anything else by its operation.
    assert computed(lambda x: jnp.sin(2 * x), X) == [("mul", (16, 32))]


def test_arguments_and_outputs_are_told_apart():
    assert kept(jaxact.relu, X) == [("relu", (16, 32), "output")]
    assert kept(jaxact.gelu, X) == [("gelu", (16, 32), "argument")]
    found = memory.residuals(lambda x, w: jaxact.relu(x @ w), X, W)
    assert found.total == 0
    assert sum(r.bytes for r in found) == 4 * (16 * 32 + 32 * 64 + 16 * 64)


def test_what_a_function_closes_over_is_there_anyway():
    w = jnp.ones((32, 64))
    found = memory.residuals(lambda x: jaxact.relu(x @ w), X)
    assert [(r.shape, r.origin) for r in found] == [
        ((32, 64), "closed over"),
        ((16, 64), "output"),
    ]
    assert found.total == 0


def test_blocks_and_public_names():
    assert computed(jaxact.mlp, X, W, jax.ShapeDtypeStruct((64, 8), jnp.float32)) == [
        ("mlp", (16, 64))
    ]
    assert {name for name, _ in computed(jax.nn.softmax, X)} == {"softmax"}


def test_what_the_pullback_returns_as_it_is():
    @jax.custom_vjp
    def f(x):
        return (x**2).sum()

    f.defvjp(lambda x: ((x**2).sum(), 2 * x), lambda residual, g: (residual,))
    assert memory.residuals(f, X).total == 16 * 32 * 4


def test_an_array_is_listed_once_with_all_that_read_it():
    def layer(x, w, v):
        return jaxact.leaky_relu(x @ w) @ v

    v = jax.ShapeDtypeStruct((64, 8), jnp.float32)
    ((names, shape),) = computed(layer, X, W, v)
    assert shape == (16, 64)
    assert set(names.split(", ")) == {"leaky_relu", "dot_general"}


def test_under_scan_jit_vmap_and_checkpoint():
    stacked = jax.ShapeDtypeStruct((4, 32, 32), jnp.float32)

    def deep(x, w):
        return lax.scan(lambda x, w: (x + jaxact.silu(x @ w), None), x, w)[0]

    assert ("silu", (4, 16, 32)) in computed(deep, X, stacked)
    assert ("silu", (4, 16, 32)) in computed(jax.jit(deep), X, stacked)
    assert computed(jax.checkpoint(deep), X, stacked) == []
    several = jax.ShapeDtypeStruct((3, 16, 32), jnp.float32)
    in_rows = jax.vmap(lambda x, w: jaxact.silu(x @ w), in_axes=(0, None))
    assert computed(in_rows, several, W) == [("silu", (3, 16, 64))]


def test_name_stacks_and_sources():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            with jax.named_scope("block"):
                return jaxact.gelu(nn.Dense(64)(x))

    model = Model()
    parameters = jax.eval_shape(model.init, jax.random.key(0), X)
    found = memory.residuals(model.apply, parameters, X)
    (gelu,) = (r for r in found if r.activation == "gelu")
    assert gelu.name_stack == "Model/block"
    assert gelu.source.startswith("test_memory.py:")
    (kernel,) = (r for r in found if r.shape == (32, 64))
    assert kernel.name_stack == "Model/block/Dense_0" and kernel.origin == "argument"


def test_integers_keys_and_several_outputs():
    def layer(x, index, key):
        return jaxact.rrelu(x * 2, key), index + 1

    index = jax.ShapeDtypeStruct((16,), jnp.int32)
    found = memory.residuals(layer, X, index, jax.random.key(0))
    assert [(r.activation, r.origin) for r in found if r.shape == X.shape] == [("rrelu", "output")]


def test_policies_show():
    def layer(x, w):
        return jaxact.relu(x @ w) + 1

    assert memory.residuals(layer, X, W).total == 16 * 64 * 4
    with jaxact.autodiff(residual="mask"):
        (mask,) = (r for r in memory.residuals(layer, X, W) if r.origin == "computed")
    assert (mask.activation, mask.shape, mask.bytes) == ("relu", (16, 8), 128)


def test_residuals_print_as_a_table():
    text = str(memory.residuals(lambda x, w: jaxact.gelu(x @ w), X, W))
    header, _, *rows, total = text.splitlines()
    assert header.split() == [
        "shape",
        "dtype",
        "size",
        "origin",
        "kept",
        "for",
        "name",
        "stack",
        "source",
    ]
    assert len(rows) == 3
    assert any("4.0 KiB" in row and "gelu" in row for row in rows)
    assert total == "4.0 KiB computed for the backward pass, beside 10.0 KiB that are there anyway"


def test_compiled_for_this_cpu():
    big = jax.ShapeDtypeStruct((256, 1024), jnp.float32)

    def f(x):
        return jnp.sort(x * 2, axis=0) @ x.T

    program = memory.compiled(f, big)
    assert program.arguments == 1 << 20
    assert program.outputs == 256 * 256 * 4
    assert program.temporaries >= 1 << 20
    assert program.seconds is None and program.cycles is None
    assert "cycles" not in str(program)
    assert "sort" in program.text
    assert "temporaries" in str(program) and "1.0 MiB" in str(program)
    assert "sort" not in repr(program)
    # Weak types decide the dtypes.
    scale, half = jnp.asarray(2.0), jnp.ones(8, jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):
        assert memory.compiled(lambda s, x: s * x, scale, half).outputs == (scale * half).nbytes
    # Of arrays, only shapes are used; trees and Python numbers are fine.
    assert memory.compiled(lambda d, n: d["x"] * n, {"x": jnp.ones(8)}, 2.0).outputs == 32


def test_shardings_of_the_arguments_count():
    """The figures are those of one device."""
    sharding = NamedSharding(jax.make_mesh((8,), ("data",)), P("data"))
    x = jax.ShapeDtypeStruct((1024, 256), jnp.float32, sharding=sharding)
    program = memory.compiled(lambda x: 2 * x, x)
    assert program.arguments == program.outputs == (1 << 20) // 8


def test_a_jitted_function_keeps_its_donations_and_static_arguments():
    step = jax.jit(lambda x, power: x**power, static_argnums=1, donate_argnums=0)
    donated = memory.compiled(step, jnp.ones(1024), 2)
    assert donated.outputs == 0
    assert memory.compiled(lambda x: x**2, jnp.ones(1024)).outputs == 4096


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("v7", "unknown target 'v7': choose one of cpu, v5e, v5p, v6e, tpu7x, h100, h200"),
        ("h200:x", "write a number of GPUs, such as 'h200:8'"),
        ("h200:0", "write a number of GPUs, such as 'h200:8'"),
    ],
)
def test_unknown_targets(target, message):
    with pytest.raises(ValueError, match=message):
        memory.compiled(jaxact.relu, X, target=target)


@pytest.mark.parametrize(
    ("target", "package"), [("v6e:2x2", "libtpu"), ("h100:3", "jax_plugins.xla_cuda13")]
)
def test_a_missing_compiler_is_named_with_its_remedy(target, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = rf'{package} is missing.*pip install -e "\.\[targets\]"'
    with pytest.raises(ImportError, match=message):
        memory.compiled(jaxact.relu, X, target=target)
