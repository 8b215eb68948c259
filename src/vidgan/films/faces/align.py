"""Bringing a face to the same place in every frame: least-squares similarity, smoothed in time."""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from vidgan.errors import UserError
from vidgan.films.item_work import Floats, Pixels, opencv

# ------------------------------------------------------------------------------------------------
# Finding the two eyes of a face without any weights: Haar eye cascades, then the pupil.
#
# The cascade places a box around an eye with an error of several pixels that changes from frame to
# frame. The pupil inside of it is where the gradients of the image point away from (Timm and
# Barth 2011, Accurate eye centre localisation by means of gradients), which is far steadier.

_SEARCH_SIDE = 128
"""Faces are brought to this width for the cascades, whose smallest eye has 20 pixels."""
_FACE_SIDE = 200
"""Faces are brought to this width for the pupils, so that the constants below fit every face."""
_EYE_SIZES = (0.13, 0.36)
_EYE_ROWS = (0.15, 0.62)
"""Part of the face box, from its top, in which eyes lie."""
_EYE_DISTANCES = (0.28, 0.62)
_MAX_TILT = 0.5
"""Greatest slope of the line between the eyes; the face cascade finds no face beyond 25 degrees."""
_PATCH = 36
_REACH = 10
"""The pupil is sought this many pixels around the cascade's centre, in a patch of `_PATCH`."""


class EyeFinder:
    """Two eyes inside a face box."""

    def __init__(self) -> None:
        cv2 = opencv()
        names = ("haarcascade_eye.xml", "haarcascade_eye_tree_eyeglasses.xml")
        self._cascades = [cv2.CascadeClassifier(cv2.data.haarcascades + name) for name in names]

    def find(self, grey: Pixels, box: tuple[float, float, float, float]) -> Floats | None:
        """Centres `[2, 2]` (x, y in pixels, the left one in the image first), or None.

        Args:
            grey: the image `[H, W]`.
            box: left, top, width and height of a face.
        """
        x0, y0 = max(0, round(box[0])), max(0, round(box[1]))
        crop = grey[y0 : round(box[1] + box[3]), x0 : round(box[0] + box[2])]
        if min(crop.shape) < 16:
            return None
        pair = self._best_pair(_scaled(crop, _SEARCH_SIDE))
        if pair is None:
            return None
        face = _scaled(crop, _FACE_SIDE)
        ratio = _FACE_SIDE / _SEARCH_SIDE
        centres = np.array([pupil(face, (eye + 0.5) * ratio - 0.5) for eye in pair])
        # Pixel centres are at whole numbers, so scaling keeps the point (-0.5, -0.5).
        found: Floats = (centres + 0.5) * (crop.shape[1] / _FACE_SIDE) - 0.5 + (x0, y0)
        return found

    def _best_pair(self, face: Pixels) -> Floats | None:
        sizes = [round(share * _SEARCH_SIDE) for share in _EYE_SIZES]
        top, bottom = (round(share * face.shape[0]) for share in _EYE_ROWS)
        for cascade in self._cascades:
            boxes, _, weights = cascade.detectMultiScale3(
                face[top:bottom],
                scaleFactor=1.1,
                minNeighbors=3,
                minSize=(sizes[0], sizes[0]),
                maxSize=(sizes[1], sizes[1]),
                outputRejectLevels=True,
            )
            eyes = [
                (np.array([x + (w - 1) / 2, y + top + (h - 1) / 2]), float(weight))
                for (x, y, w, h), weight in zip(boxes, np.ravel(weights), strict=True)
            ]
            pairs = [
                (first[1] + second[1], first[0], second[0])
                for first, second in itertools.permutations(eyes, 2)
                if _is_pair(first[0], second[0])
            ]
            if pairs:
                _, left, right = max(pairs, key=lambda pair: pair[0])
                return np.array([left, right])
        return None


def _scaled(image: Pixels, width: int) -> Pixels:
    cv2 = opencv()
    scale = width / image.shape[1]
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled: Pixels = cv2.resize(image, None, fx=scale, fy=scale, interpolation=kind)
    return scaled


