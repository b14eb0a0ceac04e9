"""What `jaxact.probe` and `jaxact.swap` take: any callable that JAX can trace."""

import functools
import inspect
import sys
from collections.abc import Iterable
from typing import Any

_LATER = (
    (
        "a generator function, of which nothing runs before its values are asked for",
        "a function that returns them, such as lambda *args: list(fn(*args))",
    ),
    ("an async function, of which nothing runs before it is awaited", "the function without async"),
)


def check(what: str, fn: Any) -> None:
    """Raise TypeError, with the remedy, for what cannot be traced.

    Args:
      what: the name of the public function, for the message.
      fn: what it was given.
    """
    if not callable(fn):
        raise TypeError(f"{what}: fn must be a function or a callable model, got {fn!r}.")
    later = _runs_later(fn)
    if later is not None:
        raise TypeError(f"{what}: fn is {_LATER[later][0]}. Pass {_LATER[later][1]}.")
    linen = sys.modules.get("flax.linen")
    if linen is not None and isinstance(fn, linen.Module) and fn.scope is None:
        name = type(fn).__name__
        raise TypeError(
            f"{what}: fn is a Linen module without variables ({name}). Pass its apply: "
            f"jaxact.{what}(model.apply)(variables, x)."
        )


def is_later(result: Any) -> bool:
    """Whether a result is one that has not been computed yet."""
    return inspect.isgenerator(result) or inspect.iscoroutine(result) or inspect.isasyncgen(result)


def check_results(results: Iterable[Any]) -> None:
    """Raise TypeError for results that have not been computed yet."""
    for result in filter(is_later, results):
        raise TypeError(
            f"jaxact: the function returned a {type(result).__name__}, whose values are not "
            "computed yet. Let it return arrays: list(...) of a generator, and no async."
        )


def attribute(of: Any, name: str) -> Any:
    """An attribute, or None where there is none: reading it may run a user's code, which fails."""
    try:
        return getattr(of, name, None)
    except Exception:
        return None


def _runs_later(fn: Any) -> int | None:
    """Which of `_LATER` a callable is: itself, or by the ``__call__`` of its class."""
    for function in (fn, inspect.getattr_static(type(fn), "__call__", None)):
        while isinstance(function, functools.partial):
            function = function.func
        # Of anything else, the questions below would read attributes.
        if not (inspect.isfunction(function) or inspect.ismethod(function)):
            continue
        if inspect.isgeneratorfunction(function):
            return 0
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            return 1
    return None
