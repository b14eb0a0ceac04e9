"""The parts of a jaxpr: literals, nested jaxprs, what depends on what, and functions made of it."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax import lax

from jaxact._core.elementwise import varying_axes


def is_literal(atom: Any) -> bool:
    """Whether an operand of an equation is a number."""
    return hasattr(atom, "val")


def open_jaxpr(jaxpr: Any) -> Any:
    """The Jaxpr of a ClosedJaxpr, or the Jaxpr itself."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def consts_of(jaxpr: Any) -> Sequence[Any]:
    """The constants of a ClosedJaxpr; a Jaxpr has none."""
    return getattr(jaxpr, "consts", ())


def operation(equation: Any) -> Any:
    """The object that says what an equation does, or None where its primitive does.

    JAX's newer operations have one primitive (``call_hi_primitive``) with one parameter: an object
    with parameters of its own, whose class is the operation. With the flags custom_jvp3,
    custom_vjp3, remat3 and scan3 of JAX 0.12 these calls are such objects.
    """
    found = next(iter(equation.params.values()), None)
    is_object = len(equation.params) == 1 and hasattr(found, "expand") and hasattr(found, "params")
    return found if is_object else None


def name_of(equation: Any) -> str:
    """What an equation does: the name of its primitive, or the class of its `operation`."""
    found = operation(equation)
    return str(equation.primitive.name) if found is None else type(found).__name__


def parameters_of(equation: Any) -> Mapping[str, Any]:
    """The parameters of an equation, or of its `operation`."""
    found = operation(equation)
    parameters: Mapping[str, Any] = equation.params if found is None else found.params
    return parameters


def subjaxprs(parameters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The jaxprs among the parameters of an equation, each with the parameter's name."""
    for name, parameter in parameters.items():
        for value in parameter if isinstance(parameter, tuple | list) else (parameter,):
            if isinstance(value, jax.stages.Traced):
                yield name, value.jaxpr
            elif hasattr(open_jaxpr(value), "eqns"):
                yield name, value


def nested_equations(jaxpr: Any) -> Iterator[Any]:
    """The equations of an open jaxpr and of all jaxprs in it, whatever calls them."""
    for equation in jaxpr.eqns:
        yield equation
        for _, value in subjaxprs(parameters_of(equation)):
            yield from nested_equations(open_jaxpr(value))


def ancestors(jaxpr: Any, variables: Sequence[Any]) -> set[Any]:
    """The variables of a jaxpr that these depend on, these included."""
    producers = {v: equation for equation in jaxpr.eqns for v in equation.outvars}
    seen: set[Any] = set()
    waiting = list(variables)
    while waiting:
        variable = waiting.pop()
        if is_literal(variable) or variable in seen:
            continue
        seen.add(variable)
        if variable in producers:
            waiting.extend(producers[variable].invars)
    return seen


def jaxpr_of(
    equations: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Sequence[Any] = (),
) -> Any:
    """A jaxpr of some of another jaxpr's equations."""
    from jax.extend.core import Jaxpr

    effects = set().union(*(equation.effects for equation in equations))
    return Jaxpr(
        list(constants), list(inputs), list(outputs), list(equations), effects, _no_names()
    )


@functools.cache
def _no_names() -> Any:
    return jax.make_jaxpr(lambda: ())().jaxpr.debug_info.with_unknown_names()


def as_function(jaxpr: Any, consts: Sequence[Any] | None = None) -> Callable[..., list[Any]]:
    """A jaxpr as a function of its arguments, which returns the list of its results.

    Args:
      jaxpr: a ClosedJaxpr, or a Jaxpr.
      consts: its constants; by default those that the jaxpr has.
    """
    # Imported late: the import costs more than the rest of the package.
    from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

    # From JAX 0.12 every Jaxpr is a ClosedJaxpr too, with constants of its own.
    consts = consts_of(jaxpr) if consts is None else consts
    function: Callable[..., list[Any]] = jaxpr_as_fun(ClosedJaxpr(open_jaxpr(jaxpr), consts))
    return function


def bind(equations: Sequence[Any], outputs: Sequence[Any], values: Mapping[Any, Any]) -> list[Any]:
    """The values of some equations' results, the equations bound as they are.

    Args:
      equations: in order.
      outputs: the variables whose values are returned.
      values: by variable, of all that the equations read from outside.
    """
    made = {v for equation in equations for v in equation.outvars}
    read = (v for e in equations for v in e.invars if not is_literal(v) and v not in made)
    inputs = list(dict.fromkeys(read))
    return as_function(jaxpr_of(equations, inputs, outputs))(*[values[v] for v in inputs])


def as_varying(x: jax.Array, axes: Iterable[str]) -> jax.Array:
    """The array, of a type that varies over these manual mesh axes (inside ``shard_map``)."""
    missing = tuple(sorted(set(axes) - varying_axes(jax.typeof(x))))
    return lax.pcast(x, missing, to="varying") if missing else x
