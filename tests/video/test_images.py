"""Images from elsewhere: six formats by their bytes, a limit on pixels, and nothing that runs."""

import io
import re
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidgan.data.build.packing import build_clips
from vidgan.data.packed.manifest import read_manifest
from vidgan.data.packed.payload import decode_payload
from vidgan.data.settings import DataConfig
from vidgan.data.sources.containers.archive_items import list_archive
from vidgan.data.sources.containers.reading import open_item
from vidgan.data.sources.source import Source
from vidgan.data.sources.videos import open_source
from vidgan.errors import UserError
from vidgan.video import VideoError, read_frames
from vidgan.video.images import FORMATS, MAX_PIXELS, ImageError, open_image

SOURCE = Path(__file__).parent.parent.parent / "src" / "vidgan"

POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 64 64
%%EndComments
{} loop
"""
DOS_EPS = struct.pack("<IIIIIIIH", 0xC6D3D0C5, 30, len(POSTSCRIPT), 0, 0, 0, 0, 0xFFFF) + POSTSCRIPT
XPM = b'/* XPM */\nstatic char * x[] = {\n"2 2 1 1",\n"  c #000000",\n"  ",\n"  "};\n'
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
WMF = b"\xd7\xcd\xc6\x9a\0\0\0\0\0\0\x40\0\x40\0\x60\0\0\0\0\0\0\0\1\0\t\0\0\3" + bytes(64)


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG of any announced size; what it holds may be less."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def saved(kind: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (16, 16)).save(buffer, kind)
    return buffer.getvalue()


NO_IMAGES = {
    "postscript": POSTSCRIPT,
    "postscript behind a header of DOS": DOS_EPS,
    "postscript that ends at once": POSTSCRIPT[:40],
    "xpm": XPM,
    "svg": SVG,
    "wmf": WMF,
    "ppm": b"P6 4 4 255\n" + bytes(48),
    "psd": b"8BPS\0\1" + bytes(100),
    "pcx": saved("PCX"),
    "icns": saved("ICNS", "RGBA"),
    "jpeg 2000": saved("JPEG2000"),
    "empty": b"",
    "text": b"hello",
    "a cut PNG": saved("PNG")[:40],
    "too many pixels": png(12_000, 12_000),
    "far too many pixels": png(60_000, 60_000),
    "no pixels": png(0, 0),
    "a TIFF without tags": b"II*\0\x08\0\0\0\0\0\0\0\0\0",
    "a TIFF of nothing but tags": b"II*\0\x08\0\0\0\xff\xff"
    + b"\x00\x01\x04\0\xff\xff\xff\xff" * 99,
    "a WEBP header": b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 40,
    "a BMP header": b"BM" + b"\xff" * 60,
    "a GIF header": b"GIF89a\xff\xff\xff\xff\xff\xff\xff",
}


@pytest.fixture(autouse=True)
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `gs` on the path that leaves a mark when anything starts it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    mark = tmp_path / "gs-ran"
    for name in ("gs", "gswin32c", "gswin64c"):
        (folder / name).write_text(f"#!/bin/sh\necho 10.0\ntouch {mark}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return mark


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_what_is_no_plain_image_is_refused_with_a_sentence(kind: str, ghostscript: Path) -> None:
    with pytest.raises(ImageError), open_image(NO_IMAGES[kind]) as image:
        image.load()
    assert not ghostscript.exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_six_formats_open(kind: str) -> None:
    with open_image(saved(kind)) as image:
        assert image.convert("RGB").size == (16, 16)


def test_the_limit_on_pixels_is_the_documented_one() -> None:
    assert MAX_PIXELS == 16_384 * 8_192
    with open_image(png(16_384, 8_192)) as image:
        assert image.size == (16_384, 8_192)
    with pytest.raises(ImageError, match="more than 134,217,728 pixels"):
        open_image(png(16_384, 8_193)).__enter__()


def test_no_warning_of_pillow_reaches_the_user(recwarn: pytest.WarningsRecorder) -> None:
    with open_image(png(10_000, 10_000)) as image:
        assert image.size == (10_000, 10_000)
    assert not list(recwarn)


def test_a_named_pipe_is_refused(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "0.png")
    with pytest.raises(ImageError, match="is not a file"):
        open_image(tmp_path / "0.png").__enter__()


# ------------------------------------------------------------------------------------------------
# Every way by which images come in


def _folder(data: bytes, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(data)
    read_frames(tmp_path)


def _strip(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "strip.jpg").write_bytes(data)
    with open_source(Source(name="strip", path=tmp_path / "strip.jpg", kind="strip")) as reader:
        reader.probe()


def _archive(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"clip/{number}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    (item,) = list_archive(path).sources
    with open_item(path, item.member) as reader:
        reader.read(None, None, "stretch")


def _packed(data: bytes, tmp_path: Path) -> None:
    decode_payload(data, "jpeg", (3, 2, 16, 16))


@pytest.mark.parametrize("way", [_folder, _strip, _archive, _packed])
@pytest.mark.parametrize(
    "kind", ["postscript", "postscript behind a header of DOS", "xpm", "empty"]
)
def test_no_way_in_starts_another_program(
    way: Callable[[bytes, Path], None], kind: str, tmp_path: Path, ghostscript: Path
) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    with pytest.raises(UserError):
        way(NO_IMAGES[kind], inside)
    assert not ghostscript.exists()


def test_a_build_passes_over_postscript_among_its_images(tmp_path: Path, ghostscript: Path) -> None:
    videos = tmp_path / "videos"
    for name in ("good", "other", "bad"):
        (videos / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((16, 16, 3), 40 * number, np.uint8)
            Image.fromarray(pixels).save(videos / name / f"{number}.png")
    for file in (videos / "bad").iterdir():
        file.write_bytes(POSTSCRIPT)
    build_clips(videos, tmp_path / "out", DataConfig(resolution=8, frames=4))
    manifest = read_manifest(tmp_path / "out")
    assert [name for name, _ in manifest.dropped] == ["bad"]
    assert len(manifest.items) == 2
    assert not ghostscript.exists()


def test_a_strip_that_goes_on_longer_than_a_image_may_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.png").write_bytes(png(20_000, 10_000))
    with (
        pytest.raises(VideoError, match="more than 134,217,728 pixels"),
        open_source(Source(name="strip", path=tmp_path / "s.png", kind="strip")),
    ):
        pass


def test_one_module_opens_images() -> None:
    opens = re.compile(r"\bImage\.open\(|\bImageFile\b|\bimread\(|\bimdecode\(")
    found = [path.name for path in SOURCE.rglob("*.py") if opens.search(path.read_text())]
    assert found == ["images.py"]
