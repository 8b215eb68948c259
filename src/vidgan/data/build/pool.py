"""Worker processes that keep the order of their jobs and survive a job that kills its process."""

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from vidgan.core import stop_signals
from vidgan.core.plugins import safe_path_for_children

Job = TypeVar("Job")
Result = TypeVar("Result")

TIME_LIMIT_S = 600.0


@dataclass(frozen=True)
class Crashed:
    """A job that gave no result: it ended its process or ran past the time limit."""

    reason: str


def crashed() -> Crashed:
    """What became of a job that ended its process."""
    return Crashed("crashed the decoding process")


def too_slow(time_limit_s: float) -> Crashed:
    """What became of a job that ran past the time limit."""
    return Crashed(f"took longer than {time_limit_s:.0f} seconds")


def num_cores() -> int:
    """Cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def use_one_thread() -> None:
    """Let the libraries of this process, loaded or not, compute with one thread."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def map_in_order(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    num_workers: int,
    time_limit_s: float = TIME_LIMIT_S,
) -> Iterator[Result | Crashed]:
    """Yield `function(job)` for every job, in the order of the jobs.

    Args:
        function: A module-level function; what it raises is raised here.
        jobs: Taken as they are needed.
        num_workers: Processes; 0 works in this one, without protection against crashes.
        time_limit_s: Longest wait for one job.
    """
    if num_workers == 0:
        yield from map(function, jobs)
        return
    pool = _Pool(function, num_workers)
    try:
        yield from _run(pool, iter(jobs), num_workers, time_limit_s)
    finally:
        pool.stop()


class _Context(SpawnContext):
    """Starts processes and remembers them, as an executor gives nobody its own.

    spawn: forking a process in which torch has started threads can deadlock.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started: list[BaseProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> BaseProcess:  # type: ignore[override]  # noqa: N802
        process = SpawnProcess(*args, **kwargs)
        self.started.append(process)
        return process


class _Pool(Generic[Job, Result]):
    def __init__(self, function: Callable[[Job], Result], num_workers: int) -> None:
        self._function = function
        self._num_workers = num_workers
        self._start(num_workers)

    def submit(self, job: Job) -> "Future[Result]":
        # Here the executor starts processes that are still missing.
        with (
            _script_hidden(self._function),
            safe_path_for_children(),
            stop_signals.withheld_from_children(),
        ):
            try:
                return self._executor.submit(self._function, job)
            except BrokenProcessPool as broken:
                # A job before this one has crashed already: told when its result is asked for.
                future: Future[Result] = Future()
                future.set_exception(broken)
                return future

    def restart(self, num_workers: int | None = None) -> None:
        self.stop()
        self._start(num_workers or self._num_workers)

    def stop(self) -> None:
        # A worker that hangs in a decoder would be waited for: end them all.
        for process in self._context.started:
            if process.pid is not None:
                process.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _start(self, num_workers: int) -> None:
        self._context = _Context()
        # Its locks start a process of their own.
        with safe_path_for_children():
            self._executor = ProcessPoolExecutor(
                num_workers, mp_context=self._context, initializer=_start_worker
            )


def _run(
    pool: _Pool[Job, Result], jobs: Iterator[Job], num_workers: int, time_limit_s: float
) -> Iterator[Result | Crashed]:
    waiting: deque[tuple[Job, Future[Result]]] = deque()
    for job in jobs:
        waiting.append((job, pool.submit(job)))
        if len(waiting) >= 3 * num_workers:
            yield from _take(pool, waiting, time_limit_s)
    while waiting:
        yield from _take(pool, waiting, time_limit_s)


def _take(
    pool: _Pool[Job, Result], waiting: deque[tuple[Job, "Future[Result]"]], time_limit_s: float
) -> Iterator[Result | Crashed]:
    """Yield the first waiting job's result; if its pool broke, find out whether it is to blame."""
    job, future = waiting.popleft()
    result: Result | Crashed
    try:
        yield future.result(time_limit_s)
        return
    except TimeoutError:
        result = too_slow(time_limit_s)
    except BrokenProcessPool:
        pool.restart(1)
        try:
            result = pool.submit(job).result(time_limit_s)
        except TimeoutError:
            result = too_slow(time_limit_s)
        except BrokenProcessPool:
            result = crashed()
    pool.restart()
    again = [waiting_job for waiting_job, _ in waiting]
    waiting.clear()
    waiting.extend((waiting_job, pool.submit(waiting_job)) for waiting_job in again)
    yield result


def _start_worker() -> None:
    use_one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


@contextmanager
def _script_hidden(function: Callable[[Job], Result]) -> Iterator[None]:
    """Keep new processes from importing the script that runs, unless the function is part of it.

    They would import all that it imports; and run it again, if it does not look at `__name__`.
    """
    script = sys.modules["__main__"]
    spec, file = script.__spec__, getattr(script, "__file__", None)
    if function.__module__ == "__main__" or file is None:
        yield
        return
    script.__spec__, script.__file__ = None, None
    try:
        yield
    finally:
        script.__spec__, script.__file__ = spec, file


def _end_with_parent() -> None:
    # A killed parent cannot tell its workers to stop; they would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
