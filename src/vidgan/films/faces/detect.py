"""Finding faces in frames: OpenCV's frontal Haar cascade, checked by two eyes."""

from dataclasses import dataclass

from vidgan.errors import UserError
from vidgan.films.faces.eyes import EyeFinder
from vidgan.films.opencv import Floats, Pixels, opencv, shrink, to_grey

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels of the frame."""


@dataclass(frozen=True, kw_only=True)
class FaceConfig:
    """Which faces are found and followed.

    Attributes:
        width: Pixels to which frames are shrunk for the search; more cost time and find false
            faces rather than new ones.
        scale_step: Ratio of neighbouring sizes that are tried; OpenCV's default.
        neighbours: Overlapping hits that make a face; 5 instead of OpenCV's 3, because a film
            offers more false faces than true ones.
        min_share: Smallest face as a share of the frame's shorter side.
        min_pixels: Smallest face in pixels of the film: below that an aligned clip of 300 pixels
            would be enlarged more than four times.
        probe_step: Every probe_step-th frame is searched first, all frames only around the hits;
            with gap_frames=0 it finds what 1 finds and takes a quarter of the time.
        overlap: Intersection over union of boxes in neighbouring frames that makes them one face.
        gap_frames: Frames without a face or without its landmarks that a run may bridge, filled
            from both sides; 0 is the thesis. Haar misses single frames of steady faces.
        run_frames: Shortest run of frames with a face that is kept; 31 in the thesis.
        min_eye_share: Share of a run's frames in which both eyes must be found; a real face showed
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
        box: Where it is.
        eyes: Centres `[2, 2]` (x, y) of both eyes, the left one in the picture first, or None.
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
        grey = to_grey(shrink(pixels, config.width))
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
        grey = to_grey(pixels)
        return [Face(box, self._eyes.find(grey, box)) for box in boxes]
