"""A user's own Flax model, unedited: its activations are replaced by `jaxact.swap`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from jaxact._errors import CompareError, RequestError
from jaxact._probe.probe import Probed
from jaxact._probe.swap import swap
from jaxact._user_code import find, first_line
from jaxact.compare.activations import Values, as_function, is_learned
from jaxact.compare.model import SLOPES, WEIGHTS, Network, key
from jaxact.registry import ACTIVATIONS

#: The names by which a model's constructor asks for what the data decide.
INPUTS = (
    *("features", "in_features", "n_features", "num_features", "inputs", "din", "d_in"),
    *("in_dim", "input_dim", "input_size", "in_channels", "channels"),
)
OUTPUTS = (
    *("classes", "num_classes", "n_classes", "outputs", "out_features", "num_outputs", "dout"),
    *("d_out", "out_dim", "output_dim", "output_size"),
)
#: The names by which a call is told whether it trains, and what they are then.
MODES = {
    **dict.fromkeys(("train", "training", "is_training"), True),
    **dict.fromkeys(("deterministic", "use_running_average"), False),
}


class OwnModel:
    """A model of the user's, as `jaxact.compare.model.Model`.

    Args:
      name: ``module:factory``: a class or a function that makes an NNX or a Linen model, or a Linen
        model itself. It is called with those of ``rngs``, the number of features and the number of
        outputs that it asks for (`INPUTS`, `OUTPUTS`).
      replace: which activations are replaced, as for `jaxact.swap`; None for the only kind.
      activation: the name of the one that replaces them.
      inputs: the shape of a sample.
      outputs: how many outputs there must be.

    Raises:
      CompareError: the model cannot be made or called, or has other outputs, or has no activation
        that is meant.
    """

    def __init__(
        self,
        name: str,
        replace: str | None,
        activation: str,
        inputs: tuple[int, ...],
        outputs: int,
    ):
        self.name, self.activation, self.outputs = name, activation, outputs
        self._example = jax.ShapeDtypeStruct((2, *inputs), jnp.float32)
        try:
            self._factory = find(name)
        except RequestError as error:
            raise CompareError(f"--model {name}: {error}") from error
        made = self._try(self._make, nnx.Rngs(0))
        if not isinstance(made, linen.Module | nnx.Module):
            raise CompareError(
                f"--model {name} makes a {type(made).__name__}; it must make a Flax model, NNX or "
                "Linen."
            )
        self._model: Any = _Linen(made) if isinstance(made, linen.Module) else _Nnx(self._make)
        network = self._try(jax.eval_shape, self._variables, jnp.uint32(0))
        out, report = self._try(
            jax.eval_shape,
            lambda network, x: Probed(functools.partial(self._plain, network)).quietly(x),
            network,
            self._example,
        )
        if out.shape != (2, outputs) and (out.shape, outputs) != ((2,), 1):
            raise CompareError(
                f"--model {name}: for 2 samples of shape {inputs} it returns the shape "
                f"{out.shape}; it must be (2, {outputs}), an output for each class (or one for a "
                "number)."
            )
        self.selector = _selector(name, replace, report)
        # With the replacement, so that a selector that fits nothing is told before any training.
        built = self._try(jax.eval_shape, self.init, jnp.uint32(0), {})
        apply = functools.partial(self.apply, train=True)
        self._try(jax.eval_shape, apply, built, self._example)

    def init(self, seed: jax.Array, values: Values) -> Network:
        """As `Model.init`."""
        parameters, rest = self._variables(seed)
        learned = {}
        if is_learned(self.activation):
            swapped: Any = swap(
                functools.partial(self._plain, Network(parameters, rest)),
                {self.selector: self.activation},
            )
            learned = swapped.init(jnp.zeros(self._example.shape))
            if "alpha" in values:
                learned = jax.tree.map(lambda a: jnp.full_like(a, values["alpha"]), learned)
            values = {}
        held = {name: jnp.asarray(value) for name, value in values.items()}
        random = {"key": jax.random.key_data(key(seed, SLOPES))}
        return Network(
            {"model": parameters, "slopes": learned}, {"model": rest, "values": held, **random}
        )

    def apply(self, network: Network, x: jax.Array, *, train: bool) -> tuple[jax.Array, Any]:
        """As `Model.apply`."""
        parameters, rest = network
        now, after = jax.random.split(jax.random.wrap_key_data(rest["key"]))

        def call(x: jax.Array) -> tuple[jax.Array, Any]:
            return self._model.call(parameters["model"], rest["model"], now, x, train)

        if is_learned(self.activation):
            swapped = swap(call, {self.selector: self.activation})
            outputs, model = swapped(parameters["slopes"], x)
        else:
            function = as_function(self.activation, rest["values"], now if train else None)
            swapped = swap(call, {self.selector: function})
            outputs, model = swapped(x)
        random = {"key": jax.random.key_data(after)} if train else {"key": rest["key"]}
        return outputs.reshape(len(x), -1), {**rest, "model": model, **random}

    def learned_slopes(self, network: Network) -> list[jax.Array]:
        """As `Model.learned_slopes`."""
        return [leaf.mean() for leaf in jax.tree.leaves(network.parameters["slopes"])]

    def _make(self, rngs: nnx.Rngs) -> Any:
        if isinstance(self._factory, linen.Module):
            return self._factory
        if not callable(self._factory) or isinstance(self._factory, nnx.Module):
            raise CompareError(
                f"--model {self.name} is a {type(self._factory).__name__}: name a class or a "
                "function that makes the model, so that each seed has its own weights."
            )
        width = self._example.shape[-1]
        offered = {"rngs": rngs} | dict.fromkeys(INPUTS, width)
        offered |= dict.fromkeys(OUTPUTS, self.outputs)
        # Of an NNX class, the signature is that of its metaclass.
        is_class = isinstance(self._factory, type)
        function = self._factory.__init__ if is_class else self._factory
        parameters = [*inspect.signature(function).parameters.values()][int(is_class) :]
        required = [
            p.name
            for p in parameters
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if unknown := [p for p in required if p not in offered]:
            raise CompareError(
                f"--model {self.name} needs {', '.join(unknown)}: only rngs, the number of features"
                f" ({', '.join(INPUTS[:3])}, …) and of outputs ({', '.join(OUTPUTS[:3])}, …) can be"
                " given; name a function without further parameters that makes the model."
            )
        asked = [p.name for p in parameters if p.name in offered]
        return self._factory(**{p: offered[p] for p in asked})

    def _variables(self, seed: jax.Array) -> tuple[Any, Any]:
        return self._model.variables(key(seed, WEIGHTS), self._example)

    def _plain(self, network: Network, x: jax.Array) -> jax.Array:
        """The model's outputs with its own activations."""
        return self._model.call(*network, jax.random.key(0), x, False)[0]

    def _try(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except RequestError:
            raise
        except Exception as error:  # of the user's code
            raise CompareError(f"--model {self.name}: {first_line(error)}") from error


class _Nnx:
    """How an NNX model is made and called."""

    def __init__(self, make: Callable[[nnx.Rngs], Any]):
        self._make = make
        self._graph: Any = None

    def variables(self, key: jax.Array, example: Any) -> tuple[Any, Any]:
        self._graph, parameters, rest = nnx.split(self._make(nnx.Rngs(key)), nnx.Param, ...)
        return parameters, rest

    def call(
        self, parameters: Any, rest: Any, key: jax.Array, x: jax.Array, train: bool
    ) -> tuple[jax.Array, Any]:
        model = nnx.merge(self._graph, parameters, rest, copy=True)
        (model.train if train else model.eval)()
        outputs = model(x, **_modes(type(model).__call__, train))
        return outputs, nnx.state(model, nnx.Param, ...)[1]


class _Linen:
    """How a Linen model is made and called."""

    def __init__(self, model: linen.Module):
        self._model: Any = model

    def variables(self, key: jax.Array, example: Any) -> tuple[Any, Any]:
        x = jnp.zeros(example.shape, example.dtype)
        rngs = {"params": key, "dropout": jax.random.fold_in(key, 1)}
        modes = _modes(type(self._model).__call__, False)
        rest = dict(self._model.init(rngs, x, **modes))
        return rest.pop("params"), rest

    def call(
        self, parameters: Any, rest: Any, key: jax.Array, x: jax.Array, train: bool
    ) -> tuple[jax.Array, Any]:
        modes = _modes(type(self._model).__call__, train)
        variables = {"params": parameters, **rest}
        if not train:
            return self._model.apply(variables, x, **modes), rest
        outputs, after = self._model.apply(
            variables, x, **modes, mutable=list(rest), rngs={"dropout": key}
        )
        return outputs, dict(after)


def _modes(call: Callable[..., Any], train: bool) -> dict[str, bool]:
    """What tells a call whether it trains, by the names that it has."""
    names = inspect.signature(call).parameters
    return {name: on == train for name, on in MODES.items() if name in names}


def _selector(name: str, replace: str | None, report: Any) -> str:
    kinds = list(dict.fromkeys(site.function for site in report.sites))
    if not kinds:
        raise CompareError(
            f"--model {name} has no activation that jaxact knows: neither its own, nor one of "
            "jax.nn, nor one written as jnp.maximum(x, 0)."
        )
    if replace is not None:
        return replace
    if len(kinds) > 1:
        raise CompareError(
            f"--model {name} has several activations, {', '.join(kinds)}: say which are replaced, "
            f"for example --replace {kinds[0]}."
        )
    return kinds[0]


def activations_of(
    name: str, replace: str | None, inputs: tuple[int, ...], outputs: int
) -> tuple[str, ...]:
    """The activation that a model has now, where one is meant by ``replace``; else nothing."""
    found = OwnModel(name, replace, "relu", inputs, outputs).selector
    return (found,) if found in ACTIVATIONS else ()
