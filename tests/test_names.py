"""`jaxact.get` by the names of other libraries: meanings, errors, and all that takes a name.

Against the libraries themselves: tests/compat/test_names.py.
"""

import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxact
import jaxact.linen
import jaxact.nnx
from benchmarks import names
from jaxact import registry
from jaxact._names import LIBRARIES, OTHER_PREFIXES
from jaxact.compare import activations
from tests.support.other_libraries import FORMULAS, computed, is_gated

#: No kink of any function is near one of these.
X = np.linspace(-8, 8, 97, dtype=np.float32) + np.float32(0.013)
UP = np.linspace(3, -2, 97, dtype=np.float32)


@pytest.fixture(scope="module")
def values_and_slopes():
    return computed(X, UP)


@pytest.mark.parametrize("prefix", LIBRARIES)
def test_names_mean_what_their_library_documents(prefix, values_and_slopes):
    library, formulas = LIBRARIES[prefix], FORMULAS[prefix]
    assert library.names.keys() == formulas.keys()
    x, h = X.astype(np.float64), 1e-6
    for name, formula in formulas.items():
        more = (UP.astype(np.float64),) if is_gated(prefix, name) else ()
        y, slope = values_and_slopes[jaxact.get(f"{prefix}:{name}")]
        np.testing.assert_allclose(y, formula(x, *more), rtol=1e-6, atol=1e-6, err_msg=name)
        difference = (formula(x + h, *more) - formula(x - h, *more)) / (2 * h)
        np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-6, err_msg=name)


def test_tables_hold_each_name_once():
    for prefix, library in LIBRARIES.items():
        assert not library.names.keys() & library.left_out.keys(), prefix
        assert library.parameters.keys() <= library.names.keys(), prefix
        assert prefix not in jaxact.ACTIVATIONS
    assert set(OTHER_PREFIXES.values()) <= LIBRARIES.keys()
    assert not OTHER_PREFIXES.keys() & (LIBRARIES.keys() | jaxact.ACTIVATIONS.keys())


@pytest.mark.parametrize("prefix", LIBRARIES)
def test_what_a_name_gives_is_jaxacts(prefix):
    for name, meaning in LIBRARIES[prefix].names.items():
        activation = jaxact.get(f"{prefix}:{name}")
        assert activation is jaxact.get(meaning)
        assert pickle.loads(pickle.dumps(activation)) is activation
        own, _, parameters = meaning.partition(":")
        # The text of a function with parameters leads back, and has only what differs.
        assert str(activation) == meaning if parameters else activation is jaxact.ACTIVATIONS[own]
        signature = inspect.signature(jaxact.ACTIVATIONS[own]).parameters
        for parameter, value in getattr(activation, "keywords", {}).items():
            assert signature[parameter].default != value, name


@pytest.mark.parametrize(
    ("spec", "parameters", "expected"),
    [
        ("torch:leaky_relu:0.2", {}, "leaky_relu:0.2"),
        ("torch:leaky_relu:negative_slope=0.2", {}, "leaky_relu:0.2"),
        ("keras:leaky_relu", {"negative_slope": 0.5}, "leaky_relu:0.5"),
        ("keras:LeakyReLU:negative_slope=0.5", {}, "leaky_relu:0.5"),
        ("keras:soft_shrink:threshold=1", {}, "soft_shrink:1"),
        ("keras:soft_shrink:1", {}, "soft_shrink:1"),
        ("keras:hard_shrink", {"threshold": 1.5}, "hard_shrink:1.5"),
        ("keras:threshold:1,default_value=2", {}, "threshold:1,2"),
        ("onnx:LeakyRelu:alpha=0.1", {}, "leaky_relu:0.1"),
        ("onnx:ThresholdedRelu", {"alpha": 0.5}, "threshold:threshold=0.5,value=0.0"),
        ("onnx:Swish:alpha=2", {}, "silu:beta=2"),
        ("onnx:PRelu", {"slope": 0.1}, "prelu:0.1"),
        ("torch:PReLU:init=0.1", {}, "prelu:0.1"),
        ("flax:PReLU", {"negative_slope_init": 0.1}, "prelu:0.1"),
        ("torch:glu", {"dim": 0}, "glu:axis=0"),
        ("torch:gelu:approximate=tanh", {}, "gelu:approximate=true"),
        ("torch:GELU", {"approximate": "tanh"}, "gelu:approximate=true"),
        ("onnx:Gelu", {"approximate": "none"}, "gelu:approximate=false"),
        ("torch:rrelu:0.1,0.3", {}, "rrelu:0.1,0.3,deterministic=true"),
        ("torch:threshold:0.1,20", {}, "threshold:0.1,20"),
    ],
)
def test_parameters_have_their_librarys_names(spec, parameters, expected):
    assert jaxact.get(spec, **parameters) is jaxact.get(expected)


