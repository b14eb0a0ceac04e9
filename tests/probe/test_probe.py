"""`jaxact.probe`: what is found, that nothing changes, and that the figures are right.

Models of Flax, Equinox and Haiku are in test_models.py, the report is in
tests/report.
"""

import functools
import math

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import AxisType, PartitionSpec

import jaxact
from jaxact._jaxprs import calls
from jaxact._probe import graph as graphs, patterns
from jaxact._probe.graph import Graph, Node, Scalar
from tests.support.samples import normal

X = normal(0, (16, 32))
W = normal(1, (32, 32)) / 6
STACK = jnp.stack([W * (i + 1) / 2 for i in range(3)])


def functions(fn, *args):
    _, report = jax.eval_shape(jaxact.probe(fn), *args)  # nothing runs
    return [record.place.function for record in report.records]


# ------------------------------------------------------------------------------------------------
# What is found

JAX_NN = {
    "relu": (jax.nn.relu, "relu"),
    "relu6": (jax.nn.relu6, "relu6"),
    "leaky_relu": (jax.nn.leaky_relu, "leaky_relu"),
    "leaky_relu 0.2": (lambda x: jax.nn.leaky_relu(x, 0.2), "leaky_relu"),
    "leaky_relu traced": (lambda x: jax.nn.leaky_relu(x, jnp.asarray(0.1, x.dtype)), "leaky_relu"),
    "elu": (jax.nn.elu, "elu"),
    "elu 0.5": (lambda x: jax.nn.elu(x, 0.5), "elu"),
    "celu": (jax.nn.celu, "celu"),
    "selu": (jax.nn.selu, "selu"),
    "gelu": (jax.nn.gelu, "gelu"),
    "gelu exact": (lambda x: jax.nn.gelu(x, approximate=False), "gelu"),
    "silu": (jax.nn.silu, "silu"),
    "swish": (jax.nn.swish, "silu"),
    "mish": (jax.nn.mish, "mish"),
    "softplus": (jax.nn.softplus, "softplus"),
    "sigmoid": (jax.nn.sigmoid, "sigmoid"),
    "log_sigmoid": (jax.nn.log_sigmoid, "log_sigmoid"),
    "tanh": (jnp.tanh, "tanh"),
    "hard_tanh": (jax.nn.hard_tanh, "hard_tanh"),
    "hard_sigmoid": (jax.nn.hard_sigmoid, "hard_sigmoid"),
    "hard_silu": (jax.nn.hard_silu, "hard_silu"),
    "squareplus": (jax.nn.squareplus, "squareplus"),
    "soft_sign": (jax.nn.soft_sign, "soft_sign"),
    "sparse_plus": (jax.nn.sparse_plus, "sparse_plus"),
    "sparse_sigmoid": (jax.nn.sparse_sigmoid, "sparse_sigmoid"),
    "max": (lambda x: jnp.maximum(x, 0), "relu"),
    "max 0.0": (lambda x: jnp.maximum(x, 0.0), "relu"),
    "where": (lambda x: jnp.where(x > 0, x, 0), "relu"),
    "where leaky": (lambda x: jnp.where(x > 0, x, 0.01 * x), "leaky_relu"),
    "where leaky reversed": (lambda x: jnp.where(x >= 0, x, x * 0.2), "leaky_relu"),
    "max leaky": (lambda x: jnp.maximum(0.2 * x, x), "leaky_relu"),
    "sigmoid by exp": (lambda x: 1 / (1 + jnp.exp(-x)), "sigmoid"),
    "where reversed": (lambda x: jnp.where(x < 0, 0, x), "relu"),
    "where leaky, negative first": (lambda x: jnp.where(x <= 0, 0.1 * x, x), "leaky_relu"),
    "clip": (lambda x: jnp.clip(x, 0, 6), "relu6"),
    "gelu by hand": (
        lambda x: 0.5 * x * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "gelu",
    ),
    "gelu of GPT-2": (
        lambda x: (
            0.5 * x * (1.0 + jnp.tanh(jnp.sqrt(2 / jnp.pi) * (x + 0.044715 * jnp.power(x, 3))))
        ),
        "gelu",
    ),
    "gelu by erf": (lambda x: x * 0.5 * (1 + lax.erf(x / math.sqrt(2))), "gelu"),
    "hard_silu by hand": (lambda x: x * jax.nn.relu6(x + 3) / 6, "hard_silu"),
    "snake by hand": (lambda x: x + jnp.square(jnp.sin(2.5 * x)) / 2.5, "snake"),
    "silu by hand": (lambda x: x * jax.nn.sigmoid(x), "silu"),
}


@pytest.mark.parametrize(
    "dtype",
    [jnp.float32, jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)],
    ids=["f32", "bf16", "f16"],
)
@pytest.mark.parametrize("name", JAX_NN)
def test_finds_the_functions_of_jax_nn_and_those_written_out(name, dtype):
    function, expected = JAX_NN[name]
    with jax.numpy_dtype_promotion("standard"):
        assert functions(function, X.astype(dtype)) == [expected]
        assert functions(jax.vmap(jax.jit(function)), X.astype(dtype)) == [expected]


def in_a_scan(function):
    return lambda x: lax.scan(lambda h, _: (function(h), None), x, None, length=2)[0]


def forward(function, x):
    return jax.jvp(function, (x,), (jnp.cos(x),))


