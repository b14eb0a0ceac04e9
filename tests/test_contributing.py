"""The files for contributors say what the package and its checks say."""

import ast
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
YAML = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (".pre-commit-config.yaml", ".github/**/*.yml", "CITATION.cff")
    for path in ROOT.glob(pattern)
)


def read(path: str):
    return yaml.safe_load((ROOT / path).read_text())


def test_there_are_yaml_files():
    assert len(YAML) == 5


@pytest.mark.parametrize("path", YAML)
def test_yaml_is_a_mapping(path):
    assert isinstance(read(path), dict)


def test_the_citation_is_that_of_the_package():
    citation = read("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert (citation["title"], citation["version"]) == (PROJECT["name"], PROJECT["version"])
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]


def test_the_hooks_run_what_ci_runs():
    commands = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["entry"] in commands
        assert hook["language"] == "system"


def versions():
    """The sessions of nox: a Python version and what is pinned."""
    (matrix,) = [
        node.value
        for node in ast.parse((ROOT / "noxfile.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MATRIX"
    ]
    return ast.literal_eval(matrix)


def test_the_floor_that_is_tested_is_the_one_that_is_claimed():
    python, pins = versions()["floor"]
    assert PROJECT["requires-python"] == f">={python}"
    floors = {requirement.replace(">=", "==") for requirement in PROJECT["dependencies"]}
    (jax,) = (floor for floor in floors if floor.startswith("jax=="))
    assert set(pins) == floors | {jax.replace("jax", "jaxlib")}


def test_the_workflow_runs_ci_and_every_version():
    jobs = read(".github/workflows/checks.yml")["jobs"]
    assert {"run": ".ci/run"} in jobs["everything"]["steps"]
    sessions = {name: python for name, (python, _) in versions().items()}
    included = jobs["versions"]["strategy"]["matrix"]["include"]
    assert {entry["session"]: entry["python"] for entry in included} == sessions


@pytest.mark.parametrize("template", [path for path in YAML if "ISSUE_TEMPLATE" in path])
def test_issue_templates_have_what_their_site_requires(template):
    form = read(template)
    assert form.keys() >= {"name", "description", "body"}
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in form["body"])
