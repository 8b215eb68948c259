"""The parts of `benchmarks/gpu.py`, each run in a process of its own.

A part appends one JSON object a line to ROWS: `{"begins": ...}` before something that may never
return, then what came of it. What fails is a row with `error`; the part goes on with the next one.
On a card everything runs there; without one, or with `--tiny`, in a small form on the CPU.
"""

import argparse
import dataclasses
import gc
import itertools
import json
import os
import platform
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from paper_step import Operations, peak_gib
from torch import Tensor
from torch.utils._pytree import tree_leaves

from vidgan.core.code_version import code_version
from vidgan.core.distributed import Processes
from vidgan.data.dataset import ClipRequest
from vidgan.data.loader import make_loader
from vidgan.data.packed.export import draw_sheet
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.evaluation.record import machine_name
from vidgan.losses.recipes import make_loss
from vidgan.models.base import ClipShape
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.sampling.storage import checkpoint_folder, list_checkpoints, load_generator
from vidgan.training.budget import scale_schedule
from vidgan.training.cost import predict_seconds
from vidgan.training.ema import copy_generator
from vidgan.training.health import TrainingStopped
from vidgan.training.logs import read_log
from vidgan.training.loop import open_clips, train
from vidgan.training.planner import plan_schedule
from vidgan.training.presets import Config, list_presets, load_config
from vidgan.training.schedule import stage_at
from vidgan.training.step import Batch, Logs, TrainingStep

GIB = 2**30
THESIS = "paper/pvgan-wgangp-256x32"
CLASSES = 10
FORMATS = {
    "bf16": ("training.precision.networks=bf16", "training.precision.penalty=bf16"),
    "fp32": ("training.precision.networks=fp32", "training.precision.penalty=fp32"),
    "bf16, penalty fp32": ("training.precision.networks=bf16", "training.precision.penalty=fp32"),
}
TINY_FORMATS = FORMATS["fp32"]
"""Of runs on a CPU: not every one has instructions for bfloat16, and emulated it takes long."""
OTHERS = {"gpu/pvgan-swgan-128x32": 0, "gpu/dvdgan-clips-64x12": 16, "gpu/ivgan-clips-64x32": 32}
"""Batch sizes of presets whose own would take most of the time; 0 keeps it."""


@dataclasses.dataclass
class Bench:
    """Where a part writes, until when, and how large its work is."""

    rows: Path
    work: Path
    seconds: float
    tiny: bool

    def __post_init__(self) -> None:
        self.ends = time.monotonic() + self.seconds
        self.device = torch.device("cpu" if self.tiny else "cuda")

    def write(self, **row: Any) -> None:
        """Add a row; it is on disk when this returns, whatever happens next."""
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    @contextmanager
    def attempt(self, **names: Any) -> Iterator[dict[str, Any]]:
        """A row to be filled in; a failure, or no time for it, becomes its `error`."""
        row: dict[str, Any] = dict(names)
        self.write(begins=names)
        try:
            yield row
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        self.write(**row)
        gc.collect()
        if not self.tiny:
            torch.cuda.empty_cache()

    def check_time(self) -> None:
        """Raise TimeoutError if this part's time is over."""
        if time.monotonic() > self.ends:
            raise TimeoutError(f"the {self.seconds:.0f} s of this part were over")

    def sync(self) -> None:
        """Wait for the card."""
        if not self.tiny:
            torch.cuda.synchronize()

    def time_of(self, work: Callable[[], object], seconds: float, warm_up: int = 2) -> float:
        """Mean seconds of a call over about `seconds`, waited for at both ends."""
        for _ in range(warm_up):
            work()
        self.sync()
        start, count = time.perf_counter(), 0
        while count < 2 or time.perf_counter() - start < seconds:
            work()
            count += 1
            # The host may not run ahead of the card by more than a few calls.
            if count % 4 == 0:
                self.sync()
        self.sync()
        return (time.perf_counter() - start) / count


# ------------------------------------------------------------------------------------------------
# The machine


