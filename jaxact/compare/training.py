"""Training: all networks of one compiled program at once.

A program trains the cells of a study that have an activation and all shapes in common, at all their
learning rates and values of the activation's parameters, from all seeds, on all splits: these are
operands. So a point of ``lr`` or of a slope costs no compilation, and a width, depth, dtype or
number of samples one.

A seed determines three streams of random numbers: the initial weights, the order of the batches,
and the slopes of a random activation. They are separate, so the first two are the same in every
arm. Arrays of networks lead with ``(splits, members)``: the members ``shard_map``ped over the
devices, both axes ``vmap``ped on each. A device runs what it would run alone with its members; none
hears of another.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

from jaxact._probe.probe import Probed
from jaxact.compare import own
from jaxact.compare.activations import Values
from jaxact.compare.data import Split
from jaxact.compare.model import BATCHES, BuiltIn, Model, Network, key
from jaxact.compare.settings import WIDTHS, Settings
from jaxact.compare.study import SCORES, Cell, Figures, best_epochs
from jaxact.compare.tasks import scores

#: Numbers of all networks' inputs that are evaluated at a time, which bounds the memory.
_CHUNK = 1 << 25
_SAMPLES = (64, 2048)
#: Split k's seed s is the seed s + k * this.
_SEEDS_OF_SPLIT = 1 << 16

#: Members spread over the devices; every device has all of an array.
_MEMBERS, _ALL = P(None, "members"), P()


@dataclasses.dataclass(frozen=True)
class Program:
    """Networks that train in one compiled step.

    Args:
      settings: of the study.
      cells: what is trained; alike but for learning rates and swept parameters.
    """

    settings: Settings
    cells: tuple[Cell, ...]

    @property
    def activation(self) -> str:
        return self.cells[0].activation

    @property
    def samples(self) -> int | None:
        """How many training samples; None for all."""
        return self.settings.of(self.cells[0]).samples

    @property
    def networks(self) -> int:
        """How many networks are trained on each split."""
        rates = len(self.settings.of(self.cells[0]).rates)
        return len(self.cells) * rates * self.settings.seeds

    @property
    def label(self) -> str:
        """For people who wait."""
        more = len(self.cells) - 1
        return f"{self.cells[0].label} and {more} more" if more else self.cells[0].label

    def members(self, positions: Sequence[int]) -> "Members":
        """The operands of some of the networks; behind the last one it is repeated."""
        rows = [
            (seed, rate, tuple(sorted(of.values.items())))
            for of in map(self.settings.of, self.cells)
            for rate in of.rates
            for seed in range(self.settings.seeds)
        ]
        chosen = [rows[min(i, len(rows) - 1)] for i in positions]
        names = [name for name, _ in chosen[0][2]]
        return Members(
            np.array([seed for seed, _, _ in chosen], np.uint32),
            np.array([rate for _, rate, _ in chosen], np.float32),
            {n: np.array([v[i][1] for _, _, v in chosen], np.float32) for i, n in enumerate(names)},
        )


class Members(NamedTuple):
    """What networks of one program differ in, each ``(members,)``."""

    seeds: np.ndarray
    rates: np.ndarray
    values: Mapping[str, np.ndarray]


def programs(settings: Settings, cells: Sequence[Cell]) -> list[Program]:
    """The programs that train some cells of a study, in the order of their first cells."""
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        of = settings.of(cell)
        shape = (cell.activation, tuple(sorted(of.values)), of.widths, of.dtype, of.samples)
        groups.setdefault(shape, []).append(cell)
    return [Program(settings, tuple(group)) for group in groups.values()]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What came out of a program, or a part of it, by split and member.

    Args:
      history: the figures after each epoch, ``(splits, members, epochs)``: the losses, all scores
        of the test samples, the first score of the validation samples.
      dead_by_layer: in percent, ``(splits, members, epochs, layers)``.
      dead: in percent of all units, after the last epoch, ``(splits, members)``.
      slopes: the mean learned slope of each layer, ``(splits, members, layers)``.
      seconds: the time, with compilation.
    """

    history: dict[str, np.ndarray]
    dead_by_layer: np.ndarray
    dead: np.ndarray
    slopes: np.ndarray
    seconds: float


class State(NamedTuple):
    """The networks: every leaf leads with ``(splits, members)``."""

    network: Network
    optimizer: Any


