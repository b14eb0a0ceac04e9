"""What a report suggests, and when."""

import copy
import dataclasses
import pickle
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxact
import jaxact.initializers
from jaxact._report import advice, remedies, statistics
from jaxact._report.site import Site
from tests.support.reports import figures, normal, of_relu, place, record, report, stacked


def test_the_functions_that_remedies_names_exist():
    named = frozenset().union(*remedies.KINDS, remedies.LINEAR_PIECE, remedies.HALF_OFF)
    others = {*remedies._INSTEAD, *remedies._INSTEAD.values(), *remedies._NOTHING_INSTEAD}
    assert named | others <= jaxact.ACTIVATIONS.keys()


@pytest.mark.parametrize("name", jaxact.ACTIVATIONS)
def test_the_code_in_the_advice_runs(name):
    """Every remedy of every function: its replacement takes as many arrays."""
    r = report(*(record(name, i, dead=100, silent=100, std=100.0) for i in (2, 5)))
    swapped = []
    fake = types.SimpleNamespace(
        initializers=jaxact.initializers,
        swap=lambda model, sites: swapped.append(sites),
        revive=lambda params, report: None,
        **{known: jaxact.ACTIVATIONS[known] for known in jaxact.ACTIVATIONS},
    )
    words = {"jaxact": fake, "model": None, "params": None, "report": r, "jax": jax}
    for suggestion in r.advice():
        for code in re.findall("`([^`]+)`", suggestion.text):
            if code.startswith("jaxact."):
                eval(code, words)
    for sites in swapped:
        assert list(sites) == [2, 5]
        gated = name in ("reglu",)
        for function in sites.values():
            x = jnp.ones((4, 4))
            assert function(*([x, x] if gated else [x])).shape == (4, 4)


def only(**kwargs):
    """The suggestions for one site, by severity."""
    function = kwargs.pop("function", "relu")
    return [(s.severity, s) for s in report(record(function, 4, "net", **kwargs)).advice()]


@pytest.mark.parametrize("function", ["relu", "hard_silu", "reglu", "hard_tanh", "soft_shrink"])
@pytest.mark.parametrize(
    ("dead", "severity"),
    [(1, None), (2, "note"), (19, "note"), (20, "consider"), (49, "consider"), (50, "act")],
)
def test_dead_units(function, dead, severity):
    found = only(function=function, dead=dead, saturated=0.1)
    assert [s for s, _ in found] == ([severity] if severity else [])
    for _, suggestion in found:
        assert suggestion.sites == (f"net ({function}, #4)",)
        assert f"net: {dead} of 100 units dead ({dead}%)" in suggestion.reason
        assert "at most 0.299% of all data" in suggestion.reason  # 1 - 0.05^(1/1000)
        assert "independent" in suggestion.reason
        assert ("In notebooks/dying.ipynb" in suggestion.reason) == (severity != "note")
        assert ("jaxact.swap(model, {4: jaxact." in suggestion.text) == (severity != "note")


def test_what_dead_relus_need():
    ((_, found),) = only(dead=50)
    assert "jaxact.swap(model, {4: jaxact.leaky_relu})" in found.text
    assert "learning rate" in found.text
    assert "jaxact.revive(params, report)" in found.text
    assert "1903.06733" in found.reference and "1502.01852" in found.reference
    ((_, gate),) = only(function="reglu", dead=50)
    assert "jaxact.swiglu" in gate.text and "revive" not in gate.text


def test_a_layer_of_dead_units_comes_first():
    r = report(
        record("relu", 0, "first", dead=99),
        record("tanh", 1, "second", dead=100, silent=100),
        record("relu", 2, "third", dead=100),
    )
    found = r.advice()
    assert [s.sites for s in found] == [
        ("second (tanh, #1)",),
        ("third (relu, #2)",),
        ("first (relu, #0)",),
    ]
    assert {s.severity for s in found} == {"act"}
    for suggestion in found[:2]:
        assert suggestion.text.startswith("This comes first.")
        assert "no gradient passes the layer" in suggestion.reason
    assert "This comes first" not in found[2].text


