"""Nothing half-written is ever left under its final name."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vidgan.core.files import (
    TEMPORARY_MARK,
    DiskFullError,
    check_place,
    is_vacant,
    one_at_a_time,
    parse_value,
    read_bytes,
    read_json,
    read_text,
    remove_leftovers,
    sha256_of,
    write_file_atomically,
    write_folder_atomically,
    write_json_atomically,
    write_text_atomically,
)
from vidgan.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_text_and_json_arrive_whole(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "deep" / "er" / "a.txt", "gr\u00fcn\n")
    assert (tmp_path / "deep/er/a.txt").read_bytes() == "gr\u00fcn\n".encode()
    write_json_atomically(tmp_path / "b.json", {"x": [1, None, 2.5]})
    assert json.loads((tmp_path / "b.json").read_text()) == {"x": [1, None, 2.5]}
    write_json_atomically(tmp_path / "b.json", 3)
    assert (tmp_path / "b.json").read_text() == "3\n"
    assert names(tmp_path) == ["b.json", "deep"]


def test_numbers_that_json_does_not_know_are_refused_and_change_nothing(tmp_path: Path) -> None:
    write_json_atomically(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json_atomically(tmp_path / "a.json", {"loss": float("nan")})
    assert (tmp_path / "a.json").read_text() == "1\n"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failed_write_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def half(temporary: Path) -> None:
        assert temporary.suffix == ".bin"
        assert temporary.name.startswith(TEMPORARY_MARK)
        temporary.write_bytes(b"ne")
        raise error

    with pytest.raises(type(error)):
        write_file_atomically(path, half)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        assert not (tmp_path / "step-1").exists()
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("1")
        (folder / "b").write_text("2")

    write_folder_atomically(tmp_path / "step-1", fill)
    assert (tmp_path / "step-1/sub/a").read_text() == "1"
    with pytest.raises(FileExistsError, match="exists already"):
        write_folder_atomically(tmp_path / "step-1", fill)

    def fail(folder: Path) -> None:
        (folder / "a").write_text("1")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_folder_atomically(tmp_path / "step-2", fail)
    assert names(tmp_path) == ["step-1"]


KILLED_WRITER = """
import sys, time
from pathlib import Path
from typing import Any
from vidgan.core.files import write_file_atomically

def write(temporary):
    with open(temporary, "wb") as file:
        file.write(b"x" * 1000)
        file.flush()
        print("half", flush=True)
        time.sleep(60)

write_file_atomically(sys.argv[1], write)
"""


def test_killed_writer_leaves_the_old_file_and_a_marked_one(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED_WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert path.read_bytes() == b"old"
    left = [name for name in names(tmp_path) if name != "a.bin"]
    assert len(left) == 1
    assert left[0].startswith(TEMPORARY_MARK)


@pytest.mark.skipif(os.name == "nt", reason="the limit on file sizes is a POSIX one")
def test_a_file_that_grows_too_large_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = (
        "import resource, signal, sys\n"
        "from vidgan.core.files import write_file_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_file_atomically(sys.argv[1], lambda t: t.write_bytes(b'x' * 5000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "the limit on the size of a file is reached (File too large)" in done.stderr
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


FULL = """
import resource, sys
from safetensors.torch import save_file
import torch
from vidgan.core import files
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
path, way = sys.argv[1:]
tensors = {"a": torch.zeros(1000)}
if way == "safetensors":
    files.write_file_atomically(path, lambda to: save_file(tensors, to))
elif way == "folder":
    files.write_folder_atomically(path, lambda to: save_file(tensors, to / "a.safetensors"))
elif way == "text":
    files.write_text_atomically(path, "x" * 5000)
else:
    from vidgan.video import write_mp4
    clip = torch.randint(0, 256, (3, 8, 64, 64), dtype=torch.uint8)
    write_mp4(path, clip, 8, lossless=True)
