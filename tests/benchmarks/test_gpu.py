"""What the GPU's benchmark measures and judges, on small arrays and on any backend."""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxact
from benchmarks import gpu, pages
from tests.support.table import TABLE

TINY = gpu.Scale(1 << 14, 2, 2, 16, 8, 16, 16, 2, 1000, 256)
FUNCTIONS = {one.name: one for one in gpu.functions()[0]}
ROWS = {row.id: row for row in TABLE}


def later(seconds=60.0):
    return time.time() + seconds


def rows_of(events):
    """The rows of events, none of which is of a failure."""
    events = list(events)
    assert not [event for event in events if "failed" in event]
    return [row for event in events for row in event.get("rows", ())]


def test_every_function_of_the_package_is_measured_or_named():
    found, others = gpu.functions()
    names = {function.__name__ for function in jaxact.ACTIVATIONS.values()}
    assert {one.name for one in found} | set(others) == names | {"gelu(approximate=False)"}
    assert others == ["swiglu", "geglu", "reglu", "bilinear_glu", "clamped_swiglu", "situ_glu"]
    # One element of each, for which there is a formula.
    assert {one.name for one in found} - set(gpu.REFERENCES) == {"crelu", "glu"}


def test_what_there_is_no_time_for_or_fails_is_named():
    def fails():
        raise ValueError("why\nand more")

    def slow():
        time.sleep(0.2)
        return [{"a": 1}]

    items = {"broken": fails, "slow": slow, "late": slow}
    planned, *events = gpu.each(items, time.time() + 0.3)
    assert planned == {"planned": ["broken", "slow", "late"]}
    assert events == [
        {"item": "broken", "failed": "ValueError: why"},
        {"item": "slow", "rows": [{"a": 1}]},
        {"item": "late", "left out": "no time was left"},
    ]


@pytest.mark.parametrize(
    ("name", "arrays"),
    # Arrays that are read and written, by pass; a pullback's with its residuals.
    [
        ("relu", (2, 3)),
        ("silu", (2, 3)),
        ("identity", (2, 2)),
        ("crelu", (3, 4)),
        ("glu", (1.5, 2.5)),
    ],
)
def test_speed_counts_what_is_read_and_written(name, arrays):
    rows = gpu.speed_of(FUNCTIONS[name], "bfloat16", TINY)
    assert [row["pass"] for row in rows] == ["forward", "pullback"]
    for row, count in zip(rows, arrays, strict=True):
        assert (row["bytes"], row["copied"]) == (count * TINY.bytes, 2 * TINY.bytes)
        seconds = row["seconds"]
        assert {"copy", "jaxact"} <= set(seconds) and min(seconds.values()) > 0
        assert ("jax.nn" in seconds) == hasattr(jax.nn, name)
        share = count / 2 * seconds["copy"] / seconds["jaxact"]
        assert row["share"] == pytest.approx(share)


def test_the_pullback_that_is_timed_is_the_gradient():
    x = jnp.linspace(-3, 3, 64)
    residuals = gpu._pullback(FUNCTIONS["silu"].call)(x)
    expected = jax.vmap(jax.grad(jax.nn.silu))(x)
    np.testing.assert_allclose(gpu._apply(residuals, jnp.ones(64)), expected, rtol=1e-5, atol=1e-7)


def test_speed_is_judged():
    row = {"function": "relu", "dtype": "float32", "pass": "forward", "share": 0.89}
    row["copied"] = 2e9
    row["seconds"] = {"copy": 1e-3, "jaxact": 2e-3, "jax.nn": 3e-3}
    rows = [row, row | {"pass": "pullback", "share": 0.91}]
    rows += [one | {"function": "rrelu", "share": 0.81} for one in rows]
    assert gpu.speed_shortfalls(rows) == [
        "relu forward, float32: 0.89 of a copy's bandwidth (target 0.90)"
    ]
    (table,) = gpu.speed_tables(rows)
    assert table.title == "Speed, float32; a copy: 2000 GB/s"
    assert table.rows[0] == ["relu", *["2.000", "0.89", "1.50", ""], *["2.000", "0.91", "1.50", ""]]


@pytest.mark.parametrize(("block", "loop"), [("mlp", "unrolled"), ("gated_mlp", "scan")])
def test_all_ways_of_a_block_compute_the_same(block, loop, monkeypatch):
    measured_steps, compared = gpu.measured_steps, []

    def compare(programs, arguments, scale):
        results = {way: jax.tree.leaves(run(*arguments)) for way, run in programs.items()}
        for way, leaves in results.items():
            for a, b in zip(results["jax.nn"], leaves, strict=True):
                a, b = (np.asarray(value, np.float32) for value in (a, b))
                assert np.abs(a - b).max() <= 0.03 * np.abs(a).max()
            compared.append(way)
        return measured_steps(programs, arguments, scale)

    monkeypatch.setattr(gpu, "measured_steps", compare)
    rows = rows_of(gpu.blocks(block, loop, TINY, later()))
    assert compared == [row["way"] for row in rows] == list(gpu.LAYERS[block])
    assert all(row["seconds"] > 0 and row["planned"] > 0 for row in rows)
    (table,) = gpu.blocks_tables(rows)
    assert len(table.rows) == len(rows)


