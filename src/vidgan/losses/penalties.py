"""Penalties on a discriminator: what keeps its scores smooth, bounded or centred.

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


def refuse_unless(holds: bool, sentence: str) -> None:
    """Raise ValueError with the sentence if a setting is out of its range."""
    if not holds:
        raise ValueError(sentence)


class ScoresLike(Protocol):
    """The part of a discriminator's answer that penalties read."""

    @property
    def realness(self) -> Tensor:
        """`[B, K]`."""

    @property
    def encoding(self) -> Tensor | None:
        """`[B, F]` or None."""


class PenaltyInputs(NamedTuple):
    """What every penalty may look at.

    Attributes:
        discriminator: called as `discriminator(clip, labels, context, view)`.
        real, fake: clips `[B, C, T, H, W]`, without a gradient to the generator.
        scores_real, scores_fake: the discriminator's answers on both.
        labels, context, view: what the discriminator was given with each clip, or None.
        rng: random rows for this update and penalty.
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
        refuse_unless(self.weight >= 0, f"weight={self.weight} must be 0 or more")
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
            self.target > 0,
            f"target={self.target} must be above 0; input_gradient is the penalty around 0",
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
        gradient = input_gradient(at, at.real)
        return gradient.flatten(1).square().sum(dim=1).mean() / 2


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
        labels = at.labels if len(head.slopes) > 1 else None
        if self.form == "reference":
            output = head(encoding, labels)
            size = torch.where(output > 0, output, -0.2 * output)
            slope = head.dual_parameters(labels)[0] * size
        else:
            slope = head.slope(encoding, labels)
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


PENALTIES: dict[str, type[Penalty]] = {
    "gradient_penalty": GradientPenalty,
    "input_gradient": InputGradient,
    "r1": RealGradient,
    "drift": Drift,
    "slope": Slope,
}
