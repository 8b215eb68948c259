"""`vidgan evaluate --watch`: every checkpoint once, live, interrupted, and beside training."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vidgan.cli import main as cli

Capture = pytest.CaptureFixture[str]

RUN = "runs/small-videos"
SETTINGS = """
model: {name: pvgan, channels: [8, 8]}
data: {resolution: 8, frames: 4}
training: {total_clips: 96, stable_clips: 24, fade_clips: 24, batch_size: 8, checkpoint_every: 4,
           keep_checkpoints: 9, device: cpu, threads: 1}
"""
WATCH = ["evaluate", RUN, "protocol.num_clips=32", "--watch", "--protocol", "stswd"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with real videos and a finished run of three checkpoints."""
    folder = tmp_path_factory.mktemp("made")
    patch = pytest.MonkeyPatch()
    patch.setenv("VIDGAN_CACHE", str(folder / "cache"))
    patch.chdir(folder)
    words = ["--videos", "60", "--size", "16", "--frames", "4"]
    words += ["--objects", "disc", "--motions", "left,right", "--heldout", "0.25"]
    assert cli.run(["data", "motions", "videos", *words]) == 0
    Path("small.yaml").write_text(SETTINGS, encoding="utf-8")
    assert cli.run(["train", "small.yaml", "data=videos"]) == 0
    patch.undo()
    return folder


@pytest.fixture(autouse=True)
def _in_a_copy(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "copy" / "cache"))
    monkeypatch.chdir(tmp_path / "copy")
    # Priority can only be lowered: the tests behind these should not inherit it.
    monkeypatch.setattr(os, "nice", lambda _: 0)
    capsys.readouterr()


@pytest.fixture
def watcher() -> Iterator[subprocess.Popen[str]]:
    """A watch in a process of its own."""
    command = [sys.executable, "-m", "vidgan", *WATCH]
    pipe = subprocess.PIPE
    # Started in the background of a shell, tests and their children would ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    signal.signal(signal.SIGINT, before)
    yield process
    process.kill()
    process.wait()


def records() -> list[dict[str, Any]]:
    found = [json.loads(path.read_text("utf-8")) for path in Path(RUN, "evals").glob("*.json")]
    return sorted(found, key=lambda record: int(record["generator"]["step"]))


def steps() -> list[int]:
    return [record["generator"]["step"] for record in records()]


def wait_for(what: str, condition: Any, seconds: float = 90.0) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"waited too long for {what}"
        time.sleep(0.1)


def test_a_finished_run_is_evaluated_once_and_ends_the_watch(capsys: Capture) -> None:
    assert cli.run(WATCH) == 0
    said = capsys.readouterr()
    assert steps() == [4, 8, 12]
    lines = said.out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 4", "step 8", "step 12"]
    scores = {r["generator"]["step"]: r["scores"]["space_time_swd"]["value"] for r in records()}
    assert f"step 12: space_time_swd {scores[12]:.4g} (real " in lines[2]
    best = json.loads(Path(RUN, "best.json").read_text("utf-8"))
    assert best["step"] == min(scores, key=lambda step: scores[step])
    assert f"{RUN} is finished, and its best checkpoint is step {best['step']}" in said.err
    protocol = records()[0]["protocol"]["id"]
    assert f"<code>{protocol}</code>" in Path(RUN, "index.html").read_text("utf-8")

    assert cli.run([*WATCH, "--json"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "3 checkpoints were evaluated before" in said.err
    assert steps() == [4, 8, 12]
    assert cli.run([*WATCH, "--json", "--seed", "1"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["generator"]["step"] for record in printed] == [4, 8, 12]
    assert len(steps()) == 6


def test_a_checkpoint_that_comes_later_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints, seen = Path(RUN, "checkpoints"), []
    shutil.move(checkpoints / "step-12", "later")

    def publish(_: float) -> None:
        seen.append(steps())
        shutil.move("later", checkpoints / "step-12")

    monkeypatch.setattr(time, "sleep", publish)
    assert cli.run(WATCH) == 0
    assert seen == [[4, 8]]
    assert steps() == [4, 8, 12]


def test_an_interrupted_watch_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    checkpoints = Path(RUN, "checkpoints")
    shutil.move(checkpoints / "step-12", "later")

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", interrupt)
        assert cli.run(WATCH) == 130
    assert steps() == [4, 8]
    shutil.move("later", checkpoints / "step-12")
    capsys.readouterr()
    assert cli.run(WATCH) == 0
    assert "2 checkpoints were evaluated before" in capsys.readouterr().err
    assert steps() == [4, 8, 12]


@pytest.mark.slow
def test_a_watch_in_a_process_of_its_own_obeys_ctrl_c(watcher: subprocess.Popen[str]) -> None:
    shutil.move(Path(RUN, "checkpoints/step-12"), "later")
    wait_for("the records", lambda: steps() == [4, 8])
    time.sleep(3)
    assert watcher.poll() is None
    watcher.send_signal(signal.SIGINT)
    assert watcher.wait(60) == 130
    assert "vidgan: interrupted" in (watcher.stdout.read() if watcher.stdout else "")
    assert not list(Path(RUN).rglob(".tmp-*"))


def test_a_checkpoint_that_vanishes_or_is_damaged_is_passed_over(capsys: Capture) -> None:
    Path(RUN, "checkpoints/step-8/ema.safetensors").write_bytes(b"damaged")
    assert cli.run(WATCH) == 0
    said = capsys.readouterr().err
    assert "step 8: " in said
    assert "ema.safetensors does not match its checksum" in said
    assert "the newest older intact checkpoint is step 4" in said
    assert steps() == [4, 12]


def test_a_run_of_which_nothing_can_be_evaluated_is_refused(capsys: Capture) -> None:
    for video in sorted(Path("videos/heldout").rglob("*.mp4"))[4:]:
        video.unlink()
    assert cli.run(WATCH) == 2
    assert "no checkpoint of runs/small-videos could be evaluated: step 12: " in (
        capsys.readouterr().err
    )
    assert cli.run(["evaluate", "nowhere", "--watch"]) == 2
    assert "nowhere is not a run folder yet: start vidgan train first" in capsys.readouterr().err


@pytest.mark.slow
def test_training_beside_a_watch_gives_the_same_weights(made: Path) -> None:
    shutil.rmtree("runs")
    train = [sys.executable, "-m", "vidgan", "train", "small.yaml", "data=videos"]
    with subprocess.Popen(train, stdout=subprocess.DEVNULL) as training:
        wait_for("the run folder", lambda: Path(RUN, "config.yaml").exists())
        watch = subprocess.run([sys.executable, "-m", "vidgan", *WATCH], timeout=240, check=False)
        assert watch.returncode == 0
        assert training.wait(120) == 0
    assert steps() == [4, 8, 12]
    for name in ("ema", "discriminators", "optimizers"):
        file = f"{RUN}/checkpoints/step-12/{name}.safetensors"
        assert Path(file).read_bytes() == (made / file).read_bytes()
