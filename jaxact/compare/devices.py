"""Which device trains which networks.

A network lives on one device. The networks of a program spread over a group of devices and never
communicate; groups train different programs at the same time. As many programs train at once as
divide the devices evenly: 8 devices and 7 programs make 4 groups of 2, then 2 of 4 for the 3
programs left, then one of 8. Every device is busy while a group is not larger than the networks,
and programs rather than networks share them out where both would: a step of few small networks
takes as long as its launch, and programs compile side by side.
"""

import dataclasses
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait

import jax
import numpy as np

from jaxact._core import context
from jaxact.compare import training
from jaxact.compare.data import Split
from jaxact.compare.training import Program, Trained

Train = Callable[..., Trained]


@dataclasses.dataclass(frozen=True)
class Part:
    """Some networks of a program, on devices of one process.

    Args:
      program: what is trained.
      positions: the networks, by number, as many for each device. Those behind the program's last
        one are filling: they even out the devices, and are thrown away.
      devices: the devices that train the networks, in the order of the positions.
    """

    program: Program
    positions: range
    devices: tuple[jax.Device, ...]

    @property
    def process(self) -> int:
        return self.devices[0].process_index


def plan(programs: Sequence[Program], devices: Sequence[jax.Device] | None = None) -> list[Part]:
    """The parts that train at the same time: all networks of the first programs.

    Args:
      programs: what is to be trained, one at least.
      devices: the devices of all processes; every device that JAX has by default.
    """
    devices = sorted(devices or jax.devices(), key=lambda d: (d.process_index, d.id))
    at_once = max(
        n for n in range(1, min(len(programs), len(devices)) + 1) if len(devices) % n == 0
    )
    size = len(devices) // at_once
    parts = []
    for i, program in enumerate(programs[:at_once]):
        each = -(-program.networks // size)
        used = -(-program.networks // each)
        group = enumerate(devices[i * size : i * size + used])
        for _, members in itertools.groupby(group, lambda member: member[1].process_index):
            positions, local = zip(*members, strict=True)
            part = range(positions[0] * each, (positions[-1] + 1) * each)
            parts.append(Part(program, part, local))
    return parts


def train_parts(
    parts: Sequence[Part],
    data: Callable[[int | None], Sequence[Split]],
    on_epoch: Callable[[Program, int], None],
    train: Train = training.train,
) -> list[Trained]:
    """Train parts of this process at the same time, each in a thread.

    Args:
      parts: parts of different programs.
      data: the samples, split by split, by the number of training samples (None: all).
      on_epoch: called with a program and the number of its finished epochs, by one thread at a
        time.
      train: the training of one part, `training.train`.
    """
    lock = threading.Lock()
    stop = threading.Event()

    samples = {part.program.samples for part in parts}
    prepared = {count: data(count) for count in samples}  # before any thread

    def train_part(part: Part) -> Trained:
        def finished(epoch: int) -> None:
            if stop.is_set():
                raise CancelledError
            with lock:
                on_epoch(part.program, epoch)

        splits = prepared[part.program.samples]
        return train(part.program, splits, finished, part.positions, part.devices)

    if len(parts) <= 1:  # no thread: an interruption ends it at once
        return [train_part(part) for part in parts]

    # What `with` statements set holds in one thread: pass on what changes figures.
    autodiff = dataclasses.asdict(context.current())
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]

    def in_thread(part: Part) -> Trained:
        with context.autodiff(**autodiff), jax.default_matmul_precision(precision):
            return train_part(part)

    with ThreadPoolExecutor(len(parts)) as pool:
        futures = [pool.submit(in_thread, part) for part in parts]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            stop.set()  # after an error, or an interruption, all others end at their next epoch
        return [future.result() for future in futures]


def join(program: Program, parts: Sequence[Trained]) -> Trained:
    """A program's networks from its parts, in order, without the filling. The time is the slowest
    part's."""

    def joined(values: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(values, 1)[:, : program.networks]

    return Trained(
        history={n: joined([p.history[n] for p in parts]) for n in parts[0].history},
        dead_by_layer=joined([part.dead_by_layer for part in parts]),
        dead=joined([part.dead for part in parts]),
        slopes=joined([part.slopes for part in parts]),
        seconds=max(part.seconds for part in parts),
    )