def test_blocks_without_time_are_named():
    events = list(gpu.blocks("mlp", "scan", TINY, later(-1)))
    left = {event["item"] for event in events if "left out" in event}
    assert left == {*gpu.LAYERS["mlp"], "steps"}
    assert not rows_of(events)


def test_blocks_are_judged():
    plain = {"block": "mlp", "loop": "scan", "way": "jax.nn", "seconds": 1.0, "planned": 10}
    plain["peak"] = 10
    ours = plain | {"way": "jaxact", "seconds": 1.04, "planned": 9, "peak": None}
    assert gpu.blocks_shortfalls([plain, ours]) == []
    assert gpu.blocks_shortfalls([plain, ours | {"seconds": 1.1, "peak": 11}]) == [
        "mlp, scan: step of jax.nn ÷ jaxact: 0.91 (target 0.95)",
        "mlp, scan: peak memory: 1.10 of jax.nn's",
    ]
    assert gpu.blocks_shortfalls([plain]) == []


#: The rows of the tests' table that have the benchmark's parameters.
SAME = {
    "gelu(approximate=False)": "gelu:approximate=False",
    "leaky_relu": "leaky_relu:0.01",
    "prelu": "prelu:array",
}


@pytest.mark.parametrize("name", sorted(set(gpu.REFERENCES) - {"threshold"}))
def test_formulas_are_those_of_the_tests(name):
    row = ROWS[SAME.get(name, name)]
    x = np.concatenate([gpu.inputs("bfloat16", 0), np.linspace(-10, 10, 2000)]).astype(np.float64)
    with np.errstate(all="ignore"):
        for mine, theirs in (("value", row.value), ("slope", row.slope)):
            found = np.asarray(getattr(gpu.REFERENCES[name], mine)(x), np.float64)
            expected = np.asarray(theirs(x), np.float64)
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-290)
    assert row.slope_zeros == tuple(filter(None, [gpu.REFERENCES[name].slope_zero]))


def test_accuracy_takes_every_number_of_16_bits():
    # All but infinities, NaNs, and subnormal numbers of bfloat16.
    assert gpu.inputs("bfloat16", 0).size == 2 * (1 + 254 * 128)
    assert gpu.inputs("float16", 0).size == 2 * 31 * 1024
    exponents = np.frexp(gpu.inputs("float32", 10**4))[1]
    assert np.unique(exponents).size > 250


def test_accuracy_finds_a_fault():
    rows = gpu.accuracy_of("silu", jaxact.silu, TINY)
    assert [row["dtype"] for row in rows] == ["bfloat16", "float16", "float32"]
    assert gpu.accuracy_shortfalls(rows) == []
    rows = gpu.accuracy_of("silu", lambda x: jnp.where(x == 2, 0, jaxact.silu(x)), TINY)
    assert (rows[1]["value at"], rows[1]["value"]) == (2.0, pytest.approx(1803, abs=1))
    found = gpu.accuracy_shortfalls(rows)
    assert [text.split(" ULP")[0].rsplit(" ", 1)[0] for text in found] == [
        f"silu, {dtype}: {figure}"
        for dtype in ("bfloat16", "float16")
        for figure in ("value", "gradient")
    ]
    # Not a number, and near the slope's zero.
    rows = gpu.accuracy_of("silu", lambda x: x * jnp.where(abs(x + 1.278) < 1e-3, jnp.nan, 1), TINY)
    assert rows[1]["gradient near its zero"] == rows[1]["value"] == gpu.WRONG


def test_errors_in_units_in_the_last_place():
    def error(result, reference, dtype=np.float16):
        return float(gpu.ulp_errors(np.array([result], dtype), np.array([reference]))[0])

    assert error(1.0, 1 + 2.0**-11) == 0.5
    assert error(np.inf, 65520.0) == 0
    assert error(65504.0, 65520.0) == error(np.inf, 65519.0) == error(np.nan, 1.0) == gpu.WRONG
    assert error(0.0, 2.0**-24) == 1
    assert error(0.0, 2.0**-130, np.float32) == 0


