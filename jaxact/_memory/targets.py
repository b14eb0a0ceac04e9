"""Devices that need not exist: TPU topologies and GPUs to compile for on any machine.

libtpu compiles for a topology that it is given by name, the CUDA plugin for a GPU that it is given
a description of. The results are those of the real compilers.
"""

import functools
import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import jax

#: The smallest topology of each kind of TPU, a host, by the names that libtpu has for them.
TPUS = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2", "tpu7x": "tpu7x:2x2x1"}

_SM = """
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
"""
#: The descriptions of GPUs that XLA's CUDA compiler takes.
GPUS = {
    "h100": f"""gpu_device_info {{ {_SM} core_count: 132 clock_rate_ghz: 1.98
      memory_bandwidth: 3350000000000 l2_cache_size: 52428800 device_memory_size: 80000000000
      cuda_compute_capability {{ major: 9 minor: 0 }} }}
      platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }}
      device_description_str: "NVIDIA H100 80GB HBM3" """,
    "h200": f"""gpu_device_info {{ {_SM} core_count: 132 clock_rate_ghz: 1.98
      memory_bandwidth: 4800000000000 l2_cache_size: 62914560 device_memory_size: 150000000000
      cuda_compute_capability {{ major: 9 minor: 0 }} }}
      platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }}
      device_description_str: "NVIDIA H200" """,
}

_INSTALL = 'pip install -e ".[targets]" in a clone of jaxact'

# Without these libtpu looks for a TPU's metadata server, and for other processes that use the TPU.
_TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def devices(target: str) -> list[jax.Device]:
    """The devices of a target, for meshes and shardings to compile with; they cannot run anything.

    Args:
      target: ``"cpu"``; one chip of a TPU, ``"v5e"``, ``"v5p"``, ``"v6e"``, ``"tpu7x"``; a TPU
        topology as libtpu names it, ``"v5e:16x16"`` (256 chips), ``"v5p:8x8x16"`` (1,024); a GPU,
        ``"h100"``, ``"h200"``, or so many of them, ``"h200:8"``.

    Raises:
      ImportError: the target's compiler is not installed.
      ValueError: no such target.

    Examples:
      >>> devices("cpu")[0].platform
      'cpu'
    """
    if target == "cpu":
        return jax.devices("cpu")[:1]
    kind, _, shape = target.partition(":")
    if kind in GPUS:
        if not (shape or "1").isdigit() or shape == "0":
            raise ValueError(f"target {target!r}: write a number of GPUs, such as '{kind}:8'.")
        return list(_gpus(kind, int(shape or 1)))
    if kind in TPUS:
        return list(_tpus(target) if shape else _tpus(TPUS[kind])[:1])
    names = ", ".join(["cpu", *TPUS, *GPUS])
    raise ValueError(
        f"unknown target {target!r}: choose one of {names}, or a TPU topology such as 'v5e:16x16'."
    )


def compiler_options(device: jax.Device) -> dict[str, Any]:
    """The options that a target's compiler needs on a machine without the target."""
    if device.platform not in ("gpu", "cuda") or _present(device):
        return {}
    # Autotuning would run the kernels.
    return {"xla_gpu_cuda_data_dir": _cuda_folder(), "xla_gpu_autotune_level": 0}


def _present(device: jax.Device) -> bool:
    return device in jax.local_devices()


def _describe(target: str, **description: Any) -> Sequence[jax.Device]:
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(**description).devices
    except Exception as error:  # Each compiler raises what it likes for a name it does not know.
        raise ValueError(f"target {target!r}: the compiler refuses it: {error}") from error


@functools.cache
def _tpus(topology: str) -> Sequence[jax.Device]:
    _require("libtpu", topology)
    if jax.default_backend() != "tpu":
        for name, value in _TPU_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    return _describe(topology, topology_name=topology, platform="tpu")


@functools.cache
def _gpus(kind: str, count: int) -> Sequence[jax.Device]:
    _require("jax_plugins.xla_cuda13", kind)
    _cuda_folder()
    return _describe(
        kind,
        topology_name=kind,
        platform="cuda",
        topology=f"1x1x{count}",
        target_config=GPUS[kind],
    )


def _cuda_folder() -> str:
    """The folder that has ptxas and libdevice."""
    _require("nvidia.cu13", "cuda")
    spec = importlib.util.find_spec("nvidia.cu13")
    assert spec is not None and spec.submodule_search_locations is not None
    return next(iter(spec.submodule_search_locations))


def _require(module: str, target: str) -> None:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ImportError(
            f"target {target!r}: its compiler is not installed ({module} is missing). "
            f"Install it with: {_INSTALL}"
        )
