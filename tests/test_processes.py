"""Layers on a mesh of two processes with four devices each, as on two hosts."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import jaxact.nnx
from tests.support.processes import finished, free_address

SHAPE = (16, 32)
SPECS = (P("data", "model"), P("model"), P(None, ("data", "model")))


def draw(x: jax.Array) -> jax.Array:
    return nnx.jit(lambda layer, x: layer(x))(jaxact.nnx.RReLU(rngs=nnx.Rngs(3)), x)


def slope_gradient(x: jax.Array) -> jax.Array:
    layer = jaxact.nnx.PReLU(SHAPE[1])
    return nnx.jit(nnx.grad(lambda layer, x: layer(x).sum()))(layer, x)["alpha"][...]


def whole() -> np.ndarray:
    return -np.arange(1, 1 + np.prod(SHAPE), dtype=np.float32).reshape(SHAPE) / 64


def one_of_the_processes(address: str, index: int, out: str) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, 2, index)
    assert jax.device_count() == 8 and jax.local_device_count() == 4
    x = whole()
    results = {}
    for axis_type in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(axis_type,) * 2)
        for i, spec in enumerate(SPECS):
            sharding = NamedSharding(mesh, spec)
            with jax.set_mesh(mesh):
                array = jax.make_array_from_callback(SHAPE, sharding, lambda index: x[index])
                for f in (draw, slope_gradient):
                    y = multihost_utils.process_allgather(f(array), tiled=True)
                    results[f"{f.__name__} {axis_type.name} {i}"] = y
    np.savez(out, **results)


@pytest.mark.slow
def test_slopes_of_two_processes(tmp_path):
    """Random slopes are bit-equal to those of one device, and learned ones get one gradient."""
    address = free_address()
    commands = [
        [sys.executable, "-m", __name__, address, i, tmp_path / f"{i}.npz"] for i in range(2)
    ]
    for status, _, stderr in finished(*commands, devices=4):
        assert status == 0, stderr
    x = jnp.asarray(whole())
    expected = {"draw": draw(x), "slope_gradient": slope_gradient(x)}
    for i in range(2):
        with np.load(tmp_path / f"{i}.npz") as results:
            assert len(results.files) == 2 * 2 * len(SPECS)
            for name in results.files:
                # The gradient is a sum of multiples of 1/64 below 2^24: no order rounds it.
                np.testing.assert_array_equal(results[name], expected[name.split()[0]])


if __name__ == "__main__":
    one_of_the_processes(sys.argv[1], int(sys.argv[2]), sys.argv[3])
