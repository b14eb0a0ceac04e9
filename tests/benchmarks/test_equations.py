"""The physics-informed nets of benchmarks/equations.py, and the recurrent ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxact
from benchmarks import equations, recurrent


def test_the_second_derivative():
    x = jnp.float32(0.3)
    assert equations.second(jnp.sin)(x) == pytest.approx(-np.sin(0.3), rel=1e-5)
    with jaxact.autodiff(mode="both"):
        assert equations.second(jaxact.relu)(x) == 0
        assert equations.second(jaxact.relu_squared)(x) == 2


@pytest.mark.slow
def test_a_smooth_net_learns_the_equation_and_relu_does_not():
    problem = equations.Problem(seeds=2, steps=1500, looks=5)
    tanh = equations.solve(jaxact.tanh, problem)
    assert tanh.shape == (2, 5)
    assert (tanh[:, -1] < 0.5).all()
    assert (equations.solve(jaxact.relu, problem, looks=2)[:, -1] > 0.8).all()


@pytest.mark.slow
def test_the_first_looks_are_those_of_all():
    problem = equations.Problem(seeds=1, steps=8, looks=4, width=4)
    whole = equations.solve(jaxact.tanh, problem)
    np.testing.assert_allclose(equations.solve(jaxact.tanh, problem, looks=2), whole[:, :2], 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("start", recurrent.STARTS)
def test_recurrent(start):
    problem = recurrent.Problem(seeds=2, steps=3, batch=4, width=4)
    found = recurrent.train(jax.nn.relu, start, problem)
    assert {values.shape for values in found.values()} == {(2, 2)}  # Rates and seeds.
    assert all(np.isfinite(values).all() for values in found.values())


def test_the_best_rate_is_that_of_the_validation():
    problem = dataclasses.replace(recurrent.Problem(), rates=(0.1, 0.2))
    found = {
        "validation": np.array([[50.0, 50.0], [60.0, 60.0]]),
        "test": np.array([[99.0, 99.0], [55.0, 57.0]]),
    }
    best = recurrent.at_the_best_rate(found, problem)
    assert best["rate"] == 0.2
    assert best["test"].tolist() == [55, 57]


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", [equations, recurrent])
def test_quick(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "ACTIVATIONS", {"relu": jaxact.relu})
    monkeypatch.setattr(benchmark.results, "save", lambda *a, **k: pytest.fail("saved"))
    benchmark.main(["--quick"])
