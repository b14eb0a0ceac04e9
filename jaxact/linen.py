"""Flax Linen layers: those of `jaxact.nnx`, with the same arguments, defaults and results.

A ``partitioning`` names the axes of a device mesh (or Flax's logical axes) that a parameter is
sharded over: it boxes the parameter in Flax's ``nn.Partitioned``.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.errors import InvalidRngError
from jax.typing import ArrayLike

from jaxact import _layers, feedforward, piecewise_linear, smooth
from jaxact._layers import Initializer
from jaxact._renamed import renamed as renamed
from jaxact.registry import Activation as Function, get


class LeakyReLU(nn.Module):
    r"""`jaxact.leaky_relu` as a layer.

    Args:
      negative_slope: the slope of negative inputs.

    Examples:
      >>> import jax.numpy as jnp
      >>> LeakyReLU(0.2).apply({}, jnp.array([-1.0, 2.0]))
      Array([-0.2,  2. ], dtype=float32)
    """

    negative_slope: float = 0.01

    def __call__(self, x: ArrayLike) -> jax.Array:
        """The activation of an array, element by element."""
        return self._function()(x)

    def _function(self, **_: Any) -> Function:
        return functools.partial(piecewise_linear.leaky_relu, negative_slope=self.negative_slope)


class ELU(nn.Module):
    r"""`jaxact.elu` as a layer.

    Args:
      alpha: minus the limit at -inf.

    Examples:
      >>> import jax.numpy as jnp
      >>> ELU().apply({}, jnp.array([-1.0, 2.0])).round(4)
      Array([-0.6321,  2.    ], dtype=float32)
    """

    alpha: float = 1.0

    def __call__(self, x: ArrayLike) -> jax.Array:
        """The activation of an array, element by element."""
        return self._function()(x)

    def _function(self, **_: Any) -> Function:
        return functools.partial(smooth.elu, alpha=self.alpha)


class PReLU(nn.Module):
    r"""`jaxact.prelu` with learned slopes, the parameter ``alpha``.

    Slopes of PyTorch's ``PReLU.weight`` and of Keras' ``PReLU`` with ``shared_axes`` load with
    ``{"params": {"alpha": jnp.asarray(slopes).reshape(-1)}}`` (``.reshape(())`` for a shared one).

    Args:
      features: the number of channels along ``axis``, for a slope each; None for one shared slope.
      axis: the channels' axis of the input.
      slope_init: the slopes' initial value, or an initializer.
      partitioning: the mesh axis of the channels, so that slopes are sharded with them.
      dtype: of the computation and the output; None for the input's.
      param_dtype: the slopes' dtype. Their gradient is summed in float32, whatever the input's is.

    Raises:
      ValueError: ``features`` is not a number of channels, or does not fit the input.

    Reference: He et al., "Delving deep into rectifiers", 2015 (arXiv 1502.01852), who start at 0.25
    and apply no weight decay to the slopes (`jaxact.optim.decay_mask`).

    Examples:
      >>> import jax.numpy as jnp
      >>> y, variables = PReLU(features=2).init_with_output(
      ...     jax.random.key(0), jnp.array([[-1.0, 2.0]])
      ... )
      >>> y
      Array([[-0.25,  2.  ]], dtype=float32)
      >>> variables["params"]["alpha"]
      Array([0.25, 0.25], dtype=float32)
    """

    features: int | None = None
    _: dataclasses.KW_ONLY
    axis: int = -1
    slope_init: ArrayLike | Initializer = 0.25
    partitioning: str | tuple[str, ...] | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __call__(self, x: ArrayLike) -> jax.Array:
        """The activation of an array, element by element."""
        return self._function()(x)

    @nn.compact
    def _function(self, **_: Any) -> Function:
        shape = _layers.channels("PReLU", self.features, self.partitioning)
        alpha = _param(
            self, "alpha", self.slope_init, shape, self.param_dtype, (self.partitioning,)
        )
        return functools.partial(_layers.prelu_of, alpha=alpha, axis=self.axis, dtype=self.dtype)


class Swish(nn.Module):
    r"""`jaxact.silu` with a learned β, the parameter ``beta``: x σ(βx).

    Args:
      features: the number of channels along ``axis``, for a β each; None for one that they share.
      axis: the channels' axis of the input.
      beta_init: the initial β, or an initializer.
      partitioning: the mesh axis of the channels, so that β is sharded with them.
      dtype: of the computation and the output; None for the input's.
      param_dtype: the dtype of β. Its gradient is summed in float32, whatever the input's is.

    Raises:
      ValueError: ``features`` is not a number of channels, or does not fit the input.

    Reference: Ramachandran et al., "Searching for activation functions", 2017 (arXiv 1710.05941).

    Examples:
      >>> import jax.numpy as jnp
      >>> layer = Swish(beta_init=2.0)
      >>> layer.init_with_output(jax.random.key(0), jnp.array([-1.0, 2.0]))[0].round(4)
      Array([-0.1192,  1.964 ], dtype=float32)
    """

    features: int | None = None
    _: dataclasses.KW_ONLY
    axis: int = -1
    beta_init: ArrayLike | Initializer = 1.0
    partitioning: str | tuple[str, ...] | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __call__(self, x: ArrayLike) -> jax.Array:
        """The activation of an array, element by element."""
        return self._function()(x)

    @nn.compact
    def _function(self, **_: Any) -> Function:
        shape = _layers.channels("Swish", self.features, self.partitioning)
        beta = _param(self, "beta", self.beta_init, shape, self.param_dtype, (self.partitioning,))
        return functools.partial(_layers.swish, beta=beta, axis=self.axis, dtype=self.dtype)


class XIELU(nn.Module):
    r"""`jaxact.xielu` with learned α, by the parameters ``alpha_p`` and ``alpha_n``.

    α_p = softplus(alpha_p) is positive and α_n = β + softplus(alpha_n) larger than β, as in the
    paper. The parameters of transformers' ``XIELUActivation`` (which are called so too) load with
    ``{"params": {"alpha_p": jnp.asarray(alpha_p).reshape(()), "alpha_n": ...}}``.

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

    Raises:
      ValueError: ``features`` is not a number of channels, or does not fit the input;
        ``alpha_p_init`` is not positive, or ``alpha_n_init`` not larger than β.

    Reference: Huang and Schlag, "Deriving activation functions using integration", 2024 (arXiv
    2411.13010). `jaxact.optim.decay_mask` leaves the parameters out of weight decay.

    Examples:
      >>> import jax.numpy as jnp
      >>> layer = XIELU()
      >>> x = jnp.array([-2.0, 0.0, 1.0])
      >>> layer.init_with_output(jax.random.key(0), x)[0].round(4)
      Array([-0.0917,  0.    ,  1.3   ], dtype=float32)
    """

    features: int | None = None
    _: dataclasses.KW_ONLY
    axis: int = -1
    alpha_p_init: ArrayLike | Initializer = 0.8
    alpha_n_init: ArrayLike | Initializer = 0.8
    beta: float = 0.5
    partitioning: str | tuple[str, ...] | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __call__(self, x: ArrayLike) -> jax.Array:
        """The activation of an array, element by element."""
        return self._function()(x)

    @nn.compact
    def _function(self, **_: Any) -> Function:
        shape = _layers.channels("XIELU", self.features, self.partitioning)
        p_init = _layers.inverse_softplus("alpha_p_init", self.alpha_p_init, 0)
        n_init = _layers.inverse_softplus("alpha_n_init", self.alpha_n_init, self.beta)
        sharding = (self.partitioning,)
        alpha_p = _param(self, "alpha_p", p_init, shape, self.param_dtype, sharding)
        alpha_n = _param(self, "alpha_n", n_init, shape, self.param_dtype, sharding)
        return functools.partial(
            _layers.xielu_of,
            alpha_p=alpha_p,
            alpha_n=alpha_n,
            beta=self.beta,
            axis=self.axis,
            dtype=self.dtype,
        )


class RReLU(nn.Module):
    r"""`jaxact.rrelu` with a key of the rng collection ``"rrelu"``.

    Linen folds the layer's path into the key; pass ``rng`` at the call for a key as it is.

    Args:
      lower: the smallest slope.
      upper: the slopes are below this.
      divisor: as in the paper, divide by a ~ U(1/upper, 1/lower) = U(3, 8), and by the mean of a
        when deterministic.
      deterministic: use the mean slope, as for evaluation; overridden by the call's argument.

    Raises:
      ValueError: at the call, neither deterministic nor a key; bounds as in `jaxact.rrelu`.

    Reference: Xu et al., "Empirical evaluation of rectified activations in convolutional network",
    2015 (arXiv 1505.00853).

    Examples:
      >>> import jax.numpy as jnp
      >>> RReLU(0.1, 0.3).apply({}, jnp.array([-1.0, 2.0]), deterministic=True)
      Array([-0.2,  2. ], dtype=float32)
      >>> RReLU().apply({}, jnp.array([-1.0, 2.0]), rngs={"rrelu": jax.random.key(0)}).round(4)
      Array([-0.1459,  2.    ], dtype=float32)
    """

    lower: float = 1 / 8
    upper: float = 1 / 3
    _: dataclasses.KW_ONLY
    divisor: bool = False
    deterministic: bool = False

    def __call__(
        self, x: ArrayLike, *, deterministic: bool | None = None, rng: jax.Array | None = None
    ) -> jax.Array:
        """The activation of an array, element by element.

        Args:
          x: any real array-like.
          deterministic: use the mean slope; None for what the layer is set to.
          rng: a key, instead of one of the collection ``"rrelu"``.
        """
        return self._function(deterministic=deterministic, rng=rng)(x)

    def _function(
        self, *, deterministic: bool | None = None, rng: jax.Array | None = None
    ) -> Function:
        bounds: dict[str, Any] = {"lower": self.lower, "upper": self.upper, "divisor": self.divisor}
        if self.deterministic if deterministic is None else deterministic:
            return functools.partial(piecewise_linear.rrelu, deterministic=True, **bounds)
        if rng is None:
            try:
                rng = self.make_rng("rrelu")
            except InvalidRngError as error:
                raise ValueError(_layers.no_key(_FIXES)) from error
        return functools.partial(piecewise_linear.rrelu, key=rng, **bounds)


_FIXES = """\
  model.apply(variables, x, rngs={"rrelu": jax.random.key(0)})
  layer(x, rng=jax.random.key(0))                # this call's key
  RReLU(deterministic=True)                      # the mean slope
  layer(x, deterministic=True)"""


class Activation(nn.Module):
    r"""The layer of an activation's name, for configuration files.

    All take ``deterministic`` and ``rng`` at the call, as `RReLU` does; the others ignore them.

    Args:
      activation: a name as for `jaxact.get`: ``"leaky_relu:0.2"``. ``"prelu:0.1"`` makes a `PReLU`
        that starts at this slope, ``"rrelu:lower=0.1,upper=0.3"`` an `RReLU`. Or a function, or a
        layer of this module.
      features: as in `PReLU`; what has no slopes to learn ignores it, as the next four.
      axis: as in `PReLU`.
      partitioning: as in `PReLU`.
      dtype: as in `PReLU`.
      param_dtype: as in `PReLU`.

    Raises:
      TypeError: neither a name nor a function.
      ValueError: an unknown name or parameter, a parameter that is missing.

    Examples:
      >>> import jax.numpy as jnp
      >>> Activation("leaky_relu:0.2").apply({}, jnp.array([-1.0, 2.0]))
      Array([-0.2,  2. ], dtype=float32)
    """

    activation: str | Function
    features: int | None = None
    _: dataclasses.KW_ONLY
    axis: int = -1
    partitioning: str | tuple[str, ...] | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __call__(
        self,
        x: ArrayLike,
        up: ArrayLike | None = None,
        *,
        deterministic: bool | None = None,
        rng: jax.Array | None = None,
    ) -> jax.Array:
        """The activation of an array; or of gate and ``up``, for a function of both.

        The further arguments are for `RReLU`.
        """
        return _layers.applied(self._function(deterministic=deterministic, rng=rng), x, up)

    @nn.compact
    def _function(
        self, *, deterministic: bool | None = None, rng: jax.Array | None = None
    ) -> Function:
        if isinstance(self.activation, _LAYERS):
            return self.activation._function(deterministic=deterministic, rng=rng)
        layer, arguments = _layers.learned_or_random(self.activation)
        if layer in ("PReLU", "XIELU"):
            options = {
                "axis": self.axis,
                "dtype": self.dtype,
                "param_dtype": self.param_dtype,
                **arguments,
            }
            learned: Any = PReLU if layer == "PReLU" else XIELU
            return learned(
                self.features, partitioning=self.partitioning, name="layer", **options
            )._function()
        if layer == "RReLU":
            random = RReLU(name="layer", **arguments)
            return random._function(deterministic=deterministic, rng=rng)
        return get(self.activation)


#: The elementwise layers. Each has ``_function(deterministic=None, rng=None)``: the layer as
#: a function of the input, with its parameters and its next key.
_LAYERS = (LeakyReLU, PReLU, RReLU, ELU, Swish, XIELU, Activation)


class MLP(nn.Module):
    r"""`jaxact.mlp` with learned weights: ``linear_out(act(linear_in(x)))``, both ``nn.Dense``.

    The backward pass keeps the pre-activations and nothing else of the hidden size; where a
    quantiser or an interceptor of Flax's calls the layers, the activation too.

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

    Examples:
      >>> import jax.numpy as jnp
      >>> layer = MLP(4, 16, activation="silu")
      >>> layer.init_with_output(jax.random.key(0), jnp.ones((2, 4)))[0].shape
      (2, 4)
    """

    in_features: int
    hidden_features: int
    out_features: int | None = None
    _: dataclasses.KW_ONLY
    activation: str | Function = "gelu"
    use_bias: bool = True
    kernel_init: Initializer = _layers.KERNEL_INIT
    bias_init: Initializer = _layers.BIAS_INIT
    partitioning: tuple[Any, Any] | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    save: feedforward.Save = "pre"

    @nn.compact
    def __call__(
        self, x: ArrayLike, *, deterministic: bool | None = None, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps (..., in_features) to (..., out_features).

        Args:
          x: a real array.
          deterministic: as in `RReLU`'s call.
          rng: as in `RReLU`'s call.
        """
        x = _checked(self, "w_in", x)
        _layers.check_one_input("MLP", self.activation)
        outer, inner = (None, None) if self.partitioning is None else self.partitioning
        out_features = self.in_features if self.out_features is None else self.out_features
        options: dict[str, Any] = {"use_bias": self.use_bias, "bias_init": self.bias_init}
        linear_in = _dense(self, "linear_in", self.hidden_features, outer, inner, **options)
        linear_out = _dense(self, "linear_out", out_features, inner, outer, **options)
        activation = _hidden(self, inner, deterministic, rng)
        if self.save == "input":
            y = _from_input("mlp", activation, x, [linear_in], linear_out)
            if y is not None:
                return y
        return _output("mlp", activation, (linear_in(x),), linear_out)


