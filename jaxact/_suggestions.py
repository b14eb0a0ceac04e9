"""What an unknown name of an activation may have meant: the messages of `jaxact.get`."""

import difflib
from collections.abc import Iterable

from jaxact._names import LIBRARIES, OTHER_PREFIXES


def unknown(activation: str, own: Iterable[str]) -> str:
    """Of a text that begins with no name of this package (``own``) and with no library."""
    head, colon, rest = activation.partition(":")
    if head in LIBRARIES:
        return f"{head!r} is a library: write '{head}:' and a name of {LIBRARIES[head].title}'s."
    prefix = OTHER_PREFIXES.get(head.lower(), head.lower())
    if prefix in LIBRARIES and colon:
        return f"unknown library {head!r}. Did you mean '{prefix}:{rest}'?"
    name = rest.partition(":")[0]
    if name in own or _elsewhere(name):
        return (
            f"unknown library {head!r} in {activation!r}. The libraries are: "
            f"{', '.join(LIBRARIES)}; a name of jaxact's has none."
        )
    hints = (
        [f"Did you mean {' or '.join(map(repr, close))}?"] if (close := _close(head, own)) else []
    )
    hints += _elsewhere(head)
    return f"unknown activation {head!r}. {' '.join(hints) or f'The names are: {_listed(own)}.'}"


def unknown_in(prefix: str, name: str, own: Iterable[str]) -> str:
    """Of a name that a library does not have, or that has no counterpart here."""
    library = LIBRARIES[prefix]
    if name in library.left_out:
        return f"'{prefix}:{name}' has no counterpart: {library.left_out[name]}."
    # A name that is written otherwise may be that of several, with several meanings.
    close = _close(name, library.names)
    found = [f"'{prefix}:{n}' ({library.names[n]})" for n in close]
    hints = [f"Did you mean {' or '.join(found)}?"] if found else []
    if not found and (left_out := _close(name, library.left_out)):
        hints.append(f"'{prefix}:{left_out[0]}' has no counterpart.")
    hints += _elsewhere(name)
    if name in own:
        hints.append(f"Without a library, {name!r} is jaxact's own.")
    hints = hints or [f"Its names are: {_listed(library.names)}."]
    return f"{library.title} has no activation {name!r}. {' '.join(hints)}"


def _elsewhere(name: str) -> list[str]:
    """Which libraries have exactly that name, and what it means there."""
    meanings: dict[str, list[str]] = {}
    reasons: dict[str, list[str]] = {}
    for prefix, library in LIBRARIES.items():
        if name in library.names:
            meanings.setdefault(library.names[name], []).append(f"get('{prefix}:{name}')")
        elif name in library.left_out:
            reasons.setdefault(library.left_out[name], []).append(library.title)
    hints = [f"{' and '.join(found)} is {meaning!r}" for meaning, found in meanings.items()]
    hints += [f"{', '.join(found)}: {reason}" for reason, found in reasons.items()]
    return [f"In other libraries: {'; '.join(hints)}."] if hints else []


def _close(name: str, names: Iterable[str]) -> list[str]:
    """Those that are spelt alike: written as elsewhere (LeakyReLU, Swish), or else misspelt."""
    plain: dict[str, list[str]] = {}
    for known in names:
        plain.setdefault(_plain(known), []).append(known)
    if _plain(name) in plain:
        return plain[_plain(name)]
    matches = difflib.get_close_matches(_plain(name), plain, n=3)
    return [known for match in matches for known in plain[match]]


def _plain(name: str) -> str:
    return name.lower().translate(str.maketrans("", "", "_- "))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