#: How a program takes the derivative of what it probes, and what of.
DERIVATIVES = {
    "grad": lambda f, x: jax.grad(lambda x: f(x).sum())(x),
    "grad of scan": lambda f, x: jax.grad(lambda x: in_a_scan(f)(x).sum())(x),
    "grad of remat of scan": lambda f, x: jax.value_and_grad(
        jax.checkpoint(lambda x: in_a_scan(f)(x).sum())
    )(x),
    "jvp": lambda f, x: forward(f, x),
    "jvp of scan": lambda f, x: forward(in_a_scan(f), x),
    "jvp of grad": lambda f, x: forward(jax.grad(lambda x: f(x).sum()), x),
}
OF_JAXACT = [
    *("relu", "relu6", "leaky_relu", "hard_shrink", "soft_shrink", "hard_tanh", "hard_sigmoid"),
    *("sparse_sigmoid", "elu", "celu", "selu", "silu", "quick_gelu", "gelu", "mish", "sigmoid"),
    *("softplus", "log_sigmoid", "tanh", "tanh_shrink", "soft_sign", "squareplus", "relu_squared"),
    *("hard_silu", "sparse_plus", "leaky_relu_squared", "snake"),
]
DIFFERENTIATED = {
    **{f"jax.nn {name}": function for name, (function, _) in JAX_NN.items()},
    **{f"jaxact {name}": getattr(jaxact, name) for name in OF_JAXACT},
}
OLD = jax.__version_info__ < (0, 12)
FAST = ("jax.nn softplus", "jaxact leaky_relu", "jaxact gelu")
OUTSIDE_JIT = "jaxact gelu"


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in DIFFERENTIATED],
)
def test_what_a_program_differentiates_itself_is_found_with_its_figures(name):
    function, x = DIFFERENTIATED[name], 3 * X
    derivatives = dict(DERIVATIVES)
    if OLD and name in ("jaxact elu", "jaxact celu", "jaxact hard_shrink", "jaxact soft_shrink"):
        for taken in ("grad of scan", "grad of remat of scan"):
            with pytest.raises(ValueError, match="leaves no parameters. Probe or swap inside"):
                jaxact.probe(functools.partial(derivatives.pop(taken), function))(x)

    def reports(x):
        found = {}
        for taken, derivative in derivatives.items():
            with jaxact.autodiff(mode="both" if taken.startswith("jvp") else "reverse"):
                _, plain = jaxact.probe(in_a_scan(function) if "scan" in taken else function)(x)
                _, report = jaxact.probe(functools.partial(derivative, function))(x)
            found[taken] = report, plain
        return found

    # As one program they compile in a fifth of the time. Outside jit once.
    found = reports(x) if name == OUTSIDE_JIT else jax.jit(reports)(x)
    for taken, (report, plain) in found.items():
        names = [site.function for site in report.sites]
        assert names == [site.function for site in plain.sites] != [], taken
        for site, expected in zip(report.sites, plain.sites, strict=True):
            for part in ("count", "active", "saturated", "mean"):
                np.testing.assert_allclose(
                    getattr(site, part), getattr(expected, part), rtol=1e-6, err_msg=taken
                )


def test_finds_functions_of_scalars_and_of_four_axes():
    for shape in ((), (2, 3, 3, 4)):
        assert functions(jax.nn.gelu, jnp.ones(shape)) == ["gelu"]
        assert functions(jax.nn.relu, jnp.ones(shape)) == ["relu"]


def test_finds_learned_slopes_written_out():
    def prelu(alpha, x):
        return jnp.where(x > 0, x, alpha[None] * x)

    assert functions(prelu, jnp.full(32, 0.25), X) == ["leaky_relu"]


