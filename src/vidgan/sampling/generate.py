"""From latents to uint8 clips, in batches of bounded size."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vidgan.core.clip_ops import Labels, Values, as_labels, as_seeds, as_tensor, to_float, to_uint8
from vidgan.core.randomness import Key, derive_seed, keyed_rng
from vidgan.errors import UserError
from vidgan.models.base import Generator

# ------------------------------------------------------------------------------------------------
# Latents, labels and paths between latents, each a pure function of seeds

PathMode = Literal["linear", "slerp"]


def sample_latents(
    generator: Generator, seeds: Iterable[int], num_frames: int | None = None
) -> Tensor:
    """Draw one latent for each seed.

    Every named part of the latent has its own random numbers, keyed by the seed and the part's
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
            # Per-frame noise comes last and is as long as the clip.
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


# ------------------------------------------------------------------------------------------------
# From latents to uint8 clips, in batches of bounded size

BATCH_VOXELS = 2**21
"""Voxels of one batch of clips: 16 clips of 32x64x64; larger clips go in pairs."""


class _Given(NamedTuple):
    """Checked inputs of a generator: float latents, labels and context, and their length."""

    latents: Tensor
    labels: Tensor | None
    context: Tensor | None
    num_frames: int | None


def sample_clips(
    generator: Generator,
    latents: Values,
    labels: Labels | None = None,
    context: Values | None = None,
    truncation: float | None = None,
    num_frames: int | None = None,
    quantise: bool = True,
) -> Tensor:
    """Generate clips.

    Args:
        generator: in any mode and on any device; it works in eval mode and is left as it was.
        latents: float `[B, Z]`, as `sample_latents` draws them; a tensor or an array.
        labels: for a class-conditional generator, else None: whole numbers `[B]` in a tensor, an
            array or a list, or one number for all clips.
        context: clips `[B, C, T0, H, W]`, uint8 or float in [-1, 1], for a generator that needs
            them.
        truncation: bound of the latents in standard deviations, for generators that support it.
        num_frames: length T of the clips, for generators that make any; by default the trained one.
        quantise: whether clips are rounded to bytes.

    Returns:
        uint8 `[B, C, T, H, W]` on the CPU; float32, around [-1, 1], if they are not rounded.

    Raises:
        UserError: labels or context missing, not wanted or out of range, or truncation or the
            length not supported.

    Example:
        >>> import vidgan
        >>> generator = vidgan.build_gan("pvgan", (3, 4, 8, 8), num_classes=2).generator
        >>> latents = vidgan.sample_latents(generator, seeds=[0, 1])
        >>> clips = vidgan.sample_clips(generator, latents, labels=[0, 1])
        >>> clips.shape, clips.dtype
        (torch.Size([2, 3, 4, 8, 8]), torch.uint8)
    """
    given = _checked(generator, latents, labels, context, num_frames)
    return _sample(generator, ("clip",), given, truncation, quantise)["clip"]


def sample_images(
    generator: Generator,
    latents: Values,
    labels: Labels | None = None,
    context: Values | None = None,
    truncation: float | None = None,
    num_frames: int | None = None,
) -> dict[str, Tensor]:
    """Generate clips together with the generator's intermediate images.

    Takes what `sample_clips` takes.

    Returns:
        uint8 `[B, 1 or C, T, H, W]` on the CPU: `clip`, then those that `generator.shows` names; a
        mask is black for 0 and white for 1.
    """
    given = _checked(generator, latents, labels, context, num_frames)
    return _sample(generator, ("clip", *generator.shows), given, truncation)


