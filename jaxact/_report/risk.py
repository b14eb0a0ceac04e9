"""Which units training will probably kill: a figure from before it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxact._report.site import Site
from jaxact._report.summary import label
from jaxact._text import table

#: Of each function whose slope is exactly 0 on a side: between which pre-activations it is not 0.
#: (Threshold's depend on its parameters.)
EDGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("relu", "relu_squared", "reglu"), (0.0, np.inf)),
    **dict.fromkeys(("hard_silu", "hard_swish"), (-3.0, np.inf)),
    "relu6": (0.0, 6.0),
    "sparse_plus": (-1.0, np.inf),
}
#: How far training moves mean / standard deviation of a pre-activation: in 8 ReLU networks for each
#: of several optimizers 1.0 to 1.9, see docs/probe.md.
DRIFT = 1.5
#: How many sites the table shows.
MAX_ROWS = 20


@dataclasses.dataclass(frozen=True, eq=False)
class SiteRisk:
    """How probable it is that the units of a site die.

    Attributes:
      site: the site.
      gamma: of each unit, |mean - edge| / standard deviation of the pre-activation; at the edge,
        which is 0 for ReLU, the slope begins.
      probability: of each unit, that it dies; NaN without samples.
    """

    site: Site
    gamma: np.ndarray
    probability: np.ndarray

    @property
    def expected(self) -> float:
        """The share of the units that is expected to die; 0 without samples."""
        known = self.probability[~np.isnan(self.probability)]
        return float(known.mean()) if known.size else 0.0

    def __repr__(self) -> str:
        return f"SiteRisk({label(self.site)}: {100 * self.expected:.1f}% expected to die)"


@dataclasses.dataclass(frozen=True, eq=False)
class Risk:
    """What `jaxact.Report.at_risk` returns; it prints as a table, the highest share first.

    Attributes:
      sites: those whose units can die, in order of execution.
      drift: how far training is taken to move a mean, in standard deviations.
    """

    sites: tuple[SiteRisk, ...]
    drift: float

    def __len__(self) -> int:
        return len(self.sites)

    def __iter__(self) -> Iterator[SiteRisk]:
        return iter(self.sites)

    def __getitem__(self, i: int) -> SiteRisk:
        return self.sites[i]

    def __str__(self) -> str:
        if not self.sites:
            return "No activation here has a slope of exactly 0 on a side: no unit can die."
        highest = sorted(self.sites, key=lambda of_site: -of_site.expected)
        more = len(highest) - MAX_ROWS
        return "\n".join(
            [
                table(_HEADINGS, [_row(of_site) for of_site in highest[:MAX_ROWS]]),
                *([f"and {more} more, with lower shares"] if more > 0 else []),
                f"Expected to die, of the units; for a drift of {self.drift:g}.",
            ]
        )


_HEADINGS = ("#", "path", "function", "units", "expected %", "units above 50%")


def _row(risk: SiteRisk) -> list[str]:
    name = label(risk.site).rpartition(" (")[0]
    units = " x ".join(map(str, risk.probability.shape))
    likely = int((risk.probability > 0.5).sum())
    start = [str(risk.site.index), name, risk.site.function, units]
    return [*start, f"{100 * risk.expected:.1f}", str(likely)]


def at_risk(sites: Sequence[Site], drift: float) -> Risk:
    """The risks of the sites whose function is in `EDGES`, as `jaxact.Report.at_risk` says."""
    return Risk(tuple(_of_site(site, drift) for site in sites if site.function in EDGES), drift)


def _of_site(site: Site, drift: float) -> SiteRisk:
    from scipy.special import ndtr

    lower, upper = EDGES[site.function]
    mean, square = np.asarray(site.mean, float), np.asarray(site.second_moment, float)
    with np.errstate(invalid="ignore", over="ignore"):
        std = np.sqrt(np.maximum(square - mean**2, 0))
    largest = _median_of_largest(np.asarray(site.count, float))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gamma = np.abs(mean - lower) / std
        above, below = (
            # One that is always the same is on one side, or on the edge, where the slope is 0.
            np.where(std > 0, inside / std, np.where(inside > 0, np.inf, -np.inf))
            for inside in (mean - lower, upper - mean)
        )
    probability = ndtr(-(above + largest) / drift) + ndtr(-(below + largest) / drift)
    unknown = (np.asarray(site.count) == 0) | ~(np.isfinite(mean) & np.isfinite(square))
    return SiteRisk(site, np.where(unknown, np.nan, gamma), np.where(unknown, np.nan, probability))


def _median_of_largest(count: np.ndarray) -> np.ndarray:
    """The median of the largest of so many standard normal numbers."""
    from scipy.special import ndtri

    return np.asarray(-ndtri(-np.expm1(-np.log(2) / np.maximum(count, 1))))
