"""The command around its subcommands: what it imports, how signals end it, and where it prints."""

import inspect
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

import jaxact
from jaxact._cli import SUMMARIES, application
from tests.support.processes import ROOT

INTERRUPTED = "error: interrupted; jaxact compare, if it is repeated, goes on where it stopped.\n"
TERMINATED = INTERRUPTED.replace("interrupted", "terminated")
CTRL_C = "import signal; signal.raise_signal(signal.SIGINT)"
#: What an extension module does whose import is interrupted.
CONVERTED = f"""
try:
    {CTRL_C}
except KeyboardInterrupt as error:
    raise ImportError("initialization failed") from error
"""
#: What Python does in callbacks of its garbage collector.
SWALLOWED = f"""
try:
    {CTRL_C}
except KeyboardInterrupt:
    pass
"""

#: A parent that ignores Ctrl-C, as a shell's job in the background, hands that on.
HEARD = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND = ("-c", f"{HEARD}import runpy; runpy.run_module('jaxact', run_name='__main__')")


def start(
    *arguments: str, folder: object = ROOT, stdout: Any = subprocess.PIPE, **variables: str
) -> subprocess.Popen:
    path = os.pathsep.join([str(folder), ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, **variables},
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("name", SUMMARIES)
def test_summaries_are_those_of_the_subcommands(name):
    assert inspect.getdoc(application.subcommand(name)).partition("\n")[0] == SUMMARIES[name]


@pytest.mark.parametrize(
    ("arguments", "status", "answer"),
    [
        (["--version"], 0, f"jaxact {jaxact.__version__}\n"),
        (["--help"], 0, SUMMARIES["compare"]),
        ([], 0, SUMMARIES["probe"]),
        (["compar"], 2, "error: No such command 'compar'. Did you mean 'compare'?\n"),
        (["zzz"], 2, "error: No such command 'zzz'.\n"),
    ],
)
def test_short_answers_import_little(arguments, status, answer):
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded:', *sys.modules, file=sys.stderr))\n"
        "from jaxact.cli import main\n"
        "main()"
    )
    found, stdout, stderr = finish(start("-c", code, *arguments))
    stderr, _, loaded = stderr.rpartition("loaded: ")
    assert found == status
    assert answer in (stderr if status else stdout)
    assert (stdout if status else stderr) == ""
    packages = {name.partition(".")[0] for name in loaded.split()}
    assert "jaxact" in packages
    heavy = {"jax", "jaxlib", "numpy", "flax", "optax", "pandas", "scipy", "sklearn", "matplotlib"}
    assert packages & (heavy | {"pydantic"}) == set()
    if "--version" not in arguments:
        assert "importlib.metadata" not in loaded.split()
    if "--version" in arguments or status:
        assert packages & {"typer", "rich"} == set()


def test_the_entry_point_imports_nothing_before_main():
    code = "import os, sys\nold = {*sys.modules}\nimport jaxact.cli\nprint(*{*sys.modules} - old)"
    status, stdout, _ = finish(start("-c", code))
    assert (status, set(stdout.split())) == (0, {"jaxact", "jaxact._errors", "jaxact.cli"})


def test_version_before_a_subcommand():
    assert finish(start("-m", "jaxact", "--version", "probe"))[:2] == (
        0,
        f"jaxact {jaxact.__version__}\n",
    )


def test_python_m_is_the_command():
    assert finish(start("-m", "jaxact", "--version")) == (0, f"jaxact {jaxact.__version__}\n", "")
    assert "Usage: python -m jaxact" in finish(start("-m", "jaxact", "--help"))[1]


@pytest.mark.parametrize("code", [CTRL_C, CONVERTED, SWALLOWED])
@pytest.mark.parametrize("module", ["typer", "jax"])
def test_interrupted_imports(tmp_path, module, code):
    (tmp_path / f"{module}.py").write_text(code)
    found = finish(start(*COMMAND, "compare", folder=tmp_path))
    assert found == (130, "", INTERRUPTED)


