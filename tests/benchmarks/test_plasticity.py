"""What the benchmark of plasticity saves."""

import json

import numpy as np
import pytest

from benchmarks import plasticity, results


def test_a_curve_is_of_equal_parts():
    np.testing.assert_allclose(plasticity.curve(np.arange(40.0)), 2 * np.arange(20) + 0.5)
    np.testing.assert_allclose(plasticity.curve(np.arange(3.0)), np.arange(3))


@pytest.mark.slow
@pytest.mark.parametrize("part", plasticity.PARTS)
def test_saved(monkeypatch, tmp_path, part):
    """Of a linear learner, which has no units, and the seeds' numbers and curves."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    learners = part.upper()
    monkeypatch.setattr(plasticity, learners, getattr(plasticity, learners)[-1:])
    plasticity.main(["--quick", "--save", "--only", part])
    (path,) = tmp_path.glob("*.json")
    assert path.stem == f"plasticity_{part}"
    saved = json.loads(path.read_text())
    assert saved["command"].endswith(f"--only {part}")
    ((name, figures),) = saved["figures"].items()
    assert name == "linear"
    runs = plasticity.QUICK[plasticity.PARTS.index(part)].runs
    for quantity, values in figures.items():
        assert np.isfinite(values).all()
        if quantity.endswith("by time"):
            assert all(low <= mean <= high for mean, low, high in values)
        else:
            assert len(values) == runs
        if quantity.startswith("dead"):
            assert not np.any(values)
