"""The log, the progress, the page and the samples of a run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_cases import tiny_config

from vidgan.core.code_version import code_version
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.data.packed.store import open_store
from vidgan.models.base import LevelShape, Stage
from vidgan.training.checkpoint import RunState
from vidgan.training.logs import LogFile, Speed, in_time, read_log, stage_in_words, work_between
from vidgan.training.loop import train
from vidgan.training.page import write_page
from vidgan.training.records import cycling_labels, matching_clips
from vidgan.training.schedule import make_schedule

SCHEDULE = make_schedule((LevelShape(4, 4), LevelShape(4, 8)), 100, 50, 10, 4)
STAGE = Stage(level=1, frames=4, resolution=8, batch_size=4)


def test_the_log_forgets_what_comes_after_a_checkpoint(tmp_path: Path) -> None:
    log = LogFile(tmp_path, 0)
    for step in (5, 10, 15):
        log.append({"step": step, "clips_seen": 8 * step, "loss/generator": step / 2})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 20, "loss/gen')
    again = LogFile(tmp_path, 10)
    assert [line["step"] for line in again.lines] == [5, 10]
    assert read_log(tmp_path / "log.jsonl") == again.lines


def test_work_counts_every_clip_at_its_levels_size() -> None:
    small, large = (4 * 16) ** 0.6, (4 * 64) ** 0.6
    assert work_between(SCHEDULE, 0, 50) == pytest.approx(50 * small)
    assert work_between(SCHEDULE, 40, 60) == pytest.approx(10 * small + 10 * large)
    assert work_between(SCHEDULE, 90, 104) == pytest.approx(14 * large)


def test_the_time_left_counts_work_not_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("vidgan.training.logs.time.monotonic", lambda: now[0])
    speed = Speed(SCHEDULE, 0)
    assert speed.remaining_seconds() == 0
    now[0] += 5
    speed.update(50)
    assert speed.clips_per_second == 10
    # The other 50 clips have four times the voxels.
    assert speed.remaining_seconds() == pytest.approx(5 * 4**0.6)


def test_slow_first_steps_hardly_move_a_measured_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("vidgan.training.logs.time.monotonic", lambda: now[0])
    total = work_between(SCHEDULE, 0, 100)
    speed = Speed(SCHEDULE, 0, total_s=20.0)
    assert speed.remaining_seconds() == pytest.approx(20.0)
    # Twenty times as slow as measured: a fifth of the speed is lost, not all of it.
    now[0] += 20 * 20 * work_between(SCHEDULE, 0, 10) / total
    speed.update(10)
    left = 20 * work_between(SCHEDULE, 10, 100) / total
    assert speed.remaining_seconds() == pytest.approx(left / 0.81)


def test_an_interval_in_which_graphs_are_captured_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("vidgan.training.logs.time.monotonic", lambda: now[0])
    speed = Speed(SCHEDULE, 0, num_warm=1)
    for clips, seconds in ((10, 200.0), (20, 1.0)):
        now[0] += seconds
        speed.update(clips)
    assert speed.remaining_seconds(50) == pytest.approx(3.0)
    now[0] += 2.0
    speed.update(30)
    # 10 clips a second before, 5 now: a fifth of the way from one to the other.
    assert speed.remaining_seconds(50) == pytest.approx(20 / 9)


def test_words_for_times_and_stages() -> None:
    assert [in_time(s) for s in (5.4, 65, 3725)] == ["5 s", "1 min 05 s", "1 h 02 min"]
    state = RunState(stage=STAGE)
    assert stage_in_words(state) == "4x8x8"
    fading = replace(state, stage=replace(STAGE, alpha=0.25))
    assert stage_in_words(fading) == "4x8x8, fading in 25%"


def test_real_clips_show_the_wanted_classes_at_the_stages_size(packed_clips: Path) -> None:
    config = tiny_config(packed_clips, packed_clips).data
    dataset = ClipDataset(open_store(packed_clips), config, seed=0)
    labels = cycling_labels(5, 2)
    assert labels is not None
    assert labels.tolist() == [0, 1, 0, 1, 0]
    small = replace(STAGE, level=0, resolution=4)
    clips = matching_clips(dataset, small, labels, 5)
    assert (clips.shape, clips.dtype) == ((5, 3, 4, 4, 4), torch.uint8)
    known = {
        dataset[ClipRequest(p, 4, 4)]["clip"].numpy().tobytes(): dataset[ClipRequest(p, 4, 4)][
            "label"
        ]
        for p in range(dataset.num_clips)
    }
    assert [known[clip.numpy().tobytes()] for clip in clips] == labels.tolist()
    assert len({clip.numpy().tobytes() for clip in clips}) == 5


def test_the_page_shows_the_run(tmp_path: Path, packed_clips: Path) -> None:
    run = train(tiny_config(tmp_path / "my run", packed_clips))
    page = (run / "index.html").read_text(encoding="utf-8")
    assert "my run" in page
    assert page.count("data:video/mp4;base64,") == 2
    assert "training.ema_beta" in page
    assert "disc-left" in page
    write_page(run, "training")
    refreshing = (run / "index.html").read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' in refreshing
    assert 'http-equiv="refresh"' not in page


def test_facts_of_a_run_are_plain_values(tmp_path: Path, packed_clips: Path) -> None:
    run = train(tiny_config(tmp_path / "run", packed_clips))
    data = json.loads((run / "data.json").read_text())
    assert data["clip_shape"] == [3, 4, 8, 8]
    assert data["classes"] == ["disc-left", "disc-right"]
    assert sum(data["counts"].values()) == data["num_clips"]
    environment = json.loads((run / "environment.json").read_text())
    assert environment["threads"] == 1
    assert environment["vidgan"] == code_version()
    line = read_log(run / "log.jsonl")[-1]
    assert (line["step"], line["clips_seen"], line["level"]) == (20, 80, 1)
    assert {"loss/generator", "loss/discriminator", "clips_per_second"} <= line.keys()
