"""Videos of containers behind the functions that read any video, and what a scan of them finds."""

import io
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from video_files import frame_numbers, numbered_frame, write_video

from vidgan.data.sources.containers.reading import (
    find_containers,
    is_container,
    list_container,
    open_item,
    scan_containers,
)
from vidgan.errors import UserError
from vidgan.video import CorruptVideoError, NoVideoStreamError, UnreadableVideoError, read_frames

FOREIGN = Path(__file__).parent / "containers"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def numbered_clip(num_frames: int, first: int = 0) -> np.ndarray:
    return np.stack([numbered_frame(first + n) for n in range(num_frames)])


def png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv", "ts", "mov"])
def test_a_video_in_an_archive_is_read_as_the_file_is(tmp_path, suffix):
    codec = "mpeg4" if suffix == "avi" else "libx264"
    file = write_video(tmp_path / f"a.{suffix}", 12, codec=codec)
    path = write_zip(tmp_path / "a.zip", {f"x/a.{suffix}": file.read_bytes()})
    (item,) = list_container(path, "auto").sources
    before = {p.name for p in tmp_path.iterdir()}
    with open_item(path, item.member) as video:
        info = video.probe()
        decoded = video.read([2, 3, 7], 32, "stretch")
    assert (info.num_frames, info.width, info.height) == (12, 64, 48)
    expected = read_frames(file, [2, 3, 7], resolution=32, resize="stretch").clip
    assert torch.equal(decoded.clip, expected)
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("resolution", [None, 48, 16, 96])
@pytest.mark.parametrize("resize", ["centre-crop", "letterbox", "stretch"])
def test_arrays_and_images_are_fitted_alike(tmp_path, resolution, resize):
    clip = numbered_clip(6)
    np.save(tmp_path / "a.npy", clip)
    images = {f"x/{n}.png": png(frame) for n, frame in enumerate(clip)}
    write_tar(tmp_path / "a.tar", images)
    read = []
    for name in ("a.npy", "a.tar"):
        (item,) = list_container(tmp_path / name, "auto").sources
        with open_item(tmp_path / name, item.member) as video:
            info = video.probe()
            read.append(video.read([5, 0, 3], resolution, resize).clip)
        assert (info.num_frames, info.width, info.height, info.fps) == (6, 64, 48, 25.0)
    assert torch.equal(*read)
    if resize == "stretch":
        assert frame_numbers(read[0]) == [5, 0, 3]


def test_arrays_are_read_whole_or_by_number(tmp_path):
    np.save(tmp_path / "a.npy", numbered_clip(4))
    (item,) = list_container(tmp_path / "a.npy", "auto").sources
    with open_item(tmp_path / "a.npy", item.member) as video:
        assert frame_numbers(video.read(None, None, "stretch").clip) == [0, 1, 2, 3]
        for wrong in ([4], [-1], []):
            with pytest.raises(CorruptVideoError, match="out of range: there are 4 frames"):
                video.read(wrong, None, "stretch")


def test_grey_and_empty_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 16, 16), np.uint8))
    np.save(tmp_path / "c.npy", np.arange(3 * 8 * 8 * 3, dtype=np.uint8).reshape(3, 8, 8, 3))
    np.save(tmp_path / "b.npy", np.zeros((2, 0, 16, 16, 3), np.uint8))
    (item,) = list_container(tmp_path / "a.npy", "auto").sources
    with open_item(tmp_path / "a.npy", item.member) as video:
        assert video.probe().is_grey
    (item,) = list_container(tmp_path / "c.npy", "auto").sources
    with open_item(tmp_path / "c.npy", item.member) as video:
        assert not video.probe().is_grey
    first = list_container(tmp_path / "b.npy", "auto").sources[0]
    with (
        open_item(tmp_path / "b.npy", first.member) as video,
        pytest.raises(NoVideoStreamError, match="has no frames"),
    ):
        video.probe()


def test_the_rate_beside_images_is_kept(tmp_path):
    files = {f"k.{n}.png": png(numbered_frame(n)) for n in range(4)}
    path = write_tar(tmp_path / "a.tar", {**files, "k.json": b'{"fps": 8}'})
    (item,) = list_container(path, "auto").sources
    with open_item(path, item.member) as video:
        info = video.probe()
    assert (info.fps, info.duration_s) == (8.0, 0.5)
    assert info.frame_times_s == (0.0, 0.125, 0.25, 0.375)


