"""Penalties on discriminators simple enough to work the answer out by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidgan.core.randomness import BatchRandom
from vidgan.losses.penalties import (
    Drift,
    FakeDifference,
    FakeGradient,
    GradientPenalty,
    InputGradient,
    Penalty,
    PenaltyInputs,
    RealDifference,
    RealGradient,
    Slope,
    input_gradient,
    mix,
)
from vidgan.models.base import Scores
from vidgan.models.parts.sliced_head import SlicedWassersteinHead

SHAPE = (1, 1, 1, 2)


class Linear(nn.Module):
    """D(x) = (w . x) / K for each of K equal scores scaled 1..K, so that the mean is w . x m."""

    def __init__(self, weight: Tensor, num_scores: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.scales = torch.arange(1.0, num_scores + 1).to(weight.dtype)

    def forward(
        self, clip: Tensor, labels: object = None, context: object = None, view: object = None
    ) -> Scores:
        return Scores((clip.flatten(1) @ self.weight)[:, None] * self.scales)


class Quadratic(nn.Module):
    """D(x) = a |x|^2 / 2, whose gradient is a x."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a).double())

    def forward(
        self, clip: Tensor, labels: object = None, context: object = None, view: object = None
    ) -> Scores:
        return Scores(self.a * clip.flatten(1).square().sum(dim=1, keepdim=True) / 2)


def clips(*rows: tuple[float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, *SHAPE)


def inputs(
    discriminator: nn.Module, real: Tensor, fake: Tensor, labels: Tensor | None = None
) -> PenaltyInputs:
    count = len(real)
    return PenaltyInputs(
        discriminator=discriminator,
        real=real,
        fake=fake,
        scores_real=discriminator(real, labels),
        scores_fake=discriminator(fake, labels),
        labels=labels,
        context=None,
        view=None,
        rng=BatchRandom((0, "penalty"), count, 0, count, torch.device("cpu")),
    )


def fake_shares(count: int) -> Tensor:
    """The interpolation weights that `inputs` will draw."""
    rng = BatchRandom((0, "penalty"), count, 0, count, torch.device("cpu"))
    return rng.uniform().double()


REAL, FAKE = clips((1.0, 2.0), (0.0, -1.0)), clips((3.0, 0.0), (4.0, 1.0))
W = torch.tensor([3.0, 4.0]).double()  # length 5


def value_at(penalty: Penalty, at: PenaltyInputs) -> float:
    return float(penalty(at).detach())


def value(penalty: Penalty, discriminator: nn.Module, **others: Any) -> float:
    return float(penalty(inputs(discriminator, REAL, FAKE, **others)).detach())


def test_gradient_penalty_of_a_linear_discriminator() -> None:
    # The gradient is w everywhere: (5 - 1)^2, and ((5 - 2) / 2)^2 for target 2.
    assert value(GradientPenalty(), Linear(W)) == pytest.approx(16, rel=1e-12)
    assert value(GradientPenalty(target=2.0), Linear(W)) == pytest.approx(2.25, rel=1e-12)
    # Scores 1, 2, 3 times w . x: their mean is 2 w . x, with a gradient of length 10.
    assert value(GradientPenalty(), Linear(W, num_scores=3)) == pytest.approx(81, rel=1e-12)


def test_gradient_penalty_looks_between_real_and_fake() -> None:
    a = fake_shares(2)
    points = [REAL[i].flatten() * (1 - a[i]) + FAKE[i].flatten() * a[i] for i in range(2)]
    expected = sum((2 * float(p.norm()) - 1) ** 2 for p in points) / 2
    assert value(GradientPenalty(), Quadratic(2.0)) == pytest.approx(expected, rel=1e-12)


def test_input_gradient_weights_by_the_share_of_the_real_clip() -> None:
    # |w|^2 = 25 at every point, times (1 - a)^2 unless told not to.
    expected = 25 * float((1 - fake_shares(2)).square().mean())
    assert value(InputGradient(), Linear(W)) == pytest.approx(expected, rel=1e-12)
    assert value(InputGradient(weighting="none"), Linear(W)) == pytest.approx(25, rel=1e-12)


def test_input_gradient_equals_the_gradient_through_the_interpolation() -> None:
    # The authors' code differentiates with respect to the real clip inside the mix.
    discriminator = Quadratic(1.5)
    real = REAL.clone().requires_grad_()
    mixed = torch.lerp(real, FAKE, fake_shares(2).reshape(-1, 1, 1, 1, 1))
    (gradient,) = torch.autograd.grad(discriminator(mixed).realness.sum(), real)
    expected = float(gradient.flatten(1).square().sum(dim=1).mean())
    assert value(InputGradient(), discriminator) == pytest.approx(expected, rel=1e-12)


def test_r1_is_half_the_squared_gradient_at_reals() -> None:
    assert value(RealGradient(), Linear(W)) == pytest.approx(12.5, rel=1e-12)
    # a x at the reals: 4 (1 + 4) and 4 (0 + 1), halved and averaged.
    assert value(RealGradient(), Quadratic(2.0)) == pytest.approx(6, rel=1e-12)


def test_r2_is_half_the_squared_gradient_at_fakes() -> None:
    assert value(FakeGradient(), Linear(W)) == pytest.approx(12.5, rel=1e-12)
    square = float(FAKE.flatten(1).square().sum(dim=1).mean())
    assert value(FakeGradient(), Quadratic(2.0)) == pytest.approx(4 * square / 2, rel=1e-12)
    assert square != float(REAL.flatten(1).square().sum(dim=1).mean())


def test_a_difference_in_noise_by_hand() -> None:
    # D(x + s n) - D(x) = s (w . n) for a linear D, whatever s.
    weight = torch.tensor([3.0, -4.0]).double()
    real, fake = clips((1.0, 2.0), (0.0, 1.0)), clips((5.0, 5.0), (7.0, 1.0))
    rng = BatchRandom((0, "penalty"), 2, 0, 2, torch.device("cpu"))
    slopes = rng.normal(*SHAPE).double().flatten(1) @ weight
    expected = float((slopes**2).mean() / 2)
    at = inputs(Linear(weight), real, fake)
    assert value_at(RealDifference(size=0.3), at) == pytest.approx(expected)
    at = inputs(Linear(weight), real, fake)
    assert value_at(FakeDifference(size=0.01), at) == pytest.approx(expected)


def test_a_difference_in_noise_is_r1_of_real_and_r2_of_fake_on_average() -> None:
    count = 20_000
    real, fake = clips((1.0, 2.0)).repeat(count, 1, 1, 1, 1), clips((2.0, -1.0))
    fake = 2 * fake.repeat(count, 1, 1, 1, 1)
    at = inputs(Quadratic(0.7), real, fake)
    pairs = ((RealDifference, RealGradient), (FakeDifference, FakeGradient))
    for difference, gradient in pairs:
        estimate = value_at(difference(size=1e-3), at)
        # n . g is normal, so half of its square deviates by |g|^2 / sqrt(2 B).
        exact = value_at(gradient(), at)
        assert abs(estimate - exact) < 4 * exact * (2 / count) ** 0.5


def test_drift_is_the_mean_square_of_real_scores() -> None:
    # w . real = 11 and -4.
    assert value(Drift(), Linear(W)) == pytest.approx((121 + 16) / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        # a |x| = 2 sqrt(5) and 2 at the reals; d/da (a^2 |x|^2 / 2) = a |x|^2.
        (RealGradient(), 2.0 * (5 + 1) / 2),
        (Drift(), None),
    ],
)
def test_penalties_train_the_discriminator(penalty: Penalty, expected: float | None) -> None:
    discriminator = Quadratic(2.0)
    penalty(inputs(discriminator, REAL, FAKE)).backward()
    gradient = discriminator.a.grad
    assert gradient is not None
    # Drift: D = a |x|^2 / 2, so the mean of D^2 has the derivative a |x|^4 / 2 averaged.
    wanted = 2.0 * (25 + 1) / 2 / 2 if expected is None else expected
    assert float(gradient) == pytest.approx(wanted, rel=1e-12)


