"""What is made of each column of a table."""

import numpy as np
import pandas as pd
import pytest

from jaxact._errors import CompareError
from jaxact.compare.columns import Column, as_table
from jaxact.compare.data import load, split
from tests.support.tables import ROWS, made, numbers, table


def kinds(tmp_path, values, **options):
    """The kind of one column, beside another one of numbers."""
    path = table(tmp_path, {"a": values, "z": numbers()}, **options)
    return {c.name: c for c in load(path, "kind").columns}["a"]


@pytest.mark.parametrize(
    ("values", "kind", "note"),
    [
        (numbers(), "number", ""),  # no value is repeated: a measurement all the same
        ([i * i for i in range(ROWS)], "number", ""),
        ([*[1.5, 2.5, ""] * 13, 2], "number", "13 missing: median"),
        (["red", "green", "blue", "red"] * 10, "category", ""),
        (["red", "green", "", "red"] * 10, "category", "10 missing: own column"),
        (["yes", "no"] * 20, "boolean", ""),
        (["True", "False", "", "True"] * 10, "boolean", "10 missing: most frequent"),
        ([f"2024-01-{i % 28 + 1:02}" for i in range(ROWS)], "date", "2024-01-01 to 2024-01-28"),
        ([f"{i % 28 + 1}/3/2024" for i in range(ROWS)], "date", "2024-03-01 to 2024-03-28"),
        (["3.12.2024", "4.11.2023"] * 20, "date", "2023-11-04 to 2024-12-03"),
        (["2024-01-01T12:00:00Z", "2024-02-01 13:00"] * 20, "date", "2024-01-01 to 2024-02-01"),
        ([7] * ROWS, "constant", "always 7"),
        (["same"] * ROWS, "constant", "always 'same'"),
        ([""] * ROWS, "empty", "every value is missing"),
        (["NA", "nan", "None", "null"] * 10, "empty", "every value is missing"),
        ([f"row {i}" for i in range(ROWS)], "identifier", "all values are different"),
        (list(range(100, 100 + ROWS)), "identifier", "consecutive integers, 100 to 139"),
        (list(np.random.default_rng(0).permutation(ROWS)), "identifier", "consecutive integers"),
        ([f"word {i % 30}" for i in range(ROWS)], "text", "30 values in 40 rows"),
        (["yes", "no", "maybe", "no"] * 10, "category", ""),
        (["1", "2", "1e3", " 4 "] * 10, "number", ""),
        (["1e308", "-1.7e308"] * 20, "number", ""),  # their difference is no float64
        pytest.param(
            [f"9999-01-{i % 28 + 1:02}" for i in range(ROWS)],
            "date",
            "9999-01-01 to 9999-01-28",
            marks=pytest.mark.skipif(
                pd.__version__ < "3", reason="pandas 2 reads dates in nanoseconds, up to 2262"
            ),
        ),
        (["13/1/2024", "2/3/2024"] * 20, "date", "2024-01-13 to 2024-03-02; day first"),
        (["1/2/2024", "3/4/2024"] * 20, "date", "2024-01-02 to 2024-03-04; month first"),
        (["2 Jan 2024", "March 3 2024"] * 20, "date", "2024-01-02 to 2024-03-03"),
        ([5, "", 5, 5] * 10, "constant", "always 5, or missing (10)"),
        # Few numbers, each of them often, are codes; a text among them is one more.
        ([*[3, 4, 6, 8] * 9, 5, 5, 5, "rotary"], "category", "numbers, and texts such as 'rotary'"),
        (["0", "1", "2", "3+"] * 10, "category", "numbers, and texts such as '3+'"),
        ([f"c{i % 40}" for i in range(ROWS)], "identifier", "all values are different"),
        # Codes of which many look like numbers, as tickets do.
        ([*range(0, 100, 4), *[f"A/5 {i}" for i in range(15)]], "identifier", "all values"),
    ],
)
def test_what_is_made_of_a_column(tmp_path, values, kind, note):
    found = kinds(tmp_path, values)
    assert found.kind == kind
    assert found.note.startswith(note)
    assert (found.made == "left out") == (kind in ("constant", "empty", "identifier", "text"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([*numbers()[1:], "oops"], "has numbers, but not in line 41: 'oops'; mend them, name"),
        ([*numbers()[4:], *["?", "n.a."] * 2], "lines 38, 39, 40 and 1 more: '\\?', 'n.a.'; mend"),
        ([*numbers()[18:], *["?"] * 18], "lines 24, 25, 26 and 15 more: '\\?'; mend"),
        ([*numbers()[1:], "inf"], "'a' is not finite in line 41: inf"),
        ([*numbers()[1:], "1e999"], "'a' is not finite in line 41: 1e999"),
        ([*numbers()[1:], "9" * 401], "'a' is not finite in line 41: 9+…"),
        ([f"2024-01-{i % 31 + 1:02}" for i in range(ROWS - 1)] + ["2024-02-31"], "not in line 41"),
        ([f"2024-01-{i % 31 + 1:02}" for i in range(ROWS - 1)] + ["soon"], "has dates, but not in"),
    ],
)
def test_columns_that_are_damaged(tmp_path, values, message):
    """Most values are numbers, or dates, and some are not."""
    with pytest.raises(CompareError, match=message) as caught:
        kinds(tmp_path, values)
    assert len(str(caught.value)) < 200


