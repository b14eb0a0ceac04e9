"""Mode "plain" is at least as accurate as jax.nn, in value and gradient."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jaxact
from benchmarks.accuracy import peer_of, value_and_slope
from tests.support import ulp
from tests.support.table import TABLE, Row

WITH_PEERS = [row for row in TABLE if peer_of(row) is not None]
#: No worse is within 5% of jax.nn's error, or of so few roundings, whose number changes with
#: JAX's versions and XLA's fusion. In bfloat16, which rounds once, an error of subnormal size.
ROUNDING = {
    "float32": {"ULP": 2.5, "absolute": 2.0**-23},
    "bfloat16": {"ULP": 0.51, "absolute": 2.0**-126},
}


def points(row: Row, dtype) -> np.ndarray:
    if dtype != np.float32:
        x = ulp.bit_patterns(np.dtype(dtype))
        return x[abs(x.astype(np.float32)) <= 1e4]
    near = [kink + np.linspace(-0.01, 0.01, 2001) for kink in (0.0, *row.kinks)]
    far = np.geomspace(12, 1e4, 1001)
    return np.concatenate([np.linspace(-12, 12, 200_001), *near, far, -far]).astype(dtype)


def worst_errors(call, row: Row, x: np.ndarray) -> dict[str, float]:
    """Of value and gradient, in ULP (not near zeros of the slope) and absolutely."""
    exact = x.astype(np.float64)
    away = np.all([abs(exact - zero) > 0.5 for zero in row.slope_zeros], axis=0)
    worst = {}
    for kind, found, reference in zip(
        ("value", "gradient"), value_and_slope(call)(x), (row.value, row.slope), strict=True
    ):
        found = np.asarray(found)
        with np.errstate(all="ignore"):
            right = np.asarray(reference(exact), np.float64)
        # Next to subnormal results, what they are computed from is flushed to 0.
        counts = away & ((abs(right) >= 2.0**-120) | (right == 0))
        flushed = ulp.flushed(x, found, right, compared=row.compared)
        worst[kind, "ULP"] = np.where(counts & ~flushed, ulp.error(found, right), 0).max()
        worst[kind, "absolute"] = abs(found.astype(np.float64) - right).max()
    return worst


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("row", WITH_PEERS, ids=repr)
def test_as_accurate_as_jax_nn(row: Row, dtype):
    x = points(row, dtype)
    theirs = worst_errors(peer_of(row), row, x)
    with jaxact.autodiff(mode="plain"):
        ours = worst_errors(row.call, row, x)
    for (kind, unit), error in ours.items():
        bound = max(1.05 * theirs[kind, unit], ROUNDING[np.dtype(dtype).name][unit])
        assert error <= bound, f"{kind}: {error:.3g} ({unit}); jax.nn {theirs[kind, unit]:.3g}"


def test_every_function_of_jax_nn_is_compared():
    shared = {name for name in jaxact.ACTIVATIONS if hasattr(jax.nn, name)}
    aliases = {"swish", "hard_swish"}
    others = {"glu"}  # It is in the table of functions of two arrays.
    assert shared - aliases - others == {row.name for row in WITH_PEERS}


@pytest.mark.parametrize("slope", [0.01, 0.2])
def test_leaky_relu_is_as_accurate(slope):
    x = jnp.linspace(-12, 12, 10_001)
    with jaxact.autodiff(mode="plain"):
        ours = jax.vmap(jax.value_and_grad(lambda x: jaxact.leaky_relu(x, slope)))(x)
    theirs = jax.vmap(jax.value_and_grad(lambda x: jax.nn.leaky_relu(x, slope)))(x)
    np.testing.assert_array_equal(ours, theirs)
