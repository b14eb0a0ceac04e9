"""Flax NNX layers: activations that have a state of their own."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

import jaxact


class PReLU(nnx.Module):
    r"""`jaxact.prelu` with learned slopes.

    Args:
      features: the number of channels along ``axis``, for a slope each; None for one shared slope.
      axis: the channels' axis of the input.
      slope_init: the slopes' initial value.
      param_dtype: the slopes' dtype.

    Reference: He et al., "Delving deep into rectifiers", 2015 (arXiv 1502.01852), who start at 0.25
    and apply no weight decay to the slopes.

    >>> import jax.numpy as jnp
    >>> print(PReLU(features=2)(jnp.array([[-1.0, 2.0]])))
    [[-0.25  2.  ]]
    """

    def __init__(
        self,
        features: int | None = None,
        *,
        axis: int = -1,
        slope_init: float = 0.25,
        param_dtype: Any = jnp.float32,
    ):
        shape = () if features is None else (features,)
        self.alpha = nnx.Param(jnp.full(shape, slope_init, param_dtype))
        self.axis = axis

    def __call__(self, x: ArrayLike) -> jax.Array:
        return jaxact.prelu(x, self.alpha[...], axis=self.axis)


class RReLU(nnx.Module):
    r"""`jaxact.rrelu` with a stream of random keys: a new key in each call.

    Args:
      lower: the smallest slope.
      upper: the slopes are below this.
      deterministic: use the mean slope, as for evaluation; also set by ``model.eval()`` and
        ``model.train()``, and overridden by the call's argument.
      rngs: where the layer's own stream of keys is forked from; its stream ``"rrelu"`` if it has
        one, else the default.

    Reference: Xu et al., "Empirical evaluation of rectified activations in convolutional network",
    2015 (arXiv 1505.00853).

    >>> import jax.numpy as jnp
    >>> layer = RReLU(0.1, 0.3, rngs=nnx.Rngs(0))
    >>> layer.eval()
    >>> print(layer(jnp.array([-1.0, 2.0])))
    [-0.2  2. ]
    """

    def __init__(
        self,
        lower: float = 1 / 8,
        upper: float = 1 / 3,
        *,
        deterministic: bool = False,
        rngs: nnx.Rngs,
    ):
        self.lower = lower
        self.upper = upper
        self.deterministic = deterministic
        stream = rngs["rrelu"] if "rrelu" in rngs else rngs["default"]
        self.rngs = stream.fork()

    def __call__(self, x: ArrayLike, *, deterministic: bool | None = None) -> jax.Array:
        if self.deterministic if deterministic is None else deterministic:
            return jaxact.rrelu(x, None, self.lower, self.upper, deterministic=True)
        return jaxact.rrelu(x, self.rngs(), self.lower, self.upper)
