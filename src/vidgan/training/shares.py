"""Which clips of a batch each discriminator is trained on.

By default all of them see the whole batch. `training.discriminator_batch_size` gives some of them
so many clips: they take theirs one after the other, and begin again at the first clip where the
batch ends. So image: 10, video: 3 are clips of their own in a batch of 13, and shared ones in a
batch of 10. The pattern repeats within a batch as often as all numbers allow, so that processes and
micro-batches of whole patterns see what one process sees.
"""

from dataclasses import dataclass
from math import gcd
from typing import Literal, TypeVar

import torch
from torch import Tensor

from vidgan.core.distributed import Processes
from vidgan.core.randomness import BatchRandom
from vidgan.errors import UserError
from vidgan.models.base import GAN
from vidgan.training.schedule import Schedule, per_level
from vidgan.training.settings import TrainingConfig

KEY = "training.discriminator_batch_size"
Rows = TypeVar("Rows", Tensor, Tensor | None)


@dataclass(frozen=True)
class Share:
    """`count` of every `pattern` rows, from row `first` on and round the end."""

    first: int = 0
    count: int = 1
    pattern: int = 1

    def rows(self, tensor: Rows) -> Rows:
        """The share of a tensor's rows `[B, ...]`; None stays None."""
        if tensor is None or self.count == self.pattern:
            return tensor
        patterns = tensor.view(-1, self.pattern, *tensor.shape[1:])
        stop = self.first + self.count
        picked = patterns[:, self.first : stop]
        if stop > self.pattern:
            picked = torch.cat([picked, patterns[:, : stop - self.pattern]], dim=1)
        return picked.flatten(0, 1)


WHOLE = Share()


class SharedRandom(BatchRandom):
    """The share of random rows that are drawn for the whole batch."""

    def __init__(self, whole: BatchRandom, share: Share) -> None:
        self._whole, self._share = whole, share

    def draw(self, kind: Literal["uniform", "normal"], shape: tuple[int, ...]) -> Tensor:
        """The next random rows of either kind."""
        return self._share.rows(self._whole.draw(kind, shape))


def shares_of(settings: TrainingConfig, level: int, num_levels: int, size: int) -> dict[str, Share]:
    """The share of every discriminator that the settings name, at a level.

    Args:
        size: clips of the whole batch.
    """
    counts = {
        name: per_level(count, num_levels, f"{KEY}.{name}")[level]
        for name, count in settings.discriminator_batch_size.items()
    }
    unit = gcd(size, *counts.values())
    shares, first = {}, 0
    for name, count in counts.items():
        shares[name] = Share(first, count // unit, size // unit)
        first = (first + count // unit) % (size // unit)
    return shares


def check_shares(
    schedule: Schedule, gan: GAN, settings: TrainingConfig, processes: Processes
) -> None:
    """Refuse shares that the model or the division of a batch cannot give.

    Raises:
        UserError: names what would fit.
    """
    for name in settings.discriminator_batch_size:
        if name not in gan.discriminators:
            known = ", ".join(gan.discriminators)
            raise UserError(f"{KEY} names {name}, but the discriminators of this model are {known}")
    parts = processes.count * settings.accumulate
    for level, size in enumerate(schedule.batch_sizes):
        shares = shares_of(settings, level, len(schedule.levels), size)
        for name, share in shares.items():
            count, network = share.count * (size // share.pattern), gan.discriminators[name]
            where = f"{KEY}.{name}={count} at level {level}"
            if count > size:
                raise UserError(f"{where} is more than training.batch_size={size}")
            if network.couples_batch == "batch" and count < 2:
                raise UserError(f"{where} is too small: it normalises over clips; use at least 2")
            group = network.group_size if network.couples_batch == "group" else 1
            if parts > 1 and (size % (parts * share.pattern) or count % (parts * group)):
                raise UserError(
                    f"{where} of training.batch_size={size} does not split into {parts} equal "
                    f"parts (processes x micro-batches) of groups of {group} clips; use multiples "
                    f"of {parts * group} for both"
                )
