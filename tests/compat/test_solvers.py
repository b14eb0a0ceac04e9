"""optimistix, lineax and jaxopt: solvers that differentiate networks, and are differentiated."""

import functools
import warnings

import jax
import jax.numpy as jnp
import lineax
import optimistix
import pytest

from tests.support.programs import WIDTH, activation, alternating, apply, check, network, normal

with warnings.catch_warnings():
    # "No longer maintained", at every import.
    warnings.simplefilter("ignore", DeprecationWarning)
    import jaxopt

ROOTS = {
    "Newton": optimistix.Newton,
    "Chord": optimistix.Chord,
    "Dogleg": optimistix.Dogleg,
    "LevenbergMarquardt": optimistix.LevenbergMarquardt,
}


@pytest.mark.parametrize(("name", "solver"), alternating(["tanh", "leaky_relu"], ROOTS))
def test_optimistix_root_find(name, solver):
    """A root, and its derivative by the implicit function theorem."""

    def program(nn):
        act = activation(nn, name)

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            root = optimistix.root_find(
                lambda y, params: y + 0.3 * apply(params, y, act),
                ROOTS[solver](rtol=1e-10, atol=1e-10), normal(WIDTH), params,
            )  # fmt: skip
            return (root.value**2).sum()

        return loss(network((WIDTH, WIDTH, WIDTH)))

    check(program, forward=True, x64=True, rtol=1e-7)


@pytest.mark.parametrize("name", ["softplus", "hard_tanh"])
def test_optimistix_fixed_point(name):
    """A deep equilibrium model. Only the derivative needs the linearized step."""

    def program(nn):
        act = activation(nn, name)

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            z = optimistix.fixed_point(
                lambda z, params: 0.3 * act(apply(params, z, act)),
                optimistix.FixedPointIteration(rtol=1e-10, atol=1e-10), normal(WIDTH), params,
            )  # fmt: skip
            return (z.value**2).sum()

        return loss(network((WIDTH, WIDTH, WIDTH)))

    check(program, forward=True, x64=True, rtol=1e-7)


FITS = {
    "LevenbergMarquardt": optimistix.LevenbergMarquardt,
    "GaussNewton": optimistix.GaussNewton,
    "Dogleg": optimistix.Dogleg,
}


@pytest.mark.parametrize(("name", "solver"), alternating(["silu", "celu"], FITS))
def test_optimistix_least_squares(name, solver):
    """Fits an amplitude, a rate and an offset; and how the fit moves with the data."""

    def program(nn):
        act = activation(nn, name)
        t = jnp.linspace(-1, 1, 20)

        def residual(p, y):
            return p[0] * act(3 * t - p[1]) + p[2] - y

        @jax.jit
        @jax.value_and_grad
        def total(y):
            fit = optimistix.least_squares(
                residual, FITS[solver](rtol=1e-10, atol=1e-10), jnp.array([0.9, 0.4, 0.1]), y
            )
            return fit.value.sum()

        return total(residual(jnp.array([1.0, 0.5, 0.2]), 0.01 * normal(20)))

    check(program, forward=True, x64=True, rtol=1e-6)


@pytest.mark.parametrize("solver", ["BFGS", "NonlinearCG", "LBFGS"])
def test_optimistix_minimise(solver):
    def program(nn):
        @jax.jit
        def fit(params):
            def loss(params, _):
                return (apply(params, normal(16, 2), nn.gelu) ** 2).mean()

            return optimistix.minimise(
                loss, getattr(optimistix, solver)(rtol=1e-3, atol=1e-3), params,
                max_steps=10, throw=False,
            ).value  # fmt: skip

        return fit(network((2, WIDTH, 1)))

    check(program, x64=True, rtol=1e-6)


LINEAR = {
    "GMRES": lambda: lineax.GMRES(rtol=1e-10, atol=1e-10),
    "BiCGStab": lambda: lineax.BiCGStab(rtol=1e-10, atol=1e-10),
    "LU": lineax.LU,
}


@pytest.mark.parametrize(("name", "solver"), alternating(["selu", "prelu"], LINEAR))
def test_lineax_jacobian(name, solver):
    """Solves with the Jacobian of a network, and differentiates that."""

    def program(nn):
        act = activation(nn, name)

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            def field(x, _):
                return 3 * x + apply(params, x, act)

            x = normal(WIDTH)
            operator = lineax.JacobianLinearOperator(field, x)
            return lineax.linear_solve(operator, field(x, None), LINEAR[solver]()).value.sum()

        return loss(network((WIDTH, WIDTH, WIDTH)))

    check(program, forward=True, x64=True, rtol=1e-7)


