"""The second moment E[f(z)^2] of an activation, z standard normal: the inverse square of its gain.

In closed form where there is one, else by quadrature.
"""

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxact._native import SELU_ALPHA, SELU_SCALE
from jaxact.registry import ACTIVATIONS, Activation, get

# ------------------------------------------------------------------------------------------------
# In closed form

_INF = math.inf


def _below(x: float) -> float:
    """The probability of a standard normal number below x."""
    return math.erfc(-x / math.sqrt(2)) / 2


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _normal_moments(lower: float, upper: float, count: int) -> list[float]:
    """E[z^k; lower < z < upper] for k < count, z standard normal."""
    if lower > 0:  # The tail of small numbers: differences of those near 1 cancel.
        return [(-1) ** k * m for k, m in enumerate(_normal_moments(-upper, -lower, count))]
    ends = [(x, _density(x)) for x in (lower, upper) if math.isfinite(x)]
    signs = [1 if x == lower else -1 for x, _ in ends]
    moments = [_below(upper) - _below(lower)]
    for k in range(1, count):
        boundary = sum(sign * x ** (k - 1) * d for sign, (x, d) in zip(signs, ends, strict=True))
        moments.append(boundary + ((k - 1) * moments[k - 2] if k > 1 else 0))
    return moments


def _of_pieces(*pieces: tuple[float, float, Sequence[float]]) -> float:
    """E[f(z)^2] of polynomials f between two points: their coefficients, the constant first."""
    total = 0.0
    for lower, upper, coefficients in pieces:
        if lower < upper:
            square = np.convolve(coefficients, coefficients)
            total += float(square @ _normal_moments(lower, upper, len(square)))
    return total


def _of_clip(
    lower: float, upper: float, coefficients: Sequence[float], below: float, above: float
) -> float:
    """E[f(z)^2] of a polynomial between two points and a constant on either side."""
    return _of_pieces((-_INF, lower, [below]), (lower, upper, coefficients), (upper, _INF, [above]))


def _of_slope(square: float) -> float:
    """E[f(z)^2] of a leaky ReLU, from the mean square of its slope."""
    return (1 + square) / 2


def _of_rrelu(lower: float, upper: float, deterministic: bool, divisor: bool = False) -> float:
    if deterministic:
        mean = 2 / (1 / lower + 1 / upper) if divisor else (lower + upper) / 2
        return _of_slope(mean * mean)
    if divisor:  # E[1 / a^2], a uniform between 1 / upper and 1 / lower.
        return _of_slope(lower * upper)
    return _of_slope((lower * lower + lower * upper + upper * upper) / 3)


def _of_shrink(lambd: float, tail: Sequence[float]) -> float:
    """E[f(z)^2] of an odd function that is 0 up to λ and the polynomial ``tail`` beyond."""
    return 2 * _of_pieces((lambd, _INF, tail))


def _of_elu(alpha: float) -> float:
    # (exp(z) - 1)^2 over z < 0, where E[exp(k z)] = exp(k^2 / 2) P(z < -k).
    squared, once = math.exp(2) * _below(-2), math.exp(0.5) * _below(-1)
    return 0.5 + alpha * alpha * (squared - 2 * once + 0.5)


def _of_celu(alpha: float) -> float:
    if abs(alpha) > 100:  # The exponentials cancel, and few terms of their series are left.
        series = [0, *(alpha ** (1 - n) / math.factorial(n) for n in range(1, 9))]
        return _of_pieces((-_INF, 0, series), (0, _INF, (0, 1)))
    # exp(k^2 / 2) P(z < -k) without the overflow. SciPy takes long to import.
    from scipy.special import erfcx

    squared, once = (erfcx(n / alpha / math.sqrt(2)) / 2 for n in (2, 1))
    return float(0.5 + alpha * alpha * (squared - 2 * once + 0.5))