def machine(bench: Bench) -> None:
    """What this is, and the rates that a product of matrices and a copy reach on it."""
    facts = {
        "vidgan": code_version(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "processor": machine_name("cpu"),
        "cores": os.cpu_count(),
    }
    with bench.attempt(**facts) as row:
        row |= {"device": "cpu, one thread"} if bench.tiny else card_facts()
    size, floats, seconds = (128, 2**22, 0.2) if bench.tiny else (8192, 2**29, 1.0)
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False),
        ("tf32", torch.float32, True),
        ("fp32", torch.float32, False),
    ):
        with bench.attempt(rate=name) as row:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            a, b = (torch.randn(size, size, device=bench.device).to(dtype) for _ in range(2))
            row["tflop_per_s"] = 2e-12 * size**3 / bench.time_of(partial(torch.mm, a, b), seconds)
    with bench.attempt(rate="copy") as row:
        x = torch.randn(floats, device=bench.device)
        y = torch.empty_like(x)
        row["gb_per_s"] = 2e-9 * x.nbytes / bench.time_of(partial(y.copy_, x), seconds)


def card_facts() -> dict[str, Any]:
    """Versions, memory and switches of the card; what nvidia-smi says of it, if it is there."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm", "--format=csv"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    return {
        "device": machine_name("cuda"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "memory_gib": torch.cuda.get_device_properties(0).total_memory / GIB,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
        "driver": " ".join(said.split()),
    }


# ------------------------------------------------------------------------------------------------
# Steps


class Traffic(Operations):
    """Counts floating-point operations, calls of kernels, and the bytes they read and write.

    Every tensor that a call takes or makes counts once: what a card moves if nothing is fused and
    nothing stays in a cache.
    """

    calls = bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if not func.is_view and "empty" not in func.__name__:
            self.calls += 1
            self.bytes += sum(
                min(leaf.nbytes, leaf.untyped_storage().nbytes())
                for leaf in tree_leaves((args, kwargs, out))
                if isinstance(leaf, Tensor)
            )
        return out


@dataclasses.dataclass
class DeviceRandom:
    """Random rows drawn on the card, which a CUDA graph can draw anew."""

    count: int
    device: torch.device

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self.count, *shape, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.count, *shape, device=self.device)


def build_step(
    bench: Bench, preset: str, words: tuple[str, ...], level: int | None, batch_size: int
) -> tuple[TrainingStep, Batch, Config]:
    """A preset's step at a level (None: the last one) on clips of noise that lie on the device."""
    if bench.tiny:
        words += ("model.channels=[8,8,8,8,8,8,8]",) if preset == THESIS else ()
        batch_size = 4
    config = load_config(preset, ["data=noise", *words])
    shape = ClipShape(3, config.data.frames, config.data.resolution, config.data.resolution)
    classes = 0 if preset == THESIS else CLASSES
    torch.manual_seed(0)
    gan = config.model.build(shape, classes).to(bench.device, torch.float32).train()
    schedule = plan_schedule(config, shape)
    step = TrainingStep(
        gan,
        copy_generator(gan.generator),
        make_loss(config.loss),
        config.training,
        0,
        len(schedule.levels),
        Processes(device=bench.device),
    )
    level = len(schedule.levels) - 1 if level is None else level
    frames, resolution = schedule.levels[level]
    size = batch_size or schedule.batch_sizes[level]
    stage = dataclasses.replace(stage_at(schedule.total, schedule), level=level, batch_size=size)
    step.enter(dataclasses.replace(stage, frames=frames, resolution=resolution))
    clip = torch.randint(0, 256, (size, 3, frames, resolution, resolution), dtype=torch.uint8)
    labels = torch.arange(size) % max(classes, 1)
    return step, Batch(clip.to(bench.device), labels.to(bench.device), size, 0), config


def repeated(step: TrainingStep, batch: Batch) -> Callable[[], Logs]:
    """A function that takes one step after the other on the same batch."""
    numbers, batches = itertools.count(), itertools.repeat(batch)
    return lambda: step.run(next(numbers), 0, batches.__next__)


def measure_step(
    bench: Bench,
    row: dict[str, Any],
    step: TrainingStep,
    batch: Batch,
    graph: torch.cuda.CUDAGraph | None = None,
) -> None:
    """Fill in what a step costs, lazy penalties at their share; a graph is replayed instead."""
    stage, take = step.stage, repeated(step, batch)
    assert stage is not None
    cycle = max([1, *(penalty.every for penalty in step.loss.penalties.values())])

    def take_cycle() -> None:
        for _ in range(cycle):
            take() if graph is None else graph.replay()

    if not bench.tiny:
        torch.cuda.reset_peak_memory_stats()
    seconds = bench.time_of(take_cycle, 0.1 if bench.tiny else 0.7, 1 if cycle > 1 else 3) / cycle
    row |= {
        "size": f"{stage.frames}x{stage.resolution}x{stage.resolution}",
        "batch": stage.batch_size,
        "ms": 1e3 * seconds,
        "clips_per_s": stage.batch_size * step.settings.discriminator_steps / seconds,
        "peak_gib": peak_gib() if bench.tiny else torch.cuda.max_memory_allocated() / GIB,
    }
    with Traffic() as counter:
        logs = [take() for _ in range(cycle)][-1]
    row |= {
        "tflop": counter.total / cycle / 1e12,
        "tflop_per_s": counter.total / cycle / seconds / 1e12,
        "gb": counter.bytes / cycle / 1e9,
        "gb_per_s": counter.bytes / cycle / seconds / 1e9,
        "calls": round(counter.calls / cycle),
    }
    if not all(bool(value.isfinite()) for value in logs.values()):
        raise ArithmeticError("a loss is not finite")


