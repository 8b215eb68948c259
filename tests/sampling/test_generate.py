"""Latents by seed, clips by latent, paths."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import vidgan
from vidgan.core.clip_ops import to_uint8
from vidgan.errors import UserError
from vidgan.models.base import Generator
from vidgan.sampling import generate
from vidgan.sampling.generate import labels_for_seeds, latent_path, sample_latents, truncate


class TwoPartGenerator(Generator):
    """Content and a motion part per frame; the clip shows the latent."""

    supports_truncation = True

    def __init__(self, num_frames: int) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.gain = torch.nn.Parameter(torch.ones(1))

    @property
    def latent_parts(self) -> dict[str, slice]:
        motion = {f"motion {t}": slice(3 + 2 * t, 5 + 2 * t) for t in range(self.num_frames)}
        return {"content": slice(0, 3), **motion}

    def latent_dim(self, num_frames: int | None = None) -> int:
        return 3 + 2 * (num_frames or self.num_frames)

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        return {"clip": (self.gain * latent / 4)[:, None, None, None, :]}


def test_row_depends_on_its_seed_alone(conditional: Generator) -> None:
    rows = sample_latents(conditional, [5, 3, 5, 2**40])
    assert rows.shape == (4, 5)
    assert torch.equal(rows[0], rows[2])
    assert torch.equal(rows[1], sample_latents(conditional, [3])[0])
    assert not torch.equal(rows[0], rows[1])


def test_latents_are_standard_normal(conditional: Generator) -> None:
    rows = sample_latents(conditional, range(4000))
    assert rows.mean(dim=0).abs().max() < 0.08
    assert (rows.std(dim=0) - 1).abs().max() < 0.06
    correlation = torch.corrcoef(rows.t()) - torch.eye(5)
    assert correlation.abs().max() < 0.08


def test_parts_do_not_move_when_the_clip_gets_longer() -> None:
    short = sample_latents(TwoPartGenerator(2), [1, 2])
    long = sample_latents(TwoPartGenerator(5), [1, 2])
    assert torch.equal(short, long[:, :7])
    # No two parts share their numbers.
    assert len(set(long.flatten().tolist())) == long.numel()


def test_labels_come_from_the_seed_and_cover_the_classes() -> None:
    labels = labels_for_seeds(range(600), 3)
    assert labels is not None
    assert labels.dtype == torch.int64
    counts = torch.bincount(labels, minlength=3)
    assert counts.min() > 160
    alone = labels_for_seeds([17], 3)
    assert alone is not None
    assert alone[0] == labels[17]
    assert labels_for_seeds([1, 2], 0) is None


def test_clips_are_what_the_generator_says(conditional: Generator) -> None:
    latents, labels = sample_latents(conditional, range(5)), torch.tensor([0, 1, 2, 0, 1])
    clips = vidgan.sample_clips(conditional, latents, labels)
    assert clips.dtype == torch.uint8
    # Batches of another size may round the last bit differently.
    direct = to_uint8(conditional(latents, labels))
    assert (clips.int() - direct.int()).abs().max() <= 1
    # The labels matter, and for their row only.
    other = vidgan.sample_clips(conditional, latents, torch.tensor([0, 2, 2, 0, 1]))
    assert (clips != other).flatten(1).any(dim=1).tolist() == [False, True, False, False, False]


def test_small_batches_change_nothing(
    unconditional: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = sample_latents(unconditional, range(9))
    whole = vidgan.sample_clips(unconditional, latents)
    monkeypatch.setattr(generate, "BATCH_VOXELS", 3 * 6 * 8 * 8)
    parts = vidgan.sample_clips(unconditional, latents)
    assert (whole.int() - parts.int()).abs().max() <= 1
    assert len(vidgan.sample_clips(unconditional, latents[:1])) == 1


def test_sampling_leaves_mode_and_gradients_alone(unconditional: Generator) -> None:
    generator = TwoPartGenerator(2).train()
    vidgan.sample_clips(generator, sample_latents(generator, [0]))
    assert generator.training
    assert generator.gain.grad is None


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, "needs a label 0..2"),
        (torch.tensor([0]), "2 latents need 2 labels, got 1"),
        (torch.tensor([0, 3]), "labels must lie in 0..2"),
        (torch.tensor([-1, 0]), "labels must lie in 0..2"),
    ],
)
def test_wrong_labels_are_named(conditional: Generator, labels: Tensor | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        vidgan.sample_clips(conditional, sample_latents(conditional, [0, 1]), labels)


def test_other_wrong_inputs_are_named(unconditional: Generator) -> None:
    latents = sample_latents(unconditional, [0, 1])
    with pytest.raises(UserError, match="call it without labels"):
        vidgan.sample_clips(unconditional, latents, torch.tensor([0, 0]))
    with pytest.raises(UserError, match="does not support truncation"):
        vidgan.sample_clips(unconditional, latents, truncation=1.0)
    with pytest.raises(UserError, match=r"latents must be \[B, 5\]"):
        vidgan.sample_clips(unconditional, latents[:, :4])
    with pytest.raises(UserError, match=r"latents must be \[B, 5\]"):
        vidgan.sample_clips(unconditional, latents[:0])


def test_truncation_is_a_truncated_normal() -> None:
    values = truncate(torch.tensor([[0.0, 8.0, -8.0, 0.5]]), bound=1.0)
    # Quantile of 0.5 is 0.691462; of the truncated one, 0.158655 + 0.691462 * 0.682689 = 0.630709.
    expected = torch.tensor([[0.0, 1.0, -1.0, 0.333737]])
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=0)
    many = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    # Variance of the normal truncated at 1: 1 - 2 phi(1) / (Phi(1) - Phi(-1)) = 0.291125.
    assert float(truncate(many, 1.0).var()) == pytest.approx(0.291125, abs=0.01)
    with pytest.raises(UserError, match="must be above 0"):
        truncate(many, 0.0)


def test_truncation_reaches_the_generator() -> None:
    generator = TwoPartGenerator(1)
    latents = torch.full((1, 5), 9.0)
    clips = vidgan.sample_clips(generator, latents, truncation=2.0)
    assert torch.equal(clips, torch.full_like(clips, round(127.5 * 0.5 + 127.5)))


def test_linear_path_is_the_straight_line() -> None:
    path = latent_path(torch.tensor([0.0, 4.0]), torch.tensor([[2.0, 0.0]]), 5)
    expected = [[0.0, 4.0], [0.5, 3.0], [1.0, 2.0], [1.5, 1.0], [2.0, 0.0]]
    assert path.tolist() == expected


def test_slerp_turns_evenly_and_blends_lengths() -> None:
    path = latent_path(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0]), 3, "slerp")
    half = 3 * math.sqrt(0.5)
    torch.testing.assert_close(path, torch.tensor([[2.0, 0.0], [half, half], [0.0, 4.0]]))
    start, end = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    turned = latent_path(start, end, 9, "slerp")
    torch.testing.assert_close(turned[[0, -1]], torch.stack([start, end]))
    unit = turned / turned.norm(dim=1, keepdim=True)
    cosines = (unit[1:] * unit[:-1]).sum(dim=1)
    assert cosines.max() - cosines.min() < 1e-5


@pytest.mark.parametrize("end", [[1.0, 0.0], [3.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
def test_slerp_without_a_shortest_turn_is_the_straight_line(end: list[float]) -> None:
    start, last = torch.tensor([1.0, 0.0]), torch.tensor(end)
    assert torch.equal(latent_path(start, last, 4, "slerp"), latent_path(start, last, 4))


def test_wrong_paths_are_named() -> None:
    one = torch.ones(3)
    with pytest.raises(UserError, match="at least 2 steps, not 1"):
        latent_path(one, one, 1)
    with pytest.raises(UserError, match="no interpolation mode 'cubic'"):
        latent_path(one, one, 3, "cubic")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="nothing to interpolate"):
        latent_path(torch.ones(0), torch.ones(0), 3)


def test_interpolation_starts_and_ends_at_the_two_clips(conditional: Generator) -> None:
    start, end = sample_latents(conditional, [0, 1])
    label = torch.tensor([2])
    clips = vidgan.interpolate(conditional, start, end, 5, labels=label)
    ends = vidgan.sample_clips(conditional, torch.stack([start, end]), label.expand(2))
    assert clips.shape[0] == 5
    assert (clips[[0, -1]].int() - ends.int()).abs().max() <= 1
    per_step = vidgan.interpolate(conditional, start, end, 5, labels=label.repeat(5))
    assert torch.equal(per_step, clips)


def test_arrays_lists_and_one_label_serve_as_tensors_do(conditional: Generator) -> None:
    latents = sample_latents(conditional, [0, 1])
    expected = vidgan.sample_clips(conditional, latents, torch.tensor([1, 1]))
    for labels in (1, [1, 1], np.array([1, 1]), torch.tensor([1, 1], dtype=torch.int32)):
        assert torch.equal(vidgan.sample_clips(conditional, latents.numpy(), labels), expected)
    walk = vidgan.interpolate(conditional, latents[0], latents[1], 3, labels=torch.tensor([1]))
    start, end = latents.numpy()
    assert torch.equal(vidgan.interpolate(conditional, start, end, 3, labels=1), walk)
    with pytest.raises(UserError, match="2 latents need 2 labels, got 3"):
        vidgan.sample_clips(conditional, latents, [0, 1, 2])
