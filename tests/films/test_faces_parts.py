"""Parts of the face pipeline: eyes, tracks, shots, persons, lengths, backends, settings."""

from dataclasses import replace

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="needs the extra faces")

from face_films import (  # noqa: E402
    PORTRAIT_EYES,
    eyes_of,
    place,
    portrait,
    talking,
    texture,
    with_face,
)

from vidgan.errors import UserError  # noqa: E402
from vidgan.films.faces.align import (  # noqa: E402
    AlignConfig,
    eye_centres,
    fit_similarity,
    mean_shape,
)
from vidgan.films.faces.build import THESIS_LENGTHS, length_histogram  # noqa: E402
from vidgan.films.faces.landmarks import LandmarkConfig, make_landmarker  # noqa: E402
from vidgan.films.faces.shots import (  # noqa: E402
    Shot,
    ShotConfig,
    SiftCuts,
    cut_detector,
    shots_between,
)
from vidgan.films.faces.tracks import (  # noqa: E402
    Face,
    FaceConfig,
    FaceFinder,
    PersonConfig,
    box_overlap,
    find_change,
    follow_faces,
    frames_to_search,
    unbroken,
)
from vidgan.films.item_work import SiftMatcher, opencv, shrink  # noqa: E402

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("person", [1, 2])
def test_eyes_are_found_to_a_pixel(person):
    finder = FaceFinder(FaceConfig(width=320))
    errors = []
    for n in range(0, 60, 6):
        matrix = place(n, 2.0)
        (face,) = finder.faces(with_face(texture(9), person, matrix))
        true = eyes_of(person) @ matrix[:, :2].T + matrix[:, 2]
        errors.append(face.eyes - true)
    # A pixel of the film, in which the eyes are 50 pixels apart.
    assert np.hypot(*np.moveaxis(np.array(errors), -1, 0)).max() < 1.0
    assert np.array(errors).std(axis=0).max() < 0.3


def test_no_face_in_a_texture():
    assert FaceFinder(FaceConfig(width=320)).faces(texture(11)) == []


def test_small_faces_are_left_out():
    frame = with_face(texture(3), 1, place(0))
    (box,) = FaceFinder(FaceConfig(width=320)).boxes(frame)
    larger = round(1.6 * box[2])
    assert FaceFinder(FaceConfig(width=320, min_pixels=larger)).boxes(frame) == []


def box_at(x: float, eyes: bool = True) -> Face:
    return Face((x, 50.0, 100.0, 100.0), PORTRAIT_EYES if eyes else None)


def test_faces_are_followed_across_gaps_up_to_the_tolerance():
    config = FaceConfig(gap_frames=2)
    numbers = [0, 1, 2, 5, 6, 10, 11]
    faces = {n: [box_at(10 + n)] for n in numbers}
    tracks = follow_faces(Shot(0, 20), faces, config)
    assert [(t.start, t.stop) for t in tracks] == [(0, 7), (10, 12)]
    assert tracks[0].num_frames == 7
    assert list(tracks[0].faces) == [0, 1, 2, 5, 6]
    strict = follow_faces(Shot(0, 20), faces, replace(config, gap_frames=0))
    assert [(t.start, t.stop) for t in strict] == [(0, 3), (5, 7), (10, 12)]


def test_two_faces_that_come_close_keep_their_tracks():
    faces = {n: [box_at(400 - 5 * n), box_at(10 + 5 * n)] for n in range(30)}
    tracks = follow_faces(Shot(0, 30), faces, FaceConfig())
    assert len(tracks) == 2
    for track in tracks:
        steps = np.diff([face.box[0] for face in track.faces.values()])
        assert len(set(steps)) == 1
    half = {n: [box_at(10, eyes=n % 4 != 0)] for n in range(40)}
    assert follow_faces(Shot(0, 40), half, FaceConfig())[0].eye_share == 0.75


