"""Names of other libraries against the libraries: what `jaxact._names` says they mean.

Value and derivative, in float32 and bfloat16, and that a library has no name that the tables lack.
PyTorch, transformers and timm are part of no extra: ``pip install torch transformers``, and ``pip
install --no-deps timm``, which needs nothing else here. Without them their tests are skipped, or
fail with JAXACT_TORCH=required, as in CI.
"""

import functools
import importlib
import importlib.util
import inspect
import os
import sys
import types
from pathlib import Path

# Before keras is imported: its default is TensorFlow.
os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxact
from jaxact._names import LIBRARIES
from tests.support.other_libraries import (
    FORMULAS,
    SLOPE,
    THRESHOLD,
    VALUE,
    computed,
    is_gated,
)

KINKS = (-3, -2.5, -1, -0.5, 0, 0.5, 1, 2.5, 3, 6)
#: Numbers of bfloat16 away from the kinks, at which libraries differ (docs/names.md).
X = np.asarray(np.linspace(-9, 9, 400).astype(jnp.bfloat16), np.float32)
X = X[np.min(abs(X[:, None] - np.array(KINKS)), 1) > 0.025]
UP = np.asarray(np.linspace(3, -2, X.size).astype(jnp.bfloat16), np.float32)
DTYPES = ("float32", "bfloat16")

#: How far a library's own results may be off, relative to the larger of 1 and the exact result.
#: In float32, what cancels: jax.nn.gelu's derivative is off by 1e-5. In bfloat16, most of PyTorch's
#: kernels compute in float32 and round at the end. Formulas in Python round after each operation,
#: by 2^-9: those of Hugging Face and timm are short, jax.nn's derivatives are sums of products.
#: ONNX's evaluator is of float64, its error function of float32.
TOLERANCES = {
    "float32": {
        "torch": 4e-6, "hf": 4e-6, "timm": 4e-6,
        "jax": 2e-5, "flax": 2e-5, "keras": 2e-5, "onnx": 2e-5,
    },
    "bfloat16": {
        "torch": 2.0**-7, "hf": 2.0**-6, "timm": 2.0**-6,
        "jax": 6 * 2.0**-8, "flax": 6 * 2.0**-8, "keras": 6 * 2.0**-8, "onnx": 2e-5,
    },
}  # fmt: skip
#: Ours is rounded once, to half of the last place.
OURS = {"float32": 3e-7, "bfloat16": 2.0**-8}


@functools.cache
def ours(dtype):
    return computed(X.astype(dtype), UP.astype(dtype))


def check(prefix, call):
    """Each name's value and derivative, of the library and of jaxact, against the documented ones.

    ``call(name, dtype, *arrays)`` is (value, derivative) by the library, None for what it has not;
    arrays are x, or a gate and what it multiplies.
    """
    faults = []
    for dtype in DTYPES:
        for name in LIBRARIES[prefix].names:
            arrays = (X, UP) if is_gated(prefix, name) else (X,)
            exact = formula(prefix, name, *arrays)
            theirs = call(name, dtype, *arrays)
            own = ours(dtype)[jaxact.get(f"{prefix}:{name}")]
            # xielu's sum of three terms is rounded four times.
            times = 2 if name == "xielu" else 1
            for whose, found, bound in (
                (prefix, theirs, times * TOLERANCES[dtype][prefix]),
                ("jaxact", own, OURS[dtype]),
            ):
                for what, result, expected in zip(("value", "slope"), found, exact, strict=True):
                    if result is None:
                        continue
                    scale = np.maximum(1, abs(expected))
                    error = (abs(np.float64(result) - expected) / scale).max()
                    if not error <= bound:
                        faults.append(f"{name}, {dtype}: {what} of {whose} is off by {error:.1e}")
    assert not faults, "\n".join(faults)


def formula(prefix, name, *arrays):
    """The documented value, and its derivative by differences, in float64."""
    f, h = FORMULAS[prefix][name], 1e-6
    x, *up = (a.astype(np.float64) for a in arrays)
    return f(x, *up), (f(x + h, *up) - f(x - h, *up)) / (2 * h)


def check_names(prefix, theirs):
    """The library has these names and no others."""
    library = LIBRARIES[prefix]
    known = library.names.keys() | library.left_out.keys()
    assert set(theirs) == known, (
        f"new in {library.title}: {set(theirs) - known}; gone: {known - set(theirs)}"
    )


# JAX and Flax


def by_jax(function, dtype, *arrays):
    @jax.jit
    def both(*arrays):
        y, pullback = jax.vjp(function, *arrays)
        return y, pullback(jnp.ones_like(y))[0]

    return both(*(jnp.asarray(a, dtype) for a in arrays))


def with_gate(glu):
    """A function of both halves as one array, of the gate and what it multiplies."""
    return lambda gate, up: glu(jnp.concatenate([up, gate]))


