"""Programs of other libraries: ``pytest -m compat`` with the extra ``compat``.

Nothing here is imported unless it is asked for: the libraries are not part of the extra ``test``.
Who asks for it gets an error for each library that is missing, and not a success without a test.
"""

from pathlib import Path

import pytest

from tests.support.markers import asked_for


def pytest_ignore_collect(config):
    return None if asked_for(config, "compat") else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """All are ``compat``; of each program, all cases but the first are also ``slow``."""
    programs = set()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            program = item.path, item.originalname
            if program in programs:
                item.add_marker(pytest.mark.slow)
            programs.add(program)
            item.add_marker(pytest.mark.compat)
            # The libraries' own: jaxact's functions warn of nothing.
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(autouse=True)
def strict_promotion():
    """The libraries lean on implicit promotion of dtypes and ranks, as JAX has it by default."""
    return
