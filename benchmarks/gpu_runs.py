"""Clips, whole runs and pictures on a card: parts of `benchmarks/gpu.py`."""

import os
import signal
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from gpu_steps import GIB, TINY_FORMATS, Bench
from paper_step import peak_gib

from vidgan.data.dataset import ClipRequest
from vidgan.data.loader import make_loader
from vidgan.data.packed.export import draw_sheet
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.sampling.storage import checkpoint_folder, list_checkpoints, load_generator
from vidgan.training.budget import scale_schedule
from vidgan.training.cost import predict_seconds
from vidgan.training.health import TrainingStopped
from vidgan.training.logs import read_log
from vidgan.training.loop import open_clips, train
from vidgan.training.presets import Config, load_config

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