def _is_pair(left: Floats, right: Floats) -> bool:
    dx, dy = (right - left) / _SEARCH_SIDE
    middle = (left[0] + right[0]) / 2 / _SEARCH_SIDE
    near, far = _EYE_DISTANCES
    return bool(near < dx < far and abs(dy) < _MAX_TILT * dx and 0.3 < middle < 0.7)


def pupil(face: Pixels, centre: Floats) -> Floats:
    """Centre of the pupil near `centre`, to a part of a pixel; `centre` where there is no contrast.

    Every place near the centre gets the mean squared cosine between the gradients around it and
    the directions in which they lie (Timm and Barth 2011, eq. 2). Their weight by darkness is left
    out: lashes are dark too, and it pulls the centre up to them.

    Args:
        face: grey image `[H, W]` of a face that is 200 pixels wide.
        centre: (x, y) of an eye.
    """
    cv2 = opencv()
    half = _PATCH / 2
    patch = cv2.getRectSubPix(face, (_PATCH, _PATCH), (float(centre[0]), float(centre[1])))
    smooth = cv2.GaussianBlur(patch, (0, 0), 1.5).astype(np.float64)
    dy, dx = np.gradient(smooth)
    length = np.hypot(dx, dy)
    strong = length > length.mean() + 0.3 * length.std()
    if not strong.any() or length.max() < 1.0:
        return centre
    ys, xs = np.nonzero(strong)
    gx, gy = ((d[strong] / length[strong]).astype(np.float32) for d in (dx, dy))
    steps = np.arange(-_REACH, _REACH + 1, dtype=np.float32) + np.float32(half - 0.5)
    cy, cx = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
    ox = xs[None].astype(np.float32) - cx[:, None]
    oy = ys[None].astype(np.float32) - cy[:, None]
    along = np.maximum(0, ox * gx + oy * gy)
    score = (along * along / np.maximum(ox * ox + oy * oy, 1e-9)).mean(axis=1)
    # The centre of mass of the peak is steadier than its highest pixel.
    peak = np.maximum(0.0, score - 0.8 * score.max())
    return np.array(
        [
            centre[0] + (peak @ cx) / peak.sum() - (half - 0.5),
            centre[1] + (peak @ cy) / peak.sum() - (half - 0.5),
        ]
    )


# ------------------------------------------------------------------------------------------------
# Bringing a face to the same place in every frame: least-squares similarity, smoothed in time


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """How aligned frames look.

    Attributes:
        size: side of the clips in pixels; 300 in the thesis, 256 in its released data.
        eye_distance: distance between the eyes as a share of the side; at 0.36 the face fills the
            frame from the forehead to the chin, as in the released data.
        eye_height: height of the eyes from the top as a share of the side.
        smoothing_frames: width (standard deviation) of the weighting with which landmarks are
            averaged along a straight line in time, so that the face does not tremble; 0 does not.
        outlier: a frame whose landmarks are off their median over `outlier_window` frames by more
            than this share of the distance between the eyes counts as not found.
        outlier_window: frames of that median; it takes more than half of them to deceive it.
        max_outside: greatest share of a clip's frame that may lie outside of the film's image
            (it is filled by reflection); beyond, the frame counts as not found.
    """

    size: int = 300
    eye_distance: float = 0.36
    eye_height: float = 0.4
    smoothing_frames: float = 1.5
    outlier: float = 0.12
    outlier_window: int = 9
    max_outside: float = 0.15

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 2048 or self.size % 2:
            raise UserError(f"align.size={self.size} must be even and 16 to 2048")
        if not 0.05 <= self.eye_distance <= 0.9 or not 0.05 <= self.eye_height <= 0.95:
            raise UserError("align.eye_distance and align.eye_height must be shares of the side")
        if self.smoothing_frames < 0 or self.outlier <= 0 or self.outlier_window < 1:
            raise UserError(
                "align.smoothing_frames must be 0 or more, align.outlier and align.outlier_window"
                " above 0"
            )
        if not 0 <= self.max_outside <= 1:
            raise UserError(f"align.max_outside={self.max_outside} must be 0 to 1")


