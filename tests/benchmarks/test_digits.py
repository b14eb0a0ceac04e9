"""Many perceptrons on digits at once, and the benchmarks that train them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxact
from benchmarks import born_dead, choosing, digits, dying, results


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """The folder that results are saved in."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return tmp_path


def relu(x, layer, key):
    return jaxact.relu(x)


def test_perceptron():
    params = digits.perceptron(jax.random.key(0), depth=3, width=200)
    assert [layer["w"].shape for layer in params] == [(64, 200), (200, 200), (200, 200), (200, 10)]
    for layer in params:
        fan_in = layer["w"].shape[0]
        assert layer["w"].std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.05)
        assert not layer["b"].any()
    assert abs(np.corrcoef(params[1]["w"].ravel(), params[2]["w"].ravel())[0, 1]) < 0.03


@pytest.mark.slow
def test_training_learns():
    params = digits.perceptron(jax.random.key(0), depth=1, width=32)
    trained, losses, looks = digits.train(
        relu, params, jax.random.key(1), 0.01, 3, look=lambda params: params[0]["b"]
    )
    assert losses.shape == (3,) and losses[2] < losses[0] / 3
    assert looks.shape == (3, 32) and (looks[-1] == trained[0]["b"]).all()
    assert digits.accuracy(relu, params) < 40
    assert digits.accuracy(relu, trained) > 90
    logits = digits.pre_activations(relu, trained, jnp.asarray(digits.digits().test_x))[-1]
    right = (np.argmax(logits, axis=1) == digits.digits().test_y).mean()
    assert digits.accuracy(relu, trained) == pytest.approx(100 * right)


def test_dead_units():
    params = digits.perceptron(jax.random.key(0), depth=2, width=8)
    params[1]["b"] = params[1]["b"].at[:2].set(-1000.0)
    assert digits.dead(relu, params)[1] >= 25
    assert (digits.dead(relu, params) == digits.off(relu, params)).all()

    def leaky(x, layer, key):
        return jaxact.leaky_relu(x)

    assert not digits.dead(leaky, params).any()
    assert digits.off(leaky, params)[1] >= 25


@pytest.mark.slow
def test_born_dead(saved, capsys):
    born_dead.main(["--quick"])
    assert "leaky_relu" in capsys.readouterr().out
    assert not list(saved.iterdir())
    found = born_dead.measure("relu", born_dead.QUICK, 1, [0.1], range(2))
    assert found["dead"].shape == (1, 2, 2)
    assert (found["dead"][:, :, -1] == found["off"]).all()
    assert (found["dead by layer"].mean(2) == found["off"]).all()


@pytest.mark.slow
def test_choosing(saved, capsys):
    choosing.main(["--quick", "--only", "leaky_relu:0.2"])
    assert "leaky_relu:0.2" in capsys.readouterr().out
    assert not list(saved.iterdir())
    found = choosing.measure("prelu", choosing.QUICK, range(2))
    assert found["slopes"].shape == (2, 2, 1, 3)
    mean, least, largest = np.moveaxis(found["slopes"], -1, 0)
    assert (least < mean).all() and (mean < largest).all() and (abs(mean - 0.25) < 0.2).all()


@pytest.mark.slow
def test_random_slopes_in_training_alone():
    rrelu, x = choosing.ACTIVATIONS["rrelu"], -jnp.ones((3, 4))
    slopes = -rrelu(x, {}, jax.random.key(0))
    assert len(np.unique(slopes)) > 6
    assert len(np.unique(rrelu(x, {}, None))) == 1


@pytest.mark.slow
def test_dying(saved, capsys):
    dying.main(["--quick"])
    assert "revive" in capsys.readouterr().out
    assert not list(saved.iterdir())


@pytest.mark.slow
def test_dying_one_way():
    found = dying.measure(dying.QUICK, range(2), ["revive"])
    assert list(found) == ["at first", "just revived", "revive"]
    assert found["at first"]["dead"].max() > 0
    assert found["just revived"]["dead"].max() == 0


@pytest.mark.parametrize("benchmark", [born_dead, choosing, dying])
def test_saved_results_are_of_todays_sizes(benchmark):
    figures = results.load(benchmark.__name__.rpartition(".")[2])["figures"]
    for name, size in dataclasses.asdict(benchmark.Problem()).items():
        assert figures[name] == (list(size) if isinstance(size, tuple) else size), name
