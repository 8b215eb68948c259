"""What the judge sees while it trains: a split by video, and augmentation that keeps motion."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidgan.core.clip_ops import to_float
from vidgan.core.randomness import Key, keyed_rng
from vidgan.errors import UserError


@dataclass(frozen=True)
class RealClips:
    """Real clips of one split.

    Attributes:
        clips: uint8 `[M, C, T, H, W]`.
        labels: int64 `[M]`; -1 without classes.
        video_ids: source video of every clip.
    """

    clips: Tensor
    labels: Tensor
    video_ids: tuple[str, ...]

    def take(self, rows: Tensor) -> "RealClips":
        """The clips in `rows`, int64."""
        ids = tuple(self.video_ids[row] for row in rows.tolist())
        return RealClips(self.clips[rows], self.labels[rows], ids)

    def __len__(self) -> int:
        return self.clips.shape[0]


def split_by_video(
    labels: Tensor, video_ids: Sequence[Hashable], share: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Row indices for training and for validation; no video is on both sides.

    Within each class a seeded `share` of the videos, at least one, goes to validation, unless the
    class has a single video, which then trains.

    Args:
        labels: int64 `[M]`, one per clip.
        video_ids: M names of source videos.
        share: share of videos for validation, in (0, 1).
        seed: chooses the videos.

    Raises:
        UserError: no class has two videos.
    """
    if len(video_ids) != labels.shape[0]:
        raise ValueError(f"{len(video_ids)} video ids for {labels.shape[0]} clips")
    held_out: set[Hashable] = set()
    class_of: dict[Hashable, int] = {}
    for video, label in zip(video_ids, labels.tolist(), strict=True):
        class_of.setdefault(video, label)
    for label in sorted(set(class_of.values())):
        videos = sorted((v for v, owner in class_of.items() if owner == label), key=repr)
        order = torch.randperm(len(videos), generator=keyed_rng(seed, "judge split", label))
        count = max(1, round(share * len(videos))) if len(videos) > 1 else 0
        held_out.update(videos[i] for i in order[:count].tolist())
    if not held_out:
        raise UserError(
            "the classifier that judges clips cannot be checked: no class has two videos; add "
            "videos or evaluate without it (protocol=stswd)"
        )
    is_held_out = torch.tensor([video in held_out for video in video_ids])
    return (~is_held_out).nonzero()[:, 0], is_held_out.nonzero()[:, 0]


def augment(
    clips: Tensor, rng: torch.Generator, *, colour: bool, shift: float, mirror: bool
) -> Tensor:
    """Float clips `[B, C, T, H, W]` with one random colour map, shift and mirror a clip.

    Colour is made useless as a clue: channels change places, and each gets a gain in 0.7..1.3 and
    an offset in +-0.25 of its own. Motion is left alone: a clip moves as a whole, frames keep their
    order.

    Args:
        clips: uint8 `[B, C, T, H, W]`.
        rng: source of the draws.
        colour: whether colours change.
        shift: largest shift as a share of height and width; the edge is repeated.
        mirror: whether half of the clips are mirrored, left to right.
    """
    b, c, _, h, w = clips.shape
    if mirror:
        flipped = torch.rand(b, generator=rng) < 0.5
        clips = torch.where(flipped[:, None, None, None, None], clips.flip(-1), clips)
    if shift > 0:
        rows = _shifted_indices(b, h, shift, rng)[:, None, None, :, None].expand_as(clips)
        columns = _shifted_indices(b, w, shift, rng)[:, None, None, None, :].expand_as(clips)
        clips = clips.gather(3, rows).gather(4, columns)
    out = to_float(clips)
    if colour:
        order = torch.rand(b, c, generator=rng).argsort(1)
        out = out.gather(1, order[:, :, None, None, None].expand_as(out))
        gain = 0.7 + 0.6 * torch.rand(b, c, 1, 1, 1, generator=rng)
        out = out * gain + 0.5 * torch.rand(b, c, 1, 1, 1, generator=rng) - 0.25
    return out


def shuffled_batches(
    indices: Tensor, batch_size: int, num_batches: int, key: tuple[Key, ...]
) -> list[Tensor]:
    """Index batches that walk through a fresh shuffle of `indices` in every epoch."""
    epochs = -(-num_batches * batch_size // max(1, indices.shape[0]))
    rng = keyed_rng(*key)
    order = [indices[torch.randperm(indices.shape[0], generator=rng)] for _ in range(epochs)]
    walk = torch.cat(order)[: num_batches * batch_size]
    return list(torch.split(walk, batch_size))


def _shifted_indices(count: int, size: int, shift: float, rng: torch.Generator) -> Tensor:
    reach = int(shift * size)
    offsets = torch.randint(-reach, reach + 1, (count, 1), generator=rng)
    return (torch.arange(size) + offsets).clamp(0, size - 1)
