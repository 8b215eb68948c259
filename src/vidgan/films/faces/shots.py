"""Where the shots of a film begin: SIFT matches between neighbouring frames, or PySceneDetect.

A cut is where too few features of one frame are found again in the next (Kratzwald et al. 2017,
without a threshold given). The count is taken relative to the number of features, because an
absolute one sees cuts in every dark or flat shot.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from vidgan.errors import UserError
from vidgan.films.item_work import Pixels, SiftMatcher, grey_image, shrink


@dataclass(frozen=True, kw_only=True)
class ShotConfig:
    """How a film is cut into shots, and which shots are long enough to be looked at.

    Attributes:
        detector: sift, or scenedetect for PySceneDetect's content detector (installed by hand).
        width: pixels to which frames are shrunk; more find no more cuts and cost four times.
        features: strongest SIFT features of a frame; 300 of 160 pixels are nearly all there are.
        ratio: Lowe's ratio test; 0.75 is in the middle of the 0.7 to 0.8 that are in use.
        threshold: a cut is where fewer than this share of the features match; 0.15 to 0.25 found
            the same cuts.
        still_difference: mean grey difference of neighbouring frames below which they are one shot
            without a look at features; it saves most of the time, 0 looks at all as the thesis.
        flat_features: with fewer features in a frame (black, fog) the grey difference decides.
        flat_difference: mean grey difference that is a cut between such frames.
        scenedetect_threshold: PySceneDetect's own threshold; 27 is its default.
        min_frames: shorter shots are dropped; below 31 no run of 31 faces fits.
        max_frames: longer shots are dropped; the thesis' longest clip has 423 frames, and 1,000
            bound the memory of one clip.
    """

    detector: Literal["sift", "scenedetect"] = "sift"
    width: int = 160
    features: int = 300
    ratio: float = 0.75
    threshold: float = 0.2
    still_difference: float = 1.0
    flat_features: int = 8
    flat_difference: float = 12.0
    scenedetect_threshold: float = 27.0
    min_frames: int = 31
    max_frames: int = 1000

    def __post_init__(self) -> None:
        if not 32 <= self.width <= 4096:
            raise UserError(f"shots.width={self.width} must be 32 to 4096 pixels")
        for name in ("ratio", "threshold"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"shots.{name}={getattr(self, name)} must be between 0 and 1")
        if not 1 <= self.min_frames <= self.max_frames:
            raise UserError(
                f"shots.min_frames={self.min_frames} must be at least 1 and at most"
                f" shots.max_frames={self.max_frames}"
            )


class Shot(NamedTuple):
    """Frames `start` to `stop - 1` of a film."""

    start: int
    stop: int

    @property
    def num_frames(self) -> int:
        """Length in frames."""
        return self.stop - self.start


class CutDetector(Protocol):
    """Sees every frame of a film in order and says afterwards where the cuts are."""

    def see(self, number: int, pixels: Pixels) -> None:
        """Look at frame `number`, RGB `[H, W, 3]`."""

    def cuts(self) -> list[int]:
        """Numbers of the frames that begin a shot, without frame 0, increasing."""


class SiftCuts:
    """Cuts by the share of SIFT features that neighbouring frames have in common."""

    def __init__(self, config: ShotConfig) -> None:
        self._config = config
        self._matcher = SiftMatcher(config.features, config.ratio)
        self._last: Pixels | None = None
        self._last_features: npt.NDArray[np.float32] | None = None
        self._cuts: list[int] = []

    def see(self, number: int, pixels: Pixels) -> None:
        """Compare a frame, RGB `[H, W, 3]`, with the one before."""
        grey = grey_image(shrink(pixels, self._config.width))
        last, self._last = self._last, grey
        last_features, self._last_features = self._last_features, None
        if last is None:
            return
        difference = float(np.abs(grey.astype(np.int16) - last).mean())
        if difference < self._config.still_difference:
            return
        if last_features is None:
            last_features = self._matcher.features(last)[1]
        features = self._last_features = self._matcher.features(grey)[1]
        if min(len(features), len(last_features)) < self._config.flat_features:
            is_cut = difference > self._config.flat_difference
        else:
            share = self._matcher.share(last_features, features)
            is_cut = share is not None and share < self._config.threshold
        if is_cut:
            self._cuts.append(number)

    def cuts(self) -> list[int]:
        """Numbers of the frames that begin a shot."""
        return self._cuts


class SceneDetectCuts:
    """Cuts by PySceneDetect's content detector, fed with our frames so that numbers agree."""

    def __init__(self, config: ShotConfig) -> None:
        try:
            from scenedetect import FrameTimecode
            from scenedetect.detectors import ContentDetector
        except ImportError as error:
            raise UserError(
                "shots.detector=scenedetect needs PySceneDetect: install it beside the extra faces"
                " with: pip install --no-deps scenedetect (its own requirements would replace the"
                " OpenCV that faces need), or leave the setting out"
            ) from error
        # The default minimum of 15 frames swallows short shots into their neighbours.
        self._detector: Any = ContentDetector(
            threshold=config.scenedetect_threshold, min_scene_len=5
        )
        self._timecode = FrameTimecode
        self._width = config.width
        self._cuts: set[int] = set()

    def see(self, number: int, pixels: Pixels) -> None:
        """Hand a frame, RGB `[H, W, 3]`, to the detector."""
        small = np.ascontiguousarray(shrink(pixels, self._width)[..., ::-1])
        # The rate only turns numbers into times and back, so any will do.
        found = self._detector.process_frame(self._timecode(number, 25.0), small)
        self._cuts |= {cut.frame_num for cut in found}

    def cuts(self) -> list[int]:
        """Numbers of the frames that begin a shot."""
        return sorted(self._cuts - {0})


def cut_detector(config: ShotConfig) -> CutDetector:
    """The detector that the settings name.

    Raises:
        UserError: it is not installed.
    """
    return SceneDetectCuts(config) if config.detector == "scenedetect" else SiftCuts(config)


def shots_between(cuts: Sequence[int], num_frames: int) -> list[Shot]:
    """Shots of a film of `num_frames` frames with `cuts`.

    Example:
        >>> shots_between([30, 80], 100)
        [Shot(start=0, stop=30), Shot(start=30, stop=80), Shot(start=80, stop=100)]
    """
    edges = [0, *cuts, num_frames]
    return [Shot(start, stop) for start, stop in itertools.pairwise(edges)]
