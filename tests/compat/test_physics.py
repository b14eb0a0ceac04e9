"""Networks as functions of space and time, differentiated with respect to those."""

import jax
import jax.numpy as jnp
import pytest

from tests.support.programs import WIDTH, activation, apply, check, network, normal

SMOOTH = ["tanh", "silu", "gelu", "mish", "softplus", "sigmoid"]


@pytest.mark.parametrize("name", SMOOTH)
def test_heat_equation(name):
    """The loss of a physics-informed network, with u_t by jacfwd and u_xx by hessian."""

    def program(nn):
        act = activation(nn, name)

        def u(params, point):
            return apply(params, point, act)[0]

        def residual(params, point):
            gradient = jax.jacfwd(u, 1)(params, point)
            return gradient[0] - 0.1 * jax.hessian(u, 1)(params, point)[1, 1]

        @jax.jit
        def train(params):
            def loss(params):
                return (jax.vmap(residual, (None, 0))(params, normal(16, 2)) ** 2).mean()

            def step(params, _):
                value, gradient = jax.value_and_grad(loss)(params)
                return jax.tree.map(lambda p, g: p - 1e-2 * g, params, gradient), value

            return jax.lax.scan(step, params, length=5)

        return train(network())

    check(program, forward=True, x64=True)


@pytest.mark.parametrize("name", ["tanh", "celu", "geglu"])
def test_burgers_equation(name):
    """u_xx by jvp of jvp, in float32."""

    def program(nn):
        act = activation(nn, name)

        def u(params, t, x):
            return apply(params, jnp.stack([t, x]), act)[0]

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            def residual(t, x):
                one = jnp.ones_like(x)
                in_time = jax.jvp(lambda t: u(params, t, x), (t,), (one,))[1]
                slope = lambda x: jax.jvp(lambda x: u(params, t, x), (x,), (one,))  # noqa: E731
                (value, in_space), (_, curvature) = jax.jvp(slope, (x,), (one,))
                return in_time + value * in_space - 0.01 * curvature

            return (jax.vmap(residual)(normal(16), normal(16, seed=1)) ** 2).mean()

        return loss(network())

    # Third derivatives in float32.
    check(program, forward=True, rtol=5e-5)


@pytest.mark.parametrize("name", ["softplus", "silu", "prelu"])
def test_sliced_score_matching(name):
    def program(nn):
        act = activation(nn, name)
        x, v = normal(16, 3), normal(16, 3, seed=1)

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            def one(x, v):
                score, along = jax.jvp(lambda x: apply(params, x, act), (x,), (v,))
                return v @ along + 0.5 * score @ score

            return jax.vmap(one)(x, v).mean()

        return loss(network((3, WIDTH, WIDTH, 3)))

    check(program, forward=True)


@pytest.mark.parametrize("name", ["softplus", "mish", "elu"])
def test_hamiltonian_network(name):
    """A field that is a gradient, rolled out, and the gradient of that."""

    def program(nn):
        act = activation(nn, name)

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            def energy(q, p):
                return apply(params, jnp.stack([q, p]), act)[0]

            def leapfrog(state, _):
                q, p = state
                p = p - 0.1 * jax.grad(energy)(q, p)
                q = q + 0.1 * jax.grad(energy, 1)(q, p)
                return (q, p), energy(q, p)

            return (jax.lax.scan(leapfrog, (jnp.array(1.0), jnp.array(0.5)), length=10)[1]).sum()

        return loss(network())

    check(program)


@pytest.mark.parametrize("name", ["leaky_relu:0.2", "silu"])
def test_gradient_penalty(name):
    """A Wasserstein critic: the norm of the input's gradient in the loss."""

    def program(nn):
        act = activation(nn, name)

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            critic = lambda x: apply(params, x, act)[0]  # noqa: E731
            gradients = jax.vmap(jax.grad(critic))(normal(16, 2))
            return ((jnp.linalg.norm(gradients, axis=-1) - 1) ** 2).mean()

        return loss(network())

    check(program)


@pytest.mark.parametrize("name", ["tanh", "squareplus"])
def test_laplacian_forward_over_reverse(name):
    """As variational Monte Carlo has it: the local energy by a loop of jvps of a gradient."""

    def program(nn):
        act = activation(nn, name)
        params = network((3, WIDTH, WIDTH, 1))

        @jax.jit
        def kinetic(x):
            gradient = jax.grad(lambda x: apply(params, x, act)[0])
            value, push = jax.linearize(gradient, x)
            columns = jax.lax.map(lambda e: push(e) @ e, jnp.eye(3))
            return -0.5 * (columns.sum() + value @ value)

        return jax.vmap(kinetic)(normal(8, 3))

    check(program)
