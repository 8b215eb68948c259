"""`vidgan project`: a clip of one's own in the latent space of a trained generator."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgan.core.clip_ops import Values, as_tensor, pool_uint8
from vidgan.core.distributed import default_device
from vidgan.core.files import write_file_atomically, write_json_atomically
from vidgan.core.progress import Progress, say
from vidgan.data.build.encode import EncodedClip, EncodeJob, Rejected, encode_video, full_levels
from vidgan.data.build.engine import Crashed, map_in_order
from vidgan.data.settings import DataConfig
from vidgan.data.sources.source import Source
from vidgan.errors import UserError
from vidgan.models.base import Discriminator, Generator
from vidgan.sampling.generate import sample_clips
from vidgan.sampling.outputs import generator_fingerprint, labels_of
from vidgan.sampling.predict import LabelledClip, write_rows
from vidgan.sampling.projection import (
    Features,
    Projection,
    ProjectionOptions,
    check_label,
    project_clip,
    variations,
    with_motion,
)
from vidgan.sampling.storage import card_of, find_generator_file, load_generator
from vidgan.training.checkpoint import load_discriminators
from vidgan.training.presets import CONFIG_FILE, load_run_config

DECODE_SECONDS = 120.0
VARIATION = 0.3
"""Standard deviations of the latent between a clip and its variations."""

Reader = Callable[[EncodeJob], EncodedClip | Rejected]


def project(
    source: str | Path | Generator,
    clip: str | Path | Values,
    label: str | int | None = None,
    options: ProjectionOptions | None = None,
    *,
    checkpoint: str | int = "best",
    cut: DataConfig | None = None,
    progress: Progress | None = None,
) -> Projection:
    """Find the latent from which a generator makes a clip, as nearly as it can.

    Args:
        source: a generator that `load_generator` returned, or what that takes.
        clip: a video file, cut and resized as the clips of a run are; or a clip uint8
            `[C, T, H, W]` of the generator's size.
        label: its class, by name or number; None tries all classes.
        options: how long and how widely to search.
        checkpoint: of a run folder, see `load_generator`.
        cut: how a video becomes a clip; by default as in the run, or the central frames and pixels.
        progress: called with (done, total, what); what it raises ends the search.

    Returns:
        Latent, label and clip with their PSNR, that of controls, and a verdict with its reason.

    Raises:
        UserError: the generator has no latent or needs a context, or the clip does not fit.

    Example:
        >>> import vidgan
        >>> found = vidgan.project("zoo:shapes", "mine.mp4")  # doctest: +SKIP
        >>> found.verdict, found.psnr, found.latent  # doctest: +SKIP
    """
    generator = source if isinstance(source, Generator) else load_generator(source, checkpoint)
    if not isinstance(source, Generator):
        generator.to(default_device())
    if isinstance(clip, str | Path):
        target = read_target(clip, cut or cut_of(source, generator), generator)
    else:
        target = as_tensor(clip, "the clip")
    features = None if isinstance(source, Generator) else features_of(source, checkpoint, generator)
    number = _label_number(generator, label)
    return project_clip(generator, target, number, options, features, progress)


def _label_number(generator: Generator, label: str | int | None) -> int | None:
    if isinstance(label, str):
        labels = labels_of(generator, [0], label)
        return None if labels is None else int(labels[0])
    check_label(generator, label)
    return label


# ------------------------------------------------------------------------------------------------
# The clip


def cut_of(source: str | Path | Generator, generator: Generator) -> DataConfig:
    """How a video becomes a clip: as in the run, or as the generator's size demands."""
    if isinstance(source, str | Path) and (Path(source) / CONFIG_FILE).is_file():
        return load_run_config(source).data
    _, frames, resolution, _ = card_of(generator).clip_shape
    return DataConfig(frames=frames, resolution=resolution)


