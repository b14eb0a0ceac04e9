import dataclasses
import re

import numpy as np
import pytest
from scipy import stats

from jaxact.compare.conclusions import conclude
from jaxact.compare.statistics import fewest_runs, runs_needed, summarize
from jaxact.compare.study import Cell
from tests.support.studies import cells, study

RELU, ELU, TANH, SILU = (Cell(a) for a in ("relu", "elu", "tanh", "silu"))


def exact(means, noise=0.002, **changes):
    """A study whose cells have exactly these means, and differences of this much noise."""
    made = study(means, **changes)
    random = np.random.default_rng(0)
    score = made.scores[0].name
    for cell, mean in means.items():
        scores = made.figures[cell].scores[score]
        own = random.normal(0, noise, len(scores))
        scores[:] = mean + (own - own.mean() if len(own) > 1 else 0)
        made.figures[cell].curves[f"validation_{score}"][:] = scores[:, None]
    return made


def one(sentences, start):
    """The only sentence that starts so."""
    (found,) = (s for s in sentences if s.startswith(start))
    return found


# ------------------------------------------------------------------------------------------------
# Keep or replace


def test_keep_what_nothing_beats():
    made = exact({RELU: 0.9, ELU: 0.9, TANH: 0.9}, noise=0.01, margin=0.0)
    (said,) = conclude(made)
    match = re.fullmatch(
        r"Keep relu: on this data no activation is detectably better; with 16 seeds a difference "
        r"of (\d\.\d) points would have shown \((\d\.\d) would take (\d+)\)\.",
        said,
    )
    shown, smaller, needed = float(match[1]), float(match[2]), int(match[3])
    smallest = [r.comparison.smallest_detectable for r in summarize(made).values() if r.comparison]
    assert 0 <= shown - 100 * max(smallest) < 0.1
    assert smaller == pytest.approx(shown / 2, abs=0.051)
    assert needed == runs_needed(made, smaller / 100) > 16


def test_the_margin_is_the_difference_of_interest():
    made = exact({RELU: 0.9, ELU: 0.9, TANH: 0.9}, noise=0.03, margin=0.005)
    assert "(0.5 would take " in conclude(made)[0]


def test_one_other():
    said = conclude(exact({RELU: 0.9, ELU: 0.9}, noise=0.01, margin=0.0))[0]
    assert said.startswith("Keep relu: on this data elu is not detectably better; with 16 seeds")


def test_replace():
    made = exact({RELU: 0.9, ELU: 0.912}, ms={"elu": 1.1})
    size = summarize(made)[ELU].comparison.difference.half_width * 100
    time = round(100 * (summarize(made)[ELU].relative_cost.mean - 1))
    assert conclude(made) == [
        f"On this data elu is better than relu by 1.2 ± {size:.1f} points, at {time}% more time a "
        "step."
    ]


@pytest.mark.parametrize(
    ("ms", "cost"),
    [({}, ", at an equal time a step."), ({"elu": 0.8}, "% less time a step.")],
)
def test_the_cost_of_what_is_better(ms, cost):
    assert conclude(exact({RELU: 0.9, ELU: 0.912}, ms=ms))[0].endswith(cost)


def test_no_cost_was_measured():
    made = exact({RELU: 0.9, ELU: 0.912})
    made.costs.clear()
    assert conclude(made)[0].endswith(" points.")


def test_several_are_better():
    made = exact({RELU: 0.9, ELU: 0.92, TANH: 0.921, SILU: 0.91}, ms={"elu": 0.5})
    headline, alike, fastest = conclude(made)
    assert headline.startswith("On this data tanh is better than relu by 2.1 ± 0.")
    assert alike == "elu cannot be told from tanh."
    assert re.fullmatch(
        r"The fastest of those that are not worse is elu: [45]\d% less time a step than tanh\.",
        fastest,
    )


