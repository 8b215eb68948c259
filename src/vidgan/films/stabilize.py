"""Stabilised square clips out of shaky videos, after the recipe of the tiny-video set.

(Vondrick et al. 2016, section 4.1 and the authors' script.) SIFT features of every frame are
matched with those of the frame before, a homography is fitted robustly, and the product of all of
them brings the frame back to the first one's view. What the camera no longer shows is filled with
the previous stabilised frame.

Differences from the script: nearest neighbours are searched exactly instead of by random trees, so
that the same video always gives the same clip; impossible homographies abort the clip; a
video may give several clips.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidgan.core.files import TEMPORARY_MARK
from vidgan.core.progress import Progress
from vidgan.core.settings import to_dict
from vidgan.data.build.engine import Engine
from vidgan.data.build.report import Report, indented
from vidgan.errors import UserError
from vidgan.films.item_work import (
    Floats,
    Pixels,
    SiftMatcher,
    Work,
    WorkFolder,
    WorkItem,
    file_fingerprint,
    grey_image,
    guarded_record,
    opencv,
    video_names,
    work_through,
)
from vidgan.video import FrameStream, probe, write_mp4


@dataclass(frozen=True, kw_only=True)
class StabilizeConfig:
    """Settings of `vidgan data stabilize`; defaults are the recipe's where it has one.

    Attributes:
        skip_frames: frames passed over at the beginning, where many uploads have a flash.
        features: strongest SIFT features of a frame; the recipe takes all, which differs only
            where there are thousands and then takes minutes.
        ratio: Lowe's ratio test.
        min_matches: fewer matches between neighbouring frames abort the clip.
        ransac_pixels: distance within which a match agrees with a homography.
        max_step: a homography that moves a corner of the frame by more than this share of the
            diagonal between two frames is impossible and aborts the clip.
        min_cover: the clip ends when less than this share of the first view is still in the
            image: beyond it, most of the frame would be filled in.
        erode: side of the square by which the border of a moved frame is cut before it is filled,
            because it is blurred by interpolation.
        size: side of the clip; the shorter side is scaled to it and the middle is cut out.
        min_frames: shorter clips are dropped.
        max_frames: a clip ends after this many frames.
        restart: start again after the place where a clip ended or was aborted, as often as the
            video lasts; the recipe takes one clip of a video or none.
        quality: x264 rate factor of the clips.
        lossless: store pixels exactly instead (files that browsers do not play).
    """

    skip_frames: int = 2
    features: int = 4000
    ratio: float = 0.7
    min_matches: int = 10
    ransac_pixels: float = 5.0
    max_step: float = 0.25
    min_cover: float = 0.5
    erode: int = 5
    size: int = 128
    min_frames: int = 16
    max_frames: int = 34
    restart: bool = False
    quality: int = 12
    lossless: bool = False

    def __post_init__(self) -> None:
        least = {"skip_frames": 0, "features": 8, "min_matches": 4, "erode": 1, "size": 16}
        least |= {"min_frames": 2}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UserError(f"{name}={getattr(self, name)} must be at least {value}")
        if self.max_frames < self.min_frames:
            raise UserError(
                f"max_frames={self.max_frames} must be at least min_frames={self.min_frames}"
            )
        if self.size % 2 or not 0 <= self.quality <= 51:
            raise UserError("size must be even and quality 0 to 51")
        if not 0 < self.ratio < 1 or not 0 <= self.min_cover <= 1:
            raise UserError("ratio must be between 0 and 1, min_cover 0 to 1")
        if not self.ransac_pixels > 0 or not self.max_step > 0:
            raise UserError("ransac_pixels and max_step must be above 0")


@dataclass(frozen=True)
class StableClip:
    """Stabilised frames, RGB `[H, W, 3]` at the film's size, and why there are no more."""

    frames: list[Pixels]
    ending: str
    aborted: bool


def stabilize(frames: FrameStream, config: StabilizeConfig) -> Iterator[StableClip]:
    """Stabilised clips of a video, those that were given up included.

    Args:
        frames: the video.
        config: settings.
    """
    matcher = SiftMatcher(config.features, config.ratio)
    running: _Running | None = None
    for number, pixels in frames:
        if number < config.skip_frames:
            continue
        features = matcher.features(grey_image(pixels))
        if running is None:
            running = _Running(pixels, features)
            continue
        end = running.add(pixels, features, matcher, config)
        if end is None:
            continue
        yield running.clip(end, config)
        if not config.restart:
            return
        # The frame that did not fit begins the next clip.
        running = _Running(pixels, features) if end != _FULL else None
    if running is not None:
        yield running.clip("the video ended", config)


_FULL = "the clip is full"
_LEFT = "the camera left the first view"
_FEW = "too few features match between neighbouring frames"
_IMPOSSIBLE = "neighbouring frames fit no camera motion"

Features = tuple[Floats, "np.ndarray[Any, np.dtype[np.float32]]"]


