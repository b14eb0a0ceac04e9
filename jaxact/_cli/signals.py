"""How Ctrl-C and SIGTERM end the command, in a process of its own.

While modules are imported there is nothing to tidy up, and an exception is not safe: a callback of
the garbage collector swallows it, an extension module makes another error of it. So both signals
end the process at once. Later the first Ctrl-C is a KeyboardInterrupt, so that progress bars and
threads come to their end; SIGTERM, or Ctrl-C once more, still ends the process at once, but not
amid a file.
"""

import signal
from types import FrameType
from typing import NoReturn

from jaxact._cli import terminal

INTERRUPTED = "interrupted; jaxact compare, if it is repeated, goes on where it stopped."
TERMINATED = "terminated; jaxact compare, if it is repeated, goes on where it stopped."

#: Those that the process does not ignore, and nobody else handles.
_ours: set[int] = set()
_interrupted = False


def take_over() -> None:
    """From now on, each ends the process at once."""
    for number, default in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == default:
            _ours.add(number)
    end_at_once()


def end_at_once() -> None:
    """While modules are imported, and when all is done."""
    for number in _ours:
        signal.signal(number, _end)


def end_in_order() -> None:
    """When everything is imported."""
    for number, handler in ((signal.SIGINT, _interrupt), (signal.SIGTERM, _end_when_written)):
        if number in _ours:
            signal.signal(number, handler)


def is_interrupt(error: BaseException | None) -> bool:
    """Whether it is Ctrl-C, also as the other error that some extension modules make of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None or _interrupted


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    global _interrupted
    _interrupted = True
    signal.signal(signal.SIGINT, _end_when_written)
    raise KeyboardInterrupt


def _end_when_written(number: int, frame: FrameType | None) -> None:
    # Not at the top: the command's shortest answers need no files.
    from jaxact._files import when_written

    when_written(lambda: _end(number, frame))


def _end(number: int, _: FrameType | None) -> NoReturn:
    terminal.end(number, INTERRUPTED if number == signal.SIGINT else TERMINATED)
