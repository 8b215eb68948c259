"""Reading videos: probe, exact frame choice, damage counted; files and numbered images alike.

Frames are numbered by the presentation times of a file's packets, not by header counts or by
time x rate, which are wrong for variable frame rates, transport streams and cut files.
"""

import statistics
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidgan.video.frames import (
    CorruptVideoError,
    DecodedFrames,
    Fitter,
    FrameIndex,
    NoVideoStreamError,
    Pixels,
    ResizePolicy,
    UnreadableVideoError,
    VideoInfo,
    check_claims,
    check_pixels,
    frame_index,
    iterate_images,
    packets_of,
    probe_images,
    read_images,
    stack_frames,
)
from vidgan.video.geometry import (
    SQUARE,
    UNREAD_MATRICES,
    WIDE_PRIMARIES,
    Orientation,
    hdr_transfer,
    pixel_aspect,
    square_pixels,
)
from vidgan.video.images import MAX_PIXELS
from vidgan.video.sequences import is_numbered_images

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

FORMATS = (
    *("mov", "matroska", "avi", "mpeg", "mpegts", "mpegvideo", "flv", "asf", "ogg", "gif", "mxf"),
    *("dv", "ivf", "nut", "h264", "hevc", "m4v", "vc1", "obu", "mjpeg", "yuv4mpegpipe", "apng"),
    *("png_pipe", "jpeg_pipe"),
)
"""Containers that hold their own images. FFmpeg goes by the contents of a file and knows formats
that read other files or addresses (playlists, lists to concatenate) and text that it draws."""

_JITTER_S = 0.003
"""Steps of telephones' clocks: times that are off by a millisecond, and rounded to one."""

_HEADER_SLACK = 2
"""Some writers count a frame or two too many in the header of an intact file."""


def probe(path: str | Path) -> VideoInfo:
    """Measure a video file or a folder of numbered images.

    Raises:
        VideoError: the file cannot be opened, has no images, or none that decodes.
    """
    path = Path(path)
    if is_numbered_images(path):
        return probe_images(path)
    with _open(path) as (container, stream):
        index = frame_index(path, container, stream)
        pts = index.times
        num_missing = stream.frames - index.num_covered
        time_base = float(stream.time_base or 1)
        rate = float(stream.average_rate or 25)
        codec = stream.codec_context.name
    with _open(path) as (container, stream):
        frame = next(_decode(container, stream, [0]), None)
        if frame is None:
            raise CorruptVideoError(path, "no frame can be decoded")
        orientation = Orientation.of(frame)
        pixel_format = frame.format.name
        width, height = square_pixels(frame.width, frame.height, pixel_aspect(stream))
        remarks = _remarks(frame, orientation, pixel_aspect(stream))
    if orientation.is_transposed:
        width, height = height, width
    if pts and pts[0] is not None:
        times = [(p - pts[0]) * time_base for p in pts]
    else:
        times = [n / rate for n in range(len(pts))]
    steps = np.diff(times)
    usual = float(statistics.median(steps)) if len(steps) else 1 / rate
    # Containers round times to their own clock (10 ms in GIF), which is not a variable rate.
    slack = 0.1 * usual + max(2 * time_base, _JITTER_S)
    is_variable = bool(len(steps)) and float(abs(steps - usual).max()) > slack
    duration = times[-1] + usual
    # Damaged time stamps may lie years apart, which makes the mean rate nothing.
    fps = round(len(times) / duration, 3) or round(1 / usual, 3) or rate
    return VideoInfo(
        path=str(path),
        width=width,
        height=height,
        num_frames=len(times),
        num_missing=num_missing if num_missing > _HEADER_SLACK else 0,
        fps=fps,
        duration_s=duration,
        codec=codec,
        pixel_format=pixel_format,
        rotation=orientation.rotation,
        is_variable_rate=is_variable,
        frame_times_s=tuple(times),
        remarks=remarks,
    )


def _remarks(frame: "VideoFrame", orientation: Orientation, aspect: Fraction) -> tuple[str, ...]:
    """Unusual properties of the stored images that were handled."""
    remarks = []
    if orientation.is_mirrored:
        remarks.append("mirrored")
    if aspect != SQUARE:
        remarks.append(f"pixels of {aspect.numerator}:{aspect.denominator} made square")
    transfer = hdr_transfer(frame)
    primaries = WIDE_PRIMARIES.get(int(frame.color_primaries))
    if transfer is not None:
        remarks.append(f"HDR ({transfer}) mapped to SDR")
    elif primaries is not None:
        remarks.append(f"colours of {primaries} taken as they are stored")
    return tuple(remarks)


