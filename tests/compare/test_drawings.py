import dataclasses
import io

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from jaxact.compare import drawings
from jaxact.compare.statistics import summarize
from jaxact.compare.study import Cell
from jaxact.compare.svg import ARMS, LIGHT
from tests.support import studies

RELU, ELU, GELU, PRELU = Cell("relu"), Cell("elu"), Cell("gelu"), Cell("prelu")
MEANS = {RELU: 0.95, ELU: 0.90, GELU: 0.97}
RATES = [1e-4, 1e-2, 1e-1]


def over(name, values, arms=("relu", "elu"), **changes):
    cells = studies.cells(arms, name, values)
    means = {c: 0.9 + 0.01 * i for i, c in enumerate(cells)}
    return studies.study(means, sweeps=[{"name": name, "values": values}], **changes)


def all_drawings(study):
    """Every drawing that a study has."""
    found = [drawings.differences(study), drawings.dead_by_layer(study), drawings.slopes(study)]
    found += [drawings.cost(study), drawings.curves([study])]
    for sweep in study.sweeps:
        found += [
            drawings.against(study, sweep.name, at) for at in drawings.slices(study, sweep.name)
        ]
    return [figure for figure in found if figure is not None]


def draw(figure):
    """What can warn of the figures, without the layout, which takes most of the time."""
    figure.set_layout_engine("none")
    figure.draw_without_rendering()


def dots(axes, colour=None):
    """Where an axes has single markers: the means."""
    lines = [line for line in axes.lines if len(line.get_xdata()) == 1]
    return [
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in lines
        if colour is None or line.get_color() == colour
    ]


def test_differences():
    study = studies.study(MEANS)
    (axes,) = drawings.differences(study).axes
    rows = summarize(study)
    expected = [(100 * rows[c].comparison.difference.mean, y) for y, c in enumerate((ELU, GELU))]
    np.testing.assert_allclose(dots(axes), expected)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["elu", "gelu"]
    (ends,) = [line for line in axes.lines if list(line.get_ydata()) == [0, 0]]
    comparison = rows[ELU].comparison.difference
    np.testing.assert_allclose(ends.get_xdata(), [100 * comparison.low, 100 * comparison.high])
    assert ends.get_color() == LIGHT["worse"]
    assert dots(axes, LIGHT["better"]) == [pytest.approx(expected[1])]
    # The first is on top, 0 has a line, and the margin is shaded.
    assert axes.yaxis_inverted()
    assert any(list(line.get_xdata()) == [0, 0] for line in axes.lines)
    (margin,) = axes.patches
    np.testing.assert_allclose([margin.get_x(), margin.get_width()], [-0.5, 1.0])
    assert axes.get_xlabel() == "difference to relu, points"


def test_nothing_to_compare():
    alone = studies.study({RELU: 0.9})
    assert drawings.differences(alone) is None
    assert drawings.slopes(alone) is None
    assert drawings.dead_by_layer(alone) is None
    alone.costs.clear()
    assert drawings.cost(alone) is None
    assert drawings.differences(over("lr", RATES)) is None


def test_against_a_setting():
    study = over("lr", RATES, dead={Cell("relu", (("lr", 0.1),)): (20.0, 60.0)})
    score, dead = drawings.against(study, "lr").axes
    assert score.get_xscale() == "log"
    assert score.get_ylabel() == "accuracy %"
    assert dead.get_xlabel() == "learning rate"
    assert [t.get_text() for t in dead.get_xticklabels()] == ["0.0001", "0.01", "0.1"]
    for i, arm in enumerate(("relu", "elu")):
        xs, ys = zip(*dots(score, ARMS[i])[:3], strict=True)
        # Beside each other, near their rate.
        np.testing.assert_allclose(xs, RATES, rtol=0.5)
        expected = [
            100 * study.figures[Cell(arm, (("lr", rate),))].scores["accuracy"].mean()
            for rate in RATES
        ]
        np.testing.assert_allclose(ys, expected)
    np.testing.assert_allclose([y for _, y in dots(dead, ARMS[0])][:3], [0, 0, 40])
    low, high = dead.get_ylim()
    assert low < 0 < 40 < high


def test_intervals_of_activations_do_not_hide_each_other():
    score = drawings.against(over("width", [8, 16, 24]), "width").axes[0]
    assert score.get_xscale() == "linear"
    assert len({x for i in range(2) for x, _ in dots(score, ARMS[i])}) == 6