def read_target(
    path: str | Path, cut: DataConfig, generator: Generator, read: Reader = encode_video
) -> Tensor:
    """The clip that training would see of a video, at the size that the generator makes now.

    The video is decoded in a process of its own.

    Args:
        path: video file, or folder of numbered images.
        cut: how it becomes a clip.
        generator: as `load_generator` returns it.
        read: what decodes; a function of a module.

    Returns:
        uint8 `[C, T, H, W]`.

    Raises:
        UserError: not readable, or too short.
    """
    card = card_of(generator)
    policy = "central" if cut.clip == "random" else cut.clip
    cut = replace(cut, clip=policy, stored_frames=None)
    job = EncodeJob(Source(name=str(path), path=Path(path)), cut, full_levels(cut, ()))
    job = replace(job, preview=cut.resolution)
    (found,) = map_in_order(read, [job], 1, DECODE_SECONDS)
    if isinstance(found, Crashed | Rejected):
        raise UserError(f"{path}: {found.reason}")
    if found.notes:
        say(f"{path}: {', '.join(found.notes)}")
    assert found.preview is not None
    side = cut.resolution // card.stage.resolution
    return pool_uint8(
        torch.from_numpy(found.preview), (cut.frames // card.stage.frames, side, side)
    )


# ------------------------------------------------------------------------------------------------
# Features of a discriminator


def features_of(source: str | Path, checkpoint: str | int, generator: Generator) -> Features | None:
    """The features that a run's discriminators see clips by; None where there are none.

    Those that look at parts of clips, drawn at random, are left out, and so are those that return
    no encodings.
    """
    folder = find_generator_file(source, checkpoint).parent
    used = independent(load_discriminators(folder, card_of(generator)))
    for one in used:
        one.to(next(generator.parameters()).device)
    return partial(_encodings, used) if used else None


def independent(discriminators: list[Discriminator]) -> list[Discriminator]:
    """Those that look at whole clips, changed to see each row of a batch by itself."""
    used = [one for one in discriminators if one.draw_view(1, torch.Generator()) is None]
    for module in (module for one in used for module in one.modules()):
        if hasattr(module, "group_size"):
            setattr(module, "group_size", 1)  # noqa: B010
    return used


def _encodings(discriminators: list[Discriminator], clips: Tensor, labels: Tensor | None) -> Tensor:
    found = [one(clips, labels).encoding for one in discriminators]
    rows = [encoding.flatten(1) for encoding in found if encoding is not None]
    return torch.cat(rows, dim=1) if rows else clips.new_zeros(len(clips), 0)


# ------------------------------------------------------------------------------------------------
# What is written


def write_projection(
    video: Path, found: Projection, generator: Generator, clip: str = ""
) -> dict[str, Any]:
    """Write target and result side by side, the latent and a summary, beside each other.

    Args:
        video: the .mp4 to write; the latent gets the suffix .safetensors, the summary .json.
        found: what was found.
        generator: by which.
        clip: where the target comes from.

    Returns:
        The summary.
    """
    from safetensors.torch import save

    rows = [
        LabelledClip("target", found.target, found.target.shape[1]),
        LabelledClip("found", found.clip, 0),
    ]
    write_rows(video, rows, card_of(generator).fps)
    tensors = {"latent": found.latent.contiguous()}
    if found.label is not None:
        tensors["label"] = torch.tensor(found.label)
    content = save(tensors, metadata={"generator": generator_fingerprint(generator)})
    write_file_atomically(video.with_suffix(".safetensors"), lambda path: _write(path, content))
    summary = {"clip": clip} | summary_of(found, generator) | {"video": str(video)}
    write_json_atomically(video.with_suffix(".json"), summary)
    return summary


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def summary_of(found: Projection, generator: Generator) -> dict[str, Any]:
    """A projection as plain values, without its clips."""
    names = card_of(generator).class_names
    tensors = ("latent", "target", "clip")
    facts = {name: value for name, value in vars(found).items() if name not in tensors}
    return {
        **facts,
        "class": None if found.label is None else names[found.label],
        "step": card_of(generator).step,
        "generator": generator_fingerprint(generator),
        "latent": found.latent.tolist(),
    }


def write_variations(
    path: Path, found: Projection, generator: Generator, count: int, seed: int = 0
) -> None:
    """Write the found clip and clips of latents near it, side by side."""
    latents = torch.cat([found.latent[None], variations(found.latent, count, VARIATION, seed)])
    clips = sample_clips(generator, latents, found.label)
    names = ["found", *(f"variation {number}" for number in range(1, count + 1))]
    rows = [LabelledClip(name, clip, 0) for name, clip in zip(names, clips, strict=True)]
    write_rows(path, rows, card_of(generator).fps)


def write_moved(path: Path, found: Projection, other: Projection, generator: Generator) -> None:
    """Write what one clip shows as it moves in another one, beside both."""
    latent = with_motion(generator, found.latent, other.latent)
    clip = sample_clips(generator, latent[None], found.label)[0]
    rows = [
        LabelledClip("target", found.target, found.target.shape[1]),
        LabelledClip("motion", other.target, other.target.shape[1]),
        LabelledClip("moved", clip, 0),
    ]
    write_rows(path, rows, card_of(generator).fps)
