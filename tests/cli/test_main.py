"""The command before a subcommand runs: what it imports, and how Ctrl-C ends it meanwhile."""

import inspect
import os
import signal
import subprocess
import sys

import pytest

import jaxact
from jaxact._cli import SUMMARIES, application
from tests.support.processes import ROOT

INTERRUPTED = "error: interrupted; jaxact compare, if it is repeated, goes on where it stopped.\n"
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


def start(*arguments: str, folder: object = ROOT) -> subprocess.Popen:
    path = os.pathsep.join([str(folder), ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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


def test_ctrl_c_while_jax_is_imported(tmp_path):
    (tmp_path / "jax.py").write_text("import time; print('here', flush=True); time.sleep(120)")
    process = start(*COMMAND, "compare", folder=tmp_path)
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    assert finish(process) == (130, "", INTERRUPTED)
