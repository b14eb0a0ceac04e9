"""Feed-forward blocks that keep their pre-activations, or their input, and nothing else."""

import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec, reshard
from jax.typing import ArrayLike

from jaxact._core import context
from jaxact._core.elementwise import named_jit
from jaxact._core.inputs import real_array
from jaxact._core.packing import axis_names
from jaxact._core.platforms import recomputed
from jaxact._jaxprs.structure import as_function, jaxpr_of
from jaxact.gated import bilinear_glu, geglu, reglu, swiglu
from jaxact.piecewise_linear import identity, relu
from jaxact.registry import Activation, get, takes_gate_and_up
from jaxact.smooth import gelu, silu

#: What a block keeps for its backward pass: see `mlp`.
Save = Literal["pre", "input"]
#: The name of the pre-activations for the policies of ``jax.checkpoint``.
PRE_ACTIVATION = "jaxact.pre"


def mlp(
    x: ArrayLike,
    w_in: ArrayLike,
    w_out: ArrayLike,
    *,
    b_in: ArrayLike | None = None,
    b_out: ArrayLike | None = None,
    activation: str | Activation = "gelu",
    save: Save = "pre",
) -> jax.Array:
    r"""Feed-forward block: two linear maps with an activation between them.

    $$
    \mathrm{mlp}(x) = \mathrm{act}(x W_\mathrm{in} + b_\mathrm{in}) W_\mathrm{out} + b_\mathrm{out}
    $$

    The backward pass keeps the pre-activation and computes the activation again; no matrix product
    is computed twice. Written out, the expression keeps the pre-activation and the activation. With
    ``save="input"`` it keeps x alone, and computes the first product again too.

    Under a ``jax.checkpoint`` of yours, the pre-activation has the name ``"jaxact.pre"``:
    ``jax.checkpoint_policies.save_only_these_names("jaxact.pre")`` keeps it.

    Args:
      x: a real array of shape (..., d).
      w_in: (d, hidden).
      w_out: (hidden, features).
      b_in: (hidden,), or None.
      b_out: (features,), or None.
      activation: a name (``"leaky_relu:0.2"``), or a JAX function that acts element by element. It
        may close over traced values, which get their gradients: ``lambda h: prelu(h, slopes)``.
      save: what the backward pass keeps: ``"pre"``, the pre-activation, or ``"input"``, x.

    Returns:
      An array of shape (..., features), of the promoted dtype of x and the weights. Products of
      16-bit numbers are summed in float32; the hidden activation has the dtype of the product.

    Raises:
      TypeError: complex input.
      ValueError: shapes that do not fit, an unknown activation, an unknown ``save``.

    Examples:
      >>> import jax.numpy as jnp
      >>> x, w_in, w_out = jnp.ones((2, 3)), jnp.ones((3, 5)), jnp.ones((5, 4))
      >>> mlp(x, w_in, w_out, activation="relu")
      Array([[15., 15., 15., 15.],
             [15., 15., 15., 15.]], dtype=float32)
    """
    x, w_in, w_out = _arrays("mlp", x=x, w_in=w_in, w_out=w_out)
    (d, hidden), features = _matrix("mlp", "w_in", w_in), _matrix("mlp", "w_out", w_out)[1]
    _expect("mlp", "the last dimension of x", x.shape[-1:], (d,), f"w_in {w_in.shape}")
    _expect("mlp", "the first dimension of w_out", w_out.shape[:1], (hidden,), f"w_in {w_in.shape}")
    biases = []
    for name, bias, length in (("b_in", b_in, hidden), ("b_out", b_out, features)):
        if bias is not None:
            (bias,) = _arrays("mlp", **{name: bias})
            _expect("mlp", f"the shape of {name}", bias.shape, (length,), "the weights")
        biases.append(bias)
    return call("mlp", activation, x, (w_in,), w_out, biases[:1], biases[1], save=save)


