"""Regular expressions from untrusted settings, limited so that no search runs forever.

Python tries every way in which repeats and alternatives can share a text, and a search cannot be
interrupted, so what might take too many steps is refused before it starts. A group inside a repeat
that can itself match in several ways needs exponentially many; else k repeats and alternatives need
at most (n + k + 1 choose k + 1) of them for n letters.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

from vidgan.errors import UserError

MAX_EXPRESSION = 1000
"""Letters of an expression."""
MAX_STEPS = 10**8
"""Ways that are tried in one text at most, which takes some seconds."""


def check_expression(expression: str, where: str) -> int:
    """Refuse an invalid regular expression, or one whose search may never end.

    Args:
        expression: of Python's `re`.
        where: what messages call it, such as a setting.

    Returns:
        How many of its parts can match in several ways.

    Raises:
        UserError: it is none, is too long, or repeats something that can match in several ways.
    """
    shown = f"{where}={expression[:100]}"
    if len(expression) > MAX_EXPRESSION:
        raise UserError(f"{shown}... is longer than {MAX_EXPRESSION} letters: give a shorter one")
    try:
        re.compile(expression)
        return _choices(re._parser.parse(expression), shown)  # type: ignore[attr-defined]
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"{shown} is not a regular expression ({error})") from error


def search(expression: str, text: str, where: str) -> "re.Match[str] | None":
    """The first match of an expression in a text.

    Raises:
        UserError: as `check_expression`, or so many ways to match a text of this length.
    """
    choices = check_expression(expression, where)
    if math.comb(len(text) + choices + 1, choices + 1) > MAX_STEPS:
        raise UserError(
            f"{where}={expression[:100]} may take forever in {text[:100]}, of {len(text)}"
            " letters: use fewer repeats such as * and +"
        )
    return re.search(expression, text)


def _choices(parts: Iterable[Any], shown: str) -> int:
    """Parts that can match in several ways; those of a parsed expression, at any depth."""
    count = 0
    for operation, value in parts:
        inner = sum(_choices(group, shown) for group in _groups(value))
        name = str(operation)
        if name.endswith("_REPEAT"):
            least, most, _ = value
            if inner and most > 1:
                raise UserError(
                    f"{shown} repeats something that itself repeats or has alternatives, which may"
                    " take forever: write it without a repeat inside of a repeat"
                )
            inner += least != most
        elif name == "BRANCH":
            inner += len(value[1]) - 1
        elif name == "GROUPREF_EXISTS":
            inner += 1
        count += inner
    return count


def _groups(value: Any) -> list[Any]:
    """The parsed groups inside of an operation's value."""
    if isinstance(value, re._parser.SubPattern):  # type: ignore[attr-defined]
        return [value]
    if isinstance(value, list | tuple):
        return [group for item in value for group in _groups(item)]
    return []
