import html.parser
import importlib.resources
import re

import pytest

from jaxact.compare import conclusions, page
from jaxact.compare.study import Cell
from jaxact.compare.svg import DARK, LIGHT
from tests.support import studies

RATES = [1e-4, 1e-2, 1e-1]
SCRIPT = "<script>alert('x')</script>"
COMMAND = "jaxact compare --data 'a b.csv' --target \"<label>\""


@pytest.fixture(scope="module")
def both():
    """A comparison, and a sweep over learning rates, as the default run has them."""
    arms = ("relu", "leaky_relu:0.2", "prelu")
    plain = studies.study({Cell(a): 0.9 + 0.01 * i for i, a in enumerate(arms)})
    cells = studies.cells(["relu", "elu"], "lr", RATES)
    dead = {Cell("relu", (("lr", 0.1),)): (40.0, 60.0)}
    sweep = {"name": "lr", "values": RATES}
    swept = studies.study(dict.fromkeys(cells, 0.9), seeds=8, dead=dead, sweeps=[sweep])
    return [plain, swept]


@pytest.fixture(scope="module")
def text(both):
    return page.html(both, command=COMMAND)


class Elements(html.parser.HTMLParser):
    """The elements of a page: each tag with its attributes, and what is written in it."""

    EMPTY = frozenset(("meta", "link", "wbr"))

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), ""]
        self.found.append(element)
        if tag not in self.EMPTY:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.found.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def texts(self, tag):
        return [" ".join(text.split()) for name, _, text in self.found if name == tag]


def test_the_conclusion_is_first(both, text):
    first, second = (conclusions.conclude(study) for study in both)
    elements = Elements(text)
    assert elements.texts("h1") == [first[0]]
    assert second[0] in elements.texts("p")
    order = [tag for tag, _, _ in elements.found]
    assert order.index("h1") < order.index("svg") < order.index("table")
    assert elements.texts("li") == [text.replace("`", "") for text in [*first[1:], *second[1:]]]
    assert "<code>jaxact probe</code>" in text


def test_what_is_drawn(text):
    headings = Elements(text).texts("h3")
    assert headings == [
        "Difference of accuracy to relu",
        "Slopes that were learned",
        "What it costs",
        "Against the learning rate",
        "Dead units over the training",
        "What it costs",
    ]
    assert len(Elements(text).texts("figcaption")) == text.count("<svg") == len(headings)


def test_the_tables_have_all_figures(text):
    elements = Elements(text)
    cells = elements.texts("td") + elements.texts("th")
    assert {"better", "1.000", "standardised", "identifier", "id"} - {"1.000"} <= set(cells)
    assert "balanced accuracy %" in cells and "smallest detectable difference, points" in cells
    assert "elu dead %" in cells
    rows = [attrs for tag, attrs, _ in elements.found if tag == "th"]
    assert {attrs["scope"] for attrs in rows} == {"col", "row"}
    assert elements.texts("caption") == ["All figures", "All figures"]
    (better,) = [attrs for tag, attrs, t in elements.found if tag == "td" and t == "better"][:1]
    assert better == {"class": "better"}


def test_how_to_repeat_it(text):
    assert Elements(text).texts("pre") == [COMMAND, "jaxact compare --from results.json"]
    assert "jaxact 0.1.0, jax 0.10.2; cpu (cpu)." in Elements(text).texts("dd")


def test_every_id_is_there_once(text):
    elements = Elements(text)
    ids = [attrs["id"] for _, attrs, _ in elements.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    named = {
        attrs["aria-labelledby"] for _, attrs, _ in elements.found if "aria-labelledby" in attrs
    }
    assert named and named <= set(ids)


def test_nothing_is_loaded(text):
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]+"|http-equiv', "", text)
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _, _ in Elements(text).found}
    assert "@import" not in text and "url(" not in re.sub(r"url\(#[^)]+\)", "", text)


