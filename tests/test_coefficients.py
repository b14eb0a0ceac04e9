"""The generated table holds what its script computes."""

import mpmath
import numpy as np
import pytest

from jaxact._core import coefficients


@pytest.mark.parametrize(("size", "bits"), [(4, 24), (8, 50)])
def test_polynomials_against_their_functions(size, bits):
    mpmath.mp.prec = 150

    def relative_error(table, x, exact):
        value = mpmath.mpf(0)
        for coefficient in table[size]:
            value = value * mpmath.mpf(float(x)) + mpmath.mpf(coefficient)
        return abs(value / exact - 1)

    for x in np.linspace(-0.7, 0.7, 50):
        m = mpmath.mpf(float(x))
        assert relative_error(coefficients.EXPM1, x, (mpmath.expm1(m) - m) / m**2) < 2.0**-bits
        u = (m + mpmath.mpf(0.7)) * 1.6
        if u > 0:
            root = mpmath.sqrt(u)
            exact = (root - mpmath.tanh(root)) / root**3
            assert relative_error(coefficients.TANH_SHRINK, u, exact) < 2.0**-bits
        zero = mpmath.mpf(coefficients.GELU_ZERO)
        slope = mpmath.ncdf(zero + m) + (zero + m) * mpmath.npdf(zero + m)
        assert relative_error(coefficients.GELU_SLOPE, x, slope / m) < 2.0**-bits
    for s in np.linspace(-1, 0.57, 50):
        m = mpmath.mpf(float(s))
        t = 4 * (1 + m) / (1 - m)
        exact = mpmath.erfc(t / mpmath.sqrt(2)) / 2 * mpmath.exp(t * t / 2) * (t + 4)
        assert relative_error(coefficients.NORMAL_TAIL, s, exact) < 2.0**-bits
