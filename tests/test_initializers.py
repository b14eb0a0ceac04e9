"""Gains against quadrature of the references; initializers against those of jax.nn; deep nets."""

import functools
import inspect
import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

import jaxact
from jaxact import _gain, initializers
from jaxact.initializers import gain, he_normal, lecun_normal
from jaxact.nnx import PReLU
from tests.support.processes import printed
from tests.support.table import GATED, TABLE, leaky, silu

NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)


def second_moment(reference, kinks=(), q=1.0):
    """E[f(sqrt(q) z)^2] of a NumPy function, panel by panel between its kinks."""
    edges = np.unique([*np.linspace(-14, 14, 57), *(k / math.sqrt(q) for k in kinks)])
    lower, width = edges[:-1, None], np.diff(edges)[:, None]
    z = lower + width * (NODES + 1) / 2
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    square = np.asarray(reference(math.sqrt(q) * z), np.float64) ** 2
    return float((width / 2 * WEIGHTS * square * density).sum())


def elasticity(reference, kinks=()):
    """d log E[f(sqrt(q) z)^2] / d log q at q = 1: what a layer makes of a deviation from 1."""
    h = 1e-4
    moments = [second_moment(reference, kinks, math.exp(s * h)) for s in (1, -1)]
    return math.log(moments[0] / moments[1]) / (2 * h)


def of_row(id):
    """The arguments of `gain` for a row of the table."""
    special = {
        "rrelu": ("rrelu", {"deterministic": True}),
        "rrelu:divisor": ("rrelu", {"deterministic": True, "divisor": True}),
        "rrelu:key": ("rrelu:0.25,0.25", {}),
        "threshold": ("threshold", {"threshold": 0.125, "value": 20.0}),
        "threshold:0": ("threshold", {"threshold": 0.0, "value": 20.0}),
        "prelu:array": ("prelu", {}),
        "softcap": ("softcap:30", {}),
        "surrogate_relu:nelu": ("surrogate_relu", {"surrogate": "nelu"}),
        "xielu": ("xielu", dict.fromkeys(("alpha_p", "alpha_n"), float(np.float32(0.8)))),
    }
    return special.get(id, (id, {}))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)
def test_gains_of_the_table(row):
    # Each half of crelu's output has half of the square of the sum of both.
    moment = second_moment(row.value, row.kinks) / (2 if row.name == "crelu" else 1)
    name, parameters = of_row(row.id)
    assert gain(name, **parameters) == pytest.approx(moment**-0.5, rel=1e-9)


@pytest.mark.parametrize("row", GATED, ids=lambda row: row.id)
def test_gains_of_gated_units(row):
    of_gate = second_moment(row.activation, row.kinks)
    expected = (of_gate * second_moment(row.other, row.other_kinks)) ** -0.5
    # The row's alpha is a float32 number.
    rel = 1e-7 if row.name == "clamped_swiglu" else 1e-9
    assert gain(row.id) == pytest.approx(expected, rel=rel)


@pytest.mark.parametrize("name", jaxact.ACTIVATIONS)
def test_every_activation_has_a_gain(name):
    required = {
        "threshold": {"threshold": 0.5, "value": 0.1},
        "softcap": {"cap": 30.0},
        "clamped_swiglu": {"limit": 7.0},
    }
    parameters = required.get(name, {})
    assert math.isfinite(gain(name, **parameters))
    # Functions of the package count as their names, with which they share a closed form.
    assert gain(jaxact.ACTIVATIONS[name], **parameters) == gain(name, **parameters)


def rrelu_samples(divisor):
    u = (np.arange(200_000) + 0.5) / 200_000
    return 1 / (3 + 5 * u) if divisor else 1 / 8 + (1 / 3 - 1 / 8) * u


