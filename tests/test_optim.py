"""Optimizers for learned slopes: decay, rate and bounds, in trees of every kind."""

import functools

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxact.nnx import PReLU
from jaxact.optim import SLOPE_NAMES, clip_slopes, decay_mask, slope_labels
from jaxact.piecewise_linear import prelu
from tests.support.samples import normal

X = normal(0, (8, 3))


@pytest.fixture(autouse=True)
def promotion(strict_promotion):
    """That of a user: optax adds up dtypes implicitly, and apply_updates does so by design."""
    with jax.numpy_dtype_promotion("standard"):
        yield


class Linen(nn.Module):
    """A slope of a layer like ours, and one of Flax's own."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4)(x)
        x = prelu(x, self.param("alpha", nn.initializers.constant(0.25), (4,)))
        return nn.PReLU()(nn.Dense(4)(x))


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        self.prelu = PReLU(3)

    def __call__(self, x):
        return self.prelu(self.linear(x))


class Stacked(nnx.Module):
    """Three blocks as one, their parameters stacked."""

    def __init__(self, rngs):
        self.blocks = nnx.split_rngs(splits=3)(nnx.vmap(Block, in_axes=0, out_axes=0))(rngs)

    def __call__(self, x):
        return nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(
            x, self.blocks
        )


def sequential():
    rngs = nnx.Rngs(0)
    return nnx.Sequential(nnx.Linear(3, 3, rngs=rngs), PReLU(3), Block(rngs))


MODELS = {"sequential": sequential, "stacked": lambda: Stacked(nnx.Rngs(0))}


@functools.cache
def linen_params():
    return Linen().init(jax.random.key(1), X)["params"]


def boxed(params):
    return jax.tree.map(lambda p: nn.Partitioned(p, names=(None,) * p.ndim), params)


TREES = {
    "state": lambda: nnx.state(sequential(), nnx.Param),
    "pure": lambda: nnx.to_pure_dict(nnx.state(sequential(), nnx.Param)),
    "module": sequential,
    "stacked": lambda: nnx.state(Stacked(nnx.Rngs(0)), nnx.Param),
    "linen": linen_params,
    "frozen": lambda: flax.core.freeze(linen_params()),
    "boxed": lambda: boxed(linen_params()),
}


def by_path(tree):
    """The leaves by their path as a text, without the boxes' attribute."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value"): leaf
        for path, leaf in leaves
    }


def is_slope(path):
    return path.rpartition("/")[2] in ("alpha", "negative_slope")


