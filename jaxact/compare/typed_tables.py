"""Tables that say of each column what it holds: Parquet files and DataFrames."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxact._errors import CompareError
from jaxact.compare.files import Problems, Table, check_names, check_size, first_line

#: From here on float64 does not hold every whole number.
_INEXACT = 2**53


def read_parquet(path: Path, raw: bytes, max_memory: int, problems: Problems) -> Table:
    """The table of a Parquet file.

    Args:
      path: the file's name.
      raw: its bytes.
      max_memory: of the unpacked columns, in bytes.
      problems: columns that cannot be used are added here.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = path.name
    try:
        file = pq.ParquetFile(pa.BufferReader(raw))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CompareError(f"{name} is not a Parquet file ({first_line(error)}).") from error
    metadata = file.metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    cells = metadata.num_rows * max(metadata.num_columns, 1) * 8
    check_size(name, max(sum(group.total_byte_size for group in groups), cells), max_memory)
    check_names(file.schema_arrow.names, problems)
    nested = [field for field in file.schema_arrow if pa.types.is_nested(field.type)]
    for field in nested:
        problems.add(f"column {field.name!r} holds {field.type}, not single values")
    names = file.schema_arrow.names
    if len(set(names)) < len(names):
        problems.raise_if_any()  # a column is read by its name
    single = [name for name in names if name not in {field.name for field in nested}]
    try:
        frame = file.read(single).to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise CompareError(f"{name} is damaged ({first_line(error)}).") from error
    return _table(frame, single, problems)


def of_frame(frame: Any, problems: Problems) -> Table:
    """The table of a pandas DataFrame.

    Raises:
      CompareError: it is none.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise CompareError(
            f"data must be the path of a file or a pandas DataFrame, got {type(frame).__name__}."
        )
    names = [str(column) for column in frame.columns]
    check_names(names, problems)
    return _table(frame, names, problems)


def _table(frame: Any, names: list[str], problems: Problems) -> Table:
    if not len(frame):
        raise CompareError(f"{problems.name} has no rows.")
    columns: dict[str, np.ndarray] = {}
    for i, name in enumerate(names):
        columns.setdefault(name, _untyped(frame.iloc[:, i]))
    return Table(columns, range(1, len(frame) + 1))


def _untyped(values: Any) -> np.ndarray:
    """A column as one of what a `Table` holds."""
    import pandas as pd

    kinds = pd.api.types
    kind = values.dtype
    if kinds.is_bool_dtype(kind):
        return texts(values) if values.isna().any() else values.to_numpy(bool)
    if kinds.is_numeric_dtype(kind) and not kinds.is_complex_dtype(kind):
        numbers: np.ndarray = values.to_numpy(np.float64, na_value=np.nan)
        inexact = kinds.is_integer_dtype(kind) and (np.abs(numbers) >= _INEXACT).any()
        return texts(values) if inexact else numbers
    if kinds.is_datetime64_any_dtype(kind):
        # In a zone, the time of its clocks: midnight is the start of a day.
        zone = getattr(kind, "tz", None)
        here = values if zone is None else values.dt.tz_localize(None)
        return here.to_numpy("datetime64[us]")
    if kinds.is_timedelta64_dtype(kind):
        return values.dt.total_seconds().to_numpy(np.float64)
    return texts(values)


def texts(values: Any) -> np.ndarray:
    """A column as an object array of stripped texts; what is missing is empty."""
    there = values.notna().to_numpy(bool)
    found = [str(v).strip() if t else "" for v, t in zip(values.tolist(), there, strict=True)]
    return np.array(found, object)
