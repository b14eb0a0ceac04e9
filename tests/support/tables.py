"""Tables and archives that are made up, as files."""

import gzip
import io
import zipfile

import numpy as np

ROWS = 40


def table(tmp_path, columns, *, name="data.csv", delimiter=",", target=True, encoding="utf-8"):
    """A file with these columns, and a target "kind" of two classes."""
    columns = dict(columns)
    if target:
        columns["kind"] = ["x", "y"] * (ROWS // 2)
    rows = zip(*([str(v) for v in values] for values in columns.values()), strict=True)
    return text(
        tmp_path,
        [delimiter.join(columns), *(delimiter.join(row) for row in rows)],
        name=name,
        encoding=encoding,
    )


def text(tmp_path, lines, *, name="data.csv", encoding="utf-8"):
    """A file with these lines."""
    path = tmp_path / name
    content = "\n".join(lines).encode(encoding)
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    return path


def numbers(count=ROWS):
    """Measurements, no two of them alike."""
    return np.random.default_rng(0).normal(size=count).round(6).tolist()


def made(dataset):
    """What is made of each column: (kind, made)."""
    return {c.name: (c.kind, c.made) for c in dataset.columns}


def save(path, **arrays):
    """An archive of arrays."""
    np.savez(path, **arrays)
    return path


def archive(path, **members):
    """An archive of any bytes; ``__`` in a name is a point."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "."), content)
    return path


def npy(array, shape=None):
    """The bytes of an array, with a header that may say another shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    content = buffer.getvalue()
    if shape is not None:
        old, new = str(array.shape).encode(), str(shape).encode()
        content = content.replace(old + b", }" + b" " * (len(new) - len(old)), new + b", }")
    return content