def gated_mlp(
    x: ArrayLike,
    w_gate: ArrayLike,
    w_up: ArrayLike,
    w_down: ArrayLike,
    *,
    activation: str | Activation = "silu",
    save: Save = "pre",
) -> jax.Array:
    r"""Gated feed-forward block, as in most language models.

    $$
    \mathrm{gated\_mlp}(x) = (\mathrm{act}(x W_\mathrm{gate}) \odot x W_\mathrm{up}) W_\mathrm{down}
    $$

    The backward pass keeps both pre-activations and computes the gated product again; no matrix
    product is computed twice. With ``save="input"`` it keeps x alone, and computes the first two
    products again too. For ``jax.checkpoint``, both pre-activations have the name ``"jaxact.pre"``.

    Args:
      x: a real array of shape (..., d).
      w_gate: (d, hidden).
      w_up: (d, hidden).
      w_down: (hidden, features).
      activation: of the gate, as in `mlp`; or a function of gate and up, such as `clamped_swiglu`,
        by name: ``"clamped_swiglu:limit=7"``.
      save: what the backward pass keeps: ``"pre"``, both pre-activations, or ``"input"``, x.

    Returns:
      An array of shape (..., features), of the promoted dtype of x and the weights. Products of
      16-bit numbers are summed in float32; what is of hidden size has the dtype of the product.

    Raises:
      TypeError: complex input.
      ValueError: shapes that do not fit, an unknown activation, an unknown ``save``.

    Reference: Shazeer, "GLU variants improve transformer", 2020 (arXiv 2002.05202). At the same
    number of parameters as an ungated block, hidden is two thirds as large.

    Examples:
      >>> import jax.numpy as jnp
      >>> x, w, w_down = jnp.ones((2, 3)), jnp.ones((3, 5)), jnp.ones((5, 4))
      >>> gated_mlp(x, w, w, w_down, activation="relu")
      Array([[45., 45., 45., 45.],
             [45., 45., 45., 45.]], dtype=float32)
    """
    x, w_gate, w_up, w_down = _arrays("gated_mlp", x=x, w_gate=w_gate, w_up=w_up, w_down=w_down)
    d, hidden = _matrix("gated_mlp", "w_gate", w_gate)
    _matrix("gated_mlp", "w_down", w_down)
    fit = f"w_gate {w_gate.shape}"
    _expect("gated_mlp", "the last dimension of x", x.shape[-1:], (d,), fit)
    _expect("gated_mlp", "the shape of w_up", w_up.shape, (d, hidden), fit)
    _expect("gated_mlp", "the first dimension of w_down", w_down.shape[:1], (hidden,), fit)
    return call("gated_mlp", activation, x, (w_gate, w_up), w_down, save=save)


def call(
    name: str,
    activation: str | Activation,
    x: jax.Array,
    w_in: Sequence[jax.Array],
    w: jax.Array,
    b_in: Sequence[jax.Array | None] = (None, None),
    b: jax.Array | None = None,
    *,
    save: Save = "pre",
) -> jax.Array:
    """A block of one or two weights before the activation, and one behind it."""
    check_save(name, save)
    block = _block_from_input if save == "input" and not intercepted() else _block
    return under_name(name, block, activation, x, tuple(w_in), w, tuple(b_in[: len(w_in)]), b)


def check_save(name: str, save: Any) -> None:
    """Raise ValueError unless it is what a block can keep."""
    if save not in ("pre", "input"):
        raise ValueError(f"{name}: save must be 'pre' or 'input', got {save!r}.")


def under_name(
    name: str, block: Callable[..., jax.Array], activation: str | Activation, *args: Any
) -> jax.Array:
    """``block(activation, *args)`` under the block's name.

    Compiled once for JAX's and jaxact's own functions, the arrays among their parameters (slopes,
    keys) being operands. Any other callable may read what changes: values of the trace that it was
    made in, a module's parameters, global variables. It is called each time, and JAX keeps the
    single operations.
    """
    function = get(activation)
    made_of, operands = _taken_apart(function)
    if made_of is None or intercepted():
        return jax.named_scope(f"jaxact.{name}")(block)(function, *args)
    return _kept(name, block, made_of)(operands, *args)


@functools.lru_cache(maxsize=256)
def _kept(
    name: str, block: Callable[..., jax.Array], made_of: "_MadeOf"
) -> Callable[..., jax.Array]:
    def of_operands(operands: Sequence[jax.Array], *args: Any) -> jax.Array:
        return block(made_of.put_together(operands), *args)

    # Inside a larger jit, the boundary of a nested jit costs the GPU compiler memory.
    return named_jit(name, jax.named_scope(f"jaxact.{name}")(of_operands), inline=True)


