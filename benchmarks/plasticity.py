"""What learning one task after another does to a network, and what `jaxact.plasticity` does for it.

    python -m benchmarks.plasticity            # ten minutes at most, on two cores
    python -m benchmarks.plasticity --docs     # also writes its tables into docs/plasticity.md
    python -m benchmarks.plasticity --save     # also saves each run's figures, for the notebook
    python -m benchmarks.plasticity --quick    # seconds: it runs, its figures say nothing

Two problems, each run by all seeds in one vmap:

- Slowly-changing regression (Dohare et al., Nature 632, 2024, Extended Data; arXiv 2306.13812): the
  target is a fixed net of 100 linear threshold units, the learner has one hidden layer of 5. Of 21
  inputs one is 1, 15 are bits of which one flips every 10,000 steps, and 5 are random in each. SGD
  with step size 0.01, one example a step, 200,000 steps. What counts is the squared error in the
  last 5% of the stream, less that in the first.
- Online permuted digits: scikit-learn's 1,797 images, once in each task, with the pixels of the
  task's own permutation; batches of 16, Adam. What counts is the accuracy on each batch before the
  step that learns from it.

The probe looks at the inputs since its last look: every 100 steps, and once a task. The methods'
arguments count these looks.
"""

import argparse
import dataclasses
import datetime
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from rich.console import Console
from rich.table import Table
from scipy import stats
from sklearn.datasets import load_digits

import jaxact
from benchmarks.pages import DOCS, markdown_table, write_section
from benchmarks.results import interval, save
from jaxact import plasticity

#: For each run a number, or a row of them: a curve over `POINTS` equal parts of the stream.
Figures = dict[str, np.ndarray]

POINTS = 20


def _nothing(
    report: jaxact.Report, params: Any, opt_state: Any, state: Any, key: jax.Array
) -> tuple[Any, Any, Any]:
    return params, opt_state, state


#: Nothing is done for the units.
NONE = plasticity.Method(lambda params: plasticity.State(jnp.zeros(()), {}), _nothing)


@dataclasses.dataclass(frozen=True)
class Learner:
    """An activation, and what brings its units back.

    Attributes:
      name: as the table has it.
      activation: of the hidden layers; None for a linear map, without hidden layers.
      method: what is done with each report.
      outputs: how many values the activation makes of one.
    """

    name: str
    activation: Callable[[jax.Array], jax.Array] | None = jaxact.relu
    method: plasticity.Method = NONE
    outputs: int = 1


def of_all(run: Callable[[jax.Array], dict[str, jax.Array]], runs: int) -> Figures:
    """The figures of all runs, which are computed at once."""
    order: list[str] = []

    def listed(key: jax.Array) -> list[jax.Array]:
        figures = run(key)
        order[:] = figures  # A dict would come back sorted.
        return list(figures.values())

    keys = jax.random.split(jax.random.key(0), runs)
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam wants it.
        values = jax.jit(jax.vmap(listed))(keys)
    return dict(zip(order, map(np.asarray, values), strict=True))


def look(model: Callable[..., jax.Array], params: Any, x: jax.Array) -> jaxact.Report:
    """What the probe sees; of a linear map, nothing, and that is no mistake."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "probe: no activation was found")
        return jaxact.probe(model)(params, x)[1]


def dead_units(report: jaxact.Report) -> jax.Array:
    """The share of dead units, the mean of all layers; of none it is 0."""
    shares = [site.dead.astype(jnp.float32).mean() for site in report.records]
    return jnp.stack(shares).mean() if shares else jnp.zeros(())


def curve(values: jax.Array) -> jax.Array:
    """Means of equal parts of the stream; of a short one, the values."""
    parts = min(POINTS, len(values))
    return values[: len(values) // parts * parts].reshape(parts, -1).mean(1)


# ------------------------------------------------------------------------------------------------
# Slowly-changing regression.


@dataclasses.dataclass(frozen=True)
class Regression:
    """The problem's sizes: those of the paper."""

    runs: int = 300
    tasks: int = 20
    steps: int = 10_000
    look: int = 100
    bits: int = 20
    slow: int = 15
    target: int = 100
    hidden: int = 5
    threshold: float = 0.7
    rate: float = 0.01


