"""From one source video to the stored bytes of one item, or the reason why it was dropped.

Nothing here needs torch, so a worker process that does this starts within half a second.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidgan.core.shapes import LevelShape
from vidgan.data.build.quality import find_flaws, measure_clip
from vidgan.data.packed.payload import codec_for, encode_payload, is_one_column, pool_pixels, shrunk
from vidgan.data.settings import DataConfig
from vidgan.data.sources.containers.reading import VideoReader
from vidgan.data.sources.source import Source
from vidgan.data.sources.videos import open_source
from vidgan.errors import UserError
from vidgan.video import CorruptVideoError, VideoError, VideoInfo
from vidgan.video.frames import Pixels

_MAX_ITEM_BYTES = 1 << 30
_MAX_RESAMPLED_FRAMES = 10_000_000
"""Over four days of 25 frames a second: only damaged time stamps reach further."""


@dataclass(frozen=True)
class EncodeJob:
    """One video and what to make of it; sent to worker processes."""

    source: Source
    config: DataConfig
    levels: tuple[LevelShape, ...]
    preview: int | None = None
    """Side in pixels of a preview that is returned instead of stored bytes."""


@dataclass(frozen=True)
class EncodedClip:
    """One stored item.

    Attributes:
        payloads: bytes for every level, full size first.
        checksums: CRC-32 of each payload.
        stored_frames: frames of the full-size level.
        fps: rate at which the stored frames play.
        notes: what was unusual about the video.
        num_corrupt: frames of the video that are damaged or cut off.
        num_bytes: length of all payloads together.
        flaws: quality problems of the clip, described by filter of `QualityConfig`.
        signature: near for clips that look alike.
        preview: uint8 `[3, T, H, W]` if the job asked for one.
    """

    payloads: tuple[bytes, ...]
    checksums: tuple[int, ...]
    stored_frames: int
    fps: float
    notes: tuple[str, ...]
    num_corrupt: int
    num_bytes: int
    flaws: dict[str, str]
    signature: bytes
    preview: Pixels | None = None


@dataclass(frozen=True)
class Rejected:
    """Why a video was dropped; `num_frames` is how many it had after stride and fps.

    A video that `is_broken` would be dropped or damaged under other settings too.
    """

    reason: str
    num_frames: int | None = None
    is_broken: bool = False


def full_levels(config: DataConfig, levels: Sequence[tuple[int, int]]) -> tuple[LevelShape, ...]:
    """The stored levels, full size first, checked to divide it.

    Raises:
        UserError: a level does not divide the clip by whole factors.
    """
    full = LevelShape(config.frames, config.resolution)
    for frames, resolution in levels:
        if frames < 1 or resolution < 1 or full.frames % frames or full.resolution % resolution:
            raise UserError(
                f"the level of {frames} frames at {resolution} pixels does not divide clips of"
                f" {full.frames} frames at {full.resolution} pixels by whole factors:"
                " change data.frames, data.resolution or the model's levels"
            )
    lower = {LevelShape(*level) for level in levels} - {full}
    return (full, *sorted(lower, reverse=True))


def encode_video(job: EncodeJob) -> EncodedClip | Rejected:
    """Decode, cut, resize, pool and encode one video; damage never raises."""
    try:
        with open_source(job.source) as video:
            cut = _cut(video, job)
            if isinstance(cut, Rejected):
                return cut
            return _encode(cut, job)
    except VideoError as error:
        return Rejected(error.cause, is_broken=True)


@dataclass(frozen=True)
class _Cut:
    """Frames that were read, with remarks.

    Attributes:
        clip: uint8 `[3, T, H, W]`, square.
        info: of the whole video.
        num_corrupt: its frames that are damaged or cut off.
        num_frames: frames that there were to choose from.
        strip: bytes that hold exactly this clip as a JPEG strip, if the video is one.
    """

    clip: Pixels
    info: VideoInfo
    num_corrupt: int
    num_frames: int
    strip: bytes | None


def _cut(video: VideoReader, job: EncodeJob) -> _Cut | Rejected:
    config = job.config
    info = video.probe()
    if info.duration_s * (config.fps or 0) > _MAX_RESAMPLED_FRAMES:
        hours = info.duration_s / 3600
        return Rejected(f"has time stamps over {hours:.0f} hours, too long for data.fps")
    timeline = _timeline(info.frame_times_s, config)
    strip = video.jpeg_strip if _strip_fits(info, job) else None
    chosen = _choose(timeline, job, keep_all=strip is not None)
    if isinstance(chosen, Rejected):
        return chosen
    if chosen != list(range(info.num_frames)):
        strip = None
    try:
        clip = video.read(chosen, config.resolution, config.resize).pixels
        num_corrupt = info.num_missing
        if config.strict:
            num_corrupt += video.count_clean().num_corrupt
    except CorruptVideoError:
        # Number the frames that do decode, and choose again among those. They are counted
        # first and read then: all frames of a film need not fit in memory.
        counted = video.count_clean()
        times = [n / info.fps for n in range(counted.num_frames)]
        num_lost = max(counted.num_corrupt, info.num_frames - counted.num_frames)
        num_corrupt = info.num_missing + num_lost
        timeline = _timeline(times, config)
        chosen = _choose(timeline, job)
        if isinstance(chosen, Rejected):
            reason = f"{chosen.reason}, with {num_corrupt} damaged or missing ones"
            return Rejected(reason, chosen.num_frames, is_broken=True)
        clip, strip = video.read_clean(chosen, config.resolution, config.resize), None
    return _Cut(clip, info, num_corrupt, len(timeline), strip)


def _strip_fits(info: VideoInfo, job: EncodeJob) -> bool:
    """Whether the bytes of a JPEG strip can be the payload as they are, with all of its frames.

    Windows are cut out when samples are read, so longer strips serve as well as those that fit.
    """
    config, full = job.config, job.levels[0]
    return (
        codec_for(config.payload, full.resolution) == "jpeg"
        and info.width == info.height == full.resolution
        and is_one_column(info.num_frames, full.resolution)
        and config.fps is None
        and config.stride == 1
        and config.stored_frames is None
    )


def _encode(cut: _Cut, job: EncodeJob) -> EncodedClip | Rejected:
    config, clip = job.config, cut.clip
    measures = measure_clip(clip, config.quality, is_padded=config.resize == "letterbox")
    found = find_flaws(measures, config.quality)
    unwanted = [what for name, what in found.items() if getattr(config.quality, name) == "drop"]
    if unwanted:
        return Rejected(", ".join(unwanted), clip.shape[1])
    payloads = _payloads(cut, job)
    return EncodedClip(
        payloads=() if job.preview else payloads,
        checksums=() if job.preview else tuple(zlib.crc32(payload) for payload in payloads),
        stored_frames=clip.shape[1],
        fps=(config.fps or cut.info.fps) / config.stride,
        notes=_notes(cut.info, cut.num_corrupt, cut.num_frames, config),
        num_corrupt=cut.num_corrupt,
        num_bytes=sum(map(len, payloads)),
        flaws=found,
        signature=measures.signature.tobytes(),
        preview=shrunk(clip, job.preview) if job.preview else None,
    )


def _payloads(cut: _Cut, job: EncodeJob) -> tuple[bytes, ...]:
    config, full = job.config, job.levels[0]
    payloads = []
    for level in job.levels:
        space = full.resolution // level.resolution
        if level == full and cut.strip is not None:
            payloads.append(cut.strip)
            continue
        time = full.frames // level.frames
        # A lower level holds whole groups of frames; the full one, which has every frame, holds
        # what it would without them.
        groups = cut.clip[:, : cut.clip.shape[1] // time * time]
        pooled = pool_pixels(groups, (time, space, space))
        payloads.append(encode_payload(pooled, codec_for(config.payload, level.resolution)))
    return tuple(payloads)


def _timeline(times_s: Sequence[float], config: DataConfig) -> list[int]:
    """Frame numbers after resampling to `config.fps` and taking every stride-th."""
    frames = range(len(times_s)) if config.fps is None else resampled(times_s, config.fps)
    return list(frames[:: config.stride])


def resampled(times_s: Sequence[float], fps: float) -> list[int]:
    """Numbers of the frames that are shown at 0, 1 / fps, 2 / fps, ... seconds.

    A frame is shown until the next one starts. Containers round times, some to 10 ms, so the look
    comes half a frame later (of the faster rate): in the middle of frames, and not at their starts,
    where rounding would decide. A file at its own rate gives every frame once, at a whole fraction
    of it every second or third.

    Args:
        times_s: increasing times of the frames, the first at 0.
        fps: frames per second to make.
    """
    times = np.asarray(times_s)
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 1 / fps
    later = min(usual, 1 / fps) / 2
    ticks = np.arange(0, times[-1] + usual - later, 1 / fps) + later
    frames: list[int] = (np.searchsorted(times, ticks, side="right") - 1).tolist()
    return frames


def _choose(timeline: list[int], job: EncodeJob, *, keep_all: bool = False) -> list[int] | Rejected:
    """Cut the frames to store out of the timeline, or say why it is too short."""
    config = job.config
    count = len(timeline)
    if count < config.frames:
        if config.short == "drop" or not timeline:
            return Rejected(f"has {count} of {config.frames} frames", count)
        if config.short == "loop":
            return [timeline[n % count] for n in range(config.frames)]
        return timeline + [timeline[-1]] * (config.frames - count)
    length = count if keep_all else min(count, config.num_stored or count)
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
    notes += info.remarks
    if info.width % 2 or info.height % 2:
        notes.append("odd size")
    if info.codec == "images":
        notes.append("numbered images")
    if min(info.width, info.height) < config.resolution:
        notes.append(f"enlarged to {config.resolution} pixels")
    if num_frames < config.frames:
        notes.append("looped" if config.short == "loop" else "last frame held")
    return tuple(notes)
