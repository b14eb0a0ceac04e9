"""``jaxact probe``: users' modules by name, what is printed, and what is refused."""

import json
import sys

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from jaxact import cli
from jaxact._cli import probe as command
from jaxact._errors import RequestError

CODE = """
import jax, jax.numpy as jnp
from flax import linen, nnx

x = jax.random.normal(jax.random.key(0), (100, 4))
w = jnp.ones((4, 3)).at[:, 0].set(0.0)
w_dead = (w, jnp.array([-1.0, 0.0, 0.0]))

def dying(weights, x):
    return jax.nn.relu(x @ weights[0] + weights[1])

def talking(weights, x):
    print("the user's model speaks")
    return dying(weights, x)

def linear(x):
    return x @ w

async def later(x):
    return x

def failing():
    raise OSError(2, "no such data")

class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(4, 8, rngs=rngs)

    def __call__(self, x, scale=1.0):
        return nnx.relu(self.first(x)) * scale

model = Net(nnx.Rngs(0))

class Dense(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.gelu(linen.Dense(6)(x))

linen_model = Dense()
variables = linen_model.init(jax.random.key(0), x)

pair = (w_dead, x)
by_name = {"x": x, "scale": 2.0}
wrong = [w_dead, x[:, :3]]
text = "a,b"

def batch():
    return [w_dead, x]

def linen_arguments():
    return variables, x
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a user's code, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "code.py").write_text(CODE)
    # A user's code may promote.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("mine", "broken"):
            del sys.modules[name]


def call(capsys, *arguments):
    """The exit status, stdout and stderr of the command."""
    with pytest.raises(SystemExit) as caught:
        cli.main(("probe", *arguments))
    output = capsys.readouterr()
    return caught.value.code, output.out, output.err


def test_table_and_advice(capsys, project):
    status, stdout, stderr = call(capsys, "mine.code:dying", "--args", "mine.code:pair")
    assert (status, stderr) == (0, "")
    row = next(line for line in stdout.splitlines() if line.startswith("0 "))
    assert "relu" in row and "1 (33.3%)" in row
    report = command.run("mine.code:dying", "mine.code:pair")
    assert stdout == f"{report}\n\n{report.advice()}\n"
    assert report.sites[0].dead.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("model", "arguments", "function", "units"),
    [
        ("dying", "batch", "relu", 3),
        ("model", "x", "relu", 8),
        ("model", "by_name", "relu", 8),
        ("model.__call__", "x", "relu", 8),
        ("linen_model.apply", "linen_arguments", "gelu", 6),
    ],
)
def test_models_and_arguments(project, model, arguments, function, units):
    [site] = command.run(f"mine.code:{model}", f"mine.code:{arguments}").sites
    assert (site.function, site.dead.shape, site.count.tolist()) == (
        function,
        (units,),
        [100] * units,
    )


def test_axis_and_json(capsys, project):
    arguments = ("mine.code:dying", "--args", "mine.code:pair", "--json")
    status, stdout, stderr = call(capsys, *arguments)
    assert (status, stderr) == (0, "")
    figures = json.loads(stdout)
    assert figures == command.run("mine.code:dying", "mine.code:pair").scalars()
    assert sorted(name.rpartition("/")[2] for name in figures) == sorted(
        ["dead", "active", "saturated", "mean", "std", "dormant", "peak", "kurtosis", "samples"]
    )
    status, stdout, _ = call(capsys, *arguments, "--axis", "-2")
    assert {v for k, v in json.loads(stdout).items() if k.endswith("/samples")} == {3.0}


def test_what_a_model_prints_is_not_in_the_answer(capsys, project):
    status, stdout, stderr = call(capsys, "mine.code:talking", "--args", "mine.code:pair", "--json")
    assert (status, stderr) == (0, "the user's model speaks\n")
    assert json.loads(stdout) == {
        name.replace("dying", "talking"): figure
        for name, figure in command.run("mine.code:dying", "mine.code:pair").scalars().items()
    }


def test_json_has_no_nan(project):
    (project / "mine" / "overflow.py").write_text(
        "import jax\nx = jax.numpy.full((2, 2), jax.numpy.nan)\nf = jax.nn.relu\n"
    )
    figures = json.loads(command.to_json(command.run("mine.overflow:f", "mine.overflow:x")))
    assert None in figures.values()


def test_picture(capsys, project):
    arguments = ("mine.code:dying", "--args", "mine.code:pair", "--plot")
    for name in ("picture.png", "picture.SVG"):
        status, stdout, stderr = call(capsys, *arguments, name)
        assert (status, stderr) == (0, "")
        assert stdout.endswith(f"\nDrawn in {name}\n")
    assert imread("picture.png").shape[1] > 900
    files = sorted(p.name for p in project.iterdir())
    assert files == ["mine", "picture.SVG", "picture.png"]
    # --json prints nothing else.
    json.loads(call(capsys, *arguments, "picture.png", "--json")[1])
    status, stdout, stderr = call(capsys, *arguments, "none/picture.png")
    assert (status, stdout) == (2, "")
    assert stderr == "error: none/picture.png cannot be written (No such file or directory).\n"


def test_a_picture_that_cannot_be_written(tmp_path):
    """The error is the command's own: no comparison is asked for."""
    with pytest.raises(RequestError, match=r"no/picture\.png cannot be written") as caught:
        command.write(Figure(), tmp_path / "no" / "picture.png")
    assert caught.type is RequestError


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("mine.code", "mine.code:x", "'mine.code' must be written as module:attribute"),
        ("mine.code:", "mine.code:x", "must be written as module:attribute"),
        (":model", "mine.code:x", "must be written as module:attribute"),
        (
            "mine/code.py:model",
            "mine.code:x",
            "must be written as module:attribute, without the file's ending: mine.code:model.\n",
        ),
        ("/some/where/train.py:", "mine.code:x", "without the file's ending: train:attribute.\n"),
        ("mine.code:linen_model", "mine.code:x", "Pass its apply: jaxact.probe(model.apply)(var"),
        ("mine.code:later", "mine.code:x", "mine.code:later: probe: fn is an async function, of"),
        ("mine:code:model", "mine.code:x", "must be written as module:attribute"),
        ("yours:model", "mine.code:x", "there is no module 'yours', neither in "),
        ("mine.cod:model", "mine.code:x", "there is no module 'mine.cod', neither in "),
        (
            "mine.code:modle",
            "mine.code:x",
            "has no attribute 'modle'. Did you mean 'model'",
        ),
        ("mine.code:model.frst", "mine.code:x", "mine.code:model has no attribute 'frst'. Did you"),
        ("mine.code:w", "mine.code:x", "mine.code:w cannot be called: it is of type ArrayImpl"),
        ("mine.code:Net", "mine.code:x", "mine.code:Net is a class: name an instance"),
        ("mine.code:linear", "mine.code:x", "mine.code:linear has no activation that jaxact knows"),
        ("mine.code:model", "mine.code:inputs", "mine.code has no attribute 'inputs'"),
        ("mine.code:model", "mine.code:text", "--args mine.code:text must be a tuple or list"),
        (
            "mine.code:model",
            "mine.code:failing",
            "--args mine.code:failing is called without arguments, and raised FileNotFoundError: "
            "[Errno 2] no such data.\n",
        ),
        (
            "mine.code:model",
            "mine.code:linear",
            "raised TypeError: linear() missing 1 required",
        ),
    ],
)
def test_bad_requests(capsys, project, model, arguments, message):
    status, stdout, stderr = call(capsys, model, "--args", arguments)
    assert (status, stdout) == (2, "")
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert message in stderr