def _sample(
    generator: Generator,
    names: tuple[str, ...],
    given: _Given,
    truncation: float | None,
    quantise: bool = True,
) -> dict[str, Tensor]:
    latents, labels, context, _ = given
    if truncation is not None:
        if not generator.supports_truncation:
            raise UserError("this model does not support truncation; leave it out")
        latents = truncate(latents, truncation)
    like = next(generator.parameters())
    latents = latents.to(like)
    labels = None if labels is None else labels.to(like.device)
    context = None if context is None else context.to(like)
    with _sampling(generator):
        # The first batch reveals the clip size. Never a single clip: torch computes a single clip
        # in float32 with a far slower kernel.
        given = given._replace(latents=latents, labels=labels, context=context)
        batches = [_generate(generator, names, slice(0, 2), given, quantise)]
        share = max(2, BATCH_VOXELS // batches[0]["clip"][0, 0].numel())
        for first in range(2, len(latents), share):
            batches.append(
                _generate(generator, names, slice(first, first + share), given, quantise)
            )
    return {name: torch.cat([batch[name] for batch in batches]) for name in names}


def interpolate(
    generator: Generator,
    start: Values,
    end: Values,
    steps: int,
    mode: PathMode = "linear",
    labels: Labels | None = None,
) -> Tensor:
    """Generate the clips on a path between two latents.

    Args:
        generator: see `sample_clips`.
        start: latent `[Z]` or `[1, Z]` of the first clip.
        end: latent of the last clip.
        steps: number of clips, at least 2.
        mode: `linear` or `slerp`, see `vidgan.sampling.generate.latent_path`.
        labels: one for the whole path or one a step, for a conditional generator.

    Returns:
        uint8 `[steps, C, T, H, W]`.

    Raises:
        UserError: a path of one step, an unknown mode, or labels that do not fit.

    Example:
        >>> import vidgan
        >>> generator = vidgan.build_gan("pvgan", (3, 4, 8, 8)).generator
        >>> start, end = vidgan.sample_latents(generator, [0, 1])
        >>> vidgan.interpolate(generator, start, end, steps=5).shape
        torch.Size([5, 3, 4, 8, 8])
    """
    path = latent_path(as_tensor(start, "start"), as_tensor(end, "end"), steps, mode)
    if labels is not None:
        labels = as_labels(labels, steps)
        labels = labels.expand(steps) if len(labels) == 1 else labels
    return sample_clips(generator, path, labels)


@torch.no_grad()
def _generate(
    generator: Generator,
    names: tuple[str, ...],
    rows: slice,
    given: _Given,
    quantise: bool,
) -> dict[str, Tensor]:
    labels, context = (None if g is None else g[rows] for g in (given.labels, given.context))
    parts = generator.parts(given.latents[rows], labels, context, given.num_frames)
    # A mask lies in [0, 1], everything else in [-1, 1].
    images = {name: parts[name] * 2 - 1 if name == "mask" else parts[name] for name in names}
    kept = {name: to_uint8(p) if quantise else p.float() for name, p in images.items()}
    return {name: image.cpu().contiguous() for name, image in kept.items()}


@contextmanager
def _sampling(generator: Generator) -> Iterator[None]:
    was_training = generator.training
    generator.eval()
    try:
        yield
    finally:
        generator.train(was_training)


def _checked(
    generator: Generator,
    latents: Values,
    labels: Labels | None,
    context: Values | None,
    num_frames: int | None,
) -> _Given:
    checked, labels = _checked_inputs(generator, latents, labels, num_frames)
    return _Given(checked, labels, _checked_context(generator, checked, context), num_frames)


def _checked_context(
    generator: Generator, latents: Tensor, context: Values | None
) -> Tensor | None:
    if context is None:
        if generator.context_frames:
            raise UserError(
                f"this generator needs {generator.context_frames} given frames for every clip; "
                f"pass them as context, or use vidgan predict"
            )
        return None
    context = as_tensor(context, "context")
    if context.dim() != 5 or len(context) != len(latents):
        raise UserError(
            f"{len(latents)} latents need {len(latents)} contexts [B, C, T0, H, W], got "
            f"{list(context.shape)}"
        )
    return to_float(context) if context.dtype == torch.uint8 else context


def _checked_inputs(
    generator: Generator, latents: Values, labels: Labels | None, num_frames: int | None
) -> tuple[Tensor, Tensor | None]:
    latents = as_tensor(latents, "latents")
    try:
        dim = generator.latent_dim(num_frames)
    except ValueError as error:
        raise UserError(str(error)) from error
    if latents.dim() != 2 or latents.shape[1] != dim or not len(latents):
        raise UserError(f"latents must be [B, {dim}] with B > 0, got {list(latents.shape)}")
    if not generator.num_classes:
        if labels is not None:
            raise UserError("this generator is unconditional: call it without labels")
        return latents, None
    if labels is None:
        raise UserError(
            f"this generator needs a label 0..{generator.num_classes - 1} for every clip"
        )
    labels = as_labels(labels, len(latents))
    if labels.shape != latents.shape[:1]:
        raise UserError(f"{len(latents)} latents need {len(latents)} labels, got {labels.numel()}")
    if int(labels.min()) < 0 or int(labels.max()) >= generator.num_classes:
        raise UserError(f"labels must lie in 0..{generator.num_classes - 1}, got {labels.tolist()}")
    return latents, labels
