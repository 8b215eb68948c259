"""From one source video to the stored bytes of one item, or to the reason why there is none."""

import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np
from torch import Tensor

from vidgan.data.index import Level
from vidgan.data.payload import codec_for, encode_payload, pool_uint8
from vidgan.data.settings import DataConfig
from vidgan.errors import UserError
from vidgan.video import (
    CorruptVideoError,
    FrameStream,
    VideoError,
    VideoInfo,
    probe,
    read_frames,
)
from vidgan.video_frames import stack_frames

_MAX_ITEM_BYTES = 1 << 30
_MAX_RESAMPLED_FRAMES = 10_000_000
"""Over four days of 25 frames a second: only damaged time stamps reach further."""


@dataclass(frozen=True)
class EncodeJob:
    """One video and what to make of it; sent to worker processes."""

    path: str
    config: DataConfig
    levels: tuple[Level, ...]
    preview: int | None = None
    """Side in pixels of the clip that is returned to be looked at instead of stored bytes."""


@dataclass(frozen=True)
class EncodedClip:
    """One stored item.

    Attributes:
        payloads: Bytes for every level, full size first.
        checksums: CRC-32 of each payload.
        stored_frames: Frames of the full-size level.
        fps: Rate at which the stored frames play.
        notes: What was unusual about the video and was handled.
        num_corrupt: Frames of the video that are damaged or cut off.
        preview: uint8 `[3, T, H, W]` if the job asked for one.
    """

    payloads: tuple[bytes, ...]
    checksums: tuple[int, ...]
    stored_frames: int
    fps: float
    notes: tuple[str, ...]
    num_corrupt: int = 0
    preview: Tensor | None = None


@dataclass(frozen=True)
class Rejected:
    """Why a video gives no item; `num_frames` is how many it had after stride and fps."""

    reason: str
    num_frames: int | None = None


