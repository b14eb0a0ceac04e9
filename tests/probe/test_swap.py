"""`jaxact.swap`: the swapped function is the one written with the replacement.

Models of Flax, Equinox and Haiku are in test_models.py.
"""

import functools

import flax.errors
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import AxisType, PartitionSpec

import jaxact
import jaxact.linen
import jaxact.nnx
from jaxact._core.elementwise import DECLARED
from jaxact._probe import forms
from jaxact.memory import residuals
from tests.support.samples import normal

X = normal(0, (16, 32))
W = normal(1, (32, 32)) / 6
STACK = jnp.stack([W * (i + 1) / 2 for i in range(3)])
MESH = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def two_layers(act, w, x):
    return act(x @ w) @ w


def scanned(act, w, x):
    return lax.scan(lambda c, w: (c + act(c @ w), None), x, jnp.stack([w, w / 2, w / 3]))[0]


def looped(act, w, x):
    return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, act(s[1] @ w)), (0, x))[1]


def branched(act, w, x):
    return lax.cond(x.sum() > 1e6, lambda v: v @ w, lambda v: act(v @ w), x)


def sharded(act, w, x):
    return jax.shard_map(
        lambda w, x: act(x @ w) @ w,
        mesh=MESH,
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec("data"),
    )(w, x)


def scoped(act, w, x):
    for name in ("encoder", "decoder"):
        with jax.named_scope("model"), jax.named_scope(name):
            x = act(x @ w)
    return x


STRUCTURES = {
    "plain": two_layers,
    "jit": lambda act, w, x: jax.jit(functools.partial(two_layers, act))(w, x),
    "vmap": lambda act, w, x: jax.vmap(lambda v: act(v @ w))(x),
    "remat": lambda act, w, x: jax.checkpoint(functools.partial(two_layers, act))(w, x),
    "scan": scanned,
    "while": looped,
    "cond": branched,
    "shard_map": sharded,
    "mlp": lambda act, w, x: jaxact.mlp(x, w, w, activation=act),
    "gated_mlp": lambda act, w, x: jaxact.gated_mlp(x, w, w, w, activation=act),
}


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def value_and_gradients(fn):
    return jax.jit(jax.value_and_grad(lambda *args: (fn(*args) ** 2).sum(), argnums=(0, 1)))


@pytest.mark.parametrize(
    ("name", "before"),
    [
        *((name, jax.nn.relu) for name in STRUCTURES),
        *((name, jaxact.relu) for name in ("plain", "scan")),
    ],
)
def test_is_the_function_written_with_the_replacement(name, before):
    if name == "gated_mlp":  # one function of gate and up
        before, select, after, replacement = jaxact.silu, "swiglu", jaxact.gelu, jaxact.geglu
    else:
        select, after = "relu", jaxact.leaky_relu
        replacement = after
    model = functools.partial(STRUCTURES[name], before)
    written = functools.partial(STRUCTURES[name], after)
    swapped = jaxact.swap(model, {select: replacement})
    assert_equal(jax.jit(swapped)(W, X), jax.jit(written)(W, X))
    if name != "while":
        assert_equal(value_and_gradients(swapped)(W, X), value_and_gradients(written)(W, X))


def test_outside_jit():
    swapped = jaxact.swap(functools.partial(scanned, jax.nn.relu), {"relu": "elu"})
    np.testing.assert_allclose(swapped(W, X), scanned(jaxact.elu, W, X), rtol=1e-6)


