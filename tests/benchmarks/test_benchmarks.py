"""The benchmarks measure what they say, and the claims they print that do not depend on time."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxact
from benchmarks import accuracy, cycles, dial, memory, plasticity, speed
from benchmarks.peers import PEERS
from jaxact import memory as jaxact_memory
from tests.support.hlo import NESTED

ROWS = {row.id: row for row in accuracy.TABLE}
PEER = {peers.name: peers for peers in PEERS}


@pytest.fixture
def console():
    return Console(quiet=True)


@pytest.mark.parametrize("name", accuracy.MPMATH)
def test_float64_against_mpmath(name):
    worst = accuracy.float64_errors({"jaxact": ROWS[name].call}, ROWS[name])["jaxact"]
    assert worst.value <= 4
    assert worst.gradient <= 4
    assert worst.near_zero <= 1


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_parameter_gradients_over_a_million_elements(dtype):
    for name, error in accuracy.parameter_errors(dtype).items():
        assert error <= 8, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "bound"), [(jnp.bfloat16, 0.51), (np.float16, 0.51), (np.float32, 6)]
)
@pytest.mark.parametrize("row", accuracy.GATED, ids=repr)
def test_a_million_gated_pairs(row, dtype, bound):
    assert max(accuracy.gated_errors(row, dtype, 10**6).values()) <= bound


def test_accuracy_finds_a_fault():
    row = dataclasses.replace(
        ROWS["silu"], call=lambda x: jnp.where(x == 1, 0.7310588, jax.nn.silu(x))
    )
    worst = accuracy.sampled(row.call, row, jnp.bfloat16, 0)
    assert worst.gradient > 10
    worst = accuracy.sampled(
        lambda x: jnp.where(x == 2, 0, ROWS["silu"].call(x)), row, jnp.float16, 0
    )
    assert (worst.value_at, worst.value) == (2.0, pytest.approx(1803, abs=1))


def test_accuracy_finds_nan():
    """It is more than any bound, near the slope's zero too, and in float64."""
    zero, row = np.float32(-1.2784646), ROWS["silu"]

    @jax.custom_vjp
    def call(x):
        return row.call(x)

    call.defvjp(
        lambda x: (row.call(x), x), lambda x, g: (jnp.where(abs(x - zero) < 1e-3, jnp.nan, g),)
    )
    assert accuracy.sampled(call, row, np.float32, 6000).near_zero == np.inf
    worst = accuracy.float64_errors({"wrong": lambda x: jnp.nan * x}, row)["wrong"]
    assert (worst.value, worst.gradient) == (np.inf, np.inf)
    worst.include(accuracy.Worst(3.0, 3.0, 3.0))
    assert (worst.value, worst.gradient) == (np.inf, np.inf)


def test_the_sweep_over_all_inputs_resumes(tmp_path, console, monkeypatch):
    path = tmp_path / "state.json"
    seen = []

    def stopping(both, row, x):
        seen.append(x)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return accuracy.Worst(value=float(len(seen)))

    monkeypatch.setattr(accuracy, "CHUNK", 1 << 30)
    monkeypatch.setattr(accuracy, "value_and_slope", lambda call: None)
    monkeypatch.setattr(accuracy, "errors", stopping)
    monkeypatch.setattr(accuracy.np, "arange", lambda start, stop, dtype: np.array([start], dtype))
    with pytest.raises(KeyboardInterrupt):
        accuracy.all_float32(path, ["relu"], console)
    assert json.loads(path.read_text())["relu"]["chunks"] == 2
    found = accuracy.all_float32(path, ["relu"], console)
    # Zero, 2, the one that was interrupted and is done again, and -2: no more.
    assert [float(x[0]) for x in seen] == [0.0, 2.0, -0.0, -0.0, -2.0]
    assert found["relu"].value == 5


