"""Quality of clips for training: motion, scene cuts, black bars, duplicates.

Every clip is measured while it is built, and judged by named thresholds. By default doubtful clips
are kept and reported, because published sets must stay complete for their
numbers to be comparable; each filter can drop them instead.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vidgan.errors import UserError

Policy = Literal["keep", "drop"]
Signature = npt.NDArray[np.uint8]

FILTERS = {
    "static": "stand nearly still",
    "cuts": "hold a scene cut",
    "bars": "have black bars",
    "duplicates": "nearly repeat an earlier one",
}
"""The filters of `QualityConfig`, and a description of the clips they match."""

SIGNATURE_TIMES = 4
SIGNATURE_SIDE = 8
_CELLS = 16
"""Side of the grid of averages on which motion and cuts are measured: camera noise and coding
errors of single pixels vanish in it, a small object that moves by a pixel does not."""
_MOVING_SHARE = 0.02
"""Share of the cells that must move: an object of a seventh of the side covers as much."""
_BLACK = 32
"""Brightest value of a black bar: video black and the noise that coding adds to it."""
_BLACK_SHARE = 0.98
"""Share of a line's pixels that must be black: coding lets the image spill over a little."""
_IMAGE_SHARE, _IMAGE_STEP = 0.75, 8
"""Share of the line inside a bar, over all frames, that must differ from the bar's colour by more
levels than coding adds to it. Before a flat dark background, which leaves black lines too, objects
of the motions set reach 0.59."""
_WINDOW_SHARE = 0.9
"""The same inside of centred bars at all sides, where objects leave as little room beside them."""


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Filters for clips that would mislead a generator.

    Attributes:
        static: what happens to clips that stand nearly still.
        cuts: what happens to clips that hold a cut from one scene to another.
        bars: what happens to clips with black bars.
        duplicates: what happens to clips that nearly repeat an earlier one, in the order of names.
        min_motion: grey levels (of 255) by which the brightness of the busiest fiftieth of the
            image must vary within a clip. 12: still images with noise vary by up to 10 after
            coding at low quality, pans by four pixels in a clip by 32, the motions set by 39.
        cut_jump: least mean difference (of 255) between the frames before and after a cut. 12
            finds every cut between clips of the motions set and none within one.
        cut_ratio: how many times the usual difference of a clip's frames a cut must exceed. 2.5:
            a fast pan differs as much, but from every frame to the next; 4 misses a third of the
            cuts between pans.
        bar_share: least share of the side that a bar covers on two opposite sides. 0.04: the bars
            of a 1.85:1 film in a 16:9 frame just count.
        duplicate_distance: largest root mean square difference (of 255) of two clips at 8 x 8
            cells and 4 times. 6: copies re-encoded or scaled differ by less, other clips of the
            motions set by more.
    """

    static: Policy = "keep"
    cuts: Policy = "keep"
    bars: Policy = "keep"
    duplicates: Policy = "keep"
    min_motion: float = 12.0
    cut_jump: float = 12.0
    cut_ratio: float = 2.5
    bar_share: float = 0.04
    duplicate_distance: float = 6.0

    def __post_init__(self) -> None:
        for name in ("min_motion", "cut_jump", "cut_ratio", "duplicate_distance"):
            if not getattr(self, name) >= 0:
                raise UserError(f"data.quality.{name}={getattr(self, name)} must be at least 0")
        if not 0 < self.bar_share < 0.5:
            raise UserError(f"data.quality.bar_share={self.bar_share} must lie between 0 and 0.5")


@dataclass(frozen=True)
class ClipMeasures:
    """What was measured of a clip.

    Attributes:
        motion: grey levels by which the busiest fiftieth of the image varies.
        cut: number of the frame that starts another scene; None without a cut.
        bars: where black bars lie: "top and bottom", "left and right", "all sides" or "".
        signature: uint8 of a fixed length; near for clips that look alike.
    """

    motion: float
    cut: int | None
    bars: str
    signature: Signature


def measure_clip(
    frames: npt.NDArray[np.uint8], config: QualityConfig, *, is_padded: bool = False
) -> ClipMeasures:
    """Measure a clip.

    Args:
        frames: uint8 `[3, T, H, W]`.
        config: thresholds of cuts and bars.
        is_padded: whether bars were added on purpose, so that none are looked for.
    """
    cells = cell_means(frames, _CELLS)
    return ClipMeasures(
        motion=_motion(cells),
        cut=_find_cut(cells, config),
        bars="" if is_padded else _find_bars(frames, config.bar_share),
        signature=_signature(frames),
    )


def find_flaws(measures: ClipMeasures, config: QualityConfig) -> dict[str, str]:
    """The filters that match a clip, each with a description of the problem."""
    found = {}
    if measures.motion < config.min_motion:
        found["static"] = "nearly static"
    if measures.cut is not None:
        found["cuts"] = "scene cut"
    if measures.bars:
        found["bars"] = f"black bars at {measures.bars}"
    return found


def cell_means(frames: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.float32]:
    """Means of a grid of cells, float `[3, T, side, side]` from uint8 `[3, T, H, W]`.

    Images smaller than the grid keep their pixels as cells. Cells may differ by a pixel in size.
    """
    height, width = frames.shape[2:]
    rows = np.arange(min(side, height) + 1) * height // min(side, height)
    columns = np.arange(min(side, width) + 1) * width // min(side, width)
    areas = (np.diff(rows)[:, None] * np.diff(columns)[None]).astype(np.float32)
    means = np.empty((3, frames.shape[1], len(rows) - 1, len(columns) - 1), np.float32)
    for number in range(frames.shape[1]):
        # One frame at a time: the clip may be a whole film.
        sums = np.add.reduceat(frames[:, number].astype(np.float32), rows[:-1], axis=1)
        means[:, number] = np.add.reduceat(sums, columns[:-1], axis=2) / areas
    return means


def _motion(cells: npt.NDArray[np.float32]) -> float:
    grey = cells.mean(axis=0)
    ranges = np.sort((grey.max(axis=0) - grey.min(axis=0)).ravel())
    return round(float(ranges[-max(1, round(_MOVING_SHARE * len(ranges))) :].min()), 3)


def _find_cut(cells: npt.NDArray[np.float32], config: QualityConfig) -> int | None:
    """The frame after the largest step, if that step is a scene cut."""
    if cells.shape[1] < 2:
        return None
    steps = _difference(cells[:, 1:], cells[:, :-1])
    place = int(steps.argmax())
    others = np.delete(steps, place)
    usual = float(np.median(others)) if len(others) else 0.0
    jump = float(steps[place])
    if place + 2 < cells.shape[1]:
        # Behind a flash of light the frames are as before it: that is not another scene.
        jump = min(jump, float(_difference(cells[:, place + 2], cells[:, place])))
    if place > 0:
        jump = min(jump, float(_difference(cells[:, place + 1], cells[:, place - 1])))
    return place + 1 if jump > max(config.cut_jump, config.cut_ratio * usual) else None


def _difference(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Mean absolute difference over colours and cells, for every frame if there are several."""
    difference: npt.NDArray[np.float32] = np.abs(first - second).mean(axis=(0, -2, -1))
    return difference