@pytest.mark.parametrize("function", ["leaky_relu", "prelu"])
def test_a_negative_slope_of_zero(function):
    ((severity, found),) = only(function=function, dead=20)
    assert severity == "consider"
    assert "give it another, as in leaky_relu" in found.text


@pytest.mark.parametrize(
    ("function", "figures"),
    [
        ("relu", {"dead": 60}),
        ("relu", {"dead": 100}),
        ("hard_tanh", {"dead": 20}),
        ("gelu", {"silent": 20}),
        ("tanh", {"dead": 100}),
    ],
)
def test_too_few_samples_to_call_units_dead(function, figures):
    ((severity, found),) = only(function=function, samples=58, **figures)
    assert severity == "note"
    assert "on 58 samples" in found.reason and "up to 5.03% of all data" in found.reason
    assert "59 samples give a bound of 5%, 299 one of 1%" in found.text
    assert "Change nothing yet" in found.text and "swap" not in found.text
    ((severity, found),) = only(function=function, samples=59, **figures)
    assert severity in ("act", "consider")
    # A hundredth of the units is not worth a word.
    assert only(function="relu", samples=58, dead=1) == []


def test_narrow_layers_may_be_born_dead():
    def reason(units, dead, function="relu"):
        (found,) = report(
            record(function, 0, dead=dead, units=units), record(function, 1, units=4)
        ).advice()
        return found.reason

    assert "dead from the start" not in reason(32, 16)
    assert "dead from the start" in reason(31, 16)
    probability = 1 - (1 - 2**-8) * (1 - 2**-4)
    assert f"a probability of {100 * probability:.3g}% at most" in reason(8, 4)
    assert "dead from the start" not in reason(8, 4, "hard_tanh")
    same = report(*(record(index=i, units=5, dead=1) for i in range(20))).advice()
    assert f"{100 * (1 - (1 - 2**-5) ** 20):.3g}%" in same[0].reason


@pytest.mark.parametrize(
    "function", ["sigmoid", "tanh", "soft_sign", "softplus", "hard_tanh", "hard_sigmoid"]
)
def test_saturation(function):
    assert only(function=function, saturated=0.5) == []
    ((severity, found),) = only(function=function, saturated=0.501)
    assert severity == "consider"
    assert "50.1% of the samples saturated" in found.reason and "more than 50%" in found.reason
    assert "In a gate, which is to be open or shut, this is fine." in found.reason
    assert "ormalise the pre-activations" in found.text and "smaller weights" in found.text
    assert "Glorot" in found.reference
    assert only(function="relu", saturated=0.9) == only(function="gelu", saturated=0.9) == []


def test_a_saturated_log_sigmoid_is_that_of_a_loss_which_is_small():
    assert list(report(record("sigmoid", saturated=1.0)).advice())
    assert not list(report(record("log_sigmoid", saturated=1.0)).advice())


def test_saturated_gates_are_fine():
    ((severity, found),) = only(function="glu", saturated=0.9, dead=100)
    assert severity == "note"
    assert "Nothing to change" in found.text and "this is fine" in found.reason
    assert only(function="glu", saturated=0.5) == []


@pytest.mark.parametrize("function", ["gelu", "silu", "elu", "swiglu", "tanh_shrink"])
@pytest.mark.parametrize("how", [{"dead": 1}, {"silent": 1}])
def test_smooth_rectifiers_that_are_as_good_as_dead(function, how):
    ((key, _),) = how.items()
    assert only(function=function, saturated=0.1, **{key: 19}) == []
    ((severity, found),) = only(function=function, saturated=0.1, **{key: 20})
    assert severity == "consider"
    assert "20 of 100 units as good as dead (20%)" in found.reason
    assert "learning rate" in found.text
    instead = function not in ("swiglu", "tanh_shrink")
    assert ("jaxact.swap(model, {4: jaxact.leaky_relu})" in found.text) == instead


