"""The page as a browser shows it: at two widths, light and dark. tests/support/chromium.py."""

import numpy as np
import pytest
from PIL import Image

from jaxact.compare import conclusions, page
from jaxact.compare.study import Cell
from tests.support import chromium, studies

pytestmark = pytest.mark.slow

PHONE, DESKTOP = (390, 844), (1280, 800)
SCHEMES = ("light", "dark")
RATES = [1e-4, 1e-3, 1e-2, 3e-2, 1e-1]


@pytest.fixture(scope="module")
def browser():
    with chromium.launched() as found:
        yield found


@pytest.fixture(scope="module")
def both():
    """All that a page can hold: seven activations, and a sweep at which units die."""
    arms = ("relu", "leaky_relu:0.01", "leaky_relu:0.2", "prelu", "rrelu:lower=0.1,upper=0.3")
    means = {Cell(a): 0.95 + 0.004 * i for i, a in enumerate((*arms, "elu", "gelu"))}
    plain = studies.study(means, dead={Cell("relu"): (3.0, 9.0)}, epochs=25)
    name = "a_column_with_a_long_name_" * 4
    plain.configuration["data"]["columns"].append(
        {"name": name, "kind": "category", "made": "47 columns of 0 and 1", "note": "3 missing"}
    )
    cells = studies.cells(["relu", "leaky_relu", "elu"], "lr", RATES)
    dead = {c: (10.0, 90.0) for c in cells if c.label == "relu, lr=0.1"}
    sweep = {"name": "lr", "values": RATES}
    return [plain, studies.study(dict.fromkeys(cells, 0.9), dead=dead, seeds=8, sweeps=[sweep])]


@pytest.fixture(scope="module")
def file(both, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    command = "jaxact compare --data a.csv --target label --activations relu,elu,gelu --seeds 16"
    path.write_text(page.html(both, command=command), encoding="utf-8")
    return path


@pytest.fixture
def show(browser, file):
    """A function that opens the page in a window; whatever it complains of fails the test."""
    complaints, contexts = [], []

    def opened(size, scheme):
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
        )
        contexts.append(context)
        shown = context.new_page()
        shown.on("console", lambda message: complaints.append(message.text))
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.on(
            "request",
            lambda request: request.url == file.as_uri() or complaints.append(request.url),
        )
        shown.goto(file.as_uri())
        return shown

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def fits(shown):
    return shown.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_fits_its_window(show, both, size, scheme, tmp_path):
    shown = show(size, scheme)
    assert fits(shown)
    # The conclusion is there at once, and whole.
    box = shown.locator("h1").bounding_box()
    assert shown.locator("h1").inner_text() == conclusions.conclude(both[0])[0]
    assert box["y"] >= 0 and box["y"] + box["height"] < size[1]
    # A table that is wider has a box to scroll in.
    boxes = shown.locator(".scroll").evaluate_all(
        "all => all.map(e => [getComputedStyle(e).overflowX, e.getBoundingClientRect().right])"
    )
    assert all(scrolls == "auto" and right <= size[0] for scrolls, right in boxes)
    path = chromium.screenshots(tmp_path) / f"report-{size[0]}-{scheme}.png"
    shown.screenshot(path=path, full_page=True)
    pixels = np.asarray(Image.open(path).convert("L"), float)
    assert pixels.shape[1] == size[0] and pixels.shape[0] > 2 * size[1]
    assert (np.median(pixels) > 200) == (scheme == "light")
    assert pixels.std() > 20


COLOURS = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = colour => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const texts = [...document.querySelectorAll("h1, h2, h3, p, li, td, th, dd, dt, figcaption")];
  const drawn = [...document.querySelectorAll("svg text")];
  return {
    ground: rgb(getComputedStyle(document.body).backgroundColor),
    texts: texts.map(e => rgb(getComputedStyle(e).color)),
    drawn: drawn.map(e => rgb(getComputedStyle(e).fill)),
  };
}
"""


def luminance(rgb):
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(rgb) / 255
    ]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_can_be_read(show, scheme):
    found = show(DESKTOP, scheme).evaluate(COLOURS)
    assert (luminance(found["ground"]) > 0.5) == (scheme == "light")
    assert len(found["texts"]) > 100 and len(found["drawn"]) > 50
    for rgb in found["texts"] + found["drawn"]:
        low, high = sorted([luminance(rgb), luminance(found["ground"])])
        assert (high + 0.05) / (low + 0.05) >= 4.5, rgb


def test_drawings_can_be_read_on_a_phone(show):
    shown = show(PHONE, "light")
    sizes = shown.locator("svg text").evaluate_all(
        """all => all.map(e => {
          const to = e.getScreenCTM();
          return parseFloat(getComputedStyle(e).fontSize) * Math.hypot(to.a, to.b);
        })"""
    )
    assert min(sizes) >= 9
    outside = shown.locator("svg text").evaluate_all(
        """all => all.filter(e => {
          const card = e.closest("figure").getBoundingClientRect();
          const text = e.getBoundingClientRect();
          return text.width > 0 && (text.left < card.left - 1 || text.right > card.right + 1);
        }).map(e => e.textContent)"""
    )
    assert outside == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_prints_on_white_paper(show, scheme):
    # A4 with margins, at 96 points an inch.
    shown = show((700, 1000), scheme)
    shown.emulate_media(media="print", color_scheme=scheme)
    assert fits(shown)
    assert luminance(shown.evaluate(COLOURS)["ground"]) > 0.9
    assert shown.pdf(format="A4").startswith(b"%PDF")
