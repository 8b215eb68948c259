"""Small labelled clips whose class is a shape times a direction; colours are random."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng

CLASSES = ("block-right", "block-left", "frame-right", "frame-left")


@dataclass(frozen=True)
class Labelled:
    """uint8 clips `[M, 3, T, 16, 16]`, labels into `CLASSES`, one video a clip."""

    clips: Tensor
    labels: Tensor

    @property
    def videos(self) -> tuple[str, ...]:
        return tuple(f"video{i}" for i in range(len(self.labels)))


def moving_shapes(count: int, seed: int, frames: int = 4, size: int = 16) -> Labelled:
    """A filled or hollow square of 8 pixels that moves 2 pixels a frame, left or right."""
    rng = keyed_rng(seed, "moving shapes")
    side = 8
    labels = torch.arange(count) % len(CLASSES)
    dark = torch.randint(0, 90, (count, 3), generator=rng)
    bright = torch.randint(140, 256, (count, 3), generator=rng)
    rows = torch.randint(0, size - side + 1, (count,), generator=rng).tolist()
    clips = dark[:, :, None, None, None].expand(-1, -1, frames, size, size).clone()
    travel = 2 * (frames - 1)
    for i, label in enumerate(labels.tolist()):
        spare = size - side - travel
        start = int(torch.randint(0, spare + 1, (), generator=rng))
        for t in range(frames):
            step = 2 * t if label % 2 == 0 else travel - 2 * t
            box = clips[i, :, t, rows[i] : rows[i] + side, start + step : start + step + side]
            box[:] = bright[i, :, None, None]
            if label >= 2:
                box[:, 2:-2, 2:-2] = dark[i, :, None, None]
    return Labelled(clips.to(torch.uint8), labels)