@pytest.mark.parametrize("mode", ["reverse", pytest.param("both", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", jaxact.ACTIVATIONS)
def test_finds_the_functions_of_jaxact(name, mode):
    function = jaxact.ACTIVATIONS[name]
    arguments = {
        "prelu": (jnp.full(32, 0.25),),
        "rrelu": (jax.random.key(0),),
        "threshold": (0.1, 1.0),
        "softcap": (30.0,),
        "xielu": (0.8, 0.8),
        **dict.fromkeys(("swiglu", "geglu", "reglu", "bilinear_glu", "situ_glu"), (X + 1,)),
        "clamped_swiglu": (X + 1,),
    }.get(name, ())
    if name == "clamped_swiglu":
        function = functools.partial(function, limit=7.0)
    expected = [] if name == "identity" else [name]
    expected = [{"swish": "silu", "hard_swish": "hard_silu"}.get(e, e) for e in expected]
    with jaxact.autodiff(mode=mode):
        assert functions(lambda x: function(x, *arguments), X) == expected


def test_finds_what_a_residual_setting_traces():
    for residual in ("mask", "quantized", "input"):
        with jaxact.autodiff(residual=residual):
            assert functions(lambda x: jaxact.gelu(jaxact.leaky_relu(x)), X) == [
                "leaky_relu",
                "gelu",
            ]


@jax.jit
def relu(x):
    return x * x + 1


@jax.custom_jvp
def straight_through(x):
    return jnp.maximum(x, 0)


straight_through.defjvps(lambda t, ans, x: t)


@jax.custom_vjp
def late_gradient(x):
    return jax.nn.relu(x)


late_gradient.defvjp(lambda x: (late_gradient(x), x), lambda x, g: (jnp.where(x > 1, g, 0),))

OTHERS = {
    "another function called relu": relu,
    "max in the other order": lambda x: jnp.maximum(0.0, x.var(-1)),
    "a floor above zero": lambda x: jnp.maximum(x, 1e-6),
    "integers": lambda x: jnp.maximum(x.astype(int), 0),
    "softmax": jax.nn.softmax,
    "a slope that follows from x": lambda x: jnp.where(x > 0, x, jnp.exp(x) * x),
    "a square": lambda x: jnp.where(x > 0, x, x * x),
    "a slope above 1": lambda x: jnp.maximum(x, 2.0 * x),
    "clip": lambda x: jnp.clip(x, -1, 1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_does_not_find(name):
    assert functions(OTHERS[name], X) == []


@pytest.mark.parametrize("fn", [straight_through, late_gradient], ids=["jvp", "vjp"])
def test_an_activation_with_a_derivative_of_its_own_is_judged_by_that(fn):
    _, report = jax.jit(jaxact.probe(lambda x: fn(x - 2)))(X)
    (site,) = report.sites
    assert site.function == "relu"
    slopes = np.asarray(jax.vmap(jax.vmap(jax.grad(fn)))(X - 2))
    np.testing.assert_array_equal(site.active, (slopes != 0).mean(0))
    assert site.dead.any() == (fn is late_gradient)


def test_a_larger_function_is_not_taken_for_its_parts():
    assert functions(lambda x: jax.nn.mish(jax.nn.hard_silu(jax.nn.selu(x))), X) == [
        "selu",
        "hard_silu",
        "mish",
    ]


def test_a_jitted_function_that_computes_more_is_looked_into():
    @jax.jit
    def layer(w, x):
        return jax.nn.relu(x @ w) @ w

    assert functions(layer, W, X) == ["relu"]


def test_paths_are_name_stacks_or_lines_of_code():
    def model(w, x):
        with jax.named_scope("encoder"), jax.named_scope("block"):
            x = jax.nn.relu(x @ w)
        return jaxact.prelu(x, jnp.full(32, 0.1))

    for fn in (model, jax.jit(model), jax.checkpoint(model)):
        _, report = jaxact.probe(fn)(W, X)
        first, second = report.sites
        assert first.path == "encoder/block"
        assert first.source.startswith("test_probe.py:")
        assert second.path == second.source != first.source


# ------------------------------------------------------------------------------------------------
# Where it is found, and that nothing changes

MESH = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def scanned(stack, x):
    return lax.scan(lambda c, w: (c + jax.nn.gelu(c @ w), jaxact.silu(c).sum()), x, stack)


def backwards(stack, x):
    return lax.scan(lambda c, w: (c + jax.nn.relu(c @ w), None), x, stack, reverse=True)[0]


def nested(stack, x):
    def inner(c, _):
        return jax.nn.relu(c @ W), None

    return lax.scan(
        lambda c, w: (lax.scan(inner, jnp.tanh(c @ w), None, length=2)[0], None), x, stack
    )[0]


def looped(w, x):
    return lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, jax.nn.relu(s[1] @ w)), (0, x))[
        1
    ]


def branched(w, x):
    return lax.cond(x.sum() > 1e6, lambda v: jax.nn.silu(v @ w), lambda v: jax.nn.relu(v @ w), x)


def sharded(w, x):
    return jax.shard_map(
        lambda w, x: jax.nn.relu(x @ w) @ w,
        mesh=MESH,
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec("data"),
    )(w, x)


def sharded_loop(w, x):
    """Everything inside shard_map: a scan, a while loop, a branch."""

    def local(w, x):
        return branched(w, looped(w, scanned(w[None], x)[0]))

    return jax.shard_map(
        local,
        mesh=MESH,
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec("data"),
    )(w, x)


@jax.custom_vjp
def own_derivative(w, x):
    return jax.nn.relu(x @ w) @ w


own_derivative.defvjp(
    lambda w, x: (own_derivative(w, x), (w, x)), lambda r, g: (r[0] * 0, g @ r[0].T)
)

MODELS = {
    "plain": (lambda w, x: jax.nn.relu(x @ w) @ w, W, ["relu"]),
    "jit": (jax.jit(lambda w, x: jax.nn.relu(x @ w) @ w), W, ["relu"]),
    "vmap": (lambda w, x: jax.vmap(lambda v: jax.nn.relu(v @ w))(x), W, ["relu"]),
    "remat": (jax.checkpoint(lambda w, x: jax.nn.relu(x @ w) @ w), W, ["relu"]),
    "scan": (scanned, STACK, ["gelu", "silu"] * 3),
    "reverse scan": (backwards, STACK, ["relu"] * 3),
    # The inner scan's steps have the same weights.
    "nested scans": (nested, STACK, ["tanh", "relu"] * 3),
    "while": (looped, W, ["relu"]),
    "cond": (branched, W, ["relu", "silu"]),
    "shard_map": (sharded, W, ["relu"]),
    "shard_map of loops": (sharded_loop, W, ["gelu", "silu", "relu", "relu", "silu"]),
    "custom_vjp": (own_derivative, W, ["relu"]),
    "mlp": (lambda w, x: jaxact.mlp(x, w, w, activation="relu"), W, ["relu"]),
    "gated_mlp": (lambda w, x: jaxact.gated_mlp(x, w, w, w), W, ["swiglu"]),
    "gated_mlp of mish": (
        lambda w, x: jaxact.gated_mlp(x, w, w, w, activation="mish"),
        W,
        ["mish"],
    ),
}


def total(fn):
    return lambda *args: sum(leaf.sum() for leaf in jax.tree.leaves(fn(*args)))


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, "reverse") for name in MODELS),
        *((name, "both") for name in ("scan", "cond", "mlp", "gated_mlp of mish")),
    ],
)
def test_values_and_gradients_are_those_of_the_unprobed_function(name, mode):
    model, w, expected = MODELS[name]
    with jaxact.autodiff(mode=mode):
        probed = jaxact.probe(model)
        out, report = jax.jit(probed)(w, X)
        assert sorted(site.function for site in report.sites) == sorted(expected)
        assert_equal(out, jax.jit(model)(w, X))
        if name in ("while", "shard_map of loops"):  # no reverse mode through while loops
            return
        loss = total(model)

        def probed_loss(w, x):
            out, report = probed(w, x)
            return total(lambda: out)(), report

        gradients, inside = jax.jit(jax.grad(probed_loss, argnums=(0, 1), has_aux=True))(w, X)
        assert_equal(gradients, jax.jit(jax.grad(loss, argnums=(0, 1)))(w, X))
        # The forward pass of a gradient is seen as it is without one.
        for a, b in zip(inside.sites, report.sites, strict=True):
            np.testing.assert_array_equal(a.active, b.active)
            np.testing.assert_allclose(a.mean, b.mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "scan",
        "cond",
        "mlp",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("jit", "shard_map", "custom_vjp")
        ),
    ],
)
def test_outside_jit_too(name):
    model, w, _ = MODELS[name]
    out, report = jaxact.probe(model)(w, X)
    assert_equal(out, model(w, X))
    np.testing.assert_array_equal(
        [site.active for site in report.sites],
        [site.active for site in jax.jit(jaxact.probe(model))(w, X)[1].sites],
    )


