"""The modes of differentiation beside the default: "both" and "plain", and how they are set."""

import asyncio
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental import jet

import jaxact
import jaxact.nnx
from jaxact._core import context
from jaxact._jaxprs.structure import open_jaxpr, parameters_of, subjaxprs
from tests.support.errors import near_zero_of_value
from tests.support.residuals import held
from tests.support.rows import KINDS, ROWS
from tests.support.samples import normal
from tests.support.table import GATED, TABLE, Row

#: One row for each kind of declaration, without the variants in parameters.
ONE_OF_A_KIND = [
    next(row for row in TABLE if row.name == name) for name in (*KINDS, "softplus") if name != "glu"
]
CASES = [
    *((row, "auto") for row in TABLE),
    *((row, "input") for row in TABLE if row.residual == "output"),
    *((row, policy) for row in ONE_OF_A_KIND for policy in ("output", "mask", "quantized")),
]
HARD = np.array(
    [-np.inf, -3e38, -1e20, -100, -20, -1, -0.0, 0, 1, 20, 100, 1e20, 3e38, np.inf, np.nan]
)


@pytest.mark.parametrize(("row", "policy"), CASES, ids=repr)
def test_both_computes_and_keeps_what_reverse_does(row: Row, policy):
    x = jnp.concatenate([jnp.asarray(HARD, jnp.float32), normal(0, (33,), jnp.float32)])
    g = normal(1, x.shape, jnp.float32)

    def of_mode(mode):
        with jaxact.autodiff(mode=mode, residual=policy):
            y, pullback = jax.jit(lambda x: jax.vjp(row.call, x))(x)
            gradient = jax.jit(lambda x, g: jax.vjp(row.call, x)[1](g))(x, g)
        # Not the 16 slopes of the cells, which are numbers of the program.
        arrays = (a for a in held(pullback) if a.size > 16)
        kept = sorted(arrays, key=lambda a: (a.dtype.name, a.size))
        return y, gradient[0], kept

    (y, gradient, kept), (y_both, gradient_both, kept_both) = of_mode("reverse"), of_mode("both")
    np.testing.assert_array_equal(y_both, y)
    # Slopes of cells are computed where XLA chooses to.
    rtol = 1e-6 if policy == "quantized" else 0
    np.testing.assert_allclose(gradient_both, gradient, rtol=rtol)
    assert [a.dtype for a in kept_both] == [a.dtype for a in kept]
    # The same arrays: a slope would be as large as the input.
    for a, b in zip(kept_both, kept, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("row", [*ONE_OF_A_KIND, *GATED], ids=repr)
def test_both_derivatives_of_every_kind(row: Row):
    x = jnp.asarray([-2.1, -0.4, 0.3, 1.9])
    args = (x,) if row in TABLE else (x, x + 1.0)

    @jax.jit
    def derivatives(*args):
        with jaxact.autodiff(mode="both"):
            found = {"rev": jax.jacrev(row.call)(*args), "fwd": jax.jacfwd(row.call)(*args)}
            scalar = lambda *args: (row.call(*args) * jnp.arange(1.0, 5.0)).sum()  # noqa: E731
            if row.name != "crelu":
                for outer in (jax.jacfwd, jax.jacrev):
                    for inner in (jax.jacfwd, jax.jacrev):
                        found[f"{outer.__name__} of {inner.__name__}"] = outer(inner(scalar))(*args)
            found["linearize"] = jax.vmap(
                jax.linearize(row.call, *args)[1],
                in_axes=(1, *[None] * (len(args) - 1)),
                out_axes=1,
            )(jnp.eye(4), *[jnp.zeros(4)] * (len(args) - 1))
            found["checkpoint"] = jax.jacfwd(jax.checkpoint(row.call))(*args)
        return found

    found = derivatives(*args)
    for name in ("fwd", "linearize", "checkpoint"):
        np.testing.assert_allclose(found[name], found["rev"], rtol=1e-6, atol=1e-7)
    second = [value for name, value in found.items() if " of " in name]
    for other in second[1:]:
        np.testing.assert_allclose(other, second[0], rtol=1e-5, atol=1e-6)


def test_both_in_a_scan_keeps_one_array_a_layer():
    x = jnp.ones((64, 32))
    weights = jnp.ones((4, 32, 32))

    def loss(x, weights):
        return jax.lax.scan(lambda x, w: (x + jaxact.silu(x @ w), None), x, weights)[0].sum()

    def bytes_of(mode):
        with jaxact.autodiff(mode=mode):
            return jaxact.memory.residuals(loss, x, weights).total

    assert bytes_of("both") == bytes_of("reverse")


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32])
@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_plain_is_right_and_finite(row: Row, dtype):
    limit = float(jnp.finfo(dtype).max)
    points = np.concatenate([np.linspace(-12, 12, 961), row.kinks, [-limit, -1e4, 1e4, limit]])
    x = jnp.asarray(points, dtype)
    exact = np.asarray(x, np.float64)

    @jax.jit
    def derivatives(x):
        with jaxact.autodiff(mode="plain"):
            y, dy = jax.jvp(row.call, (x,), (jnp.ones_like(x),))
            (gradient,) = jax.vjp(row.call, x)[1](jnp.ones_like(y))
            second = jax.vmap(jax.grad(jax.grad(lambda x: row.call(x).sum())))(x)
        return y, dy, gradient, second

    y, dy, gradient, second = (np.asarray(a, np.float64) for a in derivatives(x))
    with np.errstate(all="ignore"):
        value, slope = row.value(exact), row.slope(exact)
    representable = abs(value) < limit
    eps = float(jnp.finfo(dtype).eps)
    # As jax.nn: relative to 1 or the value (where terms cancel, to those); a slope from a
    # difference of terms of size x.
    terms = np.where(near_zero_of_value(row, exact, 0.5), 1, 1e-3)
    assert (abs(y - value)[representable] <= 6 * eps * (abs(value) + terms)[representable]).all()
    for found in (dy, gradient):
        assert np.isfinite(found[representable]).all()
        assert (
            abs(found - slope)[representable]
            <= 16 * max(eps, 6e-8) * (1 + abs(slope))[representable]
        ).all()
    assert np.isfinite(second[abs(exact) <= 1e4]).all()


