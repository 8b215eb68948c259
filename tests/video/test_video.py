"""Writing clips: what a browser needs, exactness, equal bytes, grids and strips."""

import io
import struct
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vidgan.data.synthetic.motions import MotionSettings, motion_clip
from vidgan.video import (
    frame_strip,
    mp4_bytes,
    png_bytes,
    probe,
    read_frames,
    tile_clips,
    told_left_out,
    write_gif,
    write_mp4,
    write_png,
    write_webp,
)


@pytest.fixture
def noise() -> torch.Tensor:
    """uint8 [3, 6, 33, 47]: odd sides, nothing that a lossy codec could keep."""
    rng = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 6, 33, 47), dtype=torch.uint8, generator=rng)


@pytest.fixture
def smooth() -> torch.Tensor:
    """uint8 [3, 8, 32, 48]: a soft image that drifts."""
    t, y, x = torch.meshgrid(torch.arange(8), torch.arange(32), torch.arange(48), indexing="ij")
    channels = [(4 * x + 3 * t) % 256, 5 * y + t, 2 * x + 3 * y]
    return torch.stack(channels).clamp(0, 255).to(torch.uint8)


def test_mp4_is_what_browsers_play(tmp_path, smooth):
    write_mp4(tmp_path / "clip.mp4", smooth, 12.5)
    info = probe(tmp_path / "clip.mp4")
    assert (info.codec, info.pixel_format) == ("h264", "yuv420p")
    assert (info.width, info.height, info.num_frames, info.fps) == (48, 32, 8, 12.5)
    assert info.duration_s == pytest.approx(8 / 12.5)
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_mp4_keeps_images_and_their_order(tmp_path, smooth):
    write_mp4(tmp_path / "clip.mp4", smooth, 10, quality=5)
    clip = read_frames(tmp_path / "clip.mp4").clip
    error = (clip.int() - smooth.int()).abs().float().mean(dim=(0, 2, 3))
    assert clip.shape == smooth.shape
    assert error.max() < 8
    shifted = (clip[:, 1:].int() - smooth[:, :-1].int()).abs().float().mean()
    assert shifted > error.mean()


def test_mp4_pads_odd_sides_with_their_last_pixels(tmp_path, smooth):
    write_mp4(tmp_path / "odd.mp4", smooth[:, :, :31, :47], 10, quality=1)
    clip = read_frames(tmp_path / "odd.mp4").clip
    assert clip.shape == (3, 8, 32, 48)
    assert (clip[:, :, :, 47].int() - smooth[:, :, :, 46].int()).abs().float().mean() < 12


@pytest.mark.parametrize("fps", [8, 12.5, 30000 / 1001])
def test_lossless_mp4_is_exact(tmp_path, noise, fps):
    write_mp4(tmp_path / "exact.mp4", noise, fps, lossless=True)
    assert torch.equal(read_frames(tmp_path / "exact.mp4").clip, noise)
    assert probe(tmp_path / "exact.mp4").fps == pytest.approx(fps, rel=1e-3)


def test_equal_clips_give_equal_bytes(tmp_path, smooth):
    write_mp4(tmp_path / "clip.mp4", smooth, 10)
    assert mp4_bytes(smooth, 10) == (tmp_path / "clip.mp4").read_bytes()


def test_one_channel_is_written_as_grey(tmp_path, smooth):
    write_mp4(tmp_path / "grey.mp4", smooth[:1], 10, lossless=True)
    assert torch.equal(read_frames(tmp_path / "grey.mp4").clip, smooth[:1].expand(3, -1, -1, -1))


