"""Random numbers that are pure functions of a key, so that no generator state is kept.

Every random draw of training, sampling and data order is keyed by integers or words (the seed, the
purpose, the step, ...). A run resumes bit for bit because no generator state exists that could be
lost, and N processes reproduce one because each draws the numbers of the whole batch and keeps its
own rows.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Key = int | str


def derive_seed(*key: Key) -> int:
    """Hash a key to a seed in 0 .. 2**63 - 1; different keys give unrelated seeds."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def keyed_rng(*key: Key) -> torch.Generator:
    """A fresh CPU generator for this key."""
    return torch.Generator().manual_seed(derive_seed(*key))


@dataclass
class BatchRandom:
    """Random rows for the slice `start:stop` of a global batch of `global_size` clips.

    Draws are made on the CPU at global-batch shape and sliced, so a row depends on the key and on
    its place in the global batch, not on the number of processes or of micro-batches.
    """

    key: tuple[Key, ...]
    global_size: int
    start: int
    stop: int
    device: torch.device

    def __post_init__(self) -> None:
        self._rng = keyed_rng(*self.key)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), float32 `[stop - start, *shape]`."""
        return self.draw("uniform", shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, float32 `[stop - start, *shape]`."""
        return self.draw("normal", shape)

    def draw(self, kind: Literal["uniform", "normal"], shape: tuple[int, ...]) -> Tensor:
        """The next random rows of either kind."""
        function = torch.rand if kind == "uniform" else torch.randn
        rows = function(self.global_size, *shape, generator=self._rng)
        return send(rows[self.start : self.stop], self.device)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; the program does not wait for a GPU."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
