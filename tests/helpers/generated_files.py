"""Writing clips the ways other programs do: PNG sequences, lossless and lossy videos."""

from collections.abc import Mapping
from pathlib import Path

import av
from torch import Tensor

from vidgan.video import write_png


def write_pngs(folder: Path, clip: Tensor) -> None:
    """A uint8 clip `[C, T, H, W]` as numbered PNG files."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(clip.unbind(1)):
        write_png(folder / f"frame_{number:03d}.png", frame)


def write_video(
    path: Path,
    clip: Tensor,
    codec: str,
    pixel_format: str,
    options: Mapping[str, str] | None = None,
) -> None:
    """A uint8 clip `[3, T, H, W]` through any codec that FFmpeg has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = clip.shape[3], clip.shape[2], pixel_format
        for pixels in clip.permute(1, 2, 3, 0).contiguous().numpy():
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
