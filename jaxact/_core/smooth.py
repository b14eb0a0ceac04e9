"""Smooth functions: how one is declared, and which of its formulas is computed where.

A smooth function has up to three formulas, which take and return `Real`:

- the *accurate* one, which takes an `Elementary` first, for CPUs and for 64 bits;
- the *native* one, in the compiler's own elementary functions, for the results of at most 32 bits
  on accelerators, which have instructions for them;
- the *natural* one of the slope: what its derivatives are taken of, on every platform. It is the
  native one where nothing else is said.

Which platform a function is compiled for is known only at the end: see `lax.platform_dependent`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from jaxact._core.arithmetic import Real, on_arrays
from jaxact._core.cells import CELLS
from jaxact._core.elementary import Elementary
from jaxact._core.elementwise import Elementwise, Formula

Accurate = Callable[..., Real]
Native = Callable[..., Real]


def smooth(
    name: str,
    value: Accurate,
    *slopes: Accurate | None,
    native: Sequence[Native | None] = (),
    natural: Sequence[Native] = (),
    plain: Native,
    **options: Any,
) -> Elementwise:
    """An activation whose pullback multiplies by a slope.

    ``value(m, *inputs)``, and ``slope(m, *inputs) = df/dinput`` for each input, are accurate (None
    for an input without influence on the gradient); ``native`` has those of the value and the
    slopes, ``natural`` those of the slopes. Both may be empty; the accurate formulas serve then.
    ``plain`` is the value for the mode of that name.
    """
    native = native or [None] * (1 + len(slopes))
    formulas = zip(slopes, native[1:], natural or native[1:], strict=True)
    partials = [slope and _partial(slope, *others) for slope, *others in formulas]
    cells = options.pop("cells", name if name in CELLS else "")
    return Elementwise(
        name,
        _sized(value, native[0]),
        partials,
        sized=True,
        cells=cells,
        plain=on_arrays(plain),
        **options,
    )


def _sized(accurate: Accurate, native: Native | None) -> Formula:
    """``(size, *inputs)`` -> the formula for results of ``size`` bytes."""

    def formula(size: int, *inputs: jax.Array) -> jax.Array:
        on_cpu = on_arrays(functools.partial(accurate, Elementary(size)))
        if native is None or size > 4:
            return on_cpu(*inputs)
        return lax.platform_dependent(*inputs, cpu=on_cpu, default=on_arrays(native))

    return formula


def _partial(accurate: Accurate, native: Native | None, natural: Native | None) -> Formula:
    """``(size, t, *inputs)`` -> t times the slope, which has the derivatives of the natural one."""
    sized = _sized(accurate, native)

    @functools.cache
    def slope(size: int) -> Formula:
        value = functools.partial(sized, size)
        if natural is None:
            return value
        differentiable = jax.custom_jvp(value)

        @differentiable.defjvp
        def jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
            _, tangent = jax.jvp(on_arrays(natural), primals, tangents)
            return differentiable(*primals), tangent

        return differentiable

    return lambda size, t, *inputs: lax.mul(t, slope(size)(*inputs))
