"""jit, vmap, scan, checkpoint, meshes, dtypes, shapes: the functions compose like jnp's."""

import functools

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings, strategies as st
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import jaxact
from tests.support import table
from tests.support.rows import KINDS, ROWS, VARIANTS
from tests.support.table import GATED, TABLE, Row

X = np.linspace(-7, 7, 48).reshape(8, 6).astype(np.float32)
# Compiled in different company, XLA contracts multiply-adds differently.
close = functools.partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-9)


def gradient(call):
    return lambda x: jax.vjp(call, x)[1](jnp.cos(x))[0]


@functools.cache
def compiled(call):
    """The value and the gradient, jitted."""
    return jax.jit(lambda x: (call(x), gradient(call)(x)))


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_is_one_named_computation(row: Row):
    def jit_names(jaxpr):
        return [e.params["name"] for e in jaxpr.eqns if "jaxpr" in e.params]

    names = jit_names(jax.make_jaxpr(row.call)(X).jaxpr)
    assert row.name in names
    if row.name not in ("crelu", "rrelu"):
        assert len(names) == 1


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_jit_equals_eager(row: Row):
    with jax.disable_jit():
        y, g = row.call(jnp.asarray(X)), gradient(row.call)(jnp.asarray(X))
    for result, expected in zip(compiled(row.call)(X), (y, g), strict=True):
        close(result, expected)


# One of each kind of declaration; the others are among the slow tests.
@pytest.mark.parametrize(
    "row",
    [row if row.name in KINDS else pytest.param(row, marks=pytest.mark.slow) for row in TABLE],
    ids=repr,
)
def test_vmap_scan_and_checkpoint(row: Row):
    y, g = compiled(row.call)(X)

    @jax.jit
    def transformed(x):
        values = (
            jax.vmap(row.call)(x),
            jax.vmap(row.call, in_axes=1, out_axes=1)(x),
            lax.scan(lambda c, x: (c, row.call(x)), 0, x)[1],
        )
        return values, (jax.vmap(gradient(row.call))(x), gradient(jax.checkpoint(row.call))(x))

    for results, expected in zip(transformed(X), (y, g), strict=True):
        for result in results:
            close(result, expected)

    def deep(x):
        return lax.scan(lambda x, _: (row.call(x) + 0.5 * x, None), x, length=3)[0].sum()

    def unrolled(x):
        for _ in range(3):
            x = row.call(x) + 0.5 * x
        return x.sum()

    scanned, expected = jax.jit(lambda x: (jax.grad(deep)(x), jax.grad(unrolled)(x)))(X)
    np.testing.assert_allclose(scanned, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("row", GATED, ids=repr)
def test_gated_transforms(row):
    up = X[::-1]
    y = row.call(X, up)

    @jax.jit
    def transformed(x, up):
        scanned = lax.scan(lambda c, xs: (c, row.call(*xs)), 0, (x, up))[1]
        return jax.vmap(row.call)(x, up), row.call(x, up), scanned

    for result in transformed(X, up):
        close(result, y)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((), jnp.bfloat16),
        ((0,), jnp.float16),
        ((3, 0, 2), jnp.float32),
        ((2, 3, 4), jnp.float8_e4m3fn),
    ],
)
@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_shape_and_dtype_are_kept(row: Row, shape, dtype):
    out, grad = jax.eval_shape(
        lambda x: (row.call(x), jax.vjp(row.call, x)[1](jnp.zeros_like(x))[0]),
        jax.ShapeDtypeStruct(shape, dtype),
    )
    chex.assert_shape([out, grad], shape)
    chex.assert_type([out, grad], dtype)


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_empty_scalar_and_list_inputs(row: Row):
    chex.assert_shape(row.call(jnp.zeros((0, 2))), (0, 2))
    if row.name != "crelu":  # its row indexes the input
        close(row.call(1.5), row.call(jnp.float32(1.5)))
        close(row.call([1.5, -1.0]), row.call(jnp.array([1.5, -1.0])))
        close(row.call(np.float32(1.5)), row.call(jnp.float32(1.5)))


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_integers_and_bools_become_the_default_float(row: Row):
    if row.name == "identity":
        assert jaxact.identity(np.array([1, 2])).dtype == jnp.int32
        assert jaxact.identity(True).dtype == jnp.bool_
        return
    # Of one shape: they are one compiled program.
    for x in (np.array([-3, 0, 2], np.int8), np.array([-3, 0, 2]), np.array([True, False, True])):
        y = row.call(x)
        assert y.dtype == jnp.float32
        assert y.weak_type or row.name == "crelu"  # as in jax.nn.leaky_relu
        close(y, row.call(x.astype(np.float32)))
    with jax.enable_x64(True):
        for dtype, expected in (("int16", "float64"), ("float32", "float32"), ("float64",) * 2):
            y = jax.eval_shape(row.call, np.array([-3, 0, 2], dtype))
            assert y.dtype == expected


