"""Following faces through a shot, and the runs of frames that are worth aligning."""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vidgan.errors import UserError
from vidgan.films.faces.align import EyeFinder
from vidgan.films.faces.shots import Shot
from vidgan.films.item_work import Floats, Pixels, SiftMatcher, grey_image, opencv, shrink

# ------------------------------------------------------------------------------------------------
# Finding faces in frames: OpenCV's frontal Haar cascade, checked by two eyes

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels of the frame."""


@dataclass(frozen=True, kw_only=True)
class FaceConfig:
    """Which faces are found and followed.

    Attributes:
        width: pixels to which frames are shrunk for the search; more cost time and find false
            faces rather than new ones.
        scale_step: ratio of neighbouring sizes that are tried; OpenCV's default.
        neighbours: overlapping hits that make a face; 5 instead of OpenCV's 3, because a film
            offers more false faces than true ones.
        min_share: smallest face as a share of the frame's shorter side.
        min_pixels: smallest face in pixels of the film: below that an aligned clip of 300 pixels
            would be enlarged more than four times.
        probe_step: every probe_step-th frame is searched first, all frames only around the hits;
            with gap_frames=0 it finds what 1 finds and takes a quarter of the time.
        overlap: intersection over union of boxes in neighbouring frames that makes them one face.
        gap_frames: frames without a face or without its landmarks that a run may bridge, filled
            from both sides; 0 is the thesis. Haar misses single frames of steady faces.
        run_frames: shortest run of frames with a face that is kept; 31 in the thesis.
        min_eye_share: share of a run's frames in which both eyes must be found; a real face showed
            them in 0.85 of its frames, a false one in hardly any.
    """

    width: int = 480
    scale_step: float = 1.1
    neighbours: int = 5
    min_share: float = 0.12
    min_pixels: int = 60
    probe_step: int = 4
    overlap: float = 0.4
    gap_frames: int = 2
    run_frames: int = 31
    min_eye_share: float = 0.5

    def __post_init__(self) -> None:
        if not 1.01 <= self.scale_step <= 2:
            raise UserError(f"faces.scale_step={self.scale_step} must be 1.01 to 2")
        for name in ("min_share", "overlap", "min_eye_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"faces.{name}={getattr(self, name)} must be 0 to 1")
        for name, least in (("width", 32), ("min_pixels", 16), ("probe_step", 1)):
            if getattr(self, name) < least:
                raise UserError(f"faces.{name}={getattr(self, name)} must be at least {least}")
        if self.gap_frames < 0 or self.neighbours < 0 or self.run_frames < 1:
            raise UserError(
                "faces.gap_frames and faces.neighbours must be at least 0, faces.run_frames 1"
            )


@dataclass(frozen=True, eq=False)
class Face:
    """A face in one frame; every sighting is equal to itself alone.

    Attributes:
        box: where it is.
        eyes: centres `[2, 2]` (x, y) of both eyes, the left one in the image first, or None.
    """

    box: Box
    eyes: Floats | None


class FaceFinder:
    """The faces of a frame."""

    def __init__(self, config: FaceConfig) -> None:
        cv2 = opencv()
        name = cv2.data.haarcascades + "haarcascade_frontalface_default.xml"
        self._cascade = cv2.CascadeClassifier(name)
        self._eyes = EyeFinder()
        self._config = config

    def boxes(self, pixels: Pixels) -> list[Box]:
        """Boxes of the faces in a frame, RGB `[H, W, 3]`, largest first."""
        config = self._config
        grey = grey_image(shrink(pixels, config.width))
        scale = grey.shape[1] / pixels.shape[1]
        least = round(max(config.min_share * min(grey.shape), config.min_pixels * scale))
        found = self._cascade.detectMultiScale(
            grey,
            scaleFactor=config.scale_step,
            minNeighbors=config.neighbours,
            minSize=(least, least),
        )
        boxes = [tuple(float(value) / scale for value in box) for box in found]
        return sorted(((x, y, w, h) for x, y, w, h in boxes), key=lambda box: (-box[2], box))

    def faces(self, pixels: Pixels) -> list[Face]:
        """Faces in a frame with their eyes, largest first."""
        boxes = self.boxes(pixels)
        if not boxes:
            return []
        grey = grey_image(pixels)
        return [Face(box, self._eyes.find(grey, box)) for box in boxes]


# ------------------------------------------------------------------------------------------------
# Following faces through a shot, and the runs of frames that are worth aligning


@dataclass(frozen=True)
class Track:
    """One face through neighbouring frames of one shot.

    Attributes:
        faces: the face by frame number, increasing; frames that were bridged are missing.
    """

    faces: dict[int, Face]

    @property
    def start(self) -> int:
        """First frame with the face."""
        return min(self.faces)

    @property
    def stop(self) -> int:
        """Frame after the last one with the face."""
        return max(self.faces) + 1

    @property
    def num_frames(self) -> int:
        """Length in frames, bridged ones included."""
        return self.stop - self.start

    @property
    def eye_share(self) -> float:
        """Share of the frames with the face in which both eyes were found."""
        return sum(face.eyes is not None for face in self.faces.values()) / len(self.faces)


def frames_to_search(shots: Iterable[Shot], hits: Collection[int], config: FaceConfig) -> set[int]:
    """Frames that can belong to a run, given in which of the probed frames a face was found.

    Every `probe_step`-th frame of a film is probed. Frames between two probes are searched if one
    of them, or one that a gap can reach, had a face. What is left out could only hold runs shorter
    than a step.

    Args:
        shots: shots to look at.
        hits: probed frames with a face.
        config: probe step and gap tolerance.
    """
    reach = config.probe_step * (1 + config.gap_frames // config.probe_step) - 1
    wanted: set[int] = set()
    for shot in shots:
        for hit in (n for n in hits if shot.start <= n < shot.stop):
            first, last = max(shot.start, hit - reach), min(shot.stop - 1, hit + reach)
            wanted.update(range(first, last + 1))
    return wanted


def follow_faces(
    shot: Shot, faces: Mapping[int, Sequence[Face]], config: FaceConfig
) -> list[Track]:
    """Link the faces of a shot's frames to tracks, in the order in which they begin.

    A face continues the track whose last box it overlaps most; a track ends when it has found no
    continuation for more than `gap_frames` frames.

    Args:
        shot: frames to link.
        faces: faces by frame number.
        config: overlap and gap tolerance.
    """
    tracks: list[dict[int, Face]] = []
    for number in range(shot.start, shot.stop):
        found = faces.get(number, ())
        alive = [t for t in tracks if number - max(t) <= 1 + config.gap_frames]
        pairs = sorted(
            (-box_overlap(track[max(track)].box, face.box), t, f)
            for t, track in enumerate(alive)
            for f, face in enumerate(found)
        )
        used_tracks: set[int] = set()
        used_faces: set[int] = set()
        for negative, t, f in pairs:
            if -negative < config.overlap or t in used_tracks or f in used_faces:
                continue
            alive[t][number] = found[f]
            used_tracks.add(t)
            used_faces.add(f)
        tracks += [{number: face} for f, face in enumerate(found) if f not in used_faces]
    return [Track(track) for track in tracks]


def box_overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes.

    Example:
        >>> box_overlap((0, 0, 2, 2), (1, 0, 2, 2))
        0.3333333333333333
    """
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    common = max(0.0, width) * max(0.0, height)
    return common / (first[2] * first[3] + second[2] * second[3] - common)


