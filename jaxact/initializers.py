"""Initial weights whose variance fits the activation before them.

A layer `W f(z)` with weights of variance g^2 / fan_in has outputs of second moment g^2 E[f(z)^2]:
that of its inputs z, when they are standard normal and g is the `gain` of f. The initializers are
those of ``jax.nn.initializers``, with an activation.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
from jax.nn.initializers import Initializer

from jaxact._gain import second_moment
from jaxact.registry import Activation


def gain(activation: str | Activation, **parameters: Any) -> float:
    r"""The factor that makes the second moment of an activation one.

    $$
    \mathrm{gain}(f) = \frac{1}{\sqrt{\mathrm{E}[f(z)^2]}}, \qquad z \sim N(0, 1)
    $$

    Weights of variance gain² / fan_in pass on pre-activations of second moment 1 as such. Whether
    a deep network stays there is a matter of the elasticity at q = 1 of

    $$
    \mathrm{E}[f(\sqrt{q} z)^2], \qquad
    \mathrm{elasticity} = \frac{d \log \mathrm{E}[f(\sqrt{q} z)^2]}{d \log q}
    $$

    the factor by which each layer multiplies a small deviation of q from 1. It is 1 for the
    homogeneous functions (``relu`` and its leaky relatives: the deviations of a finite width add
    up, by a relative variance of about 5 / width a layer) and less for the bounded ones and the
    ELUs, which return to 1. Above 1 the fixed point is unstable, and no initializer holds 100
    layers there: ``relu_squared`` (2), ``tanh_shrink`` (1.8), ``soft_shrink`` (1.5), ``hard_silu``
    and ``silu`` (1.2), ``gelu`` and ``quick_gelu`` (1.1), ``mish`` (1.1), ``hard_shrink`` (1.05),
    ``threshold`` with a positive threshold and value 0. Deep networks of these need normalization
    layers, behind which the gain is right.

    In closed form where there is one, else by quadrature in float64, with a relative error below
    1e-9; of a function that computes in float32, below 1e-6. Names with numbers are cached. Gated
    functions of two inputs count these as independent: ``swiglu`` has the gain of ``silu``.

    Args:
      activation: a name (``"leaky_relu:0.2"``), a function of jaxact, or any function that acts
        element by element.
      **parameters: its parameters by name, each a number. Those not given have their defaults;
        ``prelu`` has the slope 0.25 that its layers start at. ``rrelu`` has random slopes unless
        ``deterministic``, and needs no key.

    Returns:
      A Python number, also while a model is built under ``jit``, ``vmap`` or ``eval_shape``.

    Raises:
      TypeError: neither a name nor a function.
      ValueError: an unknown name or parameter; a function without a parameter that has no default
        (``threshold``, ``softcap``, ``clamped_swiglu``); an array as a parameter; a function that
        changes the shape; a second moment that is 0 or not finite.

    Reference: He et al., "Delving deep into rectifiers", 2015 (arXiv 1502.01852).

    Examples:
      >>> [round(gain(f), 4) for f in ("relu", "leaky_relu:0.2", "tanh", "selu")]
      [1.4142, 1.3868, 1.5925, 1.0]
      >>> import jax, jax.numpy as jnp
      >>> round(gain(lambda x: jnp.sin(3 * x)), 4)
      1.4142
      >>> orthogonal = jax.nn.initializers.orthogonal(gain("relu"))
    """
    return math.sqrt(1 / second_moment(activation, parameters)())


# ------------------------------------------------------------------------------------------------
# Initializers

_Axes = int | Sequence[int]


def _scaled(
    mode: Literal["fan_in", "fan_avg"],
    distribution: Literal["truncated_normal", "uniform"],
    in_axis: _Axes,
    out_axis: _Axes,
    batch_axis: _Axes,
    dtype: Any,
    activation: str | Activation,
    parameters: dict[str, Any],
) -> Initializer:
    moment = second_moment(activation, parameters)

    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> jax.Array:
        # gain(activation)^2, exactly 2 for relu.
        initializer = jax.nn.initializers.variance_scaling(
            1 / moment(), mode, distribution, in_axis, out_axis, batch_axis
        )
        return initializer(key, shape, dtype, out_sharding)

    return init


def he_normal(
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = None,
    *,
    activation: str | Activation = "relu",
    **parameters: Any,
) -> Initializer:
    r"""He's initializer for the layer behind any activation, normally distributed.

    $$
    W \sim N\left(0, \frac{\mathrm{gain}(\mathrm{activation})^2}{\mathrm{fan\_in}}\right),
    \quad \text{truncated at two standard deviations}
    $$

    By default ``jax.nn.initializers.he_normal``, bit for bit.

    Args:
      in_axis: the axis or axes of the inputs in the weights; those named nowhere are the window of
        a convolution.
      out_axis: the axis or axes of the outputs.
      batch_axis: the axis or axes of independent weights.
      dtype: the dtype of the weights, unless the call names one.
      activation: what the inputs of the layer have gone through; as in `gain`.
      **parameters: its parameters, by name.

    Returns:
      An initializer ``(key, shape, dtype, out_sharding) -> weights``: the ``kernel_init`` of Flax
      layers.

    Raises:
      TypeError, ValueError: as in `gain`; what needs the values of the function, when weights are
        drawn.

    Reference: He et al., "Delving deep into rectifiers", 2015 (arXiv 1502.01852).

    Examples:
      >>> import jax
      >>> init = he_normal(activation="leaky_relu:0.2")
      >>> print(f"{init(jax.random.key(0), (1000, 1000)).std() * 1000**0.5:.2f}")
      1.39
    """
    axes = (in_axis, out_axis, batch_axis)
    return _scaled("fan_in", "truncated_normal", *axes, dtype, activation, parameters)


def he_uniform(
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = None,
    *,
    activation: str | Activation = "relu",
    **parameters: Any,
) -> Initializer:
    r"""He's initializer for the layer behind any activation, uniformly distributed.

    $$
    W \sim U(-a, a), \qquad
    a = \mathrm{gain}(\mathrm{activation}) \sqrt{\frac{3}{\mathrm{fan\_in}}}
    $$

    By default ``jax.nn.initializers.he_uniform``, bit for bit. Arguments, result and errors are
    those of `he_normal`.

    Reference: He et al., "Delving deep into rectifiers", 2015 (arXiv 1502.01852).

    Examples:
      >>> import jax
      >>> weights = he_uniform(activation="tanh")(jax.random.key(0), (300, 200))
      >>> print(f"{abs(weights).max():.3f}, {gain('tanh') * 0.1:.3f}")
      0.159, 0.159
    """
    axes = (in_axis, out_axis, batch_axis)
    return _scaled("fan_in", "uniform", *axes, dtype, activation, parameters)


def lecun_normal(
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = None,
    *,
    activation: str | Activation = "identity",
    **parameters: Any,
) -> Initializer:
    r"""LeCun's initializer, normally distributed; right for SELU.

    $$
    W \sim N\left(0, \frac{\mathrm{gain}(\mathrm{activation})^2}{\mathrm{fan\_in}}\right),
    \quad \text{truncated at two standard deviations}
    $$

    By default, where the gain is 1, ``jax.nn.initializers.lecun_normal``, bit for bit. With an
    activation it is `he_normal`, whose arguments, result and errors it has. ``selu`` is scaled such
    that its gain is 1 too, and keeps mean 0 and variance 1 with these weights.

    Reference: LeCun et al., "Efficient backprop", 1998; Klambauer et al., "Self-normalizing neural
    networks", 2017 (arXiv 1706.02515).

    Examples:
      >>> import jax
      >>> init = lecun_normal(activation="selu")
      >>> print(f"{init(jax.random.key(0), (1000, 1000)).std() * 1000**0.5:.2f}")
      1.00
    """
    axes = (in_axis, out_axis, batch_axis)
    return _scaled("fan_in", "truncated_normal", *axes, dtype, activation, parameters)


def lecun_uniform(
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = None,
    *,
    activation: str | Activation = "identity",
    **parameters: Any,
) -> Initializer:
    r"""LeCun's initializer, uniformly distributed.

    $$
    W \sim U(-a, a), \qquad
    a = \mathrm{gain}(\mathrm{activation}) \sqrt{\frac{3}{\mathrm{fan\_in}}}
    $$

    By default ``jax.nn.initializers.lecun_uniform``, bit for bit. Arguments, result and errors are
    those of `he_normal`.

    Reference: LeCun et al., "Efficient backprop", 1998.

    Examples:
      >>> import jax
      >>> weights = lecun_uniform()(jax.random.key(0), (300, 200))
      >>> print(f"{abs(weights).max():.3f}")
      0.100
    """
    axes = (in_axis, out_axis, batch_axis)
    return _scaled("fan_in", "uniform", *axes, dtype, activation, parameters)


def glorot_normal(
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = None,
    *,
    activation: str | Activation = "identity",
    **parameters: Any,
) -> Initializer:
    r"""Glorot's initializer, normally distributed: between the forward and the backward pass.

    $$
    W \sim N\left(0, \frac{2 \, \mathrm{gain}(\mathrm{activation})^2}
    {\mathrm{fan\_in} + \mathrm{fan\_out}}\right),
    \quad \text{truncated at two standard deviations}
    $$

    By default ``jax.nn.initializers.glorot_normal``, bit for bit. Arguments, result and errors are
    those of `he_normal`. Second moments stay 1 where fan_in and fan_out are equal.

    Reference: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010.

    Examples:
      >>> import jax
      >>> init = glorot_normal(activation="tanh")
      >>> print(f"{init(jax.random.key(0), (1500, 500)).std() * 1000**0.5:.2f}")
      1.59
    """
    axes = (in_axis, out_axis, batch_axis)
    return _scaled("fan_avg", "truncated_normal", *axes, dtype, activation, parameters)


def glorot_uniform(
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = None,
    *,
    activation: str | Activation = "identity",
    **parameters: Any,
) -> Initializer:
    r"""Glorot's initializer, uniformly distributed.

    $$
    W \sim U(-a, a), \qquad a = \mathrm{gain}(\mathrm{activation})
    \sqrt{\frac{6}{\mathrm{fan\_in} + \mathrm{fan\_out}}}
    $$

    By default ``jax.nn.initializers.glorot_uniform``, bit for bit. Arguments, result and errors are
    those of `he_normal`.

    Reference: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010.

    Examples:
      >>> import jax
      >>> weights = glorot_uniform()(jax.random.key(0), (400, 200))
      >>> print(f"{abs(weights).max():.3f}")
      0.100
    """
    axes = (in_axis, out_axis, batch_axis)
    return _scaled("fan_avg", "uniform", *axes, dtype, activation, parameters)


kaiming_normal = he_normal
kaiming_uniform = he_uniform
xavier_normal = glorot_normal
xavier_uniform = glorot_uniform