SELECTORS = {
    "name": ("relu", (True, True)),
    "index": (1, (False, True)),
    "pattern": ("*/encoder/*", (True, False)),
    "pattern without the function": ("*/decoder", (False, True)),
    "path": ("model/encoder", (True, False)),
    "pattern of all": ("*", (True, True)),
    "function": (lambda site: site.path.endswith("coder") and site.index == 0, (True, False)),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_selectors(name):
    selector, replaced = SELECTORS[name]
    acts = [jaxact.leaky_relu if r else jax.nn.relu for r in replaced]
    expected = acts[1](acts[0](X @ W) @ W)
    swapped = jaxact.swap(functools.partial(scoped, jax.nn.relu), {selector: jaxact.leaky_relu})
    np.testing.assert_array_equal(jax.jit(swapped)(W, X), jax.jit(lambda: expected)())


def test_the_last_rule_counts():
    swapped = jaxact.swap(
        functools.partial(scoped, jax.nn.relu), {"relu": jnp.tanh, 1: jaxact.leaky_relu}
    )
    expected = jax.jit(lambda w, x: jaxact.leaky_relu(jnp.tanh(x @ w) @ w))(W, X)
    np.testing.assert_array_equal(jax.jit(swapped)(W, X), expected)


def test_swish_is_silu():
    np.testing.assert_array_equal(
        jaxact.swap(jax.nn.silu, {"swish": jaxact.relu})(X), jaxact.relu(X)
    )


def test_composes_with_itself_and_with_probe():
    model = functools.partial(scoped, jax.nn.relu)
    once = jaxact.swap(model, {0: jaxact.gelu})
    twice = jaxact.swap(once, {"gelu": jaxact.mish, "relu": jaxact.silu})
    _, report = jaxact.probe(twice)(W, X)
    assert [(s.function, s.path) for s in report.sites] == [
        ("mish", "model/encoder"),
        ("silu", "model/decoder"),
    ]

    def out(w, x):
        return jaxact.probe(model)(w, x)[0]

    _, report = jaxact.probe(jaxact.swap(out, {"relu": "elu"}))(W, X)
    assert [s.function for s in report.sites] == ["elu", "elu"]


def test_what_only_the_replaced_function_needed_is_gone():
    jaxpr = jax.make_jaxpr(jaxact.swap(lambda x: jax.nn.gelu(x), {"gelu": jaxact.relu}))(X)
    assert "tanh" not in str(jaxpr) and "integer_pow" not in str(jaxpr)

    def shared(x):
        positive = x > 0
        return jnp.where(positive, x, 0.1 * x) * positive.astype(x.dtype)

    swapped = jaxact.swap(shared, {"leaky_relu": jaxact.elu})
    np.testing.assert_allclose(swapped(X), jaxact.elu(X) * (X > 0).astype(X.dtype), rtol=1e-6)


def test_saves_the_residuals_that_jaxact_saves():
    def transformer(act, stack, x):
        def block(x, w):
            q = x @ w
            scores = jax.nn.softmax(q @ x.T)
            return x + act((scores @ x) @ w) @ w, None

        return lax.scan(block, x, stack)[0]

    model = functools.partial(transformer, jax.nn.gelu)
    swapped = jaxact.swap(model, {"gelu": jaxact.gelu})
    before, after, written = (
        residuals(fn, STACK, X).total
        for fn in (model, swapped, functools.partial(transformer, jaxact.gelu))
    )
    assert after == written < 0.8 * before


# ------------------------------------------------------------------------------------------------
# Learned replacements


LEARNED = {
    "function": jaxact.prelu,
    "name": "prelu",
    "partial": functools.partial(jaxact.prelu, axis=1),
    "jaxact.linen": jaxact.linen.PReLU(),
    "flax.linen": flax.linen.PReLU(),
    "jaxact.nnx": jaxact.nnx.PReLU(),
}


@pytest.mark.parametrize("name", LEARNED)
def test_learned_slopes(name):
    swapped = jaxact.swap(functools.partial(scoped, jax.nn.relu), {"relu": LEARNED[name]})
    parameters = swapped.init(W, X)
    assert list(parameters) == ["model/encoder/relu:0", "model/decoder/relu:1"]
    leaves = jax.tree.leaves(parameters)
    slope = float(leaves[0].ravel()[0])
    expected = scoped(lambda h: jaxact.leaky_relu(h, slope), W, X)
    np.testing.assert_allclose(swapped(parameters, W, X), expected, rtol=1e-5, atol=1e-6)
    gradients = jax.jit(jax.grad(lambda p: (swapped(p, W, X) ** 2).sum()))(parameters)
    assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(gradients))


