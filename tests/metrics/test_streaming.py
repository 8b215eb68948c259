"""Streamed metrics equal their functions, whatever the batches and the processes."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vidgan import frechet_distance, inception_score
from vidgan.core.distributed import Processes
from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.metrics.image_quality import psnr, ssim
from vidgan.metrics.kernel import KernelRule, jedi, kernel_distance
from vidgan.metrics.manifold import ManifoldRule, manifold_metrics
from vidgan.metrics.streaming import (
    FrameQuality,
    FrechetDistance,
    InceptionScore,
    Jedi,
    KernelDistance,
    ManifoldMetrics,
)

FAKE = torch.randn(60, 6, generator=keyed_rng("streamed fake")) + 0.3
REAL = torch.randn(45, 6, generator=keyed_rng("streamed real"))
KERNEL, MANIFOLD = KernelRule(subsets=4, subset_size=20), ManifoldRule(neighbours=3)

CASES: dict[str, tuple[Callable[[], Any], Any]] = {
    "frechet": (FrechetDistance, frechet_distance(FAKE, REAL)),
    "jedi": (Jedi, jedi(FAKE, REAL)),
    "kernel": (lambda: KernelDistance(KERNEL), kernel_distance(FAKE, REAL, KERNEL).distance),
    "manifold": (
        lambda: ManifoldMetrics(MANIFOLD),
        manifold_metrics(real=REAL, fake=FAKE, rule=MANIFOLD).as_record(),
    ),
}


def value(metric: Any) -> Any:
    found = metric.compute()
    if isinstance(metric, ManifoldMetrics):
        return found.as_record()
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


def test_a_buffer_that_is_used_again_does_no_harm() -> None:
    metric, buffer = KernelDistance(), torch.empty(15, 6)
    for part in FAKE.split(15):
        buffer.copy_(part)
        metric.update(buffer, real=False)
    metric.update(REAL, real=True)
    assert metric.compute().distance == pytest.approx(kernel_distance(FAKE, REAL).distance)


def test_inception_scores_keep_the_order_of_their_splits() -> None:
    p = torch.randn(50, 5, generator=keyed_rng("streamed p")).softmax(1)
    metric = InceptionScore(4, log_guard=1e-7)
    with pytest.raises(ValueError, match="no probabilities"):
        metric.compute()
    for part in p.split(13):
        metric.update(part)
    assert metric.compute() == inception_score(p, 4, log_guard=1e-7)


def test_frames_are_averaged_over_batches() -> None:
    rng = keyed_rng("streamed frames")
    clips, truth = (
        torch.randint(256, (5, 3, 2, 12, 12), generator=rng, dtype=torch.uint8) for _ in range(2)
    )
    for name, function in (("psnr", psnr), ("ssim", ssim)):
        metric = FrameQuality(name)
        with pytest.raises(ValueError, match="no frames"):
            metric.compute()
        for rows in (slice(0, 1), slice(1, 5)):
            metric.update(clips[rows], truth[rows])
        assert metric.compute() == pytest.approx(float(function(clips, truth).mean()), rel=1e-12)
    with pytest.raises(ValueError, match="no frame metric 'lpips'"):
        FrameQuality("lpips")


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
