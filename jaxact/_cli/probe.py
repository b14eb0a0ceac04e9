"""The command line of ``jaxact probe``."""

import contextlib
import io
import json as json_format
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jax
import typer

from jaxact._errors import RequestError
from jaxact._files import write_atomically
from jaxact._probe.accepted import check
from jaxact._probe.probe import Options, Probed
from jaxact._report.report import Report
from jaxact._report.site import Place
from jaxact._user_code import find, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: So many arrays among the arguments are described when a model does not take them.
_DESCRIBED = 8


def probe(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="A function, an NNX model, or another callable, in a module that can be imported "
            "from here; attributes of it too, as in my.package:model.apply.",
        ),
    ],
    args: Annotated[
        str,
        typer.Option(
            metavar="MODULE:NAME",
            help="What to call it with: a tuple or list of arguments, a dict of keyword arguments, "
            "a single array, or a function without arguments that returns one of these.",
        ),
    ],
    axis: Annotated[
        int, typer.Option(help="The axis of the units in the pre-activations: the last.")
    ] = -1,
    json: Annotated[
        bool, typer.Option("--json", help="Print the figures as JSON, no table.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the report: a .png, .pdf or .svg.")
    ] = None,
) -> None:
    """Is my network dying?

    Calls a model, unedited, and shows what its activations do on the data: dead and saturated
    units, pre-activations, and what to change.
    """
    if plot is not None:
        _picture_format(plot)
    with contextlib.redirect_stdout(sys.stderr):  # What the model prints is no part of the answer.
        report = run(model, args, axis)
    if plot is not None:
        write(report.plot(), plot)
    if json:
        print(to_json(report))
        return
    print(report)
    print()
    print(report.advice())
    if plot is not None:
        print(f"\nDrawn in {plot}")


def run(model: str, args: str, axis: int = -1) -> Report:
    """The report of one call of a model.

    Args:
      model: ``module:attribute`` of a callable. The current directory is searched first.
      args: ``module:attribute`` of its arguments: a tuple or list, a dict of keyword arguments, an
        array, or a function without arguments that returns one of these.
      axis: the axis of the units.

    Raises:
      RequestError: the model or its arguments are not there, or the model cannot be called, does
        not take the arguments, or has no activation.
    """
    function = find(model)
    if isinstance(function, type):
        raise RequestError(
            f"{model} is a class: name an instance, or a function that makes one and calls it."
        )
    if not callable(function):
        raise RequestError(f"{model} cannot be called: it is of type {type(function).__name__}.")
    try:
        check("probe", function)
    except TypeError as error:
        raise RequestError(f"{model}: {error}") from error
    positional, named = arguments(args)

    def units(place: Place) -> int:
        if not -max(len(place.shape), 1) <= axis < max(len(place.shape), 1):
            raise RequestError(
                f"--axis {axis}: the pre-activation of {place.function} in {place.path} has the "
                f"shape {place.shape}."
            )
        return axis

    with one_line(f"{model} raised", f" It was given {_described(positional, named)}."):
        _, report = Probed(function, Options(axis=units)).quietly(*positional, **named)
        jax.block_until_ready(report)
    if not report.sites:
        raise RequestError(
            f"{model} has no activation that jaxact knows: neither its own, nor one of jax.nn, nor "
            "one written as jnp.maximum(x, 0)."
        )
    return report


def arguments(name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the keyword arguments that ``module:attribute`` names.

    Raises:
      RequestError: as for `find`; or the value is none of what `run` takes.
    """
    value = find(name)
    if callable(value):
        with one_line(f"--args {name} is called without arguments, and raised"):
            value = value()
    if isinstance(value, tuple | list):
        return tuple(value), {}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return (), value
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return (value,), {}
    raise RequestError(
        f"--args {name} must be a tuple or list of arguments, a dict of keyword arguments, an "
        "array, or a function without arguments that returns one of these; got "
        f"{type(value).__name__}."
    )


def to_json(report: Report) -> str:
    """The report's scalars as a JSON object. What is not finite is null."""
    scalars = {k: v if math.isfinite(v) else None for k, v in report.scalars().items()}
    return json_format.dumps(scalars, indent=2)


def write(figure: "Figure", path: Path) -> None:
    """Write a picture, in the format of the file's ending, wholly or not at all.

    Raises:
      RequestError: the picture cannot be written, or not in that format.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format=_picture_format(path), dpi=150)
    write_atomically(path, buffer.getvalue())


def _picture_format(path: Path) -> str:
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "pdf", "svg"):
        raise RequestError(f"--plot {path}: the name must end in .png, .pdf or .svg.")
    return kind


def _described(positional: tuple[Any, ...], named: dict[str, Any]) -> str:
    """The arguments' shapes, by their places: ``[0] float32[8,64]``."""
    found = [
        f"{jax.tree_util.keystr(path)} {_shape(leaf)}"
        for tree in (positional, named)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    more = len(found) - _DESCRIBED
    text = ", ".join(found[:_DESCRIBED]) or "no arguments"
    return f"{text} and {more} more" if more > 0 else text


def _shape(leaf: Any) -> str:
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return repr(leaf) if isinstance(leaf, bool | int | float | str) else type(leaf).__name__
