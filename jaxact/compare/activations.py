"""The activations of a comparison: read, checked, told apart, and made into layers.

A parameter that is swept is an operand of the compiled program: networks that differ in its value
train together.
"""

import functools
import inspect
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxact._errors import CompareError
from jaxact.nnx import XIELU, Activation, PReLU
from jaxact.piecewise_linear import prelu, rrelu
from jaxact.recent import xielu
from jaxact.registry import get

_PARAMETER = re.compile(r"\s*(\w+\s*=.*|[-+.\d].*|true|false|inf|nan)\s*", re.IGNORECASE)

#: Inputs, and what a layer sets itself: none of them can be given or swept.
_NO_PARAMETERS = ("x", "gate", "up", "key", "axis", "deterministic")

Values = Mapping[str, Any]


def split_names(text: str) -> tuple[str, ...]:
    """The activations of a comma-separated list, whose parameters may have commas too.

    What looks like a parameter, a number or ``name=value``, belongs to the activation before it.

    >>> split_names("relu, rrelu:lower=0.1,upper=0.3, elu")
    ('relu', 'rrelu:lower=0.1,upper=0.3', 'elu')
    """
    names: list[str] = []
    for item in text.split(","):
        if names and ":" in names[-1] and ":" not in item and _PARAMETER.fullmatch(item):
            names[-1] += "," + item.strip()
        else:
            names.append(item.strip())
    return tuple(names)


#: The parameters that layers learn: of each, the layer, and its argument for the initial value.
_LEARNED: dict[Callable[..., jax.Array], dict[str, tuple[Any, str]]] = {
    prelu: {"alpha": (PReLU, "slope_init")},
    xielu: {p: (XIELU, f"{p}_init") for p in ("alpha_p", "alpha_n")},
}


def check_activation(name: str) -> None:
    """Raise a `CompareError` unless the activation maps one array to another of its shape."""
    activation = _get(name)
    parameters = inspect.signature(activation).parameters.values()
    inputs = [p.name for p in parameters if p.name in ("gate", "up")]
    if inputs:
        raise CompareError(
            f"{name} combines two inputs ({', '.join(inputs)}); only activations of one input can "
            "be compared."
        )
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in ("x", "key")]
    if missing and not is_learned(name):
        function, _ = _parts(name)
        raise CompareError(
            f"{name} needs values for {', '.join(missing)}: write for example "
            f"'{function.__name__}:{','.join(f'{p}=0.1' for p in missing)}'."
        )
    x = jnp.array([[-2.0, -0.5, 0.5, 2.0], [-1.0, -0.1, 0.1, 1.0]])
    try:
        y = make_activation(name, 4, jax.random.key(0))(x, deterministic=False)
    except CompareError:
        raise
    except (TypeError, ValueError) as error:
        raise CompareError(f"activation {name!r}: {error}") from error
    if y.shape != x.shape:
        raise CompareError(
            f"{name} changes the shape, from {x.shape} to {y.shape}; only elementwise activations "
            "can be compared."
        )
    if not jnp.isfinite(y).all():
        raise CompareError(f"{name} is not finite at x = {x.ravel()[~jnp.isfinite(y).ravel()][0]}.")


def identity_of(name: str) -> tuple[Any, ...]:
    """What two spellings of one activation have in common: the function and all its parameters.

    >>> identity_of("leaky_relu") == identity_of("leaky_relu:0.01")
    True
    """
    function, given = _parts(name)
    parameters = {
        p.name: given.get(p.name, p.default)
        for p in inspect.signature(function).parameters.values()
        if p.name not in ("x", "gate", "up", "key")
    }
    for parameter, (layer, argument) in _LEARNED.get(function, {}).items():
        if parameter not in given:
            parameters[parameter] = inspect.signature(layer.__init__).parameters[argument].default
    return function, tuple(sorted(parameters.items(), key=lambda item: item[0]))


