"""What a pullback holds."""

import jax


def held(pullback) -> list[jax.Array]:
    """The arrays that the pullback holds, larger than a scalar or a key."""
    return [leaf for leaf in jax.tree.leaves(pullback) if leaf.size > 2]