class Trainer:
    """The jitted computations of one program.

    Args:
      program: what is trained.
      data: the samples, split by split; all of the same shapes.
      positions: the networks, by number in the program; all by default. Their number must be a
        multiple of the number of devices.
      devices: devices of this process, each of which trains as many; the process's first device by
        default.
    """

    def __init__(
        self,
        program: Program,
        data: Sequence[Split],
        positions: range | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.program = program
        self.data = data
        self.mesh = Mesh(
            np.array(devices or jax.local_devices()[:1]), ("members",), axis_types=(AxisType.Auto,)
        )
        settings, first = program.settings, data[0]
        self.task = "classification" if first.classes else "regression"
        self.training = first.sizes[0]
        self.batch_size = min(settings.batch_size, self.training)
        self.steps = self.training // self.batch_size
        self.members = program.members(positions or range(program.networks))
        self.model = _model(program, first)
        self.optimizer = optax.scale_by_adam()
        count, splits = len(self.members.seeds), len(data)
        seeds = np.arange(splits, dtype=np.uint32)[:, None] * _SEEDS_OF_SPLIT + self.members.seeds
        self.seeds = self._put(seeds, _MEMBERS)
        self.rates = self._put(np.broadcast_to(self.members.rates, (splits, count)), _MEMBERS)
        self.features = self._put(np.stack([s.features for s in data]), _ALL)
        self.targets = self._put(np.stack([s.targets for s in data]), _ALL)
        size = _CHUNK // (count * splits * first.features[0].size)
        self.chunk = int(np.clip(size, *_SAMPLES))
        spread = functools.partial(_spread, self.mesh, _MEMBERS)
        batches = P(None, *_MEMBERS)
        self.step = spread(
            self._step, _MEMBERS, batches, _ALL, _MEMBERS, _ALL, _ALL, donate_argnums=0
        )
        self._evaluate = spread(self._evaluate_chunk, _MEMBERS, _ALL, _ALL)
        self._watch = spread(self._watch_chunk, _MEMBERS, _ALL, _ALL)
        self._slopes = spread(self._learned_slopes, _MEMBERS)

    def init(self) -> State:
        """The networks before training."""
        splits, count = self.seeds.shape
        values = {n: np.tile(v, splits) for n, v in self.members.values.items()}

        def init(seed: jax.Array, values: Values) -> State:
            network = self.model.init(seed, values)
            return State(network, self.optimizer.init(network.parameters))

        # Not jitted as a whole: the generators inside are jitted, and compile once for all arms.
        # Nor computed on the devices, for which the generators would compile again.
        state = jax.vmap(init)(jnp.asarray(np.asarray(self.seeds).ravel()), values)
        shaped = jax.tree.map(lambda leaf: leaf.reshape(splits, count, *leaf.shape[1:]), state)
        return self._put(shaped, _MEMBERS)

    def batches(self, epoch: int) -> jax.Array:
        """The training samples of each batch, ``(steps, splits, members, batch)``; the last samples
        of the shuffle, which do not fill a batch, are left out."""
        batches = _batches(self.mesh, self.training, self.batch_size)
        return batches(self.seeds, np.uint32(epoch))

    def compiled(self, state: State) -> Callable[[State, jax.Array, int], State]:
        """The training step, ``(state, batches, i)`` to the next state; the old one is given up."""
        operands = (self.rates, self.features, self.targets)
        step = self.step.lower(state, self.batches(0), np.int32(0), *operands).compile()
        return lambda state, batches, i: step(state, batches, np.int32(i), *operands)

    def evaluate(self, state: State) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Each sample's loss and prediction, ``(splits, members, samples)``; and for each
        activation, whether a unit's slope is 0 on every training sample, ``(splits, members,
        units)``."""
        total = sum(self.data[0].sizes)
        *watched, dead = self._in_chunks(self._watch, state, 0, self.training)
        others = self._in_chunks(self._evaluate, state, self.training, total)
        loss, predictions = (
            np.concatenate(
                [
                    np.concatenate(ours, 2)[..., : self.training],
                    np.concatenate(theirs, 2)[..., : total - self.training],
                ],
                2,
            )
            for ours, theirs in zip(watched, others, strict=True)
        )
        return loss, predictions, [np.all(chunks, 0) for chunks in zip(*dead, strict=True)]

    def slopes(self, state: State) -> np.ndarray:
        """The mean learned slope of each layer, ``(splits, members, layers)``."""
        found = self._slopes(state.network)
        return np.stack(found, -1) if found else np.zeros((*self.seeds.shape, 0))

    def _put(self, value: Any, spec: P) -> Any:
        return jax.device_put(value, NamedSharding(self.mesh, spec))

    def _in_chunks(self, function: Any, state: State, start: int, stop: int) -> list[Any]:
        results = [
            function(state.network, self.features[:, i], self.targets[:, i])
            for i in start + _chunks(stop - start, self.chunk)
        ]
        return list(zip(*results, strict=True))

    def _step(
        self,
        state: State,
        batches: jax.Array,
        i: jax.Array,
        rates: jax.Array,
        features: jax.Array,
        targets: jax.Array,
    ) -> State:
        def step(
            state: State, batch: jax.Array, rate: jax.Array, x: jax.Array, y: jax.Array
        ) -> State:
            def loss(parameters: Any) -> tuple[jax.Array, Any]:
                network = Network(parameters, state.network.rest)
                outputs, rest = self.model.apply(network, x[batch], train=True)
                return loss_of(self.task, outputs, y[batch]).mean(), rest

            old = state.network.parameters
            gradient, rest = jax.grad(loss, has_aux=True)(old)
            with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats and counters
                updates, optimizer = self.optimizer.update(gradient, state.optimizer, old)
                updates = jax.tree.map(lambda update: -rate * update, updates)
                return State(Network(optax.apply_updates(old, updates), rest), optimizer)

        return _over_networks(step, 3)(state, batches[i], rates, features, targets)

    def _evaluate_chunk(
        self, network: Network, features: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        def evaluate(network: Network, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
            outputs, _ = self.model.apply(network, x, train=False)
            return loss_of(self.task, outputs, y), _prediction(self.task, outputs)

        return _over_networks(evaluate, 1)(network, features, targets)

    def _watch_chunk(
        self, network: Network, features: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
        def watch(
            network: Network, x: jax.Array, y: jax.Array
        ) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
            def outputs(x: jax.Array) -> jax.Array:
                return self.model.apply(network, x, train=False)[0]

            out, report = Probed(outputs).quietly(x)
            dead = [site.dead.reshape(-1) for site in report.records]
            return loss_of(self.task, out, y), _prediction(self.task, out), dead

        return _over_networks(watch, 1)(network, features, targets)

    def _learned_slopes(self, network: Network) -> list[jax.Array]:
        return jax.vmap(jax.vmap(self.model.learned_slopes))(network)


def train(
    program: Program,
    data: Sequence[Split],
    on_epoch: Callable[[int], None] = lambda epoch: None,
    positions: range | None = None,
    devices: Sequence[jax.Device] | None = None,
    keep: Callable[["Trainer", Any, State], None] = lambda trainer, step, state: None,
) -> Trained:
    """Train a program's networks, and evaluate them after each epoch.

    Args:
      program: what is trained.
      data: the samples, split by split.
      on_epoch: called with the number of finished epochs.
      positions: the networks, by number in the program; all by default.
      devices: devices of this process, each of which trains as many; the process's first device by
        default.
      keep: called at the end with what trained: the trainer, its compiled step, the networks.
    """
    start = time.perf_counter()
    trainer = Trainer(program, data, positions, devices)
    state = trainer.init()
    step = trainer.compiled(state)
    history, layers, dead = [], [], np.zeros(0)
    for epoch in range(program.settings.epochs):
        batches = trainer.batches(epoch)
        for i in range(trainer.steps):
            state = step(state, batches, i)
        loss, predictions, found = trainer.evaluate(state)
        history.append(_figures(trainer.task, data, loss, predictions))
        layers.append(_dead_by_layer(found, loss.shape[:2]))
        dead = 100 * _share(found, loss.shape[:2])
        on_epoch(epoch + 1)
    slopes = trainer.slopes(state)
    keep(trainer, step, state)
    return Trained(
        history={name: np.stack([h[name] for h in history], -1) for name in history[0]},
        dead_by_layer=np.stack(layers, 2),
        dead=dead,
        slopes=slopes,
        seconds=time.perf_counter() - start,
    )


def figures(program: Program, trained: Trained) -> dict[Cell, Figures]:
    """What came out of each cell: of its learning rates, the one of the lowest validation loss."""
    settings = program.settings
    rates = settings.of(program.cells[0]).rates
    shape = (len(program.cells), len(rates), settings.seeds)
    found = {}
    for number, cell in enumerate(program.cells):

        def of(values: np.ndarray, number: int = number) -> np.ndarray:
            """``(rates, splits, seeds, ...)`` of the cell."""
            cells = values.reshape(len(values), *shape, *values.shape[2:])
            return np.moveaxis(cells[:, number], 1, 0)

        history = {name: of(values) for name, values in trained.history.items()}
        losses = np.where(np.isnan(history["validation_loss"]), np.inf, history["validation_loss"])
        choice = losses.min(-1).mean((1, 2))
        best = int(np.argmin(choice))
        found[cell] = _of_rate(
            {name: _runs(values[best]) for name, values in history.items()},
            dead_by_layer=_runs(of(trained.dead_by_layer)[best]),
            dead=_runs(of(trained.dead)[best]),
            slopes=_runs(of(trained.slopes)[best]),
            learning_rate=(settings.tune or settings.of(cell).rates)[best],
            tuned=dict(zip(settings.tune, map(float, choice), strict=False)),
            seconds=trained.seconds,
        )
    return found


def _of_rate(
    history: Mapping[str, np.ndarray], dead: np.ndarray, slopes: np.ndarray, **others: Any
) -> Figures:
    """A cell's figures at the rate that was chosen; histories are ``(runs, epochs)``."""
    choice = best_epochs(history["validation_loss"])
    final = history["train_loss"][:, -1]
    tests = {n.removeprefix("test_"): h for n, h in history.items() if n.startswith("test_")}
    first = next(iter(tests))
    diverged = ~np.isfinite(final)
    return Figures(
        scores={name: h[np.arange(len(choice)), choice] for name, h in tests.items()},
        best_epoch=choice + 1,
        final_train_loss=final,
        dead_units_percent=np.where(diverged, np.nan, dead),
        curves={
            name: h
            for name, h in history.items()
            if not name.startswith("test_") or name == f"test_{first}"
        },
        learned_slopes=np.where(diverged[:, None], np.nan, slopes),
        **others,
    )


