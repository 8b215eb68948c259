"""What a video or picture costs: tables that claim too much, and memory for each pixel."""

import struct
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vidgan.video import UnreadableVideoError, probe
from vidgan.video.frames import rgb_picture
from vidgan.video.geometry import sdr_pixels
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
    with pytest.raises(UnreadableVideoError, match="claims more frames than it has bytes"):
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
    with pytest.raises(UnreadableVideoError, match="claims more frames than it has bytes"):
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


def test_a_large_picture_is_held_in_few_copies(tmp_path: Path) -> None:
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
def test_strips_of_pictures_meet(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 256, (37, 20, 3), np.uint8)
    picture = Image.fromarray(values)
    if mode == "I;16":
        picture = Image.fromarray(values[..., 0].astype(np.uint16) << 8)
    else:
        picture = picture.convert(mode)
    whole = rgb_picture(picture)
    monkeypatch.setattr("vidgan.video.frames._STRIP_PIXELS", 100)
    assert np.array_equal(rgb_picture(picture), whole)
    if mode == "RGB":
        assert np.array_equal(whole, values)
