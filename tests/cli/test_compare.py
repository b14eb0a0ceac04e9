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
from jaxact._cli.compare import default_folder
from jaxact.compare import run

ARMS = ("relu", "elu")
FILES = ["curves.png", "report.html", "results.json", "table.md"]
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
    studies = [results, *results["also"]]
    return [
        {
            **study["configuration"],
            "arms": {
                label: {k: v for k, v in one.items() if k != "timing"}
                for label, one in study["arms"].items()
            },
        }
        for study in studies
    ]


def test_compare(capsys, tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, stdout, stderr = call(capsys, "compare", *data, *TINY)
    assert status == 0
    # First the conclusion, then the table, then where the files are.
    (out,) = (tmp_path / "jaxact-compare").iterdir()
    results = json.loads((out / "results.json").read_text())
    lines = stdout.splitlines()
    assert lines[0] == results["conclusion"][0]
    assert lines[-1].startswith(f"Written to jaxact-compare/{out.name}: results.json, ")
    rows = {line.split()[0]: line for line in lines if line.startswith(ARMS)}
    assert tuple(rows) == ARMS
    table = lines[lines.index("") + 1 : -1]
    assert all(len(line) <= 80 for line in table)
    # What was made of the columns, and how far the training is.
    assert "100%" in stderr
    assert [line.split()[0] for line in stderr.splitlines() if line[:2] in ("a ", "b ")] == [
        "a",
        "b",
    ]
    assert sorted(p.name for p in out.iterdir()) == FILES
    assert results["finished"]
    assert list(results["arms"]) == ["relu", "elu"]
    assert imread(out / "curves.png").shape[1] >= 900
    assert "| relu |" in (out / "table.md").read_text()
    assert results["conclusion"][0][:20] in (out / "report.html").read_text()

    # A finished run is printed again, without any training and without touching its files.
    def no_training(*arguments, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(run, "train", no_training)
    before = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    status, again, stderr = call(capsys, "compare", *data, *TINY)
    assert (status, again) == (0, stdout)
    assert "%" not in stderr
    assert {p: p.stat().st_mtime_ns for p in out.iterdir()} == before

    # --from asks the same again: here, where the answer is.
    status, again, _ = call(capsys, "compare", "--from", str(out / "results.json"))
    assert (status, again) == (0, stdout)

    # --json prints the file and nothing else.
    status, printed, stderr = call(capsys, "compare", *data, *TINY, "--json")
    assert (status, stderr) == (0, "")
    assert json.loads(printed) == results

    # Lost reports are written again.
    for name in ("curves.png", "table.md", "report.html"):
        (out / name).unlink()
    assert call(capsys, "compare", *data, *TINY)[0] == 0
    assert sorted(p.name for p in out.iterdir()) == FILES

    # Another configuration.
    other = ("compare", *data, *TINY, "--out", str(out), "--lr", "0.5")
    status, stdout, stderr = call(capsys, *other)
    assert (status, stdout) == (2, "")
    error = stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert "learning_rate is 0.001 there and 0.5 here" in error
    assert "--restart" in error and "--out" in error
    assert json.loads((out / "results.json").read_text()) == results

    # --restart forgets everything, and trains.
    with pytest.raises(AssertionError, match="trained again"):
        cli.main((*other, "--restart"))
    assert list(out.iterdir()) == []


def test_folders_are_named_after_data_and_question():
    names = [
        default_folder(asked).as_posix().removeprefix("jaxact-compare/")
        for asked in (
            {},
            {"data": "pets.csv", "target": "kind"},
            {"data": "in/a folder/pets.csv.gz", "target": "the kind"},
            {"sweep": ["lr=0.1,0.2", "width=8,16"]},
            {"tune": "lr"},
            {"model": "mine:Net"},
            {"seeds": 3},
            {"seeds": 4},
        )
    ]
    assert names[:2] == ["digits", "pets-kind"]
    starts = ("pets-the-kind-", "digits-lr-width-", "digits-tuned-", "digits-mine-Net")
    for name, start in zip(names[2:6], starts, strict=True):
        assert name.startswith(start)
    assert len(set(names)) == len(names)


def test_from_with_other_options(capsys, tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {
        "format": "jaxact-compare/2",
        "configuration": {},
        "also": [],
        "request": {"data": data[1], "target": "kind", "seeds": 2, "epochs": 2, "sweep": ["x"]},
    }
    (tmp_path / "old.json").write_text(json.dumps(content))
    asked = []
    monkeypatch.setattr(run, "compare", lambda *a, **options: asked.append((a, options)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["compare", "--from", "old.json", "--seeds", "5", "--sweep", "lr=0.1,0.2"])
    ((studies, dataset, _), options) = asked[0]
    assert (studies[0].seeds, studies[0].epochs) == (5, 2)
    assert [axis.name for axis in studies[0].sweeps] == ["lr"]
    assert dataset.target == "kind"
    assert options["request"]["seeds"] == 5
    capsys.readouterr()
    content["request"]["password"] = "x"
    (tmp_path / "old.json").write_text(json.dumps(content))
    status, _, stderr = call(capsys, "compare", "--from", "old.json")
    assert (status, stderr.count("\n")) == (2, 1)
    assert "holds no request of jaxact compare" in stderr


@pytest.mark.parametrize(
    ("arguments", "arms"),
    [
        ([], ["relu", "leaky_relu:0.01", "leaky_relu:0.2", "prelu", "rrelu", "elu", "gelu"]),
        (["--sweep", "lr=0.1,0.2"], ["relu", "leaky_relu", "elu"]),
        (
            ["--sweep", "negative_slope=0.1,0.2"],
            ["relu", "leaky_relu", "leaky_relu_squared"],
        ),
        (["--sweep", "upper=0.3,0.4"], ["relu", "rrelu"]),
        (["--tune", "lr", "--activations", "elu,celu:2"], ["elu", "celu:2"]),
    ],
)
def test_default_activations(monkeypatch, arguments, arms):
    asked = []
    monkeypatch.setattr(run, "compare", lambda studies, *a, **o: asked.extend(studies) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["compare", *arguments])
    assert list(asked[0].activations) == arms
    # Without any option, a second study: where the choice matters.
    assert (
        [axis.name for study in asked[1:] for axis in study.sweeps] == [] if arguments else ["lr"]
    )


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("lr", (0.000333, 0.001, 0.003)),
        ("lr=0.1,0.2", (0.1, 0.2)),
        ("lr=1e-3..1e-1:3", (0.001, 0.01, 0.1)),
    ],
)
def test_grids_of_learning_rates(monkeypatch, text, rates):
    asked = []
    monkeypatch.setattr(run, "compare", lambda studies, *a, **o: asked.extend(studies) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["compare", "--activations", "relu", "--tune", text, "--margin", "0.3"])
    assert asked[0].tune == pytest.approx(rates)
    assert asked[0].margin == pytest.approx(0.003)


def test_interrupted_by_the_keyboard(capsys, tmp_path, data, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", interrupt)
    status, stdout, stderr = call(capsys, "compare", *data, *TINY, "--out", str(tmp_path))
    assert (status, stdout) == (130, "")
    assert stderr.splitlines()[-1] == (
        "error: interrupted; jaxact compare, if it is repeated, goes on where it stopped."
    )


KILLED = ("--seeds", "3", "--epochs", "3", "--widths", "5", "--activations", "relu,rrelu,prelu")

#: What results.json holds, or the folder, when the process is killed.
PHASES = {
    "before the first program": lambda out: (out / ".jaxact-lock").exists(),
    "between programs": lambda out: len(stored(out).get("arms", ())) >= 1,
    "while costs are measured": lambda out: len(stored(out).get("arms", ())) == 6,
    "while reports are drawn": lambda out: stored(out).get("finished"),
}


def stored(out):
    path = out / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


@pytest.mark.slow
def test_killed_in_each_phase_and_repeated(capsys, tmp_path, data):
    """The figures are those of an uninterrupted run: those of a sweep, and of two splits."""
    sweep = ("--sweep", "lr=0.001,0.01", "--splits", "2")
    arguments = ("compare", *data, *KILLED, *sweep)
    code = "import sys; from jaxact.cli import main; main(sys.argv[1:])"
    out = tmp_path / "killed"
    for phase, reached in PHASES.items():
        killed = subprocess.Popen(
            [sys.executable, "-c", code, *arguments, "--out", str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": str(jax.device_count())},
        )
        deadline = time.monotonic() + 120
        while not reached(out) and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(killed.pid, signal.SIGKILL)
        assert killed.wait() in (-signal.SIGKILL, 0), phase
        killed.communicate()
    status, _, stderr = call(capsys, *arguments, "--out", str(out))
    assert status == 0, stderr
    assert sorted(p.name for p in out.iterdir()) == FILES
    status, stdout, stderr = call(capsys, *arguments, "--out", str(tmp_path / "whole"), "--json")
    assert status == 0, stderr
    uninterrupted = json.loads(stdout)
    assert list(uninterrupted["arms"])[:2] == ["relu, lr=0.001", "rrelu, lr=0.001"]
    assert figures(stored(out)) == figures(uninterrupted)


@pytest.mark.slow
def test_a_second_start_is_refused(capsys, tmp_path, data):
    """While the first runs; once it is killed, its lock is gone with it."""
    arguments = ("compare", *data, *KILLED, "--out", str(tmp_path / "out"))
    code = "import sys; from jaxact.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *arguments]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "out").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        status, stdout, stderr = call(capsys, *arguments)
        assert (status, stdout) == (2, "")
        assert "in use by another run" in stderr.splitlines()[-1]
    finally:
        first.kill()
        first.communicate()
    assert call(capsys, *arguments)[0] == 0


@pytest.mark.slow
def test_a_real_difference_is_detected_and_none_is_not(capsys, tmp_path, data):
    arguments = ("--activations", "relu,identity,leaky_relu:0.0", "--seeds", "8", "--epochs", "30")
    arguments += ("--widths", "16", "--lr", "0.03", "--json", "--out", str(tmp_path))
    status, stdout, _ = call(capsys, "compare", *data, *arguments)
    assert status == 0
    content = json.loads(stdout)
    summary = content["summary"]
    assert summary["relu"]["test_accuracy"]["mean"] > 0.9
    assert summary["identity"]["test_accuracy"]["mean"] < 0.7
    assert summary["identity"]["comparison"]["verdict"] == "worse"
    assert summary["leaky_relu:0.0"]["comparison"]["verdict"] == "practically equal"
    assert summary["leaky_relu:0.0"]["comparison"]["difference"]["mean"] == 0
    assert summary["identity"]["dead_units_percent"]["mean"] == 0
    assert content["conclusion"][0].startswith("Keep relu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "missing.csv", "--target", "kind"], "missing.csv: there is no such file"),
        (["--target", "kind"], "--target kind has no file"),
        (["--activations", "relu,lealy_relu"], "Did you mean 'leaky_relu'"),
        (["--activations", "relu,relu"], "'relu' is given twice"),
        (["--activations", "swiglu"], "swiglu combines two inputs"),
        (["--activations", "relu,,elu"], "has an empty name"),
        (["--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--epochs", "-3"], "epochs must be at least 1, got -3"),
        (["--seeds", "3", "--time-budget", "5m"], "--seeds and --time-budget say the same thing"),
        (["--time-budget", "soon"], "--time-budget soon: write a time such as 90s, 5m or 1h"),
        (["--max-memory", "much"], "--max-memory much: write a size such as 500MiB"),
        (["--sweep", "lr"], "--sweep lr: must be NAME=VALUES"),
        (["--sweep", "slope=1,2"], "sweep slope=1,2: there is no such axis"),
        (["--tune", "width"], "--tune width: only lr can be tuned"),
        (["--splits", "0"], "splits must be at least 1, got 0"),
        (["--margin", "-1"], "margin must not be negative"),
        (["--model", "rnn"], "model must be mlp, cnn or module:factory; got 'rnn'"),
        (["--model", "cnn"], "model cnn needs images"),
        (["--model", "no_such:Net"], "--model no_such:Net: there is no module 'no_such'"),
        (["--replace", "relu"], "replace is for models of yours"),
        (["--from", "missing.json"], "--from missing.json: there is no such file"),
        (["--activations", "leaky_relu,leaky_relu:0.01"], "in another spelling"),
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


@pytest.mark.parametrize("target", [[], ["--target", "kidn"]])
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
    assert stderr.startswith(f"error: {path} is damaged (")
    assert path.read_text() == "not ours"


def test_version_and_help(capsys):
    assert call(capsys, "--version") == (0, f"jaxact {jaxact.__version__}\n", "")
    status, stdout, _ = call(capsys)
    assert status == 0
    assert "compare" in stdout
    status, stdout, _ = call(capsys, "compare", "--help")
    assert status == 0
    options = ("data", "target", "activations", "seeds", "epochs", "widths", "lr", "dtype", "out")
    options += ("task", "drop", "features", "missing", "max-memory", "sweep", "tune", "splits")
    options += ("margin", "model", "replace", "time-budget", "batch-size", "from")
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
        'error: pandas, rich not installed: pip install -e ".[cli]" in a clone of jaxact\n',
    )


def test_the_command_is_not_needed_for_the_package():
    """`import jaxact.cli` works without the extra's packages, to say that they are missing."""
    code = "import sys; import jaxact.cli; print({'typer', 'rich', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