def read_frames(
    path: str | Path,
    indices: Sequence[int] | None = None,
    *,
    resolution: int | None = None,
    resize: ResizePolicy = "centre-crop",
) -> DecodedFrames:
    """Decode frames of a video file or of a folder of numbered images.

    Args:
        path: file or folder.
        indices: frame numbers in presentation order from 0, repeats allowed; None takes every
            frame that decodes cleanly and counts the others.
        resolution: side of the square to fit each frame into; None keeps the first frame's size.
        resize: how a frame is fitted into the square.

    Raises:
        CorruptVideoError: a frame named in `indices` does not decode, or no frame does.
        VideoError: the file cannot be opened or has no images.
    """
    path = Path(path)
    if is_numbered_images(path):
        return read_images(path, indices, resolution, resize)
    if indices is None:
        return _read_all(path, resolution, resize)
    found = _Found(0)
    with _open(path) as (container, stream):
        fit = Fitter(resolution, resize, pixel_aspect(stream))
        index = frame_index(path, container, stream)
        pts = index.times
        outside = [n for n in indices if not 0 <= n < len(pts)]
        if outside or not indices:
            raise CorruptVideoError(
                path, f"frame {outside} is out of range: there are {len(pts)} frames"
            )
        wanted = {pts[n] for n in indices}
        if None not in wanted:
            # The file is open and its index read: one seek leads to the frames.
            found = _seek_and_read(container, stream, index, wanted, fit)
    if None in wanted:
        return _read_counted(path, indices, resolution, resize)
    if len(found.places) < len(wanted):
        # The seek landed too late (transport streams do that): decode from the start.
        with _open(path) as (container, stream):
            found = _read_wanted(_decode(container, stream, [0]), wanted, fit)
    missing = [n for n in indices if pts[n] not in found.places]
    if missing:
        raise CorruptVideoError(path, f"frames {sorted(set(missing))[:8]} do not decode")
    return DecodedFrames(found.clip([pts[n] for n in indices]), 0)


@dataclass
class FrameStream:
    """The clean frames of a video or of a folder of numbered images, one at a time.

    For videos that do not fit in memory. Iterating decodes from the start; frames are numbered by
    the clean ones before them, which is the same in every pass.

    Attributes:
        path: file or folder.
        wanted: numbers of the frames to convert and yield, the others are passed over; None takes
            every frame.
        resolution: side of the square to fit each frame into; None keeps the first frame's size.
        resize: how a frame is fitted into the square.
        num_corrupt: broken packets and damaged frames that the last pass met.
        num_frames: clean frames that the last pass met.
    """

    path: str | Path
    wanted: Container[int] | None = None
    resolution: int | None = None
    resize: ResizePolicy = "stretch"
    num_corrupt: int = 0
    num_frames: int = 0

    def __iter__(self) -> Iterator[tuple[int, Pixels]]:
        """Yield the number and the uint8 RGB pixels `[H, W, 3]` of every wanted frame.

        Raises:
            VideoError: the file cannot be opened, has no images, or none that decodes.
        """
        self.num_corrupt = self.num_frames = 0
        path = Path(self.path)
        source = self._images(path) if is_numbered_images(path) else self._frames(path)
        for convert in source:
            number = self.num_frames
            self.num_frames += 1
            if self.wanted is None or number in self.wanted:
                yield number, np.ascontiguousarray(convert())
        if not self.num_frames:
            raise CorruptVideoError(path, "no frame can be decoded")

    def _frames(self, path: Path) -> Iterator[Callable[[], Pixels]]:
        num_corrupt = [0]
        with _open(path) as (container, stream):
            fit = Fitter(self.resolution, self.resize, pixel_aspect(stream))
            for n, frame in enumerate(_decode(container, stream, num_corrupt)):
                if n == 0:
                    # The first frame sets the size, whether it is wanted or not.
                    fit(frame)
                self.num_corrupt = num_corrupt[0]
                yield partial(fit, frame)
        self.num_corrupt = num_corrupt[0]

    def _images(self, path: Path) -> Iterator[Callable[[], Pixels]]:
        for pixels in iterate_images(path, self.resolution, self.resize):
            if pixels is None:
                self.num_corrupt += 1
            else:
                yield partial(np.asarray, pixels)


def open_container(path: Path) -> "InputContainer":
    """Open a file that FFmpeg reads as one of `FORMATS`, and nothing beside it.

    Raises:
        av.error.FFmpegError, OSError: it is none, or damaged.
        UnreadableVideoError: it claims more frames than its bytes can hold.
    """
    import av

    check_claims(path)
    doors = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
    return av.open(
        # Names hold colons, which FFmpeg would take for the end of a protocol.
        f"file:{path}",
        metadata_errors="replace",
        options={"max_pixels": str(MAX_PIXELS)},
        container_options=doors,
    )


@contextmanager
def _open(path: Path) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    import av

    if path.exists() and not path.is_file():
        # Opening a named pipe would block until something writes to it.
        raise UnreadableVideoError(path, "is not a file")
    if path.is_file() and path.stat().st_size == 0:
        raise UnreadableVideoError(path, "the file is empty")
    try:
        container = open_container(path)
    except UnreadableVideoError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UnreadableVideoError(path, f"cannot be read as video ({reason})") from error
    with container:
        if not container.streams.video:
            raise NoVideoStreamError(path, "has no video stream")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise UnreadableVideoError(path, "has a codec that this FFmpeg does not decode")
        matrix = UNREAD_MATRICES.get(int(stream.codec_context.colorspace))
        if matrix is not None:
            raise UnreadableVideoError(path, f"stores colours as {matrix}: convert it to BT.709")
        # One thread: builds run one process a core, and damage is then met in a fixed order.
        stream.codec_context.thread_count = 1
        yield container, stream


