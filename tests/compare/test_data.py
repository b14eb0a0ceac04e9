"""Tables as people have them, from a file to what is said of it."""

import gzip

import numpy as np
import pandas as pd
import pytest

from jaxact._errors import CompareError
from jaxact.compare.data import columns_table, load, split
from tests.support.tables import ROWS, made, numbers, table


def test_everything_that_is_wrong_is_told_at_once(tmp_path):
    """Infinite numbers, mistakes among numbers, and empty targets."""
    path = table(
        tmp_path,
        {
            "a": ["inf", *numbers()[1:]],
            "b": ["oops", "9" * 401, *numbers()[2:]],
            "kind": ["x", "", *["x", "y"] * 19],
        },
        target=False,
    )
    with pytest.raises(CompareError) as caught:
        load(path, "kind", drop=["aa"])
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        *("data.csv has 4 problems: (1) --drop aa: there is no such column",),
        *("the target 'kind' is empty in line 3", "column 'a' is not finite in line 2: inf"),
        "column 'b' has numbers, but not in line 2: 'oops'",
    ):
        assert part in message


def test_a_long_list_of_problems_ends(tmp_path):
    path = table(tmp_path, {f"c{i}": ["inf", *numbers()[1:]] for i in range(15)})
    with pytest.raises(CompareError, match=r"15 problems: .*\(10\) .*; and 5 more\.$"):
        load(path, "kind")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv.gz", b"no gzip", "is not a gzip file"),
        (
            "a.csv.gz",
            gzip.compress(b"a,kind\n" * 1000, mtime=0)[:-20],
            "is cut off|is not a gzip file",
        ),
        ("a.parquet", b"PAR1 nothing", "is not a Parquet file"),
        ("a.xlsx", b"", "the name must end in .csv, .tsv, .csv.gz"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CompareError, match=message):
        load(path, "kind")


def test_what_unpacks_to_too_much(tmp_path):
    """Before it is unpacked: of an archive by its directory, of gzip as soon as it is too much."""
    zeros = np.zeros((30, 40_000))
    np.savez_compressed(tmp_path / "a.npz", x=zeros, y=np.arange(30) % 3)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"1,2,3\n" * 2_000_000))
    pd.DataFrame({"x": np.zeros(1_000_000), "kind": 1}).to_parquet(tmp_path / "a.parquet")
    for name in ("a.npz", "a.csv.gz", "a.parquet"):
        assert (tmp_path / name).stat().st_size < 200_000
        with pytest.raises(CompareError, match="of memory, more than 1.0 MiB; allow more with"):
            load(tmp_path / name, "kind", max_memory=1 << 20)


def test_names_of_options(tmp_path):
    path = table(tmp_path, {"a": numbers(), "b": numbers()[::-1], "c": [1, 2] * 20})
    assert list(made(load(path, "kind", drop=["a"]))) == ["b", "c"]
    assert list(made(load(path, "kind", features=["c", "a"]))) == ["a", "c"]
    for options, message in (
        ({"drop": ["aa"]}, "--drop aa: there is no such column; did you mean 'a'?"),
        ({"features": ["kind"]}, "--features kind: is the target"),
        ({"drop": ["kind"]}, "--drop kind: is the target"),
        ({"task": "ranking"}, "task must be classification or regression, got 'ranking'"),
    ):
        with pytest.raises(CompareError, match=message.replace("?", r"\?")):
            load(path, "kind", **options)
    # A single name may be given as it is.
    assert list(made(load(path, "kind", drop="a"))) == ["b", "c"]
    with pytest.raises(CompareError, match="a: is in --features and in --drop"):
        load(path, "kind", features=["a", "b"], drop="a")
    for options in ({"target": "a"}, {"drop": ["a"]}, {"features": ["a"]}):
        with pytest.raises(CompareError, match="a has no file to look in"):
            load(None, **options)
    with pytest.raises(CompareError, match="needs --target, the column that is predicted: a, b, c"):
        load(path)


def test_the_table_of_columns(tmp_path):
    columns = {f"column number {i} of many": numbers() for i in range(45)}
    dataset = load(table(tmp_path, columns | {"id": list(range(ROWS))}), "kind")
    lines = columns_table(dataset).splitlines()
    assert lines[0] == "data.csv: 40 samples; kind is a classification target (names): 2 classes."
    assert len(lines) == 1 + 1 + 40 + 1
    assert lines[-1] == "… and 6 more columns: 5 number, 1 identifier"
    assert max(map(len, lines)) <= 80


def test_a_table_like_that_of_the_titanic(tmp_path):
    """Names, tickets, gaps and all, unedited."""
    rng = np.random.default_rng(0)
    n = 200
    frame = pd.DataFrame(
        {
            "PassengerId": np.arange(1, n + 1),
            "Survived": rng.integers(2, size=n),
            "Pclass": rng.integers(1, 4, size=n),
            "Name": [f"Braund, Mr. Owen {i}" for i in range(n)],
            "Sex": rng.choice(["male", "female"], n),
            "Age": np.where(rng.random(n) < 0.2, np.nan, rng.normal(30, 10, n).round(1)),
            "Ticket": [f"A/5 {i % 150}" for i in range(n)],
            "Fare": rng.exponential(30, n).round(4),
            "Cabin": np.where(rng.random(n) < 0.7, None, [f"C{rng.integers(10**3)}"] * n),
            "Embarked": rng.choice(["S", "C", "Q", None], n),
        }
    )
    frame.to_csv(tmp_path / "titanic.csv", index=False)
    dataset = load(tmp_path / "titanic.csv", "Survived")
    found = {c.name: c.kind for c in dataset.columns}
    assert found == {
        "PassengerId": "identifier",
        "Pclass": "number",
        "Name": "identifier",
        "Sex": "category",
        "Age": "number",
        "Ticket": "text",
        "Fare": "number",
        "Cabin": "category",
        "Embarked": "category",
    }
    assert dataset.classes == ("0", "1")
    assert np.isfinite(split(dataset).features).all()


def test_penguins(tmp_path):
    load_penguins = pytest.importorskip("palmerpenguins").load_penguins
    path = tmp_path / "penguins.csv"
    load_penguins().to_csv(path, index=False)
    dataset = load(path, "species")
    assert (dataset.samples, dataset.classes) == (344, ("Adelie", "Chinstrap", "Gentoo"))
    assert {c.name: c.kind for c in dataset.columns} == {
        **dict.fromkeys(("bill_length_mm", "bill_depth_mm", "flipper_length_mm"), "number"),
        **{"island": "category", "body_mass_g": "number", "sex": "category", "year": "number"},
    }
    assert split(dataset).features.shape == (344, 11)
