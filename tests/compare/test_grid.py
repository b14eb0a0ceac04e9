import pytest

from jaxact.compare import grid
from jaxact.compare.grid import Field, Grid

NUMBERS = ["12.34 ± 0.56", "-"]


def three() -> Grid:
    return Grid(
        "data: a title",
        (
            Field("name", ["relu", "leaky_relu:0.2"], "left"),
            Field("first\nscore", NUMBERS, importance=1, notes=["About scores."]),
            Field(
                "verdict",
                ["no detectable difference", "better"],
                "left",
                importance=2,
                short=["not detectable", "better"],
                verdicts=["no detectable difference", "better"],
            ),
            Field("cost", ["1.00 ms", "2.00 ms"], importance=3, notes=["About costs."]),
        ),
    )


def shown(text: str) -> set[str]:
    return {name for name in ("name", "score", "verdict", "cost") if name in text}


def test_columns_go_in_the_order_of_their_importance():
    of = {width: grid.terminal([three()], width, False) for width in (90, 54, 44, 30, 20)}
    assert "no detectable difference" in of[90]
    # First the shorter words, then a column less.
    assert shown(of[54]) == {"name", "score", "verdict", "cost"}
    assert "not detectable" in of[54]
    assert "no detectable difference" not in of[54]
    assert shown(of[44]) == {"name", "score", "verdict"}
    assert shown(of[30]) == {"name", "score"}
    # What has no importance stays, were the terminal never so narrow.
    assert shown(of[20]) == {"name"}
    assert "About costs." in of[54]
    assert "About costs." not in of[44]


@pytest.mark.parametrize("width", range(20, 100))
def test_lines_fit_and_numbers_are_whole(width):
    text = grid.terminal([three()], width, False)
    assert max(map(len, text.splitlines())) <= width
    if "score" in text:
        assert "12.34 ± 0.56" in text


def test_numbers_are_below_each_other():
    lines = grid.terminal([three()], 90, False).splitlines()
    first = next(line for line in lines if line.startswith("relu"))
    second = next(line for line in lines if line.startswith("leaky_relu:0.2"))
    assert first.index("12.34 ± 0.56") + len("12.34 ± 0.56") == second.index("-") + 1


def test_a_verdict_has_a_colour():
    text = grid.terminal([three()], 90, True)
    assert "\x1b[32mbetter" in text
    assert "\x1b[" not in grid.terminal([three()], 90, False)
    assert "\x1b[3" not in next(line for line in text.splitlines() if "relu " in line)


def test_groups_that_do_not_fit_go_below():
    fields = [Field("lr", ["0.1", "0.01"])]
    for group, arm in enumerate(("relu", "elu", "gelu"), 1):
        fields += [
            Field(f"{arm}\nscore", [f"{group}1.00 ± 1.00"] * 2, group=group),
            Field(f"{arm}\ndead %", [f"{group}.0"] * 2, group=group),
        ]
    wide, narrow = (
        grid.terminal([Grid("t", tuple(fields))], width, False).splitlines() for width in (80, 50)
    )
    assert sum(line.lstrip().startswith("lr") for line in wide) == 1
    assert sum(line.lstrip().startswith("lr") for line in narrow) == 2
    for lines in (wide, narrow):
        assert sum(line.count("±") for line in lines) == 6
    # The columns of a group stay together.
    assert all(line.count("±") == line.count(".0 ") + line.endswith(".0") for line in narrow)
    # Its name stands above it once.
    assert " ".join(wide).count("relu") == 1


def test_long_names_are_broken_where_a_parameter_begins():
    fields = (Field("a", ["rrelu:lower=0.1,upper=0.3"], "left"), Field("b", ["1"]))
    lines = [line.split() for line in grid.terminal([Grid("t", fields)], 80, False).splitlines()]
    assert lines[-3:] == [["rrelu:", "1"], ["lower=0.1,"], ["upper=0.3"]]


def test_notes_are_said_once():
    text = grid.terminal([three(), three()], 90, False)
    assert text.count("About scores.") == 1
    assert text.count("data: a title") == 2
    assert three().notes == ["About scores.", "About costs."]


def test_markdown():
    fields = (Field("a\nb", ["x|y", "leaky_relu"], "left"), Field("c", ["<0.001", "*"]))
    text = grid.markdown(Grid("file*.csv: [a]", fields))
    assert text.splitlines() == [
        r"## file\*.csv: \[a\]",
        "",
        "| a b | c |",
        "| --- | ---: |",
        r"| x\|y | \<0.001 |",
        r"| leaky_relu | \* |",
    ]
    assert grid.markdown(three()).endswith("\n\nAbout scores. About costs.")


def test_a_table_without_rows():
    fields = (Field("a", []), Field("b", []))
    assert "a" in grid.terminal([Grid("t", fields)], 80, False)
    assert grid.markdown(Grid("t", fields)).endswith("| ---: | ---: |")
