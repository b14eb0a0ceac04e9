"""How an activation is declared, and how its derivatives follow from the declaration.

An activation is a function ``value(x, *parameters)`` applied element by element. Its Jacobian is
diagonal, so one formula per input, ``partial(t, x, *parameters) = t * df/dinput``, serves both
directions: with a tangent as ``t`` it is the forward-mode rule, with a cotangent the pullback.
From these two declarations follow, for the modes of the autodiff context,

- ``"reverse"``: a ``jax.custom_vjp`` whose residual the context chooses;
- ``"both"``: a ``jax.custom_jvp``. Its tangent is a function of what the pullback above keeps,
  under ``jax.checkpoint``: transposed, it is that pullback, and keeps nothing else;
- second and higher derivatives: the rules are plain jnp and differentiated as such. The forward
  rule of the custom_vjp calls a custom_jvp function, so that a derivative of a gradient uses the
  declared slope again and not the derivative of the value's formula.

For the mode ``"plain"`` there is a formula of the value that JAX differentiates (`plain`).

Formulas see float32 for 16-bit and smaller inputs (float64 for float64) and every result is rounded
once. Those that approximate get the size of the result's dtype first, whose accuracy they need.
Parameters broadcast against ``x``; their gradients are summed in the compute dtype.

A smooth function declares its slope (`_core.smooth`). A piecewise linear one declares partials that
*select* ``t`` or a multiple of it, because 0 * inf is NaN (`_core.arithmetic.pieces` helps).
"""

import copy
import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from jaxact._core import context
from jaxact._core.encodings import Code, Quantized, TwoSlopes
from jaxact._core.inputs import Constant, parameter, real_array, weakly_typed
from jaxact._core.packing import packs_locally
from jaxact._core.platforms import kept, recomputed, rounded

Formula = Callable[..., jax.Array]
Operand = jax.Array | Constant

#: The declared activations by their marks: the ``jax.named_scope`` around each of their calls, by
#: which `jaxact.probe` and `jaxact.swap` know them in a jaxpr.
DECLARED: dict[str, "Elementwise"] = {}
_MARK = re.compile(r"jaxact\[(\w+)\]")
#: Marks, and what `jaxact.feedforward` notes of a block.
_NOT_THE_USERS = re.compile(r"jaxact\[\w+\]|keeps_input_and_\d/?")


def marked(name_stack: str) -> "Elementwise | None":
    """The activation whose call an equation with that name stack is."""
    found = _MARK.search(name_stack)
    return DECLARED.get(found[1]) if found else None


def without_marks(name_stack: str) -> str:
    """The name stack as the user's program has it."""
    return _NOT_THE_USERS.sub("", name_stack)


Kind = Literal["rectifier", "clip", "shrink", "saturating", "smooth", "open"]