def test_wrong_shapes(capsys, project):
    status, stdout, stderr = call(capsys, "mine.code:dying", "--args", "mine.code:wrong")
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith("error: mine.code:dying raised TypeError: dot_general requires ")
    assert stderr.endswith(
        ". It was given [0][0] float32[4,3], [0][1] float32[3], [1] float32[100,3].\n"
    )
    status, _, stderr = call(capsys, "mine.code:batch", "--args", "mine.code:by_name")
    assert status == 2
    assert "mine.code:batch raised TypeError: batch() got an unexpected keyword argument" in stderr
    assert stderr.endswith(" It was given ['scale'] 2.0, ['x'] float32[100,4].\n")


def test_a_directory_that_is_gone(capsys, project, monkeypatch):
    gone = project / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    status, stdout, stderr = call(capsys, "mine.code:dying", "--args", "mine.code:w_dead")
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith("error: the current directory, where modules are looked for first, is")


def test_many_arguments_are_not_all_described():
    text = command._described(([np.zeros(2, np.float32)] * 20,), {})
    assert text.count("float32[2]") == 8
    assert text.endswith(" and 12 more")


def test_axis_that_a_site_does_not_have(capsys, project):
    arguments = ("mine.code:dying", "--args", "mine.code:pair", "--axis", "2")
    status, stdout, stderr = call(capsys, *arguments)
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith("error: --axis 2: the pre-activation of relu in ")
    assert stderr.endswith(" has the shape (100, 3).\n")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'."),
        ("from jax import nonsense", "ImportError: cannot import name 'nonsense' from 'jax'"),
        ("1 / 0", "ZeroDivisionError: division by zero."),
        ("def f(:", "SyntaxError: invalid syntax (broken.py, line 1)."),
        ("raise SystemExit(0)", "SystemExit: 0."),
    ],
)
def test_errors_in_the_users_module(capsys, project, code, message):
    (project / "broken.py").write_text(code)
    status, stdout, stderr = call(capsys, "broken:f", "--args", "broken:x")
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith(f"error: broken cannot be imported: {message}")


def test_options(capsys, project):
    status, stdout, _ = call(capsys, "--help")
    assert status == 0
    for name in ("--args", "--axis", "--json", "--plot"):
        assert name in stdout
    assert "--args" in call(capsys, "mine.code:model")[2]
    picture = ("mine.code:model", "--args", "mine.code:x", "--plot", "picture.jpg")
    status, stdout, stderr = call(capsys, *picture)
    assert (status, stdout) == (2, "")
    assert stderr == "error: --plot picture.jpg: the name must end in .png, .pdf or .svg.\n"
    assert call(capsys, "mine.code:model", "--args", "mine.code:x", "--axis", "last")[0] == 2


def test_from_python(project):
    with pytest.raises(RequestError, match="no module 'yours'"):
        command.run("yours:f", "yours:x")
    report = command.run("jax.nn:relu", "mine.code:x")
    assert report.sites[0].shape == (100, 4)
    assert isinstance(report.records[0].statistics.active, jax.Array)