# On Auto meshes one of each kind of declaration: XLA divides each formula alike.
@pytest.mark.parametrize(
    ("row", "axis_type"),
    [
        *((row, AxisType.Auto) for row in TABLE if row.name in KINDS and row.id not in VARIANTS),
        *(
            pytest.param(row, AxisType.Explicit, marks=[pytest.mark.slow] * (row.id in VARIANTS))
            for row in TABLE
        ),
    ],
    ids=repr,
)
def test_output_is_sharded_like_the_input(row: Row, axis_type):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    y, g = compiled(row.call)(X)
    with jax.set_mesh(mesh):
        specs = P("data", "model"), P(None, "model")
        inputs = [jax.device_put(X, NamedSharding(mesh, spec)) for spec in specs]
        results = jax.jit(lambda inputs: [compiled(row.call)(x) for x in inputs])(inputs)
        for x, (out, grad) in zip(inputs, results, strict=True):
            close(out, y)
            close(grad, g)
            for result in (out, grad):
                assert result.sharding.is_equivalent_to(x.sharding, 2)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P("data", "model"), P("data"), P(None, "model")])
@pytest.mark.parametrize("alpha_spec", [P(), P("model")])
def test_prelu_slopes_on_a_mesh(axis_type, spec, alpha_spec):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    alpha = np.linspace(0.1, 0.6, 6).astype(np.float32)

    def loss(x, alpha):
        return jnp.sum(jaxact.prelu(x, alpha) ** 2)

    expected = jax.grad(loss, (0, 1))(X, alpha)
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, spec))
        a = jax.device_put(alpha, NamedSharding(mesh, alpha_spec))
        result = jax.jit(jax.grad(loss, (0, 1)))(x, a)
    chex.assert_trees_all_close(result, expected, rtol=1e-5)


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(check_vma):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    alpha = np.linspace(0.1, 0.6, 6).astype(np.float32)

    def loss(x, alpha):
        y = jaxact.silu(jaxact.prelu(jaxact.relu(x) - 1, alpha))
        return y + jaxact.rrelu(y, jax.random.key(0), 0.2, 0.2) + jaxact.leaky_relu(y)

    sharded = jax.shard_map(
        loss, mesh=mesh, in_specs=(P("data", "model"), P("model")),
        out_specs=P("data", "model"), check_vma=check_vma,
    )  # fmt: skip
    expected = jax.grad(lambda *a: loss(*a).sum(), (0, 1))(X, alpha)
    result = jax.jit(jax.grad(lambda *a: sharded(*a).sum(), (0, 1)))(X, alpha)
    chex.assert_trees_all_close(result, expected, rtol=1e-5)

    # The gradient taken inside: that of a replicated slope is summed over the shards.
    if check_vma:
        inside = jax.shard_map(
            lambda x, a: jax.grad(lambda a: lax.psum(loss(x, a).sum(), ("data", "model")))(a),
            mesh=mesh, in_specs=(P("data", "model"), P("model")), out_specs=P("model"),
        )  # fmt: skip
        chex.assert_trees_all_close(jax.jit(inside)(X, alpha), expected[1], rtol=1e-5)


