"""Which units die in training, and what `jaxact.Report.at_risk` said of them before.

    python -m benchmarks.at_risk            # about a minute

ReLU networks of three layers of 32 units (He's initializer, no bias at first) on scikit-learn's
digits as they come, between 0 and 1, and standardised; 300 steps with batches of 100; 8 seeds. AUC:
how probable it is that of two units, one of which dies, that one has the higher figure.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata
from sklearn.datasets import load_digits

import jaxact

OPTIMIZERS = {
    "SGD, 0.03": optax.sgd(0.03),
    "SGD, 0.1": optax.sgd(0.1),
    "SGD, 0.3": optax.sgd(0.3),
    "Adam, 0.01": optax.adam(0.01),
    "Adam, 0.03": optax.adam(0.03),
}
LAYERS, WIDTH, BATCH = 3, 32, 100
#: The limits of the groups in which probabilities are compared with what happened.
BINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)

Params = list[tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of all units of all networks, (units,).

    Attributes:
      gamma: mean / standard deviation before training, with its sign.
      probability: that the unit dies.
      dead: whether it was dead after training.
    """

    gamma: np.ndarray
    probability: np.ndarray
    dead: np.ndarray

    @property
    def auc(self) -> float:
        ranks = rankdata(self.probability)[self.dead]
        dead, alive = len(ranks), len(self.dead) - len(ranks)
        return float((ranks.sum() - dead * (dead + 1) / 2) / (dead * alive))

    def calibration(self, bins: Sequence[float] = BINS) -> list[tuple[float, float, int]]:
        """Of each group of units: the mean probability, the share that died, how many there are."""
        found = []
        for low, high in itertools.pairwise(bins):
            group = (self.probability >= low) & (self.probability < high)
            count = max(int(group.sum()), 1)
            of_group = self.probability[group].sum() / count, self.dead[group].sum() / count
            found.append((float(of_group[0]), float(of_group[1]), int(group.sum())))
        return found


def digits(standardised: bool) -> tuple[jax.Array, jax.Array]:
    images, labels = load_digits(return_X_y=True)
    images = (images - images.mean()) / images.std() if standardised else images / 16
    return jnp.asarray(images, jnp.float32), jnp.asarray(labels)


def network(params: Params, x: jax.Array) -> jax.Array:
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = params[-1]
    return x @ w + b


def initial(key: jax.Array) -> Params:
    sizes = [64, *[WIDTH] * LAYERS, 10]
    he = jax.nn.initializers.he_normal()
    keys = jax.random.split(key, len(sizes) - 1)
    shapes = zip(keys, sizes, sizes[1:], strict=False)
    return [(he(k, (a, b)), jnp.zeros(b)) for k, a, b in shapes]


def outcome(
    optimizer: optax.GradientTransformation,
    data: tuple[jax.Array, jax.Array],
    *,
    steps: int = 300,
    seeds: int = 8,
) -> Outcome:
    """Networks trained, all seeds in one program, and probed before and after."""
    x, y = data
    look = jaxact.probe(network)

    def loss(params: Params, batch: jax.Array) -> jax.Array:
        logits = network(params, x[batch])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[batch]).mean()

    def step(state: Any, key: jax.Array) -> Any:
        params, opt_state = state
        gradient = jax.grad(loss)(params, jax.random.randint(key, (BATCH,), 0, len(x)))
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    @jax.jit
    @jax.vmap
    def run(key: jax.Array) -> tuple[jaxact.Report, jaxact.Report]:
        params = initial(key)
        start = (params, optimizer.init(params))
        (trained, _), _ = jax.lax.scan(step, start, jax.random.split(key, steps))
        return look(params, x)[1], look(trained, x)[1]

    before, after = run(jax.random.split(jax.random.key(0), seeds))
    risk = before.at_risk()
    sign = [np.sign(of_site.site.mean) for of_site in risk]
    return Outcome(
        np.ravel([s * of_site.gamma for s, of_site in zip(sign, risk, strict=True)]),
        np.ravel([of_site.probability for of_site in risk]),
        np.ravel([site.dead for site in after.sites]),
    )


def main() -> None:
    groups = [f"{100 * a:.0f}-{100 * b:.0f}%" for a, b in itertools.pairwise(BINS)]
    table = Table("data", "optimizer", "died", "expected", "AUC", *groups)
    for name, standardised in (("raw", False), ("standardised", True)):
        data = digits(standardised)
        for optimizer, transformation in OPTIMIZERS.items():
            found = outcome(transformation, data)
            table.add_row(
                *(name, optimizer, f"{found.dead.mean():.1%}", f"{found.probability.mean():.1%}"),
                f"{found.auc:.2f}",
                *(f"{died:.0%} of {n}" for _, died, n in found.calibration()),
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
