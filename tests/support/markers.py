"""What ``pytest -m`` asks for."""

import re


def asked_for(config, marker: str) -> bool:
    """Whether the expression has the marker other than to leave it out."""
    return marker in re.sub(r"not \w+", "", config.option.markexpr)
