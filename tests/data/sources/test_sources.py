"""Which files of a folder are videos, and how folders become splits and classes."""

import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from video_files import numbered_frame

from vidgan.data.settings import DataConfig
from vidgan.data.sources.layouts import scan_sources
from vidgan.errors import UserError

CONFIG = DataConfig(resolution=16, frames=4)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_first_level_splits_and_nested_classes(tmp_path):
    touch(tmp_path, "train/run/x/a.mp4", "train/walk/b.AVI", "test/run/c.mkv", "heldout/walk/d.mov")
    scan = scan_sources(tmp_path, CONFIG)
    assert [(s.name, s.split, s.class_name) for s in scan.sources] == [
        ("heldout/walk/d.mov", "heldout", "walk"),
        ("test/run/c.mkv", "test", "run"),
        ("train/run/x/a.mp4", "train", "run"),
        ("train/walk/b.AVI", "train", "walk"),
    ]
    assert scan.classes == ["run", "walk"]
    assert scan.notes == []


def test_splits_off_takes_the_folders_as_classes(tmp_path):
    touch(tmp_path, "train/a.mp4", "plane/b.mp4")
    scan = scan_sources(tmp_path, replace(CONFIG, splits="off"))
    assert [(s.split, s.class_name) for s in scan.sources] == [
        ("train", "plane"),
        ("train", "train"),
    ]


