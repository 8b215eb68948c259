"""Inception Score of class probabilities (Salimans et al. 2016)."""

import torch
from torch import Tensor

from vidgan.core.arrays import Values, as_tensor
from vidgan.errors import UserError

MAX_LOG_GUARD = 1e-3
"""More would move the score itself."""


def inception_score(
    probabilities: Values, splits: int = 1, *, log_guard: float = 0.0
) -> tuple[float, float]:
    """`exp(mean_i KL(p(c|i) || p(c)))`, with p(c) the mean over the clips of a split.

    The score lies in 1 .. N. It grows with the number of clips of a split, so the number of clips
    and of splits belong to the score's name. Terms with p = 0 are 0.

    Args:
        probabilities: `[M, N]`, rows that sum to 1; a tensor or an array.
        splits: number of contiguous parts that are scored one by one; part i begins at row
            i * M // splits, as in the authors' code. Shuffle rows that are sorted by class before
            asking for more than one.
        log_guard: added to the arguments of both logarithms. Published codes add 1e-7 or 1e-20,
            which keeps their score of perfectly sure predictions below N by as little.

    Returns:
        Mean and population standard deviation over the splits.

    Raises:
        UserError: rows are no distributions, or there are more splits than rows.

    Example:
        >>> import torch
        >>> inception_score(torch.eye(4), splits=1)
        (4.0, 0.0)
    """
    probabilities = as_tensor(probabilities, "probabilities")
    if probabilities.ndim != 2 or probabilities.shape[0] == 0:
        shape = tuple(probabilities.shape)
        raise UserError(f"probabilities must be [M, N] with M of at least 1, got {shape}")
    if not 1 <= splits <= probabilities.shape[0]:
        rows = probabilities.shape[0]
        raise UserError(f"splits must lie in 1 .. {rows} (the number of clips), got {splits}")
    p = probabilities.detach().to("cpu", torch.float64)
    sums = p.sum(1)
    # Negated so that NaN, which compares false with everything, is refused as well.
    if not bool((p >= 0).all()) or not bool(((sums - 1).abs() < 1e-3).all()):
        raise UserError("every row of probabilities must be non-negative and sum to 1")
    if not 0 <= log_guard < MAX_LOG_GUARD:
        raise UserError(f"log_guard must lie in [0, {MAX_LOG_GUARD}), got {log_guard}")
    # float32 softmax rows sum to 1 within 1e-6 only; an exact sum keeps the score at most N.
    p = p / sums[:, None]
    rows = p.shape[0]
    starts = [i * rows // splits for i in range(1, splits)]
    scores = torch.stack([_score(part, log_guard) for part in p.tensor_split(starts)])
    return float(scores.mean()), float(scores.std(correction=0))


def _score(p: Tensor, guard: float) -> Tensor:
    mean = p.mean(0)
    # xlogy(0, 0) is 0. The mean of the rows' second terms is that of the mean row.
    of_rows = torch.special.xlogy(p, p + guard).sum(1).mean()
    of_mean = torch.special.xlogy(mean, mean + guard).sum()
    score: Tensor = (of_rows - of_mean).clamp_min(0).exp()
    return score
