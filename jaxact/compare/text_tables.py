"""Tables of text: their encoding, what separates their columns, rows that do not fit, values."""

import collections
import csv
import dataclasses
import io
import re
import statistics
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxact._errors import CompareError
from jaxact.compare import notation
from jaxact.compare.files import Problems, Table, check_names, check_size, ending, places
from jaxact.compare.typed_tables import texts

_DELIMITERS = (",", ";", "\t", "|")
#: A text in memory takes so many bytes besides its own.
_TEXT_BYTES = 64
#: So much of a file says what separates its columns.
_HEAD = 1 << 16

_FRACTION = re.compile(r"[-+]?\d*[.,]\d+([eE][-+]?\d+)?")
#: The first line of files that Excel is told to open.
_EXCEL = re.compile(rb"\s*\"?sep=(.)\"?[ \t]*\r?\n")


@dataclasses.dataclass
class _Rows:
    """The rows of a file as they are separated, without their values.

    Args:
      header: the names in the first row.
      lines: on which each other row starts.
      widths: how many values it has.
      blank: whether all of them are empty.
      open_end: whether the last value of every row is empty.
    """

    header: list[str]
    lines: list[int]
    widths: list[int]
    blank: list[bool]
    open_end: bool


def read_text(
    path: Path, raw: bytes, target: str | None, max_memory: int, problems: Problems
) -> Table:
    """The table of a text file with a header, whatever separates its columns.

    Args:
      path: the file's name says how it is packed.
      raw: its bytes.
      target: a name that the header should have, which helps to find what separates columns.
      max_memory: of the table, in bytes.
      problems: rows and names that do not fit are added here; the table is that of the others.
    """
    name, kind = path.name, str(ending(path))
    if kind.endswith(".gz"):
        raw = _unpacked(name, raw, max_memory)
    text = _utf8(name, raw)
    if not text.strip():
        raise CompareError(f"{name} is empty.")
    excel = _EXCEL.match(text)
    if excel:
        text = b"\n" + text[excel.end() :]  # an empty line, so that lines keep their numbers
        delimiter = excel[1].decode()
    else:
        delimiter = _delimiter(text, target, "\t" if kind.startswith(".tsv") else ",")
    rows = _rows(name, text, delimiter)
    if not rows.lines:
        raise CompareError(f"{name} has no rows below the header.")
    names = _names(name, rows, target, problems)
    check_size(name, 2 * len(text) + 8 * len(names) * len(rows.lines), max_memory)
    text = _without_rows_that_do_not_fit(text, delimiter, rows, len(names), problems)
    # The target's values may be names, such as 1.0.
    columns = _values(name, text, delimiter, names, (target,), max_memory)
    decimal_comma = delimiter != "," and any(
        notation.has_decimal_comma(values) for values in columns if values.dtype == object
    )
    if decimal_comma:  # then points need not be the decimal ones
        columns = _values(name, text, delimiter, names, names, max_memory)
    blank = np.array(rows.blank)
    if any(len(values) != len(blank) for values in columns):
        raise CompareError(
            f"{name} is not a table that can be read: its quotes leave open where a row ends."
        )
    table: dict[str, np.ndarray] = {}
    for column, values in zip(names, columns, strict=True):
        table.setdefault(column, values[~blank])
    lines = [line for line, empty in zip(rows.lines, blank, strict=True) if not empty]
    return Table(table, lines, delimiter != ",", decimal_comma)


# ------------------------------------------------------------------------------------------------
# Bytes


def _unpacked(name: str, raw: bytes, max_memory: int) -> bytes:
    unpack = zlib.decompressobj(wbits=31)
    parts, total, left = [], 0, raw
    try:
        while left:
            part = unpack.decompress(left, max_memory + 1 - total)
            parts.append(part)
            total += len(part)
            check_size(name, total, max_memory)
            left = unpack.unconsumed_tail
            if unpack.eof:  # one file of several that are packed one behind another
                left = unpack.unused_data
                unpack = zlib.decompressobj(wbits=31)
                if not left:
                    return b"".join(parts)
    except zlib.error as error:
        raise CompareError(f"{name} is not a gzip file, or damaged ({error}).") from error
    raise CompareError(f"{name} is cut off: the end of the gzip file is missing.")


def _utf8(name: str, raw: bytes) -> bytes:
    """The text in UTF-8, whatever it is stored in."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = ["utf-16"]
    elif b"\0" in raw:
        raise CompareError(f"{name} is not a text file (it has zero bytes).")
    else:
        encodings = ["utf-8-sig", "cp1252", "latin-1"]
    for encoding in encodings:
        try:
            return raw.decode(encoding).encode()
        except UnicodeDecodeError:
            continue
    raise CompareError(f"{name} is not a text file that can be read; save it in UTF-8.")


# ------------------------------------------------------------------------------------------------
# Rows


def _delimiter(text: bytes, target: str | None, usual: str) -> str:
    """What separates the columns: the one that gives the first lines most columns, all alike."""
    head = text[:_HEAD].decode(errors="ignore").splitlines(keepends=True)[:50]
    if len(text) > _HEAD and len(head) > 1:
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


def _reader(text: bytes, delimiter: str) -> Any:
    lines = io.TextIOWrapper(io.BytesIO(text), "utf-8", newline="")
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True)


def _records(name: str, text: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not empty, and the line on which it starts."""
    reader = _reader(text, delimiter)
    limit = csv.field_size_limit(len(text) + 1)  # a text may be longer than csv reads by default
    start = 1
    try:
        for record in reader:
            if len(record) > 1 or (record and record[0].strip()):
                yield start, record
            start = reader.line_num + 1
    except csv.Error as error:
        raise CompareError(
            f"{name} is not a table that can be read: line {start}: {error}."
        ) from error
    finally:
        csv.field_size_limit(limit)


