"""The GAN's benchmark: its convolutions, its judge, and that it runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from benchmarks import gan, results

RNG = np.random.default_rng(0)
JUDGED = gan.judged


@pytest.fixture(scope="module")
def judge():
    return gan.Judge(epochs=3)


def convolution(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (2, 2), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("size", [4, 8])
def test_the_matrices_are_the_convolutions(size):
    """And, transposed, the transposed ones; so are the gradients for the kernel."""
    x, kernel = (
        jnp.asarray(RNG.standard_normal(shape), jnp.float32)
        for shape in ((3, size, size, 5), (4, 4, 5, 7))
    )

    def dense(x, kernel):
        y = x.reshape(3, -1) @ gan.matrix(kernel, size)
        return y.reshape(3, size // 2, size // 2, 7)

    expected, pullback = jax.vjp(convolution, x, kernel)
    found, dense_pullback = jax.vjp(dense, x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    cotangent = jnp.asarray(RNG.standard_normal(expected.shape), jnp.float32)
    for one, other in zip(dense_pullback(cotangent), pullback(cotangent), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    transposed = (cotangent.reshape(3, -1) @ gan.matrix(kernel, size).T).reshape(x.shape)
    np.testing.assert_allclose(transposed, pullback(cotangent)[0], atol=1e-4)


def test_the_distance_is_that_of_frechet(judge, monkeypatch):
    """Of normal distributions with covariances that commute, from their formula."""
    assert judge.distance(gan.digits()[0]) == pytest.approx(0, abs=1e-3)
    assert 0 < judge.floor < judge.distance(RNG.uniform(-1, 1, (100, 8, 8, 1)))
    variances, others = RNG.uniform(1, 4, (2, 32))
    moments = iter([(np.full(32, 2.0), np.diag(others))])
    monkeypatch.setattr(judge, "_moments", lambda images: next(moments))
    monkeypatch.setattr(judge, "_mean", np.zeros(32))
    monkeypatch.setattr(judge, "_covariance", np.diag(variances))
    expected = 4 * 32 + ((variances**0.5 - others**0.5) ** 2).sum()
    assert judge.distance(None) == pytest.approx(expected)


@pytest.mark.slow
def test_it_runs_and_saves_nothing_when_quick(judge, monkeypatch, capsys):
    """And runs of one seed share their start, and dead channels are counted."""
    monkeypatch.setattr(gan, "initial", dead_channel(gan.initial))
    monkeypatch.setattr(gan, "SETTINGS", {"no norm": {"normalised": False, "rate": 0.01}})
    monkeypatch.setattr(gan, "Judge", lambda epochs: judge)
    monkeypatch.setattr(results, "save", None)
    seen = []
    monkeypatch.setattr(gan, "judged", lambda _, found: seen.append(found) or JUDGED(judge, found))
    gan.main(["--quick"])
    out = capsys.readouterr().out
    assert "leaky 0.2 in both" in out and "2 seeds, 6 steps" in out
    relu, _, leaky, both = seen
    assert relu["images"].shape == (2, 3, 64, 8, 8, 1)
    np.testing.assert_array_equal(relu["images"][:, 0], leaky["images"][:, 0])
    assert (relu["images"][:, 0] != both["images"][:, 0]).any()
    assert (relu["images"][:, 2] != leaky["images"][:, 2]).any()
    # One of two channels; it can learn nothing.
    np.testing.assert_array_equal(relu["discriminator"][..., 0], 50)
    np.testing.assert_array_equal(leaky["discriminator"][..., 0], 0)
    figures = JUDGED(judge, relu)
    assert figures["distance"].shape == (2, 3)
    pixels = gan.grid(figures["images"])
    expected = 127.5 * (relu["images"][0, -1, 7, :, :, 0] + 1)  # The second of the second row.
    assert pixels.shape == (35, 53)
    np.testing.assert_allclose(pixels[9:17, 9:17], expected, atol=0.51)
    np.testing.assert_array_equal(pixels[8], 128)


def dead_channel(initial):
    def changed(seed, problem):
        discriminator, generator, noise = initial(seed, problem)
        discriminator[0]["offset"][0] = -1000
        return discriminator, generator, noise

    return changed
