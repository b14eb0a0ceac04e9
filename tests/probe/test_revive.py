"""jaxact.revive: dead units get new weights, and the function stays what it was."""

import copy
import pickle
import re
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import jaxact
import jaxact.nnx
from jaxact import initializers
from jaxact._probe import wiring

DEAD = np.array([1, 4, 5])
UNITS = 8
RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.normal(size=(32, 8, 8, 3)).astype(np.float32))
VECTORS = jnp.asarray(RNG.normal(size=(64, 6)).astype(np.float32))


def conv(features):
    return nn.Conv(features, (3, 3))


def pooled(x):
    return nn.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1)


def averaged(x):
    with jax.numpy_dtype_promotion("standard"):
        return nn.avg_pool(x, (2, 2), (2, 2))


def channels_first(x):
    return nn.max_pool(x, (2, 2), (2, 2)).transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


def dropped(x):
    return nn.Dropout(0.5, deterministic=False)(x)


def evaluated(x):
    return nn.BatchNorm(use_running_average=True)(x)


def trained(x):
    return nn.BatchNorm(use_running_average=False)(x)


ONE = np.arange(UNITS)
#: By name: the data; the layer, what is before the relu, what is after it, the next layer; and for
#: each row of the next layer's weights the unit that it reads.
LINEN = {
    "dense": (VECTORS, nn.Dense, None, None, nn.Dense, ONE),
    "norm-evaluated": (VECTORS, nn.Dense, evaluated, dropped, nn.Dense, ONE),
    "conv-conv": (IMAGES, conv, None, None, conv, ONE),
    "norm-trained": (IMAGES, conv, trained, averaged, conv, ONE),
    "max-pool-flatten": (IMAGES, conv, None, pooled, nn.Dense, np.tile(ONE, 16)),
    "channels-first": (IMAGES, conv, None, channels_first, nn.Dense, np.repeat(ONE, 16)),
    "global-mean": (IMAGES, conv, None, lambda x: x.mean((1, 2)), nn.Dense, ONE),
}


class Linen(nn.Module):
    case: str

    @nn.compact
    def __call__(self, x):
        _, layer, before, after, following, _ = LINEN[self.case]
        x = layer(UNITS)(x)
        x = before(x) if before else x
        x = nn.relu(x)
        x = after(x) if after else x
        return following(5)(x)


def numbers(shapes):
    """Arrays of these shapes, made without compiling anything: weights, and vectors of 0 and 1."""
    rng = np.random.default_rng(0)

    def value(path, shape):
        if path[-1].key == "kernel":
            scale = np.sqrt(2 / np.prod(shape.shape[:-1]))
            return jnp.asarray(rng.normal(scale=scale, size=shape.shape).astype(np.float32))
        one = path[-1].key in ("scale", "var")
        return jnp.asarray(np.full(shape.shape, float(one), np.float32))

    return jax.tree_util.tree_map_with_path(value, shapes)


def killed(params):
    """The parameters with dead units: of the normalization if there is one, else of the layer."""
    name = next((n for n in params if n.startswith("BatchNorm")), None)
    name = name or ("Conv_0" if "Conv_0" in params else "Dense_0")
    layer = dict(params[name])
    mask = np.isin(np.arange(UNITS), DEAD)
    layer["bias"] = jnp.asarray(np.where(mask, -100, layer["bias"]).astype(np.float32))
    if "scale" in layer:
        layer["scale"] = jnp.asarray(np.where(mask, 0.5, layer["scale"]).astype(np.float32))
    return {**params, name: layer}


def names_of(case):
    first, last = ("Dense" if LINEN[case][i] is nn.Dense else "Conv" for i in (1, 4))
    return f"{first}_0", f"{last}_{int(first == last)}"


def dead(report):
    return [np.flatnonzero(site.dead).tolist() for site in report.sites]


