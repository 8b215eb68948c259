"""Which axis of an array is what, and how its numbers become bytes.

Letters as everywhere: `N` clips, `T` frames, `C` channels, `H` height, `W` width.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vidgan.errors import UserError

Axes = Literal["auto", "NTHWC", "NCTHW", "NTCHW", "NTHW", "TNHW", "THWC", "CTHW", "TCHW", "THW"]
"""Order of the axes of an array of videos; without `N` it is one video, without `C` it is grey."""
Scale = Literal["bytes", "unit", "signed"]
"""Range of the numbers: 0 to 255, 0 to 1, or -1 to 1."""

_WITH_CHANNELS: dict[int, tuple[Axes, ...]] = {
    5: ("NTHWC", "NCTHW", "NTCHW"),
    4: ("THWC", "CTHW", "TCHW"),
}
_CHANNELS = (1, 3, 4)
_SMALLEST_SIDE = 8
"""Pixels; an order that would make smaller pictures is not believed."""
_CLEARLY_LONGER = 4
"""A set has several times as many videos as a video has frames; below that, nobody can tell."""
_SCAN_BYTES = 32 << 20


def find_axes(shape: Sequence[int], asked: Axes, where: str) -> Axes:
    """The order of the axes of an array of this shape.

    An axis of 1, 3 or 4 in a place where channels may stand is channels, if the pictures are then
    at least 8 pixels wide and high. A grey array of four axes counts videos along the longer one of
    its first two, if that is at least 4 times as long.

    Args:
        shape: Lengths of the axes.
        asked: The order to take, or auto.
        where: File and array, for the sentence.

    Raises:
        UserError: none or several orders fit; the sentence names the setting.
    """
    shown = "x".join(map(str, shape))
    if asked != "auto":
        if not _fits(shape, asked):
            raise UserError(
                f"{where} is {shown}, which data.axes={asked} does not fit: give the order of its"
                " axes or leave it at auto"
            )
        return asked
    fitting = [axes for axes in _WITH_CHANNELS.get(len(shape), ()) if _fits(shape, axes)]
    if not fitting and len(shape) == 4 and min(shape[2:]) >= _SMALLEST_SIDE:
        first, second = shape[:2]
        fitting = ["NTHW", "TNHW"]
        if max(first, second) >= _CLEARLY_LONGER * min(first, second):
            fitting = ["NTHW" if first > second else "TNHW"]
    elif len(shape) == 3 and min(shape[1:]) >= _SMALLEST_SIDE:
        fitting = ["THW"]
    if len(fitting) > 1:
        raise UserError(
            f"{where} is {shown}, which may be {' or '.join(fitting)}: say which with"
            f" data.axes={fitting[0]} (N videos, T frames, C channels, H height, W width)"
        )
    if not fitting:
        raise UserError(
            f"{where} is {shown}, which is no known order of videos, frames, channels, height and"
            " width: store it as NTHWC, or say data.axes"
        )
    return fitting[0]


def _fits(shape: Sequence[int], axes: Axes) -> bool:
    if len(shape) != len(axes):
        return False
    length = dict(zip(axes, shape, strict=True))
    sides = min(length["H"], length["W"])
    return length.get("C", 1) in _CHANNELS and sides >= _SMALLEST_SIDE


def find_scale(array: Any, where: str) -> Scale:
    """The range of an array's numbers; all of them are looked at unless they are bytes.

    Raises:
        UserError: the numbers are of no known range.
    """
    if array.dtype == np.uint8:
        return "bytes"
    if array.dtype == np.bool_:
        return "unit"
    if array.dtype.kind not in "iuf":
        raise UserError(f"{where} holds {array.dtype} and no numbers: store bytes from 0 to 255")
    step = max(1, _SCAN_BYTES // max(1, array.dtype.itemsize * int(np.prod(array.shape[1:]))))
    low, high = np.inf, -np.inf
    for start in range(0, len(array), step):
        block = array[start : start + step]
        low, high = min(low, block.min()), max(high, block.max())
        if not np.isfinite([low, high]).all():
            raise UserError(f"{where} holds NaN or infinite numbers: mend it")
    if low >= 0 and high <= 255 and (high > 1 or array.dtype.kind != "f"):
        return "bytes"
    if low >= -1 and high <= 1 and array.dtype.kind == "f":
        return "signed" if low < 0 else "unit"
    raise UserError(
        f"{where} holds numbers from {low:g} to {high:g}: store 0 to 255, 0 to 1 or -1 to 1"
    )


def num_clips(shape: Sequence[int], axes: Axes) -> int:
    """Videos in an array."""
    return shape[axes.index("N")] if "N" in axes else 1


def clip_frames(array: Any, number: int, axes: Axes, scale: Scale) -> npt.NDArray[np.uint8]:
    """Video `number` of an array as RGB bytes `[T, H, W, 3]`; grey is repeated, alpha left out."""
    where: list[int | slice] = [slice(None)] * len(axes)
    if "N" in axes:
        where[axes.index("N")] = number
    clip = np.asarray(array[tuple(where)])
    rest = axes.replace("N", "")
    if "C" not in rest:
        clip, rest = clip[..., None], rest + "C"
    clip = clip.transpose([rest.index(letter) for letter in "THWC"])
    is_grey = clip.shape[-1] == 1
    clip = np.broadcast_to(clip, (*clip.shape[:-1], 3)) if is_grey else clip[..., :3]
    if scale == "bytes":
        pixels = np.empty(clip.shape, np.uint8)
        if clip.dtype.kind == "f":
            # Floats from 0 to 255 are rounded, not cut.
            np.rint(clip, out=pixels, casting="unsafe")
        else:
            pixels[...] = clip
        return pixels
    # Loading torch takes seconds, and few arrays need it.
    import torch

    from vidgan.core.clip_ops import to_uint8

    signed = clip.astype(np.float32) * 2.0 - 1.0 if scale == "unit" else clip.astype(np.float32)
    frames: npt.NDArray[np.uint8] = to_uint8(torch.from_numpy(signed)).numpy()
    return np.ascontiguousarray(frames)
