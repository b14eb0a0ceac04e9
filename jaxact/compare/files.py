"""Files of tables and of arrays, read as they are: no meaning is given to a value here.

What is wrong with a file is collected, so that all of it can be told at once. Sizes are checked
before anything is unpacked.
"""

import csv
import dataclasses
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxact._errors import CompareError
from jaxact._text import size

#: The endings of files that can be read.
ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".txt", ".parquet", ".npz")
_DELIMITERS = (",", ";", "\t", "|")
#: So many problems are listed.
_LISTED = 10


@dataclasses.dataclass
class Table:
    """A table, column by column.

    Args:
      columns: by name: texts (an object array of str), or float64 numbers, booleans or datetime64
        where the file has types. A missing text is "", a missing number NaN, a missing date NaT.
      lines: the line of the file on which each row starts; row numbers where there are no lines.
      decimal_comma: whether numbers may have a comma where others have a point.
    """

    columns: dict[str, np.ndarray]
    lines: Sequence[int]
    decimal_comma: bool = False


class Problems:
    """What is wrong with a file, all of which is told at once."""

    def __init__(self, name: str):
        self._name = name
        self._found: list[str] = []

    def add(self, problem: str) -> None:
        """One more; the same one twice is one."""
        if problem not in self._found:
            self._found.append(problem)

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_if_any(self) -> None:
        """Raise a `CompareError` that lists all of them."""
        if not self._found:
            return
        if len(self._found) == 1:
            raise CompareError(f"{self._name}: {self._found[0]}.")
        listed = "; ".join(f"({i}) {p}" for i, p in enumerate(self._found[:_LISTED], 1))
        more = len(self._found) - _LISTED
        end = f"; and {more} more" if more > 0 else ""
        raise CompareError(f"{self._name} has {len(self._found)} problems: {listed}{end}.")


def content(path: Path, max_memory: int) -> bytes:
    """The bytes of a file that is not too large.

    Raises:
      CompareError: there is no such file, its name ends in nothing that can be read, or it is
        larger than ``max_memory``.
    """
    if ending(path) is None:
        raise CompareError(f"--data {path}: the name must end in {', '.join(ENDINGS)}.")
    if not path.exists():
        raise CompareError(f"--data {path}: there is no such file.")
    try:
        _check_size(path.name, path.stat().st_size, max_memory)
        return path.read_bytes()
    except OSError as error:
        raise CompareError(f"--data {path}: cannot be read ({error.strerror}).") from error


def ending(path: Path) -> str | None:
    """Which of `ENDINGS` a name has; the longest one."""
    found = [e for e in ENDINGS if path.name.lower().endswith(e)]
    return max(found, key=len, default=None)


def _check_size(name: str, bytes_: float, max_memory: int) -> None:
    if bytes_ > max_memory:
        raise CompareError(
            f"{name} takes {size(bytes_)} of memory, more than {size(max_memory)}; allow more with "
            "--max-memory, or take fewer samples."
        )


# ------------------------------------------------------------------------------------------------
# Text


def read_text(path: Path, raw: bytes, target: str | None, max_memory: int) -> Table:
    """The table of a text file with a header, whatever separates its columns.

    Args:
      path: the file's name decides how it is packed.
      raw: its bytes.
      target: a name that the header should have, which helps to find the delimiter.
      max_memory: of the unpacked text, in bytes.
    """
    import pandas as pd

    name, kind = path.name, str(ending(path))
    if kind.endswith(".gz"):
        raw = _unpacked(name, raw, max_memory)
    text = _decoded(name, raw)
    if not text.strip():
        raise CompareError(f"{name} is empty.")
    delimiter = _delimiter(text, target, "\t" if kind.startswith(".tsv") else ",")
    header, widths, lines = _records(name, text, delimiter)
    problems = Problems(name)
    names = [column.strip() for column in header]
    for column in dict.fromkeys(names):
        if column and names.count(column) > 1:
            problems.add(
                f"column {column!r} is there {names.count(column)} times; rename all but one"
            )
    long = [line for line, width in zip(lines, widths, strict=True) if width > len(names)]
    if long:
        problems.add(
            f"{_rows(long)} more values than the header has names ({len(names)}); quote values "
            f"that contain {delimiter!r}"
        )
    problems.raise_if_any()
    if not lines:
        raise CompareError(f"{name} has no rows below the header.")
    names = [column or f"column {i}" for i, column in enumerate(names, 1)]
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            header=0,
            names=names,
            index_col=False,
            dtype=str,
            na_filter=False,
            skipinitialspace=True,
        )
    except (ValueError, OverflowError, MemoryError) as error:  # pandas' errors are ValueErrors
        reason = " ".join(str(error).split())
        raise CompareError(f"{name} is not a table that can be read: {reason}.") from error
    columns = {column: _texts(frame[column]) for column in names}
    return Table(columns, lines, decimal_comma=delimiter != ",")


def _texts(values: Any) -> np.ndarray:
    """An object array of stripped texts; what is missing is empty."""
    found = ["" if v is None or v != v else str(v).strip() for v in values.tolist()]
    return np.array(found, object)


def _unpacked(name: str, raw: bytes, max_memory: int) -> bytes:
    unpack = zlib.decompressobj(wbits=31)
    parts, total, left = [], 0, raw
    try:
        while left:
            part = unpack.decompress(left, max_memory + 1 - total)
            parts.append(part)
            total += len(part)
            if total > max_memory:
                _check_size(name, total, max_memory)
            left = unpack.unconsumed_tail
            if unpack.eof:  # one file of several that are packed one behind another
                left = unpack.unused_data
                unpack = zlib.decompressobj(wbits=31)
                if not left:
                    return b"".join(parts)
    except zlib.error as error:
        raise CompareError(f"{name} is not a gzip file, or damaged ({error}).") from error
    raise CompareError(f"{name} is cut off: the end of the gzip file is missing.")


