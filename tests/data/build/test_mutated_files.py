"""Damaged videos of every container through `vidgan data build`: all counted, none is fatal."""

import json
import time
from pathlib import Path

import pytest
from mutations import mutated_folder
from video_files import write_video

from vidgan.cli.main import run
from vidgan.data.build.packing import DataConfig, build_clips
from vidgan.data.packed.store import open_store

TIME_LIMIT_S = 30.0
# Beside the first few: damage that the decoders answer with rare error codes, streams that appear
# in mid-file, and time stamps that lie years apart.
NUMBERS = [*range(18), 169, 187, 265, 266, 299, 349, 455]


def check_set(folder: Path, names: list[str]) -> None:
    """Every file of `names` is an item or is dropped with a reason in words, on one line."""
    store = open_store(folder)
    kept = [item.source for item in store.items]
    dropped = dict(json.loads((folder / "manifest.json").read_text())["dropped"])
    assert sorted([*kept, *dropped]) == names
    for reason in dropped.values():
        assert reason
        assert reason.isprintable()
        assert "crashed" not in reason
        assert "took longer" not in reason
    for number in range(len(store)):
        assert store.read(number, store.levels[0]).shape[1] == 8


def test_a_few_damaged_files_through_the_command_line(tmp_path, capsys):
    names = mutated_folder(tmp_path / "videos", NUMBERS)
    words = ["resolution=16", "frames=8", "heldout_fraction=0", "resize=stretch"]
    folder = tmp_path / "set"
    # Processes of their own decode, so that a crash of a decoder would be told as such.
    build = ["data", "build", str(tmp_path / "videos"), str(folder)]
    assert run([*build, *words]) == 0
    check_set(folder, names)
    assert f"{len(names)} videos in" in capsys.readouterr().out


def test_resampling_survives_time_stamps_of_any_size(tmp_path):
    names = mutated_folder(tmp_path / "videos", NUMBERS[18:])
    write_video(tmp_path / "videos" / "whole.mp4", 20)
    config = DataConfig(resolution=16, frames=8, workers=0, fps=60.0, heldout_fraction=0.0)
    build_clips(tmp_path / "videos", tmp_path / "set", config)
    check_set(tmp_path / "set", [*names, "whole.mp4"])


@pytest.mark.slow
def test_a_thousand_damaged_files(tmp_path):
    names = mutated_folder(tmp_path / "videos", range(1000))
    started = time.monotonic()
    waits = []

    def clock(done: int, total: int, what: str) -> None:
        nonlocal started
        waits.append(time.monotonic() - started)
        started = time.monotonic()

    config = DataConfig(resolution=16, frames=8, heldout_fraction=0.0, resize="stretch")
    report = build_clips(tmp_path / "videos", tmp_path / "set", config, progress=clock)
    check_set(tmp_path / "set", names)
    assert report.num_videos == len(waits) == 1000
    assert max(waits) < TIME_LIMIT_S
    words = ["resolution=16", "frames=8", "heldout_fraction=0", "resize=stretch"]
    assert run(["data", "build", str(tmp_path / "videos"), str(tmp_path / "set"), *words]) == 0
    print(f"\n{report.num_clips} kept, {len(report.dropped)} dropped, longest {max(waits):.2f} s")
