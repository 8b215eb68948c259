"""One film to its aligned face clips: the job that worker processes run.

The film is decoded three times and never held in memory: to find cuts and probe for faces, to
follow the faces and their landmarks, and to write the clips. Everything that happens is counted in
a record of plain values.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidgan.errors import UserError
from vidgan.films.faces.align import (
    AlignConfig,
    Similarity,
    fit_similarity,
    is_steady,
    shape_in_clip,
    share_outside,
    smooth_points,
    warp,
)
from vidgan.films.faces.landmarks import LandmarkConfig, Landmarker, Landmarks, make_landmarker
from vidgan.films.faces.shots import Shot, ShotConfig, cut_detector, shots_between
from vidgan.films.faces.tracks import (
    Face,
    FaceConfig,
    FaceFinder,
    PersonConfig,
    Track,
    find_change,
    follow_faces,
    frames_to_search,
    unbroken,
)
from vidgan.films.item_work import Pixels, guarded_record, opencv
from vidgan.video import FrameStream, VideoError, frame_strip, probe, write_mp4, write_png

# ------------------------------------------------------------------------------------------------
# All settings of the face pipeline in one place; each group stands beside what it configures


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Which clips are written, and how.

    Attributes:
        min_frames: shortest clip; 32 frames is what the thesis' largest network learns from.
        lossless: store pixels exactly (RGB H.264, which browsers do not play), ten times larger.
        quality: x264 rate factor otherwise; 12 keeps compression below what a discriminator sees.
        heldout_fraction: share of the films whose clips are held out, all clips of a film
            together; the draw depends on the film's name alone.
        max_corrupt_share: films with a greater share of damaged frames are refused.
    """

    min_frames: int = 32
    lossless: bool = False
    quality: int = 12
    heldout_fraction: float = 0.1
    max_corrupt_share: float = 0.5

    def __post_init__(self) -> None:
        if self.min_frames < 2 or not 0 <= self.quality <= 51:
            raise UserError("clips.min_frames must be at least 2 and clips.quality 0 to 51")
        if not 0 <= self.heldout_fraction < 1 or not 0 <= self.max_corrupt_share <= 1:
            raise UserError(
                "clips.heldout_fraction must be at least 0 and below 1,"
                " clips.max_corrupt_share 0 to 1"
            )


@dataclass(frozen=True, kw_only=True)
class FacesConfig:
    """Settings of `vidgan data faces`.

    Attributes:
        shots: cutting films into shots.
        faces: finding and following faces.
        landmarks: their landmarks.
        align: aligned frames.
        person: the check that a clip shows one person.
        clips: what is written.
    """

    shots: ShotConfig = field(default_factory=ShotConfig)
    faces: FaceConfig = field(default_factory=FaceConfig)
    landmarks: LandmarkConfig = field(default_factory=LandmarkConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    person: PersonConfig = field(default_factory=PersonConfig)
    clips: ClipConfig = field(default_factory=ClipConfig)


# ------------------------------------------------------------------------------------------------
# One film to its aligned face clips: the job that worker processes run

_SHEET_FRAMES = 8
_SHEET_SIDE = 96

FUNNEL = (
    ("shots", "shots"),
    ("usable_shots", "shots of usable length"),
    ("face_shots", "shots with a run of faces"),
    ("runs", "runs of one face"),
    ("checked_runs", "runs with two eyes"),
    ("aligned", "aligned clips"),
    ("clips", "clips of one person"),
)
"""Steps of the funnel: key of the count, and its label."""


@dataclass(frozen=True)
class FilmJob:
    """One film to work on.

    Attributes:
        path: the file, or a folder of numbered images.
        name: path within the folder of films.
        key: name of the film's outputs.
        folder: folder for its clips.
        sheet: contact sheet to write if there is any clip.
        config: settings.
    """

    path: str
    name: str
    key: str
    folder: str
    sheet: str
    config: FacesConfig


@dataclass(frozen=True)
class PlannedClip:
    """A clip before it is written.

    Attributes:
        shot: number of the shot in its film, from 0.
        start: first frame.
        similarities: from film to clip, one a frame.
        num_bridged: frames whose landmarks come from their neighbours.
    """

    shot: int
    start: int
    similarities: tuple[Similarity, ...]
    num_bridged: int

    @property
    def frames(self) -> range:
        """Numbers of its frames in the film."""
        return range(self.start, self.start + len(self.similarities))


@dataclass
class _Tally:
    """Counts of what is left after every step, and of what was dropped before it and why."""

    counts: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, Counter[str]] = field(default_factory=dict)

    def drop(self, step: str, reason: str) -> None:
        self.dropped.setdefault(step, Counter())[reason] += 1