@pytest.mark.skipif(not hasattr(jax, "pmap"), reason="this JAX has no pmap")
def test_pmap():
    close(jax.pmap(jaxact.gelu)(X), jaxact.gelu(X))
    close(jax.pmap(gradient(jaxact.leaky_relu))(X), gradient(jaxact.leaky_relu)(X))


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_export(row: Row):
    call = compiled(row.call)
    exported = jax.export.export(call, platforms=("cpu", "cuda", "tpu"))(
        jax.ShapeDtypeStruct(X.shape, X.dtype)
    )
    loaded = jax.export.deserialize(exported.serialize())
    chex.assert_trees_all_equal(loaded.call(X), call(X))


@pytest.mark.parametrize(
    ("call", "values"),
    [
        (jaxact.leaky_relu, (0.01, 0.2, 0.3, 1, np.float32(0.4), np.float64(0.5), np.array(0.6))),
        (jaxact.prelu, (0.01, 0.2, np.float32(0.4))),
        (jaxact.elu, (0.5, 1.0, 2, np.float32(3.0))),
        (jaxact.celu, (0.5, 1.0, 2)),
        (jaxact.squareplus, (0.5, 4, 2.0)),
        (jaxact.hard_shrink, (0.5, 1)),
        (lambda x, a: jaxact.rrelu(x, table.KEY, a / 2, a), (0.2, 0.3, 0.4)),
        (lambda x, a: jaxact.rrelu(x, None, a / 2, a, deterministic=True), (0.2, 0.3, 0.4)),
        (lambda x, a: jaxact.hard_tanh(x, min_val=-a, max_val=a), (0.2, 0.3, 0.4)),
    ],
)
def test_a_new_value_of_a_parameter_does_not_compile(call, values):
    x = jnp.asarray(X)
    first, *others = values
    jax.block_until_ready(jax.grad(lambda x: call(x, first).sum())(x))
    call(x, first)
    with jax.no_tracing():
        for value in others:
            call(x, value)


def test_a_user_function_is_traced_once_per_autodiff_setting():
    @jax.jit
    @chex.assert_max_traces(n=3)
    def f(x):
        return jaxact.gelu(x)

    for _ in range(3):
        f(X)
        with jaxact.autodiff(mode="both"):
            f(X)
            jax.jvp(f, (X,), (X,))
        with jaxact.autodiff(residual="input"):
            f(X)


@pytest.mark.slow
@given(
    x_shape=st.lists(st.integers(1, 4), min_size=0, max_size=3),
    data=st.data(),
)
@settings(max_examples=30, deadline=None)
def test_parameters_broadcast_like_where(x_shape, data):
    shape = tuple(data.draw(st.sampled_from([1, n])) for n in x_shape)
    shape = shape[data.draw(st.integers(0, len(shape))) :]
    rng = np.random.default_rng(0)
    x = rng.normal(size=x_shape).astype(np.float32)
    slope = rng.random(shape).astype(np.float32)
    with jax.numpy_rank_promotion("allow"):
        expected = np.where(x >= 0, x, slope * x)
        close(jaxact.leaky_relu(x, jnp.asarray(slope)), expected)
        if slope.ndim != 1 or slope.shape[0] in (1, *x.shape[-1:]):
            close(jaxact.prelu(x, jnp.asarray(slope)), expected)
        d = jax.grad(lambda a: jaxact.leaky_relu(x, a).sum())(jnp.asarray(slope))
        full = np.where(x < 0, x, 0)
        for axis in range(x.ndim - slope.ndim):
            del axis
            full = full.sum(0)
        for axis, size in enumerate(slope.shape):
            if size == 1:
                full = full.sum(axis, keepdims=True)
    np.testing.assert_allclose(d, full, rtol=1e-5, atol=1e-6)


@given(x_shape=st.lists(st.integers(0, 4), min_size=1, max_size=4), data=st.data())
@settings(max_examples=20, deadline=None)
def test_prelu_vectors_lie_along_their_axis(x_shape, data):
    axis = data.draw(st.integers(-len(x_shape), len(x_shape) - 1))
    rng = np.random.default_rng(0)
    x = rng.normal(size=x_shape).astype(np.float32)
    alpha = rng.random(x_shape[axis]).astype(np.float32)
    moved = np.moveaxis(x, axis, -1)
    expected = np.moveaxis(np.where(moved >= 0, moved, alpha * moved), -1, axis)
    close(jaxact.prelu(x, alpha, axis=axis), expected)


