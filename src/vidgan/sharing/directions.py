"""Directions of the latent along which clips change most.

The principal components of generated clips, carried back to latents by linear regression, as
E. Harkonen et al., "GANSpace", NeurIPS 2020, arXiv:2004.02546, section 2.2, do with activations.
Here the clips themselves are analysed, at low resolution, so that every generator will do.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vidgan.core.clip_ops import pool_clip, to_float
from vidgan.models.base import Generator
from vidgan.sampling.generate import labels_for_seeds, sample_clips, sample_latents

NUM_CLIPS = 512
FINEST = 8
"""Height of the clips that are analysed, in px: what changes, not where an edge runs."""


class Directions(NamedTuple):
    """Directions, the strongest first.

    `latents` are unit vectors `[K, Z]`: a step of 1 is one standard deviation of the latent along
    it. `shares` `[K]` are the parts of the variance of clips that their components hold.
    """

    latents: Tensor
    shares: Tensor


def find_directions(
    generator: Generator, count: int = 5, num_frames: int | None = None
) -> Directions:
    """The directions of most change within a class; the same for every call.

    Args:
        generator: without a context, and with a latent.
        count: number K of directions.
        num_frames: length of the clips, for generators that make any.

    Raises:
        UserError: the generator needs a context.
    """
    seeds = range(NUM_CLIPS)
    latents = sample_latents(generator, seeds, num_frames)
    labels = labels_for_seeds(seeds, generator.num_classes)
    clips = to_float(sample_clips(generator, latents, labels, num_frames=num_frames))
    factor = max(1, clips.shape[-1] // FINEST)
    rows = pool_clip(clips, (1, factor, factor)).flatten(1)  # [N, F]
    if labels is None:
        labels = torch.zeros(NUM_CLIPS, dtype=torch.int64)
    for label in range(int(labels.max()) + 1):
        own = labels == label
        if own.any():
            rows[own] -= rows[own].mean(dim=0)

    # A component is a weighted sum of clips; the same sum of their latents is its regression.
    left, lengths, _ = torch.linalg.svd(rows.double(), full_matrices=False)
    count = min(count, latents.shape[1])
    found = left[:, :count].T @ latents.double()  # [K, Z]
    found /= found.norm(dim=1, keepdim=True).clamp_min(1e-12)
    # A component has no sign of its own: the largest number is made positive.
    largest = found.gather(1, found.abs().argmax(dim=1, keepdim=True))
    variances = lengths**2 / (lengths**2).sum()
    return Directions((found * largest.sign()).float(), variances[:count].float())
