"""The cycles of a program, read from its text; tests/backends reads those of real compilers."""

import pytest

from jaxact._memory.cycles import cycles
from tests.support.hlo import LOOPS, NESTED, cost, program


def test_instructions_of_the_entry_computation_add_up():
    """Of any kind; those inside a fusion are a part of it."""
    fused = f"""
%fused (p: f32[8]) -> f32[8] {{
  %p = f32[8]{{0:T(256)}} parameter(0)
  ROOT %tanh = f32[8]{{0:T(256)}} tanh(%p), {cost(1000)}
}}"""
    text = program(
        '%x = f32[8]{0:T(256)} parameter(0), metadata={op_name="x"}',
        "%start = (f32[8]{0:T(256)}, f32[8]{0:T(256)S(1)}, u32[]{:S(2)}) copy-start(%x)",
        "%done = f32[8]{0:T(256)S(1)} copy-done(%start)",
        f"%copy = f32[8]{{0:T(256)}} copy(%done), {cost(20)}",
        f"%both = (f32[8]{{0:T(256)}}, /*index=1*/f32[8]{{0:T(256)}}) fusion(%copy), kind=kLoop, "
        f'calls=%fused, metadata={{op_name="jit(f)/tanh"}}, {cost(300)}',
        "ROOT %first = f32[8]{0:T(256)} get-tuple-element(%both), index=0",
        others=fused,
    )
    assert cycles(text) == 320


def test_a_program_without_estimates():
    text = program("%x = f32[8]{0} parameter(0)", "ROOT %neg = f32[8]{0} negate(%x)")
    assert cycles(text) is None


def test_a_mark_in_place_of_an_estimate():
    text = program(
        "%x = f32[8] parameter(0)",
        f"%copy = f32[8] copy(%x), {cost(20)}",
        f"ROOT %neg = f32[8] negate(%copy), {cost(2**63 - 1)}",
    )
    assert cycles(text) is None
    assert cycles(text.replace(str(2**63 - 1), "7")) == 27


@pytest.mark.parametrize(
    "call",
    [
        "call(%x), to_apply=%other",
        'call-start(%x), async_execution_thread="sparsecore", to_apply=%other',
        "async-start(%x), calls=%other",
    ],
)
def test_called_computations_count_where_they_are_called(call):
    """Once: what waits for the end of a call does not run it again."""
    other = f"""
%other (p: f32[8]) -> f32[8] {{
  %p = f32[8] parameter(0)
  ROOT %sine = f32[8] sine(%p), {cost(50)}
}}"""
    text = program(
        "%x = f32[8] parameter(0)",
        f"%a = f32[8] {call}",
        f"%b = f32[8] {call}",
        "ROOT %done = f32[8] async-done(%b), calls=%other",
        others=other,
    )
    assert cycles(text) == 100


def test_loops_count_as_often_as_they_run():
    """The outer one with 1, 3, 5 and 7, the inner one five times in each."""
    assert cycles(NESTED) == 4 * (100 + 5 * 10) + 7
    # The order of the computations does not matter.
    assert cycles(NESTED.replace(LOOPS, "") + LOOPS) == 4 * (100 + 5 * 10) + 7
    assert cycles(NESTED.replace("constant(8)", "constant(1)")) == 7
    assert cycles(NESTED.replace("constant(8)", "constant(-8)")) == 7


@pytest.mark.parametrize(
    ("known", "unknown"),
    [
        ("%end = s32[] constant(8)", "%end = s32[] get-tuple-element(%o.1), index=0"),
        ("%two = s32[] constant(2)", "%two = s32[] get-tuple-element(%o), index=0"),
        ("%c = s32[] constant(1)", "%c = s32[] parameter(1)"),
        ("%t = (s32[], f32[8]) tuple(%c.1, /*index=1*/%x)", "%t = (s32[], f32[8]) parameter(1)"),
        ("compare(%n.1, %end), direction=LT", "compare(%n.1, %end), direction=NE"),
        ("ROOT %less = pred[] compare(%n.1, %end)", "ROOT %less = pred[] and(%n.1, %end)"),
        ("%step = s32[] add(%m, %two)", "%step = s32[] multiply(%m, %two)"),
        ("%step = s32[] add(%m, %two)", "%step = s32[] add(%two, %two)"),
        ("%n.1 = s32[] get-tuple-element(%o.1), index=0", "%n.1 = s32[] convert(%o.1)"),
        ("constant(5)", "parameter(1)"),
    ],
)
def test_a_loop_that_runs_who_knows_how_often(known, unknown):
    assert known in NESTED
    assert cycles(NESTED.replace(known, unknown)) is None


@pytest.mark.parametrize(
    "branches",
    [
        "conditional(%p, %x, %x), branch_computations={%a, %b}",
        "conditional(%p, %x, %x), true_computation=%a, false_computation=%b",
    ],
)
def test_branches_count_where_they_are_alike(branches):
    others = "\n".join(
        f"%{name} (p: f32[8]) -> f32[8] {{\n  ROOT %{name}.1 = f32[8] sine(%p), {cost(count)}\n}}"
        for name, count in (("a", 50), ("b", 60))
    )
    text = program("%x = f32[8] parameter(0)", f"ROOT %y = f32[8] {branches}", others=others)
    assert cycles(text) is None
    assert cycles(text.replace('"60"', '"50"')) == 50
