"""The 24 kinds of damaged and odd files: what the reader gives and what a build makes of each.

Every file is made here. A kind tells how many of its frames a whole reading gives, whether damage
is counted, and what a build says; frames that are given are always the right ones, in order.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from video_files import (
    cut_file,
    frame_numbers,
    numbered_frame,
    rotate_clockwise,
    write_audio,
    write_video,
)

from vidgan.data.build.packing import DataConfig, build_clips
from vidgan.data.packed.store import open_store
from vidgan.errors import UserError
from vidgan.video import VideoError, probe, read_frames

NUM_FRAMES = 180
# clip=random stores whole videos: damage anywhere lies within what is wanted.
CONFIG = DataConfig(
    resolution=32, frames=16, workers=0, heldout_fraction=0.0, resize="stretch", clip="random"
)
UNEVEN_TIMES = [40 * n + 29 * (n % 2) for n in range(70)]
GROUPS = {"g": "12", "bf": "0"}


@dataclass(frozen=True)
class Kind:
    """What is expected of one kind of file.

    Attributes:
        make: Writes the file to a path.
        name: File name, which may lie about the contents.
        frames: Least and most frames that reading all of it gives; None if it cannot be read.
        damaged: Whether damage is counted, and `strict` therefore refuses the file.
        says: Pattern of the reason why it is dropped, or of the note on it; None for no note.
        dropped: Whether a build of 16 frames drops it.
        shows: Share of the frames that show something of their own; the others repeat what an
            earlier one showed, because decoders fill in what they miss.
    """

    make: Callable[[Path], object]
    name: str
    frames: tuple[int, int] | None
    says: str | None
    dropped: bool = False
    damaged: bool = False
    shows: float = 1.0


def flip_bytes(path: Path, count: int, seed: int = 3) -> None:
    """Change bytes behind the headers."""
    data = bytearray(path.read_bytes())
    start = max(data.find(b"mdat"), data.find(b"movi")) + 600
    for place in np.random.default_rng(seed).integers(start, len(data) - 200, count):
        data[place] ^= 0x5A
    path.write_bytes(data)


def noisy_packets(path: Path) -> None:
    """A file of whole packets in whose payloads some bits are wrong, as a bad line leaves them."""
    whole = write_video(path.with_name("whole.mkv"), NUM_FRAMES, options=GROUPS | {"crf": "5"})
    rng = np.random.default_rng(5)
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                continue
            payload = bytearray(bytes(packet))
            if number % 40 == 25:
                payload[rng.integers(len(payload) // 2, len(payload))] ^= 0x10
            noisy = av.Packet(bytes(payload))
            noisy.pts, noisy.dts, noisy.time_base = packet.pts, packet.dts, packet.time_base
            noisy.is_keyframe, noisy.stream = packet.is_keyframe, stream
            target.mux(noisy)
    whole.unlink()


def without_index(path: Path) -> None:
    """An MP4 whose index would follow the images, cut off before it."""
    whole = write_video(path, NUM_FRAMES, options=GROUPS, faststart=False)
    data = whole.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])


def size_change(path: Path) -> None:
    parts = [
        write_video(path.with_name(f"part{n}.ts"), 50, size=size, first_number=50 * n)
        for n, size in enumerate(((64, 48), (128, 96)))
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()


def video(num_frames: int, **given: object) -> Callable[[Path], object]:
    """Writes a whole video."""
    return lambda path: write_video(path, num_frames, **given)  # type: ignore[arg-type]


def half(**given: object) -> Callable[[Path], object]:
    """Writes the first half of a video's bytes."""
    return lambda path: cut_file(write_video(path, NUM_FRAMES, **given), 0.5)  # type: ignore[arg-type]


def flipped(count: int, **given: object) -> Callable[[Path], object]:
    """Writes a video and changes bytes of it."""
    return lambda path: flip_bytes(write_video(path, NUM_FRAMES, **given), count)  # type: ignore[arg-type]


VP9 = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "auto-alt-ref": "0"}}
HEVC = {"codec": "libx265", "options": {"x265-params": "log-level=none"}}
XVID = {"codec": "mpeg4", "options": {"g": "12"}}
UNREADABLE = "cannot be read as video"

