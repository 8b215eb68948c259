"""What a video or image costs: tables that claim too much, and memory for each pixel."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vidgan.video import UnreadableVideoError, probe, read_frames
from vidgan.video.frames import rgb_image
from vidgan.video.geometry import sdr_pixels
from vidgan.video.reading import FrameStream
from vidgan.video.writing import write_mp4

PATH_TO_TABLES = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
MANY = 80_000_000


def rebuilt(data: bytes, changes: dict[bytes, bytes]) -> bytes:
    """Boxes of an MP4 with other contents in some of them."""
    out, position = b"", 0
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + length]
        body = rebuilt(body, changes) if kind in PATH_TO_TABLES else changes.get(kind, body)
        out += struct.pack(">I4s", len(body) + 8, kind) + body
        position += length
    return out


def forged(path: Path, frames: int, kind: bytes) -> None:
    """A file whose frames are all the same byte."""
    write_mp4(path, torch.zeros(3, 2, 16, 16, dtype=torch.uint8), 8)
    data = path.read_bytes()
    chunks = frames // 1000
    sizes = {b"stsz": struct.pack(">III", 0, 1, frames), b"stz2": struct.pack(">III", 0, 8, frames)}
    changes = {
        b"stsc": struct.pack(">IIIII", 0, 1, 1, 1000, 1),
        b"stts": struct.pack(">IIII", 0, 1, frames, 1),
        b"stco": struct.pack(">II", 0, chunks) + struct.pack(">I", 48) * chunks,
        b"stsz": sizes[kind],
    }
    path.write_bytes(rebuilt(data, changes).replace(b"stsz", kind))


@pytest.mark.parametrize("kind", [b"stsz", b"stz2"])
def test_an_mp4_of_more_frames_than_bytes_is_refused(tmp_path: Path, kind: bytes) -> None:
    forged(tmp_path / "a.mp4", MANY, kind)
    with pytest.raises(UnreadableVideoError, match="claims more frames than its bytes can hold"):
        probe(tmp_path / "a.mp4")


def test_fragments_of_more_frames_than_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(path, "w", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert probe(path).num_frames == 4
    data = bytearray(path.read_bytes())
    at = data.index(b"trun")
    data[at + 4 : at + 12] = struct.pack(">II", 0, MANY)
    path.write_bytes(data)
    with pytest.raises(UnreadableVideoError, match="claims more frames than its bytes can hold"):
        probe(path)


def test_compressed_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    path.write_bytes(struct.pack(">I4sI4s", 16, b"moov", 8, b"cmov"))
    with pytest.raises(UnreadableVideoError, match="has compressed tables"):
        probe(path)


def peak_bytes_per_pixel(lines: str, pixels: int) -> float:
    """Most memory that a process takes for `work(SIDE)` beyond what `work(1)` took."""
    script = (
        f"import re\n{lines}\n"
        # The peak that `resource` knows of is that of the parent too.
        "peak = lambda: int(re.search('VmHWM:.*?([0-9]+)', open('/proc/self/status').read())[1])\n"
        "work(1)\nbefore = peak()\nwork(SIDE)\nprint((peak() - before) * 1024)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return int(told.stdout) / pixels


SIDE = 4096


def test_a_large_image_is_held_in_few_copies(tmp_path: Path) -> None:
    for name, size in (("small", 64), ("large", SIDE)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (size, size)).save(tmp_path / name / "1.png", compress_level=1)
        (tmp_path / name / "2.png").hardlink_to(tmp_path / name / "1.png")
    lines = (
        f"SIDE = {SIDE}\nfrom vidgan.video import read_frames\n"
        "def work(side):\n"
        f"    read_frames({str(tmp_path)!r} + ('/large' if side > 1 else '/small'), [0],"
        " resolution=64)"
    )
    # Four bytes in Pillow and three of ours; then these three, and three more in the frame.
    assert peak_bytes_per_pixel(lines, SIDE * SIDE) < 11


def test_hdr_is_never_light_all_at_once() -> None:
    lines = (
        f"SIDE = {SIDE}\nimport numpy as np\nfrom vidgan.video.geometry import sdr_pixels\n"
        "def work(side):\n"
        "    sdr_pixels(np.full((3, side, side), 30000, np.uint16), 'PQ', 9)"
    )
    # Six bytes go in and three come out.
    assert peak_bytes_per_pixel(lines, SIDE * SIDE) < 12


@pytest.mark.parametrize("transfer", ["PQ", "HLG"])
def test_strips_of_hdr_meet(transfer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (3, 37, 20), np.uint16)
    whole = sdr_pixels([*deep], transfer, 9)
    monkeypatch.setattr("vidgan.video.geometry._STRIP_PIXELS", 100)
    strips = sdr_pixels([*deep], transfer, 9)
    assert np.abs(whole.astype(int) - strips.astype(int)).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_strips_of_images_meet(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 256, (37, 20, 3), np.uint8)
    image = Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) << 8)
    else:
        image = image.convert(mode)
    whole = rgb_image(image)
    monkeypatch.setattr("vidgan.video.frames._STRIP_PIXELS", 100)
    assert np.array_equal(rgb_image(image), whole)
    if mode == "RGB":
        assert np.array_equal(whole, values)


def tiny_changes_of_a_gif(path: Path, side: int, frames: int) -> None:
    """A large canvas of which every frame changes one pixel, with 23 bytes."""
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    control = b"\x21\xf9\x04\x00\x05\x00\x00\x00"
    pixel = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    path.write_bytes(head + (control + pixel) * frames + b";")


def tiny_changes_of_an_apng(path: Path, side: int, frames: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data += chunk(b"acTL", struct.pack(">II", frames, 0))
    whole, pixel = (zlib.compress(bytes(1 + 3 * width) * width, 1) for width in (side, 1))
    for n in range(frames):
        width = 1 if n else side
        data += chunk(b"fcTL", struct.pack(">IIIIIHHBB", 2 * n, width, width, 0, 0, 1, 10, 0, 0))
        data += chunk(b"fdAT", struct.pack(">I", 2 * n - 1) + pixel) if n else chunk(b"IDAT", whole)
    path.write_bytes(data + chunk(b"IEND", b""))


def still_film(codec: str, path: Path, side: int, frames: int) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=8, options={"preset": "ultrafast"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.thread_count = 1
        pixels = np.zeros((side * 3 // 2, side), np.uint8)
        for _ in range(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format=stream.pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def mjpeg_film(path: Path, side: int, frames: int) -> None:
    still_film("mjpeg", path, side, frames)


def h264_film(path: Path, side: int, frames: int) -> None:
    still_film("libx264", path, side, frames)


WRITERS: dict[str, Callable[[Path, int, int], None]] = {
    ".gif": tiny_changes_of_a_gif,
    ".apng.mp4": tiny_changes_of_an_apng,
    ".avi": mjpeg_film,
    ".mp4": h264_film,
}


@pytest.mark.parametrize("reading", ["None", "list(range(30))", "iterating"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_decoded_frames_do_not_pile_up(tmp_path: Path, suffix: str, reading: str) -> None:
    side, frames = 1600, 40
    for name, size in (("large", side), ("small", 64)):
        WRITERS[suffix](tmp_path / f"{name}{suffix}", size, frames)
    read = (
        "sum(1 for _ in FrameStream(path, resolution=16))"
        if reading == "iterating"
        else f"read_frames(path, {reading}, resolution=16)"
    )
    lines = (
        f"SIDE = {side}\nfrom vidgan.video import read_frames\n"
        "from vidgan.video.reading import FrameStream\n"
        "def work(side):\n"
        f"    path = {str(tmp_path)!r} + ('/large' if side > 1 else '/small') + {suffix!r}\n"
        f"    {read}"
    )
    # Decoders hold some frames of up to four bytes a pixel, none of them the 30 that are asked.
    assert peak_bytes_per_pixel(lines, side * side) < 40


@pytest.mark.parametrize("name", ["a.gif", "a.mp4"])
def test_a_file_of_far_more_pixels_than_bytes_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    tiny_changes_of_a_gif(path, 8000, 500)
    for work in (probe, read_frames):
        with pytest.raises(UnreadableVideoError, match="pixels in 11,520 bytes, more than any"):
            work(path)


def test_frames_that_outgrow_the_header_count_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.gif"
    tiny_changes_of_a_gif(path, 100, 500)
    monkeypatch.setattr("vidgan.video.frames._FREE_PIXELS", 0)
    monkeypatch.setattr("vidgan.video.frames._PIXELS_PER_BYTE", 100)
    with pytest.raises(UnreadableVideoError, match="make its frames smaller or fewer"):
        list(FrameStream(path, resolution=16))


def test_a_still_recording_is_read_whole(tmp_path: Path) -> None:
    tiny_changes_of_a_gif(tmp_path / "a.gif", 1080, 600)
    assert read_frames(tmp_path / "a.gif", resolution=16).pixels.shape == (3, 600, 16, 16)
