"""Optimisers that need more than a gradient."""

import warnings

import jax
import jax.numpy as jnp
import optax
import optax.contrib
import pytest

from tests.compat.programs import WIDTH, activation, apply, check, network, normal

with warnings.catch_warnings():
    # Of private names of JAX's, at every import.
    warnings.simplefilter("ignore", DeprecationWarning)
    import kfac_jax


def problem(nn, name):
    act = activation(nn, name)
    x, y = normal(16, 2), normal(16, 1, seed=1)

    def loss(params):
        return ((apply(params, x, act) - y) ** 2).mean()

    return loss, network((2, WIDTH, 1))


LINE_SEARCHES = {
    "zoom": lambda: optax.lbfgs(),
    "backtracking": lambda: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(max_backtracking_steps=10)
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


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_kfac(name):
    """Registers the layers by their jaxpr; adapts its damping by Gauss-Newton products."""

    def program(nn):
        act = activation(nn, name)

        def loss(params, batch):
            x, y = batch
            prediction = apply(params, x, act)
            kfac_jax.register_squared_error_loss(prediction, y)
            return 0.5 * ((prediction - y) ** 2).sum(-1).mean()

        optimizer = kfac_jax.Optimizer(
            jax.value_and_grad(loss), l2_reg=1e-3, use_adaptive_learning_rate=True,
            use_adaptive_momentum=True, use_adaptive_damping=True, initial_damping=1.0,
        )  # fmt: skip
        params, batch = network((2, WIDTH, 1)), (normal(16, 2), normal(16, 1, seed=1))
        state = optimizer.init(params, jax.random.key(0), batch)
        losses = []
        for step in range(3):
            key = jax.random.key(step)
            params, state, stats = optimizer.step(
                params, state, key, batch=batch, global_step_int=step
            )
            losses.append(stats["loss"])
        return params, jnp.stack(losses)

    check(program, forward=True, x64=True, rtol=1e-6)