@pytest.mark.parametrize(
    ("spec", "parameters", "message"),
    [
        # A name of a library that it does not have, or not so.
        (
            "keras:leakyrelu",
            {},
            r"Keras has no activation 'leakyrelu'. Did you mean 'keras:leaky_relu' "
            r"\(leaky_relu:negative_slope=0.2\) or 'keras:LeakyReLU' \(leaky_relu:negative_slope=",
        ),
        (
            "torch:gelu_new",
            {},
            r"PyTorch has no activation 'gelu_new'. Did you mean 'torch:gelu' \(gelu:approximate="
            r"False\).* In other libraries: get\('hf:gelu_new'\) is 'gelu'.$",
        ),
        ("torch:quick_gelu", {}, "PyTorch .* Without a library, 'quick_gelu' is jaxact's own.$"),
        ("onnx:", {}, "ONNX has no activation ''. Its names are: Celu, Elu, Gelu"),
        ("timm:zzz", {}, "timm has no activation 'zzz'. Its names are: celu, elu"),
        ("torch:softmx", {}, "PyTorch has no .* 'torch:softmax' has no counterpart.$"),
        # A name that means nothing here.
        ("torch:Softmax", {}, "'torch:Softmax' has no counterpart: it works along an axis, not"),
        ("timm:hard_mish", {}, "'timm:hard_mish' has no counterpart: no function here has its kin"),
        ("hf:gelu_10", {}, "'hf:gelu_10' has no counterpart: no function here is cut off at ±10"),
        ("torch:relu_", {}, "'torch:relu_' has no counterpart: it writes into its input; take the"),
        # A library that is not known.
        ("pytorch:gelu", {}, "unknown library 'pytorch'. Did you mean 'torch:gelu'?"),
        ("Torch:gelu:none", {}, "unknown library 'Torch'. Did you mean 'torch:gelu:none'?"),
        ("mxnet:relu", {}, "unknown library 'mxnet' in 'mxnet:relu'. The libraries are: jax,"),
        ("mxnet:LeakyReLU:0.1", {}, "unknown library 'mxnet' in 'mxnet:LeakyReLU:0.1'"),
        ("torch", {}, "'torch' is a library: write 'torch:' and a name of PyTorch's"),
        ("zzz:2", {}, "unknown activation 'zzz'. The names are: identity"),
        # Without a library, a name of some.
        (
            "gelu_new",
            {},
            r"unknown activation 'gelu_new'. Did you mean 'gelu' .* In other libraries: "
            r"get\('hf:gelu_new'\) is 'gelu'.$",
        ),
        (
            "LeakyReLU",
            {},
            r"unknown activation 'LeakyReLU'. Did you mean 'leaky_relu'\? In other libraries: get\("
            r"'torch:LeakyReLU'\) is 'leaky_relu'; get\('keras:LeakyReLU'\) is 'leaky_relu:neg",
        ),
        ("softmax", {}, "unknown activation 'softmax'. Did you mean 'softcap'\\? In other li"),
        # Parameters.
        ("torch:leaky_relu:slope=2", {}, "torch:leaky_relu has no parameter 'slope'; it has negat"),
        ("keras:soft_shrink", {"lambd": 1}, "keras:soft_shrink has no parameter 'lambd'; it has"),
        ("keras:ReLU:0.1", {}, r"'keras:ReLU:0.1' has more values than parameters \(none\)"),
        ("torch:elu:1", {"alpha": 2}, "alpha is given twice for 'torch:elu:1'"),
        ("torch:gelu:fast", {}, "'fast' in 'torch:gelu:fast' is not a number or one of none, tanh"),
        ("torch:gelu", {"approximate": "fast"}, "'fast' in 'torch:gelu' is not a number or one of"),
        ("keras:gelu", {"approximate": "tanh"}, "'tanh' in 'keras:gelu' is not a number; write"),
        ("gelu", {"approximate": "none"}, "'none' in 'gelu' is not a number; write"),
    ],
)  # fmt: skip
def test_errors(spec, parameters, message):
    with pytest.raises(ValueError, match=f"^get: {message}"):
        jaxact.get(spec, **parameters)


