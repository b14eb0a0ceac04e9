"""What the package offers, and what importing and naming it costs, in a fresh process."""

import ast
import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import jaxact
from tests.support.processes import printed


def declared() -> dict[str, str | None]:
    """The names that type checkers see, each with the module that defines it; none for a module."""
    [tree] = [
        node
        for node in ast.parse(Path(jaxact.__file__).read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    names = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name == "*":
                    of_module = importlib.import_module(node.module).__all__
                    names.update(dict.fromkeys(of_module, node.module))
                    continue
                assert alias.asname == alias.name, "only `name as name` is a public name"
                names[alias.name] = None if node.module == "jaxact" else node.module
    return names


def test_checkers_see_the_names_that_python_finds():
    names = declared()
    assert len(names) > 50
    assert set(names) == {*jaxact._HOMES, *jaxact._MODULES, *jaxact.ACTIVATIONS}
    assert {name for name, module in names.items() if module is None} == set(jaxact._MODULES)
    assert set(dir(jaxact)) >= {*names, "__version__", "__doc__"}
    assert set(names) >= set(jaxact.__all__)


@pytest.mark.parametrize("name", declared())
def test_each_name_is_the_object_that_checkers_see(name):
    module = declared()[name]
    expected = (
        importlib.import_module(f"jaxact.{name}")
        if module is None
        else getattr(importlib.import_module(module), name)
    )
    assert getattr(jaxact, name) is expected
    assert jaxact.__getattr__(name) is expected


def test_the_package_alone_imports_nothing():
    new = printed(
        "import sys\nbefore = set(sys.modules)\nimport jaxact\nprint(*(set(sys.modules) - before))"
    )
    assert new.split() == ["jaxact"]


def test_imports_nothing_but_jax_and_the_standard_library():
    new = printed(
        "import sys, jax, jax.numpy\n"
        "before = set(sys.modules)\n"
        "from jaxact import *\n"
        "assert {'relu', 'swiglu', 'mlp', 'probe', 'swap', 'revive', 'memory'} < set(globals())\n"
        "assert set(ACTIVATIONS) < set(globals())\n"
        "print(*(set(sys.modules) - before))"
    ).split()
    assert "jaxact.smooth" in new
    # Parts of jax that it does not import itself would cost as much as the whole package.
    outside = {n for n in new if n.partition(".")[0] not in {"jaxact", *sys.stdlib_module_names}}
    assert outside == set()


def test_computes_nothing_on_import():
    """Imports that start a backend or trace make a program slow before it begins."""
    backends = printed(
        "import jax, jaxact\n"
        "for name in dir(jaxact):\n"
        "    getattr(jaxact, name)\n"
        "from jax._src import xla_bridge\n"
        "print(xla_bridge.backends_are_initialized())"
    )
    assert backends.strip() == "False"


def test_modules_need_no_import_of_their_own():
    found = printed(
        "import sys, jaxact\n"
        "for name in sorted(jaxact._MODULES):\n"
        "    for loaded in [n for n in sys.modules if n.partition('.')[0] == 'jaxact']:\n"
        "        del sys.modules[loaded]\n"
        "    import jaxact\n"
        "    assert name not in vars(jaxact)\n"
        "    print(getattr(jaxact, name).__name__)\n"
    )
    assert found.split() == [f"jaxact.{name}" for name in sorted(jaxact._MODULES)]


def test_every_name_loads_without_the_packages_of_the_command():
    """As ``help(jaxact)`` does, where only the dependencies are installed; Flax brings rich."""
    shown = printed(
        "import sys\n"
        "for name in ('matplotlib', 'pandas', 'sklearn', 'typer'):\n"
        "    sys.modules[name] = None\n"
        "import jaxact, pydoc\n"
        "print(pydoc.plain(pydoc.render_doc(jaxact)))"
    )
    for name in (*jaxact.__all__, *jaxact._MODULES, jaxact.__version__):
        assert name in shown


def test_wrong_names():
    assert not hasattr(jaxact, "rleu")
    with pytest.raises(ImportError, match="cannot import name 'rleu' from 'jaxact'"):
        from jaxact import rleu  # noqa: F401
    failed = subprocess.run(
        [sys.executable, "-c", "import jaxact; jaxact.rleu"], capture_output=True, text=True
    )
    # Python finds the name that is close.
    assert failed.stderr.splitlines()[-1] == (
        "AttributeError: module 'jaxact' has no attribute 'rleu'. Did you mean: 'rrelu'?"
    )


def test_version_is_in_one_place():
    assert jaxact.__version__ == importlib.metadata.version("jaxact")
