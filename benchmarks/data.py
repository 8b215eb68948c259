"""What reading clips costs: random clips from video files, and the same clips from packed sets.

    pip install 'vidgan[faces]'        # OpenCV, one of the readers compared
    python benchmarks/data.py

The videos are rendered (a panned texture, two patches that wander, sensor noise; 320 x 240, 25
frames a second) and encoded as H.264 in MP4 with key frames 250 apart, as x264 puts them, and as
MPEG-4 in AVI with key frames 12 apart, as FFmpeg puts them, and 250 apart; the AVI files have the
rate of UCF-101, 0.54 Mbit/s. Every reader opens the file again and gives 32 frames in a row from a
random place, cut to the central square and shrunk to 128 x 128.

* ours: `vidgan.video.read_frames`, which remembers the times of the frames of a file.
* ours, new file: the same without that memory.
* naive PyAV: decode from the start of the file up to the last wanted frame, turn each wanted one
  into an array with `frame.to_ndarray(format="rgb24")`, then crop and shrink with OpenCV.
* seeking PyAV: the same, but seek to the key frame before the first wanted frame.
* OpenCV: `VideoCapture` set to the frame's number, then read, crop and shrink; with one decoding
  thread, like all readers here but the next.
* OpenCV, all cores: the same with as many decoding threads as OpenCV takes by itself.

The second table reads clips of a packed clip set (32 frames, through `PackedStore.read` with its
checksum) and compares them with decoding a random clip of the short H.264 files at the same size.

One process. Readers take turns clip by clip, so that a busy machine slows all alike; a clip counts
with the best of its rounds. The files are in the page cache: disk and network are not measured.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vidgan.core.machine import processor_id
from vidgan.data.build.packing import build_clips
from vidgan.data.packed.store import open_store
from vidgan.data.settings import DataConfig, Payload
from vidgan.video import frames as video_index
from vidgan.video import read_frames

FRAMES, SIDE = 32, 128
WIDTH, HEIGHT, FPS = 320, 240, 25
KEY_FRAME_DISTANCE = 250
SEED = 0
CODECS: dict[str, tuple[str, str, int | None, dict[str, str]]] = {
    "H.264 in MP4": ("h264.mp4", "libx264", None, {"g": "250", "sc_threshold": "0"}),
    "AVI, key frames 12 apart": ("avi12.avi", "mpeg4", 540_000, {"g": "12"}),
    "AVI, key frames 250 apart": (
        "avi250.avi",
        "mpeg4",
        540_000,
        {"g": "250", "sc_threshold": "1000000000"},
    ),
}
"""Name: folder and suffix, encoder, bits a second, options."""
PAYLOADS: tuple[Payload, ...] = ("raw", "zstd", "jpeg", "h264")
TARGETS = {"naive PyAV": 5.0, "OpenCV": 1.2}
PACKED_TARGETS: dict[tuple[str, int], float] = {("zstd", 64): 20.0, ("jpeg", 128): 5.0}

Pixels = npt.NDArray[np.uint8]
Row = tuple[str, float, float]
"""Name, wall milliseconds and CPU milliseconds a clip."""


def texture(rng: np.random.Generator, height: int, width: int, cell: int) -> npt.NDArray[Any]:
    """Smooth noise `[height, width, 3]` with details of about `cell` pixels."""
    import cv2

    coarse = rng.normal(size=(height // cell + 2, width // cell + 2, 3))
    smooth: npt.NDArray[Any] = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return smooth


def scene(seed: int, num_frames: int) -> Iterator[Pixels]:
    """Frames `[HEIGHT, WIDTH, 3]`."""
    rng = np.random.default_rng(seed)
    background = 120 + 35 * texture(rng, HEIGHT + 80, WIDTH + 160, 24)
    background += 14 * texture(rng, HEIGHT + 80, WIDTH + 160, 4)
    patches = [128 + 50 * texture(rng, 70, 70, 10) for _ in range(2)]
    noise = rng.normal(0, 4, (16, HEIGHT, WIDTH, 1))
    start, speed = rng.uniform(60, 150, (2, 2)), rng.uniform(-2, 2, (2, 2))
    for n in range(num_frames):
        top, left = round(40 + 30 * np.sin(n / 55)), round(80 + 60 * np.sin(n / 40))
        frame = background[top : top + HEIGHT, left : left + WIDTH].copy()
        for patch, at, step in zip(patches, start, speed, strict=True):
            y, x = (at + step * n).astype(int) % (HEIGHT - 70, WIDTH - 70)
            frame[y : y + 70, x : x + 70] = patch
        frame += noise[rng.integers(len(noise))]
        yield frame.clip(0, 255).astype(np.uint8)


def video_files(folder: Path, num_files: int, num_frames: int) -> dict[str, list[Path]]:
    """The same scenes in every codec; rendered if they are not there."""
    files: dict[str, list[Path]] = {name: [] for name in CODECS}
    for seed in range(num_files):
        paths = []
        for name, (place, *_) in CODECS.items():
            kind, suffix = place.split(".")
            paths.append(folder / kind / f"{seed:02d}.{suffix}")
            files[name].append(paths[-1])
        if not all(path.exists() for path in paths):
            write_videos(paths, scene(seed, num_frames))
    return files


def write_videos(paths: list[Path], frames: Iterator[Pixels]) -> None:
    """Write one file for each of `CODECS`."""
    import av

    writers = []
    for path, (_, codec, bit_rate, options) in zip(paths, CODECS.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        container = av.open(str(path), "w")
        stream: Any = container.add_stream(codec, rate=FPS, options=options)
        if bit_rate:
            stream.bit_rate = bit_rate
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        writers.append((container, stream))
    for pixels in frames:
        for container, stream in writers:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    for container, stream in writers:
        container.mux(stream.encode(None))
        container.close()


def square(pixels: Any, side: int) -> Any:
    """The central square, shrunk by area averaging."""
    import cv2

    height, width = pixels.shape[:2]
    small = min(height, width)
    top, left = (height - small) // 2, (width - small) // 2
    cut = pixels[top : top + small, left : left + small]
    return cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA)


def ours(path: Path, start: int, side: int = SIDE) -> Any:
    """This project's reader."""
    return read_frames(path, range(start, start + FRAMES), resolution=side).clip