def test_outside_jit_a_jitted_layer_compiles_once():
    traces = []

    @jax.jit
    def layer(w, x):
        traces.append(1)
        return jax.nn.relu(x @ w) @ w

    probed = jaxact.probe(lambda w, x: layer(w, layer(w, x)))
    with jax.log_compiles(False):
        first = probed(W, X)
        count = calls._jitted_again.cache_info().currsize
        second = probed(W, X)
    assert_equal(first, second)
    assert len(traces) == 1
    assert calls._jitted_again.cache_info().currsize == count


# ------------------------------------------------------------------------------------------------
# The figures


def direct(function, x, axis=-1, saturation=1e-3):
    """count, active, saturated, dead, mean and second moment, computed plainly."""
    x = jnp.moveaxis(x, axis, -1)
    x = x.reshape(-1, x.shape[-1])
    slope = np.asarray(jax.jit(jax.vmap(jax.vmap(jax.grad(function))))(x), np.float64)
    values = np.asarray(x, np.float64)
    active = (slope != 0).mean(0)
    return (
        np.full(x.shape[1], len(x)),
        active,
        (abs(slope) < saturation).mean(0),
        active == 0,
        values.mean(0),
        (values**2).mean(0),
    )


def assert_figures(site, expected):
    count, active, saturated, dead, mean, second_moment = expected
    np.testing.assert_array_equal(site.count, count)
    np.testing.assert_array_equal(site.active, active)
    np.testing.assert_array_equal(site.saturated, saturated)
    np.testing.assert_array_equal(site.dead, dead)
    scale = np.sqrt(second_moment)
    np.testing.assert_allclose(site.mean, mean, rtol=0, atol=1e-6 * scale.max())
    np.testing.assert_allclose(site.second_moment, second_moment, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        # Rows are summed in blocks of eight: none, a rest, whole ones.
        *(("relu", shape) for shape in [(7, 5), (19, 5), (16, 32), (4096, 16)]),
        *(("relu", shape) for shape in [(64, 3, 4), (8, 6, 6, 5)]),
        *((name, (64, 3, 4)) for name in ("leaky_relu", "hard_tanh", "gelu", "sigmoid")),
    ],
    ids=str,
)
def test_figures_are_those_of_a_direct_computation(name, shape):
    function = jaxact.ACTIVATIONS[name]
    x = normal(2, shape) * 3
    x = x.at[..., 0].set(-abs(x[..., 0]) - 1)  # dead, for a ReLU
    _, report = jaxact.probe(function)(x)
    (site,) = report.sites
    assert site.shape == shape
    assert_figures(site, direct(function, x))
    assert site.histogram.sum() > 0


@pytest.mark.parametrize("axis", [0, -2])
def test_units_along_another_axis(axis):
    x = normal(2, (6, 8, 10))
    _, report = jaxact.probe(jax.nn.relu, axis=axis)(x)
    assert_figures(report.sites[0], direct(jax.nn.relu, x, axis))


def test_an_axis_for_each_site():
    def model(x):
        return jax.nn.relu(jnp.tanh(x))

    _, report = jaxact.probe(model, axis=lambda site: 0 if site.function == "tanh" else -1)(X)
    assert [len(site.active) for site in report.sites] == [16, 32]


def test_the_threshold_of_saturation():
    _, report = jaxact.probe(jnp.tanh, saturation=0.5)(X)
    assert_figures(report.sites[0], direct(jnp.tanh, X, saturation=0.5))


@pytest.mark.parametrize("case", ["scan", "reverse scan", "while", "shard_map", "cond"])
def test_figures_of_every_iteration(case):
    model, w, _ = MODELS[case]
    _, report = jax.jit(jaxact.probe(model))(w, X)
    if case in ("scan", "reverse scan"):
        carry, seen = X, []
        function = jax.nn.gelu if case == "scan" else jax.nn.relu
        for w_i in w if case == "scan" else w[::-1]:
            seen.append(carry @ w_i)
            carry = carry + function(seen[-1])
        sites = [site for site in report.sites if site.index == 0]
        assert [site.iteration for site in sites] == [(0,), (1,), (2,)]
        for site, pre in zip(sites, seen, strict=True):
            np.testing.assert_allclose(site.mean, pre.mean(0), rtol=1e-4, atol=1e-6)
    elif case == "while":
        values, seen = X, []
        for _ in range(5):
            seen.append(values @ w)
            values = jax.nn.relu(seen[-1])
        (site,) = report.sites
        assert (site.count == 5 * 16).all()
        np.testing.assert_allclose(site.mean, jnp.concatenate(seen).mean(0), rtol=1e-4, atol=1e-6)
    else:
        taken = [site for site in report.sites if site.function == "relu"]
        np.testing.assert_allclose(taken[0].mean, (X @ w).mean(0), rtol=1e-4, atol=1e-6)
        assert (taken[0].count == 16).all()
        for site in report.sites:
            if site.function != "relu":
                assert (site.count == 0).all() and not site.dead.any()