def test_videos_without_folders_have_no_classes(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    scan = scan_sources(tmp_path, CONFIG)
    assert scan.classes == []
    assert [s.class_name for s in scan.sources] == [None, None]


def test_a_tenth_is_held_out_evenly_and_stays_so(tmp_path):
    touch(tmp_path, *(f"{name}/{n}.mp4" for name in "abcd" for n in range(25)))
    scan = scan_sources(tmp_path, CONFIG)
    heldout = {s.name for s in scan.sources if s.split == "heldout"}
    assert len(heldout) == 10
    assert all(2 <= count <= 3 for count in Counter(name[0] for name in heldout).values())
    # Another video moves no other one between the splits, but for the one that makes up a tenth.
    touch(tmp_path, "a/25.mp4")
    again = {s.name for s in scan_sources(tmp_path, CONFIG).sources if s.split == "heldout"}
    assert len(again & heldout) >= 8
    none = scan_sources(tmp_path, replace(CONFIG, heldout_fraction=0.0))
    assert {s.split for s in none.sources} == {"train"}


def test_two_videos_are_one_to_train_on_and_one_held_out(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    assert sorted(s.split for s in scan_sources(tmp_path, CONFIG).sources) == ["heldout", "train"]


def test_numbered_image_folders_are_videos(tmp_path):
    for folder in ("wave/one", "wave/two", "jump/three"):
        (tmp_path / folder).mkdir(parents=True)
        for n in range(2):
            Image.fromarray(numbered_frame(n)).save(tmp_path / folder / f"f{n:03d}.jpg")
    touch(tmp_path, "jump/four.mp4")
    scan = scan_sources(tmp_path, CONFIG)
    assert [(s.name, s.class_name) for s in scan.sources] == [
        ("jump/four.mp4", "jump"),
        ("jump/three", "jump"),
        ("wave/one", "wave"),
        ("wave/two", "wave"),
    ]


def test_stray_videos_and_other_files_are_named(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/2.mp4", "lost.mp4", "notes.txt", ".hidden.mp4", ".cache/x.mp4")
    scan = scan_sources(tmp_path, CONFIG)
    why = "lies outside the class folders: data.layout=folder takes all, without classes"
    assert scan.dropped == [("lost.mp4", why)]
    assert scan.notes[0] == "1 files that are not videos were ignored"
    assert len(scan.sources) == 2


def test_one_nested_folder_among_loose_videos_is_no_class(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4", "more/deep/d.mp4", "train/e.mp4", "train/x/f.mp4")
    scan = scan_sources(tmp_path, CONFIG)
    assert len(scan.sources) == 6
    assert not scan.dropped
    assert not scan.classes
    told = "since 4 of its 6 videos lie in train outside class folders"
    assert f"(data.layout=folder), {told} (data.layout=classes takes" in scan.what
    insisted = scan_sources(tmp_path, replace(CONFIG, layout="classes"))
    assert {(s.name, s.class_name) for s in insisted.sources} == {
        ("more/deep/d.mp4", "more"),
        ("train/x/f.mp4", "x"),
    }
    assert len(insisted.dropped) == 4
    touch(tmp_path, "more/1.mp4", "more/2.mp4")
    half = scan_sources(tmp_path, CONFIG)
    assert half.classes == ["more", "x"]
    assert len(half.dropped) == 4


@pytest.mark.parametrize("count", [1, 3])
def test_one_folder_among_loose_videos_of_an_archive_is_no_class(tmp_path, count):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ["a.mp4", "b.mp4", *(f"more/{n}.mp4" for n in range(count))]:
            archive.writestr(name, b"x")
    scan = scan_sources(path, CONFIG)
    assert scan.classes == ([] if count == 1 else ["more"])
    assert len(scan.dropped) == (0 if count == 1 else 2)
    assert ("2 of 3 videos have no class, so those of the others are not used" in scan.notes) == (
        count == 1
    )


def test_a_link_to_a_folder_above_ends(tmp_path):
    touch(tmp_path, "a/1.mp4")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert len(scan_sources(tmp_path, CONFIG).sources) == 1


def test_folders_without_videos_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        scan_sources(tmp_path / "nowhere", CONFIG)
    touch(tmp_path, "a.txt")
    with pytest.raises(UserError, match="is not a video: name one"):
        scan_sources(tmp_path / "a.txt", CONFIG)
    with pytest.raises(UserError, match=r"no videos in .*only 1 other files.*\.mp4"):
        scan_sources(tmp_path, CONFIG)


def test_attributes_of_classes_are_read(tmp_path):
    touch(tmp_path, "x/1.mp4", "y/2.mp4")
    (tmp_path / "attributes.json").write_text('{"x": {"shade": "dark"}, "z": {"shade": "light"}}')
    assert scan_sources(tmp_path, CONFIG).attributes == {"x": {"shade": "dark"}}
    (tmp_path / "attributes.json").write_text('["x"]')
    with pytest.raises(UserError, match="must map class names"):
        scan_sources(tmp_path, CONFIG)


@pytest.mark.parametrize(
    "wrong",
    [
        {"resolution": 0},
        {"frames": -1},
        {"stride": 0},
        {"fps": 0.0},
        {"heldout_fraction": 1.0},
        {"stored_frames": 3, "frames": 4},
        {"workers": -1},
    ],
)
def test_impossible_settings_are_named(wrong):
    with pytest.raises(UserError, match=f"data.{next(iter(wrong))}"):
        DataConfig(**wrong)


def test_empty_members_of_an_archive_are_dropped_unopened(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(50):
            archive.writestr(f"{n:02d}.mp4", b"")
        archive.writestr("whole.mp4", b"x")
    scan = scan_sources(path, CONFIG)
    assert [source.name for source in scan.sources] == ["whole.mp4"]
    assert scan.dropped == [(f"{n:02d}.mp4", "the file is empty") for n in range(50)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.mp4", b"")
        archive.writestr("b.npy", b"")
    told = r"no videos.* and 2 that are not read \(the first one, a.mp4, the file is empty\)"
    with pytest.raises(UserError, match=told):
        scan_sources(path, CONFIG)


def test_a_folder_called_like_a_video_is_named(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4", "x.mp4/notes.txt", "y.mov/c.mp4", ".z.mp4/notes.txt")
    (tmp_path / "deep" / "w.AVI").mkdir(parents=True)
    scan = scan_sources(tmp_path, CONFIG)
    assert [source.name for source in scan.sources] == ["a.mp4", "b.mp4", "y.mov/c.mp4"]
    what = "is a folder that is called like a video, and holds none"
    assert scan.dropped == [("deep/w.AVI", what), ("x.mp4", what)]
    assert scan.num_missing == 2


def test_a_folder_called_like_a_video_may_be_one(tmp_path):
    touch(tmp_path, "a.mp4", *(f"x.mp4/{number}.png" for number in range(3)))
    scan = scan_sources(tmp_path, CONFIG)
    assert [source.name for source in scan.sources] == ["a.mp4", "x.mp4"]
    assert scan.dropped == []


def test_a_source_of_folders_called_like_videos_is_refused_with_their_number(tmp_path):
    (tmp_path / "x.mp4").mkdir()
    with pytest.raises(UserError, match=r"no videos in .*, 1 folder that is called like a video"):
        scan_sources(tmp_path, CONFIG)