def ours_new_file(path: Path, start: int) -> Any:
    """This project's reader, which knows nothing about the file yet."""
    video_index.forget(path)
    return ours(path, start)


def naive_pyav(path: Path, start: int) -> Any:
    """Decode from the start of the file."""
    import av

    found = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= start:
                found.append(square(frame.to_ndarray(format="rgb24"), SIDE))
            if len(found) == FRAMES:
                break
    return np.stack(found)


def seeking_pyav(path: Path, start: int) -> Any:
    """Decode from the key frame before, found by time = number / rate."""
    import av

    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = float(stream.time_base or 1)
        container.seek(int(start / FPS / base), stream=stream)
        for frame in container.decode(stream):
            if round((frame.pts or 0) * base * FPS) >= start:
                found.append(square(frame.to_ndarray(format="rgb24"), SIDE))
            if len(found) == FRAMES:
                break
    return np.stack(found)


def opencv(path: Path, start: int) -> Any:
    """OpenCV's own reader with one decoding thread."""
    import cv2

    return read_opencv(path, start, [cv2.CAP_PROP_N_THREADS, 1])


def opencv_threads(path: Path, start: int) -> Any:
    """OpenCV's own reader with as many decoding threads as it likes."""
    return read_opencv(path, start, [])


def read_opencv(path: Path, start: int, options: list[int]) -> Any:
    """Read with a capture of OpenCV that was opened with these options."""
    import cv2

    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, options)
    capture.set(cv2.CAP_PROP_POS_FRAMES, start)
    frames = [square(capture.read()[1], SIDE) for _ in range(FRAMES)]
    capture.release()
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for frame in frames])


def best_times(
    readers: dict[str, Callable[..., Any]], places: list[tuple[Any, ...]], rounds: int
) -> list[Row]:
    """Mean over the places of the best time of the rounds."""
    times = np.full((2, len(readers), len(places)), np.inf)
    for reader in readers.values():
        reader(*places[0])
    for _ in range(rounds):
        for p, place in enumerate(places):
            for r, reader in enumerate(readers.values()):
                wall, cpu = time.perf_counter(), time.process_time()
                reader(*place)
                spent = time.perf_counter() - wall, time.process_time() - cpu
                times[:, r, p] = np.minimum(times[:, r, p], spent)
    means = 1e3 * times.mean(axis=2)
    return [(name, *means[:, r]) for r, name in enumerate(readers)]


def verdict(ratio: float, target: float | None) -> str:
    """Whether a ratio keeps its target."""
    if target is None:
        return "-"
    return f"at least {target:g}: {'kept' if ratio >= target else 'MISSED'}"