def parametric_cases():
    for slope in (-2.0, 0.3, 5.0):
        yield f"leaky_relu:{slope}", functools.partial(leaky, slope=slope), (0.0,)
    for alpha in (-1.5, 0.01, 3.0):
        f = functools.partial(
            lambda x, a: np.where(x > 0, x, a * np.expm1(x.clip(None, 0))), a=alpha
        )
        yield f"elu:{alpha}", f, (0.0,)
    for alpha in (-0.5, 0.02, 3.0, 99.0, 101.0, 1e4):
        f = functools.partial(
            lambda x, a: np.where(x > 0, x, a * np.expm1(x.clip(None, 0) / a)), a=alpha
        )
        yield f"celu:{alpha}", f, (-0.1, -0.2, 0.0)
    for low, high in ((-0.3, 2.5), (1.0, 2.0), (-3.0, -2.0), (0.5, 0.5)):
        f = functools.partial(np.clip, min=low, max=high)
        yield f"hard_tanh:{low},{high}", f, (low, high)
    for bound in (0.5, 2.5):
        f = functools.partial(lambda x, b: np.clip((x + b) / (2 * b), 0, 1), b=bound)
        yield f"hard_sigmoid:{bound}", f, (-bound, bound)
    for bound, value in ((-1.5, 0.25), (2.0, 0.0), (3.0, -1.0)):
        f = functools.partial(lambda x, b, v: np.where(x > b, x, v), b=bound, v=value)
        yield f"threshold:{bound},{value}", f, (bound,)
    for lambd in (0.0, 0.1, 3.0, 6.0):
        hard = functools.partial(lambda x, k: np.where(abs(x) > k, x, 0), k=lambd)
        soft = functools.partial(lambda x, k: np.maximum(abs(x) - k, 0), k=lambd)
        yield f"hard_shrink:{lambd}", hard, (-lambd, lambd)
        yield f"soft_shrink:{lambd}", soft, (-lambd, lambd)
    yield "hard_shrink:-0.5", lambda x: x, ()
    for b in (0.0, 100.0):
        yield (
            f"squareplus:{b}",
            functools.partial(lambda x, b: (x + np.sqrt(x * x + b)) / 2, b=b),
            (),
        )
    for beta in (-1.0, 0.01, 30.0):
        yield f"swish:{beta}", functools.partial(lambda x, b: silu(b * x) / b, b=beta), ()


@pytest.mark.parametrize(
    ("spec", "reference", "kinks"), [pytest.param(*case, id=case[0]) for case in parametric_cases()]
)
def test_gains_of_parameters(spec, reference, kinks):
    expected = second_moment(reference, (*kinks, *np.linspace(-0.5, 0.5, 41))) ** -0.5
    assert gain(spec) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("divisor", [False, True])
def test_gain_of_random_slopes(divisor):
    parameters = {"divisor": True} if divisor else {}
    slopes = rrelu_samples(divisor)
    expected = ((1 + (slopes**2).mean()) / 2) ** -0.5
    assert gain("rrelu", **parameters) == pytest.approx(expected, rel=1e-9)
    assert gain(jaxact.rrelu, key=jax.random.key(0), **parameters) == gain("rrelu", **parameters)
    mean = 2 / 11 if divisor else 11 / 48
    deterministic = gain("rrelu", deterministic=True, **parameters)
    assert deterministic == pytest.approx(gain("leaky_relu", negative_slope=mean), rel=1e-12)
    assert deterministic != pytest.approx(gain("rrelu", **parameters), rel=1e-4)


def test_exact_values():
    assert gain("identity") == 1
    assert gain("relu") == gain("crelu") == gain("reglu") == math.sqrt(2)
    assert gain("leaky_relu:0.2") == pytest.approx(math.sqrt(2 / 1.04), rel=1e-15)
    # The layer's initial slope.
    assert gain("prelu") == gain("leaky_relu", negative_slope=float(PReLU().alpha[...]))
    assert gain("relu_squared") == pytest.approx(math.sqrt(2 / 3), rel=1e-15)
    assert gain("selu") == pytest.approx(1, rel=1e-12)
    assert isinstance(gain("gelu"), float)


