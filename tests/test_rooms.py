"""The order of the package's rooms, and that the tests lie as the package does."""

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import jaxact
from conftest import COMPILED_FULLY, COMPILED_QUICKLY

PACKAGE = Path(jaxact.__file__).parent
TESTS = Path(__file__).parent

#: From the bottom: a module imports from rows above its own in this list, and from its own room.
ROOMS = (
    ("_errors", "_text"),  # What an error is, and how sizes and tables are printed.
    ("_files",),  # Files that are written whole or not at all, and folders for one run.
    ("_user_code",),  # A user's own code, by name.
    ("_core",),  # How an activation is declared, computed and differentiated.
    ("_jaxprs",),  # Any jaxpr, read.
    ("_native",),  # Formulas in the compiler's own elementary functions.
    ("_plain",),  # Formulas that JAX differentiates by itself.
    ("piecewise_linear", "smooth"),  # The activations: functions of one array.
    ("recent",),  # More of them, from the models of recent years.
    ("gated",),  # Functions of a gate and a value, made of these.
    ("_names",),  # Names of other libraries, and what they mean.
    ("_suggestions",),  # What an unknown name may have meant.
    ("registry",),  # All of them by name.
    ("feedforward",),  # Blocks of weights around them.
    ("_gain",),  # What an activation does to a variance.
    ("initializers", "optim"),  # Weights to start from, and optimizers of learned slopes.
    ("_memory",),  # What a backward pass keeps, and what a compiler plans.
    ("memory",),  # Its public names.
    ("_report",),  # What a probe has seen, in numbers, words and pictures.
    ("_probe",),  # Activations in any function: looked at, replaced, revived.
    ("plasticity",),  # What brings units back during training.
    ("_renamed",),  # Checkpoints with the names of earlier versions.
    ("_layers",),  # What layers of both libraries have in common.
    ("nnx", "linen"),  # The layers.
    ("compare",),  # Activations trained side by side.
    ("_cli",),  # The commands.
    ("cli",),  # The entry point, which is there before they are.
    ("__main__",),  # python -m jaxact.
    ("__init__",),  # The public names. Nobody imports it but the user.
)
LEVELS = {room: level for level, row in enumerate(ROOMS) for room in row}

#: Where an import may wait until it is needed, for the time in which the command answers.
LAZY = ("__init__", "cli", "_cli")


def module_name(path: Path) -> str:
    """``_core.inputs`` of jaxact/_core/inputs.py, ``_core`` of its ``__init__``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    return module.partition(".")[0]


class Import(NamedTuple):
    """One module of the package as another one imports it."""

    target: str
    line: int
    in_function: bool


def imports(tree: ast.AST, in_function: bool = False) -> Iterator[Import]:
    """The package's modules that a module imports, those for type checkers left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from imports(other, in_function)
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            # Without a name of its own, ``import jaxact.smooth`` makes ``jaxact`` one.
            names = [a.name if a.asname else room(a.name) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            names = [
                full
                if (full := f"{origin}.{a.name}").removeprefix("jaxact.") in MODULES
                else origin
                for a in node.names
            ]
        for name in names:
            if room(name) in ("jaxact", ""):
                target = name.removeprefix("jaxact").removeprefix(".") or "__init__"
                yield Import(target, node.lineno, in_function)
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports(node, in_function or function)


@functools.cache
def imports_of(module: str) -> list[Import]:
    return list(imports(ast.parse(MODULES[module].read_text())))


def where(module: str, found: Import) -> str:
    return f"jaxact/{MODULES[module].relative_to(PACKAGE)}:{found.line} imports {found.target}"


def test_the_list_of_rooms_is_complete():
    assert {room(module) for module in MODULES} - LEVELS.keys() == set()
    # And names nothing else.
    assert LEVELS.keys() - {room(module) for module in MODULES} == set()
    assert sum(len(imports_of(module)) for module in MODULES) > 100


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module):
    """Within the module's room, or from a lower one: never to the top package or sideways."""
    own = room(module)
    upward = [
        where(module, found)
        for found in imports_of(module)
        if room(found.target) != own and LEVELS.get(room(found.target), len(ROOMS)) >= LEVELS[own]
    ]
    assert upward == [], "\n".join(upward)


def test_no_circle_of_modules():
    graph = {module: {found.target for found in imports_of(module)} for module in MODULES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_imports_are_at_the_top():
    """Nothing hides a circle in a function's body."""
    hidden = [
        where(module, found)
        for module in MODULES
        for found in imports_of(module)
        if found.in_function and room(module) not in LAZY
    ]
    assert hidden == [], "\n".join(hidden)


# ------------------------------------------------------------------------------------------------
# Tests lie as the package does

#: Folders of tests for what lies beside the package; ``backends`` needs other compilers.
BESIDE = {"backends", "benchmarks", "compat", "examples", "support", "website"}
#: Tests of the package as a whole.
WHOLE = {
    *("completeness", "contributing", "drop_in", "import"),
    *("processes", "readme", "rooms", "testing_page"),
}


def test_every_room_has_a_folder_of_tests():
    packages = {room(module).lstrip("_") for module in MODULES if "." in module}
    folders = {path.parent.name for path in TESTS.glob("*/test_*.py")}
    assert packages - folders == set()
    assert folders - packages - BESIDE == set()


def test_every_test_has_its_place():
    files = [path.relative_to(TESTS) for path in TESTS.rglob("*.py")]
    # A folder of tests has no folders.
    assert [file for file in files if len(file.parts) > 2] == []
    belongs = {module.lstrip("_") for module in MODULES if "." not in module} | WHOLE
    tests = {file.stem.removeprefix("test_") for file in files if file.match("test_*.py")}
    assert tests >= WHOLE
    top = {file.stem.removeprefix("test_") for file in TESTS.glob("test_*.py")}
    assert top - belongs == set()


def test_what_is_compiled_quickly_is_there():
    for name in COMPILED_QUICKLY + COMPILED_FULLY:
        path, _, test = name.partition("::")
        assert (TESTS.parent / path).exists(), name
        assert not test or f"def {test}(" in (TESTS.parent / path).read_text(), name
    assert all(name.startswith(COMPILED_QUICKLY) for name in COMPILED_FULLY)


def test_what_tests_share_is_in_support():
    loose = [
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("*.py")
        if path.parent.name != "support"
        and not path.match("test_*.py")
        and path.name not in ("__init__.py", "conftest.py")
    ]
    assert loose == []
    beside = (
        path for name in ("benchmarks", "examples") for path in TESTS.parent.glob(f"{name}/*")
    )
    for path in (*TESTS.rglob("*.py"), *beside):
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and room(node.module or "") == "tests":
                    assert node.module.startswith("tests.support"), f"{path}:{node.lineno}"