REGRESSION = (
    Learner("relu"),
    Learner("leaky_relu, slope 0.01", jaxact.leaky_relu),
    Learner("leaky_relu, slope 0.3", lambda x: jaxact.leaky_relu(x, 0.3)),
    Learner("elu", jaxact.elu),
    Learner("relu, redo(every=10)", method=plasticity.redo(every=10)),
    Learner(
        "relu, continual_backprop(replacement_rate=0.01, decay=0.9, maturity=10)",
        method=plasticity.continual_backprop(replacement_rate=0.01, decay=0.9, maturity=10),
    ),
    Learner("relu, self_normalized_resets()", method=plasticity.self_normalized_resets()),
    Learner(
        "relu, self_normalized_resets(rejection=0.001)",
        method=plasticity.self_normalized_resets(rejection=0.001),
    ),
    Learner("linear", None),
)


def regression(learner: Learner, problem: Regression) -> Figures:
    """Each run's errors, and shares of dead units."""
    size = problem.bits + 1
    optimizer = optax.sgd(problem.rate)

    def model(params: Any, x: jax.Array) -> jax.Array:
        if learner.activation is not None:
            x = learner.activation(x @ params["in"] + params["bias"][None])
        return (x @ params["out"])[:, 0] + params["shift"]

    def run(key: jax.Array) -> dict[str, jax.Array]:
        of_target, of_learner, of_data, of_method, of_start = jax.random.split(key, 5)
        weights = jax.random.rademacher(of_target, (size, problem.target), jnp.float32)
        signs = jax.random.rademacher(
            jax.random.fold_in(of_target, 1), (problem.target,), jnp.float32
        )
        threshold = size * problem.threshold - (weights < 0).sum(0).astype(jnp.float32)

        def target(x: jax.Array) -> jax.Array:
            return (x @ weights > threshold[None]).astype(jnp.float32) @ signs

        def inputs(key: jax.Array, slow: jax.Array, count: int) -> jax.Array:
            """Of a task; NaN stands for a slow bit that is random."""
            bits = jax.random.bernoulli(key, 0.5, (count, problem.bits)).astype(jnp.float32)
            bits = bits.at[:, : problem.slow].set(
                jnp.where(jnp.isnan(slow)[None], bits[:, : problem.slow], slow[None])
            )
            return jnp.concatenate([bits, jnp.ones((count, 1))], 1)

        def step(carry: Any, example: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            params, opt_state = carry
            x, y = example

            def loss(params: Any) -> jax.Array:
                return ((model(params, x[None])[0] - y) ** 2).sum()

            error, gradient = jax.value_and_grad(loss)(params)
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (optax.apply_updates(params, updates), opt_state), error

        def until_a_look(carry: Any, number: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            params, opt_state, state, slow = carry
            key, which = jax.random.split(jax.random.fold_in(of_data, number))
            flipped = jnp.arange(problem.slow) == jax.random.randint(which, (), 0, problem.slow)
            new_task = (number > 0) & (number % (problem.steps // problem.look) == 0)
            slow = jnp.where(flipped & new_task, 1 - slow, slow)
            x = inputs(key, slow, problem.look)
            (params, opt_state), errors = lax.scan(step, (params, opt_state), (x, target(x)))
            report = look(model, params, x)
            # The line that is another with another method.
            params, opt_state, state = learner.method.update(
                report, params, opt_state, state, of_method
            )
            return (params, opt_state, state, slow), (errors.mean(), dead_units(report))

        he_normal = jaxact.initializers.he_normal()
        params = {"shift": jnp.zeros(())}
        if learner.activation is None:
            params |= {"out": jnp.zeros((size, 1))}
        else:
            params |= {
                "in": he_normal(of_learner, (size, problem.hidden)),
                "bias": jnp.zeros(problem.hidden),
                "out": he_normal(jax.random.fold_in(of_learner, 1), (problem.hidden, 1)),
            }
        slow = jax.random.bernoulli(of_start, 0.5, (problem.slow,)).astype(jnp.float32)
        start = params, optimizer.init(params), learner.method.init(params), slow
        looks = problem.tasks * problem.steps // problem.look
        (params, _, _, slow), (errors, dead_since) = lax.scan(
            until_a_look, start, jnp.arange(looks)
        )

        def dead(slow: jax.Array) -> jax.Array:
            return dead_units(look(model, params, inputs(of_data, slow, 2000)))

        share = max(1, looks // 20)
        return {
            "error in the first 5%": errors[:share].mean(),
            "in the last 5%": errors[-share:].mean(),
            "change": errors[-share:].mean() - errors[:share].mean(),
            "dead in the last task": 100 * dead(slow),
            "dead on all inputs": 100 * dead(jnp.full_like(slow, jnp.nan)),
            "error by time": curve(errors),
            "dead by time": 100 * curve(dead_since),
        }

    return of_all(run, problem.runs)


# ------------------------------------------------------------------------------------------------
# Online permuted digits.


@dataclasses.dataclass(frozen=True)
class Digits:
    """The problem's sizes."""

    runs: int = 10
    tasks: int = 200
    batch: int = 16
    hidden: int = 64
    layers: int = 3
    rate: float = 3e-3


DIGITS = (
    Learner("relu"),
    Learner("leaky_relu, slope 0.01", jaxact.leaky_relu),
    Learner("crelu, half the units", jaxact.crelu, outputs=2),
    Learner("relu, redo(every=1)", method=plasticity.redo(every=1)),
    Learner(
        "relu, continual_backprop(replacement_rate=0.01, decay=0.9, maturity=10)",
        method=plasticity.continual_backprop(replacement_rate=0.01, decay=0.9, maturity=10),
    ),
    Learner(
        "relu, continual_backprop(replacement_rate=0.05, decay=0.5, maturity=1)",
        method=plasticity.continual_backprop(replacement_rate=0.05, decay=0.5, maturity=1),
    ),
    Learner("relu, self_normalized_resets()", method=plasticity.self_normalized_resets()),
    Learner("linear", None),
)


def digits(learner: Learner, problem: Digits) -> Figures:
    """Each run's online accuracy, in percent, and dead units."""
    images, labels = load_digits(return_X_y=True)
    images = (images - images.mean()) / images.std()
    length = len(images) // problem.batch * problem.batch
    x, y = jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32)
    optimizer = optax.adam(problem.rate)
    units = problem.hidden // learner.outputs
    layers = 0 if learner.activation is None else problem.layers

    def model(params: Any, x: jax.Array) -> jax.Array:
        *hidden, last = params
        for layer in hidden:
            assert learner.activation is not None
            x = learner.activation(x @ layer["w"] + layer["b"][None])
        return x @ last["w"] + last["b"][None]

    def run(key: jax.Array) -> dict[str, jax.Array]:
        of_learner, of_data, of_method = jax.random.split(key, 3)
        he_normal = jaxact.initializers.he_normal()
        sizes = [x.shape[1], *[problem.hidden] * layers]
        params = [
            {"w": he_normal(k, (size, after)), "b": jnp.zeros(after)}
            for k, size, after in zip(
                jax.random.split(of_learner, len(sizes)),
                sizes,
                [*[units] * layers, 10],
                strict=True,
            )
        ]

        def step(carry: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            params, opt_state = carry
            x, y = batch

            def loss(params: Any) -> tuple[jax.Array, jax.Array]:
                logits = model(params, x)
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
                return losses.mean(), (logits.argmax(-1) == y).astype(jnp.float32).mean()

            gradient, right = jax.grad(loss, has_aux=True)(params)
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (optax.apply_updates(params, updates), opt_state), right

        def task(carry: Any, number: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            params, opt_state, state = carry
            pixels, order = jax.random.split(jax.random.fold_in(of_data, number))
            chosen = jax.random.permutation(order, len(x))[:length]
            xs, ys = x[chosen][:, jax.random.permutation(pixels, x.shape[1])], y[chosen]
            batches = (
                xs.reshape(-1, problem.batch, x.shape[1]),
                ys.reshape(-1, problem.batch),
            )
            (params, opt_state), right = lax.scan(step, (params, opt_state), batches)
            report = look(model, params, xs)
            # The line that is another with another method.
            params, opt_state, state = learner.method.update(
                report, params, opt_state, state, of_method
            )
            return (params, opt_state, state), (right.mean(), dead_units(report))

        start = params, optimizer.init(params), learner.method.init(params)
        _, (right, dead) = lax.scan(task, start, jnp.arange(problem.tasks))
        share = max(1, problem.tasks // 10)
        return {
            "all tasks": 100 * right.mean(),
            "first tenth": 100 * right[:share].mean(),
            "last tenth": 100 * right[-share:].mean(),
            "dead in the last tenth": 100 * dead[-share:].mean(),
            "accuracy by time": 100 * curve(right),
            "dead by time": 100 * curve(dead),
        }

    return of_all(run, problem.runs)


# ------------------------------------------------------------------------------------------------
# The tables.


def shown(values: np.ndarray) -> str:
    """The mean over the runs, with its 95% interval."""
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1) if len(values) > 1 else np.nan
    return f"{values.mean():.3f} ± {half:.3f}"


def rows(results: dict[str, Figures]) -> tuple[list[str], list[list[str]]]:
    """Header and rows."""
    numbers = [name for name, values in next(iter(results.values())).items() if values.ndim == 1]
    return ["learner", *numbers], [
        [learner, *(shown(figures[name]) for name in numbers)]
        for learner, figures in results.items()
    ]


def saved(results: dict[str, Figures]) -> dict[str, Any]:
    """What is saved of each learner: the runs' numbers, and [mean, low, high] of curves."""
    return {
        learner: {
            name: values if values.ndim == 1 else [list(interval(point)) for point in values.T]
            for name, values in figures.items()
        }
        for learner, figures in results.items()
    }


def document(results: dict[str, Figures], problem: Regression | Digits, seconds: float) -> str:
    """A table of the documentation."""
    header, body = rows(results)
    lines = [
        f"Written by `python -m benchmarks.plasticity --docs`. {problem.runs} runs, JAX "
        f"{jax.__version__}, {datetime.date.today()}, {seconds / 60:.1f} minutes. Means over the "
        "runs with their 95% intervals.",
        "",
        *markdown_table(header, body),
    ]
    return "\n".join(lines)


QUICK = (
    Regression(runs=3, tasks=20, steps=100, look=50),
    Digits(runs=2, tasks=2, hidden=8, layers=1),
)
PARTS = ("regression", "digits")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--docs", action="store_true", help="write the tables into the docs")
    parser.add_argument("--save", action="store_true", help="save the runs' figures")
    parser.add_argument("--only", choices=PARTS, help="one of the two problems")
    options = parser.parse_args(arguments)
    first, second = QUICK if options.quick else (Regression(), Digits())
    console = Console()
    if not console.is_terminal:
        console.width = 160
    parts: dict[str, tuple[Sequence[Learner], Callable[[Learner], Figures], Any]] = {
        "regression": (REGRESSION, lambda learner: regression(learner, first), first),
        "digits": (DIGITS, lambda learner: digits(learner, second), second),
    }
    for name, (learners, measure, problem) in parts.items():
        if options.only not in (None, name):
            continue
        start = time.perf_counter()
        results = {}
        for learner in learners:
            with console.status(f"{name}: {learner.name}"):
                results[learner.name] = measure(learner)
        seconds = time.perf_counter() - start
        header, body = rows(results)
        table = Table(*header, title=f"{name}, {problem.runs} runs, {seconds:.0f} s")
        for row in body:
            table.add_row(*row)
        console.print(table)
        if options.docs:
            write_section(DOCS / "plasticity.md", name, document(results, problem, seconds))
        if options.save:
            command = f"python -m benchmarks.plasticity --save --only {name}"
            save(f"plasticity_{name}", saved(results), command=command, seconds=seconds)


if __name__ == "__main__":
    main()
