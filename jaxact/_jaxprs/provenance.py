"""Where the equations of a jaxpr come from: named scopes, calls, the line of the user's code."""

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from jaxact._core.elementwise import without_marks

#: The packages between a user's line and an equation.
_LIBRARIES = re.compile(r"/site-packages/(jax|flax|haiku|equinox|optax|chex)/")
_JAX = re.compile(r"/site-packages/jax/")
_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep


def name_stack(equations: Sequence[Any]) -> str:
    """The named scopes of nested equations, the outermost first, as the user's program has them.

    Without the transformations: transpose(jvp(M))/Dense_0 is M/Dense_0.
    """
    stacks = [str(equation.source_info.name_stack) for equation in equations]
    return plain("/".join(filter(None, stacks)))


def plain(names: str) -> str:
    """A name stack without transformations and without jaxact's own marks."""
    names = without_marks(names).replace("rematted_computation", "")
    while (shorter := re.sub(r"\w+\(([^()]*)\)", r"\1", names)) != names:
        names = shorter
    return re.sub("/+", "/", names).strip("/")


def frames(equation: Any) -> Sequence[Any]:
    """Where an equation was made, the innermost call first, up to the start of the trace."""
    traceback = equation.source_info.traceback
    calls = traceback.frames if traceback else ()
    # JAX 0.9 goes on with the callers of whoever traces: they are not the model's.
    starts = (i for i, call in enumerate(calls) if call.function_name.startswith("make_jaxpr."))
    return calls[: next(starts, len(calls))]


def source(equations: Sequence[Any]) -> str:
    """The line of the user's code, ``file:line``, or ""."""
    return _line(equations, lambda file: not (_LIBRARIES.search(file) or _is_internal(file)))


def library_line(equations: Sequence[Any]) -> str:
    """The line of the library that the user's code calls, ``file:line``, or ""."""
    return _line(equations, lambda file: not (_JAX.search(file) or _is_internal(file)))


def _is_internal(file: str) -> bool:
    return file.startswith((_OURS, "<"))


def _line(equations: Sequence[Any], wanted: Callable[[str], bool]) -> str:
    for equation in equations:
        for call in frames(equation):
            if wanted(call.file_name):
                return f"{os.path.basename(call.file_name)}:{call.line_num}"
    return ""
