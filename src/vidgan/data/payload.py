"""Clips as bytes and back: raw, zstd (exact) and JPEG strips (small); and the exact pooling."""

import io
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vidgan.clip_ops import Factor, pool_clip
from vidgan.data.settings import Payload

Codec = Literal["raw", "zstd", "jpeg"]

_MAX_JPEG_SIDE = 65_000
"""JPEG stores sides in 16 bits; a longer strip continues in the next column."""


def codec_for(payload: Payload, resolution: int) -> Codec:
    """The codec of a level: exact where clips are small, JPEG where they would fill the disk."""
    if payload == "auto":
        return "zstd" if resolution <= 64 else "jpeg"
    return payload


def pool_uint8(clip: Tensor, factor: Factor) -> Tensor:
    """Mean over blocks of `factor` (T, H, W) of uint8 `[C, T, H, W]`, rounded once."""
    if factor == (1, 1, 1):
        return clip
    return pool_clip(clip[None].float(), factor)[0].round().to(torch.uint8)


def encode_payload(clip: Tensor, codec: Codec) -> bytes:
    """Bytes of a uint8 clip `[3, T, H, W]`."""
    if codec == "jpeg":
        return _encode_jpeg(clip)
    data = clip.contiguous().numpy().tobytes()
    if codec == "raw":
        return data
    import zstandard

    return zstandard.ZstdCompressor(level=3).compress(data)


def decode_payload(data: bytes, codec: Codec, shape: tuple[int, int, int, int]) -> Tensor:
    """The uint8 clip `[3, T, H, W]` of this shape that `encode_payload` made into `data`."""
    if codec == "jpeg":
        return _decode_jpeg(data, shape)
    if codec == "zstd":
        import zstandard

        data = zstandard.ZstdDecompressor().decompress(data)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(shape)


def is_one_column(num_frames: int, height: int) -> bool:
    """Whether a JPEG payload of so many frames has them all above each other."""
    return _strip_layout(num_frames, height)[1] == 1


def _strip_layout(num_frames: int, height: int) -> tuple[int, int]:
    rows = min(num_frames, max(1, _MAX_JPEG_SIDE // height))
    return rows, -(-num_frames // rows)


def _encode_jpeg(clip: Tensor) -> bytes:
    from PIL import Image

    c, t, h, w = clip.shape
    rows, columns = _strip_layout(t, h)
    strip = clip.new_zeros((c, rows * columns, h, w))
    strip[:, :t] = clip
    strip = strip.reshape(c, columns, rows, h, w).permute(2, 3, 1, 4, 0)
    pixels = strip.reshape(rows * h, columns * w, c).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _decode_jpeg(data: bytes, shape: tuple[int, int, int, int]) -> Tensor:
    from PIL import Image

    c, t, h, w = shape
    rows, columns = _strip_layout(t, h)
    pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(data))))
    strip = pixels.reshape(rows, h, columns, w, c).permute(4, 2, 0, 1, 3)
    return strip.reshape(c, rows * columns, h, w)[:, :t].contiguous()
