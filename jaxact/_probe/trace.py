"""Any callable as a jaxpr: functions, Flax NNX modules, Equinox modules and Haiku's functions."""

import abc
import contextlib
import dataclasses
import functools
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxact._jaxprs.provenance import plain
from jaxact._jaxprs.structure import is_literal
from jaxact._probe.accepted import attribute, check_results, is_later
from jaxact._probe.data import Data, Origin, are_data
from jaxact._probe.flow import Reach, kind_of, kind_of_data, without_constants
from jaxact._probe.roles import Surroundings, surroundings
from jaxact._probe.sites import Level, find, places
from jaxact._report.site import Place


@dataclasses.dataclass
class Traced:
    """A call of a model, traced.

    Attributes:
      level: its jaxpr and the activations in it.
      consts: what the function closes over.
      args: the arrays among the arguments (and the state of NNX modules).
      finish: from the jaxpr's results to what the call returns; NNX modules are updated by it.
      labels: for each of ``args``, where it is in the arguments.
      origins: for each of ``args``, which argument it is in.
      function: the function that was called.
      out: what the call returns, with types in place of arrays.
    """

    level: Level
    consts: Sequence[Any]
    args: Sequence[Any]
    finish: Callable[[Sequence[Any]], Any]
    labels: Sequence[str]
    origins: Sequence[Origin]
    function: Callable[..., Any]
    out: Any

    @functools.cached_property
    def places(self) -> list[Place]:
        """Where the activations are, in order of execution; the units along the last axis."""
        return places(self.level, _path)

    def surroundings(self, data: Data = None) -> list[Surroundings]:
        """What is around each of them, with these arguments as the data."""
        level, labels = without_constants(self.level, self.labels)
        # Where no argument is data, what is closed over is.
        return surroundings(level, labels, self._reaches(data), is_closed_over_data=data == ())

    def _reaches(self, data: Data) -> list[Reach]:
        added = 0
        function = self.function
        while isinstance(function, Wrapped):
            added += function.adds_parameters
            function = function.fn
        given = are_data(self.origins, data, self.function, added)
        return [
            kind_of_data(array.dtype, array.shape) if is_data else kind_of(array.dtype)
            for is_data, array in zip(given, self.args, strict=True)
        ]


