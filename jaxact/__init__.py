"""Activation functions for JAX: right at every input, cheap to differentiate.

The functions have the names and arguments of ``jax.nn``, so ``import jaxact as nn`` is a drop-in
for its activations.
"""

from importlib.metadata import version as _version

from jaxact import memory as memory
from jaxact._core.context import autodiff as autodiff
from jaxact._probe.probe import probe as probe
from jaxact._probe.report import Report as Report
from jaxact._probe.report import Site as Site
from jaxact._probe.revive import revive as revive
from jaxact._probe.swap import swap as swap
from jaxact.feedforward import (
    gated_mlp as gated_mlp,
)
from jaxact.feedforward import (
    mlp as mlp,
)
from jaxact.gated import (
    bilinear_glu as bilinear_glu,
)
from jaxact.gated import (
    geglu as geglu,
)
from jaxact.gated import (
    glu as glu,
)
from jaxact.gated import (
    reglu as reglu,
)
from jaxact.gated import (
    swiglu as swiglu,
)
from jaxact.piecewise_linear import (
    crelu as crelu,
)
from jaxact.piecewise_linear import (
    hard_shrink as hard_shrink,
)
from jaxact.piecewise_linear import (
    hard_sigmoid as hard_sigmoid,
)
from jaxact.piecewise_linear import (
    hard_tanh as hard_tanh,
)
from jaxact.piecewise_linear import (
    identity as identity,
)
from jaxact.piecewise_linear import (
    leaky_relu as leaky_relu,
)
from jaxact.piecewise_linear import (
    prelu as prelu,
)
from jaxact.piecewise_linear import (
    relu as relu,
)
from jaxact.piecewise_linear import (
    relu6 as relu6,
)
from jaxact.piecewise_linear import (
    rrelu as rrelu,
)
from jaxact.piecewise_linear import (
    soft_shrink as soft_shrink,
)
from jaxact.piecewise_linear import (
    sparse_sigmoid as sparse_sigmoid,
)
from jaxact.piecewise_linear import (
    threshold as threshold,
)
from jaxact.registry import ACTIVATIONS as ACTIVATIONS
from jaxact.registry import get as get
from jaxact.smooth import (
    celu as celu,
)
from jaxact.smooth import (
    elu as elu,
)
from jaxact.smooth import (
    gelu as gelu,
)
from jaxact.smooth import (
    hard_silu as hard_silu,
)
from jaxact.smooth import (
    hard_swish as hard_swish,
)
from jaxact.smooth import (
    log_sigmoid as log_sigmoid,
)
from jaxact.smooth import (
    mish as mish,
)
from jaxact.smooth import (
    quick_gelu as quick_gelu,
)
from jaxact.smooth import (
    relu_squared as relu_squared,
)
from jaxact.smooth import (
    selu as selu,
)
from jaxact.smooth import (
    sigmoid as sigmoid,
)
from jaxact.smooth import (
    silu as silu,
)
from jaxact.smooth import (
    soft_sign as soft_sign,
)
from jaxact.smooth import (
    softplus as softplus,
)
from jaxact.smooth import (
    sparse_plus as sparse_plus,
)
from jaxact.smooth import (
    squareplus as squareplus,
)
from jaxact.smooth import (
    swish as swish,
)
from jaxact.smooth import (
    tanh as tanh,
)
from jaxact.smooth import (
    tanh_shrink as tanh_shrink,
)

__version__ = _version("jaxact")