def test_all_are_worse():
    (said,) = conclude(exact({RELU: 0.9, ELU: 0.88, TANH: 0.85}))
    assert re.fullmatch(
        r"Keep relu: on this data all others are worse, from elu by 2\.0 ± 0\.\d points to "
        r"tanh by 5\.0 ± 0\.\d points\.",
        said,
    )
    (said,) = conclude(exact({RELU: 0.9, ELU: 0.88}))
    assert re.fullmatch(r"Keep relu: on this data elu is worse by 2\.0 ± 0\.\d points\.", said)


def test_practically_equal():
    (said,) = conclude(exact({RELU: 0.9, ELU: 0.9, TANH: 0.9}))
    assert said == "Keep relu: on this data the others are practically equal (within 0.5 points)."
    (said,) = conclude(exact({RELU: 0.9, ELU: 0.9}))
    assert said == "Keep relu: on this data elu is practically equal (within 0.5 points)."


def test_the_fastest_of_equals():
    made = exact({RELU: 0.9, ELU: 0.9, TANH: 0.9, SILU: 0.8}, ms={"elu": 0.8, "silu": 0.5})
    assert re.fullmatch(
        r"The fastest of those that are not worse is elu: [12]\d% less time a step than relu\.",
        conclude(made)[-1],
    )


def test_a_mixture():
    made = exact({RELU: 0.9, ELU: 0.9, TANH: 0.85})
    headline, equal, worse = conclude(made)
    # elu may be better by less than the margin.
    assert headline.startswith(
        "Keep relu: on this data no activation is detectably better by more than 0.5 points; with"
    )
    assert equal == "elu is practically equal to it (within 0.5 points)."
    assert worse.startswith("tanh is worse by 5.0 ± 0.")


def test_a_regression_and_a_loss():
    said = conclude(exact({RELU: 0.8, ELU: 0.85}, task="regression", margin=0.0))[0]
    assert said.startswith("On this data elu is better than relu by 0.050 ± 0.00")
    made = exact({RELU: 0.3, ELU: 0.2}, task="loss", margin=0.0)
    assert conclude(made)[0].startswith("On this data elu is better than relu by 0.1000 ± 0.00")


def test_one_activation():
    (said,) = conclude(exact({RELU: 0.9}))
    assert said.startswith("Only relu was trained: accuracy 90.0% (± 0.1 points). Name a second")
    made = exact(dict(zip(cells(["relu"], "width", [8, 16]), [0.8, 0.9], strict=True)))
    made.configuration["sweeps"] = [{"name": "width", "values": [8, 16]}]
    assert ", best at width 16 by validation. Name a second" in conclude(made)[0]


def test_too_few_runs():
    headline, caution = conclude(exact({RELU: 0.9, ELU: 0.95, TANH: 0.9}, seeds=2))
    assert headline == (
        "Too few runs to choose: in 2 comparisons no difference can show with fewer than 7 seeds; "
        "here are 2."
    )
    assert re.fullmatch(r"Only 2 seeds: intervals are as wide as ± \d\.\d+ points; .*", caution)


def test_one_seed():
    headline, caution = conclude(exact({RELU: 0.9, ELU: 0.95}, seeds=1))
    assert headline.endswith(
        "in 1 comparison no difference can show with fewer than 6 seeds; here is 1."
    )
    assert caution == "1 seed gives no interval: what differs may be chance."


def test_splits_are_called_splits():
    made = exact({RELU: 0.9, ELU: 0.9}, noise=0.02, margin=0.0, splits=4, seeds=4)
    headline, caution = conclude(made)
    assert "; with 4 splits a difference of " in headline
    assert caution.startswith("Only 4 splits: ")
    assert caution.endswith("; more splits narrow them.")


# ------------------------------------------------------------------------------------------------
# Nothing learned


@pytest.mark.parametrize("mean", [0.3, 0.4])
def test_no_better_than_the_majority(mean):
    assert conclude(exact({RELU: mean, ELU: mean - 0.01}))[0] == (
        "No network detectably beats predicting the majority class (accuracy 40.0%): look at the "
        "data, the epochs and the learning rate before activations."
    )


def test_one_that_beats_the_majority_is_enough():
    assert not conclude(exact({RELU: 0.3, ELU: 0.5}))[0].startswith("No network")