def unbroken(good: Sequence[bool], gap: int) -> list[tuple[int, int]]:
    """Stretches (start, stop) of true values, bridging at most `gap` false ones in a row.

    Example:
        >>> unbroken([True, False, True, False, False, True, False], 1)
        [(0, 3), (5, 6)]
    """
    stretches: list[tuple[int, int]] = []
    for n, value in enumerate(good):
        if not value:
            continue
        if stretches and n - stretches[-1][1] <= gap:
            stretches[-1] = (stretches[-1][0], n + 1)
        else:
            stretches.append((n, n + 1))
    return stretches


# ------------------------------------------------------------------------------------------------
# Whether an aligned clip shows one person throughout, by SIFT features


@dataclass(frozen=True, kw_only=True)
class PersonConfig:
    """When two aligned frames show the same person.

    Attributes:
        check: whether clips are checked at all.
        width: pixels to which aligned frames are shrunk; matches were counted at 128.
        features: strongest SIFT features of a frame.
        ratio: Lowe's ratio test.
        step: frames between compared ones; a missed cut or a short dissolve lies in between.
        threshold: least share of features that match over `step` frames. The same person had 64
            matches, another one 3, of about 200: 0.1 to 0.15 lies between the two.
        ends_threshold: least share between the first and the last frame, where the expression may
            have changed.
        min_features: frames with fewer features are too blurred to be compared; the clip goes.
    """

    check: bool = True
    width: int = 128
    features: int = 300
    ratio: float = 0.75
    step: int = 8
    threshold: float = 0.12
    ends_threshold: float = 0.05
    min_features: int = 12

    def __post_init__(self) -> None:
        if self.step < 1 or self.min_features < 2 or self.width < 32:
            raise UserError(
                "person.step must be at least 1, person.min_features 2 and person.width 32"
            )
        for name in ("ratio", "threshold", "ends_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"person.{name}={getattr(self, name)} must be 0 to 1")


def find_change(frames: Sequence[Pixels], config: PersonConfig) -> str | None:
    """Why the aligned frames, RGB `[S, S, 3]` each, are not of one person; None if they are."""
    if not config.check:
        return None
    matcher = SiftMatcher(config.features, config.ratio)
    numbers = sorted({*range(0, len(frames), config.step), len(frames) - 1})
    features = [matcher.features(grey_image(shrink(frames[n], config.width)))[1] for n in numbers]
    if min(map(len, features)) < config.min_features:
        return "too blurred to check whether it is one person"
    pairs = list(itertools.pairwise(features))
    if any((matcher.share(*pair) or 0.0) < config.threshold for pair in pairs):
        return "the person changes"
    if (matcher.share(features[0], features[-1]) or 0.0) < config.ends_threshold:
        return "the last frame does not show the person of the first"
    return None
