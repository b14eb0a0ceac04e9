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
from jaxact._renamed import renamed as renamed
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
        return functools.partial(_layers.prelu_of, alpha=alpha, axis=self.axis, dtype=self.dtype)


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
        return functools.partial(_layers.swish, beta=beta, axis=self.axis, dtype=self.dtype)


class XIELU(nnx.Module):
    r"""`jaxact.xielu` with learned α, by the parameters ``alpha_p`` and ``alpha_n``.

    α_p = softplus(alpha_p) is positive and α_n = β + softplus(alpha_n) larger than β, as in the
    paper. The parameters of transformers' ``XIELUActivation`` (which are called so too) load with
    ``layer.alpha_p[...] = jnp.asarray(alpha_p).reshape(layer.alpha_p.shape)``.

    Args:
      features: the number of channels along ``axis``, for a pair each; None for one for all.
      axis: the channels' axis of the input.
      alpha_p_init: the initial α_p, or an initializer of it.
      alpha_n_init: the initial α_n, likewise.
      beta: β, a number that is not learned.
      partitioning: the mesh axis of the channels, so that the parameters are sharded with them.
      dtype: of the computation and the output; None for the input's.
      param_dtype: the parameters' dtype. Their gradient is summed in float32, whatever the input's
        is.
      rngs: for a random initializer.

    Raises:
      ValueError: ``features`` is not a number of channels; at the call, it does not fit the input;
        ``alpha_p_init`` is not positive, or ``alpha_n_init`` not larger than β.

    Reference: Huang and Schlag, "Deriving activation functions using integration", 2024 (arXiv
    2411.13010). `jaxact.optim.decay_mask` leaves the parameters out of weight decay.

    Examples:
      >>> import jax.numpy as jnp
      >>> XIELU()(jnp.array([-2.0, 0.0, 1.0])).round(4)
      Array([-0.0917,  0.    ,  1.3   ], dtype=float32)
    """

    def __init__(
        self,
        features: int | None = None,
        *,
        axis: int = -1,
        alpha_p_init: ArrayLike | Initializer = 0.8,
        alpha_n_init: ArrayLike | Initializer = 0.8,
        beta: float = 0.5,
        partitioning: str | tuple[str, ...] | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        shape = _layers.channels("XIELU", features, partitioning)
        p_init = _layers.inverse_softplus("alpha_p_init", alpha_p_init, 0)
        n_init = _layers.inverse_softplus("alpha_n_init", alpha_n_init, beta)
        self.alpha_p = _param(p_init, shape, param_dtype, (partitioning,), rngs)
        self.alpha_n = _param(n_init, shape, param_dtype, (partitioning,), rngs)
        self.beta = beta
        self.axis = axis
        self.dtype = dtype

    def __call__(self, x: ArrayLike) -> jax.Array:
        """The activation of an array, element by element."""
        return self._function()(x)

    def _function(self, **_: Any) -> Function:
        return functools.partial(
            _layers.xielu_of,
            alpha_p=self.alpha_p[...],
            alpha_n=self.alpha_n[...],
            beta=self.beta,
            axis=self.axis,
            dtype=self.dtype,
        )


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
        if layer in ("PReLU", "XIELU"):
            options = {"axis": axis, "dtype": dtype, "param_dtype": param_dtype, **arguments}
            learned: Any = PReLU if layer == "PReLU" else XIELU
            self.layer = learned(features, partitioning=partitioning, **options)
        elif layer == "RReLU":
            self.layer = RReLU(**arguments, rngs=rngs)

    def __call__(
        self,
        x: ArrayLike,
        up: ArrayLike | None = None,
        *,
        deterministic: bool | None = None,
        rngs: Any = None,
    ) -> jax.Array:
        """The activation of an array; or of gate and ``up``, for a function of both.

        The further arguments are for `RReLU`.
        """
        return _layers.applied(self._function(deterministic=deterministic, rngs=rngs), x, up)

    def _function(self, *, deterministic: bool | None = None, rngs: Any = None) -> Function:
        if self.layer is None:
            return get(self.activation)
        return self.layer._function(deterministic=deterministic, rngs=rngs)


#: The elementwise layers. Each has ``_function(deterministic=None, rngs=None)``: the layer as
#: a function of the input, with its present parameters and its next key.
_LAYERS = (LeakyReLU, PReLU, RReLU, ELU, Swish, XIELU, Activation)


class MLP(nnx.Module):
    r"""`jaxact.mlp` with learned weights: ``linear_out(act(linear_in(x)))``.

    ``linear_in`` and ``linear_out`` are ``nnx.Linear``, and may be replaced, by ``nnx.LoRA`` say.
    The backward pass keeps the pre-activations and nothing else of the hidden size; where
    ``linear_out`` is another module, or a quantiser calls the layer, the activation too.

    Args:
      in_features: the size of the input's last axis.
      hidden_features: the size between the two linear maps.
      out_features: the size of the output's last axis; None for ``in_features``.
      activation: as in `Activation`: a name, also of a learned or a random one, a function, or a
        layer (``Swish(hidden_features)``).
      use_bias: whether both have a bias.
      kernel_init: the initializer of both weights, of shapes (in, hidden) and (hidden, out).
      bias_init: the initializer of the biases.
      partitioning: the mesh axes of the features and of the hidden size: ``("fsdp", "model")``.
      dtype: of the computation and the output; None for what input and weights promote to.
      param_dtype: the parameters' dtype.
      save: what the backward pass keeps: ``"pre"``, the pre-activations, or ``"input"``, as in
        `jaxact.mlp`.
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
        save: feedforward.Save = "pre",
        rngs: nnx.Rngs,
    ):
        _layers.check_one_input("MLP", activation)
        feedforward.check_save("MLP", save)
        outer, inner = (None, None) if partitioning is None else partitioning
        options = {
            "use_bias": use_bias,
            "kernel_init": kernel_init,
            "bias_init": bias_init,
            "dtype": dtype,
            "param_dtype": param_dtype,
            "rngs": rngs,
        }
        out_features = in_features if out_features is None else out_features
        self.linear_in = _linear(in_features, hidden_features, outer, inner, **options)
        self.linear_out = _linear(hidden_features, out_features, inner, outer, **options)
        self.hidden_activation = Activation(
            activation, hidden_features, partitioning=inner, param_dtype=param_dtype, rngs=rngs
        )
        self.in_features = in_features
        self.save = save

    def __call__(
        self, x: ArrayLike, *, deterministic: bool | None = None, rngs: Any = None
    ) -> jax.Array:
        """Maps (..., in_features) to (..., out_features).

        Args:
          x: a real array.
          deterministic: as in `RReLU`'s call.
          rngs: as in `RReLU`'s call.
        """
        x = _layers.block_input("MLP", x, self.in_features)
        activation = _hidden(self.hidden_activation, deterministic, rngs)
        if self.save == "input":
            y = _from_input("mlp", activation, x, [self.linear_in], self.linear_out)
            if y is not None:
                return y
        return _output("mlp", activation, (self.linear_in(x),), self.linear_out)


class GatedMLP(nnx.Module):
    r"""`jaxact.gated_mlp` with learned weights: ``down(act(gate(x)) * up(x))``.

    With the default activation, the SwiGLU block of most language models. ``gate``, ``up`` and
    ``down`` are ``nnx.Linear`` without biases, and may be replaced, by ``nnx.LoRA`` say. The
    backward pass keeps both pre-activations and nothing else of the hidden size; where ``down`` is
    another module, or a quantiser calls the layer, the hidden activation too.

    Args:
      in_features: the size of the input's last axis.
      hidden_features: the size between the linear maps.
      out_features: the size of the output's last axis; None for ``in_features``.
      activation: of the gate; as in `Activation`: a name, also of a learned or a random one, a
        function, or a layer (``Swish(hidden_features)``). Or a function of gate and up:
        ``"clamped_swiglu:limit=7"``.
      kernel_init: the initializer of the weights, of shapes (in, hidden) twice and (hidden, out).
      partitioning: the mesh axes of the features and of the hidden size: ``("fsdp", "model")``.
      dtype: of the computation and the output; None for what input and weights promote to.
      param_dtype: the parameters' dtype.
      save: what the backward pass keeps: ``"pre"``, the pre-activations, or ``"input"``, as in
        `jaxact.mlp`.
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
        save: feedforward.Save = "pre",
        rngs: nnx.Rngs,
    ):
        feedforward.check_save("GatedMLP", save)
        outer, inner = (None, None) if partitioning is None else partitioning
        options = {
            "use_bias": False,
            "kernel_init": kernel_init,
            "dtype": dtype,
            "param_dtype": param_dtype,
            "rngs": rngs,
        }
        out_features = in_features if out_features is None else out_features
        self.gate = _linear(in_features, hidden_features, outer, inner, **options)
        self.up = _linear(in_features, hidden_features, outer, inner, **options)
        self.down = _linear(hidden_features, out_features, inner, outer, **options)
        self.hidden_activation = Activation(
            activation, hidden_features, partitioning=inner, param_dtype=param_dtype, rngs=rngs
        )
        self.in_features = in_features
        self.save = save

    def __call__(
        self, x: ArrayLike, *, deterministic: bool | None = None, rngs: Any = None
    ) -> jax.Array:
        """Maps (..., in_features) to (..., out_features).

        Args:
          x: a real array.
          deterministic: as in `RReLU`'s call.
          rngs: as in `RReLU`'s call.
        """
        x = _layers.block_input("GatedMLP", x, self.in_features)
        activation = _hidden(self.hidden_activation, deterministic, rngs)
        if self.save == "input":
            y = _from_input("gated_mlp", activation, x, [self.gate, self.up], self.down)
            if y is not None:
                return y
        if (promoted := _promoted(x, self.gate)) is not None:
            x = promoted[0]  # Once, so that x's gradients are summed before they are rounded.
        return _output("gated_mlp", activation, (self.gate(x), self.up(x)), self.down)