@dataclasses.dataclass(frozen=True)
class _MadeOf:
    """A function and the parameters set for it, of which arrays are left out."""

    function: Activation
    args: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()

    def put_together(self, arrays: Sequence[jax.Array]) -> Activation:
        """The activation, with these arrays for those left out."""
        if not self.args and not self.keywords:
            return self.function
        rest = iter(arrays)
        args = [next(rest) if a is _ARRAY else a for a in self.args]
        keywords = {name: next(rest) if a is _ARRAY else a for name, a in self.keywords}
        return functools.partial(self.function, *args, **keywords)


_ARRAY = "an array"
#: What does not change: the values that a compiled block may have in it.
_CONSTANT = (bool, int, float, str, type(None), type, np.dtype, np.generic)


def _taken_apart(activation: Activation) -> tuple[_MadeOf | None, list[jax.Array]]:
    """What an activation is made of, and the arrays in it; None if that may change."""
    function, args, keywords = activation, (), {}
    if isinstance(activation, functools.partial):
        function, args, keywords = activation.func, activation.args, activation.keywords
    values = [*args, *keywords.values()]
    arrays = [isinstance(value, jax.Array | np.ndarray) for value in values]
    if not _is_library_function(function) or not all(
        is_array or isinstance(value, _CONSTANT)
        for value, is_array in zip(values, arrays, strict=True)
    ):
        return None, []
    kept = [_ARRAY if is_array else v for v, is_array in zip(values, arrays, strict=True)]
    made_of = _MadeOf(
        function, tuple(kept[: len(args)]), tuple(zip(keywords, kept[len(args) :], strict=True))
    )
    return made_of, [v for v, is_array in zip(values, arrays, strict=True) if is_array]


def _is_library_function(function: Any) -> bool:
    """Whether it is what a module of JAX or jaxact has under the function's name."""
    module = getattr(function, "__module__", None) or ""
    if module.partition(".")[0] not in ("jax", "jaxact"):
        return False
    return getattr(sys.modules.get(module), getattr(function, "__name__", ""), None) is function


_DOT_GENERAL = lax.dot_general, lax.dot_general.__code__


def intercepted() -> bool:
    """Whether something stands in for JAX's matrix product, as quantisers do while they trace.

    It must see each product as an ordinary call: neither in a jit of ours, nor in a custom rule.
    """
    return (lax.dot_general, getattr(lax.dot_general, "__code__", None)) != _DOT_GENERAL


def _block(
    activation: Activation,
    x: jax.Array,
    w_in: Sequence[jax.Array],
    w: jax.Array,
    b_in: Sequence[jax.Array | None],
    b: jax.Array | None,
) -> jax.Array:
    return output(activation, _pre_activations(x, w_in, b_in), w, b)


def _pre_activations(
    x: jax.Array, w_in: Sequence[jax.Array], b_in: Sequence[jax.Array | None]
) -> tuple[jax.Array, ...]:
    products = [_product(x, w) for w in w_in]
    return tuple(h if b is None else _plus_bias(h, b) for h, b in zip(products, b_in, strict=True))


def _block_from_input(
    activation: Activation,
    x: jax.Array,
    w_in: Sequence[jax.Array],
    w: jax.Array,
    b_in: Sequence[jax.Array | None],
    b: jax.Array | None,
) -> jax.Array:
    biases = [bias for bias in b_in if bias is not None]
    function = _function_of(activation, len(w_in))

    def hidden(x: jax.Array, *weights: jax.Array) -> jax.Array:
        rest = iter(weights[len(w_in) :])
        of_this = [None if bias is None else next(rest) for bias in b_in]
        pre = _pre_activations(x, weights[: len(w_in)], of_this)
        return function(*pre).astype(pre[0].dtype)

    with jax.named_scope(f"keeps_input_and_{len(w_in) + len(biases)}"):
        y = project(hidden, (x, *w_in, *biases), w, save="input")
    return y if b is None else _plus_bias(y, b)


def output(
    activation: Activation,
    pre: tuple[jax.Array, ...],
    w: jax.Array,
    b: jax.Array | None = None,
) -> jax.Array:
    """What a block returns, from its pre-activations: one, or those of gate and up."""
    if intercepted():
        y = _product(hidden(activation, pre), w)
    else:
        # jax does not import it itself.
        from jax.ad_checkpoint import checkpoint_name

        pre = tuple(checkpoint_name(h, PRE_ACTIVATION) for h in pre)
        function = _function_of(activation, len(pre))
        y = project(
            lambda *pre: function(*pre).astype(pre[0].dtype),
            pre,
            w,
            only_gate=not takes_gate_and_up(activation),
        )
    return y if b is None else _plus_bias(y, b)


