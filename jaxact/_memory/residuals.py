"""The arrays that the backward pass of a function keeps, and who asked for each.

JAX's reverse mode is a function that returns a pullback, whose leaves are what it keeps. The
equations of the pullback that read a leaf are those that asked for it.
"""

import dataclasses
import linecache
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxact._jaxprs.calls import call_of
from jaxact._jaxprs.provenance import frames, name_stack, source
from jaxact._jaxprs.structure import is_literal, name_of, open_jaxpr
from jaxact._text import size, table
from jaxact.registry import ACTIVATIONS


@dataclasses.dataclass(frozen=True)
class Residual:
    """An array that the backward pass keeps.

    Attributes:
      shape: its shape; under ``jax.lax.scan``, with the steps in front.
      dtype: its dtype.
      bytes: its size.
      activation: who asked for it: an activation (of jaxact or ``jax.nn``) by its name, another
        operation by its primitive's (``dot_general``); all of them, if several did.
      name_stack: the ``jax.named_scope`` names (Flax Linen's module paths) around it.
      source: the line of your code that called it, ``file:line``.
      origin: ``"computed"``; or ``"argument"``, ``"closed over"`` (a model's parameters, often) or
        ``"output"``, which are alive anyway.
    """

    shape: tuple[int, ...]
    dtype: Any
    bytes: int
    activation: str
    name_stack: str
    source: str
    origin: str


class Residuals(tuple[Residual, ...]):
    """The kept arrays, the largest first; prints as a table."""

    @property
    def total(self) -> int:
        """The bytes of all kept arrays that are computed for the backward pass."""
        return sum(r.bytes for r in self if r.origin == "computed")

    def __str__(self) -> str:
        header = ("shape", "dtype", "size", "origin", "kept for", "name stack", "source")
        rows = [
            (
                str(r.shape),
                str(r.dtype),
                size(r.bytes),
                r.origin,
                r.activation,
                r.name_stack,
                r.source,
            )
            for r in self
        ]
        total = f"{size(self.total)} computed for the backward pass"
        alive = sum(r.bytes for r in self) - self.total
        return f"{table(header, rows)}\n{total}, beside {size(alive)} that are there anyway"


def residuals(fn: Callable[..., Any], *args: Any) -> Residuals:
    """What the backward pass of any JAX function keeps, by array.

    These are the arrays that JAX hands from the forward to the backward pass. The compiler may
    keep fewer (it recomputes what is cheap) or more (it merges a recomputation with the forward
    pass): `compiled` says what it does.

    Args:
      fn: any JAX function that is differentiable in reverse mode; nothing runs.
      *args: its arguments: arrays, or ``jax.ShapeDtypeStruct`` for their shapes.

    Returns:
      A tuple of `Residual`, which prints as a table with a total.

    Examples:
      >>> import jax, jax.numpy as jnp, jaxact
      >>> x = jax.ShapeDtypeStruct((128, 256), jnp.bfloat16)
      >>> w = jax.ShapeDtypeStruct((256, 512), jnp.bfloat16)
      >>> [kept] = [r for r in residuals(lambda x, w: jaxact.silu(x @ w), x, w)
      ...           if r.origin == "computed"]
      >>> kept.activation, kept.shape, kept.bytes
      ('silu', (128, 512), 131072)
    """

    def forward(*args: Any) -> tuple[Any, Any]:
        return jax.vjp(fn, *args)

    traced, (out, pullback) = jax.make_jaxpr(forward, return_shape=True)(*args)
    count = len(jax.tree.leaves(out))
    outputs, kept = traced.jaxpr.outvars[:count], traced.jaxpr.outvars[count:]

    cotangents = jax.tree.map(_cotangent, out)
    backward = jax.make_jaxpr(lambda pullback, g: pullback(g))(pullback, cotangents).jaxpr
    uses: dict[Any, list[Use]] = {}
    # What the pullback returns as it is, no equation reads.
    returned = {v for v, r in zip(kept, backward.invars, strict=False) if r in backward.outvars}
    for variable, reader in zip(kept, backward.invars, strict=False):
        if not is_literal(variable):  # A literal is part of the program.
            uses.setdefault(variable, []).extend(_uses(backward, reader, ()))

    found = []
    for variable, of_variable in uses.items():
        if not of_variable and variable not in returned:  # Handed over, but never read.
            continue
        aval = variable.aval
        origin = "computed"
        if variable in traced.jaxpr.invars:
            origin = "argument"
        elif variable in traced.jaxpr.constvars:
            origin = "closed over"
        elif variable in outputs:
            origin = "output"
        found.append(
            Residual(
                shape=tuple(aval.shape),
                dtype=aval.dtype,
                bytes=math.prod(aval.shape) * aval.dtype.itemsize,
                activation=", ".join(dict.fromkeys(map(_asker, of_variable))),
                name_stack=next(filter(None, map(name_stack, of_variable)), ""),
                source=next(filter(None, map(source, of_variable)), ""),
                origin=origin,
            )
        )
    return Residuals(sorted(found, key=lambda r: -r.bytes))


def _cotangent(out: Any) -> Any:
    """The shape of an output's cotangent."""
    if jax.numpy.issubdtype(out.dtype, jax.numpy.inexact):
        return out
    return jax.ShapeDtypeStruct(out.shape, jax.dtypes.float0)


#: An equation and the equations around it, the outermost first.
Use = tuple[Any, ...]


def _uses(jaxpr: Any, variable: Any, around: Use) -> Iterator[Use]:
    """The equations that read a variable, those inside nested computations included."""
    for equation in jaxpr.eqns:
        for position, operand in enumerate(equation.invars):
            if operand is not variable:
                continue
            inner = list(_readers(equation, position))
            for nested, reader in inner:
                yield from _uses(nested, reader, (*around, equation))
            if not inner:
                yield (*around, equation)


def _readers(equation: Any, position: int) -> Iterator[tuple[Any, Any]]:
    """The nested jaxprs of an equation, each with its variable for an operand."""
    call = call_of(equation)
    for jaxpr, operands in call.nested(equation) if call else ():
        for variable, operand in zip(open_jaxpr(jaxpr).invars, operands, strict=True):
            if operand == position:
                yield open_jaxpr(jaxpr), variable


def _asker(use: Use) -> str:
    block = re.search(r"\bjaxact\.(\w+)", name_stack(use))
    if block:
        return block[1]
    known = {*ACTIVATIONS, *dir(jax.nn)}
    for equation in use:
        if equation.params.get("name") in known:
            return equation.params["name"]
    found = name_of(use[-1])
    for frame in frames(use[-1]):
        if _JAX_NN.search(frame.file_name):
            # The outermost is the public one. relu and relu6 have their rules in lambdas.
            line = linecache.getline(frame.file_name, frame.line_num)
            rule = re.match(r"(\w+)\.def", line)
            found = rule[1] if rule else frame.function_name
    return found


#: A call into jax.nn.
_JAX_NN = re.compile(r"jax/_src/nn/\w+\.py$")
