"""What the table does not tell of the functions of `jaxact.recent`: parameters, surrogates."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import jaxact
from tests.support import ulp
from tests.support.table import bsilu_slope


def exact(f, x):
    """A function of mpmath's numbers at each number of an array."""
    with mp.workdps(40):
        return np.array([float(f(mp.mpf(float(v)))) for v in x])


def parameter_slope(call, x, parameter):
    """d/dparameter at each input, in the dtype of x."""
    parameters = jnp.full(x.shape, parameter, x.dtype)
    return np.asarray(jax.vjp(lambda p: call(x, p), parameters)[1](jnp.ones_like(x))[0])


def sizes(low, high, count=300):
    x = np.geomspace(low, high, count)
    return np.concatenate([-x, x]).astype(np.float32)


#: Of each: the call, the parameter, the derivative by it, and the bound in ULP.
OF_PARAMETER = {
    "xielu by alpha_n": (
        lambda x, p: jaxact.xielu(x, 0.8, p), 0.8,
        lambda x: mp.expm1(x) - x if x < 0 else 0, 4,
    ),
    "xielu by alpha_p": (
        lambda x, p: jaxact.xielu(x, p, 0.8), 0.8, lambda x: x * x if x > 0 else 0, 1,
    ),
    "xielu by beta": (lambda x, p: jaxact.xielu(x, 0.8, 0.8, beta=p), 0.5, lambda x: x, 0),
    "softcap": (
        jaxact.softcap, 3.0, lambda x: mp.tanh(x / 3) - x / 3 * mp.sech(x / 3) ** 2, 6,
    ),
    "snake at 0": (jaxact.snake, 0.0, lambda x: x * x, 1),
    "leaky_relu_squared": (
        jaxact.leaky_relu_squared, 0.5, lambda x: x * x if x < 0 else 0, 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_PARAMETER)
def test_gradients_of_parameters_do_not_cancel(name):
    call, parameter, derivative, bound = OF_PARAMETER[name]
    x = sizes(1e-12, 30)
    found = parameter_slope(call, jnp.asarray(x), parameter)
    assert ulp.error(found, exact(derivative, x)).max() <= bound


def test_alpha_n_of_xielu_in_bfloat16():
    """Where exp(x) - 1 - x in bfloat16 is 0."""
    x = jnp.asarray([-0.001, -0.1], jnp.bfloat16)
    found = parameter_slope(lambda x, p: jaxact.xielu(x, 0.8, p), x, 0.8)
    expected = exact(lambda v: mp.expm1(v) - v, np.asarray(x).astype(float))
    assert ulp.error(found, expected).max() <= 0.51


def test_xielu_is_smooth_at_0():
    x = jnp.array([-1e-3, -1e-7, -1e-20, 0.0, 1e-20, 1e-7])
    np.testing.assert_allclose(
        jax.vmap(jax.grad(lambda x: jaxact.xielu(x, 0.8, 0.8)))(x), 0.5, atol=1e-3
    )


@pytest.mark.parametrize("cap", [1e-37, 1e-10, 1.0, 1e10, 1e37])
def test_softcap_of_any_cap(cap):
    tiny = jnp.float32([0.0, -0.0, 1e-3 * max(cap, 1e-34), -1e-3 * max(cap, 1e-34)])
    tiny = tiny[: 4 if cap > 1e-34 else 2]
    for p in (cap, jnp.float32(cap)):
        y, slope = jax.vmap(jax.value_and_grad(lambda x, p=p: jaxact.softcap(x, p)))(tiny)
        np.testing.assert_allclose(y, tiny, rtol=1e-5)
        np.testing.assert_allclose(slope, 1, rtol=1e-5)
    ends = jnp.float32([-jnp.inf, jnp.inf])
    np.testing.assert_array_equal(jaxact.softcap(ends, cap), np.float32([-cap, cap]))
    for i in (0, 1):
        gradient = jax.vmap(jax.grad(jaxact.softcap, i), (0, None))(ends, jnp.float32(cap))
        np.testing.assert_array_equal(gradient, [[0, 0], [-1, 1]][i])


@pytest.mark.parametrize("alpha", [1.7, -0.3, 30.0])
def test_snake_of_other_frequencies(alpha):
    """Of a product that is not exact: within 7 ULP."""
    x, a = sizes(1e-3, 100), float(np.float32(alpha))
    y, pullback = jax.jit(lambda x: jax.vjp(lambda x: jaxact.snake(x, alpha), x))(x)
    expected = exact(lambda v: v + mp.sin(a * v) ** 2 / a, x)
    assert ulp.error(np.asarray(y), expected).max() <= 7
    slope = np.asarray(pullback(jnp.ones_like(y))[0])
    assert ulp.error(slope, exact(lambda v: 1 + mp.sin(2 * a * v), x)).max() <= 7


def test_snake_without_a_wave_is_the_identity():
    x = jnp.float32([-jnp.inf, -1e30, -2, 0, 3, jnp.inf])
    for alpha in (0.0, jnp.float32(0.0), 1e-38):
        y, slope = jax.vmap(jax.value_and_grad(lambda x, a=alpha: jaxact.snake(x, a)))(x)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_allclose(slope, 1, rtol=1e-6)


@pytest.mark.parametrize("mode", ["reverse", "both", "plain"])
@pytest.mark.parametrize("surrogate", ["bsilu", "silu", "gelu", "mish", "elu", "selu"])
def test_surrogates(surrogate, mode):
    """The value of relu, the derivative of the function of that name."""
    x = jnp.asarray(np.linspace(-9, 9, 73), jnp.float32)
    ones = jnp.ones_like(x)
    with jaxact.autodiff(mode=mode):
        y, pullback = jax.vjp(lambda x: jaxact.surrogate_relu(x, surrogate), x)
        gradient = pullback(ones)[0]
        if mode != "reverse":
            tangent = jax.jvp(lambda x: jaxact.surrogate_relu(x, surrogate), (x,), (ones,))[1]
            np.testing.assert_allclose(tangent, gradient, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(y, jax.nn.relu(x))
    expected = (
        bsilu_slope(np.asarray(x, np.float64))
        if surrogate == "bsilu"
        else jax.vjp(jaxact.ACTIVATIONS[surrogate], x)[1](ones)[0]
    )
    np.testing.assert_allclose(gradient, expected, rtol=2e-5, atol=2e-6)


def test_a_unit_that_is_off_on_every_sample_learns():
    x = jnp.linspace(1.0, 2.0, 8)

    def loss(bias, activation):
        return ((activation(x + bias) - 1) ** 2).mean()

    assert jax.grad(loss)(-3.5, jaxact.relu) == 0
    step = jax.jit(lambda bias: bias - 0.5 * jax.grad(loss)(bias, jaxact.surrogate_relu))
    bias = jnp.float32(-3.5)
    for _ in range(60):
        bias = step(bias)
    assert loss(bias, jaxact.relu) < 0.2


@pytest.mark.parametrize("mode", ["reverse", "both", "plain"])
@pytest.mark.parametrize("alpha", [1.0, 1.702])
def test_clamped_swiglu_at_its_limits(alpha, mode):
    """The derivative of the inside at a limit itself, 0 beyond it."""
    gate, up = jnp.float32([6.75, 7, 7.25, 1, 1, 1, 1]), jnp.float32([1, 1, 1, 7, -7, 7.25, -7.25])

    def total(gate, up, limit):
        return jaxact.clamped_swiglu(gate, up, limit=limit, alpha=alpha, offset=1.0).sum()

    with jaxact.autodiff(mode=mode):
        at, free = (
            jax.grad(functools.partial(total, limit=c), (0, 1))(gate, up) for c in (7.0, 1e3)
        )
    inside = np.array([[1, 1, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]], bool)
    np.testing.assert_array_equal(np.asarray(at[0]) != 0, inside[0])
    np.testing.assert_allclose(at[0][:2], free[0][:2], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(at[1]) != 0, inside[1])
    np.testing.assert_allclose(at[1][3:5], free[1][3:5], rtol=1e-6)