def test_penalty_gradient_matches_finite_differences() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 5), nn.Softplus(), nn.Linear(5, 1)).double()

    class Smooth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, clip: Tensor, *_: object) -> Scores:
            return Scores(self.network(clip))

    discriminator = Smooth()
    for penalty in (GradientPenalty(), InputGradient(), RealGradient(), FakeGradient()):
        weight: Any = network[1].weight
        (exact,) = torch.autograd.grad(penalty(inputs(discriminator, REAL, FAKE)), weight)
        step = 1e-6
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[0, 0] += sign * step
            values.append(float(penalty(inputs(discriminator, REAL, FAKE)).detach()))
            with torch.no_grad():
                weight[0, 0] -= sign * step
        assert float(exact[0, 0]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


# ------------------------------------------------------------------------------------------------
# Slope of the sliced Wasserstein head


class Sliced(nn.Module):
    """The clip's voxels are the encoding."""

    def __init__(self, head: SlicedWassersteinHead) -> None:
        super().__init__()
        self.head = head

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: object = None,
        view: object = None,
    ) -> Scores:
        encoding = clip.flatten(1)
        return Scores(self.head(encoding, labels), encoding=encoding)


def plain_head(slopes: tuple[float, float], offsets: tuple[float, float]) -> Sliced:
    head = SlicedWassersteinHead(2).double()
    with torch.no_grad():
        head.projections.copy_(torch.eye(2)[None])
        head.slopes.copy_(torch.tensor([slopes]))
        head.offsets.copy_(torch.tensor([offsets]))
    return Sliced(head)


def test_analytic_slope_by_hand() -> None:
    # Offsets keep u_1 > 0 > u_2: slopes 3 and 0.2 * 4, norm sqrt(9 + 0.64) / 2.
    network = plain_head((3.0, 4.0), (100.0, -100.0))
    norm = math.sqrt(9.64) / 2
    assert value(Slope(), network) == pytest.approx((norm - 0.01) ** 2, rel=1e-9)
    assert value(Slope(target=0.5), network) == pytest.approx((norm - 0.5) ** 2, rel=1e-9)