def _find_bars(frames: npt.NDArray[np.uint8], share: float) -> str:
    turned = frames.transpose(0, 1, 3, 2)
    rows, columns = _black_ends(frames, share), _black_ends(turned, share)
    if rows and columns and _is_centred(rows) and _is_centred(columns):
        inside = frames[..., columns[0] : frames.shape[3] - columns[1]]
        turned_inside = turned[..., rows[0] : turned.shape[3] - rows[1]]
        if all(
            _image_begins(clip, ends, _WINDOW_SHARE)
            for clip, ends in ((inside, rows), (turned_inside, columns))
        ):
            return "all sides"
    if rows and _image_begins(frames, rows, _IMAGE_SHARE):
        return "top and bottom"
    if columns and _image_begins(turned, columns, _IMAGE_SHARE):
        return "left and right"
    return ""


def _black_ends(frames: npt.NDArray[np.uint8], share: float) -> tuple[int, int] | None:
    """How many of the first and of the last lines are black in all frames, if both are enough.

    Args:
        frames: uint8 `[3, T, lines, pixels of a line]`.
        share: least share of the lines on either side.
    """
    dark = frames.max(axis=0) <= _BLACK
    black: npt.NDArray[np.bool_] = dark.mean(axis=(0, 2)) >= _BLACK_SHARE
    first, last = int(np.argmin(black)), int(np.argmin(black[::-1]))
    return (first, last) if min(first, last) >= max(1, int(share * len(black))) else None


def _is_centred(ends: tuple[int, int]) -> bool:
    return abs(ends[0] - ends[1]) <= 1 + max(ends) // 4


def _image_begins(frames: npt.NDArray[np.uint8], ends: tuple[int, int], image_share: float) -> bool:
    """Whether an image begins behind the black ends along all their length.

    An object before a dark background leaves black lines too, but touches them at one place: beside
    it the background goes on in the same colour.
    """
    for lines, width in zip((frames, frames[:, :, ::-1]), ends, strict=True):
        colour = lines[:, :, :width].mean(axis=(1, 2, 3), keepdims=True)
        # The line at the edge may be a mixture of both, which scaling makes.
        away = np.abs(lines[:, :, width : width + 2] - colour).max(axis=(0, 2)) > _IMAGE_STEP
        if away.mean() < image_share:
            return False
    return True


def _signature(frames: npt.NDArray[np.uint8]) -> Signature:
    """Brightness of `SIGNATURE_SIDE`^2 cells at a few times."""
    times = np.round(np.linspace(0, frames.shape[1] - 1, SIGNATURE_TIMES)).astype(int)
    chosen = frames[:, times]
    if min(chosen.shape[2:]) < SIGNATURE_SIDE:
        factor = -(-SIGNATURE_SIDE // min(chosen.shape[2:]))
        chosen = chosen.repeat(factor, axis=2).repeat(factor, axis=3)
    cells = cell_means(chosen, SIGNATURE_SIDE).mean(axis=0)
    signature: Signature = np.round(cells).astype(np.uint8).ravel()
    return signature
