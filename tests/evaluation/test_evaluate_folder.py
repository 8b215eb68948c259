"""`vidgan evaluate FOLDER`: clips of any other program under the protocol of our own."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import vidgan
from vidgan.cli import main as cli
from vidgan.data.dataset import ClipDataset
from vidgan.data.packed.store import MemoryStore
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import MotionSettings, motion_clip
from vidgan.errors import UserError
from vidgan.evaluation.record_checks import read_run_records
from vidgan.video import write_mp4, write_png

Capture = pytest.CaptureFixture[str]

SET = MotionSettings(size=16, frames=4, objects=("disc",), motions=("left", "right"))
NUM_FAKE = 24


def write_fakes(folder: Path, kind: str) -> None:
    """Clips of other videos of the same world, in class folders."""
    for number in range(NUM_FAKE):
        clip, label = motion_clip(SET, number, "elsewhere")
        place = folder / SET.classes[label] / f"clip{number:02d}"
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind == "png":
            place.mkdir()
            for t, frame in enumerate(clip.unbind(1)):
                write_png(place / f"{t}.png", frame)
        else:
            write_mp4(place.with_suffix(".mp4"), clip, 8.0, lossless=kind == "lossless")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with real videos and the same generated clips stored in three ways."""
    folder = tmp_path_factory.mktemp("work")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    words = ["--videos", "40", "--size", "16", "--frames", "4"]
    words += ["--objects", "disc", "--motions", "left,right", "--heldout", "0.25"]
    assert cli.run(["data", "motions", "videos", *words]) == 0
    patch.undo()
    for kind in ("png", "lossless", "lossy"):
        write_fakes(folder / kind, kind)
    return folder


