"""The errors that vidgan raises on purpose."""


class UserError(ValueError):
    """A mistake the user can mend: one sentence that names what, where and how to mend it.

    The command line prints the sentence and exits with code 2; from Python it is a `ValueError`.
    """


def counted(count: int, noun: str) -> str:
    """A number with its noun, such as `1 clip` and `2,400 clips`."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def printable(text: str) -> str:
    r"""One line that a terminal shows as it stands.

    Names of files may hold line breaks, escape sequences and bytes that are no text; they are
    spelled out.

    Example:
        >>> print(printable("two" + chr(10) + "lines"))
        two\nlines
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class UnhealthyTrainingError(RuntimeError):
    """Training met non-finite numbers again after every allowed roll-back (exit code 3)."""
