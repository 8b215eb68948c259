"""Writing clips: MP4, GIF, WebP and PNG files, grids and frame strips."""

import io
import tempfile
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


def write_mp4(
    path: str | Path, clip: "Tensor", fps: float, *, quality: int = 18, lossless: bool = False
) -> None:
    """Write a clip as MP4: H.264, yuv420p, index in front, so that every browser plays it.

    The bytes depend on the arguments alone. Odd sides are padded by one repeated pixel.

    Args:
        path: File to write; its folder is made if needed.
        clip: uint8 `[C, T, H, W]` with one or three channels.
        fps: Frames per second.
        quality: x264 constant rate factor, 0 best to 51 worst; 18 is visually lossless.
        lossless: Store RGB exactly (H.264 High 4:4:4, which browsers do not play).
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
    """Write uint8 `[C, T, H, W]` as an endless GIF (256 colours; times in steps of 10 ms)."""
    _write_animation(path, clip, fps, {"optimize": False, "disposal": 1})


def write_webp(path: str | Path, clip: "Tensor", fps: float) -> None:
    """Write uint8 `[C, T, H, W]` as an endless, lossless animated WebP."""
    _write_animation(path, clip, fps, {"lossless": True})


def write_png(path: str | Path, image: "Tensor") -> None:
    """Write uint8 `[C, H, W]` (one or three channels) as PNG."""
    picture = _picture(_frames_of(image[:, None])[0])
    write_file_atomically(path, lambda file: picture.save(file, format="PNG"))


def png_bytes(image: "Tensor") -> bytes:
    """PNG bytes of a uint8 `[C, H, W]` image."""
    buffer = io.BytesIO()
    _picture(_frames_of(image[:, None])[0]).save(buffer, format="PNG")
    return buffer.getvalue()


def tile_clips(
    clips: "Tensor", columns: int | None = None, *, padding: int = 2, scale: int = 1
) -> "Tensor":
    """Lay clips out as one grid clip, row by row.

    Args:
        clips: uint8 `[B, C, T, H, W]`.
        columns: Clips in a row; None makes the grid about square.
        padding: White pixels around every clip, after scaling.
        scale: Whole factor by which pixels are repeated, so that small clips can be seen.

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
    """One picture of several clips: a row for each clip, a column for each frame.

    Args:
        clips: uint8 `[B, C, T, H, W]`.
        max_frames: Columns at most; evenly spaced frames, first and last included.
        padding: White pixels between pictures, after scaling.
        scale: Whole factor by which pixels are repeated.

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


def _picture(pixels: Pixels) -> "Image":
    from PIL import Image

    return Image.fromarray(pixels)


def _encode(path: Path, frames: Pixels, fps: float, quality: int, lossless: bool) -> None:
    import av

    # The same bytes for the same input need a fixed number of threads and no vector code: with it,
    # this x264 gave other bytes from call to call.
    options = {"crf": str(quality), "preset": "medium", "threads": "1", "x264-params": "asm=0"}
    if lossless:
        options = {"qp": "0", "preset": "veryfast", "threads": "1"}
    muxing = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=muxing) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream: Any = container.add_stream("libx264rgb" if lossless else "libx264", rate=rate)
        stream.options = options
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24" if lossless else "yuv420p"
        for pixels in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def _write_animation(path: str | Path, clip: "Tensor", fps: float, options: dict[str, Any]) -> None:
    pictures = [_picture(pixels) for pixels in _frames_of(clip)]

    def save(file: Path) -> None:
        pictures[0].save(
            file,
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 / fps),
            loop=0,
            **options,
        )

    write_file_atomically(path, save)