def test_wide_parameters_do_not_widen_the_result():
    with jax.enable_x64(True):
        slope = jnp.asarray(0.2, jnp.float64)
        for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
            x = jnp.asarray([-1.0, 2.0], dtype)
            assert jaxact.leaky_relu(x, slope).dtype == dtype
            assert jaxact.prelu(x, slope).dtype == dtype
            assert jax.grad(lambda a, x=x: jaxact.elu(x, a).sum())(slope).dtype == jnp.float64


def test_parameters_larger_than_the_input_on_an_explicit_mesh():
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    slopes = np.linspace(0.1, 0.6, 48, dtype=np.float32).reshape(8, 6)

    def loss(x, a):
        return jnp.sum(jaxact.leaky_relu(x, a) ** 2)

    with jax.numpy_rank_promotion("allow"):
        expected = jax.grad(loss, (0, 1))(X[0], slopes)
        with jax.set_mesh(mesh):
            a = jax.device_put(slopes, NamedSharding(mesh, P("data", "model")))
            for spec in (P("model"), P()):
                x = jax.device_put(X[0], NamedSharding(mesh, spec))
                result = jax.jit(jax.grad(loss, (0, 1)))(x, a)
                chex.assert_trees_all_close(result, expected, rtol=1e-5)


@pytest.mark.parametrize("call", [jaxact.gelu, lambda x: jaxact.rrelu(x, table.KEY)])
def test_export_of_symbolic_shapes(call):
    (batch,) = jax.export.symbolic_shape("batch")
    both = jax.jit(lambda x: (call(x), gradient(call)(x)))
    exported = jax.export.export(both)(jax.ShapeDtypeStruct((batch, 6), jnp.float32))
    chex.assert_trees_all_close(exported.call(X), both(X), rtol=2e-6)


@pytest.mark.parametrize(
    ("call", "residual"), [(jaxact.leaky_relu, "mask"), (jaxact.gelu, "quantized")]
)
def test_export_of_a_symbolic_last_axis(call, residual):
    """Of unknown length it cannot be packed: the input is kept."""
    shape = (8, *jax.export.symbolic_shape("features"))
    with jaxact.autodiff(residual=residual):
        exported = jax.export.export(jax.jit(gradient(call)))(
            jax.ShapeDtypeStruct(shape, jnp.float32)
        )
    close(exported.call(X), gradient(call)(X))


def test_gate_and_up_of_two_dtypes():
    gate, up = jnp.asarray(X, jnp.bfloat16), jnp.asarray(X[::-1])
    for row in GATED:
        if row.name != "glu":
            with jax.numpy_dtype_promotion("standard"):
                y, pullback = jax.vjp(row.call, gate, up)
            chex.assert_type([y, *pullback(y)], [jnp.float32, jnp.bfloat16, jnp.float32])
            np.testing.assert_array_equal(y, row.call(gate.astype(jnp.float32), up))


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_makes_no_nan_or_infinity_of_its_own(row: Row):
    """So that jax_debug_nans and jax_debug_infs point at the user's own."""
    x = jnp.asarray(X)
    with jax.disable_jit(), jax.debug_nans(True), jax.debug_infs(True):
        gradient(row.call)(x)


class Variants(chex.TestCase):
    """chex's variants: with and without jit, on and off device, and pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    @parameterized.named_parameters((row.id, row) for row in TABLE)
    def test_value(self, row):
        with np.errstate(all="ignore"):
            expected = row.value(X.astype(np.float64))
        np.testing.assert_allclose(
            np.asarray(self.variant(row.call)(X)), expected, rtol=2e-6, atol=1e-7
        )

    @chex.variants(with_pmap=hasattr(jax, "pmap"))
    def test_pmap(self):
        np.testing.assert_allclose(self.variant(jaxact.gelu)(X), jaxact.gelu(X), rtol=2e-6)
