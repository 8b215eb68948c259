"""A batch of real clips, as one process sees it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """This process' share of a global batch, or a micro-batch of it.

    Attributes:
        real: uint8 clips `[B, C, T, H, W]`, or float in [-1, 1] once prepared.
        labels: `[B]` or None.
        global_size: clips of the batch over all processes.
        start: row of the first clip in the global batch.
        context: given frames, or None.
    """

    real: Tensor
    labels: Tensor | None
    global_size: int
    start: int
    context: Tensor | None = None

    def rows(self, first: int, last: int) -> "Batch":
        """Rows `first:last` of this share."""
        return Batch(
            real=self.real[first:last],
            labels=None if self.labels is None else self.labels[first:last],
            global_size=self.global_size,
            start=self.start + first,
            context=None if self.context is None else self.context[first:last],
        )
