"""Signals to a whole group, workers that die, folders that go: what is left and what is said."""

import os
import signal
import time
from pathlib import Path

import pytest
from training_cases import Child, hash_of_ema, start_child, tiny_config

from vidgan.core.stop_signals import STOP_SIGNALS
from vidgan.errors import UserError
from vidgan.sampling.storage import list_checkpoints, read_pointer
from vidgan.training.loop import train
from vidgan.training.presets import Config
from vidgan.training.run_folder import run_lock

LONG = ("training.total_clips=40000", "training.checkpoint_every=100000", "training.log_every=2")


def started(config: Config) -> Child:
    """A child that has made a few steps."""
    child = start_child(config)
    assert child.wait_until(lambda: child.step.value >= 3)
    return child


def workers_of(process: int) -> list[int]:
    """Processes below one that have none below themselves; a server of forks may lie between."""
    words = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [leaf for word in words for leaf in workers_of(int(word)) or [int(word)]]


def group_is_empty(process: int, limit_s: float = 20.0) -> bool:
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        try:
            os.killpg(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGTERM, 1),
        pytest.param(signal.SIGTERM, 3, marks=pytest.mark.slow),
        *(
            pytest.param(number, workers, marks=pytest.mark.slow)
            for number in STOP_SIGNALS
            for workers in (0, 2)
        ),
    ],
)
def test_a_signal_to_the_group_saves(
    number: signal.Signals, workers: int, tmp_path: Path, packed_clips: Path
) -> None:
    config = tiny_config(tmp_path / "run", packed_clips, *LONG, f"training.workers={workers}")
    child = started(config)
    assert len(workers_of(child.process.pid)) == workers
    child.signal_group(number)
    assert child.result() == "TrainingStopped: 0"
    assert child.process.exitcode == 0
    assert list_checkpoints(tmp_path / "run")[-1] >= 4
    assert group_is_empty(child.process.pid)


def test_a_killed_worker_is_named(tmp_path: Path, packed_clips: Path) -> None:
    child = started(tiny_config(tmp_path / "run", packed_clips, *LONG, "training.workers=1"))
    (worker,) = workers_of(child.process.pid)
    os.kill(worker, signal.SIGKILL)
    said = child.result()
    assert said.startswith("UserError: a process that reads clips was ended"), said
    assert "lower training.workers" in said
    assert "\n" not in said


def test_a_run_folder_that_was_moved_is_named_and_goes_on_elsewhere(
    tmp_path: Path, packed_clips: Path
) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    words = (*LONG, "training.checkpoint_every=4")
    child = start_child(tiny_config(run, packed_clips, *words))
    assert child.wait_until(lambda: (run / "checkpoints" / "step-4").exists())
    run.rename(moved)
    said = child.result()
    assert said.startswith(f"UserError: {run} was moved or deleted while it was trained in"), said
    assert not (run / "config.yaml").exists()
    again = started(tiny_config(moved, packed_clips, *words))
    again.signal_group(signal.SIGTERM)
    assert again.result() == "TrainingStopped: 0"
    assert list_checkpoints(moved)[-1] > 4


def save_in_vain(run: Path, moved: Path | None) -> None:
    with run_lock(run):
        if moved is not None:
            run.rename(moved)
        raise UserError("last.json cannot be written")


def test_a_save_that_a_move_broke_says_that_the_folder_was_moved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was moved or deleted"):
        save_in_vain(tmp_path / "run", tmp_path / "moved")
    with pytest.raises(UserError, match=r"^last.json cannot be written$"):
        save_in_vain(tmp_path / "run", None)


def kill_while_writing(config: Config, step: int) -> None:
    child = start_child(config, slow_writes_s=0.3)
    unfinished = Path(config.run, "checkpoints")
    assert child.wait_until(
        lambda: child.step.value >= step and any(unfinished.glob(".tmp-*-step-*"))
    )
    child.kill()


def test_samples_are_made_again_where_a_kill_came_between_them_and_the_checkpoint(
    tmp_path: Path, packed_clips: Path
) -> None:
    words = ("training.sample_every=5",)
    whole = train(tiny_config(tmp_path / "whole", packed_clips, *words))
    config = tiny_config(tmp_path / "run", packed_clips, *words)
    for step in (0, 9):
        kill_while_writing(config, step)
    train(config)
    videos = [sorted(p.name for p in Path(run, "samples").iterdir()) for run in (whole, config.run)]
    assert videos[0] == videos[1]
    assert hash_of_ema(whole) == hash_of_ema(Path(config.run))


def test_the_pointer_to_the_last_checkpoint_is_mended(tmp_path: Path, packed_clips: Path) -> None:
    run = train(tiny_config(tmp_path / "run", packed_clips))
    (run / "last.json").write_text('{"step": 15}')
    train(tiny_config(run, packed_clips))
    assert read_pointer(run, "last") == 20
