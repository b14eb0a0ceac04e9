"""The fast tests on the oldest and the newest supported versions: ``nox``."""

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


@nox.session
@nox.parametrize(
    "python,pins",
    [nox.param(python, pins, id=name) for name, (python, pins) in MATRIX.items()],
)
def tests(session: nox.Session, pins: list[str]) -> None:
    session.install("-e", ".[test]", *pins)
    session.run("python", "-c", "import jax, flax; print('jax', jax.__version__, flax.__version__)")
    session.run("pytest", *session.posargs, env={"JAX_PLATFORMS": "cpu"})
