"""Copies of training clips are found however they were changed, and real clips are not accused."""

from collections.abc import Callable
from math import comb

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.metrics.memorisation import (
    SIGNIFICANCE,
    SPACES,
    compare_nearest,
    compare_repeats,
    copies_limit,
    nearest_clips,
    nearest_others,
    nearest_rows,
    share_of_copies,
)


def textures(count: int, name: str) -> Tensor:
    """Coloured blobs that grow and wander, uint8 `[M, 3, 6, 16, 16]`."""
    rng = keyed_rng("textures", name)
    coarse = torch.rand(count, 3, 3, 4, 4, generator=rng)
    smooth = F.interpolate(coarse, size=(6, 16, 16), mode="trilinear")
    return (smooth * 255).to(torch.uint8)


def recoloured(clips: Tensor) -> Tensor:
    """Other channels, darker, with another tint."""
    tint = torch.tensor([10, 40, 70])[:, None, None, None]
    return (0.6 * clips[:, [2, 0, 1]] + tint).to(torch.uint8)


def shifted(clips: Tensor) -> Tensor:
    """One pixel down and to the left, with the edge repeated."""
    rows = torch.tensor([0, *range(15)])
    return clips[:, :, :, rows][..., torch.tensor([*range(1, 16), 15])]


CHANGED: dict[str, Callable[[Tensor], Tensor]] = {
    "exact": lambda clips: clips,
    "shifted": shifted,
    "mirrored": lambda clips: clips.flip(4),
    "reversed": lambda clips: clips.flip(2),
    "recoloured": recoloured,
    "inverted": lambda clips: 255 - clips,
    "noisy": lambda clips: (clips.int() + 2 * (clips.int() % 2)).clamp(max=255).to(torch.uint8),
    "mirrored and recoloured": lambda clips: recoloured(clips.flip(4)),
}


@pytest.fixture(scope="module")
def train() -> Tensor:
    return textures(300, "train")


@pytest.fixture(scope="module")
def distances(train: Tensor) -> dict[str, Tensor]:
    """Of 500 clips that are not copies, by space."""
    clips = textures(500, "heldout and fresh")
    return {space: nearest_clips(clips, train, space).distances for space in SPACES}


def share_accused(fake: dict[str, Tensor], heldout: dict[str, Tensor]) -> float:
    """The share of clips that are called copies, in the space that sees most; 0 for none."""
    found = [share_of_copies(fake[space], heldout[space], 200) for space in SPACES]
    return max(part["share"] if part["share"] > part["limit"] else 0 for part in found)


@pytest.mark.parametrize("name", CHANGED)
def test_a_minority_of_copies_is_found(
    name: str, train: Tensor, distances: dict[str, Tensor]
) -> None:
    copies = CHANGED[name](train[:20])
    heldout = {space: found[:200] for space, found in distances.items()}
    fake = {
        space: torch.cat([nearest_clips(copies, train, space).distances, found[200:380]])
        for space, found in distances.items()
    }
    assert share_accused(fake, heldout) == pytest.approx(0.1, abs=0.03)


def test_real_clips_are_not_accused(distances: dict[str, Tensor]) -> None:
    for seed in range(50):
        order = torch.randperm(500, generator=keyed_rng("who is held out", seed))
        heldout, fresh = ({k: v[part] for k, v in distances.items()} for part in order.split(250))
        assert share_accused(fresh, heldout) == 0


def test_medians_of_copies_and_of_fresh_clips(train: Tensor, distances: dict[str, Tensor]) -> None:
    plain, fresh = distances["thumbnails"].split(250)
    copied = nearest_clips(shifted(train[:40]), train, "thumbnails").distances
    ratio = compare_nearest(copied, plain)["ratio"]
    assert ratio is not None
    assert ratio < 0.2
    assert compare_nearest(fresh, plain)["ratio"] == pytest.approx(1, abs=0.1)
    exact = nearest_clips(train[:40], train, "thumbnails").distances
    assert float(exact.max()) == 0
    assert compare_nearest(plain, exact)["ratio"] is None


