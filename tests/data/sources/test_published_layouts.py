"""Every published layout, on small copies that the tests write themselves."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from published_sets import (
    KINETICS_ROWS,
    UCF_CLASSES,
    put_video,
    write_frame_folders,
    write_kinetics,
    write_ucf101,
)
from video_files import frame_numbers

from vidgan.cli.main import run
from vidgan.data.build.packing import DataConfig, build_clips
from vidgan.data.packed.export import export_clips
from vidgan.data.packed.manifest import read_manifest
from vidgan.data.packed.store import open_store
from vidgan.data.sources.layouts import scan_sources
from vidgan.errors import UserError

CONFIG = DataConfig(resolution=32, frames=4, workers=0, resize="stretch", clip="first")


def first_numbers(folder: Path) -> list[int]:
    store = open_store(folder)
    return [frame_numbers(store.read(n, store.levels[0]))[0] for n in range(len(store))]


# UCF-101


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_ucf101_has_its_published_splits_and_groups(tmp_path, fold):
    root = write_ucf101(tmp_path)
    scan = scan_sources(root, replace(CONFIG, fold=fold))
    assert "UCF-101 (data.layout=ucf101), since 24 of its 24 videos are named" in scan.what
    assert "ucfTrainTestlist has the lists" in scan.what
    assert len(scan.sources) == 24
    for source in scan.sources:
        class_name, file = source.name.split("/")[1:]
        group = file.split("_")[2]
        assert (source.class_name, source.group) == (class_name, f"{class_name}/{group}")
        assert source.split == ("test" if group == f"g{fold:02d}" else "train")
    assert scan.classes == [*UCF_CLASSES[::-1]]
    lists = f"testlist{fold:02d}.txt, trainlist{fold:02d}.txt"
    told = f"24 of the 24 videos listed in {lists} are there (100 %): test 6 of 6, train 18 of 18"
    assert scan.notes == [told]


def test_ucf101_splits_and_groups_stand_in_the_manifest_and_survive_shards(tmp_path):
    root = write_ucf101(tmp_path / "ucf")
    report = build_clips(root, tmp_path / "set", CONFIG)
    manifest = read_manifest(tmp_path / "set")
    assert manifest.layout == "ucf101"
    assert {(i.group.split("/")[1] == "g01", i.split) for i in manifest.items} == {
        (True, "test"),
        (False, "train"),
    }
    assert report.counts == {
        "test": dict.fromkeys(UCF_CLASSES, 2),
        "train": dict.fromkeys(UCF_CLASSES, 6),
    }
    export_clips(tmp_path / "set", tmp_path / "shards")
    build_clips(tmp_path / "shards", tmp_path / "back", CONFIG)
    back = read_manifest(tmp_path / "back")
    assert back.layout == "webdataset"
    assert back.classes == manifest.classes == UCF_CLASSES[::-1]

    def facts(items):
        return sorted((i.group, i.split, i.label, i.checksums) for i in items)

    assert facts(back.items) == facts(manifest.items)


def test_ucf101_missing_and_unlisted_files_are_named(tmp_path):
    root = write_ucf101(tmp_path)
    gone = root / "UCF-101/YoYo/v_YoYo_g02_c01.avi"
    gone.rename(root / "UCF-101/YoYo/v_YoYo_g99_c01.avi")
    scan = scan_sources(root, CONFIG)
    assert ("YoYo/v_YoYo_g02_c01.avi", "is listed in trainlist01.txt and not on the disk") in (
        scan.dropped
    )
    name = "UCF-101/YoYo/v_YoYo_g99_c01.avi"
    assert (name, "is in neither list of the split data.fold=1") in scan.dropped
    assert "23 of the 24 videos" in scan.notes[0]
    assert "(95.8 %)" in scan.notes[0]
    with pytest.raises(UserError, match=r"data\.fold=4 needs the list .*trainlist04\.txt"):
        scan_sources(root, replace(CONFIG, fold=4))


def test_ucf101_finds_lists_beside_it_and_does_without(tmp_path):
    root = write_ucf101(tmp_path)
    beside = scan_sources(root / "UCF-101", CONFIG)
    assert {s.split for s in beside.sources} == {"train", "test"}
    (root / "ucfTrainTestlist").rename(tmp_path / "elsewhere")
    without = scan_sources(root / "UCF-101", replace(CONFIG, heldout_fraction=0.25))
    assert without.layout == "ucf101"
    assert (
        "lists of the splits (ucfTrainTestlist/trainlist01.txt) are not there" in (without.notes[0])
    )
    by_group: dict[str | None, set[str]] = {}
    for source in without.sources:
        by_group.setdefault(source.group, set()).add(source.split)
    assert all(len(splits) == 1 for splits in by_group.values())
    assert sum(splits == {"heldout"} for splits in by_group.values()) == 3
    # Names tell groups in any layout.
    classes = scan_sources(root / "UCF-101", replace(CONFIG, layout="classes"))
    assert {s.group for s in classes.sources} == {s.group for s in without.sources}
    off = scan_sources(root / "UCF-101", replace(CONFIG, splits="off"))
    assert {s.split for s in off.sources} == {"train"}


# Kinetics


def test_kinetics_tables_give_labels_splits_groups_and_coverage(tmp_path):
    root = write_kinetics(tmp_path / "k600")
    report = build_clips(root, tmp_path / "set", CONFIG)
    assert "Kinetics (data.layout=kinetics), since test.csv and 2 more tables have" in report.layout
    store = open_store(tmp_path / "set")
    found = {
        item.source.rpartition("/")[2]: (store.classes[item.label], item.split, item.group)
        for item in store.items
    }
    splits = {"train": "train", "validate": "val", "test": "test"}
    assert found == {
        f"{youtube_id}_{start:06d}_{end:06d}.mp4": (label, splits[split], youtube_id)
        for n, (label, youtube_id, start, end, split) in enumerate(KINETICS_ROWS)
        if n not in (2, 5)
    }
    assert report.dropped == (
        ("-b_defghij1_000000_000010.mp4", "is listed in train.csv and not on the disk"),
        ("abcdefghij4_000007_000017.mp4", "is listed in train.csv and not on the disk"),
        ("train/zzzzzzzzzzz_000001_000011.mp4", "is in no table"),
    )
    assert report.num_videos == 6
    notes = [note for _, note in report.notes]
    assert (
        "5 of the 7 videos listed in test.csv, train.csv, validate.csv are there (71.4 %):"
        " test 1 of 1, train 3 of 5, val 1 of 1"
    ) in notes
    assert "1 rows of the tables lack an address or times and were ignored" in notes


def test_kinetics_test_rows_without_labels_are_named(tmp_path):
    root = write_kinetics(tmp_path)
    text = "youtube_id,time_start,time_end,split\nabcdefghij5,8,18,test\n"
    (root / "test.csv").write_text(text, encoding="utf-8-sig")
    scan = scan_sources(root, CONFIG)
    assert ("test/abcdefghij5_000008_000018.mp4", "has no label in its table") in scan.dropped
    assert {source.split for source in scan.sources} == {"train", "val"}


def test_kinetics_tables_without_files_say_what_they_look_for(tmp_path):
    root = write_kinetics(tmp_path)
    for file in root.rglob("*.mp4"):
        file.unlink()
    with pytest.raises(UserError, match=r"none of the 7 clips .*<youtube_id>_<start>_<end>\.mp4"):
        scan_sources(root, CONFIG)
    for file in root.glob("*.csv"):
        file.unlink()
    with pytest.raises(UserError, match=r"no table .* with the columns time_end"):
        scan_sources(root, replace(CONFIG, layout="kinetics"))


# Frame folders with a JSON file


def test_frame_folders_take_the_split_of_the_asked_file(tmp_path):
    root = write_frame_folders(tmp_path / "frames")
    report = build_clips(root, tmp_path / "set", CONFIG)
    assert "JSON file of ActivityNet's form (data.layout=activitynet)" in report.layout
    assert "ucf101_01.json gives 6 of its 6 videos a subset and a label" in report.layout
    store = open_store(tmp_path / "set")
    assert store.classes == UCF_CLASSES[::2]
    assert [item.split for item in store.items] == ["val", "train", "train"] * 2
    assert [item.group for item in store.items][:2] == ["ApplyEyeMakeup/g01", "ApplyEyeMakeup/g02"]
    assert first_numbers(tmp_path / "set") == [0, 10, 20, 30, 40, 50]
    assert ("v_ApplyEyeMakeup_g09_c01", "is listed in ucf101_01.json and not on the disk") in (
        report.dropped
    )
    notes = [note for name, note in report.notes if not name]
    assert any(
        "1 folders, ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01 first, hold another" in n for n in notes
    )
    second = scan_sources(root, replace(CONFIG, fold=2))
    assert "ucf101_02.json gives 6 of its 6 videos" in second.what
    assert [source.split for source in second.sources] == ["train", "val", "train"] * 2
    with pytest.raises(UserError, match=r"data\.fold=3 fits none of ucf101_01\.json"):
        scan_sources(root, replace(CONFIG, fold=3))


def test_videos_with_annotations_by_segment_are_read_too(tmp_path):
    for n, key in enumerate(("v_a", "v_b", "v_c")):
        put_video(tmp_path / f"{key}.mp4", n)
    database = {
        "v_a": {"subset": "training", "annotations": [{"label": "Surfing", "segment": [0, 1]}]},
        "v_b": {"subset": "training", "annotations": [{"label": "Rowing", "segment": [0, 1]}]},
        "v_c": {"subset": "testing", "annotations": []},
    }
    (tmp_path / "activity_net.json").write_text(json.dumps({"database": database, "version": "1"}))
    scan = scan_sources(tmp_path, replace(CONFIG, heldout_fraction=0.0))
    assert [(s.name, s.class_name) for s in scan.sources] == [
        ("v_a.mp4", "Surfing"),
        ("v_b.mp4", "Rowing"),
    ]
    assert scan.dropped == [("v_c.mp4", "has no label in activity_net.json")]


@pytest.mark.parametrize("text", ["{", "[1]", '{"labels": []}', '{"database": {"a": 1}}'])
def test_other_json_files_mean_nothing(tmp_path, text):
    put_video(tmp_path / "v" / "a.mp4", 0)
    (tmp_path / "x.json").write_text(text)
    assert scan_sources(tmp_path, CONFIG).layout == "classes"
    with pytest.raises(UserError, match="no JSON file with a database"):
        scan_sources(tmp_path, replace(CONFIG, layout="activitynet"))


# The verbs


def test_check_and_build_say_what_they_see(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_ucf101(tmp_path / "ucf")
    assert run(["data", "check", "ucf", "resolution=32", "frames=4", "workers=0"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("ucf is read as UCF-101 (data.layout=ucf101), since 24 of its 24 videos")
    assert run(["data", "build", "ucf", "set", "layout=classes", "frames=4", "--json"]) == 0
    report = json.load(io.StringIO(capsys.readouterr().out))
    assert report["layout"].endswith("class folders (data.layout=classes), as that setting says")
    assert run(["data", "check", "ucf", "layout=ucf"]) == 2
    assert "did you mean ucf101" in capsys.readouterr().err