@pytest.fixture(autouse=True)
def _inside(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("VIDGAN_CACHE", str(workplace / "cache"))
    monkeypatch.chdir(workplace)
    capsys.readouterr()


def evaluated(folder: str, capsys: Capture) -> dict[str, Any]:
    words = ["data=videos", "--protocol", "stswd", "--json"]
    assert cli.run(["evaluate", folder, *words]) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


def test_png_sequences_and_lossless_video_score_the_same(capsys: Capture) -> None:
    images, videos = evaluated("png", capsys), evaluated("lossless", capsys)
    assert images["scores"] == videos["scores"]
    assert images["generator"]["clips_hash"] == videos["generator"]["clips_hash"]
    assert images["generator"]["is_labelled"]
    assert images["generator"]["formats"] == {"images rgb24": NUM_FAKE}
    assert images["counts"]["generated"] == NUM_FAKE
    assert not any("loss" in warning for warning in videos["warnings"])
    (saved,) = Path("png/evals").glob("*.json")
    assert json.loads(saved.read_text(encoding="utf-8")) == images


def test_lossy_clips_warn_in_the_record_and_on_the_terminal(capsys: Capture) -> None:
    assert cli.run(["evaluate", "lossy", "data=videos", "--protocol", "stswd"]) == 0
    said = capsys.readouterr().out
    assert "warning: 24 of 24 generated clips were stored with loss (h264 yuv420p)" in said
    (saved,) = Path("lossy/evals").glob("*.json")
    record = json.loads(saved.read_text(encoding="utf-8"))
    assert any("stored with loss" in warning for warning in record["warnings"])
    assert record["generator"]["num_lossy"] == NUM_FAKE
    exact = evaluated("png", capsys)
    assert record["scores"] != exact["scores"]


def test_files_score_like_the_clips_that_were_put_in(capsys: Capture) -> None:
    """The same protocol in memory, with the real clips as `data motions` rendered them."""
    real = [motion_clip(SET, number, "elsewhere") for number in range(56)]
    splits = ["train"] * 40 + ["heldout"] * 16
    clips = torch.stack([clip for clip, _ in real])
    labels = torch.tensor([label for _, label in real])
    store = MemoryStore(clips, labels, classes=SET.classes, splits=splits)
    data = ClipDataset(store, DataConfig(resolution=16, frames=4), seed=0)
    from_files = vidgan.evaluate("png", data, "stswd").to_dict()
    order = [int(name[-2:]) for name in from_files["clips"]["generated"]["name"]]
    in_memory = vidgan.evaluate([(clips[order], labels[order])], data, "stswd").to_dict()
    assert from_files["scores"] == in_memory["scores"]
    assert from_files["generator"]["clips_hash"] == in_memory["generator"]["clips_hash"]


def test_the_record_of_a_folder_stands_in_a_comparison(capsys: Capture) -> None:
    evaluated("png", capsys)
    evaluated("lossless", capsys)
    # Measured with another seed, the same clips stand in a table of their own.
    shutil.rmtree("lossless/evals")
    words = ["data=videos", "--protocol", "stswd", "--seed", "1"]
    assert cli.run(["evaluate", "lossless", *words]) == 0
    record = next(Path("png/evals").glob("*.json"))
    assert cli.run(["compare", str(record), "lossless", "--out", "table.md"]) == 0
    text = Path("table.md").read_text(encoding="utf-8")
    assert text.count("Space-time sliced Wasserstein distance") == 2
    assert record.stem in text
    assert "| lossless |" in text


def test_the_same_clips_in_two_containers_count_once(capsys: Capture) -> None:
    evaluated("png", capsys)
    evaluated("lossless", capsys)
    assert cli.run(["compare", "png", "lossless", "--out", "table.md"]) == 0
    text = Path("table.md").read_text(encoding="utf-8")
    assert "png and lossless hold the same clips, which count once" in text
    assert "| png (1) |" in text
    assert "| lossless" not in text


def test_of_two_records_of_one_second_the_later_file_is_newer(capsys: Capture) -> None:
    shutil.rmtree("png/evals", ignore_errors=True)
    evaluated("png", capsys)
    first = next(Path("png/evals").glob("*.json"))
    for name in ("a.json", "z.json"):
        second = Path(shutil.copy(first, first.with_name(name)))
        for path, seconds in ((first, 2_000_000_000), (second, 2_000_000_001)):
            os.utime(path, (seconds, seconds))
        assert read_run_records("png", newest=1)[0][0].path == second
        second.unlink()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["evaluate", "png"], "no data given: set data=FOLDER"),
        (["evaluate", "empty", "data=videos"], "there are no generated clips in empty"),
        (["evaluate", "few", "data=videos"], "an evaluation needs 8 generated"),
        (
            ["evaluate", "png", "data=videos", "frames=8", "short=loop"],
            "has 4 frames and is",
        ),
        (["evaluate", "png", "data=videos", "resolution=12"], "give resolution=16"),
        (["evaluate", "png", "data=videos", "judge_seed=x"], "judge_seed=x must be a whole number"),
        (["evaluate", "nowhere", "data=videos"], "no run folder or generator file nowhere"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    words: list[str], sentence: str, capsys: Capture
) -> None:
    Path("empty").mkdir(exist_ok=True)
    if not Path("few").exists():
        shutil.copytree("png/disc-left", "few/disc-left")
        for extra in sorted(Path("few/disc-left").iterdir())[3:]:
            shutil.rmtree(extra)
    assert cli.run([*words, "--protocol", "stswd"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("vidgan: ")
    assert sentence in error


def test_python_takes_folders_for_the_data_too(capsys: Capture) -> None:
    opened = vidgan.open_dataset("videos", size=(4, 16))
    records = [vidgan.evaluate("png", data, "stswd") for data in ("videos", Path("videos"), opened)]
    assert records[0].scores == records[1].scores == records[2].scores
    assert records[0].to_dict()["scores"] == evaluated("png", capsys)["scores"]
    with pytest.raises(UserError, match="there is no folder nowhere"):
        vidgan.evaluate("png", "nowhere", "stswd")
