"""`jaxact.revive`: new weights for units that are dead."""

import warnings
from typing import Any

import jax

from jaxact._probe.renewal import Moments, Parameters, Units, opened, renew
from jaxact._report.remedies import why_not_revived
from jaxact._report.report import Report
from jaxact._report.site import OF_PARAMETERS, UNUSED


def revive(
    params: Any, report: Report, *, key: jax.Array | None = None, opt_state: Any = None
) -> Any:
    """Give dead units new weights, without a change of what the model computes.

    A unit that is dead in the report gets new incoming weights, drawn as by
    `jaxact.initializers.he_normal`; what is added to it (a bias) becomes 0, what it is multiplied
    by (the scale of a batch normalization) 1. The weights with which other layers read it become 0,
    so that on the data of the report the model computes what it did, number for number. (On other
    data a dead unit may have been active.) From there gradients are not 0: the outgoing weights
    learn first, then the incoming ones. Of two dead units in a row the weight between is new, too.
    Where all inputs of a unit have one sign (pixels, what was pooled), its new weights may leave it
    dead, about one in two: probe again, and revive again.

    It is for dense and convolution layers of Flax or written with ``jax.lax``, for ``relu``,
    ``relu_squared``, ``sparse_plus``, ``hard_shrink`` and ``soft_shrink``, whose dead units are
    exactly 0, and for what keeps a unit by itself: batch normalization, dropout, pooling,
    flattening, the sums over a graph's edges (``jax.ops.segment_sum``). It is not for units that
    are also read as they are (in a residual connection), are normalized over the units, have
    weights that are used twice, or are inside ``scan``, ``vmap`` or other control flow. Units that
    no result depends on are left alone.

    The running statistics of a batch normalization stay as they are; they follow in training. An
    optimizer's moments belong to the old weights: with ``opt_state``, those of new weights become 0
    (an optimizer's copy of the parameters, as ``schedule_free`` has one, becomes the new ones), the
    others and the count of steps stay. Factored moments (adafactor's of large matrices), the
    gradients that ``lbfgs`` remembers, and step sizes (``rprop``) stay, too. Accumulators that
    start at a small number (``adagrad``) start at 0.

    `jaxact.plasticity` does it during training, inside ``jit``, for units that are not quite dead,
    too.

    Args:
      params: the parameters that the probed function was called with, at least these of the layers
        concerned: an NNX module, which is changed in place, or its ``nnx.State``; Linen's
        ``variables`` or ``variables["params"]``; any tree of arrays.
      report: what `jaxact.probe` has returned, of as much data as there is (`Report.merge`).
      key: a PRNG key for the new weights; by default ``jax.random.key(0)``.
      opt_state: the state of the optax optimizer of these parameters, or the ``nnx.Optimizer``,
        which is changed in place.

    Returns:
      The parameters, in the same structure, of the same dtypes and shardings; ``params`` itself
      where no unit is dead. With ``opt_state``, both: ``(params, opt_state)``.

    Raises:
      TypeError: ``report`` is none, or is traced: return it from ``jit`` first.
      ValueError: there are dead units, but none that can be revived; the message says why. Or
        ``params`` has not the parameters that the probed function had, ``opt_state`` no moments of
        them.

    Warns:
      UserWarning: dead units of some activations cannot be revived, and why.

    Reference: Sokar et al., "The dormant neuron phenomenon in deep reinforcement learning", 2023
    (arXiv 2302.12902).

    Examples:
      >>> import jax, jax.numpy as jnp, jaxact
      >>> def model(params, x):
      ...     return jax.nn.relu(x @ params["w"] + params["b"]) @ params["v"]
      >>> params = {"w": jnp.ones((2, 2)), "b": jnp.array([0.0, -9.0]), "v": jnp.ones((2, 1))}
      >>> _, report = jaxact.probe(model)(params, jnp.eye(2))
      >>> report.sites[0].dead
      array([False,  True])
      >>> new = jaxact.revive(params, report)
      >>> new["b"]
      Array([0., 0.], dtype=float32)
      >>> new["v"]
      Array([[1.],
             [0.]], dtype=float32)
      >>> new["w"][:, 0]
      Array([1., 1.], dtype=float32)

      The optimizer goes on, with new moments for new weights:

      >>> import optax
      >>> opt_state = optax.adam(1e-3).init(params)
      >>> new, opt_state = jaxact.revive(params, report, opt_state=opt_state)
    """
    if not isinstance(report, Report):
        raise TypeError(f"revive: report must be a Report of jaxact.probe, got {report!r}.")
    dead, others = _dead(report)
    if others:
        listed = "\n".join(f"  {reason}" for reason in others)
        if not dead:
            raise ValueError(f"revive: none of the dead units can be revived:\n{listed}")
        warnings.warn(
            f"revive: these dead units cannot be revived:\n{listed}", UserWarning, stacklevel=2
        )
    if not dead:
        return params if opt_state is None else (params, opt_state)
    tree, close = opened(params)
    parameters = Parameters(tree, [units.wiring for units in dead], "revive")
    renewed = renew(parameters, dead, jax.random.key(0) if key is None else key)
    if opt_state is None:
        return close(parameters.tree(renewed.values))
    state, close_state = opened(opt_state)
    moments = Moments(state, parameters, "revive")
    state = moments.tree(moments.restarted(renewed))
    return close(parameters.tree(renewed.values)), close_state(state)


def _dead(report: Report) -> tuple[list[Units], list[str]]:
    """The dead units that can be revived; for others, where they are and why not."""
    dead, others = [], []
    for site in report.records:
        place, mask = site.place, site.dead
        if isinstance(mask, jax.core.Tracer):
            raise TypeError("revive: the report is traced: return it from jit first.")
        if not mask.any() or place.role in (OF_PARAMETERS, UNUSED):
            continue
        why = why_not_revived(place, mask.ndim)
        if not why:
            dead.append(Units(place, place.wiring[place.index], mask))
            continue
        count = f"{mask.sum()} of {mask.size} units"
        others.append(f"{place.index}: {place.function} in {place.path} ({count} dead): {why}.")
    return dead, others
