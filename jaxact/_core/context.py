"""The autodiff context: how jaxact's functions are differentiated, and what they keep for it.

The context is part of JAX's jit cache key, so a function that was traced under one setting is
traced again under another: no cached computation carries a setting that has since changed.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, get_args

import jax

Mode = Literal["reverse", "forward"]
Residual = Literal["auto", "input", "output", "mask", "quantized"]
Bits = Literal[2, 3, 4]


@dataclasses.dataclass(frozen=True)
class AutodiffConfig:
    mode: Mode = "reverse"
    residual: Residual = "auto"
    bits: Bits = 4


_context = jax.make_user_context(AutodiffConfig())


def current() -> AutodiffConfig:
    """The settings in force where this is called (at trace time, under ``jit``)."""
    return _context.value


def autodiff(
    *, mode: Mode | None = None, residual: Residual | None = None, bits: Bits | None = None
) -> contextlib.AbstractContextManager[None]:
    """Context manager: how jaxact's functions are differentiated inside it.

    Settings that are not given keep the value of the enclosing context. Functions jitted outside
    are traced again inside, so nothing stale is reused.

    Args:
      mode: ``"reverse"`` (the default outside any context) uses ``jax.custom_vjp``: ``jax.grad``,
        ``jax.vjp``, ``jax.hessian`` and ``jax.jvp(jax.grad(f))`` work. ``"forward"`` uses
        ``jax.custom_jvp`` rules made from the same slopes: ``jax.jvp``, ``jax.jacfwd`` and
        ``jax.linearize`` work too.
      residual: what the backward pass keeps. ``"auto"`` (the default) is the best exact choice of
        each function; ``"output"`` keeps the output where it determines the gradient exactly,
        and the input elsewhere; ``"input"`` keeps the input; ``"mask"`` keeps one bit an element
        for functions of two slopes with parameters that are numbers, and the input of others.
        These choices do not change the gradient (with ``"mask"``, a NaN input's gradient is that
        of one of the pieces). ``"quantized"`` does: smooth functions keep ``bits`` an element,
        and their derivative is piecewise constant; other functions keep what they do by default.
        The setting acts in reverse mode.
      bits: 2, 3 or 4 (the default), for ``residual="quantized"``.

    Raises:
      ValueError: a value that is none of the above.

    Examples:
      >>> import jax, jaxact
      >>> with jaxact.autodiff(mode="forward"):
      ...     y, dy = jax.jvp(jaxact.relu, (2.0,), (1.0,))
      >>> float(y), float(dy)
      (2.0, 1.0)
    """
    changes: dict[str, Any] = {}
    for name, value, allowed in (
        ("mode", mode, get_args(Mode)),
        ("residual", residual, get_args(Residual)),
        ("bits", bits, get_args(Bits)),
    ):
        if value is None:
            continue
        if value not in allowed:
            choices = ", ".join(map(repr, allowed))
            raise ValueError(f"autodiff: {name} must be one of {choices}; got {value!r}.")
        changes[name] = value
    return _changed(changes)


@contextlib.contextmanager
def _changed(changes: dict[str, Any]) -> Iterator[None]:
    with _context(dataclasses.replace(current(), **changes)):
        yield
