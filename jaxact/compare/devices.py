"""Which device trains which networks.

A network lives on one device. The seeds of an arm spread over a group of devices and never
communicate; groups train different arms at the same time. As many arms train at once as divide the
devices evenly: 8 devices and 7 arms make 4 groups of 2, then 2 of 4 for the 3 arms left, then one
of 8. Every device is busy while a group is not larger than the seeds, and arms rather than seeds
share them out where both would: a step of few small networks takes as long as its launch, and arms
compile side by side.
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
from jaxact.compare.training import Arm, Curves, Settings

Train = Callable[..., Arm]


@dataclasses.dataclass(frozen=True)
class Part:
    """Some networks of an arm, on devices of one process.

    Args:
      activation: the arm.
      seeds: as many for each device. Those behind the last one of the settings are filling, which
        evens out the devices and is thrown away.
      devices: in the order of the seeds.
    """

    activation: str
    seeds: range
    devices: tuple[jax.Device, ...]

    @property
    def process(self) -> int:
        return self.devices[0].process_index


def plan(
    activations: Sequence[str], seeds: int, devices: Sequence[jax.Device] | None = None
) -> list[Part]:
    """The parts that train at the same time: all seeds of the first of the activations.

    Args:
      activations: those that are to be trained, one at least.
      seeds: how many networks each has.
      devices: of all processes, without it every one that JAX has.
    """
    devices = sorted(devices or jax.devices(), key=lambda d: (d.process_index, d.id))
    at_once = max(
        n for n in range(1, min(len(activations), len(devices)) + 1) if len(devices) % n == 0
    )
    size = len(devices) // at_once
    each = -(-seeds // size)
    used = -(-seeds // each)
    parts = []
    for i, activation in enumerate(activations[:at_once]):
        group = enumerate(devices[i * size : i * size + used])
        for _, members in itertools.groupby(group, lambda member: member[1].process_index):
            positions, local = zip(*members, strict=True)
            part = range(positions[0] * each, (positions[-1] + 1) * each)
            parts.append(Part(activation, part, local))
    return parts


def train_parts(
    parts: Sequence[Part],
    settings: Settings,
    data: Split,
    on_epoch: Callable[[str, int], None],
    train: Train = training.train,
) -> list[Arm]:
    """Train parts of this process at the same time, each in a thread.

    Args:
      parts: of different arms.
      settings: what is trained, and how.
      data: the samples.
      on_epoch: called with an activation and the number of its finished epochs, by one thread at a
        time.
      train: `training.train`.
    """
    lock = threading.Lock()
    stop = threading.Event()

    def train_part(part: Part) -> Arm:
        def finished(epoch: int) -> None:
            if stop.is_set():
                raise CancelledError
            with lock:
                on_epoch(part.activation, epoch)

        return train(part.activation, settings, data, finished, part.seeds, part.devices)

    if len(parts) <= 1:  # no thread: an interruption ends it at once
        return [train_part(part) for part in parts]

    # What `with` statements set holds in one thread: pass on what changes figures.
    autodiff = dataclasses.asdict(context.current())
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]

    def in_thread(part: Part) -> Arm:
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


def join(arms: Sequence[Arm], seeds: int) -> Arm:
    """An arm from its parts, in order, without the filling. Its times are those of the slowest."""

    def joined(values: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(values)[:seeds]

    steps = [arm.ms_per_step for arm in arms if arm.ms_per_step is not None]
    return Arm(
        best_epoch=joined([arm.best_epoch for arm in arms]),
        test_accuracy=joined([arm.test_accuracy for arm in arms]),
        final_train_loss=joined([arm.final_train_loss for arm in arms]),
        dead_units_percent=joined([arm.dead_units_percent for arm in arms]),
        curves=Curves(*map(joined, zip(*(arm.curves for arm in arms), strict=True))),
        ms_per_step=max(steps, default=None),
        seconds=max(arm.seconds for arm in arms),
    )