def test_accuracy_prints_and_documents(console, monkeypatch, tmp_path):
    row = {"dtype": "float32", "library": "jaxact", "function": "relu"}
    results = {
        "rows": [
            row
            | {"dtype": dtype, "library": library}
            | dataclasses.asdict(accuracy.Worst(5.0, 0.5))
            for dtype in accuracy.BOUNDS
            for library in ("jaxact", "jax.nn")
        ],
        "gated": [{"function": "glu", "dtype": "float32", "value": 1.0, "gate": 2.0, "up": 3.0}],
        "parameters": {"float32": {"prelu alpha": 0.5}},
        "machine": "CPU",
        "date": "2026-01-01",
        "count": 10,
    }
    text = accuracy.document(results)
    assert "float32: worst 5.00 ULP (relu)" in text
    assert "above: relu value 5.00; jax.nn: 1 of 2 above 4.0" in text
    accuracy.print_tables(results, console)
    # And fails, of which the command's exit status is made.
    worst = {"bfloat16": 0.51, "float16": 0.51, "float32": 4, "float64": 4}
    expected = [f"relu, {dtype}: value 5.00 is above {bound}" for dtype, bound in worst.items()]
    assert accuracy.failures(results) == expected
    for row in results["rows"]:
        row["value"] = 0.0
    assert accuracy.failures(results) == []
    results["parameters"]["float32"]["prelu alpha"] = np.inf
    results["gated"][0]["up"] = 6.5
    assert accuracy.failures(results) == [
        "glu, float32: up 6.50 is above 6",
        "parameters, float32: prelu alpha NaN or inf is above 8",
    ]
    monkeypatch.setattr(accuracy, "run", lambda count, console: results)
    monkeypatch.setattr(sys, "argv", ["accuracy", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        accuracy.main()
    assert caught.value.code == 1


TINY = speed.Setting("tiny", 2**12, 2, True, 2, 2)


@pytest.mark.parametrize("passes", speed.PASSES)
def test_speed_measures_every_library(passes):
    (times,) = speed.measure([PEER["silu"]], passes, TINY, "float32")
    assert {"copy", "jaxact", "jax.nn"} <= set(times)
    assert all(m.seconds > 0 and m.spread >= 1 for m in times.values())


def test_what_is_timed_is_the_function_and_its_gradient():
    x, t = speed.arrays(64, "float32")
    np.testing.assert_allclose(
        speed.pullback(PEER["silu"].jaxact)(x, t), t * jax.vmap(jax.grad(jax.nn.silu))(x), rtol=1e-5
    )


def speed_results(seconds_of_jax_nn):
    """As measured, with these times of jax.nn's functions and 2 ns of jaxact's."""
    return {
        "machine": "CPU",
        "date": "2026-01-01",
        "rrelu": {"forward: a / b": 2.0},
        "first call": {"relu": 1.1},
        "higher derivatives": {"Laplacian": 1.5},
        "rows": [
            {
                "setting": speed.CACHE.name,
                "dtype": dtype,
                "pass": passes,
                "function": peers.name,
                "elements": 10,
                "seconds": {"copy": 1e-9, "jaxact": 2e-9}
                | ({"jax.nn": seconds_of_jax_nn(peers.name)} if peers.name != "rrelu" else {}),
                "median over fastest round": {"copy": 1.0, "jaxact": 1.2},
            }
            for dtype in speed.DTYPES
            for passes in speed.PASSES
            for peers in PEERS
        ],
    }


def test_speed_prints_documents_and_plots(tmp_path, console):
    results = speed_results(lambda name: 5.2e-9)
    text = speed.document(results, "speed-1.png")
    assert "in cache, one thread, bfloat16: jax.nn / jaxact 2.60 (target 2.5), worst 2.60" in text
    assert "- Below the targets: none." in text
    assert "| prelu * | forward |" in text and "| relu | forward |" in text
    assert speed.bandwidth(results["rows"][0]) == 0.5
    speed.print_tables(results, console)
    speed.plot(results, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 1000


def test_speed_names_what_is_below_its_target():
    seconds = {"relu": 1.88e-9, "silu": 1.82e-9, "mish": 1.7e-9, "prelu": 1.88e-9}
    results = speed_results(lambda name: seconds.get(name, 5.2e-9))
    results["first call"]["gelu"] = 1.4
    results["higher derivatives"]["Laplacian"] = 2.5
    found = speed.below(results)
    where = "(in cache, one thread)"
    assert found[0] == f"mish forward float32 {where} 0.85"
    assert f"relu pullback bfloat16 {where} 0.94" in found
    assert f"prelu forward float32 {where} 0.94" in found
    assert not any("silu" in line for line in found)
    assert found[-3:] == [
        "geometric mean bfloat16 2.25",
        "first call: gelu 1.40",
        "higher derivatives: Laplacian 2.50",
    ]
    in_memory = results["rows"][0] | {"setting": speed.MEMORY.name, "seconds": {"jaxact": 1.0}}
    for seconds, missed in ((0.94, True), (0.96, False)):
        in_memory["seconds"]["jax.nn"] = seconds
        assert (speed.ratio(in_memory, "jax.nn") < speed.least(in_memory)) is missed


@pytest.mark.parametrize("arrays", [1.0, 9.0])
def test_memory_writes_its_results_and_fails_above_a_limit(arrays, tmp_path, monkeypatch, capsys):
    """tests/backends measures them."""

    def measured(case):
        large = arrays if case.library == "jaxact.mlp" else 1.0
        return memory.Result(**dataclasses.asdict(case), arrays=large, seconds=1e-3)

    monkeypatch.setattr(memory, "measure", measured)
    monkeypatch.setattr(sys, "argv", ["memory", "--quick", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        memory.main()
    cases = memory.cases(("relu", "gelu"))
    blocks = sum(case.library == "jaxact.mlp" for case in cases) if arrays > 1 else 0
    assert caught.value.code == (1 if blocks else 0)
    written = json.loads((tmp_path / "memory.json").read_text())["results"]
    assert [result["arrays"] for result in written] == [measured(case).arrays for case in cases]
    printed = capsys.readouterr().out
    assert f"{len(cases) - blocks} of {len(cases)} steps within their limits" in printed
    assert printed.count("jaxact.mlp gelu: 9.00 > ") == blocks / 2


def measured_as(ours, kilocycles):
    """Each point with 1 array and a thousand cycles, but these of one: plain, "pre", v6e."""

    def measure(point):
        mine = point.line == dial.PRE and (point.block, point.target) == ("plain", "v6e")
        arrays, of_loops = (ours, 1000 * kilocycles) if mine else (1.0, 1000)
        of_loops = of_loops if point.loop == "scan" else None
        return dial.Measured(**dataclasses.asdict(point), arrays=arrays, cycles=of_loops)

    return measure


@pytest.mark.parametrize(
    ("arrays", "kilocycles", "above"),
    [
        (1.0004, 1, []),
        (1.25, 1, ["1.25 arrays against 1.00 (1.250)"]),
        (0.5, 3, ["3 thousand cycles against 1 (3.000)"]),
    ],
)
def test_dial_prints_documents_and_fails_above_jax_checkpoint(
    arrays, kilocycles, above, tmp_path, monkeypatch, capsys
):
    """tests/backends compiles."""
    page = tmp_path / "memory.md"
    page.write_text("# Memory\n\n<!-- begin dial -->\nold\n<!-- end dial -->\n\n## 16 layers\n")
    monkeypatch.setattr(dial, "DOCS", tmp_path)
    monkeypatch.setattr(dial, "measure", measured_as(arrays, kilocycles))
    monkeypatch.setattr(sys, "argv", ["memory", "--dial", "--docs", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        memory.main()
    assert caught.value.code == len(above)
    found = [f'v6e, plain, scan: jaxact, save="pre" needs {figures}' for figures in above]
    summary = (
        f"{12 - len(above)} of 12 blocks of jaxact's need no more memory and no more cycles than "
        "the jax.checkpoint that keeps as much."
    )
    assert capsys.readouterr().out.splitlines()[-1 - len(above) :] == [summary, *found]
    text = page.read_text()
    assert "old" not in text and "## 16 layers" in text and summary in text
    assert all(f"- {line}" in text for line in found)
    assert f'| `jaxact, save="pre"` | 1.00 | 1 | {arrays:.2f} | {kilocycles:.0f} |' in text
    assert '| `jaxact, save="input"` | 1.00 | 1.00 |' in text
    assert len(json.loads((tmp_path / "dial.json").read_text())["dial"]) == 38


def test_the_whole_page_of_memory_has_the_dial(tmp_path, monkeypatch):
    """And fails by either: here by the dial."""

    def measured(case):
        return memory.Result(**dataclasses.asdict(case), arrays=1.0, seconds=1e-3)

    for module in (memory, dial):
        monkeypatch.setattr(module, "DOCS", tmp_path)
    monkeypatch.setattr(memory, "measure", measured)
    monkeypatch.setattr(dial, "measure", measured_as(1.25, 1))
    monkeypatch.setattr(sys, "argv", ["memory", "--docs", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        memory.main()
    assert caught.value.code == 1
    text = (tmp_path / "memory.md").read_text()
    section = text[text.index("<!-- begin dial -->") : text.index("<!-- end dial -->")]
    assert '- v6e, plain, scan: jaxact, save="pre" needs 1.25 arrays' in section
    assert "\n## 16 layers of act(x @ w), scan, cpu" in text


def test_dial_lets_a_known_point_be_as_it_is_known_and_no_worse(monkeypatch):
    name = ("v6e", "plain", "scan", dial.PRE, "arrays")
    monkeypatch.setattr(dial, "KNOWN", {name: 1.25})
    for arrays, unexpected in ((1.25, []), (1.26, [name])):
        measured = [measured_as(arrays, 1)(point) for point in dial.points()]
        assert [excess.name for excess in dial.excesses(measured)] == [name]
        assert [excess.name for excess in dial.unexpected(measured)] == unexpected


def test_dial_says_where_the_line_for_scans_is_as_good():
    for arrays, kilocycles, count in ((1.0, 1, 4), (0.99, 1, 3), (1.0, 0.999, 3)):
        measured = [measured_as(arrays, kilocycles)(point) for point in dial.points()]
        found = dial.as_good_in_a_scan(measured)
        assert sum('save="pre"' in line for line in found) == count
        assert ('save="pre" of the plain block on v6e' in found) is (count == 4)
        assert sum('save="input"' in line for line in found) == 4


@pytest.mark.parametrize("block", dial.BLOCKS)
def test_dial_compares_ways_to_write_one_block(block):
    x, wide, back = jnp.ones((2, 3)), jnp.full((3, 4), 0.5), jnp.full((4, 3), 0.25)
    weights = [wide, back] if block == "plain" else [wide, 2 * wide, back]
    ways = [dial.block(dial.Point(block, line, "scan", "v6e")) for line in dial.LINES]
    expected, *others = [way(x, *weights) for way in ways]
    assert (expected > 1).all() and len(others) == 6
    for y in others:
        np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_dial_counts_the_body_of_a_loop_once():
    """With the loops in it as often as they run."""
    assert dial.loop_bodies(NESTED) == 100 + 5 * 10
    with pytest.raises(ValueError, match="no loop with estimated cycles"):
        dial.loop_bodies(NESTED.replace(" while(", " call("))


@pytest.mark.parametrize(
    ("slow", "summary"),
    [
        (1.03, "none of 16 above 1.03; worst: v6e silu pullback float32 1.030."),
        (
            1.5,
            "1 of 16 above 1.03: v6e silu pullback float32 1.500; "
            "worst: v6e silu pullback float32 1.500.",
        ),
    ],
)
def test_cycles_prints_documents_and_fails_above_its_limit(
    slow, summary, tmp_path, monkeypatch, capsys
):
    """tests/backends compiles."""

    def measured(case):
        ours = slow if str(case) == "v6e silu pullback float32" else 0.9
        return cycles.Result(**dataclasses.asdict(case), jaxact=round(ours * 200_000), peer=200_000)

    page = tmp_path / "speed.md"
    page.write_text("# Speed\n\n<!-- begin cycles -->\nold\n<!-- end cycles -->\n\n## GPU\n")
    monkeypatch.setattr(cycles, "DOCS", tmp_path)
    monkeypatch.setattr(cycles, "measure", measured)
    arguments = ["cycles", "--docs", "--targets", "v6e,tpu7x", "--functions", "silu,quick_gelu"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as caught:
        cycles.main()
    assert caught.value.code == (1 if slow > cycles.LIMIT else 0)
    assert capsys.readouterr().out.splitlines()[-1] == summary
    text = page.read_text()
    assert "old" not in text and "### tpu7x" in text and summary in text and "## GPU" in text
    row = f"| silu | pullback | 180 | 200 | 0.900 | {200 * slow:.0f} | 200 | {slow:.3f} |"
    assert text.count(row) == 1
    assert text.count("| quick_gelu * | forward | 180 | 200 | 0.900 |") == 2


def test_cycles_refuses_names_that_it_does_not_know(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cycles", "--targets", "v6e,v9"])
    with pytest.raises(SystemExit):
        cycles.main()
    assert "unknown: v9; choose from v5e, v5p, v6e, tpu7x" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, p in PEER.items() if p.written_out])
def test_what_is_written_out_is_the_same_function(name):
    x = jnp.linspace(-4, 4, 161)
    peers = PEER[name]
    np.testing.assert_allclose(peers.written_out(x), peers.jaxact(x), rtol=1e-5, atol=1e-6)
    assert peers.jax_nn is None


def test_cycles_compiles_the_function_and_its_pullback(monkeypatch):
    """For the CPU, whose programs say what they take and return."""
    programs = []

    def compiled(function, *args, target):
        programs.append(compile_for(function, *args))
        return dataclasses.replace(programs[-1], cycles=7)

    compile_for = jaxact_memory.compiled
    monkeypatch.setattr(jaxact_memory, "compiled", compiled)
    one_array = cycles.SHAPE[0] * cycles.SHAPE[1] * 4
    for passes, arrays in (("forward", 1), ("pullback", 2)):
        result = cycles.measure(cycles.Case("silu", passes, "float32", "v6e"))
        assert (result.jaxact, result.peer) == (7, 7)
        ours = programs[-2]
        # The pullback takes the input and a cotangent.
        assert (ours.arguments, ours.outputs) == (arrays * one_array, one_array)


def test_cycles_needs_an_estimate():
    """Nothing passes for want of one: the CPU's compiler has none."""
    with pytest.raises(ValueError, match="cpu silu forward float32: the compiler gives no"):
        cycles.measure(cycles.Case("silu", "forward", "float32", "cpu"))


def test_cycles_lets_a_pullback_read_its_array_and_no_more():
    case = dataclasses.asdict(cycles.Case("relu", "pullback", "bfloat16", "v6e"))
    fine, slow = (cycles.Result(**case, jaxact=ours, peer=1000) for ours in (1230, 1240))
    assert cycles.above([fine, slow]) == [slow]
    forward = dataclasses.replace(fine, passes="forward")
    smooth = dataclasses.replace(fine, function="silu")
    assert cycles.above([forward, smooth]) == [forward, smooth]
    assert cycles.summary([fine]) == (
        "none of 1 above 1.03; pullbacks that read an array for a mask, worst: v6e relu pullback "
        "bfloat16 1.230."
    )


def test_plasticity_measures_what_the_methods_do(monkeypatch, tmp_path):
    """Small: a learner of which nothing is left, and the same with the line that brings it back."""
    small = plasticity.Regression(runs=2, tasks=20, steps=20, look=20, rate=1.0)
    plain, *_, redo = (plasticity.REGRESSION[i] for i in (0, 1, 4))
    assert redo.name.startswith("relu, redo")
    redo = dataclasses.replace(redo, method=jaxact.plasticity.redo(every=1))
    lost, kept = (plasticity.regression(learner, small) for learner in (plain, redo))
    # A step size of 1 kills all units at once.
    name = "dead in the last task"
    assert (lost[name] == 100).all() and (kept[name] < 100).all()
    for figures in (lost, kept):
        first, last = figures["error in the first 5%"], figures["in the last 5%"]
        np.testing.assert_allclose(figures["change"], last - first, rtol=1e-4, atol=1e-4)
    page = tmp_path / "plasticity.md"
    page.write_text("<!-- begin digits -->\n<!-- end digits -->\n")
    monkeypatch.setattr(plasticity, "DOCS", tmp_path)
    monkeypatch.setattr(plasticity, "DIGITS", plasticity.DIGITS[2:3])
    plasticity.main(["--quick", "--only", "digits", "--docs"])
    (row,) = (line for line in page.read_text().splitlines() if line.startswith("| crelu"))
    accuracy_of_all = float(row.split("|")[2].split()[0])
    assert 5 < accuracy_of_all < 80
