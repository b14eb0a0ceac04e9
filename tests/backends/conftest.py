"""Compiling for accelerators takes minutes and the extra ``targets``: ``pytest -m backends``."""

import importlib.util
from pathlib import Path

import pytest


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def pytest_collection_modifyitems(items):
    missing = [m for m in ("libtpu", "jax_plugins.xla_cuda13", "nvidia.cu13") if not _installed(m)]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.backends)
            if missing:
                reason = f'{", ".join(missing)} missing: pip install "jaxact[targets]"'
                item.add_marker(pytest.mark.skip(reason=reason))