def test_iterations_come_in_order_of_execution():
    _, report = jaxact.probe(nested, scan="steps")(STACK, X)
    assert [(s.function, s.iteration) for s in report.sites][:4] == [
        ("tanh", (0,)),
        ("relu", (0, 0)),
        ("relu", (0, 1)),
        ("tanh", (1,)),
    ]


def test_vmap_of_a_probed_function_gives_a_report_for_each():
    stack = jnp.stack([X, X + 1, X - 1])
    probed = jaxact.probe(lambda x: jax.nn.relu(x @ W))
    _, report = jax.vmap(probed)(stack)
    (site,) = report.sites
    for i in range(3):
        (one,) = probed(stack[i])[1].sites
        np.testing.assert_array_equal(site.active[i], one.active)


def test_streams_in_a_jitted_training_step():
    probed = jaxact.probe(lambda w, x: jax.nn.relu(x @ w))
    batches = normal(3, (10, 16, 32))

    @jax.jit
    def step(w, report, x):
        def loss(w):
            out, new = probed(w, x)
            return (out**2).mean(), new

        gradient, new = jax.grad(loss, has_aux=True)(w)
        return w - 0.0 * gradient, new if report is None else report.merge(new)

    w, report = W, None
    for x in batches:
        w, report = step(w, report, x)
    assert_figures(report.sites[0], direct(jax.nn.relu, (batches @ W).reshape(-1, 32)))

    def scan_step(report, x):
        return report.merge(probed(W, x)[1]), None

    empty = jax.tree.map(jnp.zeros_like, report)
    scanned_report = jax.jit(lambda: lax.scan(scan_step, empty, batches)[0])()
    assert_figures(scanned_report.sites[0], direct(jax.nn.relu, (batches @ W).reshape(-1, 32)))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("layout", [(8, 1), (2, 4)], ids=str)
def test_on_a_mesh_the_figures_are_those_of_one_device(kind, layout):
    x = normal(4, (64, 32))

    def model(w, x):
        return jax.nn.relu(x @ w)

    mesh = jax.make_mesh(layout, ("data", "model"), axis_types=(kind, kind))
    place = functools.partial(jax.sharding.NamedSharding, mesh)
    with jax.set_mesh(mesh):
        w = jax.device_put(W, place(PartitionSpec(None, "model")))
        out, report = jax.jit(jaxact.probe(model))(
            w, jax.device_put(x, place(PartitionSpec("data")))
        )
    np.testing.assert_allclose(out, model(W, x), rtol=1e-5, atol=1e-6)
    _, alone = jaxact.probe(model)(W, x)
    (site,), (expected,) = report.sites, alone.sites
    np.testing.assert_array_equal(site.count, expected.count)
    np.testing.assert_allclose(site.active, expected.active, atol=1 / 64)
    np.testing.assert_allclose(site.second_moment, expected.second_moment, rtol=1e-5)


def test_sixteen_bits_are_summed_in_32():
    x = jnp.ones((4096, 8), jnp.bfloat16) * 3
    _, report = jaxact.probe(jax.nn.relu)(x)
    np.testing.assert_array_equal(report.sites[0].mean, 3)
    np.testing.assert_array_equal(report.sites[0].second_moment, 9)


def test_infinities_and_nans_are_seen():
    x = jnp.array([[jnp.nan, jnp.inf, -jnp.inf, 1.0]] * 2)
    _, report = jaxact.probe(jaxact.relu)(x)
    (site,) = report.sites
    assert np.isnan(site.mean[0]) and site.mean[1] == np.inf
    assert site.dead.tolist() == [False, False, True, False]


def weights_on_the_left(function, x):
    return jax.vmap(lambda x: function(W @ x))(x)


@pytest.mark.parametrize("name", ["relu", "elu", "gelu", "leaky_relu"])
def test_finds_what_vmap_has_moved_axes_of(name):
    """There, vmap puts its axis behind the others."""
    model = functools.partial(weights_on_the_left, getattr(jax.nn, name))
    assert functions(model, X) == [name]
    out, _ = jax.jit(jaxact.probe(model))(X)
    assert_equal(out, jax.jit(model)(X))
    swapped = jaxact.swap(model, {name: jaxact.mish})
    expected = weights_on_the_left(jaxact.mish, X)
    np.testing.assert_allclose(swapped(X), expected, rtol=1e-5, atol=1e-6)


