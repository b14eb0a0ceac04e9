"""A site in a few figures: what tables, scalars, plots and advice are made of."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np

from jaxact._report.site import CONFIDENCE, Site


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a site has seen, over all its units: those of all entries of a ``vmap`` count.

    Attributes:
      site: the site.
      samples: how many samples each unit has had, at least; those that had none are left out of
        all figures, and with none at all the others are 0.
      units: how many units have had samples.
      dead: how many of them have f'(x) = 0 on every sample.
      bound: the upper limit of a dead unit's activity, 0 without dead units.
      silent: how many are dead or saturated on every sample.
      always: how many are active on every sample.
      active: the mean fraction of samples with f'(x) other than 0.
      saturated: the mean fraction of samples with a small f'(x).
      mean: of the pre-activation, over units and samples.
      std: of the pre-activation, over units and samples.
      finite: whether mean and second moment of every unit are.
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
    finite: bool

    @property
    def name(self) -> str:
        """The path, with the step of a scan: ``blocks/mlp[2]``."""
        return self.site.path + step(self.site)

    @property
    def label(self) -> str:
        """What tells it apart in a sentence: ``blocks/mlp[2] (relu, #3)``."""
        return f"{self.name} ({self.site.function}, #{self.site.index})"


def step(site: Site) -> str:
    """The step of a scan as it is written behind a path: ``[2]``, ``[2, 0]``, or nothing."""
    return f"[{', '.join(map(str, site.iteration))}]" if site.iteration else ""


def never_active(samples: int) -> float:
    """The activity of a unit that is active on none of so many samples is below this.

    With the confidence of `Site.active_upper`.

    >>> round(never_active(59), 4), round(never_active(299), 4)
    (0.0495, 0.01)
    """
    return -math.expm1(math.log1p(-CONFIDENCE) / samples)


def needed(activity: float) -> int:
    """How many samples bring `never_active` down to an activity.

    >>> needed(0.05), needed(0.01)
    (59, 299)
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


# A sum that overflows is reported as such: it is no reason for a warning.
@np.errstate(over="ignore", invalid="ignore")
def _summary(site: Site) -> Summary:
    count = np.asarray(site.count)
    seen = count > 0
    active, saturated = site.active[seen], site.saturated[seen]
    dead = active == 0
    mean, square = (moment.astype(float)[seen] for moment in (site.mean, site.second_moment))
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
        finite=bool(np.isfinite(mean).all() and np.isfinite(square).all()),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
