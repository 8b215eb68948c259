"""What a card does with single steps and layers: parts of `benchmarks/gpu.py`."""

import dataclasses
import gc
import itertools
import json
import math
import os
import platform
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from gradient_check import CPU, SHAPES, describe, penalty_of_layer
from paper_step import Operations, peak_gib
from torch import Tensor
from torch.utils._pytree import tree_leaves

from vidgan.core.code_version import code_version
from vidgan.core.distributed import Processes
from vidgan.evaluation.record import machine_name
from vidgan.losses.recipes import make_loss
from vidgan.models.base import ClipShape
from vidgan.models.parts.convolution import stock_convolutions
from vidgan.training.ema import copy_generator
from vidgan.training.graphs import PLAIN_STEPS, step_graphs
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


def repeated(step: TrainingStep, batch: Batch, graphs: bool = False) -> Callable[[], Logs]:
    """A function that takes one step after the other on the same batch, by graphs as `train`."""
    numbers, batches = itertools.count(), itertools.repeat(batch)
    if not graphs:
        return lambda: step.run(next(numbers), 0, batches.__next__)

    def refuse(reason: str) -> None:
        raise RuntimeError(reason)

    taken = step_graphs(step, refuse)
    if taken.make_capture is None:
        raise RuntimeError("these steps are not captured here")
    return lambda: taken.run(next(numbers), 0, batches.__next__)


def measure_step(
    bench: Bench, row: dict[str, Any], step: TrainingStep, batch: Batch, graphs: bool = False
) -> None:
    """Fill in what a step costs, lazy penalties at their share."""
    stage, take = step.stage, repeated(step, batch, graphs)
    assert stage is not None
    cycle = max([1, *(penalty.every for penalty in step.loss.penalties.values())])

    def take_cycle() -> None:
        for _ in range(cycle):
            take()

    if not bench.tiny:
        torch.cuda.reset_peak_memory_stats()
    warm_up = 1 if cycle > 1 else 3
    if graphs:
        # Every kind of step is a graph afterwards.
        warm_up += PLAIN_STEPS
    seconds = bench.time_of(take_cycle, 0.1 if bench.tiny else 0.7, warm_up) / cycle
    row |= {
        "size": f"{stage.frames}x{stage.resolution}x{stage.resolution}",
        "batch": stage.batch_size,
        "ms": 1e3 * seconds,
        "clips_per_s": stage.batch_size * step.settings.discriminator_steps / seconds,
        "peak_gib": peak_gib() if bench.tiny else torch.cuda.max_memory_allocated() / GIB,
    }
    # Counted as the calls are made, one by one.
    plain = repeated(step, batch)
    with Traffic() as counter:
        logs = [plain() for _ in range(cycle)][-1]
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
            one_step(bench, THESIS, precision, level)


def presets(bench: Bench) -> None:
    """The last level of every other preset; those whose networks are built slowly come last."""
    kind = "cpu/mocogan-motions" if bench.tiny else "gpu/"
    found = [name for name in list_presets() if name.startswith(kind)]
    for preset in sorted(found, key=lambda name: "dvdgan" in name):
        one_step(bench, preset, "as set", None)
        if not bench.tiny:
            one_step(bench, preset, "as set", None, graphs=True)


def graphed(bench: Bench) -> None:
    """Whole steps as CUDA graphs, as `train` takes them."""
    for level in (0,) if bench.tiny else range(7):
        one_step(bench, THESIS, "bf16", level, graphs=True)


def one_step(
    bench: Bench, preset: str, precision: str, level: int | None, graphs: bool = False
) -> None:
    """A step as it is written, or as a graph."""
    mode = "CUDA graph" if graphs else "eager"
    with bench.attempt(what=preset, mode=mode, precision=precision, level=level) as row:
        bench.check_time()
        words = FORMATS.get(precision, ())
        step, batch, config = build_step(bench, preset, words, level, OTHERS.get(preset, 0))
        formats = config.training.precision
        mixed = formats.networks == "bf16" and formats.penalty == "fp32"
        row["precision"] = "bf16, penalty fp32" if mixed else formats.networks
        measure_step(bench, row, step, batch, graphs)
        if not bench.tiny and not graphs:
            row["host_waits"] = host_waits(step, batch)