def primitives(f, *args):
    """The names of all primitives in a function's jaxpr, in mode "plain"."""

    def of(jaxpr):
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for _, inner in subjaxprs(parameters_of(equation)):
                yield from of(open_jaxpr(inner))

    with jaxact.autodiff(mode="plain"):
        return set(of(jax.make_jaxpr(f)(*args).jaxpr))


def assert_standard(found):
    rules = {name for name in found if "custom" in name}
    special = {
        "bitcast_convert_type",
        "cond",
        "optimization_barrier",
        "nextafter",
        "platform_index",
    }
    assert not rules | found & special


@pytest.mark.parametrize("row", [*TABLE, *GATED], ids=repr)
def test_plain_has_standard_operations_only(row: Row):
    x = jnp.linspace(-1, 1, 8)
    assert_standard(primitives(row.call, *((x,) if row in TABLE else (x, x))))


@pytest.mark.parametrize("activation", ["gelu", "prelu", "rrelu", jax.nn.relu])
@pytest.mark.parametrize("block", [jaxact.nnx.MLP, jaxact.nnx.GatedMLP])
def test_plain_blocks_have_standard_operations_only(block, activation):
    layer = block(4, 8, activation=activation, rngs=nnx.Rngs(0))
    layer.eval()
    found = primitives(layer, jnp.ones((2, 4)))
    if activation is jax.nn.relu:  # Its own rule stays.
        found -= {"custom_jvp_call"}
    assert_standard(found)


@pytest.mark.parametrize("row", [*TABLE, *GATED], ids=repr)
def test_plain_with_an_exporters_jax_numpy(row: Row, monkeypatch):
    """Exporters replace functions of jax.numpy: shapes come as arrays of the traced program."""
    x = jnp.linspace(-1, 1, 9 if row.id != "glu" else 10)
    args = (x,) if row in TABLE else (x, x)
    calls = []

    def replaced(name):
        def of_the_exporter(*args, **kwargs):
            calls.append(name)
            return jax.lax.add(jnp.int32(0), 1)

        return of_the_exporter

    for name in ("shape", "ndim", "size", "zeros", "ones", "broadcast_to", "where"):
        monkeypatch.setattr(jnp, name, replaced(name))
    with jaxact.autodiff(mode="plain"):
        jax.clear_caches()
        jax.make_jaxpr(row.call)(*args)
    assert not calls


