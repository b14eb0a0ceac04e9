"""A user's own code by ``module:attribute``, and its errors as requests that cannot be used."""

import contextlib
import difflib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxact._errors import RequestError


def find(name: str) -> Any:
    """What ``module:attribute`` names. The current directory is searched first.

    >>> find("math:pi")
    3.141592653589793

    Raises:
      RequestError: the name is written otherwise, there is no such module or attribute (the message
        lists similar names), or the module cannot be imported.
    """
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py"):
        path = Path(module_name[:-3])
        parts = (path.name,) if path.is_absolute() else path.parts
        module = ".".join(part for part in parts if part.isidentifier())
        raise RequestError(
            f"{name!r} must be written as module:attribute, without the file's ending: "
            f"{module}:{attribute or 'attribute'}."
        )
    names = [*module_name.split("."), *attribute.split(".")]
    if not all(part.isidentifier() for part in names):
        raise RequestError(
            f"{name!r} must be written as module:attribute, such as my.package:model or "
            "train:Model.apply."
        )
    found = _module(module_name)
    so_far = module_name
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            close = difflib.get_close_matches(part, dir(found), cutoff=0.5)
            hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise RequestError(f"{name}: {so_far} has no attribute {part!r}.{hint}") from None
        so_far += ("." if ":" in so_far else ":") + part
    return found


@contextlib.contextmanager
def one_line(before: str, after: str = "") -> Iterator[None]:
    """Errors of a user's code as requests that cannot be used."""
    try:
        yield
    except RequestError:
        raise
    except (Exception, SystemExit) as error:
        raise RequestError(f"{before} {first_line(error)}{after}") from error


def first_line(error: BaseException) -> str:
    """An error's type, and the first line of its message."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]]) + "."


def _module(name: str) -> Any:
    # On the path of imports, a console script has its own folder, not the current one.
    try:
        folder = str(Path.cwd())
    except OSError:
        raise RequestError(
            "the current directory, where modules are looked for first, is not there any more: "
            "change to one that is."
        ) from None
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        # The module itself or a package around it is missing, not a module that it needs.
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise RequestError(
                f"there is no module {missing!r}, neither in {folder} nor installed."
            ) from None
        raise RequestError(f"{name} cannot be imported: {first_line(error)}") from error
