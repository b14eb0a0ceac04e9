import re

import numpy as np
import pytest

from jaxact.compare.conclusions import conclude
from jaxact.compare.statistics import best_value, difference_interval, summarize
from jaxact.compare.study import Cell
from jaxact.compare.sweep_conclusions import best_setting, point, validation_score
from tests.support.studies import cells, study

SLOPES = (0.0, 0.01, 0.1, 0.2, 0.3)


def swept(name, means, dead=None, noise=0.002, **changes):
    """A study of one sweep of settings.

    Args:
      means: by activation, a mean for each value: ``{"relu": {0.1: 0.9}}``.
      dead: likewise, percentages of dead units.
    """
    values = next(iter(means.values()))
    grid = cells(list(means), name, list(values))
    return exact(
        {c: means[c.activation][c.point[0][1]] for c in grid},
        noise,
        dead={c: (d := (dead or {}).get(c.activation, {}).get(c.point[0][1], 0), d) for c in grid},
        sweeps=[{"name": name, "values": list(values)}],
        **changes,
    )


def sloped(means, relu=None, **changes):
    """A study of leaky_relu's slopes, with or without relu as the reference."""
    line = {Cell("leaky_relu", (("negative_slope", v),)): m for v, m in means.items()}
    first = {} if relu is None else {Cell("relu"): relu}
    sweep = {"name": "negative_slope", "values": list(means)}
    return exact({**first, **line}, sweeps=[sweep], **changes)


def exact(means, noise=0.002, **changes):
    """A study whose cells have exactly these means, on the validation samples too."""
    made = study(means, **changes)
    random = np.random.default_rng(0)
    score = made.scores[0].name
    for cell, mean in means.items():
        own = random.normal(0, noise, len(made.figures[cell].best_epoch))
        made.figures[cell].scores[score][:] = mean + own - own.mean()
        made.figures[cell].curves[f"validation_{score}"][:] = mean
    return made


def said(made, pattern):
    """The sentences that a pattern finds."""
    return [s for s in conclude(made) if re.search(pattern, s)]


# ------------------------------------------------------------------------------------------------
# Where the other axes are read


def test_the_best_setting_is_by_validation():
    made = swept("lr", {"relu": {0.1: 0.9, 0.01: 0.8}, "elu": {0.1: 0.7, 0.01: 0.95}})
    assert best_setting(made, summarize(made)) == (("lr", 0.1),)
    relu = made.cells[2]
    made.figures[relu].curves["validation_accuracy"][:] = 0.99
    assert best_setting(made, summarize(made)) == (("lr", 0.01),)
    assert conclude(made)[0].startswith("At lr 0.01 (relu's best by validation) elu is better")


def test_the_validation_score_is_that_of_the_best_epoch():
    made = swept("lr", {"relu": {0.1: 0.9}}, seeds=2)
    figures = made.figures[made.cells[0]]
    figures.curves["validation_accuracy"][:] = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    figures.best_epoch[:] = [1, 3]
    assert validation_score(made, made.cells[0]) == pytest.approx(0.35)
    figures.curves["validation_accuracy"][1] = np.nan
    assert validation_score(made, made.cells[0]) == -np.inf


def test_a_smaller_validation_loss_is_better():
    made = swept("lr", {"relu": {0.1: 0.9, 0.01: 0.8}}, task="loss")
    assert best_setting(made, summarize(made)) == (("lr", 0.01),)


def test_point():
    assert point((("lr", 0.01), ("width", 64))) == "lr 0.01 and width 64"


# ------------------------------------------------------------------------------------------------
# Parameters of activations


def test_the_best_slope():
    made = sloped({0.0: 0.85, 0.01: 0.86, 0.1: 0.9, 0.2: 0.8995, 0.3: 0.87}, relu=0.85)
    headline, slope = conclude(made)
    assert headline.startswith("On this data leaky_relu:0.1 is better than relu by 5.0 ± 0.")
    assert slope == (
        "leaky_relu's best negative_slope is 0.1 (95% interval 0.1 to 0.2); 0.2 cannot be told "
        "from it."
    )


@pytest.mark.parametrize(
    ("means", "rest"),
    [
        ((0.8, 0.8, 0.9, 0.8, 0.8), "; every other one is detectably worse."),
        ((0.9, 0.9, 0.9001, 0.9, 0.9), "; none from 0 to 0.3 can be told from it."),
        ((0.8, 0.8999, 0.9, 0.8999, 0.8), "; 0.01 to 0.2 cannot be told from it."),
        # Not a range: one between is worse.
        ((0.8999, 0.8, 0.9, 0.8, 0.8999), "; 0 and 0.3 cannot be told from it."),
        ((0.8, 0.8, 0.9, 0.8, 0.8999), "; 0.3 cannot be told from it."),
    ],
)
def test_what_cannot_be_told_from_the_best_slope(means, rest):
    made = sloped(dict(zip(SLOPES, means, strict=True)))
    (found,) = conclude(made)
    assert found.startswith("leaky_relu's best negative_slope is 0.1 (95% interval ")
    assert found.endswith(rest)


