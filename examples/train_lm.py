"""A character-level transformer language model, the same on a laptop and on a TPU pod.

    python examples/train_lm.py

trains on the text of Python's own documentation (``pydoc_data.topics``), on all devices that JAX
finds. ``--data``, ``--fsdp`` and ``--model`` lay them out, ``--distributed`` joins the hosts of a
pod. The same command after an interruption goes on from the last checkpoint; SIGTERM makes one.
docs/scaling.md explains it.

Needs, from a clone: pip install -e ".[examples]"
"""

import contextlib
import dataclasses
import functools
import json
import logging
import math
import os
import shutil
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import typer
from flax import nnx
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from orbax.checkpoint.checkpoint_managers import LatestN
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxact.nnx import GatedMLP
from jaxact.optim import decay_mask

#: How the features and the heads or hidden units of a matrix lie on the mesh, and how rows do.
PARTITIONING = ("fsdp", "model")
ROWS = ("data", "fsdp")


class BadOptionError(ValueError):
    """A request that cannot work: a line that says why and what to do."""


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def say(line: str) -> None:
    """Tell once, on stderr."""
    if jax.process_index() == 0:
        print(" ".join(line.split()), file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is trained. Two runs that agree in this compute the same, on any devices."""

    steps: int = 300
    batch: int = 16
    context: int = 128
    layers: int = 4
    width: int = 128
    heads: int = 4
    hidden: int = 352
    activation: str = "silu"
    learning_rate: float = 4e-3
    weight_decay: float = 0.1
    dtype: str = "bfloat16"
    seed: int = 0


# The text


@dataclasses.dataclass(frozen=True)
class Text:
    """Characters as numbers; the last tenth is for validation."""

    train: np.ndarray
    validation: np.ndarray
    vocabulary: int

    @property
    def checksum(self) -> int:
        return zlib.crc32(self.validation, zlib.crc32(self.train))

    @property
    def unigram_entropy(self) -> float:
        """Of the validation text, in nats a character, by the training text's frequencies."""
        counts = np.bincount(self.train, minlength=self.vocabulary) + 1.0
        return float(-np.log(counts / counts.sum())[self.validation].mean())


@functools.cache
def documentation() -> Text:
    """Python's documentation, half a million characters."""
    from pydoc_data.topics import topics

    characters = "".join(text for _, text in sorted(topics.items()))
    alphabet, numbers = np.unique(list(characters), return_inverse=True)
    split = len(numbers) * 9 // 10
    # A multiple of 128, which can be sharded.
    vocabulary = -(-len(alphabet) // 128) * 128
    return Text(*np.split(numbers.astype(np.int32), [split]), vocabulary)


def rows_on(mesh: Mesh, rows: Callable[[slice], np.ndarray], shape: tuple[int, ...]) -> jax.Array:
    """Parts of rows, (parts, rows, ...), of which each host makes only its own."""
    parts, size = shape[:2]

    def local(index: tuple[slice, ...]) -> np.ndarray:
        start, stop, _ = index[1].indices(size)
        return np.stack([rows(slice(i * size + start, i * size + stop)) for i in range(parts)])

    return jax.make_array_from_callback(shape, NamedSharding(mesh, P(None, ROWS)), local)


def training_batch(
    text: Text, config: Config, step: int, mesh: Mesh, accumulate: int = 1
) -> jax.Array:
    """The batch of a step, (accumulate, rows, context + 1): it depends on seed and step only."""
    random = np.random.default_rng((config.seed, step))
    starts = random.integers(len(text.train) - config.context, size=config.batch)
    window = np.arange(config.context + 1)

    def rows(index: slice) -> np.ndarray:
        return text.train[starts[index, None] + window]

    return rows_on(mesh, rows, (accumulate, config.batch // accumulate, config.context + 1))


def validation_set(text: Text, config: Config, mesh: Mesh) -> tuple[jax.Array, jax.Array]:
    """All of the validation text in windows, (batches, rows, context + 1), and a weight for each.

    The weight is 0 for those that only fill the last batch up.
    """
    count = (len(text.validation) - 1) // config.context
    shape = (-(-count // config.batch), config.batch)
    window = np.arange(config.context + 1)

    def rows(index: slice) -> np.ndarray:
        numbers = np.arange(index.start, index.stop) % count
        return text.validation[numbers[:, None] * config.context + window]

    def weights(index: slice) -> np.ndarray:
        return (np.arange(index.start, index.stop) < count).astype(np.float32)

    return rows_on(mesh, rows, (*shape, len(window))), rows_on(mesh, weights, shape)


# The model


def linear(inputs: int, outputs: int, axes: tuple[Any, Any], dtype: Any, rngs: nnx.Rngs) -> Any:
    init = nnx.with_partitioning(jax.nn.initializers.lecun_normal(), axes)
    return nnx.Linear(inputs, outputs, use_bias=False, kernel_init=init, dtype=dtype, rngs=rngs)


def rotated(x: jax.Array) -> jax.Array:
    """Rotary position embeddings (Su et al., arXiv 2104.09864) of (rows, context, heads, size)."""
    _, context, _, size = x.shape
    frequencies = 10000.0 ** -(jnp.arange(size // 2, dtype=jnp.float32) / (size // 2))
    angles = jnp.outer(jnp.arange(context, dtype=jnp.float32), frequencies)[None, :, None]
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)


class Attention(nnx.Module):
    """Causal self-attention; its heads are sharded over the mesh axis "model"."""

    def __init__(self, width: int, heads: int, dtype: Any, rngs: nnx.Rngs):
        self.query = linear(width, width, PARTITIONING, dtype, rngs)
        self.key = linear(width, width, PARTITIONING, dtype, rngs)
        self.value = linear(width, width, PARTITIONING, dtype, rngs)
        self.out = linear(width, width, PARTITIONING[::-1], dtype, rngs)
        self.heads = heads

    def __call__(self, x: jax.Array) -> jax.Array:
        split = (*x.shape[:-1], self.heads, x.shape[-1] // self.heads)
        query, key, value = (f(x).reshape(split) for f in (self.query, self.key, self.value))
        y = jax.nn.dot_product_attention(rotated(query), rotated(key), value, is_causal=True)
        return self.out(y.reshape(x.shape))


class Block(nnx.Module):
    def __init__(self, config: Config, feed_forward: Any, rngs: nnx.Rngs):
        width, dtype = config.width, jnp.dtype(config.dtype)
        self.attention_norm = nnx.RMSNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, config.heads, dtype, rngs)
        self.feed_forward_norm = nnx.RMSNorm(width, dtype=dtype, rngs=rngs)
        self.feed_forward = feed_forward(
            width,
            config.hidden,
            activation=config.activation,
            partitioning=PARTITIONING,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.attention_norm(x))
        x = x + self.feed_forward(self.feed_forward_norm(x))
        return lax.with_sharding_constraint(x, P(ROWS))


class LanguageModel(nnx.Module):
    """Maps characters (rows, context) to logits of the next ones, (rows, context, vocabulary).

    Args:
      config: its sizes.
      vocabulary: the number of characters.
      feed_forward: what to use for `jaxact.nnx.GatedMLP`, with the same arguments.
      rngs: for the initial weights.
    """

    def __init__(
        self, config: Config, vocabulary: int, *, feed_forward: Any = GatedMLP, rngs: nnx.Rngs
    ):
        self.dtype = dtype = jnp.dtype(config.dtype)
        table = jax.random.normal(rngs.params(), (vocabulary, config.width))
        self.embedding = nnx.Param(table, out_sharding=(None, "fsdp"))

        # One block with weights (layers, ...), compiled once however many layers there are. The
        # axis of the layers is on no axis of the mesh.
        @nnx.split_rngs(splits=config.layers)
        @nnx.vmap(transform_metadata={nnx.PARTITION_NAME: None})
        def blocks(rngs: nnx.Rngs) -> Block:
            return Block(config, feed_forward, rngs)

        self.blocks = blocks(rngs)
        self.norm = nnx.RMSNorm(config.width, dtype=dtype, rngs=rngs)
        self.head = linear(config.width, vocabulary, PARTITIONING, dtype, rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        @nnx.scan(
            in_axes=(nnx.Carry, 0),
            out_axes=nnx.Carry,
            transform_metadata={nnx.PARTITION_NAME: None},
        )
        def through(x: jax.Array, block: Block) -> jax.Array:
            return block(x)

        # Gathered whole, which is little, rather than in a part whose product has to be gathered.
        table = lax.with_sharding_constraint(self.embedding[...].astype(self.dtype), P())
        x = lax.with_sharding_constraint(table[tokens], P(ROWS))
        return self.head(self.norm(through(x, self.blocks)))


# Training


def optimizer(config: Config) -> optax.GradientTransformation:
    """AdamW with warmup and cosine decay; no weight decay on norms and learned slopes."""
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, min(100, config.steps // 10), config.steps
    )

    def decayed(params: Any) -> Any:
        def is_scale(path: Any, _: Any) -> bool:
            return "scale" in jax.tree_util.keystr(path)

        scales = jax.tree_util.tree_map_with_path(is_scale, params)
        return jax.tree.map(lambda keep, scale: keep and not scale, decay_mask(params), scales)

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(rate, b2=0.99, weight_decay=config.weight_decay, mask=decayed),
    )


class Trainer:
    """The functions of a training, compiled for a mesh; call them under ``jax.set_mesh(mesh)``.

    Attributes:
      abstract: the state's shapes, dtypes and shardings: parameters and optimizer state.
      create: () -> state, each device making its own shards.
      step: (state, batch) -> (state, {"loss", "gradient_norm"}). The old state is given up.
      evaluate: (state, tokens, weights) -> loss, in nats a character.
      checksum: state -> a number, the same on any mesh.
    """

    def __init__(self, config: Config, vocabulary: int, mesh: Mesh, feed_forward: Any = GatedMLP):
        build = functools.partial(LanguageModel, config, vocabulary, feed_forward=feed_forward)
        transform = optimizer(config)

        def create() -> dict[str, Any]:
            params = nnx.state(build(rngs=nnx.Rngs(config.seed)), nnx.Param)
            return {"params": params, "opt_state": transform.init(params)}

        def losses(params: nnx.State, tokens: jax.Array) -> jax.Array:
            # Made anew: Flax's transforms take no variables from outside of a scan.
            params = jax.tree.map(lambda x: x, params)
            logits = nnx.merge(graph, params)(tokens[:, :-1]).astype(jnp.float32)
            return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])

        def step(state: dict[str, Any], batch: jax.Array) -> tuple[dict[str, Any], dict[str, Any]]:
            def add(sums: Any, tokens: jax.Array) -> Any:
                mean = jax.value_and_grad(lambda params: losses(params, tokens).mean())
                return jax.tree.map(jnp.add, sums, mean(state["params"])), None

            zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), state["params"])
            sums, _ = lax.scan(add, (jnp.float32(0), zeros), batch)
            loss, gradient = jax.tree.map(lambda total: total / len(batch), sums)
            updates, opt_state = transform.update(gradient, state["opt_state"], state["params"])
            params = optax.apply_updates(state["params"], updates)
            values = {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}
            return {"params": params, "opt_state": opt_state}, values

        def evaluate(state: dict[str, Any], tokens: jax.Array, weights: jax.Array) -> jax.Array:
            def add(total: jax.Array, part: Any) -> Any:
                return total + (losses(state["params"], part[0]).mean(1) * part[1]).sum(), None

            total, _ = lax.scan(add, jnp.float32(0), (tokens, weights))
            return total / weights.sum()

        def checksum(state: dict[str, Any]) -> jax.Array:
            words = (lax.bitcast_convert_type(x, jnp.uint32) for x in jax.tree.leaves(state))
            return sum((w.sum(dtype=jnp.uint32) for w in words), jnp.uint32(0))

        with jax.set_mesh(mesh):
            try:
                model = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(config.seed)))
            except (TypeError, ValueError) as error:
                raise BadOptionError(f"--activation {config.activation}: {error}") from error
            graph, _, other = nnx.split(model, nnx.Param, ...)
            if jax.tree.leaves(other):
                raise BadOptionError(
                    f"--activation {config.activation}: its random keys would have to be saved "
                    "with the parameters; take one that is not random."
                )
            shapes = jax.eval_shape(create)
            # Flax's metadata say where each parameter lies, and its moments with it.
            shardings = nnx.get_named_sharding(shapes, mesh)
        self.abstract = jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            shardings,
        )
        whole = NamedSharding(mesh, P())
        self.create = jax.jit(create, out_shardings=shardings)
        self.step = jax.jit(step, donate_argnums=0, out_shardings=(shardings, whole))
        self.evaluate = jax.jit(evaluate, out_shardings=whole)
        self.checksum = jax.jit(checksum, out_shardings=whole)