@pytest.mark.parametrize(
    ("function", "reference", "kinks", "tolerance"),
    [
        (jax.nn.relu, lambda x: np.maximum(x, 0), (0.0,), 1e-9),
        (jax.nn.gelu, "gelu", (), 1e-9),
        (np.tanh, np.tanh, (), 1e-9),
        (functools.partial(jax.nn.leaky_relu, negative_slope=0.3), "leaky_relu:0.3", (), 1e-9),
        # A jump and a kink at odd places.
        (lambda x: jnp.where(x > 0.31, x, 2), lambda x: np.where(x > 0.31, x, 2), (0.31,), 1e-9),
        (lambda x: abs(x - 0.7654), lambda x: abs(x - 0.7654), (0.7654,), 1e-9),
        (jnp.floor, np.floor, (), 1e-9),
        # Mass far from 0, where the square itself overflows float32.
        (lambda x: jnp.exp(5 * x), math.exp(50), (), 1e-9),
        (lambda x: jnp.sin(30 * x), lambda x: np.sin(30 * x), np.arange(-13, 13, 0.05), 1e-9),
        # Noise of float32.
        (lambda x: jnp.tanh(x.astype(jnp.float32)), np.tanh, (), 1e-6),
        (lambda x: jnp.maximum(x, jnp.float32(0.25) * x), "prelu", (), 1e-9),
        (PReLU(), "prelu", (), 1e-9),
    ],
)  # fmt: skip
def test_gain_of_any_function(function, reference, kinks, tolerance):
    if isinstance(reference, str):
        expected = gain(reference)
    elif isinstance(reference, float):
        expected = reference**-0.5
    else:
        expected = second_moment(reference, kinks) ** -0.5
    assert gain(function) == pytest.approx(expected, rel=tolerance)


def test_parameters_of_any_function():
    expected = gain("leaky_relu:0.3")
    assert gain(jax.nn.leaky_relu, negative_slope=0.3) == pytest.approx(expected, rel=1e-12)
    for given in (np.float32(0.25), np.array(0.25), jnp.array(0.25)):
        assert gain("prelu", alpha=given) == gain("prelu")
    assert gain(functools.partial(jaxact.gelu, approximate=False)) == gain(
        "geglu", approximate=False
    )


def test_names_are_cached_and_functions_are_not():
    _gain._of_name.cache_clear()
    for _ in range(3):
        gain("silu"), gain("swiglu"), gain(jaxact.silu)
    assert _gain._of_name.cache_info().misses == 1
    slope = [0.0]
    assert gain(lambda x: jnp.where(x < 0, slope[0] * x, x)) == pytest.approx(gain("relu"))
    slope[0] = 1.0
    assert gain(lambda x: jnp.where(x < 0, slope[0] * x, x)) == pytest.approx(1)


@pytest.mark.slow
def test_while_a_model_is_built():
    """Under every trace, mesh and mode: a number, and the same."""
    expected = gain("silu")

    def fresh(x):
        _gain._of_name.cache_clear()
        assert gain("silu") == expected
        return x

    x = jnp.ones(8)
    jax.jit(fresh)(x)
    jax.vmap(fresh)(x)
    jax.grad(lambda x: fresh(x).sum())(x)
    jax.eval_shape(fresh, x)
    jax.lax.scan(lambda carry, x: (carry, fresh(x)), 0.0, x)
    mesh = jax.make_mesh((8,), ("d",))
    with jax.set_mesh(mesh):
        sharded = jax.reshard(x, P("d"))
        fresh(sharded)
        jax.jit(fresh)(sharded)
        jax.jit(jax.shard_map(fresh, in_specs=P("d"), out_specs=P("d")))(sharded)
    with jaxact.autodiff(mode="both"):
        fresh(x)
    with jax.disable_jit():
        fresh(x)


def test_making_an_initializer_starts_no_backend():
    """Flax models make initializers on import, before jax.distributed.initialize."""
    started = printed(
        "from jax._src import xla_bridge\n"
        "from jaxact.initializers import gain, he_normal\n"
        "he_normal(activation='silu'), he_normal(activation='celu:0.5'), gain('leaky_relu:0.2')\n"
        "print(xla_bridge.backends_are_initialized())\n"
        "gain('silu')\n"
        "print(xla_bridge.backends_are_initialized())"
    )
    assert started.split() == ["False", "True"]