def kernels(bench: Bench) -> None:
    """The kernels that a step spends its time in, at a middle level and at the last one."""
    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU] if bench.tiny else [activity.CPU, activity.CUDA]
    for level in (0,) if bench.tiny else (4, 6):
        with bench.attempt(kernels_of=level) as row:
            bench.check_time()
            step, batch, _ = build_step(bench, THESIS, FORMATS["bf16"], level, 0)
            take = repeated(step, batch)
            for _ in range(3):
                take()
            bench.sync()
            with torch.profiler.profile(activities=activities, record_shapes=True) as profile:
                take()
                bench.sync()
            found: dict[str, list[float]] = {}
            for event in profile.events():
                on_card = event.device_type == torch.autograd.DeviceType.CUDA
                if on_card or bench.tiny:
                    spent = found.setdefault(event.name, [0.0, 0])
                    spent[0] += event.self_cpu_time_total if bench.tiny else event.device_time
                    spent[1] += 1
            longest = sorted(found.items(), key=lambda item: -item[1][0])
            row["total_ms"] = sum(spent for spent, _ in found.values()) / 1e3
            row["longest"] = [[name[:150], ms / 1e3, n] for name, (ms, n) in longest[:25]]
            calls = profile.key_averages(group_by_input_shape=True)
            spent = "self_cpu_time_total" if bench.tiny else "self_device_time_total"
            row["calls"] = [
                [f"{call.key} {call.input_shapes}"[:200], getattr(call, spent) / 1e3, call.count]
                for call in sorted(calls, key=lambda call: -getattr(call, spent))[:25]
            ]


def compiled(bench: Bench) -> None:
    """The same step with its first-order passes compiled; a penalty's double backward stays eager.

    A pass whose clip is a leaf that wants a gradient belongs to a penalty: compiled functions have
    no second derivative.
    """
    # Without a compiler of C++ and time for it, the small form only traces.
    backend = "aot_eager" if bench.tiny else "inductor"
    # One function serves all layers of a kind, each with shapes of its own.
    torch._dynamo.config.recompile_limit = 64
    mode = f"compiled ({backend})" + ("" if bench.tiny else ", CUDA graph")
    for level in (0,) if bench.tiny else (4, 6):
        with bench.attempt(what=THESIS, mode=mode, precision="bf16") as row:
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
            measure_step(bench, row, step, batch, graphs=not bench.tiny)


def compile_first_order(network: Any, backend: str) -> None:
    """Compile the passes of a discriminator that are differentiated once."""
    plain = network.forward
    fast = torch.compile(plain, backend=backend, dynamic=False)

    def forward(clip: Tensor, *given: Any) -> Any:
        of_penalty = clip.requires_grad and clip.is_leaf
        return (plain if of_penalty else fast)(clip, *given)

    network.forward = forward


def switched(bench: Bench) -> None:
    """A step under each switch that trades speed for precision or repeatability.

    On a card as graphs: by plain steps Python's time would hide what a switch costs.
    """
    backends = torch.backends
    switches: dict[str, Callable[[], object]] = {
        "as it is": lambda: None,
        "deterministic": partial(torch.use_deterministic_algorithms, True, warn_only=True),
        "cudnn.benchmark": partial(setattr, backends.cudnn, "benchmark", True),
        # Last: it takes ten times as long as all others together.
        "no TF32": partial(setattr, backends.cudnn, "allow_tf32", False),
    }
    for precision in ("fp32",) if bench.tiny else ("bf16", "fp32"):
        for name, switch in switches.items():
            if name == "no TF32" and precision == "bf16":
                continue
            with (
                bench.attempt(what=THESIS, mode=name, precision=precision, level=0) as row,
                backends.cudnn.flags(
                    enabled=True, benchmark=False, deterministic=False, allow_tf32=True
                ),
                warnings.catch_warnings(action="ignore"),
            ):
                bench.check_time()
                row["level"] = level = 0 if bench.tiny else 5
                switch()
                try:
                    step, batch, _ = build_step(bench, THESIS, FORMATS[precision], level, 0)
                    measure_step(bench, row, step, batch, graphs=not bench.tiny)
                finally:
                    torch.use_deterministic_algorithms(False)


def layers(bench: Bench) -> None:
    """The double backward of single convolutions, PyTorch's own beside this package's.

    Cosine and ratio of lengths of the kernel's gradient are against float64 on the CPU.
    """
    shapes = [shape for shape in SHAPES if shape[0] * shape[1] * math.prod(shape[3]) < 2**20]
    for shape in shapes[5:6] if bench.tiny else shapes:
        exact = penalty_of_layer(shape, torch.float64, nullcontext(), CPU)()[0]
        for dtype in (torch.bfloat16, torch.float32):
            with bench.attempt(layer=describe(shape), dtype=str(dtype)[6:]) as row:
                bench.check_time()
                for name, kind in (("ours", nullcontext()), ("stock", stock_convolutions())):
                    take = penalty_of_layer(shape, dtype, kind, bench.device)
                    found = take()[0].double().cpu()
                    ratio = float(found.norm() / exact.norm())
                    cosine = F.cosine_similarity(found.flatten(), exact.flatten(), dim=0)
                    row[name] = {"cosine": float(cosine), "ratio": ratio}
                    row[name]["ms"] = 1e3 * bench.time_of(take, 0.02 if bench.tiny else 0.1)
