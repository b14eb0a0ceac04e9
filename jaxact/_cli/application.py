"""The command with its subcommands, of which only the one that is asked for is imported."""

import importlib
from collections.abc import Callable, Sequence
from typing import Annotated, cast

import typer

from jaxact._cli import SUMMARIES, terminal, version as version_line
from jaxact._errors import RequestError

# Click's UsageError, wherever this typer keeps its click.
_UsageError = cast(type[Exception], typer.BadParameter.__mro__[1])


def load(arguments: Sequence[str]) -> typer.Typer:
    """The command that the arguments ask for, ready to run."""
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
            typer.echo(version_line())
            raise typer.Exit
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    # The first that is no option: none of the options before a subcommand has a value.
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, summary in SUMMARIES.items():
        if name == asked:
            app.command(name)(subcommand(name))
        else:
            app.command(name, help=summary)(_only_listed)
    return app


def run(command: typer.Typer, arguments: Sequence[str]) -> int:
    """The exit status.

    Raises:
      RequestError: something in the arguments cannot be used.
      KeyboardInterrupt: Ctrl-C.
    """
    try:
        status = command(arguments, standalone_mode=False)
    except _UsageError as error:
        raise RequestError(error.format_message()) from error  # type: ignore[attr-defined]
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    if status == terminal.INTERRUPTED:  # new versions of typer return it
        raise KeyboardInterrupt
    return status or 0


def subcommand(name: str) -> Callable[..., None]:
    """The function of a subcommand."""
    return getattr(importlib.import_module(f"jaxact._cli.{name}"), name)


def _only_listed() -> None:
    raise AssertionError("the arguments ask for another subcommand")
