"""examples/train_lm.py: the same losses on any devices, and after an interruption."""

import dataclasses
import functools
import json
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typer
from flax import nnx

from examples import train_lm
from tests.support.processes import finished, free_address, started

SCRIPT = Path(train_lm.__file__)
CONFIG = train_lm.Config(
    steps=6, batch=16, context=16, layers=2, width=32, heads=4, hidden=48, dtype="float32"
)
EVERY = {"save_every": 2, "evaluate_every": 3}


@pytest.fixture(autouse=True)
def standard_promotion(strict_promotion):
    """Optax's Adam raises a Python number to an integer array."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A short text to validate on, and nothing compiled twice."""
    text = train_lm.documentation()
    text = dataclasses.replace(text, validation=text.validation[:700])
    monkeypatch.setattr(train_lm, "documentation", lambda: text)
    monkeypatch.setattr(train_lm, "Trainer", trainer)


trainer = functools.cache(train_lm.Trainer)


def mesh(data=1, fsdp=1, model=1):
    devices = jax.devices()[: data * fsdp * model]
    return train_lm.make_mesh(data, fsdp, model, devices=devices)


def metrics(out, name="loss"):
    """{step: value}; no step is there twice."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if name in line]
    assert len(set(steps)) == len(steps)
    return {line["step"]: line[name] for line in lines if name in line}


def parameters(out, mesh, config=CONFIG):
    """Those of the last checkpoint."""
    compiled = trainer(config, train_lm.documentation().vocabulary, mesh)
    with jax.set_mesh(mesh), train_lm.checkpoints(out, 2) as manager:
        state, step = train_lm.restored(manager, compiled)
    assert step == config.steps
    return jax.tree.map(np.asarray, state["params"])


# The data


def test_batches_depend_on_seed_and_step_only():
    text = train_lm.documentation()

    def batch(mesh, step=3, seed=0, accumulate=1):
        config = dataclasses.replace(CONFIG, seed=seed)
        tokens = train_lm.training_batch(text, config, step, mesh, accumulate)
        assert tokens.shape == (accumulate, 16 // accumulate, 17)
        return np.asarray(tokens).reshape(16, 17)

    expected = batch(mesh())
    np.testing.assert_array_equal(batch(mesh(2, 2, 2)), expected)
    np.testing.assert_array_equal(batch(mesh(1, 4), accumulate=2), expected)
    assert (batch(mesh(), step=4) != expected).any()
    assert (batch(mesh(), seed=1) != expected).any()
    for row in expected:  # an excerpt
        assert (np.lib.stride_tricks.sliding_window_view(text.train, 17) == row).all(1).any()


def test_each_device_gets_its_rows_only():
    tokens = train_lm.training_batch(train_lm.documentation(), CONFIG, 0, mesh(4, 2), 2)
    assert {shard.data.shape for shard in tokens.addressable_shards} == {(2, 1, 17)}


def test_validation_covers_the_text_once():
    text = train_lm.documentation()
    tokens, weights = map(np.asarray, train_lm.validation_set(text, CONFIG, mesh(2)))
    assert tokens.shape == (3, 16, 17)
    rows = tokens[weights == 1]
    assert len(rows) == 699 // 16
    np.testing.assert_array_equal(rows[:, 1:].ravel(), text.validation[1 : 1 + rows[:, 1:].size])


def test_unigram_entropy():
    text = train_lm.Text(np.array([0, 0, 1]), np.array([0, 1]), 2)
    assert text.unigram_entropy == pytest.approx(-np.log(3 / 5 * 2 / 5) / 2)


# The model


@pytest.mark.parametrize("activation", ["silu", "prelu"])
def test_dtypes(activation):
    """Computes in bfloat16 with parameters, and their gradients, in float32."""
    config = dataclasses.replace(CONFIG, dtype="bfloat16", activation=activation)
    tokens = jax.ShapeDtypeStruct((2, 16), jnp.int32)

    def logits(params, graph, tokens):
        return nnx.merge(graph, params)(tokens)

    def call(tokens):
        graph, params = nnx.split(train_lm.LanguageModel(config, 128, rngs=nnx.Rngs(0)))
        gradient = jax.grad(lambda *args: logits(*args).astype(jnp.float32).sum())
        return logits(params, graph, tokens), params, gradient(params, graph, tokens)

    with jax.set_mesh(mesh()):
        result, *trees = jax.eval_shape(call, tokens)
    assert (result.shape, result.dtype) == ((2, 16, 128), jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves(trees)} == {jnp.dtype(jnp.float32)}


def test_attention_is_causal():
    x = jax.random.normal(jax.random.key(0), (1, 16, 8))
    with jax.set_mesh(mesh()), jax.numpy_dtype_promotion("strict"):
        attention = train_lm.Attention(8, 2, jnp.float32, nnx.Rngs(0))
        changed = (attention(x) != attention(x.at[0, 8].add(1.0))).any((0, 2))
    assert not changed[:8].any() and changed[8:].all()


# The same training on other devices


@functools.cache
def losses(shape, accumulate=1):
    """Of six steps and a validation, and how the parameters lie."""
    text, on = train_lm.documentation(), mesh(*shape)
    compiled, values = trainer(CONFIG, text.vocabulary, on), []
    with jax.set_mesh(on):
        if shape == (1, 8, 1):  # Creating takes as long to compile as a step.
            state = jax.device_put(initial(), jax.tree.map(lambda x: x.sharding, compiled.abstract))
        else:
            state = compiled.create()
        for step in range(1, 7):
            batch = train_lm.training_batch(text, CONFIG, step, on, accumulate)
            state, measured = compiled.step(state, batch)
            values += [float(measured["loss"]), float(measured["gradient_norm"])]
        validation = train_lm.validation_set(text, CONFIG, on)
        values.append(float(compiled.evaluate(state, *validation)))
    for x, expected in zip(*map(jax.tree.leaves, (state, compiled.abstract)), strict=True):
        assert x.sharding == expected.sharding
    return values


def initial():
    text, on = train_lm.documentation(), mesh()
    with jax.set_mesh(on):
        return trainer(CONFIG, text.vocabulary, on).create()


@pytest.mark.parametrize(
    ("shape", "accumulate"),
    [pytest.param((2, 2, 2), 1, marks=pytest.mark.slow), ((1, 8, 1), 2)],
)
def test_devices_and_accumulation_do_not_matter(shape, accumulate):
    expected = losses((1, 1, 1))
    np.testing.assert_allclose(losses(shape, accumulate), expected, rtol=1e-4)
    assert expected[-1] < expected[0]


def test_no_device_has_it_all():
    """Parameters and both moments of AdamW are created and kept in shards."""
    on = mesh(2, 2, 2)
    compiled = trainer(CONFIG, 128, on)
    with jax.set_mesh(on):
        state = compiled.create()
    for path, x in jax.tree_util.tree_leaves_with_path(state):
        share = x.addressable_shards[0].data.size / x.size
        name = jax.tree_util.keystr(path)
        if "embedding" in name:
            assert share == 1 / 2
        elif x.ndim > 1 and "norm" not in name:
            assert share == 1 / 4, name


# Checkpoints


class PowerCutError(Exception):
    pass


def power_cut(last):
    """`training_batch`, which fails at a step."""
    batch = train_lm.training_batch

    def failing(text, config, step, *args):
        if step == last:
            raise PowerCutError
        return batch(text, config, step, *args)

    return failing


def sigterm(step_to_end):
    """`training_batch`, at a step of which the process is told to end."""
    batch = train_lm.training_batch

    def told(text, config, step, *args):
        if step == step_to_end:
            signal.raise_signal(signal.SIGTERM)
        return batch(text, config, step, *args)

    return told


@pytest.mark.slow
def test_resuming(tmp_path, monkeypatch, capsys):
    whole, resumed, elsewhere = (tmp_path / name for name in ("whole", "resumed", "elsewhere"))
    expected = train_lm.train(CONFIG, mesh(2, 2, 2), whole, **EVERY)
    assert sorted(metrics(whole)) == [1, 2, 3, 4, 5, 6]
    assert sorted(metrics(whole, "validation_loss")) == [3, 6]
    assert metrics(whole)[6] < metrics(whole)[1]

    with monkeypatch.context() as patch:
        patch.setattr(train_lm, "training_batch", power_cut(6))
        with pytest.raises(PowerCutError):
            train_lm.train(CONFIG, mesh(2, 2, 2), resumed, **EVERY)
    with (resumed / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 0.0}\n{"step": 6, "los')  # killed while writing
    shutil.copytree(resumed, elsewhere)

    # On the same mesh: the same bits.
    assert train_lm.train(CONFIG, mesh(2, 2, 2), resumed, **EVERY) == expected
    assert metrics(resumed) == metrics(whole)
    assert metrics(resumed, "validation_loss") == metrics(whole, "validation_loss")
    bits = [parameters(out, mesh(2, 2, 2)) for out in (whole, resumed)]
    jax.tree.map(np.testing.assert_array_equal, *bits)

    # Told to end, after a step that is none of those to be saved.
    ended = tmp_path / "ended"
    with monkeypatch.context() as patch:
        patch.setattr(train_lm, "training_batch", sigterm(3))
        assert np.isnan(train_lm.train(CONFIG, mesh(2, 2, 2), ended, **EVERY))
    assert capsys.readouterr().err.startswith("SIGTERM: step 3 is saved, and the same command goes")
    assert (sorted(metrics(ended)), (ended / "checkpoints" / "3").is_dir()) == ([1, 2, 3], True)
    # And the last checkpoint before is good enough.
    damage(ended / "checkpoints" / "3", "cut off")
    assert train_lm.train(CONFIG, mesh(2, 2, 2), ended, **EVERY) == expected
    assert "checkpoint 3 is damaged" in capsys.readouterr().err
    assert metrics(ended) == metrics(whole)

    # On another: up to rounding.
    loss = train_lm.train(CONFIG, mesh(8), elsewhere, accumulate=2, **EVERY)
    assert loss == pytest.approx(expected, rel=1e-4)

    # And what is complete stays as it is.
    before = (resumed / "metrics.jsonl").read_bytes()
    assert train_lm.train(CONFIG, mesh(2, 2, 2), resumed, **EVERY) == expected
    assert (resumed / "metrics.jsonl").read_bytes() == before


def save_two(out):
    """Checkpoints 2 and 4, and the state in the first one."""
    compiled = trainer(CONFIG, train_lm.documentation().vocabulary, mesh())
    with jax.set_mesh(mesh()), train_lm.checkpoints(out, 2) as manager:
        state = compiled.create()
        train_lm.save(manager, compiled, 2, state)
        train_lm.save(manager, compiled, 4, jax.tree.map(lambda x: x + 1, state))
    return state


def damage(folder, how):
    files = sorted((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    if how == "garbled":  # a bit in the arrays
        content = bytearray(files[-1].read_bytes())
        content[len(content) // 3] ^= 1
        files[-1].write_bytes(content)
        return
    for file in files:
        content = file.read_bytes()
        if how == "removed":
            file.unlink()
        else:
            file.write_bytes(content[: len(content) // 2] if how == "cut off" else b"")


def load(out):
    compiled = trainer(CONFIG, train_lm.documentation().vocabulary, mesh())
    with jax.set_mesh(mesh()), train_lm.checkpoints(out, 2) as manager:
        state, step = train_lm.restored(manager, compiled)
        if step:
            train_lm.save(manager, compiled, step + 2, state)
    return state, step


@pytest.mark.parametrize("how", ["emptied", "cut off", "garbled", "removed"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, capsys, how):
    expected = save_two(tmp_path)
    damage(tmp_path / "checkpoints" / "4", how)
    state, step = load(tmp_path)
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    error = capsys.readouterr().err
    assert re.fullmatch(r"checkpoint 4 is damaged, see damaged-4; 2 is the last: .+\n", error)
    assert (tmp_path / "damaged-4").is_dir()
    # And step 4 is saved anew.
    state, step = load(tmp_path)
    assert step == 4
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    assert capsys.readouterr().err == ""


def test_all_checkpoints_damaged(tmp_path, capsys):
    """Nothing is moved or computed anew: that is for the user to decide."""
    save_two(tmp_path)
    for step in ("2", "4"):
        damage(tmp_path / "checkpoints" / step, "emptied")
    message = f"no checkpoint in {tmp_path}/checkpoints can be read: remove that folder to start"
    with pytest.raises(train_lm.BadOptionError, match=message):
        load(tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4"]
    assert not list(tmp_path.glob("damaged-*"))


def test_damaged_metrics(tmp_path, capsys):
    """What can be read stays; a line that was being written goes without a word."""
    path = tmp_path / "metrics.jsonl"
    good = [b'{"step": 1, "loss": 3.0}', b'{"step": 2, "loss": 2.0}']
    bad = [b"\xff\x00", b'{"step": 1, "lo', b"[1]", b"7", b'{"loss": 1}', b'{"step": "1"}']
    late = [b'{"step": 3, "loss": 1.0}', b'{"step": 1, "los']
    path.write_bytes(b"\n".join([good[0], *bad, good[1], *late]))
    train_lm.Metrics(path, 2).write(step=3, loss=1.5)
    assert metrics(tmp_path) == {1: 3.0, 2: 2.0, 3: 1.5}
    assert capsys.readouterr().err == (
        f"{path}: 6 lines are damaged and left out; the others stay.\n"
    )
    train_lm.Metrics(path, 3)
    assert (metrics(tmp_path), capsys.readouterr().err) == ({1: 3.0, 2: 2.0, 3: 1.5}, "")


@pytest.mark.slow
def test_weight_decay():
    """Of matrices only; with stacked layers, slopes have the rank of matrices."""
    config = dataclasses.replace(CONFIG, activation="prelu")
    abstract = trainer(config, 128, mesh()).abstract["params"]
    params = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), abstract)
    transform = train_lm.optimizer(config)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = transform.update(zeros, transform.init(params), params)
    kept = {
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, update in jax.tree_util.tree_leaves_with_path(updates)
        if not update.any()
    }
    kept = {name.removesuffix(".value") for name in kept}
    assert kept == {
        "blocks.attention_norm.scale",
        "blocks.feed_forward_norm.scale",
        "blocks.feed_forward.hidden_activation.layer.alpha",
        "norm.scale",
    }


# What cannot be trained


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 30}, "--batch 30: must be a multiple of --accumulate x --data x --fsdp = 8"),
        ({"batch": 16, "accumulate": 4}, "--batch 16: must be a multiple of .* = 32, such as 32"),
        ({"heads": 3}, "--width 128: must be a multiple of 2 x --heads = 6, such as 126"),
        ({"heads": 2, "model": 4}, "--heads 2: must be a multiple of --model = 4, such as 4"),
        ({"hidden": 9, "model": 2}, "--hidden 9: must be a multiple of --model = 2, such as 8"),
        ({"data": 3}, "--data 3 x --fsdp 1 x --model 1 = 3, but there are 8 devices: make"),
        ({"fsdp": 3}, "--data 2 x --fsdp 3 x --model 1 = 6, but there are 8 devices"),
        ({"fsdp": 0}, "--fsdp 0: must be at least 1"),
        ({"context": 700}, "--context 700: the validation text has 700 characters; take at most"),
        ({"steps": 0}, "--steps 0: must be at least 1"),
        ({"save_every": 0}, "--save-every 0: must be at least 1"),
        ({"steps": 10**30}, "--steps 1000000000000000000000000000000: must be at most 2147483647"),
        ({"seed": 2**70}, "--seed 1180591620717411303424: must be at most 2147483647"),
        ({"seed": -1}, "--seed -1: must be at least 0"),
        ({"learning_rate": float("inf")}, "--learning-rate inf: must be at most 1e[+]30"),
        ({"learning_rate": float("nan")}, "--learning-rate nan: must be at least 0"),
        ({"dtype": "float16"}, "--dtype float16: must be bfloat16 or float32"),
        ({"activation": "rulu"}, "--activation rulu: get: unknown activation 'rulu'"),
        ({"activation": "prelu:nan"}, "--activation prelu:nan: prelu: alpha is NaN"),
        ({"activation": "rrelu"}, "--activation rrelu: its random keys"),
        ({"out": Path("gs://bucket/run")}, "--out gs:/bucket/run: must be a folder; mount"),
        ({"process": 1}, "--coordinator, --processes and --process belong together"),
        (
            {"coordinator": "localhost:1", "processes": 2, "process": 2},
            "--process 2: must be from 0 to 1",
        ),
    ],
)
def test_bad_options(options, message, tmp_path, capsys):
    with pytest.raises(typer.Exit) as exit_:
        train_lm.command(**{"out": tmp_path / "out", **options})
    assert exit_.value.exit_code == 2
    error = capsys.readouterr().err
    assert re.match(f"error: {message}", error), error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_configuration(tmp_path, capsys):
    train_lm.claim(tmp_path, CONFIG, train_lm.documentation())
    train_lm.claim(tmp_path, CONFIG, train_lm.documentation())
    options = {**dataclasses.asdict(CONFIG), "learning_rate": 1.0}
    with pytest.raises(typer.Exit):
        train_lm.command(**options, out=tmp_path)
    message = f"error: --learning-rate 1.0: the run in {tmp_path} has 0.004. Give the same, or"
    assert message in capsys.readouterr().err
    text = dataclasses.replace(train_lm.documentation(), train=np.zeros(3, np.int32))
    with pytest.raises(train_lm.BadOptionError, match="the text .*: the run in"):
        train_lm.claim(tmp_path, CONFIG, text)


@pytest.mark.parametrize("content", [b"", b'{"steps": 6', b"\xff\x00", b"[1]", b"3", b"[" * 9**6])
def test_a_damaged_configuration(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(
        train_lm.BadOptionError, match=r"config.json is damaged \(.*\): remove it if"
    ):
        train_lm.claim(tmp_path, CONFIG, train_lm.documentation())


def test_folders_that_cannot_be_used(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out, message in (("file", "File exists"), ("file/out", "Not a directory")):
        with pytest.raises(typer.Exit) as exit_:
            train_lm.command(**dataclasses.asdict(CONFIG), out=tmp_path / out)
        assert exit_.value.exit_code == 2
        assert capsys.readouterr().err == f"error: --out {tmp_path / out}: {message}.\n"


def test_a_full_disk(tmp_path, monkeypatch):
    def fail(self, *args, **kwargs):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device\n[more]")

    monkeypatch.setattr(train_lm.ocp.CheckpointManager, "save", fail)
    with pytest.raises(train_lm.BadOptionError) as caught:
        save_two(tmp_path)
    assert str(caught.value) == (
        f"no checkpoint can be written to {tmp_path}/checkpoints: "
        "RESOURCE_EXHAUSTED: No space left on device"
    )


# The command, in processes of its own


def command(out, *options):
    return (sys.executable, SCRIPT, *options, "--out", out)


def finish(*commands, quickly=True, **options):
    """Run the commands at once; what the last one printed."""
    for status, output, errors in finished(*commands, quickly=quickly, **options):
        assert status == 0, output + errors
    return output


def pair(out, *options):
    """The commands of two processes, the first one last."""
    join = ("--coordinator", free_address(), "--processes", 2, "--process")
    return [command(out, *options, *join, process) for process in (1, 0)]


def options(**changes):
    config = {**dataclasses.asdict(CONFIG), **changes}
    return [f"--{name.replace('_', '-')}={value}" for name, value in config.items()]


@pytest.mark.slow
def test_default_settings_learn(tmp_path):
    """In less than three minutes on two cores, of which 100 steps are about one."""
    output = finish(command(tmp_path, "--steps", 100), seconds=180, quickly=False)
    (loss,) = metrics(tmp_path, "validation_loss").values()
    assert f"validation loss {loss:.3f} nats a character (unigram entropy 3." in output
    assert loss < 2.0


@pytest.mark.slow
def test_processes_train_together(tmp_path):
    """Two of four devices each give the losses of one of eight, and of one of one."""
    layout = ["--fsdp", 4, "--model", 2, "--save-every", 3, "--evaluate-every", 6]
    finish(*pair(tmp_path / "two", *options(), *layout), devices=4)
    finish(command(tmp_path / "eight", *options(), *layout), devices=8)
    finish(command(tmp_path / "one", *options(), *layout[4:]))
    for name in ("loss", "gradient_norm", "validation_loss"):
        two, eight, one = (metrics(tmp_path / out, name) for out in ("two", "eight", "one"))
        assert list(two) == list(eight) == list(one)
        np.testing.assert_allclose(list(two.values()), list(eight.values()), rtol=1e-5)
        np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-4)


@pytest.mark.slow
def test_killed_process(tmp_path):
    """Both processes, started again after one was killed, go on from the last checkpoint."""
    given = [*options(steps=200), "--model", 2, "--save-every", 25, "--evaluate-every", 200]
    finish(*pair(tmp_path / "whole", *given), devices=4)
    out = tmp_path / "killed"
    with started(*pair(out, *given), devices=4, quickly=True) as (second, _):
        deadline = time.monotonic() + 200
        while not (out / "checkpoints" / "50").exists():
            assert time.monotonic() < deadline and second.poll() is None
            time.sleep(0.01)
        second.send_signal(signal.SIGKILL)
        second.wait()
    done = max(metrics(out))
    assert done < 200
    output = finish(*pair(out, *given), devices=4)
    (first,) = map(int, re.findall(r"from step (\d+)", output))
    assert first >= 50 and first % 25 == 0 and done - first <= 50
    assert metrics(out) == metrics(tmp_path / "whole")
    assert metrics(out, "validation_loss") == metrics(tmp_path / "whole", "validation_loss")


def wait(process, condition, seconds=200):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)


@pytest.mark.slow
def test_signals(tmp_path):
    """SIGTERM saves the step and ends well; the same command goes on; Ctrl-C ends at once."""
    given = options(steps=10**9, layers=1, width=16, hidden=16, batch=4)
    every = ["--save-every", 10**9, "--evaluate-every", 10**9]
    lines = tmp_path / "metrics.jsonl"
    with started(command(tmp_path, *given, *every), quickly=True) as (process,):
        wait(process, lambda: lines.exists() and lines.stat().st_size)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        _, error = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    last = max(metrics(tmp_path))
    message = f"SIGTERM: step {last} is saved, and the same command goes on from there.\n"
    assert (process.returncode, error) == (0, message)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [str(last)]

    size = lines.stat().st_size
    with started(command(tmp_path, *given, *every), quickly=True) as (process,):
        wait(process, lambda: lines.stat().st_size > size)
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=60)
    assert f"from step {last}\n" in output
    message = "interrupted; the same command goes on from the last checkpoint.\n"
    assert (process.returncode, error) == (130, message)


@pytest.mark.slow
def test_processes_save_the_same_step(tmp_path):
    """After SIGTERM to one of them; and leave a step of which one finds its part damaged."""
    sizes = options(steps=10**6, layers=1, width=16, hidden=16, batch=4)
    given = [*sizes, "--fsdp", 4, "--save-every", 20, "--evaluate-every", 10**6]
    saved = tmp_path / "checkpoints"

    def until(step):
        """The last step, and what process 0 said, of a run that goes on to that step."""
        with started(*pair(tmp_path, *given), devices=2, quickly=True) as running:
            wait(running[0], lambda: (saved / str(step)).exists())
            running[0].send_signal(signal.SIGTERM)
            outputs = [process.communicate(timeout=100) for process in running]
        assert [process.returncode for process in running] == [0, 0], outputs
        last = max(metrics(tmp_path))
        assert f"SIGTERM: step {last} is saved" in outputs[1][1]
        return last, "".join(outputs[1])

    last, _ = until(40)
    expected = metrics(tmp_path)
    part = saved / str(last) / "default" / "ocdbt.process_1"
    assert part.is_dir()
    damage(part, "emptied")
    before = (last - 1) // 20 * 20
    _, said = until(before + 40)
    assert f"checkpoint {last} is damaged, see damaged-{last}; {before} is the last:" in said
    assert f"from step {before}\n" in said
    assert expected.items() <= metrics(tmp_path).items()
