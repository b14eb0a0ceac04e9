"""Value and derivative against float64 references, at every kind of input."""

import functools

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jaxact
from tests.support import table, ulp
from tests.support.errors import (
    SIXTEEN_BITS,
    assert_within,
    float32_sample,
    near_zero_of_slope,
    near_zero_of_value,
    reference,
)
from tests.support.table import GATED, TABLE, Row


@functools.cache
def compiled(call):
    @jax.jit
    def both(x):
        y, pullback = jax.vjp(call, x)
        return y, pullback(jnp.ones_like(y))[0]

    return both


def value_and_slope(call, x: np.ndarray, size: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs that are repeated up to the same size share a compiled program."""
    y, g = compiled(call)(np.resize(x, max(size, x.size)))
    assert y.dtype == g.dtype == x.dtype
    return np.asarray(y)[: x.size], np.asarray(g)[: x.size]


#: The size of the float32 inputs below that are few: in a program without vector instructions.
FEW = 4
#: How many of the float32 inputs that are many are looked at together: for larger arrays, the
#: operating system takes longer to give memory than NumPy to compute.
PART = 1 << 18


def test_what_is_compared_here_is_compiled_as_for_users():
    assert not jax.config.read("jax_disable_most_optimizations")


@pytest.mark.parametrize("dtype", SIXTEEN_BITS)
@pytest.mark.parametrize("row", TABLE, ids=repr)
def test_every_16_bit_input(row: Row, dtype):
    x = ulp.bit_patterns(dtype)
    y, g = value_and_slope(row.call, x)
    finite = np.isfinite(x.astype(np.float32))
    x, y, g = x[finite], y[finite], g[finite]
    bound = np.where(near_zero_of_value(row, x), 0.6, 0.51)
    assert_within(x, y, reference(row.value, x), bound)
    bound = np.where(near_zero_of_slope(row, x), 0.6, 0.51)
    assert_within(x, g, reference(row.slope, x), bound, row.compared)


@pytest.mark.parametrize(
    "count", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)], ids=["sparse", "dense"]
)
@pytest.mark.parametrize("row", TABLE, ids=repr)
def test_float32(row: Row, count):
    sample = float32_sample(row, count)
    for start in range(0, sample.size, PART):
        x = sample[start : start + PART]
        y, g = value_and_slope(row.call, x, min(PART, sample.size))
        value = reference(row.value, x)
        near = near_zero_of_value(row, x)
        assert_within(x[~near], y[~near], value[~near], row.float32_value_ulp)
        if near.any():
            assert abs(y[near] - value[near]).max() <= 2.0**-23
        slope = reference(row.slope, x)
        near = near_zero_of_slope(row, x)
        assert_within(x[~near], g[~near], slope[~near], row.float32_ulp)
        if near.any():
            assert abs(g[near] - slope[near]).max() <= 2.0**-23


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("gelu", (-6, -10)),
        ("gelu:approximate=False", (-6, -13)),
        ("silu", (-20, -80, -90)),
        ("quick_gelu", (-20, -50)),
        ("mish", (-20, -80, -90)),
        *((name, (-20, -80)) for name in ("elu", "elu:1.7", "celu", "selu", "sigmoid", "softplus")),
        ("tanh", (-20, -43)),
        ("squareplus", (-1e4, -1e15)),
    ],
)
def test_tails_keep_relative_accuracy(name, points):
    row = next(row for row in TABLE if row.id == name)
    x = np.array(points, np.float32)
    y, g = value_and_slope(row.call, x)
    assert_within(x, y, reference(row.value, x), 4)
    assert_within(x, g, reference(row.slope, x), 4)
    assert (g != 0).all()


#: By name: the call, value and slope with a parameter, and how far the input goes.
OF_PARAMETER = {
    "celu": (jaxact.celu, table.celu, table.celu_slope, 1e38),
    "elu": (jaxact.elu, table.elu, table.elu_slope, 1e38),
    "silu": (
        lambda x, beta: jaxact.silu(x, beta=beta),
        lambda x, beta: x * table.sigma(beta * x),
        lambda x, beta: table.silu_slope(beta * x),
        1e38,
    ),
    "squareplus": (jaxact.squareplus, table.squareplus, table.squareplus_slope, 1e18),
}


@pytest.mark.parametrize("dtype", [*SIXTEEN_BITS, np.float32])
@pytest.mark.parametrize("size", [2e-38, 1e-30, 1e-10, 1e10, 1e30, 1e38, 3e38])
@pytest.mark.parametrize("name", [*OF_PARAMETER, "-celu", "-elu", "-silu"])
def test_parameters_of_extreme_size(name, size, dtype):
    """As numbers, which XLA folds into the program's constants, and as arrays."""
    call, value, slope, most = OF_PARAMETER[name.strip("-")]
    parameter = np.float32(-size if "-" in name else size)
    info = ml_dtypes.finfo(dtype)
    sizes = [*np.geomspace(float(info.tiny), min(float(info.max), most), 60)]
    with np.errstate(over="ignore"):
        sizes += [size * factor for factor in (0.01, 0.5, 1, 2, 10)]
        sizes += [factor / size for factor in (0.1, 1, 2, 10, 50)]
        x = np.array([*sizes, *(-s for s in sizes)]).astype(dtype)
    x = x[(abs(x) >= info.tiny) & (abs(x) <= min(float(info.max), most))]
    if name == "-celu":  # The rounding of x / alpha counts where the exponential is large.
        x = x[x.astype(np.float64) / parameter < 2]

    def function(x, parameter):
        y, pullback = jax.vjp(lambda x: call(x, parameter), x)
        return y, pullback(jnp.ones_like(y))[0]

    for y, g in (function(x, float(parameter)), function(x, np.full(x.shape, parameter))):
        for result, truth in ((y, value), (g, slope)):
            with np.errstate(all="ignore"):
                expected = truth(x.astype(np.float64), np.float64(parameter))
            kept = abs(expected) <= float(info.max)
            bound = 4 if dtype == np.float32 else 0.51
            if kept.any():
                assert_within(x[kept], np.asarray(result)[kept], expected[kept], bound)


def test_celu_with_a_large_alpha_is_the_identity():
    np.testing.assert_array_equal(jaxact.celu(np.float32([-1, 1]), 1e38), [-1, 1])


@pytest.mark.parametrize("row", TABLE, ids=repr)
def test_float64(row: Row):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-40, 40, 2000), rng.normal(size=2000), [*row.kinks, 0.0]])
    x = x[~near_zero_of_slope(row, x) & ~near_zero_of_value(row, x)]
    with jax.enable_x64(True):
        y, g = value_and_slope(row.call, x)
    np.testing.assert_allclose(y, reference(row.value, x), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(g, reference(row.slope, x), rtol=2e-12, atol=1e-300)


@pytest.mark.parametrize("dtype", [*SIXTEEN_BITS, np.float32])
@pytest.mark.parametrize("row", TABLE, ids=repr)
def test_limits_at_infinity_and_nan(row: Row, dtype):
    x = np.array([-np.inf, np.inf, np.nan, -np.nan], dtype)
    # Of 16 bits: with the program for every input.
    y, g = value_and_slope(row.call, x, FEW if dtype == np.float32 else 1 << 16)
    expected = np.array(row.limits, np.float64)
    np.testing.assert_array_equal(y[:2], expected[:, 0].astype(dtype))
    np.testing.assert_array_equal(g[:2], expected[:, 1].astype(dtype))
    assert np.isnan(y[2:]).all()
    if row.name != "identity":
        assert np.isnan(g[2:]).all()


@pytest.mark.parametrize("row", TABLE, ids=repr)
def test_zeros_and_branch_points(row: Row):
    x = np.array([0.0, -0.0, *row.kinks], np.float32)
    y, g = value_and_slope(row.call, x, FEW)
    assert_within(x, y, reference(row.value, x), 1)
    assert_within(x, g, reference(row.slope, x), 1)


@pytest.mark.parametrize("row", TABLE, ids=repr)
def test_subnormal_inputs_are_on_their_side_of_a_kink(row: Row):
    x = np.array([1e-40, -1e-40], np.float32)
    _, g = value_and_slope(row.call, x, FEW)
    assert_within(x, g, reference(row.slope, x), 1, row.compared)


@pytest.mark.parametrize("dtype", [*SIXTEEN_BITS, np.float32])
@pytest.mark.parametrize("row", GATED, ids=repr)
def test_gated(row, dtype):
    rng = np.random.default_rng(2)
    gate = (rng.normal(size=20_000) * np.exp2(rng.uniform(-10, 5, 20_000))).astype(dtype)
    up = (rng.normal(size=20_000) * np.exp2(rng.uniform(-5, 5, 20_000))).astype(dtype)

    @jax.jit
    def gated(gate, up):
        y, pullback = jax.vjp(row.call, gate, up)
        return y, *pullback(jnp.ones_like(y))

    y, d_gate, d_up = gated(gate, up)
    chex.assert_type([y, d_gate, d_up], dtype)
    gate64 = gate.astype(np.float64)
    kept = row.is_normal(gate, up)
    far = row.far_from_zeros(gate64)
    loose = 6 if dtype == np.float32 else 0.51
    value, by_gate, by_up = row.references(gate, up)
    for result, expected, keep in (
        (y, value, kept),
        (d_up, by_up, np.ones_like(kept)),
        (d_gate, by_gate, kept & far),
    ):
        result = np.asarray(result)
        assert_within(gate[keep], result[keep], expected[keep], loose)
    error = abs(np.asarray(d_gate, np.float64) - by_gate)[~far]
    size = abs(row.other(up.astype(np.float64)))[~far]
    last_place = abs(by_gate[~far]) * float(ml_dtypes.finfo(dtype).eps)
    least = float(ml_dtypes.finfo(dtype).smallest_subnormal) + ulp.SMALLEST_NORMAL
    assert (error <= 2.0**-22 * size + last_place + least).all()


def test_what_counts_as_an_error():
    """The figures that all bounds here are about."""
    tiny = ulp.SMALLEST_NORMAL
    for dtype in (*SIXTEEN_BITS, np.float32):
        info = ml_dtypes.finfo(dtype)
        step, top = float(info.eps), float(info.max)
        got = np.array([1, 1 + step, -1, np.inf, -np.inf, np.nan, np.inf, 1, 0, 0], dtype)
        exact = np.array([1, 1, 1, np.inf, np.inf, 1, 1, np.nan, 1, np.nan])
        expected = [0, 1, 2 / step, 0, *[np.inf] * 4, 1 / step, np.inf]
        np.testing.assert_array_equal(ulp.error(got, exact), expected)
        below = np.array([top * (1 - step / 2)])
        assert 0.99 < ulp.error(np.array([top], dtype), below) <= 1
    # What float32 cannot hold as a normal number may be 0; what only float16 cannot may not.
    zero = np.zeros(1, np.float32)
    assert ulp.error(zero, np.array([0.9 * tiny])) == 0
    assert ulp.error(zero, np.array([tiny])) == 2**23
    assert ulp.error(zero.astype(np.float16), np.array([2.0**-24])) == 1
    # A subnormal input makes no other slope than its own 0, and 0 itself no result but its own.
    for x, exact, compared, flushes in (
        (1e-40, 1e-40, False, True),
        (1e-40, 1.0, False, False),
        (1e-40, 1.0, True, True),
        (0.0, 1.0, True, False),
        (1e-30, 1.0, True, False),
    ):
        x, exact = np.float32([x]), np.array([exact])
        assert ulp.flushed(x, zero, exact, compared=compared) == flushes
        assert not ulp.flushed(x, zero + 1, exact, compared=compared)


def test_second_names():
    """They have no row of their own."""
    assert jaxact.swish is jaxact.silu
    assert jaxact.hard_swish is jaxact.hard_silu


def test_halves_of_glu_are_value_and_gate():
    x = jnp.array([[1.0, 2.0, -3.0, 4.0]])
    np.testing.assert_allclose(jaxact.glu(x), x[:, :2] * jax.nn.sigmoid(x[:, 2:]), rtol=1e-6)
    np.testing.assert_allclose(
        jaxact.glu(x.T, axis=0), (x[:, :2] * jax.nn.sigmoid(x[:, 2:])).T, rtol=1e-6
    )


def test_crelu_concatenates_along_the_axis():
    x = jnp.array([[1.0, -2.0]])
    assert jaxact.crelu(x).tolist() == [[1.0, 0.0, 0.0, 2.0]]
    assert jaxact.crelu(x, axis=0).tolist() == [[1.0, 0.0], [0.0, 2.0]]


def test_every_other_public_function_is_known():
    public = {name for name in dir(jaxact) if callable(getattr(jaxact, name)) and name[0] != "_"}
    not_activations = {
        "autodiff",
        "set_autodiff",
        "get",
        "mlp",
        "gated_mlp",
        "probe",
        "probe_and_grad",
        "swap",
        "revive",
    }
    not_activations |= {"Report", "Site"}
    assert public - not_activations == set(jaxact.ACTIVATIONS)
