"""The fast tests that depend on versions, on the oldest and the newest supported ones: ``nox``.

``nox --session "tests(floor)" -- tests jaxact docs README.md`` runs all fast tests there.
"""

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True

#: (Python, what to pin). The floors are those of pyproject.toml.
MATRIX = {
    "floor": ("3.11", ["jax==0.9.0", "jaxlib==0.9.0", "flax==0.12.6", "optax==0.2.6"]),
    "py311": ("3.11", []),
    "py312": ("3.12", []),
    "newest": ("3.13", []),
}

#: What depends on the versions of JAX and Flax: jaxprs, derivatives, sharding, layers, values.
#: The rest reads tables, trains, prints and draws with them as users do, and .ci/run runs it once.
CHOSEN = [
    *("tests/jaxprs", "tests/probe", "tests/memory", "tests/core", "tests/test_layers.py"),
    *("tests/test_feedforward.py", "tests/test_drop_in.py", "tests/test_import.py"),
    *("tests/test_optim.py", "tests/test_initializers.py", "jaxact", "docs", "README.md"),
    # A formula is the same for all dtypes: what XLA makes of it shows in float32.
    *("-k", "not (test_values and float16)"),
]


@nox.session
@nox.parametrize(
    "python,pins",
    [nox.param(python, pins, id=name) for name, (python, pins) in MATRIX.items()],
)
def tests(session: nox.Session, pins: list[str]) -> None:
    session.install("-e", ".[test]", *pins)
    session.run("python", "-c", "import jax, flax; print('jax', jax.__version__, flax.__version__)")
    session.run("pytest", *(session.posargs or CHOSEN), env={"JAX_PLATFORMS": "cpu"})
