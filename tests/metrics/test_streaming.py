"""Streamed metrics equal their functions, whatever the batches and the processes."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vidgan import frechet_distance
from vidgan.core.distributed import Processes
from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.metrics.kernel import jedi
from vidgan.metrics.streaming import FrechetDistance, Jedi

FAKE = torch.randn(60, 6, generator=keyed_rng("streamed fake")) + 0.3
REAL = torch.randn(45, 6, generator=keyed_rng("streamed real"))

CASES: dict[str, tuple[Callable[[], Any], Any]] = {
    "frechet": (FrechetDistance, frechet_distance(FAKE, REAL)),
    "jedi": (Jedi, jedi(FAKE, REAL)),
}


def value(metric: Any) -> Any:
    found = metric.compute()
    return found if isinstance(found, float) else found.distance


def feed(metric: Any, fake: Tensor, real: Tensor, sizes: int) -> None:
    for part in real.split(sizes):
        metric.update(part, real=True)
    for part in fake.split(sizes):
        metric.update(part, real=False)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("sizes", [1, 7, 100])
def test_batches_change_nothing(name: str, sizes: int) -> None:
    make, expected = CASES[name]
    metric = make()
    feed(metric, FAKE, REAL, sizes)
    assert value(metric) == pytest.approx(expected, rel=1e-10)
    metric.reset()
    with pytest.raises(ValueError, match="no fake and no real features; call update"):
        metric.compute()
    feed(metric, FAKE, REAL, sizes)
    assert value(metric) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_parts_merge(name: str) -> None:
    make, expected = CASES[name]
    first, second = make(), make()
    feed(first, FAKE[:20], REAL[:30], 9)
    feed(second, FAKE[20:], REAL[30:], 9)
    first.merge(second)
    assert value(first) == pytest.approx(expected, rel=1e-10)
    alone = second.gathered(Processes())
    assert value(alone) == value(second)
    assert alone is not second


def test_few_clips_are_refused_here_too() -> None:
    for allow_few in (False, True):
        metric = FrechetDistance(allow_few=allow_few)
        feed(metric, FAKE[:4], REAL, 100)
        if allow_few:
            assert metric.compute().few_rows
        else:
            with pytest.raises(UserError, match="4 clips in 6 features"):
                metric.compute()


def _work(rank: int, folder: str, results: "multiprocessing.Queue[tuple[str, Any]]") -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    processes = Processes(rank=rank, count=2)
    halves = (slice(0, 31), slice(31, 60))
    for name, (make, _) in CASES.items():
        metric = make()
        # The second process has no real clips at all.
        feed(metric, FAKE[halves[rank]], REAL if rank == 0 else REAL[:0], 8)
        results.put((name, value(metric.gathered(processes))))
    torch.distributed.destroy_process_group()


def test_two_processes_see_what_one_sees(tmp_path: Path) -> None:
    # A fork of a process whose threads have computed may hang.
    context = multiprocessing.get_context("forkserver")
    results = context.Queue()
    workers = [
        context.Process(target=_work, args=(rank, str(tmp_path), results)) for rank in (0, 1)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=300) for _ in range(2 * len(CASES))]
    for worker in workers:
        worker.join(timeout=300)
    assert [worker.exitcode for worker in workers] == [0, 0]
    for name, (_, expected) in CASES.items():
        pair = [number for key, number in found if key == name]
        assert pair[0] == pair[1]
        assert pair[0] == pytest.approx(expected, rel=1e-10)