@pytest.mark.parametrize("function", ["relu", "relu6", "reglu", "threshold"])
def test_units_that_are_always_on(function):
    assert only(function=function, always=50) == []
    ((severity, found),) = only(function=function, always=51)
    assert severity == "note"
    linear = "bilinear" if function == "reglu" else "linear"
    assert found.text.startswith(f"The layer is close to {linear}:")
    assert "51 of 100 units always active (51%)" in found.reason
    assert only(function=function, always=51, samples=58) == []


def test_always_on_says_nothing_of_other_functions():
    for function in ("relu_squared", "leaky_relu", "gelu", "identity", "hard_silu"):
        assert only(function=function, always=100) == []


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ({"std": 30.0}, {"std": 30.1}),
        ({"std": 0.0101}, {"std": 0.0099}),
        ({"mean": 30.0}, {"mean": 30.1}),
        ({"mean": -30.0}, {"mean": -30.1}),
    ],
)
def test_pre_activations_of_odd_size(inside, outside):
    assert only(function="silu", **inside) == []
    ((severity, found),) = only(function="silu", **outside)
    assert severity == "consider"
    assert "Normalise" in found.text
    assert 'jaxact.initializers.he_normal(activation="silu")' in found.text
    assert f"{next(iter(outside.values())):.3g}" in found.reason
    assert "above 30" in found.reason and "below 0.01" in found.reason


def test_one_value_has_no_spread():
    assert only(samples=1, units=1, std=0.0, always=1) == []
    assert [s for s, _ in only(samples=2, units=1, std=0.0, always=1)] == ["consider"]


@pytest.mark.parametrize("broken", [{"mean": np.nan}, {"mean": np.inf}, {"std": np.inf}])
def test_pre_activations_that_are_not_finite(broken):
    ((severity, found),) = only(dead=100, **broken)
    assert severity == "act"
    assert "not finite" in found.reason and "jax_debug_nans" in found.text
    assert "Dead" not in found.reason


def test_one_unit_that_is_not_finite():
    x = normal(50, 4)
    x[7, 3] = np.inf
    (found,) = of_relu(jnp.asarray(x)).advice()
    assert "not finite" in found.reason


def test_sites_of_a_function_share_a_suggestion():
    r = report(
        record("relu", 0, "a", dead=20),
        record("gelu", 1, "b"),
        record("relu", 5, "c", dead=30, samples=100),
        record("relu6", 7, "d", dead=30),
    )
    first, second = r.advice()
    assert first.sites == ("a (relu, #0)", "c (relu, #5)")
    assert "jaxact.swap(model, dict.fromkeys([0, 5], jaxact.leaky_relu))" in first.text
    assert "a: 20 of 100 units dead (20%); c: 30 of 100 units dead (30%)." in first.reason
    assert "at most 2.95% of all data" in first.reason  # That of the fewer samples.
    assert second.sites == ("d (relu6, #7)",)
    assert str(r.advice()).endswith("pre-activations of a usual size.")
    assert "Nothing to change elsewhere: 1 site, 100 units" in r.advice().summary


def test_steps_of_a_scan_are_swapped_together():
    s = stacked(figures(dead=20), figures(), figures(dead=30))
    (found,) = report(Site(place(index=3, path="blocks", loops=((0, 3),)), (), s)).advice()
    assert found.sites == ("blocks[0] (relu, #3)", "blocks[2] (relu, #3)")
    assert "{3: jaxact.leaky_relu}" in found.text
    assert found.text.endswith("All steps of a scan change with one.")


def test_many_sites_are_named_in_part():
    r = report(*(record(index=i, dead=20) for i in range(20)))
    (found,) = r.advice()
    assert len(found.sites) == 20
    assert found.reason.count("units dead") == 8 and "; and 12 more." in found.reason
    assert "and 12 more" in str(found)


