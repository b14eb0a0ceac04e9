"""Training of one arm: an activation, with all seeds at once.

A seed determines three streams of random numbers: the initial weights, the order of the batches,
and the slopes of a random activation. They are separate, so the first two are the same in every
arm. All seeds advance in one step: ``shard_map``ped over the devices, ``vmap``ped on each. A device
runs what it would run alone with its seeds; none hears of another.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

from jaxact._errors import CompareError
from jaxact.compare import model
from jaxact.compare.data import Split

DEFAULT_ACTIVATIONS = ("relu", "leaky_relu:0.01", "leaky_relu:0.2", "prelu", "rrelu", "elu", "gelu")
DTYPES = ("float32", "bfloat16", "float16")

#: Samples that are evaluated at a time, which bounds the memory.
_CHUNK = 2048
_WEIGHTS, _BATCHES, _SLOPES = range(3)

#: The seeds of an axis spread over the devices; every device has all of an array.
_SEEDS, _ALL = P("seeds"), P()


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained, and how.

    Args:
      activations: the arms, by names as for `jaxact.get`; the others are compared with the first.
      seeds: how many networks are trained for each arm.
      epochs: passes over the training samples.
      widths: the sizes of the hidden layers.
      learning_rate: Adam's learning rate.
      batch_size: the samples of a batch; all training samples where there are fewer.
      dtype: the dtype in which the network computes; its parameters are float32.

    Raises:
      CompareError: a value cannot be used.
    """

    activations: tuple[str, ...] = DEFAULT_ACTIVATIONS
    seeds: int = 16
    epochs: int = 25
    widths: tuple[int, ...] = (128, 128)
    learning_rate: float = 1e-3
    batch_size: int = 64
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise CompareError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not self.widths or min(self.widths) < 1:
            raise CompareError(
                "widths must be at least 1, for one or more hidden layers; got "
                f"{','.join(map(str, self.widths)) or 'none'}."
            )
        if not 0 < self.learning_rate < float("inf"):
            raise CompareError(
                f"the learning rate must be positive and finite, got {self.learning_rate:g}."
            )
        if self.dtype not in DTYPES:
            raise CompareError(f"dtype must be one of {', '.join(DTYPES)}; got {self.dtype!r}.")
        if not self.activations:
            raise CompareError("no activation is given.")
        if "" in self.activations:
            raise CompareError("the list of activations has an empty name.")
        for position, activation in enumerate(self.activations):
            if activation in self.activations[:position]:
                raise CompareError(f"activation {activation!r} is given twice.")
            model.check_activation(activation)


class Curves(NamedTuple):
    """Figures after each epoch, ``(seeds, epochs)``. Losses are means over a part's samples."""

    train_loss: np.ndarray
    validation_loss: np.ndarray
    validation_accuracy: np.ndarray
    test_accuracy: np.ndarray


# What a field of `Arm` holds, which is also its part in results.json. Storing, reading, joining and
# summarising an arm follow from these.
_PER_SEED, _CURVES, _TIMING = ({"part": part} for part in ("per_seed", "curves", "timing"))
#: Summaries have its mean over the seeds; a time, which all seeds share, as it is.
_MEAN = {"mean": True}


@dataclasses.dataclass(frozen=True)
class Arm:
    """What came out of one arm's training; an entry for each seed.

    Another measured quantity is a field here (or of `Curves`), its measurement in `train`, and a
    row of `jaxact.compare.report.COLUMNS` if the table is to show it.

    Args:
      test_accuracy: the share of right answers in the best epoch.
      best_epoch: the epoch of the lowest validation loss, counted from 1.
      final_train_loss: after the last epoch.
      dead_units_percent: of the hidden units, those whose slope is exactly 0 on every training
        sample, after the last epoch.
      curves: the figures of each epoch.
      ms_per_step: the time of one step of all seeds together, the median over the epochs after the
        first; None if there is one epoch only.
      seconds: the time of the whole arm, with compilation.
    """

    test_accuracy: np.ndarray = dataclasses.field(metadata=_PER_SEED)
    best_epoch: np.ndarray = dataclasses.field(metadata=_PER_SEED | {"dtype": int})
    final_train_loss: np.ndarray = dataclasses.field(metadata=_PER_SEED)
    dead_units_percent: np.ndarray = dataclasses.field(metadata=_PER_SEED | _MEAN)
    curves: Curves = dataclasses.field(metadata=_CURVES)
    ms_per_step: float | None = dataclasses.field(metadata=_TIMING | _MEAN)
    seconds: float = dataclasses.field(metadata=_TIMING)


