"""The command ``jaxact``."""

import os
import sys

from jaxact._errors import RequestError

TYPE_CHECKING = False  # That of ``typing`` takes longer to import than all of this.
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_NEEDED = ("matplotlib", "pandas", "rich", "scipy", "sklearn", "typer")
_INTERRUPTED = 130


def main(arguments: "Sequence[str] | None" = None) -> None:
    """Run the command and exit: 0 when it has done its job, 2 for a request that it cannot use.

    Args:
      arguments: what follows the command's name; from ``sys.argv`` by default.
    """
    try:
        status = _run(arguments)
    except BaseException as error:
        if _is_interrupt(error):
            _say_interrupted()
            sys.exit(_INTERRUPTED)
        if isinstance(error, RequestError):
            _say(str(error))
            sys.exit(2)
        raise
    sys.exit(status)


def _run(arguments: "Sequence[str] | None") -> int:
    """The exit status. Every import is in here, where Ctrl-C ends it with a line of its own."""
    import signal

    # Where the process is the command's own: code that takes in-process calls has its own handler.
    own = arguments is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if own:
        signal.signal(signal.SIGINT, _end)
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    # Typer takes longer to import, and to find that a command is wrong, than these take in all.
    if arguments == ["--version"]:
        import importlib.metadata

        print("jaxact", importlib.metadata.version("jaxact"))
        return 0
    _check_command(arguments[0])
    import importlib.util

    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        _say(f'{", ".join(missing)} not installed: pip install "jaxact[cli]"')
        return 1
    from jaxact._cli import application

    command = application.load(arguments)
    if own:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return application.run(command, arguments)


def _check_command(name: str) -> None:
    from jaxact._cli import SUMMARIES

    if not name.startswith("-") and name not in SUMMARIES:
        import difflib

        close = difflib.get_close_matches(name, SUMMARIES)
        hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
        raise RequestError(f"No such command {name!r}.{hint}")


def _end(*_: object) -> "NoReturn":
    """End the process at once.

    While modules are imported there is nothing to tidy up, and a KeyboardInterrupt is not safe: a
    callback of the garbage collector swallows it, an extension module makes another error of it.
    """
    try:
        _say_interrupted()
    finally:
        os._exit(_INTERRUPTED)


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether it is Ctrl-C, also as the ImportError that some extension modules make of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _say_interrupted() -> None:
    _say("interrupted; jaxact compare, if it is repeated, goes on where it stopped.")


def _say(message: str) -> None:
    print("error:", " ".join(message.split()), file=sys.stderr, flush=True)
