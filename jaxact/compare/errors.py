"""The one error that a wrong request raises."""


class CompareError(ValueError):
    """Something in the request cannot be used; the message says what, and what to do about it."""