class _Running:
    """A clip that grows frame by frame."""

    def __init__(self, first: Pixels, features: Features) -> None:
        self._frames = [first]
        self._features = features
        self._to_first = np.eye(3)

    def add(
        self, pixels: Pixels, features: Features, matcher: SiftMatcher, config: StabilizeConfig
    ) -> str | None:
        """Add a frame; the reason if the clip ends here."""
        pairs = matcher.matches(features[1], self._features[1])
        if len(pairs) < config.min_matches:
            return _FEW
        here, before = features[0][pairs[:, 0]], self._features[0][pairs[:, 1]]
        step = homography(here, before, config.ransac_pixels)
        height, width = pixels.shape[:2]
        if step is None or not is_possible(step, (height, width), config.max_step):
            return _IMPOSSIBLE
        to_first = self._to_first @ step
        to_first /= to_first[2, 2]
        stable, cover = bring_back(pixels, to_first, self._frames[-1], config.erode)
        if cover < config.min_cover:
            return _LEFT
        self._frames.append(stable)
        self._features, self._to_first = features, to_first
        return _FULL if len(self._frames) == config.max_frames else None

    def clip(self, ending: str, config: StabilizeConfig) -> StableClip:
        """The clip as it is, given up if it is aborted or too short."""
        if ending in (_FEW, _IMPOSSIBLE):
            return StableClip(self._frames, ending, aborted=True)
        if len(self._frames) < config.min_frames:
            short = f"under {config.min_frames} frames when {ending}"
            return StableClip(self._frames, short, aborted=True)
        return StableClip(self._frames, ending, aborted=False)


def homography(points: Floats, target: Floats, ransac_pixels: float) -> Floats | None:
    """The 3 x 3 homography that maps most of `points` `[N, 2]` onto `target`; None if none does."""
    cv2 = opencv()
    matrix, _ = cv2.findHomography(points, target, cv2.RANSAC, ransac_pixels)
    return None if matrix is None else np.asarray(matrix, np.float64)


def is_possible(matrix: Floats, frame_size: tuple[int, int], max_step: float) -> bool:
    """Whether a camera can have moved so between two frames: no mirroring, no leap.

    Args:
        matrix: homography between neighbouring frames.
        frame_size: height and width.
        max_step: greatest move of a corner as a share of the diagonal.
    """
    height, width = frame_size
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1.0]])
    moved = corners @ matrix.T
    if not np.isfinite(moved).all() or (moved[:, 2] <= 0).any():
        return False
    leap = np.hypot(*(moved[:, :2] / moved[:, 2:] - corners[:, :2]).T)
    return bool(leap.max() <= max_step * np.hypot(height, width))


def bring_back(
    pixels: Pixels, to_first: Floats, previous: Pixels, erode: int
) -> tuple[Pixels, float]:
    """A frame in the first one's view, and the share of that view which it covers.

    Args:
        pixels: RGB `[H, W, 3]`.
        to_first: homography to the first frame.
        previous: the stabilised frame before, which fills what is not covered.
        erode: side of the square by which the cover is reduced.
    """
    cv2 = opencv()
    height, width = pixels.shape[:2]
    moved = cv2.warpPerspective(pixels, to_first, (width, height), flags=cv2.INTER_LINEAR)
    whole = np.full((height, width), 255, np.uint8)
    valid = cv2.warpPerspective(whole, to_first, (width, height), flags=cv2.INTER_NEAREST)
    kernel = np.ones((erode, erode), np.uint8)
    # The edge of the image itself is not a border of the warp.
    valid = cv2.erode(valid, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=255) > 0
    stable: Pixels = np.where(valid[..., None], moved, previous)
    return stable, float(valid.mean())


def fit_square(pixels: Pixels, side: int) -> Pixels:
    """Scale the shorter side of a frame `[H, W, 3]` to `side` and cut out the middle."""
    cv2 = opencv()
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    size = max(side, round(width * scale)), max(side, round(height * scale))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled: Pixels = cv2.resize(pixels, size, interpolation=kind)
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    return np.ascontiguousarray(scaled[top : top + side, left : left + side])


# ------------------------------------------------------------------------------------------------
# A folder of shaky videos to a folder of stabilised clips, resumable video by video

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
    """The outcome for every video.

    Attributes:
        out: the folder.
        num_videos: videos seen.
        num_clips: clips written.
        num_frames: frames of all clips.
        endings: why clips that were kept ended, with counts.
    """

    out: str
    num_videos: int
    num_clips: int
    num_frames: int
    endings: dict[str, int]

    def lines(self, limit: int = 20) -> list[str]:
        """The human-readable report; at most `limit` videos without a clip."""
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
            text += indented([f"{name!r}: {why}" for name, why in self.dropped], limit)
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
        source: folder of videos, at any depth.
        out: folder to make or to continue.
        config: settings; None takes the defaults.
        workers: videos at the same time; None takes one a core, 0 works in this process.
        engine: where the work is done; None takes processes of this machine.
        retry: try videos again that failed before.
        progress: called with (done, total, what).

    Raises:
        UserError: no videos, a foreign `out`, other settings than those it was started with,
            another process at work there, or no OpenCV.
    """
    config = config or StabilizeConfig()
    opencv()
    # Absolute: the workers of a cluster run elsewhere.
    root, out = Path(source).absolute(), Path(out).absolute()
    folder = WorkFolder(out, "stabilize", SCHEMA, "stabilised clips")
    items = [WorkItem(n, _key(n), file_fingerprint(root / n)) for n in video_names(root)]
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
    why = ", ".join(dict.fromkeys(aborted)) or "no frames after the skipped ones"
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
