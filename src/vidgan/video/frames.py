"""Shared by the video readers: errors, records, resizing frames, numbered images."""

import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from vidgan.errors import UserError
from vidgan.video.geometry import (
    SQUARE,
    Orientation,
    declare_matrix,
    hdr_transfer,
    sdr_pixels,
    square_pixels,
)
from vidgan.video.images import ImageError, open_image
from vidgan.video.sequences import Numbered, SameNumberError, find_sequences, sequence_at

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from PIL import Image
    from torch import Tensor


# ------------------------------------------------------------------------------------------------
# Packets of video files, and the index of frame times that is made from them

MAX_BROKEN_PACKETS = 1000
"""A file with more broken packets than this is dropped, so that it cannot stall a build."""

_MAX_ERRORS_IN_A_ROW = 10
"""Attempts to find a packet after broken bytes; at the end of some damaged files none succeeds."""

_MAX_REMEMBERED = 200_000
"""Frames whose times are kept, about 30 MB: a feature film, or thousands of short videos."""


@dataclass(frozen=True)
class FrameIndex:
    """What the packets of a video stream reveal without decoding.

    Attributes:
        times: sorted times of the shown packets; Nones if the container stores none.
        sizes: bytes of the packet of each time.
        num_covered: frames of the header's count that are there: packets, the ones that are not
            shown included, or in AVI the places up to the last packet, as it leaves out repeats.
    """

    times: list[Any]
    sizes: dict[int | None, int]
    num_covered: int


_BOX = struct.Struct(">I4s")
"""Length and kind of a box of an MP4."""

_remembered: "OrderedDict[tuple[Any, ...], FrameIndex]" = OrderedDict()


def frame_index(path: Path, container: "InputContainer", stream: "VideoStream") -> FrameIndex:
    """The index of a file that was just opened.

    It is remembered while the file stays as it is: a build first measures and then reads every
    video, and reading random clips comes back to the same files.

    Raises:
        NoVideoStreamError: the stream has no frame.
    """
    stat = path.stat()
    key = str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns
    index = _remembered.pop(key, None) or _read_index(path, container, stream)
    _remembered[key] = index
    while sum(len(known.times) for known in _remembered.values()) > _MAX_REMEMBERED:
        _remembered.popitem(last=False)
    return index


def forget(path: Path | None = None) -> None:
    """Forget the index of a file, or all indexes."""
    for key in [key for key in _remembered if path is None or key[0] == str(path)]:
        del _remembered[key]


def packets_of(
    container: "InputContainer", stream: "VideoStream", num_corrupt: list[int]
) -> Iterator["Packet[Any]"]:
    """Yield intact packets; add every run of broken ones to `num_corrupt`."""
    import av

    packets = container.demux(stream)
    errors_in_a_row = 0
    while num_corrupt[0] < MAX_BROKEN_PACKETS and errors_in_a_row < _MAX_ERRORS_IN_A_ROW:
        try:
            packet = next(packets)
        except (StopIteration, av.error.EOFError):
            return
        except (av.error.FFmpegError, IndexError, UnicodeDecodeError):
            # Garbage also makes up streams that PyAV does not expect (IndexError).
            num_corrupt[0] += errors_in_a_row == 0
            errors_in_a_row += 1
            packets = container.demux(stream)
            continue
        errors_in_a_row = 0
        yield packet