#: E[f(z)^2] by the function's name and its parameters.
_CLOSED_FORMS: dict[str, Callable[..., float]] = {
    "identity": lambda: 1.0,
    "relu": lambda: 0.5,
    # The moment of each element of the output.
    "crelu": lambda: 0.5,
    "leaky_relu": lambda negative_slope: _of_slope(negative_slope * negative_slope),
    "prelu": lambda alpha: _of_slope(alpha * alpha),
    "rrelu": _of_rrelu,
    "relu6": lambda: _of_clip(0, 6, (0, 1), 0, 6),
    "threshold": lambda threshold, value: _of_pieces(
        (-_INF, threshold, [value]), (threshold, _INF, (0, 1))
    ),
    "hard_shrink": lambda lambd: _of_shrink(max(lambd, 0), (0, 1)),
    "soft_shrink": lambda lambd: _of_shrink(lambd, (-lambd, 1)),
    "hard_tanh": lambda min_val, max_val: _of_clip(min_val, max_val, (0, 1), min_val, max_val),
    "hard_sigmoid": lambda bound: _of_clip(-bound, bound, (1 / 2, 1 / (2 * bound)), 0, 1),
    "sparse_sigmoid": lambda: _of_clip(-1, 1, (1 / 2, 1 / 2), 0, 1),
    "elu": _of_elu,
    "celu": _of_celu,
    "selu": lambda: SELU_SCALE**2 * _of_elu(SELU_ALPHA),
    "relu_squared": lambda: 1.5,
    "leaky_relu_squared": lambda negative_slope: 1.5 * (1 + negative_slope**4),
    "surrogate_relu": lambda surrogate, alpha: 0.5,
    "hard_silu": lambda: _of_pieces((-3, 3, (0, 1 / 2, 1 / 6)), (3, _INF, (0, 1))),
    "hard_swish": lambda: _of_pieces((-3, 3, (0, 1 / 2, 1 / 6)), (3, _INF, (0, 1))),
    "sparse_plus": lambda: _of_pieces((-1, 1, (1 / 4, 1 / 2, 1 / 4)), (1, _INF, (0, 1))),
}
#: E[(z P(z))^2], P the probability below z.
_OF_EXACT_GELU = 1 / 3 + 1 / (2 * math.pi * math.sqrt(3))

# ------------------------------------------------------------------------------------------------
# By quadrature

#: Where the normal density has underflowed.
_END = 38.0


def _quadrature(name: str, function: Activation, kinks: Sequence[float] = ()) -> float:
    """E[f(z)^2] by SciPy's adaptive quadrature, in float64."""
    # SciPy takes long to import.
    from scipy.integrate import quad

    with contextlib.ExitStack() as stack:
        # A model may be built under a trace, and with rules for dtypes that suit its own.
        stack.enter_context(jax.ensure_compile_time_eval())
        stack.enter_context(jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())))
        stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        with contextlib.suppress(RuntimeError):  # JAX_PLATFORMS may leave the CPU out.
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        _check_elementwise(name, function)

        def integrand(z: float) -> float:
            # The root of the density first, lest the square overflow.
            root = abs(float(function(jnp.asarray(z)))) * math.exp(-z * z / 4)
            return root * root / math.sqrt(2 * math.pi)

        # Where the usual functions have their kinks.
        points = sorted({-3, -1, 0, 1, 3, *(k for k in kinks if abs(k) < _END)})
        moment, error, *_ = quad(
            integrand, -_END, _END, points=points, limit=500, epsabs=0, epsrel=1e-11, full_output=1
        )
        if max(integrand(-_END), integrand(_END)) > 1e-9 * moment:
            return math.inf
    # A function that computes in float32 leaves noise of 1e-8.
    if math.isfinite(moment) and error > 1e-6 * moment:
        raise ValueError(
            f"gain: the integral of {name}(z)^2 does not converge (error {error:.0e} of "
            f"{moment:.6g}). Pass a function that computes in the dtype of its input."
        )
    return float(moment)


def _check_elementwise(name: str, function: Activation) -> None:
    z = np.linspace(-3, 3, 64)
    y, of_others = (function(jnp.asarray(x)) for x in (z, np.where(np.arange(64) % 2, 0, z)))
    if isinstance(y, jax.core.Tracer):
        raise ValueError(
            f"gain: {name} depends on a traced value. Pass its parameters as numbers: the variance "
            "of the weights is fixed when the program is built."
        )
    if np.shape(y) != z.shape:
        raise ValueError(
            f"gain: {name} turns an array of shape {z.shape} into {np.shape(y)}. "
            "Pass a function that acts element by element."
        )
    if not np.isrealobj(y):
        raise ValueError(
            f"gain: {name} returns {y.dtype}. Pass a function of real numbers to real numbers."
        )
    elementwise = np.array_equal(y[::2], of_others[::2], equal_nan=True)
    if elementwise:
        alone = [float(function(jnp.asarray(x))) for x in z[:8:4]]
        elementwise = np.allclose(y[:8:4], alone, rtol=1e-5, equal_nan=True)
    if not elementwise:
        raise ValueError(
            f"gain: an element of {name}(z) depends on other elements of z, or is random. "
            "Pass a function that acts element by element."
        )


# ------------------------------------------------------------------------------------------------
# By name, or of a function

#: The activation in each gated unit f(z1) z2; the second moment of f alone counts.
_GATES = {
    "glu": "sigmoid",
    "swiglu": "silu",
    "geglu": "gelu",
    "reglu": "relu",
    "bilinear_glu": "identity",
}


def _of_clamped_swiglu(limit: float, alpha: float, offset: float, clamp: str) -> float:
    function = functools.partial(
        ACTIVATIONS["clamped_swiglu"], up=0.0, limit=limit, alpha=alpha, offset=1.0, clamp=clamp
    )
    kink = limit
    if clamp == "after" and alpha > 0:  # Where the gate's result is the limit.
        for _ in range(100):
            kink = limit * (1 + math.exp(-alpha * kink))
    gate = _quadrature("clamped_swiglu", function, (kink,))
    return gate * _of_clip(-limit, limit, (offset, 1), offset - limit, offset + limit)