@pytest.mark.parametrize(
    "name",
    [
        *("scan", "shard_map", "mlp"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("jit", "remat", "cond")),
    ],
)
def test_learned_slopes_everywhere(name):
    model = functools.partial(STRUCTURES[name], jax.nn.relu)
    swapped = jaxact.swap(model, {"relu": "prelu"})
    parameters = swapped.init(W, X)
    (tree,) = parameters.values()
    assert tree["alpha"].shape == (32,)

    def written(alpha, w, x):
        return STRUCTURES[name](lambda h: jaxact.prelu(h, alpha), w, x)

    def loss(fn):
        return jax.jit(jax.value_and_grad(lambda p: (fn(p, W, X) ** 2).sum()))

    value, gradients = loss(swapped)(parameters)
    expected, by_hand = loss(written)(tree["alpha"])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    (gradient,) = jax.tree.leaves(gradients)
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-5, atol=1e-5)


def test_learned_slopes_in_a_module():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(32, 32, rngs=rngs)

        def __call__(self, x):
            return jax.nn.relu(self.layer(x))

    model = Model(nnx.Rngs(0))
    swapped = jaxact.swap(model, {"relu": "prelu"})
    parameters = swapped.init(X)
    np.testing.assert_allclose(
        swapped(parameters, X), jaxact.leaky_relu(model.layer(X), 0.25), rtol=1e-6, atol=1e-6
    )


class Stateful(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(32, 32, rngs=rngs)
        self.norm = nnx.BatchNorm(32, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(nnx.relu(self.norm(self.layer(x))))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: jaxact.probe(jaxact.swap(m, {"relu": "gelu"})),
        lambda m: jaxact.probe(jaxact.swap(jaxact.swap(m, {"relu": "mish"}), {"mish": "gelu"})),
        lambda m: jaxact.probe(functools.partial(jaxact.swap(m, {"relu": "gelu"}))),
    ],
)
def test_modules_with_state_compose(wrap):
    model, plain = Stateful(nnx.Rngs(0)), Stateful(nnx.Rngs(0))
    out, report = wrap(model)(X)
    assert [(site.path, site.function) for site in report.sites] == [("Stateful", "gelu")]
    expected = plain.dropout(jaxact.gelu(plain.norm(plain.layer(X))))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    assert model.dropout.rngs.count.get_value() == plain.dropout.rngs.count.get_value() == 1
    np.testing.assert_allclose(model.norm.mean.get_value(), plain.norm.mean.get_value(), rtol=1e-5)


def test_a_module_that_is_closed_over_and_changes_is_an_error_with_the_remedy():
    model = Stateful(nnx.Rngs(0))
    with pytest.raises(flax.errors.TraceContextError, match="trace level") as error:
        jaxact.probe(lambda x: model(x))(X)
    assert any("Make it an argument" in note for note in error.value.__notes__)


def test_parameters_that_are_missing():
    swapped = jaxact.swap(functools.partial(scoped, jax.nn.relu), {0: "prelu"})
    with pytest.raises(ValueError, match=r"no parameters for 'model/encoder/relu:0' among \['a'\]"):
        swapped({"a": 1}, W, X)
    with pytest.raises(TypeError, match=r"the tree that swapped.init\(\*args\) makes"):
        swapped(W, X)


# ------------------------------------------------------------------------------------------------
# Errors


