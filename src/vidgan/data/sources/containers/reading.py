"""Reading one video of a container with the functions for any video."""

import os
import posixpath
import re
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from vidgan.core.files import TEMPORARY_MARK
from vidgan.data.settings import SPLITS
from vidgan.data.sources.containers.archive import ARCHIVE_SUFFIXES, is_archive
from vidgan.data.sources.containers.archive_items import list_archive, read_archive_item
from vidgan.data.sources.containers.array_items import list_arrays, read_array_item
from vidgan.data.sources.containers.arrays import ARRAY_SUFFIXES, Axes
from vidgan.data.sources.containers.items import Content, Frames, Images
from vidgan.data.sources.containers.tfrecord import (
    TFRECORD_SUFFIXES,
    choose_levels,
    list_records,
    read_record_item,
)
from vidgan.data.sources.source import Scan, Source, split_and_class
from vidgan.errors import UserError, printable
from vidgan.video import (
    CorruptVideoError,
    DecodedFrames,
    FrameStream,
    NoVideoStreamError,
    ResizePolicy,
    UnreadableVideoError,
    VideoError,
    VideoInfo,
    probe,
    read_frames,
)
from vidgan.video.frames import Fitter, Pixels, stack_frames

CONTAINER_SUFFIXES = (*ARCHIVE_SUFFIXES, *TFRECORD_SUFFIXES, *ARRAY_SUFFIXES)
_USUAL_FPS = 25.0
"""What numbered images are taken to play at; containers that say nothing do the same."""


class CleanFrames(NamedTuple):
    """Frames of a video that decode, and what does not."""

    num_frames: int
    num_corrupt: int


class VideoReader(Protocol):
    """A video wherever it lies; the arguments and errors are those of `vidgan.video`.

    Attributes:
        jpeg_strip: the file itself, if it is a JPEG of all frames, one below the other.
    """

    @property
    def jpeg_strip(self) -> bytes | None: ...

    def probe(self) -> VideoInfo:
        """Measure it."""
        ...

    def read(
        self, indices: Sequence[int] | None, resolution: int | None, resize: ResizePolicy
    ) -> DecodedFrames:
        """Decode some of its frames."""
        ...

    def count_clean(self) -> CleanFrames:
        """Decode all of it, and keep nothing but the counts."""
        ...

    def read_clean(self, indices: Sequence[int], resolution: int, resize: ResizePolicy) -> Pixels:
        """The frames uint8 `[3, T, H, W]` with these numbers among those that decode."""
        ...


def is_container(path: Path) -> bool:
    """Whether a file holds videos inside, by its name."""
    return path.name.lower().endswith(CONTAINER_SUFFIXES)


def list_container(path: Path, axes: Axes) -> Scan:
    """The videos of a container.

    Args:
        path: an archive, a file of TFRecords or of arrays.
        axes: order of the axes of arrays, or auto.

    Raises:
        UserError: it cannot be read or holds no video.
    """
    if is_archive(path):
        return list_archive(path)
    if path.name.lower().endswith(TFRECORD_SUFFIXES):
        return list_records(path)
    return list_arrays(path, axes)


@contextmanager
def open_item(path: Path, member: str) -> Iterator[VideoReader]:
    """Read one video of a container; what FFmpeg needs as files lies in a temporary folder.

    Args:
        path: the container.
        member: address of one of its sources.

    Raises:
        VideoError: the item is damaged.
    """
    content = _read_item(path, member)
    if isinstance(content, Frames):
        yield ArrayReader(path, content)
        return
    with tempfile.TemporaryDirectory(prefix="vidgan-") as folder:
        if isinstance(content, Images):
            for number, data in enumerate(content.files):
                # Pillow finds out the kind of an image by itself, whatever its suffix.
                (Path(folder) / f"{number:08d}.png").write_bytes(data)
            yield FileReader(Path(folder), content.fps)
        else:
            file = Path(folder) / f"video{content.suffix}"
            file.write_bytes(content.data)
            yield FileReader(file)


