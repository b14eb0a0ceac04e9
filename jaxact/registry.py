"""Activations by name, for configuration files and command lines."""

import functools
import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxact import _suggestions, gated, piecewise_linear, recent, smooth
from jaxact._names import LIBRARIES

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


def takes_gate_and_up(function: Any) -> bool:
    """Whether it is one of jaxact's functions of two arrays, its parameters set or not."""
    function = function.func if isinstance(function, functools.partial) else function
    known = any(function is own for own in ACTIVATIONS.values())
    return known and list(inspect.signature(function).parameters)[:2] == ["gate", "up"]


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
        values = {
            name: value if isinstance(value, str) else repr(value)
            for name, value in self.keywords.items()
            if isinstance(value, bool | int | float | str)
        }
        if not self._name or len(values) < len(self.keywords):
            return ""
        return f"{self._name}:" + ",".join(f"{name}={text}" for name, text in values.items())

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

    A name of another library has that library's meaning and defaults: ``"torch:gelu"`` is the exact
    GELU, ``"jax:gelu"`` the tanh form. Libraries are ``jax``, ``flax``, ``torch``, ``keras``,
    ``hf`` (Hugging Face's ``ACT2FN``), ``timm`` and ``onnx``; "The same name in other libraries" in
    the documentation has all names. The result is a function of this package in all respects.

    Args:
      activation: a name of `ACTIVATIONS`, or a library's prefix and a name of its own, optionally
        followed by a colon and numbers for the parameters, by position or by name:
        ``"leaky_relu:0.2"``, ``"rrelu:lower=0.1,upper=0.3"``, ``"keras:soft_shrink:threshold=1"``.
        A callable is returned as it is (with ``parameters`` set).
      **parameters: parameters by name; that of the library, where the name is one of its own.

    Returns:
      The function itself where no parameter is set, else a `Parameterized`, a
      ``functools.partial`` of it: the same object for the same function and parameters, unless
      those are arrays. Both can be pickled, and be static arguments of ``jax.jit``. A layer that
      learns a slope, as ``"torch:PReLU"``, is `prelu` with the slope that it starts from.

    Raises:
      TypeError: neither a name nor a function.
      ValueError: an unknown name (the message has the closest ones, and which library has it), a
        name of another library without a counterpart (and why), an unknown parameter, a value that
        is not a number.

    Examples:
      >>> get("leaky_relu:0.2")([-1.0, 2.0])
      Array([-0.2,  2. ], dtype=float32)
      >>> get("gelu", approximate=False)([-2.0, 2.0]).round(4)
      Array([-0.0455,  1.9545], dtype=float32)
      >>> get("keras:LeakyReLU")
      jaxact.get('leaky_relu', negative_slope=0.3)
      >>> get("torch:leaky_relu") is get("leaky_relu")
      True
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
    named, text = _named(activation)
    given = {
        parameter: _value(activation, named, parameter, value) if isinstance(value, str) else value
        for parameter, value in parameters.items()
    }
    if text is not None:
        # A key has no place in a text.
        positions = [theirs for theirs, ours in named.parameters.items() if ours != "key"]
        for parameter, value in _parse(activation, text, positions, named):
            if parameter in given:
                raise ValueError(f"get: {parameter} is given twice for {activation!r}.")
            given[parameter] = value
    for parameter in given:
        if parameter not in named.parameters:
            names = ", ".join(named.parameters)
            known = f"it has {names}" if names else "it has none"
            raise ValueError(f"get: {named.name} has no parameter {parameter!r}; {known}.")
    set_here = {named.parameters[parameter]: value for parameter, value in given.items()}
    return _parameterized(named.function, named.defaults | set_here)


class _Named(NamedTuple):
    """What a name stands for.

    Attributes:
      name: the name, with its library.
      function: one of `ACTIVATIONS`.
      defaults: the parameters that the name sets.
      parameters: what its library calls them, and what the function does.
      values: words that stand for a parameter's value.
      words: the function's parameters that are words themselves.
    """

    name: str
    function: Activation
    defaults: dict[str, Any]
    parameters: dict[str, str]
    values: Mapping[str, Any]
    words: frozenset[str]


@functools.lru_cache(1024)
def _named(activation: str) -> tuple[_Named, str | None]:
    """What the name at the start of a text stands for, and the part behind it."""
    prefix, colon, rest = activation.partition(":")
    if prefix in ACTIVATIONS:
        function = ACTIVATIONS[prefix]
        same = {name: name for name in _parameters(function)}
        return _Named(prefix, function, {}, same, {}, _words(function)), rest if colon else None
    if prefix not in LIBRARIES or not colon:
        raise ValueError(f"get: {_suggestions.unknown(activation, ACTIVATIONS)}")
    library = LIBRARIES[prefix]
    name, colon, rest = rest.partition(":")
    if name not in library.names:
        raise ValueError(f"get: {_suggestions.unknown_in(prefix, name, ACTIVATIONS)}")
    meaning: Any = get(library.names[name])
    function, defaults = meaning, {}
    if isinstance(meaning, Parameterized):
        function, defaults = meaning.func, meaning.keywords
    theirs = {ours: name for name, ours in library.parameters.get(name, {}).items()}
    parameters = {theirs.get(ours, ours): ours for ours in _parameters(function)}
    values, words = library.values, _words(function)
    named = _Named(f"{prefix}:{name}", function, defaults, parameters, values, words)
    return named, rest if colon else None


def _parameters(function: Activation) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in _DATA]


def _words(function: Activation) -> frozenset[str]:
    """The parameters that are words: ``clamp`` of `clamped_swiglu`."""
    parameters = inspect.signature(function).parameters.values()
    return frozenset(p.name for p in parameters if isinstance(p.default, str))


def _parse(activation: str, text: str, names: list[str], named: _Named) -> list[tuple[str, Any]]:
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
        parameter = parameter.strip()
        pairs.append((parameter, _value(activation, named, parameter, value.strip())))
    return pairs


def _value(activation: str, named: _Named, parameter: str, text: str) -> Any:
    if named.parameters.get(parameter) in named.words:
        return text
    literals = {"true": True, "false": False, **named.values}
    if text.lower() in literals:
        return literals[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    words = f" or one of {', '.join(named.values)}" if named.values else ""
    raise ValueError(
        f"get: {text!r} in {activation!r} is not a number{words}; write for example "
        "'leaky_relu:0.2'."
    )
