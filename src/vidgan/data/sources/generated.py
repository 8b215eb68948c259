"""Clips that some program generated, read from a folder or a container for evaluation.

Unlike training data nothing is resampled, resized by a filter or left out: a clip that does not fit
is refused, since a score of the rest would not be that of what the folder holds.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vidgan.core.clip_ops import pool_uint8
from vidgan.core.escaping import csv_text
from vidgan.core.files import read_text
from vidgan.core.randomness import keyed_rng
from vidgan.core.settings import closest
from vidgan.data.sources.containers.reading import find_containers, is_container, scan_containers
from vidgan.data.sources.source import Source
from vidgan.data.sources.tree import VIDEO_SUFFIXES, look_at
from vidgan.data.sources.videos import open_source
from vidgan.errors import UserError, printable
from vidgan.video import VideoInfo
from vidgan.video.reading import open_container
from vidgan.video.sequences import IMAGE_SUFFIXES, files_at

# ------------------------------------------------------------------------------------------------
# Whether a file stores pixels losslessly.
#
# The codec's name alone does not decide this: FFV1 in YCbCr with halved colour has lost what it
# never stored, and H.264 keeps RGB exactly where its transform is bypassed, which is one bit of its
# header.

EXACT_CODECS = frozenset(
    {"ffv1", "ffvhuff", "huffyuv", "utvideo", "magicyuv", "rawvideo", "png", "apng", "qtrle"}
    | {"zlib", "zmbv", "tiff", "bmp"}
)
"""Lossless codecs; the pixel format may still lose colour."""

EXACT_FORMATS = frozenset(
    {"gbrp", "gbrap", "rgb24", "bgr24", "rgb0", "bgr0", "0rgb", "0bgr"}
    | {"rgba", "bgra", "argb", "abgr", "gray"}
)
"""Pixel formats with 8 bits for each of red, green and blue, or for grey."""

IMAGE_MAGIC = (b"\x89PNG", b"BM", b"II*\0", b"MM\0*")
"""First bytes of PNG, BMP and TIFF."""

_SEQUENCE_PARAMETERS = 7
_HIGH_444_PREDICTIVE = 244


def is_lossless(info: VideoInfo) -> bool:
    """Whether a probed video or folder of images holds 8-bit RGB or grey exactly.

    Unknown formats count as lossy.
    """
    if info.codec == "array":
        return True
    if info.codec == "images":
        return all(_is_exact_image(file) for file in files_at(Path(info.path)))
    if info.pixel_format not in EXACT_FORMATS:
        return False
    if info.codec == "h264":
        return bypasses_transform(_extradata(info.path))
    return info.codec in EXACT_CODECS


def bypasses_transform(header: bytes) -> bool:
    """Whether H.264 parameters (avcC or Annex B) allow lossless blocks in RGB.

    This is qpprime_y_zero_transform_bypass_flag (ITU-T H.264, 7.3.2.1.1), which encoders set for
    lossless streams alone.
    """
    unit = _first_sequence_parameters(header)
    if len(unit) < 5 or unit[1] != _HIGH_444_PREDICTIVE:
        return False
    bits = _Bits(unit[4:].replace(b"\0\0\x03", b"\0\0"))
    bits.exp_golomb()  # seq_parameter_set_id
    if bits.exp_golomb() != 3:  # chroma_format_idc; RGB is 4:4:4
        return False
    bits.take(1)  # separate_colour_plane_flag
    bits.exp_golomb()  # bit_depth_luma_minus8
    bits.exp_golomb()  # bit_depth_chroma_minus8
    return bits.take(1) == 1


class _Bits:
    """Bits of a header, highest first; zeros follow the end."""

    def __init__(self, data: bytes) -> None:
        self._text = "".join(f"{byte:08b}" for byte in data)
        self._place = 0

    def take(self, count: int) -> int:
        """The next `count` bits as a number."""
        piece = self._text[self._place : self._place + count]
        self._place += count
        return int(piece.ljust(count, "0") or "0", 2)

    def exp_golomb(self) -> int:
        """An unsigned number in Exp-Golomb code (ITU-T H.264, 9.1)."""
        zeros = 0
        while zeros < 32 and self.take(1) == 0:
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _first_sequence_parameters(header: bytes) -> bytes:
    if header[:1] == b"\x01" and len(header) > 8:
        # avcC: six bytes, then each parameter set after its length.
        length = int.from_bytes(header[6:8], "big")
        return header[8 : 8 + length]
    for unit in header.split(b"\0\0\x01")[1:]:
        if unit and unit[0] & 31 == _SEQUENCE_PARAMETERS:
            return unit
    return b""


def _extradata(path: str) -> bytes:
    with open_container(Path(path)) as container:
        return bytes(container.streams.video[0].codec_context.extradata or b"")


def _is_exact_image(file: Path) -> bool:
    if file.suffix.lower() not in IMAGE_SUFFIXES or not file.is_file():
        return True
    with file.open("rb") as opened:
        start = opened.read(16)
    return start.startswith(IMAGE_MAGIC) or (start[:4] == b"RIFF" and start[12:16] == b"VP8L")


# ------------------------------------------------------------------------------------------------
# Clips that some program generated, read from a folder or a container for evaluation

LABELS_FILE = "labels.csv"
"""Table with the columns `file` and `class`, as `vidgan sample` writes it."""


@dataclass(frozen=True)
class GeneratedClips:
    """Generated clips that were read.

    Attributes:
        clips: uint8 `[M, 3, T, H, W]`, in seeded order.
        labels: int64 `[M]`, the classes they should show; None if nothing says so.
        names: of every clip.
        num_found: clips that the folder holds.
        formats: codec and pixel format, with the number of clips stored so.
        num_lossy: clips that were stored with loss.
        warnings: sentences for the record.
    """

    clips: Tensor
    labels: Tensor | None
    names: tuple[str, ...]
    num_found: int
    formats: dict[str, int]
    num_lossy: int
    warnings: tuple[str, ...]


def is_clip_source(path: str | Path) -> bool:
    """Whether a path may hold generated clips: a folder, or a container by its name."""
    path = Path(path)
    return path.is_dir() or (path.is_file() and is_container(path))


def list_generated(root: str | Path) -> list[Source]:
    """The clips of a folder of videos or numbered images, or of containers, sorted by name.

    Raises:
        UserError: there are none, or the table of labels cannot be used.
    """
    root = Path(root)
    names = look_at(root).names if root.is_dir() else []
    if names:
        sources = [
            Source(name=name, path=root / name, class_name=_folder_of(name)) for name in names
        ]
        return _with_table(root, sources)
    files = find_containers(root)
    if not files:
        raise UserError(
            f"there are no generated clips in {root}: it needs video files "
            f"({' '.join(sorted(VIDEO_SUFFIXES))}), folders of numbered images, or arrays"
        )
    return list(scan_containers(root, files, "auto", 0, splits=False).sources)


def first_shape(root: str | Path) -> tuple[int, int]:
    """Frames and side in pixels of the first clip.

    Raises:
        UserError: there are no clips, or the first one cannot be read or is not square.
    """
    source = list_generated(root)[0]
    with open_source(source) as reader:
        info = reader.probe()
    return info.num_frames, _side(source, info)


def read_generated(
    root: str | Path,
    frames: int,
    resolution: int,
    classes: Sequence[str],
    limit: int,
    seed: int,
) -> GeneratedClips:
    """Read at most `limit` clips of a folder, a seeded choice in seeded order.

    Args:
        root: folder or container.
        frames: length of the clips that they are compared with; of longer ones the central
            frames count.
        resolution: side of the clips that they are compared with. Smaller ones stay as they are
            (the others are then averaged to them), larger ones are averaged over whole blocks.
        classes: class names of the data.
        limit: most clips.
        seed: of choice and order; files sorted by name would come class by class.

    Raises:
        UserError: sizes or numbers of frames that do not fit, unknown classes, damage.
    """
    sources = list_generated(root)
    labels = _labels_of(sources, classes, root)
    order = torch.randperm(len(sources), generator=keyed_rng(seed, "generated clips"))[:limit]
    clips, formats, num_lossy, first = [], Counter[str](), 0, None
    for row in order.tolist():
        source = sources[row]
        with open_source(source) as reader:
            info = reader.probe()
            side = _side(source, info)
            first = first or (source.name, side)
            if side != first[1]:
                raise UserError(
                    f"{root}: {source.name} has {side} pixels a side and {first[0]} {first[1]}; "
                    "generated clips must all have one size"
                )
            window = _window(source, info.num_frames, frames)
            clip = reader.read(window, None, "stretch").clip
            formats[_format_of(info)] += 1
            num_lossy += not is_lossless(info)
        clips.append(_to_side(source, clip, resolution))
    return GeneratedClips(
        clips=torch.stack(clips),
        labels=None if labels is None else labels[order],
        names=tuple(sources[row].name for row in order.tolist()),
        num_found=len(sources),
        formats=dict(sorted(formats.items())),
        num_lossy=num_lossy,
        warnings=_warnings(formats, num_lossy, len(clips)),
    )


def _labels_of(
    sources: Sequence[Source], classes: Sequence[str], root: str | Path
) -> Tensor | None:
    """Labels by class names; None where the folders' names are no classes at all."""
    # Escaped as in tables.
    label_of = {printable(name): label for label, name in enumerate(classes)}
    named = [printable(source.class_name or "") for source in sources]
    if not label_of.keys() & set(named):
        return None
    for source, name in zip(sources, named, strict=True):
        if name not in label_of:
            where = f"the class {source.class_name!r}" if source.class_name else "no class"
            guess = closest(source.class_name or "", classes)
            hint = f"did you mean {guess}?" if guess else f"the data has {', '.join(classes)}"
            raise UserError(f"{root}: {source.name} has {where}; {hint}")
    return torch.tensor([label_of[name] for name in named])


