"""Bad input: the error names the function, the value, and what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxact
from tests.support.table import GATED, KEY, TABLE, Row

X = jnp.ones((4, 3))


@pytest.mark.parametrize("row", TABLE, ids=repr)
def test_complex_input(row: Row):
    with pytest.raises(TypeError, match=rf"^{row.name}: x must be real, got dtype complex64"):
        row.call(np.ones(2, np.complex64))


@pytest.mark.parametrize("row", GATED, ids=repr)
def test_complex_gate(row):
    wrong = jnp.ones(2, jnp.complex64)
    # The row of glu concatenates the inputs.
    gate, name = (wrong, "x") if row.name == "glu" else (jnp.ones(2), "up")
    with pytest.raises(TypeError, match=rf"^{row.name}: {name} must be real, got dtype complex64"):
        row.call(gate, wrong)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaxact.leaky_relu(X, float("nan")), "leaky_relu: negative_slope is NaN"),
        (lambda: jaxact.leaky_relu(X, np.float32("nan")), "leaky_relu: negative_slope is NaN"),
        (lambda: jaxact.elu(X, np.array(np.nan)), "elu: alpha is NaN"),
        (lambda: jaxact.celu(X, 0), "celu: alpha must not be 0"),
        (lambda: jaxact.squareplus(X, -1.0), "squareplus: b must be at least 0, got -1.0"),
        (lambda: jaxact.hard_sigmoid(X, bound=-1), "hard_sigmoid: bound must be at least 0, got"),
        (lambda: jaxact.hard_sigmoid(X, bound=0.0), "hard_sigmoid: bound must not be 0"),
        (lambda: jaxact.softcap(X, 0.0), "softcap: cap must not be 0"),
        (lambda: jaxact.softcap(X, -3.0), "softcap: cap must be at least 0, got -3.0"),
        (
            lambda: jaxact.surrogate_relu(X, "tanh"),
            "surrogate_relu: there is no surrogate 'tanh'; choose one of 'bsilu', 'nelu', 'silu'",
        ),
        (
            lambda: jaxact.surrogate_relu(X, alpha=0.1),
            "surrogate_relu: 'bsilu' has no alpha, got 0.1; leave it out, or take 'nelu'",
        ),
        (lambda: jaxact.hard_shrink(X, float("nan")), "hard_shrink: lambd is NaN"),
        (lambda: jaxact.soft_shrink(X, -0.5), "soft_shrink: lambd must be at least 0, got -0.5"),
        (
            lambda: jaxact.prelu(X, jnp.ones(4)),
            r"prelu: alpha has 4 slopes, but axis 1 of x \(4, 3\) has length 3. Pass one slope per",
        ),
        (
            lambda: jaxact.prelu(X, jnp.ones(3), axis=0),
            r"prelu: alpha has 3 slopes, but axis 0 of x \(4, 3\) has length 4",
        ),
        (lambda: jaxact.prelu(X, 0.1, axis=2), "prelu: axis 2 is out of range .* from -2 to 1"),
        (
            lambda: jaxact.prelu(X, jnp.ones((5, 3))),
            r"prelu: alpha of shape \(5, 3\) does not broadcast against x of shape \(4, 3\)",
        ),
        (lambda: jaxact.prelu(1.0, jnp.ones(3)), "prelu: axis -1 is out of range: .* a scalar"),
        (
            lambda: jaxact.rrelu(X, KEY, 0.3, 0.1),
            "rrelu: lower must not exceed upper, got lower=0.3 and upper=0.1",
        ),
        (
            lambda: jaxact.rrelu(X, None, 0.3, 0.1, deterministic=True),
            "rrelu: lower must not exceed upper",
        ),
        (
            lambda: jaxact.rrelu(X),
            r"rrelu: no key. Pass one for random slopes, rrelu\(x, jax.random.key\(0\)\), or .* "
            r"rrelu\(x, deterministic=True\)",
        ),
        (lambda: jaxact.rrelu(X, 0.1, 0.3), "rrelu: key must be one PRNG key .*, got 0.1. Pass"),
        (
            lambda: jaxact.rrelu(X, jax.random.split(KEY, 3)),
            r"rrelu: key must be one PRNG key .* shape \(3,\) .* jax.vmap for several keys",
        ),
        (
            lambda: jaxact.hard_tanh(X, min_val=2, max_val=1),
            "hard_tanh: min_val must not exceed max_val, got min_val=2 and max_val=1",
        ),
        (lambda: jaxact.glu(X), r"glu: axis 1 of x \(4, 3\) has odd length 3; it must be even"),
        (lambda: jaxact.glu(X, axis=5), "glu: axis 5 is out of range .* from -2 to 1"),
        (lambda: jaxact.glu(1.0), "glu: axis -1 is out of range: the array is a scalar"),
        (lambda: jaxact.crelu(X, axis=-3), "crelu: axis -3 is out of range .* from -2 to 1"),
        (
            lambda: jaxact.swiglu(X, jnp.ones(4)),
            r"swiglu: gate \(4, 3\) and up \(4,\) do not broadcast",
        ),
        (
            lambda: jaxact.autodiff(mode="backward"),  # type: ignore[arg-type]
            "autodiff: mode must be one of 'reverse', 'both', 'plain'; got 'backward'",
        ),
        (
            lambda: jaxact.autodiff(residual="mask!"),  # type: ignore[arg-type]
            "autodiff: residual must be one of 'auto', 'input', 'output', 'mask', 'quantized'; "
            "got 'mask!'",
        ),
    ],
)
def test_value_errors(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def test_a_complex_slope_and_a_key_as_input():
    with pytest.raises(TypeError, match="^leaky_relu: negative_slope must be real"):
        jaxact.leaky_relu(X, jnp.ones(3, jnp.complex64))
    with pytest.raises(TypeError, match="^relu: x must be real, got dtype key"):
        jaxact.relu(jax.random.key(0))


def test_a_stored_context_takes_the_rest_from_where_it_is_entered():
    x = jnp.ones(3)
    keep_input = jaxact.autodiff(residual="input")
    with jaxact.autodiff(mode="both"), keep_input:
        jax.jvp(jaxact.relu, (x,), (x,))


def test_settings_nest_and_end_with_their_context():
    x = jnp.ones(3)
    with jaxact.autodiff(mode="both"):
        with jaxact.autodiff(residual="input"):
            jax.jvp(jaxact.relu, (x,), (x,))
        with jaxact.autodiff(mode="reverse"), pytest.raises(TypeError):
            jax.jvp(jaxact.relu, (x,), (x,))
    with pytest.raises(TypeError):
        jax.jvp(jaxact.relu, (x,), (x,))
