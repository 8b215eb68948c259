"""Finding clips that nearly repeat an earlier one among hundreds of thousands.

Clips are near when their signatures are: see `quality`. Comparing all pairs would take days for
the largest sets, so clips lie in a grid of four coordinates, in each of which near clips differ by
no more than they do as a whole; only clips in adjacent cells are compared. Nothing is missed.
"""

import itertools

import numpy as np
import numpy.typing as npt

from vidgan.data.quality import SIGNATURE_SIDE, SIGNATURE_TIMES, Signature

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
        near = sorted(
            number
            for step in itertools.product((-1, 0, 1), repeat=len(cell))
            for number in self._places.get(tuple(np.add(cell, step)), ())
        )
        if near:
            others = np.stack([self._signatures[number] for number in near])
            matches = np.flatnonzero(self._are_near(signature, others))
            if len(matches):
                return self._names[near[matches[0]]]
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
