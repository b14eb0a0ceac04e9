"""folx: the Laplacian of a network in one forward pass."""

import folx
import jax
import pytest

from tests.support.programs import KINKED, SMOOTH, WIDTH, activation, apply, check, network, normal

#: folx has its own rules for what JAX's jits of these names compute, whoever wrote them.
OWN_RULES = ("sigmoid", "silu", "softplus")


@pytest.mark.parametrize("name", [*SMOOTH, *KINKED])
def test_forward_laplacian(name):
    """Its value, Jacobian and Laplacian."""

    def program(nn):
        act = activation(nn, name)
        params = network((3, WIDTH, WIDTH, 1))

        @jax.jit
        def laplacian(x):
            result = folx.forward_laplacian(lambda x: apply(params, x, act)[0])(x)
            return result.x, result.jacobian.dense_array, result.laplacian

        return laplacian(normal(3))

    check(program, forward=name not in OWN_RULES, x64=True)


@pytest.mark.parametrize("name", ["tanh", "silu"])
def test_local_energy(name):
    """Its gradient with respect to the parameters, over walkers, in float32."""

    def program(nn):
        act = activation(nn, name)

        @jax.jit
        @jax.value_and_grad
        def energy(params):
            def local(x):
                wave = lambda x: apply(params, x, act)[0]  # noqa: E731
                laplacian, gradient = folx.ForwardLaplacianOperator(0)(wave)(x)
                return -0.5 * (laplacian + (gradient**2).sum())

            return jax.vmap(local)(normal(8, 3)).mean()

        return energy(network((3, WIDTH, WIDTH, 1)))

    check(program, forward=name not in OWN_RULES)
