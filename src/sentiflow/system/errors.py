"""Errors that a user can correct. Any other exception is a bug and keeps its traceback.

Any function may raise InputError. Docstrings list only the errors that a caller handles.
"""


class InputError(ValueError):
    """The message says what was expected, what was received and what to do."""


class UnavailableError(InputError):
    """A network, remote or store did not respond. Retrying later may succeed without any change."""