def host_waits(step: TrainingStep, batch: Batch) -> dict[str, int]:
    """Lines of code at which the host waits for the card in one step, and how often."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            repeated(step, batch)()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found: dict[str, int] = {}
    for warning in caught:
        if "synchroniz" in str(warning.message):
            place = f"{Path(warning.filename).name}:{warning.lineno}"
            found[place] = found.get(place, 0) + 1
    return found


def levels(bench: Bench) -> None:
    """Every level of the thesis' network in three number formats."""
    for precision in FORMATS:
        for level in range(2) if bench.tiny else range(7):
            eager(bench, THESIS, precision, level)


def presets(bench: Bench) -> None:
    """The last level of every other preset; those whose networks are built slowly come last."""
    kind = "cpu/mocogan-motions" if bench.tiny else "gpu/"
    found = [name for name in list_presets() if name.startswith(kind)]
    for preset in sorted(found, key=lambda name: "dvdgan" in name):
        eager(bench, preset, "as set", None)


def eager(bench: Bench, preset: str, precision: str, level: int | None) -> None:
    """A step as it is written."""
    with bench.attempt(what=preset, mode="eager", precision=precision, level=level) as row:
        bench.check_time()
        words = FORMATS.get(precision, ())
        step, batch, config = build_step(bench, preset, words, level, OTHERS.get(preset, 0))
        formats = config.training.precision
        mixed = formats.networks == "bf16" and formats.penalty == "fp32"
        row["precision"] = "bf16, penalty fp32" if mixed else formats.networks
        measure_step(bench, row, step, batch)
        if not bench.tiny:
            row["host_waits"] = host_waits(step, batch)


def compiled(bench: Bench) -> None:
    """The same step with its first-order passes compiled; a penalty's double backward stays eager.

    A pass whose clip is a leaf that wants a gradient belongs to a penalty: compiled functions have
    no second derivative.
    """
    # Without a compiler of C++ and time for it, the small form only traces.
    backend = "aot_eager" if bench.tiny else "inductor"
    for level in (0,) if bench.tiny else (2, 4, 5):
        with bench.attempt(what=THESIS, mode=f"compiled ({backend})", precision="bf16") as row:
            row["level"] = level
            bench.check_time()
            step, batch, _ = build_step(bench, THESIS, FORMATS["bf16"], level, 0)
            generator: Any = step.gan.generator
            generator.parts = torch.compile(generator.parts, backend=backend, dynamic=False)
            for network in step.gan.discriminators.values():
                compile_first_order(network, backend)
            start = time.perf_counter()
            repeated(step, batch)()
            bench.sync()
            row["first_step_s"] = time.perf_counter() - start
            measure_step(bench, row, step, batch)


def compile_first_order(network: Any, backend: str) -> None:
    """Compile the passes of a discriminator that are differentiated once."""
    plain = network.forward
    fast = torch.compile(plain, backend=backend, dynamic=False)

    def forward(clip: Tensor, *given: Any) -> Any:
        of_penalty = clip.requires_grad and clip.is_leaf
        return (plain if of_penalty else fast)(clip, *given)

    network.forward = forward


def graphed(bench: Bench) -> None:
    """The whole step as one CUDA graph: updates of both players, penalty, Adam, moving average.

    Latents and other noise are drawn on the card, which the step itself does not do yet.
    """
    for level in (0,) if bench.tiny else (0, 2, 4, 6):
        with bench.attempt(what=THESIS, mode="CUDA graph", precision="bf16", level=level) as row:
            bench.check_time()
            step, batch, _ = build_step(bench, THESIS, FORMATS["bf16"], level, 0)
            noise = DeviceRandom(len(batch.real), bench.device)
            step.random = lambda batch, key, noise=noise: noise
            if bench.tiny:
                repeated(step, batch)()
                raise RuntimeError("CUDA graphs need a card")
            measure_step(bench, row, step, batch, capture(step, batch))


