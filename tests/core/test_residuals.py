"""What the backward pass keeps: how many arrays, of which size, and which."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

import jaxact
from tests.support import table, ulp
from tests.support.residuals import held
from tests.support.samples import normal
from tests.support.table import GATED, TABLE, Row

SHAPE = (16, 32)


def residuals(call, *args) -> list[jax.Array]:
    """What the pullback of a compiled function holds."""
    return held(jax.jit(lambda *args: jax.vjp(call, *args))(*args)[1])


@pytest.mark.parametrize(
    ("dtype", "policies"),
    [(jnp.bfloat16, ("auto", "input", "output")), (jnp.float32, ("auto",))],
    ids=["bfloat16", "float32"],
)
@pytest.mark.parametrize("row", TABLE, ids=repr)
def test_one_array_of_the_inputs_size(row: Row, dtype, policies):
    x = normal(0, SHAPE, dtype) - 0.5

    @jax.jit
    def pullbacks(x):
        results = {}
        for policy in policies:
            with jaxact.autodiff(residual=policy):
                # The row of crelu adds up its two halves.
                results[policy] = jax.vjp(jaxact.crelu if row.name == "crelu" else row.call, x)[1]
        return row.call(x), results

    y, results = pullbacks(x)
    for policy, pullback in results.items():
        kept = held(pullback)
        if row.name == "identity":
            assert kept == []
            continue
        (array,) = kept
        assert array.nbytes == x.nbytes
        keeps_output = row.residual == "output" and policy != "input"
        keeps_output |= row.name == "relu_squared" and policy == "output"
        np.testing.assert_array_equal(array, y if keeps_output else x)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float32, np.float16])
def test_the_root_of_a_square_is_its_input(dtype):
    """Of relu_squared's output, but for what has under- or overflown."""
    x = ulp.bit_patterns(np.dtype(dtype) if dtype != np.float32 else np.dtype(jnp.bfloat16))
    x = x.astype(np.float32)
    x = x[np.isfinite(x) & (abs(x) > 2.0**-126) & (abs(x) < 2.0**126)].astype(np.float64)
    if dtype == np.float32:  # Numbers with all bits of their significands.
        x = x * (1 + np.random.default_rng(0).uniform(size=x.size))
    with np.errstate(over="ignore"):
        x = x.astype(dtype)
    with jaxact.autodiff(residual="output"):
        y, pullback = jax.jit(lambda x: jax.vjp(jaxact.relu_squared, x))(x)
    (kept,) = held(pullback)
    np.testing.assert_array_equal(kept, x if dtype == np.float16 else y)
    right = (abs(x.astype(np.float64)) > 1.1e-19) & (abs(x.astype(np.float64)) < 1.8e19)
    cotangent = np.full(x.shape, 0.7, dtype)
    with jaxact.autodiff(residual="input"):
        expected = jax.vjp(jaxact.relu_squared, x)[1](cotangent)[0]
    result = pullback(cotangent)[0]
    np.testing.assert_array_equal(result[right], expected[right])
    if dtype != np.float16:
        assert (result[(x > 0) & (x < 1e-19)] == 0).all()


def test_the_root_of_a_square_has_second_derivatives():
    with jaxact.autodiff(residual="output"):
        second = jax.vmap(jax.grad(jax.grad(jaxact.relu_squared)))(jnp.array([-2.0, 0.0, 3.0]))
    np.testing.assert_array_equal(second, [0, 0, 2])


@pytest.mark.parametrize("row", GATED, ids=repr)
def test_gated_functions_keep_their_inputs(row):
    gate, up = normal(0, (2, *SHAPE))
    kept = residuals(row.call, gate, up)
    assert sum(array.nbytes for array in kept) == 2 * gate.nbytes


def test_glu_keeps_its_input():
    x = normal(0, SHAPE)
    assert sum(array.nbytes for array in residuals(jaxact.glu, x)) == x.nbytes


@pytest.mark.parametrize("slope", [-0.1, jnp.float32(0.1)])
def test_leaky_relu_with_a_slope_of_unknown_or_negative_sign_keeps_its_input(slope):
    x = normal(0, SHAPE)
    (array,) = residuals(lambda x: jaxact.leaky_relu(x, slope), x)
    np.testing.assert_array_equal(array, x)


