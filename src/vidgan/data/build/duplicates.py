"""Finding clips that nearly repeat an earlier one among hundreds of thousands.

Clips are near when their signatures are: see `quality`. Comparing all pairs would take days for
the largest sets, so clips are searched by a few coordinates in which near clips differ by no more
than they do as a whole; only those that are near there are compared. Nothing is missed.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vidgan.data.build.encode import EncodedClip, Rejected
from vidgan.data.build.quality import SIGNATURE_SIDE, SIGNATURE_TIMES, QualityConfig, Signature
from vidgan.data.packed.writer import SourceRecord
from vidgan.data.sources.source import Source

_CONTRAST_SHARE = 0.25
"""Low-contrast clips, such as night scenes, must be this much nearer: they all look alike."""
_ROUNDING = 0.5
"""Signatures are rounded to whole levels; copies of a flat image may differ by that much."""


_NUM_AXES = 16
"""Coordinates of the index; more separate more clips, and are slower to search."""
_MIN_TAIL = 1024
"""Clips that are remembered without the tree; later a sixteenth of all."""
_FIT_CLIPS = 4096
"""Clips that the axes are fitted to."""


class DuplicateFinder:
    """Stores clips and finds the first one that a new clip nearly repeats.

    Args:
        distance: largest root mean square difference of signatures, in levels of 255.
    """

    def __init__(self, distance: float) -> None:
        self._distance = distance
        self._names: list[str] = []
        self._index = _Index(SIGNATURE_TIMES * SIGNATURE_SIDE**2)

    def find_or_add(self, name: str, signature: Signature) -> str | None:
        """The name of the first clip that this one nearly repeats; else remember it."""
        # The limit of a pair is that of its clip of less contrast, so no pair's is larger.
        near = self._index.within(signature, float(self._limits(signature.std())))
        if len(near):
            matches = near[self._are_near(signature, self._index.signatures[near])]
            if len(matches):
                return self._names[int(matches[0])]
        self._names.append(name)
        self._index.add(signature)
        return None

    def _are_near(self, signature: Signature, others: Signature) -> npt.NDArray[np.bool_]:
        differences = others.astype(np.float32) - signature
        distances = np.sqrt((differences**2).mean(axis=1))
        contrasts = np.minimum(others.std(axis=1), signature.std())
        near: npt.NDArray[np.bool_] = distances <= self._limits(contrasts)
        return near

    def _limits(self, contrasts: npt.ArrayLike) -> npt.NDArray[np.float64]:
        shares = _CONTRAST_SHARE * np.asarray(contrasts)
        limits: npt.NDArray[np.float64] = np.minimum(self._distance, shares) + _ROUNDING
        return limits


REPEATS = "nearly repeats "
"""What is said of a near duplicate, before the name of the clip that it repeats."""


class _Index:
    """Signatures by number, searched by coordinates that never part two more than they differ.

    The coordinates are the projections on the axes along which the signatures vary most, and what
    length remains beside them. Most lie in a tree; the newest ones, until there are enough to build
    it again, in a list.
    """

    def __init__(self, length: int) -> None:
        self._mean = np.zeros(length)
        self._axes = np.zeros((length, _NUM_AXES))
        self._tree: Any = None
        self._num_in_tree = 0
        self._count = 0
        self._signatures = np.empty((_MIN_TAIL, length), np.uint8)
        self._points = np.empty((_MIN_TAIL, _NUM_AXES + 1))

    @property
    def signatures(self) -> Signature:
        """uint8 `[M, F]`."""
        return self._signatures[: self._count]

    def add(self, signature: Signature) -> None:
        """Append one."""
        if self._count == len(self._signatures):
            self._signatures = np.concatenate((self._signatures, np.empty_like(self._signatures)))
            self._points = np.concatenate((self._points, np.empty_like(self._points)))
        self._signatures[self._count] = signature
        self._points[self._count] = self._place(signature)
        self._count += 1
        if self._count - self._num_in_tree >= max(_MIN_TAIL, self._count // 16):
            self._build()

    def within(self, signature: Signature, distance: float) -> npt.NDArray[np.int64]:
        """Ascending numbers, among them all of signatures within a root mean square distance."""
        point = self._place(signature)
        # The length of a difference, and a little more for its rounding.
        radius = distance * len(signature) ** 0.5 + 1e-3
        tail = self._points[self._num_in_tree : self._count] - point
        late = np.flatnonzero(np.einsum("ij,ij->i", tail, tail) <= radius**2)
        early = self._tree.query_ball_point(point, radius) if self._tree else []
        return np.concatenate((np.sort(np.array(early, np.int64)), late + self._num_in_tree))

    def _place(self, signatures: Signature) -> npt.NDArray[np.float64]:
        centred = signatures - self._mean
        along = centred @ self._axes
        # Of the axes; before the first are fitted they are zeros, and everything remains.
        rest = (centred**2).sum(axis=-1) - (along**2).sum(axis=-1)
        return np.concatenate((along, np.sqrt(np.maximum(rest, 0))[..., None]), axis=-1)

    def _build(self) -> None:
        from scipy.spatial import cKDTree

        stride = -(-self._count // _FIT_CLIPS)
        sample = self.signatures[::stride].astype(np.float64)
        self._mean = sample.mean(axis=0)
        centred = sample - self._mean
        self._axes = np.linalg.eigh(centred.T @ centred)[1][:, -_NUM_AXES:]
        for start in range(0, self._count, _FIT_CLIPS):
            block = slice(start, min(start + _FIT_CLIPS, self._count))
            self._points[block] = self._place(self.signatures[block])
        self._tree, self._num_in_tree = cKDTree(self._points[: self._count]), self._count


class DuplicateGate:
    """Notes or drops clips that nearly repeat an earlier one, as `config.duplicates` says.

    Args:
        config: the filter and its threshold.
        sources: all videos, in the order in which they come.
    """

    def __init__(self, config: QualityConfig, sources: Sequence[Source]) -> None:
        self._config = config
        self._sources = sources
        self._finder = DuplicateFinder(config.duplicate_distance)

    def judge(self, number: int, clip: EncodedClip) -> EncodedClip | Rejected:
        """The clip of source `number` with a flaw more, or the reason why it is dropped."""
        source = self._sources[number]
        first = self._finder.find_or_add(source.name, np.frombuffer(clip.signature, np.uint8))
        if first is None:
            return clip
        what = f"{REPEATS}{first}"
        if self._config.duplicates == "drop":
            return Rejected(what, clip.stored_frames)
        return replace(clip, flaws=clip.flaws | {"duplicates": what})

    def remember(self, record: SourceRecord) -> None:
        """Register a clip that an interrupted build has already judged."""
        if record["reason"] is None and "duplicates" not in record["flaws"]:
            signature = np.frombuffer(bytes.fromhex(record["signature"]), np.uint8)
            self._finder.find_or_add(self._sources[record["source"]].name, signature)