class Wrapped(abc.ABC):
    """A callable made of a user's callable, which may hold the state of modules."""

    def __init__(self, fn: Callable[..., Any]):
        self._fn = fn
        if attribute(fn, "__name__"):  # A partial and a module have none.
            with contextlib.suppress(Exception):  # Those of a module may be a user's code.
                functools.update_wrapper(self, fn, updated=())

    @property
    def fn(self) -> Callable[..., Any]:
        """The wrapped callable."""
        return self._fn

    @property
    def init(self) -> Callable[..., Any]:
        """The ``init`` of the wrapped callable, if that is a swap with learned slopes."""
        init: Callable[..., Any] = self._fn.init  # type: ignore[attr-defined]
        return init

    @property
    def adds_parameters(self) -> bool:
        """Whether the first argument is a tree of parameters that the wrapped callable has not."""
        return False

    @abc.abstractmethod
    def with_fn(self, fn: Callable[..., Any]) -> "Wrapped":
        """The same kind of wrapper, of another callable."""

    @abc.abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the wrapped callable, and do what the wrapper is for."""


def trace(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """Trace a call; arguments that are not arrays are left as they are, Python numbers included."""
    modules = _Modules(function, args, kwargs)
    leaves, structure = jax.tree_util.tree_flatten_with_path(modules.bare)
    arrays = [leaf for _, leaf in leaves if _is_array(leaf)]
    outcome: dict[str, Any] = {}

    def flat(*values: Any) -> list[Any]:
        new = iter(values)
        bare = jax.tree.unflatten(
            structure, [next(new) if _is_array(leaf) else leaf for _, leaf in leaves]
        )
        out = modules.call(bare)
        results, outcome["structure"] = jax.tree.flatten(out, is_leaf=is_later)
        check_results(results)
        outcome["results"] = [None if _is_array(r) else r for r in results]
        return [r for r in results if _is_array(r)]

    try:
        closed = jax.make_jaxpr(flat)(*arrays)
    except Exception as error:
        if type(error).__name__ == "TraceContextError":
            error.add_note(
                "jaxact: the function closes over a Flax module that changes in the call. Make it "
                "an argument: jaxact.probe(lambda model, x: model(x))(model, x)."
            )
        raise
    level = find(closed)
    given = dict(zip(closed.jaxpr.invars, arrays, strict=True))
    outputs = closed.jaxpr.outvars

    def finish(values: Sequence[Any]) -> Any:
        # What the call passes through is the same array, so that no module changes by it.
        new = iter(
            value if is_literal(v) else given.get(v, value)
            for v, value in zip(outputs, values, strict=True)
        )
        results = [next(new) if r is None else r for r in outcome["results"]]
        return modules.finish(jax.tree.unflatten(outcome["structure"], results))

    labels = [jax.tree_util.keystr(path) for path, leaf in leaves if _is_array(leaf)]
    origins = [
        origin
        for (_, leaf), origin in zip(leaves, modules.origins(leaves), strict=True)
        if _is_array(leaf)
    ]
    types = iter([v.aval for v in outputs])
    results = [next(types) if r is None else r for r in outcome["results"]]
    out = modules.out_of(jax.tree.unflatten(outcome["structure"], results))
    return Traced(level, closed.consts, arrays, finish, labels, origins, function, out)


def differentiated_by(argument: Any) -> Any:
    """What an argument is differentiated by: the ``Param`` of an NNX module, or all its numbers."""
    if is_module(argument):
        return sys.modules["flax.nnx"].state(argument, sys.modules["flax.nnx"].Param)
    if any(map(is_module, jax.tree.leaves(argument, is_leaf=is_module))):
        raise TypeError(
            "probe_and_grad: an NNX module inside of a tuple, list or dict cannot be "
            "differentiated by: make it an argument itself."
        )
    return jax.tree.map(jnp.asarray, argument)


def is_module(argument: Any) -> bool:
    """Whether an argument is an NNX module."""
    nnx: Any = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(argument, nnx.Module)


def _path(name_stack: str) -> str:
    """The path of an activation: that of the NNX module, or the named scopes."""
    names = plain(name_stack)
    _, marker, rest = names.rpartition(_OPEN)
    if marker:
        module, _, inside = rest.partition(_CLOSE)
        names = "/".join(filter(None, (module.replace(".", "/"), inside.strip("/"))))
    # Linen names a module twice where another one lifts a method of it, as nn.RNN does.
    return re.sub(r"(^|/)([^/.]+)\.\w+/\2(?=/|$)", r"\1\2", names)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


# ------------------------------------------------------------------------------------------------
# Flax NNX: modules hold their state. It becomes an argument and a result, and the modules' calls
# get names, because NNX leaves none in the jaxpr.

_OPEN, _CLOSE = "nnx{", "}"
_PATH = "_jaxact_path"
_naming = threading.RLock()


class _Modules:
    """The NNX modules among a function and its arguments."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any):
        # No module can exist where Flax has not been imported.
        self.nnx: Any = sys.modules.get("flax.nnx")
        self.modules: list[Any] = []
        if self.nnx is not None:
            kinds = (self.nnx.Module, self.nnx.Optimizer, self.nnx.Rngs)
            parts, self.rebuild = _take_apart(self.nnx, function)
            with_paths, self.structure = jax.tree.flatten_with_path(
                (parts, args, kwargs), is_leaf=lambda x: isinstance(x, kinds)
            )
            leaves = [leaf for _, leaf in with_paths]
            self.modules = [leaf for leaf in leaves if isinstance(leaf, kinds)]
        if not self.modules:
            self.function = function
            self.bare: Any = (args, kwargs)
            return
        assert self.nnx is not None
        self.graph, state = self.nnx.split(self.modules)
        self.rest = [None if isinstance(leaf, kinds) else leaf for leaf in leaves]
        # Functions are static; arguments that are arrays are traced.
        self.bare = (state, self.rest)
        self.is_module = [isinstance(leaf, kinds) for leaf in leaves]
        self.arguments = [_argument(path, 1) for path, _ in with_paths]

    def origins(self, leaves: Sequence[tuple[Any, Any]]) -> list[Origin]:
        """Of the leaves of `bare`, each with its path."""
        if not self.modules:
            return [Origin(_argument(path, 0)) for path, _ in leaves]
        of_modules = [
            a for a, is_module in zip(self.arguments, self.is_module, strict=True) if is_module
        ]
        variables = jax.tree.flatten_with_path(
            self.bare[0], is_leaf=lambda x: isinstance(x, self.nnx.Variable)
        )[0]
        found = []
        for path, variable in variables:
            is_param = isinstance(variable, self.nnx.Param)
            argument = of_modules[int(getattr(path[0], "key", getattr(path[0], "idx", 0)))]
            found += [Origin(argument, is_param, True)] * len(jax.tree.leaves(variable))
        return found + [Origin(self.arguments[path[1].idx]) for path, _ in leaves[len(found) :]]

    def call(self, bare: Any) -> Any:
        """Call the function on the arguments, bare of modules."""
        if not self.modules:
            args, kwargs = bare
            with _named_calls(self.nnx, ()):
                return self.function(*args, **kwargs)
        state, rest = bare
        modules = self.nnx.merge(self.graph, state)
        new = iter(modules)
        leaves = [
            next(new) if is_module else leaf
            for is_module, leaf in zip(self.is_module, rest, strict=True)
        ]
        parts, args, kwargs = jax.tree.unflatten(self.structure, leaves)
        function = self.rebuild(parts)
        with _named_calls(self.nnx, modules):
            out = function(*args, **kwargs)
        _, state = self.nnx.split(modules)
        return out, state

    def out_of(self, results: Any) -> Any:
        """What the call returns, out of what is traced."""
        return results[0] if self.modules else results

    def finish(self, results: Any) -> Any:
        """What the call returns; the modules get their new state."""
        if not self.modules:
            return results
        out, new = results
        _, old = self.nnx.split(self.modules)
        before = dict(self.nnx.to_flat_state(old))
        after = dict(self.nnx.to_flat_state(new))
        changed = {
            path: variable
            for path, variable in after.items()
            if path not in before or _value(variable) is not _value(before[path])
        }
        if changed:
            self.nnx.update(self.modules, self.nnx.from_flat_state(changed))
        return out


