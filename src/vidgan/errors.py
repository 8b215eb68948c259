"""The errors that vidgan raises on purpose."""


class UserError(ValueError):
    """A mistake the user can mend: one sentence that names what, where and how to mend it.

    The command line prints the sentence and exits with code 2; from Python it is a `ValueError`.
    """


class UnhealthyTrainingError(RuntimeError):
    """Training met non-finite numbers again after every allowed roll-back (exit code 3)."""
