"""What an activation is there for, and which arguments are data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn, nnx

import jaxact
from tests.support.samples import normal

X = normal(0, (8, 4))
W, V, U = (normal(i, (4, 4)) for i in (1, 2, 3))
IMAGES = normal(4, (2, 5, 5, 4))


@pytest.fixture(autouse=True)
def users_promotion(strict_promotion):
    """Users, and their frameworks, let JAX promote dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def roles(fn, *args, **options):
    _, report = jaxact.probe(fn, **options)(*args)
    return [(site.function, site.role) for site in report.sites]


def attention(activation):
    def model(p, x):
        q, k, v = (x @ p[name] for name in "qkv")
        scores = jnp.where(jnp.tri(8, dtype=bool), q @ k.T / 2, 0)
        return activation(scores) @ v

    return model, {"q": W, "k": V, "v": U}


def squeeze_excite(p, x):
    return x * jax.nn.sigmoid(jax.nn.relu(x.mean((1, 2)) @ p[0]) @ p[1])[:, None, None]


def highway(p, x):
    gate = jax.nn.sigmoid(x @ p[0])
    return gate * jax.nn.relu(x @ p[1]) + (1 - gate) * x


def channels_first(p, x):
    return x * jax.nn.sigmoid(jax.nn.relu(x.mean((2, 3)) @ p[0]) @ p[1])[:, :, None, None]


def swish(p, x):
    h = x @ p[0]
    return h * jax.nn.sigmoid(p[1][0] * h)


def normalised(p, x):
    h = jax.nn.gelu(x @ p[0])
    return h * jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + 1e-6) @ p[1]


def graph(p, x, neighbours):
    mean = neighbours / neighbours.sum(-1, keepdims=True)
    return mean @ jax.nn.relu(mean @ (x @ p[0])) @ p[1]


def two_layers(p, x):
    return jax.nn.relu(jax.nn.relu(x @ p[0]) @ p[1]) @ p[2]


def adapted(p, x):
    """A step by a gradient first, as in meta-learning."""
    gradient = jax.grad(lambda p: (two_layers(p, x) ** 2).mean())(p)
    return two_layers(jax.tree.map(lambda w, g: w - 0.1 * g, p, gradient), x)


def dropout(p, x):
    y = jax.nn.gelu(x @ p[0])
    return y * jax.random.bernoulli(jax.random.key(0), 0.5, y.shape) * 2 @ p[1]


