"""Commands in processes of their own, as many hosts run them, on this machine."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Where the package ``tests`` is.
ROOT = str(Path(__file__).parents[2])


def free_address() -> str:
    """Where the first of several processes can be found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextlib.contextmanager
def started(
    *commands: Sequence[object], devices: int = 1, quickly: bool = False
) -> Iterator[list[subprocess.Popen]]:
    """The commands at once, each with that many CPU devices; killed at the end if still there.

    Those that run shorter than they compile compile quickly, as tests do (conftest.py).
    """
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    if quickly:
        environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
    running = [
        subprocess.Popen(
            list(map(str, command)),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def finished(
    *commands: Sequence[object], devices: int = 1, seconds: float = 300, quickly: bool = False
) -> list[tuple[int, str, str]]:
    """Exit status, stdout and stderr of each. Gloo's own lines are left out of both."""
    with started(*commands, devices=devices, quickly=quickly) as running:
        results = []
        for process in running:
            outputs = process.communicate(timeout=seconds)
            texts = [
                "".join(line for line in text.splitlines(True) if "[Gloo]" not in line)
                for text in outputs
            ]
            results.append((process.returncode, *texts))
        return results


def printed(code: str) -> str:
    """What a fresh interpreter prints that runs the code."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
