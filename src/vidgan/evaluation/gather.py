"""Gathering the clips of an evaluation: generated ones and real ones of the same size."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from vidgan.core.files import sha256_of
from vidgan.core.progress import Notify
from vidgan.core.randomness import derive_seed, keyed_rng
from vidgan.core.settings import Range, from_dict, to_dict
from vidgan.data.dataset import ClipDataset, Window, central_window, first_window
from vidgan.data.packed.manifest import is_packed
from vidgan.data.packed.store import PackedStore
from vidgan.data.scorable import MIN_CLIPS, STAND_IN_SHARE, count_windows
from vidgan.data.settings import DataConfig
from vidgan.data.sources.generated import first_shape, is_clip_source, read_generated
from vidgan.errors import UserError
from vidgan.evaluation.checks import check_clip_shape
from vidgan.evaluation.clips import EvaluationOptions
from vidgan.evaluation.metric import ClipRule
from vidgan.evaluation.protocols import Protocol, protocol_id
from vidgan.evaluation.record_types import ClipLists, GeneratorFacts, Plain, Record
from vidgan.evaluation.score import RealData, plan_comparison, proportional_labels
from vidgan.extractors.judge import RealClips
from vidgan.models.base import Generator
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.sampling.predict import part_windows, targets_of
from vidgan.sampling.storage import (
    CHECKPOINTS_FOLDER,
    GENERATOR_FILE,
    card_of,
    find_generator_file,
    load_generator,
    read_card,
)

# ------------------------------------------------------------------------------------------------
# The inputs of a record, in enough detail to recompute it and to find edits

Level = Annotated[tuple[int, int], Range(1, 65_536)]
"""Frames and pixels a side of stored clips."""


@dataclass(frozen=True, kw_only=True)
class SourceInputs:
    """Where generated clips or their generator lie; `sha256` of a generator's file."""

    kind: Literal["memory", "generator", "folder"] = "memory"
    path: str = ""
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataInputs:
    """Where real clips come from and how they were cut; `seed` chooses them."""

    kind: Literal["memory", "videos", "packed"] = "memory"
    settings: DataConfig = field(default_factory=DataConfig)
    seed: int = 0
    levels: tuple[Level, ...] = ()
    manifest_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class OptionInputs:
    """What may change the last digits, and the requested number of predictions."""

    device: str
    threads: int
    num_clips: int = 0
    num_samples: int = 0


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A record's `inputs`, typed; see `read_inputs`.

    Attributes:
        weights: hashes of the weights that the user has, by the network's part in the evaluation.
    """

    source: SourceInputs
    data: DataInputs
    weights: dict[str, str | None]
    options: OptionInputs

    def to_dict(self) -> Plain:
        """Plain values, as a record holds them; counts that nobody asked for are left out."""
        asked = {name: value for name, value in to_dict(self.options).items() if value}
        return {
            "source": plain_origin(self.source),
            "data": plain_origin(self.data),
            "weights": self.weights,
            "options": asked,
        }


def plain_origin(part: SourceInputs | DataInputs) -> Plain:
    """Plain values of what is known; of clips that were never in a file that alone."""
    if part.kind == "memory":
        return {"kind": part.kind}
    return {name: value for name, value in to_dict(part).items() if value is not None}


def read_inputs(record: Record, where: str) -> Inputs:
    """The inputs that a record names; `where` names it in messages.

    Raises:
        UserError: a part of it does not fit.
    """
    return from_dict(Inputs, record.inputs or {}, f"{where}, inputs")


def generator_origin(path: Path, facts: GeneratorFacts) -> SourceInputs:
    """Where a generator lies; `facts` are those of `file_facts`."""
    return SourceInputs(kind="generator", path=str(path), sha256=facts.sha256)


def data_inputs(data: ClipDataset, seed: int, size: tuple[int, int] | None = None) -> DataInputs:
    """Where real clips come from and how they were cut, enough to read them again.

    Args:
        data: the clips; its own seed orders them for training and moves no score.
        seed: of the evaluation, which chooses among them.
        size: frames and side that were read, by default all of both: stored levels that moved
            nothing are left out, for nothing could tell whether they were there.
    """
    store, config = data.store, data.config
    if not isinstance(store, PackedStore):
        return DataInputs()
    levels = tuple(data.levels_read(*(size or (config.frames, config.resolution))))
    if config.path and not is_packed(config.path):
        return DataInputs(kind="videos", settings=config, seed=seed, levels=levels)
    return DataInputs(
        kind="packed",
        settings=replace(config, path=str(store.path)),
        seed=seed,
        levels=levels,
        manifest_sha256=sha256_of(store.manifest_file),
    )


def list_real_clips(real: RealData) -> ClipLists:
    """Name, label and checksum of every real clip, by split."""
    return {split: _of(part) for split, part in (("train", real.train), ("heldout", real.heldout))}


def list_clips(names: Sequence[str], clips: Tensor, labels: Tensor | None) -> dict[str, list[Any]]:
    """Name, label (-1 without one) and CRC-32 of the pixels of clips `[M, C, T, H, W]`."""
    return {
        "name": list(names),
        "label": [-1] * len(names) if labels is None else labels.tolist(),
        "crc32": [zlib.crc32(clip.contiguous().numpy()) for clip in clips],
    }


def _of(part: RealClips) -> dict[str, list[Any]]:
    return list_clips(part.video_ids, part.clips, part.labels)


# ------------------------------------------------------------------------------------------------
# Gathering the clips of an evaluation: generated ones and real ones of the same size

READ_BATCH = 64
SAMPLE_BATCH = 32

GeneratedBatches = Iterable[tuple[Tensor, Tensor | None]]
"""Batches of generated clips, uint8 `[B, C, T, H, W]`, with the labels they should show."""

Source = str | Path | Generator | GeneratedBatches
"""What can be evaluated; see `vidgan.evaluate`."""


@dataclass(frozen=True)
class Gathered:
    """The input of `evaluate_clips`.

    Attributes:
        clips: generated, uint8 `[M, C, T, H, W]`; floats in [-1, 1] of a generator under a protocol
            that does not round.
        labels: classes they should show, int64 `[M]`, or None.
        real: real clips of the same shape.
        facts: what the record says of the generator.
        origin: where the generated clips or their generator lie.
        names: of the generated clips; empty unless they are files.
        warnings: sentences for the record.
    """

    clips: Tensor
    labels: Tensor | None
    real: RealData
    facts: GeneratorFacts = field(default_factory=GeneratorFacts)
    origin: SourceInputs = field(default_factory=SourceInputs)
    names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def is_folder_of_clips(source: str | Path) -> bool:
    """Whether a path holds generated clips, and no generator to make them."""
    path = Path(source)
    has_generator = (path / GENERATOR_FILE).exists() or (path / CHECKPOINTS_FOLDER).exists()
    is_run = has_generator or (path / "config.yaml").exists()
    return is_clip_source(path) and not is_run


def clip_size(source: Source, checkpoint: str | int) -> tuple[int, int] | None:
    """Frames and pixels a side of the clips that a source makes or holds; None where only they
    themselves tell."""
    if isinstance(source, Generator):
        _, frames, resolution, _ = card_of(source).clip_shape
        return frames, resolution
    return stored_size(source, checkpoint) if isinstance(source, str | Path) else None


def stored_size(source: str | Path, checkpoint: str | int) -> tuple[int, int]:
    """Frames and pixels a side of the clips that a generator's file makes or a folder holds."""
    if is_folder_of_clips(source):
        return first_shape(source)
    _, frames, resolution, _ = read_card(find_generator_file(source, checkpoint)).clip_shape
    return frames, resolution


