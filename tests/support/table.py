"""The table that drives the tests: each function with its reference in float64.

References are written from the definitions with NumPy and SciPy, independently of jaxact's
formulas, and are right to a few float64 ULP everywhere: a million times finer than what they check.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import numpy as np
import scipy.special as sp
from scipy.optimize import brentq

import jaxact

Reference = Callable[[np.ndarray], np.ndarray]
KEY = jax.random.key(7)


@dataclasses.dataclass(frozen=True)
class Row:
    """One function of one array, and what it must compute."""

    id: str
    name: str
    call: Callable[..., jax.Array]
    value: Reference
    slope: Reference
    #: (value, slope) at -inf and +inf.
    limits: tuple[tuple[float, float], tuple[float, float]]
    #: Points where the slope jumps, or the definition changes.
    kinks: tuple[float, ...] = ()
    #: Zeros of the slope that are not flat: relative accuracy ends there.
    slope_zeros: tuple[float, ...] = ()
    #: Likewise of the value, but for those at 0.
    value_zeros: tuple[float, ...] = ()
    #: Whether the slope is not the derivative of the value.
    surrogate: bool = False
    #: What the backward pass keeps under residual="auto".
    residual: str = "input"
    #: Whether the slope follows the hardware's comparison, which may take a subnormal input for 0.
    compared: bool = False
    #: The worst float32 errors of the value and of the slope.
    float32_value_ulp: float = 4
    float32_ulp: float = 4

    def __repr__(self) -> str:
        return self.id


def sigma(x):
    return sp.expit(x)


def sigma_slope(x):
    return sp.expit(x) * sp.expit(-x)


def phi(x):
    return np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)


def silu(x):
    return x * sigma(x)


def silu_slope(x):
    return sigma(x) * (1 + x * sigma(-x))


def gelu_erf(x):
    return x * sp.ndtr(x)


def gelu_erf_slope(x):
    return sp.ndtr(x) + x * phi(x)


def gelu_argument(x):
    return 2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)


def gelu_tanh(x):
    return x * sigma(gelu_argument(x))


def gelu_tanh_slope(x):
    x = np.clip(x, -1e3, 1e3)
    du = 2 * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
    v = gelu_argument(x)
    return sigma(v) * (1 + x * du * sigma(-v))


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


def mish(x):
    return x * np.tanh(softplus(x))


def mish_slope(x):
    return np.tanh(softplus(x)) + x * sigma(x) / np.cosh(np.minimum(softplus(x), 300)) ** 2


def tanh_shrink(x):
    # (x cosh(x) - sinh(x)) / cosh(x), its numerator as a series where it cancels.
    near = np.clip(x, -1, 1)
    series = sum(2 * k / math.factorial(2 * k + 1) * near ** (2 * k + 1) for k in range(1, 12))
    return np.where(abs(x) < 1, series / np.cosh(near), x - np.tanh(x))


def sech_squared(x):
    # 1 - tanh^2 cancels.
    return 4 * sigma(2 * x) * sigma(-2 * x)


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_slope(x, alpha):
    return np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))


def celu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def celu_slope(x, alpha):
    return np.where(x > 0, 1, np.exp(np.minimum(x, 0) / alpha))


def squareplus(x, b):
    r = np.hypot(x, np.sqrt(b))
    return np.where(x > 0, (x + r) / 2, b / 2 / np.where(x > 0, 1, r - x))


def squareplus_slope(x, b):
    return squareplus(x, b) / np.hypot(x, np.sqrt(b))


def leaky(x, slope):
    return np.where(x < 0, slope * x, x)


def leaky_slope(x, slope):
    return np.where(x < 0, slope, 1.0)


def xielu(x, p, n, b=0.5):
    negative = np.minimum(x, 0)
    return np.where(x > 0, x * (p * x + b), n * (np.expm1(negative) - negative) + b * negative)


def xielu_slope(x, p, n, b=0.5):
    return np.where(x > 0, 2 * p * x + b, n * np.expm1(np.minimum(x, 0)) + b)


def xielu_zeros(n, b=0.5):
    """Those of the value and of the slope, for x < 0: of exp(x) = 1 + c x and exp(x) = c."""
    c = 1 - b / n
    return float(-1 / c - sp.lambertw(-np.exp(-1 / c) / c).real), float(np.log(c))


def snake_slope(z):
    return np.where(abs(z) < 2.0**16, (np.sin(z) + np.cos(z)) ** 2, 1)


def bsilu_slope(x):
    return sigma(x) * (1 + (x + 1.67) * sigma(-x))


def nelu_slope(x, alpha):
    return np.where(x > 0, 1, 2 * alpha * x / (1 + np.square(np.clip(x, -1e150, 0))) ** 2)


LAMBDA, ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
ZERO_ONE = ((0.0, 0.0), (np.inf, 1.0))
INF = np.inf


def _piecewise_rows() -> list[Row]:
    one = np.ones_like
    rows = [
        Row("identity", "identity", jaxact.identity, lambda x: x, one, ((-INF, 1), (INF, 1))),
        Row(
            "relu", "relu", jaxact.relu, lambda x: np.maximum(x, 0), lambda x: x > 0,
            ZERO_ONE, (0.0,), residual="output", compared=True,
        ),
        Row(
            "relu6", "relu6", jaxact.relu6, lambda x: np.clip(x, 0, 6),
            lambda x: (x > 0) & (x < 6), ((0, 0), (6, 0)), (0.0, 6.0),
            residual="output", compared=True,
        ),
        Row(
            "threshold", "threshold", lambda x: jaxact.threshold(x, 0.125, 20.0),
            lambda x: np.where(x > 0.125, x, 20.0), lambda x: x > 0.125,
            ((20, 0), (INF, 1)), (0.125,),
        ),
        Row(
            "threshold:0", "threshold", lambda x: jaxact.threshold(x, 0.0, 20.0),
            lambda x: np.where(x > 0, x, 20.0), lambda x: x > 0, ((20, 0), (INF, 1)), (0.0,),
        ),
        Row(
            "hard_shrink", "hard_shrink", jaxact.hard_shrink,
            lambda x: np.where(abs(x) > 0.5, x, 0), lambda x: abs(x) > 0.5,
            ((-INF, 1), (INF, 1)), (-0.5, 0.5), residual="output",
        ),
        Row(
            "hard_shrink:0", "hard_shrink", lambda x: jaxact.hard_shrink(x, 0.0),
            lambda x: x, lambda x: x != 0, ((-INF, 1), (INF, 1)), (0.0,), residual="output",
        ),
        Row(
            "hard_shrink:-0.5", "hard_shrink", lambda x: jaxact.hard_shrink(x, -0.5),
            lambda x: x, one, ((-INF, 1), (INF, 1)), (-0.5, 0.5),
        ),
        Row(
            "soft_shrink", "soft_shrink", jaxact.soft_shrink,
            lambda x: np.sign(x) * np.maximum(abs(x) - 0.5, 0), lambda x: abs(x) > 0.5,
            ((-INF, 1), (INF, 1)), (-0.5, 0.5),
        ),
        Row(
            "hard_tanh", "hard_tanh", jaxact.hard_tanh, lambda x: np.clip(x, -1, 1),
            lambda x: abs(x) <= 1, ((-1, 0), (1, 0)), (-1.0, 1.0),
        ),
        Row(
            "hard_tanh:0,2", "hard_tanh", lambda x: jaxact.hard_tanh(x, min_val=0, max_val=2),
            lambda x: np.clip(x, 0, 2), lambda x: (x >= 0) & (x <= 2), ((0, 0), (2, 0)),
            (0.0, 2.0),
        ),
        Row(
            "hard_sigmoid", "hard_sigmoid", jaxact.hard_sigmoid,
            lambda x: np.clip(x + 3, 0, 6) / 6, lambda x: np.where(abs(x) < 3, 1 / 6, 0),
            ((0, 0), (1, 0)), (-3.0, 3.0),
        ),
        Row(
            "hard_sigmoid:bound=2.5", "hard_sigmoid",
            functools.partial(jaxact.hard_sigmoid, bound=2.5),
            lambda x: (np.clip(x, -2.5, 2.5) + 2.5) / 5, lambda x: np.where(abs(x) < 2.5, 0.2, 0),
            ((0, 0), (1, 0)), (-2.5, 2.5),
        ),
        Row(
            "sparse_sigmoid", "sparse_sigmoid", jaxact.sparse_sigmoid,
            lambda x: np.clip((x + 1) / 2, 0, 1),
            lambda x: np.where(abs(x) < 1, 0.5, np.where(abs(x) == 1, 0.25, 0)),
            ((0, 0), (1, 0)), (-1.0, 1.0),
        ),
        Row(
            "crelu", "crelu", lambda x: jaxact.crelu(x[..., None]).sum(-1),
            abs, np.sign, ((INF, -1), (INF, 1)), (0.0,), compared=True,
        ),
        Row(
            "rrelu", "rrelu", functools.partial(jaxact.rrelu, deterministic=True),
            lambda x: leaky(x, 11 / 48), lambda x: leaky_slope(x, 11 / 48),
            ((-INF, 11 / 48), (INF, 1)), (0.0,), residual="output",
        ),
        Row(
            "rrelu:divisor", "rrelu",
            functools.partial(jaxact.rrelu, deterministic=True, divisor=True),
            lambda x: leaky(x, 2 / 11), lambda x: leaky_slope(x, 2 / 11),
            ((-INF, 2 / 11), (INF, 1)), (0.0,), residual="output",
        ),
        Row(
            "rrelu:key", "rrelu",
            lambda x: jaxact.rrelu(x, KEY, 0.25, 0.25),
            lambda x: leaky(x, 0.25), lambda x: leaky_slope(x, 0.25),
            ((-INF, 0.25), (INF, 1)), (0.0,), residual="output",
        ),
    ]  # fmt: skip
    for slope in (0.01, 0.2, 0.0, -0.5):
        value, derivative = (
            functools.partial(leaky, slope=slope),
            functools.partial(leaky_slope, slope=slope),
        )
        limits = ((-INF * slope if slope else 0.0, slope), (INF, 1.0))
        residual = "output" if slope >= 0 else "input"
        rows += [
            Row(
                f"{name}:{slope}", name,
                functools.partial(getattr(jaxact, name), **{parameter: slope}),
                value, derivative, limits, (0.0,), residual=residual,
            )
            for name, parameter in (("leaky_relu", "negative_slope"), ("prelu", "alpha"))
        ]  # fmt: skip
    rows += [
        Row(
            "prelu:array", "prelu", lambda x: jaxact.prelu(x, jax.numpy.float32(0.25)),
            functools.partial(leaky, slope=0.25), functools.partial(leaky_slope, slope=0.25),
            ((-INF, 0.25), (INF, 1.0)), (0.0,),
        )
    ]  # fmt: skip
    return rows


def _smooth_rows() -> list[Row]:
    f = functools.partial
    return [
        Row("elu", "elu", jaxact.elu, f(elu, alpha=1.0), f(elu_slope, alpha=1.0),
            ((-1, 0), (INF, 1)), (0.0,)),
        Row("elu:1.7", "elu", f(jaxact.elu, alpha=1.7), f(elu, alpha=1.7),
            f(elu_slope, alpha=1.7), ((-1.7, 0), (INF, 1)), (0.0,)),
        Row("celu", "celu", jaxact.celu, f(celu, alpha=1.0), f(celu_slope, alpha=1.0),
            ((-1, 0), (INF, 1)), (0.0,)),
        Row("celu:0.375", "celu", f(jaxact.celu, alpha=0.375), f(celu, alpha=0.375),
            f(celu_slope, alpha=0.375), ((-0.375, 0), (INF, 1)), (0.0,)),
        Row("selu", "selu", jaxact.selu, lambda x: LAMBDA * elu(x, ALPHA),
            lambda x: LAMBDA * elu_slope(x, ALPHA), ((-LAMBDA * ALPHA, 0), (INF, LAMBDA)), (0.0,)),
        Row("silu", "silu", jaxact.silu, silu, silu_slope, ZERO_ONE,
            slope_zeros=(-1.278464542761074,)),
        Row("silu:beta=2.5", "silu", f(jaxact.silu, beta=2.5), lambda x: silu(2.5 * x) / 2.5,
            lambda x: silu_slope(2.5 * x), ZERO_ONE, slope_zeros=(-1.278464542761074 / 2.5,)),
        Row("quick_gelu", "quick_gelu", jaxact.quick_gelu, lambda x: silu(1.702 * x) / 1.702,
            lambda x: silu_slope(1.702 * x), ZERO_ONE,
            slope_zeros=(-1.278464542761074 / 1.702,)),
        Row("gelu", "gelu", jaxact.gelu, gelu_tanh, gelu_tanh_slope, ZERO_ONE,
            slope_zeros=(-0.752461422071016,), float32_ulp=4.5),
        Row("gelu:approximate=False", "gelu", f(jaxact.gelu, approximate=False), gelu_erf,
            gelu_erf_slope, ZERO_ONE, slope_zeros=(-0.751791524693564,),
            float32_value_ulp=4.5),
        Row("mish", "mish", jaxact.mish, mish, mish_slope, ZERO_ONE,
            slope_zeros=(-1.192431214515496,)),
        Row("sigmoid", "sigmoid", jaxact.sigmoid, sigma, sigma_slope, ((0, 0), (1, 0))),
        Row("softplus", "softplus", jaxact.softplus, softplus, sigma, ZERO_ONE),
        Row("log_sigmoid", "log_sigmoid", jaxact.log_sigmoid, lambda x: -softplus(-x),
            lambda x: sigma(-x), ((-INF, 1), (0, 0))),
        Row("tanh", "tanh", jaxact.tanh, np.tanh, sech_squared, ((-1, 0), (1, 0))),
        Row("tanh_shrink", "tanh_shrink", jaxact.tanh_shrink, tanh_shrink,
            lambda x: np.tanh(x) ** 2, ((-INF, 1), (INF, 1))),
        Row("soft_sign", "soft_sign", jaxact.soft_sign, lambda x: x / (1 + abs(x)),
            lambda x: 1 / (1 + abs(x)) ** 2, ((-1, 0), (1, 0))),
        Row("squareplus", "squareplus", jaxact.squareplus, f(squareplus, b=4.0),
            f(squareplus_slope, b=4.0), ZERO_ONE),
        Row("squareplus:0.5", "squareplus", f(jaxact.squareplus, b=0.5), f(squareplus, b=0.5),
            f(squareplus_slope, b=0.5), ZERO_ONE),
        Row("relu_squared", "relu_squared", jaxact.relu_squared, lambda x: np.maximum(x, 0) ** 2,
            lambda x: 2 * np.maximum(x, 0), ((0, 0), (INF, INF)), (0.0,)),
        Row("hard_silu", "hard_silu", jaxact.hard_silu, lambda x: x * np.clip(x + 3, 0, 6) / 6,
            lambda x: np.where(x <= -3, 0, np.where(x >= 3, 1, (2 * x + 3) / 6)), ZERO_ONE,
            (-3.0, 3.0), slope_zeros=(-1.5,)),
        Row("sparse_plus", "sparse_plus", jaxact.sparse_plus,
            lambda x: np.where(x <= -1, 0, np.where(x >= 1, x, (x + 1) ** 2 / 4)),
            lambda x: np.clip((x + 1) / 2, 0, 1), ZERO_ONE, (-1.0, 1.0)),
    ]  # fmt: skip


def _recent_rows() -> list[Row]:
    f = functools.partial
    #: Numbers of float32, as in float64: where terms cancel, the last bit of 0.8 counts.
    tenths, alpha = float(np.float32(0.8)), float(np.float32(0.05))
    rows = [
        Row("leaky_relu_squared", "leaky_relu_squared", jaxact.leaky_relu_squared,
            lambda x: leaky(x, 0.5) ** 2, lambda x: 2 * leaky(x, 0.25),
            ((INF, -INF), (INF, INF)), (0.0,)),
        Row("leaky_relu_squared:0.3", "leaky_relu_squared", f(jaxact.leaky_relu_squared,
            negative_slope=0.3), lambda x: leaky(x, 0.3) ** 2, lambda x: 2 * leaky(x, 0.09),
            ((INF, -INF), (INF, INF)), (0.0,)),
        Row("softcap", "softcap", f(jaxact.softcap, cap=30.0), lambda x: 30 * np.tanh(x / 30),
            lambda x: sech_squared(x / 30), ((-30, 0), (30, 0))),
        Row("softcap:0.375", "softcap", f(jaxact.softcap, cap=0.375),
            lambda x: 0.375 * np.tanh(x / 0.375),
            lambda x: sech_squared(x / 0.375), ((-0.375, 0), (0.375, 0))),
        Row("snake", "snake", jaxact.snake, lambda x: x + np.sin(x) ** 2,
            snake_slope, ((-INF, 1), (INF, 1))),
        Row("snake:0.25", "snake", f(jaxact.snake, alpha=0.25),
            lambda x: x + 4 * np.sin(x / 4) ** 2,
            lambda x: snake_slope(x / 4), ((-INF, 1), (INF, 1))),
        Row("surrogate_relu", "surrogate_relu", jaxact.surrogate_relu, lambda x: np.maximum(x, 0),
            bsilu_slope, ZERO_ONE, (0.0,), slope_zeros=(-2.734900466549757,), surrogate=True),
        Row("surrogate_relu:nelu", "surrogate_relu",
            f(jaxact.surrogate_relu, surrogate="nelu", alpha=alpha), lambda x: np.maximum(x, 0),
            f(nelu_slope, alpha=alpha), ZERO_ONE, (0.0,), surrogate=True),
    ]  # fmt: skip
    for id, p, n, b in (("xielu", tenths, tenths, 0.5), ("xielu:1.5,2,0.25", 1.5, 2.0, 0.25)):
        value, slope = xielu_zeros(n, b)
        rows.append(
            Row(id, "xielu", f(jaxact.xielu, alpha_p=p, alpha_n=n, beta=b),
                f(xielu, p=p, n=n, b=b), f(xielu_slope, p=p, n=n, b=b),
                ((INF if n > b else -INF, b - n), (INF, INF)), (0.0,), (slope,), (value,))
        )  # fmt: skip
    return rows


#: Functions of one array.
TABLE: tuple[Row, ...] = (*_piecewise_rows(), *_smooth_rows(), *_recent_rows())


@dataclasses.dataclass(frozen=True)
class GatedRow:
    """A function of a gate and a value: act(gate) * other(up)."""

    id: str
    name: str
    call: Callable[..., jax.Array]
    activation: Reference
    slope: Reference
    slope_zeros: tuple[float, ...] = ()
    other: Reference = lambda up: up
    other_slope: Reference = np.ones_like
    #: How far from a zero of the slope relative accuracy begins.
    near: float = 1e-3
    kinks: tuple[float, ...] = ()
    other_kinks: tuple[float, ...] = ()

    def far_from_zeros(self, gate: np.ndarray) -> np.ndarray:
        """Where the slope's relative accuracy is asserted."""
        far = np.ones(gate.shape, bool)
        for zero in self.slope_zeros:
            far &= abs(gate - zero) >= self.near
        return far

    def is_normal(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Where no factor flushes to 0 before another makes the product normal."""
        gate, up = gate.astype(np.float64), up.astype(np.float64)
        with np.errstate(all="ignore"):
            factors = self.activation(gate), self.slope(gate), self.other(up), self.other_slope(up)
        normal = np.ones(gate.shape, bool)
        for factor in map(np.abs, factors):
            # A factor may itself be 4 times what has flushed.
            normal &= (factor == 0) | (factor >= 8 * 2.0**-126)
        return normal

    def references(self, gate: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, ...]:
        """The value and the derivatives by gate and up, in float64."""
        gate, up = gate.astype(np.float64), up.astype(np.float64)
        with np.errstate(all="ignore"):
            a, slope = np.asarray(self.activation(gate), np.float64), self.slope(gate)
            other = self.other(up)
            return a * other, np.asarray(slope * other, np.float64), a * self.other_slope(up)

    def __repr__(self) -> str:
        return self.id


def _glu(gate: jax.Array, up: jax.Array) -> jax.Array:
    return jaxact.glu(jax.numpy.concatenate([up, gate], -1))


_ROWS = {row.id: row for row in TABLE}


def _gated(id: str, name: str, call: Callable[..., jax.Array], row: str) -> GatedRow:
    one = _ROWS[row]
    return GatedRow(id, name, call, one.value, one.slope, one.slope_zeros, kinks=one.kinks)


def _clamped(id: str, limit: float, alpha: float, offset: float, after: bool = False) -> GatedRow:
    keywords = {"limit": limit, "alpha": alpha, "offset": offset}
    if after:
        keywords["clamp"] = "after"
    alpha = float(np.float32(alpha))  # As formulas see it.

    def act(g):
        return silu(alpha * g) / alpha

    def slope(g):
        above = act(g) > limit if after else g > limit
        return np.where(above, 0, silu_slope(alpha * np.minimum(g, 1e6)))

    return GatedRow(
        id, "clamped_swiglu", functools.partial(jaxact.clamped_swiglu, **keywords),
        (lambda g: np.minimum(act(g), limit)) if after else (lambda g: act(np.minimum(g, limit))),
        slope,
        slope_zeros=(-1.278464542761074 / alpha,),
        other=lambda u: np.clip(u, -limit, limit) + offset,
        other_slope=lambda u: np.where(abs(u) > limit, 0.0, 1.0),
        kinks=(brentq(lambda g: act(g) - limit, limit, 2 * limit) if after else limit,),
        other_kinks=(-limit, limit),
    )  # fmt: skip


#: Where the slope of 4 tanh(x / 4) sigmoid(x) is 0.
SITU_ZERO = -1.2187557268720126

GATED: tuple[GatedRow, ...] = (
    _gated("glu", "glu", _glu, "sigmoid"),
    _gated("swiglu", "swiglu", jaxact.swiglu, "silu"),
    _gated("geglu", "geglu", jaxact.geglu, "gelu"),
    _gated(
        "geglu:approximate=False",
        "geglu",
        functools.partial(jaxact.geglu, approximate=False),
        "gelu:approximate=False",
    ),
    _gated("reglu", "reglu", jaxact.reglu, "relu"),
    _gated("bilinear_glu", "bilinear_glu", jaxact.bilinear_glu, "identity"),
    _clamped("clamped_swiglu:limit=7,alpha=1.702,offset=1", 7.0, 1.702, 1.0),
    _clamped("clamped_swiglu:limit=10", 10.0, 1.0, 0.0),
    _clamped("clamped_swiglu:limit=3,clamp=after", 3.0, 1.0, 0.0, after=True),
    _clamped("clamped_swiglu:limit=3,alpha=2,clamp=after", 3.0, 2.0, 0.0, after=True),
    GatedRow(
        "situ_glu", "situ_glu", jaxact.situ_glu,
        lambda g: 4 * np.tanh(g / 4) * sigma(g),
        lambda g: sigma(g) * (sech_squared(g / 4) + 4 * np.tanh(g / 4) * sigma(-g)),
        slope_zeros=(SITU_ZERO,),
        other=lambda u: 25 * np.tanh(u / 25),
        other_slope=lambda u: sech_squared(u / 25),
        # Terms of opposite sign cancel at a point that depends on the cap.
        near=0.7,
    ),
)  # fmt: skip
