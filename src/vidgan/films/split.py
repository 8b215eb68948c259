"""One film to many: a file for every shot, some of them held out.

Pieces of one long shot look alike, so whole shots are held out.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vidgan.core.files import check_place, is_vacant, write_folder_atomically
from vidgan.data.build.engine import Crashed, Engine
from vidgan.data.sources.source import Source, hold_out
from vidgan.errors import UserError
from vidgan.films.faces.shots import Shot, ShotConfig, cut_detector, shots_between
from vidgan.films.item_work import Pixels, opencv
from vidgan.video import FrameStream, VideoError, probe, write_mp4

PIECE_BYTES = 512 << 20
"""Of decoded frames that are held in memory."""
QUALITY = 12
"""x264 rate factor: the pieces are decoded and shrunk once more before they are learned."""


@dataclass(frozen=True)
class SplitJob:
    """A film to cut, where to, and how; see `split_film`."""

    film: str
    out: str
    config: ShotConfig
    heldout: float


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """The outcome for a film.

    Attributes:
        film: the file.
        out: the folder with its shots.
        num_frames: frames that decoded.
        num_corrupt: frames that did not.
        num_shots: shots found.
        num_short: of those, left out as too short.
        min_frames: fewest frames of a shot that is kept.
        counts: files by split; a long shot has several.
    """

    film: str
    out: str
    num_frames: int
    num_corrupt: int
    num_shots: int
    num_short: int
    min_frames: int
    counts: dict[str, int]

    def lines(self) -> list[str]:
        """The human-readable report."""
        files = ", ".join(f"{split} {count}" for split, count in sorted(self.counts.items()))
        text = [
            f"{self.num_shots} shots in {self.num_frames:,} frames of {self.film}",
            f"films of {self.num_shots - self.num_short} shots in {self.out}: {files}",
        ]
        if self.num_short:
            text.append(f"left out: {self.num_short} shots of fewer than {self.min_frames} frames")
        if self.num_corrupt:
            text.append(f"damaged: {self.num_corrupt} frames, which are skipped")
        return text


def split_film(
    film: str | Path,
    out: str | Path,
    config: ShotConfig,
    heldout: float = 0.1,
    time_limit_s: float = 36_000.0,
) -> SplitReport:
    """Cut a film into its shots: `out/train` and `out/heldout` hold a film for each.

    The film is decoded twice, in a process of its own, and never held in memory as a whole; shots
    longer than `config.max_frames`, or than memory allows, are cut into pieces.

    Args:
        film: video file, or folder of numbered images.
        out: folder to make; it appears when it is complete.
        config: how cuts are found.
        heldout: share of the shots that is held out.
        time_limit_s: seconds after which the film is given up.

    Raises:
        UserError: no OpenCV, the film cannot be read, it has no usable shot, or `out` is taken.
    """
    opencv()
    if not 0 <= heldout < 1:
        raise UserError(f"--heldout {heldout} must be at least 0 and below 1")
    if not is_vacant(out):
        raise UserError(f"{out} already exists: choose another folder, or delete it")
    check_place(out)
    job = SplitJob(str(film), str(out), config, heldout)
    (result,) = Engine(time_limit_s=time_limit_s).map_in_order(_split, [job], None, 1)
    if isinstance(result, Crashed):
        raise UserError(f"{film}: {result.reason}")
    if isinstance(result, str):
        raise UserError(result)
    return result


def _split(job: SplitJob) -> SplitReport | str:
    """The report, or a sentence that says why there is none."""
    try:
        return _write_shots(job)
    except (VideoError, UserError) as error:
        return str(error)


def _write_shots(job: SplitJob) -> SplitReport:
    opencv()
    film, config = Path(job.film), job.config
    fps = probe(film).fps
    detector, stream = cut_detector(config), FrameStream(film)
    frame_bytes = 1
    for number, pixels in stream:
        detector.see(number, pixels)
        frame_bytes = pixels.nbytes
    shots = shots_between(detector.cuts(), stream.num_frames)
    usable = [shot for shot in shots if shot.num_frames >= config.min_frames]
    if not usable:
        raise UserError(
            f"none of the {len(shots)} shots of {film} has {config.min_frames} frames: set"
            " min_frames lower"
        )
    most = max(config.min_frames, min(config.max_frames, PIECE_BYTES // frame_bytes))
    pieces = [(f"shot-{n:05d}", piece) for n, s in enumerate(usable) for piece in _cut(s, most)]
    names = sorted({name for name, _ in pieces})
    sources, _ = hold_out([Source(name=name, path=film) for name in names], job.heldout)
    split_of = {source.name: source.split or "train" for source in sources}
    counts = Counter(split_of[name] for name, _ in pieces)

    def write(folder: Path) -> None:
        wanted = {number for _, piece in pieces for number in range(*piece)}
        frames = iter(FrameStream(film, wanted))
        for name, piece in pieces:
            path = folder / split_of[name] / f"{name}-{piece.start}.mp4"
            write_mp4(path, _clip(frames, piece), fps, quality=QUALITY)

    write_folder_atomically(job.out, write)
    return SplitReport(
        film=job.film,
        out=job.out,
        num_frames=stream.num_frames,
        num_corrupt=stream.num_corrupt,
        num_shots=len(shots),
        num_short=len(shots) - len(usable),
        min_frames=config.min_frames,
        counts=dict(counts),
    )


def _cut(shot: Shot, most: int) -> Iterator[Shot]:
    """A shot in equal pieces of at most so many frames."""
    count = -(-shot.num_frames // most)
    edges = [shot.start + shot.num_frames * n // count for n in range(count + 1)]
    yield from (Shot(start, stop) for start, stop in itertools.pairwise(edges))


def _clip(frames: Iterator[tuple[int, Pixels]], piece: Shot) -> torch.Tensor:
    """The next frames as uint8 `[C, T, H, W]`."""
    pixels = [next(frames)[1] for _ in range(piece.num_frames)]
    return torch.from_numpy(np.stack(pixels)).permute(3, 0, 1, 2)
