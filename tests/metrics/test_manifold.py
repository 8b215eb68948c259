"""Precision, recall, density and coverage: rows on a line, a loop over balls, the package prdc."""

import contextlib
import io

import pytest
import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.metrics import manifold
from vidgan.metrics.manifold import ManifoldRule, manifold_metrics


def rows(count: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    noise = torch.randn(count, dim, generator=keyed_rng("manifold", seed), dtype=torch.float64)
    return noise + shift


def line(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def brute_force(real: Tensor, fake: Tensor, k: int) -> dict[str, float]:
    """The definitions, ball by ball."""

    def radii(x: Tensor) -> list[float]:
        return [float((x - p).norm(dim=1).sort().values[k]) for p in x]

    real_radii, fake_radii = radii(real), radii(fake)
    holds = [
        [float((x - y).norm()) < r for y in fake] for x, r in zip(real, real_radii, strict=True)
    ]
    back = [
        [float((x - y).norm()) < r for y, r in zip(fake, fake_radii, strict=True)] for x in real
    ]
    return {
        "precision": sum(any(column) for column in zip(*holds, strict=True)) / len(fake),
        "recall": sum(any(row) for row in back) / len(real),
        "density": sum(map(sum, holds)) / (k * len(fake)),
        "coverage": sum(any(row) for row in holds) / len(real),
    }


def test_five_rows_by_hand() -> None:
    # k = 1: real balls (-1, 1), (0, 2), (2, 6) around 0, 1, 4; fake balls have radii 2, 2, 14.
    found = manifold_metrics(
        real=line(0, 1, 4), fake=line(0.5, 2.5, 16.5), rule=ManifoldRule(neighbours=1)
    )
    assert found.precision == pytest.approx(2 / 3)
    # 0.5 lies in two balls, 2.5 in one, 16.5 in none; the ball of 4 holds 2.5, so all are covered.
    assert found.density == pytest.approx(1)
    assert found.coverage == 1
    assert found.recall == 1


@pytest.mark.parametrize("k", [1, 3, 5])
def test_numbers_equal_their_definition(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = rows(30, 3, 0), rows(25, 3, 1, shift=0.8)
    monkeypatch.setattr(manifold, "BLOCK", 7)
    found = manifold_metrics(real=real, fake=fake, rule=ManifoldRule(neighbours=k))
    assert found.as_record() == pytest.approx(brute_force(real, fake, k), rel=1e-12)
    assert 0 < found.precision < 1 or 0 < found.coverage < 1


def test_swapping_the_sets_swaps_precision_and_recall() -> None:
    a, b = rows(60, 2, 0), 0.3 * rows(60, 2, 1)
    there, back = manifold_metrics(real=a, fake=b), manifold_metrics(real=b, fake=a)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    # Clips around one centre: all believable, few real ones reached.
    assert there.precision > 0.95 > 0.7 > there.recall


def test_copies_lie_on_the_surface_or_inside() -> None:
    real = line(0, 1, 3, 7)
    one = ManifoldRule(neighbours=1)
    assert manifold_metrics(real=real, fake=real, rule=one).precision == 1
    # 2 is exactly as far from 1 and 3 as the radii 1 and 2 of their balls reach or fall short of.
    assert manifold_metrics(real=line(0, 1), fake=line(2, 9), rule=one).precision == 0
    closed = ManifoldRule(neighbours=1, boundary="closed")
    assert manifold_metrics(real=line(0, 1), fake=line(2, 9), rule=closed).precision == 0.5


@pytest.mark.parametrize("k", [3, 5])
def test_prdc_oracle(k: int) -> None:
    prdc = pytest.importorskip("prdc")
    real, fake = rows(150, 8, 0), rows(120, 8, 1, shift=0.3)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = prdc.compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    found = manifold_metrics(real=real, fake=fake, rule=ManifoldRule(neighbours=k))
    # Counts over counts: only the order of two divisions may differ.
    assert found.as_record() == pytest.approx(expected, rel=3e-16)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="M >= 6"):
        manifold_metrics(real=rows(5, 2, 0), fake=rows(9, 2, 1))
    with pytest.raises(ValueError, match="different lengths"):
        manifold_metrics(real=rows(9, 2, 0), fake=rows(9, 3, 1))
    with pytest.raises(ValueError, match="open or closed"):
        ManifoldRule(boundary="half")
    with pytest.raises(ValueError, match="at least 1"):
        ManifoldRule(neighbours=0)
    with pytest.raises(TypeError):
        manifold_metrics(rows(9, 2, 0), rows(9, 2, 1))  # type: ignore[misc]
