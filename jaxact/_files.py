"""Files whole at any moment, folders that one run has to itself, and JSON as people edit it.

``write_atomically`` and ``locked`` rely on no clean end: after a kill -9 the old file is whole, the
lock is free, and what lies about is removed by the next run that has the folder.
"""

import contextlib
import errno
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxact._errors import RequestError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

#: Names of files that are not complete yet.
_TEMPORARY = ".jaxact-{}.tmp"
_LOCK = ".jaxact-lock"

#: Why no lock can be made in a folder that can still be read.
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
#: How systems say that somebody else has a lock.
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


# ------------------------------------------------------------------------------------------------
# Writing

_in_progress: list[Path] = []
_postponed: list[Callable[[], object]] = []


def write_atomically(path: Path, content: bytes, error: type[RequestError] = RequestError) -> None:
    """Replace a file at once: a reader, or a crash at any moment, finds the old one or the new.

    A link at the file's place is replaced, not followed. Several writers do not disturb each other:
    the file is that of the last.

    Args:
      path: the file.
      content: what it is to hold.
      error: the type of the error.

    Raises:
      RequestError: it cannot be written; the old file is as it was.
    """
    # A name that nobody can have foreseen: two writers never have the same.
    temporary = path.with_name(_TEMPORARY.format(os.urandom(8).hex()))
    _in_progress.append(path)
    try:
        with open(temporary, "xb") as file:  # x: neither another's file nor a link is written to.
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as why:  # interrupts too
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(why, OSError):
            raise error(f"{path} cannot be written ({why.strerror or why}).") from why
        raise
    finally:
        _in_progress.remove(path)
        if not _in_progress and _postponed:
            _postponed.pop(0)()


def when_written(action: Callable[[], object]) -> None:
    """Do something once no file is half written: now, or after the write in progress.

    It is for handlers of signals that end the process.
    """
    if _in_progress:
        _postponed.append(action)
    else:
        action()


def _sync_folder(folder: Path) -> None:
    """Make a renaming durable (not every system opens folders)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# ------------------------------------------------------------------------------------------------
# Locking


@contextlib.contextmanager
def locked(folder: Path, error: type[RequestError] = RequestError) -> Iterator[bool]:
    """Have a folder alone, among all that call this, on all hosts that see it.

    The system holds the lock and releases it when the process ends, however it ends: there are no
    stale locks. The file of the lock is removed at the end; one that a killed process leaves is
    harmless. Where the file system knows no locks, the folder is not locked.

    Args:
      folder: it must be there.
      error: the type of the error.

    Yields:
      Whether files can be made in the folder. A folder that cannot be written is not locked either:
      what is in it can be read, as files are replaced in one piece.

    Raises:
      RequestError: another run has the folder, or there is something else in the lock's place.
    """
    path = folder / _LOCK
    try:
        descriptor = _lock(path)
    except OSError as why:
        if why.errno not in _NOT_WRITABLE:
            raise error(f"{path} cannot be opened ({why.strerror}).") from why
        yield False
        return
    if descriptor is None:
        raise error(f"{folder}: in use by another run; wait for its end, or choose another folder.")
    try:
        yield True
    finally:
        # While the lock is held. Who has opened the file meanwhile finds that its name is gone.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    """An open file that holds the lock, or None if another one does."""
    for _ in range(100):  # Each time another run was there in between.
        # Not through a link, which could lead to anybody's file.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o666)
        try:
            _try_to_lock(descriptor)
        except OSError as why:
            if why.errno in _TAKEN:
                os.close(descriptor)
                return None
            return descriptor  # There are no locks on this file system.
        # Its last owner may have removed the file in between: then it locks nothing.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                _remove_leftovers(path.parent)
                return descriptor
        os.close(descriptor)
    return None


def _try_to_lock(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_leftovers(folder: Path) -> None:
    """What killed processes had begun to write."""
    for path in folder.glob(_TEMPORARY.format("*")):
        with contextlib.suppress(OSError):
            path.unlink()


# ------------------------------------------------------------------------------------------------
# Reading


def read_json(path: Path, error: type[RequestError] = RequestError) -> Any:
    """The content of a JSON file, as it is written or as somebody has edited it.

    Args:
      path: the file.
      error: the type of the error.

    Returns:
      Dicts, lists, texts, booleans, None, finite floats, and integers of at most 64 bits.

    Raises:
      RequestError: it cannot be read, or it is damaged: no JSON in UTF-8, nested too deeply, with a
        number that is too large or not finite, or with a name twice in one object.
    """
    try:
        return json.loads(
            path.read_bytes().decode("utf-8-sig"),
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_not_finite,
            object_pairs_hook=_object,
        )
    except OSError as why:
        raise error(f"{path} cannot be read ({why.strerror or why}).") from why
    except UnicodeDecodeError as why:
        raise error(f"{path} is damaged (it is not text in UTF-8).") from why
    except RecursionError as why:
        raise error(f"{path} is damaged (it is nested too deeply).") from why
    except MemoryError as why:
        raise error(f"{path} is too large for the memory.") from why
    except ValueError as why:
        raise error(f"{path} is damaged ({why}).") from why


def _integer(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) >= 2**64:
        raise ValueError(f"an integer of {len(text.lstrip('-'))} digits is too large")
    return value


def _float(text: str) -> float:
    if math.isfinite(value := float(text)):
        return value
    raise ValueError(f"the number {text[:20]} is too large")


def _not_finite(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found
