"""diffrax: neural differential equations by each of its ways to differentiate."""

import diffrax
import jax
import jax.numpy as jnp
import pytest

from tests.support.programs import WIDTH, activation, alternating, apply, check, network, normal

ADJOINTS = {
    "recursive": diffrax.RecursiveCheckpointAdjoint,
    "direct": diffrax.DirectAdjoint,
    "backsolve": diffrax.BacksolveAdjoint,
}


def solution(field, params, y, adjoint, solver, stepsize=None, steps=64):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field), solver, 0.0, 1.0, 0.1, y, params, adjoint=adjoint,
        saveat=diffrax.SaveAt(ts=jnp.linspace(0, 1, 4)), max_steps=steps,
        stepsize_controller=stepsize or diffrax.ConstantStepSize(),
    ).ys  # fmt: skip


@pytest.mark.parametrize(("name", "adjoint"), alternating(["tanh", "softplus"], ADJOINTS))
def test_neural_ode(adjoint, name):
    def program(nn):
        act = activation(nn, name)

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            field = lambda t, y, params: apply(params, y, act)  # noqa: E731
            stepsize = None if adjoint == "backsolve" else diffrax.PIDController(1e-4, 1e-6)
            ys = solution(field, params, normal(2), ADJOINTS[adjoint](), diffrax.Tsit5(), stepsize)
            return (ys**2).mean()

        return loss(network((2, WIDTH, 2)))

    check(program, x64=True)


@pytest.mark.parametrize("name", ["gelu"])
def test_neural_ode_in_float32(name):
    def program(nn):
        act = activation(nn, name)

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            field = lambda t, y, params: apply(params, y, act)  # noqa: E731
            adjoint = diffrax.RecursiveCheckpointAdjoint()
            return (solution(field, params, normal(4, 2), adjoint, diffrax.Heun()) ** 2).mean()

        return loss(network((2, WIDTH, WIDTH, 2)))

    check(program)


@pytest.mark.parametrize("name", ["silu", "prelu"])
def test_forward_mode(name):
    """Sensitivities to a few parameters, by ForwardMode."""

    def program(nn):
        act = activation(nn, name)
        params = network((2, WIDTH, 2))

        def final(scale):
            field = lambda t, y, scale: apply(params, y * scale, act)  # noqa: E731
            return solution(field, scale, normal(2), diffrax.ForwardMode(), diffrax.Tsit5())

        return jax.jit(jax.jacfwd(final))(jnp.array([1.0, 0.5]))

    check(program, forward=True, x64=True)


@pytest.mark.parametrize("solver", ["Kvaerno3", "Kvaerno5", "KenCarp4"])
def test_implicit_solver(solver):
    """Stiff equations: Newton's steps linearize the field."""

    def program(nn):
        @jax.jit
        @jax.value_and_grad
        def loss(params):
            def field(t, y, params):
                return apply(params, y, nn.elu)

            def decay(t, y, params):
                return -20 * nn.tanh(y)

            if solver == "KenCarp4":
                term = diffrax.MultiTerm(diffrax.ODETerm(field), diffrax.ODETerm(decay))
            else:
                both = lambda t, y, p: field(t, y, p) + decay(t, y, p)  # noqa: E731
                term = diffrax.ODETerm(both)
            ys = diffrax.diffeqsolve(
                term, getattr(diffrax, solver)(), 0.0, 1.0, 0.1, normal(2), params,
                stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-6), max_steps=64,
            ).ys  # fmt: skip
            return (ys**2).sum()

        return loss(network((2, WIDTH, 2)))

    # Newton's iterations end at the solver's tolerance.
    check(program, forward=True, x64=True, rtol=1e-7)


@pytest.mark.parametrize("name", ["sigmoid", "mish"])
def test_neural_sde(name):
    def program(nn):
        act = activation(nn, name)

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            noise = diffrax.VirtualBrownianTree(0.0, 1.0, 1e-2, (), jax.random.key(0))
            terms = diffrax.MultiTerm(
                diffrax.ODETerm(lambda t, y, p: apply(p[0], y, act)),
                diffrax.ControlTerm(lambda t, y, p: nn.softplus(apply(p[1], y, act)), noise),
            )
            ys = diffrax.diffeqsolve(
                terms, diffrax.Heun(), 0.0, 1.0, 0.1, normal(2), params, max_steps=16
            ).ys
            return (ys**2).sum()

        return loss((network((2, WIDTH, 2)), network((2, WIDTH, 2), seed=50)))

    check(program)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson", "by jvp"])
def test_continuous_normalizing_flow(divergence):
    """FFJORD: the likelihood of data that flows along a network, and its gradient."""

    def trace(field, y, v):
        if divergence == "exact":
            return jnp.trace(jax.jacfwd(field)(y))
        if divergence == "hutchinson":
            return v @ jax.vjp(field, y)[1](v)[0]
        return v @ jax.jvp(field, (y,), (v,))[1]

    def program(nn):
        @jax.jit
        @jax.value_and_grad
        def loss(params):
            def log_likelihood(y, v):
                def field(t, state, params):
                    f = lambda y: apply(params, y, nn.softplus)  # noqa: E731
                    return f(state[0]), trace(f, state[0], v)

                y, change = (
                    leaf[0]
                    for leaf in diffrax.diffeqsolve(
                        diffrax.ODETerm(field), diffrax.Tsit5(), 1.0, 0.0, -0.1, (y, 0.0 * y[0]),
                        params, max_steps=16,
                    ).ys
                )  # fmt: skip
                return change - 0.5 * y @ y

            return -jax.vmap(log_likelihood)(normal(8, 2), normal(8, 2, seed=1)).mean()

        return loss(network((2, WIDTH, 2)))

    check(program, forward=divergence != "hutchinson", x64=True)
