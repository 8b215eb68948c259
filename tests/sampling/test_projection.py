"""Projection onto latents, against closed forms and clips whose latents are known."""

from pathlib import Path

import pytest
import torch
from generator_files import saved_generator
from torch import Tensor

import vidgan
from vidgan.core.clip_ops import to_float
from vidgan.errors import UserError
from vidgan.models.base import Generator
from vidgan.sampling import projection
from vidgan.sampling.projection import (
    ProjectionOptions,
    judge,
    project_clip,
    variations,
    with_motion,
)
from vidgan.sampling.showing import motions_table

QUICK = ProjectionOptions(starts=48, refined=1, steps=15)
SLOW = pytest.mark.slow


class Linear(Generator):
    """Clips that are a weighted sum of fixed patterns, one for each number of the latent."""

    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.patterns = torch.nn.Parameter(0.1 * torch.randn(2, 5, 3 * 2 * 8 * 8, generator=rng))

    def latent_dim(self, num_frames: int | None = None) -> int:
        return 5

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        assert labels is not None
        clip = torch.einsum("bz,bzn->bn", latent, self.patterns[labels])
        return {"clip": clip.reshape(-1, 3, 2, 8, 8)}


def clip_of(generator: Generator, seed: int, label: int | None = None) -> Tensor:
    return vidgan.sample_clips(generator, vidgan.sample_latents(generator, [seed]), label)[0]


def test_a_linear_generator_is_inverted_as_least_squares_have_it() -> None:
    generator = Linear().eval()
    target = clip_of(generator, 3, 1)
    found = project_clip(generator, target, options=QUICK)
    assert found.label == 1
    # Pixels, their changes in time and two halvings: a linear problem with a closed solution.
    patterns = generator.patterns[1].detach().reshape(5, 3, 2, 8, 8)

    def seen(clips: Tensor) -> Tensor:
        changes = clips[:, :, 1:] - clips[:, :, :-1]
        small = torch.nn.functional.avg_pool3d(clips, (1, 2, 2))
        parts = [clips, changes, small]
        return torch.cat([p.flatten(1) / p[0].numel() ** 0.5 for p in parts], dim=1)

    wanted = torch.linalg.lstsq(seen(patterns).T, seen(to_float(target)[None]).T).solution
    torch.testing.assert_close(found.latent, wanted[:, 0], rtol=0, atol=2e-3)
    torch.testing.assert_close(
        found.latent, vidgan.sample_latents(generator, [3])[0], rtol=0, atol=0.03
    )
    assert found.verdict == "recovered"
    assert found.psnr > found.psnr_best_random > found.psnr_random


def test_latents_stay_where_those_of_training_lie() -> None:
    generator = Linear().eval()
    # Ten times as strong as any clip of the generator.
    strong = 10 * vidgan.sample_latents(generator, [3])
    with torch.no_grad():
        clip = generator(strong, torch.tensor([1]))[0]
    target = (clip.clamp(-1, 1) * 127.5 + 127.5).byte()
    found = project_clip(generator, target, options=QUICK)
    # 99.9 % of normal vectors in five dimensions are shorter than sqrt(20.515).
    assert float(found.latent.norm()) == pytest.approx(20.515**0.5, abs=1e-3)


@pytest.mark.parametrize(
    "name",
    ["pvgan-projection", "mocogan"]
    + [pytest.param(name, marks=SLOW) for name in ("tgan", "vgan", "hrvgan", "ivgan", "dvdgan")],
)
def test_own_clips_are_recovered(name: str, tmp_path: Path) -> None:
    generator = vidgan.load_generator(saved_generator(name, tmp_path))
    label = 1 if generator.num_classes else None
    found = project_clip(generator, clip_of(generator, 5, label), options=QUICK)
    assert found.psnr > 30, found.reason
    assert found.in_time
    made = vidgan.sample_clips(generator, found.latent[None], found.label)[0]
    assert torch.equal(made, found.clip)


def test_descent_alone_serves_clips_that_derivatives_do_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projection, "MAX_DERIVATIVES", 100)
    generator = Linear().eval()
    found = project_clip(generator, clip_of(generator, 3, 1), options=QUICK)
    assert found.psnr > 40
    assert found.label == 1