def _param(
    init: ArrayLike | Initializer,
    shape: tuple[int, ...],
    dtype: Any,
    partitioning: tuple[Any, ...],
    rngs: nnx.Rngs | None,
) -> nnx.Param:
    key = None if rngs is None else rngs.params()
    return nnx.Param(_layers.constant(init)(key, shape, dtype), **_metadata(*partitioning))


def _metadata(*partitioning: Any) -> dict[str, Any]:
    sharded = any(axis is not None for axis in partitioning)
    return {"out_sharding": partitioning} if sharded else {}


def _linear(
    a: int,
    b: int,
    rows: Any,
    columns: Any,
    *,
    kernel_init: Initializer,
    bias_init: Initializer = _layers.BIAS_INIT,
    **options: Any,
) -> nnx.Linear:
    """From a to b features, the kernel sharded over these axes."""
    return nnx.Linear(
        a,
        b,
        kernel_init=_layers.constant(kernel_init),
        bias_init=_layers.constant(bias_init),
        dot_general=feedforward.dot_general,
        kernel_metadata=_metadata(rows, columns),
        bias_metadata=_metadata(columns),
        **options,
    )


def _hidden(layer: Activation, deterministic: bool | None, rngs: Any) -> str | Function:
    """The activation as `jaxact.mlp` takes it: a known function by its name, traced once only."""
    if layer.layer is None:
        return layer.activation
    return layer._function(deterministic=deterministic, rngs=rngs)


