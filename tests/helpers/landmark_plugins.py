"""Landmarkers of a third party: one that dies or hangs on marked films, one that is none."""

import os
import time

import numpy as np

from vidgan.films.faces.landmarks import LandmarkConfig, Landmarks
from vidgan.films.faces.tracks import Face

MARK = 24
"""Side of the mark in the upper left corner: white kills, black hangs, red raises."""


class Fragile:
    """The eyes, except in marked films."""

    num_points = 2

    def __init__(self, config: LandmarkConfig) -> None:
        del config

    def locate(self, pixels: np.ndarray, face: Face) -> Landmarks | None:
        red, green, _ = pixels[4 : MARK - 4, 4 : MARK - 4].reshape(-1, 3).mean(axis=0)
        if red > 230 and green > 230:
            os._exit(1)
        if red < 25 and green < 25:
            time.sleep(300)
        if red > 200 and green < 60:
            raise ArithmeticError("a red mark")
        return None if face.eyes is None else Landmarks(face.eyes, 1.0)


class NoLandmarker:
    """Lacks everything."""

    def __init__(self, config: LandmarkConfig) -> None:
        del config
