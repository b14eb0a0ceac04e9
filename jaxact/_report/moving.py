"""Reports that forget: older samples weigh less and less."""

import dataclasses
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxact._report.statistics import Statistics, add_words, merge


def moved(old: Statistics, new: Statistics, decay: Any) -> Statistics:
    """The statistics of old samples, of which each weighs less than it did, and of new ones.

    Args:
      old: the statistics so far.
      new: what comes to them.
      decay: what the weight of an old sample is multiplied by.
    """
    return merge(_without_infinities(scaled(old, decay), new), new)


def _without_infinities(old: Statistics, new: Statistics) -> Statistics:
    """The old statistics with the new ones' moments where old ones are not finite.

    They would stay so for ever, whatever they weigh.
    """
    finite: dict[str, Any] = {}
    for name in ("mean", "second_moment", "fourth_moment", "magnitude", "gradient", "features"):
        before, after = getattr(old, name), getattr(new, name)
        if before is None or after is None:
            continue
        is_finite = jnp.isfinite(before)
        if name != "features":  # Both parts of a sum of two.
            is_finite = is_finite.all(-1, keepdims=True)
        finite[name] = jnp.where(is_finite, before, after)
    finite["peak"] = jnp.where(jnp.isfinite(old.peak), old.peak, 0)
    return dataclasses.replace(old, **finite)


def scaled(statistics: Statistics, decay: Any) -> Statistics:
    """The statistics of samples of which each weighs less: all counts times a number below 1.

    Rounded down to 2^-32 of a sample. Means do not change; a peak gets lower by as much.
    """
    # A float32 times 2^32, cut off, is exact from 2^-8 on.
    factor = jnp.asarray(decay).astype(jnp.float32) * 2.0**32
    factor = jnp.clip(factor, 0, 2.0**32 - 2.0**8).astype(jnp.uint32)
    counts = ("samples", "active", "saturated", "histogram")
    less = {name: _times(getattr(statistics, name), factor) for name in counts}
    peak = statistics.peak * jnp.asarray(decay).astype(statistics.peak.dtype)
    return dataclasses.replace(statistics, **less, peak=peak)


def checked(decay: Any) -> Any:
    """A decay that is a number of at least 0 and below 1, or that is traced."""
    if isinstance(decay, jax.core.Tracer):
        return decay
    number = isinstance(decay, Real | np.ndarray | jax.Array) and not isinstance(decay, bool)
    if not number or np.ndim(decay) != 0:
        raise TypeError(f"Report.ema: decay must be a number, got {decay!r}.")
    if not 0 <= float(decay) < 1:
        raise ValueError(
            f"Report.ema: decay must be at least 0 and below 1, got {decay!r}. A report of all "
            "samples, which forgets nothing, is that of Report.merge."
        )
    return float(decay)


def _times(words: jax.Array, factor: jax.Array) -> jax.Array:
    """A count times factor / 2^32."""
    high, low = _product(words, factor)
    # Of the three words' products, each two words long, those of 2^-32 and more.
    zeros = jnp.zeros_like(high[..., 0])
    return add_words(
        jnp.stack([high[..., 0], low[..., 0], low[..., 1]], axis=-1),
        jnp.stack([zeros, high[..., 1], high[..., 2]], axis=-1),
    )


def _product(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The product of words, as two words each: of half words, as one multiplies by hand."""
    a_high, a_low = a >> 16, a & 0xFFFF
    b_high, b_low = b >> 16, b & 0xFFFF
    low = a_low * b_low
    mixed, other = a_high * b_low, a_low * b_high
    middle = (low >> 16) + (mixed & 0xFFFF) + (other & 0xFFFF)
    high = a_high * b_high + (mixed >> 16) + (other >> 16) + (middle >> 16)
    return high, (middle << 16) | (low & 0xFFFF)
