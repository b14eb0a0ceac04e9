"""Arms and seeds spread over devices and processes: the same figures, and nothing in between."""

import dataclasses
import functools
import json
import re
import sys
import threading
import types

import jax
import numpy as np
import pytest

import jaxact
from jaxact import cli
from jaxact._errors import CompareError
from jaxact.compare import devices, processes, results, run
from jaxact.compare.data import load
from jaxact.compare.devices import Part, join, plan, train_parts
from jaxact.compare.settings import Settings
from jaxact.compare.study import Study
from jaxact.compare.training import Trainer, figures, programs, train
from tests.support.processes import finished, free_address
from tests.support.training import blobs

SETTINGS = Settings(
    activations=("relu", "rrelu", "prelu"), seeds=4, epochs=3, widths=(6,), batch_size=16
)
COLLECTIVES = re.compile(
    r"all-reduce|all-gather|all-to-all|collective|reduce-scatter|\bsend\b|\brecv\b"
)


def program(activation, **changes):
    """All networks of one activation."""
    settings = dataclasses.replace(SETTINGS, activations=(activation,), **changes)
    (one,) = programs(settings, settings.cells)
    return one


@functools.cache
def alone(activation):
    """All seeds on one device."""
    return train(program(activation), [blobs()])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "blobs.csv"
    rows = [
        ",".join(map(str, [*x, f"class {y}"]))
        for x, y in zip(blobs().features, blobs().targets, strict=True)
    ]
    path.write_text("\n".join(["a,b,c,d,kind", *rows]))
    return load(path, "kind")


def fake_devices(processes, local):
    """Devices as `plan` sees them, the last first."""
    return [
        types.SimpleNamespace(process_index=p, id=10 * p + i)
        for p in reversed(range(processes))
        for i in reversed(range(local))
    ]


def shape(parts):
    return [
        (p.program.activation, p.process, (p.positions.start, p.positions.stop), len(p.devices))
        for p in parts
    ]


def assert_close(one, other):
    """Figures of the same networks, whose sums XLA may order by how many share a device.

    Accuracies count samples: they are equal unless one lies on the boundary of two classes.
    """
    assert one.keys() == other.keys()
    for cell in one:
        a, b = one[cell], other[cell]
        np.testing.assert_array_equal(a.best_epoch, b.best_epoch)
        np.testing.assert_array_equal(a.dead_units_percent, b.dead_units_percent)
        np.testing.assert_allclose(a.final_train_loss, b.final_train_loss, rtol=1e-5)
        for name, score in a.scores.items():
            np.testing.assert_allclose(score, b.scores[name], atol=1e-6)
        for name, curve in a.curves.items():
            np.testing.assert_allclose(curve, b.curves[name], rtol=1e-5)


@pytest.mark.parametrize(
    ("arms", "seeds", "processes", "local", "expected"),
    [
        (3, 16, 1, 1, [("a0", 0, (0, 16), 1)]),
        # As many arms at once as divide the devices evenly.
        (7, 16, 1, 8, [(f"a{i}", 0, (0, 16), 2) for i in range(4)]),
        (3, 16, 1, 8, [(f"a{i}", 0, (0, 16), 4) for i in range(2)]),
        (1, 16, 1, 8, [("a0", 0, (0, 16), 8)]),
        (9, 1, 1, 8, [(f"a{i}", 0, (0, 1), 1) for i in range(8)]),
        # Filling, and no device that has nothing else.
        (1, 16, 1, 6, [("a0", 0, (0, 18), 6)]),
        (1, 5, 1, 4, [("a0", 0, (0, 6), 3)]),
        (1, 3, 1, 8, [("a0", 0, (0, 3), 3)]),
        # Several processes: arms first, seeds where there are fewer arms.
        (2, 8, 2, 4, [("a0", 0, (0, 8), 4), ("a1", 1, (0, 8), 4)]),
        (1, 8, 2, 4, [("a0", 0, (0, 4), 4), ("a0", 1, (4, 8), 4)]),
        (1, 3, 2, 1, [("a0", 0, (0, 2), 1), ("a0", 1, (2, 4), 1)]),
        (1, 1, 2, 1, [("a0", 0, (0, 1), 1)]),
        (
            *(3, 3, 2, 3),
            [
                *[("a0", 0, (0, 4), 2), ("a1", 0, (0, 2), 1), ("a1", 1, (2, 4), 1)],
                ("a2", 1, (0, 4), 2),
            ],
        ),
    ],
)
def test_plan(arms, seeds, processes, local, expected):
    todo = [types.SimpleNamespace(activation=f"a{i}", networks=seeds) for i in range(arms)]
    parts = plan(todo, fake_devices(processes, local))
    assert shape(parts) == expected
    used = [d.id for part in parts for d in part.devices]
    assert used == sorted(set(used))