def process_film(job: FilmJob) -> dict[str, Any]:
    """Make the clips of one film and return its record.

    A film that cannot be read or processed gives a record that says so.
    """
    opencv()
    return guarded_record(job.name, lambda: _clips_of(job))


def _clips_of(job: FilmJob) -> dict[str, Any]:
    config = job.config
    tally = _Tally()
    survey = _survey(job.path, config)
    shots = _usable_shots(survey.shots, config, tally)
    faces, landmarks = _search(job.path, shots, survey.hits, config)
    tracks = {
        number: _long_tracks(number, shot, faces, config, tally) for number, shot in shots.items()
    }
    plans = [
        plan
        for number, found in tracks.items()
        for track in found
        for plan in _plan_clips(number, track, landmarks, survey.size, config, tally)
    ]
    clips = _write_clips(job, plans, probe(job.path).fps, tally)
    for key, _ in FUNNEL:
        tally.counts[key] += 0
    return {
        "num_frames": survey.num_frames,
        "num_corrupt": survey.num_corrupt,
        "size": list(survey.size),
        "funnel": {key: tally.counts[key] for key, _ in FUNNEL},
        "dropped": {step: dict(sorted(reasons.items())) for step, reasons in tally.dropped.items()},
        "clips": clips,
    }


@dataclass(frozen=True)
class _Survey:
    shots: list[Shot]
    hits: list[int]
    num_frames: int
    num_corrupt: int
    size: tuple[int, int]


def _survey(path: str, config: FacesConfig) -> _Survey:
    """First pass: cuts, and which of every few frames show a face."""
    detector = cut_detector(config.shots)
    finder = FaceFinder(config.faces)
    stream = FrameStream(path)
    hits: list[int] = []
    size = (0, 0)
    for number, pixels in stream:
        size = pixels.shape[0], pixels.shape[1]
        detector.see(number, pixels)
        if number % config.faces.probe_step == 0 and finder.boxes(pixels):
            hits.append(number)
    share = stream.num_corrupt / (stream.num_frames + stream.num_corrupt)
    if share > config.clips.max_corrupt_share:
        raise VideoError(path, f"{stream.num_corrupt} of its frames are damaged")
    shots = shots_between(detector.cuts(), stream.num_frames)
    return _Survey(shots, hits, stream.num_frames, stream.num_corrupt, size)


def _usable_shots(shots: Iterable[Shot], config: FacesConfig, tally: _Tally) -> dict[int, Shot]:
    usable: dict[int, Shot] = {}
    for number, shot in enumerate(shots):
        tally.counts["shots"] += 1
        if shot.num_frames < config.shots.min_frames:
            tally.drop("usable_shots", f"shorter than {config.shots.min_frames} frames")
        elif shot.num_frames > config.shots.max_frames:
            tally.drop("usable_shots", f"longer than {config.shots.max_frames} frames")
        else:
            tally.counts["usable_shots"] += 1
            usable[number] = shot
    return usable


def _search(
    path: str, shots: dict[int, Shot], hits: list[int], config: FacesConfig
) -> tuple[dict[int, list[Face]], dict[Face, Landmarks | None]]:
    """Second pass: the faces of every frame that may belong to a run, with their landmarks."""
    wanted = frames_to_search(shots.values(), hits, config.faces)
    faces: dict[int, list[Face]] = {}
    landmarks: dict[Face, Landmarks | None] = {}
    if len(wanted) < config.faces.run_frames:
        return faces, landmarks
    finder = FaceFinder(config.faces)
    landmarker = _landmarker(config)
    for number, pixels in FrameStream(path, wanted):
        faces[number] = finder.faces(pixels)
        for face in faces[number]:
            landmarks[face] = landmarker.locate(pixels, face)
    return faces, landmarks


@cache
def _landmarker(config: FacesConfig) -> Landmarker:
    # Models take seconds to load and serve every film of a worker.
    return make_landmarker(config.landmarks)


def _long_tracks(
    number: int, shot: Shot, faces: dict[int, list[Face]], config: FacesConfig, tally: _Tally
) -> list[Track]:
    least = config.faces.run_frames
    long = [t for t in follow_faces(shot, faces, config.faces) if t.num_frames >= least]
    if not long:
        any_face = any(faces.get(n) for n in range(shot.start, shot.stop))
        reason = f"no face for {least} frames in a row" if any_face else "no face"
        tally.drop("face_shots", reason)
        return []
    tally.counts["face_shots"] += 1
    kept = []
    for track in long:
        tally.counts["runs"] += 1
        if track.eye_share < config.faces.min_eye_share:
            tally.drop("checked_runs", "without two eyes in enough frames")
        else:
            tally.counts["checked_runs"] += 1
            kept.append(track)
    return kept