@pytest.mark.parametrize("code", [CTRL_C, CONVERTED])
def test_interrupted_imports_of_a_call_from_python(tmp_path, code):
    (tmp_path / "jax.py").write_text(code)
    call = f"{HEARD}from jaxact.cli import main; main(['compare'])"
    assert finish(start("-c", call, folder=tmp_path)) == (130, "", INTERRUPTED)


def test_interrupted_import_of_a_users_module(tmp_path):
    (tmp_path / "mine.py").write_text(CONVERTED)
    command = (*COMMAND, "probe", "mine:f", "--args", "mine:x")
    assert finish(start(*command, folder=tmp_path)) == (130, "", INTERRUPTED)


@pytest.mark.parametrize(
    ("number", "answer"),
    [(signal.SIGINT, (130, "", INTERRUPTED)), (signal.SIGTERM, (143, "", TERMINATED))],
)
def test_signals_while_jax_is_imported(tmp_path, number, answer):
    (tmp_path / "jax.py").write_text("import time; print('here', flush=True); time.sleep(120)")
    process = start(*COMMAND, "compare", folder=tmp_path)
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    assert finish(process) == answer


def probed(folder, code):
    """A probe of a model whose call runs the code."""
    lines = "\n".join(f"    {line}" for line in code.strip().splitlines())
    (folder / "mine.py").write_text(f"import os, signal\n\ndef f():\n{lines}\n\nx = ()\n")
    return finish(start(*COMMAND, "probe", "mine:f", "--args", "mine:x", folder=folder))


@pytest.mark.parametrize("code", [CONVERTED, SWALLOWED, f"{SWALLOWED}\nraise ImportError"])
def test_ctrl_c_cannot_get_lost(tmp_path, code):
    assert probed(tmp_path, code) == (130, "", INTERRUPTED)


@pytest.mark.parametrize(
    ("name", "answer"), [("SIGINT", (130, "", INTERRUPTED)), ("SIGTERM", (143, "", TERMINATED))]
)
def test_a_write_in_progress_is_finished(tmp_path, name, answer):
    code = f"""
from pathlib import Path
from jaxact._files import write_atomically
replace = os.replace
def late(*arguments):
    signal.raise_signal(signal.{name})
    replace(*arguments)
os.replace = late
write_atomically(Path({str(tmp_path)!r}) / "results.json", b"new")
"""
    assert probed(tmp_path, code) == answer
    assert (tmp_path / "results.json").read_bytes() == b"new"
    assert not list(tmp_path.glob(".*"))


# What cannot be printed

LONG = ("-m", "jaxact", "probe", "--help")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", [("-m", "jaxact", "--version"), LONG])
def test_a_full_disk(command, unbuffered):
    with open("/dev/full", "w") as full:
        process = start(*command, PYTHONUNBUFFERED=unbuffered, stdout=full)
    line = "error: the output cannot be written (No space left on device).\n"
    assert finish(process) == (1, None, line)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe(unbuffered):
    ends = os.pipe()
    os.close(ends[0])
    with open(ends[1], "w") as closed:
        process = start(*LONG, PYTHONUNBUFFERED=unbuffered, stdout=closed)
    assert finish(process) == (141, None, "")


def test_no_output_at_all():
    code = "import sys; sys.stdout = None; from jaxact.cli import main; main()"
    assert finish(start("-c", code, "--version")) == (0, "", "")


def test_an_error_that_is_not_of_the_output_stays_itself():
    code = (
        "import jaxact.cli as cli\n"
        "def fail(arguments): open('/none/such')\n"
        "cli._answer = fail\n"
        "cli.main()"
    )
    status, _, stderr = finish(start("-c", code))
    assert status == 1
    assert stderr.endswith("FileNotFoundError: [Errno 2] No such file or directory: '/none/such'\n")


def test_terminals_without_our_characters():
    code = (
        "import jaxact.cli as cli\n"
        "cli._answer = lambda _: print('R² 0.81 ± 0.02, \\udcff') or 0\n"
        "cli.main()"
    )
    shown = "R^2 0.81 +/- 0.02, ?\n"
    assert finish(start("-c", code, PYTHONIOENCODING="ascii")) == (0, shown, "")
    assert finish(start("-c", code, PYTHONIOENCODING="utf-8")) == (0, "R² 0.81 ± 0.02, ?\n", "")
