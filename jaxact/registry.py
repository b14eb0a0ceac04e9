"""Activations by name, for configuration files and command lines."""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax

from jaxact import gated, piecewise_linear, smooth

Activation = Callable[..., jax.Array]

#: Every activation of the package by its name: what the three modules list in ``__all__``.
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        name: getattr(module, name)
        for module in (piecewise_linear, smooth, gated)
        for name in module.__all__
    }
)

_DATA = ("x", "gate", "up")


def get(activation: str | Activation, **parameters: Any) -> Activation:
    """The activation of a name, with its parameters set.

    Args:
      activation: a name of `ACTIVATIONS`, optionally followed by a colon and numbers for the
        parameters, by position or by name: ``"leaky_relu:0.2"``, ``"rrelu:lower=0.1,upper=0.3"``.
        A callable is returned as it is (with ``parameters`` set).
      **parameters: parameters by name.

    Returns:
      The function itself where no parameter is set, else a ``functools.partial`` of it.

    Raises:
      TypeError: neither a name nor a function.
      ValueError: an unknown name (the message has the closest ones), an unknown parameter, a value
        that is not a number.

    >>> get("leaky_relu:0.2")([-1.0, 2.0]).tolist()
    [-0.2, 2.0]
    >>> get("gelu", approximate=False)([-1.0, 2.0]).tolist()
    [-0.1587, 1.9545]
    """
    if not isinstance(activation, str) and not callable(activation):
        raise TypeError(
            f"get: pass a name such as 'leaky_relu:0.2' or a function, not {activation!r}."
        )
    if not isinstance(activation, str):
        return functools.partial(activation, **parameters) if parameters else activation
    name, colon, rest = activation.partition(":")
    if name not in ACTIVATIONS:
        raise ValueError(f"get: unknown activation {name!r}. {_suggestion(name)}")
    function = ACTIVATIONS[name]
    names = [p for p in inspect.signature(function).parameters if p not in _DATA]
    if colon:
        # A key has no place in a text.
        for parameter, value in _parse(activation, rest, [p for p in names if p != "key"]):
            if parameter in parameters:
                raise ValueError(f"get: {parameter} is given twice for {activation!r}.")
            parameters[parameter] = value
    for parameter in parameters:
        if parameter not in names:
            known = f"it has {', '.join(names)}" if names else "it has none"
            raise ValueError(f"get: {name} has no parameter {parameter!r}; {known}.")
    return functools.partial(function, **parameters) if parameters else function


def _suggestion(name: str) -> str:
    """What an unknown name may have meant: misspelt, or written as elsewhere (LeakyReLU, Swish)."""
    plain = {known.replace("_", ""): known for known in ACTIVATIONS}
    word = name.lower().translate(str.maketrans("", "", "_- "))
    close = [plain[match] for match in difflib.get_close_matches(word, plain, n=3)]
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    return f"The names are: {', '.join(ACTIVATIONS)}."


def _parse(activation: str, text: str, names: list[str]) -> list[tuple[str, Any]]:
    """The ``(parameter, value)`` pairs of the part behind the colon."""
    pairs = []
    for position, item in enumerate(text.split(",")):
        parameter, equals, value = item.rpartition("=")
        if not equals:
            if position >= len(names):
                raise ValueError(
                    f"get: {activation!r} has more values than parameters "
                    f"({', '.join(names) or 'none'})."
                )
            parameter = names[position]
        pairs.append((parameter.strip(), _value(activation, value.strip())))
    return pairs


def _value(activation: str, text: str) -> Any:
    literals = {"true": True, "false": False}
    if text.lower() in literals:
        return literals[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise ValueError(
        f"get: {text!r} in {activation!r} is not a number; write for example 'leaky_relu:0.2'."
    )
