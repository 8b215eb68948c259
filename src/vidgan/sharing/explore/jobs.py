"""Long work for the explorer: one job at a time, a short queue, and an end when nobody waits."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from vidgan.data.build.encode import EncodedClip, EncodeJob, Rejected, encode_video

DECODE_BYTES = 4 << 30
"""Address space of the process that decodes an upload."""
DECODE_CPU_SECONDS = 60
POLL_SECONDS = 0.25

Say = Callable[[dict[str, Any]], None]
"""Tells the reader of a job something; raises `CancelledError` once there is none."""


class BusyError(Exception):
    """The queue is full."""


class CancelledError(Exception):
    """Nobody waits for the result."""


class Queue:
    """Runs jobs in threads, `workers` at a time, with at most `waiting` others in line."""

    def __init__(self, workers: int, waiting: int) -> None:
        self._limit = workers + waiting
        self._turns = asyncio.Semaphore(workers)
        self._present = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place in the line.

        Raises:
            BusyError: there is none.
        """
        if self._present >= self._limit:
            raise BusyError
        self._present += 1
        try:
            yield
        finally:
            self._present -= 1

    def is_full(self) -> bool:
        """Whether a job would wait for its turn."""
        return self._turns.locked()

    async def run(self, work: Callable[[threading.Event], Any]) -> Any:
        """Run `work` in a thread when its turn comes; a cancelled caller sets its event."""
        ended = threading.Event()
        async with self._turns:
            task = asyncio.ensure_future(asyncio.to_thread(work, ended))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                ended.set()
                # The turn ends with the work: the processor is free only then.
                await asyncio.wait([task])
                raise


async def narrated(
    queue: Queue,
    work: Callable[[Say], dict[str, Any]],
    is_gone: Callable[[], Awaitable[bool]],
) -> AsyncGenerator[dict[str, Any]]:
    """What a job says while it runs, then what it returns.

    Args:
        queue: where it runs; the caller holds a place in it.
        work: called with what tells the reader something.
        is_gone: awaited for whether the reader has left.
    """
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def run(ended: threading.Event) -> dict[str, Any]:
        def say(words: dict[str, Any]) -> None:
            if ended.is_set():
                raise CancelledError
            loop.call_soon_threadsafe(said.put_nowait, words)

        return work(say)

    if queue.is_full():
        said.put_nowait({"done": 0, "total": 1, "what": "waiting for others"})
    task = asyncio.ensure_future(queue.run(run))
    try:
        while not task.done() or not said.empty():
            try:
                words = await asyncio.wait_for(said.get(), POLL_SECONDS)
            except TimeoutError:
                if await is_gone():
                    return
            else:
                # Only the newest of what was said meanwhile.
                while not said.empty():
                    words = said.get_nowait()
                yield words
        yield task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


# ------------------------------------------------------------------------------------------------
# Uploads


def decode_within_limits(job: EncodeJob) -> EncodedClip | Rejected:
    """Decode a file that a stranger may have sent, in a process that exists for it alone."""
    # Only Unix has limits of a process; elsewhere those of the decoder itself have to do.
    try:
        import resource
    except ImportError:
        return encode_video(job)
    for limit, amount in (
        (resource.RLIMIT_AS, DECODE_BYTES),
        (resource.RLIMIT_CPU, DECODE_CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        lowest = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(limit, (lowest, hard))
    try:
        return encode_video(job)
    except MemoryError:
        return Rejected("takes more memory than an upload may")
