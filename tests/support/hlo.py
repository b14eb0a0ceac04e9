"""The text of a compiled program, as TPU compilers write it."""


def cost(count):
    return f'backend_config={{"window_config":{{"estimated_cycles":"{count}","x":["1"]}}}}'


def program(*instructions, others=""):
    lines = "\n".join(f"  {line}" for line in instructions)
    entry = f"ENTRY %main (x: f32[8]) -> f32[8] {{\n{lines}\n}}\n"
    return f"HloModule jit_f, is_scheduled=true\n{others}\n{entry}"


LOOPS = f"""
%inner_body (i: (f32[8], s32[])) -> (f32[8], s32[]) {{
  %one = s32[] constant(1)
  %i = (f32[8], s32[]) parameter(0)
  %y = f32[8] get-tuple-element(%i), index=0
  %k = s32[]{{:T(128)}} get-tuple-element(%i), index=1
  %sine = f32[8] sine(%y), {cost(10)}
  %next = s32[] add(%k, %one)
  ROOT %both = (f32[8], s32[]) tuple(%sine, %next)
}}
%inner_test (i: (f32[8], s32[])) -> pred[] {{
  %i.1 = (f32[8], s32[]) parameter(0)
  %stop = s32[] constant(5)
  %k.1 = s32[] get-tuple-element(%i.1), index=1
  ROOT %lt = pred[] compare(%k.1, %stop), direction=LT
}}
%outer_body (o: (s32[], f32[8])) -> (s32[], f32[8]) {{
  %two = s32[] constant(2)
  %zero = s32[] constant(0)
  %o = (s32[], f32[8]) parameter(0)
  %n = s32[] get-tuple-element(%o), index=0
  %m = s32[] copy(%n)
  %z = f32[8] get-tuple-element(%o), index=1
  %cosine = f32[8] cosine(%z), {cost(100)}
  %begin = (f32[8], s32[]) tuple(%cosine, %zero)
  %while.1 = (f32[8], s32[]) while(%begin), condition=%inner_test, body=%inner_body
  %w = f32[8] get-tuple-element(%while.1), index=0
  %step = s32[] add(%m, %two)
  ROOT %pair = (s32[], f32[8]) tuple(%step, %w)
}}
%outer_test (o: (s32[], f32[8])) -> pred[] {{
  %o.1 = (s32[], f32[8]) parameter(0)
  %end = s32[] constant(8)
  %n.1 = s32[] get-tuple-element(%o.1), index=0
  ROOT %less = pred[] compare(%n.1, %end), direction=LT
}}"""


NESTED = program(
    "%x = f32[8] parameter(0)",
    "%c = s32[] constant(1)",
    "%c.1 = s32[] copy(%c)",
    "%t = (s32[], f32[8]) tuple(%c.1, /*index=1*/%x)",
    "%while.2 = (s32[], f32[8]) while(%t), condition=%outer_test, body=%outer_body",
    f"ROOT %r = f32[8] get-tuple-element(%while.2), index=1, {cost(7)}",
    others=LOOPS,
)
