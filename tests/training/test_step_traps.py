"""Mistakes of published training loops that would show in a step; see docs/known-bugs.md."""

from typing import Any

import pytest
import torch
from test_baseline_steps import PLAYS, Play, batches, make_step
from torch import Tensor

from vidgan.losses.recipes import LossConfig
from vidgan.models.tgan import TGANConfig
from vidgan.training.settings import OptimizerConfig
from vidgan.training.step import TrainingStep, UpdateKey

KEY = UpdateKey(0, 0, 0, 0)
STILL = OptimizerConfig(lr=1e-30, betas=(0.5, 0.999))
"""A rate that moves no weight."""


def weights(step: TrainingStep) -> dict[str, dict[str, Tensor]]:
    return {
        name: {key: p.detach().clone() for key, p in network.named_parameters()}
        for name, network in step.gan.networks.items()
    }


def moved(step: TrainingStep, before: dict[str, dict[str, Tensor]]) -> set[str]:
    after = weights(step)
    return {
        name
        for name in after
        if any(not torch.equal(after[name][key], before[name][key]) for key in after[name])
    }


@pytest.mark.parametrize("name", PLAYS)
def test_every_network_moves_in_every_step(name: str) -> None:
    play = PLAYS[name]
    step, draw = make_step(play), batches(play)
    for index in range(3):
        before = weights(step)
        step.run(index, 0, draw)
        assert moved(step, before) == set(step.gan.networks)


@pytest.mark.parametrize("name", PLAYS)
def test_rates_stay_what_the_settings_say(name: str) -> None:
    play = PLAYS[name]
    step, draw = make_step(play), batches(play)
    asked = {player: optimizer.param_groups[0]["lr"] for player, optimizer in optimizers(step)}
    for index in range(25):
        step.run(index, 0, draw)
    for player, optimizer in optimizers(step):
        assert [group["lr"] for group in optimizer.param_groups] == [asked[player]]


def optimizers(step: TrainingStep) -> Any:
    return step.optimizers.items()


@pytest.mark.parametrize("name", PLAYS)
def test_discriminators_update_makes_no_graph_through_the_generator(name: str) -> None:
    play = PLAYS[name]
    step = make_step(play)
    batch = step.split(batches(play)(), KEY)[0]
    parts = step.generate(batch, KEY)
    assert parts["clip"].requires_grad
    before = weights(step)
    step.update_discriminators([batch], [parts], KEY)
    assert moved(step, before) == set(step.gan.discriminators)
    assert all(p.grad is None for p in step.gan.generator.parameters())
    # No graph of the reals either: nothing asks for a gradient of data.
    assert not batch.real.requires_grad


@pytest.mark.parametrize("name", ["vgan", "mocogan"])
def test_generator_faces_the_discriminators_after_their_update(name: str) -> None:
    play = PLAYS[name]
    step = make_step(play, generator=STILL, fakes="shared")
    batch = batches(play)()
    logs = step.run(0, 0, lambda: batch)
    prepared = step.split(batch, KEY)[0]
    parts = step.generate(prepared, KEY)
    after, _ = step.generator_loss(prepared, parts, KEY)
    torch.testing.assert_close(logs["loss/generator"], after, rtol=1e-12, atol=0)
    stale, _ = make_step(play).generator_loss(prepared, parts, KEY)
    assert float((after - stale).detach().abs()) > 1e-6


def test_noisy_discriminator_learns_to_score_reals_higher() -> None:
    noisy = TGANConfig(latent=4, frame_code=3, temporal_width=8, image_width=8, width=4, noise=0.3)
    play = Play(noisy, LossConfig(name="bce"), (0.0, 0.0))
    fast = OptimizerConfig(lr=5e-3, betas=(0.5, 0.999))
    step, draw = make_step(play, generator=STILL, discriminator=fast), batches(play)
    for index in range(40):
        logs = step.run(index, 0, draw)
    assert float(logs["discriminator/real"]) > float(logs["discriminator/fake"]) + 0.5


def test_pixel_error_is_part_of_one_generator_loss() -> None:
    play = PLAYS["ivgan-inpaint"]
    step = make_step(play, generator=STILL)
    logs = step.run(0, 0, batches(play))
    parts = {name: float(value) for name, value in logs.items()}
    batch = step.split(batches(play)(), KEY)[0]
    made = step.generate(batch, KEY)
    discriminator = step.gan.discriminators["discriminator"]
    adversarial = -float(discriminator(made["clip"], None, batch.context).realness.mean())
    expected = adversarial + 1000 * parts["generator/pixels"]
    assert parts["loss/generator"] == pytest.approx(expected, rel=1e-9)
    assert len(step.optimizers) == 2
