"""Warnings of many evaluations as few notes: one sentence a kind, with the range of its numbers."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
_NAMES = re.compile(r"(?<= where that is ).+?(?=: )|(?<= as real ones do in ).+?(?=: )")
_SOME = "one of several"


@dataclass
class Kind:
    """Warnings that differ in numbers, or in the classes that they list.

    Attributes:
        sentences: all of them.
        seeds: of each system that has them: how many seeds do, and how many there are.
    """

    sentences: list[str] = field(default_factory=list)
    seeds: list[tuple[int, int]] = field(default_factory=list)

    def note(self) -> str:
        """All as one sentence: `is 48% ...` and `is 58% ...` become `is 48 to 58% ...`."""
        sentence = merged(self.sentences)
        if all(has == all_of_them for has, all_of_them in self.seeds):
            return sentence
        has, of = (
            ranged([str(count) for count in counts]) for counts in zip(*self.seeds, strict=True)
        )
        return f"{sentence} ({has} of {of} seeds)"


def shared_notes(systems: Sequence[Sequence[Iterable[str]]]) -> list[list[str]]:
    """The notes of each system.

    Args:
        systems: for each system the warnings of each of its seeds.

    Returns:
        For each system its notes; warnings of one kind are the same note in all of them.
    """
    kinds: dict[str, Kind] = {}
    found = [[{_words(s): s for s in warnings} for warnings in seeds] for seeds in systems]
    for seeds in found:
        for words in dict.fromkeys(words for seed in seeds for words in seed):
            kind = kinds.setdefault(words, Kind())
            sentences = [seed[words] for seed in seeds if words in seed]
            kind.sentences += sentences
            kind.seeds.append((len(sentences), len(seeds)))
    notes = {words: kind.note() for words, kind in kinds.items()}
    return [
        [notes[words] for words in dict.fromkeys(words for seed in seeds for words in seed)]
        for seeds in found
    ]


def merged(sentences: Sequence[str]) -> str:
    """Sentences of the same words as one, each number as the range of its values."""
    if len({found.group() for s in sentences if (found := _NAMES.search(s))}) > 1:
        sentences = [_NAMES.sub(_SOME, sentence) for sentence in sentences]
    columns = zip(*(_NUMBER.findall(sentence) for sentence in sentences), strict=True)
    ranges = map(ranged, columns)
    return _NUMBER.sub(lambda _: next(ranges), sentences[0])


def ranged(numbers: Sequence[str]) -> str:
    """`0.5 to 12` of numbers as they are written, or one number if all are equal."""
    in_order = sorted(set(numbers), key=lambda text: float(text.replace(",", "")))
    return in_order[0] if len(in_order) == 1 else f"{in_order[0]} to {in_order[-1]}"


def _words(sentence: str) -> str:
    """What sentences of one kind have in common."""
    return _NUMBER.sub("#", _NAMES.sub(_SOME, sentence))
