"""Physics-informed nets by activation: which derivatives does the loss need?

    python -m benchmarks.equations             # minutes; saves benchmarks/results/equations.json
    python -m benchmarks.equations --quick     # seconds: it runs, its figures say nothing

The net u(x) is to solve u'' = f on [-1, 1] with u(-1) = u(1) = 0, for the f of which
u = sin(pi x) + sin(4 pi x) / 4 is the solution. The loss is the mean square of u'' - f at 64 random
points, with a hundred times the squares of u at the ends. u'' is taken in forward mode, the
gradient of the loss in reverse. All seeds train in one vmap.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from rich.console import Console

import jaxact
from benchmarks import results

#: Smooth ones first, then those whose second derivative jumps, then those that have none.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jaxact.tanh,
    "silu": jaxact.silu,
    "gelu": jaxact.gelu,
    "mish": jaxact.mish,
    "softplus": jaxact.softplus,
    "snake": lambda x: jaxact.snake(x, 1.0),
    "elu": jaxact.elu,
    "relu_squared": jaxact.relu_squared,
    "relu": jaxact.relu,
    "leaky_relu": jaxact.leaky_relu,
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """The sizes."""

    seeds: int = 16
    steps: int = 5000
    points: int = 64
    width: int = 32
    layers: int = 3
    rate: float = 2e-3
    looks: int = 50


def solution(x: jax.Array) -> jax.Array:
    """u of the equation."""
    return jnp.sin(jnp.pi * x) + jnp.sin(4 * jnp.pi * x) / 4


def second(u: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """u'' of a function of one number, by forward mode twice."""

    def derivative(u: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
        return lambda x: jax.jvp(u, (x,), (jnp.ones_like(x),))[1]

    return derivative(derivative(u))


def solve(
    activation: Callable[[jax.Array], jax.Array], problem: Problem, looks: int | None = None
) -> np.ndarray:
    """The relative error of u in the L2 norm: of each seed, at each look or the first looks."""
    sizes = [1, *[problem.width] * problem.layers, 1]
    schedule = optax.cosine_decay_schedule(problem.rate, problem.steps)
    optimizer = optax.adam(schedule)
    grid = jnp.linspace(-1, 1, 201)
    truth = solution(grid)

    def net(params: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
        h = x[None]
        for w, b in params[:-1]:
            h = activation(h @ w + b)
        w, b = params[-1]
        return (h @ w + b)[0]

    def loss(params: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
        def u(x: jax.Array) -> jax.Array:
            return net(params, x)

        residual = jax.vmap(second(u))(x) - jax.vmap(second(solution))(x)
        ends = jax.vmap(u)(jnp.array([-1.0, 1.0]))
        return (residual**2).mean() + 100 * (ends**2).sum()

    def run(key: jax.Array) -> jax.Array:
        of_net, of_points = jax.random.split(key)
        glorot = jax.nn.initializers.glorot_normal()
        # Kinks and curves lie where the data are: biases are as wide as the inputs.
        params = [
            (glorot(k, (a, b)), jax.random.uniform(jax.random.fold_in(k, 1), (b,), minval=-1))
            for k, a, b in zip(
                jax.random.split(of_net, len(sizes)), sizes[:-1], sizes[1:], strict=False
            )
        ]

        def step(carry: tuple, number: jax.Array) -> tuple[tuple, None]:
            params, state = carry
            key = jax.random.fold_in(of_points, number)
            x = jax.random.uniform(key, (problem.points,), minval=-1)
            updates, state = optimizer.update(jax.grad(loss)(params, x), state)
            return (optax.apply_updates(params, updates), state), None

        def until_a_look(carry: tuple, numbers: jax.Array) -> tuple[tuple, jax.Array]:
            carry, _ = lax.scan(step, carry, numbers)
            found = jax.vmap(lambda x: net(carry[0], x))(grid)
            return carry, jnp.linalg.norm(found - truth) / jnp.linalg.norm(truth)

        numbers = jnp.arange(problem.steps).reshape(problem.looks, -1)[:looks]
        return lax.scan(until_a_look, (params, optimizer.init(params)), numbers)[1]

    keys = jax.random.split(jax.random.key(0), problem.seeds)
    with jaxact.autodiff(mode="both"), jax.numpy_dtype_promotion("standard"):
        return np.asarray(jax.jit(jax.vmap(run))(keys))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, nothing is saved")
    options = parser.parse_args(arguments)
    problem = Problem(seeds=2, steps=20, looks=2) if options.quick else Problem()
    console = Console()
    start = time.perf_counter()
    errors = {}
    for name, activation in ACTIVATIONS.items():
        errors[name] = solve(activation, problem)
        console.print(f"{name}: relative error {results.interval(errors[name][:, -1])}")
    if not options.quick:
        figures = {
            "steps": np.arange(1, problem.looks + 1) * (problem.steps // problem.looks),
            "relative error": errors,
        }
        seconds = time.perf_counter() - start
        command = "python -m benchmarks.equations"
        console.print(
            str(results.save("equations", figures, command=command, seconds=seconds).name)
        )


if __name__ == "__main__":
    main()
