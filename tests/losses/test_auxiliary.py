"""Auxiliary losses by hand."""

import pytest
import torch
from torch import Tensor, nn

from vidgan.losses.auxiliary import (
    AuxiliaryInputs,
    FeatureMatching,
    FirstFrames,
    MaskSparsity,
    Orthogonality,
    Pixels,
)
from vidgan.models.base import Scores


def inputs(
    parts: dict[str, Tensor],
    real: Tensor,
    context: Tensor | None = None,
    encodings: tuple[Tensor, Tensor] | None = None,
    generator: nn.Module | None = None,
) -> AuxiliaryInputs:
    realness = torch.zeros(len(real), 1)
    fake, true = encodings or (None, None)
    return AuxiliaryInputs(
        parts, context, real, None, {"d": Scores(realness, None, fake)},
        {"d": Scores(realness, None, true)}, generator or nn.Identity(),
    )  # fmt: skip


CLIP = torch.zeros(1, 3, 2, 1, 2)
REAL = torch.full_like(CLIP, 0.5)


def test_mask_is_averaged() -> None:
    mask = torch.tensor([0.2, 0.4, 0.6, 0.8]).reshape(1, 1, 2, 1, 2)
    assert float(MaskSparsity()(inputs({"clip": CLIP, "mask": mask}, REAL))) == pytest.approx(0.5)
    assert MaskSparsity().weight == 0.1
    with pytest.raises(ValueError, match="makes a mask"):
        MaskSparsity()(inputs({"clip": CLIP}, REAL))


def test_first_frames_compare_given_frames_only() -> None:
    clip = torch.cat([torch.full((1, 3, 1, 1, 2), 0.25), torch.full((1, 3, 1, 1, 2), 9.0)], dim=2)
    at = inputs({"clip": clip}, REAL, context=torch.full((1, 3, 1, 1, 2), -0.25))
    assert float(FirstFrames()(at)) == pytest.approx(0.5)
    assert float(FirstFrames(distance="mse")(at)) == pytest.approx(0.25)
    assert FirstFrames().weight == 10
    with pytest.raises(ValueError, match="given frames"):
        FirstFrames()(inputs({"clip": clip}, REAL))


def test_pixels_compare_colours_or_grey_values() -> None:
    # Red 1 above, green 0.21 / 0.72 below: of equal grey.
    red, green = torch.zeros_like(CLIP), torch.zeros_like(CLIP)
    red[:, 0] = 1.0
    green[:, 1] = 0.21 / 0.72
    at = inputs({"clip": red}, green, context=CLIP)
    assert float(Pixels(space="grey")(at)) == pytest.approx(0.0, abs=1e-12)
    assert float(Pixels()(at)) == pytest.approx((1 + (0.21 / 0.72) ** 2) / 3)
    assert float(Pixels(distance="l1")(at)) == pytest.approx((1 + 0.21 / 0.72) / 3)
    assert Pixels().weight == 1000
    with pytest.raises(ValueError, match="have ground truth"):
        Pixels()(inputs({"clip": red}, green))


def test_feature_matching_compares_means() -> None:
    fake = torch.tensor([[0.0, 2.0], [2.0, 2.0]])  # mean 1, 2
    real = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # mean 1, 0
    at = inputs({"clip": CLIP}, torch.cat([REAL, REAL]), encodings=(fake, real))
    assert float(FeatureMatching()(at)) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="encodings"):
        FeatureMatching()(inputs({"clip": CLIP}, REAL))


@pytest.mark.parametrize("tall", [False, True])
def test_orthogonality_sums_products_of_different_filters(tall: bool) -> None:
    linear = nn.Linear(2, 3 if tall else 2).double()
    conv = nn.Conv2d(1, 2, (1, 3)).double()
    rows = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 2.0]][: len(linear.weight)])
    with torch.no_grad():
        linear.weight.copy_(rows)
        conv.weight.copy_(torch.tensor([[1.0, 0.0, 2.0], [3.0, 5.0, 0.0]])[:, None, None])
    network = nn.Sequential(linear, conv, nn.Embedding(4, 5), nn.BatchNorm2d(3)).double()
    term = Orthogonality()
    # Each pair counts twice: (1)^2 and, with the third row, (4)^2 and (-2)^2; 3^2 of the other one.
    expected = 2 * (1 + (16 + 4 if tall else 0)) + 2 * 9
    value = term(inputs({"clip": CLIP}, REAL, generator=network))
    assert float(value.detach()) == pytest.approx(expected)
    assert term.weight == 1e-4
    # Orthogonal filters of any length cost nothing, and rows of zero have a gradient.
    with torch.no_grad():
        conv.weight.zero_()
        linear.weight.copy_(torch.tensor([[0.0, 2.0], [3.0, 0.0], [0.0, 0.0]][: len(rows)]))
    assert float(term(inputs({"clip": CLIP}, REAL, generator=network)).detach()) == 0