def test_a_failed_write_leaves_the_old_file(tmp_path, smooth):
    write_mp4(tmp_path / "clip.mp4", smooth, 10)
    before = (tmp_path / "clip.mp4").read_bytes()
    with pytest.raises(ValueError, match="must be uint8"):
        write_mp4(tmp_path / "clip.mp4", smooth.float(), 10)
    assert (tmp_path / "clip.mp4").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_webp_is_exact_and_gif_moves(tmp_path, smooth):
    write_webp(tmp_path / "clip.webp", smooth, 10)
    with Image.open(tmp_path / "clip.webp") as image:
        assert image.n_frames == 8
        image.seek(3)
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(pixels, smooth[:, 3])
    write_gif(tmp_path / "clip.gif", smooth, 10)
    with Image.open(tmp_path / "clip.gif") as image:
        assert (image.n_frames, image.info["duration"], image.info["loop"]) == (8, 100, 0)


def test_png_is_exact(tmp_path, noise):
    write_png(tmp_path / "frame.png", noise[:, 0])
    for source in (tmp_path / "frame.png", io.BytesIO(png_bytes(noise[:, 0]))):
        with Image.open(source) as image:
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert torch.equal(pixels, noise[:, 0])


def test_tiles_lie_row_by_row_and_are_enlarged():
    clips = torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1, 1).expand(5, 3, 2, 4, 6)
    grid = tile_clips(clips, columns=3, padding=1, scale=2)
    assert grid.shape == (3, 2, 2 * 9 + 1, 3 * 13 + 1)
    assert grid[0, 0, 1:9, 14:26].unique().tolist() == [1]
    assert grid[0, 1, 10:18, 1:13].unique().tolist() == [3]
    assert grid[0, 0, 10:18, 27:39].unique().tolist() == [255]
    assert grid[0, 0, 0].unique().tolist() == [255]


def test_strip_shows_first_and_last_frames():
    frames = torch.arange(7, dtype=torch.uint8).reshape(1, 1, 7, 1, 1)
    clips = torch.cat([frames, frames + 100]).expand(2, 3, 7, 2, 2)
    strip = frame_strip(clips, max_frames=3, padding=0)
    assert strip.shape == (3, 4, 6)
    assert strip[0, ::2, ::2].tolist() == [[0, 3, 6], [100, 103, 106]]


def test_the_same_clips_give_the_same_bytes() -> None:
    settings = MotionSettings(size=64, frames=8)
    clips = [motion_clip(settings, index)[0] for index in range(12)]
    first = [mp4_bytes(clip, 8) for clip in clips]
    assert all([mp4_bytes(clip, 8) for clip in clips] == first for _ in range(3))


@pytest.mark.parametrize("size", [(48, 32), (1280, 720), (33, 17)])
@pytest.mark.parametrize("lossless", [False, True])
def test_mp4_says_what_its_colours_are(tmp_path, size, lossless):
    clip = torch.tensor([200, 60, 40], dtype=torch.uint8)[:, None, None, None]
    clip = clip.expand(3, 3, size[1], size[0])
    write_mp4(tmp_path / "a.mp4", clip, 25, lossless=lossless)
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        frame = next(container.decode(video=0))
    # H.273: RGB or the matrix of BT.709, primaries of BT.709, its curve or that of sRGB.
    wanted = (0, 1, 13, 2) if lossless else (1, 1, 1, 1)
    for told in (context, frame):
        found = (told.colorspace, told.color_primaries, told.color_trc, told.color_range)
        assert tuple(map(int, found)) == wanted
    assert b"colrnclx" in (tmp_path / "a.mp4").read_bytes()
    if not lossless:
        y, u, v = (bytes(plane)[0] for plane in frame.planes)
        luma = 0.2126 * 200 + 0.7152 * 60 + 0.0722 * 40
        assert y == pytest.approx(16 + 219 * luma / 255, abs=1)
        assert u == pytest.approx(128 + 224 * (40 - luma) / 255 / 1.8556, abs=1)
        assert v == pytest.approx(128 + 224 * (200 - luma) / 255 / 1.5748, abs=1)
    pixels = read_frames(tmp_path / "a.mp4").pixels.reshape(3, -1).astype(int)
    assert abs(pixels - np.array([[200], [60], [40]])).max() <= (0 if lossless else 3)


def gif_delays(path) -> list[int]:
    """Milliseconds of each frame, from the graphic control extensions."""
    with Image.open(path) as image:
        count = image.n_frames
        delays = []
        for n in range(count):
            image.seek(n)
            delays.append(image.info["duration"])
    return delays


