"""Training samples out of a store: sample p of a run is a pure function of (seed, p)."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import lcm
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from vidgan.core.clip_ops import pool_uint8
from vidgan.core.progress import Notify
from vidgan.core.randomness import derive_seed
from vidgan.core.settings import apply_overrides, from_dict, load_yaml
from vidgan.core.shapes import LevelShape
from vidgan.data.build.packing import cached_build
from vidgan.data.packed.cloud import refuse_told_address
from vidgan.data.packed.manifest import is_packed
from vidgan.data.packed.store import ClipStore, open_store
from vidgan.data.settings import DataConfig, find_data_of_run
from vidgan.errors import UserError
from vidgan.models import MODEL_VARIANTS
from vidgan.models.base import ClipShape, ModelConfig

_WINDOW_CHUNKS = 16
"""Chunks that are shuffled together: enough to mix, few enough to stay in the page cache."""
_HELDOUT_ORDER = ("heldout", "test", "val")


Window = Callable[[int, int], int]
"""From a clip's number in the store and the number of its windows to the number of one."""


def first_window(_: int, num_windows: int) -> int:
    """The window of the first frames."""
    return 0


def central_window(_: int, num_windows: int) -> int:
    """The window in the middle; of two the earlier one."""
    return (num_windows - 1) // 2


class ClipRequest(NamedTuple):
    """A sample by its place in the run, and the size it is wanted at."""

    position: int
    frames: int
    resolution: int


class ClipSample(TypedDict):
    """`clip` uint8 `[C, T, H, W]`, `label` (-1 without classes), `index` in the store."""

    clip: Tensor
    label: int
    index: int


