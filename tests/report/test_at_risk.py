"""The probability that a unit dies, as a report from before training has it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

import jaxact
from benchmarks.at_risk import digits, outcome
from jaxact._core.elementwise import DECLARED
from jaxact._report import remedies, risk
from jaxact._report.site import Site
from tests.support.reports import figures, pair, place, record, replaced, report


def of_means(*means, function="relu", samples=1000, std=1.0):
    means = np.array(means, float)
    s = replaced(
        figures(samples, len(means)), mean=pair(means), second_moment=pair(means**2 + std**2)
    )
    return report(Site(place(function, units=len(means)), (), s))


@pytest.mark.parametrize("samples", [1, 20, 1000])
@pytest.mark.parametrize("mean", [-4.0, -2.0, 0.0, 1.0])
def test_the_probability_is_that_of_the_model(samples, mean):
    """Units with normal pre-activations, moved by a normal amount: the share without activity."""
    rng = np.random.default_rng(0)
    moved = mean + 1.5 * rng.normal(size=20_000)
    inactive = norm.cdf(-moved) ** samples
    ((of_site),) = of_means(mean, samples=samples).at_risk()
    # The largest of few samples varies more than its median says.
    assert abs(of_site.probability[0] - inactive.mean()) < (0.02 if samples > 1 else 0.1)
    assert of_site.gamma[0] == pytest.approx(abs(mean))


def test_it_rises_with_gamma_and_falls_with_samples_and_drift():
    (of_site,) = of_means(*np.linspace(-9, 3, 40)).at_risk()
    assert (np.diff(of_site.probability) < 0).all()
    assert of_site.probability[0] > 0.99 and of_site.probability[-1] < 1e-4
    assert of_site.expected == pytest.approx(of_site.probability.mean())
    many = of_means(-2.0, samples=10**14).at_risk()[0].probability
    few = of_means(-2.0, samples=10).at_risk()[0].probability
    assert 0 < many < 1e-3 < few
    fast = of_means(-2.0).at_risk(drift=4)[0].probability
    assert fast > of_means(-2.0).at_risk()[0].probability
    # Of the shape of the pre-activation, its scale does not matter.
    wide = of_means(-20.0, std=10).at_risk()[0].probability
    assert wide == pytest.approx(of_means(-2.0).at_risk()[0].probability, rel=1e-4)


def test_pre_activations_that_never_change():
    with np.errstate(all="raise"):
        (of_site,) = of_means(-1.0, 0.0, 1.0, std=0).at_risk()
    assert of_site.probability.tolist() == [1, 1, 0]


def test_nothing_is_known_where_pre_activations_are_not_finite():
    (of_site,) = of_means(np.nan, np.inf, -1.0).at_risk()
    assert np.isnan(of_site.probability).tolist() == [True, True, False]


def test_a_relu6_may_die_on_both_sides():
    (of_site,) = of_means(-4.0, 3.0, 10.0, function="relu6").at_risk()
    low, middle, high = of_site.probability
    assert low == pytest.approx(high) == pytest.approx(0.7, abs=0.02) and middle < 1e-3


def test_the_edge_counts():
    expected = of_means(-2.0).at_risk()[0].probability
    found = of_means(-5.0, function="hard_silu").at_risk()[0]
    assert found.probability == pytest.approx(expected) and found.gamma[0] == pytest.approx(2)


@pytest.mark.parametrize("name", sorted(remedies.RECTIFIERS - {"threshold"}))
def test_the_edges_are_those_of_the_slopes(name):
    lower, upper = risk.EDGES[name]
    slope = next(d.slope for d in DECLARED.values() if d.name == jaxact.ACTIVATIONS[name].__name__)
    inside, outside = (lower + 0.1, min(upper, 100) - 0.1), (lower - 0.1, upper + 0.1)
    for points, active in ((inside, True), (outside, False)):
        x = jnp.array([point for point in points if np.isfinite(point)], jnp.float32)
        assert ((slope(x) != 0) == active).all()


def test_only_sites_that_can_die_are_there():
    r = report(record(), record("gelu", 1), record("leaky_relu", 2), record("relu6", 3, samples=0))
    found = r.at_risk()
    assert [of_site.site.index for of_site in found] == [0, 3] and len(found) == 2
    assert np.isnan(found[1].probability).all() and found[1].expected == 0
    assert set(risk.EDGES) == remedies.RECTIFIERS - {"threshold"}
    assert str(report(record("gelu")).at_risk()) == (
        "No activation here has a slope of exactly 0 on a side: no unit can die."
    )


def test_it_prints_as_a_table():
    r = report(record(path="low"), record(index=1, path="high", mean=-4, units=3))
    lines = str(r.at_risk()).splitlines()
    assert lines[2].split() == ["1", "high", "relu", "3", "70.4", "3"]
    assert lines[3].split() == ["0", "low", "relu", "100", "1.7", "0"]
    assert lines[-1] == "Expected to die, of the units; for a drift of 1.5."
    assert repr(r.at_risk()[0]) == "SiteRisk(low (relu, #0): 1.7% expected to die)"
    many = report(*(record(index=i, units=4) for i in range(risk.MAX_ROWS + 2)))
    assert "and 2 more, with lower shares" in str(many.at_risk())


def test_what_it_refuses():
    for drift in (0, -1.5, True, "1", np.nan, np.inf):
        with pytest.raises(ValueError, match=r"Report.at_risk: drift must be a positive number"):
            of_means(0.0).at_risk(drift=drift)
    with pytest.raises(TypeError, match=r"Report.at_risk is computed on the host"):
        jax.jit(lambda r: r.at_risk())(of_means(0.0))


@pytest.mark.slow
@pytest.mark.parametrize("standardised", [False, True])
def test_it_says_which_units_of_trained_networks_die(standardised):
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        data = digits(standardised)
        usual = outcome(optax.sgd(0.03), data)
        fast = outcome(optax.adam(0.01), data)
    assert usual.auc > 0.85 and fast.auc > 0.7
    # As many as are expected, by a factor of two; and in the groups that are large enough.
    assert 0.5 < usual.dead.mean() / usual.probability.mean() < 2
    assert fast.dead.mean() > usual.dead.mean()
    shares = [died for _, died, count in usual.calibration((0, 0.02, 0.1, 0.4, 1)) if count > 5]
    assert shares == sorted(shares) and shares[0] < 0.01 and shares[-1] > 0.5
    # Before training, none of these was dead.
    alive = usual.gamma > -3
    assert usual.dead[alive & (usual.gamma < -1.5)].mean() > 3 * usual.dead[usual.gamma > 0].mean()