def compare_readers(
    files: dict[str, list[Path]], num_frames: int, places: int, rounds: int
) -> None:
    """Print a table of the readers for files of one length."""
    readers = {
        "ours": ours,
        "ours, new file": ours_new_file,
        "naive PyAV": naive_pyav,
        "seeking PyAV": seeking_pyav,
        "OpenCV": opencv,
        "OpenCV, all cores": opencv_threads,
    }
    draw = random.Random(SEED)
    print(f"\nRandom {FRAMES}-frame clips at {SIDE} x {SIDE}, videos of {num_frames} frames\n")
    print("| videos | reader | wall ms a clip | CPU ms a clip | ours is faster by | target |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, paths in files.items():
        at = [(draw.choice(paths), draw.randrange(num_frames - FRAMES + 1)) for _ in range(places)]
        check_agreement(readers, at[0])
        rows = best_times(readers, at, rounds)
        for reader, wall, cpu in rows:
            ratio = wall / rows[0][1]
            told = "-" if reader.startswith("ours") else f"{ratio:.2f}"
            # The targets are for videos that are longer than the distance of their key frames.
            target = TARGETS.get(reader) if num_frames > KEY_FRAME_DISTANCE else None
            kept = verdict(ratio, target)
            print(f"| {name} | {reader} | {wall:.1f} | {cpu:.1f} | {told} | {kept} |")
        sys.stdout.flush()


def check_agreement(readers: dict[str, Callable[..., Any]], place: tuple[Any, ...]) -> None:
    """Refuse to time readers that give different frames; scaling may differ a little."""
    mine = readers["ours"](*place).numpy().transpose(1, 2, 3, 0).astype(int)
    for name, reader in readers.items():
        theirs = mine if name.startswith("ours") else reader(*place).astype(int)
        difference = float(np.abs(mine - theirs).mean())
        if theirs.shape != mine.shape or difference > 4:
            raise SystemExit(f"{name} reads other frames: mean difference {difference:.1f}")


def compare_packed(videos: list[Path], num_frames: int, rounds: int, workspace: Path) -> None:
    """Print a table of the payloads of packed sets against decoding."""
    print(f"\nPacked sets against decoding H.264 videos of {num_frames} frames\n")
    print("| clips | from | KiB a clip | wall ms a clip | CPU ms a clip | faster by | target |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    sizes = [sum(path.stat().st_size for path in videos) / len(videos) / 1024]
    for side in (64, 128):
        draw = random.Random(SEED)
        starts = [draw.randrange(num_frames - FRAMES + 1) for _ in videos]
        readers: dict[str, Callable[..., Any]] = {
            "decoding": lambda n, starts=starts, side=side: ours(videos[n], starts[n], side)
        }
        for payload in PAYLOADS:
            config = DataConfig(
                resolution=side, frames=FRAMES, payload=payload, workers=0, heldout_fraction=0
            )
            out = workspace / f"{payload}-{side}"
            build_clips(videos[0].parent, out, config)
            store = open_store(out)
            readers[payload] = lambda n, store=store: store.read(n, store.levels[0])
            stored = sum(file.stat().st_size for file in out.rglob("*.safetensors"))
            sizes.append(stored / len(store) / 1024)
        order = [(n,) for n in draw.sample(range(len(videos)), len(videos))]
        rows = best_times(readers, order, rounds)
        for (name, wall, cpu), kib in zip(rows, sizes, strict=True):
            ratio = rows[0][1] / wall
            told = "-" if name == "decoding" else f"{ratio:.1f}"
            kept = verdict(ratio, PACKED_TARGETS.get((name, side)))
            shape = f"{FRAMES} x {side} x {side}"
            print(f"| {shape} | {name} | {kib:.0f} | {wall:.2f} | {cpu:.2f} | {told} | {kept} |")
        del sizes[1:]
        sys.stdout.flush()


def main() -> None:
    """Render, encode, read and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short-files", type=int, default=16, help="videos of 180 frames")
    parser.add_argument("--long-files", type=int, default=4, help="videos of 1,500 frames")
    parser.add_argument(
        "--trailer-files", type=int, default=2, help="videos of 3,750 frames, 2.5 minutes"
    )
    parser.add_argument("--places", type=int, default=24, help="random clips for every codec")
    parser.add_argument("--rounds", type=int, default=3, help="a clip counts with its best round")
    parser.add_argument("--videos", type=Path, help="keep the rendered videos in this folder")
    given = parser.parse_args()
    import av
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    versions = f"PyAV {av.__version__}, OpenCV {cv2.__version__}, torch {torch.__version__}"
    print(f"{time.strftime('%Y-%m-%d')}, {processor_id()}, {versions}")
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name)
        short: list[Path] = []
        lengths = {180: given.short_files, 1500: given.long_files, 3750: given.trailer_files}
        for num_frames, num_files in lengths.items():
            folder = (given.videos or workspace) / str(num_frames)
            files = video_files(folder, num_files, num_frames)
            compare_readers(files, num_frames, given.places, given.rounds)
            short = short or files["H.264 in MP4"]
        compare_packed(short, 180, given.rounds, workspace)


if __name__ == "__main__":
    main()
