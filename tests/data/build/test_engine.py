"""One outcome wherever a build runs: 1 or 4 processes, Ray on 2; kills, crashes and hangs."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from vidgan.cli.main import run
from vidgan.data.build.engine import Crashed, Engine
from vidgan.data.build.packing import build_clips
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.errors import UserError

CONFIG = DataConfig(resolution=16, frames=4, payload="zstd", heldout_fraction=0.25, workers=0)
LEVELS = [(2, 8)]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """24 videos, one of them empty."""
    folder = tmp_path_factory.mktemp("engine") / "videos"
    render_motions(
        folder,
        motion_settings(objects="disc ring", motions="up down", size=16, frames=4),
        videos=24,
    )
    next(folder.rglob("*.mp4")).write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def reference(videos, tmp_path_factory):
    """What the build gives in one process."""
    out = tmp_path_factory.mktemp("reference") / "set"
    build_clips(videos, out, CONFIG, LEVELS)
    return contents(out)


@pytest.fixture(scope="module")
def ray_connection():
    """Ray on two CPUs, whose workers find this folder's modules."""
    ray = pytest.importorskip("ray", reason="needs the extra cluster")
    # The test modules of this folder are not a package: the workers get their folder by hand.
    here = str(Path(__file__).parent)
    paths = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), here]
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, paths))}},
    )
    yield ray
    ray.shutdown()


def build(videos: Path, out: Path, workers: int, engine: Engine | None = None) -> dict[str, bytes]:
    build_clips(videos, out, replace(CONFIG, workers=workers), LEVELS, engine=engine)
    return contents(out)


def test_one_and_four_workers_give_the_same_bytes(videos, reference, tmp_path):
    assert build(videos, tmp_path / "one", 1) == reference
    assert build(videos, tmp_path / "four", 4) == reference


def test_ray_gives_the_same_bytes(videos, reference, ray_connection, tmp_path, monkeypatch):
    # A relative path: tasks of Ray need not run in this folder.
    monkeypatch.chdir(videos.parent)
    assert build(Path(videos.name), tmp_path / "ray", 2, Engine(kind="ray")) == reference
    manifest = json.loads(reference["manifest.json"])
    assert len(manifest["items"]["crc32"]) == 23
    assert ray_connection.is_initialized()


@pytest.mark.slow
def test_the_verb_starts_and_ends_ray_by_itself(videos, reference, tmp_path):
    pytest.importorskip("ray", reason="needs the extra cluster")
    words = ["resolution=16", "frames=4", "payload=zstd", "heldout_fraction=0.25"]
    command = [sys.executable, "-m", "vidgan", "data", "build", str(videos), str(tmp_path / "set")]
    options = ["--levels", "2x8", "--workers", "2", "--engine", "ray"]
    subprocess.run([*command, *words, *options], check=True)
    assert contents(tmp_path / "set") == reference


def test_an_address_is_one_of_ray(videos, tmp_path, capsys):
    words = ["data", "build", str(videos), str(tmp_path / "set"), "--address", "auto"]
    assert run(words) == 2
    assert "the address auto is one of a Ray cluster: add --engine ray" in capsys.readouterr().err
    with pytest.raises(UserError, match="time limit of 0"):
        Engine(time_limit_s=0)


def test_ray_that_is_missing_or_away_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'vidgan\[cluster\]'"):
        list(Engine(kind="ray").map_in_order(abs, [1], None, 1))


def test_an_address_where_no_ray_is_ends_in_a_sentence(monkeypatch):
    ray = pytest.importorskip("ray", reason="needs the extra cluster")
    # Another test of this file may hold a connection, which would be used.
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    engine = Engine(kind="ray", address="127.0.0.1:9")
    with pytest.raises(UserError, match=r"no Ray cluster answers at 127\.0\.0\.1:9 \("):
        list(engine.map_in_order(abs, [1], None, 1))


def work(job: int) -> int:
    if job == 13:
        os._exit(1)
    if job == 14:
        time.sleep(600)
    if job == 15:
        raise ValueError("job 15")
    return job * job


def test_a_task_that_kills_its_worker_costs_only_itself(ray_connection):
    # Ray counts the start of a task's worker in, which takes many seconds on a busy machine.
    engine = Engine(kind="ray", time_limit_s=30)
    results = list(engine.map_in_order(work, [3, 13, 5, 14, 6], 2, 1))
    crash = Crashed("crashed the decoding process")
    assert results == [9, crash, 25, Crashed("took longer than 30 seconds"), 36]
    with pytest.raises(ValueError, match="job 15"):
        list(engine.map_in_order(work, [1, 15], 2, 1))


BUILD = """
import sys, time
from vidgan.data.build import packing as build

build._CHUNK_BYTES = 1
if __name__ == "__main__":
    config = build.DataConfig(
        resolution=16, frames=4, payload="zstd", heldout_fraction=0.25, workers=int(sys.argv[3])
    )
    def slowly(done, total, what):
        print(done, flush=True)
        time.sleep(0.01)
    build.build_clips(sys.argv[1], sys.argv[2], config, [(2, 8)], slowly)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_five_kills_at_random_moments_change_nothing(videos, tmp_path, monkeypatch, workers):
    """Every attempt dies at a random moment after it has said a random number of videos."""
    monkeypatch.setattr("vidgan.data.build.packing._CHUNK_BYTES", 1)
    many = tmp_path / "videos"
    for copy in range(6):
        shutil.copytree(videos, many, dirs_exist_ok=True, copy_function=numbered_copy(copy))
    build_clips(many, tmp_path / "whole", CONFIG, LEVELS)
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    draw = random.Random(4)
    command = [sys.executable, str(script), str(many), str(tmp_path / "set"), str(workers)]
    kills = 0
    while kills < 5:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            # Five times 4 videos and what fits into the pause leave some of the 48 to be done.
            for _ in range(draw.randrange(1, 5)):
                process.stdout.readline()
            time.sleep(draw.random() * 0.05)
            process.send_signal(signal.SIGKILL)
            if process.wait() == 0:
                break
        kills += 1
        assert not (tmp_path / "set").exists()
    assert kills == 5
    build_clips(many, tmp_path / "set", CONFIG, LEVELS)
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def numbered_copy(number: int):
    def copy(source: str, target: str) -> str:
        path = Path(target)
        return shutil.copyfile(source, path.with_name(f"{number}-{path.name}"))

    return copy