def test_it_says_what_it_is(text):
    elements = Elements(text)
    assert elements.found[0] == ["html", {"lang": "en"}, elements.found[0][2]]
    metas = {
        attrs.get("name"): attrs.get("content") for tag, attrs, _ in elements.found if tag == "meta"
    }
    assert metas["color-scheme"] == "light dark"
    assert "width=device-width" in metas["viewport"]
    for theme in (LIGHT, DARK):
        assert all(f"--{name}: {colour};" in text for name, colour in theme.items())
    assert "@media print" in text


def test_it_is_the_same_each_time(both, text):
    assert page.html(both, command=COMMAND) == text


def test_what_users_wrote_stays_text():
    study = studies.study({Cell("relu"): 0.9, Cell("elu"): 0.8})
    data = study.configuration["data"]
    data["source"] = data["target"] = SCRIPT
    data["columns"] = [dict.fromkeys(("name", "kind", "made", "note"), SCRIPT)]
    study.configuration["model"] = f"{SCRIPT}:net"
    study.configuration["device"] = {"platform": SCRIPT, "kind": "&amp;"}
    found = page.html([study], command=SCRIPT)
    assert "<script" not in found
    elements = Elements(found)
    assert "script" not in {tag for tag, _, _ in elements.found}
    assert SCRIPT in elements.texts("code") and SCRIPT in elements.texts("th")
    assert SCRIPT in " ".join(elements.texts("title"))
    assert any("&amp;" in fact for fact in elements.texts("dd"))


def test_conclusions_are_text(monkeypatch):
    monkeypatch.setattr(page, "conclude", lambda study: [SCRIPT, f"`{SCRIPT}`"])
    elements = Elements(page.html([studies.study({Cell("relu"): 0.9})], command=""))
    assert elements.texts("h1") == elements.texts("li") == [SCRIPT]


def test_many_columns_are_folded():
    study = studies.study({Cell("relu"): 0.9})
    column = {"name": "x", "kind": "number", "made": "standardised", "note": ""}
    study.configuration["data"]["columns"] = [column] * 64
    assert Elements(page.html([study], command="")).texts("summary") == ["64 columns"]
    study.configuration["data"]["columns"] = []
    assert "What was made of each column" not in page.html([study], command="")


def test_long_names_are_broken_between_parameters():
    arm = "rrelu:lower=0.1,upper=0.3"
    found = page.html([studies.study({Cell("relu"): 0.9, Cell(arm): 0.8})], command="")
    assert ">rrelu:<wbr>lower=0.1,<wbr>upper=0.3</th>" in found


@pytest.mark.parametrize(
    "changes", [{"seeds": 1, "epochs": 1}, {"splits": 3, "task": "regression"}]
)
def test_other_studies(changes):
    study = studies.study({Cell("relu"): 0.9, Cell("elu"): 0.8}, **changes)
    assert len(Elements(page.html([study], command="")).texts("h1")) == 1


def test_a_study_without_figures():
    study = studies.study({Cell("relu"): 0.9, Cell("elu"): 0.8})
    study.figures.clear()
    study.costs.clear()
    assert Elements(page.html([study], command="")).texts("h1")[0]


def test_two_axes_have_a_drawing_for_each_slice():
    points = [(("lr", r), ("width", w)) for r in (0.1, 0.2) for w in (8, 16)]
    sweeps = [{"name": "lr", "values": [0.1, 0.2]}, {"name": "width", "values": [8, 16]}]
    study = studies.study({Cell("relu", p): 0.9 for p in points}, sweeps=sweeps)
    headings = Elements(page.html([study], command="")).texts("h3")
    assert headings[:4] == [
        "Against the learning rate, units in a hidden layer 8",
        "Against the learning rate, units in a hidden layer 16",
        "Against the units in a hidden layer, learning rate 0.1",
        "Against the units in a hidden layer, learning rate 0.2",
    ]


def test_the_template_is_in_the_package():
    template = importlib.resources.files("jaxact.compare") / "templates" / "report.html.jinja"
    assert template.is_file()