def loss(tree):
    """Gradients of either sign for each leaf."""
    return sum(((leaf - 0.1) * jnp.cos(1.0 + leaf)).sum() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("kind", TREES)
def test_slopes_are_found_in_every_tree(kind):
    params = TREES[kind]()
    mask, labels = decay_mask(params), slope_labels(params)
    assert jax.tree.structure(mask) == jax.tree.structure(labels) == jax.tree.structure(params)
    slopes = {path for path in by_path(params) if is_slope(path)}
    assert len(slopes) == (1 if kind == "stacked" else 2)
    assert by_path(mask) == {path: path not in slopes for path in by_path(params)}
    assert by_path(labels) == {
        path: "slopes" if path in slopes else "rest" for path in by_path(params)
    }


@pytest.mark.parametrize("name", SLOPE_NAMES)
def test_names(name):
    tree = {"a": {name: 1.0, "kernel": 1.0}, name: {"scale": 1.0}, "value": 1.0, "list": [1.0]}
    expected = {"a": {name: False, "kernel": True}, name: {"scale": True}, "value": True}
    assert decay_mask(tree) == expected | {"list": [True]}
    others = {"a": {name: True, "kernel": True}, name: {"scale": True}, "value": False}
    for names in ("value", ("value",), (name for name in ["value"])):
        assert decay_mask(tree, names=names) == others | {"list": [True]}
    assert slope_labels(tree, names="kernel")["a"] == {name: "rest", "kernel": "slopes"}
    assert decay_mask(1.0) is True


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.parametrize("how", ["adamw", "masked"])
def test_one_step_by_hand_decays_weights_only(kind, how):
    rate, decay = 0.01, 0.5
    optimizer = {
        "adamw": optax.adamw(rate, weight_decay=decay, mask=decay_mask),
        "masked": optax.chain(
            optax.scale_by_adam(),
            optax.masked(optax.add_decayed_weights(decay), decay_mask),
            optax.scale(-rate),
        ),
    }[how]
    params = TREES[kind]()

    @jax.jit
    def step(params):
        grads = jax.grad(loss)(params)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        return optax.apply_updates(params, updates), grads

    after, grads = map(by_path, step(params))
    for path, before in by_path(params).items():
        # Adam's first step has the size of the rate.
        expected = before - rate * jnp.sign(grads[path])
        if not is_slope(path):
            expected -= rate * decay * before
        np.testing.assert_allclose(after[path], expected, rtol=1e-5, atol=1e-7, err_msg=path)


def trained(model, optimizer, steps=1):
    """Train with nnx.Optimizer under jit."""
    optimizer = nnx.Optimizer(model, optimizer, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda model: (model(X) ** 2).sum())(model)
        optimizer.update(model, grads)
        return nnx.state(grads)

    for _ in range(steps):
        grads = step(model, optimizer)
    return by_path(grads)


def state_of(model):
    return by_path(nnx.state(model, nnx.Param))


@pytest.mark.parametrize("kind", MODELS)
def test_nnx_optimizer(kind):
    rate, decay = 0.01, 0.5
    model = MODELS[kind]()
    before = state_of(model)
    grads = trained(model, optax.adamw(rate, weight_decay=decay, mask=decay_mask))
    for path, after in state_of(model).items():
        p = before[path]
        step = grads[path] / (abs(grads[path]) + 1e-8)
        expected = p - rate * (step + (0 if is_slope(path) else decay) * p)
        np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-7, err_msg=path)
    assert any(is_slope(path) for path in before)


def multi(labels=slope_labels):
    # An optimizer with a state and one without, so that mixing them up is visible.
    return optax.multi_transform({"slopes": optax.sgd(0.125), "rest": optax.adam(1e-3)}, labels)


@pytest.mark.parametrize("kind", MODELS)
def test_slopes_have_a_rate_of_their_own_in_nnx(kind):
    model = MODELS[kind]()
    before = state_of(model)
    grads = trained(model, multi())
    check_multi(before, state_of(model), grads)


@pytest.mark.parametrize("kind", TREES)
def test_slopes_have_a_rate_of_their_own(kind):
    params = TREES[kind]()
    grads = jax.grad(loss)(params)
    optimizer = multi()
    updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
    check_multi(*map(by_path, (params, optax.apply_updates(params, updates), grads)))


def check_multi(before, after, grads):
    for path, p in before.items():
        g = grads[path]
        step = 0.125 * g if is_slope(path) else 1e-3 * g / (abs(g) + 1e-8)
        np.testing.assert_allclose(after[path], p - step, rtol=1e-5, atol=1e-7, err_msg=path)


DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]


@pytest.mark.parametrize(
    ("dtype", "update_dtype"),
    [(d, d) for d in DTYPES]
    + [(jnp.bfloat16, jnp.float32), (jnp.float32, jnp.bfloat16), (jnp.float16, jnp.bfloat16)],
)
# 0.3 and 1/3 are no floats; 1/3 is above the nearest bfloat16 but below the nearest float16.
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-0.9, 1 / 3), (0.01, 0.3), (-1 / 3, 1e-3)])
def test_bounds_hold_exactly_under_jit(dtype, update_dtype, bounds):
    lower, upper = bounds
    optimizer = optax.chain(optax.scale(-0.7), clip_slopes(lower, upper))
    middle = (lower + upper) / 2

    def step(params, grads):
        with jax.numpy_dtype_promotion("strict"):
            updates, _ = optimizer.update(grads, optimizer.init(params), params)
        assert updates["alpha"].dtype == update_dtype
        params = optax.apply_updates(params, updates)
        return params, params["alpha"]

    # Steps of all sizes: slopes start from all distances to the bound that they are led to.
    random = np.random.default_rng(0)
    grads = np.exp(4 * random.normal(size=(100, 4096))) * random.choice([-1, 1], (100, 4096))
    params = {"alpha": jnp.full(4096, middle, dtype)}
    train = jax.jit(lambda *args: jax.lax.scan(step, *args))
    _, slopes = train(params, {"alpha": jnp.asarray(grads).astype(update_dtype)})
    slopes = np.asarray(slopes).astype(np.float64)
    assert lower <= slopes.min() and slopes.max() <= upper
    reached, inside = (slopes.min(), slopes.max()), (-largest(-lower, dtype), largest(upper, dtype))
    if update_dtype in (dtype, jnp.float32):
        assert reached == inside
    np.testing.assert_allclose(reached, inside, rtol=0, atol=2**-8 * (upper - lower))
    assert len(np.unique(slopes)) > 100