def _decoded(name: str, raw: bytes) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = ["utf-16"]
    elif b"\0" in raw[:4096]:
        raise CompareError(f"{name} is not a text file.")
    else:
        encodings = ["utf-8-sig", "cp1252", "latin-1"]
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise CompareError(f"{name} is not a text file that can be read; save it in UTF-8.")


def _delimiter(text: str, target: str | None, usual: str) -> str:
    """What separates the columns: the one that gives the first lines most columns, all alike."""
    head = text[: 1 << 16].splitlines(keepends=True)[:50]
    if len(text) > 1 << 16 and len(head) > 1:
        head = head[:-1]  # which may be cut off
    found: dict[str, tuple[bool, bool, int, bool]] = {}
    for delimiter in _DELIMITERS:
        try:
            rows = [row for row in csv.reader(head, delimiter=delimiter) if row]
        except csv.Error:
            continue
        names = [name.strip() for name in rows[0]] if rows else []
        if len(names) < 2:
            continue
        alike = all(len(row) == len(names) for row in rows)
        found[delimiter] = (target in names, alike, len(names), delimiter == usual)
    return max(found, key=found.__getitem__, default=usual)


def _records(name: str, text: str, delimiter: str) -> tuple[list[str], list[int], list[int]]:
    """The header, and of each row below it the number of its values and its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    limit = csv.field_size_limit(
        max(len(text), 1)
    )  # a text may be longer than csv reads by default
    header: list[str] | None = None
    widths, lines, start = [], [], 1
    try:
        for record in reader:
            if record:
                if header is None:
                    header = record
                else:
                    widths.append(len(record))
                    lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise CompareError(
            f"{name} is not a table that can be read: line {start}: {error}."
        ) from error
    finally:
        csv.field_size_limit(limit)
    return header or [], widths, lines


def _rows(lines: Sequence[int]) -> str:
    """``"line 3 has"`` or ``"lines 3, 5 and 7 more have"``."""
    if len(lines) == 1:
        return f"line {lines[0]} has"
    shown = ", ".join(map(str, lines[:3]))
    return (
        f"lines {shown} have"
        if len(lines) <= 3
        else f"lines {shown} and {len(lines) - 3} more have"
    )


# ------------------------------------------------------------------------------------------------
# Parquet


def read_parquet(path: Path, raw: bytes, max_memory: int) -> Table:
    """The table of a Parquet file."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = path.name
    try:
        file = pq.ParquetFile(pa.BufferReader(raw))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CompareError(f"{name} is not a Parquet file ({_first_line(error)}).") from error
    metadata = file.metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    cells = metadata.num_rows * max(metadata.num_columns, 1) * 8
    _check_size(name, max(sum(g.total_byte_size for g in groups), cells), max_memory)
    names = file.schema_arrow.names
    problems = Problems(name)
    for column in dict.fromkeys(names):
        if names.count(column) > 1:
            problems.add(f"column {column!r} is there {names.count(column)} times")
    for field in file.schema_arrow:
        if pa.types.is_nested(field.type):
            problems.add(f"column {field.name!r} holds {field.type}, not single values")
    problems.raise_if_any()
    try:
        frame = file.read().to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise CompareError(f"{name} is damaged ({_first_line(error)}).") from error
    if not len(frame):
        raise CompareError(f"{name} has no rows.")
    return Table({str(c): _plain(frame[c], pd) for c in frame.columns}, range(1, len(frame) + 1))


def of_frame(frame: Any) -> Table:
    """The table of a pandas DataFrame."""
    import pandas as pd

    names = [str(column) for column in frame.columns]
    problems = Problems("the table")
    for column in dict.fromkeys(names):
        if names.count(column) > 1:
            problems.add(f"column {column!r} is there {names.count(column)} times")
    problems.raise_if_any()
    if not len(frame):
        raise CompareError("the table has no rows.")
    columns = {n: _plain(frame[c], pd) for n, c in zip(names, frame.columns, strict=True)}
    return Table(columns, range(1, len(frame) + 1))


def _plain(values: Any, pd: Any) -> np.ndarray:
    """A typed column as one of what a `Table` holds."""
    kinds = pd.api.types
    if kinds.is_bool_dtype(values.dtype) and not values.isna().any():
        return values.to_numpy(bool)
    if kinds.is_numeric_dtype(values.dtype) and not kinds.is_bool_dtype(values.dtype):
        if kinds.is_complex_dtype(values.dtype):
            return _texts(values.astype(str))
        return values.to_numpy(np.float64, na_value=np.nan)
    if kinds.is_datetime64_any_dtype(values.dtype):
        zone = getattr(values.dtype, "tz", None)
        naive = values if zone is None else values.dt.tz_convert(None)
        return naive.to_numpy("datetime64[ns]")
    return _texts(values.astype(object).where(values.notna(), None))


# ------------------------------------------------------------------------------------------------
# NumPy archives


def read_arrays(path: Path, raw: bytes, max_memory: int) -> dict[str, np.ndarray]:
    """The arrays of an archive, by name."""
    name = path.name
    if raw[:6] == b"\x93NUMPY":
        raise CompareError(f"{name} holds a single array, not an archive: use numpy.savez.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CompareError(f"{name} is not a NumPy archive (numpy.savez writes them).") from error
    problems = Problems(name)
    with archive:
        members = archive.infolist()
        _check_size(name, sum(member.file_size for member in members), max_memory)
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
        problems.add(f"array {key!r} cannot be read ({_first_line(error)})")
    return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
