"""OpenCV (extra `faces`): imported where it is needed, one thread, version checked."""

from typing import Any

import numpy as np
import numpy.typing as npt

from vidgan.errors import UserError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

_ADVICE = "install it with: pip install 'vidgan[faces]'"


def opencv() -> Any:
    """The module `cv2`, set to one thread so that results do not depend on the machine.

    Raises:
        UserError: it is not installed, or a version without SIFT or Haar cascades.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(f"faces and stabilisation need OpenCV: {_ADVICE}") from error
    if not hasattr(cv2, "CascadeClassifier") or not hasattr(cv2, "SIFT_create"):
        raise UserError(
            f"OpenCV {cv2.__version__} has no Haar cascades (5.0 dropped them), which faces need:"
            f" remove it and {_ADVICE}"
        )
    cv2.setNumThreads(1)
    return cv2


def to_grey(pixels: Pixels) -> Pixels:
    """RGB `[H, W, 3]` to grey `[H, W]`."""
    cv2 = opencv()
    grey: Pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return grey


def shrink(pixels: Pixels, width: int) -> Pixels:
    """Scale a picture down to `width` pixels by averaging; smaller ones stay as they are."""
    cv2 = opencv()
    if pixels.shape[1] <= width:
        return pixels
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    small: Pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return small


class SiftMatcher:
    """SIFT features of grey pictures and the matches between two of them (Lowe 2004).

    Nearest neighbours are searched exactly, not by randomised trees, so that the same pictures
    always give the same matches.

    Args:
        num_features: The strongest features of a picture that are kept.
        ratio: A match counts if its distance is below this share of the second best one's.
    """

    def __init__(self, num_features: int, ratio: float) -> None:
        cv2 = opencv()
        self._sift = cv2.SIFT_create(num_features)
        self._nearest = cv2.BFMatcher(cv2.NORM_L2)
        self._ratio = ratio

    def features(self, grey: Pixels) -> tuple[Floats, npt.NDArray[np.float32]]:
        """Places `[N, 2]` (x, y) and descriptors `[N, 128]` of the features of a picture."""
        keypoints, descriptors = self._sift.detectAndCompute(grey, None)
        if descriptors is None:
            return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
        return np.array([keypoint.pt for keypoint in keypoints]), descriptors

    def matches(
        self, first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        """Pairs `[M, 2]` of row numbers that pass the ratio test."""
        if len(first) < 2 or len(second) < 2:
            return np.zeros((0, 2), np.int64)
        pairs = [
            (best.queryIdx, best.trainIdx)
            for best, next_best in self._nearest.knnMatch(first, second, k=2)
            if best.distance < self._ratio * next_best.distance
        ]
        return np.array(pairs, np.int64).reshape(-1, 2)

    def share(
        self, first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
    ) -> float | None:
        """Matches over the number of features of the poorer picture; None if it has under two."""
        fewest = min(len(first), len(second))
        return len(self.matches(first, second)) / fewest if fewest > 1 else None
