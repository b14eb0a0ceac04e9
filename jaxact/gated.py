"""Gated linear units: an activation of one half, times the other."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

import jaxact._plain as plain
from jaxact._core.arithmetic import Real, on_arrays, where
from jaxact._core.elementwise import Elementwise, Formula, named_jit
from jaxact._core.inputs import axis_index, real_array
from jaxact.piecewise_linear import _relu
from jaxact.recent import _softcap
from jaxact.smooth import _gelu_erf, _gelu_tanh, _sigmoid, _silu, _swish

#: The public functions, in the order of `jaxact.ACTIVATIONS`.
__all__ = [  # noqa: RUF022
    "glu",
    "swiglu",
    "geglu",
    "reglu",
    "bilinear_glu",
    "clamped_swiglu",
    "situ_glu",
]


def _product(
    name: str,
    gate: Elementwise,
    value: Elementwise | None = None,
    *,
    parameters: Sequence[str] = (),
    shared: int = 0,
    mark: str = "",
) -> Elementwise:
    """gate(g, ...) * value(u, ...), or gate(g, ...) * u, from the declarations of both.

    ``parameters`` are the names of the gate's parameters and then the other's, of which the first
    ``shared`` ones are the gate's too.
    """
    count = len(gate.parameters)

    def of_gate(inputs: Sequence[jax.Array]) -> list[jax.Array]:
        return [inputs[0], *inputs[2 : 2 + count]]

    def of_value(inputs: Sequence[jax.Array]) -> list[jax.Array]:
        return [inputs[1], *inputs[2 : 2 + shared], *inputs[2 + count :]]

    def formula(size: int, *inputs: jax.Array) -> jax.Array:
        y = gate.formula(gate.value, size)(*of_gate(inputs))
        if value is None:
            return y * inputs[1]
        return y * value.formula(value.value, size)(*of_value(inputs))

    def other_value(size: int, inputs: Sequence[jax.Array]) -> jax.Array:
        return inputs[1] if value is None else value.differentiable(size, *of_value(inputs))

    def gate_partial(partial: Formula | None) -> Formula:
        assert partial is not None
        return lambda size, t, *inputs: gate.formula(partial, size)(
            t * other_value(size, inputs), *of_gate(inputs)
        )

    def value_partial(partial: Formula | None) -> Formula:
        def rule(size: int, t: jax.Array, *inputs: jax.Array) -> jax.Array:
            t = t * gate.differentiable(size, *of_gate(inputs))
            if value is None or partial is None:
                return t
            return value.formula(partial, size)(t, *of_value(inputs))

        return rule

    def plus(a: Formula, b: Formula) -> Formula:
        return lambda *args: a(*args) + b(*args)

    by_gate = [gate_partial(partial) for partial in gate.partials]
    by_value = [value_partial(partial) for partial in (value.partials if value else [None])]
    by_both = map(plus, by_gate[1 : 1 + shared], by_value[1 : 1 + shared])

    def standard(*inputs: jax.Array) -> jax.Array:
        y = gate.plain(*of_gate(inputs))
        return y * (inputs[1] if value is None else value.plain(*of_value(inputs)))

    limits = [*gate.parameters.values(), *list(value.parameters.values() if value else ())[shared:]]
    return Elementwise(
        name,
        formula,
        [by_gate[0], by_value[0], *by_both, *by_gate[1 + shared :], *by_value[1 + shared :]],
        plain=standard,
        arrays=("gate", "up"),
        parameters=dict(zip(parameters, limits, strict=True)),
        sized=True,
        mark=mark,
        kind=gate.kind,
        binary=gate.binary,
        gate=gate,
    )


_swiglu = _product("swiglu", _silu)
_geglu_tanh = _product("geglu", _gelu_tanh)
_geglu_erf = _product("geglu", _gelu_erf, mark="geglu_erf")
_reglu = _product("reglu", _relu)
_sigmoid_gate = _product("glu", _sigmoid)
_bilinear_glu = Elementwise(
    "bilinear_glu",
    lambda gate, up: gate * up,
    [lambda t, gate, up: t * up, lambda t, gate, up: t * gate],
    plain=lambda gate, up: gate * up,
    kind="open",
    arrays=("gate", "up"),
)


#: Positive: infinity clamps nothing.
_LIMIT = {"minimum": 0, "exclude_zero": True}


def _clamped_gate(activation: Elementwise, clamp: str, mark: str) -> Elementwise:
    """x σ(αx), whose x or whose result is at most a limit."""

    def act(size: int, g: Real, *alpha: Real) -> Real:
        arrays = [g.array, *(a.array for a in alpha)]
        return Real(activation.formula(activation.value, size)(*arrays))

    def partial(size: int, index: int, t: Real, *inputs: Real) -> Real:
        rule = activation.partials[index]
        assert rule is not None
        return Real(activation.formula(rule, size)(t.array, *(x.array for x in inputs)))

    def before(size: int, g: Real, limit: Real, *alpha: Real) -> Real:
        return act(size, where(g > limit, limit, g), *alpha)

    def after(size: int, g: Real, limit: Real, *alpha: Real) -> Real:
        a = act(size, g, *alpha)
        return where(a > limit, limit, a)

    def before_partial(index: int, size: int, t: Real, g: Real, limit: Real, *alpha: Real) -> Real:
        inside = where(g > limit, limit, g)
        slope = partial(size, max(index - 1, 0), t, inside, *alpha)
        if index == 0:
            return where(g > limit, 0, slope)
        return where(g > limit, slope, 0) if index == 1 else slope

    def after_partial(index: int, size: int, t: Real, g: Real, limit: Real, *alpha: Real) -> Real:
        above = act(size, g, *alpha) > limit
        if index == 1:
            return where(above, t, 0)
        return where(above, 0, partial(size, max(index - 1, 0), t, g, *alpha))

    def standard(g: Real, limit: Real, *alpha: Real) -> Real:
        if clamp == "before":
            g = where(g > limit, limit, g)
        a = Real(activation.plain(g.array, *(a.array for a in alpha)))
        return a if clamp == "before" else where(a > limit, limit, a)

    value, rule = (before, before_partial) if clamp == "before" else (after, after_partial)
    return Elementwise(
        "clamped_swiglu",
        _sized(value),
        [_sized(rule, index) for index in range(1 + len(activation.partials))],
        kind="smooth",
        plain=on_arrays(standard),
        parameters={"limit": _LIMIT} | dict(activation.parameters),
        sized=True,
        mark=mark,
    )


def _sized(formula: Any, *first: Any) -> Formula:
    """A formula of `Real`, as one of arrays whose first argument is a size."""
    return lambda size, *inputs: on_arrays(functools.partial(formula, *first, size))(*inputs)


_clamped_up = Elementwise(
    "clamped_swiglu",
    on_arrays(lambda u, limit, offset: plain.clip(u, -limit, limit) + offset),
    [
        on_arrays(lambda t, u, limit, offset: where((u > limit) | (u < -limit), 0, t)),
        on_arrays(lambda t, u, limit, offset: where(u > limit, t, where(u < -limit, -t, 0))),
        lambda t, u, limit, offset: t,
    ],
    kind="clip",
    plain=on_arrays(lambda u, limit, offset: plain.clip(u, -limit, limit) + offset),
    parameters={"limit": _LIMIT, "offset": {}},
    mark="clamped_up",
)


def _clamped(clamp: str, activation: Elementwise, mark: str) -> Elementwise:
    gate = _clamped_gate(activation, clamp, f"{mark}_gate")
    parameters = ("limit", *activation.parameters, "offset")
    names = ["alpha" if name == "beta" else name for name in parameters]
    return _product("clamped_swiglu", gate, _clamped_up, parameters=names, shared=1, mark=mark)


#: By ``clamp``, and by whether α is the number 1.
_CLAMPED = {
    ("before", True): _clamped("before", _silu, "clamped_swiglu"),
    ("before", False): _clamped("before", _swish, "clamped_swiglu_alpha"),
    ("after", True): _clamped("after", _silu, "clamped_swiglu_after"),
    ("after", False): _clamped("after", _swish, "clamped_swiglu_after_alpha"),
}


def _situ_value(size: int, g: jax.Array, cap: jax.Array) -> jax.Array:
    return _softcap.formula(_softcap.value, size)(g, cap) * _sigmoid.formula(_sigmoid.value, size)(
        g
    )


def _situ_slope(size: int, t: jax.Array, g: jax.Array, cap: jax.Array) -> jax.Array:
    by_cap, by_sigmoid = _softcap.partials[0], _sigmoid.partials[0]
    assert by_cap is not None and by_sigmoid is not None
    sigmoid, capped = _sigmoid.differentiable(size, g), _softcap.differentiable(size, g, cap)
    first = _softcap.formula(by_cap, size)(t * sigmoid, g, cap)
    return first + _sigmoid.formula(by_sigmoid, size)(t * capped, g)


def _situ_cap_slope(size: int, t: jax.Array, g: jax.Array, cap: jax.Array) -> jax.Array:
    partial = _softcap.partials[1]
    assert partial is not None
    return _softcap.formula(partial, size)(t * _sigmoid.differentiable(size, g), g, cap)


_situ_gate = Elementwise(
    "situ_glu",
    _situ_value,
    [_situ_slope, _situ_cap_slope],
    kind="saturating",
    plain=lambda g, cap: _softcap.plain(g, cap) * _sigmoid.plain(g),
    parameters={"gate_cap": _softcap.parameters["cap"]},
    sized=True,
    mark="situ_gate",
)
_situ_glu = _product("situ_glu", _situ_gate, _softcap, parameters=("gate_cap", "up_cap"))


def _apply(
    function: Elementwise, gate: ArrayLike, up: ArrayLike, *parameters: ArrayLike
) -> jax.Array:
    gate = real_array(function.name, gate, "gate")
    up = real_array(function.name, up, "up")
    try:
        jnp.broadcast_shapes(gate.shape, up.shape)
    except ValueError:
        raise ValueError(
            f"{function.name}: gate {gate.shape} and up {up.shape} do not broadcast; "
            "give both the same shape."
        ) from None
    if gate.dtype != up.dtype:
        dtype = jnp.result_type(gate, up)
        gate, up = gate.astype(dtype), up.astype(dtype)
    return function.jitted(gate, up, *function.check_parameters(*parameters))


def glu(x: ArrayLike, axis: int = -1) -> jax.Array:
    r"""Gated linear unit.

    $$
    \mathrm{glu}(x) = a \, \sigma(b)
    $$

    $$
    \frac{\partial}{\partial a} \mathrm{glu} = \sigma(b),
    \qquad
    \frac{\partial}{\partial b} \mathrm{glu} = a \, \sigma(b) \, \sigma(-b)
    $$

    with a and b the first and the second half of x. Residual: the input.

    Args:
      x: any real array-like of at least one dimension.
      axis: the axis to split, of even length; the result is half as long there.

    Returns:
      An array of the dtype of ``x``.

    Raises:
      TypeError: complex input.
      ValueError: ``axis`` out of range, or of odd length.

    Reference: Dauphin et al., "Language modeling with gated convolutional networks", 2016 (arXiv
    1612.08083).

    Examples:
      >>> glu([1.0, 2.0, 0.0, 0.0])
      Array([0.5, 1. ], dtype=float32)
    """
    x = real_array("glu", x)
    axis = axis_index("glu", axis, x.ndim)
    if x.shape[axis] % 2:
        raise ValueError(
            f"glu: axis {axis} of x {x.shape} has odd length {x.shape[axis]}; it must be even, to "
            "split into two halves."
        )
    return _glu(x, axis)


def _split_and_gate(x: jax.Array, axis: int) -> jax.Array:
    half = x.shape[axis] // 2
    a = lax.slice_in_dim(x, 0, half, axis=axis)
    b = lax.slice_in_dim(x, half, None, axis=axis)
    return _sigmoid_gate.apply(b, a)


_glu = named_jit("glu", _split_and_gate, static_argnums=1)


def swiglu(gate: ArrayLike, up: ArrayLike) -> jax.Array:
    r"""Gated linear unit with a SiLU gate.

    $$
    \mathrm{swiglu}(g, u) = \mathrm{silu}(g) \, u
    $$

    $$
    \frac{\partial}{\partial g} \mathrm{swiglu} = \mathrm{silu}'(g) \, u,
    \qquad
    \frac{\partial}{\partial u} \mathrm{swiglu} = \mathrm{silu}(g)
    $$

    Residual: both inputs.

    Args:
      gate: any real array-like.
      up: likewise, of a shape that broadcasts against that of ``gate``.

    Returns:
      An array of the promoted dtype of both.

    Raises:
      TypeError: complex input.
      ValueError: the shapes do not broadcast.

    Reference: Shazeer, "GLU variants improve transformer", 2020 (arXiv 2002.05202).

    Examples:
      >>> swiglu([0.0, 2.0], [3.0, 3.0]).round(4)
      Array([0.    , 5.2848], dtype=float32)
    """
    return _apply(_swiglu, gate, up)


def geglu(gate: ArrayLike, up: ArrayLike, *, approximate: bool = True) -> jax.Array:
    r"""Gated linear unit with a GELU gate.

    $$
    \mathrm{geglu}(g, u) = \mathrm{gelu}(g) \, u
    $$

    $$
    \frac{\partial}{\partial g} \mathrm{geglu} = \mathrm{gelu}'(g) \, u,
    \qquad
    \frac{\partial}{\partial u} \mathrm{geglu} = \mathrm{gelu}(g)
    $$

    Residual: both inputs.

    Args:
      gate: any real array-like.
      up: likewise, of a shape that broadcasts against that of ``gate``.
      approximate: the tanh form of `gelu`, or the exact one.

    Returns:
      An array of the promoted dtype of both.

    Raises:
      TypeError: complex input.
      ValueError: the shapes do not broadcast.

    Reference: Shazeer, "GLU variants improve transformer", 2020 (arXiv 2002.05202).

    Examples:
      >>> geglu([0.0, 2.0], [3.0, 3.0]).round(4)
      Array([0.    , 5.8638], dtype=float32)
    """
    return _apply(_geglu_tanh if approximate else _geglu_erf, gate, up)


def reglu(gate: ArrayLike, up: ArrayLike) -> jax.Array:
    r"""Gated linear unit with a ReLU gate.

    $$
    \mathrm{reglu}(g, u) = \max(g, 0) \, u
    $$

    $$
    \frac{\partial}{\partial g} \mathrm{reglu} = \mathrm{relu}'(g) \, u,
    \qquad
    \frac{\partial}{\partial u} \mathrm{reglu} = \mathrm{relu}(g)
    $$

    The derivative for g at 0 is 0. Residual: both inputs.

    Args:
      gate: any real array-like.
      up: likewise, of a shape that broadcasts against that of ``gate``.

    Returns:
      An array of the promoted dtype of both.

    Raises:
      TypeError: complex input.
      ValueError: the shapes do not broadcast.

    Reference: Shazeer, "GLU variants improve transformer", 2020 (arXiv 2002.05202).

    Examples:
      >>> reglu([-1.0, 2.0], [3.0, 3.0])
      Array([0., 6.], dtype=float32)
    """
    return _apply(_reglu, gate, up)


def bilinear_glu(gate: ArrayLike, up: ArrayLike) -> jax.Array:
    r"""Gated linear unit without an activation: the product of both.

    $$
    \mathrm{bilinear\_glu}(g, u) = g u
    $$

    $$
    \frac{\partial}{\partial g} \mathrm{bilinear\_glu} = u,
    \qquad
    \frac{\partial}{\partial u} \mathrm{bilinear\_glu} = g
    $$

    Residual: both inputs.

    Args:
      gate: any real array-like.
      up: likewise, of a shape that broadcasts against that of ``gate``.

    Returns:
      An array of the promoted dtype of both.

    Raises:
      TypeError: complex input.
      ValueError: the shapes do not broadcast.

    Reference: Shazeer, "GLU variants improve transformer", 2020 (arXiv 2002.05202).

    Examples:
      >>> bilinear_glu([-1.0, 2.0], [3.0, 3.0])
      Array([-3.,  6.], dtype=float32)
    """
    return _apply(_bilinear_glu, gate, up)


def clamped_swiglu(
    gate: ArrayLike,
    up: ArrayLike,
    *,
    limit: ArrayLike,
    alpha: ArrayLike = 1.0,
    offset: ArrayLike = 0.0,
    clamp: Literal["before", "after"] = "before",
) -> jax.Array:
    r"""SwiGLU whose gate is at most, and whose other factor is at most in size, a limit.

    $$
    \mathrm{clamped\_swiglu}(g, u) = g' \, \sigma(\alpha g') \, (u' + b), \quad
    g' = \min(g, l), \quad u' = \max(-l, \min(u, l))
    $$

    $$
    \frac{\partial}{\partial g'} \mathrm{clamped\_swiglu} =
    \sigma(\alpha g') \, (1 + \alpha g' \, \sigma(-\alpha g')) \, (u' + b),
    \quad
    \frac{\partial}{\partial u'} \mathrm{clamped\_swiglu} = g' \, \sigma(\alpha g')
    $$

    With ``clamp="after"``, what the gate makes is clamped and not the gate: min(g σ(αg), l). A
    model that was trained with the clamp loses accuracy without it, and nothing tells. Beyond a
    limit the derivative is 0; at the limit itself it is that of the inside, as in PyTorch, where
    ``jnp.clip`` has a half. Residual: both inputs.

    | model | limit | alpha | offset | clamp |
    |---|---|---|---|---|
    | gpt-oss | 7 | 1.702 | 1 | before |
    | DeepSeek-V4, GLM | 10 | 1 | 0 | before |
    | Step-3.5, Ling | the model's | 1 | 0 | after |

    Args:
      gate: any real array-like.
      up: likewise, of a shape that broadcasts against that of ``gate``.
      limit: l, positive: a number, or an array that broadcasts against the result, as the next two
        (all are differentiable).
      alpha: α.
      offset: b.
      clamp: ``"before"`` or ``"after"``.

    Returns:
      An array of the promoted dtype of ``gate`` and ``up``.

    Raises:
      TypeError: complex input.
      ValueError: a limit that is not positive, NaN, an unknown ``clamp``, shapes that do not
        broadcast.

    Reference: OpenAI, "gpt-oss-120b & gpt-oss-20b model card", 2025 (arXiv 2508.10925); as
    published in ``GptOssExperts`` of Hugging Face's transformers.

    Examples:
      >>> clamped_swiglu([2.0, 100.0], [3.0, -100.0], limit=7.0).round(4)
      Array([  5.2848, -48.9554], dtype=float32)
    """
    is_silu = isinstance(alpha, int | float) and alpha == 1
    if clamp not in ("before", "after"):
        raise ValueError(f"clamped_swiglu: clamp must be 'before' or 'after', got {clamp!r}.")
    parameters = (limit, offset) if is_silu else (limit, alpha, offset)
    return _apply(_CLAMPED[clamp, is_silu], gate, up, *parameters)


def situ_glu(
    gate: ArrayLike, up: ArrayLike, *, gate_cap: ArrayLike = 4.0, up_cap: ArrayLike = 25.0
) -> jax.Array:
    r"""Gated linear unit whose factors are bounded by tanh, not by a clamp.

    $$
    \mathrm{situ\_glu}(g, u) = c_g \tanh(g / c_g) \, \sigma(g) \; c_u \tanh(u / c_u)
    $$

    $$
    \frac{\partial}{\partial g} \mathrm{situ\_glu} =
    \left((1 - t_g^2) \, \sigma(g) + c_g t_g \, \sigma(g) \, \sigma(-g)\right) c_u t_u,
    \quad
    \frac{\partial}{\partial u} \mathrm{situ\_glu} = c_g t_g \, \sigma(g) \, (1 - t_u^2),
    \quad
    t_g = \tanh(g / c_g), \quad t_u = \tanh(u / c_u)
    $$

    Residual: both inputs.

    Args:
      gate: any real array-like.
      up: likewise, of a shape that broadcasts against that of ``gate``.
      gate_cap: c_g, positive: a number, or an array that broadcasts against the result
        (differentiable).
      up_cap: c_u, likewise.

    Returns:
      An array of the promoted dtype of ``gate`` and ``up``.

    Raises:
      TypeError: complex input.
      ValueError: a cap that is not positive or NaN, shapes that do not broadcast.

    Reference: Moonshot AI's Kimi K3; as published in its model code, ``SituAndMul``, where the caps
    are ``situ_beta`` and ``situ_linear_beta``. At a zero of its derivative by the gate (-1.22 with
    the default cap) that is right to 2⁻²² of ``up``, and not to the last place.

    Examples:
      >>> situ_glu([0.0, 2.0], [3.0, 3.0]).round(1)
      Array([0. , 4.9], dtype=float32)
    """
    return _apply(_situ_glu, gate, up, gate_cap, up_cap)
