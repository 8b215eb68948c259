"""Aligning faces: similarity against an oracle, mean shapes, smoothing, outliers, warping."""

import itertools

import numpy as np
import pytest

pytest.importorskip("cv2", reason="needs the extra faces")

from vidgan.films.faces.align import (
    AlignConfig,
    Similarity,
    eye_centres,
    fit_similarity,
    is_steady,
    mean_shape,
    shape_in_clip,
    share_outside,
    smooth_points,
    warp,
)

RNG = np.random.default_rng(5)


def umeyama(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Umeyama 1991 by the singular value decomposition, as in the paper: 2 x 3."""
    mean_x, mean_y = points.mean(0), target.mean(0)
    x, y = points - mean_x, target - mean_y
    u, d, vt = np.linalg.svd(y.T @ x / len(x))
    s = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ s @ vt
    scale = np.trace(np.diag(d) @ s) / (x**2).sum(1).mean()
    return np.hstack([scale * rotation, (mean_y - scale * rotation @ mean_x)[:, None]])


@pytest.mark.parametrize("num_points", [2, 5, 68])
def test_similarity_is_umeyamas(num_points):
    points = RNG.normal(size=(num_points, 2)) * 40 + 100
    # Anything, even a mirrored shape: the fit must not mirror.
    for target in (RNG.normal(size=(num_points, 2)), points * (-1, 1)):
        found = fit_similarity(points, target)
        np.testing.assert_allclose(found.matrix, umeyama(points, target), atol=1e-9)
    exact = Similarity(complex(0.3, -0.2), complex(4, 5))
    np.testing.assert_allclose(fit_similarity(points, exact(points)).matrix, exact.matrix)
    np.testing.assert_allclose(exact(points), points @ exact.matrix[:, :2].T + exact.matrix[:, 2])


def test_similarity_is_the_least_squares_one():
    points, target = RNG.normal(size=(2, 68, 2))
    best = fit_similarity(points, target)
    cost = ((best(points) - target) ** 2).sum()
    for df, ds in itertools.product((0, 1e-3, -1e-3, 1e-3j, -1e-3j), repeat=2):
        other = Similarity(best.factor + df, best.shift + ds)
        assert ((other(points) - target) ** 2).sum() >= cost


@pytest.mark.parametrize("num_points", [2, 68])
def test_mean_shapes_have_their_eyes_where_clips_want_them(num_points):
    shape = mean_shape(num_points)
    assert shape.shape == (num_points, 2)
    np.testing.assert_allclose(eye_centres(shape), [[-0.5, 0], [0.5, 0]], atol=1e-9)
    config = AlignConfig(size=200, eye_distance=0.4, eye_height=0.3)
    eyes = eye_centres(shape_in_clip(num_points, config))
    np.testing.assert_allclose(eyes, [[59.5, 59.5], [139.5, 59.5]], atol=1e-9)


def test_mean_shape_of_68_points_is_a_face():
    shape = mean_shape(68)
    mirror = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    mirror += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mirror += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55]
    mirror += [64, 63, 62, 61, 60, 67, 66, 65]
    # The iBUG order swaps the sides so; a wrong order inside a part would show.
    np.testing.assert_allclose(shape[mirror], shape * (-1, 1), atol=1e-9)
    jaw, brows, nose, eyes, mouth = np.split(shape, [17, 27, 36, 48])
    assert brows[:, 1].max() < eyes[:, 1].min() < nose[:, 1].max() < mouth[:, 1].min()
    assert mouth[:, 1].max() < jaw[:, 1].max()
    assert shape[51, 1] < shape[62, 1] < shape[66, 1] < shape[57, 1]
    with pytest.raises(ValueError, match="not of 5"):
        mean_shape(5)


def test_smoothing_keeps_straight_motion_and_stills_trembling():
    t = np.arange(40.0)
    line = np.stack([3 * t + 5, 100 - 2 * t], axis=1)[:, None] + np.zeros((1, 2, 1))
    weights = np.ones(40)
    for width in (0.0, 1.5, 4.0):
        np.testing.assert_allclose(smooth_points(line, weights, width), line, atol=1e-9)
    noise = RNG.normal(size=line.shape)
    smooth = smooth_points(line + noise, weights, 1.5)
    # A Gaussian of this width averages about 5 frames: the noise falls by more than half.
    assert (smooth - line)[5:-5].std() < 0.5 * noise.std()
    np.testing.assert_array_equal(smooth_points(line + noise, weights, 0.0), line + noise)


@pytest.mark.parametrize("width", [0.0, 1.5])
def test_missing_frames_are_filled_from_both_sides(width):
    t = np.arange(20.0)
    line = np.stack([3 * t, 50 + t], axis=1)[:, None]
    weights = np.ones(20)
    weights[[0, 7, 8, 9, 19]] = 0
    damaged = np.where(weights[:, None, None] > 0, line, np.nan)
    np.testing.assert_allclose(smooth_points(damaged, weights, width), line, atol=1e-6)


def test_outliers_are_found_on_a_moving_face():
    t = np.arange(30.0)
    eyes = np.stack([4 * t, 0 * t], axis=1)[:, None] + np.array([[0, 50.0], [60, 50.0]])
    eyes += RNG.normal(size=eyes.shape) * 0.3
    found = np.ones(30, bool)
    found[12] = False
    eyes[12] = np.nan
    eyes[20, 0] += (0, 15)
    good = is_steady(eyes, found, AlignConfig())
    assert np.flatnonzero(good == 0).tolist() == [12, 20]
    assert not is_steady(eyes, np.zeros(30, bool), AlignConfig()).any()


def test_warp_puts_points_where_the_map_says():
    for scale in (0.3, 0.6, 1.0, 2.5):
        image = np.zeros((200, 200, 3), np.float64)
        y, x = np.mgrid[:200, :200]
        image += np.exp(-((x - 120.3) ** 2 + (y - 80.6) ** 2) / (2 * 9.0**2))[..., None]
        pixels = (255 * image).round().astype(np.uint8)
        factor = scale * np.exp(0.2j)
        turn = Similarity(factor, 151.4 + 160.7j - factor * (120.3 + 80.6j))
        wanted = turn(np.array([120.3, 80.6]))
        # What lies outside of the film is reflected into the rest of the clip: look nearby.
        reach = int(22 * scale) + 2
        left, top = wanted.round().astype(int) - reach
        near = warp(pixels, turn, 320)[top : top + 2 * reach + 1, left : left + 2 * reach + 1, 0]
        weights = near.astype(np.float64)
        yy, xx = np.mgrid[: 2 * reach + 1, : 2 * reach + 1]
        centre = np.array([(weights * xx).sum(), (weights * yy).sum()]) / weights.sum()
        np.testing.assert_allclose(np.add(centre, (left, top)), wanted, atol=0.15)


def test_share_outside_counts_what_the_film_does_not_show():
    assert share_outside(Similarity(1, 0), (100, 100), 100) == 0
    assert share_outside(Similarity(1, 50), (100, 100), 100) == pytest.approx(0.5)
    assert share_outside(Similarity(0.5, 0), (100, 100), 100) == pytest.approx(0.75)