def _with_table(root: Path, sources: list[Source]) -> list[Source]:
    """Sources with the classes of `labels.csv`, if the folder has one that names classes."""
    table = root / LABELS_FILE
    if not table.is_file():
        return sources
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(table), newline="")))
        class_of = {csv_text(row["file"] or ""): csv_text(row["class"] or "") for row in rows}
    except (KeyError, ValueError, csv.Error) as error:
        raise UserError(
            f"{table} must be a table with the columns file and class ({error}): fix or delete it"
        ) from error
    if not any(class_of.values()):
        return sources
    missing = next((source.name for source in sources if not class_of.get(source.name)), None)
    if missing is not None:
        raise UserError(f"{table} gives no class for {missing}: add its line or delete the table")
    return [replace(source, class_name=class_of[source.name]) for source in sources]


def _side(source: Source, info: VideoInfo) -> int:
    if info.width != info.height:
        raise UserError(
            f"{source.name} is {info.width} x {info.height} pixels, and only square clips are "
            "compared: crop or pad the generated clips as the real ones are"
        )
    return info.width


def _window(source: Source, num_frames: int, frames: int) -> list[int]:
    if num_frames < frames:
        raise UserError(
            f"{source.name} has {num_frames} frames and is compared with clips of {frames}: "
            f"generate longer clips, or give frames={num_frames}"
        )
    start = (num_frames - frames) // 2
    return list(range(start, start + frames))


def _to_side(source: Source, clip: Tensor, resolution: int) -> Tensor:
    side = clip.shape[-1]
    if side <= resolution and resolution % side == 0:
        return clip
    if side % resolution:
        raise UserError(
            f"{source.name} has {side} pixels a side, which does not fit real clips of "
            f"{resolution} by a whole factor: give resolution={side}"
        )
    return pool_uint8(clip, (1, side // resolution, side // resolution))


def _warnings(formats: Counter[str], num_lossy: int, num_clips: int) -> tuple[str, ...]:
    if not num_lossy:
        return ()
    names = ", ".join(sorted(formats))
    sentence = (
        f"{num_lossy} of {num_clips} generated clips were stored with loss ({names}), which moves "
        "scores: store them without, as PNG, FFV1 in RGB or arrays"
    )
    return (sentence,)


def _format_of(info: VideoInfo) -> str:
    return f"{info.codec} {info.pixel_format}"


def _folder_of(name: str) -> str | None:
    return name.split("/")[0] if "/" in name else None