def test_slopes_are_kept_in_their_own_shape():
    x = normal(0, SHAPE)
    kept = residuals(jaxact.prelu, x, jnp.full(SHAPE[-1:], 0.25))
    assert sorted(array.size for array in kept) == [SHAPE[1], SHAPE[0] * SHAPE[1]]


def test_the_output_that_the_next_matmul_keeps_is_not_kept_twice():
    x = normal(0, SHAPE)
    w = normal(1, (SHAPE[1], 8))

    def layer(activation):
        return residuals(lambda x, w: activation(x) @ w, x, w)

    hidden = [a for a in layer(jaxact.leaky_relu) if a.shape == SHAPE]
    assert len(hidden) == 1
    hidden = [a for a in layer(jaxact.gelu) if a.shape == SHAPE]
    assert len(hidden) == 2


@pytest.mark.parametrize("deterministic", [False, True])
def test_rrelu_stores_no_slopes(deterministic):
    x = normal(0, SHAPE)

    def call(x):
        return jaxact.rrelu(x, table.KEY, deterministic=deterministic)

    (array,) = residuals(call, x)
    np.testing.assert_array_equal(array, call(x))


def test_rrelu_compiles_to_no_array_of_slopes():
    x = jax.ShapeDtypeStruct((1 << 20,), jnp.float32)
    one_array = 4 << 20

    def temporaries(f, *shapes):
        return jax.jit(f).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    def call(x):
        return jaxact.rrelu(x, table.KEY)

    assert temporaries(call, x) < one_array // 8
    assert temporaries(lambda x, g: jax.vjp(call, x)[1](g), x, x) < one_array // 8


@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fnuz, jnp.float8_e4m3b11fnuz])
def test_dtypes_without_a_negative_zero_keep_the_input(dtype):
    """The output of a small negative input is 0 there, and has no sign to tell its piece."""
    x = jnp.asarray([-0.0137, -1e-3, -1.0, 1.0], dtype)
    gradient = jax.vjp(jaxact.leaky_relu, x)[1](jnp.ones_like(x))[0].astype(jnp.float32)
    negative = x.astype(jnp.float32) < 0
    assert (gradient[negative] < 0.02).all()
    assert (gradient[~negative] == 1).all()


def constants_of(jaxpr, from_input) -> list[str]:
    """The equations that make an array from no input; fills ``from_input``, a dict by variable."""
    found = []
    for equation in jaxpr.eqns:
        inputs = [not isinstance(v, core.Literal) and from_input.get(v) for v in equation.invars]
        nested = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        for branch in equation.params.get("branches", ()):
            found += constants_of(
                branch.jaxpr, dict(zip(branch.jaxpr.invars, inputs[1:], strict=True))
            )
        if nested is not None:
            inner = dict(zip(nested.jaxpr.invars, inputs, strict=True))
            found += constants_of(nested.jaxpr, inner)
            outputs = [inner.get(v, False) for v in nested.jaxpr.outvars]
        else:
            outputs = [any(inputs)] * len(equation.outvars)
            if not any(inputs) and equation.outvars[0].aval.size > 2:
                found.append(str(equation))
        from_input.update(zip(equation.outvars, outputs, strict=True))
    return found


@pytest.mark.parametrize("row", [row for row in TABLE if row.id != "rrelu:key"], ids=repr)
def test_a_scan_has_nothing_to_keep_throughout(row):
    """Arrays that depend on no input would be made ahead of a scan, in full size, and kept."""
    jaxpr = jax.make_jaxpr(row.call)(jnp.ones(SHAPE, jnp.bfloat16)).jaxpr
    found = constants_of(jaxpr, dict.fromkeys(jaxpr.invars, True))
    assert found == []


def test_an_array_that_depends_on_no_input_is_seen():
    """In what the test above looks at: rules of derivatives and jitted functions."""

    def call(x):
        return jaxact.gelu(x) * jax.jit(lambda: jnp.arange(32.0))()[None]

    jaxpr = jax.make_jaxpr(jax.jit(call))(jnp.ones(SHAPE)).jaxpr
    found = constants_of(jaxpr, dict.fromkeys(jaxpr.invars, True))
    assert any("iota" in equation for equation in found)
