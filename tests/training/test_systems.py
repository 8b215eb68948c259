"""Systems that lack what Linux has, as far as Linux can show: each is hidden from a process."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidgan.core import files
from vidgan.errors import UserError
from vidgan.training.run_folder import run_lock

WORK = """
import os, shutil, signal, sys
sys.modules["fcntl"] = None
room = shutil.disk_usage("/")
shutil.disk_usage = lambda path: room  # Windows has one of its own
for module, names in (
    (os, ("nice", "sched_getaffinity", "statvfs", "sysconf")),
    (signal, ("SIGHUP", "SIGUSR1", "pthread_sigmask")),
):
    for name in names:
        delattr(module, name)

import torch
import vidgan
from training_cases import tiny_config
from vidgan.training.loop import train

data, run = sys.argv[1:]
words = ("stable_clips=0", "fade_clips=4", "total_clips=8", "workers=0")
train(tiny_config(run, data, *(f"training.{word}" for word in words)))
generator = vidgan.load_generator(run)
latents = vidgan.sample_latents(generator, [0, 1])
clips = vidgan.sample_clips(generator, latents, torch.tensor([0, 0]))
print(tuple(clips.shape), clips.dtype)
"""


def test_training_and_sampling_without_fcntl_and_its_kin(
    tmp_path: Path, packed_clips: Path
) -> None:
    paths = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(packed_clips), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "(2, 3, 4, 8, 8) torch.uint8"
    assert "does not support locks" in done.stderr


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_gives_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "lock_descriptor", refuse)
    monkeypatch.setattr("fcntl.lockf", refuse)
    with run_lock(tmp_path / "run") as check, files.one_at_a_time(tmp_path / "lock", "busy"):
        check()
    told = capsys.readouterr().err
    assert told.count("does not support locks") == 2
    assert str(tmp_path / "run") in told


def test_other_errors_of_locks_are_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "lock_descriptor", fail)
    with pytest.raises(OSError, match="Input/output"), files.one_at_a_time(tmp_path / "lock"):
        pass


def test_a_lock_that_is_held_refuses_or_is_waited_for(tmp_path: Path) -> None:
    with (
        files.one_at_a_time(tmp_path / "lock"),
        pytest.raises(UserError, match="somebody works"),
        files.one_at_a_time(tmp_path / "lock", "somebody works"),
    ):
        pass
    with files.one_at_a_time(tmp_path / "lock", "somebody works"):
        pass
