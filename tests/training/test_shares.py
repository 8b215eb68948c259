"""Clips of its own for every discriminator: which ones, and that each sees these alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidgan.core.distributed import Processes
from vidgan.core.randomness import BatchRandom, keyed_rng
from vidgan.errors import UserError
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.models.base import GAN, ClipShape, Stage
from vidgan.models.dvdgan import DVDGANConfig
from vidgan.models.mocogan import MoCoGANConfig
from vidgan.training.ema import copy_generator
from vidgan.training.planner import check_batches
from vidgan.training.schedule import make_schedule
from vidgan.training.settings import TrainingConfig
from vidgan.training.shares import Share, SharedRandom, shares_of
from vidgan.training.step import Batch, TrainingStep, UpdateKey

SHAPE = ClipShape(3, 4, 16, 16)
LEVEL = [MoCoGANConfig().levels(SHAPE)[0]]


def settings(**values: Any) -> TrainingConfig:
    return TrainingConfig(**values)


def rows_of(size: int, **clips: int) -> dict[str, list[int]]:
    shares = shares_of(settings(discriminator_batch_size=clips), 0, 1, size)
    return {name: share.rows(torch.arange(size)).tolist() for name, share in shares.items()}


def test_discriminators_take_clips_one_after_the_other_and_round_the_end() -> None:
    # MoCoGAN's defaults: 10 frames and 3 clips, of other clips or of the same.
    apart = rows_of(13, image=10, video=3)
    assert apart == {"image": list(range(10)), "video": [10, 11, 12]}
    assert rows_of(10, image=10, video=3) == {"image": list(range(10)), "video": [0, 1, 2]}
    # Halves alternate, so that any even part of the batch holds both.
    assert rows_of(8, image=4, video=4) == {"image": [0, 2, 4, 6], "video": [1, 3, 5, 7]}
    assert rows_of(6, image=4, video=4) == {"image": [0, 1, 3, 4], "video": [2, 0, 5, 3]}


def test_parts_of_a_batch_take_what_the_whole_takes() -> None:
    share = shares_of(settings(discriminator_batch_size={"a": 4, "b": 8}), 0, 1, 12)["b"]
    values = torch.randn(12, 3, generator=keyed_rng("values"))
    parts = torch.cat([share.rows(values[:6]), share.rows(values[6:])])
    assert torch.equal(parts, share.rows(values))
    assert share.rows(None) is None
    # Random rows are drawn for the whole batch: a row's numbers do not depend on the share.
    device = torch.device("cpu")
    whole = BatchRandom((1, "p"), 12, 0, 12, device).uniform(2)
    shared = SharedRandom(BatchRandom((1, "p"), 12, 0, 12, device), share).uniform(2)
    assert torch.equal(shared, share.rows(whole))
    assert Share().rows(values) is values


def make_step(gan: GAN, loss: LossConfig, size: int, **values: Any) -> TrainingStep:
    gan.to(dtype=torch.float64).train()
    step = TrainingStep(gan, copy_generator(gan.generator), make_loss(loss), settings(**values), 1)
    step.enter(Stage(level=0, frames=4, resolution=16, batch_size=size))
    return step


def seen_clips(network: nn.Module, kept: list[Tensor]) -> None:
    network.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].detach()))


def test_a_whole_step_shows_each_discriminator_its_own_clips() -> None:
    torch.manual_seed(0)
    model = MoCoGANConfig(content=4, motion=3, width=4)
    step = make_step(
        model.build(SHAPE, 2),
        LossConfig(name="bce", auxiliary={"feature_matching": {}}),
        7,
        discriminator_batch_size={"image": 5, "video": 2},
    )
    real = torch.rand(7, *SHAPE, generator=keyed_rng("real"), dtype=torch.float64) * 2 - 1
    batch = Batch(real, torch.tensor([0, 1, 0, 1, 0, 1, 1]), 7, 0)
    seen: dict[str, list[Tensor]] = {"image": [], "video": []}
    for name, kept in seen.items():
        seen_clips(step.gan.discriminators[name], kept)
    step.run(0, 0, lambda: batch)
    assert torch.equal(seen["image"][0], real[:5])
    assert torch.equal(seen["video"][0], real[5:])
    # Reals and fakes of its own step, fakes of the generator's, reals that these have to match.
    assert [len(clips) for clips in seen["image"]] == [5, 5, 5, 5]
    assert [len(clips) for clips in seen["video"]] == [2, 2, 2, 2]


def test_losses_are_those_of_the_clips_alone() -> None:
    """A gradient penalty, classes and views of a share: as if its clips were all there is."""
    torch.manual_seed(0)
    model = DVDGANConfig(latent=4, label_dim=4, channels=2, spatial_frames=2)
    loss = LossConfig(name="hinge", penalties={"r1": {"every": 1}})
    step = make_step(model.build(SHAPE, 2), loss, 4, discriminator_batch_size={"temporal": 2})
    real = torch.rand(4, *SHAPE, generator=keyed_rng("real"), dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0])
    key, batch = UpdateKey(1), Batch(real, labels, 4, 0)
    parts = step.generate(batch, key)
    _, logs = step.discriminator_loss(batch, parts, key, 0)

    rows = [0, 2]  # two of four: every other one
    temporal = step.gan.discriminators["temporal"]
    clips = real[rows].clone().requires_grad_()
    on_real = temporal(clips, labels[rows]).realness
    on_fake = temporal(parts["clip"][rows].detach(), labels[rows]).realness
    hinge = (1 - on_real).relu().mean() + (1 + on_fake).relu().mean()
    torch.testing.assert_close(logs["temporal/adversarial"], hinge)
    (slope,) = torch.autograd.grad(on_real.sum(), clips)
    expected = slope.square().flatten(1).sum(1).mean() / 2
    torch.testing.assert_close(logs["temporal/r1"], expected)
    # The other one, which is not named, sees all four.
    spatial = step.gan.discriminators["spatial"]
    view = step.view("spatial", batch, key, "view")
    everything = spatial(real, labels, None, view).realness.mean()
    torch.testing.assert_close(logs["spatial/real"], everything)


@pytest.mark.parametrize(
    ("size", "clips", "count", "sentence"),
    [
        (8, {"picture": 2}, 1, "names picture, but the discriminators of this model are image, v"),
        (8, {"image": 9}, 1, r"image=9 at level 0 is more than training.batch_size=8"),
        (8, {"video": 1}, 1, r"video=1 at level 0 is too small: it normalises over clips"),
        (8, {"image": 3}, 2, r"image=3 .* does not split into 2 equal parts"),
        (8, {"image": (2, 3)}, 1, "lists 2 values"),
    ],
)
def test_shares_that_do_not_fit_are_refused(
    size: int, clips: dict[str, Any], count: int, sentence: str
) -> None:
    gan = MoCoGANConfig(content=4, motion=3, width=4).build(SHAPE)
    schedule = make_schedule(LEVEL, 100, 0, 0, size)
    wrong = settings(batch_size=size, discriminator_batch_size=clips)
    with pytest.raises(UserError, match=sentence):
        check_batches(schedule, gan, wrong, Processes(0, count))


def test_no_clips_are_no_share() -> None:
    with pytest.raises(UserError, match=r"discriminator_batch_size\.image must be at least 1"):
        settings(discriminator_batch_size={"image": 0})