def _argument(path: Sequence[Any], start: int) -> int | str | None:
    """Which argument a leaf of (args, kwargs) is in, which begin at ``start`` of a tuple."""
    part = path[0].idx - start
    if part < 0:
        return None
    argument: int | str = path[1].idx if part == 0 else path[1].key
    return argument


def _take_apart(nnx: Any, function: Any) -> tuple[Any, Callable[[Any], Callable[..., Any]]]:
    """What a function is made of that may be a module, and how to make it of that again."""
    if isinstance(function, Wrapped):
        parts, rebuild = _take_apart(nnx, function._fn)
        return parts, lambda parts: function.with_fn(rebuild(parts))
    if isinstance(function, functools.partial):
        parts, rebuild = _take_apart(nnx, function.func)
        return (parts, function.args, function.keywords), lambda p: functools.partial(
            rebuild(p[0]), *p[1], **p[2]
        )
    owner = attribute(function, "__self__")
    method = attribute(function, "__func__")
    if isinstance(owner, nnx.Module) and method is not None:
        return owner, lambda owner: functools.partial(_scoped(method), owner)
    if isinstance(function, nnx.Module):
        return function, lambda module: module
    return None, lambda _: function


def _value(variable: Any) -> Any:
    return variable.get_value() if hasattr(variable, "get_value") else variable


@contextlib.contextmanager
def _named_calls(nnx: Any, modules: Sequence[Any]) -> Iterator[None]:
    """Name scopes of the modules' paths around their methods, in the copies that are traced.

    Those that ``nnx.merge`` makes meanwhile get names, too.
    """
    if nnx is None:
        yield
        return
    with _naming:
        names = _Names(nnx)
        merge, here = nnx.merge, threading.get_ident()

        @functools.wraps(merge)
        def naming_merge(*args: Any, **kwargs: Any) -> Any:
            merged = merge(*args, **kwargs)
            if threading.get_ident() == here:  # Others have nothing to do with the trace.
                for root in jax.tree.leaves(merged, is_leaf=lambda m: isinstance(m, nnx.Module)):
                    if isinstance(root, nnx.Module):
                        names.give(root)
            return merged

        nnx.merge = naming_merge
        try:
            for root in modules:
                names.give(root)
            yield
        finally:
            nnx.merge = merge
            names.take_away()


class _Names:
    """The names of modules, and the scopes that their classes' methods have meanwhile."""

    def __init__(self, nnx: Any):
        self._nnx = nnx
        self._named: list[Any] = []
        self._classes: dict[type, list[tuple[str, Any]]] = {}

    def give(self, root: Any) -> None:
        """Name a module, and the modules in it, by their paths."""
        for path, module in self._nnx.iter_modules(root):
            if isinstance(module, Mapping | Sequence):
                continue  # An attribute of nnx.Dict would be one of its items.
            if _PATH not in vars(module):  # What was split in here has a longer path already.
                parts = (type(root).__name__, *map(str, path))
                # An attribute, because nnx.remat and nnx.scan make copies of modules.
                setattr(module, _PATH, ".".join(parts))
                self._named.append(module)
            cls = type(module)
            if cls not in self._classes:
                methods = _methods(self._nnx, cls)
                self._classes[cls] = [(name, vars(cls).get(name)) for name in methods]
                for name in methods:
                    setattr(cls, name, _scoped(getattr(cls, name)))

    def take_away(self) -> None:
        """Leave modules and classes as they were."""
        for module in self._named:
            vars(module).pop(_PATH, None)
        for cls, own in self._classes.items():
            for name, method in own:
                if method is None:
                    delattr(cls, name)
                else:
                    setattr(cls, name, method)


def _methods(nnx: Any, cls: type) -> list[str]:
    """The methods of a module's class that may compute something: not those of every module."""
    names = dict.fromkeys(
        name for base in cls.__mro__ if base not in nnx.Module.__mro__ for name in vars(base)
    )
    return [
        name
        for name in names
        if (name == "__call__" and callable(getattr(cls, name)))
        or (not name.startswith("__") and inspect.isfunction(inspect.getattr_static(cls, name)))
    ]


def _scoped(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def scoped(self: Any, *args: Any, **kwargs: Any) -> Any:
        path = getattr(self, "__dict__", {}).get(_PATH)
        if path is None:
            return call(self, *args, **kwargs)
        with jax.named_scope(f"{_OPEN}{path}{_CLOSE}"):
            return call(self, *args, **kwargs)

    return scoped
