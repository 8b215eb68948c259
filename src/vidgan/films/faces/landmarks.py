"""Landmarks of a face: the protocol, the table of backends, and the built-in one.

The thesis takes 68 points from a Deep Alignment Network. No such network comes with free weights,
so the built-in backend is the two eyes, and every other one is a name away: the user's ONNX, dlib
or LBF model, MediaPipe, or a class of a third party.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from vidgan.core.files import read_json
from vidgan.core.plugins import Registry, trust_typed
from vidgan.core.settings import from_dict
from vidgan.errors import UserError
from vidgan.films.faces.tracks import Box, Face
from vidgan.films.item_work import Floats, Pixels, grey_image, opencv


@dataclass(frozen=True, kw_only=True)
class LandmarkConfig:
    """Where landmarks come from.

    Attributes:
        backend: eyes, onnx, dlib, lbf, mediapipe, the name of an entry point of the group
            `vidgan.landmarkers`, or package.module:Class.
        model: file with the backend's weights, for backends that need one.
        min_confidence: landmarks of less count as not found; backends without a confidence of
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
            the iBUG order, or 2 for the eyes, the left one in the image first.
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
    "onnx": "vidgan.films.faces.landmarks:OnnxLandmarker",
    "dlib": "vidgan.films.faces.landmarks:DlibLandmarker",
    "lbf": "vidgan.films.faces.landmarks:LbfLandmarker",
    "mediapipe": "vidgan.films.faces.landmarks:MediapipeLandmarker",
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
            f"landmarks.backend={name} is not a landmarker: it needs a method locate and a "
            "num_points"
            " of 2 or 68, see vidgan.films.faces.landmarks.Landmarker"
        )
    return backend


# ------------------------------------------------------------------------------------------------
# Landmark backends around models that the user brings: ONNX, dlib, LBF, MediaPipe.
#
# None of their packages is a dependency and none of their weights is downloaded; each class imports
# what it needs when it is made.


def _import(package: str, backend: str, advice: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"landmarks.backend={backend} needs the package {package}: {advice}"
        ) from error


def _model_file(config: LandmarkConfig, kind: str) -> Path:
    path = Path(config.model)
    if not config.model or not path.is_file():
        named = f"{path} is not a file" if config.model else "it is not set"
        raise UserError(
            f"landmarks.backend={config.backend} needs landmarks.model={kind}, and {named}"
        )
    return path


@dataclass(frozen=True, kw_only=True)
class OnnxInput:
    """What a model expects and gives, as written in MODEL.json beside MODEL.onnx.

    Attributes:
        size: width and height of the input in pixels.
        channels: order of the colours, or grey.
        layout: axes of the input.
        mean: subtracted from 0..255, one value or one a channel.
        std: divided by, one value or one a channel.
        box_scale: side of the square that is cut out, as a multiple of the face box's.
        coordinates: unit of the output: unit is 0..1 of the crop, centred is -1..1, pixels those
            of the input.
        points: name of the output with 68 x 2 numbers; none takes the first.
        confidence: name of the output with the confidence, if there is one.
    """

    size: tuple[int, int] = (112, 112)
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    box_scale: float = 1.2
    coordinates: Literal["unit", "centred", "pixels"] = "unit"
    points: str | None = None
    confidence: str | None = None


class OnnxLandmarker:
    """Any 68-point model in ONNX form, such as a converted Deep Alignment Network."""

    num_points = 68

    def __init__(self, config: LandmarkConfig) -> None:
        runtime = _import("onnxruntime", "onnx", "install it with: pip install onnxruntime")
        path = _model_file(config, "MODEL.onnx")
        sidecar = path.with_suffix(".json")
        if not sidecar.is_file():
            raise UserError(
                f"{path} needs a file {sidecar.name} beside it that describes its input, such as"
                ' {"size": [112, 112], "channels": "rgb", "std": [255], "coordinates": "unit"}'
            )
        self._input = from_dict(OnnxInput, read_json(sidecar), str(sidecar))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # The runtime raises classes of its own for every kind of damage.
            raise UserError(f"{path} cannot be loaded as an ONNX model: {error}") from error
        outputs = [output.name for output in self._session.get_outputs()]
        for name in (self._input.points, self._input.confidence):
            if name is not None and name not in outputs:
                raise UserError(
                    f"{sidecar} names the output {name}, but the model has {', '.join(outputs)}"
                )
        self._points_name = self._input.points or outputs[0]

    def locate(self, pixels: Pixels, face: Face) -> Landmarks | None:
        """Run the model on a square around `face`."""
        cv2 = opencv()
        spec = self._input
        x, y, side = _square(face.box, spec.box_scale)
        width, height = spec.size
        # Maps pixel centres of the input to those of the frame.
        scale = np.array([side / width, side / height])
        shift = 0.5 * scale - 0.5 + (x, y)
        matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        crop = cv2.warpAffine(pixels, matrix, spec.size, flags=flags)
        names = [self._points_name] + ([spec.confidence] if spec.confidence else [])
        name = self._session.get_inputs()[0].name
        outputs = self._session.run(names, {name: self._prepare(crop)})
        values = np.asarray(outputs[0], np.float64).ravel()
        if values.size != 2 * self.num_points:
            raise UserError(
                f"the output {names[0]} of landmarks.model has {values.size} numbers, not 68 x 2"
            )
        points = values.reshape(-1, 2)
        if spec.coordinates != "pixels":
            unit = points if spec.coordinates == "unit" else (points + 1) / 2
            points = unit * (width, height) - 0.5
        confidence = float(np.ravel(outputs[1])[0]) if spec.confidence else 1.0
        return Landmarks(points * scale + shift, confidence)

    def _prepare(self, crop: Pixels) -> Any:
        spec = self._input
        if spec.channels == "grey":
            crop = grey_image(crop)[..., None]
        elif spec.channels == "bgr":
            crop = crop[..., ::-1]
        mean, std = (np.array(value, np.float32) for value in (spec.mean, spec.std))
        values = (crop.astype(np.float32) - mean) / std
        if spec.layout == "NCHW":
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values[None])


