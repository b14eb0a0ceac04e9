import jax
import pytest

# Before any backend starts: meshes of several devices, on a machine that has only CPUs.
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(autouse=True)
def strict_promotion():
    """The package's own code must not lean on implicit promotion of dtypes or ranks."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
