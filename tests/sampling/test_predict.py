"""Predictions, windows and their images, for every way in which a model takes a context."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import vidgan
from vidgan.core.clip_ops import to_float, to_grey, to_uint8
from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.models.base import Box, Generator, ModelConfig
from vidgan.models.dvdgan_fp import DVDGANFPConfig
from vidgan.models.hrvgan import HRVGANConfig
from vidgan.models.ivgan import IVGANConfig
from vidgan.models.vgan import VGANConfig
from vidgan.sampling.predict import (
    GIVEN_COLOUR,
    MADE_COLOUR,
    part_windows,
    rows_of_clip,
    targets_of,
    text_image,
    write_rows,
    write_strip,
)
from vidgan.video import read_frames

SHAPE = (3, 12, 16, 16)
MODELS: dict[str, ModelConfig] = {
    "latent": HRVGANConfig(latent=4, context_frames=4, channels=(4, 4, 4), code_dim=8),
    "deterministic": HRVGANConfig(latent=0, context_frames=4, channels=(4, 4, 4), code_dim=8),
    "recurrent": DVDGANFPConfig(channels=2, latent=4, context_frames=4, spatial_frames=2),
    "first frame": VGANConfig(condition="first_frame", width=4),
    "rendered first frame": IVGANConfig(task="predict", width=4),
    "colour": IVGANConfig(task="colorize", width=4),
    "inpaint": IVGANConfig(task="inpaint", damage="box", width=4),
}
RESTORERS = ("colour", "inpaint")


def build(name: str, num_classes: int = 0) -> Generator:
    torch.manual_seed(3)
    generator: Generator = vidgan.build_gan(MODELS[name], SHAPE, num_classes).generator
    return generator.eval()


def windows(count: int = 3) -> Tensor:
    shape = (count, *SHAPE)
    return torch.randint(256, shape, generator=keyed_rng("windows"), dtype=torch.uint8)


@pytest.mark.parametrize("name", MODELS)
def test_every_context_model_predicts(name: str) -> None:
    generator = build(name)
    parted = part_windows(generator, windows())
    made = vidgan.predict(generator, parted.context, num_samples=2, seed=5)
    count = 2 if generator.latent_dim() else 1
    assert made.shape[:3] == (3, count, 3)
    assert made.dtype == torch.uint8
    assert parted.new_frames(generator, made).shape[2:] == parted.target.shape[1:]
    assert parted.restores == (name in RESTORERS)
    # What is to be predicted is what follows the given frames, or all of a clip to be restored.
    first = 0 if parted.restores else generator.context_frames
    assert torch.equal(parted.target, windows()[:, :, first:])
    assert torch.equal(targets_of(generator, windows()), parted.target)


def test_a_prediction_depends_on_its_own_seed_row_and_number() -> None:
    generator = build("latent")
    context = part_windows(generator, windows()).context
    both = vidgan.predict(generator, context, num_samples=2, seed=5)
    more = vidgan.predict(generator, context, num_samples=4, seed=5)
    assert torch.equal(more[:, :2], both)
    assert torch.equal(vidgan.predict(generator, context[:2], 2, seed=5), both[:2])
    assert not torch.equal(vidgan.predict(generator, context, 2, seed=6), both)
    assert not torch.equal(both[0, 0], both[0, 1])
    changed = context.clone()
    changed[1] = 0
    again = vidgan.predict(generator, changed, num_samples=2, seed=5)
    assert torch.equal(again[[0, 2]], both[[0, 2]])
    assert not torch.equal(again[1], both[1])


def test_given_frames_may_be_uint8() -> None:
    generator = build("latent")
    context = windows()[:, :, :4]
    expected = vidgan.predict(generator, to_float(context))
    assert torch.equal(vidgan.predict(generator, context), expected)


def test_labels_reach_their_clips() -> None:
    generator = build("latent", num_classes=2)
    context = windows(2)[:, :, :4]
    labels = torch.tensor([0, 1])
    made = vidgan.predict(generator, context, 3, labels=labels)
    assert torch.equal(vidgan.predict(generator, context[:1], 3, labels=labels[:1])[0], made[0])
    other = vidgan.predict(generator, context, 3, labels=torch.tensor([0, 0]))
    assert torch.equal(other[0], made[0])
    assert not torch.equal(other[1], made[1])
    with pytest.raises(UserError, match="needs a label"):
        vidgan.predict(generator, context)


def test_contexts_are_what_the_model_was_trained_on() -> None:
    assert torch.equal(
        part_windows(build("latent"), windows()).context, to_float(windows()[:, :, :4])
    )
    grey = part_windows(build("colour"), windows()).context
    assert torch.equal(grey, to_grey(to_float(windows())))
    hidden = part_windows(build("inpaint"), windows()).context
    changed = (hidden != to_float(windows())).any(dim=(0, 1, 2))
    rows = changed.any(1).nonzero().flatten().tolist()
    # A box of 20/64 of the side, from 23/64 on.
    assert rows == list(range(6, 11))
    assert int(changed.sum()) == 25


def test_a_mask_hides_its_box_and_nothing_else() -> None:
    parted = part_windows(build("inpaint"), windows(), box=Box(2, 5, 7, 3))
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[5:8, 2:9] = True
    real = to_float(windows())
    assert torch.equal(parted.context[..., ~inside], real[..., ~inside])
    assert (parted.context[..., inside] == 0).all()
    assert torch.equal(parted.target, windows())


@pytest.mark.parametrize(
    "box", [Box(-1, 0, 4, 4), Box(0, 0, 0, 4), Box(10, 0, 7, 4), Box(0, 14, 4, 3)]
)
def test_masks_outside_of_the_frame_are_refused(box: Box) -> None:
    with pytest.raises(UserError, match="must lie inside of frames of 16x16 pixels"):
        part_windows(build("inpaint"), windows(), box=box)


def test_only_models_that_inpaint_take_a_mask() -> None:
    generator = build("colour")
    with pytest.raises(UserError, match="does not inpaint"):
        part_windows(generator, windows(), box=Box(0, 0, 4, 4))
    with pytest.raises(ValueError, match="does not inpaint"):
        generator.cover(to_float(windows()), Box(0, 0, 4, 4))


def test_baselines_are_forecasts_or_the_given_clip() -> None:
    parted = part_windows(build("latent"), windows())
    assert list(parted.baselines(8)) == ["repeat last", "linear"]
    assert torch.equal(parted.baselines(8)["repeat last"][:, :, 5], windows()[:, :, 3])
    grey = part_windows(build("colour"), windows()).baselines(12)
    assert list(grey) == ["given"]
    assert torch.equal(grey["given"][:, 2:], to_uint8(to_grey(to_float(windows()))))


def test_given_frames_alone_leave_nothing_to_compare_with() -> None:
    for name in ("latent", "first frame"):
        generator = build(name)
        alone = windows()[:, :, : generator.context_frames]
        parted = part_windows(generator, alone)
        assert torch.equal(parted.context, to_float(alone))
        assert parted.target.shape[2] == 0
        assert not parted.restores


def test_what_does_not_fit_is_named() -> None:
    generator = build("latent")
    context = windows()[:, :, :4]
    unconditional = vidgan.build_gan("pvgan", (3, 4, 8, 8)).generator
    cases = [
        (lambda: vidgan.predict(unconditional, context), "generates clips from noise"),
        (lambda: part_windows(unconditional, windows()), "generates clips from noise"),
        (lambda: vidgan.predict(generator, context[:, :, :3]), r"4 given frames .* got \[3, 3, 3"),
        (lambda: vidgan.predict(generator, context[0]), "given frames as a context"),
        (lambda: vidgan.predict(generator, context, 0), "num_samples=0"),
        (lambda: part_windows(generator, windows()[:, :, :2]), "clips of 2 frames are too short"),
    ]
    for call, message in cases:
        with pytest.raises(UserError, match=message):
            call()


def test_frames_of_another_size_are_refused_by_the_card(tmp_path: Path) -> None:
    from vidgan.models.base import Stage
    from vidgan.sampling.storage import GeneratorCard, load_generator, plain_model, save_generator

    stage = Stage(level=0, frames=12, resolution=16, batch_size=4)
    config = MODELS["latent"]
    card = GeneratorCard(
        model=plain_model(config),
        clip_shape=SHAPE,
        num_classes=0,
        class_names=(),
        stage=stage,
        fps=8.0,
        step=1,
        clips_seen=4,
        loss="wgan-gp",
    )
    save_generator(tmp_path / "g.safetensors", build("latent"), card)
    generator = load_generator(tmp_path / "g.safetensors")
    with pytest.raises(UserError, match="frames of 16x16 pixels, the given ones have 8x16"):
        vidgan.predict(generator, windows()[:, :, :4, :8])


# ------------------------------------------------------------------------------------------------
# Images


def test_rows_show_truth_predictions_and_baselines_behind_the_given_frames() -> None:
    generator = build("latent")
    parted = part_windows(generator, windows())
    samples = vidgan.predict(generator, parted.context, 2)
    rows = rows_of_clip(parted, samples, parted.baselines(8), index=1)
    told = [(row.name, row.num_real) for row in rows]
    assert told == [
        ("truth", 12),
        ("sample 1", 4),
        ("sample 2", 4),
        ("repeat last", 4),
        ("linear", 4),
    ]
    assert torch.equal(rows[0].frames, windows()[1])
    assert torch.equal(rows[2].frames[:, 4:], samples[1, 1])
    alone = part_windows(generator, windows()[:, :, :4])
    assert [row.name for row in rows_of_clip(alone, samples[:, :1], {})] == ["prediction"]


def test_rows_of_a_restored_clip_start_with_what_was_given() -> None:
    generator = build("colour")
    parted = part_windows(generator, windows())
    made = vidgan.predict(generator, parted.context)
    rows = rows_of_clip(parted, made, parted.baselines(12))
    assert [(row.name, row.num_real) for row in rows] == [
        ("given", 12),
        ("truth", 12),
        ("prediction", 0),
    ]


def test_borders_tell_given_from_made(tmp_path: Path) -> None:
    from PIL import Image

    generator = build("latent")
    parted = part_windows(generator, windows())
    samples = vidgan.predict(generator, parted.context, 2)
    rows = rows_of_clip(parted, samples, {}, index=0)
    write_strip(tmp_path / "strip.png", rows)
    with Image.open(tmp_path / "strip.png") as image:
        side = 96 + 8 + 2
        left = image.width - 12 * side - 2
        assert image.height == 3 * side + 2
        for row, column, colour in [
            (0, 0, GIVEN_COLOUR),
            (0, 11, GIVEN_COLOUR),
            (1, 3, GIVEN_COLOUR),
            (1, 4, MADE_COLOUR),
            (2, 11, MADE_COLOUR),
        ]:
            top_left = (left + 2 + column * side, 2 + row * side)
            assert image.getpixel(top_left) == colour
            # Inside the border stands the clip, six times as large.
            pixel = rows[row].frames[:, column, 1, 2].tolist()
            inside = (top_left[0] + 4 + 2 * 6 + 3, top_left[1] + 4 + 6 + 3)
            assert list(image.getpixel(inside)) == pixel
        # The name stands left of its row.
        assert min(image.crop((0, side, left, 2 * side)).convert("L").tobytes()) < 128


def test_a_film_plays_all_rows_under_their_names(tmp_path: Path) -> None:
    generator = build("latent")
    parted = part_windows(generator, windows())
    samples = vidgan.predict(generator, parted.context, 2)
    rows = rows_of_clip(parted, samples, parted.baselines(8))
    write_rows(tmp_path / "video.mp4", rows, fps=8)
    video = read_frames(tmp_path / "video.mp4").clip
    name = text_image("truth").shape[1]
    assert video.shape[1] == 12
    assert video.shape[2] in (name + 104 + 4, name + 104 + 5)
    assert video.shape[3] == 5 * 106 + 2
    # On the left border of sample 1: blue while frames are given, orange afterwards.
    spot = video[:, :, name + 50, 106 + 3].int()
    assert int(spot[2, 3]) > int(spot[0, 3]) + 80
    assert int(spot[0, 4]) > int(spot[2, 4]) + 80