def _of_situ_glu(gate_cap: float, up_cap: float) -> float:
    softcap, sigmoid = ACTIVATIONS["softcap"], ACTIVATIONS["sigmoid"]
    gate = _quadrature("situ_glu", lambda z: softcap(z, gate_cap) * sigmoid(z))
    return gate * _quadrature("situ_glu", lambda z: softcap(z, up_cap))


#: E[f(z1)^2] E[h(z2)^2] of gated units f(z1) h(z2).
_PRODUCTS: dict[str, Callable[..., float]] = {
    "clamped_swiglu": _of_clamped_swiglu,
    "situ_glu": _of_situ_glu,
}
#: What has no influence on the moment.
_IGNORED = ("x", "gate", "up", "key", "axis")
#: What the layers start from, where the function has no default.
_DEFAULTS = {"prelu": {"alpha": 0.25}, "xielu": {"alpha_p": 0.8, "alpha_n": 0.8}}


def second_moment(activation: str | Activation, parameters: dict[str, Any]) -> Callable[[], float]:
    """A function that computes E[f(z)^2]: later, for it may start JAX's backend."""
    function: Any = get(activation, **parameters)
    if isinstance(function, functools.partial) and not function.args:
        function, parameters = function.func, function.keywords
    else:
        parameters = {}
    name = next((name for name, known in ACTIVATIONS.items() if known is function), "")
    if not name:
        return functools.cache(lambda: _of_callable(function, parameters))
    get(name, **parameters)
    items = [(key, _number(name, key, p)) for key, p in parameters.items() if key not in _IGNORED]
    name = _GATES.get(name, name)
    _check(name, dict(items))
    return functools.partial(_of_name, name, tuple(sorted(items)))


def _number(name: str, parameter: str, value: Any) -> float:
    if np.ndim(value) or isinstance(value, jax.core.Tracer):
        raise ValueError(
            f"gain: {parameter} of {name} must be one number, not {value!r}: the variance is the "
            "same for all weights and fixed when the program is built."
        )
    return value if isinstance(value, bool | int | float) else np.asarray(value).item()


def _filled(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a function, with the defaults of all that are not given."""
    defaults = {
        p.name: p.default
        for p in inspect.signature(ACTIVATIONS[name]).parameters.values()
        if p.name not in _IGNORED
    }
    return {**defaults, **_DEFAULTS.get(name, {}), **parameters}


def missing(name: str, parameters: dict[str, Any]) -> list[str]:
    """The parameters of a function that have no default and are not given."""
    filled = _filled(name, parameters)
    return [p for p, value in filled.items() if value is inspect.Parameter.empty]


def _check(name: str, parameters: dict[str, Any]) -> None:
    """Raise ValueError for parameters that are missing, or that the function itself rejects."""
    filled = _filled(name, parameters)
    if absent := missing(name, parameters):
        example = ", ".join(f"{p}=0.1" for p in absent)
        raise ValueError(
            f"gain: {name} has no default for {' and '.join(absent)}. "
            f"Pass numbers: gain({name!r}, {example})."
        )
    if name == "rrelu":  # For want of a key.
        filled["deterministic"] = True
    x = jax.ShapeDtypeStruct((2,), jnp.float32)
    inputs = [x, x] if name in _PRODUCTS else [x]
    jax.eval_shape(functools.partial(ACTIVATIONS[name], **filled), *inputs)


@functools.cache
@np.errstate(over="ignore", invalid="ignore")
def _of_name(name: str, items: tuple[tuple[str, Any], ...]) -> float:
    parameters = _filled(name, dict(items))
    if name == "gelu" and not parameters["approximate"]:
        return _OF_EXACT_GELU
    if name in _PRODUCTS:
        moment = _PRODUCTS[name](**parameters)
    elif name in _CLOSED_FORMS:
        moment = _CLOSED_FORMS[name](**parameters)
    else:
        moment = _quadrature(name, functools.partial(ACTIVATIONS[name], **parameters))
    return _usable(name, dict(items), moment)


@np.errstate(over="ignore", invalid="ignore")
def _of_callable(function: Activation, parameters: dict[str, Any]) -> float:
    name = getattr(function, "__name__", type(function).__name__)
    moment = _quadrature(name, functools.partial(function, **parameters))
    return _usable(name, parameters, moment)


def _usable(name: str, parameters: dict[str, Any], moment: float) -> float:
    if 0 < moment < _INF:
        return moment
    given = "".join(f", {key}={value}" for key, value in parameters.items())
    raise ValueError(
        f"gain: E[f(z)^2] of f = {name}(z{given}) is {moment:g}, and no weights make 1 of that. "
        "Pass parameters for which f is finite, and not 0, for normal z."
    )
