import pytest

from jaxact.compare import wording
from jaxact.compare.intervals import Interval
from jaxact.compare.study import ACCURACY, LOSS, R2


@pytest.mark.parametrize(
    ("difference", "text"),
    [(0.0123, "1.2 points"), (-0.0123, "1.2 points"), (0.0004, "0.04 points"), (0, "0.00 points")],
)
def test_amount(difference, text):
    assert wording.amount(ACCURACY, difference) == text


def test_amount_of_other_scores():
    assert wording.amount(R2, 0.0123) == "0.012 of R²"
    assert wording.amount(LOSS, -0.5) == "0.5000 of the loss"


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (0.00301, "0.4 points"),
        (0.003, "0.3 points"),
        (0.00021, "0.03 points"),
        (0.1, "10.0 points"),
    ],
)
def test_at_least_rounds_up(difference, text):
    found, rounded = wording.amount_at_least(ACCURACY, difference)
    assert found == text
    assert rounded == pytest.approx(float(text.split()[0]) / 100)
    assert rounded >= difference - 1e-12


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.012, 0.008, 0.016), "1.2 ± 0.4 points"),
        (Interval(-0.012, -0.016, -0.008), "1.2 ± 0.4 points"),
        # The larger side, and digits by the smaller figure.
        (Interval(0.012, 0.0118, 0.0125), "1.20 ± 0.05 points"),
        (Interval(0.012, None, None), "1.2 points"),
    ],
)
def test_amount_with_interval(interval, text):
    assert wording.amount_with_interval(ACCURACY, interval) == text


def test_signed_amount():
    interval = Interval(-0.012, -0.016, -0.008)
    assert wording.amount_with_interval(ACCURACY, interval, signed=True) == "-1.2 ± 0.4 points"


def test_scores():
    assert wording.labelled_score(ACCURACY, 0.9712) == "accuracy 97.1%"
    assert wording.labelled_score(R2, 0.5123) == "R² 0.512"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "none"), (0.01, "under 0.1%"), (0.34, "0.3%"), (1, "1%"), (41.4, "41%"), (100, "100%")],
)
def test_percent(value, text):
    assert wording.percent(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (Interval(41.2, 36, 46), "41 ± 5%"),
        (Interval(41.2, 41.0, 41.4), "41.2 ± 0.2%"),
        (Interval(0.3, 0.1, 0.5), "0.3 ± 0.2%"),
        (Interval(0, 0, 0), "none"),
        (Interval(41, 41, 41), "41%"),
        (Interval(0.001, 0, 0.002), "under 0.1%"),
        (Interval(41, None, None), "41%"),
    ],
)
def test_percent_with_interval(share, text):
    assert wording.percent_with_interval(share) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1.03, "3% more time a step"),
        (0.9, "10% less time a step"),
        (1.004, "0.4% more time a step"),
        (2.5, "2.5 times the time a step"),
    ],
)
def test_time(ratio, text):
    assert wording.time(ratio) == text


def test_counts_and_lists():
    assert [wording.count(n, "seed") for n in (1, 2)] == ["1 seed", "2 seeds"]
    assert wording.these(["a"]) == "a"
    assert wording.these(["a", "b"]) == "a and b"
    assert wording.these(["a", "b", "c"]) == "a, b and c"
    assert [wording.value(v) for v in (0.001, 64, "bfloat16")] == ["0.001", "64", "bfloat16"]