def alike(a, b):
    """Bit-equal; -0 counts as 0.

    What a revived unit adds to each sum is a product with 0, where it was a product of 0 before:
    the sums round as they did.
    """
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("case", LINEN)
def test_linen(case):
    x, model = LINEN[case][0], Linen(case)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = numbers(jax.eval_shape(model.init, keys, x))
    variables["params"] = params = killed(variables["params"])

    @jax.jit
    def run(variables):
        rngs = {"dropout": jax.random.key(3)}
        call = jaxact.probe(lambda v: model.apply(v, x, mutable="batch_stats", rngs=rngs))
        return call(variables)

    (out, _), report = run(variables)
    assert dead(report) == [DEAD.tolist()]
    new = jaxact.revive(params, report)
    assert jax.tree.structure(new) == jax.tree.structure(params)
    (after, _), again = run({**variables, "params": new})
    alike(after, out)
    assert dead(again) == [[]]
    assert run._cache_size() == 1

    first, last = names_of(case)
    alive = np.setdiff1d(np.arange(UNITS), DEAD)
    rows = LINEN[case][5]
    # What has changed: columns of the incoming weights, rows of the outgoing ones, and vectors.
    kernel, old = new[first]["kernel"], params[first]["kernel"]
    kernel, old = np.asarray(kernel), np.asarray(old)
    alike(kernel[..., alive], old[..., alive])
    drawn = initializers.he_normal(range(kernel.ndim - 1), -1)(
        jax.random.fold_in(jax.random.key(0), 0), kernel.shape
    )
    alike(kernel[..., DEAD], np.asarray(drawn)[..., DEAD])
    kernel, old = np.asarray(new[last]["kernel"]), np.asarray(params[last]["kernel"])
    is_dead = np.isin(rows, DEAD)
    alike(kernel[..., ~is_dead, :], old[..., ~is_dead, :])
    assert not kernel[..., is_dead, :].any()
    assert is_dead.any() and old[..., is_dead, :].all()
    for layer in params:
        for name in params[layer]:
            if name == "kernel":
                continue
            value = np.array(params[layer][name])
            if layer != last:
                value[DEAD] = 1 if name == "scale" else 0
            alike(new[layer][name], value)

    # The whole of the variables will do.
    complete = jaxact.revive(variables, report)
    jax.tree.map(alike, complete["params"], new)
    jax.tree.map(alike, complete.get("batch_stats", {}), variables.get("batch_stats", {}))


def test_gradients():
    """First the outgoing weights learn, then the incoming ones."""
    params = mlp_params()
    step = jax.jit(jax.grad(lambda params: (mlp(params, VECTORS) ** 2).sum()))
    before = step(params)
    assert not before["out"]["w"][DEAD].any() and not before["in"]["w"][:, DEAD].any()
    new = jaxact.revive(params, PROBED(params, VECTORS)[1])
    gradient = step(new)
    assert gradient["out"]["w"][DEAD].all() and not gradient["in"]["w"][:, DEAD].any()
    new = jax.tree.map(lambda p, g: p - 1e-3 * g, new, gradient)
    assert step(new)["in"]["w"][:, DEAD].all()


