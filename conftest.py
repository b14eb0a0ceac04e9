"""What ``pytest`` takes wherever it is started, and how it compiles."""

import contextlib
import gc
import os
from pathlib import Path

import jax
import pytest

#: Tests of what programs are made of and of figures within a tolerance, which take LLVM longer than
#: they run. XLA compiles them as always, LLVM without its expensive passes. All others compile as
#: for users: what asserts last bits, memory, cycles or times, and what runs for long.
COMPILED_QUICKLY = tuple(
    f"tests/{name}"
    for name in (
        "benchmarks/test_depth.py",
        "benchmarks/test_digits.py",
        "benchmarks/test_equations.py",
        "benchmarks/test_gan.py",
        "benchmarks/test_gates.py",
        "benchmarks/test_gpu.py",
        "benchmarks/test_plasticity.py",
        "benchmarks/test_slopes.py",
        "cli/test_compare.py",
        "compare/test_devices.py",
        "compare/test_models.py",
        "compare/test_own.py",
        "compare/test_training.py",
        "compat/",
        "core/test_gradients.py",
        "core/test_inputs.py",
        "core/test_kernels.py",
        "core/test_packed_residuals.py",
        "core/test_residuals.py",
        "core/test_transforms.py",
        "jaxprs/",
        "probe/",
        "report/",
        "test_drop_in.py",
        "test_feedforward.py",
        "test_layers.py",
        "test_optim.py",
        "test_plasticity.py",
    )
)
#: But for these of them, which run for long, or are compared bit by bit with other processes.
COMPILED_FULLY = tuple(
    f"tests/{name}"
    for name in (
        "cli/test_compare.py::test_killed_in_each_phase_and_repeated",
        "compare/test_training.py::test_quantized_derivatives_lose_no_detectable_accuracy",
        "probe/test_dying.py",
        "report/test_at_risk.py",
    )
)


@pytest.fixture(autouse=True)
def compiler(request):
    name = request.node.nodeid
    quickly = name.startswith(COMPILED_QUICKLY) and not name.startswith(COMPILED_FULLY)
    if jax.config.read("jax_disable_most_optimizations") != quickly:
        # No test runs what was compiled for one of the other kind.
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", quickly)


def pytest_addoption(parser):
    parser.addoption(
        "--compilation-cache",
        action="store_true",
        help="compile equal programs once, and keep them for the next run of pytest, in "
        ".pytest_cache/jax, or in the folder that JAX_COMPILATION_CACHE_DIR names. For trying a "
        "change again and again; CI has a new folder each time, so that it compiles with the "
        "compiler that it has.",
    )
    parser.addoption(
        "--rows",
        metavar="ID,ID",
        help="of the tests that run each row of tests/support/table.py, only those of these rows",
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """What is imported stays: looking for garbage in it is a third of the time of a collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


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


def share_programs(folder: Path) -> None:
    """What each worker compiled in earlier runs, for all of them: before any of them starts."""
    workers = list(folder.glob("gw*"))
    programs = {program.name: program for worker in workers for program in worker.iterdir()}
    for worker in workers:
        for name in programs.keys() - {program.name for program in worker.iterdir()}:
            with contextlib.suppress(OSError):  # Of file systems without links.
                (worker / name).hardlink_to(programs[name])


def pytest_configure(config):
    if config.getoption("compilation_cache"):
        folder = config.rootpath / ".pytest_cache" / "jax"
        # JAX does not write its files at once: another worker could read half a one.
        worker = os.environ.get("PYTEST_XDIST_WORKER", "")
        folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", folder)) / worker
        if not worker:
            share_programs(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # Thousands of small programs: none is too quick to compile, or too short, to be kept.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
