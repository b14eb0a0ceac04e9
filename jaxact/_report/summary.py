"""A site in a few figures: what tables, scalars, plots and advice are made of."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np

from jaxact._report.site import CONFIDENCE, DORMANT, Site


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a site has seen, over all its units, in all entries of a ``vmap``.

    Units without samples are left out of all figures; where no unit has samples, every figure is 0.

    Attributes:
      site: the site.
      samples: how many samples each unit has had, at least.
      units: how many units have had samples.
      dead: how many units have f'(x) = 0 on every sample.
      bound: the upper limit of a dead unit's activity, 0 without dead units.
      silent: how many units are dead or saturated on every sample.
      always: how many units are active on every sample.
      active: the fraction of samples with f'(x) other than 0, the mean over units.
      saturated: the fraction of samples with |f'(x)| below the probe's threshold, the mean over
        units.
      mean: the mean of the pre-activation, over units and samples.
      std: the standard deviation of the pre-activation, over units and samples.
      dormant: how many units put out almost nothing beside the others (`Site.dormancy`).
      peak: the largest |pre-activation|.
      kurtosis: that of the pre-activations about 0, over units and samples.
      gradient: the mean of |d loss / d activation| over units and samples; None where it was not
        asked for, NaN where it cannot be seen.
      finite: whether the mean and the second moment of every unit are finite.
    """

    site: Site
    samples: int
    units: int
    dead: int
    bound: float
    silent: int
    always: int
    active: float
    saturated: float
    mean: float
    std: float
    dormant: int
    peak: float
    kurtosis: float
    gradient: float | None
    finite: bool

    @property
    def name(self) -> str:
        """The path, with the step of a scan: ``blocks/mlp[2]``."""
        return self.site.path + step(self.site)

    @property
    def function(self) -> str:
        """The function as it is called, with the site's role if it has one: ``sigmoid (gate)``."""
        role = self.site.role
        return f"{self.site.form} ({role})" if role else self.site.form

    @property
    def label(self) -> str:
        """What tells the site from others in a sentence: ``blocks/mlp[2] (relu, #3)``."""
        return label(self.site)


def label(site: Site) -> str:
    """What tells a site from others in a sentence: ``blocks/mlp[2] (relu, #3)``."""
    return f"{site.path}{step(site)} ({site.form}, #{site.index})"


def step(site: Site) -> str:
    """The step of a site in a scan as it stands behind a path: ``[2]``, ``[2, 0]``, or nothing."""
    return f"[{', '.join(map(str, site.iteration))}]" if site.iteration else ""


def pooled(site: Site) -> str:
    """How many steps of loops are pooled in a site: `` [200 steps]``, or nothing."""
    if not site.place.pooled:
        return ""
    steps = site.steps
    if steps is None:
        return " [all steps]"
    if isinstance(steps, tuple):
        return f" [{steps[0]} to {steps[1]} steps]"
    return f" [{steps} {'step' if steps == 1 else 'steps'}]"


def never_active(samples: int) -> float:
    """The upper limit of the activity of a unit that was active on none of so many samples.

    It has the confidence of `jaxact.Site.active_upper`.

    Examples:
      >>> print(f"{never_active(59):.4f}, {never_active(299):.4f}")
      0.0495, 0.0100
    """
    return -math.expm1(math.log1p(-CONFIDENCE) / samples)


def needed(activity: float) -> int:
    """How many samples bring the limit of `never_active` down to an activity.

    Examples:
      >>> needed(0.05)
      59
      >>> needed(0.01)
      299
    """
    return math.ceil(math.log1p(-CONFIDENCE) / math.log1p(-activity))


def summarise(sites: Sequence[Site], what: str) -> list[Summary]:
    """The summaries of sites, in their order.

    Args:
      sites: the sites.
      what: the name of what needs the summaries, for the error.

    Raises:
      TypeError: the sites are traced, or have shapes only.
    """
    abstract = (jax.core.Tracer, jax.ShapeDtypeStruct)
    if any(isinstance(leaf, abstract) for leaf in jax.tree.leaves(sites)):
        raise TypeError(f"{what} is computed on the host: return the report from jit first.")
    return [_summary(site) for site in sites]


# A mean that overflows is a figure of the report, which `finite` names: no reason for a warning.
@np.errstate(over="ignore", invalid="ignore")
def _summary(site: Site) -> Summary:
    count = np.asarray(site.count)
    seen = count > 0
    active, saturated = site.active[seen], site.saturated[seen]
    dead = active == 0
    moments = site.mean, site.second_moment, site.fourth_moment
    mean, square, fourth = (moment.astype(float)[seen] for moment in moments)
    center = _mean(mean)
    return Summary(
        site=site,
        samples=int(count[seen].min()) if seen.any() else 0,
        units=int(seen.sum()),
        dead=int(dead.sum()),
        bound=never_active(int(count[seen][dead].min())) if dead.any() else 0.0,
        silent=int((dead | (saturated == 1)).sum()),
        always=int((active == 1).sum()),
        active=_mean(active),
        saturated=_mean(saturated),
        mean=center,
        # Rounding may leave a variance of slightly less than 0.
        std=float(np.sqrt(np.maximum(_mean(square) - np.square(center), 0))),
        dormant=int((site.dormancy[seen] <= DORMANT).sum()),
        peak=float(site.peak[seen].max(initial=0)),
        kurtosis=_ratio(_mean(fourth), _mean(square) ** 2),
        gradient=None if site.statistics.gradient is None else _mean(site.gradient[seen]),
        finite=bool(np.isfinite(mean).all() and np.isfinite(square).all()),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0