KINDS = {
    "empty": Kind(lambda p: p.write_bytes(b""), "a.mp4", None, "^the file is empty$", True),
    "random bytes": Kind(
        lambda p: p.write_bytes(np.random.default_rng(0).bytes(9000)),
        "a.mp4",
        None,
        UNREADABLE,
        True,
    ),
    "text": Kind(lambda p: p.write_text("no video\n" * 500), "a.avi", None, UNREADABLE, True),
    "mp4 without index": Kind(without_index, "a.mp4", None, UNREADABLE, True),
    "half an mp4": Kind(half(options=GROUPS), "a.mp4", (40, 100), "^damaged: ", damaged=True),
    "half an avi": Kind(half(**XVID), "a.avi", (50, 100), "^damaged: ", damaged=True),
    "mp4 with flipped bytes": Kind(
        flipped(12, options=GROUPS), "a.mp4", (40, 176), "^damaged: ", damaged=True, shows=0.8
    ),
    "avi with flipped bytes": Kind(
        flipped(12, **XVID), "a.avi", (40, 176), "^damaged: ", damaged=True, shows=0.8
    ),
    "bit noise in packets": Kind(
        noisy_packets, "a.mkv", (100, 179), "^damaged: ", damaged=True, shows=0.8
    ),
    "variable rate": Kind(
        video(70, times=UNEVEN_TIMES), "a.mp4", (70, 70), "^variable frame rate$"
    ),
    "rotation flag": Kind(
        lambda p: rotate_clockwise(write_video(p, 50)), "a.mp4", (50, 50), "^rotated by 270"
    ),
    "grey": Kind(video(50, codec="ffv1", pix_fmt="gray"), "a.mkv", (50, 50), "^grey$"),
    "vp9 with alpha": Kind(video(50, pix_fmt="yuva420p", **VP9), "a.webm", (50, 50), None),
    "odd size in 4:4:4": Kind(
        video(20, size=(321, 241), pix_fmt="yuv444p"), "a.mp4", (20, 20), "^odd size$"
    ),
    "odd size in FFV1": Kind(
        video(20, size=(321, 241), codec="ffv1"), "a.mkv", (20, 20), "^odd size$"
    ),
    "10-bit hevc": Kind(video(50, pix_fmt="yuv420p10le", **HEVC), "a.mp4", (50, 50), None),
    "audio only": Kind(write_audio, "a.mp4", None, "^has no video stream$", True),
    "header without frames": Kind(
        lambda p: cut_file(write_video(p, 30), 0.05), "a.mp4", None, "^has no video stream$", True
    ),
    "one frame": Kind(video(1), "a.mp4", (1, 1), "^has 1 of 16 frames$", True),
    "five frames": Kind(video(5), "a.mp4", (5, 5), "^has 5 of 16 frames$", True),
    "png named mp4": Kind(
        lambda p: Image.fromarray(numbered_frame(0)).save(p, "PNG"),
        "a.mp4",
        (1, 1),
        "^has 1 of 16 frames$",
        True,
    ),
    "animated gif": Kind(video(20, codec="gif", pix_fmt="rgb8"), "a.gif", (20, 20), None),
    "mpeg-ts": Kind(video(NUM_FRAMES, options={"bf": "2"}), "a.ts", (180, 180), None),
    "size changes": Kind(size_change, "a.ts", (100, 100), None),
}


def test_there_are_24_kinds():
    assert len(KINDS) == 24


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_is_read_as_it_should_be(tmp_path, kind):
    path = tmp_path / "v" / kind.name
    path.parent.mkdir()
    kind.make(path)
    assert [file.name for file in path.parent.iterdir()] == [kind.name]
    if kind.frames is None:
        for reader in (probe, read_frames):
            with pytest.raises(VideoError, match=kind.says.strip("^$")) as caught:
                reader(path)
            assert caught.value.path == str(path)
    else:
        decoded = read_frames(path)
        assert kind.frames[0] <= decoded.clip.shape[1] <= kind.frames[1]
        assert (decoded.num_corrupt > 0 or probe(path).num_missing > 0) == kind.damaged
        clip = decoded.clip.transpose(2, 3).flip(2) if probe(path).rotation else decoded.clip
        numbers = frame_numbers(clip)
        if kind.shows == 1:
            assert numbers == list(range(len(numbers)))
        assert len(set(numbers)) >= kind.shows * len(numbers)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_build_keeps_or_drops_every_kind_with_a_word(tmp_path, kind):
    path = tmp_path / "v" / kind.name
    write_video(tmp_path / "v" / "good.mp4", 16)
    kind.make(path)
    report = build_clips(tmp_path / "v", tmp_path / "set", CONFIG)
    said = dict(report.dropped if kind.dropped else report.notes).get(kind.name)
    assert (said is None) == (kind.says is None)
    assert kind.says is None or re.search(kind.says, said)
    kept = [item.source for item in open_store(tmp_path / "set").items]
    assert kept == (["good.mp4"] if kind.dropped else [kind.name, "good.mp4"])
    assert report.num_videos == 2
    strict = replace(CONFIG, strict=True)
    if kind.dropped or kind.damaged:
        with pytest.raises(UserError, match=re.escape(f"{kind.name} is not clean")):
            build_clips(tmp_path / "v", tmp_path / "strict", strict)
    else:
        assert build_clips(tmp_path / "v", tmp_path / "strict", strict).num_clips == 2
