"""The generated table holds what its script computes."""

import functools

import mpmath as mp
import numpy as np
import pytest

from jaxact._core import coefficients

#: By bytes of the result: the error that a table may add to it.
BITS = {2: 17.5, 4: 25.5, 8: 50}


def polynomial(table, x):
    return functools.reduce(lambda value, c: value * x + mp.mpf(c), table, mp.mpf(0))


@pytest.fixture(autouse=True)
def precision():
    with mp.workprec(150):
        yield


@pytest.mark.parametrize("size", BITS)
def test_the_tables_against_their_functions(size):
    """What the formulas make of a table, against the function that they compute with it."""
    zero = mp.mpf(coefficients.GELU_ZERO)

    def exp(r):
        return 1 + r + r * r * polynomial(coefficients.EXP[size], r), mp.exp(r)

    def log1p(e):
        s = e / (1 + e / 2)
        value = s * (1 + s * s * polynomial(coefficients.ARTANH[size], s * s))
        return value, mp.log1p(e)

    def normal(x):
        value = 0.5 + x * polynomial(coefficients.NORMAL_CENTER[size], x * x)
        return value, mp.ncdf(x)

    def normal_tail(t):
        numerator, denominator = coefficients.NORMAL_TAIL[size]
        exact = mp.erfc(t / mp.sqrt(2)) / 2 * mp.exp(t * t / 2)
        return polynomial(numerator, t) / polynomial(denominator, t), exact

    def gelu_slope(d):
        x = zero + d
        return d * polynomial(coefficients.GELU_SLOPE[size], d), mp.ncdf(x) + x * mp.npdf(x)

    def mish_slope(x):
        softplus = mp.log1p(mp.exp(x))
        exact = mp.tanh(softplus) + x / (1 + mp.exp(-x)) / mp.cosh(softplus) ** 2
        return mp.mpf(3) / 5 + x * polynomial(coefficients.MISH_SLOPE[size], x), exact

    def tanh_shrink(x):
        return x**3 * polynomial(coefficients.TANH_SHRINK[size], x * x), x - mp.tanh(x)

    for function, low, high in (
        (exp, -0.347, 0.347),
        (log1p, 0, 1),
        (normal, -0.5, 1),
        (normal_tail, 0, 39 if size == 8 else 13.7),
        (gelu_slope, -0.76, 0.76),
        (mish_slope, -0.5, 0),
        (tanh_shrink, -1.5, 1.5),
    ):
        for x in np.linspace(low, high, 40):
            if x != 0:
                value, exact = function(mp.mpf(float(x)))
                assert abs(value / exact - 1) < 2.0 ** -BITS[size], (function.__name__, x)


def test_anchors_are_next_to_the_zeros_and_short():
    linear, _, cubic = map(mp.mpf, coefficients.GELU_TANH_ARGUMENT)
    for anchor, e, bracket, bits, argument in (
        (coefficients.SILU_ANCHOR, coefficients.SILU_EXP, coefficients.SILU_BRACKET, 17, mp.mpf),
        (coefficients.MISH_ANCHOR, coefficients.MISH_EXP, coefficients.MISH_BRACKET, 17, mp.mpf),
        (coefficients.BSILU_ANCHOR, coefficients.BSILU_EXP, coefficients.BSILU_BRACKET, 17, mp.mpf),
        (
            coefficients.GELU_TANH_ANCHOR,
            coefficients.GELU_TANH_EXP,
            coefficients.GELU_TANH_BRACKET[0],
            20,
            lambda x: (linear * x + cubic * x**3) * mp.log(2),
        ),
    ):
        assert float(anchor) * 2**bits == int(float(anchor) * 2**bits)
        # The text has all digits of the number.
        assert mp.mpf(anchor) == mp.mpf(float(anchor))
        assert abs(mp.mpf(e) / mp.exp(argument(mp.mpf(anchor))) - 1) < 1e-33
        assert 0 < abs(float(bracket)) < 1e-3
