"""Settings as frozen dataclasses, plain mappings and YAML text, and the checks between them.

Reading is strict: a misspelt key, a wrong type or a missing value is one sentence that names the
place and, where one is close, the setting that was probably meant.
"""

import copy
import dataclasses
import difflib
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from vidgan.core.yaml_text import dump_yaml, load_yaml, parse_yaml
from vidgan.errors import UserError

# ------------------------------------------------------------------------------------------------
# Ranges of settings: they stand beside the field's type, and one function checks them all.
#
#     width: Annotated[int, Range(1, 4096)] = 64
#
# What has no range of its own is still a number that a machine can hold, or a text that a file can.

MAX_INT = 2**53
"""Larger whole numbers are not exact as floats, and no setting needs them."""
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
            raise UserError(f"{key} must be {_wanted(allowed)}, not {_shown(value)}")
        if allowed is not None and not allowed.holds(value):
            raise UserError(f"{key}={value} must be {allowed.in_words()}")


def _wanted(allowed: Range | None) -> str:
    bounds = allowed.in_words() if allowed is not None else ""
    return f"a finite number {bounds}".rstrip()


def _shown(value: float) -> str:
    if isinstance(value, int):
        return f"a number of {len(str(value))} digits"
    return "nan (not a number)" if math.isnan(value) else f"{value} (infinite)"


# ------------------------------------------------------------------------------------------------
# Settings as frozen dataclasses, plain mappings and YAML text, and the checks between them

__all__ = [
    "NOT_SET",
    "Difference",
    "Variants",
    "apply_overrides",
    "closest",
    "differences",
    "dump_yaml",
    "from_dict",
    "load_yaml",
    "merged",
    "to_dict",
]

T = TypeVar("T")

_SHOWN = 100
"""Characters of a value in a message."""
NOT_SET = "(not set)"
HASH_DIGITS = 16
"""Length of `plain_hash`."""
"""Stands in a `Difference` for a key that one side lacks."""


class Difference(NamedTuple):
    """A dotted key and its two values."""

    key: str
    first: Any
    second: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variants:
    """How a field declared with a base class finds its concrete class.

    Attributes:
        base: the declared class of such fields.
        class_of: concrete class of a name; raises UserError for a name it does not know.
        name_of: name of a concrete class.
        key: the key of the mapping that holds the name.
        default: the name where the mapping has none; None makes the key compulsory.
    """

    base: type
    class_of: Callable[[str], type]
    name_of: Callable[[type], str]
    key: str = "name"
    default: str | None = None


def from_dict(
    cls: type[T],
    mapping: Mapping[str, Any],
    where: str = "settings",
    variants: Sequence[Variants] = (),
) -> T:
    """Build the dataclass `cls` from plain values, checking every key and every type.

    Understood are nested dataclasses, unions, `Literal`, tuples, lists, `dict[str, X]`, `Path` and
    the plain scalars. An int is accepted for a float and becomes one; nothing else is converted.

    Args:
        cls: a dataclass whose fields are annotated.
        mapping: plain values, as `load_yaml` returns them.
        where: what messages call the source, such as a file name.
        variants: concrete classes of fields that are declared with a base class.

    Raises:
        UserError: an unknown key, a value of another type or a missing value.

    Example:
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Adam:
        ...     lr: float = 0.001
        >>> from_dict(Adam, {"lr": 1})
        Adam(lr=1.0)
    """
    built = _Reader(where, tuple(variants), cls).dataclass(cls, mapping, "")
    return typing.cast(T, built)


def to_dict(config: Any, variants: Sequence[Variants] = ()) -> dict[str, Any]:
    """The dataclass instance `config` as nested plain values that `from_dict` reads back."""
    plain: dict[str, Any] = {}
    for variant in variants:
        if isinstance(config, variant.base):
            plain[variant.key] = variant.name_of(type(config))
    for field in dataclasses.fields(config):
        plain[field.name] = _plain(getattr(config, field.name), variants)
    return plain


