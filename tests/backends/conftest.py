"""Compiling for TPUs and GPUs takes minutes, and compilers: ``pytest -m backends``.

``-m "backends and not slow"`` takes, of many like cases, a few in turn. Who asks for these tests by
name gets errors where compilers are missing, and not a success without a test.
"""

import importlib.util
from pathlib import Path

import pytest

from tests.support.markers import asked_for

COMPILERS = ("libtpu", "jax_plugins.xla_cuda13", "nvidia.cu13")


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def pytest_ignore_collect(config):
    """The slow tests of the rest of the package are not those of compilers."""
    return None if asked_for(config, "backends") or not config.option.markexpr else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    missing = ", ".join(module for module in COMPILERS if not installed(module))
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.backends)
            if missing and not asked_for(config, "backends"):
                reason = f'{missing} missing: pip install -e ".[targets]"'
                item.add_marker(pytest.mark.skip(reason=reason))
