"""The 1,797 handwritten digits that come with the package (see `images/ATTRIBUTION.md`)."""

from collections.abc import Callable
from functools import lru_cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from vidgan.core.randomness import derive_seed
from vidgan.video.pictures import open_picture

Array = npt.NDArray[np.float64]

_HELDOUT_EVERY = 5
"""One digit image in five is never shown by a training video, whatever the seed."""
_INK_AREA = 0.5
"""In squared object sides; strokes are thin, so a whole digit is then as tall as a shape."""


def num_digit_images(digit: int, split: str) -> int:
    """How many handwritten images of `digit` a split may show."""
    return len(_images(digit, split == "train"))


def digit_mask(digit: int, split: str, choice: int) -> Callable[[Array, Array], Array]:
    """Cover 0..1 of one handwritten digit at local coordinates.

    All digits are scaled to the same area of ink; `choice` counts from 0 up to `num_digit_images`.
    """
    image = np.pad(_images(digit, split == "train")[choice] / 16.0, 2)
    fine = np.linspace(0, 11, 89)
    ink = _edge(_bilinear(image, fine[None, :], fine[:, None]))
    cell = (_INK_AREA / (float(ink.mean()) * 11.0**2)) ** 0.5
    mass = ink.sum()
    centre_y, centre_x = ink.sum(1) @ fine / mass, ink.sum(0) @ fine / mass

    def mask(x: Array, y: Array) -> Array:
        return _edge(_bilinear(image, x / cell + centre_x, y / cell + centre_y))

    return mask


def _edge(ink: Array) -> Array:
    """A pencil line out of the grey 8 x 8 picture: a smooth step around its half tone."""
    step = np.clip((ink - 0.25) / 0.4, 0, 1)
    return step * step * (3 - 2 * step)


def _bilinear(image: Array, x: Array, y: Array) -> Array:
    last = image.shape[0] - 1
    x, y = np.clip(x, 0, last), np.clip(y, 0, last)
    left, top = np.minimum(x.astype(int), last - 1), np.minimum(y.astype(int), last - 1)
    fx, fy = x - left, y - top
    upper = image[top, left] * (1 - fx) + image[top, left + 1] * fx
    lower = image[top + 1, left] * (1 - fx) + image[top + 1, left + 1] * fx
    result: Array = upper * (1 - fy) + lower * fy
    return result


@lru_cache(maxsize=1)
def _table() -> npt.NDArray[np.uint8]:
    data = (resources.files("vidgan.data.synthetic") / "images" / "digits.png").read_bytes()
    with open_picture(data) as picture:
        return np.asarray(picture)


@lru_cache(maxsize=20)
def _images(digit: int, for_training: bool) -> npt.NDArray[np.uint8]:
    """All `[M, 8, 8]` images of a digit that belong to the training videos, or the other ones."""
    rows = np.flatnonzero(_table()[:, 64] == digit)
    is_heldout = [derive_seed("digit", int(row)) % _HELDOUT_EVERY == 0 for row in rows]
    chosen = rows[np.array(is_heldout) != for_training]
    return _table()[chosen, :64].reshape(-1, 8, 8)
