"""Writing clips: MP4, GIF, WebP and PNG files, grids and frame strips."""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vidgan.core.files import write_file_atomically

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Pixels = npt.NDArray[np.uint8]

_RGB, _BT709, _SRGB = 0, 1, 13
_LIMITED, _FULL = 1, 2
"""Codes of ITU-T H.273 for matrix, primaries and transfer, and FFmpeg's for the range."""
_LONGEST_CS = 65535


@dataclass(frozen=True)
class _Clock:
    """Times that an animated image can store.

    Attributes:
        unit_ms: step of times.
        shortest: steps that browsers show a frame for at least; what asks for less is slowed down.
    """

    unit_ms: int
    shortest: int

    def schedule(self, num_frames: int, fps: float) -> tuple[list[int], list[int]]:
        """Frames to store and the steps that each is shown, so that the whole lasts as it should.

        At rates that cannot be shown, evenly spread frames are left out.
        """
        total = max(self.shortest, round(1000 * num_frames / fps / self.unit_ms))
        count = min(num_frames, total // self.shortest)
        starts = [round(n * total / count) for n in range(count + 1)]
        frames = [(2 * n + 1) * num_frames // (2 * count) for n in range(count)]
        return frames, np.diff(starts).tolist()


_CLOCKS = {".gif": _Clock(unit_ms=10, shortest=2), ".webp": _Clock(unit_ms=1, shortest=11)}


def write_mp4(
    path: str | Path, clip: "Tensor", fps: float, *, quality: int = 18, lossless: bool = False
) -> None:
    """Write a clip as MP4: H.264, yuv420p, index in front, so that every browser plays it.

    The file says that its colours are those of BT.709 in limited range, or lossless ones sRGB. The
    bytes depend on the arguments alone. Odd sides are padded by one repeated pixel.

    Args:
        path: file to write; its folder is made if needed.
        clip: uint8 `[C, T, H, W]` with one or three channels.
        fps: frames per second.
        quality: x264 constant rate factor, 0 best to 51 worst; 18 is visually lossless.
        lossless: store RGB exactly (H.264 High 4:4:4, which browsers do not play).
    """
    frames = _frames_of(clip)
    if not lossless:
        height, width = frames.shape[1:3]
        frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    write_file_atomically(path, lambda file: _encode(file, frames, fps, quality, lossless))


def mp4_bytes(clip: "Tensor", fps: float, *, quality: int = 18) -> bytes:
    """The bytes that `write_mp4` writes for uint8 `[C, T, H, W]`, to be embedded in a page."""
    # The index can only be moved to the front of a real file.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        write_mp4(file, clip, fps, quality=quality)
        return file.read_bytes()


def write_gif(path: str | Path, clip: "Tensor", fps: float) -> None:
    """Write uint8 `[C, T, H, W]` as an endless GIF of 256 colours a frame.

    It lasts as long as the clip, to 10 ms. Above 50 frames a second frames are left out, see
    `told_left_out`. Equal neighbours stay frames of their own.
    """
    frames = _frames_of(clip)
    chosen, steps = _CLOCKS[".gif"].schedule(len(frames), fps)
    blocks = b"".join(_gif_blocks(frames[chosen], [min(n, _LONGEST_CS) for n in steps]))

    def save(file: Path) -> None:
        file.write_bytes(blocks)

    write_file_atomically(path, save)


def write_webp(path: str | Path, clip: "Tensor", fps: float) -> None:
    """Write uint8 `[C, T, H, W]` as an endless, lossless animated WebP.

    Above 90 frames a second frames are left out, see `told_left_out`.
    """
    frames = _frames_of(clip)
    chosen, durations = _CLOCKS[".webp"].schedule(len(frames), fps)
    images = [_image(frames[n]) for n in chosen]

    def save(file: Path) -> None:
        more = images[1:]
        images[0].save(
            file, save_all=True, append_images=more, duration=durations, loop=0, lossless=True
        )

    write_file_atomically(path, save)


def told_left_out(path: str | Path, num_frames: int, fps: float) -> str:
    """A sentence about the frames that a GIF or WebP of this rate cannot show, or nothing."""
    clock = _CLOCKS.get(Path(path).suffix.lower())
    count = len(clock.schedule(num_frames, fps)[0]) if clock else num_frames
    if clock is None or count == num_frames:
        return ""
    most = 1000 // (clock.unit_ms * clock.shortest)
    return (
        f"{path} shows {count} of the {num_frames} frames, in their time: browsers play it at no"
        f" more than {most} a second; an .mp4 has all of them"
    )


def write_png(path: str | Path, image: "Tensor") -> None:
    """Write uint8 `[C, H, W]` (one or three channels) as PNG."""
    png = _image(_frames_of(image[:, None])[0])
    write_file_atomically(path, lambda file: png.save(file, format="PNG"))


def png_bytes(image: "Tensor") -> bytes:
    """PNG bytes of a uint8 `[C, H, W]` image."""
    buffer = io.BytesIO()
    _image(_frames_of(image[:, None])[0]).save(buffer, format="PNG")
    return buffer.getvalue()


def tile_clips(
    clips: "Tensor", columns: int | None = None, *, padding: int = 2, scale: int = 1
) -> "Tensor":
    """Lay clips out as one grid clip, row by row.

    Args:
        clips: uint8 `[B, C, T, H, W]`.
        columns: clips in a row; None makes the grid about square.
        padding: white pixels around every clip, after scaling.
        scale: whole factor by which pixels are repeated, so that small clips can be seen.

    Returns:
        uint8 `[C, T, H', W']`; empty places are white.
    """
    b, c, t, h, w = clips.shape
    columns = min(b, columns or int(np.ceil(np.sqrt(b))))
    rows = -(-b // columns)
    clips = clips.repeat_interleave(scale, 3).repeat_interleave(scale, 4)
    cell_h, cell_w = h * scale + padding, w * scale + padding
    grid = clips.new_full((c, t, rows * cell_h + padding, columns * cell_w + padding), 255)
    for i, clip in enumerate(clips):
        top, left = (i // columns) * cell_h + padding, (i % columns) * cell_w + padding
        grid[:, :, top : top + h * scale, left : left + w * scale] = clip
    return grid


def frame_strip(
    clips: "Tensor", max_frames: int | None = None, *, padding: int = 2, scale: int = 1
) -> "Tensor":
    """One image of several clips: a row for each clip, a column for each frame.

    Args:
        clips: uint8 `[B, C, T, H, W]`.
        max_frames: columns at most; evenly spaced frames, first and last included.
        padding: white pixels between images, after scaling.
        scale: whole factor by which pixels are repeated.

    Returns:
        uint8 `[C, H', W']`.
    """
    b, c, t, h, w = clips.shape
    count = min(t, max_frames or t)
    chosen = np.linspace(0, t - 1, count).round().astype(int).tolist()
    frames = clips[:, :, chosen].transpose(1, 2).reshape(b * count, c, 1, h, w)
    return tile_clips(frames, columns=count, padding=padding, scale=scale)[:, 0]


def _frames_of(clip: "Tensor") -> Pixels:
    """Clip `[C, T, H, W]` to frames `[T, H, W, 3]`; one channel is repeated."""
    import torch

    if clip.dtype != torch.uint8 or clip.dim() != 4 or clip.shape[0] not in (1, 3):
        raise ValueError(
            f"a clip to write must be uint8 [1 or 3, T, H, W], got {clip.dtype} {list(clip.shape)}"
        )
    rgb = clip.detach().cpu().expand(3, *clip.shape[1:]).permute(1, 2, 3, 0)
    return np.ascontiguousarray(rgb.numpy())


def _image(pixels: Pixels) -> "Image":
    from PIL import Image

    return Image.fromarray(pixels)


def _encode(path: Path, frames: Pixels, fps: float, quality: int, lossless: bool) -> None:
    import av
    from av.video.reformatter import VideoReformatter

    # The same bytes for the same input need a fixed number of threads and no vector code: with it,
    # this x264 gave other bytes from call to call.
    options = {"crf": str(quality), "preset": "medium", "threads": "1", "x264-params": "asm=0"}
    if lossless:
        options = {"qp": "0", "preset": "veryfast", "threads": "1"}
    muxing = {"movflags": "+faststart", "fflags": "+bitexact"}
    reformatter = VideoReformatter()
    with av.open(str(path), "w", format="mp4", options=muxing) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream: Any = container.add_stream("libx264rgb" if lossless else "libx264", rate=rate)
        stream.options = options
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24" if lossless else "yuv420p"
        stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc = _SRGB if lossless else _BT709
        stream.codec_context.color_range = _FULL if lossless else _LIMITED
        stream.codec_context.colorspace = _RGB if lossless else _BT709
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if not lossless:
                frame = reformatter.reformat(
                    frame,
                    format="yuv420p",
                    dst_colorspace=_BT709,
                    dst_color_range=_LIMITED,
                    interpolation="BICUBIC",
                    threads=1,
                )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _gif_blocks(frames: Pixels, steps: list[int]) -> Iterator[bytes]:
    """A GIF of frames `[T, H, W, 3]` and how long each is shown, in steps of 10 ms.

    Pillow's own writing of animations would merge equal neighbours.
    """
    from PIL import Image
    from PIL.GifImagePlugin import getdata, getheader

    before = None
    for frame, step in zip(frames, steps, strict=True):
        top, bottom, left, right = _changed_box(before, frame)
        # Only what changes is stored; the rest of the image before stays visible.
        part = _image(frame[top:bottom, left:right])
        coded = part.convert("P", palette=Image.Palette.ADAPTIVE)
        if before is None:
            yield from getheader(coded, info={"loop": 0})[0]
        yield from getdata(
            coded, (left, top), duration=10 * step, disposal=1, include_color_table=True
        )
        before = frame
    yield b";"


def _changed_box(before: Pixels | None, frame: Pixels) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what differs; one pixel where nothing does."""
    if before is None:
        return 0, frame.shape[0], 0, frame.shape[1]
    differs = (before != frame).any(axis=2)
    if not differs.any():
        return 0, 1, 0, 1
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
