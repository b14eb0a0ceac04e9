"""The gallery of all activations: docs/functions/index.md."""

from collections.abc import Mapping
from pathlib import Path

import jaxact
from website import figures

#: The activations under headings, in the order in which a reader may look for them.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Rectifiers": (
        "relu", "leaky_relu", "prelu", "rrelu", "relu6", "crelu", "relu_squared",
        "leaky_relu_squared", "surrogate_relu",
    ),
    "Smooth rectifiers": (
        "gelu", "quick_gelu", "silu", "swish", "mish", "softplus", "squareplus", "sparse_plus",
    ),
    "Exponential linear units": ("elu", "celu", "selu", "xielu"),
    "Gated linear units": (
        "glu", "swiglu", "geglu", "reglu", "bilinear_glu", "clamped_swiglu", "situ_glu",
    ),
    "Sigmoids": ("sigmoid", "log_sigmoid", "tanh", "soft_sign", "sparse_sigmoid", "softcap"),
    "Hard functions": ("hard_tanh", "hard_sigmoid", "hard_silu", "hard_swish"),
    "Thresholds and shrinkages": (
        "threshold", "hard_shrink", "soft_shrink", "tanh_shrink", "identity",
    ),
    "Periodic functions": ("snake",),
}  # fmt: skip

INTRODUCTION = """\
# Functions

All take any real array-like and return an array of its dtype, and work under `jit`, `grad`, `vmap`,
`shard_map`, `scan` and `jax.checkpoint`. Blue is the value, orange the slope; of gated functions,
over the gate.
"""


def group_of(name: str) -> str:
    """The heading that a name is under.

    Raises:
      ValueError: none, or several.
    """
    found = [heading for heading, names in GROUPS.items() if name in names]
    if len(found) != 1:
        where = " and ".join(found) or "no group"
        raise ValueError(f"website/gallery.py: {name} is in {where} of GROUPS; put it in one")
    return found[0]


def check() -> None:
    """Raise ValueError unless each activation is in one group, and nothing else is."""
    for name in jaxact.ACTIVATIONS:
        group_of(name)
    unknown = {name for names in GROUPS.values() for name in names} - set(jaxact.ACTIVATIONS)
    if unknown:
        raise ValueError(f"website/gallery.py: GROUPS has {sorted(unknown)}, which jaxact has not")


def page() -> str:
    """The page in Markdown; its thumbnails are figures/NAME-small-light.svg and -dark.svg."""
    parts = [INTRODUCTION]
    for heading, names in GROUPS.items():
        entries = [
            f"[{figures.markdown('', f'figures/{name}-small')}<br>{name}]({name}.md)"
            for name in names
        ]
        body = "\n\n".join(entry.replace("\n", "") for entry in entries)
        parts.append(f'## {heading}\n\n<div class="gallery" markdown>\n\n{body}\n\n</div>\n')
    return "\n".join(parts)


def write(folder: Path) -> None:
    """Write the page.

    Raises:
      ValueError: an activation is in no group.
    """
    check()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.md").write_text(page(), encoding="utf-8")
