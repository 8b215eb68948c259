"""The demonstration set: an object times a motion, rendered as ordinary labelled video files.

A class is `<object>-<motion>`. Colour, size, speed, start, tilt and background are drawn without
looking at the class, and every object covers the same area (in grow and shrink on average over the
clip), so that no single-frame statistic reveals the class: a model must draw the object and
move it. A white dot off the centre makes the turn of the round shapes visible; no other
shape turns so far between two of eight frames that its symmetry could hide the sense.
"""

import colorsys
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidgan.core.files import is_vacant, read_json, remove_leftovers, write_json_atomically
from vidgan.core.progress import Progress
from vidgan.core.randomness import derive_seed
from vidgan.errors import UserError
from vidgan.video import write_mp4
from vidgan.video.images import open_image

# ------------------------------------------------------------------------------------------------
# The 1,797 handwritten digits that come with the package (see `images/ATTRIBUTION.md`)

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
    """A pencil line out of the grey 8 x 8 image: a smooth step around its half tone."""
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
    with open_image(data) as image:
        return np.asarray(image)


@lru_cache(maxsize=20)
def _images(digit: int, for_training: bool) -> npt.NDArray[np.uint8]:
    """All `[M, 8, 8]` images of a digit that belong to the training videos, or the other ones."""
    rows = np.flatnonzero(_table()[:, 64] == digit)
    is_heldout = [derive_seed("digit", int(row)) % _HELDOUT_EVERY == 0 for row in rows]
    chosen = rows[np.array(is_heldout) != for_training]
    return _table()[chosen, :64].reshape(-1, 8, 8)


# ------------------------------------------------------------------------------------------------
# The demonstration set: an object times a motion, rendered as ordinary labelled video files

MOTIONS = ("left", "right", "up", "down", "rotate-left", "rotate-right", "grow", "shrink")
SHAPES = ("disc", "square", "triangle", "cross", "star", "ring")
DIGITS = tuple(f"digit{n}" for n in range(10))

_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_TURNS = {"rotate-left": -1, "rotate-right": 1}
_SCALES = {"grow": 1, "shrink": -1}
_DOT_RADIUS = 0.16
_REACH = 0.6
"""Half extent, in object sides, that stays in the frame; only thin tips of a shape are longer."""


@dataclass(frozen=True)
class Palette:
    """Colours of an object: least and greatest hue, saturation and value, and its grey dot."""

    least: tuple[float, float, float]
    greatest: tuple[float, float, float]
    dot: float


PALETTES = {
    # Against the dark background a pastel object stands out in all three colour channels, so a
    # network learns its shape in far fewer steps.
    "pastel": Palette((0, 0.25, 0.85), (1, 0.6, 1.0), dot=0.45),
    "vivid": Palette((0, 0.8, 0.75), (1, 1.0, 0.9), dot=0.98),
}


@dataclass(frozen=True, kw_only=True)
class MotionSettings:
    """What is rendered.

    Attributes:
        size: side of the square video in pixels.
        frames: frames of every video; the motion spans all of them.
        seed: same seed, same videos.
        objects: names from `SHAPES` and `DIGITS`.
        motions: names from `MOTIONS`.
        palette: name from `PALETTES`.
        tilt: objects stand turned by up to this angle, either way, in radians.
    """

    size: int = 64
    frames: int = 16
    seed: int = 0
    objects: tuple[str, ...] = SHAPES
    motions: tuple[str, ...] = MOTIONS
    palette: str = "pastel"
    tilt: float = 0.15

    def __post_init__(self) -> None:
        _refuse_unknown("object", self.objects, SHAPES + DIGITS)
        _refuse_unknown("motion", self.motions, MOTIONS)
        _refuse_unknown("palette", [self.palette], list(PALETTES))
        if self.size < 8 or self.frames < 2:
            raise UserError(
                f"a motions video of {self.size} pixels and {self.frames} frames shows nothing:"
                " ask for a size of at least 8 and at least 2 frames"
            )

    @property
    def classes(self) -> list[str]:
        """Class names, objects outermost."""
        return [f"{name}-{motion}" for name in self.objects for motion in self.motions]

    @property
    def attributes(self) -> dict[str, dict[str, str]]:
        """Object and motion of every class."""
        return {
            f"{name}-{motion}": {"object": name, "motion": motion}
            for name in self.objects
            for motion in self.motions
        }