def test_probing_leaves_out_only_what_cannot_matter():
    config = FaceConfig(probe_step=4, gap_frames=0)
    shots = [Shot(0, 30), Shot(30, 60)]
    assert frames_to_search(shots, [28, 40], config) == {*range(25, 30), *range(37, 44)}
    # Every frame of any run of 31 is searched, wherever it begins.
    for start in range(12):
        hits = [n for n in range(0, 60, 4) if start <= n < start + 31]
        found = frames_to_search([Shot(0, 60)], hits, config)
        assert set(range(start, start + 31)) <= found


def test_overlap_and_unbroken():
    assert box_overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert box_overlap((0, 0, 10, 10), (10, 0, 10, 10)) == 0
    assert box_overlap((0, 0, 10, 10), (5, 5, 10, 10)) == pytest.approx(25 / 175)
    assert unbroken([False, True, True, False, True, False], 0) == [(1, 3), (4, 5)]
    assert unbroken([False, False], 3) == []


def cuts_of(frames: list[np.ndarray], config: ShotConfig) -> list[int]:
    detector = cut_detector(config)
    for number, frame in enumerate(frames):
        detector.see(number, frame)
    return detector.cuts()


def drifting(seed: int, num_frames: int) -> list[np.ndarray]:
    return [np.roll(texture(seed), 2 * n, axis=1) for n in range(num_frames)]


BLACK = [np.full((240, 320, 3), 10, np.uint8)] * 6
FOG = [np.full((240, 320, 3), 180, np.uint8)] * 6


def test_cuts_are_found_and_dark_scenes_have_none():
    frames = drifting(1, 7) + drifting(2, 3) + BLACK + FOG + drifting(3, 5)
    assert cuts_of(frames, ShotConfig()) == [7, 10, 16, 22]
    # Noise in the dark is not a cut, although hardly a feature is found again.
    dark = [np.abs(RNG.normal(0, 3, (240, 320, 3))).astype(np.uint8) for _ in range(6)]
    assert cuts_of(dark, ShotConfig()) == []


def test_still_frames_are_skipped_without_changing_the_cuts():
    frames = [drifting(1, 1)[0]] * 5 + [drifting(2, 1)[0]] * 5
    assert cuts_of(frames, ShotConfig()) == [5]
    assert cuts_of(frames, ShotConfig(still_difference=0.0)) == [5]
    assert isinstance(cut_detector(ShotConfig()), SiftCuts)


def test_scenedetect_finds_the_same_cuts():
    pytest.importorskip("scenedetect", reason="PySceneDetect is installed by hand")
    frames = drifting(1, 20) + drifting(2, 20) + drifting(3, 20)
    assert cuts_of(frames, ShotConfig(detector="scenedetect")) == [20, 40]


def test_shots_lie_between_cuts():
    assert shots_between([], 5) == [Shot(0, 5)]
    assert [shot.num_frames for shot in shots_between([2, 3], 5)] == [2, 1, 2]


def aligned(person: int, num_frames: int) -> list[np.ndarray]:
    scene = talking("", person, num_frames, 3)
    return [scene.frame(n)[20:220, 60:260] for n in range(num_frames)]


def test_one_person_passes_and_two_do_not():
    config = PersonConfig()
    assert find_change(aligned(1, 40), config) is None
    assert find_change(aligned(1, 1), config) is None
    assert find_change(aligned(1, 20) + aligned(2, 20), config) == "the person changes"
    assert find_change(aligned(1, 20) + aligned(2, 20), replace(config, check=False)) is None
    # A slow dissolve: neighbours match, the ends do not.
    first, last = portrait(1)[:256], portrait(2)[:256]
    fade = [((1 - a) * first + a * last).round().astype(np.uint8) for a in np.linspace(0, 1, 96)]
    slow = find_change(fade, replace(config, threshold=0.0))
    assert slow == "the last frame does not show the person of the first"
    blurred = [cv2.GaussianBlur(frame, (0, 0), 12) for frame in aligned(1, 20)]
    assert "too blurred" in (find_change(blurred, config) or "")


