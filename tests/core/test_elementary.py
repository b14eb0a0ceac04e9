"""The exponential in two words."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from jaxact._core.arithmetic import Real
from jaxact._core.elementary import Elementary


@pytest.mark.parametrize(("size", "bits"), [(4, 36), (8, 56)])
def test_expm1_in_two_words(size, bits):
    """Compiled, where a product that is contracted into a sum would take the second word away."""
    with jax.enable_x64(True):
        x = np.linspace(-12, 0, 2001).astype(np.float32 if size == 4 else np.float64)
        words = jax.jit(lambda x: [w.array for w in Elementary(size).expm1_sum(Real(x))])
        hi, lower = words(jnp.asarray(x))
    with mp.workdps(40):
        errors = [
            abs(mp.mpf(float(a)) + mp.mpf(float(b)) - mp.expm1(mp.mpf(float(v))))
            for v, a, b in zip(x, hi, lower, strict=True)
        ]
    assert max(errors) < 2.0**-bits
