"""A bit, or a few, an element in place of the input: masks and quantized derivatives."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import jaxact
from jaxact._core.cells import CELLS
from jaxact._core.packing import pack, unpack
from tests.support.samples import normal
from tests.support.table import TABLE

TWO_SLOPES = {
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "threshold", "hard_shrink", "soft_shrink",
    "hard_tanh", "hard_sigmoid",
}  # fmt: skip
MASKED = [row for row in TABLE if row.name in TWO_SLOPES and row.id != "prelu:array"]
#: The rows' names of cells that differ from the rows' ids.
NAMES = {"gelu:approximate=False": "gelu_erf"}
SMOOTH = [row for row in TABLE if NAMES.get(row.id, row.id) in CELLS]

# Pieces' ends, both zeros, subnormals, infinities; then anything.
SPECIAL = [0.0, -0.0, 1e-40, -1e-40, np.inf, -np.inf, 0.5, -0.5, 1, -1, 2, 3, -3, 6, 3e38, -3e38]
X = np.concatenate([SPECIAL, np.linspace(-9, 9, 320)]).astype(np.float32).reshape(-1, 24)


def test_the_rows_are_all_that_have_a_mask_or_cells():
    assert {row.name for row in MASKED} == TWO_SLOPES
    assert {NAMES.get(row.id, row.id) for row in SMOOTH} == set(CELLS)


def pullback(call, x):
    """The gradient, and the arrays kept for it."""
    y, pull = jax.jit(lambda x: jax.vjp(call, x))(x)
    kept = [leaf for leaf in jax.tree.leaves(pull) if leaf.size > 2]
    g = jnp.sin(jnp.arange(1.0, y.size + 1)).reshape(y.shape).astype(y.dtype)
    return jax.jit(lambda pull, g: pull(g)[0])(pull, g), kept


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (8,), (3, 13), (2, 0, 9), (2, 3, 16)])
def test_packing(shape, width):
    numbers = np.random.default_rng(0).integers(0, 2**width, shape, np.uint8)
    packed = pack(jnp.asarray(numbers), width)
    assert packed.dtype == jnp.uint8
    per_byte = 8 // width
    assert packed.shape == ((*shape[:-1], -(-shape[-1] // per_byte)) if shape else (1,))
    np.testing.assert_array_equal(unpack(packed, shape, width), numbers)


@pytest.mark.parametrize(
    "dtype", [jnp.float32, jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("row", MASKED, ids=repr)
def test_a_mask_is_exact_and_a_bit_an_element(row, dtype):
    x = jnp.asarray(X).astype(dtype)
    y, (expected, _) = row.call(x), pullback(row.call, x)
    with jaxact.autodiff(residual="mask"):
        np.testing.assert_array_equal(row.call(x), y)
        gradient, kept = pullback(row.call, x)
    np.testing.assert_array_equal(gradient, expected)
    assert [(k.dtype, k.shape) for k in kept] == [(jnp.uint8, (X.shape[0], X.shape[1] // 8))]


@pytest.mark.parametrize("row", [row for row in TABLE if row not in MASKED], ids=repr)
def test_without_a_mask_the_input_is_kept(row):
    x = jnp.asarray(X)
    with jaxact.autodiff(residual="input"):
        expected, kept_input = pullback(row.call, x)
    with jaxact.autodiff(residual="mask"):
        gradient, kept = pullback(row.call, x)
    np.testing.assert_array_equal(gradient, expected)
    if row.name != "crelu":
        assert [k.shape for k in kept] == [k.shape for k in kept_input]


@pytest.mark.parametrize(
    "call",
    [
        lambda x: jaxact.hard_tanh(x, min_val=0, max_val=np.inf),
        lambda x: jaxact.hard_tanh(x, min_val=-np.inf, max_val=1),
        lambda x: jaxact.hard_tanh(x, min_val=0, max_val=float(np.finfo(np.float32).max)),
        lambda x: jaxact.threshold(x, float(np.finfo(np.float32).max), 0.0),
        lambda x: jaxact.hard_shrink(x, float(np.finfo(np.float32).max)),
        lambda x: jaxact.soft_shrink(x, np.inf),
        lambda x: jaxact.leaky_relu(x, -0.0),
        lambda x: jaxact.leaky_relu(x, np.inf),
    ],
)
def test_masks_at_extreme_parameters(call):
    x = jnp.asarray(X)
    with jaxact.autodiff(residual="input"):
        expected, _ = pullback(call, x)
    np.testing.assert_array_equal(pullback(call, x)[0], expected)
    with jaxact.autodiff(residual="mask"):
        np.testing.assert_array_equal(pullback(call, x)[0], expected)


def test_crelu_keeps_two_masks():
    x = jnp.asarray(X)
    expected, _ = pullback(lambda x: jaxact.crelu(x).reshape(2, -1)[0], x)
    with jaxact.autodiff(residual="mask"):
        gradient, kept = pullback(lambda x: jaxact.crelu(x).reshape(2, -1)[0], x)
    np.testing.assert_array_equal(gradient, expected)
    assert sum(k.nbytes for k in kept) == 2 * X.size // 8


def test_a_nan_input_under_a_mask():
    x = jnp.asarray([jnp.nan, 1.0])
    with jaxact.autodiff(residual="mask"):
        assert jnp.isnan(jaxact.relu(x)[0])
        gradient = jax.grad(lambda x: jaxact.leaky_relu(x).sum())(x)
    assert gradient[0] in (1.0, jnp.float32(0.01)) and gradient[1] == 1


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("row", SMOOTH, ids=repr)
def test_a_quantized_derivative_is_within_its_bound(row, bits):
    x = jnp.asarray(np.concatenate([np.linspace(-40, 40, 20001), SPECIAL]), jnp.float32)
    with jaxact.autodiff(residual="quantized", bits=bits):
        np.testing.assert_array_equal(row.call(x), jax.jit(row.call)(x))
        y, pull = jax.jit(lambda x: jax.vjp(row.call, x))(x)
    kept = [leaf for leaf in jax.tree.leaves(pull) if leaf.size > 2]
    # 3 bits are 2 and 1; each part is padded to whole bytes.
    assert bits * x.size / 8 <= sum(k.nbytes for k in kept) < bits * x.size / 8 + 2
    gradient = jax.jit(lambda pull, g: pull(g)[0])(pull, jnp.ones_like(y))
    slope = np.asarray(gradient, np.float64)
    assert len(np.unique(slope)) <= 2**bits
    with np.errstate(all="ignore"):  # At infinity and the largest numbers references overflow.
        error = np.abs(slope - row.slope(np.asarray(x, np.float64)))
    error = error[np.isfinite(error)]
    bound = CELLS[NAMES.get(row.id, row.id)][bits].error
    assert error.max() <= bound + 1e-6
    # The bound is not an idle one.
    assert error.max() >= 0.9 * bound


@pytest.mark.parametrize("row", SMOOTH, ids=repr)
def test_cells_get_finer(row):
    """The mean squared error under a standard normal input falls with each bit."""
    x = np.linspace(-6, 6, 4001)
    weight = np.exp(-x * x / 2) / np.exp(-x * x / 2).sum()

    @jax.jit
    def slopes(x):
        found = {}
        for bits in (2, 3, 4):
            with jaxact.autodiff(residual="quantized", bits=bits):
                (found[bits],) = jax.vjp(row.call, x)[1](jnp.ones(x.shape))
        return found

    slope = slopes(jnp.asarray(x, jnp.float32))

    def error(bits):
        return (weight * (np.asarray(slope[bits], np.float64) - row.slope(x)) ** 2).sum()

    assert error(2) < 0.02 and error(3) < 0.4 * error(2) and error(4) < 0.4 * error(3)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "relu_squared", "swiglu"])
def test_what_has_no_quantized_derivative_keeps_its_own(name):
    arguments = [jnp.asarray(X[1:3])] * (2 if name == "swiglu" else 1)
    _, expected = jax.vjp(jaxact.get(name), *arguments)
    with jaxact.autodiff(residual="quantized"):
        _, pull = jax.vjp(jaxact.get(name), *arguments)
    for kept, like in zip(jax.tree.leaves(pull), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(kept, like)
    ones = jnp.ones((2, 24))
    for g, e in zip(pull(ones), expected(ones), strict=True):
        np.testing.assert_array_equal(g, e)


def test_parameters_of_quantized_functions():
    x = jnp.concatenate([jnp.linspace(-4, 4, 101), jnp.array([1e-40, -1e-40])])
    exact = jax.vjp(lambda x: jaxact.elu(x, 1.7), x)[1](jnp.ones_like(x))[0]
    with jaxact.autodiff(residual="quantized"):
        slope = jax.vjp(lambda x: jaxact.elu(x, 1.7), x)[1](jnp.ones_like(x))[0]
        alpha = jax.vjp(lambda a: jaxact.elu(x, a), jnp.float32(1.7))[1](jnp.ones_like(x))[0]
    assert jnp.abs(slope - exact).max() < 1.7 * CELLS["elu"][4].error
    # The pieces meet at 0, which no subnormal number is.
    assert (slope[np.asarray(x) > 0] == 1).all() and slope[-1] < 1.7
    assert alpha == jax.vjp(lambda a: jaxact.elu(x, a), jnp.float32(1.7))[1](jnp.ones_like(x))[0]


POLICIES = [
    ("leaky_relu:0.2", {"residual": "mask"}),
    pytest.param("gelu", {"residual": "quantized"}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "policy"), POLICIES)
def test_under_transformations(name, policy):
    call, x = jaxact.get(name), jnp.asarray(X[2:])

    def gradient(f, x):
        return jax.vjp(f, x)[1](jnp.ones_like(f(x)))[0]

    with jaxact.autodiff(**policy):
        expected = jax.jit(lambda x: gradient(call, x))(x)
        for f in (
            jax.vmap(call),
            jax.vmap(call, in_axes=1, out_axes=1),
            jax.vmap(jax.vmap(call)),  # Of scalars: a byte each.
            jax.checkpoint(call),
            lambda x: lax.scan(lambda _, row: (0, call(row)), 0, x)[1],
        ):
            np.testing.assert_array_equal(jax.jit(lambda x, f=f: gradient(f, x))(x), expected)
        np.testing.assert_array_equal(jax.jit(jax.vmap(lambda x: gradient(call, x)))(x), expected)
        # A derivative of the gradient: of what is piecewise constant, zero.
        second = jax.grad(lambda x: gradient(call, x).sum())(x)
        np.testing.assert_array_equal(second, jnp.zeros_like(x))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P("x"), P(None, "x"), P("y", "x")])
@pytest.mark.parametrize(("name", "policy"), POLICIES)
def test_on_meshes_packing_is_local(name, policy, spec, axis_type):
    call = jaxact.get(name)
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis_type,) * 2)
    x = normal(0, (8, 64))
    step = jax.jit(lambda x: jax.vjp(call, x)[1](jnp.ones_like(x))[0])
    with jaxact.autodiff(**policy), jax.set_mesh(mesh):
        expected = step(x)
        sharded = jax.device_put(x, NamedSharding(mesh, spec))
        program = step.lower(sharded).compile().as_text()
        gradient = step(sharded)
    np.testing.assert_array_equal(gradient, expected)
    assert gradient.sharding.is_equivalent_to(sharded.sharding, 2)
    for collective in ("all-", "permute", "collective"):
        assert f" {collective}" not in program


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize(("name", "policy"), POLICIES)
def test_shards_that_are_no_multiple_of_8(name, policy, axis_type):
    """On Explicit meshes the input is kept; on Auto ones XLA moves what it must."""
    call = jaxact.get(name)
    mesh = jax.make_mesh((4,), ("x",), axis_types=(axis_type,))
    x = jax.device_put(jnp.asarray(X[2:6, :20]), NamedSharding(mesh, P(None, "x")))
    expected = jax.vjp(call, jnp.asarray(X[2:6, :20]))[1](jnp.ones((4, 20)))[0]
    with jaxact.autodiff(**policy):
        gradient, kept = jax.jit(lambda x: (jax.vjp(call, x)[1](x)[0], jax.vjp(call, x)[1]))(x)
        gradient = jax.vjp(call, x)[1](jnp.ones_like(x))[0]
    if axis_type == AxisType.Explicit:
        assert [k.dtype for k in jax.tree.leaves(kept) if k.size > 2] == [jnp.float32]
    tolerance = CELLS["gelu"][4].error if policy["residual"] == "quantized" else 0
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize(("name", "policy"), POLICIES)
def test_inside_shard_map(name, policy, check_vma):
    call = jaxact.get(name)
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    x = jnp.asarray(X[2:14])

    def gradient(x):
        return jax.vjp(call, x)[1](jnp.ones_like(x))[0]

    with jaxact.autodiff(**policy):
        mapped = jax.shard_map(
            gradient, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=check_vma
        )
        np.testing.assert_array_equal(jax.jit(mapped)(x), jax.jit(gradient)(x))


def test_a_scan_whose_carry_is_the_output_keeps_an_eighth():
    """The memory that XLA's CPU compiler plans for it, in arrays of the carry's size."""

    def planned(policy):
        def loss(x, weights):
            return lax.scan(lambda x, w: (jaxact.leaky_relu(x @ w), None), x, weights)[0].sum()

        x, w = jnp.ones((2048, 128)), jnp.ones((16, 128, 128))
        with policy:
            program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, w).compile()
        return program.memory_analysis().temp_size_in_bytes / (16 * x.nbytes)

    assert planned(jaxact.autodiff(residual="mask")) < 1.26
    assert planned(contextlib.nullcontext()) > 2


@pytest.mark.parametrize("bits", [1, 5, "4"])
def test_unknown_bits(bits):
    with pytest.raises(ValueError, match=f"bits must be one of 2, 3, 4; got {bits!r}"):
        jaxact.autodiff(residual="quantized", bits=bits)
