"""Any JAX model with its own loss and data, trained with other activations."""

import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxact._errors import CompareError
from jaxact._probe.probe import Probed
from jaxact._probe.swap import swap
from jaxact.compare.activations import as_function, is_learned
from jaxact.compare.model import BATCHES, SLOPES, WEIGHTS, key
from jaxact.compare.settings import Settings
from jaxact.compare.study import Figures, Study, best_epochs

Loss = Callable[[Any, Any], jax.Array]


def models(
    loss: Loss,
    params: Any,
    batches: Iterable[Any],
    *,
    activations: Sequence[str],
    replace: str = "relu",
    test: Iterable[Any] | None = None,
    seeds: int = 8,
    epochs: int = 10,
    optimizer: optax.GradientTransformation | None = None,
    margin: float = 0.0,
) -> Study:
    """Compare activations in a model of yours, with your own loss and data.

    The model is not edited: `jaxact.swap` replaces its activations inside ``loss``. All seeds train
    in one vmapped step. A seed is the order of the batches, and the initial weights where
    ``params`` is a function of a key.

    Args:
      loss: ``(params, batch)`` to a scalar, the mean loss of a batch.
      params: a tree of arrays; or a function of a PRNG key that makes one.
      batches: trees of arrays, all of the same shapes. The last fifth of them, two at least, is not
        trained on: half of it chooses the best epoch, the other half is the test.
      activations: names as for `jaxact.get`; the others are compared with the first.
      replace: which activations are replaced, as for `jaxact.swap`.
      test: further batches for the test; the last fifth then only chooses the epoch.
      seeds: how many networks are trained for each activation.
      epochs: passes over the training batches.
      optimizer: ``optax.adam(1e-3)`` by default.
      margin: a difference of the loss up to which activations are practically equal.

    Returns:
      A finished study, whose score is the test loss; the smaller the better. `conclude` says it in
      words, `render` shows the table.

    Raises:
      CompareError: the loss is no scalar, there are fewer than four batches or their shapes differ,
        or nothing matches ``replace``.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from jaxact import compare
      >>> def loss(params, batch):
      ...     x, y = batch
      ...     return jnp.mean((jax.nn.relu(x @ params["a"]) @ params["b"] - y) ** 2)
      >>> def params(key):
      ...     return {"a": jax.random.normal(key, (3, 16)), "b": jnp.zeros((16, 1))}
      >>> x = jax.random.normal(jax.random.key(0), (10, 32, 3))
      >>> study = compare.models(loss, params, list(zip(x, x[..., :1] ** 2)),
      ...                        activations=["relu", "gelu"], seeds=4, epochs=2)
      >>> sorted(cell.label for cell in study.figures)
      ['gelu', 'relu']
    """
    settings = Settings(activations=tuple(activations), seeds=seeds, epochs=epochs)
    parts = _parts(list(batches), None if test is None else list(test))
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    example = jax.tree.map(lambda leaf: leaf[0], parts[0])
    study = Study(_configuration(settings, replace, parts, margin), settings.cells)
    for cell in settings.cells:
        arm = _Arm(loss, params, optimizer, cell.arm, replace, example)
        study.figures[cell] = _train(arm, settings, parts)
    return study


class _Arm:
    """One activation's networks, as functions of arrays."""

    def __init__(
        self,
        loss: Loss,
        params: Any,
        optimizer: optax.GradientTransformation,
        activation: str,
        replace: str,
        example: Any,
    ):
        self.activation, self.replace = activation, replace
        self._loss, self._params, self._optimizer = loss, params, optimizer
        self._example = example
        try:
            scalar = jax.eval_shape(
                lambda: self.value(self.init(jnp.uint32(0))[0], example, jax.random.key(0))
            )
        except (TypeError, ValueError) as error:
            raise CompareError(f"models: {' '.join(str(error).split())}") from error
        if scalar.shape:
            raise CompareError(f"models: loss must return a scalar; its shape is {scalar.shape}.")

    def init(self, seed: jax.Array) -> tuple[Any, Any]:
        """Parameters and optimizer state."""
        params = self._params
        if callable(params):
            params = params(key(seed, WEIGHTS))
        params = jax.tree.map(jnp.asarray, params)
        slopes = {}
        if is_learned(self.activation):
            slopes = self._swapped(None).init(params, self._example)
        everything = {"model": params, "slopes": slopes}
        return everything, self._optimizer.init(everything)

    def value(self, params: Any, batch: Any, random: jax.Array | None) -> jax.Array:
        """The loss; with random slopes if there is a key."""
        slopes = [params["slopes"]] if is_learned(self.activation) else []
        return self._swapped(random)(*slopes, params["model"], batch)

    def step(self, state: tuple[Any, Any], batch: Any, random: jax.Array) -> tuple[Any, Any]:
        params, optimizer = state
        gradient = jax.grad(self.value)(params, batch, random)
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer = self._optimizer.update(gradient, optimizer, params)
        return optax.apply_updates(params, updates), optimizer

    def watch(self, params: Any, batch: Any) -> tuple[jax.Array, list[jax.Array]]:
        """The loss, and which units are dead on a batch."""
        value, report = Probed(lambda batch: self.value(params, batch, None)).quietly(batch)
        return value, [site.dead.reshape(-1) for site in report.records]

    def _swapped(self, random: jax.Array | None) -> Any:
        if is_learned(self.activation):
            return swap(self._loss, {self.replace: self.activation})
        return swap(self._loss, {self.replace: as_function(self.activation, {}, random)})


