"""Numbers as people write them."""

import numpy as np
import pytest

from jaxact.compare.data import load
from jaxact.compare.notation import to_numbers
from tests.support.tables import ROWS, numbers, table


@pytest.mark.parametrize(
    ("texts", "values", "notation"),
    [
        (["1", "-2.5", "1e3", ".5", "+4", "\N{MINUS SIGN}5"], [1, -2.5, 1000, 0.5, 4, -5], ""),
        (["1,5", "-2,25", "3"], [1.5, -2.25, 3], "decimal comma"),
        (["1.234,5", "12.345.678", "7"], [1234.5, 12345678, 7], "decimal comma"),
        (["12.345.678", "1.234"], [12345678, 1234], "points between thousands"),
        (["1,234", "1,234,567.5", "12"], [1234, 1234567.5, 12], "commas between thousands"),
        # No group of thousands starts with 0: these are points.
        (["0.125", "1.250"], [0.125, 1.25], ""),
        (["1.234", "0.5"], [1.234, 0.5], ""),
        # One notation for all: a point among decimal commas is a mistake.
        (["1,5", "2,5", "3.5"], [1.5, 2.5, np.nan], "decimal comma"),
        (["1,5", "0.125,5"], [1.5, np.nan], "decimal comma"),
        (["1_000", "0x10", "one"], [np.nan] * 3, ""),
    ],
)
@pytest.mark.parametrize("commas_in_numbers", [False, True])
def test_numbers_as_they_are_written(texts, values, notation, commas_in_numbers):
    found, right, said = to_numbers(
        np.array(texts, object), commas_in_numbers=commas_in_numbers, decimal_comma=False
    )
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(right, ~np.isnan(values))
    assert said == notation


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("1,234", {}, 1234),
        ("1,234", {"commas_in_numbers": True}, 1.234),
        ("1.234", {"commas_in_numbers": True}, 1.234),
        ("1.234", {"commas_in_numbers": True, "decimal_comma": True}, 1234),
        ("0.234", {"commas_in_numbers": True, "decimal_comma": True}, 0.234),
    ],
)
def test_what_the_other_columns_say_of_commas(text, options, value):
    assert to_numbers(np.array([text], object), **options)[0] == value


@pytest.mark.parametrize("delimiter", ["\t", ";", "|"])
def test_points_in_files_without_commas(tmp_path, delimiter):
    """Three digits behind a point are no thousands because the columns are separated by tabs."""
    values = [f"{i % 7}.{100 + 7 * i}" for i in range(ROWS)]
    path = table(tmp_path, {"a": values, "b": [0.125, 0.5] * 20}, delimiter=delimiter)
    dataset = load(path, "kind")
    np.testing.assert_array_equal(dataset.features[0].values, np.array(values, float))
    np.testing.assert_array_equal(dataset.features[1].values, [0.125, 0.5] * 20)


def test_a_semicolon_file_with_decimal_commas(tmp_path):
    values = [f"{v:.3f}".replace(".", ",") for v in numbers()]
    path = table(tmp_path, {"a": values, "b": [1, 2, 3, 5] * 10}, delimiter=";")
    dataset = load(path, "kind")
    np.testing.assert_allclose(dataset.features[0].values, np.round(numbers(), 3))
    assert dataset.columns[0].note == "decimal comma"
    # So points are between thousands, where they can be.
    path = table(tmp_path, {"a": values, "b": ["1.250", "12.000"] * 20}, delimiter=";")
    dataset = load(path, "kind")
    np.testing.assert_array_equal(dataset.features[1].values, [1250, 12000] * 20)
    assert dataset.columns[1].note == "points between thousands"
    # The target too.
    assert load(path, "b").classes == ("1250", "12000")
