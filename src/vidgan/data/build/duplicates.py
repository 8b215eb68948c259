"""Finding clips that nearly repeat an earlier one among hundreds of thousands.

Clips are near when their signatures are: see `quality`. Comparing all pairs would take days for
the largest sets, so clips lie in a grid of four coordinates, in each of which near clips differ by
no more than they do as a whole; only clips in adjacent cells are compared. Nothing is missed.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vidgan.data.build.encode import EncodedClip, Rejected
from vidgan.data.build.quality import SIGNATURE_SIDE, SIGNATURE_TIMES, QualityConfig, Signature
from vidgan.data.sources.source import Source

_CONTRAST_SHARE = 0.25
"""Clips of little contrast, such as nights, must be as much nearer: they all look alike."""
_ROUNDING = 0.5
"""Signatures are rounded to whole levels; copies of a flat picture may differ by that much."""


class DuplicateFinder:
    """Remembers clips and finds the first one that a new clip nearly repeats.

    Args:
        distance: Largest root mean square difference of signatures, in levels of 255.
    """

    def __init__(self, distance: float) -> None:
        self._distance = distance
        self._cell = distance + _ROUNDING
        self._names: list[str] = []
        self._signatures: list[Signature] = []
        self._places: dict[tuple[int, ...], list[int]] = {}

    def find_or_add(self, name: str, signature: Signature) -> str | None:
        """The name of the first clip that this one nearly repeats; else remember it."""
        cell = self._cell_of(signature)
        near: list[int] = sorted(
            number
            for step in itertools.product((-1, 0, 1), repeat=len(cell))
            for number in self._places.get(tuple(np.add(cell, step)), ())
        )
        if near:
            others = np.stack([self._signatures[number] for number in near])
            matches = np.flatnonzero(self._are_near(signature, others))
            if len(matches):
                return self._names[near[int(matches[0])]]
        self._places.setdefault(cell, []).append(len(self._names))
        self._names.append(name)
        self._signatures.append(signature)
        return None

    def _are_near(self, signature: Signature, others: Signature) -> npt.NDArray[np.bool_]:
        differences = others.astype(np.float32) - signature
        distances = np.sqrt((differences**2).mean(axis=1))
        contrasts = np.minimum(others.std(axis=1), signature.std())
        limits = np.minimum(self._distance, _CONTRAST_SHARE * contrasts) + _ROUNDING
        near: npt.NDArray[np.bool_] = distances <= limits
        return near

    def _cell_of(self, signature: Signature) -> tuple[int, ...]:
        """The cell of the brightness and of its changes to the right, downwards and in time.

        Each is the product with a vector of +1 and -1, and these are orthogonal: divided by their
        length, none of the products of two clips can differ by more than the distance.
        """
        values = signature.reshape(SIGNATURE_TIMES, SIGNATURE_SIDE, SIGNATURE_SIDE)
        whole = values.mean()
        coordinates = (
            whole,
            values[:, :, SIGNATURE_SIDE // 2 :].mean() - whole,
            values[:, SIGNATURE_SIDE // 2 :].mean() - whole,
            values[SIGNATURE_TIMES // 2 :].mean() - whole,
        )
        return tuple(int(value // self._cell) for value in coordinates)


class DuplicateGate:
    """Notes or drops clips that nearly repeat an earlier one, as `config.duplicates` says.

    Args:
        config: The filter and its threshold.
        sources: All videos, in the order in which they come.
    """

    def __init__(self, config: QualityConfig, sources: Sequence[Source]) -> None:
        self._config = config
        self._sources = sources
        self._split_of = {source.name: source.split for source in sources}
        self._finder = DuplicateFinder(config.duplicate_distance)

    def judge(self, number: int, clip: EncodedClip) -> EncodedClip | Rejected:
        """The clip of source `number` with a flaw more, or the reason why it is dropped."""
        source = self._sources[number]
        first = self._finder.find_or_add(source.name, np.frombuffer(clip.signature, np.uint8))
        if first is None:
            return clip
        what = f"nearly repeats {first}"
        if self._split_of[first] != source.split:
            what += f" of the split {self._split_of[first]}"
        if self._config.duplicates == "drop":
            return Rejected(what, clip.stored_frames)
        return replace(clip, flaws=clip.flaws | {"duplicates": what})

    def remember(self, record: dict[str, Any]) -> None:
        """Take a clip into account that an interrupted build has judged."""
        if record["reason"] is None and "duplicates" not in record["flaws"]:
            signature = np.frombuffer(bytes.fromhex(record["signature"]), np.uint8)
            self._finder.find_or_add(self._sources[record["source"]].name, signature)
