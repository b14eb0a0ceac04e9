"""Derivatives of derivatives, as programs of plain JAX take them."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.jet import jet
from jax.flatten_util import ravel_pytree

from tests.support.programs import (
    KINKED,
    REFERENCE,
    SMOOTH,
    WIDTH,
    activation,
    apply,
    check,
    network,
    normal,
)


def setting(nn, name, layers=(2, WIDTH, WIDTH, 1)):
    """A network as a function of its flat parameters, its loss, parameters, and a direction."""
    act = activation(nn, name)
    flat, unravel = ravel_pytree(network(layers))
    x = normal(8, 2)

    def model(flat):
        return apply(unravel(flat), x, act)

    def loss(flat):
        return ((model(flat) - jnp.sin(x[:, :1])) ** 2).mean()

    return model, loss, flat, normal(flat.size, seed=101)


PRODUCTS = {
    "forward over reverse": lambda f, p, v: jax.jvp(jax.grad(f), (p,), (v,)),
    "reverse over forward": lambda f, p, v: jax.grad(lambda p: jax.jvp(f, (p,), (v,))[1])(p),
    "reverse over reverse": lambda f, p, v: jax.grad(lambda p: jnp.vdot(jax.grad(f)(p), v))(p),
    "forward over forward": lambda f, p, v: jax.jvp(
        lambda p: jax.jvp(f, (p,), (v,))[1], (p,), (v,)
    ),
}


@pytest.mark.parametrize("name", ["silu", "mish", "elu", "prelu", "swiglu"])
@pytest.mark.parametrize("order", PRODUCTS)
def test_hessian_vector_products(order, name):
    def program(nn):
        _, loss, params, v = setting(nn, name)
        return jax.jit(lambda p: PRODUCTS[order](loss, p, v))(params)

    check(program, forward=order.endswith("forward"))


@pytest.mark.parametrize("name", [*SMOOTH, *KINKED])
def test_hessian(name):
    def program(nn):
        _, loss, params, _ = setting(nn, name, (2, WIDTH, 1))
        return jax.jit(lambda p: (jax.value_and_grad(loss)(p), jax.hessian(loss)(p)))(params)

    check(program, x64=True)


@pytest.mark.parametrize("name", ["gelu:exact", "leaky_relu", "rrelu:key"])
def test_gauss_newton_vector_product(name):
    def program(nn):
        model, _, params, v = setting(nn, name)

        @jax.jit
        def product(p):
            out, pushed = jax.jvp(model, (p,), (v,))
            _, curvature = jax.jvp(jax.grad(lambda y: jnp.logaddexp(0, y).sum()), (out,), (pushed,))
            return jax.vjp(model, p)[1](curvature)[0]

        return product(params)

    check(program, forward=True)


@pytest.mark.parametrize("name", ["gelu", "relu", "selu"])
def test_hessian_free_step(name):
    """Conjugate gradients on the Gauss-Newton matrix, linearized once."""

    def program(nn):
        model, loss, params, _ = setting(nn, name)

        @jax.jit
        def step(p):
            _, push = jax.linearize(model, p)
            pull = jax.linear_transpose(push, p)

            def matrix(v):
                return pull(push(v))[0] + 0.1 * v

            return jax.scipy.sparse.linalg.cg(matrix, -jax.grad(loss)(p), maxiter=5)[0]

        return step(params)

    # Each iteration divides by small numbers.
    check(program, forward=True, x64=True, rtol=1e-7)


@pytest.mark.parametrize("name", ["softplus", "relu6", "hard_silu"])
def test_neural_tangent_kernel(name):
    """By Jacobians in both modes, contracted."""

    def program(nn):
        act = activation(nn, name)
        x = normal(5, 2)

        @functools.partial(jax.jit, static_argnums=1)
        def kernel(params, jacobian):
            rows = jax.vmap(jacobian(lambda p, x: apply(p, x, act)), (None, 0))(params, x)
            return sum(
                jnp.einsum("ai...,bj...->abij", j, j, precision="highest")
                for j in jax.tree.leaves(rows)
            )

        return [kernel(network((2, WIDTH, 3)), j) for j in (jax.jacfwd, jax.jacrev)]

    check(program, forward=True)


@pytest.mark.parametrize("name", ["silu", "softplus", "celu"])
def test_hutchinson_diagonal(name):
    """What Sophia and AdaHessian precondition with."""

    def program(nn):
        _, loss, params, _ = setting(nn, name)
        signs = jax.random.rademacher(jax.random.key(3), (4, params.size), params.dtype)

        @jax.jit
        def diagonal(p):
            pull = jax.grad(loss)
            return jax.vmap(lambda s: s * jax.jvp(pull, (p,), (s,))[1])(signs).mean(0)

        return diagonal(params)

    check(program)


@pytest.mark.parametrize("name", ["elu", "log_sigmoid", "glu"])
def test_maml(name):
    """A gradient through three steps of gradient descent, for four tasks at once."""

    def program(nn):
        act = activation(nn, name)
        x, y = normal(4, 8, 2), normal(4, 8, 1, seed=5)

        def loss(params, x, y):
            return ((apply(params, x, act) - y) ** 2).mean()

        def adapted(params, x, y):
            for _ in range(3):
                step = jax.grad(loss)(params, x, y)
                params = jax.tree.map(lambda p, g: p - 0.1 * g, params, step)
            return loss(params, x, y)

        @jax.jit
        def outer(params):
            return jax.vmap(adapted, (None, 0, 0))(params, x, y).mean()

        return jax.value_and_grad(outer)(network())

    check(program)


def equilibrium(solve):
    """A deep equilibrium model: z = act(z w + x u), and its gradient by the implicit function."""

    def model(params, x, act):
        def step(z):
            return 0.5 * act(z @ params["w"] + x @ params["u"] + params["b"])

        return solve(step, jnp.zeros((*x.shape[:-1], WIDTH), x.dtype))

    return model


def iterated(step, z):
    return jax.lax.fori_loop(0, 60, lambda _, z: step(z), z)


def by_custom_root(step, z):
    return jax.lax.custom_root(
        lambda z: step(z) - z,
        z,
        lambda _, z: iterated(step, z),
        lambda linear, y: jnp.linalg.solve(jax.jacobian(linear)(y), y),
    )


@pytest.mark.parametrize("name", ["tanh", "softplus", "hard_tanh"])
@pytest.mark.parametrize("derivative", ["reverse", "forward"])
def test_implicit_layer(derivative, name):
    def program(nn):
        act = activation(nn, name)
        x = normal(2)
        params = {"w": normal(WIDTH, WIDTH) / 4, "u": normal(2, WIDTH), "b": normal(WIDTH)}
        model = equilibrium(by_custom_root)

        def loss(params):
            return (model(params, x, act) ** 2).sum()

        if derivative == "reverse":
            return jax.jit(jax.value_and_grad(loss))(params)
        return jax.jit(lambda p: jax.jvp(loss, (p,), (p,)))(params)

    check(program, forward=True, x64=True, rtol=1e-7)


@pytest.mark.parametrize("name", ["mish", "prelu"])
def test_custom_linear_solve(name):
    """Differentiates a solution with the Jacobian of a network as its matrix."""

    def program(nn):
        act = activation(nn, name)
        x = normal(WIDTH)

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            def field(x):
                return 3 * x + apply(params, x, act)

            def solve(matvec, b):
                return jnp.linalg.solve(jax.jacobian(matvec)(b), b)

            return jax.lax.custom_linear_solve(
                lambda v: jax.jvp(field, (x,), (v,))[1], field(x), solve, lambda vm, b: solve(vm, b)
            ).sum()

        return loss(network((WIDTH, WIDTH, WIDTH)))

    check(program, forward=True, x64=True)


@pytest.mark.parametrize("name", ["tanh", "silu", "squareplus"])
def test_four_derivatives(name):
    """Of one input, forward and reverse in turns, under scan, remat and vmap."""

    def program(nn):
        act = activation(nn, name)

        def f(x, w):
            step = jax.checkpoint(lambda z, w: (act(z * w), None))
            return jax.lax.scan(step, x, w)[0]

        def directional(f):
            return lambda x, w: jax.jvp(lambda x: f(x, w), (x,), (1.0,))[1]

        derivatives = [f]
        for transform in (directional, jax.grad, directional, jax.grad):
            derivatives.append(transform(derivatives[-1]))
        return [jax.jit(jax.vmap(d, (0, None)))(normal(5), normal(3)) for d in derivatives]

    check(program, forward=True, x64=True)


@pytest.mark.parametrize("block", ["mlp", "gated_mlp"])
def test_blocks_in_both_modes(block):
    def program(nn):
        x, v = normal(4, 5), normal(4, 5, seed=7)
        if block == "mlp":
            biases = {"b_in": normal(WIDTH), "b_out": normal(5)}
            weights = normal(5, WIDTH, seed=1), normal(WIDTH, 5, seed=2)
            f = lambda x, *w: nn.mlp(x, *w, activation="gelu", **biases)  # noqa: E731
        else:
            weights = normal(5, WIDTH, seed=1), normal(5, WIDTH, seed=2), normal(WIDTH, 5, seed=3)
            f = lambda x, *w: nn.gated_mlp(x, *w, activation="silu")  # noqa: E731

        @jax.jit
        def derivatives(x, *weights):
            def loss(*arguments):
                return (f(*arguments) ** 2).mean()

            arguments = (x, *weights)
            everything = tuple(range(len(arguments)))
            return (
                jax.jvp(f, arguments, (v, *weights)),
                jax.grad(loss, everything)(*arguments),
                jax.jacfwd(jax.grad(loss))(*arguments),
                jax.grad(lambda x: jax.jvp(lambda x: loss(x, *weights), (x,), (v,))[1])(x),
            )

        return derivatives(x, *weights)

    check(program, forward=True, x64=True)


@pytest.mark.parametrize("name", ["tanh", "silu", "softplus", "sigmoid", "gelu"])
def test_taylor_mode(name):
    """jax.experimental.jet, which takes no custom rule: in mode "plain"."""

    def program(nn):
        act, x, w = activation(nn, name), normal(5), 0.7
        f = lambda x: act(w * act(x))  # noqa: E731
        if nn is not REFERENCE:
            zero = jnp.zeros_like(x)
            return jet(f, (x,), ((zero + 1, zero, zero),))
        derivatives = [f]
        for _ in range(3):
            derivatives.append(jax.grad(lambda x, f=derivatives[-1]: f(x).sum()))
        return f(x), [derivative(x) for derivative in derivatives[1:]]

    check(program, x64=True, mode="plain")