def test_nearest_rows_equal_a_loop() -> None:
    queries, references = torch.rand(5, 3) + 100, torch.rand(7, 3) + 100
    expected = [
        min(((q - r).double().norm().item(), row) for row, r in enumerate(references))
        for q in queries
    ]
    found = nearest_rows(queries, references)
    assert found.distances.tolist() == pytest.approx([d for d, _ in expected], rel=1e-5)
    assert found.rows.tolist() == [row for _, row in expected]


@pytest.mark.parametrize(("m", "h", "k"), [(1, 1, 1), (96, 48, 1), (50, 300, 3), (30, 3000, 30)])
def test_the_limit_follows_the_law_of_ranks(m: int, h: int, k: int) -> None:
    """Of m + h clips in random order, x of the m stand before the k-th of the h."""
    law = [comb(x + k - 1, x) * comb(m - x + h - k, m - x) / comb(m + h, m) for x in range(m + 1)]
    assert sum(law) == pytest.approx(1)
    limit = round(copies_limit(m, h, k) * m)
    assert sum(law[limit + 1 :]) <= SIGNIFICANCE
    assert sum(law[limit:]) > SIGNIFICANCE


# ------------------------------------------------------------------------------------------------
# Clips that occur twice, and clips that were handed in as generated and are the held-out ones


def beyond_limit(fake: Tensor, train: Tensor) -> set[str]:
    """What `compare_repeats` finds beyond its limit, with 100 held-out clips."""
    to_train = nearest_clips(fake, train, "thumbnails").distances
    found = compare_repeats(fake, textures(100, "kept apart"), train, to_train, len(train))
    return {name for name, part in found.items() if part["share"] > part["limit"]}


def noisy(clips: Tensor) -> Tensor:
    noise = torch.randint(-2, 3, clips.shape, generator=keyed_rng("noise of storage"))
    return (clips.int() + noise).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("change", [lambda clips: clips, noisy], ids=["exact", "noisy"])
def test_clips_that_occur_twice_are_counted(
    change: Callable[[Tensor], Tensor], train: Tensor
) -> None:
    assert beyond_limit(change(textures(4, "fresh").repeat_interleave(20, 0)), train) == {"repeats"}
    fresh = textures(90, "fresh")
    assert beyond_limit(torch.cat([fresh, change(fresh[:5])]), train) == {"repeats"}


def test_fresh_sets_and_copies_of_training_clips_are_none_of_them(train: Tensor) -> None:
    for count in (20, 80, 900):
        assert beyond_limit(textures(count, "fresh"), train) == set()
    assert beyond_limit(train[:200], train) == set()
    # Blurred clips lie near to everything.
    assert beyond_limit(textures(80, "fresh") // 8 + 112, train) == set()


def test_data_that_hold_clips_twice_allow_as_much(train: Tensor) -> None:
    twice = train[:150].repeat(2, 1, 1, 1, 1)
    fresh = textures(60, "fresh")
    assert beyond_limit(torch.cat([fresh, fresh[:30]]), twice) == set()


@pytest.mark.parametrize("kind", ["exact", "noisy", "mirrored", "dimmed"])
def test_held_out_clips_are_found(kind: str, train: Tensor) -> None:
    heldout = textures(100, "kept apart")
    changed = {
        "exact": heldout,
        "noisy": noisy(heldout),
        "mirrored": heldout.flip(4),
        "dimmed": (0.9 * heldout).to(torch.uint8),
    }
    found = beyond_limit(changed[kind], train)
    assert "heldout_copies" in found
    assert ("heldout_repeats" in found) == (kind != "dimmed")
    few = torch.cat([textures(95, "fresh"), heldout[:5]])
    assert beyond_limit(few, train) == {"heldout_repeats"}


def test_distances_to_others_equal_a_loop() -> None:
    rows = torch.randn(600, 5, generator=keyed_rng("rows"))
    distances = torch.cdist(rows.double(), rows.double())
    expected = distances.fill_diagonal_(float("inf")).min(1).values
    assert torch.allclose(nearest_others(rows), expected, atol=1e-6)
