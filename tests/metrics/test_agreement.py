"""Accuracies of joint classes and of their parts, and calibration, by hand."""

import pytest
import torch

from vidgan.metrics.intervals import (
    AttributeGrid,
    agreement,
    chance_accuracy,
    expected_calibration_error,
    per_class_agreement,
)

CLASSES = ("disc-up", "disc-rotate-left", "star-up", "star-rotate-left")


def test_a_grid_is_split_at_the_first_dash() -> None:
    grid = AttributeGrid.of(CLASSES)
    assert grid is not None
    assert grid.objects == ("disc", "star")
    assert grid.motions == ("rotate-left", "up")
    assert grid.object_of.tolist() == [0, 0, 1, 1]
    assert grid.motion_of.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    "classes",
    [
        ("archery", "bowling"),
        ("high-jump", "long-throw"),
        ("disc-up", "disc-down"),
        ("disc-up", "-down", "star-up", "star-down"),
        ("a-x", "a-y", "b-x", "b-x"),
    ],
)
def test_other_names_are_no_grid(classes: tuple[str, ...]) -> None:
    assert AttributeGrid.of(classes) is None
    probabilities = torch.eye(len(classes))
    labels = torch.arange(len(classes))
    expected = {"joint": 1.0, "object": None, "motion": None}
    assert agreement(probabilities, labels, classes) == expected


def test_parts_are_judged_by_their_own_probability() -> None:
    # Likeliest joint class disc-up, but star is likelier than disc: 0.55 against 0.45.
    p = torch.tensor([[0.40, 0.05, 0.28, 0.27]])
    assert agreement(p, torch.tensor([2]), CLASSES) == {"joint": 0, "object": 1, "motion": 1}
    assert agreement(p, torch.tensor([0]), CLASSES) == {"joint": 1, "object": 0, "motion": 1}


def test_per_class_and_chance_by_hand() -> None:
    p = torch.eye(4)[[0, 1, 1, 2]]
    labels = torch.tensor([0, 0, 1, 1])
    assert per_class_agreement(p, labels, CLASSES) == {"disc-up": 0.5, "disc-rotate-left": 0.5}
    assert chance_accuracy(torch.tensor([0, 1, 1, 1])) == 0.75


def test_calibration_error_by_hand() -> None:
    # Confidence 0.9, right half of the time; confidence 0.6, always right: (2 * 0.4 + 2 * 0.4) / 4.
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    labels = torch.tensor([0, 1, 0, 0])
    assert expected_calibration_error(p, labels) == pytest.approx(0.4, abs=1e-6)
    assert expected_calibration_error(torch.eye(2), torch.tensor([0, 1])) == 0