class ClipDataset:
    """The clips of one split in an order that only the seed decides.

    Every clip of the split appears once per epoch. The order shuffles the chunks of the store and
    then the clips inside windows of chunks, so that reading stays local on large sets.

    Args:
        store: where the clips are.
        config: clip length, size, window policy and flips.
        seed: decides order, windows and flips.
        split: which clips.

    Raises:
        UserError: the split is empty, or the stored clips are too short or do not fit.
    """

    def __init__(
        self, store: ClipStore, config: DataConfig, seed: int, split: str = "train"
    ) -> None:
        self.store = store
        self.config = config
        self.seed = seed
        self.split = split
        self._indices = self._indices_of(split)
        self._current: tuple[int, list[int]] = -1, []
        full = store.levels[0]
        if full.resolution % config.resolution:
            raise UserError(
                f"clips of {full.resolution} pixels cannot be averaged to"
                f" data.resolution={config.resolution} by a whole factor"
            )
        shortest = min(store.items[i].stored_frames for i in self._indices)
        if shortest < config.frames:
            raise UserError(
                f"the clip set has clips of {shortest} frames, fewer than"
                f" data.frames={config.frames}: lower data.frames or build the set again"
            )

    @property
    def num_clips(self) -> int:
        """Clips in the split."""
        return len(self._indices)

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        return len(self.store.classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return tuple(self.store.classes)

    @property
    def full_shape(self) -> tuple[int, int, int, int]:
        """Largest clip that can be asked for, (C, T, H, W)."""
        channels = self.store.read(self._indices[0], self.store.levels[0]).shape[0]
        return channels, self.config.frames, self.config.resolution, self.config.resolution

    @property
    def heldout_split(self) -> str | None:
        """The split that stands for unseen clips: heldout, else test, else val, else none."""
        present = {item.split for item in self.store.items}
        return next((split for split in _HELDOUT_ORDER if split in present), None)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, request: ClipRequest) -> ClipSample:
        """Sample `request.position`, at the asked size.

        Raises:
            UserError: the size does not divide the full one, or the clip is damaged on disk.
        """
        index = self.index_at(request.position)
        start = self._window_start(index, request.position)
        clip = self._read(index, start, request.frames, request.resolution)
        if self.config.flip and derive_seed("flip", self.seed, request.position) % 2:
            clip = clip.flip(-1)
        return {"clip": clip, "label": self.store.items[index].label, "index": index}

    def index_at(self, position: int) -> int:
        """Number in the store of the clip that sample `position` shows."""
        epoch, place = divmod(position, len(self._indices))
        known_epoch, order = self._current
        if known_epoch != epoch:
            order = self._shuffled(epoch)
            self._current = epoch, order
        return order[place]

    def iter_clips(
        self,
        split: str,
        frames: int,
        resolution: int,
        batch_size: int,
        window: Window | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Every clip of a split once, in the order of the store; nothing is flipped.

        Args:
            split: which clips.
            frames, resolution: their size.
            batch_size: clips of a batch.
            window: which frames of a longer stored clip, as a function of its number in the store
                and of the number of places where a window may start, to the number of one; None
                takes the first or the central one, as the settings say.

        Yields:
            uint8 `[B, C, T, H, W]` and int64 labels `[B]`; the last batch may be smaller.
        """
        indices = self._indices_of(split)
        for first in range(0, len(indices), batch_size):
            yield self._batch(indices[first : first + batch_size], frames, resolution, window)

    def real_clips(
        self, num_clips: int, seed: int, split: str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Different clips of a split (this one's by default) at full size, drawn by `seed`.

        Returns:
            uint8 `[M, C, T, H, W]` and int64 labels `[M]`, with M at most `num_clips`.
        """
        indices = self._indices_of(split or self.split)
        draw = random.Random(derive_seed("real clips", seed))
        chosen = draw.sample(indices, min(num_clips, len(indices)))
        return self._batch(chosen, self.config.frames, self.config.resolution)

    def _batch(
        self, indices: list[int], frames: int, resolution: int, window: Window | None = None
    ) -> tuple[Tensor, Tensor]:
        # Not on groups of other stored levels: real clips are the same ones for every model.
        step = max(1, self.config.frames // frames)
        choose = window or self._fixed_window
        starts = [step * choose(index, self._num_starts(index, step)) for index in indices]
        clips = [
            self._read(index, start, frames, resolution)
            for index, start in zip(indices, starts, strict=True)
        ]
        labels = [self.store.items[index].label for index in indices]
        return torch.stack(clips), torch.tensor(labels, dtype=torch.int64)

    def _indices_of(self, split: str) -> list[int]:
        indices = [i for i, item in enumerate(self.store.items) if item.split == split]
        if not indices:
            present = sorted({item.split for item in self.store.items})
            raise UserError(
                f"the clip set has no clips in the split {split}: it has {', '.join(present)}"
            )
        return indices

    def _shuffled(self, epoch: int) -> list[int]:
        draw = random.Random(derive_seed("order", self.seed, self.split, epoch))
        chunks: dict[int, list[int]] = defaultdict(list)
        for index in self._indices:
            chunks[index // self.store.items_per_chunk].append(index)
        if len(chunks) == len(self._indices):
            # Chunks of one clip: nothing is saved by staying near.
            return draw.sample(self._indices, len(self._indices))
        shuffled = draw.sample(list(chunks.values()), len(chunks))
        order: list[int] = []
        for first in range(0, len(shuffled), _WINDOW_CHUNKS):
            window = [i for chunk in shuffled[first : first + _WINDOW_CHUNKS] for i in chunk]
            order += draw.sample(window, len(window))
        return order

    def _window_start(self, index: int, position: int) -> int:
        """Where training starts: on whole groups of frames of every stored level.

        So a stored level serves every window, with the same frames in it at every level.
        """
        full = self.store.levels[0]
        step = lcm(*(full.frames // level.frames for level in self.store.levels))
        places = self._num_starts(index, step)
        if self.config.clip != "random":
            return step * self._fixed_window(index, places)
        return step * (derive_seed("window", self.seed, position) % places)

    def _fixed_window(self, index: int, num_windows: int) -> int:
        choose = first_window if self.config.clip == "first" else central_window
        return choose(index, num_windows)

    def _num_starts(self, index: int, step: int) -> int:
        """Places where a window of a stored clip may start, `step` frames apart."""
        return (self.store.items[index].stored_frames - self.config.frames) // step + 1

    def levels_read(self, frames: int, resolution: int) -> list[LevelShape]:
        """The stored levels that decide which pixels clips of a size have; the full one first.

        Besides the full one that is the level of this size, which may be stored with loss.
        """
        full, *lower = self.store.levels
        return [full, *(level for level in lower if level == (frames, resolution))]

    def _read(self, index: int, start: int, frames: int, resolution: int) -> Tensor:
        """The window from `start`, pooled to the asked size."""
        if (
            min(frames, resolution) < 1
            or self.config.frames % frames
            or self.config.resolution % resolution
        ):
            raise UserError(
                f"clips of {frames} frames at {resolution} pixels do not divide the data's"
                f" {self.config.frames} frames at {self.config.resolution} pixels by whole factors:"
                " choose data.frames and data.resolution that the model's levels divide"
            )
        full = self.store.levels[0]
        time = self.config.frames // frames
        if full.frames % time == 0 and start % time == 0:
            level = LevelShape(full.frames // time, resolution)
            if level in self.store.levels:
                stored = self.store.read(index, level)
                return stored[:, start // time : start // time + frames]
        clip = self.store.read(index, full)[:, start : start + self.config.frames]
        space = full.resolution // resolution
        return pool_uint8(clip, (time, space, space))


# ------------------------------------------------------------------------------------------------
# Opening a data set by its name: a folder of videos, a packed set, or the clips of a run

RUN_SETTINGS = "config.yaml"


def open_dataset(
    source: str | Path,
    words: Sequence[str] = (),
    *,
    size: tuple[int, int] | None = None,
    notify: Notify | None = None,
) -> ClipDataset:
    """The real clips of a folder, an archive, a packed set or a run, ready for use.

    Videos are decoded into the user's cache once.

    Args:
        source: a folder of videos, an archive, a file of arrays, a packed set, or a run folder,
            which gives the clips it was trained on.
        words: settings of the data, such as `resolution=64`, `frames=16` or `clip=first`.
        size: frames and pixels a side where `words` do not say; None takes those of a packed set or
            of a run, else 16 and 64.
        notify: called with a short message about what happens.

    Raises:
        UserError: there is no such data, or the clips do not fit the settings.
    """
    path = Path(source)
    found: dict[str, Any] = {"path": str(source)}
    levels: list[tuple[int, int]] = []
    run: dict[str, Any] | None = None
    if (path / RUN_SETTINGS).is_file():
        run = load_yaml(path / RUN_SETTINGS)
        if not isinstance(run, dict) or not {"data", "model"} <= run.keys():
            raise UserError(f"{path / RUN_SETTINGS} holds no settings of a run")
        found = run["data"]
        if isinstance(found, dict) and isinstance(found.get("path"), str):
            found = found | {"path": find_data_of_run(path, run)}
    elif size is not None:
        found |= {"frames": size[0], "resolution": size[1]}
    elif is_packed(str(source)):
        full = open_store(source).levels[0]
        found |= {"frames": full.frames, "resolution": full.resolution}
    words = [word.removeprefix("data.") for word in words]
    words = [f"path={word[5:]}" if word.startswith("data=") else word for word in words]
    config = from_dict(DataConfig, apply_overrides(found, words), f"the data of {source}")
    if run is not None:
        if not any(word.startswith("path=") for word in words):
            refuse_told_address(config.path, path / RUN_SETTINGS)
        model = from_dict(ModelConfig, run["model"], f"the model of {source}", (MODEL_VARIANTS,))
        shape = ClipShape(3, config.frames, config.resolution, config.resolution)
        levels = [(level.frames, level.resolution) for level in model.levels(shape)][:-1]
    packed = cached_build(config, levels, notify=notify)
    return ClipDataset(open_store(packed), config, seed=0 if run is None else run.get("seed", 0))
