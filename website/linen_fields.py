"""Lets the API page check and show the arguments of Linen layers.

Flax makes a dataclass of each ``linen.Module``. griffe, which reads the package without importing
it, knows only the decorator, so it gets one here.
"""

from typing import Any

import griffe


class LinenFields(griffe.Extension):
    """Adds ``@dataclass`` to the subclasses of ``linen.Module``, as griffe sees them."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """griffe calls this for each class, before it adds the dataclasses' ``__init__``."""
        bases = [base.canonical_path for base in cls.bases if isinstance(base, griffe.Expr)]
        if "flax.linen.Module" in bases:
            dataclass = griffe.ExprName("dataclasses.dataclass")
            cls.decorators.append(griffe.Decorator(dataclass, lineno=None, endlineno=None))
