"""What other libraries' documentation says that their activations compute, in float64.

The defaults are those of each library, written from its documentation and not from jaxact's tables.
What a library takes as an argument, without a default, is one of the three numbers below.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special as sp

import jaxact
from jaxact._names import LIBRARIES

Formula = Callable[..., np.ndarray]

#: For what has no default: a threshold, and the slopes that are another array there.
THRESHOLD, VALUE, SLOPE = 0.5, 0.1, 0.3


def _gelu(x):
    return 0.5 * x * (1 + sp.erf(x / np.sqrt(2)))


def _gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _leaky(slope):
    return lambda x: np.maximum(x, 0) + slope * np.minimum(x, 0)


def _elu(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def _selu(x):
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return scale * (np.maximum(x, 0) + np.minimum(alpha * (np.exp(x) - 1), 0))


def _silu(x):
    return x / (1 + np.exp(-x))


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _softplus(x):
    return np.log(1 + np.exp(x))


def _mish(x):
    return x * np.tanh(_softplus(x))


def _hard_sigmoid(x):
    return np.where(x <= -3, 0, np.where(x >= 3, 1, x / 6 + 0.5))


def _hard_swish(x):
    return np.where(x <= -3, 0, np.where(x >= 3, x, x * (x + 3) / 6))


def _hard_tanh(x):
    return np.where(x > 1, 1, np.where(x < -1, -1, x))


def _hard_shrink(x):
    return np.where((x > 0.5) | (x < -0.5), x, 0)


def _soft_shrink(x):
    return np.where(x > 0.5, x - 0.5, np.where(x < -0.5, x + 0.5, 0))


def _threshold(x):
    return np.where(x > THRESHOLD, x, VALUE)


def _glu(gate, up):
    return up * _sigmoid(gate)


_relu, _relu6 = (lambda x: np.maximum(x, 0)), (lambda x: np.minimum(np.maximum(0, x), 6))
_identity, _tanh = (lambda x: x), np.tanh
_log_sigmoid, _soft_sign = (lambda x: np.log(_sigmoid(x))), (lambda x: x / (1 + np.abs(x)))
_tanh_shrink, _quick_gelu = (lambda x: x - np.tanh(x)), (lambda x: x * _sigmoid(1.702 * x))

_FLAX = {
    "celu": _elu, "elu": _elu, "gelu": _gelu_tanh, "glu": _glu, "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_swish, "hard_swish": _hard_swish, "hard_tanh": _hard_tanh,
    "identity": _identity, "leaky_relu": _leaky(0.01), "log_sigmoid": _log_sigmoid, "relu": _relu,
    "relu6": _relu6, "selu": _selu, "sigmoid": _sigmoid, "silu": _silu, "soft_sign": _soft_sign,
    "softplus": _softplus, "swish": _silu, "tanh": _tanh,
}  # fmt: skip
_SPARSE = {
    "sparse_plus": lambda x: np.where(x < -1, 0, np.where(x > 1, x, (x + 1) ** 2 / 4)),
    "sparse_sigmoid": lambda x: np.where(x < -1, 0, np.where(x > 1, 1, (x + 1) / 2)),
    "squareplus": lambda x: (x + np.sqrt(x**2 + 4)) / 2,
}

#: By library and name, of x; of a gated unit, of the gate and what it multiplies.
FORMULAS: dict[str, dict[str, Formula]] = {
    "jax": {**_FLAX, **_SPARSE, "mish": _mish},
    "flax": {**_FLAX, "PReLU": _leaky(0.01), "prelu": _leaky(0.01)},
    "torch": {
        "celu": _elu, "elu": _elu, "gelu": _gelu, "glu": _glu, "hardshrink": _hard_shrink,
        "hardsigmoid": _hard_sigmoid, "hardswish": _hard_swish, "hardtanh": _hard_tanh,
        "leaky_relu": _leaky(0.01), "logsigmoid": _log_sigmoid, "mish": _mish,
        "prelu": _leaky(SLOPE), "relu": _relu, "relu6": _relu6,
        "rrelu": _leaky((1 / 8 + 1 / 3) / 2), "selu": _selu, "sigmoid": _sigmoid, "silu": _silu,
        "softplus": _softplus, "softshrink": _soft_shrink, "softsign": _soft_sign, "tanh": _tanh,
        "tanhshrink": _tanh_shrink, "threshold": _threshold,
        "CELU": _elu, "ELU": _elu, "GELU": _gelu, "GLU": _glu, "Hardshrink": _hard_shrink,
        "Hardsigmoid": _hard_sigmoid, "Hardswish": _hard_swish, "Hardtanh": _hard_tanh,
        "Identity": _identity, "LeakyReLU": _leaky(0.01), "LogSigmoid": _log_sigmoid,
        "Mish": _mish, "PReLU": _leaky(0.25), "RReLU": _leaky((1 / 8 + 1 / 3) / 2), "ReLU": _relu,
        "ReLU6": _relu6, "SELU": _selu, "SiLU": _silu, "Sigmoid": _sigmoid, "Softplus": _softplus,
        "Softshrink": _soft_shrink, "Softsign": _soft_sign, "Tanh": _tanh,
        "Tanhshrink": _tanh_shrink, "Threshold": _threshold,
    },
    "keras": {
        **_SPARSE,
        "celu": _elu, "elu": _elu, "gelu": _gelu, "glu": _glu, "hard_shrink": _hard_shrink,
        "hard_sigmoid": _hard_sigmoid, "hard_silu": _hard_swish, "hard_swish": _hard_swish,
        "hard_tanh": _hard_tanh, "leaky_relu": _leaky(0.2), "linear": _identity,
        "log_sigmoid": _log_sigmoid, "mish": _mish, "relu": _relu, "relu6": _relu6, "selu": _selu,
        "sigmoid": _sigmoid, "silu": _silu, "soft_shrink": _soft_shrink, "softplus": _softplus,
        "softsign": _soft_sign, "swish": _silu, "tanh": _tanh, "tanh_shrink": _tanh_shrink,
        "threshold": _threshold,
        "ELU": _elu, "LeakyReLU": _leaky(0.3), "PReLU": _leaky(0.0), "ReLU": _relu,
    },
    "hf": {
        "gelu": _gelu, "gelu_accurate": _gelu_tanh, "gelu_fast": _gelu_tanh,
        "gelu_new": _gelu_tanh, "gelu_python": _gelu, "gelu_python_tanh": _gelu_tanh,
        "gelu_pytorch_tanh": _gelu_tanh, "hardswish": _hard_swish, "leaky_relu": _leaky(0.01),
        "linear": _identity, "mish": _mish, "prelu": _leaky(0.25), "quick_gelu": _quick_gelu,
        "relu": _relu, "relu2": lambda x: np.maximum(x, 0) ** 2, "relu6": _relu6,
        "sigmoid": _sigmoid, "silu": _silu, "swish": _silu, "tanh": _tanh,
        "xielu": lambda x: 0.5 * x + 0.8 * np.where(x > 0, x * x, np.expm1(np.minimum(x, 0)) - x),
    },
    "timm": {
        "celu": _elu, "elu": _elu, "gelu": _gelu, "gelu_tanh": _gelu_tanh,
        "hard_sigmoid": _hard_sigmoid, "hard_swish": _hard_swish, "hardsigmoid": _hard_sigmoid,
        "hardswish": _hard_swish, "identity": _identity, "leaky_relu": _leaky(0.01),
        "mish": _mish, "prelu": _leaky(0.25), "quick_gelu": _quick_gelu, "relu": _relu,
        "relu6": _relu6, "selu": _selu, "sigmoid": _sigmoid, "silu": _silu, "swish": _silu,
        "tanh": _tanh,
    },
    "onnx": {
        "Celu": _elu, "Elu": _elu, "Gelu": _gelu,
        "HardSigmoid": lambda x: np.maximum(0, np.minimum(1, 0.2 * x + 0.5)),
        "HardSwish": lambda x: x * np.maximum(0, np.minimum(1, x / 6 + 0.5)),
        "Identity": _identity, "LeakyRelu": _leaky(0.01), "Mish": _mish, "PRelu": _leaky(SLOPE),
        "Relu": _relu,
        # Its constants are float32 numbers.
        "Selu": lambda x: 1.05070102214813232421875 * np.where(
            x > 0, x, 1.67326319217681884765625 * (np.exp(x) - 1)
        ),
        # Its bias is 0: the input beyond ±0.5, and not the input's distance from there.
        "Shrink": _hard_shrink,
        "Sigmoid": _sigmoid, "Softplus": _softplus, "Softsign": _soft_sign,
        "SwiGLU": lambda gate, up: _silu(gate) * up, "Swish": _silu, "Tanh": _tanh,
        "ThresholdedRelu": lambda x: np.where(x > 1, x, 0),
    },
}  # fmt: skip


#: By our functions, what they take that has no default.
REQUIRED = {
    jaxact.threshold: {"threshold": THRESHOLD, "value": VALUE},
    jaxact.prelu: {"alpha": SLOPE},
    jaxact.rrelu: {"deterministic": True},
}
GATED = {jaxact.glu, jaxact.swiglu}
NAMES = [(prefix, name) for prefix, library in LIBRARIES.items() for name in library.names]


def is_gated(prefix: str, name: str) -> bool:
    """Whether it takes a gate and what that multiplies: together, or as two arrays."""
    return jaxact.get(f"{prefix}:{name}") in GATED


def of_arrays(activation: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """An activation as a function of arrays alone, the gate first."""
    function = getattr(activation, "func", activation)
    given = REQUIRED.get(function, {}) | getattr(activation, "keywords", {})
    if function is jaxact.glu:
        return lambda gate, up: function(jnp.concatenate([up, gate]), **given)
    return functools.partial(function, **given)


def computed(x: np.ndarray, up: np.ndarray) -> dict[Callable, tuple[np.ndarray, np.ndarray]]:
    """Value and derivative of each function that a name of a library means, by one program.

    Args:
      x: the points; for gated units, the gates.
      up: what the gates multiply.
    """
    functions = list({jaxact.get(f"{prefix}:{name}") for prefix, name in NAMES})

    @jax.jit
    def all_of_them(x, up):
        found = []
        for activation in functions:
            arrays = (x, up) if activation in GATED else (x,)
            y, pullback = jax.vjp(of_arrays(activation), *arrays)
            found.append((y, pullback(jnp.ones_like(y))[0]))
        return found

    return dict(zip(functions, jax.device_get(all_of_them(x, up)), strict=True))