@pytest.mark.parametrize("build", [gain, lambda *a, **k: he_normal(activation=a[0], **k)])
@pytest.mark.parametrize(
    ("activation", "parameters", "message"),
    [
        ("lrelu", {}, "get: unknown activation 'lrelu'"),
        ("relu", {"alpha": 1.0}, "get: relu has no parameter 'alpha'"),
        (jaxact.relu, {"alpha": 1.0}, "get: relu has no parameter 'alpha'"),
        ("threshold", {}, "threshold has no default for threshold and value. Pass numbers"),
        ("threshold:0.1", {}, "no default for value. Pass numbers: gain('threshold', value=0.1)"),
        ("leaky_relu", {"negative_slope": np.ones(3)}, "negative_slope of leaky_relu must be one"),
        ("leaky_relu", {"negative_slope": math.nan}, "leaky_relu: negative_slope is NaN"),
        ("celu:0", {}, "celu: alpha must not be 0"),
        ("rrelu:0.5,0.2", {}, "rrelu: lower must not exceed upper"),
    ],
)  # fmt: skip
def test_errors_at_once(build, activation, parameters, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(activation, **parameters)


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("threshold:100,0", "E[f(z)^2] of f = threshold(z, threshold=100, value=0) is 0, and no"),
        ("leaky_relu:1e200", "leaky_relu(z, negative_slope=1e+200) is inf"),
        (lambda x: 0 * x, "f = <lambda>(z) is 0"),
        (jnp.sqrt, "is nan"),
        (lambda x: jnp.exp(0.3 * x * x), "is inf"),
        (lambda x: 1 / x, "is inf"),
        (jnp.sum, "turns an array of shape (64,) into ()"),
        (lambda x: jaxact.crelu(x), "turns an array of shape (64,) into (128,)"),
        (jax.nn.softmax, "depends on other elements of z, or is random"),
        (jnp.cumsum, "depends on other elements of z, or is random"),
        (lambda x: x / abs(x).max(), "depends on other elements of z, or is random"),
        (lambda x: x * 1j, "returns complex128. Pass a function of real numbers"),
        (lambda x: jnp.sin(1e6 * x), "does not converge"),
    ],
)  # fmt: skip
def test_errors_of_values(activation, message):
    for call in (
        lambda: gain(activation),
        lambda: he_normal(activation=activation)(jax.random.key(0), (2, 2)),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


def test_traced_parameters_are_errors():
    with pytest.raises(ValueError, match="alpha of prelu must be one number, not JitTracer"):
        jax.jit(lambda a: gain("prelu", alpha=a))(0.25)
    with pytest.raises(ValueError, match="depends on a traced value. Pass its parameters as"):
        jax.jit(lambda a: gain(lambda x: jaxact.prelu(x, a)))(0.25)
    with pytest.raises(TypeError, match="pass a name such as"):
        gain(3)


# ------------------------------------------------------------------------------------------------
# Initializers

NAMES = [f"{who}_{how}" for who in ("he", "lecun", "glorot") for how in ("normal", "uniform")]
KEY = jax.random.key(0)


@pytest.mark.parametrize("name", NAMES)
def test_without_an_activation_they_are_those_of_jax(name):
    ours, theirs = getattr(initializers, name), getattr(jax.nn.initializers, name)
    for args, kwargs, shape in (
        ((), {}, (64, 48)),
        ((-2, -1, (0,), jnp.bfloat16), {}, (3, 8, 16)),
        ((), {"in_axis": (0, 1), "out_axis": 2, "dtype": jnp.complex64}, (4, 5, 6)),
    ):
        w, expected = ours(*args, **kwargs)(KEY, shape), theirs(*args, **kwargs)(KEY, shape)
        assert (w.dtype, w.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(w, expected)
    # The call's dtype comes before the initializer's.
    w = ours(dtype=jnp.float16)(KEY, (64, 48), jnp.bfloat16)
    np.testing.assert_array_equal(w, theirs()(KEY, (64, 48), jnp.bfloat16))
    signature = list(inspect.signature(theirs).parameters)
    assert list(inspect.signature(ours).parameters)[: len(signature)] == signature


def test_other_names():
    for ours, theirs in (("kaiming", "he"), ("xavier", "glorot")):
        for how in ("normal", "uniform"):
            function = getattr(initializers, f"{ours}_{how}")
            assert function is getattr(initializers, f"{theirs}_{how}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu:0.2", "tanh", "silu", "glu"])
def test_variance(name, activation):
    w = getattr(initializers, name)(activation=activation)(KEY, (1000, 500))
    fan = 750 if name.startswith("glorot") else 1000
    expected = second_moment(REFERENCES[activation], (0.0,)) ** -1 / fan
    # Half a million numbers of kurtosis below 3.
    assert float((w**2).mean()) == pytest.approx(expected, rel=0.01)
    assert abs(float(w.mean())) < 5 * math.sqrt(expected / w.size)
    if name.endswith("uniform"):
        assert float(abs(w).max()) == pytest.approx(math.sqrt(3 * expected), rel=1e-4)


REFERENCES = {row.id: row.value for row in TABLE}
REFERENCES |= {"glu": REFERENCES["sigmoid"], "prelu": REFERENCES["prelu:array"]}


def test_parameters_of_the_activation():
    expected = he_normal(activation="leaky_relu:0.3")(KEY, (8, 4))
    for activation in ("leaky_relu", jaxact.leaky_relu):
        w = he_normal(activation=activation, negative_slope=0.3)(KEY, (8, 4))
        np.testing.assert_array_equal(w, expected)
    assert (he_normal(activation=lambda x: 2 * x)(KEY, (8, 4)) != expected).all()


@pytest.mark.slow
def test_in_flax_layers():
    init = he_normal(activation="silu")
    scale = gain("silu") ** 2
    rngs = nnx.Rngs(0)
    sharded = nnx.with_partitioning(init, (None, "model"))
    with jax.set_mesh(jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))):
        layers = {
            "linear": (nnx.Linear(256, 512, kernel_init=init, rngs=rngs), 256),
            "conv": (nnx.Conv(32, 512, (3, 3), kernel_init=init, rngs=rngs), 288),
            "partitioned": (nnx.Linear(256, 512, kernel_init=sharded, rngs=rngs), 256),
            "bfloat16": (
                nnx.Linear(256, 512, kernel_init=init, param_dtype=jnp.bfloat16, rngs=rngs), 256,
            ),
        }  # fmt: skip
    for name, (layer, fan_in) in layers.items():
        kernel = layer.kernel[...].astype(jnp.float32)
        assert float(kernel.var()) == pytest.approx(scale / fan_in, rel=0.03), name
    assert layers["bfloat16"][0].kernel[...].dtype == jnp.bfloat16

    for layer, x, fan_in in (
        (nn.Dense(512, kernel_init=init), jnp.ones((1, 256)), 256),
        (nn.Conv(512, (3, 3), kernel_init=init), jnp.ones((1, 4, 4, 32)), 288),
        (nn.Dense(512, kernel_init=nn.with_partitioning(init, ("m",))), jnp.ones((1, 256)), 256),
    ):  # fmt: skip
        initialize = functools.partial(layer.init, KEY)
        shapes = jax.tree.leaves(jax.eval_shape(initialize, x))
        kernel = nn.meta.unbox(jax.jit(initialize)(x)["params"])["kernel"]
        assert kernel.shape in [shape.shape for shape in shapes]
        assert float(kernel.var()) == pytest.approx(scale / fan_in, rel=0.03)


