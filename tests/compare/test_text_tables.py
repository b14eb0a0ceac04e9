"""Files of text: what separates columns, encodings, quotes, rows that do not fit."""

import gzip

import numpy as np
import pytest

from jaxact._errors import CompareError
from jaxact.compare.data import load
from tests.support.tables import ROWS, made, numbers, table, text


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(tmp_path, delimiter):
    path = table(tmp_path, {"a": numbers(), "b": numbers()[::-1]}, delimiter=delimiter)
    dataset = load(path, "kind")
    assert list(made(dataset)) == ["a", "b"]
    assert dataset.classes == ("x", "y")


@pytest.mark.parametrize("name", ["data.tsv", "data.csv.gz", "DATA.CSV", "data.txt"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_names_and_encodings(tmp_path, name, encoding):
    delimiter = "\t" if name.endswith(".tsv") else ","
    path = table(tmp_path, {"größe": numbers()}, name=name, delimiter=delimiter, encoding=encoding)
    assert list(made(load(path, "kind"))) == ["größe"]


def test_quoted_values(tmp_path):
    """Delimiters and newlines inside of quotes, and lines that count them."""
    rows = [f'"a, {i % 3}\nsecond line",{v},{"xy"[i % 2]}' for i, v in enumerate(numbers())]
    path = tmp_path / "data.csv"
    path.write_text("\n".join(["text,b,kind", *rows]))
    assert made(load(path, "kind"))["text"] == ("category", "3 values, a column each")
    rows[5] = '"a, 1\nsecond line",oops,x'
    path.write_text("\n".join(["text,b,kind", *rows]))
    with pytest.raises(CompareError, match="'b' has numbers, but not in line 12: 'oops'; mend"):
        load(path, "kind")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "data.csv is empty"),
        ("\n\n", "data.csv is empty"),
        ("a,kind\n", "has no rows below the header"),
        ("a,label,label\n1,x,y\n", "column 'label' is there 2 times; rename all but one"),
        ("a,a ,a,kind\n1,2,3,y\n", "column 'a' is there 3 times"),
        ("a,kind\n1,x\n1,x,7\n2,3,4,y\n", r"lines 3, 4 have more values than .* names \(2\)"),
        ("a,kind\n1,x\n2\n3,y\n", r"line 3 has fewer values than there are names \(2\)"),
        ("a,kind\n1,2,3,x\n1,2,3,y\n", "header has 2 names, but most rows have 4 values"),
        ("5.1,0.2,1,x\n4.9,0.3,1,y\n", r"the first line has values \(5.1, 0.2\), not names"),
        ("0,1,0,x\n4,5,6,y\n", r"the first line has values \(0, 0\), not names"),
        ('a,kind\n1,x\n"2,y\n3,x\n', "in line 3 a quote is opened that is never closed"),
        ("a b kind\n1 2 x\n", "columns must be separated by commas, semicolons, tabs or |"),
        ("a,kind\n1,x\n", "no feature besides .*: 'a' is left out .constant: always 1."),
        ("a,kind\n1,x\n2,x\n", "only one class, 'x'"),
        ("kind\nx\ny\n", "there is no feature besides the target 'kind'"),
        ("a;kid\n1;x\n", r"has no column 'kind'. Did you mean 'kid'\? It has: a, kid"),
        ("a\0b,kind\n", "is not a text file"),
    ],
)
def test_texts_that_cannot_be_used(tmp_path, content, message):
    path = tmp_path / "data.csv"
    path.write_text(content)
    with pytest.raises(CompareError, match=message):
        load(path, "kind")


def test_rows_that_do_not_fit_do_not_hide_other_problems(tmp_path):
    rows = [f"{v},{i % 3},{'xy'[i % 2]}" for i, v in enumerate(numbers())]
    rows[3], rows[7], rows[9] = "1,2,3,x", "inf,2,y", "1"
    path = text(tmp_path, ["a,b,b", *rows])
    with pytest.raises(CompareError) as caught:
        load(path, "kind")
    assert str(caught.value) == (
        "data.csv has 4 problems: (1) column 'b' is there 2 times; rename all but one; "
        "(2) line 5 has more values than there are names (3); quote values that contain ','; "
        "(3) line 11 has fewer values than there are names (3); (4) there is no column 'kind'."
    )
    with pytest.raises(CompareError, match="has 4 problems: .*'a' is not finite in line 9: inf"):
        load(text(tmp_path, ["a,b,b", *rows]), "b")


def test_names_of_rows_that_the_header_leaves_out(tmp_path):
    """As R writes them: the header is one name short."""
    rows = [f"r{i},{v},{'xy'[i % 2]}" for i, v in enumerate(numbers())]
    dataset = load(text(tmp_path, ["a,kind", *rows]), "kind")
    assert made(dataset) == {
        "column 1": ("identifier", "left out"),
        "a": ("number", "standardised"),
    }
    np.testing.assert_array_equal(dataset.features[0].values, numbers())


def test_rows_that_end_in_a_delimiter(tmp_path):
    rows = [f"{v},{'xy'[i % 2]}," for i, v in enumerate(numbers())]
    dataset = load(text(tmp_path, ["a,kind", *rows]), "kind")
    assert made(dataset) == {"a": ("number", "standardised"), "column 3": ("empty", "left out")}


def test_what_excel_writes(tmp_path):
    """A line that says the delimiter, and rows without values at the end; lines count both."""
    rows = [f"{v};{'xy'[i % 2]}" for i, v in enumerate(numbers())]
    path = text(tmp_path, ["sep=;", "a;kind", *rows, ";", ";", ""])
    dataset = load(path, "kind")
    assert dataset.samples == ROWS
    np.testing.assert_array_equal(dataset.features[0].values, numbers())
    rows[5] = "oops;x"
    with pytest.raises(CompareError, match="not in line 8: 'oops'"):
        load(text(tmp_path, ["sep=;", "a;kind", *rows]), "kind")


def test_a_made_up_name_that_another_column_has(tmp_path):
    path = table(tmp_path, {"": numbers(), "column 1": numbers()[::-1]})
    assert list(made(load(path, "kind"))) == ["column 1_", "column 1"]


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_ends_of_lines(tmp_path, newline):
    path = table(tmp_path, {"a": numbers()})
    path.write_bytes(path.read_bytes().replace(b"\n", newline.encode()))
    np.testing.assert_array_equal(load(path, "kind").features[0].values, numbers())


def test_packed_one_behind_another(tmp_path):
    path = table(tmp_path, {"a": numbers()})
    half = len(path.read_bytes()) // 2
    parts = path.read_bytes()[:half], path.read_bytes()[half:]
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(b"".join(gzip.compress(part, mtime=0) for part in parts))
    np.testing.assert_array_equal(load(packed, "kind").features[0].values, numbers())


def test_texts_take_memory(tmp_path):
    """More than their file does; numbers take less."""
    words, measured = [f"w{i % 9}" for i in range(4000)], numbers(4000)
    kind = ["x", "y"] * 2000
    path = table(tmp_path, {f"c{i}": words for i in range(9)} | {"kind": kind}, target=False)
    with pytest.raises(CompareError, match="of memory, more than 2.0 MiB"):
        load(path, "kind", max_memory=2 << 20)
    path = table(tmp_path, {f"c{i}": measured for i in range(9)} | {"kind": kind}, target=False)
    assert load(path, "kind", max_memory=2 << 20).samples == 4000
