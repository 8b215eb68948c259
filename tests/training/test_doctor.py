"""The training doctor: what it measures, which faults it names, and that no bit moves."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_cases import hash_of_ema, tiny_config

from vidgan.core.distributed import Processes
from vidgan.data.dataset import ClipDataset
from vidgan.errors import UnhealthyTrainingError
from vidgan.models.base import ClipShape
from vidgan.training import doctor as doctor_module
from vidgan.training.budget import _same_batch, full_stage
from vidgan.training.doctor import LASTING, RULES, Look, TrainingDoctor, clip_ratios, repeated_share
from vidgan.training.logs import LOG_FILE, read_log
from vidgan.training.loop import build_step, open_clips, train
from vidgan.training.planner import plan_schedule
from vidgan.training.step import TrainingStep

Change = Callable[[Tensor, int], Tensor]
"""What a fault does to generated clips `[B, C, T, H, W]` at look number so and so."""


def patient(
    packed: Path, folder: Path, *words: str
) -> tuple[TrainingStep, ClipDataset, Callable[[int], None]]:
    """A step at the last level, its clips, and what takes more steps."""
    config = tiny_config(folder / "run", packed, *words)
    dataset = open_clips(config, print)
    schedule = plan_schedule(config, ClipShape(*dataset.full_shape))
    step = build_step(config, dataset, schedule, Processes())
    stage = full_stage(schedule, len(schedule.levels) - 1)
    step.enter(stage)
    batches, numbers = _same_batch(dataset, stage, step.processes), itertools.count()

    def take(count: int) -> None:
        for _ in range(count):
            step.run(next(numbers), 0, batches)

    return step, dataset, take


def examined(step: TrainingStep, dataset: ClipDataset, change: Change | None = None) -> Look:
    """The last of as many looks as it takes to tell what lasts."""
    doctor = TrainingDoctor(dataset, seed=0, total_clips=100)
    make = step.gan.generator.parts
    for number in range(2 * LASTING):
        if change is not None:
            step.gan.generator.parts = lambda *given, at=number: {  # type: ignore[method-assign]
                "clip": change(make(*given)["clip"], at)
            }
        look = doctor.look(step, number, {"discriminator/gradient_penalty": 0.5}, 50)
    step.gan.generator.parts = make  # type: ignore[method-assign]
    return look


def random_clips(count: int, frames: int = 4) -> Tensor:
    """Clips that differ in colour, content and from frame to frame."""
    rng = torch.Generator().manual_seed(0)
    colour = torch.rand(count, 3, 1, 1, 1, generator=rng) - 0.5
    return colour + torch.rand(count, 3, frames, 8, 8, generator=rng) - 0.5


def test_clips_that_are_real_ones_have_ratios_of_one() -> None:
    clips = random_clips(16)
    values = clip_ratios(clips, clips, None)
    for name in ("motion", "diversity", "colour_spread", "brightness", "loopiness"):
        assert values[name] == pytest.approx(1), name
    assert values["nearest"] == 0
    assert values["duplicates"] == 0
    assert clip_ratios(torch.cat([clips[:8], clips[:8]]), clips, None)["duplicates"] == 1


def test_ratios_are_those_worked_out_by_hand() -> None:
    # Real clips of one frame step 0.2, generated ones of 0.1; colours spread 1 against 0.25.
    ramp = torch.arange(4.0).view(1, 1, 4, 1, 1)
    level = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1, 1)
    ones = torch.ones(2, 3, 4, 8, 8)
    values = clip_ratios(ones * (0.2 * ramp + level), ones * (0.1 * ramp + 0.25 * level), None)
    assert values["motion"] == pytest.approx(0.5)
    assert values["colour_spread"] == pytest.approx(0.25)
    assert values["diversity"] == pytest.approx(0.25)
    assert values["mean_colour_0"] == pytest.approx(0.15 + 0.125)
    # A clip that comes back to its first frame is a loop.
    there_and_back = torch.tensor([0.0, 0.2, 0.2, 0.0]).view(1, 1, 4, 1, 1) * ones
    assert clip_ratios(ones * (0.2 * ramp + level), there_and_back, None)["loopiness"] == 0
    # Pairs of a class that do not differ.
    labels = torch.tensor([0, 0, 1, 1])
    fakes = random_clips(4)
    assert clip_ratios(random_clips(16), fakes[[0, 0, 2, 2]], labels)["within_class"] == 0
    assert clip_ratios(random_clips(16), fakes, labels)["within_class"] > 0.5


def mixed(clips: Tensor) -> Tensor:
    return random_clips(len(clips), clips.shape[2])


FAULTS: dict[str, Change] = {
    "dead generator": lambda clips, at: torch.full_like(clips, 0.3),
    "collapse": lambda clips, at: 0.02 * mixed(clips),
    "frozen": lambda clips, at: mixed(clips)[:, :, :1].expand_as(clips),
    "flicker": lambda clips, at: 20 * mixed(clips),
    "latent ignored": lambda clips, at: mixed(clips)[::2].repeat_interleave(2, dim=0),
    "backgrounds alike": lambda clips, at: (
        mixed(clips) - mixed(clips).mean(dim=(2, 3, 4), keepdim=True)
    ),
    "turning in circles": lambda clips, at: 0.1 * mixed(clips) + 0.5 * (-1) ** at,
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_generator_is_named(name: str, packed_clips: Path, tmp_path: Path) -> None:
    step, dataset, _ = patient(packed_clips, tmp_path)
    look = examined(step, dataset, FAULTS[name])
    assert name in {finding.name for finding in look.findings}, look
    assert look.verdict == ("stop" if name == "dead generator" else "warn")


def test_copies_among_many_training_clips_are_named(packed_clips: Path, tmp_path: Path) -> None:
    step, dataset, _ = patient(packed_clips, tmp_path)
    assert repeated_share(dataset) == 0
    # Copies lie anywhere in a set, seldom two among the clips that a look compares.
    whole = list(dataset.store.items)
    train = [number for number, item in enumerate(whole) if item.split == "train"]
    items, third = list(whole), len(train) // 3
    for number, other in zip(train[:third], train[-third:], strict=True):
        items[number] = replace(items[number], checksums=items[other].checksums)
    dataset.store.items = items  # type: ignore[misc]
    assert repeated_share(dataset) == pytest.approx(2 * third / len(train))
    doctor = TrainingDoctor(dataset, seed=0, total_clips=100)
    dataset.store.items = whole  # type: ignore[misc]
    looks = [doctor.look(step, number, {}, 50) for number in range(LASTING)]
    assert "duplicated data" in {found.name for found in looks[-1].findings}


def test_copies_of_training_clips_are_named(packed_clips: Path, tmp_path: Path) -> None:
    step, dataset, _ = patient(packed_clips, tmp_path)
    real, _ = TrainingDoctor(dataset, 0, 100).real_clips(step.stage)  # type: ignore[arg-type]
    look = examined(step, dataset, lambda clips, at: real[: len(clips)] + 0.001 * clips)
    assert {finding.name for finding in look.findings} == {"copies"}


def test_a_learning_rate_a_hundred_times_too_high_is_named(
    packed_clips: Path, tmp_path: Path
) -> None:
    step, dataset, take = patient(packed_clips, tmp_path, "training.generator.lr=0.1")
    take(3)
    found = {finding.name: finding for finding in examined(step, dataset).findings}
    assert found["learning rate"].severity == "stop"
    assert "training.generator.lr" in found["learning rate"].sentence


def test_weights_that_outgrow_their_start_are_named_at_once(
    packed_clips: Path, tmp_path: Path
) -> None:
    step, dataset, take = patient(packed_clips, tmp_path)
    doctor = TrainingDoctor(dataset, seed=0, total_clips=100)
    doctor.begin(step)
    take(1)
    with torch.no_grad():
        for weight in step.gan.generator.parameters():
            weight.mul_(1.3)
    look = doctor.look(step, 20, {}, 1)
    assert [finding.name for finding in look.findings] == ["learning rate of the first steps"]
    assert look.verdict == "stop"
    # Later weights may be as large as they like.
    assert "growth" not in doctor.look(step, 40, {}, 2).values


def test_growth_is_that_of_the_weights_that_moved(packed_clips: Path, tmp_path: Path) -> None:
    step, dataset, take = patient(packed_clips, tmp_path)
    doctor = TrainingDoctor(dataset, seed=0, total_clips=100)
    doctor.begin(step)
    assert doctor.growth(step) == {}
    take(1)
    with torch.no_grad():
        for weight in step.gan.discriminators["discriminator"].parameters():
            weight.mul_(3)
    assert doctor.growth(step)["growth"] == pytest.approx(3, rel=0.05)


def test_the_last_update_is_read_from_the_moments(packed_clips: Path, tmp_path: Path) -> None:
    step, dataset, take = patient(packed_clips, tmp_path)
    take(2)
    before = [p.detach().clone() for _, p in step.gan.generator.parameters_in_use()]
    take(1)
    after = [p.detach() for _, p in step.gan.generator.parameters_in_use()]
    moved = torch.cat([(a - b).flatten() for a, b in zip(after, before, strict=True)]).norm()
    size = torch.cat([a.flatten() for a in after]).norm()
    values = examined(step, dataset).values
    assert values["update_generator"] == pytest.approx(float(moved / size), rel=1e-3)


def test_looking_moves_nothing_and_a_healthy_start_is_silent(
    packed_clips: Path, tmp_path: Path
) -> None:
    step, dataset, take = patient(packed_clips, tmp_path)
    take(4)
    state, random = torch.get_rng_state(), [n.state_dict() for n in step.gan.networks.values()]
    kept = [{k: v.clone() for k, v in network.items()} for network in random]
    look = examined(step, dataset)
    assert torch.equal(torch.get_rng_state(), state)
    for network, before in zip(step.gan.networks.values(), kept, strict=True):
        assert network.training
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
        assert all(p.grad is None for p in network.parameters())
    assert not {f.name for f in look.findings} & {"learning rate", "copies", "duplicated data"}


def test_a_young_run_is_not_called_healthy(
    packed_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, dataset, take = patient(packed_clips, tmp_path)
    take(1)
    quiet = [replace(rule, holds=lambda values: False) for rule in doctor_module.RULES]
    monkeypatch.setattr(doctor_module, "RULES", tuple(quiet))
    doctor = TrainingDoctor(dataset, seed=0, total_clips=100)
    # Rules apply after five looks and half of the run.
    looks = [doctor.look(step, n, {}, clips) for n, clips in enumerate((0, 9, 20, 60, 49, 50))]
    assert [look.verdict for look in looks] == ["early"] * 5 + ["healthy"]
    monkeypatch.setattr(doctor_module, "RULES", (replace(quiet[0], holds=lambda values: True),))
    assert doctor.look(step, 6, {}, 50).verdict == quiet[0].severity


def test_a_run_has_the_same_bits_with_the_doctor_and_without(
    packed_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_module, "EVERY", 5)
    seen = train(tiny_config(tmp_path / "seen", packed_clips))
    alone = train(tiny_config(tmp_path / "alone", packed_clips, "training.doctor=off"))
    assert hash_of_ema(seen) == hash_of_ema(alone)
    looks = [line["doctor"]["verdict"] for line in read_log(seen / LOG_FILE) if "doctor" in line]
    assert len(looks) == 4
    assert not any("doctor" in line for line in read_log(alone / LOG_FILE))


def test_a_run_that_will_not_come_back_is_ended_if_asked_for(
    packed_clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor_module, "EVERY", 1)
    words = ("training.doctor=stop", "training.log_every=1", "training.discriminator.lr=0.1")
    with pytest.raises(UnhealthyTrainingError, match="learning rate"):
        train(tiny_config(tmp_path / "run", packed_clips, *words))
    assert "lower training.generator.lr" in capsys.readouterr().err
    assert list((tmp_path / "run" / "doctor").glob("step-*.mp4"))
    assert "training doctor: learning rate" in (tmp_path / "run" / "index.html").read_text()


def test_every_rule_has_a_name_of_its_own() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    rates = {"learning rate", "learning rate of the first steps"}
    assert {*FAULTS, *rates, "copies", "penalty", "duplicated data"} == set(names)
