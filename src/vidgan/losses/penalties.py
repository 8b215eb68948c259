"""Penalties on a discriminator that keep its scores smooth, bounded or centred.

Every penalty is a small frozen record of its settings and a pure function of `PenaltyInputs`.
The value is unweighted; the training step multiplies it by `weight`, and by `every` on the steps
where a lazy penalty is applied (Karras et al. 2020, section 3.1). Gradients with respect to clips
come from an exact double backward pass.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vidgan.core.randomness import BatchRandom

# ------------------------------------------------------------------------------------------------
# Constraints on a discriminator: edits of its parameters after an optimizer step.
#
# Every constraint is a small frozen record of its settings and a function of the module alone. It
# runs without gradients on every process alike, so that all keep the same parameters.


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """Base of all constraints.

    Attributes:
        every: apply after every n-th discriminator update; 0 removes the constraint.
    """

    every: int = 1

    def __post_init__(self) -> None:
        refuse_unless(self.every >= 0, f"every={self.every} must be 0 or more")

    def __call__(self, discriminator: nn.Module) -> None:
        """Edit the parameters in place."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class WeightClipping(Constraint):
    """Clip every parameter to [-bound, bound] (Arjovsky et al. 2017, algorithm 1)."""

    bound: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unless(self.bound > 0, f"bound={self.bound} must be above 0")

    @torch.no_grad()
    def __call__(self, discriminator: nn.Module) -> None:
        for parameter in discriminator.parameters():
            parameter.clamp_(-self.bound, self.bound)


@dataclass(frozen=True, kw_only=True)
class SingularValueClipping(Constraint):
    """Bound the gain of every layer (Saito et al. 2017, section 3.3).

    Each convolution's weight, as a matrix `[out, rest]`, has its singular values cut off at
    `bound`; each batch norm's factor gamma is clamped to [`least_gamma` s, s] with s the running
    standard deviation, so that the layer multiplies by at most 1. Offsets stay as they are.
    """

    every: int = 5
    bound: float = 1.0
    least_gamma: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unless(self.bound > 0, f"bound={self.bound} must be above 0")
        refuse_unless(
            0 <= self.least_gamma <= 1, f"least_gamma={self.least_gamma} must lie in 0..1"
        )

    @torch.no_grad()
    def __call__(self, discriminator: nn.Module) -> None:
        for module in discriminator.modules():
            weight = getattr(module, "weight", None)
            variance = getattr(module, "running_var", None)
            if not isinstance(weight, Tensor):
                continue
            if isinstance(variance, Tensor):
                deviation = variance.to(weight.dtype).sqrt()
                weight.clamp_(self.least_gamma * deviation, deviation)
            elif weight.dim() >= 4:
                weight.copy_(clip_singular_values(weight, self.bound))


def clip_singular_values(weight: Tensor, bound: float) -> Tensor:
    """A weight whose singular values as a matrix `[out, rest]` are cut off at `bound`.

    With W = U S V^T the result U min(S, bound) V^T equals W - U_b diag(1 - bound / S_b) U_b^T W
    over the columns b whose value exceeds the bound. U and S^2 come from the small matrix W W^T,
    in float64 (float32 squares would lose half of the digits).
    """
    matrix = weight.flatten(1).double()
    squares, vectors = torch.linalg.eigh(matrix @ matrix.t())
    too_large = squares > bound**2
    if not bool(too_large.any()):
        return weight
    left = vectors[:, too_large]  # [out, b]
    excess = 1 - bound / squares[too_large].sqrt()
    clipped: Tensor = matrix - (left * excess) @ (left.t() @ matrix)
    return clipped.to(weight.dtype).view_as(weight)


CONSTRAINTS: dict[str, type[Constraint]] = {
    "weight_clipping": WeightClipping,
    "singular_value_clipping": SingularValueClipping,
}


# ------------------------------------------------------------------------------------------------
# Penalties on a discriminator that keep its scores smooth, bounded or centred


def refuse_unless(holds: bool, sentence: str) -> None:
    """Raise ValueError with the sentence if a setting is out of its range."""
    if not holds:
        raise ValueError(sentence)


MAX_WEIGHT = 1_000_000
"""A thousand times the largest published weight; no loss overflows float32 with it."""


def check_weight(weight: float, name: str = "weight") -> None:
    """Raise ValueError if the weight of a loss is out of its range."""
    bounds = f"must be 0 or more, and at most {MAX_WEIGHT:,}"
    refuse_unless(0 <= weight <= MAX_WEIGHT, f"{name}={weight} {bounds}")


class ScoresLike(Protocol):
    """The part of a discriminator's output that penalties use."""

    @property
    def realness(self) -> Tensor:
        """`[B, K]`."""

    @property
    def encoding(self) -> Tensor | None:
        """`[B, F]` or None."""


