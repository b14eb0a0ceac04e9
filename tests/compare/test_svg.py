import re
import xml.etree.ElementTree as ElementTree

import pytest

from jaxact.compare import drawings, svg
from jaxact.compare.study import Cell
from jaxact.compare.svg import ARMS, DARK, LIGHT
from tests.support import studies


def drawing(name="one", title="<Differences> & more"):
    study = studies.study({Cell("relu"): 0.9, Cell("elu"): 0.8, Cell("gelu"): 0.95})
    return drawings.svg(drawings.differences(study), name=name, title=title)


def test_it_is_an_element_with_a_title():
    root = ElementTree.fromstring(drawing())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["role"] == "img"
    title = root[0]
    assert title.text == "<Differences> & more"
    assert root.attrib["aria-labelledby"] == title.attrib["id"]
    # As large as its place.
    assert not {"width", "height"} & set(root.attrib)
    assert "viewBox" in root.attrib


def test_text_is_text():
    texts = {e.text for e in ElementTree.fromstring(drawing()).iter() if e.tag.endswith("text")}
    assert {"elu", "gelu", "difference to relu, points"} <= texts


def test_colours_are_the_pages():
    text = drawing()
    colours = set(re.findall(r"#[0-9a-fA-F]{6}\b", re.sub(r'(href="|url\()#[^")]*', "", text)))
    assert colours == set()
    assert "var(--better)" in text and "var(--worse)" in text and "var(--band)" in text
    assert "<style" not in text


def test_ids_do_not_clash():
    ids = [set(re.findall(r' id="([^"]+)"', drawing(name))) for name in ("one", "two")]
    assert len(ids[0]) > 10
    assert not ids[0] & ids[1]
    for name, found in zip(("one", "two"), ids, strict=True):
        text = drawing(name)
        used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
        assert used and used <= found
        assert len(re.findall(r' id="', text)) == len(found)


def test_it_is_the_same_each_time():
    assert drawing() == drawing()


def test_nothing_is_loaded():
    text = re.sub(r'xmlns(:xlink)?="[^"]+"', "", drawing())
    assert "http" not in text


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour, ground):
    low, high = sorted([luminance(colour), luminance(ground)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(theme):
    """By the Web Content Accessibility Guidelines: text 4.5, lines and marks 3."""
    for name in ("text", "muted", "better", "worse"):
        assert contrast(theme[name], theme["ground"]) >= 4.5, name
    for i in range(len(ARMS)):
        assert contrast(theme[f"arm-{i}"], theme["ground"]) >= 3, i
    assert LIGHT.keys() == DARK.keys()
    # A colour is found again in a drawing by its value.
    assert len(set(theme.values())) == len(theme)


def test_a_picture():
    study = studies.study({Cell("relu"): 0.9, Cell("elu"): 0.8})
    assert svg.png(drawings.differences(study)).startswith(b"\x89PNG")