def test_a_condition_of_a_loop_is_looked_into():
    def model(x):
        return lax.while_loop(lambda h: jax.nn.silu(h).sum() < 3, lambda h: jax.nn.relu(h) + 0.5, x)

    x = jnp.array([-9.0, 0.2])
    _, report = jax.jit(jaxact.probe(model))(x)
    steps, h = 0, x
    while jax.nn.silu(h).sum() < 3:
        steps, h = steps + 1, jax.nn.relu(h) + 0.5
    # The condition that ends the loop is not recorded.
    assert [(s.function, s.count.tolist()) for s in report.sites] == [
        ("silu", [steps] * 2),
        ("relu", [steps] * 2),
    ]
    swapped = jaxact.swap(model, {"silu": jaxact.softplus})(x)
    by_hand = x
    while jaxact.softplus(by_hand).sum() < 3:
        by_hand = jax.nn.relu(by_hand) + 0.5
    np.testing.assert_array_equal(swapped, by_hand)
    assert not (swapped == jax.jit(model)(x)).all()


def test_side_effects_happen_once(capsys):
    @jax.custom_vjp
    def fn(x):
        jax.debug.print("once")
        return jax.nn.relu(x) * 2

    fn.defvjp(lambda x: (fn(x), x), lambda x, g: (g,))
    _, report = jaxact.probe(fn)(X)
    jax.effects_barrier()
    assert capsys.readouterr().out.count("once") == 1
    assert len(report.sites) == 1


def test_inside_custom_vmap():
    @jax.custom_batching.custom_vmap
    def fn(x):
        return jax.nn.relu(x) * 2

    fn.def_vmap(lambda size, batched, x: (fn(x), batched[0]))
    assert functions(fn, X) == ["relu"]


@pytest.mark.parametrize("function", [jax.nn.relu, jaxact.relu, jax.nn.gelu])
def test_inside_shard_map(function):
    """Where the call of the probe itself is."""

    def local(x):
        _, report = jaxact.probe(function)(x)
        return jax.tree.map(lambda leaf: leaf[None], report)

    spread = jax.shard_map(
        local, mesh=MESH, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data")
    )
    (site,) = jax.jit(spread)(X).sites
    assert site.active.shape == (8, 32)
    np.testing.assert_allclose(site.mean.mean(0), X.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        jax.nn.relu,
        pytest.param(jaxact.relu, marks=pytest.mark.slow),
        pytest.param(jax.nn.silu, marks=pytest.mark.slow),
    ],
)
def test_shard_map_over_an_explicit_mesh_that_is_set(function):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(X, jax.sharding.NamedSharding(mesh, PartitionSpec("data")))
        model = jax.shard_map(
            lambda x: function(x), in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data")
        )
        for probed in (jaxact.probe(model), jax.jit(jaxact.probe(model))):
            out, report = probed(x)
            assert_equal(np.asarray(out), np.asarray(jax.jit(model)(x)))
            assert report.sites[0].count.tolist() == [16] * 32
        swapped = jaxact.swap(model, {0: jnp.sin})(x)
    np.testing.assert_allclose(np.asarray(swapped), np.sin(X), rtol=1e-6)


def test_inside_auto_axes():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(X, jax.sharding.NamedSharding(mesh, PartitionSpec("data")))

        def model(x):
            inner = jax.sharding.auto_axes(
                lambda x: jax.nn.relu(x) * 2, out_sharding=PartitionSpec("data")
            )
            return jax.nn.gelu(inner(x))

        out, report = jax.jit(jaxact.probe(model))(x)
        assert_equal(np.asarray(out), np.asarray(jax.jit(model)(x)))
    assert [site.function for site in report.sites] == ["relu", "gelu"]


def test_the_relu_of_a_constant_is_none():
    assert functions(lambda x: x.sum() + jax.nn.relu(jnp.ones(3)) + jax.nn.relu(0.5), X) == []


def test_a_report_of_shapes_has_its_places():
    _, report = jax.eval_shape(jaxact.probe(scanned), STACK, X)
    assert [(s.function, s.iteration) for s in report.sites][:2] == [("gelu", (0,)), ("silu", (0,))]


# ------------------------------------------------------------------------------------------------
# Costs


def deep(ws, x):
    for w in ws:
        x = jax.nn.relu(x @ w)
    return x


def temporaries(fn, *args):
    return jax.jit(fn).lower(*args).compile().memory_analysis().temp_size_in_bytes


def test_nothing_of_activation_size_is_kept():
    x = jax.ShapeDtypeStruct((4096, 256), jnp.float32)
    activation = 4096 * 256 * 4

    def weights(depth):
        return [jax.ShapeDtypeStruct((256, 256), jnp.float32)] * depth

    probed = jaxact.probe(deep)
    # What is added is for one layer at a time, whatever the depth.
    for depth in (4, 12):
        more = temporaries(probed, weights(depth), x) - temporaries(deep, weights(depth), x)
        assert more < 3 * activation, depth
    report = jax.eval_shape(probed, weights(4), x)[1]
    assert sum(leaf.size for leaf in jax.tree.leaves(report)) < 16 * 4 * 256

    # The backward pass keeps what it keeps without the probe.
    kept = jaxact.memory.residuals(deep, weights(4), x).total
    assert jaxact.memory.residuals(lambda w, x: probed(w, x)[0], weights(4), x).total == kept


@pytest.mark.parametrize("shape", [(4097, 256), (31, 197, 96), (333, 3, 401)], ids=str)
def test_sizes_that_nothing_divides_cost_no_more(shape):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    histogram = 2**14 * 64 * 4
    assert temporaries(jaxact.probe(jax.nn.relu), x) < 2 * x.size * 4 + histogram


def test_no_collectives_but_the_sums():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    place = functools.partial(jax.sharding.NamedSharding, mesh)
    x = jax.ShapeDtypeStruct((1024, 256), jnp.float32, sharding=place(PartitionSpec("data")))
    w = jax.ShapeDtypeStruct((256, 256), jnp.float32, sharding=place(PartitionSpec()))
    text = jax.jit(jaxact.probe(deep)).lower([w] * 2, x).compile().as_text()
    assert "all-reduce" in text
    for collective in ("all-gather", "all-to-all", "collective-permute"):
        assert collective not in text


