"""What ``pytest`` takes wherever it is started: an option that keeps compiled programs."""

import os

import jax
import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--compilation-cache",
        action="store_true",
        help="keep what XLA compiles for the next run of pytest, in .pytest_cache/jax, or in the "
        "folder that JAX_COMPILATION_CACHE_DIR names. For trying a change again and again; CI "
        "leaves it off, so that it compiles what users compile, with the compiler that it has.",
    )
    parser.addoption(
        "--rows",
        metavar="ID,ID",
        help="of the tests that run each row of tests/support/table.py, only those of these rows",
    )


def pytest_collection_modifyitems(config, items):
    rows = config.getoption("rows")
    if rows is None:
        return
    wanted = rows.split(",")
    kept, others, found = [], [], set()
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        row = getattr(parameters.get("row"), "id", None)
        (kept if row is None or row in wanted else others).append(item)
        found.add(row)
    if missing := set(wanted) - found:
        raise pytest.UsageError(f"--rows: there is no row {', '.join(sorted(missing))}")
    config.hook.pytest_deselected(items=others)
    items[:] = kept


def pytest_configure(config):
    if config.getoption("compilation_cache"):
        folder = config.rootpath / ".pytest_cache" / "jax"
        jax.config.update(
            "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(folder))
        )
        # Thousands of small programs: none is too quick to compile, or too short, to be kept.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