@dataclass(frozen=True)
class Similarity:
    """The map z -> factor z + shift of points x + iy: it turns, scales and moves."""

    factor: complex
    shift: complex

    @property
    def scale(self) -> float:
        """Length after over length before."""
        return abs(self.factor)

    def __call__(self, points: Floats) -> Floats:
        """Map points `[..., 2]`."""
        mapped = self.factor * (points[..., 0] + 1j * points[..., 1]) + self.shift
        return np.stack([mapped.real, mapped.imag], axis=-1)

    @property
    def matrix(self) -> Floats:
        """The 2 x 3 matrix that OpenCV takes."""
        a, b = self.factor.real, self.factor.imag
        return np.array([[a, -b, self.shift.real], [b, a, self.shift.imag]])


def fit_similarity(points: Floats, target: Floats) -> Similarity:
    """The similarity without mirroring that maps points `[P, 2]` nearest to `target` `[P, 2]`.

    Umeyama's least-squares solution (1991, eq. 40 to 42), which in the plane is one complex
    regression coefficient.
    """
    z, w = (p[:, 0] + 1j * p[:, 1] for p in (points, target))
    middle = z.mean()
    centred = z - middle
    factor = complex((centred.conj() @ (w - w.mean())) / (abs(centred) ** 2).sum())
    return Similarity(factor, complex(w.mean() - factor * middle))


@cache
def mean_shape(num_points: int) -> Floats:
    """Landmarks `[P, 2]` of a generic face whose eyes are at (-0.5, 0) and (0.5, 0), y down.

    For 2 points the eyes; for 68 the iBUG order (jaw, brows, nose, eyes, mouth), drawn from the
    usual proportions of a face: mouth one eye distance below the eyes, chin another 0.7.

    Raises:
        ValueError: another number of points.
    """
    if num_points == 2:
        return np.array([[-0.5, 0.0], [0.5, 0.0]])
    if num_points != 68:
        raise ValueError(f"there is a mean shape of 2 and of 68 landmarks, not of {num_points}")

    def arc(centre: tuple[float, float], radii: tuple[float, float], degrees: Floats) -> Floats:
        angle = np.deg2rad(degrees)
        return np.stack(
            [centre[0] + radii[0] * np.cos(angle), centre[1] - radii[1] * np.sin(angle)], axis=1
        )

    eye = np.array([180.0, 120, 60, 0, 300, 240])
    brow = np.linspace(160, 20, 5)
    parts = [
        arc((0, 0.05), (1.1, 1.65), np.linspace(180, 360, 17)),
        arc((-0.53, -0.27), (0.36, 0.14), brow),
        arc((0.53, -0.27), (0.36, 0.14), brow),
        np.stack([np.zeros(4), np.linspace(0.0, 0.55, 4)], axis=1),
        arc((0, 0.65), (0.25, 0.1), np.linspace(180, 360, 5)),
        arc((-0.5, 0), (0.2, 0.08), eye),
        arc((0.5, 0), (0.2, 0.08), eye),
        arc((0, 1.05), (0.42, 0.2), np.linspace(180, -150, 12)),
        arc((0, 1.05), (0.33, 0.06), np.linspace(180, -135, 8)),
    ]
    return np.concatenate(parts)


def eye_centres(points: Floats) -> Floats:
    """Centres `[..., 2, 2]` of the eyes of landmarks `[..., P, 2]`, P 2 or 68."""
    if points.shape[-2] == 2:
        return points
    return np.stack([points[..., 36:42, :].mean(-2), points[..., 42:48, :].mean(-2)], axis=-2)


def shape_in_clip(num_points: int, config: AlignConfig) -> Floats:
    """Where the landmarks `[P, 2]` of every aligned frame belong, in pixels."""
    shape = mean_shape(num_points) * config.eye_distance + (0.5, config.eye_height)
    return shape * config.size - 0.5