# ------------------------------------------------------------------------------------------------
# Errors


def test_errors():
    with pytest.raises(TypeError, match="probe: fn must be a function"):
        jaxact.probe(3)
    with pytest.raises(TypeError, match="probe: axis must be an integer or a function"):
        jaxact.probe(jax.nn.relu, axis="last")
    for saturation in (2, 0, "0.1"):
        with pytest.raises(ValueError, match="probe: saturation must be a number above 0 and"):
            jaxact.probe(jax.nn.relu, saturation=saturation)
    for axis in (2, 3, -3):
        with pytest.raises(ValueError, match=rf"probe: axis {axis} .* \(16, 32\) of site 0, relu"):
            jaxact.probe(jax.nn.relu, axis=axis)(X)
    with pytest.raises(TypeError, match="axis must return an integer, got None for site 0"):
        jaxact.probe(jax.nn.relu, axis=lambda site: None)(X)
    _, report = jaxact.probe(jax.nn.relu, axis=np.int64(0))(X)
    assert report.sites[0].dead.shape == (16,)


def test_arguments_that_are_not_arrays_stay_as_they_are():
    def model(x, *, train, name="a"):
        assert train is True and name == "b"
        return {"y": jax.nn.relu(x), "name": name}

    out, _ = jaxact.probe(model)(X, train=True, name="b")
    assert out["name"] == "b"
    np.testing.assert_array_equal(out["y"], jax.nn.relu(X))


@pytest.mark.parametrize("name", ["relu", "gelu", "softplus", "elu", "leaky_relu", "mish"])
@pytest.mark.parametrize("mode", ["both", "plain"])
def test_jaxacts_functions_are_found_in_every_mode(mode, name):
    activation = jaxact.ACTIVATIONS[name]

    def model(x):
        return activation(x @ W)

    (expected,) = jax.jit(jaxact.probe(model))(X)[1].sites
    with jaxact.autodiff(mode=mode):
        (site,) = jax.jit(jaxact.probe(model))(X)[1].sites
        swapped = jax.jit(jaxact.swap(model, {name: jnp.sin}))(X)
    assert site.function == name
    np.testing.assert_array_equal(site.active, expected.active)
    np.testing.assert_array_equal(site.saturated, expected.saturated)
    np.testing.assert_array_equal(swapped, jax.jit(lambda x: jnp.sin(x @ W))(X))


# ------------------------------------------------------------------------------------------------
# Nothing found


def convolution(x):
    return lax.conv_general_dilated(x[None, None], W[None, None], (1, 1), "SAME")


def solved(x):
    """The product is inside a call that is not known."""
    return lax.custom_linear_solve(lambda v: (W + 9 * jnp.eye(32)) @ v, x[0], lambda _, b: b)


@pytest.mark.parametrize(
    "model",
    [
        lambda x: x @ W,
        jax.jit(lambda x: jnp.sin(jnp.einsum("ij,jk->ik", x, W))),
        lambda x: lax.scan(jax.checkpoint(lambda h, w: (h @ w, None)), x, STACK)[0],
        jax.custom_jvp(lambda x: jnp.exp(x @ W)),
        convolution,
    ],
    ids=["product", "einsum", "scan of remat", "custom_jvp", "convolution"],
)
def test_an_empty_report_of_a_function_with_matrix_products_is_warned_of(model):
    if isinstance(model, jax.custom_jvp):
        model.defjvp(lambda primals, tangents: (model(*primals), tangents[0]))
    with pytest.warns(UserWarning, match="no activation was found in a function with matrix") as w:
        _, report = jaxact.probe(model)(X)
    assert report.sites == ()
    assert len(w) == 1 and w[0].filename == __file__
    assert "Not looked into" not in str(w[0].message)


def test_the_warning_names_what_is_not_looked_into():
    with pytest.warns(UserWarning, match=r"Not looked into: custom_linear_solve \(1\)\."):
        jaxact.probe(solved)(X)


@pytest.mark.parametrize(
    "model",
    [
        lambda x: jnp.sin(x).sum(),
        lambda x: jax.nn.relu(x @ W),
        lambda x: x @ W + jaxact.mlp(x, W, W),
        lambda x: lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), x, STACK)[0],
    ],
    ids=["no product", "relu", "block", "scan"],
)
def test_other_reports_are_not_warned_of(model):
    """Warnings are errors here."""
    jaxact.probe(model)(X)


# ------------------------------------------------------------------------------------------------
# What it costs to trace


@pytest.fixture
def traced(monkeypatch):
    """The known activations that are traced from now on, by number, as in a fresh process."""
    counted = []
    for cached in (patterns.patterns, patterns._table, patterns._traced):
        cached.cache_clear()
    build = patterns._pattern
    monkeypatch.setattr(
        patterns, "_pattern", lambda known, *args: counted.append(known) or build(known, *args)
    )
    yield counted
    for cached in (patterns.patterns, patterns._table, patterns._traced):
        cached.cache_clear()