def test_under_transformations():
    init = initializers.lecun_uniform(activation="tanh")
    expected = init(KEY, (8, 4))
    np.testing.assert_array_equal(jax.jit(init, static_argnums=1)(KEY, (8, 4)), expected)
    stacked = jax.vmap(lambda key: init(key, (8, 4)))(jax.random.split(KEY, 3))
    assert stacked.shape == (3, 8, 4)
    shape = jax.eval_shape(lambda: init(KEY, (8, 4), jnp.bfloat16))
    assert (shape.shape, shape.dtype) == ((8, 4), jnp.bfloat16)
    with jax.set_mesh(jax.make_mesh((8,), ("d",))):
        w = jax.jit(lambda: init(KEY, (8, 4), out_sharding=P("d", None)))()
        assert w.sharding.spec == P("d", None)


# ------------------------------------------------------------------------------------------------
# Depth

LAYERS = 100
PIECEWISE = {
    **{
        row.id: (*of_row(row.id), row.call)
        for row in TABLE
        if getattr(jaxact.piecewise_linear, row.name, None) is jaxact.ACTIVATIONS[row.name]
        # The others are leaky_relu's functions, or need more than the table's call.
        and row.id not in ("crelu", "rrelu:key", "rrelu:key,divisor", "prelu:array", "prelu:0.01")
    },
    "crelu": ("crelu", {}, jaxact.crelu),
    "rrelu:random": ("rrelu", {}, lambda x: jaxact.rrelu(x, KEY)),
    "threshold:0.5,0": ("threshold:0.5,0", {}, lambda x: jaxact.threshold(x, 0.5, 0.0)),
}
#: The fixed point repels: no variance of the weights keeps these for 100 layers.
UNSTABLE = {"hard_shrink": 1.045, "soft_shrink": 1.472, "threshold:0.5,0": 1.045}