@pytest.mark.parametrize("jac", ["fwd", "bwd"])
def test_lineax_materialised_jacobian(jac):
    def program(nn):
        def field(x, _):
            return apply(network((3, WIDTH, WIDTH)), x, nn.mish)

        @jax.jit
        def matrix(x):
            return lineax.JacobianLinearOperator(field, x, jac=jac).as_matrix()

        return matrix(normal(3))

    check(program, forward=jac == "fwd")


@pytest.mark.parametrize("name", ["softplus", "elu"])
def test_lineax_gauss_newton(name):
    """Conjugate gradients on a function that is a Gauss-Newton product."""

    def program(nn):
        act = activation(nn, name)
        params = network((3, WIDTH, 2))

        @jax.jit
        def step(x):
            model = lambda x: apply(params, x, act)  # noqa: E731
            y, push = jax.linearize(model, x)
            pull = jax.linear_transpose(push, x)
            operator = lineax.FunctionLinearOperator(
                lambda v: pull(push(v))[0] + 0.1 * v, jax.eval_shape(lambda: x),
                lineax.positive_semidefinite_tag,
            )  # fmt: skip
            return lineax.linear_solve(operator, pull(y)[0], lineax.CG(rtol=1e-8, atol=1e-8)).value

        return step(normal(3))

    check(program, forward=True, x64=True, rtol=1e-7)


@pytest.mark.parametrize(
    ("name", "solver"),
    alternating(["sigmoid", "squareplus"], ["GaussNewton", "LevenbergMarquardt"]),
)
def test_jaxopt_least_squares(name, solver):
    def program(nn):
        act = activation(nn, name)
        t = jnp.linspace(-1, 1, 20)

        def residual(p, y):
            return p[0] * act(3 * t - p[1]) + p[2] - y

        @jax.jit
        @jax.value_and_grad
        def total(y):
            fit = getattr(jaxopt, solver)(residual, maxiter=8)
            return fit.run(jnp.array([0.9, 0.4, 0.1]), y).params.sum()

        return total(residual(jnp.array([1.0, 0.5, 0.2]), 0.01 * normal(20)))

    check(program, forward=True, x64=True, rtol=1e-6)


@pytest.mark.parametrize("name", ["silu", "swiglu"])
def test_jaxopt_lbfgs(name):
    def program(nn):
        act = activation(nn, name)

        def loss(params):
            return (apply(params, normal(16, 2), act) ** 2).mean()

        solver = jaxopt.LBFGS(loss, maxiter=5, implicit_diff=False)
        return jax.jit(lambda p: solver.run(p).params)(network((2, WIDTH, 1)))

    check(program, x64=True, rtol=1e-6)


@pytest.mark.parametrize("solver", ["FixedPointIteration", "AndersonAcceleration", "Broyden"])
def test_jaxopt_implicit(solver):
    """Roots and fixed points, differentiated by custom_root."""

    def program(nn):
        @jax.jit
        @jax.value_and_grad
        def loss(params):
            step = lambda z, params: 0.3 * nn.tanh(apply(params, z, nn.relu6))  # noqa: E731
            if solver == "Broyden":
                run = jaxopt.Broyden(lambda z, params: step(z, params) - z, tol=1e-10)
            else:
                run = getattr(jaxopt, solver)(step, tol=1e-10, maxiter=100)
            return (run.run(normal(WIDTH), params).params ** 2).sum()

        return loss(network((WIDTH, WIDTH, WIDTH)))

    check(program, x64=True, rtol=1e-6)


def test_jaxopt_custom_root():
    """Ridge regression on features, differentiated by the optimality condition."""

    def program(nn):
        x, y = normal(16, 2), normal(16)

        def objective(w, params):
            features = apply(params, x, nn.gelu)
            return ((features @ w - y) ** 2).mean() + 0.1 * (w**2).sum()

        # By default it ends at a relative residual of 1e-5.
        solve = functools.partial(jaxopt.linear_solve.solve_normal_cg, tol=1e-13)

        @jaxopt.implicit_diff.custom_root(jax.grad(objective), solve=solve)
        def solver(_, params):
            features = apply(params, x, nn.gelu)
            matrix = features.T @ features / 16 + 0.1 * jnp.eye(WIDTH)
            return jnp.linalg.solve(matrix, features.T @ y / 16)

        return jax.jit(jax.jacrev(lambda p: solver(None, p)))(network((2, WIDTH, WIDTH)))

    check(program, x64=True, rtol=1e-7)
