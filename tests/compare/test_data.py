import hashlib
import zipfile
import zlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxact.compare import CompareError, load
from jaxact.compare.data import SAMPLES_PER_CLASS, Dataset, split

ROWS = [f"{i},{i * i / 7},{'uv'[i % 2]}" for i in range(20)]
HEADER = "a,b,kind"


def csv(tmp_path, lines, name="data.csv"):
    path = tmp_path / name
    path.write_text("\n".join([HEADER, *lines]) if isinstance(lines, list) else lines)
    return path


def npz(tmp_path, **arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


def test_digits():
    dataset = load()
    features, labels = load_digits(return_X_y=True)
    np.testing.assert_array_equal(dataset.features, features)
    np.testing.assert_array_equal(dataset.labels, labels)
    assert (dataset.source, dataset.sha256, dataset.target) == ("digits", None, None)


def test_csv(tmp_path):
    path = csv(tmp_path, ROWS)
    dataset = load(path, "kind")
    np.testing.assert_allclose(dataset.features, [[i, i * i / 7] for i in range(20)])
    assert [dataset.classes[k] for k in dataset.labels] == ["u", "v"] * 10
    assert dataset.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (dataset.source, dataset.target) == ("data.csv", "kind")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9"], ("9", "10")),  # in numeric order
        (["1.0", "0.0"], ("0", "1")),
        (["True", "False"], ("False", "True")),
    ],
)
def test_csv_targets(tmp_path, labels, classes):
    path = csv(tmp_path, [f"{i},1,{labels[i % 2]}" for i in range(20)])
    dataset = load(path, "kind")
    assert dataset.classes == classes
    assert [dataset.classes[k] for k in dataset.labels[:2]] == [
        c.removesuffix(".0") for c in labels
    ]


def test_csv_bool_features_count_as_numbers(tmp_path):
    path = csv(tmp_path, [f"{i % 3 == 0},{i},{i % 2}" for i in range(20)])
    np.testing.assert_array_equal(load(path, "kind").features[:4, 0], [1, 0, 0, 1])


def test_npz_flattens_the_arrays_in_the_order_of_their_names(tmp_path):
    second, first = np.arange(80.0).reshape(20, 2, 2), np.arange(20, dtype=np.int8)
    path = npz(tmp_path, second=second, first=first, label=np.arange(20) % 2)
    dataset = load(path, "label")
    np.testing.assert_array_equal(
        dataset.features, np.concatenate([first[:, None], second.reshape(20, 4)], 1)
    )
    assert dataset.classes == ("0", "1")


@pytest.mark.parametrize(
    ("lines", "target", "message"),
    [
        (ROWS, None, r"needs --target, the column of the classes: a, b, kind\."),
        (ROWS, "kimd", r"has no column 'kimd'\. Did you mean 'kind'\? It has: a, b, kind\."),
        ([*ROWS[:4], "1,oops,u"], "kind", r"'b' is not numeric: data row 5 \(line 6 .*'oops'"),
        ([*ROWS[:4], "1,,u"], "kind", r"'b' is incomplete: data row 5 \(line 6 .* empty or NaN"),
        ([*ROWS[:4], "nan,1,u"], "kind", r"'a' is incomplete: data row 5 \(line 6 .* or NaN"),
        ([*ROWS[:4], "1,-inf,u"], "kind", r"'b' is not finite: data row 5 \(line 6 .*'-inf'"),
        ([*ROWS[:4], "1,2,"], "kind", r"target 'kind' is empty or NaN in data row 5 \(line 6 "),
        (["", *ROWS[:4], "", "1,,u"], "kind", r"data row 5 \(line 8 of the file\)"),
        (["1,x,u", "1,oops,u"], "kind", r"'b' is not numeric: data row 1 \(line 2 .*'x'"),
        ([f"{'long' * 50_000},1,u"], "kind", r"'a' is not numeric: data row 1 \(line 2 of the"),
        (["1,2,'u\n'".replace("'", '"'), "1,,u"], "kind", r"data row 2 \(line 4 of the file\)"),
        (ROWS, "b", r"'b' is continuous \(for example 0\.142857\); only classification"),
        ([*ROWS, "1,2,3,4"], "kind", r"not a CSV file that can be read: .*line 22, saw 4"),
        (["1,2,3,4"], "kind", r"the rows have more values than the header has names"),
        ("", "kind", r"not a CSV file that can be read: No columns"),
        (HEADER, "kind", r"has no rows below the header"),
        ("kind\n1\n2", "kind", r"has no column besides the target 'kind'"),
        (",b,kind\n1,2,3", "kind", r"column 1 has no name \(an exported row number\?\)"),
        ([f"{i},1,u" for i in range(9)], "kind", r"only one class, 'u'; at least two"),
        ([f"1,2,{i}" for i in range(9)], "kind", r"9 classes in 9 samples, fewer than the 5 "),
        (ROWS + ["1,2,rare"] * 4, "kind", r"class 'rare' with 4 samples; .* needs 5 of each"),
    ],
)
def test_bad_csv(tmp_path, lines, target, message):
    with pytest.raises(CompareError, match=message):
        load(csv(tmp_path, lines), target)


X, Y = np.ones((20, 3)), np.arange(20) % 2
WITH_NAN = X.copy()
WITH_NAN[6, 1] = np.nan