def full_levels(config: DataConfig, levels: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """The stored levels, full size first, checked to divide it.

    Raises:
        UserError: a level does not divide the clip by whole factors.
    """
    full = Level(config.frames, config.resolution)
    for frames, resolution in levels:
        if frames < 1 or resolution < 1 or full.frames % frames or full.resolution % resolution:
            raise UserError(
                f"the level of {frames} frames at {resolution} pixels does not divide clips of"
                f" {full.frames} frames at {full.resolution} pixels by whole factors:"
                " change data.frames, data.resolution or the model's levels"
            )
    lower = {Level(*level) for level in levels} - {full}
    return (full, *sorted(lower, reverse=True))


def encode_video(job: EncodeJob) -> EncodedClip | Rejected:
    """Decode, cut, resize, pool and encode one video; no damage raises."""
    config = job.config
    try:
        info = probe(job.path)
        if info.duration_s * (config.fps or 0) > _MAX_RESAMPLED_FRAMES:
            hours = info.duration_s / 3600
            return Rejected(f"has time stamps over {hours:.0f} hours, too long for data.fps")
        timeline = _timeline(info.frame_times_s, config)
        chosen = _choose(timeline, job)
        if isinstance(chosen, Rejected):
            return chosen
        try:
            clip, num_corrupt = _read(job, chosen), info.num_missing
            if config.strict:
                num_corrupt += _count_clean(job).num_corrupt
        except CorruptVideoError:
            # Number the frames that do decode, and choose again among those. They are counted
            # first and read then: all frames of a film need not fit in memory.
            counted = _count_clean(job)
            times = [n / info.fps for n in range(counted.num_frames)]
            num_lost = max(counted.num_corrupt, info.num_frames - counted.num_frames)
            num_corrupt = info.num_missing + num_lost
            timeline = _timeline(times, config)
            chosen = _choose(timeline, job)
            if isinstance(chosen, Rejected):
                reason = f"{chosen.reason}, with {num_corrupt} damaged or missing ones"
                return Rejected(reason, chosen.num_frames)
            clip = _read_clean(job, chosen)
    except VideoError as error:
        return Rejected(error.cause)
    fps = (config.fps or info.fps) / config.stride
    notes = _notes(info, num_corrupt, len(timeline), config)
    if job.preview is not None:
        factor = max(1, clip.shape[2] // job.preview)
        small = clip[:, :, : clip.shape[2] // factor * factor, : clip.shape[3] // factor * factor]
        return EncodedClip(
            (),
            (),
            clip.shape[1],
            fps,
            notes,
            num_corrupt,
            pool_uint8(small, (1, factor, factor)),
        )
    full = job.levels[0]
    payloads = []
    for level in job.levels:
        space = full.resolution // level.resolution
        pooled = pool_uint8(clip, (full.frames // level.frames, space, space))
        payloads.append(encode_payload(pooled, codec_for(config.payload, level.resolution)))
    checksums = tuple(zlib.crc32(payload) for payload in payloads)
    return EncodedClip(tuple(payloads), checksums, clip.shape[1], fps, notes, num_corrupt)


def _read(job: EncodeJob, chosen: list[int]) -> Tensor:
    config = job.config
    return read_frames(job.path, chosen, resolution=config.resolution, resize=config.resize).clip


def _count_clean(job: EncodeJob) -> FrameStream:
    """Decode all of a video, and keep nothing but the counts."""
    stream = FrameStream(job.path, wanted=())
    deque(stream, maxlen=0)
    return stream


def _read_clean(job: EncodeJob, chosen: list[int]) -> Tensor:
    """The frames with these numbers among those that decode."""
    config = job.config
    stream = FrameStream(job.path, frozenset(chosen), config.resolution, config.resize)
    found = dict(stream)
    return stack_frames([found[n] for n in chosen])


def _timeline(times_s: Sequence[float], config: DataConfig) -> list[int]:
    """Frame numbers after resampling to `config.fps` and taking every stride-th."""
    frames = np.arange(len(times_s))
    if config.fps is not None:
        times = np.asarray(times_s)
        usual = (times[-1] - times[0]) / max(1, len(times) - 1) or 1 / config.fps
        # A frame is shown until the next one starts; the small shift keeps equal rates exact.
        ticks = np.arange(0, times[-1] + usual - 1e-6, 1 / config.fps) + 1e-6
        frames = np.searchsorted(times, ticks, side="right") - 1
    chosen: list[int] = frames[:: config.stride].tolist()
    return chosen


def _choose(timeline: list[int], job: EncodeJob) -> list[int] | Rejected:
    """Cut the frames to store out of the timeline, or say why it is too short."""
    config = job.config
    count = len(timeline)
    if count < config.frames:
        if config.short == "drop" or not timeline:
            return Rejected(f"has {count} of {config.frames} frames", count)
        if config.short == "loop":
            return [timeline[n % count] for n in range(config.frames)]
        return timeline + [timeline[-1]] * (config.frames - count)
    length = min(count, config.num_stored or count)
    # Every stored level must hold whole groups of frames.
    length -= length % lcm(*(job.levels[0].frames // level.frames for level in job.levels))
    num_bytes = 3 * length * config.resolution**2
    if num_bytes > _MAX_ITEM_BYTES:
        return Rejected(
            f"would take {num_bytes / 2**30:.1f} GiB with all its {length} frames"
            " (set data.stored_frames)"
        )
    start = 0 if config.clip == "first" else (count - length) // 2
    return timeline[start : start + length]


def _notes(
    info: VideoInfo, num_corrupt: int, num_frames: int, config: DataConfig
) -> tuple[str, ...]:
    notes = []
    if num_corrupt:
        notes.append(f"damaged: {num_corrupt} frames lost")
    if info.is_grey:
        notes.append("grey")
    if info.rotation:
        notes.append(f"rotated by {info.rotation} degrees")
    if info.is_variable_rate:
        notes.append("variable frame rate")
    if info.width % 2 or info.height % 2:
        notes.append("odd size")
    if info.codec == "images":
        notes.append("numbered images")
    if min(info.width, info.height) < config.resolution:
        notes.append(f"enlarged to {config.resolution} pixels")
    if num_frames < config.frames:
        notes.append("looped" if config.short == "loop" else "last frame held")
    return tuple(notes)
