"""Streaming the frames of a video: the same frames as reading it whole, damage counted."""

import pytest
import torch
from PIL import Image
from video_files import cut_file, frame_numbers, numbered_frame, rotate_clockwise, write_video

from vidgan.video import CorruptVideoError, FrameStream, UnreadableVideoError, read_frames


def clip_of(stream: FrameStream) -> torch.Tensor:
    return torch.stack([torch.from_numpy(pixels) for _, pixels in stream]).permute(3, 0, 1, 2)


def test_stream_gives_what_reading_the_whole_file_gives(tmp_path):
    path = rotate_clockwise(write_video(tmp_path / "a.mp4", 30))
    stream = FrameStream(path)
    assert torch.equal(clip_of(stream), read_frames(path).clip)
    assert (stream.num_frames, stream.num_corrupt) == (30, 0)


def test_only_wanted_frames_are_converted_and_keep_their_numbers(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30, options={"crf": "10"})
    stream = FrameStream(path, range(10, 20, 3))
    assert [number for number, _ in stream] == [10, 13, 16, 19]
    assert frame_numbers(clip_of(stream)) == [10, 13, 16, 19]
    assert stream.num_frames == 30


def test_damage_is_counted_and_passed_over(tmp_path):
    path = write_video(tmp_path / "a.mp4", 120, options={"g": "30", "crf": "10"})
    data = bytearray(path.read_bytes())
    for offset in range(len(data) // 2, len(data) - 200, 40):
        data[offset] ^= 0xFF
    path.write_bytes(data)
    stream = FrameStream(path)
    clip = clip_of(stream)
    whole = read_frames(path)
    assert stream.num_corrupt == whole.num_corrupt > 0
    assert torch.equal(clip, whole.clip)
    with pytest.raises(UnreadableVideoError, match=r"b\.mp4"):
        list(FrameStream(cut_file(write_video(tmp_path / "b.mp4", 9), 0.02)))


def test_folders_of_images_stream_too(tmp_path):
    for n in range(12):
        Image.fromarray(numbered_frame(n)).save(tmp_path / f"shot-{n}.png")
    (tmp_path / "shot-5.png").write_bytes(b"broken")
    stream = FrameStream(tmp_path)
    assert frame_numbers(clip_of(stream)) == [n for n in range(12) if n != 5]
    assert (stream.num_frames, stream.num_corrupt) == (11, 1)
    for n in range(12):
        (tmp_path / f"shot-{n}.png").write_bytes(b"broken")
    with pytest.raises(CorruptVideoError, match="no frame"):
        list(FrameStream(tmp_path))


def test_frames_can_be_fitted_to_a_square(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30, size=(128, 48))
    stream = FrameStream(path, {4, 20}, resolution=24, resize="letterbox")
    assert torch.equal(
        clip_of(stream), read_frames(path, [4, 20], resolution=24, resize="letterbox").clip
    )
    assert clip_of(FrameStream(path, {0}, resolution=24)).shape == (3, 1, 24, 24)
