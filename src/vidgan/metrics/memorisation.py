"""Memorisation: distances of generated clips to the nearest training clips, and counts of copies.

A copy need not be exact: clips are compared after a small group of changes (shifts by one pixel,
mirroring, playing backwards) and, in a second space, without their colours. Held-out clips go
through the same search, so every distance has its counterpart of real clips that cannot be copies.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.clip_ops import Values, fold_time, to_float, unfold_time
from vidgan.metrics.statistics import feature_rows

# ------------------------------------------------------------------------------------------------
# Within-class spread: do clips of one class differ as much as real ones do?
#
# A generator that makes one good clip for each class looks perfect to the Inception Score and to
# agreement, and a Frechet distance hardly moves while classes lie far apart. The mean distance
# between clips of one class shows it.


def mean_pairwise_distance(features: Values) -> float:
    """Mean Euclidean distance between different rows of `[M, F]`, float64.

    Raises:
        UserError: fewer than two rows, or values that are not finite.

    Example:
        >>> import torch
        >>> mean_pairwise_distance(torch.tensor([[0.0], [1.0], [3.0]]))
        2.0
    """
    return float(torch.pdist(feature_rows(features, "features in pairs", fewest=2)).mean())


def within_class_spread(features: Values, labels: Tensor, num_classes: int) -> list[float | None]:
    """Mean pairwise distance inside each class.

    Args:
        features: `[M, F]`.
        labels: int64 `[M]`.
        num_classes: N.

    Returns:
        N values; None for a class with fewer than two rows.
    """
    found: list[float | None] = []
    features = feature_rows(features)
    for label in range(num_classes):
        rows = features[labels == label]
        found.append(mean_pairwise_distance(rows) if rows.shape[0] > 1 else None)
    return found


def compare_spread(
    fake: tuple[Tensor, Tensor], real: tuple[Tensor, Tensor], classes: Sequence[str]
) -> dict[str, Any] | None:
    """Spread of generated clips over that of real ones, class by class.

    Args:
        fake: features `[M, F]` and labels int64 `[M]`.
        real: the same of held-out clips.
        classes: N names; empty takes all clips for one class.

    Returns:
        `generated` and `heldout` (means over classes that have pairs in both), their `ratio` (near
        1 for a healthy generator, near 0 for one clip a class), `lowest` (class and ratio) and
        `by_class`. None if no class has pairs in both.
    """
    names = list(classes) or ["all clips"]
    sets = [
        (features, labels if classes else torch.zeros_like(labels))
        for features, labels in (fake, real)
    ]
    ours, theirs = (within_class_spread(*part, len(names)) for part in sets)
    by_class = {
        name: {"generated": a, "heldout": b, "ratio": a / b}
        for name, a, b in zip(names, ours, theirs, strict=True)
        if a is not None and b is not None and b > 0
    }
    if not by_class:
        return None
    means = {
        key: sum(entry[key] for entry in by_class.values()) / len(by_class)
        for key in ("generated", "heldout")
    }
    lowest = min(by_class, key=lambda name: by_class[name]["ratio"])
    return {
        **means,
        "ratio": means["generated"] / means["heldout"],
        "lowest": {"class": lowest, "ratio": by_class[lowest]["ratio"]},
        "by_class": by_class,
    }


# ------------------------------------------------------------------------------------------------
# Memorisation: distances of generated clips to the nearest training clips, and counts of copies

BLOCK = 512
"""Rows of the distance matrix, and clips that are floats, at once."""

ROUNDING = 1e-4
"""Distance of equal clips whose descriptions were rounded differently; grey levels make more."""

QUANTILE = 0.01
"""Share of held-out clips that lie nearer to a training clip than the distance below which a
generated clip is counted."""

SIGNIFICANCE = 1e-3
"""False-positive probability for real clips."""


Change = Callable[[Tensor], Tensor]
"""From float clips `[B, C, T, H, W]` to changed ones, or to rows `[B, F]`."""


class Nearest(NamedTuple):
    """Of every row the nearest reference: its distance, float64 `[M]`, and its row, int64 `[M]`."""

    distances: Tensor
    rows: Tensor


def nearest_rows(queries: Tensor, references: Tensor) -> Nearest:
    """The nearest row of `[R, F]` for each row of `[M, F]`, by Euclidean distance in float64.

    Products choose the row and differences give its distance, so that an exact copy is at 0.
    """
    centre = references.double().mean(0)
    references = references.double() - centre
    squares = references.square().sum(1)
    found = []
    for block in torch.split(queries, BLOCK):
        rows = block.double() - centre
        nearest = (squares - 2 * rows @ references.T).min(1).indices
        found.append(Nearest((rows - references[nearest]).norm(dim=1), nearest))
    return Nearest(*(torch.cat(part) for part in zip(*found, strict=True)))


def coloured(clip: Tensor) -> Tensor:
    """Float clips `[B, C, T, H, W]` averaged to at most 4 frames of 8x8 pixels, `[B, F]`."""
    return _pooled(clip).flatten(1)


def thumbnails(clips: Tensor) -> Tensor:
    """`coloured` of uint8 clips `[M, C, T, H, W]`, a few at a time."""
    return torch.cat([coloured(to_float(chunk)) for chunk in torch.split(clips, BLOCK)])


def colourless(clip: Tensor) -> Tensor:
    """What is left of float clips `[B, C, T, H, W]` when their colours are not looked at, `[B, F]`.

    Each clip's pixels are projected to the direction of colour space in which they vary most,
    scaled to unit length and turned so that their third moment is positive: brightness, contrast,
    hue and a change of light and dark leave them the same.
    """
    pixels = _pooled(clip).flatten(2).double()  # [B, C, F]
    pixels = pixels - pixels.mean(2, keepdim=True)
    direction = torch.linalg.eigh(pixels @ pixels.mT).eigenvectors[..., -1:]
    shape = (direction.mT @ pixels)[:, 0]
    shape = shape * shape.pow(3).sum(1, keepdim=True).sign()
    return F.normalize(shape, dim=1).float()


def _pooled(clip: Tensor) -> Tensor:
    _, _, t, h, w = clip.shape
    return F.adaptive_avg_pool3d(clip, (min(4, t), min(8, h), min(8, w)))


def _shift(dy: int, dx: int) -> Change:
    def shifted(clip: Tensor) -> Tensor:
        padded = F.pad(fold_time(clip), (1, 1, 1, 1), mode="replicate")
        h, w = clip.shape[3:]
        part = padded[:, :, 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
        return unfold_time(part, clip.shape[0])

    return shifted


CHANGES: dict[str, Change] = {
    "unchanged": lambda clip: clip,
    "mirrored": lambda clip: clip.flip(4),
    "reversed": lambda clip: clip.flip(2),
    **{
        f"shifted by ({dy}, {dx})": _shift(dy, dx)
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if dy or dx
    },
}
"""Transformations that a copy may have undergone."""

SPACES: dict[str, Change] = {"thumbnails": coloured, "thumbnails without colour": colourless}
"""Descriptors in which clips are compared."""


def nearest_clips(clips: Tensor, train: Tensor, space: str) -> Nearest:
    """The nearest training clip of every clip after the best of `CHANGES`.

    Args:
        clips, train: uint8 `[M, C, T, H, W]`.
        space: key of `SPACES`.
    """
    describe = SPACES[space]
    references = torch.cat([describe(to_float(chunk)) for chunk in torch.split(train, BLOCK)])
    found = []
    for chunk in torch.split(clips, BLOCK):
        clip = to_float(chunk)
        tries = [nearest_rows(describe(change(clip)), references) for change in CHANGES.values()]
        distances, rows = (torch.stack(part) for part in zip(*tries, strict=True))
        best = distances.min(0)
        exact = best.values.where(best.values > ROUNDING, 0)
        found.append(Nearest(exact, rows.gather(0, best.indices[None])[0]))
    return Nearest(*(torch.cat(part) for part in zip(*found, strict=True)))


def compare_nearest(fake: Tensor, heldout: Tensor) -> dict[str, float | None]:
    """Are generated clips nearer to training clips than unseen real clips are?

    Args:
        fake, heldout: distances to the nearest training clip, `[M]`.

    Returns:
        Median of `generated` and of `heldout`, and their `ratio`; well below 1 it indicates copied
        training clips. None where held-out clips lie on training clips.
    """
    generated, real = float(fake.median()), float(heldout.median())
    ratio = generated / real if real > 0 else None
    return {"generated": generated, "heldout": real, "ratio": ratio}


def share_of_copies(fake: Tensor, heldout: Tensor, num_videos: int) -> dict[str, float]:
    """Generated clips that lie nearer to a training clip than the nearest held-out ones do.

    Args:
        fake, heldout: distances to the nearest training clip, `[M]`.
        num_videos: different videos behind the held-out clips.

    Returns:
        `share` of the generated clips, below the `threshold` that `QUANTILE` of the held-out
        distances set (the smallest one of less than 1 / QUANTILE videos), and the `limit` that real
        clips would exceed with a probability of `SIGNIFICANCE`.
    """
    count = max(1, int(QUANTILE * num_videos))
    threshold = float(heldout.kthvalue(count).values)
    return {
        "share": float((fake < threshold).double().mean()),
        "threshold": threshold,
        "limit": copies_limit(fake.shape[0], num_videos, count),
    }


def copies_limit(num_generated: int, num_heldout: int, count: int) -> float:
    """The share of fresh real clips below the `count`-th smallest of so many held-out distances
    that is exceeded with a probability of `SIGNIFICANCE` at most.

    Whatever the distances' law, the number X of m fresh ones below the k-th smallest of h has
    P(X = 0) = prod over i < k of (h - i) / (m + h - i) and
    P(X = x + 1) / P(X = x) = (x + k) (m - x) / ((x + 1) (m - x + h - k)) (negative hypergeometric).

    Example:
        >>> copies_limit(1, 1, 1)
        1.0
    """
    m, h, k = num_generated, num_heldout, count
    probability = 1.0
    for i in range(k):
        probability *= (h - i) / (m + h - i)
    below, x = probability, 0
    while x < m and 1 - below > SIGNIFICANCE:
        probability *= (x + k) * (m - x) / ((x + 1) * (m - x + h - k))
        x += 1
        below += probability
    return x / m


# ------------------------------------------------------------------------------------------------
# Duplicates within a set, and copies of the clips it is compared with

NEAR = 0.1
"""Share of the usual distance between held-out neighbours below which two clips are one: what noise
and lossy storage do to a clip. A set of k times as many clips has neighbours k^(-1/d) times as far
apart, d the number of ways in which clips differ, so that size alone explains no tenth."""

LEAST_DISTANCE = 0.5
"""Of the distance to the nearest training clip over that of real clips: real sets lie within a
twentieth of 1, copies with noise of 20 grey levels at 0.36 (benchmarks/limits.py)."""

REPEATED = 0.02
"""Share of clips that may occur twice beyond what real sets hold: as many move no score by more
than it scatters."""


def nearest_others(rows: Tensor) -> Tensor:
    """Distance of every row of `[M, F]` to the nearest other one, float64 `[M]`.

    Example:
        >>> import torch
        >>> nearest_others(torch.tensor([[0.0], [1.0], [3.0]])).tolist()
        [1.0, 1.0, 2.0]
    """
    rows = rows.double() - rows.double().mean(0)
    squares = rows.square().sum(1)
    found = []
    for start in range(0, rows.shape[0], BLOCK):
        block = rows[start : start + BLOCK]
        order = squares - 2 * block @ rows.T
        order.diagonal(start).fill_(float("inf"))
        found.append((block - rows[order.min(1).indices]).norm(dim=1))
    return torch.cat(found)


def compare_repeats(
    fake: Tensor, heldout: Tensor, train: Tensor, to_train: Tensor, num_videos: int
) -> dict[str, dict[str, float]]:
    """Generated clips that occur twice, and that are held-out clips, beside the same of real ones.

    A copy of a held-out clip may have been stored at another size or with loss. It lies nearer to
    that clip than training clips do to any, and half as far as from the nearest training clip:
    blurred clips lie near to both.

    Args:
        fake, heldout, train: uint8 `[M, C, T, H, W]`, two clips at least.
        to_train: distances of the generated clips to the nearest training clip, `[M]`.
        num_videos: different videos behind the training clips.

    Returns:
        By name the `share` of generated clips and the `limit`: `repeats`, `heldout_repeats` (one
        and the same clip, with the share of `real` ones: among held-out or as many training clips,
        and of training clips) and `heldout_copies` (see `share_of_copies`).
    """
    # Evenly spread over the set, whose clips lie in the order of their classes or videos.
    step = max(1, train.shape[0] // fake.shape[0])
    train = train[::step][: fake.shape[0]]
    others = [nearest_others(thumbnails(part)) for part in (fake, heldout, train)]
    threshold = max(NEAR * float(others[1].median()), ROUNDING)
    twice, *real = (_share_below(found, threshold) for found in others)
    ours, theirs = (nearest_clips(part, heldout, "thumbnails").distances for part in (fake, train))
    same, by_chance = (_share_below(found, threshold) for found in (ours, theirs))
    between = ours.where(ours < LEAST_DISTANCE * to_train, float("inf"))
    return {
        "repeats": {"share": twice, "real": max(real), "limit": max(real) + REPEATED},
        "heldout_repeats": {"share": same, "real": by_chance, "limit": by_chance + REPEATED},
        "heldout_copies": share_of_copies(between, theirs, min(num_videos, train.shape[0])),
    }


def _share_below(distances: Tensor, threshold: float) -> float:
    return float((distances <= threshold).double().mean())
