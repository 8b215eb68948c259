"""Packets of video files, and the index of frame times that is made from them."""

import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgan.video.frames import NoVideoStreamError, UnreadableVideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

MAX_BROKEN_PACKETS = 1000
"""A file with more broken packets than this is given up, so that garbage cannot stall a build."""

_MAX_ERRORS_IN_A_ROW = 10
"""Attempts to find a packet behind broken bytes; at the end of some damaged files none succeeds."""

_MAX_REMEMBERED = 200_000
"""Frames whose times are kept, about 30 MB: a feature film, or thousands of short videos."""


@dataclass(frozen=True)
class FrameIndex:
    """What the packets of a video stream tell without being decoded.

    Attributes:
        times: Sorted times of the shown packets; Nones if the container stores none.
        sizes: Bytes of the packet of each time.
        num_covered: Frames of the header's count that are there: packets, the ones that are not
            shown included, or in AVI the places up to the last packet, as it leaves out repeats.
    """

    times: list[Any]
    sizes: dict[int | None, int]
    num_covered: int


_BOX = struct.Struct(">I4s")
"""Length and kind of a box of an MP4."""

_remembered: "OrderedDict[tuple[Any, ...], FrameIndex]" = OrderedDict()


def frame_index(path: Path, container: "InputContainer", stream: "VideoStream") -> FrameIndex:
    """The index of a file that was just opened.

    It is remembered while the file stays as it is: a build first measures and then reads every
    video, and reading random clips comes back to the same files.

    Raises:
        NoVideoStreamError: the stream has no frame.
    """
    stat = path.stat()
    key = str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns
    index = _remembered.pop(key, None) or _read_index(path, container, stream)
    _remembered[key] = index
    while sum(len(known.times) for known in _remembered.values()) > _MAX_REMEMBERED:
        _remembered.popitem(last=False)
    return index


def forget(path: Path | None = None) -> None:
    """Forget the index of a file, or all indexes."""
    for key in [key for key in _remembered if path is None or key[0] == str(path)]:
        del _remembered[key]


def packets_of(
    container: "InputContainer", stream: "VideoStream", num_corrupt: list[int]
) -> Iterator["Packet[Any]"]:
    """Yield the packets that can be told apart; add every run of broken ones to `num_corrupt`."""
    import av

    packets = container.demux(stream)
    errors_in_a_row = 0
    while num_corrupt[0] < MAX_BROKEN_PACKETS and errors_in_a_row < _MAX_ERRORS_IN_A_ROW:
        try:
            packet = next(packets)
        except (StopIteration, av.error.EOFError):
            return
        except (av.error.FFmpegError, IndexError, UnicodeDecodeError):
            # Garbage also makes up streams that PyAV does not expect (IndexError).
            num_corrupt[0] += errors_in_a_row == 0
            errors_in_a_row += 1
            packets = container.demux(stream)
            continue
        errors_in_a_row = 0
        yield packet


_BOXES_OF_BOXES = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})
_COUNTS_AT = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""Boxes with a number of frames or sounds, and where it stands in them (ISO/IEC 14496-12)."""
_MOST_BOXES = 1 << 22
"""Boxes of an MP4 that are looked at; a fragment has seven, and a film some thousand fragments."""


def check_claims(path: Path) -> None:
    """Refuse an MP4 whose tables claim more frames and sounds than the file has bytes.

    FFmpeg sets 24 bytes aside for each of them before it looks whether they are there.

    Raises:
        UnreadableVideoError: it claims so, or hides its tables in a compressed one.
    """
    size = path.stat().st_size
    ends = [size]
    position = claimed = 0
    with path.open("rb") as file:
        for number in count():
            while ends and position + _BOX.size > ends[-1]:
                position = ends.pop()
            if not ends:
                return
            file.seek(position)
            length, kind = _BOX.unpack(file.read(_BOX.size))
            start = position + _BOX.size
            if length == 1:
                length, start = int.from_bytes(file.read(8), "big"), start + 8
            end = ends[-1] if length == 0 else min(position + length, ends[-1])
            if end < start:
                # No box, so the file is no MP4, or one that FFmpeg reads no further either.
                return
            if kind in _COUNTS_AT:
                file.seek(start + _COUNTS_AT[kind])
                claimed += int.from_bytes(file.read(4), "big")
            if claimed > size or number == _MOST_BOXES:
                raise UnreadableVideoError(path, "claims more frames than it has bytes")
            if kind == b"cmov":
                raise UnreadableVideoError(path, "has compressed tables: store it anew as MP4")
            if kind in _BOXES_OF_BOXES:
                ends.append(end)
            position = start if kind in _BOXES_OF_BOXES else end


def _read_index(path: Path, container: "InputContainer", stream: "VideoStream") -> FrameIndex:
    times: list[int | None] = []
    sizes: dict[int | None, int] = {}
    num_packets = num_places = 0
    most = path.stat().st_size
    for packet in packets_of(container, stream, [0]):
        num_packets += packet.size > 0
        if num_packets > most:
            raise UnreadableVideoError(path, "claims more frames than it has bytes")
        if packet.size and packet.dts is not None and container.format.name == "avi":
            num_places = max(num_places, packet.dts + 1)
        if packet.size and not packet.is_discard:
            times.append(packet.pts)
            sizes[packet.pts] = packet.size
    if not times:
        raise NoVideoStreamError(path, "has a video stream without a single frame")
    num_covered = max(num_packets, num_places)
    if None in times:
        return FrameIndex([None] * len(times), {}, num_covered)
    return FrameIndex(sorted(set(times)), sizes, num_covered)
