"""Batches for training, from worker processes or without any, always the same ones."""

import signal
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.errors import UserError
from vidgan.plugins import safe_path_for_children

Batch = tuple[Tensor, Tensor, Tensor]
"""Clips uint8 `[B, C, T, H, W]`, labels int64 `[B]`, numbers in the store int64 `[B]`."""


def make_loader(
    dataset: ClipDataset,
    batches: Iterable[list[ClipRequest]],
    num_workers: int,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Yield one batch for every list of requests, in order.

    The batches do not depend on the number of workers. Closing the iterator ends the workers.

    Args:
        dataset: Where samples come from.
        batches: Lists of requests, taken a few batches ahead; may never end and may change
            their length and size from one to the next (the sizes inside one list are equal).
        num_workers: Processes that read ahead; 0 reads in this one.
        device: Where clips and labels are put.

    Yields:
        Clips uint8 `[B, C, T, H, W]` and labels int64 `[B]` on `device`, and the clips' numbers
        in the store, int64 `[B]` on the CPU.

    Raises:
        UserError: from a sample, with its one sentence, whichever process met it.
    """
    device = torch.device(device)
    source = _batches_of(dataset, batches, num_workers, pin=device.type == "cuda")
    for batch in source:
        if isinstance(batch, UserError):
            raise batch
        clips, labels, indices = batch
        yield clips.to(device, non_blocking=True), labels.to(device, non_blocking=True), indices


def _batches_of(
    dataset: ClipDataset, batches: Iterable[list[ClipRequest]], num_workers: int, *, pin: bool
) -> Iterator[Batch | UserError]:
    with warnings.catch_warnings(), safe_path_for_children():
        # More workers than cores is a fair choice where reading waits for a disk.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        return iter(_loader(dataset, batches, num_workers, pin=pin))


def _loader(
    dataset: ClipDataset, batches: Iterable[list[ClipRequest]], num_workers: int, *, pin: bool
) -> "DataLoader[Any]":
    return DataLoader(
        _BatchReader(dataset),
        sampler=_OnePass(batches),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=num_workers,
        pin_memory=pin,
        worker_init_fn=_start_worker,
        # Without its own generator the loader would draw from, and so move, the global one.
        generator=torch.Generator(),
    )


class _OnePass(torch.utils.data.Sampler[list[ClipRequest]]):
    """A sampler over any iterable, which may be endless and can be walked once."""

    def __init__(self, batches: Iterable[list[ClipRequest]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[ClipRequest]]:
        return iter(self._batches)


class _BatchReader(Dataset["Batch | UserError"]):
    """A dataset whose items are whole batches, addressed by lists of requests.

    A `UserError` is handed over as a value: raised in a worker it would arrive as a traceback.
    """

    def __init__(self, dataset: ClipDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, requests: list[ClipRequest]) -> Batch | UserError:
        try:
            samples = [self._dataset[request] for request in requests]
        except UserError as error:
            return error
        return (
            torch.stack([sample["clip"] for sample in samples]),
            torch.tensor([sample["label"] for sample in samples], dtype=torch.int64),
            torch.tensor([sample["index"] for sample in samples], dtype=torch.int64),
        )


def _unchanged(batch: Any) -> Any:
    return batch


def _start_worker(worker: int) -> None:
    # Ctrl-C reaches the whole group; the main process decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
