"""Which files give back the pixels that were put in, checked against the pixels themselves."""

import os
from pathlib import Path

import pytest
import torch
from generated_files import write_pngs, write_video

from vidgan.data.sources.generated import bypasses_transform, is_lossless
from vidgan.video import probe, read_frames, write_gif, write_mp4

CLIP = torch.randint(256, (3, 4, 16, 16), dtype=torch.uint8, generator=torch.manual_seed(0))

EXACT = [
    ("clip.mkv", "ffv1", "bgr0", {}),
    ("clip.avi", "huffyuv", "bgra", {}),
    ("clip.avi", "utvideo", "gbrp", {}),
    ("clip.avi", "rawvideo", "bgr24", {}),
    ("clip.mov", "png", "rgb24", {}),
    ("clip.mov", "qtrle", "rgb24", {}),
    ("clip.mp4", "libx264rgb", "rgb24", {"qp": "0"}),
    ("clip.mkv", "libx264rgb", "bgr24", {"qp": "0"}),
]
LOSSY = [
    ("clip.mp4", "libx264", "yuv420p", {}),
    ("clip.mp4", "libx264", "yuv444p", {"qp": "0"}),
    ("clip.mp4", "libx264rgb", "rgb24", {"crf": "1"}),
    ("clip.mkv", "ffv1", "yuv420p", {}),
    ("clip.avi", "mjpeg", "yuvj444p", {}),
    ("clip.mp4", "mpeg4", "yuv420p", {}),
]


@pytest.mark.parametrize(("name", "codec", "pixel_format", "options"), EXACT)
def test_exact_files_are_known_and_return_their_pixels(
    name: str, codec: str, pixel_format: str, options: dict[str, str], tmp_path: Path
) -> None:
    write_video(tmp_path / name, CLIP, codec, pixel_format, options)
    assert torch.equal(read_frames(tmp_path / name).clip, CLIP)
    assert is_lossless(probe(tmp_path / name))


@pytest.mark.parametrize(("name", "codec", "pixel_format", "options"), LOSSY)
def test_lossy_files_are_known_and_lose_pixels(
    name: str, codec: str, pixel_format: str, options: dict[str, str], tmp_path: Path
) -> None:
    write_video(tmp_path / name, CLIP, codec, pixel_format, options)
    assert not torch.equal(read_frames(tmp_path / name).clip, CLIP)
    assert not is_lossless(probe(tmp_path / name))


def test_what_vidgan_sample_writes_is_exact_and_its_films_are_not(tmp_path: Path) -> None:
    write_mp4(tmp_path / "exact.mp4", CLIP, 8.0, lossless=True)
    write_mp4(tmp_path / "film.mp4", CLIP, 8.0)
    write_gif(tmp_path / "few-colours.gif", CLIP, 8.0)
    assert is_lossless(probe(tmp_path / "exact.mp4"))
    assert not is_lossless(probe(tmp_path / "film.mp4"))
    assert not is_lossless(probe(tmp_path / "few-colours.gif"))


def test_images_are_judged_by_their_bytes_and_not_by_their_names(tmp_path: Path) -> None:
    from PIL import Image

    write_pngs(tmp_path / "a", CLIP)
    assert is_lossless(probe(tmp_path / "a"))
    Image.new("RGB", (16, 16)).save(tmp_path / "a" / "frame_004.png", format="JPEG")
    assert not is_lossless(probe(tmp_path / "a"))
    Image.new("RGB", (16, 16)).save(tmp_path / "a" / "frame_004.png", format="WEBP", lossless=True)
    assert is_lossless(probe(tmp_path / "a"))


@pytest.mark.parametrize("header", [b"", b"\x01", b"\0\0\x01\x67", b"\x01" + 20 * b"\xff"])
def test_damaged_headers_count_as_lossy(header: bytes) -> None:
    assert not bypasses_transform(header)


def test_a_named_pipe_among_images_is_not_waited_for(tmp_path: Path) -> None:
    write_pngs(tmp_path / "a", CLIP)
    info = probe(tmp_path / "a")
    os.mkfifo(tmp_path / "a" / "99999.png")
    assert is_lossless(info)
