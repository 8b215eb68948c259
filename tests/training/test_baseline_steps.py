"""Steps of the models of fixed size: statistics, constraints, auxiliary losses, golden losses."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_cases import float64_by_default, hash_of_ema

from vidgan.core.settings import apply_overrides
from vidgan.errors import UserError
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.models.base import ClipShape, ModelConfig, Stage
from vidgan.models.ivgan import IVGANConfig
from vidgan.models.mocogan import MoCoGANConfig
from vidgan.models.parts.norms import BatchNorm
from vidgan.models.pocketgan import PocketConfig
from vidgan.models.tgan import TGANConfig
from vidgan.models.vgan import VGANConfig
from vidgan.training.ema import copy_generator
from vidgan.training.loop import train
from vidgan.training.planner import check_batches
from vidgan.training.presets import Config, config_from_dict
from vidgan.training.schedule import make_schedule
from vidgan.training.settings import OptimizerConfig, TrainingConfig
from vidgan.training.step import Batch, TrainingStep, UpdateKey

KEY = UpdateKey(0, 0, 0, 0)
SHAPE = ClipShape(3, 4, 8, 8)
COUNT = 4
ADAM = OptimizerConfig(lr=2e-4, betas=(0.5, 0.999))


@dataclass
class Play:
    """A model with the loss and the settings that its paper trains it with, and golden losses."""

    model: ModelConfig
    loss: LossConfig
    golden: tuple[float, float]
    classes: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


RMSPROP = OptimizerConfig(kind="rmsprop", lr=5e-5, betas=(0.0, 0.99))
POCKET = {
    "content": 4,
    "motion": 3,
    "channels": (6, 4),
    "discriminator_channels": (5,),
    "stem_channels": 3,
    "style_dim": 5,
    "label_dim": 3,
}

PLAYS = {
    "vgan": Play(
        VGANConfig(latent=4, width=4),
        LossConfig(name="bce", auxiliary={"mask": {}}),
        (1.361781432, 0.7461980186),
    ),
    "vgan-first-frame": Play(
        VGANConfig(condition="first_frame", width=4),
        LossConfig(name="bce", auxiliary={"first_frames": {}}),
        (1.352543403, 5.381777817),
    ),
    "ivgan": Play(
        IVGANConfig(latent=4, width=4),
        LossConfig(name="wgan-gp", penalties={"drift": {"weight": 0.0}}),
        (7.579912763, -0.0430450690),
        settings={"discriminator_steps": 2},
    ),
    "ivgan-inpaint": Play(
        IVGANConfig(task="inpaint", width=4),
        LossConfig(name="wgan-gp", penalties={"drift": {"weight": 0.0}}, auxiliary={"pixels": {}}),
        (9.553134572, 362.5742146),
    ),
    "tgan": Play(
        TGANConfig(latent=4, frame_code=3, temporal_width=8, image_width=8, width=4),
        LossConfig(name="wgan-svc"),
        (-0.01473929513, -0.004465647589),
        settings={
            "order": "generator_first",
            "generator": RMSPROP,
            "discriminator": RMSPROP,
        },
    ),
    "mocogan": Play(
        MoCoGANConfig(content=4, motion=3, width=4),
        LossConfig(name="bce", class_clips="real"),
        (3.411386067, 2.143935514),
        classes=2,
        settings={"fakes": "fresh"},
    ),
    "pocketgan": Play(
        PocketConfig(**POCKET),  # type: ignore[arg-type]
        LossConfig(name="r3gan-noise"),
        (0.6903172615, 0.6991591441),
        classes=2,
    ),
    "pocketgan-sums": Play(
        PocketConfig(output_skips=True, **POCKET),  # type: ignore[arg-type]
        LossConfig(name="r3gan-noise"),
        (0.475510081, 0.9765366763),
        classes=2,
    ),
}


def make_step(play: Play, seed: int = 0, side: int = 8, **changes: Any) -> TrainingStep:
    """A step at 8 px, where no discriminator has a norm yet, or at another side."""
    torch.manual_seed(seed)
    gan = play.model.build(SHAPE._replace(height=side, width=side), play.classes)
    gan.to(dtype=torch.float64).train()
    settings = {"generator": ADAM, "discriminator": ADAM, **play.settings, **changes}
    averaged = copy_generator(gan.generator)
    step = TrainingStep(gan, averaged, make_loss(play.loss), TrainingConfig(**settings), seed)
    step.enter(Stage(level=0, frames=4, resolution=side, batch_size=COUNT))
    return step


def batches(play: Play, side: int = 8) -> Any:
    rng = torch.Generator().manual_seed(5)

    def draw() -> Batch:
        # Smooth ramps that move; noise would leave nothing to learn.
        phase = torch.rand(COUNT, 1, 1, 1, 1, generator=rng, dtype=torch.float64) * 6
        t = torch.arange(4, dtype=torch.float64)[:, None, None]
        x = torch.arange(side, dtype=torch.float64)
        clip = torch.sin(phase + t + x / 2).expand(COUNT, 3, 4, side, side) * 0.8
        labels = torch.randint(2, (COUNT,), generator=rng) if play.classes else None
        return Batch(clip, labels, COUNT, 0)

    return draw


@pytest.mark.parametrize("name", PLAYS)
@float64_by_default()
def test_losses_of_twenty_steps_are_golden(name: str) -> None:
    play = PLAYS[name]
    step, draw = make_step(play), batches(play)
    logs: dict[str, Tensor] = {}
    for index in range(20):
        logs = step.run(index, 0, draw)
    found = (float(logs["loss/discriminator"]), float(logs["loss/generator"]))
    assert found == pytest.approx(play.golden, rel=1e-6), found


def moving_networks(step: TrainingStep) -> list[torch.nn.Module]:
    """Those with running statistics at 16 px; the patch image discriminator has none yet."""
    return [network for name, network in step.gan.networks.items() if name != "image"]


def norms_of(network: torch.nn.Module) -> list[BatchNorm]:
    return [module for module in network.modules() if isinstance(module, BatchNorm)]


@pytest.mark.parametrize("name", ["vgan", "tgan", "mocogan"])
@pytest.mark.parametrize("fakes", ["shared", "fresh"])
def test_running_statistics_move_once_a_step(
    name: str, fakes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = PLAYS[name]
    step, draw = make_step(play, side=16, fakes=fakes), batches(play, 16)
    moved: dict[int, list[int]] = {}
    settle = BatchNorm.settle

    def counted(norm: BatchNorm) -> None:
        moved.setdefault(id(norm), []).append(norm.passes)
        settle(norm)

    monkeypatch.setattr(BatchNorm, "settle", counted)
    step.run(0, 0, draw)
    # The generator's own pass; the discriminators' passes over reals and over fakes.
    for norm in norms_of(step.gan.generator):
        assert moved[id(norm)] == [1]
    for network in step.gan.discriminators.values():
        for norm in norms_of(network):
            assert moved[id(norm)] == [2]
    assert all(norms_of(network) for network in moving_networks(step))


@pytest.mark.parametrize("name", ["vgan", "tgan", "mocogan"])
def test_initial_running_statistics_are_forgotten_pass_by_pass(name: str) -> None:
    """Training reads no running statistics, so two starts differ by what is left of them alone."""
    steps = [make_step(PLAYS[name], side=16) for _ in range(2)]
    assert all(norms_of(network) for network in moving_networks(steps[0]))
    for network in steps[1].gan.networks.values():
        for norm in norms_of(network):
            norm.running_mean += 1
    for step in steps:
        draw = batches(PLAYS[name], 16)
        for index in range(3):
            step.run(index, 0, draw)
    first, second = (step.gan.networks for step in steps)
    for player, network in first.items():
        passes = 1 if player == "generator" else 2  # its own; over reals and over fakes
        left = torch.tensor(0.9 ** (3 * passes), dtype=torch.float64)
        for one, other in zip(norms_of(network), norms_of(second[player]), strict=True):
            moved = other.running_mean - one.running_mean
            torch.testing.assert_close(moved, left.expand_as(moved))


def test_generator_first_learns_from_the_scores_before_the_update() -> None:
    """As VGAN's authors do, on the fakes that the discriminator is trained on as well."""
    order: dict[str, Any] = {"order": "generator_first", "fakes": "shared"}
    quick = OptimizerConfig(lr=0.1, betas=(0.5, 0.999))
    step, draw = make_step(PLAYS["vgan"], discriminator=quick, **order), batches(PLAYS["vgan"])
    logs = step.run(0, 0, draw)
    # The scores that the initial discriminator gives the same fakes.
    mask = 0.1 * logs["generator/mask"]
    other = make_step(PLAYS["vgan"], discriminator=quick, **order)
    batch = other.split(batches(PLAYS["vgan"])(), KEY)[0]
    fake = other.generate(batch, KEY)["clip"].detach()
    discriminator = other.gan.discriminators["discriminator"]
    expected = torch.nn.functional.softplus(-discriminator(fake).realness).mean()
    torch.testing.assert_close(logs["loss/generator"], expected + mask)
    # The usual order takes the scores after the update.
    late = make_step(PLAYS["vgan"], discriminator=quick).run(0, 0, batches(PLAYS["vgan"]))
    torch.testing.assert_close(late["discriminator/fake"], logs["discriminator/fake"])
    assert abs(float(late["loss/generator"] - logs["loss/generator"])) > 0.01