def make_mesh(data: int | None = None, fsdp: int = 1, model: int = 1, devices: Any = None) -> Mesh:
    """The devices as (data, fsdp, model); data is by default what the others leave."""
    devices = jax.devices() if devices is None else devices
    for name, value in (("data", data), ("fsdp", fsdp), ("model", model)):
        if value is not None and value < 1:
            raise BadOptionError(f"--{name} {value}: must be at least 1.")
    if data is None:
        data = max(1, len(devices) // (fsdp * model))
    if data * fsdp * model != len(devices):
        raise BadOptionError(
            f"--data {data} x --fsdp {fsdp} x --model {model} = {data * fsdp * model}, but there "
            f"are {len(devices)} devices: make the product {len(devices)}, or leave --data out."
        )
    names = ("data", *PARTITIONING)
    try:
        return jax.make_mesh(
            (data, fsdp, model), names, axis_types=(AxisType.Auto,) * 3, devices=devices
        )
    except NotImplementedError as error:
        raise BadOptionError(
            f"--data {data}, --fsdp {fsdp}, --model {model}: cannot be laid on these chips, "
            f"take products of the sizes of their axes. {error}"
        ) from error


def check(config: Config, text: Text, mesh: Mesh, **counts: int) -> None:
    """Raise `BadOptionError` for what cannot be trained. ``counts`` are options that are none."""
    size, options = dict(mesh.shape), {**dataclasses.asdict(config), **counts}
    for name in set(options) - {"activation", "dtype"}:
        least = 0 if name in ("seed", "learning_rate", "weight_decay") else 1
        most = 2**31 - 1 if isinstance(options[name], int) else 1e30
        if not least <= options[name]:
            raise BadOptionError(f"{flag(name)} {options[name]}: must be at least {least}.")
        if options[name] > most:
            raise BadOptionError(f"{flag(name)} {options[name]}: must be at most {most}.")
    if config.dtype not in ("bfloat16", "float32"):
        raise BadOptionError(f"--dtype {config.dtype}: must be bfloat16 or float32.")
    rows = counts["accumulate"] * size["data"] * size["fsdp"]
    for name, by, divisor in (
        ("batch", "--accumulate x --data x --fsdp", rows),
        ("width", "2 x --heads", 2 * config.heads),
        ("width", "--fsdp", size["fsdp"]),
        ("heads", "--model", size["model"]),
        ("hidden", "--model", size["model"]),
    ):
        if options[name] % divisor:
            near = max(1, round(options[name] / divisor)) * divisor
            raise BadOptionError(
                f"--{name} {options[name]}: must be a multiple of {by} = {divisor}, such as {near}."
            )
    if text.vocabulary % size["model"]:
        raise BadOptionError(
            f"--model {size['model']}: must divide the {text.vocabulary} entries of the vocabulary."
        )
    longest = len(text.validation) - 1
    if config.context > longest:
        raise BadOptionError(
            f"--context {config.context}: the validation text has {longest + 1} characters; "
            f"take at most {longest}."
        )


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


# Files: checkpoints/, config.json, metrics.jsonl


def replace(path: Path, content: str) -> None:
    """Write a file in one piece: it is there as a whole or as it was."""
    new = path.with_suffix(".new")
    new.write_text(content)
    os.replace(new, path)


def claim(out: Path, config: Config, text: Text) -> None:
    """Make the folder this configuration's, or raise `BadOptionError` if it is another's."""
    if ":/" in str(out):
        raise BadOptionError(f"--out {out}: must be a folder; mount the bucket and give its path.")
    here = {**dataclasses.asdict(config), "text": text.checksum}
    path = out / "config.json"
    if path.exists():
        try:
            there = dict(json.loads(path.read_bytes()))
        except (ValueError, TypeError, RecursionError) as error:
            raise BadOptionError(
                f"{path} is damaged ({first_line(error)}): remove it if the run in {out} is of "
                "these options, or give another folder as --out."
            ) from error
        for name in here:
            if there.get(name) != here[name]:
                what = "the text" if name == "text" else flag(name)
                raise BadOptionError(
                    f"{what} {here[name]}: the run in {out} has {there.get(name)}. "
                    "Give the same, or another folder as --out."
                )
    elif jax.process_index() == 0:
        out.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps(here, indent=2) + "\n")