class Net(nnx.Module):
    """Two hidden layers of convolutions, with a normalization, and a dense one."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Conv(3, UNITS, (3, 3), rngs=rngs)])
        self.norm = nnx.BatchNorm(UNITS, rngs=rngs)
        self.second = nnx.Conv(UNITS, UNITS, (3, 3), padding="CIRCULAR", rngs=rngs)
        self.third = nnx.Linear(16 * UNITS, 12, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.last = nnx.Linear(12, 5, rngs=rngs)

    def __call__(self, x):
        x = self.layers[0](x)
        x = nnx.relu(self.norm(x))
        x = jaxact.relu_squared(self.second(x))
        x = nnx.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1)
        return self.last(self.dropout(jnp.maximum(self.third(x), 0)))


def net():
    model = Net(nnx.Rngs(0))
    model.norm.bias[...] = model.norm.bias[...].at[DEAD].set(-100.0)
    model.second.bias[...] = model.second.bias[...].at[np.array([0, 2])].set(-1000.0)
    model.third.bias[...] = jnp.full(12, 10.0).at[7].set(-1000.0)
    return model


DEAD_IN_NET = [DEAD.tolist(), [0, 2], [7]]


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_nnx(mode):
    getattr(model := net(), mode)()
    graph, state = nnx.split(model)

    @jax.jit
    def run(state):
        return jaxact.probe(nnx.merge(graph, state))(IMAGES)

    out, report = run(state)
    assert dead(report) == DEAD_IN_NET
    new = jaxact.revive(state, report, key=jax.random.key(5))
    assert isinstance(new, nnx.State)
    after, again = run(new)
    alike(after, out)
    assert dead(again) == [[], [], []]
    old = nnx.to_pure_dict(state)
    pure = nnx.to_pure_dict(new)
    alike(pure["norm"]["mean"], old["norm"]["mean"])
    alike(pure["norm"]["scale"], old["norm"]["scale"])
    # Between two revived units there is a new weight; other weights of the first are 0.
    between = pure["second"]["kernel"][:, :, DEAD]
    assert np.flatnonzero(np.abs(between).sum((0, 1, 2))).tolist() == [0, 2]

    # A module is changed in place.
    kernel = model.last.kernel
    assert jaxact.revive(model, report, key=jax.random.key(5)) is model
    assert model.last.kernel is kernel
    jax.tree.map(alike, nnx.state(model, nnx.Param), nnx.filter_state(new, nnx.Param))
    # Another key, other weights.
    other = nnx.to_pure_dict(jaxact.revive(state, report))
    assert (other["second"]["kernel"] != pure["second"]["kernel"]).any()


def test_parameters_of_an_nnx_module():
    """The parameters alone are enough."""
    graph, params, rest = nnx.split(net(), nnx.Param, ...)

    def call(params, rest):
        return jaxact.probe(nnx.merge(graph, params, rest))(IMAGES)

    report = jax.jit(call)(params, rest)[1]
    new = jaxact.revive(params, report)
    assert jax.tree.structure(new) == jax.tree.structure(params)
    assert not new["last"]["kernel"][7].any() and params["last"]["kernel"][7].all()


def test_merged_reports():
    """A unit is dead where it is in all of the data."""
    params = mlp_params()
    # The last row makes one of the dead units active, and no other.
    x = jnp.concatenate([VECTORS, jnp.array([[300.0, 0.0, 0.0, 0.0, 0.0, 0.0]])])
    params["in"]["w"] = params["in"]["w"].at[0, DEAD].set(jnp.array([1.0, 0.0, 0.0]))
    reports = [PROBED(params, part)[1] for part in (x[:-1], x[-1:])]
    assert dead(reports[0]) == [DEAD.tolist()]
    new = jaxact.revive(params, reports[0].merge(reports[1]))
    alike(new["in"]["w"][:, DEAD[0]], params["in"]["w"][:, DEAD[0]])
    assert (new["in"]["w"][:, DEAD[1]] != params["in"]["w"][:, DEAD[1]]).all()
    alike(PROBED(new, x)[0], PROBED(params, x)[0])


def mlp(params, x):
    return hidden(params, x) @ params["out"]["w"]


PROBED = jax.jit(jaxact.probe(mlp))


def hidden(params, x):
    return jax.nn.relu(x @ params["in"]["w"] + params["in"]["b"])


def mlp_params(dtype=jnp.float32):
    rng = np.random.default_rng(1)
    values = {
        "in": {
            "w": rng.normal(size=(6, UNITS)),
            "b": np.where(np.isin(np.arange(UNITS), DEAD), -100.0, 0.0),
        },
        "out": {"w": rng.normal(size=(UNITS, 3))},
    }
    return jax.tree.map(lambda x: jnp.asarray(x.astype(dtype)), values)


@pytest.fixture(autouse=True)
def any_rank():
    """The models here add biases as users write it."""
    with jax.numpy_rank_promotion("allow"):
        yield


def test_no_dead_units():
    params = mlp_params()
    params["in"]["b"] = jnp.full(UNITS, 100.0)
    report = PROBED(params, VECTORS)[1]
    assert jaxact.revive(params, report) is params
    assert jaxact.revive({}, jaxact.Report(())) == {}


@pytest.mark.parametrize(
    "function",
    [jaxact.relu, jaxact.relu_squared, jaxact.sparse_plus, jaxact.hard_shrink, jaxact.soft_shrink],
)
def test_functions(function):
    def model(params, x):
        return function(x @ params["in"]["w"] + params["in"]["b"]) @ params["out"]["w"]

    params = mlp_params()
    if "shrink" in function.__name__:  # These are 0 around 0.
        params["in"]["b"] = jnp.zeros(UNITS)
        params["in"]["w"] = params["in"]["w"].at[:, DEAD].multiply(1e-3)
    probed = jax.jit(jaxact.probe(model))
    out, report = probed(params, VECTORS)
    assert dead(report) == [DEAD.tolist()]
    new = jaxact.revive(params, report)
    after, again = probed(new, VECTORS)
    alike(after, out)
    assert dead(again) == [[]]


def test_dtype_and_sharding():
    sharding = NamedSharding(jax.make_mesh((4,), ("x",), (AxisType.Auto,)), P(None, "x"))
    params = mlp_params(jnp.bfloat16)
    everywhere = NamedSharding(sharding.mesh, P())
    params, x = jax.device_put((params, VECTORS.astype(jnp.bfloat16)), everywhere)
    params["in"]["w"] = jax.device_put(params["in"]["w"], sharding)
    out, report = PROBED(params, x)
    new = jaxact.revive(params, report)
    assert new["in"]["w"].sharding == sharding
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(jnp.bfloat16)}
    alike(PROBED(new, x)[0], out)


def test_block():
    """jaxact's feed-forward blocks are looked into."""
    model = jaxact.nnx.MLP(6, UNITS, activation="relu", rngs=nnx.Rngs(0))
    model.linear_in.bias[...] = model.linear_in.bias[...].at[DEAD].set(-100.0)
    out, report = jaxact.probe(model)(VECTORS)
    jaxact.revive(model, report)
    after, again = jaxact.probe(model)(VECTORS)
    alike(after, out)
    assert dead(report) == [DEAD.tolist()] and dead(again) == [[]]


