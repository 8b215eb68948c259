"""Clips of other lengths and sides than those of the other tests, wherever a model claims them."""

import dataclasses

import pytest
import torch
from model_cases import CASES, Case

import vidgan
from vidgan.errors import UserError
from vidgan.models.base import ClipShape

WIDTHS = (6, 5, 4, 3)
"""From 4 px up, of the models that list them."""

SIZES = {
    "pvgan": [(3, 8), (12, 32)],
    "pvgan-sliced": [(3, 8), (12, 32)],
    "vgan": [(2, 8), (5, 8), (12, 32)],
    "vgan-one-stream": [(2, 8), (12, 32)],
    "vgan-first-frame": [(2, 8), (12, 32)],
    "ivgan": [(2, 8), (5, 8), (12, 32)],
    "ivgan-predict": [(2, 8), (12, 32)],
    "ivgan-colorize": [(2, 8), (12, 32)],
    "ivgan-inpaint": [(2, 8), (12, 32)],
    "tgan": [(2, 8), (12, 32)],
    "tgan-labels": [(10, 8), (16, 32)],
    "tgan-growing": [(12, 32), (16, 32)],
    "mocogan": [(1, 8), (3, 8), (20, 32)],
    "mocogan-categories": [(3, 8), (20, 32)],
    "mocogan-growing-full": [(3, 16), (20, 32)],
    "dvdgan": [(4, 8), (7, 32)],
    "dvdgan-attention": [(4, 8), (7, 32)],
    "dvdgan_fp": [(6, 8), (9, 32)],
    "hrvgan": [(3, 8), (12, 32)],
    "hrvgan-predict": [(4, 8), (14, 32)],
    "pocketgan": [(4, 8), (5, 8), (12, 32)],
    "hrvgan_repo": [(3, 8), (12, 32)],
}
"""Frames and side of clips by contract case."""


@pytest.mark.parametrize(
    ("name", "frames", "side"), [(name, *size) for name, sizes in SIZES.items() for size in sizes]
)
def test_clips_of_this_size_are_made_and_scored(name: str, frames: int, side: int) -> None:
    case = resized(CASES[name], frames, side)
    gan = case.build().train(False)
    labels, context = case.labels(gan, 2), case.context(gan, 2)
    clips = gan.generator(case.latents(gan, 2), labels, context)
    target = case.targets(gan, 2)
    assert clips.shape == target.shape
    assert clips.shape[3:] == (side, side)
    for discriminator in gan.discriminators.values():
        view = discriminator.draw_view(2, torch.Generator().manual_seed(0))
        for clip in (clips, target):
            assert discriminator(clip, labels, context, view).realness.isfinite().all()


def test_every_model_is_among_them() -> None:
    assert {name.split("-")[0] for name in SIZES} == {name.split("-")[0] for name in CASES}


def resized(case: Case, frames: int, side: int) -> Case:
    shape = ClipShape(3, frames, side, side)
    changes = {}
    if isinstance(getattr(case.config, "channels", None), tuple):
        changes["channels"] = WIDTHS[: (side // 4).bit_length()]
    if hasattr(case.config, "discriminator_channels"):
        changes["discriminator_channels"] = WIDTHS[: (side // 8).bit_length()]
    return dataclasses.replace(
        case, config=dataclasses.replace(case.config, **changes), clip_shape=shape
    )


def test_a_shape_of_another_length_is_told() -> None:
    with pytest.raises(UserError, match=r"\(C, T, H, W\), and \(3, 8, 16\) is none"):
        vidgan.build_gan("pocketgan", (3, 8, 16))  # type: ignore[arg-type]