@pytest.mark.parametrize(
    ("fn", "parameters", "data", "expected"),
    [
        pytest.param(
            lambda p, x: 30 * jnp.tanh(x @ p / 30), W, X, [("tanh", "soft-cap")], id="soft-cap"
        ),
        pytest.param(
            lambda p, x: jnp.tanh(x @ p * 0.02) * 50.0, W, X, [("tanh", "soft-cap")], id="inverse"
        ),
        pytest.param(
            lambda p, x: p["c"] * jnp.tanh(x @ p["w"] / p["c"]),
            *({"c": jnp.float32(5), "w": W}, X),
            [("tanh", "soft-cap")],
            id="learned cap",
        ),
        pytest.param(
            lambda p, x: jaxact.softcap(x @ p, 30.0), W, X, [("softcap", "soft-cap")], id="softcap"
        ),
        pytest.param(
            lambda p, x: 3 * jnp.tanh(x @ p / 30), W, X, [("tanh", "")], id="another factor"
        ),
        pytest.param(
            lambda p, x: jax.nn.silu(x @ p[0]) * (x @ p[1]), (W, V), X, [("silu", "gate")], id="glu"
        ),
        pytest.param(
            lambda p, x: jax.nn.sigmoid(x @ p[0]) * p[1],
            (W, V[0]),
            X,
            [("sigmoid", "")],
            id="scale",
        ),
        pytest.param(
            lambda p, x, cap: cap * jnp.tanh(x @ p / cap),
            *(W, (X, jnp.float32(5))),
            [("tanh", "soft-cap")],
            id="cap is an argument",
        ),
        pytest.param(
            lambda p, x: jnp.tanh(x @ p / 1.0) * 1.0, W, X, [("tanh", "")], id="no cap at all"
        ),
        pytest.param(
            lambda p, x, mask: jax.nn.sigmoid(x @ p) * mask,
            *(W, (X, jnp.ones((8, 4)))),
            [("sigmoid", "")],
            id="masked",
        ),
        pytest.param(
            lambda p, x: jax.nn.relu(x @ p[0]) * jax.nn.softmax(x @ p[1])[:, :1],
            *((W, V), X),
            [("relu", "")],
            id="messages with a weight",
        ),
        pytest.param(swish, (W, V), X, [("sigmoid", "")], id="swish of a learned slope"),
        pytest.param(normalised, (W, V), X, [("gelu", "")], id="normalised by its own size"),
        pytest.param(
            channels_first,
            *((W, V), IMAGES.transpose(0, 3, 1, 2)),
            [("relu", ""), ("sigmoid", "squeeze-excite")],
            id="squeeze-excite, channels first",
        ),
        pytest.param(
            lambda p, x: jax.nn.sigmoid(x @ p[0])[..., None] * (x @ p[1])[:, None],
            *((W, V), X),
            [("sigmoid", "gate")],
            id="gates of heads",
        ),
        pytest.param(graph, (W, V), (X, jnp.ones((8, 8))), [("relu", "")], id="graph convolution"),
        pytest.param(
            lambda p, x, key: two_layers([w + 0.1 * jax.random.normal(key, w.shape) for w in p], x),
            *((W, V, U), (X, jax.random.key(0))),
            [("relu", ""), ("relu", "")],
            id="noisy weights",
        ),
        pytest.param(
            lambda d: two_layers([w * 0.5 for w in d["w"]], d["x"]),
            *({"w": (W, V, U), "x": X}, ()),
            [("relu", ""), ("relu", "")],
            id="weights in the only argument",
        ),
        pytest.param(adapted, (W, V, U), X, [("relu", "")] * 4, id="adapted weights"),
        pytest.param(dropout, (W, V), X, [("gelu", "")], id="dropout"),
        pytest.param(highway, (W, V), X, [("sigmoid", "gate"), ("relu", "gate")], id="highway"),
        pytest.param(
            squeeze_excite,
            *((W, V), IMAGES),
            [("relu", ""), ("sigmoid", "squeeze-excite")],
            id="squeeze-excite",
        ),
        pytest.param(*attention(jax.nn.relu), X, [("relu", "attention")], id="attention"),
        pytest.param(
            lambda p, x: jax.nn.relu(x @ p[0]) @ p[1], (W, V), X, [("relu", "")], id="hidden"
        ),
        pytest.param(
            lambda p, x: jax.nn.relu(x @ jax.nn.softplus(p)),
            *(W, X),
            [("softplus", "of parameters"), ("relu", "")],
            id="convex",
        ),
        pytest.param(
            lambda p, x: (x @ p[0], jax.nn.relu(x @ p[1]))[0],
            *((W, V), X),
            [("relu", "unused")],
            id="unused",
        ),
        pytest.param(
            lambda p, x: jax.lax.scan(
                lambda h, w: (jax.nn.tanh(h @ w), jax.nn.relu(h).sum()), x, jnp.stack([p, p])
            )[0],
            *(W, X),
            [("relu", "unused"), ("tanh", "")] * 2,
            id="unused in a scan",
        ),
    ],
)
def test_roles(fn, parameters, data, expected):
    data = data if isinstance(data, tuple) else (data,)
    assert sorted(roles(fn, parameters, *data)) == sorted(expected)
    assert sorted(roles(jax.jit(fn), parameters, *data)) == sorted(expected)


def test_roles_are_the_same_where_the_function_takes_its_derivative():
    def loss(p, x):
        return ((jax.nn.sigmoid(x @ p[0]) * p[1][0] @ p[1]) ** 2).mean()

    for fn in (loss, jax.grad(loss), lambda p, x: jax.jvp(lambda x: loss(p, x), (x,), (x,))):
        assert roles(fn, (W, V), X) == [("sigmoid", "")]

    def gated(p, x):
        return (highway(p, x) ** 2).mean()

    assert roles(jax.grad(gated), (W, V), X) == [("sigmoid", "gate"), ("relu", "gate")]


def test_what_a_gradient_depends_on_is_used():
    assert roles(jax.grad(lambda p, x: jax.nn.relu(x @ p).sum()), W, X) == [("relu", "")]
    saliency = jax.grad(lambda x, p: two_layers(p, x).sum())
    assert roles(saliency, X, (W, V, U), data=0) == [("relu", ""), ("relu", "")]


def test_data_that_are_closed_over():
    def loss(p):
        return (two_layers(p, X) ** 2).mean() + jax.nn.softplus(p[0]).sum()

    expected = [("relu", ""), ("relu", ""), ("softplus", "of parameters")]
    assert roles(loss, (W, V, U), data=()) == expected
    (_, report), _ = jaxact.probe_and_grad(loss)((W, V, U))
    assert [(site.function, site.role) for site in report.sites] == expected


def test_what_is_printed_counts_as_used():
    def model(p, x):
        jax.debug.callback(lambda y: None, jax.nn.relu(x @ p))
        return x

    assert roles(model, W, X) == [("relu", "")]


