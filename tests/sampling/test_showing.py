"""What clips are made of, and clips that share content or motion."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import vidgan
from vidgan.core.clip_ops import to_uint8
from vidgan.errors import UserError
from vidgan.models.base import Generator
from vidgan.models.mocogan import MoCoGANConfig
from vidgan.models.vgan import VGANConfig
from vidgan.sampling.generate import sample_images
from vidgan.sampling.outputs import SampleSettings, labels_of
from vidgan.sampling.showing import (
    ClipTable,
    layers_table,
    motions_table,
    rows_of_square,
    write_table,
)
from vidgan.video import read_frames

SHAPE = (3, 6, 16, 16)


@pytest.fixture(scope="module")
def layered() -> Generator:
    torch.manual_seed(0)
    return vidgan.build_gan(VGANConfig(latent=5, width=4), SHAPE).generator.train(False)


@pytest.fixture(scope="module")
def moving() -> Generator:
    torch.manual_seed(0)
    config = MoCoGANConfig(content=4, motion=3, width=4)
    return vidgan.build_gan(config, SHAPE, num_classes=3).generator.train(False)


def clips_of(generator: Generator, seeds: list[int], num_frames: int | None = None) -> Tensor:
    latents = vidgan.sample_latents(generator, seeds, num_frames)
    labels = labels_of(generator, seeds)
    return vidgan.sample_clips(generator, latents, labels, num_frames=num_frames)


def test_layers_stand_beside_the_clip_that_they_make(layered: Generator) -> None:
    table = layers_table(layered, [3, 4])
    assert (table.columns, table.names) == (4, ("clip", "mask", "foreground", "background"))
    clip, mask, foreground, background = table.clips.unflatten(0, (2, 4)).unbind(1)
    assert torch.equal(clip, clips_of(layered, [3, 4]))
    share = mask.double() / 255
    made = share * foreground + (1 - share) * background
    # Four roundings to whole grey values.
    assert float((made - clip.double()).abs().max()) < 2.5
    assert torch.equal(background[:, :, :1].expand_as(background), background)
    assert bool((mask == mask[:, :1]).all())


def test_a_mask_is_black_for_nothing_and_white_for_all(layered: Generator) -> None:
    latents = vidgan.sample_latents(layered, [0, 1, 2])
    images = sample_images(layered, latents)
    with torch.no_grad():
        parts = layered.parts(latents)
    assert list(images) == ["clip", "mask", "foreground", "background"]
    assert images["mask"].shape == (3, 1, *SHAPE[1:])
    # Batches of other sizes round single values the other way.
    expected = (parts["mask"] * 255).round()
    assert float((images["mask"] - expected).abs().max()) <= 1
    foreground = to_uint8(parts["foreground"]).int()
    assert int((images["foreground"].int() - foreground).abs().max()) <= 1


def test_rows_keep_content_and_columns_keep_motion(moving: Generator) -> None:
    table = motions_table(moving, [5, 6, 7])
    clips = table.clips.unflatten(0, (3, 3))
    own = clips_of(moving, [5, 6, 7])
    for index in range(3):
        assert torch.equal(clips[index, index], own[index])

    # By hand: the content and class of seed 5 with the motion of seed 7.
    latents = vidgan.sample_latents(moving, [5, 7])
    mixed = torch.cat([latents[0, :4], latents[1, 4:]])[None]
    labels = labels_of(moving, [5])
    both = vidgan.sample_clips(moving, mixed.expand(2, -1), labels.expand(2))
    assert torch.equal(clips[0, 2], both[0])
    assert not torch.equal(clips[0, 2], clips[0, 0])
    assert not torch.equal(clips[0, 2], clips[2, 2])


def test_motions_of_longer_clips_begin_like_those_of_short_ones(moving: Generator) -> None:
    short, long = (
        motions_table(moving, [0, 1], SampleSettings(num_frames=n)).clips for n in (None, 15)
    )
    assert long.shape == (4, 3, 15, 16, 16)
    assert int((long[:, :, :6].int() - short.int()).abs().max()) <= 1
    # The motion of the later frames is exchanged too.
    assert not torch.equal(long[0, :, 10:], long[1, :, 10:])
    assert torch.equal(long[[0, 3]], clips_of(moving, [0, 1], 15))


def test_models_without_such_parts_say_so(layered: Generator, moving: Generator) -> None:
    with pytest.raises(UserError, match="generates clips as a whole"):
        layers_table(moving, [0])
    with pytest.raises(UserError, match="cannot exchange motions"):
        motions_table(layered, [0, 1])
    with pytest.raises(UserError, match="makes 6 frames, not 9"):
        layers_table(layered, [0], SampleSettings(num_frames=9))


def test_squares_hold_no_more_clips_than_asked_for() -> None:
    assert [rows_of_square(num) for num in (1, 3, 4, 15, 16)] == [1, 1, 2, 3, 4]


def test_tables_become_films_and_images_with_names(layered: Generator, tmp_path: Path) -> None:
    table = layers_table(layered, [0, 1])
    bare = ClipTable(table.clips, table.columns)
    for suffix in (".gif", ".webp", ".mp4", ".png"):
        for name, shown in (("named", table), ("bare", bare)):
            write_table(tmp_path / f"{name}{suffix}", shown, fps=8)
    video, plain = (read_frames(tmp_path / f"{n}.mp4").clip for n in ("named", "bare"))
    # 16 px clips enlarged 6 times, 2 px between them; the names add a line above.
    assert plain.shape[1:] == (6, 2 * 98 + 2, 4 * 98 + 2)
    assert video.shape[3] == plain.shape[3]
    heads = video.shape[2] - plain.shape[2]
    assert 8 < heads < 30
    for column in range(4):
        head = video[:, 0, :heads, column * 98 : (column + 1) * 98]
        assert int(head.min()) < 100, "a name is missing"
    with Image.open(tmp_path / "named.png") as named, Image.open(tmp_path / "bare.png") as without:
        assert named.height == without.height == 8 * 98 + 2
        assert named.width > without.width
    with pytest.raises(UserError, match=r"must end in one of \.mp4"):
        write_table(tmp_path / "x.avi", table, fps=8)


def test_grey_clips_are_drawn(tmp_path: Path) -> None:
    clips = torch.zeros(2, 1, 3, 8, 8, dtype=torch.uint8)
    write_table(tmp_path / "grey.png", ClipTable(clips, 2, ("clip", "mask")), fps=8)
    with Image.open(tmp_path / "grey.png") as image:
        assert image.mode == "RGB"
