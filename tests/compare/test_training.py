import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxact
from jaxact.compare import training as training_module
from jaxact.compare.data import load, split
from jaxact.compare.settings import Settings
from jaxact.compare.statistics import summarize
from jaxact.compare.study import Cell, Study, Sweep
from jaxact.compare.training import Trainer, figures, programs, train
from tests.support.studies import study as made_up
from tests.support.training import blobs, images, numbers

TINY = Settings(activations=("relu",), seeds=3, epochs=3, widths=(6, 5), batch_size=16)


def program(activation="relu", **changes):
    settings = dataclasses.replace(TINY, activations=(activation,), **changes)
    (one,) = programs(settings, settings.cells)
    return one


def trainer(activation="relu", data=None, **changes):
    return Trainer(program(activation, **changes), data or [blobs()])


def trained(activation="relu", data=None, **changes):
    """The figures of each cell, by label."""
    one = program(activation, **changes)
    found = figures(one, train(one, data or [blobs()]))
    return {cell.label: of for cell, of in found.items()}


def run(trainer, state, epochs=1):
    operands = (trainer.rates, trainer.features, trainer.targets)
    for epoch in range(epochs):
        batches = trainer.batches(epoch)
        for i in range(trainer.steps):
            state = trainer.step(state, batches, np.int32(i), *operands)
    return state


def weights(state):
    """The linear layers' parameters, by path, ``(splits, members, ...)``."""
    leaves = jax.tree_util.tree_leaves_with_path(state.network.parameters)
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
        np.testing.assert_array_equal(few[name], many[name][:, :2])
        if "kernel" in name:
            assert (many[name][0, 0] != many[name][0, 1]).any()
    batches = trainer(seeds=3).batches(0)
    np.testing.assert_array_equal(trainer(seeds=2).batches(0), batches[:, :, :2])
    assert (batches[:, 0, 0] != batches[:, 0, 1]).any()


def test_splits_have_seeds_of_their_own():
    ours = trainer(data=[blobs(0), blobs(1)], splits=2)
    assert len(set(np.asarray(ours.seeds).ravel().tolist())) == 6
    alone = trainer()
    np.testing.assert_array_equal(ours.seeds[0], alone.seeds[0])
    for name, leaf in weights(ours.init()).items():
        np.testing.assert_array_equal(leaf[:1], weights(alone.init())[name])


def test_initial_weights_are_he_normal():
    state = trainer(widths=(400, 300)).init()
    kernels = {k.shape[2:]: k for n, k in weights(state).items() if "kernel" in n}
    assert len(kernels) == 3
    for (fan_in, _), kernel in kernels.items():
        np.testing.assert_allclose(kernel.std(), (2 / fan_in) ** 0.5, rtol=0.1)


