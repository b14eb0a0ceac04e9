import importlib.util
from pathlib import Path

import jax
import pytest

# Before any backend starts: meshes of several devices, on a machine that has only CPUs.
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(autouse=True)
def strict_promotion():
    """The package's own code must not lean on implicit promotion of dtypes or ranks."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


BACKENDS = Path(__file__).parent / "backends"
COMPILERS = ("libtpu", "jax_plugins.xla_cuda13", "nvidia.cu13")


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Compiling for accelerators takes minutes, and compilers: ``pytest -m backends``.

    Who asks for these tests by name gets errors where compilers are missing, and not a success
    without a test.
    """
    missing = ", ".join(module for module in COMPILERS if not installed(module))
    if config.option.markexpr == "backends":
        missing = ""
    for item in items:
        if BACKENDS in item.path.parents:
            item.add_marker(pytest.mark.backends)
            if missing:
                reason = f'{missing} missing: pip install -e ".[targets]"'
                item.add_marker(pytest.mark.skip(reason=reason))