class Metrics:
    """``metrics.jsonl``, a line for a step or an evaluation; written by process 0."""

    def __init__(self, path: Path, step: int):
        self.path = path if jax.process_index() == 0 else None
        if self.path is not None and path.exists():
            # What followed the checkpoint is computed again, also what was written by half.
            kept, damaged = [], 0
            for line in path.read_bytes().splitlines(keepends=True):
                try:
                    if json.loads(line)["step"] <= step and line.endswith(b"\n"):
                        kept.append(line.decode())
                except (ValueError, TypeError, LookupError, RecursionError):
                    damaged += line.endswith(b"\n")
            replace(path, "".join(kept))
            if damaged:
                say(f"{path}: {damaged} lines are damaged and left out; the others stay.")

    def write(self, **values: Any) -> None:
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(values) + "\n")


def checkpoints(out: Path, keep: int) -> ocp.CheckpointManager:
    """Written in the background, and renamed when complete."""
    options = ocp.CheckpointManagerOptions(preservation_policy=LatestN(keep))
    return ocp.CheckpointManager((out / "checkpoints").absolute(), options=options)


@contextlib.contextmanager
def writing(manager: ocp.CheckpointManager) -> Iterator[None]:
    """What Orbax raises for a full disk, in one of many types, as a `BadOptionError`."""
    try:
        yield
    except Exception as error:
        raise BadOptionError(
            f"no checkpoint can be written to {manager.directory}: {first_line(error)}"
        ) from error


