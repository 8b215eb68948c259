"""What a page of many systems shows of a run."""

import html
import json
import os
from pathlib import Path

import pytest
import torch

import vidgan
from vidgan.core.files import write_sealed_json
from vidgan.errors import UserError
from vidgan.training.logs import LOG_FILE, read_log
from vidgan.training.page import write_page
from vidgan.training.presets import save_config
from vidgan.training.run_folder import (
    VIDEO_WIDTH,
    device_of,
    environment_facts,
    media_of,
    read_clip_facts,
    sample_videos,
)
from vidgan.video import probe, read_frames, write_mp4


def video(run: Path, step: int, width: int) -> Path:
    """Samples of a run: blocks of 4 px of one brightness each."""
    rng = torch.Generator().manual_seed(step)
    blocks = torch.randint(0, 256, (1, 3, 8, width // 4), generator=rng, dtype=torch.uint8)
    clip = blocks.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3).expand(3, -1, -1, -1)
    path = run / "samples" / f"step-{step}.mp4"
    path.parent.mkdir(exist_ok=True)
    write_mp4(path, clip, 5.0, quality=0)
    return path


def test_films_are_shown_as_they_are_or_no_wider_than_the_page(tmp_path: Path) -> None:
    narrow = video(tmp_path, 1, VIDEO_WIDTH)
    (medium,) = media_of(tmp_path)
    assert medium["content"] == narrow.read_bytes()

    wide = video(tmp_path, 2, 2 * VIDEO_WIDTH + 8)  # the newest samples are shown
    (medium,) = media_of(tmp_path)
    assert medium["title"] == "Samples at step 2"
    shown = tmp_path / "shown.mp4"
    shown.write_bytes(medium["content"])
    found = probe(shown)
    assert (found.width, found.height, found.num_frames, found.fps) == (268, 10, 3, 5.0)
    blocks = read_frames(wide).clip[:, :, :30, :804].float().reshape(3, 3, 10, 3, 268, 3)
    assert (read_frames(shown).clip - blocks.mean(dim=(3, 5))).abs().mean() < 6


def test_samples_have_the_names_that_training_gives(tmp_path: Path) -> None:
    for name in ("step-7", "step-abc", "step-0099", "step-\u00b2", "step-8-x", "step-" + "9" * 20):
        path = tmp_path / "samples" / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "samples" / "step-9.mp4").mkdir()
    assert sample_videos(tmp_path) == {7: tmp_path / "samples" / "step-7.mp4"}


@pytest.mark.parametrize(
    "line",
    [
        {"step": 1, "clips_seen": 8, "alpha": "1"},
        {"step": 1, "clips_seen": 8, "alpha": float("nan")},
        {"step": 1, "clips_seen": 8, "level": [0]},
        {"step": 1, "clips_seen": -8},
        {"step": 10**400, "clips_seen": 8},
        {"step": 1, "clips_seen": 8, "device_seconds": "5"},
        {"step": 1, "clips_seen": 8, "clips_per_second": None},
    ],
)
def test_log_lines_that_do_not_fit_are_left_out(line: dict[str, object], tmp_path: Path) -> None:
    whole = {"step": 2, "clips_seen": 16, "alpha": 0.5, "level": 1, "loss/generator": 0.1}
    path = tmp_path / LOG_FILE
    path.write_text("".join(json.dumps(row) + "\n" for row in (line, whole)))
    assert read_log(path) == [whole]


FACTS = {
    "clip_shape": [3, 4, 16, 16],
    "classes": ["a"],
    "counts": {"a": 5},
    "num_clips": 5,
    "fps": 8.0,
    "dropped": [["b.mp4", "too short"]],
    "split": "train",
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clip_shape", [3, 4, 16]),
        ("clip_shape", [3, 4, -16, 16]),
        ("classes", "abc"),
        ("counts", {"a": "5"}),
        ("num_clips", None),
        ("fps", "8"),
        ("dropped", [["b.mp4"]]),
    ],
)
def test_facts_of_clips_are_checked(field: str, value: object, tmp_path: Path) -> None:
    write_sealed_json(tmp_path / "data.json", FACTS)
    found = read_clip_facts(tmp_path)
    assert found is not None
    assert found.dropped == (("b.mp4", "too short"),)
    write_sealed_json(tmp_path / "data.json", {**FACTS, field: value})
    with pytest.raises(UserError):
        read_clip_facts(tmp_path)


def test_values_of_an_environment_that_do_not_fit_are_left_out_by_name(tmp_path: Path) -> None:
    check = {"sentence": "kept", "float32": "nothing"}
    odd = {"deep": {"a": [1]}, "processes": "two", "device_name": "card"}
    odd |= {"gradient_checks": {"level 0": check, "level 1": {"sentence": 5}, "level 2": 7}}
    (tmp_path / "environment.json").write_text(json.dumps(odd))
    kept, left_out = environment_facts(tmp_path)
    assert kept["gradient_checks"] == {"level 0": check}
    assert left_out == ["deep"]
    assert device_of(tmp_path) is None


def test_a_page_names_the_files_that_it_leaves_out(tmp_path: Path) -> None:
    save_config(tmp_path, vidgan.load_config("cpu/pvgan-motions-16x8", ["data=videos"]))
    video(tmp_path, 1, 16)
    os.mkfifo(tmp_path / "interpolation.mp4")
    os.mkfifo(tmp_path / "interpolation.png")
    os.mkfifo(tmp_path / "data.json")
    (tmp_path / "predictions").mkdir()
    os.mkfifo(tmp_path / "predictions" / "0.mp4")
    (tmp_path / "environment.json").write_text("[" * 100_000)
    (tmp_path / LOG_FILE).write_text('{"step": "x"}\n')
    said = write_page(tmp_path, "interrupted")
    log = tmp_path / LOG_FILE
    told = f"left out: {log} has 1 damaged line (line 1), whose numbers are lost: delete it"
    assert told in said
    assert any(
        sentence.startswith(f"left out: {tmp_path / 'environment.json'}") for sentence in said
    )
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("data:video/mp4;base64,") == 1
    for name in ("interpolation.mp4", "interpolation.png", "data.json", "environment.json"):
        assert f"{name} is" in page
    for sentence in said:
        assert html.escape(sentence) in page
