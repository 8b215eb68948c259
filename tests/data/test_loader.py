"""The loader gives the same batches with any number of workers, and ends cleanly."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count, islice

import pytest
import torch

from vidgan.data.build.packing import DataConfig
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.data.loader import make_loader
from vidgan.data.packed.store import MemoryStore
from vidgan.errors import UserError

CONFIG = DataConfig(resolution=16, frames=8, flip=True)


@pytest.fixture(scope="module")
def dataset() -> ClipDataset:
    rng = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (20, 3, 8, 16, 16), dtype=torch.uint8, generator=rng)
    return ClipDataset(MemoryStore(clips, torch.arange(20) % 4), CONFIG, seed=0)


def growing_batches() -> Iterator[list[ClipRequest]]:
    """Endless; batch size and resolution change on the way."""
    position = 0
    for step in count():
        size, frames, resolution = ((6, 2, 4), (4, 4, 8), (3, 8, 16))[step // 3 % 3]
        yield [ClipRequest(position + i, frames, resolution) for i in range(size)]
        position += size


def test_batches_do_not_depend_on_workers(dataset):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    reference = None
    for num_workers in (0, 1, 3):
        loader = make_loader(dataset, growing_batches(), num_workers)
        batches = list(islice(loader, 12))
        loader.close()
        if reference is None:
            reference = batches
            assert [tuple(clips.shape) for clips, _, _ in batches[::3]] == [
                (6, 3, 2, 4, 4),
                (4, 3, 4, 8, 8),
                (3, 3, 8, 16, 16),
                (6, 3, 2, 4, 4),
            ]
            assert batches[0][1].dtype == batches[0][2].dtype == torch.int64
        for ours, theirs in zip(batches, reference, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert not multiprocessing.active_children()


def test_a_finite_list_ends(dataset):
    batches = list(islice(growing_batches(), 5))
    assert len(list(make_loader(dataset, iter(batches), 1))) == 5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_errors_arrive_as_one_sentence(dataset, num_workers):
    loader = make_loader(dataset, iter([[ClipRequest(0, 3, 16)]]), num_workers)
    with pytest.raises(UserError) as caught:
        next(loader)
    assert str(caught.value).startswith("clips of 3 frames at 16 pixels do not divide")
    assert "\n" not in str(caught.value)


ENDLESS = """
import multiprocessing, resource, signal, sys, time, torch
# Whoever starts the tests in the background of a shell makes them ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, sys.argv[1])
from itertools import repeat
from test_loader import CONFIG
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.data.loader import make_loader
from vidgan.data.packed.store import MemoryStore

if __name__ == "__main__":
    if sys.argv[3] == "pipes":
        # Files in shared memory may grow no more: batches come through pipes, and fill them.
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))
    clips = torch.zeros(20, 3, 8, 16, 16, dtype=torch.uint8)
    # More bytes than a pipe holds.
    requests = repeat([ClipRequest(n % 20, 8, 16) for n in range(40)])
    loader = make_loader(ClipDataset(MemoryStore(clips), CONFIG, seed=0), requests, 2, notify=len)
    for n, _ in enumerate(loader):
        if n == 7:
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
            time.sleep(float(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["memory", "pipes"])
@pytest.mark.parametrize(
    ("end", "rest_s"), [(signal.SIGINT, 0), (signal.SIGINT, 60), (signal.SIGKILL, 60)]
)
def test_workers_end_with_their_parent(tmp_path, end, rest_s, way):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    here = os.path.dirname(__file__)  # noqa: PTH120
    command = [sys.executable, str(script), here, str(rest_s), way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        assert len(workers) == 2
        time.sleep(1.0 if rest_s else 0.0)  # Workers fill what they may.
        process.send_signal(end)
        try:
            process.wait(20)
        finally:
            process.kill()
    deadline = time.monotonic() + 10
    while any(_is_running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [worker for worker in workers if _is_running(worker)]
    for worker in left:
        os.kill(worker, signal.SIGKILL)
    assert not left


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


NO_ROOM = """
import resource, sys, torch
sys.path.insert(0, sys.argv[1])
from test_loader import CONFIG, growing_batches
from itertools import islice
from vidgan.data.dataset import ClipDataset
from vidgan.data.loader import make_loader
from vidgan.data.packed.store import MemoryStore

if __name__ == "__main__":
    # Files in shared memory may grow no more, as if it were full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    clips = torch.arange(20, dtype=torch.uint8).reshape(20, 1, 1, 1, 1).expand(20, 3, 8, 16, 16)
    dataset = ClipDataset(MemoryStore(clips.contiguous()), CONFIG, seed=0)
    says = lambda sentence: print("told:", sentence)
    for clips, _, indices in islice(make_loader(dataset, growing_batches(), 2, notify=says), 12):
        assert torch.equal(clips[:, 0, 0, 0, 0].long(), indices), (clips, indices)
        print(tuple(clips.shape))
"""


@pytest.mark.parametrize(("room", "num_told"), [(8_000, 1), (1_000_000, 0)])
def test_batches_come_without_room_in_shared_memory(tmp_path, room, num_told):
    script = tmp_path / "no_room.py"
    script.write_text(NO_ROOM)
    command = [sys.executable, str(script), os.path.dirname(__file__), str(room)]  # noqa: PTH120
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    told = [line for line in lines if line.startswith("told: shared memory is full")]
    assert len(told) == num_told
    assert len(lines) == 12 + num_told
    assert all("--shm-size" in line for line in told)


def test_no_shared_memory_at_all_is_named(tmp_path):
    script = tmp_path / "no_room.py"
    script.write_text(NO_ROOM)
    command = [sys.executable, str(script), os.path.dirname(__file__), "0"]  # noqa: PTH120
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "UserError: shared memory (/dev/shm) is full" in done.stderr