def test_noise_is_told_from_clips_of_the_generator() -> None:
    generator = Linear().eval()
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (3, 2, 8, 8), generator=rng).to(torch.uint8)
    assert project_clip(generator, noise, options=QUICK).verdict == "failed"


def test_the_same_seed_finds_the_same_latent() -> None:
    generator = Linear().eval()
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (3, 2, 8, 8), generator=rng).to(torch.uint8)
    latents = [project_clip(generator, noise, 1, QUICK).latent for _ in range(2)]
    assert torch.equal(*latents)


def test_a_search_that_runs_out_of_time_says_so() -> None:
    generator = Linear().eval()
    options = ProjectionOptions(minutes=1e-9)
    found = project_clip(generator, clip_of(generator, 3, 1), options=options)
    assert not found.in_time
    assert "cut off" in found.reason
    assert found.psnr >= found.psnr_best_random


def test_features_are_compared_beside_pixels() -> None:
    generator = Linear().eval()
    target = clip_of(generator, 3, 1)
    asked = []

    def half(clips: Tensor, labels: Tensor | None) -> Tensor:
        asked.append(labels)
        return clips.flatten(1)[:, ::2]

    assert project_clip(generator, target, 1, QUICK, half).verdict == "recovered"
    assert all(labels is not None and bool((labels == 1).all()) for labels in asked)


@pytest.mark.parametrize(
    ("values", "verdict", "why"),
    [
        ((35.0, 18.0, 14.0, 0.99), "recovered", "17.0 dB above"),
        ((35.0, 18.0, 14.0, 0.9), "approximated", "like the clip"),
        ((25.0, 18.0, 14.0, 0.99), "approximated", "30 dB"),
        ((25.0, 18.0, 14.0, 0.7), "failed", "makes no such clip"),
        ((35.0, 34.5, 14.0, 0.99), "failed", "best random latent"),
        ((35.0, 14.0, 34.5, 0.99), "failed", "mean clip"),
    ],
)
def test_the_rule_of_the_verdict(values: tuple[float, ...], verdict: str, why: str) -> None:
    found, reason = judge(*values)
    assert found == verdict
    assert why in reason


def test_variations_are_as_long_as_their_latent_and_near_it() -> None:
    latent = torch.randn(100, generator=torch.Generator().manual_seed(0))
    found = variations(latent, 5, 0.3)
    assert found.shape == (5, 100)
    torch.testing.assert_close(found.norm(dim=1), latent.norm().expand(5))
    away = (found - latent).norm(dim=1) / 100**0.5
    assert bool(((away > 0.2) & (away < 0.4)).all())
    assert torch.equal(variations(latent, 5, 0.3), found)


def test_motion_is_exchanged_as_in_the_table_of_motions(tmp_path: Path) -> None:
    generator = vidgan.load_generator(saved_generator("mocogan", tmp_path))
    first, second = vidgan.sample_latents(generator, [4, 9])
    moved = vidgan.sample_clips(generator, with_motion(generator, first, second)[None])[0]
    assert torch.equal(moved, motions_table(generator, [4, 9]).clips[1])
    still = vidgan.load_generator(saved_generator("pvgan", tmp_path))
    with pytest.raises(UserError, match="cannot exchange motions"):
        with_motion(still, first, second)


def test_what_cannot_be_projected_is_refused(tmp_path: Path) -> None:
    generator = Linear().eval()
    with pytest.raises(UserError, match=r"\[3, 2, 8, 8\]"):
        project_clip(generator, torch.zeros(3, 2, 8, 9).byte())
    with pytest.raises(UserError, match="uint8"):
        project_clip(generator, torch.zeros(3, 2, 8, 8))
    context = vidgan.load_generator(saved_generator("hrvgan-predict", tmp_path))
    with pytest.raises(UserError, match="vidgan predict"):
        project_clip(context, torch.zeros(3, 4, 16, 16).byte())
    with pytest.raises(UserError, match="more than 0 minutes"):
        ProjectionOptions(minutes=0)
