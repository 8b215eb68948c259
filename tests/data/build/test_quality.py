"""Measures of clips: what is called static, cut, barred or repeated, and what is not."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vidgan.data.build.duplicates import DuplicateFinder
from vidgan.data.build.quality import QualityConfig, cell_means, find_flaws, measure_clip
from vidgan.data.synthetic.motions import MotionSettings, motion_clip, motion_settings
from vidgan.errors import UserError
from vidgan.video import read_frames, write_mp4

CONFIG = QualityConfig()
NUM_FRAMES = 16


def scene(seed: int, side: int = 64, speed: int = 0) -> Tensor:
    """uint8 [3, T, side, side]: a soft image that is moved to the side, by pixels a frame."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, side // 8, side // 8, generator=rng)
    image = interpolate(coarse, size=(side, side), mode="bicubic")[0]
    level = 80 + 90 * torch.rand((), generator=rng)
    image = (image / image.std() * 45 + level).clamp(40, 255).to(torch.uint8)
    return torch.stack([image.roll(n * speed, -1) for n in range(NUM_FRAMES)], 1)


def noisy(clip: Tensor, strength: float, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(clip.shape, generator=rng) * strength
    return (clip + noise).clamp(0, 255).to(torch.uint8)


def motions(count: int) -> list[Tensor]:
    settings = MotionSettings(size=64, frames=NUM_FRAMES)
    return [motion_clip(settings, number)[0] for number in range(count)]


def flaws_of(clip: Tensor) -> dict[str, str]:
    return find_flaws(measure_clip(clip.numpy(), CONFIG), CONFIG)


def test_cells_are_means_of_whole_images_of_any_size():
    frames = np.random.default_rng(0).integers(0, 256, (3, 2, 21, 50), dtype=np.uint8)
    cells = cell_means(frames, 4)
    assert cells.shape == (3, 2, 4, 4)
    assert cells[1, 1, 0, 3] == pytest.approx(frames[1, 1, :5, 37:].mean(), rel=1e-5)
    tiny = cell_means(frames[:, :, :3, :3], 16)
    assert np.array_equal(tiny, frames[:, :, :3, :3].astype(np.float32))


def test_motions_clips_have_no_flaw():
    assert [flaws_of(clip) for clip in motions(24)] == [{}] * 24


@pytest.mark.parametrize("strength", [0, 3, 6])
def test_still_images_are_static_whatever_the_noise(tmp_path, strength):
    for seed in range(4):
        write_mp4(tmp_path / "still.mp4", noisy(scene(seed), strength, seed), 25, quality=28)
        clip = read_frames(tmp_path / "still.mp4").clip
        assert flaws_of(clip) == {"static": "nearly static"}


@pytest.mark.parametrize("seed", range(4))
def test_slow_movement_is_no_stillness(seed):
    slow = interpolate(scene(seed, 256, speed=1).float(), scale_factor=0.25, mode="area")
    assert flaws_of(slow.round().to(torch.uint8)) == {}


def test_a_small_object_that_moves_is_enough():
    clip = torch.full((3, NUM_FRAMES, 64, 64), 90, dtype=torch.uint8)
    for n in range(NUM_FRAMES):
        clip[:, n, 30:36, 10 + n : 16 + n] = 160
    assert flaws_of(clip) == {}


@pytest.mark.parametrize("place", [1, 7, 15])
@pytest.mark.parametrize("speed", [1, 3])
def test_cuts_are_found_at_their_frame(place, speed):
    first, second = scene(1, speed=speed), scene(2, speed=speed)
    joined = torch.cat([first[:, :place], second[:, place:]], 1)
    assert measure_clip(joined.numpy(), CONFIG).cut == place
    assert flaws_of(joined) == {"cuts": "scene cut"}


def test_flashes_and_fast_pans_are_no_cuts():
    pan = scene(3, speed=9)
    flash = scene(3, speed=1)
    flash[:, 6] = 255
    assert flaws_of(pan) == flaws_of(flash) == {}


@pytest.mark.parametrize("width", [4, 8, 16])
@pytest.mark.parametrize(
    ("where", "what"),
    [
        ((True, False), "black bars at top and bottom"),
        ((False, True), "black bars at left and right"),
        ((True, True), "black bars at all sides"),
    ],
)
def test_bars_are_found_through_coding(tmp_path, width, where, what):
    clip = scene(4, speed=2)
    across, upright = where
    if across:
        clip[:, :, :width] = clip[:, :, -width:] = 0
    if upright:
        clip[..., :width] = clip[..., -width:] = 0
    write_mp4(tmp_path / "bars.mp4", clip, 25, quality=26)
    assert flaws_of(read_frames(tmp_path / "bars.mp4").clip) == {"bars": what}


def test_bars_on_one_side_dark_scenes_and_dark_backgrounds_are_no_bars():
    subtitle_strip = scene(5, speed=2)
    subtitle_strip[:, :, -8:] = 0
    night = (scene(5, speed=2) / 8).to(torch.uint8)
    ball = torch.zeros(3, NUM_FRAMES, 64, 64, dtype=torch.uint8)
    for n in range(NUM_FRAMES):
        ball[:, n, 24:40, 2 * n : 2 * n + 16] = 220
    for clip in (subtitle_strip, night, ball):
        assert measure_clip(clip.numpy(), CONFIG).bars == ""
    padded = scene(5, speed=2)
    padded[:, :, :8] = padded[:, :, -8:] = 0
    assert measure_clip(padded.numpy(), CONFIG, is_padded=True).bars == ""


@pytest.mark.parametrize("colour", [0, 12, 30])
@pytest.mark.parametrize("side", ["across", "upright"])
def test_a_large_object_before_a_flat_dark_background_leaves_no_bars(
    colour: int, side: str
) -> None:
    clip = torch.full((3, 8, 16, 16), colour, dtype=torch.uint8)
    for n in range(8):
        # Ten of sixteen pixels wide, as the largest object of the motions set at this size.
        clip[:, n, 4:12, n // 2 : n // 2 + 10] = 190
    clip = clip if side == "across" else clip.transpose(2, 3)
    assert measure_clip(clip.numpy(), CONFIG).bars == ""
    # A scene that fills the space between the same lines is a letterbox.
    clip = torch.full((3, 8, 16, 16), colour, dtype=torch.uint8)
    clip[:, :, 4:12] = scene(6, speed=2)[:, :8, :8, :16]
    assert measure_clip(clip.numpy(), CONFIG).bars == "top and bottom"


def test_rendered_motions_have_no_bars() -> None:
    settings = motion_settings(objects="disc,square", motions="left,right", size=16, frames=4)
    for index in range(40):
        clip, _ = motion_clip(settings, index)
        assert measure_clip(clip.numpy(), CONFIG).bars == "", index


def signature(clip: Tensor) -> np.ndarray:
    return measure_clip(clip.numpy(), CONFIG).signature


def test_copies_are_found_and_others_are_not(tmp_path):
    finder = DuplicateFinder(CONFIG.duplicate_distance)
    clips = motions(40)
    assert [finder.find_or_add(str(n), signature(clip)) for n, clip in enumerate(clips)] == (
        [None] * 40
    )
    for number, clip in enumerate(clips[:10]):
        write_mp4(tmp_path / "copy.mp4", clip, 25, quality=30)
        coded = read_frames(tmp_path / "copy.mp4").clip
        smaller = read_frames(tmp_path / "copy.mp4", resolution=48).clip
        for copy in (clip, coded, smaller):
            assert finder.find_or_add("copy", signature(copy)) == str(number)
    assert finder.find_or_add("turned", signature(clips[0].flip(-1, -2))) is None


def test_no_near_pair_is_missed():
    rng = np.random.default_rng(1)
    size = signature(scene(0)).size
    base = rng.integers(0, 256, (60, size)).astype(np.float64)
    near = base + rng.normal(0, 4, base.shape) + rng.choice([-3, 3], (60, 1))
    finder = DuplicateFinder(6.0)
    for number, row in enumerate(base):
        finder.find_or_add(str(number), row.astype(np.uint8))
    found = 0
    for number, row in enumerate(near.round().clip(0, 255).astype(np.uint8)):
        distance = np.sqrt(((row - base[number].astype(np.uint8).astype(float)) ** 2).mean())
        match = finder.find_or_add(f"near {number}", row)
        assert (match == str(number)) == (distance <= 6.5)
        found += match is not None
    assert found > 50


def spots(num_clips: int) -> np.ndarray:
    """Signatures of a small light that moves before one dark background, near ones among them."""
    rng = np.random.default_rng(2)
    grid, times = np.arange(8), np.arange(4)
    place, speed = rng.uniform(0, 8, (2, num_clips, 1)), rng.uniform(-1, 1, (2, num_clips, 1))
    y, x = ((place + speed * times)[..., None] - grid) ** 2
    light = rng.uniform(5, 40, (num_clips, 1, 1, 1)) * np.exp(-(y[..., None] + x[..., None, :]) / 2)
    noise = rng.normal(0, 0.4, light.shape)
    return (10 + light + noise).round().clip(0, 255).astype(np.uint8).reshape(num_clips, -1)


def test_many_clips_that_look_alike_are_judged_as_by_comparing_all_pairs():
    # Enough that the tree is built three times.
    rows = spots(3500)
    exact = rows.astype(np.float64)
    contrasts = exact.std(axis=1)
    kept: list[int] = []
    expected = []
    for number, row in enumerate(exact):
        distances = np.sqrt(((exact[kept] - row) ** 2).mean(axis=1))
        limits = np.minimum(6.0, 0.25 * np.minimum(contrasts[kept], contrasts[number])) + 0.5
        near = np.flatnonzero(distances <= limits)
        expected.append(str(kept[near[0]]) if len(near) else None)
        if not len(near):
            kept.append(number)
    finder = DuplicateFinder(6.0)
    assert [finder.find_or_add(str(n), row) for n, row in enumerate(rows)] == expected
    assert 50 < sum(match is not None for match in expected) < 1000


def test_dark_scenes_are_not_all_alike():
    finder = DuplicateFinder(6.0)
    nights = [(scene(n, speed=2) / 16).to(torch.uint8) for n in range(8)]
    assert {finder.find_or_add(str(n), signature(clip)) for n, clip in enumerate(nights)} == {None}
    assert finder.find_or_add("copy", signature(nights[3])) == "3"
    black = torch.zeros(3, 8, 16, 16, dtype=torch.uint8)
    assert finder.find_or_add("black", signature(black)) is None
    assert finder.find_or_add("black too", signature(black)) == "black"


@pytest.mark.parametrize(
    "wrong", [{"min_motion": -1.0}, {"bar_share": 0.5}, {"duplicate_distance": float("nan")}]
)
def test_senseless_thresholds_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        QualityConfig(**wrong)