@dataclass(frozen=True)
class _Scene:
    """The draws of one video; none of them depends on the class. Lengths are in frame sides."""

    colour: Array
    background: Array
    side: float
    tilt: float
    travel: float
    turn: float
    growth: float
    place: tuple[float, float]
    start: float
    digit_draw: float


def motion_settings(
    objects: str | Sequence[str] = "shapes",
    motions: str | Sequence[str] = "all",
    *,
    size: int = 64,
    frames: int = 16,
    seed: int = 0,
    palette: str = "pastel",
) -> MotionSettings:
    """Settings from user input.

    Args:
        objects: "shapes", "digits", or names (a list or separated by commas).
        motions: "all" or names.
        size, frames, seed, palette: see `MotionSettings`.

    Raises:
        UserError: unknown names, or sizes that show nothing.
    """
    return MotionSettings(
        size=size,
        frames=frames,
        seed=seed,
        objects=_names(objects, {"shapes": SHAPES, "digits": DIGITS}),
        motions=_names(motions, {"all": MOTIONS}),
        palette=palette,
    )


def render_motions(
    out: str | Path,
    settings: MotionSettings | None = None,
    *,
    videos: int = 960,
    heldout: float = 0.1,
    fps: float = 8.0,
    progress: Progress | None = None,
) -> Path:
    """Render the set into `out/train/<class>/NNNN.mp4` and `out/heldout/<class>/NNNN.mp4`.

    Classes take turns, so both splits are balanced. Held-out videos have draws of their own and,
    for digits, handwritten images that no training video shows. An interrupted call continues.

    Args:
        out: folder, new or made by a call with the same settings.
        settings: what is rendered; None for the defaults.
        videos: number of videos, held-out ones included.
        heldout: fraction that is held out; at least one of each class if there are two for each.
        fps: frames per second of the files.
        progress: called with (done, total, what).

    Returns:
        The folder.

    Raises:
        UserError: too few videos, or `out` holds something else.
    """
    settings, out = settings or MotionSettings(), Path(out)
    if not 0 <= heldout < 1 or videos < 1:
        raise UserError(f"videos={videos} with heldout={heldout} leaves nothing to train on")
    record = {**asdict(settings), "videos": videos, "heldout": heldout, "fps": fps}
    if _is_finished(out, record):
        return out
    remove_leftovers(out)
    jobs = _videos_of_splits(videos, heldout, len(settings.classes))
    for done, (split, index) in enumerate(jobs, 1):
        name = settings.classes[index % len(settings.classes)]
        file = out / split / name / f"{index // len(settings.classes):04d}.mp4"
        if not file.exists():
            clip, _ = motion_clip(settings, index, split)
            write_mp4(file, clip, fps, quality=10)
        if progress:
            progress(done, len(jobs), "rendering motions")
    write_json_atomically(out / "attributes.json", settings.attributes)
    write_json_atomically(out / "motions.json", {**record, "finished": True})
    return out


