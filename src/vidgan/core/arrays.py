"""Tensors out of what callers hold: NumPy arrays, lists and numbers."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidgan.errors import UserError

Values = Tensor | npt.NDArray[Any] | Sequence[Any]
Labels = Values | int


def as_tensor(values: Values | float, name: str) -> Tensor:
    """`values` as a tensor; one that is a tensor already is returned as it is.

    Raises:
        UserError: they are no numbers, or rows of unlike length; `name` says which values.
    """
    if isinstance(values, Tensor):
        return values
    try:
        array = np.array(values, order="C")
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be a tensor, an array or lists of one length") from error
    if array.dtype.kind not in "biuf":
        shown = type(values).__name__
        raise UserError(f"{name} must be numbers in a tensor, an array or a list, not {shown}")
    if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
        # torch computes with few of the other whole numbers.
        array = array.astype(np.int64)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def as_labels(labels: Labels, count: int) -> Tensor:
    """Class numbers as int64 `[B]`; a single number serves all `count` clips.

    Raises:
        UserError: they are no whole numbers.
    """
    found = as_tensor(labels, "labels")
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise UserError(f"labels must be whole numbers, one for every clip, not {found.dtype}")
    return (found.expand(count) if found.dim() == 0 else found).to(torch.int64)


def as_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """Seeds as plain whole numbers.

    Raises:
        UserError: one number, which may mean a seed or how many, or what are no whole numbers.
    """
    try:
        return tuple(operator.index(seed) for seed in seeds)
    except TypeError:
        example = f"[{seeds}] for the clip of this seed, range({seeds}) for so many clips"
        hint = example if isinstance(seeds, int) else "such as [0, 1, 2] or range(3)"
        raise UserError(f"seeds must be a list of whole numbers: {hint}") from None