def test_against_a_parameter_has_the_others_as_lines_across():
    slopes = [Cell("leaky_relu", (("negative_slope", v),)) for v in (0.0, 0.1, 0.2)]
    sweep = {"name": "negative_slope", "values": [0.0, 0.1, 0.2]}
    study = studies.study(dict.fromkeys([RELU, *slopes], 0.9), sweeps=[sweep])
    figure = drawings.against(study, "negative_slope")
    score = figure.axes[0]
    assert score.get_xscale() == "linear"
    (across,) = [line for line in score.lines if line.get_label() == "relu"]
    mean = 100 * study.figures[RELU].scores["accuracy"].mean()
    np.testing.assert_allclose(across.get_ydata(), [mean, mean])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["relu", "leaky_relu"]


def test_against_a_dtype():
    axes = drawings.against(over("dtype", ["float32", "bfloat16"]), "dtype").axes[-1]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["float32", "bfloat16"]
    assert sorted({round(x) for x, _ in dots(axes, ARMS[0])}) == [0, 1]


def test_other_settings_are_drawn_apart():
    points = [(("lr", r), ("width", w)) for r in (0.1, 0.2) for w in (8, 16, 32, 64, 128)]
    sweeps = [
        {"name": "lr", "values": [0.1, 0.2]},
        {"name": "width", "values": [8, 16, 32, 64, 128]},
    ]
    study = studies.study({Cell("relu", p): 0.9 for p in points}, sweeps=sweeps)
    assert drawings.slices(study, "lr") == [(("width", 8),), (("width", 32),), (("width", 128),)]
    assert drawings.slices(study, "width") == [(("lr", 0.1),), (("lr", 0.2),)]
    axes = drawings.against(study, "lr", (("width", 32),)).axes[0]
    assert axes.get_title() == "units in a hidden layer 32"
    assert len(dots(axes, ARMS[0])) == 2
    assert drawings.against(study, "lr", (("width", 7),)) is None


def test_networks_that_diverged_have_hollow_markers():
    study = over("lr", RATES)
    cell = Cell("elu", (("lr", 0.1),))
    loss = study.figures[cell].final_train_loss.copy()
    loss[0] = np.nan
    study.figures[cell] = dataclasses.replace(study.figures[cell], final_train_loss=loss)
    score = drawings.against(study, "lr").axes[0]
    hollow = [line for line in score.lines if line.get_markerfacecolor() == LIGHT["ground"]]
    assert len(hollow) == 1
    assert hollow[0].get_xdata()[0] == pytest.approx(0.1, rel=0.5)


