"""Schedules in minutes: what is measured, what is kept, and that resuming changes nothing."""

import dataclasses
import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
from training_cases import hash_of_ema, tiny_config

from vidgan.core.distributed import Processes
from vidgan.errors import UserError
from vidgan.sampling.storage import checkpoint_folder, list_checkpoints
from vidgan.training import gradient_check
from vidgan.training.budget import measure_seconds
from vidgan.training.cost import predict_seconds
from vidgan.training.loop import build_step, open_clips, train
from vidgan.training.planner import plan_schedule
from vidgan.training.presets import load_config, load_run_config
from vidgan.training.step import TrainingStep

MINUTES = "training.minutes=0.02"


@pytest.mark.parametrize("patience_s", [float("inf"), 0.5])
def test_the_cost_is_that_of_every_step_of_the_schedule(
    tmp_path: Path, packed_clips: Path, patience_s: float
) -> None:
    config = tiny_config(tmp_path / "run", packed_clips, "training.minutes=4")
    dataset = open_clips(config, str)
    schedule = plan_schedule(config, dataset.full_shape)
    step = build_step(config, dataset, schedule, Processes())
    ticks = itertools.count()
    # Every step begins and ends with a tick, so it takes one second: 80 clips in batches of 4.
    clock = lambda: float(next(ticks))  # noqa: E731
    prepared = []
    seconds = measure_seconds(step, schedule, dataset, prepared.append, clock, patience_s)
    assert prepared == [step] * 2
    assert seconds == 20
    assert next(ticks) == 2 * 2 * (11 if patience_s > 1 else 2)


def test_a_run_in_minutes_resumes_with_the_schedule_and_the_bits_it_began_with(
    tmp_path: Path, packed_clips: Path
) -> None:
    config = tiny_config(tmp_path / "run", packed_clips, MINUTES, "training.checkpoint_every=1")
    config = dataclasses.replace(
        config, training=dataclasses.replace(config.training, keep_checkpoints=10_000)
    )
    run = train(config)
    saved = load_run_config(run)
    total, stable = saved.training.total_clips, saved.training.stable_clips
    assert saved.training.minutes == config.training.minutes
    assert isinstance(stable, int)
    assert abs(stable - 24 / 80 * total) <= 1.5
    whole = hash_of_ema(run)

    # The same command goes on from an older checkpoint.
    steps = list_checkpoints(run)
    assert steps[-1] == -(-total // 4)
    for step in steps[len(steps) // 2 + 1 :]:
        shutil.rmtree(checkpoint_folder(run, step))
    assert hash_of_ema(train(config)) == whole
    assert load_run_config(run).training == saved.training
    # So does a run that was given that schedule: measuring leaves no trace.
    alone = dataclasses.replace(saved.training, minutes=None)
    again = dataclasses.replace(saved, run=str(tmp_path / "again"), training=alone)
    assert hash_of_ema(train(again)) == whole

    with pytest.raises(UserError, match=r"was begun for 0\.02 minutes, and its schedule stays"):
        train(tiny_config(run, packed_clips, "training.minutes=7"))
    longer = load_config(run, [f"training.total_clips={total + 4}"])
    assert longer.training.minutes is None
    assert list_checkpoints(train(longer))[-1] == steps[-1] + 1


@pytest.mark.parametrize("predicts", [True, False])
def test_steps_are_measured_in_the_formats_that_the_run_computes_in(
    tmp_path: Path, packed_clips: Path, monkeypatch: pytest.MonkeyPatch, predicts: bool
) -> None:
    computed = []
    run_step = TrainingStep.run

    def run(step: TrainingStep, *inputs: Any) -> Any:
        computed.append(step.settings.precision.networks)
        return run_step(step, *inputs)

    monkeypatch.setattr(TrainingStep, "run", run)
    monkeypatch.setattr(gradient_check, "has_bfloat16", lambda device: False)
    words = ["training.precision.networks=bf16", "training.precision.penalty=bf16"]
    if predicts:
        predict_seconds(tiny_config(tmp_path / "run", packed_clips, *words), str)
    else:
        train(tiny_config(tmp_path / "run", packed_clips, MINUTES, *words))
    assert set(computed) == {"fp32"}


def test_minutes_and_hours_are_words_for_every_preset() -> None:
    assert load_config(None, ["minutes=10"]).training.minutes == 10
    assert load_config(None, ["hours=0.5"]).training.minutes == 30
    assert load_config({"hours": 8}).training.minutes == 480
    for word in ("minutes=0", "hours=-1", "minutes=soon", "hours=soon"):
        with pytest.raises(UserError, match=r"training\.minutes\S* must be"):
            load_config(None, [word])


def test_lengths_that_exclude_each_other_are_told_before_clips_are_built(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", tmp_path / "absent", "training.total_clips=8")
    with pytest.raises(UserError, match=r"total_clips=8 ends before .* minutes=10"):
        train(config)