def test_rrelu_is_compared(monkeypatch):
    rows = gpu.rrelu_of("threefry2x32", TINY)
    assert {row["figure"] for row in rows} == {"random bits", "slopes"}
    assert gpu.rrelu_shortfalls(rows) == []
    slopes_on = gpu.slopes_on
    calls = []

    def one_ulp_off(*arguments):
        calls.append(arguments)
        slopes = slopes_on(*arguments)
        return slopes if len(calls) % 2 else [np.nextafter(s, np.float32(1)) for s in slopes]

    monkeypatch.setattr(gpu, "slopes_on", one_ulp_off)
    # Allowed of slopes, not of random bits.
    assert gpu.rrelu_shortfalls(gpu.rrelu_of("threefry2x32", TINY)) == [
        f"threefry2x32, {passes}: 256 of 256 random bits differ from the CPU's, by 1 ULP "
        "(at most 0)"
        for passes in ("forward", "backward")
    ]
    monkeypatch.setattr(gpu, "slopes_on", lambda *_: [np.ones(256, np.float32)] * 2)
    assert "only 1 distinct" in gpu.rrelu_shortfalls(gpu.rrelu_of("rbg", TINY))[0]


CHILD = """
import json, time
print("noise")
print(json.dumps({"machine": {"card": "a card"}}))
print(json.dumps({"planned": ["a", "b", "c"]}))
print(json.dumps({"item": "a", "rows": [{"x": 1}]}), flush=True)
"""


@pytest.mark.parametrize(
    ("end", "seconds", "reason"),
    [
        ("time.sleep(60)", 2.0, "its section was stopped: no time left"),
        ("raise SystemExit(3)", 60.0, "its section failed"),
    ],
)
def test_a_section_that_ends_early_names_what_it_owes(end, seconds, reason):
    seen = []
    command = [sys.executable, "-c", CHILD + end]
    found = gpu.watch(command, seconds, lambda found: seen.append(len(found["rows"])))
    assert seen == [0, 0, 1]
    assert found["rows"] == [{"x": 1}]
    assert found["left out"] == {"b": reason, "c": reason}
    assert list(found["failed"]) == (["the section"] if "Exit" in end else [])


def test_a_section_in_its_own_process():
    command = [sys.executable, gpu.__file__, "--quick", "--section", "rrelu"]
    found = gpu.watch([*command, "--until", str(later())], 60, lambda found: None)
    assert not found["failed"]
    assert {row["key"] for row in found["rows"]} == {"threefry2x32", "rbg"}


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_without_a_gpu(tmp_path, capfd):
    assert gpu.main(["--out", str(tmp_path)]) == 2
    assert "No GPU: JAX sees cpu only" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def one_section(monkeypatch):
    """One that is at half a copy's bandwidth, and has left something out."""
    row = {"function": "relu", "dtype": "float32", "share": 0.5, "copied": 1}
    row["seconds"] = {"copy": 1e-3, "jaxact": 2e-3}
    found = {
        "rows": [row | {"pass": passes} for passes in ("forward", "pullback")],
        "left out": {"mish": "no time was left"},
        "failed": {},
    }
    monkeypatch.setattr(gpu, "SECTIONS", {"speed": gpu.SECTIONS["speed"]})
    machine = {"machine": {"card": "a card", "JAX": "1.0"}}
    monkeypatch.setattr(gpu, "watch", lambda command, seconds, advance: found | machine)
    return found


def test_the_command(one_section, tmp_path, monkeypatch, capsys):
    (tmp_path / "speed.md").write_text("a\n<!-- begin gpu -->\nold\n<!-- end gpu -->\nb\n")
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    assert gpu.main(["--docs", "--out", str(tmp_path)]) == 1
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["machine"] == {"card": "a card", "JAX": "1.0"}
    assert written["sections"] == {"speed": one_section}
    page = (tmp_path / "speed.md").read_text()
    for text in (page, capsys.readouterr().out):
        assert "Left out, speed (no time was left): mish." in text
        assert "relu forward, float32: 0.50 of a copy's bandwidth (target 0.90)" in text
        assert "card a card" in text
    assert page.startswith("a\n") and page.endswith("b\n") and "old" not in page


def test_small_arrays_say_nothing_about_speed(one_section, tmp_path, capsys):
    assert gpu.main(["--quick", "--out", str(tmp_path)]) == 0
    one_section["rows"] = []
    assert gpu.main(["--quick", "--out", str(tmp_path)]) == 1
    assert "Below target, speed: nothing was measured" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        gpu.main(["--quick", "--docs", "--out", str(tmp_path)])


def test_sections_share_the_minutes_and_leave_their_results(one_section, tmp_path, monkeypatch):
    path, ends = tmp_path / "gpu.json", []
    monkeypatch.setattr(gpu, "SECTIONS", dict.fromkeys("abc", gpu.SECTIONS["speed"]))

    def watch(command, seconds, advance):
        ends.append(float(command[command.index("--until") + 1]))
        done = list(json.loads(path.read_text())["sections"]) if path.exists() else []
        assert done == list("abc")[: len(ends) - 1]
        return dict(one_section)

    monkeypatch.setattr(gpu, "watch", watch)
    start = time.time()
    gpu.run(2.0, True, path)
    # None of them has used its time, which is shared again.
    whole = 120 - gpu.GRACE
    expected = [start + whole / 3, start + whole / 2, start + whole]
    assert ends == pytest.approx(expected, abs=3)