def hidden(activation: str | Activation, pre: tuple[jax.Array, ...]) -> jax.Array:
    """A block's hidden activation, from its pre-activations."""
    return _function_of(get(activation), len(pre))(*pre).astype(pre[0].dtype)


def _function_of(activation: Activation, count: int) -> Activation:
    """The function of so many pre-activations."""
    if count == 2:
        return gated_by(activation)
    if takes_gate_and_up(activation):
        raise ValueError(
            f"mlp: {activation!r} is a function of gate and up; use gated_mlp, or GatedMLP."
        )
    return _elementwise("mlp", activation)


def gated_by(activation: Activation) -> Activation:
    """The function of gate and up whose gate has that activation, if it is not one itself."""
    if takes_gate_and_up(activation):
        return activation
    checked = _elementwise("gated_mlp", activation)

    def product(gate: jax.Array, up: jax.Array) -> jax.Array:
        return checked(gate) * up

    # By identity: not every callable has a hash.
    return next((gated for plain, gated in _GATED if plain is activation), product)


#: Functions of both pre-activations at once: one rounding less.
_GATED: tuple[tuple[Activation, Activation], ...] = (
    (identity, bilinear_glu),
    (relu, reglu),
    (gelu, geglu),
    (silu, swiglu),
)


def project(
    hidden: Callable[..., jax.Array],
    inputs: tuple[jax.Array, ...],
    w: jax.Array,
    save: Save = "pre",
    *,
    only_gate: bool = False,
) -> jax.Array:
    """``hidden(*inputs) @ w``, of which the backward pass keeps ``inputs`` and ``w``.

    The inputs are the pre-activations; or x and what these are computed with. ``only_gate``: all
    that is computed before the product depends on the first of them.
    """
    if context.current().mode == "plain":
        return _product(hidden(*inputs), w)
    # What the activation closes over becomes an argument, for its gradient. Of the activation's own
    # rules only the slopes are needed, in both directions: what it would keep plays no part.
    with context.without_rules_for_memory():
        traced = jax.make_jaxpr(hidden)(*inputs)
    consts = traced.consts

    def of_consts(consts: list[Any], *inputs: jax.Array) -> Any:
        return as_function(traced.jaxpr, consts)(*inputs)

    # Again, because a traced computation holds on to what it closes over.
    computation = as_function(jax.make_jaxpr(of_consts)(consts, *inputs))

    def activated(inputs: tuple[jax.Array, ...], closed_over: list[Any]) -> jax.Array:
        (a,) = computation(*closed_over, *inputs)
        return a

    if context.current().mode == "both":
        return _both(activated, inputs, w, consts, save)
    if save == "input":
        return _from_input(activated)(inputs, w, consts)
    return _from_pre_activations(activated, only_gate)(inputs, w, consts)


def _from_pre_activations(activated: Activation, only_gate: bool) -> Callable[..., jax.Array]:
    """``(pre, w, closed_over)`` -> the product, of which the pullback keeps these."""

    def expression(pre: tuple[jax.Array, ...], w: jax.Array, closed_over: list[Any]) -> jax.Array:
        return _product(activated(pre, closed_over), w)

    def forward(*inputs: Any) -> tuple[jax.Array, Any]:
        return expression(*inputs), inputs

    def backward(inputs: Any, g: jax.Array) -> Any:
        pre, w, closed_over = inputs
        # The product is linear, so any array of the activation's type will do.
        (da,) = jax.vjp(lambda a: _product(a, w), pre[0])[1](g)
        # On TPUs no more than is needed: selections cost cycles where a product ends.
        after = [_after(h, da, on_tpu=i == 0 or not only_gate) for i, h in enumerate(pre)]
        a, pullback = jax.vjp(activated, tuple(after), closed_over)
        (dw,) = jax.vjp(lambda w: _product(a, w), w)[1](g)
        dpre, dclosed_over = pullback(da)
        return dpre, dw, dclosed_over

    block = jax.custom_vjp(expression)
    block.defvjp(forward, backward)
    return block


