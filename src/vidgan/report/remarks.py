"""Remarks on many evaluations as few notes: one sentence of a kind, with the range of its numbers.

Remarks are of one kind where all is equal but their numbers, or the classes that they list. A
number stands alone: digits in names, dates and versions are words. `3 to 9` is a number too.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_DIGITS = r"-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_PLAIN = rf"(?<![\w.\-/])(?<![0-9],){_DIGITS}(?![\w\-/]|[.,][0-9])"
_NUMBER = re.compile(f"{_PLAIN}(?: to {_PLAIN})?")
_ITEM = r"[^,:()]+ \([0-9]{1,3}(?: to [0-9]{1,3})?%\)"
_CLASSES = re.compile(
    r"(?<=here that is |l ones do in |e assigns to )"
    rf"(?P<items>{_ITEM}(?:, {_ITEM})*)(?P<more> and (?:[0-9]+ )?more)?(?=[:,])"
)
_SEEDS = re.compile(r" \(([0-9]+) of ([0-9]+) seeds\)$")
MAX_NAMED = 3
"""Classes that a merged sentence lists."""


def of_seeds(seeds: Sequence[Iterable[str]]) -> list[str]:
    """The warnings of a system's seeds as its remarks; `(2 of 3 seeds)` where not all have one."""
    kinds = _Kinds()
    for number, warnings in enumerate(seeds):
        for warning in warnings:
            kinds.add(warning, str(number))
    return [
        kind.sentence()
        + (f" ({len(kind.owners)} of {len(seeds)} seeds)" if len(kind.owners) < len(seeds) else "")
        for kind in kinds.found.values()
    ]


def of_systems(remarks: Mapping[str, Sequence[str]]) -> tuple[list[str], dict[str, list[int]]]:
    """Notes under a table.

    Args:
        remarks: of each system, as `of_seeds` gives them.

    Returns:
        The notes, with the systems that have one in some seeds alone; and for each system the
        numbers of its notes, counted from 1.
    """
    kinds = _Kinds()
    shares: dict[tuple[str, ...], list[str]] = {}
    marks: dict[str, list[int]] = {}
    for label, said in remarks.items():
        for remark in said:
            share = _SEEDS.search(remark)
            key = kinds.add(_SEEDS.sub("", remark), label)
            if share:
                shares.setdefault(key, []).append(f"{label}: {share[1]} of {share[2]} seeds")
            index = list(kinds.found).index(key) + 1
            if index not in marks.setdefault(label, []):
                marks[label].append(index)
    notes = [
        kind.sentence() + (f" ({'; '.join(shares[key])})" if key in shares else "")
        for key, kind in kinds.found.items()
    ]
    return notes, marks


class _Parts(NamedTuple):
    """A sentence with a list of classes in its middle; without one, all of it is the head."""

    head: str
    classes: str = ""
    more: str = ""
    tail: str = ""

    @classmethod
    def of(cls, sentence: str) -> "_Parts":
        found = _CLASSES.search(sentence)
        if not found:
            return cls(sentence)
        more = found["more"] or ""
        return cls(sentence[: found.start()], found["items"], more, sentence[found.end() :])

    def kind(self) -> tuple[str, ...]:
        """What sentences of one kind have in common: all but numbers and classes."""
        head = _NUMBER.split(self.head)
        return (*head, "\0", *_NUMBER.split(self.tail)) if self.classes else tuple(head)


@dataclass
class _Kind:
    """Sentences that differ in numbers, or in the classes that they list, and whose they are."""

    parts: list[_Parts] = field(default_factory=list)
    owners: dict[str, None] = field(default_factory=dict)

    def sentence(self) -> str:
        """All of them as one."""
        ends = [
            _with_ranges(column)
            for column in zip(*((p.head, p.tail) for p in self.parts), strict=True)
        ]
        return ends[0] + _merged_classes(self.parts) + ends[1]


class _Kinds:
    """Sentences by their kind, in the order in which kinds appear."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, ...], _Kind] = {}

    def add(self, sentence: str, owner: str) -> tuple[str, ...]:
        """Count a sentence of a seed or system; returns its kind."""
        parts = _Parts.of(sentence)
        kind = self.found.setdefault(parts.kind(), _Kind())
        kind.parts.append(parts)
        kind.owners[owner] = None
        return parts.kind()


def _with_ranges(sentences: Sequence[str]) -> str:
    """Sentences of the same words as one, each number as the range of its values."""
    words = _NUMBER.split(sentences[0])
    columns = zip(*(_NUMBER.findall(sentence) for sentence in sentences), strict=True)
    ranges = [_ranged(numbers) for numbers in columns]
    return words[0] + "".join(a + b for a, b in zip(ranges, words[1:], strict=True))


def _ranged(numbers: Sequence[str]) -> str:
    """`0.5 to 12` of numbers and ranges as they are written, or one number if all are equal."""
    ends = {end for number in numbers for end in number.split(" to ")}
    in_order = sorted(ends, key=lambda text: (_value(text), text))
    return in_order[0] if len(in_order) == 1 else f"{in_order[0]} to {in_order[-1]}"


def _value(number: str) -> float:
    """A number, or the first one of a range."""
    return float(number.partition(" to ")[0].replace(",", ""))


def _merged_classes(lists: Sequence[_Parts]) -> str:
    """Lists of classes as one, those with the lowest shares first: `up (3 to 9%), down (4%)`."""
    if len({(parts.classes, parts.more) for parts in lists}) == 1:
        return lists[0].classes + lists[0].more
    shares: dict[str, list[str]] = {}
    for parts in lists:
        for item in parts.classes.split(", "):
            name, _, share = item.rpartition(" (")
            shares.setdefault(name, []).append(share.removesuffix("%)"))
    in_order = sorted(shares, key=lambda name: min(map(_value, shares[name])))
    named = ", ".join(f"{name} ({_ranged(shares[name])}%)" for name in in_order[:MAX_NAMED])
    is_whole = len(in_order) <= MAX_NAMED and not any(parts.more for parts in lists)
    return named if is_whole else f"{named} and more"
