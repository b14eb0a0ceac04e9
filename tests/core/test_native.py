"""The formulas for accelerators against float64, computed with this machine's own functions.

An accelerator's own are as accurate, or less: the test is that the formulas lose nothing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxact._native as native
from jaxact._core.arithmetic import Real, maximum
from tests.support import ulp
from tests.support.errors import (
    SIXTEEN_BITS,
    assert_within,
    near_zero_of_slope,
    near_zero_of_value,
    reference,
)
from tests.support.table import TABLE

FORMULAS = {
    "elu": (native.elu, native.elu_slope, 1.0),
    "elu:1.7": (native.elu, native.elu_slope, 1.7),
    "celu:0.375": (native.celu, native.celu_slope, 0.375),
    "selu": (native.selu, native.selu_slope),
    "silu": (native.silu, native.silu_slope),
    "silu:beta=2.5": (native.swish, native.swish_slope, 2.5),
    "quick_gelu": (native.quick_gelu, native.quick_gelu_slope),
    "gelu": (native.gelu_tanh, native.gelu_tanh_slope),
    "gelu:approximate=False": (native.gelu_erf, native.gelu_erf_slope),
    "mish": (native.mish, native.mish_slope),
    "sigmoid": (native.sigmoid, native.sigmoid_slope),
    "softplus": (native.softplus, native.sigmoid),
    "log_sigmoid": (native.log_sigmoid, native.log_sigmoid_slope),
    "tanh": (native.tanh, native.tanh_slope),
    "tanh_shrink": (native.tanh_shrink, native.tanh_shrink_slope),
    "softcap": (native.softcap, native.softcap_slope, 30.0),
    "softcap:0.375": (native.softcap, native.softcap_slope, 0.375),
    "xielu": (native.xielu, native.xielu_slope, 0.8, 0.8, 0.5),
    "snake": (native.snake, native.snake_slope, 1.0),
    "surrogate_relu": (lambda x: maximum(x, 0), native.bsilu_slope),
}
ROWS = [row for row in TABLE if row.id in FORMULAS]
#: Where a result is smaller, an exponential in it may have vanished.
TAIL = 2.0**-126 * 2**8


@functools.cache
def compiled(name):
    value, slope, *parameters = FORMULAS[name]

    @jax.jit
    def both(x):
        inputs = [Real(jnp.asarray(a, jnp.float32)) for a in (x, *parameters)]
        return tuple(formula(*inputs).array.astype(x.dtype) for formula in (value, slope))

    return both


def test_every_formula_is_here():
    assert len(ROWS) == len(FORMULAS)


@pytest.mark.parametrize("dtype", SIXTEEN_BITS)
@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_every_16_bit_input(row, dtype):
    x = ulp.bit_patterns(dtype)
    x = x[np.isfinite(x.astype(np.float32))]
    # The terms of a value are larger next to its zero than those of a slope.
    bounds = near_zero_of_value(row, x, 0.1), near_zero_of_slope(row, x, 1e-2)
    for result, truth, near in zip(
        compiled(row.id)(x), (row.value, row.slope), bounds, strict=True
    ):
        # xielu's zeros, which depend on its parameters, have no anchor.
        bound = np.where(near, 0.75 if row.name == "xielu" else 0.6, 0.51)
        expected = reference(truth, x)
        kept = (abs(expected) > TAIL) | (expected == 0)
        assert_within(
            x[kept], np.asarray(result)[kept], expected[kept], np.broadcast_to(bound, x.shape)[kept]
        )


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_limits(row):
    x = np.array([-np.inf, np.inf, np.nan], np.float32)
    for result, limits in zip(compiled(row.id)(x), zip(*row.limits, strict=True), strict=True):
        np.testing.assert_array_equal(result, np.array([*limits, np.nan], np.float32))


def test_celu_with_a_large_alpha():
    x = Real(jnp.float32([-1, -1e-30, 0, 1]))
    for alpha in (1e38, -1e38):
        np.testing.assert_array_equal(native.celu(x, Real(jnp.float32(alpha))).array, x.array)
        np.testing.assert_array_equal(native.celu_slope(x, Real(jnp.float32(alpha))).array, 1)