"""


@pytest.mark.parametrize("way", ["safetensors", "folder", "text", "film"])
def test_no_room_is_one_sentence_whoever_writes(tmp_path: Path, way: str) -> None:
    path = tmp_path / ("a.mp4" if way == "film" else "a")
    command = [sys.executable, "-c", FULL, str(path), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"vidgan.core.files.DiskFullError: {path} cannot be written"), last
    assert last.endswith(
        "the limit on the size of a file is reached (File too large): raise it (ulimit -f), or"
        " choose another disk, and give the same command again"
    )
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "the disk is full (No space left on device): free some space and give"),
        (errno.EDQUOT, "the quota of the disk is used up (Disk quota exceeded): free some space"),
    ],
)
def test_what_there_is_no_room_by_is_named(number: int, told: str, tmp_path: Path) -> None:
    def write(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with pytest.raises(DiskFullError) as raised:
        write_file_atomically(tmp_path / "a", write)
    assert str(raised.value).startswith(f"{tmp_path / 'a'} cannot be written, {told}")


@pytest.mark.parametrize("write", [write_text_atomically, write_json_atomically])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, write: Any) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (
        tmp_path / "file" / "x.json",
        Path("/proc/nowhere/x.json"),
        tmp_path / ("n" * 256),
    ):
        with pytest.raises(UserError, match="cannot be written") as caught:
            write(path, "text")
        assert str(path) in str(caught.value)
    assert names(tmp_path) == ["file"]


def test_errors_that_are_not_of_the_place_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        write_file_atomically(tmp_path / "a", lambda _: Path("/elsewhere/b").read_bytes())


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    mine = tmp_path / f"{TEMPORARY_MARK}thesis"
    working = tmp_path / f"{TEMPORARY_MARK}{os.getppid()}-out"
    for folder in (mine, working, tmp_path / f"{TEMPORARY_MARK}{ended.pid}-out"):
        (folder / "deep").mkdir(parents=True)
    (tmp_path / f"{TEMPORARY_MARK}{ended.pid}-a.mp4").write_bytes(b"half")
    assert is_vacant(tmp_path)
    write_folder_atomically(tmp_path / "out", lambda folder: None)
    left = [mine.name, working.name, "out"]
    assert names(tmp_path) == sorted([*left, f"{TEMPORARY_MARK}{ended.pid}-a.mp4"])
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(left)
    assert not is_vacant(tmp_path)


def test_without_locks_one_is_told_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(handle: int, flags: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with one_at_a_time(tmp_path / "lock"):
        pass
    assert "does not support locks" in capsys.readouterr().err


def test_a_place_is_looked_at_before_work_is_done_for_it(tmp_path: Path) -> None:
    check_place(tmp_path / "new" / "folder")
    check_place(tmp_path)
    (tmp_path / "file").write_text("")
    check_place(tmp_path / "file")
    with pytest.raises(UserError, match=r"file is a file, so .* cannot be made in it"):
        check_place(tmp_path / "file" / "below" / "out.mp4")
    with pytest.raises(DiskFullError, match=r"needs 9,007,199,254,740,992.0 MiB .* MiB left"):
        check_place(tmp_path / "new", 1 << 73)
    if Path("/proc/self").is_dir():
        for path in ("/proc/out.mp4", "/proc/new/folder"):
            with pytest.raises(UserError, match=r"takes no files \(No such|cannot be wri"):
                check_place(path)
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_told_before(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match="cannot be written to"):
        check_place(tmp_path / "new")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_only_ordinary_files_are_read_and_nothing_is_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "odd"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    for read in (sha256_of, read_text, read_json, lambda path: read_bytes(path, 9)):
        with pytest.raises(UserError, match="odd is not a file"):
            read(path)


def test_reading_is_bounded_in_size_and_depth(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"123456789")
    assert read_bytes(path, 9) == b"123456789"
    with pytest.raises(UserError, match="longer than 8 bytes"):
        read_bytes(path, 8)
    with pytest.raises(UserError, match="a line is damaged"):
        parse_value("[" * 100_000, "a line")