def test_jax():
    def call(name, dtype, *arrays):
        function = getattr(jax.nn, name)
        return by_jax(with_gate(function) if name == "glu" else function, dtype, *arrays)

    check("jax", call)
    others = {
        "dot_product_attention", "get_scaled_dot_general_config", "initializers", "log1mexp",
        "logmeanexp", "logsumexp", "one_hot", "scaled_dot_general", "scaled_matmul",
    }  # fmt: skip
    check_names("jax", {name for name in dir(jax.nn) if name[0] != "_"} - others)


def test_flax():
    def call(name, dtype, *arrays):
        if name.lower() == "prelu":
            layers = nnx.PReLU(), linen.PReLU().bind({"params": {"negative_slope": 0.01}})
            first, second = (by_jax(layer, dtype, *arrays) for layer in layers)
            np.testing.assert_array_equal(first, second)
            return first
        function = getattr(nnx, name)
        assert name == "identity" or getattr(linen, name) is function
        return by_jax(with_gate(function) if name == "glu" else function, dtype, *arrays)

    check("flax", call)
    names = {"prelu"}
    for module in ("flax.linen.activation", "flax.nnx.nn.activations"):
        for name, value in vars(importlib.import_module(module)).items():
            own = getattr(value, "__module__", "").startswith((module, "jax."))
            if name[0] != "_" and callable(value) and own:
                names.add(name)
    check_names("flax", names - {"logsumexp", "one_hot"})


# Keras


def test_keras():
    import keras

    def call(name, dtype, *arrays):
        given = {"threshold": (THRESHOLD, VALUE)}.get(name, ())
        function = getattr(keras.activations, name, None)
        if function is None:
            layer = getattr(keras.layers, name)(dtype=dtype)
            layer.build((None, X.size))
            return by_jax(lambda x: layer(x[None])[0], dtype, *arrays)
        if name == "glu":
            return by_jax(with_gate(function), dtype, *arrays)
        return by_jax(lambda x: function(x, *given), dtype, *arrays)

    check("keras", call)
    functions = {
        name
        for name, value in vars(keras.activations).items()
        if inspect.isfunction(value) and name not in ("deserialize", "get", "serialize")
    }
    layers = {
        name
        for name, value in vars(keras.layers).items()
        if getattr(value, "__module__", "").startswith("keras.src.layers.activations.")
    }
    check_names("keras", functions | layers)


# PyTorch, and what has its layers


def module(name):
    """PyTorch or what needs it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if os.environ.get("JAXACT_TORCH") == "required":
            raise
        pytest.skip(f"{error}: it is part of no extra")


def torch():
    return module("torch")


def by_torch(function, dtype, *arrays):
    torch_ = torch()
    kind = getattr(torch_, dtype)
    x, *up = (torch_.tensor(a, dtype=kind, requires_grad=True) for a in arrays)
    with torch_.no_grad():
        for parameter in getattr(function, "parameters", list)():
            parameter.data = parameter.data.to(kind)
    y = function(torch_.cat([*up, x]))
    (slope,) = torch_.autograd.grad(y, x, torch_.ones_like(y))
    return y.detach().float().numpy(), slope.float().numpy()


def test_torch():
    nn = torch().nn

    def call(name, dtype, *arrays):
        weight = torch().tensor([SLOPE], dtype=getattr(torch(), dtype))
        given = {
            "prelu": (weight,), "threshold": (THRESHOLD, VALUE), "Threshold": (THRESHOLD, VALUE)
        }.get(name, ())  # fmt: skip
        if name[0].islower():
            function = getattr(nn.functional, name)
            return by_torch(lambda x: function(x, *given), dtype, *arrays)
        return by_torch(getattr(nn, name)(*given).eval(), dtype, *arrays)

    check("torch", call)
    functions = set()
    for name, function in vars(nn.functional).items():
        if name[0] != "_" and name[-1] != "_" and callable(function) and is_activation(function):
            functions.add(name)
    others = {"Tensor", "alpha_dropout", "feature_alpha_dropout", "normalize"}
    others |= {"dropout", "dropout1d", "dropout2d", "dropout3d"}
    with_arguments = {"prelu", "threshold"}
    in_place = {
        name
        for name in vars(nn.functional)
        if name[-1] == "_" and name[0] != "_" and name[:-1] in functions | with_arguments
    }
    layers = {*importlib.import_module("torch.nn.modules.activation").__all__, "Identity"}
    check_names("torch", (functions - others) | with_arguments | in_place | layers)


def test_derivatives_at_kinks_of_torch():
    """They differ from ours in two places, as docs/names.md says; jax.nn's and Keras' do not."""
    functional = torch().nn.functional
    differ = set()
    for name, kinks in {
        "relu": (0,), "relu6": (0, 6), "leaky_relu": (0,), "hardtanh": (-1, 1),
        "hardsigmoid": (-3, 3), "hardswish": (-3, 3), "elu": (0,), "celu": (0,), "selu": (0,),
        "hardshrink": (-0.5, 0.5), "softshrink": (-0.5, 0.5), "prelu": (0,), "threshold": (0.5,),
    }.items():  # fmt: skip
        given = {"prelu": (SLOPE,), "threshold": (0.5, VALUE)}.get(name, ())
        x = np.float32(kinks)
        _, own = by_jax(lambda x, n=name, g=given: jaxact.get(f"torch:{n}")(x, *g), "float32", x)
        if name == "prelu":
            given = (torch().tensor([SLOPE]),)
        _, theirs = by_torch(lambda x, n=name, g=given: getattr(functional, n)(x, *g), "float32", x)
        differ |= {
            (name, float(at), float(mine), round(float(other), 6))
            for at, mine, other in zip(x, own, theirs, strict=True)
            if abs(mine - other) > 1e-6
        }
    assert differ == {
        ("leaky_relu", 0, 1, 0.01), ("prelu", 0, 1, SLOPE),
        ("hardtanh", -1, 1, 0), ("hardtanh", 1, 1, 0),
    }  # fmt: skip


def is_activation(function):
    """Whether it takes an array alone, and returns one of its shape, or of half of it (GLU)."""
    x = torch().linspace(-2, 2, 8).reshape(2, 4)
    try:
        y = function(x)
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return False
    return isinstance(y, type(x)) and y.is_floating_point() and tuple(y.shape) in ((2, 4), (2, 2))


def test_hugging_face():
    table = module("transformers.activations").ACT2FN

    def call(name, dtype, *arrays):
        function = table[name]
        if name == "xielu":  # A class, whose parameters have a dtype.
            function = type(function)(dtype=getattr(torch(), dtype))
        return by_torch(function, dtype, *arrays)

    check("hf", call)
    check_names("hf", table)


def test_timm():
    factory = timm_factory()

    def call(name, dtype, *arrays):
        made = by_torch(factory.create_act_layer(name), dtype, *arrays)
        if name not in ("identity", "prelu"):  # Layers only.
            function = by_torch(factory.get_act_fn(name), dtype, *arrays)
            np.testing.assert_array_equal(made, function)
        return made

    check("timm", call)
    tables = (*factory._ACT_FNS, *factory._ACT_LAYERS)
    check_names("timm", {name for table in tables for name, made in table.items() if made})


def timm_factory():
    """timm's module of activations, without the rest, which needs torchvision."""
    if "timm" not in sys.modules and (spec := importlib.util.find_spec("timm")):
        root = Path(spec.origin).parent
        for name, folder in (("timm", root), ("timm.layers", root / "layers")):
            package = sys.modules[name] = types.ModuleType(name)
            package.__path__ = [str(folder)]
    return module("timm.layers.create_act")


