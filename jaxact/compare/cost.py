"""What an activation costs: the time of a training step, and what its backward pass keeps."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxact import memory
from jaxact.compare.data import Split
from jaxact.compare.model import Network
from jaxact.compare.settings import Settings
from jaxact.compare.study import Cost
from jaxact.compare.training import Program, Trainer, loss_of

#: Rounds, the seconds that each arm's part of one lasts, and the limits of its steps.
ROUNDS = 11
SECONDS = 0.05
STEPS = (2, 200)


def measure(settings: Settings, data: Sequence[Split]) -> dict[str, Cost]:
    """The costs of the activations at the first setting of the sweeps, by `Cell.arm`.

    All of an arm's seeds train on the first split in one step, on one device. Rounds are
    interleaved, each in turn with another arm first: what slows the machine for a while slows all
    arms alike.

    Args:
      settings: of the study.
      data: the samples, split by split.
    """
    first = settings.cells[0].setting
    arms = {cell.arm: cell for cell in settings.cells if cell.setting == first}
    runs: dict[str, _Run] = {}
    for arm, cell in arms.items():
        program = Program(settings, (cell,))
        runs[arm] = _Run(Trainer(program, data[:1], range(settings.seeds)))
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    order = list(arms)
    for _ in range(ROUNDS):
        for arm in order:
            times[arm].append(runs[arm].round())
        order = order[1:] + order[:1]
    return {
        arm: Cost(np.array(times[arm]), settings.seeds, runs[arm].kept_bytes())
        for arm in arms
    }


class _Run:
    """A compiled step, and how often a round repeats it."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.state: Any = trainer.init()
        self.step = trainer.compiled(self.state)
        self.batches = trainer.batches(0)
        self.steps = 1
        self.round()  # the first steps allocate
        seconds = self.round() / 1e3
        self.steps = int(min(max(SECONDS / seconds, STEPS[0]), STEPS[1]))

    def round(self) -> float:
        """The milliseconds of a step."""
        jax.block_until_ready(self.state)
        begin = time.perf_counter()
        for i in range(self.steps):
            self.state = self.step(self.state, self.batches, i % self.trainer.steps)
        jax.block_until_ready(self.state)
        return 1e3 * (time.perf_counter() - begin) / self.steps

    def kept_bytes(self) -> int:
        """What the backward pass of one network keeps of one batch, arguments left out."""
        trainer = self.trainer
        network: Network = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), self.state.network
        )
        batch = (trainer.batch_size,)
        x = jax.ShapeDtypeStruct(batch + trainer.features.shape[2:], trainer.features.dtype)
        y = jax.ShapeDtypeStruct(batch, trainer.targets.dtype)

        def loss(parameters: Any, rest: Any, x: jax.Array, y: jax.Array) -> jax.Array:
            outputs, _ = trainer.model.apply(Network(parameters, rest), x, train=True)
            return loss_of(trainer.task, outputs, y).mean()

        kept = memory.residuals(lambda p, rest, x, y: loss(p, rest, x, y), *network, x, y)
        return sum(one.bytes for one in kept if one.origin not in ("argument", "closed over"))