def _read_item(path: Path, member: str) -> Content:
    try:
        if is_archive(path):
            return read_archive_item(path, member)
        if path.name.lower().endswith(TFRECORD_SUFFIXES):
            return read_record_item(path, member)
        return read_array_item(path, member)
    except VideoError:
        raise
    except MemoryError as error:
        raise UnreadableVideoError(path, "is larger than the memory of this machine") from error
    except (UserError, KeyError, OSError) as error:
        # The container was whole when it was listed.
        raise UnreadableVideoError(path, f"cannot be read any more ({error})") from error


@dataclass(frozen=True)
class FileReader:
    """A video file or a folder of numbered images; `fps` overrides what it says."""

    path: Path
    fps: float | None = None
    jpeg_strip: None = None

    def probe(self) -> VideoInfo:
        """Measure it."""
        info = probe(self.path)
        if self.fps is None:
            return info
        times = tuple(n / self.fps for n in range(info.num_frames))
        duration = info.num_frames / self.fps
        return replace(info, fps=self.fps, duration_s=duration, frame_times_s=times)

    def read(
        self, indices: Sequence[int] | None, resolution: int | None, resize: ResizePolicy
    ) -> DecodedFrames:
        """Decode some of its frames."""
        return read_frames(self.path, indices, resolution=resolution, resize=resize)

    def count_clean(self) -> CleanFrames:
        """Decode all of it, and keep nothing but the counts."""
        stream = FrameStream(self.path, wanted=())
        deque(stream, maxlen=0)
        return CleanFrames(stream.num_frames, stream.num_corrupt)

    def read_clean(self, indices: Sequence[int], resolution: int, resize: ResizePolicy) -> Pixels:
        """The frames with these numbers among those that decode."""
        found = dict(FrameStream(self.path, frozenset(indices), resolution, resize))
        return stack_frames([found[n] for n in indices])


@dataclass(frozen=True)
class ArrayReader:
    """Frames in memory; `jpeg_strip` is the file that they were decoded from, if it is one."""

    path: Path
    frames: Frames
    jpeg_strip: bytes | None = None

    def probe(self) -> VideoInfo:
        """Measure it."""
        count, height, width, _ = self.frames.pixels.shape
        if not count:
            raise NoVideoStreamError(self.path, "has no frames")
        fps = self.frames.fps or _USUAL_FPS
        return VideoInfo(
            path=str(self.path),
            width=width,
            height=height,
            num_frames=count,
            num_missing=0,
            fps=fps,
            duration_s=count / fps,
            codec="array",
            pixel_format="gray" if self._is_grey() else "rgb24",
            rotation=0,
            is_variable_rate=False,
            frame_times_s=tuple(n / fps for n in range(count)),
        )

    def read(
        self, indices: Sequence[int] | None, resolution: int | None, resize: ResizePolicy
    ) -> DecodedFrames:
        """Take some of its frames."""
        import av

        pixels = self.frames.pixels
        chosen = range(len(pixels)) if indices is None else indices
        outside = [n for n in chosen if not 0 <= n < len(pixels)]
        if outside or not chosen:
            raise CorruptVideoError(
                self.path, f"frame {outside} is out of range: there are {len(pixels)} frames"
            )
        if resolution is None or (resolution, resolution) == pixels.shape[1:3]:
            return DecodedFrames(stack_frames([pixels[n] for n in chosen]), 0)
        fit = Fitter(resolution, resize)
        fitted = [fit(av.VideoFrame.from_ndarray(pixels[n], format="rgb24")) for n in chosen]
        return DecodedFrames(stack_frames(fitted), 0)

    def count_clean(self) -> CleanFrames:
        """Frames in memory are already decoded."""
        return CleanFrames(len(self.frames.pixels), 0)

    def read_clean(self, indices: Sequence[int], resolution: int, resize: ResizePolicy) -> Pixels:
        """The frames with these numbers."""
        return self.read(indices, resolution, resize).pixels

    def _is_grey(self) -> bool:
        first, second, third = np.moveaxis(self.frames.pixels, -1, 0)
        return np.array_equal(first, second) and np.array_equal(first, third)


# ------------------------------------------------------------------------------------------------
# Finding the containers that a user names, and everything that lies in them

_LABELS_OF_NPY = "_labels.npy"


