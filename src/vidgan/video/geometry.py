"""What a file says about the shape of its pictures: turned, mirrored, with pixels not square."""

from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Pixels = npt.NDArray[np.uint8]

SQUARE = Fraction(1)
_MAX_ASPECT = 4
"""No format has pixels further from square; headers that say so are damaged."""


class Orientation(NamedTuple):
    """How stored frames are turned and mirrored for display: rows and columns change places first.

    Attributes:
        is_transposed: Rows are shown as columns.
        flips_x: The shown picture is then mirrored left to right; `flips_y` top to bottom.
    """

    is_transposed: bool
    flips_x: bool
    flips_y: bool

    @classmethod
    def of(cls, frame: "VideoFrame") -> "Orientation":
        """The one of eight that is nearest to the display matrix of a frame."""
        if not len(frame.side_data):
            return UPRIGHT
        from av.sidedata.sidedata import Type

        # PyAV's types do not say that kinds of data are keys.
        stored: Any = cast(Any, frame.side_data).get(Type.DISPLAYMATRIX)
        if stored is None:
            return UPRIGHT
        # A stored (x, y) is shown at (a x + c y, b x + d y).
        a, b, _, c, d = np.frombuffer(stored, np.int32)[:5].astype(np.int64).tolist()
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    @property
    def rotation(self) -> int:
        """Counter-clockwise degrees, after a mirroring left to right if `is_mirrored`."""
        if self.is_transposed:
            return 270 if self.flips_x else 90
        return 180 if self.flips_y else 0

    @property
    def is_mirrored(self) -> bool:
        """Whether the picture is shown the wrong way round, as in a looking glass."""
        return (self.flips_x != self.flips_y) != self.is_transposed

    def apply(self, pixels: Pixels) -> Pixels:
        """Stored planes `[3, H, W]` as they are shown; a view."""
        if self == UPRIGHT:
            return pixels
        if self.is_transposed:
            pixels = pixels.swapaxes(1, 2)
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in self[:0:-1])
        return pixels[:, rows, columns]


UPRIGHT = Orientation(False, False, False)


def square_pixels(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Size of a stored picture in square pixels: its shorter direction is enlarged."""
    if aspect is SQUARE:
        return width, height
    if aspect > 1:
        return round(width * aspect), height
    return width, round(height / aspect)


def pixel_aspect(stream: "VideoStream") -> Fraction:
    """Width of a stored pixel by its height; 1 where nothing or nonsense is said."""
    aspect = stream.sample_aspect_ratio
    if not aspect or aspect == 1 or not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        return SQUARE
    return aspect