def test_dates_are_days(tmp_path):
    path = table(tmp_path, {"a": ["2024-02-01 12:00", "2024-02-03", ""] * 13 + ["2024-02-04"]})
    days = load(path, "kind").features[0].values
    np.testing.assert_array_equal(days[:3] - days[1], [-1.5, 0, np.nan])
    assert days[1] == np.datetime64("2024-02-03").astype(int)


def test_rare_categories_share_a_column(tmp_path):
    colours = [f"colour {i % 50}" for i in range(200)]
    path = table(tmp_path, {"a": colours, "kind": ["x", "y", "y", "x", "y"] * 40}, target=False)
    dataset = load(path, "kind")
    (column,) = dataset.columns
    assert (column.made, column.note) == ("32 columns", "of 50 values the rarest share one")
    assert split(dataset).features.shape == (200, 32)


@pytest.mark.parametrize(
    "name", ["id", "ID", "uuid", "index", "customer_id", "customerId", "Passenger Id", "Unnamed: 0"]
)
def test_identifiers_by_name(tmp_path, name):
    values = [3, 1, 4, 1, 5, 9, 2, 6] * 5
    path = table(tmp_path, {name: values, "z": numbers()})
    assert made(load(path, "kind"))[name] == ("identifier", "left out")
    # Asked for by name, it is used.
    assert made(load(path, "kind", features=[name]))[name] == ("number", "standardised")


@pytest.mark.parametrize("name", ["idle", "grid", "refractive_index", "video", "said"])
def test_names_that_are_no_identifiers(tmp_path, name):
    path = table(tmp_path, {name: [3, 1, 4, 1, 5, 9, 2, 6] * 5})
    assert made(load(path, "kind"))[name] == ("number", "standardised")


def test_a_column_without_a_name(tmp_path):
    """An exported row number; other columns without a name are used."""
    path = table(tmp_path, {"": list(range(ROWS)), "z": numbers()})
    assert made(load(path, "kind"))["column 1"] == ("identifier", "left out")
    path = table(tmp_path, {"": numbers(), "z": numbers()})
    assert made(load(path, "kind"))["column 1"] == ("number", "standardised")


def test_further_texts_for_missing_values(tmp_path):
    path = table(tmp_path, {"a": [*["1", "2", "?", "unknown"] * 10], "z": numbers()})
    assert kinds(tmp_path, ["1", "2", "?", "unknown"] * 10).kind == "category"
    found = load(path, "kind", missing=["?", "Unknown"]).columns[0]
    assert (found.kind, found.note) == ("number", "20 missing: median")


def test_columns_in_80_characters():
    """Names of any length, on one line, and no codes that a terminal obeys."""
    columns = [
        Column("a very long name, longer than a column", "category", "31 values, a column each"),
        Column("two\nlines\x1b[31m", "number", "standardised", "a note that is long " * 9),
    ]
    lines = as_table(columns, "Of these: " * 12).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("two lines [31m ")
    assert len(lines) == 2 + 1 + 2
