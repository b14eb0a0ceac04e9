"""jaxact.plasticity: exactly the right units get new weights, moments and state, inside jit too."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax
from scipy.special import betaln

import jaxact
from jaxact import initializers, plasticity

UNITS = 6
KEY = jax.random.key(7)
X = jnp.eye(4)


def model(params, x):
    h = jax.nn.relu(x @ params["in"]["w"] + params["in"]["b"][None])
    return h @ params["out"]


def params_of(*sizes):
    """Units of which E|h| is as given on X, where they fire on each sample if it is not 0."""
    rng = np.random.default_rng(0)
    bias = np.where(np.array(sizes) > 0, sizes, -1.0).astype(np.float32)
    return {
        "in": {"w": jnp.zeros((4, UNITS)), "b": jnp.asarray(bias)},
        "out": jnp.asarray(rng.choice([-1.0, 1.0], (UNITS, 3)).astype(np.float32)),
    }


PROBED = jax.jit(jaxact.probe(model))
OPTIMIZER = optax.adam(1e-3)


def report_of(params, x=X):
    return PROBED(params, x)[1]


def moments_of(params):
    return jax.tree.map(lambda m: m + 1, OPTIMIZER.init(params))


def renewed(before, after):
    """The units whose outgoing weights have become 0."""
    return np.flatnonzero((after["out"] == 0).all(1) & (before["out"] != 0).any(1)).tolist()


def alike(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("jitted", [False, True])
def test_what_changes(jitted):
    """Incoming weights, outgoing ones, biases, and the moments of these."""
    params = params_of(4, 0, 4, 0.1, 4, 4)
    opt_state = moments_of(params)
    method = plasticity.redo(tau=0.05, every=1)
    update = jax.jit(method.update) if jitted else method.update
    report = report_of(params)
    state = method.init(params)
    new, moments, after = update(report, params, opt_state, state, KEY)
    assert jax.tree.structure((new, moments, after)) == jax.tree.structure(
        (params, opt_state, state)
    )
    assert renewed(params, new) == [1, 3]
    mask = np.isin(np.arange(UNITS), [1, 3])
    key = jax.random.fold_in(jax.random.fold_in(KEY, 1), 0)
    drawn = initializers.he_normal(0, 1)(key, (4, UNITS))
    np.testing.assert_array_equal(new["in"]["w"], np.where(mask, drawn, params["in"]["w"]))
    np.testing.assert_array_equal(new["in"]["b"], np.where(mask, 0, params["in"]["b"]))
    np.testing.assert_array_equal(new["out"], np.where(mask[:, None], 0, params["out"]))
    for own in (moments[0].mu, moments[0].nu):
        np.testing.assert_array_equal(own["in"]["w"], np.where(mask, 0, np.ones((4, UNITS))))
        np.testing.assert_array_equal(own["in"]["b"], np.where(mask, 0, 1))
        np.testing.assert_array_equal(own["out"], np.where(mask[:, None], 0, np.ones((6, 3))))
    assert int(moments[0].count) == 1
    # The same key, other weights at another time; and the same at the same.
    again = update(report, params, opt_state, state, KEY)
    alike(again, (new, moments, after))
    later = update(report, params, opt_state, after, KEY)[0]
    assert (later["in"]["w"] != new["in"]["w"])[:, mask].all()


def test_without_an_optimizer():
    params = params_of(4, 0, 4, 4, 4, 4)
    method = plasticity.redo(every=1)
    new, opt_state, _ = method.update(report_of(params), params, None, method.init(params), KEY)
    assert opt_state is None and renewed(params, new) == [1]


def test_redo_waits():
    params = params_of(4, 0, 4, 4, 4, 4)
    report = report_of(params)
    method = plasticity.redo(every=3)
    update = jax.jit(method.update)
    state = method.init(params)
    for found in ([], [], [1], [], [], [1]):
        new, _, state = update(report, params, None, state, KEY)
        assert renewed(params, new) == found


def test_redo_by_the_score():
    """At the threshold it is dormant; a layer that is 0 is dormant as a whole."""
    method = plasticity.redo(tau=0.25, every=1)
    params = params_of(1, 0.25, 1, 1.75, 1, 1)
    new = method.update(report_of(params), params, None, method.init(params), KEY)[0]
    assert renewed(params, new) == [1]
    params = params_of(*[0] * UNITS)
    new = method.update(report_of(params), params, None, method.init(params), KEY)[0]
    assert renewed(params, new) == list(range(UNITS))


def test_continual_backprop():
    """The utility by hand, and whole units of what is owed."""
    sizes = np.array([4, 3, 0.5, 2, 3, 4])
    decay, rate, maturity = 0.9, 0.1, 3
    method = plasticity.continual_backprop(replacement_rate=rate, decay=decay, maturity=maturity)
    params = params_of(*sizes)
    params["out"] = params["out"] * jnp.array([[1], [1], [9], [1], [1], [1]], jnp.float32)
    update = jax.jit(method.update)
    state = method.init(params)
    age, utility, owed = np.zeros(UNITS), np.zeros(UNITS), 0.0
    replaced = []
    for _ in range(14):
        report = report_of(params)
        magnitude = np.asarray(report.records[0].statistics.magnitude).sum(-1)
        outgoing = np.abs(np.asarray(params["out"])).sum(1)
        age += 1
        utility = decay * utility + (1 - decay) * magnitude * outgoing
        owed += rate * (age > maturity).sum()
        expected = []
        while owed >= 1:
            candidates = np.where(age > maturity, utility / (1 - decay**age), np.inf)
            expected.append(int(candidates.argmin()))
            age[expected[-1]] = utility[expected[-1]] = 0
            owed -= 1
        new, _, state = update(report, params, None, state, KEY)
        assert renewed(params, new) == sorted(expected)
        replaced += expected
        # What is new is read again.
        params = {**new, "out": jnp.where(new["out"] == 0, 20.0, new["out"])}
        _, axis = state.units["in/w"]
        np.testing.assert_array_equal(axis["age"], age)
        np.testing.assert_allclose(axis["utility"], utility, rtol=1e-5)
        np.testing.assert_allclose(axis["owed"], owed, atol=1e-5)
    assert replaced[0] == 3 and len(replaced) >= 5


def test_contribution_to_several_readers():
    """Of rows that are each of one unit, next to each other, and of two layers."""

    def several(params, x):
        h = jax.nn.relu(x @ params["in"]["w"] + params["in"]["b"][None])
        twice = jnp.broadcast_to(h[:, :, None], (*h.shape, 2)).reshape(len(h), -1)
        return h @ params["out"], twice @ params["twice"]

    params = params_of(1, 2, 3, 4, 5, 6)
    params["out"] = params["out"].at[:, 1].set(0.0)
    params["twice"] = -jnp.arange(12.0)[:, None]
    method = plasticity.continual_backprop(decay=0.5)
    report = jaxact.probe(several)(params, X)[1]
    state = method.update(report, params, None, method.init(params), KEY)[2]
    read = 2 + np.arange(12).reshape(6, 2).sum(1)
    np.testing.assert_allclose(
        state.units["in/w"][1]["utility"], 0.5 * np.arange(1, 7) * read, rtol=1e-6
    )


def test_continual_backprop_of_equal_units():
    """No more than are owed."""
    method = plasticity.continual_backprop(replacement_rate=0.5, maturity=1)
    params = params_of(*[0] * UNITS)
    state, report = method.init(params), report_of(params)
    counts = []
    for _ in range(2):
        new, _, state = method.update(report, params, None, state, KEY)
        counts.append(len(renewed(params, new)))
    assert counts == [0, 3]


def test_self_normalized_resets():
    """A unit that has fired seldom is waited for the longer, as by the Beta function."""
    method = plasticity.self_normalized_resets(rejection=0.02, decay=0.9)
    update = jax.jit(method.update)
    on = params_of(*[1] * UNITS)
    # Of 4 samples, so many fire.
    firings = np.array([4, 3, 2, 1, 0, 4])
    on["in"]["b"] = jnp.full((UNITS,), -1.0)
    on["in"]["w"] = jnp.asarray(2.0 * (np.arange(4)[:, None] < firings), jnp.float32)
    off = {**on, "in": {"w": jnp.zeros((4, UNITS)), "b": jnp.asarray([-1.0] * 5 + [1.0])}}
    state = method.init(on)
    fired, total = np.zeros(UNITS), np.zeros(UNITS)
    for _ in range(5):
        new, _, state = update(report_of(on), on, None, state, KEY)
        assert renewed(on, new) == []
        fired, total = 0.9 * fired + firings, 0.9 * total + 4
    fired[4] = total[4] = 0
    silent = np.array([0, 0, 0, 0, 20, 0.0])
    waits = np.full(UNITS, 0)
    for round_ in range(1, 12):
        new, _, state = update(report_of(off), on, None, state, KEY)
        silent[:5] += 4
        log = betaln(fired + 1, total - fired + 1 + silent) - betaln(fired + 1, total - fired + 1)
        expected = np.flatnonzero(log <= np.log(0.02)).tolist()
        assert renewed(on, new) == expected, round_
        waits[expected] = np.where(waits[expected] == 0, round_, waits[expected])
        silent[expected] = fired[expected] = total[expected] = 0
    # The one that goes on firing is left alone; one that has never fired is reset after 49 samples.
    assert waits.tolist() == [1, 1, 2, 5, 8, 0]
    # A silence is part of the samples once it has ended.
    _, axis = update(report_of(on), on, None, state, KEY)[2].units["in/w"]
    fires = np.isin(np.arange(UNITS), [0, 1, 2, 3])
    np.testing.assert_allclose(axis["samples"][fires], (0.9 * total + silent + 4)[fires], rtol=1e-5)
    np.testing.assert_allclose(axis["silent"], np.where(firings > 0, 0, silent + 4))


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_probability_of_a_silence(scale):
    """In float32, with large counts too."""
    firings = np.array([0, 1, 5, 100, 3000], np.float32) * scale
    samples = firings * 4 + 10
    silent = np.array([30, 5, 9, 17, 8], np.float32)
    found = plasticity._log_of_longer(*map(jnp.asarray, (silent, firings, samples)))
    a, b, n = (v.astype(np.float64) for v in (firings + 1, samples - firings + 1, silent))
    exact = betaln(a, b + n) - betaln(a, b)
    if scale > 1:  # SciPy's has no digits left there. It comes close to (1 - p)^a.
        exact[1:] = (n * np.log(b / (a + b)))[1:]
    np.testing.assert_allclose(found, exact, atol=0.01)


METHODS = {
    "redo": plasticity.redo(every=1),
    "continual_backprop": plasticity.continual_backprop(replacement_rate=0.3, maturity=1),
    "self_normalized_resets": plasticity.self_normalized_resets(rejection=0.3),
}


@pytest.mark.parametrize("name", METHODS)
def test_seeds_at_once(name):
    """vmap over runs gives what each run gives; nothing is known from no samples."""
    method = METHODS[name]

    def run(params, key):
        def step(carry, _):
            params, opt_state, state = carry
            report = jaxact.probe(model)(params, X)[1]
            return method.update(report, params, opt_state, state, key), None

        carry = params, OPTIMIZER.init(params), method.init(params)
        return lax.scan(step, carry, length=4)[0]

    several = [params_of(4, 0, 4, 0.01, 4, 4), params_of(4, 4, 4, 0, 4, 0)]
    keys = jax.random.split(KEY, 2)
    together = jax.jit(jax.vmap(run))(jax.tree.map(lambda *p: jnp.stack(p), *several), keys)
    run = jax.jit(run)
    for i, params in enumerate(several):
        alone = run(params, keys[i])
        assert renewed(params, alone[0]) != []
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6), together, alone
        )

    params = params_of(*[0] * UNITS)
    state = method.init(params)
    new, _, after = method.update(report_of(params, X[:0]), params, None, state, KEY)
    alike((new, after.units), (params, state.units))


class Net(nnx.Module):
    """Convolutions, a normalization, a smooth function, and what flattens."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Conv(2, 4, (3, 3), rngs=rngs)])
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dense = nnx.Linear(4 * 4 * 4, 5, rngs=rngs)
        self.last = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.layers[0](x)))
        return self.last(nnx.tanh(self.dense(x.reshape(len(x), -1))))