def test_slope_per_projection_by_hand() -> None:
    network = plain_head((3.0, 4.0), (100.0, -100.0))
    expected = ((3 - 0.01) ** 2 + (0.8 - 0.01) ** 2) / 2
    assert value(Slope(form="per_projection"), network) == pytest.approx(expected, rel=1e-9)


def test_reference_slope_by_hand() -> None:
    # Equal reals and fakes fix the mixed encoding: y = (1, 2), u = (3 + 1, 8 - 20) = (4, -12),
    # outputs (4, -2.4), sizes (4, 0.48), times the slopes (12, 1.92).
    network = plain_head((3.0, 4.0), (1.0, -20.0))
    same = clips((1.0, 2.0))
    penalty = Slope(form="reference")
    expected = ((12 - 0.01) ** 2 + (1.92 - 0.01) ** 2) / 2
    assert float(penalty(inputs(network, same, same)).detach()) == pytest.approx(expected, rel=1e-9)


def test_slope_equals_the_gradient_of_the_mean_realness_between_encodings() -> None:
    torch.manual_seed(0)
    head = SlicedWassersteinHead(2).double()
    head.retract()
    with torch.no_grad():
        head.slopes.add_(torch.randn(1, 2))
        head.offsets.add_(torch.randn(1, 2))
    encoding = torch.lerp(
        REAL.flatten(1), FAKE.flatten(1), fake_shares(2)[:, None]
    ).requires_grad_()
    (gradient,) = torch.autograd.grad(head(encoding).mean(dim=1).sum(), encoding)
    expected = float((gradient.norm(dim=1) - 0.01).square().mean())
    assert value(Slope(), Sliced(head)) == pytest.approx(expected, abs=5e-11)


def test_slope_at_the_start_is_nearly_inert() -> None:
    # Ten times (0.0637 - 0.01)^2 is 0.029.
    torch.manual_seed(0)
    network = Sliced(SlicedWassersteinHead(128))
    real, fake = torch.randn(2, 64, 128, 1, 1, 1)
    penalty = 10 * float(Slope()(inputs(network, real, fake)).detach())
    assert penalty == pytest.approx(10 * ((0.52 / 128) ** 0.5 - 0.01) ** 2, rel=0.05)


def test_slope_uses_the_dual_functions_of_each_class() -> None:
    head = SlicedWassersteinHead(2, num_classes=2).double()
    with torch.no_grad():
        head.projections.copy_(torch.eye(2)[None])
        head.slopes.copy_(torch.tensor([[3.0, 4.0], [6.0, 8.0]]))
        head.offsets.fill_(100.0)
    # All units are active: norms 5 / 2 and 10 / 2.
    labels = torch.tensor([0, 1])
    expected = ((2.5 - 0.01) ** 2 + (5 - 0.01) ** 2) / 2
    assert value(Slope(), Sliced(head), labels=labels) == pytest.approx(expected, rel=1e-9)


def test_slope_needs_encodings() -> None:
    network = plain_head((1.0, 1.0), (0.0, 0.0))
    at = inputs(network, REAL, FAKE)
    with pytest.raises(ValueError, match="returns encodings"):
        Slope()(at._replace(scores_real=Scores(at.scores_real.realness)))


# ------------------------------------------------------------------------------------------------
# Shared parts


def test_mix_is_drawn_for_each_row_of_the_whole_batch() -> None:
    real, fake = torch.zeros(4, *SHAPE), torch.ones(4, *SHAPE)
    whole, shares = mix(real, fake, BatchRandom((1,), 4, 0, 4, torch.device("cpu")))
    assert torch.equal(whole.flatten(1), shares[:, None].expand(4, 2))
    half, _ = mix(real[:2], fake[:2], BatchRandom((1,), 4, 2, 4, torch.device("cpu")))
    assert torch.equal(half, whole[2:])


def test_input_gradient_keeps_rows_apart() -> None:
    discriminator = Quadratic(1.0)
    at = inputs(discriminator, REAL, FAKE)
    torch.testing.assert_close(input_gradient(at, REAL), REAL)
    assert REAL.requires_grad is False


def test_penalties_see_labels_context_and_view() -> None:
    seen: list[tuple[object, ...]] = []

    class Recorder(Linear):
        def forward(self, clip: Tensor, *given: object) -> Scores:  # type: ignore[override]
            seen.append(given)
            return super().forward(clip)

    labels, context, view = torch.zeros(2), torch.ones(2), torch.ones(3)
    at = inputs(Recorder(W), REAL, FAKE)._replace(labels=labels, context=context, view=view)
    seen.clear()
    for penalty in (GradientPenalty(), InputGradient(), RealGradient(), FakeGradient()):
        penalty(at)
    assert len(seen) == 4
    for given in seen:
        assert all(a is b for a, b in zip(given, (labels, context, view), strict=True))