def save(manager: ocp.CheckpointManager, trainer: Trainer, step: int, state: Any) -> None:
    """Begin to write a checkpoint. An error of the one before is raised too."""
    metadata = {"checksum": int(trainer.checksum(state))}
    with writing(manager):
        manager.save(step, args=ocp.args.StandardSave(state), custom_metadata=metadata)


def restored(manager: ocp.CheckpointManager, trainer: Trainer) -> tuple[dict[str, Any], int]:
    """The state of the last checkpoint that is whole, on this mesh whatever it was saved on.

    A new state without checkpoints; a `BadOptionError` if all are damaged.
    """
    damaged: dict[int, str] = {}
    for step in sorted(manager.all_steps(), reverse=True):
        state = checksum = None
        try:
            # Not by the manager, whose processes would wait for one that finds damage.
            folder = manager.directory / str(step) / "default"
            restore = ocp.args.StandardRestore(trainer.abstract)
            state = ocp.StandardCheckpointHandler().restore(folder, args=restore)
            checksum = (manager.metadata(step).custom_metadata or {}).get("checksum")
        except Exception as error:
            damaged[step] = first_line(error)
        # All processes take the same one.
        if multihost_utils.process_allgather(np.array(step in damaged)).any():
            damaged.setdefault(step, "in another process")
        # Orbax notices files that are cut off, but not every changed bit.
        elif checksum not in (None, int(trainer.checksum(state))):
            damaged[step] = "its checksum is wrong"
        else:
            set_aside(manager, damaged, step)
            return state, step
    if damaged:
        raise BadOptionError(
            f"no checkpoint in {manager.directory} can be read: remove that folder to start over, "
            f"or give another folder as --out. The last one: {damaged[max(damaged)]}"
        )
    return trainer.create(), 0


