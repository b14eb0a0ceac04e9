"""Several processes, usually one a host, that run the same comparison (``jax.distributed``).

The processes talk between trainings only. What one process finds wrong ends all processes: if it
just left, the others would wait for it.
"""

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxact._errors import CompareError

T = TypeVar("T")


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Become one of the processes of a comparison. Call it before anything else of JAX.

    Args:
      coordinator: the address ``host:port`` of process 0.
      processes: how many there are.
      process: which of them this is, from 0.
      All three are found out by JAX where they are None: on TPU pods, under Slurm and Open MPI.

    Raises:
      CompareError: the processes do not find each other, or the three do not fit together.
    """
    given = (coordinator, processes, process)
    if None in given and given != (None, None, None):
        raise CompareError("--coordinator, --processes and --process belong together: give all.")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise CompareError(
            f"--process {process}: must be from 0 to {processes - 1}, one less than --processes."
        )
    # JAX would keep SIGTERM to itself, as the sign to make a checkpoint; here nothing gets lost.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        remedy = ""
        if coordinator is None:
            remedy = (
                " Where JAX does not find the other processes by itself, give --coordinator, "
                "--processes and --process."
            )
        raise CompareError(f"cannot join the other processes: {error}{remedy}") from error
    # All processes have just met: connect them now. Gloo gives up if one process comes 30 seconds
    # after another, as may happen when they read the data; once connected, they wait.
    share(None)


def is_first() -> bool:
    """Whether this process writes the files and prints."""
    return jax.process_index() == 0


def share(value: T) -> list[T]:
    """The values of all processes, in order. Every process must call it."""
    if jax.process_count() == 1:
        return [value]
    # As bytes: they pass unchanged, where float64 would be rounded.
    content = np.frombuffer(pickle.dumps(value), np.uint8)
    with _stdout_to_stderr():
        sizes = multihost_utils.process_allgather(np.int32(content.size))
        padded = np.pad(content, (0, sizes.max() - content.size))
        gathered = multihost_utils.process_allgather(padded)
    return [pickle.loads(row[:size]) for row, size in zip(gathered, sizes, strict=True)]


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send to stderr what Gloo, which connects CPUs, says on stdout, where only results belong."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def agree(action: Callable[[], T]) -> T:
    """Do something in every process; an error in one is an error in all."""
    error: Exception | None = None
    try:
        value = action()
    except Exception as caught:
        error = caught
    # What is in an exception may not pickle; its text does.
    messages = share(None if error is None else str(error) or repr(error))
    if error is not None:
        raise error
    for process, message in enumerate(messages):
        if message is not None:
            raise CompareError(f"process {process}: {message}")
    return value


def first(action: Callable[[], T]) -> T:
    """Do something in process 0, and give every process what came out, value or error."""
    return cast(T, share(agree(lambda: action() if is_first() else None))[0])