def _rows(name: str, text: bytes, delimiter: str) -> _Rows:
    rows = _Rows([], [], [], [], open_end=True)
    for line, record in _records(name, text, delimiter):
        if not rows.header:
            rows.header = record
            continue
        rows.lines.append(line)
        rows.widths.append(len(record))
        rows.open_end = rows.open_end and not record[-1].strip()
        rows.blank.append(not record[-1].strip() and not any(map(str.strip, record)))
    _check_quotes(name, text, delimiter, rows)
    return rows


def _check_quotes(name: str, text: bytes, delimiter: str, rows: _Rows) -> None:
    """Raise a `CompareError` where a quote is opened that is never closed."""
    if not rows.lines or rows.widths[-1] == len(rows.header):
        return
    last = b"".join(text.splitlines(keepends=True)[rows.lines[-1] - 1 :])
    try:
        strict = io.StringIO(last.decode(), newline="")
        for _ in csv.reader(strict, delimiter=delimiter, skipinitialspace=True, strict=True):
            pass
    except csv.Error as error:
        if "end of data" in str(error):
            raise CompareError(
                f"{name}: in line {rows.lines[-1]} a quote is opened that is never closed."
            ) from error


def _names(name: str, rows: _Rows, target: str | None, problems: Problems) -> list[str]:
    """The names of all columns that the rows have."""
    names = [column.strip() for column in rows.header]
    values = _values_among(names)
    if values and target not in names:
        raise CompareError(
            f"{name}: the first line has values ({', '.join(values[:3])}), not names; put a line "
            "with the names of the columns above it."
        )
    if set(rows.widths) == {len(names) + 1}:
        # Every row ends in a delimiter; or R has written the rows' names.
        names = [*names, ""] if rows.open_end else ["", *names]
    check_names(names, problems)
    for i, column in enumerate(names):
        if not column:
            made = f"column {i + 1}"
            while made in names:
                made += "_"
            names[i] = made
    return names


def _values_among(names: list[str]) -> list[str]:
    """The texts of a header that can only be values: fractions, and repeated numbers."""
    repeated = {text for text, times in collections.Counter(names).items() if times > 1}
    return [
        text
        for text in names
        if _FRACTION.fullmatch(text) or (text in repeated and text.lstrip("+-").isdigit())
    ]


def _without_rows_that_do_not_fit(
    text: bytes, delimiter: str, rows: _Rows, width: int, problems: Problems
) -> bytes:
    wrong = [i for i, found in enumerate(rows.widths) if found != width]
    if not wrong:
        return text
    most = statistics.mode(rows.widths)
    if 2 * len(wrong) > len(rows.widths) and most != width:
        raise CompareError(
            f"{problems.name}: the header has {len(rows.header)} names, but most rows have "
            f"{most} values; the first line must have a name for each column."
        )
    for more, word in ((True, "more"), (False, "fewer")):
        these = [i for i in wrong if (rows.widths[i] > width) == more]
        if these:
            where = places("line", [rows.lines[i] for i in these])
            verb = "has" if len(these) == 1 else "have"
            remedy = f"; quote values that contain {delimiter!r}" if more else ""
            problems.add(f"{where} {verb} {word} values than there are names ({width}){remedy}")
    left_out = set(wrong)
    kept = io.StringIO()
    writer = csv.writer(kept, delimiter=delimiter)
    for i, (_, record) in enumerate(_records(problems.name, text, delimiter), -1):
        if i not in left_out:
            writer.writerow(record)
    rows.lines = [line for i, line in enumerate(rows.lines) if i not in left_out]
    rows.blank = [blank for i, blank in enumerate(rows.blank) if i not in left_out]
    return kept.getvalue().encode()


# ------------------------------------------------------------------------------------------------
# Values


def _values(
    name: str,
    text: bytes,
    delimiter: str,
    names: list[str],
    as_texts: Collection[str | None],
    max_memory: int,
) -> list[np.ndarray]:
    """The columns: float64 where pandas finds numbers alone, else texts; always so ``as_texts``."""
    import pandas as pd

    options: dict[str, Any] = {
        "sep": delimiter,
        "header": 0,
        "names": range(len(names)),
        "index_col": False,
        "skipinitialspace": True,
    }
    as_typed = {"keep_default_na": False, "na_values": [""], "low_memory": False}
    as_text = {"dtype": str, "na_filter": False}
    typed = [i for i, column in enumerate(names) if column not in as_texts]
    found: dict[int, np.ndarray] = {}
    try:
        if typed:
            frame = pd.read_csv(io.BytesIO(text), **options | as_typed, usecols=typed)
            for i in typed:
                if frame[i].dtype.kind in "iuf" and frame[i].notna().any():
                    numbers = frame[i].to_numpy(np.float64)
                    # What is too large for float64 is easier to find as it is written.
                    if not np.isinf(numbers).any():
                        found[i] = numbers
        others = [i for i in range(len(names)) if i not in found]
        if others:
            rows = max(text.count(b"\n"), text.count(b"\r"))
            check_size(name, 2 * len(text) + _TEXT_BYTES * rows * len(others), max_memory)
            frame = pd.read_csv(io.BytesIO(text), **options | as_text, usecols=others)
            found |= {i: texts(frame[i]) for i in others}
    except (ValueError, OverflowError, MemoryError) as error:  # pandas' errors are ValueErrors
        reason = " ".join(str(error).split())
        raise CompareError(f"{name} is not a table that can be read: {reason}.") from error
    return [found[i] for i in range(len(names))]
