"""Which frames are taken at a file's own rate, and at whole fractions of it, by container.

    python benchmarks/time_stamps.py

Containers round the times of frames to their own clock. For each of them, clips of 60 frames are
written at every rate below, and resampled to the rate itself and to a half and a third of it. A
step between two frames taken is wrong if it is not the whole number of frames that it should be:
a frame is repeated or skipped. The table counts these steps over all rates, by two rules:

* at the start: the last frame whose time has come, with a microsecond for rounding;
* as read here: the same, looked up half a frame later (`resampled` in `data/build/encode.py`).

`phone` is an MP4 whose times are off by up to a millisecond, as telephones write them.
"""

import random
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from vidgan.data.build.encode import resampled
from vidgan.video import probe

RATES = [Fraction(rate) for rate in (12, 15, 24, 25, 30, 48, 50, 60)]
RATES += [Fraction(rate * 1000, 1001) for rate in (24, 30, 60)]
NUM_FRAMES = 60
DIVISORS = (1, 2, 3)
JITTER_S = 1e-3
WIDTH, HEIGHT = 64, 48
CODECS = {
    "mp4": ("libx264", "yuv420p"),
    "phone": ("libx264", "yuv420p"),
    "ts": ("mpeg2video", "yuv420p"),
    "avi": ("mpeg4", "yuv420p"),
    "mkv": ("libx264", "yuv420p"),
    "webm": ("libvpx-vp9", "yuv420p"),
    "flv": ("flv", "yuv420p"),
    "wmv": ("wmv2", "yuv420p"),
    "gif": ("gif", "rgb8"),
}
"""Container: encoder and pixel format."""
FASTEST = {"gif": 50}
"""Frames a second at most: GIF has steps of 10 ms, and players slow down what takes one."""

Rule = Callable[[list[float], float], list[int]]


def at_the_start(times: list[float], fps: float) -> list[int]:
    """The last frame whose time has come at 0, 1 / fps, 2 / fps, ... seconds."""
    end = times[-1] + times[-1] / (len(times) - 1)
    ticks = np.arange(0, end - 1e-6, 1 / fps) + 1e-6
    frames: list[int] = (np.searchsorted(times, ticks, side="right") - 1).tolist()
    return frames


def write_clip(path: Path, kind: str, rate: Fraction) -> None:
    """Write frames of noise, which no encoder leaves out."""
    rng, jitter = np.random.default_rng(0), random.Random(0)
    codec, pix_fmt = CODECS[kind]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        if kind == "phone":
            stream.codec_context.time_base = Fraction(1, 90_000)
        for n in range(NUM_FRAMES):
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if kind == "phone":
                time = n / float(rate) + jitter.uniform(-JITTER_S, JITTER_S) + JITTER_S
                frame.pts, frame.time_base = round(time * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def wrong_steps(times: list[float], rate: Fraction, rule: Rule) -> list[int]:
    """Steps that repeat or skip a frame, for each of the divisors."""
    counts = []
    for divisor in DIVISORS:
        steps = np.diff(rule(times, float(rate) / divisor))
        counts.append(int((steps != divisor).sum()))
    return counts


def main() -> None:
    """Print the table in Markdown."""
    num_steps = [(NUM_FRAMES - 1) // divisor for divisor in DIVISORS]
    print("| container | largest error of a time | steps | wrong at the start | wrong as read |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for kind in CODECS:
            rates = [rate for rate in RATES if rate <= FASTEST.get(kind, 60)]
            error, wrong = 0.0, np.zeros((2, len(DIVISORS)), int)
            for rate in rates:
                path = Path(folder) / f"clip.{'mp4' if kind == 'phone' else kind}"
                write_clip(path, kind, rate)
                times = list(probe(path).frame_times_s)
                ideal = np.arange(NUM_FRAMES) / float(rate)
                error = max(error, float(abs(np.array(times) - ideal).max()))
                for row, rule in enumerate((at_the_start, resampled)):
                    wrong[row] += wrong_steps(times, rate, rule)
            steps = " / ".join(str(len(rates) * count) for count in num_steps)
            told = [" / ".join(map(str, row)) for row in wrong]
            print(f"| {kind} | {1000 * error:.2f} ms | {steps} | {told[0]} | {told[1]} |")


if __name__ == "__main__":
    main()