def _decode(
    container: "InputContainer",
    stream: "VideoStream",
    num_corrupt: list[int],
    needed_from: int | None = None,
) -> Iterator["VideoFrame"]:
    """Yield the clean frames; add broken packets and damaged frames to `num_corrupt[0]`.

    Frames before the time `needed_from` may be left out if no other frame needs them.

    Raises:
        UnreadableVideoError: the frames have more pixels than an honest file of this size.
    """
    import av

    num_pixels = 0
    for packet in packets_of(container, stream, num_corrupt):
        if needed_from is not None:
            early = packet.pts is not None and packet.pts < needed_from
            stream.codec_context.skip_frame = "NONREF" if early else "DEFAULT"
        try:
            frames = stream.codec_context.decode(packet if packet.size else None)
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            # Decoders report damage with arbitrary codes: invalid data, argument, permission.
            num_corrupt[0] += 1
            continue
        for frame in frames:
            # Frames may be larger than the header says.
            num_pixels += frame.width * frame.height
            check_pixels(container.name.removeprefix("file:"), num_pixels, container.size)
            if frame.is_corrupt:
                num_corrupt[0] += 1
            else:
                yield frame


def _read_all(path: Path, resolution: int | None, resize: ResizePolicy) -> DecodedFrames:
    num_corrupt = [0]
    if resolution is None:
        # Full-size frames take memory: the claimed size is checked first.
        with _open(path) as (container, stream), suppress(NoVideoStreamError):
            frame_index(path, container, stream)
    with _open(path) as (container, stream):
        fit = Fitter(resolution, resize, pixel_aspect(stream))
        frames = [fit(frame) for frame in _decode(container, stream, num_corrupt)]
    if not frames:
        raise CorruptVideoError(path, "no frame can be decoded")
    return DecodedFrames(stack_frames(frames), num_corrupt[0])


def _read_counted(
    path: Path, indices: Sequence[int], resolution: int | None, resize: ResizePolicy
) -> DecodedFrames:
    """Frames by their number among those that decode, for files without times."""
    stream = FrameStream(path, frozenset(indices), resolution, resize)
    found = dict(stream)
    if len(found) < len(set(indices)):
        raise CorruptVideoError(path, f"only {stream.num_frames} frames decode")
    return DecodedFrames(stack_frames([found[n] for n in indices]), stream.num_corrupt)


def _seek_and_read(
    container: "InputContainer",
    stream: "VideoStream",
    index: FrameIndex,
    wanted: set[int],
    fit: Fitter,
) -> "_Found":
    """Decode from the key frame before the first wanted time; nothing if that fails."""
    import av

    first = min(wanted)
    try:
        container.seek(first, stream=stream, backward=True)
        if not _is_as_indexed(container, stream, index):
            return _Found(0)
        container.seek(first, stream=stream, backward=True)
    except av.error.FFmpegError:
        return _Found(0)
    frames = _decode(container, stream, [0], needed_from=first)
    start = next(frames, None)
    if start is None or start.pts is None or start.pts > first:
        return _Found(0)
    return _read_wanted(chain([start], frames), wanted, fit)


def _is_as_indexed(container: "InputContainer", stream: "VideoStream", index: FrameIndex) -> bool:
    """Whether the next key frame has the time that it has when the file is read from the start.

    MPEG program streams time groups of frames; a seek into a group shifts its times by a frame.
    """
    for packet in packets_of(container, stream, [0]):
        if packet.is_keyframe:
            return index.sizes.get(packet.pts) == packet.size
    return False


class _Found:
    """Frames by their times, in one array from the start: a film need not be there twice."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pixels: Pixels | None = None
        self.places: dict[int, int] = {}

    def add(self, time: int, frame: Pixels) -> None:
        """Keep a frame `[H, W, 3]`."""
        if self._pixels is None:
            self._pixels = np.empty((3, self._count, *frame.shape[:2]), np.uint8)
        place = self.places.setdefault(time, len(self.places))
        self._pixels[:, place] = frame.transpose(2, 0, 1)

    def clip(self, times: Sequence[int]) -> Pixels:
        """The frames of these times, which are there, `[3, T, H, W]`."""
        assert self._pixels is not None
        places = [self.places[time] for time in times]
        if places == list(range(self._count)):
            return self._pixels
        return np.ascontiguousarray(self._pixels[:, places])


def _read_wanted(frames: Iterable["VideoFrame"], wanted: set[int], fit: Fitter) -> _Found:
    """Convert the frames of the wanted times, up to the last of them."""
    last = max(wanted)
    found = _Found(len(wanted))
    for frame in frames:
        if frame.pts is None:
            break
        if frame.pts in wanted:
            found.add(frame.pts, fit(frame))
        if frame.pts >= last:
            break
    return found