def test_no_better_than_the_mean():
    made = exact({RELU: -0.1, ELU: -0.2}, task="regression")
    made.configuration["data"]["baseline"] = {"r2": 0.0}
    assert "predicting the mean (R² 0.000)" in conclude(made)[0]


def test_a_loss_has_no_baseline():
    made = exact({RELU: 0.9, ELU: 0.5}, task="loss", margin=0.0)
    made.configuration["data"]["baseline"] = {}
    assert conclude(made)[0].startswith("On this data elu is better")


def test_every_score_is_nan():
    made = exact({RELU: np.nan, ELU: np.nan}, task="regression")
    assert conclude(made)[0] == "No score is finite: every run diverged. Lower the learning rate."


def test_one_activation_is_nan():
    made = exact({RELU: 0.9, ELU: np.nan}, task="regression")
    made.figures[ELU].final_train_loss[:] = np.nan
    headline, diverged = conclude(made)
    assert headline == "Keep relu: on this data elu is worse (elu has no finite score)."
    assert diverged == "Runs diverged: elu (16 of 16)."
    made = exact({RELU: np.nan, ELU: 0.9}, task="regression")
    assert conclude(made)[0].startswith(
        "On this data elu is better than relu (relu has no finite score), at an equal time"
    )


# ------------------------------------------------------------------------------------------------
# Cautions


def test_diverged_runs():
    made = exact({RELU: 0.9, ELU: 0.9, TANH: 0.9, SILU: 0.9, Cell("gelu"): 0.9})
    made.figures[RELU].final_train_loss[:2] = [np.nan, np.inf]
    assert one(conclude(made), "Runs diverged") == "Runs diverged: relu (2 of 16)."
    for figures in made.figures.values():
        figures.final_train_loss[0] = np.nan
    assert one(conclude(made), "Runs diverged") == (
        "Runs diverged: relu (2 of 16), elu (1 of 16), tanh (1 of 16) and 2 more."
    )


@pytest.mark.parametrize(("dead", "warned"), [(20, False), (21, True)])
def test_many_dead_units(dead, warned):
    said = conclude(exact({RELU: 0.9, ELU: 0.9}, dead={RELU: (dead, dead)}))
    assert [s for s in said if "jaxact probe" in s] == [
        f"Over 20% of the units are dead: relu ({dead}%). `jaxact probe` shows which layers, "
        "`jaxact.swap` replaces their activation."
    ] * warned


def test_the_rate_that_each_took():
    made = exact({RELU: 0.9, ELU: 0.9}, tune=[1e-4, 1e-3, 1e-2])
    assert conclude(made)[1:] == [
        "Each at its own best learning rate, by validation: relu 0.001, elu 0.001."
    ]
    made.figures[ELU] = dataclasses.replace(made.figures[ELU], learning_rate=1e-2)
    assert conclude(made)[2] == (
        "The best rate of elu is at an edge of the grid (0.0001 to 0.01): a wider one may have a "
        "better."
    )


def test_an_unfinished_study():
    made = exact({RELU: 0.9, ELU: 0.9, TANH: 0.9})
    del made.figures[TANH]
    assert conclude(made)[-1] == "1 of 3 trainings not finished yet."
    del made.figures[RELU]
    assert conclude(made) == ["Nothing to compare yet: relu is not finished."]
    made.figures.clear()
    assert conclude(made) == ["Nothing to compare yet: relu is not finished."]


# ------------------------------------------------------------------------------------------------
# What the headline claims, derived from the scores again