def test_every_reason_is_told():
    for prefix, library in LIBRARIES.items():
        for name, reason in library.left_out.items():
            with pytest.raises(ValueError, match="has no counterpart") as error:
                jaxact.get(f"{prefix}:{name}")
            assert reason in str(error.value)


def test_all_that_takes_a_name():
    x = jnp.array([[-2.0, 0.5, 3.0]])
    leaky = jaxact.leaky_relu(x, 0.3)
    np.testing.assert_array_equal(jaxact.nnx.Activation("keras:LeakyReLU")(x), leaky)
    module = jaxact.linen.Activation("keras:LeakyReLU")
    np.testing.assert_array_equal(module.apply({}, x), leaky)
    assert jaxact.initializers.gain("keras:LeakyReLU") == jaxact.initializers.gain("leaky_relu:0.3")
    swapped = jaxact.swap(lambda x: jax.nn.relu(x), {"relu": "keras:LeakyReLU"})
    np.testing.assert_array_equal(swapped(x), leaky)
    w = jnp.eye(3)
    np.testing.assert_array_equal(jaxact.mlp(x, w, w, activation="keras:LeakyReLU"), leaky)
    assert activations.identity_of("keras:LeakyReLU") == activations.identity_of("leaky_relu:0.3")
    assert activations.split_names("torch:relu, keras:soft_shrink:threshold=1,hf:gelu_new") == (
        "torch:relu", "keras:soft_shrink:threshold=1", "hf:gelu_new",
    )  # fmt: skip
    kept = registry.Parameterized.from_config(jaxact.get("keras:LeakyReLU").get_config())
    assert kept is jaxact.get("keras:LeakyReLU")


def test_learned_slopes_start_where_their_library_starts():
    x = jnp.array([[-2.0, 0.5, 3.0]])
    for name, start in (("torch:PReLU", 0.25), ("flax:prelu", 0.01), ("keras:PReLU", 0.0)):
        layer = jaxact.nnx.Activation(name, 3)
        (alpha,) = jax.tree.leaves(nnx.state(layer, nnx.Param))
        np.testing.assert_array_equal(alpha, np.full(3, start, np.float32))
        module = jaxact.linen.Activation(name, 3)
        (alpha,) = jax.tree.leaves(linen.unbox(module.init(jax.random.key(0), x)))
        np.testing.assert_array_equal(alpha, np.full(3, start, np.float32))
    # A function takes its slopes from its caller: a layer, a comparison and swap learn them.
    activations.check_activation("torch:prelu")
    swapped = jaxact.swap(lambda x: jax.nn.relu(x), {"relu": "onnx:PRelu"})
    parameters = swapped.init(x)
    assert [leaf.shape for leaf in jax.tree.leaves(parameters)] == [(3,)]


def test_a_comparison_names_a_missing_parameter():
    with pytest.raises(activations.CompareError, match="'threshold:threshold=0.1,value=0.1'"):
        activations.check_activation("torch:Threshold")


def test_the_page_of_the_documentation_is_current():
    assert names.PAGE.read_text() == names.document(), "run python -m benchmarks.names"
    assert "names.md" in (names.DOCS.parent / "mkdocs.yml").read_text()
