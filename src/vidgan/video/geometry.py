"""Display geometry of a file: rotation, mirroring and pixel aspect ratio."""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


# ------------------------------------------------------------------------------------------------
# Colour metadata of a file, and tone mapping of HDR to SDR.
#
# HDR is mapped to SDR as it looks on a display of 1,000 cd/m2: PQ and HLG are decoded to light
# (ITU-R BT.2100), the EETF of BT.2390 (section 5.4.1) rolls highlights off to a peak of 203 cd/m2,
# which is the level of graphics white (BT.2408), colours are taken to the primaries of BT.709, and
# the result is encoded for a display of gamma 2.4 (BT.1886). Everything else stays as it is stored.

Light = npt.NDArray[Any]
"""Floats: single precision is enough for 8 bits."""


_UNSPECIFIED = 2
_BT709 = 1
_BT601 = 6
_BT2020 = 9
_RGB = 0
_RESERVED = 3
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""Code (ITU-T H.273, as all numbers here) and name."""
UNREAD_MATRICES = {
    8: "YCgCo",
    10: "BT.2020 of constant luminance",
    11: "YDzDx",
    12: "chromaticity-derived",
    13: "chromaticity-derived",
    14: "ICtCp",
    15: "IPT",
    16: "YCgCo-R",
    17: "YCgCo-R",
}
"""Code and name of colour matrices that swscale refuses or takes for BT.601."""
_CHROMATICITIES = {
    _BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    _BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""x and y of red, green and blue, all with the white D65; 12 is Display P3."""
_WHITE = (0.3127, 0.3290)
WIDE_PRIMARIES = {_BT2020: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
_SD_HEIGHT, _HD_WIDTH = 576, 1280
_SOURCE_PEAK, _TARGET_PEAK = 1000.0, 203.0
"""cd/m2 of the display that HDR is graded for and of the white that it becomes."""


def declare_matrix(frame: "VideoFrame") -> None:
    """Write into a YUV frame without a colour matrix which one players take it for.

    What is larger than PAL counts as BT.709, the rest as BT.601.
    """
    if frame.colorspace in (_UNSPECIFIED, _RESERVED, _RGB) and not frame.format.is_rgb:
        is_hd = frame.height > _SD_HEIGHT or frame.width >= _HD_WIDTH
        frame.colorspace = _BT709 if is_hd else _BT601


def hdr_transfer(frame: "VideoFrame") -> str | None:
    """PQ or HLG if the frame says so."""
    return HDR_TRANSFERS.get(int(frame.color_trc))


_STRIP_PIXELS = 1 << 18
"""Pixels converted to light at a time, which takes some fifty times their bytes."""


def sdr_pixels(coded: Sequence[npt.NDArray[np.uint16]], transfer: str, primaries: int) -> Any:
    """HDR as ordinary video.

    Args:
        coded: red, green and blue `[H, W]` in full range of 16 bits.
        transfer: PQ or HLG.
        primaries: code of the primaries; unknown ones count as BT.2020.

    Returns:
        uint8 `[3, H, W]`, RGB of BT.709.
    """
    height, width = coded[0].shape
    pixels = np.empty((3, height, width), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = np.stack([plane[top : top + rows] for plane in coded])
        pixels[:, top : top + rows] = _sdr_strip(strip, transfer, primaries)
    return pixels


def _sdr_strip(coded: npt.NDArray[np.uint16], transfer: str, primaries: int) -> Any:
    signal = coded.astype(np.float32) / 65535
    light = _pq_light(signal) if transfer == "PQ" else _hlg_light(signal)
    # The curve works on the strongest colour and scales all three, which keeps the hue.
    peak = np.maximum(light.max(axis=0), 1e-4)
    light *= _rolled_off(peak) / (peak * _TARGET_PEAK)
    if primaries != _BT709:
        known = primaries if primaries in _CHROMATICITIES else _BT2020
        light = np.tensordot(_to_bt709(known), light, 1)
    return np.rint(255 * light.clip(0, 1) ** (1 / 2.4)).astype(np.uint8)


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq_light(signal: Light) -> Light:
    """cd/m2 of a PQ signal in [0, 1] (BT.2100, table 4)."""
    power = signal ** (1 / _M2)
    light: Light = 10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
    return light


def _pq_signal(light: Light) -> Light:
    power = (light / 10000) ** _M1
    signal: Light = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return signal


def _hlg_light(signal: Light) -> Light:
    """cd/m2 of an HLG signal in [0, 1] on a display of 1,000 (BT.2100, table 5, gamma 1.2)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = np.tensordot(np.array([0.2627, 0.6780, 0.0593], np.float32), scene, 1)
    light: Light = _SOURCE_PEAK * luminance**0.2 * scene
    return light


def _rolled_off(light: Light) -> Light:
    """The EETF of BT.2390, section 5.4.1, without a lift of black: cd/m2 to cd/m2."""
    top, target = _pq_signal(np.array([_SOURCE_PEAK, _TARGET_PEAK], np.float32))
    highest = target / top
    knee = 1.5 * highest - 0.5
    signal = np.minimum(_pq_signal(light) / top, 1)
    t = (np.maximum(signal, knee) - knee) / (1 - knee)
    rolled = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * highest
    )
    return _pq_light(np.where(signal < knee, signal, rolled) * top)


@lru_cache
def _to_bt709(primaries: int) -> Light:
    """Linear RGB of some primaries to linear RGB of BT.709: `[3, 3]`."""
    matrix = np.linalg.solve(_to_xyz(_CHROMATICITIES[_BT709]), _to_xyz(_CHROMATICITIES[primaries]))
    return matrix.astype(np.float32)


def _to_xyz(chromaticities: tuple[tuple[float, float], ...]) -> npt.NDArray[np.float64]:
    """Linear RGB to CIE XYZ: `[3, 3]` (SMPTE RP 177)."""
    x, y = np.array(chromaticities).T
    columns = np.stack([x / y, np.ones(3), (1 - x - y) / y])
    white = np.array([_WHITE[0] / _WHITE[1], 1, (1 - sum(_WHITE)) / _WHITE[1]])
    return columns * np.linalg.solve(columns, white)


# ------------------------------------------------------------------------------------------------
# Display geometry of a file: rotation, mirroring and pixel aspect ratio

Pixels = npt.NDArray[np.uint8]

SQUARE = Fraction(1)
_MAX_ASPECT = 4
"""No format has pixels further from square; headers that say so are damaged."""


class Orientation(NamedTuple):
    """How stored frames are turned and mirrored for display: rows and columns change places first.

    Attributes:
        is_transposed: rows are shown as columns.
        flips_x: the shown image is then mirrored left to right; `flips_y` top to bottom.
    """

    is_transposed: bool
    flips_x: bool
    flips_y: bool

    @classmethod
    def of(cls, frame: "VideoFrame") -> "Orientation":
        """The one of eight that is nearest to the display matrix of a frame."""
        from av.sidedata.sidedata import SideDataContainer, Type

        # A container of our own: that of `frame.side_data` and the frame hold each other, so that
        # pixels stay in memory until Python looks for such circles, which many frames later it may.
        # PyAV's types do not say that it can be made, nor that kinds of data are keys.
        side_data = cast(Any, SideDataContainer)(frame)
        if not len(side_data):
            return UPRIGHT
        stored: Any = side_data.get(Type.DISPLAYMATRIX)
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
        """Whether the image is shown mirrored."""
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
    """Size of a stored image in square pixels: its shorter direction is enlarged."""
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
