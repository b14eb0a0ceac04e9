"""Which of the arrays that a function is called with are data, and which are its parameters."""

import inspect
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

#: What the user says: the arguments that are data, by position or by name; none of them, `()`, if
#: what the function closes over is; None for the usual.
Data = int | str | Sequence[int | str] | None


class Origin(NamedTuple):
    """Where an array comes from that a function is called with.

    Attributes:
      argument: the position or the name of the argument; None for the function's own state.
      is_param: whether it is a `Param` of a Flax NNX module.
      in_module: whether it is in an NNX module at all.
    """

    argument: int | str | None
    is_param: bool = False
    in_module: bool = False

    @property
    def differentiated(self) -> int | str | None:
        """The argument, if a gradient by the argument is one by this array."""
        return self.argument if self.is_param or not self.in_module else None


def checked_data(name: str, data: Any) -> Data:
    """The option ``data`` as the user gives it to the function of that name.

    Raises:
      TypeError: it is none.
    """
    several = data if isinstance(data, tuple | list) else (data,)
    if data is not None and not all(_is_argument(each) for each in several):
        raise TypeError(
            f"{name}: data must name arguments, by position or by name, such as 1 or (1, 'mask'); "
            f"got {data!r}."
        )
    return tuple(data) if isinstance(data, list) else data


def _is_argument(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, Integral) and not isinstance(value, bool))


def are_data(
    origins: Sequence[Origin], data: Data, function: Callable[..., Any], first: int
) -> list[bool]:
    """For each array, whether it is data.

    Args:
      origins: of the arrays.
      data: what the user says. By default every argument but the first; the only one, if there is
        but one; with NNX modules all but their `Param`.
      function: the function.
      first: how many arguments hold parameters that `jaxact.swap` has added in front.

    Raises:
      ValueError: the user names an argument that is not there, or has no arrays.
    """
    names = _names(function)
    if data is not None:
        chosen = [_key(each, names) for each in (data if isinstance(data, tuple) else (data,))]
        found = {_key(o.argument, names) for o in origins if o.argument is not None}
        for key in chosen:
            if key not in found:
                there = ", ".join(map(str, sorted(found, key=str))) or "none"
                raise ValueError(
                    f"probe: data={data!r}: there is no argument {key!r} with arrays in this call; "
                    f"those with arrays are {there}."
                )
        return [o.argument is not None and _key(o.argument, names) in chosen for o in origins]
    if any(o.in_module for o in origins):
        return [not o.is_param for o in origins]
    keys = list(dict.fromkeys(_key(o.argument, names) for o in origins))
    order = {name: i for i, name in enumerate(names)}
    keys.sort(key=lambda key: order.get(key, len(order)) if isinstance(key, str) else key)
    parameters = set(keys[:first])
    others = keys[first:]
    if len(others) > 1:
        parameters.add(others[0])
    return [_key(o.argument, names) not in parameters for o in origins]


def _names(function: Callable[..., Any]) -> list[str]:
    """The names of a function's arguments by position, as far as they are known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except Exception:  # Reading attributes of a user's object may run code that fails.
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _key(argument: Any, names: Sequence[str]) -> Any:
    """An argument's name if it is known, else its position."""
    if isinstance(argument, Integral):
        position = int(argument) % len(names) if argument < 0 and names else int(argument)
        return names[position] if position < len(names) else position
    return argument
