"""Random access gives exactly the frame that was asked for, whatever the container.

Every frame carries its number. 25 frames of each file are read one by one, each by a call of its
own, so that each is found by a seek.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from video_files import cut_without_encoding, frame_numbers, numbered_frame, write_video

from vidgan.video import probe, read_frames

NUM_FRAMES = 100
NUM_PROBES = 25
UNEVEN_TIMES = [40 * n + 29 * (n % 2) for n in range(NUM_FRAMES)]


def edit_list(path: Path) -> None:
    """A cut that starts 30 frames behind a key frame, which stay hidden in the file."""
    whole = path.with_name("whole.mp4")
    write_video(whole, 30 + NUM_FRAMES, options={"g": "200", "bf": "2"})
    cut_without_encoding(whole, path, 30)
    whole.unlink()


def images(path: Path) -> None:
    path.mkdir()
    for number in range(NUM_FRAMES):
        Image.fromarray(numbered_frame(number)).save(path / f"{number}.png")


def video(**given: object) -> Callable[[Path], object]:
    """Writes a video of `NUM_FRAMES` frames."""
    return lambda path: write_video(path, NUM_FRAMES, **given)  # type: ignore[arg-type]


FILES: dict[str, Callable[[Path], object]] = {
    "long-groups.mp4": video(options={"g": "250", "bf": "3"}),
    "short-groups.mp4": video(options={"g": "12", "bf": "2"}),
    "variable-rate.mp4": video(times=UNEVEN_TIMES, options={"g": "12"}),
    "edit-list.mp4": edit_list,
    "h264.mov": video(options={"g": "12", "bf": "2"}),
    "h264.mkv": video(options={"g": "12", "bf": "2"}),
    "h264.ts": video(options={"g": "12", "bf": "2"}),
    "xvid.avi": video(codec="mpeg4", options={"g": "12", "q": "3"}),
    "vp9.webm": video(codec="libvpx-vp9", options={"g": "12", "deadline": "realtime"}),
    "mpeg1.mpg": video(codec="mpeg1video", options={"q": "3"}),
    "mpeg2.vob": video(codec="mpeg2video", options={"q": "3", "bf": "2"}),
    "flash.flv": video(codec="flv1", options={"q": "3"}),
    "windows.wmv": video(codec="wmv2", options={"q": "3"}),
    "animation.gif": video(codec="gif", pix_fmt="rgb8"),
    "images": images,
}


@pytest.mark.parametrize("name", FILES)
def test_25_of_25_frames_are_exact(tmp_path, name):
    path = tmp_path / name
    FILES[name](path)
    assert probe(path).num_frames == NUM_FRAMES
    first = 30 if name == "edit-list.mp4" else 0
    wanted = random.Random(name).sample(range(NUM_FRAMES), NUM_PROBES)
    found = [frame_numbers(read_frames(path, [n]).clip)[0] - first for n in wanted]
    assert found == wanted