@pytest.mark.slow
def test_one_and_all_devices_give_the_same_figures(tmp_path, dataset):
    assert jax.device_count() == 8
    done, doing = [], []

    def progress(labels, share):
        doing.append(labels)
        done.append(share)

    found = run.compare(SETTINGS, dataset, tmp_path, progress=progress)
    study = found.studies[0]
    assert [cell.label for cell in study.figures] == list(SETTINGS.activations)
    one_device = {}
    for one in programs(SETTINGS, SETTINGS.cells):
        one_device |= figures(one, train(one, run.splits(dataset, 1)))
    assert_close(one_device, study.figures)
    # Two arms at once, and then the third; then what they cost.
    assert list(dict.fromkeys(doing)) == [
        *(("relu", "rrelu"), ("prelu",), ("the cost of a step",), ()),
    ]
    assert done == sorted(done)
    assert done[-1] == 1


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices(tmp_path, monkeypatch, dataset):
    settings = dataclasses.replace(SETTINGS, activations=("relu", "prelu"))
    all_devices = devices.plan

    def one_device(programs):
        return all_devices(programs, jax.devices()[:1])

    def progress(doing, share):
        if share == 0.5 and "prelu" in doing:
            raise KeyboardInterrupt

    monkeypatch.setattr(devices, "plan", one_device)
    with pytest.raises(KeyboardInterrupt):
        run.compare(settings, dataset, tmp_path, progress=progress)
    assert list(json.loads((tmp_path / "results.json").read_text())["arms"]) == ["relu"]
    monkeypatch.undo()
    found = run.compare(settings, dataset, tmp_path).studies[0]
    one_device_figures = {}
    for one in programs(settings, settings.cells):
        one_device_figures |= figures(one, train(one, run.splits(dataset, 1)))
    assert_close(one_device_figures, found.figures)


@pytest.mark.parametrize("activation", ["rrelu", pytest.param("prelu", marks=pytest.mark.slow)])
def test_nothing_is_communicated(activation):
    trainer = Trainer(program(activation, seeds=16), [blobs()], range(16), jax.devices())
    state = trainer.init()
    samples = (trainer.features, trainer.targets)
    batches = trainer.batches(0)
    operands = (batches, np.int32(0), trainer.rates, *samples)
    compiled = [
        trainer.step.lower(state, *operands),
        trainer._evaluate.lower(state.network, *samples),
        trainer._watch.lower(state.network, *samples),
    ]
    for text in (c.compile().as_text() for c in compiled):
        assert "num_partitions=8" in text
        assert not COLLECTIVES.findall(text)
    after = trainer.step(state, *operands)
    for leaf in jax.tree.leaves(after):
        assert leaf.sharding.spec == jax.sharding.PartitionSpec(None, "members")
        assert [s.data.shape[1] for s in leaf.addressable_shards] == [2] * 8
    trainer.step(after, *operands)
    assert trainer.step._cache_size() == 1
    assert batches.sharding.shard_shape(batches.shape) == (5, 1, 2, 16)