class State(NamedTuple):
    """The networks: every leaf has a leading axis of seeds, which is spread over the devices."""

    parameters: Any
    rest: Any
    optimizer: Any


class Trainer:
    """The jitted computations of one arm.

    Args:
      activation: the activation's name.
      settings: what is trained, and how.
      data: the samples.
      seeds: the networks' seeds; the settings' seeds by default.
      devices: devices of this process, each of which trains as many seeds; the process's first
        device by default.
    """

    def __init__(
        self,
        activation: str,
        settings: Settings,
        data: Split,
        seeds: range | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.activation = activation
        self.settings = settings
        self.data = data
        self.mesh = Mesh(
            np.array(devices or jax.local_devices()[:1]), ("seeds",), axis_types=(AxisType.Auto,)
        )
        self.sizes = (data.features.shape[1], *settings.widths, data.classes)
        self.batch_size = min(settings.batch_size, data.sizes[0])
        self.steps = data.sizes[0] // self.batch_size
        self.optimizer = optax.adam(settings.learning_rate)
        self.graph = nnx.graphdef(jax.eval_shape(self._network, jnp.uint32(0)))
        self.seeds = self._put(np.array(seeds or range(settings.seeds), np.uint32), _SEEDS)
        self.features = self._put(data.features, _ALL)
        self.labels = self._put(data.labels, _ALL)
        spread = functools.partial(_spread, self.mesh, _SEEDS)
        self.step = spread(self._step, _SEEDS, P(None, *_SEEDS), _ALL, _ALL, _ALL, donate_argnums=0)
        self._evaluate = spread(self._evaluate_chunk, _SEEDS, _SEEDS, _ALL, _ALL)
        self._alive = spread(self._alive_in_chunk, _SEEDS, _SEEDS, _ALL)

    def init(self) -> State:
        """The networks before training."""

        def init(seed: jax.Array) -> State:
            parameters, rest = nnx.state(self._network(seed), nnx.Param, ...)
            return State(parameters, rest, self.optimizer.init(parameters))

        # Not jitted as a whole: the generators inside are jitted, and compile once for all arms.
        # Nor computed on the devices, for which the generators would compile again.
        return self._put(jax.vmap(init)(jnp.asarray(np.asarray(self.seeds))), _SEEDS)

    def batches(self, epoch: int) -> jax.Array:
        """The training samples of each batch, ``(steps, seeds, batch)``; the last samples of the
        shuffle, which do not fill a batch, are left out."""
        batches = _batches(self.mesh, self.data.sizes[0], self.batch_size)
        return batches(self.seeds, np.uint32(epoch))

    def evaluate(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Each sample's loss, and whether its answer is right, ``(seeds, samples)``."""
        chunks = [
            self._evaluate(state.parameters, state.rest, self.features[i], self.labels[i])
            for i in _chunks(len(self.labels))
        ]
        loss, right = (np.concatenate(parts, 1) for parts in zip(*chunks, strict=True))
        return loss[:, : len(self.labels)], right[:, : len(self.labels)]

    def dead_units(self, state: State) -> np.ndarray:
        """Whether a hidden unit's slope is 0 on every training sample, ``(seeds, units)``."""
        alive = [
            self._alive(state.parameters, state.rest, self.features[i])
            for i in _chunks(self.data.sizes[0])
        ]
        return ~np.any(alive, 0)

    def _put(self, value: Any, spec: P) -> Any:
        return jax.device_put(value, NamedSharding(self.mesh, spec))

    def _network(self, seed: jax.Array) -> model.MLP:
        return model.MLP(
            self.activation,
            self.sizes,
            dtype=jnp.dtype(self.settings.dtype),
            weights_key=_key(seed, _WEIGHTS),
            activation_key=_key(seed, _SLOPES),
        )

    def _step(
        self, state: State, batches: jax.Array, i: jax.Array, x: jax.Array, y: jax.Array
    ) -> State:
        def step(state: State, batch: jax.Array) -> State:
            def loss(parameters: Any) -> tuple[jax.Array, Any]:
                network = nnx.merge(self.graph, parameters, state.rest, copy=True)
                logits = network(x[batch], deterministic=False)
                return _loss(logits, y[batch]).mean(), nnx.state(network, nnx.Param, ...)[1]

            gradient, rest = jax.grad(loss, has_aux=True)(state.parameters)
            with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats and counters
                updates, optimizer = self.optimizer.update(
                    gradient, state.optimizer, state.parameters
                )
                return State(optax.apply_updates(state.parameters, updates), rest, optimizer)

        return jax.vmap(step)(state, batches[i])

    def _evaluate_chunk(
        self, parameters: Any, rest: Any, x: jax.Array, y: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        def evaluate(parameters: Any, rest: Any) -> tuple[jax.Array, jax.Array]:
            logits = nnx.merge(self.graph, parameters, rest)(x, deterministic=True)
            return _loss(logits, y), logits.argmax(-1) == y

        return jax.vmap(evaluate)(parameters, rest)

    def _alive_in_chunk(self, parameters: Any, rest: Any, x: jax.Array) -> jax.Array:
        def alive(parameters: Any, rest: Any) -> jax.Array:
            slopes = nnx.merge(self.graph, parameters, rest).slopes(x)
            return jnp.concatenate([(s != 0).any(0) for s in slopes])

        return jax.vmap(alive)(parameters, rest)


def train(
    activation: str,
    settings: Settings,
    data: Split,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    seeds: range | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Arm:
    """Train one arm and evaluate it after each epoch.

    Args:
      activation: the activation's name.
      settings: what is trained, and how (the other activations do not matter).
      data: the samples.
      on_epoch: called with the number of finished epochs.
      seeds: the networks' seeds; the settings' seeds by default.
      devices: devices of this process, each of which trains as many seeds; the process's first
        device by default.
    """
    start = time.perf_counter()
    trainer = Trainer(activation, settings, data, seeds, devices)
    state = trainer.init()
    arguments = (trainer.features[data.training], trainer.labels[data.training])
    step = trainer.step.lower(state, trainer.batches(0), np.int32(0), *arguments).compile()
    history, times = [], []
    for epoch in range(settings.epochs):
        batches = jax.block_until_ready(trainer.batches(epoch))
        begin = time.perf_counter()
        for i in range(trainer.steps):
            state = step(state, batches, np.int32(i), *arguments)
        jax.block_until_ready(state)
        times.append((time.perf_counter() - begin) / trainer.steps)
        loss, right = trainer.evaluate(state)
        history.append(
            Curves(
                train_loss=loss[:, data.training].mean(1, dtype=np.float64),
                validation_loss=loss[:, data.validation].mean(1, dtype=np.float64),
                validation_accuracy=right[:, data.validation].mean(1),
                test_accuracy=right[:, data.test].mean(1),
            )
        )
        on_epoch(epoch + 1)
    curves = Curves(*np.stack(history, -1))
    # A network that diverged has no loss to choose by: its first epoch is as good as any.
    choice = np.where(np.isnan(curves.validation_loss), np.inf, curves.validation_loss).argmin(1)
    return Arm(
        test_accuracy=curves.test_accuracy[np.arange(len(choice)), choice],
        best_epoch=choice + 1,
        final_train_loss=curves.train_loss[:, -1],
        dead_units_percent=100 * trainer.dead_units(state).mean(1),
        curves=curves,
        ms_per_step=float(np.median(times[1:])) * 1e3 if times[1:] else None,
        seconds=time.perf_counter() - start,
    )


def _loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)


def _key(seed: jax.Array, stream: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), stream)


def _spread(
    mesh: Mesh, out: P, function: Callable, *arguments: P, **options: Any
) -> jax.stages.Wrapped:
    """Jit a function that runs on each device with what that device has of the arguments."""
    # Unchecked, each device runs exactly what one device alone would: nothing is inserted to track
    # what differs between devices, which is everything that is trained.
    local = jax.shard_map(function, mesh=mesh, in_specs=arguments, out_specs=out, check_vma=False)
    # Without out_shardings, one device returns P(), and the next step would compile again.
    return jax.jit(local, out_shardings=NamedSharding(mesh, out), **options)


@functools.cache  # compiled once for all arms
def _batches(mesh: Mesh, samples: int, batch_size: int) -> jax.stages.Wrapped:
    def batches(seed: jax.Array, epoch: jax.Array) -> jax.Array:
        key = jax.random.fold_in(_key(seed, _BATCHES), epoch)
        order = jax.random.permutation(key, samples)
        return order[: samples - samples % batch_size].reshape(-1, batch_size)

    each = jax.vmap(batches, in_axes=(0, None), out_axes=1)
    return _spread(mesh, P(None, *_SEEDS), each, _SEEDS, _ALL)


def _chunks(samples: int) -> np.ndarray:
    """Indices of all samples in rows of one length, the last sample repeated as filling."""
    count = -(-samples // _CHUNK)
    length = -(-samples // count)
    return np.minimum(np.arange(count * length), samples - 1).reshape(count, length)
