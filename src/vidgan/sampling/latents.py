"""Latents, labels and paths between latents, each a pure function of seeds."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from vidgan.core.arrays import as_seeds
from vidgan.core.randomness import Key, derive_seed, keyed_rng
from vidgan.errors import UserError
from vidgan.models.base import Generator

PathMode = Literal["linear", "slerp"]


def sample_latents(
    generator: Generator, seeds: Iterable[int], num_frames: int | None = None
) -> Tensor:
    """Draw one latent for each seed.

    Every named part of the latent has random numbers of its own, keyed by the seed and the part's
    name, and noise of single frames by the frame as well: a clip keeps its content and its first
    frames whatever its length.

    Args:
        generator: whose `latent_parts` are to be filled.
        seeds: B whole numbers.
        num_frames: length of the clips, for generators that make any; by default the trained one.

    Returns:
        float32 `[B, Z]`, standard normal; row i depends on seed i alone.

    Raises:
        UserError: the generator makes clips of one length, and not of this one, or the seeds are
            no whole numbers.

    Example:
        >>> import vidgan
        >>> generator = vidgan.build_gan("pvgan", (3, 4, 8, 8)).generator
        >>> both = vidgan.sample_latents(generator, [7, 8])
        >>> bool((both[1:] == vidgan.sample_latents(generator, [8])).all())
        True
    """
    seeds = as_seeds(seeds)
    try:
        latents = torch.zeros(len(seeds), generator.latent_dim(num_frames))
    except ValueError as error:
        raise UserError(str(error)) from error
    for latent, seed in zip(latents, seeds, strict=True):
        for name, part in generator.latent_parts.items():
            if name not in generator.frame_noise:
                _fill(latent[part], seed, "latent", name)
                continue
            # Noise of single frames stands last and lasts as long as the clip.
            frames = latent[part.start :].split(generator.frame_noise[name])
            for index, values in enumerate(frames):
                _fill(values, seed, "latent", name, index)
    return latents


def _fill(values: Tensor, *key: Key) -> None:
    values.copy_(torch.randn(len(values), generator=keyed_rng(*key)))


def labels_for_seeds(seeds: Sequence[int], num_classes: int) -> Tensor | None:
    """One uniformly drawn label for each seed: int64 `[B]`, or None without classes."""
    if not num_classes:
        return None
    return torch.tensor([derive_seed(seed, "label") % num_classes for seed in seeds])


def latent_path(start: Tensor, end: Tensor, steps: int, mode: PathMode = "linear") -> Tensor:
    """Latents on the way from one to another, both ends included.

    Args:
        start: `[Z]` or `[1, Z]`.
        end: likewise.
        steps: number of latents, at least 2.
        mode: `linear` walks the straight line (as the thesis does); `slerp` turns the direction
            at constant speed and blends the lengths, so that latents on the way are as long as
            those at the ends (Shoemake 1985). Opposite directions have no shortest turn: there it
            is the straight line.

    Returns:
        `[steps, Z]`.
    """
    if steps < 2:
        raise UserError(f"a path needs at least 2 steps, not {steps}")
    if mode not in ("linear", "slerp"):
        raise UserError(f"there is no interpolation mode {mode!r}; choose linear or slerp")
    if start.numel() == 0:
        raise UserError("this model has no latent, so there is nothing to interpolate")
    a, b = start.reshape(-1), end.reshape(-1)
    weight = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)[:, None]  # [steps, 1]
    length_a, length_b = a.norm(), b.norm()
    cosine = float((a @ b / (length_a * length_b).clamp_min(1e-12)).clamp(-1, 1))
    angle = math.acos(cosine)
    if mode == "linear" or math.sin(angle) < 1e-6 or not length_a * length_b:
        return torch.lerp(a, b, weight)
    towards_a, towards_b = torch.sin((1 - weight) * angle), torch.sin(weight * angle)
    direction = (towards_a * (a / length_a) + towards_b * (b / length_b)) / math.sin(angle)
    turned: Tensor = direction * torch.lerp(length_a, length_b, weight)
    return turned


def truncate(latents: Tensor, bound: float) -> Tensor:
    """Move standard normal values into [-bound, bound], keeping their order.

    A value at quantile q of the normal distribution goes to quantile q of the normal distribution
    truncated at `bound`, so the result is distributed as if values outside were drawn again
    (Brock et al. 2019, section 3.1), yet is a function of the latent.
    """
    if bound <= 0:
        raise UserError(f"truncation={bound} must be above 0; 2 is mild, 0.5 strong")
    tail = math.erfc(bound / math.sqrt(2)) / 2
    quantile = tail + torch.special.ndtr(latents.double()) * (1 - 2 * tail)
    truncated: Tensor = torch.special.ndtri(quantile).clamp(-bound, bound)
    return truncated.to(latents.dtype)