class DlibLandmarker:
    """A dlib shape predictor of 68 points."""

    num_points = 68

    def __init__(self, config: LandmarkConfig) -> None:
        self._dlib = _import("dlib", "dlib", "install it with: pip install dlib")
        path = _model_file(config, "PREDICTOR.dat")
        try:
            self._predictor = self._dlib.shape_predictor(str(path))
        except RuntimeError as error:
            raise UserError(f"{path} is not a dlib shape predictor: {error}") from error

    def locate(self, pixels: Pixels, face: Face) -> Landmarks | None:
        """Run the predictor on the box of `face`."""
        left, top, width, height = face.box
        rectangle = self._dlib.rectangle(
            round(left), round(top), round(left + width) - 1, round(top + height) - 1
        )
        shape = self._predictor(pixels, rectangle)
        if shape.num_parts != self.num_points:
            raise UserError(f"landmarks.model predicts {shape.num_parts} points, not 68")
        return Landmarks(np.array([[p.x, p.y] for p in shape.parts()], np.float64), 1.0)


class LbfLandmarker:
    """OpenCV's Facemark LBF with a model file of 68 points; needs the contrib wheel."""

    num_points = 68

    def __init__(self, config: LandmarkConfig) -> None:
        cv2 = opencv()
        if not hasattr(cv2, "face"):
            raise UserError(
                "landmarks.backend=lbf needs OpenCV with its contrib modules: replace"
                " opencv-python-headless by opencv-contrib-python-headless of the same version"
            )
        path = _model_file(config, "MODEL.yaml")
        self._mark = cv2.face.createFacemarkLBF()
        try:
            self._mark.loadModel(str(path))
        except cv2.error as error:
            raise UserError(f"{path} is not an LBF model: {error}") from error

    def locate(self, pixels: Pixels, face: Face) -> Landmarks | None:
        """Fit the model to the box of `face`."""
        box = np.array([face.box]).round().astype(np.int32)
        found, points = self._mark.fit(grey_image(pixels), box)
        if not found:
            return None
        return Landmarks(np.asarray(points[0], np.float64).reshape(-1, 2), 1.0)


_MESH_CONTOURS = {
    "jaw": "127 234 93 132 58 172 150 176 152 400 379 397 288 361 323 454 356",
    "brows": "70 63 105 66 107 336 296 334 293 300",
    "nose": "168 197 5 4 98 97 2 326 327",
    "eyes": "33 160 158 133 153 144 362 385 387 263 373 380",
    "outer mouth": "61 39 37 0 267 269 291 405 314 17 84 181",
    "inner mouth": "78 81 13 311 308 402 14 178",
}
"""Vertices of MediaPipe's mesh that lie nearest to the 68 points, in their order; the jaw follows
the mesh's outline, which is close to the usual contour but not the same."""


class MediapipeLandmarker:
    """MediaPipe's face mesh (0.10.21 or older, which carries its weights), 68 of its points."""

    num_points = 68

    def __init__(self, config: LandmarkConfig) -> None:
        advice = (
            "install a version that carries its weights beside the extra faces with:"
            " pip install --no-deps 'mediapipe<=0.10.21'"
        )
        mediapipe = _import("mediapipe", "mediapipe", advice)
        if not hasattr(mediapipe, "solutions"):
            raise UserError(
                f"MediaPipe {mediapipe.__version__} carries no face mesh any more: {advice}"
            )
        self._mesh = mediapipe.solutions.face_mesh.FaceMesh(
            static_image_mode=True, max_num_faces=1, refine_landmarks=False
        )
        words = " ".join(_MESH_CONTOURS.values()).split()
        self._vertices = [int(word) for word in words]

    def locate(self, pixels: Pixels, face: Face) -> Landmarks | None:
        """Run the mesh on a square around `face`."""
        x, y, side = (round(value) for value in _square(face.box, 1.6))
        x0, y0 = max(0, x), max(0, y)
        crop = np.ascontiguousarray(pixels[y0 : y + side, x0 : x + side])
        found = self._mesh.process(crop).multi_face_landmarks
        if not found:
            return None
        mesh = np.array([[point.x, point.y] for point in found[0].landmark])
        points: Floats = mesh[self._vertices] * crop.shape[1::-1] - 0.5 + (x0, y0)
        return Landmarks(points, 1.0)


def _square(box: Box, scale: float) -> tuple[float, float, float]:
    """Left, top and side of the square around the middle of a box."""
    side = scale * max(box[2], box[3])
    return box[0] + (box[2] - side) / 2, box[1] + (box[3] - side) / 2, side