def capture(step: TrainingStep, batch: Batch) -> torch.cuda.CUDAGraph:
    """A CUDA graph of a step."""
    for optimizer in step.optimizers.values():
        for group in optimizer.param_groups:
            group["capturable"] = True
    take, stream = repeated(step, batch), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            take()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        take()
    return graph


# ------------------------------------------------------------------------------------------------
# Clips, runs and pictures


TRAINING_S, DRAWING_S = 90.0, 12.0
"""Longest training, and what its end and the drawing of clips may take."""
SETS = {"A": "shapes", "B": "digits"}
"""What the clips of each training show."""


def recipe(bench: Bench, letter: str, run: str = "none") -> Config:
    """What is trained: A as its preset says on shapes, B with another loss on digits."""
    words = [f"data={bench.work / SETS[letter]}", f"run={bench.work / run}"]
    words += [f"training.{rare}" for rare in ("sample_every=0", "checkpoint_every=1000000")]
    if letter == "B":
        words += ["loss=wgan-gp", "training.precision.penalty=bf16"]
        words += ["training.augment={colour: 0.0, translation: 0.0}"]
    if bench.tiny:
        words += ["data.resolution=16", "data.frames=8", "model.channels=[8,8,8]"]
        words += ["training.batch_size=4", "training.threads=1", "training.device=cpu"]
        return load_config("cpu/pvgan-motions-16x8", [*words, *TINY_FORMATS])
    return load_config("gpu/pvgan-clips-64x32", [*words, "data.frames=16", "training.device=cuda"])


def small_run(bench: Bench, run: str, clips: int) -> Config:
    """Forty steps of the demo's network, or ten, growth among them."""
    config = recipe(bench, "A", run)
    words = [f"data={bench.work / 'shapes'}", f"run={config.run}", "training.sample_every=0"]
    words += ["training.stable_clips=16", "training.fade_clips=16", "training.batch_size=8"]
    words += ["training.num_samples=2", "training.workers=0", "training.threads=1"]
    words += [f"training.device={bench.device.type}", f"training.total_clips={clips}"]
    words += ["model.channels=[8,8,8]", *TINY_FORMATS] if bench.tiny else []
    return load_config("cpu/pvgan-motions-16x8", words)


def clips(bench: Bench, letter: str) -> None:
    """Render a set and decode it, on the CPU beside the measurements."""
    videos, size, frames = (40, 16, 8) if bench.tiny else (640, 64, 16)
    config, folder = recipe(bench, letter), bench.work / SETS[letter]
    with bench.attempt(data=folder.name, videos=videos) as row:
        start = time.perf_counter()
        look = motion_settings(folder.name, size=size, frames=frames, palette="vivid")
        render_motions(folder, look, videos=videos)
        open_clips(config, print)
        if letter == "A":
            open_clips(small_run(bench, "none", 320), print)
        row["seconds"] = time.perf_counter() - start


def loader(bench: Bench) -> None:
    """Clips a second from the packed set to the device, by the number of reading processes."""
    config = recipe(bench, "A")
    dataset = open_clips(config, print)
    size, ahead = 16, 8
    for workers in (0, 1) if bench.tiny else (0, 4, 8):
        with bench.attempt(workers=workers) as row:
            bench.check_time()
            count = 20 if bench.tiny else 60 + 40 * workers
            shape = (config.data.frames, config.data.resolution)
            places = range(size * (ahead + count))
            wanted = [[ClipRequest(at + i, *shape) for i in range(size)] for at in places[::size]]
            batches = make_loader(dataset, wanted, workers, bench.device)
            # What the workers read ahead while they started does not count.
            for _ in range(ahead):
                next(batches)
            bench.sync()
            start = time.perf_counter()
            taken = sum(len(batch[0]) for batch in batches)
            bench.sync()
            row["clips_per_s"] = taken / (time.perf_counter() - start)


