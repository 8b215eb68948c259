"""What a training will need: counts, memory, time by a table, and what is refused."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from training_cases import tiny_config

from vidgan.cli.main import run as run_verb
from vidgan.core.distributed import Processes
from vidgan.errors import UserError
from vidgan.models.base import ClipShape
from vidgan.training.device_rates import DeviceRates, kernel_seconds
from vidgan.training.loop import train
from vidgan.training.plan import (
    CARD_FIXED,
    CARD_MARGIN,
    largest_batch,
    make_plan,
    micro_batches,
    refuse_larger_than_device,
)
from vidgan.training.planner import clips_after, first_films, plan_schedule, steps_until
from vidgan.training.presets import load_config, load_run_config
from vidgan.training.schedule import stage_at
from vidgan.training.step_cost import Kernel, StepCost, _Meter, count_step

SHAPE = ClipShape(3, 4, 8, 8)
GIB = 2**30
COST = StepCost(
    batch_size=8,
    clips=8,
    parameters={"generator": 1},
    kernels=(Counter(), Counter()),
    penalty_share=1.0,
    state=2 * GIB,
    saved_discriminator=0,
    saved_generator=0,
    peak_discriminator=10 * GIB,
    peak_penalty=19 * GIB,
    peak_generator=0,
    gradients=GIB,
    checkpoint=0,
    group=2,
)
"""Three GiB whatever the batch, and two for each clip."""


def test_the_meter_knows_what_is_alive_and_what_a_product_costs() -> None:
    with _Meter() as meter:
        a = torch.zeros(30, 20)
        b = torch.zeros(20, 50)
        first = meter.live
        product = a @ b
        half = (a.bfloat16() @ b.bfloat16()).shape
        del a
        view = product[:3]
    assert first == 4 * (30 * 20 + 20 * 50)
    assert meter.live == 4 * (20 * 50 + 30 * 50)
    assert meter.peak == first + 4 * 30 * 50 + 2 * (30 * 20 + 20 * 50 + 30 * 50)
    products = {kernel: n for kernel, n in meter.kernels.items() if kernel.flop}
    flop, moved = 2 * 30 * 20 * 50, 30 * 20 + 20 * 50 + 30 * 50
    assert products == {
        Kernel(flop, 4 * moved, is_half=False, is_convolution=False, channels=20): 1,
        Kernel(flop, 2 * moved, is_half=True, is_convolution=False, channels=20): 1,
    }
    assert half == (30, 50)
    assert view.shape == (3, 50)


def test_memory_grows_with_the_clips_alone(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", tmp_path)
    small, large = (count_step(config, SHAPE, 2, 1, size) for size in (4, 16))
    assert small.parameters == large.parameters
    assert small.state == large.state
    # What a step needs beside clips and state is small, and counts as part of the clips.
    assert large.peak <= small.peak_at(16) < 1.06 * large.peak
    assert large.flop == pytest.approx(4 * small.flop, rel=0.05)
    # WGAN-GP differentiates a gradient at every update: the penalty is what takes most.
    assert small.penalty_share == 1
    assert small.peak_penalty > small.peak_discriminator > small.state
    assert small.group == 2


def test_what_fits_is_worked_out_from_what_is_fixed_and_what_grows() -> None:
    memory = round(CARD_MARGIN * 10 * GIB + CARD_FIXED)  # three clips and a half
    assert largest_batch(COST, memory, on_card=True) == 2
    assert micro_batches(COST, 8, memory, on_card=True) == 4
    assert micro_batches(COST, 2, memory, on_card=True) == 1
    assert largest_batch(COST, GIB, on_card=True) == 0
    assert micro_batches(COST, 8, GIB, on_card=True) == 0
    normalised = dataclasses.replace(COST, group=0)
    assert largest_batch(normalised, memory, on_card=True) == 3
    assert micro_batches(normalised, 8, memory, on_card=True) == 0


def test_a_call_takes_what_binds_it() -> None:
    rates = DeviceRates("card", GIB, 1e-6, 1e12, 5e11, 1e14, 5e13, 1.0, "")
    launch = Kernel(0, 100, is_half=False, is_convolution=False, channels=0)
    assert kernel_seconds(launch, rates) == 1e-6
    copy = launch._replace(bytes=10**9)
    assert kernel_seconds(copy, rates) == pytest.approx(1e-3)
    product = Kernel(10**12, 10**6, is_half=True, is_convolution=False, channels=64)
    assert kernel_seconds(product, rates) == pytest.approx(1e-2)
    assert kernel_seconds(product._replace(is_half=False), rates) == pytest.approx(2e-2)
    assert kernel_seconds(product._replace(channels=16), rates) == pytest.approx(4e-2)
    layout = product._replace(bytes=10**9, is_convolution=True)
    assert kernel_seconds(layout, rates) == pytest.approx(1e-2 + 2e-3)


@pytest.mark.parametrize("turns", [1, 3])
def test_steps_and_films_are_where_training_has_them(tmp_path: Path, turns: int) -> None:
    words = (f"training.discriminator_steps={turns}", "training.sample_every=4")
    config = tiny_config(tmp_path / "run", tmp_path, *words, "training.batch_size=[6,4]")
    schedule, settings = plan_schedule(config, SHAPE), config.training
    seen, grown = [0], []
    while seen[-1] < schedule.total:
        stage = stage_at(seen[-1], schedule)
        grown.append(stage.level == 1 and stage.alpha == 1)
        seen.append(seen[-1] + stage.batch_size * turns)
    for steps, clips in enumerate(seen):
        assert clips_after(steps, schedule, settings) == clips
        assert steps_until(clips, schedule, settings) == steps
    first, full = first_films(schedule, settings)
    assert first == min(4, len(seen) - 1)
    due = [step for step in range(1, len(seen)) if step % 4 == 0 or step == len(seen) - 1]
    assert full == next(step for step in due if step >= grown.index(True))


def test_a_plan_by_the_table_needs_no_device_and_no_clips(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", tmp_path / "nothing")
    plan = make_plan(config, "h100", num_classes=2, num_clips=10)
    assert [level.size for level in plan.levels] == ["4x4x4", "4x8x8"]
    assert {level.how for level in plan.levels} == {"table"}
    assert [level.clips for level in plan.levels] == [24, 56]
    assert plan.seconds == pytest.approx(sum(level.seconds for level in plan.levels))
    assert plan.first_full_film_s == pytest.approx(plan.seconds)  # no films but the last
    assert plan.clips_bytes == 10 * 3 * 4 * (4 * 4 + 8 * 8)
    assert not plan.problems
    assert plan.levels[1].largest_batch > 10_000


def test_a_step_beyond_the_memory_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    words = ("data.resolution=64", "data.frames=16", "model.channels=[8,8,8,8,8]")
    config = tiny_config(tmp_path / "run", tmp_path, *words, "training.batch_size=65536")
    config = dataclasses.replace(
        config, training=dataclasses.replace(config.training, total_clips=10**9)
    )
    shape = ClipShape(3, 16, 64, 64)
    schedule = plan_schedule(config, shape)
    with pytest.raises(UserError, match=r"level 4 .*batch 65536.* training\.accumulate=(\d+)"):
        refuse_larger_than_device(config, schedule, shape, 0, Processes())
    small = plan_schedule(tiny_config(tmp_path, tmp_path), SHAPE)
    refuse_larger_than_device(tiny_config(tmp_path, tmp_path), small, SHAPE, 2, Processes())


def test_the_verb_prints_levels_and_refuses_unknown_devices(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["gpu/vgan-clips-64x32", "data=none"]
    assert run_verb(["plan", *words, "--device", "a100", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [level["size"] for level in plan["levels"]] == ["32x64x64"]
    assert run_verb(["plan", *words, "--device", "tpu"]) == 2
    assert "none of auto, cpu, cuda, h200" in capsys.readouterr().err


def test_a_run_in_minutes_is_planned_with_the_schedule_it_was_given(
    tmp_path: Path, packed_clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("training.minutes=0.02", "training.sample_every=500", "training.batch_size=[16,4]")
    run = train(tiny_config(tmp_path / "run", packed_clips, *words))
    settings = load_run_config(run).training
    assert run_verb(["plan", str(run), "--device", "a100", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert sum(level["clips"] for level in plan["levels"]) == settings.total_clips
    # Eight films, of the steps that are made and not of as many clips in larger batches.
    steps = sum(-(-level["clips"] // level["batch_size"]) for level in plan["levels"])
    assert settings.sample_every == pytest.approx(max(1, steps // 8), abs=1)
    assert run_verb(["plan", str(run), "--device", "a100"]) == 0
    shown = f"has shown {settings.total_clips:,} of {settings.total_clips:,} clips"
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [("--classes", "-1"), ("--classes", "99999999999"), ("--clips", "-5"), ("--clips", "0")],
)
def test_numbers_out_of_range_are_one_sentence(
    words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(["plan", "cpu/pvgan-motions-16x8", "--device", "h200", *words]) == 2
    assert f"{words[0][2:]}={words[1]} must lie in" in capsys.readouterr().err


def test_a_schedule_in_minutes_is_scaled_to_them() -> None:
    whole, short = (
        make_plan(load_config("gpu/quick", ["data=x", *words]), "h200")
        for words in (["training.minutes=null"], ["minutes=3"])
    )
    assert short.seconds == pytest.approx(180, rel=0.02)
    shares = [level.clips / sum(e.clips for e in short.levels) for level in short.levels]
    usual = [level.clips / sum(e.clips for e in whole.levels) for level in whole.levels]
    assert shares == pytest.approx(usual, rel=1e-3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cpu/vgan-motions-16x8", "training.batch_size=1"], "use at least 2"),
        (["cpu/pvgan-motions-16x8", "training.batch_size=6"], "a multiple of 4"),
        (["cpu/quick", "minutes=0.5"], "cannot be kept"),
        (["cpu/quick", "log=nosuch"], "nosuch"),
    ],
)
def test_what_train_refuses_is_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(["plan", *words, "data=x", "--device", "h200"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="has such a device")
def test_a_device_of_other_machines_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(["plan", "cpu/quick", "data=x", "--device", "mps"]) == 2
    assert "this machine has none" in capsys.readouterr().err