def test_selectors_that_match_nothing_list_the_activations():
    swapped = jaxact.swap(functools.partial(scoped, jax.nn.relu), {"gelu": jaxact.relu})
    with pytest.raises(ValueError, match="'gelu' matches no activation") as error:
        swapped(W, X)
    assert "0: relu in model/encoder, float32[16, 32], test_swap.py:" in str(error.value)
    assert "1: relu in model/decoder" in str(error.value)
    for selector in (7, "*/attention/*", lambda site: False):
        with pytest.raises(ValueError, match="matches no activation"):
            jaxact.swap(functools.partial(scoped, jax.nn.relu), {selector: jaxact.relu})(W, X)
    with pytest.raises(ValueError, match="(none)"):
        jaxact.swap(jnp.sin, {"relu": jaxact.gelu})(X)


@jax.custom_vjp
def own_derivative(w, x):
    return jax.nn.relu(x @ w) @ w


own_derivative.defvjp(
    lambda w, x: (own_derivative(w, x), (w, x)), lambda r, g: (r[0] * 0, g @ r[0].T)
)


@jax.custom_jvp
def own_forward_derivative(w, x):
    return jax.nn.relu(x @ w) @ w


own_forward_derivative.defjvps(None, lambda t, ans, w, x: t)


@jax.custom_vjp
def own_relu(w, x):
    return jax.nn.relu(x)


own_relu.defvjp(lambda w, x: (own_relu(w, x), x), lambda x, g: (None, g))


def test_derivatives_that_are_there_already_are_an_error():
    for fn, why in (
        (own_derivative, "its derivative is defined by a custom_vjp"),
        (own_relu, "its derivative is defined by a custom_vjp"),
        (own_forward_derivative, "its derivative is defined by a custom_jvp"),
        (jax.grad(lambda w, x: two_layers(jax.nn.relu, w, x).sum()), "takes its derivative itself"),
        (jax.grad(lambda w, x: two_layers(jaxact.relu, w, x).sum()), "takes its derivative itself"),
        (
            jax.jit(jax.grad(lambda w, x: scanned(jaxact.relu, w, x).sum())),
            "takes its derivative itself",
        ),
        (
            lambda w, x: jax.jvp(lambda x: two_layers(jax.nn.relu, w, x), (x,), (x,)),
            "takes its derivative itself",
        ),
        (
            lambda w, x: jax.linearize(lambda x: two_layers(jax.nn.relu, w, x), x)[0],
            "takes its derivative itself",
        ),
    ):
        with pytest.raises(ValueError, match="swap: cannot replace 0: relu in") as error:
            jaxact.swap(fn, {"relu": jaxact.gelu})(W, X)
        assert why in str(error.value)


def scan_of(act):
    return lambda x: lax.scan(lambda h, _: (act(h), None), x, None, length=2)[0]


#: Functions with the activation itself and a derivative of it.
BOTH = {
    "grad": lambda act, x: (act(x), jax.grad(lambda x: act(x).sum())(x)),
    "grad of scan": lambda act, x: (
        scan_of(act)(x),
        jax.grad(lambda x: scan_of(act)(x).sum())(x),
    ),
    "jvp": lambda act, x: (act(x), jax.jvp(act, (x,), (jnp.cos(x),))),
    "vmap of jacfwd": lambda act, x: (act(x), jax.vmap(jax.jacfwd(act))(x)),
    "jvp of scan": lambda act, x: (act(x), jax.jvp(scan_of(act), (x,), (jnp.cos(x),))),
    "linearize": lambda act, x: (act(x), jax.linearize(act, x)[1](x)),
    "jvp alone": lambda act, x: jax.jvp(act, (x,), (jnp.cos(x),)),
}


@pytest.mark.parametrize("taken", BOTH)
@pytest.mark.parametrize("library", [jax.nn, jaxact], ids=["jax.nn", "jaxact"])
@pytest.mark.parametrize(
    "name",
    [
        *("elu", "softplus"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                *("relu6", "leaky_relu", "selu", "celu", "gelu", "silu", "mish", "sigmoid"),
                *("log_sigmoid", "hard_tanh", "hard_silu", "squareplus", "sparse_plus"),
            )
        ),
    ],
)
def test_no_derivative_stays_behind_silently(name, library, taken):
    function = getattr(library, name)
    with jaxact.autodiff(mode="both" if "j" in taken or taken == "linearize" else "reverse"):
        swapped = jaxact.swap(functools.partial(BOTH[taken], function), {name: jnp.sin})
        with pytest.raises(ValueError, match="differentiates a loop|takes its derivative itself"):
            swapped(X)


