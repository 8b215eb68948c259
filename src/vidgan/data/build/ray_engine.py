"""Jobs as tasks of Ray, in the order of the jobs; a task that kills its worker costs only itself.

Ray starts tasks, moves results and notices dead workers and nodes. What is done about those is the
same as with processes of this machine, so the outcome is the same bit for bit.
"""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from vidgan.data.build.pool import Crashed, crashed, num_cores, too_slow, use_one_thread
from vidgan.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")

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
        function: A module-level function of an installed module; what it raises is raised here.
        jobs: Taken as they are needed.
        workers: Jobs at the same time; None takes a job for every CPU of the cluster.
        time_limit_s: Longest wait for one job.
        address: Of a running cluster; None starts Ray on this machine.

    Raises:
        UserError: Ray is not installed, cannot be reached, or its nodes lack this package.
    """
    with _connected(address, workers) as ray:
        count = workers or int(ray.cluster_resources().get("CPU", 1))
        # No retries by Ray itself: it would count a dead worker's job several times over.
        task = ray.remote(num_cpus=1, max_retries=0)(_run)
        waiting: deque[tuple[Job, Any]] = deque()
        for job in jobs:
            waiting.append((job, task.remote(function, job)))
            if len(waiting) >= 3 * count:
                yield _take(ray, task, function, *waiting.popleft(), time_limit_s)
        while waiting:
            yield _take(ray, task, function, *waiting.popleft(), time_limit_s)


def _run(function: Callable[[Job], Result], job: Job) -> Result:
    use_one_thread()
    return function(job)


def _take(
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
    # Both are read at import: no report to anybody, no hint about graphics cards.
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
