"""How Ctrl-C and SIGTERM end the command, in a process of its own: at once, but not amid a file.

Not by an exception, which may get lost: a callback of the garbage collector swallows it, an
extension module makes another error of it. Nor is there anything to tidy up: files are whole at any
moment, and the system releases locks.
"""

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from jaxact._cli import terminal

INTERRUPTED = "interrupted; jaxact compare, if it is repeated, goes on where it stopped."
TERMINATED = "terminated; jaxact compare, if it is repeated, goes on where it stopped."


def take_over() -> None:
    """Handle those of the signals that the process does not ignore, and nobody else handles."""
    for number, default in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == default:
            signal.signal(number, _end)


def is_interrupt(error: BaseException | None) -> bool:
    """Whether it is Ctrl-C that an exception tells, in a process that is the caller's."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _end(number: int, _: FrameType | None) -> None:
    def end() -> NoReturn:
        terminal.end(number, INTERRUPTED if number == signal.SIGINT else TERMINATED)

    # Nothing is written before this is imported; the shortest answers do without it.
    files = sys.modules.get("jaxact._files")
    when_written: Callable[[Callable[[], object]], None] | None
    when_written = getattr(files, "when_written", None)
    if when_written is None:
        end()
    when_written(end)
