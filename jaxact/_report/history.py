"""What became of a model's units in training: shares of each layer at each step."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxact._report.site import DORMANT, Place, Site
from jaxact._report.statistics import Statistics
from jaxact._report.summary import label

#: How many snapshots are kept at most: one of a thousand steps is not seen in a picture.
MAX_SNAPSHOTS = 1000
#: What a snapshot has of each site, in this order.
SHARES = ("dead", "dormant", "saturated")


@dataclasses.dataclass(frozen=True, eq=False)
class History:
    """The shares of dead, dormant and saturated units over the steps of training.

    Each of the shares is an array of ``(steps, sites)``, NaN where a site had no samples.

    Attributes:
      steps: the number of the reports, 0 for the first: all, until there are a thousand; then
        every second, every fourth, and so on.
      sites: the sites, as advice names them; in the order of `Report.sites`.
      dead: of the units, those with f'(x) = 0 on every sample of the step.
      dormant: of the units, those with a mean |activation| of at most 0.025 of the layer's.
      saturated: the share of samples with |f'(x)| below the threshold, the mean over units.
    """

    steps: np.ndarray
    sites: tuple[str, ...]
    dead: np.ndarray
    dormant: np.ndarray
    saturated: np.ndarray

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        return f"History({len(self)} steps of {len(self.sites)} sites)"


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshots:
    """The shares at some steps, as they come from the device: nothing waits for them.

    Attributes:
      seen: how many steps there were.
      every: one of so many is kept.
      kept: the steps, each with the shares of `SHARES` of all records' steps, (sites, 3).
    """

    seen: int = 0
    every: int = 1
    kept: tuple[tuple[int, jax.Array], ...] = ()

    def followed_by(self, shares: jax.Array) -> "Snapshots":
        """These and one more; beyond `MAX_SNAPSHOTS`, every second one of them."""
        if self.seen % self.every:
            return dataclasses.replace(self, seen=self.seen + 1)
        kept = (*self.kept, (self.seen, shares))
        every = self.every
        if len(kept) > MAX_SNAPSHOTS:
            kept, every = kept[::2], 2 * every
        return Snapshots(self.seen + 1, every, kept)

    def history(self, records: Sequence[Site], sites: Sequence[Site]) -> History:
        """The shares at the steps that are kept.

        Args:
          records: of the report.
          sites: of the report: the records' steps, in order of execution.
        """
        column = {
            (record.index, iteration): number
            for number, (record, iteration) in enumerate(
                (record, iteration)
                for record in records
                for iteration in np.ndindex(*[length for _, length in record.place.loops])
            )
        }
        order = [column[site.index, site.iteration] for site in sites]
        shares = np.asarray(jax.device_get([of_all for _, of_all in self.kept]), float)
        shares = shares.reshape(len(self.kept), len(order), len(SHARES))[:, order]
        return History(
            np.array([step for step, _ in self.kept], int),
            tuple(label(site) for site in sites),
            *np.moveaxis(shares, -1, 0),
        )


def shares(statistics: Sequence[Statistics], places: Sequence[Place]) -> jax.Array:
    """What a snapshot keeps of some records: the shares of `SHARES`, (sites, 3)."""
    rows = [_shares(Site(p, (), s)) for p, s in zip(places, statistics, strict=True)]
    return jnp.concatenate([jnp.zeros((0, len(SHARES)), jnp.float32), *rows])


def _shares(record: Site) -> jax.Array:
    count = record.count
    seen = count > 0
    # The axes of loops are before that of the units, those of vmap are in front.
    loops = len(record.place.loops)
    axes = (*range(count.ndim - 1 - loops), count.ndim - 1)

    def share(of_units: Any) -> jax.Array:
        of_units = jnp.where(seen, jnp.asarray(of_units, jnp.float32), 0)
        # 0 / 0, which is NaN, without samples.
        mean: jax.Array = of_units.sum(axes) / seen.astype(jnp.float32).sum(axes)
        return mean.reshape(-1)

    shares_of = (record.dead, record.dormancy <= DORMANT, record.saturated)
    return jnp.stack([share(of_units) for of_units in shares_of], axis=-1)
