"""Worker processes: order, crashes, hangs and errors."""

import multiprocessing
import os
import time
from collections.abc import Iterator

import pytest

from vidgan.data.build.engine import Crashed, map_in_order


def work(job: int) -> int:
    if job == 13:
        os._exit(1)
    if job == 14:
        time.sleep(60)
    if job == 15:
        raise ValueError("job 15")
    return job * job


def test_a_crashing_job_costs_only_itself():
    results = list(map_in_order(work, [3, 13, 5, 6], 1))
    assert results == [9, Crashed("crashed the decoding process"), 25, 36]


def test_a_job_may_crash_before_the_next_one_is_given() -> None:
    def jobs() -> Iterator[int]:
        yield from (3, 13)
        end_s = time.monotonic() + 60
        while multiprocessing.active_children() and time.monotonic() < end_s:
            time.sleep(0.05)
        time.sleep(0.5)  # the pool has noticed as well
        yield from (5, 6)

    results = list(map_in_order(work, jobs(), 1))
    assert results == [9, Crashed("crashed the decoding process"), 25, 36]


@pytest.mark.slow
def test_a_hanging_job_costs_only_itself():
    results = list(map_in_order(work, [3, 2, 14, 6, 7], 2, time_limit_s=10.0))
    assert results == [9, 4, Crashed("took longer than 10 seconds"), 36, 49]


def test_without_workers_jobs_run_here():
    assert list(map_in_order(work, range(5), 0)) == [0, 1, 4, 9, 16]


def test_errors_of_the_function_are_raised():
    with pytest.raises(ValueError, match="job 15"):
        list(map_in_order(work, [15], 1))