def test_dead_units_by_layer():
    study = studies.study(MEANS, dead={RELU: (10.0, 20.0), GELU: (0.0, 5.0)}, epochs=5)
    figure = drawings.dead_by_layer(study)
    # elu has none.
    assert [axes.get_title() for axes in figure.axes] == ["relu", "gelu"]
    first, second = figure.axes[0].lines
    np.testing.assert_allclose(first.get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_allclose(first.get_ydata(), [2, 4, 6, 8, 10])
    np.testing.assert_allclose(second.get_ydata(), [4, 8, 12, 16, 20])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["layer 1", "layer 2"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_a_network_that_diverged_has_no_dead_units():
    study = studies.study({RELU: 0.9}, dead={RELU: (10.0, 20.0)}, epochs=2)
    study.figures[RELU].dead_by_layer[0] = np.nan
    first, second = drawings.dead_by_layer(study).axes[0].lines
    np.testing.assert_allclose(first.get_ydata(), [5, 10])
    np.testing.assert_allclose(second.get_ydata(), [10, 20])


def test_dead_units_of_a_sweep_are_the_most():
    dead = {Cell("relu", (("lr", r),)): (d, d) for r, d in zip(RATES, (1, 50, 20), strict=True)}
    (axes,) = drawings.dead_by_layer(over("lr", RATES, dead=dead)).axes
    assert axes.get_title() == "relu, lr=0.01"


def test_slopes():
    study = studies.study({RELU: 0.9, PRELU: 0.9})
    slopes = np.random.default_rng(0).normal([0.2, 0.4], 0.01, (16, 2))
    study.figures[PRELU] = dataclasses.replace(study.figures[PRELU], learned_slopes=slopes)
    (axes,) = drawings.slopes(study).axes
    np.testing.assert_allclose(dots(axes, ARMS[0]), [*zip((1, 2), slopes.mean(0), strict=True)])
    runs = [line for line in axes.lines if len(line.get_xdata()) == 16]
    np.testing.assert_allclose(runs[1].get_ydata(), slopes[:, 1])


def test_cost():
    study = studies.study(MEANS, ms={"relu": 1.0, "elu": 2.0, "gelu": 4.0})
    time, memory = drawings.cost(study).axes
    expected = [np.median(cost.ms_per_step) for cost in study.costs.values()]
    np.testing.assert_allclose([x for x, _ in dots(time)], expected)
    assert time.get_xlim()[0] == 0
    np.testing.assert_allclose([bar.get_width() for bar in memory.patches], [4.0] * 3)
    assert memory.get_xlabel() == "kept memory, KiB"


def test_curves_have_a_panel_for_each_activation():
    names = ("relu", "leaky_relu:0.01", "leaky_relu:0.2", "prelu", "rrelu", "elu", "gelu")
    study = studies.study({Cell(a): 0.9 for a in names}, epochs=4)
    figure = drawings.curves([study])
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [*names, *names]
    for block, name in ((panels[:7], "test_accuracy"), (panels[7:], "train_loss")):
        assert len({axes.get_ylim() for axes in block}) == 1
        for axes, cell in zip(block, study.cells, strict=True):
            grey = [line for line in axes.lines if line.get_color() == LIGHT["other"]]
            (own,) = [line for line in axes.lines if line.get_color() == ARMS[0]]
            assert len(grey) == 7
            values = study.figures[cell].curves[name] * (100 if name == "test_accuracy" else 1)
            np.testing.assert_allclose(own.get_ydata(), values.mean(0))
            assert len(axes.collections) == 1
    assert [panels[0].get_yscale(), panels[7].get_yscale()] == ["linear", "log"]
    image = imread(io.BytesIO(drawings.png(figure)))
    assert image.shape[0] > 600 and image.shape[1] > 1000
    assert image.std() > 0.01


def test_curves_of_a_sweep_have_a_panel_for_each_point():
    figure = drawings.curves([over("lr", RATES), studies.study(MEANS)])
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    rates = ["lr=0.0001", "lr=0.01", "lr=0.1"]
    assert titles == [*rates, *rates, *(["relu", "elu", "gelu"] * 2)]
    own = {line.get_color() for line in figure.axes[0].lines}
    assert own == set(ARMS[:2])


def test_the_middle_of_the_runs():
    study = studies.study({RELU: 0.9}, seeds=11, epochs=1)
    curves = study.figures[RELU].curves
    curves["test_accuracy"] = np.arange(11.0)[:, None] / 100
    axes = drawings.curves([study]).axes[0]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [1, 9])


@pytest.mark.parametrize("changes", [{"seeds": 1}, {"seeds": 1, "epochs": 1}])
def test_little_to_draw(changes):
    dead = {Cell("relu", (("lr", 0.1),)): (20.0, 60.0)}
    for study in (
        studies.study(MEANS | {PRELU: 0.9}, dead={RELU: (1.0, 2.0)}, **changes),
        over("lr", [0.1], arms=["relu"], dead=dead, **changes),
        over("samples", [100], **changes),
    ):
        found = all_drawings(study)
        assert len(found) >= 3
        for figure in found:
            draw(figure)
    assert drawings.png(found[-1]).startswith(b"\x89PNG")


@pytest.mark.parametrize("lost", [slice(None), slice(3)])
def test_figures_that_are_not_finite(lost):
    for study in (studies.study(MEANS | {PRELU: 0.9}), over("lr", RATES)):
        for cell, f in study.figures.items():
            arrays = {"final_train_loss": f.final_train_loss.copy()}
            arrays["dead_units_percent"] = f.dead_units_percent.copy()
            arrays["dead_by_layer"] = f.dead_by_layer.copy()
            arrays["learned_slopes"] = f.learned_slopes.copy()
            scores = {name: values.copy() for name, values in f.scores.items()}
            curves = {name: values.copy() for name, values in f.curves.items()}
            for values in (*arrays.values(), *scores.values(), *curves.values()):
                values[lost] = np.nan
            curves["train_loss"][lost] = np.inf
            new = dataclasses.replace(f, **arrays, scores=scores, curves=curves)
            study.figures[cell] = new
        for figure in all_drawings(study):
            draw(figure)


def test_a_study_without_figures():
    study = studies.study(MEANS)
    study.figures.clear()
    for figure in all_drawings(study):
        assert drawings.png(figure).startswith(b"\x89PNG")
    assert drawings.differences(study) is None


def test_a_file_may_have_any_name():
    study = studies.study(MEANS)
    study.configuration["data"]["source"] = r"a$b^$_\frac 数据" + 40 * " long" + ".csv"
    assert drawings.png(drawings.curves([study])).startswith(b"\x89PNG")


def test_the_users_settings_of_matplotlib_are_left_alone():
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        before = dict(matplotlib.rcParams)
        (figure, *_) = all_drawings(studies.study(MEANS))
        drawings.svg(figure, name="a", title="b")
        drawings.png(figure)
        assert dict(matplotlib.rcParams) == before


def test_what_was_summarized_is_not_summarized_again(monkeypatch):
    study = over("lr", RATES)
    rows = summarize(study)
    monkeypatch.setattr(drawings, "summarize", None)
    assert drawings.cost(study, rows) and drawings.against(study, "lr", (), rows)
    plain = studies.study(MEANS)
    assert drawings.differences(plain, summarize(plain))
