"""Tables as people have them: what is made of them, and what is refused."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes

from jaxact._errors import CompareError
from jaxact.compare.notation import to_numbers
from jaxact.compare.data import columns_table, load, split, splits

ROWS = 40


def table(tmp_path, columns, *, name="data.csv", delimiter=",", target=True, encoding="utf-8"):
    """A file with these columns, and a target "kind" of two classes."""
    columns = dict(columns)
    if target:
        columns["kind"] = ["x", "y"] * (ROWS // 2)
    rows = zip(*([str(v) for v in values] for values in columns.values()), strict=True)
    lines = [delimiter.join(columns), *(delimiter.join(row) for row in rows)]
    path = tmp_path / name
    content = "\n".join(lines).encode(encoding)
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def numbers(count=ROWS):
    return np.random.default_rng(0).normal(size=count).round(6).tolist()


def made(dataset):
    """What is made of each column: (kind, made)."""
    return {c.name: (c.kind, c.made) for c in dataset.columns}


def kinds(tmp_path, values, **options):
    """The kind of one column, beside another one of numbers."""
    path = table(tmp_path, {"a": values, "z": numbers()}, **options)
    return {c.name: c for c in load(path, "kind").columns}["a"]


# ------------------------------------------------------------------------------------------------
# Columns


@pytest.mark.parametrize(
    ("values", "kind", "note"),
    [
        (numbers(), "number", ""),  # no value is repeated: a measurement all the same
        ([i * i for i in range(ROWS)], "number", ""),
        ([*[1.5, 2.5, ""] * 13, 2], "number", "13 missing: median"),
        (["red", "green", "blue", "red"] * 10, "category", ""),
        (["red", "green", "", "red"] * 10, "category", "10 missing: a value of their own"),
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
    ],
)
def test_what_is_made_of_a_column(tmp_path, values, kind, note):
    found = kinds(tmp_path, values)
    assert found.kind == kind
    assert found.note.startswith(note)
    assert (found.made == "left out") == (kind in ("constant", "empty", "identifier", "text"))


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


@pytest.mark.parametrize(
    ("texts", "decimal_comma", "values"),
    [
        (["1", "-2.5", "1e3", ".5"], False, [1, -2.5, 1000, 0.5]),
        (["1,5", "-2,25", "3"], True, [1.5, -2.25, 3]),
        (["1.234,5", "12.345.678"], True, [1234.5, 12345678]),
        (["1,234", "1,234,567.5", "12"], False, [1234, 1234567.5, 12]),
        (["1,5"], False, [np.nan]),  # neither thousands nor a decimal comma of this file
        (["1_000", "0x10", "one"], False, [np.nan] * 3),
    ],
)
def test_numbers_as_they_are_written(texts, decimal_comma, values):
    found, right, _ = to_numbers(np.array(texts, object), decimal_comma=decimal_comma)
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(right, ~np.isnan(values))


# ------------------------------------------------------------------------------------------------
# Files


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(tmp_path, delimiter):
    path = table(tmp_path, {"a": numbers(), "b": numbers()[::-1]}, delimiter=delimiter)
    dataset = load(path, "kind")
    assert list(made(dataset)) == ["a", "b"]
    assert dataset.classes == ("x", "y")


def test_a_semicolon_file_with_decimal_commas(tmp_path):
    values = [f"{v:.3f}".replace(".", ",") for v in numbers()]
    path = table(tmp_path, {"a": values, "b": [1, 2, 3, 5] * 10}, delimiter=";")
    dataset = load(path, "kind")
    np.testing.assert_allclose(dataset.features[0].values, np.round(numbers(), 3))
    assert dataset.columns[0].note == "decimal comma"


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


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_arrays(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(30, 2, 3)), np.arange(30) % 3
    dataset = load(save(tmp_path / "a.npz", x=x, other=x[:, 0], y=y), "y")
    assert (dataset.inputs, dataset.classes) == (3 + 6, ("0", "1", "2"))
    assert split(dataset).features.shape == (30, 9)
    # A single array of images keeps its shape.
    images = load(save(tmp_path / "b.npz", x=x, y=y), "y")
    found = split(images).features
    assert found.shape == (30, 2, 3, 1)
    assert abs(found[:18].mean()) < 1e-6 and abs(found[:18].std() - 1) < 1e-6


def test_a_test_part_that_the_file_gives(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)), np.arange(50) % 2
    x[40:] += 100
    path = save(
        tmp_path / "a.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:, None]
    )
    dataset = load(path)
    for index in (0, 1):
        found = split(dataset, index)
        assert found.sizes == (30, 10, 10)
        assert (found.features[found.test] > 50).all()
        assert (found.features[:-10] < 50).all()


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


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "."), content)
    return path


def npy(array, shape=None):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    content = buffer.getvalue()
    if shape is not None:
        old, new = str(array.shape).encode(), str(shape).encode()
        content = content.replace(old + b", }" + b" " * (len(new) - len(old)), new + b", }")
    return content


def encrypted(path):
    archive(path, x__npy=npy(np.zeros(3)), y__npy=npy(np.arange(3)))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        struct.pack_into("<H", content, start + offset, 1)
    path.write_bytes(content)
    return path


Y = npy(np.arange(30) % 3)
HUGE = "is damaged: it says that it has"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b"") and p, "is not a NumPy archive"),
        (lambda p: p.write_bytes(b"PK\x03\x04 nothing") and p, "is not a NumPy archive"),
        (lambda p: p.write_bytes(npy(np.zeros(3))) and p, "holds a single array, not an archive"),
        (encrypted, "array 'x' is encrypted"),
        (lambda p: archive(p, notes__txt="hello", y__npy=Y), "'notes.txt' is no array"),
        (lambda p: archive(p, x__npy=b"no array", y__npy=Y), "array 'x' cannot be read"),
        (lambda p: archive(p, x__npy=b"", y__npy=Y), "array 'x' cannot be read"),
        (lambda p: archive(p, x__npy=npy(np.zeros(3), (1 << 49,)), y__npy=Y), f"'x' {HUGE} .*GiB"),
        (lambda p: archive(p, x__npy=npy(np.array([{}])), y__npy=Y), "has Python objects"),
        (lambda p: save(p, x=np.zeros((30, 2), complex), y=np.arange(30) % 3), "not numeric"),
        (lambda p: save(p, x=np.zeros((29, 2)), y=np.arange(30) % 3), "has 29 rows, the target"),
        (lambda p: save(p, x=np.float64(3), y=np.arange(30) % 3), "has no rows"),
        (lambda p: save(p, x=np.full((30, 2), np.inf), y=np.arange(30) % 3), "in 60 places in all"),
        (lambda p: save(p, x=np.ones((30, 2)), y=np.ones((30, 2))), "must have one dimension"),
        (lambda p: save(p, y=np.arange(30) % 3), "no array besides the target"),
        (lambda p: save(p, x=np.ones((30, 2)), y=np.ones(30) * 1j), "is complex"),
        (lambda p: save(p, x=np.ones((30, 2)), z=np.arange(30)), "has no array 'y'"),
    ],
)
def test_archives_that_cannot_be_used(tmp_path, make, message):
    path = tmp_path / "data.npz"
    make(path)
    with pytest.raises(CompareError, match=message) as caught:
        load(path, "y")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "data.csv is empty"),
        ("\n\n", "data.csv is empty"),
        ("a,kind\n", "has no rows below the header"),
        ("a,label,label\n1,x,y\n", "column 'label' is there 2 times; rename all but one"),
        ("a,a ,a,kind\n1,2,3,y\n", "column 'a' is there 3 times"),
        ("a,kind\n1,x\n1,x,7\n2,3,4,y\n", r"lines 3, 4 have more values than .* names \(2\)"),
        ("a,kind\n1,x\n", "no feature besides .*: 'a' is left out .constant: always 1."),
        ("a,kind\n1,x\n2,x\n", "only one class, 'x'"),
        ("kind\nx\ny\n", "there is no feature besides the target 'kind'"),
        ("a;kid\n1;x\n", r"has no column 'kind'; did you mean 'kid'\?. It has: a, kid"),
        ("a\0b,kind\n", "is not a text file"),
    ],
)
def test_texts_that_cannot_be_used(tmp_path, content, message):
    path = tmp_path / "data.csv"
    path.write_text(content)
    with pytest.raises(CompareError, match=message):
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
    for options in ({"target": "a"}, {"drop": ["a"]}, {"features": ["a"]}):
        with pytest.raises(CompareError, match="a has no file to look in"):
            load(None, **options)
    with pytest.raises(CompareError, match="needs --target, the column that is predicted: a, b, c"):
        load(path)


# ------------------------------------------------------------------------------------------------
# Targets


def target(tmp_path, values, **options):
    path = table(tmp_path, {"a": numbers(), "t": values}, target=False)
    return load(path, "t", **options)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["b", "a"] * 20, ("a", "b")),
        (["NA", "None", "nan", "x"] * 10, ("NA", "None", "nan", "x")),  # names, among names
        (["1", "0"] * 20, ("0", "1")),
        (["1.0", "0.0"] * 20, ("0", "1")),
        (["1", "1e19", "2e19", "1"] * 10, ("1", "1e+19", "2e+19")),
        (["True", "False"] * 20, ("False", "True")),
        ([str(10**30), str(10**30 + 1)] * 20, (str(10**30), str(10**30 + 1))),
    ],
)
def test_classes(tmp_path, values, classes):
    dataset = target(tmp_path, values)
    assert (dataset.task, dataset.classes) == ("classification", classes)
    found = [dataset.classes[i] for i in dataset.targets]
    assert len({(a, str(b)) for a, b in zip(found, values, strict=True)}) == len(classes)


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (numbers(), "regression"),
        ([i * i for i in range(ROWS)], "regression"),  # 40 different whole numbers
        ([0.5, 1.5] * 20, "regression"),
        ([1, 2, 3, 4] * 10, "classification"),
    ],
)
def test_the_task_is_inferred_and_said(tmp_path, values, task):
    dataset = target(tmp_path, values)
    assert dataset.task == task
    assert f"t is a {task} target ({dataset.task_reason})" in columns_table(dataset)


def test_the_task_can_be_said(tmp_path):
    assert target(tmp_path, [1, 2, 3, 4] * 10, task="regression").classes == ()
    assert target(tmp_path, [0.5, 1.5] * 20, task="classification").classes == ("0.5", "1.5")
    with pytest.raises(CompareError, match="has texts: a regression needs numbers"):
        target(tmp_path, ["a", "b"] * 20, task="regression")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([*["x", "y"] * 19, "", "x"], "target 't' is empty in line 40; remove these samples"),
        ([*[1, 2] * 19, "NA", ""], "target 't' is empty in lines 40, 41"),
        ([*numbers()[:-1], "inf"], "target 't' is not finite in line 41"),
        (["x"] * ROWS, "has only one class, 'x'"),
        ([f"c{i}" for i in range(ROWS)], "40 classes in 40 samples.* --task regression"),
        ([*["x", "y"] * 18, "z", "z", "z", "w"], "class 'w' with 1 samples, 'z' with 3 samples"),
        ([*[2.5] * ROWS], "is always 2.5: nothing to predict"),
    ],
)
def test_targets_that_cannot_be_used(tmp_path, values, message):
    with pytest.raises(CompareError, match=message):
        target(tmp_path, values)


def test_missing_among_classes_of_numbers(tmp_path):
    """A text such as "?" is a class, unless it is said to mean a missing value."""
    values = [*[1, 2] * 17, *["?"] * 6]
    assert target(tmp_path, values).classes == ("1", "2", "?")
    with pytest.raises(CompareError, match="is empty in lines 36, 37, 38 and 3 more"):
        target(tmp_path, values, missing=["?"])


# ------------------------------------------------------------------------------------------------
# Splits


def test_digits():
    dataset = load()
    one = split(dataset)
    assert one.sizes == (1077, 360, 360)
    assert one.features.dtype == np.float32
    training = one.features[one.training].astype(np.float64)
    np.testing.assert_allclose(training.mean(0), 0, atol=1e-6)
    spread = training.std(0)
    assert (np.isclose(spread, 1, atol=1e-5) | (spread < 1e-6)).all()
    assert one.baseline["accuracy"] == pytest.approx(0.1, abs=0.01)
    assert one.baseline["balanced_accuracy"] == pytest.approx(0.1)
    for part in (one.training, one.validation, one.test):
        counts = np.bincount(one.targets[part], minlength=10)
        assert counts.max() - counts.min() <= len(one.targets[part]) * 0.02
    again = split(load())
    np.testing.assert_array_equal(one.features, again.features)


def test_splits_differ_and_their_training_parts_are_nested(tmp_path):
    dataset = load()
    first, second = splits(dataset, 2)
    assert (first.targets != second.targets).any()
    few, more = split(dataset, samples=50), split(dataset, samples=100)
    assert few.sizes == (50, 360, 360)
    np.testing.assert_array_equal(few.targets[:50], more.targets[:50])
    np.testing.assert_array_equal(few.targets[50:], more.targets[100:])
    for samples in (1, 1078):
        with pytest.raises(CompareError, match=f"samples={samples}: there are 1077 training"):
            split(dataset, samples=samples)


def test_only_the_training_part_is_learned_from(tmp_path):
    """Means, medians and categories of other samples do not matter."""
    values, colours = numbers(), ["red", "green"] * 20
    path = table(tmp_path, {"a": values, "c": colours})
    before = split(load(path, "kind"))
    # Other values in what is not a training sample.
    order = np.argsort(before.features[:, 0])
    known = {round(float(v), 3) for v in before.features[before.training][:, 0]}
    z = (np.array(values) - np.mean(values)) / np.std(values)
    assert len(order) == len(z)
    changed, shades = list(values), list(colours)
    features = load(path, "kind").features[0].values
    training = np.isin(features, _training_values(before, features))
    for i in np.flatnonzero(~training):
        changed[i], shades[i] = 50.0 + i, "violet"
    after = split(load(table(tmp_path, {"a": changed, "c": shades}), "kind"))
    np.testing.assert_array_equal(before.features[before.training], after.features[after.training])
    assert (after.features[after.test][:, 0] > 10).all()
    assert (after.features[after.test][:, 1:] == 0).all()  # a category that nobody has seen
    assert known


def _training_values(found, values):
    """The values of the training samples, by their standardised ones."""
    standardised = found.features[:, 0].astype(np.float64)
    slope, offset = np.polyfit(np.sort(standardised), np.sort(values), 1)
    near = standardised[found.training] * slope + offset
    return [values[np.abs(values - v).argmin()] for v in near]


@pytest.mark.parametrize("factor", [1e300, 1e-200, 5e-324 * 2**20, 1.0])
def test_numbers_of_any_size(tmp_path, factor):
    """Standard deviations neither overflow nor vanish."""
    values = [repr(factor * v) for v in [3, 1, 4, 1, 5, 9, 2, 6] * 5]
    found = split(load(table(tmp_path, {"a": values}), "kind"))
    plain = split(load(table(tmp_path, {"a": [3, 1, 4, 1, 5, 9, 2, 6] * 5}), "kind"))
    np.testing.assert_allclose(found.features, plain.features, atol=1e-5)


def test_a_column_that_is_constant_in_the_training_part(tmp_path):
    """0.1, but for one sample of the test part: not divided by a rounding error."""
    path = table(tmp_path, {"a": ["0.1"] * ROWS, "z": numbers()})
    rows = path.read_text().splitlines()
    order = split(load(table(tmp_path, {"z": numbers()}), "kind"))
    values = np.array(numbers())
    last = int(
        np.abs(values - _training_values(order, values)[0]).argmin()
    )  # any sample will do: all places are tried
    for row in (last, 3, 17, 30):
        changed = list(rows)
        changed[row + 1] = changed[row + 1].replace("0.1,", "0.2,", 1)
        path.write_text("\n".join(changed))
        found = split(load(path, "kind")).features
        assert np.abs(found).max() < 10


def test_outliers_that_float32_cannot_hold(tmp_path):
    x = np.full((40, 1), 1e-30) * np.random.default_rng(0).normal(size=(40, 1))
    y = np.arange(40) % 2
    arrays = {"x_train": x, "y_train": y, "x_test": x[:10] + 1e300, "y_test": y[:10]}
    with pytest.raises(CompareError, match="too large to standardise in float32"):
        split(load(save(tmp_path / "a.npz", **arrays)))


def test_categories_of_some_splits_only(tmp_path):
    """All splits have the same width."""
    colours = ["red"] * 36 + ["green", "blue", "violet", "pink"]
    dataset = load(table(tmp_path, {"a": numbers(), "c": colours}), "kind")
    widths = {split(dataset, i).features.shape[1] for i in range(6)}
    assert len(widths) > 1
    assert {one.features.shape[1] for one in splits(dataset, 6)} == {max(widths)}


def test_a_regression(tmp_path):
    frame = load_diabetes(as_frame=True).frame
    dataset = load(frame, "target")
    assert (dataset.task, dataset.classes, dataset.inputs) == ("regression", (), 10)
    found = split(dataset)
    assert found.classes == 0 and found.targets.dtype == np.float32
    training = found.targets[found.training].astype(np.float64)
    assert abs(training.mean()) < 1e-6 and abs(training.std() - 1) < 1e-6
    own_units = found.targets * found.target_scale + found.target_mean
    np.testing.assert_allclose(np.sort(own_units), np.sort(frame["target"]), rtol=1e-4)
    test = own_units[found.test]
    errors = (test - own_units[found.training].mean()) ** 2
    assert found.baseline["rmse"] == pytest.approx(errors.mean() ** 0.5, rel=1e-4)
    assert found.baseline["r2"] == pytest.approx(1 - errors.mean() / test.var(), abs=1e-4)


def test_a_target_of_huge_numbers(tmp_path):
    found = split(target(tmp_path, [repr(v * 1e300) for v in numbers()]))
    assert np.isfinite(found.targets).all()
    assert found.target_scale > 1e299


def test_the_table_of_columns(tmp_path):
    columns = {f"column number {i} of many": numbers() for i in range(45)}
    dataset = load(table(tmp_path, columns | {"id": list(range(ROWS))}), "kind")
    lines = columns_table(dataset).splitlines()
    assert lines[0] == "data.csv: 40 samples; kind is a classification target (names): 2 classes."
    assert len(lines) == 1 + 1 + 40 + 1
    assert lines[-1] == "… and 6 more columns: 5 number, 1 identifier"
    assert max(map(len, lines)) <= 80


# ------------------------------------------------------------------------------------------------
# Real tables


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
