"""Tests on the oldest and the newest supported versions: ``nox``.

Without arguments, those that can tell one version from another, in a few minutes each. All of the
fast tests: ``nox --session "tests(floor)" -- tests jaxact docs README.md``.
"""

from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|venv"
nox.options.error_on_missing_interpreters = True

#: (Python, what to pin). The floors are those of pyproject.toml.
MATRIX = {
    "floor": ("3.11", ["jax==0.9.0", "jaxlib==0.9.0", "flax==0.12.6", "optax==0.2.6"]),
    "py311": ("3.11", []),
    "py312": ("3.12", []),
    "newest": ("3.13", []),
}

#: What leans on JAX and Flax: rules of differentiation, transformations and meshes, names and
#: parameters of jaxprs' primitives, modules, optimizers, the layout of residuals, and all code that
#: users read. Left out is what is NumPy or files (reports, compare, the commands, their errors),
#: what runs for long on the same calls (training, subprocesses), and, by ROWS, most activations:
#: they differ in formulas, not in what they ask of JAX.
PATHS = [
    "jaxact",
    "docs",
    "README.md",
    *(
        f"tests/{name}"
        for name in (
            "core/test_gradients.py",
            "core/test_inputs.py",
            "core/test_modes.py",
            "core/test_residuals.py",
            "core/test_rrelu.py",
            "core/test_transforms.py",
            "core/test_values.py",
            "jaxprs",
            "memory",
            "probe/test_gradients.py",
            "probe/test_loops.py",
            "probe/test_models.py",
            "probe/test_probe.py",
            "probe/test_roles.py",
            "probe/test_swap.py",
            "report/test_psum.py",
            "test_drop_in.py",
            "test_feedforward.py",
            "test_import.py",
            "test_layers.py",
            "test_optim.py",
        )
    ),
]
#: Examples of `jaxact compare` and `jaxact.compare`.
LEFT_OUT = ["--ignore", "jaxact/compare", "--ignore", "docs/compare.md"]
#: What JAX 0.12 can trace differently, as its next version will.
FLAGS = {"JAX_CUSTOM_JVP3": "1", "JAX_CUSTOM_VJP3": "1"}
#: What reads jaxprs, and what differentiates.
FLAGGED_PATHS = [
    f"tests/{name}"
    for name in (
        "core/test_gradients.py",
        "core/test_modes.py",
        "core/test_transforms.py",
        "jaxprs",
        "memory",
        "probe/test_gradients.py",
        "probe/test_loops.py",
        "probe/test_probe.py",
        "probe/test_revive.py",
        "probe/test_swap.py",
    )
]
#: One activation of each kind of declaration stands for the rows of tests/support/table.py.
ROWS = ["relu", "prelu:array", "rrelu:key", "celu", "gelu", "swiglu"]


@nox.session
@nox.parametrize(
    "python,pins",
    [nox.param(python, pins, id=name) for name, (python, pins) in MATRIX.items()],
)
def tests(session: nox.Session, pins: list[str]) -> None:
    session.install("-e", ".[test]", *pins)
    session.run("python", "-c", "import jax, flax; print('jax', jax.__version__, flax.__version__)")
    chosen = session.posargs or [*PATHS, *LEFT_OUT, "--rows", ",".join(ROWS)]
    session.run("pytest", *chosen, env={"JAX_PLATFORMS": "cpu"})


@nox.session(python=MATRIX["newest"][0])
def flags(session: nox.Session) -> None:
    """With JAX's flags for functions with derivatives of their own, on the newest JAX."""
    session.install("-e", ".[test]")
    chosen = session.posargs or [*FLAGGED_PATHS, "--rows", ",".join(ROWS)]
    session.run("pytest", *chosen, env={"JAX_PLATFORMS": "cpu", **FLAGS})


@nox.session(python=MATRIX["floor"][0], default=False)
def notebooks(session: nox.Session) -> None:
    """The notebooks in full, each in a fresh kernel: all, or those named, as ``-- choosing``.

    What is committed stays as it is: the copies that were run go into the session's folder.
    """
    session.install("-e", ".[notebooks]")
    folder = Path(__file__).parent / "notebooks"
    for name in session.posargs or sorted(path.stem for path in folder.glob("*.ipynb")):
        session.run(
            *("jupyter", "nbconvert", "--log-level", "ERROR", "--to", "notebook", "--execute"),
            *("--ExecutePreprocessor.timeout=1200", "--output-dir", session.create_tmp()),
            str(folder / f"{name}.ipynb"),
            env={"JAX_PLATFORMS": "cpu", "JAXACT_NOTEBOOKS": "full"},
        )
