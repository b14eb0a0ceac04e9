"""Writing files such that nothing is ever there by half."""

import contextlib
import os
from pathlib import Path

from jaxact._errors import RequestError


def write_atomically(path: Path, content: bytes, error: type[RequestError] = RequestError) -> None:
    """Replace a file at once: a reader, or a crash at any moment, finds the old one or the new.

    Args:
      path: the file.
      content: what it is to hold.
      error: the type of the error.

    Raises:
      RequestError: it cannot be written; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as why:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise error(f"{path} cannot be written ({why.strerror or why}).") from why


def _sync_folder(folder: Path) -> None:
    """Make a renaming durable (not every system opens folders)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