def test_looked_through():
    """jit, remat, vmap, mixed precision, several readers, a product with a gate."""

    def model(params, x):
        @jax.checkpoint
        def layer(params, x):
            w = params["in"]["w"].astype(jnp.float32)
            return jax.jit(jax.nn.relu)(x @ w + params["in"]["b"].astype(jnp.float32))

        h = jax.jit(jax.vmap(layer, (None, 0)))(params, x)
        gate = jax.nn.sigmoid(h.mean(0) @ params["gate"])
        return (h * gate) @ params["out"]["w"].astype(jnp.float32), h[::2] @ params["other"]

    params = mlp_params(jnp.bfloat16)
    params["gate"] = jnp.ones((UNITS, UNITS))
    params["other"] = jnp.ones((UNITS, 2))
    # The gate depends on the activation, so the report has another site.
    probed = jax.jit(jaxact.probe(model))
    out, report = probed(params, VECTORS)
    new = jaxact.revive(params, report)
    after, again = probed(new, VECTORS)
    jax.tree.map(alike, after, out)
    assert dead(report)[0] == DEAD.tolist() and dead(again)[0] == []
    for name in ("gate", "other"):
        assert np.flatnonzero(np.asarray(new[name]).any(-1)).tolist() == [0, 2, 3, 6, 7]


def test_weights_on_the_left():
    """As in Equinox: rows of the weights, and vectors under vmap."""

    def model(params, x):
        h = jax.nn.relu(params["in"]["w"].T @ x + params["in"]["b"])
        return params["out"] @ h

    params = mlp_params()
    params["out"] = params["out"]["w"].T
    batched = jax.vmap(model, (None, 0))
    probed = jax.jit(jaxact.probe(batched))
    out, report = probed(params, VECTORS)
    new = jaxact.revive(params, report)
    after, again = probed(new, VECTORS)
    alike(after, out)
    assert dead(report) == [DEAD.tolist()] and dead(again) == [[]]


SENDERS, RECEIVERS = jnp.array([0, 1, 2, 5, 5, 9]), jnp.array([3, 3, 0, 5, 1, 2])