@pytest.mark.parametrize(
    ("arrays", "target", "message"),
    [
        ({"x": X, "y": Y}, None, r"needs --target, the array of the classes: x, y"),
        ({"x": X, "label": Y}, "lable", r"no array 'lable'\. Did you mean 'label'\?"),
        ({"x": X, "z": X[:7], "y": Y}, "y", r"array 'z' has 7 rows, the target 'y' has 20"),
        ({"x": X, "z": 3.0, "y": Y}, "y", r"array 'z' has no rows, the target 'y' has 20"),
        ({"x": WITH_NAN, "y": Y}, "y", r"array 'x' is nan in row 7, column 2"),
        ({"x": X.astype(str), "y": Y}, "y", r"array 'x' is not numeric \(its dtype is <U"),
        ({"x": X * 1j, "y": Y}, "y", r"array 'x' is not numeric \(its dtype is complex128\)"),
        ({"x": X.astype(object), "y": Y}, "y", r"array 'x' has Python objects"),
        ({"x": X, "y": np.stack([Y, Y])}, "y", r"one dimension.* its shape is \(2, 20\)"),
        ({"x": X, "y": np.where(Y, np.nan, 1)}, "y", r"target 'y' is nan in row 2"),
        ({"x": X, "y": Y + 0.5}, "y", r"target 'y' is continuous \(for example 0\.5\)"),
        ({"x": X, "y": Y * 1j}, "y", r"target 'y' is complex"),
        ({"y": Y}, "y", r"no array besides the target 'y'"),
        ({"x": X[:, :0], "y": Y}, "y", r"has no features"),
        ({"x": X[:0], "y": Y[:0]}, "y", r"has no samples"),
        ({"x": X, "y": Y * 0}, "y", r"only one class, '0'"),
    ],
)
def test_bad_npz(tmp_path, arrays, target, message):
    with pytest.raises(CompareError, match=message):
        load(npz(tmp_path, **arrays), target)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_archives(tmp_path, save):
    """Whatever NumPy, zipfile and zlib find wrong with single bytes of a file."""
    path = tmp_path / "data.npz"
    save(path, x=np.arange(40.0).reshape(20, 2), y=Y)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    causes = set()
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            load(path, "y")
        except CompareError as error:
            causes.add(type(error.__cause__))
    assert {NotImplementedError, zipfile.BadZipFile} <= causes
    assert (zlib.error in causes) == (save is np.savez_compressed)


def test_bad_files(tmp_path):
    with pytest.raises(CompareError, match=r"no\.csv: there is no such file"):
        load(tmp_path / "no.csv", "kind")
    with pytest.raises(CompareError, match=r"data\.txt: the name must end in \.csv or \.npz"):
        load(csv(tmp_path, ROWS, "data.txt"), "kind")
    with pytest.raises(CompareError, match=r"fake\.npz is not a NumPy archive"):
        load(csv(tmp_path, ROWS, "fake.npz"), "kind")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(CompareError, match=r"folder\.csv: cannot be read \(Is a directory\)"):
        load(tmp_path / "folder.csv", "kind")
    np.save(tmp_path / "single.npy", X)
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    with pytest.raises(CompareError, match=r"holds a single array, not an archive"):
        load(tmp_path / "single.npz", "kind")
    (tmp_path / "latin.csv").write_bytes("a,kind\n1,é".encode("latin-1"))
    with pytest.raises(CompareError, match=r"latin\.csv is not a CSV file .*utf-8"):
        load(tmp_path / "latin.csv", "kind")
    with pytest.raises(CompareError, match=r"--target kind has no file to look in"):
        load(None, "kind")


def test_split_is_stratified_fixed_and_complete():
    dataset = load()
    first, second = split(dataset), split(dataset)
    np.testing.assert_array_equal(first.features, second.features)
    assert sum(first.sizes) == len(dataset.labels)
    assert first.sizes == (1077, 360, 360)
    total = np.bincount(dataset.labels) / len(dataset.labels)
    for part in (first.training, first.validation, first.test):
        share = np.bincount(first.labels[part]) / len(first.labels[part])
        np.testing.assert_allclose(share, total, atol=0.005)
    np.testing.assert_array_equal(np.bincount(first.labels), np.bincount(dataset.labels))


def test_split_gives_every_class_to_every_part():
    labels = np.repeat([0, 1, 2], [SAMPLES_PER_CLASS, 200, SAMPLES_PER_CLASS]).astype(np.int32)
    data = split(Dataset(np.zeros((len(labels), 1)), labels, ("a", "b", "c"), "test"))
    for part in (data.training, data.validation, data.test):
        assert set(data.labels[part]) == {0, 1, 2}


def test_features_are_standardised_with_the_training_samples_only():
    rng = np.random.default_rng(0)
    features = np.stack([rng.normal(5, 3, 50), np.full(50, 7.0), rng.normal(0, 1e-6, 50)], 1)
    features[:, 0] += 100 * (np.arange(50) == 0)
    data = split(Dataset(features, np.arange(50, dtype=np.int32) % 2, ("a", "b"), "test"))
    training = data.features[data.training]
    np.testing.assert_allclose(training.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(training.std(0), [1, 0, 1], atol=1e-5)
    assert abs(data.features.mean(0)[2]) > 1e-3
    # The other samples' original values come back by the same shift and scale.
    order = np.argsort(data.features[:, 0])
    np.testing.assert_allclose(
        np.diff(np.sort(features[:, 0])) / np.diff(data.features[order, 0]),
        np.full(49, np.ptp(features[:, 0]) / np.ptp(data.features[:, 0])),
        rtol=1e-2,
    )


def test_values_too_large_to_standardise():
    features = np.where(np.arange(50) == 0, 1e300, 1.0)[:, None] * [1.0]
    labels = np.arange(50, dtype=np.int32) % 2
    features = np.concatenate([np.arange(50.0)[:, None], features * 1e8], 1)
    with pytest.raises(CompareError, match="feature 2 has values too large to standardise"):
        split(Dataset(features, labels, ("a", "b"), "test"))