def set_aside(manager: ocp.CheckpointManager, damaged: dict[int, str], last: int) -> None:
    """Move checkpoints out of their folder, so that these steps can be saved again."""
    folder = Path(manager.directory)
    for step, why in damaged.items():
        say(f"checkpoint {step} is damaged, see damaged-{step}; {last} is the last: {why:.80}")
        if jax.process_index() == 0:
            shutil.rmtree(folder.with_name(f"damaged-{step}"), ignore_errors=True)
            (folder / str(step)).rename(folder.with_name(f"damaged-{step}"))
    if damaged:
        multihost_utils.sync_global_devices("damaged checkpoints are set aside")
        manager.reload()


@contextlib.contextmanager
def preemption() -> Iterator[Callable[[int], bool]]:
    """Whether to save a step and end: after a SIGTERM, which a preempted machine gets."""
    if jax.distributed.is_initialized():
        # JAX hears the signal, and finds a step that all processes can save.
        yield multihost_utils.reached_preemption_sync_point
        return
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        yield lambda step: bool(heard)
    finally:
        signal.signal(signal.SIGTERM, before)


def progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(quiet=jax.process_index() != 0)
    return Progress(*columns, TimeRemainingColumn(), console=console)


def train(
    config: Config,
    mesh: Mesh,
    out: Path,
    *,
    accumulate: int = 1,
    save_every: int = 100,
    keep: int = 2,
    evaluate_every: int = 100,
) -> float:
    """Train to the end, from the last checkpoint in ``out`` if there is one.

    After SIGTERM it saves a checkpoint and returns.

    Returns:
      The validation loss, in nats a character; NaN if it did not come to the end.

    Raises:
      BadOptionError: it cannot be trained so.
      OSError: files in ``out`` cannot be read or written.
    """
    text = documentation()
    counts = {"accumulate": accumulate, "save_every": save_every, "keep": keep}
    check(config, text, mesh, evaluate_every=evaluate_every, **counts)
    trainer = Trainer(config, text.vocabulary, mesh)
    claim(out, config, text)
    with (
        preemption() as preempted,
        jax.set_mesh(mesh),
        checkpoints(out, keep) as manager,
        progress() as bar,
    ):
        state, first = restored(manager, trainer)
        metrics = Metrics(out / "metrics.jsonl", first)
        validation = validation_set(text, config, mesh)
        parameters = sum(p.size for p in jax.tree.leaves(state["params"]))
        bar.print(f"{parameters:,} parameters on {dict(mesh.shape)}, from step {first}")
        task = bar.add_task("compiling", total=config.steps, completed=first)
        started = time.perf_counter()
        waiting: list[tuple[int, dict[str, jax.Array]]] = []

        def record() -> None:
            """Write the values of the last step; reading them waits for its end."""
            nonlocal started
            for done, values in waiting:
                loss, norm = float(values["loss"]), float(values["gradient_norm"])
                speed = config.batch * config.context / (time.perf_counter() - started)
                started = time.perf_counter()
                metrics.write(step=done, loss=loss, gradient_norm=norm, characters_per_second=speed)
                said = f"loss {loss:.3f}, {speed:,.0f} characters/s"
                bar.update(task, completed=done, description=said)
            waiting.clear()

        def validate(step: int) -> float:
            loss = float(trainer.evaluate(state, *validation))
            bar.print(
                f"step {step}: validation loss {loss:.3f} nats a character "
                f"(unigram entropy {text.unigram_entropy:.3f})"
            )
            return loss

        loss = math.nan if first < config.steps else validate(first)
        for step in range(first + 1, config.steps + 1):
            batch = training_batch(text, config, step, mesh, accumulate)
            state, values = trainer.step(state, batch)
            record()  # the step before, while the devices compute this one
            waiting.append((step, values))
            ends = preempted(step)
            saves, evaluates = (
                step == config.steps or step % every == 0 for every in (save_every, evaluate_every)
            )
            if saves or evaluates or ends:
                record()
                if evaluates:
                    loss = validate(step)
                    entropy = text.unigram_entropy
                    metrics.write(step=step, validation_loss=loss, unigram_entropy=entropy)
                if saves or ends:  # after its metrics, so that a checkpoint's are all there
                    save(manager, trainer, step, state)
                started = time.perf_counter()
            if ends and step < config.steps:
                loss = math.nan
                say(f"SIGTERM: step {step} is saved, and the same command goes on from there.")
                break
        with writing(manager):
            manager.wait_until_finished()
    return loss