def graph_net(params, x):
    """Messages before the activation and behind it."""
    z = (x @ params["in"]["w"])[SENDERS]
    z = jax.ops.segment_sum(z, RECEIVERS, num_segments=len(x)) + params["in"]["b"]
    h = jax.nn.relu(z)
    h = jnp.zeros_like(h).at[RECEIVERS].add(h[SENDERS] * 0.5).at[SENDERS].add(h[RECEIVERS])
    return h @ params["out"]["w"]


def test_graph_nets():
    """Rows that are gathered, and added up by segment."""
    params = mlp_params()
    x = VECTORS[:10]
    probed = jax.jit(jaxact.probe(graph_net))
    out, report = probed(params, x)
    new = jaxact.revive(params, report, key=jax.random.key(1))
    after, again = probed(new, x)
    alike(after, out)
    assert dead(report) == [DEAD.tolist()] and dead(again) == [[]]
    assert np.flatnonzero(~np.asarray(new["out"]["w"]).any(-1)).tolist() == DEAD.tolist()


# ------------------------------------------------------------------------------------------------
# The optimizer's moments.


OPTIMIZERS = {
    "adam": optax.adam(1e-3),
    "momentum": optax.chain(optax.clip(1.0), optax.sgd(1e-3, momentum=0.9)),
    "scheduled": optax.adamw(optax.linear_schedule(1e-3, 0, 100)),
    "labelled": optax.multi_transform(
        {"a": optax.rmsprop(1e-3), "b": optax.lion(1e-3)},
        lambda tree: jax.tree.map(lambda p: "ab"[p.ndim - 1], tree),
    ),
    "accumulated": optax.MultiSteps(optax.adam(1e-3), 2),
    "schedule-free": optax.contrib.schedule_free_adamw(1e-3),
    "mechanized": optax.contrib.mechanize(optax.adam(1e-3)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_moments(name):
    """New weights have those that they would start with, all others those that they had."""
    optimizer, params = OPTIMIZERS[name], mlp_params()
    # Steps, so that nothing is as it was at the start.
    state = optimizer.init(jax.tree.map(jnp.ones_like, params))
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(3):
            _, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
    report = PROBED(params, VECTORS)[1]
    new, after = jaxact.revive(params, report, opt_state=state)
    jax.tree.map(alike, new, jaxact.revive(params, report))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    at_start = jax.tree.leaves(optimizer.init(new))
    mask = np.isin(np.arange(UNITS), DEAD)
    changed = 0
    for a, b, start in zip(*map(jax.tree.leaves, (after, state)), at_start, strict=True):
        entries = {(6, 8): mask, (8,): mask, (8, 3): mask[:, None]}.get(a.shape)
        if entries is None:
            alike(a, b)
            continue
        alike(a, np.where(entries, start, b))
        changed += bool((a != b).any())
    assert changed >= 3


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.contrib.cocob(),
        optax.lbfgs(1e-2, linesearch=None),
        optax.contrib.mechanize(optax.adam(1e-2)),
        optax.rprop(1e-2),
    ],
    ids=["cocob", "lbfgs", "mechanize", "rprop"],
)
def test_training_goes_on(optimizer):
    """With states that do not begin with zeros."""
    params = mlp_params()
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        def loss(params):
            return ((mlp(params, VECTORS) - 1) ** 2).mean()

        gradient = jax.grad(loss)(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params, state = step(params, state)
    report = PROBED(params, VECTORS)[1]
    new, state = jaxact.revive(params, report, opt_state=state)
    before = new
    for _ in range(5):
        new, state = step(new, state)
    changed = new["out"]["w"] - before["out"]["w"]
    assert np.isfinite(changed).all() and abs(changed).max() < 1
    assert changed[np.isin(np.arange(UNITS), DEAD)].any()


def test_moments_of_other_shapes():
    params = mlp_params()
    state = OPTIMIZERS["adam"].init(jax.tree.map(lambda p: jnp.ones((2, *p.shape)), params))
    report = PROBED(params, VECTORS)[1]
    with pytest.raises(ValueError, match="moments by the paths of params, but none of their shap"):
        jaxact.revive(params, report, opt_state=state)


def test_moments_where_no_unit_is_dead():
    state = OPTIMIZERS["adam"].init(mlp_params())
    new, after = jaxact.revive({}, jaxact.Report(()), opt_state=state)
    assert new == {} and after is state


def test_moments_of_a_part_of_the_variables():
    """The optimizer has the parameters, revive is given the variables."""
    params = mlp_params()
    variables = {"params": params, "batch_stats": {"in": {"b": jnp.ones(UNITS)}}}
    report = jaxact.probe(lambda v: mlp(v["params"], VECTORS))(variables)[1]
    state = jax.tree.map(lambda p: p + 1, OPTIMIZERS["adam"].init(params))
    expected = jaxact.revive(params, PROBED(params, VECTORS)[1], opt_state=state)
    new = jaxact.revive(variables, report, opt_state=state)
    jax.tree.map(alike, (new[0]["params"], new[1]), expected)


def test_moments_of_another_model():
    params = mlp_params()
    state = OPTIMIZERS["adam"].init({"other": jnp.ones(3)})
    report = PROBED(params, VECTORS)[1]
    with pytest.raises(ValueError, match=r"no moments of params by their paths. It has 0/mu/other"):
        jaxact.revive(params, report, opt_state=state)


def test_nnx_optimizer():
    """The object is changed in place, as the model; a state of nnx's as any."""
    model = net()
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    nnx.update(optimizer, jax.tree.map(lambda v: v + 1, nnx.state(optimizer)))
    report = nnx.jit(lambda model: jaxact.probe(model)(IMAGES)[1])(model)
    before = optimizer.opt_state[0].mu["third"]["kernel"][...]
    assert (before == 1).all()
    _, plain = jaxact.revive(nnx.clone(model), report, opt_state=nnx.state(optimizer))
    found, same = jaxact.revive(model, report, opt_state=optimizer)
    assert found is model and same is optimizer
    jax.tree.map(alike, nnx.state(optimizer), plain)
    mu = optimizer.opt_state[0].mu
    assert np.flatnonzero(np.asarray(mu["third"]["kernel"][...] == 0).all(0)).tolist() == [7]
    assert np.flatnonzero(np.asarray(mu["last"]["kernel"][...] == 0).all(1)).tolist() == [7]
    assert np.flatnonzero(np.asarray(mu["norm"]["bias"][...] == 0)).tolist() == DEAD.tolist()
    assert int(optimizer.step[...]) == 1 and int(optimizer.opt_state[0].count[...]) == 1


# ------------------------------------------------------------------------------------------------
# What cannot be revived.


def layer_norm(x):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def scanned(p, x):
    return lax.scan(lambda c, row: (c, hidden(p, row)), 0, x)[1] @ p["out"]["w"]


CLOSED_OVER = mlp_params()
REASONS = {
    "residual": (
        lambda p, x: (hidden(p, x) + jnp.tile(x[:, :4], 2)) @ p["out"]["w"],
        "its output is added to something else, as in a residual connection",
    ),
    "result": (hidden, "its output is a result of the function"),
    "pre-activation": (
        lambda p, x: (mlp(p, x), x @ p["in"]["w"]),
        "the weights of the layer before it are used elsewhere too",
    ),
    "also-the-pre-activation": (
        lambda p, x: (lambda z: (jax.nn.relu(z) @ p["out"]["w"], z))(
            x @ p["in"]["w"] + p["in"]["b"]
        ),
        "the output of the layer before it is also a result of the function",
    ),
    "norm-after": (
        lambda p, x: layer_norm(hidden(p, x)) @ p["out"]["w"],
        "its output is reduced over the units, as in a layer normalization",
    ),
    "norm-before": (
        lambda p, x: jax.nn.relu(layer_norm(x @ p["in"]["w"]) + p["in"]["b"]) @ p["out"]["w"],
        "the output of the layer before it is reduced over the units, as in a layer normalization",
    ),
    "heads": (
        lambda p, x: jnp.einsum(
            "nhd,hdo->no", hidden(p, x).reshape(-1, 2, 4), p["out"]["w"].reshape(2, 4, 3)
        ),
        "its output is reshaped such that a unit is no longer at one place of an axis",
    ),
    "tied": (
        lambda p, x: hidden(p, x) @ p["in"]["w"].T,
        "the weights of the layer before it are used elsewhere too",
    ),
    "computed": (
        lambda p, x: hidden(p, x) @ jnp.tanh(p["out"]["w"]),
        "the weights of the layer behind it are computed",
    ),
    "closed-over": (
        lambda p, x: mlp(CLOSED_OVER, x),
        "the weights of the layer before it are no argument of the probed function: pass them to "
        "it instead of closing over them",
    ),
    "two-layers": (
        lambda p, x: (
            jax.nn.relu(x @ p["in"]["w"] + x @ p["in"]["w"] + p["in"]["b"]) @ p["out"]["w"]
        ),
        "its pre-activation comes from several layers, as in a residual connection",
    ),
    "no-layer": (
        lambda p, x: jax.nn.relu(-abs(jnp.tile(x[:, :4], 2))) @ p["out"]["w"],
        "there is no layer before it",
    ),
    "concatenated": (
        lambda p, x: jnp.concatenate([hidden(p, x), x], 1) @ jnp.ones((14, 3)),
        "its output goes into concatenate",
    ),
    "shifted": (
        lambda p, x: (hidden(p, x) + 1) @ p["out"]["w"],
        "its output goes into add, which does not keep zeros as they are",
    ),
    "scattered": (
        lambda p, x: hidden(p, x).at[jnp.arange(2)].add(jnp.tile(x[:2, :4], 2)) @ p["out"]["w"],
        "its output goes into scatter-add, which does not keep zeros as they are",
    ),
    "relu6": (
        lambda p, x: jax.nn.relu6(x @ p["in"]["w"] + p["in"]["b"]) @ p["out"]["w"],
        "a unit of relu6 without a gradient need not be 0",
    ),
    "scan": (scanned, "it is inside lax.scan"),
    "cond": (
        lambda p, x: lax.cond(x[0, 0] < 9, mlp, lambda p, x: x[:, :3], p, x),
        "it is inside lax.cond",
    ),
    "custom": (
        lambda p, x: custom(p, x) @ p["out"]["w"],
        "its derivative is defined by a custom_vjp",
    ),
    "gradient": (
        jax.grad(lambda p, x: (mlp(p, x) ** 2).sum()),
        "the function takes its derivative itself",
    ),
}


@jax.custom_vjp
def custom(p, x):
    return hidden(p, x)


custom.defvjp(lambda p, x: (hidden(p, x), None), lambda _, g: (None, None))


@pytest.mark.parametrize("case", REASONS)
def test_reasons(case):
    model, reason = REASONS[case]
    params = mlp_params()
    report = jaxact.probe(model)(params, VECTORS)[1]
    with pytest.raises(ValueError, match="revive: none of the dead units can be revived:") as info:
        jaxact.revive(params, report)
    lines = str(info.value).splitlines()[1:]
    assert all(line.endswith(f" dead): {reason}.") for line in lines), lines
    assert re.match(r"  0: relu6? in \S+ \(\d+ of \d+ units dead\): ", lines[0]), lines


def test_vmapped_report():
    params = jax.tree.map(lambda p: jnp.stack([p, p]), mlp_params())
    report = jax.vmap(jaxact.probe(mlp), (0, None))(params, VECTORS)[1]
    with pytest.raises(ValueError, match="the report comes from vmap"):
        jaxact.revive(params, report)
    report = jaxact.probe(jax.vmap(mlp, (0, None)))(params, VECTORS)[1]
    with pytest.raises(ValueError, match="are not of one model and one axis"):
        jaxact.revive(params, report)


def test_warning():
    """What can be revived is; the rest is named."""

    def model(params, x):
        h = hidden(params["a"], x)
        return h @ params["a"]["out"]["w"], hidden(params["b"], x)

    params = {"a": mlp_params(), "b": mlp_params()}
    out, report = jaxact.probe(model)(params, VECTORS)
    with pytest.warns(UserWarning, match="revive") as caught:
        new = jaxact.revive(params, report)
    (warning,) = caught
    assert warning.filename == __file__
    head, line = str(warning.message).splitlines()
    assert head == "revive: these dead units cannot be revived:"
    assert line.startswith("  1: relu in ")
    assert line.endswith(" (3 of 8 units dead): its output is a result of the function.")
    after, again = jaxact.probe(model)(new, VECTORS)
    jax.tree.map(alike, after, out)
    jax.tree.map(alike, new["b"], params["b"])
    assert dead(again) == [[], DEAD.tolist()]


def test_wrong_arguments():
    params = mlp_params()
    _, report = PROBED(params, VECTORS)
    with pytest.raises(TypeError, match=r"revive: report must be a Report .* got \{\}\."):
        jaxact.revive(params, {})
    with pytest.raises(TypeError, match="revive: the report is traced: return it from jit first"):
        jax.jit(lambda p: jaxact.revive(p, jaxact.probe(mlp)(p, VECTORS)[1]))(params)
    with pytest.raises(ValueError, match=r"params has no 0/0/out/w, .* It has in/b, in/w\."):
        jaxact.revive({"in": params["in"]}, report)
    with pytest.raises(ValueError, match=r"params has no 0/0/in/w, .* It has nothing\."):
        jaxact.revive({}, report)
    wide = {**params, "out": {"w": jnp.ones((9, 3))}}
    with pytest.raises(ValueError, match=r"out/w of params has shape \(9, 3\), and \(8, 3\) in"):
        jaxact.revive(wide, report)
    with pytest.raises(ValueError, match="ambiguous which of params is 0/0/in/w .* 0/in/w or in/w"):
        jaxact.revive({"in": params["in"], "out": params["out"], "0": params}, report)


def test_no_warning_without_dead_units():
    params = mlp_params()
    params["in"]["b"] = jnp.zeros(UNITS)
    report = jaxact.probe(hidden)(params, VECTORS)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jaxact.revive(params, report) is params


def test_parameters_are_looked_for_by_revive_and_advice_alone(monkeypatch):
    params = mlp_params()
    read = []
    flat = wiring.Flow
    monkeypatch.setattr(wiring, "Flow", lambda *args: read.append(args) or flat(*args))
    _, report = jaxact.probe(mlp)(params, VECTORS)
    _, again = jaxact.probe(mlp)(params, 2 * VECTORS)
    report = report.merge(again)
    assert str(report) and report.scalars() and not read
    assert "gives dead units new weights." in report.advice()[0].text
    jaxact.revive(params, report)
    jaxact.revive(params, report)
    assert len(read) == 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_a_copy_of_a_report_revives(copied):
    """It takes the wiring along, and no jaxpr, which cannot be pickled."""
    params = mlp_params()
    _, report = PROBED(params, VECTORS)
    new = copied(report)
    assert jax.tree.structure(new) == jax.tree.structure(report)
    jax.tree.map(alike, jaxact.revive(params, new), jaxact.revive(params, report))


def test_a_report_does_not_hold_what_the_model_closes_over():
    """A traced array would be a leak: the report's places outlive the trace."""

    @jax.jit
    def step(params, x):
        return jaxact.probe(lambda x: mlp(params, x))(x)

    params = mlp_params()
    with jax.checking_leaks():
        _, report = step(params, VECTORS)
    with pytest.raises(ValueError, match="the weights of the layer before it are no argument"):
        jaxact.revive(params, report)


def test_advice_says_what_revive_says():
    w = jnp.zeros((8, 64)) - 1
    x = jnp.abs(jax.random.normal(jax.random.key(0), (100, 8)))

    def residual(w, x):
        h = jax.nn.relu(x @ w)
        return h + h @ jnp.ones((64, 64))

    _, report = jax.jit(jaxact.probe(residual))(w, x)
    with pytest.raises(ValueError, match="none of the dead units can be revived") as error:
        jaxact.revive(w, report)
    why = str(error.value).rpartition("dead): ")[2]
    (suggestion,) = report.advice()
    assert f"`jaxact.revive` cannot give dead units new weights here: #0: {why}" in suggestion.text