def test_discriminator_of_batch_norm_scores_reals_and_fakes_apart() -> None:
    play = PLAYS["vgan"]
    step = make_step(play)
    discriminator = step.gan.discriminators["discriminator"]
    batch = batches(play)()
    fake = torch.randn_like(batch.real)
    real_scores, fake_scores = step.score_both(discriminator, batch, fake, None)
    torch.testing.assert_close(real_scores.realness, discriminator(batch.real).realness)
    torch.testing.assert_close(fake_scores.realness, discriminator(fake).realness)


def test_singular_values_stay_bounded_while_training() -> None:
    play = PLAYS["tgan"]
    fast = OptimizerConfig(kind="rmsprop", lr=0.05, betas=(0.0, 0.99))
    step, draw = make_step(play, side=16, discriminator=fast), batches(play, 16)
    discriminator = step.gan.discriminators["discriminator"]

    def largest() -> float:
        weights = [p.detach().flatten(1) for p in discriminator.parameters() if p.dim() >= 4]
        return max(float(torch.linalg.svdvals(weight)[0]) for weight in weights)

    for index in range(4):
        step.run(index, 0, draw)
    assert largest() > 1.1
    step.run(4, 0, draw)
    assert largest() <= 1 + 1e-5
    assert norms_of(discriminator)
    for norm in norms_of(discriminator):
        assert norm.weight is not None
        deviation = norm.running_var.sqrt()
        assert bool((norm.weight <= deviation).all())
        assert bool((norm.weight >= 0.01 * deviation).all())


