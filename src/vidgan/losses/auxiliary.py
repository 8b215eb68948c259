"""Auxiliary losses of the generator, besides the adversarial loss.

Every loss is a small frozen record of its settings and a pure function of `AuxiliaryInputs`. The
value is unweighted; the training step multiplies it by `weight`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.clip_ops import to_grey
from vidgan.losses.penalties import ScoresLike, check_weight

Distance = Literal["l1", "mse"]


class AuxiliaryInputs(NamedTuple):
    """The inputs of every auxiliary loss.

    Attributes:
        parts: what the generator made: `clip` `[B, C, T, H, W]` and its other outputs.
        context: what the generator was given, or None.
        real: target clips `[B, C, T, H, W]`; for a context model row b is the truth of row b.
        labels: `[B]` or None.
        scores: each discriminator's output on the generated clips.
        scores_real: each discriminator's output on the reals, if the loss needs it.
        generator: whose weights a loss may look at.
    """

    parts: Mapping[str, Tensor]
    context: Tensor | None
    real: Tensor
    labels: Tensor | None
    scores: Mapping[str, ScoresLike]
    scores_real: Mapping[str, ScoresLike]
    generator: nn.Module


@dataclass(frozen=True, kw_only=True)
class Auxiliary:
    """Base of all auxiliary losses.

    Attributes:
        weight: factor in the generator's loss.
    """

    needs_real_scores: ClassVar[bool] = False

    weight: float = 1.0

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def __call__(self, at: AuxiliaryInputs) -> Tensor:
        """The unweighted loss, a scalar."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class MaskSparsity(Auxiliary):
    """Mean of the foreground mask, so that the background explains what it can (VGAN, eq. 5).

    Vondrick et al. 2016; the L1 norm averaged over elements, as their code has it.
    """

    weight: float = 0.1

    def __call__(self, at: AuxiliaryInputs) -> Tensor:
        if "mask" not in at.parts:
            raise ValueError("the mask loss needs a generator that makes a mask")
        return at.parts["mask"].abs().mean()


@dataclass(frozen=True, kw_only=True)
class FirstFrames(Auxiliary):
    """Distance of the first generated frames to the given ones (Vondrick et al. 2016, section 5).

    Attributes:
        distance: `l1`, or `mse` (Kratzwald et al. 2017), averaged over elements.
    """

    weight: float = 10.0
    distance: Distance = "l1"

    def __call__(self, at: AuxiliaryInputs) -> Tensor:
        if at.context is None:
            raise ValueError("the first_frames loss needs a generator with given frames")
        return measure(at.parts["clip"][:, :, : at.context.shape[2]], at.context, self.distance)


@dataclass(frozen=True, kw_only=True)
class Pixels(Auxiliary):
    """Distance of the generated clip to the true one (Kratzwald et al. 2017, eq. 6).

    Attributes:
        distance: `mse` or `l1`, averaged over elements.
        space: compare `rgb`, or `grey`, which ignores colours.
    """

    weight: float = 1000.0
    distance: Distance = "mse"
    space: Literal["rgb", "grey"] = "rgb"

    def __call__(self, at: AuxiliaryInputs) -> Tensor:
        fake, real = at.parts["clip"], at.real
        if at.context is None:
            raise ValueError(
                "the pixels loss needs a model whose generated clips have ground truth"
            )
        if self.space == "grey":
            fake, real = to_grey(fake), to_grey(real)
        return measure(fake, real, self.distance)


@dataclass(frozen=True, kw_only=True)
class FeatureMatching(Auxiliary):
    """Squared distance of the mean encodings of reals and fakes, over all discriminators.

    (Salimans et al. 2016, section 3.1; divided by the length of the encoding.)
    """

    needs_real_scores: ClassVar[bool] = True

    def __call__(self, at: AuxiliaryInputs) -> Tensor:
        total = torch.zeros((), device=at.real.device)
        for name, scores in at.scores.items():
            real = at.scores_real[name].encoding
            if scores.encoding is None or real is None:
                raise ValueError(f"feature_matching needs encodings, which {name} does not return")
            total = total + (scores.encoding.mean(dim=0) - real.mean(dim=0)).square().mean()
        return total


@dataclass(frozen=True, kw_only=True)
class Orthogonality(Auxiliary):
    """Sum over layers of ||W W^T * (1 - I)||_F^2: filters of a layer are to point different ways.

    (Brock et al. 2019, eq. 3.) W is a stored weight as a matrix `[first axis, rest]`; embeddings
    have no part in it. Brock's own PyTorch code adds half of this term's gradient.
    """

    weight: float = 1e-4

    def __call__(self, at: AuxiliaryInputs) -> Tensor:
        total = torch.zeros((), device=at.real.device)
        for module in at.generator.modules():
            weight = getattr(module, "weight", None)
            if not isinstance(weight, nn.Parameter) or isinstance(module, nn.Embedding):
                continue
            if weight.requires_grad and weight.dim() >= 2:
                total = total + row_overlap(weight.flatten(1))
        return total


def row_overlap(rows: Tensor) -> Tensor:
    """Sum of the squared inner products of different rows `[M, F]`."""
    # W W^T and W^T W have one norm: take the smaller, a first layer has many rows.
    wide = rows.shape[0] <= rows.shape[1]
    gram = rows @ rows.t() if wide else rows.t() @ rows
    return gram.square().sum() - rows.square().sum(dim=1).square().sum()


def measure(a: Tensor, b: Tensor, distance: Distance) -> Tensor:
    """Mean absolute or mean squared difference."""
    return F.l1_loss(a, b) if distance == "l1" else F.mse_loss(a, b)


AUXILIARY: dict[str, type[Auxiliary]] = {
    "mask": MaskSparsity,
    "first_frames": FirstFrames,
    "pixels": Pixels,
    "feature_matching": FeatureMatching,
    "orthogonality": Orthogonality,
}
