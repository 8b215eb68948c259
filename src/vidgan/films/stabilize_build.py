"""A folder of shaky videos to a folder of stabilised clips, resumable video by video."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidgan.core.files import TEMPORARY_MARK
from vidgan.core.settings import to_dict
from vidgan.data.build.engine import Engine
from vidgan.data.build.report import Report, shortened
from vidgan.films.item_work import (
    Progress,
    Work,
    WorkFolder,
    WorkItem,
    fingerprint,
    guarded_record,
    video_names,
    work_through,
)
from vidgan.films.opencv import opencv
from vidgan.films.stabilize import StabilizeConfig, fit_square, stabilize
from vidgan.video import FrameStream, probe, write_mp4

SCHEMA = 1

_OUTPUT_NAME = re.compile(rf"(?:{re.escape(TEMPORARY_MARK)}\d+-)?(.+)\.\d+\.mp4")
"""Name of a clip, maybe half written; the group is the name of its video."""


@dataclass(frozen=True)
class StabilizeJob:
    """One video to work on: the file, its name, the files to write (without number) and how."""

    path: str
    name: str
    target: str
    config: StabilizeConfig


@dataclass(frozen=True, kw_only=True)
class StabilizeReport(Report):
    """What became of every video.

    Attributes:
        out: The folder.
        num_videos: Videos seen.
        num_clips: Clips written.
        num_frames: Frames of all clips.
        endings: Why clips that were kept ended, with counts.
    """

    out: str
    num_videos: int
    num_clips: int
    num_frames: int
    endings: dict[str, int]

    def lines(self, limit: int = 20) -> list[str]:
        """The report for people; at most `limit` videos without a clip."""
        stable = self.num_videos - len(self.dropped)
        first = (
            f"{self.num_videos:,} videos: {stable:,} stabilised into {self.num_clips:,} clips of"
            f" {self.num_frames:,} frames, {len(self.dropped):,} without a clip"
        )
        text = [first]
        text += [f"  {count:,} clips ended because {why}" for why, count in self.endings.items()]
        if self.dropped:
            reasons = Counter(why for _, why in self.dropped)
            text.append("without a clip:")
            text += [f"  {count:,} x {why}" for why, count in reasons.most_common()]
            text.append("namely:")
            text += shortened([f"{name!r}: {why}" for name, why in self.dropped], limit)
        return text


def stabilize_folder(
    source: str | Path,
    out: str | Path,
    config: StabilizeConfig | None = None,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
    retry: bool = False,
    progress: Progress | None = None,
) -> StabilizeReport:
    """Stabilise every video of a folder.

    Clips appear below `out/clips` in the folders of their videos, so that splits and classes stay,
    and `build_clips` reads them. A call that was interrupted continues.

    Args:
        source: Folder of videos, at any depth.
        out: Folder to make or to continue.
        config: Settings; None takes the defaults.
        workers: Videos at the same time; None takes one a core, 0 works in this process.
        engine: Where the work is done; None takes processes of this machine.
        retry: Try videos again that failed before.
        progress: Called with (done, total, what).

    Raises:
        UserError: no videos, a foreign `out`, other settings than those it was begun with, another
            process at work there, or no OpenCV.
    """
    config = config or StabilizeConfig()
    opencv()
    # Absolute: the workers of a cluster run elsewhere.
    root, out = Path(source).absolute(), Path(out).absolute()
    folder = WorkFolder(out, "stabilize", SCHEMA, "stabilised clips")
    items = [WorkItem(n, _key(n), fingerprint(root / n)) for n in video_names(root)]
    targets = {item.key: out / "clips" / item.name for item in items}

    def job(item: WorkItem) -> StabilizeJob:
        return StabilizeJob(str(root / item.name), item.name, str(targets[item.key]), config)

    def clear(keys: set[str]) -> None:
        wanted = {targets[key] for key in keys & targets.keys()}
        for file in sorted((out / "clips").rglob("*.mp4")):
            match = _OUTPUT_NAME.fullmatch(file.name)
            if match and file.with_name(match[1]) in wanted:
                file.unlink()

    with folder.begun(to_dict(config)):
        work_through(
            folder,
            items,
            Work(process_video, job, clear),
            workers=workers,
            engine=engine,
            retry=retry,
            progress=progress,
        )
        return _report(out, folder.records())


def process_video(job: StabilizeJob) -> dict[str, Any]:
    """Stabilise one video, write its clips and return its record."""
    return guarded_record(job.name, lambda: _clips_of(job))


def _clips_of(job: StabilizeJob) -> dict[str, Any]:
    fps = probe(job.path).fps
    written: list[dict[str, Any]] = []
    aborted: list[str] = []
    for clip in stabilize(FrameStream(job.path), job.config):
        if clip.aborted:
            aborted.append(clip.ending)
            continue
        file = Path(f"{job.target}.{len(written)}.mp4")
        frames = np.stack([fit_square(frame, job.config.size) for frame in clip.frames])
        pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)
        write_mp4(file, pixels, fps, quality=job.config.quality, lossless=job.config.lossless)
        written.append({"file": file.name, "num_frames": len(frames), "ending": clip.ending})
    # Many attempts may have ended alike.
    why = ", ".join(dict.fromkeys(aborted)) or "no frames behind the skipped ones"
    return {"reason": None if written else why, "clips": written}


def _key(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def _report(out: Path, records: list[dict[str, Any]]) -> StabilizeReport:
    clips = [clip for record in records for clip in record.get("clips", ())]
    return StabilizeReport(
        out=str(out),
        num_videos=len(records),
        num_clips=len(clips),
        num_frames=sum(clip["num_frames"] for clip in clips),
        endings=dict(Counter(clip["ending"] for clip in clips).most_common()),
        dropped=tuple(sorted((r["name"], r["reason"]) for r in records if r["reason"])),
    )
