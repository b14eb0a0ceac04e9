"""Pallas kernels of one function."""

import jax
from jax.experimental import pallas as pl

from tests.support.table import TABLE

#: The functions of one array whose result has its shape, without random numbers.
ROWS = [row for row in TABLE if row.id not in ("crelu", "rrelu:key")]


def elementwise_kernel(call, x, **options):
    """A kernel that computes ``call`` of an array of the shape and dtype of ``x`` in one block."""

    def kernel(x, y):
        y[...] = call(x[...])

    out = jax.eval_shape(call, x)
    shape = jax.ShapeDtypeStruct(out.shape, out.dtype)
    return pl.pallas_call(kernel, out_shape=shape, **options)