def test_first_clamp_of_gamma_knows_ten_passes() -> None:
    """As in the authors' code: five updates of a pass over fakes and one over reals."""
    play = PLAYS["tgan"]
    step, draw = make_step(play, side=16), batches(play, 16)
    for index in range(5):
        step.run(index, 0, draw)
    (norm,) = norms_of(step.gan.discriminators["discriminator"])
    # The batches' own variance is far below the initial 1, of which 0.9^10 is left.
    limit = norm.running_var.sqrt()
    torch.testing.assert_close(limit, torch.full_like(limit, 0.9**5), atol=0.01, rtol=0)
    assert norm.weight is not None
    assert torch.equal(norm.weight.detach(), limit)


def test_weights_are_clipped_after_every_update() -> None:
    play = Play(PLAYS["tgan"].model, LossConfig(name="wgan-clip"), (0.0, 0.0))
    step = make_step(play, discriminator=OptimizerConfig(kind="sgd", lr=1.0))
    step.run(0, 0, batches(play))
    for parameter in step.gan.discriminators["discriminator"].parameters():
        assert float(parameter.detach().abs().max()) <= 0.01


@pytest.mark.parametrize("name", ["vgan", "tgan", "mocogan"])
@pytest.mark.parametrize("loss", ["wgan-gp", "ns-r1"])
def test_batch_norm_with_a_gradient_penalty_is_refused(name: str, loss: str) -> None:
    play = dataclasses.replace(PLAYS[name], loss=LossConfig(name=loss))
    with pytest.raises(UserError, match=r"has batch norm; set model.discriminator_norm=layer"):
        make_step(play)
    layer = dataclasses.replace(play.model, discriminator_norm="layer")  # type: ignore[call-arg]
    make_step(dataclasses.replace(play, model=layer)).run(0, 0, batches(play))


