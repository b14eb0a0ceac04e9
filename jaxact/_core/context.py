"""The autodiff settings: how jaxact's functions are differentiated, and what they keep for it.

The settings are part of JAX's jit cache key, so a function that was traced under one is traced
again under another: no cached computation carries a setting that has since changed.

JAX's key is per thread, and an `asyncio` task that waits inside a context would leave it to the
other tasks of its thread. `_entered` says what this task has entered; where JAX's value is another,
one of the tasks does that, and jaxact refuses to go on.
"""

import contextlib
import contextvars
import dataclasses
import os
from collections.abc import Iterator
from typing import Any, Literal, get_args

import jax

Mode = Literal["reverse", "both", "plain"]
Residual = Literal["auto", "input", "output", "mask", "quantized"]
Bits = Literal[2, 3, 4]


@dataclasses.dataclass(frozen=True)
class AutodiffConfig:
    mode: Mode = "reverse"
    #: None leaves it to JAX.
    residual: Residual | None = "auto"
    bits: Bits = 4


def _changes(function: str, **settings: Any) -> dict[str, Any]:
    """The settings that are given, checked."""
    allowed = {"mode": get_args(Mode), "residual": get_args(Residual), "bits": get_args(Bits)}
    changes = {name: value for name, value in settings.items() if value is not None}
    for name, value in changes.items():
        if value not in allowed[name]:
            choices = ", ".join(map(repr, allowed[name]))
            hint = ' "forward" is "both" now.' if value == "forward" else ""
            raise ValueError(f"{function}: {name} must be one of {choices}; got {value!r}.{hint}")
    return changes


_VARIABLE = "JAXACT_AUTODIFF"
#: The settings outside all contexts.
_default = AutodiffConfig(
    **_changes(f"environment variable {_VARIABLE}", mode=os.getenv(_VARIABLE) or None)
)
#: The settings of this thread; None outside all contexts.
_context = jax.make_user_context()
#: What the innermost `autodiff` of this task or thread has set.
_entered: contextvars.ContextVar[AutodiffConfig | None] = contextvars.ContextVar(
    "jaxact.autodiff", default=None
)


def current() -> AutodiffConfig:
    """The settings in force where this is called (at trace time, under ``jit``)."""
    value: AutodiffConfig = _context.value or _default
    entered = _entered.get()
    if value is not entered and value != (entered or _default):
        raise RuntimeError(_INTERLEAVED.format(value=value, entered=entered or _default))
    return value


_INTERLEAVED = """\
jaxact.autodiff: this task is to have {entered}, but its thread has {value}. \
Another asyncio task waits inside `with jaxact.autodiff(...)`, or this one was started inside. \
JAX keeps its settings by thread: leave the context before each `await`, or set what holds for the \
whole program with jaxact.set_autodiff(...)."""


def autodiff(
    *, mode: Mode | None = None, residual: Residual | None = None, bits: Bits | None = None
) -> contextlib.AbstractContextManager[None]:
    """Context manager: how jaxact's functions are differentiated inside it.

    Settings that are not given keep the value of the enclosing context. Functions jitted outside
    are traced again inside, so nothing stale is reused. `set_autodiff` sets them for a whole
    program.

    Args:
      mode: ``"reverse"`` (the default outside any context) is ``jax.custom_vjp``: ``jax.grad``,
        ``jax.vjp``, ``jax.hessian`` and ``jax.jvp(jax.grad(f))`` work. ``"both"`` is
        ``jax.custom_jvp`` with the same slopes and the same memory: ``jax.jvp``, ``jax.jacfwd``
        and ``jax.linearize`` work too. ``"plain"`` is the formula in standard operations without a
        rule of its own, for what looks into programs: exporters, kernel languages,
        ``jax.experimental.jet``. It is as accurate as ``jax.nn``, and finite at every input.
      residual: what the backward pass keeps. ``"auto"`` (the default) is the best exact choice of
        each function; ``"output"`` keeps the output where it determines the gradient exactly,
        and the input elsewhere; ``"input"`` keeps the input; ``"mask"`` keeps one bit an element
        for functions of two slopes with parameters that are numbers, and the input of others.
        These choices do not change the gradient (with ``"mask"``, a NaN input's gradient is that
        of one of the pieces). ``"quantized"`` does: smooth functions keep ``bits`` an element,
        and their derivative is piecewise constant; other functions keep what they do by default.
        The setting does not act in mode ``"plain"``.
      bits: 2, 3 or 4 (the default), for ``residual="quantized"``.

    Raises:
      ValueError: a value that is none of the above.
      RuntimeError: where it is entered or an activation is called, while another ``asyncio`` task
        of the thread waits inside such a context.

    Examples:
      >>> import jax, jaxact
      >>> with jaxact.autodiff(mode="both"):
      ...     y, dy = jax.jvp(jaxact.relu, (2.0,), (1.0,))
      >>> float(y), float(dy)
      (2.0, 1.0)
    """
    return _changed(_changes("autodiff", mode=mode, residual=residual, bits=bits))


def set_autodiff(
    *, mode: Mode | None = None, residual: Residual | None = None, bits: Bits | None = None
) -> None:
    """Set how jaxact's functions are differentiated, for the whole program and all its threads.

    Contexts of `autodiff` win inside them. Settings that are not given stay as they are; what was
    jitted before is traced again. The environment variable ``JAXACT_AUTODIFF=both`` sets the mode
    from the start.

    Args:
      mode: as in `autodiff`.
      residual: as in `autodiff`.
      bits: as in `autodiff`.

    Raises:
      ValueError: a value that is none of those of `autodiff`.

    Examples:
      >>> import jax, jaxact
      >>> jaxact.set_autodiff(mode="both")
      >>> jax.jacfwd(jaxact.relu)(2.0)
      Array(1., dtype=float32, weak_type=True)
      >>> jaxact.set_autodiff(mode="reverse")
    """
    changes = _changes("set_autodiff", mode=mode, residual=residual, bits=bits)
    global _default
    _default = dataclasses.replace(_default, **changes)
    if hasattr(_context, "set_global"):
        _context.set_global(_default)
    else:  # JAX 0.9
        jax.clear_caches()


@contextlib.contextmanager
def _changed(changes: dict[str, Any]) -> Iterator[None]:
    config = dataclasses.replace(current(), **changes)
    token = _entered.set(config)
    try:
        with _context(config):
            yield
    finally:
        _entered.reset(token)


def without_rules_for_memory() -> contextlib.AbstractContextManager[None]:
    """Context manager: both derivatives by the declared slopes, what is kept left to JAX."""
    return _changed({"mode": "both", "residual": None})
