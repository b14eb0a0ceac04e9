"""Flax models of a user's, unedited."""

import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxact._errors import CompareError
from jaxact.compare import own
from jaxact.compare.own import OwnModel
from jaxact.compare.settings import Settings
from jaxact.compare.study import Sweep
from jaxact.compare.training import figures, programs, train
from tests.support.training import blobs, images

CODE = """
    import jax
    from flax import linen, nnx

    class Net(nnx.Module):
        def __init__(self, din, num_classes, *, rngs):
            self.a = nnx.Linear(din, 8, rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)
            self.drop = nnx.Dropout(0.1, rngs=rngs)
            self.b = nnx.Linear(8, 8, rngs=rngs)
            self.c = nnx.Linear(8, num_classes, rngs=rngs)

        def __call__(self, x):
            x = self.drop(nnx.relu(self.norm(self.a(x))))
            return self.c(nnx.relu(self.b(x)))

    class LinenNet(linen.Module):
        classes: int = 3

        @linen.compact
        def __call__(self, x, train=True):
            x = linen.BatchNorm(use_running_average=not train)(linen.Dense(8)(x))
            x = linen.Dropout(0.1, deterministic=not train)(linen.gelu(x))
            return linen.Dense(self.classes)(linen.gelu(linen.Dense(8)(x)))

    linen_net = LinenNet()

    class Images(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
            self.last = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.relu(self.conv(x)).mean((1, 2)))

    def mixed(features, classes, rngs):
        return nnx.Sequential(
            nnx.Linear(features, 8, rngs=rngs), nnx.relu,
            nnx.Linear(8, 8, rngs=rngs), nnx.tanh,
            nnx.Linear(8, classes, rngs=rngs),
        )

    def plain(rngs):
        return nnx.Linear(4, 3, rngs=rngs)

    def other_outputs(rngs):
        return nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), nnx.relu)

    def needs_more(features, dropout_rate, rngs): ...

    def breaks(rngs):
        raise KeyError("weights.npz")

    def no_model():
        return 3

    instance = plain(nnx.Rngs(0))
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "users_model.py").write_text(textwrap.dedent(CODE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("users_model", None)


def model(name, activation="relu", replace=None, inputs=(4,), outputs=3):
    return OwnModel(f"users_model:{name}", replace, activation, inputs, outputs)


@pytest.mark.parametrize("name", ["Net", "linen_net", "LinenNet"])
def test_without_a_change_it_is_the_model(name):
    """Replaced by the function that it has, the model computes what it computes."""
    own_function = {"Net": "relu"}.get(name, "gelu")
    ours = model(name, own_function)
    assert ours.selector == own_function
    network = ours.init(jnp.uint32(0), {})
    x = jnp.asarray(blobs().features[:20])
    outputs, rest = ours.apply(network, x, train=False)
    plain = ours._plain(type(network)(network.parameters["model"], network.rest["model"]), x)
    np.testing.assert_allclose(outputs, plain, rtol=1e-5, atol=1e-6)
    for old, new in zip(jax.tree.leaves(network.rest), jax.tree.leaves(rest), strict=True):
        assert (old == new).all()  # an evaluation changes nothing


@pytest.mark.parametrize("name", ["Net", "linen_net"])
def test_statistics_and_dropout_move_on_in_training(name):
    ours = model(name, "elu")
    network = ours.init(jnp.uint32(0), {})
    x = jnp.asarray(blobs().features[:20])
    first, rest = ours.apply(network, x, train=True)
    second, _ = ours.apply(network._replace(rest=rest), x, train=True)
    assert (np.asarray(first) != np.asarray(second)).any()
    means = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(rest)
        if "mean" in jax.tree_util.keystr(path)
    ]
    assert means and all(np.asarray(mean).any() for mean in means)


def test_seeds_have_weights_of_their_own():
    ours = model("Net")
    one, same, other = (ours.init(jnp.uint32(seed), {}) for seed in (0, 0, 1))

    def kernel(network):
        return np.asarray(jax.tree.leaves(network.parameters)[1])

    np.testing.assert_array_equal(kernel(one), kernel(same))
    assert (kernel(one) != kernel(other)).any()


def trained(data, **changes):
    settings = Settings(seeds=2, epochs=10, batch_size=30, learning_rate=0.02, **changes)
    found = {}
    for program in programs(settings, settings.cells):
        found |= figures(program, train(program, [data]))
    return {cell.label: of for cell, of in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Net", "linen_net"])
def test_arms_of_a_users_model(name):
    first = {"Net": "relu"}.get(name, "gelu")
    found = trained(
        blobs(),
        activations=(first, "leaky_relu", "prelu", "rrelu"),
        model=f"users_model:{name}",
        sweeps=(Sweep("negative_slope", (0.1, 0.5)),),
    )
    assert list(found) == [first, "leaky_relu:0.1", "leaky_relu:0.5", "prelu", "rrelu"]
    for label, of in found.items():
        losses = of.curves["train_loss"]
        assert (losses[:, -1] < 0.8 * losses[:, 0]).all(), label
        assert of.dead_by_layer.shape == (2, 10, 2)
    slopes = found["prelu"].learned_slopes
    assert slopes.shape == (2, 2)
    assert (slopes != 0.25).all()
    losses = {label: tuple(of.final_train_loss) for label, of in found.items()}
    assert len(set(losses.values())) == 5


def test_a_model_for_images():
    found = trained(images(), activations=("relu",), model="users_model:Images")
    losses = found["relu"].curves["train_loss"]
    assert (losses[:, -1] < losses[:, 0]).all()


def test_which_activations_are_replaced():
    x = jnp.asarray(blobs().features[:5])
    outputs = {}
    for replace, activation in (("relu", "relu"), ("relu", "elu"), ("tanh", "elu")):
        ours = model("mixed", activation, replace)
        outputs[replace, activation] = ours.apply(ours.init(jnp.uint32(0), {}), x, train=False)[0]
    first, second, third = map(np.asarray, outputs.values())
    assert (first != second).any() and (second != third).any() and (first != third).any()


def test_the_activation_that_a_model_has():
    assert own.activations_of("users_model:Net", None, (4,), 3) == ("relu",)
    assert own.activations_of("users_model:LinenNet", None, (4,), 3) == ("gelu",)
    assert own.activations_of("users_model:mixed", "tanh", (4,), 3) == ("tanh",)


@pytest.mark.parametrize(
    ("name", "replace", "message"),
    [
        (
            "mixed",
            None,
            "several activations, relu, tanh: say which are replaced, .* --replace relu",
        ),
        ("mixed", "elu", "swap: .*'elu'"),
        ("plain", None, "no activation that jaxact knows"),
        ("other_outputs", None, r"returns the shape \(2, 5\); it must be \(2, 3\)"),
        ("needs_more", None, "needs dropout_rate: only rngs, the number of features"),
        ("breaks", None, "KeyError: 'weights.npz'"),
        ("no_model", None, "makes a int; it must make a Flax model"),
        ("instance", None, "is a Linear: name a class or a function"),
        ("Nett", None, "has no attribute 'Nett'. Did you mean 'Net'"),
        ("linen_net.apply", None, "needs variables"),
    ],
)
def test_models_that_cannot_be_compared(name, replace, message):
    with pytest.raises(CompareError, match=message) as caught:
        model(name, replace=replace)
    assert f"--model users_model:{name}" in str(caught.value)


def test_a_model_that_is_not_there():
    with pytest.raises(CompareError, match="there is no module 'nowhere'"):
        OwnModel("nowhere:Net", None, "relu", (4,), 3)
    with pytest.raises(CompareError, match="must be written as module:attribute"):
        OwnModel("a-b:Net", None, "relu", (4,), 3)
