"""Twenty steps of DVD-GAN, DVD-GAN-FP and HRVGAN: golden losses, averages, statistics."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_cases import float64_by_default

from vidgan.core.randomness import keyed_rng
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.models.base import ClipShape, ModelConfig, Stage
from vidgan.models.dvdgan import DVDGANConfig
from vidgan.models.dvdgan_fp import DVDGANFPConfig
from vidgan.models.hrvgan import HRVGANConfig
from vidgan.training.ema import copy_generator, estimate_statistics
from vidgan.training.settings import TrainingConfig
from vidgan.training.step import Batch, TrainingStep

GOLDEN_FILE = Path(__file__).with_name("golden_dvdgan.json")
SHAPE = ClipShape(3, 6, 8, 8)
STAGE = Stage(level=0, frames=6, resolution=8, batch_size=3)
SMALL: dict[str, Any] = {"channels": 2, "latent": 4, "spatial_frames": 2}
MODELS: dict[str, tuple[ModelConfig, LossConfig]] = {
    "dvdgan": (DVDGANConfig(label_dim=3, **SMALL), LossConfig(name="hinge")),
    "dvdgan_fp": (DVDGANFPConfig(context_frames=2, **SMALL), LossConfig(name="hinge")),
    "hrvgan": (HRVGANConfig(channels=(4, 3), latent=4), LossConfig(name="wgan-gp")),
    "hrvgan-predict": (
        HRVGANConfig(channels=(4, 3), latent=4, context_frames=2, code_dim=5),
        LossConfig(name="wgan-gp", auxiliary={"pixels": {}}),
    ),
}


def make_step(name: str, **settings: Any) -> TrainingStep:
    model, loss = MODELS[name]
    torch.manual_seed(0)
    gan = model.build(SHAPE, num_classes=2).to(dtype=torch.float64).train()
    training = TrainingConfig(**settings)
    step = TrainingStep(gan, copy_generator(gan.generator), make_loss(loss), training, seed=1)
    step.enter(STAGE)
    return step


def run_steps(step: TrainingStep, count: int) -> dict[str, float]:
    """Losses of the last of so many steps on random clips."""
    taken = 0

    def next_batch() -> Batch:
        nonlocal taken
        taken += 1
        rng = keyed_rng("test clips", taken)
        clip = torch.randint(0, 256, (3, *SHAPE), generator=rng, dtype=torch.uint8)
        return Batch(clip, torch.arange(3) % 2, 3, 0)

    for number in range(count):
        logs = step.run(number, 0, next_batch)
    return {name: value.item() for name, value in logs.items()}


@float64_by_default()
def last_losses(name: str) -> dict[str, float]:
    return run_steps(make_step(name, discriminator_steps=2, fakes="fresh"), 20)


@pytest.mark.parametrize("name", MODELS)
def test_losses_after_twenty_steps_are_what_they_were(name: str) -> None:
    golden = json.loads(GOLDEN_FILE.read_text(encoding="utf-8"))[name]
    assert last_losses(name) == pytest.approx(golden, rel=1e-6)


# ------------------------------------------------------------------------------------------------
# Averages and statistics


def tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_average_begins_where_it_is_told() -> None:
    step = make_step("dvdgan", ema_beta=0.9, ema_start=2)
    for count in (1, 2):
        run_steps(step, count)
        for name, parameter in step.gan.generator.named_parameters():
            assert torch.equal(parameter, step.averaged.get_parameter(name)), name
    before = tensors(step.averaged)
    run_steps(step, 3)
    for name, parameter in step.gan.generator.named_parameters():
        assert not torch.equal(parameter, step.averaged.get_parameter(name)), name
    assert not torch.equal(before["to_rgb.weight"], step.averaged.get_parameter("to_rgb.weight"))


def test_discriminators_updates_move_no_statistics_of_the_generator() -> None:
    step = make_step("dvdgan", discriminator_steps=3, fakes="fresh")
    seen: list[int] = []
    settle = step.settle

    def counted(network: Any) -> None:
        seen.append(max((layer.passes for layer in network.running_layers()), default=0))
        settle(network)

    step.settle = counted  # type: ignore[method-assign]
    run_steps(step, 1)
    # Three updates of two discriminators, which have none, then the generator's own single pass.
    assert seen == [0, 0, 0, 0, 0, 0, 1]


def test_standing_statistics_are_the_mean_over_batches() -> None:
    step = make_step("hrvgan")
    generator = step.averaged
    latents = torch.randn(2, 5, 4, generator=keyed_rng("latents"), dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0, 1])
    norm: Any = generator.first_norm
    means = []
    for batch in latents:
        estimate_statistics(generator, [(batch, labels, None)])
        means.append(norm.running_mean.clone())
    estimate_statistics(generator, [(batch, labels, None) for batch in latents])
    torch.testing.assert_close(norm.running_mean, (means[0] + means[1]) / 2)
    assert not generator.training
    # What was noted is forgotten: a pass in eval mode depends on the statistics alone.
    assert norm.observed == []


def test_averaged_generator_is_measured_before_it_is_saved() -> None:
    step = make_step("dvdgan_fp", standing_batches=2)
    step.measure_averaged(0)  # no batch yet: nothing to do
    run_steps(step, 1)
    copied = tensors(step.averaged)
    step.measure_averaged(1)
    first = tensors(step.averaged)
    step.measure_averaged(1)
    assert all(torch.equal(value, first[name]) for name, value in tensors(step.averaged).items())
    moved = {name for name, value in first.items() if not torch.equal(value, copied[name])}
    assert moved
    assert all(name.endswith(("running_mean", "running_var")) for name in moved)
    # The run itself goes on as if nobody had looked.
    twin = make_step("dvdgan_fp", standing_batches=2)
    run_steps(twin, 1)
    for each in (step, twin):
        run_steps(each, 1)
    for name, value in tensors(twin.averaged).items():
        assert torch.equal(value, step.averaged.state_dict()[name]), name


if __name__ == "__main__":
    recorded = {name: last_losses(name) for name in MODELS}
    GOLDEN_FILE.write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")