def gather(
    source: Source, data: ClipDataset, protocol: Protocol, options: EvaluationOptions
) -> Gathered:
    """Generated clips of any source and the real ones they are compared with.

    Raises:
        UserError: the source or the data cannot be used.
    """
    seed, notify = options.seed, options.notify
    if isinstance(source, str | Path) and is_folder_of_clips(source):
        return _gather_from_folder(source, data, protocol, seed, notify)
    facts = GeneratorFacts()
    origin = SourceInputs()
    if isinstance(source, str | Path):
        # The file is chosen once, so that facts and weights belong together.
        file = find_generator_file(source, options.checkpoint)
        facts = file_facts(file)
        origin = generator_origin(file, facts)
        source = load_generator(file)
    if not isinstance(source, Generator):
        return _gather_from_batches(source, data, protocol, seed, notify)
    check_classes(source, data)
    facts = with_context(facts, source)
    collect = _gather_continued if source.context_frames else _gather_from_generator
    found = collect(source.to(options.device), data, protocol, options)
    return replace(found, facts=facts, origin=origin)


def gather_real(
    data: ClipDataset, frames: int, resolution: int, protocol: Protocol, seed: int
) -> RealData:
    """Training and held-out clips of a data set at a generator's size.

    Without a held-out split, a seeded fifth of the training videos stands in for it.

    Raises:
        UserError: there is none, and the protocol compares with a split as it is.
    """
    rule, size = protocol.clip_rule, (frames, resolution)
    split = data.heldout_split
    fewest = 2 * MIN_CLIPS if split else STAND_IN_SHARE * MIN_CLIPS
    train = _gather_split(data, "train", size, protocol, seed, fewest)
    if split is not None:
        heldout = _gather_split(data, split, size, protocol, seed, MIN_CLIPS)
        return RealData(train, heldout, data.classes, _windows_told(train, heldout), rule)
    if protocol.reference_split == "heldout" or protocol.reference_rule == "whole split":
        raise UserError(
            f"protocol {protocol_id(protocol)} compares with the {protocol.reference_split} split "
            "as it is, and these data have no held-out split: hold videos out "
            "(data.heldout_fraction=0.1), or take another protocol"
        )
    videos = sorted(set(train.video_ids))
    order = torch.randperm(len(videos), generator=keyed_rng(seed, "stand-in videos")).tolist()
    stand_in = {videos[i] for i in order[: len(videos) // STAND_IN_SHARE]}
    is_unseen = torch.tensor([video in stand_in for video in train.video_ids])
    warning = (
        "the data has no held-out split: a fifth of the training videos, which the generator may "
        "have seen, stands in for it"
    )
    rows = torch.arange(len(train))
    seen, unseen = train.take(rows[~is_unseen]), train.take(rows[is_unseen])
    told = (warning, *_windows_told(seen, unseen))
    return RealData(seen, unseen, data.classes, told, rule)


def _windows_told(*parts: RealClips) -> tuple[str, ...]:
    """A warning if several clips are windows of one video."""
    videos = [len(set(part.video_ids)) for part in parts]
    if all(count == len(part) for count, part in zip(videos, parts, strict=True)):
        return ()
    (seen, unseen), (clips, unseen_clips) = videos, map(len, parts)
    sentence = (
        f"there are so few videos that windows of long ones count as clips: {clips} of {seen} "
        f"training videos, {unseen_clips} of {unseen} held-out ones"
    )
    return (sentence,)


def _gather_split(
    data: ClipDataset,
    split: str,
    size: tuple[int, int],
    protocol: Protocol,
    seed: int,
    fewest: int,
) -> RealClips:
    """Clips of a split, as many as the protocol reads at most, chosen by `seed` if there are more.

    Args:
        size: frames and pixels a side.
        fewest: videos that suffice with one clip each.
    """
    items = [item for item in data.store.items if item.split == split]
    counts = count_windows(items, data.config.frames, fewest)
    if sum(counts) > len(items):
        return _gather_windows(data, split, size, counts)
    videos = [item.source for item in items]
    order = torch.randperm(len(videos), generator=keyed_rng(seed, "real clips", split))
    chosen = torch.zeros(len(videos), dtype=torch.bool)
    chosen[order[: protocol.max_train_clips or None]] = True
    clips, labels, start = [], [], 0
    window = _window(protocol.clip_rule, seed)
    for batch, batch_labels in data.iter_clips(split, *size, READ_BATCH, window):
        keep = chosen[start : start + batch.shape[0]]
        clips.append(batch[keep])
        labels.append(batch_labels[keep])
        start += batch.shape[0]
    kept = tuple(video for video, is_kept in zip(videos, chosen.tolist(), strict=True) if is_kept)
    return RealClips(torch.cat(clips), torch.cat(labels), kept)


def _gather_windows(
    data: ClipDataset, split: str, size: tuple[int, int], counts: Sequence[int]
) -> RealClips:
    """Evenly spaced windows of the few videos of a split, so many of each, video by video."""
    rows = [index for index, item in enumerate(data.store.items) if item.split == split]
    count_of = dict(zip(rows, counts, strict=True))
    passes = []
    for number in range(max(counts)):

        def window(index: int, num_starts: int, number: int = number) -> int:
            return min(number * (num_starts - 1) // max(1, count_of[index] - 1), num_starts - 1)

        batches = data.iter_clips(split, *size, READ_BATCH, window)
        passes.append([torch.cat(part) for part in zip(*batches, strict=True)])
    chosen = [(n, v) for v, count in enumerate(counts) for n in range(count)]
    clips, labels = (torch.stack([passes[n][part][v] for n, v in chosen]) for part in (0, 1))
    return RealClips(clips, labels, tuple(data.store.items[rows[v]].source for _, v in chosen))


def _window(rule: ClipRule, seed: int) -> Window:
    """The frames that a protocol compares of longer stored clips."""
    if rule == "first window of every clip":
        return first_window
    if rule == "central window of every clip":
        return central_window
    return lambda index, count: derive_seed(seed, "evaluation window", index) % count


def _gather_from_generator(
    generator: Generator, data: ClipDataset, protocol: Protocol, options: EvaluationOptions
) -> Gathered:
    seed = options.seed
    # Two clips reveal the size at the generator's present stage.
    shape = _generate(generator, torch.zeros(2, dtype=torch.int64), options)[0].shape
    check_clip_shape(protocol, shape[1:])
    options.notify("reading real clips")
    real = gather_real(data, shape[2], shape[3], protocol, seed)
    n = plan_comparison(real, protocol.num_clips, seed, protocol).n
    options.notify(f"generating {protocol.num_clips} clips")
    asked = _asked_labels(real.train.labels, protocol.num_clips, n, seed)
    return Gathered(*_generate(generator, asked, options, quantise=_rounds(protocol)), real)


def _gather_continued(
    generator: Generator, data: ClipDataset, protocol: Protocol, options: EvaluationOptions
) -> Gathered:
    """Generated continuations of held-out clips, in seeded order, and the true ones."""
    seed = options.seed
    options.notify("reading real clips")
    windows = gather_real(data, data.config.frames, data.config.resolution, protocol, seed)
    parted = part_windows(generator, windows.heldout.clips, seed)
    train = replace(windows.train, clips=targets_of(generator, windows.train.clips))
    heldout = replace(windows.heldout, clips=parted.target)
    order = torch.randperm(len(heldout), generator=keyed_rng(seed, "evaluation contexts"))
    if generator.latent_dim():
        # Given the same frames again, another latent makes another clip.
        order = order.repeat(-(-protocol.num_clips // len(order)))
    rows = order[: protocol.num_clips]
    options.notify(f"continuing {len(rows)} held-out clips")
    asked = heldout.labels[rows]
    clips, _ = _generate(generator, asked, options, parted.context[rows], _rounds(protocol))
    real = replace(windows, train=train, heldout=heldout)
    return Gathered(parted.new_frames(generator, clips), asked if data.classes else None, real)


def _rounds(protocol: Protocol) -> bool:
    """Whether a generator rounds its own clips; floats are rounded, or not, in the scoring."""
    return protocol.quantise and protocol.rounding == "nearest"


def _gather_from_batches(
    batches: GeneratedBatches, data: ClipDataset, protocol: Protocol, seed: int, notify: Notify
) -> Gathered:
    clips, labels = _collect(batches, protocol.num_clips)
    notify("reading real clips")
    real = gather_real(data, clips.shape[2], clips.shape[3], protocol, seed)
    return Gathered(clips, labels, real)


def _gather_from_folder(
    source: str | Path, data: ClipDataset, protocol: Protocol, seed: int, notify: Notify
) -> Gathered:
    """Clips that another program left in files."""
    notify(f"reading the generated clips in {source}")
    size = data.config.frames, data.config.resolution
    found = read_generated(source, *size, data.classes, protocol.num_clips, seed)
    notify("reading real clips")
    real = gather_real(data, found.clips.shape[2], found.clips.shape[3], protocol, seed)
    return Gathered(
        found.clips,
        found.labels,
        real,
        facts=GeneratorFacts(
            source="folder",
            details={
                "num_found": found.num_found,
                "formats": found.formats,
                "num_lossy": found.num_lossy,
            },
        ),
        origin=SourceInputs(kind="folder", path=str(source)),
        names=found.names,
        warnings=found.warnings,
    )


def _generate(
    generator: Generator,
    asked: Tensor,
    options: EvaluationOptions,
    context: Tensor | None = None,
    quantise: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """One clip for each asked label, and context; latent i depends on (seed, i) alone."""
    labels = asked if generator.num_classes else None

    def batch(start: int, stop: int) -> dict[str, Tensor]:
        numbers = range(start, stop)
        seeds = [derive_seed(options.seed, "evaluation latent", i) for i in numbers]
        latents = sample_latents(generator, seeds)
        asked_for = None if labels is None else labels[start:stop]
        given = None if context is None else context[start:stop]
        return {"clips": sample_clips(generator, latents, asked_for, given, quantise=quantise)}

    return options.processes.share_rows(len(asked), SAMPLE_BATCH, batch)["clips"], labels


def _asked_labels(labels: Tensor, count: int, n: int, seed: int) -> Tensor:
    """Labels for `count` clips; each group of n holds the classes as often as real clips do."""
    groups = range(-(-count // n))
    return torch.cat([proportional_labels(labels, n, derive_seed(seed, g)) for g in groups])[:count]


def _collect(batches: GeneratedBatches, limit: int) -> tuple[Tensor, Tensor | None]:
    clips: list[Tensor] = []
    labels: list[Tensor] = []
    count = 0
    for batch, batch_labels in batches:
        clips.append(batch)
        if batch_labels is not None:
            labels.append(batch_labels)
        count += batch.shape[0]
        if count >= limit:
            break
    if not clips:
        raise UserError("there are no generated clips to evaluate")
    return torch.cat(clips), torch.cat(labels) if len(labels) == len(clips) else None


def check_classes(generator: Generator, data: ClipDataset) -> None:
    """Raise UserError unless a conditional generator knows as many classes as the data has."""
    if generator.num_classes and generator.num_classes != len(data.classes):
        raise UserError(
            f"the generator knows {generator.num_classes} classes and the data has "
            f"{len(data.classes)}; evaluate it on the data it was trained on"
        )


def file_facts(path: Path) -> GeneratorFacts:
    """A record's entry on a generator file."""
    card = read_card(path)
    return GeneratorFacts(
        source="file",
        sha256=sha256_of(path),
        step=card.step,
        clips_seen=card.clips_seen,
        loss=card.loss,
        model=card.model,
        details={"file": path.name, "weights": "averaged", "truncation": None},
    )


def with_context(facts: GeneratorFacts, generator: Generator) -> GeneratorFacts:
    """Adds what a generator is given as context."""
    return replace(facts, given_frames=generator.context_frames, given=generator.context_kind)
