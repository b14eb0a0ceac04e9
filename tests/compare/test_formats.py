import math

from jaxact.compare import formats
from jaxact.compare.statistics import Interval
from jaxact.compare.study import ACCURACY, R2


def test_numbers_that_are_none():
    assert formats.fixed(None, 2) == "-"
    assert formats.fixed(math.inf, 2) == "-"
    assert formats.interval(Interval(math.nan, None, None), 2) == "-"
    assert formats.score(None, ACCURACY) == formats.difference(None, ACCURACY) == "-"
    assert formats.milliseconds(None, 1.0) == "-"
    assert formats.milliseconds(Interval(0.0, None, None), 0.0) == "-"
    assert formats.memory(None) == "-"


def test_an_interval_has_its_larger_half():
    assert formats.score(Interval(0.93211, 0.93, 0.9363), ACCURACY) == "93.21 ± 0.42"
    assert formats.difference(Interval(-0.01, -0.02, 0.0), ACCURACY) == "-1.00 ± 1.00"
    assert formats.difference(Interval(0.001, None, None), ACCURACY) == "+0.10"
    assert formats.score(Interval(0.5, 0.4, 0.6), R2) == "0.500 ± 0.100"
    # A network that diverged predicts nonsense: the cell stays a cell.
    assert len(formats.score(Interval(-1e30, -2e30, 0.0), R2)) < 20


def test_times_have_three_digits():
    texts = [
        formats.milliseconds(Interval(mean, mean * 0.99, mean * 1.01), mean)
        for mean in (0.01234, 1.234, 12.34, 1234.0)
    ]
    assert texts == ["0.0123 ± 0.0001", "1.23 ± 0.01", "12.3 ± 0.1", "1234 ± 12"]
    # Times below each other have as many decimals.
    assert formats.milliseconds(Interval(0.99, 0.98, 1.0), 1.02) == "0.99 ± 0.01"


def test_values_of_an_axis():
    assert [formats.value(v) for v in (8, 1024, 0.1, 0.000316228, -2.0, "float16")] == [
        "8",
        "1024",
        "0.1",
        "0.000316",
        "-2",
        "float16",
    ]
