"""What the names of other libraries' activations mean, in names of this package. Data only.

A text such as ``"gelu:approximate=False"`` is what `jaxact.get` takes. It has the parameters in
which the library's default differs from that of this package, and no others. tests/compat compares
each with the library itself, and fails for a name of the library that is missing here.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

_ALONG_AN_AXIS = "it works along an axis, not element by element; use jax.nn.{}"
_IN_PLACE = "it writes into its input; take the name without the underscore"
_SPARSEMAX = "it works along an axis, not element by element"
_HARD_MISH = (
    "no function here has its kinks, at -2 and 0; write "
    "lambda x: x * jaxact.hard_tanh(x / 2 + 1, min_val=0, max_val=1)"
)


class Library(NamedTuple):
    """The activations of a library.

    Attributes:
      title: its name in sentences.
      source: where it has these names, and in which version they were compared.
      names: what each of them means.
      left_out: those that have no counterpart here, each with the reason.
      parameters: of a name, the parameters that are called otherwise here.
      values: words that stand for a parameter's value.
    """

    title: str
    source: str
    names: Mapping[str, str]
    left_out: Mapping[str, str]
    parameters: Mapping[str, Mapping[str, str]] = {}
    values: Mapping[str, Any] = {}


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_JAX = Library(
    "JAX",
    "`jax.nn`, 0.10",
    _same(
        "celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
        "identity", "leaky_relu", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
        "soft_sign", "softplus", "sparse_plus", "sparse_sigmoid", "squareplus", "swish", "tanh",
    ),
    {
        "softmax": _ALONG_AN_AXIS.format("softmax"),
        "log_softmax": _ALONG_AN_AXIS.format("log_softmax"),
        "standardize": _ALONG_AN_AXIS.format("standardize"),
    },
)  # fmt: skip

_FLAX = Library(
    "Flax",
    "`flax.linen` and `flax.nnx`, 0.12",
    _same(
        "celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
        "identity", "leaky_relu", "log_sigmoid", "relu", "relu6", "selu", "sigmoid", "silu",
        "soft_sign", "softplus", "swish", "tanh",
    )
    # The layer has no function beside it, and goes by both.
    | {"PReLU": "prelu:alpha=0.01", "prelu": "prelu:alpha=0.01"},
    {
        **_JAX.left_out,
        "normalize": _ALONG_AN_AXIS.format("standardize"),
    },
    {name: {"negative_slope_init": "alpha"} for name in ("PReLU", "prelu")},
)  # fmt: skip

_TORCH = Library(
    "PyTorch",
    "`torch.nn` and `torch.nn.functional`, 2.13",
    {
        # Functions, which keep nothing.
        **_same("celu", "elu", "glu", "leaky_relu", "mish", "prelu", "relu", "relu6", "selu"),
        **_same("sigmoid", "silu", "softplus", "tanh", "threshold"),
        "gelu": "gelu:approximate=False",
        "hardshrink": "hard_shrink",
        "hardsigmoid": "hard_sigmoid",
        "hardswish": "hard_swish",
        "hardtanh": "hard_tanh",
        "logsigmoid": "log_sigmoid",
        "rrelu": "rrelu:deterministic=True",  # Its argument `training` is False.
        "softshrink": "soft_shrink",
        "softsign": "soft_sign",
        "tanhshrink": "tanh_shrink",
        # Layers.
        "CELU": "celu",
        "ELU": "elu",
        "GELU": "gelu:approximate=False",
        "GLU": "glu",
        "Hardshrink": "hard_shrink",
        "Hardsigmoid": "hard_sigmoid",
        "Hardswish": "hard_swish",
        "Hardtanh": "hard_tanh",
        "Identity": "identity",
        "LeakyReLU": "leaky_relu",
        "LogSigmoid": "log_sigmoid",
        "Mish": "mish",
        "PReLU": "prelu:alpha=0.25",
        "RReLU": "rrelu",
        "ReLU": "relu",
        "ReLU6": "relu6",
        "SELU": "selu",
        "SiLU": "silu",
        "Sigmoid": "sigmoid",
        "Softplus": "softplus",
        "Softshrink": "soft_shrink",
        "Softsign": "soft_sign",
        "Tanh": "tanh",
        "Tanhshrink": "tanh_shrink",
        "Threshold": "threshold",
    },
    {
        **{name: _ALONG_AN_AXIS.format("softmax") for name in ("softmax", "Softmax", "Softmax2d")},
        "softmin": _ALONG_AN_AXIS.format("softmax of -x"),
        "Softmin": _ALONG_AN_AXIS.format("softmax of -x"),
        "log_softmax": _ALONG_AN_AXIS.format("log_softmax"),
        "LogSoftmax": _ALONG_AN_AXIS.format("log_softmax"),
        "gumbel_softmax": "it draws samples along an axis; see jax.random.gumbel",
        "MultiheadAttention": "it is a layer of attention",
        **{
            f"{name}_": _IN_PLACE
            for name in (
                "celu", "elu", "hardtanh", "leaky_relu", "relu", "rrelu", "selu", "threshold",
            )
        },
    },
    {
        "glu": {"dim": "axis"},
        "GLU": {"dim": "axis"},
        "prelu": {"weight": "alpha"},
        "PReLU": {"init": "alpha"},
    },
    {"none": False, "tanh": True},  # Of gelu's `approximate`.
)  # fmt: skip

_KERAS = Library(
    "Keras",
    "`keras.activations` and `keras.layers`, 3.15",
    {
        # Functions.
        **_same("celu", "elu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish"),
        **_same("hard_tanh", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu"),
        **_same("soft_shrink", "softplus", "sparse_plus", "sparse_sigmoid", "squareplus", "swish"),
        **_same("tanh", "tanh_shrink", "threshold"),
        "gelu": "gelu:approximate=False",
        "leaky_relu": "leaky_relu:negative_slope=0.2",
        "linear": "identity",
        "softsign": "soft_sign",
        # Layers.
        "ELU": "elu",
        "LeakyReLU": "leaky_relu:negative_slope=0.3",
        "PReLU": "prelu:alpha=0.0",
        "ReLU": "relu",
    },
    {
        "softmax": _ALONG_AN_AXIS.format("softmax"),
        "Softmax": _ALONG_AN_AXIS.format("softmax"),
        "log_softmax": _ALONG_AN_AXIS.format("log_softmax"),
        "sparsemax": _SPARSEMAX,
        "exponential": "it is jnp.exp, which overflows: no hidden layer's activation",
        "Activation": "it takes the name of another; pass that to get",
    },
    {
        "hard_shrink": {"threshold": "lambd"},
        "soft_shrink": {"threshold": "lambd"},
        "threshold": {"default_value": "value"},
    },
)

_HF = Library(
    "Hugging Face",
    "`ACT2FN` of `transformers.activations`, 5.24",
    {
        **_same("leaky_relu", "mish", "quick_gelu", "relu", "relu6", "sigmoid", "silu", "swish"),
        "tanh": "tanh",
        "gelu": "gelu:approximate=False",
        "gelu_accurate": "gelu",
        "gelu_fast": "gelu",
        "gelu_new": "gelu",
        "gelu_python": "gelu:approximate=False",
        "gelu_python_tanh": "gelu",
        "gelu_pytorch_tanh": "gelu",
        "hardswish": "hard_swish",
        "linear": "identity",
        "prelu": "prelu:alpha=0.25",
        "relu2": "relu_squared",
        "xielu": "xielu:alpha_n=0.8,alpha_p=0.8",
    },
    {
        "gelu_10": (
            "no function here is cut off at ±10; write "
            "lambda x: jnp.clip(jaxact.gelu(x, approximate=False), -10, 10)"
        ),
        "laplace": "a normal distribution's cumulative function; see jax.scipy.stats.norm.cdf",
        "sqrtsoftplus": "no function here is that; write lambda x: jnp.sqrt(jaxact.softplus(x))",
    },
)

_TIMM = Library(
    "timm",
    "`create_act_layer` and `get_act_fn` of `timm.layers`, 1.0",
    {
        **_same("celu", "elu", "hard_sigmoid", "hard_swish", "identity", "leaky_relu", "mish"),
        **_same("quick_gelu", "relu", "relu6", "selu", "sigmoid", "silu", "swish", "tanh"),
        "gelu": "gelu:approximate=False",
        "gelu_tanh": "gelu",
        "hardsigmoid": "hard_sigmoid",
        "hardswish": "hard_swish",
        "prelu": "prelu:alpha=0.25",
    },
    {"hard_mish": _HARD_MISH},
    {"prelu": {"init": "alpha"}},
)

_ONNX = Library(
    "ONNX",
    "the operators of the default domain, 1.23 (opset 28)",
    {
        "Celu": "celu",
        "Elu": "elu",
        "Gelu": "gelu:approximate=False",
        "HardSigmoid": "hard_sigmoid:bound=2.5",
        "HardSwish": "hard_swish",
        "Identity": "identity",
        "LeakyRelu": "leaky_relu",
        "Mish": "mish",
        "PRelu": "prelu",
        "Relu": "relu",
        "Selu": "selu",
        "Shrink": "hard_shrink",
        "Sigmoid": "sigmoid",
        "Softplus": "softplus",
        "Softsign": "soft_sign",
        "SwiGLU": "swiglu",
        "Swish": "silu",
        "Tanh": "tanh",
        "ThresholdedRelu": "threshold:threshold=1.0,value=0.0",
    },
    {
        "Softmax": _ALONG_AN_AXIS.format("softmax"),
        "LogSoftmax": _ALONG_AN_AXIS.format("log_softmax"),
        "Hardmax": "it works along an axis; see jax.nn.one_hot of jnp.argmax",
        "Clip": "without its bounds it is the identity; use hard_tanh:min_val=...,max_val=...",
    },
    {
        "LeakyRelu": {"alpha": "negative_slope"},
        "PRelu": {"slope": "alpha"},
        "Swish": {"alpha": "beta"},
        "ThresholdedRelu": {"alpha": "threshold"},
    },
    {"none": False, "tanh": True},
)

#: By the prefix that `jaxact.get` takes.
LIBRARIES: Mapping[str, Library] = {
    "jax": _JAX,
    "flax": _FLAX,
    "torch": _TORCH,
    "keras": _KERAS,
    "hf": _HF,
    "timm": _TIMM,
    "onnx": _ONNX,
}

#: What else these libraries are called.
OTHER_PREFIXES: Mapping[str, str] = {
    **dict.fromkeys(("jnn", "jax.nn"), "jax"),
    **dict.fromkeys(("linen", "nnx"), "flax"),
    **dict.fromkeys(("pytorch", "torch.nn", "nn"), "torch"),
    **dict.fromkeys(("tf", "tensorflow", "tf.keras"), "keras"),
    **dict.fromkeys(("huggingface", "hugging_face", "transformers"), "hf"),
}
