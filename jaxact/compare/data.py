import dataclasses
import numpy as np
@dataclasses.dataclass(frozen=True)
class Column:
    name: str
    kind: str
    made: str
    note: str = ""
@dataclasses.dataclass(frozen=True)
class Dataset:
    features: np.ndarray
    targets: np.ndarray
    classes: tuple
    task: str
    source: str
    sha256: str | None = None
    target: str | None = None
    columns: tuple = ()
    @property
    def samples(self): return len(self.targets)
    @property
    def inputs(self): return self.features.shape[1]
@dataclasses.dataclass(frozen=True)
class Split:
    features: np.ndarray
    targets: np.ndarray
    classes: int
    sizes: tuple
    target_mean: float = 0.0
    target_scale: float = 1.0
    baseline: dict = dataclasses.field(default_factory=dict)
    @property
    def training(self): return slice(0, self.sizes[0])
    @property
    def validation(self): return slice(self.sizes[0], self.sizes[0] + self.sizes[1])
    @property
    def test(self): return slice(self.sizes[0] + self.sizes[1], sum(self.sizes))
def load(path=None, target=None, **k):
    from sklearn.datasets import load_digits
    if path is None:
        X, y = load_digits(return_X_y=True)
        return Dataset(X, y, tuple(map(str, range(10))), "classification", "digits")
    import pandas as pd
    t = pd.read_csv(path)
    c, i = np.unique(t.pop(target), return_inverse=True)
    return Dataset(t.to_numpy(float), i, tuple(map(str, c)), "classification", str(path), "x", target)
def split(d, index=0, samples=None):
    from sklearn.model_selection import train_test_split
    y = d.targets
    r, te = train_test_split(np.arange(len(y)), test_size=.2, stratify=y, random_state=index)
    tr, va = train_test_split(r, test_size=.25, stratify=y[r], random_state=index)
    if samples: tr = tr[:samples]
    o = np.concatenate([tr, va, te]); X = d.features; m = X[tr].mean(0); s = X[tr].std(0)
    F = ((X - m) / np.where(s > 0, s, 1)).astype(np.float32)[o]
    return Split(F, y[o].astype(np.int32), len(d.classes), (len(tr), len(va), len(te)), baseline={"accuracy": .1, "balanced_accuracy": .1})
def splits(d, count, samples=None): return [split(d, i, samples) for i in range(count)]
def columns_table(d): return ""