# ONNX


def test_onnx():
    """The operators alone, with their default attributes: they have no derivatives of their own."""
    import onnx
    import onnxruntime
    from onnx.reference import ReferenceEvaluator

    def model(name, kind):
        inputs = ["x", "other"] if name in ("PRelu", "SwiGLU") else ["x"]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node(name, inputs, ["y"])],
            name,
            [onnx.helper.make_tensor_value_info(i, kind, [None]) for i in inputs],
            [onnx.helper.make_tensor_value_info("y", kind, [None])],
        )
        version = onnx.defs.get_schema(name).since_version
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])

    def inputs(name, x, *up):
        other = up or ((np.full(1, SLOPE),) if name == "PRelu" else ())
        return dict(zip(("x", "other"), (x, *other)))  # noqa: B905

    h = 0.01  # Its error function is of float32 numbers.

    def reference(name, dtype, *arrays):
        run = ReferenceEvaluator(model(name, onnx.TensorProto.DOUBLE)).run
        x, *up = (a.astype(np.float64) for a in arrays)
        y, *f = (run(None, inputs(name, x + d, *up))[0] for d in (0, -2 * h, -h, h, 2 * h))
        return y, (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)

    def runtime(name, dtype, *arrays):
        if name == "SwiGLU":  # Which it does not have yet.
            return None, None
        session = onnxruntime.InferenceSession(
            model(name, onnx.TensorProto.FLOAT).SerializeToString(),
            providers=["CPUExecutionProvider"],
        )
        feed = {key: np.float32(value) for key, value in inputs(name, *arrays).items()}
        return session.run(None, feed)[0], None

    check("onnx", reference)
    check("onnx", runtime)
    check_names("onnx", {"PRelu", "SwiGLU"} | ({*elementwise(onnx)} - NO_ACTIVATIONS))


def elementwise(onnx):
    """Operators with one input and one output of the same type, floats among them."""
    for schema in onnx.defs.get_all_schemas():
        single = [i for i in schema.inputs if i.option == i.option.Single]
        if (
            schema.domain == ""
            and len(single) == len(schema.outputs) == 1
            and single[0].type_str == schema.outputs[0].type_str
            and "tensor(float)" in single[0].types
        ):
            yield schema.name


NO_ACTIVATIONS = {
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf"),
    *("Exp", "Floor", "Log", "Neg", "Reciprocal", "Round", "Sign", "Sin", "Sinh", "Sqrt", "Tan"),
    *("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool"),
    *("LRN", "LpNormalization", "MeanVarianceNormalization", "DFT", "Det", "Trilu"),
    *("DepthToSpace", "Flatten", "Resize", "SpaceToDepth", "Split", "Squeeze", "Transpose"),
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
    *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
}
