"""Ranges of settings: they stand beside the field's type, and one function checks them all.

    width: Annotated[int, Range(1, 4096)] = 64

What has no range of its own is still a number that a machine can hold, or a text that a file can.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

from vidgan.errors import UserError

MAX_INT = 2**53
"""Whole numbers beyond it are no exact floats, and no setting means them."""
MAX_WORD = 4096
"""Longest text of a setting: the longest path that Linux takes."""
MAX_ENTRIES = 1024
"""Longest list of a setting."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Values that a field may have, or every entry of it if it is a list; None is always allowed.

    Attributes:
        least: smallest value.
        most: largest value.
        above: bound that is excluded itself.
        below: likewise.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether a value lies inside; NaN never does."""
        return self.least <= value <= self.most and self.above < value < self.below

    def in_words(self) -> str:
        """The range as the end of `must be ...`."""
        if -math.inf < self.least and self.most < math.inf:
            return f"in {self.least:g} to {self.most:g}"
        bounds = [
            (f"at least {self.least:g}", self.least > -math.inf),
            (f"above {self.above:g}", self.above > -math.inf),
            (f"at most {self.most:g}", self.most < math.inf),
            (f"below {self.below:g}", self.below < math.inf),
        ]
        return " and ".join(words for words, is_set in bounds if is_set)


ANY_INT = Range(-MAX_INT, MAX_INT)
ANY_FLOAT = Range(above=-math.inf, below=math.inf)

Width = Annotated[int, Range(1, 65_536)]
"""Channels, features: a layer with more has no room on any machine."""
Latent = Annotated[int, Range(0, 65_536)]
"""Length of a latent; models that continue given frames may have none."""


def check_fields(config: Any, prefix: str) -> None:
    """Check every field of a dataclass instance by the ranges of its class.

    Raises:
        UserError: names the first value that is out of its range.
    """
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    check_values(type(config), values, f"{prefix}." if prefix else "")


def check_values(cls: type, values: Mapping[str, Any], prefix: str) -> None:
    """Check the values of some fields of a dataclass, before it is made of them."""
    hints = _hints(cls)
    for name, value in values.items():
        metadata = getattr(hints[name], "__metadata__", ())
        ranges = [item for item in metadata if isinstance(item, Range)]
        _check(value, ranges[0] if ranges else None, f"{prefix}{name}")


@lru_cache(maxsize=256)
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _check(value: Any, allowed: Range | None, key: str) -> None:
    if isinstance(value, (tuple, list)):
        if len(value) > MAX_ENTRIES:
            raise UserError(f"{key} has {len(value)} entries, at most {MAX_ENTRIES} make sense")
        for entry in value:
            _check(entry, allowed, key)
    elif isinstance(value, str):
        if len(value) > MAX_WORD or chr(0) in value:
            what = "a zero character" if chr(0) in value else f"more than {MAX_WORD} characters"
            raise UserError(f"{key} has {what}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        basic = ANY_INT if isinstance(value, int) else ANY_FLOAT
        if not basic.holds(value):
            shown = f"a number of {len(str(value))} digits" if isinstance(value, int) else value
            raise UserError(f"{key} must be a number that is of use, not {shown}")
        if allowed is not None and not allowed.holds(value):
            raise UserError(f"{key}={value} must be {allowed.in_words()}")
