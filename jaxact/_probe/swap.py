"""`jaxact.swap`: a function with other activations."""

import dataclasses
import fnmatch
import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxact._core.elementwise import DECLARED
from jaxact._probe import forms
from jaxact._probe.accepted import check
from jaxact._probe.evaluate import Visitor, evaluate
from jaxact._probe.gradients import ProbedGradient
from jaxact._probe.probe import Probed
from jaxact._probe.sites import Found
from jaxact._probe.trace import Traced, Wrapped, trace
from jaxact._report.site import Place
from jaxact.piecewise_linear import prelu
from jaxact.registry import ACTIVATIONS, get

Selector = str | int | Callable[[Place], bool]


def swap(
    fn: Callable[..., Any], replacements: Mapping[Selector, Any] | Literal["jaxact"]
) -> Callable[..., Any]:
    r"""A function like ``fn`` with other activations, without an edit to it.

    It works on what JAX traces: on functions, Flax NNX modules, Linen's ``model.apply``, Equinox
    and Haiku. Values and gradients are those of the model written with the replacements, and so is
    what the backward pass keeps. The result can be jitted, differentiated, vmapped, probed and
    swapped again; an NNX module is called with its own state, and updates it. Like
    ``jax.make_jaxpr`` it traces at each call: put it inside ``jax.jit``.

    Under a ``vmap`` inside ``fn`` a replacement gets the arrays of all examples, the batch's axis
    where JAX has put it: what looks at an axis (`jaxact.prelu`) is for ``vmap(swap(...))``.

    Args:
      fn: any JAX function or callable model.
      replacements: a dict from which to what. Which: a name of `jaxact.ACTIVATIONS` (``"gelu"``:
        in all its forms), a form as the report shows it (``"gelu(approximate=False)"``,
        ``"leaky_relu(0.2)"``), a pattern of the path (``"*/encoder/*"``; the function's name, or
        its form, may be its last part), an index (the number of the site in `jaxact.probe`'s
        report), or a function of a site that returns True or False. What: a function of the
        pre-activation (of gate and up, for a gated one), a name such as ``"leaky_relu:0.2"``, or a
        layer. Where several match, the last counts.

        A function of jaxact's that is given bare, ``jaxact.gelu`` or ``"gelu"``, takes the form of
        each site that is the same function: an exact GELU stays exact, a slope of 0.2 stays 0.2.
        With parameters, ``"gelu:approximate=True"``, it is what is given. ``"jaxact"`` stands for
        jaxact's function in the site's own form, whatever that is.

        ``swap(fn, "jaxact")`` replaces every activation so. What is jaxact's own already stays as
        it is, and so does what cannot be replaced (because its derivative is there already).

    Returns:
      A function with fn's arguments. If a replacement is learned (`jaxact.prelu` without slopes, or
      ``"prelu"``: one slope for each unit, 0.25 at first; a Linen module; an NNX module with
      parameters), a function with a tree of parameters as its first argument, which
      ``swapped.init(*args)`` makes: an entry for each replaced activation. The steps of a scan
      share it.

    Raises:
      TypeError: a selector or a replacement that is none; ``fn`` is not callable, a generator or
        ``async``, or a Linen module without variables (swap in its ``apply``).
      ValueError: at the call: a selector that matches nothing (the message lists the activations);
        a replacement that changes shape or dtype; an activation whose derivative the function has
        already taken (``jax.grad`` inside ``fn``) or defines itself (``jax.custom_vjp``).

    Examples:
      >>> import jax, jax.numpy as jnp, jaxact
      >>> def model(w, x):
      ...     return jax.nn.relu(x @ w)
      >>> w, x = jnp.array([[1.0], [-2.0]]), jnp.ones((1, 2))
      >>> jaxact.swap(model, {"relu": "leaky_relu:0.1"})(w, x)
      Array([[-0.1]], dtype=float32)
      >>> print(jax.make_jaxpr(jaxact.swap(jax.nn.soft_sign, "jaxact"))(x).eqns[0].params["name"])
      soft_sign
      >>> learned = jaxact.swap(model, {"relu": jaxact.prelu})
      >>> slopes = learned.init(w, x)
      >>> jax.tree.map(jnp.shape, slopes)
      {'(model)/relu:0': {'alpha': (1,)}}
      >>> learned(slopes, w, x)
      Array([[-0.25]], dtype=float32)
    """
    check("swap", fn)
    every = isinstance(replacements, str) and replacements == "jaxact"
    if not every and not (isinstance(replacements, Mapping) and replacements):
        raise TypeError(
            "swap: replacements must be a dict such as {'relu': jaxact.leaky_relu}, or 'jaxact', "
            f"got {replacements!r}."
        )
    if isinstance(fn, Probed | ProbedGradient):  # The report is of what runs.
        return fn.with_fn(swap(fn.fn, replacements))
    rules = (
        [(EVERY, Own())]
        if isinstance(replacements, str)
        else [(_selector(key), _replacement(value)) for key, value in replacements.items()]
    )
    learned = any(isinstance(replacement, Learned) for _, replacement in rules)
    return (SwappedWithParameters if learned else Swapped)(fn, rules)


