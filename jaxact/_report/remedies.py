"""The activations by where their slope vanishes, and what to do where units are stuck there."""

from collections.abc import Sequence

from jaxact._core.elementwise import DECLARED, Kind
from jaxact._report.site import OF_PARAMETERS, UNUSED, Place, Site
from jaxact.registry import ACTIVATIONS

_KIND: dict[str, Kind] = {declared.name: declared.kind for declared in DECLARED.values()}
#: Functions that are made without a declaration of their own.
_KIND |= {"identity": "open", "crelu": "open"}


def _of_kind(kind: Kind) -> frozenset[str]:
    """The functions of a kind. A second name, as swish of silu, has the kind of the first."""
    return frozenset(
        name for name, function in ACTIVATIONS.items() if _KIND.get(function.__name__) == kind
    )


# Each of `jaxact.ACTIVATIONS` is in one of these.

#: The slope is exactly 0 below a point (above another too, for relu6).
RECTIFIERS = _of_kind("rectifier")
#: The slope is exactly 0 on both sides.
CLIPS = _of_kind("clip")
#: The slope is exactly 0 in the middle.
SHRINKS = _of_kind("shrink")
#: The slope is small on one side or on both, by design.
SATURATING = _of_kind("saturating")
#: Smooth rectifiers: the slope is small on one side, where a unit should not be always.
#: (tanh_shrink: in the middle.)
SMOOTH = _of_kind("smooth")
#: The slope is 0 nowhere, or at a point.
OPEN = _of_kind("open")

KINDS = (RECTIFIERS, CLIPS, SHRINKS, SATURATING, SMOOTH, OPEN)

#: Linear where the slope is not 0. (A square is not.)
LINEAR_PIECE = frozenset({"relu", "relu6", "threshold", "reglu"})
#: Off for one half of all inputs, with symmetric weights.
HALF_OFF = frozenset({"relu", "relu6", "relu_squared"})

#: 0 wherever their slope is. A relu6 may be stuck at 6; a hard SiLU has slope 0 at its minimum too,
#: -0.375 at -1.5, which low precision hits; a sigmoid is 1 where it is flat.
ZERO_WHEN_DEAD = ("relu", "relu_squared", "sparse_plus", "hard_shrink", "soft_shrink")

#: What to try instead of a function: leaky_relu, where the function is neither a key here nor in
#: `_NOTHING_INSTEAD`.
_INSTEAD = {
    "reglu": "swiglu",
    "hard_tanh": "soft_sign",
    "hard_sigmoid": "sigmoid",
    "sparse_sigmoid": "sigmoid",
    "hard_shrink": "tanh_shrink",
    "soft_shrink": "tanh_shrink",
}
_NOTHING_INSTEAD = {
    *("swiglu", "geglu", "glu", "bilinear_glu", "clamped_swiglu", "situ_glu"),
    *("identity", "crelu", "tanh_shrink"),
}

_GENTLER = "a smaller learning rate or a warm-up: large steps are what usually kills units"
_CALMER = "normalise the pre-activations, or start from smaller weights"


def why_not_revived(place: Place, rank: int) -> str:
    """Why `jaxact.revive` cannot revive the dead units of an activation, or "".

    Args:
      place: the activation's.
      rank: of the site's figures for each unit.
    """
    if place.function not in ZERO_WHEN_DEAD:
        return f"a unit of {place.function} without a gradient need not be 0"
    return unwired(place, rank)


def unwired(place: Place, rank: int) -> str:
    """Why the units of an activation cannot get new weights, whatever it is, or ""."""
    if place.role in (OF_PARAMETERS, UNUSED):
        return f"it is {place.role}"
    if place.loops:
        return "it is inside lax.scan"
    if rank != 1:
        return "the report comes from vmap: probe what is outside, or merge the reports"
    if place.wiring is None:
        return "the report does not say what its parameters are"
    wiring = place.wiring[place.index]
    return wiring if isinstance(wiring, str) else ""


def _revival(sites: Sequence[Site]) -> str:
    """What `jaxact.revive` can do for the dead units of sites."""
    cannot: dict[str, list[str]] = {}
    can = False
    for place, rank in {site.place.index: (site.place, site.mean.ndim) for site in sites}.values():
        why = "" if place.wiring is None else why_not_revived(place, rank)
        can = can or not why
        if why:
            cannot.setdefault(why, []).append(f"#{place.index}")
    whys = "; ".join(f"{', '.join(numbers)}: {why}" for why, numbers in cannot.items())
    if can:
        but = f", but not those of {whys}" if whys else ""
        return f"`jaxact.revive(params, report)` gives dead units new weights{but}."
    return f"`jaxact.revive` cannot give dead units new weights here: {whys}."


def remedy(function: str, sites: Sequence[Site]) -> str:
    """What to do where units of a function have no gradient.

    Args:
      function: the function's name.
      sites: where the function is.
    """
    swap = _swap(function, [site.index for site in sites])
    if function == "reglu":
        return f"Replace it by {swap}, whose gate has a slope below 0 too. Take {_GENTLER}."
    if function in RECTIFIERS:
        return f"Replace it by {swap}. Take {_GENTLER}. {_revival(sites)}"
    if function in CLIPS:
        return f"Keep the pre-activations inside ({_CALMER}), or replace it by {swap}."
    if function in SHRINKS:
        return f"Take a smaller lambd, or replace it by {swap}."
    if function in OPEN and swap:
        return f"Its slope is 0 for negative inputs: give it another, as in {swap}."
    change = f"{_CALMER[0].upper()}{_CALMER[1:]}; take {_GENTLER}."
    return f"{change} In a hidden layer, try {swap}." if swap else change


def _swap(function: str, indices: Sequence[int]) -> str:
    """The function to try instead, and the call of `jaxact.swap` that puts it in at all sites.

    Empty where there is nothing to try.
    """
    if function in _NOTHING_INSTEAD:
        return ""
    name = _INSTEAD.get(function, "leaky_relu")
    numbers = sorted(set(indices))
    sites = f"dict.fromkeys({numbers}, jaxact.{name})"
    if len(numbers) == 1:
        sites = f"{{{numbers[0]}: jaxact.{name}}}"
    return f"{name}, `jaxact.swap(model, {sites})`"
