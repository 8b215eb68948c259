"""Settings of a clip set: what is cut from every video, and how it is stored."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from vidgan.core.expressions import check_expression
from vidgan.core.files import read_json
from vidgan.core.settings import Range, check_fields
from vidgan.data.build.quality import QualityConfig
from vidgan.data.sources.containers.arrays import Axes
from vidgan.errors import UserError
from vidgan.video import ResizePolicy

ClipPolicy = Literal["central", "random", "first"]
ShortPolicy = Literal["drop", "loop", "hold"]
SplitPolicy = Literal["auto", "off"]
SPLITS = ("train", "val", "test", "heldout")
Payload = Literal["auto", "raw", "zstd", "jpeg", "h264"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the clips come from and how they are cut.

    Attributes:
        path: folder of videos, archive or file of arrays, or a packed clip set made by `vidgan
            data build`.
        layout: how the videos lie there, such as ucf101 or kinetics; auto finds out and says so.
        fold: which of several published splits, from 1, where the layout has them.
        axes: order of the axes of arrays, such as NTHWC (videos, frames, height, width, channels);
            auto finds out where there is only one possibility.
        resolution: side of the square clips in pixels.
        frames: frames of a clip.
        stride: take every stride-th frame of the video.
        fps: resample every video to this rate before `stride`; None keeps each video's frames.
        resize: how a frame becomes square: centre-crop, letterbox (black bars) or stretch.
        clip: which frames of a longer video: the central ones, a random window drawn again for
            every sample, or the first ones.
        short: what happens to a video with too few frames: drop it, loop it from its start, or
            hold its last frame.
        splits: auto reads first-level folders named train, val, test or heldout as splits and
            otherwise holds out a fraction of the videos; off trains on everything.
        heldout_fraction: share of the videos that is held out when the folders do not say.
        group_by: regular expression whose first part in parentheses, found in a video's name,
            names its group: videos of one film, person or place, which are held out together.
        flip: mirror half of the training samples; it also swaps motions to the left and right.
        payload: how clips are stored: raw, zstd (exact), jpeg (small), h264 (smallest, but with
            artefacts in colour and time), or auto: zstd up to 64 pixels and jpeg above.
        stored_frames: frames kept of every video; None keeps a clip's worth, or for random clips
            the whole video.
        workers: processes that decode; None chooses by the number of videos and cores. 0 decodes in
            this process, which a video that crashes or hangs its decoder then ends or stops.
        quality: which clips count as doubtful, and whether they are dropped.
        strict: refuse the whole folder if any video is dropped or damaged.
    """

    path: str = ""
    layout: str = "auto"
    fold: Annotated[int, Range(1)] = 1
    axes: Axes = "auto"
    resolution: Annotated[int, Range(1, 16_384)] = 64
    frames: Annotated[int, Range(1, 65_536)] = 16
    stride: Annotated[int, Range(1, 65_536)] = 1
    fps: Annotated[float | None, Range(0.01, 1000)] = None
    resize: ResizePolicy = "centre-crop"
    clip: ClipPolicy = "central"
    short: ShortPolicy = "drop"
    splits: SplitPolicy = "auto"
    heldout_fraction: Annotated[float, Range(0, below=1)] = 0.1
    group_by: str = ""
    flip: bool = False
    payload: Payload = "auto"
    stored_frames: Annotated[int | None, Range(1)] = None
    workers: Annotated[int | None, Range(0, 1024)] = None
    quality: QualityConfig = field(default_factory=QualityConfig)
    strict: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "data")
        if self.stored_frames is not None and self.stored_frames < self.frames:
            raise UserError(
                f"data.stored_frames={self.stored_frames} must be at least"
                f" data.frames={self.frames}"
            )
        check_expression(self.group_by, "data.group_by")
        if self.group_by and not re.compile(self.group_by).groups:
            raise UserError(
                f"data.group_by={self.group_by} needs a part in parentheses that names the group,"
                " such as (.*)_part"
            )

    @property
    def num_stored(self) -> int | None:
        """Frames kept of every video at most; None for whole videos."""
        if self.stored_frames is not None:
            return self.stored_frames
        return None if self.clip == "random" else self.frames


# ------------------------------------------------------------------------------------------------
# Where the clips of a run lie

DATA_FILE = "data.json"
"""File of a run folder that notes, among other things, where its clips were."""


def find_data_of_run(run: str | Path, settings: Mapping[str, Any]) -> str:
    """Where the clips of a run lie, by its `settings`.

    A relative path is that of the folder in which the run began. As seen from the run that comes
    first, since both may have moved; then the place that the run noted, then the current folder and
    those that hold the run.
    """
    path = settings["data"]["path"]
    if not path or (Path(path).is_absolute() and Path(path).exists()):
        return str(path)
    told, here = Path(str(settings.get("run", ""))), Path(run).resolve()
    places = []
    if 0 < len(told.parts) < len(here.parts) and here.parts[-len(told.parts) :] == told.parts:
        places.append(here.parents[len(told.parts) - 1] / path)
    with suppress(OSError, UserError):
        noted = read_json(Path(run) / DATA_FILE).get("place")
        places += [Path(noted)] if isinstance(noted, str) and noted else []
    places += [Path(path), *(folder / path for folder in here.parents)]
    found = next((place for place in places if place.exists()), Path(path))
    # In the words of the user where they lead there, so that folders may move as a whole.
    return str(path) if Path(path).resolve() == found.resolve() else str(found)
