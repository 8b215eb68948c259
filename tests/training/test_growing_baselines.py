"""TGAN and MoCoGAN grow in training; categories without labels; noise that is keyed."""

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from test_baseline_steps import ADAM, PLAYS, SHAPE, Play, batches, make_step
from torch import Tensor
from training_cases import float64_by_default, hash_of_ema

from vidgan.core.settings import apply_overrides
from vidgan.data.build.packing import build_clips
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.errors import UserError
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.models.base import ClipShape
from vidgan.models.mocogan import MoCoGANConfig
from vidgan.models.parts.growth import GrowingGAN
from vidgan.models.parts.layers import RowNoise
from vidgan.models.tgan import TGANConfig
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.sampling.storage import checkpoint_folder, load_generator
from vidgan.training.ema import copy_generator
from vidgan.training.loop import train
from vidgan.training.presets import Config, config_from_dict
from vidgan.training.schedule import make_schedule, stage_at
from vidgan.training.settings import OptimizerConfig, TrainingConfig
from vidgan.training.step import Batch, TrainingStep, UpdateKey

KEY = UpdateKey(0, 0, 0, 0)
GROWING = {
    "tgan": "{name: tgan, latent: 4, frame_code: 3, temporal_width: 8, image_width: 8, width: 4, "
    "growing: true}",
    "mocogan": "{name: mocogan, content: 4, motion: 3, width: 4, image_discriminator: full, "
    "growing: true}",
}


