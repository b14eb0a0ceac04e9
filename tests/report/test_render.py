"""How a report is shown: the table, the scalars, the picture."""

import dataclasses
import io
import struct
import sys

import numpy as np
import pytest
import tensorboardX
from matplotlib.colors import to_rgba
from matplotlib.image import imread
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event

from jaxact._report import render, statistics
from jaxact._report.site import Place, Site
from jaxact._report.summary import summarise
from tests.support.reports import (
    figures,
    numbered,
    place,
    png,
    record,
    replaced,
    report,
    rows,
    three,
)


def test_rows():
    first, second, third = rows(three())
    assert first == [
        *("0", "encoder/relu", "relu", "100", "1000", "60 (60.0%)", "0.3", "20.0", "80.0"),
        *("0", "1", "model.py:12"),
    ]
    assert second[4:] == ["59", "0", "-", "49.2", "50.8", "-0.25", "0.5", "model.py:12"]
    assert third == ["7", "head", "relu", "100", "0", *["-"] * 6, "model.py:12"]
    assert len(render.HEADINGS) == len(first)


def test_str_is_a_table_with_a_caption():
    text = str(three())
    lines = text.splitlines()
    assert lines[0].split() == " ".join(render.HEADINGS).split()
    for row in rows(three()):
        assert any(all(cell in line for cell in row) for line in lines)
    assert max(map(len, lines)) <= 160
    flat = " ".join(text.split())
    assert "f'(x) = 0 on every sample" in flat
    assert "one-sided 95% Clopper-Pearson, takes samples as independent" in flat
    assert repr(three()) == "Report(3 sites)" and repr(report()) == "Report(0 sites)"
    assert "statistics" not in repr(three().sites[0]) + repr(three().records[0])


