"""Does an aligned clip show one person from beginning to end? SIFT features say so."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from vidgan.errors import UserError
from vidgan.films.opencv import Pixels, SiftMatcher, shrink, to_grey


@dataclass(frozen=True, kw_only=True)
class PersonConfig:
    """When two aligned frames show the same person.

    Attributes:
        check: Whether clips are checked at all.
        width: Pixels to which aligned frames are shrunk; matches were counted at 128.
        features: Strongest SIFT features of a frame.
        ratio: Lowe's ratio test.
        step: Frames between compared ones; a missed cut or a short dissolve lies in between.
        threshold: Least share of features that match over `step` frames. The same person had 64
            matches, another one 3, of about 200: 0.1 to 0.15 lies between the two.
        ends_threshold: Least share between the first and the last frame, where the expression may
            have changed.
        min_features: Frames with fewer features are too blurred to be compared; the clip goes.
    """

    check: bool = True
    width: int = 128
    features: int = 300
    ratio: float = 0.75
    step: int = 8
    threshold: float = 0.12
    ends_threshold: float = 0.05
    min_features: int = 12

    def __post_init__(self) -> None:
        if self.step < 1 or self.min_features < 2 or self.width < 32:
            raise UserError(
                "person.step must be at least 1, person.min_features 2 and person.width 32"
            )
        for name in ("ratio", "threshold", "ends_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"person.{name}={getattr(self, name)} must be 0 to 1")


def find_change(frames: Sequence[Pixels], config: PersonConfig) -> str | None:
    """Why the aligned frames, RGB `[S, S, 3]` each, are not of one person; None if they are."""
    if not config.check:
        return None
    matcher = SiftMatcher(config.features, config.ratio)
    numbers = sorted({*range(0, len(frames), config.step), len(frames) - 1})
    features = [matcher.features(to_grey(shrink(frames[n], config.width)))[1] for n in numbers]
    if min(map(len, features)) < config.min_features:
        return "too blurred to tell whether it is one person"
    pairs = list(itertools.pairwise(features))
    if any((matcher.share(*pair) or 0.0) < config.threshold for pair in pairs):
        return "the person changes"
    if (matcher.share(features[0], features[-1]) or 0.0) < config.ends_threshold:
        return "the last frame does not show the person of the first"
    return None
