"""Files that are never there by half."""

import os

import pytest

from jaxact._errors import CompareError, RequestError
from jaxact._files import write_atomically


@pytest.mark.parametrize("error", [RequestError, CompareError])
@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, failing, error):
    path = tmp_path / "results.json"
    write_atomically(path, b"old")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(error, match=r"cannot be written \(No space left on device\)"):
            write_atomically(path, b"new", error)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_disk_before_the_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda d: (calls.append("fsync"), fsync(d)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append((a, b)), replace(a, b)))
    path = tmp_path / "results.json"
    write_atomically(path, b"new")
    assert calls[0] == "fsync"
    source, destination = calls[1]
    assert source.parent == tmp_path
    assert destination == path