def find_containers(root: Path) -> list[Path]:
    """The containers below a folder, sorted, or the file itself if it is one."""
    if root.is_file():
        return [root] if is_container(root) else []
    return sorted(_walk(root))


def _walk(root: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        if here.resolve() in seen:
            # A link back to a folder above would be walked forever.
            subfolders.clear()
            continue
        seen.add(here.resolve())
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            is_ours = name.startswith((".", TEMPORARY_MARK)) or name.endswith(_LABELS_OF_NPY)
            if not is_ours and is_container(here / name) and (here / name).is_file():
                yield here / name


def scan_containers(
    root: Path, files: Sequence[Path], axes: Axes, resolution: int, *, splits: bool
) -> Scan:
    """List the videos of containers and settle what their folders mean.

    The sources come in the order of the files; their names are unique.

    Args:
        root: what the user named: one of the files, or a folder above all of them.
        files: the containers.
        axes: order of the axes of arrays, or auto.
        resolution: side that is wanted, where a container offers several.
        splits: whether names of files and folders may say train, val, test or heldout.

    Raises:
        UserError: none of the files can be read; the sentence is that of the first one.
    """
    records = [file for file in files if file.name.lower().endswith(TFRECORD_SUFFIXES)]
    chosen, level_notes = choose_levels(records, resolution)
    files = sorted({*files} - {*records} | {*chosen})
    scans: list[Scan] = []
    dropped: list[tuple[str, str]] = []
    errors: list[UserError] = []
    for file in files:
        try:
            scans.append(list_container(file, axes))
        except UserError as error:
            errors.append(error)
            dropped.append((_relative(file, root), str(error)))
    if not scans:
        raise errors[0]
    notes = list(level_notes)
    for scan in scans:
        place = "" if scan.root == root else _relative(scan.root, root)
        notes += [f"{place}: {note}" if place else note for note in scan.notes]
        dropped += [(_join(place, name), why) for name, why in scan.dropped]
    common = _common_folders(scans)
    if common:
        notes.append(
            f"the folder {printable('/'.join(common))} holds everything, so it names no class"
        )
    sources = []
    for scan in scans:
        split = _split_of(scan.root) if splits and len(files) > 1 else ""
        sources += [_settle(s, root, len(common), split, splits=splits) for s in scan.sources]
    what = _recognised(scans)
    return Scan(root=root, what=what, sources=sources, dropped=dropped, notes=notes)


def _settle(source: Source, root: Path, num_common: int, split: str, *, splits: bool) -> Source:
    """A source as seen from `root`: its name, and the split and class that its folders say."""
    file = source.path
    place = _relative(file, root)
    name = source.name if file == root else _join(place, source.name)
    folders = [*place.split("/")[:-1], *source.folder.split("/")[num_common:]]
    folders = [part for part in folders if part]
    folder_split, folder_class = split_and_class(folders, "auto" if splits else "off")
    return replace(
        source,
        name=name or file.stem,
        folder="/".join(folders),
        split=source.split or split or folder_split,
        class_name=source.class_name or folder_class,
    )


def _common_folders(scans: Sequence[Scan]) -> list[str]:
    """Folders inside of the containers that all videos share; a split among them says something."""
    folders = {source.folder for scan in scans for source in scan.sources}
    shared = posixpath.commonpath(folders)
    common = shared.split("/") if shared else []
    telling = [number for number, part in enumerate(common) if part in SPLITS]
    return common[: telling[0]] if telling else common


def _split_of(file: Path) -> str:
    told = {word for word in re.split(r"[^a-z]+", file.name.lower()) if word in SPLITS}
    return told.pop() if len(told) == 1 else ""


def _recognised(scans: Sequence[Scan]) -> str:
    """Such as "3 files, each a WebDataset shard"."""
    kinds = Counter(scan.what for scan in scans)
    if len(scans) == 1:
        return scans[0].what
    return ", ".join(
        f"{count} files of the kind {what.removeprefix('a ').removeprefix('an ')!r}"
        if count > 1
        else what
        for what, count in kinds.items()
    )


def _relative(file: Path, root: Path) -> str:
    return printable(file.name if file == root else file.relative_to(root).as_posix())


def _join(place: str, name: str) -> str:
    return f"{place}/{name}" if place and name else place or name
