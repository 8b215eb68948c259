"""Landmarks of a face: the protocol, the table of backends, and the built-in one.

The thesis takes 68 points from a Deep Alignment Network. No such network comes with free weights,
so the built-in backend is the two eyes, and every other one is a name away: the user's ONNX, dlib
or LBF model, MediaPipe, or a class of a third party.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vidgan.core.plugins import Registry, trust_typed
from vidgan.errors import UserError
from vidgan.films.faces.detect import Face
from vidgan.films.opencv import Floats, Pixels


@dataclass(frozen=True, kw_only=True)
class LandmarkConfig:
    """Where landmarks come from.

    Attributes:
        backend: eyes, onnx, dlib, lbf, mediapipe, the name of an entry point of the group
            `vidgan.landmarkers`, or package.module:Class.
        model: File with the backend's weights, for backends that need one.
        min_confidence: Landmarks of less count as not found; backends without a confidence of
            their own give 1.
    """

    backend: str = "eyes"
    model: str = ""
    min_confidence: float = 0.5


@dataclass(frozen=True)
class Landmarks:
    """Points of a face.

    Attributes:
        points: `[P, 2]` (x, y) in pixels of the frame, pixel centres at whole numbers; P is 68 in
            the iBUG order, or 2 for the eyes, the left one in the picture first.
        confidence: 0 to 1.
    """

    points: Floats
    confidence: float


@runtime_checkable
class Landmarker(Protocol):
    """Finds the landmarks of a face; constructed with a `LandmarkConfig`."""

    @property
    def num_points(self) -> int:
        """2 or 68."""

    def locate(self, pixels: Pixels, face: Face) -> Landmarks | None:
        """Landmarks of `face` in a frame, RGB uint8 `[H, W, 3]`; None if there are none."""


class EyeLandmarker:
    """The two eyes that the face search found, as landmarks; needs no weights."""

    num_points = 2

    def __init__(self, config: LandmarkConfig) -> None:
        if config.model:
            raise UserError(
                f"landmarks.model={config.model} is set, but landmarks.backend=eyes reads no model:"
                " set landmarks.backend=onnx, dlib or lbf"
            )

    def locate(self, pixels: Pixels, face: Face) -> Landmarks | None:
        """The eyes of `face`."""
        return None if face.eyes is None else Landmarks(face.eyes, 1.0)


LANDMARKERS = {
    "eyes": "vidgan.films.faces.landmarks:EyeLandmarker",
    "onnx": "vidgan.films.faces.backends:OnnxLandmarker",
    "dlib": "vidgan.films.faces.backends:DlibLandmarker",
    "lbf": "vidgan.films.faces.backends:LbfLandmarker",
    "mediapipe": "vidgan.films.faces.backends:MediapipeLandmarker",
}
"""Name to `module:Class`; third parties add theirs by the entry point `vidgan.landmarkers`."""

_REGISTRY = Registry("landmarker", "landmarks.backend", "vidgan.landmarkers", LANDMARKERS)


def make_landmarker(config: LandmarkConfig) -> Landmarker:
    """The backend that the settings name.

    Raises:
        UserError: no such backend, its package is missing, or its model cannot be read.
    """
    name = config.backend
    # These settings come from the command line alone: no file names a landmarker.
    trust_typed(name)
    backend = _REGISTRY.find(name)(config)
    if not isinstance(backend, Landmarker) or backend.num_points not in (2, 68):
        raise UserError(
            f"landmarks.backend={name} is no landmarker: it needs a method locate and a num_points"
            " of 2 or 68, see vidgan.films.faces.landmarks.Landmarker"
        )
    return backend
