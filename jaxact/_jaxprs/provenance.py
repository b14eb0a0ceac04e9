"""Where the equations of a jaxpr come from: named scopes, calls, the line of the user's code."""

import os
import re
from collections.abc import Sequence
from typing import Any

from jaxact._core.elementwise import without_marks

#: The packages between a user's line and an equation.
_LIBRARIES = re.compile(r"/site-packages/(jax|flax|haiku|equinox|optax|chex)/")
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
    for equation in equations:
        for call in frames(equation):
            file = call.file_name
            if not (_LIBRARIES.search(file) or file.startswith((_OURS, "<"))):
                return f"{os.path.basename(file)}:{call.line_num}"
    return ""
