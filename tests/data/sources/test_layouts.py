"""Recognised layouts in general: the table, overrides, groups, and containers as sources."""

import json
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tfrecord_files import example, write_records
from video_files import numbered_frame, write_video

from vidgan.cli.main import run
from vidgan.data.build.packing import DataConfig, build_clips, cached_build
from vidgan.data.packed.export import export_clips
from vidgan.data.packed.manifest import read_manifest
from vidgan.data.packed.store import open_store
from vidgan.data.sources.layouts import LAYOUTS, scan_sources
from vidgan.data.sources.source import Source, hold_out
from vidgan.errors import UserError

CONFIG = DataConfig(resolution=16, frames=4, workers=0, resize="stretch")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))


def hashes(folder: Path) -> list[tuple]:
    """Everything about the items but for their names."""
    store = open_store(folder)
    return [
        (store.classes[i.label] if store.classes else "", i.split, i.stored_frames, i.checksums)
        for i in store.items
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("layouts")
    for n in range(5):
        write_video(root / "cats" / f"{n}.mkv", 6, first_number=n, codec="ffv1")
        write_video(root / "dogs" / f"{n}.avi", 6 - n, first_number=9 + n, codec="mpeg4")
    return root


@pytest.fixture
def videos(written, tmp_path):
    """Ten videos in two class folders, two of them too short for a clip."""
    return shutil.copytree(written, tmp_path / "clips")


def zipped(root: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.*")):
            archive.write(file, file.relative_to(root).as_posix())
    return path


def tarred(root: Path, path: Path, mode: str) -> Path:
    with tarfile.open(path, mode) as archive:
        archive.add(root, ".")
    return path


def test_names_of_layouts_are_unique_words():
    names = [layout.name for layout in LAYOUTS]
    assert len({*names}) == len(names)
    assert all(name.isalnum() and name.islower() for name in names)


def test_archives_give_the_same_items_as_a_folder(videos, tmp_path):
    sources = {
        "folder": videos,
        "zip": zipped(videos, tmp_path / "a.zip"),
        "tar": tarred(videos, tmp_path / "b.tar", "w"),
        "tgz": tarred(videos, tmp_path / "c.tar.gz", "w:gz"),
    }
    reports = {
        name: build_clips(source, tmp_path / "sets" / name, CONFIG)
        for name, source in sources.items()
    }
    expected = hashes(tmp_path / "sets" / "folder")
    assert len(expected) == 8
    assert {split for _, split, _, _ in expected} == {"train", "heldout"}
    for name, report in reports.items():
        assert hashes(tmp_path / "sets" / name) == expected
        assert report.dropped == (
            ("dogs/3.avi", "has 3 of 4 frames"),
            ("dogs/4.avi", "has 2 of 4 frames"),
        )
        manifest = read_manifest(tmp_path / "sets" / name)
        assert manifest.layout == ("classes" if name == "folder" else "archive")
    assert "since it is a zip or tar archive" in reports["zip"].lines()[0]


def test_dangerous_members_are_dropped_and_named(videos, tmp_path):
    path = zipped(videos, tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../cats/evil.mp4", b"x" * 10)
    report = build_clips(path, tmp_path / "set", CONFIG)
    assert ("../../cats/evil.mp4", "has a name that leads out of the archive") in report.dropped
    assert report.num_clips == 8
    assert not list(tmp_path.parent.glob("**/evil.mp4"))
    config = replace(CONFIG, strict=True, short="loop")
    with pytest.raises(UserError, match=r"evil\.mp4 is not clean \(has a name that leads out"):
        build_clips(path, tmp_path / "clean", config)


def test_a_bomb_is_refused_alone_and_named_beside_others(videos, tmp_path, capsys):
    folder = tmp_path / "sources"
    folder.mkdir()
    with zipfile.ZipFile(
        folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        archive.writestr("cats/a.mp4", bytes(65 << 20))
    words = ["resolution=16", "frames=4", "workers=0"]
    assert run(["data", "build", str(folder / "bomb.zip"), str(tmp_path / "set"), *words]) == 2
    error = capsys.readouterr().err
    assert "bomb.zip unpacks to over 200 times its size" in error
    zipped(videos, folder / "good.zip")
    report = build_clips(folder, tmp_path / "set", CONFIG)
    assert report.num_clips == 8
    assert "decompression bomb" in dict(report.dropped)["bomb.zip"]


def test_workers_read_containers_too(videos, tmp_path):
    path = zipped(videos, tmp_path / "a.zip")
    build_clips(path, tmp_path / "one", CONFIG)
    build_clips(path, tmp_path / "two", replace(CONFIG, workers=1))
    first, second = (tmp_path / name / "manifest.json" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_exported_shards_come_back_as_they_were(videos, tmp_path):
    build_clips(videos, tmp_path / "set", CONFIG)
    (videos / "attributes.json").write_text('{"cats": {"sound": "meow"}}')
    build_clips(videos, tmp_path / "told", CONFIG)
    export_clips(tmp_path / "told", tmp_path / "shards", "npy", shard_clips=3)
    scan = scan_sources(tmp_path / "shards", CONFIG)
    assert scan.layout == "webdataset"
    assert "share keys with classes beside them" in scan.what
    build_clips(tmp_path / "shards", tmp_path / "back", CONFIG)
    assert sorted(hashes(tmp_path / "back")) == sorted(hashes(tmp_path / "told"))
    first, back = open_store(tmp_path / "told"), open_store(tmp_path / "back")
    assert back.classes == first.classes
    assert back.attributes == first.attributes == {"cats": {"sound": "meow"}}
    assert back.fps == first.fps


def test_sets_of_the_first_release_are_read(videos, tmp_path):
    build_clips(videos, tmp_path / "set", CONFIG)
    expected = hashes(tmp_path / "set")
    file = tmp_path / "set" / "manifest.json"
    table = json.loads(file.read_text())
    for name in ("chunks", "flaws", "layout", "num_bytes", "num_missing"):
        del table[name]
    del table["items"]["group"]
    file.write_text(json.dumps(table))
    assert hashes(tmp_path / "set") == expected
    manifest = read_manifest(tmp_path / "set")
    assert (manifest.layout, manifest.num_missing, manifest.flaws) == ("", 0, ())


def test_arrays_need_their_axes_only_where_nobody_can_tell(tmp_path):
    clips = np.stack([np.stack([numbered_frame(n + t) for t in range(4)]) for n in range(6)])
    np.save(tmp_path / "clips.npy", clips)
    np.save(tmp_path / "clips_labels.npy", np.array([0, 1, 0, 1, 0, 1]))
    report = build_clips(tmp_path / "clips.npy", tmp_path / "set", CONFIG)
    assert report.num_clips == 6
    assert "(data.layout=arrays)" in report.layout
    assert open_store(tmp_path / "set").classes == ("class-0", "class-1")
    unclear = tmp_path / "unclear"
    unclear.mkdir()
    np.save(unclear / "a.npy", np.zeros((8, 6, 32, 32), np.uint8))
    with pytest.raises(UserError, match=r"data\.axes=NTHW"):
        scan_sources(unclear, CONFIG)
    assert len(scan_sources(unclear, replace(CONFIG, axes="TNHW")).sources) == 6


def test_hdf5_files_keep_splits_and_labels(tmp_path):
    h5py = pytest.importorskip("h5py", reason="HDF5 needs the extra arrays")
    clips = np.random.default_rng(0).integers(0, 255, (6, 4, 16, 16, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for split, some in (("train", slice(0, 4)), ("test", slice(4, 6))):
            file[f"{split}/videos"] = clips[some]
            file[f"{split}/labels"] = np.arange(6)[some] % 2
    build_clips(tmp_path / "a.h5", tmp_path / "set", CONFIG)
    store = open_store(tmp_path / "set")
    found = [(i.split, store.classes[i.label], i.source) for i in store.items]
    assert found == [
        *[("test", f"class-{n % 2}", f"test/videos/{n:06d}") for n in range(2)],
        *[("train", f"class-{n % 2}", f"train/videos/{n:06d}") for n in range(4)],
    ]
    pixels = store.read(0, (4, 16)).permute(1, 2, 3, 0).numpy()
    assert np.array_equal(pixels, clips[4])


def test_trailer_faces_are_read_at_the_asked_size(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    for level in (3, 4, 5):
        side = 2**level
        records = [
            example(
                {
                    "shape": [4, 3, side, side],
                    "data": [np.full((4, 3, side, side), 10 * n, np.uint8).tobytes()],
                }
            )
            for n in range(5)
        ]
        write_records(folder / f"faces-r{level:02d}.tfrecords", records)
    report = build_clips(folder, tmp_path / "set", CONFIG)
    assert "TrailerFaces" in report.layout
    assert any("faces-r04.tfrecords (16 pixels) is read" in note for _, note in report.notes)
    store = open_store(tmp_path / "set")
    assert [int(store.read(n, (4, 16)).max()) for n in range(5)] == [0, 10, 20, 30, 40]


def test_an_explicit_layout_overrides_what_is_seen(videos, tmp_path):
    scan = scan_sources(videos, replace(CONFIG, layout="folder"))
    assert (scan.classes, scan.layout) == ([], "folder")
    assert "as that setting says" in scan.what
    zipped(videos, videos / "all.zip")
    seen = scan_sources(videos, CONFIG)
    assert seen.layout == "classes"
    assert "all.zip first, were passed over: name one of them" in seen.notes[0]
    inside = scan_sources(videos, replace(CONFIG, layout="archive"))
    assert len(inside.sources) == 10
    assert inside.sources[0].name == "all.zip/cats/0.mkv"
    with pytest.raises(UserError, match="did you mean folder"):
        scan_sources(videos, replace(CONFIG, layout="foldr"))
    with pytest.raises(UserError, match=r"no TFRecord file \(\.tfrecords \.tfrecord\)"):
        scan_sources(videos, replace(CONFIG, layout="tfrecords"))


def test_training_says_which_layout_it_reads(videos, tmp_path):
    said: list[str] = []
    config = replace(CONFIG, path=str(zipped(videos, tmp_path / "a.zip")))
    cached_build(config, notify=said.append)
    cached_build(config, notify=said.append)
    sentence, held_out = said
    assert "were held out by a fixed draw" in held_out
    assert sentence == (
        f"{config.path} is read as archives of videos (data.layout=archive),"
        " since it is a zip or tar archive, as its name says"
    )


def test_a_packed_set_and_a_strange_file_are_refused(videos, tmp_path):
    build_clips(videos, tmp_path / "set", CONFIG)
    with pytest.raises(UserError, match="is a packed clip set already: train with data="):
        scan_sources(tmp_path / "set", CONFIG)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(UserError, match=r"is not a video: name one.*\.zip"):
        scan_sources(tmp_path / "a.txt", CONFIG)


def grouped(sizes: list[int]) -> list[Source]:
    return [
        Source(
            name=f"{group}/{n}",
            path=Path("x"),
            split="train",
            class_name="ab"[group % 2],
            group=str(group),
        )
        for group, size in enumerate(sizes)
        for n in range(size)
    ]


@pytest.mark.parametrize("sizes", [[1] * 30, [3] * 10, [7, 1, 1, 5, 2, 9, 4, 4, 1, 6]])
def test_groups_are_held_out_whole(sizes):
    sources = grouped(sizes)
    marked, note = hold_out(sources, 0.2)
    splits = {(s.group, s.split) for s in marked}
    assert len(splits) == len(sizes)
    held = sum(s.split == "heldout" for s in marked)
    assert round(0.2 * len(sources)) <= held < round(0.2 * len(sources)) + max(sizes)
    chosen = [group for group, split in splits if split == "heldout"]
    num_groups = sum(sizes[int(group)] > 1 for group in chosen)
    told = f" ({num_groups} whole group{'s' if num_groups > 1 else ''})" if num_groups else ""
    assert note == f"{held} of {len(sources)} videos{told} were held out by a fixed draw"
    assert hold_out(sources[::-1], 0.2)[0][::-1] == marked


def test_one_group_cannot_be_held_out_of_itself():
    marked, note = hold_out(grouped([5]), 0.2)
    assert {s.split for s in marked} == {"train"}
    assert note == "nothing is held out: all videos are of one group"


def test_the_folder_of_a_run_is_no_set_of_videos(tmp_path):
    write_video(tmp_path / "run" / "samples" / "step-6.mp4", 8)
    for name in ("config.yaml", "last.json"):
        (tmp_path / "run" / name).write_text("{}")
    with pytest.raises(UserError, match="is the folder of a run, and the films in it are what it"):
        scan_sources(tmp_path / "run", DataConfig())
    assert len(scan_sources(tmp_path / "run" / "samples", DataConfig()).sources) == 1
