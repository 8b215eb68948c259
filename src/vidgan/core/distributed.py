"""Several processes: started by torchrun, srun or what else sets RANK, LOCAL_RANK and WORLD_SIZE.

Networks stay bare modules; after each backward pass the gradients are averaged by one all-reduce
of one flat tensor. Without those variables everything here is the one-process case.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.constants import default_pg_timeout
from torch.distributed.rendezvous import rendezvous

from vidgan.core.slurm import adopt_slurm
from vidgan.errors import UserError

_LOST_PEER = re.compile(r"connection|timed? ?out|remote|peer", re.IGNORECASE)


@contextmanager
def _lost_peers_named() -> Iterator[None]:
    """Turn the error of a collective whose peer is gone into one sentence.

    Raises:
        UserError: another process of the group ended or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not _LOST_PEER.search(str(error)):
            raise
        raise UserError(
            "another process of this training ended or does not answer, so this one ends too: the"
            " launcher and that process' own message say why; the same command continues from the"
            " newest checkpoint"
        ) from error


def _all_reduce(tensor: Tensor) -> None:
    with _lost_peers_named():
        dist.all_reduce(tensor)


class _SumOverProcesses(torch.autograd.Function):
    """A sum over all processes; its transpose is such a sum again."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        _all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _sum_over_processes(gradient)


def _sum_over_processes(tensor: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(tensor)  # type: ignore[no-untyped-call]
    return total


@dataclass(frozen=True)
class Processes:
    """This process among all: `rank` of `count`, and the device it computes on."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def rows(self, num_rows: int) -> tuple[int, int]:
        """This process' rows `start:stop` of a global batch.

        Raises:
            ValueError: the batch does not split evenly.
        """
        if num_rows % self.count:
            raise ValueError(f"{num_rows} clips do not split over {self.count} processes")
        share = num_rows // self.count
        return self.rank * share, (self.rank + 1) * share

    def average(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Average tensors of one dtype over all processes with one all-reduce."""
        if self.count == 1 or not tensors:
            return list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        _all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def sum_differentiably(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes so that gradients flow to every one of them.

        The gradient of a process' share is the sum of the gradients that all processes have for
        the sum, so averaging parameter gradients over processes afterwards gives the gradient of
        the mean of their losses. Every process has to call this, and to run backward, alike.
        """
        return tensor if self.count == 1 else _sum_over_processes(tensor)

    def barrier(self) -> None:
        """Wait for every process."""
        if self.count > 1:
            with _lost_peers_named():
                dist.barrier()

    def from_first(self, number: int) -> int:
        """The first process' number, in every process."""
        return int(self._from(0, torch.tensor([number])).item())

    def share_rows(
        self, num_rows: int, batch: int, compute: Callable[[int, int], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Rows of tensors, computed in batches by turns and given to every process.

        Every process has to call this alike. All of them compute the first batch, which tells
        what they are to receive; a batch is the same whoever computes it.

        Args:
            num_rows: rows in all.
            batch: rows of a batch; the last one may be smaller.
            compute: from start and stop to named tensors on the CPU with a row for each.
        """
        spans = [(start, min(start + batch, num_rows)) for start in range(0, num_rows, batch)]
        own = {
            number: compute(*span)
            for number, span in enumerate(spans)
            if number == 0 or number % self.count == self.rank
        }
        parts = [own[0]]
        for number, (start, stop) in enumerate(spans[1:], 1):
            owner = number % self.count
            part = own.pop(number, None) or {
                name: like.new_empty(stop - start, *like.shape[1:]) for name, like in own[0].items()
            }
            parts.append({name: self._from(owner, rows) for name, rows in part.items()})
        return {name: torch.cat([part[name] for part in parts]) for name in own[0]}

    def _from(self, owner: int, tensor: Tensor) -> Tensor:
        """The tensor of one process, in every process, which gives one of that shape and type."""
        if self.count == 1:
            return tensor
        moved = tensor.to(self.device).contiguous()
        with _lost_peers_named():
            dist.broadcast(moved, owner)
        return moved.to(tensor.device)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.count == 1:
            return flag
        votes = torch.tensor([float(flag)], device=self.device)
        _all_reduce(votes)
        return bool(votes.item() > 0)


def default_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


MEETING_S = 300.0
"""How long a process waits for the others at the start; torch alone waits for half an hour."""


def _meet(backend: str) -> None:
    """Join the group, or end if another process ended before it could.

    Raises:
        UserError: not all processes came.
    """
    with _lost_peers_named():
        store, rank, count = next(rendezvous("env://", timeout=timedelta(seconds=MEETING_S)))
        store.set_timeout(default_pg_timeout)
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)


@contextmanager
def join_processes(device: str = "auto") -> Iterator[Processes]:
    """Join the process group that the environment describes, and leave it at the end.

    Inside a group that was joined already, that one is used and kept: torch cannot join twice.

    Args:
        device: `cpu`, `cuda`, `mps` or `auto` (CUDA where there is one, else the CPU).

    Raises:
        UserError: `cuda` without a GPU for this process, `mps` where there is none, or another
            process did not come.
    """
    adopt_slurm()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        device = default_device().type
    if device == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"process {local_rank} of this machine has no GPU: torch sees "
                f"{torch.cuda.device_count()}; start fewer processes or set training.device=cpu"
            )
        torch.cuda.set_device(local_rank)
        place = torch.device("cuda", local_rank)
    else:
        if device == "mps" and not torch.backends.mps.is_available():
            raise UserError("training.device=mps, but this machine has none; set it to cpu or auto")
        place = torch.device(device)
    joins = count > 1 and not dist.is_initialized()
    if joins:
        _meet("nccl" if device == "cuda" else "gloo")
    try:
        yield Processes(rank, count, place)
    finally:
        if joins:
            dist.destroy_process_group()