def claim(made):
    """The headline of a study without sweeps is true of its scores."""
    headline = conclude(made)[0]
    reference, *others = made.cells
    score, margin = made.scores[0], made.configuration["margin"]
    sign = 1 if score.larger_is_better else -1
    by_run = {c: sign * made.by_split(made.figures[c].scores[score.name]) for c in made.cells}
    units = {c: v.mean(1) if len(v) > 1 else v[0] for c, v in by_run.items()}
    gains = {c: units[c] - units[reference] for c in others}
    if match := re.match(
        r"On this data (\S+) is better than relu by ([\d.]+) ± ([\d.]+) ", headline
    ):
        best = gains[Cell(match[1])]
        size, half = float(match[2]), float(match[3])
        assert best.mean() * score.factor == pytest.approx(size, abs=0.051)
        assert best.mean() == max(g.mean() for g in gains.values()) > 0
        assert size > half > 0
        assert (best > 0).mean() > 0.5
        return "replace"
    if headline.startswith("Too few runs"):
        assert len(units[reference]) < fewest_runs(made)
        return "few"
    if headline.startswith("No network"):
        baseline = sign * made.configuration["data"]["baseline"][score.name]
        # Student's interval, wider for splits; ours may differ from it by a fifth.
        width = (
            1.2
            * stats.t.ppf(0.975, len(units[reference]) - 1)
            * (1 / len(units[reference]) + (made.configuration["splits"] > 1) / 3) ** 0.5
        )
        assert all(v.mean() - width * v.std(ddof=1) <= baseline for v in units.values())
        return "nothing"
    assert headline.startswith("Keep relu: on this data ")
    # Nothing is beyond doubt better, and by more than the margin.
    for gain in gains.values():
        error = gain.std(ddof=1) / len(gain) ** 0.5
        assert gain.mean() - 6 * error <= max(margin, 0)
    if "all others are worse" in headline or "is worse" in headline:
        assert all(g.mean() < 0 for g in gains.values())
        return "worse"
    if "practically equal (within" in headline:
        assert all(abs(g.mean()) <= margin for g in gains.values())
        return "equal"
    return "keep"


def test_headlines_are_true():
    random = np.random.default_rng(0)
    claims = set()
    for _ in range(40):
        task = random.choice(["classification", "regression", "loss"])
        arms = [RELU, ELU, TANH, SILU][: random.integers(2, 5)]
        seeds, splits = [(2, 1), (8, 1), (16, 1), (2, 5)][random.integers(4)]
        spread = random.choice([0.0, 0.005, 0.05])
        made = exact(
            {c: 0.6 + random.normal(0, spread) for c in arms},
            noise=random.choice([0.001, 0.01]),
            seeds=seeds,
            splits=splits,
            task=str(task),
            margin=random.choice([0.0, 0.005]),
            epochs=1,
        )
        made.configuration["data"]["baseline"] = {made.scores[0].name: random.choice([0.4, 0.6])}
        claims.add(claim(made))
    assert claims == {"replace", "few", "nothing", "worse", "equal", "keep"}


def test_sentences_of_any_study():
    """Whatever the figures, sentences are whole, and numbers are finite."""
    random = np.random.default_rng(0)
    broken = [np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0]
    for _ in range(6):
        axis, values = [
            ("lr", [0.1, 0.01, 0.001]),
            ("width", [8, 16, 32]),
            ("depth", [1, 2]),
            ("samples", [50, 100]),
            ("dtype", ["float32", "bfloat16"]),
        ][random.integers(5)]
        grid = cells(["relu", "elu", "tanh"][: random.integers(1, 4)], axis, values)
        made = exact(
            {c: random.normal(0.8, 0.1) for c in grid},
            seeds=int(random.choice([1, 2, 7])),
            splits=int(random.choice([1, 3])),
            task=str(random.choice(["classification", "regression", "loss"])),
            margin=float(random.choice([0.0, 0.005])),
            dead={c: random.choice([0, 3, 30], 2) for c in grid},
            sweeps=[{"name": axis, "values": values}],
            tune=[0.001, 0.01] if random.integers(2) else [],
        )
        for figures in made.figures.values():
            every = random.integers(4) == 0
            for values in (*figures.scores.values(), figures.final_train_loss):
                hit = random.random(len(values)) < (1 if every else 0.1)
                values[hit] = random.choice(broken, hit.sum())
        for cell in grid[len(grid) - random.integers(len(grid)) :]:
            del made.figures[cell]
        said = conclude(made)
        assert said
        for sentence in said:
            assert sentence[-1] == "." and "  " not in sentence and ".." not in sentence
            assert not re.search(r"\b(nan|inf|None)\b", sentence), sentence
