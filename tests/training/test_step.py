"""One training step: golden losses, micro-batches, the sliced head's constraint, the guard."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_cases import float64_by_default

from vidgan.core.randomness import keyed_rng
from vidgan.losses.recipes import RECIPES, LossConfig, make_loss
from vidgan.models.base import ClipShape, Stage
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.training.ema import copy_generator, decay_at
from vidgan.training.settings import OptimizerConfig, TrainingConfig
from vidgan.training.step import Batch, Logs, TrainingStep, UpdateKey

GOLDEN_FILE = Path(__file__).with_name("golden_losses.json")
SHAPE = ClipShape(3, 4, 8, 8)
STABLE = Stage(level=1, frames=4, resolution=8, batch_size=4)
FADE = Stage(level=1, frames=4, resolution=8, batch_size=4, alpha=0.5)


def make_step(loss: str, is_dual: bool = False, **settings: Any) -> TrainingStep:
    """Tiny float64 networks with labels of two classes, under a sliced head by vectors or duals."""
    config = LossConfig(name=loss)
    model = ProgressiveConfig(
        channels=(8, 8),
        latent=8,
        label_dim=4,
        group_size=2,
        head_classes="dual" if is_dual else "vector",
        **config.requires,
    )
    torch.manual_seed(0)
    gan = model.build(SHAPE, num_classes=2).to(dtype=torch.float64).train()
    averaged = copy_generator(gan.generator)
    return TrainingStep(gan, averaged, make_loss(config), TrainingConfig(**settings), 1, 2)


def real_batches(resolution: int = 8) -> Callable[[], Batch]:
    """Batches of noise, keyed by their number."""
    count = 0

    def next_batch() -> Batch:
        nonlocal count
        count += 1
        rng = keyed_rng("test clips", count)
        shape = (4, *SHAPE[:2], resolution, resolution)
        clip = torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8)
        return Batch(clip, torch.arange(4) % 2, 4, 0)

    return next_batch


def run_steps(step: TrainingStep, count: int, stage: Stage) -> list[Logs]:
    next_batch = real_batches()
    step.enter(stage)
    return [step.run(number, 0, next_batch) for number in range(count)]


def weights(step: TrainingStep) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value
        for name, network in step.gan.networks.items()
        for key, value in network.state_dict().items()
    }


# ------------------------------------------------------------------------------------------------
# Golden losses: recorded from this code, beside the hand-worked values of tests/losses. To record
# them again after a change that is meant to move them, run this file.


DUAL = " with dual classes"
GOLDEN = [*RECIPES, f"swgan{DUAL}", f"swgan-reference{DUAL}"]


@float64_by_default()
def last_losses(case: str) -> dict[str, float]:
    step = make_step(case.removesuffix(DUAL), case.endswith(DUAL))
    return {name: value.item() for name, value in run_steps(step, 20, FADE)[-1].items()}


@pytest.mark.parametrize("case", GOLDEN)
def test_losses_after_twenty_steps_are_what_they_were(case: str) -> None:
    golden = json.loads(GOLDEN_FILE.read_text(encoding="utf-8"))[case]
    assert last_losses(case) == pytest.approx(golden, rel=1e-6)


# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["wgan-gp", "swgan", "r3gan"])
def test_two_micro_batches_equal_one_batch(loss: str) -> None:
    whole, halves = make_step(loss, fakes="fresh"), make_step(loss, fakes="fresh", accumulate=2)
    for step in (whole, halves):
        run_steps(step, 5, FADE)
    second = weights(halves)
    for name, value in weights(whole).items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=1e-10, msg=name)


def test_a_relativistic_generator_is_compared_with_the_real_clip_of_its_row() -> None:
    step = make_step("r3gan")
    step.enter(FADE)
    key = UpdateKey(seed=1)
    batch = step.split(real_batches()(), key)[0]
    parts = step.generate(batch, key)
    loss, _ = step.generator_loss(batch, parts, key)
    discriminator = step.gan.discriminators["discriminator"]
    with torch.no_grad():
        real, fake = (
            discriminator(clip, batch.labels).realness for clip in (batch.real, parts["clip"])
        )
    pairs = [math.log1p(math.exp(float(r - f))) for r, f in zip(real, fake, strict=True)]
    assert loss.item() == pytest.approx(sum(pairs) / 4, rel=1e-12)


def test_shared_fakes_give_the_generator_the_discriminators_fakes() -> None:
    shared, fresh = (make_step("ns-r1", fakes=fakes) for fakes in ("shared", "fresh"))
    first, second = (run_steps(step, 1, STABLE)[0] for step in (shared, fresh))
    assert torch.equal(first["loss/discriminator"], second["loss/discriminator"])
    assert not torch.equal(first["loss/generator"], second["loss/generator"])


@pytest.mark.parametrize("order", ["discriminator_first", "generator_first"])
def test_several_discriminator_updates_take_several_batches(order: Any) -> None:
    step = make_step("wgan-gp", discriminator_steps=3, order=order)
    taken = 0
    source = real_batches()

    def counted() -> Batch:
        nonlocal taken
        taken += 1
        return source()

    step.enter(STABLE)
    step.run(0, 0, counted)
    assert taken == 3


def test_projections_stay_orthonormal_and_keep_their_signs() -> None:
    step = make_step("swgan", discriminator=OptimizerConfig(lr=3e-3))
    head: Any = step.gan.discriminators["discriminator"].head
    first = Stage(level=0, frames=4, resolution=4, batch_size=4)
    next_batch = real_batches(resolution=4)
    step.enter(first)
    moved, largest = 0.0, 0.0
    start = head.projections.detach().clone()
    for number in range(300):
        before = head.projections.detach().clone()
        step.run(number, 0, next_batch)
        after = head.projections.detach()
        gram = after.transpose(1, 2) @ after
        largest = max(largest, float((gram - torch.eye(8)).abs().max()))
        # A flipped column would point away from where it pointed one step before.
        assert (before * after).sum(dim=1).min() > 0.9
        moved = float((after - start).abs().max())
    assert largest < 1e-5
    assert moved > 0.05


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_reals_and_fakes_share_no_group_of_clips(count: int) -> None:
    model = ProgressiveConfig(channels=(8, 8), latent=8, conditioning="none", group_size=4)
    torch.manual_seed(0)
    gan = model.build(SHAPE).to(dtype=torch.float64).train()
    averaged = copy_generator(gan.generator)
    step = TrainingStep(gan, averaged, make_loss(LossConfig(name="hinge")), TrainingConfig(), 1, 2)
    step.enter(STABLE)
    discriminator = gan.discriminators["discriminator"]
    rng = keyed_rng("test clips", count)
    real, fake = torch.randn(2, count, *SHAPE, generator=rng, dtype=torch.float64)
    batch = Batch(real, None, len(real), 0)
    scores = step.score_both(discriminator, batch, fake, None)
    for found, clips in zip(scores, (real, fake), strict=True):
        torch.testing.assert_close(found.realness, discriminator(clips).realness)


def test_another_attempt_draws_other_noise() -> None:
    losses = []
    for attempt in (0, 1, 0):
        step = make_step("wgan-gp")
        step.enter(STABLE)
        losses.append(step.run(0, attempt, real_batches())["loss/discriminator"].item())
    assert losses[0] == losses[2] != losses[1]


def test_a_new_level_resets_the_optimizers_and_sets_its_rate() -> None:
    rates = OptimizerConfig(lr=(0.1, 0.2))
    step = make_step("wgan-gp", generator=rates)
    step.enter(Stage(level=0, frames=4, resolution=4, batch_size=4))
    optimizer = step.optimizers["generator"]
    assert optimizer.param_groups[0]["lr"] == 0.1
    optimizer.state[next(step.gan.generator.parameters())]["step"] = torch.tensor(1.0)
    step.enter(Stage(level=1, frames=4, resolution=8, batch_size=4, alpha=0.0))
    assert optimizer.param_groups[0]["lr"] == 0.2
    assert not optimizer.state


@pytest.mark.parametrize(("after_fade", "expected"), [(False, [0, 2]), (True, [0, 2, 4])])
def test_optimizers_are_reset_where_a_fade_begins_and_ends(
    after_fade: bool, expected: list[int]
) -> None:
    step = make_step("wgan-gp", reset_after_fade=after_fade)
    parameter = next(step.gan.generator.parameters())
    resets = []
    places = [(0, 1.0), (0, 1.0), (1, 0.0), (1, 0.5), (1, 1.0), (1, 1.0)]
    for index, (level, alpha) in enumerate(places):
        for optimizer in step.optimizers.values():
            optimizer.state[parameter]["step"] = torch.tensor(1.0)
        step.enter(Stage(level=level, frames=4, resolution=4, batch_size=4, alpha=alpha))
        remembered = [bool(optimizer.state) for optimizer in step.optimizers.values()]
        assert remembered[0] == remembered[1]
        resets += [] if remembered[0] else [index]
    assert resets == expected


def test_a_parameter_without_a_gradient_is_named() -> None:
    step = make_step("wgan-gp")
    step.enter(STABLE)
    generator: Any = step.gan.generator
    # In use says the flag, while the stable stage does not compute it.
    generator.to_rgb[0].requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"no gradient reached generator: to_rgb\.0\.weight"):
        step.run(0, 0, real_batches())


def test_a_young_average_forgets_what_the_generator_left_behind() -> None:
    # With a share of a half: 1 - 1 / (1 + n / 2) is 0, 1/3, 1/2, 3/5, 2/3, until it is above 0.6.
    step = make_step("wgan-gp", ema_beta=0.6, ema_rampup=0.5)
    step.enter(STABLE)
    next_batch, name = real_batches(), "blocks.0.linear.weight"
    expected = None
    for number, decay in enumerate([0, 1 / 3, 1 / 2, 0.6, 0.6]):
        step.run(number, 0, next_batch)
        new = step.gan.generator.get_parameter(name).detach().clone()
        expected = new if expected is None else expected + (1 - decay) * (new - expected)
        torch.testing.assert_close(step.averaged.get_parameter(name).data, expected)


def test_the_share_is_of_all_updates_and_has_an_end() -> None:
    settings = TrainingConfig(ema_beta=0.999, ema_start=100, ema_rampup=0.05)
    assert decay_at(settings, 99) == 0
    assert decay_at(settings, 100) == pytest.approx(5 / 6)
    assert decay_at(settings, 10**6) == 0.999
    assert decay_at(replace(settings, ema_rampup=0.0), 100) == 0.999


def test_the_average_follows_the_generator() -> None:
    step = make_step("wgan-gp", ema_beta=0.0)
    run_steps(step, 2, STABLE)
    plain = step.gan.generator.state_dict()
    for name, value in step.averaged.state_dict().items():
        torch.testing.assert_close(value, plain[name], rtol=1e-12, atol=1e-12, msg=name)


if __name__ == "__main__":
    recorded = {case: last_losses(case) for case in GOLDEN}
    GOLDEN_FILE.write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")
