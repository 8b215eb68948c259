"""The errors that vidgan raises on purpose, and what an exhausted memory is known by."""

import re


class UserError(ValueError):
    """A mistake the user can fix: one sentence that names what, where and how to fix it.

    The command line prints the sentence and exits with code 2; from Python it is a `ValueError`.
    """


def counted(count: int, noun: str) -> str:
    """A number with its noun, such as `1 clip` and `2,400 clips`."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def printable(text: str) -> str:
    r"""One line that is safe to print on a terminal.

    Names of files may hold line breaks, escape sequences and bytes that are not text; they are
    spelled out.

    Example:
        >>> print(printable("two" + chr(10) + "lines"))
        two\nlines
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class UnhealthyTrainingError(RuntimeError):
    """Training met non-finite numbers again after every allowed roll-back (exit code 3)."""


MEMORY_WORDS = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""What torch, its CPU allocator and the libraries of a GPU write when memory runs out."""


def describe_memory_error(error: BaseException) -> str | None:
    """What ran out of memory and at which size, without a full stop; None for anything else.

    Example:
        >>> describe_memory_error(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))
        'the memory of the GPU ran out (tried to allocate 2.00 GiB)'
    """
    text = str(error)
    is_known = isinstance(error, RuntimeError) and any(word in text for word in MEMORY_WORDS)
    if not is_known and not isinstance(error, MemoryError):
        return None
    on_gpu = any(word in text for word in ("CUDA", "CUBLAS", "CUDNN", "MPS", "HIP"))
    size = re.search(r"ried to allocate ([\d.]+ \w+)", text)
    asked = f" (tried to allocate {size[1]})" if size else ""
    return f"the memory of {'the GPU' if on_gpu else 'this machine'} ran out{asked}"
