"""Finding the two eyes of a face without any weights: Haar eye cascades, then the pupil.

The cascade places a box around an eye with an error of several pixels that changes from frame to
frame. The pupil inside of it is where the gradients of the picture point away from (Timm and Barth
2011, Accurate eye centre localisation by means of gradients), which is far steadier.
"""

import itertools

import numpy as np

from vidgan.films.opencv import Floats, Pixels, opencv

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
        """Centres `[2, 2]` (x, y in pixels, the left one in the picture first), or None.

        Args:
            grey: The picture `[H, W]`.
            box: Left, top, width and height of a face.
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


def _scaled(picture: Pixels, width: int) -> Pixels:
    cv2 = opencv()
    scale = width / picture.shape[1]
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled: Pixels = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=kind)
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
        face: Grey picture `[H, W]` of a face that is 200 pixels wide.
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