def test_batches_are_a_shuffle_of_the_training_samples():
    ours = trainer()
    first, second = np.asarray(ours.batches(0)), np.asarray(ours.batches(1))
    assert first.shape == (90 // 16, 1, 3, 16)
    assert (first != second).any()
    for seed in range(3):
        indices = first[:, 0, seed].ravel()
        assert len(set(indices)) == len(indices)
        assert indices.min() >= 0 and indices.max() < 90


def test_fewer_samples_than_a_batch():
    ours = trainer(batch_size=1000)
    assert ours.batches(0).shape == (1, 1, 3, 90)


def written_out(ours, split, rate, activation, seed, position):
    """Adam on the mean loss of one network, with plain JAX, from the trainer's own weights."""
    data = ours.data[split]
    x, y = jnp.asarray(data.features), jnp.asarray(data.targets)
    optimizer = optax.adam(rate)

    def loss(p, batch):
        h = x[batch]
        for i in range(2):
            layer = p["hidden"][i]
            h = activation(h @ layer["kernel"] + layer["bias"][None])
        out = h @ p["last"]["kernel"] + p["last"]["bias"][None]
        if data.classes:
            return -jax.nn.log_softmax(out)[jnp.arange(len(batch)), y[batch]].mean()
        return ((out[:, 0] - y[batch]) ** 2).mean()

    initial = jax.tree.map(np.asarray, ours.init().network.parameters)
    p = jax.tree.map(lambda a: jnp.asarray(a[split, position]), nnx.to_pure_dict(initial))
    state = optimizer.init(p)

    @jax.jit
    def step(p, state, batch):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(jax.grad(loss)(p, batch), state)
        return optax.apply_updates(p, updates), state

    for batch in ours.batches(0)[:, split, position]:
        p, state = step(p, state, batch)
    return p


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_training_is_adam_on_the_mean_loss(task):
    """Two splits, two rates and two slopes in one program, against the same written out."""
    data = [blobs(0), blobs(1)] if task == "classification" else [numbers(), numbers()]
    sweeps = (Sweep("negative_slope", (0.1, 0.3)), Sweep("lr", (0.01, 0.03)))
    ours = trainer("leaky_relu", data=data, splits=2, seeds=2, sweeps=sweeps)
    after = run(ours, ours.init())
    assert ours.seeds.shape == (2, 8)
    for split_, position in ((0, 0), (1, 7), (0, 3)):
        slope = float(ours.members.values["negative_slope"][position])
        rate = float(ours.members.rates[position])
        expected = written_out(
            *(ours, split_, rate),
            lambda h, slope=slope: jnp.where(h >= 0, h, slope * h),
            *(None, position),
        )
        got = nnx.to_pure_dict(
            jax.tree.map(lambda a: a[split_, position], after.network.parameters)  # noqa: B023
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), got, expected
        )
    assert (
        len(
            {
                (float(r), float(s))
                for r, s in zip(
                    ours.members.rates, ours.members.values["negative_slope"], strict=True
                )
            }
        )
        == 4
    )


def test_step_is_donated_and_traced_once():
    """However many rates and slopes there are: a point of them costs no compilation."""
    sweeps = (Sweep("lr", (0.01, 0.02, 0.03)), Sweep("upper", (0.3, 0.4)))
    ours = trainer("rrelu", sweeps=sweeps)
    state = ours.init()
    leaves = jax.tree.leaves(state)
    assert {leaf.shape[:2] for leaf in leaves} == {(1, 18)}
    run(ours, state, epochs=2)
    assert all(leaf.is_deleted() for leaf in leaves)
    assert ours.step._cache_size() == 1


def test_random_slopes_change_from_step_to_step():
    ours = trainer("rrelu")
    state = ours.init()

    def counters(state):
        return [np.asarray(x) for x in jax.tree.leaves(state.network.rest) if x.dtype == np.uint32]

    before = counters(state)
    after = counters(run(ours, state))
    assert before
    assert all((b == a + ours.steps).all() for a, b in zip(before, after, strict=True))


def test_swept_slopes_are_drawn_between_their_bounds():
    """An RReLU whose bounds are the same is a leaky ReLU; one of other bounds is not."""
    swept = trained("rrelu:lower=0.2", sweeps=(Sweep("upper", (0.2, 0.9)),))
    leaky = trained("leaky_relu:0.2")["leaky_relu:0.2"]
    same, wide = swept.values()
    np.testing.assert_allclose(same.final_train_loss, leaky.final_train_loss, rtol=1e-5)
    assert (np.abs(wide.final_train_loss / leaky.final_train_loss - 1) > 1e-3).all()


@pytest.mark.slow
def test_an_arm_does_not_depend_on_the_others():
    alone = trained("rrelu")["rrelu"]
    trained("prelu")
    settings = dataclasses.replace(TINY, activations=("elu", "rrelu", "prelu"))
    one = programs(settings, settings.cells)[1]
    (with_others,) = figures(one, train(one, [blobs()])).values()
    for name, values in alone.curves.items():
        np.testing.assert_array_equal(values, with_others.curves[name])
    np.testing.assert_array_equal(alone.scores["accuracy"], with_others.scores["accuracy"])