def _runs(values: np.ndarray) -> np.ndarray:
    """``(splits, seeds, ...)`` as ``(runs, ...)``."""
    return values.reshape(values.shape[0] * values.shape[1], *values.shape[2:])


def _figures(
    task: str, data: Sequence[Split], loss: np.ndarray, predictions: np.ndarray
) -> dict[str, np.ndarray]:
    """The figures of an epoch, each ``(splits, members)``."""
    first = data[0]
    training, validation, test = first.training, first.validation, first.test
    name = SCORES[task][0].name
    return {
        "train_loss": loss[..., training].mean(-1, dtype=np.float64),
        "validation_loss": loss[..., validation].mean(-1, dtype=np.float64),
        f"validation_{name}": scores(data, predictions, validation)[name],
        **{f"test_{n}": score for n, score in scores(data, predictions, test).items()},
    }


def _dead_by_layer(dead: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """``(splits, members, layers)`` in percent."""
    if not dead:
        return np.zeros((*shape, 0))
    return 100 * np.stack([layer.mean(-1) for layer in dead], -1)


def _share(dead: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Of all units, the dead ones."""
    return np.concatenate(dead, -1).mean(-1) if dead else np.zeros(shape)


def check(settings: Settings, data: Callable[[int | None], Sequence[Split]]) -> None:
    """Raise a `CompareError` for a model that the data do not fit, or for too few samples.

    Args:
      settings: of a study.
      data: the samples, split by split, by the number of training samples (None: all).
    """
    everything = programs(settings, settings.cells)
    for samples in dict.fromkeys(program.samples for program in everything):
        data(samples)
    _model(everything[0], data(everything[0].samples)[0])


def _model(program: Program, data: Split) -> Model:
    of = program.settings.of(program.cells[0])
    inputs, outputs = data.features.shape[1:], data.classes or 1
    if program.settings.model in WIDTHS:
        return BuiltIn(
            program.settings.model,
            program.activation,
            inputs,
            of.widths,
            outputs,
            of.dtype,
            tuple(of.values),
        )
    return own.OwnModel(
        program.settings.model, program.settings.replace, program.activation, inputs, outputs
    )


def _over_networks(function: Callable, networks: int) -> Callable:
    """Map over splits and members; behind the first arguments come a split's samples, which its
    members share."""

    def each(*arguments: Any) -> Any:
        own, shared = arguments[:networks], arguments[networks:]
        inner = jax.vmap(function, in_axes=(*[0] * len(own), *[None] * len(shared)))
        return jax.vmap(inner)(*own, *shared)

    return each


def loss_of(task: str, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Each sample's loss: the cross-entropy, or the squared error of the standardised target."""
    outputs = outputs.astype(jnp.float32)
    if task == "classification":
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
    return optax.squared_error(outputs[:, 0], targets)


def _prediction(task: str, outputs: jax.Array) -> jax.Array:
    """The class, or the standardised target."""
    return outputs.argmax(-1) if task == "classification" else outputs[:, 0].astype(jnp.float32)


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
        order = jax.random.permutation(jax.random.fold_in(key(seed, BATCHES), epoch), samples)
        return order[: samples - samples % batch_size].reshape(-1, batch_size)

    each = jax.vmap(jax.vmap(batches, in_axes=(0, None), out_axes=1), in_axes=(0, None), out_axes=1)
    return _spread(mesh, P(None, *_MEMBERS), each, _MEMBERS, _ALL)


def _chunks(samples: int, chunk: int) -> np.ndarray:
    """Indices of all samples in rows of one length, the last sample repeated as filling."""
    count = -(-samples // chunk)
    length = -(-samples // count)
    return np.minimum(np.arange(count * length), samples - 1).reshape(count, length)
