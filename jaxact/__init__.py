"""Activation functions for JAX: right at every input, cheap to differentiate.

The functions have the names and arguments of ``jax.nn``, so ``import jaxact as nn`` is a drop-in
for its activations.
"""

from importlib.metadata import version as _version

from jaxact import memory as memory
from jaxact._core.context import autodiff as autodiff
from jaxact._probe.probe import probe as probe
from jaxact._probe.revive import revive as revive
from jaxact._probe.swap import swap as swap
from jaxact._report.report import Report as Report
from jaxact._report.site import Site as Site
from jaxact.feedforward import (
    gated_mlp as gated_mlp,
    mlp as mlp,
)
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

__version__ = _version("jaxact")