def reference(id):
    """The NumPy function of a name, and its kinks."""
    if id == "threshold:0.5,0":
        return lambda x: np.where(x > 0.5, x, 0), (0.5,)
    row = next(row for row in TABLE if row.id == id.removesuffix(":random"))
    return row.value, row.kinks


def test_every_piecewise_linear_activation_is_in_the_deep_network():
    module = jaxact.piecewise_linear
    names = {n for n, f in jaxact.ACTIVATIONS.items() if getattr(module, n, None) is f}
    assert len(names) >= 13
    assert names == {name.partition(":")[0] for name in PIECEWISE}


@pytest.mark.parametrize("id", PIECEWISE)
def test_elasticity_tells_what_depth_does(id):
    measured = elasticity(*reference(id))
    if id in UNSTABLE:
        assert measured == pytest.approx(UNSTABLE[id], abs=2e-3)
    else:
        assert measured < 1 + 1e-6


@pytest.mark.parametrize(
    ("id", "expected"),
    [("relu_squared", 2), ("tanh_shrink", 1.8), ("hard_silu", 1.2), ("silu", 1.2), ("gelu", 1.1),
     ("quick_gelu", 1.1), ("mish", 1.1), ("soft_shrink", 1.5), ("hard_shrink", 1.05)],
)  # fmt: skip
def test_elasticities_that_the_docstring_quotes(id, expected):
    assert elasticity(*reference(id)) == pytest.approx(expected, abs=0.05)
    assert f"({expected:g})" in gain.__doc__


@pytest.mark.slow
def test_second_moments_stay_one_through_100_layers():
    """The pre-activations' second moment, within 10% of one in every layer.

    In a layer of independent normal weights of variance gain^2 / fan_in, the pre-activations are
    independent and N(0, gain^2 mean(f(z)^2)), z those before. So this is a network of a million
    units a layer without its weights, which relu needs: over 100 layers, the second moment of a
    network of relu has a relative variance of 500 / width. The unstable ones start from one in each
    layer, as behind a normalization.
    """
    gains = np.array([gain(name, **parameters) for name, parameters, _ in PIECEWISE.values()])
    normalized = np.array([id in UNSTABLE for id in PIECEWISE])

    @jax.jit
    def mean_squares(scale, z):
        calls = [call for _, _, call in PIECEWISE.values()]
        return [(f(s * z) ** 2).mean() for f, s in zip(calls, scale, strict=True)]

    random = np.random.default_rng(0)
    layers, q = [], np.ones(len(PIECEWISE))
    for _ in range(LAYERS):
        scale = np.sqrt(np.where(normalized, 1, q)).astype(np.float32)
        q = gains**2 * np.array(mean_squares(scale, random.standard_normal(2**20, np.float32)))
        layers.append(q)
    for id, moments in zip(PIECEWISE, np.array(layers).T, strict=True):
        np.testing.assert_allclose(moments, 1, atol=0.1, err_msg=id)
        if id in UNSTABLE:  # 100 million samples: the standard error is below 5e-4.
            np.testing.assert_allclose(moments.mean(), 1, atol=2e-3, err_msg=id)