_BOXES_OF_BOXES = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})
_COUNTS_AT = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""Boxes with a number of frames or sounds, and where it stands in them (ISO/IEC 14496-12)."""
_MOST_BOXES = 1 << 22
"""Boxes of an MP4 that are looked at; a fragment has seven, and a film some thousand fragments."""


def check_claims(path: Path) -> None:
    """Refuse an MP4 whose tables claim more frames and sounds than the file has bytes.

    FFmpeg sets 24 bytes aside for each of them before it looks whether they are there.

    Raises:
        UnreadableVideoError: it claims so, or hides its tables in a compressed one.
    """
    size = path.stat().st_size
    ends = [size]
    position = claimed = 0
    with path.open("rb") as file:
        for number in count():
            while ends and position + _BOX.size > ends[-1]:
                position = ends.pop()
            if not ends:
                return
            file.seek(position)
            length, kind = _BOX.unpack(file.read(_BOX.size))
            start = position + _BOX.size
            if length == 1:
                length, start = int.from_bytes(file.read(8), "big"), start + 8
            end = ends[-1] if length == 0 else min(position + length, ends[-1])
            if end < start:
                # No box, so the file is not an MP4, or one that FFmpeg reads no further either.
                return
            if kind in _COUNTS_AT:
                file.seek(start + _COUNTS_AT[kind])
                claimed += int.from_bytes(file.read(4), "big")
            if claimed > size or number == _MOST_BOXES:
                raise UnreadableVideoError(path, "claims more frames than its bytes can hold")
            if kind == b"cmov":
                raise UnreadableVideoError(path, "has compressed tables: save it again as MP4")
            if kind in _BOXES_OF_BOXES:
                ends.append(end)
            position = start if kind in _BOXES_OF_BOXES else end


_PIXELS_PER_BYTE = 1 << 19
"""Of a file: AV1 that is black throughout, in 3,840 x 2,160, has 208,000, and H.264 28,000. A GIF
may change one pixel of a large canvas with 23 bytes, and cost a whole frame each time."""
_FREE_PIXELS = 1 << 32
"""That a file may have whatever its size: 2,000 frames of 1,920 x 1,080, which take seconds."""


def check_pixels(path: str | Path, num_pixels: int, num_bytes: int) -> None:
    """Refuse a file with implausibly many pixels for its size.

    Raises:
        UnreadableVideoError: it has.
    """
    if num_pixels > _FREE_PIXELS + _PIXELS_PER_BYTE * num_bytes:
        raise UnreadableVideoError(
            path,
            f"claims over {num_pixels:,} pixels in {num_bytes:,} bytes, more than any recording:"
            " make its frames smaller or fewer",
        )


def _read_index(path: Path, container: "InputContainer", stream: "VideoStream") -> FrameIndex:
    times: list[int | None] = []
    sizes: dict[int | None, int] = {}
    num_packets = num_places = 0
    most = path.stat().st_size
    area = stream.codec_context.width * stream.codec_context.height
    for packet in packets_of(container, stream, [0]):
        num_packets += packet.size > 0
        if num_packets > most:
            raise UnreadableVideoError(path, "claims more frames than its bytes can hold")
        check_pixels(path, num_packets * area, most)
        if packet.size and packet.dts is not None and container.format.name == "avi":
            num_places = max(num_places, packet.dts + 1)
        if packet.size and not packet.is_discard:
            times.append(packet.pts)
            sizes[packet.pts] = packet.size
    if not times:
        raise NoVideoStreamError(path, "has a video stream without a single frame")
    num_covered = max(num_packets, num_places)
    if None in times:
        return FrameIndex([None] * len(times), {}, num_covered)
    return FrameIndex(sorted(set(times)), sizes, num_covered)


# ------------------------------------------------------------------------------------------------
# Shared by the video readers: errors, records, resizing frames, numbered images

Pixels = npt.NDArray[np.uint8]
ResizePolicy = Literal["centre-crop", "letterbox", "stretch"]
"""How an image becomes a square: cut the longer side, pad the shorter with black, or squash."""

_WHITE_16 = 65535
_STRIP_PIXELS = 1 << 20
"""Of an image that is converted piece by piece."""


class VideoError(UserError):
    """A video file cannot be used; `path` and `cause` say which and why."""

    def __init__(self, path: str | Path, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = str(path)
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.cause)


class UnreadableVideoError(VideoError):
    """The file is missing, empty or no video container at all."""


class NoVideoStreamError(VideoError):
    """The file opens but has no images (audio only, or a header without frames)."""


class CorruptVideoError(VideoError):
    """Some of the asked frames cannot be decoded."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file holds, measured from its packets and first frame.

    Attributes:
        width: square pixels as the image is shown, upright; so is `height`.
        num_frames: frames that the packets announce; damaged ones are found at decoding only.
        num_missing: frames that the header promises and the file does not hold (it was cut).
        fps: mean frames per second.
        duration_s: seconds, the last frame's own duration included.
        rotation: Counter-clockwise degrees by which stored frames are turned for display.
        frame_times_s: presentation time of every frame, from 0, increasing.
        remarks: what else the file says about its images, and what was made of it.
    """

    path: str
    width: int
    height: int
    num_frames: int
    num_missing: int
    fps: float
    duration_s: float
    codec: str
    pixel_format: str
    rotation: int
    is_variable_rate: bool
    frame_times_s: tuple[float, ...] = field(repr=False)
    remarks: tuple[str, ...] = ()

    @property
    def is_grey(self) -> bool:
        """Whether the file stores brightness only."""
        return self.pixel_format.startswith(("gray", "mono"))


@dataclass(frozen=True)
class DecodedFrames:
    """Frames of one video.

    Attributes:
        pixels: uint8 `[3, T, H, W]`, RGB.
        num_corrupt: broken packets and damaged frames that were left out.
    """

    pixels: Pixels
    num_corrupt: int

    @property
    def clip(self) -> "Tensor":
        """The pixels as a tensor on the same memory."""
        # Worker processes that pack clips need no tensors, and start ten times as fast without.
        import torch

        return torch.from_numpy(self.pixels)


def is_image_folder(path: str | Path) -> bool:
    """Whether a folder holds numbered images that make at least one video."""
    try:
        return bool(find_sequences(file.name for file in Path(path).iterdir()))
    except SameNumberError:
        return False


class Fitter:
    """Turns decoded frames into RGB arrays `[H, W, 3]` of one size, upright and in SDR.

    One swscale context serves the whole file. In memory the arrays are planes, one of each colour,
    as clips are.
    """

    def __init__(
        self, resolution: int | None, resize: ResizePolicy, pixel_aspect: Fraction = SQUARE
    ) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._resolution = resolution
        self._resize = resize
        self._pixel_aspect = pixel_aspect
        self._first_size: tuple[int, int] | None = None

    def __call__(self, frame: "VideoFrame") -> Pixels:
        from av.video.reformatter import Interpolation

        side = self._resolution
        shown = square_pixels(frame.width, frame.height, self._pixel_aspect)
        if self._first_size is None:
            self._first_size = shown
        width, height = self._first_size
        if side is not None:
            width, height = _fitted_size(*shown, side, self._resize)
        declare_matrix(frame)
        transfer = hdr_transfer(frame)
        shrinks = width * height < frame.width * frame.height
        kind = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        # threads=1: starting swscale's threads costs more than converting a small frame. Planes:
        # the same values as interleaved pixels for a third of the work.
        converted = self._reformatter.reformat(
            frame,
            width,
            height,
            "gbrp" if transfer is None else "gbrp16le",
            interpolation=kind | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
            threads=1,
        )
        if transfer is None:
            planes = rgb_planes(converted)
        else:
            deep = [plane.view("<u2") for plane in _views(converted)]
            planes = sdr_pixels(deep, transfer, int(frame.color_primaries))
        pixels: Pixels = Orientation.of(frame).apply(planes)
        if side is not None:
            pixels = _crop_or_pad(pixels, side)
        return np.ascontiguousarray(pixels).transpose(1, 2, 0)


def rgb_planes(frame: "VideoFrame") -> Pixels:
    """Bytes `[3, H, W]` of a frame in planes."""
    return np.stack(_views(frame))


def _views(frame: "VideoFrame") -> list[Pixels]:
    """Bytes of red, green and blue where they lie: `[H, W]`, or `[H, 2 W]` if they have 16 bits."""
    num_bytes = frame.width * (2 if frame.format.name == "gbrp16le" else 1)
    green, blue, red = (_plane_pixels(plane)[:, :num_bytes] for plane in frame.planes)
    return [red, green, blue]


def _plane_pixels(plane: Any) -> Pixels:
    """Rows of a plane with their padding; PyAV's types do not say that planes are buffers."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)


