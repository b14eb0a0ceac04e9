"""Activations by name, for configuration files and command lines."""

import difflib
import functools
import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from jaxact import gated, piecewise_linear, recent, smooth

Activation = Callable[..., jax.Array]

#: Every activation of the package by its name: what the four modules list in ``__all__``.
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        name: getattr(module, name)
        for module in (piecewise_linear, smooth, recent, gated)
        for name in module.__all__
    }
)

_DATA = ("x", "gate", "up")


class Parameterized(functools.partial[jax.Array]):
    """An activation with its parameters set: what `get` returns.

    While one lives, `get` returns it again for the same function and parameters; so does a pickle,
    or a copy, of it. Hence it can be a static argument of ``jax.jit``. `str` gives its text, which
    `get` and a Keras configuration take.

    Examples:
      >>> get("leaky_relu:0.2")
      jaxact.get('leaky_relu', negative_slope=0.2)
      >>> str(get("leaky_relu:0.2"))
      'leaky_relu:negative_slope=0.2'
    """

    def __reduce__(self) -> Any:
        return _restored, (self._name or self.func, self.keywords)

    def __repr__(self) -> str:
        parameters = "".join(f", {name}={value!r}" for name, value in self.keywords.items())
        return f"jaxact.get({self._name or self.func!r}{parameters})"

    def __str__(self) -> str:
        return self._text or repr(self)

    @property
    def _name(self) -> str:
        """The name in `ACTIVATIONS`, or nothing for a function from elsewhere."""
        return next((name for name, known in ACTIVATIONS.items() if known is self.func), "")

    @property
    def _text(self) -> str:
        """The text of which `get` makes it, or nothing where there is none."""
        numbers = all(isinstance(value, bool | int | float) for value in self.keywords.values())
        if not self._name or not numbers:
            return ""
        return f"{self._name}:" + ",".join(f"{name}={v!r}" for name, v in self.keywords.items())

    def get_config(self) -> dict[str, Any]:
        """Its text, for Keras, with which it is registered then.

        Raises:
          TypeError: a function from elsewhere, or a parameter that is not a number.
        """
        if not self._text:
            raise TypeError(
                f"get: {self!r} cannot be saved: the function must be one of jaxact's, and all "
                "parameters Python numbers."
            )
        if "keras" in sys.modules:
            register_keras()
        return {"activation": self._text}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Activation:
        """What `get_config` gave the configuration of."""
        return get(config["activation"])


_LIVING: weakref.WeakValueDictionary[Any, Parameterized] = weakref.WeakValueDictionary()
_LOCK = threading.Lock()


def _parameterized(function: Activation, parameters: dict[str, Any]) -> Activation:
    """The one partial of them, if they can be told from others."""
    if not parameters:
        return function
    if function in ACTIVATIONS.values():
        parameters = {name: _python_number(value) for name, value in parameters.items()}
    made = Parameterized(function, **dict(sorted(parameters.items())))
    # 1, 1.0 and True are equal, and not the same parameter.
    key = function, tuple((name, type(value), value) for name, value in made.keywords.items())
    try:
        hash(key)
    except TypeError:  # An array, or a traced value.
        return made
    with _LOCK:
        return _LIVING.setdefault(key, made)


def _restored(activation: str | Activation, parameters: dict[str, Any]) -> Activation:
    return get(activation, **parameters)


def _python_number(value: Any) -> Any:
    scalar = isinstance(value, np.ndarray | np.generic) and value.ndim == 0
    return value.item() if scalar else value


def register_keras() -> None:
    """Register all activations with Keras, under "jaxact>".

    Call it in a program that saves or loads Keras models with them. Keras would save a function
    that has the name of one of its own, such as ``jaxact.gelu``, as that one otherwise.

    Raises:
      ModuleNotFoundError: Keras is not installed.
    """
    import keras

    for serializable in (*ACTIVATIONS.values(), Parameterized):
        keras.saving.register_keras_serializable("jaxact")(serializable)


def get(activation: str | Activation, **parameters: Any) -> Activation:
    """The activation of a name, with its parameters set.

    Args:
      activation: a name of `ACTIVATIONS`, optionally followed by a colon and numbers for the
        parameters, by position or by name: ``"leaky_relu:0.2"``, ``"rrelu:lower=0.1,upper=0.3"``.
        A callable is returned as it is (with ``parameters`` set).
      **parameters: parameters by name.

    Returns:
      The function itself where no parameter is set, else a `Parameterized`, a
      ``functools.partial`` of it: the same object for the same function and parameters, unless
      those are arrays. Both can be pickled, and be static arguments of ``jax.jit``.

    Raises:
      TypeError: neither a name nor a function.
      ValueError: an unknown name (the message has the closest ones), an unknown parameter, a value
        that is not a number.

    Examples:
      >>> get("leaky_relu:0.2")([-1.0, 2.0])
      Array([-0.2,  2. ], dtype=float32)
      >>> get("gelu", approximate=False)([-2.0, 2.0]).round(4)
      Array([-0.0455,  1.9545], dtype=float32)
    """
    if not isinstance(activation, str) and not callable(activation):
        raise TypeError(
            f"get: pass a name such as 'leaky_relu:0.2' or a function, not {activation!r}."
        )
    if isinstance(activation, Parameterized):
        parameters = activation.keywords | parameters
        activation = activation.func
    if not isinstance(activation, str):
        return _parameterized(activation, parameters)
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
    return _parameterized(function, parameters)


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