def test_batches_of_one_and_micro_batches_are_refused_with_batch_norm() -> None:
    step = make_step(PLAYS["vgan"])
    for size, changes, words in ((1, {}, "at least 2"), (4, {"accumulate": 2}, "accumulate=1")):
        schedule = make_schedule(PLAYS["vgan"].model.levels(SHAPE), 8, 0, 0, size)
        with pytest.raises(UserError, match=words):
            check_batches(schedule, step.gan, TrainingConfig(**changes), step.processes)


def test_classifier_learns_from_the_clips_it_is_told_to() -> None:
    play = PLAYS["mocogan"]
    for clips in ("real", "both"):
        loss = dataclasses.replace(play.loss, class_clips=clips)  # type: ignore[arg-type]
        step = make_step(dataclasses.replace(play, loss=loss))
        batch = step.split(batches(play)(), KEY)[0]
        fake = torch.zeros_like(batch.real)
        _, logs = step.discriminator_loss(batch, {"clip": fake}, KEY, update=0)
        video = step.gan.discriminators["video"]
        classes = step.class_loss(video(batch.real), batch.labels)
        if clips == "both":
            classes = classes + step.class_loss(video(fake), batch.labels)
        torch.testing.assert_close(logs["video/classes"], classes)


def tiny_run(run: Path, data: Path, *words: str) -> Config:
    small = "{name: tgan, latent: 4, frame_code: 3, temporal_width: 8, image_width: 8, width: 4}"
    given = [
        f"run={run}", f"data.path={data}", "data.resolution=8", "data.frames=4",
        f"model={small}", "loss.name=wgan-svc", "training.order=generator_first",
        "training.generator.kind=rmsprop", "training.discriminator.kind=rmsprop",
        "training.total_clips=32", "training.batch_size=4", "training.checkpoint_every=4",
        "training.sample_every=0", "training.num_samples=2", "training.device=cpu",
        "training.threads=1", *words,
    ]  # fmt: skip
    return config_from_dict(apply_overrides({}, given), "tiny")


def test_run_with_statistics_and_rmsprop_goes_on_bit_for_bit(
    tmp_path: Path, packed_clips: Path
) -> None:
    train(tiny_run(tmp_path / "whole", packed_clips))
    train(tiny_run(tmp_path / "parts", packed_clips, "training.total_clips=16"))
    train(tiny_run(tmp_path / "parts", packed_clips))
    assert hash_of_ema(tmp_path / "whole") == hash_of_ema(tmp_path / "parts")


def test_run_of_a_context_model_writes_samples(tmp_path: Path, packed_clips: Path) -> None:
    words = ("model={name: vgan, condition: first_frame, width: 4}", "loss.name=bce")
    changes = ("loss.auxiliary={first_frames: {}}", "training.order=discriminator_first")
    run = train(tiny_run(tmp_path / "run", packed_clips, *words, *changes))
    names = {file.name for file in (run / "samples").iterdir()}
    assert {"step-8.mp4", "real-4x8.mp4"} <= names
    assert "generator/first_frames" in (run / "log.jsonl").read_text()
