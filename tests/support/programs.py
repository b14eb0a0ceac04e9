"""How a program is checked, the activations that it is run with, and small networks for it."""

import functools
import itertools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxact

#: What JAX says of forward mode through a custom_vjp; the second, inside another derivative.
REFUSED = "can't apply forward-mode autodiff|Differentiation rule for 'custom_lin' not implemented"

#: Slopes for a hidden layer of WIDTH units: one that is none, one that is negative.
WIDTH = 6
SLOPES = (0.25, 0.0, -0.5, 0.1, 1.0, 2.0)
KEY = jax.random.key(11)


def alternating(names, things):
    """Each thing with a name, in turn: pairs of all would be twice the time for little more."""
    return list(zip(itertools.cycle(names), things, strict=False))


def leaky(x, slope):
    return jnp.where(x >= 0, x, slope * x)


def rrelu(x, key=None, lower=1 / 8, upper=1 / 3, *, deterministic=False):
    if deterministic:
        return leaky(x, (lower + upper) / 2)
    # The slopes that are drawn for this array; their distribution is tested elsewhere.
    return leaky(x, -jaxact.rrelu(-jnp.ones_like(x), key, lower, upper))


def mlp(x, w_in, w_out, *, b_in, b_out, activation):
    return getattr(jax.nn, activation)(x @ w_in + b_in) @ w_out + b_out


def gated_mlp(x, w_gate, w_up, w_down, *, activation):
    return (getattr(jax.nn, activation)(x @ w_gate) * (x @ w_up)) @ w_down


#: jax.nn, with what it lacks written out.
REFERENCE = types.SimpleNamespace(
    **{name: getattr(jax.nn, name) for name in jaxact.ACTIVATIONS if hasattr(jax.nn, name)},
    prelu=lambda x, alpha: leaky(x, alpha),
    rrelu=rrelu,
    hard_shrink=lambda x: jnp.where(abs(x) > 0.5, x, 0),
    soft_shrink=lambda x: jnp.sign(x) * jnp.maximum(abs(x) - 0.5, 0),
    swiglu=lambda gate, up: jax.nn.silu(gate) * up,
    geglu=lambda gate, up: jax.nn.gelu(gate) * up,
    mlp=mlp,
    gated_mlp=gated_mlp,
)

#: What is not ``getattr(nn, name)``: functions of hidden arrays (..., WIDTH) in the library nn.
_OTHERS: dict[str, Callable[[Any], Callable]] = {
    "gelu:exact": lambda nn: functools.partial(nn.gelu, approximate=False),
    "leaky_relu:0.2": lambda nn: functools.partial(nn.leaky_relu, negative_slope=0.2),
    "elu:1.5": lambda nn: functools.partial(nn.elu, alpha=1.5),
    "prelu": lambda nn: lambda x: nn.prelu(x, jnp.asarray(SLOPES, x.dtype)),
    "rrelu": lambda nn: functools.partial(nn.rrelu, deterministic=True),
    "rrelu:key": lambda nn: lambda x: nn.rrelu(x, KEY),
    "swiglu": lambda nn: lambda x: nn.swiglu(x, x[..., ::-1]),
    "geglu": lambda nn: lambda x: nn.geglu(x, x[..., ::-1]),
    "glu": lambda nn: lambda x: nn.glu(jnp.concatenate([x, x[..., ::-1]], -1)),
}

SMOOTH = (
    "gelu", "gelu:exact", "geglu", "glu", "log_sigmoid", "mish", "sigmoid", "silu", "softplus",
    "squareplus", "swiglu", "tanh",
)  # fmt: skip
KINKED = (
    "celu", "elu", "elu:1.5", "hard_sigmoid", "hard_shrink", "hard_silu", "hard_tanh",
    "leaky_relu", "leaky_relu:0.2", "prelu", "relu", "relu6", "rrelu", "rrelu:key", "selu",
    "soft_shrink", "soft_sign", "sparse_plus", "sparse_sigmoid",
)  # fmt: skip


def activation(nn, name: str) -> Callable:
    return _OTHERS[name](nn) if name in _OTHERS else getattr(nn, name)


def same(result, expected, rtol: float) -> None:
    """Leaf by leaf, to ``rtol`` of the leaf's largest element."""
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    leaves = jax.tree_util.tree_leaves_with_path(expected)
    # Nothing is shown by zeros.
    assert any(leaf.any() for _, leaf in leaves)
    for (path, theirs), ours in zip(leaves, jax.tree.leaves(result), strict=True):
        assert ours.dtype == theirs.dtype
        assert jnp.isfinite(theirs).all()
        np.testing.assert_allclose(
            ours, theirs, rtol=0, atol=rtol * float(abs(theirs).max()),
            err_msg=jax.tree_util.keystr(path),
        )  # fmt: skip


def check(
    program: Callable[[Any], Any],
    *,
    forward: bool = False,
    x64: bool = False,
    rtol: float | None = None,
    mode: str = "both",
) -> None:
    """The program's arrays are the same with jaxact's functions as with jax.nn's.

    Args:
      program: of the library of activations, jaxact or ``REFERENCE``; gives a tree of arrays,
        derivatives among them.
      forward: whether it differentiates in forward mode. Then JAX must refuse the default mode;
        otherwise the default mode must give the same results too.
      x64: in float64, where rounding errors grow.
      rtol: of each array's largest element; 1e-5, and 1e-9 in float64, where it is not given.
      mode: in which to run it.
    """
    rtol = rtol or (1e-9 if x64 else 1e-5)
    with jax.enable_x64(x64):
        expected = program(REFERENCE)
        with jaxact.autodiff(mode=mode):
            same(program(jaxact), expected, rtol)
        if forward:
            with pytest.raises((TypeError, NotImplementedError), match=REFUSED):
                program(jaxact)
        elif mode == "both":
            same(program(jaxact), expected, rtol)


def network(sizes=(2, WIDTH, WIDTH, 1), seed=0, dtype=float):
    """Weights and biases of a network with these layers."""
    params = []
    for n, m in itertools.pairwise(sizes):
        seed += 1
        w, b = jax.random.normal(jax.random.key(seed), (2, max(n, 1), m), dtype)
        params.append({"w": w / n**0.5, "b": b[0]})
    return params


def apply(params, x, act):
    for layer in params[:-1]:
        x = act(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def normal(*shape, seed=100):
    return jax.random.normal(jax.random.key(seed), shape, float)