def _from_input(activated: Activation) -> Callable[..., jax.Array]:
    """``((x, *weights), w, closed_over)`` -> the product, of which the pullback keeps these."""

    def expression(inputs: tuple[jax.Array, ...], w: jax.Array, closed_over: list[Any]) -> Any:
        return _product(_once(activated(inputs, closed_over)), w)

    def forward(*inputs: Any) -> tuple[jax.Array, Any]:
        return expression(*inputs), inputs

    def backward(inputs: Any, g: jax.Array) -> Any:
        (x, *weights), w, closed_over = inputs
        a, pullback = jax.vjp(activated, (_apart(x, g), *weights), closed_over)
        da, dw = jax.vjp(_product, _once(a), w)[1](g)
        dinputs, dclosed_over = pullback(da)
        return dinputs, dw, dclosed_over

    block = jax.custom_vjp(expression)
    block.defvjp(forward, backward)
    return block


def _both(
    activated: Activation,
    inputs: tuple[jax.Array, ...],
    w: jax.Array,
    closed_over: list[Any],
    save: Save,
) -> jax.Array:
    """``activated(inputs, closed_over) @ w``, with a tangent that keeps its arguments alone."""

    @jax.custom_jvp
    def block(inputs: tuple[jax.Array, ...], w: jax.Array, closed_over: list[Any]) -> jax.Array:
        return _product(activated(inputs, closed_over), w)

    # The barrier of jax.checkpoint takes in the cotangent too: all matrix products wait for it.
    @functools.partial(recomputed, barrier=save == "input")
    def tangent(primals: Any, tangents: Any) -> jax.Array:
        inputs, w, closed_over = primals
        dinputs, dw, dclosed_over = tangents
        if save == "pre":
            inputs = tuple(map(_unmerged, inputs))
        a, da = jax.jvp(activated, (inputs, closed_over), (dinputs, dclosed_over))
        # Transposed, it holds back what is computed from the cotangent.
        return lax.optimization_barrier(_product(da, w) + _product(a, dw))

    block.defjvp(lambda primals, tangents: (block(*primals), tangent(primals, tangents)))
    return block(inputs, w, closed_over)


@jax.custom_jvp
def _unmerged(h: jax.Array) -> jax.Array:
    """``h``, in a form that XLA does not merge with what else is computed from it.

    Behind a barrier, scanned layers copy it first: GPUs one array, which is less than what they
    keep without it of layers that are written out. XLA's CPU compiler drops it.
    """
    return lax.platform_dependent(
        h,
        cuda=lax.optimization_barrier,
        rocm=lax.optimization_barrier,
        default=lambda h: _after_product(h, lax.neg(h)),
    )


_unmerged.defjvp(lambda h, t: (_unmerged(*h), t[0]))


def _apart(x: jax.Array, g: jax.Array) -> jax.Array:
    """``x``, in a form that is not there before ``g`` is; likewise."""

    def on_cpu(x: jax.Array, g: jax.Array) -> jax.Array:
        alike = jax.typeof(x) == jax.typeof(g)
        return _after_product(x, g if alike else lax.neg(x))

    return lax.platform_dependent(
        x, g, cpu=on_cpu, default=lambda x, g: lax.optimization_barrier((x, g))[0]
    )


def _once(a: jax.Array) -> jax.Array:
    """``a``, which a product is to read and not to compute itself, for each of its tiles again."""
    return lax.platform_dependent(a, tpu=lax.optimization_barrier, default=lambda a: a)


def form_of(name_stack: str) -> tuple[bool, int, Save]:
    """Of a block's name: whether it is gated, how many arrays it keeps beside the last weights."""
    name, count = BLOCK.search(name_stack).groups()  # type: ignore[union-attr]
    if count:
        return name == "gated_mlp", 1 + int(count), "input"
    return name == "gated_mlp", 2 if name == "gated_mlp" else 1, "pre"


#: A block in a name stack.
BLOCK = re.compile(r"\bjaxact\.(mlp|gated_mlp)\b(?:.*\bkeeps_input_and_(\d))?")


def hidden_part(block: Any) -> Any:
    """The part of a block's jaxpr before its last product, which computes the hidden activation.

    A block is called with the pre-activations (or x and what these are computed with), the weights
    behind the activation, and what this closes over.
    """
    names = [equation.primitive.name for equation in block.eqns]
    position = len(names) - 1 - names[::-1].index("dot_general")
    equations = block.eqns[:position]
    hidden = block.eqns[position].invars[:1]
    return jaxpr_of(equations, block.invars, hidden, block.constvars)


