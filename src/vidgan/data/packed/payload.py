"""Clips as bytes and back: raw, zstd (both exact), JPEG strips and H.264; and the exact pooling."""

import io
from collections.abc import Callable
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from vidgan.data.settings import Payload
from vidgan.errors import UserError
from vidgan.video.frames import Pixels, rgb_planes
from vidgan.video.images import ImageError, open_image

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from torch import Tensor

Codec = Literal["raw", "zstd", "jpeg", "h264"]

_BLOCK_BYTES = 1 << 24
_MAX_JPEG_SIDE = 65_000
"""JPEG stores sides in 16 bits; a longer strip continues in the next column."""
_MIN_H264_SIDE = 32
"""Below two macroblocks the frames of H.264 are mostly headers and padding."""


def codec_for(payload: Payload, resolution: int) -> Codec:
    """The codec of a level: exact where clips are small, JPEG where they would fill the disk.

    H.264 halves the resolution of colour, so levels that are tiny or odd stay exact beside it.
    """
    if payload == "auto":
        return "zstd" if resolution <= 64 else "jpeg"
    if payload == "h264" and (resolution < _MIN_H264_SIDE or resolution % 2):
        return "zstd"
    return payload


def pool_pixels(clip: Pixels, factor: tuple[int, int, int]) -> Pixels:
    """Mean over blocks of `factor` (T, H, W) of uint8 `[C, T, H, W]`, rounded once.

    It gives what `clip_ops.pool_uint8` gives, without torch. The factors divide the clip.
    """
    if factor == (1, 1, 1):
        return clip
    time, rows, columns = factor
    c, t, h, w = clip.shape
    pooled = np.empty((c, t // time, h // rows, w // columns), np.uint8)
    # Block by block, since sums take four times the bytes of a clip, which may be a film.
    length = max(1, _BLOCK_BYTES // (c * time * h * w))
    for start in range(0, t // time, length):
        block = clip[:, start * time : (start + length) * time]
        pooled[:, start : start + length] = _pool_block(block, factor)
    return pooled


def _pool_block(clip: Pixels, factor: tuple[int, int, int]) -> Pixels:
    sums: npt.NDArray[np.integer] = clip
    for axis, size in ((3, factor[2]), (2, factor[1]), (1, factor[0])):
        # Every size-th line along the axis, from each of the first ones on.
        behind = (slice(None),) * axis
        total = sums[(*behind, slice(0, None, size))].astype(np.uint32)
        for start in range(1, size):
            total += sums[(*behind, slice(start, None, size))]
        sums = total
    return np.rint(sums / prod(factor)).astype(np.uint8)


def encode_payload(clip: Pixels, codec: Codec) -> bytes:
    """Bytes of a uint8 clip `[3, T, H, W]`."""
    if codec == "jpeg":
        return _encode_jpeg(clip)
    if codec == "h264":
        return _encode_h264(clip)
    if codec == "raw":
        return clip.tobytes()
    import zstandard

    return zstandard.ZstdCompressor(level=3).compress(np.ascontiguousarray(clip).data.cast("B"))


def decode_payload(data: bytes, codec: Codec, shape: tuple[int, int, int, int]) -> "Tensor":
    """The uint8 clip `[3, T, H, W]` of this shape that `encode_payload` made into `data`."""
    import torch

    if codec == "jpeg":
        return torch.from_numpy(_decode_jpeg(data, shape))
    if codec == "h264":
        return torch.from_numpy(_decode_h264(data, shape))
    if codec == "zstd":
        return _decode_zstd(data, shape)
    if len(data) != prod(shape):
        raise UserError(f"the payload has {len(data)} bytes, and its clip {prod(shape)}")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(shape)


def _decode_zstd(data: bytes, shape: tuple[int, int, int, int]) -> "Tensor":
    """Straight into the clip: a film need not be there twice, nor any byte beyond its shape.

    What the frame says of its size is believed only if it agrees.
    """
    import torch
    import zstandard

    try:
        said = zstandard.get_frame_parameters(data).content_size
        if said != prod(shape):
            raise UserError(f"the payload says that it unpacks to {said} bytes, not {prod(shape)}")
        clip = torch.empty(shape, dtype=torch.uint8)
        place = clip.numpy().data.cast("B")
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            while len(place) and (num_read := reader.readinto(place)):
                place = place[num_read:]
            if len(place) or reader.read(1):
                raise UserError(f"the payload does not hold the {prod(shape)} bytes of its clip")
    except zstandard.ZstdError as error:
        raise UserError(f"the payload cannot be unpacked ({error})") from error
    return clip


def is_one_column(num_frames: int, height: int) -> bool:
    """Whether a JPEG payload of so many frames has them all above each other."""
    return _strip_layout(num_frames, height)[1] == 1


def _strip_layout(num_frames: int, height: int) -> tuple[int, int]:
    rows = min(num_frames, max(1, _MAX_JPEG_SIDE // height))
    return rows, -(-num_frames // rows)


def _encode_jpeg(clip: Pixels) -> bytes:
    from PIL import Image

    c, t, h, w = clip.shape
    rows, columns = _strip_layout(t, h)
    strip = np.zeros((c, rows * columns, h, w), np.uint8)
    strip[:, :t] = clip
    strip = strip.reshape(c, columns, rows, h, w).transpose(2, 3, 1, 4, 0)
    pixels = strip.reshape(rows * h, columns * w, c)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _decode_jpeg(data: bytes, shape: tuple[int, int, int, int]) -> Pixels:
    c, t, h, w = shape
    rows, columns = _strip_layout(t, h)
    with open_image(data) as image:
        if (image.format, image.mode, image.size) != ("JPEG", "RGB", (columns * w, rows * h)):
            raise ImageError(f"the payload is not a JPEG strip of {t} frames of {w} x {h} pixels")
        pixels = np.asarray(image)
    strip = pixels.reshape(rows, h, columns, w, c).transpose(4, 2, 0, 1, 3)
    clip = strip.reshape(c, rows * columns, h, w)[:, :t]
    return np.array(clip, order="C")


def _encode_h264(clip: Pixels) -> bytes:
    import av

    encoder = av.VideoCodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = clip.shape[3], clip.shape[2], "yuv420p"
    encoder.time_base = Fraction(1, 25)
    # One thread and, as for MP4 files, no vector code, with which x264 gives other bytes from call
    # to call. fastdecode: read often, written once.
    # chromaloc: swscale averages colour over whole blocks, and must be told so when it goes back.
    encoder.thread_count = 1
    encoder.options = {"crf": "18", "tune": "fastdecode", "x264-params": "asm=0:chromaloc=1"}
    encoder.options |= {"g": str(clip.shape[1])}
    frames = np.ascontiguousarray(clip.transpose(1, 2, 3, 0))
    packets = []
    convert = _colour_converter()
    for number, pixels in enumerate(frames):
        frame = convert(av.VideoFrame.from_ndarray(pixels, format="rgb24"), "yuv420p")
        frame.pts = number
        packets += encoder.encode(frame)
    return b"".join(bytes(packet) for packet in [*packets, *encoder.encode(None)])


def _decode_h264(data: bytes, shape: tuple[int, int, int, int]) -> Pixels:
    import av

    c, t, h, w = shape
    decoder = av.VideoCodecContext.create("h264", "r")
    decoder.thread_count = 1
    # Padded to whole macroblocks; a header may ask for any size.
    decoder.options = {"max_pixels": str((h + 16) * (w + 16))}
    convert = _colour_converter()
    clip = np.empty((c, t, h, w), np.uint8)
    number = 0
    try:
        packets = [*decoder.parse(data), *decoder.parse(), None]
        for frame in (frame for packet in packets for frame in decoder.decode(packet)):
            if number == t or (frame.height, frame.width) != (h, w):
                raise UserError(f"the payload holds more than {t} frames of {w} x {h} pixels")
            clip[:, number] = rgb_planes(convert(frame, "gbrp"))
            number += 1
    except (av.error.FFmpegError, ValueError) as error:
        raise UserError(f"the payload is not a valid H.264 stream ({error})") from error
    if number < t:
        raise UserError(f"the payload holds {number} of {t} frames")
    return clip


def _colour_converter() -> Callable[["VideoFrame", str], "VideoFrame"]:
    from av.video.reformatter import Interpolation, VideoReformatter

    reformatter = VideoReformatter()
    # swscale's quick rounding darkens green by more than a level each way.
    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    return lambda frame, kind: reformatter.reformat(
        frame, format=kind, interpolation=exact, threads=1
    )


def shrunk(clip: Pixels, side: int) -> Pixels:
    """A clip `[3, T, S, S]` averaged by a whole factor to less than twice `side`."""
    factor = max(1, clip.shape[2] // side)
    whole = clip.shape[2] // factor * factor
    return pool_pixels(clip[:, :, :whole, :whole], (1, factor, factor))