@dataclasses.dataclass(frozen=True)
class Learned:
    """A replacement with parameters: one set of them for each activation that it replaces.

    Attributes:
      init: ``(key, x)`` to the parameters; x is a ``jax.ShapeDtypeStruct``.
      apply: ``(parameters, x)`` to the activation's result.
    """

    init: Callable[[jax.Array, Any], Any]
    apply: Callable[[Any, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Own:
    """A replacement that is jaxact's function in the form of the site.

    Attributes:
      function: for sites of that function only, and at others the function as it is; None for all.
    """

    function: Callable[..., Any] | None = None

    def at(self, place: Place) -> Callable[..., Any] | None:
        """The replacement of an activation, or None where that is the same already."""
        if self.function not in (None, ACTIVATIONS.get(place.function)):
            return self.function
        if place.own:
            return None
        form = forms.read(place.form)
        assert form is not None
        name, parameters = form
        if forms.has_arrays(place.form):
            return _WithArrays(ACTIVATIONS[name])
        return get(name, **parameters)


@dataclasses.dataclass(frozen=True)
class _WithArrays:
    """One of jaxact's functions, for a site whose parameters are arrays: it gets those of the site.

    Attributes:
      function: the function.
    """

    function: Callable[..., jax.Array]

    def __call__(self, found: Found, *inputs: Any) -> jax.Array:
        parameters = DECLARED[found.function.mark].parameters
        return self.function(inputs[0], **dict(zip(parameters, inputs[1:], strict=True)))


def _every(place: Place) -> bool:
    """The selector of ``swap(fn, "jaxact")``."""
    return True


EVERY: Selector = _every


class Swapped(Wrapped):
    """What `swap` returns."""

    def __init__(self, fn: Callable[..., Any], rules: Sequence[tuple[Selector, Any]]):
        super().__init__(fn)
        self._rules = rules

    def with_fn(self, fn: Callable[..., Any]) -> "Swapped":
        return type(self)(fn, self._rules)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function with its replacements."""
        traced = trace(self._fn, args, kwargs)
        chosen = _choose(self._rules, traced)
        return _run(traced, {i: replacement for i, (_, replacement) in chosen.items()})


class SwappedWithParameters(Swapped):
    """What `swap` returns for replacements with parameters: ``swapped(parameters, *args)``.

    ``swapped.init(*args)`` makes the parameters.
    """

    adds_parameters = True

    def init(self, *args: Any, key: jax.Array | None = None, **kwargs: Any) -> dict[str, Any]:
        """The parameters' initial values: a dict with an entry for each replaced activation.

        Args:
          *args: the arguments of a call of the function; only shapes and dtypes matter.
          key: a PRNG key, for layers with random initial values.
          **kwargs: likewise.
        """
        traced = trace(self._fn, args, kwargs)
        key = jax.random.key(0) if key is None else key
        parameters = {}
        for index, (place, replacement) in _choose(self._rules, traced).items():
            if isinstance(replacement, Learned):
                x = jax.ShapeDtypeStruct(place.shape, place.dtype)
                parameters[_label(place)] = replacement.init(jax.random.fold_in(key, index), x)
        return parameters

    def __call__(self, parameters: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Call the function with these parameters."""
        remedy = "The first argument is the tree that swapped.init(*args) makes."
        if not isinstance(parameters, Mapping):
            raise TypeError(f"swap: {type(parameters).__name__} is no tree of parameters. {remedy}")
        traced = trace(self._fn, args, kwargs)
        functions = {}
        for index, (place, replacement) in _choose(self._rules, traced).items():
            if isinstance(replacement, Learned):
                if _label(place) not in parameters:
                    raise ValueError(
                        f"swap: no parameters for {_label(place)!r} among {list(parameters)}. "
                        f"{remedy}"
                    )
                replacement = functools.partial(replacement.apply, parameters[_label(place)])
            functions[index] = replacement
        return _run(traced, functions)


def _label(place: Place) -> str:
    return f"{place.path}/{place.function}:{place.index}"


def _run(traced: Traced, functions: Mapping[int, Callable[..., jax.Array]]) -> Any:
    replacer = _Replacer(
        {i: _Checked(function, traced.places[i]) for i, function in functions.items()}
    )
    values, _ = evaluate(traced.level, traced.consts, traced.args, replacer)
    return traced.finish(values)


@dataclasses.dataclass(frozen=True)
class _Checked:
    """The replacement of an activation, with checks of what it takes and returns."""

    function: Callable[..., jax.Array]
    place: Place

    def __call__(self, found: Found, *inputs: Any) -> jax.Array:
        arrays = found.function.arrays
        count = _inputs_of(self.function)
        if count not in (arrays, None) and not isinstance(self.function, _WithArrays):
            takes = "gate and up" if arrays == 2 else "the pre-activation alone"
            raise ValueError(
                f"swap: the replacement of {_described(self.place)} must be a function of "
                f"{takes}; this one takes {count} inputs."
            )
        if isinstance(self.function, _WithArrays):
            y = self.function(found, *inputs)
        else:
            y = self.function(*inputs[:arrays])
        aval = found.output.aval
        if not isinstance(y, jax.Array) or y.shape != aval.shape or y.dtype != aval.dtype:
            what = f"{y.dtype}{list(y.shape)}" if isinstance(y, jax.Array) else repr(y)
            raise ValueError(
                f"swap: the replacement of {_described(self.place)} must return "
                f"{aval.dtype}{list(aval.shape)}, as that does; {self.function!r} returned {what}."
            )
        return y


class _Replacer(Visitor):
    """Calls other functions at some activations."""

    def __init__(self, replacements: Mapping[int, _Checked]):
        self._replacements = replacements

    def replacement(self, index: int) -> _Checked | None:
        """The replacement of that activation, if it has one."""
        return self._replacements.get(index)


def _inputs_of(function: Callable[..., Any]) -> int | None:
    """How many positional arguments a function must have, or None where it does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(
        p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
        for p in parameters
    )


# ------------------------------------------------------------------------------------------------
# Which, and by what.


def _selector(selector: Any) -> Selector:
    if isinstance(selector, Integral) and not isinstance(selector, bool):
        return int(selector)
    if not (isinstance(selector, str) or callable(selector)):
        raise TypeError(
            "swap: select activations by name ('relu'), by a pattern of the path ('*/encoder/*'), "
            f"by index (3) or by a function of the site; got {selector!r}."
        )
    return selector


def _matches(selector: Selector, place: Place) -> bool:
    if isinstance(selector, int):
        return selector == place.index
    if isinstance(selector, str):
        if selector in ACTIVATIONS:
            return _same_function(selector, place.function)
        if forms.same(selector, place.form):
            return True
        # A pattern may or may not count on a root and on the function's name.
        ends = (place.path, *(f"{place.path}/{end}" for end in (place.function, place.form)))
        return any(
            fnmatch.fnmatchcase(f"{start}{end}", selector) for start in ("", "/") for end in ends
        )
    return bool(selector(place))


def _same_function(name: str, other: str) -> bool:
    """Whether these are names of one function, as swish and silu are."""
    return ACTIVATIONS[name] is ACTIVATIONS.get(other)


def _choose(rules: Sequence[tuple[Selector, Any]], traced: Traced) -> dict[int, tuple[Place, Any]]:
    """The replaced activations by index. Where several rules match, the last counts."""
    found = traced.places
    if any(callable(selector) for selector, _ in rules):  # They may look at roles.
        around = traced.surroundings()
        found = [
            dataclasses.replace(place, role=s.role) for place, s in zip(found, around, strict=True)
        ]
    chosen: dict[int, tuple[Place, Any]] = {}
    for selector, replacement in rules:
        matching = [place for place in found if _matches(selector, place)]
        if not matching:
            known = "\n".join(f"  {_described(place)}" for place in found) or "  (none)"
            what = "'jaxact'" if selector is EVERY else repr(selector)
            raise ValueError(
                f"swap: {what} matches no activation. The function has these:\n{known}"
            )
        for place in matching:
            if selector is EVERY and place.fixed:
                continue
            here = replacement.at(place) if isinstance(replacement, Own) else replacement
            chosen[place.index] = place, here
    chosen = {i: (place, here) for i, (place, here) in chosen.items() if here is not None}
    for place, _ in chosen.values():
        if place.fixed:
            raise ValueError(
                f"swap: cannot replace {_described(place)}: {place.fixed}, so a part of the old "
                "one would stay. Swap first what is differentiated or wrapped, or leave this one "
                "out."
            )
    return chosen


def _described(place: Place) -> str:
    source = f", {place.source}" if place.source and place.source != place.path else ""
    return f"{place.index}: {place.form} in {place.path}, {place.dtype}{list(place.shape)}{source}"


def _replacement(value: Any) -> Any:
    """A function of the pre-activation, an `Own` or a `Learned` one."""
    if isinstance(value, str) and value == "jaxact":
        return Own()
    # A name with a library or with parameters says which form it means.
    explicit = isinstance(value, str) and ":" in value
    if isinstance(value, str):
        value = get(value)
    learned = _learned_prelu(value) or _learned_layer(value)
    if learned is not None:
        return learned
    if not explicit and any(value is own for own in ACTIVATIONS.values()):
        return Own(value)
    if not callable(value):
        raise TypeError(
            "swap: a replacement must be a function such as jaxact.leaky_relu, a name such as "
            f"'leaky_relu:0.2', or a layer; got {value!r}."
        )
    return value


def _learned_prelu(value: Any) -> Learned | None:
    """`prelu` without slopes: they are learned, one for each unit."""
    partial = isinstance(value, functools.partial) and value.func is prelu and not value.args
    if not (value is prelu or (partial and "alpha" not in value.keywords)):
        return None
    axis = value.keywords.get("axis", -1) if partial else -1

    def init(key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return {"alpha": jnp.full(x.shape[axis] if x.shape else (), 0.25, jnp.float32)}

    return Learned(init, lambda p, x: prelu(x, p["alpha"], axis=axis))


def _learned_layer(value: Any) -> Learned | None:
    """A Flax layer."""
    linen, nnx = sys.modules.get("flax.linen"), sys.modules.get("flax.nnx")
    if linen is not None and isinstance(value, linen.Module):
        return Learned(
            lambda key, x: value.init(key, jnp.zeros(x.shape, x.dtype)),
            lambda parameters, x: value.apply(parameters, x),
        )
    if nnx is not None and isinstance(value, nnx.Module):
        graph, state = nnx.split(value)
        if jax.tree.leaves(state):
            return Learned(
                lambda key, x: jax.tree.map(jnp.copy, state),
                lambda parameters, x: nnx.merge(graph, parameters, copy=True)(x),
            )
    return None