def test_the_interval_of_the_best_slope():
    made = sloped(dict.fromkeys(SLOPES, 0.9))
    best, low, high = best_value(made, made.cells, SLOPES)
    assert low < high
    assert said(made, f"best negative_slope is {best:g} .95% interval {low:g} to {high:g}.;")


def test_few_runs_tell_no_slope_from_another():
    made = sloped({0.0: 0.8, 0.1: 0.9}, seeds=2)
    assert "none from 0 to 0.1 can be told from it." in conclude(made)[0]


def test_slopes_at_the_best_rate():
    """Two axes: the slope is read at the setting that is best for the first activation."""
    grid = {
        Cell("leaky_relu", (("lr", r), ("negative_slope", s))): m
        for (r, s), m in {
            (0.1, 0.0): 0.7,
            (0.1, 0.2): 0.6,
            (0.01, 0.0): 0.8,
            (0.01, 0.2): 0.9,
        }.items()
    }
    sweeps = [{"name": "lr", "values": [0.1, 0.01]}, {"name": "negative_slope", "values": [0, 0.2]}]
    made = exact(
        {Cell("relu", (("lr", 0.1),)): 0.5, Cell("relu", (("lr", 0.01),)): 0.6, **grid},
        sweeps=sweeps,
    )
    made.cells = tuple(
        sorted(made.cells, key=lambda c: (-dict(c.point)["lr"], c.activation != "relu"))
    )
    headline, slope, elsewhere, *_ = conclude(made)
    assert headline.startswith("At lr 0.01 (relu's best by validation) leaky_relu:0.2 is better")
    assert "best negative_slope is 0.2 (95% interval 0.2 to 0.2); every other" in slope
    # Along the rates the slope stays the best one.
    assert elsewhere.startswith("At lr 0.1, better than relu: leaky_relu:0.2 by 10.0 ± 0.")
    assert "leaky_relu:0 " not in elsewhere


# ------------------------------------------------------------------------------------------------
# Learning rates

RATES = (1e-3, 1e-2, 3e-2, 1e-1)


def rates(**dead):
    means = {
        "relu": dict(zip(RATES, (0.90, 0.97, 0.80, 0.40), strict=True)),
        "elu": dict(zip(RATES, (0.90, 0.97, 0.96, 0.90), strict=True)),
        "leaky_relu": dict(zip(RATES, (0.90, 0.97, 0.95, 0.95), strict=True)),
    }
    shares = {arm: dict(zip(RATES, values, strict=True)) for arm, values in dead.items()}
    return swept("lr", means, shares)


def test_the_rate_from_which_units_die():
    made = rates(relu=(0, 4.9, 41, 80), elu=(0, 0, 0.3, 12))
    assert conclude(made)[0].startswith(
        "Keep relu: at lr 0.01 (relu's best by validation) the others"
    )
    assert said(made, "are dead, of") == [
        "At lr 0.03 41% of relu's units are dead, of elu's 0.3%, of leaky_relu's none."
    ]
    assert said(made, "there:") == ["Accuracy there: relu 80.0%, elu 96.0%, leaky_relu 95.0%."]
    assert said(made, "die first") == [
        "5% or more of the units die first at lr 0.03 (relu), 0.1 (elu); at none with leaky_relu."
    ]


def test_units_that_do_not_die():
    assert said(rates(), "die") == ["At no lr do 5% of the units die."]


def test_units_that_may_not_die():
    """The mean is above 5%, and its interval includes 0: three of 16 networks died."""
    made = rates()
    dead = made.figures[made.cells[0]].dead_units_percent
    assert len(dead) == 16
    dead[0] = 100
    assert said(made, "die") == ["At no lr do 5% of the units die."]
    dead[:8] = 20
    assert said(made, "die first")


def test_dead_units_have_an_interval():
    made = rates(relu=(0, 0, 41, 80))
    made.figures[made.cells[6]].dead_units_percent[:] += np.tile([5, -5], 8)
    assert said(made, r"At lr 0\.03 41 ± [23]% of relu's units are dead")


def test_every_run_diverged_at_the_largest_rate():
    made = rates(relu=(0, 0, 41, 0))
    elu = next(c for c in made.cells if c.label == "elu, lr=0.03")
    made.figures[elu].final_train_loss[:] = np.nan
    assert said(made, "are dead, of") == [
        "At lr 0.03 41% of relu's units are dead, of elu's unknown (every run diverged), of "
        "leaky_relu's none."
    ]
    assert said(made, "diverged: ") == ["Runs diverged: elu, lr=0.03 (16 of 16)."]


