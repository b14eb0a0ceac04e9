import dataclasses
import io

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console
from scipy import stats

from jaxact.compare import Results, Settings, load, markdown, report
from jaxact.compare.data import split
from jaxact.compare.results import configuration
from jaxact.compare.training import Arm, Curves


def arm(accuracy, epochs=6):
    accuracy = np.asarray(accuracy)
    curve = np.linspace(0.5, 1, epochs) * accuracy[:, None]
    return Arm(
        best_epoch=np.full(len(accuracy), epochs),
        test_accuracy=accuracy,
        final_train_loss=np.full(len(accuracy), 0.0123456),
        dead_units_percent=np.linspace(0, 25, len(accuracy)),
        curves=Curves(1 - curve, 1 - curve, curve, curve),
        ms_per_step=3.14159 if epochs > 1 else None,
        seconds=1.0,
    )


def results(arms, epochs=6):
    seeds = len(next(iter(arms.values())).test_accuracy)
    settings = Settings(activations=tuple(arms), seeds=seeds, epochs=epochs)
    dataset = load()
    return Results(configuration(settings, dataset, split(dataset)), arms)


def three():
    base = np.array([0.90, 0.92, 0.94, 0.96])
    jitter = np.array([0.001, -0.001, 0.002, -0.002])
    return results({"relu": arm(base), "elu": arm(base - 0.05 + jitter), "gelu": arm(base)})


def test_rows():
    first, second, third = report.rows(three())
    assert first == ["relu", "93.00 ± 4.11", "-", "-", "0.0123", "12.5", "3.14"]
    assert second[0] == "elu"
    assert second[2].startswith("-5.00 ± ")
    assert second[3] == "worse"
    assert third[2:4] == ["+0.00 ± 0.00", "no detectable difference"]
    assert report.headings(three())[2] == "difference to relu, pp"


def test_diverged_seeds_are_counted():
    bad = dataclasses.replace(arm([0.9, 0.8]), final_train_loss=np.array([np.nan, 0.5]))
    worst = dataclasses.replace(bad, final_train_loss=np.full(2, np.nan))
    first, second = report.rows(results({"relu": bad, "elu": worst}))
    assert first[4] == "0.500 (1 of 2 seeds diverged)"
    assert second[4] == "(2 of 2 seeds diverged)"


def test_caption_says_what_the_intervals_are():
    text = report.caption(three())
    assert "mean ± 95% t interval over 4 seeds" in text
    assert "one fixed split (1077/360/360 samples)" in text
    assert "all 2 intervals hold together with 95% confidence (Bonferroni: each has 97.5%)" in text
    assert "one step of all 4 seeds together" in text
    two = report.caption(results({"relu": arm([0.9, 0.8]), "elu": arm([0.9, 0.8])}))
    assert "its interval has 95% confidence" in two
    assert "Bonferroni" not in two
    alone = report.caption(results({"relu": arm([0.9, 0.8])}))
    assert "Difference" not in alone


def test_one_seed_and_one_epoch():
    r = results({"relu": arm([0.9], 1), "elu": arm([0.8], 1)}, epochs=1)
    assert report.rows(r)[1][1:4] == ["80.00", "-10.00", "one seed: no interval"]
    assert report.rows(r)[0][-1] == "-"
    assert "there is no interval" in report.caption(r)
    assert report.png(report.curves(r)).startswith(b"\x89PNG")


def test_terminal_table():
    console = Console(file=io.StringIO(), width=200)
    console.print(report.rich_table(three()))
    text = console.file.getvalue()
    for row in report.rows(three()):
        assert any(all(cell in line for cell in row) for line in text.splitlines())
    columns = report.rich_table(three()).columns
    right = ["right"]
    assert [c.justify for c in columns] == ["left", *right * 2, "left", *right * 3]
    assert [c.no_wrap for c in columns] == [True, *[False] * 5, True]
    assert " ".join(report.caption(three()).split()) in " ".join(text.split())


