"""The command ``jaxact``."""

import importlib.util
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, cast

if TYPE_CHECKING:
    import typer

_NEEDED = ("matplotlib", "pandas", "rich", "scipy", "sklearn", "typer")
_INTERRUPTED = 130


def application() -> "typer.Typer":
    """The command with its subcommands."""
    import typer

    import jaxact
    from jaxact._cli.compare import compare
    from jaxact._cli.probe import probe

    app = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
    )

    @app.callback(invoke_without_command=True)
    def root(
        context: typer.Context,
        version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    ) -> None:
        """Activation functions for JAX: choose them, and see what they do in a model."""
        if version:
            typer.echo(f"jaxact {jaxact.__version__}")
            raise typer.Exit
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    app.command()(compare)
    app.command()(probe)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 when it has done its job, 2 for a request that it cannot use.

    Args:
      arguments: what follows the command's name; from ``sys.argv`` by default.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        _exit(1, f'{", ".join(missing)} not installed: pip install "jaxact[cli]"')
    import typer

    from jaxact._errors import RequestError

    # Click's UsageError, wherever this typer keeps its click.
    usage_error = cast(type[Exception], typer.BadParameter.__mro__[1])
    try:
        status = application()(arguments, standalone_mode=False)
    except RequestError as error:
        _exit(2, str(error))
    except (typer.Abort, KeyboardInterrupt):
        status = _INTERRUPTED
    except usage_error as error:
        _exit(2, error.format_message())  # type: ignore[attr-defined]
    if status == _INTERRUPTED:  # new versions of typer return it
        _exit(status, "interrupted; jaxact compare, if it is repeated, goes on where it stopped.")
    sys.exit(status or 0)


def _exit(status: int, message: str) -> None:
    print("error:", " ".join(message.split()), file=sys.stderr)
    sys.exit(status)