def motion_clip(settings: MotionSettings, index: int, split: str = "train") -> tuple[Tensor, int]:
    """Render video `index` of a split: a pure function of its arguments.

    Returns:
        The clip, uint8 `[3, T, H, W]`, and the position of its class in `settings.classes`.
    """
    label = index % len(settings.classes)
    name = settings.objects[label // len(settings.motions)]
    motion = settings.motions[label % len(settings.motions)]
    scene = _draw_scene(settings, split, index)
    object_mask = _object_mask(name, scene.digit_draw, split)
    size, frames, dot_colour = settings.size, settings.frames, PALETTES[settings.palette].dot
    centres = (np.arange(size) + 0.5) / size
    grid_y, grid_x = np.meshgrid(centres, centres, indexing="ij")
    clip = np.empty((frames, size, size, 3), np.uint8)
    for t, (x, y, side, angle) in enumerate(_path(scene, motion, frames)):
        # Into the object's own axes, in units of its side, y downwards, turned clockwise.
        dx, dy = (grid_x - x) / side, (grid_y - y) / side
        local_x = np.cos(angle) * dx + np.sin(angle) * dy
        local_y = np.cos(angle) * dy - np.sin(angle) * dx
        cover, dot = object_mask(local_x, local_y, 1 / (side * size))
        pixels = cover * scene.colour + (1 - cover) * scene.background
        pixels += dot * (dot_colour - pixels)
        clip[t] = (pixels * 255).round().astype(np.uint8)
    return torch.from_numpy(clip).permute(3, 0, 1, 2).contiguous(), label


def _videos_of_splits(videos: int, heldout: float, num_classes: int) -> list[tuple[str, int]]:
    """Split and number of every video."""
    num_heldout = round(videos * heldout)
    if heldout and videos >= 2 * num_classes:
        num_heldout = max(num_heldout, num_classes)
    train = [("train", i) for i in range(videos - num_heldout)]
    return train + [("heldout", i) for i in range(num_heldout)]


def _draw_scene(settings: MotionSettings, split: str, index: int) -> _Scene:
    key = derive_seed("motions", settings.seed, split, index)
    rng = np.random.Generator(np.random.PCG64(key))
    palette = PALETTES[settings.palette]
    hue, saturation, value = rng.uniform(palette.least, palette.greatest)
    colour = np.array(colorsys.hsv_to_rgb(hue, saturation, value))
    # Pure blue and violet are dark to the eye: lift them towards white to one least brightness.
    luma = float(colour @ (0.299, 0.587, 0.114))
    colour += max(0.0, (0.42 - luma) / (1 - luma)) * (1 - colour)
    background = np.array(colorsys.hsv_to_rgb(*rng.uniform((0, 0, 0.04), (1, 0.6, 0.25))))
    return _Scene(
        colour=colour,
        background=background,
        side=rng.uniform(0.43, 0.53),
        tilt=rng.uniform(-settings.tilt, settings.tilt),
        travel=rng.uniform(0.27, 0.35),
        turn=np.radians(rng.uniform(130, 190)),
        growth=rng.uniform(1.4, 1.6),
        place=(rng.uniform(), rng.uniform()),
        start=rng.uniform(),
        digit_draw=rng.uniform(),
    )


def _path(scene: _Scene, motion: str, frames: int) -> Iterator[tuple[float, float, float, float]]:
    """Yield (x, y, side, angle) for every frame; x to the right and y down, in frame sides."""
    progress = np.linspace(-0.5, 0.5, frames)
    growth = scene.growth ** (2 * progress * _SCALES.get(motion, 0))
    # The mean covered area of the clip stays side**2, so that brightness does not reveal the
    # motion.
    sides = scene.side * growth / np.sqrt(np.mean(growth**2))
    angles = scene.tilt + _TURNS.get(motion, 0) * scene.turn * (progress + 0.5)
    margin = _REACH * float(sides.max())
    step = np.array(_DIRECTIONS.get(motion, (0, 0)))
    low = margin + scene.travel / 2 * abs(step)
    place = low + np.array(scene.place) * np.maximum(0, 1 - 2 * low)
    for t in range(frames):
        x, y = place + step * scene.travel * progress[t]
        yield float(x), float(y), float(sides[t]), float(angles[t])


Mask = Callable[[Array, Array, float], tuple[Array, Array]]
"""Cover 0..1 of the object and of its dot, `[H, W, 1]`, at local coordinates for a pixel width."""


def _object_mask(name: str, digit_draw: float, split: str) -> Mask:
    if name in DIGITS:
        digit = DIGITS.index(name)
        choice = int(digit_draw * num_digit_images(digit, split))
        ink = digit_mask(digit, split, choice)
        return lambda x, y, pixel: (ink(x, y)[..., None], np.zeros((1, 1, 1)))

    def mask(x: Array, y: Array, pixel: float) -> tuple[Array, Array]:
        cover = np.clip(0.5 - _SHAPE_DISTANCES[name](x, y) / pixel, 0, 1)[..., None]
        if name not in _DOT_HEIGHTS:
            return cover, np.zeros((1, 1, 1))
        dot = np.hypot(x, y - _DOT_HEIGHTS[name]) - _DOT_RADIUS
        return cover, np.clip(0.5 - dot / pixel, 0, 1)[..., None]

    return mask


_RING_RADIUS = float((0.75 * np.pi) ** -0.5)
_DOT_HEIGHTS = {"disc": -0.32, "ring": -0.75 * _RING_RADIUS}


def _disc(x: Array, y: Array) -> Array:
    return np.asarray(np.hypot(x, y) - np.pi**-0.5)


def _ring(x: Array, y: Array) -> Array:
    return np.asarray(np.abs(np.hypot(x, y) - 0.75 * _RING_RADIUS) - 0.25 * _RING_RADIUS)


def _polygon(corners: Array) -> Callable[[Array, Array], Array]:
    """Signed distance to a polygon, scaled to area 1 (negative inside)."""
    following = np.roll(corners, -1, axis=0)
    area = 0.5 * abs(np.sum(corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]))
    corners, following = corners / np.sqrt(area), following / np.sqrt(area)

    def distance(x: Array, y: Array) -> Array:
        nearest = np.full(x.shape, np.inf)
        inside = np.zeros(x.shape, bool)
        for (ax, ay), (bx, by) in zip(corners, following, strict=True):
            ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
            along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
            nearest = np.minimum(nearest, np.hypot(px - along * ex, py - along * ey))
            if ay != by:
                inside ^= ((ay > y) != (by > y)) & (px < ex * py / ey)
        return np.where(inside, -nearest, nearest)

    return distance


