"""The names of columns and arrays that a user gives: found, or told which ones there are."""

import difflib
from collections.abc import Collection, Sequence

from jaxact._errors import CompareError
from jaxact.compare.files import Problems, plain

_LISTED = 30


def target(kind: str, wanted: str | None, there: Sequence[str], problems: Problems) -> str:
    """The target's name.

    Args:
      kind: ``"column"`` or ``"array"``.
      wanted: the name that was given.
      there: the names in the file.
      problems: what is wrong with the file so far, which is told too.

    Raises:
      CompareError: none was given, or there is none of this name.
    """
    name = problems.name
    listed = ", ".join(map(plain, there[:_LISTED]))
    if len(there) > _LISTED:
        listed += f", … ({len(there)} in all)"
    if wanted is None:
        raise CompareError(f"--data {name} needs --target, the {kind} that is predicted: {listed}.")
    if wanted not in there:
        meant = _close(wanted, there)
        hint = f" Did you mean {meant!r}?" if meant else ""
        if kind == "column" and len(there) == 1:
            hint = " Its columns must be separated by commas, semicolons, tabs or |."
        if problems:
            problems.add(f"there is no {kind} {wanted!r}")
            problems.raise_if_any()
        raise CompareError(f"{name} has no {kind} {wanted!r}.{hint} It has: {listed}.")
    return wanted


def chosen(
    there: Sequence[str],
    target: str,
    drop: Collection[str],
    wanted: Collection[str],
    kind: str,
    problems: Problems,
) -> list[str]:
    """The names of the features, in the order of the file.

    Args:
      there: the names in the file.
      target: the target's.
      drop: those that are left out.
      wanted: the only ones that are used; none: all.
      kind: ``"column"`` or ``"array"``.
      problems: names that are not there are added here.
    """
    for option, given in (("--drop", drop), ("--features", wanted)):
        for one in given:
            if one == target:
                problems.add(f"{option} {one}: is the target")
            elif one not in there:
                meant = _close(one, there)
                hint = f"; did you mean {meant!r}?" if meant else ""
                problems.add(f"{option} {one}: there is no such {kind}{hint}")
    for one in wanted:
        if one in drop:
            problems.add(f"{one}: is in --features and in --drop")
    return [n for n in there if n != target and n not in drop and (not wanted or n in wanted)]


def _close(name: str, names: Sequence[str]) -> str | None:
    lowered = {one.lower(): one for one in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return lowered[close[0]] if close else None