def _fitted_size(width: int, height: int, side: int, resize: ResizePolicy) -> tuple[int, int]:
    if resize == "stretch":
        return side, side
    pick = min if resize == "centre-crop" else max
    scale = side / pick(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _crop_or_pad(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[1:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    pixels = pixels[:, top : top + side, left : left + side]
    missing = side - pixels.shape[1], side - pixels.shape[2]
    if missing == (0, 0):
        return pixels
    pads = [(gap // 2, gap - gap // 2) for gap in missing]
    return np.pad(pixels, ((0, 0), *pads))


def _numbered(path: Path) -> tuple[Numbered, list[Path]]:
    """The images at a path in the order of their numbers."""
    try:
        found = sequence_at(path)
    except SameNumberError as error:
        raise UnreadableVideoError(path, str(error)) from error
    if found is None:
        raise NoVideoStreamError(path, "the folder has no images")
    folder = path if path.is_dir() else path.parent
    return found, [folder / name for name in found.names]


def probe_images(path: Path) -> VideoInfo:
    """`probe` for a folder of numbered images, which are taken to play at 25 a second."""
    found, files = _numbered(path)
    try:
        with open_image(files[0]) as image:
            mode = image.mode
            width, height = _oriented(image).size
            _check_depth(image)
    except UnknownRangeError as error:
        raise UnreadableVideoError(files[0], str(error)) from error
    except ImageError as error:
        raise UnreadableVideoError(files[0], "cannot be read as an image") from error
    fps = 25.0
    return VideoInfo(
        path=str(path),
        width=width,
        height=height,
        num_frames=len(files),
        num_missing=0,
        fps=fps,
        duration_s=len(files) / fps,
        codec="images",
        pixel_format="gray" if mode in ("1", "L", "I") or mode.startswith("I;16") else "rgb24",
        rotation=0,
        is_variable_rate=False,
        frame_times_s=tuple(n / fps for n in range(len(files))),
        remarks=(f"{found.num_missing} frame numbers missing",) if found.num_missing else (),
    )


def read_images(
    path: Path, indices: Sequence[int] | None, resolution: int | None, resize: ResizePolicy
) -> DecodedFrames:
    """`read_frames` for a folder of numbered images."""
    _, files = _numbered(path)
    outside = [n for n in indices or () if not 0 <= n < len(files)]
    if outside:
        raise CorruptVideoError(
            path, f"frame {outside} is out of range: there are {len(files)} frames"
        )
    fit = Fitter(resolution, resize)
    frames: list[Pixels] = []
    num_corrupt = 0
    for n in range(len(files)) if indices is None else indices:
        try:
            frame = _frame_of(files[n])
        except ImageError as error:
            if indices is not None:
                raise CorruptVideoError(path, f"frame {n} cannot be read") from error
            num_corrupt += 1
        else:
            frames.append(fit(frame))
    if not frames:
        raise CorruptVideoError(path, "no frame can be decoded")
    return DecodedFrames(stack_frames(frames), num_corrupt)


def iterate_images(
    path: Path, resolution: int | None, resize: ResizePolicy
) -> Iterator[Pixels | None]:
    """Yield the images of a folder one by one, fitted to one size; None for a broken one."""
    fit = Fitter(resolution, resize)
    for file in _numbered(path)[1]:
        try:
            frame = _frame_of(file)
        except ImageError:
            yield None
        else:
            yield fit(frame)


class UnknownRangeError(ImageError):
    """An image whose value range is unknown."""


def rgb_image(image: "Image.Image") -> Pixels:
    """Pixels `[H, W, 3]` of an image as displayed; 16 bits are scaled to 8.

    Raises:
        UnknownRangeError: its numbers have no known range.
    """
    upright = _oriented(image)
    _check_depth(upright)
    width, height = upright.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    # Whole images would be there once more for every step of the way.
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _rgb_strip(upright.crop((0, top, width, bottom)))
    return pixels


def _rgb_strip(strip: "Image.Image") -> Pixels:
    if strip.mode == "I" or strip.mode.startswith("I;16"):
        # Pillow would clip to 255 instead of scaling.
        return (np.asarray(strip) >> 8).astype(np.uint8)[..., None]
    return np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))


def _oriented(image: "Image.Image") -> "Image.Image":
    """The image, rotated as displayed."""
    from PIL import ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    return image


def _check_depth(image: "Image.Image") -> None:
    if image.mode == "F":
        raise UnknownRangeError(
            "has floating-point pixels of unknown range: convert it to 8 or 16 bits"
        )
    if image.mode == "I":
        # One band has one pair of extremes, which Pillow's types do not say.
        low, high = cast(tuple[int, int], image.getextrema())
        if low < 0 or high > _WHITE_16:
            raise UnknownRangeError("has numbers beyond 16 bits: convert it to 8 or 16 bits")


def _frame_of(file: Path) -> "VideoFrame":
    import av

    return av.VideoFrame.from_ndarray(_pixels_of(file), format="rgb24")


def _pixels_of(file: Path) -> Pixels:
    # The decoded image is gone before its pixels are copied into a frame.
    with open_image(file) as image:
        return rgb_image(image)


def stack_frames(frames: list[Pixels]) -> Pixels:
    """Frames `[H, W, 3]` to a contiguous clip `[3, T, H, W]`."""
    clip = np.empty((3, len(frames), *frames[0].shape[:2]), np.uint8)
    for number, pixels in enumerate(frames):
        clip[:, number] = pixels.transpose(2, 0, 1)
    return clip
