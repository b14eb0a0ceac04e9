"""Tables of pages, read back."""

import pytest

from website import tables

PAGE = """\
| not | this |
|---|---|
| 1 | 2 |

<!-- begin cpu 0.10 -->

Words.

#### in cache

| function | ratio |
|---|---|
| relu * | 0.93 |
| elu |  |

#### 64 MB

| function |
|---|
| relu |

<!-- end cpu 0.10 -->

<!-- begin gpu -->

None yet.

<!-- end gpu -->
"""


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_tables_have_the_heading_above_them(page):
    first, second = tables.read(page, "cpu 0.10")
    assert (first.heading, first.rows) == ("in cache", [["relu *", "0.93"], ["elu", ""]])
    assert (second.heading, second.header, second.rows) == ("64 MB", ["function"], [["relu"]])


def test_sections(page):
    assert tables.sections(page, r"cpu [\d.]+") == ["cpu 0.10"]
    with pytest.raises(ValueError, match=r"page\.md has no mark .*tpu"):
        tables.sections(page, "tpu")


@pytest.mark.parametrize(
    ("name", "message"), [("cycles", "no marks <!-- begin cycles -->"), ("gpu", "no table")]
)
def test_what_is_not_there_is_an_error(page, name, message):
    with pytest.raises(ValueError, match=rf"page\.md has {message}"):
        tables.read(page, name)
