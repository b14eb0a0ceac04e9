import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxact
from jaxact.compare import CompareError, Settings, training as training_module
from jaxact.compare.data import Dataset, load, split
from jaxact.compare.statistics import summarize
from jaxact.compare.training import Trainer, train

TINY = Settings(activations=("relu",), seeds=3, epochs=3, widths=(6, 5), batch_size=16)


@functools.cache
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(150, dtype=np.int32) % 3
    features = rng.normal(size=(150, 4)) + 1.5 * np.eye(4)[labels]
    return split(Dataset(features, labels, ("a", "b", "c"), "test"))


def trainer(activation="relu", **changes):
    return Trainer(activation, dataclasses.replace(TINY, **changes), data())


def run(trainer, state, epochs=1):
    x, y = (a[trainer.data.training] for a in (trainer.features, trainer.labels))
    for epoch in range(epochs):
        batches = trainer.batches(epoch)
        for i in range(trainer.steps):
            state = trainer.step(state, batches, np.int32(i), x, y)
    return state


def weights(state):
    """The linear layers' parameters, by path."""
    leaves = jax.tree_util.tree_leaves_with_path(state.parameters)
    named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    return {name: leaf for name, leaf in named.items() if "alpha" not in name}


@pytest.mark.parametrize("activation", ["prelu", "rrelu", "gelu"])
def test_same_weights_and_batches_in_every_arm(activation):
    ours, other = trainer("relu"), trainer(activation)
    first, second = weights(ours.init()), weights(other.init())
    assert len(first) == 6
    assert sum(np.unique(leaf).size > 1 for leaf in first.values()) == 3  # the biases are 0
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    np.testing.assert_array_equal(ours.batches(1), other.batches(1))


def test_seeds_differ_and_do_not_depend_on_how_many_there_are():
    few, many = weights(trainer(seeds=2).init()), weights(trainer(seeds=3).init())
    for name in few:
        np.testing.assert_array_equal(few[name], many[name][:2])
        if "kernel" in name:
            assert (many[name][0] != many[name][1]).any()
    batches = trainer(seeds=3).batches(0)
    np.testing.assert_array_equal(trainer(seeds=2).batches(0), batches[:, :2])
    assert (batches[:, 0] != batches[:, 1]).any()


def test_initial_weights_are_he_normal():
    state = trainer(widths=(400, 300)).init()
    kernels = {k.shape[1:]: k for n, k in weights(state).items() if "kernel" in n}
    assert len(kernels) == 3
    for (fan_in, _), kernel in kernels.items():
        np.testing.assert_allclose(kernel.std(), (2 / fan_in) ** 0.5, rtol=0.1)


def test_batches_are_a_shuffle_of_the_training_samples():
    ours = trainer()
    first, second = np.asarray(ours.batches(0)), np.asarray(ours.batches(1))
    assert first.shape == (90 // 16, 3, 16)
    assert (first != second).any()
    for seed in range(3):
        indices = first[:, seed].ravel()
        assert len(set(indices)) == len(indices)
        assert indices.min() >= 0 and indices.max() < 90


def test_fewer_samples_than_a_batch():
    ours = trainer(batch_size=1000)
    assert ours.batches(0).shape == (1, 3, 90)


@pytest.mark.slow
def test_training_is_adam_on_the_mean_cross_entropy():
    """Against the same training written out, one seed at a time."""
    ours = trainer("leaky_relu:0.3", learning_rate=0.01)
    before = ours.init()
    initial = jax.tree.map(np.asarray, before.parameters)
    after = run(ours, before)
    x, y = jnp.asarray(data().features), jnp.asarray(data().labels)
    optimizer = optax.adam(0.01)

    def loss(p, batch):
        h = x[batch]
        for i in range(2):
            layer = p["hidden"][i]
            h = h @ layer["kernel"] + layer["bias"][None]
            h = jnp.where(h >= 0, h, 0.3 * h)
        logits = h @ p["last"]["kernel"] + p["last"]["bias"][None]
        return -jax.nn.log_softmax(logits)[jnp.arange(len(batch)), y[batch]].mean()

    for seed in range(3):
        p = jax.tree.map(lambda a, seed=seed: jnp.asarray(a[seed]), nnx.to_pure_dict(initial))
        state = optimizer.init(p)
        for batch in ours.batches(0)[:, seed]:
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(jax.grad(loss)(p, batch), state)
            p = optax.apply_updates(p, updates)
        got = nnx.to_pure_dict(jax.tree.map(lambda a, seed=seed: a[seed], after.parameters))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), got, p)