def resume(bench: Bench) -> None:
    """The same run twice, and stopped and continued: equal bytes of the averaged generator?"""
    total, part = (80, 64) if bench.tiny else (320, 200)
    wanted = (("once", total), ("again", total), ("parts", part), ("parts", total))
    modes = (("as it is", False), ("deterministic kernels", True))
    # On a CPU training asks for deterministic kernels by itself.
    for name, deterministic in modes[:1] if bench.tiny else modes:
        with bench.attempt(kernels=name) as row:
            bench.check_time()
            torch.use_deterministic_algorithms(deterministic, warn_only=True)
            torch.backends.cudnn.deterministic = deterministic
            runs = {}
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                for run, length in wanted:
                    runs[run] = train(small_run(bench, f"{run}-{deterministic:d}", length))
            once, again, parts = (averaged_bytes(runs[run]) for run in ("once", "again", "parts"))
            row["again_equal"], row["resumed_equal"] = again == once, parts == once
            row["largest_difference"] = largest_difference(runs["once"], runs["parts"])
            said = (str(warning.message).partition(" does not have a det") for warning in caught)
            found = {name[:80] for name, there, _ in said if there}
            row["not_deterministic"] = sorted(found)


def averaged_bytes(run: Path) -> bytes:
    """The newest averaged generator's file."""
    return (checkpoint_folder(run, list_checkpoints(run)[-1]) / "ema.safetensors").read_bytes()


def largest_difference(first: Path, second: Path) -> float:
    """Between the averaged weights of two runs, relative to the largest weight of each tensor."""
    a, b = (load_generator(run, "last").state_dict() for run in (first, second))
    return max(
        float((a[name] - b[name]).abs().max() / a[name].abs().max().clamp_min(1e-12)) for name in a
    )


def training(bench: Bench, letter: str) -> None:
    """Train for 90 s, or as long as there is, by a scaled schedule, and draw what came of it."""
    with bench.attempt(training=letter) as row:
        config = recipe(bench, letter, f"train-{letter}")
        if bench.tiny:
            config = scale_schedule(config, 0.002)
        else:
            row["preset_s"] = predict_seconds(config, print)
            left_s = bench.ends - time.monotonic()
            config = scale_schedule(config, min(TRAINING_S, left_s - DRAWING_S) / row["preset_s"])
        # The prediction may be wrong: when only the drawing has time, the run saves and stops.
        left_s = bench.ends - time.monotonic() - DRAWING_S / 2
        alarm = threading.Timer(left_s, os.kill, (os.getpid(), signal.SIGTERM))
        alarm.daemon = True
        alarm.start()
        start = time.perf_counter()
        with suppress(TrainingStopped):
            train(config)
            row["finished"] = True
        alarm.cancel()
        row["seconds"] = time.perf_counter() - start
        describe_training(bench, row, config)
        draw(bench, row, config, letter)


def describe_training(bench: Bench, row: dict[str, Any], config: Config) -> None:
    """Fill in steps and speed from the run's log."""
    log = read_log(Path(config.run) / "log.jsonl")
    rates: dict[str, list[float]] = {}
    for line in log:
        size = f"{line['frames']}x{line['resolution']}"
        rates.setdefault(size, []).append(line["clips_per_second"])
    row["loss"] = config.loss.name
    row["steps"], row["clips"] = log[-1]["step"], log[-1]["clips_seen"]
    row["clips_per_s"] = {size: sorted(seen)[len(seen) // 2] for size, seen in rates.items()}
    row["peak_gib"] = peak_gib() if bench.tiny else torch.cuda.max_memory_allocated() / GIB


def draw(bench: Bench, row: dict[str, Any], config: Config, letter: str) -> None:
    """Write a sheet of eight real clips above eight generated ones, and time the sampling."""
    generator = load_generator(config.run, "last").to(bench.device)
    count = 16 if bench.tiny else 256
    labels = torch.arange(count) % generator.num_classes if generator.num_classes else None
    start = time.perf_counter()
    fakes = sample_clips(generator, sample_latents(generator, range(count)), labels)
    row["sampled_clips_per_s"] = count / (time.perf_counter() - start)
    dataset = open_clips(config, print)
    requests = [ClipRequest(i, config.data.frames, config.data.resolution) for i in range(8)]
    clips = [dataset[request]["clip"] for request in requests] + list(fakes[:8])
    draw_sheet(bench.rows.parent / f"sheet-{letter}.png", [clip.numpy() for clip in clips])


PARTS: dict[str, Callable[[Bench], None]] = {
    "machine": machine,
    "clips A": partial(clips, letter="A"),
    "clips B": partial(clips, letter="B"),
    "levels": levels,
    "presets": presets,
    "graphed": graphed,
    "compiled": compiled,
    "loader": loader,
    "resume": resume,
    "training A": partial(training, letter="A"),
    "training B": partial(training, letter="B"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    if given.tiny:
        torch.set_num_threads(1)
    PARTS[given.part](Bench(given.rows, given.work, given.seconds, given.tiny))


if __name__ == "__main__":
    main()