def test_table_of_lengths():
    assert list(length_histogram([30, 33, 34, 423])) == [
        "30-33",
        "34-39",
        "40-47",
        "48-57",
        "58-69",
        "70 and more",
    ]
    assert list(length_histogram([30, 33, 34, 47, 48, 57, 69, 70, 423]).values()) == [
        2,
        1,
        1,
        2,
        1,
        2,
    ]
    assert length_histogram([10])["under 30"] == 1
    # The thesis writes 10,900, 10,910 and 10,911 in other places.
    assert sum(THESIS_LENGTHS) == 10_910


def test_matcher_counts_only_what_is_there():
    matcher = SiftMatcher(300, 0.75)
    features = matcher.features(texture(1)[..., 0])[1]
    assert matcher.share(features, features) == 1.0
    nothing = matcher.features(np.zeros((60, 60), np.uint8))[1]
    assert matcher.share(features, nothing) is None
    assert shrink(texture(1), 400).shape == (240, 320, 3)
    assert shrink(texture(1), 160).shape == (120, 160, 3)


def test_another_opencv_is_refused_with_advice(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(UserError, match=r"no Haar cascades.*vidgan\[faces\]"):
        opencv()


@pytest.mark.parametrize(
    ("backend", "model", "message"),
    [
        ("nobody", "", "no landmarker 'nobody'; choose one of dlib, eyes, lbf"),
        ("eyes", "x.onnx", "reads no model"),
        ("landmark_plugins:Missing", "", "cannot be imported"),
        ("landmark_plugins:NoLandmarker", "", "is not a landmarker"),
    ],
)
def test_landmark_backends_are_named_or_refused(backend, model, message):
    with pytest.raises(UserError, match=message):
        make_landmarker(LandmarkConfig(backend=backend, model=model))


@pytest.mark.parametrize(("backend", "package"), [("dlib", "dlib"), ("mediapipe", "mediapipe")])
def test_absent_packages_are_named(backend, package):
    try:
        __import__(package)
    except ImportError:
        with pytest.raises(UserError, match=f"needs the package {package}: install"):
            make_landmarker(LandmarkConfig(backend=backend))
    else:
        pytest.skip(f"{package} is installed")


@pytest.mark.weights
def test_mediapipes_points_are_the_68():
    mediapipe = pytest.importorskip("mediapipe", reason="MediaPipe is installed by hand")
    if not hasattr(mediapipe, "solutions"):
        pytest.skip("this MediaPipe carries no weights")
    landmarker = make_landmarker(LandmarkConfig(backend="mediapipe"))
    (face,) = FaceFinder(FaceConfig()).faces(portrait(1))
    points = landmarker.locate(portrait(1), face).points
    assert abs(eye_centres(points) - PORTRAIT_EYES).max() < 1.5
    # In a wrong order the points would be far from a face's.
    fitted = fit_similarity(mean_shape(68), points)
    assert abs(fitted(mean_shape(68)) - points).max() < 0.3 * 43.7


def test_lbf_without_contrib_is_refused():
    if hasattr(cv2, "face"):
        with pytest.raises(UserError, match=r"needs landmarks\.model"):
            make_landmarker(LandmarkConfig(backend="lbf"))
    else:
        with pytest.raises(UserError, match="opencv-contrib-python-headless"):
            make_landmarker(LandmarkConfig(backend="lbf"))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (ShotConfig, {"threshold": 1.5}),
        (ShotConfig, {"min_frames": 2000}),
        (FaceConfig, {"scale_step": 1.0}),
        (FaceConfig, {"probe_step": 0}),
        (AlignConfig, {"size": 301}),
        (AlignConfig, {"max_outside": 2.0}),
        (PersonConfig, {"step": 0}),
    ],
)
def test_impossible_settings_are_refused(kind, settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        kind(**settings)
