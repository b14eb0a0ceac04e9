"""The activations as the site shows them: of numbers, with parameters that lack a default set."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

import jaxact
from jaxact.registry import takes_gate_and_up

#: What functions are shown with whose parameters have no default.
PARAMETERS: dict[str, dict[str, Any]] = {
    "prelu": {"alpha": 0.25},
    "rrelu": {"deterministic": True},
    "threshold": {"threshold": 0.5, "value": 0.0},
    "softcap": {"cap": 2.0},
    "xielu": {"alpha_p": 0.8, "alpha_n": 0.8},
    "clamped_swiglu": {"limit": 7.0},
}


class Shown(NamedTuple):
    """An activation of numbers.

    Attributes:
      name: in `jaxact.ACTIVATIONS`.
      parameters: what is set.
      function: jaxact's, with the parameters.
      inputs: ``("x",)`` or ``("gate", "up")``, which are one array for `jaxact.glu`.
      scalar: the function of as many numbers; its result is one, or for `jaxact.crelu` two.
    """

    name: str
    parameters: dict[str, Any]
    function: Callable[..., jax.Array]
    inputs: tuple[str, ...]
    scalar: Callable[..., jax.Array]

    @property
    def call(self) -> str:
        """How it is called, in Python: ``softcap(x, cap=2.0)``."""
        inputs = ("x",) if self.name == "glu" else self.inputs
        given = [f"{name}={value}" for name, value in self.parameters.items()]
        return f"{self.name}({', '.join([*inputs, *given])})"

    def evaluate(self, *inputs: ArrayLike) -> tuple[np.ndarray, ...]:
        """The values at float32 inputs of one dimension, and the derivatives by each of them."""
        arrays = np.broadcast_arrays(*(np.asarray(x, np.float32) for x in inputs))
        count = arrays[0].size
        # Of one length, so that it is compiled once.
        padded = [np.resize(x, max(count, _LENGTH)) for x in arrays]
        results = _compiled(self.name)(*padded)
        return tuple(np.asarray(y, np.float64)[:count] for y in results)


_LENGTH = 4096


@functools.cache
def _compiled(name: str) -> Callable[..., Any]:
    function = shown(name)
    places = tuple(range(len(function.inputs)))

    def evaluated(*numbers: jax.Array) -> tuple[jax.Array, ...]:
        return function.scalar(*numbers), *jax.jacrev(function.scalar, places)(*numbers)

    return jax.jit(jax.vmap(evaluated))


def first_name(name: str) -> str:
    """The name under which a function is defined: silu for swish."""
    return jaxact.ACTIVATIONS[name].__name__


def shown(name: str) -> Shown:
    """The activation of a name, as the site shows it."""
    parameters = PARAMETERS.get(first_name(name), {})
    function: Callable[..., jax.Array] = jaxact.ACTIVATIONS[name]
    gated = takes_gate_and_up(function)
    if parameters:
        function = functools.partial(function, **parameters)
    if name == "glu":  # The gate is the second half.
        halves = lambda gate, up: function(jnp.stack([up, gate]))[0]  # noqa: E731
        return Shown(name, parameters, function, ("gate", "up"), halves)
    if name == "crelu":
        return Shown(name, parameters, function, ("x",), lambda x: function(x[None]))
    return Shown(name, parameters, function, ("gate", "up") if gated else ("x",), function)


#: Where kinks are looked for.
FAR = 20.0


def kinks(activation: Shown) -> list[float]:
    """Where the value or the slope jumps; of gated ones, in the gate, with an up of 1.

    To four digits after the point.
    """

    def figures(x: np.ndarray) -> np.ndarray:
        results = activation.evaluate(x, *[1.0] * (len(activation.inputs) - 1))[:2]
        return np.concatenate([y.reshape(len(x), -1) for y in results], axis=1)

    def jumps(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.abs(figures(high) - figures(low)).max(axis=1)

    x = np.linspace(-FAR, FAR, 4001)  # Of round numbers.
    low, high = x[:-1], x[1:]
    at_first = jumps(low, high)
    found = at_first > 5e-3
    low, high, at_first = low[found], high[found], at_first[found]
    if not len(low):
        return []
    for _ in range(14):  # Halve the intervals: what is only steep becomes flat, a jump remains.
        middle = (low + high) / 2
        is_left = jumps(low, middle) > jumps(middle, high)
        low, high = np.where(is_left, low, middle), np.where(is_left, middle, high)
    return sorted({round(float(z), 4) + 0.0 for z in low[jumps(low, high) > at_first / 4]})