@dataclasses.dataclass(eq=False)
class Elementwise:
    """An activation: its value, its partial derivatives, and whether its output will do.

    To add one, say ``gauss``, edit four files (CONTRIBUTING.md shows the lines):

    1. ``smooth.py``, ``piecewise_linear.py`` or ``gated.py``: the name in ``__all__``, the
       declaration (``_gauss = smooth("gauss", value, slope, plain=..., kind="saturating")``), and
       the public function ``gauss(x)``, which calls it and has the documentation and an example.
    2. ``tests/support/table.py``: a row with the value and the slope, written in float64.
    3. ``website/gallery.py``: its name in a group.
    4. ``CHANGELOG.md``: a line with its name.

    `jaxact.ACTIVATIONS`, ``jaxact.gauss``, its gain, what the probe advises, the layers and the
    benchmarks follow; ``pytest tests/test_completeness.py`` lists what is missing.

    Attributes:
      name: the public function's name: it appears in jaxprs and in error messages.
      value: ``(*inputs) -> y``.
      partials: for each input ``(t, *inputs) -> t * df/dinput``, or None for one that has no
        derivative (a PRNG key).
      kind: where the slope vanishes, by which `jaxact.probe` advises: exactly 0 below a point
        ("rectifier"), on both sides ("clip") or in the middle ("shrink"); small by design
        ("saturating"); small on one side, where a unit should not stay ("smooth"); at most at a
        point ("open").
      plain: ``(*inputs) -> y`` in standard operations, such that their derivative is right.
      from_output: ``(t, y, *parameters) -> t * df/dx``, when the output alone determines the slope
        exactly; all parameters must then be constants.
      close_from_output: ``from_output`` of an output that may have under- or overflown, and then
        tells nothing: for ``residual="output"`` alone, and dtypes of a range like float32's.
      output_determines: a further condition on the parameters for ``from_output``.
      two_slopes: for a function whose slope takes two values, which of them holds where, and the
        partial derivative by that alone: the fields of `TwoSlopes`.
      cells: the name of a smooth function's entry in `CELLS`.
      if_positive: the fields that differ, and cost less, where all parameters are numbers, positive
        and finite.
      parameters: the names of the parameters, each with the limits that `parameter` checks.
      arrays: the names of the inputs before the parameters.
      sized: whether all formulas take the bytes of the result's dtype as their first argument.
      mark: the declaration's key in `DECLARED`, where several declarations share a name.
      binary: whether the derivative by x is 0 or 1 everywhere.
      gate: of a gated function, the activation of the gate.
      jitted: the function of checked inputs, under ``jax.jit``.
    """

    name: str
    value: Formula
    partials: Sequence[Formula | None]
    _: dataclasses.KW_ONLY
    kind: Kind
    plain: Formula
    from_output: Formula | None = None
    close_from_output: Formula | None = None
    output_determines: Callable[..., bool] = lambda *parameters: True
    two_slopes: tuple[Formula, Formula] | None = None
    cells: str = ""
    if_positive: Mapping[str, Any] | None = None
    parameters: Mapping[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    arrays: Sequence[str] = ("x",)
    sized: bool = False
    mark: str = ""
    binary: bool = False
    gate: "Elementwise | None" = None
    jitted: Callable[..., jax.Array] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.partials = tuple(self.partials)
        self.mark = self.mark or self.name
        assert self.mark not in DECLARED, f"two declarations are marked {self.mark}"
        DECLARED[self.mark] = self
        self.jitted = named_jit(self.name, self.apply)
        if self.if_positive:
            self._with_positive = copy.copy(self)
            vars(self._with_positive).update(self.if_positive, if_positive=None)

    def __call__(self, *inputs: ArrayLike) -> jax.Array:
        """Check the inputs and run the jitted function."""
        count = len(self.arrays)
        arrays = [
            real_array(self.name, x, name)
            for x, name in zip(inputs[:count], self.arrays, strict=True)
        ]
        return self.jitted(*arrays, *self.check_parameters(*inputs[count:]))

    def check_parameters(self, *values: ArrayLike) -> list[Operand]:
        """The parameters of a call, numbers as `Constant`."""
        return [
            parameter(self.name, name, value, **limits)
            for value, (name, limits) in zip(values, self.parameters.items(), strict=True)
        ]

    def apply(self, *inputs: Operand) -> jax.Array:
        """The differentiable function, to be called under a trace, on checked inputs."""
        if self.if_positive and all(
            isinstance(p, Constant) and p.positive for p in inputs[len(self.arrays) :]
        ):
            return self._with_positive.apply(*inputs)
        config = context.current()
        size = jnp.result_type(inputs[0]).itemsize
        partials = tuple(
            None if isinstance(p, Constant) else partial
            for p, partial in zip(inputs, self.partials, strict=True)
        )
        match config:
            case context.AutodiffConfig(mode="plain"):
                function = self._plain
            case context.AutodiffConfig(mode="both", residual=None):
                function = self._both(partials, size)
            case context.AutodiffConfig(mode="both"):
                function = self._both(partials, size, self._kept(config, partials, inputs))
            case _:
                function = self._reverse(partials, size, self._kept(config, partials, inputs))
        dtype = compute_dtype(jnp.result_type(inputs[0]))

        def operand(p: Operand) -> Any:
            if not isinstance(p, Constant):
                return p
            # Interpreters of jaxprs expect arrays, not numbers, in the call of a custom rule.
            return lax.convert_element_type(p.value, dtype) if config.mode == "both" else p.value

        with jax.named_scope(f"jaxact[{self.mark}]"):
            y = function(*map(operand, inputs))
        weak = isinstance(inputs[0], jax.Array) and inputs[0].weak_type
        return weakly_typed(y) if weak and not y.weak_type else y

    def _kept(
        self, config: context.AutodiffConfig, partials: Sequence[Formula | None], inputs: Any
    ) -> str | Code:
        """What the backward pass keeps of x: the input, the output, or a code of the input."""
        if any(partials[1:]):  # A parameter's derivative needs the input.
            return "input"
        x, *parameters = inputs
        quantized = config.residual == "quantized"
        if quantized and self.cells and packs_locally(x):
            return Quantized(self.cells, config.bits)
        if config.residual == "mask" and self.two_slopes and packs_locally(x):
            return TwoSlopes(*self.two_slopes)
        if (
            self.close_from_output is not None
            and config.residual == "output"
            and jnp.finfo(jnp.result_type(x)).nexp >= jnp.finfo(jnp.bfloat16).nexp
        ):
            return "output"
        if (
            self.from_output is not None
            and (config.residual in ("auto", "output") or quantized)
            # Some 8-bit floats have no -0.0, by which an output tells its piece.
            and jnp.result_type(x).itemsize > 1
            and self.output_determines(*(p for p in parameters if isinstance(p, Constant)))
        ):
            return "output"
        return "input"

    def differentiable(self, size: int, *inputs: jax.Array) -> jax.Array:
        """The function for use in the formula of another: differentiable in both modes.

        The inputs are in the compute dtype; the accuracy is that for results of ``size`` bytes.
        """
        return self._both(self.partials, size)(*inputs)

    @property
    def has_parameters(self) -> bool:
        """Whether it takes more than arrays."""
        return bool(self.parameters)

    def slope(self, *inputs: jax.Array) -> jax.Array:
        """df/dx at the inputs, to 16 bits; of a gated function, the slope of its gate.

        It is 0 where the derivative in the compute dtype is 0.
        """
        if self.gate is not None:
            first = len(self.arrays)
            return self.gate.slope(inputs[0], *inputs[first : first + len(self.gate.parameters)])
        partial = self.partials[0]
        assert partial is not None
        x, *parameters = _computable(inputs)
        return self.formula(partial, 8 if x.dtype.itemsize > 4 else 2)(
            jnp.ones_like(x), x, *parameters
        )

    def formula(self, formula: Formula, size: int) -> Formula:
        """The formula, at the accuracy for results of ``size`` bytes."""
        return functools.partial(formula, size) if self.sized else formula

    def _plain(self, *inputs: Any) -> jax.Array:
        return _cast(self.plain(*_computable(inputs)), jnp.result_type(inputs[0]))

    def _evaluation(
        self, size: int, rounded: Callable[[jax.Array, jnp.dtype], jax.Array] = rounded
    ) -> Callable[..., jax.Array]:
        formula = self.formula(self.value, size)

        def function(*inputs: Any) -> jax.Array:
            return rounded(formula(*_computable(inputs)), jnp.result_type(inputs[0]))

        # What JAX traces twice, for the value and for the gradient's forward pass, is kept.
        return named_jit(self.name, function, inline=True)

    def _residuals(
        self, keep: str | Code, y: jax.Array, inputs: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """What is kept of the inputs and the output, in place of the inputs."""
        if isinstance(keep, Code):
            return keep.encode(*_computable(inputs)), *inputs[1:]
        return (y, *inputs[1:]) if keep == "output" else inputs

    def _apart(self, residuals: tuple[Any, ...]) -> tuple[Any, ...]:
        """What a backward pass reads, apart from the forward pass.

        XLA would merge what is recomputed there with the forward pass, and keep it: a smooth
        function's exponential, rrelu's slopes.
        """
        count = len(self.arrays)
        return tuple(
            kept(r) if i < count or not _is_real(r) else r for i, r in enumerate(residuals)
        )

    def _rules(
        self, partials: tuple[Formula | None, ...], size: int, keep: str | Code
    ) -> list[Formula | None]:
        """For each input ``(t, *residuals)`` -> t * df/dinput, in the compute dtype."""
        of_output = self.from_output or self.close_from_output
        used = (of_output, *partials[1:]) if keep == "output" else partials
        formulas = [p and self.formula(p, size) for p in used]

        def decoded(t: jax.Array, packed: Any, *parameters: Any) -> jax.Array:
            assert isinstance(keep, Code) and formulas[0] is not None
            return keep.decode(formulas[0], packed, *_computable((t, *parameters)))

        def of(formula: Formula) -> Formula:
            def rule(t: jax.Array, *residuals: Any) -> jax.Array:
                inputs = _computable(residuals)
                return formula(_cast(t, inputs[0].dtype), *inputs)

            return rule

        if isinstance(keep, Code):
            return [decoded, *[None] * (len(partials) - 1)]
        return [formula and of(formula) for formula in formulas]

    @functools.cache  # noqa: B019 - declarations live as long as the module
    def _both(
        self, partials: tuple[Formula | None, ...], size: int, keep: str | Code | None = None
    ) -> Callable[..., jax.Array]:
        """Without ``keep``, what a pullback keeps is left to JAX."""
        rules = self._rules(partials, size, keep or "input")
        # Not by integer operations, which JAX before 0.12 would differentiate in a scan.
        function = jax.custom_jvp(self._evaluation(size, _cast))

        def jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
            y = function(*primals)
            given = {
                i: t
                for i, t in enumerate(tangents)
                if rules[i] is not None and type(t) is not SymbolicZero
            }
            if not given:
                return y, jnp.zeros_like(y)

            def tangent(residuals: tuple[Any, ...], given: Mapping[int, jax.Array]) -> jax.Array:
                if keep is not None:
                    residuals = self._apart(residuals)
                terms = [self._term(rules[i], t, y.shape, residuals) for i, t in given.items()]
                return _cast(sum(terms[1:], start=terms[0]), y.dtype)

            if keep is None:
                return y, tangent(primals, given)
            return y, recomputed(tangent)(self._residuals(keep, y, primals), given)

        function.defjvp(jvp, symbolic_zeros=True)
        return function

    def _term(self, rule: Formula | None, t: jax.Array, shape: Any, residuals: Any) -> jax.Array:
        """t * df/dinput, linear in t also where that is NaN."""
        assert rule is not None
        t = jnp.broadcast_to(t, shape)
        result = rule(t, *residuals)
        x = residuals[0]
        if (self.gate or self).sized or not isinstance(x, jax.Array):
            return result
        # Transposed, the selection of a piece is 0 at NaN. What is not selected must be finite.
        x = jnp.broadcast_to(_cast(x, result.dtype), shape)
        is_nan = lax.ne(x, x)
        nan = lax.select(is_nan, x, lax.full_like(x, 1))
        return lax.select(is_nan, lax.mul(_cast(t, result.dtype), nan), result)

    @functools.cache  # noqa: B019
    def _reverse(
        self, partials: tuple[Formula | None, ...], size: int, keep: str | Code
    ) -> Callable[..., jax.Array]:
        differentiable = self._both(partials, size)
        rules = self._rules(partials, size, keep)
        function = jax.custom_vjp(self._evaluation(size))

        def fwd(*inputs: Any) -> tuple[jax.Array, tuple[Any, ...]]:
            y = differentiable(*inputs)
            return y, self._residuals(keep, y, inputs)

        def bwd(residuals: tuple[Any, ...], g: jax.Array) -> tuple[jax.Array | None, ...]:
            inputs = self._apart(residuals)
            if isinstance(keep, Code):
                assert rules[0] is not None
                return rounded(rules[0](g, *inputs), g.dtype), *(None for _ in inputs[1:])
            return tuple(
                None if rule is None else _sum_to(rule(g, *inputs), like)
                for rule, like in zip(rules, residuals, strict=True)
            )

        function.defvjp(fwd, bwd)
        return function


def named_jit(name: str, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """``jax.jit`` of a function that shows as ``jit[name=...]`` in a jaxpr."""
    jitted = jax.jit(_named(name)(function), **options)

    @functools.wraps(jitted)
    def call(*args: Any) -> Any:
        context.current()  # Checked also where what was traced serves.
        try:
            return jitted(*args)
        except (TypeError, NotImplementedError) as error:
            # JAX's errors for forward mode. Under a jit of the user's they are not raised here.
            is_of_forward_mode = "custom_vjp" in str(error) or "custom_lin" in str(error)
            if is_of_forward_mode and _FORWARD_MODE not in getattr(error, "__notes__", ()):
                error.add_note(_FORWARD_MODE)
            raise

    return call


_FORWARD_MODE = """\
jaxact's functions have both derivatives under `with jaxact.autodiff(mode="both"):`, or for a whole
program after `jaxact.set_autodiff(mode="both")`; memory and gradients stay as they are."""


def _named(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def rename(function: Callable[..., Any]) -> Callable[..., Any]:
        def renamed(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        renamed.__name__ = renamed.__qualname__ = name
        return renamed

    return rename


def compute_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype in which formulas for inputs of ``dtype`` are evaluated."""
    return jnp.dtype(jnp.float32) if dtype.itemsize < 4 else dtype


def _cast(x: Any, dtype: jnp.dtype) -> jax.Array:
    """``x`` in ``dtype``; as it is (its weak type included) where it has that dtype already."""
    # Of weak types, result_type tells what they would become, and not what they are.
    has = x.dtype if isinstance(x, jax.Array) else jnp.result_type(x)
    return x if has == dtype else lax.convert_element_type(x, dtype)


def _is_real(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)


def _computable(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The inputs in the compute dtype of the first, of one shape (scalars and keys unchanged).

    What has to be broadcast takes the sharding of an input that has the shape already.
    """
    # NumPy's shape and ndim, and no jax.numpy: exporters put operations of their own in its place,
    # which stay behind in JAX's caches.
    dtype = compute_dtype(jnp.result_type(inputs[0]))
    shape = jnp.broadcast_shapes(*(np.shape(p) for p in inputs if _is_real(p)))
    full = next((p for p in inputs if _is_real(p) and np.shape(p) == shape), None)

    def convert(p: Any) -> jax.Array:
        p = _cast(p, dtype)
        if np.ndim(p) == 0 or np.shape(p) == shape:
            return p
        p = lax.broadcast_in_dim(p, shape, range(len(shape) - p.ndim, len(shape)))
        return p if full is None else _reshard(p, full)

    return tuple(convert(p) if _is_real(p) else p for p in inputs)


def _reshard(x: jax.Array, like: jax.Array) -> jax.Array:
    """``x`` sharded as ``like``, where shardings are part of the types (Explicit meshes)."""
    sharding = jax.typeof(like).sharding
    return x if jax.typeof(x).sharding.spec == sharding.spec else jax.sharding.reshard(x, sharding)


def _sum_to(cotangent: jax.Array, like: jax.Array) -> jax.Array:
    """The cotangent of ``like``, which was cast to the cotangent's dtype and broadcast."""
    leading = cotangent.ndim - like.ndim
    summed = [
        i
        for i, size in enumerate(cotangent.shape)
        if i < leading or (like.shape[i - leading] == 1 and size != 1)
    ]
    if summed:
        cotangent = cotangent.sum(summed).reshape(like.shape)
        cotangent = _reshard(cotangent, like)
    # Inside shard_map, an input that is the same on all shards has one gradient: their sum.
    replicated = tuple(_varying(cotangent) - _varying(like))
    if replicated:
        cotangent = lax.psum(cotangent, replicated)
    return rounded(cotangent, like.dtype)


def _varying(x: jax.Array) -> frozenset[str]:
    """The manual mesh axes along which the value differs."""
    return varying_axes(jax.typeof(x))


def varying_axes(aval: Any) -> frozenset[str]:
    """The manual mesh axes along which a value of that type differs."""
    return aval.mat.varying if hasattr(aval, "mat") else aval.vma