def test_what_is_not_differentiated_can_be_swapped_beside_what_is():
    def fn(w, x):
        y = jax.nn.silu(x)
        return y + jax.grad(lambda x: jax.nn.relu(x @ w).sum())(x)

    expected = jaxact.mish(X) + jax.grad(lambda x: jax.nn.relu(x @ W).sum())(X)
    swapped = jaxact.swap(fn, {"silu": jaxact.mish})
    np.testing.assert_allclose(swapped(W, X), expected, rtol=1e-6, atol=1e-6)


def test_gate_and_up():
    with pytest.raises(ValueError, match="0: swiglu in .* must be a function of gate and up"):
        jaxact.swap(jaxact.swiglu, {"swiglu": jaxact.leaky_relu})(X, X)
    with pytest.raises(ValueError, match="of the pre-activation alone; this one takes 2 inputs"):
        jaxact.swap(jax.nn.relu, {"relu": jaxact.swiglu})(X)
    for replacement in (jaxact.geglu, lambda gate, up: gate * up, jnp.multiply):
        assert jaxact.swap(jaxact.swiglu, {"swiglu": replacement})(X, X).shape == X.shape


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ["relu", "silu", "elu"])
def test_a_gated_block_takes_the_gated_form_of_a_replacement(name, dtype):
    def block(activation, x, *weights):
        return jaxact.gated_mlp(x, *weights, activation=activation)

    # Of one array for three, the order in which its gradients are added would show.
    args = [a.astype(dtype) for a in (X, W, W + 1, W.T)]
    swapped = jaxact.swap(functools.partial(block, "tanh"), {"tanh": name})
    for fn in (
        lambda f: jax.jit(f)(*args),
        lambda f: jax.jit(jax.grad(lambda *args: f(*args).sum().astype(jnp.float32), (0, 1, 2, 3)))(
            *args
        ),
    ):
        assert_equal(fn(swapped), fn(functools.partial(block, name)))

    def doubled(h):
        return 2 * jnp.tanh(h)

    swapped = jaxact.swap(functools.partial(block, doubled), {"tanh": jaxact.relu})
    assert_equal(swapped(*args), block(lambda h: 2 * jaxact.relu(h), *args))


def test_a_probed_function_reports_what_it_was_swapped_to():
    probed = jaxact.probe(functools.partial(scoped, jax.nn.relu))
    _, report = jaxact.swap(probed, {np.int64(1): jaxact.leaky_relu})(W, X)
    assert [site.function for site in report.sites] == ["relu", "leaky_relu"]
    assert report.sites[1].active.min() == 1
    learned = jaxact.swap(jaxact.swap(probed, {0: "prelu"}), {"relu": jaxact.gelu})
    _, report = learned(learned.init(W, X), W, X)
    assert [site.function for site in report.sites] == ["prelu", "gelu"]


def test_replacements_that_change_the_type_are_an_error():
    for replacement, returned in (
        (jaxact.crelu, r"float32\[16, 64\]"),
        (lambda x: x.astype(jnp.bfloat16), r"bfloat16\[16, 32\]"),
        (lambda x: None, "None"),
    ):
        with pytest.raises(ValueError, match=f"returned {returned}") as error:
            jaxact.swap(jax.nn.relu, {"relu": replacement})(X)
        assert "must return float32[16, 32]" in str(error.value)