@pytest.mark.parametrize("id", UNSTABLE)
def test_unstable_activations_leave(id):
    """What the docstring warns of."""
    f, kinks = reference(id)
    for q in (1.02, 0.98):
        start = abs(math.log(q))
        for _ in range(LAYERS):
            q = second_moment(f, kinks, q) / second_moment(f, kinks)
            q = max(q, 1e-9)  # The shrinkages end at 0.
        assert abs(math.log(q)) > 3 * start


@pytest.mark.parametrize("activation", ["relu", "leaky_relu:0.2", "prelu", "rrelu"])
def test_real_networks_of_100_layers(activation):
    """Matrices from the initializer, in 16 networks of width 256.

    The networks' mean second moment, layer by layer relative to the one before, multiplied up: its
    logarithm has the variance layers (kurtosis - 1) / (16 width), which makes 0.35 at the end. A
    gain that is wrong by 1% would be off by 2.
    """
    seeds, width = 16, 256
    init = he_normal(activation=activation)
    f = jaxact.prelu if activation == "prelu" else jaxact.get(activation)

    def step(z, key):
        key_w, key_f = jax.random.split(key)
        w = jax.vmap(lambda key: init(key, (width, width)))(jax.random.split(key_w, seeds))
        parameters = {"rrelu": (key_f,), "prelu": (0.25,)}.get(activation, ())
        y = jnp.einsum("si,sij->sj", f(z, *parameters), w)
        ratio = (y**2).mean(1) / (z**2).mean(1)
        # Of second moment 1 again: the functions are homogeneous.
        return y / jnp.sqrt((y**2).mean(1, keepdims=True)), ratio.mean()

    z = jax.random.normal(jax.random.key(1), (seeds, width))
    keys = jax.random.split(jax.random.key(2), LAYERS)
    _, ratios = jax.jit(lambda z, keys: jax.lax.scan(step, z, keys))(z, keys)
    second = np.cumsum(np.log(np.asarray(ratios, np.float64)))
    slope = {"relu": 0.0, "leaky_relu:0.2": 0.2}.get(activation, 0.25)
    moments = [second_moment(lambda z, p=p: leaky(z, slope) ** p, (0.0,)) for p in (1, 2)]
    deviation = np.sqrt(
        np.arange(1, LAYERS + 1) * (moments[1] / moments[0] ** 2 - 1) / seeds / width
    )
    assert deviation[-1] < 0.36
    assert (abs(second) < 4 * deviation).all()


def test_selu_keeps_mean_0_and_variance_1():
    """With LeCun's weights, for 100 layers: here the fixed point attracts."""
    width = 512
    init = lecun_normal(activation="selu")

    def step(x, key):
        x = jaxact.selu(x @ init(key, (width, width)))
        return x, (x.mean(), x.var())

    x = jax.random.normal(jax.random.key(1), (256, width))
    keys = jax.random.split(jax.random.key(2), LAYERS)
    _, (means, variances) = jax.jit(lambda x, keys: jax.lax.scan(step, x, keys))(x, keys)
    assert len(means) == LAYERS
    np.testing.assert_allclose(means, 0, atol=0.1)
    np.testing.assert_allclose(variances, 1, atol=0.15)
