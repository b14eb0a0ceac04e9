"""How the activations of ``jax.nn`` and those that people write out look in a jaxpr.

Each is traced, at the dtype and the rank that is looked for: its graph is the pattern. jaxact's own
activations need none: their calls are marked (`jaxact._core.elementwise.DECLARED`).
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
      function: ``(x, *parameters)``.
      parameters: how many there are.
      fixed: parameters that the declaration has and this function has not.
      holds: a condition on the parameters that are numbers.
    """

    mark: str
    function: Callable[..., jax.Array]
    parameters: int = 0
    fixed: tuple[float, ...] = ()
    holds: Callable[..., bool] | None = None


_GELU = math.sqrt(2 / math.pi)


def _fraction(slope: float | None) -> bool:
    return slope is not None and 0 <= slope <= 1


#: Of two that match, the one that covers more counts.
KNOWN: Sequence[Known] = (
    Known("relu", jax.nn.relu),
    # In this order of the operands only: normalisation layers have max(0, variance).
    Known("relu", lambda x: jnp.maximum(x, 0)),
    Known("relu", lambda x: jnp.where(x > 0, x, 0)),
    Known("relu", lambda x: jnp.where(x >= 0, x, 0)),
    Known("relu", lambda x: jnp.where(x < 0, 0, x)),
    Known("relu", lambda x: jnp.where(x <= 0, 0, x)),
    Known("relu6", jax.nn.relu6),
    Known("relu6", lambda x: jnp.minimum(jnp.maximum(x, 0), 6)),
    Known("relu6", lambda x: jnp.clip(x, 0, 6)),
    Known("leaky_relu", jax.nn.leaky_relu, 1),
    Known("leaky_relu", lambda x, a: jnp.where(x > 0, x, a * x), 1),
    Known("leaky_relu", lambda x, a: jnp.where(x >= 0, x, x * a), 1),
    Known("leaky_relu", lambda x, a: jnp.where(x > 0, x, x * a), 1),
    Known("leaky_relu", lambda x, a: jnp.where(x < 0, a * x, x), 1),
    Known("leaky_relu", lambda x, a: jnp.where(x < 0, x * a, x), 1),
    Known("leaky_relu", lambda x, a: jnp.where(x <= 0, a * x, x), 1),
    Known("leaky_relu", lambda x, a: jnp.where(x <= 0, x * a, x), 1),
    Known("leaky_relu", lambda x, a: jnp.maximum(x, a * x), 1, holds=_fraction),
    Known("leaky_relu", lambda x, a: jnp.maximum(x, x * a), 1, holds=_fraction),
    Known("leaky_relu", lambda x, a: jnp.maximum(a * x, x), 1, holds=_fraction),
    Known("leaky_relu", lambda x, a: jnp.maximum(x * a, x), 1, holds=_fraction),
    Known("snake", lambda x, a: x + jnp.square(jnp.sin(a * x)) / a, 1),
    Known("snake", lambda x, a: x + jnp.sin(a * x) ** 2 / a, 1),
    Known("elu", jax.nn.elu, 1),
    Known("celu", jax.nn.celu, 1),
    Known("selu", jax.nn.selu),
    Known("gelu", lambda x: jax.nn.gelu(x, approximate=True)),
    Known("gelu", lambda x: 0.5 * x * (1 + jnp.tanh(_GELU * (x + 0.044715 * x**3)))),
    Known("gelu", lambda x: 0.5 * x * (1 + jnp.tanh(_GELU * (x + 0.044715 * x * x * x)))),
    Known("gelu", lambda x: x * 0.5 * (1 + jnp.tanh(_GELU * (x + 0.044715 * x**3)))),
    Known("gelu_erf", lambda x: jax.nn.gelu(x, approximate=False)),
    Known("gelu_erf", lambda x: 0.5 * x * (1 + jax.lax.erf(x / math.sqrt(2)))),
    Known("gelu_erf", lambda x: x * 0.5 * (1 + jax.lax.erf(x / math.sqrt(2)))),
    Known("silu", jax.nn.silu),
    Known("silu", lambda x: jax.nn.sigmoid(x) * x),
    Known("quick_gelu", lambda x: x * jax.nn.sigmoid(1.702 * x)),
    Known("quick_gelu", lambda x: x * jax.nn.sigmoid(x * 1.702)),
    Known("mish", jax.nn.mish),
    Known("softplus", jax.nn.softplus),
    Known("log_sigmoid", jax.nn.log_sigmoid),
    Known("sigmoid", jax.nn.sigmoid),
    Known("sigmoid", lambda x: 1 / (1 + jnp.exp(-x))),
    Known("tanh", jnp.tanh),
    Known("hard_tanh", jax.nn.hard_tanh, fixed=(-1.0, 1.0)),
    Known("hard_sigmoid", jax.nn.hard_sigmoid),
    Known("hard_silu", jax.nn.hard_silu),
    Known("hard_silu", lambda x: x * jax.nn.relu6(x + 3) / 6),
    Known("squareplus", jax.nn.squareplus, 1),
    Known("soft_sign", jax.nn.soft_sign),
    Known("sparse_plus", jax.nn.sparse_plus),
    Known("sparse_sigmoid", jax.nn.sparse_sigmoid),
    Known("crelu", crelu),
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


@functools.lru_cache(maxsize=64)
def patterns(dtype: Any, rank: int, differentiated: bool) -> Mapping[str, Sequence[Pattern]]:
    """The patterns for arrays of a dtype and a rank, by the operation of their result.

    With ``differentiated`` also those of what is left of a value where its derivative has been
    taken. The largest come first.
    """
    found: dict[str, list[Pattern]] = {}
    x = jax.ShapeDtypeStruct((3,) * rank, dtype)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for known in KNOWN:
            if known.mark == "crelu" and rank == 0:
                continue
            jaxpr = jax.make_jaxpr(known.function)(x, *[0.5] * known.parameters).jaxpr
            alternatives = [_pattern(known, Graph(jaxpr), jaxpr.invars)]
            if differentiated and known.mark != "crelu":
                alternatives += _with_derivative(known, x)
            for pattern in alternatives:
                found.setdefault(pattern.root.operation, []).append(pattern)
    for alternatives in found.values():
        alternatives.sort(key=lambda p: -p.size)
    return found


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