def test_arguments_that_are_none():
    with pytest.raises(TypeError, match="swap: fn must be a function"):
        jaxact.swap(3, {"relu": jaxact.gelu})
    with pytest.raises(TypeError, match="replacements must be a dict"):
        jaxact.swap(jax.nn.relu, jaxact.gelu)
    with pytest.raises(TypeError, match="replacements must be a dict"):
        jaxact.swap(jax.nn.relu, {})
    with pytest.raises(TypeError, match="select activations by name"):
        jaxact.swap(jax.nn.relu, {1.5: jaxact.gelu})
    with pytest.raises(TypeError, match="a replacement must be a function"):
        jaxact.swap(jax.nn.relu, {"relu": 0.2})
    with pytest.raises(ValueError, match="unknown activation 'leaky'"):
        jaxact.swap(jax.nn.relu, {"relu": "leaky"})


@pytest.mark.parametrize("mode", ["reverse", "both"])
@pytest.mark.parametrize("gated", [False, True])
def test_a_block_that_keeps_its_input(gated, mode):
    """It does so with another activation too."""
    x, w, up = (
        jnp.asarray(normal(seed, shape)) for seed, shape in enumerate([(4, 8), (8, 32), (8, 32)])
    )
    out, bias = jnp.asarray(normal(4, (32, 8))), jnp.asarray(normal(5, (32,)))

    def block(x, activation, save="input"):
        if gated:
            return jaxact.gated_mlp(x, w, up, out, activation=activation, save=save)
        return jaxact.mlp(x, w, out, b_in=bias, activation=activation, save=save)

    with jaxact.autodiff(mode=mode):
        selector, replacement = ("swiglu", jaxact.geglu) if gated else ("silu", jaxact.gelu)
        swapped = jaxact.swap(lambda x: block(x, "silu"), {selector: replacement})
        of_swapped = jax.value_and_grad(lambda x: jnp.sin(swapped(x)).sum())(x)
        expected = jax.value_and_grad(lambda x: jnp.sin(block(x, "gelu")).sum())(x)
        (site,) = jaxact.probe(lambda x: block(x, "silu"))(x)[1].sites
        kept = [r.shape for r in jaxact.memory.residuals(swapped, x)]
    np.testing.assert_allclose(of_swapped[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(of_swapped[1], expected[1], rtol=1e-4, atol=1e-5)
    assert site.function == selector and (4, 32) not in kept
    assert site.path == ("jaxact.gated_mlp" if gated else "jaxact.mlp")


# ------------------------------------------------------------------------------------------------
# Forms


def every(x):
    """Activations in several forms, by hand or of jax.nn, in several structures."""

    def step(h, _):
        return jax.nn.elu(h, alpha=0.5) + jax.nn.gelu(h, approximate=False), None

    x = jnp.where(x > 0, x, 0.3 * x) + jax.nn.leaky_relu(x, 0.2)
    x = lax.scan(step, x, None, length=2)[0]
    x = jax.vmap(jax.checkpoint(lambda v: jax.nn.gelu(v)))(x)
    return x + jaxact.hard_tanh(x, min_val=-2)


def every_by_hand(x):
    def step(h, _):
        return jaxact.elu(h, alpha=0.5) + jaxact.gelu(h, approximate=False), None

    x = jaxact.leaky_relu(x, 0.3) + jaxact.leaky_relu(x, 0.2)
    x = lax.scan(step, x, None, length=2)[0]
    x = jax.vmap(jax.checkpoint(lambda v: jaxact.gelu(v)))(x)
    return x + jaxact.hard_tanh(x, min_val=-2)


FORMS = ["leaky_relu(0.3)", "leaky_relu(0.2)", "elu(alpha=0.5)", "gelu(approximate=False)", "gelu"]
FORMS += ["hard_tanh(min_val=-2)"]


def both(fn):
    return jax.jit(jax.value_and_grad(lambda x: (fn(x) ** 2).sum()))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_activation_becomes_jaxacts_own_in_its_form(dtype):
    x = X.astype(dtype)
    _, report = jaxact.probe(every)(x)
    assert [record.form for record in report.records] == FORMS
    assert [record.function for record in report.records] == [f.partition("(")[0] for f in FORMS]
    swapped = jaxact.swap(every, "jaxact")
    assert_equal(both(swapped)(x), both(every_by_hand)(x))
    _, report = jaxact.probe(swapped)(x)
    assert [(record.form, record.place.own) for record in report.records] == [
        (form, True) for form in FORMS
    ]


def test_jaxacts_own_leaves_alone_what_it_cannot_replace():
    def fn(w, x):
        return own_relu(w, x) + jax.nn.gelu(x, approximate=False) + jaxact.prelu(x, w[0])

    def by_hand(w, x):
        return own_relu(w, x) + jaxact.gelu(x, approximate=False) + jaxact.prelu(x, w[0])

    assert_equal(jax.jit(jaxact.swap(fn, "jaxact"))(W, X), jax.jit(by_hand)(W, X))
    assert_equal(jax.jit(jaxact.swap(own_relu, "jaxact"))(W, X), own_relu(W, X))
    # Called again, it would want its key.
    random = functools.partial(jaxact.rrelu, key=jax.random.key(0))
    assert_equal(jaxact.swap(random, "jaxact")(X), random(X))
    with pytest.raises(ValueError, match=r"cannot replace 0: relu in"):
        jaxact.swap(fn, {"*": "jaxact"})(W, X)
    with pytest.raises(ValueError, match=r"'jaxact' matches no activation.*\n  \(none\)"):
        jaxact.swap(jnp.sin, "jaxact")(X)


@pytest.mark.parametrize(
    ("replacement", "expected"),
    [
        (jaxact.gelu, lambda x: jaxact.gelu(x, approximate=False)),
        ("gelu", lambda x: jaxact.gelu(x, approximate=False)),
        ("jaxact", lambda x: jaxact.gelu(x, approximate=False)),
        ("gelu:approximate=True", jaxact.gelu),
        ("jax:gelu", jaxact.gelu),
        (functools.partial(jaxact.gelu), jaxact.gelu),
        (lambda x: jaxact.gelu(x), jaxact.gelu),
        (jax.nn.gelu, jax.nn.gelu),
        (jaxact.silu, jaxact.silu),
    ],
)
def test_the_same_function_keeps_the_form_and_any_other_is_what_is_given(replacement, expected):
    def exact(x):
        return jax.nn.gelu(x, approximate=False)

    swapped = jaxact.swap(exact, {"gelu": replacement})
    assert_equal(jax.jit(swapped)(X), jax.jit(expected)(X))


@pytest.mark.parametrize(
    ("selector", "replaced"),
    [
        ("gelu", [3, 4]),
        ("gelu(approximate=False)", [3]),
        ("gelu(approximate=True)", [4]),
        ("gelu()", [4]),
        ("leaky_relu", [0, 1]),
        ("leaky_relu(0.2)", [1]),
        ("leaky_relu( negative_slope = 0.3 )", [0]),
        ("elu(0.5)", [2]),
        ("hard_tanh(-2, 1.0)", [5]),
        ("*/leaky_relu(0.*)", [0, 1]),
        (lambda site: "approximate" in site.form, [3]),
    ],
)
def test_selectors_match_forms(selector, replaced):
    swapped = jaxact.swap(every, {selector: jnp.sin})
    _, report = jaxact.probe(swapped)(X)
    left = [record.form for record in report.records]
    assert left == [form for i, form in enumerate(FORMS) if i not in replaced]


@pytest.mark.parametrize("selector", ["leaky_relu(0.4)", "leaky_relu(slope=0.2)", "gelu(0.2, 1)"])
def test_forms_that_are_not_there_are_an_error_that_lists_the_forms(selector):
    with pytest.raises(ValueError, match="matches no activation") as error:
        jaxact.swap(every, {selector: jnp.sin})(X)
    assert "1: leaky_relu(0.2) in " in str(error.value)
    assert "3: gelu(approximate=False) in " in str(error.value)


def test_parameters_that_are_arrays_stay_those_of_the_site():
    slopes = jnp.linspace(0.1, 0.5, 32)
    alpha = jnp.float32(0.3)

    def fn(x, slopes, alpha):
        x = jax.vmap(lambda x, a: jnp.where(x > 0, x, a * x), (0, 1))(x, slopes)
        return jaxact.prelu(x + jnp.sin(alpha * x) ** 2 / alpha, slopes[:, 0])

    def by_hand(x, slopes, alpha):
        x = jaxact.leaky_relu(x, slopes.T)
        return jaxact.prelu(jaxact.snake(x, alpha), slopes[:, 0])

    args = X, jnp.outer(slopes, jnp.linspace(1, 2, 16)), alpha
    _, report = jaxact.probe(fn)(*args)
    assert [site.form for site in report.sites] == ["leaky_relu(...)", "snake(alpha=...)", "prelu"]
    gradients = [
        jax.jit(jax.value_and_grad(lambda *a, fn=fn: (fn(*a) ** 2).sum(), argnums=(0, 1, 2)))
        for fn in (jaxact.swap(fn, "jaxact"), jaxact.swap(fn, {"*": "jaxact"}), by_hand)
    ]
    first, second, expected = (g(*args) for g in gradients)
    assert_equal(first, second)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), first, expected)
    assert "snake(alpha=...)" in str(report)