def test_patterns_are_traced_only_where_their_operations_occur(traced):
    def model(x):
        return jax.nn.relu(x) @ jnp.ones((4, 4), x.dtype)

    def shape(fn, *shape, dtype=jnp.float32):
        return jax.eval_shape(jaxact.probe(fn), jax.ShapeDtypeStruct(shape, dtype))

    shape(model, 3, 4)
    # The call with a derivative of its own, and the maximum that is in it.
    assert [known.mark for known in traced] == ["relu"] * 2 and len(patterns.KNOWN) > 50
    shape(model, 2, 3, 4)
    shape(model, 4, dtype=jnp.bfloat16)
    shape(lambda x: jax.nn.relu(x.sum()), 3, 4, dtype=jnp.float16)
    assert len(traced) == 2
    shape(jax.grad(lambda x: model(x).sum()), 3, 4)
    assert {known.mark for known in traced} <= {"relu", "leaky_relu"} and len(traced) < 12


def built(known, dtype, rank, differentiated):
    x = jax.ShapeDtypeStruct((3,) * rank, dtype)
    jaxpr = jax.make_jaxpr(known.function)(x, *[0.5] * known.parameters).jaxpr
    yield patterns._pattern(known, Graph(jaxpr), jaxpr.invars)
    if differentiated and known.mark != "crelu":
        yield from patterns._with_derivative(known, x)


def form(pattern, dtype):
    """A pattern as a value that compares: what it computes at a dtype, and how."""

    def line(reference):
        if isinstance(reference, Scalar):
            return float(np.asarray(reference.value).astype(dtype))
        if not isinstance(reference, Node):
            return "x" if reference is pattern.x else pattern.parameters.index(reference)
        return reference.operation, reference.key, tuple(map(line, reference.inputs))

    has_rule = pattern.root.operation == "custom_jvp"
    return line(pattern.root), has_rule and graphs.derivative(pattern.root.equation)


def operations(pattern):
    """The operations that a level with the pattern in it has."""
    graph = object.__new__(Graph)
    nodes, waiting = [], [pattern.root]
    while waiting:
        if isinstance(node := waiting.pop(), Node):
            nodes.append(node)
            waiting.extend(node.inputs)
    graph.nodes = [nodes]
    return graph.operations


def test_one_pattern_serves_all_ranks_small_dtypes_and_derivatives():
    for known in patterns.KNOWN:
        plain, *others = built(known, jnp.float32, 1, True)
        assert known.required <= operations(plain), known
        assert known.has_rule == ("custom_jvp" in operations(plain)), known
        if not known.has_rule:
            assert all(form(p, jnp.float32) == form(plain, jnp.float32) for p in others), known
        assert all(known.required - {"custom_jvp"} <= operations(p) for p in others), known
        if known.mark != "crelu":
            for dtype, rank in ((jnp.bfloat16, 0), (jnp.float16, 3)):
                (same,) = built(known, dtype, rank, False)
                assert form(same, dtype) == form(plain, dtype), known


# ------------------------------------------------------------------------------------------------
# What cannot be traced


def values(x):
    yield jax.nn.relu(x)


async def awaited(x):
    return jax.nn.relu(x)


async def awaited_values(x):
    yield jax.nn.relu(x)


class Later:
    async def __call__(self, x):
        return jax.nn.relu(x)


@pytest.mark.parametrize("public", [jaxact.probe, lambda fn: jaxact.swap(fn, "jaxact")])
@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (values, r"fn is a generator function, .* Pass .*list\(fn"),
        (awaited, "fn is an async function, .* Pass the function without async"),
        (awaited_values, "fn is an async function"),
        (Later(), "fn is an async function"),
        (
            flax.linen.Dense(3),
            r"Linen module without variables \(Dense\). Pass its apply: jaxact",
        ),
        (3, "fn must be a function or a callable model, got 3"),
    ],
)
def test_what_cannot_be_traced_is_an_error_with_the_remedy(public, fn, message):
    with pytest.raises(TypeError, match=message):
        public(fn)


@pytest.mark.parametrize("fn", [values, awaited, awaited_values])
@pytest.mark.filterwarnings("ignore:coroutine")
def test_results_that_are_not_computed_yet_are_an_error(fn):
    with pytest.raises(TypeError, match="values are not computed yet. Let it return arrays"):
        jaxact.probe(lambda x: (fn(x), x))(normal(0, (3, 4)))


class Hostile:
    """Whose attributes raise, but those that calling it needs."""

    @property
    def __name__(self):
        raise RuntimeError("no name")

    def __getattr__(self, name):
        raise RuntimeError(f"no {name}")

    def __call__(self, x):
        return jax.nn.relu(x)


class HostileModule(nnx.Module):
    def __init__(self):
        self.scale = nnx.Param(jnp.ones(()))

    @property
    def loss(self):
        raise RuntimeError("call the module first")

    def __getattr__(self, name):
        raise RuntimeError(f"no {name}")

    def __call__(self, x):
        return jax.nn.relu(x * self.scale)


@pytest.mark.parametrize("kind", [Hostile, HostileModule])
def test_attributes_that_raise_are_not_read(kind):
    x = normal(0, (3, 4))
    out, report = jaxact.probe(kind())(x)
    np.testing.assert_array_equal(out, jax.nn.relu(x))
    assert [site.function for site in report.sites] == ["relu"]
    np.testing.assert_array_equal(jaxact.swap(kind(), "jaxact")(x), jaxact.relu(x))


def test_a_bound_linen_module_is_a_function():
    model = flax.linen.Dense(3)
    x = normal(0, (2, 4))
    bound = model.bind(model.init(jax.random.key(0), x))
    with pytest.warns(UserWarning, match="no activation was found"):
        out, _ = jaxact.probe(bound)(x)
    np.testing.assert_array_equal(out, bound(x))


def test_a_directory_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    _, report = jaxact.probe(jax.nn.relu)(normal(0, (3, 4)))
    assert "relu" in str(report)
