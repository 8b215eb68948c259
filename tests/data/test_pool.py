"""Worker processes: order, crashes, hangs and errors."""

import os
import subprocess
import sys
import time

import pytest
from video_files import write_video

from vidgan.data.pool import Crashed, map_in_order


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


@pytest.mark.slow
def test_a_hanging_job_costs_only_itself():
    results = list(map_in_order(work, [3, 2, 14, 6, 7], 2, time_limit_s=10.0))
    assert results == [9, 4, Crashed("took longer than 10 seconds"), 36, 49]


def test_without_workers_jobs_run_here():
    assert list(map_in_order(work, range(5), 0)) == [0, 1, 4, 9, 16]


def test_errors_of_the_function_are_raised():
    with pytest.raises(ValueError, match="job 15"):
        list(map_in_order(work, [15], 1))


SCRIPT = """
import sys
from vidgan.data import engine
from vidgan.data.build import DataConfig, build_clips

print("begins")
started = []

def watched(function, jobs, workers, limit, start=engine.map_in_order):
    started.append(workers)
    return start(function, jobs, workers, limit)

engine.map_in_order = watched
report = build_clips(sys.argv[1], sys.argv[2], DataConfig(resolution=32, frames=8))
print(report.num_clips, started)
"""


def test_a_script_builds_in_another_process_and_begins_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)  # it has no `if __name__ == "__main__"`
    videos = write_video(tmp_path / "videos" / "a.mp4", 30).parent
    command = [sys.executable, str(script), str(videos), str(tmp_path / "set")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == ("begins\n1 [1]\n", 0), ended.stderr
