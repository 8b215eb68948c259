"""Makes the film of the face tests: a real portrait that moves, turns and grows, in shots.

The first person is the portrait; the second is the portrait mirrored, darker and in other colours:
a face to Haar, nobody the SIFT features of the first would know.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from vidgan.video import write_mp4

WIDTH, HEIGHT = 320, 240
PORTRAIT_EYES = np.array([[107.0, 100.4], [150.6, 102.9]])
"""Centres of the irises in portrait.jpg, read off by eye from an enlargement."""


@cache
def portrait(person: int) -> np.ndarray:
    """RGB image of person 1 or 2."""
    image = np.asarray(Image.open(Path(__file__).parent / "portrait.jpg").convert("RGB"))
    if person == 1:
        return image
    mirrored = image[:, ::-1].astype(np.float64)
    toned = 255 * (mirrored / 255) ** 1.25 * np.array([0.85, 0.95, 1.0])
    return toned.round().astype(np.uint8)


def eyes_of(person: int) -> np.ndarray:
    """Eyes [2, 2] in the portrait of a person, the left one in the image first."""
    if person == 1:
        return PORTRAIT_EYES
    mirrored = PORTRAIT_EYES[::-1].copy()
    mirrored[:, 0] = portrait(2).shape[1] - 1 - mirrored[:, 0]
    return mirrored


def place(frame: float, phase: float = 0.0, size: float = 1.15) -> np.ndarray:
    """2 x 3 map from the portrait to the film: a slow sway, turn and zoom."""
    angle = 0.10 * np.sin(frame / 11 + phase)
    scale = size * (1 + 0.1 * np.sin(frame / 14 + phase))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([160 + 22 * np.sin(frame / 17 + phase), 118 + 8 * np.cos(frame / 13)])
    return np.hstack([turn, (middle - turn @ np.array([128.0, 105.0]))[:, None]])


def texture(seed: int, num_marks: int = 60) -> np.ndarray:
    """A background with features but without faces."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (9, 12, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for _ in range(num_marks):
        corner = rng.integers(0, (WIDTH, HEIGHT))
        size = rng.integers(4, 14, 2)
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        cv2.rectangle(image, corner.tolist(), (corner + size).tolist(), colour, -1)
    return image


def with_face(background: np.ndarray, person: int, matrix: np.ndarray) -> np.ndarray:
    """The portrait of a person, mapped by `matrix` and faded into the background at its edge."""
    image = portrait(person)
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.float32)
    cv2.ellipse(mask, (width // 2, 115), (80, 105), 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 4)
    size = (WIDTH, HEIGHT)
    moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC)
    alpha = cv2.warpAffine(mask, matrix, size)[..., None]
    return (alpha * moved + (1 - alpha) * background).round().astype(np.uint8)


@dataclass(frozen=True)
class Scene:
    """One shot of the film: length, and the image of its n-th frame."""

    name: str
    num_frames: int
    frame: Callable[[int], np.ndarray]


def talking(name: str, person: int, num_frames: int, seed: int) -> Scene:
    """One person in front of a texture."""
    background = texture(seed)
    return Scene(name, num_frames, lambda n: with_face(background, person, place(n, seed)))


def empty(name: str, num_frames: int, seed: int) -> Scene:
    """A texture that drifts."""
    background = texture(seed)
    return Scene(name, num_frames, lambda n: np.roll(background, n // 2, axis=1))


def swapped(name: str, half: int, seed: int) -> Scene:
    """Person 2 becomes person 1 in the same place: a cut that the background hides."""
    background = texture(seed, num_marks=160)
    matrix = place(30.0, seed, size=0.85)
    return Scene(name, 2 * half, lambda n: with_face(background, 2 if n < half else 1, matrix))


def passing(name: str, num_frames: int, shown: int, seed: int) -> Scene:
    """Person 2, who is there for some frames only."""
    background = texture(seed)

    def frame(n: int) -> np.ndarray:
        return with_face(background, 2, place(n, seed)) if n < shown else background

    return Scene(name, num_frames, frame)


SCENES = (
    talking("first person", 1, 40, 1),
    swapped("two persons", 24, 5),
    empty("nobody", 40, 2),
    talking("second person", 2, 36, 3),
    talking("too short a shot", 1, 20, 4),
    passing("too short a run", 40, 24, 6),
)
"""Neighbouring shots never show the same person: a portrait has no second expression, so that its
features would go on matching over the cut."""


def write_film(path: Path, scenes: tuple[Scene, ...] = SCENES, fps: float = 24.0) -> Path:
    """Write scenes one after the other as a film."""
    frames = [scene.frame(n) for scene in scenes for n in range(scene.num_frames)]
    clip = torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)
    write_mp4(path, clip, fps, quality=14)
    return path
