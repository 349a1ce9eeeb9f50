"""What a user can put right. Anything else that is raised is a fault of ours and keeps its traceback.

Any function may raise InputError, whose message says why. Docstrings name the errors that a caller handles.
"""


class InputError(ValueError):
    """Says what was received, what was expected and what to do."""


class UnavailableError(InputError):
    """Something outside did not answer: a network, a remote, a store. Trying again later may help; nothing has to be changed."""
