"""NumPy archives: their arrays, with sizes checked before anything is unpacked."""

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxact._errors import CompareError
from jaxact._text import size
from jaxact.compare.files import Problems, check_size, first_line


def read_arrays(
    path: Path, raw: bytes, max_memory: int, problems: Problems
) -> dict[str, np.ndarray]:
    """The arrays of an archive, by name.

    Args:
      path: the file's name.
      raw: its bytes.
      max_memory: of the unpacked arrays, in bytes.
      problems: for what comes after.

    Raises:
      CompareError: some member is no array that can be read; the message names all of them.
    """
    name = path.name
    if raw[:6] == b"\x93NUMPY":
        raise CompareError(f"{name} holds a single array, not an archive: use numpy.savez.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CompareError(f"{name} is not a NumPy archive (numpy.savez writes them).") from error
    with archive:
        members = archive.infolist()
        check_size(name, sum(member.file_size for member in members), max_memory)
        arrays = {}
        for member in members:
            key = member.filename.removesuffix(".npy")
            if key == member.filename:
                problems.add(f"{key!r} is no array; numpy.savez writes arrays alone")
            elif member.flag_bits & 1:
                problems.add(f"array {key!r} is encrypted; save it without a password")
            elif key in arrays:
                problems.add(f"array {key!r} is there twice")
            else:
                array = _array(archive, member, key, problems)
                if array is not None:
                    arrays[key] = array
    problems.raise_if_any()
    return arrays


def _array(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, key: str, problems: Problems
) -> np.ndarray | None:
    formats = np.lib.format
    readers: dict[tuple[int, int], Callable[..., Any]] = {
        (1, 0): formats.read_array_header_1_0,
        (2, 0): formats.read_array_header_2_0,
    }
    try:
        with archive.open(member) as file:
            version = formats.read_magic(file)
            # Version 3 differs from 2 in the encoding of fields' names only.
            shape, _, dtype = readers[min(version, (2, 0))](file)
            if dtype.hasobject:
                problems.add(f"array {key!r} has Python objects; save numbers")
                return None
            # Of a header alone: nothing is allocated for what is not there.
            claimed = math.prod(map(int, shape)) * dtype.itemsize
            if claimed > member.file_size:
                problems.add(
                    f"array {key!r} is damaged: it says that it has {size(claimed)}, and the file "
                    f"has {size(member.file_size)}"
                )
                return None
        with archive.open(member) as file:
            return formats.read_array(file, allow_pickle=False)
    except Exception as error:  # NumPy, zipfile and zlib have errors of many types
        problems.add(f"array {key!r} cannot be read ({first_line(error)})")
    return None