def test_nnx():
    """Changed in place: the module, and its optimizer."""
    net = Net(nnx.Rngs(0))
    net.norm.bias[...] = jnp.array([0.0, -100.0, 0.0, 0.0])
    net.norm.scale[...] = jnp.full((4,), 0.5)
    net.dense.kernel[...] = net.dense.kernel[...].at[:, 2].set(0.0)
    optimizer = nnx.Optimizer(net, OPTIMIZER, wrt=nnx.Param)
    nnx.update(optimizer, jax.tree.map(lambda v: v + 1, nnx.state(optimizer)))
    method = plasticity.redo(every=1)
    state = method.init(net)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype(np.float32))

    @nnx.jit
    def step(net, optimizer, state):
        _, report = jaxact.probe(net)(images)
        return method.update(report, net, optimizer, state, KEY)[2]

    before = nnx.to_pure_dict(nnx.state(net))
    state = step(net, optimizer, state)
    assert int(state.step) == 1
    after = nnx.to_pure_dict(nnx.state(net))
    kernel = np.asarray(after["layers"][0]["kernel"] != before["layers"][0]["kernel"])
    assert np.flatnonzero(kernel.all((0, 1, 2))).tolist() == [1]
    assert after["norm"]["bias"][1] == 0 and after["norm"]["scale"].tolist() == [0.5, 1, 0.5, 0.5]
    # The dense layer reads each channel at 16 positions; one of its own units is new.
    of_channel = np.arange(64) % 4 == 1
    changed = np.asarray(after["dense"]["kernel"] != before["dense"]["kernel"])
    assert changed[of_channel].all() and changed[:, 2].all()
    assert not np.asarray(after["dense"]["kernel"])[of_channel][:, [0, 1, 3, 4]].any()
    assert not changed[~of_channel][:, [0, 1, 3, 4]].any()
    assert np.flatnonzero((after["last"]["kernel"] == 0).all(1)).tolist() == [2]
    mu = optimizer.opt_state[0].mu
    alike(mu["dense"]["kernel"][...] == 0, changed)
    alike(mu["norm"]["scale"][...] == 0, np.arange(4) == 1)
    assert int(optimizer.opt_state[0].count[...]) == 1