def test_identical_activations_give_identical_figures():
    """ReLU, and the Leaky ReLU whose slope is an operand that is 0."""
    relu = trained("relu")["relu"]
    leaky = trained("leaky_relu", sweeps=(Sweep("negative_slope", (0.0, 0.3)),))
    assert list(leaky) == ["leaky_relu:0", "leaky_relu:0.3"]
    zero, other = leaky.values()
    np.testing.assert_array_equal(relu.scores["accuracy"], zero.scores["accuracy"])
    np.testing.assert_allclose(relu.curves["train_loss"], zero.curves["train_loss"], rtol=1e-5)
    np.testing.assert_array_equal(relu.dead_units_percent, zero.dead_units_percent)
    assert (relu.final_train_loss != other.final_train_loss).all()


def test_points_of_a_sweep_are_those_trained_alone():
    swept = trained(sweeps=(Sweep("lr", (0.001, 0.03)),))
    for rate in (0.001, 0.03):
        alone = trained(learning_rate=rate)["relu"]
        got = swept[f"relu, lr={rate:g}"]
        np.testing.assert_allclose(got.curves["train_loss"], alone.curves["train_loss"], rtol=1e-4)
        assert got.learning_rate == rate


def test_figures_of_a_cell():
    epochs = []
    one = program(epochs=8)
    (found,) = figures(one, train(one, [blobs()], epochs.append)).values()
    assert epochs == list(range(1, 9))
    assert list(found.curves) == [
        *("train_loss", "validation_loss", "validation_accuracy", "test_accuracy")
    ]
    assert all(values.shape == (3, 8) for values in found.curves.values())
    best = found.curves["validation_loss"].argmin(1)
    np.testing.assert_array_equal(found.best_epoch, best + 1)
    test = found.curves["test_accuracy"]
    np.testing.assert_array_equal(found.scores["accuracy"], [test[i, best[i]] for i in range(3)])
    np.testing.assert_array_equal(found.final_train_loss, found.curves["train_loss"][:, -1])
    assert (found.curves["train_loss"][:, -1] < found.curves["train_loss"][:, 0]).all()
    assert found.dead_by_layer.shape == (3, 8, 2)
    assert found.learned_slopes.shape == (3, 0)


def test_tuning_takes_the_best_rate_by_validation():
    rates = (1e-5, 0.01, 10.0)
    tuned = trained(tune=rates, epochs=6)["relu"]
    assert tuned.learning_rate == 0.01
    assert list(tuned.tuned) == list(rates)
    assert min(tuned.tuned, key=tuned.tuned.get) == 0.01
    alone = trained(learning_rate=0.01, epochs=6)["relu"]
    np.testing.assert_allclose(tuned.final_train_loss, alone.final_train_loss, rtol=1e-4)
    best = alone.curves["validation_loss"].min(1).mean()
    np.testing.assert_allclose(tuned.tuned[0.01], best, rtol=1e-4)


def made(monkeypatch, loss, right, **changes):
    """What `train` makes of evaluations: ``loss[epoch]``, ``(members, parts)``, and ``right``, the
    share of each part's samples. No network is there, and nothing compiles."""
    sizes, counter = blobs().sizes, iter(range(len(loss)))

    class Evaluations:
        steps = 5
        task = "classification"

        def __init__(self, *arguments):
            self.seeds = np.zeros((1, 3))

        def init(self):
            return None

        def compiled(self, state):
            return lambda state, *rest: state

        def batches(self, epoch):
            return epoch

        def slopes(self, state):
            return np.zeros((1, 3, 0))

        def evaluate(self, state):
            epoch = next(counter)
            columns = [
                np.arange(n) < round(n * r) for n, r in zip(sizes, right[epoch], strict=True)
            ]
            hit = np.concatenate(columns)
            values = np.repeat(np.float32(loss[epoch]), sizes, 1)[None]
            predictions = np.where(hit, blobs().targets, -1)
            dead = [np.array([[[True, False]] * 3]), np.array([[[True, False]] * 3])]
            return values, np.broadcast_to(predictions, values.shape), dead

    monkeypatch.setattr(training_module, "Trainer", Evaluations)
    one = program(epochs=len(loss), **changes)
    return figures(one, train(one, [blobs()]))[Cell("relu")]