class GatedMLP(nn.Module):
    r"""`jaxact.gated_mlp` with learned weights: ``down(act(gate(x)) * up(x))``, all ``nn.Dense``.

    With the default activation, the SwiGLU block of most language models. The layers have no
    biases. The backward pass keeps both pre-activations and nothing else of the hidden size; where
    a quantiser or an interceptor of Flax's calls the layers, the hidden activation too.

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

    Reference: Shazeer, "GLU variants improve transformer", 2020 (arXiv 2002.05202).

    Examples:
      >>> import jax.numpy as jnp
      >>> GatedMLP(4, 16).init_with_output(jax.random.key(0), jnp.ones((2, 4)))[0].shape
      (2, 4)
    """

    in_features: int
    hidden_features: int
    out_features: int | None = None
    _: dataclasses.KW_ONLY
    activation: str | Function = "silu"
    kernel_init: Initializer = _layers.KERNEL_INIT
    partitioning: tuple[Any, Any] | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    save: feedforward.Save = "pre"

    @nn.compact
    def __call__(
        self, x: ArrayLike, *, deterministic: bool | None = None, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps (..., in_features) to (..., out_features).

        Args:
          x: a real array.
          deterministic: as in `RReLU`'s call.
          rng: as in `RReLU`'s call.
        """
        x = _checked(self, "w_gate", x)
        outer, inner = (None, None) if self.partitioning is None else self.partitioning
        out_features = self.in_features if self.out_features is None else self.out_features
        gate = _dense(self, "gate", self.hidden_features, outer, inner, use_bias=False)
        up = _dense(self, "up", self.hidden_features, outer, inner, use_bias=False)
        down = _dense(self, "down", out_features, inner, outer, use_bias=False)
        activation = _hidden(self, inner, deterministic, rng)
        if self.save == "input":
            y = _from_input("gated_mlp", activation, x, [gate, up], down)
            if y is not None:
                return y
        if (promoted := _promoted(x, gate)) is not None:
            x = promoted[0]  # Once, so that x's gradients are summed before they are rounded.
        return _output("gated_mlp", activation, (gate(x), up(x)), down)


def _checked(block: MLP | GatedMLP, old_name: str, x: ArrayLike) -> jax.Array:
    """A block's input, and that its parameters do not have a checkpoint's old names."""
    layer = type(block).__name__
    feedforward.check_save(layer, block.save)
    if block.has_variable("params", old_name):
        raise ValueError(
            f"{layer}: the parameters have names of an older version, such as {old_name!r}; "
            "write params = jaxact.linen.renamed(params)."
        )
    return _layers.block_input(layer, x, block.in_features)


def _param(
    module: nn.Module,
    name: str,
    init: ArrayLike | Initializer,
    shape: tuple[int, ...],
    dtype: Any,
    partitioning: tuple[Any, ...],
) -> Any:
    return module.param(name, _sharded(_layers.constant(init), *partitioning), shape, dtype)


def _sharded(initializer: Initializer, *partitioning: Any) -> Initializer:
    if all(axis is None for axis in partitioning):
        return initializer
    return nn.with_partitioning(initializer, partitioning)


def _dense(
    block: MLP | GatedMLP,
    name: str,
    features: int,
    rows: Any,
    columns: Any,
    *,
    bias_init: Initializer = _layers.BIAS_INIT,
    **options: Any,
) -> nn.Dense:
    """A layer of the block, its kernel sharded over these axes."""
    return nn.Dense(
        features,
        name=name,
        dot_general=feedforward.dot_general,
        kernel_init=_sharded(_layers.constant(block.kernel_init), rows, columns),
        bias_init=_sharded(_layers.constant(bias_init), columns),
        dtype=block.dtype,
        param_dtype=block.param_dtype,
        **options,
    )


def _output(
    block: str, activation: str | Function, pre: tuple[jax.Array, ...], dense: nn.Dense
) -> jax.Array:
    """The last layer's result: of itself if it makes its parameters, or others are to see its call.

    Else of the block's, which keeps the pre-activations alone.
    """
    promoted = _promoted(pre[0], dense)
    if promoted is not None and not _observed():
        y = _layers.block_output(block, activation, pre, promoted)
        if y is not None:
            return y
    return dense(feedforward.hidden(activation, pre))


def _from_input(
    block: str, activation: str | Function, x: jax.Array, first: list[nn.Dense], last: nn.Dense
) -> jax.Array | None:
    """The block's result that keeps x alone; None where `_output` would call the last layer."""
    if _observed():
        return None
    return _layers.block_from_input(
        block, activation, [_promoted(x, dense) for dense in first], lambda h: _promoted(h, last)
    )


def _promoted(x: jax.Array, dense: nn.Dense) -> tuple[Any, Any, Any] | None:
    """x, kernel and bias in the dtype that a layer computes in, once it has these."""
    if not dense.has_variable("params", "kernel"):
        return None
    kernel = nn.meta.unbox(dense.get_variable("params", "kernel"))
    bias = nn.meta.unbox(dense.get_variable("params", "bias")) if dense.use_bias else None
    x, kernel, bias = dense.promote_dtype(x, kernel, bias, dtype=dense.dtype)
    return x, kernel, bias


def _observed() -> bool:
    """Whether products or the calls of modules are intercepted, or the latter's results captured.

    Flax has no public way to ask.
    """
    captures = getattr(nn.module._context, "capture_stack", ())
    return (
        feedforward.intercepted()
        or bool(getattr(nn.module, "_global_interceptor_stack", None))
        or bool(captures and captures[-1])
    )


def _hidden(
    block: MLP | GatedMLP, partitioning: Any, deterministic: bool | None, rng: jax.Array | None
) -> str | Function:
    """The activation as `jaxact.mlp` takes it: a known function by its name, traced once only."""
    if isinstance(block.activation, _LAYERS):
        return block.activation._function(deterministic=deterministic, rng=rng)
    if isinstance(block.activation, nn.Module):
        raise TypeError(
            f"{type(block).__name__}: activation must be a name, a function, or a layer of "
            f"jaxact.linen, not {type(block.activation).__name__}."
        )
    if _layers.learned_or_random(block.activation)[0] is None:
        return block.activation
    layer = Activation(
        block.activation,
        block.hidden_features,
        partitioning=partitioning,
        param_dtype=block.param_dtype,
        name="hidden_activation",
    )
    return layer._function(deterministic=deterministic, rng=rng)
