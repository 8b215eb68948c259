"""What the readers of video share: errors, records, fitting frames to a size, numbered images."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from vidgan.errors import UserError
from vidgan.pictures import PictureError, open_picture

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from PIL import Image
    from torch import Tensor

Pixels = npt.NDArray[np.uint8]
ResizePolicy = Literal["centre-crop", "letterbox", "stretch"]
"""How a picture becomes a square: cut the longer side, pad the shorter with black, or squash."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


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
    """The file opens but has no pictures (audio only, or a header without frames)."""


class CorruptVideoError(VideoError):
    """Some of the asked frames cannot be decoded."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file holds, measured from its packets and first frame.

    Attributes:
        width: Pixels, after the file's rotation is applied; so is `height`.
        num_frames: Frames that the packets announce; damaged ones are found at decoding only.
        num_missing: Frames that the header promises and the file does not hold (it was cut).
        fps: Mean frames per second.
        duration_s: Seconds, the last frame's own duration included.
        rotation: Counter-clockwise degrees by which stored frames are turned for display.
        frame_times_s: Presentation time of every frame, from 0, increasing.
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

    @property
    def is_grey(self) -> bool:
        """Whether the file stores brightness only."""
        return self.pixel_format.startswith(("gray", "mono"))


@dataclass(frozen=True)
class DecodedFrames:
    """Frames of one video.

    Attributes:
        pixels: uint8 `[3, T, H, W]`, RGB.
        num_corrupt: Broken packets and damaged frames that were left out.
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
    """Whether a folder holds at least two images and all of them end in a number."""
    names = [p for p in Path(path).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
    return len(names) >= 2 and all(re.search(r"\d$", p.stem) for p in names)


class Fitter:
    """Turns decoded frames into RGB arrays `[H, W, 3]` of one size.

    One swscale context serves the whole file. In memory the arrays are planes, one of each colour,
    as clips are.
    """

    def __init__(self, resolution: int | None, resize: ResizePolicy) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._resolution = resolution
        self._resize = resize
        self._first_size: tuple[int, int] | None = None

    def __call__(self, frame: "VideoFrame") -> Pixels:
        from av.video.reformatter import Interpolation

        side = self._resolution
        if self._first_size is None:
            self._first_size = (frame.width, frame.height)
        width, height = self._first_size
        if side is not None:
            width, height = _fitted_size(frame.width, frame.height, side, self._resize)
        shrinks = width * height < frame.width * frame.height
        kind = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        # threads=1: starting swscale's threads costs more than converting a small frame. Planes:
        # the same values as interleaved pixels for a third of the work.
        converted = self._reformatter.reformat(
            frame,
            width,
            height,
            "gbrp",
            interpolation=kind | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
            threads=1,
        )
        pixels: Pixels = np.rot90(rgb_planes(converted), quarter_turn(frame) // 90, (1, 2))
        if side is not None:
            pixels = _crop_or_pad(pixels, side)
        return np.ascontiguousarray(pixels).transpose(1, 2, 0)


def rgb_planes(frame: "VideoFrame") -> Pixels:
    """Pixels `[3, H, W]` of a frame in planes of green, blue and red."""
    green, blue, red = (_plane_pixels(plane)[:, : frame.width] for plane in frame.planes)
    return np.stack([red, green, blue])


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


def quarter_turn(frame: "VideoFrame") -> int:
    """Counter-clockwise degrees, 0 to 270, by which a stored frame is turned for display."""
    return round(frame.rotation / 90) * 90 % 360


def _image_files(path: Path) -> list[Path]:
    files = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]

    def number(file: Path) -> tuple[int, str]:
        digits = re.search(r"(\d+)$", file.stem)
        return int(digits.group(1)) if digits else -1, file.name

    return sorted(files, key=number)


def probe_images(path: Path) -> VideoInfo:
    """`probe` for a folder of numbered images, which are taken to play at 25 a second."""
    files = _image_files(path)
    if not files:
        raise NoVideoStreamError(path, "the folder has no images")
    try:
        with open_picture(files[0]) as picture:
            width, height, mode = picture.width, picture.height, picture.mode
    except PictureError as error:
        raise UnreadableVideoError(files[0], "cannot be read as a picture") from error
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
        pixel_format="gray" if mode in ("1", "L") else "rgb24",
        rotation=0,
        is_variable_rate=False,
        frame_times_s=tuple(n / fps for n in range(len(files))),
    )


def read_images(
    path: Path, indices: Sequence[int] | None, resolution: int | None, resize: ResizePolicy
) -> DecodedFrames:
    """`read_frames` for a folder of numbered images."""
    files = _image_files(path)
    if not files:
        raise NoVideoStreamError(path, "the folder has no images")
    outside = [n for n in indices or () if not 0 <= n < len(files)]
    if outside:
        raise CorruptVideoError(path, f"frame {outside} asked of {len(files)} frames")
    fit = Fitter(resolution, resize)
    frames: list[Pixels] = []
    num_corrupt = 0
    for n in range(len(files)) if indices is None else indices:
        try:
            with open_picture(files[n]) as picture:
                frame = _frame_of(picture)
        except PictureError as error:
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
    """Yield the pictures of a folder one by one, fitted to one size; None for a broken one."""
    fit = Fitter(resolution, resize)
    for file in _image_files(path):
        try:
            with open_picture(file) as picture:
                frame = _frame_of(picture)
        except PictureError:
            yield None
        else:
            yield fit(frame)


def _frame_of(picture: "Image.Image") -> "VideoFrame":
    import av
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(picture).convert("RGB")
    return av.VideoFrame.from_ndarray(np.asarray(upright), format="rgb24")


def stack_frames(frames: list[Pixels]) -> Pixels:
    """Frames `[H, W, 3]` to a contiguous clip `[3, T, H, W]`."""
    clip = np.empty((3, len(frames), *frames[0].shape[:2]), np.uint8)
    for number, pixels in enumerate(frames):
        clip[:, number] = pixels.transpose(2, 0, 1)
    return clip