def test_data_are_all_arguments_but_the_first():
    def model(p, x, scale):
        return jax.nn.relu(x @ p) + jax.nn.tanh(scale)

    scale = jnp.float32(2)
    assert roles(model, W, X, scale)[1] == ("tanh", "")
    assert roles(model, W, X, scale, data=1)[1] == ("tanh", "of parameters")
    assert roles(model, W, X, scale, data="x")[1] == ("tanh", "of parameters")
    assert roles(model, W, X, scale, data=[1, "scale"])[1] == ("tanh", "")
    assert roles(model, W, X, scale, data=0) == [("relu", ""), ("tanh", "of parameters")]
    # By keyword too, in the function's order.
    _, report = jaxact.probe(model)(scale=scale, x=X, p=jnp.abs(W))
    assert [site.role for site in report.sites] == ["", ""]
    with_weights = jaxact.probe(lambda p, x: x @ jax.nn.softplus(p))
    assert with_weights(x=X, p=W)[1].sites[0].role == "of parameters"


def test_the_only_argument_is_data_and_what_is_closed_over_is_not():
    assert roles(lambda x: jax.nn.relu(x @ W), X) == [("relu", "")]
    assert roles(lambda x: x @ jax.nn.softplus(W * 1), X)[0] == ("softplus", "of parameters")


def test_of_nnx_modules_all_but_params_are_data():
    class Convex(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(W)
            self.scale = nnx.BatchStat(jnp.ones(4))

        def __call__(self, x):
            return jax.nn.relu(x @ jax.nn.softplus(self.w[...])) * jnp.tanh(self.scale[...])

    expected = [("softplus", "of parameters"), ("relu", ""), ("tanh", "")]
    assert sorted(roles(Convex(), X)) == sorted(expected)
    assert sorted(roles(lambda x, m: m(x), X, Convex())) == sorted(expected)
    assert ("softplus", "") in roles(lambda m, x: m(x), Convex(), X, data=(0, 1))


def test_swapped_slopes_are_no_data():
    model = jaxact.swap(lambda p, x: jax.nn.relu(x @ jax.nn.softplus(p)), {"relu": jaxact.prelu})
    slopes = model.init(W, X)
    assert roles(model, slopes, W, X) == [("softplus", "of parameters"), ("prelu", "")]


@pytest.mark.parametrize("data", [1.5, True, (0, None)])
def test_data_that_are_no_arguments(data):
    with pytest.raises(TypeError, match="data must name arguments"):
        jaxact.probe(jax.nn.relu, data=data)


def test_data_that_are_not_there():
    with pytest.raises(ValueError, match=r"data='y': there is no argument 'y' .* are p, x"):
        jaxact.probe(lambda p, x: jax.nn.relu(x @ p), data="y")(W, X)


def test_selectors_see_roles():
    def model(p, x):
        return jax.nn.sigmoid(x @ p[0]) * jax.nn.sigmoid(x @ p[1]).sum()

    seen = []
    swapped = jaxact.swap(model, {lambda site: seen.append(site.role) or True: jaxact.sigmoid})
    swapped((W, V), X)
    assert seen == ["gate", ""]


# ------------------------------------------------------------------------------------------------
# Advice and table.


class TwoHeads(nn.Module):
    @nn.compact
    def __call__(self, x):
        nn.relu(nn.Dense(4, bias_init=nn.initializers.constant(-100), name="unused")(x))
        w = self.param("w", nn.initializers.constant(-50.0), (4, 4))
        gate = nn.sigmoid(nn.Dense(4, bias_init=nn.initializers.constant(-100), name="gate")(x))
        return gate * x, 30 * jnp.tanh((1000 + x @ nn.softplus(w)) / 30)


def test_advice_and_table_by_role():
    model = TwoHeads()
    x = normal(7, (100, 4))
    _, report = jaxact.probe(model.apply)(model.init(jax.random.key(0), x), x)
    assert [s.role for s in report.sites] == ["unused", "gate", "of parameters", "soft-cap"]
    advice = report.advice()
    assert [(s.severity, s.sites[0].split(" ")[1]) for s in advice] == [
        ("note", "(sigmoid,"),
        ("note", "(tanh,"),
    ]
    assert "a gate is to be open or shut" in advice[0].reason and "cap" in advice[1].text
    assert "Without advice: unused (#0); of parameters (#2)." in advice.summary
    table = str(report)
    for text in ("sigmoid (gate)", "relu (unused)", "tanh (soft-cap)", "softplus (of parameters)"):
        assert text in table
    assert "unused: no result depends on it." in " ".join(table.split())


def test_an_unused_head_does_not_come_first_and_is_not_revived():
    def model(p, x):
        jax.nn.relu(x @ p["head"] - 1e3)
        return jax.nn.relu(x @ p["a"]) @ p["b"]

    p = {"head": W, "a": W, "b": V}
    _, report = jaxact.probe(model)(p, jnp.tile(X, (20, 1)))
    assert report.sites[0].dead.all() and not report.advice()
    assert jaxact.revive(p, report) is p


def test_values_that_are_not_finite_are_named_whatever_the_role():
    _, report = jaxact.probe(lambda p, x: x @ jax.nn.softplus(p))(W * np.nan, X)
    assert report.advice()[0].severity == "act"