@pytest.fixture(scope="module")
def clips_16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 clips of 4 frames at 16 px in two classes, with the levels of both models."""
    folder = tmp_path_factory.mktemp("clips")
    render_motions(
        folder / "videos",
        motion_settings(objects=["disc"], motions="left,right", size=16, frames=4),
        videos=16,
    )
    config = DataConfig(resolution=16, frames=4, workers=0)
    build_clips(folder / "videos", folder / "packed", config, [(2, 8), (4, 8)])
    return folder / "packed"


def growing_config(model: str, run: Path, data: Path, *words: str) -> Config:
    """Sixteen steps: 8 px, four steps of a fade, 16 px."""
    loss = {"tgan": "wgan-svc", "mocogan": "bce"}[model]
    given = [
        f"run={run}", f"data.path={data}", "data.resolution=16", "data.frames=4",
        f"model={GROWING[model]}", f"loss.name={loss}",
        "training.total_clips=64", "training.stable_clips=16", "training.fade_clips=16",
        "training.batch_size=4", "training.checkpoint_every=4", "training.sample_every=0",
        "training.num_samples=2", "training.device=cpu", "training.threads=1", *words,
    ]  # fmt: skip
    return config_from_dict(apply_overrides({}, given), "tiny")


@pytest.mark.parametrize("model", GROWING)
def test_growing_run_goes_on_bit_for_bit(model: str, tmp_path: Path, clips_16: Path) -> None:
    kept = ("training.checkpoint_every=2", "training.keep_checkpoints=9")
    train(growing_config(model, tmp_path / "whole", clips_16, *kept))
    train(growing_config(model, tmp_path / "parts", clips_16, *kept, "training.total_clips=32"))
    # Go on from step 6, inside the fade.
    shutil.rmtree(checkpoint_folder(tmp_path / "parts", 8))
    assert load_generator(tmp_path / "parts", checkpoint=6).stage.alpha == 0.25  # type: ignore[attr-defined]
    train(growing_config(model, tmp_path / "parts", clips_16, *kept))
    assert hash_of_ema(tmp_path / "whole") == hash_of_ema(tmp_path / "parts")
    generator = load_generator(tmp_path / "whole", checkpoint="last")
    labels = torch.tensor([0, 1])
    clips = sample_clips(generator, sample_latents(generator, [0, 1]), labels)
    assert clips.shape == (2, 3, 4, 16, 16)


# ------------------------------------------------------------------------------------------------
# Categories without labels


OWN = Play(
    MoCoGANConfig(content=4, motion=3, width=4, categories=3),
    LossConfig(name="bce"),
    (0.0, 0.0),
    settings={"fakes": "fresh"},
)


def test_generator_draws_each_category_alike_and_shows_it() -> None:
    generator: Any = make_step(OWN).gan.generator.eval()
    assert list(generator.latent_parts) == ["content", "category", "start", "motion"]
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(3000, generator.latent_dim(), generator=rng, dtype=torch.float64)
    share = torch.bincount(generator.category(latents), minlength=3) / 3000
    torch.testing.assert_close(share, torch.full((3,), 1 / 3), atol=0.03, rtol=0)
    parts = generator.parts(latents[:5])
    assert torch.equal(parts["category"], generator.category(latents[:5]))
    codes = generator.codes(latents[:5])
    one_hot = torch.nn.functional.one_hot(parts["category"], 3).double()
    assert torch.equal(codes[:, :, 4:7], one_hot[:, None].expand(-1, codes.shape[1], -1))


def test_classifier_learns_the_categories_of_fakes_where_there_are_no_labels() -> None:
    step = make_step(OWN)
    batch = step.split(batches(OWN)(), KEY)[0]
    assert batch.labels is None
    parts = step.generate(batch, KEY)
    assert parts["category"].dtype == torch.int64
    clip, category = parts["clip"].detach(), parts["category"]
    _, logs = step.discriminator_loss(batch, parts, KEY, update=0)
    found = step.gan.discriminators["video"](clip).class_logits
    assert found is not None
    expected = torch.nn.functional.cross_entropy(found, category)
    torch.testing.assert_close(logs["video/classes"], expected)


def test_labels_take_the_place_of_own_categories() -> None:
    gan = OWN.model.build(SHAPE, num_classes=2)
    assert (gan.generator.num_classes, gan.generator.categories) == (2, 0)  # type: ignore[attr-defined]
    assert gan.discriminators["video"].num_classes == 2  # type: ignore[attr-defined]


def test_categories_become_recognisable() -> None:
    fast = OptimizerConfig(lr=2e-3, betas=(0.5, 0.999))
    step, draw = make_step(OWN, generator=fast, discriminator=fast), batches(OWN)
    losses = [float(step.run(index, 0, draw)["video/classes"]) for index in range(60)]
    assert sum(losses[:5]) / 5 == pytest.approx(math.log(3), abs=0.25)
    assert sum(losses[-5:]) / 5 < 0.7 * math.log(3)


# ------------------------------------------------------------------------------------------------
# Noise in discriminators


NOISY = {
    "tgan": Play(
        TGANConfig(latent=4, frame_code=3, temporal_width=8, image_width=8, width=4, noise=0.3),
        LossConfig(name="bce"),
        (0.0, 0.0),
    ),
    "mocogan": Play(
        MoCoGANConfig(content=4, motion=3, width=4, noise=0.1), LossConfig(name="bce"), (0.0, 0.0)
    ),
}


@pytest.mark.parametrize("name", NOISY)
def test_noise_is_a_function_of_the_view_and_of_nothing_else(name: str) -> None:
    step = make_step(NOISY[name])
    clips = batches(NOISY[name])().real
    for discriminator in step.gan.discriminators.values():
        view = discriminator.draw_view(len(clips), torch.Generator().manual_seed(0))
        other = discriminator.draw_view(len(clips), torch.Generator().manual_seed(1))
        assert view is not None
        first = discriminator(clips, view=view).realness
        torch.manual_seed(99)
        assert torch.equal(discriminator(clips, view=view).realness, first)
        assert not torch.equal(discriminator(clips, view=other).realness, first)


def test_noise_has_the_deviation_and_is_drawn_for_every_row() -> None:
    view = torch.rand(64, generator=torch.Generator().manual_seed(0))
    noise = RowNoise(0.3, view)
    x = torch.zeros(64, 3, 10, 10)
    first, second = noise(x), noise(x)
    assert float(first.std()) == pytest.approx(0.3, rel=0.02)
    assert not torch.equal(first, second)
    # A row is the same in whatever batch it comes.
    torch.testing.assert_close(RowNoise(0.3, view[5:7])(x[5:7]), first[5:7])
    assert RowNoise(0.3, None)(x) is x
    assert RowNoise(0.0, view)(x) is x
    with pytest.raises(UserError, match=r"model\.noise=-1"):
        TGANConfig(noise=-1.0).levels(SHAPE)


@pytest.mark.parametrize("name", NOISY)
def test_noisy_runs_train(name: str) -> None:
    step: TrainingStep = make_step(NOISY[name])
    draw = batches(NOISY[name])
    for index in range(3):
        logs = step.run(index, 0, draw)
        assert all(bool(value.isfinite()) for value in logs.values())


# ------------------------------------------------------------------------------------------------
# Golden losses of twenty steps


@float64_by_default()
def twenty_growing_steps(play: Play) -> dict[str, Tensor]:
    """Six steps at 8 px, eight of a fade, six at 16 px."""
    shape = ClipShape(3, 4, 16, 16)
    torch.manual_seed(0)
    gan = dataclasses.replace(play.model, growing=True).build(shape, play.classes)  # type: ignore[call-arg]
    gan.to(dtype=torch.float64).train()
    assert isinstance(gan, GrowingGAN)
    settings = TrainingConfig(**{"generator": ADAM, "discriminator": ADAM, **play.settings})
    loss = make_loss(play.loss)
    step = TrainingStep(gan, copy_generator(gan.generator), loss, settings, 0, num_levels=2)
    schedule = make_schedule(gan.levels, total=80, stable=24, fade=32, batch_sizes=4)
    rng = torch.Generator().manual_seed(5)
    logs: dict[str, Tensor] = {}
    for index in range(20):
        stage = stage_at(4 * index, schedule)
        step.enter(stage)
        size = (4, 3, stage.frames, stage.resolution, stage.resolution)
        real = torch.rand(size, generator=rng, dtype=torch.float64).sqrt() * 2 - 1
        labels = torch.tensor([0, 1, 1, 0]) if play.classes else None
        logs = step.run(index, 0, lambda real=real, labels=labels: Batch(real, labels, 4, 0))  # type: ignore[misc]
    return logs


@float64_by_default()
def twenty_steps(play: Play) -> dict[str, Tensor]:
    step, draw = make_step(play), batches(play)
    logs: dict[str, Tensor] = {}
    for index in range(20):
        logs = step.run(index, 0, draw)
    return logs


FULL = dataclasses.replace(
    PLAYS["mocogan"],
    model=MoCoGANConfig(content=4, motion=3, width=4, image_discriminator="full"),
)
GOLDEN = {
    "tgan-growing": (twenty_growing_steps, PLAYS["tgan"], (-0.06065592480195, -0.03538254172891)),
    "mocogan-growing": (twenty_growing_steps, FULL, (3.291560872, 2.543033166)),
    "tgan-noise": (twenty_steps, NOISY["tgan"], (1.385900441, 0.6905081781)),
    "mocogan-noise": (twenty_steps, NOISY["mocogan"], (2.776818437841, 1.402989034705)),
    "mocogan-own-categories": (twenty_steps, OWN, (3.917216383, 2.416489683)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_losses_of_twenty_steps_are_golden(name: str) -> None:
    run, play, golden = GOLDEN[name]
    logs = run(play)
    found = (float(logs["loss/discriminator"]), float(logs["loss/generator"]))
    assert found == pytest.approx(golden, rel=1e-6), found
