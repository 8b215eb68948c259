"""Reading videos: exact frames from awkward files, and a word about each broken one."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from video_files import (
    cut_file,
    frame_numbers,
    numbered_frame,
    rotate_clockwise,
    write_audio,
    write_video,
)

from vidgan.video import (
    CorruptVideoError,
    NoVideoStreamError,
    UnreadableVideoError,
    VideoError,
    is_image_folder,
    probe,
    read_frames,
)
from vidgan.video import frames as video_index

NUM_FRAMES = 60
# Strictly increasing, from 11 to 90 ms apart.
UNEVEN_TIMES = [40 * n + 29 * (n % 2) for n in range(NUM_FRAMES)]

AWKWARD = {
    "h264-long-gop.mp4": {"options": {"g": "250", "bf": "3"}},
    "h264-short-gop.mp4": {"options": {"g": "12", "bf": "2"}},
    "variable-rate.mp4": {"options": {"g": "12"}, "times": UNEVEN_TIMES},
    "transport.ts": {"options": {"g": "12", "bf": "2"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "12", "q": "3"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "12", "deadline": "realtime"}},
    "grey.mkv": {"codec": "ffv1", "pix_fmt": "gray"},
    "animation.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


@pytest.mark.parametrize("name", AWKWARD)
def test_any_frame_is_found_exactly(tmp_path, name):
    path = write_video(tmp_path / name, NUM_FRAMES, **AWKWARD[name])
    info = probe(path)
    assert info.num_frames == NUM_FRAMES
    assert list(info.frame_times_s) == sorted(info.frame_times_s)
    assert frame_numbers(read_frames(path).clip) == list(range(NUM_FRAMES))
    for wanted in ([0], [59], [13], [11, 12, 13], [40, 3, 3, 59], list(range(30, 46, 3))):
        decoded = read_frames(path, wanted)
        assert frame_numbers(decoded.clip) == wanted
        assert decoded.num_corrupt == 0


def test_probe_tells_variable_from_constant_rate(tmp_path):
    uneven = probe(write_video(tmp_path / "v.mp4", NUM_FRAMES, times=UNEVEN_TIMES))
    even = probe(write_video(tmp_path / "c.mp4", NUM_FRAMES, fps=30))
    assert uneven.is_variable_rate
    assert uneven.frame_times_s[:3] == pytest.approx((0, 0.069, 0.08))
    assert not even.is_variable_rate
    assert even.fps == 30


def test_rotation_is_applied(tmp_path):
    path = rotate_clockwise(write_video(tmp_path / "phone.mp4", 3, size=(64, 48)))
    info = probe(path)
    assert (info.width, info.height, info.rotation) == (48, 64, 270)
    clip = read_frames(path).clip
    stored = torch.from_numpy(numbered_frame(2)).permute(2, 0, 1).float()
    upright = stored.flip(1).transpose(1, 2)
    assert clip.shape == (3, 3, 64, 48)
    assert (clip[:, 2].float() - upright).abs().mean() < 8


@pytest.mark.parametrize(
    ("resize", "corner", "centre"),
    [("centre-crop", (255, 0, 0), (0, 0, 255)), ("letterbox", (0, 0, 0), (0, 0, 255))],
)
def test_resize_policies(tmp_path, resize, corner, centre):
    # 64 x 32: red with a blue middle and green ends that only a crop cuts away.
    image = np.zeros((32, 64, 3), np.uint8)
    image[:] = (255, 0, 0)
    image[:, :14] = image[:, 50:] = (0, 255, 0)
    image[8:24, 24:40] = (0, 0, 255)
    for n in range(2):
        Image.fromarray(image).save(tmp_path / f"{n}.png")
    frame = read_frames(tmp_path, resolution=16, resize=resize).clip[:, 0]
    assert frame.shape == (3, 16, 16)
    assert (frame[:, 1, 1].float() - torch.tensor(corner)).abs().max() < 40
    assert (frame[:, 8, 8].float() - torch.tensor(centre)).abs().max() < 40
    green = (frame[1] > 128).float().mean().item()
    assert green == pytest.approx({"centre-crop": 0.0, "letterbox": 7 / 32}[resize], abs=0.05)


def test_stretch_keeps_the_whole_image(tmp_path):
    path = write_video(tmp_path / "wide.mp4", 2, size=(128, 32))
    clip = read_frames(path, [1], resolution=32, resize="stretch").clip
    assert clip.shape == (3, 1, 32, 32)
    assert frame_numbers(clip) == [1]


def test_averaging_to_a_smaller_size_is_fair(tmp_path):
    # A chessboard of single pixels must become even grey, not stripes.
    board = np.indices((64, 64)).sum(0) % 2 * 255
    for n in range(2):
        Image.fromarray(board.astype(np.uint8)).save(tmp_path / f"{n}.png")
    frame = read_frames(tmp_path, resolution=16).clip[:, 0].float()
    assert frame.std() < 2
    assert frame.mean() == pytest.approx(127.5, abs=2)


def _broken(tmp_path, kind):
    path = tmp_path / f"{kind}.mp4"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is not a video\n" * 50)
    elif kind == "random":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "audio":
        write_audio(path)
    elif kind == "header":
        cut_file(write_video(path, 30), 0.05)
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("missing", UnreadableVideoError),
        ("empty", UnreadableVideoError),
        ("text", UnreadableVideoError),
        ("random", UnreadableVideoError),
        ("header", NoVideoStreamError),
        ("audio", NoVideoStreamError),
        ("folder", NoVideoStreamError),
    ],
)
@pytest.mark.parametrize("reader", [probe, read_frames])
def test_unusable_files_raise_their_own_error(tmp_path, kind, error, reader):
    path = _broken(tmp_path, kind)
    with pytest.raises(error) as caught:
        reader(path)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (error, str(caught.value))


def test_truncated_file_gives_its_whole_frames(tmp_path):
    path = write_video(tmp_path / "cut.mp4", NUM_FRAMES, options={"g": "12", "bf": "0"})
    cut_file(path, 0.8)
    decoded = read_frames(path)
    numbers = frame_numbers(decoded.clip)
    assert 10 < len(numbers) < NUM_FRAMES
    assert numbers == list(range(len(numbers)))
    with pytest.raises(CorruptVideoError, match=r"cut\.mp4"):
        read_frames(path, [NUM_FRAMES - 1])


def test_flipped_bytes_are_counted_and_never_shown(tmp_path):
    path = write_video(tmp_path / "noise.mp4", NUM_FRAMES, options={"g": "12", "bf": "0"})
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    for place in np.random.default_rng(3).integers(start + 2000, len(data), 40):
        data[place] ^= 0x5A
    path.write_bytes(data)
    decoded = read_frames(path)
    assert decoded.num_corrupt > 0
    assert 1 < decoded.clip.shape[1] < NUM_FRAMES


def test_one_frame_is_a_video(tmp_path):
    path = write_video(tmp_path / "one.mp4", 1)
    assert probe(path).num_frames == 1
    assert read_frames(path, [0, 0]).clip.shape == (3, 2, 48, 64)


def test_size_change_inside_a_file_is_rescaled(tmp_path):
    path = tmp_path / "joined.ts"
    parts = [
        write_video(tmp_path / "a.ts", 10, size=(64, 48)),
        write_video(tmp_path / "b.ts", 10, size=(128, 96), first_number=10),
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = read_frames(path).clip
    assert clip.shape[2:] == (48, 64)
    assert clip.shape[1] >= 18


def test_numbered_images_are_a_video_in_number_order(tmp_path):
    for n in range(12):
        Image.fromarray(numbered_frame(n)).save(tmp_path / f"shot-{n}.png")
    assert is_image_folder(tmp_path)
    assert probe(tmp_path).num_frames == 12
    assert frame_numbers(read_frames(tmp_path).clip) == list(range(12))
    assert frame_numbers(read_frames(tmp_path, [10, 2]).clip) == [10, 2]
    (tmp_path / "shot-5.png").write_bytes(b"broken")
    decoded = read_frames(tmp_path)
    assert (decoded.num_corrupt, decoded.clip.shape[1]) == (1, 11)
    with pytest.raises(CorruptVideoError, match="frame 5"):
        read_frames(tmp_path, [5])
    with pytest.raises(CorruptVideoError, match="out of range: there are 12"):
        read_frames(tmp_path, [-1])


def test_folders_of_other_images_are_no_video(tmp_path):
    Image.fromarray(numbered_frame(0)).save(tmp_path / "cover.png")
    Image.fromarray(numbered_frame(1)).save(tmp_path / "frame-1.png")
    assert not is_image_folder(tmp_path)


def test_frames_outside_the_file_are_refused(tmp_path):
    path = write_video(tmp_path / "short.mp4", 5)
    for wanted in ([5], [-1], []):
        with pytest.raises(VideoError, match=r"short\.mp4"):
            read_frames(path, wanted)


def test_a_file_that_changed_is_indexed_anew(tmp_path):
    path = write_video(tmp_path / "a.mp4", 40, options={"g": "12"})
    assert frame_numbers(read_frames(path, [3, 30]).clip) == [3, 30]
    write_video(path, 25, times=[40 * n + 29 * (n % 2) for n in range(25)])
    assert probe(path).num_frames == 25
    assert frame_numbers(read_frames(path, [3, 24]).clip) == [3, 24]
    with pytest.raises(CorruptVideoError, match="out of range: there are 25 frames"):
        read_frames(path, [30])


def test_few_frame_times_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr("vidgan.video.frames._MAX_REMEMBERED", 50)
    video_index.forget()
    paths = [write_video(tmp_path / f"{n}.mp4", 20) for n in range(3)]
    for path in [*paths, paths[1]]:
        read_frames(path, [5])
    # The one that was not used for longest went.
    assert [Path(key[0]).name for key in video_index._remembered] == ["2.mp4", "1.mp4"]