def test_figures_are_those_of_their_part_and_epoch(monkeypatch):
    nan = np.nan
    validation = np.array([[3, 2, nan], [1, nan, nan], [2, 1, nan]])  # by epoch and seed
    loss = np.stack([10 - validation, validation, 20 + validation], -1)
    clock = iter([0, 200])
    monkeypatch.setattr(training_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    found = made(monkeypatch, loss, [(0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (0.7, 0.8, 0.9)])
    np.testing.assert_array_equal(found.best_epoch, [2, 3, 1])
    np.testing.assert_allclose(found.scores["accuracy"], [0.6, 0.9, 0.3])
    np.testing.assert_allclose(found.curves["validation_accuracy"], [[0.2, 0.5, 0.8]] * 3)
    np.testing.assert_allclose(found.curves["test_accuracy"], [[0.3, 0.6, 0.9]] * 3)
    np.testing.assert_array_equal(found.curves["validation_loss"], validation.T)
    np.testing.assert_array_equal(found.curves["train_loss"], 10 - validation.T)
    np.testing.assert_array_equal(found.final_train_loss, [8, 9, nan])
    # A network that diverged has no dead units: nobody knows.
    np.testing.assert_array_equal(found.dead_units_percent, [50, 50, nan])
    np.testing.assert_array_equal(found.dead_by_layer, np.full((3, 3, 2), 50))
    assert found.seconds == 200


def test_evaluation_in_chunks(monkeypatch):
    ours = trainer("rrelu")
    loss, predictions, dead = ours.evaluate(ours.init())
    assert loss.shape == predictions.shape == (1, 3, 150)
    monkeypatch.setattr(training_module, "_SAMPLES", (12, 12))  # divides neither 60 nor 90
    chunked = trainer("rrelu")
    assert chunked.chunk == 12
    in_chunks = chunked.evaluate(chunked.init())
    np.testing.assert_allclose(in_chunks[0], loss, rtol=1e-4)
    np.testing.assert_array_equal(in_chunks[1], predictions)
    for layer, expected in zip(in_chunks[2], dead, strict=True):
        np.testing.assert_array_equal(layer, expected)


def test_evaluation_is_the_cross_entropy():
    ours = trainer("elu")
    state = ours.init()
    loss, predictions, _ = ours.evaluate(state)
    for seed in range(3):
        one = jax.tree.map(lambda a, seed=seed: a[0, seed], state.network)
        x = jnp.asarray(blobs().features)
        logits = np.asarray(ours.model.apply(one, x, train=False)[0], np.float64)
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        expected = -np.log(shares[np.arange(150), blobs().targets])
        np.testing.assert_allclose(loss[0, seed], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(predictions[0, seed], logits.argmax(1))


def test_a_regression():
    (found,) = trained("relu", data=[numbers()], epochs=40, learning_rate=0.01).values()
    assert list(found.scores) == ["r2", "rmse"]
    assert (found.scores["r2"] > 0.8).all()
    test = numbers().targets[numbers().test].astype(np.float64)
    # The target's own units: its standard deviation is 2.
    np.testing.assert_allclose(
        found.scores["rmse"], 2 * np.sqrt((1 - found.scores["r2"]) * test.var()), rtol=1e-6
    )


def test_a_network_for_images():
    (found,) = trained(
        "relu", data=[images()], model="cnn", widths=(8, 8), epochs=20, learning_rate=0.03
    ).values()
    assert (found.scores["accuracy"] > 0.9).all()
    assert found.dead_by_layer.shape == (3, 20, 2)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu:0.01", "relu6", "hard_tanh"])
def test_dead_units(activation):
    """Biases that push some units off to one side or the other, where some slopes are 0."""
    ours = trainer(activation)
    state = ours.init()
    bias = np.zeros((1, 3, 6), np.float32)
    bias[0, 0, :2], bias[0, 1, 5], bias[0, 2, 3] = -100, -100, 100
    state.network.parameters["hidden"][0]["bias"][...] = jnp.asarray(bias)
    _, _, dead = ours.evaluate(state)
    assert [layer.shape for layer in dead] == [(1, 3, 6), (1, 3, 5)]
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
    pure = nnx.to_pure_dict(state.network.parameters)
    for seed in range(3):
        h = blobs().features[blobs().training]
        for i in range(2):
            layer = jax.tree.map(lambda a, seed=seed: np.asarray(a[0, seed]), pure["hidden"][i])
            z = h @ layer["kernel"] + layer["bias"]
            np.testing.assert_array_equal(dead[i][0, seed], ~((z > low) & (z < high)).any(0))
            h = value(z)
    if activation == "leaky_relu:0.01":
        assert not any(layer.any() for layer in dead)
    else:
        assert dead[0][0, 0, :2].all() and dead[0][0, 1, 5] and not dead[0][0].all(1).any()
    assert dead[0][0, 2, 3] == (activation in ("relu6", "hard_tanh"))


def test_dead_units_look_at_training_samples_only():
    """A unit that only a test sample activates is dead."""
    features = np.array(blobs().features)
    features[:, 0] = -1.0
    features[-1, 0] = 5.0
    kernel = np.zeros((1, 3, 4, 6), np.float32)
    kernel[..., 0, 0] = 1  # the unit is the first one

    def dead(features):
        ours = trainer(data=[dataclasses.replace(blobs(), features=features)])
        state = ours.init()
        state.network.parameters["hidden"][0]["kernel"][...] = jnp.asarray(kernel)
        return ours.evaluate(state)[2][0][0, :, 0].tolist()

    assert dead(features) == [True] * 3
    features[0, 0] = 5.0
    assert dead(features) == [False] * 3


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "dtype"), [("prelu", "bfloat16"), ("rrelu", "float16")])
def test_low_precision(activation, dtype):
    (low,) = trained(activation, dtype=dtype, epochs=6).values()
    losses = low.curves["train_loss"]
    assert (losses[:, -1] < losses[:, 0]).all()
    ours = trainer(activation, dtype=dtype)
    state = run(ours, ours.init())
    assert {p.dtype for p in jax.tree.leaves(state.network.parameters)} == {jnp.dtype("float32")}
    (exact,) = trained(activation, epochs=6).values()
    assert (low.final_train_loss != exact.final_train_loss).all()
    np.testing.assert_allclose(low.final_train_loss, exact.final_train_loss, rtol=0.1)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_networks_that_diverge():
    (found,) = trained("identity", learning_rate=1e30).values()
    assert np.isnan(found.final_train_loss).all()
    assert np.isfinite(found.scores["accuracy"]).all()
    assert set(found.best_epoch) <= {1, 2, 3}
    assert np.isnan(found.dead_units_percent).all()
    (regression,) = trained("relu", data=[numbers()], learning_rate=1e30).values()
    assert not np.isfinite(regression.scores["r2"]).any()


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["gelu", "mish"])
def test_quantized_derivatives_lose_no_detectable_accuracy(activation):
    """On digits, 16 seeds, against the exact derivative."""
    digits = split(load())
    settings = Settings(activations=(activation,))
    (one,) = programs(settings, settings.cells)
    arms = {"exact": figures(one, train(one, [digits]))[Cell(activation)]}
    for bits in (2, 3, 4):
        with jaxact.autodiff(residual="quantized", bits=bits):
            arms[f"{bits} bits"] = figures(one, train(one, [digits]))[Cell(activation)]
    cells = {Cell(name): 0.9 for name in arms}
    configuration = made_up(cells).configuration | {"margin": 0.0}
    study = Study(configuration, tuple(cells), {Cell(n): f for n, f in arms.items()})
    _, *quantized = summarize(study).values()
    assert [row.comparison.verdict for row in quantized] == ["no detectable difference"] * 3
    # The arms are different runs.
    assert len({tuple(arm.scores["accuracy"]) for arm in arms.values()}) == 4
    assert all(abs(row.comparison.difference.mean) < 0.005 for row in quantized)
