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
        registry as registry,
        smooth as smooth,
    )
    from jaxact._core.context import autodiff as autodiff
    from jaxact._probe.probe import probe as probe
    from jaxact._probe.revive import revive as revive
    from jaxact._probe.swap import swap as swap
    from jaxact._report.report import Report as Report, Site as Site
    from jaxact.feedforward import gated_mlp as gated_mlp, mlp as mlp
    from jaxact.gated import (
        bilinear_glu as bilinear_glu,
        geglu as geglu,
        glu as glu,
        reglu as reglu,
        swiglu as swiglu,
    )
    from jaxact.piecewise_linear import (
        crelu as crelu,
        hard_shrink as hard_shrink,
        hard_sigmoid as hard_sigmoid,
        hard_tanh as hard_tanh,
        identity as identity,
        leaky_relu as leaky_relu,
        prelu as prelu,
        relu as relu,
        relu6 as relu6,
        rrelu as rrelu,
        soft_shrink as soft_shrink,
        sparse_sigmoid as sparse_sigmoid,
        threshold as threshold,
    )
    from jaxact.registry import ACTIVATIONS as ACTIVATIONS, get as get
    from jaxact.smooth import (
        celu as celu,
        elu as elu,
        gelu as gelu,
        hard_silu as hard_silu,
        hard_swish as hard_swish,
        log_sigmoid as log_sigmoid,
        mish as mish,
        quick_gelu as quick_gelu,
        relu_squared as relu_squared,
        selu as selu,
        sigmoid as sigmoid,
        silu as silu,
        soft_sign as soft_sign,
        softplus as softplus,
        sparse_plus as sparse_plus,
        squareplus as squareplus,
        swish as swish,
        tanh as tanh,
        tanh_shrink as tanh_shrink,
    )

    __version__: str

# The same names for Python: which module defines them.
_HOMES = {
    name: module
    for module, names in {
        "_core.context": "autodiff",
        "_probe.probe": "probe",
        "_probe.revive": "revive",
        "_probe.swap": "swap",
        "_report.report": "Report Site",
        "feedforward": "gated_mlp mlp",
        "gated": "bilinear_glu geglu glu reglu swiglu",
        "piecewise_linear": "crelu hard_shrink hard_sigmoid hard_tanh identity leaky_relu prelu "
        "relu relu6 rrelu soft_shrink sparse_sigmoid threshold",
        "registry": "ACTIVATIONS get",
        "smooth": "celu elu gelu hard_silu hard_swish log_sigmoid mish quick_gelu relu_squared "
        "selu sigmoid silu soft_sign softplus sparse_plus squareplus swish tanh tanh_shrink",
    }.items()
    for name in names.split()
}
_MODULES = {"compare", "initializers", "linen", "memory", "nnx", "optim"}
_MODULES |= {"feedforward", "gated", "piecewise_linear", "registry", "smooth"}

if not TYPE_CHECKING:  # A type checker reads no computed list, and would believe every name.
    # What needs no more than JAX: the layers, for example, would bring Flax to ``import *``.
    __all__ = [*_HOMES, "memory"]

    def __getattr__(name):
        if name == "__version__":
            from importlib.metadata import version

            value = version("jaxact")
        elif name in _MODULES:
            value = _module(name)
        elif name in _HOMES:
            value = getattr(_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module 'jaxact' has no attribute {name!r}")
        globals()[name] = value  # Found there from now on.
        return value

    def __dir__():
        return sorted({*globals(), *_HOMES, *_MODULES, "__version__"} - {"TYPE_CHECKING"})

    def _module(name):
        from importlib import import_module

        return import_module(f"jaxact.{name}")
