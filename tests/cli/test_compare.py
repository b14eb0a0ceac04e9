import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from matplotlib.image import imread

import jaxact
from jaxact import cli
from jaxact.compare import run

ARMS = ("relu", "elu")
TINY = ("--seeds", "2", "--epochs", "2", "--widths", "4", "--activations", ",".join(ARMS))


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Four clouds at the corners of a square, opposite ones of one class: no linear boundary."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (300, 2))
    path = tmp_path_factory.mktemp("data") / "corners.csv"
    rows = [f"{a},{b},{'same' if a * b > 0 else 'opposite'}" for a, b in x]
    path.write_text("\n".join(["a,b,kind", *rows]))
    return ("--data", str(path), "--target", "kind")


def call(capsys, *arguments):
    """The exit status, stdout and stderr of the command."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    output = capsys.readouterr()
    return caught.value.code, output.out, output.err


def figures(results):
    """What must not depend on interruptions: everything but the timings."""
    arms = {
        a: {k: v for k, v in one.items() if k != "timing"} for a, one in results["arms"].items()
    }
    summary = {
        a: {k: v for k, v in row.items() if k != "ms_per_step"}
        for a, row in results["summary"].items()
    }
    return {**results, "arms": arms, "summary": summary}


def test_compare(capsys, tmp_path, data, monkeypatch):
    out = tmp_path / "new" / "folder"
    status, stdout, stderr = call(capsys, "compare", *data, *TINY, "--out", str(out))
    assert status == 0
    assert "to relu, pp" in stdout
    # A row for each arm: the caption speaks of verdicts too.
    rows = {line.split()[0]: line for line in stdout.splitlines() if line.startswith(ARMS)}
    assert tuple(rows) == ARMS
    verdicts = ("better", "worse", "no detectable difference")
    assert [sum(verdict in row for verdict in verdicts) for row in rows.values()] == [0, 1]
    assert "4/4 epochs" in stderr
    assert sorted(p.name for p in out.iterdir()) == ["curves.png", "results.json", "table.md"]
    results = json.loads((out / "results.json").read_text())
    assert results["finished"]
    assert list(results["arms"]) == ["relu", "elu"]
    assert imread(out / "curves.png").shape[1] > 900
    assert "| relu |" in (out / "table.md").read_text()

    # A finished run is printed again, without any training and without touching its files.
    def no_training(*arguments):
        raise AssertionError("trained again")

    verdict = results["summary"]["elu"]["verdict"]
    assert verdict in rows["elu"]
    assert f"| {verdict} |" in (out / "table.md").read_text()
    monkeypatch.setattr(run, "train", no_training)
    before = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    status, again, stderr = call(capsys, "compare", *data, *TINY, "--out", str(out))
    assert (status, again, stderr) == (0, stdout, "")
    assert {p: p.stat().st_mtime_ns for p in out.iterdir()} == before

    # --json prints the file and nothing else.
    status, printed, stderr = call(capsys, "compare", *data, *TINY, "--out", str(out), "--json")
    assert (status, stderr) == (0, "")
    assert json.loads(printed) == results

    # Lost reports are written again.
    (out / "curves.png").unlink()
    (out / "table.md").unlink()
    assert call(capsys, "compare", *data, *TINY, "--out", str(out))[0] == 0
    assert len(list(out.iterdir())) == 3

    # Another configuration.
    other = ("compare", *data, *TINY, "--out", str(out), "--lr", "0.5")
    status, stdout, stderr = call(capsys, *other)
    assert (status, stdout) == (2, "")
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert "learning_rate is 0.001 there and 0.5 here" in stderr
    assert "--restart" in stderr and "--out" in stderr
    assert json.loads((out / "results.json").read_text()) == results

    # --restart forgets everything, and trains.
    with pytest.raises(AssertionError, match="trained again"):
        cli.main((*other, "--restart"))
    assert list(out.iterdir()) == []


def test_interrupted_by_the_keyboard(capsys, tmp_path, data, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", interrupt)
    status, stdout, stderr = call(capsys, "compare", *data, *TINY, "--out", str(tmp_path))
    assert (status, stdout) == (130, "")
    assert stderr.splitlines()[-1] == (
        "error: interrupted; jaxact compare, if it is repeated, goes on where it stopped."
    )


@pytest.mark.slow
def test_killed_and_repeated_is_as_uninterrupted(capsys, tmp_path, data):
    arguments = ("compare", *data, "--seeds", "3", "--epochs", "3", "--widths", "5")
    arguments += ("--activations", "relu,rrelu,prelu")
    code = "import sys; from jaxact.cli import main; main(sys.argv[1:])"
    killed = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--out", str(tmp_path / "killed")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": str(jax.device_count())},
    )
    path = tmp_path / "killed" / "results.json"
    deadline = time.monotonic() + 120
    while not path.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    found = json.loads(path.read_text())
    assert not found["finished"]
    assert 1 <= len(found["arms"]) < 3
    assert not (path.parent / "table.md").exists()

    status, _, stderr = call(capsys, *arguments, "--out", str(tmp_path / "killed"))
    assert status == 0, stderr
    assert "| prelu |" in (path.parent / "table.md").read_text()
    ended = json.loads(path.read_text())
    for activation, arm in found["arms"].items():
        assert ended["arms"][activation] == arm  # not trained again: the timings too
    status, stdout, stderr = call(capsys, *arguments, "--out", str(tmp_path / "whole"), "--json")
    assert status == 0, stderr
    uninterrupted = json.loads(stdout)
    assert list(uninterrupted["arms"]) == ["relu", "rrelu", "prelu"]
    assert figures(ended) == figures(uninterrupted)


@pytest.mark.slow
def test_a_real_difference_is_detected_and_none_is_not(capsys, tmp_path, data):
    arguments = ("--activations", "relu,identity,leaky_relu:0.0", "--seeds", "4", "--epochs", "30")
    arguments += ("--widths", "16", "--lr", "0.03", "--json", "--out", str(tmp_path))
    status, stdout, _ = call(capsys, "compare", *data, *arguments)
    assert status == 0
    summary = json.loads(stdout)["summary"]
    assert summary["relu"]["test_accuracy"]["mean"] > 0.9
    assert summary["identity"]["test_accuracy"]["mean"] < 0.7
    assert summary["identity"]["verdict"] == "worse"
    assert summary["identity"]["difference"]["level"] == pytest.approx(0.975)
    assert summary["leaky_relu:0.0"]["verdict"] == "no detectable difference"
    assert summary["leaky_relu:0.0"]["difference"]["mean"] == 0
    assert summary["leaky_relu:0.0"]["difference"]["half_width"] == 0
    assert summary["identity"]["dead_units_percent"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "missing.csv", "--target", "kind"], "missing.csv: there is no such file"),
        (["--data", "missing.txt", "--target", "kind"], "must end in .csv or .npz"),
        (["--target", "kind"], "--target kind has no file"),
        (["--activations", "relu,lealy_relu"], "Did you mean 'leaky_relu'"),
        (["--activations", "relu,relu"], "'relu' is given twice"),
        (["--activations", "swiglu"], "swiglu combines two inputs"),
        (["--activations", "relu,,elu"], "has an empty name"),
        (["--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--epochs", "-3"], "epochs must be at least 1, got -3"),
        (["--widths", "8,x"], "--widths 8,x: must be whole numbers"),
        (["--widths", "8,0"], "widths must be at least 1"),
        (["--lr", "0"], "learning rate must be positive"),
        (["--dtype", "float8"], "dtype must be one of float32, bfloat16, float16"),
        (["--seeds", "many"], "--seeds"),
        (["--sedes", "3"], "--sedes"),
        (["surplus"], "surplus"),
    ],
)
def test_bad_requests(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, stdout, stderr = call(capsys, "compare", *arguments)
    assert (status, stdout) == (2, "")
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert message in stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", [[], ["--target", "kidn"], ["--target", "a"]])
def test_bad_targets(capsys, data, target):
    status, stdout, stderr = call(capsys, "compare", *data[:2], *target)
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith(("error: --data corners.csv needs --target", "error: corners.csv"))


def test_unwritable_folders(capsys, tmp_path, data):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "folder"):
        status, stdout, stderr = call(capsys, "compare", *data, *TINY, "--out", str(out))
        assert (status, stdout, stderr.count("\n")) == (2, "", 1)
        assert stderr.startswith(f"error: --out {out}: cannot be made (")


def test_foreign_results(capsys, tmp_path, data):
    path = tmp_path / "results.json"
    path.write_text("not ours")
    status, stdout, stderr = call(capsys, "compare", *data, *TINY, "--out", str(tmp_path))
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith(f"error: {path} is damaged or not from jaxact compare")
    assert path.read_text() == "not ours"


def test_version_and_help(capsys):
    assert call(capsys, "--version") == (0, f"jaxact {jaxact.__version__}\n", "")
    status, stdout, _ = call(capsys)
    assert status == 0
    assert "compare" in stdout
    status, stdout, _ = call(capsys, "compare", "--help")
    assert status == 0
    options = ("data", "target", "activations", "seeds", "epochs", "widths", "lr", "dtype", "out")
    processes = ("distributed", "coordinator", "processes", "process")
    for name in (*options, "json", "restart", *processes):
        assert f"--{name}" in stdout
    status, _, stderr = call(capsys, "compair")
    assert status == 2
    assert stderr.startswith("error: No such command 'compair'")


def test_missing_packages(capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name in ("rich", "pandas") else find_spec(name, *a),
    )
    assert call(capsys, "compare") == (
        1,
        "",
        'error: pandas, rich not installed: pip install "jaxact[cli]"\n',
    )


def test_the_command_is_not_needed_for_the_package():
    """`import jaxact.cli` works without the extra's packages, to say that they are missing."""
    code = "import sys; import jaxact.cli; print({'typer', 'rich', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
