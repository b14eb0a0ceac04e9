"""What importing the package costs, in a fresh process."""

import importlib.metadata
import sys

import jaxact
from tests.support.processes import printed


def test_imports_nothing_but_jax_and_the_standard_library():
    new = printed(
        "import sys, jax, jax.numpy\n"
        "before = set(sys.modules)\n"
        "import jaxact\n"
        "print(*(set(sys.modules) - before))"
    ).split()
    # Parts of jax that it does not import itself would cost as much as the whole package.
    outside = {n for n in new if n.partition(".")[0] not in {"jaxact", *sys.stdlib_module_names}}
    assert outside == set()


def test_computes_nothing_on_import():
    """Imports that start a backend or trace make a program slow before it begins."""
    backends = printed(
        "import jax, jaxact\n"
        "from jax._src import xla_bridge\n"
        "print(xla_bridge.backends_are_initialized())"
    )
    assert backends.strip() == "False"


def test_version_is_in_one_place():
    assert jaxact.__version__ == importlib.metadata.version("jaxact")
