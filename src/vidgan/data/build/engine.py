"""Where the jobs of a build run: processes of this machine, or a Ray cluster (extra `cluster`)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from vidgan.data.build.pool import TIME_LIMIT_S, Crashed, map_in_order
from vidgan.errors import UserError

EngineKind = Literal["processes", "ray"]
Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Where jobs run; what they give does not depend on it.

    Attributes:
        kind: processes of this machine, or tasks of Ray.
        address: Of a running Ray cluster, such as `auto` or `ray://head:10001`; None starts Ray on
            this machine. The nodes need this package and the same paths to sources and outputs.
        time_limit_s: Longest time for one job in seconds.
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
            function: A module-level function; what it raises is raised here.
            jobs: Taken as they are needed.
            workers: Jobs at the same time. 0 works in this process, without protection against
                crashes; None takes `default` processes, or all that a Ray cluster has.
            default: Processes that suit this machine and these jobs.

        Raises:
            UserError: Ray is not installed, cannot be reached, or lacks this package.
        """
        if self.kind == "ray":
            from vidgan.data.build.ray_engine import map_on_ray

            return map_on_ray(function, jobs, workers, self.time_limit_s, self.address)
        count = default if workers is None else workers
        return map_in_order(function, jobs, count, self.time_limit_s)