def test_nothing_to_change():
    found = report(
        record("relu", 0), record("leaky_relu", 1, samples=500), record("gelu", 2)
    ).advice()
    assert found == () and isinstance(found, tuple)
    text = " ".join(str(found).split())
    assert text == (
        "Nothing to change: 3 sites, 300 units, at least 500 samples each; no dead units; "
        "pre-activations of a usual size. Without dead units there is no need of a leaky slope "
        "(relu). A slope on both sides keeps units alive (leaky_relu)."
    )
    few = str(report(record(dead=1, units=200)).advice())
    assert few.startswith("Nothing to change: 1 site, 200 units")
    assert "1 unit of slope 0 on every sample" in few and "leaky" not in few


@pytest.mark.parametrize("name", jaxact.ACTIVATIONS)
def test_a_healthy_function_needs_nothing(name):
    assert only(function=name, saturated=0.3) == []


@pytest.mark.parametrize("name", jaxact.ACTIVATIONS)
def test_no_samples_no_advice(name):
    found = report(record(name, samples=0), record(name, 1, samples=0)).advice()
    assert found == ()
    assert str(found) == "No advice: 2 sites, and no samples."
    empty = statistics.empty(100, jnp.float32)
    assert report(Site(place(name), (), empty)).advice() == ()


def test_sites_without_samples_are_counted():
    assert str(report().advice()) == "No advice: the report has no sites."
    one = report(record("gelu"), record("gelu", 1, samples=0)).advice()
    assert one == () and str(one).endswith("1 site without samples.")
    two = report(record("relu", dead=60), record("relu", 1, samples=0)).advice()
    assert len(two) == 1 and two.summary == "1 site without samples."
    assert report(record("relu", dead=60)).advice().summary == ""


def test_advice_prints_as_text():
    found = report(record("relu", dead=60, path="encoder/relu"), record("gelu", 1)).advice()
    lines = str(found).splitlines()
    assert lines[0] == "act: encoder/relu (relu, #0)"
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("  Why: encoder/relu: 60 of 100") for line in lines)
    assert any(line.startswith("  See: Lu et al. 2019") for line in lines)
    assert "jaxact.swap(model, {0: jaxact.leaky_relu})" in " ".join(str(found).split())
    for copied in (copy.copy(found), pickle.loads(pickle.dumps(found))):
        assert copied == found and copied.summary == found.summary


def test_reference_of_every_rule():
    for rule in advice._RULES:
        assert re.search(r"\d{4}|https://", rule.reference)
    assert [advice.DEAD_ACT, advice.DEAD_CONSIDER, advice.DEAD_NOTE] == [0.5, 0.2, 0.01]


def wired(*wirings, path=""):
    """Records of dead ReLU layers with these answers to what revive asks."""
    records = [record("relu", i, path, dead=60) for i in range(len(wirings))]
    return [
        dataclasses.replace(r, place=dataclasses.replace(r.place, wiring=wirings)) for r in records
    ]


@pytest.mark.parametrize(
    ("wirings", "sentence"),
    [
        ((object(), object()), "`jaxact.revive(params, report)` gives dead units new weights."),
        (
            (object(), "it is read twice", "it is read twice"),
            "gives dead units new weights, but not those of #1, #2: it is read twice.",
        ),
        (
            ("it is read twice", "it is no parameter"),
            "`jaxact.revive` cannot give dead units new weights here: #0: it is read twice; #1: it "
            "is no parameter.",
        ),
    ],
)
def test_what_revive_can_do_is_said(wirings, sentence):
    (suggestion,) = report(*wired(*wirings)).advice()
    assert suggestion.text.endswith(sentence)


def test_sites_of_one_path_have_their_numbers():
    (suggestion,) = report(*wired(object(), object(), path="net")).advice()
    assert suggestion.reason.startswith("net #0: 60 of 100 units dead (60%); net #1: 60 of 100")
    (suggestion,) = report(*wired(object(), object())).advice()
    assert suggestion.reason.startswith("layer0: 60 of 100 units dead (60%); layer1: 60 of 100")