def largest(bound, dtype):
    """The largest number of a dtype that is not above a bound."""
    x = np.asarray(bound, dtype)
    return float(x if float(x) <= bound else np.nextafter(x, np.asarray(-np.inf, dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("upper", [1.0, 1 / 3, 1e-3])
def test_bounds_hold_where_the_update_is_applied_elsewhere(dtype, upper):
    """The compiler may keep 16-bit numbers in 32 bits within a program, but not between two."""
    slopes = jnp.asarray(np.random.default_rng(1).uniform(-1, upper, 65536)).astype(dtype)
    for big in (-jnp.inf, -100.0, 100.0, jnp.inf):
        params, updates = {"alpha": slopes}, {"alpha": jnp.full_like(slopes, big)}
        update = jax.jit(clip_slopes(-1.0, upper).update)
        updates, _ = update(updates, optax.EmptyState(), params)
        after = np.asarray(optax.apply_updates(params, updates)["alpha"]).astype(np.float64)
        assert after.min() >= -1 and after.max() <= upper
        # As near as steps of this precision lead.
        end = upper if big > 0 else -1
        np.testing.assert_allclose(after, end, rtol=0, atol=float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_touches_nothing_else(dtype):
    values = normal(3, (1000,)).astype(dtype)
    params = {"alpha": jnp.full(1000, 0.5, dtype), "kernel": 10 * values}
    updates = {"alpha": (0.1 * values).clip(-0.4, 0.4), "kernel": values}
    updates["kernel"] = updates["kernel"].at[:2].set(jnp.array([jnp.nan, jnp.inf], dtype))
    optimizer = clip_slopes(0.0, 1.0)
    state = optimizer.init(params)
    assert jax.tree.leaves(state) == []
    clipped, _ = jax.jit(optimizer.update)(updates, state, params)
    for name in params:
        assert np.asarray(clipped[name]).tobytes() == np.asarray(updates[name]).tobytes()


def test_clipping_from_outside_and_with_one_bound():
    params = {"alpha": jnp.array([-100.0, -0.5, 0.5, 3.0, 0.25])}
    updates = {"alpha": jnp.array([0.1, -0.1, 0.1, 0.1, jnp.nan])}
    for lower, upper, expected in (
        (0.0, 1.0, [0, 0, 0.6, 1, np.nan]),
        (-np.inf, 1.0, [-99.9, -0.6, 0.6, 1, np.nan]),
        (0.25, 0.25, [0.25, 0.25, 0.25, 0.25, np.nan]),
    ):
        clipped, _ = clip_slopes(lower, upper).update(updates, optax.EmptyState(), params)
        after = optax.apply_updates(params, clipped)
        np.testing.assert_allclose(after["alpha"], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bounds_with_no_number_between_them(dtype):
    """The nearest one counts, and a slope stays there."""
    params = {"alpha": jnp.array([0.3, 0.3], dtype)}
    updates = {"alpha": jnp.array([1.0, -1.0], dtype)}
    clipped, _ = clip_slopes(0.3, 0.3).update(updates, optax.EmptyState(), params)
    after = optax.apply_updates(params, clipped)["alpha"]
    np.testing.assert_array_equal(after, params["alpha"])


@pytest.mark.parametrize("kind", TREES)
def test_clipping_in_every_tree(kind):
    params = TREES[kind]()
    updates = jax.tree.map(lambda p: jnp.full_like(p, 5.0), params)
    optimizer = optax.chain(optax.identity(), clip_slopes(0.0, 0.5))
    clipped, _ = jax.jit(optimizer.update)(updates, optimizer.init(params), params)
    assert jax.tree.structure(clipped) == jax.tree.structure(params)
    before, after = by_path(params), by_path(optax.apply_updates(params, clipped))
    for path, value in after.items():
        expected = jnp.full_like(value, 0.5) if is_slope(path) else before[path] + 5.0
        np.testing.assert_array_equal(value, expected, err_msg=path)


@pytest.mark.parametrize("kind", MODELS)
def test_clipping_with_an_nnx_optimizer(kind):
    model = MODELS[kind]()
    optimizer = optax.chain(optax.sgd(0.5), clip_slopes(0.125, 0.375))
    before = state_of(model)
    grads = trained(model, optimizer)
    for path, after in state_of(model).items():
        if is_slope(path):
            free = before[path] - 0.5 * grads[path]
            assert (free < 0.125).any() or (free > 0.375).any()
            np.testing.assert_allclose(after, free.clip(0.125, 0.375), rtol=1e-6)
    trained(model, optimizer, steps=2)
    slopes = np.concatenate([v.ravel() for path, v in state_of(model).items() if is_slope(path)])
    assert slopes.min() >= 0.125 and slopes.max() <= 0.375
    assert 0.125 in slopes


def test_clipping_by_other_names():
    params = {"alpha": jnp.array(0.5), "gamma": jnp.array(0.5)}
    update = functools.partial(clip_slopes(0, 1, names="gamma").update, state=optax.EmptyState())
    clipped, _ = update({"alpha": jnp.array(2.0), "gamma": jnp.array(2.0)}, params=params)
    assert (clipped["alpha"].item(), clipped["gamma"].item()) == (2.0, 0.5)


def test_errors():
    for bounds in ((0.5, 0.25), (float("nan"), 1.0), (0.0, float("nan"))):
        with pytest.raises(ValueError, match=r"clip_slopes: lower must not exceed upper.*got low"):
            clip_slopes(*bounds)
    with pytest.raises(TypeError):
        clip_slopes(None, 1.0)
    optimizer = clip_slopes(0.0, 1.0)
    grads = {"alpha": jnp.array(0.5)}
    with pytest.raises(ValueError, match=r"no parameters. Pass them: optimizer.update\(grads, st"):
        optimizer.update(grads, optimizer.init(grads))


@pytest.mark.parametrize(
    "tree",
    [
        flax.traverse_util.flatten_dict({"a": {"alpha": 1.0, "kernel": 1.0}}),
        flax.traverse_util.flatten_dict({"a": {"alpha": 1.0, "kernel": 1.0}}, sep="/"),
    ],
)
def test_flattened_trees(tree):
    assert list(decay_mask(tree).values()) == [False, True]


def test_what_is_frozen_stays_so():
    """optax writes None for it."""
    transform = clip_slopes(0.0, 1.0)
    params = {"alpha": jnp.float32(0.5), "kernel": jnp.float32(1.0)}
    updates, _ = transform.update({"alpha": None, "kernel": None}, transform.init(params), params)
    assert updates == {"alpha": None, "kernel": None}


def test_a_swish_may_grow():
    transform = clip_slopes(0.0, 1.0)
    params = {"beta": jnp.float32(1.0)}
    updates, _ = transform.update({"beta": jnp.float32(3.0)}, transform.init(params), params)
    assert updates["beta"] == 3


def clipped_by(transform, params, updates):
    """The parameters after a step, the bounds traced."""

    @jax.jit
    def step(params, updates):
        updates, _ = transform.update(updates, transform.init(params), params)
        return optax.apply_updates(params, updates)

    return step(params, updates)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("lower", "upper"), [(0.1, 0.3), (-0.3, -0.1), (0.3, 0.3), (-np.inf, 1e-3), (0.5, np.inf)]
)
def test_arrays_clip_as_numbers_do(lower, upper, dtype):
    """A bound that the slopes' dtype does not have is the next one inside."""
    lower, upper = np.float32(lower), np.float32(upper)
    params = {"alpha": jnp.linspace(-2, 2, 41).astype(dtype), "kernel": jnp.ones(3, dtype)}
    updates = {"alpha": jnp.tile(jnp.array([-4.0, 0.01, 4.0], dtype), 14)[:41]}
    updates["kernel"] = jnp.full(3, 5, dtype)
    expected = clipped_by(clip_slopes(lower, upper), params, updates)
    arrays = clip_slopes(jnp.array(lower), jnp.array(upper))
    injected = optax.inject_hyperparams(clip_slopes, hyperparam_dtype=jnp.float32)(lower, upper)
    traced = jax.jit(lambda low, high: clipped_by(clip_slopes(low, high), params, updates))
    mixed = clip_slopes(lower, jnp.array(upper))
    for after in (
        clipped_by(arrays, params, updates),
        clipped_by(injected, params, updates),
        clipped_by(mixed, params, updates),
        traced(lower, upper),
    ):
        for name in params:
            np.testing.assert_array_equal(after[name], expected[name])
    if lower < upper:
        slopes = np.asarray(expected["alpha"], np.float64)
        assert slopes.min() >= lower and slopes.max() <= upper


def test_bounds_by_a_schedule():
    def upper(count):
        return 0.25 + 0.25 * count

    optimizer = optax.chain(optax.sgd(1.0), optax.inject_hyperparams(clip_slopes)(0.0, upper))
    params = {"alpha": jnp.array([0.1, -0.5, 0.1]), "kernel": jnp.array(0.0)}
    gradient = {"alpha": jnp.array([-9.0, 1.0, 9.0]), "kernel": jnp.array(1.0)}
    state = optimizer.init(params)
    step = jax.jit(optimizer.update)
    for bound in (0.25, 0.5, 0.75):
        updates, state = step(gradient, state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_array_equal(params["alpha"], [bound, 0, 0])
    assert params["kernel"] == -3
    state[1].hyperparams["lower"] = jnp.array(0.125)
    updates, _ = step(gradient, state, params)
    np.testing.assert_array_equal(
        optax.apply_updates(params, updates)["alpha"], [1.0, 0.125, 0.125]
    )


def test_traced_bounds_that_cannot_be_checked():
    params = {"alpha": jnp.array([0.0, 0.4, 1.0])}
    updates = {"alpha": jnp.zeros(3)}
    for lower, upper, expected in ((0.5, 0.25, 0.25), (np.nan, 1.0, np.nan), (0.0, np.nan, np.nan)):
        after = clipped_by(clip_slopes(jnp.array(lower), jnp.array(upper)), params, updates)
        np.testing.assert_array_equal(after["alpha"], np.full(3, expected, np.float32))


@pytest.mark.parametrize(
    ("lower", "error", "message"),
    [
        (lambda count: 0.0, TypeError, r"lower must be a number, .*inject_hyperparams\(clip_slo"),
        ("0", TypeError, "lower must be a number, got '0'"),
        (jnp.zeros(3), ValueError, r"lower must be one number, got shape \(3,\)"),
        (np.zeros((1, 2)), ValueError, r"lower must be one number, got shape \(1, 2\)"),
        (jnp.array(1j), TypeError, "lower must be real, got dtype complex64"),
        (np.array(2.0), ValueError, "lower must not exceed upper"),
        (np.array(np.nan), ValueError, "lower must not exceed upper, and neither be NaN"),
    ],
)
def test_bounds_that_are_none(lower, error, message):
    with pytest.raises(error, match=f"^clip_slopes: {message}"):
        clip_slopes(lower, 1.0)


def test_a_mask_beside_an_injected_rate():
    params = {"kernel": jnp.array(1.0), "alpha": jnp.array(1.0)}
    optimizer = optax.inject_hyperparams(optax.adamw, "mask")(
        lambda count: 1.0, weight_decay=0.5, mask=decay_mask
    )
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    assert {name: update.item() for name, update in updates.items()} == {"kernel": -0.5, "alpha": 0}