def _star_corners(points: int, inner: float) -> Array:
    angles = np.pi * np.arange(2 * points) / points - np.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def _cross_corners(arm: float) -> Array:
    a = arm
    quarter = np.array([(a, -1), (a, -a), (1, -a)])
    turns = [np.array([(np.cos(v), np.sin(v)), (-np.sin(v), np.cos(v))]) for v in _QUARTERS]
    return np.concatenate([quarter @ turn for turn in turns])


_QUARTERS = np.pi / 2 * np.arange(4)
_SHAPE_DISTANCES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": _disc,
    "ring": _ring,
    "square": _polygon(np.array([(-1.0, -1), (1, -1), (1, 1), (-1, 1)])),
    "triangle": _polygon(_star_corners(3, 0.5)),
    "cross": _polygon(_cross_corners(0.34)),
    "star": _polygon(_star_corners(5, 0.45)),
}


def _is_finished(out: Path, record: dict[str, Any]) -> bool:
    """Whether `out` is complete; claims a new folder, refuses a foreign one."""
    record = json.loads(json.dumps(record))
    marker = out / "motions.json"
    if marker.exists():
        found = read_json(marker)
        finished = bool(found.pop("finished"))
        differing = [f"{k}={found.get(k)}" for k in record if found.get(k) != record[k]]
        if differing:
            raise UserError(
                f"{out} holds a motions set with {', '.join(differing)}:"
                " ask for the same, choose another folder or delete it"
            )
        return finished
    if not is_vacant(out):
        raise UserError(f"{out} is not empty: choose a new folder for the motions set")
    write_json_atomically(marker, {**record, "finished": False})
    return False


def _names(given: str | Sequence[str], groups: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    words = given.replace(",", " ").split() if isinstance(given, str) else list(given)
    return tuple(dict.fromkeys(name for word in words for name in groups.get(word, (word,))))


def _refuse_unknown(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UserError(f"unknown {kind} {', '.join(unknown) or '(none)'}: use {', '.join(known)}")
