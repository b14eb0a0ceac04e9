"""The libraries that have no program here, and why; and which programs the newest JAX cannot run.

Looked at in November 2026, with JAX 0.10.2 (Python 3.11) and JAX 0.12.0.1 (Python 3.13). On both,
every library of the extra ``compat`` imports, but for kfac-jax 0.0.8 on JAX 0.12.0.1: "module
'jax.core' has no attribute 'Effects'". So the suite runs on Python 3.11.
"""

import importlib

import pytest

#: Modules that do not import on this JAX, and their errors. ``pip install --no-deps`` them to see.
LEFT_OUT = {
    "oryx": "cannot import name 'util' from 'jax'",
}

#: Not to be installed beside the others, and what importing them in a place of their own says.
NEVER_BESIDE = {
    # Requires tensorflow-probability 0.25, which has the files of tfp-nightly, that distrax needs.
    "bayeux": "module 'jax.interpreters.xla' has no attribute 'pytype_aval_mappings'",
    # Requires TensorFlow.
    "neural_tangents": "cannot import name 'Jaxpr' from 'jax.core'",
}


@pytest.mark.parametrize("module", LEFT_OUT)
def test_does_not_import_yet(module):
    """Once it does, it gets a program, and leaves this list."""
    not_installed = f"No module named '{module}'"
    with pytest.raises(ImportError, match=f"{LEFT_OUT[module]}|{not_installed}"):
        importlib.import_module(module)
