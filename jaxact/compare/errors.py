"""The one error that a wrong request raises."""

from jaxact._core.errors import RequestError


class CompareError(RequestError):
    """Something in the request cannot be used; the message says what, and what to do about it."""