def test_step_is_donated_and_traced_once():
    ours = trainer("rrelu")
    state = ours.init()
    leaves = jax.tree.leaves(state)
    assert {leaf.shape[0] for leaf in leaves} == {3}
    run(ours, state, epochs=2)
    assert all(leaf.is_deleted() for leaf in leaves)
    assert ours.step._cache_size() == 1


def test_random_slopes_change_from_step_to_step():
    ours = trainer("rrelu")
    state = ours.init()
    before = [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(state.rest)
    ]
    after = jax.tree.leaves(run(ours, state).rest)
    counters = [(a, b) for a, b in zip(before, after, strict=True) if b.dtype == np.uint32]
    assert counters
    assert all((b == a + ours.steps).all() for a, b in counters)


@pytest.mark.slow
def test_an_arm_does_not_depend_on_the_others():
    activation = "rrelu"
    alone = train(activation, dataclasses.replace(TINY, activations=(activation,)), data())
    train("prelu", TINY, data())
    settings = dataclasses.replace(TINY, activations=("elu", activation, "prelu"))
    with_others = train(activation, settings, data())
    for name, values in alone.curves._asdict().items():
        np.testing.assert_array_equal(values, getattr(with_others.curves, name))
    np.testing.assert_array_equal(alone.test_accuracy, with_others.test_accuracy)
    np.testing.assert_array_equal(alone.dead_units_percent, with_others.dead_units_percent)


def test_identical_activations_give_identical_figures():
    relu, leaky = (train(name, TINY, data()) for name in ("relu", "leaky_relu:0.0"))
    np.testing.assert_array_equal(relu.test_accuracy, leaky.test_accuracy)
    np.testing.assert_array_equal(relu.curves.train_loss, leaky.curves.train_loss)
    np.testing.assert_array_equal(relu.best_epoch, leaky.best_epoch)


def test_arm():
    epochs = []
    arm = train("relu", dataclasses.replace(TINY, epochs=8), data(), epochs.append)
    assert epochs == list(range(1, 9))
    assert all(values.shape == (3, 8) for values in arm.curves)
    best = arm.curves.validation_loss.argmin(1)
    np.testing.assert_array_equal(arm.best_epoch, best + 1)
    np.testing.assert_array_equal(
        arm.test_accuracy, [arm.curves.test_accuracy[i, best[i]] for i in range(3)]
    )
    np.testing.assert_array_equal(arm.final_train_loss, arm.curves.train_loss[:, -1])
    assert (arm.curves.train_loss[:, -1] < arm.curves.train_loss[:, 0]).all()
    assert 0 < arm.ms_per_step < 1e3 * arm.seconds


def figures(monkeypatch, loss, right):
    """What `train` makes of evaluations: ``loss[epoch]``, ``(seeds, parts)``, and ``right``, the
    share of each part's samples. No network is there, and nothing compiles."""
    sizes, counter = data().sizes, iter(range(len(loss)))

    class Evaluations:
        features = labels = np.zeros(sum(sizes))
        steps = 5
        step = SimpleNamespace(
            lower=lambda *arguments: SimpleNamespace(compile=lambda: lambda state, *rest: state)
        )

        def __init__(self, *arguments):
            pass

        def init(self):
            return None

        def batches(self, epoch):
            return epoch

        def evaluate(self, state):
            epoch = next(counter)
            columns = [
                np.arange(n) < round(n * r) for n, r in zip(sizes, right[epoch], strict=True)
            ]
            samples = np.concatenate(columns)
            values = np.repeat(np.float32(loss[epoch]), sizes, 1)
            return values, np.broadcast_to(samples, values.shape)

        def dead_units(self, state):
            return np.array([[True, False, False, False]] * 3)

    monkeypatch.setattr(training_module, "Trainer", Evaluations)
    return train("relu", dataclasses.replace(TINY, epochs=len(loss)), data())


