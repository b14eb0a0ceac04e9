"""Every activation is everywhere where a user or a check looks for it."""

import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import jaxact
from benchmarks import accuracy
from benchmarks.peers import NOT_MEASURED, PEERS
from jaxact import gated, piecewise_linear, recent, smooth
from jaxact._core.elementwise import DECLARED
from jaxact._report import remedies
from jaxact.initializers import gain
from tests.support.table import GATED, TABLE
from website import gallery
from website.shown import shown

ROOT = Path(__file__).parent.parent
MODULES = (piecewise_linear, smooth, recent, gated)
#: Declared for the halves of crelu only.
PARTS = {"relu_of_negative"}
#: The arguments of the functions that have no default for them.
REQUIRED = {
    "threshold": {"threshold": 0.5, "value": 0.1},
    "softcap": {"cap": 30.0},
    "clamped_swiglu": {"limit": 7.0},
}


def written() -> set[str]:
    """All names of functions: those in the modules, declared, registered, and in the test table."""
    public = {
        name
        for module in MODULES
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    }
    declared = {declaration.name for declaration in DECLARED.values()} - PARTS
    rows = {row.name for row in (*TABLE, *GATED)}
    return public | declared | set(jaxact.ACTIVATIONS) | rows


def first_name(name: str) -> str:
    """The name under which a function is defined: silu for swish."""
    function = jaxact.ACTIVATIONS.get(name)
    return name if function is None else function.__name__


def has_gain(name: str) -> bool:
    try:
        return math.isfinite(gain(name, **REQUIRED.get(name, {})))
    except ValueError:
        return False


def in_the_gallery(name: str) -> bool:
    return sum(name in names for names in gallery.GROUPS.values()) == 1


def can_be_shown(name: str) -> bool:
    """Whether its page can call it: with the inputs alone, what has no default is set."""
    activation = shown(name)
    try:
        inspect.signature(activation.function).bind(*activation.inputs)
    except TypeError:
        return name == "glu"  # Its two inputs are one array.
    return True


def has_formulas(name: str) -> bool:
    """Of the value, and of the slope."""
    function = jaxact.ACTIVATIONS.get(name)
    return function is not None and (function.__doc__ or "").count("$$") >= 4


def in_the_changelog(name: str) -> bool:
    return re.search(rf"`(jaxact\.)?{name}\b", (ROOT / "CHANGELOG.md").read_text()) is not None


#: Where each function must be, and whether it is there.
PLACES: dict[str, Callable[[str], bool]] = {
    "__all__ of its module, and so jaxact.ACTIVATIONS": lambda name: name in jaxact.ACTIVATIONS,
    "jaxact/__init__.py": lambda name: (
        getattr(jaxact, name, None) in [getattr(module, name, jaxact) for module in MODULES]
    ),
    "tests/support/table.py": lambda name: (
        first_name(name) in {row.name for row in (*TABLE, *GATED)}
    ),
    "a gain that is finite (jaxact/_gain.py)": has_gain,
    "one kind (the declaration's, or _KIND in jaxact/_report/remedies.py)": lambda name: (
        sum(name in kind for kind in remedies.KINDS) == 1
    ),
    "one group of the gallery (GROUPS of website/gallery.py)": in_the_gallery,
    "PARAMETERS of website/shown.py, where a parameter has no default": can_be_shown,
    "the rows of benchmarks/accuracy.py": lambda name: (
        first_name(name) in {row.name for row in (*accuracy.ROWS, *accuracy.GATED)}
    ),
    "PEERS of benchmarks/peers.py, for the speed": lambda name: (
        first_name(name) in {peers.name for peers in PEERS} | NOT_MEASURED
    ),
    "its docstring, with the formulas of value and slope": has_formulas,
    "CHANGELOG.md": in_the_changelog,
}


@pytest.mark.parametrize("name", sorted(written()))
def test_a_function_is_everywhere(name):
    missing = [place for place, has in PLACES.items() if not has(name)]
    assert not missing, f"{name} is missing in:\n  " + "\n  ".join(missing)
