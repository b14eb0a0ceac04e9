"""How the activations of ``jax.nn`` and those that people write out look in a jaxpr.

Each is traced where its operations occur: its graph is the pattern. jaxact's own activations need
none: their calls are marked (`jaxact._core.elementwise.DECLARED`).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxact._core.elementwise import DECLARED
from jaxact._jaxprs.structure import name_of, open_jaxpr
from jaxact._probe.graph import Graph, Reference, numbers_of_loop
from jaxact.piecewise_linear import crelu


@dataclasses.dataclass(frozen=True)
class Function:
    """What is known of an activation that has been found.

    Attributes:
      name: in `jaxact.ACTIVATIONS`.
      slope: ``(x, *parameters) -> f'(x)``.
      binary: whether the slope is 0 or 1 everywhere.
      arrays: how many of the arguments are arrays: two for gated functions.
      mark: its key in `DECLARED`, or "crelu"; "" where nothing is known of its parameters.
    """

    name: str
    slope: Callable[..., jax.Array]
    binary: bool
    arrays: int
    mark: str = ""


@functools.cache
def function(mark: str) -> Function:
    """The activation of a mark."""
    if mark == "crelu":  # One of its halves is active.
        return Function("crelu", lambda x: (x != 0).astype(x.dtype), True, 1, mark)
    declared = DECLARED[mark]
    arrays = len(declared.arrays)
    return Function(declared.name, declared.slope, declared.binary, arrays, mark)


@dataclasses.dataclass(frozen=True)
class Known:
    """An activation to be recognised.

    Attributes:
      mark: its key in `DECLARED`, or ``"crelu"``.
      operations: some of its operations, those inside a ``custom_jvp`` included. It is not looked
        for where one of them does not occur.
      function: ``(x, *parameters)``.
      parameters: how many there are.
      fixed: parameters that the declaration has and this function has not.
      holds: a condition on the parameters that are numbers.
    """

    mark: str
    operations: str
    function: Callable[..., jax.Array]
    parameters: int = 0
    fixed: tuple[float, ...] = ()
    holds: Callable[..., bool] | None = None

    @functools.cached_property
    def required(self) -> frozenset[str]:
        """The operations, as a set."""
        return frozenset(self.operations.split())

    @property
    def has_rule(self) -> bool:
        """Whether it, or a part of it, has a derivative of its own."""
        return "custom_jvp" in self.required


_GELU = math.sqrt(2 / math.pi)


def _fraction(slope: float | None) -> bool:
    return slope is not None and 0 <= slope <= 1


#: Of two that match, the one that covers more counts.
KNOWN: Sequence[Known] = (
    Known("relu", "custom_jvp max", jax.nn.relu),
    # In this order of the operands only: normalisation layers have max(0, variance).
    Known("relu", "max", lambda x: jnp.maximum(x, 0)),
    Known("relu", "gt select_n", lambda x: jnp.where(x > 0, x, 0)),
    Known("relu", "ge select_n", lambda x: jnp.where(x >= 0, x, 0)),
    Known("relu", "lt select_n", lambda x: jnp.where(x < 0, 0, x)),
    Known("relu", "le select_n", lambda x: jnp.where(x <= 0, 0, x)),
    Known("relu6", "custom_jvp min", jax.nn.relu6),
    Known("relu6", "max min", lambda x: jnp.minimum(jnp.maximum(x, 0), 6)),
    Known("relu6", "max min", lambda x: jnp.clip(x, 0, 6)),
    Known("leaky_relu", "ge select_n mul", jax.nn.leaky_relu, 1),
    Known("leaky_relu", "gt select_n mul", lambda x, a: jnp.where(x > 0, x, a * x), 1),
    Known("leaky_relu", "ge select_n mul", lambda x, a: jnp.where(x >= 0, x, x * a), 1),
    Known("leaky_relu", "gt select_n mul", lambda x, a: jnp.where(x > 0, x, x * a), 1),
    Known("leaky_relu", "lt select_n mul", lambda x, a: jnp.where(x < 0, a * x, x), 1),
    Known("leaky_relu", "lt select_n mul", lambda x, a: jnp.where(x < 0, x * a, x), 1),
    Known("leaky_relu", "le select_n mul", lambda x, a: jnp.where(x <= 0, a * x, x), 1),
    Known("leaky_relu", "le select_n mul", lambda x, a: jnp.where(x <= 0, x * a, x), 1),
    Known("leaky_relu", "max mul", lambda x, a: jnp.maximum(x, a * x), 1, holds=_fraction),
    Known("leaky_relu", "max mul", lambda x, a: jnp.maximum(x, x * a), 1, holds=_fraction),
    Known("leaky_relu", "max mul", lambda x, a: jnp.maximum(a * x, x), 1, holds=_fraction),
    Known("leaky_relu", "max mul", lambda x, a: jnp.maximum(x * a, x), 1, holds=_fraction),
    Known("snake", "sin square div", lambda x, a: x + jnp.square(jnp.sin(a * x)) / a, 1),
    Known("snake", "sin integer_pow div", lambda x, a: x + jnp.sin(a * x) ** 2 / a, 1),
    Known("elu", "expm1 select_n", jax.nn.elu, 1),
    Known("celu", "expm1 max min", jax.nn.celu, 1),
    Known("selu", "expm1 select_n", jax.nn.selu),
    Known("gelu", "tanh integer_pow", lambda x: jax.nn.gelu(x, approximate=True)),
    Known(
        "gelu",
        "tanh integer_pow",
        lambda x: 0.5 * x * (1 + jnp.tanh(_GELU * (x + 0.044715 * x**3))),
    ),
    Known("gelu", "tanh", lambda x: 0.5 * x * (1 + jnp.tanh(_GELU * (x + 0.044715 * x * x * x)))),
    Known(
        "gelu",
        "tanh integer_pow",
        lambda x: x * 0.5 * (1 + jnp.tanh(_GELU * (x + 0.044715 * x**3))),
    ),
    Known("gelu_erf", "erfc", lambda x: jax.nn.gelu(x, approximate=False)),
    Known("gelu_erf", "erf", lambda x: 0.5 * x * (1 + jax.lax.erf(x / math.sqrt(2)))),
    Known("gelu_erf", "erf", lambda x: x * 0.5 * (1 + jax.lax.erf(x / math.sqrt(2)))),
    Known("silu", "logistic", jax.nn.silu),
    Known("silu", "logistic", lambda x: jax.nn.sigmoid(x) * x),
    Known("quick_gelu", "logistic", lambda x: x * jax.nn.sigmoid(1.702 * x)),
    Known("quick_gelu", "logistic", lambda x: x * jax.nn.sigmoid(x * 1.702)),
    Known("mish", "custom_jvp log1p tanh", jax.nn.mish),
    Known("softplus", "custom_jvp log1p", jax.nn.softplus),
    Known("log_sigmoid", "custom_jvp log1p", jax.nn.log_sigmoid),
    Known("sigmoid", "logistic", jax.nn.sigmoid),
    Known("sigmoid", "exp neg div", lambda x: 1 / (1 + jnp.exp(-x))),
    Known("tanh", "tanh", jnp.tanh),
    Known("hard_tanh", "gt lt select_n", jax.nn.hard_tanh, fixed=(-1.0, 1.0)),
    Known("hard_sigmoid", "custom_jvp min div", jax.nn.hard_sigmoid),
    Known("hard_silu", "custom_jvp min div", jax.nn.hard_silu),
    Known("hard_silu", "custom_jvp min div", lambda x: x * jax.nn.relu6(x + 3) / 6),
    Known("squareplus", "square sqrt div", jax.nn.squareplus, 1),
    Known("soft_sign", "abs add div", jax.nn.soft_sign),
    Known("sparse_plus", "ge le integer_pow select_n", jax.nn.sparse_plus),
    Known("sparse_sigmoid", "max min mul", jax.nn.sparse_sigmoid),
    Known("crelu", "jaxact concatenate", crelu),
)


@dataclasses.dataclass(frozen=True)
class Pattern:
    """The graph of a known activation.

    Attributes:
      known: the activation.
      root: its result.
      x: its argument.
      parameters: its parameters.
      size: how many operations it has.
    """

    known: Known
    root: Reference
    x: Reference
    parameters: tuple[Reference, ...]
    size: int


@functools.lru_cache(maxsize=256)
def patterns(
    dtype: Any, operations: frozenset[str], differentiated: bool
) -> Mapping[str, Sequence[Pattern]]:
    """The patterns for arrays of a dtype, by the operation of their result, the largest first.

    Traced are those alone that may be there, and once for all ranks and for all dtypes up to 32
    bits: the graphs are the same.

    Args:
      dtype: of the arrays.
      operations: those that occur.
      differentiated: whether to look as well for what is left of a value where its derivative has
        been taken.
    """
    dtype = jnp.dtype(dtype)
    alike = dtype in (jnp.float32, jnp.bfloat16, jnp.float16)
    # JAX takes the call with a derivative of its own apart.
    gone = {"custom_jvp"} if differentiated else set()
    possible = tuple(i for i, known in enumerate(KNOWN) if known.required - gone <= operations)
    return _table(possible, jnp.dtype(jnp.float32) if alike else dtype, differentiated)


@functools.lru_cache(maxsize=256)
def _table(
    possible: Sequence[int], dtype: Any, differentiated: bool
) -> Mapping[str, Sequence[Pattern]]:
    found: dict[str, list[Pattern]] = {}
    for i in possible:
        for pattern in _traced(i, dtype, differentiated):
            found.setdefault(pattern.root.operation, []).append(pattern)
    for alternatives in found.values():
        alternatives.sort(key=lambda p: -p.size)
    return found


@functools.cache
def _traced(i: int, dtype: Any, differentiated: bool) -> Sequence[Pattern]:
    """The patterns of a known activation: one, or all that differentiation makes of it."""
    known = KNOWN[i]
    x = jax.ShapeDtypeStruct((3,), dtype)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        if differentiated:
            whole = _traced(i, dtype, False)
            # A value without a derivative of its own stays as it is.
            return (*whole, *(_with_derivative(known, x) if known.has_rule else ()))
        jaxpr = jax.make_jaxpr(known.function)(x, *[0.5] * known.parameters).jaxpr
        return (_pattern(known, Graph(jaxpr), jaxpr.invars),)


def _pattern(known: Known, graph: Graph, arguments: Sequence[Any]) -> Pattern:
    x, *parameters = arguments
    return Pattern(known, graph.outputs[0], x, tuple(parameters), sum(map(len, graph.nodes)))


def _with_derivative(known: Known, x: Any) -> Iterator[Pattern]:
    """The value as JAX leaves it in forward mode, and in a loop with a gradient."""
    parameters = [0.5] * known.parameters

    def forward(x: Any, *parameters: Any) -> Any:
        return jax.jvp(lambda x: known.function(x, *parameters), (x,), (x,))[0]

    jaxpr = jax.make_jaxpr(forward)(x, *parameters).jaxpr
    yield _pattern(known, Graph(jaxpr), jaxpr.invars)

    def gradient(x: Any, *parameters: Any) -> Any:
        def step(x: Any, _: None) -> Any:
            return known.function(x, *parameters), None

        return jax.vjp(lambda x: jax.lax.scan(step, x, None, length=2)[0], x)

    try:
        jaxpr = jax.make_jaxpr(gradient)(x, *parameters).jaxpr
    except NotImplementedError:  # JAX 0.12's third version of scan has no gradient.
        return
    loop = next(equation for equation in jaxpr.eqns if name_of(equation) == "scan")
    body = open_jaxpr(loop.params["jaxpr"])
    graph = Graph(body, numbers_of_loop(Graph(jaxpr), loop))
    needed = graph.arguments(graph.outputs[0])
    *constants, x = (v for v in body.invars if v in needed)
    if len(constants) == known.parameters:
        yield _pattern(known, graph, [x, *constants])
