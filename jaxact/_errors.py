"""The errors that a wrong request raises."""


class RequestError(ValueError):
    """Something in the request cannot be used; the message says what, and what to do about it.

    The command ``jaxact`` prints the message as one line and exits with status 2.
    """


class CompareError(RequestError):
    """Something in the request for a comparison cannot be used; the message says what to do."""