def apply_overrides(mapping: Mapping[str, Any], words: Iterable[str]) -> dict[str, Any]:
    """A copy of `mapping` with `a.b=value` words applied in order; values are read as YAML.

    Raises:
        UserError: a word without `=`, key or value, a value that is not YAML, or a key below a
            plain value.

    Example:
        >>> apply_overrides({"loss": {"name": "swgan"}}, ["loss.weight=1e-3", "seed=4"])
        {'loss': {'name': 'swgan', 'weight': 0.001}, 'seed': 4}
    """
    result = copy.deepcopy(dict(mapping))
    for word in words:
        key, separator, text = word.partition("=")
        parents = key.split(".")
        if not separator or not all(parents):
            raise UserError(f"{word!r} is not a setting; write it as key=value, such as seed=1")
        if not text.strip():
            raise UserError(f"{key}= has nothing behind it: write {key}=VALUE, or leave it out")
        leaf = parents.pop()
        target = result
        for depth, parent in enumerate(parents, start=1):
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                below = ".".join(parents[:depth])
                raise UserError(f"{word!r}: {below} is a plain value, so it cannot contain {key}")
        target[leaf] = parse_yaml(text, f"the value of {word!r}")
    return result


def merged(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `base` with the values of `other`, group by group.

    Example:
        >>> merged({"loss": {"name": "swgan"}, "seed": 1}, {"loss": {"weight": 2}})
        {'loss': {'name': 'swgan', 'weight': 2}, 'seed': 1}
    """
    result = dict(base)
    for key, value in other.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = merged(below, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Dotted keys whose values differ, in the order of `first`; lists count as one value."""
    found = []
    for key in dict.fromkeys([*first, *second]):
        one, other = first.get(key, NOT_SET), second.get(key, NOT_SET)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            inner = differences(one, other)
            found += [Difference(f"{key}.{item.key}", *item[1:]) for item in inner]
        elif one != other:
            found.append(Difference(str(key), one, other))
    return found


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` most probably stands for, or None if nothing is near."""
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


def shortened(value: Any) -> str:
    """A value as messages show it, cut where it would fill the terminal."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _plain(value: Any, variants: Sequence[Variants]) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value, variants)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, variants) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, variants) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


@dataclasses.dataclass(frozen=True)
class _Reader:
    """One reading of a mapping: its source, its variants and the class at its root."""

    where: str
    variants: tuple[Variants, ...]
    root: type

    def value(self, declared: Any, value: Any, key: str) -> Any:
        """`value` as the type `declared`, or a sentence that names `key`."""
        origin, args = typing.get_origin(declared), typing.get_args(declared)
        if declared is Any:
            return value
        if origin in (typing.Union, types.UnionType):
            return self.union(args, value, key)
        if origin is Literal:
            return self.literal(args, value, key)
        if origin in (tuple, list):
            return self.sequence(origin, args, value, key)
        if origin in (dict, Mapping) and isinstance(value, Mapping):
            return {
                str(name): self.value(args[1], item, f"{key}.{name}")
                for name, item in value.items()
            }
        if dataclasses.is_dataclass(declared) and isinstance(declared, type):
            return self.dataclass(declared, value, key)
        if declared is Path and isinstance(value, str):
            return Path(value)
        if declared is float and type(value) is int and abs(value) < MAX_INT:
            return float(value)
        if isinstance(declared, type) and type(value) is declared:
            return value
        raise self.wrong_type(declared, value, key)

    def dataclass(self, cls: type, value: Any, key: str) -> Any:
        """An instance of `cls` from the mapping `value`."""
        if not isinstance(value, Mapping):
            raise self.wrong_type(cls, value, key)
        values = {str(name): item for name, item in value.items()}
        for variant in self.variants:
            if cls is variant.base:
                cls = self.variant(variant, values, key)
        hints = typing.get_type_hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        prefix = f"{key}." if key else ""
        for name in values:
            if name not in fields:
                raise self.unknown(name, fields, prefix)
        for name, field in fields.items():
            has_default = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
            if name not in values and not has_default:
                raise UserError(f"{self.where}: the setting {prefix}{name} is missing")
        read = {name: self.value(hints[name], v, prefix + name) for name, v in values.items()}
        try:
            check_values(cls, read, prefix)
        except UserError as error:
            raise UserError(f"{self.where}: {error}") from error
        return cls(**read)

    def variant(self, variant: Variants, values: dict[str, Any], key: str) -> type:
        """The concrete class that `values` names; its name is taken out of `values`."""
        name = values.pop(variant.key, variant.default)
        if not isinstance(name, str):
            raise UserError(f"{self.where}: {key}.{variant.key} is missing or not a word")
        try:
            return variant.class_of(name)
        except UserError as error:
            raise UserError(f"{self.where}: {error}") from error

    def union(self, choices: tuple[Any, ...], value: Any, key: str) -> Any:
        """`value` as the first member it fits without conversion, else as the first it fits."""
        if value is None and type(None) in choices:
            return None
        members = [choice for choice in choices if choice is not type(None)]
        if len(members) == 1:
            return self.value(members[0], value, key)
        if type(value) in members:
            return value
        structured = [m for m in members if isinstance(value, Mapping) == _takes_mapping(m)]
        for member in structured:
            try:
                return self.value(member, value, key)
            except UserError:
                if len(structured) == 1:
                    raise
        raise self.wrong_type(typing.Union[choices], value, key)  # noqa: UP007

    def literal(self, choices: tuple[Any, ...], value: Any, key: str) -> Any:
        """`value` if it is one of `choices`, of the same type."""
        for choice in choices:
            if type(value) is type(choice) and value == choice:
                return value
        listed = ", ".join(str(choice) for choice in choices)
        guess = closest(str(value), map(str, choices))
        hint = f"; did you mean {guess}?" if guess else ""
        raise UserError(
            f"{self.where}: {key} must be one of {listed}, not {shortened(value)}{hint}"
        )

    def sequence(self, origin: type, args: tuple[Any, ...], value: Any, key: str) -> Any:
        """A list of plain values as a tuple or list of the declared element types."""
        if not isinstance(value, (list, tuple)):
            raise self.wrong_type(origin[args], value, key)  # type: ignore[index]
        if origin is list or args[-1] is Ellipsis:
            args = (args[0],) * len(value)
        elif len(args) != len(value):
            raise UserError(f"{self.where}: {key} needs {len(args)} values, not {len(value)}")
        pairs = enumerate(zip(args, value, strict=True))
        return origin(self.value(item_type, item, f"{key}[{i}]") for i, (item_type, item) in pairs)

    def unknown(self, name: str, fields: Iterable[str], prefix: str) -> UserError:
        """The sentence for a key that no field has."""
        guess = closest(name, fields)
        if guess is None:
            same_leaf = [k for k in self.all_keys(self.root) if k.rpartition(".")[2] == name]
            suggestion = same_leaf[0] if same_leaf else None
        else:
            suggestion = prefix + guess
        hint = f"did you mean {suggestion}?" if suggestion else f"known are {', '.join(fields)}"
        return UserError(f"{self.where}: there is no setting {prefix}{name}; {hint}")

    def all_keys(self, cls: type, prefix: str = "") -> list[str]:
        """Dotted names of every setting below `cls` whose class is known without a mapping."""
        keys = []
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            keys.append(prefix + field.name)
            declared = hints[field.name]
            if dataclasses.is_dataclass(declared) and isinstance(declared, type):
                keys += self.all_keys(declared, f"{prefix}{field.name}.")
        return keys

    def wrong_type(self, declared: Any, value: Any, key: str) -> UserError:
        """The sentence for a value of another type than the declared one."""
        shown = "a group of settings" if isinstance(value, Mapping) else shortened(value)
        if isinstance(value, str) and value.strip("+-.").lower() in _NOT_FINITE:
            shown += ", which is not finite"
        subject = key or "the whole"
        return UserError(f"{self.where}: {subject} must be {_in_words(declared)}, not {shown}")


_NOT_FINITE = frozenset({"nan", "inf", "infinity"})
"""Words that YAML takes for text without a dot in front."""

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    type(None): "null",
}


def _in_words(declared: Any) -> str:
    origin, args = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_in_words(arg) for arg in args)
    if origin is Literal:
        return "one of " + ", ".join(str(arg) for arg in args)
    if origin in (tuple, list):
        return "a list such as [1, 2]" if args[0] in (int, float) else "a list"
    if origin in (dict, Mapping) or dataclasses.is_dataclass(declared):
        return "a group of settings"
    return _WORDS.get(declared, str(declared))


def _takes_mapping(declared: Any) -> bool:
    return typing.get_origin(declared) in (dict, Mapping) or dataclasses.is_dataclass(declared)


def plain_hash(value: Any) -> str:
    """First hex digits of SHA-256 over plain values, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]
