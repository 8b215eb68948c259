"""Quality filters, advice, contact sheets and groups through `data check` and `data build`."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from vidgan.cli.main import run
from vidgan.data.build.packing import DataConfig, build_clips, check_source
from vidgan.data.build.quality import QualityConfig
from vidgan.data.packed.store import open_store
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.errors import UserError
from vidgan.video import read_frames, write_mp4

CONFIG = DataConfig(resolution=32, frames=8, workers=0, heldout_fraction=0.0)
DROP_ALL = QualityConfig(static="drop", cuts="drop", bars="drop", duplicates="drop")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve good videos of two classes and four that are doubtful, each in its own way."""
    place = tmp_path_factory.mktemp("quality")
    render_motions(
        place / "v",
        motion_settings(objects="disc star", motions="up", size=32, frames=8),
        videos=12,
        heldout=0.0,
    )
    root = place / "v" / "train"
    first, second = sorted((root / "disc-up").glob("*.mp4"))[:2]
    one, two = read_frames(first).clip, read_frames(second).clip
    write_mp4(root / "disc-up" / "x-still.mp4", one[:, :1].repeat(1, 8, 1, 1), 8)
    write_mp4(root / "disc-up" / "x-cut.mp4", torch.cat([two[:, :3], 255 - two[:, 3:]], 1), 8)
    barred = (one // 2 + 100).to(torch.uint8)
    barred[:, :, :4] = barred[:, :, -4:] = 0
    write_mp4(root / "disc-up" / "x-bars.mp4", barred, 8)
    write_mp4(root / "star-up" / "x-copy.mp4", one, 8, quality=26)
    (place / "v" / "attributes.json").unlink(missing_ok=True)
    return place / "v"


def test_doubtful_clips_are_kept_and_named(folder, tmp_path):
    report = build_clips(folder, tmp_path / "set", CONFIG)
    assert report.num_clips == 16
    first = min(path.name for path in (folder / "train" / "disc-up").iterdir())
    flaws = {name.split("/")[-1]: (key, what) for name, key, what in report.flaws}
    assert flaws == {
        "x-still.mp4": ("static", "nearly static"),
        "x-cut.mp4": ("cuts", "scene cut"),
        "x-bars.mp4": ("bars", "black bars at top and bottom"),
        "x-copy.mp4": ("duplicates", f"nearly repeats train/disc-up/{first}"),
    }
    text = "\n".join(report.lines())
    assert "doubtful: 4" in text
    assert "1 clips stand nearly still: quality.static=drop leaves such out" in text
    assert check_source(folder, CONFIG) == replace(report, out=None)
    # A finished set tells the same again.
    assert build_clips(folder, tmp_path / "set", CONFIG) == report


@pytest.mark.parametrize("workers", [0, 2])
def test_filters_drop_what_they_are_told_to(folder, tmp_path, workers):
    config = replace(CONFIG, quality=DROP_ALL, workers=workers)
    report = build_clips(folder, tmp_path / "set", config)
    assert report.num_clips == 12
    assert sorted(name.split("/")[-1] for name, _ in report.dropped) == [
        "x-bars.mp4",
        "x-copy.mp4",
        "x-cut.mp4",
        "x-still.mp4",
    ]
    assert report.flaws == ()
    assert all("x-" not in item.source for item in open_store(tmp_path / "set").items)


def test_an_interrupted_build_still_knows_its_first_clips(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("vidgan.data.build.packing._CHUNK_BYTES", 1)
    config = replace(CONFIG, quality=DROP_ALL)

    def stop(done: int, total: int, what: str) -> None:
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_clips(folder, tmp_path / "set", config, progress=stop)
    resumed = build_clips(folder, tmp_path / "set", config)
    whole = build_clips(folder, tmp_path / "whole", config)
    assert resumed == replace(whole, out=str(tmp_path / "set"))


def test_copies_across_splits_are_told(folder, tmp_path):
    root = shutil.copytree(folder, tmp_path / "v")
    first = min((root / "train" / "disc-up").iterdir())
    (root / "val" / "disc-up").mkdir(parents=True)
    shutil.copy(first, root / "val" / "disc-up" / "again.mp4")
    flaws = {name: what for name, _, what in check_source(root, CONFIG).flaws}
    expected = f"nearly repeats train/disc-up/{first.name} of the split train"
    assert flaws["val/disc-up/again.mp4"] == expected


def test_advice_tells_size_balance_and_held_out_clips(folder, tmp_path):
    shutil.copytree(folder / "train" / "disc-up", tmp_path / "v" / "many")
    few = tmp_path / "v" / "few" / "a.mp4"
    few.parent.mkdir()
    shutil.copy(min((folder / "train" / "star-up").iterdir()), few)
    report = check_source(tmp_path / "v", replace(CONFIG, clip="random", frames=4))
    assert report.advice[0].startswith("training set: 10 clips, 50 windows of 4 frames; the whole")
    assert report.advice[0].endswith("MiB packed and 0.2 MiB decoded")
    text = "\n".join(report.advice)
    assert "memorises so few" in text
    assert "uneven, from 1 training clips (few) to 9 (many)" in text
    assert "fewer than 20 training clips are of class few and 1 more" in text
    assert "vidgan evaluate will not score these clips" in text


def test_the_command_line_takes_filters_and_draws_the_set(folder, tmp_path, capsys):
    words = ["resolution=32", "frames=8", "heldout_fraction=0", "quality.static=drop"]
    out, sheet = tmp_path / "set", tmp_path / "sheet.png"
    assert run(["data", "build", str(folder), str(out), *words]) == 0
    printed = capsys.readouterr().out
    assert "train/disc-up/x-still.mp4: nearly static" in printed
    assert run(["data", "check", str(out), "--sheet", str(sheet)]) == 0
    printed = capsys.readouterr().out
    assert f"contact sheet: {sheet}" in printed
    assert "training set: 15 clips" in printed
    with Image.open(sheet) as image:
        assert image.width > 8 * 64
    assert run(["data", "build", str(folder), str(out), "quality.static=delete"]) == 2
    assert "quality.static" in capsys.readouterr().err


def test_groups_are_held_out_whole(folder, tmp_path):
    videos = sorted((folder / "train").rglob("*.mp4"))[:12]
    (tmp_path / "v").mkdir()
    for number, video in enumerate(videos):
        shutil.copy(video, tmp_path / "v" / f"film{number // 3}_part{number % 3}.mp4")
    config = replace(CONFIG, heldout_fraction=0.25, group_by="(film[0-9]+)_")
    build_clips(tmp_path / "v", tmp_path / "set", config)
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    items = manifest["items"]
    films = {}
    for name, split, group in zip(items["source"], items["split"], items["group"], strict=True):
        assert group == name.split("_")[0]
        films.setdefault(group, set()).add(split)
    assert sorted(films) == ["film0", "film1", "film2", "film3"]
    assert sorted(map(sorted, films.values())) == [["heldout"], ["train"], ["train"], ["train"]]
    assert manifest["settings"]["group_by"] == "(film[0-9]+)_"


def splits_of(report_or_set):
    items = open_store(report_or_set).items
    return {item.source: item.split for item in items}


@pytest.mark.parametrize("group_by", ["", "(film[0-9]+)_"])
def test_broken_files_take_no_held_out_places(folder, tmp_path, group_by):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    videos = sorted((folder / "train").rglob("*.mp4"))[:12]
    for number, video in enumerate(videos):
        shutil.copy(video, whole / f"film{number // 3}_part{number % 3}.mp4")
    shutil.copytree(whole, broken)
    for number in range(12):
        (broken / f"film{number // 3}_broken{number % 3}.mp4").write_bytes(b"no video")
        (broken / f"more{number}.avi").write_bytes(b"")
    config = replace(CONFIG, heldout_fraction=0.25, group_by=group_by)
    expected = build_clips(whole, tmp_path / "first", config)
    found = build_clips(broken, tmp_path / "second", config)
    assert len(found.dropped) == 24
    assert splits_of(tmp_path / "second") == splits_of(tmp_path / "first")
    assert found.counts == expected.counts
    assert found.counts["heldout"] == {"": 3}
    assert found.set_notes == expected.set_notes
    # A check says what a build makes, and a finished set is found again.
    assert check_source(broken, config).counts == found.counts
    assert build_clips(broken, tmp_path / "second", config) == found


def test_settings_that_drop_whole_videos_leave_the_draw(folder, tmp_path):
    config = replace(CONFIG, heldout_fraction=0.25)
    source = folder / "train"
    build_clips(source, tmp_path / "all", config)
    quality = replace(config.quality, static="drop")
    build_clips(source, tmp_path / "some", replace(config, quality=quality))
    both = splits_of(tmp_path / "all"), splits_of(tmp_path / "some")
    assert len(both[1]) < len(both[0])
    assert both[1].items() <= both[0].items()


def test_the_split_of_a_repeated_clip_is_the_drawn_one(folder, tmp_path):
    first = min((folder / "train" / "disc-up").iterdir())
    root = tmp_path / "v"
    root.mkdir()
    for number in range(8):
        shutil.copy(first, root / f"a{number}.mp4")
        (root / f"b{number}.mp4").write_bytes(b"no video")
    build_clips(root, tmp_path / "set", replace(CONFIG, heldout_fraction=0.5))
    split_of = splits_of(tmp_path / "set")
    assert sorted(split_of.values()) == ["heldout"] * 4 + ["train"] * 4
    flaws = {
        name: what
        for name, key, what in open_store(tmp_path / "set").manifest.flaws
        if key == "duplicates"
    }
    there = split_of["a0.mp4"]
    for name in flaws:
        other = "" if split_of[name] == there else f" of the split {there}"
        assert flaws[name] == f"nearly repeats a0.mp4{other}"
    assert len(flaws) == 7


@pytest.mark.parametrize(("pattern", "why"), [("film[", "not a regular"), ("film", "parentheses")])
def test_senseless_groups_are_refused(pattern, why):
    with pytest.raises(UserError, match=why):
        DataConfig(group_by=pattern)
