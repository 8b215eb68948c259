"""Landmark models that a user brings: an ONNX model made here, run for real."""

import json
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="needs the extra faces")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")
onnx = pytest.importorskip("onnx", reason="needs onnx, to write the model of the test")

from face_films import PORTRAIT_EYES, portrait, talking, write_film  # noqa: E402

from vidgan.errors import UserError  # noqa: E402
from vidgan.films.faces.align import AlignConfig, eye_centres, mean_shape  # noqa: E402
from vidgan.films.faces.build import build_faces  # noqa: E402
from vidgan.films.faces.film import FacesConfig  # noqa: E402
from vidgan.films.faces.landmarks import LandmarkConfig, make_landmarker  # noqa: E402
from vidgan.films.faces.tracks import Face, FaceConfig, FaceFinder  # noqa: E402

SIZE = 16


def write_model(path: Path, channels: int = 3, layout: str = "NCHW", num_points: int = 68) -> Path:
    """A model that returns fixed points (the mean shape in its crop) and the mean of its input."""
    from onnx import TensorProto, helper

    shape = [1, channels, SIZE, SIZE] if layout == "NCHW" else [1, SIZE, SIZE, channels]
    points = (0.4 * mean_shape(68) + (0.5, 0.4))[:num_points].astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["brightness"], keepdims=0),
        helper.make_node("Mul", ["brightness", "zero"], ["nothing"]),
        helper.make_node("Add", ["points_table", "nothing"], ["points"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fixed",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("points", TensorProto.FLOAT, [1, 2 * num_points]),
            helper.make_tensor_value_info("brightness", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor(
                "points_table", TensorProto.FLOAT, [1, 2 * num_points], points.ravel()
            ),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def write_sidecar(model: Path, **spec) -> None:
    model.with_suffix(".json").write_text(json.dumps({"size": [SIZE, SIZE], **spec}))


def located(model: Path, pixels: np.ndarray, box=(20.0, 30.0, 60.0, 60.0)):
    landmarker = make_landmarker(LandmarkConfig(backend="onnx", model=str(model)))
    return landmarker.locate(pixels, Face(box, None))


def test_points_come_back_in_pixels_of_the_frame(tmp_path):
    model = write_model(tmp_path / "m.onnx")
    pixels = np.zeros((120, 160, 3), np.uint8)
    unit = 0.4 * mean_shape(68) + (0.5, 0.4)
    # A square of 1.5 x 60 around the middle (50, 60) of the box.
    in_frame = unit * 90 + (5, 15) - 0.5
    write_sidecar(model, box_scale=1.5)
    np.testing.assert_allclose(located(model, pixels).points, in_frame, atol=1e-4)
    write_sidecar(model, box_scale=1.5, coordinates="centred")
    centred = (unit + 1) / 2 * 90 + (5, 15) - 0.5
    np.testing.assert_allclose(located(model, pixels).points, centred, atol=1e-4)
    write_sidecar(model, box_scale=1.5, coordinates="pixels")
    in_input = (unit + 0.5) * 90 / SIZE + (5, 15) - 0.5
    np.testing.assert_allclose(located(model, pixels).points, in_input, atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"channels": "rgb", "mean": [10, 0, 0], "std": [1, 1, 1]}, (200 - 10 + 100 + 30) / 3),
        ({"channels": "bgr", "mean": [10, 0, 0], "std": [100, 1, 1]}, (0.2 + 100 + 200) / 3),
        ({"channels": "grey", "std": [2]}, 122 / 2),
    ],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_input_is_prepared_as_described(tmp_path, spec, expected, layout):
    channels = 1 if spec["channels"] == "grey" else 3
    model = write_model(tmp_path / "m.onnx", channels, layout)
    write_sidecar(model, confidence="brightness", points="points", layout=layout, **spec)
    pixels = np.zeros((120, 160, 3), np.uint8) + np.array([200, 100, 30], np.uint8)
    assert located(model, pixels).confidence == pytest.approx(expected, abs=0.2)


def test_mistakes_around_a_model_are_one_sentence(tmp_path):
    def refused(message: str, path: Path | str) -> None:
        with pytest.raises(UserError, match=message):
            make_landmarker(LandmarkConfig(backend="onnx", model=str(path)))

    refused(r"needs landmarks\.model=MODEL\.onnx, and it is not set", "")
    refused("is not a file", tmp_path / "nothing.onnx")
    model = write_model(tmp_path / "m.onnx")
    refused(r"needs a file m\.json beside it", model)
    model.with_suffix(".json").write_text("{")
    refused("is damaged", model)
    write_sidecar(model, sise=3)
    refused("did you mean size", model)
    write_sidecar(model, points="lines")
    refused("names the output lines, but the model has points, brightness", model)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    write_sidecar(tmp_path / "bad.onnx")
    refused("cannot be loaded as an ONNX model", tmp_path / "bad.onnx")
    few = write_model(tmp_path / "few.onnx", num_points=5)
    write_sidecar(few)
    with pytest.raises(UserError, match="has 10 numbers, not 68 x 2"):
        located(few, np.zeros((120, 160, 3), np.uint8))


def test_a_film_is_aligned_by_68_points(tmp_path):
    # The model says that every face is the mean face in its box, so the box drives the clip.
    model = write_model(tmp_path / "m.onnx")
    (face,) = FaceFinder(FaceConfig()).faces(portrait(1))
    eyes = PORTRAIT_EYES.mean(axis=0)
    middle = face.box[0] + face.box[2] / 2, face.box[1] + 0.4 * face.box[3]
    assert np.hypot(*(eyes - middle)) < 5
    write_sidecar(model, box_scale=1.0)
    write_film(tmp_path / "films" / "a.mp4", (talking("", 1, 34, 7),))
    config = FacesConfig(
        faces=FaceConfig(width=160),
        align=AlignConfig(size=64),
        landmarks=LandmarkConfig(backend="onnx", model=str(model)),
    )
    report = build_faces(tmp_path / "films", tmp_path / "out", config, workers=0)
    assert report.num_clips == 1
    assert eye_centres(mean_shape(68)).shape == (2, 2)