def test_what_is_left_alone_is_named():
    """A scan, and an output."""

    def scanned(params, x):
        h = lax.scan(lambda c, row: (c, model(params["one"], row[None])), 0, x)[1]
        return jnp.tanh(model(params["other"], h[:, 0] @ jnp.ones((3, 4))))

    params = {"one": params_of(4, 0, 4, 4, 4, 4), "other": params_of(4, 4, 0, 4, 4, 4)}
    report = jaxact.probe(scanned)(params, X)[1]
    method = plasticity.redo(every=1)
    with pytest.warns(UserWarning, match="redo: these activations are left alone:") as caught:
        new = method.update(report, params, None, method.init(params), KEY)[0]
    (warning,) = caught
    assert warning.filename == __file__
    lines = str(warning.message).splitlines()[1:]
    assert [line.rpartition(": ")[2] for line in lines] == [
        "it is inside lax.scan.",
        "its output is a result of the function.",
    ]
    assert renewed(params["other"], new["other"]) == [2]
    alike(new["one"], params["one"])
    report = jaxact.probe(lambda x: jax.nn.relu(x))(X)[1]
    with pytest.raises(ValueError, match="redo: no activation has units that can get new weights"):
        method.update(report, params, None, method.init(params), KEY)


def test_wrong_arguments():
    wrong = {
        (plasticity.redo, "tau"): "a",
        (plasticity.redo, "every"): 0,
        (plasticity.continual_backprop, "replacement_rate"): 1.5,
        (plasticity.continual_backprop, "decay"): 1,
        (plasticity.continual_backprop, "maturity"): 2.5,
        (plasticity.self_normalized_resets, "rejection"): 0,
        (plasticity.self_normalized_resets, "decay"): "x",
    }
    for (make, name), value in wrong.items():
        with pytest.raises(ValueError, match=f"{make.__name__}: {name} must be .*, got {value!r}"):
            make(**{name: value})
    params = params_of(4, 0, 4, 4, 4, 4)
    method = plasticity.redo()
    with pytest.raises(TypeError, match="redo: report must be a Report of jaxact.probe, got 3"):
        method.update(3, params, None, method.init(params), KEY)
    with pytest.raises(ValueError, match="redo: state knows nothing of in/w: make it by init"):
        method.update(report_of(params), params, None, method.init({}), KEY)
    with pytest.raises(TypeError, match="redo: state must be what init returns, got dict"):
        method.update(report_of(params), params, None, params, KEY)
    other = plasticity.self_normalized_resets().init(params)
    with pytest.raises(ValueError, match="redo: state is that of another method"):
        method.update(report_of(params), params, None, other, KEY)
    with pytest.raises(TypeError, match="redo: key must be a PRNG key .*, got None"):
        method.update(report_of(params), params, None, method.init(params), None)


def test_a_report_that_is_not_finite_changes_nothing():
    params = params_of(4, 3, 2, 1, 1, 1)
    method = plasticity.continual_backprop(replacement_rate=0.5, maturity=1)
    state = method.update(report_of(params), params, None, method.init(params), KEY)[2]
    new, _, after = method.update(report_of(params, X * jnp.nan), params, None, state, KEY)
    jax.tree.map(alike, (new, after.units), (params, state.units))
