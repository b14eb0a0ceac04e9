"""Parquet files and DataFrames."""

import numpy as np
import pandas as pd
import pytest

from jaxact._errors import CompareError
from jaxact.compare.data import load
from tests.support.tables import ROWS, numbers


def test_parquet(tmp_path):
    frame = pd.DataFrame(
        {
            "a": numbers(),
            "b": pd.array([1, None, 3, 7] * 10, "Int64"),
            "c": pd.Categorical(["red", "green"] * 20),
            "d": pd.date_range("2024-01-01", periods=ROWS, tz="UTC"),
            "e": [True, False] * 20,
            "kind": ["x", "y"] * 20,
        }
    )
    frame.to_parquet(tmp_path / "data.parquet")
    for source in (tmp_path / "data.parquet", frame):
        dataset = load(source, "kind")
        assert [c.kind for c in dataset.columns] == [
            *("number", "number", "category", "date", "boolean")
        ]
        assert dataset.columns[1].note == "10 missing: median"
        assert dataset.classes == ("x", "y")


def test_frames_that_cannot_be_used(tmp_path):
    frame = pd.DataFrame([[1, 2, "x"], [3, 4, "y"]] * 20, columns=["a", "a", "kind"])
    with pytest.raises(CompareError, match="the table: column 'a' is there 2 times"):
        load(frame.assign(b=numbers()), "kind")
    with pytest.raises(CompareError, match="the table has no rows"):
        load(frame[:0], "kind")
    with pytest.raises(CompareError, match="a file or a pandas DataFrame, got ndarray"):
        load(np.zeros((3, 3)), "kind")
    nested = pd.DataFrame({"a": [[1, 2]] * ROWS, "b": numbers(), "kind": ["x", "y"] * 20})
    nested.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(CompareError, match="column 'a' holds list.*, not single values"):
        load(tmp_path / "a.parquet", "kind")


def test_frames_are_told_apart_by_their_values():
    """As files are by their bytes: other data are not taken for the same."""
    frame = pd.DataFrame({"a": numbers(), "b": ["u", "v"] * 20, "kind": ["x", "y"] * 20})
    dates = frame.assign(b=pd.date_range("2024-01-01", periods=ROWS))
    digests = {
        load(one, "kind").sha256
        for one in (frame, frame.copy(), dates, frame.assign(a=frame["a"] + 1), frame[::-1])
    }
    assert len(digests) == 4


def test_whole_numbers_that_float64_cannot_hold():
    labels = [2**53, 2**53 + 1] * 20
    assert load(pd.DataFrame({"a": numbers(), "t": labels}), "t").classes == (
        str(2**53),
        str(2**53 + 1),
    )


def test_times_of_frames():
    """Dates of a zone are those of its clocks; durations are numbers."""
    frame = pd.DataFrame(
        {
            "a": pd.date_range("2024-01-01", periods=ROWS, tz="Europe/Berlin"),
            "b": pd.to_timedelta(numbers(), "h"),
            "kind": ["x", "y"] * 20,
        }
    )
    dataset = load(frame, "kind")
    assert dataset.columns[0].note == "2024-01-01 to 2024-02-09"
    np.testing.assert_allclose(dataset.features[1].values, np.array(numbers()) * 3600, atol=1e-6)


def test_names_that_are_numbers():
    frame = pd.DataFrame({0: numbers(), 1: numbers()[::-1], 2: ["x", "y"] * 20})
    assert [c.name for c in load(frame, 2, drop=[0]).columns] == ["1"]


def test_dates_beyond_those_of_nanoseconds():
    frame = pd.DataFrame({"a": np.array(["1500-01-01", "9999-12-31"] * 20, "datetime64[s]")})
    dataset = load(frame.assign(kind=["x", "y"] * 20), "kind")
    assert dataset.columns[0].note == "1500-01-01 to 9999-12-31"
    assert np.ptp(dataset.features[0].values) == 3_104_560
