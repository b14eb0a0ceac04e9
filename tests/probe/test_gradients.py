"""`jaxact.probe_and_grad`: the gradients against those of functions that have the activations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import jaxact
from tests.support.reports import normal

W = normal(5, 5, seed=1)
X = normal(6, 5)
STACK = normal(3, 5, 5, seed=2) / 2


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def mean_gradients(outputs_to_loss, outputs):
    """By hand: the mean |gradient| of each unit, of a loss as a function of the activations."""
    gradients = jax.grad(outputs_to_loss)(outputs)
    return [abs(g).reshape(-1, g.shape[-1]).mean(0) for g in gradients]


def gradients(report):
    return [site.gradient for site in report.sites]


def assert_gradients(report, expected):
    found = gradients(report)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


# ------------------------------------------------------------------------------------------------
# A chain of layers, written in many ways: the first layer's activation, then the others'.


def layer(w, x):
    return jax.nn.gelu(x @ w)


def head(x):
    return (jnp.sin(x) @ jnp.arange(5.0)).mean()


def chain(ws, x):
    for w in ws:
        x = layer(w, x)
    return head(x)


@functools.cache
def expected():
    """The mean |gradient| of each unit in each layer of the chain."""
    return from_activations(STACK, X)


def from_activations(ws, x):
    """The mean |gradient| at each layer, by zeros that are added to the activations."""

    def loss(zeros):
        h = x
        for w, z in zip(ws, zeros, strict=True):
            h = layer(w, h) + z
        return head(h)

    return mean_gradients(loss, [jnp.zeros(x.shape)] * len(ws))


def scanned(ws, x, **options):
    return head(lax.scan(lambda h, w: (layer(w, h), None), x, ws, **options)[0])


def scanned_backwards(ws, x):
    return scanned(ws[::-1], x, reverse=True)


def nested(ws, x):
    def outer(h, w):
        return lax.scan(lambda h, w: (jax.jit(layer)(w, h), None), h, w)[0], None

    return head(lax.scan(outer, x, ws[:, None])[0])


def in_shard_map(ws, x, check_vma=True):
    mesh = jax.make_mesh((2,), ("a",), axis_types=(AxisType.Auto,))

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(P(), P("a")), out_specs=P(), check_vma=check_vma
    )
    def run(ws, x):
        return lax.pmean(scanned(ws, x), "a")

    return run(ws, x)


CHAINS = {
    "plain": chain,
    "jit inside": lambda ws, x: head(functools.reduce(lambda h, w: jax.jit(layer)(w, h), ws, x)),
    "remat": jax.checkpoint(chain),
    "reverse scan": scanned_backwards,
    "scan of remat": lambda ws, x: head(
        lax.scan(jax.checkpoint(lambda h, w: (layer(w, h), None)), x, ws)[0]
    ),
    "nested scans": nested,
    "cond": lambda ws, x: lax.cond(x[0, 0] < 9, chain, lambda ws, x: 0.0 * x.sum(), ws, x),
    "vmap": lambda ws, x: jax.vmap(functools.partial(chain, ws))(x).mean(),
    "shard_map": in_shard_map,
    "shard_map, unchecked": functools.partial(in_shard_map, check_vma=False),
}


@pytest.mark.parametrize("way", CHAINS)
def test_gradients(way):
    loss = CHAINS[way]
    (value, report), gradient = jax.jit(jaxact.probe_and_grad(loss))(STACK, X)
    assert_gradients(report, expected())
    if "shard_map" not in way:
        assert_equal((value, gradient), jax.jit(jax.value_and_grad(loss))(STACK, X))


def test_steps_of_a_scan_have_a_gradient_each():
    (_, report), _ = jax.jit(jaxact.probe_and_grad(scanned))(STACK, X)
    assert_gradients(report, expected())
    assert [site.iteration for site in report.sites] == [(0,), (1,), (2,)]
    (record,) = report.records
    assert record.gradient.shape == (3, 5)
    np.testing.assert_array_equal(record.gradient, gradients(report))


def test_by_hand():
    def loss(w, x):
        return (jax.nn.relu(x @ w) * jnp.array([[1.0, -4.0]])).mean(), {"kept": x}

    w, x = jnp.array([[1.0, 2.0]]), jnp.array([[1.0], [-3.0]])
    ((value, aux), report), gradient = jaxact.probe_and_grad(loss, has_aux=True)(w, x)
    # Of the mean of four numbers, with either sign; a sum over the samples would cancel.
    np.testing.assert_array_equal(report.sites[0].gradient, [0.25, 1])
    np.testing.assert_array_equal(report.sites[0].count, [2, 2])
    assert value == (1 - 4 * 2) / 4 and aux["kept"] is x
    np.testing.assert_array_equal(gradient, [[0.25, -1]])
    assert report.scalars()[f"{report.sites[0].path}/relu/gradient"] == 0.625


def test_gradients_of_both_signs_do_not_cancel():
    signs = jnp.array([[1.0], [-1.0]])
    (_, report), _ = jaxact.probe_and_grad(lambda x: (signs * jax.nn.relu(x)).sum())(X[:2])
    np.testing.assert_array_equal(report.sites[0].gradient, np.ones(5))


def test_argnums():
    def loss(a, b, c=1.0):
        return jax.nn.relu(a["w"] * b * c).sum()

    a, b = {"w": X}, 2.0
    for argnums in (1, (0,), (1, -2), [0, 1]):
        (value, _), gradient = jaxact.probe_and_grad(loss, argnums)(a, b, c=3.0)
        assert_equal((value, gradient), jax.value_and_grad(loss, argnums)(a, b, c=3.0))
        same = jax.tree.structure(jax.value_and_grad(loss, argnums)(a, b, c=3.0)[1])
        assert jax.tree.structure(gradient) == same


def test_a_scalar_and_several_values_for_a_unit():
    (_, report), _ = jaxact.probe_and_grad(lambda x: 3 * jax.nn.silu(x))(2.0)
    np.testing.assert_array_equal(report.sites[0].gradient, [3])
    ones = np.repeat([[1.0, 2.0]], 5, 1)
    (_, report), _ = jaxact.probe_and_grad(lambda x: (jaxact.crelu(x) * ones).sum())(X)
    np.testing.assert_array_equal(report.sites[0].gradient, np.full(5, 3))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_other_dtypes(dtype):
    x = jnp.asarray(normal(4096, 3), dtype)
    (value, report), gradient = jaxact.probe_and_grad(lambda x: jax.nn.relu(x).sum())(x)
    assert value.dtype == gradient.dtype == dtype
    # The sum of 4096 ones is not one of bfloat16's.
    np.testing.assert_array_equal(report.sites[0].gradient, np.ones(3, np.float32))


def test_float64():
    with jax.enable_x64(True):
        x = jnp.asarray(X, jnp.float64)
        (_, report), gradient = jaxact.probe_and_grad(lambda x: jax.nn.gelu(x).sum())(x)
        assert gradient.dtype == report.sites[0].gradient.dtype == np.float64
        assert report.records[0].statistics.peak.dtype == np.float64


# ------------------------------------------------------------------------------------------------
# Where the gradient cannot be seen


@jax.custom_vjp
def own(x):
    return jax.nn.relu(x) * 2


own.defvjp(lambda x: (own(x), x), lambda x, ct: (jnp.where(x > 0, 2 * ct, 0.0),))


def squared_slope(x):
    return (jax.grad(lambda x: jax.nn.silu(x).sum())(x) ** 2).sum()


def in_while_loop(x):
    return lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, jax.nn.relu(c[1])), (0, x))[1]


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (own, "a function with a derivative of its own"),
        (jax.jit(lambda x: lax.scan(lambda h, _: (own(h), None), x, None, 2)[0]), "of its own"),
        (
            lambda x: jaxact.mlp(x, jnp.eye(5), jnp.eye(5), activation="relu"),
            "a feed-forward block of jaxact",
        ),
        (lambda x: in_while_loop(lax.stop_gradient(x)), "lax.while_loop"),
        (squared_slope, "a derivative that the function takes itself"),
    ],
)
def test_nan_where_the_gradient_is_not_seen(fn, name):
    def loss(x):
        return fn(jnp.tanh(x)).sum() + (x**2).sum()

    (value, report), gradient = jax.jit(jaxact.probe_and_grad(loss))(X)
    assert_equal((value, gradient), jax.jit(jax.value_and_grad(loss))(X))
    seen, *unseen = report.sites
    assert np.isfinite(seen.gradient).all() and unseen
    assert all(np.isnan(site.gradient).all() and (site.count > 0).all() for site in unseen)
    ((found, count),) = report.no_gradient
    assert found.endswith(name) and count == len(report.records) - 1
    note = f"No gradient from: {found} ({count})."
    assert note in " ".join(str(report).split()) and note in report.advice().summary
    # Once NaN, always NaN.
    for merged in (report.merge(report), jax.jit(lambda a, b: a.merge(b))(report, report)):
        assert np.isnan(merged.sites[1].gradient).all() and merged.no_gradient == report.no_gradient
        np.testing.assert_array_equal(merged.sites[0].gradient, seen.gradient)


def test_a_derivative_of_its_own_around_nothing_else_is_seen():
    @jax.custom_jvp
    def mine(x):
        return jax.nn.relu(x)

    mine.defjvp(lambda x, t: (mine(*x), t[0] * 5))
    (_, report), _ = jaxact.probe_and_grad(lambda x: 2 * mine(x).sum())(X)
    np.testing.assert_array_equal(report.sites[0].gradient, np.full(5, 2))
    assert report.no_gradient == ()


def test_a_result_that_nothing_depends_on_has_no_gradient():
    def loss(x):
        return (x**2).sum(), jax.nn.relu(x)

    (_, report), _ = jaxact.probe_and_grad(loss, has_aux=True)(X)
    np.testing.assert_array_equal(report.sites[0].gradient, np.zeros(5))


# ------------------------------------------------------------------------------------------------
# Reports


def test_gradients_merge_by_samples():
    probed = jax.jit(jaxact.probe_and_grad(lambda x: (jax.nn.gelu(x) * x).sum()))
    parts = [probed(x)[0][1] for x in (X[:2], X[2:])]
    merged = parts[0].merge(parts[1])
    np.testing.assert_allclose(
        merged.sites[0].gradient, probed(X)[0][1].sites[0].gradient, rtol=1e-6
    )
    _, without = jaxact.probe(lambda x: (jax.nn.gelu(x) * x).sum())(X)
    with pytest.raises(ValueError, match=r"gradients|of different models"):
        merged.merge(without)


def test_with_ranks():
    (_, report), _ = jaxact.probe_and_grad(lambda x: jnp.tanh(x).sum(), rank=True)(X)
    assert 1 <= report.sites[0].stable_rank <= report.sites[0].effective_rank <= 5


def test_vmapped_and_differentiated():
    def loss(w, x):
        return head(layer(w, x))

    step = jax.jit(jaxact.probe_and_grad(loss))
    (values, report), gradient = jax.vmap(step)(STACK, jnp.stack([X] * 3))
    assert_equal(jax.tree.map(jnp.shape, (values, gradient)), ((3,), (3, 5, 5)))
    for i, w in enumerate(STACK):
        (_, alone), _ = step(w, X)
        np.testing.assert_allclose(report.sites[0].gradient[i], alone.sites[0].gradient, rtol=1e-5)
    # Second derivatives.
    for outer in (lambda f: jax.grad(lambda w: f(w).sum())(W), lambda f: jax.jvp(f, (W,), (W,))[1]):
        found = outer(lambda w: step(w, X)[1])
        expected = outer(jax.jit(jax.grad(lambda w: loss(w, X))))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_the_loss_must_return():
    for loss, has_aux, message in (
        (lambda x: jax.nn.relu(x), False, r"one floating number, got float32\[6,5\]"),
        (lambda x: (x.sum(), x), False, "got tuple.* pass has_aux=True"),
        (lambda x: x.sum(), True, r"must return \(value, aux\)"),
        (lambda x: (x > 0).sum(), False, r"got int32\[\]"),
        (lambda x: 1.0, False, "got float"),
    ):
        with pytest.raises(TypeError, match=message):
            jaxact.probe_and_grad(loss, has_aux=has_aux)(X)
    with pytest.raises(TypeError, match="argnums must be an integer or a sequence .* got 'w'"):
        jaxact.probe_and_grad(scanned, argnums="w")
    with pytest.raises(ValueError, match="argnums has 2, but the call has 2 positional"):
        jaxact.probe_and_grad(scanned, argnums=2)(STACK, X)
    with pytest.raises(TypeError, match="probe_and_grad: fn must be a function"):
        jaxact.probe_and_grad(3)
    with pytest.raises(TypeError, match="int"):
        jaxact.probe_and_grad(lambda n: jax.nn.relu(n.astype(jnp.float32)).sum())(jnp.arange(3))
    with pytest.warns(UserWarning, match="probe_and_grad: no activation") as caught:
        jaxact.probe_and_grad(lambda x: (x @ x.T).sum())(X)
    assert caught[0].filename == __file__


# ------------------------------------------------------------------------------------------------
# Modules and devices


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(5, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.second = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.norm(self.first(x))))


def test_nnx():
    def loss(scale, model, x):
        return (model(x) * scale).mean()

    model, other = Net(nnx.Rngs(0)), Net(nnx.Rngs(0))
    step = nnx.jit(jaxact.probe_and_grad(loss, argnums=(1, 0)))
    plain = nnx.jit(nnx.value_and_grad(loss, argnums=(1, 0)))
    (value, report), found = step(2.0, model, X)
    both = (value, found), plain(2.0, other, X)
    assert jax.tree.structure(both[0]) == jax.tree.structure(both[1])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), *both)
    # The batch statistics have moved on, and are not differentiated by.
    np.testing.assert_allclose(model.norm.mean[...], other.norm.mean[...])
    assert [site.path for site in report.sites] == ["Net"] and report.sites[0].gradient.any()
    with pytest.raises(TypeError, match="NNX module inside of a tuple"):
        jaxact.probe_and_grad(lambda models, x: models[0](x).sum())([model], X)


def test_swapped():
    def loss(w, x):
        return jax.nn.relu(x @ w).sum()

    swapped = jaxact.swap(jaxact.probe_and_grad(loss), {"relu": "leaky_relu:0.5"})
    (value, report), gradient = swapped(W, X)
    expected = jax.value_and_grad(lambda w: jaxact.leaky_relu(X @ w, 0.5).sum())(W)
    assert_equal((value, gradient), expected)
    assert report.sites[0].function == "leaky_relu"


@pytest.mark.parametrize("check_vma", [True, False])
def test_in_the_body_of_shard_map(check_vma):
    """Of the loss that each device computes."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))

    def loss(w, x):
        return (jax.nn.gelu(x @ w) ** 3).mean() + jax.nn.silu(w).sum()

    def body(w, x):
        (_, report), _ = jaxact.probe_and_grad(loss)(w, x)
        return report.psum("data")

    x, w = normal(8, 4), normal(4, 6, seed=3)
    of_all = jax.jit(
        jax.shard_map(
            body, mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), check_vma=check_vma
        )
    )(w, x)
    step = jax.jit(jaxact.probe_and_grad(loss))
    halves = [gradients(step(w, part)[0][1]) for part in (x[:4], x[4:])]
    first, second = gradients(of_all)
    np.testing.assert_allclose(first, np.mean([half[0] for half in halves], 0), rtol=1e-5)
    # What all devices share has the gradient of the sum of their losses, as JAX has it.
    np.testing.assert_allclose(second, halves[0][1] * (2 if check_vma else 1), rtol=1e-5)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_sharded(kind):
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType[kind],) * 2)
    x, w = normal(8, 4), normal(4, 6, seed=3)

    def loss(w, x):
        return (jax.nn.gelu(x @ w) ** 3).sum()

    step = jax.jit(jaxact.probe_and_grad(loss, rank=True))
    (_, expected), _ = step(w, x)
    with jax.set_mesh(mesh):
        placed = [
            jax.device_put(v, NamedSharding(mesh, spec))
            for v, spec in ((w, P(None, "b")), (x, P("a", None)))
        ]
        (_, report), _ = step(*placed)
    for name in ("gradient", "effective_rank"):
        found, alone = (getattr(r.sites[0], name) for r in (report, expected))
        np.testing.assert_allclose(found, alone, rtol=1e-5)


# ------------------------------------------------------------------------------------------------
# Costs


@pytest.mark.parametrize("loss", [chain, scanned])
def test_nothing_of_the_size_of_an_activation_is_kept(loss):
    """Each further layer takes as much memory as without the probe."""
    x = normal(4096, 5)

    def growth(step):
        few, many = (
            jax.jit(step).lower(normal(n, 5, 5), x).compile().memory_analysis().temp_size_in_bytes
            for n in (2, 6)
        )
        return many - few

    plain, probed = growth(jax.value_and_grad(loss)), growth(jaxact.probe_and_grad(loss))
    assert plain >= 4 * x.nbytes
    assert probed < plain + x.nbytes / 2


def test_steps_are_traced_once():
    traced = []

    @jax.jit
    def step(w, x):
        traced.append(None)
        return jaxact.probe_and_grad(scanned)(w, x)

    for _ in range(2):
        step(STACK, X)
    assert len(traced) == 1