def _train(arm: _Arm, settings: Settings, parts: tuple[Any, Any, Any]) -> Figures:
    start = time.perf_counter()
    training, validation, test = parts
    seeds = jnp.arange(settings.seeds, dtype=jnp.uint32)
    state = jax.jit(jax.vmap(arm.init))(seeds)
    count = len(jax.tree.leaves(training)[0])

    def each(state: Any, seed: jax.Array, number: jax.Array, i: jax.Array) -> Any:
        order = jax.random.permutation(
            jax.random.fold_in(key(seed, BATCHES), number // count), count
        )
        batch = jax.tree.map(lambda leaf: leaf[order[i]], training)
        return arm.step(state, batch, jax.random.fold_in(key(seed, SLOPES), number))

    step = jax.jit(jax.vmap(each, in_axes=(0, 0, None, None)), donate_argnums=0)

    watch = jax.jit(jax.vmap(arm.watch, in_axes=(0, None)))

    def watched(part: Any) -> tuple[np.ndarray, list[np.ndarray]]:
        """Each network's mean loss, and the units that are dead on all batches of a part."""
        batches = range(len(jax.tree.leaves(part)[0]))
        each = [watch(state[0], jax.tree.map(lambda leaf, i=i: leaf[i], part)) for i in batches]
        losses, dead = zip(*each, strict=True)
        layers = [np.all(layer, 0) for layer in zip(*dead, strict=True)]
        return np.asarray(np.mean(losses, 0, dtype=np.float64)), layers

    losses: dict[str, list[Any]] = {"train": [], "validation": [], "test": []}
    by_layer, dead = [], []
    for epoch in range(settings.epochs):
        for i in range(count):
            state = step(state, seeds, np.uint32(epoch * count + i), np.int32(i))
        for name, part in zip(losses, (training, validation, test), strict=True):
            mean, found = watched(part)
            losses[name].append(mean)
            if name == "train":
                dead = found
        by_layer.append([100 * layer.mean(1) for layer in dead])
    curves = {f"{name}_loss": np.stack(values, 1) for name, values in losses.items()}
    best = best_epochs(curves["validation_loss"])
    final = curves["train_loss"][:, -1]
    diverged = ~np.isfinite(final)
    slopes = [
        np.asarray(s).reshape(len(seeds), -1).mean(1) for s in jax.tree.leaves(state[0]["slopes"])
    ]
    share = 100 * np.concatenate(dead, 1).mean(1) if dead else np.zeros(len(seeds))
    return Figures(
        scores={"loss": curves["test_loss"][np.arange(len(seeds)), best]},
        best_epoch=best + 1,
        final_train_loss=final,
        dead_units_percent=np.where(diverged, np.nan, share),
        curves=curves,
        dead_by_layer=np.array(by_layer).transpose(2, 0, 1)
        if dead
        else np.zeros((len(seeds), settings.epochs, 0)),
        learned_slopes=np.stack(slopes, 1) if slopes else np.zeros((len(seeds), 0)),
        learning_rate=np.nan,
        tuned={},
        seconds=time.perf_counter() - start,
    )


def _parts(batches: list[Any], test: list[Any] | None) -> tuple[Any, Any, Any]:
    """Training, validation and test batches, each stacked."""
    held = max(len(batches) // 5, 2 if test is None else 1)
    if len(batches) - held < (2 if test is None else 1) or (test is not None and not test):
        raise CompareError(
            f"models: {len(batches)} batches are too few; give four or more, of which some are "
            "held out."
        )
    shapes = {str(jax.tree.map(jnp.shape, batch)) for batch in (*batches, *(test or ()))}
    if len(shapes) > 1:
        one, other, *_ = sorted(shapes)
        raise CompareError(f"models: batches must have the same shapes; got {one} and {other}.")

    def stacked(part: list[Any]) -> Any:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *part)

    training, rest = batches[:-held], batches[-held:]
    if test is None:
        half = len(rest) // 2
        return stacked(training), stacked(rest[:half]), stacked(rest[half:])
    return stacked(training), stacked(rest), stacked(test)


def _configuration(
    settings: Settings, replace: str, parts: tuple[Any, Any, Any], margin: float
) -> dict[str, Any]:
    counts = [len(jax.tree.leaves(part)[0]) for part in parts]
    names = ("training", "validation", "test")
    return {
        "activations": list(settings.activations),
        "seeds": settings.seeds,
        "splits": 1,
        "epochs": settings.epochs,
        "widths": [],
        "learning_rate": None,
        "dtype": "float32",
        "model": "own",
        "replace": replace,
        "task": "loss",
        "margin": margin,
        "sweeps": [],
        "tune": [],
        "data": {
            "source": "batches",
            "target": None,
            "samples": sum(counts),
            "features": 0,
            "classes": 0,
            **{f"{name}_samples": count for name, count in zip(names, counts, strict=True)},
            "baseline": {},
            "columns": [],
        },
        "versions": {"jaxact": version("jaxact"), "jax": jax.__version__},
        "device": {"platform": jax.devices()[0].platform, "kind": jax.devices()[0].device_kind},
    }
