"""Where the jobs of a build run: processes of this machine, or a Ray cluster (extra `cluster`)."""

import multiprocessing
import os
import socket
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
from typing import Any, Generic, Literal, TypeVar

from vidgan.core import stop_signals
from vidgan.core.plugins import safe_path_for_children
from vidgan.errors import UserError

# ------------------------------------------------------------------------------------------------
# Worker processes that keep the order of their jobs and survive a job that kills its process

Job = TypeVar("Job")
Result = TypeVar("Result")

TIME_LIMIT_S = 600.0


@dataclass(frozen=True)
class Crashed:
    """A job without a result: it killed its process or exceeded the time limit."""

    reason: str


def crashed() -> Crashed:
    """The outcome of a job that killed its process."""
    return Crashed("crashed the decoding process")


def too_slow(time_limit_s: float) -> Crashed:
    """The outcome of a job that exceeded the time limit."""
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
        function: a module-level function; what it raises is raised here.
        jobs: taken as they are needed.
        num_workers: processes; 0 works in this one, without protection against crashes.
        time_limit_s: longest wait for one job.
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
    """Starts processes and keeps track of them, which executors do not expose.

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
                # An earlier job has crashed: reported when its result is requested.
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
    """Yield the first waiting job's result; if its pool broke, find out whether this job was the
    cause."""
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
    """Keep new processes from importing the main script, unless the function is part of it.

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
    # A killed parent cannot stop its workers, which would wait for work forever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# ------------------------------------------------------------------------------------------------
# Jobs as tasks of Ray, in the order of the jobs; a task that kills its worker costs only itself.
#
# Ray starts tasks, moves results and notices dead workers and nodes. What is done about those is
# the same as with processes of this machine, so the outcome is the same bit for bit.

_CONNECT_LIMIT_S = 10.0


def map_on_ray(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int | None,
    time_limit_s: float,
    address: str | None,
) -> Iterator[Result | Crashed]:
    """Yield `function(job)` for every job, in the order of the jobs.

    Args:
        function: a module-level function of an installed module; what it raises is raised here.
        jobs: taken as they are needed.
        workers: jobs at the same time; None takes a job for every CPU of the cluster.
        time_limit_s: longest wait for one job.
        address: of a running cluster; None starts Ray on this machine.

    Raises:
        UserError: Ray is not installed, cannot be reached, or its nodes lack this package.
    """
    with _connected(address, workers) as ray:
        count = workers or int(ray.cluster_resources().get("CPU", 1))
        # No retries by Ray itself: it would count a dead worker's job several times over.
        task = ray.remote(num_cpus=1, max_retries=0)(_run_on_ray)
        waiting: deque[tuple[Job, Any]] = deque()
        for job in jobs:
            waiting.append((job, task.remote(function, job)))
            if len(waiting) >= 3 * count:
                yield _take_from_ray(ray, task, function, *waiting.popleft(), time_limit_s)
        while waiting:
            yield _take_from_ray(ray, task, function, *waiting.popleft(), time_limit_s)


def _run_on_ray(function: Callable[[Job], Result], job: Job) -> Result:
    use_one_thread()
    return function(job)


def _take_from_ray(
    ray: Any,
    task: Any,
    function: Callable[[Job], Result],
    job: Job,
    reference: Any,
    time_limit_s: float,
) -> Result | Crashed:
    """The result of a job; one whose worker died is tried once more, for the node may have died."""
    for attempt in range(2):
        try:
            result: Result = ray.get(reference, timeout=time_limit_s)
            return result
        except ray.exceptions.GetTimeoutError:
            ray.cancel(reference, force=True)
            return too_slow(time_limit_s)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, ModuleNotFoundError) and "vidgan" in str(cause):
                raise UserError(
                    f"the nodes of the Ray cluster lack this package ({cause}): install vidgan"
                    " there, in the same version"
                ) from error
            raise cause from error
        except ray.exceptions.RayError:
            if attempt == 0:
                reference = task.remote(function, job)
    return crashed()


@contextmanager
def _connected(address: str | None, workers: int | None) -> Iterator[Any]:
    """Ray, connected; a connection that the caller has made already is used and left alone."""
    # Both are read at import: no telemetry, no hint about graphics cards.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "the engine ray needs the package ray: install it with: pip install 'vidgan[cluster]'"
        ) from error
    if ray.is_initialized():
        yield ray
        return
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        settings |= {"num_cpus": workers or num_cores(), "include_dashboard": False}
    try:
        if address is not None:
            _knock(address)
        ray.init(address, **settings)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"no Ray cluster answers at {address} ({reason}): check the address and the token"
            " of the cluster (RAY_AUTH_TOKEN), or start one with: ray start --head"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise an `OSError` if nothing listens at `HOST:PORT`; Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _CONNECT_LIMIT_S).close()


# ------------------------------------------------------------------------------------------------
# Where the jobs of a build run: processes of this machine, or a Ray cluster (extra `cluster`)

EngineKind = Literal["processes", "ray"]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Where jobs run; what they give does not depend on it.

    Attributes:
        kind: processes of this machine, or tasks of Ray.
        address: of a running Ray cluster, such as `auto` or `ray://head:10001`; None starts Ray on
            this machine. The nodes need this package and the same paths to sources and outputs.
        time_limit_s: longest time for one job in seconds.
    """

    kind: EngineKind = "processes"
    address: str | None = None
    time_limit_s: float = TIME_LIMIT_S

    def __post_init__(self) -> None:
        if self.address is not None and self.kind != "ray":
            raise UserError(
                f"the address {self.address} is one of a Ray cluster: add --engine ray, or drop it"
            )
        if not self.time_limit_s > 0:
            raise UserError(f"a time limit of {self.time_limit_s} seconds must be above 0")

    def map_in_order(
        self,
        function: Callable[[Job], Result],
        jobs: Iterable[Job],
        workers: int | None,
        default: int,
    ) -> Iterator[Result | Crashed]:
        """Yield `function(job)` for every job, in the order of the jobs.

        Args:
            function: a module-level function; what it raises is raised here.
            jobs: taken as they are needed.
            workers: jobs at the same time. 0 works in this process, without protection against
                crashes; None takes `default` processes, or all that a Ray cluster has.
            default: processes that suit this machine and these jobs.

        Raises:
            UserError: Ray is not installed, cannot be reached, or lacks this package.
        """
        if self.kind == "ray":
            return map_on_ray(function, jobs, workers, self.time_limit_s, self.address)
        count = default if workers is None else workers
        return map_in_order(function, jobs, count, self.time_limit_s)
