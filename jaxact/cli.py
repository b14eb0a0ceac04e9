"""The command ``jaxact``."""

import sys

from jaxact._errors import RequestError

TYPE_CHECKING = False  # That of ``typing`` takes longer to import than all of this.
if TYPE_CHECKING:
    from collections.abc import Sequence

_NEEDED = ("matplotlib", "pandas", "rich", "scipy", "sklearn", "typer")


def main(arguments: "Sequence[str] | None" = None) -> None:
    """Run the command and exit.

    The status is 0 when it has done its job, 2 for a request that it cannot use, 1 when its output
    cannot be written, and after a signal 128 and the signal's number, as in shells.

    Args:
      arguments: what follows the command's name; from ``sys.argv`` by default. When they are given,
        the process is the caller's, and its streams and its handling of signals stay as they are.
    """
    try:
        status = _answer(list(arguments)) if arguments is not None else _own_process()
    except BaseException as error:
        status = _status(error, own=arguments is None)
    sys.exit(status)


def _own_process() -> int:
    """The exit status. Every other import is in here, where Ctrl-C ends it with one line."""
    from jaxact._cli import signals, terminal

    signals.take_over()
    terminal.prepare()
    status = _answer(sys.argv[1:])
    sys.stdout.flush()  # A full disk is found here, not when Python ends.
    return status


def _answer(arguments: list[str]) -> int:
    arguments = arguments or ["--help"]
    # Typer takes longer to import, and to find that a command is wrong, than these take in all.
    if arguments == ["--version"]:
        from jaxact._cli import version

        print(version())
        return 0
    _check_command(arguments[0])
    import importlib.util

    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        from jaxact._cli import terminal

        terminal.say(
            f'{", ".join(missing)} not installed: pip install -e ".[cli]" in a clone of jaxact'
        )
        return 1
    from jaxact._cli import application

    return application.run(application.load(arguments), arguments)


def _check_command(name: str) -> None:
    from jaxact._cli import SUMMARIES

    if not name.startswith("-") and name not in SUMMARIES:
        import difflib

        close = difflib.get_close_matches(name, SUMMARIES)
        hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
        raise RequestError(f"No such command {name!r}.{hint}")


def _status(error: BaseException, own: bool) -> int:
    """The exit status after an error that a line explains; others are raised."""
    from jaxact._cli import signals, terminal

    if signals.is_interrupt(error):
        terminal.say(signals.INTERRUPTED)
        return terminal.INTERRUPTED
    if isinstance(error, RequestError):
        terminal.say(str(error))
        return 2
    if own and terminal.output_failed(error):
        terminal.abandon_output()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            terminal.say(f"the output cannot be written ({error.strerror}).")
            return 1
        return terminal.BROKEN_PIPE  # Nobody is left who wants to read it, as with `| head`.
    raise error
