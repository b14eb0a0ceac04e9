"""Mode "plain" in the kernel languages: Triton and Mosaic on GPUs, Mosaic on TPUs."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu, triton
from jax.sharding import SingleDeviceSharding

import jaxact
from jaxact._memory import targets
from tests.support.kernels import ROWS, elementwise_kernel
from tests.support.table import Row

#: The device and the options of each language.
LANGUAGES = {
    "triton": ("h200", {"compiler_params": triton.CompilerParams()}),
    "mosaic_gpu": ("h200", {"compiler_params": mosaic_gpu.CompilerParams()}),
    "mosaic_tpu": ("v5e", {}),
}
#: One of each operation that the formulas are made of.
COMPILED = ("relu", "elu", "gelu", "gelu:approximate=False", "mish", "softplus", "squareplus")


def lowered(language, call, dtype=jnp.float32):
    """The lowered kernel of a function, and the device that it is for."""
    target, options = LANGUAGES[language]
    device = targets.devices(target)[0]
    sharding = SingleDeviceSharding(device)
    x = jax.ShapeDtypeStruct((128, 128), dtype, sharding=sharding)
    with jaxact.autodiff(mode="plain"):
        kernel = elementwise_kernel(call, x, **options)
        return jax.jit(kernel, in_shardings=sharding, out_shardings=sharding).lower(x), device


def lowered_kernel(language, kernel, x, *others):
    """The lowered kernel of arrays, whose result is as the first."""
    target, options = LANGUAGES[language]
    platform = "tpu" if target == "v5e" else "cuda"
    with jaxact.autodiff(mode="plain"):
        call = jax.jit(pl.pallas_call(kernel, out_shape=x, **options))
        return call.trace(x, *others).lower(lowering_platforms=(platform,))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("row", ROWS, ids=repr)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_function_lowers(language, row: Row, dtype):
    kernel = "tpu_custom_call" if language == "mosaic_tpu" else language
    if row.surrogate and language == "mosaic_gpu":
        with pytest.raises(NotImplementedError, match="stop_gradient"):
            lowered(language, row.call, dtype)
        return
    assert kernel in lowered(language, row.call, dtype)[0].as_text()


@pytest.mark.parametrize("row", [row for row in ROWS if row.id in COMPILED], ids=repr)
@pytest.mark.parametrize("language", LANGUAGES)
def test_kernels_compile(language, row: Row):
    kernel, device = lowered(language, row.call)
    assert kernel.compile(targets.compiler_options(device)).as_text()


def test_crelu_lowers_where_arrays_can_be_joined():
    lowered("mosaic_tpu", jaxact.crelu)
    with pytest.raises(NotImplementedError, match=r"Only arguments with shape \[..., 1\]"):
        lowered("triton", jaxact.crelu)
    with pytest.raises(NotImplementedError, match="concatenate"):
        lowered("mosaic_gpu", jaxact.crelu)


@pytest.mark.parametrize("language", LANGUAGES)
def test_slopes_that_are_drawn_outside(language):
    def kernel(x, slopes, y):
        y[...] = jaxact.prelu(x[...], slopes[...])

    assert lowered_kernel(language, kernel, jnp.ones((128, 128)), jnp.ones((128, 128)))


@pytest.mark.parametrize(
    ("language", "message"),
    [("triton", "Pallas Triton lowering: slice"), ("mosaic_gpu", "Got bytes=8")],
)
def test_rrelu_with_a_key_does_not_lower(language, message):
    """The languages of GPUs do not take an array of two words apart."""

    def kernel(x, key, y):
        y[...] = jaxact.rrelu(x[...], key[...])

    with pytest.raises(NotImplementedError, match=message):
        lowered_kernel(
            language, kernel, jnp.ones((128, 128)), jax.random.key_data(jax.random.key(0))
        )