def is_steady(points: Floats, found: npt.NDArray[np.bool_], config: AlignConfig) -> Floats:
    """Which frames `[T]` have landmarks that agree with their neighbours' (1) and which not (0).

    Args:
        points: landmarks `[T, P, 2]`; values of frames that were not found do not matter.
        found: whether the landmarks of a frame were found, `[T]`.
        config: outlier distance and window.
    """
    good = found.astype(np.float64)
    if not found.any():
        return good
    half = config.outlier_window // 2
    eyes = eye_centres(points[found])
    unit = float(np.median(np.hypot(*(eyes[:, 1] - eyes[:, 0]).T)))
    for t in (int(n) for n in np.flatnonzero(found)):
        near = [n for n in range(max(0, t - half), min(len(points), t + half + 1)) if found[n]]
        # A straight line through the window first: a face that moves is not an outlier.
        median = np.median(points[near] - _drift(points, near, t), axis=0)
        if np.hypot(*(points[t] - median).T).max() > config.outlier * unit:
            good[t] = 0.0
    return good


def _drift(points: Floats, near: list[int], t: int) -> Floats:
    """Displacement `[N, 1, 2]` of frames `near` from frame t by the median speed of the face."""
    if len(near) < 3:
        return np.zeros((len(near), 1, 2))
    frames = np.array(near)
    middle = points[near].mean(axis=1)
    speed = np.median(np.diff(middle, axis=0) / np.diff(frames)[:, None], axis=0)
    drift: Floats = ((frames - t)[:, None] * speed)[:, None]
    return drift


def smooth_points(points: Floats, weights: Floats, width: float) -> Floats:
    """Smooth landmarks `[T, P, 2]` in time, filling frames of weight 0 from their neighbours.

    In every frame a straight line in time is fitted, weighted by a Gaussian of standard deviation
    `width` frames: unlike an average it does not lag behind a face that moves or at the ends.
    Width 0 keeps the frames of weight above 0 as they are and only fills the others.

    Args:
        points: landmarks by frame.
        weights: trust in every frame, `[T]`, 0 for none.
        width: frames.
    """
    times = np.arange(len(points), dtype=np.float64)
    known = weights > 0
    smooth = np.empty_like(points)
    for t in range(len(points)):
        if known[t] and width == 0:
            smooth[t] = points[t]
            continue
        # A frame without neighbours of its own borrows from as far away as it must.
        nearest = np.sort(abs(times[known] - t))[: 2 if known.sum() > 1 else 1].max()
        spread = max(width, nearest / 2, 0.5)
        w = weights * np.exp(-0.5 * ((times - t) / spread) ** 2)
        w /= w.sum()
        mean_time = w @ times
        variance = w @ (times - mean_time) ** 2
        mean = np.tensordot(w, np.where(known[:, None, None], points, 0.0), 1)
        if variance < 1e-12:
            smooth[t] = mean
            continue
        centred = np.where(known[:, None, None], points - mean, 0.0)
        slope = np.tensordot(w * (times - mean_time), centred, 1) / variance
        smooth[t] = mean + slope * (t - mean_time)
    return smooth


def share_outside(similarity: Similarity, frame_size: tuple[int, int], size: int) -> float:
    """Share of an aligned frame that lies outside of the film's image.

    Args:
        similarity: from the film's pixels to those of the clip.
        frame_size: height and width of the film.
        size: side of the clip.
    """
    steps = (np.arange(24) + 0.5) * size / 24 - 0.5
    grid = np.stack(np.meshgrid(steps, steps), axis=-1)
    back = Similarity(1 / similarity.factor, -similarity.shift / similarity.factor)
    x, y = np.moveaxis(back(grid), -1, 0)
    height, width = frame_size
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    return 1.0 - float(inside.mean())


def warp(pixels: Pixels, similarity: Similarity, size: int) -> Pixels:
    """The frame RGB `[H, W, 3]` as an aligned one `[size, size, 3]`, averaged where it shrinks."""
    cv2 = opencv()
    scale = similarity.scale
    if scale < 0.7:
        # Interpolation alone would skip pixels; average first, as far as the map shrinks.
        height, width = pixels.shape[:2]
        shape = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)
        ratios = np.array([shape[0] / width, shape[1] / height])
        matrix = similarity.matrix.copy()
        # Pixel centres are at whole numbers, so scaling keeps the point (-0.5, -0.5).
        matrix[:, 2] += matrix[:, :2] @ (0.5 / ratios - 0.5)
        matrix[:, :2] /= ratios
    else:
        matrix = similarity.matrix
    aligned: Pixels = cv2.warpAffine(
        pixels, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return aligned
