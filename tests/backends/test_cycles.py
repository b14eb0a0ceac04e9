"""No function of jaxact takes a TPU more cycles than jax.nn's, on its compiler's own account."""

import dataclasses
import itertools

import jax.numpy as jnp
import pytest

from benchmarks import cycles

#: Where exponentials, logarithms and divisions make the difference.
HARD = ("gelu", "gelu(approximate=False)", "mish", "silu", "softplus", "log_sigmoid")
HARD_TARGETS = ("v6e", "tpu7x")
KINDS = list(itertools.product(cycles.PASSES, cycles.DTYPES))


def selected():
    """Each function on each target, in another pass and dtype on each; hard ones in all of them.

    Of each function, two targets in turn are not slow, nor is what is hard.
    """
    rotated = {
        cycles.Case(function, *KINDS[(i + j) % len(KINDS)], target): (i // 2 + j) % 2
        for i, function in enumerate(cycles.FUNCTIONS)
        for j, target in enumerate(cycles.TPUS)
    }
    hard = dict.fromkeys(cycles.cases(HARD_TARGETS, HARD), False)
    return [
        pytest.param(case, marks=pytest.mark.slow if slow else ())
        for case, slow in {**rotated, **hard}.items()
    ]


@pytest.mark.parametrize("case", selected(), ids=str)
def test_no_more_cycles_than_the_other_library(case):
    result = cycles.measure(case)
    assert cycles.above([result]) == [], f"{result.jaxact} / {result.peer} = {result.ratio:.3f}"


def test_a_slow_function_is_found(monkeypatch):
    """By what the test here is about, in both passes."""
    relu = cycles.FUNCTIONS["relu"]
    slow = dataclasses.replace(relu, jaxact=lambda x: relu.jaxact(x) + 0 * jnp.sin(x))
    monkeypatch.setitem(cycles.FUNCTIONS, "relu", slow)
    for passes in cycles.PASSES:
        result = cycles.measure(cycles.Case("relu", passes, "bfloat16", "v6e"))
        assert cycles.above([result]) == [result], (passes, result.ratio, result.limit)