def _elementwise(function: str, activation: Activation) -> Activation:
    """The activation, with a check of what it returns."""

    def checked(h: jax.Array) -> jax.Array:
        a = activation(h)
        floating = isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)
        if not floating or a.shape != h.shape:
            what = f"{a.dtype} {a.shape}" if isinstance(a, jax.Array) else repr(a)
            raise ValueError(
                f"{function}: the activation must return a real array of its input's shape "
                f"{h.shape}, element by element; {activation!r} returned {what}."
            )
        return a

    return checked


def _after(h: jax.Array, da: jax.Array, *, on_tpu: bool) -> jax.Array:
    """``h``, in a form that is not there before the backward pass is.

    XLA would merge what is computed from h itself with the forward pass and keep that. TPUs
    multiply da by the slope as they compute it, unless something else needs da too; behind a
    barrier, or selected by what one returns, scanned layers would copy g or h first.
    """
    return lax.platform_dependent(
        h,
        da,
        tpu=lambda h, da: _after_product(h, lax.neg(h)) if on_tpu else h,
        default=_after_product,
    )


def _after_product(h: jax.Array, da: jax.Array) -> jax.Array:
    """XLA's CPU compiler drops barriers.

    That a number with its last bit set is not 0 is something XLA does not look into.
    """
    bits = lax.bitcast_convert_type(da, np.dtype(f"u{da.dtype.itemsize}"))
    false = (bits | np.asarray(1, bits.dtype)) == np.asarray(0, bits.dtype)
    return lax.select(false, da, h)


def _product(x: jax.Array, w: jax.Array) -> jax.Array:
    """x @ w, sharded as the rows of x and the columns of w are."""
    # Not jnp.matmul: it is a jit, which would hide the product from what intercepts it.
    dtype = jnp.result_type(x, w)
    return dot_general(x.astype(dtype), w.astype(dtype), (((x.ndim - 1,), (0,)), ((), ())))


def dot_general(x: jax.Array, w: jax.Array, dimension_numbers: Any, **options: Any) -> jax.Array:
    """``lax.dot_general`` of x @ w, sharded as the rows of x and the columns of w are."""
    sharding = options.pop("out_sharding", None) or _out_sharding(x, w)
    if sharding is not None:  # What stands in for JAX's function may not know of it.
        options["out_sharding"] = sharding
    return lax.dot_general(x, w, dimension_numbers, **options)


def _out_sharding(x: jax.Array, w: jax.Array) -> NamedSharding | None:
    if not isinstance(w, jax.Array):  # A quantiser's.
        return None
    sharding, columns = jax.typeof(x).sharding, jax.typeof(w).sharding.spec
    if all(axes is None for axes in (*sharding.spec, *columns)):
        return None
    # Weights may be sharded over the batch's axes too; the rows keep those.
    rows = {name for axes in sharding.spec[:-1] for name in axis_names(axes)}
    last = tuple(name for name in axis_names(columns[-1]) if name not in rows)
    spec = PartitionSpec(*sharding.spec[:-1], last or None)
    return NamedSharding(sharding.mesh, spec)


def _plus_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    bias = lax.expand_dims(bias, range(x.ndim - 1)).astype(x.dtype)
    sharding, columns = jax.typeof(x).sharding, jax.typeof(bias).sharding.spec
    if any(axes is not None for axes in columns) and columns[-1] != sharding.spec[-1]:
        # It may be sharded over the batch's axes, as the weights may.
        rows = [None] * (x.ndim - 1)
        bias = reshard(bias, NamedSharding(sharding.mesh, PartitionSpec(*rows, sharding.spec[-1])))
    return x + bias


def _arrays(function: str, **arrays: ArrayLike) -> list[jax.Array]:
    for name, x in arrays.items():
        if x is None:
            raise TypeError(f"{function}: {name} is None; pass an array.")
    return [real_array(function, x, name) for name, x in arrays.items()]


def _matrix(function: str, name: str, w: jax.Array) -> tuple[int, int]:
    if w.ndim != 2:
        raise ValueError(f"{function}: {name} must be a matrix, got shape {w.shape}.")
    return w.shape[0], w.shape[1]


def _expect(function: str, what: str, shape: Any, expected: Any, to_fit: str) -> None:
    if shape != expected:
        raise ValueError(f"{function}: {what} is {shape}; to fit {to_fit} it must be {expected}.")
