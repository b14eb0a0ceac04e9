"""Archives that are damaged, encrypted, or too large."""

import struct

import numpy as np
import pytest

from jaxact._errors import CompareError
from jaxact.compare.data import load
from tests.support.tables import archive, npy, save

Y = npy(np.arange(30) % 3)
HUGE = "is damaged: it says that it has"


def encrypted(path):
    archive(path, x__npy=npy(np.zeros(3)), y__npy=npy(np.arange(3)))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        struct.pack_into("<H", content, start + offset, 1)
    path.write_bytes(content)
    return path


def renamed(path):
    """With a long name, which is another one where the array lies."""
    archive(path, x__npy=npy(np.zeros(3)), y__npy=Y)
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, 26, 400)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b"") and p, "is not a NumPy archive"),
        (lambda p: p.write_bytes(b"PK\x03\x04 nothing") and p, "is not a NumPy archive"),
        (lambda p: p.write_bytes(npy(np.zeros(3))) and p, "holds a single array, not an archive"),
        (encrypted, "array 'x' is encrypted"),
        (lambda p: archive(p, notes__txt="hello", y__npy=Y), "'notes.txt' is no array"),
        (lambda p: archive(p, x__npy=b"no array", y__npy=Y), "array 'x' cannot be read"),
        (lambda p: archive(p, x__npy=b"", y__npy=Y), "array 'x' cannot be read"),
        (lambda p: archive(p, x__npy=npy(np.zeros(3), (1 << 49,)), y__npy=Y), f"'x' {HUGE} .*GiB"),
        (lambda p: archive(p, x__npy=npy(np.array([{}])), y__npy=Y), "has Python objects"),
        (lambda p: save(p, x=np.zeros((30, 2), complex), y=np.arange(30) % 3), "not numeric"),
        (lambda p: save(p, x=np.zeros((29, 2)), y=np.arange(30) % 3), "has 29 rows, the target"),
        (lambda p: save(p, x=np.float64(3), y=np.arange(30) % 3), "has no rows"),
        (lambda p: save(p, x=np.full((30, 2), np.inf), y=np.arange(30) % 3), "in 60 places in all"),
        (
            lambda p: save(p, x=np.ones((30, 2)), y=np.ones((30, 2))),
            "must have a value for each sample, its shape is",
        ),
        (lambda p: save(p, y=np.arange(30) % 3), "no array besides the target"),
        (lambda p: save(p, x=np.ones((30, 2)), y=np.ones(30) * 1j), "its dtype complex128"),
        (lambda p: save(p, x=np.ones((30, 2)), z=np.arange(30)), "has no array 'y'"),
        (renamed, "array 'x' cannot be read .File name in directory .{80,120}…."),
        (lambda p: save(p, x=np.ones((0, 2)), y=np.ones(0)), "has no samples"),
        (lambda p: save(p, x=np.ones((30, 0)), y=np.arange(30) % 3), "'x' has no features"),
        (lambda p: save(p, x=np.ones((9, 2)), y=np.ones(9, "i4,i4")), "must have a value for each"),
    ],
)
def test_archives_that_cannot_be_used(tmp_path, make, message):
    path = tmp_path / "data.npz"
    make(path)
    with pytest.raises(CompareError, match=message) as caught:
        load(path, "y")
    assert "\n" not in str(caught.value)
