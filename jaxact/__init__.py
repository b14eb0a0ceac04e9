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
from jaxact.gated import *  # noqa: F403
from jaxact.piecewise_linear import *  # noqa: F403
from jaxact.registry import ACTIVATIONS as ACTIVATIONS, get as get
from jaxact.smooth import *  # noqa: F403

__version__ = _version("jaxact")
