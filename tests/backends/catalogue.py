"""What is compiled for every backend: all functions, layers and blocks, value and gradient."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from table import GATED, TABLE

import jaxact
import jaxact.nnx


def _layer(make: Callable[[], nnx.Module]) -> Callable[[jax.Array], jax.Array]:
    def call(x: jax.Array) -> jax.Array:
        return make()(x)

    return call


def _with(call: Callable, **policy) -> Callable:
    def function(*args):
        with jaxact.autodiff(**policy):
            return call(*args)

    return function


#: Functions of one array.
UNARY = {row.id: row.call for row in TABLE}
#: With residuals of a few bits an element.
PACKED = {
    "relu, mask": _with(jaxact.relu, residual="mask"),
    "leaky_relu, mask": _with(jaxact.leaky_relu, residual="mask"),
    "rrelu, mask": _with(UNARY["rrelu:key"], residual="mask"),
    "gelu, 4 bits": _with(jaxact.gelu, residual="quantized", bits=4),
    "silu, 2 bits": _with(jaxact.silu, residual="quantized", bits=2),
}
UNARY |= PACKED | {
    "crelu": lambda x: jaxact.crelu(x, axis=0),
    "nnx.PReLU": _layer(lambda: jaxact.nnx.PReLU()),
    "nnx.RReLU": _layer(lambda: jaxact.nnx.RReLU(rngs=nnx.Rngs(0))),
}
#: Functions of two arrays.
BINARY = {row.id: row.call for row in GATED}
# Halves of a sharded axis are on different devices: along another axis, nothing moves.
BINARY["glu"] = lambda gate, up: jaxact.glu(jnp.concatenate([up, gate]), axis=0)
#: With all that are elementwise, and so must not communicate.
FUNCTIONS = UNARY | BINARY


def arguments(name: str, shape, dtype, sharding=None) -> list[jax.ShapeDtypeStruct]:
    x = jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
    return [x, x] if name in BINARY else [x]


def value_and_gradient(call: Callable) -> Callable:
    """The value, and the gradient of every argument for a cotangent like the first."""

    def function(*args):
        y, pullback = jax.vjp(call, *args)
        g = args[0] if y.shape == args[0].shape else jnp.concatenate([args[0], args[0]])
        return y, pullback(lax.stop_gradient(g))

    return function


BLOCKS = {
    "mlp": functools.partial(jaxact.mlp, activation="gelu"),
    "gated_mlp": jaxact.gated_mlp,
}
