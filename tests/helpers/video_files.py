"""Makes the videos that the tests read; every frame carries its number as bright and dark bars."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

BITS = 8


def numbered_frame(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A frame whose upper part spells `number` in binary, least significant bar first."""
    frame = np.full((height, width, 3), 96, np.uint8)
    bar = width // BITS
    for bit in range(BITS):
        frame[: height // 2, bit * bar : (bit + 1) * bar] = 255 if number >> bit & 1 else 0
    return frame


def frame_numbers(clip: torch.Tensor) -> list[int]:
    """Read the numbers back from uint8 [3, T, H, W]."""
    height, width = clip.shape[2:]
    bar = width // BITS
    upper = clip[:, :, height // 8 : height * 3 // 8].float().mean(dim=(0, 2))
    bars = upper[:, : BITS * bar].reshape(-1, BITS, bar)[:, :, bar // 4 : bar * 3 // 4].mean(2)
    return [sum(int(value > 128) << bit for bit, value in enumerate(row)) for row in bars]


def write_video(
    path: Path,
    num_frames: int,
    *,
    size: tuple[int, int] = (64, 48),
    fps: int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: list[int] | None = None,
    first_number: int = 0,
    faststart: bool = True,
) -> Path:
    """Encode numbered frames; `times` are presentation times in units of 1/1000 s.

    An MP4 gets its index in front of the images, or with `faststart=False` behind them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    in_front = faststart and path.suffix in (".mp4", ".mov")
    with av.open(
        str(path), "w", options={"movflags": "+faststart"} if in_front else {}
    ) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for n in range(num_frames):
            frame = av.VideoFrame.from_ndarray(
                numbered_frame(first_number + n, *size), format="rgb24"
            )
            if times is not None:
                frame.pts, frame.time_base = times[n], Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def write_audio(path: Path) -> Path:
    """An MP4 with a silent sound track only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for _ in range(8):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate = 16000
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def rotate_clockwise(path: Path) -> Path:
    """Set the display matrix of an MP4 as a telephone held upright does."""
    data = bytearray(path.read_bytes())
    # Version 0 of the track header box: the matrix follows 40 bytes behind the type.
    start = data.index(b"tkhd") + 4 + 40
    one, minus_one, w = 0x00010000, 0xFFFF0000, 0x40000000
    # (x, y) is shown at (-y, x): what pointed right points down.
    matrix = (0, one, 0, minus_one, 0, 0, 0, 0, w)
    data[start : start + 36] = b"".join(value.to_bytes(4, "big") for value in matrix)
    path.write_bytes(data)
    return path


def cut_file(path: Path, fraction: float) -> Path:
    """Keep the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


def cut_without_encoding(source: Path, path: Path, first_frame: int, fps: int = 25) -> Path:
    """Copy the packets from the key frame before `first_frame` on into an MP4.

    Earlier frames stay in the file, outside of what its edit list shows.
    """
    with av.open(str(source)) as whole, av.open(str(path), "w") as target:
        stream = whole.streams.video[0]
        copy = target.add_stream_from_template(stream)
        start = round(first_frame / fps / stream.time_base)
        whole.seek(start, stream=stream)
        for packet in whole.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts - start, packet.dts - start
                packet.stream = copy
                target.mux(packet)
    return path