#: Calls of functions that have several declarations, or parameters that a declaration fixes.
CALLS = [
    *("silu(beta=2)", "hard_sigmoid(bound=2.5)", "softcap(cap=30)", "rrelu(deterministic=True)"),
    *("rrelu(deterministic=True, divisor=True)", "geglu(approximate=False)"),
    *("clamped_swiglu(limit=7, alpha=1.702, offset=1)", "clamped_swiglu(limit=3, clamp='after')"),
    *("surrogate_relu", "surrogate_relu(surrogate='selu')", "crelu", "swiglu", "threshold(2, 3)"),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_form_is_read_as_it_is_written(call):
    name, parameters = forms.read(call)
    function = functools.partial(jaxact.ACTIVATIONS[name], **parameters)
    arrays = (X, X) if jaxact.registry.takes_gate_and_up(function) else (X,)
    _, report = jaxact.probe(function)(*arrays)
    assert forms.read(report.sites[0].form) == (name, parameters)


def test_every_declaration_has_a_form():
    """A second declaration of a function's name stands for arguments that a form must show."""
    seen = {"swish", "hard_sigmoid_of_bound", "positive_part", "clamped_swiglu_alpha"}
    inside = {mark for mark in DECLARED if mark.endswith(("_gate", "clamped_up"))}
    others = {mark for mark, d in DECLARED.items() if mark != d.name}
    assert others - seen - inside == set(forms._GIVEN)


def test_numbers_are_the_shortest_that_are_the_same():
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16, np.float64):
        assert forms.number(np.asarray(0.2).astype(dtype), dtype) == 0.2
    assert forms.number(np.float32(0.2), np.float64) == float(np.float32(0.2))
    assert forms.number(np.float32(1 / 3), jnp.bfloat16) == 0.33333334
    assert forms.number(2, np.float32) == 2


def test_an_exact_gelu_leaves_no_copy_behind():
    def model(act, w, x):
        return act(act(x @ w) @ w)

    exact = functools.partial(model, lambda x: jax.nn.gelu(x, approximate=False))
    swapped = jaxact.swap(exact, {"gelu": jaxact.relu})
    written = functools.partial(model, jaxact.relu)
    assert residuals(swapped, W, X).total == residuals(written, W, X).total

    def both(x):  # What is read before the copy stays.
        y = jax.nn.gelu(x, approximate=False)
        return y, jax.nn.relu(x)

    _, report = jaxact.probe(both)(X)
    assert [site.form for site in report.sites] == ["gelu(approximate=False)", "relu"]