@pytest.mark.slow
def test_filling_is_thrown_away():
    three = program("rrelu", seeds=3)
    parts = plan([three], jax.devices()[:2])
    assert parts == [Part(three, range(4), tuple(jax.devices()[:2]))]
    (filled,) = train_parts(parts, lambda samples: [blobs()], lambda program, epoch: None)
    assert filled.history["test_accuracy"].shape == (1, 4, 3)
    whole = figures(three, train(three, [blobs()]))
    assert_close(whole, figures(three, join(three, [filled])))


def test_parts_of_two_processes_join():
    prelu = program("prelu")
    first, second = (
        train(prelu, [blobs()], positions=positions, devices=jax.devices()[i : i + 1])
        for i, positions in enumerate((range(2), range(2, 4)))
    )
    joined = join(prelu, [first, second])
    assert_close(figures(prelu, alone("prelu")), figures(prelu, joined))
    assert joined.seconds == max(first.seconds, second.seconds)


def two_parts():
    return [
        Part(program(a), range(1), (d,))
        for a, d in zip(("relu", "elu"), jax.devices(), strict=False)
    ]


def no_data(samples):
    return []


def test_contexts_reach_the_threads():
    found = []

    def seen(*arguments):
        found.append((devices.context.current().residual, jax.config.jax_default_matmul_precision))
        assert threading.current_thread() is not threading.main_thread()

    with jaxact.autodiff(residual="quantized"), jax.default_matmul_precision("highest"):
        train_parts(two_parts(), no_data, lambda program, epoch: None, seen)
    assert found == [("quantized", "highest")] * 2


def test_one_part_trains_in_no_thread():
    """So that an interruption ends it at once."""
    found = []

    def seen(*arguments):
        found.append(threading.current_thread())

    train_parts(two_parts()[:1], no_data, lambda program, epoch: None, seen)
    assert found == [threading.main_thread()]


def test_an_error_in_a_thread_ends_the_others():
    other_runs = threading.Event()

    def one_fails(program, data, on_epoch, *rest):
        if program.activation == "elu":
            assert other_runs.wait(10)
            raise MemoryError("too large")
        while True:
            on_epoch(1)
            other_runs.set()

    with pytest.raises(MemoryError, match="too large"):
        train_parts(two_parts(), no_data, lambda program, epoch: None, one_fails)


# ------------------------------------------------------------------------------------------------
# Processes


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(("compare", *arguments))
    output = capsys.readouterr()
    return caught.value.code, output.out, output.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes", "2"], "--coordinator, --processes and --process belong together"),
        (["--process", "0"], "--coordinator, --processes and --process belong together"),
        (["--coordinator", "a:1", "--processes", "2", "--process", "2"], "must be from 0 to 1"),
        (["--distributed"], "cannot join the other processes: .* give --coordinator"),
        (
            ["--coordinator", "a:1", "--processes", "2", "--process", "1"],
            r"cannot join the other processes: coordinator_address should be defined\.$",
        ),
    ],
)
def test_bad_requests_to_join(capsys, tmp_path, monkeypatch, arguments, message):
    def fail(*arguments):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    monkeypatch.chdir(tmp_path)
    status, stdout, stderr = call(capsys, *arguments)
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert re.match(f"error: .*{message}", stderr)
    assert list(tmp_path.iterdir()) == []


def test_joining(capsys, tmp_path, monkeypatch):
    """Before anything of JAX is used."""
    joined = []

    def stop(*arguments):
        joined.append(arguments)
        raise RuntimeError("stop")

    monkeypatch.setattr(jax.distributed, "initialize", stop)
    monkeypatch.setattr("jaxact._cli.compare.Settings", None)
    call(capsys, "--distributed")
    call(capsys, "--coordinator", "here:12", "--processes", "3", "--process", "1")
    assert joined == [(None, None, None), ("here:12", 3, 1)]