@pytest.mark.parametrize(
    "name", ["relu", "elu", "gelu", "mish", "silu", "softplus", "squareplus", "tanh"]
)
def test_plain_with_jet(name):
    """Taylor coefficients by jax.experimental.jet against repeated derivatives."""
    act = jaxact.get(name)

    @jax.jit
    def both(x):
        y, series = jet.jet(act, (x,), ((1.0, 0.0, 0.0),))
        derivatives = [act]
        for _ in series:
            derivatives.append(jax.grad(derivatives[-1]))
        return [y, *series], [f(x) for f in derivatives]

    with jaxact.autodiff(mode="plain"):
        for found, expected in zip(*both(0.7), strict=True):
            np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)


def test_set_autodiff_holds_in_every_thread_and_retraces():
    f = jax.jit(jaxact.silu)
    f(1.0)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(f, (1.0,), (1.0,))
    try:
        jaxact.set_autodiff(mode="both")
        found = [jax.jvp(f, (1.0,), (1.0,))[1]]
        thread = threading.Thread(target=lambda: found.append(jax.jvp(f, (1.0,), (1.0,))[1]))
        thread.start()
        thread.join()
        assert len(found) == 2
        np.testing.assert_array_equal(*found)
        with jaxact.autodiff(mode="reverse"), pytest.raises(TypeError, match="custom_vjp"):
            jax.jvp(f, (1.0,), (1.0,))
        jaxact.set_autodiff(residual="input")
        assert context.current() == context.AutodiffConfig("both", "input")
    finally:
        jaxact.set_autodiff(mode="reverse", residual="auto")
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(f, (1.0,), (1.0,))


@pytest.mark.parametrize("call", [jaxact.autodiff, jaxact.set_autodiff])
def test_the_former_name_of_both_is_told(call):
    with pytest.raises(ValueError, match='got \'forward\'. "forward" is "both" now'):
        call(mode="forward")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("both", "0.5"),
        ("", "custom_vjp"),
        ("forwards", "environment variable JAXACT_AUTODIFF: mode"),
    ],
)
def test_environment_variable(value, expected):
    program = "import jax, jaxact; print(jax.jvp(jaxact.silu, (0.0,), (1.0,))[1])"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"JAXACT_AUTODIFF": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in run.stdout + run.stderr


def test_asyncio_tasks_that_wait_inside_a_context_are_refused():
    """JAX's settings are of threads, not of tasks."""
    entered = []

    async def waits(mode):
        try:
            with jaxact.autodiff(mode=mode):
                entered.append(mode)
                await asyncio.sleep(0)
                return float(jax.grad(jaxact.silu)(0.0))
        except RuntimeError as error:
            return str(error)

    async def calls():
        try:
            return float(jax.jit(lambda x: jaxact.silu(x))(0.25))  # Not traced before.
        except RuntimeError as error:
            return str(error)

    async def main():
        return await asyncio.gather(waits("both"), waits("plain"), calls())

    first, second, third = asyncio.run(main())
    assert first == pytest.approx(0.5)
    assert entered == ["both"]
    assert "leave the context before each `await`" in second
    assert second == third
    # Nothing stays behind.
    assert context.current() == context.AutodiffConfig()


def test_asyncio_tasks_one_after_the_other():
    async def derivative():
        await asyncio.sleep(0)
        with jaxact.autodiff(mode="both"):
            return float(jax.jvp(jaxact.silu, (0.0,), (1.0,))[1])

    async def main():
        return await asyncio.gather(*(derivative() for _ in range(6)))

    assert asyncio.run(main()) == pytest.approx([0.5] * 6)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: jax.jvp(jaxact.relu, (x,), (x,)),
        lambda x: jax.jacfwd(jax.vmap(jaxact.silu))(x),
        lambda x: jax.jvp(lambda x: jaxact.prelu(x, 0.5 * x), (x,), (x,)),
        lambda x: jax.jvp(lambda x: jaxact.swiglu(x, x), (x,), (x,)),
        lambda x: jax.jvp(lambda x: jaxact.mlp(x, jnp.ones((3, 4)), jnp.ones((4, 3))), (x,), (x,)),
    ],
)
def test_the_error_of_forward_mode_names_the_remedy(call):
    with pytest.raises(TypeError, match="can't apply forward-mode autodiff") as caught:
        call(jnp.ones(3))
    (note,) = [note for note in caught.value.__notes__ if "jaxact" in note]
    assert 'jaxact.autodiff(mode="both")' in note and "set_autodiff" in note
    with jaxact.autodiff(mode="both"):
        call(jnp.ones(3))
