"""Batches for training, the same ones with or without worker processes."""

import atexit
import multiprocessing
import os
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vidgan.core import stop_signals
from vidgan.core.files import DISK_FULL
from vidgan.core.plugins import safe_path_for_children
from vidgan.core.progress import Notify
from vidgan.core.randomness import send
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.errors import UserError

Batch = tuple[Tensor, Tensor, Tensor]
"""Clips uint8 `[B, C, T, H, W]`, labels int64 `[B]`, numbers in the store int64 `[B]`."""
_Parts = tuple[Tensor | npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""A batch in transit: clips in shared memory or, as an array, through a pipe."""


SHARED_MEMORY = "/dev/shm"
BATCHES_AHEAD = 2
"""That every worker prepares."""


def make_loader(
    dataset: ClipDataset,
    batches: Iterable[list[ClipRequest]],
    num_workers: int,
    device: torch.device | str = "cpu",
    notify: Notify = print,
) -> Iterator[Batch]:
    """Yield one batch for every list of requests, in order.

    The batches do not depend on the number of workers. Closing the iterator ends the workers.
    Where shared memory has no room for a batch, it comes through a pipe instead.

    Args:
        dataset: where samples come from.
        batches: lists of requests, taken a few batches ahead; may never end and may change
            their length and size from one to the next (the sizes inside one list are equal).
        num_workers: processes that read ahead; 0 reads in this one.
        device: where clips and labels are put.
        notify: called once if shared memory is too small.

    Yields:
        Clips uint8 `[B, C, T, H, W]` and labels int64 `[B]` on `device`, and the clips' numbers
        in the store, int64 `[B]` on the CPU.

    Raises:
        UserError: from a sample, with its one sentence, whichever process met it.
    """
    device = torch.device(device)
    source = _batches_of(dataset, batches, num_workers)
    workers = list(getattr(source, "_workers", ()))

    def kill_workers() -> None:
        for worker in workers:
            if worker.is_alive():
                worker.kill()

    # A program that ends with this iterator half read would wait for workers that it signals by
    # SIGTERM, which is withheld from them.
    atexit.register(kill_workers)
    is_told = False
    try:
        for batch in _received(source, workers):
            if isinstance(batch, UserError):
                raise batch
            clips, labels, indices = batch
            if isinstance(clips, np.ndarray):
                if not is_told:
                    notify(_small_memory(clips.nbytes, num_workers))
                    is_told = True
                clips = torch.from_numpy(clips)
            # Not by the loader's thread for pinned memory: what that asks of a card while a CUDA
            # graph is captured fails.
            yield (
                send(clips, device),
                send(torch.from_numpy(labels), device),
                torch.from_numpy(indices),
            )
    finally:
        # Without its last reference the loader asks its workers to end, and waits a few seconds;
        # one that hangs in a read ignores everything else.
        del source
        kill_workers()
        atexit.unregister(kill_workers)


def _small_memory(num_bytes: int, num_workers: int) -> str:
    room = os.statvfs(SHARED_MEMORY)
    ahead = num_workers * BATCHES_AHEAD * num_bytes
    return (
        f"shared memory is full ({SHARED_MEMORY} has {room.f_blocks * room.f_frsize / 2**20:.0f}"
        f" MiB, and {num_workers} workers read {ahead / 2**20:.0f} MiB ahead), so batches come"
        " through pipes, which is slower: give a container more with --shm-size=8g, or lower"
        " training.workers"
    )


_LOST_WORKER = r"DataLoader worker \(pid.*?\) (?:is killed by signal: ([^.]+)|exited)"


@contextmanager
def lost_workers_named() -> Iterator[None]:
    """Turn a killed worker, which torch reports anywhere, into one sentence.

    Raises:
        UserError: a worker of `make_loader` was killed.
    """
    try:
        yield
    except RuntimeError as error:
        found = re.search(_LOST_WORKER, str(error))
        if not found:
            raise
        raise _lost_worker(f" by a signal ({found[1]})" if found[1] else "") from error


def _received(source: Iterator[_Parts | UserError], workers: list[Any]) -> Iterator[Any]:
    """Batches from the workers; one that dies while sending a batch breaks the pipe."""
    try:
        yield from source
    except (EOFError, ConnectionError, FileNotFoundError) as error:
        # An error that a worker passed on already says so.
        if not workers or str(error).startswith("Caught "):
            raise
        raise _lost_worker() from error


def _lost_worker(how: str = "") -> UserError:
    return UserError(
        f"a process that reads clips was ended{how}, most often by the system when memory runs out:"
        " lower training.workers or data.stored_frames; the same command continues from the newest"
        " checkpoint"
    )


def _batches_of(
    dataset: ClipDataset, batches: Iterable[list[ClipRequest]], num_workers: int
) -> Iterator[_Parts | UserError]:
    with (
        warnings.catch_warnings(),
        safe_path_for_children(),
        stop_signals.withheld_from_children(),
    ):
        # More workers than cores is a fair choice where reading waits for a disk.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        try:
            return iter(_loader(dataset, batches, num_workers))
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise UserError(
                f"shared memory ({SHARED_MEMORY}) is full: free some of it, give a"
                " container more with --shm-size=8g, or set training.workers=0"
            ) from error


def _loader(
    dataset: ClipDataset, batches: Iterable[list[ClipRequest]], num_workers: int
) -> "DataLoader[Any]":
    return DataLoader(
        _BatchReader(dataset),
        sampler=_OnePass(batches),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=num_workers,
        worker_init_fn=_end_with_parent,
        prefetch_factor=BATCHES_AHEAD if num_workers else None,
        # Without its own generator the loader would draw from, and so move, the global one.
        generator=torch.Generator(),
    )


def _end_with_parent(worker: int) -> None:
    """End this worker whenever its parent does, in whatever way.

    Torch's workers notice that too, and then block forever writing into an unread pipe.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _OnePass(torch.utils.data.Sampler[list[ClipRequest]]):
    """A sampler over any iterable, which may be endless and can be walked once."""

    def __init__(self, batches: Iterable[list[ClipRequest]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[ClipRequest]]:
        return iter(self._batches)


class _BatchReader(Dataset["_Parts | UserError"]):
    """A dataset whose items are whole batches, addressed by lists of requests.

    A `UserError` is handed over as a value: raised in a worker it would arrive as a traceback.

    Clips go to shared memory here: where there is no room, torch's own attempt, in a thread of the
    worker, would lose the batch and leave the reader waiting forever.
    """

    def __init__(self, dataset: ClipDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, requests: list[ClipRequest]) -> _Parts | UserError:
        try:
            samples = [self._dataset[request] for request in requests]
        except UserError as error:
            return error
        clips = torch.stack([sample["clip"] for sample in samples])
        return (
            _shared(clips) if torch.utils.data.get_worker_info() else clips,
            np.array([sample["label"] for sample in samples], np.int64),
            np.array([sample["index"] for sample in samples], np.int64),
        )


def _shared(clips: Tensor) -> "Tensor | npt.NDArray[np.uint8]":
    """The clips in shared memory, or as an array, which goes through a pipe."""
    try:
        clips.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError:
        return clips.numpy()
    return clips


def _unchanged(batch: Any) -> Any:
    return batch
