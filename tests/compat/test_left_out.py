"""The libraries that have no program here, and why; and which programs the newest JAX cannot run.

Looked at in November 2026, with JAX 0.10.2 (Python 3.11) and JAX 0.12.0.1 (Python 3.13). On both,
every library of the extra ``compat`` imports, but for kfac-jax 0.0.8 on JAX 0.12.0.1: "module
'jax.core' has no attribute 'Effects'". On JAX 0.10.2 it imports, and does not run.
"""

import importlib
import warnings

import jax
import pytest

from tests.support.programs import REFERENCE, WIDTH, apply, network, normal

with warnings.catch_warnings():
    # Of private names of JAX's, as it is imported.
    warnings.simplefilter("ignore", DeprecationWarning)
    import kfac_jax

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


def test_kfac_does_not_run_yet():
    """With jax.nn's functions, nor any: it unpacks what ``get_bind_params`` no longer gives.

    Once it does, this is a program for test_optimizers.py. A Gauss-Newton product by hand is in
    test_second_order.py.
    """

    def loss(params, batch):
        x, y = batch
        prediction = apply(params, x, REFERENCE.tanh)
        kfac_jax.register_squared_error_loss(prediction, y)
        return 0.5 * ((prediction - y) ** 2).sum(-1).mean()

    optimizer = kfac_jax.Optimizer(
        jax.value_and_grad(loss), l2_reg=1e-3, use_adaptive_learning_rate=True, num_burnin_steps=0,
        use_adaptive_momentum=True, use_adaptive_damping=True, initial_damping=1.0,
    )  # fmt: skip
    params, batch, key = network((2, WIDTH, 1)), (normal(16, 2), normal(16, 1)), jax.random.key(0)
    state = optimizer.init(params, key, batch)
    with pytest.raises(ValueError, match="too many values to unpack"):
        optimizer.step(params, state, key, batch=batch, global_step_int=0)