def test_what_is_better_at_other_rates():
    found = said(rates(), "^At lr .*than relu")
    assert len(found) == 2
    assert re.fullmatch(
        r"At lr 0\.03, better than relu: elu by 16\.0 ± 0\.\d points, leaky_relu by 15\.0 ± 0\.\d "
        r"points\.",
        found[0],
    )
    assert found[1].startswith("At lr 0.1, better than relu: leaky_relu by 55.0 ± 0.")


def test_better_and_worse_at_one_rate():
    made = swept(
        "lr",
        {
            "relu": {0.1: 0.9, 0.3: 0.8},
            **{
                a: {0.1: 0.9, 0.3: 0.8 + 0.01 * i}
                for i, a in enumerate(("elu", "gelu", "silu", "tanh"), 1)
            },
            "mish": {0.1: 0.9, 0.3: 0.7},
        },
    )
    assert re.fullmatch(
        r"At lr 0\.3, better than relu: tanh by 4\.0 ± \S+ points, silu by 3\.0 ± \S+ points, gelu "
        r"by 2\.0 ± \S+ points, 1 more; worse than relu: mish by 10\.0 ± \S+ points\.",
        said(made, "better than relu")[0],
    )


def test_nothing_differs_at_other_rates():
    means = dict.fromkeys((0.1, 0.01, 0.001), 0.9)
    assert said(swept("lr", {"relu": means, "elu": means}), "every other") == [
        "At every other lr elu is practically equal to relu, or cannot be told from it."
    ]
    means.pop(0.01)
    assert said(swept("lr", {"relu": means, "elu": means, "tanh": means}), "cannot be told") == [
        "At lr 0.001 the others are practically equal to relu, or cannot be told from it."
    ]
    # Too few runs know nothing.
    assert not said(swept("lr", {"relu": means, "elu": means}, seeds=2, noise=0.02), "practically")


def test_good_rates():
    """The baseline is 40%, so 95% of the best gain is 94.15%."""
    assert said(rates(), "best gain") == [
        "Rates with at least 95% of the best gain over the baseline: relu 0.01, elu 0.01 and 0.03, "
        "leaky_relu 0.01, 0.03 and 0.1; most: leaky_relu."
    ]
    made = rates()
    made.configuration["data"]["baseline"] = {}
    assert not said(made, "best gain")


def test_the_best_rate_at_the_edge():
    means = {0.1: 0.9, 0.01: 0.8, 0.001: 0.7}
    assert said(swept("lr", {"relu": means}), "of the sweep") == [
        "relu's best lr by validation, 0.1, is the largest of the sweep: a wider one may have a "
        "better."
    ]
    means = {0.1: 0.7, 0.01: 0.9, 0.001: 0.8}
    assert not said(swept("lr", {"relu": means}), "of the sweep")


# ------------------------------------------------------------------------------------------------
# Sizes

WIDTHS = (8, 16, 32, 64, 128)


def widths(leaky, name="width", **changes):
    relu = (0.70, 0.80, 0.85, 0.90, 0.90)
    means = {
        arm: dict(zip(WIDTHS, values, strict=True))
        for arm, values in {"relu": relu, "leaky_relu": leaky}.items()
    }
    return swept(name, means, **changes)


@pytest.mark.parametrize(
    ("name", "noun"), [("width", "unit"), ("depth", "layer"), ("samples", "sample")]
)
def test_fewer_units_do(name, noun):
    made = widths((0.75, 0.85, 0.90, 0.90, 0.90), name)
    (found,) = said(made, "does as well as relu with")
    difference = difference_interval(
        made, Cell("leaky_relu", ((name, 32),)), Cell("relu", ((name, 128),))
    )
    assert -0.005 < difference.low <= difference.mean == pytest.approx(0, abs=1e-9)
    assert re.fullmatch(
        rf"leaky_relu with 32 {noun}s does as well as relu with 128 \([+-]0\.0\d? ± 0\.\d+ points\)"
        rf"; relu with 32 does not\.",
        found,
    )
    assert said(made, "does as well as with") == [f"relu with 64 {noun}s does as well as with 128."]


def test_fewer_units_do_at_small_widths_only():
    made = widths((0.80, 0.80, 0.85, 0.895, 0.90))
    assert said(made, "leaky_relu with 8 units does as well as relu with 16 ")


def test_no_fewer_units():
    assert said(widths((0.70, 0.80, 0.85, 0.90, 0.90)), "saves") == [
        "leaky_relu saves no units over relu."
    ]


