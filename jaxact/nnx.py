"""Flax NNX layers: activations as modules, with learned or random slopes, and feed-forward blocks.

`jaxact.linen` has the same layers with the same arguments. A ``partitioning`` names the axes of a
device mesh (or Flax's logical axes) that a parameter is sharded over: Flax's ``out_sharding``
metadata.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from jaxact import _layers, feedforward, piecewise_linear, smooth
from jaxact._layers import Initializer
from jaxact.registry import Activation as Function, get


class LeakyReLU(nnx.Module):
    r"""`jaxact.leaky_relu` as a layer.

    Args:
      negative_slope: the slope of negative inputs.

    Examples:
      >>> import jax.numpy as jnp
      >>> LeakyReLU(0.2)(jnp.array([-1.0, 2.0]))
      Array([-0.2,  2. ], dtype=float32)
    """

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def __call__(self, x: ArrayLike) -> jax.Array:
        """The activation of an array, element by element."""
        return self._function()(x)

    def _function(self, **_: Any) -> Function:
        return functools.partial(piecewise_linear.leaky_relu, negative_slope=self.negative_slope)


class ELU(nnx.Module):
    r"""`jaxact.elu` as a layer.

    Args:
      alpha: minus the limit at -inf.

    Examples:
      >>> import jax.numpy as jnp
      >>> ELU()(jnp.array([-1.0, 2.0])).round(4)
      Array([-0.6321,  2.    ], dtype=float32)
    """

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def __call__(self, x: ArrayLike) -> jax.Array:
        """The activation of an array, element by element."""
        return self._function()(x)

    def _function(self, **_: Any) -> Function:
        return functools.partial(smooth.elu, alpha=self.alpha)


class PReLU(nnx.Module):
    r"""`jaxact.prelu` with learned slopes, the parameter ``alpha``.

    Slopes of PyTorch's ``PReLU.weight`` and of Keras' ``PReLU`` with ``shared_axes`` load with
    ``layer.alpha[...] = jnp.asarray(slopes).reshape(layer.alpha.shape)``.

    Args:
      features: the number of channels along ``axis``, for a slope each; None for one shared slope.
      axis: the channels' axis of the input.
      slope_init: the slopes' initial value, or an initializer.
      partitioning: the mesh axis of the channels, so that slopes are sharded with them.
      dtype: of the computation and the output; None for the input's.
      param_dtype: the slopes' dtype. Their gradient is summed in float32, whatever the input's is.
      rngs: for a random initializer.

    Raises:
      ValueError: ``features`` is not a number of channels; at the call, it does not fit the input.

    Reference: He et al., "Delving deep into rectifiers", 2015 (arXiv 1502.01852), who start at 0.25
    and apply no weight decay to the slopes (`jaxact.optim.decay_mask`).

    Examples:
      >>> import jax.numpy as jnp
      >>> layer = PReLU(features=2)
      >>> layer(jnp.array([[-1.0, 2.0]]))
      Array([[-0.25,  2.  ]], dtype=float32)
      >>> layer.alpha.shape
      (2,)
    """

    def __init__(
        self,
        features: int | None = None,
        *,
        axis: int = -1,
        slope_init: ArrayLike | Initializer = 0.25,
        partitioning: str | tuple[str, ...] | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        shape = _layers.channels("PReLU", features, partitioning)
        self.alpha = _param(slope_init, shape, param_dtype, (partitioning,), rngs)
        self.axis = axis
        self.dtype = dtype

    def __call__(self, x: ArrayLike) -> jax.Array:
        """The activation of an array, element by element."""
        return self._function()(x)

    def _function(self, **_: Any) -> Function:
        alpha = self.alpha[...]
        return lambda x: piecewise_linear.prelu(_layers.cast(x, self.dtype), alpha, axis=self.axis)


class Swish(nnx.Module):
    r"""`jaxact.silu` with a learned β, the parameter ``beta``: x σ(βx).

    Args:
      features: the number of channels along ``axis``, for a β each; None for one that they share.
      axis: the channels' axis of the input.
      beta_init: the initial β, or an initializer.
      partitioning: the mesh axis of the channels, so that β is sharded with them.
      dtype: of the computation and the output; None for the input's.
      param_dtype: the dtype of β. Its gradient is summed in float32, whatever the input's is.
      rngs: for a random initializer.

    Raises:
      ValueError: ``features`` is not a number of channels; at the call, it does not fit the input.

    Reference: Ramachandran et al., "Searching for activation functions", 2017 (arXiv 1710.05941).

    Examples:
      >>> import jax.numpy as jnp
      >>> Swish(beta_init=2.0)(jnp.array([-1.0, 2.0])).round(4)
      Array([-0.1192,  1.964 ], dtype=float32)
    """

    def __init__(
        self,
        features: int | None = None,
        *,
        axis: int = -1,
        beta_init: ArrayLike | Initializer = 1.0,
        partitioning: str | tuple[str, ...] | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        shape = _layers.channels("Swish", features, partitioning)
        self.beta = _param(beta_init, shape, param_dtype, (partitioning,), rngs)
        self.axis = axis
        self.dtype = dtype

    def __call__(self, x: ArrayLike) -> jax.Array:
        """The activation of an array, element by element."""
        return self._function()(x)

    def _function(self, **_: Any) -> Function:
        beta = self.beta[...]
        return lambda x: _layers.swish(_layers.cast(x, self.dtype), beta, self.axis)


class RReLU(nnx.Module):
    r"""`jaxact.rrelu` with a stream of random keys: a new key in each call.

    Args:
      lower: the smallest slope.
      upper: the slopes are below this.
      divisor: as in the paper, divide by a ~ U(1/upper, 1/lower) = U(3, 8), and by the mean of a
        when deterministic.
      deterministic: use the mean slope, as for evaluation; also set by ``model.eval()``,
        ``model.train()`` and ``nnx.view(model, deterministic=True)``, and overridden by the call's
        argument.
      rngs: where the layer's own stream of keys is forked from: its stream ``"rrelu"`` if it has
        one, else the default; or a stream. None if each call gets a key.

    Raises:
      ValueError: at the call, neither deterministic nor a key; bounds as in `jaxact.rrelu`.

    Reference: Xu et al., "Empirical evaluation of rectified activations in convolutional network",
    2015 (arXiv 1505.00853).

    Examples:
      >>> import jax.numpy as jnp
      >>> layer = RReLU(0.1, 0.3, rngs=nnx.Rngs(0))
      >>> layer.eval()
      >>> layer(jnp.array([-1.0, 2.0]))
      Array([-0.2,  2. ], dtype=float32)
    """

    def __init__(
        self,
        lower: float = 1 / 8,
        upper: float = 1 / 3,
        *,
        divisor: bool = False,
        deterministic: bool = False,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ):
        self.lower = lower
        self.upper = upper
        self.divisor = divisor
        self.deterministic = deterministic
        if isinstance(rngs, nnx.Rngs):
            rngs = _stream(rngs)
        elif rngs is not None and not isinstance(rngs, nnx.RngStream):
            raise TypeError(f"RReLU: rngs must be nnx.Rngs or one of its streams, got {rngs!r}.")
        self.rngs = nnx.data(None) if rngs is None else rngs.fork()

    def __call__(
        self,
        x: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> jax.Array:
        """The activation of an array, element by element.

        Args:
          x: any real array-like.
          deterministic: use the mean slope; None for what the layer is set to.
          rngs: a key, or where to take one from, instead of the layer's own stream.
        """
        return self._function(deterministic=deterministic, rngs=rngs)(x)

    def _function(
        self,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> Function:
        bounds: dict[str, Any] = {"lower": self.lower, "upper": self.upper, "divisor": self.divisor}
        if self.deterministic if deterministic is None else deterministic:
            return functools.partial(piecewise_linear.rrelu, deterministic=True, **bounds)
        source = self.rngs if rngs is None else rngs
        if isinstance(source, nnx.Rngs):
            source = _stream(source)
        if source is None:
            raise ValueError(_layers.no_key(_FIXES))
        key = source() if isinstance(source, nnx.RngStream) else source
        return functools.partial(piecewise_linear.rrelu, key=key, **bounds)

    def set_view(self, deterministic: bool | None = None) -> None:
        """Set by ``nnx.view``.

        Args:
          deterministic: use the mean slope.
        """
        if deterministic is not None:
            self.deterministic = deterministic


_FIXES = """\
  RReLU(rngs=nnx.Rngs(0))                        # a stream of keys of its own
  layer(x, rngs=jax.random.key(0))               # this call's key
  RReLU(deterministic=True)                      # the mean slope
  layer(x, deterministic=True)
  model.eval()
  model = nnx.view(model, deterministic=True)"""


def _stream(rngs: nnx.Rngs) -> nnx.RngStream:
    try:
        return rngs["rrelu"] if "rrelu" in rngs else rngs["default"]
    except (KeyError, AttributeError):
        raise ValueError(
            "RReLU: rngs has neither a stream 'rrelu' nor a default one; "
            "write nnx.Rngs(0), or nnx.Rngs(..., rrelu=0)."
        ) from None


class Activation(nnx.Module):
    r"""The layer of an activation's name, for configuration files.

    All take ``deterministic`` and ``rngs`` at the call, as `RReLU` does; the others ignore them.

    Args:
      activation: a name as for `jaxact.get`: ``"leaky_relu:0.2"``. ``"prelu:0.1"`` makes a `PReLU`
        that starts at this slope, ``"rrelu:lower=0.1,upper=0.3"`` an `RReLU`. Or a function, or a
        layer of this module.
      features: as in `PReLU`; what has no slopes to learn ignores it, as the next four.
      axis: as in `PReLU`.
      partitioning: as in `PReLU`.
      dtype: as in `PReLU`.
      param_dtype: as in `PReLU`.
      rngs: as in `RReLU`.

    Raises:
      TypeError: neither a name nor a function.
      ValueError: an unknown name or parameter, a parameter that is missing.

    Examples:
      >>> import jax.numpy as jnp
      >>> Activation("leaky_relu:0.2")(jnp.array([-1.0, 2.0]))
      Array([-0.2,  2. ], dtype=float32)
      >>> Activation("prelu", 3).layer.alpha.shape
      (3,)
    """

    def __init__(
        self,
        activation: str | Function,
        features: int | None = None,
        *,
        axis: int = -1,
        partitioning: str | tuple[str, ...] | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        self.layer: Any = nnx.data(None)
        if isinstance(activation, _LAYERS):
            self.activation: str | Function = type(activation).__name__
            self.layer = activation
            return
        self.activation = activation
        layer, arguments = _layers.learned_or_random(activation)
        if layer == "PReLU":
            options = {"axis": axis, "dtype": dtype, "param_dtype": param_dtype, **arguments}
            self.layer = PReLU(features, partitioning=partitioning, **options)
        elif layer == "RReLU":
            self.layer = RReLU(**arguments, rngs=rngs)

    def __call__(
        self, x: ArrayLike, *, deterministic: bool | None = None, rngs: Any = None
    ) -> jax.Array:
        """The activation of an array; the further arguments are for `RReLU`."""
        return self._function(deterministic=deterministic, rngs=rngs)(x)

    def _function(self, *, deterministic: bool | None = None, rngs: Any = None) -> Function:
        if self.layer is None:
            return get(self.activation)
        return self.layer._function(deterministic=deterministic, rngs=rngs)


#: The elementwise layers. Each has ``_function(deterministic=None, rngs=None)``: the layer as
#: a function of the input, with its present parameters and its next key.
_LAYERS = (LeakyReLU, PReLU, RReLU, ELU, Swish, Activation)


class MLP(nnx.Module):
    r"""`jaxact.mlp` with learned weights: ``act(x @ w_in + b_in) @ w_out + b_out``.

    The backward pass keeps the pre-activations and nothing else of the hidden size.

    Args:
      in_features: the size of the input's last axis.
      hidden_features: the size between the two linear maps.
      out_features: the size of the output's last axis; None for ``in_features``.
      activation: as in `Activation`: a name, also of a learned or a random one, a function, or a
        layer (``Swish(hidden_features)``).
      use_bias: whether there are ``b_in`` and ``b_out``.
      kernel_init: the initializer of both weights, of shapes (in, hidden) and (hidden, out).
      bias_init: the initializer of the biases.
      partitioning: the mesh axes of the features and of the hidden size: ``("fsdp", "model")``.
      dtype: of the computation and the output; None for what input and weights promote to.
      param_dtype: the parameters' dtype.
      rngs: for the initial weights, and for random slopes.

    Examples:
      >>> import jax.numpy as jnp
      >>> MLP(4, 16, activation="silu", rngs=nnx.Rngs(0))(jnp.ones((2, 4))).shape
      (2, 4)
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int | None = None,
        *,
        activation: str | Function = "gelu",
        use_bias: bool = True,
        kernel_init: Initializer = _layers.KERNEL_INIT,
        bias_init: Initializer = _layers.BIAS_INIT,
        partitioning: tuple[Any, Any] | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        outer, inner = (None, None) if partitioning is None else partitioning
        out_features = in_features if out_features is None else out_features

        def weights(a: int, b: int, *axes: Any) -> nnx.Param:
            return _param(kernel_init, (a, b), param_dtype, axes, rngs)

        def bias(size: int, axis: Any) -> nnx.Param | None:
            if not use_bias:
                return nnx.data(None)
            return _param(bias_init, (size,), param_dtype, (axis,), rngs)

        self.w_in = weights(in_features, hidden_features, outer, inner)
        self.b_in = bias(hidden_features, inner)
        self.w_out = weights(hidden_features, out_features, inner, outer)
        self.b_out = bias(out_features, outer)
        self.hidden_activation = Activation(
            activation, hidden_features, partitioning=inner, param_dtype=param_dtype, rngs=rngs
        )
        self.dtype = dtype

    def __call__(
        self, x: ArrayLike, *, deterministic: bool | None = None, rngs: Any = None
    ) -> jax.Array:
        """Maps (..., in_features) to (..., out_features).

        Args:
          x: a real array.
          deterministic: as in `RReLU`'s call.
          rngs: as in `RReLU`'s call.
        """
        parameters = (self.w_in, self.w_out, self.b_in, self.b_out)
        x, w_in, w_out, b_in, b_out = _promoted("MLP", self.dtype, x, *parameters)
        activation = _hidden(self.hidden_activation, deterministic, rngs)
        return feedforward.mlp(x, w_in, w_out, b_in=b_in, b_out=b_out, activation=activation)


