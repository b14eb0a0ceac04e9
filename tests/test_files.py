"""Files that are never there by half, and folders that one run has to itself."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jaxact import _files
from jaxact._errors import CompareError, RequestError
from jaxact._files import locked, read_json, when_written, write_atomically
from tests.support.processes import ROOT


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def start(code, *arguments):
    """A process that runs the code with these as sys.argv[1:]."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Writing


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


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, monkeypatch, failing):
    path = tmp_path / "results.json"
    write_atomically(path, b"old")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, failing, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert (names(tmp_path), path.read_bytes()) == (["results.json"], b"old")


def test_what_ends_the_process_waits_for_a_write(tmp_path, monkeypatch):
    path, seen = tmp_path / "results.json", []
    replace = os.replace

    def replace_at_a_signal(*arguments):
        when_written(lambda: seen.append(path.read_bytes()))
        assert seen == []
        replace(*arguments)

    monkeypatch.setattr(os, "replace", replace_at_a_signal)
    write_atomically(path, b"new")
    assert seen == [b"new"]
    when_written(lambda: seen.append(b"at once"))
    assert seen == [b"new", b"at once"]


def test_links_are_not_followed(tmp_path, monkeypatch):
    """Neither at the temporary file's place, nor at the file's."""
    other = tmp_path / "other"
    other.write_bytes(b"another's")
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "results.json"
    path.symlink_to(other)
    write_atomically(path, b"mine")
    assert (path.read_bytes(), path.is_symlink(), other.read_bytes()) == (
        b"mine",
        False,
        b"another's",
    )
    monkeypatch.setattr(os, "urandom", lambda count: b"\x00" * count)
    (folder / f".jaxact-{'00' * 8}.tmp").symlink_to(other)
    with pytest.raises(RequestError, match=r"cannot be written \(File exists\)"):
        write_atomically(path, b"again")
    assert (path.read_bytes(), other.read_bytes()) == (b"mine", b"another's")


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_concurrent_writers_leave_a_whole_file(tmp_path):
    path = tmp_path / "results.json"
    contents = [bytes([number]) * (1 << 16) for number in range(20)]
    together = threading.Barrier(len(contents))

    def write(content):
        together.wait()
        for _ in range(3):
            write_atomically(path, content)
            assert path.read_bytes() in contents

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(write, contents))
    assert names(tmp_path) == ["results.json"]


# Locking

HOLD = """
import sys, time
from pathlib import Path
from jaxact._errors import RequestError
from jaxact._files import locked
try:
    with locked(Path(sys.argv[1])) as writable:
        print("has it", writable, flush=True)
        sys.stdin.read()
except RequestError as error:
    print(error, flush=True)
"""


def test_one_process_has_a_folder(tmp_path):
    """Until it ends, by a kill -9 too; what it has begun to write is then removed."""
    (tmp_path / "results.json").write_text("{}")
    with start(HOLD, tmp_path) as first:
        try:
            assert first.stdout.readline() == "has it True\n"
            (tmp_path / ".jaxact-0123.tmp").write_bytes(b"half")
            with pytest.raises(CompareError, match=f"{tmp_path}: in use by another run; wait for"):
                locked(tmp_path, CompareError).__enter__()
            assert ".jaxact-0123.tmp" in names(tmp_path)  # it may be the first one's
        finally:
            first.send_signal(signal.SIGKILL)
    with locked(tmp_path, CompareError) as writable:
        assert writable
        with (
            pytest.raises(CompareError, match="in use by another run"),
            locked(tmp_path, CompareError),
        ):
            pass
    assert names(tmp_path) == ["results.json"]


def test_never_two_at_a_time(tmp_path):
    """However often the file of the lock is made and removed."""
    count, most, refused, mutex = 0, 0, 0, threading.Lock()

    def run(_):
        nonlocal count, most, refused
        for _ in range(200):
            try:
                with locked(tmp_path):
                    with mutex:
                        count += 1
                        most = max(most, count)
                    with mutex:
                        count -= 1
            except RequestError:
                refused += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    assert most == 1
    assert refused > 0
    assert names(tmp_path) == []


def test_a_lock_that_was_removed_meanwhile_locks_nothing(tmp_path, monkeypatch):
    take, taken = _files._try_to_lock, []

    def take_after_its_owner_has_removed_it(descriptor):
        if not taken:
            (tmp_path / ".jaxact-lock").unlink()
        taken.append(take(descriptor))

    monkeypatch.setattr(_files, "_try_to_lock", take_after_its_owner_has_removed_it)
    with locked(tmp_path), pytest.raises(RequestError, match="in use"):
        locked(tmp_path).__enter__()
    assert len(taken) == 2


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_open_to_readers(tmp_path, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with locked(tmp_path) as first, locked(tmp_path) as second:
        assert (first, second) == (False, False)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_files, "_try_to_lock", refuse)
    (tmp_path / ".jaxact-0123.tmp").write_bytes(b"half")  # perhaps another run's
    with locked(tmp_path) as writable:
        assert writable
    assert names(tmp_path) == [".jaxact-0123.tmp"]


def test_a_lock_that_is_a_link(tmp_path):
    (tmp_path / ".jaxact-lock").symlink_to(tmp_path / "other")
    with pytest.raises(RequestError, match=r"jaxact-lock cannot be opened \(Too many levels"):
        locked(tmp_path).__enter__()
    assert not (tmp_path / "other").exists()


# Reading


def test_json_is_read_as_it_was_written(tmp_path):
    value = {"a": [1, 0.1, 1e-300, None, True, "±", 2**64 - 1, -3], "b": {}}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8-sig")
    assert read_json(path) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"damaged \(Expecting value: line 1 column 1 \(char 0\)\)"),
        (b'{"a": 1', "damaged"),
        (b"\xff\xfe\x00binary", r"damaged \(it is not text in UTF-8\)"),
        (b"[" * 100_000 + b"]" * 100_000, r"damaged \(it is nested too deeply\)"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, r"damaged \(it is nested too deeply\)"),
        (b"9" * 401, r"damaged \(an integer of 401 digits is too large\)"),
        (b"-" + b"9" * 5000, r"damaged \(an integer of 5000 digits is too large\)"),
        (b"1e999", r"damaged \(the number 1e999 is too large\)"),
        (b"[NaN]", r"damaged \(NaN is not a number of JSON\)"),
        (b"[-Infinity]", r"damaged \(-Infinity is not a number of JSON\)"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', r"damaged \('c' is there twice\)"),
    ],
)
def test_damaged_json(tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(CompareError, match=f"results.json is {message}") as caught:
        read_json(path, CompareError)
    assert "\n" not in str(caught.value)


def test_json_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match=r"cannot be read \(Is a directory\)"):
        read_json(tmp_path)
    with pytest.raises(RequestError, match=r"cannot be read \(No such file"):
        read_json(tmp_path / "none")

    def fail(path):
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(RequestError, match="is too large for the memory"):
        read_json(tmp_path)