def test_a_container_that_changed_or_left_is_one_reason(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.mp4": b"x"})
    (item,) = list_container(path, "auto").sources
    write_zip(path, {"other.mp4": b"yy"})
    with (
        pytest.raises(UnreadableVideoError, match="cannot be read any more"),
        open_item(path, item.member),
    ):
        pass
    path.unlink()
    with (
        pytest.raises(UnreadableVideoError, match="cannot be read any more"),
        open_item(path, item.member),
    ):
        pass


def test_damaged_and_absurd_images_are_one_reason(tmp_path):
    header = png(numbered_frame(0))[:33]
    huge = bytearray(header)
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    for start in (header[:8] + b"\0\0\0\x0c" + header[12:], bytes(huge), b"no image"):
        path = write_zip(tmp_path / "a.zip", {f"x/{n}.png": start + bytes(20) for n in range(3)})
        (item,) = list_container(path, "auto").sources
        with (
            open_item(path, item.member) as video,
            pytest.raises(UnreadableVideoError, match="cannot be read as an image"),
        ):
            video.probe()


def test_which_files_are_containers(tmp_path):
    for name in ("a.zip", "b.TAR.GZ", "c.tfrecord", "d.H5", "e.npy", "e_labels.npy", ".f.zip"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "g.npz").write_bytes(b"")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    (tmp_path / "a.gz").write_bytes(b"")
    found = [file.name for file in find_containers(tmp_path)]
    assert found == ["a.zip", "b.TAR.GZ", "c.tfrecord", "d.H5", "g.npz", "e.npy"]
    assert find_containers(tmp_path / "a.gz") == []
    assert is_container(tmp_path / "d.H5")


def scan(root: Path, splits: bool = True):
    return scan_containers(root, find_containers(root), "auto", 16, splits=splits)


def test_folders_of_an_archive_and_the_one_around_them(tmp_path):
    names = ["UCF-101/run/a.mp4", "UCF-101/walk/b.mp4"]
    found = scan(write_zip(tmp_path / "a.zip", dict.fromkeys(names, b"x")))
    assert found.what == "a zip archive"
    assert [(item.name, item.folder) for item in found.sources] == [
        ("UCF-101/run/a.mp4", "run"),
        ("UCF-101/walk/b.mp4", "walk"),
    ]
    assert found.notes == ["the folder UCF-101 holds everything, so it names no class"]
    names = ["set/train/run/a.mp4", "set/train/walk/b.mp4"]
    found = scan(write_zip(tmp_path / "b.zip", dict.fromkeys(names, b"x")))
    assert [item.folder for item in found.sources] == ["train/run", "train/walk"]


def test_shards_name_splits_and_keep_their_places(tmp_path):
    for split in ("train", "test"):
        for number in range(2):
            write_tar(
                tmp_path / f"{split}-00000{number}.tar",
                {f"{number}.mp4": b"x", f"{number}.cls": b"1"},
            )
    found = scan(tmp_path)
    assert found.what == "4 files of the kind 'WebDataset shard'"
    assert [(item.name, item.split, item.class_name) for item in found.sources] == [
        ("test-000000.tar/0.mp4", "test", "class-1"),
        ("test-000001.tar/1.mp4", "test", "class-1"),
        ("train-000000.tar/0.mp4", "train", "class-1"),
        ("train-000001.tar/1.mp4", "train", "class-1"),
    ]
    assert {item.split for item in scan(tmp_path, splits=False).sources} == {"train"}
    # A file alone is all that there is, whatever its name.
    assert {item.split for item in scan(tmp_path / "test-000000.tar").sources} == {"train"}


def test_class_folders_of_arrays(tmp_path):
    for name in ("run", "walk"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", numbered_clip(2))
    found = scan(tmp_path)
    assert [(item.name, item.folder) for item in found.sources] == [
        ("run/a.npy", "run"),
        ("walk/a.npy", "walk"),
    ]


def test_an_unreadable_file_among_others_is_dropped_and_named(tmp_path):
    write_zip(tmp_path / "a.zip", {"a.mp4": b"x", "../b.mp4": b""})
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04broken")
    found = scan(tmp_path)
    assert len(found.sources) == 1
    names = [name for name, _ in found.dropped]
    assert names == ["b.zip", "a.zip/../b.mp4"]
    assert "is not a valid zip archive" in found.dropped[0][1]
    (tmp_path / "a.zip").unlink()
    with pytest.raises(UserError, match=r"b\.zip is not a valid zip archive"):
        scan(tmp_path)


def test_one_level_of_trailer_faces_is_read(tmp_path):
    data = (FOREIGN / "faces-r02.tfrecords").read_bytes()
    for level in (2, 3, 4, 5):
        (tmp_path / f"faces-r0{level}.tfrecords").write_bytes(data)
    found = scan(tmp_path)
    assert found.what == "TFRecords of TrailerFaces' layout"
    assert {source.path.name for source in found.sources} == {"faces-r04.tfrecords"}
    assert "4 sizes of the same clips, of which faces-r04.tfrecords" in found.notes[0]