class GatedMLP(nnx.Module):
    r"""`jaxact.gated_mlp` with learned weights: ``(act(x @ w_gate) * (x @ w_up)) @ w_down``.

    With the default activation, the SwiGLU block of most language models. The backward pass keeps
    both pre-activations and nothing else of the hidden size.

    Args:
      in_features: the size of the input's last axis.
      hidden_features: the size between the linear maps.
      out_features: the size of the output's last axis; None for ``in_features``.
      activation: of the gate; as in `Activation`: a name, also of a learned or a random one, a
        function, or a layer (``Swish(hidden_features)``).
      kernel_init: the initializer of the weights, of shapes (in, hidden) twice and (hidden, out).
      partitioning: the mesh axes of the features and of the hidden size: ``("fsdp", "model")``.
      dtype: of the computation and the output; None for what input and weights promote to.
      param_dtype: the parameters' dtype.
      rngs: for the initial weights, and for random slopes.

    Reference: Shazeer, "GLU variants improve transformer", 2020 (arXiv 2002.05202).

    Examples:
      >>> import jax.numpy as jnp
      >>> GatedMLP(4, 16, rngs=nnx.Rngs(0))(jnp.ones((2, 4))).shape
      (2, 4)
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int | None = None,
        *,
        activation: str | Function = "silu",
        kernel_init: Initializer = _layers.KERNEL_INIT,
        partitioning: tuple[Any, Any] | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        outer, inner = (None, None) if partitioning is None else partitioning
        out_features = in_features if out_features is None else out_features

        def weights(a: int, b: int, *axes: Any) -> nnx.Param:
            return _param(kernel_init, (a, b), param_dtype, axes, rngs)

        self.w_gate = weights(in_features, hidden_features, outer, inner)
        self.w_up = weights(in_features, hidden_features, outer, inner)
        self.w_down = weights(hidden_features, out_features, inner, outer)
        self.hidden_activation = Activation(
            activation, hidden_features, partitioning=inner, param_dtype=param_dtype, rngs=rngs
        )
        self.dtype = dtype

    def __call__(
        self, x: ArrayLike, *, deterministic: bool | None = None, rngs: Any = None
    ) -> jax.Array:
        """Maps (..., in_features) to (..., out_features).

        Args:
          x: a real array.
          deterministic: as in `RReLU`'s call.
          rngs: as in `RReLU`'s call.
        """
        weights = (self.w_gate, self.w_up, self.w_down)
        x, w_gate, w_up, w_down = _promoted("GatedMLP", self.dtype, x, *weights)
        activation = _hidden(self.hidden_activation, deterministic, rngs)
        return feedforward.gated_mlp(x, w_gate, w_up, w_down, activation=activation)


def _param(
    init: ArrayLike | Initializer,
    shape: tuple[int, ...],
    dtype: Any,
    partitioning: tuple[Any, ...],
    rngs: nnx.Rngs | None,
) -> nnx.Param:
    sharded = any(axis is not None for axis in partitioning)
    metadata: dict[str, Any] = {"out_sharding": partitioning} if sharded else {}
    key = None if rngs is None else rngs.params()
    return nnx.Param(_layers.constant(init)(key, shape, dtype), **metadata)


def _hidden(layer: Activation, deterministic: bool | None, rngs: Any) -> str | Function:
    """The activation as `jaxact.mlp` takes it: a known function by its name, traced once only."""
    if layer.layer is None:
        return layer.activation
    return layer._function(deterministic=deterministic, rngs=rngs)


def _promoted(layer: str, dtype: Any, x: ArrayLike, *parameters: nnx.Param | None) -> list[Any]:
    return _layers.promoted(layer, dtype, x, *(None if p is None else p[...] for p in parameters))
