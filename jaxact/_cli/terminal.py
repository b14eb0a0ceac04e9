"""The streams of the command's own process: any terminal, full disks, closed pipes."""

import codecs
import contextlib
import errno
import os
import sys
import unicodedata
from typing import NoReturn

#: Exit statuses after Ctrl-C and at a closed pipe, as shells know them: 128 and the signal.
INTERRUPTED, BROKEN_PIPE = 130, 141

#: What our own texts have beyond ASCII, where taking the accents off does not help.
_SUBSTITUTES = {
    **dict.fromkeys("−–—‐‑─━═╌╍╴╶╸╺", "-"),
    **dict.fromkeys("│┃║╎╏", "|"),
    **dict.fromkeys("╭╮╯╰┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋┡┩╇", "+"),
    **dict.fromkeys("█▉▊▋▌▍▎▏▓▒░■", "#"),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”„", '"'),
    **{"±": "+/-", "²": "^2", "³": "^3", "×": "x", "·": ".", "•": "*", "→": "->", "≥": ">="},
    **{"≤": "<=", "≠": "!=", "≈": "~", "∞": "inf", "µ": "u", "λ": "lambda"},
}


def in_ascii(text: str) -> str:
    """A text for terminals that cannot show all of it.

    >>> in_ascii("R² 0.81 ± 0.02 … café")
    'R^2 0.81 +/- 0.02 ... cafe'
    """
    spelled = "".join(_SUBSTITUTES.get(c, c) for c in text)
    # Letters and their accents apart, ligatures and fractions in their parts.
    return "".join(map(_in_ascii, unicodedata.normalize("NFKD", spelled)))


def _in_ascii(character: str) -> str:
    if character.isascii() or unicodedata.combining(character):
        return character if character.isascii() else ""
    kind, _, letter = unicodedata.name(character, "").rpartition(" LETTER ")
    if kind.startswith("GREEK"):
        return letter.lower()
    return _SUBSTITUTES.get(character, "?")


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return in_ascii(error.object[error.start : error.end]), error.end


def prepare() -> None:
    """Let nothing that is printed be an error for want of a character or of a stream."""
    codecs.register_error("jaxact", _substitute)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # Closed by the caller; left so, the next file would be in its place.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="jaxact")


def output_failed(error: BaseException) -> bool:
    """Whether an error is one of writing to stdout, also as libraries pass a closed pipe on."""
    if isinstance(error, SystemExit):
        return isinstance(error.__context__, BrokenPipeError)
    numbers = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
    return isinstance(error, OSError) and error.filename is None and error.errno in numbers


def abandon_output() -> None:
    """Send what is left to nowhere: Python flushes stdout once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def say(message: str) -> None:
    """An error, as one line."""
    with contextlib.suppress(OSError):  # where not even that can be said
        print("error:", " ".join(message.split()), file=sys.stderr, flush=True)


def end(signal: int, message: str) -> NoReturn:
    """End the process at once, with a line and the status that shells know.

    It is for handlers of signals, which may have interrupted anything: a print to the same stream,
    or a progress bar, which hides the cursor.
    """
    try:
        show_cursor = "\x1b[?25h\n" if os.isatty(2) else ""
        os.write(2, f"{show_cursor}error: {message}\n".encode())
    finally:
        os._exit(128 + signal)
