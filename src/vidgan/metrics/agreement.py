"""Accuracy, calibration and, for classes named `<object>-<motion>`, accuracy of the two parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NUM_CALIBRATION_BINS = 15


@dataclass(frozen=True)
class AttributeGrid:
    """How joint classes `<object>-<motion>` divide into objects and motions.

    Attributes:
        objects, motions: sorted names.
        object_of, motion_of: int64 `[N]`, the index of each class's object and motion.
    """

    objects: tuple[str, ...]
    motions: tuple[str, ...]
    object_of: Tensor
    motion_of: Tensor

    @classmethod
    def of(cls, classes: Sequence[str]) -> "AttributeGrid | None":
        """The grid behind class names, or None unless they are a full product of two name lists.

        The first dash divides a name, so a motion's own name may hold dashes.
        """
        parts = [name.split("-", 1) for name in classes]
        if any(len(part) != 2 or not all(part) for part in parts):
            return None
        objects = tuple(sorted({part[0] for part in parts}))
        motions = tuple(sorted({part[1] for part in parts}))
        is_product = len({(a, b) for a, b in parts}) == len(objects) * len(motions) == len(parts)
        if not is_product or min(len(objects), len(motions)) < 2:
            return None
        object_of = torch.tensor([objects.index(part[0]) for part in parts])
        motion_of = torch.tensor([motions.index(part[1]) for part in parts])
        return cls(objects, motions, object_of, motion_of)


def agreement(
    probabilities: Tensor, labels: Tensor, classes: Sequence[str]
) -> dict[str, float | None]:
    """Share of clips that a judge assigns to the class they should show.

    Args:
        probabilities: `[M, N]`; objects and motions are read from their own marginal
            probabilities, not from the likeliest joint class.
        labels: int64 `[M]`.
        classes: N names.

    Returns:
        `joint`, `object` and `motion` in 0..1; the last two None if classes are not
        `<object>-<motion>`.
    """
    joint = _share(probabilities.argmax(1), labels)
    grid = AttributeGrid.of(classes)
    if grid is None:
        return {"joint": joint, "object": None, "motion": None}
    result: dict[str, float | None] = {"joint": joint}
    tables = {"object": (grid.object_of, grid.objects), "motion": (grid.motion_of, grid.motions)}
    for name, (part_of, names) in tables.items():
        marginal = probabilities.new_zeros(probabilities.shape[0], len(names))
        marginal.index_add_(1, part_of, probabilities)
        result[name] = _share(marginal.argmax(1), part_of[labels])
    return result


def per_class_agreement(
    probabilities: Tensor, labels: Tensor, classes: Sequence[str]
) -> dict[str, float]:
    """Joint accuracy for each class that occurs in `labels`; arguments as in `agreement`."""
    right = probabilities.argmax(1) == labels
    return {
        name: float(right[labels == index].double().mean())
        for index, name in enumerate(classes)
        if bool((labels == index).any())
    }


def expected_calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Mean gap between confidence and accuracy over 15 equal bins of confidence, in 0..1.

    (Guo et al. 2017, eq. 3.) Probabilities `[M, N]`, labels int64 `[M]`.
    """
    confidence, predicted = probabilities.double().max(1)
    right = (predicted == labels).double()
    bins = (confidence * NUM_CALIBRATION_BINS).long().clamp_max(NUM_CALIBRATION_BINS - 1)
    gaps = torch.zeros(NUM_CALIBRATION_BINS, dtype=torch.float64)
    gaps.index_add_(0, bins, confidence - right)
    return float(gaps.abs().sum() / labels.shape[0])


def chance_accuracy(labels: Tensor) -> float:
    """Accuracy of always naming the commonest of the int64 `labels`."""
    return float(labels.bincount().max()) / labels.shape[0]


def _share(predicted: Tensor, labels: Tensor) -> float:
    return float((predicted == labels).double().mean())