def _output(
    block: str, activation: str | Function, pre: tuple[jax.Array, ...], linear: Any
) -> jax.Array:
    """The last layer's result: of itself if it does more than a product, or others are to see that.

    Else of the block's, which keeps the pre-activations alone.
    """
    promoted = _promoted(pre[0], linear)
    if promoted is not None and not feedforward.intercepted():
        y = _layers.block_output(block, activation, pre, promoted)
        if y is not None:
            return y
    return linear(feedforward.hidden(activation, pre))


def _from_input(
    block: str, activation: str | Function, x: jax.Array, first: list[Any], last: Any
) -> jax.Array | None:
    """The block's result that keeps x alone; None where `_output` would call the last layer."""
    if feedforward.intercepted():
        return None
    return _layers.block_from_input(
        block, activation, [_promoted(x, linear) for linear in first], lambda h: _promoted(h, last)
    )


def _promoted(x: jax.Array, linear: Any) -> tuple[Any, Any, Any] | None:
    """x, kernel and bias in the dtype that a layer computes in, if it is no more than a product."""
    if (
        type(linear) is not nnx.Linear
        or linear.dot_general not in (feedforward.dot_general, jax.lax.dot_general)
        or linear.precision is not None
        or linear.preferred_element_type is not None
        or not isinstance(linear.kernel, nnx.Variable)
    ):
        return None
    bias = None if linear.bias is None else linear.bias[...]
    x, kernel, bias = linear.promote_dtype((x, linear.kernel[...], bias), dtype=linear.dtype)
    return x, kernel, bias