class PenaltyInputs(NamedTuple):
    """The inputs of every penalty.

    Attributes:
        discriminator: called as `discriminator(clip, labels, context, view)`.
        real, fake: clips `[B, C, T, H, W]`, without a gradient to the generator.
        scores_real, scores_fake: the discriminator's outputs on both.
        labels, context, view: what the discriminator was given with each clip, or None.
        rng: random rows for this update and penalty.
        scores_in_bf16: whether the scores were computed in bfloat16.
    """

    discriminator: nn.Module
    real: Tensor
    fake: Tensor
    scores_real: ScoresLike
    scores_fake: ScoresLike
    labels: Tensor | None
    context: Tensor | None
    view: Tensor | None
    rng: BatchRandom
    scores_in_bf16: bool = False


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """Base of all penalties.

    Attributes:
        weight: factor in the discriminator's loss.
        every: apply on every n-th discriminator update only, with n times the weight.
    """

    differentiates_clips: ClassVar[bool] = False
    """Whether it needs the gradient of each clip's score alone, which batch norm blurs."""

    weight: float = 1.0
    every: int = 1

    def __post_init__(self) -> None:
        check_weight(self.weight)
        refuse_unless(self.every >= 1, f"every={self.every} must be 1 or more")

    def __call__(self, at: PenaltyInputs) -> Tensor:
        """The unweighted penalty, a scalar."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class GradientPenalty(Penalty):
    """E (||grad D(x_hat)||_2 - target)^2 / target^2 on lines between reals and fakes.

    x_hat = real + a (fake - real), a ~ U(0, 1) per clip (Gulrajani et al. 2017, eq. 3; the division
    is Karras et al. 2018, appendix C; it is 1 for target 1).
    """

    differentiates_clips: ClassVar[bool] = True

    weight: float = 10.0
    target: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unless(
            0 < self.target <= MAX_WEIGHT,
            f"target={self.target} must be above 0 and at most {MAX_WEIGHT:,};"
            " input_gradient is the penalty around 0",
        )

    def __call__(self, at: PenaltyInputs) -> Tensor:
        mixed, _ = mix(at.real, at.fake, at.rng)
        gradient = input_gradient(at, mixed)
        norm = gradient.flatten(1).norm(dim=1)
        penalty: Tensor = ((norm - self.target) / self.target).square().mean()
        return penalty


@dataclass(frozen=True, kw_only=True)
class InputGradient(Penalty):
    """E ||w grad D(x_hat)||_2^2 on lines between reals and fakes, centred at zero.

    The first penalty of SWGAN (thesis of D. Acharya 2018, eq. 5.3; Wu et al. 2019, eq. 13).

    Attributes:
        weighting: `real_share` takes the gradient with respect to the real clip through the
            interpolation, w = 1 - a, as the authors' code does; `none` is w = 1.
    """

    differentiates_clips: ClassVar[bool] = True

    weight: float = 50.0
    weighting: Literal["real_share", "none"] = "real_share"

    def __call__(self, at: PenaltyInputs) -> Tensor:
        mixed, fake_share = mix(at.real, at.fake, at.rng)
        gradient = input_gradient(at, mixed)
        square = gradient.flatten(1).square().sum(dim=1)
        if self.weighting == "real_share":
            square = square * (1 - fake_share).square()
        return square.mean()


@dataclass(frozen=True, kw_only=True)
class RealGradient(Penalty):
    """R1: E ||grad D(real)||_2^2 / 2 (Mescheder et al. 2018, eq. 9); the weight is gamma."""

    differentiates_clips: ClassVar[bool] = True

    weight: float = 1.0
    every: int = 8

    def __call__(self, at: PenaltyInputs) -> Tensor:
        return half_square(input_gradient(at, at.real))


@dataclass(frozen=True, kw_only=True)
class FakeGradient(Penalty):
    """R2: E ||grad D(fake)||_2^2 / 2 (Mescheder et al. 2018, eq. 10); the weight is gamma."""

    differentiates_clips: ClassVar[bool] = True

    def __call__(self, at: PenaltyInputs) -> Tensor:
        return half_square(input_gradient(at, at.fake))


@dataclass(frozen=True, kw_only=True)
class NoiseDifference(Penalty):
    """E (D(x) - D(x + s n))^2 / (2 s^2) with n ~ N(0, 1): R1 or R2 without a double backward pass.

    The first order of D around x makes it E ||grad D(x)||_2^2 / 2 (Lin et al. 2025,
    arXiv:2501.08316, where the factor is part of the weight). Both scores are computed in float32
    whatever the networks compute in: in bfloat16 rounding is a part of their small difference.

    Attributes:
        size: s, in units of the clip's range [-1, 1].
    """

    differentiates_clips: ClassVar[bool] = True

    size: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unless(0 < self.size <= 1, f"size={self.size} must be above 0 and at most 1")

    def difference(self, at: PenaltyInputs, clip: Tensor, realness: Tensor) -> Tensor:
        """The penalty at clips whose scores are known."""
        noise = at.rng.normal(*clip.shape[1:]).to(clip.dtype)
        given = at.labels, at.context, at.view
        with torch.autocast(clip.device.type, enabled=False):
            if at.scores_in_bf16:
                realness = at.discriminator(clip, *given).realness
            moved = at.discriminator(clip + self.size * noise, *given).realness
        slope: Tensor = (moved - realness).mean(dim=1) / self.size
        return slope.square().mean() / 2


@dataclass(frozen=True, kw_only=True)
class RealDifference(NoiseDifference):
    """R1 by a difference in noise."""

    def __call__(self, at: PenaltyInputs) -> Tensor:
        return self.difference(at, at.real, at.scores_real.realness)


@dataclass(frozen=True, kw_only=True)
class FakeDifference(NoiseDifference):
    """R2 by a difference in noise."""

    def __call__(self, at: PenaltyInputs) -> Tensor:
        return self.difference(at, at.fake, at.scores_fake.realness)


@dataclass(frozen=True, kw_only=True)
class Drift(Penalty):
    """E D(real)^2: keeps the scores near zero (Karras et al. 2018, appendix A.1)."""

    weight: float = 0.001

    def __call__(self, at: PenaltyInputs) -> Tensor:
        return at.scores_real.realness.square().mean()


@dataclass(frozen=True, kw_only=True)
class Slope(Penalty):
    """The second penalty of SWGAN: the slope of the dual function f at mixed encodings.

    y_hat = y_real + a (y_fake - y_real), a ~ U(0, 1) per clip. Three forms:

    * `analytic`: E (||grad_y f(y_hat)||_2 - target)^2 (thesis eq. 5.3). The projections are
      orthonormal, so the norm is sqrt(sum_i (s_i phi'(u_i))^2) / K.
    * `per_projection`: mean over i of (s_i phi'(u_i) - target)^2.
    * `reference`: the authors' code, which puts |phi(u_i)| where the derivative's side belongs;
      it acts as a penalty on the size of the scores.
    """

    weight: float = 10.0
    target: float = 0.01
    form: Literal["analytic", "per_projection", "reference"] = "analytic"

    def __call__(self, at: PenaltyInputs) -> Tensor:
        head: Any = at.discriminator.head
        if at.scores_real.encoding is None or at.scores_fake.encoding is None:
            raise ValueError("the slope penalty needs a discriminator that returns encodings")
        encoding, _ = mix(at.scores_real.encoding, at.scores_fake.encoding, at.rng)
        if self.form == "reference":
            output = head(encoding, at.labels)
            size = torch.where(output > 0, output, -0.2 * output)
            slope = head.dual_parameters(at.labels)[0] * size
        else:
            slope = head.slope(encoding, at.labels)
        if self.form == "analytic":
            slope = slope.square().sum(dim=1).sqrt() / slope.shape[1]
        penalty: Tensor = (slope - self.target).square().mean()
        return penalty


def mix(real: Tensor, fake: Tensor, rng: BatchRandom) -> tuple[Tensor, Tensor]:
    """A random point between each real and fake row, and the share of the fake in it, `[B]`."""
    fake_share = rng.uniform().to(real.dtype)  # [B]
    column = fake_share.view(-1, *[1] * (real.dim() - 1))  # [B, 1, ...]
    return torch.lerp(real, fake, column), fake_share


def input_gradient(at: PenaltyInputs, clip: Tensor) -> Tensor:
    """Gradient of each clip's mean realness with respect to the clip, differentiable again."""
    clip = clip.detach().requires_grad_(True)
    realness = at.discriminator(clip, at.labels, at.context, at.view).realness
    (gradient,) = torch.autograd.grad(realness.mean(dim=1).sum(), clip, create_graph=True)
    return gradient


def half_square(gradient: Tensor) -> Tensor:
    """Half of the mean squared length of the rows."""
    return gradient.flatten(1).square().sum(dim=1).mean() / 2


PENALTIES: dict[str, type[Penalty]] = {
    "gradient_penalty": GradientPenalty,
    "input_gradient": InputGradient,
    "r1": RealGradient,
    "r2": FakeGradient,
    "r1_noise": RealDifference,
    "r2_noise": FakeDifference,
    "drift": Drift,
    "slope": Slope,
}
