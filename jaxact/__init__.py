"""Activation functions for JAX: right at every input, cheap to differentiate.

The functions have the names and arguments of ``jax.nn``, so ``import jaxact as nn`` is a drop-in
for its activations. Every name loads on its first use, and JAX with the first of them.
"""

TYPE_CHECKING = False  # Type checkers and editors take it for True, as that of ``typing``.
if TYPE_CHECKING:
    from jaxact import (
        compare as compare,
        feedforward as feedforward,
        gated as gated,
        initializers as initializers,
        linen as linen,
        memory as memory,
        nnx as nnx,
        optim as optim,
        piecewise_linear as piecewise_linear,
        plasticity as plasticity,
        recent as recent,
        registry as registry,
        smooth as smooth,
    )
    from jaxact._core.context import autodiff as autodiff, set_autodiff as set_autodiff
    from jaxact._probe.probe import probe as probe
    from jaxact._probe.revive import revive as revive
    from jaxact._probe.swap import swap as swap
    from jaxact._report.report import Report as Report
    from jaxact._report.site import Site as Site
    from jaxact.feedforward import gated_mlp as gated_mlp, mlp as mlp
    from jaxact.gated import *  # noqa: F403
    from jaxact.piecewise_linear import *  # noqa: F403
    from jaxact.recent import *  # noqa: F403
    from jaxact.registry import ACTIVATIONS as ACTIVATIONS, get as get
    from jaxact.smooth import *  # noqa: F403

    __version__: str

# The same names for Python: which module defines them. The activations are those of the registry.
_HOMES = {
    "autodiff": "_core.context",
    "set_autodiff": "_core.context",
    "probe": "_probe.probe",
    "revive": "_probe.revive",
    "swap": "_probe.swap",
    "Report": "_report.report",
    "Site": "_report.site",
    "gated_mlp": "feedforward",
    "mlp": "feedforward",
    "ACTIVATIONS": "registry",
    "get": "registry",
}
_MODULES = {"compare", "initializers", "linen", "memory", "nnx", "optim", "plasticity"}
_MODULES |= {"feedforward", "gated", "piecewise_linear", "recent", "registry", "smooth"}

if not TYPE_CHECKING:  # A type checker would believe that every name is there.

    def __getattr__(name):
        if name == "__version__":
            from importlib.metadata import version

            value = version("jaxact")
        elif name == "__all__":
            # What needs no more than JAX: the layers would bring Flax to ``import *``.
            value = [*_HOMES, *_module("registry").ACTIVATIONS, "memory"]
        elif name in _MODULES:
            value = _module(name)
        elif name in _HOMES:
            value = getattr(_module(_HOMES[name]), name)
        # Python asks a module for names in double underscores: no reason to load JAX.
        elif not name.startswith("__") and name in _module("registry").ACTIVATIONS:
            value = _module("registry").ACTIVATIONS[name]
        else:
            raise AttributeError(f"module 'jaxact' has no attribute {name!r}")
        globals()[name] = value  # Found there from now on.
        return value

    def __dir__():
        names = {*globals(), *__getattr__("__all__"), *_MODULES, "__version__"}
        return sorted(names - {"TYPE_CHECKING"})

    def _module(name):
        from importlib import import_module

        return import_module(f"jaxact.{name}")