def swept_parameters(name: str) -> tuple[str, ...]:
    """The parameters that a sweep can set: numbers which the name leaves open.

    >>> swept_parameters("rrelu:lower=0.1")
    ('upper',)
    """
    function, given = _parts(name)
    return tuple(
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.name not in (*_NO_PARAMETERS, *given) and not isinstance(p.default, bool | str)
    )


def make_activation(
    name: str, features: int, key: jax.Array, values: Values | None = None
) -> nnx.Module:
    """The layer of an activation's name, for inputs with that many features.

    PReLU learns a slope for each feature, starting at ``alpha`` if the name has it; so does XIELU.
    RReLU draws its slopes from the key, unless the name says ``deterministic=true``.

    Args:
      name: the activation's name.
      features: the length of the input's last axis.
      key: what random slopes follow from.
      values: parameters by name, which may be traced.
    """
    function, given = _parts(name)
    if function is prelu and "axis" in given:
        raise CompareError(f"{name!r}: the slopes lie along the features; leave axis out.")
    if not values:
        return Activation(name, features, rngs=nnx.Rngs(rrelu=key))
    if function in _LEARNED:
        inits = {_LEARNED[function].get(n, (None, n))[1]: v for n, v in {**given, **values}.items()}
        layer: Any = PReLU if function is prelu else XIELU
        return Activation(layer(features, **inits))
    return WithValues(_get(name), values, key if function is rrelu else None)


def as_function(name: str, values: Values, key: jax.Array | None) -> Callable[..., jax.Array]:
    """An activation without slopes to learn, as a function of an array.

    Args:
      name: the activation's name.
      values: parameters by name, which may be traced.
      key: what random slopes follow from, other ones in each call; None for their mean.
    """
    function = functools.partial(_get(name), **values)
    if is_random(name):
        if key is None:
            return functools.partial(function, deterministic=True)
        numbers = itertools.count()
        return lambda x: function(x, key=jax.random.fold_in(key, next(numbers)))
    return function


def is_learned(name: str) -> bool:
    """Whether the activation learns its slopes."""
    return _parts(name)[0] in _LEARNED


def is_random(name: str) -> bool:
    """Whether the activation draws its slopes."""
    function, given = _parts(name)
    return function is rrelu and not given.get("deterministic", False)


class WithValues(nnx.Module):
    """A function whose parameters are state, so that networks of one program may differ in them.

    Args:
      function: the activation.
      values: its parameters.
      key: what random slopes follow from; None where there are none.
    """

    def __init__(
        self, function: Callable[..., jax.Array], values: Values, key: jax.Array | None = None
    ):
        self.function = function
        self.values = nnx.Dict({name: nnx.Variable(jnp.asarray(v)) for name, v in values.items()})
        self.rngs = nnx.data(None if key is None else nnx.Rngs(rrelu=key).rrelu.fork())

    def __call__(self, x: jax.Array, *, deterministic: bool = True) -> jax.Array:
        """The activation of an array."""
        values = {name: value[...] for name, value in self.values.items()}
        if self.rngs is not None:
            random = {"deterministic": True} if deterministic else {"key": self.rngs()}
            return self.function(x, **values, **random)
        return self.function(x, **values)


def _get(name: str) -> Callable[..., jax.Array]:
    try:
        return get(name)
    except ValueError as error:
        raise CompareError(str(error).removeprefix("get: ")) from error


def _parts(name: str) -> tuple[Callable[..., jax.Array], dict[str, Any]]:
    """The function of a name, and the parameters that the name gives."""
    activation = _get(name)
    if isinstance(activation, functools.partial):
        return activation.func, dict(activation.keywords)
    return activation, {}


def check_names(names: Sequence[str]) -> None:
    """Raise a `CompareError` unless all can be compared, and no two are the same activation."""
    if not names:
        raise CompareError("no activation is given.")
    if "" in names:
        raise CompareError("the list of activations has an empty name.")
    seen: dict[Any, str] = {}
    for name in names:
        identity = identity_of(name)
        if identity in seen:
            same = seen[identity]
            how = "is given twice" if same == name else f"is {same!r} in another spelling"
            raise CompareError(f"activation {name!r} {how}; leave one out.")
        seen[identity] = name