# The command


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Become one of several processes, before anything else of JAX; None is for JAX to find."""
    given = (coordinator, processes, process)
    if None in given and given != (None, None, None):
        raise BadOptionError(
            "--coordinator, --processes and --process belong together: give all three."
        )
    if processes is not None and not 0 <= process < processes:
        raise BadOptionError(f"--process {process}: must be from 0 to {processes - 1}.")
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        raise BadOptionError(
            f"--distributed: cannot join the other processes: {error} Where JAX does not find "
            "them by itself, give --coordinator, --processes and --process."
        ) from error


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def command(
    steps: int = Config.steps,
    batch: Annotated[int, typer.Option(help="Rows in a step, on all devices.")] = Config.batch,
    context: Annotated[int, typer.Option(help="Characters in a row.")] = Config.context,
    layers: int = Config.layers,
    width: int = Config.width,
    heads: int = Config.heads,
    hidden: Annotated[int, typer.Option(help="Of the feed-forward blocks.")] = Config.hidden,
    activation: Annotated[str, typer.Option(help="prelu learns slopes.")] = Config.activation,
    learning_rate: float = Config.learning_rate,
    weight_decay: float = Config.weight_decay,
    dtype: Annotated[str, typer.Option(help="Of the computation; or float32.")] = Config.dtype,
    seed: int = Config.seed,
    accumulate: Annotated[int, typer.Option(help="Parts of a batch, one by one.")] = 1,
    data: Annotated[int | None, typer.Option(help="Devices; default: what is left.")] = None,
    fsdp: Annotated[int, typer.Option(help="... that share the parameters too.")] = 1,
    model: Annotated[int, typer.Option(help="... that share heads and hidden units.")] = 1,
    out: Annotated[Path, typer.Option(help="A folder that all hosts see.")] = Path("train-lm"),
    save_every: Annotated[int, typer.Option(help="Steps from checkpoint to checkpoint.")] = 100,
    keep: Annotated[int, typer.Option(help="Checkpoints.")] = 2,
    evaluate_every: int = 100,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Many hosts: a TPU pod, Slurm.")
    ] = False,
    coordinator: Annotated[str | None, typer.Option(help="host:port of process 0.")] = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """Train a character-level transformer language model on Python's documentation.

    The same command goes on from the last checkpoint in --out.
    """
    options = locals()
    config = Config(**{field.name: options[field.name] for field in dataclasses.fields(Config)})
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax also raises what it logs.
    every: dict[str, Any] = {"save_every": save_every, "evaluate_every": evaluate_every}
    try:
        if distributed or (coordinator, processes, process) != (None, None, None):
            join(coordinator, processes, process)
        mesh = make_mesh(data, fsdp, model)
        train(config, mesh, out, accumulate=accumulate, keep=keep, **every)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from the last checkpoint.")
        raise typer.Exit(130) from None
    except (BadOptionError, OSError) as error:
        why = f"--out {out}: {error.strerror}." if isinstance(error, OSError) else str(error)
        print("error:", " ".join(why.split()), file=sys.stderr)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
