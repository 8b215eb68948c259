"""What a discriminator that knows classes makes of its features: the last lines of every one."""

from collections.abc import Callable

from torch import Tensor

from vidgan.models.base import Scores
from vidgan.models.parts.convolution import full_precision


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
