"""The videos that archives, WebDataset shards and TFRecords are made into."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tfrecord_files import example, sequence_example, write_records
from video_files import numbered_frame, write_video

from vidgan.data.sources.containers.archive_items import list_archive, read_archive_item
from vidgan.data.sources.containers.items import Frames, Images, VideoBytes
from vidgan.data.sources.containers.tfrecord import (
    choose_levels,
    list_records,
    read_record_item,
)
from vidgan.errors import UserError
from vidgan.video import UnreadableVideoError

FOREIGN = Path(__file__).parent / "containers"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))


def image(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
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


def test_videos_images_and_the_rest_of_an_archive(tmp_path):
    frames = {f"walk/shots/f{n:03d}.png": image(n) for n in (0, 2, 10, 1)}
    files = {
        "run/b.MP4": b"b",
        "run/a.avi": b"a",
        "run/a_thumb1.png": b"",
        "run/a_thumb2.png": b"",
        **frames,
        "one/f1.png": b"",
        "notes.txt": b"",
        "__MACOSX/run/._a.avi": b"",
        ".DS_Store": b"",
    }
    listing = list_archive(write_zip(tmp_path / "a.zip", files))
    assert listing.what == "a zip archive"
    assert [item.name for item in listing.sources] == ["run/a.avi", "run/b.MP4", "walk/shots"]
    assert {item.class_name for item in listing.sources} == {None}
    assert listing.notes == ["4 files that are not videos were ignored"]
    content = read_archive_item(tmp_path / "a.zip", listing.sources[2].member)
    # In the order of the numbers and not of the letters.
    assert content == Images(tuple(image(n) for n in (0, 1, 2, 10)))
    assert read_archive_item(tmp_path / "a.zip", "run/b.MP4") == VideoBytes(b"b", ".mp4")


def test_names_with_line_breaks_and_markup(tmp_path):
    files = {"a\nb/<script>.mp4": b"x", "a\nb/ok.mp4": b"y"}
    for path in (write_zip(tmp_path / "a.zip", files), write_tar(tmp_path / "a.tar", files)):
        listing = list_archive(path)
        assert [item.name for item in listing.sources] == ["a\\nb/<script>.mp4", "a\\nb/ok.mp4"]
        assert read_archive_item(path, listing.sources[0].member) == VideoBytes(b"x", ".mp4")


def test_an_archive_without_videos_is_one_sentence(tmp_path):
    write_zip(tmp_path / "a.zip", {"a.txt": b"", "../b.mp4": b""})
    with pytest.raises(UserError, match="holds no videos, only 1 other files and 1 that are not"):
        list_archive(tmp_path / "a.zip")


def test_shards_of_the_package_webdataset():
    names = ["shard-000000.tar.gz", "shard-000001.tar.gz"]
    listings = [list_archive(FOREIGN / name) for name in names]
    assert [listing.what for listing in listings] == ["a WebDataset shard"] * 2
    assert [(item.name, item.class_name) for listing in listings for item in listing.sources] == [
        ("clip0000.frames.npy", "run"),
        ("clip0001.frames.npy", "wave"),
        ("clip0002.frames.npy", "run"),
    ]
    content = read_archive_item(FOREIGN / names[0], listings[0].sources[1].member)
    assert isinstance(content, Frames)
    assert content.pixels.shape == (4, 8, 8, 3)
    assert np.unique(content.pixels).tolist() == [25]


def test_samples_of_every_kind(tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    path = write_tar(
        tmp_path / "a.tar",
        {
            "0000.mp4": b"video",
            "0000.cls": b"2\n",
            "0001.npy": npy(clip),
            "0001.cls": b"10",
            "0001.json": json.dumps({"fps": 12.5, "split": "test"}).encode(),
            "0002.00.png": image(5),
            "0002.01.png": image(6),
            "0002.json": b'{"label": "jump\\n"}',
            "0003.mp4": b"cut",
            "0003.json": b"{broken",
            "0004.txt": b"a caption",
            "0005.cls": b"1",
        },
    )
    listing = list_archive(path)
    assert [(i.name, i.class_name, i.split) for i in listing.sources] == [
        ("0000.mp4", "class-02", ""),
        ("0001.npy", "class-10", "test"),
        ("0002", "jump", ""),
        ("0003.mp4", None, ""),
    ]
    assert listing.notes == ["2 files that are not videos were ignored"]
    contents = [read_archive_item(path, item.member) for item in listing.sources]
    assert contents[0] == VideoBytes(b"video", ".mp4")
    assert isinstance(contents[1], Frames)
    assert contents[1].fps == 12.5
    assert np.array_equal(contents[1].pixels, clip)
    assert contents[2] == Images((image(5), image(6)))


def test_arrays_in_samples_that_are_no_videos(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        {
            "a.npy": npy(np.zeros((2, 3), np.uint8)),
            "b.npy": npy(np.array([None], object)),
            "c.npy": npy(np.zeros((50, 4, 8, 8, 3), np.uint8)),
            "d.npy": b"text",
        },
    )
    for name, said in [
        ("a.npy", "no known order"),
        ("b.npy", "pickled Python objects"),
        ("c.npy", "several videos"),
        ("d.npy", "not a valid NPY"),
    ]:
        with pytest.raises(UnreadableVideoError, match=said):
            read_archive_item(path, name)


def test_records_in_the_layout_of_trailer_faces():
    path = FOREIGN / "faces-r02.tfrecords"
    listing = list_records(path)
    assert listing.what == "TFRecords of TrailerFaces' layout"
    assert [item.name for item in listing.sources] == ["000000", "000001", "000002"]
    content = read_record_item(path, listing.sources[2].member)
    assert isinstance(content, Frames)
    assert content.pixels.shape == (4, 4, 4, 3)
    assert content.pixels[3, 0, 0].tolist() == [110, 111, 112]


def test_sequences_of_images_with_labels():
    path = FOREIGN / "sequences.tfrecord"
    listing = list_records(path)
    assert listing.what == "TFRecords"
    assert [item.class_name for item in listing.sources] == ["run", "wave"]
    content = read_record_item(path, listing.sources[1].member)
    assert isinstance(content, Images)
    assert len(content.files) == 4
    assert np.asarray(Image.open(io.BytesIO(content.files[2])))[0, 0].tolist() == [100] * 3


def test_one_size_of_several_is_read(tmp_path):
    names = [f"faces-r0{level}.tfrecords" for level in range(2, 9)]
    files = [tmp_path / name for name in [*names, "other.tfrecords"]]
    for resolution, expected in ((4, 2), (32, 5), (48, 6), (64, 6), (512, 8)):
        kept, notes = choose_levels(files, resolution)
        assert [file.name for file in kept] == [f"faces-r0{expected}.tfrecords", "other.tfrecords"]
        assert f"7 sizes of the same clips, of which faces-r0{expected}" in notes[0]
    assert choose_levels(files[:1], 64) == (files[:1], [])


@pytest.mark.parametrize("labels", [[1, 0, 1], np.eye(2, dtype=np.float32)[[1, 0, 1]]])
def test_labels_of_trailer_faces(tmp_path, labels):
    (tmp_path / "faces-r02.tfrecords").write_bytes((FOREIGN / "faces-r02.tfrecords").read_bytes())
    file = tmp_path / "faces-rxx.labels"
    file.write_bytes(npy(np.array(labels)))
    items = list_records(tmp_path / "faces-r02.tfrecords").sources
    assert [item.class_name for item in items] == ["class-1", "class-0", "class-1"]
    file.write_bytes(npy(np.array(labels)[:2]))
    with pytest.raises(UserError, match="a label for each of the 3 records"):
        list_records(tmp_path / "faces-r02.tfrecords")
    file.write_bytes(npy(np.array([None] * 3)))
    with pytest.raises(UserError, match="pickled Python objects"):
        list_records(tmp_path / "faces-r02.tfrecords")


def test_records_with_other_features(tmp_path):
    video = write_video(tmp_path / "a.mp4", 3).read_bytes()
    frames = [image(n) for n in range(3)]
    path = write_records(
        tmp_path / "a.tfrecord",
        [
            example({"video": [video], "label": [3]}),
            example({"frames": frames, "label": [4]}),
            sequence_example({"label": [4]}, {"rgb": frames}),
            example({"label": [5], "name": [b"nothing"]}),
            example({"shape": [3, 3, 8, 8], "data": [bytes(5)], "label": [0]}),
            b"\xff\xff\xff",
        ],
    )
    items = list_records(path).sources
    assert [item.class_name for item in items] == [f"class-{n}" for n in (3, 4, 4, 5, 0, 3)]
    contents = [read_record_item(path, item.member) for item in items[:3]]
    assert contents == [VideoBytes(video), Images(tuple(frames)), Images(tuple(frames))]
    for item, said in zip(
        items[3:],
        (r"no video \(its features: label, name\)", "do not have the shape", "cannot be parsed"),
        strict=True,
    ):
        with pytest.raises(UnreadableVideoError, match=said):
            read_record_item(path, item.member)


def test_cut_empty_and_packed_files_of_records(tmp_path):
    path = tmp_path / "a.tfrecords"
    data = (FOREIGN / "faces-r02.tfrecords").read_bytes()
    path.write_bytes(data[:-5])
    listing = list_records(path)
    assert len(listing.sources) == 2
    assert listing.notes == ["a.tfrecords ends early: record 2 is cut off"]
    for content, said in (
        (b"", r"no complete record \(it is empty\)"),
        (data[:50], "record 0 is cut off"),
        (b"\x1f\x8b" + bytes(100), "unpack it with gunzip"),
        (b"not records " * 20, "damaged length"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            list_records(path)


def test_a_frame_number_survives_the_way_through_an_archive(tmp_path):
    files = {}
    for number in range(3):
        buffer = io.BytesIO()
        Image.fromarray(numbered_frame(number)).save(buffer, "PNG")
        files[f"x/{number}.png"] = buffer.getvalue()
    path = write_tar(tmp_path / "a.tar", files)
    (item,) = list_archive(path).sources
    content = read_archive_item(path, item.member)
    assert isinstance(content, Images)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content.files[2]))), numbered_frame(2))
