"""What a user can put right. Anything else that is raised is a fault of ours and keeps its traceback."""


class InputError(ValueError):
    """Says what was received, what was expected and what to do."""