def _plan_clips(
    shot: int,
    track: Track,
    landmarks: dict[Face, Landmarks | None],
    frame_size: tuple[int, int],
    config: FacesConfig,
    tally: _Tally,
) -> list[PlannedClip]:
    """The stretches of a track in which every frame can be aligned."""
    align = config.align
    sightings = [
        landmarks[track.faces[n]] if n in track.faces else None
        for n in range(track.start, track.stop)
    ]
    found = np.array(
        [s is not None and s.confidence >= config.landmarks.min_confidence for s in sightings]
    )
    if not found.any():
        tally.drop("aligned", "no landmarks")
        return []
    num_points = _landmarker(config).num_points
    points = np.zeros((len(sightings), num_points, 2))
    for n, sighting in enumerate(sightings):
        if sighting is not None and found[n]:
            points[n] = sighting.points
    weights = is_steady(points, found, align)
    target = shape_in_clip(num_points, align)
    plans: list[PlannedClip] = []
    outside = False
    for start, stop in unbroken((weights > 0).tolist(), config.faces.gap_frames):
        smooth = smooth_points(points[start:stop], weights[start:stop], align.smoothing_frames)
        maps = [fit_similarity(frame, target) for frame in smooth]
        inside = [share_outside(m, frame_size, align.size) <= align.max_outside for m in maps]
        outside |= not all(inside)
        for first, last in unbroken(inside, 0):
            if last - first >= config.clips.min_frames:
                bridged = int((weights[start + first : start + last] == 0).sum())
                begin = track.start + start + first
                plans.append(PlannedClip(shot, begin, tuple(maps[first:last]), bridged))
    tally.counts["aligned"] += len(plans)
    if not plans:
        least = config.clips.min_frames
        reason = "too far outside of the image" if outside else f"not {least} frames aligned"
        tally.drop("aligned", reason)
    return plans


def _write_clips(
    job: FilmJob, plans: list[PlannedClip], fps: float, tally: _Tally
) -> list[dict[str, Any]]:
    """Third pass: align the frames, check every clip for one person, write those that pass."""
    config = job.config
    wanted = {n for plan in plans for n in plan.frames}
    frames: dict[int, list[Pixels]] = {number: [] for number in range(len(plans))}
    clips: list[dict[str, Any]] = []
    previews: list[torch.Tensor] = []
    if not plans:
        return clips
    for n, pixels in FrameStream(job.path, wanted):
        for number, plan in enumerate(plans):
            if n not in plan.frames:
                continue
            similarity = plan.similarities[n - plan.start]
            frames[number].append(warp(pixels, similarity, config.align.size))
            if n != plan.frames[-1]:
                continue
            done = frames.pop(number)
            change = find_change(done, config.person)
            if change is not None:
                tally.drop("clips", change)
                continue
            tally.counts["clips"] += 1
            clip = torch.from_numpy(np.stack(done)).permute(3, 0, 1, 2)
            file = f"{job.key}_s{plan.shot:04d}_c{number:03d}.mp4"
            write_mp4(
                Path(job.folder) / file,
                clip,
                fps,
                quality=config.clips.quality,
                lossless=config.clips.lossless,
            )
            clips.append(_clip_record(file, plan, fps))
            previews.append(_preview(done))
    if previews:
        write_png(job.sheet, frame_strip(torch.stack(previews)))
    return clips


def _clip_record(file: str, plan: PlannedClip, fps: float) -> dict[str, Any]:
    return {
        "file": file,
        "shot": plan.shot,
        "start": plan.start,
        "num_frames": len(plan.similarities),
        "num_bridged": plan.num_bridged,
        "fps": fps,
    }


def _preview(frames: list[Pixels]) -> torch.Tensor:
    """Some frames of a clip, small: uint8 `[3, T, H, W]`."""
    cv2 = opencv()
    chosen = np.linspace(0, len(frames) - 1, _SHEET_FRAMES).round().astype(int)
    side = (_SHEET_SIDE, _SHEET_SIDE)
    small = [cv2.resize(frames[n], side, interpolation=cv2.INTER_AREA) for n in chosen]
    return torch.from_numpy(np.stack(small)).permute(3, 0, 1, 2)
