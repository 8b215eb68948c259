"""The last layer of a discriminator for the sliced Wasserstein loss."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vidgan.models.base import Scores
from vidgan.models.parts.convolution import full_precision
from vidgan.models.parts.layers import LEAKY_SLOPE, leaky_relu

# ------------------------------------------------------------------------------------------------
# The last lines of every class-conditional discriminator


def class_conditional_scores(
    features: Tensor,
    labels: Tensor | None,
    head: Callable[[Tensor], Tensor],
    class_vectors: Tensor | None = None,
    classifier: Callable[[Tensor], Tensor] | None = None,
) -> Scores:
    """Score features, with labels by projection or by a classifier, in float32 or finer.

    realness = head(features) + <class_vectors[label], features>    (Miyato and Koyama 2018, eq. 3)

    Args:
        features: `[B, F]`.
        labels: `[B]`, or None where there are none or they play no part.
        head: `[B, F]` to `[B, K]`, with K = 1 if there are class vectors.
        class_vectors: `[N, F]` for projection.
        classifier: `[B, F]` to class logits `[B, N]` (Odena et al. 2017).
    """
    with full_precision(features) as encoding:
        realness = head(encoding)  # [B, K]
        if class_vectors is not None and labels is not None:
            realness = realness + (class_vectors[labels] * encoding).sum(dim=1, keepdim=True)
        logits = classifier(encoding) if classifier is not None else None  # [B, N]
    return Scores(realness, logits, encoding)


# ------------------------------------------------------------------------------------------------
# The last layer of a discriminator for the sliced Wasserstein loss


class SlicedWassersteinHead(nn.Module):
    """Dual sliced Wasserstein head: K learned projections and one-dimensional dual functions.

        u_i = s_i theta_i^T y + b_i,    realness_i = phi(u_i),    D = mean_i realness_i

    with phi a leaky ReLU, s_i and b_i learned, and theta_i the columns of an orthonormal matrix
    (thesis of D. Acharya 2018, eq. 5.2, with theta_i where the averaged form prints theta_1; Wu et
    al. "Sliced Wasserstein Generative Models"). The matrix stays on the Stiefel manifold: its
    gradient is projected on the tangent space before the optimizer's step, and the result is
    pulled back by a QR factorisation afterwards.

    With `num_classes`, every class has dual functions (s_i, b_i) of its own on the shared
    projections.

    Args:
        dim: length of an encoding, and number K of projections of a block.
        num_blocks: independent blocks of projections; realness is `[B, dim * num_blocks]`.
        num_classes: 0 for an unconditional head.
        keeps_signs: whether `retract` preserves the sign of every projection.
    """

    def __init__(
        self,
        dim: int = 128,
        num_blocks: int = 1,
        num_classes: int = 0,
        keeps_signs: bool = True,
    ) -> None:
        super().__init__()
        self.keeps_signs = keeps_signs
        rows = max(num_classes, 1)
        self.projections = nn.Parameter(torch.empty(num_blocks, dim, dim))
        self.slopes = nn.Parameter(torch.ones(rows, num_blocks * dim))
        self.offsets = nn.Parameter(torch.zeros(rows, num_blocks * dim))
        for block in self.projections.detach():
            nn.init.orthogonal_(block)

    def forward(self, encoding: Tensor, labels: Tensor | None = None) -> Tensor:
        """Encodings `[B, dim]` to realness `[B, K]`."""
        return leaky_relu(self.preactivation(encoding, labels))

    def preactivation(self, encoding: Tensor, labels: Tensor | None = None) -> Tensor:
        """u_i = s_i theta_i^T y + b_i, `[B, K]`."""
        slopes, offsets = self.dual_parameters(labels)
        projected = torch.einsum("bd,mdk->bmk", encoding, self.projections).flatten(1)
        return slopes * projected + offsets

    def dual_parameters(self, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """s and b, `[1, K]` without classes or `[B, K]` with them."""
        rows = slice(1) if labels is None or len(self.slopes) == 1 else labels
        return self.slopes[rows], self.offsets[rows]

    def slope(self, encoding: Tensor, labels: Tensor | None = None) -> Tensor:
        """Slopes s_i phi'(u_i) of the K dual functions at an encoding, `[B, K]`."""
        u = self.preactivation(encoding, labels)
        # Not torch.where with two numbers: that is float32 whatever u is.
        derivative = LEAKY_SLOPE + (1 - LEAKY_SLOPE) * (u > 0).to(u.dtype)
        return self.dual_parameters(labels)[0] * derivative

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Replace the gradient g of V by its tangent part g - V sym(V^T g)."""
        gradient = self.projections.grad
        if gradient is None:
            return
        v = self.projections
        product = v.transpose(1, 2) @ gradient
        gradient -= v @ (product + product.transpose(1, 2)) / 2

    @torch.no_grad()
    def retract(self) -> None:
        """Pull V back to orthonormal columns: V <- Q sign(diag R), V = QR.

        QR alone is unique only up to the sign of each column, and a flipped column would turn a
        projection into its negative while its slope, offset and optimizer moments stay. Without
        `keeps_signs` it is V <- Q with the signs that Householder reflections leave, as in the
        authors' code.
        """
        q, r = torch.linalg.qr(self.projections.double())
        if self.keeps_signs:
            signs = torch.diagonal(r, dim1=1, dim2=2).sign()
            q = q * torch.where(signs == 0, 1.0, signs)[:, None, :]
        self.projections.copy_(q)
