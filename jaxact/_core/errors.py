"""The one error that a wrong request to the command line raises."""


class RequestError(ValueError):
    """Something in the request cannot be used; the message says what, and what to do about it.

    The command ``jaxact`` prints the message as one line and exits with status 2.
    """
