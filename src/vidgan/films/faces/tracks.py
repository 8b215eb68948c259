"""Following faces through a shot, and the runs of frames that are worth aligning."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vidgan.films.faces.detect import Box, Face, FaceConfig
from vidgan.films.faces.shots import Shot


@dataclass(frozen=True)
class Track:
    """One face through neighbouring frames of one shot.

    Attributes:
        faces: The face by frame number, increasing; frames that were bridged are missing.
    """

    faces: dict[int, Face]

    @property
    def start(self) -> int:
        """First frame with the face."""
        return min(self.faces)

    @property
    def stop(self) -> int:
        """Frame behind the last one with the face."""
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
        shots: Shots to look at.
        hits: Probed frames with a face.
        config: Probe step and gap tolerance.
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
        shot: Frames to link.
        faces: Faces by frame number.
        config: Overlap and gap tolerance.
    """
    tracks: list[dict[int, Face]] = []
    for number in range(shot.start, shot.stop):
        found = faces.get(number, ())
        alive = [t for t in tracks if number - max(t) <= 1 + config.gap_frames]
        pairs = sorted(
            (-overlap(track[max(track)].box, face.box), t, f)
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


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes.

    Example:
        >>> overlap((0, 0, 2, 2), (1, 0, 2, 2))
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