def test_what_fails_in_one_process_fails_in_all(monkeypatch):
    monkeypatch.setattr(processes, "share", lambda value: [value, "disk full"])
    with pytest.raises(CompareError, match="process 1: disk full"):
        processes.agree(lambda: 1)
    # Each process raises its own error, of its own type.
    with pytest.raises(MemoryError, match="here"):
        processes.agree(lambda: (_ for _ in ()).throw(MemoryError("here")))


def test_processes_with_other_settings_are_refused(tmp_path, monkeypatch, dataset):
    def share(value):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return [value, [{**value[0], "epochs": 9}]]
        return [value]

    monkeypatch.setattr(processes, "share", share)
    with pytest.raises(CompareError, match="epochs is 3 in process 0 and 9 in process 1"):
        run.compare(SETTINGS, dataset, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_processes_write_nothing(capsys, tmp_path, monkeypatch):
    """Process 1 of two, whose process 0 sends what it found."""
    monkeypatch.setattr(processes, "is_first", lambda: False)
    actions = []
    finished_studies: list[Study] = []
    answers = iter([True, None, None, finished_studies])
    monkeypatch.setattr(
        processes, "first", lambda action: (actions.append(action), next(answers))[1]
    )
    status, stdout, stderr = call(capsys, "--out", str(tmp_path / "out"), "--json")
    assert (status, stdout, stderr) == (0, "", "")
    assert len(actions) == 4
    assert list(tmp_path.iterdir()) == []


def run_processes(count, local, *arguments):
    """The command in several processes of this machine: exit status, stdout and stderr of each."""
    code = "import sys; from jaxact.cli import main; main(sys.argv[1:])"
    group = ("--coordinator", free_address(), "--processes", count)
    command = (sys.executable, "-c", code, "compare", *arguments, *group, "--process")
    commands = [(*command, i) for i in range(count)]
    return finished(*commands, devices=local, seconds=240, quickly=True)


@pytest.mark.slow
def test_two_processes(capsys, tmp_path):
    """With 3 devices each, the middle one of three arms spreads over both processes."""
    local = 3
    small = ("--seeds", "3", "--epochs", "3", "--widths", "6,5")
    small += ("--activations", "relu,rrelu,prelu", "--json")
    status, stdout, _ = call(capsys, *small, "--out", str(tmp_path / "one"))
    assert status == 0
    one = json.loads(stdout)
    out = ("--out", str(tmp_path / "two"))
    first, second = run_processes(2, local, *small, *out)
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "100%" in first[2]
    assert second[1:] == ("", "")
    two = json.loads(first[1])
    path = tmp_path / "two" / "results.json"
    assert json.loads(path.read_text()) == two
    assert two["configuration"] == one["configuration"]
    expected = restored(tmp_path / "one" / "results.json")
    assert_close(expected, restored(path))

    # Interrupted after the first arm: the others are told, and train only what is missing.
    del two["arms"]["rrelu"]
    path.write_text(json.dumps(two))
    (first, second) = run_processes(2, local, *small, *out)
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    again = json.loads(first[1])
    assert again["finished"]
    assert again["arms"]["relu"] == two["arms"]["relu"]  # the timings too
    assert_close(expected, restored(path))


def restored(path):
    """The figures that a file holds."""
    content = results.read(path)
    settings = Settings(("relu", "rrelu", "prelu"), seeds=3, epochs=3, widths=(6, 5))
    study = Study(content["configuration"], settings.cells)
    results.restore(path, content, [study])
    return study.figures


@pytest.mark.slow
def test_an_error_of_one_process_ends_both(tmp_path):
    (tmp_path / "file").write_text("")
    first, second = run_processes(2, 2, "--seeds", "2", "--out", str(tmp_path / "file"))
    assert (first[0], second[0]) == (2, 2)
    assert re.search("^error: --out .*file: cannot be made", first[2])
    assert re.search("^error: process 0: --out .*file: cannot be made", second[2])
