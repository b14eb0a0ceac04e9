"""What is compiled for every backend: all functions, layers and blocks, value and gradient."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

import jaxact
import jaxact.linen
import jaxact.nnx
from tests.support.rows import VARIANTS
from tests.support.table import GATED, TABLE


def _layer(name: str) -> Callable[[jax.Array], jax.Array]:
    def call(x: jax.Array) -> jax.Array:
        options = {"rngs": nnx.Rngs(0)} if name == "RReLU" else {}
        return getattr(jaxact.nnx, name)(**options)(x)

    return call


def _linen_layer(name: str) -> Callable[[jax.Array], jax.Array]:
    def call(x: jax.Array) -> jax.Array:
        keys = {"params": jax.random.key(0), "rrelu": jax.random.key(1)}
        return getattr(jaxact.linen, name)().init_with_output(keys, x)[0]

    return call


#: The elementwise layers that have parameters or keys. The others are functions of UNARY.
LAYERS = ("PReLU", "RReLU", "Swish", "XIELU")


def _with(call: Callable, **policy) -> Callable:
    def function(*args):
        with jaxact.autodiff(**policy):
            return call(*args)

    return function


#: Functions of one array. Other parameters are other operands of the same program.
UNARY = {row.id: row.call for row in TABLE if row.id not in VARIANTS}
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
    **{f"nnx.{name}": _layer(name) for name in LAYERS},
    **{f"linen.{name}": _linen_layer(name) for name in LAYERS},
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