def webp_delays(path) -> list[int]:
    data, at, delays = path.read_bytes(), 12, []
    while at < len(data):
        size = struct.unpack("<I", data[at + 4 : at + 8])[0]
        if data[at : at + 4] == b"ANMF":
            delays.append(int.from_bytes(data[at + 20 : at + 23], "little"))
        at += 8 + size + size % 2
    return delays


@pytest.mark.parametrize("fps", [0.5, 8, 12, Fraction(24000, 1001), 24, 25, 30, 48, 50, 60, 120])
@pytest.mark.parametrize("num_frames", [3, 16, 30])
def test_animations_last_as_long_as_the_clip(tmp_path, noise, fps, num_frames):
    clip = noise[:, torch.arange(num_frames) % 6].clone()
    clip[0, :, 0, 0] = torch.arange(num_frames)
    write_gif(tmp_path / "a.gif", clip, float(fps))
    write_webp(tmp_path / "a.webp", clip, float(fps))
    # Browsers show what asks for less than 20 ms in GIF, or up to 10 ms in WebP, for 100 ms.
    gif, webp = gif_delays(tmp_path / "a.gif"), webp_delays(tmp_path / "a.webp")
    assert min(gif) >= 20
    assert min(webp) > 10
    assert max(gif) - min(gif) <= 10
    assert sum(gif) == pytest.approx(1000 * num_frames / fps, abs=10)
    assert sum(webp) == pytest.approx(1000 * num_frames / fps, abs=6)
    assert (len(gif) == num_frames) == (fps <= 50)
    assert bool(told_left_out("a.gif", num_frames, float(fps))) == (fps > 50)
    assert bool(told_left_out("a.webp", num_frames, float(fps))) == (fps > 90)


def test_frames_that_a_gif_leaves_out_are_spread_evenly_and_said(tmp_path):
    numbers = torch.arange(30, dtype=torch.uint8) * 8
    write_gif(tmp_path / "a.gif", numbers[None, :, None, None].expand(3, 30, 4, 4), 60)
    shown = (read_frames(tmp_path / "a.gif").pixels[0, :, 0, 0] // 8).tolist()
    assert len(shown) == 25
    assert {b - a for a, b in pairwise(shown)} == {1, 2}
    sentence = told_left_out("out/a.gif", 30, 60)
    assert "shows 25 of the 30 frames" in sentence
    assert "50 a second" in sentence
    assert told_left_out("a.mp4", 30, 60) == ""


@pytest.mark.parametrize("equal", [(3, 4), (0, 1), (14, 15), (5, 6, 7, 8), tuple(range(16))])
def test_equal_neighbours_of_a_gif_stay_frames(tmp_path, equal):
    clip = (torch.arange(16, dtype=torch.uint8) * 16)[None, :, None, None].repeat(3, 1, 8, 8)
    for n in equal:
        clip[:, n] = clip[:, equal[0]]
    write_gif(tmp_path / "a.gif", clip, 8)
    decoded = read_frames(tmp_path / "a.gif").clip
    assert torch.equal(decoded, clip)
    assert probe(tmp_path / "a.gif").fps == pytest.approx(8, rel=0.01)
    assert len(gif_delays(tmp_path / "a.gif")) == 16


def test_a_gif_changes_only_where_the_clip_does(tmp_path):
    clip = torch.zeros(3, 4, 20, 30, dtype=torch.uint8)
    for n in range(4):
        clip[:, n, 5 + n : 9 + n, 10 : 14 + n] = 255 - 40 * n
    write_gif(tmp_path / "a.gif", clip, 10)
    assert torch.equal(read_frames(tmp_path / "a.gif").clip, clip)
    with Image.open(tmp_path / "a.gif") as image:
        for n in range(4):
            image.seek(n)
            assert np.array_equal(np.asarray(image.convert("RGB")).transpose(2, 0, 1), clip[:, n])
