"""The form of an activation: its call as people write it, ``gelu(approximate=False)``.

A form names a function of `jaxact.ACTIVATIONS` and the parameters that are not its defaults; so it
can be read back into that function, and compared with what a user writes in a selector.
"""

import ast
import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxact._core.elementwise import DECLARED
from jaxact.registry import ACTIVATIONS

#: What stands for a parameter that is an array, in place of its value.
ARRAY = ...

#: The arguments that a declaration stands for beside its parameters, by its mark.
_GIVEN: Mapping[str, Mapping[str, Any]] = {
    "gelu_erf": {"approximate": False},
    "geglu_erf": {"approximate": False},
    "rrelu_divisor": {"divisor": True},
    "rrelu_mean": {"deterministic": True},
    "rrelu_mean_divisor": {"deterministic": True, "divisor": True},
    "clamped_swiglu_after": {"clamp": "after"},
    "clamped_swiglu_after_alpha": {"clamp": "after"},
    **{
        f"surrogate_relu_{name}": {"surrogate": name}
        for name in ("bsilu", "nelu", "silu", "gelu", "mish", "elu", "selu")
    },
}

#: The functions whose first parameter is written without its name.
_BY_POSITION = ("leaky_relu", "leaky_relu_squared")


def written(name: str, mark: str, inputs: Sequence[Any], dtype: Any) -> str:
    """The form of an activation.

    Args:
      name: in `ACTIVATIONS`.
      mark: its key in `DECLARED`, or "" where nothing is known of its parameters.
      inputs: its arguments: arrays, then parameters, of which those that are floats are numbers.
      dtype: of the pre-activation: numbers that are the same there are the same.

    Examples:
      >>> written("gelu", "gelu_erf", ["x"], "float32")
      'gelu(approximate=False)'
      >>> written("leaky_relu", "leaky_relu", ["x", 0.2], "float32")
      'leaky_relu(0.2)'
      >>> written("elu", "elu", ["x", 1.0], "float32")
      'elu'
    """
    if mark not in DECLARED or name not in ACTIVATIONS:
        return name
    names = list(DECLARED[mark].parameters)
    values = inputs[len(inputs) - len(names) :]
    given = dict(zip(names, values, strict=True)) | dict(_GIVEN.get(mark, {}))
    parts: list[str] = []
    for parameter, default in _defaults(name).items():
        if parameter not in given:
            continue
        value = given[parameter]
        if not isinstance(value, float | bool | str):
            # Without a default, the name alone says that it is an array. Those of random slopes
            # are out of sight.
            if default is inspect.Parameter.empty or mark in ("rrelu", "rrelu_divisor"):
                continue
            value = ARRAY
        if _same(value, default, dtype):
            continue
        first = name in _BY_POSITION and not parts
        parts.append(f"{'' if first else parameter + '='}{_text(value)}")
    return f"{name}({', '.join(parts)})" if parts else name


def read(text: str) -> tuple[str, dict[str, Any]] | None:
    """The function and the parameters of a form, those that are its defaults left out.

    None for a text that is no call of a function of `ACTIVATIONS`, or a call that does not fit it.

    Examples:
      >>> read("leaky_relu(negative_slope=0.2)") == read("leaky_relu(0.2)")
      True
      >>> read("gelu(approximate=True)")
      ('gelu', {})
      >>> read("*/relu")
    """
    if text in ACTIVATIONS:
        return text, {}
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None
    name = call.func.id
    if name not in ACTIVATIONS:
        return None
    defaults = _defaults(name)
    try:
        given = dict(zip(defaults, map(_value, call.args), strict=False))
        given |= {keyword.arg or "": _value(keyword.value) for keyword in call.keywords}
    except (ValueError, TypeError):
        return None
    if len(given) < len(call.args) + len(call.keywords) or given.keys() - defaults.keys():
        return None
    return name, {k: v for k, v in given.items() if not _same(v, defaults[k], "float32")}


def same(a: str, b: str) -> bool:
    """Whether two texts are forms of one function, with the same parameters."""
    one, other = read(a), read(b)
    if one is None or other is None or ACTIVATIONS[one[0]] is not ACTIVATIONS[other[0]]:
        return False
    mine, others = one[1], other[1]
    return mine.keys() == others.keys() and all(
        _same(value, others[name], "float32") for name, value in mine.items()
    )


def has_arrays(form: str) -> bool:
    """Whether a site of that form has parameters that are arrays."""
    name, parameters = read(form) or ("", {})
    required = {k for k, default in _defaults(name).items() if default is inspect.Parameter.empty}
    return ARRAY in parameters.values() or not required <= parameters.keys()


def number(value: Any, dtype: Any) -> float:
    """The shortest decimal number that is a constant of a program: 0.2 for 0.20000000298.

    Args:
      value: the constant, with a dtype of its own or a Python number.
      dtype: of what it is combined with.
    """
    exact = float(value)
    own, other = np.dtype(getattr(value, "dtype", np.float64)), np.dtype(dtype)
    wider = own if own.itemsize >= other.itemsize else other
    if not math.isfinite(exact) or own.kind in "iub":
        return exact
    rounded = np.asarray(exact).astype(wider)
    for digits in range(1, 18):
        short = float(f"{exact:.{digits}g}")
        with np.errstate(over="ignore"):
            if np.asarray(short).astype(wider) == rounded:
                return short
    return exact


@functools.cache
def _defaults(name: str) -> Mapping[str, Any]:
    """The parameters of a function that are neither its arrays nor a key, with their defaults."""
    return {
        parameter.name: parameter.default
        for parameter in inspect.signature(ACTIVATIONS[name]).parameters.values()
        if parameter.name not in ("x", "gate", "up", "key", "axis")
    }


def _same(value: Any, default: Any, dtype: Any) -> bool:
    """Whether two parameters are the same in a program of that dtype."""
    numbers = (int, float)
    if isinstance(value, bool) or isinstance(default, bool):
        return value is default
    if not (isinstance(value, numbers) and isinstance(default, numbers)):
        return type(value) is type(default) and bool(value == default)
    # Parameters of small floats are those of float32, in which jaxact computes.
    wide = np.float64 if np.dtype(dtype).itemsize > 4 else np.float32
    with np.errstate(over="ignore"):
        return bool(wide(value) == wide(default))


def _text(value: Any) -> str:
    if value is ARRAY:
        return "..."
    if isinstance(value, bool | str):
        return repr(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _value(node: ast.expr) -> Any:
    """The value of an argument: a number, a word, True, False, or `ARRAY`."""
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return float(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -float(_value(node.operand))
    if isinstance(node, ast.Constant):
        return node.value
    raise ValueError