def test_every_unit_is_needed():
    means = {8: 0.7, 16: 0.8, 32: 0.9}
    made = swept("width", {"relu": means, "elu": means})
    assert said(made, "relu with fewer units does not do as well as with 32.")


def test_without_a_margin_not_detectably_worse_is_enough():
    made = widths((0.75, 0.85, 0.8999, 0.90, 0.90), margin=0.0)
    assert said(made, "leaky_relu with 32 units does as well as relu with 128")


def test_a_smaller_loss_with_fewer_units():
    loss = {8: 0.5, 16: 0.4, 32: 0.3}
    made = swept("width", {"relu": loss, "elu": {8: 0.4, 16: 0.35, 32: 0.3}}, task="loss")
    made.configuration["data"]["baseline"] = {}
    assert said(made, r"elu with 8 units does as well as relu with 16 \([+-]0\.0000 ± ")


def test_a_width_that_diverges_does_not_do_as_well():
    made = widths((0.75, 0.85, 0.90, 0.90, 0.90), task="regression")
    assert said(made, "leaky_relu with 32 units")
    made.figures[Cell("leaky_relu", (("width", 32),))].scores["r2"][0] = np.nan
    assert not said(made, "leaky_relu with 32 units")


def test_one_seed_says_nothing_of_widths():
    made = widths((0.75, 0.85, 0.90, 0.90, 0.90), seeds=1)
    assert not said(made, "units does|saves|fewer units")


def test_dead_units_against_depth():
    means = dict.fromkeys((2, 4, 8), 0.9)
    made = swept("depth", {"relu": means, "elu": means}, {"relu": {2: 1, 4: 16, 8: 64}})
    assert said(made, "by depth") == ["relu's dead units by depth: 2: 1%, 4: 16%, 8: 64%."]
    assert said(made, "are dead, of") == ["At depth 4 16% of relu's units are dead, of elu's none."]
    assert not said(swept("depth", {"relu": means, "elu": means}), "by depth")


# ------------------------------------------------------------------------------------------------
# The rest


def test_dtypes():
    made = swept(
        "dtype",
        {"relu": {"float32": 0.9, "bfloat16": 0.88}, "elu": {"float32": 0.9, "bfloat16": 0.9001}},
    )
    (found,) = said(made, "instead of")
    assert re.fullmatch(
        r"With bfloat16 instead of float32: relu -2\.0 ± 0\.\d points, detectable; elu \+0\.01 ± "
        r"0\.\d+ points\.",
        found,
    )


def test_two_sweeps_are_read_at_the_best_of_the_other():
    grid = [
        Cell(a, (("lr", r), ("width", w)))
        for r in (0.1, 0.01)
        for w in (8, 16)
        for a in ("relu", "elu")
    ]
    means = {
        c: 0.9 - 0.1 * (dict(c.point)["width"] == 8) - 0.2 * (dict(c.point)["lr"] == 0.1)
        for c in grid
    }
    dead = {c: (30.0, 30.0) for c in grid if c.activation == "relu" and dict(c.point)["lr"] == 0.1}
    sweeps = [{"name": "lr", "values": [0.1, 0.01]}, {"name": "width", "values": [8, 16]}]
    made = exact(means, dead=dead, sweeps=sweeps)
    assert conclude(made)[0].startswith("Keep relu: at lr 0.01 and width 16 (relu's best")
    # At lr 0.01: 90% with 16 units, and not the 70% of lr 0.1.
    assert said(made, "there:") == ["Accuracy there: relu 70.0%, elu 70.0%."]
    assert said(made, "fewer units does not") == [
        "relu with fewer units does not do as well as with 16."
    ]


def test_an_unfinished_sweep():
    made = rates(relu=(0, 0, 41, 80))
    everything = dict(made.figures)
    for finished in range(len(made.cells)):
        made.figures = {c: everything[c] for c in made.cells[:finished]}
        assert conclude(made)[-1] == (
            f"{len(made.cells) - finished} of 12 trainings not finished yet."
            if finished
            else "Nothing to compare yet: relu is not finished."
        )


def test_every_run_of_a_sweep_is_nan():
    made = swept(
        "lr",
        {"relu": {0.1: np.nan, 1.0: np.nan}, "elu": {0.1: np.nan, 1.0: np.nan}},
        task="regression",
    )
    for figures in made.figures.values():
        figures.final_train_loss[:] = np.nan
    assert conclude(made) == [
        "No score is finite: every run diverged. Lower the learning rate.",
        "Runs diverged: relu, lr=0.1 (16 of 16), elu, lr=0.1 (16 of 16), relu, lr=1 (16 of 16) and "
        "1 more.",
    ]