def test_the_table_has_no_escapes(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in str(three())


def test_a_terminal_has_its_own_width(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "110")
    narrow = str(three())
    assert max(map(len, narrow.splitlines())) <= 110
    assert {word for row in rows(three()) for word in row} - set(narrow.split()) == {"60 (60.0%)"}


def test_rich_prints_the_table():
    console = Console(file=io.StringIO(), width=160)
    console.print(three())
    assert "60 (60.0%)" in console.file.getvalue()


@pytest.mark.parametrize("width", [70, 80, 100, 130, 160])
def test_a_narrow_table_does_without_some_columns(width):
    path = "TransformerEncoder/feed_forward_blocks/0/activation"
    r = report(record("leaky_relu", 12, path, units=4096, dead=60))
    console = Console(file=io.StringIO(), width=width)
    console.print(r)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    headings = lines[0].split()
    assert {"#", "path", "function", "dead", "bound", "active"} <= set(headings)
    assert ("mean" in headings) == (width > 100)
    assert lines[2].startswith(f"12  {path[:20]}") and "60 (1.5%)" in lines[2]


def test_many_sites_are_counted():
    r = report(*(record(index=i, units=4, dead=i % 2) for i in range(render.MAX_ROWS + 4)))
    cells = rows(r)
    assert len(cells) == render.MAX_ROWS + 1
    assert cells[-1][1] == "and 4 more, 2 of them with dead units"
    assert "and 4 more" in str(r)
    exactly = report(*r.records[: render.MAX_ROWS])
    assert len(rows(exactly)) == render.MAX_ROWS
    alive = report(*(record(index=i, units=4) for i in range(render.MAX_ROWS + 1)))
    assert rows(alive)[-1][1] == "and 1 more, none of them with dead units"
    assert "64 sites" in r.plot().get_suptitle()


def test_plain_text_without_rich(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.setitem(sys.modules, name, None)
    lines = str(three()).splitlines()
    assert set(lines[1]) == {"-", " "}
    assert lines[2].split()[:6] == ["0", "encoder/relu", "relu", "100", "1000", "60"]
    assert lines[-1] == render.CAPTION
    with pytest.raises(ImportError):
        render.rich_table(summarise(three().sites, "The table"), 80)


def test_a_report_of_no_sites():
    assert rows(report()) == []
    assert "Clopper-Pearson" in str(report())
    assert png(report().plot()).startswith(b"\x89PNG")
    assert report().scalars() == {}


# ------------------------------------------------------------------------------------------------
# Scalars


def test_names_of_scalars():
    def names(*records):
        return {
            name.removesuffix("/dead") for name in report(*records).scalars() if "/dead" in name
        }

    assert names(record(path="encoder")) == {"encoder/relu"}
    assert names(record(path="encoder/relu")) == {"encoder/relu"}
    assert names(record(path="relu")) == {"relu"}
    assert names(record(path="model.py:12")) == {"model.py:12/relu"}
    assert names(record(path="a"), record("gelu", 1, "a")) == {"a/relu", "a/gelu"}
    assert names(record(path="a"), record("relu", 4, "a/relu")) == {"a/relu_0", "a/relu_4"}
    nested = Site(
        place(index=2, path="a", units=2, loops=((0, 2), (1, 2))), (), numbered([2, 2], 0)
    )
    steps = {f"a/relu/{i}/{j}" for i in range(2) for j in range(2)}
    assert names(nested) == steps
    numbers = {step.replace("relu", "relu_2") for step in steps}
    assert names(nested, record(index=3, path="a")) == {*numbers, "a/relu_3"}
    nameless = Site(Place(0, "", "relu", (7, 100), np.dtype(np.float32), "", -1), (), figures())
    assert names(nameless) == {"relu"}


def test_scalars():
    found = three().scalars()
    assert len(found) == 3 * 9
    assert all(type(figure) is float and np.isfinite(figure) for figure in found.values())
    assert found["encoder/relu/dead"] == 0.6
    assert found["encoder/relu/active"] == 0.2
    assert found["encoder/relu/saturated"] == 0.8
    assert found["encoder/relu/samples"] == 1000
    assert found["encoder/mlp/gelu/mean"] == -0.25
    assert found["encoder/mlp/gelu/std"] == 0.5
    assert found["encoder/relu/dormant"] == 0.6
    assert found["encoder/relu/peak"] == 3
    assert found["encoder/relu/kurtosis"] == pytest.approx(3)
    assert {figure for name, figure in found.items() if name.startswith("head/")} == {0.0}


def read_events(path):
    """TensorBoard's file: length, check sum, event, check sum."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def test_scalars_in_tensorboard(tmp_path):
    written = {3: three().scalars(), 4: report(record(path="blocks/mlp", dead=7)).scalars()}
    with tensorboardX.SummaryWriter(str(tmp_path)) as writer:
        for step, found in written.items():
            for name, figure in found.items():
                writer.add_scalar(name, figure, step)
    (file,) = tmp_path.iterdir()
    read = {}
    for event in read_events(file):
        for value in event.summary.value:
            read.setdefault(event.step, {})[value.tag] = value.simple_value
    assert read.keys() == written.keys()
    for step, found in written.items():
        assert read[step] == pytest.approx(found, rel=1e-6)


def test_scalars_of_steps_stay_apart_in_tensorboard(tmp_path):
    nested = Site(place(index=2, units=2, loops=((0, 2), (1, 3))), (), numbered([2, 3], 0))
    found = report(nested, record(index=3, path="layer2")).scalars()
    with tensorboardX.SummaryWriter(str(tmp_path)) as writer:
        for name, figure in found.items():
            writer.add_scalar(name, figure, 0)
    (file,) = tmp_path.iterdir()
    tags = [value.tag for event in read_events(file) for value in event.summary.value]
    assert len(set(tags)) == len(tags) == len(found) == 7 * 9
    assert set(tags) == set(found)


# ------------------------------------------------------------------------------------------------
# The picture


def test_plot():
    r = report(record("relu", 0, "a", dead=60), record("tanh", 1, "b", saturated=0.25))
    figure = r.plot()
    shares, densities = figure.axes
    bars = [[bar.get_width() for bar in of_one] for of_one in shares.containers]
    np.testing.assert_allclose(bars, [[60, 0], [80, 25]])
    assert [c.get_label() for c in shares.containers] == ["dead", "saturated"]
    assert shares.get_xlim() == (0, 100)
    assert [label.get_text() for label in shares.get_yticklabels()] == [
        "0: a (relu)",
        "1: b (tanh)",
    ]
    assert shares.yaxis_inverted()
    assert densities.get_xscale() == "asinh"
    curves = [patch.get_data() for patch in densities.patches]
    for row, (values, edges, baseline) in enumerate(curves):
        counts = r.sites[row].histogram
        np.testing.assert_allclose(edges, statistics.histogram_edges())
        np.testing.assert_allclose((baseline - values) / 0.8, counts / counts.max())
        assert (abs(values - row) <= 0.41).all()
    assert len(curves) == 2
    image = imread(io.BytesIO(png(figure)))
    assert image.shape[0] > 200 and image.shape[1] > 900
    red = (abs(image - to_rgba("tab:red")) < 0.01).all(-1)
    assert red.any()


def test_plot_of_what_is_not_finite_or_empty():
    broken = figures(mean=np.nan)
    zeros = np.zeros_like(broken.histogram)
    r = report(Site(place(), (), replaced(broken, histogram=zeros)), record(index=1, samples=0))
    assert png(r.plot()).startswith(b"\x89PNG")


def test_plot_leaves_pyplot_alone():
    before = set(sys.modules)
    three().plot()
    assert "matplotlib.pyplot" not in set(sys.modules) - before


def test_the_form_is_shown_and_the_function_names_scalars():
    shown = record("gelu", 3, "head", silent=60)
    form = "gelu(approximate=False)"
    shown = dataclasses.replace(shown, place=dataclasses.replace(shown.place, form=form))
    assert shown.form == form and shown.function == "gelu" and record().form == "relu"
    assert rows(report(shown))[0][2] == form
    (suggestion,) = report(shown).advice()
    assert suggestion.sites == (f"head ({form}, #3)",)
    assert "head/gelu/dead" in report(shown).scalars()
    shares, _ = report(shown).plot().axes
    assert [label.get_text() for label in shares.get_yticklabels()] == [f"3: head ({form})"]
