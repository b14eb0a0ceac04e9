"""The differentiation rules: orders, modes, parameters."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxact
from tests.support import table
from tests.support.rows import KINDS, ROWS, VARIANTS
from tests.support.table import GATED, TABLE, Row

# Away from every kink and from the zeros of slopes.
SMOOTH_POINTS = np.array([-4.3, -2.6, -0.83, -0.21, 0.37, 0.71, 1.9, 4.1, 7.2])
FAR_POINTS = np.array([-1e20, -100, -30, 30, 100, 1e20], np.float32)


def double(x):
    return np.asarray(x, np.float64)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


#: The rules are checked with cotangents and tangents of any size once a kind of declaration; the
#: slopes of every row are compared with their references, and their derivatives below.
ONE_OF_A_KIND = [next(row for row in TABLE if row.name == name) for name in KINDS if name != "glu"]


@pytest.mark.parametrize("row", ONE_OF_A_KIND, ids=repr)
def test_reverse_mode_to_order_2(row: Row, x64):
    check_grads(row.call, (double(SMOOTH_POINTS),), order=2, modes=["rev"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("row", ONE_OF_A_KIND, ids=repr)
def test_forward_mode_to_order_2(row: Row, x64):
    with jaxact.autodiff(mode="both"):
        check_grads(
            row.call, (double(SMOOTH_POINTS),), order=2, modes=["fwd"], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_forward_mode_computes_the_same(row: Row):
    x = jnp.asarray(np.linspace(-8, 8, 641), jnp.float32)
    ones = jnp.ones_like(x)

    @jax.jit
    def both_modes(x):
        y, pullback = jax.vjp(row.call, x)
        with jaxact.autodiff(mode="both"):
            y_forward, dy = jax.jvp(row.call, (x,), (ones,))
        return y, pullback(ones)[0], y_forward, dy

    y, gradient, y_forward, dy = both_modes(x)
    np.testing.assert_allclose(y, y_forward, rtol=1e-6)
    np.testing.assert_allclose(gradient, dy, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_second_derivatives_are_finite(row: Row):
    @jax.jit
    def derivatives(x):
        return [
            jax.vmap(second)(x) for second in (jax.grad(jax.grad(row.call)), jax.hessian(row.call))
        ]

    finite = [*FAR_POINTS, *SMOOTH_POINTS, -1e-3, 1e-3]
    twice, hessian = derivatives(np.array([*finite, -np.inf, np.inf], np.float32))
    assert np.isfinite(twice).all()
    assert np.isfinite(hessian[: len(finite)]).all()


# The derivative of a surrogate's value, which JAX before 0.12 takes there, is another's.
IN_SCANS = [r for r in TABLE if r.id not in VARIANTS and r.name != "crelu" and not r.surrogate]


@pytest.mark.parametrize(
    ("row", "dtype"),
    # In which dtype a derivative is computed is up to the kind of declaration.
    [(row, jnp.float32) for row in IN_SCANS]
    + [(row, jnp.bfloat16) for row in IN_SCANS if row in ONE_OF_A_KIND],
    ids=repr,
)
def test_second_derivatives_in_a_scan(row: Row, dtype):
    """Of which JAX before 0.12 takes the first of the value's formula, without its rule."""
    # The square of 1e20 is infinite.
    squares = dict.fromkeys(("relu_squared", "xielu"), FAR_POINTS[:-1])
    squares["leaky_relu_squared"] = FAR_POINTS[1:-1]
    far = squares.get(row.name, FAR_POINTS)
    # What is far differs by a rounding, which is more than a period.
    far = [] if row.name == "snake" else [*far, 45, 90]
    x = jnp.asarray([*far, -0.9, 0.0, 0.6, 1.1], dtype)

    def scanned(x):
        factors = jnp.asarray([1, 0.9], dtype)
        return jax.lax.scan(lambda x, factor: (row.call(x * factor), None), x, factors)[0]

    def written_out(x):
        return row.call(row.call(x) * jnp.asarray(0.9, dtype))

    @jax.jit
    def derivatives(x):
        return [jax.vmap(jax.grad(jax.grad(f)))(x) for f in (scanned, written_out)]

    found, expected = map(double, derivatives(x))
    precision = 1e-4 if dtype == jnp.float32 else 0.02
    np.testing.assert_allclose(found, expected, rtol=precision, atol=precision)


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_second_derivatives_in_float32(row: Row):
    """All the way to where a slope is constant, and exponentials and their powers are large."""
    points = np.arange(-30, 30, 0.25, np.float32) + np.float32(0.13)
    x, h = double(points), 1e-4
    with np.errstate(all="ignore"):
        expected = (double(row.slope(x + h)) - double(row.slope(x - h))) / (2 * h)

    @jax.jit
    def derivatives(x):
        return [
            jax.vmap(second)(x)
            for second in (
                jax.grad(jax.grad(row.call)),
                lambda x: jax.jvp(jax.grad(row.call), (x,), (jnp.ones_like(x),))[1],
            )
        ]

    for second in derivatives(points):
        np.testing.assert_allclose(second, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_second_derivatives_against_differences(row: Row, x64):
    x, h = double(SMOOTH_POINTS), 1e-4
    with np.errstate(all="ignore"):
        expected = (
            double(row.slope(x - 2 * h))
            - 8 * double(row.slope(x - h))
            + 8 * double(row.slope(x + h))
            - double(row.slope(x + 2 * h))
        ) / (12 * h)

    @jax.jit
    def derivatives(x):
        return [
            jax.vmap(second)(x)
            for second in (
                jax.grad(jax.grad(row.call)),
                jax.hessian(row.call),
                lambda x: jax.jvp(jax.grad(row.call), (x,), (1.0,))[1],
            )
        ]

    for second in derivatives(x):
        np.testing.assert_allclose(second, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_hessian_of_an_array_function_is_diagonal(row: Row):
    x = jnp.asarray([-1.1, 0.3, 2.2])

    @jax.jit
    def derivatives(x):
        hessian = jax.hessian(lambda x: row.call(x).sum())(x)
        return hessian, jax.vmap(jax.grad(jax.grad(row.call)))(x)

    hessian, diagonal = derivatives(x)
    np.testing.assert_allclose(hessian, jnp.diag(diagonal), rtol=1e-5, atol=1e-7)


def test_forward_mode_differentiation_needs_its_context():
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(jaxact.gelu, (1.0,), (1.0,))
    with jaxact.autodiff(mode="both"):
        jacobian = jax.jacfwd(jaxact.gelu)(jnp.array([1.0, -2.0]))
    np.testing.assert_allclose(
        jnp.diag(jacobian), jax.vmap(jax.grad(jaxact.gelu))(jnp.array([1.0, -2.0])), rtol=1e-6
    )


@pytest.mark.parametrize("row", GATED, ids=repr)
def test_gated_gradients(row, x64):
    rng = np.random.default_rng(0)
    gate, up = rng.normal(size=(2, 5)) * 2
    check_grads(row.call, (gate, up), order=2, modes=["rev"], rtol=1e-5, atol=1e-5)
    with jaxact.autodiff(mode="both"):
        check_grads(row.call, (gate, up), order=2, modes=["fwd"], rtol=1e-5, atol=1e-5)


PARAMETERS = {
    "leaky_relu": (0.3,),
    "prelu": (0.3,),
    "elu": (1.3,),
    "celu": (0.8,),
    "squareplus": (2.5,),
    "leaky_relu_squared": (0.4,),
    "xielu": (0.7, 0.9),
    "softcap": (1.7,),
    "snake": (0.7,),
    "threshold": (0.4, 1.5),
    "hard_shrink": (0.4,),
    "soft_shrink": (0.4,),
}


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize(
    # What the slow ones broadcast, the others do.
    "shape",
    [
        (),
        (4,),
        (3, 1),
        *(pytest.param(shape, marks=pytest.mark.slow) for shape in [(3, 4), (1, 1)]),
    ],
)
def test_gradients_of_parameters(name, shape, x64):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 4)) * 3
    parameters = [np.full(shape, p) + 0.1 * rng.random(shape) for p in PARAMETERS[name]]
    call = jaxact.ACTIVATIONS[name]
    check_grads(call, (x, *parameters), order=2, modes=["rev"], rtol=1e-4, atol=1e-4)
    with jaxact.autodiff(mode="both"):
        check_grads(call, (x, *parameters), order=1, modes=["fwd"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PARAMETERS)
def test_gradients_of_parameters_at_nan(name):
    call = jaxact.ACTIVATIONS[name]
    for x in (np.nan, -np.nan):
        gradients = jax.grad(lambda *p, x=x: call(x, *p), range(len(PARAMETERS[name])))(
            *PARAMETERS[name]
        )
        assert np.isnan(gradients).all()


def test_squareplus_without_smoothing_is_relu():
    x = jnp.array([-2.0, -1e-30, -0.0, 0.0, 1e-30, 2.0])
    np.testing.assert_array_equal(jaxact.squareplus(x, 0), jax.nn.relu(x))
    gradient = jax.grad(lambda x: jaxact.squareplus(x, 0).sum())(x)
    np.testing.assert_array_equal(gradient, [0, 0, 0, 0, 1, 1])


def test_gradients_of_the_bounds_of_hard_tanh_and_rrelu(x64):
    x = double([-3.1, -0.7, 0.4, 2.6])
    check_grads(
        lambda x, low, high: jaxact.hard_tanh(x, min_val=low, max_val=high),
        (x, -1.2, 1.3), order=1, modes=["rev"],
    )  # fmt: skip
    for divisor in (False, True):
        for call in (
            lambda x, low, high, d=divisor: jaxact.rrelu(x, table.KEY, low, high, divisor=d),
            lambda x, low, high, d=divisor: jaxact.rrelu(
                x, None, low, high, deterministic=True, divisor=d
            ),
        ):
            bounds = (np.float64(0.1) * np.ones(()), np.ones(()) * 0.4)
            check_grads(call, (x, *bounds), 1, modes=["rev"])


def test_gradients_of_silus_beta(x64):
    x = double([-30.0, -2.1, -0.7, 0.0, 0.4, 2.6, 30.0])
    for beta in (double(1.3), double(-0.6), double(np.linspace(-2, 2, 7)), double(0.0)):
        call = lambda x, beta: jaxact.silu(x, beta=beta)  # noqa: E731
        check_grads(call, (x, beta), order=2, modes=["rev"])
        with jaxact.autodiff(mode="both"):
            check_grads(call, (x, beta), order=2, modes=["fwd"])


def test_gradients_of_the_bound_of_hard_sigmoid(x64):
    x = double([-3.1, -0.7, 0.0, 0.4, 2.6])
    call = lambda x, bound: jaxact.hard_sigmoid(x, bound=bound)  # noqa: E731
    for bound in (double(1.3), double(np.linspace(0.5, 4, 5))):
        check_grads(call, (x, bound), order=2, modes=["rev"])
        with jaxact.autodiff(mode="both"):
            check_grads(call, (x, bound), order=2, modes=["fwd"])
    assert np.isnan(jax.grad(call, (0, 1))(np.nan, 1.3)).all()


@pytest.mark.parametrize("bound", [1e-30, 0.1, 1e30, 3e38, np.inf])
@pytest.mark.parametrize("mode", ["reverse", "plain"])
def test_hard_sigmoid_is_right_for_any_bound(bound, mode):
    b = min(np.float32(bound), np.finfo(np.float32).max)
    inside = np.nextafter(b, np.float32(0))
    x = np.float32([-np.inf, -b, -inside, -b / 2, 0, b / 4, inside, b, np.inf])
    with jaxact.autodiff(mode=mode):
        y, pullback = jax.vjp(lambda x: jaxact.hard_sigmoid(x, bound=bound), jnp.asarray(x))
        (slope,) = pullback(jnp.ones_like(y))
    clipped = np.clip(x.astype(np.float64), -b, b)
    np.testing.assert_allclose(y, (clipped + b) / (2 * double(b)), rtol=2e-7)
    # A slope may be subnormal.
    expected = np.where(abs(x) < b, 0.5 / double(b), 0)
    np.testing.assert_allclose(slope, expected, rtol=2e-7, atol=2.0**-126)


@pytest.mark.parametrize("beta", [-0.375, 1e-3, 100.0])
def test_silu_is_right_for_any_beta(beta):
    """Within 4 ULP where its slope has no zero."""
    v = np.linspace(-85, 40, 4001)
    x = np.float32(v[abs(v + 1.278) > 1e-2] / beta)
    row = {row.id: row for row in table.TABLE}["silu"]
    b = np.float64(np.float32(beta))
    y, pullback = jax.vjp(lambda x: jaxact.silu(x, beta=beta), jnp.asarray(x))
    for result, exact in (
        (y, row.value(b * double(x)) / b),
        (pullback(jnp.ones_like(y))[0], row.slope(b * double(x))),
    ):
        np.testing.assert_array_less(
            abs(double(result) - exact) / np.spacing(abs(np.float32(exact))), 4
        )


def test_celu_is_right_for_a_negative_alpha():
    """It grows as an exponential towards -inf there."""
    x = np.float32([-44.1, -40.5, -20.0, -3.0, -0.1, -1e-4, 0.5])
    y, pullback = jax.vjp(lambda x: jaxact.celu(x, -0.5), jnp.asarray(x))
    np.testing.assert_allclose(y, table.celu(double(x), -0.5), rtol=1e-6)
    np.testing.assert_array_equal(jaxact.celu(np.float32([-50.0, -np.inf]), -0.5), [-np.inf] * 2)
    np.testing.assert_allclose(
        pullback(jnp.ones_like(y))[0], table.celu_slope(double(x), -0.5), rtol=1e-6
    )


@pytest.mark.slow
def test_silus_beta_at_the_extremes():
    x = jnp.array([-np.inf, -1e38, -100.0, 100.0, 1e38, np.inf])
    slopes = jax.vmap(jax.grad(lambda beta, x: jaxact.silu(x, beta=beta)), (None, 0))
    np.testing.assert_array_equal(slopes(jnp.float32(1.5), x), np.zeros(6))
    hessians = jax.vmap(jax.hessian(lambda x, b: jaxact.silu(x, beta=b), (0, 1)), (0, None))
    for h in jax.tree.leaves(hessians(x[1:-1], jnp.float32(1.5))):
        np.testing.assert_array_equal(h, np.zeros(4))
    # The limit, relu, and half of the identity.
    ends = jnp.array([-np.inf, -2.0, 0.0, 2.0, np.inf])
    np.testing.assert_array_equal(jaxact.silu(ends, beta=np.inf), jax.nn.relu(ends))
    slope = jax.vmap(jax.grad(lambda x: jaxact.silu(x, beta=jnp.inf)))(ends)
    np.testing.assert_allclose(slope, [0, 0, 0.5, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(jaxact.silu(x, beta=0.0), x / 2)
    assert np.isnan(slopes(jnp.float32(1.5), jnp.float32([np.nan]))).all()
    # In the tail x^2 sigma(x) is larger than what the exponential alone can be.
    x = np.float32([-90.0, -93.0])
    expected = x.astype(np.float64) ** 2 * np.exp(x.astype(np.float64))
    np.testing.assert_allclose(slopes(jnp.float32(1.0), x), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["prelu", "leaky_relu"])
def test_slope_gradient_is_summed_in_float32(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1024, 1024)).astype(jnp.bfloat16)
    g = rng.normal(size=x.shape).astype(jnp.bfloat16)
    call = jaxact.ACTIVATIONS[name]
    _, pullback = jax.vjp(call, jnp.asarray(x), jnp.asarray(0.25, jnp.float32))
    x64, g64 = double(x), double(g)
    exact = (x64 * g64)[x64 < 0].sum()
    (_, d_slope) = pullback(jnp.asarray(g))
    np.testing.assert_allclose(d_slope, exact, rtol=1e-4)
    _, pullback = jax.vjp(call, jnp.asarray(x), jnp.asarray(0.25, jnp.bfloat16))
    d_slope = pullback(jnp.asarray(g))[1]
    chex.assert_type(d_slope, jnp.bfloat16)
    np.testing.assert_allclose(double(d_slope), exact, rtol=2**-8)


@pytest.mark.parametrize(
    ("call", "x", "expected"),
    [
        (jaxact.relu, [-1.0, 0.0, 2.0], [0, 0, jnp.inf]),
        (functools.partial(jaxact.leaky_relu, negative_slope=0.0), [-1.0, 2.0], [0, jnp.inf]),
        (jaxact.relu6, [-1.0, 3.0, 7.0], [0, jnp.inf, 0]),
        (jaxact.hard_tanh, [-4.0, 0.5, 4.0], [0, jnp.inf, 0]),
        (jaxact.hard_sigmoid, [-4.0, 0.5, 4.0], [0, jnp.inf, 0]),
        (jaxact.soft_shrink, [-0.1, 0.1, 2.0], [0, 0, jnp.inf]),
        (jaxact.hard_shrink, [-0.1, 0.1, 2.0], [0, 0, jnp.inf]),
        (jaxact.threshold, [-0.1, 0.1, 2.0], [0, 0, jnp.inf]),
    ],
)
def test_infinite_cotangents_do_not_meet_flat_pieces(call, x, expected):
    parameters = (1.0, 0.0) if call is jaxact.threshold else ()
    x = jnp.array(x)
    gradient = jax.vjp(lambda x: call(x, *parameters), x)[1](jnp.full_like(x, jnp.inf))[0]
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_gradient_does_not_depend_on_the_residual(row: Row):
    rng = np.random.default_rng(5)
    sample = np.concatenate([rng.normal(size=2000) * 5, [0.0, -0.0, 1e-40, -1e-40, -1e-38]])
    sample = np.concatenate([sample, row.kinks, [np.inf, -np.inf, np.nan]]).astype(np.float32)
    g = rng.normal(size=sample.size).astype(np.float32)

    @jax.jit
    def gradient(x, g):
        return jax.vjp(row.call, x)[1](g)[0]

    expected = gradient(sample, g)
    for residual in ("input", "output"):
        with jaxact.autodiff(residual=residual):
            np.testing.assert_array_equal(gradient(sample, g), expected)
