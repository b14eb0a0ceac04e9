"""Optimisers that need more than a gradient."""

import jax
import optax
import optax.contrib
import pytest

from tests.support.programs import WIDTH, activation, apply, check, network, normal


def problem(nn, name):
    act = activation(nn, name)
    x, y = normal(16, 2), normal(16, 1, seed=1)

    def loss(params):
        return ((apply(params, x, act) - y) ** 2).mean()

    return loss, network((2, WIDTH, 1))


LINE_SEARCHES = {
    "zoom": lambda: optax.lbfgs(),
    "backtracking": lambda: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10, store_grad=True)
    ),
}


@pytest.mark.parametrize("name", ["gelu", "elu", "relu"])
@pytest.mark.parametrize("search", LINE_SEARCHES)
def test_optax_line_search(search, name):
    def program(nn):
        loss, params = problem(nn, name)
        optimizer = LINE_SEARCHES[search]()

        @jax.jit
        def step(carry, _):
            params, state = carry
            value, gradient = optax.value_and_grad_from_state(loss)(params, state=state)
            updates, state = optimizer.update(
                gradient, state, params, value=value, grad=gradient, value_fn=loss
            )
            return (optax.apply_updates(params, updates), state), value

        (params, _), values = jax.lax.scan(step, (params, optimizer.init(params)), length=4)
        return params, values

    check(program, x64=True, rtol=1e-6)


OPTIMIZERS = {
    "adamw": lambda: optax.adamw(1e-2),
    "sam": lambda: optax.contrib.sam(optax.adam(1e-2), optax.sgd(1e-2), opaque_mode=True),
    "sophia": lambda: optax.contrib.sophia(1e-2, update_interval=2),
    "muon": lambda: optax.contrib.muon(1e-2),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optax(optimizer):
    def program(nn):
        loss, params = problem(nn, {"sophia": "softplus", "muon": "selu"}.get(optimizer, "silu"))
        transform = OPTIMIZERS[optimizer]()
        extra = {
            "sam": {"grad_fn": lambda params, _: jax.grad(loss)(params)},
            "sophia": {"obj_fn": loss},
        }.get(optimizer, {})

        @jax.jit
        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = transform.update(gradient, state, params, **extra)
            return (optax.apply_updates(params, updates), state), value

        (params, _), values = jax.lax.scan(step, (params, transform.init(params)), length=4)
        return params, values

    # Signs of a gradient that is almost 0 would differ in float32.
    check(program, x64=True, rtol=1e-6)