def test_verdicts_have_colours_in_a_terminal():
    base = np.array([0.5, 0.6])
    better, worse = arm(base + 0.1), arm(base - 0.1)
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
    r = results({"relu": arm(base), "elu": better, "gelu": worse, "silu": arm(base)})
    console.print(report.rich_table(r))
    text = console.file.getvalue()
    assert "\x1b[32mbetter" in text
    assert "\x1b[31mworse" in text
    assert "\x1b[3" not in "".join(line for line in text.splitlines() if "no detectable" in line)


def test_narrow_terminal_cuts_nothing_off():
    console = Console(file=io.StringIO(), width=80)
    arms = {"leaky_relu:0.01": arm([0.9, 0.8]), "leaky_relu:0.2": arm([0.9, 0.7])}
    console.print(report.rich_table(results(arms)))
    text = console.file.getvalue()
    words = {word for row in report.rows(results(arms)) for cell in row for word in cell.split()}
    assert "detectable" in words
    assert words | {"accuracy", "difference", "ms/step"} <= set(text.split())


def test_markdown():
    lines = markdown(three()).splitlines()
    assert lines[0] == "## digits: MLP of widths 128, 128; 4 seeds, 6 epochs, float32"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 3
    assert len({line.count("|") for line in table}) == 1
    assert table[0].startswith("| activation | test accuracy % |")
    assert table[1] == "| --- | ---: | ---: | --- | ---: | ---: | ---: |"
    assert table[3].startswith("| elu | 88.00 ± ")
    assert report.caption(three()) in lines
    assert any(line.startswith("jaxact ") and "optax" in line for line in lines)


def test_curves():
    figure = report.curves(three())
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["validation accuracy, %", "test accuracy, %", "training loss"]
    for axis in figure.axes:
        assert [line.get_label() for line in axis.lines] == ["relu", "elu", "gelu"]
        assert len({line.get_color() for line in axis.lines}) == 3
        assert len(axis.collections) == 3  # the bands
    values = three().arms["elu"].curves
    parts = [100 * values.validation_accuracy, 100 * values.test_accuracy, values.train_loss]
    for axis, part in zip(figure.axes, parts, strict=True):
        np.testing.assert_allclose(axis.lines[1].get_xdata(), np.arange(1, 7))
        np.testing.assert_allclose(axis.lines[1].get_ydata(), part.mean(0))
        band = axis.collections[1].get_paths()[0].vertices
        last = band[band[:, 0] == 6][:, 1]
        low, high = stats.t.interval(0.95, 3, loc=part[:, -1].mean(), scale=stats.sem(part[:, -1]))
        np.testing.assert_allclose([last.min(), last.max()], [low, high])
    expected = parts[1].mean(0)
    assert [axis.get_yscale() for axis in figure.axes] == ["linear", "linear", "log"]
    low, high = figure.axes[1].get_ylim()
    assert expected[0] < low < expected[-1] < high
    image = imread(io.BytesIO(report.png(figure)))
    assert image.shape[0] > 300 and image.shape[1] > 900
    assert image.std() > 0.01


@pytest.mark.parametrize("count", [1, 15])
def test_curves_of_few_and_many_arms(count):
    arms = {f"leaky_relu:0.{i}": arm([0.9, 0.8]) for i in range(1, count + 1)}
    figure = report.curves(results(arms))
    styles = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(styles) == count
    assert report.png(figure).startswith(b"\x89PNG")


def test_curves_of_diverged_networks():
    lost = np.full((2, 6), np.nan)
    fine = arm([0.1, 0.1])
    bad = dataclasses.replace(fine, curves=fine.curves._replace(train_loss=lost))
    alone = report.curves(results({"relu": bad}))
    assert alone.axes[2].get_yscale() == "linear"  # nothing is there to take a logarithm of
    assert report.png(alone).startswith(b"\x89PNG")
    both = report.curves(results({"relu": fine, "elu": bad}))
    assert both.axes[2].get_yscale() == "log"
    assert report.png(both).startswith(b"\x89PNG")
