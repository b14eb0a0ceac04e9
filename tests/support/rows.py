"""The rows of the table for tests of what a declaration does, not of its values."""

import pytest

from tests.support.table import TABLE

#: Rows of a declaration that has another row, with other parameters: slow tests. A fault in how
#: the declaration is differentiated or transformed shows in the other row too.
VARIANTS = (
    *("threshold:0", "hard_tanh:0,2", "rrelu:divisor", "prelu:0.01", "leaky_relu:0.2"),
    *("prelu:0.0", "prelu:-0.5", "elu:1.7", "celu:0.375", "squareplus:0.5"),
    *("leaky_relu_squared:0.3", "softcap:0.375", "snake:0.25", "xielu:1.5,2,0.25"),
    "surrogate_relu:nelu",
)
assert set(VARIANTS) < {row.id for row in TABLE}

ROWS = [pytest.param(row, marks=pytest.mark.slow) if row.id in VARIANTS else row for row in TABLE]

#: The names of one row for each kind of declaration.
KINDS = ("relu", "leaky_relu", "prelu", "rrelu", "crelu", "hard_tanh", "elu", "gelu", "silu", "glu")
