"""What an activation costs: the time of a training step, and what its backward pass keeps."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxact import memory
from jaxact.compare.data import Split
from jaxact.compare.model import Network
from jaxact.compare.settings import Settings
from jaxact.compare.study import Cell, Cost
from jaxact.compare.training import Program, Trainer, loss_of

#: Rounds, the seconds that each arm's part of one lasts, and the limits of its steps.
ROUNDS = 11
SECONDS = 0.05
STEPS = (2, 200)


def measure(
    settings: Settings, data: Sequence[Split], kept: Mapping[Program, "Stepper"] | None = None
) -> dict[str, Cost]:
    """The costs of the activations at the first setting of the sweeps, by `Cell.arm`.

    An activation's networks train on the first split in one step, on one device: those of the first
    setting, or all that have trained in one program, if that is as many for each. Rounds are
    interleaved, each in turn with another activation first: what slows the machine for a while
    slows all alike. A parameter's value costs nothing, so an activation's arms share its figures.

    Args:
      settings: of the study.
      data: the samples, split by split.
      kept: steps that are compiled already, by program.
    """
    first = settings.cells[0].setting
    arms = [cell for cell in settings.cells if cell.setting == first]
    cells: dict[str, Cell] = {}
    for cell in arms:
        cells.setdefault(cell.activation, cell)
    steppers = _kept_steppers(cells, kept or {})
    if not steppers:
        plain = dataclasses.replace(settings, tune=())
        steppers = {
            activation: Stepper(Trainer(Program(plain, (cell,)), data[:1]))
            for activation, cell in cells.items()
        }
    times: dict[str, list[float]] = {activation: [] for activation in steppers}
    order = list(steppers)
    for _ in range(ROUNDS):
        for activation in order:
            times[activation].append(steppers[activation].round())
        order = order[1:] + order[:1]
    costs = {
        activation: Cost(np.array(times[activation]), stepper.networks, stepper.kept_bytes())
        for activation, stepper in steppers.items()
    }
    return {cell.arm: costs[cell.activation] for cell in arms}


def _kept_steppers(
    cells: Mapping[str, Cell], kept: Mapping[Program, "Stepper"]
) -> dict[str, "Stepper"]:
    """The compiled step that trained each cell, if all train as many networks; else nothing."""
    of = {cell: stepper for program, stepper in kept.items() for cell in program.cells}
    found = {activation: of[cell] for activation, cell in cells.items() if cell in of}
    alike = len({stepper.networks for stepper in found.values()}) == 1
    return found if alike and len(found) == len(cells) else {}


class Stepper:
    """A compiled step, and how often a round repeats it.

    Args:
      trainer: of one split.
      step: its compiled step, with the state to go on from; compiled here if there is none.
    """

    def __init__(self, trainer: Trainer, step: Any = None, state: Any = None):
        self.trainer = trainer
        self.state: Any = trainer.init() if state is None else state
        self.step = step or trainer.compiled(self.state)
        self.batches = trainer.batches(0)
        self.steps = 0

    @property
    def networks(self) -> int:
        """How many networks a step trains."""
        return len(self.trainer.members.seeds)

    def round(self) -> float:
        """The milliseconds of a step."""
        if not self.steps:
            self._run(1)  # the first one allocates
            self.steps = int(min(max(SECONDS / self._run(1), STEPS[0]), STEPS[1]))
        return 1e3 * self._run(self.steps) / self.steps

    def _run(self, steps: int) -> float:
        jax.block_until_ready(self.state)
        begin = time.perf_counter()
        for i in range(steps):
            self.state = self.step(self.state, self.batches, i % self.trainer.steps)
        jax.block_until_ready(self.state)
        return time.perf_counter() - begin

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

        kept = memory.residuals(loss, *network, x, y)
        return sum(one.bytes for one in kept if one.origin not in ("argument", "closed over"))
