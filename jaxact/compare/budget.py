"""How many seeds fit into a time: decided once, before any result is there."""

import itertools
import math
import time
from collections.abc import Callable, Sequence

import jax

from jaxact._errors import CompareError
from jaxact.compare.data import Split
from jaxact.compare.settings import Settings
from jaxact.compare.training import Program, Trainer, programs

#: The seconds that everything else takes (imports, this decision, the costs, the report), and the
#: share of the rest that training may take by the estimate.
OTHERS, SHARE = 15.0, 0.75
MAX_SEEDS = 1024
#: The numbers of networks that are timed, and the seconds for each.
_TRIAL, _SECONDS = (2, 10), 0.5

Data = Callable[[int | None], Sequence[Split]]


def seeds(studies: Sequence[Settings], data: Data, seconds: float) -> int:
    """The number of seeds with which all studies take about that time.

    The first program's training step is timed with few networks and with more. Other programs are
    taken to compile as long, and to take as much longer a step as they have more weights.

    Args:
      studies: what is to be trained; their own seeds are of no account.
      data: the samples, split by split, by the number of training samples (None: all).
      seconds: the time.

    Raises:
      CompareError: it is too short for two seeds.
    """
    everything = [p for settings in studies for p in programs(settings, settings.cells)]
    first = everything[0]
    compilation, base, each = _timed(first, data(first.samples))
    fixed = slope = 0.0
    for program in everything:
        settings = program.settings
        steps = _steps(program, data) / _steps(first, data)
        networks = program.networks // settings.seeds * settings.splits
        fixed += compilation + settings.epochs * steps * base
        slope += settings.epochs * steps * each * networks * _size(program) / _size(first)
    slope /= jax.device_count()
    found = math.floor((SHARE * (seconds - OTHERS) - fixed) / slope)
    if found < 2:
        needed = math.ceil((fixed + 2 * slope) / SHARE + OTHERS)
        raise CompareError(
            f"--time-budget: {seconds:g} seconds are too short; two seeds take about {needed}. "
            "Give more, or fewer activations, epochs or points."
        )
    return min(found, MAX_SEEDS)


def _timed(program: Program, data: Sequence[Split]) -> tuple[float, float, float]:
    """Seconds: of the compilation, of an epoch without networks, of each network in an epoch."""
    begin = time.perf_counter()
    found = []
    for count in _TRIAL:
        trainer = Trainer(program, data[:1], range(count))
        state = trainer.init()
        step = trainer.compiled(state)
        batches = trainer.batches(0)
        state = step(state, batches, 0)
        trainer.evaluate(state)
        if count == _TRIAL[0]:
            compilation = time.perf_counter() - begin
        start, steps = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < _SECONDS and steps < trainer.steps:
            state = jax.block_until_ready(step(state, batches, steps))
            steps += 1
        start = time.perf_counter()
        trainer.evaluate(state)
        found.append(elapsed / steps * trainer.steps + time.perf_counter() - start)
    each = max(found[1] - found[0], 0.05 * found[1]) / (_TRIAL[1] - _TRIAL[0])
    return compilation, max(found[0] - _TRIAL[0] * each, 0.0), each


def _steps(program: Program, data: Data) -> int:
    samples = program.samples or data(None)[0].sizes[0]
    return max(samples // program.settings.batch_size, 1)


def _size(program: Program) -> float:
    """The weights between hidden layers, which differ between the points of a sweep."""
    widths = program.settings.of(program.cells[0]).widths
    return sum(a * b for a, b in itertools.pairwise((64, *widths, 16))) if widths else 1.0
