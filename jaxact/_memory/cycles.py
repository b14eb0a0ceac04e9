"""The cycles that a TPU's compiler estimates for a program, read from its text (HLO).

The compiler writes an estimate beside each instruction that it has scheduled: fusions, copies,
reductions, matrix products. It says nothing of how often a loop runs; the loop's counter does.
"""

import dataclasses
import re

#: The compiler's mark for what it has not estimated is 2^63 - 1; no program takes as long as this.
_TOO_LONG = 2**62

_COMPUTATION = re.compile(r"(?P<entry>ENTRY )?(?P<name>%\S+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"\s+(?P<root>ROOT )?(?P<name>%\S+) = .*? "
    r"(?P<opcode>[a-z][\w-]*)\((?P<operands>[^)]*)\)(?P<attributes>.*)"
)
_ESTIMATE = re.compile(r'"estimated_cycles":"(\d+)"')
_NAME = re.compile(r"%[\w.-]+")
#: Instructions that run another computation, once.
_CALLS = ("call", "call-start", "async-start")


class _UnknownError(Exception):
    """The program's cycles depend on what its text does not say."""


@dataclasses.dataclass(frozen=True)
class _Instruction:
    opcode: str
    operands: str
    attributes: str

    def names(self) -> list[str]:
        """The names of the operands."""
        return _NAME.findall(self.operands)

    def attribute(self, name: str) -> str:
        """``7`` of ``index=7``, ``%body`` of ``body=%body``, ``%a, %b`` of ``x={%a, %b}``."""
        found = re.search(rf"\b{name}=(?:\{{([^}}]*)\}}|([^\s,]+))", self.attributes)
        return (found[1] or found[2]) if found else ""


class _Computation(dict[str, _Instruction]):
    """Instructions by name."""

    root: _Instruction

    def source(self, name: str) -> _Instruction:
        """The instruction that a value comes from, unchanged."""
        found = self[name]
        while found.opcode in ("copy", "bitcast"):
            found = self[found.names()[0]]
        return found

    def constant(self, name: str) -> int:
        found = self.source(name)
        if found.opcode != "constant" or not re.fullmatch(r"-?\d+", found.operands):
            raise _UnknownError
        return int(found.operands)

    def element(self, instruction: _Instruction, index: int) -> str:
        """What a tuple has at an index."""
        if instruction.opcode != "tuple":
            raise _UnknownError
        return instruction.names()[index]


_Program = dict[str, _Computation]


def cycles(text: str) -> int | None:
    """The sum of the compiler's estimates over all that a program runs.

    Args:
      text: the compiled program, as ``compiled.as_text()`` has it.

    Returns:
      The cycles of one core, with the bodies of loops as often as they run. None where there are
      no estimates, which is so on CPUs and GPUs, where an instruction has a mark in place of one,
      where it is unknown how often a loop runs, and where the branches of a condition differ.
    """
    if not _ESTIMATE.search(text):
        return None
    program, entry = _parsed(text)
    try:
        return _total(program, entry)
    except _UnknownError:
        return None


def _parsed(text: str) -> tuple[_Program, str]:
    """The computations by name, and the name of the one that is the program."""
    program: _Program = {}
    entry = ""
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            computation = program[match["name"]] = _Computation()
            entry = match["name"] if match["entry"] else entry
        elif match := _INSTRUCTION.match(line):
            instruction = _Instruction(match["opcode"], match["operands"], match["attributes"])
            computation[match["name"]] = instruction
            if match["root"]:
                computation.root = instruction
    return program, entry


def _total(program: _Program, name: str) -> int:
    computation = program[name]
    return sum(_of(program, computation, instruction) for instruction in computation.values())


def _of(program: _Program, computation: _Computation, instruction: _Instruction) -> int:
    """The cycles of an instruction, 0 where the compiler says nothing of it."""
    if estimate := _ESTIMATE.search(instruction.attributes):
        if int(estimate[1]) > _TOO_LONG:
            raise _UnknownError
        return int(estimate[1])
    if instruction.opcode == "while":
        trips = _trips(program, computation, instruction)
        return trips * _total(program, instruction.attribute("body"))
    if instruction.opcode == "conditional":
        branches = _NAME.findall(instruction.attribute("branch_computations"))
        branches = branches or [
            instruction.attribute(f"{b}_computation") for b in ("true", "false")
        ]
        totals = {_total(program, branch) for branch in branches}
        if len(totals) > 1:
            raise _UnknownError
        return totals.pop()
    if instruction.opcode in _CALLS:
        return _total(program, instruction.attribute("to_apply") or instruction.attribute("calls"))
    return 0


def _trips(program: _Program, computation: _Computation, loop: _Instruction) -> int:
    """How often a loop runs: ``for (i = start; i < stop; i += step)``, with constants."""
    condition, body = (program[loop.attribute(name)] for name in ("condition", "body"))
    test = condition.root
    if test.opcode != "compare" or test.attribute("direction") != "LT":
        raise _UnknownError
    left, right = test.names()
    counter, stop = condition.source(left), condition.constant(right)
    if counter.opcode != "get-tuple-element":
        raise _UnknownError
    index = int(counter.attribute("index"))
    start = computation.constant(computation.element(computation.source(loop.names()[0]), index))

    addition = body.source(body.element(body.root, index))
    if addition.opcode != "add":
        raise _UnknownError
    before, step = addition.names()
    same = body.source(before)
    if same.opcode != "get-tuple-element" or int(same.attribute("index")) != index:
        raise _UnknownError
    return max(0, -(-(stop - start) // body.constant(step)))
