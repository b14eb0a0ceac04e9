"""Steps of loops: one site for each where each has parameters of its own, else one for all."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn, nnx
from jax import lax

import jaxact
from tests.support import user_models
from tests.support.samples import normal

W = normal(0, (4, 4))
STACK = normal(1, (3, 4, 4)) / 2
X = normal(2, (6, 4))
SEQUENCE = normal(3, (5, 6, 4))
PARAMETERS = {"w": W, "u": normal(4, (4, 4)) / 2, "h": normal(5, (4,))}
APART, POOLED = [(0,), (1,), (2,)], [()]


def recurrent(p, xs, start=None):
    def step(h, x):
        h = jax.nn.relu(x @ p["w"] + h @ p["u"])
        return h, None

    h = jnp.zeros(xs.shape[1:]) if start is None else jnp.broadcast_to(start, xs.shape[1:])
    return lax.scan(step, h, xs)[0]


def layers(ws, x):
    return lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), x, ws)[0]


def indexed(ws, x):
    return lax.fori_loop(0, 3, lambda i, h: jax.nn.relu(h @ ws[i]), x)


def indexed_while(ws, x):
    return lax.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + 1, jax.nn.relu(s[1] @ ws[s[0]])), (0, x)
    )[1]


def trained(w, x):
    def step(w, _):
        return w - 0.1 * jax.grad(lambda w: (jax.nn.relu(x @ w) ** 2).sum())(w), None

    return lax.scan(step, w, length=3)[0]


def hebbian(w, x):
    """Weights in the carry, without a gradient."""

    def step(w, _):
        return w + 0.01 * x.T @ jax.nn.relu(x @ w), None

    return lax.scan(step, w, length=3)[0]


def evolved(w, x):
    """Weights in the carry, with noise where they are read."""

    def step(w, noise):
        return w + 0.01 * x.T @ jax.nn.relu(x @ (w + noise)), None

    return lax.scan(step, w, jnp.ones((3, 4, 4)))[0]


def noisy(ws, x, key=0):
    return layers(ws + 0.1 * jax.random.normal(jax.random.key(key), ws.shape), x)


def carried_along(w, x):
    """Weights in the carry that stay as they are."""

    def step(carry, _):
        w, h = carry
        return (w, jax.jit(lambda w, h: jax.nn.relu(h @ w))(w, h)), None

    return lax.scan(step, (w, x), length=3)[0][1]


def masked(p, xs):
    """A mask that varies is no parameter."""
    keep = np.array([True, False, True, True, True])

    def step(h, each):
        x, k = each
        return jnp.where(k, jax.nn.relu(x @ p["w"] + h), h), None

    return lax.scan(step, jnp.zeros(xs.shape[1:]), (xs, keep))[0]


def scaled(p, xs):
    """A weight that varies with the counter is one."""

    def step(h, each):
        i, x = each
        return jax.nn.relu(x @ (p["w"] * i)), None

    return lax.scan(step, jnp.zeros(xs.shape[1:]), (jnp.arange(3.0), xs[:3]))[0]


@pytest.mark.parametrize(
    ("fn", "parameters", "data", "iterations"),
    [
        pytest.param(recurrent, PARAMETERS, SEQUENCE, POOLED, id="recurrent"),
        pytest.param(
            lambda p, xs: recurrent(p, xs, p["h"]), PARAMETERS, SEQUENCE, POOLED, id="learned start"
        ),
        pytest.param(jax.checkpoint(recurrent), PARAMETERS, SEQUENCE, POOLED, id="in remat"),
        pytest.param(jax.jit(recurrent), PARAMETERS, SEQUENCE, POOLED, id="in jit"),
        pytest.param(
            lambda p, xs: jax.grad(lambda p: recurrent(p, xs).sum())(p),
            *(PARAMETERS, SEQUENCE, POOLED),
            id="in a gradient",
        ),
        pytest.param(masked, PARAMETERS, SEQUENCE, POOLED, id="masked"),
        pytest.param(carried_along, W, X, POOLED, id="weights carried along"),
        pytest.param(layers, STACK, X, APART, id="layers"),
        pytest.param(indexed, STACK, X, APART, id="indexed"),
        pytest.param(indexed_while, STACK, X, POOLED, id="indexed in while"),
        pytest.param(scaled, PARAMETERS, SEQUENCE, APART, id="scaled"),
        pytest.param(trained, W, X, APART, id="trained"),
        pytest.param(hebbian, W, X, APART, id="hebbian"),
        pytest.param(evolved, W, X, APART, id="evolved"),
        pytest.param(noisy, STACK, X, APART, id="noisy layers"),
    ],
)
def test_steps_are_apart_where_parameters_differ(fn, parameters, data, iterations):
    _, report = jaxact.probe(fn)(parameters, data)
    assert [site.iteration for site in report.sites] == iterations
    _, report = jaxact.probe(fn, scan="pool")(parameters, data)
    assert [site.iteration for site in report.sites] == POOLED


def test_closed_over_weights_are_parameters():
    _, report = jaxact.probe(lambda x: layers(STACK, x))(X)
    assert [site.iteration for site in report.sites] == APART
    _, report = jaxact.probe(lambda xs: recurrent(PARAMETERS, xs))(SEQUENCE)
    assert [site.iteration for site in report.sites] == POOLED


def test_pooled_figures_are_those_of_all_steps():
    _, pooled = jax.jit(jaxact.probe(recurrent))(PARAMETERS, SEQUENCE)
    _, apart = jax.jit(jaxact.probe(recurrent, scan="steps"))(PARAMETERS, SEQUENCE)
    (site,), steps = pooled.sites, apart.sites
    assert len(steps) == site.steps == 5 and (site.count == 5 * 6).all()
    np.testing.assert_allclose(site.active, np.mean([s.active for s in steps], 0), rtol=1e-6)
    np.testing.assert_allclose(site.mean, np.mean([s.mean for s in steps], 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(site.dead, np.all([s.dead for s in steps], 0))
    assert all(s.steps == 1 for s in steps)


def test_values_and_gradients_of_a_pooled_loop():
    def loss(fn):
        return lambda p: (fn(p, SEQUENCE) ** 2).sum()

    probed = jaxact.probe(recurrent)
    expected = jax.jit(jax.value_and_grad(loss(recurrent)))(PARAMETERS)
    found = jax.jit(jax.value_and_grad(loss(lambda *args: probed(*args)[0])))(PARAMETERS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_a_recurrence_in_a_scan_over_layers_pools_time_only():
    def model(stack, xs):
        def layer(xs, p):
            def step(h, x):
                h = jax.nn.relu(x @ p[0] + h @ p[1])
                return h, h

            return lax.scan(step, jnp.zeros(xs.shape[1:]), xs, reverse=True)[1], None

        return lax.scan(layer, xs, stack)[0]

    _, report = jax.jit(jaxact.probe(model))((STACK, STACK), SEQUENCE)
    assert [(s.iteration, s.steps) for s in report.sites] == [((0,), 5), ((1,), 5), ((2,), 5)]
    alone = SEQUENCE
    for i, site in enumerate(report.sites):
        xs, pre = alone, []
        h = jnp.zeros(xs.shape[1:])
        for x in xs[::-1]:
            pre.append(x @ STACK[i] + h @ STACK[i])
            h = jax.nn.relu(pre[-1])
        alone = jnp.stack([jax.nn.relu(z) for z in pre[::-1]])
        np.testing.assert_allclose(site.mean, jnp.stack(pre).mean((0, 1)), rtol=1e-4, atol=1e-5)


def test_sites_of_one_loop_may_be_pooled_and_apart():
    def model(p, x):
        def step(h, w):
            a = jax.nn.relu(h @ w)
            return h + jax.nn.sigmoid(x @ p["u"]), a.sum() + jnp.tanh(h @ w).sum()

        return lax.scan(step, x, p["stack"])

    _, report = jaxact.probe(model)({"u": W, "stack": STACK}, X)
    assert [(s.function, s.iteration) for s in report.sites] == [
        *(("relu", (0,)), ("tanh", (0,)), ("relu", (1,)), ("tanh", (1,))),
        *(("relu", (2,)), ("tanh", (2,)), ("sigmoid", ())),
    ]


def test_reports_of_different_lengths_merge():
    probed = jax.jit(jaxact.probe(recurrent))
    _, five = probed(PARAMETERS, SEQUENCE)
    _, three = probed(PARAMETERS, SEQUENCE[:3])
    merged = five.merge(three)
    (site,) = merged.sites
    assert site.steps == (3, 5) and (site.count == 8 * 6).all()
    assert five.merge(five).sites[0].steps == 5
    assert "[3 to 5 steps]" in str(merged) and "the bound is too low" in str(merged)
    assert "[5 steps]" in str(five)
    with pytest.raises(ValueError, match="different models"):
        five.merge(jaxact.probe(recurrent, scan="steps")(PARAMETERS, SEQUENCE)[1])


def test_a_loop_without_steps():
    probed = jax.jit(jaxact.probe(recurrent))
    _, report = probed(PARAMETERS, SEQUENCE[:0])
    (site,) = report.sites
    assert site.steps == 0 and site.count.tolist() == [0] * 4
    merged = report.merge(probed(PARAMETERS, SEQUENCE)[1])
    assert merged.sites[0].steps == (0, 5) and (merged.sites[0].count == 30).all()


def test_layers_in_a_training_loop_are_apart():
    optimizer = optax.sgd(1e-2, momentum=0.9)

    def train(state, batches):
        def step(state, x):
            ws, moments = state
            gradient = jax.grad(lambda ws: (layers(ws, x) ** 2).mean())(ws)
            updates, moments = optimizer.update(gradient, moments)
            return (optax.apply_updates(ws, updates), moments), None

        return lax.scan(step, state, batches)[0]

    _, report = jaxact.probe(train)((STACK, optimizer.init(STACK)), SEQUENCE[:2])
    assert [site.iteration for site in report.sites] == [(i, j) for i in (0, 1) for j in range(3)]

    def adapted(ws, x):
        gradient = jax.grad(lambda ws: (layers(ws, x) ** 2).mean())(ws)
        return layers(ws - 0.1 * gradient, x)

    _, report = jaxact.probe(adapted)(STACK, X)
    assert [site.iteration for site in report.sites] == 2 * APART


def test_while_loops_do_not_say_how_many_steps():
    _, report = jaxact.probe(indexed_while)(STACK, X)
    (site,) = report.sites
    assert site.steps is None and (site.count == 18).all()
    assert "[all steps]" in str(report)


def test_advice_says_that_steps_are_no_independent_samples():
    dying = {**PARAMETERS, "w": -10 * abs(W), "u": 0 * W}
    _, report = jaxact.probe(recurrent)(dying, abs(jnp.tile(SEQUENCE, (1, 20, 1))))
    assert "no independent samples" in str(report.advice())


def lstm_linen():
    model = nn.RNN(nn.OptimizedLSTMCell(4))
    return model.apply, model.init(jax.random.key(0), jnp.swapaxes(SEQUENCE, 0, 1))


def lstm_haiku():
    model = user_models.haiku_lstm(4)
    parameters = model.init(jax.random.key(0), SEQUENCE)
    return lambda p, xs: model.apply(p, jnp.swapaxes(xs, 0, 1)), parameters


def gru_equinox():
    def model(cell, xs):
        step = jax.vmap(cell)
        return lax.scan(lambda h, x: (step(x, h), None), jnp.zeros((6, 4)), jnp.swapaxes(xs, 0, 1))[
            0
        ]

    return model, eqx.nn.GRUCell(4, 4, key=jax.random.key(0))


@pytest.mark.parametrize("make", [lstm_linen, lstm_haiku, gru_equinox])
def test_cells_of_libraries(make):
    fn, parameters = make()
    _, report = jaxact.probe(fn)(parameters, jnp.swapaxes(SEQUENCE, 0, 1))
    assert report.sites and all(s.steps == 5 and (s.count == 30).all() for s in report.sites)
    gates = [s for s in report.sites if s.function == "sigmoid"]
    assert gates and {s.role for s in gates} == {"gate"}


def test_nnx_recurrent_networks():
    model = nnx.RNN(nnx.LSTMCell(4, 4, rngs=nnx.Rngs(0)))
    _, report = jaxact.probe(model)(jnp.swapaxes(SEQUENCE, 0, 1))
    assert {s.steps for s in report.sites} == {5}
    assert {s.role for s in report.sites if s.function == "sigmoid"} == {"gate"}


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.relu(nn.Dense(4)(x)), None


@pytest.mark.parametrize("shared", [True, False])
def test_linen_scans(shared):
    options = {"variable_broadcast": "params"} if shared else {"variable_axes": {"params": 0}}
    model = nn.scan(Block, split_rngs={"params": not shared}, length=3, **options)()
    variables = model.init(jax.random.key(0), X, None)
    _, report = jaxact.probe(lambda p, x: model.apply(p, x, None))(variables, X)
    assert [site.iteration for site in report.sites] == (POOLED if shared else APART)


@pytest.mark.parametrize("shared", [True, False])
def test_nnx_scans(shared):
    @nnx.scan(in_axes=(None if shared else 0, nnx.Carry), out_axes=nnx.Carry, length=3)
    def model(layer, x):
        return nnx.relu(layer(x))

    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def layers(rngs):
        return nnx.Linear(4, 4, rngs=rngs)

    layer = nnx.Linear(4, 4, rngs=nnx.Rngs(0)) if shared else layers(nnx.Rngs(0))
    _, report = jaxact.probe(model)(layer, X)
    assert [site.iteration for site in report.sites] == (POOLED if shared else APART)


def test_an_unknown_choice_is_an_error():
    with pytest.raises(ValueError, match='scan must be "auto", "steps" or "pool", got \'all\''):
        jaxact.probe(recurrent, scan="all")


def test_gradients_of_pooled_steps_are_those_of_all():
    def loss(p, xs):
        return (recurrent(p, xs) ** 2).sum() + (layers(STACK, xs[0]) ** 2).sum()

    (value, report), gradient = jax.jit(jaxact.probe_and_grad(loss))(PARAMETERS, SEQUENCE)
    expected = jax.value_and_grad(loss)(PARAMETERS, SEQUENCE)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), (value, gradient), expected
    )
    apart = jaxact.probe_and_grad(loss, scan="steps")(PARAMETERS, SEQUENCE)[0][1].sites
    site, *of_layers = report.sites
    assert site.steps == 5 and [s.iteration for s in of_layers] == APART
    mean = np.mean([s.gradient for s in apart[:5]], 0)
    np.testing.assert_allclose(site.gradient, mean, rtol=1e-4)
    np.testing.assert_allclose(
        [s.gradient for s in of_layers], [s.gradient for s in apart[5:]], rtol=1e-4
    )
