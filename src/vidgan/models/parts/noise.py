"""Noise inside a discriminator that is a function of its view, so that the pass stays pure."""

import torch
from torch import Tensor

from vidgan.errors import UserError

NUM_SEEDS = 2**24
"""Different values of a float32 drawn uniformly from [0, 1)."""


class RowNoise:
    """Adds noise N(0, deviation^2) whose rows follow from one number of a view each.

    A discriminator draws nothing itself: noise would depend on how a batch is split over processes
    and micro-batches. Row b of all noise of a pass comes from a generator of its own, so reals and
    fakes of row b get the same noise, and another step gets other noise.

    Args:
        deviation: of the noise; 0 for none.
        view: uniform numbers `[B]` in [0, 1) that key the rows; None for no noise.
    """

    def __init__(self, deviation: float, view: Tensor | None) -> None:
        self.deviation = deviation
        self.rngs: list[torch.Generator] = []
        if deviation and view is not None and not view.is_meta:
            seeds = (view.double() * NUM_SEEDS).long().tolist()
            self.rngs = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, x: Tensor) -> Tensor:
        """Features `[B, ...]` with the next numbers of every row added."""
        if not self.rngs:
            return x
        rows = [torch.randn(x.shape[1:], generator=rng) for rng in self.rngs]
        return x + self.deviation * torch.stack(rows).to(x)


def refuse_negative_noise(deviation: float) -> None:
    """Raise UserError for a deviation below 0."""
    if deviation < 0:
        raise UserError(f"model.noise={deviation} is a deviation: set it to 0 or more")
