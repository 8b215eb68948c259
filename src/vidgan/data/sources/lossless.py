"""Telling whether a file gives back the very pixels that were put in.

A codec's name does not say it: FFV1 in YCbCr with halved colour has lost what it never stored, and
H.264 keeps RGB exactly where its transform is bypassed, which is one bit of its header.
"""

from pathlib import Path

from vidgan.video import VideoInfo
from vidgan.video.reading import open_container
from vidgan.video.sequences import IMAGE_SUFFIXES, files_at

EXACT_CODECS = frozenset(
    {"ffv1", "ffvhuff", "huffyuv", "utvideo", "magicyuv", "rawvideo", "png", "apng", "qtrle"}
    | {"zlib", "zmbv", "tiff", "bmp"}
)
"""Codecs that return what they are given; losing colour before that is up to the pixel format."""

EXACT_FORMATS = frozenset(
    {"gbrp", "gbrap", "rgb24", "bgr24", "rgb0", "bgr0", "0rgb", "0bgr"}
    | {"rgba", "bgra", "argb", "abgr", "gray"}
)
"""Pixel formats with 8 bits for each of red, green and blue, or for grey."""

PICTURE_MAGIC = (b"\x89PNG", b"BM", b"II*\0", b"MM\0*")
"""First bytes of PNG, BMP and TIFF."""

_SEQUENCE_PARAMETERS = 7
_HIGH_444_PREDICTIVE = 244


def is_lossless(info: VideoInfo) -> bool:
    """Whether a probed video or folder of pictures holds 8-bit RGB or grey exactly.

    Whatever cannot be known counts as lossy.
    """
    if info.codec == "array":
        return True
    if info.codec == "images":
        return all(_is_exact_picture(file) for file in files_at(Path(info.path)))
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
    """Bits of a header, the highest first; behind the end come zeros."""

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
        # avcC: six bytes, then each parameter set behind its length.
        length = int.from_bytes(header[6:8], "big")
        return header[8 : 8 + length]
    for unit in header.split(b"\0\0\x01")[1:]:
        if unit and unit[0] & 31 == _SEQUENCE_PARAMETERS:
            return unit
    return b""


def _extradata(path: str) -> bytes:
    with open_container(Path(path)) as container:
        return bytes(container.streams.video[0].codec_context.extradata or b"")


def _is_exact_picture(file: Path) -> bool:
    if file.suffix.lower() not in IMAGE_SUFFIXES or not file.is_file():
        return True
    with file.open("rb") as opened:
        start = opened.read(16)
    return start.startswith(PICTURE_MAGIC) or (start[:4] == b"RIFF" and start[12:16] == b"VP8L")