def test_figures_are_those_of_their_part_and_epoch(monkeypatch):
    nan = np.nan
    validation = np.array([[3, 2, nan], [1, nan, nan], [2, 1, nan]])  # by epoch and seed
    loss = np.stack([10 - validation, validation, 20 + validation], -1)
    clock = iter([0, *(1, 101), *(102, 107), *(110, 125), 200])
    monkeypatch.setattr(training_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    arm = figures(monkeypatch, loss, [(0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (0.7, 0.8, 0.9)])
    np.testing.assert_array_equal(arm.best_epoch, [2, 3, 1])
    np.testing.assert_allclose(arm.test_accuracy, [0.6, 0.9, 0.3])
    np.testing.assert_allclose(arm.curves.validation_accuracy, [[0.2, 0.5, 0.8]] * 3)
    np.testing.assert_allclose(arm.curves.test_accuracy, [[0.3, 0.6, 0.9]] * 3)
    np.testing.assert_array_equal(arm.curves.validation_loss, validation.T)
    np.testing.assert_array_equal(arm.curves.train_loss, 10 - validation.T)
    np.testing.assert_array_equal(arm.final_train_loss, [8, 9, nan])
    np.testing.assert_array_equal(arm.dead_units_percent, [25, 25, 25])
    # Epochs of 100, 5 and 15 seconds with 5 steps each; the first compiles.
    assert arm.ms_per_step == 2000
    assert arm.seconds == 200


def test_one_epoch_has_no_time_per_step(monkeypatch):
    assert figures(monkeypatch, np.ones((1, 3, 3)), [(0.5, 0.5, 0.5)]).ms_per_step is None


def test_evaluation_in_chunks(monkeypatch):
    state = trainer().init()
    loss, right = trainer().evaluate(state)
    dead = trainer().dead_units(state)
    assert loss.shape == right.shape == (3, 150)
    monkeypatch.setattr(training_module, "_CHUNK", 12)  # divides neither 150 samples nor 90
    in_chunks = trainer().evaluate(state)
    np.testing.assert_allclose(in_chunks[0], loss, rtol=1e-4)
    np.testing.assert_array_equal(in_chunks[1], right)
    np.testing.assert_array_equal(trainer().dead_units(state), dead)


def test_evaluation_is_the_cross_entropy():
    ours = trainer("elu")
    state = ours.init()
    loss, right = ours.evaluate(state)
    for seed in range(3):
        one = jax.tree.map(lambda a, seed=seed: a[seed], state)
        logits = np.asarray(
            nnx.merge(ours.graph, one.parameters, one.rest)(ours.features, deterministic=True),
            np.float64,
        )
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        expected = -np.log(shares[np.arange(150), data().labels])
        np.testing.assert_allclose(loss[seed], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(right[seed], logits.argmax(1) == data().labels)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu:0.01", "relu6", "hard_tanh"])
def test_dead_units(activation):
    """Biases that push some units off to one side or the other, where some slopes are 0."""
    ours = trainer(activation)
    state = ours.init()
    bias = np.zeros((3, 6), np.float32)
    bias[0, :2], bias[1, 5], bias[2, 3] = -100, -100, 100
    state.parameters["hidden"][0]["bias"][...] = jnp.asarray(bias)
    dead = ours.dead_units(state)
    assert dead.shape == (3, 11)
    low, high = {
        "relu": (0, np.inf),
        "leaky_relu:0.01": (-np.inf, np.inf),
        "relu6": (0, 6),
        "hard_tanh": (-1, 1),
    }[activation]
    value = {
        "relu": lambda z: np.maximum(z, 0),
        "leaky_relu:0.01": lambda z: np.where(z >= 0, z, 0.01 * z),
        "relu6": lambda z: np.clip(z, 0, 6),
        "hard_tanh": lambda z: np.clip(z, -1, 1),
    }[activation]
    pure = nnx.to_pure_dict(state.parameters)
    for seed in range(3):
        h, expected = data().features[data().training], []
        for i in range(2):
            layer = jax.tree.map(lambda a, seed=seed: np.asarray(a[seed]), pure["hidden"][i])
            z = h @ layer["kernel"] + layer["bias"]
            expected.extend(~((z > low) & (z < high)).any(0))
            h = value(z)
        np.testing.assert_array_equal(dead[seed], expected)
    if activation == "leaky_relu:0.01":
        assert not dead.any()
    else:
        assert dead[0, :2].all() and dead[1, 5] and not dead[:, :6].all(1).any()
    assert dead[2, 3] == (activation in ("relu6", "hard_tanh"))


def test_dead_units_look_at_training_samples_only():
    """A unit that only a test sample activates is dead."""
    ours = trainer()
    state = ours.init()
    features = np.array(ours.features)
    features[:, 0] = -1.0
    features[-1, 0] = 5.0
    ours.features = jnp.asarray(features)
    kernel = np.zeros((3, 4, 6), np.float32)
    kernel[:, 0, 0] = 1  # the unit is the first one
    state.parameters["hidden"][0]["kernel"][...] = jnp.asarray(kernel)
    assert ours.dead_units(state)[:, 0].tolist() == [True] * 3
    ours.features = ours.features.at[0, 0].set(5.0)
    assert ours.dead_units(state)[:, 0].tolist() == [False] * 3


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "dtype"), [("prelu", "bfloat16"), ("rrelu", "float16")])
def test_low_precision(activation, dtype):
    arm = train(activation, dataclasses.replace(TINY, dtype=dtype, epochs=6), data())
    assert (arm.curves.train_loss[:, -1] < arm.curves.train_loss[:, 0]).all()
    ours = trainer(activation, dtype=dtype)
    state = run(ours, ours.init())
    assert {p.dtype for p in jax.tree.leaves(state.parameters)} == {jnp.dtype("float32")}
    exact = train(activation, dataclasses.replace(TINY, epochs=6), data())
    assert (arm.final_train_loss != exact.final_train_loss).all()
    np.testing.assert_allclose(arm.final_train_loss, exact.final_train_loss, rtol=0.1)


def test_a_network_that_diverges():
    arm = train("identity", dataclasses.replace(TINY, learning_rate=1e30), data())
    assert np.isnan(arm.final_train_loss).all()
    assert np.isfinite(arm.test_accuracy).all()
    assert set(arm.best_epoch) <= {1, 2, 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"epochs": -1}, "epochs must be at least 1, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"widths": (8, 0)}, "widths must be at least 1, .* got 8,0"),
        ({"widths": ()}, "one or more hidden layers; got none"),
        ({"learning_rate": 0.0}, "learning rate must be positive and finite, got 0"),
        ({"learning_rate": float("nan")}, "learning rate must be positive and finite, got nan"),
        ({"learning_rate": float("inf")}, "learning rate must be positive and finite, got inf"),
        ({"dtype": "float8"}, "dtype must be one of float32, bfloat16, float16; got 'float8'"),
        ({"activations": ()}, "no activation is given"),
        ({"activations": ("relu", "")}, "the list of activations has an empty name"),
        ({"activations": ("relu", "elu", "relu")}, "activation 'relu' is given twice"),
        ({"activations": ("relu", "gelo")}, "unknown activation 'gelo'. Did you mean 'gelu'"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(CompareError, match=message):
        dataclasses.replace(TINY, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["gelu", "mish"])
def test_quantized_derivatives_lose_no_detectable_accuracy(activation):
    """On digits, 16 seeds, against the exact derivative."""
    digits = split(load())
    settings = Settings(activations=(activation,))
    arms = {"exact": train(activation, settings, digits)}
    for bits in (2, 3, 4):
        with jaxact.autodiff(residual="quantized", bits=bits):
            arms[f"{bits} bits"] = train(activation, settings, digits)
    _, *quantized = summarize(arms, 3, digits.sizes[2]).values()
    assert [row.verdict for row in quantized] == ["no detectable difference"] * 3
    # The arms are different runs.
    assert len({tuple(arm.test_accuracy) for arm in arms.values()}) == 4
    assert all(abs(row.difference.mean) < 0.005 for row in quantized)
